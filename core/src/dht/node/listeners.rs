//! Others who listen at this node: who is to be told about which key.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use super::limits::Source;
use crate::dht::query::Query;
use crate::id::InfoHash;

/// How long a listener stays after its last listen (OpenDHT `Node::NODE_EXPIRE_TIME`, 10 min).
const LISTENER_TIME: Duration = Duration::from_secs(10 * 60);
/// Most listeners of one key. Our bound; the reference has none.
const PER_KEY: usize = 512;
/// Most listeners of one requester (see [`Source`]). Our bound: a client has four nodes per key,
/// and few requesters are behind one address.
const PER_SOURCE: usize = 2048;
/// Most listeners at all. Our bound.
const TOTAL: usize = 32_768;

/// One listener: a node may listen several times with different sockets, and once per family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ListenerId {
    pub(super) node: InfoHash,
    pub(super) v6: bool,
    pub(super) sid: u32,
}

/// How and about what it wants to be told.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    /// Where its last listen came from: the token proved that it receives there.
    pub(super) addr: SocketAddr,
    pub(super) query: Query,
    /// 0: by replies to its socket id; 1: by update requests.
    pub(super) version: u32,
    heard: Duration,
}

/// All listeners, by key.
#[derive(Default)]
pub(super) struct Listeners {
    keys: BTreeMap<InfoHash, BTreeMap<ListenerId, Listener>>,
    sources: BTreeMap<Source, usize>,
    total: usize,
}

/// What came of a listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listening {
    /// It was not known: everything that is there is to be told.
    New,
    /// It goes on.
    Known,
    /// There is no room.
    Full,
}

impl Listeners {
    pub(super) fn count(&self) -> usize {
        self.total
    }

    pub(super) fn listen(
        &mut self,
        now: Duration,
        key: InfoHash,
        id: ListenerId,
        addr: SocketAddr,
        query: Query,
        version: u32,
    ) -> Listening {
        let source = Source::of(addr);
        let entry = Listener {
            addr,
            query,
            version,
            heard: now,
        };
        if let Some(known) = self.keys.get_mut(&key).and_then(|l| l.get_mut(&id)) {
            let old = Source::of(known.addr);
            *known = entry;
            if old != source {
                self.release(old);
                self.hold(source);
            }
            return Listening::Known;
        }
        let here = self.keys.get(&key).map_or(0, BTreeMap::len);
        let theirs = self.sources.get(&source).copied().unwrap_or_default();
        if self.total >= TOTAL || here >= PER_KEY || theirs >= PER_SOURCE {
            return Listening::Full;
        }
        self.keys.entry(key).or_default().insert(id, entry);
        self.hold(source);
        self.total = self.total.saturating_add(1);
        Listening::New
    }

    fn hold(&mut self, source: Source) {
        let held = self.sources.entry(source).or_default();
        *held = held.saturating_add(1);
    }

    fn release(&mut self, source: Source) {
        if let Some(n) = self.sources.get_mut(&source) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.sources.remove(&source);
            }
        }
    }

    /// One listener.
    pub(super) fn get(&self, key: &InfoHash, id: &ListenerId) -> Option<Listener> {
        self.keys.get(key)?.get(id).cloned()
    }

    /// Who listens at a key.
    pub(super) fn at(&self, now: Duration, key: &InfoHash) -> Vec<(ListenerId, Listener)> {
        self.keys
            .get(key)
            .into_iter()
            .flatten()
            .filter(|(_, l)| now.saturating_sub(l.heard) < LISTENER_TIME)
            .map(|(id, l)| (*id, l.clone()))
            .collect()
    }

    /// Forgets those who were silent too long.
    pub(super) fn sweep(&mut self, now: Duration) {
        let mut gone = Vec::new();
        self.keys.retain(|_, listeners| {
            listeners.retain(|_, l| {
                let keep = now.saturating_sub(l.heard) < LISTENER_TIME;
                if !keep {
                    gone.push(Source::of(l.addr));
                }
                keep
            });
            !listeners.is_empty()
        });
        self.total = self.total.saturating_sub(gone.len());
        for source in gone {
            self.release(source);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_bounded_and_lapse() {
        let mut all = Listeners::default();
        let (flood, carol) = (
            "192.0.2.1:1".parse().unwrap(),
            "192.0.2.2:1".parse().unwrap(),
        );
        let id = |sid| ListenerId {
            node: InfoHash([2; 20]),
            v6: false,
            sid,
        };
        let start = Duration::from_secs(1);
        let mut listen = |now, key: u8, sid, addr| {
            all.listen(now, InfoHash([key; 20]), id(sid), addr, Query::all(), 1)
        };
        assert_eq!(listen(start, 1, 1, flood), Listening::New);
        assert_eq!(listen(start, 1, 1, flood), Listening::Known);
        let taken = (0..10_000u32)
            .filter(|n| listen(start, (n % 100) as u8, 2 + n, flood) == Listening::New)
            .count();
        assert_eq!(taken, PER_SOURCE - 1);
        let later = start + LISTENER_TIME;
        assert_eq!(listen(later, 1, 1, carol), Listening::Known);
        assert_eq!(all.at(later, &InfoHash([1; 20])).len(), 1);
        all.sweep(later);
        assert_eq!((all.count(), all.keys.len(), all.sources.len()), (1, 1, 1));
        all.sweep(later + LISTENER_TIME);
        assert_eq!((all.count(), all.keys.len(), all.sources.len()), (0, 0, 0));
    }
}
