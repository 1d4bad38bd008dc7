//! Alice, Bob and Carol: whole accounts over real nodes, connections and disks.
#![allow(clippy::unwrap_used)]

mod account_support;

use account_support::{Bridge, befriend, group, keys, messages, named, node, texts};
use starling_bridge::account::Account;
use starling_core::api::{ConversationMode, Delivery, Event, MemberRole, PresenceState};
use starling_core::id::ConversationId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_hears_that_their_message_was_read() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    let sent = bob.account().send(id, "Hello".into(), None).await.unwrap();
    alice.has_texts(id, &["Hello"]).await;
    let local = bob.local_id();
    bob.accounts().set_active(&local, false).await.unwrap();
    let his = bob.id();
    alice
        .until("Bob to be away", |a| async move {
            let c = a.contact(his).await.unwrap();
            (c.presence.state != PresenceState::Connected).then_some(())
        })
        .await;
    alice.account().mark_displayed(id, sent).await.unwrap();
    bob.accounts().set_active(&local, true).await.unwrap();
    let other = alice.id();
    bob.until("the receipt", |a| async move {
        let status = a.status(id, sent).await.unwrap();
        (status.people.get(&other)?.state == Delivery::Read).then_some(())
    })
    .await;
}

/// What Bob wrote while Alice was away stands before what she wrote then, and had read: it is unread all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_late_is_unread_wherever_it_stands() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let carol = Bridge::of(&first, "Carol").await;
    let id = group(&alice, ConversationMode::InvitesOnly, &[&bob, &carol]).await;
    let local = alice.local_id();
    alice.accounts().set_active(&local, false).await.unwrap();
    let his = bob.account().send(id, "from Bob".into(), None).await;
    let his = his.unwrap();
    let other = carol.id();
    bob.until("Carol to have it", |a| async move {
        let status = a.status(id, his).await.unwrap();
        (status.people.get(&other)?.state == Delivery::Fetched).then_some(())
    })
    .await;
    // Hers is to be later, by whole seconds, and nobody tells of those.
    let his = messages(&bob.account(), id).await.pop().unwrap();
    let later = Duration::from_secs(u64::try_from(his.sent_at / 1000).unwrap() + 1);
    tokio::time::sleep(later.saturating_sub(UNIX_EPOCH.elapsed().unwrap())).await;
    let own = alice.account().send(id, "from Alice".into(), None).await;
    let own = own.unwrap();
    let view = |a: Arc<Account>| async move { a.conversation_view(id).await.unwrap() };
    assert_eq!(view(alice.account()).await.unread, 0);
    alice.accounts().set_active(&local, true).await.unwrap();
    let all = alice
        .until("what Bob wrote", |a| async move {
            let all = messages(&a, id).await;
            all.iter()
                .any(|m| m.body.as_deref() == Some("from Bob"))
                .then_some(all)
        })
        .await;
    let place = |body: &str| {
        all.iter()
            .position(|m| m.body.as_deref() == Some(body))
            .unwrap()
    };
    assert!(place("from Bob") < place("from Alice"));
    let line = all[place("from Bob") - 1].id;
    let seen = alice
        .until("the count", |a| async move {
            let view = view(a).await;
            (view.unread > 0).then_some(view)
        })
        .await;
    assert_eq!((seen.unread, seen.read_up_to), (1, Some(line)));
    alice.account().mark_displayed(id, own).await.unwrap();
    let seen = view(alice.account()).await;
    assert_eq!((seen.unread, seen.read_up_to), (0, Some(own)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alice_asks_bob_accepts_and_they_chat() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    let request = bob
        .heard("the request", |e| match e {
            Event::RequestReceived { request, .. } => Some(request.clone()),
            _ => None,
        })
        .await;
    assert_eq!(request.display_name, "Alice");
    assert_eq!(request.message.as_deref(), Some("It is me"));

    let hello = alice
        .account()
        .send(id, "Hello Bob".into(), None)
        .await
        .unwrap();
    bob.has_texts(id, &["Hello Bob"]).await;
    bob.account()
        .send(id, "Hello Alice".into(), Some(hello))
        .await
        .unwrap();
    alice.has_texts(id, &["Hello Bob", "Hello Alice"]).await;
    assert_eq!(alice.texts(id).await, bob.texts(id).await);
    let answer = messages(&alice.account(), id).await.pop().unwrap();
    assert_eq!(answer.reply_to, Some(hello));

    // Unread, read, and the sender hears of it.
    assert_eq!(
        alice.account().conversation_view(id).await.unwrap().unread,
        1
    );
    alice.account().mark_displayed(id, answer.id).await.unwrap();
    assert_eq!(
        alice.account().conversation_view(id).await.unwrap().unread,
        0
    );
    let other = alice.id();
    bob.until("the receipt", |a| async move {
        let status = a.status(id, answer.id).await.unwrap();
        (status.people.get(&other)?.state == Delivery::Read).then_some(())
    })
    .await;
    // An older mark takes nothing back.
    alice.account().mark_displayed(id, hello).await.unwrap();
    let read = alice
        .account()
        .conversation_view(id)
        .await
        .unwrap()
        .read_up_to;
    assert_eq!(read, Some(answer.id));

    alice.account().set_typing(id, true).unwrap();
    bob.heard("typing", |e| match e {
        Event::Typing {
            typing: true, id, ..
        } => {
            assert_eq!(*id, other);
            Some(())
        }
        _ => None,
    })
    .await;

    let found = bob.account().search(None, "hello al", 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        bob.account()
            .search(None, "goodbye", 10)
            .await
            .unwrap()
            .is_empty()
    );
    for who in [&alice, &bob] {
        let verdict = who.account().verify(id).await.unwrap();
        assert!(verdict.valid, "{verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bob_declines_and_may_be_asked_again_and_blocks() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let address = bob.id().to_hex();
    alice.account().add_contact(&address, None).await.unwrap();
    let one = |b: &Bridge| {
        let a = b.account();
        async move { a.requests().await.unwrap().into_iter().next() }
    };
    let request = bob.until("a request", |_| one(&bob)).await;
    bob.account()
        .decline_request(request.conversation, false)
        .await
        .unwrap();
    assert!(one(&bob).await.is_none());
    // Declined is no block: who asks again is shown again.
    alice.account().add_contact(&address, None).await.unwrap();
    let again = bob.until("a second request", |_| one(&bob)).await;
    assert_eq!(again.conversation, request.conversation);
    bob.account()
        .decline_request(request.conversation, true)
        .await
        .unwrap();
    let contacts = bob.account().contacts().await.unwrap();
    assert!(contacts.iter().any(|c| c.id == alice.id() && c.blocked));
    alice.account().add_contact(&address, None).await.unwrap();
    // Something that arrives later shows that the request was passed over.
    let carol = Bridge::of(&first, "Carol").await;
    carol.account().add_contact(&address, None).await.unwrap();
    let next = bob.until("Carol's request", |_| one(&bob)).await;
    assert_eq!(next.from, carol.id());
    assert_eq!(bob.account().requests().await.unwrap().len(), 1);
    let unconfirmed = alice.account().contact(bob.id()).await.unwrap();
    assert!(!unconfirmed.confirmed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_they_are_away_in_turns() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let mut bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    alice.account().send(id, "1".into(), None).await.unwrap();
    bob.has_texts(id, &["1"]).await;
    // Bob is away while Alice writes.
    bob.stop().await;
    alice.account().send(id, "2".into(), None).await.unwrap();
    alice.account().send(id, "3".into(), None).await.unwrap();
    bob.open().await;
    bob.has_texts(id, &["1", "2", "3"]).await;
    // Alice is away while Bob writes, and writes before she hears of it: a merge.
    alice.stop().await;
    bob.account().send(id, "4".into(), None).await.unwrap();
    alice.open().await;
    alice.account().send(id, "5".into(), None).await.unwrap();
    let all = ["1", "2", "3", "4", "5"];
    alice.has_texts(id, &all).await;
    bob.has_texts(id, &all).await;
    // Both at the same time.
    let (a, b) = (alice.account(), bob.account());
    let (x, y) = tokio::join!(a.send(id, "6".into(), None), b.send(id, "7".into(), None));
    x.unwrap();
    y.unwrap();
    let all = ["1", "2", "3", "4", "5", "6", "7"];
    alice.has_texts(id, &all).await;
    bob.has_texts(id, &all).await;
    // The same history in the same order, once the merges have crossed.
    let head = |a: &Arc<Account>| a.conversation(&id).map(|c| c.head());
    alice
        .until_both(&bob, "the same head", |a, b| head(a) == head(b))
        .await;
    assert_eq!(texts(&a, id).await, texts(&b, id).await);
    // Two that merge at once must not go on merging each other's merges.
    let commits = a.verify(id).await.unwrap().commits;
    assert!(commits < 20, "{commits} commits for 7 messages");
    // What is exported is all of it, for whoever checks it elsewhere, and for git.
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("conversation.bundle");
    std::fs::write(&bundle, a.bundle(id).await.unwrap()).unwrap();
    let (mut verdict, mut complaints) = (Vec::new(), Vec::new());
    let code = starling_bridge::verify::run(&bundle, &mut verdict, &mut complaints);
    assert_eq!(
        (code, String::from_utf8(complaints).unwrap().as_str()),
        (0, "")
    );
    let in_order = format!("conversation {id}: {commits} commits, all in order\n");
    assert_eq!(String::from_utf8(verdict).unwrap(), in_order);
    let clone = std::process::Command::new("git")
        .args([
            "clone",
            "--quiet",
            "--bare",
            "-c",
            "transfer.fsckObjects=true",
        ])
        .args([bundle.as_path(), &dir.path().join("clone")])
        .output()
        .unwrap();
    assert!(clone.status.success(), "{clone:?}");
    drop((a, b));
    for who in [&mut alice, &mut bob] {
        let path = who.account().repository_path(&id);
        who.stop().await;
        let fsck = std::process::Command::new("git")
            .args(["fsck", "--strict", "--full"])
            .current_dir(path)
            .output()
            .unwrap();
        assert!(fsck.status.success(), "{fsck:?}");
        let said = String::from_utf8(fsck.stdout).unwrap();
        assert!(!said.contains("missing"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_three_and_one_leaves() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let carol = Bridge::of(&first, "Carol").await;
    befriend(&alice, &bob).await;
    befriend(&alice, &carol).await;
    let group = alice
        .account()
        .create_group(
            ConversationMode::InvitesOnly,
            Some("Three".into()),
            vec![bob.id(), carol.id()],
        )
        .await
        .unwrap();
    let id = group.id;
    for who in [&bob, &carol] {
        let request = who
            .until("an invitation", |a| async move {
                let all = a.requests().await.unwrap();
                all.into_iter().find(|r| r.conversation == id)
            })
            .await;
        assert_eq!(request.title.as_deref(), Some("Three"));
        who.account().accept_request(id).await.unwrap();
    }
    let members = |c: &starling_core::api::Conversation| {
        let here = c
            .members
            .iter()
            .filter(|m| matches!(m.role, MemberRole::Admin | MemberRole::Member));
        here.count() == 3 && c.mode == ConversationMode::InvitesOnly
    };
    for who in [&alice, &bob, &carol] {
        who.ready(id, "three members", members).await;
    }
    for (who, text) in [(&alice, "a"), (&bob, "b"), (&carol, "c")] {
        who.account().send(id, text.into(), None).await.unwrap();
    }
    for who in [&alice, &bob, &carol] {
        who.has_texts(id, &["a", "b", "c"]).await;
    }
    let path = carol.account().repository_path(&id);
    carol.account().leave(id).await.unwrap();
    let listed: BTreeSet<_> = carol
        .account()
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|c| c.id)
        .collect();
    assert!(!listed.contains(&id));
    assert!(carol.account().send(id, "x".into(), None).await.is_err());
    for who in [&alice, &bob] {
        let gone = carol.id();
        who.ready(id, "two members", |c| {
            let role = c.members.iter().find(|m| m.id == gone).map(|m| m.role);
            !matches!(role, Some(MemberRole::Admin | MemberRole::Member))
        })
        .await;
    }
    // Once somebody knows, it is erased; the end of a link or of a person shows in between.
    let erased = async {
        while path.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(account_support::PATIENCE, erased)
        .await
        .unwrap();
    alice.account().send(id, "d".into(), None).await.unwrap();
    bob.has_texts(id, &["a", "b", "c", "d"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_device_made_from_a_backup_has_the_conversation() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    alice
        .account()
        .send(id, "before".into(), None)
        .await
        .unwrap();
    bob.has_texts(id, &["before"]).await;
    let backup = alice.account().export(None).await.unwrap();
    let laptop = Bridge::from_backup(&first, &backup, None).await;
    let imported = laptop.account();
    assert_eq!(imported.jami_id(), alice.id());
    assert_ne!(imported.device_id(), alice.account().device_id());
    assert_eq!(imported.view().display_name, "Alice");
    drop(imported);
    laptop.ready(id, "the conversation", |_| true).await;
    laptop.has_texts(id, &["before"]).await;
    laptop
        .account()
        .send(id, "from the laptop".into(), None)
        .await
        .unwrap();
    for who in [&alice, &bob, &laptop] {
        who.has_texts(id, &["before", "from the laptop"]).await;
    }
    let author = messages(&bob.account(), id).await.pop().unwrap().author;
    assert_eq!(author, alice.id());
    let again = alice.accounts().import(&backup, None, named("")).await;
    assert!(again.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_ask_each_other_at_once_and_mean_the_same_conversation() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let (a, b) = (alice.account(), bob.account());
    let (to_bob, to_alice) = (bob.id().to_hex(), alice.id().to_hex());
    let (x, y) = tokio::join!(a.add_contact(&to_bob, None), b.add_contact(&to_alice, None));
    let (x, y) = (
        x.unwrap().conversation.unwrap(),
        y.unwrap().conversation.unwrap(),
    );
    assert_ne!(x, y);
    let kept = the_one_conversation(&alice, &bob).await;
    assert!(kept == x || kept == y);
    a.send(kept, "so we met".into(), None).await.unwrap();
    bob.has_texts(kept, &["so we met"]).await;
}

/// Waits until two people have one conversation, the same, and nothing else in their lists.
async fn the_one_conversation(alice: &Bridge, bob: &Bridge) -> ConversationId {
    let only = |account: Arc<Account>, other| async move {
        let contact = account.contact(other).await.ok()?;
        let list = account.list().await.ok()?;
        let [one] = list.as_slice() else { return None };
        let both = account.conversation(&one.id)?.snapshot().takes_part(&other);
        (contact.confirmed && contact.conversation == Some(one.id) && both).then_some(one.id)
    };
    let mine = alice.until("one conversation", |a| only(a, bob.id())).await;
    let theirs = bob.until("one conversation", |b| only(b, alice.id())).await;
    assert_eq!(mine, theirs);
    assert_eq!(alice.account().requests().await.unwrap(), []);
    assert_eq!(bob.account().requests().await.unwrap(), []);
    mine
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_they_wrote_before_they_heard_of_each_other_ends_in_one_conversation() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    // Neither hears of the other before both have written.
    for who in [&alice, &bob] {
        let off = who.accounts().set_active(&who.local_id(), false).await;
        assert!(!off.unwrap().active);
    }
    for (who, other) in [(&alice, &bob), (&bob, &alice)] {
        let account = who.account();
        let contact = account.add_contact(&other.id().to_hex(), None).await;
        let id = contact.unwrap().conversation.unwrap();
        for text in ["hello", "hello", "it is me"] {
            account.send(id, text.into(), None).await.unwrap();
        }
    }
    for who in [&alice, &bob] {
        let on = who.accounts().set_active(&who.local_id(), true).await;
        assert!(on.unwrap().active);
    }
    let kept = the_one_conversation(&alice, &bob).await;
    let all = ["hello", "hello", "it is me", "hello", "hello", "it is me"];
    alice.has_texts(kept, &all).await;
    bob.has_texts(kept, &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_switched_off_and_on_and_removed() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    let local = bob.local_id();
    let view = bob.accounts().set_active(&local, false).await.unwrap();
    assert!(!view.active);
    // Off, it can be read and written to.
    bob.account()
        .send(id, "written while off".into(), None)
        .await
        .unwrap();
    // While it is switched on it is not lost from sight.
    let on = bob.accounts().set_active(&local, true);
    let looks = async {
        loop {
            let views = bob.accounts().views();
            assert_eq!(views.len(), 1, "{views:?}");
            bob.accounts().view(&local).unwrap();
            tokio::task::yield_now().await;
        }
    };
    let view = tokio::select! {
        view = on => view.unwrap(),
        () = looks => unreachable!(),
    };
    assert!(view.active);
    alice.has_texts(id, &["written while off"]).await;
    alice
        .account()
        .remove_contact(bob.id(), true)
        .await
        .unwrap();
    let other = bob.id();
    alice
        .until("no connection", |a| async move {
            let c = a.contact(other).await.unwrap();
            (c.presence.state != PresenceState::Connected).then_some(())
        })
        .await;
    let dir = bob.account().dir().to_owned();
    bob.accounts().remove(&local).await.unwrap();
    assert!(!dir.exists() && bob.accounts().all().is_empty());
    bob.accounts()
        .create_with(keys(), named("New"), None)
        .await
        .unwrap();
}
