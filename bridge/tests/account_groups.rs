//! Groups of whole accounts: who has to go, who comes in, and what some refuse.
#![allow(clippy::unwrap_used)]

mod account_support;

use account_support::{Bridge, befriend, forge, group, messages, node, refused};
use starling_core::api::{
    ApiError, BallotAction, Conversation, ConversationMode, ConversationState, ErrorCode, Event,
    MemberAction, MemberRole, MessageType, ReadOnly,
};
use starling_core::id::{AccountId, ConversationId};
use starling_core::swarm::message::{Action, Message};
use starling_core::swarm::path::TreePath;

fn role(c: &Conversation, who: AccountId) -> Option<MemberRole> {
    c.members.iter().find(|m| m.id == who).map(|m| m.role)
}

/// Everybody has the same newest commit.
async fn same_head(id: ConversationId, one: &Bridge, others: &[&Bridge]) {
    for other in others {
        one.until_both(other, "the same head", |a, b| {
            let head = |x: &std::sync::Arc<starling_bridge::account::Account>| {
                x.conversation(&id).map(|c| c.head())
            };
            head(a).is_some() && head(a) == head(b)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_banned_is_told_keeps_what_was_and_may_come_back() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let carol = Bridge::of(&first, "Carol").await;
    let id = group(&alice, ConversationMode::InvitesOnly, &[&bob, &carol]).await;
    carol.account().send(id, "I".into(), None).await.unwrap();
    for who in [&alice, &bob, &carol] {
        who.has_texts(id, &["I"]).await;
    }
    let view = alice.account().conversation_view(id).await.unwrap();
    assert_eq!(
        (view.own_role, view.read_only),
        (Some(MemberRole::Admin), None)
    );
    assert_eq!(view.address, None);

    // Not everybody may, and nobody themselves.
    let no = refused(bob.account().ban(id, carol.id(), None).await);
    assert_eq!(no.code, ErrorCode::NotAuthorised, "{no}");
    let no = refused(alice.account().ban(id, alice.id(), None).await);
    assert_eq!(no.code, ErrorCode::Conflict, "{no}");
    let no = refused(alice.account().unban(id, carol.id(), None).await);
    assert_eq!(no.code, ErrorCode::NotFound, "{no}");

    let ballot = alice.account().ban(id, carol.id(), None).await.unwrap();
    assert_eq!(ballot.target, carol.id());
    assert_eq!((ballot.action, ballot.device), (BallotAction::Ban, None));
    assert_eq!(ballot.voters, [alice.id()]);
    assert_eq!((ballot.admins, ballot.needed, ballot.decided), (1, 1, true));
    assert!(alice.account().votes(id).unwrap().is_empty());
    let gone = carol.id();
    for who in [&alice, &bob] {
        who.ready(id, "Carol banned", |c| {
            role(c, gone) == Some(MemberRole::Banned)
        })
        .await;
        who.heard("that votes changed", |e| match e {
            Event::ConversationVotes {
                conversation,
                ballots,
                ..
            } => (*conversation == id && ballots.is_empty()).then_some(()),
            _ => None,
        })
        .await;
    }
    // Carol gets the commit that says so, as the last one.
    let view = carol
        .ready(id, "the ban", |c| c.own_role == Some(MemberRole::Banned))
        .await;
    assert_eq!(view.read_only, Some(ReadOnly::Banned));
    let last = messages(&carol.account(), id).await.pop().unwrap();
    let change = last.member.unwrap();
    assert_eq!((change.id, change.action), (gone, MemberAction::Ban));
    assert_eq!(last.kind, MessageType::Member);
    let vote = messages(&carol.account(), id).await;
    let vote = vote.iter().find(|m| m.kind == MessageType::Vote).unwrap();
    assert_eq!(vote.member.as_ref().unwrap().action, MemberAction::Ban);
    let no = refused(carol.account().send(id, "no".into(), None).await);
    assert_eq!(no.code, ErrorCode::NotAMember);
    assert!(no.message.contains("banned"), "{no}");

    alice
        .account()
        .send(id, "between us".into(), None)
        .await
        .unwrap();
    bob.has_texts(id, &["I", "between us"]).await;
    // Bob cannot undo it, also not by inviting her.
    let no = refused(bob.account().invite(id, gone).await);
    assert_eq!(no.code, ErrorCode::Conflict, "{no}");
    assert_eq!(carol.texts(id).await, ["I"]);

    // An admin who invites her again votes for the end of the ban.
    alice.account().invite(id, gone).await.unwrap();
    let back = |c: &Conversation| role(c, gone) == Some(MemberRole::Member);
    for who in [&alice, &bob, &carol] {
        who.ready(id, "Carol back", back).await;
    }
    let view = carol.account().conversation_view(id).await.unwrap();
    assert_eq!(
        (view.own_role, view.read_only),
        (Some(MemberRole::Member), None)
    );
    carol
        .account()
        .send(id, "thanks".into(), None)
        .await
        .unwrap();
    for who in [&alice, &bob, &carol] {
        who.has_texts(id, &["I", "between us", "thanks"]).await;
        assert!(who.account().verify(id).await.unwrap().valid);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_is_banned_and_a_banned_person_leaves() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let carol = Bridge::of(&first, "Carol").await;
    let id = group(&alice, ConversationMode::InvitesOnly, &[&bob]).await;
    // Invited, and not in yet: nobody has reached her.
    bob.account().invite(id, carol.id()).await.unwrap();
    let who = carol.id();
    let is = |r| move |c: &Conversation| role(c, who) == Some(r);
    alice
        .ready(id, "the invitation", is(MemberRole::Invited))
        .await;
    let ballot = alice.account().ban(id, who, None).await.unwrap();
    assert!(ballot.decided);
    for b in [&alice, &bob] {
        b.ready(id, "the ban", is(MemberRole::Banned)).await;
    }
    let ballot = alice.account().unban(id, who, None).await.unwrap();
    assert!(ballot.decided && ballot.action == BallotAction::Unban);
    bob.ready(id, "invited again", is(MemberRole::Invited))
        .await;

    alice.account().ban(id, bob.id(), None).await.unwrap();
    bob.ready(id, "the ban", |c| c.read_only == Some(ReadOnly::Banned))
        .await;
    bob.account().leave(id).await.unwrap();
    assert!(
        bob.account()
            .list()
            .await
            .unwrap()
            .iter()
            .all(|c| c.id != id)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_device_is_banned_and_the_other_goes_on() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = group(&alice, ConversationMode::InvitesOnly, &[&bob]).await;
    let backup = bob.account().export(None).await.unwrap();
    let tablet = Bridge::from_backup(&first, &backup, None).await;
    tablet.ready(id, "the group", |_| true).await;
    let device = tablet.account().device_id();
    // It never wrote, and so is not there.
    let no = refused(alice.account().ban(id, bob.id(), Some(device)).await);
    assert_eq!(no.code, ErrorCode::NotFound, "{no}");
    tablet
        .account()
        .send(id, "from the tablet".into(), None)
        .await
        .unwrap();
    for who in [&alice, &bob] {
        who.has_texts(id, &["from the tablet"]).await;
    }
    let no = refused(alice.account().ban(id, alice.id(), Some(device)).await);
    assert_eq!(no.code, ErrorCode::NotFound, "{no}");
    let ballot = alice
        .account()
        .ban(id, bob.id(), Some(device))
        .await
        .unwrap();
    assert!(ballot.decided);
    assert_eq!((ballot.target, ballot.device), (bob.id(), Some(device)));
    let view = tablet
        .ready(id, "its ban", |c| c.read_only == Some(ReadOnly::Banned))
        .await;
    assert_eq!(view.own_role, Some(MemberRole::Member));
    let no = refused(tablet.account().send(id, "x".into(), None).await);
    assert_eq!(no.code, ErrorCode::NotAMember, "{no}");
    let last = messages(&tablet.account(), id).await.pop().unwrap();
    let change = last.member.unwrap();
    assert_eq!((change.id, change.device), (bob.id(), Some(device)));
    // Who has not heard of it yet goes on telling the device.
    bob.ready(id, "the ban", |c| {
        // Not the vote before it.
        let last = c.last_message.as_ref();
        let last = last.filter(|m| m.kind == MessageType::Member);
        let change = last.and_then(|m| m.member.as_ref());
        change.is_some_and(|m| m.device == Some(device))
    })
    .await;
    bob.account()
        .send(id, "it was stolen".into(), None)
        .await
        .unwrap();
    alice
        .has_texts(id, &["from the tablet", "it was stolen"])
        .await;
    assert_eq!(tablet.texts(id).await, ["from the tablet"]);
    let no = refused(alice.account().unban(id, bob.id(), Some(device)).await);
    assert_eq!(no.code, ErrorCode::Unsupported, "{no}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leave_after_which_the_power_goes_is_told_at_the_next_start() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let mut bob = Bridge::of(&first, "Bob").await;
    let id = group(&alice, ConversationMode::InvitesOnly, &[&bob]).await;
    // On the disk, and nothing else was done about it.
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let here = bob.account().conversation(&id).unwrap();
    here.ask(move |r| r.write(now, |repo, writer, now| repo.leave(writer, now)))
        .await
        .unwrap()
        .unwrap();
    drop(here);
    bob.stop().await;
    bob.open().await;
    let gone = bob.id();
    alice
        .ready(id, "one member", |c| {
            let role = c.members.iter().find(|m| m.id == gone).map(|m| m.role);
            !matches!(role, Some(MemberRole::Admin | MemberRole::Member))
        })
        .await;
    bob.until("no conversation", |a| async move {
        let listed = a.list().await.unwrap();
        listed.iter().all(|c| c.id != id).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_admins_invite_others_cannot_and_what_they_do_is_explained() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let carol = Bridge::of(&first, "Carol").await;
    let id = group(&alice, ConversationMode::AdminInvitesOnly, &[&bob, &carol]).await;
    let stranger = AccountId([7; 20]);
    let no = refused(bob.account().invite(id, stranger).await);
    assert_eq!(no.code, ErrorCode::NotAuthorised, "{no}");
    // A program that does not care: what Jami's daemon would take from Bob.
    let bad = forge(
        &bob,
        id,
        Message::member(Action::Add, stranger),
        &[(TreePath::invited(stranger), Some(b""))],
    )
    .await;
    for who in [&alice, &carol] {
        let view = who.ready(id, "the refusal", |c| c.refused.is_some()).await;
        let refused = view.refused.clone().unwrap();
        assert_eq!(refused.rule, "InviteByNonAdmin");
        assert_eq!(
            (refused.account, refused.commit),
            (Some(bob.id()), Some(bad))
        );
        assert_eq!(refused.from, bob.account().device_id());
        // We go on, without what Bob let in.
        assert_eq!(view.read_only, None);
        assert_eq!(role(&view, stranger), None);
    }
    alice
        .account()
        .send(id, "without him".into(), None)
        .await
        .unwrap();
    carol.has_texts(id, &["without him"]).await;
    // Seen is seen, also when it is offered again; and after a restart.
    let view = alice.account().dismiss_refusal(id).await.unwrap();
    assert_eq!(view.refused, None);
    bob.account()
        .send(id, "more of it".into(), None)
        .await
        .unwrap();
    let again = alice.account().device_id();
    alice
        .heard("another refusal", |e| match e {
            Event::ConversationRejected { from, .. } => (*from != again).then_some(()),
            _ => None,
        })
        .await;
    let view = alice.account().conversation_view(id).await.unwrap();
    assert_eq!(view.refused, None);
    let mut carol = carol;
    carol.stop().await;
    carol.open().await;
    let view = carol
        .ready(id, "the refusal, kept", |c| c.refused.is_some())
        .await;
    assert_eq!(view.refused.unwrap().commit, Some(bad));
    for who in [&alice, &bob, &carol] {
        who.account().leave(id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_breaks_the_rules_is_explained_and_can_be_given_up() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    befriend(&alice, &bob).await;
    let made = bob
        .account()
        .create_group(ConversationMode::InvitesOnly, None, vec![])
        .await
        .unwrap();
    let id = made.id;
    forge(
        &bob,
        id,
        Message::text("with a file", None),
        &[(TreePath::invited(AccountId([9; 20])), Some(b""))],
    )
    .await;
    bob.account().invite(id, alice.id()).await.unwrap();
    alice
        .until("the invitation", |a| async move {
            let all = a.requests().await.unwrap();
            all.into_iter().find(|r| r.conversation == id)
        })
        .await;
    alice.account().accept_request(id).await.unwrap();
    let view = alice
        .until("the refusal", |a| async move {
            let c = a.conversation_view(id).await.ok()?;
            c.refused.is_some().then_some(c)
        })
        .await;
    let refused = view.refused.clone().unwrap();
    assert_eq!(refused.rule, "UnexpectedFile");
    assert_eq!(refused.account, Some(bob.id()));
    let view = alice
        .until("the state", |a| async move {
            let c = a.conversation_view(id).await.ok()?;
            (c.state == ConversationState::Refused).then_some(c)
        })
        .await;
    assert_eq!(
        (view.read_only, view.own_role),
        (Some(ReadOnly::Refused), None)
    );
    alice.account().leave(id).await.unwrap();
    assert!(
        alice
            .account()
            .list()
            .await
            .unwrap()
            .iter()
            .all(|c| c.id != id)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_that_is_taken_back_before_the_first_copy_is_explained_and_may_come_again() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let carol = Bridge::of(&first, "Carol").await;
    befriend(&alice, &carol).await;
    let made = alice
        .account()
        .create_group(ConversationMode::InvitesOnly, None, vec![carol.id()])
        .await
        .unwrap();
    let id = made.id;
    let request = || {
        carol.until("the invitation", |a| async move {
            let all = a.requests().await.unwrap();
            all.into_iter().find(|r| r.conversation == id)
        })
    };
    request().await;
    assert!(
        alice
            .account()
            .ban(id, carol.id(), None)
            .await
            .unwrap()
            .decided
    );
    carol.account().accept_request(id).await.unwrap();
    let view = carol
        .until("the refusal", |a| async move {
            let c = a.conversation_view(id).await.ok()?;
            (c.state == ConversationState::Refused).then_some(c)
        })
        .await;
    assert_eq!(view.refused.unwrap().rule, "NotForUs");
    assert_eq!(view.read_only, Some(ReadOnly::Refused));
    assert!(!carol.account().repository_path(&id).exists());
    // Let back, she need not do anything.
    assert!(
        alice
            .account()
            .unban(id, carol.id(), None)
            .await
            .unwrap()
            .decided
    );
    let in_it = |c: &Conversation| c.read_only.is_none() && c.refused.is_none();
    carol.ready(id, "the conversation", in_it).await;
    alice
        .ready(id, "her coming in", |c| {
            role(c, carol.id()) == Some(MemberRole::Member)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_is_banned_and_let_back_in_hears_of_both_each_time() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = group(&alice, ConversationMode::Public, &[]).await;
    let address = alice.account().conversation_view(id).await.unwrap().address;
    bob.account().join_public(&address.unwrap()).await.unwrap();
    bob.ready(id, "the way in", |c| c.read_only.is_none()).await;
    for round in 1..=3 {
        let in_it = |c: &Conversation| role(c, bob.id()) == Some(MemberRole::Member);
        alice.ready(id, "him as a member", in_it).await;
        alice.account().ban(id, bob.id(), None).await.unwrap();
        bob.ready(id, "the ban", |c| c.read_only == Some(ReadOnly::Banned))
            .await;
        alice.account().unban(id, bob.id(), None).await.unwrap();
        bob.ready(id, "the way back", |c| c.read_only.is_none())
            .await;
        println!("back for the {round}th time");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anybody_comes_into_a_public_conversation_and_into_no_other() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let carol = Bridge::of(&first, "Carol").await;
    let id = group(&alice, ConversationMode::Public, &[&bob]).await;
    let private = group(&alice, ConversationMode::InvitesOnly, &[&bob]).await;
    alice
        .account()
        .send(id, "welcome".into(), None)
        .await
        .unwrap();
    alice
        .account()
        .send(private, "secret".into(), None)
        .await
        .unwrap();
    let address = alice.account().conversation_view(id).await.unwrap().address;
    let address = address.unwrap();
    let none = alice.account().conversation_view(private).await.unwrap();
    assert_eq!(none.address, None);

    let no = refused(carol.account().join_public("swarm:123").await);
    assert_eq!(no.code, ErrorCode::InvalidParams, "{no}");
    // The address of one that is not public, as somebody may make it up.
    let made_up = address.replace(&id.to_hex(), &private.to_hex());
    let view = carol.account().join_public(&made_up).await.unwrap();
    assert_eq!(view.state, ConversationState::Syncing);
    let view = carol.account().join_public(&address).await.unwrap();
    assert_eq!((view.id, view.state), (id, ConversationState::Syncing));
    let no = refused(carol.account().join_public(&address).await);
    assert_eq!(no.code, ErrorCode::AlreadyExists, "{no}");

    let who = carol.id();
    let is = |r| move |c: &Conversation| role(c, who) == Some(r);
    carol
        .ready(id, "the conversation", is(MemberRole::Member))
        .await;
    carol
        .account()
        .send(id, "hello all".into(), None)
        .await
        .unwrap();
    for b in [&alice, &bob, &carol] {
        b.has_texts(id, &["welcome", "hello all"]).await;
        b.ready(id, "Carol", is(MemberRole::Member)).await;
    }
    // To everybody else it looks like an invitation that was accepted.
    let actions: Vec<_> = messages(&bob.account(), id)
        .await
        .into_iter()
        .filter_map(|m| m.member.filter(|c| c.id == who).map(|c| c.action))
        .collect();
    assert_eq!(actions, [MemberAction::Add, MemberAction::Join]);

    // She is connected to Alice now, and asked for the other one as well.
    let nothing = |c: &Conversation| role(c, who).is_none();
    alice.ready(private, "nothing of Carol", nothing).await;
    let view = carol.account().conversation_view(private).await.unwrap();
    assert_eq!(
        (view.state, view.own_role),
        (ConversationState::Syncing, None)
    );
    assert!(carol.account().conversation(&private).is_none());
    carol.account().leave(private).await.unwrap();

    // Banned, she is not let in again; elsewhere she is.
    let other = alice
        .account()
        .create_group(ConversationMode::Public, None, vec![])
        .await
        .unwrap();
    alice.account().ban(id, who, None).await.unwrap();
    carol
        .ready(id, "the ban", |c| c.read_only == Some(ReadOnly::Banned))
        .await;
    carol.account().leave(id).await.unwrap();
    carol.account().join_public(&address).await.unwrap();
    carol
        .account()
        .join_public(&other.address.unwrap())
        .await
        .unwrap();
    carol.ready(other.id, "the other one", |_| true).await;
    same_head(other.id, &alice, &[&carol]).await;
    let view = alice.account().conversation_view(id).await.unwrap();
    assert_eq!(role(&view, who), Some(MemberRole::Banned));
    assert!(carol.account().conversation(&id).is_none());
    for b in [&alice, &bob] {
        assert!(b.account().verify(id).await.unwrap().valid);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_wrote_before_one_heard_of_the_ban_stays_for_its_author() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = group(&alice, ConversationMode::InvitesOnly, &[&bob]).await;
    bob.account().send(id, "one".into(), None).await.unwrap();
    alice.has_texts(id, &["one"]).await;
    // Bob is out of reach, writes, and is banned meanwhile.
    let local = bob.local_id();
    bob.accounts().set_active(&local, false).await.unwrap();
    for text in ["two", "three"] {
        bob.account().send(id, text.into(), None).await.unwrap();
    }
    alice.account().ban(id, bob.id(), None).await.unwrap();
    bob.accounts().set_active(&local, true).await.unwrap();
    bob.ready(id, "the ban", |c| c.read_only == Some(ReadOnly::Banned))
        .await;
    let shown = |all: &[starling_core::api::Message]| -> Vec<(String, bool)> {
        all.iter()
            .filter_map(|m| Some((m.body.clone()?, m.unaccepted)))
            .collect()
    };
    let wanted = [
        ("one".to_owned(), false),
        ("two".to_owned(), true),
        ("three".to_owned(), true),
    ];
    let all = messages(&bob.account(), id).await;
    assert_eq!(shown(&all), wanted);
    // They stand after the ban, and each says what it stands after.
    let at = |m: &starling_core::api::Message| all.iter().position(|x| x.id == m.id).unwrap();
    let two = &all[all.len() - 2];
    let ban = all[at(two) - 1].member.as_ref().unwrap();
    assert_eq!(ban.action, MemberAction::Ban);
    for pair in all.windows(2) {
        assert_eq!(pair[1].previous, Some(pair[0].id), "{all:#?}");
    }
    let view = bob.account().conversation_view(id).await.unwrap();
    let last = view.last_message.unwrap();
    assert_eq!(last.body.as_deref(), Some("three"));
    // Who has read what is in no history has read what stands before it.
    let before = Some(all[at(two) - 1].id);
    assert_ne!(view.read_up_to, before);
    bob.account().mark_displayed(id, last.id).await.unwrap();
    let view = bob.account().conversation_view(id).await.unwrap();
    assert_eq!((view.read_up_to, view.unread), (before, 0));
    let (page, _) = bob
        .account()
        .history(id, Some(all[all.len() - 1].id), 1)
        .await
        .unwrap();
    assert_eq!(page.last().unwrap().id, two.id);
    // The page can check who wrote it.
    let objects = bob.account().objects(id, Some(two.id), 1).await.unwrap();
    assert!(!objects.is_empty());
    assert_eq!(alice.texts(id).await, ["one"]);
    assert!(bob.account().verify(id).await.unwrap().valid);

    // A restart takes nothing away, and neither does coming back.
    let (mut bob, two) = (bob, two.id);
    bob.stop().await;
    bob.open().await;
    assert_eq!(shown(&messages(&bob.account(), id).await), wanted);
    alice.account().unban(id, bob.id(), None).await.unwrap();
    bob.ready(id, "the way back", |c| c.read_only.is_none())
        .await;
    for no in [
        refused(bob.account().edit(id, two, "2".into()).await),
        refused(bob.account().react(id, two, "👍".into()).await),
        refused(bob.account().send(id, "re".into(), Some(two)).await),
    ] {
        assert_eq!(no.code, ErrorCode::Conflict, "{no}");
    }
    bob.account()
        .send(id, "two again".into(), None)
        .await
        .unwrap();
    alice.has_texts(id, &["one", "two again"]).await;
    let texts: Vec<String> = bob.texts(id).await;
    assert_eq!(texts, ["one", "two", "three", "two again"]);

    // Or it is sent again as it was: once, however often that is asked for.
    let account = bob.account();
    let (one, other) = tokio::join!(account.resend(id, two), account.resend(id, two));
    let (sent, no) = match (one, other) {
        (Ok(sent), no) | (no, Ok(sent)) => (sent, refused(no)),
        (one, other) => panic!("{one:?} {other:?}"),
    };
    assert_eq!(no.code, ErrorCode::NotFound, "{no}");
    alice.has_texts(id, &["one", "two again", "two"]).await;
    let all = messages(&account, id).await;
    let wanted = ["one", "three", "two again", "two"];
    assert_eq!(
        shown(&all).iter().map(|(t, _)| t).collect::<Vec<_>>(),
        wanted
    );
    let new = all.iter().find(|m| m.id == sent).unwrap();
    assert!(!new.unaccepted);
    bob.heard("that an old message is gone", |e| match e {
        Event::ConversationReordered { after, .. } => after.map(drop),
        _ => None,
    })
    .await;
    // What is no such message is not sent again, and nothing comes back with a restart.
    assert_eq!(
        refused(account.resend(id, sent).await).code,
        ErrorCode::NotFound
    );
    drop(account);
    bob.stop().await;
    bob.open().await;
    let all = messages(&bob.account(), id).await;
    assert_eq!(
        shown(&all).iter().map(|(t, _)| t).collect::<Vec<_>>(),
        wanted
    );
}

#[test]
fn a_document_is_no_conversation() {
    use starling_bridge::conversation::judging::check_clone;
    use starling_bridge::conversation::repo::{Me, Repo, RepoError};
    use starling_bridge::crypto::AwsLc;
    use starling_core::identity::create_account;
    use starling_core::swarm::message::ConversationMode as Mode;
    use starling_core::swarm::object::MemoryObjects;
    use starling_core::swarm::validate::Limits;
    let now = 1_800_000_000;
    let (_, identity) = create_account(&AwsLc, now, account_support::keys()).unwrap();
    let own = identity.account_id();
    let me = Me {
        identity,
        name: "Me".into(),
    };
    let check = |mode| {
        let first = Repo::initial(&me, mode, Some(own), now + 1).unwrap();
        let mut objects = MemoryObjects::new();
        let head = first.commit;
        objects.extend(first.objects);
        check_clone(
            Limits::default(),
            head.into(),
            &objects,
            head,
            &own,
            &|| true,
            None,
        )
        .map(|(snapshot, _)| snapshot)
    };
    for mode in [
        Mode::OneToOne,
        Mode::AdminInvitesOnly,
        Mode::InvitesOnly,
        Mode::Public,
    ] {
        assert_eq!(check(mode).unwrap().mode, mode);
    }
    let no = check(Mode::Document).unwrap_err();
    assert!(matches!(no, RepoError::Document), "{no}");
    assert_eq!(ApiError::from(no).code, ErrorCode::Rejected);
}
