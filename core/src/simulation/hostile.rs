//! What hostile members do.

use super::rng::Rng;
use super::world::{Event, Life, World};
use crate::id::{AccountId, ObjectId};
use crate::swarm::commit::{Commit, Draft};
use crate::swarm::members::Role;
use crate::swarm::message::{Action, Message};
use crate::swarm::object::{EMPTY_BLOB, Kind, NewObject};
use crate::swarm::path::{Direction, Standing, Target, TreePath};
use crate::swarm::tree::Trees;
use core::time::Duration;
use std::collections::BTreeMap;

/// A way of being hostile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hostile {
    /// Answers nothing.
    Silent,
    /// Says it has what does not exist.
    Liar,
    /// The same to everybody, thirty times in a twentieth of a second, again and again.
    Flooder,
    /// Offers a head it does not have.
    Empty,
    /// Writes what the rules forbid, and offers it.
    Forger(Option<ObjectId>),
    /// Takes back what it wrote, and writes something else.
    Rewriter,
    /// Goes on writing when it was banned.
    Stubborn,
    /// Writes in twenty years.
    Late,
    /// Not drawn: says by turns that it has the one or the other side of a merge that all have, and shows the one.
    Turns(Option<ObjectId>),
    /// Not drawn: takes almost as long as is waited for anything that it is asked for.
    Slow,
    /// Not drawn: writes much, and of what it is asked for sends one object, and then breaks off.
    Drips,
    /// Not drawn: writes twenty messages at a time, all of them valid, as long as the story lasts.
    Chatty,
}

impl Hostile {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 => Self::Silent,
            1 => Self::Liar,
            2 => Self::Flooder,
            3 => Self::Empty,
            4 => Self::Forger(None),
            5 => Self::Rewriter,
            6 => Self::Late,
            _ => Self::Stubborn,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Liar => "lies",
            Self::Flooder => "floods",
            Self::Empty => "has not what it offers",
            Self::Forger(_) => "forges",
            Self::Rewriter => "rewrites",
            Self::Stubborn => "goes on after the ban",
            Self::Late => "writes from the future",
            Self::Turns(_) => "says now this, now that",
            Self::Slow => "is slow",
            Self::Drips => "drips",
            Self::Chatty => "writes without end",
        }
    }

    /// The head it offers in place of its own.
    pub(crate) fn offers(&self) -> Option<ObjectId> {
        match self {
            Self::Empty => Some(ObjectId([0xee; 20])),
            Self::Forger(head) | Self::Turns(head) => *head,
            _ => None,
        }
    }
}

impl World {
    /// A hostile device does what it does.
    pub(crate) fn hostile(&mut self, n: usize) {
        let Some(kind) = self.devs[n].hostile.clone() else {
            return;
        };
        let wait = self.rng.ms(3_000, 30_000);
        self.after(wait, Event::Hostile(n));
        if self.stunned || !self.devs[n].up || self.devs[n].life != Life::In {
            return;
        }
        *self.counts.hostile.entry(kind.name()).or_default() += 1;
        match kind {
            Hostile::Silent | Hostile::Empty => {
                let head = ObjectId(self.rng.bytes());
                self.lie(n, head);
            }
            Hostile::Liar => {
                let head = ObjectId(self.rng.bytes());
                self.lie(n, head);
            }
            Hostile::Flooder => {
                for _ in 0..30 {
                    let head = ObjectId(self.rng.bytes());
                    self.lie(n, head);
                }
            }
            Hostile::Forger(_) => {
                let head = self.forge(n);
                self.devs[n].hostile = Some(Hostile::Forger(Some(head)));
                self.lie(n, head);
            }
            Hostile::Turns(_) => {
                let known = self.devs[n].replica.known.values();
                let sides = known.filter(|node| node.parents.len() > 1);
                let Some(sides) = sides
                    .max_by_key(|node| node.time)
                    .map(|m| m.parents.clone())
                else {
                    return;
                };
                self.devs[n].hostile = Some(Hostile::Turns(sides.first().copied()));
                for to in self.linked(n) {
                    for (turn, head) in (1..10).zip(sides.iter().cycle()) {
                        if let Some(link) = self.link(n, to) {
                            self.after(
                                Duration::from_secs(turn),
                                Event::Notice(n, to, link, *head),
                            );
                        }
                    }
                }
            }
            Hostile::Rewriter if self.left > 0 => {
                self.rewind(n);
                self.write(n, 0, "something else");
            }
            Hostile::Stubborn => {
                let device = self.devs[n].replica.device;
                let banned = |d: &super::world::Dev| d.replica.is_banned(device);
                // Who copies anew may get it from this one, without the ban; and a hostile one that is
                // not banned and knows nothing of it may bring it to the others.
                let own = device.account;
                let mut others = self
                    .devs
                    .iter()
                    .filter(|d| d.id() != own && matches!(d.life, Life::In | Life::Invited));
                let known = others.all(banned);
                let anyone = self.devs.iter().any(|d| d.honest() && banned(d));
                if anyone
                    && let Some(commit) = self.write(n, 0, "I am still here")
                    && known
                {
                    self.late.push((n, commit));
                }
            }
            Hostile::Late if self.left > 0 => {
                let _ = self.write(n, 20 * 365 * 86_400, "from afar");
            }
            Hostile::Chatty if self.left > 0 => {
                for _ in 0..20 {
                    let _ = self.write(n, 0, "and another thing");
                }
            }
            // More than is asked for one by one until the end.
            Hostile::Drips if self.left > 0 && self.hostile_commits < 300 => {
                for _ in 0..150 {
                    let _ = self.write(n, 0, "there is more");
                }
            }
            Hostile::Slow if self.left > 0 => {
                let _ = self.write(n, 0, "wait for me");
            }
            Hostile::Rewriter
            | Hostile::Late
            | Hostile::Slow
            | Hostile::Drips
            | Hostile::Chatty => {}
        }
    }

