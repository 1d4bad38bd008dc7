//! A crowd: a group of thousands of devices, each with the two engines that decide how news
//! travel there: [`crate::drt`] with whom to be connected, [`crate::swarm::spread`] whom to tell,
//! from whom to fetch and when to merge. Both are the real ones, one of each for every device.
//!
//! What the engines do not see is left out: commits are numbers with parents, all of them texts
//! and valid, nobody is hostile and no disk is written. So ten thousand fit where the whole group
//! of [`super::world`] has room for some hundreds.

use super::pool::Set;
use super::rng::Rng;
use crate::drt::Input;
use crate::drt::testkit::Mesh;
use crate::id::{DeviceId, ObjectId};
use crate::swarm::merge::Relation;
use crate::swarm::spread::{Action, Ended, Mutation, Spread, Standing};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap};

struct Commit {
    id: ObjectId,
    /// All commits it stands on, itself too.
    below: Set,
    merges: bool,
}

struct Dev {
    id: DeviceId,
    spread: Spread,
    head: u32,
    /// What is here, merges left aside too.
    known: Set,
    /// The links there are, each with its number.
    links: BTreeMap<usize, u64>,
    /// Fetches under way, by number.
    fetching: BTreeMap<usize, u64>,
    timer: Option<Duration>,
    up: bool,
    /// Is linked like others, and says and does nothing.
    mute: bool,
    /// Which of the watched commits are part of its history, by bit.
    shows: u64,
}

enum Event {
    Timer(usize),
    /// From, to, over which link, of which commit.
    Notice(usize, usize, u64, u32),
    /// By whom, of whom, for which fetch: it ends with its link.
    Ask(usize, usize, u64),
    Arrived(usize, usize, u64, u32),
}

/// What is counted.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) notices: usize,
    pub(crate) fetches: usize,
    pub(crate) merges: usize,
    /// Commits that were sent.
    pub(crate) carried: usize,
    /// When a head moved last.
    pub(crate) changed_at: Duration,
}

/// What a crowd showed.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) devices: usize,
    /// Of each: mean, and the most that anyone has.
    pub(crate) links: (f64, usize),
    /// To the farthest.
    pub(crate) steps: usize,
    /// Of the routing tables, each device in its first ten minutes.
    pub(crate) table_messages: f64,
    /// A message and device.
    pub(crate) notices: f64,
    pub(crate) fetches: f64,
    pub(crate) carried: f64,
    /// Until all have it: mean, and the longest.
    pub(crate) time: (Duration, Duration),
    /// Three write at once, and ten: merges, and until all agree.
    pub(crate) at_once: [(usize, Duration); 2],
    /// Three in ten vanish: until a message is with all others.
    pub(crate) after_loss: Duration,
}

pub(crate) struct Crowd {
    pub(crate) now: Duration,
    rng: Rng,
    pub(crate) mesh: Mesh,
    devs: Vec<Dev>,
    // Looked up only, never walked: its order does not matter.
    numbers: HashMap<DeviceId, usize>,
    commits: Vec<Commit>,
    // The same.
    ids: HashMap<ObjectId, u32>,
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
    latency: (u64, u64),
    seed: u64,
    pub(crate) counts: Counts,
    /// Commits of which it is seen when they become part of each history, and when that was.
    watched: Vec<u32>,
    shown: Vec<Duration>,
}

/// What it takes when many write at the same moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtOnce {
    pub(crate) merges: usize,
    /// Until all agree.
    pub(crate) agree: Duration,
    /// Until what was written is part of a history: mean, and the longest.
    pub(crate) shown: (Duration, Duration),
}

/// Who takes part besides Starlings that do what they should.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Others {
    /// So many of a thousand merge at once whatever they meet, as daemons do.
    pub(crate) hasty: u64,
    /// So many of those who would be the first to merge are there and do nothing.
    pub(crate) mute: usize,
    /// Milliseconds that a link takes; nothing: 20 to 80.
    pub(crate) latency: Option<(u64, u64)>,
}

