//! Devices that their owner took back: how others hear of it, and that they are not let in from then on.
#![allow(clippy::unwrap_used)]

mod account_support;
mod peer_support;

use account_support::{Bridge, PATIENCE, befriend, named, node};
use peer_support::*;
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::{Dht, PutOptions};
use starling_bridge::peer::{
    Channel, DhtSignalling, Limits, LinkState, OpenError, PeerConfig, PeerManager,
};
use starling_core::api::Event;
use starling_core::crypto::{Crypto as _, PrivateKey};
use starling_core::dht::Value;
use starling_core::id::{AccountId, ConversationId};
use starling_core::identity::{
    Archive, ChainError, Credential, Identity, RevocationError, RevocationList, create_account,
    private_key_from_pem,
};
use starling_core::peer::channel_name::ChannelName;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

const REVOKED: OpenError = OpenError::Chain(ChainError::Revoked { at: 0 });

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// An account with its archive, which makes devices and takes them back.
struct Owner {
    archive: Archive,
    key: Box<dyn PrivateKey>,
}

impl Owner {
    /// With its first device.
    fn new() -> (Self, Identity) {
        let (archive, first) = create_account(&AwsLc, now(), account_support::keys()).unwrap();
        (Self::of(archive), first)
    }

    fn of(archive: Archive) -> Self {
        let key = archive.read_account_key(&AwsLc).unwrap();
        Self { archive, key }
    }

    fn device(&mut self) -> Identity {
        let key = AwsLc.generate_rsa(2048).unwrap();
        self.archive.new_device(&AwsLc, now(), key).unwrap()
    }

    fn list(&self, previous: Option<&RevocationList>, device: &Identity) -> RevocationList {
        let chain = &device.chain;
        let (key, account) = (self.key.as_ref(), &self.archive.certificates[0]);
        RevocationList::revoke(previous, &chain.device, account, key, &AwsLc, now()).unwrap()
    }
}

/// A list with another signature.
fn bent(list: &RevocationList) -> RevocationList {
    let mut der = list.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    RevocationList::from_der(&der).unwrap()
}

fn swarm(n: u8) -> ChannelName {
    ChannelName::Swarm {
        conversation: ConversationId([n; 20]),
    }
}

/// One asks, the other accepts.
async fn open(from: &Peer, to: &mut Peer, n: u8) -> (Channel, Channel) {
    let (opened, accepted) = tokio::join!(
        from.manager.open(&to.device, Some(to.account), swarm(n)),
        async { to.incoming.recv().await.unwrap().accept() },
    );
    (opened.unwrap(), accepted)
}

/// That a device which asks hears nothing, and cannot be asked.
async fn not_let_in(world: &World, device: &Peer, who: &Peer) {
    let answers = || {
        world
            .sent
            .lock()
            .unwrap()
            .iter()
            .filter(|r| r.is_answer)
            .count()
    };
    let before = answers();
    let mut events = device.manager.events();
    let asking = {
        let (manager, to) = (device.manager.clone(), who.device);
        tokio::spawn(async move { manager.open(&to, None, swarm(99)).await })
    };
    while events.recv().await.unwrap().state != LinkState::Negotiating {}
    timeout(Duration::from_millis(300), events.recv())
        .await
        .unwrap_err();
    assert_eq!(answers(), before);
    let asked = who.manager.open(&device.device, None, swarm(98)).await;
    assert_eq!(asked.unwrap_err(), REVOKED);
    asking.abort();
}

#[tokio::test]
async fn a_revoked_device_is_not_let_in() {
    let world = Arc::new(World::default());
    let (mut owner, laptop) = Owner::new();
    let phone = owner.device();
    let list = owner.list(None, &phone);
    world
        .lists
        .lock()
        .unwrap()
        .insert(laptop.account_id(), vec![list]);
    let mut bob = peer(&world, &bob()).await;
    let laptop = peer(&world, &Person::of(&laptop)).await;
    let phone = peer(&world, &Person::of(&phone)).await;
    // Nobody has heard of the account before.
    not_let_in(&world, &phone, &bob).await;
    let (_here, _there) = open(&laptop, &mut bob, 1).await;
    assert_eq!(bob.manager.connected(), [(laptop.device, laptop.account)]);
    assert_eq!(bob.manager.certificates().get(&phone.device), None);
}