    /// Tells everyone of a head.
    fn lie(&mut self, n: usize, head: ObjectId) {
        for to in self.linked(n) {
            let wait = Duration::from_millis(self.rng.between(1, 50));
            if let Some(link) = self.link(n, to) {
                self.after(wait, Event::Notice(n, to, link, head));
            }
        }
    }

    fn write(&mut self, n: usize, ahead: u64, what: &str) -> Option<ObjectId> {
        let now_unix = self.unix(n) + ahead;
        let text = format!("{what} {}", self.now.as_millis());
        let dev = &mut self.devs[n];
        let written = dev
            .replica
            .write(&mut self.pool, &mut || false, now_unix, |r, w, t| {
                r.message(w, Message::text(text, None), t)
            });
        let head = written.ok()?;
        self.log(|| format!("{} writes {head:.8}: {what}", self.name(n)));
        let now = self.now;
        self.hostile_commits += 1;
        // Whatever it was that it stands on.
        self.counts.at_once += 1;
        if let Some(spread) = &mut self.devs[n].spread {
            spread.wrote(head, now);
        }
        self.drain(n);
        Some(head)
    }

    /// The newest commit is taken back, as far as it is our own.
    fn rewind(&mut self, n: usize) {
        let dev = &mut self.devs[n];
        let Some(head) = dev.replica.head else { return };
        let commit = dev.replica.commit(&self.pool, &head);
        if commit.device == dev.replica.device.id
            && let [parent] = commit.parents.as_slice()
        {
            dev.replica.head = Some(*parent);
            dev.replica.restart(&self.pool);
        }
    }

