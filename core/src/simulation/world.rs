//! Time, links, transfers and crashes.

mod daemon;
mod links;
mod transfer;

use super::checks::DAEMON_MERGES;
use super::config::{Broken, Config};
use super::hostile::Hostile;
use super::people::{self, DAY};
use super::pool::{Pool, Set};
use super::replica::{Replica, Trouble};
use super::rng::Rng;
use crate::drt::testkit::Mesh;
use crate::id::{AccountId, DeviceId, ObjectId};
use crate::swarm::members::Role;
use crate::swarm::spread::{Action, Ended, Spread, Standing};
use crate::swarm::write::initial;
use core::time::Duration;
use daemon::Daemon;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
    /// What decides in place of our engine.
    pub(crate) daemon: Option<Daemon>,
    /// What the others have shown to have.
    heads: BTreeMap<usize, ObjectId>,
    /// Who brought what is to be taken in.
    brought: BTreeMap<ObjectId, usize>,
    pub(crate) up: bool,
    /// Counted up at every crash: what was meant for the time before does not arrive.
    pub(crate) run: u32,
    /// Seconds the clock is wrong.
    skew: i64,
    timer: Option<Duration>,
    fetching: BTreeMap<usize, Fetching>,
    /// What arrived before a fetch broke.
    pub(crate) staged: Set,
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
    /// It ends before all has come.
    BreaksOff(usize, usize, u64),
    /// Nothing came.
    Silence(usize, usize, u64),
    /// Both could connect.
    Connect(usize, usize),
    /// A device begins to look for the others.
    Come(usize),
    Restart(usize),
    /// A daemon tries a first copy again.
    Copy(usize),
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

/// The roles of all, and the devices that are banned by themselves.
pub(crate) type Roles = (BTreeMap<AccountId, Role>, BTreeSet<DeviceId>);

