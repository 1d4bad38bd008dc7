//! The values this node keeps: those of others within quotas, and its own.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::limits::Source;
use crate::dht::value::{Value, ValueId};
use crate::id::InfoHash;

/// What a kept value costs besides its content: so that many tiny values fill the store too.
/// Our estimate of the maps' entries.
const OVERHEAD: usize = 256;

/// A value kept for the network.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) value: Arc<Value>,
    /// When it leaves; [`Duration::MAX`] for an own permanent value.
    pub(super) expires: Duration,
    /// Who first stored or last edited it; `None` is this node.
    pub(super) source: Option<Source>,
    /// From an earlier run, and nobody has said since that it is still so.
    pub(super) remembered: bool,
    size: usize,
}

impl Stored {
    /// What it counts against the limits.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

/// A value that left the store.
pub(super) type Gone = (InfoHash, Arc<Value>);

#[derive(Debug, Default)]
struct Usage {
    bytes: usize,
    /// By expiry: the next to leave is the first.
    values: BTreeSet<(Duration, InfoHash, ValueId)>,
}

/// Bounds of the store for the values of others.
#[derive(Debug, Clone, Copy)]
pub(super) struct StorageLimits {
    pub(super) bytes: usize,
    pub(super) values_per_key: usize,
}

/// All values, by key and id.
pub(super) struct Storage {
    limits: StorageLimits,
    keys: BTreeMap<InfoHash, BTreeMap<ValueId, Stored>>,
    expiry: BTreeSet<(Duration, InfoHash, ValueId)>,
    sources: BTreeMap<Source, Usage>,
    /// The sources by how much they hold.
    ranking: BTreeSet<(usize, Source)>,
    remote_bytes: usize,
}

impl Storage {
    pub(super) fn new(limits: StorageLimits) -> Self {
        Self {
            limits,
            keys: BTreeMap::new(),
            expiry: BTreeSet::new(),
            sources: BTreeMap::new(),
            ranking: BTreeSet::new(),
            remote_bytes: 0,
        }
    }

    /// Number of values and bytes of others' content.
    pub(super) fn usage(&self) -> (usize, usize) {
        (self.expiry.len(), self.remote_bytes)
    }

    /// The values of others with their keys; what leaves last comes first.
    pub(super) fn latest(&self) -> impl Iterator<Item = (InfoHash, &Stored)> {
        self.expiry
            .iter()
            .rev()
            .filter_map(|(_, key, id)| Some((*key, self.get(key, *id)?)))
            .filter(|(_, stored)| stored.source.is_some())
    }

    pub(super) fn knows(&self, key: &InfoHash) -> bool {
        self.keys.contains_key(key)
    }

    pub(super) fn get(&self, key: &InfoHash, id: ValueId) -> Option<&Stored> {
        self.keys.get(key)?.get(&id)
    }

    pub(super) fn values(&self, key: &InfoHash) -> impl Iterator<Item = &Stored> {
        self.keys.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// The values that our own lookups find here.
    pub(super) fn found(&self, key: &InfoHash) -> impl Iterator<Item = &Stored> {
        self.values(key).filter(|s| !s.remembered)
    }

    /// Nobody has said yet in this run that a value is still so.
    pub(super) fn doubt(&mut self, key: &InfoHash, id: ValueId) {
        if let Some(stored) = self.keys.get_mut(key).and_then(|v| v.get_mut(&id)) {
            stored.remembered = true;
        }
    }

    /// Stores or replaces. Returns what had to leave for it, which may be the value itself;
    /// `None` when the key is full.
    pub(super) fn insert(
        &mut self,
        key: InfoHash,
        value: Arc<Value>,
        expires: Duration,
        source: Option<Source>,
    ) -> Option<Vec<Gone>> {
        let id = value.id;
        let here = self.keys.get(&key);
        let count = here.map_or(0, BTreeMap::len);
        let known = here.is_some_and(|v| v.contains_key(&id));
        if !known && source.is_some() && count >= self.limits.values_per_key {
            return None;
        }
        self.remove(&key, id);
        let size = value.accounted_size().saturating_add(OVERHEAD);
        self.expiry.insert((expires, key, id));
        if let Some(source) = source {
            self.remote_bytes = self.remote_bytes.saturating_add(size);
            let usage = self.sources.entry(source).or_default();
            self.ranking.remove(&(usage.bytes, source));
            usage.bytes = usage.bytes.saturating_add(size);
            usage.values.insert((expires, key, id));
            self.ranking.insert((usage.bytes, source));
        }
        let stored = Stored {
            value,
            expires,
            source,
            remembered: false,
            size,
        };
        self.keys.entry(key).or_default().insert(id, stored);
        Some(self.evict())
    }

    /// Moves the expiry of a value that somebody has just said is still so. False when there is no such value.
    pub(super) fn refresh(&mut self, key: &InfoHash, id: ValueId, expires: Duration) -> bool {
        let Some(stored) = self.keys.get_mut(key).and_then(|v| v.get_mut(&id)) else {
            return false;
        };
        let old = (stored.expires, *key, id);
        stored.expires = expires;
        stored.remembered = false;
        self.expiry.remove(&old);
        self.expiry.insert((expires, *key, id));
        if let Some(usage) = stored.source.and_then(|s| self.sources.get_mut(&s)) {
            usage.values.remove(&old);
            usage.values.insert((expires, *key, id));
        }
        true
    }

    pub(super) fn remove(&mut self, key: &InfoHash, id: ValueId) -> Option<Arc<Value>> {
        let values = self.keys.get_mut(key)?;
        let stored = values.remove(&id)?;
        if values.is_empty() {
            self.keys.remove(key);
        }
        self.expiry.remove(&(stored.expires, *key, id));
        if let Some(source) = stored.source {
            self.remote_bytes = self.remote_bytes.saturating_sub(stored.size);
            if let Some(usage) = self.sources.get_mut(&source) {
                self.ranking.remove(&(usage.bytes, source));
                usage.bytes = usage.bytes.saturating_sub(stored.size);
                usage.values.remove(&(stored.expires, *key, id));
                if usage.values.is_empty() {
                    self.sources.remove(&source);
                } else {
                    self.ranking.insert((usage.bytes, source));
                }
            }
        }
        Some(stored.value)
    }

    /// Makes room: whoever holds most loses what would leave first anyway.
    fn evict(&mut self) -> Vec<Gone> {
        let mut gone = Vec::new();
        while self.remote_bytes > self.limits.bytes {
            let Some((_, source)) = self.ranking.last().copied() else {
                break;
            };
            let first = self
                .sources
                .get(&source)
                .and_then(|u| u.values.first().copied());
            let Some((_, key, id)) = first else { break };
            let Some(value) = self.remove(&key, id) else {
                break;
            };
            gone.push((key, value));
        }
        gone
    }

    /// When the next value leaves.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.expiry
            .first()
            .map(|(at, _, _)| *at)
            .filter(|at| *at != Duration::MAX)
    }

