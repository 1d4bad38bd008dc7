//! The log of events: numbered, bounded, the same for every page.
//!
//! Each page reads it at its own pace with a cursor; there is no queue per page that could
//! grow. A page whose cursor has fallen out of the log has to read everything anew.

use super::{Ctx, Router};
use crate::serve::private::write_private;
use starling_core::api::method::GetEventsSince;
use starling_core::api::{
    ApiError, Event, EventsSince, EventsSinceParams, Notification, SequencedEvent,
};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// Events kept for replay: some minutes of a very busy account.
const KEEP_EVENTS: usize = 8192;

/// Bytes of frames kept for replay: 8 MiB, a fifth of what the whole bridge may take when empty.
const KEEP_BYTES: usize = 8 << 20;

/// Bytes of events in one answer: what fits a frame of 1 MiB with room to spare. Whoever missed
/// more is better off reading anew.
const REPLAY_BYTES: usize = 768 << 10;

/// Numbers reserved on disk at once, so that one write serves as many events.
const RESERVE: u64 = 1 << 16;

/// Where the highest reserved number is kept.
const FILE: &str = "events.seq";

/// An event and its frame, written once for all pages.
#[derive(Debug)]
pub struct Entry {
    /// The event.
    pub event: SequencedEvent,
    /// The notification that carries it, as text.
    pub frame: String,
}

/// What comes after a number.
#[derive(Debug)]
pub enum After {
    /// Something after it has been forgotten.
    Gap,
    /// Everything after it, oldest first, at most as many as asked.
    Entries(Vec<Arc<Entry>>),
}

struct Inner {
    ring: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// The newest number given.
    last: u64,
    /// The newest number that is not in the ring.
    forgotten: u64,
    /// Numbers up to this one never come again, whatever happens.
    reserved: u64,
}

/// The log.
pub struct EventLog {
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
    path: PathBuf,
}

impl EventLog {
    /// Goes on after the numbers of the last run. A restart always shows as a gap: pages read
    /// anew, since what is not written in any event (who is connected) has changed.
    pub fn open(data_dir: &Path) -> Self {
        let path = data_dir.join(FILE);
        let reserved = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().unwrap_or_else(|_| {
                // Damaged: the clock in milliseconds is above any number ever given.
                tracing::warn!(path = %path.display(), "Damaged; event numbers start anew.");
                u64::try_from(super::now_millis()).unwrap_or(0)
            }),
            Err(_) => 0,
        };
        let last = reserved.saturating_add(1);
        let log = Self {
            inner: Mutex::new(Inner {
                ring: VecDeque::new(),
                bytes: 0,
                last,
                forgotten: last,
                reserved,
            }),
            newest: watch::Sender::new(last),
            path,
        };
        log.reserve(&mut log.lock());
        log
    }

    /// Writes down that numbers are taken, before they are given.
    fn reserve(&self, inner: &mut Inner) {
        let reserve = inner.last.saturating_add(RESERVE);
        if let Err(e) = write_private(&self.path, reserve.to_string().as_bytes()) {
            // Pages of this run lose nothing; after a crash one might be told there is no gap.
            tracing::warn!(error = %e, "Event numbers cannot be reserved.");
        }
        inner.reserved = reserve;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes an event in; gives its number.
    pub fn emit(&self, event: Event) -> u64 {
        let mut inner = self.lock();
        inner.last = inner.last.saturating_add(1);
        let seq = inner.last;
        if seq > inner.reserved {
            self.reserve(&mut inner);
        }
        let event = SequencedEvent { seq, event };
        let frame = match serde_json::to_string(&Notification::new(event.clone())) {
            Ok(frame) => frame,
            Err(e) => {
                tracing::error!(error = %e, "An event cannot be written.");
                return seq;
            }
        };
        inner.bytes += frame.len();
        inner.ring.push_back(Arc::new(Entry { event, frame }));
        while inner.ring.len() > KEEP_EVENTS || inner.bytes > KEEP_BYTES {
            let Some(old) = inner.ring.pop_front() else {
                break;
            };
            inner.bytes -= old.frame.len();
            inner.forgotten = old.event.seq;
        }
        drop(inner);
        self.newest.send_replace(seq);
        seq
    }

    /// The newest number.
    pub fn last(&self) -> u64 {
        self.lock().last
    }

    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.lock().ring.len()
    }

    /// Changes whenever there is something new.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// What comes after a number.
    pub fn after(&self, seq: u64, limit: usize) -> After {
        let inner = self.lock();
        if seq < inner.forgotten || seq > inner.last {
            return After::Gap;
        }
        let start = inner.ring.partition_point(|e| e.event.seq <= seq);
        After::Entries(inner.ring.iter().skip(start).take(limit).cloned().collect())
    }

    /// Writes the newest number down, so that no number is wasted.
    pub fn close(&self) {
        let mut inner = self.lock();
        match write_private(&self.path, inner.last.to_string().as_bytes()) {
            Ok(()) => inner.reserved = inner.last,
            Err(e) => tracing::warn!(error = %e, "The last event's number could not be written."),
        }
    }
}

