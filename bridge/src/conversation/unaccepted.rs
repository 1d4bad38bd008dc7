//! What one wrote and the others go on without.
//!
//! Whoever is banned learns of it later than it happened. What they wrote in between has no place
//! in the history any more; it stays visible for them, marked, right after the ban.

use super::repo::{Repo, RepoError};
use super::timeline::Changes;
use serde::{Deserialize, Serialize};
use starling_core::api::{self, MessageStatus, MessageType};
use starling_core::id::ObjectId;
use starling_core::swarm::ancestry::Walker;
use starling_core::swarm::message::Message as Swarm;
use starling_core::swarm::validate::MAX_COMMITS;

/// Most messages that are kept so, the newest: who writes more than that without hearing from
/// anybody has a conversation with themselves.
const MAX_KEPT: usize = 1000;

/// A message that is in no history but was in ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Unaccepted {
    /// The message it is shown after.
    after: ObjectId,
    /// As it was last shown.
    message: api::Message,
    /// It was about to be written again: if that was interrupted, it may have been.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    sending: bool,
}

/// What came of sending a kept message again.
#[derive(Debug)]
pub struct Resent {
    /// The message that takes its place.
    pub id: ObjectId,
    /// What that changed for a reader.
    pub changes: Changes,
    /// The message after which the kept one stood.
    pub after: ObjectId,
}

impl Repo {
    /// Keeps one's own messages that are lost when another head is taken without a merge. On the
    /// disk before the head moves.
    pub(super) fn keep_what_is_lost(&mut self, theirs: ObjectId) -> Result<(), RepoError> {
        let lost = Walker::new(&*self.store)
            .new_commits(self.head, theirs, MAX_COMMITS)
            .map_err(|e| super::timeline::Damaged(e.to_string()))?;
        let own = self.own();
        let mut messages: Vec<api::Message> = lost
            .keys()
            .filter_map(|id| self.timeline.entry(id))
            .filter(|e| e.now.author == own)
            .map(|e| e.to_api())
            .filter(|m| {
                !matches!(
                    m.kind,
                    MessageType::Initial
                        | MessageType::Member
                        | MessageType::Vote
                        | MessageType::Profile
                )
            })
            .collect();
        messages.sort_by(|a, b| {
            let after =
                |x: &api::Message, y: &api::Message| self.timeline.is_after(&x.id, Some(&y.id));
            after(a, b).cmp(&after(b, a))
        });
        let kept = &mut self.progress.unaccepted;
        for mut message in messages {
            kept.retain(|u| u.message.id != message.id);
            message.unaccepted = true;
            message.status = MessageStatus::default();
            kept.push(Unaccepted {
                after: theirs,
                message,
                sending: false,
            });
        }
        let excess = kept.len().saturating_sub(MAX_KEPT);
        kept.drain(..excess);
        self.state
            .put("progress", &self.id.to_hex(), &self.progress)?;
        Ok(())
    }

    /// The head has moved: what is part of the history after all needs no keeping, and the rest
    /// stands after a message that is shown, which the new head is only if it is no merge.
    pub(super) fn place_what_was_lost(&mut self, theirs: ObjectId) {
        if self.progress.unaccepted.is_empty() {
            return;
        }
        let mut kept = std::mem::take(&mut self.progress.unaccepted);
        let before = kept.len();
        kept.retain(|u| self.timeline.entry(&u.message.id).is_none());
        let mut changed = kept.len() != before;
        if self.timeline.entry(&theirs).is_none()
            && let Some(last) = self.timeline.last().map(|m| m.id)
        {
            for lost in kept.iter_mut().filter(|u| u.after == theirs) {
                lost.after = last;
                changed = true;
            }
        }
        self.progress.unaccepted = kept;
        if changed
            && let Err(e) = self
                .state
                .put("progress", &self.id.to_hex(), &self.progress)
        {
            tracing::warn!(conversation = %self.id, %e, "where lost messages stand is not kept");
        }
    }

    /// A message of one's own that is in no history.
    pub(super) fn unaccepted(&self, id: &ObjectId) -> Option<api::Message> {
        let at = self
            .progress
            .unaccepted
            .iter()
            .position(|u| u.message.id == *id)?;
        // Kept, and then the head did not move after all.
        if self.timeline.entry(id).is_some() {
            return None;
        }
        let kept = self.progress.unaccepted.get(at)?;
        let mut message = kept.message.clone();
        message.previous = Some(self.before(at, kept.after));
        Some(message)
    }

