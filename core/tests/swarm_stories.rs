//! Alice, Bob and others write to each other, at the same time too, and end up agreeing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod swarm;

use proptest::prelude::*;
use starling_core::swarm::ancestry::Walker;
use starling_core::swarm::history::History;
use starling_core::swarm::members::{Profile, Role};
use starling_core::swarm::merge::merge_trees;
use starling_core::swarm::message::{ConversationMode, Message};
use starling_core::swarm::path::{Direction, TreePath};
use starling_core::swarm::tree::Trees;
use starling_core::swarm::validate::Validation;
use starling_core::swarm::write::WriteError;
use swarm::{Device, Room};

fn texts(room: &Room) -> Vec<String> {
    let mut validation =
        Validation::new(&room.objects, room.conversation, None, room.head).unwrap();
    let batch = validation.next_batch(usize::MAX).unwrap().unwrap();
    History::fold(&batch.commits)
        .entries()
        .filter(|e| e.now.kind() == "text/plain")
        .map(|e| e.now.body().to_owned())
        .collect()
}

fn role(room: &Room, who: &Device) -> Option<Role> {
    room.open().role(who.account()).unwrap()
}

/// Both pull from each other until they have one head.
fn reunite(a: (&mut Room, &Device), b: (&mut Room, &Device)) {
    for _ in 0..3 {
        a.0.pull(a.1, b.0).unwrap();
        b.0.pull(b.1, a.0).unwrap();
    }
    assert_eq!(a.0.head, b.0.head);
    a.0.valid().unwrap();
}

/// All pull from each other at the same moment, as often as anything changes. Says how often.
fn meet_at_once(rooms: &mut [(Room, &Device)]) -> usize {
    for round in 0..20 {
        let before: Vec<Room> = rooms.iter().map(|(r, _)| r.clone()).collect();
        for (n, (room, who)) in rooms.iter_mut().enumerate() {
            for (_, other) in before.iter().enumerate().filter(|(m, _)| *m != n) {
                room.pull(who, other).unwrap();
            }
        }
        if rooms
            .iter()
            .zip(&before)
            .all(|((now, _), then)| now.head == then.head)
        {
            return round;
        }
    }
    panic!("merging never ends");
}

#[test]
fn merging_at_the_same_moment_ends_with_one_head() {
    let people = [
        Device::load("alice"),
        Device::load("bob"),
        Device::load("carol"),
    ];
    let all: Vec<&Device> = people.iter().collect();
    for count in [2, 3] {
        let start = Room::group(&all);
        let mut rooms: Vec<(Room, &Device)> = all
            .iter()
            .take(count)
            .map(|who| (start.clone(), *who))
            .collect();
        for (n, (room, who)) in rooms.iter_mut().enumerate() {
            room.say(who, &format!("at once {n}"));
        }
        meet_at_once(&mut rooms);
        let heads: std::collections::BTreeSet<_> = rooms.iter().map(|(r, _)| r.head).collect();
        assert_eq!(heads.len(), 1, "{count} members");
        for (room, _) in &rooms {
            assert_eq!(texts(room).len(), count);
            room.valid().unwrap();
        }
    }
}

#[test]
fn alice_and_bob_talk() {
    let (alice, bob) = (Device::load("alice"), Device::load("bob"));
    let mut a = Room::create(&alice, ConversationMode::OneToOne, Some(bob.account()));
    assert_eq!(role(&a, &bob), Some(Role::Invited));
    assert!(a.open().admits(bob.account(), bob.id()).unwrap());
    let mut b = a.clone();
    assert_eq!(
        b.write(|r, now| r.message(&bob.writer(), Message::text("too early", None), now)),
        Err(WriteError::NotAMember)
    );
    b.write(|r, now| r.join(&bob.writer(), now)).unwrap();
    a.pull(&alice, &b).unwrap();
    assert_eq!(role(&a, &bob), Some(Role::Member));
    let hello = a.say(&alice, "hello");
    b.pull(&bob, &a).unwrap();
    assert_eq!(b.head, a.head, "nothing to merge");
    b.write(|r, now| {
        r.message(
            &bob.writer(),
            Message::text("and hello to you", Some(hello)),
            now,
        )
    })
    .unwrap();
    // At the same time.
    a.say(&alice, "are you there?");
    let (one, two) = (a.clone(), b.clone());
    a.pull(&alice, &two).unwrap();
    b.pull(&bob, &one).unwrap();
    assert_ne!(a.head, b.head, "each made a merge of its own");
    assert_eq!(a.tree(), b.tree());
    reunite((&mut a, &alice), (&mut b, &bob));
    assert_eq!(texts(&a), texts(&b));
    assert_eq!(texts(&a).len(), 3);
    // A stranger cannot come in.
    assert_eq!(
        a.write(|r, now| r.add(&alice.writer(), Device::load("carol").account(), now)),
        Err(WriteError::NotInThisMode)
    );
    a.write(|r, now| r.leave(&alice.writer(), now)).unwrap();
    assert_eq!(role(&a, &alice), Some(Role::Left));
    a.valid().unwrap();
}

