//! Datagrams from others, and answers to their requests.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use super::limits::Source;
use super::listeners::{ListenerId, Listening};
use super::requests::{Pending, Purpose};
use super::search::SEARCH_NODES;
use super::table::{Sighting, TARGET_NODES};
use super::{Family, Node};
use crate::dht::nodes::{self, NodeInfo};
use crate::dht::packet::{ErrorReply, Head, MAX_DATAGRAM, Packet, Reply, Request, Want, code};
use crate::dht::query::{FieldTable, Query};
use crate::dht::types::{self, ValueType};
use crate::dht::value::Value;
use crate::id::InfoHash;

/// Bytes of values a get is answered with though its sender has not proven its address. Our bound: a get
/// needs no token, and an answer of megabytes to a forged address would be an attack by our hand.
const UNPROVEN_BYTES: usize = 2048;
/// Most gets that wait for such a proof. Our bound.
const MAX_PARKED: usize = 256;

impl Node {
    /// Takes a datagram. Whatever is wrong with it, nothing happens then.
    pub fn handle_datagram(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) {
        self.receive(now, from, datagram);
        self.settle(now);
    }

    fn receive(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) {
        let from = nodes::canonical(from);
        if nodes::is_martian(&from)
            || self.blacklist.contains(now, from)
            || datagram.len() > MAX_DATAGRAM
        {
            return;
        }
        let Ok(packet) = Packet::decode(datagram) else {
            self.refused.count_datagram();
            return;
        };
        if packet.network() != self.config.network_id {
            return;
        }
        if let Packet::Part(part) = packet {
            // Parts of an expected reply are free; others count as requests do when they open something.
            let expected = self.is_awaited(from, part.tid);
            if !expected && !self.assembler.awaits(from, part.tid) && !self.quota.admit(now, from) {
                return;
            }
            if let Some(whole) = self.assembler.part(now, from, part) {
                self.dispatch(now, from, whole);
            }
            return;
        }
        let Some(head) = packet.head() else { return };
        if head.sender == self.config.id || head.sender == InfoHash([0; 20]) {
            return;
        }
        let admitted = match &packet {
            Packet::Request(..) => self.quota.admit(now, from),
            // Nobody sends us values that we did not ask for.
            Packet::Reply(head, reply) => {
                reply.values.announced.is_empty() || self.is_awaited(from, head.tid)
            }
            _ => true,
        };
        if !admitted {
            return;
        }
        if let Some(whole) = self.assembler.header(now, from, packet) {
            self.dispatch(now, from, whole);
        }
    }

    /// Whether a reply from this address with this transaction is waited for.
    fn is_awaited(&self, from: SocketAddr, tid: u32) -> bool {
        self.requests.get(tid).is_some_and(|p| p.addr == from)
            || self.sockets.get(&tid).is_some_and(|s| {
                let node = self.net(s.family).table.get(&s.node);
                node.is_some_and(|n| n.addr == from)
            })
    }

    fn dispatch(&mut self, now: Duration, from: SocketAddr, packet: Packet) {
        match packet {
            Packet::Request(head, request) => {
                self.sighted(now, from, &head);
                self.on_request(now, from, head, request);
            }
            Packet::Reply(head, reply) => self.on_reply(now, from, &head, reply),
            Packet::Error(head, error) => self.on_error(now, from, &head, &error),
            Packet::Notice(head, notice) => {
                let (re, exp) = (&notice.refreshed, &notice.expired);
                self.on_push(now, &head, head.tid, &notice.token, &[], re, exp);
            }
            Packet::Part(_) => {}
        }
    }

    /// Somebody sent us a request.
    fn sighted(&mut self, now: Duration, from: SocketAddr, head: &Head) {
        let family = Family::of(from);
        if !self.has_family(family) {
            return;
        }
        let seen =
            self.net_mut(family)
                .table
                .seen(now, head.sender, from, Sighting::Heard, head.client);
        if let Some(doubt) = seen.doubt {
            self.ping(now, family, doubt);
        }
        if seen.moved && !self.is_verifying(head.sender, family) {
            self.request(now, Some(head.sender), from, Request::Ping, Purpose::Verify);
        }
        if seen.fresh {
            self.offer(family, head.sender);
            self.upkeep.hurry(now);
        }
    }

    fn is_verifying(&self, node: InfoHash, family: Family) -> bool {
        let same = |p: &Pending| {
            p.purpose == Purpose::Verify && p.node == Some(node) && p.family == family
        };
        // As long as anything is under way to it, its address is in question anyway.
        self.net(family)
            .table
            .get(&node)
            .is_some_and(|n| n.pending > 0)
            && !self.requests.matching(same).is_empty()
    }

