//! Starling and the Jami daemon of today, unmodified, on a private network.

use serde_json::{Value, json};
use starling_e2e::peer::{complaints, silent, sound};
use starling_e2e::{Host, Jami, Lab, Starling, jami, needs, starling, wait};
use std::panic::AssertUnwindSafe;

/// A boot node, a Starling (Alice) and a daemon (Bob), both with an account.
struct Story {
    alice: Starling,
    alice_id: String,
    bob: Jami,
    bob_id: String,
    boot: Host,
    others: Vec<Starling>,
    // Last: everything above runs in it.
    lab: Lab,
}

/// Both have accounts that were made before.
fn meet() -> Story {
    meet_with(Jami::with_account, Starling::have_account)
}

/// Both make their accounts.
fn meet_new() -> Story {
    let of_jami = |host: &Host, boot: &Host, name: &str| {
        let mut jami = Jami::start(host, boot);
        jami.create_account(name, boot);
        jami
    };
    meet_with(of_jami, Starling::create_account)
}

fn meet_with(
    of_jami: fn(&Host, &Host, &str) -> Jami,
    of_starling: fn(&mut Starling, &str) -> String,
) -> Story {
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let (alice_host, bob_host) = (lab.host("alice"), lab.host("bob"));
    let mut alice = Starling::start(&alice_host, &boot);
    let mut bob = of_jami(&bob_host, &boot, "Bob");
    let bob_id = bob.id();
    let alice_id = of_starling(&mut alice, "Alice");
    Story {
        alice,
        alice_id,
        bob,
        bob_id,
        boot,
        others: Vec::new(),
        lab,
    }
}

impl Story {
    /// Alice asked, Bob accepted: their conversation.
    fn befriend(&mut self) -> String {
        let conversation = self.alice.add_contact(&self.bob_id);
        assert_eq!(self.bob.wait_request(), conversation);
        self.bob.accept(&conversation);
        self.alice.wait_role(&conversation, &self.bob_id, "member");
        conversation
    }

    /// Ten messages each way, each seen by the other before the next.
    fn chat(&mut self, conversation: &str, what: &str) {
        for i in 0..10 {
            let (a, b) = (
                format!("{what} {i} from Alice ✓ \"quoted\""),
                format!("{what} {i} from Bob: ü 你好 \\"),
            );
            self.alice.send(conversation, &a);
            self.bob.wait_text(conversation, &a);
            self.bob.send(conversation, &b);
            self.alice.wait_text(conversation, &b);
        }
    }

    /// What waits for Alice's answer.
    fn requests(&self) -> Value {
        let account = json!({"account": self.alice.account()});
        self.alice.rpc("request.list", account)
    }

    /// What Alice is in.
    fn conversations(&self) -> Value {
        let account = json!({"account": self.alice.account()});
        self.alice.rpc("conversation.list", account)
    }

    /// Whether Alice is connected with Bob.
    fn connected(&self) -> bool {
        self.alice.is_connected(&self.bob_id)
    }

    /// Whether each of both had asked the other for a connection before there was one.
    fn asked_at_once(&self) -> bool {
        let log = self.bob.log();
        let first = |words: &str| log.find(words).unwrap_or(usize::MAX);
        let asked = first("Start TLS session - Initied by connectDevice()");
        let was_asked = first("Start TLS session - Initied by DHT request");
        asked.max(was_asked) < first("Connection is ready")
    }

    /// How often Bob's daemon has said that.
    fn bob_said(&self, words: &str) -> usize {
        let log = self.bob.log();
        log.lines().filter(|line| line.contains(words)).count()
    }

    /// How often Bob's daemon has asked for a connection with Alice's device.
    fn knocks(&self) -> usize {
        self.bob_said("Sending connection request")
    }

    fn bob_starts_anew(&mut self) {
        self.bob.start_again(&self.boot);
        self.bob.wait_registered();
    }

    /// Bob's daemon starts anew, sees that Alice is there, and sends its request again.
    fn bob_starts_anew_and_asks_again(&mut self) {
        let words = format!("to: {}", self.alice_id);
        let asked = |story: &Self| {
            let log = story.bob.log();
            let asks = |l: &&str| l.contains("Sending trust request") && l.contains(&words);
            log.lines().filter(asks).count()
        };
        let before = asked(self);
        assert!(before > 0, "the log says when it asks");
        self.bob_starts_anew();
        wait::until("the daemon to ask again", || {
            (asked(self) > before).then_some(())
        });
    }

