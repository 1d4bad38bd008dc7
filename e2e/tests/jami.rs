//! Starling and the Jami daemon of today.

use starling_e2e::{Jami, Lab, Starling, jami, needs};

/// Boot node, one Starling, one daemon, both with an account.
fn meet() -> (Lab, Starling, String, Jami, String) {
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let bootstrap = format!("{}:4222", boot.addr);
    let (alice_host, bob_host) = (lab.host("alice"), lab.host("bob"));
    let mut alice = Starling::start(&alice_host, &bootstrap);
    let mut bob = Jami::start(&bob_host, &boot);
    let bob_id = bob.create_account("Bob", &bootstrap);
    let alice_id = alice.create_account("Alice");
    (lab, alice, alice_id, bob, bob_id)
}

fn no_complaints(bob: &Jami) {
    assert_eq!(bob.conversation_errors(), Vec::<serde_json::Value>::new());
}

#[test]
fn starling_asks_jami_and_they_chat() {
    needs!(jami::missing());
    let (_lab, alice, alice_id, mut bob, bob_id) = meet();
    let conversation = alice.add_contact(&bob_id);
    assert_eq!(bob.wait_request(), conversation);
    bob.accept(&conversation);
    alice.wait_role(&conversation, &bob_id, "member");
    for i in 0..10 {
        alice.send(&conversation, &format!("from Alice {i} ✓"));
        bob.wait_text(&conversation, &format!("from Alice {i} ✓"));
        bob.send(&conversation, &format!("from Bob {i} ü"));
        alice.wait_text(&conversation, &format!("from Bob {i} ü"));
    }
    assert_eq!(alice.texts(&conversation).len(), 20);
    let _ = alice_id;
    no_complaints(&bob);
}

#[test]
fn jami_asks_starling_and_they_chat() {
    needs!(jami::missing());
    let (_lab, alice, alice_id, mut bob, bob_id) = meet();
    let conversation = bob.add_contact(&alice_id);
    assert_eq!(alice.wait_request(), conversation);
    alice.accept(&conversation);
    bob.wait_member(&conversation, &alice_id, 1);
    alice.send(&conversation, "hello");
    bob.wait_text(&conversation, "hello");
    bob.send(&conversation, "hello yourself");
    alice.wait_text(&conversation, "hello yourself");
    let _ = bob_id;
    no_complaints(&bob);
}