    /// A node that may serve searches has become known.
    pub(super) fn offer(&mut self, family: Family, id: InfoHash) {
        let net = self.net_mut(family);
        let mut changed = Vec::new();
        for (key, search) in &mut net.searches {
            if search.offer(id) {
                changed.push(*key);
            }
        }
        self.dirty.extend(changed.into_iter().map(|k| (family, k)));
        self.status_dirty = true;
    }

    fn reply(&mut self, from: SocketAddr, tid: u32, reply: Reply) {
        let packet = Packet::Reply(
            self.head(tid),
            Reply {
                seen_as: Some(from.ip()),
                ..reply
            },
        );
        self.send(from, &packet);
    }

    fn refuse(&mut self, from: SocketAddr, tid: u32, code: u16, text: &str) {
        self.refused.requests.count(code);
        let packet = Packet::Error(self.head(tid), ErrorReply::new(code, text));
        self.send(from, &packet);
    }

    fn on_request(&mut self, now: Duration, from: SocketAddr, head: Head, request: Request) {
        let tid = head.tid;
        match request {
            Request::Ping => self.reply(from, tid, Reply::default()),
            Request::Find { target, want } => {
                let reply = self.near(now, from, &target, want);
                self.reply(from, tid, reply);
            }
            Request::Get { key: None, .. } => {
                self.refuse(from, tid, code::NO_KEY, "Get_values with no info_hash");
            }
            Request::Get {
                key: Some(key),
                query,
                want,
            } => self.on_get(now, from, &head, key, query, want),
            Request::Put {
                key,
                values,
                created,
                token,
            } => {
                let Some(key) = key else {
                    return self.refuse(from, tid, code::NO_KEY, "Put with no info_hash");
                };
                if !self.tokens.accepts(from, &token) {
                    return self.refuse(from, tid, code::BAD_TOKEN, "Put with incorrect token");
                }
                for value in values.values {
                    if value.id == 0 {
                        self.refuse(from, tid, code::NO_KEY, "Put with invalid ID");
                        continue;
                    }
                    let vid = Some(value.id);
                    self.on_put(now, from, key, value, created);
                    let reply = Reply {
                        vid,
                        ..Reply::default()
                    };
                    self.reply(from, tid, reply);
                }
            }
            Request::Refresh { key, vid, token } => {
                if !self.tokens.accepts(from, &token) {
                    return self.refuse(from, tid, code::BAD_TOKEN, "Put with incorrect token");
                }
                let Some(key) = key.filter(|k| self.storage.knows(k)) else {
                    let text = "Access operation for unknown storage";
                    return self.refuse(from, tid, code::NOT_FOUND, text);
                };
                self.on_refresh(now, key, vid);
                let reply = Reply {
                    vid: Some(vid),
                    ..Reply::default()
                };
                self.reply(from, tid, reply);
            }
            Request::Listen {
                key,
                version,
                token,
                sid,
                query,
            } => {
                let Some(key) = key else {
                    return self.refuse(from, tid, code::NO_KEY, "Listen with no info_hash");
                };
                if !self.tokens.accepts(from, &token) {
                    return self.refuse(from, tid, code::BAD_TOKEN, "Listen with incorrect token");
                }
                let id = ListenerId {
                    node: head.sender,
                    v6: from.is_ipv6(),
                    sid,
                };
                let state = self.listeners.listen(now, key, id, from, query, version);
                if state == Listening::Full {
                    // No answer: the listener then turns to somebody else.
                    return;
                }
                if state == Listening::New
                    && let Some(listener) = self.listeners.get(&key, &id)
                {
                    self.push_all(now, key, id, &listener);
                }
                let reply = Reply {
                    token: Some(self.tokens.issue(from).to_vec()),
                    ..Reply::default()
                };
                self.reply(from, tid, reply);
            }
            Request::Update {
                sid,
                token,
                values,
                refreshed,
                expired,
                ..
            } => {
                self.on_push(
                    now,
                    &head,
                    sid,
                    &token,
                    &values.values,
                    &refreshed,
                    &expired,
                );
                // Known socket or not: an unanswered update makes us look dead.
                self.reply(from, tid, Reply::default());
            }
        }
    }

    /// Nodes near a target, and a token.
    fn near(
        &self,
        now: Duration,
        from: SocketAddr,
        target: &InfoHash,
        want: Option<Want>,
    ) -> Reply {
        let want = want.unwrap_or(Want {
            v4: from.is_ipv4(),
            v6: from.is_ipv6(),
        });
        let mut nodes = Vec::new();
        for (family, wanted) in [(Family::V4, want.v4), (Family::V6, want.v6)] {
            if wanted {
                let near = self
                    .net(family)
                    .table
                    .closest_good(now, target, TARGET_NODES);
                nodes.extend(near.into_iter().map(|(id, addr)| NodeInfo { id, addr }));
            }
        }
        Reply {
            nodes,
            token: Some(self.tokens.issue(from).to_vec()),
            ..Reply::default()
        }
    }

