//! Frames of the bridge, as the page reads them, and calls, as the bridge reads them.

use serde_json::Value;
use starling_core::api::rpc::{Incoming, Request};

/// Fractions and very large numbers come back with another last digit.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(n) => !n.is_f64(),
        Value::Array(all) => all.iter().all(is_exact),
        Value::Object(all) => all.values().all(is_exact),
        _ => true,
    }
}

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    let _ = Incoming::parse(text);
    if let Ok(call) = serde_json::from_str::<Request>(text) {
        let again = serde_json::to_string(&call).expect("what was read can be written");
        let mut again: Request =
            serde_json::from_str(&again).expect("what was written can be read");
        if !is_exact(&call.params) {
            again.params = call.params.clone();
        }
        assert_eq!(again, call);
    }
}