impl Crowd {
    /// So many accounts of one device each, all away, all at the same commit.
    pub(crate) fn new(seed: u64, size: usize, latency: (u64, u64)) -> Self {
        let mesh = Mesh::new(seed, size);
        let first = Commit {
            id: ObjectId([1; 20]),
            below: [0].into_iter().collect(),
            merges: false,
        };
        let ids: Vec<DeviceId> = mesh.devices();
        Self {
            now: Duration::ZERO,
            rng: Rng::new(seed),
            mesh,
            numbers: ids.iter().enumerate().map(|(n, id)| (*id, n)).collect(),
            devs: ids
                .into_iter()
                .map(|id| Dev {
                    id,
                    spread: Spread::new(id, Some(first.id)),
                    head: 0,
                    known: [0].into_iter().collect(),
                    links: BTreeMap::new(),
                    fetching: BTreeMap::new(),
                    timer: None,
                    up: true,
                    mute: false,
                    shows: 0,
                })
                .collect(),
            ids: HashMap::from([(first.id, 0)]),
            commits: vec![first],
            events: BTreeMap::new(),
            count: 0,
            latency,
            seed,
            counts: Counts::default(),
            watched: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// A crowd that has come together, with a rule of all its engines broken or none.
    pub(crate) fn gathered(seed: u64, size: usize, broken: Mutation, others: Others) -> Self {
        let mut crowd = Self::new(seed, size, others.latency.unwrap_or((20, 80)));
        for dev in &mut crowd.devs {
            dev.spread.mutation = broken;
            if crowd.rng.permille(others.hasty) {
                dev.spread.mutation = Mutation::AllMerge;
            }
        }
        crowd.come(Duration::from_secs(60));
        crowd.rest(Duration::from_secs(540));
        let mut first: Vec<usize> = (0..size).collect();
        first.sort_by_key(|n| crowd.devs[*n].id);
        for n in first.into_iter().take(others.mute) {
            crowd.devs[n].mute = true;
        }
        crowd
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.count += 1;
        self.events.insert((self.now + wait, self.count), event);
    }

    /// Of a link, and a little different each time.
    fn latency(&mut self, a: usize, b: usize) -> Duration {
        let pair = (a.min(b) as u64) << 32 | a.max(b) as u64;
        let mut drawn = Rng::new(self.seed ^ pair);
        let ms = drawn.between(self.latency.0, self.latency.1);
        Duration::from_micros(ms * 1_000 + self.rng.between(0, ms * 100))
    }

    // --- time ---

    /// Everybody comes within `time`.
    pub(crate) fn come(&mut self, time: Duration) {
        let step = time / u32::try_from(self.devs.len()).unwrap_or(1).max(1);
        for n in 0..self.devs.len() {
            self.rest(step);
            self.mesh.start(n);
        }
    }

    /// Lets time pass.
    pub(crate) fn rest(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let own = self.events.first_key_value().map(|((at, _), _)| *at);
            let links = self.mesh.next_at();
            let Some(at) = own.into_iter().chain(links).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            if links == Some(at) {
                self.mesh.step();
                self.follow_links();
            } else if let Some((_, event)) = self.events.pop_first() {
                self.take(event);
            }
        }
        self.now = end;
        self.mesh.advance(end);
    }

    fn follow_links(&mut self) {
        while let Some(change) = self.mesh.poll_change() {
            self.count += 1;
            let link = self.count;
            for (n, other) in [(change.a, change.b), (change.b, change.a)] {
                let (id, now) = (self.devs[other].id, self.now);
                let dev = &mut self.devs[n];
                if change.open {
                    dev.links.insert(other, link);
                    dev.spread.linked(id, Standing::Member, now);
                } else {
                    dev.links.remove(&other);
                    if dev.fetching.remove(&other).is_some() {
                        let progressed = false;
                        dev.spread.fetched(id, Ended::Failed { progressed }, now);
                    }
                    dev.spread.unlinked(&id);
                }
                self.drain(n);
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Timer(n) => {
                self.devs[n].timer = None;
                self.drain(n);
            }
            Event::Notice(from, to, link, commit) => {
                if self.devs[to].links.get(&from) == Some(&link) {
                    let (id, head, now) = (
                        self.devs[from].id,
                        self.commits[commit as usize].id,
                        self.now,
                    );
                    let known = self.holds(to, commit);
                    self.devs[to].spread.heard(id, head, known, now);
                    self.drain(to);
                }
            }
            Event::Ask(by, of, fetch) => {
                if self.devs[by].fetching.get(&of) == Some(&fetch) {
                    let head = self.devs[of].head;
                    let wait = self.latency(by, of) * 3;
                    self.after(wait, Event::Arrived(by, of, fetch, head));
                }
            }
            Event::Arrived(by, of, fetch, head) => {
                if self.devs[by].fetching.get(&of) == Some(&fetch) {
                    self.arrived(by, of, head);
                }
            }
        }
    }

    // --- commits ---

    fn holds(&self, n: usize, commit: u32) -> bool {
        let head = self.devs[n].head as usize;
        self.commits[head].below.has(commit)
    }

    fn commit(&mut self, n: usize, parents: &[u32]) -> u32 {
        let number = u32::try_from(self.commits.len()).expect("fewer commits");
        let id = ObjectId(self.rng.bytes());
        let mut below: Set = [number].into_iter().collect();
        for parent in parents {
            below.add_all(&self.commits[*parent as usize].below);
        }
        self.ids.insert(id, number);
        self.commits.push(Commit {
            id,
            below,
            merges: parents.len() > 1,
        });
        self.devs[n].known.add(number);
        self.move_head(n, number);
        number
    }

    fn move_head(&mut self, n: usize, head: u32) {
        self.counts.changed_at = self.now;
        let dev = &mut self.devs[n];
        dev.head = head;
        let below = &self.commits[head as usize].below;
        for (bit, commit) in self.watched.iter().enumerate() {
            let mask = 1 << bit;
            if dev.shows & mask == 0 && below.has(*commit) {
                dev.shows |= mask;
                self.shown.push(self.now);
            }
        }
    }

    /// Somebody writes.
    pub(crate) fn write(&mut self, n: usize) {
        let head = self.devs[n].head;
        let new = self.commit(n, &[head]);
        let (id, now) = (self.commits[new as usize].id, self.now);
        self.devs[n].spread.wrote(id, now);
        self.mesh.input(n, Input::Reach);
        self.drain(n);
    }

    /// Whether one holds nothing but merges that the other lacks; and the other way round.
    fn only_merges(&self, ours: u32, theirs: u32) -> (bool, bool) {
        let [a, b] = [ours, theirs].map(|n| &self.commits[n as usize].below);
        let only = |a: &Set, b: &Set| a.without(b).all(|n| self.commits[n as usize].merges);
        (only(a, b), only(b, a))
    }

    fn relation(&self, ours: u32, theirs: u32) -> Relation {
        if self.commits[ours as usize].below.has(theirs) {
            Relation::UpToDate
        } else if self.commits[theirs as usize].below.has(ours) {
            Relation::FastForward
        } else {
            match self.only_merges(ours, theirs) {
                (false, false) => Relation::Diverged,
                _ => Relation::Alike,
            }
        }
    }

    /// As [`crate::swarm::write::Repository::merge`] does where all trees are the same.
    fn merge(&mut self, n: usize, head: ObjectId) {
        let (ours, theirs) = (self.devs[n].head, self.ids[&head]);
        let follows = match self.relation(ours, theirs) {
            Relation::UpToDate => false,
            Relation::FastForward => true,
            Relation::Alike => {
                let ours = self.commits[ours as usize].id;
                let (we, they) = self.only_merges(self.devs[n].head, theirs);
                we && (!they || head > ours)
            }
            Relation::Diverged => {
                self.counts.merges += 1;
                self.commit(n, &[ours, theirs]);
                false
            }
        };
        if follows {
            self.move_head(n, theirs);
        }
        let now = self.now;
        let (ids, dev) = (&self.ids, &mut self.devs[n]);
        let known = |id: &ObjectId| ids.get(id).is_some_and(|c| dev.known.has(*c));
        let ours = self.commits[dev.head as usize].id;
        dev.spread.settled(head, Some(ours), &known, now);
    }

    // --- what engines want ---

    fn drain(&mut self, n: usize) {
        if self.devs[n].mute {
            return;
        }
        let now = self.now;
        while let Some(action) = self.devs[n].spread.poll(now) {
            match action {
                Action::Tell(device, head) => {
                    self.counts.notices += 1;
                    let (to, commit) = (self.numbers[&device], self.ids[&head]);
                    if let Some(link) = self.devs[n].links.get(&to).copied() {
                        let wait = self.latency(n, to);
                        self.after(wait, Event::Notice(n, to, link, commit));
                    }
                }
                Action::Fetch(device) => {
                    self.counts.fetches += 1;
                    self.count += 1;
                    let (of, fetch) = (self.numbers[&device], self.count);
                    if !self.devs[n].links.contains_key(&of) {
                        let progressed = false;
                        let how = Ended::Failed { progressed };
                        self.devs[n].spread.fetched(device, how, now);
                        continue;
                    }
                    self.devs[n].fetching.insert(of, fetch);
                    // A channel is opened first.
                    let wait = self.latency(n, of) * 3;
                    self.after(wait, Event::Ask(n, of, fetch));
                }
                Action::Merge(head) => self.merge(n, head),
            }
        }
        let dev = &mut self.devs[n];
        if let Some(at) = dev.spread.poll_timeout()
            && dev.timer.is_none_or(|timer| at < timer)
        {
            assert!(at > now, "a timer that does not advance");
            dev.timer = Some(at);
            self.after(at - now, Event::Timer(n));
        }
    }

    fn arrived(&mut self, by: usize, of: usize, head: u32) {
        let dev = &mut self.devs[by];
        dev.fetching.remove(&of);
        let commit = &self.commits[head as usize];
        self.counts.carried += commit.below.without(&dev.known).count();
        dev.known.add_all(&commit.below);
        let relation = self.relation(self.devs[by].head, head);
        let (device, now) = (self.devs[of].id, self.now);
        let head = self.commits[head as usize].id;
        let taker = self.devs[by].id;
        self.devs[of].spread.took(&taker, head, now);
        let how = Ended::Well { head, relation };
        self.devs[by].spread.fetched(device, how, now);
        self.drain(by);
    }

    // --- what is so ---

    /// The heads of those who are there.
    pub(crate) fn heads(&self) -> BTreeSet<u32> {
        let devs = self.devs.iter().filter(|d| d.up && !d.mute);
        devs.map(|d| d.head).collect()
    }

    /// A device vanishes.
    pub(crate) fn kill(&mut self, n: usize) {
        self.devs[n].up = false;
        self.mesh.kill(n);
        self.follow_links();
    }

    /// Somebody writes, and time passes: until all had it.
    fn write_and_see(&mut self, n: usize, time: Duration) -> Duration {
        let began = self.now;
        self.write(n);
        self.rest(time);
        assert_eq!(self.heads().len(), 1, "not all have it");
        self.counts.changed_at.saturating_sub(began)
    }

    /// So many of those who are there write at the same moment.
    pub(crate) fn write_at_once(&mut self, writers: usize) -> AtOnce {
        let mut able = self.able();
        let mut who = Vec::new();
        for _ in 0..writers.min(able.len()) {
            who.push(able.swap_remove(self.rng.below(able.len())));
        }
        self.watch(&who, Duration::ZERO)
    }

    /// The same in two halves that do not reach each other until a minute later.
    pub(crate) fn write_parted(&mut self, writers: usize) -> AtOnce {
        self.mesh.part(|n| n % 2 == 0);
        self.follow_links();
        self.rest(Duration::from_secs(60));
        let mut who = self.able();
        while who.len() > writers {
            let n = self.rng.below(who.len());
            who.remove(n);
        }
        self.watch(&who, Duration::from_secs(60))
    }

    fn able(&self) -> Vec<usize> {
        let able = |n: &usize| self.devs[*n].up && !self.devs[*n].mute;
        (0..self.devs.len()).filter(able).collect()
    }

    fn watch(&mut self, who: &[usize], apart: Duration) -> AtOnce {
        let before = self.counts;
        self.watched = (self.commits.len()..)
            .take(who.len())
            .map(|n| n as u32)
            .collect();
        self.shown.clear();
        for dev in &mut self.devs {
            dev.shows = 0;
        }
        // Nobody's commit is carried before all have written: a write takes no time.
        for n in who {
            self.write(*n);
        }
        if !apart.is_zero() {
            self.rest(apart);
            self.mesh.heal();
        }
        let began = self.now;
        let time = if apart.is_zero() { 180 } else { 1_800 };
        self.rest(Duration::from_secs(time));
        assert_eq!(self.heads().len(), 1, "they do not agree");
        let shown = self.shown.iter().map(|at| at.saturating_sub(began));
        AtOnce {
            merges: self.counts.merges - before.merges,
            agree: self.counts.changed_at.saturating_sub(began),
            shown: (
                shown.clone().sum::<Duration>() / self.shown.len() as u32,
                shown.max().unwrap_or_default(),
            ),
        }
    }

    /// The life of a crowd: it comes together, ten write one after the other, then three and
    /// ten at once, then many vanish.
    pub(crate) fn live(seed: u64, size: usize, latency: (u64, u64)) -> Figures {
        let mut crowd = Self::new(seed, size, latency);
        crowd.come(Duration::from_secs(60));
        crowd.rest(Duration::from_secs(540));
        assert_eq!(crowd.mesh.parts(), [size], "the links do not tie all");
        let table_messages = crowd.mesh.counts.messages as f64 / size as f64;
        let degrees = crowd.mesh.degrees();
        let before = crowd.counts;
        let mut times = Vec::new();
        for _ in 0..10 {
            let who = crowd.rng.below(size);
            times.push(crowd.write_and_see(who, Duration::from_secs(20)));
        }
        let after = crowd.counts;
        let each = |n: usize| n as f64 / 10.0 / size as f64;
        let at_once = [3, 10].map(|writers| {
            let seen = crowd.write_at_once(writers);
            (seen.merges, seen.agree)
        });
        let steps = crowd.mesh.steps_from(0);
        for n in (0..size).filter(|n| n % 10 < 3) {
            crowd.kill(n);
        }
        crowd.rest(Duration::from_secs(60));
        let after_loss = crowd.write_and_see(3, Duration::from_secs(60));
        Figures {
            devices: size,
            links: (
                degrees.iter().sum::<usize>() as f64 / size as f64,
                degrees.iter().copied().max().unwrap_or(0),
            ),
            steps,
            table_messages,
            notices: each(after.notices - before.notices),
            fetches: each(after.fetches - before.fetches),
            carried: each(after.carried - before.carried),
            time: (
                times.iter().sum::<Duration>() / 10,
                times.iter().copied().max().unwrap_or_default(),
            ),
            at_once,
            after_loss,
        }
    }
}