#[test]
fn a_conversation_with_oneself() {
    let alice = Device::load("alice");
    let mut room = Room::create(&alice, ConversationMode::OneToOne, Some(alice.account()));
    room.say(&alice, "do not forget the milk");
    room.valid().unwrap();
    assert_eq!(role(&room, &alice), Some(Role::Admin));
    // The second device writes without being asked in.
    let dave = Device::load("dave");
    room.say(&dave, "bought");
    assert!(room.has(TreePath::device(dave.id())));
    room.valid().unwrap();
}

#[test]
fn a_text_is_edited_reacted_to_and_deleted_by_its_author_only() {
    let (ann, ben, dan) = (
        Device::load("ann"),
        Device::load("ben"),
        Device::load("dan"),
    );
    let mut room = Room::group(&[&ann, &ben]);
    let text = room.say(&ann, "helo");
    let by = |who: &Device, room: &mut Room, m: Message| {
        room.write(|r, now| r.message(&who.writer(), m, now))
    };
    assert_eq!(
        by(&ben, &mut room, Message::edit("mine now", text)),
        Err(WriteError::NotEditable)
    );
    // Another device of the same person may.
    by(&dan, &mut room, Message::edit("hello", text)).unwrap();
    let like = by(&ben, &mut room, Message::reaction("👍", text)).unwrap();
    assert_eq!(texts(&room), ["hello"]);
    by(&ben, &mut room, Message::edit("", like)).unwrap();
    by(&ann, &mut room, Message::edit("", text)).unwrap();
    assert_eq!(texts(&room), [""]);
    let tree = room.tree();
    assert_eq!(
        by(&ann, &mut room, Message::text("?", Some(tree))),
        Err(WriteError::NoSuchMessage)
    );
    room.valid().unwrap();
}

#[test]
fn ban_unban_leave_and_come_back() {
    let (ann, ben, cat) = (
        Device::load("ann"),
        Device::load("ben"),
        Device::load("cat"),
    );
    let mut room = Room::group(&[&ann, &ben, &cat]);
    room.say(&cat, "I shall misbehave");
    assert_eq!(
        room.write(|r, now| r.vote(&ben.writer(), Direction::Ban, cat.account(), now)),
        Err(WriteError::NotAnAdmin)
    );
    assert_eq!(
        room.write(|r, now| r.resolve(&ann.writer(), Direction::Ban, cat.account(), now)),
        Err(WriteError::NoMajority {
            votes: 0,
            admins: 1
        })
    );
    assert_eq!(
        room.write(|r, now| r.vote(&ann.writer(), Direction::Ban, ann.account(), now)),
        Err(WriteError::Oneself)
    );
    room.write(|r, now| r.vote(&ann.writer(), Direction::Ban, cat.account(), now))
        .unwrap();
    assert_eq!(
        room.write(|r, now| r.vote(&ann.writer(), Direction::Ban, cat.account(), now)),
        Err(WriteError::AlreadyVoted)
    );
    assert_eq!(room.open().votes().unwrap().len(), 1);
    room.write(|r, now| r.resolve(&ann.writer(), Direction::Ban, cat.account(), now))
        .unwrap();
    assert_eq!(role(&room, &cat), Some(Role::Banned));
    let admits = |who: &Device| room.open().admits(who.account(), who.id()).unwrap();
    assert!(admits(&ann) && admits(&ben) && !admits(&cat) && !admits(&Device::load("alice")));
    assert_eq!(room.open().votes().unwrap(), []);
    assert_eq!(
        room.write(|r, now| r.add(&ann.writer(), cat.account(), now)),
        Err(WriteError::Banned)
    );
    assert_eq!(
        room.write(|r, now| r.message(&cat.writer(), Message::text("still here", None), now)),
        Err(WriteError::NotAMember)
    );
    room.valid().unwrap();
    room.write(|r, now| r.vote(&ann.writer(), Direction::Unban, cat.account(), now))
        .unwrap();
    room.write(|r, now| r.resolve(&ann.writer(), Direction::Unban, cat.account(), now))
        .unwrap();
    room.say(&cat, "I am back");
    room.write(|r, now| r.leave(&ben.writer(), now)).unwrap();
    assert_eq!(role(&room, &ben), None);
    room.invite(&cat, &ben);
    room.say(&ben, "me too");
    room.valid().unwrap();
}

