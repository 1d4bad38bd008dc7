//! Groups with daemons in which two act as admins: two Starlings of the one admin, at the same moment;
//! and two people, which no client makes.

use serde_json::{Value, json};
use starling_e2e::peer::{self, agree, say, wait_same};
use starling_e2e::{Lab, Peer, jami, needs, starling};
use std::collections::BTreeSet;

/// How many commits ban somebody.
fn bans(peer: &Peer, group: &str, id: &str) -> usize {
    let messages = peer.messages(group);
    let of = |m: &&Value| m["type"] == "member" && m["action"] == "ban" && m["uri"] == id;
    messages.iter().filter(of).count()
}

/// With which devices an account wrote the texts of a group, as a Starling shows it.
fn devices(peer: &Peer, group: &str) -> BTreeSet<String> {
    let starling = peer.as_starling();
    let history = starling.rpc(
        "conversation.history",
        json!({"account": starling.account(), "conversation": group, "limit": 200}),
    );
    let messages = history["messages"].as_array().expect("messages");
    let texts = messages.iter().filter(|m| m["type"] == "text/plain");
    texts
        .filter(|m| m["author"] == peer.id.as_str())
        .map(|m| m["device"].as_str().expect("a device").to_owned())
        .collect()
}

/// Has a daemon write; whether it does is its own affair.
fn try_to_write(peer: &mut Peer, group: &str, text: &str) {
    let daemon = peer.as_jami();
    let account = daemon.account();
    daemon.call("sendMessage", json!([account, group, text, "", 0]));
}

