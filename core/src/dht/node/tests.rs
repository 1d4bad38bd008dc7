//! Stories of nodes with each other, in virtual time.
#![allow(clippy::unwrap_used)]

use super::testkit::*;
use super::*;

const KEY: InfoHash = InfoHash([0x5a; 20]);

fn hello(id: u64) -> Value {
    Value::new(0, b"hello".to_vec()).with_id(id)
}

#[test]
fn alone_a_node_serves_itself() {
    let mut w = World::new(1);
    let alice = w.add(|_| {});
    let put = w.put(alice, KEY, hello(7), false);
    let get = w.get(alice, KEY);
    let listen = w.listen(alice, KEY);
    assert_eq!(w.wait(alice, put), (false, Duration::ZERO));
    assert_eq!(w.wait(alice, get), (false, Duration::ZERO));
    assert_eq!(w.values(alice, get), [Arc::new(hello(7))]);
    assert_eq!(w.values(alice, listen), [Arc::new(hello(7))]);
    w.put(alice, KEY, hello(8), true);
    w.run(secs(601));
    assert_eq!(w.values(alice, listen).len(), 2);
    assert_eq!(w.expired(alice, listen), [Arc::new(hello(7))]);
}

#[test]
fn two_nodes_join_put_get_and_listen() {
    let mut w = World::new(2);
    let (alice, bob) = (w.add(|_| {}), w.add(|_| {}));
    w.join(bob, alice);
    let listen = w.listen(alice, KEY);
    let put = w.put(bob, KEY, hello(7), false);
    let (ok, took) = w.wait(bob, put);
    assert!(ok);
    // Bootstrap, find, put: three round trips of at most 120 ms.
    assert!(took < ms(400), "{took:?}");
    w.run(ms(200));
    assert_eq!(w.values(alice, listen), [Arc::new(hello(7))]);

    let get = w.get(alice, KEY);
    assert!(w.wait(alice, get).0);
    assert_eq!(w.values(alice, get), [Arc::new(hello(7))]);

    // Alice listens at Bob; what she puts herself reaches his listener at once.
    let listen = w.listen(bob, KEY);
    w.run(secs(2));
    let start = w.now;
    w.put(alice, KEY, hello(8), false);
    assert!(w.until(secs(5), |w| w.values(bob, listen).len() == 2));
    assert!(w.now - start <= ms(60));
}

#[test]
fn in_a_crowd_values_are_found_and_pushed() {
    let mut w = World::network(3, 120);
    for n in 0..120 {
        let status = w.peers[n].node.status();
        assert_eq!(status.v4.connectivity, Connectivity::Connected, "{n}");
        let public = status.public_v4.map(std::net::IpAddr::from);
        assert_eq!(public, Some(w.peers[n].addr.ip()));
    }
    for n in 0..10u8 {
        let key = InfoHash::of(&[n]);
        let (a, b, c) = (usize::from(n), 40 + usize::from(n), 80 + usize::from(n));
        let listen = w.listen(c, key);
        w.run(secs(2));
        let put = w.put(a, key, hello(7), false);
        let (ok, took) = w.wait(a, put);
        assert!(ok && took < secs(1), "{n} {took:?}");
        w.run(ms(200));
        assert_eq!(w.values(c, listen).len(), 1, "{n}");
        let get = w.get(b, key);
        let (ok, took) = w.wait(b, get);
        assert!(ok && took < secs(1), "{n} {took:?}");
        assert_eq!(w.values(b, get), [Arc::new(hello(7))]);
    }
}

#[test]
fn loss_delays_but_does_not_stop() {
    let mut w = World::network(4, 30);
    w.loss = 150;
    w.latency = (ms(5), ms(400));
    for n in 0..10u8 {
        let key = InfoHash::of(&[n]);
        let listen = w.listen(20, key);
        let put = w.put(
            usize::from(n),
            key,
            Value::new(0, vec![n; 20_000]).with_id(7),
            false,
        );
        assert!(w.wait(usize::from(n), put).0);
        let get = w.get(10 + usize::from(n), key);
        assert!(w.wait(10 + usize::from(n), get).0);
        assert!(
            w.until(secs(30), |w| !w.values(20, listen).is_empty()
                && !w.values(10 + usize::from(n), get).is_empty()),
            "{n}"
        );
    }
}

