//! The whole way: two new accounts on a network of real nodes find each other by Jami ID.
#![allow(clippy::unwrap_used)]

use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::{Dht, DhtConfig};
use starling_bridge::peer::{DhtSignalling, Limits, PeerConfig, PeerManager};
use starling_core::crypto::Crypto;
use starling_core::identity::{AccountKeys, Identity, create_account};
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
    let mut keys = AwsLc.generate_rsa_keys(2048, 3).unwrap().into_iter();
    let keys = AccountKeys {
        ca: keys.next().unwrap(),
        account: keys.next().unwrap(),
        device: keys.next().unwrap(),
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    create_account(&AwsLc, now, keys).unwrap().1
}

fn manager(
    dht: &Dht,
    identity: &Identity,
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
        policy: Arc::new(|_, _| true),
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
