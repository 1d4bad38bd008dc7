//! What people do in a group less often, by each kind of peer: decline, be invited again, leave as its
//! admin, come back; ban an invitation and let it back; description and picture.

use serde_json::json;
use starling_e2e::peer::{agree, say, wait_same};
use starling_e2e::{Lab, Peer, jami, needs, wait};

/// Two pictures of one pixel each, in base64: PNG, as clients of both kinds make them.
const RED: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGM4IScHAAK2AQU0pnWqAAAAAElFTkSuQmCC";
const BLUE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGOQkzsBAAFiAQURG6MhAAAAAElFTkSuQmCC";

/// Everybody who is there sees a person in a role.
fn all_see(people: &[&mut Peer], group: &str, id: &str, role: &str) {
    people.iter().for_each(|p| p.wait_role(group, id, role));
}

/// Everybody who is there sees that a person is in no list of the group any more.
fn all_miss(people: &[&mut Peer], group: &str, id: &str) {
    for who in people {
        let what = format!("{}: {id} to be gone", who.host.name);
        wait::until(&what, || {
            (!who.members(group).contains_key(id)).then_some(())
        });
    }
}

/// One writes, and all the others read it.
fn hear(who: &mut Peer, others: &mut [&mut Peer], group: &str, text: &str) {
    who.send(group, text);
    others.iter_mut().for_each(|o| o.wait_text(group, text));
}

/// Who leads the group, as somebody sees it.
fn admins(who: &Peer, group: &str) -> Vec<String> {
    let members = who.members(group).into_iter();
    members
        .filter(|(_, role)| role == "admin")
        .map(|(id, _)| id)
        .collect()
}

