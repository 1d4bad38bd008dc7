use starling_core::identity::Certificate;

pub(crate) fn run(data: &[u8]) {
    if let Ok(certificate) = Certificate::from_der(data) {
        let _ = certificate.signature_check(&certificate);
        assert_eq!(
            Certificate::from_pem(certificate.pem().as_bytes()).ok(),
            Some(certificate)
        );
    }
}
