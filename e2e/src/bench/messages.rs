//! Two Starlings and two daemons on a private network: from sending to being shown, and what they use at rest.

use crate::process;
use crate::table::{Aim, Row, p50_p95};
use serde_json::json;
use starling_e2e::{Client, Host, Jami, Lab, Starling, jami};
use std::time::{Duration, Instant};

const MESSAGES: usize = 100;
/// People do not type faster; and what a message leaves to be done is not counted to the next.
const PAUSE: Duration = Duration::from_millis(50);
/// How long is looked at those who have nothing to do.
const REST: Duration = Duration::from_secs(20);
/// Messages that the daemon writes in a row.
const IN_A_ROW: usize = 60;

/// All of it takes some minutes.
pub(crate) fn run(ours_per_second: Option<f64>) -> Vec<Row> {
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let host = |lab: &mut Lab, name| lab.host(name);

    // Those without an account.
    let empty = Starling::start(&host(&mut lab, "empty"), &boot);
    let empty_daemon = Jami::start(&host(&mut lab, "empty-daemon"), &boot);

    let mut online = Vec::new();
    let (ann, _, seconds) = make_starling(&mut lab, "ann", &boot);
    online.push(seconds);
    let (ben, ben_id, seconds) = make_starling(&mut lab, "ben", &boot);
    online.push(seconds);
    let mut daemons_online = Vec::new();
    let (mut joe, joe_id, seconds) = make_daemon(&mut lab, "joe", &boot);
    daemons_online.push(seconds);
    let (mut kim, kim_id, seconds) = make_daemon(&mut lab, "kim", &boot);
    daemons_online.push(seconds);

    let ours = ann.add_contact(&ben_id);
    assert_eq!(ben.wait_request(), ours);
    ben.accept(&ours);
    ann.wait_role(&ours, &ben_id, "member");
    let mixed = ann.add_contact(&joe_id);
    assert_eq!(joe.wait_request(), mixed);
    joe.accept(&mixed);
    ann.wait_role(&mixed, &joe_id, "member");
    let theirs = joe.add_contact(&kim_id);
    assert_eq!(kim.wait_request(), theirs);
    kim.accept(&theirs);
    joe.wait_member(&theirs, &kim_id, 1);

    let mut a = Client::new(&ann);
    let b = Client::new(&ben);
    let (mut ss, mut sj, mut js, mut jj) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut disk, mut own, mut own_sending, mut fetched) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // The first ones find the way.
    for i in 0..MESSAGES + 5 {
        let millis = |since: Instant, then: Instant| {
            then.saturating_duration_since(since).as_secs_f64() * 1000.0
        };
        let text = |way: &str| format!("{way} number {i}: a message as people write them");
        let keep = |list: &mut Vec<f64>, value| {
            if i >= 5 {
                list.push(value);
            }
        };

        let (body, start) = (text("between Starlings"), Instant::now());
        a.send(&ours, &body);
        keep(&mut disk, millis(start, Instant::now()));
        keep(&mut ss, millis(start, b.shown(&body)));
        std::thread::sleep(PAUSE);

        let (body, mark, start) = (text("to the daemon"), joe.mark(), Instant::now());
        let id = a.send(&mixed, &body);
        let sent = Instant::now();
        let shown = joe.shown(&mixed, &body, mark);
        keep(&mut sj, millis(start, shown));
        keep(&mut own, millis(sent, shown));
        keep(&mut fetched, millis(start, a.fetched(&id)));
        std::thread::sleep(PAUSE);

        let (body, mark, start) = (text("from the daemon"), joe.mark(), Instant::now());
        let account = joe.account();
        joe.call("sendMessage", json!([account, mixed, body, "", 0]));
        keep(&mut js, millis(start, a.shown(&body)));
        keep(
            &mut own_sending,
            millis(start, joe.shown(&mixed, &body, mark)),
        );
        std::thread::sleep(PAUSE);

        let (body, mark, start) = (text("between daemons"), kim.mark(), Instant::now());
        joe.call("sendMessage", json!([account, theirs, body, "", 0]));
        keep(&mut jj, millis(start, kim.shown(&theirs, &body, mark)));
        std::thread::sleep(PAUSE);
    }
    let (jj50, jj95) = p50_p95(jj);
    let (disk50, disk95) = p50_p95(disk);
    let mut rows = Vec::new();
    for (way, times) in [
        ("Starling to Starling", ss),
        ("Starling to daemon", sj),
        ("daemon to Starling", js),
    ] {
        let (p50, p95) = p50_p95(times);
        for (which, value, daemons) in [("p50", p50, jj50), ("p95", p95, jj95)] {
            rows.push(
                Row::new(format!("sent to shown, {way}, {which}"), value, "ms")
                    .beside("daemon to daemon", daemons)
                    .aim(Aim::AtMost(daemons / 2.0)),
            );
        }
    }
    for (what, times) in [
        (
            "Starling to daemon: until the daemon has fetched it from us, p50",
            fetched,
        ),
        (
            "Starling to daemon: the daemon's part of it, from our notice to its showing, p50",
            own,
        ),
        (
            "daemon to Starling: until the daemon itself shows what it sends, p50",
            own_sending,
        ),
    ] {
        rows.push(Row::new(what, p50_p95(times).0, "ms"));
    }
    rows.push(Row::new(
        "sent to on the disk, by the API, p50",
        disk50,
        "ms",
    ));
    rows.push(Row::new(
        "sent to on the disk, by the API, p95",
        disk95,
        "ms",
    ));

    // At rest. What was just said may still be tidied up.
    std::thread::sleep(Duration::from_secs(5));
    let pids = [empty.pid(), empty_daemon.pid(), ann.pid(), joe.pid()];
    let cpu = process::cpu(&pids, REST);
    let memory: Vec<f64> = pids.iter().map(|p| process::memory(*p)).collect();
    if let ([e_cpu, ed_cpu, a_cpu, j_cpu], [e, ed, am, j]) = (&cpu[..], &memory[..]) {
        rows.push(
            Row::new("memory at rest, no account", *e, "MB")
                .beside("daemon", *ed)
                .aim(Aim::AtMost(40.0)),
        );
        rows.push(
            Row::new("memory at rest, in use", *am, "MB")
                .beside("daemon", *j)
                .aim(Aim::AtMost(60.0)),
        );
        rows.push(
            Row::new("processor at rest, no account", *e_cpu, "% of a core")
                .beside("daemon", *ed_cpu)
                .aim(Aim::AtMost(0.5)),
        );
        rows.push(
            Row::new("processor at rest, in use", *a_cpu, "% of a core")
                .beside("daemon", *j_cpu)
                .aim(Aim::AtMost(0.5)),
        );
    }
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    rows.push(
        Row::new(
            "from nothing to an account that is online",
            mean(&online),
            "s",
        )
        .beside("daemon", mean(&daemons_online)),
    );

    let before = process::disk(&joe.repository(&theirs));
    let start = Instant::now();
    for i in 0..IN_A_ROW {
        joe.send(
            &theirs,
            &format!("in a row, number {i}: a message as people write them"),
        );
    }
    let per_second = IN_A_ROW as f64 / start.elapsed().as_secs_f64();
    let each = (process::disk(&joe.repository(&theirs)) - before) / IN_A_ROW as f64;
    rows.push(match ours_per_second {
        Some(ours) => Row::new("commits written per second, on the disk each", ours, "/s")
            .beside("daemon", per_second)
            .aim(Aim::AtLeast(150.0)),
        None => Row::missing(
            "commits written per second, on the disk each",
            "the figures were left out",
        ),
    });
    rows.push(Row::new(
        "disk per message as the daemon keeps it",
        each / 1000.0,
        "kB",
    ));
    rows
}

fn make_starling(lab: &mut Lab, name: &str, boot: &Host) -> (Starling, String, f64) {
    let mut s = Starling::start(&lab.host(name), boot);
    let start = Instant::now();
    let id = s.create_account(name);
    (s, id, start.elapsed().as_secs_f64())
}

fn make_daemon(lab: &mut Lab, name: &str, boot: &Host) -> (Jami, String, f64) {
    let mut j = Jami::start(&lab.host(name), boot);
    let start = Instant::now();
    let id = j.create_account(name, boot);
    (j, id, start.elapsed().as_secs_f64())
}
