//! Connection requests, devices and certificates over the DHT.

use super::chains::{Left, Search};
use super::signalling::{Announced, Family, Presence, Signal, Signalling, SignallingError, Wanted};
use crate::dht::{Dht, ListenEvent, PutHandle, PutOptions};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use starling_core::crypto::{Crypto, PrivateKey};
use starling_core::dht::envelope::{self, keys};
use starling_core::dht::{Value, types};
use starling_core::id::{AccountId, DeviceId, DeviceShortId, InfoHash};
use starling_core::identity::{
    Announcement, Certificate, CertificateChain, Identity, RevocationList,
};
use starling_core::peer::request::{PeerRequest, USER_TYPE};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, mpsc};

/// Requests that wait for the manager.
const SIGNAL_QUEUE: usize = 64;
/// Changes of presence that wait for the account.
const PRESENCE_QUEUE: usize = 64;
/// Most announced devices whose short id is remembered for the search of 2023 certificates.
const MAX_ANNOUNCED: usize = 4096;
/// Most devices of one account that are looked at: more are an attack.
pub const MAX_DEVICES: usize = 64;
/// Most values of one account that are looked at for revocation lists, whose signatures are then checked: anybody
/// can put some there, and is not to hide the account's own behind them.
const MAX_LIST_VALUES: usize = 4096;
/// Values with chains that a search looks at before another one has its turn.
const CHAINS_AT_ONCE: usize = 16;

/// The real [`Signalling`]: both addressing schemes at once. Cheap to clone.
#[derive(Clone)]
pub struct DhtSignalling(Arc<Inner>);

struct Inner {
    dht: Dht,
    crypto: Arc<dyn Crypto>,
    key: Arc<dyn PrivateKey>,
    chain: CertificateChain,
    announcement: Value,
    short_ids: Mutex<BTreeMap<DeviceId, DeviceShortId>>,
    /// Searches verify chains in turn.
    verifying: Arc<Semaphore>,
    /// What is published, for as long as this lives.
    published: Mutex<Vec<PutHandle>>,
    /// Our account's lists likewise.
    lists: tokio::sync::Mutex<Vec<(RevocationList, PutHandle)>>,
}

impl DhtSignalling {
    /// For one device of one account. Several may share a node.
    pub fn new(dht: Dht, crypto: Arc<dyn Crypto>, identity: &Identity) -> Self {
        Self(Arc::new(Inner {
            dht,
            crypto,
            key: identity.device_key.clone(),
            chain: identity.chain.clone(),
            announcement: identity.receipt.announcement().clone(),
            short_ids: Mutex::default(),
            verifying: Arc::new(Semaphore::new(1)),
            published: Mutex::default(),
            lists: tokio::sync::Mutex::default(),
        }))
    }
}

