//! Answers to our own requests, their failures, and news from where we listen.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use super::requests::{Pending, Purpose};
use super::search::{PutAt, SearchNode};
use super::subscriptions::Holder;
use super::table::{Sighting, TARGET_NODES};
use super::{Family, Node, NodeEvent};
use crate::dht::nodes::{self, NodeInfo};
use crate::dht::packet::{ErrorReply, Head, Reply, code, usable_token};
use crate::dht::value::{Value, ValueId};
use crate::id::InfoHash;

/// 401 answers in a row after which a node is given up (OpenDHT `Node::MAX_AUTH_ERRORS`).
const MAX_AUTH_ERRORS: u8 = 3;

impl Node {
    pub(super) fn on_reply(&mut self, now: Duration, from: SocketAddr, head: &Head, reply: Reply) {
        let Some(pending) = self.take(now, from, head) else {
            // A push to a version-0 listener: the reference still sends them, if asked to.
            let token = reply.token.unwrap_or_default();
            let values = reply.values.values;
            self.on_push(now, head, head.tid, &token, &values, &[], &[]);
            return;
        };
        if let Some(ip) = reply.seen_as {
            self.reported.count(ip);
        }
        let family = pending.family;
        match pending.purpose {
            Purpose::Bootstrap | Purpose::Ping | Purpose::Verify | Purpose::Update => {}
            Purpose::Probe => self.unpark(now, from, head.tid),
            Purpose::Find { key } => {
                self.on_near(now, from, family, head.sender, key, &reply);
            }
            Purpose::Get { key, ops } => {
                if !self.on_near(now, from, family, head.sender, Some(key), &reply) {
                    return;
                }
                if let Some(fields) = &reply.fields {
                    for op in &ops {
                        if self.ops.contains_key(op) {
                            self.events.push_back(NodeEvent::Fields {
                                op: *op,
                                fields: fields.clone(),
                            });
                        }
                    }
                }
                for op in &ops {
                    self.deliver(*op, &reply.values.values);
                }
                self.in_search(family, key, &head.sender, |n| n.answered.extend(ops));
            }
            Purpose::Put { key, op } => {
                self.authorised(family, &head.sender);
                let known = self.ops.contains_key(&op);
                self.in_search(family, key, &head.sender, |n| {
                    if known {
                        n.puts.insert(op, PutAt::Stored(now));
                    }
                });
            }
            Purpose::Listen { key, subscription } => {
                self.authorised(family, &head.sender);
                let token = reply.usable_token().map(<[u8]>::to_vec);
                let mut sid = None;
                self.in_search(family, key, &head.sender, |n| {
                    if let Some(listen) = n.listens.get_mut(&subscription) {
                        listen.sent = false;
                        listen.confirmed = Some(now);
                        sid = Some(listen.sid);
                    }
                    if token.is_some() {
                        n.token = token;
                    }
                });
                if let Some(socket) = sid.and_then(|sid| self.sockets.get_mut(&sid)) {
                    socket.used = now;
                }
            }
        }
    }

    /// The request that a reply or an error answers, and notes who answered.
    fn take(&mut self, now: Duration, from: SocketAddr, head: &Head) -> Option<Pending> {
        let pending = self.requests.get(head.tid)?;
        let genuine = match pending.node {
            Some(node) => node == head.sender && pending.family == Family::of(from),
            // Whoever is at that address.
            None => pending.addr == from,
        };
        if !genuine {
            return None;
        }
        let pending = self.requests.finish(head.tid)?;
        let (family, addr) = (pending.family, pending.addr);
        let table = &mut self.net_mut(family).table;
        if let Some(node) = pending.node.and_then(|id| table.get_mut(&id)) {
            node.pending = node.pending.saturating_sub(1);
        }
        // A node with several addresses may answer from another one than we asked; the one we asked works.
        let seen = table.seen(now, head.sender, addr, Sighting::Replied, head.client);
        if let Some(doubt) = seen.doubt {
            self.ping(now, family, doubt);
        }
        if seen.fresh || pending.node.is_none() {
            self.offer(family, head.sender);
        }
        self.status_dirty = true;
        Some(pending)
    }