    /// Writes something that breaks a rule, on the newest head, and has its objects.
    fn forge(&mut self, n: usize) -> ObjectId {
        let device = self.devs[n].replica.device;
        let own = device.account;
        let replica = &self.devs[n].replica;
        let head = replica.head.expect("hostile ones are in");
        let parent: Commit = replica.commit(&self.pool, &head);
        let others: Vec<AccountId> = replica
            .roles
            .iter()
            .filter(|(id, role)| **id != own && **role == Role::Member)
            .map(|(id, _)| *id)
            .collect();
        let victim = self.rng.pick(&others).copied().unwrap_or(own);
        let live = |standing, id| TreePath::Live(Target::Account(standing, id));
        let file = |path| {
            let view = replica.view(&self.pool);
            Trees::new(&view).lookup(parent.tree, &path).ok().flatten()
        };
        let mut edits: BTreeMap<TreePath, Option<ObjectId>> = BTreeMap::new();
        let mut blobs = Vec::new();
        let mut blob = |data: &[u8]| {
            let object = NewObject::new(Kind::Blob, data.to_vec());
            let id = object.id;
            blobs.push(object);
            id
        };
        let (mut honest_key, mut merges) = (true, false);
        let message = match self.rng.below(9) {
            0 => {
                edits.insert(
                    TreePath::Profile,
                    Some(blob(b"BEGIN:VCARD\nFN:mine\nEND:VCARD")),
                );
                Message::UpdateProfile
            }
            1 => {
                honest_key = false;
                Message::text("signed by somebody else", None)
            }
            2 => {
                edits.insert(live(Standing::Member, victim), None);
                Message::member(Action::Remove, victim)
            }
            3 => {
                // In the name of another admin, where there is one.
                let admins = replica
                    .roles
                    .iter()
                    .filter(|(_, role)| **role == Role::Admin);
                let admins: Vec<AccountId> = admins.map(|(id, _)| *id).collect();
                let voter = admins.iter().find(|id| **id != own).copied().unwrap_or(own);
                let target = Target::Account(Standing::Member, victim);
                let path = TreePath::Vote(Direction::Ban, target, voter);
                edits.insert(path, Some(blob(b"")));
                Message::Vote { uri: target.id() }
            }
            4 => {
                let guest = AccountId(self.rng.bytes());
                edits.insert(live(Standing::Member, guest), Some(EMPTY_BLOB));
                blob(b"");
                Message::text("and a guest", None)
            }
            5 => {
                // An admin of itself.
                let chain = file(live(Standing::Member, own)).or(file(live(Standing::Admin, own)));
                edits.insert(live(Standing::Member, own), None);
                edits.insert(live(Standing::Admin, own), chain);
                edits.insert(live(Standing::Admin, victim), chain);
                Message::member(Action::Join, own)
            }
            6 => {
                // A merge of two harmless commits by which somebody is gone.
                merges = true;
                edits.insert(live(Standing::Member, victim), None);
                Message::text("merged", None)
            }
            7 => {
                // The end of a ban, or a ban of the one that made the group, that nobody voted for.
                let banned = replica
                    .roles
                    .iter()
                    .find(|(_, role)| **role == Role::Banned);
                let banned = banned.map_or(victim, |(id, _)| *id);
                let target = Target::Account(Standing::Member, banned);
                let chain = file(TreePath::Banned(target));
                edits.insert(TreePath::Banned(target), None);
                edits.insert(TreePath::Live(target), chain.or(Some(EMPTY_BLOB)));
                blob(b"");
                Message::member(Action::Unban, banned)
            }
            _ => {
                // A ban without a vote, its file where it belongs.
                let target = Target::Account(Standing::Member, victim);
                edits.insert(TreePath::Banned(target), file(TreePath::Live(target)));
                edits.insert(TreePath::Live(target), None);
                Message::member(Action::Ban, victim)
            }
        };
        let (tree, new) = Trees::new(&self.devs[n].replica.view(&self.pool))
            .change(Some(parent.tree), &edits)
            .expect("its own tree");
        let time = self.unix(n);
        let key = if honest_key {
            device.key()
        } else {
            super::people::device(0, 0, false).key()
        };
        let draft = |tree, parents, message: &Message| {
            let draft = Draft {
                tree,
                parents,
                name: &device.name,
                device: device.id,
                time,
                message: &message.to_text(),
            };
            draft.sign(key).expect("these keys sign")
        };
        let mut parents = vec![head];
        let mut message = message;
        if merges {
            let sides = ["one", "two"].map(|text| {
                let text = Message::text(format!("{text} {time}"), None);
                draft(parent.tree, vec![head], &text)
            });
            parents = sides.iter().map(|side| side.id).collect();
            blobs.extend(sides);
            message = Message::merge(parents[1]);
        }
        let commit = draft(tree, parents, &message);
        let id = commit.id;
        self.hostile_commits += 1;
        if self.config.traitor {
            // What an admin does may be in order.
            self.counts.at_once += 1;
        }
        for object in blobs.into_iter().chain(new).chain([commit]) {
            let number = self.pool.add(object);
            self.devs[n].replica.have.add(number);
        }
        self.log(|| format!("{} forges {id:.8}: {message:?}", self.name(n)));
        id
    }
}
