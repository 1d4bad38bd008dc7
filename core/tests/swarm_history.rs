//! What a reader sees is what the daemons showed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod swarm;

use proptest::prelude::*;
use serde_json::{Value, json};
use starling_core::crypto::Crypto as _;
use starling_core::id::{AccountId, ObjectId};
use starling_core::swarm::commit::Commit;
use starling_core::swarm::history::{Body, History};
use starling_core::swarm::proof::{Proof, Recorder, prove};
use starling_core::swarm::validate::{Accepted, Validation};
use swarm::{AwsLc, SAMPLES, Sample, json as sample_json, sample};

fn accepted(s: &Sample) -> Vec<Accepted> {
    let mut validation = Validation::new(&s.objects, s.conversation, None, s.head).unwrap();
    validation.next_batch(usize::MAX).unwrap().unwrap().commits
}

/// A body as the current daemon's API shows it.
fn shown(body: &Body) -> Value {
    let mut out = serde_json::to_value(&body.fields).unwrap();
    let parents: Vec<_> = body.parents.iter().map(ObjectId::to_hex).collect();
    for (key, value) in [
        ("id", body.id.to_hex()),
        ("author", body.author.to_hex()),
        ("timestamp", body.timestamp.to_string()),
        ("parents", parents.join(",")),
        ("linearizedParent", String::new()),
    ] {
        out[key] = json!(value);
    }
    out
}

fn list(bodies: &[Body]) -> Value {
    bodies.iter().map(shown).collect()
}

#[test]
fn the_folded_history_is_that_of_the_current_daemon() {
    for name in ["one-to-one-2026", "group-2026"] {
        let s = sample(name);
        let commits = accepted(&s);
        let history = History::fold(&commits);
        let wanted = sample_json(&format!("{name}.messages.json"));
        let wanted = wanted.as_array().unwrap();
        assert_eq!(history.len(), wanted.len(), "{name}");
        for (entry, want) in history.entries().rev().zip(wanted) {
            let mut body = want["body"].clone();
            // Only some of the daemon's bodies name it; the message itself always does.
            body["linearizedParent"] = json!("");
            let now = shown(&entry.now);
            assert_eq!(now, body, "{name}");
            assert_eq!(want["type"], entry.now.kind());
            assert_eq!(want["id"], entry.id().to_hex());
            assert_eq!(
                want["linearizedParent"],
                entry.previous.map_or(String::new(), |p| p.to_hex())
            );
            assert_eq!(want["reactions"], list(&entry.reactions), "{name}");
            assert_eq!(want["editions"], list(&entry.editions), "{name}");
        }
    }
}

#[test]
fn loading_backwards_shows_the_same() {
    for name in SAMPLES {
        let s = sample(name);
        let commits = accepted(&s);
        let forward: Vec<_> = History::fold(&commits).entries().collect();
        for cut in 0..=commits.len() {
            let mut history = History::new();
            let (old, new) = commits.split_at(cut);
            for c in new {
                history.push_newer(c.id, &c.commit, c.account());
            }
            for c in old.iter().rev() {
                history.push_older(c.id, &c.commit, c.account());
            }
            assert_eq!(
                history.entries().collect::<Vec<_>>(),
                forward,
                "{name} at {cut}"
            );
        }
    }
}

#[test]
fn the_api_message_says_what_a_person_wants_to_know() {
    let s = sample("one-to-one-2026");
    let commits = accepted(&s);
    let history = History::fold(&commits);
    let at = |id: &str| history.entry(&id.parse().unwrap()).unwrap().to_api();
    let edited = at("735cd57ff64c19fe4a0dd3169e08af14ef1ff191");
    assert_eq!(edited.body.as_deref(), Some("a second correction"));
    assert_eq!(
        edited
            .edits
            .iter()
            .map(|e| e.body.as_str())
            .collect::<Vec<_>>(),
        ["a correction", "a mistake"]
    );
    assert_eq!(edited.reactions.keys().collect::<Vec<_>>(), ["👍"]);
    let deleted = history
        .entry(&"e9a889dd761b23052e20a9e9096bcb75ca874cea".parse().unwrap())
        .unwrap();
    assert!(deleted.is_deleted());
    assert_eq!(deleted.to_api().body.as_deref(), Some(""));
    let gone = history
        .entry(&"80172c0da19937a4235968c0017d60108754ef41".parse().unwrap())
        .unwrap();
    assert!(gone.is_deleted());
    let file = at("cc0b42d103f04e2cc0d4366b54b442de8c8b5b85").file.unwrap();
    assert_eq!(
        file.file_id,
        "cc0b42d103f04e2cc0d4366b54b442de8c8b5b85_2783662038083787.txt"
    );
    assert_eq!((file.name.as_str(), file.size), ("poem.txt", 2890));
    assert_eq!(
        at("f08740d46d92874399e9aafdd71f335b1bf6ac2a")
            .call
            .unwrap()
            .reason
            .as_deref(),
        Some("declined")
    );
    assert!(
        at("3847f961448ad14315b204642dc0fa893244e18d")
            .reply_to
            .is_some()
    );
    assert!(
        at("47ddfef5c4abbd97184e1e5da2c27376ee2d7833")
            .member
            .is_some()
    );
}