#[test]
fn the_profile_is_the_admins() {
    let (ann, ben) = (Device::load("ann"), Device::load("ben"));
    let mut room = Room::group(&[&ann, &ben]);
    let title = |t: &str| Profile {
        title: Some(t.into()),
        ..Profile::default()
    };
    assert_eq!(
        room.write(|r, now| r.update_profile(&ben.writer(), title("Ben's"), now)),
        Err(WriteError::NotAnAdmin)
    );
    room.write(|r, now| r.update_profile(&ann.writer(), title("Ann's"), now))
        .unwrap();
    let about = Profile {
        description: Some("about us".into()),
        ..Profile::default()
    };
    room.write(|r, now| r.update_profile(&ann.writer(), about, now))
        .unwrap();
    let profile = room.open().profile().unwrap();
    assert_eq!(
        (profile.title.as_deref(), profile.description.as_deref()),
        (Some("Ann's"), Some("about us"))
    );
    room.valid().unwrap();
}

#[test]
fn only_admins_invite_where_the_mode_says_so() {
    let (ann, ben, cat) = (
        Device::load("ann"),
        Device::load("ben"),
        Device::load("cat"),
    );
    let mut room = Room::create(&ann, ConversationMode::AdminInvitesOnly, None);
    room.invite(&ann, &ben);
    assert_eq!(
        room.write(|r, now| r.add(&ben.writer(), cat.account(), now)),
        Err(WriteError::NotAnAdmin)
    );
    room.invite(&ann, &cat);
    room.valid().unwrap();
}

/// Two halves of a group do something each, out of sight of the other, and meet again.
fn apart(
    people: &[&Device],
    left: (&Device, &dyn Fn(&mut Room)),
    right: (&Device, &dyn Fn(&mut Room)),
) -> Room {
    let mut a = Room::group(people);
    let mut b = a.clone();
    // The other half's clock runs a little behind.
    b.now -= 1;
    left.1(&mut a);
    right.1(&mut b);
    a.valid().unwrap();
    b.valid().unwrap();
    reunite((&mut a, left.0), (&mut b, right.0));
    a
}

fn ban(by: &Device, who: &Device, room: &mut Room) {
    room.write(|r, now| r.vote(&by.writer(), Direction::Ban, who.account(), now))
        .unwrap();
    room.write(|r, now| r.resolve(&by.writer(), Direction::Ban, who.account(), now))
        .unwrap();
}

#[test]
fn what_splits_other_groups_does_not_split_ours() {
    let (ann, ben, cat, alice, bob) = (
        Device::load("ann"),
        Device::load("ben"),
        Device::load("cat"),
        Device::load("alice"),
        Device::load("bob"),
    );
    let (dan, dave) = (Device::load("dan"), Device::load("dave"));
    let all = [&ann, &ben, &cat];

    // Ban X / X leaves.
    let room = apart(
        &all,
        (&ann, &|r| ban(&ann, &cat, r)),
        (&ben, &|r| {
            r.say(&ben, "bye");
            r.write(|r, now| r.leave(&cat.writer(), now)).unwrap();
        }),
    );
    assert_eq!(role(&room, &cat), Some(Role::Banned));

    // Ban of invited X / X joins through somebody else.
    let mut start = all.to_vec();
    start.truncate(2);
    let room = {
        let mut a = Room::group(&start);
        a.write(|r, now| r.add(&ben.writer(), cat.account(), now))
            .unwrap();
        let mut b = a.clone();
        ban(&ann, &cat, &mut a);
        b.write(|r, now| r.join(&cat.writer(), now)).unwrap();
        b.say(&cat, "in!");
        b.say(&ben, "welcome");
        reunite((&mut a, &ann), (&mut b, &ben));
        a
    };
    assert_eq!(role(&room, &cat), Some(Role::Banned));
    assert!(
        texts(&room).contains(&"in!".to_owned()),
        "what was written honestly stays"
    );

    // X joins on one side and Y is invited / X joins with another device on the other.
    let room = {
        let mut a = Room::group(&[&ann, &ben]);
        a.write(|r, now| r.add(&ann.writer(), alice.account(), now))
            .unwrap();
        let mut b = a.clone();
        a.write(|r, now| r.join(&alice.writer(), now)).unwrap();
        a.write(|r, now| r.add(&ann.writer(), bob.account(), now))
            .unwrap();
        b.write(|r, now| r.join(&dave.writer(), now)).unwrap();
        b.say(&ben, "hello");
        reunite((&mut a, &ann), (&mut b, &ben));
        a
    };
    assert_eq!(
        (role(&room, &alice), role(&room, &bob)),
        (Some(Role::Member), Some(Role::Invited))
    );
    assert!(room.has(TreePath::device(alice.id())) && room.has(TreePath::device(dave.id())));

    // Ban X / X writes with a new device; the ban stands, the device's file stays.
    let room = apart(
        &[&alice, &ben, &ann],
        (&alice, &|r| ban(&alice, &ann, r)),
        (&ben, &|r| {
            r.say(&dan, "from my other device");
            r.say(&ben, "I see");
        }),
    );
    assert_eq!(role(&room, &ann), Some(Role::Banned));

    // Profile created on both sides.
    let title = |t: &str| Profile {
        title: Some(t.into()),
        ..Profile::default()
    };
    let room = apart(
        &[&ann, &ben],
        (&ann, &|r| {
            r.write(|r, now| r.update_profile(&ann.writer(), title("One"), now))
                .unwrap();
        }),
        (&ben, &|r| {
            r.write(|r, now| r.update_profile(&dan.writer(), title("Two"), now))
                .unwrap();
            r.say(&ben, "new title");
        }),
    );
    assert!(["One", "Two"].contains(&room.open().profile().unwrap().title.unwrap().as_str()));

    // The same ban on both sides; a second vote that comes late.
    let room = apart(
        &all,
        (&ann, &|r| ban(&ann, &cat, r)),
        (&ben, &|r| {
            ban(&dan, &cat, r);
            r.say(&ben, "hm");
        }),
    );
    assert_eq!(role(&room, &cat), Some(Role::Banned));

    // Invitations of different people and of the same one.
    let room = apart(
        &all,
        (&ann, &|r| {
            r.write(|r, now| r.add(&ann.writer(), alice.account(), now))
                .unwrap();
        }),
        (&ben, &|r| {
            r.write(|r, now| r.add(&ben.writer(), alice.account(), now))
                .unwrap();
            r.write(|r, now| r.add(&ben.writer(), bob.account(), now))
                .unwrap();
        }),
    );
    assert_eq!(
        (role(&room, &alice), role(&room, &bob)),
        (Some(Role::Invited), Some(Role::Invited))
    );
}

