//! Devices that their owner took back: how others hear of it, and that they are not let in from then on.
#![allow(clippy::unwrap_used)]

mod account_support;
mod owner_support;
mod peer_support;

use account_support::{Bridge, PATIENCE, befriend, node, refused};
use owner_support::{Owner, bent, now};
use peer_support::*;
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::{Dht, PutOptions};
use starling_bridge::peer::{
    Channel, DhtSignalling, Limits, LinkState, OpenError, PeerConfig, PeerManager, REVOCATIONS,
    RevocationStore, Signalling as _,
};
use starling_core::api::{AccountState, Device, ErrorCode, Event};
use starling_core::dht::Value;
use starling_core::id::{AccountId, ConversationId, DeviceId};
use starling_core::identity::{
    Archive, CertificateChain, ChainError, Credential, Identity, MAX_LISTS, RevocationError,
    RevocationList, Revoked, private_key_from_pem,
};
use starling_core::peer::channel_name::ChannelName;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

const REVOKED: OpenError = OpenError::Chain(ChainError::Revoked { at: 0 });

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
    assert_eq!(take(&foreign), Err(RevocationError::WrongIssuer.into()));
    assert_eq!(take(&usurped), Err(RevocationError::BadSignature.into()));
    assert_eq!(
        take(&bent(&newer)),
        Err(RevocationError::BadSignature.into())
    );
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
    assert_eq!(laptop.manager.own_lists(), std::slice::from_ref(&list));
    assert!(events.try_recv().is_err(), "the phone was never met");
    // The phone hears that it is itself that was meant.
    let phone = peer(&world, &Person::of(&phone)).await;
    let mut events = phone.manager.events();
    phone.manager.take_list(&id, list).unwrap();
    let event = events.recv().await.unwrap();
    assert_eq!((event.device, event.account), (phone.device, Some(id)));
    assert_eq!(event.state, LinkState::Failed { why: REVOKED });
}

/// Lists of somebody who has the account's key, each of which takes back something else: a stranger's
/// device.
fn lists_of_a_thief(owner: &Owner, many: u8, len: usize) -> Vec<RevocationList> {
    let (key, account) = (owner.key.as_ref(), &owner.archive.certificates[0]);
    let list = |n: u8| {
        let serial = |i: usize| [&[1, n][..], &u32::try_from(i).unwrap().to_be_bytes()].concat();
        let revoked: Vec<_> = (0..len)
            .map(|i| Revoked {
                serial: serial(i),
                date: now(),
            })
            .collect();
        RevocationList::sign(account, key, now(), &[1], &revoked).unwrap()
    };
    (0..many).map(list).collect()
}

/// Whoever stole a device whose archive has no password has the account's key, and may be first.
#[tokio::test]
async fn lists_of_a_thief_do_not_keep_the_owners_out() {
    let world = Arc::new(World::default());
    let (mut owner, laptop) = Owner::new();
    let phone = owner.device();
    let id = laptop.account_id();
    let mut bob = peer(&world, &bob()).await;
    let laptop = peer(&world, &Person::of(&laptop)).await;
    let (_laptop, _) = open(&laptop, &mut bob, 1).await;
    let theirs = lists_of_a_thief(&owner, 20, 1);
    let take = |list: &RevocationList| bob.manager.take_list(&id, list.clone());
    let taken = theirs.iter().map(take).filter(Result::is_ok).count();
    assert_eq!(taken, MAX_LISTS);
    // The phone was not met yet: its owner's list comes too late, and lies where it is looked for.
    let owners = owner.list(None, &phone);
    assert_eq!(take(&owners), Err(RevocationError::TooMany.into()));
    let all = [theirs.clone(), vec![owners.clone()]].concat();
    world.lists.lock().unwrap().insert(id, all);
    let phone = peer(&world, &Person::of(&phone)).await;
    not_let_in(&world, &phone, &bob).await;
    assert_eq!(bob.manager.certificates().get(&phone.device), None);
    // Of somebody who is there already it counts at once, and puts out one that says nothing of anybody.
    let (mut owner, laptop) = Owner::new();
    let tablet = owner.device();
    let list = owner.list(None, &tablet);
    let tablet = peer(&world, &Person::of(&tablet)).await;
    let (mut channel, _there) = open(&tablet, &mut bob, 2).await;
    let id = laptop.account_id();
    for theirs in lists_of_a_thief(&owner, 20, 1) {
        let _ = bob.manager.take_list(&id, theirs);
    }
    assert_eq!(bob.manager.take_list(&id, list.clone()), Ok(()));
    assert!(channel.read_to_end(&mut Vec::new()).await.is_err());
    for theirs in lists_of_a_thief(&owner, 40, 1) {
        let _ = bob.manager.take_list(&id, theirs);
    }
    assert!(bob.manager.is_revoked(&id, &tablet.device));
    // On the disk as well.
    let store = RevocationStore::open(
        &bob.directory.path().join(REVOCATIONS),
        bob.account,
        Arc::new(AwsLc),
    );
    let kept = store.unwrap().lists(&id);
    assert!(kept.len() == MAX_LISTS && kept.contains(&list));
}