#[test]
fn a_permanent_value_survives_the_nodes_that_kept_it() {
    let mut w = World::network(5, 40);
    let listen = w.listen(1, KEY);
    let put = w.put(0, KEY, hello(7), true);
    assert!(w.wait(0, put).0);
    // Every five minutes a third of the others leaves for good, and new ones come.
    for round in 0..4 {
        for n in 0..w.peers.len() {
            if n > 1 && (n + round) % 3 == 0 {
                w.peers[n].up = false;
            }
        }
        for _ in 0..10 {
            let new = w.add(|_| {});
            w.join(new, 0);
        }
        w.run(secs(300));
        let last = w.peers.len() - 1;
        let get = w.get(last, KEY);
        assert!(w.wait(last, get).0);
        assert_eq!(w.values(last, get), [Arc::new(hello(7))], "{round}");
    }
    assert_eq!(w.values(1, listen).len(), 1);
    assert!(w.expired(1, listen).is_empty());
    // Cancelled, it goes everywhere, and the listener is told.
    let now = w.now;
    w.peers[0].node.cancel(now, put);
    w.run(secs(720));
    assert_eq!(w.expired(1, listen), [Arc::new(hello(7))]);
    let get = w.get(1, KEY);
    assert!(w.wait(1, get).0);
    assert!(w.values(1, get).is_empty());
}

#[test]
fn dead_nodes_hold_nobody_up() {
    let mut w = World::network(6, 40);
    let put = w.put(0, KEY, hello(7), false);
    assert!(w.wait(0, put).0);
    // The half of all that is nearest to the key, less the two who talk.
    let mut near: Vec<usize> = (2..40).collect();
    near.sort_by_key(|n| w.peers[*n].node.id().xor(&KEY));
    for n in near.iter().take(5) {
        w.peers[*n].up = false;
    }
    let get = w.get(1, KEY);
    let (ok, took) = w.wait(1, get);
    assert!(ok);
    // Slow nodes are passed over after a second and a quarter; two rows of them at most.
    assert!(took < secs(4), "{took:?}");
    assert_eq!(w.values(1, get), [Arc::new(hello(7))]);
}

#[test]
fn an_edit_reaches_listeners_and_a_forgery_does_not() {
    let mut w = World::network(7, 20);
    let listen = w.listen(1, KEY);
    let put = w.put(0, KEY, signed_value(7, 1, 1, b"one"), true);
    assert!(w.wait(0, put).0);
    let put = w.put(0, KEY, signed_value(7, 1, 2, b"two"), true);
    assert!(w.wait(0, put).0);
    // Mallory overwrites: another owner, a forged signature, an older version, nothing signed.
    let mut forged = signed_value(7, 1, 9, b"evil");
    if let crate::dht::value::Content::Clear(c) = &mut forged.content {
        c.data = b"more evil".to_vec();
    }
    for value in [
        signed_value(7, 2, 9, b"evil"),
        forged,
        signed_value(7, 1, 1, b"one"),
    ] {
        let now = w.now;
        let op = w.peers[2].node.put(now, KEY, value, false, None);
        w.wait(2, op);
    }
    w.run(secs(2));
    let told: Vec<_> = w
        .values(1, listen)
        .iter()
        .map(|v| v.data().to_vec())
        .collect();
    let genuine: Vec<_> = told.iter().filter(|d| *d != b"evil").collect();
    assert_eq!(genuine, [b"one", b"two"]);
    // Whoever asks finds the newest version, whatever else Mallory's own node serves.
    let get = w.get(3, KEY);
    assert!(w.wait(3, get).0);
    assert!(
        w.values(3, get)
            .contains(&Arc::new(signed_value(7, 1, 2, b"two")))
    );
    // Ours never puts an unsigned value where a signed one is: that would crash others.
    let op = w.put(0, KEY, hello(7), false);
    assert_eq!(w.wait(0, op), (false, Duration::ZERO));
}

#[test]
fn operations_wait_for_the_way_in_and_fail_without_one() {
    let mut w = World::new(8);
    let (alice, bob) = (w.add(|_| {}), w.add(|_| {}));
    let now = w.now;
    w.peers[bob].node.set_joining(now, true);
    let get = w.get(bob, KEY);
    let put = w.put(bob, KEY, hello(7), true);
    w.run(secs(5));
    assert_eq!((w.done(bob, get), w.done(bob, put)), (None, None));
    // The name leads to an address where nobody is.
    w.peers[alice].up = false;
    w.join(bob, alice);
    let now = w.now;
    w.peers[bob].node.set_joining(now, false);
    let (ok, took) = w.wait(bob, get);
    assert!(!ok && took >= secs(7) && took < secs(10));
    assert_eq!(w.done(bob, put).map(|(_, ok)| ok), Some(false));
    // Later somebody is: the permanent put gets there by itself.
    w.peers[alice].up = true;
    assert!(w.until(secs(30), |w| w.done(bob, put).is_some_and(|(_, ok)| ok)));
    let get = w.get(alice, KEY);
    w.wait(alice, get);
    assert_eq!(w.values(alice, get).len(), 1);
}

