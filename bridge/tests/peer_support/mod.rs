//! Accounts made by a real daemon, and a DHT inside the process.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use starling_bridge::crypto::AwsLc;
use starling_bridge::peer::*;
use starling_core::crypto::{Crypto, PrivateKey};
use starling_core::id::{AccountId, DeviceId, DeviceShortId};
use starling_core::identity::{
    Certificate, CertificateChain, Identity, RevocationList, private_key_from_pem,
};
use starling_core::peer::ice_text::IceText;
use starling_core::peer::request::PeerRequest;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

pub mod watched;

pub struct Person {
    pub chain: CertificateChain,
    pub key: Arc<dyn PrivateKey>,
}

macro_rules! person {
    ($name:literal) => {
        $crate::peer_support::Person::read(
            include_bytes!(concat!("../data/peer/", $name, "-chain.pem")),
            include_bytes!(concat!("../data/peer/", $name, "-device.key")),
        )
    };
}

pub fn alice() -> Person {
    person!("ann")
}

pub fn bob() -> Person {
    person!("ben")
}

pub fn carol() -> Person {
    person!("cat")
}

impl Person {
    fn read(chain: &[u8], key: &[u8]) -> Self {
        let chain = CertificateChain::from_pem(chain).unwrap();
        let key = private_key_from_pem(&AwsLc, key).unwrap();
        Self {
            chain,
            key: key.into(),
        }
    }

    /// A device of an account that was made for the test.
    pub fn of(identity: &Identity) -> Self {
        Self {
            chain: identity.chain.clone(),
            key: identity.device_key.clone(),
        }
    }

    pub fn device(&self) -> DeviceId {
        self.chain.device_id()
    }

    pub fn account(&self) -> AccountId {
        self.chain.account_id()
    }
}

/// Changes the addresses of a request, or of an answer.
pub type Reroute = Box<dyn Fn(&mut IceText, bool) + Send>;

/// All mailboxes, and what is published.
#[derive(Default)]
pub struct World {
    boxes: Mutex<BTreeMap<DeviceId, mpsc::Sender<Signal>>>,
    pub chains: Mutex<BTreeMap<DeviceId, CertificateChain>>,
    /// Whether requests are lost.
    pub deaf: std::sync::atomic::AtomicBool,
    pub sent: Mutex<Vec<PeerRequest>>,
    /// What becomes of the addresses in requests and answers on their way.
    pub reroute: Mutex<Option<Reroute>>,
    /// Whether certificates take for ever to be found.
    pub withheld: tokio::sync::watch::Sender<bool>,
    /// Whether lists take as long.
    pub lists_withheld: tokio::sync::watch::Sender<bool>,
    /// How many lists are still not taken when somebody publishes them.
    pub lists_refused: std::sync::atomic::AtomicUsize,
    /// Whose lists were looked for.
    pub asked_for_lists: Mutex<Vec<AccountId>>,
    /// What lies where accounts publish what they revoke.
    pub lists: Mutex<BTreeMap<AccountId, Vec<RevocationList>>>,
}

pub struct LocalSignalling {
    world: Arc<World>,
    chain: CertificateChain,
}

