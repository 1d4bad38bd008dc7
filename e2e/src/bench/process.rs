//! What a process uses, by what the kernel says in /proc.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Resident memory in megabytes (10^6 bytes).
pub(crate) fn memory(pid: u32) -> f64 {
    status(pid, "VmRSS:")
}

/// The most resident memory since [`forget_peak`], in megabytes.
pub(crate) fn peak(pid: u32) -> f64 {
    status(pid, "VmHWM:")
}

/// From now on the peak is counted anew.
pub(crate) fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process of ours");
}

fn status(pid: u32, line: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib: f64 = status
        .lines()
        .find_map(|l| {
            l.strip_prefix(line)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(f64::NAN);
    kib * 1024.0 / 1e6
}

/// Seconds that a process has been on a processor, threads that have ended included.
pub(crate) fn spent(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything: state, ten more, utime, stime.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let mut ticks = after.split_whitespace().skip(11);
    let mut next = || ticks.next().and_then(|t| t.parse().ok());
    let (Some(user), Some(system)): (Option<f64>, Option<f64>) = (next(), next()) else {
        return f64::NAN;
    };
    // USER_HZ, which is 100 wherever Linux runs on what we run on.
    (user + system) / 100.0
}

/// Seconds that each thread has been on a processor.
fn threads(pid: u32) -> BTreeMap<String, f64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|t| {
            let text = std::fs::read_to_string(t.path().join("schedstat")).ok()?;
            let nanos: f64 = text.split(' ').next()?.parse().ok()?;
            Some((t.file_name().to_string_lossy().into_owned(), nanos / 1e9))
        })
        .collect()
}

/// Which part of one processor each process takes over some time, in percent.
pub(crate) fn cpu(pids: &[u32], time: Duration) -> Vec<f64> {
    let before: Vec<_> = pids.iter().map(|p| threads(*p)).collect();
    let start = Instant::now();
    std::thread::sleep(time);
    let seconds = start.elapsed().as_secs_f64();
    pids.iter()
        .zip(before)
        .map(|(pid, before)| {
            let spent: f64 = threads(*pid)
                .iter()
                .map(|(thread, now)| now - before.get(thread).unwrap_or(&0.0))
                .sum();
            spent / seconds * 100.0
        })
        .collect()
}

/// Waits until each of some processes has nothing to do, or half a minute is over.
pub(crate) fn rest(pids: &[u32]) {
    /// In percent of a processor.
    const BUSY: f64 = 4.0;
    let begun = Instant::now();
    while cpu(pids, Duration::from_millis(500))
        .iter()
        .any(|c| *c > BUSY)
        && begun.elapsed() < Duration::from_secs(30)
    {}
}

/// Seconds that all programs which have ended were on a processor.
pub(crate) fn children() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(f64::NAN, |u| {
        (u.user_time() + u.system_time()).num_microseconds() as f64 / 1e6
    })
}

/// A program that reads lines and answers in lines.
pub(crate) struct Dialogue {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Dialogue {
    /// Starts it, and waits for a line that says it is ready.
    pub(crate) fn start(mut command: Command, ready: impl Fn(&str) -> bool) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let stdin = child.stdin.take().expect("piped");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let this = Self {
            child,
            stdin,
            lines,
        };
        this.wait(|l| ready(l).then_some(()));
        this
    }

    fn wait<T>(&self, pick: impl Fn(&str) -> Option<T>) -> T {
        loop {
            let line = self
                .lines
                .recv_timeout(starling_e2e::wait::PATIENCE)
                .expect("the program answers");
            if let Some(found) = pick(&line) {
                return found;
            }
        }
    }

    /// Says a line, and waits for the answer.
    pub(crate) fn ask<T>(&mut self, line: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        self.stdin
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| self.stdin.flush())
            .expect("the program listens");
        self.wait(pick)
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes of disk that a directory takes, in whole blocks.
pub(crate) fn disk(dir: &std::path::Path) -> f64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0.0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        sum += metadata.blocks() as f64 * 512.0;
        if metadata.is_dir() {
            sum += disk(&entry.path());
        }
    }
    sum
}
