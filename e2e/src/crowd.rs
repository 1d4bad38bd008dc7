//! A group of more people than are all linked with each other: Starlings and daemons, who come at the same time.

use crate::{Client, Host, Lab, Peer, jami, peer, wait};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// So many programs start at the same time.
const AT_ONCE: usize = 4;

/// So long after it has a text a daemon shows it, if ever.
const SHOWS: Duration = Duration::from_secs(1);

/// Everybody, and the one group that all are in.
pub struct Crowd {
    /// The first one made the group and knows all others, of whom nobody knows anybody.
    pub people: Vec<Peer>,
    /// The group.
    pub group: String,
    /// The pages of those who have a Starling and are there.
    pages: BTreeMap<usize, Client>,
    away: BTreeSet<usize>,
    boot: Host,
    // Last: everything above runs in it.
    lab: Lab,
}

/// What somebody uses, before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Starling,
    /// The reference.
    Daemon,
}

impl Kind {
    fn start(self, host: Host, boot: &Host) -> Peer {
        match self {
            Self::Starling => Peer::starling_at(host, boot),
            Self::Daemon => Peer::jami_at(host, boot),
        }
    }
}

/// Does something for each of many at the same time.
fn each<T: Send, R: Send>(all: &mut [T], what: impl Fn(usize, &mut T) -> R + Sync) -> Vec<R> {
    let queue = Mutex::new(all.iter_mut().enumerate());
    let next = || queue.lock().expect("not poisoned").next();
    let mut done = Vec::new();
    std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            while let Some((n, one)) = next() {
                done.push((n, what(n, one)));
            }
            done
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            done.extend(worker.join().expect("what is done to each succeeds"));
        }
    });
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, r)| r).collect()
}

impl Crowd {
    /// People with these programs, and a group that the first one has made and is alone in. All others are contacts of
    /// the first.
    pub fn meet(kinds: &[Kind]) -> Self {
        let mut lab = Lab::new();
        let boot = jami::boot(&mut lab);
        let mut hosts: Vec<(Host, Kind)> = kinds
            .iter()
            .enumerate()
            .map(|(n, kind)| (lab.host(&format!("person{n}")), *kind))
            .collect();
        let mut people = each(&mut hosts, |_, (host, kind)| {
            kind.start(host.clone(), &boot)
        });
        let Some((first, others)) = people.split_first_mut() else {
            unreachable!("somebody makes the group")
        };
        let twos: Vec<String> = others.iter().map(|o| first.ask(&o.id)).collect();
        each(others, |n, other| other.accept(&twos[n]));
        for (other, two) in others.iter().zip(&twos) {
            first.wait_role(two, &other.id, "member");
        }
        let group = first.create("Many");
        let mut crowd = Self {
            people,
            group,
            pages: BTreeMap::new(),
            away: BTreeSet::new(),
            boot,
            lab,
        };
        for n in 0..kinds.len() {
            crowd.open_page(n);
        }
        crowd
    }

    /// Everybody comes in, one after the other.
    pub fn come_in(&mut self) {
        let Some((first, others)) = self.people.split_first_mut() else {
            unreachable!("somebody makes the group")
        };
        for other in others {
            first.gather(&self.group, &mut [other]);
        }
    }

    /// Everybody is invited, and then all come in when they can.
    pub fn come_in_at_once(&mut self) {
        let Some((first, others)) = self.people.split_first_mut() else {
            unreachable!("somebody makes the group")
        };
        for other in others.iter() {
            first.invite(&self.group, &other.id);
        }
        each(others, |_, other| other.accept(&self.group));
    }

    /// Somebody comes when all the others have been there for long, and has the whole history. Gives their number.
    pub fn come_late(&mut self, kind: Kind) -> usize {
        let n = self.people.len();
        let host = self.lab.host(&format!("person{n}"));
        let mut other = kind.start(host, &self.boot);
        let first = &mut self.people[0];
        let two = first.ask(&other.id);
        other.accept(&two);
        first.wait_role(&two, &other.id, "member");
        first.gather(&self.group, &mut [&mut other]);
        self.people.push(other);
        self.open_page(n);
        n
    }

    fn open_page(&mut self, n: usize) {
        if let peer::Program::Starling(s) = &self.people[n].program {
            self.pages.insert(n, Client::new(s));
        }
    }

