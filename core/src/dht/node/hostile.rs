//! What others may try: floods, lies, forgeries. Each story is one that the node must survive.
#![allow(clippy::unwrap_used)]

use super::testkit::*;
use super::*;
use crate::dht::packet::{ErrorReply, Part, Piece, Reply, code};
use crate::dht::query::Query;
use crate::dht::types;
use crate::dht::value::{Content, MAX_VALUE_SIZE};
use proptest::prelude::*;

const KEY: InfoHash = InfoHash([0x5a; 20]);

/// One node of ours, and whoever talks to it.
struct Target {
    node: Node,
    now: Duration,
}

impl Target {
    fn new() -> Self {
        let now = secs(1000);
        let mut config = NodeConfig::new(InfoHash([1; 20]));
        config.limits.storage = 1 << 20;
        config.limits.nodes = 4096;
        let node = Node::new(now, config, [3; 32], Arc::new(FakeCrypto));
        Self { node, now }
    }

    /// What comes back to this address, and how many bytes go anywhere.
    fn tell(&mut self, from: SocketAddr, packet: &Packet) -> (Vec<Packet>, usize) {
        for datagram in packet.encode() {
            self.node.handle_datagram(self.now, from, &datagram);
        }
        self.drain(from)
    }

    fn drain(&mut self, from: SocketAddr) -> (Vec<Packet>, usize) {
        let mut bytes = 0;
        let mut back = Vec::new();
        while let Some(t) = self.node.poll_transmit() {
            bytes += t.payload.len();
            if t.to == from {
                back.push(Packet::decode(&t.payload).unwrap());
            }
        }
        (back, bytes)
    }

    fn ask(&mut self, who: u8, from: SocketAddr, request: Request) -> Vec<Packet> {
        let head = Head::new(InfoHash([who; 20]), 77, 0);
        let mut back = self.tell(from, &Packet::Request(head, request)).0;
        // What it asks by itself is another matter.
        back.retain(|p| !matches!(p, Packet::Request(..)));
        back
    }

    fn token(&mut self, who: u8, from: SocketAddr) -> Vec<u8> {
        let find = Request::Find {
            target: KEY,
            want: None,
        };
        let back = self.ask(who, from, find);
        back.iter()
            .find_map(|p| match p {
                Packet::Reply(_, r) => r.token.clone(),
                _ => None,
            })
            .unwrap()
    }

    /// Makes a node known as good.
    fn befriend(&mut self, who: u8, addr: SocketAddr) {
        let (now, id) = (self.now, InfoHash([who; 20]));
        self.node.insert_node(now, id, addr);
        let (sent, _) = self.drain(addr);
        for packet in sent {
            if let Packet::Request(head, Request::Ping) = packet {
                let pong = Packet::Reply(Head::new(id, head.tid, 0), Reply::default());
                self.tell(addr, &pong);
            }
        }
    }
}

fn addr(n: u8, port: u16) -> SocketAddr {
    SocketAddr::new([192, 0, 2, n].into(), port)
}

fn put(value: Value, token: Vec<u8>) -> Request {
    Request::Put {
        key: Some(KEY),
        values: vec![Arc::new(value)].into(),
        created: None,
        token,
    }
}

#[test]
fn a_flood_of_pings_is_answered_to_a_limit() {
    let mut t = Target::new();
    let from = addr(1, 1);
    let answered: usize = (0..3000)
        .map(|_| {
            let back = t.ask(9, from, Request::Ping);
            back.iter()
                .filter(|p| matches!(p, Packet::Reply(..)))
                .count()
        })
        .sum();
    assert_eq!(answered, 1024);
    assert_eq!(t.ask(8, addr(2, 1), Request::Ping).len(), 1);
}

#[test]
fn invented_ids_fill_no_memory_and_displace_nobody() {
    let mut t = Target::new();
    for n in 2..10 {
        t.befriend(n, addr(n, 4222));
    }
    let before = t.node.export_nodes(t.now);
    assert_eq!(before.len(), 8);
    for n in 0..8_000u32 {
        t.now += ms(2);
        // Right beside us, where there is most room.
        let mut id = [1; 20];
        id[16..].copy_from_slice(&n.to_be_bytes());
        let from = SocketAddr::new([198, 51, (n / 250 % 250) as u8, (n % 250) as u8].into(), 1);
        let ping = Packet::Request(Head::new(InfoHash(id), 7, 0), Request::Ping);
        t.tell(from, &ping);
    }
    assert!(t.node.net(Family::V4).table.counts(t.now).known <= 4096);
    // None of them has ever answered, so none is told to others.
    assert_eq!(t.node.export_nodes(t.now), before);
    assert!(t.node.usage().requests < 100, "{:?}", t.node.usage());
}

