//! Device, account, CA: the chain that a device shows to everyone.

use super::certificate::{Certificate, CertificateError};
use super::revocation::RevocationList;
use crate::crypto::{Crypto, SignatureCheck};
use crate::id::{AccountId, DeviceId, DeviceShortId};

/// Most certificates in a chain: Jami's have three, an organisation's may add a few.
pub const MAX_CHAIN_CERTIFICATES: usize = 8;

/// Longest PEM text of a chain in bytes: a DHT value, where chains are published, holds 64 KiB.
pub const MAX_CHAIN_LEN: usize = 64 * 1024;

/// Shortest RSA key in bits: GnuTLS' security profile MEDIUM, which Jami verifies under.
const MIN_RSA_BITS: u32 = 2048;

/// Why a chain is refused. `at` counts from the leaf: 0 is the device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The device certificate stands alone: nothing says whose it is.
    #[error("the chain has no issuer for the device")]
    NoIssuer,
    /// A certificate names another issuer than the next one in the chain.
    #[error("certificate {at} of the chain does not name the next one as its issuer")]
    WrongIssuer {
        /// Which certificate.
        at: usize,
    },
    /// A certificate that signed another one may not sign certificates.
    #[error("certificate {at} of the chain may not sign certificates")]
    NotCa {
        /// Which certificate.
        at: usize,
    },
    /// A key is too short.
    #[error("the key of certificate {at} of the chain has only {bits} bits")]
    WeakKey {
        /// Which certificate.
        at: usize,
        /// Length of its key.
        bits: u32,
    },
    /// Used before its time.
    #[error("certificate {at} of the chain is not valid yet")]
    NotYetValid {
        /// Which certificate.
        at: usize,
    },
    /// Used after its time.
    #[error("certificate {at} of the chain has expired")]
    Expired {
        /// Which certificate.
        at: usize,
    },
    /// Its issuer took it back.
    #[error("certificate {at} of the chain is revoked")]
    Revoked {
        /// Which certificate.
        at: usize,
    },
    /// A signature does not fit.
    #[error("certificate {at} of the chain is not signed by the next one")]
    BadSignature {
        /// Which certificate.
        at: usize,
    },
}

/// The certificates of a device, leaf first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateChain {
    /// The device's own.
    pub device: Certificate,
    /// The account's: its key is the Jami ID.
    pub account: Certificate,
    /// What stands above: normally the one CA of the account.
    pub ca: Vec<Certificate>,
}

impl CertificateChain {
    /// From certificates in order.
    ///
    /// # Errors
    /// [`ChainError::NoIssuer`] for fewer than two; too many.
    pub fn new(certificates: Vec<Certificate>) -> Result<Self, ChainError> {
        if certificates.len() > MAX_CHAIN_CERTIFICATES {
            return Err(CertificateError::TooMany(MAX_CHAIN_CERTIFICATES).into());
        }
        let mut certificates = certificates.into_iter();
        match (certificates.next(), certificates.next()) {
            (Some(device), Some(account)) => Ok(Self {
                device,
                account,
                ca: certificates.collect(),
            }),
            _ => Err(ChainError::NoIssuer),
        }
    }

    /// From concatenated PEM, leaf first; bytes around the certificates are skipped.
    ///
    /// # Errors
    /// What is wrong with the text. Signatures are not looked at: see [`Self::verify`].
    pub fn from_pem(text: &[u8]) -> Result<Self, ChainError> {
        if text.len() > MAX_CHAIN_LEN {
            return Err(CertificateError::TooLarge(MAX_CHAIN_LEN).into());
        }
        Self::new(Certificate::list_from_pem(text, MAX_CHAIN_CERTIFICATES)?)
    }

    /// Concatenated PEM, leaf first: what is stored, published and sent, always the same bytes.
    pub fn to_pem(&self) -> String {
        self.iter().map(Certificate::pem).collect()
    }

    /// Leaf first.
    pub fn iter(&self) -> impl Iterator<Item = &Certificate> {
        [&self.device, &self.account].into_iter().chain(&self.ca)
    }

    /// The account that this device belongs to: the direct issuer's key.
    pub fn account_id(&self) -> AccountId {
        self.account.account_id()
    }

    /// The device.
    pub fn device_id(&self) -> DeviceId {
        self.device.device_id()
    }

    /// The device by its old name.
    pub fn short_id(&self) -> DeviceShortId {
        self.device.short_id()
    }

    /// The signatures to check: each certificate by the next one. The topmost certificate
    /// proves nothing by itself, its own signature is of no interest.
    ///
    /// # Errors
    /// A signature algorithm that is not accepted.
    pub fn checks(&self) -> Result<Vec<SignatureCheck>, ChainError> {
        self.iter()
            .zip(self.iter().skip(1))
            .map(|(child, issuer)| Ok(child.signature_check(issuer)?))
            .collect()
    }

    /// Everything that can be said without looking at signatures: names, dates, key lengths,
    /// the right to sign.
    ///
    /// # Errors
    /// The first fault, from the leaf upwards.
    pub fn check_structure(&self, now_unix: u64) -> Result<(), ChainError> {
        for (at, (child, issuer)) in self.iter().zip(self.iter().skip(1)).enumerate() {
            if child.issuer_der() != issuer.subject_der() {
                return Err(ChainError::WrongIssuer { at });
            }
            if !issuer.is_ca() {
                return Err(ChainError::NotCa {
                    at: at.saturating_add(1),
                });
            }
        }
        for (at, certificate) in self.iter().enumerate() {
            if let Some(bits) = certificate.rsa_bits().filter(|b| *b < MIN_RSA_BITS) {
                return Err(ChainError::WeakKey { at, bits });
            }
            if now_unix < certificate.not_before() {
                return Err(ChainError::NotYetValid { at });
            }
            if now_unix > certificate.not_after() {
                return Err(ChainError::Expired { at });
            }
        }
        Ok(())
    }

    /// Whether this chain holds together at `now_unix` and nothing in it is revoked.
    ///
    /// That says who signed whom, not whether [`Self::account_id`] is whom one wanted to
    /// meet: compare that as well. Lists that no issuer in the chain signed are ignored.
    ///
    /// # Errors
    /// The first fault.
    pub fn verify(
        &self,
        crypto: &dyn Crypto,
        now_unix: u64,
        crls: &[RevocationList],
    ) -> Result<(), ChainError> {
        self.check_structure(now_unix)?;
        for (at, good) in crypto.verify_batch(&self.checks()?).into_iter().enumerate() {
            if !good {
                return Err(ChainError::BadSignature { at });
            }
        }
        self.check_revoked(crypto, crls)
    }

    /// Whether nothing in this chain is revoked: the part of [`Self::verify`] whose answer changes
    /// when a list becomes known.
    ///
    /// # Errors
    /// [`ChainError::Revoked`].
    pub fn check_revoked(
        &self,
        crypto: &dyn Crypto,
        crls: &[RevocationList],
    ) -> Result<(), ChainError> {
        for (at, (child, issuer)) in self.iter().zip(self.iter().skip(1)).enumerate() {
            // Is it on the list at all? Only then is the list's signature worth checking.
            let revoked = crls
                .iter()
                .filter(|crl| crl.is_about(issuer) && crl.lists(child))
                .any(|crl| crl.verify(crypto, issuer));
            if revoked {
                return Err(ChainError::Revoked { at });
            }
        }
        Ok(())
    }
}
