//! One X.509 certificate, read as leniently as Jami's own certificates demand.

use std::sync::Arc;

use super::der::{self, DerError, Element, Reader};
use super::pem;
use crate::crypto::{SignatureAlgorithm, SignatureCheck};
use crate::id::{AccountId, DeviceId, DeviceShortId};

/// Largest certificate that is read, in bytes of DER: a DHT value, the largest thing a
/// certificate travels in, holds 64 KiB.
pub const MAX_CERTIFICATE_LEN: usize = 64 * 1024;

/// Longest serial number of a certificate, in octets without padding (RFC 5280, 4.1.2.2). Jami draws eight.
pub const MAX_SERIAL_LEN: usize = 20;

/// Label of a certificate in PEM.
pub(crate) const PEM_LABEL: &str = "CERTIFICATE";

// Object identifiers, as the content bytes of their DER.
/// 2.5.4.3, common name.
pub(crate) const CN: &[u8] = &[0x55, 0x04, 0x03];
/// 0.9.2342.19200300.100.1.1, user id: Jami puts a key's short id here.
pub(crate) const UID: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01];
/// 1.2.840.113549.1.1.1, rsaEncryption.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.113549.1.1.11, sha256WithRSAEncryption.
pub(crate) const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
/// 1.2.840.113549.1.1.12, sha384WithRSAEncryption.
pub(crate) const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
/// 1.2.840.113549.1.1.13, sha512WithRSAEncryption.
pub(crate) const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
/// 1.2.840.10045.4.3.3, ecdsa-with-SHA384.
pub(crate) const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
/// 2.5.29.14, subject key identifier.
pub(crate) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
/// 2.5.29.15, key usage.
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// 2.5.29.19, basic constraints.
pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

/// Why some bytes are not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than any certificate, or a chain of more than is allowed.
    #[error("longer than {0} bytes")]
    TooLarge(usize),
    /// No `BEGIN CERTIFICATE` in a PEM text.
    #[error("the text holds no certificate")]
    NoCertificate,
    /// A PEM block without end, or not base64.
    #[error("a certificate's text cannot be read")]
    BadPem,
    /// The structure is not that of a certificate.
    #[error("not a certificate: {0}")]
    Structure(#[from] DerError),
    /// The signed and the unsigned name of the signature algorithm differ.
    #[error("the certificate contradicts itself about its signature algorithm")]
    AlgorithmMismatch,
    /// Signed in a way that is not accepted, among them SHA-1 and MD5.
    #[error("the certificate is signed with an algorithm that is not accepted")]
    UnsupportedSignature,
    /// A serial number longer than [`MAX_SERIAL_LEN`]: no list that takes it back could be published, or many not.
    #[error("the certificate's serial number is longer than {MAX_SERIAL_LEN} octets")]
    LongSerial,
    /// More certificates in a row than any chain has.
    #[error("more than {0} certificates")]
    TooMany(usize),
}

/// An X.509 certificate and its DER, byte for byte as it came.
///
/// Cheap to clone. Equal when the DER is.
#[derive(Clone)]
pub struct Certificate(Arc<Parsed>);

struct Parsed {
    der: Box<[u8]>,
    tbs: Box<[u8]>,
    spki: Arc<[u8]>,
    key_bits: Option<u32>,
    serial: Box<[u8]>,
    algorithm: Option<SignatureAlgorithm>,
    signature: Box<[u8]>,
    issuer: Box<[u8]>,
    subject: Box<[u8]>,
    issuer_uid: Option<String>,
    subject_uid: Option<String>,
    subject_cn: Option<String>,
    not_before: u64,
    not_after: u64,
    is_ca: bool,
}

impl core::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Certificate")
            .field("subject_cn", &self.0.subject_cn)
            .field("key", &self.device_id())
            .field("issuer_uid", &self.0.issuer_uid)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}
impl Eq for Certificate {}