impl Signalling for LocalSignalling {
    fn send<'a>(
        &'a self,
        to: &'a Certificate,
        request: &'a PeerRequest,
        families: &'a [Family],
    ) -> BoxFuture<'a, Result<(), SignallingError>> {
        async move {
            self.world.sent.lock().unwrap().push(request.clone());
            let mut request = request.clone();
            if let Some(reroute) = &*self.world.reroute.lock().unwrap() {
                let mut text = IceText::parse(&request.ice_msg).unwrap();
                reroute(&mut text, request.is_answer);
                request.ice_msg = text.to_string();
            }
            if self.world.deaf.load(std::sync::atomic::Ordering::SeqCst) {
                return Ok(());
            }
            let to = self
                .world
                .boxes
                .lock()
                .unwrap()
                .get(&to.device_id())
                .cloned();
            for family in families {
                // As the DHT does: through the codec, and more than once.
                let request = PeerRequest::decode(&request.encode()).unwrap();
                let signal = Signal {
                    request,
                    from: self.chain.device.spki(),
                    family: *family,
                };
                if let Some(to) = &to {
                    let _ = to.send(signal.clone()).await;
                    let _ = to.send(signal).await;
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn listen(&self) -> mpsc::Receiver<Signal> {
        let (tx, rx) = mpsc::channel(64);
        self.world
            .boxes
            .lock()
            .unwrap()
            .insert(self.chain.device_id(), tx);
        rx
    }

    fn find_certificate(
        &self,
        device: DeviceId,
        _: Option<DeviceShortId>,
        _: Wanted,
    ) -> BoxFuture<'_, Option<CertificateChain>> {
        let mut withheld = self.world.withheld.subscribe();
        async move {
            let _ = withheld.wait_for(|withheld| !withheld).await;
            self.world.chains.lock().unwrap().get(&device).cloned()
        }
        .boxed()
    }

    fn devices_of(&self, account: AccountId) -> BoxFuture<'_, Vec<Announced>> {
        let chains = self.world.chains.lock().unwrap();
        let devices = chains
            .values()
            .filter(|c| c.account_id() == account)
            .map(|c| Announced {
                device: c.device_id(),
                short_id: c.short_id(),
            })
            .collect();
        std::future::ready(devices).boxed()
    }

    fn watch_devices(&self, _: AccountId) -> mpsc::Receiver<Presence> {
        mpsc::channel(1).1
    }

    fn revocation_lists(&self, account: AccountId) -> BoxFuture<'_, Vec<RevocationList>> {
        self.world.asked_for_lists.lock().unwrap().push(account);
        let mut withheld = self.world.lists_withheld.subscribe();
        async move {
            let _ = withheld.wait_for(|withheld| !withheld).await;
            let lists = self.world.lists.lock().unwrap().get(&account).cloned();
            lists.unwrap_or_default()
        }
        .boxed()
    }

    fn publish_list<'a>(
        &'a self,
        list: &'a RevocationList,
    ) -> BoxFuture<'a, Result<(), SignallingError>> {
        use std::sync::atomic::Ordering::SeqCst;
        let refused = &self.world.lists_refused;
        if refused
            .fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1))
            .is_ok()
        {
            return std::future::ready(Err(SignallingError("not now".into()))).boxed();
        }
        let mut lists = self.world.lists.lock().unwrap();
        let own = lists.entry(self.chain.account_id()).or_default();
        own.push(list.clone());
        std::future::ready(Ok(())).boxed()
    }

    fn publish(&self) -> BoxFuture<'_, Result<(), SignallingError>> {
        let chain = self.chain.clone();
        self.world
            .chains
            .lock()
            .unwrap()
            .insert(chain.device_id(), chain);
        std::future::ready(Ok(())).boxed()
    }
}

pub struct Peer {
    pub manager: PeerManager,
    pub incoming: mpsc::Receiver<Incoming>,
    pub directory: tempfile::TempDir,
    pub account: AccountId,
    pub device: DeviceId,
}

pub async fn peer(world: &Arc<World>, person: &Person) -> Peer {
    peer_with(world, person, Arc::new(|_, _| true)).await
}

pub async fn peer_with(world: &Arc<World>, person: &Person, policy: Policy) -> Peer {
    peer_in(world, person, policy, tempfile::tempdir().unwrap()).await
}

pub async fn peer_in(
    world: &Arc<World>,
    person: &Person,
    policy: Policy,
    directory: tempfile::TempDir,
) -> Peer {
    peer_checking(world, person, policy, directory, Arc::new(AwsLc)).await
}

/// One that checks signatures so.
pub async fn peer_checking(
    world: &Arc<World>,
    person: &Person,
    policy: Policy,
    directory: tempfile::TempDir,
    crypto: Arc<dyn Crypto>,
) -> Peer {
    let signalling = Arc::new(LocalSignalling {
        world: world.clone(),
        chain: person.chain.clone(),
    });
    let config = PeerConfig {
        chain: person.chain.clone(),
        key: person.key.clone(),
        crypto,
        directory: directory.path().to_owned(),
        loopback: true,
        policy,
        limits: Limits::default(),
    };
    let (manager, incoming) = PeerManager::start(config, signalling).unwrap();
    manager.publish().await.unwrap();
    // The task that listens has to be there before anyone sends.
    while !world.boxes.lock().unwrap().contains_key(&person.device()) {
        tokio::task::yield_now().await;
    }
    Peer {
        manager,
        incoming,
        directory,
        account: person.account(),
        device: person.device(),
    }
}
