#![no_main]
use libfuzzer_sys::fuzz_target;
use starling_core::dht::{discovery::Discovery, state::NodeState};

fuzz_target!(|data: &[u8]| {
    let _ = Discovery::decode(data);
    if let Ok(state) = NodeState::decode(data) {
        let _ = state.encode();
    }
});
