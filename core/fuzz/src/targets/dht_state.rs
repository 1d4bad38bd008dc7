use starling_core::dht::{discovery::Discovery, state::NodeState};

pub(crate) fn run(data: &[u8]) {
    let _ = Discovery::decode(data);
    if let Ok(state) = NodeState::decode(data) {
        let _ = state.encode();
    }
}
