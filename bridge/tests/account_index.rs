//! The index says what a page needs without the repositories, and can be made again from them.
#![allow(clippy::unwrap_used)]

mod account_support;

use account_support::{Bridge, keys, node};
use starling_bridge::store::objects::ObjectStore;
use starling_core::api::{ApiError, Conversation, ConversationMode, ErrorCode, Event, ReadOnly};
use starling_core::id::{ConversationId, ObjectId};
use starling_core::swarm::commit::{Commit, Draft};
use starling_core::swarm::message::Message;
use std::path::Path;

async fn group(bridge: &Bridge, texts: &[&str]) -> ConversationId {
    let account = bridge.account();
    let group = account
        .create_group(ConversationMode::InvitesOnly, Some("Title".into()), vec![])
        .await
        .unwrap();
    for text in texts {
        account.send(group.id, (*text).into(), None).await.unwrap();
    }
    group.id
}

/// The list, without who is online since when.
async fn list(bridge: &Bridge) -> Vec<Conversation> {
    let mut list = bridge.account().list().await.unwrap();
    for member in list.iter_mut().flat_map(|c| &mut c.members) {
        member.presence = Default::default();
    }
    list
}

fn notices(bridge: &Bridge, wanted: &str) -> Vec<String> {
    let text = |e| match e {
        Event::BridgeNotice { code, text, .. } if code == wanted => Some(text),
        _ => None,
    };
    bridge.events().into_iter().filter_map(text).collect()
}

/// Looks through the whole history, as the bridge does when nobody asks.
async fn look_through(bridge: &Bridge, id: ConversationId) {
    let conversation = bridge.account().conversation(&id).unwrap();
    while conversation
        .ask(|r| r.look_through())
        .await
        .unwrap()
        .unwrap()
    {}
}

async fn unchecked(bridge: &Bridge, id: ConversationId) -> usize {
    let conversation = bridge.account().conversation(&id).unwrap();
    conversation
        .ask(|r| r.timeline().unchecked(1000).len())
        .await
        .unwrap()
}

/// A commit at the end of a repository that nobody has open.
fn append(path: &Path, device: starling_core::id::DeviceId, text: &str) -> ObjectId {
    let store = ObjectStore::open(path).unwrap();
    let head = store.head().unwrap();
    let (_, data) = store.read(&head).unwrap();
    let before = Commit::parse(&data).unwrap();
    let message = Message::text(text, None).to_text();
    let draft = Draft {
        tree: before.tree,
        parents: vec![head],
        name: "Alice",
        device,
        time: u64::try_from(before.time).unwrap(),
        message: &message,
    };
    // With a key that is not hers: what an older, laxer program may have let in.
    let commit = draft.sign(&*keys().device).unwrap();
    store
        .commit(&[(commit.kind, &commit.data[..])], Some(head), commit.id)
        .unwrap();
    commit.id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_drawn_without_opening_repositories() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let ids = [
        group(&alice, &["one", "two"]).await,
        group(&alice, &["three"]).await,
    ];
    let before = list(&alice).await;
    alice.stop().await;
    alice.open().await;
    let after = list(&alice).await;
    assert_eq!(before, after);
    assert_eq!(after.len(), 2);
    let last = |n: usize| after[n].last_message.as_ref().and_then(|m| m.body.clone());
    let mut lasts = [last(0), last(1)];
    lasts.sort();
    assert_eq!(lasts, [Some("three".into()), Some("two".into())]);
    let account = alice.account();
    for id in ids {
        let conversation = account.conversation(&id).unwrap();
        assert!(!conversation.store.is_open(), "{id} was opened");
        assert_eq!(unchecked(&alice, id).await, 0);
    }
    // And it is there when it is needed.
    assert!(alice.texts(ids[0]).await.contains(&"one".to_owned()));
    assert!(account.conversation(&ids[0]).unwrap().store.is_open());
    assert!(notices(&alice, "index_rebuilt").is_empty());
    assert!(account.verify(ids[1]).await.unwrap().valid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_index_is_made_again_and_what_it_says_is_looked_through() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let id = group(&alice, &["one", "needle"]).await;
    assert_eq!(unchecked(&alice, id).await, 0, "it was written here");
    let before = list(&alice).await;
    let dir = alice.account().dir().to_owned();
    alice.stop().await;
    for file in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
        let _ = std::fs::remove_file(dir.join(file));
    }
    alice.open().await;
    assert_eq!(notices(&alice, "index_rebuilt").len(), 1);
    // When something came is not in the repository.
    let mut before = before;
    for message in before.iter_mut().filter_map(|c| c.last_message.as_mut()) {
        message.received_at = message.sent_at;
    }
    assert_eq!(list(&alice).await, before);
    let found = alice.account().search(None, "needle", 5).await.unwrap();
    assert_eq!(found.len(), 1);
    // Nobody knows whether anybody looked at it.
    assert!(unchecked(&alice, id).await > 0);
    look_through(&alice, id).await;
    assert_eq!(unchecked(&alice, id).await, 0);
    assert!(notices(&alice, "conversation_invalid").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_behind_is_caught_up_and_a_fault_found_later_is_said() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let id = group(&alice, &["one"]).await;
    let (path, device) = (
        alice.account().repository_path(&id),
        alice.account().device_id(),
    );
    alice.stop().await;
    // The repository went on, the index did not: as when the power goes between the two.
    let forged = append(&path, device, "two");
    alice.open().await;
    assert_eq!(alice.texts(id).await.last().unwrap(), "two");
    assert!(notices(&alice, "index_rebuilt").is_empty());
    assert_eq!(unchecked(&alice, id).await, 1);
    look_through(&alice, id).await;
    let said = notices(&alice, "conversation_invalid");
    assert_eq!(said.len(), 1);
    assert!(said[0].contains(&forged.to_hex()), "{said:?}");
    // From now on it is only read: that is said where such things are said, after a restart as well.
    for restart in [false, true] {
        if restart {
            alice.stop().await;
            alice.open().await;
        }
        let view = alice
            .ready(id, "the state", |c| c.read_only == Some(ReadOnly::Invalid))
            .await;
        let wrong = view.refused.unwrap();
        assert_eq!(
            (wrong.rule.as_str(), wrong.commit),
            ("WrongSignature", Some(forged))
        );
        let no = alice.account().send(id, "three".into(), None).await;
        assert_eq!(ApiError::from(no.unwrap_err()).code, ErrorCode::Rejected);
        look_through(&alice, id).await;
        let view = alice.account().conversation_view(id).await.unwrap();
        assert_eq!(view.read_only, Some(ReadOnly::Invalid));
    }
    // It stays readable, and is not said with every look.
    look_through(&alice, id).await;
    assert_eq!(
        notices(&alice, "conversation_invalid").len(),
        2,
        "once a start"
    );
    assert_eq!(alice.texts(id).await.last().unwrap(), "two");
    alice.account().leave(id).await.unwrap();
    assert!(list(&alice).await.iter().all(|c| c.id != id));
}