impl Certificate {
    /// Reads exactly one certificate in DER.
    ///
    /// # Errors
    /// The reason why it is none. A certificate signed with an algorithm that is not accepted
    /// is read; [`Self::signature_check`] refuses it.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE_LEN {
            return Err(CertificateError::TooLarge(MAX_CERTIFICATE_LEN));
        }
        let mut outer = Reader(der);
        let mut certificate = outer.expect(der::SEQUENCE)?.inside();
        outer.end()?;
        let tbs = certificate.expect(der::SEQUENCE)?;
        let algorithm = certificate.expect(der::SEQUENCE)?;
        let signature = bit_string(certificate.expect(der::BIT_STRING)?)?;
        certificate.end()?;

        let mut fields = tbs.inside();
        // The version: absent in v1. Nothing depends on it.
        fields.optional(der::CONTEXT_0)?;
        let serial = fields.expect(der::INTEGER)?.value;
        if der::minimal_integer(serial).len() > MAX_SERIAL_LEN {
            return Err(CertificateError::LongSerial);
        }
        if fields.expect(der::SEQUENCE)?.value != algorithm.value {
            return Err(CertificateError::AlgorithmMismatch);
        }
        let issuer = fields.expect(der::SEQUENCE)?;
        let mut validity = fields.expect(der::SEQUENCE)?.inside();
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        validity.end()?;
        let subject = fields.expect(der::SEQUENCE)?;
        let spki = fields.expect(der::SEQUENCE)?;
        let mut constraints = Constraints::default();
        while !fields.is_empty() {
            let field = fields.next()?;
            if field.tag == der::CONTEXT_3 {
                constraints = Constraints::read(field)?;
            }
        }
        Ok(Self(Arc::new(Parsed {
            der: der.into(),
            tbs: tbs.whole.into(),
            key_bits: key_bits(spki)?,
            spki: spki.whole.into(),
            serial: serial.into(),
            algorithm: read_algorithm(algorithm)?,
            signature: signature.into(),
            issuer_uid: name_part(issuer, UID)?,
            issuer: issuer.whole.into(),
            subject_uid: name_part(subject, UID)?,
            subject_cn: name_part(subject, CN)?,
            subject: subject.whole.into(),
            not_before,
            not_after,
            is_ca: constraints.is_ca(),
        })))
    }

    /// The first certificate of a PEM text.
    ///
    /// # Errors
    /// As [`Self::list_from_pem`].
    pub fn from_pem(text: &[u8]) -> Result<Self, CertificateError> {
        let block = pem::blocks(text, PEM_LABEL)
            .next()
            .ok_or(CertificateError::NoCertificate)?;
        Self::from_der(&block.ok_or(CertificateError::BadPem)?)
    }

    /// All certificates of a PEM text, in its order; what stands around them is skipped.
    ///
    /// # Errors
    /// A certificate that cannot be read, none at all, or more than `max`.
    pub fn list_from_pem(text: &[u8], max: usize) -> Result<Vec<Self>, CertificateError> {
        let mut out = Vec::new();
        for block in pem::blocks(text, PEM_LABEL) {
            if out.len() == max {
                return Err(CertificateError::TooMany(max));
            }
            out.push(Self::from_der(&block.ok_or(CertificateError::BadPem)?)?);
        }
        if out.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        Ok(out)
    }

    /// The certificate as it came.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// PEM text: lines of 64 characters, LF, also after the last.
    pub fn pem(&self) -> String {
        pem::write(PEM_LABEL, &self.0.der).to_string()
    }

    /// DER SubjectPublicKeyInfo of its key: what all ids are hashes of.
    pub fn spki(&self) -> Arc<[u8]> {
        self.0.spki.clone()
    }

    /// Length of its RSA key in bits; `None` for keys of another kind.
    pub fn rsa_bits(&self) -> Option<u32> {
        self.0.key_bits
    }

    /// Its key's id when the key is an account's.
    pub fn account_id(&self) -> AccountId {
        AccountId::of_key(&self.0.spki)
    }

    /// Its key's short id when the key is a device's.
    pub fn short_id(&self) -> DeviceShortId {
        DeviceShortId::of_key(&self.0.spki)
    }

    /// Its key's long id when the key is a device's.
    pub fn device_id(&self) -> DeviceId {
        DeviceId::of_key(&self.0.spki)
    }

    /// UID in the subject's name. Says nothing by itself: anyone can write anything there.
    pub fn subject_uid(&self) -> Option<&str> {
        self.0.subject_uid.as_deref()
    }

    /// Common name of the subject.
    pub fn subject_cn(&self) -> Option<&str> {
        self.0.subject_cn.as_deref()
    }

    /// UID in the issuer's name: the short id of the key that should have signed this.
    pub fn issuer_uid(&self) -> Option<&str> {
        self.0.issuer_uid.as_deref()
    }

    /// The subject's name in DER.
    pub fn subject_der(&self) -> &[u8] {
        &self.0.subject
    }

    /// The issuer's name in DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.0.issuer
    }

    /// Content bytes of the serial number: a big-endian integer that may be negative or padded.
    pub fn serial(&self) -> &[u8] {
        &self.0.serial
    }

    /// Start of validity in unix seconds.
    pub fn not_before(&self) -> u64 {
        self.0.not_before
    }

    /// End of validity in unix seconds, itself still valid.
    pub fn not_after(&self) -> u64 {
        self.0.not_after
    }

    /// May sign certificates: basic constraints say CA, and key usage does not forbid it.
    pub fn is_ca(&self) -> bool {
        self.0.is_ca
    }

    /// What has to be checked to know that `issuer`'s key signed this.
    ///
    /// # Errors
    /// [`CertificateError::UnsupportedSignature`].
    pub fn signature_check(&self, issuer: &Self) -> Result<SignatureCheck, CertificateError> {
        Ok(SignatureCheck {
            key: issuer.spki(),
            algorithm: self
                .0
                .algorithm
                .ok_or(CertificateError::UnsupportedSignature)?,
            message: self.0.tbs.to_vec(),
            signature: self.0.signature.to_vec(),
        })
    }
}

