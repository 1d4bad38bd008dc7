//! Searches: the nodes closest to a key, and what has been asked of each.
//!
//! A search serves every operation on its key. It is advanced by events: a reply, a slow or a failed
//! request, a newly known node, or a time it asked to be woken at.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::requests::Purpose;
use super::table::TARGET_NODES;
use super::{Family, Node, Op, OpId, Progress};
use crate::dht::packet::Request;
use crate::dht::query::Query;
use crate::dht::types::ValueType;
use crate::id::InfoHash;

/// Nodes kept in a search (OpenDHT `SEARCH_NODES`).
pub(super) const SEARCH_NODES: usize = 14;
/// Requests under way in a search (OpenDHT `MAX_REQUESTED_SEARCH_NODES`).
const PARALLEL: usize = 4;
/// Nodes we listen at (OpenDHT `LISTEN_NODES`).
const LISTEN_NODES: usize = 4;
/// A node's token and place are trusted this long (OpenDHT `Node::NODE_EXPIRE_TIME`).
const SYNC_TIME: Duration = Duration::from_secs(10 * 60);
/// A permanent value is put again this long before it would expire (OpenDHT `REANNOUNCE_MARGIN`).
pub(super) const REANNOUNCE_MARGIN: Duration = Duration::from_secs(10);
/// Puts under way to one node in one search. Our bound: many values at one key go out in turns.
const PUTS_PER_NODE: usize = 8;
/// Strangers asked in one search within [`SYNC_TIME`]. Our bound: nodes that invent ever closer nodes
/// would keep a search going forever. An honest network of millions needs a few dozen.
const MAX_STRANGERS: usize = 200;
/// Most nodes in a search, slow ones included. Our bound.
const MAX_NODES: usize = 48;

/// A put at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutAt {
    Sent,
    /// Sent a second time: not waited for.
    Slow,
    Stored(Duration),
}

/// A subscription at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListenAt {
    pub(super) sid: u32,
    pub(super) sent: bool,
    pub(super) confirmed: Option<Duration>,
}

/// A node as one search sees it.
#[derive(Debug, Clone)]
pub(super) struct SearchNode {
    pub(super) id: InfoHash,
    pub(super) token: Option<Vec<u8>>,
    /// Last reply to a find or get of this search.
    pub(super) replied: Option<Duration>,
    /// Asked and slow to answer: not waited for, not given up.
    pub(super) slow: bool,
    /// A find or get is under way.
    pub(super) pending: bool,
    /// Gets it has answered.
    pub(super) answered: BTreeSet<OpId>,
    pub(super) puts: BTreeMap<OpId, PutAt>,
    pub(super) listens: BTreeMap<u64, ListenAt>,
}

impl SearchNode {
    fn new(id: InfoHash) -> Self {
        Self {
            id,
            token: None,
            replied: None,
            slow: false,
            pending: false,
            answered: BTreeSet::new(),
            puts: BTreeMap::new(),
            listens: BTreeMap::new(),
        }
    }

    fn is_synced(&self, now: Duration) -> bool {
        self.token.is_some()
            && self
                .replied
                .is_some_and(|t| now.saturating_sub(t) < SYNC_TIME)
    }

    fn puts_under_way(&self) -> usize {
        let under_way = |p: &&PutAt| matches!(p, PutAt::Sent | PutAt::Slow);
        self.puts.values().filter(under_way).count()
    }
}

/// One key in one family.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) key: InfoHash,
    /// Closest first.
    pub(super) nodes: Vec<SearchNode>,
    pub(super) gets: BTreeSet<OpId>,
    pub(super) puts: BTreeSet<OpId>,
    pub(super) subscriptions: BTreeSet<u64>,
    /// To be synced though no operation asks for it: the search for the own id.
    pub(super) explore: bool,
    pub(super) used: Duration,
    pub(super) wake: Option<Duration>,
    refilled: Option<Duration>,
    /// How many nodes were asked that had not answered before, since then.
    strangers: usize,
    counted_from: Duration,
}

