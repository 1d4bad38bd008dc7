//! Our node on real sockets: restarts, both families, the local network, and what goes wrong.
#![allow(clippy::unwrap_used)]

mod multicast_support;
mod skip_support;

use skip_support::skip;
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::{
    BootstrapAddr, Connectivity, Dht, DhtConfig, DhtNodeOptions, PutError, PutOptions, SecureDht,
    Unopened, run_dhtnode,
};
use starling_core::crypto::{Crypto as _, PrivateKey};
use starling_core::dht::node::Refusals;
use starling_core::dht::value::Content;
use starling_core::dht::{Value, envelope, types};
use starling_core::id::{DeviceShortId, InfoHash};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Nothing of what is awaited here takes this long on an idle machine; a busy one gets its time.
const PATIENCE: Duration = Duration::from_secs(60);

fn local(bootstrap: &[u16]) -> DhtConfig {
    DhtConfig {
        bind_v4: Some(Ipv4Addr::LOCALHOST),
        bind_v6: None,
        bootstrap: bootstrap.iter().map(|p| at(*p)).collect(),
        ..DhtConfig::default()
    }
}

fn at(port: u16) -> BootstrapAddr {
    format!("127.0.0.1:{port}").parse().unwrap()
}

fn start(config: DhtConfig) -> Dht {
    Dht::start(config, Arc::new(AwsLc)).unwrap()
}

async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{what} takes too long"))
}

fn hello(text: &str) -> Value {
    Value::new(types::USER_DATA, text.into())
}

#[tokio::test]
async fn a_node_that_is_alone_says_so() {
    let alice = start(local(&[]));
    let key = InfoHash::of(b"alone");
    assert_eq!(soon("get", alice.get(key)).await, []);
    let put = soon("put", alice.put(key, hello("alone"), PutOptions::default())).await;
    assert_eq!(put.map(|_| ()), Err(PutError::Nobody));
    assert_eq!(
        alice.status().borrow().connectivity(),
        Connectivity::Disconnected
    );
    // It finds what is its own all the same.
    assert_eq!(soon("get", alice.get(key)).await.len(), 1);
}

#[tokio::test]
async fn a_node_that_was_shut_down_says_so() {
    let alice = start(local(&[]));
    alice.shutdown().await;
    let key = InfoHash::of(b"over");
    let put = alice.put(key, hello("over"), PutOptions::default()).await;
    assert_eq!(put.map(|_| ()), Err(PutError::Stopped));
    assert_eq!(alice.get(key).await, []);
    assert_eq!(alice.listen(key).next().await, None);
    alice.shutdown().await;
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let alice = start(local(&[]));
    let config = DhtConfig {
        port: alice.ports().0,
        ..local(&[])
    };
    let error = Dht::start(config, Arc::new(AwsLc)).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_node_finds_back_by_what_it_knew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/dht.state");
    let bob = start(local(&[]));
    let config = DhtConfig {
        state_path: Some(path.clone()),
        ..local(&[bob.ports().0])
    };
    let alice = start(config);
    assert!(soon("joining", alice.connected()).await);
    let id = alice.id();
    soon("stopping", alice.shutdown()).await;

    let again = DhtConfig {
        state_path: Some(path.clone()),
        ..local(&[])
    };
    let alice = start(again.clone());
    assert_eq!(alice.id(), id);
    assert!(soon("joining again", alice.connected()).await);
    assert_eq!(alice.nodes().await[0].id, bob.id());
    soon("stopping", alice.shutdown()).await;

    // A file that is broken costs what it held, not more.
    std::fs::write(&path, b"broken").unwrap();
    let alice = start(again);
    assert_ne!(alice.id(), id);
    alice.bootstrap(vec![at(bob.ports().0)]);
    assert!(soon("joining by bootstrap", alice.connected()).await);
}

/// A connection request, which lives for a minute, of which ten seconds are left: long enough to get there on a busy
/// machine.
fn short_lived() -> (Value, PutOptions) {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let options = PutOptions {
        permanent: false,
        created: Some(i64::try_from(now.as_secs()).unwrap() - 50),
    };
    let value = Value::new(types::ICE_CANDIDATES, b"short".to_vec());
    (value, options)
}

