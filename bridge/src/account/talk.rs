//! What an account says and reads: its conversations, as the API asks for them.

use super::book::{MAX_LATE, Profile};
use super::net::statuses;
use super::{Account, AccountError, now_unix};
use crate::conversation::repo::{RepoError, Snapshot};
use crate::conversation::timeline::Changes;
use crate::conversation::{Conversation, folding};
use crate::store::state::StateError;
use starling_core::account::MODE_ONE_TO_ONE;
use starling_core::api::rpc::MAX_FRAME;
use starling_core::api::{
    self, ApiError, ConversationMode, ConversationPreferences, ConversationState, ErrorCode, Event,
    MemberAction, MemberRole, MessageFound, MessageType,
};
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::notice::Notice;
use starling_core::swarm::members::Role;
use starling_core::swarm::message::{ConversationMode as Mode, Message as Swarm};
use starling_core::swarm::write::{Repository, WriteError, Writer, Written};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

/// Members that the conversation list shows; all of them are asked for by themselves.
const LISTED_MEMBERS: usize = 32;

/// Longest text of a message, in bytes: a book of 200 pages. The reference has no limit but
/// that of a fetch; a commit this long is still read by everyone. A call with it fits a frame, also
/// when each of its characters is written with a backslash.
const MAX_BODY: usize = 480 << 10;
const _: () = assert!(2 * MAX_BODY + (32 << 10) <= MAX_FRAME);

/// Whether a text is short enough to be sent.
pub(super) fn fits(body: &str) -> Result<(), ApiError> {
    if body.len() > MAX_BODY {
        let text = "The message is longer than 480 KiB. Send it as a file, or in parts.";
        return Err(ApiError::new(ErrorCode::TooLarge, text));
    }
    Ok(())
}

/// How many people are in a conversation now.
fn member_count(snapshot: &Snapshot) -> u32 {
    let here = |m: &&starling_core::swarm::members::Member| snapshot.takes_part(&m.id);
    u32::try_from(snapshot.members.iter().filter(here).count()).unwrap_or(u32::MAX)
}

/// Messages to be reported, of which only some are held at a time.
struct Batches<'a> {
    conversation: &'a Conversation,
    left: VecDeque<ObjectId>,
    held: VecDeque<api::Message>,
}

impl<'a> Batches<'a> {
    fn new(conversation: &'a Conversation, ids: impl IntoIterator<Item = ObjectId>) -> Self {
        Self {
            conversation,
            left: ids.into_iter().collect(),
            held: VecDeque::new(),
        }
    }

    async fn next(&mut self) -> Option<api::Message> {
        while self.held.is_empty() && !self.left.is_empty() {
            let mut left = std::mem::take(&mut self.left);
            let asked = self
                .conversation
                .ask(move |r| (r.some_messages(&mut left), left))
                .await;
            let (held, left) = asked.ok()?;
            (self.held, self.left) = (held.into(), left);
        }
        self.held.pop_front()
    }
}

fn api_mode(mode: Mode) -> ConversationMode {
    ConversationMode::from_number(i64::from(mode.number()))
}

fn api_role(role: Role) -> MemberRole {
    match role {
        Role::Admin => MemberRole::Admin,
        Role::Member => MemberRole::Member,
        Role::Invited => MemberRole::Invited,
        Role::Banned => MemberRole::Banned,
        Role::Left => MemberRole::Left,
    }
}

fn data_url(avatar: &str) -> String {
    if avatar.starts_with("data:") {
        avatar.to_owned()
    } else {
        format!(
            "data:image/{};base64,{avatar}",
            if avatar.starts_with("/9j/") {
                "jpeg"
            } else {
                "png"
            }
        )
    }
}

impl Account {
    // --- saying what changed ---

