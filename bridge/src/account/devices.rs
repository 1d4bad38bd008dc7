//! The devices that a person announces, as many as are looked at.

use crate::peer::MAX_DEVICES;
use starling_core::id::DeviceId;
use std::collections::VecDeque;

/// Devices that announce themselves: by value id, so that an old announcement that runs out does not
/// take a device offline that has announced itself anew. Of more than [`MAX_DEVICES`] those that
/// announced themselves last.
#[derive(Debug, Clone, Default)]
pub(super) struct Announced(VecDeque<(u64, DeviceId)>);

impl Announced {
    /// A device announces itself. Says whether that is news, and which one had to go.
    pub(super) fn insert(&mut self, value: u64, device: DeviceId) -> (bool, Option<DeviceId>) {
        let news = !self.remove(value);
        self.0.push_back((value, device));
        let gone = match self.0.len() > MAX_DEVICES {
            true => self.0.pop_front(),
            false => None,
        };
        let gone = gone.map(|(_, d)| d).filter(|d| !self.contains(d));
        (news, gone)
    }

    /// An announcement has run out. Says whether it was one.
    pub(super) fn remove(&mut self, value: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|(v, _)| *v != value);
        self.0.len() != before
    }

    /// A device is not to be counted on any more, whatever it announces.
    pub(super) fn remove_device(&mut self, device: &DeviceId) {
        self.0.retain(|(_, d)| d != device);
    }

    pub(super) fn get(&self, value: u64) -> Option<DeviceId> {
        self.0.iter().find(|(v, _)| *v == value).map(|(_, d)| *d)
    }

    pub(super) fn contains(&self, device: &DeviceId) -> bool {
        self.devices().any(|d| d == device)
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.0.iter().map(|(_, device)| device)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_devices_the_last_are_looked_at() {
        let device = |n: u64| DeviceId([n.to_be_bytes()[7]; 32]);
        let mut announced = Announced::default();
        let many = MAX_DEVICES as u64;
        for n in 0..many {
            assert_eq!(announced.insert(n, device(n)), (true, None));
        }
        // Announced anew.
        assert_eq!(announced.insert(0, device(0)), (false, None));
        assert_eq!(announced.insert(1000, device(100)), (true, Some(device(1))));
        assert_eq!(announced.insert(1001, device(101)), (true, Some(device(2))));
        // One announcement too many of a device that has others.
        assert_eq!(announced.insert(1002, device(3)), (true, None));
        assert_eq!(announced.devices().count(), MAX_DEVICES);
        assert!(announced.contains(&device(3)) && !announced.contains(&device(1)));
        assert_eq!(announced.get(1000), Some(device(100)));
        assert!(announced.remove(1000) && !announced.remove(1000));
    }
}
