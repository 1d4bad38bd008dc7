//! How conversations come and go: opened, made, left, erased.

use super::{Account, AccountError, now_ms, now_unix};
use crate::conversation::Conversation;
use crate::conversation::repo::{Repo, RepoError};
use crate::store::state::StateError;
use starling_core::account::ConvInfo;
use starling_core::api::{ApiError, Event};
use starling_core::id::{AccountId, ConversationId};
use starling_core::swarm::members::Role;
use starling_core::swarm::message::ConversationMode as Mode;
use starling_core::swarm::write::WriteError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many seconds ahead of the clock a conversation is dated at most because others were made in those before, one in
/// each: as many as anybody makes at once.
const FOUNDED_AHEAD: u64 = 3600;

/// Whether a conversation that is opened is in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indexed {
    /// It has been; that it is not would be news.
    Before,
    /// It is new here.
    NotYet,
    /// It is new here, and every commit of it was validated.
    NotYetButChecked,
}

impl Account {
    /// Opens a conversation that is on the disk, and counts it among those here.
    pub(super) async fn open_conversation(
        self: &Arc<Self>,
        id: ConversationId,
        indexed: Indexed,
    ) -> Result<Conversation, AccountError> {
        let state = self.book.ask(|b| Self::state_of(b)).await?;
        let report = self.report_of(id, indexed != Indexed::Before);
        let index = (self.index.clone(), report);
        let checked = indexed == Indexed::NotYetButChecked;
        let mut conversation = tokio::task::block_in_place(|| {
            Conversation::open_with(&self.dir, id, state, self.me(), index, checked)
        })?;
        conversation.limits = self.context.bounds.history;
        self.shared().conversations.insert(id, conversation.clone());
        self.start_engines(&conversation);
        // Its members may connect now.
        self.peers.policy_changed();
        Ok(conversation)
    }

    /// Makes a conversation: on the disk, in the book, in the list.
    pub(super) async fn new_conversation(
        self: &Arc<Self>,
        mode: Mode,
        with: Option<AccountId>,
    ) -> Result<Conversation, AccountError> {
        let me = self.me();
        // Also those that were left: nobody takes one of them for a new one.
        let known = self.book.ask(|b| b.records().keys().copied().collect());
        let known = known.await?;
        // Of the seconds that are taken no other one needs to be signed for; but for those of a clock that was ahead.
        let now = now_unix();
        let unfounded = self.unfounded.load(Ordering::Relaxed);
        let from = match unfounded.saturating_sub(now) {
            0..=FOUNDED_AHEAD => now.max(unfounded),
            _ => now,
        };
        let (id, second) = tokio::task::block_in_place(|| {
            Conversation::found(&self.dir, &me, mode, with, &known, from)
        })
        .inspect_err(|e| self.say_if_full(e))?;
        let next = second.saturating_add(1);
        self.unfounded.store(next, Ordering::Relaxed);
        let mut info = ConvInfo::new(id, mode.number(), now_ms());
        info.members
            .extend(with.into_iter().chain([self.jami_id()]));
        self.book
            .ask(move |b| -> Result<(), StateError> {
                let mut local = b.local(&id);
                local.cloned = true;
                b.set_local(id, local)?;
                b.set_conversation(info)
            })
            .await??;
        let conversation = self
            .open_conversation(id, Indexed::NotYetButChecked)
            .await?;
        self.show_ready(&conversation).await;
        Ok(conversation)
    }

    /// Takes a conversation out of the list and off the disk, without a word to anyone.
    pub(super) async fn forget_conversation(
        self: &Arc<Self>,
        id: ConversationId,
    ) -> Result<(), AccountError> {
        self.book
            .ask(move |b| b.change_conversation(&id, |c| c.removed_ms = now_ms().max(c.created_ms)))
            .await??;
        self.erase(id).await?;
        self.emit(Event::ConversationRemoved {
            account: self.id.clone(),
            conversation: id,
        });
        Ok(())
    }

