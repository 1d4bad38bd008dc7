//! Opening a conversation and showing its end costs the same, however long it is. A process of its
//! own: what it reads from the disk is counted.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod key_support;

use key_support::keys;
use starling_bridge::conversation::repo::Me;
use starling_bridge::conversation::{Conversation, path};
use starling_bridge::crypto::AwsLc;
use starling_bridge::store::index::Index;
use starling_bridge::store::objects::ObjectStore;
use starling_bridge::store::state::State;
use starling_core::id::ConversationId;
use starling_core::identity::{Identity, create_account};
use starling_core::swarm::commit::{Commit, Draft};
use starling_core::swarm::message::{ConversationMode, Message};
use std::path::Path;
use std::sync::Arc;

const NOW: u64 = 1_700_000_000;

/// What a page shows first.
const PAGE: usize = 50;

/// What opening and showing took.
#[derive(Debug)]
struct Cost {
    /// Objects of the repository.
    objects: u64,
    /// Bytes that were read from files.
    bytes: u64,
}

/// Bytes that this process has read from files.
fn read() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|l| l.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

fn open(dir: &Path, id: ConversationId, identity: &Identity, checked: bool) -> Conversation {
    let state = State::open(&dir.join("state.sqlite")).unwrap();
    let me = Me {
        identity: identity.clone(),
        name: "Ann".into(),
    };
    let index = Index::open(&dir.join(starling_bridge::conversation::INDEX)).unwrap();
    let report = Arc::new(|_| {});
    Conversation::open_with(dir, id, state, me, (index, report), checked).unwrap()
}

/// Makes a conversation of so many texts and closes it. Signatures are left out: they were
/// checked, is said, and nobody looks at them again.
fn made(dir: &Path, identity: &Identity, count: u64) -> ConversationId {
    let me = Me {
        identity: identity.clone(),
        name: "Ann".into(),
    };
    let mode = ConversationMode::InvitesOnly;
    let (id, _) = Conversation::found(dir, &me, mode, None, &Default::default(), NOW).unwrap();
    let store = ObjectStore::open(&path(dir, &id)).unwrap();
    let first = store.head().unwrap();
    let tree = Commit::parse(&store.read(&first).unwrap().1).unwrap().tree;
    let mut head = first;
    let mut commits = Vec::new();
    for n in 0..count {
        let text = Message::text(format!("text {n}"), None).to_text();
        let draft = Draft {
            tree,
            parents: vec![head],
            name: "Ann",
            device: identity.device_id(),
            time: NOW + 1 + n,
            message: &text,
        };
        let commit = draft.signed(&[7; 512]);
        head = commit.id;
        commits.push(commit);
    }
    let objects: Vec<_> = commits.iter().map(|c| (c.kind, &c.data[..])).collect();
    store.write_objects(&objects).unwrap();
    store.set_head(Some(first), head).unwrap();
    id
}

async fn cost(count: u64) -> Cost {
    let (_, identity) = create_account(&AwsLc, NOW - 1000, keys()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let id = tokio::task::block_in_place(|| made(dir.path(), &identity, count));
    // The first time everything is read, and the index made.
    let conversation = tokio::task::block_in_place(|| open(dir.path(), id, &identity, true));
    let all = conversation.store.reads();
    assert!(all >= count, "{all} objects were read for making the index");
    conversation.close().await;

    let before = read();
    let conversation = tokio::task::block_in_place(|| open(dir.path(), id, &identity, false));
    let page = conversation.ask(|r| r.page(None, PAGE)).await.unwrap();
    let bytes = read() - before;
    let (messages, more) = page.unwrap();
    assert!(messages.len() == PAGE && more);
    let last = messages.last().unwrap().body.clone();
    assert_eq!(last, Some(format!("text {}", count - 1)));
    let objects = conversation.store.reads();
    conversation.close().await;
    Cost { objects, bytes }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_long_conversation_costs_no_more_than_that_of_a_short_one() {
    let (short, long) = (cost(300).await, cost(3_000).await);
    println!("300 texts: {short:?}; 3,000: {long:?}");
    assert!(
        long.objects <= short.objects + 5 && short.objects <= 3 * PAGE as u64,
        "{short:?} {long:?}"
    );
    // The index has more levels, and that is all: ten times as much would be three megabytes.
    assert!(
        long.bytes <= short.bytes + (256 << 10),
        "{short:?} {long:?}"
    );
}