    /// Carol comes, with another Starling, and asks Alice; gives the conversation.
    fn somebody_else_asks(&mut self) -> String {
        let host = self.lab.host("carol");
        let mut carol = Starling::start(&host, &self.boot);
        carol.have_account("Carol");
        let conversation = carol.add_contact(&self.alice_id);
        self.others.push(carol);
        conversation
    }

    /// Nobody complained.
    fn check_silence(&self) {
        silent(&self.bob);
        assert_eq!(self.alice.rejections(), Vec::<Value>::new());
    }

    /// The repository is sound by git's rules and ours, and neither side complained.
    fn check(&mut self, conversation: &str) {
        sound("alice", &self.alice.repository(conversation));
        sound("bob", &self.bob.repository(conversation));
        self.check_silence();
    }
}

#[test]
fn starling_asks_jami_and_they_chat() {
    needs!(jami::missing());
    let mut story = meet_new();
    let conversation = story.befriend();
    story.chat(&conversation, "round");
    assert_eq!(story.alice.texts(&conversation).len(), 20);
    story.check(&conversation);
}

/// Whoever asked whom, one connection serves both, whichever ends; and the daemon finds nothing wrong with that.
#[test]
fn both_ask_for_a_connection_at_the_same_moment() {
    needs!(jami::missing());
    // Bob fetches what he accepted while Alice greets him. Seldom one of them has the connection by then.
    let story = (0..5).find_map(|_| {
        let mut story = meet();
        let conversation = story.befriend();
        story.chat(&conversation, "first");
        story.asked_at_once().then_some((story, conversation))
    });
    let (mut story, conversation) = story.expect("both ask at once, one time in five");
    // One and then the other.
    story.alice.down();
    story.alice.up();
    story.chat(&conversation, "with one anew");
    story.bob_starts_anew();
    story.chat(&conversation, "with the other anew");
    assert!(story.connected());
    story.check(&conversation);
}

#[test]
fn jami_asks_starling_and_they_chat() {
    needs!(jami::missing());
    let mut story = meet_new();
    let conversation = story.bob.add_contact(&story.alice_id);
    assert_eq!(story.alice.wait_request(), conversation);
    story.alice.accept(&conversation);
    story.bob.wait_member(&conversation, &story.alice_id, 1);
    story.chat(&conversation, "round");
    story.check(&conversation);
}

#[test]
fn starling_declines() {
    needs!(jami::missing());
    let mut story = meet();
    let asked = story.bob.add_contact(&story.alice_id);
    assert_eq!(story.alice.wait_request(), asked);
    story.alice.decline(&asked);
    assert_eq!(story.requests(), json!([]));
    // A daemon that starts anew asks those again who have not answered. What both have asked by then is found by
    // whoever starts after that.
    story.bob_starts_anew_and_asks_again();
    story.alice.down();
    let carols = story.somebody_else_asks();
    story.alice.up();
    assert_eq!(story.alice.wait_request(), carols);
    assert_eq!(story.requests().as_array().map(Vec::len), Some(1));
    assert_eq!(story.conversations(), json!([]));
    // Bob goes on waiting, alone.
    let (account, alice) = (story.bob.account(), story.alice_id.clone());
    let contact = story.bob.call("getContactDetails", json!([account, alice]));
    assert_eq!(
        (&contact["confirmed"], &contact["conversationId"]),
        (&json!("false"), &json!(asked))
    );
    let open = story.bob.call("getConversationRequests", json!([account]));
    assert_eq!(open, json!([]));
    let members = story
        .bob
        .call("getConversationMembers", json!([account, asked]));
    let members = members.as_array().expect("members");
    let role = members.iter().find(|m| m["uri"] == alice.as_str());
    assert_eq!(role.expect("is listed")["role"], "invited", "{members:?}");
    story.check_silence();
}

