//! Groups of Starlings and the Jami daemons of today, unmodified: every kind of change made by
//! every kind of peer, halves that meet again, and people who were away.

use starling_e2e::peer::{agree, say, wait_same};
use starling_e2e::{Host, Lab, Peer, jami, needs};

/// Five people in one place. Alice knows everybody; of the others nobody knows anybody.
struct Story {
    alice: Peer,
    bob: Peer,
    carol: Peer,
    dave: Peer,
    erin: Peer,
    boot: Host,
    // Last: everything above runs in it.
    lab: Lab,
}

/// Alice and Carol have a Starling; Bob, Dave and Erin a daemon.
fn five() -> Story {
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut story = Story {
        alice: Peer::starling(&mut lab, "alice", &boot),
        bob: Peer::jami(&mut lab, "bob", &boot),
        carol: Peer::starling(&mut lab, "carol", &boot),
        dave: Peer::jami(&mut lab, "dave", &boot),
        erin: Peer::jami(&mut lab, "erin", &boot),
        boot,
        lab,
    };
    let [alice, others @ ..] = &mut story.all();
    for other in others {
        alice.befriend(other);
    }
    story
}

impl Story {
    fn all(&mut self) -> [&mut Peer; 5] {
        [
            &mut self.alice,
            &mut self.bob,
            &mut self.carol,
            &mut self.dave,
            &mut self.erin,
        ]
    }

    /// Alice's group with everybody in it.
    fn group_of_all(&mut self) -> String {
        let [alice, others @ ..] = &mut self.all();
        let group = alice.create("All");
        alice.gather(&group, others);
        wait_same(&self.all(), &group);
        group
    }

    /// Everyone writes, and everyone reads it.
    fn round(&mut self, group: &str, what: &str) {
        say(&mut self.all(), group, what);
    }
}

#[test]
fn everyone_talks_to_everyone_in_a_group_of_five() {
    needs!(jami::missing());
    let mut story = five();
    let group = story.group_of_all();
    for i in 0..3 {
        story.round(&group, &format!("round {i}"));
    }
    agree(&mut story.all(), &group);
    assert_eq!(story.carol.texts(&group).len(), 15);
}

#[test]
fn a_starling_made_the_group_and_each_does_everything() {
    needs!(jami::missing());
    let mut story = five();
    let Story {
        alice,
        bob,
        carol,
        dave,
        erin,
        ..
    } = &mut story;
    let group = alice.create("Before");
    // Invited by the Starling that made it, by a daemon and by another Starling.
    alice.gather(&group, &mut [bob, carol]);
    bob.befriend(dave);
    bob.gather(&group, &mut [dave]);
    carol.befriend(erin);
    carol.gather(&group, &mut [erin]);
    wait_same(&[alice, bob, carol, dave, erin], &group);
    say(&mut [alice, bob, carol, dave, erin], &group, "all are here");
    alice.rename(&group, "After");
    for who in [&mut *bob, &mut *carol, &mut *dave, &mut *erin] {
        who.wait_title(&group, "After");
    }
    // Banned: a daemon and a Starling. The others go on. A daemon that is banned while its head is
    // another one merges the ban, may not write from then on, and so cannot merge its end.
    wait_same(&[alice, bob, carol, dave, erin], &group);
    for banned in [&mut *dave, &mut *carol] {
        alice.ban(&group, &banned.id);
    }
    for who in [&mut *alice, &mut *bob, &mut *erin] {
        who.wait_role(&group, &dave.id, "banned");
        who.wait_role(&group, &carol.id, "banned");
    }
    say(&mut [alice, bob, erin], &group, "without two");
    // Let back, they catch up.
    for back in [&mut *dave, &mut *carol] {
        alice.unban(&group, &back.id);
        alice.wait_role(&group, &back.id, "member");
    }
    for who in [&mut *dave, &mut *carol] {
        who.wait_text(&group, "without two: erin");
    }
    say(&mut [alice, bob, carol, dave, erin], &group, "all again");
    // A daemon leaves, then a Starling. One from which somebody is just fetching may be gone before
    // anybody has its last commit (see STATUS.md).
    wait_same(&[alice, bob, carol, dave, erin], &group);
    erin.leave(&group);
    for who in [&mut *alice, &mut *bob, &mut *carol, &mut *dave] {
        who.wait_gone(&group, &erin.id);
    }
    carol.leave(&group);
    for who in [&mut *alice, &mut *bob, &mut *dave] {
        who.wait_gone(&group, &carol.id);
    }
    say(&mut [alice, bob, dave], &group, "the rest");
    agree(&mut [alice, bob, dave], &group);
}

