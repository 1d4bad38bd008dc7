//! What the reference library put on the wire, read and written again to the same bytes.
#![allow(clippy::unwrap_used)]

use serde_json::Value as Json;
use starling_core::dht::discovery::{self, DhtService, Discovery, DiscoveryError};
use starling_core::dht::envelope::{self, keys};
use starling_core::dht::fragments::Assembler;
use starling_core::dht::nodes;
use starling_core::dht::packet::{Packet, PacketError, Request, Want};
use starling_core::dht::query::{Field, FieldValue, Query, Where};
use starling_core::dht::state::{self, NodeState, StateError};
use starling_core::dht::types::{self, ValueType};
use starling_core::dht::value::{Content, MAX_PACKED_SIZE, Value};
use starling_core::id::{AccountId, DeviceId, DeviceShortId, InfoHash};
use starling_core::msgpack;
use std::net::SocketAddr;
use std::time::Duration;

macro_rules! vectors {
    ($name:literal) => {
        serde_json::from_str::<Json>(include_str!(concat!("data/dht/", $name, ".json")))
            .expect("a JSON file")
    };
}

fn list(v: &Json) -> &Vec<Json> {
    v.as_array().expect("a list")
}

fn text(v: &Json) -> &str {
    v.as_str().expect("a text")
}

fn unhex(v: &Json) -> Vec<u8> {
    hex::decode(text(v)).expect("hexadecimal")
}

/// Datagrams that announce values are written anew with their parts, so they are compared
/// only in `fragments_are_put_together`.
fn announces(p: &Packet) -> bool {
    p.values().is_some_and(|v| !v.announced.is_empty())
}

#[test]
fn every_recorded_datagram_is_read_and_written_to_the_same_bytes() {
    let mut kinds = std::collections::BTreeMap::<String, u32>::new();
    for file in [
        vectors!("packets-new"),
        vectors!("packets-2.4.12"),
        vectors!("transcript-mixed"),
    ] {
        for v in list(&file) {
            let bytes = unhex(&v["hex"]);
            let packet = Packet::decode(&bytes).unwrap_or_else(|e| panic!("{}: {e}", v["kind"]));
            let kind = match &packet {
                Packet::Request(_, r) => r.name(),
                Packet::Reply(..) => "reply",
                Packet::Error(..) => "error",
                Packet::Notice(..) => "notice",
                Packet::Part(_) => "part",
            };
            *kinds.entry(kind.to_owned()).or_default() += 1;
            if announces(&packet) {
                continue;
            }
            let again = packet.encode();
            assert_eq!(again.len(), 1, "{}", v["kind"]);
            assert_eq!(hex::encode(&again[0]), text(&v["hex"]), "{}", v["kind"]);
        }
    }
    for kind in [
        "ping", "find", "get", "put", "refresh", "listen", "update", "reply", "part",
    ] {
        assert!(kinds.contains_key(kind), "no {kind} among the vectors");
    }
}

