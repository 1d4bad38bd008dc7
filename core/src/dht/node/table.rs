//! The nodes of one address family: what is known of each, and the buckets
//! that decide whom to keep close contact with.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use crate::id::InfoHash;
use crate::rng::Rng;

/// Nodes per bucket, per node list and per target (OpenDHT `TARGET_NODES`).
pub(super) const TARGET_NODES: usize = 8;
/// A node that replied within this time is good (OpenDHT `NODE_GOOD_TIME`).
const GOOD_REPLY: Duration = Duration::from_secs(120 * 60);
/// ... if it was heard within this time (OpenDHT `NODE_EXPIRE_TIME`).
const GOOD_HEARD: Duration = Duration::from_secs(10 * 60);
/// A bucket nobody replied in for this long is refreshed.
const BUCKET_STALE: Duration = Duration::from_secs(10 * 60);

/// How much a sighting of a node is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sighting {
    /// Somebody listed it.
    Listed,
    /// It sent a message.
    Heard,
    /// It answered one of our requests, from this address.
    Replied,
}

/// What is known of one node.
#[derive(Debug, Clone)]
pub(super) struct NodeState {
    pub(super) addr: SocketAddr,
    /// Last message of any kind.
    pub(super) heard: Option<Duration>,
    /// Last reply to a request of ours.
    pub(super) replied: Option<Duration>,
    /// It let a request fail, and was silent since.
    pub(super) expired: bool,
    /// 401 answers in a row.
    pub(super) auth_errors: u8,
    /// It said that it is a client: it serves nobody.
    pub(super) client: bool,
    /// Requests to it that are under way.
    pub(super) pending: u32,
}

impl NodeState {
    pub(super) fn is_good(&self, now: Duration) -> bool {
        let within = |t: Option<Duration>, max| t.is_some_and(|t| now.saturating_sub(t) < max);
        !self.expired && within(self.replied, GOOD_REPLY) && within(self.heard, GOOD_HEARD)
    }

    fn is_removable(&self, now: Duration) -> bool {
        self.expired
            && self
                .heard
                .is_none_or(|t| now.saturating_sub(t) >= GOOD_HEARD)
    }
}

/// A range of ids and the nodes kept in it.
#[derive(Debug, Clone)]
struct Bucket {
    first: InfoHash,
    /// How many leading bits all its ids share.
    bits: u8,
    nodes: Vec<InfoHash>,
    /// Who takes the next free place.
    candidate: Option<InfoHash>,
    replied: Option<Duration>,
}

/// What came of a sighting.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// It may serve searches: it is no client, and was not known or was thought dead before.
    pub(super) fresh: bool,
    /// A node whose place the newcomer wants: to be pinged.
    pub(super) doubt: Option<InfoHash>,
    /// The claimed address differs from the confirmed one: it is to be pinged there.
    pub(super) moved: bool,
}

/// How many nodes there are of each kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct NodeCounts {
    /// Replied and heard recently.
    pub good: usize,
    /// Neither good nor expired.
    pub dubious: usize,
    /// Known at all, in buckets or not.
    pub known: usize,
}

/// The nodes of one family.
pub(super) struct Table {
    own: InfoHash,
    limit: usize,
    nodes: BTreeMap<InfoHash, NodeState>,
    buckets: Vec<Bucket>,
    grown: Option<Duration>,
}

impl Table {
    /// `limit`: most nodes remembered.
    pub(super) fn new(own: InfoHash, limit: usize) -> Self {
        let all = Bucket {
            first: InfoHash([0; 20]),
            bits: 0,
            nodes: Vec::new(),
            candidate: None,
            replied: None,
        };
        Self {
            own,
            limit,
            nodes: BTreeMap::new(),
            buckets: vec![all],
            grown: None,
        }
    }

    pub(super) fn get(&self, id: &InfoHash) -> Option<&NodeState> {
        self.nodes.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &InfoHash) -> Option<&mut NodeState> {
        self.nodes.get_mut(id)
    }

    /// When the own bucket last took in somebody.
    pub(super) fn grown(&self) -> Option<Duration> {
        self.grown
    }

