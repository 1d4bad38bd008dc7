#![no_main]
//! The list of git objects that the page gets for its own validation.

use libfuzzer_sys::fuzz_target;
use starling_core::api::objects::{read, write};

fuzz_target!(|data: &[u8]| {
    if let Ok(records) = read(data) {
        let mut again = Vec::new();
        for r in &records {
            write(&mut again, r.kind, &r.id, &r.content).expect("what was read fits");
        }
        assert_eq!(again, data);
    }
});