    /// Writes the words of a kept message again; it is kept no longer then. `None`: there is no
    /// such message, or no more.
    pub fn resend(&mut self, id: ObjectId, now_unix: u64) -> Result<Option<Resent>, RepoError> {
        let (Some(message), Some(after)) = (self.unaccepted(&id), self.place_of(&id)) else {
            return Ok(None);
        };
        let Some(body) = message.body.filter(|_| message.kind == MessageType::Text) else {
            return Ok(None);
        };
        // What it answered may be lost as well.
        let reply_to = message
            .reply_to
            .filter(|to| self.timeline.entry(to).is_some());
        let mut interrupted = false;
        for kept in &mut self.progress.unaccepted {
            if kept.message.id == id {
                interrupted = std::mem::replace(&mut kept.sending, true);
            }
        }
        let written = match interrupted {
            true => self.written_since(&after, &body, reply_to),
            false => None,
        };
        let (new, changes) = match written {
            Some(new) => (new, Changes::default()),
            None => {
                // On the disk before it is written: an interruption in between never makes two.
                self.state
                    .put("progress", &self.id.to_hex(), &self.progress)?;
                self.write(now_unix, |repo, writer, now| {
                    repo.message(writer, Swarm::text(body, reply_to), now)
                })?
            }
        };
        self.progress.unaccepted.retain(|u| u.message.id != id);
        if let Err(e) = self
            .state
            .put("progress", &self.id.to_hex(), &self.progress)
        {
            // It is written. At the next start it is still marked as being sent, and found.
            tracing::warn!(conversation = %self.id, %e, "a message that was sent again is still kept");
        }
        Ok(Some(Resent {
            id: new,
            changes,
            after,
        }))
    }

    /// A message of one's own after another one that says exactly this.
    fn written_since(
        &self,
        after: &ObjectId,
        body: &str,
        reply_to: Option<ObjectId>,
    ) -> Option<ObjectId> {
        let own = self.own();
        let since = self
            .timeline
            .between(Some(after), &self.head, &own, MAX_KEPT);
        since.into_iter().find(|id| {
            let entry = self.timeline.entry(id).map(|e| e.to_api());
            entry.is_some_and(|m| m.body.as_deref() == Some(body) && m.reply_to == reply_to)
        })
    }

    /// What stands before a kept message: the one kept before it at the same place, if any.
    fn before(&self, at: usize, after: ObjectId) -> ObjectId {
        let earlier = self.progress.unaccepted.get(..at).unwrap_or_default();
        let here =
            |u: &&Unaccepted| u.after == after && self.timeline.entry(&u.message.id).is_none();
        let same = earlier.iter().rev().find(here);
        same.map_or(after, |u| u.message.id)
    }

    /// The kept messages that stand after one, oldest first.
    fn kept_after(&self, id: &ObjectId) -> impl Iterator<Item = api::Message> + '_ {
        let id = *id;
        let here = self.progress.unaccepted.iter();
        here.filter(move |u| u.after == id)
            .filter_map(|u| self.unaccepted(&u.message.id))
    }

    /// Puts the kept messages where they belong in a piece of history.
    pub(super) fn with_unaccepted(&self, page: Vec<api::Message>) -> Vec<api::Message> {
        if self.progress.unaccepted.is_empty() {
            return page;
        }
        let mut out = Vec::with_capacity(page.len());
        for message in page {
            let id = message.id;
            out.push(message);
            out.extend(self.kept_after(&id));
        }
        out
    }

    /// The newest message, a kept one if it stands last.
    pub(super) fn last_or_kept(&self, last: Option<api::Message>) -> Option<api::Message> {
        let kept = last.as_ref().and_then(|m| self.kept_after(&m.id).last());
        kept.or(last)
    }

    /// What of the history stands before the place of a message, itself included where it is not
    /// part of the history.
    pub(super) fn place_of(&self, id: &ObjectId) -> Option<ObjectId> {
        let kept = &self.progress.unaccepted;
        kept.iter()
            .find(|u| u.message.id == *id)
            .filter(|_| self.timeline.entry(id).is_none())
            .map(|u| u.after)
    }

    /// Up to where the history was read by whoever has read this: what is in no history stands after something that is.
    pub fn read_place(&self, id: ObjectId) -> ObjectId {
        self.place_of(&id).unwrap_or(id)
    }

    /// Commits for a page to validate: see `Timeline::window`. A message that is in no history
    /// stands for itself.
    pub fn window(&self, from: Option<&ObjectId>, limit: usize) -> Option<Vec<ObjectId>> {
        match from {
            Some(id) if self.place_of(id).is_some() => Some(vec![*id]),
            from => self.timeline.window(from, limit),
        }
    }
}
