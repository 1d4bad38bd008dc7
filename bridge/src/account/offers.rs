//! Conversations of two that contacts offer each other: when both ask at once, or one of them lost
//! theirs, both go on in one and the same.

use super::book::{Local, Offered};
use super::{Account, AccountError, now_ms};
use crate::store::state::StateError;
use starling_core::account::{ConvInfo, MODE_ONE_TO_ONE, Offer};
use starling_core::api::{Event, MemberAction, MessageType};
use starling_core::id::{AccountId, ConversationId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far back it is looked for when somebody came into a conversation of two: they do so in its
/// first commits, and what is further back than this is long ago.
const LOOK_BACK: usize = 1000;

impl Account {
    /// Answers a request that came in while its sender was being made a contact: from then on
    /// nobody would, since contacts need not ask.
    pub(super) async fn settle_crossing(
        self: &Arc<Self>,
        id: AccountId,
    ) -> Result<(), AccountError> {
        let waiting = self
            .book
            .ask(move |b| -> Result<_, StateError> {
                let waiting = b
                    .requests()
                    .find(|r| r.from == id && r.mode() == MODE_ONE_TO_ONE)
                    .map(|r| r.conversation);
                let Some(conversation) = waiting else {
                    return Ok(None);
                };
                b.confirm(id)?;
                b.take_request(&conversation)?;
                let offered = b.local(&conversation).offered;
                Ok(Some((conversation, offered)))
            })
            .await??;
        let Some((conversation, offered)) = waiting else {
            return Ok(());
        };
        self.emit(Event::RequestRemoved {
            account: self.id.clone(),
            conversation,
        });
        let theirs = Offer {
            conversation,
            offered_ms: offered.map_or(0, |o| o.at_ms),
        };
        self.offered(id, theirs, offered.is_some_and(|o| o.newest_counts))
            .await
    }

    /// A contact offers a conversation of two. Both sides come to the same one; see
    /// [`Offer::replaces`].
    pub(super) async fn offered(
        self: &Arc<Self>,
        from: AccountId,
        theirs: Offer,
        newest_counts: bool,
    ) -> Result<(), AccountError> {
        let ours = self.book.ask(move |b| b.offer(&from)).await?;
        if let Some(ours) = ours {
            let joined_ms = self.joined_ms(ours.conversation, from).await;
            if !theirs.replaces(&ours, newest_counts, joined_ms) {
                tracing::debug!(%from, offered = %theirs.conversation, kept = %ours.conversation, "an offer of a contact");
                self.owe(from, ours.conversation).await?;
                let another = theirs.conversation != ours.conversation;
                if another && !newest_counts && joined_ms.is_none() {
                    // They come over when they hear of ours as of one of a contact.
                    self.ask_again(from, ours);
                }
                return Ok(());
            }
            tracing::debug!(%from, taken = %theirs.conversation, instead_of = %ours.conversation, "an offer of a contact");
        }
        let replaces = match ours.map(|o| o.conversation) {
            Some(ours) => self.give_up_for(ours, from).await?,
            None => None,
        };
        self.join_silently(from, theirs, newest_counts, replaces)
            .await?;
        self.owe(from, theirs.conversation).await?;
        self.emit_contact(from, false).await
    }

    /// Owes a person a confirmation, and sends it when it can.
    async fn owe(
        self: &Arc<Self>,
        id: AccountId,
        conversation: ConversationId,
    ) -> Result<(), AccountError> {
        self.book.ask(move |b| b.owe(id, conversation)).await??;
        self.forget_asked(id, true);
        self.wake.notify_one();
        Ok(())
    }

    /// When a person came into a conversation that is here, unix ms by their clock, rounded up to
    /// the second that its commit says; 0 when it is long ago.
    async fn joined_ms(self: &Arc<Self>, id: ConversationId, who: AccountId) -> Option<u64> {
        let conversation = self.conversation(&id)?;
        if !conversation.snapshot().takes_part(&who) {
            return None;
        }
        let (messages, _) = self.history(id, None, LOOK_BACK).await.ok()?;
        let joined = messages.iter().rev().find(|m| {
            let change = m.member.as_ref();
            change.is_some_and(|c| c.id == who && c.action == MemberAction::Join)
        });
        Some(joined.map_or(0, |m| {
            u64::try_from(m.sent_at).unwrap_or(0).saturating_add(1000)
        }))
    }

    /// Another conversation takes the place of ours with a person. Where nobody but us has it, it
    /// goes: at once when nothing was said in it, else ([`Self::move_words`]) when the other one is
    /// here. Gives it in that case.
    async fn give_up_for(
        self: &Arc<Self>,
        ours: ConversationId,
        with: AccountId,
    ) -> Result<Option<ConversationId>, AccountError> {
        let Some(conversation) = self.conversation(&ours) else {
            // They took it back before we had it.
            self.forget_conversation(ours).await?;
            return Ok(None);
        };
        if conversation.snapshot().takes_part(&with) {
            return Ok(None);
        }
        if conversation.ask(|r| r.timeline().len()).await? > 1 {
            return Ok(Some(ours));
        }
        drop(conversation);
        self.forget_conversation(ours).await?;
        Ok(None)
    }

    /// A conversation with a contact, that need not be asked about. It is that contact's from now on.
    async fn join_silently(
        self: &Arc<Self>,
        from: AccountId,
        theirs: Offer,
        newest_counts: bool,
        replaces: Option<ConversationId>,
    ) -> Result<(), AccountError> {
        let id = theirs.conversation;
        let new = self
            .book
            .ask(move |b| -> Result<bool, StateError> {
                let known = b.conversation(&id).is_some();
                let mut local = if known {
                    b.local(&id)
                } else {
                    Local::default()
                };
                local.offered = Some(Offered {
                    by: from,
                    at_ms: theirs.offered_ms,
                    newest_counts,
                });
                local.replaces = replaces.or(local.replaces);
                b.set_local(id, local)?;
                if !known {
                    let mut info = ConvInfo::new(id, MODE_ONE_TO_ONE, now_ms());
                    info.members.insert(from);
                    b.set_conversation(info)?;
                    b.take_request(&id)?;
                }
                b.change_contact(from, |c| c.add(now_ms(), Some(id), true))?;
                b.set_outgoing(&from, None)?;
                Ok(!known)
            })
            .await??;
        if new {
            self.emit(Event::ConversationSyncing {
                account: self.id.clone(),
                conversation: id,
            });
            self.start_clone(id);
        }
        Ok(())
    }

    /// Moves what was written in conversations that gave way to those which took their place, and
    /// erases them. Interrupted, it goes on with the next call.
    pub(super) async fn move_words(self: &Arc<Self>) -> Result<(), AccountError> {
        let moves = self.book.ask(|b| b.moves()).await?;
        let own = self.jami_id();
        for (from, to) in moves {
            if self.conversation(&to).is_none() {
                continue;
            }
            if self.conversation(&from).is_some() {
                let words = |messages: Vec<starling_core::api::Message>| {
                    messages
                        .into_iter()
                        .filter(move |m| m.kind == MessageType::Text && m.author == own)
                        .filter_map(|m| m.body)
                        .filter(|body| !body.is_empty())
                };
                let (written, _) = self.history(from, None, usize::MAX).await?;
                let (moved, _) = self.history(to, None, usize::MAX).await?;
                // Some were moved before an interruption.
                let mut there: BTreeMap<String, usize> = BTreeMap::new();
                for body in words(moved) {
                    *there.entry(body).or_default() += 1;
                }
                for body in words(written) {
                    match there.get_mut(&body) {
                        Some(n) if *n > 0 => *n -= 1,
                        _ => drop(self.send(to, body, None).await?),
                    }
                }
                self.forget_conversation(from).await?;
            }
            self.book
                .ask(move |b| {
                    let mut local = b.local(&to);
                    local.replaces = None;
                    b.set_local(to, local)
                })
                .await??;
        }
        Ok(())
    }
}