#[tokio::test]
async fn what_is_stored_for_others_outlasts_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = |bootstrap: &[u16]| DhtConfig {
        state_path: Some(dir.path().join("dht.state")),
        ..local(bootstrap)
    };
    let bob = start(keeps(&[]));
    let key = InfoHash::of(b"week");
    // Alice asks somebody to be her friend, and goes.
    let alice = start(local(&[bob.ports().0]));
    assert!(soon("joining", alice.connected()).await);
    let request = Value::new(types::TRUST_REQUEST, b"friends?".to_vec());
    soon("put", alice.put(key, request, PutOptions::default()))
        .await
        .unwrap();
    // What lives for a minute, of which most is over, is not there any more when Bob comes back.
    let mut ear = bob.listen(key);
    let (short, options) = short_lived();
    soon("put", alice.put(key, short, options)).await.unwrap();
    let bytes = async |node: &Dht| node.usage().await.bytes;
    while !soon("the end", ear.next()).await.unwrap().expired {}
    soon("stopping", alice.shutdown()).await;
    let before = bytes(&bob).await;
    assert!(before > 0);
    soon("stopping", bob.shutdown()).await;

    // He is alone at first: what he knows is in the file.
    let bob = start(keeps(&[]));
    assert_eq!(bytes(&bob).await, before);
    let carol = start(local(&[bob.ports().0]));
    assert!(soon("joining", carol.connected()).await);
    let found = soon("get", carol.get(key)).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].data(), b"friends?");
    assert_eq!(found[0].type_id(), types::TRUST_REQUEST);
    soon("stopping", bob.shutdown()).await;

    // And once more, of a run in which nobody put anything.
    let bob = start(keeps(&[]));
    assert_eq!(bytes(&bob).await, before);
}

/// A restart makes nobody be there who is gone.
#[tokio::test]
async fn who_left_while_a_node_was_down_is_not_found_in_what_it_stored() {
    let dir = tempfile::tempdir().unwrap();
    let keeps = || DhtConfig {
        state_path: Some(dir.path().join("dht.state")),
        ..local(&[])
    };
    let bob = start(keeps());
    let key = InfoHash::of(b"here I am");
    let announced = || hello("here").with_id(1);
    let alice = start(local(&[bob.ports().0]));
    assert!(soon("joining", alice.connected()).await);
    let mut handle = alice
        .put(key, announced(), PutOptions::permanent())
        .await
        .unwrap();
    soon("put", handle.stored()).await.unwrap();
    assert_eq!(soon("get", bob.get(key)).await.len(), 1);
    soon("stopping", bob.shutdown()).await;
    soon("stopping", alice.shutdown()).await;

    let bob = start(keeps());
    assert_eq!(bob.usage().await.values, 1);
    let mut ear = bob.listen(key);
    assert_eq!(soon("get", bob.get(key)).await, []);
    // Others are told what they would have been told without the restart.
    let carol = start(local(&[bob.ports().0]));
    assert!(soon("joining", carol.connected()).await);
    assert_eq!(soon("get", carol.get(key)).await.len(), 1);
    assert_eq!(soon("get", bob.get(key)).await, []);
    // Back is who says so.
    let alice = start(local(&[bob.ports().0]));
    assert!(soon("joining", alice.connected()).await);
    let _handle = alice
        .put(key, announced(), PutOptions::permanent())
        .await
        .unwrap();
    let event = soon("news", ear.next()).await.unwrap();
    assert!(!event.expired);
    assert_eq!(event.values[0].data(), b"here");
    assert_eq!(soon("get", bob.get(key)).await.len(), 1);
}

#[tokio::test]
async fn both_families_carry_values() {
    let loopback = DhtConfig {
        bind_v6: Some(Ipv6Addr::LOCALHOST),
        ..local(&[])
    };
    let bob = start(loopback.clone());
    let (_, port) = bob.ports();
    if port == 0 {
        return skip("this machine has no IPv6");
    }
    let alice = start(DhtConfig {
        bootstrap: vec![format!("[::1]:{port}").parse().unwrap()],
        ..loopback
    });
    assert!(soon("joining", alice.connected()).await);
    let mut status = alice.status();
    soon(
        "IPv6",
        status.wait_for(|s| s.v6.connectivity == Connectivity::Connected),
    )
    .await
    .unwrap();
    let key = InfoHash::of(b"six");
    let mut ear = bob.listen(key);
    soon("put", alice.put(key, hello("six"), PutOptions::default()))
        .await
        .unwrap();
    let event = soon("news", ear.next()).await.unwrap();
    assert_eq!(event.values[0].data(), b"six");
    assert_eq!(soon("get", bob.get(key)).await.len(), 1);
}

