//! What a person does to messages and people, and how it is taken back.

use super::{Notice, Place, State};
use crate::browser::{self, sleep_ms};
use leptos::prelude::*;
use starling_core::api::method::{
    AccountSetActive, ContactBlock, ContactUnblock, ConversationBan, ConversationUnban,
    ConversationVotes, ExportAccount, MessageDelete, MessageGet, MessageReact, MessageResend,
    MessageUnreact, RequestBlock, RequestDecline,
};
use starling_core::api::{
    AccountExportParams, AccountSetActiveParams, ApiError, Ballot, BallotAction, ContactParams,
    ConversationBanParams, ConversationParams, ErrorCode, LocalAccountId, Message, MessageParams,
    MessageReactParams, MessageType, RequestParams,
};
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use wasm_bindgen_futures::spawn_local;

/// How long something can be taken back before others hear of it, in milliseconds.
pub(crate) const UNDO_MS: i32 = 6_000;

/// A backup that was put off is proposed again after this many milliseconds: a week.
const BACKUP_AGAIN_MS: i64 = 7 * 86_400_000;

/// An own text that can be edited. Of one that is here in part the rest would be lost.
pub(crate) fn can_edit(message: &Message, me: Option<AccountId>) -> bool {
    is_own_text(message, me) && !message.cut
}

fn is_own_text(message: &Message, me: Option<AccountId>) -> bool {
    Some(message.author) == me
        && message.kind == MessageType::Text
        && message.body.as_ref().is_some_and(|body| !body.is_empty())
}

/// An own message that can be deleted.
pub(crate) fn can_delete(message: &Message, me: Option<AccountId>) -> bool {
    is_own_text(message, me)
        || (Some(message.author) == me
            && message.kind == MessageType::File
            && !crate::views::is_deleted(message))
}

impl State {
    /// Deletes a message, after a while in which that can be taken back.
    pub(crate) fn delete_message(&self, conversation: ConversationId, id: ObjectId) {
        let Some(account) = self.account_id.get_untracked() else {
            return;
        };
        self.deleting
            .update(|all| drop(all.insert(id, (account, conversation))));
        self.said.set(crate::say::t("message/deleting"));
        let this = *self;
        spawn_local(async move {
            sleep_ms(UNDO_MS).await;
            this.delete_now(id);
        });
    }

    /// Takes a deletion back.
    pub(crate) fn keep_message(&self, id: &ObjectId) {
        self.deleting.update(|all| drop(all.remove(id)));
    }

    /// Turns a request down, after a while in which that can be taken back.
    pub(crate) fn refuse_request(&self, conversation: ConversationId, block: bool) {
        let Some(account) = self.account_id.get_untracked() else {
            return;
        };
        self.refusing
            .update(|all| drop(all.insert(conversation, (account, block))));
        let this = *self;
        spawn_local(async move {
            sleep_ms(UNDO_MS).await;
            this.refuse_now(conversation);
        });
    }

    /// Takes that back.
    pub(crate) fn keep_request(&self, conversation: &ConversationId) {
        self.refusing.update(|all| drop(all.remove(conversation)));
    }

    fn refuse_now(&self, conversation: ConversationId) {
        let waiting = self
            .refusing
            .with_untracked(|all| all.get(&conversation).cloned());
        let Some((account, block)) = waiting else {
            return;
        };
        let this = *self;
        spawn_local(async move {
            let params = RequestParams {
                account,
                conversation,
            };
            let done = match block {
                true => this.bridge().call::<RequestBlock>(params).await,
                false => this.bridge().call::<RequestDecline>(params).await,
            };
            match done {
                Ok(()) => this.requests.update(|all| drop(all.remove(&conversation))),
                Err(error) => this.report(&error),
            }
            this.keep_request(&conversation);
        });
    }

    /// Who goes meant what they did: nothing waits any longer.
    pub(crate) fn do_all_now(&self) {
        let refused: Vec<ConversationId> = self
            .refusing
            .with_untracked(|all| all.keys().copied().collect());
        for conversation in refused {
            self.refuse_now(conversation);
        }
        let waiting: Vec<ObjectId> = self
            .deleting
            .with_untracked(|all| all.keys().copied().collect());
        for id in waiting {
            self.delete_now(id);
        }
    }

