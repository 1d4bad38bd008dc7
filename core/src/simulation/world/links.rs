//! Who is linked with whom: links come and go as the network and, where they decide it, the routing
//! tables of all devices want.

use super::{Dev, Event, Fetching, Life, World, pair};
use crate::drt::Input;
use crate::drt::testkit::Mesh;
use crate::id::AccountId;
use crate::simulation::config::{Broken, Config, Links};
use crate::simulation::hostile::Hostile;
use crate::simulation::rng::Rng;
use crate::swarm::members::Role;
use crate::swarm::spread::{Ended, Standing};
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

impl World {
    pub(super) fn latency(&mut self, a: usize, b: usize) -> Duration {
        let (low, high) = self.config.latency;
        let rng = &mut self.rng;
        let latency = self
            .latency
            .entry(pair(a, b))
            .or_insert_with(|| rng.between(low, high));
        Duration::from_micros(*latency * 1_000 + rng.between(0, *latency * 100))
    }

    /// With whom a device has a link.
    pub(crate) fn linked(&self, a: usize) -> Vec<usize> {
        self.near[a].iter().copied().collect()
    }

    /// The most links there were at a time, of all devices together, both ends counted.
    pub(crate) fn most_links(&self) -> usize {
        self.most.iter().sum()
    }

    pub(crate) fn link(&self, a: usize, b: usize) -> Option<u64> {
        self.links.get(&pair(a, b)).copied()
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        let apart = self.parted.as_ref().is_some_and(|side| side[a] != side[b]);
        let key = pair(a, b);
        let strangers = [a, b].iter().all(|n| self.devs[*n].daemon.is_some());
        let apart = apart || self.config.apart && strangers;
        if !self.devs[a].up || !self.devs[b].up || apart || self.links.contains_key(&key) {
            return;
        }
        self.count += 1;
        self.links.insert(key, self.count);
        for (n, other) in [(a, b), (b, a)] {
            self.near[n].insert(other);
            self.most[n] = self.most[n].max(self.near[n].len());
        }
        self.tell_tables(a, b, true);
        *self.counts.connects.entry(key).or_default() += 1;
        self.counts.connected += 1;
        for (n, other) in [(a, b), (b, a)] {
            self.greet(n, other);
            let (id, now) = (self.devs[other].replica.device.id, self.now);
            if let Some(spread) = &mut self.devs[n].spread {
                spread.anew(&id, now);
            }
            if self.devs[n].daemon.is_some() && self.devs[n].life != Life::Stranger {
                self.daemon_asks(n, other, None);
            }
            self.drain(n);
        }
    }

    /// Tells the engine of a device what a linked one is.
    pub(crate) fn greet(&mut self, n: usize, other: usize) {
        let standing = self.standing(n, other);
        let now = self.now;
        let id = self.devs[other].replica.device.id;
        if let Some(spread) = &mut self.devs[n].spread {
            spread.linked(id, standing, now);
        }
    }

    pub(super) fn standing(&self, n: usize, other: usize) -> Standing {
        let (dev, account) = (&self.devs[n], self.devs[other].id());
        match (dev.life, dev.replica.role(&account)) {
            // Who copies takes it from whoever has it.
            (Life::Invited, _) if dev.replica.head.is_none() => Standing::Member,
            _ if dev
                .replica
                .banned
                .contains(&self.devs[other].replica.device.id) =>
            {
                Standing::Outside
            }
            (_, Some(Role::Admin | Role::Member)) => Standing::Member,
            // Who has a swarm channel has come in, though the notice of it was lost.
            (_, Some(Role::Invited)) if self.has_channel(n, other) => Standing::Member,
            (_, Some(Role::Invited)) => Standing::Invited,
            _ => Standing::Outside,
        }
    }

    /// Whether two have a swarm channel. Where routing tables do not decide it, whoever is in opens one
    /// to all that it is linked with.
    fn has_channel(&self, n: usize, other: usize) -> bool {
        match self.mesh {
            Some(_) => self.channels.contains(&pair(n, other)),
            None => self.devs[other].life == Life::In,
        }
    }

