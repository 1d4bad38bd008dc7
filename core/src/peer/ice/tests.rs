//! Two agents in a virtual network: connections with a delay, refusals, losses.

use super::*;
use crate::peer::ice_text::{Candidate, CandidateType, Credentials, IceText, TcpType};
use core::time::Duration;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

struct Side {
    agent: Agent,
    text: IceText,
    selected: Option<(ConnId, Role, Duration)>,
    failed: Option<Failure>,
    data: Vec<Vec<u8>>,
    connects: Vec<SocketAddr>,
}

fn config(role: Role, seed: u8) -> Config {
    Config {
        role,
        credentials: Credentials::from_random([seed; 16]),
        entropy: [seed; 32],
        ipv4: true,
        ipv6: true,
        loopback: false,
        nomination_delay: ms(400),
        limits: Limits::default(),
    }
}

fn side(role: Role, seed: u8, passive: &[&str]) -> Side {
    let mut candidates = Vec::new();
    for (i, address) in passive.iter().enumerate() {
        let address: SocketAddr = address.parse().unwrap();
        let local = 65_535 - 2 * i as u16;
        candidates.push(Candidate::new(
            CandidateType::Host,
            TcpType::Passive,
            address,
            local,
        ));
        let active = SocketAddr::new(address.ip(), 9);
        candidates.push(Candidate::new(
            CandidateType::Host,
            TcpType::Active,
            active,
            local - 1,
        ));
    }
    let config = config(role, seed);
    Side {
        text: IceText {
            credentials: config.credentials.clone(),
            candidates,
        },
        agent: Agent::new(config),
        selected: None,
        failed: None,
        data: Vec::new(),
        connects: Vec::new(),
    }
}

/// What is under way.
#[derive(Debug, Clone)]
enum Packet {
    Syn { from: ConnId, to: SocketAddr },
    SynAck { conn: ConnId },
    Bytes { conn: ConnId, bytes: Vec<u8> },
    Fin { conn: ConnId },
    Text,
}

struct Net {
    sides: [Side; 2],
    now: Duration,
    /// (arrival, order) -> (receiver, packet)
    wire: BTreeMap<(Duration, u64), (usize, Packet)>,
    order: u64,
    delay: Duration,
    /// Same connection at the other side.
    peer: BTreeMap<(usize, ConnId), ConnId>,
    ports: u16,
    /// Which addresses let connections in.
    reachable: Box<dyn Fn(SocketAddr) -> bool>,
    /// How bytes are cut.
    cut: usize,
    log: VecDeque<String>,
}

impl Net {
    fn new(alice: Side, bob: Side) -> Self {
        Self {
            sides: [alice, bob],
            now: ms(1000),
            wire: BTreeMap::new(),
            order: 0,
            delay: ms(1),
            peer: BTreeMap::new(),
            ports: 40_000,
            reachable: Box::new(|_| true),
            cut: usize::MAX,
            log: VecDeque::new(),
        }
    }

    fn put(&mut self, to: usize, after: Duration, packet: Packet) {
        self.order += 1;
        self.wire
            .insert((self.now + after, self.order), (to, packet));
    }

    /// The other side's text arrives after a while.
    fn tell(&mut self, to: usize, after: Duration) {
        self.put(to, after, Packet::Text);
    }

    fn drain(&mut self) {
        for me in 0..2 {
            while let Some(output) = self.sides[me].agent.poll_output() {
                let other = 1 - me;
                match output {
                    Output::Connect(from, to) => {
                        self.sides[me].connects.push(to);
                        let open = (self.reachable)(to)
                            && self.sides[other]
                                .text
                                .candidates
                                .iter()
                                .any(|c| c.address == to);
                        if open {
                            self.put(other, self.delay, Packet::Syn { from, to });
                        } else {
                            self.put(me, self.delay, Packet::Fin { conn: from });
                        }
                    }
                    Output::Send(conn, bytes) => {
                        if let Some(there) = self.peer.get(&(me, conn)).copied() {
                            for piece in bytes.chunks(self.cut.min(bytes.len().max(1))) {
                                self.put(
                                    other,
                                    self.delay,
                                    Packet::Bytes {
                                        conn: there,
                                        bytes: piece.to_vec(),
                                    },
                                );
                            }
                        }
                    }
                    Output::Close(conn) => {
                        if let Some(there) = self.peer.remove(&(me, conn)) {
                            self.peer.remove(&(other, there));
                            self.put(other, self.delay, Packet::Fin { conn: there });
                        }
                    }
                    Output::Selected {
                        connection, role, ..
                    } => {
                        assert!(self.sides[me].selected.is_none());
                        self.sides[me].selected = Some((connection, role, self.now));
                    }
                    Output::Data(d) => self.sides[me].data.push(d),
                    Output::Failed(why) => self.sides[me].failed = Some(why),
                }
            }
        }
    }

