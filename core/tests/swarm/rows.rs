//! Pairs of honest things done at the same time, out of sight of each other, which split groups
//! elsewhere; and how three members meet afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub
)]

use crate::swarm::{Device, Room};
use starling_core::swarm::members::{Profile, Role};
use starling_core::swarm::message::Message;
use starling_core::swarm::path::{Direction, Standing, Target, TreePath};

/// Ann (admin, with her second device Dan), Ben and Carol are there throughout. Alice is whom it
/// is about; Dave is her second device. Bob and Cat are others.
pub struct Cast {
    pub ann: Device,
    pub dan: Device,
    pub ben: Device,
    pub carol: Device,
    pub alice: Device,
    pub dave: Device,
    pub bob: Device,
    pub cat: Device,
}

pub fn cast() -> Cast {
    let load = Device::load;
    Cast {
        ann: load("ann"),
        dan: load("dan"),
        ben: load("ben"),
        carol: load("carol"),
        alice: load("alice"),
        dave: load("dave"),
        bob: load("bob"),
        cat: load("cat"),
    }
}

pub type Side = dyn Fn(&Cast, &mut Room);

/// Two things done at the same time, and what holds when everybody has met.
pub struct Row {
    pub what: &'static str,
    /// What was there before, beyond the three; gives the commit from which on all is by the rules.
    pub before: &'static Side,
    pub left: &'static Side,
    pub right: &'static Side,
    pub then: &'static dyn Fn(&Cast, &Room),
}

/// The copies of Ann, Ben and Carol when they meet: Ann was there when the left side happened, Ben
/// when the right one did, and Carol wrote something. `ahead`: by how many of 3 s the left one's
/// clock is ahead of the others'.
pub fn apart(c: &Cast, row: &Row, start: &Room, ahead: u64) -> [Room; 3] {
    let mut rooms = [start.clone(), start.clone(), start.clone()];
    let [left, right, bystander] = &mut rooms;
    left.now += ahead;
    right.now += 3 - ahead;
    bystander.now += 1;
    (row.left)(c, left);
    (row.right)(c, right);
    bystander.say(&c.carol, "meanwhile");
    rooms
}

pub fn add(by: &Device, who: &Device, room: &mut Room) {
    room.write(|r, now| r.add(&by.writer(), who.account(), now))
        .unwrap();
}

pub fn join(who: &Device, room: &mut Room) {
    room.write(|r, now| r.join(&who.writer(), now)).unwrap();
}

pub fn leave(who: &Device, room: &mut Room) {
    room.write(|r, now| r.leave(&who.writer(), now)).unwrap();
}

fn vote(by: &Device, who: &Device, room: &mut Room) {
    room.write(|r, now| r.vote(&by.writer(), Direction::Ban, who.account(), now))
        .unwrap();
}

fn resolve(by: &Device, who: &Device, room: &mut Room) {
    room.write(|r, now| r.resolve(&by.writer(), Direction::Ban, who.account(), now))
        .unwrap();
}

pub fn ban(by: &Device, who: &Device, room: &mut Room) {
    vote(by, who, room);
    resolve(by, who, room);
}

/// The same key in another text: what a renewal looks like.
pub fn renew(who: &Device, path: TreePath, room: &mut Room) {
    let pem = match path {
        TreePath::Live(Target::Device(_)) => who.writer().device_pem,
        _ => who.writer().account_pem,
    };
    let mut text = b"renewed\n".to_vec();
    text.extend(pem);
    let message = Message::text("renewed", None).to_text();
    room.forge(who, &message, &[(path, Some(&text))]);
}

pub fn profile(by: &Device, change: Profile, room: &mut Room) {
    room.write(|r, now| r.update_profile(&by.writer(), change, now))
        .unwrap();
}

pub fn title(text: &str) -> Profile {
    Profile {
        title: Some(text.into()),
        ..Profile::default()
    }
}

fn description(text: &str) -> Profile {
    Profile {
        description: Some(text.into()),
        ..Profile::default()
    }
}

fn avatar(text: &str) -> Profile {
    Profile {
        avatar: Some(text.into()),
        ..Profile::default()
    }
}

pub fn role(room: &Room, who: &Device) -> Option<Role> {
    room.open().role(who.account()).unwrap()
}

fn with_alice(c: &Cast, room: &mut Room) {
    room.invite(&c.ann, &c.alice);
}

fn alice_invited(c: &Cast, room: &mut Room) {
    add(&c.ben, &c.alice, room);
}

fn nothing(_: &Cast, _: &mut Room) {}

pub fn alice_is_banned(c: &Cast, room: &Room) {
    assert_eq!(role(room, &c.alice), Some(Role::Banned));
    for standing in [Standing::Admin, Standing::Member, Standing::Invited] {
        let live = TreePath::Live(Target::Account(standing, c.alice.account()));
        assert!(!room.has(live), "{live}");
    }
}

