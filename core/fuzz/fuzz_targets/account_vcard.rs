#![no_main]
use libfuzzer_sys::fuzz_target;
use starling_core::account::VCard;

fuzz_target!(|data: &[u8]| {
    if let Ok(profile) = VCard::parse(data) {
        let _ = profile.photo();
        assert_eq!(VCard::parse(profile.to_string().as_bytes()), Ok(profile));
    }
});
