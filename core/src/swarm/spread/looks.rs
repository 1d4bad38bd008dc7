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

/// So many times in a row what was found by looking is taken in at once, though nobody said anything
/// in between. Then the pauses before the next look grow like those of failures: each daemon makes a
/// merge of its own of what others are told of, so to look and tell at once would have them merge each other's
/// merges for as long as somebody looks. For the same reason some wait longer than others, as with merges
/// (see [`super::MERGE_RANK`]), and all wait anew when somebody else has found something: two that find different
/// merges and tell of both have each daemon merge them once more.
pub const ROUNDS: u32 = 8;

/// What was found by looking is told when the others were looked at, too, but no later than this:
/// one merge of it for each daemon, in place of one for each that was found.
pub const HUSH: Duration = Duration::from_secs(3);

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
        let found = self.look_wait();
        let peer = self.peers.get_mut(&device);
        if let Some(peer) = peer.filter(|p| p.standing == Some(Standing::Member)) {
            if newest {
                peer.looks = 0;
            }
            let wait = match peer.looks.checked_sub(LOOKS) {
                Some(more) => pause(more.saturating_add(1)).max(found),
                None => found,
            };
            let from = now.saturating_add(wait);
            match &mut peer.want {
                Some(look) if look.insists => look.from = look.from.min(from),
                Some(_) => {}
                None => {
                    peer.want = Some(Want {
                        head: None,
                        from,
                        turn,
                        insists: true,
                    });
                }
            }
        }
    }

    /// Somebody said something: what came into the history is more than merges.
    pub fn said(&mut self) {
        self.rounds = 0;
    }

    /// How long to wait before a daemon is looked at.
    pub(super) fn look_wait(&self) -> Duration {
        #[cfg(test)]
        if self.mutation == Mutation::AlwaysLooks {
            return LOOK_MERGED;
        }
        let rank = self.head.map_or(Duration::ZERO, |head| self.rank(&head.0));
        let more = self.rounds.saturating_sub(ROUNDS);
        let more = if more > 0 {
            pause(more)
        } else {
            Duration::ZERO
        };
        LOOK_MERGED.saturating_add(rank).saturating_add(more)
    }

    /// Others have found what was to be looked for: it is looked later whether there is more.
    pub(super) fn look_later(&mut self, now: Duration) {
        #[cfg(test)]
        if self.mutation == Mutation::AlwaysLooks {
            return;
        }
        let from = now.saturating_add(self.look_wait());
        for peer in self.peers.values_mut() {
            if let Some(look) = peer.want.as_mut().filter(|w| w.insists) {
                look.from = look.from.max(from);
            }
        }
    }

    /// Until when nothing is told: others are being looked at, too.
    pub(super) fn hush(&self, now: Duration) -> Option<Duration> {
        let until = self.hushed?.saturating_add(HUSH);
        let soon = |w: &Want| w.insists && w.from < until;
        let looks =
            |p: &Peer| p.running.is_some_and(|r| r.looks) || p.want.is_some_and(|w| soon(&w));
        let more = self.entering.is_some_and(|(_, looked)| looked)
            || self.arrived.values().any(|a| a.looked)
            || self.peers.values().any(looks);
        (until > now && more).then_some(until)
    }

    /// Our head came by looking; `hushed`: so did the one before, and it was not told yet.
    pub(super) fn hush_from(&mut self, hushed: Option<Duration>, now: Duration) {
        #[cfg(test)]
        if self.mutation == Mutation::AlwaysLooks {
            return;
        }
        if hushed.is_none() {
            self.rounds = self.rounds.saturating_add(1);
        }
        self.hushed = Some(hushed.unwrap_or(now));
    }
}
