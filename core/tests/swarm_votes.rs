//! Admins vote about members, invited people, each other and devices.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod swarm;

use starling_core::id::ObjectId;
use starling_core::swarm::ballot::{About, Subject, about};
use starling_core::swarm::members::Role;
use starling_core::swarm::message::ConversationMode;
use starling_core::swarm::path::{Direction, Standing, Target, TreePath};
use starling_core::swarm::write::WriteError;
use swarm::{Device, Room};

use Direction::{Ban, Unban};

/// Ann, Ben, Cat and more are admins, Mallory is a member; the commit from which on all is by the rules.
fn with_admins(admins: &[&Device], mallory: &Device) -> (Room, ObjectId) {
    let mut people = admins.to_vec();
    people.push(mallory);
    let mut room = Room::group(&people);
    let mut have = room.head;
    for admin in &admins[1..] {
        have = room.with_admin(admins[0], admin.account());
    }
    (room, have)
}

fn vote(
    room: &mut Room,
    by: &Device,
    direction: Direction,
    whom: impl Into<Subject>,
) -> Result<ObjectId, WriteError> {
    let whom = whom.into();
    room.write(|r, now| r.vote(&by.writer(), direction, whom, now))
}

fn resolve(
    room: &mut Room,
    by: &Device,
    direction: Direction,
    whom: impl Into<Subject>,
) -> Result<ObjectId, WriteError> {
    let whom = whom.into();
    room.write(|r, now| r.resolve(&by.writer(), direction, whom, now))
}

fn role(room: &Room, who: &Device) -> Option<Role> {
    room.open().role(who.account()).unwrap()
}

#[test]
fn more_than_half_of_the_admins_decide() {
    let names = ["ann", "ben", "cat", "alice", "bob"];
    let devices: Vec<Device> = names.iter().map(|n| Device::load(n)).collect();
    let mallory = Device::load("mallory");
    for (count, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
        let admins: Vec<&Device> = devices.iter().take(count).collect();
        let (mut room, have) = with_admins(&admins, &mallory);
        let target = mallory.account();
        for (n, admin) in admins.iter().take(needed).enumerate() {
            let before = resolve(&mut room.clone(), admin, Ban, target);
            assert_eq!(
                before,
                Err(WriteError::NoMajority {
                    votes: n,
                    admins: count
                })
            );
            let open = room.open().ballot(Ban, target).unwrap();
            assert_eq!(
                (open.voters.len(), open.admins, open.needed()),
                (n, count, needed)
            );
            assert!(!open.is_decided());
            vote(&mut room, admin, Ban, target).unwrap();
            assert_eq!(
                vote(&mut room, admin, Ban, target),
                Err(WriteError::AlreadyVoted)
            );
        }
        let ballots = room.open().ballots().unwrap();
        assert_eq!(ballots.len(), 1);
        assert_eq!(ballots[0].voters.len(), needed);
        assert!(ballots[0].is_decided());
        assert_eq!(ballots[0].account, Some(target));
        // Any admin carries it out, whether they voted or not.
        resolve(&mut room, admins[count - 1], Ban, target).unwrap();
        assert_eq!(role(&room, &mallory), Some(Role::Banned));
        assert_eq!(room.open().ballots().unwrap(), []);
        room.valid_since(have).unwrap();
        // And the way back needs as many.
        for admin in admins.iter().rev().take(needed) {
            assert!(resolve(&mut room, admin, Unban, target).is_err());
            vote(&mut room, admin, Unban, target).unwrap();
        }
        resolve(&mut room, admins[0], Unban, target).unwrap();
        assert_eq!(role(&room, &mallory), Some(Role::Member));
        room.say(&mallory, "thank you");
        room.valid_since(have).unwrap();
    }
}

#[test]
fn votes_of_two_who_do_not_hear_each_other_add_up() {
    let (ann, ben, mallory) = (
        Device::load("ann"),
        Device::load("ben"),
        Device::load("mallory"),
    );
    let (mut a, have) = with_admins(&[&ann, &ben], &mallory);
    let mut b = a.clone();
    b.now += 5;
    vote(&mut a, &ann, Ban, mallory.account()).unwrap();
    vote(&mut b, &ben, Ban, mallory.account()).unwrap();
    for _ in 0..2 {
        a.pull(&ann, &b).unwrap();
        b.pull(&ben, &a).unwrap();
    }
    assert_eq!(a.head, b.head);
    assert!(
        a.open()
            .ballot(Ban, mallory.account())
            .unwrap()
            .is_decided()
    );
    // Both carry it out at once, and agree.
    resolve(&mut a, &ann, Ban, mallory.account()).unwrap();
    resolve(&mut b, &ben, Ban, mallory.account()).unwrap();
    for _ in 0..2 {
        a.pull(&ann, &b).unwrap();
        b.pull(&ben, &a).unwrap();
    }
    assert_eq!(a.head, b.head);
    assert_eq!(role(&a, &mallory), Some(Role::Banned));
    a.valid_since(have).unwrap();
}

