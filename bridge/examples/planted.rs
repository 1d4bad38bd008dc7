//! Writes a history into the copies that bridges have of a conversation, for outside tests of what
//! no client does by itself. All bridges must be down. What follows is as ever: judged, signed, fetched.
//!
//! `planted rows`: the pairs of things done at the same time that `core/tests/swarm/rows.rs` knows,
//! one a line.
//!
//! `planted rows DIR CONVERSATION...`: plays one of them in each of these new conversations, which are
//! that bridge's own: both sides, by people of their own, and the merges that Starling makes when they
//! meet. Says of each what it is, and whether all of it is by our rules.
//!
//! `planted edit CONVERSATION MEMBER DIR...`: makes a member an admin, where the first bridge is the
//! admin's. No commit does that by the rules: this one says that it edits a text. All bridges must
//! have the same newest commit.
//!
//! `planted unban CONVERSATION MEMBER DIR...`: the same by the end of a ban.
//!
//! `planted forged CONVERSATION DIR`: a text in the name of the bridge's own device, signed with a key
//! that is not its own. Says which commit it is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../../core/tests/swarm/rows.rs"]
mod rows;
#[path = "../../core/tests/swarm/mod.rs"]
mod swarm;

use rows::{Cast, ROWS, Row, TURNS, apart, meet};
use starling_bridge::account::keep::{read_archive, read_identity};
use starling_bridge::conversation::{self, timeline::Timeline};
use starling_bridge::crypto::AwsLc;
use starling_bridge::store::{index::Index, objects::ObjectStore};
use starling_core::git::object::{Mode, parse_tree};
use starling_core::id::{AccountId, ConversationId, ObjectId};
use starling_core::identity::{Archive, Credential, Identity};
use starling_core::swarm::commit::Commit;
use starling_core::swarm::message::Message;
use starling_core::swarm::object::{Kind, MemoryObjects, Objects as _};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use swarm::{Device, Room};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "planted rows [DIR CONVERSATION...] | planted edit|unban CONVERSATION MEMBER DIR... | planted forged CONVERSATION DIR";

/// More commits than any conversation here has.
const MANY: usize = 10_000;