/// An owner's laptop, her phone, which she took back as is found where that is looked for, and Bob.
async fn with_a_removed_phone(world: &Arc<World>) -> (Identity, Peer, Peer) {
    let (mut owner, laptop) = Owner::new();
    let phone = owner.device();
    let list = owner.list(None, &phone);
    let id = laptop.account_id();
    world.lists.lock().unwrap().insert(id, vec![list]);
    let bob = peer(world, &bob()).await;
    let phone = peer(world, &Person::of(&phone)).await;
    (laptop, phone, bob)
}

/// Who knows whom it wants to meet asks for certificate and lists at the same time.
#[tokio::test]
async fn lists_are_looked_for_beside_the_certificate() {
    let world = Arc::new(World::default());
    let (laptop, phone, bob) = with_a_removed_phone(&world).await;
    let id = laptop.account_id();
    world.withheld.send_replace(true);
    let open = |account| {
        let (manager, device) = (bob.manager.clone(), phone.device);
        tokio::spawn(async move { manager.open(&device, Some(account), swarm(1)).await })
    };
    let asked = || world.asked_for_lists.lock().unwrap().clone();
    // Somebody whose device it is not: nothing is learned of his lists by that.
    let nobody = AccountId([9; 20]);
    for round in 1..=2 {
        let opening = open(nobody);
        while asked().len() < round {
            tokio::task::yield_now().await;
        }
        world.withheld.send_replace(false);
        assert_eq!(opening.await.unwrap().unwrap_err(), OpenError::WrongAccount);
        world.withheld.send_replace(true);
    }
    assert_eq!(asked(), [nobody, nobody]);
    let opening = open(id);
    while asked().len() < 3 {
        tokio::task::yield_now().await;
    }
    world.withheld.send_replace(false);
    assert_eq!(opening.await.unwrap().unwrap_err(), REVOKED);
    assert_eq!(asked(), [nobody, nobody, id]);
}

/// A chain that names the account and is not signed by it says nothing of whose lists are whose: what was found beside it
/// is looked for again, and who asks meanwhile waits for the same.
#[tokio::test]
async fn a_forged_certificate_does_not_hide_that_a_device_was_taken_back() {
    let world = Arc::new(World::default());
    let (laptop, phone, bob) = with_a_removed_phone(&world).await;
    let id = laptop.account_id();
    let (mut owner, _) = Owner::new();
    let forged = {
        let device = owner.device();
        let mut chain = device.chain.clone();
        // The account's certificate is theirs, the device's is not signed by it.
        chain.account = laptop.chain.account.clone();
        chain.ca = laptop.chain.ca.clone();
        chain
    };
    let forged_device = forged.device_id();
    world.chains.lock().unwrap().insert(forged_device, forged);
    world.withheld.send_replace(true);
    world.lists_withheld.send_replace(true);
    let open = |device| {
        let (manager, id) = (bob.manager.clone(), id);
        tokio::spawn(async move { manager.open(&device, Some(id), swarm(1)).await })
    };
    let asked = || world.asked_for_lists.lock().unwrap().clone();
    let first = open(forged_device);
    while asked().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = open(phone.device);
    // It gets as far as it does.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    world.lists_withheld.send_replace(false);
    world.withheld.send_replace(false);
    let first = first.await.unwrap().unwrap_err();
    assert!(
        matches!(first, OpenError::Chain(_)) && first != REVOKED,
        "{first}"
    );
    assert_eq!(second.await.unwrap().unwrap_err(), REVOKED);
    assert_eq!(asked(), [id]);
}

