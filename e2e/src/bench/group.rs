//! One message in a group of twenty: how long until the others show it.

use crate::process;
use crate::table::{Aim, Row, p50_p95};
use serde_json::{Value, json};
use starling_e2e::{Client, Jami, Lab, Starling, jami, wait};
use std::time::{Duration, Instant};

const PEOPLE: usize = 20;
const MESSAGES: usize = 40;
/// A group talks no faster.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a group of daemons may take to find together; ours has [`wait::PATIENCE`].
const DAEMONS: Duration = Duration::from_secs(300);

/// Milliseconds from sending until one of the others showed it, and until the last one did.
struct Spread {
    each: Vec<f64>,
    last: Vec<f64>,
    memory: f64,
}

/// Twenty Starlings, then twenty daemons.
pub(crate) fn run() -> Vec<Row> {
    let ours = starlings();
    let theirs = std::panic::catch_unwind(daemons);
    let (each, last) = (p50_p95(ours.each), p50_p95(ours.last));
    let daemons = theirs
        .as_ref()
        .ok()
        .map(|t| (p50_p95(t.each.clone()), p50_p95(t.last.clone()), t.memory));
    let mut rows = Vec::new();
    for (what, value, daemon, aim) in [
        (
            "until one of the others shows it, p50",
            each.0,
            daemons.map(|d| d.0.0),
            false,
        ),
        (
            "until one of the others shows it, p95",
            each.1,
            daemons.map(|d| d.0.1),
            true,
        ),
        (
            "until all others show it, p50",
            last.0,
            daemons.map(|d| d.1.0),
            false,
        ),
        (
            "until all others show it, p95",
            last.1,
            daemons.map(|d| d.1.1),
            false,
        ),
    ] {
        let mut row = Row::new(format!("group of {PEOPLE}, {what}"), value, "ms");
        if let Some(daemon) = daemon {
            row = row.beside("daemons", daemon);
            if aim {
                row = row.aim(Aim::AtMost(daemon));
            }
        }
        rows.push(row);
    }
    let row = Row::new(
        format!("group of {PEOPLE}, memory of one of them"),
        ours.memory,
        "MB",
    );
    rows.push(match daemons {
        Some(d) => row.beside("daemon", d.2),
        None => row,
    });
    if let Err(why) = theirs {
        let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
        rows.push(Row::missing(format!("group of {PEOPLE} daemons"), why));
    }
    rows
}

fn starlings() -> Spread {
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        let mut s = Starling::start(&lab.host(&format!("s{n}")), &boot);
        let id = s.create_account(&format!("Person {n}"));
        people.push((s, id));
    }
    let mut clients: Vec<Client> = people.iter().map(|(s, _)| Client::new(s)).collect();
    let Some(((admin, _), others)) = people.split_first() else {
        unreachable!("there are twenty")
    };
    for (other, id) in others {
        let conversation = admin.add_contact(id);
        other.wait_request_for(&conversation);
        other.accept(&conversation);
    }
    let ids: Vec<&String> = others.iter().map(|(_, id)| id).collect();
    let group = admin.rpc(
        "conversation.create",
        json!({"account": admin.account(), "mode": "invitesOnly", "title": "Twenty", "members": ids}),
    );
    let group = group["id"].as_str().expect("an id").to_owned();
    for (other, _) in others {
        other.wait_request_for(&group);
        other.accept(&group);
    }
    for (client, (s, _)) in clients.iter_mut().zip(&people) {
        wait::until("all to have joined", || {
            let members = client.call(
                "conversation.members",
                json!({"account": s.account(), "conversation": group}),
            );
            let joined = |m: &&Value| m["role"] == "member" || m["role"] == "admin";
            let there = members.as_array()?.iter().filter(joined).count();
            (there == PEOPLE).then_some(())
        });
    }
    // Everyone finds everyone.
    for i in 0..PEOPLE {
        let body = format!("hello from {i}");
        if let Some(c) = clients.get_mut(i) {
            c.send(&group, &body);
        }
        for c in &clients {
            c.shown(&body);
        }
    }
    let mut spread = Spread {
        each: Vec::new(),
        last: Vec::new(),
        memory: f64::NAN,
    };
    for i in 0..MESSAGES {
        std::thread::sleep(PAUSE);
        let (from, body) = (
            i % PEOPLE,
            format!("number {i}: a message as people write them"),
        );
        let start = Instant::now();
        if let Some(c) = clients.get_mut(from) {
            c.send(&group, &body);
        }
        let times = clients
            .iter()
            .enumerate()
            .filter(|(n, _)| *n != from)
            .map(|(_, c)| {
                c.shown(&body)
                    .saturating_duration_since(start)
                    .as_secs_f64()
                    * 1e3
            });
        spread.add(times.collect());
    }
    if let Some((s, _)) = people.last() {
        spread.memory = process::memory(s.pid());
    }
    spread
}

impl Spread {
    fn add(&mut self, times: Vec<f64>) {
        self.last.push(times.iter().copied().fold(0.0, f64::max));
        self.each.extend(times);
    }
}

fn daemons() -> Spread {
    let end = Instant::now() + DAEMONS;
    let in_time = || {
        assert!(
            Instant::now() < end,
            "twenty daemons did not find together in {DAEMONS:?}"
        )
    };
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        let mut j = Jami::start(&lab.host(&format!("j{n}")), &boot);
        let id = j.create_account(&format!("Person {n}"), &boot);
        people.push((j, id));
        in_time();
    }
    let Some(((admin, _), others)) = people.split_first_mut() else {
        unreachable!("there are twenty")
    };
    for (other, id) in others.iter_mut() {
        let conversation = admin.add_contact(id);
        other.wait_request_for(&conversation);
        other.accept(&conversation);
        admin.wait_member(&conversation, id, 1);
        in_time();
    }
    let group = admin.start_conversation();
    for (other, id) in others.iter_mut() {
        admin.add_member(&group, id);
        other.wait_request_for(&group);
        other.accept(&group);
        admin.wait_member(&group, id, 1);
        in_time();
    }
    let mut spread = Spread {
        each: Vec::new(),
        last: Vec::new(),
        memory: f64::NAN,
    };
    for i in 0..PEOPLE + MESSAGES {
        std::thread::sleep(PAUSE);
        let (from, body) = (
            i % PEOPLE,
            format!("number {i}: a message as people write them"),
        );
        let marks: Vec<usize> = people.iter().map(|(j, _)| j.mark()).collect();
        let start = Instant::now();
        if let Some((j, _)) = people.get_mut(from) {
            let account = j.account();
            j.call("sendMessage", json!([account, group, body, "", 0]));
        }
        let mut times = Vec::new();
        for (n, ((j, _), mark)) in people.iter().zip(&marks).enumerate() {
            if n != from {
                let then = j.shown(&group, &body, *mark);
                times.push(then.saturating_duration_since(start).as_secs_f64() * 1e3);
            }
        }
        // The first ones find the way.
        if i >= PEOPLE {
            spread.add(times);
        }
        in_time();
    }
    if let Some((j, _)) = people.last() {
        spread.memory = process::memory(j.pid());
    }
    spread
}
