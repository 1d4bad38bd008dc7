//! How fast a history is judged: `cargo run --release -p starling-core --example swarm_speed [COMMITS]`.
//!
//! The structure of every commit (one core), then some signatures as the devices of the samples make
//! them (all cores). Signatures of the long history are made up: they cost nothing to make and
//! are not checked here.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

#[path = "../tests/swarm/mod.rs"]
mod swarm;

use starling_core::crypto::Crypto as _;
use starling_core::swarm::commit::Draft;
use starling_core::swarm::message::Message;
use starling_core::swarm::object::Objects as _;
use starling_core::swarm::order::{LinearOrder, Node};
use starling_core::swarm::validate::{BATCH, Validation};
use starling_core::swarm::write::Repository;
use std::time::Instant;
use swarm::{AwsLc, Device, Room};

fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .map_or(20_000, |n| n.parse().unwrap());
    let (ann, ben) = (Device::load("ann"), Device::load("ben"));
    let mut room = Room::group(&[&ann, &ben]);
    let start = room.head;
    let people = [&ann, &ben];
    let tree = {
        room.say(&ben, "the last one with a new device");
        room.tree()
    };
    let signature = vec![7; 512];
    for n in 0..count {
        let text = format!("message number {n}, as long as people write when they are in the mood");
        let message = if n % 10 == 9 {
            Message::edit(text, room.head)
        } else {
            Message::text(text, None)
        };
        let who = people[(n / 10) % 2];
        let draft = Draft {
            tree,
            parents: vec![room.head],
            name: &who.name,
            device: who.id(),
            time: room.now + n as u64,
            message: &message.to_text(),
        };
        let commit = draft.signed(&signature);
        room.put(commit);
    }
    let speed = |what: &str, n: usize, since: Instant| {
        let seconds = since.elapsed().as_secs_f64();
        println!(
            "{what}: {n} in {seconds:.3} s, {:.0} a second",
            n as f64 / seconds
        );
    };

    let since = Instant::now();
    let mut validation =
        Validation::new(&room.objects, room.conversation, Some(start), room.head).unwrap();
    speed("found and put in order", validation.commits().len(), since);
    let since = Instant::now();
    let (mut n, mut checks) = (0, 0);
    while let Some(batch) = validation.next_batch(BATCH).unwrap() {
        n += batch.commits.len();
        checks += batch.checks.len();
    }
    speed("structure judged, one core", n, since);
    println!("signatures asked for: {checks}");

    let since = Instant::now();
    let mut order = LinearOrder::new();
    let all = Validation::new(&room.objects, room.conversation, None, room.head).unwrap();
    let nodes: Vec<_> = all
        .commits()
        .iter()
        .map(|id| {
            let commit = room.commit(*id);
            (
                *id,
                Node {
                    parents: commit.parents,
                    time: commit.time,
                },
            )
        })
        .collect();
    order.update(room.head, nodes).unwrap();
    speed("linear order", order.len(), since);

    let since = Instant::now();
    for n in 0..200 {
        let message = Message::text(format!("{n}"), None);
        Repository::new(&room.objects, room.conversation, room.head)
            .unwrap()
            .message(&ann.writer(), message, room.now)
            .unwrap();
    }
    speed("texts written and signed (RSA-4096)", 200, since);

    let sample = swarm::sample("group-2026");
    let mut validation =
        Validation::new(&sample.objects, sample.conversation, None, sample.head).unwrap();
    let batch = validation.next_batch(BATCH).unwrap().unwrap();
    let many: Vec<_> = batch.checks.iter().cycle().take(4_000).cloned().collect();
    let since = Instant::now();
    assert!(AwsLc.verify_batch(&many).iter().all(|ok| *ok));
    speed(
        "signatures checked, all cores (RSA-4096)",
        many.len(),
        since,
    );
    assert!(sample.objects.contains(&sample.head));
}
