//! The agent: one mutation, then drain the outputs.

use super::config::{Config, Failure, Output, Refused, Role};
use super::connection::{Check, ConnId, Connection, Flight, Origin, Tcp};
use crate::peer::framing::frame;
use crate::peer::ice_text::{self, CandidateType, Credentials, IceText, TcpType};
use crate::peer::stun::{self, Class, Message, RoleClaim, TransactionId};
use core::time::Duration;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// Pace between new connections (pjnath `PJ_ICE_TA_VAL`, RFC 8445's Ta).
const PACE: Duration = Duration::from_millis(50);
/// One TCP connection attempt (pjnath: 15 s).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A check without an answer is sent again: some relays lose the first bytes (pjnath, 50 paces).
const CHECK_AGAIN: Duration = Duration::from_millis(2500);
/// A check without an answer has failed (16 × 500 ms).
const CHECK_TIMEOUT: Duration = Duration::from_secs(8);
/// Connections to a relay are tried so often (pjnath), until the peer's permission is in place …
const RELAY_ATTEMPTS: u32 = 24;
/// … and so far apart.
const RELAY_AGAIN: Duration = Duration::from_millis(500);
/// Wait for a nomination or for a connection of the peer when nothing of ours is left to do
/// (pjnath: 10 s).
const PASSIVE_WAIT: Duration = Duration::from_secs(10);
/// Longest negotiation after the peer's text is there: three passive connects of 15 s and a wait.
/// Our own bound, so that a peer who always keeps something going ends as well.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(60);
/// A keep-alive goes out after this …
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// … and a random part of this (pjnath: 20 s plus 0 to 5).
const KEEP_ALIVE_JITTER_MS: u64 = 5000;
/// A strange connection that proves nothing is closed after this.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest frame that is read from a stranger: checks have some 120 bytes.
const STRANGER_FRAME: usize = stun::MAX_LEN + 2;
/// Bytes of TLS that are kept while the selection is not done yet.
const EARLY_DATA: usize = 64 * 1024;
/// Wrong messages on one connection before it is closed.
const STRIKES: u32 = 8;
/// Type preference of a peer reflexive candidate.
const PREFLX: u32 = 110;

/// One attempt to reach one device.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    role: Role,
    tie_breaker: u64,
    counter: u64,
    remote: Option<Credentials>,
    connections: BTreeMap<ConnId, Connection>,
    next_id: u64,
    outputs: VecDeque<Output>,
    early: Vec<Vec<u8>>,
    early_bytes: usize,
    first_valid_at: Option<Duration>,
    idle_since: Option<Duration>,
    ends_at: Option<Duration>,
    selected: Option<ConnId>,
    keep_alive_at: Duration,
    failed: bool,
}

impl Agent {
    /// A new agent, which waits for the peer's text and for connections.
    pub fn new(config: Config) -> Self {
        let mut agent = Self {
            role: config.role,
            tie_breaker: 0,
            counter: 0,
            remote: None,
            connections: BTreeMap::new(),
            next_id: 0,
            outputs: VecDeque::new(),
            early: Vec::new(),
            early_bytes: 0,
            first_valid_at: None,
            idle_since: None,
            ends_at: None,
            selected: None,
            keep_alive_at: Duration::ZERO,
            failed: false,
            config,
        };
        agent.tie_breaker = agent.draw_u64();
        agent
    }

    /// The peer's text is there: connections to its passive candidates begin.
    pub fn set_remote(&mut self, now: Duration, text: &IceText) {
        if self.remote.is_some() || self.failed {
            return;
        }
        self.remote = Some(text.credentials.clone());
        self.ends_at = Some(now.saturating_add(NEGOTIATION_TIMEOUT));
        let mut targets: Vec<_> = text
            .candidates
            .iter()
            .filter(|c| c.tcp_type == TcpType::Passive && self.may_connect(c.address))
            .collect();
        targets.sort_by_key(|c| core::cmp::Reverse(c.priority));
        let mut seen = BTreeSet::new();
        let mut at = now;
        for candidate in targets {
            if seen.len() >= self.config.limits.outgoing || !seen.insert(candidate.address) {
                continue;
            }
            let relay = candidate.kind == CandidateType::Relay;
            let mut connection = Connection::new(
                Origin::Outgoing { relay },
                Tcp::Planned(at),
                candidate.address,
            );
            // The base of every active candidate of ours is a host address.
            let local = ice_text::priority(126, 65_534);
            connection.priority = self.pair_priority(local, candidate.priority);
            self.insert(connection);
            at = at.saturating_add(PACE);
        }
        let waiting: Vec<_> = self.ids(|c| c.check == Check::Triggered);
        for id in waiting {
            self.send_check(now, id);
        }
        self.handle_timeout(now);
    }

