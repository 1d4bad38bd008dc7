//! Frames of the bridge, as the page reads them, and calls, as the bridge reads them.

use starling_core::api::rpc::{Incoming, Request};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    let _ = Incoming::parse(text);
    if let Ok(call) = serde_json::from_str::<Request>(text) {
        let again = serde_json::to_string(&call).expect("what was read can be written");
        assert_eq!(serde_json::from_str::<Request>(&again).ok(), Some(call));
    }
}