#[tokio::test]
async fn a_connection_ends_when_its_device_is_revoked_and_the_list_outlasts_a_restart() {
    let world = Arc::new(World::default());
    let (mut owner, laptop) = Owner::new();
    let phone = owner.device();
    let list = owner.list(None, &phone);
    let mut bob_there = peer(&world, &bob()).await;
    let laptop = peer(&world, &Person::of(&laptop)).await;
    let stolen = Person::of(&phone);
    let phone = peer(&world, &stolen).await;
    let (_laptop, _) = open(&laptop, &mut bob_there, 1).await;
    let (mut channel, mut at_bob) = open(&phone, &mut bob_there, 2).await;
    channel.write_all(b"hello").await.unwrap();
    at_bob.read_exact(&mut [0; 5]).await.unwrap();

    let mut events = bob_there.manager.events();
    bob_there
        .manager
        .take_list(&phone.account, list.clone())
        .unwrap();
    assert!(channel.read_to_end(&mut Vec::new()).await.is_err());
    let closed = loop {
        let event = events.recv().await.unwrap();
        assert_eq!(event.device, phone.device);
        if let LinkState::Closed { why } = event.state {
            break why;
        }
    };
    assert_eq!(closed, REVOKED);
    assert_eq!(
        bob_there.manager.connected(),
        [(laptop.device, laptop.account)]
    );
    not_let_in(&world, &phone, &bob_there).await;

    // Nobody publishes it any more, and Bob begins again.
    bob_there.manager.shutdown();
    bob_there.manager.closed().await;
    let bob = peer_in(&world, &bob(), Arc::new(|_, _| true), bob_there.directory).await;
    assert!(bob.manager.is_revoked(&phone.account, &phone.device));
    assert!(!bob.manager.is_revoked(&laptop.account, &laptop.device));
    // Its first attempt is still waited for.
    let phone = peer(&world, &stolen).await;
    not_let_in(&world, &phone, &bob).await;
}

#[tokio::test]
async fn lists_of_others_forged_and_older_ones_change_nothing() {
    let world = Arc::new(World::default());
    let (mut owner, laptop) = Owner::new();
    let (phone, tablet) = (owner.device(), owner.device());
    let older = owner.list(None, &phone);
    let newer = owner.list(Some(&older), &tablet);
    let (thief, _) = Owner::new();
    // Of another account, and of one that takes the name of this one.
    let foreign = thief.list(None, &laptop);
    let (account, key) = (&owner.archive.certificates[0], thief.key.as_ref());
    let device = &laptop.chain.device;
    let usurped = RevocationList::revoke(None, device, account, key, &AwsLc, now()).unwrap();
    let id = laptop.account_id();
    let lists = vec![
        foreign.clone(),
        usurped.clone(),
        bent(&owner.list(None, &laptop)),
    ];
    world.lists.lock().unwrap().insert(id, lists);

    let mut bob = peer(&world, &bob()).await;
    let [laptop, phone, tablet] = [&laptop, &phone, &tablet].map(Person::of);
    let laptop = peer(&world, &laptop).await;
    let (phone, tablet) = (peer(&world, &phone).await, peer(&world, &tablet).await);
    for (n, device) in [&laptop, &phone, &tablet].into_iter().enumerate() {
        drop(open(device, &mut bob, u8::try_from(n).unwrap()).await);
    }
    let take = |list: &RevocationList| bob.manager.take_list(&id, list.clone());
    assert_eq!(take(&foreign), Err(RevocationError::WrongIssuer));
    assert_eq!(take(&usurped), Err(RevocationError::BadSignature));
    assert_eq!(take(&bent(&newer)), Err(RevocationError::BadSignature));
    let revoked =
        || [&laptop, &phone, &tablet].map(|p| bob.manager.is_revoked(&p.account, &p.device));
    assert_eq!(revoked(), [false, false, false]);
    assert_eq!(take(&newer), Ok(()));
    assert_eq!(revoked(), [false, true, true]);
    // As the owner of the tablet would like.
    assert_eq!(take(&older), Ok(()));
    assert_eq!(revoked(), [false, true, true]);
    let kept = bob.directory.path().join("revocations").read_dir().unwrap();
    assert_eq!(kept.count(), 1);
    // Of an account that was never met: nothing is kept.
    assert_eq!(bob.manager.take_list(&AccountId([7; 20]), foreign), Ok(()));
}