    /// Removes what is past its time.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Gone> {
        let mut gone = Vec::new();
        while let Some((at, key, id)) = self.expiry.first().copied() {
            if at > now {
                break;
            }
            match self.remove(&key, id) {
                Some(value) => gone.push((key, value)),
                // Not reached: the index and the store change together.
                None => {
                    self.expiry.remove(&(at, key, id));
                }
            }
        }
        gone
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(id: u64, len: usize) -> Arc<Value> {
        Arc::new(Value::new(0, vec![0; len]).with_id(id))
    }

    fn from(n: u8) -> Option<Source> {
        Some(Source::V4([192, 0, 2, n]))
    }

    const KEY: InfoHash = InfoHash([1; 20]);

    #[test]
    fn who_holds_most_pays_for_a_flood() {
        let mut store = Storage::new(StorageLimits {
            bytes: 100_000,
            values_per_key: 100,
        });
        let secs = Duration::from_secs;
        assert_eq!(
            store
                .insert(KEY, value(1, 1000), secs(1), from(1))
                .unwrap()
                .len(),
            0
        );
        store.insert(KEY, value(2, 1000), secs(1), None);
        let mut gone = 0;
        for n in 0..60 {
            let key = InfoHash([3; 20]);
            gone += store
                .insert(key, value(n, 5000), secs(600 - n), from(66))
                .unwrap()
                .len();
        }
        assert!(gone > 30);
        assert!(store.usage().1 <= 100_000);
        assert!(store.get(&KEY, 1).is_some());
        assert!(store.get(&KEY, 2).is_some());
    }

    #[test]
    fn a_key_has_room_for_so_many_of_others_and_always_for_ours() {
        let mut store = Storage::new(StorageLimits {
            bytes: 100_000,
            values_per_key: 2,
        });
        let t = Duration::from_secs(9);
        for (id, room) in [(1, true), (2, true), (3, false), (1, true)] {
            assert_eq!(store.insert(KEY, value(id, 1), t, from(1)).is_some(), room);
        }
        assert!(
            store
                .insert(KEY, value(4, 1), Duration::MAX, None)
                .is_some()
        );
        assert_eq!(store.next_expiry(), Some(t));
        assert_eq!(store.expire(t).len(), 2);
        assert_eq!(store.next_expiry(), None);
    }

    proptest! {
        #[test]
        fn the_books_balance(ops in proptest::collection::vec((0u8..4, 0u8..3, 0u64..5, 0usize..900, 0u8..4, 0u64..50), 0..200)) {
            let mut store = Storage::new(StorageLimits { bytes: 5000, values_per_key: 4 });
            for (op, key, id, len, who, at) in ops {
                let key = InfoHash([key; 20]);
                let at = Duration::from_secs(at);
                match op {
                    0 | 1 => { store.insert(key, value(id, len), at, if who == 3 { None } else { from(who) }); }
                    2 => { store.refresh(&key, id, at); }
                    _ => { store.remove(&key, id); }
                }
                let all: Vec<_> = store.keys.values().flat_map(BTreeMap::values).collect();
                let remote: usize = all.iter().filter(|s| s.source.is_some()).map(|s| s.size).sum();
                prop_assert_eq!(store.remote_bytes, remote);
                prop_assert!(remote <= 5000);
                prop_assert_eq!(store.expiry.len(), all.len());
                let used: usize = store.sources.values().map(|u| u.bytes).sum();
                prop_assert_eq!(used, remote);
                prop_assert_eq!(store.ranking.len(), store.sources.len());
            }
            store.expire(Duration::from_secs(50));
            prop_assert!(store.keys.is_empty() && store.sources.is_empty() && store.ranking.is_empty());
        }
    }
}
