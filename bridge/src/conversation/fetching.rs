//! When to fetch from which device: one fetch at a time each, news during a
//! fetch are not lost, and one owner of backoff that every path asks.

use starling_core::id::{DeviceId, ObjectId};
use starling_core::swarm::spread::{MAX_REFUSED, pause};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Default)]
struct Device {
    running: bool,
    again: bool,
    failures: u32,
    not_before: Option<Instant>,
    refused: BTreeSet<ObjectId>,
    /// Histories that broke the rules: those pauses outlast a connection.
    refusals: u32,
    /// Somebody waits for the end of the pause.
    waiting: bool,
}

/// The fetches of one conversation. Cheap to clone.
#[derive(Clone, Default)]
pub struct Fetching(Arc<Mutex<BTreeMap<DeviceId, Device>>>);

/// What to do with a wish to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Fetch now, then report with [`Fetching::done`].
    Go,
    /// A fetch runs; another follows it by itself.
    Running,
    /// Too soon after a failure: ask again then, after [`Fetching::waited`].
    After(Instant),
    /// Too soon, and somebody waits already.
    Waiting,
    /// What that device offers was refused, and it offers nothing else.
    Refused,
}

/// How a fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Well, whether or not it brought anything.
    Well,
    /// Not now; later perhaps.
    Failed,
    /// With a history that breaks the rules, up to this head. Not asked for again.
    Refused(ObjectId),
}

/// What follows a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Rest,
    /// Another fetch at once: there was news meanwhile.
    Now,
    /// Another fetch after the pause: ask for a turn again.
    Later,
}

impl Fetching {
    fn devices(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Device>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a turn. `head` is what the device says it has, where it says so.
    pub fn ask(&self, device: DeviceId, head: Option<ObjectId>, now: Instant) -> Turn {
        let mut devices = self.devices();
        let d = devices.entry(device).or_default();
        if head.is_some_and(|h| d.refused.contains(&h)) {
            return Turn::Refused;
        }
        if d.running {
            d.again = true;
            return Turn::Running;
        }
        match d.not_before {
            Some(at) if at > now && d.waiting => Turn::Waiting,
            Some(at) if at > now => {
                d.waiting = true;
                Turn::After(at)
            }
            _ => {
                d.running = true;
                Turn::Go
            }
        }
    }

    /// Reports the end of a fetch. News that came meanwhile are not lost, however it ended.
    pub fn done(&self, device: DeviceId, how: Ended, now: Instant) -> Next {
        let mut devices = self.devices();
        let d = devices.entry(device).or_default();
        let again = std::mem::take(&mut d.again);
        d.running = false;
        match how {
            Ended::Well => {
                d.failures = 0;
                d.refusals = 0;
                d.not_before = None;
                d.running = again;
                if again { Next::Now } else { Next::Rest }
            }
            Ended::Failed => {
                d.failures = d.failures.saturating_add(1);
                d.not_before = Some(now + pause(d.failures));
                Next::Later
            }
            Ended::Refused(head) => {
                if d.refused.len() >= MAX_REFUSED {
                    d.refused.pop_first();
                }
                d.refused.insert(head);
                d.failures = 0;
                d.refusals = d.refusals.saturating_add(1);
                d.not_before = Some(now + pause(d.refusals));
                if again { Next::Later } else { Next::Rest }
            }
        }
    }

    /// A new connection to the device: what failed over the old one may work now.
    pub fn connected(&self, device: &DeviceId) {
        if let Some(d) = self.devices().get_mut(device) {
            d.failures = d.failures.min(3);
            // Connecting anew must not be a way to have us load one bad history after the other.
            if d.refusals == 0 {
                d.not_before = None;
            }
        }
    }

    /// The pause given by [`Turn::After`] is over.
    pub fn waited(&self, device: &DeviceId) {
        if let Some(d) = self.devices().get_mut(device) {
            d.waiting = false;
        }
    }

    /// Whether a head was refused, whoever offered it.
    pub fn is_refused(&self, head: &ObjectId) -> bool {
        self.devices().values().any(|d| d.refused.contains(head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_core::swarm::spread::LONGEST_PAUSE;
    use std::time::Duration;

    const BOB: DeviceId = DeviceId([2; 32]);
    const HEAD: ObjectId = ObjectId([7; 20]);

    #[test]
    fn news_during_a_fetch_are_fetched_after_it() {
        let (f, now) = (Fetching::default(), Instant::now());
        assert_eq!(f.ask(BOB, None, now), Turn::Go);
        assert_eq!(f.ask(BOB, None, now), Turn::Running);
        assert_eq!(f.ask(BOB, None, now), Turn::Running);
        assert_eq!(f.done(BOB, Ended::Well, now), Next::Now);
        assert_eq!(f.done(BOB, Ended::Well, now), Next::Rest);
        assert_eq!(f.ask(BOB, None, now), Turn::Go);
    }

    #[test]
    fn pauses_grow_to_a_limit_and_end_with_a_success() {
        let (f, mut now) = (Fetching::default(), Instant::now());
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            assert_eq!(f.ask(BOB, None, now), Turn::Go);
            assert_eq!(f.done(BOB, Ended::Failed, now), Next::Later);
            let Turn::After(at) = f.ask(BOB, None, now) else {
                panic!("no pause")
            };
            assert!(at - now >= last && at - now <= LONGEST_PAUSE);
            assert_eq!(f.ask(BOB, None, now), Turn::Waiting);
            f.waited(&BOB);
            last = at - now;
            now = at;
        }
        assert_eq!(last, LONGEST_PAUSE);
        assert_eq!(f.ask(BOB, None, now), Turn::Go);
        f.done(BOB, Ended::Well, now);
        assert_eq!(f.ask(BOB, None, now), Turn::Go);
    }

    #[test]
    fn a_refused_head_is_not_fetched_again_but_another_is() {
        let (f, now) = (Fetching::default(), Instant::now());
        assert_eq!(f.ask(BOB, Some(HEAD), now), Turn::Go);
        f.done(BOB, Ended::Refused(HEAD), now);
        assert_eq!(f.ask(BOB, Some(HEAD), now), Turn::Refused);
        // What was said during a fetch that is refused is looked at after the pause.
        let (g, other) = (Fetching::default(), ObjectId([8; 20]));
        assert_eq!(g.ask(BOB, Some(HEAD), now), Turn::Go);
        assert_eq!(g.ask(BOB, Some(other), now), Turn::Running);
        assert_eq!(g.done(BOB, Ended::Refused(HEAD), now), Next::Later);
        assert!(f.is_refused(&HEAD) && !f.is_refused(&ObjectId([8; 20])));
        // Not at once, and not by connecting anew either.
        f.connected(&BOB);
        let Turn::After(at) = f.ask(BOB, Some(ObjectId([8; 20])), now) else {
            panic!("no pause")
        };
        f.waited(&BOB);
        assert_eq!(f.ask(BOB, Some(ObjectId([8; 20])), at), Turn::Go);
    }
}