#[tokio::test]
async fn a_node_that_vanished_and_came_back_is_found_again() {
    let bob = start(local(&[]));
    let port = bob.ports().0;
    let alice = start(local(&[port]));
    assert!(soon("joining", alice.connected()).await);
    let key = InfoHash::of(b"back");
    let mut permanent = alice
        .put(key, hello("still here"), PutOptions::permanent())
        .await
        .unwrap();
    soon("put", permanent.stored()).await.unwrap();
    soon("stopping", bob.shutdown()).await;

    // Another one, at the same place, who knows nothing.
    let bob = start(DhtConfig { port, ..local(&[]) });
    alice.network_changed();
    assert!(soon("joining again", bob.connected()).await);
    let mut ear = bob.listen(key);
    let event = soon("the permanent value", ear.next()).await.unwrap();
    assert_eq!(event.values[0].data(), b"still here");
}

#[tokio::test]
async fn large_values_and_many_values_cross() {
    let bob = start(local(&[]));
    let alice = start(local(&[bob.ports().0]));
    assert!(soon("joining", alice.connected()).await);
    let key = InfoHash::of(b"large");
    let big = Value::new(types::USER_DATA, vec![7; 65_000]);
    soon("put", alice.put(key, big, PutOptions::default()))
        .await
        .unwrap();
    for i in 0..60 {
        soon(
            "put",
            alice.put(key, hello(&i.to_string()), PutOptions::default()),
        )
        .await
        .unwrap();
    }
    let carol = start(local(&[bob.ports().0]));
    assert!(soon("joining", carol.connected()).await);
    let mut found = soon("get", carol.get(key)).await;
    found.sort_by_key(|v| v.data().len());
    assert_eq!(found.len(), 61);
    assert_eq!(found[60].data(), vec![7; 65_000]);
}

#[tokio::test]
async fn listens_hear_what_goes() {
    let bob = start(local(&[]));
    let alice = start(local(&[bob.ports().0]));
    assert!(soon("joining", alice.connected()).await);
    let key = InfoHash::of(b"goes");
    let mut ear = bob.listen(key);
    let (value, options) = short_lived();
    soon("put", alice.put(key, value, options)).await.unwrap();
    let event = soon("news", ear.next()).await.unwrap();
    assert!(!event.expired);
    let event = soon("the end", ear.next()).await.unwrap();
    assert!(event.expired);
    assert_eq!(event.values[0].data(), b"short");
}

/// Two nodes of a network of this test alone, as others may run beside it, find each other.
async fn find_each_other(family: u32, edit: impl Fn(&mut DhtConfig)) {
    let mut config = DhtConfig {
        network_id: family + u32::from(std::process::id() as u16),
        lan_discovery: true,
        ..local(&[])
    };
    edit(&mut config);
    let bob = start(config.clone());
    let alice = start(config.clone());
    // Somebody of another network is there as well.
    config.network_id += 1_000_000;
    let mallory = start(config);
    assert!(soon("discovery", alice.connected()).await);
    assert!(soon("discovery", bob.connected()).await);
    for (node, other) in [(&alice, &bob), (&bob, &alice)] {
        let nodes = node.nodes().await;
        assert!(nodes.iter().all(|n| n.id == other.id()), "{nodes:?}");
    }
    assert!(mallory.nodes().await.is_empty());
}

#[tokio::test]
async fn nodes_of_a_local_network_find_each_other() {
    if !multicast_support::works(false) {
        return skip("no multicast on this machine");
    }
    find_each_other(100_000, |c| c.bind_v4 = Some(Ipv4Addr::UNSPECIFIED)).await;
}

#[tokio::test]
async fn nodes_of_a_local_network_find_each_other_by_ipv6_alone() {
    if !multicast_support::works(true) {
        return skip("no multicast of IPv6 on this machine");
    }
    find_each_other(200_000, |c| {
        c.bind_v4 = None;
        c.bind_v6 = Some(Ipv6Addr::UNSPECIFIED);
    })
    .await;
}

