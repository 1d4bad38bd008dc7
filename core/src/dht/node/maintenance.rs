//! Joining the network, staying in it, and forgetting.

use core::net::SocketAddr;
use core::time::Duration;

use super::requests::Purpose;
use super::search::Search;
use super::table::Sighting;
use super::{Connectivity, Family, FamilyStatus, Node, NodeEvent, NodeStatus};
use crate::dht::nodes::{self, NodeInfo};
use crate::dht::packet::{Request, Want};
use crate::id::InfoHash;
use crate::rng::Rng;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// First maintenance after the start.
const FIRST_ROUND: (Duration, Duration) = (secs(3), secs(5));
/// Next maintenance after one that had something to ask.
const BUSY_ROUND: (Duration, Duration) = (secs(5), secs(25));
/// Next maintenance after one that had not.
const CALM_ROUND: (Duration, Duration) = (secs(60), secs(180));
/// A new node that is not confirmed is looked at after this time.
const HURRY: Duration = secs(1);
/// The own bucket grew within this time: there may be more near us.
const GROWTH: Duration = secs(150);
/// Time between two sweeps of what is old.
const SWEEP: (Duration, Duration) = (secs(120), secs(360));
/// First and longest wait between two attempts to reach the bootstrap nodes. The reference doubles up
/// to a day; a person waits for our node, and a ping is cheap.
const BOOTSTRAP_WAIT: (Duration, Duration) = (secs(10), secs(600));
/// Most bootstrap addresses. Ours.
const MAX_BOOTSTRAP: usize = 64;
/// Unconfirmed nodes that are asked at once when nobody is known, or in one round. Ours.
const PINGS: usize = 8;
/// A search without operations is kept this long (OpenDHT `SEARCH_EXPIRE_TIME`).
const IDLE_SEARCH: Duration = secs(62 * 60);
/// A socket without a listen or a push is kept this long: the remote subscription is over by then.
const SOCKET_TIME: Duration = secs(11 * 60);

/// When what is next, and how to get in.
pub(super) struct Upkeep {
    round: Duration,
    last_round: Duration,
    sweep: Duration,
    bootstrap: Vec<SocketAddr>,
    bootstrap_at: Option<Duration>,
    bootstrap_wait: Duration,
    /// The caller is still finding out bootstrap addresses.
    joining: bool,
}

impl Upkeep {
    pub(super) fn new(now: Duration, rng: &mut Rng) -> Self {
        Self {
            round: now.saturating_add(rng.between(FIRST_ROUND.0, FIRST_ROUND.1)),
            last_round: now,
            sweep: now.saturating_add(rng.between(SWEEP.0, SWEEP.1)),
            bootstrap: Vec::new(),
            bootstrap_at: None,
            bootstrap_wait: BOOTSTRAP_WAIT.0,
            joining: false,
        }
    }

    pub(super) fn next(&self) -> Duration {
        self.round
            .min(self.sweep)
            .min(self.bootstrap_at.unwrap_or(Duration::MAX))
    }

    /// Somebody new is there: looks at it soon.
    pub(super) fn hurry(&mut self, now: Duration) {
        let soon = now.saturating_add(HURRY);
        let earliest = self.last_round.saturating_add(BUSY_ROUND.0);
        self.round = self.round.min(soon.max(earliest));
    }
}

impl Node {
    /// Asks whoever is at an address for the way in, now and whenever nobody is left.
    pub fn bootstrap(&mut self, now: Duration, addr: SocketAddr) {
        let addr = nodes::canonical(addr);
        if nodes::is_martian(&addr) || !self.has_family(Family::of(addr)) {
            return;
        }
        if !self.upkeep.bootstrap.contains(&addr) {
            if self.upkeep.bootstrap.len() >= MAX_BOOTSTRAP {
                self.upkeep.bootstrap.remove(0);
            }
            self.upkeep.bootstrap.push(addr);
        }
        self.knock(now, addr);
        self.status_dirty = true;
        self.settle(now);
    }

    fn knock(&mut self, now: Duration, addr: SocketAddr) {
        let under_way = |p: &super::requests::Pending| p.node.is_none() && p.addr == addr;
        if self.requests.matching(under_way).is_empty() {
            self.request(now, None, addr, Request::Ping, Purpose::Bootstrap);
        }
    }

    /// Says whether bootstrap addresses are still being looked up: until then operations wait for
    /// nodes instead of failing.
    pub fn set_joining(&mut self, now: Duration, joining: bool) {
        self.upkeep.joining = joining;
        self.status_dirty = true;
        self.settle(now);
    }