    /// Waits until everybody knows that everybody has come in.
    pub fn wait_all_in(&self) {
        let all = self.people.len();
        for who in &self.people {
            let end = Instant::now() + wait::PATIENCE * 4;
            loop {
                let members = who.members(&self.group);
                let come = members.values().filter(|r| *r != "invited").count();
                if come == all {
                    break;
                }
                assert!(Instant::now() < end, "{}: {come} are in", who.host.name);
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }

    /// Who is there.
    pub fn there(&self) -> Vec<usize> {
        let all = 0..self.people.len();
        all.filter(|n| !self.away.contains(n)).collect()
    }

    /// Who of those uses such a program.
    pub fn with(&self, kind: Kind) -> Vec<usize> {
        let ours = |n: &usize| matches!(self.people[*n].program, peer::Program::Starling(_));
        let there = self.there().into_iter();
        there
            .filter(|n| ours(n) == (kind == Kind::Starling))
            .collect()
    }

    /// Some of them go.
    pub fn go(&mut self, who: &[usize]) {
        for n in who {
            self.pages.remove(n);
        }
        self.away.extend(who);
        each(&mut self.people, |n, p| {
            if who.contains(&n) {
                p.down();
            }
        });
    }

    /// They come back.
    pub fn come(&mut self, who: &[usize]) {
        each(&mut self.people, |n, p| {
            if who.contains(&n) {
                p.up();
            }
        });
        for n in who {
            self.away.remove(n);
            self.open_page(*n);
        }
    }

    /// Somebody writes; when that was.
    fn write(&mut self, from: usize, body: &str) -> Instant {
        let start = Instant::now();
        match (self.pages.get_mut(&from), &mut self.people[from].program) {
            (Some(page), _) => drop(page.send(&self.group, body)),
            (None, peer::Program::Jami(j)) => {
                let account = j.account();
                j.call("sendMessage", json!([account, self.group, body, "", 0]));
            }
            (None, peer::Program::Starling(_)) => panic!("person{from} is away"),
        }
        start
    }

    /// These write at the same moment, as near as may be; how long it takes until each of the others who are there
    /// shows it, and by whom that was.
    pub fn say(&mut self, from: &[usize], what: &str) -> Vec<Passed> {
        for n in from {
            if let (Some(page), peer::Program::Starling(s)) =
                (self.pages.get_mut(n), &self.people[*n].program)
            {
                page.connect_anew(s);
            }
        }
        let marks: Vec<usize> = self.people.iter().map(Peer::mark).collect();
        let body = |n: usize| format!("{what}, by person{n}");
        let written: Vec<(usize, Instant)> = from
            .iter()
            .map(|n| (*n, self.write(*n, &body(*n))))
            .collect();
        let mut passed = Vec::new();
        for (from, at) in written {
            for to in self.there() {
                if to != from {
                    let then = self.shown(to, &body(from), marks[to]);
                    let took = then.map(|then| then.saturating_duration_since(at));
                    passed.push(Passed { from, to, took });
                }
            }
        }
        passed
    }

    /// Waits until somebody has a text, and says when it was shown, if it was.
    fn shown(&self, to: usize, body: &str, since: usize) -> Option<Instant> {
        let who = &self.people[to];
        let missing = || panic!("{} does not get {body:?}", who.host.name);
        let j = match (self.pages.get(&to), &who.program) {
            (Some(page), _) => {
                return page.try_shown(body, wait::PATIENCE).or_else(&missing);
            }
            (None, peer::Program::Jami(j)) => j,
            (None, peer::Program::Starling(_)) => return missing(),
        };
        let end = Instant::now() + wait::PATIENCE;
        let mut has = false;
        while Instant::now() < end {
            let then = j.try_shown(&self.group, body, since, SHOWS);
            if then.is_some() || has {
                return then;
            }
            has = who.texts(&self.group).iter().any(|t| t == body);
        }
        missing()
    }

    /// With whom of those who are there each has a connection.
    pub fn links(&self) -> BTreeMap<usize, BTreeSet<usize>> {
        let by_addr: BTreeMap<Ipv4Addr, usize> = self
            .people
            .iter()
            .enumerate()
            .map(|(n, p)| (p.host.addr, n))
            .collect();
        let of = |n: usize| {
            let peers = self.people[n].host.connected(self.people[n].pid());
            let peers = peers.iter().filter_map(|a| by_addr.get(a).copied());
            (n, peers.filter(|p| *p != n).collect())
        };
        self.there().into_iter().map(of).collect()
    }

    /// The newest commits of those who are there, and who is at each.
    pub fn heads(&self) -> BTreeMap<String, Vec<usize>> {
        let mut heads: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for n in self.there() {
            heads
                .entry(self.people[n].head(&self.group))
                .or_default()
                .push(n);
        }
        heads
    }
}

impl Peer {
    /// The process.
    pub fn pid(&self) -> u32 {
        match &self.program {
            peer::Program::Starling(s) => s.pid(),
            peer::Program::Jami(j) => j.pid(),
        }
    }

    /// How many events there were so far: a mark to wait from.
    pub fn mark(&self) -> usize {
        match &self.program {
            peer::Program::Starling(s) => s.mark(),
            peer::Program::Jami(j) => j.mark(),
        }
    }
}

/// A message that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// Who wrote it.
    pub from: usize,
    /// Who shows it.
    pub to: usize,
    /// How long that took; none where it is in the repository of a daemon that does not show it.
    pub took: Option<Duration>,
}