/// The signature algorithm of an AlgorithmIdentifier, if it is one that is accepted.
pub(crate) fn read_algorithm(
    identifier: Element<'_>,
) -> Result<Option<SignatureAlgorithm>, DerError> {
    let oid = identifier.inside().expect(der::OID)?.value;
    Ok(match oid {
        RSA_SHA256 => Some(SignatureAlgorithm::RsaPkcs1Sha256),
        RSA_SHA384 => Some(SignatureAlgorithm::RsaPkcs1Sha384),
        RSA_SHA512 => Some(SignatureAlgorithm::RsaPkcs1Sha512),
        ECDSA_SHA384 => Some(SignatureAlgorithm::EcdsaP384Sha384),
        _ => None,
    })
}

/// The bytes of a BIT STRING that ends on a byte.
pub(crate) fn bit_string(element: Element<'_>) -> Result<&[u8], DerError> {
    match element.value.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err(DerError::BadValue("a bit string")),
    }
}

/// The first value of one kind in a name.
fn name_part(name: Element<'_>, kind: &[u8]) -> Result<Option<String>, DerError> {
    let mut sets = name.inside();
    let mut found = None;
    while !sets.is_empty() {
        let mut set = sets.expect(der::SET)?.inside();
        while !set.is_empty() {
            let mut pair = set.expect(der::SEQUENCE)?.inside();
            let oid = pair.expect(der::OID)?.value;
            let value = pair.next()?;
            let text = matches!(
                value.tag,
                der::PRINTABLE_STRING | der::UTF8_STRING | der::IA5_STRING
            );
            if found.is_none() && oid == kind && text {
                found = String::from_utf8(value.value.to_vec()).ok();
            }
        }
    }
    Ok(found)
}

/// Length of an RSA key's modulus in bits.
fn key_bits(spki: Element<'_>) -> Result<Option<u32>, DerError> {
    let mut fields = spki.inside();
    let algorithm = fields
        .expect(der::SEQUENCE)?
        .inside()
        .expect(der::OID)?
        .value;
    let key = bit_string(fields.expect(der::BIT_STRING)?)?;
    if algorithm != RSA {
        return Ok(None);
    }
    let mut numbers = Reader(key).expect(der::SEQUENCE)?.inside();
    let modulus = numbers.expect(der::INTEGER)?.value;
    let bits = match minimal_positive(modulus) {
        [] => 0,
        [first, rest @ ..] => u32::try_from(rest.len())
            .unwrap_or(0)
            .saturating_mul(8)
            .saturating_add(u8::BITS.saturating_sub(first.leading_zeros())),
    };
    Ok(Some(bits))
}

fn minimal_positive(mut number: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = number {
        number = rest;
    }
    number
}

/// The two extensions that say what a key may sign.
#[derive(Default)]
struct Constraints {
    ca: bool,
    /// First byte of a critical key usage.
    critical_usage: Option<u8>,
}

/// keyCertSign, bit 5 of key usage counted from the left.
pub(crate) const USAGE_CERT_SIGN: u8 = 0x04;

impl Constraints {
    fn read(extensions: Element<'_>) -> Result<Self, DerError> {
        let mut out = Self::default();
        let mut list = extensions.inside().expect(der::SEQUENCE)?.inside();
        while !list.is_empty() {
            let mut extension = list.expect(der::SEQUENCE)?.inside();
            let oid = extension.expect(der::OID)?.value;
            let critical = extension
                .optional(der::BOOLEAN)?
                .is_some_and(|b| b.value != [0]);
            let value = extension.expect(der::OCTET_STRING)?;
            match oid {
                BASIC_CONSTRAINTS => {
                    let ca = value.inside().expect(der::SEQUENCE)?.inside();
                    out.ca = { ca }
                        .optional(der::BOOLEAN)?
                        .is_some_and(|b| b.value != [0]);
                }
                KEY_USAGE if critical => {
                    let bits = value.inside().expect(der::BIT_STRING)?.value;
                    out.critical_usage = Some(bits.get(1).copied().unwrap_or(0));
                }
                _ => {}
            }
        }
        Ok(out)
    }

    fn is_ca(&self) -> bool {
        self.ca
            && self
                .critical_usage
                .is_none_or(|usage| usage & USAGE_CERT_SIGN != 0)
    }
}
