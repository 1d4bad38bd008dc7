//! The whole way: two new accounts on a network of real nodes find each other by Jami ID.
#![allow(clippy::unwrap_used)]

mod account_support;

use account_support::{Bridge, befriend, key_support};
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::{Dht, DhtConfig, PutOptions};
use starling_bridge::peer::{DhtSignalling, Limits, OpenError, PeerConfig, PeerManager};
use starling_core::crypto::Crypto;
use starling_core::dht::envelope::{self, keys};
use starling_core::identity::{CertificateChain, CertificateKind, Identity, create_account, issue};
use starling_core::peer::channel_name::ChannelName;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// Nothing of what is awaited here takes this long on an idle machine; a busy one gets its time.
const PATIENCE: Duration = Duration::from_secs(60);

fn node(bootstrap: Option<&Dht>) -> Dht {
    let config = DhtConfig {
        bind_v4: Some(Ipv4Addr::LOCALHOST),
        bind_v6: None,
        bootstrap: bootstrap
            .map(|b| format!("127.0.0.1:{}", b.ports().0).parse().unwrap())
            .into_iter()
            .collect(),
        ..DhtConfig::default()
    };
    Dht::start(config, Arc::new(AwsLc)).unwrap()
}

fn account() -> Identity {
    create_account(&AwsLc, now(), key_support::keys())
        .unwrap()
        .1
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

fn manager(
    dht: &Dht,
    identity: &Identity,
) -> (
    PeerManager,
    tokio::sync::mpsc::Receiver<starling_bridge::peer::Incoming>,
    tempfile::TempDir,
) {
    manager_that(dht, identity, true)
}

/// One that lets everybody in, or nobody.
fn manager_that(
    dht: &Dht,
    identity: &Identity,
    lets_in: bool,
) -> (
    PeerManager,
    tokio::sync::mpsc::Receiver<starling_bridge::peer::Incoming>,
    tempfile::TempDir,
) {
    let crypto: Arc<dyn Crypto> = Arc::new(AwsLc);
    let directory = tempfile::tempdir().unwrap();
    let signalling = DhtSignalling::new(dht.clone(), crypto.clone(), identity);
    let config = PeerConfig {
        chain: identity.chain.clone(),
        key: identity.device_key.clone(),
        crypto,
        directory: directory.path().to_owned(),
        loopback: true,
        policy: Arc::new(move |_, _| lets_in),
        limits: Limits::default(),
    };
    let (manager, incoming) = PeerManager::start(config, Arc::new(signalling)).unwrap();
    (manager, incoming, directory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alice_finds_bob_by_his_jami_id() {
    let bootstrap = node(None);
    let nodes = [node(Some(&bootstrap)), node(Some(&bootstrap))];
    for n in &nodes {
        assert!(timeout(PATIENCE, n.connected()).await.unwrap());
    }
    let (alice, bob) = (account(), account());
    let (bob_manager, mut bob_incoming, _bob_directory) = manager(&nodes[1], &bob);
    let (alice_manager, _alice_incoming, _alice_directory) = manager(&nodes[0], &alice);
    // She waits for him before he is there.
    let mut presences = alice_manager.watch_devices(bob.account_id());
    alice_manager.publish().await.unwrap();
    bob_manager.publish().await.unwrap();
    let presence = timeout(PATIENCE, presences.recv()).await.unwrap().unwrap();
    assert!(presence.online);
    assert_eq!(presence.device.device, bob.device_id());
    assert_eq!(presence.device.short_id, bob.short_id());

    let name = ChannelName::Message {
        device: bob.device_id(),
    };
    let device = bob.device_id();
    let open = alice_manager.open(&device, Some(bob.account_id()), name.clone());
    let accept = async {
        let incoming = bob_incoming.recv().await.unwrap();
        assert_eq!(incoming.name, name);
        assert_eq!(incoming.account, alice.account_id());
        incoming.accept()
    };
    let (a, mut b) = timeout(PATIENCE, async { tokio::join!(open, accept) })
        .await
        .unwrap();
    let mut a = a.unwrap();
    a.write_all(b"hello bob").await.unwrap();
    let mut buffer = [0; 9];
    b.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello bob");
    // His device is listed as well, once.
    let devices = alice_manager.devices_of(bob.account_id()).await;
    assert_eq!(devices, [presence.device]);
    assert_eq!(alice_manager.devices_of(alice.account_id()).await, []);
}

/// Anybody can put a chain where a device has its own: with the account's certificate, not signed by it, or with their
/// own account's, which signed the same key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_certificates_do_not_hide_a_device() {
    let bootstrap = node(None);
    let nodes = [node(Some(&bootstrap)), node(Some(&bootstrap))];
    for n in &nodes {
        assert!(timeout(PATIENCE, n.connected()).await.unwrap());
    }
    let (alice, bob, mallory) = (account(), account(), account());
    let key = keys::certificate_long(&bob.device_id());
    let forged = CertificateChain {
        account: mallory.chain.account.clone(),
        ..bob.chain.clone()
    };
    let issued = issue(
        &AwsLc,
        CertificateKind::Device,
        &bob.chain.device.spki(),
        Some(&mallory.chain.account),
        mallory.device_key.as_ref(),
        now(),
    );
    let issued = CertificateChain {
        device: issued.unwrap(),
        ..bob.chain.clone()
    };
    for chain in [&forged, &issued] {
        let value = envelope::certificate_value(&chain.to_pem());
        nodes[0]
            .put(key, value, PutOptions::default())
            .await
            .unwrap();
    }
    let (bob_manager, _bob_incoming, _bob_directory) = manager(&nodes[1], &bob);
    let (alice_manager, _alice_incoming, _alice_directory) = manager(&nodes[0], &alice);
    // As long as there is nothing else, that is what is wrong.
    let find = || alice_manager.certificate_of(bob.device_id(), bob.account_id());
    let wrong = find().await.unwrap_err();
    assert!(
        matches!(wrong, OpenError::WrongAccount | OpenError::Chain(_)),
        "{wrong}"
    );
    bob_manager.publish().await.unwrap();
    let there = async { while find().await.is_err() {} };
    timeout(PATIENCE, there).await.unwrap();
    // Whichever comes first.
    for _ in 0..10 {
        let (manager, _incoming, _directory) = manager(&nodes[0], &alice);
        let found = manager.certificate_of(bob.device_id(), bob.account_id());
        assert_eq!(found.await.unwrap(), bob.chain);
    }
}

/// Puts a chain where a device has its own, by both names. A node tells values in the order of their ids; the device's own
/// has the first.
async fn put_forged(dht: &Dht, device: &CertificateChain, chain: &CertificateChain, id: u64) {
    for key in [
        keys::certificate_long(&device.device_id()),
        keys::certificate_short(&device.short_id()),
    ] {
        let value = envelope::certificate_value(&chain.to_pem());
        let value = starling_core::dht::Value { id, ..value };
        dht.put(key, value, PutOptions::default()).await.unwrap();
    }
}

/// The chain of a device with the account's certificate, which its key did not sign.
fn not_signed(of: &CertificateChain, by: &Identity) -> CertificateChain {
    let issued = issue(
        &AwsLc,
        CertificateKind::Device,
        &of.device.spki(),
        Some(&of.account),
        by.device_key.as_ref(),
        now(),
    );
    CertificateChain {
        device: issued.unwrap(),
        ..of.clone()
    }
}

/// Where nobody is expected, and nobody is let in, one good chain is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_certificate_is_found_among_forged_ones() {
    let bootstrap = node(None);
    let nodes = [node(Some(&bootstrap)), node(Some(&bootstrap))];
    for n in &nodes {
        assert!(timeout(PATIENCE, n.connected()).await.unwrap());
    }
    let (alice, bob, mallory) = (account(), account(), account());
    let forge = async |id| {
        let chain = not_signed(&bob.chain, &mallory);
        put_forged(&nodes[0], &bob.chain, &chain, id).await;
    };
    forge(2).await;
    let (bob_manager, _bob_incoming, _bob_directory) = manager(&nodes[1], &bob);
    bob_manager.publish().await.unwrap();
    forge(u64::MAX).await;
    let find = async || {
        let (manager, _incoming, _directory) = manager_that(&nodes[0], &alice, false);
        manager.certificate(bob.device_id(), None).await
    };
    let there = async { while find().await.is_err() {} };
    timeout(PATIENCE, there).await.unwrap();
    for _ in 0..10 {
        assert_eq!(find().await.unwrap(), bob.chain);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_certificates_hide_no_contact_request() {
    let first = account_support::node(None);
    let (alice, bob) = (
        Bridge::of(&first, "Alice").await,
        Bridge::of(&first, "Bob").await,
    );
    let mallory = account();
    let chain = alice.account().dir().join("device.crt");
    let chain = CertificateChain::from_pem(&std::fs::read(chain).unwrap()).unwrap();
    for id in [2, u64::MAX] {
        let forged = not_signed(&chain, &mallory);
        put_forged(&first, &chain, &forged, id).await;
    }
    befriend(&alice, &bob).await;
}