impl Search {
    pub(super) fn new(key: InfoHash, now: Duration) -> Self {
        Self {
            key,
            nodes: Vec::new(),
            gets: BTreeSet::new(),
            puts: BTreeSet::new(),
            subscriptions: BTreeSet::new(),
            explore: false,
            used: now,
            wake: None,
            refilled: None,
            strangers: 0,
            counted_from: now,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.gets.is_empty() && self.puts.is_empty() && self.subscriptions.is_empty()
    }

    pub(super) fn node_mut(&mut self, id: &InfoHash) -> Option<&mut SearchNode> {
        self.nodes.iter_mut().find(|n| n.id == *id)
    }

    /// Takes a node in if it is among the closest. False if nothing changed.
    pub(super) fn offer(&mut self, id: InfoHash) -> bool {
        if self.is_exhausted() {
            return false;
        }
        let distance = id.xor(&self.key);
        let at = self
            .nodes
            .partition_point(|n| n.id.xor(&self.key) < distance);
        if self.nodes.get(at).is_some_and(|n| n.id == id) {
            return false;
        }
        let live_before = self.nodes.iter().take(at).filter(|n| !n.slow).count();
        if live_before >= SEARCH_NODES || at >= MAX_NODES {
            return false;
        }
        self.nodes.insert(at, SearchNode::new(id));
        // The farthest of too many live ones leaves, and all beyond it.
        let mut live = 0usize;
        let keep = self
            .nodes
            .iter()
            .position(|n| {
                live = live.saturating_add(usize::from(!n.slow));
                live > SEARCH_NODES
            })
            .unwrap_or(self.nodes.len());
        self.nodes.truncate(keep.min(MAX_NODES));
        true
    }

    /// Our address changed: tokens are void, and what was under way is lost. What is stored, is.
    pub(super) fn restart(&mut self) {
        self.refilled = None;
        self.strangers = 0;
        for node in &mut self.nodes {
            node.token = None;
            node.replied = None;
            node.slow = false;
            node.pending = false;
            node.puts.retain(|_, put| matches!(put, PutAt::Stored(_)));
            for listen in node.listens.values_mut() {
                listen.sent = false;
                listen.confirmed = None;
            }
        }
    }

    /// Indices of the nodes that count: the first ones that are not slow.
    fn targets(&self) -> Vec<usize> {
        self.nodes
            .iter()
            .enumerate()
            .filter(|(_, n)| self.counts(n))
            .map(|(i, _)| i)
            .take(TARGET_NODES)
            .collect()
    }

    /// Whether so many strangers were asked that it looks like a trick.
    fn is_exhausted(&self) -> bool {
        self.strangers >= MAX_STRANGERS
    }

    /// Whether a node is waited for: not if it is slow, nor if it is one stranger too many.
    fn counts(&self, node: &SearchNode) -> bool {
        !node.slow && (node.pending || node.replied.is_some() || !self.is_exhausted())
    }

    /// Whether there is somebody to wait for.
    pub(super) fn has_live_nodes(&self) -> bool {
        self.nodes.iter().any(|n| self.counts(n))
    }
}

/// What an advance of a search means for an operation.
pub(super) type Outcome = (OpId, Progress);

impl Node {
    /// Brings a search forward as far as it goes now.
    pub(super) fn step(&mut self, now: Duration, family: Family, key: InfoHash) {
        let Some(mut search) = self.net_mut(family).searches.remove(&key) else {
            return;
        };
        if let Some(at) = search.wake.take() {
            self.net_mut(family).wakes.remove(&(at, key));
        }
        let outcomes = self.advance(now, family, &mut search);
        let net = self.net_mut(family);
        if let Some(at) = search.wake {
            net.wakes.insert((at, key));
        }
        net.searches.insert(key, search);
        for (op, progress) in outcomes {
            self.progress(now, family, op, progress);
        }
    }

