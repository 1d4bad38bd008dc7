//! Figures of programs that run alone: the library's own, `openssl`, `starling verify`, and the page's weight.

use crate::process;
use crate::table::{Aim, Row};
use serde_json::Value;
use starling_e2e::{net, starling};
use std::path::Path;
use std::process::{Command, Stdio};

/// Accounts that are made one after the other.
const ACCOUNTS: u32 = 10;
/// Messages of the history that is written, packed and validated.
const MESSAGES: u32 = 1000;

/// Runs it on one core, where that can be had.
fn on_one_core(program: &Path) -> Command {
    if net::which("taskset").is_none() {
        return Command::new(program);
    }
    let mut c = Command::new("taskset");
    c.args(["-c", "0"]).arg(program);
    c
}

fn answer(mut command: Command) -> Value {
    let out = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("it starts");
    assert!(out.status.success(), "{command:?} failed");
    serde_json::from_slice(&out.stdout).expect("it prints JSON")
}

/// Accounts and signatures.
pub(crate) fn crypto(figures: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut c = Command::new(figures);
    c.args(["accounts", &ACCOUNTS.to_string()]);
    let seconds = answer(c)["seconds"].as_f64().unwrap_or(f64::NAN);
    rows.push(Row::new(
        "accounts created per second (three RSA-4096 keys each)",
        f64::from(ACCOUNTS) / seconds,
        "/s",
    ));

    let mut c = on_one_core(figures);
    c.args(["signatures", "3"]);
    let ours = answer(c)["perSecond"].as_f64().unwrap_or(f64::NAN);
    let row = Row::new(
        "RSA-4096 signatures checked per second and core",
        ours,
        "/s",
    );
    rows.push(match openssl() {
        Some(theirs) => row
            .beside("openssl speed", theirs)
            .aim(Aim::AtLeast(theirs / 1.3)),
        None => row,
    });
    rows
}

/// "rsa 4096 bits 0.003250s 0.000052s    307.7  19163.2": the last number, of processor time.
fn openssl() -> Option<f64> {
    let mut c = on_one_core(&net::which("openssl")?);
    let out = c
        .args(["speed", "-seconds", "3", "rsa4096"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .find(|l| l.starts_with("rsa 4096"))?
        .split_whitespace()
        .last()?
        .parse()
        .ok()
}

/// Writing, disk and validation; and how many commits were written in a second.
pub(crate) fn history(figures: &Path) -> (Vec<Row>, f64) {
    let dir = tempfile::tempdir().expect("a directory");
    let number = |v: &Value, key: &str| v[key].as_f64().unwrap_or(f64::NAN);
    let run = |mut c: Command, name: &str| {
        let dir = dir.path().join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        c.arg("history").arg(dir).arg(MESSAGES.to_string());
        answer(c)
    };
    // Writing is measured as it is used, on all cores and by the clock on the wall; checking on one core, by its time.
    let all = run(Command::new(figures), "all");
    let one = run(on_one_core(figures), "one");
    let written = number(&all, "writtenPerSecond");

    // The whole program: start, packs from the disk, rules, signatures.
    let mut c = on_one_core(&starling::binary());
    c.arg("verify")
        .arg(one["repository"].as_str().unwrap_or_default())
        .stdout(Stdio::null());
    let before = process::children();
    let status = c.status().expect("starling runs");
    let verify = process::children() - before;
    assert!(status.success(), "the history is not in order");
    let rows = vec![
        Row::new(
            "a commit by the library, until it is on the disk, p50",
            number(&all, "p50") * 1e3,
            "ms",
        ),
        Row::new(
            "a commit by the library, until it is on the disk, p95",
            number(&all, "p95") * 1e3,
            "ms",
        ),
        Row::new(
            "commits validated per second and core",
            number(&one, "validatedPerSecond"),
            "/s",
        )
        .aim(Aim::AtLeast(10_000.0)),
        Row::new(
            format!(
                "the same by `starling verify`, whole program, {} commits",
                one["commits"]
            ),
            number(&one, "commits") / verify,
            "/s",
        ),
        Row::new(
            "disk per message, packed",
            number(&all, "bytesPerMessage") / 1e3,
            "kB",
        )
        .aim(Aim::AtMost(1.0)),
    ];
    (rows, written)
}

/// Long histories, cloned and validated: a program beside `figures` that prints a table of its own, where it is built.
pub(crate) fn clones(figures: &Path, sizes: &[usize]) -> Option<String> {
    let program = figures.with_file_name("history");
    if !program.is_file() {
        return None;
    }
    let out = Command::new(&program)
        .args(sizes.iter().map(usize::to_string))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("it starts");
    assert!(out.status.success(), "{} failed", program.display());
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// What a browser downloads of the released page: the brotli form where there is one.
pub(crate) fn page() -> Vec<Row> {
    let dist = std::env::var_os("STARLING_DIST").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist"),
        Into::into,
    );
    fn weigh(dir: &Path, packed: &mut bool) -> f64 {
        let mut sum = 0.0;
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                sum += weigh(&path, packed);
            } else if !name.starts_with('.') && !name.ends_with(".br") && !name.ends_with(".gz") {
                let small = path.with_file_name(format!("{name}.br"));
                *packed |= small.exists();
                let file = if small.exists() { small } else { path };
                sum += file.metadata().map_or(f64::NAN, |m| m.len() as f64);
            }
        }
        sum
    }
    let mut packed = false;
    let sum = weigh(&dist, &mut packed);
    let what = "page, all files, with brotli";
    if !packed {
        return vec![Row::missing(
            what,
            format!("no released page in {}: just release-page", dist.display()),
        )];
    }
    vec![Row::new(what, sum / 1e3, "kB").aim(Aim::AtMost(900.0))]
}