#[test]
fn after_an_hour_without_network_everything_comes_back() {
    let mut w = World::network(9, 20);
    let listen = w.listen(1, KEY);
    w.run(secs(5));
    w.peers[1].up = false;
    w.run(secs(3600));
    let put = w.put(0, KEY, hello(7), false);
    assert!(w.wait(0, put).0);
    // It wakes at another address.
    w.peers[1].up = true;
    w.peers[1].addr.set_port(9999);
    let now = w.now;
    w.peers[1].node.network_changed(now);
    assert!(w.until(secs(5), |w| w.values(1, listen).len() == 1));
    // And without being told that the network changed.
    w.loss = 1000;
    w.run(secs(3600));
    for n in 0..20 {
        let connectivity = w.peers[n].node.status().connectivity();
        assert_eq!(connectivity, Connectivity::Disconnected, "{n}");
    }
    w.loss = 0;
    w.run(secs(660));
    let put = w.put(0, KEY, hello(8), false);
    assert!(w.wait(0, put).0);
    assert!(w.until(secs(5), |w| w.values(1, listen).iter().any(|v| v.id == 8)));
}

#[test]
fn both_families_serve_side_by_side() {
    let mut w = World::new(10);
    // Half of them have IPv6 besides, one has nothing else.
    for n in 0..20 {
        w.add(|c| c.ipv6 = n % 2 == 0);
        if n > 0 {
            w.join(n, 0);
        }
        if n > 0 && n % 2 == 0 {
            let (now, addr) = (w.now, w.peers[0].addr6.unwrap());
            w.peers[n].node.bootstrap(now, addr);
        }
        w.run(ms(300));
    }
    let only6 = w.add(|c| {
        c.ipv6 = true;
        c.ipv4 = false;
    });
    let (now, addr) = (w.now, w.peers[4].addr6.unwrap());
    w.peers[only6].node.bootstrap(now, addr);
    w.run(secs(30));
    let status = *w.peers[only6].node.status();
    assert_eq!(status.v6.connectivity, Connectivity::Connected);
    assert_eq!(status.v4.connectivity, Connectivity::Disconnected);
    let put = w.put(1, KEY, hello(7), false);
    assert!(w.wait(1, put).0);
    let put = w.put(2, KEY, hello(8), false);
    assert!(w.wait(2, put).0);
    let get = w.get(only6, KEY);
    assert!(w.wait(only6, get).0);
    assert!(w.values(only6, get).contains(&Arc::new(hello(8))));
    // A listener in both worlds hears of a value once.
    let listen = w.listen(4, KEY);
    w.run(secs(2));
    let put = w.put(6, KEY, hello(9), false);
    assert!(w.wait(6, put).0);
    w.run(secs(1));
    let nine = w.values(4, listen).iter().filter(|v| v.id == 9).count();
    assert_eq!(nine, 1);
}

#[test]
fn a_client_asks_and_is_not_asked() {
    let mut w = World::network(11, 12);
    let client = w.add(|c| c.is_client = true);
    w.join(client, 0);
    w.run(secs(60));
    let listen = w.listen(client, KEY);
    w.run(secs(1));
    let put = w.put(3, KEY, hello(7), false);
    assert!(w.wait(3, put).0);
    assert!(w.until(secs(1), |w| w.values(client, listen).len() == 1));
    let id = w.peers[client].node.id();
    for n in 0..12 {
        let now = w.now;
        let known = w.peers[n].node.export_nodes(now);
        assert!(known.iter().all(|k| k.id != id));
    }
}

#[test]
fn a_put_waits_for_no_node_that_died_after_its_token() {
    let mut w = World::network(12, 16);
    let put = w.put(0, KEY, hello(7), false);
    assert!(w.wait(0, put).0);
    let mut near: Vec<usize> = (1..16).collect();
    near.sort_by_key(|n| w.peers[*n].node.id().xor(&KEY));
    for n in near.iter().take(2) {
        w.peers[*n].up = false;
    }
    let put = w.put(0, KEY, hello(8), false);
    let (ok, took) = w.wait(0, put);
    assert!(ok && took < ms(1500), "{took:?}");
}

