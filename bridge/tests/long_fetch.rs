//! Long histories: judged while the conversation goes on.
#![allow(clippy::unwrap_used)]

mod key_support;
#[path = "../../core/tests/swarm/mod.rs"]
mod swarm;

use key_support::keys;
use starling_bridge::conversation::repo::{Me, Taken};
use starling_bridge::conversation::{Conversation, path, settle};
use starling_bridge::crypto::AwsLc;
use starling_bridge::store::objects::{ObjectStore, Quarantine};
use starling_bridge::store::state::State;
use starling_core::git::object::Kind;
use starling_core::git::pack::{Limits, PackWriter};
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::identity::{Identity, create_account};
use starling_core::swarm::commit::Draft;
use starling_core::swarm::merge::Relation;
use starling_core::swarm::message::Message;
use starling_core::swarm::object::{MemoryObjects, Objects as _};
use std::sync::{Arc, mpsc};
use swarm::{DAY, Device, Room};

/// More than are judged at once, and than enter the history in one turn.
const LONG: usize = 2_500;

/// A device of a member with its own copy.
struct Member {
    dir: tempfile::TempDir,
    id: ConversationId,
    identity: Identity,
}

/// Ann, as who owns her and as who writes.
fn ann() -> (Identity, Device) {
    let (_, identity) = create_account(&AwsLc, DAY - 1000, keys()).unwrap();
    let device = Device {
        name: "Ann".into(),
        chain: identity.chain.clone(),
        key: identity.device_key.clone(),
    };
    (identity, device)
}

impl Member {
    fn new(identity: Identity, room: &Room) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let target = path(dir.path(), &room.conversation);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let staging = target.with_extension("new");
        let store = ObjectStore::create(&staging).unwrap();
        let objects: Vec<_> = room.objects.iter().map(|(_, k, d)| (k, d)).collect();
        store.commit(&objects, None, room.head).unwrap();
        drop(store);
        settle(&staging, &target).unwrap();
        let id = room.conversation;
        Self { dir, id, identity }
    }

    fn open(&self) -> Conversation {
        let state = State::open(&self.dir.path().join("state.sqlite")).unwrap();
        let me = Me {
            identity: self.identity.clone(),
            name: "Ann".into(),
        };
        Conversation::open(self.dir.path(), self.id, state, me).unwrap()
    }
}

async fn say(conversation: &Conversation, text: &str) -> ObjectId {
    let text = Message::text(text, None);
    let written = conversation.ask(|r| {
        r.write(DAY + 1_000_000, |repo, writer, now| {
            repo.message(writer, text, now)
        })
    });
    written.await.unwrap().unwrap().0
}

/// Texts of a device on top of a room: quicker than by the operations, which look at everything.
fn go_on(room: &mut Room, by: &Device, count: usize) {
    let tree = room.tree();
    for n in 0..count {
        let draft = Draft {
            tree,
            parents: vec![room.head],
            name: &by.name,
            device: by.id(),
            time: room.now,
            message: &Message::text(format!("{n}"), None).to_text(),
        };
        let commit = draft.sign(&*by.key).unwrap();
        room.now += 1;
        room.head = commit.id;
        room.objects.extend([commit]);
    }
}

/// A pack of what one has and the other lacks, in quarantine.
fn fetched(store: &Arc<ObjectStore>, room: &Room, known: &MemoryObjects) -> Quarantine {
    let new: Vec<(&ObjectId, Kind, &[u8])> = room
        .objects
        .iter()
        .filter(|(id, ..)| !known.contains(id))
        .collect();
    let (mut writer, start) = PackWriter::new(u32::try_from(new.len()).unwrap(), false);
    let mut receiving = store.quarantine(Limits::default());
    receiving.write(&start).unwrap();
    for (_, kind, data) in new {
        receiving.write(&writer.object(kind, data)).unwrap();
    }
    receiving.write(&writer.finish().0).unwrap();
    receiving.finish().unwrap()
}

/// Takes a head in as the account does: in steps, as long as nothing was written here.
async fn take_in(conversation: &Conversation, head: ObjectId) -> usize {
    let now = DAY + 2_000_000;
    let (mut turns, mut shown) = (0, 0);
    let mut count = |taken: Taken| {
        if let Taken::New { changes, .. } = taken {
            turns += 1;
            shown += changes.shown.len();
        }
    };
    assert!(conversation.ask(move |r| r.is_judged(&head)).await.unwrap());
    for step in conversation.ask(move |r| r.steps_to(&head)).await.unwrap() {
        let taken = conversation.ask(move |r| r.adopt_step(step, now)).await;
        match taken.unwrap().unwrap() {
            Some(taken) => count(taken),
            None => break,
        }
    }
    let taken = conversation.ask(move |r| r.adopt(head, now)).await;
    count(taken.unwrap().unwrap());
    assert_eq!(shown, LONG);
    turns
}

