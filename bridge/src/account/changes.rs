//! What becomes of messages that were sent: other words, none, and reactions.

use super::talk::fits;
use super::{Account, AccountError, now_unix};
use starling_core::api::{self, ApiError, ErrorCode, Event, MessageType};
use starling_core::id::{AccountId, ConversationId, ObjectId};
use starling_core::swarm::message::Message as Swarm;
use std::sync::Arc;

/// Longest reaction, in bytes: emoji joined from ten others stay below.
const MAX_EMOJI: usize = 64;

impl Account {
    /// The message that is to be changed or reacted to, as it is now.
    async fn live_message(
        &self,
        id: ConversationId,
        message: ObjectId,
    ) -> Result<api::Message, AccountError> {
        let found = self.message(id, message).await?;
        if found.unaccepted {
            // Others would refuse whatever is said about it.
            let text = "The others do not have this message. Write it again.";
            return Err(ApiError::new(ErrorCode::Conflict, text).into());
        }
        if is_deleted(&found) {
            return Err(ApiError::new(ErrorCode::Conflict, "The message was deleted.").into());
        }
        Ok(found)
    }

    /// The same, which has to be one's own.
    async fn own_message(
        &self,
        id: ConversationId,
        message: ObjectId,
    ) -> Result<api::Message, AccountError> {
        let found = self.live_message(id, message).await?;
        if found.author != self.jami_id() {
            let text = "Only your own messages can be changed.";
            return Err(ApiError::new(ErrorCode::NotAuthorised, text).into());
        }
        Ok(found)
    }

    /// Gives a text of one's own other words.
    pub async fn edit(
        self: &Arc<Self>,
        id: ConversationId,
        message: ObjectId,
        body: String,
    ) -> Result<ObjectId, AccountError> {
        if body.trim().is_empty() {
            let text = "A message cannot be changed to nothing. Delete it.";
            return Err(ApiError::invalid(text).into());
        }
        fits(&body)?;
        let now = self.own_message(id, message).await?;
        if now.kind != MessageType::Text {
            let text = "Only the words of a text can be changed.";
            return Err(ApiError::new(ErrorCode::Conflict, text).into());
        }
        if now.body.as_ref() == Some(&body) {
            // It says that already.
            return Ok(now.edits.first().map_or(message, |e| e.id));
        }
        self.write(id, move |repo, writer, now| {
            repo.message(writer, Swarm::edit(body, message), now)
        })
        .await
    }

    /// Takes the words, or the file, of a message of one's own away. Others may have kept them.
    pub async fn delete(
        self: &Arc<Self>,
        id: ConversationId,
        message: ObjectId,
    ) -> Result<(), AccountError> {
        let now = self.own_message(id, message).await?;
        let edit = match now.kind {
            MessageType::Text => Swarm::edit("", message),
            MessageType::File => Swarm::FileDeletion {
                edit: message.to_hex(),
            },
            _ => {
                let text = "Only texts and files can be deleted.";
                return Err(ApiError::new(ErrorCode::Conflict, text).into());
            }
        };
        self.write(id, move |repo, writer, now| repo.message(writer, edit, now))
            .await?;
        Ok(())
    }

    /// Sends a message again that the others go on without. Whatever happens, at most once: it is
    /// not kept any more then.
    pub async fn resend(
        self: &Arc<Self>,
        id: ConversationId,
        message: ObjectId,
    ) -> Result<ObjectId, AccountError> {
        let conversation = self.need_conversation(&id)?;
        self.may_write(&conversation)?;
        let sent = conversation
            .ask(move |r| r.resend(message, now_unix()))
            .await?
            .inspect_err(|e| self.say_if_full(e))?;
        let Some(sent) = sent else {
            let text = "There is no such message to send again: the others have it.";
            return Err(ApiError::not_found(text).into());
        };
        self.show_changes(&conversation, sent.changes, true).await;
        // What was kept does not stand where it stood any more.
        self.emit(Event::ConversationReordered {
            account: self.id.clone(),
            conversation: id,
            after: Some(sent.after),
        });
        self.tell_all(&conversation, None).await;
        self.mark_read(id, sent.id, false).await?;
        Ok(sent.id)
    }

    /// Reacts to a message. The same reaction twice is one.
    pub async fn react(
        self: &Arc<Self>,
        id: ConversationId,
        message: ObjectId,
        emoji: String,
    ) -> Result<ObjectId, AccountError> {
        if emoji.trim().is_empty() || emoji.len() > MAX_EMOJI || emoji.chars().any(char::is_control)
        {
            let text = format!("A reaction is an emoji, at most {MAX_EMOJI} bytes long.");
            return Err(ApiError::invalid(text).into());
        }
        let now = self.live_message(id, message).await?;
        if let Some(own) = own_reaction(&now, &emoji, &self.jami_id()) {
            return Ok(own);
        }
        self.write(id, move |repo, writer, now| {
            repo.message(writer, Swarm::reaction(emoji, message), now)
        })
        .await
    }

    /// Takes a reaction of one's own back.
    pub async fn unreact(
        self: &Arc<Self>,
        id: ConversationId,
        message: ObjectId,
        emoji: &str,
    ) -> Result<(), AccountError> {
        let now = self.live_message(id, message).await?;
        let own = own_reaction(&now, emoji, &self.jami_id())
            .ok_or_else(|| ApiError::not_found("You have no such reaction to this message."))?;
        self.write(id, move |repo, writer, now| {
            repo.message(writer, Swarm::edit("", own), now)
        })
        .await?;
        Ok(())
    }
}

/// Whether a message was deleted by its author.
fn is_deleted(message: &api::Message) -> bool {
    match &message.file {
        Some(file) => file.file_id.is_empty(),
        None => !message.edits.is_empty() && message.body.as_ref().is_some_and(String::is_empty),
    }
}

/// One's own live reaction to a message.
fn own_reaction(message: &api::Message, emoji: &str, own: &AccountId) -> Option<ObjectId> {
    let all = message.reactions.get(emoji)?;
    all.iter().find(|r| r.author == *own).map(|r| r.id)
}