/// What is counted.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    /// Notices of honest devices.
    pub(crate) notices: usize,
    pub(crate) fetches: usize,
    /// The same.
    pub(crate) merges: usize,
    /// Commits whose writers lacked one that was there.
    pub(crate) at_once: usize,
    /// Bans and their ends that were carried out where there are several admins.
    pub(crate) decided: usize,
    pub(crate) bytes: u64,
    pub(crate) crashes: usize,
    /// Writes to disks: at each of them the power may go.
    pub(crate) writes: u64,
    /// Hostile members who did something, by what they are.
    pub(crate) hostile: BTreeMap<&'static str, usize>,
    /// Devices that were banned by themselves.
    pub(crate) devices_banned: usize,
    /// Merges by daemons.
    pub(crate) daemons_merged: usize,
    pub(crate) breaks: usize,
    /// Of honest devices about a device: attempts in a row that brought nothing, and the most.
    pub(crate) in_vain: BTreeMap<(usize, usize), (usize, usize)>,
    /// The same of those that were to see whether it has merged, since the device showed last that it has what was
    /// the newest.
    pub(crate) looked: BTreeMap<(usize, usize), (usize, usize)>,
    /// The most devices that a routing table knew.
    pub(crate) known: usize,
    /// Devices that do not exist, of which hostile members told when asked for others.
    pub(crate) invented: u64,
    /// How often two devices connected.
    pub(crate) connects: BTreeMap<(usize, usize), usize>,
    pub(crate) connected: usize,
    /// Refused histories, by rule.
    pub(crate) refused: BTreeMap<String, usize>,
    /// The most entries an engine kept.
    pub(crate) remembered: usize,
    /// The most objects that were kept of fetches that broke.
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
    numbers: BTreeMap<DeviceId, usize>,
    /// Whom each connects with whenever it can.
    pub(crate) graph: Vec<BTreeSet<usize>>,
    /// The routing tables, where they decide who connects besides.
    mesh: Option<Mesh>,
    /// The channels they have open.
    channels: BTreeSet<(usize, usize)>,
    /// With whom each is linked, and the most there were at a time.
    near: Vec<BTreeSet<usize>>,
    most: Vec<usize>,
    /// The links there are, each with its number.
    links: BTreeMap<(usize, usize), u64>,
    latency: BTreeMap<(usize, usize), u64>,
    parted: Option<Vec<bool>>,
    pub(crate) left: usize,
    pub(crate) ledger: Vec<Entry>,
    /// Commits of banned hostile devices, written when everybody knew of the ban, and nobody came in since.
    pub(crate) late: Vec<(usize, ObjectId)>,
    pub(crate) counts: Counts,
    pub(crate) hostile_commits: usize,
    /// Hostile ones say nothing: what an admin among them wrote last, which may be in order, gets to all.
    pub(crate) stunned: bool,
    /// What must not happen and did.
    pub(crate) wrong: Vec<String>,
    /// What Starlings did not agree on when all was at rest, before somebody wrote once more.
    pub(crate) night: Vec<String>,
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
        // So that all else of a seed is as it is without daemons.
        let mut apart = Rng::new(config.seed ^ 0xdae0);
        let mut devs = Vec::new();
        for account in 0..config.accounts {
            let bad = account >= config.accounts - config.hostile;
            let mut hostile = bad.then(|| match &config.kind {
                Some(kind) => kind.clone(),
                None => Hostile::draw(&mut rng),
            });
            if config.traitor && account + 1 == config.admins {
                hostile = Some(Hostile::Forger(None));
            }
            let late = matches!(hostile, Some(Hostile::Late));
            // The first is what all are compared with, and who writes last.
            let drawn = apart.permille(config.daemons);
            let daemon = drawn && account > 0 && hostile.is_none();
            let broken = if daemon {
                Broken::MergesMerges
            } else {
                config.broken
            };
            for number in 0..1 + rng.below(config.devices) {
                let days = i64::try_from(config.skew).unwrap_or(0);
                let skew = rng.between(0, config.skew * 2 * 86_400);
                devs.push(Dev {
                    account,
                    replica: Replica {
                        broken,
                        ..Replica::new(people::device(account, number, late))
                    },
                    life: Life::Stranger,
                    hostile: hostile.clone(),
                    spread: None,
                    daemon: daemon.then(Daemon::default),
                    heads: BTreeMap::new(),
                    brought: BTreeMap::new(),
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
        let accounts: Vec<usize> = devs.iter().map(|d: &Dev| d.account).collect();
        let graph = links::graph(&mut rng, &accounts, &config);
        let actions = config.actions;
        let mut world = Self {
            config,
            rng,
            now: Duration::ZERO,
            pool: Pool::default(),
            numbers: devs
                .iter()
                .enumerate()
                .map(|(n, d)| (d.replica.device.id, n))
                .collect(),
            mesh: None,
            channels: BTreeSet::new(),
            near: vec![BTreeSet::new(); devs.len()],
            most: vec![0; devs.len()],
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
            stunned: false,
            wrong: Vec::new(),
            night: Vec::new(),
            fetch: 0,
            calm: true,
        };
        world.mesh = world.tables();
        world.found();
        world
    }

    /// The group as it is when the story begins: made by the first, the others invited by it and in.
    fn found(&mut self) {
        let first = self.devs[0].replica.device;
        let written =
            initial(&first.writer(), self.config.mode, None, DAY).expect("a first commit");
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
        for account in 1..self.config.admins {
            let who = self.devs.iter().find(|d| d.account == account);
            let who = who.expect("a founder").replica.device;
            now += 1;
            self.devs[0].replica.promote(&mut self.pool, who, now);
        }
        if self.config.admins > 1 {
            let first = &self.devs[0].replica;
            let levels = first.known.keys();
            let levels = levels.filter_map(|id| Some((*id, first.generation(id)?)));
            let (all, head) = (Arc::new(levels.collect()), first.head);
            for dev in &mut self.devs {
                dev.replica.given = Arc::clone(&all);
                dev.replica.given_head = head;
            }
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
    pub(crate) fn power<'a>(
        rng: &'a mut Rng,
        writes: &'a mut u64,
        config: &Config,
    ) -> impl FnMut() -> bool + use<'a> {
        let (crashes, at) = (config.crashes, config.crash_at);
        move || {
            *writes += 1;
            at == Some(*writes) || (crashes > 0 && rng.permille(crashes))
        }
    }

    // --- the run ---

    /// Lets time pass.
    fn rest(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until what is to be looked at is there.
    fn come_to_rest(&mut self) {
        self.rest(self.config.settle);
        self.stunned = true;
        self.rest(Duration::from_secs(60));
        self.stunned = false;
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
            if self.mesh.is_some() {
                let wait = self.rng.ms(0, 2_000);
                self.after(wait, Event::Come(a));
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
        self.come_to_rest();
        if self.devs.iter().any(|d| d.daemon.is_some()) {
            self.night = self.stuck();
            // A daemon whose fetch or merge failed goes on with the next message.
            self.wish(0, super::acts::Wish::Text("good night".into()));
            self.come_to_rest();
            // And what it has merged and told nobody of comes with what it writes next.
            let first = self.devs[0].replica.head;
            let apart: Vec<usize> = (0..self.devs.len())
                .filter(|n| self.devs[*n].daemon.is_some() && self.devs[*n].life == Life::In)
                .filter(|n| self.devs[*n].replica.head != first)
                .collect();
            for n in &apart {
                let text = format!("{} says good morning", self.name(*n));
                self.wish(*n, super::acts::Wish::Text(text));
            }
            if !apart.is_empty() {
                self.come_to_rest();
            }
        }
    }

    /// Starlings that have another history than the first.
    fn stuck(&self) -> Vec<String> {
        let first = &self.devs[0].replica;
        let members = self
            .devs
            .iter()
            .filter(|d| d.ours() && d.life == Life::In && first.admits(d.replica.device));
        let stuck = members.filter(|d| d.replica.order.order() != first.order.order());
        let text = |d: &Dev| {
            let (name, replica) = (&d.replica.device.name, &d.replica);
            format!(
                "{name} has {} commits up to {:?} at rest, and the first {} up to {:?}",
                replica.order.len(),
                replica.head,
                first.order.len(),
                first.head
            )
        };
        stuck.map(text).collect()
    }

    /// From now on nothing breaks any more.
    fn heal(&mut self) {
        self.log(|| "everything is well again".into());
        self.calm = true;
        self.config.loss = 0;
        self.config.crashes = 0;
        self.parted = None;
        if let Some(mesh) = &mut self.mesh {
            mesh.heal();
        }
        self.counts.changed_at = self.now;
        for n in 0..self.devs.len() {
            if !self.devs[n].up {
                self.after(Duration::from_secs(1), Event::Restart(n));
            }
        }
        self.tie();
        self.connect_all();
    }

    /// How many merges daemons may make, all together.
    pub(crate) fn merges_of_daemons(&self) -> usize {
        let written = self.ledger.len() + self.hostile_commits + 10;
        let daemons = self.devs.iter().filter(|d| d.daemon.is_some());
        DAEMON_MERGES * written * daemons.count()
    }

    /// A run that does not come to rest is not waited for.
    fn runs_away(&mut self) -> bool {
        let written = self.ledger.len() + self.hostile_commits + 20;
        let daemons = self.counts.daemons_merged > self.merges_of_daemons();
        if daemons || self.counts.merges > 10 * written || self.counts.events > 20_000 * written {
            self.wrong.push("it does not come to rest".into());
            return true;
        }
        false
    }

    fn step(&mut self, end: Duration) -> bool {
        if self.runs_away() {
            return false;
        }
        let own = self.events.first_key_value().map(|((at, _), _)| *at);
        let tables = self.mesh.as_ref().and_then(Mesh::next_at);
        let Some(at) = own.into_iter().chain(tables).min().filter(|at| *at <= end) else {
            return false;
        };
        self.now = self.now.max(at);
        if tables == Some(at)
            && let Some(mesh) = &mut self.mesh
        {
            mesh.step();
        } else if let Some((_, event)) = self.events.pop_first() {
            self.counts.events += 1;
            self.take(event);
        }
        self.follow_tables();
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
            Event::BreaksOff(by, of, fetch) => self.breaks_off(by, of, fetch),
            Event::Connect(a, b) => self.connect(a, b),
            Event::Come(n) => self.follow_members(n),
            Event::Restart(n) => self.restart(n),
            Event::Copy(n) => self.daemon_copies(n),
            Event::Invite(n) => self.invited(n),
            Event::Part => {
                let sides: Vec<bool> = self.devs.iter().map(|_| self.rng.permille(500)).collect();
                self.log(|| "the network parts".into());
                for (a, b) in self.links.keys().copied().collect::<Vec<_>>() {
                    if sides[a] != sides[b] {
                        self.cut(a, b);
                    }
                }
                if let Some(mesh) = &mut self.mesh {
                    mesh.advance(self.now);
                    mesh.part(|n| sides[n]);
                }
                self.parted = Some(sides);
            }
            Event::Whole => {
                self.log(|| "the network is whole".into());
                self.parted = None;
                if let Some(mesh) = &mut self.mesh {
                    mesh.heal();
                }
                self.connect_all();
            }
            Event::Hostile(n) => self.hostile(n),
        }
    }

    // --- what engines want ---

    pub(crate) fn start_engine(&mut self, n: usize) {
        // What was learnt of others is not on the disk.
        for rows in [&mut self.counts.in_vain, &mut self.counts.looked] {
            for ((by, _), (row, _)) in rows {
                if *by == n {
                    *row = 0;
                }
            }
        }
        self.devs[n].heads.clear();
        self.devs[n].brought.clear();
        if self.devs[n].daemon.is_some() {
            return self.daemon_starts(n);
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
                    let to = self.numbers[&device];
                    if self.devs[n].honest() {
                        self.counts.notices += 1;
                    }
                    self.log(|| format!("{} tells {} of {head:.8}", self.name(n), self.name(to)));
                    self.send(n, to, |link| Event::Notice(n, to, link, head));
                }
                Action::Fetch(device) => {
                    let of = self.numbers[&device];
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

    fn hear(&mut self, from: usize, to: usize, link: u64, head: ObjectId) {
        if self.links.get(&pair(from, to)) != Some(&link) {
            return;
        }
        if self.devs[to].daemon.is_some() {
            return self.daemon_hears(to, from, head);
        }
        let now = self.now;
        let id = self.devs[from].replica.device.id;
        let dev = &mut self.devs[to];
        let known = dev.replica.holds(&head);
        if let Some(spread) = &mut dev.spread {
            spread.heard(id, head, known, now);
        }
        if known {
            self.has_shown(to, from, head);
        }
        self.drain(to);
    }

    /// Takes in a head whose objects are there.
    fn merge(&mut self, n: usize, theirs: ObjectId) {
        let now_unix = self.unix(n);
        let mut power = Self::power(&mut self.rng, &mut self.counts.writes, &self.config);
        let dev = &mut self.devs[n];
        let before = (dev.replica.roles.clone(), dev.replica.banned.clone());
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
            Ok((made, said)) => {
                self.counts.changed_at = self.now;
                if let Some(spread) = self.devs[n].spread.as_mut().filter(|_| said) {
                    spread.said(self.now);
                }
                if let Some(made) = made {
                    if self.devs[n].daemon.is_some() {
                        self.counts.daemons_merged += 1;
                    } else if self.devs[n].honest() {
                        self.counts.merges += 1;
                    }
                    self.log(|| format!("{} merges {theirs:.8}: {made:.8}", self.name(n)));
                }
            }
        }
        self.settle(n, theirs);
        if let Some(from) = self.devs[n].brought.remove(&theirs) {
            self.has_shown(n, from, theirs);
        }
        self.reach_out(n);
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
    pub(crate) fn follow_roles(&mut self, n: usize, before: &Roles) {
        let banned = before.1 != self.devs[n].replica.banned;
        if (!banned && self.devs[n].replica.roles == before.0)
            || self.config.broken == Broken::StaleRoles
        {
            return;
        }
        for other in self.linked(n) {
            self.greet(n, other);
        }
        self.follow_members(n);
    }

    /// Whether somebody who takes part has a commit that was not here before the newest one.
    pub(crate) fn wrote_apart(&self, n: usize) -> bool {
        let here = &self.devs[n].replica;
        let there =
            |d: &&Dev| d.honest() && d.life != Life::Stranger && !here.is_banned(d.replica.device);
        // On the disk: it counts though the power goes in the next moment.
        let mut heads = self
            .devs
            .iter()
            .filter(there)
            .filter_map(|d| d.replica.head);
        heads.any(|head| !here.holds(&head) && here.head != Some(head))
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
        self.vanish(n);
        for other in self.linked(n) {
            self.cut(n, other);
        }
        let wait = self.rng.ms(1_000, 60_000);
        self.after(wait, Event::Restart(n));
    }

    /// The routing table of a device is gone.
    pub(crate) fn vanish(&mut self, n: usize) {
        if let Some(mesh) = &mut self.mesh {
            mesh.advance(self.now);
            mesh.kill(n);
        }
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
        self.follow_members(n);
        self.came_in(n);
        self.resume(n);
    }
}
