//! Whose announcements to watch: members are looked for while there is no neighbour, and a few
//! now and then afterwards, so that two parts of a swarm that do not know each other meet.

use crate::id::{AccountId, DeviceId};
use crate::rng::Rng;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// How long a choice of members is watched that leads nowhere. The reference changes it on
/// failures only, and waits for ever for members who are all away.
const ROTATE: Duration = Duration::from_secs(30);

/// How long one member is watched while there are neighbours; ours.
const LOOKOUT: Duration = Duration::from_secs(600);

/// How many are, then.
const LOOKOUTS: usize = 1;

/// How many members without a connection are told of news by the way (`sendMessageNotification`
/// in the reference: 2).
const REACH: usize = 2;

/// How long they are looked for, and the least time between two such tries. The reference does it
/// with each message, and in time is connected to everybody.
const REACH_TIME: Duration = Duration::from_secs(60);

/// What is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// The group is small: everybody.
    Everybody,
    /// There is no neighbour: `3 + log2(members)` of the members.
    Neighbours,
    /// There are neighbours: others who may have none of them.
    Others,
}

#[derive(Debug, Clone, Default)]
struct Watched {
    devices: BTreeSet<DeviceId>,
    /// Watched beyond the usual number, until then.
    reach_until: Option<Duration>,
    /// A device of theirs was tried for the sake of meeting others.
    probed: bool,
}

/// The members that are watched.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    watched: BTreeMap<AccountId, Watched>,
    aim: Aim,
    rotate_at: Duration,
    reach_after: Duration,
}