#[test]
fn a_daemon_that_is_blocked_gets_nowhere_until_it_is_unblocked() {
    needs!(jami::missing());
    let mut story = meet();
    let conversation = story.befriend();
    story.alice.send(&conversation, "before");
    story.bob.wait_text(&conversation, "before");
    story.alice.rpc(
        "contact.block",
        json!({"account": story.alice.account(), "id": story.bob_id}),
    );
    wait::until("the connection to end", || {
        (!story.connected()).then_some(())
    });
    // It writes, starts anew, tries to reach her, and asks once more.
    story.bob.send(&conversation, "do you see me?");
    let knocks = story.knocks();
    story.bob_starts_anew();
    let (account, alice) = (story.bob.account(), story.alice_id.clone());
    story
        .bob
        .call("sendTrustRequest", json!([account, alice, []]));
    wait::until("the daemon to try", || {
        (story.knocks() > knocks).then_some(())
    });
    // What Carol asks after that comes, and Alice finds all of it where it was left when she starts.
    story.alice.down();
    let carols = story.somebody_else_asks();
    story.alice.up();
    assert_eq!(story.alice.wait_request(), carols);
    story.alice.accept(&carols);
    assert_eq!(story.requests(), json!([]));
    assert!(!story.connected());
    assert_eq!(story.alice.texts(&conversation), ["before"]);

    story.alice.rpc(
        "contact.unblock",
        json!({"account": story.alice.account(), "id": story.bob_id}),
    );
    story.alice.send(&conversation, "now I do");
    story.bob.wait_text(&conversation, "now I do");
    story
        .alice
        .wait_text_or_history(&conversation, "do you see me?");
    story.bob.send(&conversation, "at last");
    story.alice.wait_text_or_history(&conversation, "at last");
    assert!(story.connected());
    story.check(&conversation);
}

#[test]
fn jami_declines_and_is_left_alone() {
    needs!(jami::missing());
    let mut story = meet();
    let conversation = story.alice.add_contact(&story.bob_id);
    assert_eq!(story.bob.wait_request(), conversation);
    story.bob.decline(&conversation);
    let bobs = story.bob.account();
    wait::until("the daemon to have no request", || {
        let open = story.bob.call("getConversationRequests", json!([bobs]));
        (open == json!([])).then_some(())
    });
    let contact = story.alice.rpc(
        "contact.get",
        json!({"account": story.alice.account(), "id": story.bob_id}),
    );
    assert_eq!(contact["confirmed"], false);
    // Who declined can still be written to: it waits on this side.
    story.alice.send(&conversation, "are you there?");
    assert_eq!(story.alice.texts(&conversation), ["are you there?"]);
    // Alice starts anew, and says what waits to whoever would hear it. Somebody else gets through to
    // Bob afterwards.
    story.alice.down();
    story.alice.up();
    let carol_host = story.lab.host("carol");
    let mut carol = Starling::start(&carol_host, &story.boot);
    carol.have_account("Carol");
    let with_carol = carol.add_contact(&story.bob_id);
    story.bob.wait_request_for(&with_carol);
    let open = story.bob.call("getConversationRequests", json!([bobs]));
    assert_eq!(open.as_array().map(Vec::len), Some(1), "{open}");
    story.check_silence();
    assert_eq!(
        story.bob.events("swarmMessageReceived"),
        Vec::<Value>::new()
    );
}

#[test]
fn they_ask_each_other_at_once_and_talk_in_one_conversation() {
    needs!(jami::missing());
    let mut story = meet();
    // Whoever is first, the other has not answered: Bob adds Alice himself.
    let ours = story.alice.add_contact(&story.bob_id);
    let theirs = story.bob.add_contact(&story.alice_id);
    assert_ne!(ours, theirs);
    story.alice.wait_role(&ours, &story.bob_id, "member");
    let account = story.bob.account();
    wait::until("the daemon to use the same conversation", || {
        let contact = story
            .bob
            .call("getContactDetails", json!([account, story.alice_id]));
        (contact["conversationId"] == ours.as_str()).then_some(())
    });
    story.chat(&ours, "round");
    let contact = story.alice.rpc(
        "contact.get",
        json!({"account": story.alice.account(), "id": story.bob_id}),
    );
    assert_eq!(
        (&contact["confirmed"], &contact["conversation"]),
        (&json!(true), &json!(ours))
    );
    let list = story.alice.rpc(
        "conversation.list",
        json!({"account": story.alice.account()}),
    );
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    story.check(&ours);
}

#[test]
fn starling_makes_a_group_with_jami() {
    needs!(jami::missing());
    let mut story = meet();
    story.befriend();
    let group = story.alice.rpc("conversation.create", json!({"account": story.alice.account(), "mode": "invitesOnly", "title": "Birds", "members": [story.bob_id]}));
    let group = group["id"].as_str().expect("an id").to_owned();
    story.bob.wait_request_for(&group);
    story.bob.accept(&group);
    story.alice.wait_role(&group, &story.bob_id, "member");
    story.chat(&group, "group");
    story.check(&group);
}

#[test]
fn jami_makes_a_group_with_starling() {
    needs!(jami::missing());
    let mut story = meet();
    story.befriend();
    let group = story.bob.start_conversation();
    story.bob.add_member(&group, &story.alice_id);
    story.alice.wait_request_for(&group);
    story.alice.accept(&group);
    story.bob.wait_member(&group, &story.alice_id, 1);
    story.chat(&group, "group");
    story.check(&group);
}

