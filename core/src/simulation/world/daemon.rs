//! Members who use a daemon instead of Starling, as far as it differs in how news travel.
//!
//! A simulated daemon fetches when a link comes up and when it is told of a commit that it lacks, never
//! again by itself; it takes in at once what it fetched, tells all others of the commit that it was told
//! of, and nobody of the merge that it made. Heads that differ by merges alone it merges like any other. A first
//! copy that failed is tried again, later each time. Some of its merges fail (of two sides that both did
//! something to members or the profile; of those every second): then it stays where it is. The notice of
//! its own coming in may be lost.
//!
//! What it does not do: judge by other rules than ours, or write other trees than we would.

use super::{Dev, Event, Life, Standing, World};
use crate::id::ObjectId;
use crate::simulation::replica::Replica;
use crate::swarm::merge::Relation;
use crate::swarm::message::{Action, Message};
use crate::swarm::spread::Ended;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// How far back one looks for a merge: as the bridge does.
const LATELY: usize = 32;

/// The first pause before a first copy is tried again, and how often it is doubled at most.
const COPY_PAUSE: Duration = Duration::from_secs(5);
const COPY_DOUBLED: u32 = 6;

/// Of a thousand notices that a daemon came in, those that are lost.
const LOST_JOINS: u64 = 300;

/// What a daemon remembers of fetches.
#[derive(Debug, Default)]
pub(crate) struct Daemon {
    /// Of which commit it was told, for each fetch under way that is for one.
    told: BTreeMap<usize, ObjectId>,
    /// Told during a fetch from that device: looked at after it.
    deferred: BTreeMap<usize, ObjectId>,
    /// First copies that failed.
    copies: u32,
}

impl Dev {
    /// Honest, and runs what we wrote.
    pub(crate) fn ours(&self) -> bool {
        self.honest() && self.daemon.is_none()
    }
}

impl World {
    /// A daemon begins, or begins again: it asks all it is linked with.
    pub(super) fn daemon_starts(&mut self, n: usize) {
        self.devs[n].daemon = Some(Daemon::default());
        for other in self.linked(n) {
            self.daemon_asks(n, other, None);
        }
        if self.devs[n].replica.head.is_none() {
            self.after(COPY_PAUSE, Event::Copy(n));
        }
    }

    /// A first copy is tried again.
    pub(super) fn daemon_copies(&mut self, n: usize) {
        let dev = &mut self.devs[n];
        let Some(daemon) = &mut dev.daemon else {
            return;
        };
        if dev.life != Life::Invited || dev.replica.head.is_some() {
            return;
        }
        daemon.copies = (daemon.copies + 1).min(COPY_DOUBLED);
        let wait = COPY_PAUSE * 2u32.pow(daemon.copies);
        self.after(wait, Event::Copy(n));
        let linked = self.linked(n);
        if let Some(other) = self.rng.pick(&linked).copied() {
            self.daemon_asks(n, other, None);
        }
    }

    /// A daemon looks at what a device has, perhaps since it told of something.
    pub(super) fn daemon_asks(&mut self, n: usize, of: usize, told: Option<ObjectId>) {
        let dev = &self.devs[n];
        let takes = dev.up && matches!(dev.life, Life::In | Life::Invited);
        if takes && !dev.fetching.contains_key(&of) && self.standing(n, of) != Standing::Outside {
            if let Some(daemon) = &mut self.devs[n].daemon {
                daemon.told.remove(&of);
                daemon.told.extend(told.map(|head| (of, head)));
            }
            self.begin_fetch(n, of);
        }
    }

    /// A daemon is told of a commit.
    pub(super) fn daemon_hears(&mut self, n: usize, from: usize, head: ObjectId) {
        let dev = &mut self.devs[n];
        if dev.replica.known.contains_key(&head) {
            return;
        }
        if dev.fetching.contains_key(&from) {
            if let Some(daemon) = &mut dev.daemon {
                daemon.deferred.insert(from, head);
            }
            return;
        }
        self.daemon_asks(n, from, Some(head));
    }

    /// A daemon's channel is open. If what it was told of has come meanwhile, from somebody else, it fetches
    /// nothing, and says that it has it.
    pub(super) fn daemon_has_it(&mut self, n: usize, of: usize) -> bool {
        let dev = &self.devs[n];
        let told = dev.daemon.as_ref().and_then(|d| d.told.get(&of).copied());
        let Some(told) = told.filter(|told| dev.replica.known.contains_key(told)) else {
            return false;
        };
        self.devs[n].fetching.remove(&of);
        self.daemon_tells(n, told, Some(of));
        self.daemon_goes_on(n, of);
        true
    }

