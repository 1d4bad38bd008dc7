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
use std::sync::Arc;

pub fn data(name: &str) -> Vec<u8> {
    // From the crate beside this one as well.
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../core/tests/data/swarm")
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
    pub key: Arc<dyn PrivateKey>,
}

impl Device {
    /// Those of the samples: alice, bob, carol, ann, ben, cat; dave is alice's second, dan ann's second.
    pub fn load(name: &str) -> Self {
        let chain = CertificateChain::from_pem(&data(&format!("keys/{name}-chain.pem"))).unwrap();
        let key = private_key_from_pem(&AwsLc, &data(&format!("keys/{name}-device.key")))
            .unwrap()
            .into();
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

use starling_core::git::object::{Mode, TreeEntry, parse_tree, write_tree};
use starling_core::swarm::commit::{Commit, Draft};
use starling_core::swarm::merge::is_banned;
use starling_core::swarm::message::{Action, ConversationMode, Message};
use starling_core::swarm::misbehaviour::Fault;
use starling_core::swarm::object::{NewObject, Objects as _};
use starling_core::swarm::path::{Direction, Standing, Target, TreePath};
use starling_core::swarm::tree::Trees;
use starling_core::swarm::validate::{Limits, Validation, Verdict, validate};
use starling_core::swarm::write::{Merged, Repository, WriteError, Written, initial};
use std::collections::BTreeMap;

/// One member's copy of a conversation.
#[derive(Clone)]
pub struct Room {
    pub objects: MemoryObjects,
    pub conversation: ConversationId,
    pub head: ObjectId,
    /// The clock, unix seconds.
    pub now: u64,
    /// Whether nobody is known to have what only this one has.
    pub alone: bool,
}

/// A day on which all certificates of the samples are valid.
pub const DAY: u64 = 1_800_000_000;

impl Room {
    /// A new conversation.
    pub fn create(creator: &Device, mode: ConversationMode, invited: Option<AccountId>) -> Self {
        Self::create_at(creator, mode, invited, DAY)
    }

    /// A new conversation, made at that time.
    pub fn create_at(
        creator: &Device,
        mode: ConversationMode,
        invited: Option<AccountId>,
        at: u64,
    ) -> Self {
        let first = initial(&creator.writer(), mode, invited, at).unwrap();
        let mut objects = MemoryObjects::new();
        let id = first.commit;
        objects.extend(first.objects);
        Self {
            objects,
            conversation: id.into(),
            head: id,
            now: at + 1,
            alone: true,
        }
    }

    /// A group with these members; the first one made it.
    pub fn group(people: &[&Device]) -> Self {
        Self::group_at(people, DAY)
    }

    /// The same, made at that time.
    pub fn group_at(people: &[&Device], at: u64) -> Self {
        let mut room = Self::create_at(people[0], ConversationMode::InvitesOnly, None, at);
        for who in &people[1..] {
            room.invite(people[0], who);
        }
        room
    }

    /// Invited and come in.
    pub fn invite(&mut self, by: &Device, who: &Device) {
        self.write(|r, now| r.add(&by.writer(), who.account(), now))
            .unwrap();
        self.write(|r, now| r.join(&who.writer(), now)).unwrap();
    }

    /// Writes one commit and moves the head.
    pub fn write(
        &mut self,
        operation: impl FnOnce(&mut Repository<'_>, u64) -> Result<Written, WriteError>,
    ) -> Result<ObjectId, WriteError> {
        let written = operation(&mut self.open(), self.now)?;
        self.now += 1;
        self.head = written.commit;
        self.objects.extend(written.objects);
        Ok(self.head)
    }

    pub fn open(&self) -> Repository<'_> {
        Repository::new(&self.objects, self.conversation, self.head).unwrap()
    }

    pub fn say(&mut self, who: &Device, text: &str) -> ObjectId {
        let message = Message::text(text, None);
        self.write(|r, now| r.message(&who.writer(), message, now))
            .unwrap()
    }

    /// Takes what another one has: validates it, then fast-forwards or merges.
    pub fn pull(&mut self, me: &Device, other: &Room) -> Result<Verdict, Fault> {
        self.objects.take_in(&other.objects);
        let verdict = validate(
            &AwsLc,
            &self.objects,
            self.conversation,
            Some(self.head),
            other.head,
        )?;
        match self
            .open()
            .merge(&me.writer(), other.head, &|_| self.alone, self.now)
            .unwrap()
        {
            Merged::UpToDate => {}
            Merged::FastForward(head) | Merged::Adopt(head) => self.head = head,
            Merged::Commit(written) => {
                self.head = written.commit;
                self.objects.extend(written.objects);
            }
        }
        self.now = self.now.max(other.now) + 1;
        Ok(verdict)
    }

    pub fn valid(&self) -> Result<Verdict, Fault> {
        validate(&AwsLc, &self.objects, self.conversation, None, self.head)
    }

    pub fn valid_within(&self, limits: Limits) -> Result<Verdict, Fault> {
        let (objects, id) = (&self.objects, self.conversation);
        Validation::within(limits, objects, id, &|_| None, self.head)?.run(&AwsLc)
    }

    pub fn commit(&self, id: ObjectId) -> Commit {
        Commit::parse(&self.objects.object(&id).unwrap().1).unwrap()
    }

    pub fn tree(&self) -> ObjectId {
        self.commit(self.head).tree
    }

    pub fn has(&self, path: TreePath) -> bool {
        Trees::new(&self.objects)
            .lookup(self.tree(), &path)
            .unwrap()
            .is_some()
    }

    pub fn banned(&self, account: AccountId) -> bool {
        is_banned(&mut Trees::new(&self.objects), self.tree(), account).unwrap()
    }

    pub fn blob(&mut self, data: &[u8]) -> ObjectId {
        self.objects.insert(Kind::Blob, data)
    }

    /// The head's tree with some files changed.
    pub fn changed(&mut self, files: &[(TreePath, Option<&[u8]>)]) -> ObjectId {
        let tree = Some(self.tree());
        let edits: BTreeMap<_, _> = files
            .iter()
            .map(|(p, d)| (*p, d.map(|d| self.objects.insert(Kind::Blob, d))))
            .collect();
        let (tree, new) = Trees::new(&self.objects).change(tree, &edits).unwrap();
        self.objects.extend(new);
        tree
    }

    /// Makes a member an admin. No commit does that by the rules, so what comes after it is
    /// validated from here on: see [`Self::valid_since`]. The daemon takes this one: it does not
    /// look at what files an edit changes.
    pub fn with_admin(&mut self, by: &Device, who: AccountId) -> ObjectId {
        let text = "Two of us decide from now on";
        let said = self.say(by, text);
        let edit = Message::Edit {
            body: text.into(),
            edit: said.to_hex(),
            legacy: false,
        };
        let pem = self.file(TreePath::member(who));
        self.forge(
            by,
            &edit.to_text(),
            &[
                (TreePath::member(who), None),
                (TreePath::admin(who), Some(&pem)),
            ],
        )
    }

    /// The same by another way: a ban is taken back, and who was a member comes back as an admin.
    /// The daemon does not look where an unban puts a certificate.
    pub fn back_as_admin(&mut self, by: &Device, who: AccountId) -> ObjectId {
        for direction in [Direction::Ban, Direction::Unban] {
            self.write(|r, now| r.vote(&by.writer(), direction, who, now))
                .unwrap();
            if direction == Direction::Ban {
                self.write(|r, now| r.resolve(&by.writer(), direction, who, now))
                    .unwrap();
            }
        }
        let member = Target::Account(Standing::Member, who);
        let pem = self.file(TreePath::Banned(member));
        self.forge(
            by,
            &Message::member(Action::Unban, who).to_text(),
            &[
                (TreePath::Vote(Direction::Unban, member, by.account()), None),
                (TreePath::Banned(member), None),
                (TreePath::admin(who), Some(&pem)),
            ],
        )
    }

    /// The content of a file of the head.
    pub fn file(&self, path: TreePath) -> Vec<u8> {
        let blob = Trees::new(&self.objects).lookup(self.tree(), &path);
        self.objects.object(&blob.unwrap().unwrap()).unwrap().1
    }

    /// Validates what came after a commit.
    pub fn valid_since(&self, have: ObjectId) -> Result<Verdict, Fault> {
        validate(
            &AwsLc,
            &self.objects,
            self.conversation,
            Some(have),
            self.head,
        )
    }

    /// Whatever a device wants to write, rightly signed; the head moves there.
    pub fn forge(
        &mut self,
        by: &Device,
        message: &str,
        files: &[(TreePath, Option<&[u8]>)],
    ) -> ObjectId {
        let tree = self.changed(files);
        self.forge_tree(by, message, tree, vec![self.head])
    }

    pub fn forge_tree(
        &mut self,
        by: &Device,
        message: &str,
        tree: ObjectId,
        parents: Vec<ObjectId>,
    ) -> ObjectId {
        let draft = Draft {
            tree,
            parents,
            name: &by.name,
            device: by.id(),
            time: self.now,
            message,
        };
        self.now += 1;
        let commit = draft.sign(&*by.key).unwrap();
        self.put(commit)
    }

    /// The head's tree with one more entry at its top, which may have no business there.
    pub fn grafted(&mut self, mode: Mode, name: &str, id: ObjectId) -> ObjectId {
        let data = self.objects.object(&self.tree()).unwrap().1;
        let mut entries = parse_tree(&data).unwrap();
        entries.retain(|e| e.name != name.as_bytes());
        entries.push(TreeEntry {
            mode,
            name: name.as_bytes(),
            id,
        });
        let bytes = write_tree(&mut entries);
        self.objects.insert(Kind::Tree, &bytes)
    }

    /// A history whose merges make long searches for common ancestors necessary, each for itself, if the one side
    /// `changes` something: the certificate of the device.
    pub fn tangle(&mut self, by: &Device, long: usize, merges: usize, changes: bool) {
        let before = self.tree();
        let device = TreePath::device(by.id());
        let mut renewed = self.file(device);
        renewed.push(b'\n');
        let tree = match changes {
            true => self.changed(&[(device, Some(&renewed))]),
            false => before,
        };
        let text = r#"{"body":"","type":"text/plain"}"#;
        let mut ends = [(self.head, before), (self.head, tree)];
        for (end, tree) in &mut ends {
            for _ in 0..long {
                *end = self.forge_tree(by, text, *tree, vec![*end]);
            }
        }
        let [(a, _), (b, _)] = ends;
        let merge = Message::merge(b).to_text();
        let mut head = self.forge_tree(by, &merge, tree, vec![a, b]);
        for _ in 0..merges {
            let again = self.forge_tree(by, &merge, tree, vec![a, b]);
            let text = Message::merge(again).to_text();
            head = self.forge_tree(by, &text, tree, vec![head, again]);
        }
    }

    /// So many commits in a row, without signatures.
    pub fn unsigned(&mut self, by: &Device, count: usize) {
        for _ in 0..count {
            let draft = Draft {
                tree: self.tree(),
                parents: vec![self.head],
                name: &by.name,
                device: by.id(),
                time: self.now,
                message: "{}",
            };
            let commit = NewObject::new(Kind::Commit, draft.to_sign());
            self.now += 1;
            self.put(commit);
        }
    }

    /// Stores a commit and makes it the head.
    pub fn put(&mut self, commit: NewObject) -> ObjectId {
        self.head = commit.id;
        self.objects.extend([commit]);
        self.head
    }
}