#[test]
fn read_marks_and_typing_cross() {
    needs!(jami::missing());
    let mut story = meet();
    let conversation = story.befriend();
    let of_alice = |story: &Story, id: &str| json!({"account": story.alice.account(), "conversation": conversation, "id": id});
    let sent = story.alice.send(&conversation, "from Alice");
    assert_eq!(story.bob.wait_text(&conversation, "from Alice"), sent);
    story.bob.mark_displayed(&conversation, &sent);
    wait::until("Bob's read mark", || {
        let status = story.alice.rpc("message.status", of_alice(&story, &sent));
        (status["status"]["people"][&story.bob_id]["state"] == "read").then_some(())
    });
    let answer = story.bob.send(&conversation, "from Bob");
    story.alice.wait_text(&conversation, "from Bob");
    let read = |story: &Story, id: &str| {
        story
            .alice
            .rpc("message.markDisplayed", of_alice(story, id));
    };
    read(&story, &answer);
    story.bob.wait_displayed(&answer, &story.alice_id);
    for typing in [true, false] {
        let mut params = of_alice(&story, "");
        params["typing"] = typing.into();
        story.alice.rpc("message.setTyping", params);
        story
            .bob
            .wait_composing(&conversation, &story.alice_id, typing);
        story.bob.set_composing(&conversation, typing);
        story.alice.wait("Bob typing", |t, e| {
            (t == "typing" && e["id"] == story.bob_id.as_str() && e["typing"] == typing)
                .then_some(())
        });
    }
    // What is read while Bob is away, he is told when he is back.
    let last = story.bob.send(&conversation, "and good night");
    story.alice.wait_text(&conversation, "and good night");
    story.bob.stop();
    wait::until("Bob to be gone", || (!story.connected()).then_some(()));
    read(&story, &last);
    story.bob_starts_anew();
    story.bob.wait_displayed(&last, &story.alice_id);
    story.check(&conversation);
}

#[test]
fn each_catches_up_on_what_was_written_while_it_was_away() {
    needs!(jami::missing());
    let mut story = meet();
    let conversation = story.befriend();
    story.alice.send(&conversation, "before");
    story.bob.wait_text(&conversation, "before");
    // Alice is away.
    story.alice.down();
    for i in 0..5 {
        story
            .bob
            .send(&conversation, &format!("while Alice was away {i}"));
    }
    story.alice.up();
    for i in 0..5 {
        story
            .alice
            .wait_text_or_history(&conversation, &format!("while Alice was away {i}"));
    }
    // Bob is away.
    story.bob.stop();
    for i in 0..5 {
        story
            .alice
            .send(&conversation, &format!("while Bob was away {i}"));
    }
    story.bob.start_again(&story.boot);
    story.bob.wait_registered();
    for i in 0..5 {
        story
            .bob
            .wait_text(&conversation, &format!("while Bob was away {i}"));
    }
    assert_eq!(story.alice.texts(&conversation).len(), 11);
    story.check(&conversation);
}