/// The one account of a bridge.
struct Owner {
    dir: PathBuf,
    device: Device,
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

fn device(name: &str, identity: Identity) -> Device {
    Device {
        name: name.into(),
        chain: identity.chain,
        key: identity.device_key,
    }
}

impl Owner {
    fn of(data_dir: &Path) -> Result<Self> {
        let mut accounts = std::fs::read_dir(data_dir.join("accounts"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.join("conversations").is_dir());
        let dir = accounts.next().ok_or("no account")?;
        let device = device("Admin", read_identity(&dir, now()?)?);
        Ok(Self { dir, device })
    }

    /// One more device of the account.
    fn further(&self) -> Result<Device> {
        let mut archive = Archive::read(&read_archive(&self.dir)?, &Credential::None, &AwsLc)?;
        let key = AwsLc.generate_rsa_keys(4096, 1)?.pop().ok_or("no key")?;
        let identity = archive.new_device(&AwsLc, now()?, key)?;
        Ok(device("Admin", identity))
    }

    /// A conversation, and a copy of it to write in.
    fn open(&self, id: ConversationId) -> Result<(ObjectStore, Room)> {
        let store = ObjectStore::open(&conversation::path(&self.dir, &id))?;
        let head = store.head().ok_or("no commit")?;
        let mut objects = MemoryObjects::new();
        let mut todo = vec![head];
        while let Some(id) = todo.pop() {
            if objects.contains(&id) {
                continue;
            }
            let (kind, data) = store.read(&id).ok_or("an object is missing")?;
            match kind {
                Kind::Commit => {
                    let commit = Commit::parse(&data)?;
                    todo.push(commit.tree);
                    todo.extend(commit.parents);
                }
                Kind::Tree => {
                    let files = parse_tree(&data)?;
                    todo.extend(files.iter().map(|file| file.id));
                    assert!(
                        files
                            .iter()
                            .all(|f| matches!(f.mode, Mode::Tree | Mode::File))
                    );
                }
                _ => {}
            }
            objects.insert(kind, &data);
        }
        let room = Room {
            objects,
            conversation: id,
            head,
            now: now()?,
            alone: false,
        };
        Ok((store, room))
    }
}

/// Brings a conversation to what a copy of it has become, and notes it as one that was looked through: else its
/// Starling would do that while nothing else is to be done, and write no more where something is against its rules.
fn plant(owner: &Owner, store: ObjectStore, from: ObjectId, room: &Room) -> Result<()> {
    let new: Vec<(Kind, &[u8])> = room
        .objects
        .iter()
        .filter(|(id, ..)| !store.contains(id))
        .map(|(_, kind, data)| (kind, data))
        .collect();
    store.commit(&new, Some(from), room.head)?;
    store.checkpoint()?;
    let index = Index::open(&owner.dir.join(conversation::INDEX))?;
    let mut timeline = Timeline::new(index, Arc::new(store), room.conversation);
    timeline.follow(room.head, false)?;
    let looked_at = timeline.unchecked(MANY);
    timeline.set_checked(Some(&looked_at))?;
    timeline.set_all_checked()?;
    Ok(())
}

/// Both sides of a row, and what becomes of them. Says whether our rules allow how it began.
fn play(cast: &Cast, row: &Row, room: &mut Room, ahead: u64) -> bool {
    for member in [&cast.ben, &cast.carol] {
        room.invite(&cast.ann, member);
    }
    (row.before)(cast, room);
    let by_the_rules = room.valid().is_ok();
    let start = room.head;
    let mut rooms = apart(cast, row, room, ahead);
    meet(cast, &mut rooms, TURNS[0], true);
    let [one, ..] = rooms;
    *room = one;
    room.valid_since(start).unwrap();
    (row.then)(cast, room);
    by_the_rules
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["rows"] => ROWS.iter().for_each(|row| println!("{}", row.what)),
        ["rows", dir, conversations @ ..] if conversations.len() == ROWS.len() => {
            let owner = Owner::of(Path::new(dir))?;
            let cast = Cast {
                dan: owner.further()?,
                ann: Owner::of(Path::new(dir))?.device,
                ..rows::cast()
            };
            for (n, (id, row)) in conversations.iter().zip(ROWS).enumerate() {
                let (store, mut room) = owner.open(id.parse()?)?;
                let from = room.head;
                // Both: whose head is the greater one decides some of them.
                let ahead = if n % 2 == 0 { 0 } else { 3 };
                let by_the_rules = play(&cast, row, &mut room, ahead);
                plant(&owner, store, from, &room)?;
                let rules = if by_the_rules { "valid" } else { "forged" };
                println!("{rules} {}", row.what);
            }
        }
        [way @ ("edit" | "unban"), conversation, member, dirs @ ..] if !dirs.is_empty() => {
            let who: AccountId = member.parse()?;
            let mut made: Option<(ObjectId, Room)> = None;
            for dir in dirs {
                let owner = Owner::of(Path::new(dir))?;
                let (store, mut room) = owner.open(conversation.parse()?)?;
                let from = room.head;
                let (before, new) = made.take().unwrap_or_else(|| {
                    let by = &owner.device;
                    match *way {
                        "edit" => room.with_admin(by, who),
                        _ => room.back_as_admin(by, who),
                    };
                    (from, room)
                });
                if before != from {
                    return Err("their newest commits differ".into());
                }
                plant(&owner, store, from, &new)?;
                made = Some((before, new));
            }
        }
        ["forged", conversation, dir] => {
            let owner = Owner::of(Path::new(dir))?;
            let (store, mut room) = owner.open(conversation.parse()?)?;
            let from = room.head;
            let named = &owner.device;
            let key = AwsLc.generate_rsa_keys(4096, 1)?.pop().ok_or("no key")?;
            let by = Device {
                name: named.name.clone(),
                chain: named.chain.clone(),
                key: key.into(),
            };
            let forged = room.forge(&by, &Message::text("forged", None).to_text(), &[]);
            plant(&owner, store, from, &room)?;
            println!("{}", forged.to_hex());
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
