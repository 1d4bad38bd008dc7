//! The DHT on loopback: eight nodes of one kind, and a ninth that puts and gets one value after the other. The same
//! with Debian's `dhtnode` and with the Python wheel, each among its own. Each tells how long it took itself.

use crate::process::Dialogue;
use crate::table::{Row, p50_p95};
use serde_json::Value;
use starling_e2e::{Host, Lab, net, starling, wait};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const NODES: u16 = 8;
const ROUNDS: usize = 100;
/// Between two operations: nodes of the reference take only so many requests a second from one address.
const PAUSE: Duration = Duration::from_millis(30);

type Figures = Vec<(&'static str, (f64, f64), (f64, f64))>;

/// Puts and gets by each kind.
pub(crate) fn run(figures: &Path) -> Vec<Row> {
    let mut found = Figures::new();
    let (put, get) = ours(figures);
    found.push(("Starling", put, get));
    if net::which("dhtnode").is_some() {
        let (put, get) = debian();
        found.push(("dhtnode", put, get));
    }
    if Command::new("python3")
        .args(["-c", "import opendht"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
    {
        let (put, get) = wheel();
        found.push(("OpenDHT 4.4", put, get));
    }
    let mut rows = Vec::new();
    for (what, pick) in [
        (
            "DHT put",
            (|f: &(&str, (f64, f64), (f64, f64))| f.1) as fn(&_) -> _,
        ),
        ("DHT get", |f| f.2),
    ] {
        for (which, of) in [
            ("p50", (|v: (f64, f64)| v.0) as fn(_) -> _),
            ("p95", |v| v.1),
        ] {
            let mut all = found.iter().map(|f| (f.0, of(pick(f))));
            let Some((_, first)) = all.next() else {
                continue;
            };
            let row = Row::new(format!("{what} on loopback, {which}"), first, "ms");
            rows.push(all.fold(row, |row, (who, v)| row.beside(who, v)));
        }
    }
    rows
}

/// Puts and gets until the network is warm, then for the record. `put` and `get` give milliseconds, or nothing
/// when it did not work.
fn measure(
    put: &mut dyn FnMut(&str, &str) -> Option<f64>,
    get: &mut dyn FnMut(&str) -> Option<f64>,
) -> ((f64, f64), (f64, f64)) {
    let key = |n: usize| {
        format!(
            "{:040x}",
            (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        )
    };
    let mut n = 0;
    let mut good = 0;
    wait::until("a DHT that works", || {
        n += 1;
        std::thread::sleep(PAUSE);
        let both = put(&key(n), "warm").is_some() && get(&key(n)).is_some();
        good = if both { good + 1 } else { 0 };
        (good == 10).then_some(())
    });
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for i in 0..ROUNDS {
        std::thread::sleep(PAUSE);
        puts.push(put(&key(1000 + i), "value").expect("the value is stored"));
        std::thread::sleep(PAUSE);
        gets.push(get(&key(1000 + i)).expect("the value is found"));
    }
    (p50_p95(puts), p50_p95(gets))
}

/// A machine with eight nodes; the first is at port 4000, the others know it.
fn network(lab: &mut Lab, node: impl Fn(&Host, u16) -> Command) -> Host {
    let host = lab.host("dht");
    for port in 4000..4000 + NODES {
        let child = node(&host, port)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a node starts");
        lab.keep(child);
    }
    host
}

fn ours(figures: &Path) -> ((f64, f64), (f64, f64)) {
    let mut lab = Lab::new();
    let host = network(&mut lab, |host, port| {
        let mut c = host.command(starling::binary());
        c.args(["dhtnode", "--port", &port.to_string()]);
        if port > 4000 {
            c.args(["--bootstrap", "127.0.0.1:4000"]);
        }
        c
    });
    let mut c = host.command(figures);
    c.args(["dht", "127.0.0.1:4000"]);
    let program = std::cell::RefCell::new(Dialogue::start(c, |l| l == "ready"));
    let ask = |line: String| {
        program.borrow_mut().ask(&line, |l| {
            let (micros, found) = l.strip_prefix("took ")?.split_once(' ')?;
            Some((found != "0").then_some(micros.parse::<f64>().ok()? / 1000.0))
        })
    };
    measure(
        &mut |key, text| ask(format!("put {key} {text}")),
        &mut |key| ask(format!("get {key}")),
    )
}

fn debian() -> ((f64, f64), (f64, f64)) {
    let mut lab = Lab::new();
    let dhtnode = |host: &Host, port: u16| {
        let mut c = host.command("dhtnode");
        c.args(["-p", &port.to_string()]);
        if port > 4000 {
            c.args(["-b", "127.0.0.1:4000"]);
        }
        c
    };
    let host = network(&mut lab, dhtnode);
    let program = std::cell::RefCell::new(Dialogue::start(dhtnode(&host, 5000), |l| {
        l.contains("running on port")
    }));
    // "Put: success, took 1.2 ms. Value ID: …", "Get: completed, took 239 us (total 1)"
    let ask = |line: String, what: &'static str| {
        program.borrow_mut().ask(&line, |l| {
            let (_, rest) = l.split_once(what)?;
            let (verdict, rest) = rest.split_once(", took ")?;
            let mut words = rest.split_whitespace();
            let number: f64 = words.next()?.parse().ok()?;
            let unit = words.next()?.trim_end_matches('.');
            let millis = match unit {
                "ns" => number / 1e6,
                "us" => number / 1e3,
                "ms" => number,
                "s" => number * 1e3,
                other => panic!("dhtnode counts in {other:?}"),
            };
            let empty = l.contains("(total 0)");
            Some((verdict != "failure" && !empty).then_some(millis))
        })
    };
    measure(
        &mut |key, text| ask(format!("p {key} {text}"), "Put: "),
        &mut |key| ask(format!("g {key}"), "Get: "),
    )
}

fn wheel() -> ((f64, f64), (f64, f64)) {
    let mut lab = Lab::new();
    let node = |host: &Host, port: u16| {
        let mut c = host.command("python3");
        c.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/dht_peer.py"));
        c.arg(port.to_string());
        if port > 4000 {
            c.arg("127.0.0.1:4000");
        }
        c
    };
    let host = network(&mut lab, node);
    let program =
        std::cell::RefCell::new(Dialogue::start(node(&host, 5000), |l| l.contains("ready")));
    let next = std::cell::Cell::new(0);
    let ask = |what: &str, key: &str| {
        let n = next.get() + 1;
        next.set(n);
        let line = format!(r#"{{"n":{n},"do":"{what}","key":"{key}","data":"76616c7565"}}"#);
        program.borrow_mut().ask(&line, |l| {
            let answer: Value = serde_json::from_str(l).ok()?;
            (answer["n"] == n).then_some(())?;
            let empty = answer["values"].as_array().is_some_and(Vec::is_empty);
            let worked = answer["ok"] == true && !empty;
            Some(worked.then(|| answer["took"].as_f64().unwrap_or(f64::NAN) / 1000.0))
        })
    };
    measure(&mut |key, _| ask("put", key), &mut |key| ask("get", key))
}
