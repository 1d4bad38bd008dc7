//! The announcement: an account says at its Jami ID which devices it has.

use std::sync::Arc;

use crate::crypto::{Crypto, PrivateKey};
use crate::dht::envelope::{self, EnvelopeError};
use crate::dht::types::{USER_DATA, signature_check};
use crate::dht::value::Value;
use crate::id::{AccountId, DeviceId, DeviceShortId};
use crate::msgpack::{self, MsgpackError};

/// Largest announcement that is read, in bytes: a key of 8192 bits takes about 1060.
const MAX_ANNOUNCEMENT_LEN: usize = 4096;

/// Why a value announces no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnouncementError {
    /// Not readable msgpack, or too much of it.
    #[error(transparent)]
    Msgpack(#[from] MsgpackError),
    /// Neither the short id nor the key of a device.
    #[error("the announcement names no device")]
    NoDevice,
    /// The short id is not that of the key.
    #[error("the announcement names two different devices")]
    Contradiction,
    /// Not signed, or by someone else than the account that was asked for.
    #[error("the announcement is not the account's own")]
    WrongOwner,
    /// The signature does not fit.
    #[error("the announcement's signature is wrong")]
    BadSignature,
}

/// One device of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The device by its old name.
    pub short_id: DeviceShortId,
    /// DER SubjectPublicKeyInfo of the device's key; writers before 2021 leave it out.
    pub key: Option<Arc<[u8]>>,
}

impl Announcement {
    /// Of a device.
    pub fn of_key(spki_der: &[u8]) -> Self {
        Self {
            short_id: DeviceShortId::of_key(spki_der),
            key: Some(spki_der.into()),
        }
    }

    /// The device, if its key is stated.
    pub fn device_id(&self) -> Option<DeviceId> {
        self.key.as_deref().map(DeviceId::of_key)
    }

    /// Reads the data of a value. Who signed it is another question: see [`Self::verify`].
    ///
    /// # Errors
    /// The reason why it announces nothing.
    pub fn decode(data: &[u8]) -> Result<Self, AnnouncementError> {
        let map = msgpack::decode(data, MAX_ANNOUNCEMENT_LEN)?;
        let blob = |key: &str| msgpack::get(&map, key).and_then(msgpack::bytes);
        let short_id = blob("dev").and_then(DeviceShortId::from_slice);
        let key = blob("pk").filter(|k| !k.is_empty());
        match (short_id, key) {
            (Some(short_id), None) => Ok(Self {
                short_id,
                key: None,
            }),
            (None, None) => Err(AnnouncementError::NoDevice),
            (Some(short_id), Some(key)) if short_id != DeviceShortId::of_key(key) => {
                Err(AnnouncementError::Contradiction)
            }
            (_, Some(key)) => Ok(Self::of_key(key)),
        }
    }

    /// Writes the data of a value.
    pub fn encode(&self) -> Vec<u8> {
        let mut map = vec![(
            "dev".into(),
            msgpack::Value::Binary(self.short_id.0.to_vec()),
        )];
        if let Some(key) = &self.key {
            map.push(("pk".into(), msgpack::Value::Binary(key.to_vec())));
        }
        msgpack::encode(&msgpack::Value::Map(map))
    }

    /// The value as the account signs it once for the device's receipt: of id 0, which the
    /// putting node replaces.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&self, account_key: &dyn PrivateKey) -> Result<Value, EnvelopeError> {
        envelope::sign(account_key, &Value::new(USER_DATA, self.encode()), 0, None)
    }

    /// Reads a value found at an account's Jami ID.
    ///
    /// # Errors
    /// It is not signed by the account, or announces nothing.
    pub fn verify(
        crypto: &dyn Crypto,
        account: &AccountId,
        value: &Value,
    ) -> Result<Self, AnnouncementError> {
        if value.owner_id() != Some(account.dht_key()) {
            return Err(AnnouncementError::WrongOwner);
        }
        let announcement = Self::decode(value.data())?;
        match signature_check(value) {
            Some(check) if crypto.verify(&check) => Ok(announcement),
            _ => Err(AnnouncementError::BadSignature),
        }
    }
}
