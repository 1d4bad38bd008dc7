//! Our node next to nodes of the reference: what real nodes answered to recorded datagrams, ours answers too.
#![allow(clippy::unwrap_used)]

use starling_core::crypto::{Crypto, CryptoError, PrivateKey, SignatureCheck};
use starling_core::dht::node::{Node, NodeConfig};
use starling_core::dht::packet::{Head, Packet, Reply, Request};
use starling_core::dht::value::Value;
use starling_core::id::InfoHash;
use starling_core::msgpack::{self, Value as Mp};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// No signature verifies.
struct NoCrypto;

impl Crypto for NoCrypto {
    fn verify(&self, _: &SignatureCheck) -> bool {
        false
    }
    fn rsa_encrypt(&self, _: &[u8], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn generate_rsa(&self, _: u32) -> Result<Box<dyn PrivateKey>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn read_private_key(&self, _: &[u8]) -> Result<Box<dyn PrivateKey>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn aes_gcm_seal(&self, _: &[u8], _: &[u8; 12], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn aes_gcm_open(&self, _: &[u8], _: &[u8; 12], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn random(&self, _: &mut [u8]) {}
}

/// Our node, and one recorded peer that answers its pings.
struct Table {
    node: Node,
    now: Duration,
    peer: InfoHash,
    addr: SocketAddr,
}

impl Table {
    fn new(id: InfoHash, peer: InfoHash, addr: &str, unix: i64) -> Self {
        let now = Duration::from_secs(100);
        let mut node = Node::new(now, NodeConfig::new(id), [9; 32], Arc::new(NoCrypto));
        node.set_unix_time(now, unix);
        let addr = addr.parse().unwrap();
        let mut table = Self {
            node,
            now,
            peer,
            addr,
        };
        // It answers a ping, and so is a good node from then on.
        table.node.insert_node(now, peer, addr);
        assert!(table.replies().is_empty());
        table
    }

    /// What our node sends now, but for pings and searches of its own.
    fn replies(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(transmit) = self.node.poll_transmit() {
            assert_eq!(transmit.to, self.addr);
            match Packet::decode(&transmit.payload).unwrap() {
                Packet::Request(head, Request::Ping) => {
                    let pong = Packet::Reply(Head::new(self.peer, head.tid, 0), Reply::default());
                    for datagram in pong.encode() {
                        self.node.handle_datagram(self.now, self.addr, &datagram);
                    }
                }
                Packet::Request(_, Request::Find { .. } | Request::Get { .. }) => {}
                _ => out.push(transmit.payload),
            }
        }
        out
    }

    fn ask(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.now += Duration::from_millis(10);
        let (now, addr) = (self.now, self.addr);
        self.node.handle_datagram(now, addr, datagram);
        self.replies()
    }

    /// A token of our node.
    fn token(&mut self) -> Vec<u8> {
        let find = Request::Find {
            target: self.peer,
            want: None,
        };
        let find = Packet::Request(Head::new(self.peer, 4, 0), find).encode();
        match Packet::decode(&self.ask(&find[0])[0]).unwrap() {
            Packet::Reply(_, reply) => reply.token.unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

fn json(text: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(text).unwrap()
}

fn id(hex: &str) -> InfoHash {
    hex.parse().unwrap()
}

fn bytes(v: &serde_json::Value) -> Vec<u8> {
    hex::decode(v.as_str().unwrap()).unwrap()
}

/// Replaces a token that stands in a recorded datagram.
fn with_token(datagram: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = datagram.to_vec();
    assert_eq!(old.len(), new.len());
    while let Some(at) = out.windows(old.len()).position(|w| w == old) {
        out[at..at + old.len()].copy_from_slice(new);
    }
    out
}

/// What is compared: all but the agent tag, the token, and the transaction of a request.
fn comparable(datagram: &[u8]) -> Mp {
    fn mask(v: &mut Mp, request: bool) {
        if let Mp::Map(entries) = v {
            for (key, value) in entries {
                match key.as_str() {
                    Some("v") if value.is_str() => *value = "any".into(),
                    Some("token") => *value = "any".into(),
                    Some("t") if request => *value = 0.into(),
                    _ => mask(value, request),
                }
            }
        }
    }
    let mut v = msgpack::decode(datagram, 65_535).unwrap();
    let request = msgpack::get(&v, "q").is_some();
    mask(&mut v, request);
    v
}

#[test]
fn probes_of_a_real_node_are_answered_alike() {
    let all = json(include_str!("data/dht/probes.json"));
    let probes = all
        .iter()
        .filter(|p| p["lib"].as_str().is_some_and(|l| l.contains("newest")));
    let recorded =
        hex::decode("9c0ff01cb374e13a8625cb3badfddc8c92814b38e50f96fea316ccb5978a984d").unwrap();
    let mut table = Table::new(
        id(&"ee".repeat(20)),
        id(&"ab".repeat(20)),
        "127.0.0.1:20001",
        // An hour before the creation time that one probe has in the future.
        1_795_253_943 - 3600,
    );
    let token = table.token();
    let mut compared = 0;
    let mut pushed = Vec::new();
    for probe in probes {
        let name = probe["probe"].as_str().unwrap();
        let expected: Vec<Mp> = probe["replies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| comparable(&bytes(r)))
            .collect();
        if probe["request"].is_null() {
            // What listeners of the probes were told.
            if name.contains("v1 update") {
                assert_eq!(pushed, expected, "{name}");
                compared += 1;
            }
            continue;
        }
        let request = with_token(&bytes(&probe["request"]), &recorded, &token);
        let mut replies: Vec<Mp> = table.ask(&request).iter().map(|d| comparable(d)).collect();
        if name == "listen v1" {
            // The values come before the reply.
            pushed = vec![replies.remove(0)];
        }
        assert_eq!(replies, expected, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 44);
}

#[test]
fn listeners_of_old_nodes_are_told_in_their_dialect() {
    let all = json(include_str!("data/dht/probes.json"));
    let pushed = |what: &str| {
        let probe = all
            .iter()
            .find(|p| p["probe"].as_str().unwrap().ends_with(what));
        comparable(&bytes(&probe.unwrap()["replies"][0]))
    };
    let (us, peer) = (id(&"ee".repeat(20)), id(&"ab".repeat(20)));
    let mut table = Table::new(us, peer, "127.0.0.1:20001", 1_795_250_000);
    let token = table.token();
    let key = Some(id("699de12dc3094b06a5098e77fb1cdd72975b76a2"));
    let listen = Request::Listen {
        key,
        version: 0,
        token: token.clone(),
        sid: 555,
        query: Default::default(),
    };
    let listen = Packet::Request(Head::new(peer, 1039, 0), listen).encode();
    assert_eq!(table.ask(&listen[0]).len(), 1);
    let mut put = |id: u64, data: &[u8]| {
        let value = Value::new(1234, data.to_vec()).with_id(id);
        let put = Request::Put {
            key,
            values: vec![Arc::new(value)].into(),
            created: None,
            token: token.clone(),
        };
        let put = Packet::Request(Head::new(peer, 9, 0), put).encode();
        comparable(&table.ask(&put[0])[0])
    };
    assert_eq!(put(7, b"v"), pushed("v0 r[id,sa,token,values]"));
    put(8, b"w");
    assert_eq!(put(8, b"w"), pushed("v0 uid,token,re"));
    // It listens on, so that it hears of the end too.
    table.now += Duration::from_secs(300);
    assert_eq!(table.ask(&listen[0]).len(), 1);
    let end = table.now + Duration::from_secs(301);
    let mut notices = Vec::new();
    while table.node.poll_timeout().unwrap() < end {
        table.now = table.node.poll_timeout().unwrap();
        table.node.handle_timeout(table.now);
        notices.extend(table.replies().iter().map(|d| comparable(d)));
    }
    assert_eq!(notices[0], pushed("v0 uid,token,exp"));
}

#[test]
fn in_the_place_of_an_old_node_ours_says_the_same() {
    let transcript = json(include_str!("data/dht/transcript-mixed.json"));
    let old = id("cadb8dc254a494ec0fa5085911c028bb49a61396");
    let new = id(&"ee".repeat(20));
    let recorded =
        hex::decode("26261f52032a54078c1d113cce0fe72430accaa270d345243705423ce3e70d01").unwrap();
    let mut table = Table::new(old, new, "127.0.0.1:4502", 1_795_244_742);
    let token = table.token();
    let key = id("b746d79201944bf54f6a239c59d0b4a71be42873");
    let start = table.now;
    let (mut said, mut expected) = (Vec::new(), Vec::new());
    for line in &transcript {
        let datagram = bytes(&line["hex"]);
        let at = start + Duration::from_secs_f64(line["t"].as_f64().unwrap());
        table.now = table.now.max(at);
        let packet = Packet::decode(&datagram).unwrap();
        if line["from"] == "new" {
            if matches!(packet, Packet::Request(..)) {
                let request = with_token(&datagram, &recorded, &token);
                said.extend(table.ask(&request));
            }
            continue;
        }
        match packet {
            Packet::Request(_, Request::Put { values, .. }) => {
                // The operation of the old node itself; its push to the listener came first.
                let value = values.values[0].clone();
                table
                    .node
                    .put(table.now, key, (*value).clone(), false, None);
                let told = table.replies();
                let at = said.len();
                said.splice(at..at, told);
            }
            Packet::Request(_, Request::Update { .. }) | Packet::Reply(..) => {
                expected.push(datagram)
            }
            _ => {}
        }
    }
    let kinds = |all: &[Vec<u8>]| -> Vec<String> {
        let mut kinds: Vec<String> = all
            .iter()
            .map(|d| {
                let mut v = comparable(d);
                // Old nodes gave no token with a listen reply.
                if let Mp::Map(m) = &mut v
                    && let Some((_, Mp::Map(r))) =
                        m.iter_mut().find(|(k, _)| k.as_str() == Some("r"))
                {
                    r.retain(|(k, _)| k.as_str() != Some("token"));
                }
                format!("{v}")
            })
            .collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds(&said), kinds(&expected));
}
