#![no_main]
use libfuzzer_sys::fuzz_target;
use starling_core::identity::RevocationList;

fuzz_target!(|data: &[u8]| {
    let _ = RevocationList::from_der(data);
});