#[test]
fn a_proof_travels_and_can_be_checked_elsewhere() {
    for name in SAMPLES {
        let s = sample(name);
        for commit in accepted(&s) {
            let proof = prove(&s.objects, s.conversation, commit.id).unwrap();
            let text = serde_json::to_string(&proof).unwrap();
            let there: Proof = serde_json::from_str(&text).unwrap();
            assert_eq!(there, proof);
            assert_eq!(there.account, there.chain[1].key_id);
            assert_eq!(
                AwsLc.verify_batch(&there.checks()),
                [true, true],
                "{name} {}",
                commit.id
            );
        }
    }
}

#[test]
fn what_a_window_read_is_enough_to_judge_it_again() {
    let s = sample("group-2026");
    let all: Vec<ObjectId> = accepted(&s).iter().map(|a| a.id).collect();
    let last = all[all.len() - 5..].to_vec();
    let judge = |objects: &dyn starling_core::swarm::object::Objects| {
        let mut window = Validation::window(objects, s.conversation, last.clone());
        let batch = window.next_batch(100).unwrap().unwrap();
        batch.verdict(&AwsLc.verify_batch(&batch.checks)).unwrap();
        batch.commits.len()
    };
    let recorder = Recorder::new(&s.objects);
    assert_eq!(judge(&recorder), 5);
    let sent = recorder.into_objects();
    assert!(sent.len() < s.objects.len(), "not everything is needed");
    let mut page = starling_core::swarm::object::MemoryObjects::new();
    for (kind, data) in sent.values() {
        page.insert(*kind, data);
    }
    assert_eq!(judge(&page), 5);
}

proptest! {
    /// Texts, edits and reactions in any tangle: whichever way they are loaded, the view is one.
    #[test]
    fn any_tangle_shows_the_same_from_both_ends(
        steps in proptest::collection::vec((0u8..4, 0u8..12, 0u8..2, "[ab]{0,1}"), 1..14),
        cut in 0usize..14,
    ) {
        let id = |n: u8| ObjectId([n; 20]);
        let commits: Vec<(ObjectId, Commit, AccountId)> = steps.iter().enumerate().map(|(n, (what, target, who, text))| {
            // Always something older: nothing else can be honest.
            let target = id(target % (n.max(1) as u8)).to_hex();
            let what = if n == 0 { &0 } else { what };
            let message = match what {
                0 | 1 => format!(r#"{{"body":"{text}","type":"text/plain"}}"#),
                2 => format!(r#"{{"body":"{text}","react-to":"{target}","type":"text/plain"}}"#),
                _ => format!(r#"{{"body":"{text}","edit":"{target}","type":"text/plain"}}"#),
            };
            let draft = starling_core::swarm::commit::Draft {
                tree: id(0), parents: vec![], name: "A", device: starling_core::id::DeviceId([*who; 32]),
                time: n as u64, message: &message,
            };
            (id(n as u8), Commit::parse(&draft.to_sign()).unwrap(), AccountId([*who; 20]))
        }).collect();
        let mut forward = History::new();
        for (id, commit, who) in &commits {
            forward.push_newer(*id, commit, *who);
        }
        let cut = cut.min(commits.len());
        let mut other = History::new();
        for (id, commit, who) in &commits[cut..] {
            other.push_newer(*id, commit, *who);
        }
        for (id, commit, who) in commits[..cut].iter().rev() {
            other.push_older(*id, commit, *who);
        }
        prop_assert_eq!(forward.entries().collect::<Vec<_>>(), other.entries().collect::<Vec<_>>());
    }
}
