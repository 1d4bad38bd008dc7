//! Who merges, and when: the line in which those stand who have something to merge.

#[cfg(test)]
use super::Mutation;
use super::{Arrived, PATIENCE, Peer, Spread, Standing};
use crate::id::{DeviceId, ObjectId};
use core::time::Duration;

/// The pause before a merge that follows a merge of our own: longer than a notice and a fetch take
/// between devices in one town. Daemons do not wait.
pub const MERGE_SOON: Duration = Duration::from_millis(500);

/// Where others go before us, the pause after a merge of our own is up to so many times as long:
/// by then they may be there again.
pub const MERGE_AMID: u32 = 6;

/// The pause of the second device in line: longer than a notice takes across the world, and than
/// fetches differ in time. Once there is a notice, what it tells of is fetched before anything is
/// merged, however long that takes (see [`MERGE_PATIENCE`]).
pub const MERGE_LATE: Duration = Duration::from_secs(1);

/// What each further device in line waits longer.
pub const MERGE_STEP: Duration = Duration::from_millis(500);

/// How many wait in that order. Those who have more ahead of them do not know each other, and in a
/// large group almost all are such...
pub const MERGE_NEAR: u32 = 5;

/// ... so they wait this long, and then by chance: half of them one [`MERGE_RANK`] longer than the
/// others, a quarter another one, and so on...
pub const MERGE_LAST: Duration = Duration::from_millis(3_500);

/// ... which is longer than a notice takes to all of a group of thousands...
pub const MERGE_RANK: Duration = Duration::from_secs(1);

/// ... in one rank for so many members that they are linked with. A table has about
/// three times as many links as its group has binary digits (see [`crate::drt`]), so that of all
/// devices of a group, however many, one or two are of the first rank.
pub const MERGE_LINKS: usize = 3;

/// Who is not first in line waits anew whenever others merge, and as long as something is being
/// fetched, but no longer than this after the head arrived (and then for its rank).
pub const MERGE_PATIENCE: Duration = Duration::from_secs(30);

impl Spread {
    /// How many of the members we are linked with go before us where something is to be merged.
    fn ahead(&self) -> u32 {
        let members = self.peers.range(..self.own);
        let ahead = members.filter(|(_, p)| p.standing == Some(Standing::Member));
        u32::try_from(ahead.count()).unwrap_or(u32::MAX)
    }

    /// The same; who brought what is to be merged counts, though it be no member at our head yet.
    fn ahead_with(&self, from: DeviceId) -> u32 {
        let standing = self.peers.get(&from).and_then(|p| p.standing);
        let counted = standing == Some(Standing::Member) || from > self.own;
        self.ahead().saturating_add(u32::from(!counted))
    }

    /// How long to wait for the merge of others before making one.
    ///
    /// Two that merge at the same moment have two heads again, and would go on for ever, with a
    /// commit each time. So among the members we are linked with one goes first, whose id is the
    /// smallest, the next waits until it must have heard of that merge, and so on; and once our
    /// head is a merge of ours already we wait in any case, since daemons do not.
    ///
    /// In a large group most have many ahead of them, who may be gone, hostile, or not linked with
    /// who has the other head: then few of those must go first, though they do not know each other.
    pub(super) fn defers(&self, from: DeviceId) -> Duration {
        #[cfg(test)]
        match self.mutation {
            Mutation::AllMerge => return Duration::ZERO,
            // As it was: three to eight seconds, and most waited eight.
            Mutation::WaitsOnce if self.ahead_with(from) > 0 => {
                let ahead = u64::from(self.ahead_with(from));
                return Duration::from_secs(ahead.saturating_add(2).min(8));
            }
            _ => {}
        }
        match self.ahead_with(from) {
            0 if self.merged => MERGE_SOON,
            0 => Duration::ZERO,
            n if n <= MERGE_NEAR => {
                MERGE_LATE.saturating_add(MERGE_STEP.saturating_mul(n.saturating_sub(1)))
            }
            _ => MERGE_LAST.saturating_add(self.rank(&from.0)),
        }
    }

