//! Whatever is written is read the same way, whatever is read does no harm.
#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;
use starling_core::dht::discovery::Discovery;
use starling_core::dht::fragments::{Assembler, MAX_PER_SOURCE};
use starling_core::dht::nodes::NodeInfo;
use starling_core::dht::packet::{
    ErrorReply, Head, Notice, Packet, Part, Piece, Reply, Request, Values, Want,
};
use starling_core::dht::query::{Field, FieldTable, Query, Where};
use starling_core::dht::state::NodeState;
use starling_core::dht::value::{Content, Value};
use starling_core::id::InfoHash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

fn id() -> impl Strategy<Value = InfoHash> {
    any::<[u8; 20]>()
        .prop_map(InfoHash)
        .prop_filter("not zero", |i| i.0 != [0; 20])
}

fn value(max: usize) -> impl Strategy<Value = Value> {
    let clear = (any::<u16>(), vec(any::<u8>(), 0..max), "[a-z/]{0,12}").prop_map(|(t, d, u)| {
        let v = Value::new(t, d).with_user_type(&u);
        v.content
    });
    let encrypted = vec(any::<u8>(), 0..max).prop_map(Content::Encrypted);
    (
        any::<u64>(),
        prop_oneof![clear, encrypted],
        0u32..3,
        "[a-z]{0,8}",
    )
        .prop_map(|(id, content, priority, push_type)| Value {
            id,
            content,
            priority,
            push_type,
        })
}

fn values() -> impl Strategy<Value = Values> {
    vec(value(60), 0..4).prop_map(|v| v.into_iter().map(Arc::new).collect::<Vec<_>>().into())
}

fn query() -> impl Strategy<Value = Query> {
    let field = prop_oneof![
        Just(Field::Id),
        Just(Field::Type),
        Just(Field::Owner),
        Just(Field::Seq),
        Just(Field::UserType)
    ];
    let condition = prop_oneof![
        any::<u64>().prop_map(Where::Id),
        any::<u16>().prop_map(Where::Type),
        id().prop_map(Where::Owner),
        ".{0,8}".prop_map(Where::UserType),
    ];
    (vec(field, 0..4), vec(condition, 0..4)).prop_map(|(select, wheres)| Query { select, wheres })
}

fn want() -> impl Strategy<Value = Option<Want>> {
    proptest::option::of((any::<bool>(), any::<bool>()).prop_map(|(v4, v6)| Want { v4, v6 }))
}

fn token() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn request() -> impl Strategy<Value = Request> {
    let key = || proptest::option::of(id());
    let created = || proptest::option::of(any::<i64>());
    prop_oneof![
        Just(Request::Ping),
        (id(), want()).prop_map(|(target, want)| Request::Find { target, want }),
        (key(), query(), want()).prop_map(|(key, query, want)| Request::Get { key, query, want }),
        (key(), values(), created(), token()).prop_map(|(key, values, created, token)| {
            Request::Put {
                key,
                values,
                created,
                token,
            }
        }),
        (key(), any::<u64>(), token()).prop_map(|(key, vid, token)| Request::Refresh {
            key,
            vid,
            token
        }),
        (key(), 0u32..2, token(), any::<u32>(), query()).prop_map(
            |(key, version, token, sid, query)| Request::Listen {
                key,
                version,
                token,
                sid,
                query
            }
        ),
        (any::<u32>(), id(), token(), vec(value(60), 1..4)).prop_map(|(sid, key, token, v)| {
            Request::Update {
                sid,
                key: Some(key),
                version: 1,
                token,
                values: v.into_iter().map(Arc::new).collect::<Vec<_>>().into(),
                created: None,
                refreshed: Vec::new(),
                expired: Vec::new(),
            }
        }),
        (
            any::<u32>(),
            token(),
            vec(any::<u64>(), 0..5),
            vec(any::<u64>(), 0..5)
        )
            .prop_map(|(sid, token, refreshed, expired)| Request::Update {
                sid,
                key: None,
                version: 0,
                token,
                values: Values::default(),
                created: None,
                refreshed,
                expired,
            }),
    ]
}

fn addr() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        // 2000::/3, so that it is no mapped IPv4 address.
        any::<[u8; 16]>().prop_map(|mut a| {
            a[0] = 0x20 | (a[0] & 0x1f);
            IpAddr::from(a)
        }),
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn reply() -> impl Strategy<Value = Reply> {
    let nodes = vec(
        (id(), addr()).prop_map(|(id, addr)| NodeInfo { id, addr }),
        0..9,
    )
    .prop_map(|mut n| {
        n.sort_by_key(|n| n.addr.is_ipv6());
        n
    });
    (
        proptest::option::of(any::<u64>()),
        proptest::option::of(addr().prop_map(|a| a.ip())),
        nodes,
        proptest::option::of(token()),
        values(),
        vec(value(30), 0..3),
        query(),
    )
        .prop_map(|(vid, seen_as, nodes, token, values, rows, q)| Reply {
            vid,
            seen_as,
            nodes,
            token,
            values,
            fields: (!q.select.is_empty()).then(|| FieldTable::of(&q.select, &rows)),
        })
}

fn head() -> impl Strategy<Value = Head> {
    (
        id(),
        any::<u32>(),
        any::<u32>(),
        any::<bool>(),
        "[a-z0-9]{0,6}",
    )
        .prop_map(|(sender, tid, network, client, agent)| Head {
            sender,
            tid,
            network,
            client,
            agent,
        })
}