#[test]
fn a_starling_whose_network_was_gone_is_found_at_its_next_address() {
    needs!(jami::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let hosts = ["alice", "carol"].map(|name| lab.host(name));
    let [mut alice, mut carol] = Starling::each(&hosts, &boot);
    alice.have_account("Alice");
    carol.have_account("Carol");
    let two = alice.befriend(&carol);
    alice.send(&two, "before");
    carol.wait_text_or_history(&two, "before");
    let dht = || {
        let found = alice.rpc("bridge.diagnostics", json!({}));
        let state = found["dht"]["ipv4"]["state"].as_str();
        state.expect("the node says how it is").to_owned()
    };
    assert_eq!(dht(), "connected");
    hosts[0].unplug();
    wait::until("the node to notice", || {
        (dht() == "disconnected").then_some(())
    });
    carol.send(&two, "while Alice was cut off");
    alice.send(&two, "written without a network");
    // No connection of before leads there.
    hosts[0].plug_elsewhere([10, 77, 0, 200].into());
    wait::until("the node to be back", || {
        (dht() == "connected").then_some(())
    });
    carol.wait_text_or_history(&two, "written without a network");
    alice.wait_text_or_history(&two, "while Alice was cut off");
    carol.send(&two, "afterwards");
    alice.wait_text_or_history(&two, "afterwards");
}

#[test]
fn three_in_one_group_and_one_catches_up() {
    needs!(jami::missing());
    let mut story = meet();
    story.befriend();
    // Carol is on a second Starling. Alice knows both; Bob and Carol meet in the group.
    let carol_host = story.lab.host("carol");
    let mut carol = Starling::start(&carol_host, &story.boot);
    let carol_id = carol.have_account("Carol");
    let with_carol = story.alice.add_contact(&carol_id);
    assert_eq!(carol.wait_request(), with_carol);
    carol.accept(&with_carol);
    story.alice.wait_role(&with_carol, &carol_id, "member");

    let group = story.alice.rpc(
        "conversation.create",
        json!({"account": story.alice.account(), "mode": "invitesOnly", "title": "Three", "members": [story.bob_id, carol_id]}),
    );
    let group = group["id"].as_str().expect("an id").to_owned();
    story.bob.wait_request_for(&group);
    story.bob.accept(&group);
    carol.wait_request_for(&group);
    carol.accept(&group);
    for id in [&story.bob_id, &carol_id] {
        story.alice.wait_role(&group, id, "member");
        carol.wait_role(&group, id, "member");
    }

    // Everyone to everyone.
    let mut said = Vec::new();
    for i in 0..3 {
        for who in ["Alice", "Bob", "Carol"] {
            let text = format!("{i} from {who}");
            match who {
                "Alice" => drop(story.alice.send(&group, &text)),
                "Bob" => drop(story.bob.send(&group, &text)),
                _ => drop(carol.send(&group, &text)),
            }
            story.alice.wait_text_or_history(&group, &text);
            story.bob.wait_text(&group, &text);
            carol.wait_text_or_history(&group, &text);
            said.push(text);
        }
    }

    // Carol is away; Alice leaves before she is back, so that only Bob can tell her.
    carol.down();
    for i in 0..3 {
        for (text, by_alice) in [
            (format!("{i} from Alice without Carol"), true),
            (format!("{i} from Bob without Carol"), false),
        ] {
            if by_alice {
                story.alice.send(&group, &text);
                story.bob.wait_text(&group, &text);
            } else {
                story.bob.send(&group, &text);
                story.alice.wait_text_or_history(&group, &text);
            }
            said.push(text);
        }
    }
    story.alice.down();
    carol.up();
    for text in &said {
        carol.wait_text_or_history(&group, text);
    }
    carol.send(&group, "Carol is back");
    said.push("Carol is back".into());
    story.bob.wait_text(&group, "Carol is back");
    story.alice.up();
    story.alice.wait_text_or_history(&group, "Carol is back");

    // Nothing lost, nothing doubled, in the same order for all.
    assert_eq!(story.alice.texts(&group), said);
    assert_eq!(carol.texts(&group), said);
    assert_eq!(carol.rejections(), Vec::<Value>::new());
    story.check(&group);
}

/// That nobody complains is worth something only if somebody would: one commit that is not signed by who it names is
/// planted into what Alice has.
#[test]
fn a_daemon_that_is_given_a_forged_commit_complains_and_is_heard() {
    needs!(jami::missing());
    needs!(starling::planter_missing());
    let mut story = meet();
    let conversation = story.befriend();
    story.alice.send(&conversation, "before");
    story.bob.wait_text(&conversation, "before");
    story.check_silence();
    story.alice.down();
    let forged = starling::plant(&["forged", &conversation], &[&story.alice], &[]);
    let forged = forged.trim();
    story.alice.up();
    // A Starling that has looked through its own copy by then writes nothing on it: the forged commit is its newest.
    let after =
        json!({"account": story.alice.account(), "conversation": conversation, "body": "after"});
    if let Err(why) = story.alice.try_rpc("message.send", after) {
        println!("alice: {why}");
    }
    wait::until("the daemon to refuse the history", || {
        let told = story.bob.conversation_errors();
        told.iter()
            .any(|e| e["conversation_id"] == conversation.as_str())
            .then_some(())
    });
    let log = |complaints: &[String]| {
        let of = complaints.iter().filter(|c| c.contains(forged));
        of.count()
    };
    wait::until("a complaint that names the commit", || {
        (log(&complaints(&story.bob)) > 0).then_some(())
    });
    // Neither is forgotten when the daemon starts anew, which does not have the commit.
    story.bob.start_again(&story.boot);
    let all = complaints(&story.bob);
    assert!(log(&all) > 0, "{all:#?}");
    assert!(all.iter().any(|c| c.starts_with('{')), "{all:#?}");
    let heard = std::panic::catch_unwind(AssertUnwindSafe(|| silent(&story.bob)));
    heard.expect_err("that was heard");
    assert_eq!(
        story.bob.events("swarmMessageReceived").len(),
        1,
        "neither it nor what stands on it is shown"
    );
}