pub const ROWS: &[Row] = &[
    Row {
        what: "X is invited / Y is invited",
        before: &nothing,
        left: &|c, r| add(&c.ann, &c.alice, r),
        right: &|c, r| add(&c.ben, &c.bob, r),
        then: &|c, r| {
            assert_eq!(role(r, &c.alice), Some(Role::Invited));
            assert_eq!(role(r, &c.bob), Some(Role::Invited));
        },
    },
    Row {
        what: "X is invited / X is invited",
        before: &nothing,
        left: &|c, r| add(&c.ann, &c.alice, r),
        right: &|c, r| add(&c.ben, &c.alice, r),
        then: &|c, r| assert_eq!(role(r, &c.alice), Some(Role::Invited)),
    },
    Row {
        what: "X joins / Y is invited",
        before: &alice_invited,
        left: &|c, r| join(&c.alice, r),
        right: &|c, r| add(&c.ben, &c.bob, r),
        then: &|c, r| {
            assert_eq!(role(r, &c.alice), Some(Role::Member));
            assert_eq!(role(r, &c.bob), Some(Role::Invited));
        },
    },
    Row {
        what: "joins and invitations, crossed",
        before: &|c, r| {
            add(&c.ben, &c.alice, r);
            add(&c.ben, &c.bob, r);
        },
        left: &|c, r| {
            join(&c.alice, r);
            add(&c.alice, &c.cat, r);
        },
        right: &|c, r| {
            join(&c.bob, r);
            add(&c.bob, &c.cat, r);
            join(&c.cat, r);
        },
        then: &|c, r| {
            for who in [&c.alice, &c.bob, &c.cat] {
                assert_eq!(role(r, who), Some(Role::Member), "{}", who.name);
            }
        },
    },
    Row {
        what: "X is banned / X writes with a new device",
        before: &with_alice,
        left: &|c, r| ban(&c.ann, &c.alice, r),
        right: &|c, r| {
            r.say(&c.dave, "from my other device");
            r.say(&c.ben, "I see");
        },
        then: &|c, r| {
            alice_is_banned(c, r);
            assert!(r.has(TreePath::device(c.dave.id())));
        },
    },
    Row {
        what: "X is banned / X is banned by another admin's device",
        before: &with_alice,
        left: &|c, r| ban(&c.ann, &c.alice, r),
        right: &|c, r| ban(&c.dan, &c.alice, r),
        then: &alice_is_banned,
    },
    Row {
        what: "X, who is invited, is banned / likewise",
        before: &alice_invited,
        left: &|c, r| ban(&c.ann, &c.alice, r),
        right: &|c, r| ban(&c.dan, &c.alice, r),
        then: &alice_is_banned,
    },
    Row {
        what: "X is banned / a vote more comes late",
        before: &|c, r| {
            with_alice(c, r);
            for admin in [&c.ben, &c.carol] {
                r.with_admin(&c.ann, admin.account());
            }
            vote(&c.ann, &c.alice, r);
            vote(&c.ben, &c.alice, r);
        },
        left: &|c, r| resolve(&c.ann, &c.alice, r),
        right: &|c, r| vote(&c.carol, &c.alice, r),
        then: &|c, r| {
            alice_is_banned(c, r);
            // The late vote stays behind, and is no open one.
            assert_eq!(r.open().votes().unwrap().len(), 1);
            assert_eq!(r.open().ballots().unwrap(), []);
        },
    },
    Row {
        what: "X is banned by one of three admins / by another",
        before: &|c, r| {
            with_alice(c, r);
            for admin in [&c.ben, &c.carol] {
                r.with_admin(&c.ann, admin.account());
            }
            vote(&c.ann, &c.alice, r);
            vote(&c.ben, &c.alice, r);
        },
        left: &|c, r| resolve(&c.ann, &c.alice, r),
        right: &|c, r| resolve(&c.ben, &c.alice, r),
        then: &|c, r| {
            alice_is_banned(c, r);
            assert_eq!(r.open().votes().unwrap(), []);
        },
    },
    Row {
        what: "X is banned / X leaves",
        before: &with_alice,
        left: &|c, r| ban(&c.ann, &c.alice, r),
        right: &|c, r| {
            leave(&c.alice, r);
            r.say(&c.ben, "bye");
        },
        then: &alice_is_banned,
    },
    Row {
        what: "X, who is invited, is banned / X joins through somebody else",
        before: &alice_invited,
        left: &|c, r| ban(&c.ann, &c.alice, r),
        right: &|c, r| {
            join(&c.alice, r);
            r.say(&c.alice, "in!");
        },
        then: &alice_is_banned,
    },
    Row {
        what: "X joins and Y is invited / X joins with another device",
        before: &alice_invited,
        left: &|c, r| {
            join(&c.alice, r);
            add(&c.ann, &c.bob, r);
        },
        right: &|c, r| join(&c.dave, r),
        then: &|c, r| {
            assert_eq!(role(r, &c.alice), Some(Role::Member));
            assert_eq!(role(r, &c.bob), Some(Role::Invited));
            for device in [&c.alice, &c.dave] {
                assert!(r.has(TreePath::device(device.id())));
            }
        },
    },
    Row {
        what: "X leaves / a certificate of X's other device is renewed",
        before: &|c, r| {
            with_alice(c, r);
            r.say(&c.dave, "here too");
        },
        left: &|c, r| leave(&c.alice, r),
        right: &|c, r| renew(&c.dave, TreePath::device(c.dave.id()), r),
        then: &|c, r| {
            assert_eq!(role(r, &c.alice), None);
            assert!(!r.has(TreePath::device(c.dave.id())));
        },
    },
    Row {
        what: "X is banned / X renews the account's certificate",
        before: &with_alice,
        left: &|c, r| ban(&c.ann, &c.alice, r),
        right: &|c, r| renew(&c.alice, TreePath::member(c.alice.account()), r),
        then: &alice_is_banned,
    },
    Row {
        what: "the title changes / the picture changes, a description between them",
        before: &|c, r| {
            profile(&c.ann, title("Old"), r);
            profile(&c.ann, description("between"), r);
            profile(&c.ann, avatar("AAAA"), r);
        },
        left: &|c, r| profile(&c.ann, title("New"), r),
        right: &|c, r| profile(&c.dan, avatar("BBBB"), r),
        then: &|_, r| {
            // The whole of one side.
            let p = r.open().profile().unwrap();
            let is = |t, a| (p.title.as_deref(), p.avatar.as_deref()) == (Some(t), Some(a));
            assert!(is("New", "AAAA") || is("Old", "BBBB"), "{p:?}");
            assert_eq!(p.description.as_deref(), Some("between"));
        },
    },
    Row {
        what: "the title changes / the description right below it changes",
        before: &|c, r| {
            profile(&c.ann, title("Old"), r);
            profile(&c.ann, description("old"), r);
        },
        left: &|c, r| profile(&c.ann, title("New"), r),
        right: &|c, r| profile(&c.dan, description("new"), r),
        then: &|_, r| {
            let p = r.open().profile().unwrap();
            let is = |t, d| (p.title.as_deref(), p.description.as_deref()) == (Some(t), Some(d));
            assert!(is("New", "old") || is("Old", "new"), "{p:?}");
        },
    },
    Row {
        what: "a profile is made / another one is made",
        before: &nothing,
        left: &|c, r| profile(&c.ann, title("One"), r),
        right: &|c, r| profile(&c.dan, title("Two"), r),
        then: &|_, r| {
            let title = r.open().profile().unwrap().title.unwrap();
            assert!(["One", "Two"].contains(&title.as_str()), "{title}");
        },
    },
    Row {
        what: "a device of X is banned / it writes",
        before: &|c, r| {
            with_alice(c, r);
            r.say(&c.dave, "here too");
        },
        left: &|c, r| {
            let device = c.dave.id();
            r.write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, device, now))
                .unwrap();
            r.write(|r, now| r.resolve(&c.ann.writer(), Direction::Ban, device, now))
                .unwrap();
        },
        right: &|c, r| renew(&c.dave, TreePath::device(c.dave.id()), r),
        then: &|c, r| {
            assert_eq!(role(r, &c.alice), Some(Role::Member));
            assert!(r.has(TreePath::Banned(Target::Device(c.dave.id()))));
            assert!(!r.has(TreePath::device(c.dave.id())));
        },
    },
    Row {
        what: "two invite X, who joins through the one / the other",
        before: &nothing,
        left: &|c, r| {
            add(&c.ann, &c.alice, r);
            join(&c.alice, r);
        },
        right: &|c, r| add(&c.ben, &c.alice, r),
        then: &|c, r| {
            assert_eq!(role(r, &c.alice), Some(Role::Member));
            // And when she leaves, she is gone.
            let mut later = r.clone();
            leave(&c.alice, &mut later);
            later.valid().unwrap();
            assert_eq!(role(&later, &c.alice), None);
        },
    },
];

/// All orders in which three can take turns.
pub const TURNS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

/// Ann, Ben and Carol pull from each other, in turns, until nothing changes. `crossed`: each sees
/// the others as they were at the beginning of the round, as when all talk at once.
pub fn meet(c: &Cast, rooms: &mut [Room; 3], turns: [usize; 3], crossed: bool) {
    let who = [&c.ann, &c.ben, &c.carol];
    for _ in 0..20 {
        let before = rooms.clone();
        for me in turns {
            for other in turns.into_iter().filter(|o| *o != me) {
                let theirs = if crossed {
                    before[other].clone()
                } else {
                    rooms[other].clone()
                };
                rooms[me].pull(who[me], &theirs).unwrap();
            }
        }
        if (0..3).all(|n| rooms[n].head == before[n].head) {
            return;
        }
    }
    panic!("they never agree");
}
