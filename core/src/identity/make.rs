//! Making accounts and devices, and loading what was made.

use std::sync::Arc;

use super::archive::Archive;
use super::certificate::Certificate;
use super::chain::{CertificateChain, ChainError};
use super::eth::EthKey;
use super::issue::{CertificateKind, issue};
use super::receipt::{Receipt, ReceiptError};
use super::revocation::RevocationList;
use crate::crypto::{Crypto, CryptoError, PrivateKey};
use crate::dht::envelope::EnvelopeError;
use crate::id::{AccountId, DeviceId, DeviceShortId};

/// Length of an account's keys in bits, as in the reference.
pub const KEY_BITS: u32 = 4096;

/// Why a device cannot be made or loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A key cannot be used.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The announcement could not be signed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The device's key is not that of its certificate.
    #[error("the device's key does not belong to its certificate")]
    WrongDeviceKey,
    /// The account's key is not that of its certificate.
    #[error("the account's key does not belong to its certificate")]
    WrongAccountKey,
    /// The certificates do not hold together.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The receipt is not good.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
}

/// The three keys of a new account.
pub struct AccountKeys {
    /// Of its certificate authority.
    pub ca: Box<dyn PrivateKey>,
    /// Of the account.
    pub account: Box<dyn PrivateKey>,
    /// Of its first device.
    pub device: Box<dyn PrivateKey>,
}

impl AccountKeys {
    /// Makes them one after the other: some seconds of work.
    ///
    /// # Errors
    /// No key can be made.
    pub fn generate(crypto: &dyn Crypto) -> Result<Self, CryptoError> {
        Ok(Self {
            ca: crypto.generate_rsa(KEY_BITS)?,
            account: crypto.generate_rsa(KEY_BITS)?,
            device: crypto.generate_rsa(KEY_BITS)?,
        })
    }
}

/// What a device is: its certificates, its key, its receipt. The account's key is not here:
/// it rests in the archive.
#[derive(Clone)]
pub struct Identity {
    /// Device, account, CA.
    pub chain: CertificateChain,
    /// The device's key.
    pub device_key: Arc<dyn PrivateKey>,
    /// The account's word for the device.
    pub receipt: Receipt,
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Identity")
            .field("account", &self.account_id())
            .field("device", &self.device_id())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// The account.
    pub fn account_id(&self) -> AccountId {
        self.chain.account_id()
    }

    /// The device.
    pub fn device_id(&self) -> DeviceId {
        self.chain.device_id()
    }

    /// The device by its old name.
    pub fn short_id(&self) -> DeviceShortId {
        self.chain.short_id()
    }

    /// Puts together what a device stored, and checks it: key, chain, revocation, receipt.
    ///
    /// # Errors
    /// The first check that fails. The account then has to be loaded from its archive, see
    /// [`Archive::new_device`].
    pub fn load(
        crypto: &dyn Crypto,
        device_key: Arc<dyn PrivateKey>,
        chain: CertificateChain,
        receipt: Receipt,
        crls: &[RevocationList],
        now_unix: u64,
    ) -> Result<Self, IdentityError> {
        if DeviceId::of_key(device_key.public_key()) != chain.device_id() {
            return Err(IdentityError::WrongDeviceKey);
        }
        chain.verify(crypto, now_unix, crls)?;
        receipt.verify(crypto, &chain)?;
        Ok(Self {
            chain,
            device_key,
            receipt,
        })
    }
}

/// Makes an account and its first device out of new keys.
///
/// # Errors
/// A key cannot sign.
pub fn create_account(
    crypto: &dyn Crypto,
    now_unix: u64,
    keys: AccountKeys,
) -> Result<(Archive, Identity), IdentityError> {
    let ca = issue(
        crypto,
        CertificateKind::Ca,
        keys.ca.public_key(),
        None,
        keys.ca.as_ref(),
        now_unix,
    )?;
    let account = issue(
        crypto,
        CertificateKind::Account,
        keys.account.public_key(),
        Some(&ca),
        keys.ca.as_ref(),
        now_unix,
    )?;
    let mut archive = Archive::new(
        Some(keys.ca.to_pkcs8()),
        keys.account.to_pkcs8(),
        vec![account, ca],
        Some(EthKey::generate(crypto)),
    );
    let identity = archive.new_device(crypto, now_unix, keys.device)?;
    Ok((archive, identity))
}

impl Archive {
    /// Makes a device of the account: a certificate for its new key, and a receipt. Importing
    /// an archive is this. Certificates that ran out are renewed on the way, keys and ids stay;
    /// an account without Ethereum key gets one: keep the archive when it changed.
    ///
    /// # Errors
    /// The archive's key and certificate do not belong together, or ran out and the CA's key
    /// is not there to renew them.
    pub fn new_device(
        &mut self,
        crypto: &dyn Crypto,
        now_unix: u64,
        device_key: Box<dyn PrivateKey>,
    ) -> Result<Identity, IdentityError> {
        let account_key = self.read_account_key(crypto)?;
        self.renew(crypto, now_unix)?;
        let Some(account) = self.certificates.first() else {
            return Err(ChainError::NoIssuer.into());
        };
        if *account.spki() != *account_key.public_key() {
            return Err(IdentityError::WrongAccountKey);
        }
        let device = issue(
            crypto,
            CertificateKind::Device,
            device_key.public_key(),
            Some(account),
            account_key.as_ref(),
            now_unix,
        )?;
        let chain = CertificateChain::new(
            core::iter::once(device)
                .chain(self.certificates.iter().cloned())
                .collect(),
        )?;
        let eth = self
            .eth_key
            .get_or_insert_with(|| EthKey::generate(crypto))
            .address();
        let receipt = Receipt::sign(account_key.as_ref(), device_key.public_key(), &eth)?;
        let crls: Vec<_> = self.revocation_list.iter().cloned().collect();
        Identity::load(crypto, device_key.into(), chain, receipt, &crls, now_unix)
    }

    /// Renews the certificates of CA and account with their old keys where they are missing,
    /// ran out, or may not sign. Does nothing without the CA's key. True when something changed.
    ///
    /// # Errors
    /// A key cannot be used.
    pub fn renew(&mut self, crypto: &dyn Crypto, now_unix: u64) -> Result<bool, CryptoError> {
        let Some(ca_key) = &self.ca_key else {
            return Ok(false);
        };
        let usable = |c: &Certificate| c.is_ca() && now_unix <= c.not_after();
        let mut certificates = self.certificates.iter();
        let account = certificates.next().filter(|c| usable(c));
        let ca = certificates.next().filter(|c| usable(c));
        if account.is_some() && ca.is_some() {
            return Ok(false);
        }
        let ca_key = crypto.read_private_key(ca_key)?;
        let account_key = self.read_account_key(crypto)?;
        let kept = ca.is_some();
        let ca = match ca {
            Some(ca) => ca.clone(),
            None => issue(
                crypto,
                CertificateKind::Ca,
                ca_key.public_key(),
                None,
                ca_key.as_ref(),
                now_unix,
            )?,
        };
        let account = match account.filter(|_| kept) {
            Some(account) => account.clone(),
            None => issue(
                crypto,
                CertificateKind::Account,
                account_key.public_key(),
                Some(&ca),
                ca_key.as_ref(),
                now_unix,
            )?,
        };
        self.certificates = vec![account, ca];
        Ok(true)
    }
}