    fn receive(&mut self, me: usize, packet: Packet) {
        let now = self.now;
        let other = 1 - me;
        match packet {
            Packet::Text => {
                let text = self.sides[other].text.clone();
                self.sides[me].agent.set_remote(now, &text);
            }
            Packet::Syn { from, to } => {
                self.ports += 1;
                let ip = if to.is_ipv4() {
                    "10.9.9.9"
                } else {
                    "2001:db8::99"
                };
                let source = SocketAddr::new(ip.parse().unwrap(), self.ports);
                match self.sides[me].agent.handle_accepted(now, to, source) {
                    Ok(id) => {
                        self.peer.insert((me, id), from);
                        self.peer.insert((other, from), id);
                        self.put(other, self.delay, Packet::SynAck { conn: from });
                    }
                    Err(Refused) => self.put(other, self.delay, Packet::Fin { conn: from }),
                }
            }
            Packet::SynAck { conn } => {
                let local = "10.9.9.9:1".parse().unwrap();
                self.sides[me].agent.handle_connected(now, conn, local);
            }
            Packet::Bytes { conn, bytes } => self.sides[me].agent.handle_bytes(now, conn, &bytes),
            Packet::Fin { conn } => self.sides[me].agent.handle_closed(now, conn),
        }
    }

    /// Until nothing happens any more, or a time.
    fn run(&mut self, until: Duration) {
        for _ in 0..100_000 {
            self.drain();
            let timers = [0, 1].map(|i| self.sides[i].agent.poll_timeout());
            let arrival = self.wire.keys().next().map(|k| k.0);
            let Some(next) = timers.into_iter().flatten().chain(arrival).min() else {
                return;
            };
            if next > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            if arrival.is_some_and(|a| a <= self.now) {
                let (_, (to, packet)) = self.wire.pop_first().unwrap();
                self.receive(to, packet);
            }
            for (i, timer) in timers.iter().enumerate() {
                if timer.is_some_and(|t| t <= self.now) {
                    self.sides[i].agent.handle_timeout(self.now);
                }
            }
        }
        panic!("the agents never rest: {:?}", self.log);
    }

    fn assert_connected(&mut self) {
        let (a, a_role, _) = self.sides[0].selected.expect("alice selected");
        let (b, b_role, _) = self.sides[1].selected.expect("bob selected");
        assert_ne!(a_role, b_role);
        assert_eq!(
            self.peer.get(&(0, a)),
            Some(&b),
            "both selected the same connection"
        );
        self.sides[0].agent.send(b"from alice");
        self.sides[1].agent.send(b"from bob");
        self.run(self.now + 3 * self.delay + ms(100));
        assert_eq!(self.sides[0].data.last().unwrap(), b"from bob");
        assert_eq!(self.sides[1].data.last().unwrap(), b"from alice");
    }
}

/// Alice asks (controlled), Bob answers (controlling). His text needs longer than his connections.
fn asked(alice: &[&str], bob: &[&str]) -> Net {
    let mut net = Net::new(
        side(Role::Controlled, 1, alice),
        side(Role::Controlling, 2, bob),
    );
    net.tell(1, ms(0));
    net.tell(0, ms(40));
    net
}

#[test]
fn on_a_lan_it_takes_a_few_round_trips() {
    let mut net = asked(&["192.0.2.1:1000"], &["192.0.2.2:2000"]);
    net.tell(0, ms(1));
    net.run(ms(5000));
    net.assert_connected();
    let start = ms(1000);
    for side in &net.sides {
        let (_, _, at) = side.selected.unwrap();
        assert!(at - start < ms(20), "{at:?}");
    }
    assert_eq!(net.sides[0].selected.unwrap().1, Role::Controlled);
}

#[test]
fn checks_that_overtake_the_answer_are_answered_and_returned_later() {
    let mut net = asked(&["192.0.2.1:1000"], &["192.0.2.2:2000"]);
    // Alice can be reached, Bob cannot: all depends on triggered checks.
    net.reachable = Box::new(|to| to.port() == 1000);
    net.run(ms(8000));
    net.assert_connected();
}

#[test]
fn one_direction_is_enough_whichever_it_is() {
    for open in [1000, 2000] {
        let mut net = asked(
            &["192.0.2.1:1000", "[2001:db8::1]:1000"],
            &["192.0.2.2:2000", "[2001:db8::2]:2000"],
        );
        net.reachable = Box::new(move |to| to.port() == open && to.is_ipv6());
        net.cut = 1;
        net.run(ms(8000));
        net.assert_connected();
    }
}

