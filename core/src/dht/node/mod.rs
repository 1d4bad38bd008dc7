//! The node as a state machine: datagrams, time and wishes go in; datagrams and events come out.
//!
//! Nothing in here reads a clock, opens a socket or draws randomness. After every call of a
//! `handle_…` method or an operation, drain [`Node::poll_transmit`] and [`Node::poll_event`],
//! then wait until a datagram comes or [`Node::poll_timeout`] is reached.
//!
//! - `table`: known nodes and buckets; `search`: the closest nodes of a key; `requests`: repeats.
//! - `ops`: get, put, listen; `subscriptions`: what is known by listening.
//! - `receive`, `replies`: what comes in; `refusals`: what of it is not taken;
//!   `storage`, `listeners`, `publish`: serving others.
//! - `keeping`: values of others over a restart.
//! - `maintenance`: joining, staying joined, forgetting; `limits`, `tokens`: keeping others honest.

mod keeping;
mod limits;
mod listeners;
mod maintenance;
mod ops;
mod publish;
mod receive;
mod refusals;
mod replies;
mod requests;
mod search;
mod storage;
mod subscriptions;
mod table;
mod tokens;

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::fragments::Assembler;
use super::packet::{Head, Packet, Request};
use super::query::FieldTable;
use super::value::Value;
use crate::crypto::Crypto;
use crate::id::InfoHash;

use crate::rng::Rng;
use limits::{Blacklist, Quota, Reported};
use listeners::Listeners;
use maintenance::Upkeep;
use ops::{Op, Progress};
use requests::{Overdue, Purpose, Requests};
use search::Search;
use storage::{Storage, StorageLimits};
use subscriptions::Subscription;
use table::Table;
use tokens::Tokens;

pub use refusals::{ErrorCounts, Refusals, ValueCounts};
pub use table::NodeCounts;

/// How often a permanent value is put again at least. Ours; the reference waits up to a week.
pub const REANNOUNCE: Duration = Duration::from_secs(60 * 60);

/// An address family. Each has its own nodes and searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address that is not v4-mapped.
    pub fn of(addr: SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// An operation of the application on a node: a get, a put or a listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// How a node behaves.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The node's id.
    pub id: InfoHash,
    /// The network; 0 is the public one, which Jami uses.
    pub network_id: u32,
    /// Only asks, is never asked: says so in every datagram.
    pub is_client: bool,
    /// There is an IPv4 socket.
    pub ipv4: bool,
    /// There is an IPv6 socket.
    pub ipv6: bool,
    /// Time between two listens at a node. 20 s keep the way through a NAT open; a node at a stable
    /// public address may take 290 s (OpenDHT `public_stable`).
    pub listen_refresh: Duration,
    /// A permanent value is put again at least this often, however long it lives: a node may have lost it in a restart
    /// that nobody noticed.
    pub reannounce: Duration,
    /// Bounds.
    pub limits: NodeLimits,
}

/// Bounds of what a node does for others and remembers.
#[derive(Debug, Clone, Copy)]
pub struct NodeLimits {
    /// Requests handled per second.
    pub requests: u32,
    /// Requests handled per second of one IPv4 address or IPv6 /64.
    pub requests_per_source: u32,
    /// Bytes of others' values.
    pub storage: usize,
    /// Values of others under one key.
    pub values_per_key: usize,
    /// Nodes remembered per family.
    pub nodes: usize,
    /// Searches per family, with or without an operation.
    pub searches: usize,
    /// Operations at the same time.
    pub operations: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            // OpenDHT `max_req_per_sec`, and an eighth of it per address.
            requests: 8192,
            requests_per_source: 1024,
            // OpenDHT `max_store_size`.
            storage: 64 << 20,
            // OpenDHT allows 65,536; no key of Jami holds more than hundreds.
            values_per_key: 4096,
            // Ours: the table itself has some hundred, each search fourteen of its own.
            nodes: 16_384,
            searches: 8192,
            operations: 65_536,
        }
    }
}