#[test]
fn a_big_answer_goes_only_where_it_was_asked_from() {
    let mut t = Target::new();
    let now = t.now;
    for id in 1..20 {
        let value = Value::new(0, vec![7; 50_000]).with_id(id);
        t.node.put(now, KEY, value, true, None);
    }
    let victim = addr(3, 53);
    let get = Packet::Request(
        Head::new(InfoHash([9; 20]), 5, 0),
        Request::Get {
            key: Some(KEY),
            query: Query::all(),
            want: None,
        },
    );
    let (asked, returned) = t.tell(victim, &get);
    assert!(returned < 2 * get.encode()[0].len(), "{returned}");
    // Somebody who is there answers the ping, and gets what it asked for.
    let Packet::Request(head, Request::Ping) = &asked[0] else {
        panic!("{asked:?}");
    };
    let pong = Packet::Reply(Head::new(InfoHash([9; 20]), head.tid, 0), Reply::default());
    let (_, returned) = t.tell(victim, &pong);
    assert!(returned > 900_000);
    // A flood of such gets is forgotten.
    for n in 0..2000u16 {
        t.tell(addr(4, 1 + n), &get);
    }
    assert!(t.node.parked.len() <= 256);
    let end = t.now + secs(20);
    while t.now < end {
        t.now = t.node.poll_timeout().unwrap();
        let now = t.now;
        t.node.handle_timeout(now);
    }
    assert!(t.node.parked.is_empty());
}

#[test]
fn tokens_of_others_and_of_old_open_nothing() {
    let mut t = Target::new();
    let (mallory, alice) = (addr(6, 1), addr(5, 1));
    let token = t.token(5, alice);
    let value = Value::new(0, b"x".to_vec()).with_id(1);
    let codes = |back: Vec<Packet>| -> Vec<u16> {
        back.into_iter()
            .filter_map(|p| match p {
                Packet::Error(_, e) => Some(e.code),
                _ => None,
            })
            .collect()
    };
    for bad in [token.clone(), Vec::new(), vec![0; 32], vec![0; 5000]] {
        assert_eq!(
            codes(t.ask(6, mallory, put(value.clone(), bad.clone()))),
            [401]
        );
        let listen = Request::Listen {
            key: Some(KEY),
            version: 1,
            token: bad,
            sid: 1,
            query: Query::all(),
        };
        assert_eq!(codes(t.ask(6, mallory, listen)), [401]);
    }
    assert_eq!((t.node.usage().values, t.node.usage().listeners), (0, 0));
    assert!(codes(t.ask(5, alice, put(value.clone(), token.clone()))).is_empty());
    assert_eq!(t.node.usage().values, 1);
    // Two hours later, the token is of no use to anybody who recorded it.
    let end = t.now + secs(7200);
    while t.now < end {
        t.now = t.node.poll_timeout().unwrap();
        let now = t.now;
        t.node.handle_timeout(now);
    }
    while t.node.poll_transmit().is_some() {}
    assert_eq!(codes(t.ask(5, alice, put(value, token))), [401]);
}

#[test]
fn one_writer_fills_neither_the_store_nor_the_key() {
    let mut t = Target::new();
    let (mallory, alice) = (addr(6, 1), addr(5, 1));
    let token = t.token(5, alice);
    t.ask(
        5,
        alice,
        put(Value::new(0, b"mine".to_vec()).with_id(u64::MAX), token),
    );
    let token = t.token(6, mallory);
    for id in 1..2000u64 {
        t.now += ms(100);
        let size = if id % 2 == 0 { 60_000 } else { 0 };
        t.ask(
            6,
            mallory,
            put(Value::new(0, vec![0; size]).with_id(id), token.clone()),
        );
    }
    assert!(t.node.usage().bytes <= 1 << 20);
    assert!(t.node.storage.get(&KEY, u64::MAX).is_some());
    // Too large is not kept, though acknowledged.
    let huge = Value::new(0, vec![0; 65_537]).with_id(5000);
    t.ask(6, mallory, put(huge, token));
    assert!(t.node.storage.get(&KEY, 5000).is_none());
}