    /// A fetch of a daemon ended.
    pub(super) fn daemon_fetched(&mut self, n: usize, of: usize, how: Ended) {
        if let Ended::Well { head, relation } = how
            && relation != Relation::UpToDate
            && self.devs[n].life != Life::Left
            && !self.devs[n].replica.known.contains_key(&head)
            && !self.is_stuck(n, head)
        {
            let run = self.devs[n].run;
            self.merge(n, head);
            let dev = &self.devs[n];
            let told = dev.daemon.as_ref().and_then(|d| d.told.get(&of).copied());
            if let Some(told) = told.filter(|told| dev.replica.known.contains_key(told))
                && dev.run == run
            {
                self.daemon_tells(n, told, Some(of));
            }
        }
        self.daemon_goes_on(n, of);
    }

    /// It looks at what it was told meanwhile.
    fn daemon_goes_on(&mut self, n: usize, of: usize) {
        let Some(daemon) = &mut self.devs[n].daemon else {
            return;
        };
        if let Some(head) = daemon.deferred.remove(&of) {
            self.daemon_hears(n, of, head);
        }
    }

    /// A daemon wrote something.
    pub(crate) fn daemon_wrote(&mut self, n: usize, head: ObjectId, joins: bool) {
        if self.devs[n].daemon.is_some() && !(joins && self.rng.permille(LOST_JOINS)) {
            self.daemon_tells(n, head, None);
        }
    }

    fn daemon_tells(&mut self, n: usize, head: ObjectId, not: Option<usize>) {
        for to in self.linked(n) {
            if Some(to) != not && self.standing(n, to) != Standing::Outside {
                self.log(|| format!("{} tells {} of {head:.8}", self.name(n), self.name(to)));
                self.send(n, to, |link| Event::Notice(n, to, link, head));
            }
        }
    }

    /// Whether a daemon's own merge of a head with its own fails.
    fn is_stuck(&self, n: usize, theirs: ObjectId) -> bool {
        let replica = &self.devs[n].replica;
        let Some(ours) = replica.head else {
            return false;
        };
        let parents = |id: &ObjectId| match replica.known.get(id) {
            Some(node) => node.parents.clone(),
            None => replica.commit(&self.pool, id).parents,
        };
        let below = |of: ObjectId| {
            let mut seen = BTreeSet::new();
            let mut todo = vec![of];
            while let Some(id) = todo.pop() {
                if seen.insert(id) {
                    todo.extend(parents(&id));
                }
            }
            seen
        };
        let (a, b) = (below(ours), below(theirs));
        let touches = |id: &ObjectId| {
            let commit = replica.commit(&self.pool, id);
            let said = Message::parse(&commit.message);
            let adds = |a| matches!(a, Action::Add);
            match said {
                Ok(Message::Member { action, .. }) => !adds(action),
                Ok(Message::UpdateProfile) => true,
                _ => false,
            }
        };
        let odd = (ours.0[0] ^ theirs.0[0]) & 1 == 1;
        odd && a.difference(&b).any(touches) && b.difference(&a).any(touches)
    }

    /// A Starling learns what a device has: a daemon may have merged it, and is asked then.
    pub(super) fn has_shown(&mut self, n: usize, other: usize, head: ObjectId) {
        if self.config.daemons == 0 || n == other || !self.devs[n].ours() {
            return;
        }
        let now = self.now;
        let (account, id) = (self.devs[other].id(), self.devs[other].replica.device.id);
        let dev = &mut self.devs[n];
        let replica = &dev.replica;
        if account == replica.device.account || !replica.known.contains_key(&head) {
            return;
        }
        let before = dev.heads.get(&other).copied();
        let before = before.filter(|before| replica.known.contains_key(before));
        let relation =
            before.map(|before| replica.relation(&replica.view(&self.pool), before, head));
        let looks = match relation {
            Some(Ok(Relation::UpToDate)) => return,
            Some(Ok(Relation::FastForward)) | None => merged_lately(replica),
            Some(Ok(Relation::Diverged | Relation::Alike) | Err(_)) => true,
        };
        let newest = replica.head == Some(head);
        dev.heads.insert(other, head);
        if looks && newest {
            self.counts.looked.entry((n, other)).or_default().0 = 0;
        }
        if looks && let Some(spread) = &mut dev.spread {
            spread.look(id, newest, now);
            self.drain(n);
        }
    }
}

fn merged_lately(replica: &Replica) -> bool {
    let mut at = replica.head;
    for _ in 0..LATELY {
        let Some(node) = at.and_then(|id| replica.known.get(&id)) else {
            return false;
        };
        match node.parents.as_slice() {
            [_, _, ..] => return true,
            parents => at = parents.first().copied(),
        }
    }
    false
}
