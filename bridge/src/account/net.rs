//! How an account keeps in touch: it announces itself, watches for the people it
//! knows, connects to their devices, takes what they tell, and fetches.
//!
//! Connections follow a state ("this device is there, we have something in common,
//! and there is no link"), never a single event that may be missed: [`Account::reconcile`]
//! looks at the whole whenever anything changed, and every few seconds.

use super::book::MAX_STRIKES;
use super::{Account, AccountError, now, now_unix};
use crate::conversation::Conversation;
use crate::conversation::fetching::{Ended, Fetching, Turn};
use crate::conversation::repo::{RepoError, Taken};
use crate::conversation::wire::{FetchFailed, Fetched, Fetcher, SILENCE, Sink, serve};
use crate::peer::{Channel, Incoming, LinkEvent, LinkState};
use crate::store::objects::{ObjectStore, Quarantine, QuarantineError, Receiving};
use crate::store::state::StateError;
use futures_util::future::BoxFuture;
use starling_core::account::VCard;
use starling_core::api::{AccountState, Event, LinkPhase, LinkRoute};
use starling_core::drt;
use starling_core::git::pack::Limits;
use starling_core::git::reach;
use starling_core::git::serve::Event as Served;
use starling_core::id::{AccountId, ConversationId, DeviceId, DeviceShortId, ObjectId};
use starling_core::identity::{Announcement, Certificate};
use starling_core::notice::Notice;
use starling_core::peer::channel_name::ChannelName;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How often the whole is looked at without a reason.
const RECONCILE: Duration = Duration::from_secs(5);

/// The pause after a first failed attempt to reach a device; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause: an announcement of a device that is gone lives ten minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Longest card of a person that is taken; the reference has no limit.
const MAX_CARD: usize = 2 << 20;

/// How long a card may take.
const CARD_TIME: Duration = Duration::from_secs(60);

impl Account {
    /// Starts everything this account does by itself.
    pub(super) fn run(self: &Arc<Self>, incoming: tokio::sync::mpsc::Receiver<Incoming>) {
        self.spawn(self.clone().announce_self());
        self.spawn(self.clone().read_inbox());
        self.spawn(self.clone().follow_links());
        self.spawn(self.clone().take_channels(incoming));
        self.spawn(self.clone().keep_reconciling());
    }

    // --- being found ---

    async fn announce_self(self: Arc<Self>) {
        let mut status = self.context.dht.status();
        let mut published = false;
        loop {
            let connected =
                status.borrow_and_update().connectivity() == crate::dht::Connectivity::Connected;
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
            if status.changed().await.is_err() {
                return;
            }
            self.wake.notify_one();
        }
    }

    // --- who is there ---

    /// Watches for the devices of a person, until the account ends.
    pub(super) fn watch(self: &Arc<Self>, id: AccountId) {
        {
            let mut shared = self.shared();
            if shared.reach.contains_key(&id) {
                return;
            }
            shared.reach.insert(
                id,
                super::Reach {
                    link_since: now(),
                    ..Default::default()
                },
            );
        }
        let account = self.clone();
        self.spawn(async move {
            let mut listen = account.context.dht.listen(id.dht_key());
            while let Some(event) = listen.next().await {
                for value in &event.values {
                    let Ok(announcement) = Announcement::verify(&Self::crypto(), &id, value) else {
                        continue;
                    };
                    let known = account
                        .shared()
                        .reach
                        .get(&id)
                        .and_then(|r| r.announced.get(&value.id).copied());
                    let device = match announcement.device_id().or(known) {
                        Some(device) => device,
                        // Writers of 2023 leave out the key: the certificate tells.
                        None => match account.device_by_short_id(announcement.short_id).await {
                            Some(device) => device,
                            None => continue,
                        },
                    };
                    if device == account.device_id() {
                        continue;
                    }
                    let mut shared = account.shared();
                    let reach = shared.reach.entry(id).or_default();
                    if event.expired {
                        reach.announced.remove(&value.id);
                        if reach.announced.is_empty() {
                            // Gone: whatever was not answered is sent again when they are back.
                            shared.asked.retain(|(d, _)| *d != device);
                        }
                    } else if reach.announced.insert(value.id, device).is_none() {
                        // Just come (back): no reason to wait out an old pause.
                        shared.attempts.remove(&device);
                    }
                }
                account.refresh_presence(id);
                account.wake.notify_one();
            }
        });
    }

    async fn device_by_short_id(&self, id: DeviceShortId) -> Option<DeviceId> {
        let chain = self.context.dht.find_certificate_short(&id).await?;
        let device = Certificate::from_der(chain.first()?).ok()?;
        (device.short_id() == id).then(|| device.device_id())
    }

