//! Groups so large that the routing tables choose who is linked with whom: Starlings and daemons, as many of both.
//! Daemons that do not know each other are linked with Starlings alone, which carry everything between them.

use starling_e2e::crowd::{Crowd, Kind, Passed};
use starling_e2e::{jami, needs};
use std::time::{Duration, Instant};

/// What one person writes is to be shown by all others within this: the machines share few processors.
const SOON: Duration = Duration::from_secs(15);

/// What was written at once is to have led everybody to one head within this.
const REST: Duration = Duration::from_secs(180);

/// A Starling and a daemon by turns.
fn pairs(n: usize) -> Vec<Kind> {
    [Kind::Starling, Kind::Daemon].repeat(n)
}

/// Tells how long messages took, of those that a program showed.
fn tell(what: &str, passed: &[Passed]) {
    let mut took: Vec<Duration> = passed.iter().filter_map(|p| p.took).collect();
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    let hidden = passed.len() - took.len();
    println!(
        "{what}: {:.1?} / {:.1?} / {:.1?} (median, of 95 in a hundred, longest); {hidden} not shown",
        at(50),
        at(95),
        at(100)
    );
}

/// These write one after the other.
fn in_turn(crowd: &mut Crowd, who: &[usize], what: &str) {
    let mut passed = Vec::new();
    for n in who {
        passed.extend(crowd.say(&[*n], what));
    }
    tell(what, &passed);
    for p in &passed {
        assert!(p.took.is_none_or(|took| took < SOON), "{what}: {p:?}");
    }
}

/// Waits until all have one head.
fn rest(crowd: &Crowd, what: &str) {
    let start = Instant::now();
    loop {
        let heads = crowd.heads();
        if heads.len() == 1 {
            break;
        }
        assert!(start.elapsed() < REST, "{what}: {heads:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    let merges = crowd.people[0].merges(&crowd.group);
    println!(
        "{what}: one head after {:.1?}, {merges} merges by now",
        start.elapsed()
    );
}

/// No daemon is linked with all others, and each with a Starling.
fn tables_choose(crowd: &Crowd) {
    let links = crowd.links();
    let (starlings, daemons) = (crowd.with(Kind::Starling), crowd.with(Kind::Daemon));
    for n in daemons {
        let of = &links[&n];
        assert!(of.len() + 1 < links.len(), "person{n} has all: {links:?}");
        assert!(
            starlings.iter().any(|s| of.contains(s)),
            "person{n} has no Starling: {links:?}"
        );
    }
}

fn story(n: usize) {
    let mut crowd = Crowd::meet(&pairs(n));
    crowd.come_in_at_once();
    crowd.wait_all_in();
    rest(&crowd, "all have come");
    tables_choose(&crowd);
    let all = crowd.there();
    in_turn(&mut crowd, &all, "in turn");
    // Each has what nobody else has, and every daemon merges it with what comes.
    let passed = crowd.say(&all, "at once");
    tell("at once", &passed);
    in_turn(&mut crowd, &[0, 1], "while they merge");
    rest(&crowd, "after all wrote at once");
    // One Starling holds the daemons together.
    let gone: Vec<usize> = crowd.with(Kind::Starling).split_off(1);
    crowd.go(&gone);
    let left = crowd.there();
    in_turn(&mut crowd, &left, "with one Starling");
    crowd.come(&gone);
    for n in &gone {
        let group = crowd.group.clone();
        for by in &left {
            let text = format!("with one Starling, by person{by}");
            crowd.people[*n].wait_text(&group, &text);
        }
    }
    in_turn(&mut crowd, &[gone[0], 1], "all again");
    rest(&crowd, "all again");
    tables_choose(&crowd);
    // What they have made of it can be cloned.
    let late = [Kind::Starling, Kind::Daemon].map(|kind| crowd.come_late(kind));
    in_turn(&mut crowd, &late, "two who came late");
    // Nothing is written while it is checked.
    rest(&crowd, "two who came late");
    for who in &crowd.people {
        who.check(&crowd.group);
    }
}

#[test]
fn ten_people_of_whom_not_all_are_linked() {
    needs!(jami::missing());
    story(5);
}

#[test]
#[ignore = "minutes of all processors"]
fn twenty_people_of_whom_not_all_are_linked() {
    needs!(jami::missing());
    story(10);
}