    /// The peer connected to one of our listeners.
    pub fn handle_accepted(
        &mut self,
        now: Duration,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<ConnId, Refused> {
        let accepted = self.ids(|c| c.origin == Origin::Accepted && c.tcp == Tcp::Open);
        if self.failed || accepted.len() >= self.config.limits.accepted {
            return Err(Refused);
        }
        let mut connection = Connection::new(Origin::Accepted, Tcp::Open, remote);
        connection.local = Some(local);
        connection.opened_at = now;
        Ok(self.insert(connection))
    }

    /// A connection that was asked for is open.
    pub fn handle_connected(&mut self, now: Duration, id: ConnId, local: SocketAddr) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !matches!(connection.tcp, Tcp::Connecting(_)) {
            return;
        }
        connection.tcp = Tcp::Open;
        connection.local = Some(local);
        connection.opened_at = now;
        self.send_check(now, id);
        self.handle_timeout(now);
    }

    /// A connection could not be opened, or was closed by the other side or by an error.
    pub fn handle_closed(&mut self, now: Duration, id: ConnId) {
        if self.selected == Some(id) {
            self.fail(Failure::Lost);
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.tcp == Tcp::Closed {
            return;
        }
        let valid = connection.valid();
        let again = match connection.origin {
            Origin::Outgoing { relay } => {
                relay && !valid && connection.attempts < RELAY_ATTEMPTS && self.selected.is_none()
            }
            Origin::Accepted => false,
        };
        connection.tcp = if again {
            Tcp::Planned(now.saturating_add(RELAY_AGAIN))
        } else {
            Tcp::Closed
        };
        connection.check = Check::None;
        connection.nomination = None;
        connection.nominated_by_peer = false;
        connection.deframer = Default::default();
        if connection.origin == Origin::Accepted {
            self.connections.remove(&id);
        }
        self.handle_timeout(now);
    }

    /// Bytes came on a connection, cut anyhow.
    pub fn handle_bytes(&mut self, now: Duration, id: ConnId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.tcp != Tcp::Open {
            return;
        }
        connection.deframer.push(bytes);
        while let Some(connection) = self.connections.get_mut(&id) {
            let Some(payload) = connection.deframer.next_frame() else {
                if !connection.authenticated() && connection.deframer.pending() > STRANGER_FRAME {
                    self.close(now, id);
                }
                break;
            };
            if stun::is_stun(&payload) {
                self.handle_stun(now, id, &payload);
            } else {
                self.handle_data(now, id, payload);
            }
        }
        if self.selected.is_none() {
            self.handle_timeout(now);
        }
    }

    /// Sends bytes of the stream, at best one TLS record. Nothing is sent before the selection.
    pub fn send(&mut self, payload: &[u8]) {
        if let (Some(id), false) = (self.selected, self.failed) {
            self.outputs.push_back(Output::Send(id, frame(payload)));
        }
    }

    /// Tells the time.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.failed {
            return;
        }
        self.expire_strangers(now);
        if let Some(id) = self.selected {
            if self.keep_alive_at <= now {
                let transaction = self.transaction();
                let indication = Message::binding(Class::Indication, transaction).encode(None);
                self.outputs.push_back(Output::Send(id, frame(&indication)));
                self.plan_keep_alive(now);
            }
            return;
        }
        if self.remote.is_none() {
            return;
        }
        self.run_connections(now);
        self.run_flights(now);
        self.nominate(now);
        self.watch_progress(now);
    }

    /// When to tell the time next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.failed {
            return None;
        }
        let mut times: Vec<Duration> = Vec::new();
        for c in self.connections.values() {
            if self.selected.is_none() {
                match c.tcp {
                    Tcp::Planned(at) | Tcp::Connecting(at) => times.push(at),
                    Tcp::Open | Tcp::Closed => {}
                }
                for flight in flights(c) {
                    times.push(flight.again_at.min(flight.ends_at));
                }
            }
            if self.is_stranger(c) {
                times.push(c.opened_at.saturating_add(STRANGER_TIMEOUT));
            }
        }
        if self.selected.is_some() {
            times.push(self.keep_alive_at);
        } else {
            times.extend(self.ends_at);
            times.extend(self.idle_since.map(|t| t.saturating_add(PASSIVE_WAIT)));
            // Once it has passed, the nomination is on its way or waits for something else.
            if self.role == Role::Controlling && !self.nominating() {
                times.extend(self.nomination_at().filter(|_| self.best().is_some()));
            }
        }
        times.into_iter().min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The role, final after the selection.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The connection that carries the stream.
    pub fn selected(&self) -> Option<ConnId> {
        self.selected
    }

    fn insert(&mut self, connection: Connection) -> ConnId {
        let id = ConnId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.connections.insert(id, connection);
        id
    }

    fn ids(&self, which: impl Fn(&Connection) -> bool) -> Vec<ConnId> {
        self.connections
            .iter()
            .filter(|(_, c)| which(c))
            .map(|(id, _)| *id)
            .collect()
    }

    fn draw(&mut self) -> [u8; 32] {
        self.counter = self.counter.wrapping_add(1);
        Sha256::new()
            .chain_update(self.config.entropy)
            .chain_update(self.counter.to_be_bytes())
            .finalize()
            .into()
    }

    fn draw_u64(&mut self) -> u64 {
        let drawn = self.draw();
        drawn
            .first_chunk::<8>()
            .map_or(0, |b| u64::from_be_bytes(*b))
    }

    fn transaction(&mut self) -> TransactionId {
        let drawn = self.draw();
        drawn.first_chunk::<12>().copied().unwrap_or_default()
    }

    fn plan_keep_alive(&mut self, now: Duration) {
        let jitter = Duration::from_millis(self.draw_u64() % KEEP_ALIVE_JITTER_MS);
        self.keep_alive_at = now.saturating_add(KEEP_ALIVE).saturating_add(jitter);
    }

    /// Whether an address of a stranger's list may be knocked at.
    fn may_connect(&self, address: SocketAddr) -> bool {
        if address.port() == 0 {
            return false;
        }
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                self.config.ipv4
                    && (!ip.is_loopback() || self.config.loopback)
                    && !ip.is_unspecified()
                    && !ip.is_multicast()
                    && !ip.is_broadcast()
            }
            IpAddr::V6(ip) => {
                self.config.ipv6
                    && (!ip.is_loopback() || self.config.loopback)
                    && !ip.is_unspecified()
                    && !ip.is_multicast()
                    // The text has no zone, without which it leads nowhere.
                    && !ip.is_unicast_link_local()
            }
        }
    }

    /// RFC 8445 section 6.1.2.3.
    fn pair_priority(&self, local: u32, remote: u32) -> u64 {
        let (controlling, controlled) = match self.role {
            Role::Controlling => (local, remote),
            Role::Controlled => (remote, local),
        };
        (u64::from(local.min(remote)) << 32)
            .saturating_add(u64::from(local.max(remote)).saturating_mul(2))
            .saturating_add(u64::from(controlling > controlled))
    }

    fn claim(&self) -> RoleClaim {
        match self.role {
            Role::Controlled => RoleClaim::Controlled(self.tie_breaker),
            Role::Controlling => RoleClaim::Controlling(self.tie_breaker),
        }
    }

    fn switch_role(&mut self, role: Role) {
        self.role = role;
        for c in self.connections.values_mut() {
            c.nomination = None;
            c.nominated_by_peer = false;
        }
    }

    fn close(&mut self, now: Duration, id: ConnId) {
        self.outputs.push_back(Output::Close(id));
        self.handle_closed(now, id);
    }

    fn fail(&mut self, why: Failure) {
        if !self.failed {
            self.failed = true;
            for id in self.ids(|c| c.tcp != Tcp::Closed) {
                self.outputs.push_back(Output::Close(id));
            }
            self.connections.clear();
            self.outputs.push_back(Output::Failed(why));
        }
    }

    fn handle_data(&mut self, now: Duration, id: ConnId, payload: Vec<u8>) {
        let known = self.connections.get(&id).is_some_and(|c| c.authenticated());
        if !known {
            self.close(now, id);
        } else if self.selected.is_some() {
            self.outputs.push_back(Output::Data(payload));
        } else if self.early_bytes.saturating_add(payload.len()) > EARLY_DATA {
            self.close(now, id);
        } else {
            self.early_bytes = self.early_bytes.saturating_add(payload.len());
            self.early.push(payload);
        }
    }

    fn handle_stun(&mut self, now: Duration, id: ConnId, bytes: &[u8]) {
        let Ok(message) = Message::decode(bytes) else {
            self.strike(now, id);
            return;
        };
        if message.method != 1 {
            self.strike(now, id);
            return;
        }
        match message.class {
            Class::Request => self.handle_request(now, id, &message, bytes),
            Class::Success | Class::Error => self.handle_response(now, id, &message, bytes),
            Class::Indication => {}
        }
    }

    fn strike(&mut self, now: Duration, id: ConnId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.strikes = connection.strikes.saturating_add(1);
        if connection.strikes >= STRIKES && !connection.authenticated() {
            self.close(now, id);
        }
    }

    fn answer(&mut self, id: ConnId, message: &Message, protect: bool) {
        let key = protect.then_some(self.config.credentials.pwd.as_bytes());
        let bytes = frame(&message.encode(key));
        self.outputs.push_back(Output::Send(id, bytes));
    }

    fn refuse(&mut self, now: Duration, id: ConnId, request: &Message, code: u16, protect: bool) {
        let answer = Message {
            error: Some(code),
            unknown: request.unknown.clone(),
            ..Message::binding(Class::Error, request.transaction)
        };
        self.answer(id, &answer, protect);
        self.strike(now, id);
    }

    fn handle_request(&mut self, now: Duration, id: ConnId, request: &Message, bytes: &[u8]) {
        let own = &self.config.credentials;
        let Some(username) = &request.username else {
            return self.refuse(now, id, request, 400, false);
        };
        if !request.has_integrity() || !request.fingerprint {
            return self.refuse(now, id, request, 400, false);
        }
        let for_us = username
            .split_once(':')
            .is_some_and(|(u, _)| u == own.ufrag);
        if !for_us || !request.check_integrity(bytes, own.pwd.as_bytes()) {
            return self.refuse(now, id, request, 401, false);
        }
        if !request.unknown.is_empty() {
            return self.refuse(now, id, request, 420, true);
        }
        // pjnath drops requests without one, silently.
        let Some(priority) = request.priority else {
            return self.strike(now, id);
        };
        if self.selected.is_none() && !self.settle_roles(request) {
            return self.refuse(now, id, request, 487, true);
        }
        let local = ice_text::priority(126, 65_535);
        let pair = self.pair_priority(local, priority);
        let (role, undecided) = (self.role, self.selected.is_none());
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.checked_by_peer = true;
        if connection.origin == Origin::Accepted {
            connection.priority = pair;
        }
        if request.use_candidate && role == Role::Controlled && undecided {
            connection.nominated_by_peer = true;
        }
        let (remote, check) = (connection.remote, connection.check);
        let answer = Message {
            xor_mapped: Some(remote),
            ..Message::binding(Class::Success, request.transaction)
        };
        self.answer(id, &answer, true);
        if !undecided {
            return;
        }
        match check {
            Check::Succeeded => self.after_success(now, id),
            // Triggered: the peer counts on ours, also where it opened the connection.
            Check::None | Check::Failed | Check::Triggered => self.send_check(now, id),
            Check::Sent(_) => {}
        }
    }

    /// Whether the roles agree, after ours was changed if it has to be (RFC 8445 section 7.3.1.1).
    fn settle_roles(&mut self, request: &Message) -> bool {
        match (self.role, request.role) {
            (Role::Controlling, Some(RoleClaim::Controlling(theirs))) => {
                if self.tie_breaker >= theirs {
                    return false;
                }
                self.switch_role(Role::Controlled);
            }
            (Role::Controlled, Some(RoleClaim::Controlled(theirs))) => {
                if self.tie_breaker < theirs {
                    return false;
                }
                self.switch_role(Role::Controlling);
            }
            _ => {}
        }
        true
    }

    fn handle_response(&mut self, now: Duration, id: ConnId, answer: &Message, bytes: &[u8]) {
        let Some(remote) = &self.remote else {
            return;
        };
        let protected = answer.check_integrity(bytes, remote.pwd.as_bytes());
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(flight) = flights(connection).find(|f| f.transaction == answer.transaction) else {
            return;
        };
        if answer.class == Class::Error {
            // Without protection anybody on the way could have written it; the timer decides.
            if !protected {
                return self.strike(now, id);
            }
            if answer.error == Some(487) {
                return self.handle_conflict(now, id, flight);
            }
            self.flight_failed(id, flight);
            return self.handle_timeout(now);
        }
        if !protected || answer.xor_mapped.is_none() {
            return self.strike(now, id);
        }
        if flight.nominates {
            connection.nomination = None;
            self.select(now, id);
        } else {
            connection.check = Check::Succeeded;
            self.first_valid_at.get_or_insert(now);
            self.after_success(now, id);
        }
    }

    fn handle_conflict(&mut self, now: Duration, id: ConnId, flight: Flight) {
        // An answer to a request from before a switch says nothing about the role of now.
        if flight.controlling == (self.role == Role::Controlling) {
            self.switch_role(match self.role {
                Role::Controlling => Role::Controlled,
                Role::Controlled => Role::Controlling,
            });
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.nomination = None;
            if matches!(connection.check, Check::Sent(_)) {
                self.send_check(now, id);
            }
        }
    }

    fn flight_failed(&mut self, id: ConnId, flight: Flight) {
        if let Some(connection) = self.connections.get_mut(&id) {
            if flight.nominates {
                connection.nomination = None;
                connection.refused = true;
            } else {
                connection.check = Check::Failed;
            }
        }
    }

    fn after_success(&mut self, now: Duration, id: ConnId) {
        let nominated = self
            .connections
            .get(&id)
            .is_some_and(|c| c.nominated_by_peer);
        if self.role == Role::Controlled && nominated && self.selected.is_none() {
            self.select(now, id);
        }
    }

    fn select(&mut self, now: Duration, id: ConnId) {
        let Some(remote) = self.connections.get(&id).map(|c| c.remote) else {
            return;
        };
        self.selected = Some(id);
        self.plan_keep_alive(now);
        let unopened = self.ids(|c| matches!(c.tcp, Tcp::Planned(_) | Tcp::Connecting(_)));
        for other in unopened {
            self.outputs.push_back(Output::Close(other));
            self.connections.remove(&other);
        }
        self.outputs.push_back(Output::Selected {
            connection: id,
            role: self.role,
            remote,
        });
        for payload in self.early.drain(..) {
            self.outputs.push_back(Output::Data(payload));
        }
    }

    fn send_check(&mut self, now: Duration, id: ConnId) {
        let Some(flight) = self.send_request(now, id, false) else {
            // The credentials come later.
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.check = Check::Triggered;
            }
            return;
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.check = Check::Sent(flight);
        }
    }

    fn send_request(&mut self, now: Duration, id: ConnId, nominates: bool) -> Option<Flight> {
        self.remote.as_ref()?;
        let flight = Flight {
            transaction: self.transaction(),
            nominates,
            controlling: self.role == Role::Controlling,
            again_at: now.saturating_add(CHECK_AGAIN),
            ends_at: now.saturating_add(CHECK_TIMEOUT),
        };
        self.write_request(id, flight);
        Some(flight)
    }

    fn write_request(&mut self, id: ConnId, flight: Flight) {
        let Some(remote) = &self.remote else {
            return;
        };
        let request = Message {
            username: Some(format!(
                "{}:{}",
                remote.ufrag, self.config.credentials.ufrag
            )),
            priority: Some(ice_text::priority(PREFLX, 65_535)),
            role: Some(self.claim()),
            use_candidate: flight.nominates,
            ..Message::binding(Class::Request, flight.transaction)
        };
        let bytes = frame(&request.encode(Some(remote.pwd.as_bytes())));
        self.outputs.push_back(Output::Send(id, bytes));
    }

    fn run_connections(&mut self, now: Duration) {
        for id in self.ids(|c| matches!(c.tcp, Tcp::Planned(at) | Tcp::Connecting(at) if at <= now))
        {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            if matches!(connection.tcp, Tcp::Planned(_)) {
                connection.attempts = connection.attempts.saturating_add(1);
                connection.tcp = Tcp::Connecting(now.saturating_add(CONNECT_TIMEOUT));
                let remote = connection.remote;
                self.outputs.push_back(Output::Connect(id, remote));
            } else {
                self.outputs.push_back(Output::Close(id));
                connection.tcp = Tcp::Closed;
            }
        }
    }

    fn run_flights(&mut self, now: Duration) {
        for id in self.ids(|c| c.tcp == Tcp::Open) {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let due: Vec<Flight> = flights(connection)
                .filter(|f| f.again_at.min(f.ends_at) <= now)
                .collect();
            for mut flight in due {
                if flight.ends_at <= now {
                    self.flight_failed(id, flight);
                    continue;
                }
                flight.again_at = now.saturating_add(CHECK_AGAIN);
                if let Some(connection) = self.connections.get_mut(&id) {
                    if flight.nominates {
                        connection.nomination = Some(flight);
                    } else {
                        connection.check = Check::Sent(flight);
                    }
                }
                self.write_request(id, flight);
            }
        }
    }

    fn nominating(&self) -> bool {
        self.connections.values().any(|c| c.nomination.is_some())
    }

    fn nomination_at(&self) -> Option<Duration> {
        self.first_valid_at
            .map(|at| at.saturating_add(self.config.nomination_delay))
    }

    /// The best connection that may be nominated: direct before relayed, then by priority, and of
    /// equals the one that was opened first.
    fn best(&self) -> Option<ConnId> {
        self.connections
            .iter()
            .filter(|(_, c)| c.valid() && !c.refused)
            .max_by_key(|(id, c)| (is_direct(c), c.priority, core::cmp::Reverse(**id)))
            .map(|(id, _)| *id)
    }

    fn nominate(&mut self, now: Duration) {
        if self.role != Role::Controlling || self.nominating() || self.selected.is_some() {
            return;
        }
        // One that both sides checked, and that needs no relay, is as good as any.
        let settled = self
            .connections
            .iter()
            .filter(|(_, c)| c.valid() && !c.refused && c.checked_by_peer && is_direct(c))
            .max_by_key(|(id, c)| (c.priority, core::cmp::Reverse(**id)))
            .map(|(id, _)| *id);
        let finished = !self.connections.values().any(Connection::working);
        let waited = self.nomination_at().is_some_and(|at| at <= now);
        let chosen = if finished || waited {
            self.best()
        } else {
            settled
        };
        if let Some(id) = chosen {
            let flight = self.send_request(now, id, true);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.nomination = flight;
            }
        }
    }

    fn watch_progress(&mut self, now: Duration) {
        if self.connections.values().any(Connection::working) {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(now);
        }
        let idle = self
            .idle_since
            .is_some_and(|t| t.saturating_add(PASSIVE_WAIT) <= now);
        if idle || self.ends_at.is_some_and(|t| t <= now) {
            self.fail(if self.first_valid_at.is_some() {
                Failure::NotNominated
            } else {
                Failure::NoPath
            });
        }
    }

    /// An accepted connection that proved nothing. A peer's second connection to the same address
    /// stays silent, too: it is no stranger when its address is known from another one.
    fn is_stranger(&self, connection: &Connection) -> bool {
        connection.origin == Origin::Accepted
            && connection.tcp == Tcp::Open
            && !connection.authenticated()
            && !self
                .connections
                .values()
                .any(|c| c.authenticated() && c.remote.ip() == connection.remote.ip())
    }

    fn expire_strangers(&mut self, now: Duration) {
        let expired = self
            .ids(|c| c.opened_at.saturating_add(STRANGER_TIMEOUT) <= now && self.is_stranger(c));
        for id in expired {
            self.outputs.push_back(Output::Close(id));
            self.connections.remove(&id);
        }
    }
}

fn is_direct(connection: &Connection) -> bool {
    connection.origin != Origin::Outgoing { relay: true }
}

fn flights(connection: &Connection) -> impl Iterator<Item = Flight> + use<> {
    let check = match connection.check {
        Check::Sent(flight) => Some(flight),
        _ => None,
    };
    check.into_iter().chain(connection.nomination)
}
