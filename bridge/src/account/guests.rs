//! How many channels of each kind a device may have open to us at a time: each kind holds memory of
//! ours for as long as the other side likes.

use starling_core::id::{AccountId, DeviceId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// What a channel that others opened is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Notices. A device opens one; a second while it does not know yet that the first is dead.
    Message,
    /// Fetching. Daemons open one a conversation when they come back.
    Git,
    /// Routing, one a conversation.
    Swarm,
    /// Cards, given and asked for. One is sent when a connection is new.
    Card,
}

impl Kind {
    /// So many at a time. Our choice: what an honest device needs, and some more.
    fn most(self) -> usize {
        match self {
            Self::Message | Self::Card => 4,
            Self::Git | Self::Swarm => 64,
        }
    }
}

/// Packs that are made for one account at the same time, on however many devices and channels.
const PACKS: usize = 2;

/// Who is here. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Guests(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    open: BTreeMap<(DeviceId, Kind), usize>,
    packs: BTreeMap<AccountId, Arc<Semaphore>>,
}

/// A place that is taken until this is dropped.
pub(super) struct Guest {
    guests: Guests,
    key: (DeviceId, Kind),
}

impl Guests {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, if there is one.
    pub(super) fn enter(&self, device: DeviceId, kind: Kind) -> Option<Guest> {
        let key = (device, kind);
        let mut inner = self.inner();
        let open = inner.open.entry(key).or_default();
        if *open >= kind.most() {
            return None;
        }
        *open += 1;
        Some(Guest {
            guests: self.clone(),
            key,
        })
    }

    /// What an account's fetches share.
    pub(super) fn packs(&self, account: AccountId) -> Arc<Semaphore> {
        let mut inner = self.inner();
        // Those that nobody uses any more.
        inner.packs.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns = inner.packs.entry(account);
        turns
            .or_insert_with(|| Arc::new(Semaphore::new(PACKS)))
            .clone()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut inner = self.guests.inner();
        if let Some(open) = inner.open.get_mut(&self.key) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                inner.open.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_for_each_device_and_kind_and_come_back() {
        let guests = Guests::default();
        let (a, b) = (DeviceId([1; 32]), DeviceId([2; 32]));
        let here: Vec<_> = (0..10)
            .filter_map(|_| guests.enter(a, Kind::Card))
            .collect();
        assert_eq!(here.len(), Kind::Card.most());
        assert!(guests.enter(a, Kind::Message).is_some());
        assert!(guests.enter(b, Kind::Card).is_some());
        drop(here);
        assert!(guests.enter(a, Kind::Card).is_some());
        assert!(guests.inner().open.is_empty());
    }

    #[test]
    fn packs_are_counted_for_each_account() {
        let guests = Guests::default();
        let (a, b) = (AccountId([1; 20]), AccountId([2; 20]));
        let turns = guests.packs(a);
        let held = turns.try_acquire_many(2);
        assert!(held.is_ok() && guests.packs(a).try_acquire().is_err());
        assert!(guests.packs(b).try_acquire().is_ok());
        assert_eq!(guests.inner().packs.len(), 2);
    }
}
