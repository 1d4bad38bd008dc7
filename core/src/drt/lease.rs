//! What a mobile device says of itself: "I belong to this conversation, sleep most of the time,
//! and am to be woken until then", signed by the device.

use super::{CLOCK_SKEW, MAX_LEASE};
use crate::crypto::{SignatureAlgorithm, SignatureCheck};
use crate::id::{AccountId, ConversationId, DeviceId};
use crate::identity::{Certificate, CertificateChain, ChainError};
use crate::msgpack::{self, Value};

/// The first word of what is signed: such a signature serves nowhere else.
const DOMAIN: &str = "DRT-MOBILE";

/// The one layout there is.
const FORMAT: u64 = 1;

/// Longest signature, bytes (`MAX_MOBILE_LEASE_SIGNATURE_SIZE` in the reference).
const MAX_SIGNATURE: usize = 1024;

/// A lease, unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// For which conversation.
    pub conversation: ConversationId,
    /// Whose device it is.
    pub issuer: AccountId,
    /// The device.
    pub device: DeviceId,
    /// When it was signed, unix seconds.
    pub issued: u64,
    /// Until when it holds, unix seconds.
    pub expires: u64,
    /// RSA PKCS#1 v1.5 with SHA-512 by the device's key over [`Self::payload`].
    pub signature: Vec<u8>,
}

/// Why a lease does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseFault {
    /// It is for another conversation.
    #[error("the lease is for another conversation")]
    OtherConversation,
    /// Its issuer is no member.
    #[error("the lease is of someone who is no member")]
    NoMember,
    /// Its times cannot be: over, not begun, or longer than allowed.
    #[error("the times of the lease are wrong")]
    Times,
    /// The certificate is another device's, or another account's.
    #[error("the certificate is not the one the lease names")]
    OtherCertificate,
    /// The certificate ends before the lease.
    #[error("the lease outlasts the device's certificate")]
    OutlastsCertificate,
    /// The certificate is not valid.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl Lease {
    pub(super) fn to_msgpack(&self) -> Value {
        msgpack::map([
            ("format_version", Value::from(FORMAT)),
            ("conversation_id", Value::from(self.conversation.to_hex())),
            ("issuer_id", Value::Binary(self.issuer.0.to_vec())),
            ("device_id", Value::Binary(self.device.0.to_vec())),
            ("issued_at", Value::from(self.issued)),
            ("expires_at", Value::from(self.expires)),
            ("signature", Value::Binary(self.signature.clone())),
        ])
    }

    pub(super) fn from_msgpack(value: &Value) -> Option<Self> {
        let number = |key: &str| msgpack::get(value, key).and_then(Value::as_u64);
        let bytes = |key: &str| msgpack::get(value, key).and_then(msgpack::bytes);
        let signature = bytes("signature")?;
        if number("format_version") != Some(FORMAT)
            || signature.is_empty()
            || signature.len() > MAX_SIGNATURE
        {
            return None;
        }
        Some(Self {
            conversation: msgpack::get(value, "conversation_id")?
                .as_str()?
                .parse()
                .ok()?,
            issuer: AccountId::from_slice(bytes("issuer_id")?)?,
            device: DeviceId::from_slice(bytes("device_id")?)?,
            issued: number("issued_at")?,
            expires: number("expires_at")?,
            signature: signature.to_vec(),
        })
    }

    /// What is signed.
    pub fn payload(&self) -> Vec<u8> {
        msgpack::encode(&Value::Array(vec![
            Value::from(DOMAIN),
            Value::from(FORMAT),
            Value::from(self.conversation.to_hex()),
            Value::Binary(self.issuer.0.to_vec()),
            Value::from(self.device.to_hex()),
            Value::from(self.issued),
            Value::from(self.expires),
        ]))
    }

    /// What can be said of its times alone.
    ///
    /// # Errors
    /// [`LeaseFault::Times`].
    pub fn check_times(&self, now_unix: u64) -> Result<(), LeaseFault> {
        let begun = self.issued <= now_unix.saturating_add(CLOCK_SKEW);
        let lasts = self.expires.saturating_sub(self.issued);
        let fits = self.expires > self.issued && lasts <= MAX_LEASE.as_secs();
        if begun && fits && self.expires > now_unix {
            Ok(())
        } else {
            Err(LeaseFault::Times)
        }
    }

    /// The signatures that prove it, for whoever computes them: the chain's, then the lease's.
    ///
    /// # Errors
    /// Why it cannot be proved with this chain.
    pub fn checks(
        &self,
        chain: &CertificateChain,
        now_unix: u64,
    ) -> Result<Vec<SignatureCheck>, LeaseFault> {
        self.check_times(now_unix)?;
        if chain.device_id() != self.device || chain.account_id() != self.issuer {
            return Err(LeaseFault::OtherCertificate);
        }
        if self.expires > chain.device.not_after() {
            return Err(LeaseFault::OutlastsCertificate);
        }
        chain.check_structure(now_unix)?;
        let mut checks = chain.checks()?;
        checks.push(SignatureCheck {
            key: chain.device.spki(),
            algorithm: SignatureAlgorithm::RsaPkcs1Sha512,
            message: self.payload(),
            signature: self.signature.clone(),
        });
        Ok(checks)
    }
}

/// A chain as it travels between neighbours: certificates in DER, leaf first, nothing between.
pub fn pack_chain(chain: &CertificateChain) -> Vec<u8> {
    chain.iter().flat_map(|c| c.der().to_vec()).collect()
}

/// Reads a packed chain, unverified.
///
/// # Errors
/// The bytes are no certificates, or too few.
pub fn unpack_chain(mut bytes: &[u8]) -> Result<CertificateChain, ChainError> {
    let mut list = Vec::new();
    while !bytes.is_empty() && list.len() <= crate::identity::MAX_CHAIN_CERTIFICATES {
        // What cannot be told apart is left to the certificate's own reader to refuse.
        let len = der_len(bytes).unwrap_or(bytes.len());
        let (one, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
        list.push(Certificate::from_der(one)?);
        bytes = rest;
    }
    CertificateChain::new(list)
}

/// The length of the DER object that some bytes begin with, header included.
fn der_len(bytes: &[u8]) -> Option<usize> {
    let [_, first, rest @ ..] = bytes else {
        return None;
    };
    if *first < 0x80 {
        return usize::from(*first).checked_add(2);
    }
    let count = usize::from(*first & 0x7f);
    let field = rest.get(..count).filter(|f| f.len() <= 4)?;
    let len = field.iter().fold(0usize, |a, b| (a << 8) | usize::from(*b));
    len.checked_add(2)?.checked_add(count)
}