    /// Reports what new commits changed for a reader.
    pub(super) async fn show_changes(
        self: &Arc<Self>,
        conversation: &Conversation,
        changes: Changes,
        snapshot_changed: bool,
    ) {
        let id = conversation.id;
        if self.is_leaving(&id) {
            return;
        }
        let Changes {
            shown,
            updated,
            reordered,
        } = changes;
        if let Some(after) = reordered {
            // A page that is told of them says at once that they are read.
            if let Err(e) = self.note_late(conversation, &shown).await {
                tracing::warn!(%e, "what came late is not counted as unread");
            }
            self.emit(Event::ConversationReordered {
                account: self.id.clone(),
                conversation: id,
                after,
            });
        }
        let (mut votes, mut bans) = (false, false);
        let mut news = Batches::new(conversation, shown);
        while let Some(message) = news.next().await {
            self.meet_device(message.author, message.device).await;
            votes |= message.kind == MessageType::Vote;
            if let Some(change) = message
                .member
                .as_ref()
                .filter(|_| message.kind == MessageType::Member)
            {
                votes |= matches!(change.action, MemberAction::Ban | MemberAction::Unban);
                bans |= change.action == MemberAction::Ban;
                if change.action == MemberAction::Join {
                    self.show_profile_in(conversation, Some(change.id));
                }
                let member = self.member_view(conversation, change.id).await;
                if let Ok(Some(member)) = member {
                    self.emit(Event::ConversationMember {
                        account: self.id.clone(),
                        conversation: id,
                        member: Box::new(member),
                        action: change.action,
                    });
                }
            }
            self.emit(Event::MessageReceived {
                account: self.id.clone(),
                conversation: id,
                message: Box::new(message),
            });
        }
        let mut changed = Batches::new(conversation, updated);
        while let Some(message) = changed.next().await {
            self.emit(Event::MessageUpdated {
                account: self.id.clone(),
                conversation: id,
                message: Box::new(message),
            });
        }
        if votes {
            self.emit(Event::ConversationVotes {
                account: self.id.clone(),
                conversation: id,
                ballots: super::groups::view_ballots(&conversation.snapshot()),
            });
        }
        if bans {
            self.tell_banned(conversation).await;
        }
        if snapshot_changed {
            if let Err(e) = self.confirm_members(conversation).await {
                tracing::warn!(%e, "a confirmation could not be kept");
            }
            self.enforce();
            self.wake.notify_one();
        }
        self.show_updated(conversation).await;
    }

    /// Keeps in mind which of these came when what stands after them had been read.
    async fn note_late(
        &self,
        conversation: &Conversation,
        new: &[ObjectId],
    ) -> Result<(), AccountError> {
        let id = conversation.id;
        let read = self
            .book
            .ask(move |b| b.conversation(&id).and_then(|c| c.last_displayed))
            .await?;
        let new = new.to_vec();
        let late = conversation
            .ask(move |r| r.late(&new, read.as_ref()))
            .await?;
        if late.is_empty() {
            return Ok(());
        }
        self.change_local(id, move |local| {
            local.late.extend(late);
            local.late.truncate(MAX_LATE);
        })
        .await
    }

    /// Reports that a conversation can be used.
    pub(super) async fn show_ready(self: &Arc<Self>, conversation: &Conversation) {
        // Those who are connected could not be shown a card before there was something in common.
        self.show_profile_in(conversation, None);
        if let Ok(details) = self.conversation_view(conversation.id).await {
            self.emit(Event::ConversationReady {
                account: self.id.clone(),
                conversation: conversation.id,
                details: Box::new(details),
            });
        }
    }

    /// Reports how it stands with a conversation of which there is no copy.
    pub(super) async fn show_syncing(self: &Arc<Self>, id: ConversationId) {
        if let Ok(details) = self.conversation_view(id).await {
            self.emit(Event::ConversationUpdated {
                account: self.id.clone(),
                conversation: id,
                details: Box::new(details),
            });
        }
    }

    /// Reports that a conversation looks different in the list.
    pub(super) async fn show_updated(self: &Arc<Self>, conversation: &Conversation) {
        if let Ok(details) = self.conversation_view(conversation.id).await {
            self.emit(Event::ConversationUpdated {
                account: self.id.clone(),
                conversation: conversation.id,
                details: Box::new(details),
            });
        }
    }

    // --- views ---

