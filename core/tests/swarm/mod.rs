//! Histories of real daemons and devices to write with, for all swarm tests.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub
)]

#[path = "../native/mod.rs"]
mod native;
pub use native::AwsLc;

use starling_core::crypto::PrivateKey;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::identity::{CertificateChain, private_key_from_pem};
use starling_core::swarm::object::{Kind, MemoryObjects};
use starling_core::swarm::write::Writer;
use std::io::Read as _;
use std::path::PathBuf;

pub fn data(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/swarm")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&data(name)).unwrap()
}

/// A conversation as a daemon left it.
pub struct Sample {
    pub objects: MemoryObjects,
    pub conversation: ConversationId,
    pub head: ObjectId,
}

/// The four: one-to-one and group, by the daemon of 2023 and that of 2026.
pub const SAMPLES: [&str; 4] = [
    "one-to-one-2023",
    "group-2023",
    "one-to-one-2026",
    "group-2026",
];

/// Reads `NAME.objects.gz`: a line `conversation ID head ID`, then per object a line `KIND LENGTH` and the content.
pub fn sample(name: &str) -> Sample {
    let mut raw = Vec::new();
    let packed = data(&format!("{name}.objects.gz"));
    flate2::read::GzDecoder::new(packed.as_slice())
        .read_to_end(&mut raw)
        .unwrap();
    let mut rest = raw.as_slice();
    let line = |rest: &mut &[u8]| -> Vec<String> {
        let end = rest.iter().position(|b| *b == b'\n').unwrap();
        let words = std::str::from_utf8(&rest[..end])
            .unwrap()
            .split(' ')
            .map(str::to_owned)
            .collect();
        *rest = &rest[end + 1..];
        words
    };
    let first = line(&mut rest);
    let mut objects = MemoryObjects::new();
    while !rest.is_empty() {
        let words = line(&mut rest);
        let kind = Kind::from_name(words[0].as_bytes()).unwrap();
        let (object, after) = rest.split_at(words[1].parse().unwrap());
        objects.insert(kind, object);
        rest = after;
    }
    Sample {
        objects,
        conversation: first[1].parse().unwrap(),
        head: first[3].parse().unwrap(),
    }
}

/// A device with its chain and key.
pub struct Device {
    pub name: String,
    pub chain: CertificateChain,
    pub key: Box<dyn PrivateKey>,
}

impl Device {
    /// Those of the samples: alice, bob, carol, ann, ben, cat; dave is alice's second, dan ann's second.
    pub fn load(name: &str) -> Self {
        let chain = CertificateChain::from_pem(&data(&format!("keys/{name}-chain.pem"))).unwrap();
        let key = private_key_from_pem(&AwsLc, &data(&format!("keys/{name}-device.key"))).unwrap();
        let mut shown = name.to_owned();
        shown[..1].make_ascii_uppercase();
        Self {
            name: shown,
            chain,
            key,
        }
    }

    pub fn account(&self) -> AccountId {
        self.chain.account_id()
    }

    pub fn id(&self) -> DeviceId {
        self.chain.device_id()
    }

    pub fn writer(&self) -> Writer<'_> {
        Writer::new(&self.name, &self.chain, &*self.key)
    }
}