    /// A link breaks; both sides notice, and connect again after a while.
    pub(super) fn cut(&mut self, a: usize, b: usize) {
        if self.links.remove(&pair(a, b)).is_none() {
            return;
        }
        self.counts.breaks += 1;
        self.near[a].remove(&b);
        self.near[b].remove(&a);
        if let Some(mesh) = self
            .mesh
            .as_mut()
            .filter(|_| self.channels.remove(&pair(a, b)))
        {
            mesh.snap(a, b);
        }
        self.tell_tables(a, b, false);
        for (n, other) in [(a, b), (b, a)] {
            let id = self.devs[other].replica.device.id;
            // What was seen over a link is forgotten with it.
            self.counts.looked.entry((n, other)).or_default().0 = 0;
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
        if self.graph[a].contains(&b) {
            let wait = self.rng.ms(1_000, 30_000);
            self.after(wait, Event::Connect(a, b));
        }
    }

    /// What had arrived of a fetch that broke stays, so that the next has less to do.
    pub(super) fn keep_part(&mut self, n: usize, fetching: Fetching) -> bool {
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

    pub(super) fn send(&mut self, from: usize, to: usize, event: impl FnOnce(u64) -> Event) {
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

    /// Where links are drawn at random, a ring of all holds the group together whoever has gone.
    /// Routing tables have to do that by themselves.
    pub(super) fn tie(&mut self) {
        if !matches!(self.config.links, Links::Random(_)) {
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

    pub(super) fn connect_all(&mut self) {
        for a in 0..self.devs.len() {
            for b in self.graph[a].clone() {
                if a < b && !self.links.contains_key(&(a, b)) {
                    let wait = self.rng.ms(500, 5_000);
                    self.after(wait, Event::Connect(a, b));
                }
            }
        }
    }

    // --- routing tables ---

    /// The tables of all devices, none of them there yet.
    pub(super) fn tables(&self) -> Option<Mesh> {
        let all = self.devs.iter().map(|d| &d.replica.device);
        let all: Vec<_> = all.map(|d| (d.id, d.account)).collect();
        (self.config.links == Links::Drt).then(|| {
            let mut mesh = Mesh::of(self.config.seed, &all);
            // Who says it has what does not exist knows whom nobody knows.
            let lies = |d: &Dev| matches!(d.hostile, Some(Hostile::Liar | Hostile::Flooder));
            for (n, _) in self.devs.iter().enumerate().filter(|(_, d)| lies(d)) {
                mesh.invent(n);
            }
            mesh.learns_all = self.config.broken == Broken::LearnsAll;
            mesh
        })
    }

    /// A device learnt who is a member: its table follows, or begins.
    pub(crate) fn follow_members(&mut self, n: usize) {
        let dev = &self.devs[n];
        let Some(mesh) = self.mesh.as_mut() else {
            return;
        };
        if !dev.up || dev.life == Life::Stranger || dev.replica.head.is_none() {
            return;
        }
        let with = |wanted: fn(Role) -> bool| -> BTreeSet<AccountId> {
            let roles = dev.replica.roles.iter();
            roles
                .filter(|(_, role)| wanted(**role))
                .map(|(id, _)| *id)
                .collect()
        };
        let (mut accounts, mut invited) = (BTreeSet::new(), BTreeSet::new());
        // Who is none looks for nobody.
        if dev.life == Life::Left || dev.replica.takes_part(&dev.id()) {
            accounts = with(|role| matches!(role, Role::Admin | Role::Member));
            invited = with(|role| role == Role::Invited);
        }
        mesh.advance(self.now);
        if mesh.is_alive(n) {
            mesh.set_members_of(n, Arc::new(accounts), invited);
        } else {
            mesh.start_with(n, Arc::new(accounts), invited);
            for other in self.near[n].clone() {
                self.tell_tables(n, other, true);
            }
        }
    }

    /// The tables of two devices hear of a connection that they did not ask for.
    fn tell_tables(&mut self, a: usize, b: usize, open: bool) {
        let Some(mesh) = self.mesh.as_mut().filter(|_| self.graph[a].contains(&b)) else {
            return;
        };
        mesh.advance(self.now);
        for (n, other) in [(a, b), (b, a)] {
            let other = &self.devs[other].replica.device;
            let (device, account) = (other.id, other.account);
            let input = if open {
                Input::Linked { device, account }
            } else {
                Input::Unlinked { device }
            };
            mesh.input(n, input);
        }
    }

    /// There is news: those without a connection may lack it.
    pub(crate) fn reach_out(&mut self, n: usize) {
        if let Some(mesh) = &mut self.mesh {
            mesh.advance(self.now);
            mesh.input(n, Input::Reach);
        }
    }

    /// Two who know each other outside of the group: links of theirs are kept.
    pub(crate) fn acquaint(&mut self, a: usize, b: usize) {
        if self.mesh.is_some() && a != b && self.graph[a].insert(b) {
            self.graph[b].insert(a);
            let wait = self.rng.ms(100, 2_000);
            self.after(wait, Event::Connect(a, b));
        }
    }

    /// Channels opened and ended: links do.
    pub(super) fn follow_tables(&mut self) {
        while let Some(change) = self.mesh.as_mut().and_then(Mesh::poll_change) {
            let (a, b) = (change.a, change.b);
            if change.open {
                self.channels.insert(pair(a, b));
                if self.links.contains_key(&pair(a, b)) {
                    // It shows that both have come in.
                    for (n, other) in [(a, b), (b, a)] {
                        self.greet(n, other);
                        self.drain(n);
                    }
                }
                self.connect(a, b);
            } else if self.channels.remove(&pair(a, b)) && !self.graph[a].contains(&b) {
                self.cut(a, b);
            }
        }
        if let Some(mesh) = &self.mesh {
            (self.counts.known, self.counts.invented) = (mesh.counts.known, mesh.counts.invented);
        }
    }
}

/// Who connects with whom whenever that is possible, whatever routing tables say.
pub(super) fn graph(rng: &mut Rng, accounts: &[usize], config: &Config) -> Vec<BTreeSet<usize>> {
    let devices = accounts.len();
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
        // Devices of one account know each other, and tables do the rest.
        Links::Drt => {
            for (a, one) in accounts.iter().enumerate() {
                for (b, other) in accounts.iter().enumerate() {
                    if one == other {
                        tie(a, b);
                    }
                }
            }
        }
    }
    graph
}