/// Alice, who made the group, and Carol have a Starling; Bob and Dave a daemon.
#[test]
fn a_starling_leads_and_all_come_back_who_declined_left_or_were_banned() {
    needs!(jami::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let (mut starlings, mut daemons) =
        Peer::two_and_two(&mut lab, ["alice", "carol"], ["bob", "dave"], &boot);
    let ([alice, carol], [bob, dave]) = (&mut starlings, &mut daemons);
    alice.befriend(bob);
    alice.befriend(dave);
    bob.befriend(carol);
    bob.befriend(dave);
    let group = alice.create("Coming and going");
    alice.gather(&group, &mut [bob]);
    alice.describe(&group, "Whoever comes, comes", RED);
    bob.wait_description(&group, "Whoever comes, comes", RED);

    // Carol declines what a daemon asks, Dave what a Starling asks. For all others both stay invited.
    bob.invite(&group, &carol.id);
    carol.decline(&group);
    alice.invite(&group, &dave.id);
    dave.decline(&group);
    for id in [&carol.id, &dave.id] {
        all_see(&[alice, bob], &group, id, "invited");
    }
    // Dave's invitation is banned and let back, Carol's is repeated; both come now.
    alice.ban(&group, &dave.id);
    all_see(&[alice, bob], &group, &dave.id, "banned");
    alice.unban(&group, &dave.id);
    all_see(&[alice, bob], &group, &dave.id, "invited");
    dave.accept(&group);
    bob.gather(&group, &mut [carol]);
    let (carols, daves) = (carol.id.clone(), dave.id.clone());
    all_see(&[alice, bob, carol, dave], &group, &daves, "member");
    for who in [&mut *carol, &mut *dave] {
        who.wait_description(&group, "Whoever comes, comes", RED);
    }
    say(&mut [alice, bob, carol, dave], &group, "all are here");
    agree(&mut [alice, bob, carol, dave], &group);

    // Both leave. A Starling brings the daemon back, a daemon the Starling.
    carol.leave(&group);
    all_miss(&[alice, bob, dave], &group, &carol.id);
    // Nobody is to be fetching from a daemon that leaves: see STATUS.md.
    wait_same(&[alice, bob, dave], &group);
    dave.leave(&group);
    all_miss(&[alice, bob], &group, &dave.id);
    alice.gather(&group, &mut [dave]);
    bob.gather(&group, &mut [carol]);
    hear(dave, &mut [alice, bob, carol], &group, "I am back, too");
    agree(&mut [alice, bob, carol, dave], &group);

    // Inviting whom one banned is the end of the ban; nobody has to accept anything.
    for banned in [&mut *carol, &mut *dave] {
        alice.ban(&group, &banned.id);
    }
    all_see(&[alice, bob], &group, &carol.id, "banned");
    all_see(&[alice, bob], &group, &dave.id, "banned");
    for banned in [&mut *carol, &mut *dave] {
        alice.invite(&group, &banned.id);
    }
    for id in [&carols, &daves] {
        all_see(&[alice, bob, carol, dave], &group, id, "member");
    }
    hear(dave, &mut [alice, bob, carol], &group, "nor am I");
    hear(carol, &mut [alice, bob, dave], &group, "nor I");
    agree(&mut [alice, bob, carol, dave], &group);

    // The one admin leaves. The others go on without any, also when she comes back.
    alice.leave(&group);
    all_miss(&[bob, carol, dave], &group, &alice.id);
    hear(dave, &mut [bob, carol], &group, "nobody leads");
    bob.gather(&group, &mut [alice]);
    hear(
        alice,
        &mut [bob, carol, dave],
        &group,
        "I only wanted to see",
    );
    agree(&mut [alice, bob, carol, dave], &group);
    for who in [&*alice, &*bob, &*carol, &*dave] {
        assert_eq!(
            admins(who, &group),
            Vec::<String>::new(),
            "{}",
            who.host.name
        );
        assert_eq!(who.members(&group).len(), 4, "{}", who.host.name);
        assert_eq!(
            who.texts(&group).len(),
            4 + 1 + 2 + 1 + 1,
            "{}",
            who.host.name
        );
    }
}

/// Bob, who made the group and has two machines, and Erin have a daemon; Alice and Carol a Starling.
#[test]
fn a_daemon_leads_bans_an_invitation_changes_the_picture_on_two_machines_and_leaves() {
    needs!(jami::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let (mut starlings, mut daemons) =
        Peer::two_and_two(&mut lab, ["alice", "carol"], ["bob", "erin"], &boot);
    let ([alice, carol], [bob, erin]) = (&mut starlings, &mut daemons);
    for other in [&mut *alice, &mut *carol, &mut *erin] {
        bob.befriend(other);
    }
    alice.befriend(erin);
    let group = bob.create("Bob's");
    bob.gather(&group, &mut [carol]);
    bob.describe(&group, "Birds and more", RED);
    carol.wait_description(&group, "Birds and more", RED);

    // Two have not come yet, and are banned. Let back they come.
    for invited in [&mut *alice, &mut *erin] {
        bob.invite(&group, &invited.id);
        invited.decline(&group);
        all_see(&[bob, carol], &group, &invited.id, "invited");
        bob.ban(&group, &invited.id);
        all_see(&[bob, carol], &group, &invited.id, "banned");
        bob.unban(&group, &invited.id);
        all_see(&[bob, carol], &group, &invited.id, "invited");
        invited.accept(&group);
        all_see(&[bob, carol], &group, &invited.id, "member");
    }
    say(&mut [bob, carol, alice, erin], &group, "all are here");
    agree(&mut [bob, carol, alice, erin], &group);

    // Bob's machines change the profile, each while it does not hear of the other.
    let laptop = &mut bob.second_device(&mut lab, "laptop");
    laptop.wait_ready(&group);
    hear(
        laptop,
        &mut [bob, carol, alice, erin],
        &group,
        "two machines",
    );
    wait_same(&[bob, laptop, carol, alice, erin], &group);
    lab.split(&[&laptop.host, &carol.host]);
    bob.describe(&group, "Birds only", RED);
    laptop.describe(&group, "Birds, and bees", BLUE);
    for who in [&mut *alice, &mut *erin] {
        who.wait_description(&group, "Birds only", RED);
    }
    carol.wait_description(&group, "Birds, and bees", BLUE);
    lab.join();
    wait_same(&[bob, laptop, carol, alice, erin], &group);
    hear(laptop, &mut [bob, carol, alice, erin], &group, "together");
    agree(&mut [bob, laptop, carol, alice, erin], &group);
    let now = carol.description(&group);
    let known = [("Birds only", RED), ("Birds, and bees", BLUE)];
    assert!(known.contains(&(&now.0, &now.1)), "{now:?}");
    for who in [&mut *bob, &mut *laptop, &mut *alice, &mut *erin] {
        who.wait_description(&group, &now.0, &now.1);
    }

    // The one admin leaves with both machines. The others go on without any.
    wait_same(&[bob, laptop, carol, alice, erin], &group);
    bob.leave(&group);
    all_miss(&[carol, alice, erin], &group, &bob.id);
    hear(erin, &mut [carol, alice], &group, "nobody leads");
    agree(&mut [carol, alice, erin], &group);
    // A Starling that leaves can come back.
    alice.leave(&group);
    all_miss(&[carol, erin], &group, &alice.id);
    erin.gather(&group, &mut [alice]);
    hear(alice, &mut [carol, erin], &group, "I am back");
    agree(&mut [carol, alice, erin], &group);
    assert_eq!(admins(carol, &group), Vec::<String>::new());
    // A daemon cannot: it counts the votes of any time against the admins of today, of whom there are none.
    alice.invite(&group, &bob.id);
    let daemon = bob.as_jami();
    daemon.wait_request_for(&group);
    let account = daemon.account();
    daemon.call("acceptConversationRequest", json!([account, group]));
    wait::until("the daemon to find the old votes incomplete", || {
        daemon
            .log()
            .contains("Incomplete vote detected")
            .then_some(())
    });
    all_see(&[carol, alice, erin], &group, &bob.id, "invited");
}
