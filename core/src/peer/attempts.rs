//! When to try to reach a device: the one owner of the pauses between attempts, whatever they are for.

use crate::id::DeviceId;
use core::time::Duration;
use std::collections::BTreeMap;

/// The pause after a first failed attempt; doubled with each further one.
pub const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause: an announcement of a device that is gone lives ten minutes.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A device whose connection broke without a goodbye has lost its network, most likely, and is to be found again
/// soon after it is back: for so long ...
pub const LOST: Duration = Duration::from_secs(600);

/// ... no pause is longer than this. A request is waited for thrice as long.
pub const LOST_PAUSE: Duration = Duration::from_secs(10);

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
    /// The network changed while it ran: that it fails says nothing.
    excused: bool,
    /// Until when the pauses are short.
    lost_until: Duration,
}

/// The attempts of one account. The clock is any that never goes back.
#[derive(Debug, Clone, Default)]
pub struct Attempts(BTreeMap<DeviceId, Entry>);

impl Attempts {
    /// Asks for a turn.
    pub fn ask(&mut self, device: DeviceId, now: Duration) -> Attempt {
        self.make_room(&device);
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

    fn make_room(&mut self, device: &DeviceId) {
        if !self.0.contains_key(device) && self.0.len() >= MAX_DEVICES {
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
    }

    /// The device was reached.
    pub fn reached(&mut self, device: &DeviceId) {
        self.0.remove(device);
    }

    /// It was not. Gives the time of the next attempt.
    pub fn failed(&mut self, device: DeviceId, now: Duration) -> Duration {
        let entry = self.0.entry(device).or_default();
        if std::mem::take(&mut entry.excused) {
            (entry.running, entry.not_before) = (false, now);
            return now;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << entry.failures.min(10)).min(
            match now < entry.lost_until {
                true => LOST_PAUSE,
                false => LONGEST_PAUSE,
            },
        );
        entry.running = false;
        entry.failures = entry.failures.saturating_add(1);
        entry.not_before = now.saturating_add(pause);
        entry.not_before
    }

    /// A connection with the device broke without a goodbye.
    pub fn lost(&mut self, device: DeviceId, now: Duration) {
        self.make_room(&device);
        let entry = self.0.entry(device).or_default();
        entry.lost_until = now.saturating_add(LOST);
    }

    /// The device has just announced itself: no reason to wait out an old pause.
    pub fn seen(&mut self, device: &DeviceId) {
        if self.0.get(device).is_some_and(|e| !e.running) {
            self.0.remove(device);
        }
    }

    /// This machine is in another network, or back in its own: what failed before says nothing of now.
    pub fn network_changed(&mut self) {
        self.0.retain(|_, entry| entry.running);
        for entry in self.0.values_mut() {
            (entry.failures, entry.excused) = (0, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_connection_broke_is_asked_often_for_ten_minutes() {
        let (mut a, device, mut now) = (Attempts::default(), DeviceId([1; 32]), Duration::ZERO);
        a.lost(device, now);
        while now < LOST {
            assert_eq!(a.ask(device, now), Attempt::Go);
            let at = a.failed(device, now);
            assert!(at - now <= LOST_PAUSE);
            now = at;
        }
        assert_eq!(a.ask(device, now), Attempt::Go);
        assert_eq!(a.failed(device, now), now + LONGEST_PAUSE);
    }

    #[test]
    fn what_failed_in_another_network_does_not_count() {
        let (mut a, device, other) = (Attempts::default(), DeviceId([1; 32]), DeviceId([2; 32]));
        let now = Duration::from_secs(100);
        for _ in 0..3 {
            a.failed(device, now);
        }
        assert_eq!(a.ask(other, now), Attempt::Go);
        a.network_changed();
        assert_eq!(a.ask(device, now), Attempt::Go);
        assert_eq!(a.failed(device, now), now + FIRST_PAUSE);
        // One that runs is not begun twice; that it fails counts as little, once.
        assert_eq!(a.ask(other, now), Attempt::Running);
        assert_eq!(a.failed(other, now), now);
        assert_eq!(a.ask(other, now), Attempt::Go);
        assert_eq!(a.failed(other, now), now + FIRST_PAUSE);
    }

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