    /// Notes a sighting. An address that once replied is only replaced by a reply from
    /// another one, so that nobody can divert a node by naming its id.
    pub(super) fn seen(
        &mut self,
        now: Duration,
        id: InfoHash,
        addr: SocketAddr,
        sighting: Sighting,
        client: bool,
    ) -> Seen {
        let mut seen = Seen::default();
        if id == self.own || id == InfoHash([0; 20]) {
            return seen;
        }
        match self.nodes.get_mut(&id) {
            Some(node) => {
                let confirmed = node.replied.is_some() && !node.expired;
                if node.addr != addr {
                    if sighting == Sighting::Replied
                        || (!confirmed && (sighting == Sighting::Heard || node.heard.is_none()))
                    {
                        node.addr = addr;
                    } else {
                        // Hearsay, or somebody who may lie about its id.
                        seen.moved = sighting == Sighting::Heard;
                        return seen;
                    }
                }
                seen.fresh = node.expired && sighting != Sighting::Listed && !node.client;
                if sighting != Sighting::Listed {
                    node.heard = Some(now);
                    node.expired = false;
                }
                if sighting == Sighting::Replied {
                    node.replied = Some(now);
                }
            }
            None => {
                if self.nodes.len() >= self.limit && !self.make_room(now) {
                    return seen;
                }
                seen.fresh = !client;
                let heard = (sighting != Sighting::Listed).then_some(now);
                let replied = (sighting == Sighting::Replied).then_some(now);
                self.nodes.insert(
                    id,
                    NodeState {
                        addr,
                        heard,
                        replied,
                        expired: false,
                        auth_errors: 0,
                        client,
                        pending: 0,
                    },
                );
            }
        }
        let client = self.nodes.get(&id).is_some_and(|n| n.client);
        if !client {
            let at = bucket_of(&self.buckets, &id);
            if sighting == Sighting::Replied
                && let Some(bucket) = self.buckets.get_mut(at)
            {
                bucket.replied = Some(now);
            }
            seen.doubt = self.insert(now, id);
        }
        seen
    }

    /// Frees places for new nodes: those outside the buckets with nothing under way leave, the
    /// longest silent first. An eighth at once, so that a flood of invented ids costs little.
    fn make_room(&mut self, now: Duration) -> bool {
        let mut idle: Vec<_> = self
            .nodes
            .iter()
            .filter(|(id, n)| n.pending == 0 && !self.in_bucket(id))
            .map(|(id, n)| (n.is_good(now), n.heard, *id))
            .collect();
        idle.sort_unstable();
        idle.truncate((self.limit / 8).max(1));
        for (_, _, id) in &idle {
            self.nodes.remove(id);
        }
        !idle.is_empty()
    }

    fn in_bucket(&self, id: &InfoHash) -> bool {
        self.buckets
            .get(bucket_of(&self.buckets, id))
            .is_some_and(|b| b.nodes.contains(id))
    }

    fn insert(&mut self, now: Duration, id: InfoHash) -> Option<InfoHash> {
        loop {
            let at = bucket_of(&self.buckets, &id);
            let own = at == bucket_of(&self.buckets, &self.own);
            let only = self.buckets.len() == 1;
            let nodes = &self.nodes;
            let bucket = self.buckets.get_mut(at)?;
            if bucket.nodes.contains(&id) {
                return None;
            }
            if bucket.nodes.len() < TARGET_NODES {
                bucket.nodes.push(id);
                if own {
                    self.grown = Some(now);
                }
                return None;
            }
            let dead = bucket
                .nodes
                .iter_mut()
                .find(|id| nodes.get(id).is_none_or(|n| n.expired));
            if let Some(place) = dead {
                *place = id;
                if own {
                    self.grown = Some(now);
                }
                return None;
            }
            let doubtful = |id: &&InfoHash| nodes.get(id).is_some_and(|n| !n.is_good(now));
            let dubious = bucket.nodes.iter().any(|id| doubtful(&id));
            if (only || (own && !dubious)) && bucket.bits < 159 {
                self.split(at);
                continue;
            }
            let doubt = bucket
                .nodes
                .iter()
                .filter(doubtful)
                .find(|id| nodes.get(id).is_some_and(|n| n.pending == 0))
                .copied();
            let taken = bucket
                .candidate
                .and_then(|c| nodes.get(&c))
                .is_some_and(|c| !c.expired);
            if !taken {
                bucket.candidate = Some(id);
            }
            return doubt;
        }
    }

