//! Groups: who is in, who comes in and who has to go; and what others let in that we refuse.

use super::book::Local;
use super::fetch::refusal;
use super::{Account, AccountError, now, now_ms, now_unix};
use crate::conversation::Conversation;
use crate::conversation::repo::{RepoError, Snapshot};
use crate::conversation::votes::Voted;
use crate::dht::PutOptions;
use crate::store::state::StateError;
use starling_core::account::{ConvInfo, MAX_FUTURE_MS};
use starling_core::api::{
    self, ApiError, BallotAction, ConversationMode, ErrorCode, Event, NoticeLevel, ReadOnly,
    RefusedHistory,
};
use starling_core::dht::envelope::keys;
use starling_core::dht::{Value, types};
use starling_core::id::{AccountId, ConversationId, DeviceId};
use starling_core::notice::Notice;
use starling_core::swarm::ballot::{Ballot, Subject};
use starling_core::swarm::members::{Profile as Title, Role};
use starling_core::swarm::message::ConversationMode as Mode;
use starling_core::swarm::misbehaviour::Fault;
use starling_core::swarm::path::{Direction, Target};
use starling_core::swarm::public::{self, Address, Answer, BadAddress, Knock};
use starling_core::swarm::write::WriteError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most people that a group is begun with.
const MAX_FIRST_MEMBERS: usize = 100;

/// So many failed invitations are named in one notice.
const MAX_FAILED: usize = 5;

/// Members that the address of a public conversation names: enough that one of them is likely to
/// be there, few enough that the address can be sent by hand.
const ADDRESS_MEMBERS: usize = 3;

/// After this time without an answer the next member is asked as well. One let two of them write
/// an invitation each; that does no harm, but is one commit too many for everybody.
const NEXT_DOOR: Duration = Duration::from_secs(20);

/// After this time a member is asked again: ten minutes, the time after which they may let in
/// somebody whom they let in before.
const KNOCK_AGAIN: Duration = Duration::from_millis(public::AGAIN_MS);

/// The doors this account knocks at.
#[derive(Debug)]
pub(super) struct Knocking {
    ask: Vec<AccountId>,
    since: Instant,
    sent: BTreeMap<DeviceId, Instant>,
}

/// A vote as the API shows it; `decided` says whether it was carried out.
fn view_ballot(ballot: &Ballot, decided: bool) -> Option<api::Ballot> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Some(api::Ballot {
        target: ballot.account?,
        device: match ballot.target {
            Target::Device(id) => Some(id),
            Target::Account(..) => None,
        },
        action: match ballot.direction {
            Direction::Ban => BallotAction::Ban,
            Direction::Unban => BallotAction::Unban,
        },
        voters: ballot.voters.clone(),
        admins: number(ballot.admins),
        needed: number(ballot.needed()),
        decided,
    })
}

/// The votes that are open, as the API shows them.
pub(super) fn view_ballots(snapshot: &Snapshot) -> Vec<api::Ballot> {
    let open = snapshot.ballots.iter();
    open.filter_map(|b| view_ballot(b, false)).collect()
}

