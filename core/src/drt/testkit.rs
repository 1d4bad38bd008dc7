//! Many engines in virtual time: latency, loss of devices, partitions, all from one seed.
//!
//! The network is the least that the engines need: devices announce themselves, attempts to
//! reach a device end well or after a timeout, channels carry messages in order.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a harness: what it breaks on is its own fault"
)]

use super::{Drt, DrtConfig, Input, Message, Now, Output, Verdict};
use crate::id::{AccountId, ConversationId, DeviceId};
use crate::peer::attempts::{Attempt, Attempts};
use crate::rng::Rng;
use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// How long an attempt to reach a device takes that does not answer (connection request, 30 s).
const CONNECT_TIME: Duration = Duration::from_secs(30);

/// How long a device that vanished is still announced.
const ANNOUNCED: Duration = Duration::from_secs(600);

/// How long until a broken connection is noticed.
const NOTICED: Duration = Duration::from_secs(10);

/// 2026-11-01, unix seconds: where the clock begins.
const START: u64 = 1_793_491_200;

/// What happened, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages on swarm channels.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Attempts to open a channel.
    pub attempts: u64,
    /// Those that failed.
    pub failures: u64,
    /// Channels closed on purpose.
    pub closed: u64,
}

struct Member {
    drt: Drt,
    account: AccountId,
    alive: bool,
    side: u8,
    channels: BTreeSet<DeviceId>,
    attempts: Attempts,
    watched: BTreeSet<AccountId>,
    wake: Option<Duration>,
}

enum Event {
    Deliver(DeviceId, Input),
    Message(DeviceId, DeviceId, Box<Message>),
    Wake(DeviceId),
    /// An attempt of the first to reach the second ends.
    Reach(DeviceId, DeviceId),
    Noticed(DeviceId, DeviceId),
    Unannounced(DeviceId),
}

/// Members of one conversation and the network between them.
pub struct Mesh {
    now: Duration,
    rng: Rng,
    members: BTreeMap<DeviceId, Member>,
    accounts: BTreeSet<AccountId>,
    announced: BTreeMap<AccountId, BTreeSet<DeviceId>>,
    watchers: BTreeMap<AccountId, BTreeSet<DeviceId>>,
    /// Time, number, and what happens then.
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    number: u64,
    /// What happened so far.
    pub counts: Counts,
}

impl Mesh {
    /// `accounts` members with one device each, all away.
    pub fn new(seed: u64, accounts: usize) -> Self {
        Self::with_devices(seed, accounts, 1)
    }

    /// `accounts` members with `devices` devices each, all away.
    pub fn with_devices(seed: u64, accounts: usize, devices: usize) -> Self {
        let mut start = [0; 32];
        start[..8].copy_from_slice(&seed.to_be_bytes());
        let mut rng = Rng::new(start);
        let mut all = BTreeSet::new();
        let mut members = BTreeMap::new();
        for _ in 0..accounts {
            let mut id = [0; 20];
            rng.fill(&mut id);
            let account = AccountId(id);
            all.insert(account);
            for _ in 0..devices {
                let (mut id, mut seed) = ([0; 32], [0; 32]);
                rng.fill(&mut id);
                rng.fill(&mut seed);
                let device = DeviceId(id);
                let drt = Drt::new(DrtConfig {
                    device,
                    account,
                    conversation: ConversationId([0xcc; 20]),
                    seed,
                });
                members.insert(
                    device,
                    Member {
                        drt,
                        account,
                        alive: false,
                        side: 0,
                        channels: BTreeSet::new(),
                        attempts: Attempts::default(),
                        watched: BTreeSet::new(),
                        wake: None,
                    },
                );
            }
        }
        Self {
            now: Duration::ZERO,
            rng,
            members,
            accounts: all,
            announced: BTreeMap::new(),
            watchers: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            number: 0,
            counts: Counts::default(),
        }
    }

