#![no_main]
use libfuzzer_sys::fuzz_target;
use starling_core::identity::Certificate;

fuzz_target!(|data: &[u8]| {
    if let Ok(certificate) = Certificate::from_der(data) {
        let _ = certificate.signature_check(&certificate);
        assert_eq!(
            Certificate::from_pem(certificate.pem().as_bytes()).ok(),
            Some(certificate)
        );
    }
});