/// A title or description as cards can hold it.
fn one_line(text: &str) -> String {
    text.split(['\r', '\n'])
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

impl Account {
    // --- making and changing ---

    /// Makes a group and invites people to it. Once it is there it is given back: who could not be
    /// invited is said in a notice.
    pub async fn create_group(
        self: &Arc<Self>,
        mode: ConversationMode,
        title: Option<String>,
        members: Vec<AccountId>,
    ) -> Result<api::Conversation, AccountError> {
        if members.len() > MAX_FIRST_MEMBERS {
            return Err(ApiError::new(ErrorCode::TooLarge, format!("A group begins with at most {MAX_FIRST_MEMBERS} people; invite the others afterwards.")).into());
        }
        let mode = match mode {
            ConversationMode::InvitesOnly => Mode::InvitesOnly,
            ConversationMode::AdminInvitesOnly => Mode::AdminInvitesOnly,
            ConversationMode::Public => Mode::Public,
            ConversationMode::OneToOne => return self.create_of_two(title, members).await,
            ConversationMode::Unknown => {
                return Err(ApiError::invalid(
                    "A group is adminInvitesOnly, invitesOnly or public; this bridge knows no other kind.",
                )
                .into());
            }
        };
        let own = self.jami_id();
        let members: BTreeSet<AccountId> = members.into_iter().filter(|m| *m != own).collect();
        let conversation = self.new_conversation(mode, None).await?;
        let id = conversation.id;
        let mut failed = Vec::new();
        if let Some(title) = title.filter(|t| !t.trim().is_empty()) {
            let title = Title {
                title: Some(one_line(&title)),
                ..Title::default()
            };
            if let Err(e) = self.update_conversation(id, title).await {
                failed.push(format!("it has no title ({})", ApiError::from(e).message));
            }
        }
        for member in members {
            if let Err(e) = self.invite(id, member).await {
                let why = ApiError::from(e).message;
                failed.push(format!("{member} is not invited ({why})"));
            }
        }
        if !failed.is_empty() {
            let more = failed.len().saturating_sub(MAX_FAILED);
            failed.truncate(MAX_FAILED);
            if more > 0 {
                failed.push(format!("and {more} more"));
            }
            let text = format!(
                "The group was made, but {}. Do it again from its details.",
                failed.join("; ")
            );
            self.notice(NoticeLevel::Warning, "group_incomplete", text);
        }
        self.conversation_view(id).await
    }

    /// Makes the conversation with a person, by adding them as a contact; one that is there is
    /// given.
    async fn create_of_two(
        self: &Arc<Self>,
        title: Option<String>,
        members: Vec<AccountId>,
    ) -> Result<api::Conversation, AccountError> {
        let [member] = members[..] else {
            let text = "A conversation of two is made with exactly one other member.";
            return Err(ApiError::invalid(text).into());
        };
        if title.is_some_and(|t| !t.trim().is_empty()) {
            let text = "A conversation of two has no title: it is called by the other's name.";
            return Err(ApiError::invalid(text).into());
        }
        let contact = self.add_contact(&member.to_hex(), None).await?;
        let id = contact.conversation.ok_or_else(|| {
            ApiError::internal("The contact was added, and has no conversation.".to_owned())
        })?;
        self.conversation_view(id).await
    }

    /// Changes what a conversation calls itself. Nothing is written where it calls itself so.
    pub async fn update_conversation(
        self: &Arc<Self>,
        id: ConversationId,
        change: Title,
    ) -> Result<(), AccountError> {
        let conversation = self.need_conversation(&id)?;
        self.may_write(&conversation)?;
        // An empty word is none.
        let plain = |mut title: Title| {
            for word in [&mut title.title, &mut title.description, &mut title.avatar] {
                *word = word.take().filter(|w| !w.is_empty());
            }
            title
        };
        let now = conversation.snapshot().profile.clone();
        let mut wanted = now.clone();
        wanted.update(change.clone());
        if plain(wanted) == plain(now) {
            return Ok(());
        }
        self.write(id, move |repo, writer, now| {
            let mut profile = repo.profile()?;
            profile.update(change);
            repo.update_profile(writer, profile, now)
        })
        .await?;
        Ok(())
    }

    /// Invites a person, or sends the invitation again. Inviting somebody who is banned is an
    /// admin's vote for the end of the ban, as it is in the reference.
    pub async fn invite(
        self: &Arc<Self>,
        id: ConversationId,
        member: AccountId,
    ) -> Result<(), AccountError> {
        let conversation = self.need_conversation(&id)?;
        let snapshot = conversation.snapshot();
        if snapshot.role(&member) == Some(Role::Banned)
            && snapshot.role(&self.jami_id()) == Some(Role::Admin)
        {
            self.vote(id, Direction::Unban, member.into()).await?;
            return Ok(());
        }
        let added = self
            .write(id, move |repo, writer, now| repo.add(writer, member, now))
            .await;
        match added {
            Ok(_) | Err(AccountError::Repo(RepoError::Write(WriteError::AlreadyInvited))) => {}
            Err(e) => return Err(e),
        }
        self.send_invitation(&conversation, member).await
    }

    /// Watches for a person who may come in, and tells them so.
    async fn send_invitation(
        self: &Arc<Self>,
        conversation: &Conversation,
        member: AccountId,
    ) -> Result<(), AccountError> {
        let id = conversation.id;
        self.watch(member);
        self.book
            .ask(move |b| {
                b.change_conversation(&id, |c| {
                    c.members.insert(member);
                    c.invited.insert(member, now_ms());
                })
            })
            .await??;
        let invitation = self.invitation(conversation, member).await?;
        if self.links.tell_account(&member, &invitation) == 0 {
            // They are told when they are there: they hear of the commit, and ask for the invitation.
            self.wake.notify_one();
        }
        Ok(())
    }

    // --- votes ---

    /// Votes for a ban, or for its end, and carries it out when that decides.
    pub async fn vote(
        self: &Arc<Self>,
        id: ConversationId,
        direction: Direction,
        subject: Subject,
    ) -> Result<api::Ballot, AccountError> {
        let conversation = self.need_conversation(&id)?;
        self.may_write(&conversation)?;
        let Voted {
            ballot,
            decided,
            changes,
        } = conversation
            .ask(move |r| r.vote(direction, subject, now_unix()))
            .await??;
        // Vote and outcome are told of together.
        self.show_changes(&conversation, changes, true).await;
        self.tell_all(&conversation, None).await;
        if decided && direction == Direction::Unban {
            let back = ballot.account.filter(|who| {
                // Members need nothing but the news.
                conversation.snapshot().role(who) == Some(Role::Invited)
            });
            match (back, ballot.account) {
                (Some(invited), _) => self.send_invitation(&conversation, invited).await?,
                (None, Some(member)) => self.watch(member),
                (None, None) => {}
            }
        }
        view_ballot(&ballot, decided).ok_or_else(|| {
            ApiError::internal("Nobody is known whose device was voted about.").into()
        })
    }

    /// Votes for the ban of a person, or of one device of theirs.
    pub async fn ban(
        self: &Arc<Self>,
        id: ConversationId,
        who: AccountId,
        device: Option<DeviceId>,
    ) -> Result<api::Ballot, AccountError> {
        if let Some(device) = device {
            let conversation = self.need_conversation(&id)?;
            let owner = conversation.ask(move |r| r.owner(device)).await??;
            if owner != Some(who) {
                return Err(ApiError::not_found(format!(
                    "{who} has written nothing with the device {device} in this conversation."
                ))
                .into());
            }
            return self.vote(id, Direction::Ban, device.into()).await;
        }
        self.vote(id, Direction::Ban, who.into()).await
    }

    /// Votes for the end of a ban.
    pub async fn unban(
        self: &Arc<Self>,
        id: ConversationId,
        who: AccountId,
        device: Option<DeviceId>,
    ) -> Result<api::Ballot, AccountError> {
        if device.is_some() {
            // The daemon wants the device's certificate to be there when somebody votes for its
            // return, which the ban took away: it would refuse this conversation from then on.
            return Err(ApiError::unsupported("The ban of a device cannot be ended: Jami's clients would not accept it. Its owner can write with another device.").into());
        }
        self.vote(id, Direction::Unban, who.into()).await
    }

    /// The votes that are not decided.
    pub fn votes(&self, id: ConversationId) -> Result<Vec<api::Ballot>, AccountError> {
        Ok(view_ballots(&self.need_conversation(&id)?.snapshot()))
    }

    /// Tells the connected devices of who was just banned of the commit that says so: the last
    /// thing they get. They are to ask for it on a git channel that they open for this, since a daemon
    /// that is refused on one which it has open does not ask again: such a one is ended first, and they
    /// are told when it is.
    pub(super) async fn tell_banned(&self, conversation: &Conversation) {
        for (device, id) in self.links.connected() {
            let unaware = conversation.ask(move |r| r.unaware_of(&id, &device).is_some());
            if matches!(unaware.await, Ok(true)) && !conversation.engines.end_git(&device) {
                self.tell_ban(conversation, id, device).await;
            }
        }
    }

    /// Tells a device of its owner's ban, or its own, if that is still to be said.
    pub(super) async fn tell_ban(
        &self,
        conversation: &Conversation,
        id: AccountId,
        device: DeviceId,
    ) {
        let ban = conversation.ask(move |r| r.unaware_of(&id, &device)).await;
        if let Ok(Some(commit)) = ban {
            let notice = Notice::NewCommit {
                conversation: conversation.id,
                commit,
                device: self.device_id(),
            };
            self.links.tell(&device, &notice);
        }
    }

    // --- what we may do ---

    /// Why nothing can be written in a conversation that is here, and that was found to break the rules (`invalid`) or
    /// not. Who shows what was found passes on what they show: it may change meanwhile.
    pub(super) fn read_only(&self, invalid: bool, snapshot: &Snapshot) -> Option<ReadOnly> {
        let banned = snapshot.banned_devices.contains(&self.device_id());
        match snapshot.role(&self.jami_id()) {
            Some(Role::Banned) => Some(ReadOnly::Banned),
            Some(Role::Admin | Role::Member) if banned => Some(ReadOnly::Banned),
            Some(Role::Left) | None => Some(ReadOnly::Left),
            Some(Role::Admin | Role::Member | Role::Invited) => {
                invalid.then_some(ReadOnly::Invalid)
            }
        }
    }

    /// The error for somebody who wants to write where they cannot.
    pub(super) fn may_write(&self, conversation: &Conversation) -> Result<(), ApiError> {
        let invalid = self.shared().invalid.contains(&conversation.id);
        let why = match self.read_only(invalid, &conversation.snapshot()) {
            None => return Ok(()),
            Some(ReadOnly::Banned) => {
                "You were banned from this conversation. You can read what was written until then, or leave it."
            }
            Some(ReadOnly::Left) => "You have left this conversation.",
            Some(ReadOnly::Invalid) => {
                let why = "The history of this conversation breaks a rule, so nothing can be written into it. You can read it, or leave it.";
                return Err(ApiError::new(ErrorCode::Rejected, why));
            }
            Some(ReadOnly::Refused | ReadOnly::Unknown) => {
                "This conversation cannot be written to."
            }
        };
        Err(ApiError::new(ErrorCode::NotAMember, why))
    }

    // --- refused histories ---

    /// The history that is here was found to break the rules: it stays as it is, and is only read
    /// from now on. Or (without a fault) it was looked through and is in order.
    pub(super) async fn found(
        self: &Arc<Self>,
        id: ConversationId,
        fault: Option<Box<Fault>>,
    ) -> Result<(), AccountError> {
        let bad = fault.is_some();
        if bad == self.shared().invalid.contains(&id) {
            return Ok(());
        }
        let invalid = fault.map(|f| refusal(f.device.unwrap_or(self.device_id()), &f));
        // Nothing is written from before it is shown until after it is not.
        if bad {
            self.shared().invalid.insert(id);
        }
        self.change_local(id, |local| local.invalid = invalid)
            .await?;
        if !bad {
            self.shared().invalid.remove(&id);
        }
        self.show_syncing(id).await;
        Ok(())
    }

    /// Something that was offered breaks the rules: said at once, and kept so that the person
    /// sees it when they look.
    pub(super) async fn refuse(
        self: &Arc<Self>,
        id: ConversationId,
        refused: RefusedHistory,
    ) -> Result<(), AccountError> {
        self.emit(Event::ConversationRejected {
            account: self.id.clone(),
            conversation: id,
            from: refused.from,
            commit: refused.commit,
            rule: refused.rule.clone(),
            detail: refused.detail.clone(),
        });
        let news = self
            .book
            .ask(move |b| -> Result<bool, StateError> {
                let mut local = b.local(&id);
                let same =
                    |r: &RefusedHistory| (&r.rule, r.commit) == (&refused.rule, refused.commit);
                if local.refusal.as_ref().is_some_and(same)
                    || local.dismissed.as_ref().is_some_and(same)
                {
                    return Ok(false);
                }
                local.refusal = Some(refused);
                b.set_local(id, local)?;
                Ok(true)
            })
            .await??;
        if news {
            self.show_syncing(id).await;
        }
        Ok(())
    }

    /// A device whose history was refused offers what is good, or what was refused has come from
    /// another: nothing is left to explain.
    pub(super) async fn no_longer_refused(
        self: &Arc<Self>,
        conversation: &Conversation,
        from: Option<DeviceId>,
    ) -> Result<(), AccountError> {
        let id = conversation.id;
        let Some(refused) = self.book.ask(move |b| b.local(&id).refusal).await? else {
            return Ok(());
        };
        let taken = match refused.commit {
            Some(commit) => {
                conversation
                    .ask(move |r| r.timeline().contains(&commit))
                    .await?
            }
            None => false,
        };
        if taken || from == Some(refused.from) {
            self.change_local(id, |local| local.refusal = None).await?;
            self.show_syncing(id).await;
        }
        Ok(())
    }

    /// The person has seen what was refused. The same thing is not shown again.
    pub async fn dismiss_refusal(
        self: &Arc<Self>,
        id: ConversationId,
    ) -> Result<api::Conversation, AccountError> {
        // That there is such a conversation is said here.
        self.conversation_view(id).await?;
        self.change_local(id, |local| {
            if let Some(refused) = local.refusal.take() {
                local.dismissed = Some(refused);
            }
        })
        .await?;
        self.show_syncing(id).await;
        self.conversation_view(id).await
    }

    pub(super) async fn change_local(
        &self,
        id: ConversationId,
        change: impl FnOnce(&mut Local) + Send + 'static,
    ) -> Result<(), AccountError> {
        self.book
            .ask(move |b| {
                let mut local = b.local(&id);
                change(&mut local);
                b.set_local(id, local)
            })
            .await??;
        Ok(())
    }

    // --- public conversations ---

    /// What others give to `conversation.join`: of a public conversation that we are in and may write to.
    pub(super) fn address(&self, id: ConversationId, snapshot: &Snapshot) -> Option<String> {
        let own = self.jami_id();
        if snapshot.mode != Mode::Public {
            return None;
        }
        // Admins stand first among the members.
        let others = snapshot.members.iter().map(|m| m.id);
        let others = others.filter(|m| *m != own && snapshot.takes_part(m));
        let ask = std::iter::once(own)
            .chain(others)
            .take(ADDRESS_MEMBERS)
            .collect();
        let address = Address {
            conversation: id,
            ask,
        };
        Some(address.to_string())
    }

    /// Asks to come into a public conversation.
    pub async fn join_public(
        self: &Arc<Self>,
        address: &str,
    ) -> Result<api::Conversation, AccountError> {
        let address: Address = address.parse().map_err(|e: BadAddress| {
            let mut text = e.to_string();
            if let Some(first) = text.get(..1) {
                text.replace_range(..1, &first.to_uppercase());
            }
            ApiError::invalid(text + ".")
        })?;
        let (id, own) = (address.conversation, self.jami_id());
        let ask: Vec<AccountId> = address.ask.into_iter().filter(|a| *a != own).collect();
        let known = self
            .book
            .ask(move |b| b.conversation(&id).is_some())
            .await?;
        if known {
            return Err(ApiError::new(
                ErrorCode::AlreadyExists,
                "You are in this conversation already, or waiting for it.",
            )
            .into());
        }
        if ask.is_empty() {
            return Err(ApiError::invalid(
                "The address names nobody but you. Ask a member for theirs.",
            )
            .into());
        }
        if self.is_leaving(&id) {
            // Left a moment ago, and nobody has heard of it.
            self.erase(id).await?;
        }
        let asked = ask.clone();
        let invited = self
            .book
            .ask(move |b| -> Result<bool, StateError> {
                let mut info = ConvInfo::new(id, Mode::Public.number(), now_ms());
                info.members.extend(asked.iter().copied());
                let local = Local {
                    knock: asked,
                    ..Local::default()
                };
                b.set_local(id, local)?;
                b.set_conversation(info)?;
                Ok(b.take_request(&id)?.is_some_and(|r| r.is_open()))
            })
            .await??;
        if invited {
            self.emit(Event::RequestRemoved {
                account: self.id.clone(),
                conversation: id,
            });
        }
        self.emit(Event::ConversationSyncing {
            account: self.id.clone(),
            conversation: id,
        });
        for member in ask {
            self.watch(member);
        }
        self.wake.notify_one();
        self.conversation_view(id).await
    }

    /// Asks the members of public conversations that are not here yet to let us in: one, and when
    /// nothing comes of it, the next.
    pub(super) async fn knock_at_doors(self: &Arc<Self>) -> Result<(), AccountError> {
        let waiting: BTreeMap<ConversationId, Vec<AccountId>> = self
            .book
            .ask(|b| {
                b.conversations()
                    .map(|c| (c.id, b.local(&c.id)))
                    .filter(|(_, local)| !local.cloned && !local.knock.is_empty())
                    .map(|(id, local)| (id, local.knock))
                    .collect()
            })
            .await?;
        let mut knocks: Vec<(ConversationId, AccountId, DeviceId)> = Vec::new();
        {
            let now = Instant::now();
            let mut shared = self.shared();
            let shared = &mut *shared;
            shared.knocking.retain(|id, _| waiting.contains_key(id));
            for (id, ask) in waiting {
                let door = shared.knocking.entry(id).or_insert_with(|| Knocking {
                    ask,
                    since: now,
                    sent: BTreeMap::new(),
                });
                let mut turn = door.since;
                for member in &door.ask {
                    let devices: Vec<DeviceId> = shared
                        .reach
                        .get(member)
                        .map(|r| r.announced.devices().copied().collect())
                        .unwrap_or_default();
                    if devices.is_empty() {
                        continue;
                    }
                    if now < turn {
                        break;
                    }
                    turn += NEXT_DOOR;
                    for device in devices {
                        let before = door.sent.get(&device);
                        if before.is_none_or(|at| now.duration_since(*at) >= KNOCK_AGAIN) {
                            door.sent.insert(device, now);
                            knocks.push((id, *member, device));
                        }
                    }
                }
            }
        }
        if !knocks.is_empty() {
            // Those we ask may connect now.
            self.peers.policy_changed();
        }
        for (conversation, member, device) in knocks {
            let account = self.clone();
            self.spawn(async move {
                let knock = Knock {
                    conversation,
                    at_ms: now_ms(),
                };
                let sent =
                    account.put_in_inbox(member, device, types::TRUST_REQUEST, knock.encode());
                if let Err(why) = sent.await {
                    tracing::debug!(%device, why, "a knock was not sent");
                    if let Some(door) = account.shared().knocking.get_mut(&conversation) {
                        door.sent.remove(&device);
                    }
                }
            });
        }
        Ok(())
    }

    /// Puts something into the DHT inbox of a device, for it alone to read.
    pub(super) async fn put_in_inbox(
        &self,
        id: AccountId,
        device: DeviceId,
        kind: u16,
        data: Vec<u8>,
    ) -> Result<(), String> {
        let chain = self
            .peers
            .certificate(device, None)
            .await
            .map_err(|e| e.to_string())?;
        if chain.account_id() != id {
            return Err("the device is announced by an account that is not its own".into());
        }
        let inbox = keys::inbox(&chain.short_id());
        self.secure
            .put_encrypted(
                inbox,
                &chain.device.spki(),
                Value::new(kind, data),
                PutOptions::default(),
            )
            .await
            .map_err(|e| e.to_string())?;
        Ok(())
    }

    /// Whether this account waits at a person's door: they may connect to let it in.
    pub(super) fn knocks_at(&self, id: &AccountId) -> bool {
        let shared = self.shared();
        shared.knocking.values().any(|door| door.ask.contains(id))
    }

    /// Somebody wants to come into a public conversation.
    pub(super) async fn knocked(
        self: &Arc<Self>,
        device: DeviceId,
        knock: Knock,
    ) -> Result<(), AccountError> {
        let id = knock.conversation;
        let Ok(conversation) = self.need_conversation(&id) else {
            return Ok(());
        };
        // What is not public costs a stranger's word nothing: not even a look at who they are.
        if conversation.snapshot().mode != Mode::Public {
            tracing::debug!(conversation = %id, "a knock at a conversation that is not public");
            return Ok(());
        }
        let chain = self
            .peers
            .certificate(device, None)
            .await
            .map_err(|e| ApiError::not_found(e.to_string()))?;
        let (from, own) = (chain.account_id(), self.jami_id());
        let snapshot = conversation.snapshot();
        if from == own || self.is_blocked(&from) || snapshot.banned_devices.contains(&device) {
            return Ok(());
        }
        match public::answer(snapshot.mode, snapshot.role(&own), snapshot.role(&from)) {
            Answer::Silence => {
                tracing::debug!(conversation = %id, %from, "a knock that is not answered");
                return Ok(());
            }
            Answer::Connect => {}
            Answer::LetIn => {
                if !self.admit(id, from, knock.at_ms).await? {
                    tracing::debug!(conversation = %id, %from, "a knock too many");
                    return Ok(());
                }
                let added = self
                    .write(id, move |repo, writer, now| repo.add(writer, from, now))
                    .await;
                match added {
                    Ok(_)
                    | Err(AccountError::Repo(RepoError::Write(
                        WriteError::AlreadyInvited | WriteError::AlreadyMember,
                    ))) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        self.watch(from);
        if !self.links.has(&device) {
            let account = self.clone();
            self.spawn(async move { account.connect(from, device).await });
        }
        Ok(())
    }

    /// Whether a stranger may be let in now; if so, that is noted.
    async fn admit(
        &self,
        id: ConversationId,
        from: AccountId,
        at_ms: u64,
    ) -> Result<bool, AccountError> {
        let key = format!("{id}/{from}");
        // A knock lies in the inbox for days, and is found again after a restart. Who left again
        // meanwhile has to knock again.
        let at_ms = at_ms.min(now_ms().saturating_add(MAX_FUTURE_MS));
        let last: Option<u64> = {
            let key = key.clone();
            self.book
                .ask(move |b| b.state().get("knock", &key))
                .await??
        };
        if last.is_some_and(|last| at_ms <= last) {
            return Ok(false);
        }
        let now = u64::try_from(now()).unwrap_or(0);
        if !self.shared().doors.entry(id).or_default().admit(from, now) {
            return Ok(false);
        }
        self.book
            .ask(move |b| b.state().put("knock", &key, &at_ms))
            .await??;
        Ok(true)
    }
}