impl NodeConfig {
    /// A full node of the public network on both families.
    pub fn new(id: InfoHash) -> Self {
        Self {
            id,
            network_id: 0,
            is_client: false,
            ipv4: true,
            ipv6: true,
            // OpenDHT `LISTEN_EXPIRE_TIME` (30 s) less `REANNOUNCE_MARGIN` (10 s).
            listen_refresh: Duration::from_secs(20),
            reannounce: REANNOUNCE,
            limits: NodeLimits::default(),
        }
    }
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub payload: Vec<u8>,
}

/// What a node has to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeEvent {
    /// A get found values that it did not report before. Signatures are not checked.
    Values {
        /// The get.
        op: OpId,
        /// What was found.
        values: Vec<Arc<Value>>,
    },
    /// A get with a `select` got fields from one node.
    Fields {
        /// The get.
        op: OpId,
        /// The selected fields, one row for each value.
        fields: FieldTable,
    },
    /// A get is over.
    GetDone {
        /// The get.
        op: OpId,
        /// Whether the closest nodes were asked. Own values are reported in either case.
        ok: bool,
    },
    /// A put has reached the closest nodes, or nobody.
    ///
    /// A put that is not permanent is over with it. A permanent one goes on: `ok` false says that
    /// nobody is there now; an event with `ok` true follows when nodes come.
    PutDone {
        /// The put.
        op: OpId,
        /// Whether the closest nodes hold the value.
        ok: bool,
        /// How many nodes have said so.
        nodes: usize,
        /// Whether it is over.
        last: bool,
    },
    /// A listen has news. The signatures of clear signed values have been checked.
    Listen {
        /// The listen.
        op: OpId,
        /// New or changed values, or those that are gone.
        values: Vec<Arc<Value>>,
        /// They are gone: nobody holds them any more.
        expired: bool,
    },
    /// The connection or the own address changed.
    Status(NodeStatus),
}

/// Whether a node has others to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Connectivity {
    /// Nobody is known.
    #[default]
    Disconnected,
    /// Somebody may be there.
    Connecting,
    /// Somebody answers.
    Connected,
}

/// The state of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FamilyStatus {
    /// Whether there are others.
    pub connectivity: Connectivity,
    /// How many.
    pub nodes: NodeCounts,
}

/// The state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeStatus {
    /// IPv4.
    pub v4: FamilyStatus,
    /// IPv6.
    pub v6: FamilyStatus,
    /// The IPv4 address others see us at.
    pub public_v4: Option<Ipv4Addr>,
    /// The IPv6 address others see us at.
    pub public_v6: Option<Ipv6Addr>,
}

impl NodeStatus {
    /// The better of both families.
    pub fn connectivity(&self) -> Connectivity {
        let either = [self.v4.connectivity, self.v6.connectivity];
        let is = |c| either.contains(&c);
        if is(Connectivity::Connected) {
            Connectivity::Connected
        } else if is(Connectivity::Connecting) {
            Connectivity::Connecting
        } else {
            Connectivity::Disconnected
        }
    }

    /// What matters enough to be told: not the counts.
    fn headline(
        &self,
    ) -> (
        Connectivity,
        Connectivity,
        Option<Ipv4Addr>,
        Option<Ipv6Addr>,
    ) {
        (
            self.v4.connectivity,
            self.v6.connectivity,
            self.public_v4,
            self.public_v6,
        )
    }
}

/// How busy a node is: for people and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeUsage {
    /// Values kept, own ones included.
    pub values: usize,
    /// Bytes of others' values, with an allowance for each.
    pub bytes: usize,
    /// Listeners of others.
    pub listeners: usize,
    /// Requests without an answer so far.
    pub requests: usize,
    /// Searches of both families.
    pub searches: usize,
    /// Messages of which parts are missing.
    pub partial: usize,
    /// What was not taken since the node began.
    pub refused: Refusals,
}

/// The nodes and searches of one family.
struct Net {
    table: Table,
    searches: BTreeMap<InfoHash, Search>,
    /// When searches want to go on.
    wakes: BTreeSet<(Duration, InfoHash)>,
}

impl Net {
    fn new(config: &NodeConfig) -> Self {
        Self {
            table: Table::new(config.id, config.limits.nodes),
            searches: BTreeMap::new(),
            wakes: BTreeSet::new(),
        }
    }
}

