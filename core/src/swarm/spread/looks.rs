//! Looking for merges that nobody tells of: those of daemons, which each make one of their own and say nothing.

#[cfg(test)]
use super::Mutation;
use super::peer::Want;
use super::{Peer, Spread, Standing, pause};
use crate::id::DeviceId;
use core::time::Duration;

/// How long a daemon is given to make a merge before it is asked for it: validating and merging
/// takes some tens of milliseconds a commit there, and more may come meanwhile.
pub const LOOK_MERGED: Duration = Duration::from_secs(1);

/// So many times in a row a device is asked in vain whether it has merged, each time it may have. Of
/// more the pauses grow like those of failures: somebody may say by turns that it has the one
/// or the other. It begins anew when the device shows our newest head: that it can do but once for each.
pub const LOOKS: u32 = 8;

/// So many times in a row what was found by looking at a device is taken in at once, though nobody said anything
/// in between. Then the pauses before it is looked at again grow like those of failures, up to [`LONGEST_LOOK`]: each
/// daemon makes a merge of its own of what others are told of, so to look and tell at once would have them merge each
/// other's merges for as long as somebody looks. For the same reason some wait longer than others, as with merges
/// (see [`super::MERGE_RANK`]), and all wait anew when somebody else has found something: two that find different
/// merges and tell of both have each daemon merge them once more.
pub const ROUNDS: u32 = 8;

/// The longest of those pauses; and nobody who may have merged is passed by for longer, however often others find
/// something: whoever goes on telling of merges that say nothing keeps nobody from looking.
pub const LONGEST_LOOK: Duration = super::MERGE_PATIENCE;

/// Whoever was told of all that was said is told of a head that says nothing, as one that differs by merges alone,
/// when no other is to come or to be looked for, but no later than this: each daemon that is not at it makes one
/// merge of it, in place of one for each head that comes. Ten Starlings that told ten daemons of each at once kept
/// all twenty busy for minutes, and what was written meanwhile took a minute.
pub const HUSH: Duration = Duration::from_secs(3);

/// So many times that is doubled, once for each time that such a head was told since somebody said something.
pub const HUSHES: u32 = 3;

impl Spread {
    /// A device that had something which what it has now does not contain has merged the two. A
    /// Starling says so; a daemon says nothing of a merge before it writes again, and each daemon
    /// makes its own: it is asked, [`LOOK_MERGED`] from now or later (see [`LOOKS`] and [`ROUNDS`]).
    /// `newest`: what it has shown to have now is our head.
    pub fn look(&mut self, device: DeviceId, newest: bool, now: Duration) {
        let turn = self.next_turn();
        #[cfg(test)]
        if self.mutation == Mutation::NeverLooks {
            return;
        }
        if self.only_tells {
            return;
        }
        let soonest = self.soonest_look();
        let peer = self.peers.get_mut(&device);
        if let Some(peer) = peer.filter(|p| p.standing == Some(Standing::Member)) {
            if newest {
                peer.looks = 0;
            }
            let from = now.saturating_add(peer.look_wait(soonest).max(peer.vain_wait()));
            match &mut peer.want {
                Some(look) if look.insists => look.from = look.from.min(from),
                Some(_) => {}
                None => {
                    peer.want = Some(Want {
                        head: None,
                        from,
                        turn,
                        insists: true,
                        since: now,
                    });
                }
            }
        }
    }

    /// Somebody said something: what came into the history is more than merges. Whoever is to be looked at is so soon.
    pub fn said(&mut self, now: Duration) {
        let soonest = self.soonest_look();
        (self.says, self.idle) = (self.entering.is_some(), 0);
        for peer in self.peers.values_mut() {
            peer.unsaid = true;
            peer.rounds = 0;
            let vain = peer.vain_wait();
            if let Some(look) = peer.want.as_mut().filter(|w| w.insists) {
                let least = look.since.saturating_add(vain);
                look.from = look.from.min(now.saturating_add(soonest).max(least));
            }
        }
    }

    /// How long to wait before anyone is looked at.
    pub(super) fn soonest_look(&self) -> Duration {
        #[cfg(test)]
        if self.mutation == Mutation::AlwaysLooks {
            return LOOK_MERGED;
        }
        LOOK_MERGED.saturating_add(self.look_rank())
    }

    fn look_rank(&self) -> Duration {
        self.head.map_or(Duration::ZERO, |head| self.rank(&head.0))
    }

    /// Others have found what was to be looked for: it is looked later whether there is more, but not ever later.
    pub(super) fn look_later(&mut self, now: Duration) {
        #[cfg(test)]
        if self.mutation == Mutation::AlwaysLooks {
            return;
        }
        let (soonest, rank) = (self.soonest_look(), self.look_rank());
        for peer in self.peers.values_mut() {
            let later = now.saturating_add(peer.look_wait(soonest));
            if let Some(look) = peer.want.as_mut().filter(|w| w.insists) {
                let last = look.since.saturating_add(LONGEST_LOOK);
                look.from = look.from.max(later.min(last.saturating_add(rank)));
            }
        }
    }

    /// Until when nobody is told of a head that says nothing: there is more to come, or to be looked for.
    pub(super) fn hush(&self, now: Duration) -> Option<Duration> {
        let pause = HUSH.saturating_mul(1 << self.idle.min(HUSHES));
        let until = self.hushed?.saturating_add(pause);
        let comes = |p: &Peer| {
            let soon = |w: &Want| w.from.max(p.not_before) < until;
            p.running.is_some() || p.want.is_some_and(|w| soon(&w))
        };
        let more = self.entering.is_some()
            || self.arrived.values().any(|a| a.at < until)
            || self.peers.values().any(comes);
        (until > now && more).then_some(until)
    }

    /// Our head says nothing; `hushed`: nor did the one before, and it was not told yet.
    pub(super) fn hush_from(&mut self, hushed: Option<Duration>, now: Duration) {
        #[cfg(test)]
        if self.mutation == Mutation::AlwaysLooks {
            return;
        }
        self.hushed = Some(hushed.unwrap_or(now));
    }

    /// Our head came by looking at a device.
    pub(super) fn found_at(&mut self, device: DeviceId) {
        if let Some(peer) = self.peers.get_mut(&device) {
            peer.rounds = peer.rounds.saturating_add(1);
        }
    }
}

impl Peer {
    /// How long to wait before it is looked at, where others are looked at after `soonest`: see [`ROUNDS`].
    pub(super) fn look_wait(&self, soonest: Duration) -> Duration {
        match self.rounds.checked_sub(ROUNDS) {
            Some(more) if more > 0 => soonest.saturating_add(pause(more).min(LONGEST_LOOK)),
            _ => soonest,
        }
    }

    /// How long to wait because it was looked at in vain: see [`LOOKS`].
    fn vain_wait(&self) -> Duration {
        match self.looks.checked_sub(LOOKS) {
            Some(more) => pause(more.saturating_add(1)),
            None => Duration::ZERO,
        }
    }
}
