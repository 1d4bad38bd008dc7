//! Certificates as Jami writes them.

use super::certificate::{
    BASIC_CONSTRAINTS, CN, Certificate, KEY_USAGE, RSA_SHA384, SUBJECT_KEY_ID, UID,
};
use super::der;
use super::revocation::random_positive;
use crate::crypto::{Crypto, CryptoError, PrivateKey, SignatureAlgorithm};
use crate::id::DeviceShortId;

/// How long a certificate is valid, in seconds: 3650 days, as in the reference.
pub const VALIDITY: u64 = 3650 * 86_400;

/// keyCertSign and cRLSign: bits 5 and 6, one unused bit behind them.
const USAGE_CA: [u8; 2] = [1, 0x06];

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateKind {
    /// The topmost one, signed by itself.
    Ca,
    /// The account's.
    Account,
    /// A device's: has no extensions at all, as one that was signed from a request.
    Device,
}

impl CertificateKind {
    fn common_name(self) -> &'static str {
        match self {
            Self::Ca => "Jami CA",
            Self::Account => "Jami",
            Self::Device => "Jami device",
        }
    }
}

/// Signs a certificate for the key `subject_spki` with a serial number drawn at random.
///
/// `issuer` is the certificate of `issuer_key`, none for [`CertificateKind::Ca`].
///
/// # Errors
/// The key cannot sign.
pub fn issue(
    crypto: &dyn Crypto,
    kind: CertificateKind,
    subject_spki: &[u8],
    issuer: Option<&Certificate>,
    issuer_key: &dyn PrivateKey,
    now_unix: u64,
) -> Result<Certificate, CryptoError> {
    let serial = random_positive(crypto);
    issue_with_serial(kind, subject_spki, issuer, issuer_key, &serial, now_unix)
}

/// As [`issue`], with a given serial number: a big-endian DER integer.
///
/// # Errors
/// The key cannot sign.
pub fn issue_with_serial(
    kind: CertificateKind,
    subject_spki: &[u8],
    issuer: Option<&Certificate>,
    issuer_key: &dyn PrivateKey,
    serial: &[u8],
    now_unix: u64,
) -> Result<Certificate, CryptoError> {
    let short_id = DeviceShortId::of_key(subject_spki);
    let subject = name(kind.common_name(), &short_id.to_hex());
    let algorithm = der::container(
        der::SEQUENCE,
        &[&der::element(der::OID, RSA_SHA384), &[5, 0]],
    );
    let validity = der::container(
        der::SEQUENCE,
        &[
            &der::time(now_unix),
            &der::time(now_unix.saturating_add(VALIDITY)),
        ],
    );
    let extensions = match kind {
        CertificateKind::Device => Vec::new(),
        CertificateKind::Ca | CertificateKind::Account => der::element(
            der::CONTEXT_3,
            &der::container(
                der::SEQUENCE,
                &[
                    &extension(
                        SUBJECT_KEY_ID,
                        false,
                        &der::element(der::OCTET_STRING, &short_id.0),
                    ),
                    &extension(
                        BASIC_CONSTRAINTS,
                        true,
                        &der::element(der::SEQUENCE, &der::element(der::BOOLEAN, &[0xff])),
                    ),
                    &extension(KEY_USAGE, true, &der::element(der::BIT_STRING, &USAGE_CA)),
                ],
            ),
        ),
    };
    let tbs = der::container(
        der::SEQUENCE,
        &[
            // Version 3.
            &der::element(der::CONTEXT_0, &der::element(der::INTEGER, &[2])),
            &der::element(der::INTEGER, serial),
            &algorithm,
            issuer.map_or(subject.as_slice(), Certificate::subject_der),
            &validity,
            &subject,
            subject_spki,
            &extensions,
        ],
    );
    let mut signature = vec![0];
    signature.extend(issuer_key.sign(SignatureAlgorithm::RsaPkcs1Sha384, &tbs)?);
    let der = der::container(
        der::SEQUENCE,
        &[&tbs, &algorithm, &der::element(der::BIT_STRING, &signature)],
    );
    // A key whose public half is not what it says to be is the one way to get here.
    Certificate::from_der(&der).map_err(|_| CryptoError::BadKey)
}

/// A name of two parts, in Jami's order.
fn name(common_name: &str, uid: &str) -> Vec<u8> {
    let part = |oid: &[u8], text: &str| {
        let pair = der::container(
            der::SEQUENCE,
            &[
                &der::element(der::OID, oid),
                &der::element(der::PRINTABLE_STRING, text.as_bytes()),
            ],
        );
        der::element(der::SET, &pair)
    };
    der::container(der::SEQUENCE, &[&part(CN, common_name), &part(UID, uid)])
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical {
        der::element(der::BOOLEAN, &[0xff])
    } else {
        Vec::new()
    };
    der::container(
        der::SEQUENCE,
        &[
            &der::element(der::OID, oid),
            &critical,
            &der::element(der::OCTET_STRING, value),
        ],
    )
}