    async fn profiles(
        &self,
        ids: Vec<AccountId>,
    ) -> Result<BTreeMap<AccountId, Profile>, AccountError> {
        let own = (self.jami_id(), self.shared().options.profile.clone());
        let mut found: BTreeMap<AccountId, Profile> = self
            .book
            .ask(move |b| ids.into_iter().map(|id| (id, b.profile(&id))).collect())
            .await?;
        if let Some(p) = found.get_mut(&own.0) {
            *p = own.1;
        }
        Ok(found)
    }

    fn view_member(
        &self,
        id: AccountId,
        role: Role,
        profile: Profile,
        (written_name, read_up_to): (Option<String>, Option<ObjectId>),
    ) -> api::Member {
        let presence = if id == self.jami_id() {
            self.own_presence()
        } else {
            self.presence(&id)
        };
        api::Member {
            id,
            role: api_role(role),
            // A card says it better, and is proved to come from them.
            written_name: written_name
                .filter(|_| profile.display_name.is_empty())
                .map(|name| super::people::clean(&name))
                .filter(|name| !name.is_empty()),
            display_name: profile.display_name,
            avatar: profile.avatar,
            read_up_to,
            presence,
        }
    }

    async fn member_view(
        &self,
        conversation: &Conversation,
        id: AccountId,
    ) -> Result<Option<api::Member>, AccountError> {
        let Some(role) = conversation.snapshot().role(&id) else {
            return Ok(None);
        };
        let said = conversation
            .ask(move |r| (r.written_name(&id), r.read_up_to(&id)))
            .await?;
        let profile = self
            .profiles(vec![id])
            .await?
            .remove(&id)
            .unwrap_or_default();
        Ok(Some(self.view_member(id, role, profile, said)))
    }

    /// All members of a conversation.
    pub async fn members(&self, id: ConversationId) -> Result<Vec<api::Member>, AccountError> {
        let conversation = self.need_conversation(&id)?;
        self.members_of(&conversation, usize::MAX).await
    }

    async fn members_of(
        &self,
        conversation: &Conversation,
        max: usize,
    ) -> Result<Vec<api::Member>, AccountError> {
        let members: Vec<_> = conversation
            .snapshot()
            .members
            .iter()
            .take(max)
            .copied()
            .collect();
        let ids: Vec<AccountId> = members.iter().map(|m| m.id).collect();
        let mut profiles = self.profiles(ids.clone()).await?;
        let unnamed = |id: &AccountId| {
            let known = profiles.get(id);
            known.is_none_or(|p| p.display_name.is_empty())
        };
        let asked: Vec<(AccountId, bool)> = ids.iter().map(|id| (*id, unnamed(id))).collect();
        let said = conversation
            .ask(move |r| {
                let said = |(id, unnamed): (AccountId, bool)| {
                    let name = unnamed.then(|| r.written_name(&id)).flatten();
                    (name, r.read_up_to(&id))
                };
                asked.into_iter().map(said).collect::<Vec<_>>()
            })
            .await?;
        Ok(members
            .into_iter()
            .zip(said)
            .map(|(m, said)| {
                let profile = profiles.remove(&m.id).unwrap_or_default();
                self.view_member(m.id, m.role, profile, said)
            })
            .collect())
    }

