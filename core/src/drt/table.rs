//! The routing table: what is known of each device, and in which part of the ids it lies.

use super::{BUCKET, Now};
use crate::id::{AccountId, DeviceId};
use crate::rng::Rng;
use core::time::Duration;
use std::collections::BTreeMap;

/// Devices remembered in each part that are neither connected nor being connected to. The
/// reference has no bound; a neighbour may name any id.
const MAX_KNOWN: usize = 16;

/// Devices that the own part holds at most, in any state. The reference splits it when two are
/// connected, and connects to all that it knows of until then: who comes early has many then.
const OWN_PART: usize = 2 * BUCKET;

/// After so many failures in a row a device is forgotten; whoever sees it again names it again.
const GIVE_UP: u32 = 5;

/// How it stands with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// It is said to exist.
    Known,
    /// A channel to it is being opened.
    Connecting {
        /// Only to hear whether it knows others than we do.
        probe: bool,
    },
    /// There is a channel.
    Connected {
        /// When to look whether the channel is worth keeping.
        probe_until: Option<Duration>,
    },
}

/// A device.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) state: NodeState,
    /// Whose it is: certain for connected ones, said by an announcement for others.
    pub(super) account: Option<AccountId>,
    /// It says that it is mobile.
    pub(super) mobile: bool,
    /// Attempts in a row that failed, or whose channel did not last.
    pub(super) failures: u32,
    /// When its channel opened.
    pub(super) since: Duration,
    /// No attempt before then.
    pub(super) not_before: Duration,
    /// How many leading bits its id shares with ours.
    bits: usize,
}

impl Node {
    fn new(account: Option<AccountId>, bits: usize) -> Self {
        Self {
            state: NodeState::Known,
            account,
            mobile: false,
            failures: 0,
            since: Duration::ZERO,
            not_before: Duration::ZERO,
            bits,
        }
    }

    pub(super) fn connected(&self) -> bool {
        matches!(self.state, NodeState::Connected { .. })
    }

    pub(super) fn connecting(&self) -> bool {
        matches!(self.state, NodeState::Connecting { .. })
    }

    /// A neighbour that counts: not asleep most of the time, not about to go.
    fn counts(&self) -> bool {
        matches!(self.state, NodeState::Connected { probe_until: None }) && !self.mobile
    }
}

/// What there is in a part of the ids.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    /// Neighbours that count.
    pub(super) neighbours: usize,
    /// Devices that are being connected to, for their own sake.
    pub(super) connecting: usize,
    /// There is a device that may be tried now.
    pub(super) ready: bool,
    /// When the next of those that have to wait may be tried.
    pub(super) next: Option<Duration>,
}

/// The table of one device in one conversation.
#[derive(Debug, Clone)]
pub(super) struct Table {
    own: DeviceId,
    /// How often the ids are halved: parts `0..depth` are the halves that are not the own one,
    /// part `depth` is what is left, so small that it holds no more than [`OWN_PART`].
    depth: usize,
    pub(super) nodes: BTreeMap<DeviceId, Node>,
    /// Broken on purpose, to see that it would be noticed: whoever is named is remembered.
    #[cfg(test)]
    pub(super) learns_all: bool,
}

/// The XOR distance of two ids: comparable.
pub(super) fn distance(a: &DeviceId, b: &DeviceId) -> [u8; 32] {
    let mut out = [0; 32];
    for (o, (x, y)) in out.iter_mut().zip(a.0.iter().zip(b.0.iter())) {
        *o = x ^ y;
    }
    out
}

/// How many leading bits two ids share.
fn shared_bits(a: &DeviceId, b: &DeviceId) -> usize {
    let mut bits = 0usize;
    for byte in distance(a, b) {
        let zeros = byte.leading_zeros();
        bits = bits.saturating_add(usize::try_from(zeros).unwrap_or_default());
        if zeros < 8 {
            break;
        }
    }
    bits
}

impl Table {
    pub(super) fn new(own: DeviceId) -> Self {
        Self {
            own,
            depth: 0,
            nodes: BTreeMap::new(),
            #[cfg(test)]
            learns_all: false,
        }
    }

    /// In which part an id lies.
    pub(super) fn part(&self, id: &DeviceId) -> usize {
        shared_bits(&self.own, id).min(self.depth)
    }

    /// The part that holds the own id.
    pub(super) fn own_part(&self) -> usize {
        self.depth
    }

    pub(super) fn in_part(&self, part: usize) -> impl Iterator<Item = (&DeviceId, &Node)> {
        self.nodes
            .iter()
            .filter(move |(_, n)| n.bits.min(self.depth) == part)
    }

