//! Pairs of things done at the same time, out of sight of each other, and the merges that Starlings
//! make of them: a daemon of today takes every one, and goes on in each of the groups.

use serde_json::json;
use starling_e2e::peer::{self, wait_same};
use starling_e2e::{Lab, Peer, jami, needs, starling};

#[test]
fn a_daemon_takes_our_merge_of_everything_that_happens_at_the_same_time() {
    needs!(jami::missing());
    needs!(starling::planter_missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut alice = Peer::starling(&mut lab, "alice", &boot);
    let mut erin = Peer::jami(&mut lab, "erin", &boot);
    alice.befriend(&mut erin);

    // A group for each, into which both sides and the merges are written: by Alice, with a further
    // device of hers, and by people who are not here.
    let rows = starling::plant(&["rows"], &[], &[]).lines().count();
    assert!(rows >= 13);
    let ours = alice.as_starling();
    let groups: Vec<String> = (0..rows)
        .map(|_| {
            let new = json!({"account": ours.account(), "mode": "invitesOnly"});
            let made = ours.rpc("conversation.create", new);
            made["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    alice.down();
    let planted = starling::plant(&["rows"], &[alice.as_starling()], &groups);
    alice.up();

    // The daemon comes into each, which it does only if it takes every commit.
    for group in &groups {
        alice.invite(group, &erin.id);
    }
    erin.as_jami().accept_all(&groups);
    let (alice, erin) = (&mut alice, &mut erin);
    for group in &groups {
        alice.wait_role(group, &erin.id, "member");
        erin.send(group, "what happened?");
        alice.send(group, "a lot");
    }
    assert_eq!(planted.lines().count(), rows);
    for (group, row) in groups.iter().zip(planted.lines()) {
        println!("{row}");
        let (rules, row) = row.split_once(' ').expect("two words");
        erin.wait_text(group, "a lot");
        alice.wait_text(group, "what happened?");
        wait_same(&[alice, erin], group);
        assert!(erin.merges(group) > 0, "{row}");
        for who in [&*alice, &*erin] {
            match rules {
                "valid" => peer::sound(&who.host.name, &who.repository(group)),
                // How several admins came to be, which one of them begins with, is against our rules.
                _ => peer::fsck(&who.repository(group)),
            }
        }
    }
    peer::silent(erin.as_jami());
    assert!(alice.as_starling().rejections().is_empty());
}
