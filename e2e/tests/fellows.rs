//! Members of one group who are not each other's contacts: who lets whom in, and whether messages
//! pass while the one who invited both is away.

use serde_json::{Value, json};
use starling_e2e::{Lab, Starling, jami, needs};
use std::time::Instant;

/// What a daemon wrote about connection requests of somebody: how many it took and passed over.
fn requests(log: &str, from: &str) -> (usize, usize) {
    let lines = log
        .lines()
        .filter(|l| l.contains("ICE request from") && l.contains(from));
    let (mut taken, mut passed_over) = (0, 0);
    for line in lines {
        if line.contains("Accepting") {
            taken += 1;
        } else if line.contains("Discarding") {
            passed_over += 1;
        }
    }
    (taken, passed_over)
}

/// Alice, on Starling, knows Bob, on a daemon, and Carol, on another Starling. Bob and Carol do not
/// know each other. Today's daemon passes over the connection requests of who is no contact, so it
/// is Bob's daemon that has to ask Carol's Starling, which lets a fellow member in.
#[test]
fn a_daemon_and_a_starling_who_are_only_fellow_members_talk_without_the_one_who_invited_them() {
    needs!(jami::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let bootstrap = format!("{}:4222", boot.addr);
    let hosts = (lab.host("alice"), lab.host("bob"), lab.host("carol"));
    let mut alice = Starling::start(&hosts.0, &bootstrap);
    let mut bob = starling_e2e::Jami::start(&hosts.1, &boot);
    let mut carol = Starling::start(&hosts.2, &bootstrap);
    let bob_id = bob.create_account("Bob", &bootstrap);
    alice.create_account("Alice");
    let carol_id = carol.create_account("Carol");

    let with_bob = alice.add_contact(&bob_id);
    assert_eq!(bob.wait_request(), with_bob);
    bob.accept(&with_bob);
    alice.wait_role(&with_bob, &bob_id, "member");
    let with_carol = alice.add_contact(&carol_id);
    assert_eq!(carol.wait_request(), with_carol);
    carol.accept(&with_carol);
    alice.wait_role(&with_carol, &carol_id, "member");

    let group = alice.rpc(
        "conversation.create",
        json!({"account": alice.account(), "mode": "invitesOnly", "title": "Fellows", "members": [bob_id, carol_id]}),
    );
    let group = group["id"].as_str().expect("an id").to_owned();
    bob.wait_request_for(&group);
    bob.accept(&group);
    carol.wait_request_for(&group);
    carol.accept(&group);
    for id in [&bob_id, &carol_id] {
        alice.wait_role(&group, id, "member");
        carol.wait_role(&group, id, "member");
    }
    alice.send(&group, "I am off");
    bob.wait_text(&group, "I am off");
    carol.wait_text_or_history(&group, "I am off");

    alice.down();
    let start = Instant::now();
    bob.send(&group, "Carol, do you hear me?");
    carol.wait_text_or_history(&group, "Carol, do you hear me?");
    let there = start.elapsed();
    let start = Instant::now();
    carol.send(&group, "I do, Bob");
    bob.wait_text(&group, "I do, Bob");
    let back = start.elapsed();
    let log = std::fs::read_to_string(hosts.1.dir.join("jami.log")).unwrap_or_default();
    let (taken, passed_over) = requests(&log, &carol_id);
    println!(
        "daemon to Starling {there:?}, Starling to daemon {back:?}; of Carol's requests the daemon took {taken} and passed over {passed_over}"
    );
    assert_eq!(
        taken, 0,
        "a daemon of today lets nobody in who is no contact"
    );
    assert_eq!(bob.conversation_errors(), Vec::<Value>::new());
    assert_eq!(carol.rejections(), Vec::<Value>::new());
    drop(lab);
}
