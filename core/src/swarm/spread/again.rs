//! Telling once more after a link came up: what a device was told first may have been in vain.
//!
//! A daemon that takes an older connection with us for alive fetches over that one: until it finds out that nobody is
//! there, three seconds after the new one was up, and then it lets the matter rest. A notice that came meanwhile it
//! keeps, and follows as soon as the fetch has failed.

use super::peer::Peer;
use super::{Spread, Standing};
use crate::id::{DeviceId, ObjectId};
use core::time::Duration;

/// After these pauses a device that does nothing about what it was told is told once more: while a daemon waits for
/// who is not there, after that, and once again for whoever takes longer.
pub const AGAIN: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
];

/// Only what was told so soon after the link came up is told again: later there is no older connection.
pub const FRESH: Duration = Duration::from_secs(30);

/// Whoever fetches so soon after the link came up may be a daemon: it looks at everyone it comes to.
pub const COMES: Duration = Duration::from_secs(3);

impl Spread {
    /// The link with a device is a new one. It may not know yet that an older one is dead.
    pub fn anew(&mut self, device: &DeviceId, now: Duration) {
        if let Some(peer) = self.peers.get_mut(device) {
            peer.fresh = Some(now);
        }
    }

    /// A device has fetched from here, and has everything up to `head`: it need not be told of that again. If its link
    /// has just come up, it is looked what it has itself.
    pub fn took(&mut self, device: &DeviceId, head: ObjectId, now: Duration) {
        let Some(peer) = self.peers.get_mut(device) else {
            return;
        };
        peer.took = Some(head);
        peer.came |= peer.fresh.is_some_and(|at| now <= at.saturating_add(COMES));
        if peer.is_to_be_seen() && peer.want.is_none() && peer.running.is_none() {
            self.look(*device, false, now);
        }
    }

    /// Who is to be told once more, and when, of those who were told of our head.
    pub(super) fn repeats(&self) -> impl Iterator<Item = (DeviceId, Duration)> {
        self.peers
            .iter()
            .filter_map(|(device, peer)| Some((*device, peer.repeat_at(self.head?)?)))
    }

    /// Tells somebody once more whose time has come.
    pub(super) fn due_repeat(&mut self, now: Duration) -> Option<(DeviceId, ObjectId)> {
        let (device, _) = self.repeats().find(|(_, at)| *at <= now)?;
        let head = self.head?;
        let peer = self.peers.get_mut(&device)?;
        peer.repeated = peer.repeated.saturating_add(1);
        let told = peer.told.as_mut()?;
        told.at = now;
        Some((device, head))
    }
}

impl Peer {
    /// When to tell it of our head once more.
    fn repeat_at(&self, head: ObjectId) -> Option<Duration> {
        let told = self.told.filter(|t| t.head == head)?;
        let shown = self.has == Some(head) || self.took == Some(head);
        let fresh = told.at <= self.fresh?.saturating_add(FRESH);
        let pause = AGAIN.get(self.repeated)?;
        let member = self.standing == Some(Standing::Member);
        (member && !shown && fresh).then(|| told.at.saturating_add(*pause))
    }
}