#[test]
fn both_devices_of_the_admin_ban_a_daemon_at_the_same_moment() {
    needs!(jami::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut alice = Peer::starling(&mut lab, "alice", &boot);
    let mut bob = Peer::jami(&mut lab, "bob", &boot);
    let mut dave = Peer::jami(&mut lab, "dave", &boot);
    let mut erin = Peer::jami(&mut lab, "erin", &boot);
    let group = alice.create("Two hands");
    let mut others = [&mut bob, &mut dave, &mut erin];
    others.iter_mut().for_each(|other| alice.befriend(other));
    alice.gather(&group, &mut others);
    let mut laptop = alice.second_device(&mut lab, "laptop");
    laptop.wait_ready(&group);
    let (alice, laptop, bob, dave, erin) =
        (&mut alice, &mut laptop, &mut bob, &mut dave, &mut erin);
    say(
        &mut [alice, laptop, bob, dave, erin],
        &group,
        "all are here",
    );
    wait_same(&[alice, laptop, bob, dave, erin], &group);
    // One member, two devices, for everybody.
    for who in [&*alice, &*laptop] {
        assert_eq!(devices(who, &group).len(), 2, "{}", who.host.name);
    }
    for who in [&*alice, &*laptop, &*bob, &*erin] {
        let members = who.members(&group);
        assert_eq!(members.len(), 4, "{}", who.host.name);
        assert_eq!(members.get(&alice.id).map(String::as_str), Some("admin"));
        let files = who.files(&group);
        let devices = files.iter().filter(|f| f.starts_with("devices/"));
        assert_eq!(devices.count(), 5, "{}", who.host.name);
    }

    // Each bans Bob before it can have heard of the other's ban, or just after.
    std::thread::scope(|both| {
        both.spawn(|| alice.try_ban(&group, &bob.id));
        both.spawn(|| laptop.try_ban(&group, &bob.id));
    });
    for who in [&mut *alice, &mut *laptop, &mut *dave, &mut *erin] {
        who.wait_role(&group, &bob.id, "banned");
    }
    println!("Bob was banned by {} commits", bans(alice, &group, &bob.id));
    try_to_write(bob, &group, "am I still there?");
    say(&mut [alice, laptop, dave, erin], &group, "without Bob");
    agree(&mut [alice, laptop, dave, erin], &group);

    // For certain before it can have heard: the two are apart, each with a daemon.
    lab.split(&[&laptop.host, &erin.host]);
    for (admin, daemon) in [(&mut *alice, None), (&mut *laptop, Some(&mut *erin))] {
        admin.ban(&group, &dave.id);
        if let Some(daemon) = daemon {
            daemon.wait_role(&group, &dave.id, "banned");
        }
    }
    lab.join();
    wait_same(&[alice, laptop, erin], &group);
    assert_eq!(bans(erin, &group, &dave.id), 2);
    try_to_write(dave, &group, "and I?");
    say(&mut [alice, laptop, erin], &group, "the rest");
    agree(&mut [alice, laptop, erin], &group);
    for who in [&*alice, &*laptop, &*erin] {
        assert_eq!(who.texts(&group).len(), 5 + 4 + 3, "{}", who.host.name);
        for banned in [&*bob, &*dave] {
            let members = who.members(&group);
            assert_eq!(members.get(&banned.id).map(String::as_str), Some("banned"));
        }
    }
    // They heard of their ban, and of nothing after it.
    for banned in [bob, dave] {
        let id = banned.id.clone();
        banned.wait_role(&group, &id, "banned");
        let texts = banned.texts(&group);
        assert!(
            texts.iter().all(|t| !t.starts_with("the rest")),
            "{texts:?}"
        );
    }
}

/// What is refused by this bridge in a group: the first rule that it names.
fn refused(peer: &Peer, group: &str) -> String {
    let what = format!("{}: a history of {group} that is refused", peer.host.name);
    peer.as_starling().wait(&what, |kind, event| {
        (kind == "conversation.rejected" && event["conversation"] == group)
            .then(|| event["rule"].as_str().unwrap_or_default().to_owned())
    })
}

/// Waits until an admin's vote is in the newest commit: `ban/members`, for example, for a ban of a member.
fn wait_vote(peer: &Peer, group: &str, what: &str, target: &str, voter: &str) {
    let vote = format!("votes/{what}/{target}/{voter}");
    starling_e2e::wait::until(&format!("{}: the vote", peer.host.name), || {
        peer.files(group).contains(&vote).then_some(())
    });
}

#[test]
fn two_starlings_that_are_admins_ban_a_daemon_by_the_second_vote() {
    needs!(jami::missing());
    needs!(starling::planter_missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut alice = Peer::starling(&mut lab, "alice", &boot);
    let mut bob = Peer::starling(&mut lab, "bob", &boot);
    let mut dave = Peer::jami(&mut lab, "dave", &boot);
    let mut erin = Peer::jami(&mut lab, "erin", &boot);
    let group = alice.create("Two admins");
    let mut others = [&mut bob, &mut dave, &mut erin];
    others.iter_mut().for_each(|other| alice.befriend(other));
    alice.gather(&group, &mut others);
    say(
        &mut [&mut alice, &mut bob, &mut dave, &mut erin],
        &group,
        "all are here",
    );
    wait_same(&[&mut alice, &mut bob, &mut dave, &mut erin], &group);

    // The second admin is planted into the copies of Starlings, who would not take that from
    // anybody. Daemons fetch it.
    alice.down();
    bob.down();
    let bridges = [alice.as_starling(), bob.as_starling()];
    starling::plant(&["edit", &group, &bob.id], &bridges, &[]);
    alice.up();
    bob.up();
    let (alice, bob, dave, erin) = (&mut alice, &mut bob, &mut dave, &mut erin);
    say(&mut [alice, bob, dave, erin], &group, "two admins");
    for who in [&*alice, &*bob, &*dave, &*erin] {
        who.wait_role(&group, &bob.id, "admin");
    }

    // One of two is no majority: Dave stays.
    alice.ban(&group, &dave.id);
    for who in [&*alice, &*bob, &*dave, &*erin] {
        wait_vote(who, &group, "ban/members", &dave.id, &alice.id);
    }
    say(&mut [alice, bob, dave, erin], &group, "one vote");
    // A daemon that is banned while its head is another one cannot merge its ban.
    wait_same(&[alice, bob, dave, erin], &group);
    let ours = alice.as_starling();
    let refused = ours.try_rpc(
        "conversation.ban",
        json!({"account": ours.account(), "conversation": group, "id": dave.id}),
    );
    refused.expect_err("Alice has voted already");
    for who in [&*alice, &*bob, &*dave, &*erin] {
        assert_eq!(bans(who, &group, &dave.id), 0, "{}", who.host.name);
        assert_eq!(
            who.members(&group).get(&dave.id).expect("a member"),
            "member"
        );
    }

    // Two of two.
    bob.ban(&group, &dave.id);
    for who in [&*alice, &*bob, &*dave, &*erin] {
        who.wait_role(&group, &dave.id, "banned");
    }
    try_to_write(dave, &group, "and I?");
    say(&mut [alice, bob, erin], &group, "without Dave");
    wait_same(&[alice, bob, erin], &group);
    for who in [&*alice, &*bob, &*erin] {
        assert_eq!(bans(who, &group, &dave.id), 1, "{}", who.host.name);
        // Those of the one who made Bob an admin, who says something with it.
        assert_eq!(who.texts(&group).len(), 4 + 1 + 1 + 4 + 4 + 3);
        peer::fsck(&who.repository(&group));
    }
    peer::silent(erin.as_jami());
    // It heard of its ban, and of nothing after it.
    let texts = dave.texts(&group);
    assert!(
        texts.iter().all(|t| !t.starts_with("without Dave")),
        "{texts:?}"
    );
}

/// Two Starlings and a daemon decide, each of them first, second and about whom: a member, and one of themselves.
#[test]
fn two_starlings_and_a_daemon_that_are_admins_vote_together_and_against_each_other() {
    needs!(jami::missing());
    needs!(starling::planter_missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let (mut starlings, mut daemons) =
        Peer::two_and_two(&mut lab, ["alice", "bob"], ["erin", "dave"], &boot);
    let ([alice, bob], [erin, dave]) = (&mut starlings, &mut daemons);
    for other in [&mut *bob, &mut *erin, &mut *dave] {
        alice.befriend(other);
    }
    erin.befriend(bob);
    let group = alice.create("Three admins");
    alice.gather(&group, &mut [bob, erin, dave]);
    say(&mut [alice, bob, erin, dave], &group, "all are here");
    wait_same(&[alice, bob, erin, dave], &group);
    alice.down();
    bob.down();
    for admin in [&bob.id, &erin.id] {
        let bridges = [alice.as_starling(), bob.as_starling()];
        starling::plant(&["edit", &group, admin], &bridges, &[]);
    }
    alice.up();
    bob.up();
    say(&mut [alice, bob, erin, dave], &group, "three admins");
    for who in [&*alice, &*bob, &*erin, &*dave] {
        who.wait_role(&group, &bob.id, "admin");
        who.wait_role(&group, &erin.id, "admin");
    }
    wait_same(&[alice, bob, erin, dave], &group);

    // A Starling votes first, then a daemon: two of three.
    alice.ban(&group, &dave.id);
    for who in [&*alice, &*bob, &*erin, &*dave] {
        wait_vote(who, &group, "ban/members", &dave.id, &alice.id);
        assert_eq!(bans(who, &group, &dave.id), 0, "{}", who.host.name);
    }
    wait_same(&[alice, bob, erin, dave], &group);
    erin.ban(&group, &dave.id);
    for who in [&*alice, &*bob, &*erin, &*dave] {
        who.wait_role(&group, &dave.id, "banned");
    }
    wait_same(&[alice, bob, erin], &group);

    // A daemon first, then a Starling: he is back.
    erin.unban(&group, &dave.id);
    for who in [&*alice, &*bob, &*erin] {
        wait_vote(who, &group, "unban/members", &dave.id, &erin.id);
        who.wait_role(&group, &dave.id, "banned");
    }
    wait_same(&[alice, bob, erin], &group);
    bob.unban(&group, &dave.id);
    for who in [&*alice, &*bob, &*erin] {
        who.wait_role(&group, &dave.id, "member");
    }
    say(&mut [alice, bob, erin], &group, "Dave is back");
    wait_same(&[alice, bob, erin], &group);

    // Against one of themselves.
    alice.ban(&group, &erin.id);
    for who in [&*alice, &*bob, &*erin] {
        wait_vote(who, &group, "ban/admins", &erin.id, &alice.id);
        who.wait_role(&group, &erin.id, "admin");
    }
    wait_same(&[alice, bob, erin], &group);
    bob.ban(&group, &erin.id);
    for who in [&*alice, &*bob, &*erin] {
        who.wait_role(&group, &erin.id, "banned");
    }
    say(&mut [alice, bob], &group, "without Erin");
    // Both of the two who are left, and she is what she was.
    alice.unban(&group, &erin.id);
    for who in [&*alice, &*bob] {
        wait_vote(who, &group, "unban/admins", &erin.id, &alice.id);
        who.wait_role(&group, &erin.id, "banned");
    }
    wait_same(&[alice, bob], &group);
    bob.unban(&group, &erin.id);
    for who in [&*alice, &*bob] {
        who.wait_role(&group, &erin.id, "admin");
    }
    say(&mut [alice, bob, erin], &group, "Erin is back");
    wait_same(&[alice, bob, erin], &group);
    erin.wait_role(&group, &erin.id, "admin");
    for who in [&*alice, &*bob, &*erin] {
        peer::fsck(&who.repository(&group));
    }
    peer::silent(erin.as_jami());
    let votes = alice.files(&group);
    assert!(votes.iter().all(|f| !f.starts_with("votes/")), "{votes:?}");
}

/// What STATUS.md says of second admins: a daemon takes both commits that make one, and a Starling
/// neither.
#[test]
fn a_daemon_lets_in_what_makes_a_second_admin_and_a_starling_refuses_it() {
    needs!(jami::missing());
    needs!(starling::planter_missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut alice = Peer::starling(&mut lab, "alice", &boot);
    let mut carol = Peer::starling(&mut lab, "carol", &boot);
    let mut erin = Peer::jami(&mut lab, "erin", &boot);
    let mut others = [&mut carol, &mut erin];
    others.iter_mut().for_each(|other| alice.befriend(other));
    let ways = ["edit", "unban"].map(|way| {
        let group = alice.create(way);
        alice.gather(&group, &mut others);
        (way, group)
    });
    for (_, group) in &ways {
        wait_same(&[&mut alice, &mut carol, &mut erin], group);
    }
    alice.down();
    for (way, group) in &ways {
        starling::plant(&[way, group, &carol.id], &[alice.as_starling()], &[]);
    }
    alice.up();
    for ((way, group), rule) in ways.iter().zip(["UnexpectedFile", "BanChangesContent"]) {
        alice.send(group, "who decides?");
        erin.wait_text(group, "who decides?");
        erin.wait_role(group, &carol.id, "admin");
        assert_eq!(refused(&carol, group), rule, "{way}");
        assert_eq!(
            carol.members(group).get(&carol.id).expect("there"),
            "member"
        );
    }
    peer::silent(erin.as_jami());
}
