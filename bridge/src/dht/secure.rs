//! A device on the DHT: values are signed and encrypted on the way out, opened on the way in.

use super::{Dht, Listen, ListenEvent, PutError, PutHandle, PutOptions};
use starling_core::crypto::{Crypto, PrivateKey};
use starling_core::dht::envelope::{self, EnvelopeError, keys};
use starling_core::dht::query::Where;
use starling_core::dht::{Query, Value, types};
use starling_core::id::{DeviceId, DeviceShortId, InfoHash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// A [`Dht`] with a device's key.
#[derive(Clone)]
pub struct SecureDht {
    dht: Dht,
    crypto: Arc<dyn Crypto>,
    key: Arc<dyn PrivateKey>,
    unopened: Arc<Mutex<Unopened>>,
}

/// How many values could not be opened though they were encrypted for this device, by why. None are from honest peers
/// that we understand. What is for somebody else is not counted: it lies at the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unopened {
    /// [`EnvelopeError::Signature`]: not signed by who is said to have, or not signed at all.
    pub signature: u64,
    /// [`EnvelopeError::Value`]: no value.
    pub no_value: u64,
    /// [`EnvelopeError::Recipient`]: signed for another recipient, or for none, and encrypted for this one: passed on
    /// by somebody who got it.
    pub recipient: u64,
}

