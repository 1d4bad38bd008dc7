#![no_main]
use libfuzzer_sys::fuzz_target;
use starling_core::identity::{Announcement, Receipt};

fuzz_target!(|data: &[u8]| {
    let _ = Announcement::decode(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Receipt::parse(text, data);
    }
});
