//! The asking end of a git channel.
use starling_core::git::fetch::{Fetch, Output};
use starling_core::id::{ConversationId, DeviceId};

pub(crate) fn run(data: &[u8]) {
    let mut fetch = Fetch::new(ConversationId([1; 20]), DeviceId([2; 32]), 1000);
    for chunk in data.chunks(64) {
        let _ = fetch.start();
        fetch.handle_input(chunk);
        while let Some(output) = fetch.poll_output() {
            if let Output::Advertised(_) = output {
                fetch.want(&[]);
            }
        }
    }
}
