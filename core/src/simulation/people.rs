//! Accounts and devices with real certificates and cheap signatures.

use crate::crypto::{Crypto, CryptoError, PrivateKey, SignatureAlgorithm, SignatureCheck};
use crate::id::{AccountId, DeviceId};
use crate::identity::{CertificateChain, CertificateKind, issue_with_serial};
use crate::swarm::write::Writer;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The beginning of time: a day on which all certificates are valid.
pub(crate) const DAY: u64 = 1_800_000_000;

const YEAR: u64 = 365 * 86_400;

/// A key whose signatures are hashes over the public half and the message: nobody here forges
/// one without the key, and checking costs a hash instead of an exponentiation.
struct SimKey(Vec<u8>);

fn signature(spki: &[u8], algorithm: SignatureAlgorithm, message: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update([algorithm as u8]);
    hash.update(spki);
    hash.update(message);
    hash.finalize().to_vec()
}

impl SimKey {
    /// A DER public key that parses: an RSA key nobody has, of 256 bits.
    fn new(name: &str) -> Self {
        let mut modulus = Sha256::digest(name).to_vec();
        if let Some(first) = modulus.first_mut() {
            // Positive, and of full length.
            *first = (*first & 0x7f) | 0x40;
        }
        // SEQUENCE { SEQUENCE { rsaEncryption, NULL }, BIT STRING { SEQUENCE { INTEGER, INTEGER 3 } } }
        let mut key = vec![0x30, 0x39, 0x30, 0x0d, 0x06, 0x09];
        key.extend([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0]);
        key.extend([3, 0x28, 0, 0x30, 0x25, 2, 0x20]);
        key.extend(modulus);
        key.extend([2, 1, 3]);
        Self(key)
    }
}

impl PrivateKey for SimKey {
    fn public_key(&self) -> &[u8] {
        &self.0
    }
    fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Ok(signature(&self.0, algorithm, message))
    }
    fn rsa_decrypt(&self, _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn to_pkcs8(&self) -> zeroize::Zeroizing<Vec<u8>> {
        zeroize::Zeroizing::new(self.0.clone())
    }
}

/// Checks the signatures of [`SimKey`].
pub(crate) struct SimCrypto;

impl Crypto for SimCrypto {
    fn verify(&self, check: &SignatureCheck) -> bool {
        check.signature == signature(&check.key, check.algorithm, &check.message)
    }
    fn rsa_encrypt(&self, _: &[u8], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn generate_rsa(&self, _: u32) -> Result<Box<dyn PrivateKey>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn read_private_key(&self, _: &[u8]) -> Result<Box<dyn PrivateKey>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn aes_gcm_seal(&self, _: &[u8], _: &[u8; 12], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn aes_gcm_open(&self, _: &[u8], _: &[u8; 12], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn random(&self, _: &mut [u8]) {}
}

/// A device with its chain and key.
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) account: AccountId,
    pub(crate) id: DeviceId,
    chain: CertificateChain,
    key: SimKey,
}

impl Device {
    /// Device `device` of account `account`; `late`: its certificates are dated 15 years ahead.
    fn make(account: usize, device: usize, late: bool) -> Self {
        let now = if late { DAY + 15 * YEAR } else { DAY - YEAR };
        let name = format!("{account}{}", if late { "-late" } else { "" });
        let (ca, owner) = (
            SimKey::new(&format!("ca {name}")),
            SimKey::new(&format!("account {name}")),
        );
        let key = SimKey::new(&format!("device {name}.{device}"));
        let make = |kind, subject: &SimKey, issuer, by: &SimKey| {
            issue_with_serial(kind, subject.public_key(), issuer, by, &[1], now)
                .expect("these keys sign")
        };
        let ca_cert = make(CertificateKind::Ca, &ca, None, &ca);
        let owner_cert = make(CertificateKind::Account, &owner, Some(&ca_cert), &ca);
        let own = make(CertificateKind::Device, &key, Some(&owner_cert), &owner);
        let chain = CertificateChain::new(vec![own, owner_cert, ca_cert]).expect("three");
        Self {
            name: format!("{account}.{device}"),
            account: chain.account_id(),
            id: chain.device_id(),
            chain,
            key,
        }
    }

    pub(crate) fn writer(&self) -> Writer<'_> {
        Writer::new(&self.name, &self.chain, &self.key)
    }

    pub(crate) fn key(&self) -> &dyn PrivateKey {
        &self.key
    }
}

type Made = BTreeMap<(usize, usize, bool), &'static Device>;

/// Keys are made once and shared by name.
pub(crate) fn device(account: usize, device: usize, late: bool) -> &'static Device {
    static MADE: Mutex<Made> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((account, device, late))
        .or_insert_with(|| Box::leak(Box::new(Device::make(account, device, late))))
}
