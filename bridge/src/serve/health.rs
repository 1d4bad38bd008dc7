//! What a person needs to know when something does not work: looked at, not guessed.

use super::private::write_private;
use starling_core::api::{Check, CheckStatus};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Less free space than this is a warning: 200 MB hold some years of conversations.
const LITTLE_SPACE: u64 = 200 << 20;
/// Less than this and writes will soon fail.
const NO_SPACE: u64 = 16 << 20;
/// 2026-01-01: no clock that is right says an earlier time.
const EARLIEST: u64 = 1_767_225_600;
/// 2100-01-01, likewise.
const LATEST: u64 = 4_102_444_800;

/// A finding.
pub fn check(name: &str, status: CheckStatus, detail: impl Into<String>) -> Check {
    Check {
        name: name.into(),
        status,
        detail: detail.into(),
        advice: None,
    }
}

/// The same with advice.
pub fn advise(mut check: Check, advice: &str) -> Check {
    check.advice = Some(advice.into());
    check
}

/// Everything that can be looked at without a network.
pub fn checks(data_dir: &Path) -> Vec<Check> {
    vec![
        writable(data_dir),
        space(data_dir),
        clock(),
        ipv4(),
        ipv6(),
        browser(),
    ]
}

fn writable(dir: &Path) -> Check {
    const NAME: &str = "data directory";
    if !dir.exists() {
        let detail = format!("{} is made at the first start", dir.display());
        return check(NAME, CheckStatus::Ok, detail);
    }
    let probe = dir.join(format!("probe-{}", std::process::id()));
    match write_private(&probe, b"x") {
        Ok(()) => {
            let _ = std::fs::remove_file(&probe);
            let detail = format!("{} can be written", dir.display());
            check(NAME, CheckStatus::Ok, detail)
        }
        Err(e) => advise(
            check(NAME, CheckStatus::Failed, e.to_string()),
            "Make it writable, or choose another with --data-dir.",
        ),
    }
}

/// The nearest directory that exists.
fn existing(dir: &Path) -> PathBuf {
    dir.ancestors()
        .find(|d| d.exists())
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

#[cfg(unix)]
fn space(dir: &Path) -> Check {
    const NAME: &str = "disk space";
    let free = match rustix::fs::statvfs(existing(dir)) {
        Ok(s) => s.f_bavail.saturating_mul(s.f_frsize),
        Err(e) => return check(NAME, CheckStatus::Skipped, format!("the system says: {e}")),
    };
    let detail = format!("{} MiB free", free >> 20);
    let advice = "Make room: nothing can be sent or received without.";
    match free {
        ..NO_SPACE => advise(check(NAME, CheckStatus::Failed, detail), advice),
        NO_SPACE..LITTLE_SPACE => advise(check(NAME, CheckStatus::Warning, detail), advice),
        _ => check(NAME, CheckStatus::Ok, detail),
    }
}

#[cfg(not(unix))]
fn space(dir: &Path) -> Check {
    let detail = format!("not looked at here ({})", existing(dir).display());
    check("disk space", CheckStatus::Skipped, detail)
}

fn clock() -> Check {
    const NAME: &str = "clock";
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    if (EARLIEST..LATEST).contains(&now) {
        return check(
            NAME,
            CheckStatus::Ok,
            format!("{now} s since 1970, plausible"),
        );
    }
    advise(
        check(
            NAME,
            CheckStatus::Failed,
            format!("{now} s since 1970 cannot be right"),
        ),
        "Set the clock: certificates count as expired or not yet valid with a wrong one.",
    )
}

/// Whether there is a way out; nothing is sent.
fn route(from: SocketAddr, to: SocketAddr) -> std::io::Result<SocketAddr> {
    let socket = UdpSocket::bind(from)?;
    socket.connect(to)?;
    socket.local_addr()
}

fn ipv4() -> Check {
    const NAME: &str = "IPv4";
    // An address of the documentation range: a route is looked up, no packet leaves.
    let to = SocketAddr::from(([192, 0, 2, 1], 9));
    match route(SocketAddr::from(([0, 0, 0, 0], 0)), to) {
        Ok(own) => check(
            NAME,
            CheckStatus::Ok,
            format!("a route out, from {}", own.ip()),
        ),
        Err(e) => advise(
            check(NAME, CheckStatus::Warning, format!("no route out: {e}")),
            "Without a network only this machine and its local network can be reached.",
        ),
    }
}

fn ipv6() -> Check {
    const NAME: &str = "IPv6";
    let to = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9));
    match route(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), to) {
        Ok(own) => check(
            NAME,
            CheckStatus::Ok,
            format!("a route out, from {}", own.ip()),
        ),
        Err(e) => advise(
            check(NAME, CheckStatus::Warning, format!("no route out: {e}")),
            "IPv4 alone works; with IPv6 more people can be reached directly.",
        ),
    }
}

/// What opens a page here, in this order.
const BROWSERS: &[&str] = &[
    "firefox",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "brave-browser",
    "microsoft-edge",
    "epiphany",
];

/// The path of a program.
pub fn find_program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|d| d.join(name))
        .find(|p| p.is_file())
}

fn browser() -> Check {
    const NAME: &str = "browser";
    match BROWSERS.iter().find_map(|b| find_program(b)) {
        Some(path) => check(
            NAME,
            CheckStatus::Ok,
            format!("{} is there", path.display()),
        ),
        None => advise(
            check(NAME, CheckStatus::Warning, "none was found on this machine"),
            "Firefox 129, Chromium 137, Safari 17 or later work.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_written_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(writable(dir.path()).status, CheckStatus::Ok);
        assert_eq!(std::fs::read_dir(dir.path()).expect("to list").count(), 0);
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("to write");
        let found = writable(&file);
        assert_eq!(found.status, CheckStatus::Failed);
        assert!(found.advice.is_some());
    }

    #[test]
    fn every_finding_has_a_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let all = checks(&dir.path().join("not/there/yet"));
        assert!(
            all.iter()
                .all(|c| !c.name.is_empty() && !c.detail.is_empty())
        );
        assert!(all.iter().any(|c| c.name == "disk space"));
    }
}