    /// The devices, alive or not.
    pub fn devices(&self) -> Vec<DeviceId> {
        self.members.keys().copied().collect()
    }

    /// The devices that are there.
    pub fn alive(&self) -> Vec<DeviceId> {
        let alive = self.members.iter().filter(|(_, m)| m.alive);
        alive.map(|(id, _)| *id).collect()
    }

    /// An engine.
    pub fn drt(&self, device: &DeviceId) -> &Drt {
        &self.members[device].drt
    }

    /// The virtual time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// A device comes.
    pub fn start(&mut self, device: DeviceId) {
        let member = self.members.get_mut(&device).unwrap();
        member.alive = true;
        let account = member.account;
        self.announced.entry(account).or_default().insert(device);
        for watcher in self.watchers.get(&account).cloned().unwrap_or_default() {
            self.announce(watcher, account, device, true);
        }
        let accounts = self.accounts.clone();
        let banned = BTreeSet::new();
        self.input(
            device,
            Input::Members {
                accounts,
                invited: BTreeSet::new(),
                banned,
            },
        );
    }

    /// Everybody comes, one after the other within `time`.
    pub fn start_all(&mut self, time: Duration) {
        let devices = self.devices();
        let step = time / u32::try_from(devices.len()).unwrap().max(1);
        for device in devices {
            let until = self.now + step;
            self.run_until(until);
            self.start(device);
        }
    }

    /// A device vanishes without a word.
    pub fn kill(&mut self, device: DeviceId) {
        let member = self.members.get_mut(&device).unwrap();
        member.alive = false;
        for peer in core::mem::take(&mut member.channels) {
            self.later(NOTICED, Event::Noticed(peer, device));
        }
        self.later(ANNOUNCED, Event::Unannounced(device));
    }

    /// Puts a device on one side of a broken network; only devices of one side reach each other.
    pub fn put_on_side(&mut self, device: DeviceId, side: u8) {
        self.members.get_mut(&device).unwrap().side = side;
        let ids: Vec<DeviceId> = self.members[&device].channels.iter().copied().collect();
        for peer in ids {
            if self.members[&peer].side != side {
                self.cut(device, peer);
                self.later(NOTICED, Event::Noticed(peer, device));
                self.later(NOTICED, Event::Noticed(device, peer));
            }
        }
    }

    fn cut(&mut self, a: DeviceId, b: DeviceId) {
        for (one, other) in [(a, b), (b, a)] {
            self.members.get_mut(&one).unwrap().channels.remove(&other);
        }
    }

    /// Everybody may reach everybody again.
    pub fn heal(&mut self) {
        for member in self.members.values_mut() {
            member.side = 0;
        }
    }

    /// Only these are members from now on.
    pub fn set_members(&mut self, accounts: &BTreeSet<AccountId>) {
        self.accounts.clone_from(accounts);
        for device in self.alive() {
            let accounts = accounts.clone();
            let banned = BTreeSet::new();
            self.input(
                device,
                Input::Members {
                    accounts,
                    invited: BTreeSet::new(),
                    banned,
                },
            );
        }
    }

    /// Whose device it is.
    pub fn account(&self, device: &DeviceId) -> AccountId {
        self.members[device].account
    }

    /// Tells one engine something, and does what it wants.
    pub fn input(&mut self, device: DeviceId, input: Input) {
        let now = Now {
            clock: self.now,
            unix: START + self.now.as_secs(),
        };
        let member = self.members.get_mut(&device).unwrap();
        if !member.alive {
            return;
        }
        member.drt.handle(now, input);
        let mut outputs = Vec::new();
        while let Some(output) = member.drt.poll_output() {
            outputs.push(output);
        }
        let timeout = member.drt.poll_timeout();
        assert!(
            timeout.is_none_or(|at| at > self.now),
            "a timeout in the past"
        );
        if let Some(at) = timeout
            && member.wake.is_none_or(|w| at < w || w <= self.now)
        {
            member.wake = Some(at);
            self.at(at, Event::Wake(device));
        }
        for output in outputs {
            self.act(device, output);
        }
    }

