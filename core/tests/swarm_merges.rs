//! What splits groups elsewhere: each pair of honest things done at the same time, out of sight
//! of each other, ends in one state at three members, in whatever order they meet.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod swarm;

use starling_core::id::ObjectId;
use starling_core::swarm::members::{Profile, Role};
use starling_core::swarm::merge::Relation;
use starling_core::swarm::message::{Message, is_merge};
use starling_core::swarm::path::{Direction, Standing, Target, TreePath};
use starling_core::swarm::tree::{Change, Trees};
use starling_core::swarm::validate::Validation;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use swarm::{Device, Room};

/// Ann (admin, with her second device Dan), Ben and Carol are there throughout. Alice is whom it
/// is about; Dave is her second device. Bob and Cat are others.
struct Cast {
    ann: Device,
    dan: Device,
    ben: Device,
    carol: Device,
    alice: Device,
    dave: Device,
    bob: Device,
    cat: Device,
}

fn cast() -> Cast {
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

type Side = dyn Fn(&Cast, &mut Room);

/// Two things done at the same time, and what holds when everybody has met.
struct Row {
    what: &'static str,
    /// What was there before, beyond the three; gives the commit from which on all is by the rules.
    before: &'static Side,
    left: &'static Side,
    right: &'static Side,
    then: &'static dyn Fn(&Cast, &Room),
}

fn add(by: &Device, who: &Device, room: &mut Room) {
    room.write(|r, now| r.add(&by.writer(), who.account(), now))
        .unwrap();
}

fn join(who: &Device, room: &mut Room) {
    room.write(|r, now| r.join(&who.writer(), now)).unwrap();
}

fn leave(who: &Device, room: &mut Room) {
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

fn ban(by: &Device, who: &Device, room: &mut Room) {
    vote(by, who, room);
    resolve(by, who, room);
}

/// The same key in another text: what a renewal looks like.
fn renew(who: &Device, path: TreePath, room: &mut Room) {
    let pem = match path {
        TreePath::Live(Target::Device(_)) => who.writer().device_pem,
        _ => who.writer().account_pem,
    };
    let mut text = b"renewed\n".to_vec();
    text.extend(pem);
    let message = Message::text("renewed", None).to_text();
    room.forge(who, &message, &[(path, Some(&text))]);
}

fn profile(by: &Device, change: Profile, room: &mut Room) {
    room.write(|r, now| r.update_profile(&by.writer(), change, now))
        .unwrap();
}

fn title(text: &str) -> Profile {
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

fn role(room: &Room, who: &Device) -> Option<Role> {
    room.open().role(who.account()).unwrap()
}

fn with_alice(c: &Cast, room: &mut Room) {
    room.invite(&c.ann, &c.alice);
}

fn alice_invited(c: &Cast, room: &mut Room) {
    add(&c.ben, &c.alice, room);
}

fn nothing(_: &Cast, _: &mut Room) {}

fn alice_is_banned(c: &Cast, room: &Room) {
    assert_eq!(role(room, &c.alice), Some(Role::Banned));
    for standing in [Standing::Admin, Standing::Member, Standing::Invited] {
        let live = TreePath::Live(Target::Account(standing, c.alice.account()));
        assert!(!room.has(live), "{live}");
    }
}

const ROWS: &[Row] = &[
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
                r.with_admin(&c.ann, admin);
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
                r.with_admin(&c.ann, admin);
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

/// Every merge of the history takes each file as it is on one of its sides (what the daemon asks
/// of merges), and its author is still there in it.
fn merges_are_plain(room: &Room) -> usize {
    let validation = Validation::new(&room.objects, room.conversation, None, room.head).unwrap();
    let mut merges = 0;
    for id in validation.commits() {
        let commit = room.commit(*id);
        if commit.parents.len() < 2 {
            continue;
        }
        merges += 1;
        assert_eq!(commit.parents.len(), 2);
        assert!(is_merge(&commit.message));
        let mut trees = Trees::new(&room.objects);
        let mut changed = |parent: ObjectId| -> BTreeSet<TreePath> {
            let tree = room.commit(parent).tree;
            let diff = trees.diff(Some(tree), Some(commit.tree)).unwrap();
            diff.iter().map(|c| c.path).collect()
        };
        let (first, second) = (changed(commit.parents[0]), changed(commit.parents[1]));
        assert!(
            first.is_disjoint(&second),
            "{:?}",
            first.intersection(&second).collect::<Vec<_>>()
        );
        assert!(
            trees
                .lookup(commit.tree, &TreePath::device(commit.device))
                .unwrap()
                .is_some()
        );
    }
    merges
}

/// All orders in which three can take turns.
const TURNS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

/// Ann, Ben and Carol pull from each other, in turns, until nothing changes. `crossed`: each sees
/// the others as they were at the beginning of the round, as when all talk at once.
fn meet(c: &Cast, rooms: &mut [Room; 3], turns: [usize; 3], crossed: bool) {
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

/// One row: both sides, whoever begins, whoever's clock is ahead.
fn ends_in_one_state(c: &Cast, row: &Row) -> BTreeSet<bool> {
    let mut left_is_greater = BTreeSet::new();
    let mut start = Room::group(&[&c.ann, &c.ben, &c.carol]);
    (row.before)(c, &mut start);
    let by_the_rules_from = start.head;
    for clock in [0, 3] {
        let mut left = start.clone();
        let mut right = start.clone();
        left.now += clock;
        right.now += 3 - clock;
        (row.left)(c, &mut left);
        (row.right)(c, &mut right);
        left.valid_since(by_the_rules_from).unwrap();
        right.valid_since(by_the_rules_from).unwrap();
        left_is_greater.insert(left.head > right.head);
        let mut trees = BTreeSet::new();
        for turns in TURNS {
            // All at once, it makes no difference who begins.
            for crossed in [false, true]
                .into_iter()
                .take(1 + usize::from(turns == TURNS[0]))
            {
                let mut bystander = start.clone();
                bystander.now += 1;
                bystander.say(&c.carol, "meanwhile");
                let mut rooms = [left.clone(), right.clone(), bystander];
                meet(c, &mut rooms, turns, crossed);
                let say = format!("{} {turns:?} {crossed} {clock}", row.what);
                for room in &rooms {
                    assert_eq!(room.head, rooms[0].head, "{say}");
                }
                let room = &rooms[0];
                room.valid_since(by_the_rules_from)
                    .unwrap_or_else(|e| panic!("{say}: {e}"));
                assert!(merges_are_plain(room) > 0, "{say}");
                trees.insert(room.tree());
                (row.then)(c, room);
                // And the group goes on.
                let mut room = room.clone();
                room.say(&c.carol, "so be it");
                room.valid_since(by_the_rules_from).unwrap();
            }
        }
        // Whoever merged first, the state is the same; of a file that both sides wrote it is either's.
        let states = 1 + usize::from(both_wrote(&start, &left, &right));
        assert!(
            trees.len() <= states,
            "{}: {} states",
            row.what,
            trees.len()
        );
    }
    left_is_greater
}

/// Whether there is a file of which both sides have another content.
fn both_wrote(start: &Room, left: &Room, right: &Room) -> bool {
    let changes = |room: &Room| {
        let mut trees = Trees::new(&room.objects);
        trees.diff(Some(start.tree()), Some(room.tree())).unwrap()
    };
    let theirs = changes(right);
    changes(left).iter().any(|ours| {
        let there = |t: &&Change| t.path == ours.path && t.new.is_some() && t.new != ours.new;
        ours.new.is_some() && theirs.iter().any(|t| there(&t))
    })
}

#[test]
fn every_pair_ends_in_one_state_for_everybody() {
    let c = &cast();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    // Whose head is greater decides some of them; both must happen.
    let left_is_greater: BTreeSet<bool> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = BTreeSet::new();
                    while let Some(row) = ROWS.get(next.fetch_add(1, Ordering::Relaxed)) {
                        seen.extend(ends_in_one_state(c, row));
                    }
                    seen
                })
            })
            .collect();
        let done = workers.into_iter().map(|w| w.join());
        done.flat_map(|seen| seen.expect("a row that does not hold"))
            .collect()
    });
    assert_eq!(left_is_greater.len(), 2);
}