    /// Remembers a node, such as one of [`Node::export_nodes`] of an earlier run.
    pub fn insert_node(&mut self, now: Duration, id: InfoHash, addr: SocketAddr) {
        let addr = nodes::canonical(addr);
        let family = Family::of(addr);
        if nodes::is_martian(&addr) || !self.has_family(family) {
            return;
        }
        let net = self.net_mut(family);
        net.table.seen(now, id, addr, Sighting::Listed, false);
        if net.table.get(&id).is_none() {
            return;
        }
        self.offer(family, id);
        self.upkeep.hurry(now);
        let asked = |p: &super::requests::Pending| p.purpose == Purpose::Ping;
        if self.requests.matching(asked).len() < PINGS {
            self.ping(now, family, id);
        }
        self.settle(now);
    }

    /// The good nodes, for a later start. Those near us come first in each family.
    pub fn export_nodes(&self, now: Duration) -> Vec<NodeInfo> {
        Family::ALL
            .iter()
            .flat_map(|f| self.net(*f).table.export(now))
            .map(|(id, addr)| NodeInfo { id, addr })
            .collect()
    }

    /// The network under us changed, or we slept: nothing is certain any more, and everything is
    /// asked anew at once.
    pub fn network_changed(&mut self, now: Duration) {
        self.reported.clear();
        let of_search = |p: &super::requests::Pending| {
            matches!(
                p.purpose,
                Purpose::Find { .. }
                    | Purpose::Get { .. }
                    | Purpose::Put { .. }
                    | Purpose::Listen { .. }
            )
        };
        for tid in self.requests.matching(of_search) {
            let Some(pending) = self.requests.finish(tid) else {
                continue;
            };
            let table = &mut self.net_mut(pending.family).table;
            if let Some(node) = pending.node.and_then(|id| table.get_mut(&id)) {
                node.pending = node.pending.saturating_sub(1);
            }
        }
        for family in Family::ALL {
            let net = self.net_mut(family);
            net.table.network_changed();
            let mut keys = Vec::new();
            for (key, search) in &mut net.searches {
                search.restart();
                keys.push((family, *key));
            }
            self.dirty.extend(keys);
        }
        self.upkeep.bootstrap_wait = BOOTSTRAP_WAIT.0;
        self.upkeep.round = now;
        self.explore(now);
        let known: usize = Family::ALL
            .iter()
            .map(|f| self.net(*f).table.counts(now).known)
            .sum();
        if known == 0 {
            self.upkeep.bootstrap_at = Some(now);
        }
        self.status_dirty = true;
        self.maintain(now);
        self.settle(now);
    }

    /// A datagram could not be sent at all: nobody is reached there.
    pub fn handle_unreachable(&mut self, now: Duration, to: SocketAddr) {
        let to = nodes::canonical(to);
        for tid in self.requests.matching(|p| p.addr == to) {
            if let Some(pending) = self.requests.finish(tid) {
                self.on_failed(now, &pending);
            }
        }
        self.settle(now);
    }

    /// Looks around the own id: to know the neighbours and to be known by them.
    fn explore(&mut self, now: Duration) {
        let own = self.config.id;
        for family in Family::ALL {
            if self.has_family(family) {
                let search = self
                    .net_mut(family)
                    .searches
                    .entry(own)
                    .or_insert_with(|| Search::new(own, now));
                search.explore = true;
                self.dirty.insert((family, own));
            }
        }
    }

    /// Whether somebody may be there soon, though nobody is known yet.
    pub(super) fn is_connecting(&self, _now: Duration, family: Family) -> bool {
        let knocking =
            |p: &super::requests::Pending| p.purpose == Purpose::Bootstrap && p.family == family;
        self.has_family(family)
            && (self.upkeep.joining || !self.requests.matching(knocking).is_empty())
    }

    fn family_status(&self, now: Duration, family: Family) -> FamilyStatus {
        let nodes = self.net(family).table.counts(now);
        let connectivity = if nodes.good > 0 {
            Connectivity::Connected
        } else if nodes.dubious > 0 || self.is_connecting(now, family) {
            Connectivity::Connecting
        } else {
            Connectivity::Disconnected
        };
        FamilyStatus {
            connectivity,
            nodes,
        }
    }

    /// Computes the status anew if it may have changed, and acts on it.
    pub(super) fn refresh_status(&mut self, now: Duration) {
        if !core::mem::take(&mut self.status_dirty) {
            return;
        }
        let (public_v4, public_v6) = self.reported.best();
        let status = NodeStatus {
            v4: self.family_status(now, Family::V4),
            v6: self.family_status(now, Family::V6),
            public_v4,
            public_v6,
        };
        let old = core::mem::replace(&mut self.status, status);
        if old.headline() == status.headline() {
            return;
        }
        self.events.push_back(NodeEvent::Status(status));
        for (family, was, is) in [
            (Family::V4, old.v4.connectivity, status.v4.connectivity),
            (Family::V6, old.v6.connectivity, status.v6.connectivity),
        ] {
            if was != is {
                if is == Connectivity::Connected {
                    self.explore(now);
                }
                let keys: Vec<_> = self.net(family).searches.keys().copied().collect();
                self.dirty.extend(keys.into_iter().map(|k| (family, k)));
            }
        }
        match status.connectivity() {
            Connectivity::Connected => {
                self.upkeep.bootstrap_at = None;
                self.upkeep.bootstrap_wait = BOOTSTRAP_WAIT.0;
            }
            Connectivity::Connecting => {}
            Connectivity::Disconnected => {
                if self.upkeep.bootstrap_at.is_none() {
                    let wait = self.upkeep.bootstrap_wait;
                    self.upkeep.bootstrap_at = Some(now.saturating_add(wait));
                }
            }
        }
    }