#[test]
fn an_admin_is_banned_by_the_others_and_no_longer_counts() {
    let (ann, ben, cat, mallory) = (
        Device::load("ann"),
        Device::load("ben"),
        Device::load("cat"),
        Device::load("mallory"),
    );
    let (mut room, have) = with_admins(&[&ann, &ben, &cat], &mallory);
    // Cat's own vote about somebody else, before she is banned herself.
    vote(&mut room, &cat, Ban, mallory.account()).unwrap();
    for admin in [&ann, &ben] {
        vote(&mut room, admin, Ban, cat.account()).unwrap();
    }
    assert_eq!(
        vote(&mut room.clone(), &cat, Ban, cat.account()),
        Err(WriteError::Oneself)
    );
    resolve(&mut room, &ben, Ban, cat.account()).unwrap();
    assert_eq!(role(&room, &cat), Some(Role::Banned));
    assert!(room.has(TreePath::Banned(Target::Account(
        Standing::Admin,
        cat.account()
    ))));
    assert_eq!(
        vote(&mut room, &cat, Ban, ann.account()),
        Err(WriteError::NotAMember)
    );
    // Of two admins both are needed now, and Cat's old vote is none of theirs.
    assert_eq!(
        room.open().ballots().unwrap(),
        [],
        "the vote of nobody who is an admin"
    );
    vote(&mut room, &ann, Ban, mallory.account()).unwrap();
    let open = room.open().ballot(Ban, mallory.account()).unwrap();
    assert_eq!(
        (open.voters.clone(), open.needed()),
        (vec![ann.account()], 2)
    );
    room.valid_since(have).unwrap();
    // She comes back as what she was.
    for admin in [&ann, &ben] {
        vote(&mut room, admin, Unban, cat.account()).unwrap();
    }
    resolve(&mut room, &ann, Unban, cat.account()).unwrap();
    assert_eq!(role(&room, &cat), Some(Role::Admin));
    // And her vote counts again: two of three.
    assert!(
        room.open()
            .ballot(Ban, mallory.account())
            .unwrap()
            .is_decided()
    );
    room.valid_since(have).unwrap();
}

#[test]
fn an_invitation_is_banned_and_given_back() {
    let (ann, ben, cat) = (
        Device::load("ann"),
        Device::load("ben"),
        Device::load("cat"),
    );
    let mut room = Room::group(&[&ann, &ben]);
    room.write(|r, now| r.add(&ben.writer(), cat.account(), now))
        .unwrap();
    vote(&mut room, &ann, Ban, cat.account()).unwrap();
    resolve(&mut room, &ann, Ban, cat.account()).unwrap();
    assert_eq!(role(&room, &cat), Some(Role::Banned));
    assert_eq!(
        room.clone().write(|r, now| r.join(&cat.writer(), now)),
        Err(WriteError::NotInvited)
    );
    for by in [&ann, &ben] {
        assert_eq!(
            room.clone()
                .write(|r, now| r.add(&by.writer(), cat.account(), now)),
            Err(WriteError::Banned)
        );
    }
    vote(&mut room, &ann, Unban, cat.account()).unwrap();
    resolve(&mut room, &ann, Unban, cat.account()).unwrap();
    assert_eq!(role(&room, &cat), Some(Role::Invited));
    room.write(|r, now| r.join(&cat.writer(), now)).unwrap();
    room.say(&cat, "at last");
    room.valid().unwrap();
}