    /// Takes a conversation that is in no list any more off the disk.
    pub(super) async fn erase(self: &Arc<Self>, id: ConversationId) -> Result<(), AccountError> {
        self.book
            .ask(move |b| -> Result<(), StateError> {
                let mut local = b.local(&id);
                (local.left, local.cloned) = (None, false);
                b.set_local(id, local)?;
                b.change_conversation(&id, |c| {
                    c.erased_ms = now_ms().max(c.removed_ms);
                })
            })
            .await??;
        let conversation = {
            let mut shared = self.shared();
            shared.fetchers.retain(|(c, _), _| *c != id);
            shared.descents.retain(|(c, _), _| *c != id);
            if let Some(copying) = shared.copying.get(&id) {
                copying.look();
            }
            shared.conversations.remove(&id)
        };
        if let Some(conversation) = conversation {
            conversation.close().await;
        }
        if let Err(e) = self.index.remove(&id) {
            tracing::warn!(%e, "a removed conversation is still in the index");
        }
        let path = crate::conversation::path(&self.dir, &id);
        // What remains goes at the next start.
        match tokio::task::block_in_place(|| std::fs::remove_dir_all(&path)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%e, "a removed conversation is still on the disk");
            }
            _ => {}
        }
        self.shared().leaving.remove(&id);
        Ok(())
    }

    /// Leaves: says so to the others, and takes the conversation out of the list. Who leaves the
    /// conversation with a contact removes the contact: without it they could not be reached, and
    /// not be added again.
    pub async fn leave(self: &Arc<Self>, id: ConversationId) -> Result<(), AccountError> {
        let (known, contact) = self
            .book
            .ask(move |b| {
                let of = |c: &starling_core::account::Contact| {
                    c.is_active() && c.conversation == Some(id)
                };
                let contact = b.contacts().iter().find(|(_, c)| of(c));
                (b.conversation(&id).is_some(), contact.map(|(id, _)| *id))
            })
            .await?;
        if !known {
            return Err(
                ApiError::not_found(format!("This account has no conversation {id}.")).into(),
            );
        }
        if let Some(contact) = contact {
            return self.remove_contact(contact, false).await;
        }
        let Some(conversation) = self.conversation(&id) else {
            // Not cloned yet: nobody counts on us.
            return self.forget_conversation(id).await;
        };
        let own = self.jami_id();
        let others = conversation
            .snapshot()
            .members
            .iter()
            .any(|m| m.id != own && matches!(m.role, Role::Admin | Role::Member));
        // The power may have gone after it was written, and before that was noted.
        let written = conversation.ask(|r| r.own_leave()).await?;
        if others && (written.is_some() || conversation.snapshot().takes_part(&own)) {
            let left = match written {
                Some(left) => Ok((left, Default::default())),
                None => {
                    let leave =
                        |r: &mut Repo| r.write(now_unix(), |repo, w, now| repo.leave(w, now));
                    conversation.ask(leave).await?
                }
            };
            let left = match left {
                Ok((left, _)) => left,
                // This device is banned, or never wrote here: nobody would believe it.
                Err(RepoError::Write(WriteError::NotAMember | WriteError::DeviceBanned)) => {
                    return self.forget_conversation(id).await;
                }
                Err(e) => return Err(e.into()),
            };
            // Kept, out of sight, until somebody has fetched the leave; see `tidy`.
            self.shared().leaving.insert(id, left);
            self.book
                .ask(move |b| -> Result<(), StateError> {
                    let mut local = b.local(&id);
                    local.left = Some(left);
                    b.set_local(id, local)?;
                    b.change_conversation(&id, |c| c.removed_ms = now_ms().max(c.created_ms))
                })
                .await??;
            if let Err(e) = self.index.hide(&id) {
                tracing::warn!(%e, "a conversation that was left can still be searched");
            }
            self.tell_all(&conversation, None).await;
            self.emit(Event::ConversationRemoved {
                account: self.id.clone(),
                conversation: id,
            });
            return Ok(());
        }
        self.forget_conversation(id).await
    }
}