    /// Does what is due of the regular work.
    pub(super) fn maintain(&mut self, now: Duration) {
        if self.upkeep.bootstrap_at.is_some_and(|at| at <= now) {
            self.rejoin(now);
        }
        if self.upkeep.round <= now {
            self.round(now);
        }
        if self.upkeep.sweep <= now {
            self.sweep(now);
        }
    }

    /// Nobody is there: asks all who ever were.
    fn rejoin(&mut self, now: Duration) {
        let wait = self.upkeep.bootstrap_wait;
        self.upkeep.bootstrap_wait = wait.saturating_mul(2).min(BOOTSTRAP_WAIT.1);
        self.upkeep.bootstrap_at = Some(now.saturating_add(wait));
        for addr in self.upkeep.bootstrap.clone() {
            self.knock(now, addr);
        }
        for family in Family::ALL {
            for id in self.net(family).table.last_resort(PINGS) {
                self.ping(now, family, id);
            }
        }
        self.status_dirty = true;
    }

    fn round(&mut self, now: Duration) {
        self.status_dirty = true;
        let connected = self.status.connectivity() == Connectivity::Connected;
        if connected && self.v4.searches.is_empty() && self.v6.searches.is_empty() {
            self.explore(now);
        }
        let want = (self.config.ipv4 && self.config.ipv6).then_some(Want { v4: true, v6: true });
        let mut sent = false;
        for family in Family::ALL {
            let mut doubtful = self.net(family).table.unconfirmed();
            doubtful.truncate(PINGS);
            for id in doubtful {
                self.ping(now, family, id);
                sent = true;
            }
            let mut rng = self.rng.clone();
            let stale = self.net(family).table.stale(now, &mut rng);
            self.rng = rng;
            for (target, node) in stale {
                let purpose = Purpose::Find { key: None };
                sent |= self.ask(now, family, node, Request::Find { target, want }, purpose);
            }
        }
        if !sent {
            for family in Family::ALL {
                let growing = self
                    .net(family)
                    .table
                    .grown()
                    .is_some_and(|t| now.saturating_sub(t) < GROWTH);
                if !growing {
                    continue;
                }
                let mut target = self.config.id;
                if let Some(last) = target.0.last_mut() {
                    let drawn = self.rng.u32().to_be_bytes();
                    *last = drawn.last().copied().unwrap_or_default();
                }
                let mut rng = self.rng.clone();
                let node = self.net(family).table.any_usable(&mut rng);
                self.rng = rng;
                if let Some(node) = node {
                    let purpose = Purpose::Find { key: None };
                    sent |= self.ask(now, family, node, Request::Find { target, want }, purpose);
                }
            }
        }
        let (low, high) = if sent { BUSY_ROUND } else { CALM_ROUND };
        self.upkeep.last_round = now;
        self.upkeep.round = now.saturating_add(self.rng.between(low, high));
    }

    fn sweep(&mut self, now: Duration) {
        self.upkeep.sweep = now.saturating_add(self.rng.between(SWEEP.0, SWEEP.1));
        self.listeners.sweep(now);
        self.blacklist.sweep(now);
        self.sockets
            .retain(|_, s| now.saturating_sub(s.used) < SOCKET_TIME);
        for family in Family::ALL {
            self.drop_idle_searches(family, |s| now.saturating_sub(s.used) >= IDLE_SEARCH);
            // Who is cut off forgets nobody: they are the way back.
            if self.family_status(now, family).connectivity != Connectivity::Connected {
                continue;
            }
            let net = self.net_mut(family);
            let searches = &net.searches;
            let in_use = |id: &InfoHash| {
                searches
                    .values()
                    .any(|s| s.nodes.iter().any(|n| n.id == *id))
            };
            for id in net.table.sweep(now, in_use) {
                self.ping(now, family, id);
            }
        }
        self.status_dirty = true;
    }

    /// Drops searches without operations.
    pub(super) fn drop_idle_searches(&mut self, family: Family, old: impl Fn(&Search) -> bool) {
        let net = self.net_mut(family);
        let wakes = &mut net.wakes;
        net.searches.retain(|key, s| {
            let keep = !s.is_idle() || s.explore || !old(s);
            if let (false, Some(at)) = (keep, s.wake) {
                wakes.remove(&(at, *key));
            }
            keep
        });
    }
}