#[test]
fn who_was_banned_meanwhile_cannot_merge() {
    let (ann, ben) = (Device::load("ann"), Device::load("ben"));
    let mut a = Room::group(&[&ann, &ben]);
    let mut b = a.clone();
    ban(&ann, &ben, &mut a);
    b.say(&ben, "meanwhile");
    for (_, kind, data) in a.objects.iter() {
        b.objects.insert(kind, data);
    }
    assert_eq!(
        b.open().merge(&ben.writer(), a.head, &|_| false, b.now),
        Err(WriteError::NotAMember)
    );
}

#[test]
fn two_conversations_of_one_second_have_one_id() {
    let (ann, ben) = (Device::load("ann"), Device::load("ben"));
    let with = |who: &Device| {
        Room::create(&ann, ConversationMode::OneToOne, Some(who.account())).conversation
    };
    assert_eq!(with(&ben), with(&ben));
    assert_ne!(with(&ben), with(&Device::load("cat")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever three members do apart, everybody who merges gets the same tree, whoever merges,
    /// the merge is valid, and all come to one head.
    #[test]
    fn merging_commutes(actions in proptest::collection::vec((0usize..2, 0u8..9), 1..8)) {
        let (ann, ben, cat, alice) =
            (Device::load("ann"), Device::load("ben"), Device::load("cat"), Device::load("alice"));
        let start = Room::group(&[&ann, &ben, &cat]);
        let mut rooms = [start.clone(), start];
        let who = [&ann, &ben];
        for (side, what) in actions {
            let room = &mut rooms[side];
            let title = Profile { title: Some(format!("{side}")), ..Profile::default() };
            // What is not possible (twice, say) is left out.
            let _ = match what {
                0 => room.write(|r, now| r.add(&who[side].writer(), alice.account(), now)),
                1 => room.write(|r, now| r.join(&alice.writer(), now)),
                2 => room.write(|r, now| r.vote(&ann.writer(), Direction::Ban, cat.account(), now)),
                3 => room.write(|r, now| r.resolve(&ann.writer(), Direction::Ban, cat.account(), now)),
                4 => room.write(|r, now| r.leave(&cat.writer(), now)),
                5 => room.write(|r, now| r.update_profile(&ann.writer(), title, now)),
                6 => room.write(|r, now| r.vote(&ann.writer(), Direction::Unban, cat.account(), now)),
                7 => room.write(|r, now| r.resolve(&ann.writer(), Direction::Unban, cat.account(), now)),
                _ => Ok(room.say(who[side], "text")),
            };
        }
        let [mut a, mut b] = rooms;
        let mut all = a.objects.clone();
        for (_, kind, data) in b.objects.iter() {
            all.insert(kind, data);
        }
        let merged = |x, y| merge_trees(&mut Walker::new(&all), &mut Trees::new(&all), x, y).unwrap().0;
        prop_assert_eq!(merged(a.head, b.head), merged(b.head, a.head));
        a.pull(&ann, &b).unwrap();
        b.pull(&ben, &a).unwrap();
        prop_assert_eq!(a.head, b.head);
        prop_assert!(a.valid().is_ok());
    }
}