    pub(super) fn state(&self, id: &DeviceId) -> Option<NodeState> {
        self.nodes.get(id).map(|n| n.state)
    }

    pub(super) fn connected(&self) -> impl Iterator<Item = (&DeviceId, &Node)> {
        self.nodes.iter().filter(|(_, n)| n.connected())
    }

    /// What there is in every part, from the farthest to the own one.
    pub(super) fn census(&self, now: Now) -> Vec<Part> {
        let mut parts = vec![Part::default(); self.depth.saturating_add(1)];
        for node in self.nodes.values() {
            let Some(part) = parts.get_mut(node.bits.min(self.depth)) else {
                continue;
            };
            match node.state {
                NodeState::Known if !node.mobile => {
                    if node.not_before <= now.clock {
                        part.ready = true;
                    } else {
                        let next = part
                            .next
                            .map_or(node.not_before, |n| n.min(node.not_before));
                        part.next = Some(next);
                    }
                }
                NodeState::Connecting { probe: false } => {
                    part.connecting = part.connecting.saturating_add(1);
                }
                _ if node.counts() => part.neighbours = part.neighbours.saturating_add(1),
                _ => {}
            }
        }
        parts
    }

    /// Neighbours that count, in a part.
    pub(super) fn neighbours_in(&self, part: usize) -> usize {
        self.in_part(part).filter(|(_, n)| n.counts()).count()
    }

    /// Remembers a device. `sure`: it was seen in the network, rather than named by a neighbour.
    /// True: it is new.
    pub(super) fn learn(&mut self, id: DeviceId, account: Option<AccountId>, sure: bool) -> bool {
        if id == self.own {
            return false;
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            if account.is_some() && node.account.is_none() {
                node.account = account;
            }
            return false;
        }
        let part = self.part(&id);
        let known: Vec<(u32, DeviceId)> = self
            .in_part(part)
            .filter(|(_, n)| n.state == NodeState::Known)
            .map(|(id, n)| (n.failures, *id))
            .collect();
        #[cfg(test)]
        let known = if self.learns_all { Vec::new() } else { known };
        if known.len() >= MAX_KNOWN {
            match known.iter().max() {
                Some((failures, worst)) if sure || *failures > 0 => {
                    self.nodes.remove(worst);
                }
                _ => return false,
            }
        }
        let bits = shared_bits(&self.own, &id);
        self.nodes.insert(id, Node::new(account, bits));
        self.divide();
        true
    }

    /// Divides the ids anew, after devices came or went.
    pub(super) fn divide(&mut self) {
        let mut near: Vec<usize> = self
            .nodes
            .values()
            .filter(|n| !n.mobile)
            .map(|n| n.bits)
            .collect();
        // The nearest that is one too many lies outside.
        self.depth = if near.len() > OWN_PART {
            let (_, bits, _) = near.select_nth_unstable_by(OWN_PART, |a, b| b.cmp(a));
            bits.saturating_add(1)
        } else {
            0
        };
    }

    /// A channel to a device is open.
    pub(super) fn connect(&mut self, id: DeviceId, account: AccountId, now: Duration) {
        if id == self.own {
            return;
        }
        let bits = shared_bits(&self.own, &id);
        let node = self
            .nodes
            .entry(id)
            .or_insert_with(|| Node::new(None, bits));
        node.account = Some(account);
        if !node.connected() {
            node.since = now;
            node.state = NodeState::Connected { probe_until: None };
        }
        self.divide();
    }

    /// An attempt failed. True: the device is forgotten.
    pub(super) fn fail(&mut self, id: &DeviceId, not_before: Duration, keep: bool) -> bool {
        let Some(node) = self.nodes.get_mut(id).filter(|n| n.connecting()) else {
            return false;
        };
        node.state = NodeState::Known;
        node.failures = node.failures.saturating_add(1);
        node.not_before = not_before;
        let forget = node.failures >= GIVE_UP && !keep;
        if forget {
            self.nodes.remove(id);
        }
        forget
    }

    /// Devices of a part that may be tried now, those that can be had for nothing first, then in
    /// any order.
    pub(super) fn choose(
        &self,
        part: usize,
        count: usize,
        now: Now,
        linked: impl Fn(&DeviceId) -> bool,
        rng: &mut Rng,
    ) -> Vec<DeviceId> {
        let mut may: Vec<(bool, u64, DeviceId)> = self
            .in_part(part)
            .filter(|(_, n)| n.state == NodeState::Known && !n.mobile)
            .filter(|(_, n)| n.not_before <= now.clock)
            .map(|(id, _)| (!linked(id), 0, *id))
            .collect();
        for entry in &mut may {
            entry.1 = rng.u64();
        }
        may.sort_unstable();
        may.into_iter().take(count).map(|(_, _, id)| id).collect()
    }

