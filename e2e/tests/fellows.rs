//! Members of one group who are not each other's contacts: who lets whom in, and how messages pass while the one who
//! invited them all is away.

use starling_e2e::peer::{agree, wait_same};
use starling_e2e::{Lab, Peer, jami, needs, wait};
use std::time::{Duration, Instant};

/// Alice invited Bob, Carol and Dave into a group. None of the three knows another one.
struct Fellows {
    alice: Peer,
    bob: Peer,
    carol: Peer,
    dave: Peer,
    group: String,
    // Last: everything above runs in it.
    _lab: Lab,
}

/// Alice and Carol have a Starling, Bob and Dave a daemon.
fn fellows() -> Fellows {
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut alice = Peer::starling(&mut lab, "alice", &boot);
    let mut bob = Peer::jami(&mut lab, "bob", &boot);
    let mut carol = Peer::starling(&mut lab, "carol", &boot);
    let mut dave = Peer::jami(&mut lab, "dave", &boot);
    let group = alice.create("Fellows");
    let mut others = [&mut bob, &mut carol, &mut dave];
    others.iter_mut().for_each(|other| alice.befriend(other));
    alice.gather(&group, &mut others);
    let mut fellows = Fellows {
        alice,
        bob,
        carol,
        dave,
        group: group.clone(),
        _lab: lab,
    };
    wait_same(&fellows.all(), &group);
    fellows
}

impl Fellows {
    fn all(&mut self) -> [&mut Peer; 4] {
        [
            &mut self.alice,
            &mut self.bob,
            &mut self.carol,
            &mut self.dave,
        ]
    }
}

/// What a daemon did with somebody's connection requests: how many it took, how many it passed over.
fn requests(daemon: &mut Peer, from: &Peer) -> (usize, usize) {
    let log = daemon.as_jami().log();
    let count = |what: &str| {
        let line = format!("{what} {}", from.id);
        log.lines().filter(|l| l.contains(&line)).count()
    };
    (
        count("Accepting ICE request from"),
        count("Discarding message from unauthorized peer"),
    )
}

/// One writes, the others read; says how long it took until all had it.
fn pass(from: &mut Peer, to: &mut [&mut Peer], group: &str, text: &str) -> Duration {
    let start = Instant::now();
    from.send(group, text);
    for who in to.iter_mut() {
        who.wait_text(group, text);
    }
    let took = start.elapsed();
    println!("{text:?} by {} was there after {took:?}", from.host.name);
    took
}

#[test]
fn a_starling_carries_what_daemons_write_who_are_only_fellow_members() {
    needs!(jami::missing());
    let mut story = fellows();
    let Fellows {
        alice,
        bob,
        carol,
        dave,
        group,
        ..
    } = &mut story;
    // With her who knows all three.
    pass(bob, &mut [alice, carol, dave], group, "hello");
    alice.down();
    // It is Bob's and Dave's daemon that has to ask Carol: they pass over her requests.
    pass(bob, &mut [carol, dave], group, "she is gone");
    pass(dave, &mut [carol, bob], group, "I know");
    pass(carol, &mut [bob, dave], group, "I am still here");
    for daemon in [&mut *bob, &mut *dave] {
        let (taken, passed_over) = requests(daemon, carol);
        println!(
            "{} took {taken} of Carol's requests and passed over {passed_over}",
            daemon.host.name
        );
        assert_eq!(taken, 0, "a daemon lets in contacts only");
    }
    // The two daemons alone do not find together.
    carol.down();
    bob.send(group, "Dave?");
    wait::until("one daemon to ask the other", || {
        (requests(bob, dave).1 + requests(dave, bob).1 > 0).then_some(())
    });
    assert_eq!(
        (requests(bob, dave).0, requests(dave, bob).0),
        (0, 0),
        "daemons let in contacts only"
    );
    assert!(!dave.texts(group).contains(&"Dave?".to_owned()));
    // Whoever both of them know carries it.
    alice.up();
    dave.wait_text(group, "Dave?");
    carol.up();
    let group = group.clone();
    agree(&mut story.all(), &group);
}

/// Nobody is connected with anybody, and whoever knows both is away. A daemon that finds nobody it may sit there
/// without asking again; it asks when its own person writes.
#[test]
fn a_daemon_that_writes_finds_a_starling_that_is_only_a_fellow_member() {
    needs!(jami::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut alice = Peer::starling(&mut lab, "alice", &boot);
    let mut bob = Peer::jami(&mut lab, "bob", &boot);
    let mut carol = Peer::starling(&mut lab, "carol", &boot);
    let group = alice.create("Fellows");
    let mut others = [&mut bob, &mut carol];
    others.iter_mut().for_each(|other| alice.befriend(other));
    alice.gather(&group, &mut others);
    wait_same(&[&mut alice, &mut bob, &mut carol], &group);
    alice.down();

    // The daemon writes while the Starling is away: it asks, and is answered when the Starling comes.
    carol.down();
    bob.down();
    bob.up();
    bob.send(&group, "Carol?");
    carol.up();
    let start = Instant::now();
    carol.wait_text(&group, "Carol?");
    println!(
        "the Starling came last, and had it after {:?}",
        start.elapsed()
    );
    pass(&mut carol, &mut [&mut bob], &group, "yes, Bob");

    // The Starling writes while the daemon is away.
    carol.down();
    bob.down();
    carol.up();
    carol.send(&group, "Bob?");
    bob.up();
    let start = Instant::now();
    bob.send(&group, "yes, Carol");
    bob.wait_text(&group, "Bob?");
    carol.wait_text(&group, "yes, Carol");
    println!(
        "the daemon came last, and both had both after {:?}",
        start.elapsed()
    );
    let (taken, passed_over) = requests(&mut bob, &carol);
    println!("the daemon took {taken} of Carol's requests and passed over {passed_over}");
    assert_eq!(taken, 0, "a daemon lets in contacts only");

    alice.up();
    agree(&mut [&mut alice, &mut bob, &mut carol], &group);
}