    fn advance(&mut self, now: Duration, family: Family, s: &mut Search) -> Vec<Outcome> {
        if s.is_idle() && !s.explore {
            return Vec::new();
        }
        s.used = now;
        let net = self.net(family);
        s.nodes
            .retain(|n| net.table.get(&n.id).is_some_and(|i| !i.expired));
        let due = s
            .refilled
            .is_none_or(|t| now.saturating_sub(t) >= SYNC_TIME);
        if s.nodes.is_empty() || (due && s.nodes.len() < SEARCH_NODES) {
            for (id, _) in net.table.closest_usable(&s.key, SEARCH_NODES) {
                s.offer(id);
            }
            s.refilled = Some(now);
        }
        if s.nodes.is_empty() {
            if self.is_connecting(now, family) {
                return Vec::new();
            }
            s.explore = false;
            let ops = s.gets.iter().chain(&s.puts);
            return ops.map(|op| (*op, Progress::Failed)).collect();
        }

        if now.saturating_sub(s.counted_from) >= SYNC_TIME {
            s.counted_from = now;
            s.strangers = 0;
        }
        let targets = s.targets();
        let synced = |i: &usize| s.nodes.get(*i).is_some_and(|n| n.is_synced(now));
        let prefix = targets.iter().take_while(|i| synced(i)).count();
        let all = !targets.is_empty() && prefix == targets.len();
        // The last of an incomplete prefix may still be replaced by a closer node.
        let ready = if all {
            prefix
        } else {
            prefix.saturating_sub(1)
        };
        let ready = targets.get(..ready).unwrap_or_default();

        self.send_listens(now, family, s, ready);
        self.send_puts(now, family, s, ready);
        self.send_asks(now, family, s, &targets);
        self.schedule(now, s, &targets);

        let mut outcomes = Vec::new();
        if all {
            s.explore = false;
            let every = |is: &dyn Fn(&SearchNode) -> bool| {
                targets.iter().all(|i| s.nodes.get(*i).is_some_and(is))
            };
            for op in &s.gets {
                if every(&|n| n.answered.contains(op)) {
                    outcomes.push((*op, Progress::Done));
                }
            }
            for op in &s.puts {
                let stored = |n: &SearchNode| matches!(n.puts.get(op), Some(PutAt::Stored(_)));
                let settled = |n: &SearchNode| stored(n) || n.puts.get(op) == Some(&PutAt::Slow);
                if every(&settled) && s.nodes.iter().any(stored) {
                    outcomes.push((*op, Progress::Done));
                }
            }
        }
        if targets.is_empty() && s.is_exhausted() {
            // Led astray. Those who were asked on the way have said what they had.
            outcomes.extend(s.gets.iter().map(|op| (*op, Progress::Done)));
            outcomes.extend(s.puts.iter().map(|op| (*op, Progress::Failed)));
        } else if !s.has_live_nodes() {
            let ops = s.gets.iter().chain(&s.puts);
            outcomes.extend(ops.map(|op| (*op, Progress::Stuck)));
        }
        outcomes
    }

    fn send_listens(&mut self, now: Duration, family: Family, s: &mut Search, ready: &[usize]) {
        let refresh = self.listen_refresh();
        let ids: Vec<u64> = s.subscriptions.iter().copied().collect();
        for subscription in ids {
            let Some(query) = self
                .subscriptions
                .get(&subscription)
                .map(|l| l.query.clone())
            else {
                continue;
            };
            for at in ready.iter().take(LISTEN_NODES) {
                let Some(node) = s.nodes.get_mut(*at) else {
                    continue;
                };
                let Some(token) = node.token.clone() else {
                    continue;
                };
                let known = node
                    .listens
                    .get(&subscription)
                    .copied()
                    .filter(|l| self.sockets.contains_key(&l.sid));
                let due = known.is_none_or(|l| {
                    !l.sent && l.confirmed.is_none_or(|t| now >= t.saturating_add(refresh))
                });
                if !due {
                    continue;
                }
                let sid = match known {
                    Some(l) => l.sid,
                    None => self.open_socket(now, family, node.id, subscription),
                };
                let request = Request::Listen {
                    key: Some(s.key),
                    version: 1,
                    token,
                    sid,
                    query: query.clone(),
                };
                let purpose = Purpose::Listen {
                    key: s.key,
                    subscription,
                };
                if self.ask(now, family, node.id, request, purpose) {
                    node.listens.insert(
                        subscription,
                        ListenAt {
                            sid,
                            sent: true,
                            confirmed: known.and_then(|l| l.confirmed),
                        },
                    );
                }
            }
        }
    }

    fn send_puts(&mut self, now: Duration, family: Family, s: &mut Search, ready: &[usize]) {
        let ops: Vec<OpId> = s.puts.iter().copied().collect();
        for op in ops {
            let Some(Op::Put(put)) = self.ops.get(&op) else {
                continue;
            };
            let (value, permanent, created) = (put.value.clone(), put.permanent, put.created);
            let again = reannounce_after(value.type_id());
            for at in ready {
                let Some(node) = s.nodes.get_mut(*at) else {
                    continue;
                };
                let due = match node.puts.get(&op) {
                    None => true,
                    Some(PutAt::Sent | PutAt::Slow) => false,
                    Some(PutAt::Stored(t)) => permanent && now >= t.saturating_add(again),
                };
                if !due || node.puts_under_way() >= PUTS_PER_NODE {
                    continue;
                }
                let Some(token) = node.token.clone() else {
                    continue;
                };
                let request = Request::Put {
                    key: Some(s.key),
                    values: vec![value.clone()].into(),
                    // A permanent value is as new as its announcement.
                    created: if permanent { None } else { created },
                    token,
                };
                let purpose = Purpose::Put { key: s.key, op };
                if self.ask(now, family, node.id, request, purpose) {
                    node.puts.insert(op, PutAt::Sent);
                }
            }
        }
    }

