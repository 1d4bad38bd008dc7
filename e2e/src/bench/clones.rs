//! A long conversation, cloned and validated: by a Starling and by a daemon, over the same network from the same Starling.
//!
//! The history is written once and kept beside the build, as the whole data of the Starling that wrote it: each of its
//! commits takes a signature, and is signed by a device that the group knows.

use crate::process;
use crate::table::{Aim, Row};
use serde_json::json;
use starling_e2e::{Client, Host, Jami, Lab, Starling, jami};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long somebody may take for one.
const LIMIT: Duration = Duration::from_secs(600);
/// How much faster Starling is to be.
const FASTER: f64 = 5.0;

/// What a clone took: seconds on the wall and on a processor, and megabytes at the most.
struct Clone {
    wall: f64,
    processor: f64,
    peak: f64,
    before: f64,
}

/// Starts counting for a process.
fn watch(pid: u32) -> impl FnOnce() -> Clone {
    let (spent, before) = (process::spent(pid), process::memory(pid));
    process::forget_peak(pid);
    let start = Instant::now();
    move || Clone {
        wall: start.elapsed().as_secs_f64(),
        processor: process::spent(pid) - spent,
        peak: process::peak(pid),
        before,
    }
}

/// `history`: the program that writes one. `kept`: where they are kept. `sizes`: commits of each.
pub(crate) fn run(history: &Path, kept: &Path, sizes: &[usize]) -> Vec<Row> {
    sizes
        .iter()
        .flat_map(|size| one(history, &kept.join(format!("shared-{size}")), *size))
        .collect()
}

fn one(history: &Path, kept: &Path, size: usize) -> Vec<Row> {
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let host = lab.host("writer");
    if !kept.join("id").is_file() {
        write(history, kept, size, &host, &boot);
    }
    let group = std::fs::read_to_string(kept.join("id")).expect("the conversation's id");
    let mut writer = bring_back(kept, &host, &boot);
    // It has its index before anybody asks.
    let page = json!({"account": writer.account(), "conversation": group, "limit": 1});
    writer.rpc("conversation.history", page);

    let mut ours = Starling::start(&lab.host("starling"), &boot);
    let our_id = ours.create_account("Starling");
    let mut theirs = Jami::start(&lab.host("daemon"), &boot);
    let their_id = theirs.create_account("Daemon", &boot);
    let with = writer.add_contact(&our_id);
    ours.wait_request_for(&with);
    ours.accept(&with);
    writer.wait_role(&with, &our_id, "member");
    let with = writer.add_contact(&their_id);
    theirs.wait_request_for(&with);
    theirs.accept(&with);
    writer.wait_role(&with, &their_id, "member");

    for id in [&our_id, &their_id] {
        let invite = json!({"account": writer.account(), "conversation": group, "id": id});
        writer.rpc("conversation.invite", invite);
    }
    ours.wait_request_for(&group);
    theirs.wait_request_for(&group);

    // One after the other: the writer has work with both. And when nobody is busy with anything
    // else: a daemon makes numbers for its new account for seconds.
    let all = [writer.pid(), ours.pid(), theirs.pid()];
    process::rest(&all);
    let mut page = Client::new(&ours);
    let accept = json!({"account": ours.account(), "conversation": group});
    let done = watch(ours.pid());
    page.call("request.accept", accept);
    ours.wait_ready_within(&group, LIMIT);
    let starling = done();
    process::rest(&all);
    let done = watch(theirs.pid());
    let ready = theirs.accept_within(&group, LIMIT);
    let daemon = done();
    assert_eq!(
        theirs.conversation_errors(),
        Vec::<serde_json::Value>::new()
    );
    writer.down();

    let clone = format!("clone of {size} commits");
    let mut time = Row::new(
        format!("{clone} over the network, from accepting to ready"),
        starling.wall,
        "s",
    );
    let mut processor = Row::new(
        format!("{clone}, processor time of who clones"),
        starling.processor,
        "s",
    );
    let mut memory = Row::new(
        format!("{clone}, most memory while at it, above what was used before"),
        starling.peak - starling.before,
        "MB",
    );
    if ready {
        time = time
            .beside("daemon", daemon.wall)
            .aim(Aim::AtMost(daemon.wall / FASTER));
        processor = processor.beside("daemon", daemon.processor);
        memory = memory.beside("daemon", daemon.peak - daemon.before);
    } else {
        time = time
            .beside("daemon not ready after", daemon.wall)
            .aim(Aim::AtMost(daemon.wall / FASTER));
        processor = processor.beside("daemon until then", daemon.processor);
        memory = memory.beside("daemon until then", daemon.peak - daemon.before);
    }
    vec![time, processor, memory]
}

/// Makes an account with a group of one, and writes a long history into it.
fn write(history: &Path, kept: &Path, size: usize, host: &Host, boot: &Host) {
    let mut writer = Starling::start(host, boot);
    writer.create_account("Writer");
    let group = writer.rpc(
        "conversation.create",
        json!({"account": writer.account(), "mode": "invitesOnly", "title": "Long"}),
    );
    let group = group["id"].as_str().expect("an id").to_owned();
    let account = writer.data_dir().join("accounts").join(writer.account());
    writer.down();
    let begun = Instant::now();
    let status = Command::new(history)
        .arg("grow")
        .arg(&account)
        .args([&group, &size.to_string()])
        .status()
        .expect("it starts");
    assert!(status.success(), "the history was not written");
    eprintln!("bench: {size} commits written in {:?}", begun.elapsed());
    let _ = std::fs::remove_dir_all(kept);
    std::fs::create_dir_all(kept).expect("a directory");
    copy(&writer.data_dir(), &kept.join("data"));
    std::fs::remove_dir_all(writer.data_dir()).expect("removed");
    std::fs::write(kept.join("id"), group).expect("written");
}

/// A Starling with the data that was kept.
fn bring_back(kept: &Path, host: &Host, boot: &Host) -> Starling {
    copy(&kept.join("data"), &host.dir.join("starling"));
    let mut writer = Starling::start(host, boot);
    writer.adopt_account();
    writer
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(
        status.is_ok_and(|s| s.success()),
        "{} is not copied",
        from.display()
    );
}
