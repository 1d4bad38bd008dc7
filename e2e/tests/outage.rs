//! A Starling and a Jami daemon of today, one of whom loses its network for a while: what was written meanwhile is shown
//! soon after it is back, though no connection was ended.

use serde_json::json;
use starling_e2e::peer::{silent, sound};
use starling_e2e::{Host, Jami, Lab, Starling, jami, needs, wait};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// An address that nobody had.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 200);

/// So long it may take, on a machine that does much else. By itself it is one to eight seconds.
const SOON: Duration = Duration::from_secs(40);

/// So long a daemon may take that is not told of its new address: 35 to 50 s on an idle machine.
const BY_ITSELF: Duration = Duration::from_secs(150);

/// Alice with a Starling and Bob with a daemon, who have a conversation.
struct Story {
    alice: Starling,
    bob: Jami,
    bob_id: String,
    /// Alice's, and Bob's.
    hosts: [Host; 2],
    conversation: String,
    // Last: everything above runs in it.
    _lab: Lab,
}

impl Story {
    fn new(group: bool) -> Self {
        let mut lab = Lab::new();
        let boot = jami::boot(&mut lab);
        let hosts = ["alice", "bob"].map(|name| lab.host(name));
        let mut alice = Starling::start(&hosts[0], &boot);
        let mut bob = Jami::with_account(&hosts[1], &boot, "Bob");
        let bob_id = bob.id();
        alice.have_account("Alice");
        let mut conversation = alice.add_contact(&bob_id);
        assert_eq!(bob.wait_request(), conversation);
        bob.accept(&conversation);
        alice.wait_role(&conversation, &bob_id, "member");
        if group {
            let made = alice.rpc("conversation.create", json!({"account": alice.account(), "mode": "invitesOnly", "title": "Birds", "members": [bob_id]}));
            conversation = made["id"].as_str().expect("an id").to_owned();
            bob.wait_request_for(&conversation);
            bob.accept(&conversation);
            alice.wait_role(&conversation, &bob_id, "member");
        }
        let mut story = Self {
            alice,
            bob,
            bob_id,
            hosts,
            conversation,
            _lab: lab,
        };
        // Each has fetched from the other, and keeps the channel for the next time.
        story.talk("before");
        story
    }

    /// Each writes, and reads what the other writes.
    fn talk(&mut self, what: &str) {
        let (a, b) = (format!("{what}: alice"), format!("{what}: bob"));
        self.alice.send(&self.conversation, &a);
        self.bob.wait_text(&self.conversation, &a);
        self.bob.send(&self.conversation, &b);
        self.alice.wait_text_or_history(&self.conversation, &b);
    }

    /// Alice loses her network, and both write (Bob only if `both`). When she has noticed, it is back.
    fn outage(&mut self, next: Option<Ipv4Addr>, both: bool) {
        let host = self.hosts[0].clone();
        host.unplug();
        self.alice.send(&self.conversation, "alice, meanwhile");
        if both {
            // Later, by the seconds that commits have: of a merge a daemon shows what is newer than its own head.
            let second = || UNIX_EPOCH.elapsed().map_or(0, |t| t.as_secs());
            let wrote = second();
            wait::until("the next second", || (second() > wrote).then_some(()));
            self.bob.send(&self.conversation, "bob, meanwhile");
        }
        wait::until("the Starling to notice", || {
            (!self.alice.is_connected(&self.bob_id)).then_some(())
        });
        let before = self.bob.mark();
        match next {
            Some(addr) => host.plug_elsewhere(addr),
            None => host.plug(),
        }
        let back = Instant::now();
        let shown = self
            .bob
            .shown(&self.conversation, "alice, meanwhile", before);
        println!("bob shows it after {:?}", shown - back);
        if both {
            self.alice
                .wait_text_or_history(&self.conversation, "bob, meanwhile");
            println!("alice shows it after {:?}", back.elapsed());
        }
        assert!(back.elapsed() < SOON, "{:?}", back.elapsed());
        self.finish(if both { 6 } else { 5 });
    }

    /// Bob's machine loses its network, and is at another address when the Starling has noticed.
    fn daemon_moves(&mut self) {
        let host = self.hosts[1].clone();
        host.unplug();
        self.alice.send(&self.conversation, "alice, meanwhile");
        wait::until("the Starling to notice", || {
            (!self.alice.is_connected(&self.bob_id)).then_some(())
        });
        let before = self.bob.mark();
        host.plug_elsewhere(ELSEWHERE);
        let back = Instant::now();
        let shown = self
            .bob
            .try_shown(&self.conversation, "alice, meanwhile", before, BY_ITSELF);
        let shown = shown.expect("the daemon shows it");
        println!("bob shows it after {:?}", shown - back);
        self.finish(5);
    }

    /// Both go on talking, and `count` texts are there once each.
    fn finish(&mut self, count: usize) {
        self.talk("after");
        let texts = self.alice.texts(&self.conversation);
        assert_eq!(texts.len(), count, "{texts:?}");
        for (name, repository) in [
            ("alice", self.alice.repository(&self.conversation)),
            ("bob", self.bob.repository(&self.conversation)),
        ] {
            sound(name, &repository);
        }
        silent(&self.bob);
    }
}

/// The daemon takes the connection of before for alive, and fetches over it what it is told of over the next one, for
/// the three seconds that it waits for a sign of life. Bob writes nothing, so there is nothing else to tell it of.
#[test]
fn what_only_the_starling_wrote_is_shown_when_it_is_back_at_another_address() {
    needs!(jami::missing());
    Story::new(false).outage(Some(ELSEWHERE), false);
}

#[test]
fn what_both_wrote_is_shown_when_the_starling_is_back_at_another_address() {
    needs!(jami::missing());
    Story::new(false).outage(Some(ELSEWHERE), true);
}

#[test]
fn what_both_wrote_in_a_group_is_shown_when_the_starling_is_back_at_its_address() {
    needs!(jami::missing());
    Story::new(true).outage(None, true);
}

/// Nobody tells a daemon here that its address is another one, as a client would: it finds out when nobody answers.
#[test]
fn what_the_starling_wrote_is_shown_when_the_daemon_is_back_at_another_address() {
    needs!(jami::missing());
    Story::new(false).daemon_moves();
}