#[test]
fn what_is_not_taken_is_counted_by_kind() {
    let mut t = Target::new();
    t.node.set_unix_time(t.now, 1_800_000_000);
    let (mallory, now) = (addr(6, 1), t.now);
    let mut expected = Refusals::default();
    let token = t.token(6, mallory);
    t.befriend(6, mallory);
    let counted = |t: &Target, expected: &Refusals| assert_eq!(t.node.usage().refused, *expected);
    counted(&t, &expected);
    assert_eq!(expected.to_string(), "nothing");

    t.node.handle_datagram(now, mallory, b"no packet");
    expected.datagrams += 1;
    counted(&t, &expected);

    let good = Value::new(0, b"x".to_vec()).with_id(1);
    t.ask(6, mallory, put(good.clone(), Vec::new()));
    expected.requests.bad_token += 1;
    counted(&t, &expected);
    t.ask(6, mallory, put(good.clone().with_id(0), token.clone()));
    expected.requests.no_key += 1;
    counted(&t, &expected);
    let refresh = Request::Refresh {
        key: Some(KEY),
        vid: 1,
        token: token.clone(),
    };
    t.ask(6, mallory, refresh);
    expected.requests.not_found += 1;
    counted(&t, &expected);

    let message = |data: &[u8]| Value::new(types::DHT_MESSAGE, data.to_vec()).with_id(2);
    t.ask(6, mallory, put(message(&[0x91, 0xa0]), token.clone()));
    expected.values.content += 1;
    counted(&t, &expected);
    let certificate = include_bytes!("../../../tests/data/dht/identities/bob.crt");
    let certificate = Value::new(types::CERTIFICATE, certificate.to_vec()).with_id(3);
    t.ask(6, mallory, put(certificate, token.clone()));
    expected.values.wrong_key += 1;
    counted(&t, &expected);
    let mut forged = signed_value(4, 1, 1, b"mine");
    if let Content::Clear(clear) = &mut forged.content {
        clear.data = b"yours".to_vec();
    }
    t.ask(6, mallory, put(forged, token.clone()));
    expected.values.signature += 1;
    counted(&t, &expected);
    let mut old = put(good.clone(), token.clone());
    if let Request::Put { created, .. } = &mut old {
        *created = Some(1_800_000_000 - 600);
    }
    t.ask(6, mallory, old);
    expected.values.too_old += 1;
    counted(&t, &expected);

    t.ask(6, mallory, put(good.clone(), token.clone()));
    counted(&t, &expected);
    let other = Value::new(0, b"y".to_vec()).with_id(1);
    t.ask(6, mallory, put(other, token.clone()));
    expected.values.edit += 1;
    counted(&t, &expected);

    // Values that come in pieces: too large, and none together.
    let mut large = Value::new(0, Vec::new()).with_id(5);
    large.content = Content::Encrypted(vec![0; MAX_VALUE_SIZE + 1]);
    t.ask(6, mallory, put(large, token.clone()));
    expected.values.too_large += 1;
    counted(&t, &expected);
    let large = Value::new(0, vec![0; 5_000]).with_id(6);
    let head = Head::new(InfoHash([6; 20]), 77, 0);
    for datagram in Packet::Request(head, put(large, token)).encode() {
        let mut packet = Packet::decode(&datagram).unwrap();
        if let Packet::Part(part) = &mut packet {
            part.pieces.iter_mut().for_each(|p| p.data.fill(0xc1));
            t.tell(mallory, &packet);
        } else {
            t.node.handle_datagram(now, mallory, &datagram);
        }
    }
    expected.pieces += 1;
    counted(&t, &expected);

    t.node.get(now, KEY, Query::all());
    let (sent, _) = t.drain(mallory);
    let asked = sent.iter().find(|p| matches!(p, Packet::Request(..)));
    let tid = asked.unwrap().tid();
    for (code, n) in [(code::NO_KEY, 1), (code::NOT_FOUND, 2), (500, 3)] {
        let head = Head::new(InfoHash([6; 20]), tid, 0);
        for _ in 0..n {
            t.tell(
                mallory,
                &Packet::Error(head.clone(), ErrorReply::new(code, "no")),
            );
        }
    }
    // One that nobody waits for.
    let head = Head::new(InfoHash([6; 20]), tid.wrapping_add(1), 0);
    t.tell(
        mallory,
        &Packet::Error(head, ErrorReply::new(code::NO_KEY, "no")),
    );
    expected.errors.no_key = 1;
    expected.errors.not_found = 2;
    expected.errors.other = 3;
    counted(&t, &expected);
    let words = expected.to_string();
    assert!(
        words.starts_with("1 datagrams that are no packet, 1 values in pieces"),
        "{words}"
    );
    assert!(words.ends_with("3 answers with another error"), "{words}");
    assert_eq!(expected.kinds().map(|(_, n)| n).sum::<u64>(), 17);
}

