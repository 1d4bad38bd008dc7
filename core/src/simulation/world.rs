//! Time, links, transfers and crashes.

mod transfer;

use super::config::{Broken, Config, Links};
use super::hostile::Hostile;
use super::people::{self, DAY};
use super::pool::{Pool, Set};
use super::replica::{Replica, Trouble};
use super::rng::Rng;
use crate::drt::testkit::Mesh;
use crate::id::{AccountId, ObjectId};
use crate::swarm::members::Role;
use crate::swarm::message::ConversationMode;
use crate::swarm::spread::{Action, Ended, Spread, Standing};
use crate::swarm::write::initial;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// After how long a fetch that brings nothing is given up: what the host of a git channel does.
const SILENCE: Duration = Duration::from_secs(30);

/// Bytes a link carries in a millisecond.
const BYTES_PER_MS: u64 = 500;

/// What a device has to do with the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Never heard of it.
    Stranger,
    /// Invited, and copying it.
    Invited,
    /// Has it.
    In,
    /// Left.
    Left,
}

/// A fetch under way, as the one who fetches sees it.
struct Fetching {
    id: u64,
    /// What is coming, from when the other side has answered.
    coming: Option<(Vec<u32>, Duration, Duration)>,
}

/// A device.
pub(crate) struct Dev {
    pub(crate) account: usize,
    pub(crate) replica: Replica,
    pub(crate) life: Life,
    pub(crate) hostile: Option<Hostile>,
    pub(crate) spread: Option<Spread>,
    pub(crate) up: bool,
    /// Counted up at every crash: what was meant for the time before does not arrive.
    pub(crate) run: u32,
    /// Seconds the clock is wrong.
    skew: i64,
    timer: Option<Duration>,
    fetching: BTreeMap<usize, Fetching>,
    /// What arrived before a fetch broke.
    staged: Set,
    /// What the person wants and has not got done yet.
    pub(crate) wants: Option<super::acts::Wish>,
}

impl Dev {
    pub(crate) fn id(&self) -> AccountId {
        self.replica.device.account
    }

    /// Nothing that is under way counts any more.
    pub(crate) fn forget_fetches(&mut self) {
        self.fetching.clear();
        self.staged.clear();
    }

    pub(crate) fn honest(&self) -> bool {
        self.hostile.is_none()
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Somebody does something.
    Act,
    /// The engine of a device wants to be asked.
    Timer(usize, u32),
    /// A notice arrives: from, to, the link it was sent over.
    Notice(usize, usize, u64, ObjectId),
    /// A device is asked for what it has: by whom, over which link, for which fetch.
    Ask(usize, usize, u64, u64),
    /// All of it has arrived.
    Arrived(usize, usize, u64, u64, ObjectId),
    /// The other side says that it will not.
    Refusal(usize, usize, u64),
    /// Nothing came.
    Silence(usize, usize, u64),
    /// Both could connect.
    Connect(usize, usize),
    Restart(usize),
    Invite(usize),
    /// The network parts, or is whole again.
    Part,
    Whole,
    Hostile(usize),
}

/// A commit of an honest device, as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) dev: usize,
    pub(crate) commit: ObjectId,
    /// The text, where it is one.
    pub(crate) body: Option<String>,
}

/// What is counted.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    /// Notices of honest devices.
    pub(crate) notices: usize,
    pub(crate) fetches: usize,
    pub(crate) merges: usize,
    pub(crate) bytes: u64,
    pub(crate) crashes: usize,
    pub(crate) breaks: usize,
    /// Of honest devices about a device: attempts in a row that brought nothing, and the most.
    pub(crate) in_vain: BTreeMap<(usize, usize), (usize, usize)>,
    /// How often two devices connected.
    pub(crate) connects: BTreeMap<(usize, usize), usize>,
    pub(crate) connected: usize,
    /// Refused histories, by rule.
    pub(crate) refused: BTreeMap<String, usize>,
    /// The most entries an engine kept.
    pub(crate) remembered: usize,
    /// The most that was kept of fetches that broke.
    pub(crate) staged: usize,
    pub(crate) events: usize,
    pub(crate) changed_at: Duration,
}