#[test]
fn many_addresses_are_paced_and_cut() {
    let alice: Vec<String> = (1..60).map(|i| format!("192.0.2.{i}:1000")).collect();
    let alice: Vec<&str> = alice.iter().map(String::as_str).collect();
    let mut net = asked(&alice, &["198.51.100.2:2000"]);
    net.sides[0].text = IceText::parse(&net.sides[0].text.to_string()).unwrap();
    // Only the least of them works, and only towards Alice.
    let last = net.sides[0]
        .text
        .candidates
        .iter()
        .rev()
        .find(|c| c.tcp_type == TcpType::Passive);
    let last = last.unwrap().address;
    net.reachable = Box::new(move |to| to == last);
    net.run(ms(10_000));
    net.assert_connected();
    assert!(net.sides[1].connects.len() <= 8);
}

#[test]
fn both_controlling_or_both_controlled_is_settled() {
    for role in [Role::Controlling, Role::Controlled] {
        for seeds in [(1, 2), (2, 1)] {
            let mut net = Net::new(
                side(role, seeds.0, &["192.0.2.1:1000"]),
                side(role, seeds.1, &["192.0.2.2:2000"]),
            );
            net.tell(0, ms(0));
            net.tell(1, ms(3));
            net.run(ms(10_000));
            net.assert_connected();
        }
    }
}

#[test]
fn without_a_path_both_fail_after_the_passive_wait() {
    let mut net = asked(&["192.0.2.1:1000"], &["192.0.2.2:2000"]);
    net.reachable = Box::new(|_| false);
    net.run(ms(10_900));
    assert_eq!(net.sides[1].failed, None);
    net.run(ms(30_000));
    assert_eq!(net.sides[0].failed, Some(Failure::NoPath));
    assert_eq!(net.sides[1].failed, Some(Failure::NoPath));
}

#[test]
fn a_lost_connection_is_reported_and_an_idle_one_is_not_missed() {
    let mut net = asked(&["192.0.2.1:1000"], &["192.0.2.2:2000"]);
    net.run(ms(5000));
    net.assert_connected();
    let selected = net.sides[0].selected.unwrap().0;
    let now = net.now;
    // Bob opens a second connection, as pjnath does, and drops it.
    let (own, his) = (
        "192.0.2.1:1000".parse().unwrap(),
        "10.9.9.9:7".parse().unwrap(),
    );
    let idle = net.sides[0].agent.handle_accepted(now, own, his).unwrap();
    net.sides[0].agent.handle_closed(now, idle);
    net.assert_connected();
    net.sides[0].agent.handle_closed(now, selected);
    net.run(now + ms(1000));
    assert_eq!(net.sides[0].failed, Some(Failure::Lost));
    assert_eq!(net.sides[1].failed, Some(Failure::Lost));
}

#[test]
fn keep_alives_go_out_every_20_to_25_seconds() {
    let mut net = asked(&["192.0.2.1:1000"], &["192.0.2.2:2000"]);
    net.run(ms(2000));
    let mut sent = Vec::new();
    for second in 2..120 {
        net.sides[0].agent.handle_timeout(ms(second * 1000));
        while let Some(output) = net.sides[0].agent.poll_output() {
            let Output::Send(id, bytes) = output else {
                panic!("{output:?}")
            };
            assert_eq!(id, net.sides[0].selected.unwrap().0);
            assert_eq!(bytes[..4], [0, 28, 0, 0x11]);
            sent.push(second);
        }
    }
    assert!(sent.len() >= 4);
    assert!(
        sent.windows(2).all(|w| (20..=26).contains(&(w[1] - w[0]))),
        "{sent:?}"
    );
}

#[test]
fn relays_are_tried_again_until_the_permission_is_there() {
    let mut net = asked(&["192.0.2.1:1000"], &["192.0.2.2:2000"]);
    let relay: SocketAddr = "203.0.113.5:5000".parse().unwrap();
    let relayed = Candidate::new(CandidateType::Relay, TcpType::Passive, relay, 65_535);
    net.sides[0].text.candidates.push(relayed);
    net.reachable = Box::new(|_| false);
    net.run(ms(4000));
    let tries = net.sides[1]
        .connects
        .iter()
        .filter(|a| **a == relay)
        .count();
    assert!((4..=7).contains(&tries), "{tries}");
    net.reachable = Box::new(move |to| to == relay);
    net.run(ms(9000));
    net.assert_connected();
}

