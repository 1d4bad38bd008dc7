//! Our nodes together with the reference's: Debian's `dhtnode` (OpenDHT 2.4) and the Python wheel
//! `opendht` (4.x), all on loopback. What is not installed is skipped, with the reason printed.
#![allow(clippy::unwrap_used)]

mod dht_support;
mod multicast_support;
mod skip_support;

use dht_support::*;
use serde_json::json;
use skip_support::skip;
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::{Dht, DhtConfig, PutOptions};
use starling_core::dht::{Value, types};
use starling_core::id::InfoHash;
use std::net::{Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::process::Command;
use tokio::time::timeout;

/// What kinds of values cross from one node to another.
#[derive(Clone, Copy, PartialEq)]
enum Kinds {
    /// Plain, in one datagram and in several.
    Plain,
    /// Signed ones as well.
    Signed,
    /// And encrypted ones: whoever puts them has to find the other's certificate.
    Encrypted,
}

/// Everything crosses between two nodes.
async fn two_nodes(a: &Peer, b: &Peer) {
    for (from, to) in [(a, b), (b, a)] {
        cross(from, to, Kinds::Encrypted).await;
    }
    for p in [a, b] {
        if let Peer::Ours(o) = p {
            o.refused_nothing().await;
        }
    }
}

async fn cross(from: &Peer, to: &Peer, kinds: Kinds) {
    let label = format!("{} to {}", from.name(), to.name()).replace(' ', "-");
    let k = key(&label);
    let mut ear = to.listen(&k).await;
    // The second one is too large for one datagram: it goes in parts.
    let large = format!("large-{label}-{}", "x".repeat(3000));
    for text in [format!("plain-{label}"), large] {
        from.put(&k, &text).await;
        crossed(to, &mut ear, &k, &text).await;
    }
    if kinds != Kinds::Plain {
        let text = format!("signed-{label}");
        from.put_signed(&k, &text).await;
        crossed(to, &mut ear, &k, &text).await;
    }
    if kinds == Kinds::Encrypted {
        let text = format!("secret-{label}");
        from.put_encrypted(&k, to, &text).await;
        crossed(to, &mut ear, &k, &text).await;
    }
}

/// It is heard, and found.
async fn crossed(to: &Peer, ear: &mut Ear, k: &InfoHash, text: &str) {
    ear.hears(to.name(), text).await;
    let found = to.get(k).await;
    assert!(found.contains(text), "{} finds {found:?}", to.name());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_ours() {
    let alice = ours("alice", None).await;
    let port = alice.secure.dht().ports().0;
    let bob = ours("bob", Some(port)).await;
    bob.joins().await;
    alice.joins().await;
    let _a = alice
        .secure
        .announce_certificate(identity("alice").1)
        .await
        .unwrap();
    let _b = bob
        .secure
        .announce_certificate(identity("bob").1)
        .await
        .unwrap();
    two_nodes(&Peer::Ours(alice), &Peer::Ours(bob)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_and_debians() {
    let Some(debian) = Debian::start("dhtnode", None, true).await else {
        return skip("dhtnode is not installed");
    };
    let alice = ours("alice", Some(debian.port)).await;
    alice.joins().await;
    let _a = alice
        .secure
        .announce_certificate(identity("alice").1)
        .await
        .unwrap();
    two_nodes(&Peer::Ours(alice), &Peer::Debian(debian)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_and_the_current_one() {
    let alice = ours("alice", None).await;
    let port = alice.secure.dht().ports().0;
    let Some(wheel) = Wheel::start("wheel", Some(port)).await else {
        return skip("the Python package opendht is not installed");
    };
    alice.joins().await;
    let _a = alice
        .secure
        .announce_certificate(identity("alice").1)
        .await
        .unwrap();
    two_nodes(&Peer::Ours(alice), &Peer::Wheel(wheel)).await;
}

/// Sixteen nodes, a third of each kind: whatever anyone puts, everyone finds; whoever listens, hears.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_mixed() {
    let mut peers = vec![Peer::Ours(ours("alice", None).await)];
    let port = peers[0].port();
    let mut handles = Vec::new();
    for i in 0..5 {
        let who = ["bob", "carol", "alice", "bob", "carol"][i];
        peers.push(Peer::Ours(ours(&format!("{who}-{i}"), Some(port)).await));
        // 4096-bit keys take their time: two of the old nodes get one, and sign.
        match Debian::start(&format!("dhtnode {i}"), Some(port), i < 2).await {
            Some(d) => peers.push(Peer::Debian(d)),
            None => return skip("dhtnode is not installed"),
        }
        match Wheel::start(&format!("wheel {i}"), Some(port)).await {
            Some(w) => peers.push(Peer::Wheel(w)),
            None => return skip("the Python package opendht is not installed"),
        }
    }
    assert_eq!(peers.len(), 16);
    for p in &peers {
        if let Peer::Ours(o) = p {
            o.joins().await;
        }
    }
    for (i, who) in [(0, "alice"), (1, "bob")] {
        let Peer::Ours(o) = &peers[i] else { continue };
        handles.push(
            o.secure
                .announce_certificate(identity(who).1)
                .await
                .unwrap(),
        );
    }

    // The others do not say when they have joined; they have once they find something.
    let joined = key("joined");
    peers[0].put(&joined, "joined").await;
    for p in &peers {
        let found = timeout(PATIENCE, async {
            while !p.get(&joined).await.contains("joined") {
                tokio::task::yield_now().await;
            }
        });
        found
            .await
            .unwrap_or_else(|_| panic!("{} does not join", p.name()));
    }

    // One key where everyone listens.
    let everywhere = key("everywhere");
    let mut ears = Vec::new();
    for p in &peers {
        ears.push(p.listen(&everywhere).await);
    }
    let mut refused = Vec::new();
    for (i, from) in peers.iter().enumerate() {
        let k = key(&format!("of {i}"));
        let text = format!("word-of-{}", from.name().replace(' ', "-"));
        from.put(&k, &text).await;
        for to in &peers {
            if !to.get(&k).await.contains(&text) {
                refused.push(format!("{} does not find {text}", to.name()));
            }
        }
        from.put(&everywhere, &text).await;
        for (to, ear) in peers.iter().zip(&mut ears) {
            ear.hears(to.name(), &text).await;
        }
    }
    assert_eq!(refused, Vec::<String>::new());
    // Signed and encrypted values, between one of each kind and each other one, and of its own.
    let [alice, bob, debian, wheel, carol, debian2, wheel2] = &peers[..7] else {
        unreachable!()
    };
    for (a, b) in [
        (alice, debian),
        (bob, wheel),
        (alice, bob),
        (wheel, wheel2),
        (debian, debian2),
    ] {
        two_nodes(a, b).await;
    }
    // The old ones announce their certificates where the new ones do not look, and look where these do not announce.
    for (a, b) in [(debian, wheel), (wheel, debian)] {
        cross(a, b, Kinds::Signed).await;
    }
    // Who has announced no certificate can write to one who has.
    cross(carol, debian, Kinds::Encrypted).await;
    cross(carol, wheel, Kinds::Encrypted).await;
    for p in &peers {
        if let Peer::Ours(o) = p {
            o.refused_nothing().await;
        }
    }
}

/// By IPv6 alone, as far as ours are concerned.
#[tokio::test(flavor = "multi_thread")]
async fn both_of_the_reference_by_ipv6() {
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return skip("this machine has no IPv6");
    }
    let Some(debian) = Debian::start("dhtnode", None, true).await else {
        return skip("dhtnode is not installed");
    };
    let alice = ours_by_ipv6("alice", Some(debian.port));
    alice.joins().await;
    let port = alice.secure.dht().ports().1;
    let Some(wheel) = Wheel::start_at("wheel", Some(format!("::1:{port}"))).await else {
        return skip("the Python package opendht is not installed");
    };
    let _a = alice
        .secure
        .announce_certificate(identity("alice").1)
        .await
        .unwrap();
    let status = *alice.secure.dht().status().borrow();
    assert_eq!(status.v4.nodes.good, 0);
    let (alice, debian) = (Peer::Ours(alice), Peer::Debian(debian));
    two_nodes(&alice, &debian).await;
    two_nodes(&alice, &Peer::Wheel(wheel)).await;
}

/// What is put to stay outlives its type at a node of the reference, because it is renewed there, and no longer than
/// its handle lives. Nothing of the wire says how long a type lives: that node is told so few seconds that they can be
/// waited for.
#[tokio::test(flavor = "multi_thread")]
async fn permanent_values_are_renewed_and_end_with_their_handle() {
    const TYPE: u16 = 7_777;
    const LIFE: Duration = Duration::from_secs(8);
    let Some(wheel) = Wheel::start("wheel", None).await else {
        return skip("the Python package opendht is not installed");
    };
    let told = json!({"do": "type", "type": TYPE, "seconds": LIFE.as_secs()});
    assert_eq!(wheel.ask(told).await["ok"], true);
    let alice = ours_that_renews("alice", Duration::from_secs(1), wheel.port);
    alice.joins().await;
    let value = || Value::new(TYPE, b"stays".to_vec());
    let (stays, goes) = (key("stays"), key("goes"));
    let dht = alice.secure.dht();
    let mut handle = dht.put(stays, value(), PutOptions::permanent()).await;
    handle.as_mut().unwrap().stored().await.unwrap();
    // Put later, and gone before.
    let once = dht.put(goes, value(), PutOptions::default()).await;
    once.unwrap();
    let stored = Instant::now();
    wheel.forgets(&goes).await;
    assert!(stored.elapsed() + Duration::from_secs(1) > LIFE);
    assert_eq!(wheel.stores(&stays).await, 1);

    drop(handle);
    wheel.forgets(&stays).await;
    alice.refused_nothing().await;
}

/// Whoever listens is told that a value is gone, by whichever node kept it.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_value_is_told_across() {
    let Some(debian) = Debian::start("dhtnode", None, false).await else {
        return skip("dhtnode is not installed");
    };
    let Some(wheel) = Wheel::start("wheel", Some(debian.port)).await else {
        return skip("the Python package opendht is not installed");
    };
    let alice = ours("alice", Some(debian.port)).await;
    alice.joins().await;
    let (alice, wheel) = (Peer::Ours(alice), Peer::Wheel(wheel));
    let k = key("ends");
    let mut ears = [alice.listen(&k).await, wheel.listen(&k).await];
    let Peer::Ours(ours) = &alice else {
        unreachable!("it is ours");
    };
    let dht = ours.secure.dht();
    let value = |id, text: &str| {
        let value = Value::new(types::ICE_CANDIDATES, text.into());
        value.with_user_type("text/plain").with_id(id)
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    // Of a minute, which connection requests live at all nodes, not half is left.
    let old = PutOptions {
        permanent: false,
        created: Some(i64::try_from(now.as_secs()).unwrap() - 35),
    };
    let stays = dht.put(k, value(1, "stays"), PutOptions::permanent()).await;
    dht.put(k, value(2, "goes"), old).await.unwrap();
    for (ear, who) in ears.iter_mut().zip(["alice", "wheel"]) {
        ear.hears(who, "goes").await;
    }
    for (ear, who) in ears.iter_mut().zip(["alice", "wheel"]) {
        ear.hears_the_end(who, "goes").await;
    }
    drop(stays);
    ours.refused_nothing().await;
}

/// Old nodes keep what is put again for as long as if it was new, and what is said to be old ends early.
#[tokio::test(flavor = "multi_thread")]
async fn old_nodes_renew_what_is_put_again() {
    let Some(debian) = Debian::start("dhtnode", None, false).await else {
        return skip("dhtnode is not installed");
    };
    let alice = ours("alice", Some(debian.port)).await;
    alice.joins().await;
    let k = key("again");
    // Connection requests live for a minute.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let old = PutOptions {
        permanent: false,
        created: Some(i64::try_from(now.as_secs()).unwrap() - 50),
    };
    let dht = alice.secure.dht();
    let value = |id, text: &str| {
        let value = Value::new(types::ICE_CANDIDATES, text.into());
        value.with_user_type("text/plain").with_id(id)
    };
    for (id, text) in [(1, "stays"), (2, "goes")] {
        dht.put(k, value(id, text), old).await.unwrap();
    }
    let again = dht.put(k, value(1, "stays"), PutOptions::permanent()).await;
    again.unwrap().stored().await.unwrap();
    alice.refused_nothing().await;
    // From now on there is what the old node has alone.
    dht.shutdown().await;
    let both = debian.get(&k).await;
    assert!(both.contains("stays"), "{both:?}");
    let gone = timeout(PATIENCE, async {
        loop {
            let found = debian.get(&k).await;
            assert!(found.contains("stays"), "{found:?}");
            if !found.contains("goes") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    gone.await.expect("what is old ends");
}

/// Nodes that know nobody find each other in the local network.
#[tokio::test(flavor = "multi_thread")]
async fn the_local_network_is_common() {
    if !multicast_support::works(false) {
        return skip("no multicast on this machine");
    }
    // A network of this test alone: others may run beside it.
    let network_id = 70_000 + u32::from(std::process::id() as u16);
    let config = DhtConfig {
        network_id,
        lan_discovery: true,
        ..DhtConfig::default()
    };
    let dht = Dht::start(config, Arc::new(AwsLc)).unwrap();
    let mut command = Command::new("dhtnode");
    command.args([
        "-D",
        "-p",
        &free_port().to_string(),
        "-n",
        &network_id.to_string(),
    ]);
    let Ok(program) = Program::start(command) else {
        return skip("dhtnode is not installed");
    };
    let found = timeout(PATIENCE, dht.connected()).await;
    assert!(found.unwrap_or(false), "nobody is found");
    let k = key("lan");
    let value = Value::new(types::USER_DATA, b"lan".to_vec()).with_user_type("text/plain");
    dht.put(k, value, PutOptions::default()).await.unwrap();
    let mut lines = program.lines.subscribe();
    program.say(&format!("g {k}")).await;
    let text = wait(&mut lines, "value over the local network", printed).await;
    assert_eq!(text, "lan");
}
