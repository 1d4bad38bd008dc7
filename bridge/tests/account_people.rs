//! People come, are blocked, and come back; and what is said of them and of oneself.
#![allow(clippy::unwrap_used)]

mod account_support;

use account_support::{Bridge, befriend, group, keys, messages, named, node};
use serde_json::{Value, json};
use starling_bridge::api::{App, Bootstrap, Caller, Config, Service as _, now_millis};
use starling_core::api::{
    AccountState, ApiError, ConversationMode, ConversationState, ErrorCode, Event, PresenceState,
};
use starling_core::id::{AccountId, ConversationId};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_no_contact_is_none_after_the_block() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let address = bob.id().to_hex();
    alice.account().add_contact(&address, None).await.unwrap();
    let request = |b: &Bridge| {
        let account = b.account();
        async move { account.requests().await.unwrap().into_iter().next() }
    };
    let asked = bob.until("a request", |_| request(&bob)).await;
    let account = bob.account();
    let of = asked.conversation;
    account.decline_request(of, true).await.unwrap();
    assert!(account.contact(alice.id()).await.unwrap().blocked);
    account.unblock(alice.id()).await.unwrap();
    assert_eq!(account.contacts().await.unwrap(), []);
    assert_eq!(account.list().await.unwrap(), []);
    // Nobody is blocked now: neither they nor anybody who never was.
    for nobody in [alice.id(), AccountId([7; 20])] {
        let e = ApiError::from(account.unblock(nobody).await.unwrap_err());
        assert_eq!(e.code, ErrorCode::NotFound, "{e:?}");
    }
    assert_eq!(account.list().await.unwrap(), []);
    // They may ask again.
    alice.account().add_contact(&address, None).await.unwrap();
    bob.until("another request", |_| request(&bob)).await;
    assert!(!alice.account().contact(bob.id()).await.unwrap().confirmed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_a_contact_is_one_again_after_the_block() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    let account = bob.account();
    account.remove_contact(alice.id(), true).await.unwrap();
    assert!(account.contact(alice.id()).await.unwrap().blocked);
    account.unblock(alice.id()).await.unwrap();
    let contact = account.contact(alice.id()).await.unwrap();
    assert!(!contact.blocked && contact.confirmed, "{contact:?}");
    assert_eq!(contact.conversation, Some(id));
    alice.account().send(id, "back".into(), None).await.unwrap();
    bob.has_texts(id, &["back"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_conversation_was_left_is_not_asked_by_being_unblocked() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    let account = bob.account();
    account.remove_contact(alice.id(), true).await.unwrap();
    account.leave(id).await.unwrap();
    assert!(account.contact(alice.id()).await.unwrap().blocked);
    account.unblock(alice.id()).await.unwrap();
    assert_eq!(account.contacts().await.unwrap(), []);
    assert_eq!(account.list().await.unwrap(), []);
    // A person asks, if they want to: this makes a conversation, and the unblocking made none.
    let again = account.add_contact(&alice.id().to_hex(), None).await;
    assert_ne!(again.unwrap().conversation.unwrap(), id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_of_two_is_made_by_its_name() {
    let alice = Bridge::of(&node(None), "Alice").await;
    let account = alice.account();
    let (bob, carol) = (AccountId([1; 20]), AccountId([2; 20]));
    let of = |title: Option<&str>, members: Vec<AccountId>| {
        account.create_group(
            ConversationMode::OneToOne,
            title.map(str::to_owned),
            members,
        )
    };
    for (title, members) in [
        (None, vec![]),
        (None, vec![bob, carol]),
        (Some("Us"), vec![bob]),
    ] {
        let e = ApiError::from(of(title, members).await.unwrap_err());
        assert_eq!(e.code, ErrorCode::InvalidParams, "{e:?}");
    }
    assert_eq!(account.list().await.unwrap(), []);
    let made = of(None, vec![bob]).await.unwrap();
    assert_eq!(made.mode, ConversationMode::OneToOne);
    let contact = account.contact(bob).await.unwrap();
    assert_eq!(contact.conversation, Some(made.id));
    assert_eq!(of(None, vec![bob]).await.unwrap().id, made.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_a_conversation_of_two_can_begin_again() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    let account = alice.account();
    account.leave(id).await.unwrap();
    assert_eq!(account.contacts().await.unwrap(), []);
    assert_eq!(account.list().await.unwrap(), []);
    drop(account);
    alice.stop().await;
    alice.open().await;
    let account = alice.account();
    assert_eq!(account.list().await.unwrap(), [], "it does not come back");
    let address = bob.id().to_hex();
    let again = account.add_contact(&address, None).await.unwrap();
    let new = again.conversation.unwrap();
    assert_ne!(new, id);
    let view = account.conversation_view(new).await.unwrap();
    assert_eq!(view.state, ConversationState::Ready);
    account.send(new, "again".into(), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_ask_at_once_learn_each_others_names() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let (a, b) = (alice.account(), bob.account());
    let (to_bob, to_alice) = (bob.id().to_hex(), alice.id().to_hex());
    let asked = tokio::join!(a.add_contact(&to_bob, None), b.add_contact(&to_alice, None));
    asked.0.unwrap();
    asked.1.unwrap();
    for (who, other, name) in [(&alice, bob.id(), "Bob"), (&bob, alice.id(), "Alice")] {
        who.until("their name", |account| async move {
            let contact = account.contact(other).await.unwrap();
            (contact.confirmed && contact.display_name == name).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_into_a_group_learns_who_is_there() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = group(&alice, ConversationMode::InvitesOnly, &[&bob]).await;
    // One is there oneself.
    let own = alice.id();
    alice
        .until("to be online", |a| async move {
            (a.view().state == AccountState::Online).then_some(())
        })
        .await;
    let account = alice.account();
    let all = account.members(id).await.unwrap();
    let listed = account.conversation_view(id).await.unwrap().members;
    for members in [all, listed] {
        let me = members.iter().find(|m| m.id == own).unwrap();
        assert_eq!(me.presence.state, PresenceState::Connected);
        assert!(me.presence.since.is_some());
    }
    // That somebody came is no message that is unread; a text is.
    assert_eq!(account.conversation_view(id).await.unwrap().unread, 0);
    assert_eq!(bob.account().conversation_view(id).await.unwrap().unread, 0);
    let before = now_millis();
    bob.account().send(id, "Hello".into(), None).await.unwrap();
    alice.has_texts(id, &["Hello"]).await;
    assert_eq!(account.conversation_view(id).await.unwrap().unread, 1);
    // A commit says when it was written to the second; when it came is known better.
    let hello = messages(&account, id).await.pop().unwrap();
    assert!(
        hello.received_at >= before,
        "{hello:?}, not before {before}"
    );
    assert!(hello.received_at <= now_millis());
    assert_ne!(hello.received_at, hello.sent_at);
    let listed = account.conversation_view(id).await.unwrap().last_message;
    assert_eq!(listed.unwrap().received_at, hello.received_at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_conversation_is_called_has_measure() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::open(Config {
        data_dir: dir.path().into(),
        bootstrap: Bootstrap::None,
        lan_discovery: false,
    })
    .unwrap();
    app.start().await.unwrap();
    let accounts = app.accounts().unwrap();
    let account = accounts
        .create_with(keys(), named("Alice"), None)
        .await
        .unwrap();
    let call = |method: &str, mut params: Value| {
        params["account"] = json!(account.id);
        app.call(Caller::admin(), method.into(), params)
    };
    let code = |outcome: Result<Value, ApiError>| outcome.unwrap_err().code;
    let create = |title: &str| {
        let group = json!({"mode": "invitesOnly", "title": title});
        call("conversation.create", group)
    };
    assert_eq!(code(create(&"x".repeat(201)).await), ErrorCode::TooLarge);
    let made = create(&"ä".repeat(200)).await.unwrap();
    let id: ConversationId = made["id"].as_str().unwrap().parse().unwrap();
    let update = |mut change: Value| {
        change["conversation"] = json!(id);
        call("conversation.update", change)
    };
    let head = || account.conversation(&id).unwrap().head();
    let before = head();
    let png = "data:image/png;base64,iVBORw0KGgo=";
    let jpeg = "data:image/jpeg;base64,/9j/4A==";
    for (change, expected) in [
        (json!({"avatar": "x"}), ErrorCode::InvalidParams),
        (
            json!({"avatar": "data:image/png;base64,x"}),
            ErrorCode::InvalidParams,
        ),
        (
            json!({"avatar": jpeg.replace("jpeg", "png")}),
            ErrorCode::InvalidParams,
        ),
        (
            json!({"avatar": format!("{png}{}", "A".repeat(800_000))}),
            ErrorCode::TooLarge,
        ),
        (json!({"title": "x".repeat(201)}), ErrorCode::TooLarge),
        (
            json!({"description": "x".repeat(4097)}),
            ErrorCode::TooLarge,
        ),
        (json!({"title": "two\nlines"}), ErrorCode::InvalidParams),
    ] {
        let text = change.to_string();
        let shown = text.get(..60).unwrap_or(&text);
        assert_eq!(code(update(change).await), expected, "{shown}");
    }
    // What changes nothing is not written.
    update(json!({})).await.unwrap();
    update(json!({"description": "", "avatar": ""}))
        .await
        .unwrap();
    update(json!({"title": "ä".repeat(200)})).await.unwrap();
    assert_eq!(head(), before);
    let shown = update(json!({"avatar": jpeg})).await.unwrap();
    assert_eq!(shown["avatar"], jpeg);
    let with_picture = head();
    assert_ne!(with_picture, before);
    update(json!({"avatar": jpeg})).await.unwrap();
    assert_eq!(head(), with_picture);
    let shown = update(json!({"avatar": ""})).await.unwrap();
    assert_eq!(shown.get("avatar"), None);
    // The same holds of a person's picture.
    let profile = |avatar: &str| call("account.setProfile", json!({"avatar": avatar}));
    let rubbish = profile("data:image/png;base64,x").await;
    assert_eq!(code(rubbish), ErrorCode::InvalidParams);
    assert_eq!(profile(png).await.unwrap()["avatar"], png);
    let e = call("account.create", json!({"bootstrap": 7})).await;
    let text = e.unwrap_err().message;
    assert!(
        text.contains("list of texts") && !text.contains("enum"),
        "{text}"
    );
    app.shutdown().await;
}

/// Whoever asks while an account is still being opened is connected before the account looks on.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_link_that_comes_up_while_the_account_is_opened_is_shown() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let bob = Arc::new(Bridge::of(&first, "Bob").await);
    let id = befriend(&alice, &bob).await;
    let (dir, alice_id) = (alice.account().dir().to_owned(), alice.id());
    alice.stop().await;
    bob.unlinked(alice_id).await;
    // Of this she hears while she is opened, and what hears it waits for Bob.
    std::fs::write(dir.join("index.sqlite"), "no index").unwrap();
    let waits = bob.clone();
    let runtime = tokio::runtime::Handle::current();
    alice
        .open_and(move |event| {
            if matches!(event, Event::BridgeNotice { code, .. } if code == "index_rebuilt") {
                tokio::task::block_in_place(|| runtime.block_on(waits.linked(alice_id)));
            }
        })
        .await;
    alice.linked(bob.id()).await;
    let sent = alice.account().send(id, "at once".into(), None).await;
    sent.unwrap();
    bob.has_texts(id, &["at once"]).await;
    alice.stop().await;
}