#[test]
fn what_does_not_fit_under_a_key_is_counted() {
    let mut t = Target::new();
    t.node.storage = Storage::new(StorageLimits {
        bytes: 1 << 20,
        values_per_key: 2,
    });
    let mallory = addr(6, 1);
    let token = t.token(6, mallory);
    for id in 1..=3 {
        let small = Value::new(0, vec![1]).with_id(id);
        t.ask(6, mallory, put(small, token.clone()));
    }
    let expected = ValueCounts {
        key_full: 1,
        ..ValueCounts::default()
    };
    assert_eq!(t.node.usage().refused.values, expected);
}

#[test]
fn messages_that_never_end_fill_no_memory() {
    let mut t = Target::new();
    for n in 0..10_000u32 {
        t.now += ms(1);
        let from = addr((n % 200) as u8, 1 + (n / 200) as u16);
        let part = Packet::Part(Part {
            tid: n,
            network: 0,
            client: false,
            pieces: vec![Piece {
                index: 0,
                offset: 1280,
                data: vec![0; 1280],
            }],
        });
        t.tell(from, &part);
    }
    assert!(t.node.usage().partial <= 1024);
    t.now += secs(20);
    let now = t.now;
    t.node.handle_timeout(now);
    assert_eq!(t.node.usage().partial, 0);
}

#[test]
fn nobody_answers_for_another_or_speaks_for_a_listened_node() {
    let mut t = Target::new();
    t.befriend(2, addr(2, 4222));
    let now = t.now;
    let get = t.node.get(now, KEY, Query::all());
    let listen = t.node.listen(now, KEY, Query::all());
    let (sent, _) = t.drain(addr(2, 4222));
    let tids: Vec<u32> = sent.iter().map(Packet::tid).collect();
    let forged = |id: u8, tid| {
        let value = Value::new(0, b"forged".to_vec()).with_id(9);
        Packet::Reply(
            Head::new(InfoHash([id; 20]), tid, 0),
            Reply {
                token: Some(vec![1; 32]),
                values: vec![Arc::new(value)].into(),
                ..Reply::default()
            },
        )
    };
    for tid in tids {
        // Another id, and another transaction.
        t.tell(addr(2, 4222), &forged(3, tid));
        t.tell(addr(2, 4222), &forged(2, tid.wrapping_add(1)));
    }
    let sids: Vec<u32> = t.node.sockets.keys().copied().collect();
    for sid in sids.iter().copied().chain([0, 1, u32::MAX]) {
        let update = Request::Update {
            sid,
            key: Some(KEY),
            version: 1,
            token: vec![1; 32],
            values: vec![Arc::new(Value::new(0, b"forged".to_vec()).with_id(9))].into(),
            created: None,
            refreshed: vec![],
            expired: vec![],
        };
        // Answered, and not believed.
        assert_eq!(t.ask(3, addr(3, 1), update).len(), 1);
    }
    while let Some(event) = t.node.poll_event() {
        match event {
            NodeEvent::Values { op, .. } => assert_ne!(op, get),
            NodeEvent::Listen { op, .. } => assert_ne!(op, listen),
            _ => {}
        }
    }
}

#[test]
fn an_answer_without_token_ends_the_acquaintance() {
    let mut t = Target::new();
    let bob = addr(2, 4222);
    t.befriend(2, bob);
    let now = t.now;
    let get = t.node.get(now, KEY, Query::all());
    let (sent, _) = t.drain(bob);
    for packet in sent {
        let reply = Packet::Reply(
            Head::new(InfoHash([2; 20]), packet.tid(), 0),
            Reply::default(),
        );
        t.tell(bob, &reply);
    }
    let mut ended = false;
    while let Some(event) = t.node.poll_event() {
        ended |= event == NodeEvent::GetDone { op: get, ok: false };
    }
    assert!(ended);
    assert!(t.ask(2, bob, Request::Ping).is_empty());
    assert_eq!(t.ask(2, addr(2, 4223), Request::Ping).len(), 1);
}