    /// Everyone with whom this account has something in common.
    async fn everyone(&self) -> Result<BTreeSet<AccountId>, AccountError> {
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
            all.extend(
                snapshot
                    .members
                    .iter()
                    .filter(|m| snapshot.may_fetch(&m.id))
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

    async fn keep_reconciling(self: Arc<Self>) {
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
    async fn reconcile(self: &Arc<Self>) -> Result<(), AccountError> {
        let everyone = self.everyone().await?;
        for id in &everyone {
            self.watch(*id);
        }
        self.resend_requests().await?;
        let mut candidates: Vec<(AccountId, DeviceId)> = Vec::new();
        {
            let shared = self.shared();
            for id in &everyone {
                if let Some(reach) = shared.reach.get(id) {
                    candidates.extend(reach.announced.values().map(|d| (*id, *d)));
                }
            }
        }
        candidates.dedup();
        for (id, device) in candidates {
            if self.links.has(&device) || !self.wants_link(&id).await? {
                continue;
            }
            let begin = {
                let mut shared = self.shared();
                let entry = shared.attempts.entry(device).or_insert((Instant::now(), 0));
                let begin = entry.0 <= Instant::now();
                if begin {
                    // Until the attempt has ended.
                    entry.0 = Instant::now() + LONGEST_PAUSE;
                }
                begin
            };
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

    /// Whether a link to a person is of use: they are a confirmed contact, a fellow member, or have what we lack.
    async fn wants_link(&self, id: &AccountId) -> Result<bool, AccountError> {
        let own = self.jami_id();
        let fellow = self.conversations().iter().any(|c| {
            let s = c.snapshot();
            // Who was left has to hear of it.
            s.takes_part(id) && (s.takes_part(&own) || self.is_leaving(&c.id))
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
    async fn connect(self: Arc<Self>, id: AccountId, device: DeviceId) {
        let opened = self
            .peers
            .open(&device, Some(id), ChannelName::Message { device })
            .await;
        let mut shared = self.shared();
        match opened {
            Ok(channel) => {
                shared.attempts.remove(&device);
                drop(shared);
                self.run_message_channel(channel);
            }
            Err(e) => {
                let entry = shared.attempts.entry(device).or_insert((Instant::now(), 0));
                entry.1 = entry.1.saturating_add(1);
                let pause = FIRST_PAUSE
                    .saturating_mul(1 << entry.1.saturating_sub(1).min(10))
                    .min(LONGEST_PAUSE);
                entry.0 = Instant::now() + pause;
                drop(shared);
                tracing::debug!(%device, %e, ?pause, "a device was not reached");
            }
        }
    }

    // --- links ---

    async fn follow_links(self: Arc<Self>) {
        let mut events = self.peers.events();
        loop {
            match events.recv().await {
                Ok(event) => self.on_link(event),
                // Too slow: what matters is looked at as a whole.
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => self.wake.notify_one(),
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn on_link(self: &Arc<Self>, event: LinkEvent) {
        tracing::debug!(?event, "link");
        let Some(id) = event.account else { return };
        let device = Some(event.device);
        match event.state {
            LinkState::LookingUp => self.set_link(id, device, LinkPhase::LookingUp, None, None),
            LinkState::Negotiating => self.set_link(id, device, LinkPhase::Negotiating, None, None),
            LinkState::Connected { over, .. } => {
                self.set_link(id, device, LinkPhase::Connected, Some(route(&over)), None);
                self.on_connected(id, event.device);
            }
            LinkState::Failed { why } => {
                self.set_link(id, device, LinkPhase::Failed, None, Some(why.to_string()))
            }
            LinkState::Closed { why } => {
                let still = self.peers.connected().iter().any(|(_, a)| *a == id);
                if !still {
                    self.set_link(id, device, LinkPhase::Idle, None, Some(why.to_string()));
                }
                self.refresh_presence(id);
                self.wake.notify_one();
            }
        }
    }

    /// A link is new: both sides open a message channel, and catch up.
    fn on_connected(self: &Arc<Self>, id: AccountId, device: DeviceId) {
        for conversation in self.conversations() {
            conversation.fetching.connected(&device);
        }
        if !self.links.has(&device) {
            let account = self.clone();
            self.spawn(async move {
                match account
                    .peers
                    .open(&device, Some(id), ChannelName::Message { device })
                    .await
                {
                    Ok(channel) => account.run_message_channel(channel),
                    // Daemons of 2023 have none: they are told over other ways.
                    Err(e) => tracing::debug!(%device, %e, "no message channel"),
                }
            });
        }
        self.wake.notify_one();
    }

    fn run_message_channel(self: &Arc<Self>, channel: Channel) {
        let (device, id) = (channel.device(), channel.account());
        let first = !self.links.has(&device);
        let account = self.clone();
        self.spawn(async move {
            let heard = {
                let account = account.clone();
                move |notice| account.clone().hear(id, device, notice)
            };
            let links = account.links.clone();
            let run = links.run(channel, device, id, heard);
            let announce = async {
                if first {
                    account.refresh_presence(id);
                    account.catch_up(id, device);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = run => {}
                () = announce => {}
            }
            account.refresh_presence(id);
            account.wake.notify_one();
        });
    }

    /// What two devices have in common is compared when they meet.
    fn catch_up(self: &Arc<Self>, id: AccountId, device: DeviceId) {
        for conversation in self.conversations() {
            let snapshot = conversation.snapshot();
            if snapshot.takes_part(&id) && !self.is_leaving(&conversation.id) {
                self.fetch(&conversation, id, device, None);
            }
            if snapshot.may_fetch(&id) {
                let account = self.clone();
                let conversation = conversation.clone();
                self.spawn_for(&conversation.clone(), async move {
                    account.tell_head(&conversation, device, id).await;
                });
            }
        }
        let account = self.clone();
        self.spawn(async move { account.show_profile(id, device).await });
    }

    // --- channels that others open ---

    async fn take_channels(self: Arc<Self>, mut incoming: tokio::sync::mpsc::Receiver<Incoming>) {
        while let Some(channel) = incoming.recv().await {
            self.take_channel(channel);
        }
    }

    fn take_channel(self: &Arc<Self>, incoming: Incoming) {
        let (id, device) = (incoming.account, incoming.device);
        let own = self.device_id();
        if !self.lets_in(&id) {
            return incoming.decline();
        }
        match incoming.name.clone() {
            ChannelName::Message { .. } => self.run_message_channel(incoming.accept()),
            ChannelName::Git {
                device: server,
                conversation,
            } if server == own => match self.conversation(&conversation) {
                Some(c) if c.snapshot().may_fetch(&id) => {
                    let account = self.clone();
                    let channel = incoming.accept();
                    self.spawn_for(&c.clone(), async move {
                        account.serve_git(channel, c, id, device).await;
                    });
                }
                _ => incoming.decline(),
            },
            ChannelName::Swarm { conversation } => match self.conversation(&conversation) {
                Some(c) if c.snapshot().takes_part(&id) => {
                    let account = self.clone();
                    let channel = incoming.accept();
                    self.spawn_for(&c.clone(), async move {
                        if let Err(e) = account.neighbour(channel, &c).await {
                            tracing::debug!(%device, %e, "a swarm channel has ended");
                        }
                    });
                }
                _ => incoming.decline(),
            },
            ChannelName::MemberProfile {
                conversation,
                device: sender,
                ..
            } => {
                // Someone who was asked in shows their card as soon as they accept; their commit
                // that says so may still be on its way.
                let member = sender == device
                    && self
                        .conversation(&conversation)
                        .is_some_and(|c| c.snapshot().may_fetch(&id));
                if member {
                    let account = self.clone();
                    let channel = incoming.accept();
                    self.spawn(async move { account.take_card(channel, id).await });
                } else {
                    incoming.decline();
                }
            }
            ChannelName::ProfileOf {
                conversation,
                account: whose,
            } => {
                let member = self
                    .conversation(&conversation)
                    .is_some_and(|c| c.snapshot().may_fetch(&id));
                if member && whose == self.jami_id() {
                    let card = self.card();
                    let mut channel = incoming.accept();
                    self.spawn(async move {
                        let give = async {
                            let _ = channel.write_all(&card).await;
                            let _ = channel.shutdown().await;
                        };
                        let _ = tokio::time::timeout(CARD_TIME, give).await;
                    });
                } else {
                    incoming.decline();
                }
            }
            other => {
                tracing::debug!(%device, name = %other, "a channel of a kind that is not taken");
                incoming.decline();
            }
        }
    }

    async fn serve_git(
        self: Arc<Self>,
        channel: Channel,
        conversation: Conversation,
        id: AccountId,
        device: DeviceId,
    ) {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let store = conversation.store.clone();
        let note = async {
            while let Some(commit) = told.recv().await {
                self.note_fetched(&conversation, id, device, commit).await;
            }
        };
        let allowed = || !self.is_blocked(&id) && conversation.snapshot().may_fetch(&id);
        let serving = serve(
            channel,
            conversation.id,
            store,
            allowed,
            move |event| match event {
                Served::UpToDate(commit) | Served::Sent(commit) => drop(tell.send(commit)),
                Served::Failed(e) => {
                    tracing::debug!(%e, "a device asked for git in a way that cannot be served")
                }
            },
        );
        tokio::join!(serving, note);
    }

    /// A device has our history up to a commit.
    async fn note_fetched(
        self: &Arc<Self>,
        conversation: &Conversation,
        id: AccountId,
        device: DeviceId,
        commit: ObjectId,
    ) {
        let changed = conversation
            .ask(move |r| {
                r.fetched(device, id, commit, now())
                    .map(|ids| statuses(r, ids))
            })
            .await;
        match changed {
            Ok(Ok(list)) => self.emit_statuses(conversation.id, list),
            Ok(Err(e)) => tracing::warn!(%e, "how far a message got could not be kept"),
            Err(_) => {}
        }
        if self.is_leaving(&conversation.id) {
            self.tidy(conversation).await;
        }
    }

    pub(super) fn emit_statuses(
        &self,
        conversation: ConversationId,
        list: Vec<(ObjectId, starling_core::api::MessageStatus)>,
    ) {
        if self.is_leaving(&conversation) {
            return;
        }
        for (id, status) in list {
            self.emit(Event::MessageStatus {
                account: self.id.clone(),
                conversation,
                id,
                status,
            });
        }
    }

    /// A neighbour in the routing table of a swarm: answers what it asks.
    async fn neighbour(&self, mut channel: Channel, conversation: &Conversation) -> io::Result<()> {
        write_all(&mut channel, &drt::Message::find(self.device_id()).encode()).await?;
        let mut buffer = Vec::new();
        let mut piece = vec![0; 4096];
        loop {
            let n = channel.read(&mut piece).await?;
            if n == 0 {
                return Ok(());
            }
            buffer.extend_from_slice(piece.get(..n).unwrap_or_default());
            while let Some((len, message)) =
                drt::Message::first(&buffer).map_err(io::Error::other)?
            {
                buffer.drain(..len);
                if let Some((near, count)) = message.find {
                    let snapshot = conversation.snapshot();
                    let mut nodes: Vec<DeviceId> = self
                        .links
                        .connected()
                        .into_iter()
                        .filter(|(d, a)| {
                            snapshot.takes_part(a) && *d != near && *d != channel.device()
                        })
                        .map(|(d, _)| d)
                        .collect();
                    nodes.sort_by_key(|d| distance(d, &near));
                    nodes.truncate(
                        usize::try_from(count)
                            .unwrap_or(usize::MAX)
                            .min(drt::MAX_NODES),
                    );
                    write_all(&mut channel, &drt::Message::found(nodes).encode()).await?;
                }
            }
        }
    }

    // --- cards ---

    /// One's own card.
    pub(super) fn card(&self) -> Vec<u8> {
        super::people::card(&self.shared().options.profile)
    }

    async fn take_card(self: Arc<Self>, channel: Channel, id: AccountId) {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(
            CARD_TIME,
            channel.take(MAX_CARD as u64 + 1).read_to_end(&mut bytes),
        )
        .await;
        if !matches!(read, Ok(Ok(_))) || bytes.len() > MAX_CARD {
            tracing::debug!("a card that does not end, or is too long");
            return;
        }
        match VCard::parse(&bytes) {
            Ok(card) => {
                if let Err(e) = self.learn_profile(id, super::people::profile(&card)).await {
                    tracing::warn!(%e, "a card could not be kept");
                }
            }
            Err(e) => tracing::debug!(%e, "a card that cannot be read"),
        }
    }

    /// Gives one's card to a device of a fellow member, once.
    pub(super) async fn show_profile(self: Arc<Self>, id: AccountId, device: DeviceId) {
        let own = self.jami_id();
        let common = self.conversations().into_iter().find(|c| {
            let s = c.snapshot();
            s.takes_part(&id) && s.takes_part(&own)
        });
        let Some(conversation) = common else { return };
        if id == own || !self.shared().shown.insert(device) {
            return;
        }
        let name = ChannelName::MemberProfile {
            conversation: conversation.id,
            device: self.device_id(),
            arguments: super::people::card_arguments(&self.card()),
        };
        let given = async {
            let mut channel = self
                .peers
                .open(&device, Some(id), name)
                .await
                .map_err(io::Error::other)?;
            channel.write_all(&self.card()).await?;
            channel.shutdown().await
        };
        let given = tokio::time::timeout(CARD_TIME, given).await;
        if let Err(e) = given.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            tracing::debug!(%device, %e, "the card was not taken");
            self.shared().shown.remove(&device);
        }
    }

    // --- telling and hearing ---

    /// Tells every connected member of the newest commit, except whom it came from.
    pub(super) async fn tell_all(
        self: &Arc<Self>,
        conversation: &Conversation,
        except: Option<DeviceId>,
    ) {
        let snapshot = conversation.snapshot();
        for (device, id) in self.links.connected() {
            if Some(device) != except && snapshot.may_fetch(&id) {
                self.tell_head(conversation, device, id).await;
            }
        }
        self.wake.notify_one();
    }

    async fn tell_head(&self, conversation: &Conversation, device: DeviceId, id: AccountId) {
        let commit = conversation.head();
        tracing::debug!(%device, %commit, "telling");
        let notice = Notice::NewCommit {
            conversation: conversation.id,
            commit,
            device: self.device_id(),
        };
        if self.links.tell(&device, &notice)
            && let Ok(list) = conversation
                .ask(move |r| {
                    let ids = r.told(device, id, commit);
                    statuses(r, ids)
                })
                .await
        {
            self.emit_statuses(conversation.id, list);
        }
    }

    async fn hear(self: Arc<Self>, id: AccountId, device: DeviceId, notice: Notice) {
        // A connection may outlive the right to it for a moment.
        if !self.lets_in(&id) {
            return;
        }
        if let Err(e) = self.act_on(id, device, notice).await {
            tracing::warn!(%e, %device, "a notice could not be acted on");
        }
    }

    async fn act_on(
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
                Some(c) if c.snapshot().may_fetch(&id) => {
                    if self.is_leaving(&conversation) {
                        // They do not know that we left.
                        self.tell_head(&c, device, id).await;
                        return Ok(());
                    }
                    let known = c.ask(move |r| r.timeline().contains(&commit)).await?;
                    if known {
                        // Who tells of a commit has it.
                        self.note_fetched(&c, id, device, commit).await;
                    } else {
                        self.fetch(&c, id, device, Some(commit));
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
                    let invite = self.invitation(&c);
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
                    self.emit(Event::Typing {
                        account: self.id.clone(),
                        conversation,
                        id,
                        typing: active,
                    });
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

    async fn unknown_conversation(
        &self,
        id: AccountId,
        device: DeviceId,
        conversation: ConversationId,
    ) -> Result<(), AccountError> {
        let known = self
            .book
            .ask(move |b| {
                b.records().contains_key(&conversation) || b.request(&conversation).is_some()
            })
            .await?;
        if known {
            // Being cloned, left, or waiting for an answer.
            self.wake.notify_one();
        } else if id != self.jami_id() {
            self.links
                .tell(&device, &Notice::InviteAgain { conversation });
        }
        Ok(())
    }

    // --- fetching ---

    /// Wants what a device has of a conversation. Comes to it now, after the fetch that runs, or after a pause.
    pub(super) fn fetch(
        self: &Arc<Self>,
        conversation: &Conversation,
        id: AccountId,
        device: DeviceId,
        head: Option<ObjectId>,
    ) {
        match conversation.fetching.ask(device, head, Instant::now()) {
            Turn::Go => {}
            Turn::Running | Turn::Waiting | Turn::Refused => return,
            Turn::After(at) => {
                let (account, conversation) = (self.clone(), conversation.clone());
                self.spawn_for(&conversation.clone(), async move {
                    tokio::time::sleep_until(at.into()).await;
                    conversation.fetching.waited(&device);
                    // Else they meet again when there is a connection.
                    if account.is_linked(&device) {
                        account.fetch(&conversation, id, device, head);
                    }
                });
                return;
            }
        }
        let (account, conversation) = (self.clone(), conversation.clone());
        self.spawn_for(&conversation.clone(), async move {
            let mut open: Option<Fetcher<Channel>> = None;
            loop {
                let ended = match account.fetch_once(&conversation, id, device, &mut open).await {
                    Ok(()) => Ended::Well,
                    Err(FetchTrouble::Refused(head)) => Ended::Refused(head),
                    Err(FetchTrouble::Failed(why)) => {
                        tracing::debug!(%device, conversation = %conversation.id, %why, "a fetch failed");
                        Ended::Failed
                    }
                };
                if !conversation.fetching.done(device, ended, Instant::now()) {
                    if ended == Ended::Failed && account.is_linked(&device) {
                        // What failed now may work after a pause.
                        account.fetch(&conversation, id, device, None);
                    }
                    return;
                }
            }
        });
    }

    /// Whether there is a connection to a device.
    fn is_linked(&self, device: &DeviceId) -> bool {
        self.peers.connected().iter().any(|(d, _)| d == device)
    }

    async fn fetch_once(
        self: &Arc<Self>,
        conversation: &Conversation,
        id: AccountId,
        device: DeviceId,
        open: &mut Option<Fetcher<Channel>>,
    ) -> Result<(), FetchTrouble> {
        let mut fetcher = match open.take() {
            Some(f) => f,
            None => self.git_channel(conversation.id, id, device).await?,
        };
        let mut sink = Arriving::new(conversation.store.clone(), conversation.fetching.clone());
        let fetched = fetcher.fetch(&mut sink).await;
        if let Some(e) = sink.bad.take() {
            let _ = self.blame(conversation.id, device, conversation.head(), &e);
            return Err(FetchTrouble::Failed(e.to_string()));
        }
        let fetched = fetched?;
        *open = Some(fetcher);
        let (taken, head) = match fetched {
            Fetched::Nothing(head) => (
                conversation.ask(move |r| r.adopt(head, now_unix())).await,
                head,
            ),
            Fetched::Pack(head) => {
                let quarantine = sink
                    .finish()
                    .map_err(|e| self.blame(conversation.id, device, head, &e))?;
                let taken = conversation
                    .ask(move |r| r.take(quarantine, head, device, now_unix()))
                    .await;
                (taken, head)
            }
        };
        let taken = taken.map_err(|e| FetchTrouble::Failed(e.to_string()))?;
        tracing::debug!(%device, conversation = %conversation.id, ?fetched, now = %conversation.head(), "fetched");
        self.taken(conversation, id, device, head, taken).await
    }

    /// Takes in a head whose objects are here, after a pause in which the other side may have merged.
    fn merge_later(
        self: Arc<Self>,
        conversation: Conversation,
        id: AccountId,
        device: DeviceId,
        head: ObjectId,
        pause: Duration,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            let Ok(taken) = conversation.ask(move |r| r.adopt(head, now_unix())).await else {
                return;
            };
            // Judged before: what can fail now is our disk.
            let taken = self.taken(&conversation, id, device, head, taken).await;
            if let Err(FetchTrouble::Failed(why)) = taken {
                tracing::warn!(conversation = %conversation.id, why, "not merged");
            }
        })
    }

    /// Follows what came of a fetch.
    async fn taken(
        self: &Arc<Self>,
        conversation: &Conversation,
        id: AccountId,
        device: DeviceId,
        head: ObjectId,
        taken: Result<Taken, RepoError>,
    ) -> Result<(), FetchTrouble> {
        match taken {
            Ok(Taken::Later(pause)) => {
                let later = self
                    .clone()
                    .merge_later(conversation.clone(), id, device, head, pause);
                self.spawn_for(conversation, later);
            }
            Ok(Taken::Nothing) => self.note_fetched(conversation, id, device, head).await,
            Ok(Taken::New {
                changes,
                snapshot_changed,
            }) => {
                self.note_fetched(conversation, id, device, head).await;
                self.show_changes(conversation, changes, snapshot_changed)
                    .await;
                self.tell_all(conversation, Some(device)).await;
                if conversation.head() != head {
                    // A merge of ours: they lack it.
                    self.tell_head(conversation, device, id).await;
                }
            }
            Err(RepoError::Rejected(fault)) => {
                self.emit(Event::ConversationRejected {
                    account: self.id.clone(),
                    conversation: conversation.id,
                    from: device,
                    commit: Some(fault.commit),
                    rule: fault.misbehaviour.name(),
                    detail: fault.misbehaviour.to_string(),
                });
                return Err(FetchTrouble::Refused(head));
            }
            Err(e) => return Err(FetchTrouble::Failed(e.to_string())),
        }
        Ok(())
    }

    async fn git_channel(
        &self,
        conversation: ConversationId,
        id: AccountId,
        device: DeviceId,
    ) -> Result<Fetcher<Channel>, FetchTrouble> {
        // Connecting has its own pauses, and one owner: reconciling.
        if !self.is_linked(&device) {
            return Err(FetchTrouble::Failed("there is no connection".into()));
        }
        let channel = self
            .peers
            .open(
                &device,
                Some(id),
                ChannelName::Git {
                    device,
                    conversation,
                },
            )
            .await
            .map_err(|e| FetchTrouble::Failed(e.to_string()))?;
        Ok(Fetcher::new(channel, conversation, device))
    }

    /// What to do about a pack that did not come through quarantine.
    fn blame(
        &self,
        conversation: ConversationId,
        device: DeviceId,
        head: ObjectId,
        e: &QuarantineError,
    ) -> FetchTrouble {
        match e {
            QuarantineError::Store(e) => FetchTrouble::Failed(e.to_string()),
            QuarantineError::Pack(e) => {
                self.emit(Event::ConversationRejected {
                    account: self.id.clone(),
                    conversation,
                    from: device,
                    commit: None,
                    rule: "Pack".into(),
                    detail: e.to_string(),
                });
                FetchTrouble::Refused(head)
            }
        }
    }

    // --- cloning ---

    /// Wants a copy of a conversation that was accepted.
    pub(super) fn start_clone(self: &Arc<Self>, id: ConversationId) {
        {
            let mut shared = self.shared();
            if shared.conversations.contains_key(&id) || !shared.cloning.insert(id) {
                return;
            }
        }
        let account = self.clone();
        self.spawn(async move {
            if let Err(e) = account.clone_from_anyone(id).await {
                tracing::debug!(conversation = %id, %e, "no copy yet");
            }
            account.shared().cloning.remove(&id);
        });
    }

    async fn clone_from_anyone(self: &Arc<Self>, id: ConversationId) -> Result<(), AccountError> {
        let Some(info) = self.book.ask(move |b| b.conversation(&id).cloned()).await? else {
            return Ok(());
        };
        let mut sources: Vec<(AccountId, DeviceId)> = Vec::new();
        {
            let own = self.jami_id();
            // Connections are made by reconciling, which knows when it is too soon for one.
            let mut connected = self.peers.connected();
            connected.retain(|(_, a)| *a == own || info.members.contains(a));
            sources.extend(connected.into_iter().map(|(d, a)| (a, d)));
        }
        let fetching = self.shared().clones.entry(id).or_default().clone();
        for (member, device) in sources {
            let struck = self
                .book
                .ask(move |b| b.local(&id).strikes.get(&device).copied().unwrap_or(0))
                .await?;
            if struck >= MAX_STRIKES {
                continue;
            }
            match fetching.ask(device, None, Instant::now()) {
                Turn::Go => {}
                Turn::After(at) => {
                    let account = self.clone();
                    let fetching = fetching.clone();
                    self.spawn(async move {
                        tokio::time::sleep_until(at.into()).await;
                        fetching.waited(&device);
                        account.start_clone(id);
                    });
                    continue;
                }
                Turn::Running | Turn::Waiting | Turn::Refused => continue,
            }
            let ended = match self.clone_from(id, member, device, &fetching).await {
                Ok(()) => Ended::Well,
                Err(FetchTrouble::Failed(why)) => {
                    tracing::debug!(conversation = %id, %device, why, "not cloned");
                    Ended::Failed
                }
                Err(FetchTrouble::Refused(head)) => {
                    self.book
                        .ask(move |b| -> Result<(), StateError> {
                            let mut local = b.local(&id);
                            let strikes = local.strikes.entry(device).or_default();
                            *strikes = strikes.saturating_add(1);
                            local.refused =
                                Some("what was offered breaks the rules of conversations".into());
                            b.set_local(id, local)
                        })
                        .await??;
                    self.show_syncing(id).await;
                    Ended::Refused(head)
                }
            };
            fetching.done(device, ended, Instant::now());
            if ended == Ended::Well {
                self.shared().clones.remove(&id);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether a conversation was left, and is kept only until somebody has heard of it.
    pub(super) fn is_leaving(&self, id: &ConversationId) -> bool {
        self.shared().leaving.contains_key(id)
    }

    /// Erases a conversation that was left, once somebody else has the commit that says so.
    pub(super) async fn tidy(self: &Arc<Self>, conversation: &Conversation) {
        let left = self.shared().leaving.get(&conversation.id).copied();
        let Some(left) = left else { return };
        let known = conversation
            .ask(move |r| r.is_known_elsewhere(&left))
            .await
            .unwrap_or(false);
        if known {
            let (account, id) = (self.clone(), conversation.id);
            // Not here: whoever notes this may be reading the repository.
            self.spawn(async move {
                if let Err(e) = account.erase(id).await {
                    tracing::warn!(%e, conversation = %id, "a conversation that was left is still here");
                }
            });
        }
    }

    async fn clone_from(
        self: &Arc<Self>,
        id: ConversationId,
        member: AccountId,
        device: DeviceId,
        fetching: &Fetching,
    ) -> Result<(), FetchTrouble> {
        let failed = |e: &dyn std::fmt::Display| FetchTrouble::Failed(e.to_string());
        let target = crate::conversation::path(&self.dir, &id);
        if target.exists() {
            // Cloned and valid, but the end of it was interrupted.
            return self
                .cloned(id, member, device)
                .await
                .map_err(|e| failed(&e));
        }
        let mut fetcher = self.git_channel(id, member, device).await?;
        let staging = target.with_extension("clone");
        std::fs::create_dir_all(target.parent().unwrap_or(&self.dir)).map_err(|e| failed(&e))?;
        // Left over from a crash.
        let _ = std::fs::remove_dir_all(&staging);
        let store = Arc::new(ObjectStore::create(&staging).map_err(|e| failed(&e))?);
        let mut sink = Arriving::new(store.clone(), fetching.clone());
        let fetched = fetcher.fetch(&mut sink).await;
        if let Some(e) = sink.bad.take() {
            let bad = ObjectId::from(id);
            return Err(self.blame(id, device, bad, &e));
        }
        let Fetched::Pack(head) = fetched? else {
            return Err(failed(&"nothing was offered"));
        };
        let quarantine = sink
            .finish()
            .map_err(|e| self.blame(id, device, head, &e))?;
        let own = self.jami_id();
        let checked = tokio::task::block_in_place(|| {
            crate::conversation::repo::Repo::check_clone(id, &quarantine, head, &own)
        });
        if let Err(e) = checked {
            drop(quarantine);
            drop(store);
            let _ = std::fs::remove_dir_all(&staging);
            if let RepoError::Rejected(fault) = &e {
                self.emit(Event::ConversationRejected {
                    account: self.id.clone(),
                    conversation: id,
                    from: device,
                    commit: Some(fault.commit),
                    rule: fault.misbehaviour.name(),
                    detail: fault.misbehaviour.to_string(),
                });
                return Err(FetchTrouble::Refused(head));
            }
            return Err(failed(&e));
        }
        tokio::task::block_in_place(|| {
            quarantine.accept().map_err(|e| failed(&e))?;
            store.set_head(None, head).map_err(|e| failed(&e))?;
            drop(store);
            crate::conversation::settle(&staging, &target).map_err(|e| failed(&e))
        })?;
        self.cloned(id, member, device)
            .await
            .map_err(|e| failed(&e))
    }

    /// A copy is here and valid: comes in if need be, and is shown.
    async fn cloned(
        self: &Arc<Self>,
        id: ConversationId,
        member: AccountId,
        device: DeviceId,
    ) -> Result<(), AccountError> {
        let conversation = self.open_conversation(id).await?;
        let head = conversation.head();
        self.note_fetched(&conversation, member, device, head).await;
        if !conversation.snapshot().takes_part(&self.jami_id()) {
            conversation
                .ask(|r| r.write(now_unix(), |repo, writer, now| repo.join(writer, now)))
                .await??;
        }
        let snapshot = conversation.snapshot();
        self.book
            .ask(move |b| {
                let mut local = b.local(&id);
                local.cloned = true;
                local.refused = None;
                local.strikes.clear();
                b.set_local(id, local)?;
                // What the invitation said of it counts no more.
                b.change_conversation(&id, |c| {
                    c.mode = snapshot.mode.number();
                    c.members = snapshot.members.iter().map(|m| m.id).collect();
                })
            })
            .await??;
        self.index_conversation(&conversation).await;
        self.confirm_members(&conversation).await?;
        self.show_ready(&conversation).await;
        self.tell_all(&conversation, None).await;
        self.catch_up(member, device);
        Ok(())
    }
}

/// Why a fetch did not end well.
enum FetchTrouble {
    /// Not now.
    Failed(String),
    /// It breaks the rules.
    Refused(ObjectId),
}

impl From<FetchFailed> for FetchTrouble {
    fn from(e: FetchFailed) -> Self {
        match e {
            FetchFailed::Refused(head) => Self::Refused(head),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Where a fetch meets our repository.
struct Arriving {
    store: Arc<ObjectStore>,
    fetching: Fetching,
    receiving: Receiving,
    bad: Option<QuarantineError>,
}

impl Arriving {
    fn new(store: Arc<ObjectStore>, fetching: Fetching) -> Self {
        let receiving = store.quarantine(Limits::default());
        Self {
            store,
            fetching,
            receiving,
            bad: None,
        }
    }

    fn finish(self) -> Result<Quarantine, QuarantineError> {
        match self.bad {
            Some(e) => Err(e),
            None => tokio::task::block_in_place(|| self.receiving.finish()),
        }
    }
}

impl Sink for Arriving {
    fn has(&self, id: &ObjectId) -> bool {
        self.store.contains(id)
    }

    fn refuses(&self, id: &ObjectId) -> bool {
        self.fetching.is_refused(id)
    }

    fn haves(&self) -> Vec<ObjectId> {
        reach::haves(&*self.store).unwrap_or_default()
    }

    fn pack(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(e) = self.receiving.write(bytes) {
            let text = e.to_string();
            self.bad = Some(e);
            return Err(io::Error::other(text));
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

fn distance(a: &DeviceId, b: &DeviceId) -> [u8; 32] {
    let mut out = [0; 32];
    for (o, (x, y)) in out.iter_mut().zip(a.0.iter().zip(b.0.iter())) {
        *o = x ^ y;
    }
    out
}

/// Writes to a peer that may not read.
async fn write_all(channel: &mut Channel, bytes: &[u8]) -> io::Result<()> {
    match tokio::time::timeout(SILENCE, channel.write_all(bytes)).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
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