#[test]
fn a_device_is_banned_and_its_owner_goes_on_with_another() {
    let (ann, dan, ben) = (
        Device::load("ann"),
        Device::load("dan"),
        Device::load("ben"),
    );
    let (mallory, tablet) = (Device::load("mallory"), Device::load("mallory2"));
    let mut room = Room::group(&[&ann, &ben, &mallory]);
    // A device that never wrote is not there.
    assert_eq!(
        vote(&mut room, &ann, Ban, tablet.id()),
        Err(WriteError::NotThere)
    );
    room.say(&tablet, "from the tablet");
    assert_eq!(
        vote(&mut room, &ben, Ban, tablet.id()),
        Err(WriteError::NotAnAdmin)
    );
    assert_eq!(
        vote(&mut room, &ann, Ban, ann.id()),
        Err(WriteError::Oneself)
    );
    let voted = vote(&mut room, &ann, Ban, tablet.id()).unwrap();
    let open = room.open().ballots().unwrap();
    assert_eq!(open[0].account, Some(mallory.account()));
    let banned = resolve(&mut room, &ann, Ban, tablet.id()).unwrap();
    for commit in [voted, banned] {
        assert_eq!(
            about(&room.objects, room.conversation, commit),
            Some(About {
                direction: Ban,
                subject: tablet.id().into(),
                account: Some(mallory.account()),
            })
        );
    }
    assert_eq!(role(&room, &mallory), Some(Role::Member));
    let admits = |room: &Room, who: &Device| room.open().admits(who.account(), who.id()).unwrap();
    assert!(admits(&room, &mallory) && !admits(&room, &tablet));
    let text = starling_core::swarm::message::Message::text("still here?", None);
    assert_eq!(
        room.write(|r, now| r.message(&tablet.writer(), text, now)),
        Err(WriteError::DeviceBanned)
    );
    assert_eq!(
        room.write(|r, now| r.leave(&tablet.writer(), now)),
        Err(WriteError::DeviceBanned)
    );
    room.say(&mallory, "the tablet is gone");
    room.valid().unwrap();
    // The end of it: among Starlings (the daemon refuses this vote, see the rules).
    vote(&mut room, &dan, Unban, tablet.id()).unwrap();
    resolve(&mut room, &ann, Unban, tablet.id()).unwrap();
    room.say(&tablet, "found it");
    room.valid().unwrap();
}

#[test]
fn a_banned_device_follows_and_its_late_words_are_not_taken() {
    let (ann, ben) = (Device::load("ann"), Device::load("ben"));
    let tablet = Device::load("mallory2");
    let mut room = Room::group(&[&ann, &ben]);
    room.invite(&ann, &tablet);
    let mut apart = room.clone();
    vote(&mut room, &ann, Ban, tablet.id()).unwrap();
    resolve(&mut room, &ann, Ban, tablet.id()).unwrap();
    apart.say(&tablet, "I did not know");
    for (_, kind, data) in room.objects.iter() {
        apart.objects.insert(kind, data);
    }
    assert_eq!(
        apart
            .open()
            .merge(&tablet.writer(), room.head, &|_| false, apart.now),
        Err(WriteError::NotAMember)
    );
    // What it wrote before it was banned, somebody else may bring: it was honest.
    room.pull(&ann, &apart).unwrap();
    room.valid().unwrap();
    assert!(room.has(TreePath::Banned(Target::Device(tablet.id()))));
    assert!(!room.has(TreePath::device(tablet.id())));
}

#[test]
fn what_a_commit_is_about_is_read_from_its_files() {
    let (ann, ben) = (Device::load("ann"), Device::load("ben"));
    let mut room = Room::group(&[&ann, &ben]);
    let said = room.say(&ben, "hello");
    let ban = [
        vote(&mut room, &ann, Ban, ben.account()).unwrap(),
        resolve(&mut room, &ann, Ban, ben.account()).unwrap(),
    ];
    let unban = [
        vote(&mut room, &ann, Unban, ben.account()).unwrap(),
        resolve(&mut room, &ann, Unban, ben.account()).unwrap(),
    ];
    let of = |commit| about(&room.objects, room.conversation, commit);
    for (commits, direction) in [(ban, Ban), (unban, Unban)] {
        for commit in commits {
            let about = of(commit).unwrap();
            assert_eq!(
                (about.direction, about.subject),
                (direction, ben.account().into())
            );
        }
    }
    assert_eq!(of(said), None);
    assert_eq!(of(room.conversation.into()), None);
    assert_eq!(of(ObjectId([9; 20])), None);
}

#[test]
fn in_a_conversation_of_two_the_one_who_made_it_is_the_admin() {
    let (alice, bob) = (Device::load("alice"), Device::load("bob"));
    let mut room = Room::create(&alice, ConversationMode::OneToOne, Some(bob.account()));
    room.write(|r, now| r.join(&bob.writer(), now)).unwrap();
    assert_eq!(
        vote(&mut room, &bob, Ban, alice.account()),
        Err(WriteError::NotAnAdmin)
    );
    vote(&mut room, &alice, Ban, bob.account()).unwrap();
    resolve(&mut room, &alice, Ban, bob.account()).unwrap();
    assert_eq!(role(&room, &bob), Some(Role::Banned));
    room.valid().unwrap();
}