    /// One conversation as the list shows it.
    pub async fn conversation_view(
        self: &Arc<Self>,
        id: ConversationId,
    ) -> Result<api::Conversation, AccountError> {
        let (info, local, preferences) = self
            .book
            .ask(move |b| -> Result<_, StateError> {
                Ok((
                    b.conversation(&id).cloned(),
                    b.local(&id),
                    b.state()
                        .get::<ConversationPreferences>("preferences", &id.to_hex())?
                        .unwrap_or_default(),
                ))
            })
            .await??;
        let info = info.ok_or_else(|| {
            ApiError::not_found(format!("This account has no conversation {id}."))
        })?;
        let Some(conversation) = self.conversation(&id) else {
            let ids: Vec<AccountId> = info.members.iter().copied().collect();
            let profiles = self.profiles(ids).await?;
            let members = profiles
                .into_iter()
                .map(|(id, p)| self.view_member(id, Role::Member, p, (None, None)))
                .collect();
            let field = |key: &str| local.metadata.get(key).filter(|v| !v.is_empty()).cloned();
            let group = info.mode != MODE_ONE_TO_ONE;
            return Ok(api::Conversation {
                id,
                mode: ConversationMode::from_number(i64::from(info.mode)),
                state: match local.refused {
                    Some(_) => ConversationState::Refused,
                    None => ConversationState::Syncing,
                },
                title: field("title").filter(|_| group),
                description: field("description").filter(|_| group),
                avatar: field("avatar").filter(|_| group).map(|a| data_url(&a)),
                created: i64::try_from(info.created_ms).unwrap_or(0),
                member_count: u32::try_from(info.members.len()).unwrap_or(u32::MAX),
                members,
                last_message: None,
                unread: 0,
                read_up_to: None,
                preferences,
                own_role: None,
                read_only: local.refused.is_some().then_some(api::ReadOnly::Refused),
                refused: local.refusal,
                address: None,
            });
        };
        let late = local.late;
        let (last_message, (unread, read_up_to)) = conversation
            .ask(move |r| (r.last_message(), r.unread(info.last_displayed, &late)))
            .await?;
        let snapshot = conversation.snapshot();
        let read_only = self.read_only(local.invalid.is_some(), &snapshot);
        let text = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
        Ok(api::Conversation {
            id,
            mode: api_mode(snapshot.mode),
            state: ConversationState::Ready,
            title: text(&snapshot.profile.title),
            description: text(&snapshot.profile.description),
            avatar: text(&snapshot.profile.avatar).map(|a| data_url(&a)),
            created: snapshot.created,
            members: self.members_of(&conversation, LISTED_MEMBERS).await?,
            member_count: member_count(&snapshot),
            last_message: last_message.map(Box::new),
            unread,
            read_up_to,
            preferences,
            own_role: snapshot.role(&self.jami_id()).map(api_role),
            read_only,
            refused: local.refusal.or(local.invalid),
            address: match read_only {
                None => self.address(id, &snapshot),
                Some(_) => None,
            },
        })
    }