    /// The connected devices nearest to an id, that id and another one left out.
    pub(super) fn closest(
        &self,
        near: &DeviceId,
        without: &DeviceId,
        count: usize,
    ) -> Vec<DeviceId> {
        let mut ids: Vec<DeviceId> = self
            .connected()
            .map(|(id, _)| *id)
            .filter(|id| id != near && id != without)
            .collect();
        ids.sort_by_key(|id| distance(id, near));
        ids.truncate(count);
        ids
    }

    /// Some id in a part.
    pub(super) fn random_id(&self, part: usize, rng: &mut Rng) -> DeviceId {
        let mut id = [0u8; 32];
        rng.fill(&mut id);
        // The first `part` bits are our own; the next one is not, unless it is the own part.
        for (at, (byte, own)) in id.iter_mut().zip(self.own.0.iter()).enumerate() {
            for bit in 0..8usize {
                let place = at.saturating_mul(8).saturating_add(bit);
                let mask = 0x80u8 >> bit;
                if place < part {
                    *byte = (*byte & !mask) | (own & mask);
                } else if place == part && part < self.depth {
                    *byte = (*byte & !mask) | (!own & mask);
                }
            }
        }
        DeviceId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: DeviceId = DeviceId([0; 32]);
    const ALICE: AccountId = AccountId([1; 20]);

    /// An id that shares `bits` leading bits with [`OWN`].
    fn at(bits: usize, tail: u8) -> DeviceId {
        let mut id = [0; 32];
        id[bits / 8] = 0x80 >> (bits % 8);
        id[31] |= tail;
        DeviceId(id)
    }

    #[test]
    fn the_own_part_is_halved_until_it_is_small() {
        let mut t = Table::new(OWN);
        for bits in [0, 1, 3, 9] {
            t.connect(at(bits, 1), ALICE, Duration::ZERO);
        }
        assert_eq!(t.own_part(), 0);
        t.learn(at(9, 2), None, false);
        assert_eq!(t.own_part(), 1);
        for tail in 2..10 {
            t.connect(at(0, tail), ALICE, Duration::ZERO);
        }
        assert_eq!((t.own_part(), t.neighbours_in(0)), (1, 9));
        t.connect(at(9, 3), ALICE, Duration::ZERO);
        t.connect(at(9, 4), ALICE, Duration::ZERO);
        assert_eq!((t.own_part(), t.neighbours_in(4)), (4, 3));
        // The own id and what is connected already change nothing.
        t.connect(OWN, ALICE, Duration::ZERO);
        t.connect(at(9, 3), ALICE, Duration::ZERO);
        assert_eq!((t.own_part(), t.nodes.len()), (4, 15));
        // Whoever goes makes room.
        t.nodes.retain(|id, _| shared_bits(&OWN, id) < 9);
        t.divide();
        assert_eq!(t.own_part(), 1);
    }

    #[test]
    fn a_part_remembers_a_bounded_number_and_prefers_what_was_seen() {
        let mut t = Table::new(OWN);
        for tail in 0..=255 {
            t.learn(at(0, tail), None, false);
        }
        assert_eq!(t.nodes.len(), MAX_KNOWN);
        assert!(!t.learn(at(0, 90), None, false));
        let seen = DeviceId([0x81; 32]);
        assert!(t.learn(seen, Some(ALICE), true));
        assert_eq!(t.nodes.len(), MAX_KNOWN);
        assert!(!t.learn(OWN, None, true) && !t.learn(seen, None, true));
    }

    #[test]
    fn random_ids_lie_where_they_should() {
        let mut t = Table::new(at(40, 0x5a));
        let mut rng = Rng::new([3; 32]);
        t.depth = 21;
        for part in 0..=21 {
            for _ in 0..20 {
                assert_eq!(t.part(&t.random_id(part, &mut rng)), part);
            }
        }
    }

    #[test]
    fn what_fails_again_and_again_is_forgotten() {
        let mut t = Table::new(OWN);
        let id = at(0, 1);
        t.learn(id, None, false);
        for n in 1..=GIVE_UP {
            if let Some(node) = t.nodes.get_mut(&id) {
                node.state = NodeState::Connecting { probe: false };
            }
            assert_eq!(t.fail(&id, Duration::ZERO, false), n == GIVE_UP);
        }
        assert!(t.nodes.is_empty());
        assert!(!t.fail(&id, Duration::ZERO, false));
    }
}
