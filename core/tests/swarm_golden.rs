//! What daemons wrote is valid, read rightly, and would have been written the same by us.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod swarm;

use starling_core::id::{AccountId, ObjectId};
use starling_core::swarm::commit::{Commit, Draft};
use starling_core::swarm::members::{Member, Profile, Role};
use starling_core::swarm::merge::merge_trees;
use starling_core::swarm::message::Message;
use starling_core::swarm::object::{Kind, Objects as _};
use starling_core::swarm::order::{LinearOrder, Node, linear};
use starling_core::swarm::tree::Trees;
use starling_core::swarm::validate::{Validation, validate};
use starling_core::swarm::write::Repository;
use std::collections::BTreeMap;
use swarm::{AwsLc, Device, SAMPLES, json, sample};

fn commits(sample: &swarm::Sample) -> BTreeMap<ObjectId, Commit> {
    sample
        .objects
        .iter()
        .filter(|(_, kind, _)| *kind == Kind::Commit)
        .map(|(id, _, data)| (*id, Commit::parse(data).unwrap()))
        .collect()
}

fn nodes(sample: &swarm::Sample) -> BTreeMap<ObjectId, Node> {
    commits(sample)
        .into_iter()
        .map(|(id, c)| {
            (
                id,
                Node {
                    parents: c.parents,
                    time: c.time,
                },
            )
        })
        .collect()
}

#[test]
fn every_commit_of_the_daemons_is_valid() {
    for name in SAMPLES {
        let s = sample(name);
        let verdict = validate(&AwsLc, &s.objects, s.conversation, None, s.head)
            .unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(verdict.commits.len(), commits(&s).len(), "{name}");
        assert_eq!(verdict.commits.first(), Some(&s.conversation.into()));
        // From any commit on, only what is new is looked at.
        for have in &verdict.commits {
            let new = Validation::new(&s.objects, s.conversation, Some(*have), s.head).unwrap();
            let nodes = nodes(&s);
            let old = linear(*have, &nodes);
            let mut wanted: Vec<_> = verdict
                .commits
                .iter()
                .filter(|c| !old.contains(c))
                .copied()
                .collect();
            let mut got = new.commits().to_vec();
            wanted.sort();
            got.sort();
            assert_eq!(got, wanted, "{name} from {have}");
        }
    }
}

#[test]
fn every_commit_is_rebuilt_byte_for_byte() {
    let devices: BTreeMap<_, _> = ["alice", "bob", "carol", "dave", "ann", "ben", "cat", "dan"]
        .map(Device::load)
        .into_iter()
        .map(|d| (d.id(), d))
        .collect();
    for name in SAMPLES {
        for (id, commit) in commits(&sample(name)) {
            let device = &devices[&commit.device];
            let message = Message::parse(&commit.message).unwrap();
            assert_eq!(message.to_text(), commit.message);
            assert!(
                !matches!(message, Message::Unknown { .. }),
                "{name} {id}: {} is a known type",
                commit.message
            );
            let draft = Draft {
                tree: commit.tree,
                parents: commit.parents.clone(),
                name: &commit.name,
                device: commit.device,
                time: commit.time as u64,
                message: &message.to_text(),
            };
            assert_eq!(draft.to_sign(), commit.signed);
            assert_eq!(draft.sign(&*device.key).unwrap().id, id, "{name}");
        }
    }
}