    fn delete_now(&self, id: ObjectId) {
        let waiting = self.deleting.with_untracked(|all| all.get(&id).cloned());
        let Some((account, conversation)) = waiting else {
            return;
        };
        let this = *self;
        spawn_local(async move {
            let params = MessageParams {
                account,
                conversation,
                id,
            };
            if let Err(error) = this.bridge().call::<MessageDelete>(params).await {
                this.report(&error);
            }
            this.keep_message(&id);
        });
    }

    /// Sends again what the others go on without. It takes the place of what was kept.
    pub(crate) async fn resend(&self, conversation: ConversationId, id: ObjectId) {
        let Some(account) = self.account_id.get_untracked() else {
            return;
        };
        let params = MessageParams {
            account,
            conversation,
            id,
        };
        match self.bridge().call::<MessageResend>(params).await {
            Ok(_) => self.said.set(crate::say::t("message/resent")),
            Err(error) => self.report(&error),
        }
    }

    /// Reacts with an emoji, or takes that reaction back.
    pub(crate) fn toggle_reaction(
        &self,
        conversation: ConversationId,
        message: &Message,
        emoji: String,
    ) {
        let (Some(account), me) = (self.account_id.get_untracked(), untrack(|| self.me())) else {
            return;
        };
        let mine = message
            .reactions
            .get(&emoji)
            .is_some_and(|all| all.iter().any(|r| Some(r.author) == me));
        let params = MessageReactParams {
            account,
            conversation,
            id: message.id,
            emoji,
        };
        let this = *self;
        spawn_local(async move {
            let done = match mine {
                true => this.bridge().call::<MessageUnreact>(params).await,
                false => this.bridge().call::<MessageReact>(params).await.map(drop),
            };
            if let Err(error) = done {
                this.report(&error);
            }
        });
    }

    /// Puts the words of an own message into the composer.
    pub(crate) fn begin_edit(&self, conversation: ConversationId, id: ObjectId) {
        self.replying.update(|all| {
            all.remove(&conversation);
        });
        self.editing.update(|all| {
            all.insert(conversation, id);
        });
        browser::focus("composer");
    }

    /// Answers a message.
    pub(crate) fn begin_reply(&self, conversation: ConversationId, id: ObjectId) {
        self.editing.update(|all| {
            all.remove(&conversation);
        });
        self.replying.update(|all| {
            all.insert(conversation, id);
        });
        browser::focus("composer");
    }

    /// Switches the account that is shown on.
    pub(crate) fn switch_on(&self) {
        let Some(account) = self.account_id.get_untracked() else {
            return;
        };
        let this = *self;
        spawn_local(async move {
            let params = AccountSetActiveParams {
                account,
                active: true,
            };
            if let Err(error) = this.bridge().call::<AccountSetActive>(params).await {
                this.report(&error);
            }
        });
    }

    /// Blocks a person: in their conversation stands then how to take that back.
    pub(crate) fn block(&self, id: AccountId) {
        let Some(account) = self.account_id.get_untracked() else {
            return;
        };
        let this = *self;
        spawn_local(async move {
            let params = ContactParams { account, id };
            match this.bridge().call::<ContactBlock>(params).await {
                Ok(()) => {
                    let name = untrack(|| this.name_of(&id));
                    this.said
                        .set(crate::say::tf("closed/blocked", &[("name", &name)]));
                }
                Err(error) => this.report(&error),
            }
        });
    }

    /// Lets a person reach one again.
    pub(crate) fn unblock(&self, id: AccountId) {
        let Some(account) = self.account_id.get_untracked() else {
            return;
        };
        let this = *self;
        spawn_local(async move {
            let params = ContactParams { account, id };
            if let Err(error) = this.bridge().call::<ContactUnblock>(params).await {
                this.report(&error);
            }
        });
    }

    /// Shows a notice; the newest few stay.
    pub(crate) fn notify(&self, notice: Notice) {
        self.notices.update(|all| {
            all.retain(|n| n.text != notice.text || n.detail != notice.detail);
            all.push(notice);
            let excess = all.len().saturating_sub(3);
            all.drain(..excess);
        });
    }