/// Where pushes for one of our subscriptions come in.
#[derive(Debug, Clone, Copy)]
struct Socket {
    family: Family,
    node: InfoHash,
    subscription: u64,
    /// Last use, by us or by the node.
    used: Duration,
}

/// A node of the DHT.
pub struct Node {
    config: NodeConfig,
    crypto: Arc<dyn Crypto>,
    rng: Rng,
    v4: Net,
    v6: Net,
    requests: Requests,
    assembler: Assembler,
    tokens: Tokens,
    quota: Quota,
    blacklist: Blacklist,
    reported: Reported,
    storage: Storage,
    listeners: Listeners,
    ops: BTreeMap<OpId, Op>,
    next_op: u64,
    subscriptions: BTreeMap<u64, Subscription>,
    sockets: BTreeMap<u32, Socket>,
    refused: Refusals,
    /// Gets that wait until their sender has proven its address, by the transaction of the proof.
    parked: BTreeMap<u32, (Head, Request)>,
    /// Permanent puts by when their listeners are to be told that they live on.
    renewals: BTreeSet<(Duration, OpId)>,
    upkeep: Upkeep,
    /// Searches on which something happened.
    dirty: BTreeSet<(Family, InfoHash)>,
    /// Wall clock: seconds since 1970 at time zero of the engine.
    epoch: Option<i64>,
    status: NodeStatus,
    status_dirty: bool,
    transmits: VecDeque<Transmit>,
    events: VecDeque<NodeEvent>,
}

impl Node {
    /// A node that knows nobody. `seed` must come from a cryptographic source and serve only once.
    pub fn new(now: Duration, config: NodeConfig, seed: [u8; 32], crypto: Arc<dyn Crypto>) -> Self {
        let mut rng = Rng::new(seed);
        let limits = config.limits;
        Self {
            v4: Net::new(&config),
            v6: Net::new(&config),
            requests: Requests::default(),
            assembler: Assembler::new(),
            tokens: Tokens::new(now, &mut rng),
            quota: Quota::new(limits.requests, limits.requests_per_source),
            blacklist: Blacklist::default(),
            reported: Reported::default(),
            storage: Storage::new(StorageLimits {
                bytes: limits.storage,
                values_per_key: limits.values_per_key,
            }),
            listeners: Listeners::default(),
            ops: BTreeMap::new(),
            next_op: 1,
            subscriptions: BTreeMap::new(),
            sockets: BTreeMap::new(),
            refused: Refusals::default(),
            parked: BTreeMap::new(),
            renewals: BTreeSet::new(),
            upkeep: Upkeep::new(now, &mut rng),
            dirty: BTreeSet::new(),
            epoch: None,
            status: NodeStatus::default(),
            status_dirty: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            config,
            crypto,
            rng,
        }
    }

    /// The node's id.
    pub fn id(&self) -> InfoHash {
        self.config.id
    }

    /// Tells the wall clock: needed to judge when values of others were created. Without it they count as new.
    pub fn set_unix_time(&mut self, now: Duration, unix_seconds: i64) {
        let elapsed = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.epoch = Some(unix_seconds.saturating_sub(elapsed));
    }

