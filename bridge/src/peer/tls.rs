//! TLS between devices: both sides show their chain, and the keys decide.
//!
//! Certificates are never parsed as web certificates: Jami's may have negative serial numbers, and
//! there are no names to check. What counts is that the leaf has the expected device's key, and
//! that the chain shown holds together and belongs to the expected account.

use super::revocations::RevocationStore;
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ClientConnection, ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, ServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use starling_core::crypto::{Crypto, PrivateKey};
use starling_core::identity::{Certificate, CertificateChain, ChainError};
use std::fmt;
use std::sync::Arc;

/// Accepted signatures, the best first: what GnuTLS' SECURE192 leaves of RSA and ECDSA.
const SCHEMES: [SignatureScheme; 5] = [
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::RSA_PKCS1_SHA384,
];

/// Why the other side is not whom we expect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongPeer {
    /// The leaf has another key than the device.
    #[error("the device shows another key than its own")]
    Key,
    /// The chain is broken.
    #[error("the device shows a broken chain: {0}")]
    Chain(#[from] ChainError),
    /// The chain belongs to another account.
    #[error("the device shows a chain of another account")]
    Account,
}

impl WrongPeer {
    /// What a TLS error says about the other side, if it does.
    pub fn of(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
                other.0.downcast_ref().cloned()
            }
            _ => None,
        }
    }
}

/// Our side of every connection.
#[derive(Clone)]
pub struct TlsIdentity {
    key: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    crypto: Arc<dyn Crypto>,
    revocations: Option<RevocationStore>,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity")
    }
}

impl TlsIdentity {
    /// From a chain, presented as it is, and the device's key.
    ///
    /// # Errors
    /// The key is of a kind that TLS cannot use.
    pub fn new(
        chain: &CertificateChain,
        key: &dyn PrivateKey,
        crypto: Arc<dyn Crypto>,
    ) -> Result<Self, rustls::Error> {
        let pkcs8 = key.to_pkcs8();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
        let key = provider::sign::any_supported_type(&der)?;
        let certificates = chain
            .iter()
            .map(|c| CertificateDer::from(c.der().to_vec()))
            .collect();
        Ok(Self {
            key: Arc::new(CertifiedKey::new(certificates, key)),
            provider: Arc::new(CryptoProvider {
                // GnuTLS' order in the daemon's priorities ends with X25519, but takes any of the two.
                kx_groups: vec![provider::kx_group::X25519, provider::kx_group::SECP384R1],
                ..provider::default_provider()
            }),
            crypto,
            revocations: None,
        })
    }

    /// The same, which refuses devices that are known to be revoked when a handshake comes to that.
    #[must_use]
    pub fn knowing(mut self, revocations: RevocationStore) -> Self {
        self.revocations = Some(revocations);
        self
    }

    /// The answerer's side. Offers TLS 1.2 beside 1.3, because daemons check for safe renegotiation
    /// even in 1.3, and only a client that knows 1.2 says anything about it.
    ///
    /// # Errors
    /// Never with this provider; rustls wants to be asked.
    pub fn client(&self, expected: CertificateChain) -> Result<ClientConnection, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.expect(expected)))
            .with_client_cert_resolver(Arc::new(OneKey(self.key.clone())));
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        // The name is neither sent nor looked at.
        let name = ServerName::try_from("device.invalid")
            .map_err(|_| rustls::Error::General("server name".to_owned()))?;
        ClientConnection::new(Arc::new(config), name)
    }

    /// The requester's side.
    ///
    /// # Errors
    /// Never with this provider; rustls wants to be asked.
    pub fn server(&self, expected: CertificateChain) -> Result<ServerConnection, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(Arc::new(self.expect(expected)))
            .with_cert_resolver(Arc::new(OneKey(self.key.clone())));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        ServerConnection::new(Arc::new(config))
    }

    fn expect(&self, chain: CertificateChain) -> Expect {
        Expect {
            chain,
            crypto: self.crypto.clone(),
            revocations: self.revocations.clone(),
        }
    }
}

/// Our one certificate, whatever the other side asks for.
#[derive(Debug)]
struct OneKey(Arc<CertifiedKey>);

impl ResolvesClientCert for OneKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for OneKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// The one device that we talk to.
struct Expect {
    chain: CertificateChain,
    crypto: Arc<dyn Crypto>,
    revocations: Option<RevocationStore>,
}

impl fmt::Debug for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expect({})", self.chain.device_id())
    }
}

impl Expect {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        self.check_chain(leaf, rest, now).map_err(|wrong| {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(
                Arc::new(wrong),
            )))
        })
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), WrongPeer> {
        let certificates = std::iter::once(leaf)
            .chain(rest)
            .take(starling_core::identity::MAX_CHAIN_CERTIFICATES + 1)
            .map(|der| Certificate::from_der(der))
            .collect::<Result<Vec<_>, _>>()
            .map_err(ChainError::from)?;
        let shown = CertificateChain::new(certificates)?;
        if shown.device.spki() != self.chain.device.spki() {
            return Err(WrongPeer::Key);
        }
        let account = self.chain.account_id();
        let known = self.revocations.as_ref();
        let lists = known.map_or_else(Vec::new, |r| r.lists(&account));
        // The pinned chain was verified when it was pinned, and may have been revoked since. Another
        // one with the same key is a renewal, and has to prove itself.
        if shown != self.chain {
            shown.verify(self.crypto.as_ref(), now.as_secs(), &lists)?;
            if shown.account_id() != account {
                return Err(WrongPeer::Account);
            }
        } else {
            shown.check_revoked(self.crypto.as_ref(), &lists)?;
        }
        Ok(())
    }

    fn verify(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        tls13: bool,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let bad = || rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature);
        let algorithm: &'static dyn VerificationAlgorithm = match signed.scheme {
            SignatureScheme::RSA_PSS_SHA512 => &signature::RSA_PSS_2048_8192_SHA512,
            SignatureScheme::RSA_PSS_SHA384 => &signature::RSA_PSS_2048_8192_SHA384,
            SignatureScheme::ECDSA_NISTP384_SHA384 => &signature::ECDSA_P384_SHA384_ASN1,
            // RFC 8446 section 4.2.3: PKCS#1 signs certificates, but no handshakes.
            SignatureScheme::RSA_PKCS1_SHA512 if !tls13 => &signature::RSA_PKCS1_2048_8192_SHA512,
            SignatureScheme::RSA_PKCS1_SHA384 if !tls13 => &signature::RSA_PKCS1_2048_8192_SHA384,
            _ => return Err(bad()),
        };
        let leaf = Certificate::from_der(leaf).map_err(|_| bad())?;
        UnparsedPublicKey::new(algorithm, leaf.spki())
            .verify(message, signed.signature())
            .map_err(|_| bad())?;
        Ok(HandshakeSignatureValid::assertion())
    }
}

impl ServerCertVerifier for Expect {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, dss, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, dss, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl ClientCertVerifier for Expect {
    // Daemons send no list of accepted authorities either.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, dss, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, dss, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}