pub(super) fn register(r: &mut Router) {
    r.on(GetEventsSince, since);
}

async fn since(ctx: Ctx, p: EventsSinceParams) -> Result<EventsSince, ApiError> {
    let log = &ctx.app.events;
    let gap = |seq| EventsSince {
        gap: true,
        seq,
        events: Vec::new(),
    };
    let last = log.last();
    let After::Entries(entries) = log.after(p.seq, KEEP_EVENTS) else {
        return Ok(gap(last));
    };
    let seen: Vec<_> = entries
        .iter()
        .filter(|e| ctx.caller.sees(&e.event.event))
        .collect();
    if seen.iter().map(|e| e.frame.len()).sum::<usize>() > REPLAY_BYTES {
        return Ok(gap(last));
    }
    Ok(EventsSince {
        gap: false,
        seq: entries.last().map_or(last, |e| e.event.seq),
        events: seen.iter().map(|e| e.event.clone()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_core::api::NoticeLevel;

    fn notice(text: &str) -> Event {
        Event::BridgeNotice {
            level: NoticeLevel::Info,
            code: "t".into(),
            text: text.into(),
            account: None,
        }
    }

    fn numbers(after: After) -> Option<Vec<u64>> {
        match after {
            After::Gap => None,
            After::Entries(e) => Some(e.iter().map(|e| e.event.seq).collect()),
        }
    }

    #[test]
    fn numbers_grow_by_one_and_what_was_missed_comes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = EventLog::open(dir.path());
        let start = log.last();
        assert_eq!(log.emit(notice("a")), start + 1);
        assert_eq!(log.emit(notice("b")), start + 2);
        assert_eq!(
            numbers(log.after(start, 9)),
            Some(vec![start + 1, start + 2])
        );
        assert_eq!(numbers(log.after(start + 2, 9)), Some(vec![]));
        assert_eq!(numbers(log.after(start, 1)), Some(vec![start + 1]));
        assert_eq!(numbers(log.after(start + 3, 9)), None, "from the future");
    }

    #[test]
    fn what_is_too_old_is_a_gap_and_the_log_is_bounded() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = EventLog::open(dir.path());
        let start = log.last();
        for _ in 0..KEEP_EVENTS + 10 {
            log.emit(notice("x"));
        }
        assert_eq!(log.kept(), KEEP_EVENTS);
        assert_eq!(numbers(log.after(start, 1)), None);
        assert_eq!(numbers(log.after(start + 9, 1)), None);
        assert_eq!(numbers(log.after(start + 10, 1)), Some(vec![start + 11]));
        let large = "y".repeat(KEEP_BYTES / 4);
        for _ in 0..8 {
            log.emit(notice(&large));
        }
        assert!(log.kept() <= 4);
    }

    #[test]
    fn a_restart_is_a_gap_and_numbers_never_come_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = EventLog::open(dir.path());
        let seen = log.emit(notice("a"));
        log.close();
        let after_stop = EventLog::open(dir.path());
        assert!(after_stop.last() > seen);
        assert_eq!(numbers(after_stop.after(seen, 9)), None);
        let seen = after_stop.emit(notice("b"));
        drop(after_stop); // A crash.
        let silent = EventLog::open(dir.path());
        let seen = seen.max(silent.last());
        drop(silent); // Another, before anything happened.
        let after_crash = EventLog::open(dir.path());
        assert!(after_crash.last() > seen);
        assert_eq!(numbers(after_crash.after(seen, 9)), None);
        std::fs::write(dir.path().join(FILE), "not a number").expect("to write");
        assert!(EventLog::open(dir.path()).last() > seen);
    }
}