/// The order in which a client saw a history, newest first, by following linear parents.
fn shown(messages: &serde_json::Value) -> Vec<(String, String)> {
    messages
        .as_array()
        .unwrap()
        .iter()
        .map(|m| {
            (
                m["id"].as_str().unwrap().to_owned(),
                m["linearizedParent"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[test]
fn the_order_is_that_of_the_daemons() {
    for name in SAMPLES {
        let s = sample(name);
        let order: Vec<String> = linear(s.head, &nodes(&s))
            .iter()
            .map(ObjectId::to_hex)
            .collect();
        let shown = shown(&json(&format!("{name}.messages.json")));
        if name.ends_with("2023") {
            // Everything is shown, each with the commit before it.
            let ids: Vec<_> = shown.iter().map(|(id, _)| id.clone()).collect();
            assert_eq!(ids, order, "{name}");
            for (n, (_, parent)) in shown.iter().enumerate() {
                assert_eq!(parent, order.get(n + 1).map_or("", |p| p), "{name}");
            }
        } else {
            // Merges, edits and reactions are hidden, the rest keeps its order.
            let at: Vec<_> = shown
                .iter()
                .map(|(id, _)| order.iter().position(|o| o == id).unwrap())
                .collect();
            assert!(at.is_sorted(), "{name}: {at:?}");
        }
    }
}

#[test]
fn the_order_grown_commit_by_commit_is_the_same() {
    for name in SAMPLES {
        let s = sample(name);
        let nodes = nodes(&s);
        let wanted = linear(s.head, &nodes);
        let mut grown = LinearOrder::new();
        // Along the first parents, as one who always was there.
        let mut heads = vec![s.head];
        while let Some(parent) = nodes[heads.last().unwrap()].parents.first() {
            heads.push(*parent);
        }
        for head in heads.into_iter().rev() {
            let below = linear(head, &nodes);
            let new = below.iter().rev().map(|i| (*i, nodes[i].clone()));
            grown.update(head, new).unwrap();
        }
        assert_eq!(
            grown.order().iter().rev().copied().collect::<Vec<_>>(),
            wanted,
            "{name}"
        );
    }
}

#[test]
fn merges_of_the_daemons_have_the_tree_we_would_have_made() {
    let mut seen = 0;
    for name in SAMPLES {
        let s = sample(name);
        for commit in commits(&s).into_values().filter(|c| c.parents.len() == 2) {
            let mut walker = starling_core::swarm::ancestry::Walker::new(&s.objects);
            let mut trees = Trees::new(&s.objects);
            for (a, b) in [(0, 1), (1, 0)] {
                let (tree, _) = merge_trees(
                    &mut walker,
                    &mut trees,
                    commit.parents[a],
                    commit.parents[b],
                )
                .unwrap();
                assert_eq!(tree, commit.tree, "{name}");
            }
            seen += 1;
        }
    }
    assert!(seen > 8, "the samples hold merges");
}

#[test]
fn members_and_profile_are_as_the_daemon_says() {
    let s = sample("group-2026");
    let mut repository = Repository::new(&s.objects, s.conversation, s.head).unwrap();
    let wanted: Vec<Member> = json("group-2026.members.json")
        .as_array()
        .unwrap()
        .iter()
        .map(|m| Member {
            id: m["uri"].as_str().unwrap().parse::<AccountId>().unwrap(),
            role: serde_json::from_value(m["role"].clone()).unwrap(),
        })
        .collect();
    assert_eq!(repository.members().unwrap(), wanted);
    let infos = json("group-2026.infos.json");
    let profile = repository.profile().unwrap();
    assert_eq!(profile.title.as_deref(), infos["title"].as_str());
    assert_eq!(
        profile.description.as_deref(),
        infos["description"].as_str()
    );
    assert_eq!(profile.avatar.as_deref(), infos["avatar"].as_str());
    assert_eq!(
        repository.root().unwrap().mode.number().to_string(),
        infos["mode"].as_str().unwrap()
    );

    let s = sample("group-2023");
    let mut repository = Repository::new(&s.objects, s.conversation, s.head).unwrap();
    let roles: Vec<_> = repository
        .members()
        .unwrap()
        .into_iter()
        .map(|m| m.role)
        .collect();
    assert_eq!(roles, [Role::Admin, Role::Banned]);
    assert_eq!(
        repository.role(Device::load("carol").account()).unwrap(),
        Some(Role::Banned)
    );
}

#[test]
fn profiles_are_written_as_the_daemon_wrote_them() {
    let mut seen = 0;
    for name in ["group-2023", "group-2026"] {
        for (_, _, data) in sample(name)
            .objects
            .iter()
            .filter(|(_, kind, d)| *kind == Kind::Blob && d.starts_with(b"BEGIN:VCARD"))
        {
            assert_eq!(Profile::parse(data).to_vcard().as_bytes(), data);
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
}

#[test]
fn a_missing_object_is_named() {
    let s = sample("group-2026");
    let whole: Vec<_> = s
        .objects
        .iter()
        .map(|(id, kind, data)| (*id, kind, data.to_vec()))
        .collect();
    for (missing, _, _) in &whole {
        let mut objects = starling_core::swarm::object::MemoryObjects::new();
        for (id, kind, data) in &whole {
            if id != missing {
                objects.insert(*kind, data);
            }
        }
        assert!(!objects.contains(missing));
        let fault = validate(&AwsLc, &objects, s.conversation, None, s.head).unwrap_err();
        assert_eq!(
            fault.misbehaviour.name(),
            "MissingObject",
            "{missing}: {fault}"
        );
    }
}