    /// Reads the votes of a conversation that are open.
    pub(crate) fn read_ballots(&self, conversation: ConversationId) {
        let Some(account) = self.account_id.get_untracked() else {
            return;
        };
        let this = *self;
        spawn_local(async move {
            let params = ConversationParams {
                account,
                conversation,
            };
            match this.bridge().call::<ConversationVotes>(params).await {
                Ok(open) => this
                    .ballots
                    .update(|all| drop(all.insert(conversation, open))),
                Err(error) if error.code == ErrorCode::Offline => {}
                Err(error) => this.report(&error),
            }
        });
    }

    /// All words of a message that came in part.
    pub(crate) async fn whole_words(
        &self,
        conversation: ConversationId,
        id: ObjectId,
    ) -> Option<String> {
        let params = MessageParams {
            account: self.account_id.get_untracked()?,
            conversation,
            id,
        };
        match self.bridge().call::<MessageGet>(params).await {
            Ok(message) => message.body,
            Err(error) => {
                self.report(&error);
                None
            }
        }
    }

    /// Votes; the answer says how the vote stands.
    pub(crate) async fn vote(
        &self,
        conversation: ConversationId,
        id: AccountId,
        device: Option<DeviceId>,
        action: BallotAction,
    ) -> Result<Ballot, ApiError> {
        let account = self
            .account_id
            .get_untracked()
            .ok_or_else(|| ApiError::new(ErrorCode::Offline, ""))?;
        let params = ConversationBanParams {
            account,
            conversation,
            id,
            device,
        };
        let ballot = match action {
            BallotAction::Ban => self.bridge().call::<ConversationBan>(params).await,
            BallotAction::Unban => self.bridge().call::<ConversationUnban>(params).await,
        }?;
        self.read_ballots(conversation);
        Ok(ballot)
    }

    /// Goes to a message, wherever it is.
    pub(crate) fn show_message(&self, conversation: ConversationId, id: ObjectId) {
        let to = Place::At(conversation, id);
        if self.place.get_untracked() == to {
            // The address does not change, so nothing would happen.
            self.place.update(|_| {});
        }
        to.go();
    }

    /// Hands the person a file with the account in it.
    pub(crate) async fn save_backup(
        &self,
        account: LocalAccountId,
        password: Option<String>,
    ) -> Result<(), ApiError> {
        use base64::Engine as _;
        let name = self.accounts.with_untracked(|all| {
            let account = all.iter().find(|a| a.id == account)?;
            Some(match account.display_name.as_str() {
                "" => account.jami_id.to_hex(),
                name => name.replace(['/', '\\'], "-"),
            })
        });
        let id = account.clone();
        let export = self
            .bridge()
            .call::<ExportAccount>(AccountExportParams { account, password })
            .await?;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(export.archive)
            .map_err(|e| ApiError::internal(e.to_string()))?;
        // Nothing of a sentence: what keeps names apart there has no place in the name of a file.
        let file = crate::text::fill(
            &crate::say::t("backup/file"),
            &[
                ("name", &name.unwrap_or_default()),
                ("day", &browser::file_day(browser::now_ms())),
            ],
        );
        browser::download(&format!("{file}.gz"), &bytes);
        browser::keep(&format!("backup-{id}"), "done");
        self.backup_asked.update(|n| *n += 1);
        Ok(())
    }

    /// Puts the proposal of a backup off.
    pub(crate) fn backup_later(&self, account: &LocalAccountId) {
        browser::keep(&format!("backup-{account}"), &browser::now_ms().to_string());
        self.backup_asked.update(|n| *n += 1);
    }

    /// Whether it is time to propose a backup: there is someone to lose, and none was saved from this browser.
    pub(crate) fn wants_backup(&self) -> Option<LocalAccountId> {
        self.backup_asked.track();
        let account = self.account_id.get()?;
        if !self.contacts.with(|all| all.values().any(|c| c.confirmed)) {
            return None;
        }
        let wanted = match browser::recall(&format!("backup-{account}")) {
            None => true,
            Some(text) => text
                .parse::<i64>()
                .is_ok_and(|at| browser::now_ms() - at > BACKUP_AGAIN_MS),
        };
        wanted.then_some(account)
    }
}