#[test]
fn addresses_that_nobody_should_be_sent_to_are_not_knocked_at() {
    let mut net = asked(
        &[
            "127.0.0.1:22",
            "[::1]:22",
            "0.0.0.0:5",
            "224.0.0.1:5",
            "255.255.255.255:5",
            "[fe80::1]:5",
            "[ff02::1]:5",
            "192.0.2.1:0",
            "[::ffff:127.0.0.1]:5",
            "192.0.2.1:1000",
        ],
        &["192.0.2.2:2000"],
    );
    net.run(ms(5000));
    assert_eq!(net.sides[1].connects, ["192.0.2.1:1000".parse().unwrap()]);
}

#[test]
fn strangers_get_nothing_and_are_closed() {
    let mut agent = Agent::new(config(Role::Controlled, 1));
    let at = |n: u64| format!("198.51.100.9:{n}").parse::<SocketAddr>().unwrap();
    let own: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    // Silent ones expire.
    let silent = agent.handle_accepted(ms(0), own, at(1)).unwrap();
    assert_eq!(agent.poll_timeout(), Some(ms(30_000)));
    agent.handle_timeout(ms(30_000));
    assert_eq!(agent.poll_output(), Some(Output::Close(silent)));
    // TLS without a check before it.
    let loud = agent.handle_accepted(ms(0), own, at(2)).unwrap();
    agent.handle_bytes(ms(1), loud, &[0, 5, 22, 3, 1, 0, 0]);
    assert_eq!(agent.poll_output(), Some(Output::Close(loud)));
    // A frame longer than any check.
    let long = agent.handle_accepted(ms(0), own, at(3)).unwrap();
    agent.handle_bytes(ms(1), long, &[0xff; 2000]);
    assert_eq!(agent.poll_output(), Some(Output::Close(long)));
    // A wrong password, again and again.
    let wrong = agent.handle_accepted(ms(0), own, at(4)).unwrap();
    let mut request =
        crate::peer::stun::Message::binding(crate::peer::stun::Class::Request, [1; 12]);
    request.username = Some("01010101:abc".to_owned());
    request.priority = Some(1);
    let frame = crate::peer::framing::frame(&request.encode(Some(b"wrong")));
    let mut answers = 0;
    for _ in 0..20 {
        agent.handle_bytes(ms(1), wrong, &frame);
        while let Some(output) = agent.poll_output() {
            if matches!(output, Output::Send(..)) {
                answers += 1;
            }
        }
    }
    assert_eq!(answers, 8);
    // Too many at once.
    let limit = Limits::default().accepted;
    for i in 0..limit as u64 {
        agent.handle_accepted(ms(0), own, at(100 + i)).unwrap();
    }
    assert_eq!(agent.handle_accepted(ms(0), own, at(99)), Err(Refused));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn whatever_is_reachable_in_whatever_order_they_agree(
        seeds in (1u8..100, 100u8..200),
        reachable in proptest::collection::vec(any::<bool>(), 6),
        delays in (0u64..2000, 0u64..2000),
        delay in 0u64..300,
        cut in 1usize..200,
        roles in any::<(bool, bool)>(),
    ) {
        let role = |b| if b { Role::Controlling } else { Role::Controlled };
        let mut net = Net::new(
            side(role(roles.0), seeds.0, &["192.0.2.1:1000", "[2001:db8::1]:1000", "10.0.0.1:1000"]),
            side(role(roles.1), seeds.1, &["192.0.2.2:2000", "[2001:db8::2]:2000", "10.0.0.2:2000"]),
        );
        net.cut = cut;
        net.delay = ms(delay);
        let any_path = reachable.iter().any(|r| *r);
        net.reachable = Box::new(move |to| {
            let i = match to.ip() { std::net::IpAddr::V6(_) => 0, std::net::IpAddr::V4(v) => if v.is_private() { 1 } else { 2 } };
            reachable[i + if to.port() == 1000 { 0 } else { 3 }]
        });
        net.tell(0, ms(delays.0));
        net.tell(1, ms(delays.1));
        net.run(ms(70_000));
        if any_path {
            net.assert_connected();
        } else {
            prop_assert_eq!(net.sides[0].failed, Some(Failure::NoPath));
            prop_assert_eq!(net.sides[1].failed, Some(Failure::NoPath));
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut agent = Agent::new(config(Role::Controlled, 1));
        let own: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let id = agent.handle_accepted(ms(0), own, own).unwrap();
        agent.handle_bytes(ms(0), id, &bytes);
        while agent.poll_output().is_some() {}
    }
}