    /// All conversations, the one with the newest message first.
    pub async fn list(self: &Arc<Self>) -> Result<Vec<api::Conversation>, AccountError> {
        let ids: Vec<ConversationId> = self
            .book
            .ask(|b| b.conversations().map(|c| c.id).collect())
            .await?;
        let mut out = Vec::with_capacity(ids.len());
        for id in ids {
            match self.conversation_view(id).await {
                Ok(view) => out.push(view),
                // Removed in this moment.
                Err(AccountError::Api(e)) if e.code == ErrorCode::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        out.sort_by_key(|c| {
            std::cmp::Reverse(c.last_message.as_ref().map_or(c.created, |m| m.sent_at))
        });
        Ok(out)
    }

    /// A piece of history.
    pub async fn history(
        &self,
        id: ConversationId,
        before: Option<ObjectId>,
        limit: usize,
    ) -> Result<(Vec<api::Message>, bool), AccountError> {
        let conversation = self.need_conversation(&id)?;
        // Rather say why than show an empty page.
        tokio::task::block_in_place(|| conversation.store.wake()).map_err(RepoError::from)?;
        let (page, damage) = conversation
            .ask(move |r| (r.page(before.as_ref(), limit), r.take_damage()))
            .await?;
        if let Some(e) = damage {
            self.say_if_damaged(&id, &e);
            // What can be read of it is shown.
            if page
                .as_ref()
                .is_none_or(|(messages, _)| messages.is_empty())
            {
                return Err(e.into());
            }
        }
        page.ok_or_else(|| {
            ApiError::not_found("There is no message with that id in this conversation.").into()
        })
    }

    /// One message.
    pub async fn message(
        &self,
        id: ConversationId,
        message: ObjectId,
    ) -> Result<api::Message, AccountError> {
        let conversation = self.need_conversation(&id)?;
        let (found, damage) = conversation
            .ask(move |r| (r.message(&message), r.take_damage()))
            .await?;
        if let (None, Some(e)) = (&found, damage) {
            self.say_if_damaged(&id, &e);
            return Err(e.into());
        }
        found.ok_or_else(|| {
            ApiError::not_found("There is no message with that id in this conversation.").into()
        })
    }

    /// One message, with all its words.
    pub async fn whole_message(
        &self,
        id: ConversationId,
        message: ObjectId,
    ) -> Result<api::Message, AccountError> {
        let conversation = self.need_conversation(&id)?;
        let found = conversation.ask(move |r| r.whole_message(&message)).await?;
        found.ok_or_else(|| {
            ApiError::not_found("There is no message with that id in this conversation.").into()
        })
    }

    /// Messages with certain words: the newest, fewer where they are long.
    pub async fn search(
        &self,
        conversation: Option<ConversationId>,
        query: &str,
        limit: usize,
    ) -> Result<Vec<MessageFound>, AccountError> {
        let found = self
            .index
            .search(conversation.as_ref(), query, limit)
            .map_err(|e| ApiError::new(ErrorCode::Storage, e.to_string()))?;
        let (mut out, mut weight) = (Vec::new(), 0usize);
        for (conversation, id) in found {
            if weight > folding::PAGE {
                break;
            }
            // What the index knows and the conversation does not is about to be caught up.
            if let Ok(message) = self.message(conversation, id).await {
                weight = weight.saturating_add(folding::message_weight(&message));
                out.push(MessageFound {
                    conversation,
                    message,
                });
            }
        }
        Ok(out)
    }

    // --- writing ---

    /// Writes the commit an operation makes, shows it here, then tells the others.
    pub async fn write<F>(
        self: &Arc<Self>,
        id: ConversationId,
        operation: F,
    ) -> Result<ObjectId, AccountError>
    where
        F: FnOnce(&mut Repository<'_>, &Writer<'_>, u64) -> Result<Written, WriteError>
            + Send
            + 'static,
    {
        let conversation = self.need_conversation(&id)?;
        self.may_write(&conversation)?;
        let (commit, changes) = conversation
            .ask(move |r| r.write(now_unix(), operation))
            .await?
            .inspect_err(|e| {
                self.say_if_full(e);
                self.say_if_damaged(&id, e);
            })?;
        self.show_changes(&conversation, changes, true).await;
        self.tell_all(&conversation, None).await;
        Ok(commit)
    }

    /// Sends a text. It is committed and on the disk when this returns.
    pub async fn send(
        self: &Arc<Self>,
        id: ConversationId,
        body: String,
        reply_to: Option<ObjectId>,
    ) -> Result<ObjectId, AccountError> {
        if body.trim().is_empty() {
            return Err(ApiError::invalid("An empty message is not sent.").into());
        }
        fits(&body)?;
        if let Some(to) = reply_to
            && self.message(id, to).await?.unaccepted
        {
            let text = "The others do not have the message you answer.";
            return Err(ApiError::new(ErrorCode::Conflict, text).into());
        }
        let commit = self
            .write(id, move |repo, writer, now| {
                repo.message(writer, Swarm::text(body, reply_to), now)
            })
            .await?;
        // Who writes has read.
        self.mark_read(id, commit, false).await?;
        Ok(commit)
    }

    pub(super) async fn mark_read(
        self: &Arc<Self>,
        id: ConversationId,
        message: ObjectId,
        say: bool,
    ) -> Result<(), AccountError> {
        let conversation = self.need_conversation(&id)?;
        let message = conversation.ask(move |r| r.read_place(message)).await?;
        let (before, late) = self
            .book
            .ask(move |b| {
                let before = b.conversation(&id).and_then(|c| c.last_displayed);
                let late = if say { b.local(&id).late } else { Vec::new() };
                (before, late)
            })
            .await?;
        let further = conversation
            .ask(move |r| r.timeline().is_after(&message, before.as_ref()))
            .await?;
        if !further && late.is_empty() {
            return Ok(());
        }
        if !late.is_empty() {
            self.change_local(id, |local| local.late = Vec::new())
                .await?;
        }
        if further {
            self.book
                .ask(move |b| b.change_conversation(&id, |c| c.last_displayed = Some(message)))
                .await??;
        }
        if say && self.shared().options.settings.read_receipts {
            let notice = Notice::Displayed {
                conversation: id,
                message,
            };
            let told = self.tell_members(&conversation, &notice);
            let mut owed = conversation
                .ask(move |r| r.authors_read(before.as_ref(), &message, &late))
                .await?;
            let (snapshot, own) = (conversation.snapshot(), self.jami_id());
            owed.retain(|id| *id != own && snapshot.takes_part(id) && !told.contains(id));
            if !owed.is_empty() {
                self.change_local(id, |local| local.owed.extend(owed))
                    .await?;
            }
        }
        self.show_updated(&conversation).await;
        Ok(())
    }

    /// Everything up to a message was read, and what came late.
    pub async fn mark_displayed(
        self: &Arc<Self>,
        id: ConversationId,
        message: ObjectId,
    ) -> Result<(), AccountError> {
        self.message(id, message).await?;
        self.mark_read(id, message, true).await
    }

    /// Tells connected members that someone types here, or stopped.
    pub fn set_typing(&self, id: ConversationId, active: bool) -> Result<(), AccountError> {
        let conversation = self.need_conversation(&id)?;
        if self.shared().options.settings.typing {
            let notice = Notice::Composing {
                conversation: id,
                active,
            };
            drop(self.tell_members(&conversation, &notice));
        }
        Ok(())
    }

    /// Gives those who were told.
    fn tell_members(&self, conversation: &Conversation, notice: &Notice) -> BTreeSet<AccountId> {
        let (snapshot, own) = (conversation.snapshot(), self.jami_id());
        let mut told = BTreeSet::new();
        for (device, id) in self.links.connected() {
            if id != own && snapshot.takes_part(&id) && self.links.tell(&device, notice) {
                told.insert(id);
            }
        }
        told
    }

    /// Somebody is there: they are told what of theirs was read while they were not.
    pub(super) async fn tell_what_was_read(&self, id: AccountId, device: DeviceId) {
        if !self.shared().options.settings.read_receipts {
            return;
        }
        let owed = match self.book.ask(move |b| b.take_owed(&id)).await {
            Ok(Ok(owed)) => owed,
            Ok(Err(e)) => return tracing::warn!(%e, "what was read is not told"),
            Err(_) => return,
        };
        for (conversation, message) in owed {
            let shared = self.conversation(&conversation);
            if shared.is_some_and(|c| c.snapshot().takes_part(&id)) {
                let notice = Notice::Displayed {
                    conversation,
                    message,
                };
                self.links.tell(&device, &notice);
            }
        }
    }

    // --- preferences ---

    /// What the owner chose for a conversation.
    pub async fn preferences(
        &self,
        id: ConversationId,
    ) -> Result<ConversationPreferences, AccountError> {
        Ok(self
            .book
            .ask(move |b| b.state().get("preferences", &id.to_hex()))
            .await??
            .unwrap_or_default())
    }

    /// Keeps what the owner chose for a conversation.
    pub async fn set_preferences(
        self: &Arc<Self>,
        id: ConversationId,
        preferences: ConversationPreferences,
    ) -> Result<(), AccountError> {
        self.book
            .ask(move |b| b.state().put("preferences", &id.to_hex(), &preferences))
            .await??;
        if let Some(conversation) = self.conversation(&id) {
            self.show_updated(&conversation).await;
        }
        Ok(())
    }

    /// Checks every commit again.
    pub async fn verify(
        &self,
        id: ConversationId,
    ) -> Result<api::ConversationVerdict, AccountError> {
        Ok(self.need_conversation(&id)?.verify().await?)
    }

    /// How far a message got.
    pub async fn status(
        &self,
        id: ConversationId,
        message: ObjectId,
    ) -> Result<api::MessageStatus, AccountError> {
        self.message(id, message).await?;
        let list = self
            .need_conversation(&id)?
            .ask(move |r| statuses(r, vec![message]))
            .await?;
        Ok(list.into_iter().next().map(|(_, s)| s).unwrap_or_default())
    }

    /// Where a conversation's repository is on the disk.
    pub fn repository_path(&self, id: &ConversationId) -> std::path::PathBuf {
        crate::conversation::path(Path::new(&self.dir), id)
    }
}