#[test]
fn a_daemon_made_the_group_and_bans_a_starling_and_a_daemon() {
    needs!(jami::missing());
    let mut story = five();
    let Story {
        alice,
        bob,
        carol,
        dave,
        ..
    } = &mut story;
    bob.befriend(carol);
    bob.befriend(dave);
    let group = bob.create("Bob's");
    bob.gather(&group, &mut [alice, carol, dave]);
    say(&mut [bob, alice, carol, dave], &group, "all are here");
    bob.rename(&group, "Bob's birds");
    for who in [&mut *alice, &mut *carol, &mut *dave] {
        who.wait_title(&group, "Bob's birds");
    }
    // See above: a daemon cannot merge the end of its ban.
    wait_same(&[bob, alice, carol, dave], &group);
    for banned in [&mut *carol, &mut *dave] {
        bob.ban(&group, &banned.id);
    }
    for who in [&mut *bob, &mut *alice] {
        who.wait_role(&group, &carol.id, "banned");
        who.wait_role(&group, &dave.id, "banned");
    }
    // What a banned Starling shows: its own ban, and nothing of what follows.
    carol.wait_role(&group, &carol.id.clone(), "banned");
    say(&mut [bob, alice], &group, "the two of us");
    for back in [&mut *carol, &mut *dave] {
        bob.unban(&group, &back.id);
        bob.wait_role(&group, &back.id, "member");
    }
    for who in [&mut *carol, &mut *dave] {
        who.wait_text(&group, "the two of us: alice");
    }
    say(&mut [bob, alice, carol, dave], &group, "all again");
    alice.leave(&group);
    for who in [&mut *bob, &mut *carol, &mut *dave] {
        who.wait_gone(&group, &alice.id);
    }
    say(&mut [bob, carol, dave], &group, "the rest");
    agree(&mut [bob, carol, dave], &group);
}

#[test]
fn two_halves_go_on_and_agree_when_they_meet() {
    needs!(jami::missing());
    let mut story = five();
    story.carol.befriend(&mut story.dave);
    story.carol.befriend(&mut story.erin);
    let group = story.group_of_all();
    // Somebody who will be away for all of it. Asked in while Alice has one device: a daemon fetches its first copy from
    // each device of who asks it in, and where the second of them comes in late, it replaces what it has and uses.
    let mut frank = Peer::jami(&mut story.lab, "frank", &story.boot);
    story.alice.befriend(&mut frank);
    story.alice.gather(&group, &mut [&mut frank]);
    // In the other half is an admin as well: Alice's second machine.
    let mut laptop = story.alice.second_device(&mut story.lab, "laptop");
    laptop.wait_ready(&group);
    let mut everyone: Vec<&mut Peer> = story.all().into_iter().collect();
    everyone.extend([&mut laptop, &mut frank]);
    say(&mut everyone, &group, "together");
    wait_same(&everyone, &group);
    frank.down();

    let Story {
        alice,
        bob,
        carol,
        dave,
        erin,
        boot: _,
        lab,
    } = &mut story;
    lab.split(&[&carol.host, &dave.host, &erin.host, &laptop.host]);
    // One half: the admin bans Dave, changes the title and invites somebody.
    alice.ban(&group, &dave.id);
    bob.wait_role(&group, &dave.id, "banned");
    alice.rename(&group, "One half");
    alice.invite(&group, &"1a".repeat(20));
    say(&mut [alice, bob], &group, "one half");
    bob.wait_title(&group, "One half");
    // The other half: Dave leaves, the admin changes the title there, and Carol invites somebody.
    dave.leave(&group);
    for who in [&mut *carol, &mut *erin, &mut laptop] {
        who.wait_gone(&group, &dave.id);
    }
    laptop.rename(&group, "The other half");
    carol.invite(&group, &"2b".repeat(20));
    say(&mut [carol, erin, &mut laptop], &group, "the other half");
    erin.wait_title(&group, "The other half");

    lab.join();
    let mut all = vec![alice, bob, carol, erin, &mut laptop];
    wait_same(&all, &group);
    // Who was away all the time hears of all of it at once: the halves, and how they met.
    frank.up();
    all.push(&mut frank);
    wait_same(&all, &group);
    say(&mut all, &group, "together again");
    agree(&mut all, &group);
    let members = all[0].members(&group);
    for invited in ["1a".repeat(20), "2b".repeat(20)] {
        assert_eq!(members.get(&invited).map(String::as_str), Some("invited"));
    }
    // Nothing is lost, and nothing doubled.
    let mut texts = all[0].texts(&group);
    let count = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!((texts.len(), count), (7 + 2 + 3 + 6, 7 + 2 + 3 + 6));
}

#[test]
fn who_was_away_throughout_catches_up_with_a_thousand_messages() {
    needs!(jami::missing());
    let mut story = five();
    let group = story.group_of_all();
    story.carol.down();
    story.dave.down();
    let alice = &mut story.alice;
    alice.send_all(&group, (0..1000).map(|i| format!("message {i}")));
    alice.rename(&group, "A thousand");
    for who in [alice, &mut story.bob, &mut story.erin] {
        who.wait_title(&group, "A thousand");
    }
    story.carol.up();
    story.dave.up();
    for who in [&mut story.carol, &mut story.dave] {
        who.wait_title(&group, "A thousand");
        who.wait_text(&group, "message 999");
    }
    story.round(&group, "all are here");
    agree(&mut story.all(), &group);
    let mut texts = story.dave.texts(&group);
    assert_eq!(texts.len(), 1005);
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 1005);
}