/// Anybody can issue a certificate for the key of another's device, and revoke it.
#[tokio::test]
async fn what_others_revoke_of_a_device_says_nothing() {
    let world = Arc::new(World::default());
    let (mut mallory, _) = Owner::new();
    let key = include_bytes!("data/peer/ben-device.key");
    let key = private_key_from_pem(&AwsLc, key).unwrap();
    let claimed = mallory.archive.new_device(&AwsLc, now(), key).unwrap();
    let thief = claimed.account_id();
    let carol = peer(&world, &carol()).await;
    // Carol meets it as Mallory's, and hears that he revoked it.
    drop(peer(&world, &Person::of(&claimed)).await);
    let device = bob().device();
    let chain = carol.manager.certificate(device, None).await.unwrap();
    assert_eq!(chain.account_id(), thief);
    let list = mallory.list(None, &claimed);
    carol.manager.take_list(&thief, list.clone()).unwrap();
    assert!(carol.manager.is_revoked(&thief, &device));
    assert!(!carol.manager.is_revoked(&bob().account(), &device));
    let as_bobs = carol.manager.open(&device, Some(bob().account()), swarm(1));
    assert_eq!(as_bobs.await.unwrap_err(), OpenError::WrongAccount);
    // Bob himself is let in all the same, and reached.
    let mut bob = peer(&world, &bob()).await;
    let mut events = carol.manager.events();
    let (_here, _there) = open(&carol, &mut bob, 2).await;
    assert_eq!(carol.manager.connected(), [(bob.device, bob.account)]);
    while let Ok(event) = events.try_recv() {
        assert!(
            !matches!(event.state, LinkState::Failed { .. }),
            "{event:?}"
        );
    }
    carol.manager.take_list(&thief, list).unwrap();
    assert_eq!(carol.manager.connected(), [(bob.device, bob.account)]);
}

#[tokio::test]
async fn every_device_publishes_what_its_account_took_back() {
    let world = Arc::new(World::default());
    let (mut owner, laptop) = Owner::new();
    let phone = owner.device();
    let list = owner.list(None, &phone);
    let id = laptop.account_id();
    let laptop = peer(&world, &Person::of(&laptop)).await;
    let mut events = laptop.manager.events();
    laptop.manager.take_list(&id, list.clone()).unwrap();
    // The task that publishes it runs on this thread.
    while !world.lists.lock().unwrap().contains_key(&id) {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        world.lists.lock().unwrap()[&id],
        std::slice::from_ref(&list)
    );
    assert_eq!(laptop.manager.own_list(), Some(list.clone()));
    assert!(events.try_recv().is_err(), "the phone was never met");
    // The phone hears that it is itself that was meant.
    let phone = peer(&world, &Person::of(&phone)).await;
    let mut events = phone.manager.events();
    phone.manager.take_list(&id, list).unwrap();
    let event = events.recv().await.unwrap();
    assert_eq!((event.device, event.account), (phone.device, Some(id)));
    assert_eq!(event.state, LinkState::Failed { why: REVOKED });
}

/// Puts a value where an account publishes its lists.
async fn put(dht: &Dht, at: AccountId, value: Value) -> bool {
    let stored = dht.put(at.dht_key(), value, PutOptions::default()).await;
    stored.is_ok()
}

/// Connections of a device and nothing else.
async fn device(dht: &Dht, identity: &Identity) -> (PeerManager, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = PeerConfig {
        chain: identity.chain.clone(),
        key: identity.device_key.clone(),
        crypto: Arc::new(AwsLc),
        directory: dir.path().to_owned(),
        loopback: true,
        policy: Arc::new(|_, _| true),
        limits: Limits::default(),
    };
    let signalling = DhtSignalling::new(dht.clone(), Arc::new(AwsLc), identity);
    let (manager, mut incoming) = PeerManager::start(config, Arc::new(signalling)).unwrap();
    tokio::spawn(async move {
        while let Some(i) = incoming.recv().await {
            i.decline()
        }
    });
    timeout(PATIENCE, manager.publish()).await.unwrap().unwrap();
    (manager, dir)
}