#[test]
fn values_live_as_long_as_their_type_says() {
    let mut w = World::network(13, 12);
    let now = w.now;
    // Nine minutes old already; and a minute too old.
    let unix = 1_800_000_000 + i64::try_from((now - secs(1000)).as_secs()).unwrap();
    let old = w.peers[0]
        .node
        .put(now, KEY, hello(1), false, Some(unix - 540));
    let dead = w.peers[0]
        .node
        .put(now, KEY, hello(2), false, Some(unix - 660));
    let fresh = w.put(0, KEY, hello(3), false);
    assert_eq!(w.wait(0, dead), (false, Duration::ZERO));
    assert!(w.wait(0, old).0 && w.wait(0, fresh).0);
    let ids = |w: &mut World| -> Vec<u64> {
        let get = w.get(5, KEY);
        w.wait(5, get);
        w.values(5, get).iter().map(|v| v.id).collect()
    };
    assert_eq!(ids(&mut w), [1, 3]);
    w.run(secs(70));
    assert_eq!(ids(&mut w), [3]);
    w.run(secs(540));
    assert_eq!(ids(&mut w), [0u64; 0]);
}

#[test]
fn conditions_and_fields_go_to_the_network() {
    use crate::dht::query::{Field, FieldValue, Query, Where};
    let mut w = World::network(14, 12);
    for id in 1..=4u64 {
        let kind = if id % 2 == 0 { "even" } else { "odd" };
        let put = w.put(0, KEY, hello(id).with_user_type(kind), false);
        assert!(w.wait(0, put).0);
    }
    let even = Query {
        select: vec![],
        wheres: vec![Where::UserType("even".into())],
    };
    let now = w.now;
    let get = w.peers[9].node.get(now, KEY, even.clone());
    let listen = w.peers[8].node.listen(now, KEY, even);
    assert!(w.wait(9, get).0);
    let ids = |values: Vec<Arc<Value>>| values.iter().map(|v| v.id).collect::<Vec<_>>();
    assert_eq!(ids(w.values(9, get)), [2, 4]);
    w.run(secs(1));
    assert_eq!(ids(w.values(8, listen)), [2, 4]);
    let now = w.now;
    let get = w.peers[9]
        .node
        .get(now, KEY, Query::select(&[Field::Id, Field::Seq]));
    assert!(w.wait(9, get).0);
    let row = vec![FieldValue::Id(3), FieldValue::Seq(0)];
    let told = |(_, e): &(Duration, NodeEvent)| matches!(e, NodeEvent::Fields { op, fields } if *op == get && fields.rows.contains(&row));
    assert!(w.peers[9].events.iter().any(told));
}

#[test]
fn an_idle_network_is_quiet() {
    let mut w = World::network(15, 40);
    w.run(secs(300));
    let before = w.datagrams;
    w.run(secs(600));
    let each = (w.datagrams - before) / 40;
    // A round of maintenance every one to three minutes, most of them with little to ask.
    assert!(each < 100, "{each} datagrams of each node in ten minutes");
    w.requests.clear();
    w.listen(3, KEY);
    w.put(4, KEY, hello(7), true);
    w.run(secs(600));
    // Four nodes every 20 s; eight nodes twice.
    let count = |name| w.requests.get(name).copied().unwrap_or_default();
    assert!((100..=130).contains(&count("listen")), "{:?}", w.requests);
    assert!((16..=20).contains(&count("put")), "{:?}", w.requests);
}

/// What is put somewhere in a network of so many nodes is found everywhere, in few requests.
fn found_among(size: usize) {
    let mut w = World::network(14, size);
    let before = w.datagrams;
    for n in 0..20u8 {
        let key = InfoHash::of(&[n, 1]);
        let (a, b) = (
            usize::from(n) * 37 % size,
            (usize::from(n) * 91 + 500) % size,
        );
        let put = w.put(a, key, hello(7), false);
        let (ok, took) = w.wait(a, put);
        assert!(ok && took < secs(3), "{n} {took:?}");
        let get = w.get(b, key);
        let (ok, took) = w.wait(b, get);
        assert!(ok && took < secs(3), "{n} {took:?}");
        assert_eq!(w.values(b, get), [Arc::new(hello(7))]);
    }
    println!(
        "{size} nodes: {} datagrams for 20 puts and gets and what runs beside",
        w.datagrams - before
    );
}

#[test]
fn a_thousand_nodes_find_what_was_put() {
    found_among(1_000);
}

#[test]
#[ignore = "takes minutes"]
fn thousands_of_nodes_find_what_was_put() {
    found_among(5_000);
}
