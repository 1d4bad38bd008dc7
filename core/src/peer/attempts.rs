//! When to try to reach a device: the one owner of the pauses between attempts, whatever they are for.

use crate::id::DeviceId;
use core::time::Duration;
use std::collections::BTreeMap;

/// The pause after a first failed attempt; doubled with each further one.
pub const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause: an announcement of a device that is gone lives ten minutes.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Devices remembered. Beyond, the pause that ends first is forgotten.
const MAX_DEVICES: usize = 4096;

/// What to do with a wish to reach a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Try now, then report with [`Attempts::reached`] or [`Attempts::failed`].
    Go,
    /// An attempt runs.
    Running,
    /// Too soon after a failure.
    After(Duration),
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    running: bool,
    failures: u32,
    not_before: Duration,
}

/// The attempts of one account. The clock is any that never goes back.
#[derive(Debug, Clone, Default)]
pub struct Attempts(BTreeMap<DeviceId, Entry>);

impl Attempts {
    /// Asks for a turn.
    pub fn ask(&mut self, device: DeviceId, now: Duration) -> Attempt {
        if !self.0.contains_key(&device) && self.0.len() >= MAX_DEVICES {
            let first = self
                .0
                .iter()
                .filter(|(_, e)| !e.running)
                .min_by_key(|(_, e)| e.not_before)
                .map(|(d, _)| *d);
            if let Some(first) = first {
                self.0.remove(&first);
            }
        }
        let entry = self.0.entry(device).or_default();
        if entry.running {
            Attempt::Running
        } else if entry.not_before > now {
            Attempt::After(entry.not_before)
        } else {
            entry.running = true;
            Attempt::Go
        }
    }

    /// The device was reached.
    pub fn reached(&mut self, device: &DeviceId) {
        self.0.remove(device);
    }

    /// It was not. Gives the time of the next attempt.
    pub fn failed(&mut self, device: DeviceId, now: Duration) -> Duration {
        let entry = self.0.entry(device).or_default();
        let pause = FIRST_PAUSE
            .saturating_mul(1 << entry.failures.min(10))
            .min(LONGEST_PAUSE);
        entry.running = false;
        entry.failures = entry.failures.saturating_add(1);
        entry.not_before = now.saturating_add(pause);
        entry.not_before
    }

    /// The device has just announced itself: no reason to wait out an old pause.
    pub fn seen(&mut self, device: &DeviceId) {
        if self.0.get(device).is_some_and(|e| !e.running) {
            self.0.remove(device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_end_when_the_device_is_seen() {
        let (mut a, device, mut now) = (Attempts::default(), DeviceId([1; 32]), Duration::ZERO);
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            assert_eq!(a.ask(device, now), Attempt::Go);
            assert_eq!(a.ask(device, now), Attempt::Running);
            let at = a.failed(device, now);
            assert_eq!(a.ask(device, now), Attempt::After(at));
            assert!(at - now >= last && at - now <= LONGEST_PAUSE);
            (last, now) = (at - now, at);
        }
        assert_eq!(last, LONGEST_PAUSE);
        a.failed(device, now);
        a.seen(&device);
        assert_eq!(a.ask(device, now), Attempt::Go);
        // One that runs is not begun twice, even if the device is seen meanwhile.
        a.seen(&device);
        assert_eq!(a.ask(device, now), Attempt::Running);
        a.reached(&device);
        assert_eq!(a.ask(device, now), Attempt::Go);
    }

    #[test]
    fn no_more_than_a_bounded_number_is_remembered() {
        let mut a = Attempts::default();
        for n in 0..10_000u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            a.ask(DeviceId(id), Duration::ZERO);
            a.failed(DeviceId(id), Duration::from_secs(u64::from(n)));
        }
        assert!(a.0.len() <= MAX_DEVICES);
    }
}
