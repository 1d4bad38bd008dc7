//! `just bench`: what Starling takes for what people notice, beside the reference on the same machine in the same run.
//!
//!     bench [SECTION...]     crypto history dht messages group page clones; all without a name
//!     bench clones SIZE...   histories of so many commits only
//!
//! Nothing here gates anything. The machine is to be idle otherwise: the load at the start is in the result. The
//! table goes to standard output, and as JSON to target/bench.json.

mod clones;
mod dht;
mod figures;
mod group;
mod messages;
mod process;
mod table;

use serde_json::json;
use starling_e2e::{jami, starling};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use table::Row;

/// A section that fails is a row that says so; the others go on.
fn section(name: &str, run: impl FnOnce() -> Vec<Row>) -> Vec<Row> {
    eprintln!("bench: {name}");
    std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|why| {
        let why = why
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| why.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_default();
        let line = why.lines().next().unwrap_or_default().to_owned();
        vec![Row::missing(name, line)]
    })
}

fn main() {
    let (sizes, wanted): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|a| a.parse::<usize>().is_ok());
    let mut sizes: Vec<usize> = sizes.iter().filter_map(|s| s.parse().ok()).collect();
    if sizes.is_empty() {
        sizes.extend([1_000, 10_000, 100_000]);
    }
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let begun = load();
    let program = starling::binary().with_file_name("figures");
    assert!(program.is_file(), "{} is not built", program.display());
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    let mut rows = Vec::new();
    let mut per_second = None;
    if wants("crypto") {
        rows.extend(section("crypto", || figures::crypto(&program)));
    }
    if wants("history") {
        rows.extend(section("history", || {
            let (rows, written) = figures::history(&program);
            per_second = Some(written);
            rows
        }));
    }
    if wants("dht") {
        rows.extend(section("dht", || match starling_e2e::missing() {
            None => dht::run(&program),
            Some(why) => vec![Row::missing("DHT on loopback", why)],
        }));
    }
    for (name, run) in [
        (
            "messages",
            Box::new(|| messages::run(per_second)) as Box<dyn FnOnce() -> Vec<Row>>,
        ),
        ("group", Box::new(group::run)),
    ] {
        if wants(name) {
            rows.extend(section(name, || match jami::missing() {
                None => run(),
                Some(why) => vec![Row::missing(name, why)],
            }));
        }
    }
    if wants("page") {
        rows.extend(section("page", figures::page));
    }
    let mut clones = None;
    if wants("clones") {
        rows.extend(section("clones", || {
            clones = figures::clones(&program, &sizes);
            let history = program.with_file_name("history");
            match jami::missing() {
                None => clones::run(&history, &target.join("history"), &sizes),
                Some(why) => vec![Row::missing("clones beside a daemon", why)],
            }
        }));
    }
    let (machine, ended) = (machine(), load());
    println!(
        "On {machine}; load {begun} at the start, {ended} at the end; {}",
        starling::binary().display()
    );
    table::print(&rows);
    if let Some(clones) = &clones {
        println!("\nLong histories:\n{clones}");
    }
    let file = target.join("bench.json");
    let all = json!({
        "unixTime": std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        "machine": machine,
        "load": begun,
        "loadAtTheEnd": ended,
        "figures": table::json(&rows),
        "longHistories": clones,
    });
    std::fs::write(&file, format!("{all:#}\n")).expect("the result can be kept");
}

/// Programs that ran or waited to run, over the last minute.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// Processor and memory.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, m)| m);
    let cores = cpus.lines().filter(|l| l.starts_with("processor")).count();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: f64 = memory
        .lines()
        .find_map(|l| {
            l.strip_prefix("MemTotal:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(f64::NAN);
    format!("{cores} cores of {model}, {:.0} GB", kib * 1024.0 / 1e9)
}
