//! What splits groups elsewhere: each pair of honest things done at the same time, out of sight
//! of each other, ends in one state at three members, in whatever order they meet.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

#[path = "swarm/rows.rs"]
mod rows;
mod swarm;

use rows::{
    Cast, ROWS, Row, TURNS, add, alice_is_banned, apart, ban, cast, join, leave, meet, profile,
    renew, role, title,
};
use starling_core::id::ObjectId;
use starling_core::swarm::ancestry::{WalkError, Walker};
use starling_core::swarm::members::Role;
use starling_core::swarm::merge::{self, MergeFault, Relation};
use starling_core::swarm::message::is_merge;
use starling_core::swarm::path::TreePath;
use starling_core::swarm::tree::{Change, Trees};
use starling_core::swarm::validate::Validation;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use swarm::{Device, Room};

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

/// One row: both sides, whoever begins, whoever's clock is ahead.
fn ends_in_one_state(c: &Cast, row: &Row) -> BTreeSet<bool> {
    let mut left_is_greater = BTreeSet::new();
    let mut start = Room::group(&[&c.ann, &c.ben, &c.carol]);
    (row.before)(c, &mut start);
    let by_the_rules_from = start.head;
    for clock in [0, 3] {
        let apart = apart(c, row, &start, clock);
        let [left, right, _] = &apart;
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
                let mut rooms = apart.clone();
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
        let states = 1 + usize::from(both_wrote(&start, left, right));
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

/// What a daemon that is at `at` shows of another head: a cut of the order, newest first.
fn shown_by_a_daemon(room: &Room, at: ObjectId) -> Vec<ObjectId> {
    let mut walker = Walker::new(&room.objects);
    let order = walker.order(room.head, &|_| false, 1_000).unwrap();
    order.into_iter().take_while(|id| *id != at).collect()
}

#[test]
fn a_daemon_is_shown_what_was_written_before_its_own_head() {
    let (ann, ben) = (Device::load("ann"), Device::load("ben"));
    let start = Room::group(&[&ann, &ben]);
    // Ann writes without a network, Ben before, in the same second, and later.
    for (ahead, alone, one_more) in [
        (-1, true, false),
        (0, true, true),
        (5, true, true),
        (5, false, false),
    ] {
        let (mut a, mut b) = (start.clone(), start.clone());
        a.alone = alone;
        b.now = start.now.strict_add_signed(ahead);
        let words = [a.say(&ann, "one"), a.say(&ann, "two")];
        let there = b.say(&ben, "meanwhile");
        let before = a.head;
        a.pull(&ann, &b).unwrap();
        a.valid().unwrap();
        let parents = a.commit(a.head).parents;
        assert_eq!(parents[0], before);
        assert_eq!(parents[1] != there, one_more, "{ahead}");
        assert_eq!(merges_are_plain(&a), 1 + usize::from(one_more));
        let shown = shown_by_a_daemon(&a, there);
        let all = words.iter().all(|id| shown.contains(id));
        assert_eq!(all, alone, "{ahead}: {shown:?}");
        // The other one takes it in, and it is the end of it.
        b.pull(&ben, &a).unwrap();
        assert_eq!(b.head, a.head);
    }
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
        let there = starling_core::swarm::write::relation(&left.objects, None, ours, theirs);
        let back = starling_core::swarm::write::relation(&left.objects, None, theirs, ours);
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
fn heads_that_are_far_apart_are_compared_in_no_more_steps_than_allowed() {
    let c = cast();
    let mut room = Room::group(&[&c.ann, &c.ben]);
    let root = room.head;
    let all: Vec<ObjectId> = (0..300).map(|_| room.say(&c.ann, "on and on")).collect();
    let (near, head) = (all[280], all[299]);
    let compared = |ours, theirs| {
        let mut walker = Walker::new(&room.objects);
        merge::relation_within(&mut walker, 100, ours, theirs)
    };
    assert_eq!(compared(near, head).unwrap(), Relation::FastForward);
    assert_eq!(compared(head, near).unwrap(), Relation::UpToDate);
    assert_eq!(compared(head, head).unwrap(), Relation::UpToDate);
    for (ours, theirs) in [(root, head), (head, root)] {
        let tangled = MergeFault::Walk(WalkError::TooTangled);
        assert_eq!(compared(ours, theirs), Err(tangled));
    }
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