/// Bytes of the files of a directory.
fn on_the_disk(dir: &Path) -> usize {
    let files = dir.read_dir().unwrap();
    let len = |f: std::io::Result<std::fs::DirEntry>| f.unwrap().metadata().unwrap().len();
    usize::try_from(files.map(len).sum::<u64>()).unwrap()
}

/// Whoever makes accounts and lists without end does not fill the disk, and takes neither our own
/// lists nor those of honest people.
#[test]
fn lists_of_all_take_no_more_than_their_room() {
    const ROOM: usize = 8 << 20;
    let dir = tempfile::tempdir().unwrap();
    let (mut own, first) = Owner::new();
    let (mut honest, _) = Owner::new();
    let (own_id, honest_id) = (
        first.account_id(),
        honest.archive.certificates[0].account_id(),
    );
    let open = || RevocationStore::open(dir.path(), own_id, Arc::new(AwsLc)).unwrap();
    let store = open();
    let take = |of: &Owner, list: &RevocationList| {
        store.take(&of.archive.certificates[0], list.clone(), &[])
    };
    let (of_own, of_honest) = (own.device(), honest.device());
    let (own_list, honest_list) = (own.list(None, &of_own), honest.list(None, &of_honest));
    assert_eq!(take(&own, &own_list), Ok(true));
    assert_eq!(take(&honest, &honest_list), Ok(true));
    // As long as they may be.
    let per_list = 2450;
    let mut ids = Vec::new();
    for _ in 0..20 {
        let (evil, _) = Owner::new();
        for list in lists_of_a_thief(&evil, 8, per_list) {
            assert!(list.der().len() > 60_000, "{}", list.der().len());
            assert_eq!(take(&evil, &list), Ok(true));
            assert!(on_the_disk(dir.path()) <= ROOM + own_list.der().len());
        }
        ids.push(evil.archive.certificates[0].account_id());
    }
    let held = |store: &RevocationStore| {
        let lists = ids.iter().flat_map(|id| store.lists(id));
        lists.map(|l| l.der().len()).sum::<usize>()
    };
    let full = held(&store);
    assert!(full > ROOM / 2 && full <= ROOM, "{full}");
    assert_eq!(store.lists(&own_id), std::slice::from_ref(&own_list));
    assert_eq!(store.lists(&honest_id), std::slice::from_ref(&honest_list));
    // The same is there when it begins again, and what somebody put there besides is deleted.
    assert_eq!(held(&open()), full);
    let (evil, _) = Owner::new();
    let evil_id = evil.archive.certificates[0].account_id();
    for (n, list) in lists_of_a_thief(&evil, 30, per_list).iter().enumerate() {
        std::fs::write(dir.path().join(format!("{evil_id}-{n}.crl")), list.der()).unwrap();
    }
    assert!(on_the_disk(dir.path()) > ROOM);
    let again = open();
    assert!(on_the_disk(dir.path()) <= ROOM + own_list.der().len());
    assert_eq!(again.lists(&own_id), [own_list]);
}

/// Several tasks publish what they know, and one list that contains another takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_list_lies_there_once() {
    let first = node(None);
    let other = node(Some(&first));
    assert!(other.connected().await);
    let (mut owner, laptop) = Owner::new();
    let (phone, tablet) = (owner.device(), owner.device());
    let older = owner.list(None, &phone);
    let newer = owner.list(Some(&older), &tablet);
    let signalling = DhtSignalling::new(other.clone(), Arc::new(AwsLc), &laptop);
    let puts = (0..8).map(|_| {
        let (signalling, list) = (signalling.clone(), newer.clone());
        tokio::spawn(async move { signalling.publish_list(&list).await })
    });
    for put in futures_util::future::join_all(puts).await {
        put.unwrap().unwrap();
    }
    signalling.publish_list(&older).await.unwrap();
    let found = timeout(PATIENCE, async {
        loop {
            let found = signalling.revocation_lists(laptop.account_id()).await;
            if found.contains(&newer) {
                return found;
            }
        }
    });
    let found = found.await.unwrap();
    assert_eq!(found, [newer]);
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
    revoked_device(whose, which.device_id())
}