impl Inner {
    /// Request values of one event, opened. RSA takes milliseconds, so on another thread.
    async fn open(self: &Arc<Self>, event: ListenEvent, family: Family) -> Vec<Signal> {
        if event.expired {
            return Vec::new();
        }
        let inner = self.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let open = |value| inner.open_request(value, family);
            event.values.iter().filter_map(open).collect()
        });
        opened.await.unwrap_or_default()
    }

    fn open_request(&self, value: &Value, family: Family) -> Option<Signal> {
        // Unencrypted ones are nobody's requests.
        let value = envelope::decrypt(self.crypto.as_ref(), self.key.as_ref(), value).ok()?;
        if value.user_type() != USER_TYPE {
            return None;
        }
        match PeerRequest::decode(value.data()) {
            Ok(request) => Some(Signal {
                request,
                from: value.owner()?.clone(),
                family,
            }),
            Err(why) => {
                tracing::debug!(%why, "a value that is no request");
                None
            }
        }
    }

    async fn send(
        &self,
        to: &Certificate,
        request: &PeerRequest,
        families: &[Family],
    ) -> Result<(), SignallingError> {
        let failed = |e: String| SignallingError(e);
        let mut value = Value::new(types::USER_DATA, request.encode()).with_user_type(USER_TYPE);
        // Tells a push gateway why a phone is to be woken up.
        value.push_type.clone_from(&request.conn_type);
        let sealed =
            envelope::sign_and_encrypt(self.crypto.as_ref(), self.key.as_ref(), &to.spki(), &value)
                .map_err(|e| failed(e.to_string()))?;
        let puts = families.iter().map(|family| {
            let key = match family {
                Family::Short => keys::peer_short(&to.short_id()),
                Family::Long => keys::peer_long(&to.device_id()),
            };
            self.dht.put(key, sealed.clone(), PutOptions::default())
        });
        let results = futures_util::future::join_all(puts).await;
        // One place is enough: the device listens at the other in vain.
        let mut last = Ok(());
        for result in results {
            match result {
                Ok(_) => return Ok(()),
                Err(e) => last = Err(failed(e.to_string())),
            }
        }
        last
    }

    /// The best of the chains that lie where a device publishes its own.
    async fn find(
        &self,
        device: DeviceId,
        short_id: Option<DeviceShortId>,
        wanted: Wanted,
    ) -> Option<CertificateChain> {
        let search = Arc::new(Search::new(device, wanted, self.crypto.clone()));
        let short_id = short_id.or_else(|| self.short_ids().get(&device).copied());
        let long = self.look_at(keys::certificate_long(&device), &search);
        let short = async {
            self.look_at(keys::certificate_short(&short_id?), &search)
                .await
        };
        // Whichever has one that is wanted first; nothing only when both have nothing.
        let (long, short) = (std::pin::pin!(long), std::pin::pin!(short));
        let found = match futures_util::future::select(long, short).await {
            Either::Left((Some(c), _)) | Either::Right((Some(c), _)) => Some(c),
            Either::Left((None, short)) => short.await,
            Either::Right((None, long)) => long.await,
        };
        found.or_else(|| search.next_best())
    }

    /// Shows a search what lies at a key, until it has what is wanted. Reading and verifying are done where they keep
    /// nobody waiting, for one search at a time: a flood of forged chains takes one processor, and no search waits for
    /// more than a few chains of each other one.
    async fn look_at(&self, key: InfoHash, search: &Arc<Search>) -> Option<CertificateChain> {
        let mut values = self.dht.certificate_values(key);
        let mut left = Left::default();
        loop {
            let mut some = Vec::new();
            if values.recv_many(&mut some, CHAINS_AT_ONCE).await == 0 {
                return None;
            }
            let turn = self.verifying.clone().acquire_owned().await.ok()?;
            let search = search.clone();
            let looking = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let found = search.look(&some, &mut left);
                (found, left)
            });
            let found;
            (found, left) = looking.await.ok()?;
            if found.is_some() {
                return found;
            }
        }
    }

    /// The devices in values of an account's place. Devices of writers who left out the key are
    /// found by their certificate.
    async fn announced(&self, account: AccountId, values: &[Value]) -> Vec<Announced> {
        let mut devices = Vec::new();
        // Anybody can put other values there.
        let verify = |value| Announcement::verify(self.crypto.as_ref(), &account, value).ok();
        let verified = values.iter().filter_map(verify);
        for found in verified.take(MAX_DEVICES) {
            let device = match found.device_id() {
                Some(device) => Some(device),
                None => self.dht.find_device(&found.short_id).await,
            };
            let Some(device) = device else { continue };
            let announced = Announced {
                device,
                short_id: found.short_id,
            };
            if !devices.contains(&announced) {
                devices.push(announced);
            }
        }
        let mut known = self.short_ids();
        for announced in &devices {
            if known.len() < MAX_ANNOUNCED {
                known.insert(announced.device, announced.short_id);
            }
        }
        devices
    }

    fn short_ids(&self) -> std::sync::MutexGuard<'_, BTreeMap<DeviceId, DeviceShortId>> {
        self.short_ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signalling for DhtSignalling {
    fn send<'a>(
        &'a self,
        to: &'a Certificate,
        request: &'a PeerRequest,
        families: &'a [Family],
    ) -> BoxFuture<'a, Result<(), SignallingError>> {
        self.0.send(to, request, families).boxed()
    }

    fn listen(&self) -> mpsc::Receiver<Signal> {
        let (signals, receiver) = mpsc::channel(SIGNAL_QUEUE);
        let device = &self.0.chain.device;
        for (family, key) in [
            (Family::Long, keys::peer_long(&device.device_id())),
            (Family::Short, keys::peer_short(&device.short_id())),
        ] {
            let (inner, signals) = (self.0.clone(), signals.clone());
            let mut listen = self.0.dht.listen(key);
            tokio::spawn(async move {
                loop {
                    let event = tokio::select! {
                        () = signals.closed() => return,
                        event = listen.next() => event,
                    };
                    let Some(event) = event else { return };
                    for signal in inner.open(event, family).await {
                        if signals.send(signal).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
        receiver
    }

    fn find_certificate(
        &self,
        device: DeviceId,
        short_id: Option<DeviceShortId>,
        wanted: Wanted,
    ) -> BoxFuture<'_, Option<CertificateChain>> {
        self.0.find(device, short_id, wanted).boxed()
    }

    fn devices_of(&self, account: AccountId) -> BoxFuture<'_, Vec<Announced>> {
        async move {
            let values = self.0.dht.get(keys::announcements(&account)).await;
            self.0.announced(account, &values).await
        }
        .boxed()
    }

    fn watch_devices(&self, account: AccountId) -> mpsc::Receiver<Presence> {
        let (presences, receiver) = mpsc::channel(PRESENCE_QUEUE);
        let inner = self.0.clone();
        let mut listen = self.0.dht.listen(keys::announcements(&account));
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    () = presences.closed() => return,
                    event = listen.next() => event,
                };
                let Some(event) = event else { return };
                for device in inner.announced(account, &event.values).await {
                    let online = !event.expired;
                    if presences.send(Presence { device, online }).await.is_err() {
                        return;
                    }
                }
            }
        });
        receiver
    }

    fn public_addresses(&self) -> Vec<IpAddr> {
        let status = self.0.dht.status();
        let status = status.borrow();
        let v4 = status.public_v4.map(IpAddr::V4);
        v4.into_iter()
            .chain(status.public_v6.map(IpAddr::V6))
            .collect()
    }

    fn revocation_lists(&self, account: AccountId) -> BoxFuture<'_, Vec<RevocationList>> {
        async move {
            let values = self.0.dht.get(keys::announcements(&account)).await;
            let lists = values.iter().map(RevocationList::from_value);
            lists.filter_map(Result::ok).take(MAX_LIST_VALUES).collect()
        }
        .boxed()
    }

    fn publish_list<'a>(
        &'a self,
        list: &'a RevocationList,
    ) -> BoxFuture<'a, Result<(), SignallingError>> {
        async move {
            // One after the other: what is being put is not put a second time, under another id.
            let mut lists = self.0.lists.lock().await;
            if lists.iter().any(|(published, _)| published.contains(list)) {
                return Ok(());
            }
            let key = keys::announcements(&self.0.chain.account_id());
            let put = self
                .0
                .dht
                .put(key, list.to_value(), PutOptions::permanent());
            let handle = put.await.map_err(|e| SignallingError(e.to_string()))?;
            // What it contains need not be renewed.
            lists.retain(|(published, _)| !list.contains(published));
            lists.push((list.clone(), handle));
            Ok(())
        }
        .boxed()
    }

    fn publish(&self) -> BoxFuture<'_, Result<(), SignallingError>> {
        async move {
            let failed = |e: crate::dht::PutError| SignallingError(e.to_string());
            let device = &self.0.chain.device;
            let certificate = envelope::certificate_value(&self.0.chain.to_pem());
            let account = self.0.chain.account_id();
            let mut handles = Vec::new();
            for (key, value) in [
                (
                    keys::certificate_long(&device.device_id()),
                    certificate.clone(),
                ),
                (keys::certificate_short(&device.short_id()), certificate),
                (keys::announcements(&account), self.0.announcement.clone()),
            ] {
                let put = self.0.dht.put(key, value, PutOptions::permanent());
                handles.push(put.await.map_err(failed)?);
            }
            let mut published = self
                .0
                .published
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *published = handles;
            Ok(())
        }
        .boxed()
    }
}
