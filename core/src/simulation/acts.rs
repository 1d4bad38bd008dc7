//! What people do.

use super::config::Broken;
use super::replica::Trouble;
use super::world::{Entry, Event, Life, World};
use crate::id::{AccountId, ObjectId};
use crate::swarm::ballot::Subject;
use crate::swarm::members::{Profile, Role};
use crate::swarm::message::Message;
use crate::swarm::object::{Kind, Objects as _};
use crate::swarm::path::Direction;
use crate::swarm::write::WriteError;
use core::time::Duration;

/// Something a person wants done; after a crash they see to it that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    Text(String),
    Reaction(ObjectId),
    Edit(String, ObjectId),
    Profile(String),
    /// To ask in the devices of an account.
    Invite(usize),
    Join,
    Leave,
    /// To vote, and to carry it out.
    Vote(Direction, Subject),
    Resolve(Direction, Subject),
}

impl World {
    /// Somebody does something.
    pub(crate) fn act(&mut self) {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            let gap = u64::try_from(self.config.gap.as_millis()).unwrap_or(1);
            let wait = self.rng.ms(0, gap * 2);
            self.after(wait, Event::Act);
        }
        let able: Vec<usize> = (0..self.devs.len())
            .filter(|n| {
                let dev = &self.devs[*n];
                dev.up
                    && dev.life == Life::In
                    && dev.wants.is_none()
                    && dev.replica.admits(dev.replica.device)
            })
            .collect();
        let Some(n) = self.rng.pick(&able).copied() else {
            return;
        };
        let wish = self.draw(n);
        if let Wish::Vote(direction, who) = wish
            && self.config.admins > 1
        {
            self.vote_together(n, direction, who);
        }
        self.wish(n, wish);
    }

    /// A vote is seldom alone: other admins, and other devices of the same one, vote for the same
    /// at the same moment, or for the opposite; and whom it is about leaves, or does something.
    fn vote_together(&mut self, n: usize, direction: Direction, who: Subject) {
        for other in 0..self.devs.len() {
            let dev = &self.devs[other];
            let (id, admin) = (dev.id(), dev.replica.role(&dev.id()) == Some(Role::Admin));
            if other == n || !dev.honest() || !dev.up || dev.life != Life::In || dev.wants.is_some()
            {
                continue;
            }
            if Subject::Account(id) == who || Subject::Device(dev.replica.device.id) == who {
                match self.rng.below(10) {
                    0..2 => self.wish(other, Wish::Leave),
                    2..4 => {
                        let text = format!("{} is still there {}", self.name(other), self.left);
                        self.wish(other, Wish::Text(text));
                    }
                    _ => {}
                }
            } else if admin && self.rng.permille(400) {
                let opposite = match direction {
                    Direction::Ban => Direction::Unban,
                    Direction::Unban => Direction::Ban,
                };
                let direction = if self.rng.permille(100) {
                    opposite
                } else {
                    direction
                };
                self.wish(other, Wish::Vote(direction, who));
            }
        }
    }

    /// A vote that others have begun.
    fn begun(&mut self, n: usize) -> Option<Wish> {
        let own = self.devs[n].id();
        let mut open: Vec<_> = self.devs[n]
            .replica
            .ballots(&self.pool)
            .into_iter()
            .map(|b| (b.direction, b.target, b.account))
            .collect();
        open.retain(|(.., account)| *account != Some(own));
        let (direction, target, _) = self.rng.pick(&open).copied()?;
        Some(Wish::Vote(direction, target.into()))
    }

    fn draw(&mut self, n: usize) -> Wish {
        let text = |world: &World| format!("{} says {}", world.name(n), world.left);
        if !self.devs[n].honest() {
            return Wish::Text(text(self));
        }
        let own = self.devs[n].id();
        let admin = self.devs[n].replica.role(&own) == Some(Role::Admin);
        // What one begins, others carry on.
        if admin
            && self.config.admins > 1
            && self.rng.permille(500)
            && let Some(wish) = self.begun(n)
        {
            return wish;
        }
        // The one that made the group stays to the end.
        let maker = self.devs[0].id();
        match self.rng.below(100) {
            0..12 => {
                let account = self.rng.below(self.config.accounts);
                Wish::Invite(account)
            }
            12..15 if n > 0 && self.devs[n].account > 0 => Wish::Leave,
            15..25 if admin => {
                let roles = self.devs[n].replica.roles.clone();
                let able: Vec<AccountId> = roles
                    .iter()
                    .filter(|(id, role)| **id != own && **id != maker && **role != Role::Banned)
                    .map(|(id, _)| *id)
                    .collect();
                let bad: Vec<AccountId> = able
                    .iter()
                    .filter(|id| self.devs.iter().any(|d| d.id() == **id && !d.honest()))
                    .copied()
                    .collect();
                let list = if self.rng.permille(700) && !bad.is_empty() {
                    bad
                } else {
                    able
                };
                let who = self.rng.pick(&list).copied();
                let device = who.filter(|_| self.rng.permille(250));
                let device = device.and_then(|who| self.devs.iter().find(|d| d.id() == who));
                match who {
                    Some(who) => Wish::Vote(
                        Direction::Ban,
                        device.map_or(who.into(), |d| d.replica.device.id.into()),
                    ),
                    None => Wish::Text(text(self)),
                }
            }
            25..30 if admin => {
                let roles = self.devs[n].replica.roles.iter();
                let banned: Vec<AccountId> = roles
                    .filter(|(_, role)| **role == Role::Banned)
                    .map(|(id, _)| *id)
                    .collect();
                match self.rng.pick(&banned) {
                    Some(who) => Wish::Vote(Direction::Unban, (*who).into()),
                    None => Wish::Text(text(self)),
                }
            }
            30..38 if admin => Wish::Profile(format!("title {}", self.left)),
            38..48 => match self.own_text(n) {
                Some(id) => Wish::Edit(format!("{}, better", text(self)), id),
                None => Wish::Text(text(self)),
            },
            48..55 => match self.devs[n].replica.order.order().last() {
                Some(id) => Wish::Reaction(*id),
                None => Wish::Text(text(self)),
            },
            _ => Wish::Text(text(self)),
        }
    }

    fn own_text(&self, n: usize) -> Option<ObjectId> {
        let mut own = self.ledger.iter().rev();
        own.find(|e| {
            e.dev == n && e.body.is_some() && self.devs[n].replica.known.contains_key(&e.commit)
        })
        .map(|e| e.commit)
    }

    /// The text of a commit that is one.
    pub(crate) fn body(&self, n: usize, id: &ObjectId) -> Option<String> {
        match self.devs[n].replica.view(&self.pool).object(id) {
            Some((Kind::Commit, data)) => {
                let commit = crate::swarm::commit::Commit::parse(&data).ok()?;
                match Message::parse(&commit.message).ok()? {
                    Message::Text { body, .. } => Some(body),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// After a crash: what was not done is done now.
    pub(crate) fn resume(&mut self, n: usize) {
        let Some(wish) = self.devs[n].wants.take() else {
            return;
        };
        if let Wish::Text(body) = &wish
            && self.config.broken != Broken::WritesAgain
        {
            let order = self.devs[n].replica.order.order();
            if order
                .iter()
                .any(|id| self.body(n, id).as_ref() == Some(body))
            {
                return;
            }
        }
        self.wish(n, wish);
    }

    /// Does something on a device, by the real operation.
    pub(crate) fn wish(&mut self, n: usize, wish: Wish) {
        self.devs[n].wants = Some(wish.clone());
        let now_unix = self.unix(n);
        let invited = match &wish {
            Wish::Invite(account) => self
                .devs
                .iter()
                .find(|d| d.account == *account)
                .map(|d| d.id()),
            _ => None,
        };
        let mut power = Self::power(&mut self.rng, &mut self.counts.writes, &self.config);
        let dev = &mut self.devs[n];
        let before = (
            dev.replica.head,
            (dev.replica.roles.clone(), dev.replica.banned.clone()),
        );
        let done = dev.replica.write(
            &mut self.pool,
            &mut power,
            now_unix,
            |r, w, t| match &wish {
                Wish::Text(body) => r.message(w, Message::text(body, None), t),
                Wish::Reaction(to) => r.message(w, Message::reaction("+", *to), t),
                Wish::Edit(body, of) => r.message(w, Message::edit(body, *of), t),
                Wish::Profile(title) => {
                    let change = Profile {
                        title: Some(title.clone()),
                        ..Profile::default()
                    };
                    r.update_profile(w, change, t)
                }
                Wish::Invite(_) => r.add(w, invited.ok_or(WriteError::NotThere)?, t),
                Wish::Join => r.join(w, t),
                Wish::Leave => r.leave(w, t),
                Wish::Vote(direction, who) => r.vote(w, *direction, *who, t),
                Wish::Resolve(direction, who) => r.resolve(w, *direction, *who, t),
            },
        );
        drop(power);
        let head = dev.replica.head;
        // Whom a ban is about may write meanwhile; nobody looks at what the banned have.
        let bans = matches!(wish, Wish::Resolve(Direction::Ban, _));
        if head != before.0 && (!self.devs[n].honest() || bans || self.wrote_apart(n)) {
            self.counts.at_once += 1;
        }
        if head != before.0
            && let Some(commit) = head
            && self.devs[n].honest()
        {
            // It is on the disk, whatever came after.
            let body = match &wish {
                Wish::Text(body) => Some(body.clone()),
                _ => None,
            };
            self.log(|| format!("{} writes {commit:.8}: {wish:?}", self.name(n)));
            self.ledger.push(Entry {
                dev: n,
                commit,
                body,
            });
        }
        match done {
            Err(Trouble::Crash) => return self.crash(n),
            Err(Trouble::Write(e)) => {
                self.devs[n].wants = None;
                if let WriteError::Repository(_) | WriteError::Merge(_) | WriteError::Crypto(_) = e
                {
                    self.wrong
                        .push(format!("{}: {wish:?} fails: {e}", self.name(n)));
                }
                if let (Wish::Leave, WriteError::NotAMember) = (&wish, &e) {
                    // It was done before the crash.
                    self.left_by(n);
                }
                if let (Wish::Invite(account), WriteError::AlreadyInvited) = (&wish, &e) {
                    self.send_invitation(n, *account);
                }
                if let (Wish::Vote(direction, who), WriteError::AlreadyVoted) = (&wish, &e) {
                    self.wish(n, Wish::Resolve(*direction, *who));
                }
                return;
            }
            Ok(_) => {}
        }
        match wish {
            // They may bring what they wrote meanwhile.
            Wish::Resolve(Direction::Unban, Subject::Account(who)) => {
                let devs = &self.devs;
                self.late.retain(|(by, _)| devs[*by].id() != who);
            }
            Wish::Resolve(Direction::Ban, Subject::Device(_)) => self.counts.devices_banned += 1,
            _ => {}
        }
        if matches!(wish, Wish::Resolve(..)) && self.config.admins > 1 {
            self.counts.decided += 1;
        }
        self.devs[n].wants = None;
        self.counts.changed_at = self.now;
        let now = self.now;
        if let (Some(spread), Some(head)) = (&mut self.devs[n].spread, head) {
            spread.wrote(head, now);
        }
        if let Some(head) = head {
            self.daemon_wrote(n, head, wish == Wish::Join);
        }
        self.reach_out(n);
        match &wish {
            Wish::Leave => self.left_by(n),
            Wish::Invite(account) => self.send_invitation(n, *account),
            Wish::Join => {
                self.devs[n].life = Life::In;
                self.tell_own_devices(n);
                for other in self.linked(n) {
                    self.greet(other, n);
                    self.drain(other);
                }
            }
            _ => {}
        }
        self.follow_roles(n, &before.1);
        self.drain(n);
        if let Wish::Vote(direction, who) = wish {
            self.wish(n, Wish::Resolve(direction, who));
        }
    }

    /// The account has left: its devices take in nothing more.
    fn left_by(&mut self, n: usize) {
        let account = self.devs[n].account;
        for n in 0..self.devs.len() {
            let dev = &mut self.devs[n];
            if dev.account != account || dev.life == Life::Stranger {
                continue;
            }
            dev.life = Life::Left;
            if let Some(spread) = &mut dev.spread {
                spread.only_tell();
            }
            self.follow_members(n);
        }
    }

    /// The invitation travels by itself, to one device or to all that the person has.
    fn send_invitation(&mut self, by: usize, account: usize) {
        let devices: Vec<usize> = (0..self.devs.len())
            .filter(|n| self.devs[*n].account == account)
            .collect();
        let all = self.rng.permille(200);
        let one = self.rng.pick(&devices).copied();
        for n in devices {
            if all || Some(n) == one {
                self.acquaint(by, n);
                let wait = self.rng.ms(500, 20_000);
                self.after(wait, Event::Invite(n));
            }
        }
    }

    fn tell_own_devices(&mut self, n: usize) {
        let account = self.devs[n].account;
        for other in 0..self.devs.len() {
            if other != n && self.devs[other].account == account {
                let wait = self.rng.ms(500, 5_000);
                self.after(wait, Event::Invite(other));
            }
        }
    }

    /// An invitation arrives, and is accepted.
    pub(crate) fn invited(&mut self, n: usize) {
        if !self.devs[n].up {
            return self.after(Duration::from_secs(10), Event::Invite(n));
        }
        match self.devs[n].life {
            Life::In | Life::Invited => return,
            Life::Left => {
                // What was left is gone.
                self.vanish(n);
                self.devs[n].replica.erase();
                self.devs[n].forget_fetches();
                self.ledger.retain(|e| e.dev != n);
            }
            Life::Stranger => {}
        }
        self.log(|| format!("{} is invited", self.name(n)));
        self.devs[n].life = Life::Invited;
        // Who copies anew may get it from whoever wrote it, without the ban.
        self.late.clear();
        self.start_engine(n);
    }

    /// A copy may have become a membership.
    pub(crate) fn came_in(&mut self, n: usize) {
        let dev = &self.devs[n];
        if dev.life != Life::Invited || dev.replica.head.is_none() || dev.wants.is_some() {
            return;
        }
        match dev.replica.role(&dev.id()) {
            Some(Role::Admin | Role::Member) => {
                self.devs[n].life = Life::In;
                self.tell_own_devices(n);
            }
            Some(Role::Invited) => self.wish(n, Wish::Join),
            _ => {}
        }
    }
}
