//! The index that is made beside the validation of a clone is the one that is made from the
//! repository; and nothing is left of one that was refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod key_support;

use key_support::keys;
use starling_bridge::conversation::judging::check_clone;
use starling_bridge::conversation::making::Making;
use starling_bridge::conversation::repo::RepoError;
use starling_bridge::conversation::timeline::{Opened, Timeline};
use starling_bridge::crypto::AwsLc;
use starling_bridge::store::index::Index;
use starling_bridge::store::objects::ObjectStore;
use starling_core::id::{ConversationId, ObjectId};
use starling_core::identity::{Identity, create_account};
use starling_core::swarm::commit::Draft;
use starling_core::swarm::message::{ConversationMode, Message};
use starling_core::swarm::object::{Kind, NewObject};
use starling_core::swarm::validate::{Limits, RULES};
use starling_core::swarm::write::{self, Writer};
use std::path::Path;
use std::sync::Arc;

const START: u64 = 1_700_000_000;

fn ann() -> Identity {
    create_account(&AwsLc, START, keys()).unwrap().1
}

/// A conversation that Ann has with herself.
struct Room {
    ann: Identity,
    id: ConversationId,
    store: Arc<ObjectStore>,
    tree: ObjectId,
    head: ObjectId,
    time: u64,
}

impl Room {
    fn new(path: &Path) -> Self {
        let ann = ann();
        let store = ObjectStore::create(path).unwrap();
        let writer = Writer::new("Ann", &ann.chain, &*ann.device_key);
        let first = write::initial(&writer, ConversationMode::InvitesOnly, None, START).unwrap();
        put(&store, &first.objects);
        let (id, tree, head) = (first.commit.into(), first.tree, first.commit);
        Self {
            ann,
            id,
            store: Arc::new(store),
            tree,
            head,
            time: START,
        }
    }

    fn sign(&mut self, parents: Vec<ObjectId>, message: &Message, tree: ObjectId) -> NewObject {
        self.time += 1;
        let draft = Draft {
            tree,
            parents,
            name: "Ann",
            device: self.ann.device_id(),
            time: self.time,
            message: &message.to_text(),
        };
        draft.sign(&*self.ann.device_key).unwrap()
    }

    /// Texts, changes of them and reactions to them, with a fork and a merge now and then.
    fn grow(&mut self, count: usize) {
        let (mut objects, mut texts) = (Vec::new(), Vec::new());
        for n in 0..count {
            let about = texts.get(n * 7 % texts.len().max(1)).copied();
            let message = match (n % 10, about) {
                (3, Some(about)) => Message::edit(format!("changed {n} entirely"), about),
                (4, Some(about)) => Message::reaction("+", about),
                (5, Some(about)) if n % 4 == 0 => Message::edit("", about),
                _ => Message::text(format!("message {n}"), None),
            };
            let is_text = matches!(message, Message::Text { .. });
            let commit = self.sign(vec![self.head], &message, self.tree);
            if is_text {
                texts.push(commit.id);
            }
            if n % 50 == 49 {
                let beside = Message::text("beside", None);
                let beside = self.sign(vec![self.head], &beside, self.tree);
                let parents = vec![commit.id, beside.id];
                let merge = self.sign(parents, &Message::merge(beside.id), self.tree);
                self.head = merge.id;
                objects.extend([commit, beside, merge]);
            } else {
                self.head = commit.id;
                objects.push(commit);
            }
        }
        put(&self.store, &objects);
    }

    fn check(&self, making: &mut Making) -> Result<(), RepoError> {
        let own = self.ann.account_id();
        let go_on = || true;
        check_clone(
            Limits::default(),
            self.id,
            &*self.store,
            self.head,
            &own,
            &go_on,
            Some(making),
        )
        .map(drop)
    }
}

fn put(store: &ObjectStore, objects: &[NewObject]) {
    let objects: Vec<(Kind, &[u8])> = objects.iter().map(|o| (o.kind, &o.data[..])).collect();
    store.write_objects(&objects).unwrap();
}

