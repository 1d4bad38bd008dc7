//! Many engines in virtual time: latency, loss of devices, partitions, all from one seed.
//!
//! The network is the least that the engines need: devices announce themselves, attempts to
//! reach a device end well or after a timeout, channels carry messages in order.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a harness: what it breaks on is its own fault"
)]

use super::{Drt, DrtConfig, Input, MAX_NODES, Message, Now, Output, Verdict};
use crate::id::{AccountId, ConversationId, DeviceId};
use crate::peer::attempts::{Attempt, Attempts};
use crate::rng::Rng;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

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
    /// The most devices that a table knew.
    pub known: usize,
    /// Devices that do not exist, of which somebody told.
    pub invented: u64,
}

/// A channel between two devices, by their numbers, opened or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// One of the two.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// Whether there is one now.
    pub open: bool,
}

struct Member {
    drt: Drt,
    device: DeviceId,
    account: AccountId,
    alive: bool,
    /// Answers whoever asks for devices with ids of its own making.
    invents: bool,
    /// Counted up at every start: what was begun before does not count.
    run: u32,
    side: bool,
    /// The channels with others as this device sees them, each with its number.
    channels: BTreeMap<usize, u64>,
    attempts: Attempts,
    watched: BTreeSet<AccountId>,
    wake: Option<Duration>,
}

enum Event {
    Deliver(usize, u32, Input),
    Message(usize, usize, u64, Box<Message>),
    Wake(usize),
    /// An attempt of the first to reach the second ends.
    Reach(usize, usize, u32),
    /// The first notices that its channel with the second is gone.
    Noticed(usize, usize, u64),
    Unannounced(usize, u32),
}