    fn act(&mut self, device: DeviceId, output: Output) {
        match output {
            Output::Connect(to) => self.connect(device, to),
            Output::Close(to) => {
                self.counts.closed += 1;
                if self.members[&device].channels.contains(&to) {
                    self.cut(device, to);
                    let latency = self.latency();
                    self.later(latency, Event::Noticed(to, device));
                }
            }
            Output::Send { to, message } => {
                self.counts.messages += 1;
                self.counts.bytes += message.encode().len() as u64;
                let latency = self.latency();
                self.later(latency, Event::Message(device, to, message));
            }
            Output::Watch(accounts) => {
                let before = core::mem::replace(
                    &mut self.members.get_mut(&device).unwrap().watched,
                    accounts.clone(),
                );
                for account in before.difference(&accounts) {
                    if let Some(w) = self.watchers.get_mut(account) {
                        w.remove(&device);
                    }
                }
                for account in accounts.difference(&before) {
                    self.watchers.entry(*account).or_default().insert(device);
                    for peer in self.announced.get(account).cloned().unwrap_or_default() {
                        self.announce(device, *account, peer, true);
                    }
                }
            }
            Output::CheckLease { lease, .. } => {
                let verdict = Verdict::NoCertificate;
                let latency = self.latency();
                let device_of = lease.device;
                let input = Input::LeaseChecked {
                    device: device_of,
                    verdict,
                };
                self.later(latency, Event::Deliver(device, input));
            }
            Output::GiveCertificates { .. } | Output::Online(_) | Output::MobilesChanged => {}
        }
    }

    fn connect(&mut self, device: DeviceId, to: DeviceId) {
        self.counts.attempts += 1;
        if !self.members.contains_key(&to) {
            let input = Input::Refused { device: to };
            self.later(CONNECT_TIME, Event::Deliver(device, input));
            return;
        }
        let member = self.members.get_mut(&device).unwrap();
        match member.attempts.ask(to, self.now) {
            Attempt::Go | Attempt::Running => {
                let time = if self.reaches(&device, &to) {
                    self.latency() * 4
                } else {
                    CONNECT_TIME
                };
                self.later(time, Event::Reach(device, to));
            }
            Attempt::After(not_before) => {
                let input = Input::Failed {
                    device: to,
                    not_before,
                };
                self.later(Duration::from_millis(1), Event::Deliver(device, input));
            }
        }
    }

    fn reaches(&self, a: &DeviceId, b: &DeviceId) -> bool {
        let (a, b) = (&self.members[a], &self.members[b]);
        a.alive && b.alive && a.side == b.side
    }

    fn announce(&mut self, watcher: DeviceId, account: AccountId, device: DeviceId, online: bool) {
        if watcher == device {
            return;
        }
        let time = self.latency() * 5;
        let input = Input::Presence {
            account,
            device,
            online,
        };
        self.later(time, Event::Deliver(watcher, input));
    }

    fn latency(&mut self) -> Duration {
        self.rng
            .between(Duration::from_millis(10), Duration::from_millis(200))
    }