    /// A reply to a find or get: nodes and a token. False if the node is of no use.
    fn on_near(
        &mut self,
        now: Duration,
        from: SocketAddr,
        family: Family,
        sender: InfoHash,
        key: Option<InfoHash>,
        reply: &Reply,
    ) -> bool {
        let Some(token) = reply.usable_token().map(<[u8]>::to_vec) else {
            // Without a token it can never be used: a node that is none, or a broken one.
            self.blacklist.add(now, from);
            self.give_up(now, family, &sender);
            return false;
        };
        // What is sent is at most this much; more is no list of near nodes.
        for node in reply.nodes.iter().take(2 * TARGET_NODES) {
            self.on_listed(now, from, *node);
        }
        if let Some(key) = key {
            self.in_search(family, key, &sender, |n| {
                n.pending = false;
                n.slow = false;
                n.replied = Some(now);
                n.token = Some(token);
            });
        }
        true
    }

    /// Somebody named a node.
    fn on_listed(&mut self, now: Duration, from: SocketAddr, listed: NodeInfo) {
        let mut addr = nodes::canonical(listed.addr);
        if addr.ip().is_loopback() && addr.is_ipv4() == from.is_ipv4() {
            // It runs beside the replier.
            addr.set_ip(from.ip());
        }
        let family = Family::of(addr);
        let own = listed.id == self.config.id || listed.id == InfoHash([0; 20]);
        if own
            || nodes::is_martian(&addr)
            || self.blacklist.contains(now, addr)
            || !self.has_family(family)
        {
            return;
        }
        let table = &mut self.net_mut(family).table;
        let seen = table.seen(now, listed.id, addr, Sighting::Listed, false);
        let usable = table
            .get(&listed.id)
            .is_some_and(|n| !n.expired && !n.client);
        if let Some(doubt) = seen.doubt {
            self.ping(now, family, doubt);
        }
        if usable {
            self.offer(family, listed.id);
        }
    }

    /// Edits what one search knows of a node, and lets the search go on.
    fn in_search(
        &mut self,
        family: Family,
        key: InfoHash,
        node: &InfoHash,
        edit: impl FnOnce(&mut SearchNode),
    ) {
        if let Some(search) = self.net_mut(family).searches.get_mut(&key) {
            if let Some(node) = search.node_mut(node) {
                edit(node);
            }
            self.dirty.insert((family, key));
        }
    }

    fn authorised(&mut self, family: Family, id: &InfoHash) {
        if let Some(node) = self.net_mut(family).table.get_mut(id) {
            node.auth_errors = 0;
        }
    }

    pub(super) fn on_error(
        &mut self,
        now: Duration,
        from: SocketAddr,
        head: &Head,
        error: &ErrorReply,
    ) {
        let Some(pending) = self.requests.get(head.tid) else {
            return;
        };
        self.refused.errors.count(error.code);
        let authorised = matches!(
            pending.purpose,
            Purpose::Put { .. } | Purpose::Listen { .. }
        );
        if error.code != code::BAD_TOKEN || !authorised {
            // It says nothing we can use: the request will fail by time.
            return;
        }
        let Some(pending) = self.take(now, from, head) else {
            return;
        };
        let (family, id) = (pending.family, head.sender);
        let table = &mut self.net_mut(family).table;
        let errors = table.get_mut(&id).map_or(u8::MAX, |n| {
            n.auth_errors = n.auth_errors.saturating_add(1);
            n.auth_errors
        });
        if errors > MAX_AUTH_ERRORS {
            self.give_up(now, family, &id);
            return;
        }
        let mut changed = Vec::new();
        for (key, search) in &mut self.net_mut(family).searches {
            if let Some(node) = search.node_mut(&id) {
                node.token = None;
                for listen in node.listens.values_mut() {
                    listen.confirmed = None;
                }
                changed.push(*key);
            }
        }
        self.dirty.extend(changed.into_iter().map(|k| (family, k)));
        match pending.purpose {
            Purpose::Put { key, op } => self.in_search(family, key, &id, |n| {
                n.puts.remove(&op);
            }),
            Purpose::Listen { key, subscription } => self.in_search(family, key, &id, |n| {
                if let Some(listen) = n.listens.get_mut(&subscription) {
                    listen.sent = false;
                }
            }),
            _ => {}
        }
    }