/// Members of one conversation and the network between them.
pub struct Mesh {
    now: Duration,
    rng: Rng,
    members: Vec<Member>,
    // Looked up only, never walked: its order does not matter.
    numbers: HashMap<DeviceId, usize>,
    accounts: Arc<BTreeSet<AccountId>>,
    announced: BTreeMap<AccountId, BTreeSet<usize>>,
    watchers: BTreeMap<AccountId, BTreeSet<usize>>,
    /// Time, number, and what happens then.
    events: BTreeMap<(Duration, u64), Event>,
    number: u64,
    changes: VecDeque<Change>,
    /// Tables remember whoever is named.
    pub(crate) learns_all: bool,
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
        let mut rng = Rng::new(start_of(seed));
        let mut all = Vec::with_capacity(accounts * devices);
        for _ in 0..accounts {
            let mut account = [0; 20];
            rng.fill(&mut account);
            for _ in 0..devices {
                let mut device = [0; 32];
                rng.fill(&mut device);
                all.push((DeviceId(device), AccountId(account)));
            }
        }
        all.sort_unstable();
        Self::of(seed, &all)
    }

    /// These devices, numbered in this order, all away.
    pub fn of(seed: u64, devices: &[(DeviceId, AccountId)]) -> Self {
        let mut mesh = Self {
            now: Duration::ZERO,
            rng: Rng::new(start_of(!seed)),
            members: Vec::with_capacity(devices.len()),
            numbers: devices.iter().enumerate().map(|(n, d)| (d.0, n)).collect(),
            accounts: Arc::new(devices.iter().map(|(_, account)| *account).collect()),
            announced: BTreeMap::new(),
            watchers: BTreeMap::new(),
            events: BTreeMap::new(),
            number: 0,
            changes: VecDeque::new(),
            learns_all: false,
            counts: Counts::default(),
        };
        for (device, account) in devices {
            let drt = mesh.engine(*device, *account);
            mesh.members.push(Member {
                drt,
                device: *device,
                account: *account,
                alive: false,
                invents: false,
                run: 0,
                side: false,
                channels: BTreeMap::new(),
                attempts: Attempts::default(),
                watched: BTreeSet::new(),
                wake: None,
            });
        }
        mesh
    }

    fn engine(&mut self, device: DeviceId, account: AccountId) -> Drt {
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        Drt::new(DrtConfig {
            device,
            account,
            conversation: ConversationId([0xcc; 20]),
            seed,
        })
    }

    /// The devices, alive or not: the number of each is its place.
    pub fn devices(&self) -> Vec<DeviceId> {
        self.members.iter().map(|m| m.device).collect()
    }

    /// The numbers of the devices that are there.
    pub fn alive(&self) -> Vec<usize> {
        let all = self.members.iter().enumerate();
        all.filter(|(_, m)| m.alive).map(|(n, _)| n).collect()
    }

    /// Whether a device is there.
    pub fn is_alive(&self, n: usize) -> bool {
        self.members[n].alive
    }

    /// An engine.
    pub fn drt(&self, n: usize) -> &Drt {
        &self.members[n].drt
    }

    /// Whose device it is.
    pub fn account(&self, n: usize) -> AccountId {
        self.members[n].account
    }

    /// The virtual time.
    pub fn now(&self) -> Duration {
        self.now
    }

    // --- what is done to it ---

    /// A device comes, to a conversation of everybody.
    pub fn start(&mut self, n: usize) {
        let accounts = self.accounts.clone();
        self.start_with(n, accounts, BTreeSet::new());
    }

    /// A device comes, or comes back, and knows these members and invited people.
    pub fn start_with(
        &mut self,
        n: usize,
        accounts: Arc<BTreeSet<AccountId>>,
        invited: BTreeSet<AccountId>,
    ) {
        let (device, account) = (self.members[n].device, self.members[n].account);
        let mut drt = self.engine(device, account);
        if self.learns_all {
            drt.learn_all();
        }
        self.watch(n, BTreeSet::new());
        let member = &mut self.members[n];
        member.drt = drt;
        member.alive = true;
        member.run += 1;
        member.wake = None;
        member.attempts = Attempts::default();
        self.announced.entry(account).or_default().insert(n);
        for watcher in self.watchers.get(&account).cloned().unwrap_or_default() {
            self.announce(watcher, n, true);
        }
        self.set_members_of(n, accounts, invited);
    }

    /// What a device knows of the members changed.
    pub fn set_members_of(
        &mut self,
        n: usize,
        accounts: Arc<BTreeSet<AccountId>>,
        invited: BTreeSet<AccountId>,
    ) {
        let banned = BTreeSet::new();
        let input = Input::Members {
            accounts,
            invited,
            banned,
        };
        self.input(n, input);
    }

    /// Everybody comes, one after the other within `time`.
    pub fn start_all(&mut self, time: Duration) {
        let step = time / u32::try_from(self.members.len()).unwrap().max(1);
        for n in 0..self.members.len() {
            let until = self.now + step;
            self.run_until(until);
            self.start(n);
        }
    }

    /// From now on a device answers whoever asks it for others with as many as an answer may hold that do not exist.
    pub fn invent(&mut self, n: usize) {
        self.members[n].invents = true;
    }

    /// Ids that share up to three of the first bits with that of who asks, and not the next one.
    fn invented(&mut self, near: &DeviceId) -> Vec<DeviceId> {
        self.counts.invented += MAX_NODES as u64;
        (0..MAX_NODES)
            .map(|_| {
                let mut id = [0; 32];
                self.rng.fill(&mut id);
                let differs = 0x80u8 >> self.rng.below(4);
                let rest = differs - 1;
                id[0] = (near.0[0] ^ differs) & !rest | (id[0] & rest);
                DeviceId(id)
            })
            .collect()
    }

    /// A device vanishes without a word.
    pub fn kill(&mut self, n: usize) {
        let member = &mut self.members[n];
        if !member.alive {
            return;
        }
        member.alive = false;
        let run = member.run;
        for (peer, channel) in core::mem::take(&mut member.channels) {
            self.changed(n, peer, false);
            self.later(NOTICED, Event::Noticed(peer, n, channel));
        }
        self.later(ANNOUNCED, Event::Unannounced(n, run));
    }

    /// The network parts: only devices of one side reach each other.
    pub fn part(&mut self, side: impl Fn(usize) -> bool) {
        for (n, member) in self.members.iter_mut().enumerate() {
            member.side = side(n);
        }
        for n in 0..self.members.len() {
            let peers: Vec<usize> = self.members[n].channels.keys().copied().collect();
            for peer in peers {
                if self.members[peer].side != self.members[n].side {
                    self.snap(n, peer);
                }
            }
        }
    }

    /// Everybody may reach everybody again.
    pub fn heal(&mut self) {
        for member in &mut self.members {
            member.side = false;
        }
    }

    /// A channel breaks, and both notice.
    pub fn snap(&mut self, a: usize, b: usize) {
        let channel = self.members[a].channels.get(&b).copied();
        if let Some(channel) = channel.filter(|_| self.cut(a, b)) {
            self.later(NOTICED, Event::Noticed(a, b, channel));
            self.later(NOTICED, Event::Noticed(b, a, channel));
        }
    }

    /// Only these are members from now on.
    pub fn set_members(&mut self, accounts: &BTreeSet<AccountId>) {
        self.accounts = Arc::new(accounts.clone());
        for n in self.alive() {
            let accounts = self.accounts.clone();
            self.set_members_of(n, accounts, BTreeSet::new());
        }
    }

    /// The next channel that opened or ended.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    // --- what engines want ---

    /// Tells one engine something, and does what it wants.
    pub fn input(&mut self, n: usize, input: Input) {
        let now = Now {
            clock: self.now,
            unix: START + self.now.as_secs(),
        };
        let member = &mut self.members[n];
        if !member.alive {
            return;
        }
        member.drt.handle(now, input);
        self.counts.known = self.counts.known.max(member.drt.nodes().count());
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
            self.at(at, Event::Wake(n));
        }
        for output in outputs {
            self.act(n, output);
        }
    }

    fn act(&mut self, n: usize, output: Output) {
        match output {
            Output::Connect(to) => self.connect(n, to),
            Output::Close(to) => {
                self.counts.closed += 1;
                let Some(to) = self.numbers.get(&to).copied() else {
                    return;
                };
                if let Some(channel) = self.members[n].channels.get(&to).copied() {
                    self.cut(n, to);
                    let latency = self.latency();
                    self.later(latency, Event::Noticed(to, n, channel));
                }
            }
            Output::Send { to, mut message } => {
                if let Some(found) = message.found.as_mut().filter(|_| self.members[n].invents) {
                    found.nodes = self.invented(&to);
                }
                self.counts.messages += 1;
                self.counts.bytes += message.encode().len() as u64;
                let latency = self.latency();
                if let Some(to) = self.numbers.get(&to).copied()
                    && let Some(channel) = self.members[n].channels.get(&to).copied()
                {
                    self.later(latency, Event::Message(n, to, channel, message));
                }
            }
            Output::Watch(accounts) => self.watch(n, accounts),
            Output::CheckLease { lease, .. } => {
                let verdict = Verdict::NoCertificate;
                let latency = self.latency();
                let device = lease.device;
                let run = self.members[n].run;
                let input = Input::LeaseChecked { device, verdict };
                self.later(latency, Event::Deliver(n, run, input));
            }
            Output::GiveCertificates { .. } | Output::Online(_) | Output::MobilesChanged => {}
        }
    }

    fn watch(&mut self, n: usize, accounts: BTreeSet<AccountId>) {
        let before = core::mem::replace(&mut self.members[n].watched, accounts.clone());
        for account in before.difference(&accounts) {
            if let Some(w) = self.watchers.get_mut(account) {
                w.remove(&n);
            }
        }
        for account in accounts.difference(&before) {
            self.watchers.entry(*account).or_default().insert(n);
            for peer in self.announced.get(account).cloned().unwrap_or_default() {
                self.announce(n, peer, true);
            }
        }
    }

    fn connect(&mut self, n: usize, device: DeviceId) {
        self.counts.attempts += 1;
        let run = self.members[n].run;
        let Some(to) = self.numbers.get(&device).copied() else {
            let input = Input::Refused { device };
            return self.later(CONNECT_TIME, Event::Deliver(n, run, input));
        };
        let now = self.now;
        match self.members[n].attempts.ask(device, now) {
            Attempt::Go | Attempt::Running => {
                let time = if self.reaches(n, to) {
                    self.latency() * 4
                } else {
                    CONNECT_TIME
                };
                self.later(time, Event::Reach(n, to, run));
            }
            Attempt::After(not_before) => {
                let input = Input::Failed { device, not_before };
                self.later(Duration::from_millis(1), Event::Deliver(n, run, input));
            }
        }
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.members[a], &self.members[b]);
        a.alive && b.alive && a.side == b.side
    }

    fn announce(&mut self, watcher: usize, n: usize, online: bool) {
        if watcher == n {
            return;
        }
        let time = self.latency() * 5;
        let (account, device) = (self.members[n].account, self.members[n].device);
        let input = Input::Presence {
            account,
            device,
            online,
        };
        let run = self.members[watcher].run;
        self.later(time, Event::Deliver(watcher, run, input));
    }

    // --- time ---

    fn latency(&mut self) -> Duration {
        self.rng
            .between(Duration::from_millis(10), Duration::from_millis(200))
    }

    fn later(&mut self, time: Duration, event: Event) {
        self.at(self.now + time, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.events.insert((at, self.number), event);
    }

    /// When something happens next.
    pub fn next_at(&self) -> Option<Duration> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// It is so late now; nothing was to happen before.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// The next thing happens.
    pub fn step(&mut self) {
        if let Some(((at, _), event)) = self.events.pop_first() {
            self.now = self.now.max(at);
            self.happen(event);
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Lets time pass until then.
    pub fn run_until(&mut self, end: Duration) {
        while self.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
        self.changes.clear();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(to, run, input) => {
                let member = &self.members[to];
                if member.run != run {
                    return;
                }
                // Announcements of before may cross the end of the watch.
                if let Input::Presence { account, .. } = &input
                    && !member.watched.contains(account)
                {
                    return;
                }
                self.input(to, input);
            }
            Event::Message(from, to, channel, message) => {
                if self.members[to].channels.get(&from) == Some(&channel) {
                    let from = self.members[from].device;
                    self.input(to, Input::Message { from, message });
                }
            }
            Event::Wake(n) => {
                if self.members[n].wake == Some(self.now) {
                    self.members[n].wake = None;
                    self.input(n, Input::Timeout);
                }
            }
            Event::Reach(from, to, run) => {
                if self.members[from].run == run {
                    self.reached(from, to);
                }
            }
            Event::Noticed(n, peer, channel) => {
                let now = self.members[n].channels.get(&peer);
                if now.is_some_and(|c| *c != channel) {
                    // They are connected anew.
                    return;
                }
                self.members[n].channels.remove(&peer);
                let device = self.members[peer].device;
                self.input(n, Input::Unlinked { device });
                self.input(n, Input::Disconnected { device });
            }
            Event::Unannounced(n, run) => {
                let member = &self.members[n];
                if member.alive || member.run != run {
                    return;
                }
                let account = member.account;
                self.announced.entry(account).or_default().remove(&n);
                for watcher in self.watchers.get(&account).cloned().unwrap_or_default() {
                    self.announce(watcher, n, false);
                }
            }
        }
    }

    /// Both ends of a channel forget it. False: one of them had none.
    fn cut(&mut self, a: usize, b: usize) -> bool {
        let channel = self.members[a].channels.remove(&b);
        let same = channel.is_some() && self.members[b].channels.get(&a).copied() == channel;
        if same {
            self.members[b].channels.remove(&a);
            self.changed(a, b, false);
        }
        same
    }

    fn changed(&mut self, a: usize, b: usize, open: bool) {
        self.changes.push_back(Change { a, b, open });
    }

    fn reached(&mut self, from: usize, to: usize) {
        let device = self.members[to].device;
        let there = self.members[from].channels.get(&to).copied();
        if there.is_some() && self.members[to].channels.get(&from).copied() == there {
            // The other side was faster.
            self.members[from].attempts.reached(&device);
            return;
        }
        if !self.reaches(from, to) {
            self.counts.failures += 1;
            let now = self.now;
            let not_before = self.members[from].attempts.failed(device, now);
            self.input(from, Input::Failed { device, not_before });
            return;
        }
        self.number += 1;
        let channel = self.number;
        for (one, other) in [(from, to), (to, from)] {
            let device = self.members[other].device;
            self.members[one].attempts.reached(&device);
            self.members[one].channels.insert(other, channel);
        }
        self.changed(from, to, true);
        for (one, other) in [(from, to), (to, from)] {
            let (device, account) = (self.members[other].device, self.members[other].account);
            self.input(one, Input::Linked { device, account });
            self.input(one, Input::Connected { device, account });
        }
    }

    // --- what is so ---

    /// How many neighbours each device has that is there.
    pub fn degrees(&self) -> Vec<usize> {
        let alive = self.members.iter().filter(|m| m.alive);
        alive.map(|m| m.channels.len()).collect()
    }

    /// With whom a device has a channel.
    pub fn neighbours(&self, n: usize) -> impl Iterator<Item = usize> + '_ {
        self.members[n].channels.keys().copied()
    }

    /// The separate parts of the graph of those who are there: the size of each, largest first.
    pub fn parts(&self) -> Vec<usize> {
        let mut left: Vec<bool> = self.members.iter().map(|m| m.alive).collect();
        let mut parts = Vec::new();
        for first in 0..left.len() {
            if !core::mem::take(&mut left[first]) {
                continue;
            }
            let mut size = 0;
            let mut next = vec![first];
            while let Some(n) = next.pop() {
                size += 1;
                for peer in self.neighbours(n) {
                    if core::mem::take(&mut left[peer]) {
                        next.push(peer);
                    }
                }
            }
            parts.push(size);
        }
        parts.sort_unstable_by(|a, b| b.cmp(a));
        parts
    }

    /// How many steps the farthest device is from one.
    pub fn steps_from(&self, n: usize) -> usize {
        let mut seen = vec![false; self.members.len()];
        seen[n] = true;
        let mut layer = vec![n];
        let mut steps = 0;
        loop {
            let mut next = Vec::new();
            for peer in layer.iter().flat_map(|n| self.neighbours(*n)) {
                if !core::mem::replace(&mut seen[peer], true) {
                    next.push(peer);
                }
            }
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

fn start_of(seed: u64) -> [u8; 32] {
    let mut start = [0; 32];
    start[..8].copy_from_slice(&seed.to_be_bytes());
    start
}