    fn split(&mut self, at: usize) {
        let Some(old) = self.buckets.get_mut(at) else {
            return;
        };
        let bit = old.bits;
        old.bits = old.bits.saturating_add(1);
        let mut first = old.first;
        set_bit(&mut first, bit);
        let (high, low): (Vec<_>, Vec<_>) = old.nodes.drain(..).partition(|id| *id >= first);
        old.nodes = low;
        let candidate = if old.candidate.is_some_and(|c| c >= first) {
            old.candidate.take()
        } else {
            None
        };
        let new = Bucket {
            first,
            bits: old.bits,
            nodes: high,
            candidate,
            replied: old.replied,
        };
        self.buckets.insert(at.saturating_add(1), new);
    }

    /// A request to the node failed for good.
    pub(super) fn expire(&mut self, id: &InfoHash) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.expired = true;
        }
    }

    /// The good nodes of the buckets closest to a target: what a reply lists.
    pub(super) fn closest_good(
        &self,
        now: Duration,
        target: &InfoHash,
        count: usize,
    ) -> Vec<(InfoHash, SocketAddr)> {
        let good = self
            .buckets
            .iter()
            .flat_map(|b| b.nodes.iter())
            .filter_map(|id| Some((*id, self.nodes.get(id)?)))
            .filter(|(_, n)| n.is_good(now))
            .map(|(id, n)| (id, n.addr));
        closest(good, target, count)
    }

    /// The closest nodes that may serve a search, good or not.
    pub(super) fn closest_usable(
        &self,
        target: &InfoHash,
        count: usize,
    ) -> Vec<(InfoHash, SocketAddr)> {
        let usable = self
            .nodes
            .iter()
            .filter(|(_, n)| !n.expired && !n.client)
            .map(|(id, n)| (*id, n.addr));
        closest(usable, target, count)
    }

    pub(super) fn counts(&self, now: Duration) -> NodeCounts {
        let mut counts = NodeCounts {
            known: self.nodes.len(),
            ..NodeCounts::default()
        };
        let kept = self.buckets.iter().flat_map(|b| b.nodes.iter());
        for node in kept.filter_map(|id| self.nodes.get(id)) {
            if node.is_good(now) {
                counts.good = counts.good.saturating_add(1);
            } else if !node.expired {
                counts.dubious = counts.dubious.saturating_add(1);
            }
        }
        counts
    }

    /// Good nodes for a later start, those near us first.
    pub(super) fn export(&self, now: Duration) -> Vec<(InfoHash, SocketAddr)> {
        self.closest_good(now, &self.own, usize::MAX)
    }

    /// Buckets that are empty or nobody replied in lately: a random id of each, and somebody to ask for it.
    pub(super) fn stale(&self, now: Duration, rng: &mut Rng) -> Vec<(InfoHash, InfoHash)> {
        let mut out = Vec::new();
        for (at, bucket) in self.buckets.iter().enumerate() {
            let fresh = bucket
                .replied
                .is_some_and(|t| now.saturating_sub(t) < BUCKET_STALE);
            if fresh && !bucket.nodes.is_empty() {
                continue;
            }
            let mut target = bucket.first;
            randomise(&mut target, bucket.bits, rng);
            let alive = |b: &Bucket| -> Vec<InfoHash> {
                let live = |id: &&InfoHash| self.nodes.get(id).is_some_and(|n| !n.expired);
                b.nodes.iter().filter(live).copied().collect()
            };
            // One in eight asks a neighbour, in case the bucket only knows itself.
            let mut askable = alive(bucket);
            if askable.is_empty() || rng.below(8) == 0 {
                let around = [at.checked_sub(1), at.checked_add(1)];
                let neighbours = around
                    .into_iter()
                    .flatten()
                    .filter_map(|i| self.buckets.get(i));
                let near: Vec<_> = neighbours.flat_map(alive).collect();
                if !near.is_empty() {
                    askable = near;
                }
            }
            if let Some(node) = askable.get(rng.below(askable.len())) {
                out.push((target, *node));
            }
        }
        out
    }

    /// Some node that may be asked anything.
    pub(super) fn any_usable(&self, rng: &mut Rng) -> Option<InfoHash> {
        let usable: Vec<_> = self
            .buckets
            .iter()
            .flat_map(|b| b.nodes.iter())
            .filter(|id| self.nodes.get(id).is_some_and(|n| !n.expired))
            .collect();
        usable.get(rng.below(usable.len())).map(|id| **id)
    }

    /// Anybody of the buckets, dead or not, those near us first: when there is nobody else to ask.
    pub(super) fn last_resort(&self, count: usize) -> Vec<InfoHash> {
        let all = self
            .buckets
            .iter()
            .flat_map(|b| b.nodes.iter())
            .filter_map(|id| Some((*id, self.nodes.get(id)?.addr)));
        let near = closest(all, &self.own, count);
        near.into_iter().map(|(id, _)| id).collect()
    }

    /// Nodes of buckets that were never confirmed and have nothing under way.
    pub(super) fn unconfirmed(&self) -> Vec<InfoHash> {
        let unknown =
            |n: &NodeState| n.replied.is_none() && !n.expired && n.pending == 0 && !n.client;
        self.buckets
            .iter()
            .flat_map(|b| b.nodes.iter())
            .filter(|id| self.nodes.get(id).is_some_and(unknown))
            .copied()
            .collect()
    }

    /// Drops the dead, and those outside the buckets that nobody uses. Returns candidates for the
    /// freed places: to be pinged.
    pub(super) fn sweep(
        &mut self,
        now: Duration,
        in_use: impl Fn(&InfoHash) -> bool,
    ) -> Vec<InfoHash> {
        let mut ping = Vec::new();
        for bucket in &mut self.buckets {
            let before = bucket.nodes.len();
            bucket
                .nodes
                .retain(|id| self.nodes.get(id).is_some_and(|n| !n.is_removable(now)));
            if bucket.nodes.len() < before || bucket.nodes.len() < TARGET_NODES {
                ping.extend(bucket.candidate.take());
            }
        }
        let kept: std::collections::BTreeSet<InfoHash> = self
            .buckets
            .iter()
            .flat_map(|b| b.nodes.iter().chain(&b.candidate))
            .chain(&ping)
            .copied()
            .collect();
        self.nodes.retain(|id, n| {
            kept.contains(id) || n.pending > 0 || (in_use(id) && !n.is_removable(now))
        });
        ping
    }

    /// After a change of networks nothing is known of anybody, and nobody is thought dead.
    pub(super) fn network_changed(&mut self) {
        for node in self.nodes.values_mut() {
            node.expired = false;
            node.replied = None;
            node.heard = None;
        }
        for bucket in &mut self.buckets {
            bucket.replied = None;
        }
        self.grown = None;
    }
}