    fn later(&mut self, time: Duration, event: Event) {
        self.at(self.now + time, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.queue.push(Reverse((at, self.number)));
        self.events.insert(self.number, event);
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Lets time pass until then.
    pub fn run_until(&mut self, end: Duration) {
        while let Some(Reverse((at, number))) = self.queue.peek().copied()
            && at <= end
        {
            self.queue.pop();
            self.now = at;
            if let Some(event) = self.events.remove(&number) {
                self.happen(event);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(to, input) => {
                // Announcements of before may cross the end of the watch.
                if let Input::Presence { account, .. } = &input
                    && !self.members[&to].watched.contains(account)
                {
                    return;
                }
                self.input(to, input);
            }
            Event::Message(from, to, message) => {
                if self.members[&to].channels.contains(&from) {
                    self.input(to, Input::Message { from, message });
                }
            }
            Event::Wake(device) => {
                if self.members[&device].wake == Some(self.now) {
                    self.members.get_mut(&device).unwrap().wake = None;
                    self.input(device, Input::Timeout);
                }
            }
            Event::Reach(from, to) => self.reached(from, to),
            Event::Noticed(device, peer) => {
                self.members
                    .get_mut(&device)
                    .unwrap()
                    .channels
                    .remove(&peer);
                self.input(device, Input::Unlinked { device: peer });
                self.input(device, Input::Disconnected { device: peer });
            }
            Event::Unannounced(device) => {
                let member = &self.members[&device];
                if member.alive {
                    return;
                }
                let account = member.account;
                self.announced.entry(account).or_default().remove(&device);
                for watcher in self.watchers.get(&account).cloned().unwrap_or_default() {
                    self.announce(watcher, account, device, false);
                }
            }
        }
    }

    fn reached(&mut self, from: DeviceId, to: DeviceId) {
        if self.members[&from].channels.contains(&to) {
            // The other side was faster.
            self.members.get_mut(&from).unwrap().attempts.reached(&to);
            return;
        }
        if !self.reaches(&from, &to) {
            self.counts.failures += 1;
            let now = self.now;
            let member = self.members.get_mut(&from).unwrap();
            let not_before = member.attempts.failed(to, now);
            self.input(
                from,
                Input::Failed {
                    device: to,
                    not_before,
                },
            );
            return;
        }
        for (one, other) in [(from, to), (to, from)] {
            let member = self.members.get_mut(&one).unwrap();
            member.attempts.reached(&other);
            member.channels.insert(other);
        }
        for (one, other) in [(from, to), (to, from)] {
            let account = self.members[&other].account;
            for input in [
                Input::Linked {
                    device: other,
                    account,
                },
                Input::Connected {
                    device: other,
                    account,
                },
            ] {
                self.input(one, input);
            }
        }
    }

    // --- what is so ---

    /// How many neighbours each device has that is there.
    pub fn degrees(&self) -> Vec<usize> {
        let alive = self.members.values().filter(|m| m.alive);
        alive.map(|m| m.channels.len()).collect()
    }

    /// The separate parts of the graph of those who are there: the size of each, largest first.
    pub fn parts(&self) -> Vec<usize> {
        let mut left: BTreeSet<DeviceId> = self.alive().into_iter().collect();
        let mut parts = Vec::new();
        while let Some(first) = left.pop_first() {
            let mut size = 0;
            let mut next = vec![first];
            while let Some(id) = next.pop() {
                size += 1;
                for peer in &self.members[&id].channels {
                    if left.remove(peer) {
                        next.push(*peer);
                    }
                }
            }
            parts.push(size);
        }
        parts.sort_unstable_by(|a, b| b.cmp(a));
        parts
    }

    /// How many steps the farthest device is from one.
    pub fn steps_from(&self, device: DeviceId) -> usize {
        let mut seen = BTreeSet::from([device]);
        let mut layer = vec![device];
        let mut steps = 0;
        loop {
            let next: Vec<DeviceId> = layer
                .iter()
                .flat_map(|id| self.members[id].channels.iter().copied())
                .filter(|id| seen.insert(*id))
                .collect();
            if next.is_empty() {
                return steps;
            }
            steps += 1;
            layer = next;
        }
    }

    /// Lets time pass until the graph is one, at most so long. Gives the time it took.
    pub fn run_until_whole(&mut self, most: Duration) -> Option<Duration> {
        let start = self.now;
        while self.now < start + most {
            if self.parts().len() <= 1 {
                return Some(self.now - start);
            }
            self.run(Duration::from_secs(1));
        }
        (self.parts().len() <= 1).then_some(most)
    }
}