#[test]
fn probes_of_a_real_node_are_read_as_it_read_them() {
    for v in list(&vectors!("probes")) {
        let name = text(&v["probe"]);
        for reply in v["replies"].as_array().into_iter().flatten() {
            let bytes = unhex(reply);
            let packet = Packet::decode(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            if !announces(&packet) {
                assert_eq!(hex::encode(&packet.encode()[0]), text(reply), "{name}");
            }
        }
        let Some(request) = v["request"].as_str() else {
            continue;
        };
        let decoded = Packet::decode(&hex::decode(request).expect("hexadecimal"));
        match name {
            "get where seq (f4)" | "get query missing w" => {
                assert_eq!(decoded, Err(PacketError::Type("q")), "{name}");
            }
            "ping tid bin4" => assert_eq!(decoded.expect(name).tid(), 0x102),
            "find w 30(mac)" => match decoded.expect(name) {
                Packet::Request(_, Request::Find { want, .. }) => {
                    assert_eq!(
                        want,
                        Some(Want {
                            v4: false,
                            v6: true
                        })
                    );
                }
                other => panic!("{name}: {other:?}"),
            },
            _ => {
                decoded.unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
    }
}

#[test]
fn fields_mean_what_they_should() {
    let file = vectors!("packets-new");
    let find = |kind: &str| {
        let v = list(&file)
            .iter()
            .find(|v| text(&v["kind"]) == kind)
            .unwrap_or_else(|| panic!("no {kind}"));
        Packet::decode(&unhex(&v["hex"])).expect(kind)
    };
    let Packet::Request(head, Request::Find { target, want }) = find("find[id,target,w] n s")
    else {
        panic!()
    };
    assert_eq!(
        head.sender,
        InfoHash::from_slice(&hex::decode("5555555555555555555555555555555555555504").unwrap())
            .unwrap()
    );
    assert_eq!(
        (head.tid, head.network, head.client),
        (4_162_454_478, 77, true)
    );
    assert_eq!(head.agent, "o2");
    assert_eq!(target.to_hex(), "5555555555555555555555555555555555555564");
    assert_eq!(want, Some(Want { v4: true, v6: true }));

    let Packet::Request(_, Request::Get { key, query, want }) = find("get[id,h,q] s") else {
        panic!()
    };
    assert_eq!(
        key.unwrap().to_hex(),
        "eb621442ec858ad49ff89f309ea34424e8e3f428"
    );
    assert_eq!(
        query,
        Query {
            select: vec![Field::Id],
            wheres: vec![Where::Id(5)]
        }
    );
    assert_eq!(want, None);

    let Packet::Request(
        _,
        Request::Put {
            values,
            created,
            token,
            ..
        },
    ) = find("put[id,h,values,c,token]")
    else {
        panic!()
    };
    assert_eq!(created, Some(1_795_243_527));
    assert_eq!(token.len(), 32);
    assert_eq!(values.values[0].data(), b"hello dht");
    assert_eq!(values.values[0].user_type(), "text/plain");
    assert_eq!(values.values[0].id, 5);

    let Packet::Reply(_, reply) = find("r[id,sa,n4,token,fileds]") else {
        panic!()
    };
    let fields = reply.fields.unwrap();
    assert_eq!(fields.fields, [Field::Id, Field::Seq]);
    assert_eq!(fields.rows, [[FieldValue::Id(1), FieldValue::Seq(0)]]);
    assert_eq!(reply.seen_as, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(reply.nodes.len(), 2);

    let Packet::Request(
        _,
        Request::Update {
            sid,
            expired,
            values,
            ..
        },
    ) = find("update[id,sid,token,exp]")
    else {
        panic!()
    };
    assert_eq!((sid, expired), (3_582_709_363, vec![17]));
    assert!(values.is_empty());
}

#[test]
fn fragments_are_put_together_and_taken_apart_as_the_reference_does() {
    let from: SocketAddr = "127.0.0.1:4222".parse().unwrap();
    let now = Duration::from_secs(1);
    for v in list(&vectors!("fragments")) {
        let what = text(&v["what"]);
        let datagrams: Vec<Vec<u8>> = list(&v["packets"])
            .iter()
            .filter(|p| {
                // The other side's acknowledgement may be among them.
                matches!(Packet::decode(&unhex(&p["hex"])), Ok(Packet::Part(_)))
                    || Packet::decode(&unhex(&p["hex"])).is_ok_and(|p| announces(&p))
            })
            .map(|p| unhex(&p["hex"]))
            .collect();
        let take = |order: &mut dyn Iterator<Item = &Vec<u8>>| {
            let mut assembler = Assembler::new();
            let mut done = Vec::new();
            for bytes in order {
                let out = match Packet::decode(bytes).unwrap() {
                    Packet::Part(p) => assembler.part(now, from, p),
                    other => assembler.header(now, from, other),
                };
                done.extend(out);
            }
            assert!(assembler.is_empty());
            done
        };
        let done = take(&mut datagrams.iter());
        assert_eq!(done.len(), 1, "{what}");
        let packed: Vec<String> = done[0]
            .values()
            .unwrap()
            .values
            .iter()
            .map(|v| hex::encode(v.pack()))
            .collect();
        let expected: Vec<&str> = list(&v["reassembled"]).iter().map(text).collect();
        assert_eq!(packed, expected, "{what}");
        // Backwards, parts before their header, it is the same.
        assert_eq!(take(&mut datagrams.iter().rev()), done, "{what}");
        // And we would have sent the same datagrams.
        assert_eq!(done[0].encode(), datagrams, "{what}");
    }
}

#[test]
fn node_lists() {
    for v in list(&vectors!("nodes")) {
        let blob = unhex(&v["blob"]);
        let nodes = match text(&v["key"]) {
            "n4" => nodes::unpack_v4(&blob),
            _ => nodes::unpack_v6(&blob),
        }
        .unwrap();
        for (n, j) in nodes.iter().zip(list(&v["nodes"])) {
            assert_eq!(n.id.to_hex(), text(&j["id"]));
            assert_eq!(n.addr.ip().to_string(), text(&j["ip"]));
            assert_eq!(u64::from(n.addr.port()), j["port"].as_u64().unwrap());
        }
        assert_eq!(nodes.len(), list(&v["nodes"]).len());
        let again = [nodes::pack_v4(&nodes), nodes::pack_v6(&nodes)].concat();
        assert_eq!(again, blob);
        assert_eq!(
            nodes::unpack_v4(&blob[1..]).map_err(|e| e.0),
            if (blob.len() - 1).is_multiple_of(26) {
                panic!()
            } else {
                Err(blob.len() - 1)
            }
        );
    }
}

#[test]
fn queries() {
    for v in list(&vectors!("queries")) {
        let Some(packed) = v["packed"].as_str() else {
            continue;
        };
        let bytes = hex::decode(packed).unwrap();
        let query = Query::from_msgpack(&msgpack::decode(&bytes, 1000).unwrap()).unwrap();
        assert_eq!(
            hex::encode(msgpack::encode(&query.to_msgpack())),
            packed,
            "{}",
            v["text"]
        );
    }
}

#[test]
fn values() {
    for v in list(&vectors!("values")) {
        let name = text(&v["name"]);
        let packed = unhex(&v["packed"]);
        let value = Value::unpack_bytes(&packed).unwrap();
        assert_eq!(hex::encode(value.pack()), text(&v["packed"]), "{name}");
        match &value.content {
            Content::Encrypted(c) => assert_eq!(hex::encode(c), text(&v["cypher"])),
            Content::Clear(c) => {
                assert_eq!(value.id.to_string(), text(&v["id"]), "{name}");
                assert_eq!(hex::encode(c.to_sign()), text(&v["to_sign"]), "{name}");
                assert_eq!(
                    hex::encode(c.to_encrypt()),
                    text(&v["to_encrypt"]),
                    "{name}"
                );
                assert_eq!(hex::encode(&c.data), text(&v["data"]));
                assert_eq!(u64::from(c.type_id), v["type"].as_u64().unwrap());
                assert_eq!(c.user_type, text(&v["user_type"]));
                assert_eq!(u64::from(value.priority), v["priority"].as_u64().unwrap());
                if let Some(size) = v["accounted_size"].as_u64() {
                    assert_eq!(value.accounted_size() as u64, size, "{name}");
                }
                if let Some(owner) = v["owner_der"].as_str() {
                    let s = c.signed.as_ref().unwrap();
                    assert_eq!(hex::encode(&s.owner), owner);
                    assert_eq!(hex::encode(&s.signature), text(&v["signature"]));
                    assert_eq!(u64::from(s.seq), v["seq"].as_u64().unwrap());
                    assert_eq!(
                        s.recipient.map(|r| r.to_hex()).as_deref(),
                        v["recipient"].as_str()
                    );
                } else {
                    assert!(c.signed.is_none());
                }
            }
        }
    }
}

#[test]
fn hashes_and_keys() {
    for v in list(&vectors!("hash")) {
        if let Some(input) = v["input"].as_str() {
            assert_eq!(
                InfoHash::of(input.as_bytes()).to_hex(),
                text(&v["infohash_get"])
            );
        }
    }
    for v in list(&vectors!("identities")) {
        let spki = unhex(&v["public_key_der"]);
        let short = DeviceShortId::of_key(&spki);
        let long = DeviceId::of_key(&spki);
        assert_eq!(short.to_hex(), text(&v["id_sha1_spki"]));
        assert_eq!(long.to_hex(), text(&v["long_id_sha256_spki"]));
        assert_eq!(keys::node_id(&short).to_hex(), text(&v["default_node_id"]));
        assert_eq!(
            keys::certificate_long(&long).to_hex(),
            text(&v["cert_announce_key_new"])
        );
        assert_eq!(
            keys::certificate_short(&short).to_hex(),
            text(&v["cert_announce_key_old"])
        );
    }
}

#[test]
fn request_keys_hash_the_text_of_ids() {
    // sha1sum of "peer:" and "inbox:" with the ids as hexadecimal text.
    let short = DeviceShortId([0xab; 20]);
    let long = DeviceId([0xcd; 32]);
    assert_eq!(
        keys::peer_short(&short),
        InfoHash::of(format!("peer:{}", "ab".repeat(20)).as_bytes())
    );
    assert_eq!(
        keys::peer_long(&long),
        InfoHash::of(format!("peer:{}", "cd".repeat(32)).as_bytes())
    );
    assert_eq!(
        keys::inbox(&short),
        InfoHash::of(format!("inbox:{}", "ab".repeat(20)).as_bytes())
    );
    assert_eq!(keys::announcements(&AccountId([7; 20])), InfoHash([7; 20]));
}

#[test]
fn certificate_values() {
    for v in list(&vectors!("types")) {
        if text(&v["name"]) != "Certificate-value-packed" {
            continue;
        }
        let value = Value::unpack_bytes(&unhex(&v["packed"])).unwrap();
        assert_eq!(value.id, 1);
        let chain = envelope::certificates(&value);
        assert_eq!(chain.len(), 2);
        let spki = envelope::certificate_key(&value).unwrap();
        let device = vectors!("identities");
        let device = list(&device)
            .iter()
            .find(|i| text(&i["name"]) == "alice-device")
            .unwrap();
        assert_eq!(hex::encode(spki), text(&device["public_key_der"]));
        // Made from the same PEM it is the same value.
        let again =
            envelope::certificate_value(include_str!("data/dht/identities/alice-device.crt"));
        assert_eq!(hex::encode(again.pack()), text(&v["packed"]));
        return;
    }
    panic!("no certificate among the vectors");
}

#[test]
fn rsa_key_lengths() {
    for v in list(&vectors!("identities")) {
        let spki = unhex(&v["public_key_der"]);
        let expected = match text(&v["name"]) {
            "carol4096" => Some(512),
            "dave-ec" => None,
            _ => Some(256),
        };
        assert_eq!(envelope::rsa_len(&spki), expected, "{}", v["name"]);
    }
}

#[test]
fn discovery() {
    for v in list(&vectors!("discovery")) {
        let bytes = unhex(&v["hex"]);
        let d = Discovery::decode(&bytes).unwrap();
        assert_eq!(d.encode(), bytes);
        if let Discovery::Publish(s) = d {
            let j = &v["decoded"]["dht"];
            let s = s.unwrap();
            assert_eq!(s.id.to_hex(), text(&j[0]["bin"]));
            assert_eq!(u64::from(s.port), j[1].as_u64().unwrap());
            assert_eq!(s.network, 0);
        }
    }
    assert_eq!(
        Discovery::decode(
            &Discovery::Publish(Some(DhtService {
                id: InfoHash([1; 20]),
                port: 1,
                network: 9
            }))
            .encode()
        ),
        Ok(Discovery::Publish(Some(DhtService {
            id: InfoHash([1; 20]),
            port: 1,
            network: 9
        })))
    );
}

#[test]
fn bad_discoveries_have_names() {
    use msgpack::Value as Mp;
    let read = |m: &Mp| Discovery::decode(&msgpack::encode(m));
    // What is neither a question nor a list of services.
    for m in [
        "p".into(),
        "".into(),
        Mp::Binary(b"q".to_vec()),
        Mp::Nil,
        0.into(),
        Mp::Array(vec!["q".into()]),
    ] {
        assert_eq!(read(&m), Err(DiscoveryError::Format), "{m:?}");
    }
    for bytes in [&b""[..], b"\xc1", b"\xa2q", b"\x81\xa3dht"] {
        let error = Discovery::decode(bytes).unwrap_err();
        assert!(matches!(error, DiscoveryError::Msgpack(_)), "{error}");
    }
    let too_long = msgpack::MsgpackError::TooLong(discovery::MAX_DATAGRAM);
    let padded = |size| {
        let mut bytes = Discovery::Query.encode();
        bytes.resize(size, 0);
        Discovery::decode(&bytes)
    };
    assert_eq!(padded(discovery::MAX_DATAGRAM), Ok(Discovery::Query));
    assert_eq!(
        padded(discovery::MAX_DATAGRAM + 1),
        Err(DiscoveryError::Msgpack(too_long))
    );

    // Services that are none are passed over, and so are others.
    let id = || Mp::Binary(vec![1; 20]);
    let good = DhtService {
        id: InfoHash([1; 20]),
        port: 1,
        network: 0,
    };
    let none = Discovery::Publish(None);
    for (service, expected) in [
        (Mp::Array(vec![id(), 1.into(), 0.into()]), Some(good)),
        (
            Mp::Array(vec![id(), 1.into(), 0.into(), 9.into()]),
            Some(good),
        ),
        (Mp::Array(vec![id(), 0.into(), 0.into()]), None),
        (Mp::Array(vec![id(), 65_536.into(), 0.into()]), None),
        (Mp::Array(vec![id(), 1.into(), (1u64 << 32).into()]), None),
        (Mp::Array(vec![id(), 1.into()]), None),
        (
            Mp::Array(vec![Mp::Binary(vec![1; 19]), 1.into(), 0.into()]),
            None,
        ),
        (
            Mp::Array(vec![Mp::Binary(vec![0; 20]), 1.into(), 0.into()]),
            None,
        ),
        (
            Mp::Array(vec!["a".repeat(20).as_str().into(), 1.into(), 0.into()]),
            None,
        ),
        (Mp::Nil, None),
    ] {
        let m = msgpack::map([("dht", service.clone())]);
        assert_eq!(read(&m), Ok(Discovery::Publish(expected)), "{service:?}");
    }
    assert_eq!(read(&msgpack::map([("jami", id())])), Ok(none));
}

#[test]
fn bad_state_files_have_names() {
    use msgpack::Value as Mp;
    let read = |m: &Mp| NodeState::decode(&msgpack::encode(m));
    for m in [
        msgpack::map([]),
        msgpack::map([("id", Mp::Binary(vec![1; 20]))]),
        msgpack::map([("v", 2.into())]),
        msgpack::map([("v", 0.into())]),
        msgpack::map([("v", "1".into())]),
        msgpack::map([("v", Mp::Nil)]),
        Mp::Array(vec![1.into()]),
        1.into(),
        "v".into(),
    ] {
        assert_eq!(read(&m), Err(StateError::Format), "{m:?}");
    }
    for bytes in [&b""[..], b"\xc1", b"\x81\xa1v", b"broken"] {
        let error = NodeState::decode(bytes).unwrap_err();
        assert!(matches!(error, StateError::Msgpack(_)), "{error}");
    }

    // Of a state every entry that makes sense counts.
    let recorded = vectors!("state");
    let mut all = list(&recorded)
        .iter()
        .filter(|v| text(&v["lib"]).contains("newest"))
        .map(|v| NodeState::decode(&unhex(&v["hex"])).unwrap());
    let whole = all.next().unwrap();
    let state = msgpack::decode(&whole.encode(), state::MAX_STATE).unwrap();
    let with = |key: &str, item: Mp| {
        let mut m = state.clone();
        if let Mp::Map(entries) = &mut m {
            for (k, v) in entries {
                match v {
                    Mp::Array(items) if k.as_str() == Some(key) => items.insert(0, item.clone()),
                    other if k.as_str() == Some(key) => *other = item.clone(),
                    _ => {}
                }
            }
        }
        read(&m).unwrap()
    };
    let node = |id: Vec<u8>, addr: Vec<u8>| {
        msgpack::map([("id", Mp::Binary(id)), ("addr", Mp::Binary(addr))])
    };
    let addr = |text: &str| state::sockaddr(&text.parse().unwrap());
    for bad in [
        Mp::Nil,
        msgpack::map([]),
        node(vec![1; 19], addr("192.0.2.1:1")),
        node(vec![0; 20], addr("192.0.2.1:1")),
        node(vec![1; 20], addr("192.0.2.1:0")),
        node(vec![1; 20], addr("0.0.0.0:1")),
        node(vec![1; 20], addr("[ff02::1]:1")),
        node(vec![1; 20], vec![7, 0, 0, 1]),
        node(vec![1; 20], Vec::new()),
    ] {
        assert_eq!(with("nodes", bad.clone()), whole, "{bad:?}");
    }
    assert_eq!(
        with("nodes", node(vec![1; 20], addr("192.0.2.1:1")))
            .nodes
            .len(),
        whole.nodes.len() + 1
    );
    let key = || Mp::Binary(vec![1; 20]);
    let entries = |e: Vec<Mp>| Mp::Binary(msgpack::encode(&Mp::Array(e)));
    for bad in [
        Mp::Nil,
        Mp::Array(vec![key()]),
        Mp::Array(vec![Mp::Binary(vec![1; 21]), entries(Vec::new())]),
        Mp::Array(vec![key(), Mp::Binary(b"\xc1".to_vec())]),
        Mp::Array(vec![key(), entries(vec![Mp::Nil])]),
        Mp::Array(vec![key(), entries(vec![Mp::Array(vec![0.into()])])]),
        Mp::Array(vec![
            key(),
            entries(vec![Mp::Array(vec![0.into(), "no value".into()])]),
        ]),
    ] {
        assert_eq!(with("values", bad.clone()), whole, "{bad:?}");
    }
    for id in [vec![1; 19], vec![0; 20], Vec::new()] {
        assert_eq!(with("id", Mp::Binary(id)).id, None);
    }
}

#[test]
fn state_files() {
    for v in list(&vectors!("state")) {
        let bytes = unhex(&v["hex"]);
        let state = NodeState::decode(&bytes).unwrap();
        assert_eq!(state.id, Some(InfoHash([0xee; 20])));
        assert_eq!(state.nodes.len(), 1);
        assert_eq!(state.nodes[0].id, InfoHash([0xab; 20]));
        assert!(!state.values.is_empty());
        assert_eq!(state.values[0].value.data(), b"persist me");
        // What we write we read; and what we write is stable.
        let ours = state.encode();
        let again = NodeState::decode(&ours).unwrap();
        assert_eq!(again.nodes, state.nodes);
        assert_eq!(again.values.len(), state.values.len());
        assert_eq!(again.encode(), ours);
        let new = text(&v["lib"]).contains("newest");
        assert_eq!(state.values[0].expires.is_some(), new);
        assert_eq!(state.values[0].created.is_some(), new);
    }
}

#[test]
fn lifetimes() {
    for (id, seconds) in [
        (0, 600),
        (1, 300),
        (2, 900),
        (3, 300),
        (4, 604_800),
        (5, 60),
        (8, 604_800),
        (9, 604_800),
        (1234, 600),
    ] {
        assert_eq!(
            ValueType::of(id).lifetime,
            Duration::from_secs(seconds),
            "type {id}"
        );
    }
    assert!(!ValueType::of(types::CERTIFICATE).secured);
    assert!(!ValueType::of(1234).secured);
}

#[test]
fn bad_datagrams_have_names() {
    let ok = msgpack::map([
        (
            "a",
            msgpack::map([("id", msgpack::Value::Binary(vec![1; 20]))]),
        ),
        ("q", "ping".into()),
        ("t", 7.into()),
        ("y", "q".into()),
    ]);
    assert!(Packet::decode(&msgpack::encode(&ok)).is_ok());
    let change = |key: &str, value: Option<msgpack::Value>| {
        let mut m = ok.clone();
        if let msgpack::Value::Map(entries) = &mut m {
            entries.retain(|(k, _)| k.as_str() != Some(key));
            if let Some(v) = value {
                entries.push((key.into(), v));
            }
        }
        Packet::decode(&msgpack::encode(&m)).map(|_| ())
    };
    let id = |v: msgpack::Value| Some(msgpack::map([("id", v)]));
    assert_eq!(change("t", None), Err(PacketError::Missing("t")));
    assert_eq!(change("t", Some("abc".into())), Err(PacketError::Type("t")));
    assert_eq!(change("a", None), Err(PacketError::Missing("a")));
    assert_eq!(
        change("q", Some("bogus".into())),
        Err(PacketError::UnknownRequest)
    );
    assert_eq!(change("y", Some("z".into())), Err(PacketError::Type("y")));
    assert_eq!(change("y", None), Ok(()));
    assert_eq!(change("n", Some("77".into())), Err(PacketError::Type("n")));
    assert_eq!(change("s", Some(1.into())), Err(PacketError::Type("s")));
    // A str of 20 bytes is no id.
    assert_eq!(
        change("a", id("aaaaaaaaaaaaaaaaaaaa".into())),
        Err(PacketError::Type("id"))
    );
    assert_eq!(
        change("a", id(msgpack::Value::Binary(vec![1; 19]))),
        Err(PacketError::Type("id"))
    );
    assert_eq!(
        change("a", id(msgpack::Value::Binary(vec![0; 20]))),
        Err(PacketError::Missing("id"))
    );
    assert_eq!(Packet::decode(b"hello"), Err(PacketError::Type("datagram")));
    let mut trailing = msgpack::encode(&ok);
    trailing.extend_from_slice(b"xxx");
    assert!(Packet::decode(&trailing).is_ok());
}

#[test]
fn announced_sizes_are_bounded() {
    let put = |size: usize| {
        let a = msgpack::map([
            ("id", msgpack::Value::Binary(vec![1; 20])),
            ("h", msgpack::Value::Binary(vec![2; 20])),
            ("values", msgpack::Value::Array(vec![size.into()])),
            ("token", msgpack::Value::Binary(vec![3; 32])),
        ]);
        let m = msgpack::map([
            ("a", a),
            ("q", "put".into()),
            ("t", 7.into()),
            ("y", "q".into()),
        ]);
        Packet::decode(&msgpack::encode(&m))
            .unwrap()
            .values()
            .unwrap()
            .announced
            .len()
    };
    assert_eq!(put(MAX_PACKED_SIZE), 1);
    assert_eq!(put(MAX_PACKED_SIZE + 1), 0);
}