/// Everything.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) now: Duration,
    pub(crate) pool: Pool,
    pub(crate) devs: Vec<Dev>,
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
    /// Whom each could connect with.
    pub(crate) graph: Vec<BTreeSet<usize>>,
    /// The links there are, each with its number.
    links: BTreeMap<(usize, usize), u64>,
    latency: BTreeMap<(usize, usize), u64>,
    parted: Option<Vec<bool>>,
    pub(crate) left: usize,
    pub(crate) ledger: Vec<Entry>,
    /// Commits of banned hostile devices, written when everybody knew of the ban.
    pub(crate) late: Vec<(usize, ObjectId)>,
    pub(crate) counts: Counts,
    pub(crate) hostile_commits: usize,
    /// What must not happen and did.
    pub(crate) wrong: Vec<String>,
    /// How many fetches were begun.
    fetch: u64,
    calm: bool,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let mut rng = Rng::new(config.seed);
        let mut devs = Vec::new();
        for account in 0..config.accounts {
            let bad = account >= config.accounts - config.hostile;
            let hostile = bad.then(|| Hostile::draw(&mut rng));
            let late = matches!(hostile, Some(Hostile::Late));
            for number in 0..1 + rng.below(config.devices) {
                let days = i64::try_from(config.skew).unwrap_or(0);
                let skew = rng.between(0, config.skew * 2 * 86_400);
                devs.push(Dev {
                    account,
                    replica: Replica {
                        broken: config.broken,
                        ..Replica::new(people::device(account, number, late))
                    },
                    life: Life::Stranger,
                    hostile: hostile.clone(),
                    spread: None,
                    up: true,
                    run: 0,
                    skew: i64::try_from(skew).unwrap_or(0) - days * 86_400,
                    timer: None,
                    fetching: BTreeMap::new(),
                    staged: Set::default(),
                    wants: None,
                });
            }
        }
        let graph = graph(&mut rng, devs.len(), &config);
        let actions = config.actions;
        let mut world = Self {
            config,
            rng,
            now: Duration::ZERO,
            pool: Pool::default(),
            devs,
            events: BTreeMap::new(),
            count: 0,
            graph,
            links: BTreeMap::new(),
            latency: BTreeMap::new(),
            parted: None,
            left: actions,
            ledger: Vec::new(),
            late: Vec::new(),
            counts: Counts::default(),
            hostile_commits: 0,
            wrong: Vec::new(),
            fetch: 0,
            calm: true,
        };
        world.found();
        world
    }

    /// The group as it is when the story begins: made by the first, the others invited by it and in.
    fn found(&mut self) {
        let first = self.devs[0].replica.device;
        let written = initial(&first.writer(), ConversationMode::InvitesOnly, None, DAY)
            .expect("a first commit");
        let conversation = written.commit.into();
        for dev in &mut self.devs {
            dev.replica.conversation = Some(conversation);
        }
        self.devs[0].replica.create(&mut self.pool, written);
        let founders = self.config.founders;
        let mut now = DAY;
        for n in 1..self.devs.len() {
            let device = self.devs[n].replica.device;
            let known = self.devs[0].replica.takes_part(&device.account);
            if self.devs[n].account >= founders && !self.late_founder(n) || known {
                continue;
            }
            now += 1;
            let pool = &mut self.pool;
            let mut calm = || false;
            let room = &mut self.devs[0].replica;
            room.write(pool, &mut calm, now, |r, w, t| r.add(w, device.account, t))
                .expect("an invitation");
            room.write(pool, &mut calm, now, |r, _, t| r.join(&device.writer(), t))
                .expect("a join");
        }
        let (have, head) = (self.devs[0].replica.have.clone(), self.devs[0].replica.head);
        for n in 0..self.devs.len() {
            let replica = &mut self.devs[n].replica;
            let account = replica.device.account;
            if n > 0 {
                replica.have = have.clone();
                replica.head = head;
                replica.restart(&self.pool);
                if !replica.takes_part(&account) {
                    replica.erase();
                    continue;
                }
            }
            self.devs[n].life = Life::In;
            self.start_engine(n);
        }
    }

    /// Hostile ones are in from the beginning.
    fn late_founder(&self, n: usize) -> bool {
        !self.devs[n].honest()
    }

    pub(crate) fn log(&self, text: impl FnOnce() -> String) {
        if self.config.loud {
            println!("{:>12.3} {}", self.now.as_secs_f64(), text());
        }
    }

    pub(crate) fn name(&self, n: usize) -> &'static str {
        &self.devs[n].replica.device.name
    }

    pub(crate) fn at(&mut self, when: Duration, event: Event) {
        self.count += 1;
        self.events.insert((when, self.count), event);
    }

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    pub(crate) fn unix(&self, n: usize) -> u64 {
        let now = DAY + 86_400 * 100 + self.now.as_secs();
        now.saturating_add_signed(self.devs[n].skew)
    }

    /// Whether the power goes at a write of this device.
    fn power(rng: &mut Rng, crashes: u64) -> impl FnMut() -> bool + '_ {
        move || crashes > 0 && rng.permille(crashes)
    }

    // --- the run ---

    /// Links come up, and nothing else happens.
    pub(crate) fn rest(&mut self, time: Duration) {
        self.connect_all();
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs the story, then heals everything and lets it come to rest.
    pub(crate) fn run(&mut self) {
        self.calm = false;
        for a in 0..self.devs.len() {
            for b in self.graph[a].clone() {
                if a < b {
                    let wait = self.rng.ms(0, 2_000);
                    self.after(wait, Event::Connect(a, b));
                }
            }
            if !self.devs[a].honest() {
                let wait = self.rng.ms(1_000, 20_000);
                self.after(wait, Event::Hostile(a));
            }
        }
        self.after(Duration::from_secs(5), Event::Act);
        let length = self.config.gap * u32::try_from(self.config.actions).unwrap_or(1);
        for _ in 0..self.config.partitions {
            let at = self
                .rng
                .ms(0, u64::try_from(length.as_millis()).unwrap_or(0));
            self.after(at, Event::Part);
            let lasts = self.rng.ms(5_000, 120_000);
            self.after(at + lasts, Event::Whole);
        }
        while self.left > 0 && self.step(Duration::MAX) {}
        self.heal();
        let end = self.now + self.config.settle;
        while self.step(end) {}
        self.now = end;
    }

    /// From now on nothing breaks any more.
    fn heal(&mut self) {
        self.log(|| "everything is well again".into());
        self.calm = true;
        self.config.loss = 0;
        self.config.crashes = 0;
        self.parted = None;
        self.counts.changed_at = self.now;
        for n in 0..self.devs.len() {
            if !self.devs[n].up {
                self.after(Duration::from_secs(1), Event::Restart(n));
            }
        }
        self.tie();
        self.connect_all();
    }

    /// Where not everybody is connected with everybody, a ring of all holds the group together
    /// whoever has gone.
    fn tie(&mut self) {
        if self.config.links == Links::Mesh {
            return;
        }
        let all: Vec<usize> = (0..self.devs.len())
            .filter(|n| self.devs[*n].honest() && self.devs[*n].life != Life::Stranger)
            .collect();
        for (n, a) in all.iter().enumerate() {
            let b = all[(n + 1) % all.len()];
            if *a != b {
                self.graph[*a].insert(b);
                self.graph[b].insert(*a);
            }
        }
    }

    fn connect_all(&mut self) {
        for a in 0..self.devs.len() {
            for b in self.graph[a].clone() {
                if a < b && !self.links.contains_key(&(a, b)) {
                    let wait = self.rng.ms(500, 5_000);
                    self.after(wait, Event::Connect(a, b));
                }
            }
        }
    }

    /// A run that does not come to rest is not waited for.
    fn runs_away(&mut self) -> bool {
        let written = self.ledger.len() + self.hostile_commits + 20;
        if self.counts.merges > 10 * written || self.counts.events > 20_000 * written {
            self.wrong.push("it does not come to rest".into());
            return true;
        }
        false
    }

    fn step(&mut self, end: Duration) -> bool {
        if self.runs_away() {
            return false;
        }
        let Some(first) = self.events.first_entry() else {
            return false;
        };
        if first.key().0 > end {
            return false;
        }
        let ((at, _), event) = first.remove_entry();
        self.now = self.now.max(at);
        self.counts.events += 1;
        self.take(event);
        true
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Act => self.act(),
            Event::Timer(n, run) => {
                if self.devs[n].run == run {
                    self.devs[n].timer = None;
                    self.drain(n);
                }
            }
            Event::Notice(from, to, link, head) => self.hear(from, to, link, head),
            Event::Ask(by, of, link, fetch) => self.asked(by, of, link, fetch),
            Event::Arrived(by, of, link, fetch, head) => self.arrived(by, of, link, fetch, head),
            Event::Refusal(by, of, fetch) | Event::Silence(by, of, fetch) => {
                if self.fetch_is(by, of, fetch) {
                    self.end_fetch(by, of, Ended::Failed { progressed: false });
                }
            }
            Event::Connect(a, b) => self.connect(a, b),
            Event::Restart(n) => self.restart(n),
            Event::Invite(n) => self.invited(n),
            Event::Part => {
                let sides: Vec<bool> = self.devs.iter().map(|_| self.rng.permille(500)).collect();
                self.log(|| "the network parts".into());
                for (a, b) in self.links.keys().copied().collect::<Vec<_>>() {
                    if sides[a] != sides[b] {
                        self.cut(a, b);
                    }
                }
                self.parted = Some(sides);
            }
            Event::Whole => {
                self.log(|| "the network is whole".into());
                self.parted = None;
                self.connect_all();
            }
            Event::Hostile(n) => self.hostile(n),
        }
    }

    // --- links ---

    fn latency(&mut self, a: usize, b: usize) -> Duration {
        let (low, high) = self.config.latency;
        let rng = &mut self.rng;
        let latency = self
            .latency
            .entry(pair(a, b))
            .or_insert_with(|| rng.between(low, high));
        Duration::from_micros(*latency * 1_000 + rng.between(0, *latency * 100))
    }

    pub(crate) fn linked(&self, a: usize) -> Vec<usize> {
        let graph = self.graph[a].iter();
        graph
            .filter(|b| self.links.contains_key(&pair(a, **b)))
            .copied()
            .collect()
    }

    /// How many steps the farthest device is from the first.
    pub(crate) fn farthest(&self) -> usize {
        let (mut seen, mut layer, mut steps) = (BTreeSet::from([0]), vec![0], 0);
        loop {
            let next: Vec<usize> = layer
                .iter()
                .flat_map(|n: &usize| self.graph[*n].iter().copied())
                .filter(|n| seen.insert(*n))
                .collect();
            if next.is_empty() {
                return steps;
            }
            (layer, steps) = (next, steps + 1);
        }
    }

    pub(crate) fn link(&self, a: usize, b: usize) -> Option<u64> {
        self.links.get(&pair(a, b)).copied()
    }

    fn connect(&mut self, a: usize, b: usize) {
        let apart = self.parted.as_ref().is_some_and(|side| side[a] != side[b]);
        let key = pair(a, b);
        if !self.devs[a].up || !self.devs[b].up || apart || self.links.contains_key(&key) {
            return;
        }
        self.count += 1;
        self.links.insert(key, self.count);
        *self.counts.connects.entry(key).or_default() += 1;
        self.counts.connected += 1;
        for (n, other) in [(a, b), (b, a)] {
            self.greet(n, other);
            self.drain(n);
        }
    }

    /// Tells the engine of a device what a linked one is.
    fn greet(&mut self, n: usize, other: usize) {
        let standing = self.standing(n, other);
        let now = self.now;
        let id = self.devs[other].replica.device.id;
        if let Some(spread) = &mut self.devs[n].spread {
            spread.linked(id, standing, now);
        }
    }

    fn standing(&self, n: usize, other: usize) -> Standing {
        let (dev, account) = (&self.devs[n], self.devs[other].id());
        match (dev.life, dev.replica.role(&account)) {
            // Who copies takes it from whoever has it.
            (Life::Invited, _) if dev.replica.head.is_none() => Standing::Member,
            (_, Some(Role::Admin | Role::Member)) => Standing::Member,
            (_, Some(Role::Invited)) => Standing::Invited,
            _ => Standing::Outside,
        }
    }

    /// A link breaks; both sides notice, and connect again after a while.
    fn cut(&mut self, a: usize, b: usize) {
        if self.links.remove(&pair(a, b)).is_none() {
            return;
        }
        self.counts.breaks += 1;
        for (n, other) in [(a, b), (b, a)] {
            let id = self.devs[other].replica.device.id;
            if let Some(fetching) = self.devs[n].fetching.remove(&other) {
                let progressed = self.keep_part(n, fetching);
                self.count_end(n, other, false);
                let now = self.now;
                if let Some(spread) = &mut self.devs[n].spread {
                    spread.fetched(id, Ended::Failed { progressed }, now);
                }
            }
            if let Some(spread) = &mut self.devs[n].spread {
                spread.unlinked(&id);
            }
            self.drain(n);
        }
        let wait = self.rng.ms(1_000, 30_000);
        self.after(wait, Event::Connect(a, b));
    }

    /// What had arrived of a fetch that broke stays, so that the next has less to do.
    fn keep_part(&mut self, n: usize, fetching: Fetching) -> bool {
        let Some((coming, since, takes)) = fetching.coming else {
            return false;
        };
        let passed = self.now.saturating_sub(since).as_millis();
        let part = coming.len() as u128 * passed / takes.as_millis().max(1);
        let part = usize::try_from(part).unwrap_or(0).min(coming.len());
        for object in &coming[..part] {
            self.devs[n].staged.add(*object);
        }
        self.counts.staged = self.counts.staged.max(self.devs[n].staged.len());
        part > 0
    }

    fn send(&mut self, from: usize, to: usize, event: impl FnOnce(u64) -> Event) {
        let Some(link) = self.links.get(&pair(from, to)).copied() else {
            return;
        };
        if self.config.loss > 0 && self.rng.permille(self.config.loss) {
            // A stream that loses something for good is a stream that broke.
            return self.cut(from, to);
        }
        let wait = self.latency(from, to);
        self.after(wait, event(link));
    }

    // --- what engines want ---

    pub(crate) fn start_engine(&mut self, n: usize) {
        // What was learnt of others is not on the disk.
        for ((by, _), (row, _)) in &mut self.counts.in_vain {
            if *by == n {
                *row = 0;
            }
        }
        let dev = &mut self.devs[n];
        let mut spread = Spread::new(dev.replica.device.id, dev.replica.head);
        spread.mutation = self.config.mutation;
        if dev.life == Life::Left {
            spread.only_tell();
        }
        dev.spread = Some(spread);
        for other in self.linked(n) {
            self.greet(n, other);
        }
        self.drain(n);
    }

    /// Does what the engine of a device says until it says nothing more.
    pub(crate) fn drain(&mut self, n: usize) {
        let now = self.now;
        while let Some(action) = self.devs[n].spread.as_mut().and_then(|s| s.poll(now)) {
            match action {
                Action::Tell(device, head) => {
                    let to = self.number(n, device);
                    if self.devs[n].honest() {
                        self.counts.notices += 1;
                    }
                    self.log(|| format!("{} tells {} of {head:.8}", self.name(n), self.name(to)));
                    self.send(n, to, |link| Event::Notice(n, to, link, head));
                }
                Action::Fetch(device) => {
                    let of = self.number(n, device);
                    self.begin_fetch(n, of);
                }
                Action::Merge(head) => self.merge(n, head),
            }
        }
        let dev = &mut self.devs[n];
        let Some(spread) = &dev.spread else { return };
        self.counts.remembered = self.counts.remembered.max(spread.remembered());
        if let Some(at) = spread.poll_timeout()
            && dev.timer.is_none_or(|timer| at < timer)
        {
            if at <= now {
                self.wrong
                    .push(format!("{}: a timer that does not advance", self.name(n)));
                return;
            }
            dev.timer = Some(at);
            let event = Event::Timer(n, dev.run);
            self.at(at, event);
        }
    }

    fn number(&self, n: usize, device: crate::id::DeviceId) -> usize {
        let near = self.graph[n].iter().copied();
        near.into_iter()
            .find(|other| self.devs[*other].replica.device.id == device)
            .expect("engines speak of linked devices only")
    }

    fn hear(&mut self, from: usize, to: usize, link: u64, head: ObjectId) {
        if self.links.get(&pair(from, to)) != Some(&link) {
            return;
        }
        let now = self.now;
        let id = self.devs[from].replica.device.id;
        let dev = &mut self.devs[to];
        let known = dev.replica.holds(&head);
        if let Some(spread) = &mut dev.spread {
            spread.heard(id, head, known, now);
        }
        self.drain(to);
    }

    /// Takes in a head whose objects are there.
    fn merge(&mut self, n: usize, theirs: ObjectId) {
        let now_unix = self.unix(n);
        let mut power = Self::power(&mut self.rng, self.config.crashes);
        let dev = &mut self.devs[n];
        let before = dev.replica.roles.clone();
        let done = dev
            .replica
            .enter(&mut self.pool, &mut power, now_unix, theirs);
        drop(power);
        match done {
            Err(Trouble::Crash) => return self.crash(n),
            Err(Trouble::Write(e)) => {
                self.wrong
                    .push(format!("{} cannot merge: {e}", self.name(n)));
            }
            Ok(made) => {
                self.counts.changed_at = self.now;
                if let Some(made) = made {
                    self.counts.merges += 1;
                    self.log(|| format!("{} merges {theirs:.8}: {made:.8}", self.name(n)));
                }
            }
        }
        self.settle(n, theirs);
        self.follow_roles(n, &before);
        self.came_in(n);
    }

    fn settle(&mut self, n: usize, theirs: ObjectId) {
        let now = self.now;
        let dev = &mut self.devs[n];
        let (head, known) = (dev.replica.head, &dev.replica.known);
        if let Some(spread) = &mut dev.spread {
            spread.settled(theirs, head, &|id| known.contains_key(id), now);
        }
    }

    /// Members changed: who is linked may hear more or less from now on.
    pub(crate) fn follow_roles(&mut self, n: usize, before: &BTreeMap<AccountId, Role>) {
        if self.devs[n].replica.roles == *before || self.config.broken == Broken::StaleRoles {
            return;
        }
        for other in self.linked(n) {
            self.greet(n, other);
        }
    }

    // --- crashes ---

    pub(crate) fn crash(&mut self, n: usize) {
        self.log(|| format!("{} crashes", self.name(n)));
        self.counts.crashes += 1;
        let broken = self.config.broken;
        let dev = &mut self.devs[n];
        dev.up = false;
        dev.run += 1;
        dev.spread = None;
        dev.timer = None;
        dev.forget_fetches();
        if broken == Broken::NoFlush
            && let Some(head) = dev.replica.head
        {
            // The last write was still in the cache.
            let node = dev.replica.commit(&self.pool, &head);
            if let Some(parent) = node.parents.first() {
                dev.replica.head = Some(*parent);
            }
        }
        for other in self.linked(n) {
            self.cut(n, other);
        }
        let wait = self.rng.ms(1_000, 60_000);
        self.after(wait, Event::Restart(n));
    }

    fn restart(&mut self, n: usize) {
        if self.devs[n].up {
            return;
        }
        self.log(|| format!("{} is back", self.name(n)));
        self.devs[n].up = true;
        self.devs[n].replica.restart(&self.pool);
        if self.devs[n].life != Life::Stranger {
            self.start_engine(n);
        }
        for other in self.graph[n].clone() {
            let wait = self.rng.ms(100, 3_000);
            self.after(wait, Event::Connect(n, other));
        }
        self.came_in(n);
        self.resume(n);
    }
}

fn graph(rng: &mut Rng, devices: usize, config: &Config) -> Vec<BTreeSet<usize>> {
    let mut graph = vec![BTreeSet::new(); devices];
    let mut tie = |a: usize, b: usize| {
        if a != b {
            graph[a].insert(b);
            graph[b].insert(a);
        }
    };
    match config.links {
        Links::Mesh => (0..devices).for_each(|a| (0..a).for_each(|b| tie(a, b))),
        Links::Random(degree) => {
            for a in 0..devices {
                tie(a, (a + 1) % devices);
                // Each end draws half of them.
                for _ in 1..degree / 2 {
                    tie(a, rng.below(devices));
                }
            }
        }
        Links::Drt => {
            let mut mesh = Mesh::new(config.seed, devices);
            mesh.start_all(Duration::from_secs(30));
            mesh.run_until_whole(Duration::from_secs(1_200));
            let ids = mesh.devices();
            for (a, id) in ids.iter().enumerate() {
                for near in mesh.drt(id).neighbours() {
                    if let Ok(b) = ids.binary_search(&near) {
                        tie(a, b);
                    }
                }
            }
        }
    }
    graph
}
