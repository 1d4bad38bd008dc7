//! The receipt: what an account gives to a device so that the device can prove to belong to
//! it, and can announce itself without the account's key.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::announcement::{Announcement, AnnouncementError};
use super::chain::CertificateChain;
use crate::crypto::{Crypto, PrivateKey, SignatureAlgorithm, SignatureCheck};
use crate::dht::envelope::EnvelopeError;
use crate::dht::value::{Value, ValueError};
use crate::id::{AccountId, DeviceShortId};

/// Longest receipt that is read, in bytes: one with a key of 8192 bits takes about 5000.
const MAX_RECEIPT_LEN: usize = 16 * 1024;

/// Why a receipt is refused, in the order of the checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Longer than any receipt.
    #[error("the receipt is longer than {MAX_RECEIPT_LEN} bytes")]
    TooLarge,
    /// Not the JSON of a receipt.
    #[error("the receipt cannot be read: {0} is missing or wrong")]
    Malformed(&'static str),
    /// The announcement in it is no DHT value.
    #[error("the receipt's announcement cannot be read: {0}")]
    Value(#[from] ValueError),
    /// The account did not sign it.
    #[error("the receipt's signature is wrong")]
    BadSignature,
    /// It is for another device.
    #[error("the receipt is for another device")]
    WrongDevice,
    /// It is of another account.
    #[error("the receipt is of another account")]
    WrongAccount,
    /// The announcement in it is not good.
    #[error("in the receipt: {0}")]
    Announcement(#[from] AnnouncementError),
    /// The announcement in it lacks the key, without which newer peers ignore it.
    #[error("the receipt's announcement lacks the device's key")]
    NoKey,
}

/// A receipt and its signature. The text is what is signed: it is never written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    text: String,
    signature: Vec<u8>,
    account: AccountId,
    device: DeviceShortId,
    eth: String,
    announcement: Value,
}

impl Receipt {
    /// Makes the receipt of a device. `eth_address` are 40 digits, see [`super::EthKey::address`].
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(
        account_key: &dyn PrivateKey,
        device_spki: &[u8],
        eth_address: &str,
    ) -> Result<Self, EnvelopeError> {
        let account = AccountId::of_key(account_key.public_key());
        let device = DeviceShortId::of_key(device_spki);
        let announcement = Announcement::of_key(device_spki).sign(account_key)?;
        let text = format!(
            r#"{{"id":"{account}","dev":"{device}","eth":"{eth_address}","announce":"{}"}}"#,
            BASE64_STANDARD.encode(announcement.pack())
        );
        let signature = account_key.sign(SignatureAlgorithm::RsaPkcs1Sha512, text.as_bytes())?;
        Ok(Self {
            text,
            signature,
            account,
            device,
            eth: eth_address.to_owned(),
            announcement,
        })
    }

    /// Reads a stored receipt. Nothing is verified: see [`Self::verify`].
    ///
    /// # Errors
    /// It cannot be read.
    pub fn parse(text: &str, signature: &[u8]) -> Result<Self, ReceiptError> {
        if text.len() > MAX_RECEIPT_LEN {
            return Err(ReceiptError::TooLarge);
        }
        let json: serde_json::Value =
            serde_json::from_str(text).map_err(|_| ReceiptError::Malformed("the JSON"))?;
        let field = |name: &'static str| {
            json.get(name)
                .and_then(serde_json::Value::as_str)
                .ok_or(ReceiptError::Malformed(name))
        };
        let announce = BASE64_STANDARD
            .decode(field("announce")?)
            .map_err(|_| ReceiptError::Malformed("announce"))?;
        Ok(Self {
            account: field("id")?
                .parse()
                .map_err(|_| ReceiptError::Malformed("id"))?,
            device: field("dev")?
                .parse()
                .map_err(|_| ReceiptError::Malformed("dev"))?,
            eth: field("eth").unwrap_or_default().to_owned(),
            announcement: Value::unpack_bytes(&announce)?,
            text: text.to_owned(),
            signature: signature.to_vec(),
        })
    }

    /// The text, byte for byte as it was signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The account key's signature over the text.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The account.
    pub fn account_id(&self) -> AccountId {
        self.account
    }

    /// The device.
    pub fn device(&self) -> DeviceShortId {
        self.device
    }

    /// The address that owns the account's registered name.
    pub fn eth_address(&self) -> &str {
        &self.eth
    }

    /// The value to put at the Jami ID after each start, signed by the account; its id is 0.
    pub fn announcement(&self) -> &Value {
        &self.announcement
    }

    /// Whether this is the receipt of the device of this chain.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(
        &self,
        crypto: &dyn Crypto,
        chain: &CertificateChain,
    ) -> Result<(), ReceiptError> {
        let signed = crypto.verify(&SignatureCheck {
            key: chain.account.spki(),
            algorithm: SignatureAlgorithm::RsaPkcs1Sha512,
            message: self.text.as_bytes().to_vec(),
            signature: self.signature.clone(),
        });
        if !signed {
            return Err(ReceiptError::BadSignature);
        }
        if self.device != chain.short_id() {
            return Err(ReceiptError::WrongDevice);
        }
        if self.account != chain.account_id() {
            return Err(ReceiptError::WrongAccount);
        }
        let announced = Announcement::verify(crypto, &self.account, &self.announcement)?;
        if announced.short_id != self.device {
            return Err(ReceiptError::WrongDevice);
        }
        match announced.device_id() {
            None => Err(ReceiptError::NoKey),
            Some(id) if id != chain.device_id() => Err(ReceiptError::WrongDevice),
            Some(_) => Ok(()),
        }
    }
}
