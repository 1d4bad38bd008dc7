//! How an account keeps in touch: it announces itself, watches for the people it
//! knows, connects to their devices, tells and hears.
//!
//! Connections follow a state ("this device is there, we have something in common,
//! and there is no link"), never a single event that may be missed: [`Account::reconcile`]
//! looks at the whole whenever anything changed, and every few seconds.

use super::guests::Guest;
use super::typing::Then;
use super::{Account, AccountError, now};
use crate::conversation::Conversation;
use crate::conversation::engines::clock;
use crate::peer::{Channel, Incoming, LinkEvent, LinkState, OpenError};
use starling_core::account::MODE_ONE_TO_ONE;
use starling_core::api::{AccountState, Event, LinkPhase, LinkRoute};
use starling_core::drt::Input;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::identity::{Announcement, RevocationList};
use starling_core::notice::Notice;
use starling_core::peer::attempts::Attempt;
use starling_core::peer::channel_name::ChannelName;
use starling_core::swarm::members::Role;
use starling_core::swarm::message::ConversationMode;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the whole is looked at without a reason.
const RECONCILE: Duration = Duration::from_secs(5);

impl Account {
    /// Starts everything this account does by itself.
    pub(super) fn run(self: &Arc<Self>, incoming: tokio::sync::mpsc::Receiver<Incoming>) {
        self.say_if_revoked();
        self.spawn(self.clone().tell_all_revoked());
        let account = self.clone();
        self.spawn_lasting(move || account.clone().announce_self());
        let account = self.clone();
        self.spawn_lasting(move || account.clone().read_inbox());
        let account = self.clone();
        self.spawn_lasting(move || account.clone().follow_links());
        let (account, incoming) = (self.clone(), Arc::new(tokio::sync::Mutex::new(incoming)));
        self.spawn_lasting(move || account.clone().take_channels(incoming.clone()));
        let account = self.clone();
        self.spawn_lasting(move || account.clone().keep_reconciling());
        let account = self.clone();
        self.spawn_lasting(move || account.clone().look_after());
    }

    // --- being found ---