/// After a long time apart only what is missing travels: git tells of the newest commits, and of older ones ever fewer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_told_first_what_it_is_known_to_have() {
    let (identity, by) = ann();
    let mut room = Room::group(&[&by]);
    go_on(&mut room, &by, 300);
    let common = room.head;
    go_on(&mut room, &by, 1_000);
    let member = Member::new(identity, &room);
    let conversation = member.open();
    let [device, stranger] = [7, 8].map(|n| DeviceId([n; 32]));
    let fetched = conversation.ask(move |r| r.fetched(device, AccountId([7; 20]), common, 1));
    fetched.await.unwrap().unwrap();
    let haves = async |to: DeviceId| conversation.ask(move |r| r.haves(&to)).await.unwrap();
    let (told, to_others) = (haves(device).await, haves(stranger).await);
    assert_eq!(told[0], common);
    assert_eq!(to_others[0], room.head);
    assert!(!to_others.contains(&common), "it is found by chance");
    assert_eq!(told[1..], to_others);
    // Over a restart.
    conversation.close().await;
    let again = member.open().ask(move |r| r.haves(&device)).await.unwrap();
    assert_eq!(again, told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_is_read_and_written_while_a_long_history_is_judged() {
    let ((identity, ann), ben) = (ann(), Device::load("ben"));
    let mut room = Room::group(&[&ann, &ben]);
    let member = Member::new(identity, &room);
    let known = room.objects.clone();
    tokio::task::block_in_place(|| go_on(&mut room, &ben, LONG));
    let conversation = member.open();
    let quarantine = fetched(&conversation.store, &room, &known);
    let (head, judged) = (room.head, conversation.clone());
    // Judging stands still after its first batch, until what follows has been done.
    let (reached, at) = tokio::sync::oneshot::channel();
    let (go, wait) = mpsc::channel::<()>();
    let mut reached = Some(reached);
    let (asked, wait) = (std::sync::Mutex::new(0), std::sync::Mutex::new(wait));
    let reached = std::sync::Mutex::new(reached.take());
    let judging = tokio::spawn(async move {
        let go_on = || {
            *asked.lock().unwrap() += 1;
            if *asked.lock().unwrap() == 2 {
                let _ = reached.lock().unwrap().take().unwrap().send(());
                wait.lock().unwrap().recv().unwrap();
            }
            true
        };
        judged.judge(Some(quarantine), head, go_on).await.unwrap()
    });
    at.await.unwrap();
    let said = say(&conversation, "meanwhile").await;
    let (page, _) = conversation
        .ask(|r| r.page(None, 10))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(page.last().unwrap().id, said);
    assert_eq!(conversation.head(), said);
    go.send(()).unwrap();
    assert_eq!(judging.await.unwrap(), Relation::Diverged);
    // Something was written here: there is only one way, a merge.
    assert_eq!(take_in(&conversation, head).await, 1);
    let (page, _) = conversation
        .ask(|r| r.page(None, 2))
        .await
        .unwrap()
        .unwrap();
    let texts: Vec<_> = page.iter().filter_map(|m| m.body.clone()).collect();
    let last = format!("{}", LONG - 1);
    assert_eq!(texts, [last.as_str(), "meanwhile"]);
    assert!(conversation.verify().await.unwrap().valid);
    conversation.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_history_enters_in_steps_and_an_interruption_loses_nothing() {
    let ((identity, ann), ben) = (ann(), Device::load("ben"));
    let mut room = Room::group(&[&ann, &ben]);
    let member = Member::new(identity, &room);
    let known = room.objects.clone();
    tokio::task::block_in_place(|| go_on(&mut room, &ben, LONG));
    let head = room.head;
    // Judged, and then the power goes.
    let conversation = member.open();
    let quarantine = fetched(&conversation.store, &room, &known);
    let relation = conversation.judge(Some(quarantine), head, || true).await;
    assert_eq!(relation.unwrap(), Relation::FastForward);
    let before = conversation.head();
    conversation.close().await;
    let conversation = member.open();
    assert_eq!(conversation.head(), before);
    // Its objects are all here, and it is no part of the history: to be taken in all the same.
    let again = conversation.judge(None, head, || true).await;
    assert_eq!(again.unwrap(), Relation::FastForward);
    take_in(&conversation, head).await;
    assert_eq!(conversation.head(), head);
    let again = conversation.judge(None, head, || true).await;
    assert_eq!(again.unwrap(), Relation::UpToDate);
    // Called off in the middle: nothing of it is here.
    tokio::task::block_in_place(|| go_on(&mut room, &ben, LONG));
    let kept = conversation.store.clone();
    let quarantine = fetched(&conversation.store, &room, &MemoryObjects::new());
    let asked = std::sync::atomic::AtomicU32::new(0);
    let once = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
    let off = conversation.judge(Some(quarantine), room.head, once).await;
    assert!(off.is_err() && !kept.contains(&room.head));
    drop(kept);
    // In one go, it comes in three turns.
    let quarantine = fetched(&conversation.store, &room, &known);
    let judged = conversation.judge(Some(quarantine), room.head, || true);
    assert_eq!(judged.await.unwrap(), Relation::FastForward);
    assert_eq!(take_in(&conversation, room.head).await, 3);
    assert!(conversation.verify().await.unwrap().valid);
    conversation.close().await;
}
