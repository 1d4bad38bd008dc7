//! The other kinds of groups, and the other kinds of bans, with the Jami daemon of today among the
//! members: it goes on as if nothing were new to it.

use serde_json::{Value, json};
use starling_e2e::peer::{agree, say};
use starling_e2e::{Lab, Peer, jami, needs};

/// A group of some kind, made by a Starling: its id, and its address if it is public.
fn create(who: &Peer, mode: &str) -> (String, Value) {
    let s = who.as_starling();
    let made = s.rpc(
        "conversation.create",
        json!({"account": s.account(), "mode": mode, "title": mode}),
    );
    let id = made["id"].as_str().expect("an id").to_owned();
    (id, made["address"].clone())
}

/// Each writes, all read it, and everybody has the same sound history.
fn talk(people: &mut [&mut Peer], group: &str, what: &str) {
    say(people, group, what);
    agree(people, group);
}

/// Alice and Carol have a Starling, Bob a daemon. Carol is nobody's contact, and has the group's
/// address from elsewhere. For Bob's daemon she was invited by Alice and accepted.
#[test]
fn a_stranger_comes_into_a_public_group_that_a_daemon_is_in() {
    needs!(jami::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut alice = Peer::starling(&mut lab, "alice", &boot);
    let mut bob = Peer::jami(&mut lab, "bob", &boot);
    let mut carol = Peer::starling(&mut lab, "carol", &boot);
    alice.befriend(&mut bob);
    let (group, address) = create(&alice, "public");
    alice.gather(&group, &mut [&mut bob]);
    talk(&mut [&mut alice, &mut bob], &group, "before");

    let s = carol.as_starling();
    s.rpc(
        "conversation.join",
        json!({"account": s.account(), "address": address}),
    );
    carol.wait_ready(&group);
    for who in [&alice, &bob, &carol] {
        who.wait_role(&group, &carol.id, "member");
    }
    carol.wait_text(&group, "before: bob");
    talk(&mut [&mut alice, &mut bob, &mut carol], &group, "after");
}

/// Alice's group, in which only she invites. She bans somebody who has not come yet, and one of the
/// two machines of Carol, who goes on with the other.
#[test]
fn a_daemon_follows_where_only_admins_invite_and_what_is_banned_is_a_device_or_an_invitation() {
    needs!(jami::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut alice = Peer::starling(&mut lab, "alice", &boot);
    let mut bob = Peer::jami(&mut lab, "bob", &boot);
    let mut carol = Peer::starling(&mut lab, "carol", &boot);
    alice.befriend(&mut bob);
    alice.befriend(&mut carol);
    let (group, _) = create(&alice, "adminInvitesOnly");
    alice.gather(&group, &mut [&mut bob, &mut carol]);
    let mut laptop = carol.second_device(&mut lab, "laptop");
    laptop.wait_ready(&group);
    let s = carol.as_starling();
    let refused = s.try_rpc(
        "conversation.invite",
        json!({"account": s.account(), "conversation": group, "id": "1a".repeat(20)}),
    );
    let why = refused.expect_err("only the admin invites");
    assert!(why.contains("not_authorised"), "{why}");
    talk(
        &mut [&mut alice, &mut bob, &mut carol, &mut laptop],
        &group,
        "all",
    );

    let nobody = "2b".repeat(20);
    alice.invite(&group, &nobody);
    bob.wait_role(&group, &nobody, "invited");
    alice.ban(&group, &nobody);
    bob.wait_role(&group, &nobody, "banned");

    let own = laptop.as_starling().rpc(
        "account.get",
        json!({"account": laptop.as_starling().account()}),
    );
    let device = own["deviceId"].as_str().expect("a device").to_owned();
    let s = alice.as_starling();
    s.rpc(
        "conversation.ban",
        json!({"account": s.account(), "conversation": group, "id": carol.id, "device": device}),
    );
    talk(
        &mut [&mut alice, &mut bob, &mut carol],
        &group,
        "without it",
    );
    let s = laptop.as_starling();
    let refused = s.try_rpc(
        "message.send",
        json!({"account": s.account(), "conversation": group, "body": "from the laptop"}),
    );
    let why = refused.expect_err("this device is banned");
    assert!(why.contains("not_a_member"), "{why}");
}
