#![no_main]
use libfuzzer_sys::fuzz_target;
use starling_core::account::TrustRequest;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = TrustRequest::decode(data) {
        assert_eq!(TrustRequest::decode(&request.encode()), Ok(request));
    }
});