    fn unix_time(&self, now: Duration) -> Option<i64> {
        let elapsed = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.epoch.map(|epoch| epoch.saturating_add(elapsed))
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    /// When [`Node::handle_timeout`] is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let wake = |net: &Net| net.wakes.first().map(|(at, _)| *at);
        [
            self.requests.next_due(),
            self.assembler.next_timeout(),
            Some(self.tokens.rotate_at()),
            self.storage.next_expiry(),
            self.renewals.first().map(|(at, _)| *at),
            wake(&self.v4),
            wake(&self.v6),
            self.next_subscription_timeout(),
            Some(self.upkeep.next()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Lets time pass: to be called when [`Node::poll_timeout`] is reached; harmless at other times.
    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some(overdue) = self.requests.overdue(now, &mut self.rng) {
            match overdue {
                Overdue::Again {
                    tid,
                    to,
                    payload,
                    slow,
                } => {
                    self.transmit(to, payload);
                    if slow {
                        self.on_slow(tid);
                    }
                }
                Overdue::Failed(pending) => self.on_failed(now, &pending),
            }
        }
        self.assembler.expire(now);
        if now >= self.tokens.rotate_at() {
            self.tokens.rotate(now, &mut self.rng);
        }
        let gone = self.storage.expire(now);
        self.tell_gone(now, gone);
        self.renew(now);
        for family in Family::ALL {
            while let Some((at, key)) = self.net(family).wakes.first().copied() {
                if at > now {
                    break;
                }
                self.net_mut(family).wakes.remove(&(at, key));
                if let Some(search) = self.net_mut(family).searches.get_mut(&key) {
                    search.wake = None;
                }
                self.dirty.insert((family, key));
            }
        }
        self.expire_subscriptions(now);
        self.maintain(now);
        self.settle(now);
    }

    /// The present state.
    pub fn status(&self) -> &NodeStatus {
        &self.status
    }

    /// How busy the node is.
    pub fn usage(&self) -> NodeUsage {
        let (values, bytes) = self.storage.usage();
        NodeUsage {
            values,
            bytes,
            listeners: self.listeners.count(),
            requests: self.requests.len(),
            searches: self
                .v4
                .searches
                .len()
                .saturating_add(self.v6.searches.len()),
            partial: self.assembler.len(),
            refused: Refusals {
                pieces: self.assembler.unreadable(),
                ..self.refused
            },
        }
    }

    fn net(&self, family: Family) -> &Net {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn net_mut(&mut self, family: Family) -> &mut Net {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    fn has_family(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.config.ipv4,
            Family::V6 => self.config.ipv6,
        }
    }

    fn head(&self, tid: u32) -> Head {
        let mut head = Head::new(self.config.id, tid, self.config.network_id);
        head.client = self.config.is_client;
        head
    }

    fn transmit(&mut self, to: SocketAddr, payload: Vec<Vec<u8>>) {
        self.transmits
            .extend(payload.into_iter().map(|payload| Transmit { to, payload }));
    }

    fn send(&mut self, to: SocketAddr, packet: &Packet) {
        self.transmit(to, packet.encode());
    }

    /// Sends a request to an address, on behalf of a node known there or not.
    fn request(
        &mut self,
        now: Duration,
        node: Option<InfoHash>,
        addr: SocketAddr,
        request: Request,
        purpose: Purpose,
    ) -> u32 {
        let family = Family::of(addr);
        let sockets = &self.sockets;
        let tid = self
            .requests
            .fresh_tid(&mut self.rng, |tid| sockets.contains_key(&tid));
        let payload = Packet::Request(self.head(tid), request).encode();
        self.transmit(addr, payload.clone());
        if let Some(known) = node.and_then(|id| self.net_mut(family).table.get_mut(&id)) {
            known.pending = known.pending.saturating_add(1);
        }
        self.requests.start(
            now,
            &mut self.rng,
            tid,
            family,
            node,
            addr,
            purpose,
            payload,
        );
        tid
    }

    /// Sends a request to a known node. False when it is not known.
    fn ask(
        &mut self,
        now: Duration,
        family: Family,
        node: InfoHash,
        request: Request,
        purpose: Purpose,
    ) -> bool {
        let Some(addr) = self.net(family).table.get(&node).map(|n| n.addr) else {
            return false;
        };
        self.request(now, Some(node), addr, request, purpose);
        true
    }

    fn ping(&mut self, now: Duration, family: Family, node: InfoHash) {
        self.ask(now, family, node, Request::Ping, Purpose::Ping);
    }

    fn open_socket(
        &mut self,
        now: Duration,
        family: Family,
        node: InfoHash,
        subscription: u64,
    ) -> u32 {
        let sockets = &self.sockets;
        let sid = self
            .requests
            .fresh_tid(&mut self.rng, |sid| sockets.contains_key(&sid));
        self.sockets.insert(
            sid,
            Socket {
                family,
                node,
                subscription,
                used: now,
            },
        );
        sid
    }

    /// Works off what happened, until nothing is left to do at this time.
    fn settle(&mut self, now: Duration) {
        self.refresh_status(now);
        while let Some((family, key)) = self.dirty.pop_first() {
            self.step(now, family, key);
        }
        self.refresh_status(now);
    }
}

#[cfg(test)]
mod crowd;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;