#[test]
fn two_merges_of_the_same_are_alike_and_what_they_merge_is_not() {
    let c = cast();
    let start = Room::group(&[&c.ann, &c.ben]);
    let (mut left, mut right) = (start.clone(), start);
    left.say(&c.ann, "left");
    right.now += 5;
    right.say(&c.ben, "right");
    let before = [left.clone(), right.clone()];
    left.pull(&c.ann, &before[1]).unwrap();
    right.pull(&c.ben, &before[0]).unwrap();
    left.objects.take_in(&right.objects);
    let relation = |ours: ObjectId, theirs: ObjectId| {
        let there = starling_core::swarm::write::relation(&left.objects, ours, theirs);
        let back = starling_core::swarm::write::relation(&left.objects, theirs, ours);
        (there.unwrap(), back.unwrap())
    };
    let alike = (Relation::Alike, Relation::Alike);
    assert_eq!(relation(left.head, right.head), alike);
    let diverged = (Relation::Diverged, Relation::Diverged);
    assert_eq!(relation(before[0].head, before[1].head), diverged);
    let behind = (Relation::FastForward, Relation::UpToDate);
    assert_eq!(relation(before[0].head, right.head), behind);
}

#[test]
fn four_sides_meet_at_once() {
    // A ban, a leave, a join and two profiles, each out of sight of the others.
    let c = cast();
    let mut start = Room::group(&[&c.ann, &c.ben, &c.carol]);
    start.invite(&c.ann, &c.alice);
    start.say(&c.dave, "two devices");
    add(&c.ben, &c.bob, &mut start);
    for turns in TURNS {
        let mut rooms = [start.clone(), start.clone(), start.clone()];
        ban(&c.ann, &c.alice, &mut rooms[0]);
        profile(&c.ann, title("Ann's"), &mut rooms[0]);
        leave(&c.alice, &mut rooms[1]);
        join(&c.bob, &mut rooms[1]);
        renew(&c.dave, TreePath::device(c.dave.id()), &mut rooms[2]);
        profile(&c.dan, title("Dan's"), &mut rooms[2]);
        meet(&c, &mut rooms, turns, true);
        for room in &rooms {
            assert_eq!(room.head, rooms[0].head, "{turns:?}");
        }
        let room = &rooms[0];
        room.valid().unwrap();
        alice_is_banned(&c, room);
        assert_eq!(role(room, &c.bob), Some(Role::Member));
        merges_are_plain(room);
    }
}
