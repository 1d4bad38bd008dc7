//! What is said in groups: words that are changed, profiles that are, and who somebody is.
#![allow(clippy::unwrap_used)]

mod account_support;

use account_support::{Bridge, befriend, forge, group, messages, node, refused};
use starling_core::api::{ConversationMode, ErrorCode, Event, MessageType};
use starling_core::id::AccountId;
use starling_core::swarm::message::Message;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_are_changed_and_taken_back_and_reacted_to() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    let (a, b) = (alice.account(), bob.account());
    let text = a.send(id, "helo".into(), None).await.unwrap();
    bob.has_texts(id, &["helo"]).await;
    let no = refused(b.edit(id, text, "mine".into()).await);
    assert_eq!(no.code, ErrorCode::NotAuthorised, "{no}");
    let no = refused(a.edit(id, text, "  ".into()).await);
    assert_eq!(no.code, ErrorCode::InvalidParams, "{no}");
    a.edit(id, text, "hello".into()).await.unwrap();
    bob.has_texts(id, &["hello"]).await;
    let now = b.message(id, text).await.unwrap();
    assert_eq!(now.edits.len(), 1);

    let like = b.react(id, text, "👍".into()).await.unwrap();
    assert_eq!(b.react(id, text, "👍".into()).await.unwrap(), like);
    b.react(id, text, "🎉".into()).await.unwrap();
    let reactions = |a: std::sync::Arc<starling_bridge::account::Account>| async move {
        let m = a.message(id, text).await.ok()?;
        Some(m.reactions.keys().cloned().collect::<Vec<_>>())
    };
    alice
        .until("two reactions", |a| async move {
            reactions(a).await.filter(|r| r.len() == 2)
        })
        .await;
    let no = refused(a.unreact(id, text, "👍").await);
    assert_eq!(no.code, ErrorCode::NotFound, "{no}");
    b.unreact(id, text, "👍").await.unwrap();
    alice
        .until("one reaction", |a| async move {
            reactions(a).await.filter(|r| *r == ["🎉"])
        })
        .await;
    for bad in ["", " ", "\n", &"x".repeat(65)] {
        let no = refused(b.react(id, text, bad.into()).await);
        assert_eq!(no.code, ErrorCode::InvalidParams, "{bad:?}");
    }
    let no = refused(b.delete(id, text).await);
    assert_eq!(no.code, ErrorCode::NotAuthorised, "{no}");
    a.delete(id, text).await.unwrap();
    bob.has_texts(id, &[""]).await;
    for no in [
        refused(a.edit(id, text, "again".into()).await),
        refused(a.delete(id, text).await),
        refused(b.react(id, text, "👍".into()).await),
    ] {
        assert_eq!(no.code, ErrorCode::Conflict, "{no}");
    }
    let root = messages(&a, id).await.remove(0);
    assert_eq!(root.kind, MessageType::Initial);
    let no = refused(a.delete(id, root.id).await);
    assert_eq!(no.code, ErrorCode::Conflict, "{no}");
    for who in [&a, &b] {
        assert!(who.verify(id).await.unwrap().valid);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_profile_says_what_changed() {
    use starling_core::api::ProfileChange;
    use starling_core::swarm::members::Profile;
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = group(&alice, ConversationMode::InvitesOnly, &[&bob]).await;
    let text = |t: &str| Some(t.to_owned());
    let picture = "iVBORw0KGgo=";
    for (title, description, avatar) in [
        (text("Birds"), None, None),
        (None, text("At dusk"), text(picture)),
        (text(""), None, None),
    ] {
        let change = Profile {
            title,
            description,
            avatar,
            ..Profile::default()
        };
        alice
            .account()
            .update_conversation(id, change)
            .await
            .unwrap();
    }
    let wanted = [
        ProfileChange {
            title: text("Birds"),
            ..ProfileChange::default()
        },
        ProfileChange {
            description: text("At dusk"),
            avatar: true,
            ..ProfileChange::default()
        },
        ProfileChange {
            title: text(""),
            ..ProfileChange::default()
        },
    ];
    for who in [&alice, &bob] {
        let said = who
            .until("three changes", |a| async move {
                let all = messages(&a, id).await;
                let said: Vec<_> = all.into_iter().filter_map(|m| m.profile).collect();
                (said.len() == 3).then_some(said)
            })
            .await;
        assert_eq!(said, wanted);
    }
    let last = bob.account().conversation_view(id).await.unwrap();
    assert_eq!(last.last_message.unwrap().profile.as_ref(), wanted.last());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device_is_said_once_and_people_without_a_card_have_the_name_they_sign_with() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let mut carol = Bridge::of(&first, "Carol").await;
    let id = group(&alice, ConversationMode::InvitesOnly, &[&bob, &carol]).await;
    let added = |whose: AccountId| {
        move |e: &Event| match e {
            Event::DeviceAdded {
                id, device, others, ..
            } => (*id == whose).then_some((*device, *others)),
            _ => None,
        }
    };
    let of = |who: &Bridge, whose: AccountId| -> Vec<_> {
        who.events().iter().filter_map(added(whose)).collect()
    };
    // A contact's device, and a fellow member's.
    for (who, whose) in [(&alice, &bob), (&carol, &alice), (&carol, &bob)] {
        whose
            .account()
            .send(id, "hello".into(), None)
            .await
            .unwrap();
        let found = who.heard("a device", added(whose.id())).await;
        assert_eq!(found, (whose.account().device_id(), 0));
    }
    // Bob begins to use a second one.
    let backup = bob.account().export(None).await.unwrap();
    let tablet = Bridge::from_backup(&first, &backup, None).await;
    let new = tablet.account().device_id();
    let second = |e: &Event| added(bob.id())(e).filter(|(device, _)| *device == new);
    for who in [&alice, &bob] {
        // His own device here counts, of which nobody needs to tell him.
        assert_eq!(who.heard("the tablet", second).await, (new, 1));
    }
    assert_eq!(of(&bob, bob.id()), [(new, 1)]);
    // Each once, restarts included.
    let before = of(&carol, bob.id()).len();
    carol.stop().await;
    carol.open().await;
    bob.account().send(id, "again".into(), None).await.unwrap();
    carol
        .has_texts(id, &["hello", "hello", "hello", "again"])
        .await;
    let old = bob.account().device_id();
    let told = of(&carol, bob.id());
    assert_eq!(
        told.iter().filter(|(d, _)| *d == old).count(),
        1,
        "{told:?}"
    );
    assert!(told.len() <= before + 1, "{told:?}");

    // Whoever has given no card is called as they sign, and that is said.
    let stranger = forge(&bob, id, Message::text("hello", None), &[]).await;
    let written = carol
        .until("the newest message", |a| async move {
            a.message(id, stranger).await.ok()
        })
        .await;
    assert_eq!(written.author, bob.id());
    let name = carol
        .account()
        .conversation(&id)
        .unwrap()
        .ask({
            let who = bob.id();
            move |r| r.written_name(&who)
        })
        .await
        .unwrap();
    assert_eq!(name.as_deref(), Some("Bob"));
    let view = carol.account().conversation_view(id).await.unwrap();
    let shown = view.members.iter().find(|m| m.id == bob.id()).unwrap();
    // The card came over their connection by now, or the name stands in for it.
    match shown.display_name.is_empty() {
        true => assert_eq!(shown.written_name.as_deref(), Some("Bob")),
        false => assert_eq!(
            (shown.display_name.as_str(), &shown.written_name),
            ("Bob", &None)
        ),
    }
}