fn revoked_device(whose: AccountId, which: DeviceId) -> impl Fn(&Event) -> Option<()> {
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
    let archive = Archive::read(&backup, &Credential::None, &AwsLc).unwrap();
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
    let kept = Archive::read(&backup, &Credential::None, &AwsLc).unwrap();
    assert_eq!(kept.revocation_list.as_ref(), Some(&list));
    let tablet = Bridge::from_backup(&first, &backup, None).await;
    let backup = tablet.account().export(None).await.unwrap();
    let kept = Archive::read(&backup, &Credential::None, &AwsLc).unwrap();
    assert_eq!(kept.revocation_list, Some(list));
}

/// The bridge stopped when the list was on the disk, and nobody had been told yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_of_a_revoked_device_outlast_an_end_in_the_middle() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let mut bob = Bridge::of(&first, "Bob").await;
    befriend(&alice, &bob).await;
    let backup = alice.account().export(None).await.unwrap();
    let owner = Owner::of(Archive::read(&backup, &Credential::None, &AwsLc).unwrap());
    let device = alice.account().device_id();
    let chain = bob
        .account()
        .dir()
        .join(format!("peers/certificates/{device}.crt"));
    let chain = CertificateChain::from_pem(&std::fs::read(chain).unwrap()).unwrap();
    bob.heard("her device", |e| match e {
        Event::DeviceAdded { device: d, .. } => (*d == device).then_some(()),
        _ => None,
    })
    .await;
    let told = revoked_device(alice.id(), device);
    let (key, account) = (owner.key.as_ref(), &owner.archive.certificates[0]);
    let list = RevocationList::revoke(None, &chain.device, account, key, &AwsLc, now()).unwrap();
    let (own, lists) = (
        bob.id(),
        bob.account().dir().join("peers").join(REVOCATIONS),
    );
    bob.stop().await;
    let store = RevocationStore::open(&lists, own, Arc::new(AwsLc)).unwrap();
    assert_eq!(store.take(account, list, &[]), Ok(true));
    drop(store);
    bob.open().await;
    bob.heard("what became of her device", &told).await;
    // Once.
    bob.stop().await;
    bob.open().await;
    let carol = Bridge::of(&first, "Carol").await;
    befriend(&carol, &bob).await;
    assert_eq!(bob.events().iter().filter_map(&told).count(), 1);
}