    /// A request was sent a second time: others are asked meanwhile.
    pub(super) fn on_slow(&mut self, tid: u32) {
        let Some(pending) = self.requests.get(tid) else {
            return;
        };
        let (family, node) = (pending.family, pending.node);
        let Some(node) = node else { return };
        match pending.purpose {
            Purpose::Find { key: Some(key) } | Purpose::Get { key, .. } => {
                self.in_search(family, key, &node, |n| n.slow = true);
            }
            Purpose::Put { key, op } => self.in_search(family, key, &node, |n| {
                if let Some(put) = n.puts.get_mut(&op) {
                    *put = PutAt::Slow;
                }
            }),
            _ => {}
        }
    }

    /// A request was sent for the last time and not answered.
    pub(super) fn on_failed(&mut self, now: Duration, pending: &Pending) {
        self.status_dirty = true;
        let Some(id) = pending.node else {
            return;
        };
        let family = pending.family;
        let table = &mut self.net_mut(family).table;
        let at_this_address = match table.get_mut(&id) {
            Some(node) => {
                node.pending = node.pending.saturating_sub(1);
                node.addr == pending.addr
            }
            None => false,
        };
        // Somebody else may have claimed the id from there.
        let doubtful = matches!(pending.purpose, Purpose::Verify | Purpose::Probe);
        if at_this_address && !doubtful {
            self.give_up(now, family, &id);
        } else {
            self.retry_elsewhere(family, &id, &pending.purpose);
        }
        self.parked
            .retain(|tid, _| self.requests.get(*tid).is_some());
    }

    /// A request went to an address where the node is no more: it may be asked again.
    fn retry_elsewhere(&mut self, family: Family, id: &InfoHash, purpose: &Purpose) {
        match purpose {
            Purpose::Find { key: Some(key) } | Purpose::Get { key, .. } => {
                self.in_search(family, *key, id, |n| n.pending = false);
            }
            Purpose::Put { key, op } => self.in_search(family, *key, id, |n| {
                n.puts.remove(op);
            }),
            Purpose::Listen { key, subscription } => self.in_search(family, *key, id, |n| {
                if let Some(listen) = n.listens.get_mut(subscription) {
                    listen.sent = false;
                }
            }),
            _ => {}
        }
    }

    /// Counts a node as gone: whatever is under way to it is over.
    pub(super) fn give_up(&mut self, _now: Duration, family: Family, id: &InfoHash) {
        self.status_dirty = true;
        let of_node =
            |p: &Pending| p.family == family && p.node == Some(*id) && p.purpose != Purpose::Verify;
        for tid in self.requests.matching(of_node) {
            self.requests.finish(tid);
            self.parked.remove(&tid);
        }
        let net = self.net_mut(family);
        net.table.expire(id);
        if let Some(node) = net.table.get_mut(id) {
            node.pending = 0;
            node.auth_errors = 0;
        }
        let mut changed = Vec::new();
        for (key, search) in &mut net.searches {
            let before = search.nodes.len();
            search.nodes.retain(|n| n.id != *id);
            if search.nodes.len() < before {
                changed.push(*key);
            }
        }
        self.dirty.extend(changed.into_iter().map(|k| (family, k)));
        self.sockets
            .retain(|_, s| s.family != family || s.node != *id);
    }

    /// News of a key we listen to, addressed to one of our sockets.
    #[expect(clippy::too_many_arguments, reason = "the members of the message")]
    pub(super) fn on_push(
        &mut self,
        now: Duration,
        head: &Head,
        sid: u32,
        token: &[u8],
        values: &[Arc<Value>],
        refreshed: &[ValueId],
        expired: &[ValueId],
    ) {
        let Some(socket) = self.sockets.get_mut(&sid) else {
            return;
        };
        if socket.node != head.sender {
            return;
        }
        socket.used = now;
        let (family, id) = (socket.family, socket.subscription);
        let holder = Holder::Node(family, head.sender);
        let Some(key) = self.subscriptions.get(&id).map(|s| s.key) else {
            return;
        };
        if let Some(token) = usable_token(token) {
            // It counts for writing, not as an answer to a search.
            if let Some(node) = self
                .net_mut(family)
                .searches
                .get_mut(&key)
                .and_then(|s| s.node_mut(&head.sender))
            {
                node.token = Some(token.to_vec());
            }
        }
        self.subscription_add(now, id, holder, values);
        let mut gone = Vec::new();
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            for vid in refreshed {
                subscription.refresh(now, holder, *vid);
            }
            for vid in expired {
                gone.extend(subscription.remove(holder, *vid));
            }
        }
        self.tell_subscribers(id, gone, true);
    }
}