/// What is encrypted for a device and is wrong inside no storing node sees: the device does, and counts it by why.
#[tokio::test]
async fn what_cannot_be_opened_is_left_out_and_counted() {
    let bob = start(local(&[]));
    let mallory = start(local(&[bob.ports().0]));
    assert!(soon("joining", mallory.connected()).await);
    let new_key = || -> Arc<dyn PrivateKey> { Arc::from(AwsLc.generate_rsa(2048).unwrap()) };
    let (hers, his, alices) = (new_key(), new_key(), new_key());
    let bob = SecureDht::new(bob, Arc::new(AwsLc), his.clone());
    let key = InfoHash::of(b"bob's inbox");
    let mut ear = bob.listen(key);

    let signed = |recipient: &dyn PrivateKey, text: &str| {
        let recipient = InfoHash::of(recipient.public_key());
        envelope::sign(&*hers, &hello(text), 0, Some(recipient)).unwrap()
    };
    let for_bob = |plain: &[u8]| envelope::encrypt_bytes(&AwsLc, his.public_key(), plain).unwrap();
    let put = async |id, cipher| {
        let value = Value {
            content: Content::Encrypted(cipher),
            ..hello("").with_id(id)
        };
        soon("put", mallory.put(key, value, PutOptions::default()))
            .await
            .unwrap();
    };
    let clear = |value: &Value| value.clear().unwrap().clone();
    let mut expected = Unopened::default();

    // She says that it is of Alice.
    let mut forged = clear(&signed(&*his, "of Alice"));
    forged.signed.as_mut().unwrap().owner = alices.public_key().into();
    put(1, for_bob(&forged.to_encrypt())).await;
    expected.signature += 1;
    // Or changes what was signed.
    let mut changed = clear(&signed(&*his, "yes"));
    changed.data = b"no".to_vec();
    put(2, for_bob(&changed.to_encrypt())).await;
    expected.signature += 1;
    put(3, for_bob(b"\x81")).await;
    expected.no_value += 1;
    put(4, for_bob(&[0xc1; 1000])).await;
    expected.no_value += 1;
    // What she wrote to Alice, as if it had been to Bob.
    put(
        5,
        for_bob(&clear(&signed(&*alices, "for you")).to_encrypt()),
    )
    .await;
    expected.recipient += 1;
    // Neither what is for Alice nor noise is for Bob.
    let spki = alices.public_key();
    put(6, envelope::encrypt_bytes(&AwsLc, spki, b"secret").unwrap()).await;
    put(7, vec![7; 256]).await;
    put(8, Vec::new()).await;
    let good = clear(&signed(&*his, "good"));
    put(9, for_bob(&good.to_encrypt())).await;

    // He hears of one value, and finds one: all others were there before it.
    let event = soon("news", ear.next()).await.unwrap();
    let texts = |values: &[Value]| -> Vec<_> { values.iter().map(|v| v.data().to_vec()).collect() };
    assert_eq!(texts(&event.values), [b"good"]);
    assert_eq!(bob.unopened(), expected);
    assert_eq!(soon("all", bob.dht().get(key)).await.len(), 9);
    assert_eq!(texts(&soon("get", bob.get(key)).await), [b"good"]);
    let twice = Unopened {
        signature: expected.signature * 2,
        no_value: expected.no_value * 2,
        recipient: expected.recipient * 2,
    };
    assert_eq!(bob.unopened(), twice);
    assert_eq!(bob.dht().usage().await.refused, Refusals::default());
}

#[tokio::test]
async fn the_command_runs_until_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node");
    let identity = DeviceShortId([7; 20]);
    let options = DhtNodeOptions {
        identity: Some(identity),
        state_path: Some(path.clone()),
        ..DhtNodeOptions::default()
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let node = tokio::spawn(run_dhtnode(options, async {
        let _ = stopped.await;
    }));
    stop.send(()).unwrap();
    soon("stopping", node).await.unwrap().unwrap();
    let state =
        starling_core::dht::state::NodeState::decode(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(
        state.id,
        Some(InfoHash::of(format!("node:{identity}").as_bytes()))
    );
}