/// Both of a person's devices are Starling's; the one takes the other back, and a friend hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_takes_another_one_back() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    alice
        .account()
        .change_password(None, Some("secret"))
        .await
        .unwrap();
    let backup = alice.account().export(Some("secret")).await.unwrap();
    let phone = Bridge::from_backup(&first, &backup, Some("secret")).await;
    let device = phone.account().device_id();
    bob.heard("the phone", |e| match e {
        Event::DeviceAdded { device: d, .. } => (*d == device).then_some(()),
        _ => None,
    })
    .await;
    // Bob and the phone talk.
    phone
        .ready(id, "the conversation at the phone", |_| true)
        .await;
    phone
        .account()
        .send(id, "by phone".into(), None)
        .await
        .unwrap();
    bob.has_texts(id, &["by phone"]).await;

    let revoke = async |device, password| alice.account().revoke_device(device, password).await;
    let named = |e: starling_core::api::ApiError| (e.code, e.message);
    for wrong in [None, Some("wrong")] {
        let (code, text) = named(refused(revoke(device, wrong).await));
        assert_eq!(code, ErrorCode::WrongPassword, "{text}");
    }
    let own = alice.account().device_id();
    let (code, text) = named(refused(revoke(own, Some("secret")).await));
    assert_eq!(code, ErrorCode::Conflict, "{text}");
    let bobs = bob.account().device_id();
    let (code, text) = named(refused(revoke(bobs, Some("secret")).await));
    assert_eq!(code, ErrorCode::NotFound, "{text}");
    assert!(!alice.account().peers().is_revoked(&alice.id(), &device));

    // What cannot be kept is not said to be done.
    let lists = alice.account().dir().join("peers").join(REVOCATIONS);
    let aside = lists.with_extension("aside");
    std::fs::rename(&lists, &aside).unwrap();
    let (code, text) = named(refused(revoke(device, Some("secret")).await));
    assert_eq!(code, ErrorCode::Internal, "{text}");
    assert!(text.contains(&device.to_string()), "{text}");
    std::fs::rename(&aside, &lists).unwrap();

    revoke(device, Some("secret")).await.unwrap();
    assert_eq!(lists.read_dir().unwrap().count(), 1);
    let file = std::fs::read(alice.account().dir().join("archive.gz")).unwrap();
    let archive = Archive::read(&file, &Credential::password("secret"), &AwsLc).unwrap();
    let list = archive.revocation_list.clone().unwrap();
    assert_eq!(list.revoked().len(), 1);
    for who in [&alice, &bob] {
        who.heard(
            "what became of the phone",
            revoked_device(alice.id(), device),
        )
        .await;
        assert!(who.account().peers().is_revoked(&alice.id(), &device));
    }
    phone
        .heard("that it was taken back", |e| match e {
            Event::BridgeNotice { code, .. } => (code == "device_revoked").then_some(()),
            _ => None,
        })
        .await;
    let state = phone.account().view().state;
    assert_eq!(state, AccountState::Revoked);
    assert_ne!(alice.account().view().state, AccountState::Revoked);
    // What it says stays with it, and her other device goes on.
    let lone = phone.account().send(id, "am I heard?".into(), None).await;
    assert!(lone.is_ok());
    alice
        .account()
        .send(id, "by laptop".into(), None)
        .await
        .unwrap();
    bob.has_texts(id, &["by phone", "by laptop"]).await;

    let listed = alice.account().own_devices().await.unwrap();
    let view = |device, current, revoked| Device {
        device,
        current,
        revoked,
    };
    assert_eq!(listed, [view(own, true, false), view(device, false, true)]);
    let listed = phone.account().own_devices().await.unwrap();
    assert_eq!(listed[0], view(device, true, true));

    // Once more changes nothing.
    revoke(device, Some("secret")).await.unwrap();
    let file = std::fs::read(alice.account().dir().join("archive.gz")).unwrap();
    let archive = Archive::read(&file, &Credential::password("secret"), &AwsLc).unwrap();
    assert_eq!(archive.revocation_list, Some(list.clone()));

    // Of another device that was taken back elsewhere a backup loses nothing.
    let mut owner = Owner::of(archive);
    let (watch, tablet) = (owner.device(), owner.device());
    let apart = owner.list(None, &watch);
    alice
        .account()
        .peers()
        .take_list(&alice.id(), apart.clone())
        .unwrap();
    let more = owner.list(Some(&apart), &tablet);
    alice
        .account()
        .peers()
        .take_list(&alice.id(), more.clone())
        .unwrap();
    let backup = alice.account().export(Some("secret")).await.unwrap();
    let kept = Archive::read(&backup, &Credential::password("secret"), &AwsLc).unwrap();
    let kept = kept.revocation_list.unwrap();
    assert!(kept.contains(&list) && kept.contains(&more));
    assert_eq!(kept.revoked().len(), 3);
    // And that one takes the place of the others.
    assert_eq!(alice.account().peers().own_lists(), [kept]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_taken_back_says_so_itself() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let backup = alice.account().export(None).await.unwrap();
    let owner = Owner::of(Archive::read(&backup, &Credential::None, &AwsLc).unwrap());
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
    let shown = |e: &Event| match e {
        Event::AccountState { state, .. } => (*state == AccountState::Revoked).then_some(()),
        _ => None,
    };
    alice.heard("it as the account's state", shown).await;
    // It can be read still, and says it again when it is begun again.
    alice.stop().await;
    let before = alice.events().iter().filter_map(told).count();
    alice.open().await;
    let after = alice.events().iter().filter_map(told).count();
    assert_eq!((before, after), (1, 2));
    assert_eq!(alice.account().view().state, AccountState::Revoked);
}