    fn send_asks(&mut self, now: Duration, family: Family, s: &mut Search, targets: &[usize]) {
        let mut under_way = s.nodes.iter().filter(|n| n.pending && !n.slow).count();
        for at in targets {
            if under_way >= PARALLEL {
                return;
            }
            let Some(node) = s.nodes.get_mut(*at) else {
                continue;
            };
            if node.pending {
                continue;
            }
            // All gets with the query of the first unanswered one share a request.
            let mut query: Option<Query> = None;
            let mut ops = Vec::new();
            for op in s.gets.iter().filter(|op| !node.answered.contains(op)) {
                if let Some(Op::Get(get)) = self.ops.get(op)
                    && *query.get_or_insert_with(|| get.query.clone()) == get.query
                {
                    ops.push(*op);
                }
            }
            let (request, purpose) = match query {
                Some(query) => (
                    Request::Get {
                        key: Some(s.key),
                        query,
                        want: None,
                    },
                    Purpose::Get { key: s.key, ops },
                ),
                None if !node.is_synced(now) => (
                    Request::Find {
                        target: s.key,
                        want: None,
                    },
                    Purpose::Find { key: Some(s.key) },
                ),
                None => continue,
            };
            if self.ask(now, family, node.id, request, purpose) {
                node.pending = true;
                under_way = under_way.saturating_add(1);
                s.strangers = s
                    .strangers
                    .saturating_add(usize::from(node.replied.is_none()));
            }
        }
    }

    /// Finds the next time at which the search has something to do by itself.
    fn schedule(&self, now: Duration, s: &mut Search, targets: &[usize]) {
        let mut wake = Duration::MAX;
        let refresh = self.listen_refresh();
        for node in targets.iter().filter_map(|i| s.nodes.get(*i)) {
            if let Some(replied) = node.replied.filter(|_| !node.pending) {
                wake = wake.min(replied.saturating_add(SYNC_TIME));
            }
            for listen in node.listens.values().filter(|l| !l.sent) {
                if let Some(at) = listen.confirmed {
                    wake = wake.min(at.saturating_add(refresh));
                }
            }
            for (op, put) in &node.puts {
                if let (PutAt::Stored(at), Some(Op::Put(p))) = (put, self.ops.get(op))
                    && p.permanent
                {
                    let again = reannounce_after(p.value.type_id());
                    wake = wake.min(at.saturating_add(again));
                }
            }
        }
        // What is already due waits for an event: a token, a reply, a place among those under way.
        s.wake = (wake != Duration::MAX).then(|| wake.max(now.saturating_add(MIN_WAKE)));
    }
}

/// Listens per second, all subscriptions together: with many contacts each is renewed less often. Ours.
const LISTENS_PER_SECOND: u64 = 50;
/// Longest time between two listens at a node (OpenDHT with `public_stable`): its entry lasts 10 min.
const MAX_LISTEN_REFRESH: Duration = Duration::from_secs(290);

impl Node {
    fn listen_refresh(&self) -> Duration {
        let nodes = u64::try_from(self.subscriptions.len().saturating_mul(LISTEN_NODES));
        let spread = Duration::from_secs(nodes.unwrap_or(u64::MAX) / LISTENS_PER_SECOND);
        let longest = MAX_LISTEN_REFRESH.max(self.config.listen_refresh);
        self.config.listen_refresh.max(spread).min(longest)
    }
}

/// A search does not wake itself more often than this. Our bound against spinning.
const MIN_WAKE: Duration = Duration::from_secs(1);

/// A permanent value is put again at least this often, however long it lives: a node may have lost it
/// in a restart that nobody noticed. Ours; the reference waits up to a week.
const MAX_REANNOUNCE: Duration = Duration::from_secs(60 * 60);

/// How long after it was stored a permanent value is put again.
pub(super) fn reannounce_after(type_id: u16) -> Duration {
    ValueType::of(type_id)
        .lifetime
        .saturating_sub(REANNOUNCE_MARGIN)
        .min(MAX_REANNOUNCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_nodes_stay_and_slow_ones_do_not_count() {
        let mut s = Search::new(InfoHash([0; 20]), Duration::ZERO);
        for n in (1..=100u8).rev() {
            assert!(s.offer(InfoHash([n; 20])));
        }
        assert!(!s.offer(InfoHash([1; 20])));
        assert!(!s.offer(InfoHash([99; 20])));
        let ids: Vec<u8> = s.nodes.iter().map(|n| n.id.0[0]).collect();
        assert_eq!(ids, (1..=14).collect::<Vec<u8>>());
        for n in s.nodes.iter_mut().take(3) {
            n.slow = true;
        }
        assert_eq!(s.targets(), (3..11).collect::<Vec<_>>());
        assert!((15..=17u8).all(|n| s.offer(InfoHash([n; 20]))));
        assert!(!s.offer(InfoHash([18; 20])));
        assert_eq!(s.nodes.len(), 17);
    }
}
