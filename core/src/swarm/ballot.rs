//! Votes of the admins: bans, and their ends.
//!
//! A vote is an empty file in the tree; when more than half of the admins have one for the same
//! thing, any admin's next commit carries it out. Nobody can vote against: who is against it
//! does nothing.

use super::judge::Judge;
use super::message::{Action, Message};
use super::misbehaviour::Misbehaviour;
use super::object::Objects;
use super::path::{Direction, Standing, Target, TreePath};
use super::write::{Edits, Repository, WriteError, Writer, Written, blob};
use crate::id::{AccountId, ConversationId, DeviceId, ObjectId};
use std::collections::{BTreeMap, BTreeSet};

/// Who or what is voted about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A person, wherever they stand: admin, member or invited.
    Account(AccountId),
    /// One device of a person.
    Device(DeviceId),
}

impl From<AccountId> for Subject {
    fn from(id: AccountId) -> Self {
        Self::Account(id)
    }
}

impl From<DeviceId> for Subject {
    fn from(id: DeviceId) -> Self {
        Self::Device(id)
    }
}

impl From<Target> for Subject {
    fn from(target: Target) -> Self {
        match target {
            Target::Account(_, id) => Self::Account(id),
            Target::Device(id) => Self::Device(id),
        }
    }
}

/// A vote as it stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ballot {
    /// For a ban or for its end.
    pub direction: Direction,
    /// About whom, and where they stand.
    pub target: Target,
    /// The person: the target, or whose device it is, where its certificate says so.
    pub account: Option<AccountId>,
    /// The admins of now who have voted, in the order of their ids.
    pub voters: Vec<AccountId>,
    /// How many admins there are.
    pub admins: usize,
}

impl Ballot {
    /// So many votes decide: more than half of the admins. (The reference carries a vote out at
    /// more than half as well, and would accept exactly half.)
    pub fn needed(&self) -> usize {
        (self.admins / 2).saturating_add(1)
    }

    /// Whether there are enough.
    pub fn is_decided(&self) -> bool {
        self.voters.len() >= self.needed()
    }
}

/// What a vote, a ban or the end of one is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// For a ban or for its end.
    pub direction: Direction,
    /// Who or what.
    pub subject: Subject,
    /// The person: the subject, or whose device it is, where its certificate is there.
    pub account: Option<AccountId>,
}

/// What a vote, ban or unban commit is about; its message alone says neither whether a vote is
/// for a ban nor whose a banned device is. `None` for other commits, and for votes that change
/// nothing.
pub fn about(
    objects: &dyn Objects,
    conversation: ConversationId,
    commit: ObjectId,
) -> Option<About> {
    let mut judge = Judge::new(objects, conversation);
    let commit = judge.commit(commit).ok()?;
    let (direction, subject) = match Message::parse(&commit.message).ok()? {
        Message::Member { action, uri } => {
            let direction = match action {
                Action::Ban => Direction::Ban,
                Action::Unban => Direction::Unban,
                Action::Add | Action::Join | Action::Remove => return None,
            };
            let subject = match uri.parse::<DeviceId>() {
                Ok(device) => Subject::Device(device),
                Err(_) => Subject::Account(uri.parse().ok()?),
            };
            (direction, subject)
        }
        Message::Vote { .. } => {
            let before = judge.commit(*commit.parents.first()?).ok()?.tree;
            let changes = judge.trees.diff(Some(before), Some(commit.tree)).ok()?;
            changes.iter().find_map(|c| match c.path {
                TreePath::Vote(direction, target, _) => Some((direction, target.into())),
                _ => None,
            })?
        }
        _ => return None,
    };
    let account = match subject {
        Subject::Account(id) => Some(id),
        Subject::Device(id) => judge.owner(commit.tree, id).ok().flatten(),
    };
    Some(About {
        direction,
        subject,
        account,
    })
}

impl Judge<'_> {
    /// Whose a device is by its certificate in a tree, also when it is banned there.
    fn owner(
        &mut self,
        tree: ObjectId,
        device: DeviceId,
    ) -> Result<Option<AccountId>, Misbehaviour> {
        if let Some(account) = self.account_of(tree, device)? {
            return Ok(Some(account));
        }
        let path = TreePath::Banned(Target::Device(device));
        let Some(blob) = self.trees.lookup(tree, &path)? else {
            return Ok(None);
        };
        let certificate = self.certificate(blob, path)?;
        Ok(self.names_account(&certificate, device))
    }
}