#[test]
fn our_own_words_and_strange_addresses_are_ignored() {
    let mut t = Target::new();
    let ours = Packet::Request(Head::new(InfoHash([1; 20]), 5, 0), Request::Ping);
    assert!(t.tell(addr(2, 1), &ours).0.is_empty());
    let other = Packet::Request(Head::new(InfoHash([2; 20]), 5, 9), Request::Ping);
    assert!(t.tell(addr(2, 1), &other).0.is_empty());
    let ping = Packet::Request(Head::new(InfoHash([2; 20]), 5, 0), Request::Ping);
    for martian in ["224.0.0.1:1", "0.0.0.1:1", "10.0.0.1:0", "[ff02::1]:9"] {
        let from = martian.parse().unwrap();
        assert_eq!(t.tell(from, &ping), (vec![], 0), "{martian}");
    }
    let mapped = "[::ffff:10.0.0.1]:9".parse().unwrap();
    t.tell(mapped, &ping);
    assert!(
        t.node
            .net(Family::V4)
            .table
            .get(&InfoHash([2; 20]))
            .is_some()
    );
}

#[test]
fn whoever_lists_a_crowd_of_liars_does_not_keep_a_get_forever() {
    // Mallory names eight new nodes beside the key with every answer; they exist, and do the same.
    let mut t = Target::new();
    t.befriend(2, addr(2, 4222));
    let now = t.now;
    let get = t.node.get(now, KEY, Query::all());
    let mut invented = 0u32;
    let mut asked = 0;
    let end = t.now + secs(120);
    'time: while t.now < end {
        while let Some(transmit) = t.node.poll_transmit() {
            let Ok(Packet::Request(head, _)) = Packet::decode(&transmit.payload) else {
                continue;
            };
            asked += 1;
            let known = t.node.requests.get(head.tid).and_then(|p| p.node);
            let nodes = (0..8)
                .map(|_| {
                    invented += 1;
                    // Each closer than all before.
                    let mut id = KEY;
                    id.0[10..14].copy_from_slice(&(u32::MAX - invented).to_be_bytes());
                    for (i, k) in id.0[10..14].iter_mut().zip(&KEY.0[10..14]) {
                        *i ^= k;
                    }
                    crate::dht::NodeInfo {
                        id,
                        addr: addr(9, 1 + (invented % 60_000) as u16),
                    }
                })
                .collect();
            let reply = Packet::Reply(
                Head::new(known.unwrap_or(InfoHash([2; 20])), head.tid, 0),
                Reply {
                    nodes,
                    token: Some(vec![1; 32]),
                    ..Reply::default()
                },
            );
            t.now += ms(50);
            t.tell_only(transmit.to, &reply);
        }
        while let Some(event) = t.node.poll_event() {
            if matches!(event, NodeEvent::GetDone { op, .. } if op == get) {
                break 'time;
            }
        }
        t.now = t.now.max(t.node.poll_timeout().unwrap());
        let now = t.now;
        t.node.handle_timeout(now);
    }
    assert!(t.now < end, "the get did not end, {asked} requests");
    assert!(asked < 1000, "{asked}");
    assert!(t.node.net(Family::V4).table.counts(t.now).known <= 4096);
}

impl Target {
    fn tell_only(&mut self, from: SocketAddr, packet: &Packet) {
        for datagram in packet.encode() {
            self.node.handle_datagram(self.now, from, &datagram);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_datagram_stops_a_node(datagrams in proptest::collection::vec((0usize..60, 0usize..400, any::<u8>(), 0u64..3000), 1..60), seed in any::<u8>()) {
        let recorded: Vec<serde_json::Value> = serde_json::from_str(include_str!("../../../tests/data/dht/probes.json")).unwrap();
        let recorded: Vec<Vec<u8>> = recorded
            .iter()
            .flat_map(|p| p["replies"].as_array().into_iter().flatten().chain([&p["request"]]))
            .filter_map(|h| hex::decode(h.as_str()?).ok())
            .collect();
        let mut t = Target::new();
        t.befriend(2, addr(2, 4222));
        let now = t.now;
        t.node.listen(now, KEY, Query::all());
        t.node.put(now, KEY, Value::new(0, vec![seed]), true, None);
        for (which, at, with, wait) in datagrams {
            let mut datagram = recorded[which % recorded.len()].clone();
            let len = datagram.len();
            datagram[at % len] = with;
            t.now += ms(wait);
            let now = t.now;
            t.node.handle_datagram(now, addr(with % 4, 4222), &datagram);
            while t.node.poll_timeout().is_some_and(|at| at <= now) {
                t.node.handle_timeout(now);
            }
            t.drain(addr(2, 4222));
            while t.node.poll_event().is_some() {}
        }
    }
}
