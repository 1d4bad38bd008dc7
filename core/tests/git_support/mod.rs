//! A repository in memory, and the recorded traffic of two daemons.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use starling_core::git::object::{Kind, hash_object};
use starling_core::git::pack::{Limits, Resolved, Scanner};
use starling_core::git::{Repository, serve};
use starling_core::id::ObjectId;
use std::collections::BTreeMap;

#[derive(Default, Clone)]
pub struct Memory {
    pub head: Option<ObjectId>,
    pub objects: BTreeMap<ObjectId, (Kind, Vec<u8>)>,
}

impl Repository for Memory {
    fn head(&self) -> Option<ObjectId> {
        self.head
    }
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.objects.get(id).cloned()
    }
    fn contains(&self, id: &ObjectId) -> bool {
        self.objects.contains_key(id)
    }
}

impl Memory {
    pub fn add(&mut self, kind: Kind, bytes: &[u8]) -> ObjectId {
        let id = hash_object(kind, bytes);
        self.objects.insert(id, (kind, bytes.to_vec()));
        id
    }

    pub fn add_pack(&mut self, pack: &[u8]) -> Resolved {
        let mut scanner = Scanner::new(Limits::default());
        scanner.push(pack).unwrap();
        scanner
            .finish()
            .unwrap()
            .resolve_each(pack, |id, o| {
                self.objects.insert(id, (o.kind, o.bytes.to_vec()));
            })
            .unwrap()
    }

    /// From a git bundle: its objects and its `refs/heads/main`.
    pub fn from_bundle(bytes: &[u8]) -> Self {
        let at = bytes.windows(2).position(|w| w == b"\n\n").unwrap();
        let head = std::str::from_utf8(&bytes[..at])
            .unwrap()
            .lines()
            .find_map(|l| l.strip_suffix(" refs/heads/main"))
            .unwrap()
            .parse()
            .unwrap();
        let mut repo = Self {
            head: Some(head),
            ..Self::default()
        };
        repo.add_pack(&bytes[at + 2..]);
        repo
    }

    /// A commit on top of the head, with one file.
    pub fn commit(&mut self, parents: &[ObjectId], time: i64, message: &str) -> ObjectId {
        let blob = self.add(Kind::Blob, format!("file {}", time % 3).as_bytes());
        let mut tree = b"100644 f\0".to_vec();
        tree.extend_from_slice(blob.as_bytes());
        let tree = self.add(Kind::Tree, &tree);
        let parents: String = parents.iter().map(|p| format!("parent {p}\n")).collect();
        let text = format!(
            "tree {tree}\n{parents}author A <a> {time} +0000\ncommitter A <a> {time} +0000\n\n{message}"
        );
        let id = self.add(Kind::Commit, text.as_bytes());
        self.head = Some(id);
        id
    }
}

pub fn one_to_one() -> Memory {
    Memory::from_bundle(include_bytes!("../data/git/one-to-one.bundle"))
}

pub fn group() -> Memory {
    Memory::from_bundle(include_bytes!("../data/git/group.bundle"))
}

/// One fetch as recorded: what the client wrote and what the server wrote, frame by frame.
#[derive(Default, Clone)]
pub struct Exchange {
    pub client: Vec<Vec<u8>>,
    pub server: Vec<Vec<u8>>,
}

/// The recorded fetches of a channel between two current daemons.
pub fn exchanges(text: &str) -> Vec<Exchange> {
    let mut out: Vec<Exchange> = Vec::new();
    for line in text.lines() {
        let (side, hex) = line.split_once(' ').unwrap();
        let bytes = hex::decode(hex).unwrap();
        if side == ">" && bytes.starts_with(b"0084git-upload-pack") {
            out.push(Exchange::default());
        }
        let exchange = out.last_mut().unwrap();
        match side {
            ">" => exchange.client.push(bytes),
            _ => exchange.server.push(bytes),
        }
    }
    out
}

pub fn channels() -> Vec<Vec<Exchange>> {
    vec![
        exchanges(include_str!("../data/git/channel-0.txt")),
        exchanges(include_str!("../data/git/channel-1.txt")),
    ]
}

/// All that a server has to say now: bytes and events.
pub fn drain(server: &mut serve::UploadPack, repo: &Memory) -> (Vec<u8>, Vec<serve::Event>, bool) {
    let (mut bytes, mut events, mut closed) = (Vec::new(), Vec::new(), false);
    while let Some(output) = server.poll_output(repo) {
        match output {
            serve::Output::Send(b) => {
                assert!(b.len() <= 65520);
                bytes.extend(b);
            }
            serve::Output::Event(e) => events.push(e),
            serve::Output::Close => closed = true,
        }
    }
    (bytes, events, closed)
}