    fn on_get(
        &mut self,
        now: Duration,
        from: SocketAddr,
        head: &Head,
        key: InfoHash,
        query: Query,
        want: Option<Want>,
    ) {
        let bytes: usize = self
            .storage
            .values(&key)
            .filter(|s| query.select.is_empty() && query.matches(&s.value))
            .map(|s| s.value.accounted_size())
            .fold(0, usize::saturating_add);
        if bytes > UNPROVEN_BYTES && !self.has_proven(head.sender, from) {
            if self.parked.len() < MAX_PARKED {
                let node = Some(head.sender);
                let tid = self.request(now, node, from, Request::Ping, Purpose::Probe);
                let get = Request::Get {
                    key: Some(key),
                    query,
                    want,
                };
                self.parked.insert(tid, (head.clone(), get));
            }
            return;
        }
        self.answer_get(now, from, head.tid, key, &query, want);
    }

    /// Whether a node has shown that it receives at an address.
    fn has_proven(&self, node: InfoHash, addr: SocketAddr) -> bool {
        let known = self.net(Family::of(addr)).table.get(&node);
        known.is_some_and(|n| n.addr == addr && n.replied.is_some())
    }

    fn answer_get(
        &mut self,
        now: Duration,
        from: SocketAddr,
        tid: u32,
        key: InfoHash,
        query: &Query,
        want: Option<Want>,
    ) {
        let values: Vec<Arc<Value>> = self
            .storage
            .values(&key)
            .map(|s| s.value.clone())
            .filter(|v| query.matches(v))
            .collect();
        let mut reply = self.near(now, from, &key, want);
        if query.select.is_empty() {
            reply.values = values.into();
        } else if !values.is_empty() {
            let all = values.iter().map(Arc::as_ref);
            reply.fields = Some(FieldTable::of(&query.select, all));
        }
        self.reply(from, tid, reply);
    }

    /// The sender of a get has proven its address: now it gets its answer.
    pub(super) fn unpark(&mut self, now: Duration, from: SocketAddr, tid: u32) {
        if let Some((head, request)) = self.parked.remove(&tid)
            && let Request::Get {
                key: Some(key),
                query,
                want,
            } = request
        {
            self.answer_get(now, from, head.tid, key, &query, want);
        }
    }

    /// Whether enough good nodes are nearer to a key for us to have no part in it.
    fn is_far(&self, now: Duration, family: Family, key: &InfoHash) -> bool {
        let near = self.net(family).table.closest_good(now, key, SEARCH_NODES);
        near.len() >= TARGET_NODES
            && near
                .last()
                .is_some_and(|(id, _)| id.xor(key) < self.config.id.xor(key))
    }

    /// Keeps a value, or not: the sender is not told which.
    fn on_put(
        &mut self,
        now: Duration,
        from: SocketAddr,
        key: InfoHash,
        value: Arc<Value>,
        created: Option<i64>,
    ) {
        if self.is_far(now, Family::of(from), &key) {
            return;
        }
        let lifetime = ValueType::of(value.type_id()).lifetime;
        let age = match (created, self.unix_time(now)) {
            (Some(created), Some(today)) => {
                Duration::from_secs(u64::try_from(today.saturating_sub(created)).unwrap_or(0))
            }
            _ => Duration::ZERO,
        };
        if age >= lifetime {
            self.refused.values.count_old();
            return;
        }
        let expires = now.saturating_add(lifetime.saturating_sub(age));
        let allowed = match self.storage.get(&key, value.id) {
            Some(old) if old.value.same_as(&value) => Ok(None),
            Some(old) => types::may_edit(&*self.crypto, &old.value, &value).map(|()| None),
            None => types::may_store(&*self.crypto, &key, &value, Some(from.ip())),
        };
        let value = match allowed {
            Ok(None) => value,
            Ok(Some(rewritten)) => Arc::new(rewritten),
            Err(why) => {
                self.refused.values.count(why);
                return;
            }
        };
        self.store(now, key, value, expires, Some(Source::of(from)));
    }

    fn on_refresh(&mut self, now: Duration, key: InfoHash, vid: u64) {
        let Some(stored) = self.storage.get(&key, vid) else {
            return;
        };
        let lifetime = ValueType::of(stored.value.type_id()).lifetime;
        let expires = stored.expires.max(now.saturating_add(lifetime));
        self.refresh(now, key, vid, expires);
    }
}
