//! Votes and bans in one conversation, and what the banned still get.

use super::repo::{Fetched, Repo, RepoError, Snapshot};
use super::timeline::Changes;
use starling_core::api::{self, MessageType};
use starling_core::id::{AccountId, DeviceId, ObjectId};
use starling_core::swarm::ballot::{self, Ballot, Subject};
use starling_core::swarm::members::Role;
use starling_core::swarm::merge::Relation;
use starling_core::swarm::path::Direction;
use starling_core::swarm::write::{Repository, WriteError};
use std::collections::BTreeSet;

/// What became of a vote.
#[derive(Debug)]
pub struct Voted {
    /// How it stood, with our vote.
    pub ballot: Ballot,
    /// It was carried out.
    pub decided: bool,
    /// What that changed for a reader.
    pub changes: Changes,
}

impl Repo {
    /// Votes, and carries the vote out when that decides: both are on the disk when this returns.
    /// Who has voted already, and finds that it is enough by now, carries it out.
    pub fn vote(
        &mut self,
        direction: Direction,
        subject: Subject,
        now_unix: u64,
    ) -> Result<Voted, RepoError> {
        let voted = self.write(now_unix, |repo, writer, now| {
            repo.vote(writer, direction, subject, now)
        });
        let mut changes = match voted {
            Ok((_, changes)) => Some(changes),
            Err(RepoError::Write(WriteError::AlreadyVoted)) => None,
            Err(e) => return Err(e),
        };
        let ballot =
            Repository::new(&*self.store, self.id, self.head)?.ballot(direction, subject)?;
        let mut decided = false;
        if ballot.is_decided() {
            let resolved = self.write(now_unix, |repo, writer, now| {
                repo.resolve(writer, direction, subject, now)
            });
            match (resolved, &mut changes) {
                (Ok((_, more)), Some(changes)) => {
                    changes.append(more);
                    decided = true;
                }
                (Ok((_, more)), None) => {
                    changes = Some(more);
                    decided = true;
                }
                (Err(e), None) => return Err(e),
                // The vote is cast and stays; voting again carries it out.
                (Err(e), Some(_)) => {
                    tracing::error!(conversation = %self.id, %e, "a vote is decided, and not carried out");
                }
            }
        }
        Ok(Voted {
            ballot,
            decided,
            changes: changes.ok_or(WriteError::AlreadyVoted)?,
        })
    }

    /// Whose a device is, if it has written here.
    pub fn owner(&self, device: DeviceId) -> Result<Option<AccountId>, RepoError> {
        Ok(Repository::new(&*self.store, self.id, self.head)?.owner(device)?)
    }

    /// Remembers by which commits people and devices were banned. Those of before we came are not
    /// known: others tell the banned of them.
    pub(super) fn note_bans(&mut self, changes: &Changes) {
        let mut news = false;
        for id in &changes.shown {
            let Some(entry) = self.timeline.entry(id) else {
                continue;
            };
            let field = |key: &str| entry.now.fields.get(key).map_or("", String::as_str);
            if (field("type"), field("action")) == ("member", "ban") {
                self.progress.bans.insert(field("uri").to_owned(), *id);
                news = true;
            }
        }
        if news
            && let Err(e) = self
                .state
                .put("progress", &self.id.to_hex(), &self.progress)
        {
            // The banned one learns of it from somebody else.
            tracing::warn!(conversation = %self.id, %e, "a ban is not remembered");
        }
    }

    /// Whether a device has fetched a ban. To stand after it says little: where we had something else and
    /// merged the ban, what was fetched before may do so.
    fn has_heard(&self, device: &Fetched, ban: &ObjectId) -> bool {
        let has = self.has(&device.commit, ban);
        has && matches!(self.relation(device.commit, *ban), Ok(Relation::UpToDate))
    }

    /// The commit of which a banned person, or device, has yet to hear; that far they may fetch.
    pub fn unaware_of(&self, who: &AccountId, device: &DeviceId) -> Option<ObjectId> {
        let id = match self.snapshot.role(who) {
            Some(Role::Banned) => who.to_hex(),
            _ if self.snapshot.banned_devices.contains(device) => device.to_hex(),
            _ => return None,
        };
        let ban = *self.progress.bans.get(&id)?;
        let heard = self.progress.fetched.get(device);
        (!heard.is_some_and(|f| self.has_heard(f, &ban))).then_some(ban)
    }

    /// Banned people of whom no device has fetched the commit that says so.
    pub(super) fn unaware(&self, snapshot: &Snapshot) -> BTreeSet<AccountId> {
        let banned = snapshot.members.iter().filter(|m| m.role == Role::Banned);
        let unaware = banned.filter(|m| {
            self.progress.bans.get(&m.id.to_hex()).is_some_and(|ban| {
                let mut devices = self.progress.fetched.values();
                !devices.any(|f| f.account == m.id && self.has_heard(f, ban))
            })
        });
        unaware.map(|m| m.id).collect()
    }

    /// Completes what the commit's message alone does not tell: what a vote is for, whose a
    /// banned device is, and what of a profile changed.
    pub(super) fn say_what_about(&self, message: &mut api::Message) {
        if message.kind == MessageType::Profile {
            message.profile = self.profile_change(message.id);
            return;
        }
        if message.member.is_some()
            || !matches!(message.kind, MessageType::Vote | MessageType::Member)
        {
            return;
        }
        let Some(about) = ballot::about(&*self.store, self.id, message.id) else {
            return;
        };
        message.member = about.account.map(|id| api::MemberChange {
            id,
            device: match about.subject {
                Subject::Device(device) => Some(device),
                Subject::Account(_) => None,
            },
            action: match about.direction {
                Direction::Ban => api::MemberAction::Ban,
                Direction::Unban => api::MemberAction::Unban,
            },
        });
    }
}