    /// What those wait longer who have many ahead of them: drawn from the id of the device and that of
    /// whose head it is, or of what else it is about, so that it is not always the same who go first.
    pub(super) fn rank(&self, about: &[u8]) -> Duration {
        let members = |p: &&Peer| p.standing == Some(Standing::Member);
        let ranks = self.peers.values().filter(members).count() / MERGE_LINKS;
        let ranks = u32::try_from(ranks).unwrap_or(u32::MAX).min(u64::BITS);
        // FNV-1a: spread well enough, and the same everywhere.
        let bytes = self.own.0.iter().chain(about);
        let mut drawn = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        drawn ^= drawn >> 32;
        let rank = ranks.saturating_sub(drawn.trailing_zeros());
        MERGE_RANK.saturating_mul(rank)
    }

    /// We have merged: others may have the next merge ready. What has waited long enough is merged
    /// in one go by who is first, since the others wait for it.
    pub(super) fn pause_merges(&mut self, now: Duration) {
        let ahead = self.ahead();
        #[cfg(test)]
        let ahead = match self.mutation {
            Mutation::WaitsOnce => 1,
            _ => ahead,
        };
        let soon = now.saturating_add(MERGE_SOON.saturating_mul(ahead.clamp(1, MERGE_AMID)));
        for arrived in self.arrived.values_mut() {
            if ahead > 0 || arrived.at > now {
                arrived.at = arrived.at.max(soon);
            }
        }
    }

    /// Others have merged: they will go on.
    pub(super) fn wait_anew(&mut self, now: Duration) {
        #[cfg(test)]
        if self.mutation == Mutation::WaitsOnce {
            return;
        }
        let waits: Vec<_> = self
            .arrived
            .iter()
            .map(|(head, a)| {
                let last = a.since.saturating_add(MERGE_PATIENCE);
                let last = last.saturating_add(self.rank(&a.from.0));
                (*head, now.saturating_add(self.defers(a.from)).min(last))
            })
            .collect();
        for (head, at) in waits {
            if let Some(arrived) = self.arrived.get_mut(&head) {
                arrived.at = arrived.at.max(at);
            }
        }
    }

    /// Until when what is being fetched may bring the merge of somebody else.
    fn news_until(&self) -> Option<Duration> {
        #[cfg(test)]
        if matches!(self.mutation, Mutation::WaitsOnce | Mutation::AllMerge) {
            return None;
        }
        let getting_on = |p: &&Peer| p.failures == 0 && p.refusals == 0;
        let running = self.peers.values().filter(getting_on);
        let running = running.filter_map(|p| p.running);
        running.map(|r| r.since.saturating_add(PATIENCE)).max()
    }

    /// Whether what can be fetched is fetched before this head is merged.
    pub(super) fn news_first(&self, head: &ObjectId, now: Duration) -> bool {
        #[cfg(test)]
        if matches!(self.mutation, Mutation::WaitsOnce | Mutation::AllMerge) {
            return false;
        }
        let waits = |a: &Arrived| a.waits && a.since.saturating_add(MERGE_PATIENCE) > now;
        self.arrived.get(head).is_some_and(waits) && self.ahead() > 0
    }

    /// When to take in each of the heads that arrived. First come those of which no commit is made:
    /// they may hold the others.
    pub(super) fn merges(&self) -> impl Iterator<Item = (bool, Duration, u64, ObjectId)> + '_ {
        let first = self.ahead() == 0;
        let news = self.news_until().filter(|_| !first);
        self.arrived.iter().map(move |(head, a)| {
            let last = a.since.saturating_add(MERGE_PATIENCE);
            let held = news.filter(|_| a.waits).map(|until| until.min(last));
            let at = held.map_or(a.at, |held| held.max(a.at));
            (a.waits, at, a.turn, *head)
        })
    }

    pub(super) fn due_merge(&self, now: Duration) -> Option<ObjectId> {
        if self.entering.is_some() || self.only_tells {
            return None;
        }
        let due = self.merges().filter(|(_, at, ..)| *at <= now);
        due.min().map(|(.., head)| head)
    }
}