impl Repository<'_> {
    /// Where the target of a vote is kept: for a ban among the living, to end it among the banned.
    fn find(&mut self, direction: Direction, subject: Subject) -> Result<Target, WriteError> {
        let tree = self.tree()?;
        let places: Vec<Target> = match subject {
            Subject::Account(who) => [Standing::Member, Standing::Admin, Standing::Invited]
                .map(|standing| Target::Account(standing, who))
                .into(),
            Subject::Device(device) => vec![Target::Device(device)],
        };
        for target in places {
            let path = match direction {
                Direction::Ban => TreePath::Live(target),
                Direction::Unban => TreePath::Banned(target),
            };
            if self.judge.has(tree, path)? {
                return Ok(target);
            }
        }
        Err(WriteError::NotThere)
    }

    /// The votes that can still decide something: about those who are where the vote looks for
    /// them, and with at least one vote of a present admin.
    pub fn ballots(&mut self) -> Result<Vec<Ballot>, WriteError> {
        let tree = self.tree()?;
        let mut cast: BTreeMap<(Direction, Target), BTreeSet<AccountId>> = BTreeMap::new();
        for (direction, target, voter) in self.votes()? {
            cast.entry((direction, target)).or_default().insert(voter);
        }
        let admins = self.judge.admins(tree)?;
        let mut out = Vec::with_capacity(cast.len());
        for ((direction, target), voters) in cast {
            let path = match direction {
                Direction::Ban => TreePath::Live(target),
                Direction::Unban => TreePath::Banned(target),
            };
            let voters: Vec<AccountId> = voters.intersection(&admins).copied().collect();
            if voters.is_empty() || !self.judge.has(tree, path)? {
                continue;
            }
            let account = match target {
                Target::Account(_, id) => Some(id),
                Target::Device(id) => self.judge.owner(tree, id)?,
            };
            out.push(Ballot {
                direction,
                target,
                account,
                voters,
                admins: admins.len(),
            });
        }
        Ok(out)
    }

    /// The devices that are banned, whosever they are.
    pub fn banned_devices(&mut self) -> Result<BTreeSet<DeviceId>, WriteError> {
        let tree = self.tree()?;
        let files = self.judge.trees.list(tree, &["banned", "devices"])?;
        Ok(files
            .iter()
            .filter_map(|(name, _)| name.strip_suffix(".crt")?.parse().ok())
            .collect())
    }

    /// Whose a device is by its certificate, also when it is banned. `None`: it is not there.
    pub fn owner(&mut self, device: DeviceId) -> Result<Option<AccountId>, WriteError> {
        let tree = self.tree()?;
        Ok(self.judge.owner(tree, device)?)
    }

    /// How the vote for or against somebody stands, with no vote cast as well.
    pub fn ballot(
        &mut self,
        direction: Direction,
        subject: impl Into<Subject>,
    ) -> Result<Ballot, WriteError> {
        let target = self.find(direction, subject.into())?;
        let tree = self.tree()?;
        let cast = self.ballots()?;
        if let Some(ballot) = cast
            .into_iter()
            .find(|b| (b.direction, b.target) == (direction, target))
        {
            return Ok(ballot);
        }
        let account = match target {
            Target::Account(_, id) => Some(id),
            Target::Device(id) => self.judge.owner(tree, id)?,
        };
        Ok(Ballot {
            direction,
            target,
            account,
            voters: Vec::new(),
            admins: self.judge.admins(tree)?.len(),
        })
    }

    /// Votes for a ban or for its end.
    pub fn vote(
        &mut self,
        writer: &Writer<'_>,
        direction: Direction,
        subject: impl Into<Subject>,
        now_unix: u64,
    ) -> Result<Written, WriteError> {
        let subject = subject.into();
        self.admin(writer)?;
        if [writer.account.into(), writer.device.into()].contains(&subject) {
            return Err(WriteError::Oneself);
        }
        let target = self.find(direction, subject)?;
        let path = TreePath::Vote(direction, target, writer.account);
        if self.judge.has(self.tree()?, path)? {
            return Err(WriteError::AlreadyVoted);
        }
        let (mut edits, mut objects) = (Edits::new(), Vec::new());
        self.own_certificates(writer, now_unix, &mut edits, &mut objects, false)?;
        edits.insert(path, Some(blob(&mut objects, b"")));
        self.on_head(
            writer,
            Message::Vote { uri: target.id() },
            edits,
            objects,
            now_unix,
        )
    }

    /// Carries out a ban, or its end, that has its majority.
    pub fn resolve(
        &mut self,
        writer: &Writer<'_>,
        direction: Direction,
        subject: impl Into<Subject>,
        now_unix: u64,
    ) -> Result<Written, WriteError> {
        let subject = subject.into();
        self.admin(writer)?;
        let tree = self.tree()?;
        let target = self.find(direction, subject)?;
        let admins = self.judge.admins(tree)?;
        let mut edits = Edits::new();
        let mut voters = BTreeSet::new();
        for (d, t, voter) in self.votes()? {
            if d == direction && t == target {
                edits.insert(TreePath::Vote(d, t, voter), None);
                voters.insert(voter);
            }
        }
        let votes = voters.intersection(&admins).count();
        if votes.saturating_mul(2) <= admins.len() {
            return Err(WriteError::NoMajority {
                votes,
                admins: admins.len(),
            });
        }
        let (live, banned) = (TreePath::Live(target), TreePath::Banned(target));
        let (from, to) = match direction {
            Direction::Ban => (live, banned),
            Direction::Unban => (banned, live),
        };
        let file = self
            .judge
            .trees
            .lookup(tree, &from)?
            .ok_or(WriteError::NotThere)?;
        edits.insert(from, None);
        edits.insert(to, Some(file));
        let mut objects = Vec::new();
        self.own_certificates(writer, now_unix, &mut edits, &mut objects, false)?;
        let action = match direction {
            Direction::Ban => Action::Ban,
            Direction::Unban => Action::Unban,
        };
        let message = match subject {
            Subject::Account(id) => Message::member(action, id),
            Subject::Device(id) => Message::device_ban(action, id),
        };
        self.on_head(writer, message, edits, objects, now_unix)
    }
}