fn revoked(whose: AccountId, which: &Identity) -> impl Fn(&Event) -> Option<()> {
    let which = which.device_id();
    move |e| match e {
        Event::DeviceRevoked { id, device, .. } => (*id == whose && *device == which).then_some(()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_daemon_publishes_takes_a_contacts_stolen_device_out() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let mut bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    // Her phone was made from a backup.
    let backup = alice.account().export(None).await.unwrap();
    let archive = Archive::read(&backup, &Credential::None).unwrap();
    let mut owner = Owner::of(archive);
    let phone = owner.device();
    let phone_node = node(Some(&first));
    assert!(phone_node.connected().await);
    let (manager, _dir) = device(&phone_node, &phone).await;
    let name = ChannelName::Message {
        device: bob.account().device_id(),
    };
    let to = (bob.account().device_id(), Some(bob.id()));
    let opened = timeout(PATIENCE, manager.open(&to.0, to.1, name.clone())).await;
    let mut channel = opened.unwrap().unwrap();
    bob.heard("the phone", |e| match e {
        Event::DeviceAdded { device, .. } => (*device == phone.device_id()).then_some(()),
        _ => None,
    })
    .await;

    // What others put there says nothing.
    let (thief, _) = Owner::new();
    let at = alice.id();
    assert!(put(&phone_node, at, thief.list(None, &phone).to_value()).await);
    let list = owner.list(None, &phone);
    assert!(put(&phone_node, at, bent(&list).to_value()).await);
    let junk = Value::new(0, [&[0xc5, 0x01, 0x00][..], &[0x30; 256]].concat());
    assert!(put(&phone_node, at, junk).await);
    assert!(
        !bob.events()
            .iter()
            .any(|e| revoked(at, &phone)(e).is_some())
    );

    assert!(put(&phone_node, at, list.to_value()).await);
    let end = timeout(PATIENCE, channel.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok(), "the connection goes on");
    bob.heard("what became of the phone", revoked(at, &phone))
        .await;
    alice
        .heard("what became of her phone", revoked(at, &phone))
        .await;
    // Nobody answers it any more.
    let again = manager.open(&to.0, to.1, name);
    timeout(Duration::from_secs(2), again).await.unwrap_err();
    // Her other device goes on.
    alice
        .account()
        .send(id, "it was stolen".into(), None)
        .await
        .unwrap();
    bob.has_texts(id, &["it was stolen"]).await;

    // It is said once.
    bob.stop().await;
    bob.open().await;
    alice
        .account()
        .send(id, "still".into(), None)
        .await
        .unwrap();
    bob.has_texts(id, &["it was stolen", "still"]).await;
    let said = bob.events().iter().filter_map(revoked(at, &phone)).count();
    assert_eq!(said, 1);

    // A backup keeps it, and whoever is made from that knows it and says it, too.
    let backup = alice.account().export(None).await.unwrap();
    let kept = Archive::read(&backup, &Credential::None).unwrap();
    assert_eq!(kept.revocation_list.as_ref(), Some(&list));
    let tablet = Bridge::start(&first).await;
    tablet
        .accounts()
        .import(&backup, None, named(""))
        .await
        .unwrap();
    let backup = tablet.account().export(None).await.unwrap();
    let kept = Archive::read(&backup, &Credential::None).unwrap();
    assert_eq!(kept.revocation_list, Some(list));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_taken_back_says_so_itself() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let backup = alice.account().export(None).await.unwrap();
    let owner = Owner::of(Archive::read(&backup, &Credential::None).unwrap());
    let own = std::fs::read(alice.account().dir().join("device.crt")).unwrap();
    let chain = starling_core::identity::CertificateChain::from_pem(&own).unwrap();
    let (key, account) = (owner.key.as_ref(), &owner.archive.certificates[0]);
    let list = RevocationList::revoke(None, &chain.device, account, key, &AwsLc, now()).unwrap();
    let told = |e: &Event| match e {
        Event::BridgeNotice { code, .. } => (code == "device_revoked").then_some(()),
        _ => None,
    };
    assert!(put(&alice.dht, alice.id(), list.to_value()).await);
    alice.heard("that it was taken back", told).await;
    // It can be read still, and says it again when it is begun again.
    alice.stop().await;
    let before = alice.events().iter().filter_map(told).count();
    alice.open().await;
    let after = alice.events().iter().filter_map(told).count();
    assert_eq!((before, after), (1, 2));
}