    pub(super) async fn announce_self(self: Arc<Self>) {
        let mut status = self.context.dht.status();
        let mut changes = self.context.dht.network_changes();
        let (mut published, mut was_connected) = (false, false);
        loop {
            let connected =
                status.borrow_and_update().connectivity() == crate::dht::Connectivity::Connected;
            // The network was gone, or is another one: connections of before may lead nowhere.
            if connected && !was_connected && published {
                self.network_changed();
            }
            was_connected = connected;
            if connected && !published {
                self.set_state(AccountState::Connecting);
                match self.peers.publish().await {
                    Ok(()) => published = true,
                    Err(e) => {
                        tracing::warn!(%e, "the account could not be announced; trying again");
                        tokio::time::sleep(RECONCILE).await;
                        continue;
                    }
                }
            }
            self.set_state(match (connected, published) {
                (true, _) => AccountState::Online,
                (false, true) => AccountState::Offline,
                (false, false) => AccountState::Connecting,
            });
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                changed = changes.changed() => {
                    if changed.is_err() { return }
                    self.network_changed();
                }
            }
            self.wake.notify_one();
        }
    }

    /// What is known of reaching others is of another network, or of none.
    fn network_changed(&self) {
        self.shared().attempts.network_changed();
        self.peers.network_changed();
    }

    // --- who is there ---

    /// Watches for the devices of a person, until nobody asks for it any more.
    pub(super) fn watch(self: &Arc<Self>, id: AccountId) {
        let end = {
            let mut shared = self.shared();
            if shared.watching.contains_key(&id) {
                return;
            }
            let end = CancellationToken::new();
            shared.watching.insert(id, end.clone());
            shared.reach.entry(id).or_insert_with(|| super::Reach {
                link_since: now(),
                ..Default::default()
            });
            end
        };
        let account = self.clone();
        self.spawn_lasting(move || account.clone().follow_devices(id, end.clone()));
    }

    /// Follows which devices a person announces, until `end`.
    async fn follow_devices(self: Arc<Self>, id: AccountId, end: CancellationToken) {
        let account = self;
        let mut listen = account.context.dht.listen(id.dht_key());
        loop {
            let event = tokio::select! {
                event = listen.next() => event,
                () = end.cancelled() => return,
            };
            let Some(event) = event else { return };
            for value in &event.values {
                let Ok(announcement) = Announcement::verify(&Self::crypto(), &id, value) else {
                    // Lists run out as well, and count for ever.
                    if let Ok(list) = RevocationList::from_value(value)
                        && let Err(why) = account.peers.take_list_aside(id, list).await
                    {
                        tracing::debug!(%id, %why, "a revocation list that does not count");
                    }
                    continue;
                };
                let known = account
                    .shared()
                    .reach
                    .get(&id)
                    .and_then(|r| r.announced.get(value.id));
                let device = match announcement.device_id().or(known) {
                    Some(device) => device,
                    // Writers of 2023 leave out the key: the certificate tells.
                    None => match account
                        .context
                        .dht
                        .find_device(&announcement.short_id)
                        .await
                    {
                        Some(device) => device,
                        None => continue,
                    },
                };
                // A device that was taken back may go on announcing itself.
                let revoked = !event.expired && account.peers.is_revoked(&id, &device);
                if device == account.device_id() || revoked {
                    continue;
                }
                let mut too_many = None;
                let (news, there) = {
                    let mut shared = account.shared();
                    let reach = shared.reach.entry(id).or_default();
                    let news = if event.expired {
                        let gone = reach.announced.remove(value.id);
                        if reach.announced.is_empty() {
                            // Gone: whatever was not answered is sent again when they are back.
                            shared.asked.retain(|(d, _)| *d != device);
                        }
                        gone
                    } else {
                        let (news, gone) = reach.announced.insert(value.id, device);
                        too_many = gone;
                        news
                    };
                    let reach = shared.reach.entry(id).or_default();
                    (news, reach.announced.contains(&device))
                };
                if let Some(gone) = too_many {
                    tracing::debug!(%id, "a person announces too many devices");
                    account.seen(id, gone, false);
                }
                if news {
                    account.seen(id, device, there);
                }
                if news && there {
                    account.meet_device(id, device).await;
                }
            }
            account.refresh_presence(id);
            account.wake.notify_one();
        }
    }

    /// Ends the watch for everybody else.
    fn watch_only(&self, wanted: &BTreeSet<AccountId>) {
        let over: Vec<AccountId> = {
            let watching = &self.shared().watching;
            let over = watching.keys().filter(|id| !wanted.contains(id));
            over.copied().collect()
        };
        for id in over {
            let mut shared = self.shared();
            if let Some(end) = shared.watching.remove(&id) {
                end.cancel();
            }
            if let Some(reach) = shared.reach.get_mut(&id) {
                reach.announced.clear();
            }
            drop(shared);
            self.refresh_presence(id);
        }
    }

    /// Everyone with whom this account has something in common.
    pub(super) async fn everyone(&self) -> Result<BTreeSet<AccountId>, AccountError> {
        let mut all: BTreeSet<AccountId> = self
            .book
            .ask(|b| {
                b.contacts()
                    .iter()
                    .filter(|(_, c)| c.is_active())
                    .map(|(id, _)| *id)
                    .collect()
            })
            .await?;
        for conversation in self.conversations() {
            let snapshot = conversation.snapshot();
            // Of a group only those whom its routing table asks for, and those who were asked in.
            all.extend(conversation.engines.watched());
            all.extend(
                snapshot
                    .members
                    .iter()
                    .filter(|m| {
                        m.role == Role::Invited
                            || snapshot.mode == ConversationMode::OneToOne
                                && snapshot.may_fetch(&m.id)
                    })
                    .map(|m| m.id),
            );
        }
        let sources: Vec<AccountId> = self
            .book
            .ask(|b| {
                b.conversations()
                    .filter(|c| !b.local(&c.id).cloned)
                    .flat_map(|c| c.members.iter().copied().collect::<Vec<_>>())
                    .collect()
            })
            .await?;
        if !sources.is_empty() {
            // Another device of ours may have it.
            all.insert(self.jami_id());
        }
        all.extend(sources);
        all.retain(|id| !self.is_blocked(id));
        Ok(all)
    }

    pub(super) async fn keep_reconciling(self: Arc<Self>) {
        loop {
            if let Err(e) = self.reconcile().await {
                tracing::warn!(%e, "looking at what is to be done failed");
            }
            // A burst of changes is looked at once.
            tokio::select! {
                () = self.wake.notified() => tokio::time::sleep(Duration::from_millis(5)).await,
                () = tokio::time::sleep(RECONCILE) => {}
            }
        }
    }

    /// Looks at what should be and is not: links, contact requests, clones.
    pub(super) async fn reconcile(self: &Arc<Self>) -> Result<(), AccountError> {
        let everyone = self.everyone().await?;
        // And oneself: other devices of this account are noticed, not asked for anything.
        let mut watched = everyone.clone();
        watched.insert(self.jami_id());
        for id in &watched {
            self.watch(*id);
        }
        self.watch_only(&watched);
        self.resend_requests().await?;
        if let Err(e) = self.move_words().await {
            tracing::warn!(%e, "what was written could not be moved to the conversation that counts");
        }
        self.knock_at_doors().await?;
        let mut candidates: Vec<(AccountId, DeviceId)> = Vec::new();
        {
            let shared = self.shared();
            for id in &everyone {
                if let Some(reach) = shared.reach.get(id) {
                    candidates.extend(reach.announced.devices().map(|d| (*id, *d)));
                }
            }
        }
        candidates.dedup();
        for (id, device) in candidates {
            if self.links.has(&device) || !self.wants_link(&id).await? {
                continue;
            }
            let begin = self.shared().attempts.ask(device, clock()) == Attempt::Go;
            if begin {
                let account = self.clone();
                self.spawn(async move { account.connect(id, device).await });
            }
        }
        let missing: Vec<ConversationId> = self
            .book
            .ask(|b| {
                b.conversations()
                    .filter(|c| !b.local(&c.id).cloned)
                    .map(|c| c.id)
                    .collect()
            })
            .await?;
        for id in missing {
            self.start_clone(id);
        }
        Ok(())
    }

    /// Whether a link to a person is of use by itself: they are a confirmed contact, or have what we lack.
    pub(super) async fn wants_link(&self, id: &AccountId) -> Result<bool, AccountError> {
        let own = self.jami_id();
        // Members of groups are found by the routing table of each.
        let fellow = self.conversations().iter().any(|c| {
            let s = c.snapshot();
            // Who was left has to hear of it.
            s.mode == ConversationMode::OneToOne
                && s.takes_part(id)
                && (s.takes_part(&own) || self.is_leaving(&c.id))
        });
        if fellow {
            return Ok(true);
        }
        let id = *id;
        Ok(self
            .book
            .ask(move |b| {
                let c = b.contact(&id);
                // An unconfirmed contact does not let us in: they are asked through the DHT.
                (c.is_active() && c.confirmed)
                    || b.conversations()
                        .any(|c| !b.local(&c.id).cloned && (c.members.contains(&id) || id == own))
            })
            .await?)
    }

    /// Tries to reach a device; a message channel is the sign that it worked.
    pub(super) async fn connect(self: Arc<Self>, id: AccountId, device: DeviceId) {
        let opened = self
            .peers
            .open(&device, Some(id), ChannelName::Message { device })
            .await;
        match opened {
            Ok(channel) => {
                self.shared().attempts.reached(&device);
                self.run_message_channel(channel, None);
            }
            Err(e) => {
                let until = self.shared().attempts.failed(device, clock());
                let pause = until.saturating_sub(clock());
                tracing::debug!(%device, %e, ?pause, "a device was not reached");
                if pause.is_zero() {
                    self.wake.notify_one();
                }
            }
        }
    }

    // --- links ---

    pub(super) async fn follow_links(self: Arc<Self>) {
        let mut events = self.peers.events();
        let look_at_those_up = || {
            for event in self.peers.links() {
                self.on_link(event);
            }
        };
        // Whoever asked while the conversations were being opened is connected by now.
        look_at_those_up();
        loop {
            match events.recv().await {
                Ok(event) => self.on_link(event),
                // Too slow: what matters is looked at as a whole.
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                    look_at_those_up();
                    self.wake.notify_one();
                    self.spawn(self.clone().tell_all_revoked());
                }
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    pub(super) fn on_link(self: &Arc<Self>, event: LinkEvent) {
        tracing::debug!(?event, "link");
        let Some(id) = event.account else { return };
        let linked = || self.peers.connected().iter().any(|(_, a)| *a == id);
        // That a device was revoked says nothing of the person's others.
        let mut shown = true;
        if let LinkState::Failed { why } | LinkState::Closed { why } = &event.state
            && why.is_revoked()
        {
            self.device_revoked(id, event.device);
            shown = id != self.jami_id() && !linked();
        }
        let device = Some(event.device);
        match event.state {
            LinkState::LookingUp => self.set_link(id, device, LinkPhase::LookingUp, None, None),
            LinkState::Negotiating => self.set_link(id, device, LinkPhase::Negotiating, None, None),
            LinkState::Connected { over, .. } => {
                self.set_link(id, device, LinkPhase::Connected, Some(route(&over)), None);
                self.on_connected(id, event.device);
            }
            LinkState::Failed { why } => {
                // Another connection may be up.
                if shown && !linked() {
                    self.set_link(id, device, LinkPhase::Failed, None, Some(why.to_string()));
                }
            }
            LinkState::Closed { why } => {
                if shown && !linked() {
                    self.set_link(id, device, LinkPhase::Idle, None, Some(why.to_string()));
                }
                let device = event.device;
                if self.linked(&device).is_none() {
                    if why != OpenError::Closed {
                        self.shared().attempts.lost(device, clock());
                    }
                    self.shared().fetchers.retain(|(_, d), _| *d != device);
                    for conversation in self.conversations() {
                        conversation.engines.drt(Input::Unlinked { device });
                    }
                }
                self.refresh_presence(id);
                self.wake.notify_one();
            }
        }
    }

    /// A link is new: both sides open a message channel, and catch up. An older one may lead nowhere by now, and it
    /// takes a while until that is known.
    pub(super) fn on_connected(self: &Arc<Self>, id: AccountId, device: DeviceId) {
        self.shared().fetchers.retain(|(_, d), _| *d != device);
        for conversation in self.conversations() {
            conversation.engines.drt(Input::Linked {
                device,
                account: id,
            });
        }
        let account = self.clone();
        self.spawn(async move {
            match account
                .peers
                .open(&device, Some(id), ChannelName::Message { device })
                .await
            {
                Ok(channel) => account.run_message_channel(channel, None),
                // Daemons of 2023 have none: they are told over other ways.
                Err(e) => tracing::debug!(%device, %e, "no message channel"),
            }
        });
        self.wake.notify_one();
    }

    /// `guest`: the place that the channel takes, if the other side opened it.
    pub(super) fn run_message_channel(self: &Arc<Self>, channel: Channel, guest: Option<Guest>) {
        let (device, id, link) = (channel.device(), channel.account(), channel.link());
        let first = self.links.link(&device) != Some(link);
        let account = self.clone();
        self.spawn(async move {
            let _guest = guest;
            let heard = {
                let account = account.clone();
                move |notice| account.clone().hear(id, device, notice)
            };
            let links = account.links.clone();
            let run = links.run(channel, device, (id, link), heard);
            let announce = async {
                account.look_at_links();
                if first {
                    account.refresh_presence(id);
                    account.catch_up(id, device);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                // First into the table, so that there is somebody to tell.
                biased;
                () = run => {}
                () = announce => {}
            }
            account.refresh_presence(id);
            account.look_at_links();
            account.wake.notify_one();
        });
    }

    /// Two devices meet: what is not a matter of one conversation's engines.
    pub(super) fn catch_up(self: &Arc<Self>, id: AccountId, device: DeviceId) {
        for conversation in self.conversations() {
            let snapshot = conversation.snapshot();
            let account = self.clone();
            if snapshot.role(&id) == Some(Role::Invited) && snapshot.admits(&id, &device) {
                let c = conversation.clone();
                self.spawn_for(&conversation, async move {
                    account.invite_device(&c, id, device).await;
                });
            } else if snapshot.role(&id).is_some() && !snapshot.admits(&id, &device) {
                let c = conversation.clone();
                self.spawn_for(&conversation, async move {
                    account.tell_banned(&c).await;
                });
            }
        }
        let account = self.clone();
        self.spawn(async move {
            account.meet_device(id, device).await;
            account.tell_what_was_read(id, device).await;
            account.show_profile(id, device).await;
        });
    }

    /// Gives an invitation of ours to a device of who was invited. They may have been away when it
    /// was made; one that is known says nothing new to them.
    async fn invite_device(&self, conversation: &Conversation, id: AccountId, device: DeviceId) {
        let conv = conversation.id;
        let by_us = self
            .book
            .ask(move |b| {
                let info = b.conversation(&conv);
                info.is_some_and(|c| c.mode != MODE_ONE_TO_ONE && c.invited.contains_key(&id))
            })
            .await
            .unwrap_or(false);
        if by_us && let Ok(invite) = self.invitation(conversation, id).await {
            self.links.tell(&device, &invite);
        }
    }

    // --- telling and hearing ---

    pub(super) async fn hear(self: Arc<Self>, id: AccountId, device: DeviceId, notice: Notice) {
        // A connection may outlive the right to it for a moment.
        if !self.lets_in(&id, &device) {
            return;
        }
        if !self.knows(&id) && !self.knocks_at(&id) && !self.is_of_shared(&id, &device, &notice) {
            tracing::debug!(%id, %device, "a fellow member says what only contacts may");
            return;
        }
        if let Err(e) = self.act_on(id, device, notice).await {
            tracing::warn!(%e, %device, "a notice could not be acted on");
        }
    }

    /// Whether a notice of a fellow member who is no contact is about a conversation that both
    /// are in. Nothing else of theirs counts.
    fn is_of_shared(&self, id: &AccountId, device: &DeviceId, notice: &Notice) -> bool {
        let (Notice::NewCommit { conversation, .. }
        | Notice::InviteAgain { conversation }
        | Notice::Composing { conversation, .. }
        | Notice::Displayed { conversation, .. }) = notice
        else {
            return false;
        };
        self.conversation(conversation)
            .is_some_and(|c| c.snapshot().admits(id, device))
    }

    pub(super) async fn act_on(
        self: Arc<Self>,
        id: AccountId,
        device: DeviceId,
        notice: Notice,
    ) -> Result<(), AccountError> {
        tracing::debug!(%device, ?notice, "told");
        match notice {
            Notice::NewCommit {
                conversation,
                commit,
                ..
            } => match self.conversation(&conversation) {
                Some(c) if c.snapshot().admits(&id, &device) => {
                    let known = c.ask(move |r| r.holds(&commit)).await?;
                    c.engines
                        .spread(|s, now| s.heard(device, commit, known, now));
                    if known {
                        // Who tells of a commit has it.
                        self.note_fetched(&c, id, device, commit).await;
                    }
                }
                Some(_) => tracing::debug!(%id, "someone who is no member tells of a commit"),
                None => self.unknown_conversation(id, device, conversation).await?,
            },
            Notice::Invite {
                conversation,
                metadata,
                received_ms,
            } => {
                self.invited(id, conversation, metadata, received_ms)
                    .await?
            }
            Notice::InviteAgain { conversation } => {
                if let Some(c) = self.conversation(&conversation)
                    && !self.is_leaving(&conversation)
                    && c.snapshot().may_fetch(&id)
                {
                    let invite = self.invitation(&c, id).await?;
                    self.links.tell(&device, &invite);
                }
            }
            Notice::Composing {
                conversation,
                active,
            } => {
                let allowed = self.shared().options.settings.typing
                    && !self.is_leaving(&conversation)
                    && self
                        .conversation(&conversation)
                        .is_some_and(|c| c.snapshot().takes_part(&id));
                if allowed {
                    self.heard_typing(conversation, id, active);
                }
            }
            Notice::Displayed {
                conversation,
                message,
            } => {
                let allowed = self.shared().options.settings.read_receipts;
                if let Some(c) = self
                    .conversation(&conversation)
                    .filter(|c| allowed && c.snapshot().takes_part(&id))
                {
                    let list = c
                        .ask(move |r| r.displayed(id, message, now()).map(|ids| statuses(r, ids)))
                        .await??;
                    self.emit_statuses(conversation, list);
                }
            }
            Notice::Other { mime, .. } => {
                tracing::debug!(mime, "a notice of a kind that is not used")
            }
        }
        Ok(())
    }

    /// Somebody says whether they type. Pages are told of what changed, now and then.
    fn heard_typing(self: &Arc<Self>, conversation: ConversationId, id: AccountId, typing: bool) {
        let key = (conversation, id);
        let then = self.shared().typing.heard(key, typing, Instant::now());
        match then {
            Then::Nothing => {}
            Then::Tell => self.emit_typing(key, typing),
            Then::Later(at) => {
                let account = self.clone();
                self.spawn(async move {
                    tokio::time::sleep_until(at).await;
                    let due = account.shared().typing.due(key, Instant::now());
                    if let Some(typing) = due {
                        account.emit_typing(key, typing);
                    }
                });
            }
        }
    }

    fn emit_typing(&self, (conversation, id): (ConversationId, AccountId), typing: bool) {
        self.emit(Event::Typing {
            account: self.id.clone(),
            conversation,
            id,
            typing,
        });
    }

    pub(super) async fn unknown_conversation(
        &self,
        id: AccountId,
        device: DeviceId,
        conversation: ConversationId,
    ) -> Result<(), AccountError> {
        let known = self
            .book
            .ask(move |b| b.records().contains_key(&conversation) || b.knows_request(&conversation))
            .await?;
        if known {
            // Being cloned, left, declined, or waiting for an answer.
            self.has_news(&conversation, device);
            self.wake.notify_one();
        } else if id != self.jami_id() {
            self.links
                .tell(&device, &Notice::InviteAgain { conversation });
        }
        Ok(())
    }
}

/// The states of some messages.
pub(super) fn statuses(
    repo: &crate::conversation::repo::Repo,
    ids: Vec<ObjectId>,
) -> Vec<(ObjectId, starling_core::api::MessageStatus)> {
    ids.into_iter().map(|id| (id, repo.status(&id))).collect()
}

fn route(over: &SocketAddr) -> LinkRoute {
    let local = match over.ip() {
        std::net::IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        std::net::IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
    };
    if local {
        LinkRoute::Local
    } else {
        LinkRoute::Direct
    }
}