/// The bucket an id falls into: the last whose first id is not greater.
fn bucket_of(buckets: &[Bucket], id: &InfoHash) -> usize {
    buckets
        .partition_point(|b| b.first <= *id)
        .saturating_sub(1)
}

fn closest(
    nodes: impl Iterator<Item = (InfoHash, SocketAddr)>,
    target: &InfoHash,
    count: usize,
) -> Vec<(InfoHash, SocketAddr)> {
    let mut all: Vec<_> = nodes.collect();
    all.sort_by_cached_key(|(id, _)| id.xor(target));
    all.truncate(count);
    all
}

fn set_bit(id: &mut InfoHash, bit: u8) {
    if let Some(byte) = id.0.get_mut(usize::from(bit / 8)) {
        *byte |= 0x80u8 >> (bit % 8);
    }
}

/// Draws all bits after the first `keep`.
fn randomise(id: &mut InfoHash, keep: u8, rng: &mut Rng) {
    let mut random = [0; 20];
    rng.fill(&mut random);
    for bit in keep..160 {
        let mask = 0x80u8 >> (bit % 8);
        let at = usize::from(bit / 8);
        if let (Some(byte), Some(drawn)) = (id.0.get_mut(at), random.get(at)) {
            *byte = (*byte & !mask) | (drawn & mask);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn id(n: u8, m: u8) -> InfoHash {
        let mut id = [0; 20];
        id[0] = n;
        id[19] = m;
        InfoHash(id)
    }

    fn at(n: u16) -> SocketAddr {
        SocketAddr::new([10, 0, 0, 1].into(), n)
    }

    #[test]
    fn the_own_bucket_splits_and_others_stay_small() {
        let own = id(0, 1);
        let mut table = Table::new(own, 4096);
        for n in 0..=255u8 {
            table.seen(
                NOW,
                id(n, 7),
                at(1 + u16::from(n)),
                Sighting::Replied,
                false,
            );
        }
        assert!(table.buckets.len() > 3);
        for bucket in &table.buckets {
            assert!(bucket.nodes.len() <= TARGET_NODES);
        }
        assert_eq!(table.closest_good(NOW, &own, 1)[0].0, id(0, 7));
        let counts = table.counts(NOW);
        assert_eq!((counts.dubious, counts.known), (0, 256));
        // Who has no place is forgotten by the next sweep.
        table.sweep(NOW, |_| false);
        assert!(table.nodes.len() <= counts.good + table.buckets.len());
    }

    #[test]
    fn naming_an_id_does_not_divert_its_node() {
        let mut table = Table::new(id(0, 1), 16);
        let bob = id(9, 9);
        table.seen(NOW, bob, at(1), Sighting::Replied, false);
        for sighting in [Sighting::Listed, Sighting::Heard] {
            let seen = table.seen(NOW, bob, at(666), sighting, false);
            assert_eq!(seen.moved, sighting == Sighting::Heard);
            assert_eq!(table.get(&bob).unwrap().addr, at(1));
        }
        table.seen(NOW, bob, at(2), Sighting::Replied, false);
        assert_eq!(table.get(&bob).unwrap().addr, at(2));
    }

    #[test]
    fn clients_own_id_and_zero_never_enter() {
        let own = id(0, 1);
        let mut table = Table::new(own, 16);
        table.seen(NOW, own, at(1), Sighting::Replied, false);
        table.seen(NOW, InfoHash([0; 20]), at(1), Sighting::Replied, false);
        assert!(
            !table
                .seen(NOW, id(3, 3), at(3), Sighting::Heard, true)
                .fresh
        );
        assert!(table.closest_usable(&own, 8).is_empty());
        assert_eq!(table.counts(NOW).good, 0);
        // The flag is fixed by the first sighting.
        table.seen(NOW, id(3, 3), at(3), Sighting::Replied, false);
        assert!(table.closest_good(NOW, &own, 8).is_empty());
    }

    #[test]
    fn a_full_memory_keeps_the_buckets() {
        let mut table = Table::new(id(0, 1), 16);
        for n in 0..200u8 {
            table.seen(
                NOW,
                id(0x80 | n, n),
                at(1 + u16::from(n)),
                Sighting::Listed,
                false,
            );
        }
        assert!(table.nodes.len() <= 16);
        for n in table.buckets.iter().flat_map(|b| &b.nodes) {
            assert!(table.nodes.contains_key(n));
        }
    }

    #[test]
    fn silence_makes_dubious_and_failure_makes_room() {
        let mut table = Table::new(id(0, 1), 64);
        let bob = id(9, 9);
        table.seen(NOW, bob, at(1), Sighting::Replied, false);
        let later = NOW + GOOD_HEARD;
        assert_eq!(table.counts(later).dubious, 1);
        table.expire(&bob);
        assert_eq!(
            table.counts(later),
            NodeCounts {
                known: 1,
                ..NodeCounts::default()
            }
        );
        assert!(table.seen(later, bob, at(1), Sighting::Heard, false).fresh);
        table.expire(&bob);
        table.sweep(later + GOOD_HEARD, |_| true);
        assert_eq!(table.counts(later).known, 0);
    }

    proptest! {
        #[test]
        fn every_id_has_exactly_one_bucket(ids in proptest::collection::vec(any::<[u8; 20]>(), 1..200), own in any::<[u8; 20]>()) {
            let mut table = Table::new(InfoHash(own), 4096);
            let mut rng = crate::rng::Rng::new([0; 32]);
            for (n, id) in ids.iter().enumerate() {
                table.seen(NOW, InfoHash(*id), at(1 + n as u16), Sighting::Replied, false);
            }
            for (i, bucket) in table.buckets.iter().enumerate() {
                for node in &bucket.nodes {
                    prop_assert_eq!(bucket_of(&table.buckets, node), i);
                }
                let mut drawn = bucket.first;
                randomise(&mut drawn, bucket.bits, &mut rng);
                prop_assert_eq!(bucket_of(&table.buckets, &drawn), i);
            }
        }
    }
}