fn packet() -> impl Strategy<Value = Packet> {
    let ids = || vec(any::<u64>(), 0..5);
    prop_oneof![
        (head(), request()).prop_map(|(h, r)| Packet::Request(h, r)),
        (head(), reply()).prop_map(|(h, r)| Packet::Reply(h, r)),
        (head(), any::<u16>(), ".{0,20}")
            .prop_map(|(h, c, t)| Packet::Error(h, ErrorReply::new(c, &t))),
        (head(), token(), ids(), ids()).prop_map(|(h, token, refreshed, expired)| {
            Packet::Notice(
                h,
                Notice {
                    token,
                    refreshed,
                    expired,
                },
            )
        }),
        (
            any::<u32>(),
            any::<u32>(),
            any::<bool>(),
            vec((0u32..9, 0usize..70_000, token()), 0..3)
        )
            .prop_map(|(tid, network, client, p)| Packet::Part(Part {
                tid,
                network,
                client,
                pieces: p
                    .into_iter()
                    .map(|(index, offset, data)| Piece {
                        index,
                        offset,
                        data
                    })
                    .collect(),
            })),
    ]
}

proptest! {
    #[test]
    fn a_datagram_is_read_as_it_was_written(p in packet()) {
        let bytes = p.encode();
        prop_assert_eq!(bytes.len(), 1);
        prop_assert_eq!(Packet::decode(&bytes[0]), Ok(p));
    }

    #[test]
    fn a_value_is_read_as_it_was_written(v in value(2000)) {
        prop_assert_eq!(Value::unpack_bytes(&v.pack()), Ok(v));
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Packet::decode(&bytes);
        let _ = Value::unpack_bytes(&bytes);
        let _ = Discovery::decode(&bytes);
        let _ = NodeState::decode(&bytes);
    }

    #[test]
    fn a_changed_datagram_is_answered(p in packet(), at in any::<prop::sample::Index>(), b in any::<u8>()) {
        let mut bytes = p.encode().remove(0);
        let at = at.index(bytes.len());
        bytes[at] = b;
        if let Ok(again) = Packet::decode(&bytes) {
            // Whatever was understood is understood again.
            if again.values().is_none_or(|v| v.announced.is_empty()) {
                let written = again.encode();
                if written.len() == 1 {
                    prop_assert!(Packet::decode(&written[0]).is_ok());
                }
            }
        }
    }

    #[test]
    fn parts_come_in_any_order_and_more_than_once(
        h in head(), key in id(), v in vec(value(4000), 1..4), seed in any::<u64>(), twice in any::<bool>(),
    ) {
        let v: Vec<_> = v.into_iter().map(Arc::new).collect();
        let packet = Packet::Request(h, Request::Put {
            key: Some(key), values: v.into(), created: None, token: vec![1; 32],
        });
        let mut datagrams = packet.encode();
        if twice {
            let again = datagrams.clone();
            datagrams.extend(again);
        }
        // A shuffle of no importance but for being one.
        datagrams.sort_by_key(|d| InfoHash::of(&[&seed.to_be_bytes()[..], d].concat()));
        let from: SocketAddr = "[2001:db8::1]:4222".parse().unwrap();
        let mut assembler = Assembler::new();
        let mut done = Vec::new();
        for d in &datagrams {
            done.extend(match Packet::decode(d).unwrap() {
                Packet::Part(p) => assembler.part(Duration::ZERO, from, p),
                other => assembler.header(Duration::ZERO, from, other),
            });
        }
        prop_assert!(!done.is_empty());
        for d in done {
            prop_assert_eq!(&d, &packet);
        }
    }

    #[test]
    fn nobody_makes_the_assembler_keep_much(parts in vec((any::<u32>(), 0u32..3, 0usize..70_000, vec(any::<u8>(), 0..50)), 0..200)) {
        let from: SocketAddr = "10.0.0.1:4222".parse().unwrap();
        let mut assembler = Assembler::new();
        for (tid, index, offset, data) in parts {
            let part = Part { tid, network: 0, client: false, pieces: vec![Piece { index, offset, data }] };
            prop_assert_eq!(assembler.part(Duration::ZERO, from, part), None);
        }
        assembler.expire(Duration::from_secs(3));
        prop_assert!(assembler.is_empty());
        prop_assert_eq!(assembler.next_timeout(), None);
    }
}

#[test]
fn one_source_announces_only_so_much() {
    let mut assembler = Assembler::new();
    let announce = |tid: u32| {
        let announced = (0..120).map(|i| (i, 65_000)).collect();
        let reply = Reply {
            values: Values {
                values: Vec::new(),
                announced,
            },
            ..Reply::default()
        };
        Packet::Reply(Head::new(InfoHash([1; 20]), tid, 0), reply)
    };
    let alice: SocketAddr = "10.0.0.1:4222".parse().unwrap();
    let bob: SocketAddr = "10.0.0.2:4222".parse().unwrap();
    const { assert!(120 * 65_000 < MAX_PER_SOURCE) };
    assert_eq!(assembler.header(Duration::ZERO, alice, announce(1)), None);
    assert_eq!(assembler.header(Duration::ZERO, alice, announce(2)), None);
    assert_eq!(assembler.len(), 1);
    // Bob is not kept out by Alice.
    assert_eq!(assembler.header(Duration::ZERO, bob, announce(2)), None);
    assert_eq!(assembler.len(), 2);
    assembler.expire(Duration::from_secs(2));
    assert_eq!(assembler.len(), 2);
    assembler.expire(Duration::from_secs(3));
    assert_eq!(assembler.len(), 0);
}