/// Why a value could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It could not be signed or encrypted.
    #[error("{0}")]
    Envelope(#[from] EnvelopeError),
    /// It could not be put.
    #[error("{0}")]
    Put(#[from] PutError),
}

impl SecureDht {
    /// A device at a node. Several devices may share one node.
    pub fn new(dht: Dht, crypto: Arc<dyn Crypto>, key: Arc<dyn PrivateKey>) -> Self {
        Self {
            dht,
            crypto,
            key,
            unopened: Arc::default(),
        }
    }

    /// What came and could not be opened, since this began and by all its clones: what is got or heard twice counts twice.
    pub fn unopened(&self) -> Unopened {
        *self.counts()
    }

    fn counts(&self) -> MutexGuard<'_, Unopened> {
        self.unopened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node.
    pub fn dht(&self) -> &Dht {
        &self.dht
    }

    /// The device's short id.
    pub fn short_id(&self) -> DeviceShortId {
        DeviceShortId::of_key(self.key.public_key())
    }

    /// The device's id.
    pub fn id(&self) -> DeviceId {
        DeviceId::of_key(self.key.public_key())
    }

    /// Values at a key: encrypted ones for this device are opened, all others and whatever has a
    /// wrong signature are left out; unsigned ones pass.
    pub async fn get(&self, key: InfoHash) -> Vec<Value> {
        let values = self.dht.get(key).await;
        values.iter().filter_map(|v| self.open(v)).collect()
    }

    /// A value as this device may see it (see [`envelope::open`]).
    pub fn open(&self, value: &Value) -> Option<Value> {
        let opened = envelope::open(&*self.crypto, Some(&*self.key), value);
        let mut counts = self.counts();
        match &opened {
            Err(EnvelopeError::Signature) => counts.signature += 1,
            Err(EnvelopeError::Value(_)) => counts.no_value += 1,
            Err(EnvelopeError::Recipient) => counts.recipient += 1,
            _ => {}
        }
        drop(counts);
        opened.ok()
    }

    /// Listens, and opens what comes.
    pub fn listen(&self, key: InfoHash) -> SecureListen {
        SecureListen {
            listen: self.dht.listen(key),
            secure: self.clone(),
        }
    }

    /// Signs and puts a value for all to read.
    pub async fn put_signed(
        &self,
        key: InfoHash,
        value: Value,
        options: PutOptions,
    ) -> Result<PutHandle, SendError> {
        let seq = value.seq();
        let signed = envelope::sign(&*self.key, &value, seq, None)?;
        Ok(self.dht.put(key, signed, options).await?)
    }

    /// Signs a value and encrypts it to the holder of a DER SubjectPublicKeyInfo, and puts it.
    pub async fn put_encrypted(
        &self,
        key: InfoHash,
        recipient_spki: &[u8],
        value: Value,
        options: PutOptions,
    ) -> Result<PutHandle, SendError> {
        let sealed = envelope::sign_and_encrypt(&*self.crypto, &*self.key, recipient_spki, &value)?;
        Ok(self.dht.put(key, sealed, options).await?)
    }

    /// Announces the device's chain (PEM, device first) at both places where it is looked for,
    /// for as long as the handles live.
    pub async fn announce_certificate(&self, chain_pem: &str) -> Result<[PutHandle; 2], PutError> {
        let value = envelope::certificate_value(chain_pem);
        let put = |key| self.dht.put(key, value.clone(), PutOptions::permanent());
        Ok([
            put(keys::certificate_long(&self.id())).await?,
            put(keys::certificate_short(&self.short_id())).await?,
        ])
    }
}

impl Dht {
    /// A certificate chain (DER, device first) that lies where a device publishes its own: the first whose first
    /// certificate is of the device's key, and that `accept` takes. Anybody can put one there.
    pub async fn find_certificate(
        &self,
        device: &DeviceId,
        accept: impl FnMut(&[Vec<u8>]) -> bool,
    ) -> Option<Vec<Vec<u8>>> {
        let is = |spki: &[u8]| DeviceId::of_key(spki) == *device;
        self.find_chain(keys::certificate_long(device), is, accept)
            .await
    }

    /// The same by the short id.
    pub async fn find_certificate_short(
        &self,
        device: &DeviceShortId,
        accept: impl FnMut(&[Vec<u8>]) -> bool,
    ) -> Option<Vec<Vec<u8>>> {
        let is = |spki: &[u8]| DeviceShortId::of_key(spki) == *device;
        self.find_chain(keys::certificate_short(device), is, accept)
            .await
    }

    /// The device with a short id, by its certificate: which key that is of the short id tells.
    pub async fn find_device(&self, device: &DeviceShortId) -> Option<DeviceId> {
        let chain = self.find_certificate_short(device, |_| true).await?;
        envelope::spki_of_certificate(chain.first()?).map(|spki| DeviceId::of_key(&spki))
    }

    /// The values with certificates at a key as they are found, as [`Self::get_stream`] gives them.
    pub fn certificate_values(&self, key: InfoHash) -> mpsc::Receiver<Arc<Value>> {
        let query = Query {
            select: Vec::new(),
            wheres: vec![Where::Type(types::CERTIFICATE)],
        };
        self.get_stream(key, query)
    }

    async fn find_chain(
        &self,
        key: InfoHash,
        is: impl Fn(&[u8]) -> bool,
        mut accept: impl FnMut(&[Vec<u8>]) -> bool,
    ) -> Option<Vec<Vec<u8>>> {
        let mut found = self.certificate_values(key);
        // The first that fits ends the search.
        while let Some(value) = found.recv().await {
            if envelope::certificate_key(&value).is_some_and(|spki| is(&spki)) {
                let chain = envelope::certificates(&value);
                if accept(&chain) {
                    return Some(chain);
                }
            }
        }
        None
    }
}

/// A listen whose values are opened.
pub struct SecureListen {
    listen: Listen,
    secure: SecureDht,
}

impl SecureListen {
    /// The next event with at least one value this device may see; `None` once the node has stopped.
    pub async fn next(&mut self) -> Option<ListenEvent> {
        loop {
            let event = self.listen.next().await?;
            let values: Vec<Value> = event
                .values
                .iter()
                .filter_map(|v| self.secure.open(v))
                .collect();
            if !values.is_empty() {
                return Some(ListenEvent {
                    values,
                    expired: event.expired,
                });
            }
        }
    }
}