/// How many members are watched when there is no neighbour (`rotateTrackedMembers` in the reference).
fn wanted(members: usize) -> usize {
    let log = members.checked_ilog2().unwrap_or(0);
    members.min(usize::try_from(log).unwrap_or(0).saturating_add(3))
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            watched: BTreeMap::new(),
            aim: Aim::Neighbours,
            rotate_at: Duration::ZERO,
            reach_after: Duration::ZERO,
        }
    }

    pub(super) fn accounts(&self) -> BTreeSet<AccountId> {
        self.watched.keys().copied().collect()
    }

    /// Whether these are the accounts.
    pub(super) fn is_of(&self, accounts: &BTreeSet<AccountId>) -> bool {
        self.watched.len() == accounts.len() && self.watched.keys().eq(accounts)
    }

    /// When [`Self::update`] has something to do.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let rotate = (self.aim != Aim::Everybody).then_some(self.rotate_at);
        self.watched
            .values()
            .filter_map(|w| w.reach_until)
            .chain(rotate)
            .min()
    }

    /// Brings the choice up to date. `enough`: so many devices are being connected to that there
    /// is no need for others.
    pub(super) fn update(
        &mut self,
        now: Duration,
        members: &BTreeSet<AccountId>,
        own: &AccountId,
        aim: Aim,
        enough: bool,
        rng: &mut Rng,
    ) {
        self.watched.retain(|id, _| members.contains(id));
        for w in self.watched.values_mut() {
            w.reach_until = w.reach_until.filter(|at| *at > now);
        }
        if aim != self.aim {
            self.aim = aim;
            self.rotate_at = now.saturating_add(self.period());
            // They are known by now.
            for w in self.watched.values_mut() {
                w.probed = true;
            }
        } else if now >= self.rotate_at {
            self.rotate_at = now.saturating_add(self.period());
            match aim {
                Aim::Everybody => {}
                Aim::Neighbours if enough => {}
                Aim::Neighbours => self.watched.retain(|_, w| !w.devices.is_empty()),
                Aim::Others => self.watched.retain(|_, w| w.reach_until.is_some()),
            }
        }
        let target = match aim {
            Aim::Everybody => members.len(),
            Aim::Neighbours => wanted(members.len()),
            Aim::Others => LOOKOUTS.min(members.len()),
        };
        if aim == Aim::Neighbours && members.contains(own) {
            // Other devices of ours, if there are any, are the best neighbours.
            self.watched.entry(*own).or_default();
        }
        let usual = |w: &Watched| w.reach_until.is_none();
        let mut count = self.watched.values().filter(|w| usual(w)).count();
        if aim == Aim::Others {
            while count > target {
                let ids: Vec<AccountId> = self
                    .watched
                    .iter()
                    .filter(|(_, w)| usual(w))
                    .map(|(id, _)| *id)
                    .collect();
                let Some(id) = ids.get(rng.below(ids.len())) else {
                    break;
                };
                self.watched.remove(id);
                count = count.saturating_sub(1);
            }
        }
        if count >= target {
            return;
        }
        let mut others: Vec<AccountId> = members
            .iter()
            .filter(|id| !self.watched.contains_key(id))
            .copied()
            .collect();
        while count < target && !others.is_empty() {
            let id = others.swap_remove(rng.below(others.len()));
            self.watched.insert(id, Watched::default());
            count = count.saturating_add(1);
        }
    }

    fn period(&self) -> Duration {
        match self.aim {
            Aim::Others => LOOKOUT,
            _ => ROTATE,
        }
    }

    /// A device of a watched member came, or went.
    pub(super) fn presence(&mut self, account: &AccountId, device: DeviceId, online: bool) {
        if let Some(w) = self.watched.get_mut(account) {
            if online {
                w.devices.insert(device);
            } else {
                w.devices.remove(&device);
            }
        }
    }

    /// Whether a device of this member is to be tried although there are neighbours; once each.
    pub(super) fn take_probe(&mut self, account: &AccountId) -> bool {
        self.watched
            .get_mut(account)
            .is_some_and(|w| !core::mem::replace(&mut w.probed, true))
    }

    /// A device could not be reached: a member of whom no other is there makes room.
    pub(super) fn failed(&mut self, account: &AccountId, device: &DeviceId) {
        if let Some(w) = self.watched.get_mut(account) {
            w.devices.remove(device);
            if w.devices.is_empty() && self.aim == Aim::Neighbours {
                self.watched.remove(account);
            }
        }
    }

    /// Whether [`Self::reach`] would do anything.
    pub(super) fn may_reach(&self, now: Duration) -> bool {
        now >= self.reach_after && self.aim == Aim::Others
    }

    /// There is news: looks for a few of `apart`, members without a connection.
    pub(super) fn reach(&mut self, now: Duration, mut apart: Vec<AccountId>, rng: &mut Rng) {
        if !self.may_reach(now) {
            return;
        }
        self.reach_after = now.saturating_add(REACH_TIME);
        for _ in 0..REACH.min(apart.len()) {
            let id = apart.swap_remove(rng.below(apart.len()));
            let w = self.watched.entry(id).or_default();
            w.reach_until = Some(now.saturating_add(REACH_TIME));
            w.probed = false;
        }
    }

    /// Devices of watched members that were seen in the network.
    pub(super) fn is_present(&self, account: &AccountId, device: &DeviceId) -> bool {
        self.watched
            .get(account)
            .is_some_and(|w| w.devices.contains(device))
    }

    /// Devices that are there, of one watched member.
    pub(super) fn devices(&self, account: &AccountId) -> BTreeSet<DeviceId> {
        self.watched
            .get(account)
            .map(|w| w.devices.clone())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: AccountId = AccountId([0; 20]);

    fn members(count: u8) -> BTreeSet<AccountId> {
        (0..count).map(|n| AccountId([n; 20])).collect()
    }

    #[test]
    fn the_number_watched_grows_with_the_logarithm() {
        for (members, expected) in [(1, 1), (2, 2), (3, 3), (8, 6), (100, 9), (1000, 12)] {
            assert_eq!(wanted(members), expected);
        }
        assert_eq!(wanted(0), 0);
    }

    #[test]
    fn members_who_are_away_make_room_and_all_have_their_turn() {
        let (mut w, mut rng, all) = (Watch::new(), Rng::new([1; 32]), members(50));
        let mut seen = BTreeSet::new();
        let mut now = Duration::ZERO;
        for _ in 0..100 {
            w.update(now, &all, &OWN, Aim::Neighbours, false, &mut rng);
            assert!(w.accounts().contains(&OWN) && w.accounts().len() <= 9);
            seen.extend(w.accounts());
            now = w.timeout().unwrap();
        }
        assert_eq!(seen, all);
        // One that is there stays.
        let there = *w.accounts().last().unwrap();
        w.presence(&there, DeviceId([7; 32]), true);
        w.update(now, &all, &OWN, Aim::Neighbours, false, &mut rng);
        assert!(w.accounts().contains(&there));
        // With neighbours, one is enough, and another one each time.
        let mut seen = BTreeSet::new();
        for _ in 0..300 {
            w.update(now, &all, &OWN, Aim::Others, false, &mut rng);
            assert_eq!(w.accounts().len(), LOOKOUTS);
            seen.extend(w.accounts());
            now = w.timeout().unwrap();
        }
        assert!(seen.len() > 45);
    }

    #[test]
    fn news_reaches_out_to_two_and_not_with_every_message() {
        let (mut w, mut rng, all) = (Watch::new(), Rng::new([1; 32]), members(50));
        let mut now = Duration::from_secs(1);
        w.update(now, &all, &OWN, Aim::Others, false, &mut rng);
        let before = w.accounts();
        let apart: Vec<AccountId> = all.difference(&before).copied().collect();
        for _ in 0..10 {
            w.reach(now, apart.clone(), &mut rng);
            assert_eq!(w.accounts().len(), before.len() + REACH);
        }
        let id = *w.accounts().difference(&before).next().unwrap();
        assert!(w.take_probe(&id) && !w.take_probe(&id));
        now += REACH_TIME;
        w.update(now, &all, &OWN, Aim::Others, false, &mut rng);
        assert!(w.accounts().len() <= LOOKOUTS);
    }
}
