use starling_core::identity::CertificateChain;

pub(crate) fn run(data: &[u8]) {
    if let Ok(chain) = CertificateChain::from_pem(data) {
        let _ = chain.checks();
        let _ = chain.check_structure(1_800_000_000);
        assert_eq!(
            CertificateChain::from_pem(chain.to_pem().as_bytes()),
            Ok(chain)
        );
    }
}