/// All rows of what is to be read.
fn rows(path: &Path) -> Vec<String> {
    let db = rusqlite::Connection::open(path).unwrap();
    let mut out = Vec::new();
    for query in [
        "SELECT * FROM person",
        "SELECT * FROM conversation",
        "SELECT * FROM commits ORDER BY c, place",
        "SELECT * FROM aside",
        "SELECT c, id, sent_at, text FROM message ORDER BY c, id",
        "SELECT message.id FROM message WHERE key IN (SELECT rowid FROM words WHERE words MATCH 'entirely') ORDER BY id",
    ] {
        let mut query = db.prepare(query).unwrap();
        let columns = query.column_count();
        let found = query.query_map([], |row| {
            let values = (0..columns).map(|n| row.get::<_, rusqlite::types::Value>(n));
            Ok(format!("{:?}", values.collect::<Result<Vec<_>, _>>()?))
        });
        out.extend(found.unwrap().map(Result::unwrap));
    }
    out
}

#[test]
fn the_index_of_a_clone_is_the_one_of_its_repository() {
    let dir = tempfile::tempdir().unwrap();
    let mut room = Room::new(&dir.path().join("c"));
    room.grow(2600);
    let path = dir.path().join("beside.sqlite");
    let index = Index::open(&path).unwrap();
    let mut making = Making::begin(index.clone(), room.id, RULES);
    room.check(&mut making).unwrap();
    // It is not there for anybody before it is finished.
    assert_eq!(index.search(None, "message", 9).unwrap(), []);
    assert_eq!(index.head(&room.id).unwrap(), None);
    making.complete(&room.head).unwrap();
    assert_eq!(index.search(None, "message", 9).unwrap(), []);
    let mut timeline = Timeline::new(index.clone(), room.store.clone(), room.id);
    let how = timeline.follow(room.head, false).unwrap().0;
    assert_eq!(how, Opened::CaughtUp);
    assert_eq!(index.head(&room.id).unwrap(), Some(room.head));
    assert_eq!(index.search(None, "message", 9).unwrap().len(), 9);

    let other = dir.path().join("made.sqlite");
    let made = Index::open(&other).unwrap();
    let mut again = Timeline::new(made.clone(), room.store.clone(), room.id);
    assert_eq!(again.follow(room.head, true).unwrap().0, Opened::Made);
    assert_eq!(timeline.page(None, 5000), again.page(None, 5000));
    drop((timeline, again, index, made));
    let (beside, made) = (rows(&path), rows(&other));
    assert!(beside.len() > 5000, "{}", beside.len());
    for (n, (a, b)) in beside.iter().zip(&made).enumerate() {
        assert_eq!(a, b, "{n}");
    }
    assert_eq!(beside.len(), made.len());
}

#[test]
fn of_a_refused_clone_nothing_stays_and_its_oldest_fault_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut room = Room::new(&dir.path().join("c"));
    room.grow(1200);
    // Forged long before what cannot be read.
    let forged = room.sign(vec![room.head], &Message::text("forged", None), room.tree);
    let bytes = String::from_utf8(forged.data)
        .unwrap()
        .replace("forged", "Forged");
    let forged = NewObject::new(Kind::Commit, bytes.into_bytes());
    room.head = forged.id;
    put(&room.store, std::slice::from_ref(&forged));
    for behind in [700, 1] {
        room.grow(behind);
        let lost = room.sign(
            vec![room.head],
            &Message::text("x", None),
            ObjectId([9; 20]),
        );
        put(&room.store, std::slice::from_ref(&lost));
        let before = std::mem::replace(&mut room.head, lost.id);
        let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
        let mut making = Making::begin(index.clone(), room.id, RULES);
        let Err(RepoError::Rejected(fault)) = room.check(&mut making) else {
            panic!("it was taken");
        };
        assert_eq!(fault.commit, forged.id, "{}", fault.misbehaviour);
        drop(making);
        drop(index);
        let left = rows(&dir.path().join("index.sqlite"));
        assert!(
            left.iter()
                .all(|row| row.contains("Blob") && left.len() <= 1),
            "{left:?}"
        );
        room.head = before;
    }
}
