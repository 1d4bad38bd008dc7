//! Channels that others open to us: git, routing, cards; and our own card given to them.

use super::guests::Kind;
use super::net::statuses;
use super::{Account, now};
use crate::conversation::Conversation;
use crate::conversation::wire::serve;
use crate::peer::{Channel, Incoming};
use crate::store::objects::ObjectStore;
use starling_core::account::VCard;
use starling_core::api::Event;
use starling_core::git::Repository;
use starling_core::git::object::Kind as ObjectKind;
use starling_core::git::serve::Event as Served;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::peer::channel_name::ChannelName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// Longest card of a person that is taken; the reference has no limit.
const MAX_CARD: usize = 2 << 20;

/// How long a card may take.
const CARD_TIME: Duration = Duration::from_secs(60);

/// How long what a banned person was sent last may be on its way to them.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Account {
    // --- channels that others open ---

    pub(super) async fn take_channels(
        self: Arc<Self>,
        incoming: Arc<tokio::sync::Mutex<tokio::sync::mpsc::Receiver<Incoming>>>,
    ) {
        let mut incoming = incoming.lock().await;
        while let Some(channel) = incoming.recv().await {
            self.take_channel(channel);
        }
    }

    pub(super) fn take_channel(self: &Arc<Self>, incoming: Incoming) {
        let (id, device) = (incoming.account, incoming.device);
        let own = self.device_id();
        if !self.lets_in(&id, &device) {
            return incoming.decline();
        }
        let kind = match &incoming.name {
            ChannelName::Message { .. } => Kind::Message,
            ChannelName::Git { .. } => Kind::Git,
            ChannelName::Swarm { .. } => Kind::Swarm,
            _ => Kind::Card,
        };
        let Some(guest) = self.guests.enter(device, kind) else {
            tracing::debug!(%device, ?kind, "a device has enough channels of a kind");
            return incoming.decline();
        };
        match incoming.name.clone() {
            ChannelName::Message { .. } => self.run_message_channel(incoming.accept(), Some(guest)),
            ChannelName::Git {
                device: server,
                conversation,
            } if server == own => match self.conversation(&conversation) {
                Some(c) if c.snapshot().admits(&id, &device) => {
                    let account = self.clone();
                    let channel = incoming.accept();
                    self.spawn_for(&c.clone(), async move {
                        let _guest = guest;
                        account.serve_git(channel, c, id, device).await;
                    });
                }
                Some(c) if c.snapshot().role(&id).is_some() => {
                    let account = self.clone();
                    self.spawn_for(&c.clone(), async move {
                        let _guest = guest;
                        account.serve_ban(incoming, c, id, device).await;
                    });
                }
                _ => incoming.decline(),
            },
            // Those who were asked in as well: a daemon opens it as soon as it has joined, which we
            // learn later; one that is declined once looks for others, and may find none.
            ChannelName::Swarm { conversation } => {
                let c = self
                    .conversation(&conversation)
                    .filter(|c| c.snapshot().admits(&id, &device));
                // A few for each device: each side may open one, and again after an error.
                match c.and_then(|c| Some((c.engines.line(device, id)?, c))) {
                    Some((line, c)) => {
                        let channel = incoming.accept();
                        self.spawn_for(&c.clone(), async move {
                            let _guest = guest;
                            super::swarm::run_line(channel, &c, line).await;
                        });
                    }
                    None => incoming.decline(),
                }
            }
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
                        .is_some_and(|c| c.snapshot().admits(&id, &device));
                if member {
                    let account = self.clone();
                    let channel = incoming.accept();
                    self.spawn(async move {
                        let _guest = guest;
                        account.take_card(channel, id).await;
                    });
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
                    .is_some_and(|c| c.snapshot().admits(&id, &device));
                if member && whose == self.jami_id() {
                    let card = self.card();
                    let mut channel = incoming.accept();
                    self.spawn(async move {
                        let _guest = guest;
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

    pub(super) async fn serve_git(
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
        let _open = conversation.engines.git_open(device);
        let over = conversation.engines.git_over(device);
        let turns = self.guests.packs(id);
        let allowed = || !self.is_blocked(&id) && conversation.snapshot().admits(&id, &device);
        let serving = serve(
            channel,
            conversation.id,
            store,
            &turns,
            (allowed, &over),
            move |event| match event {
                Served::UpToDate(commit) | Served::Sent(commit) => drop(tell.send(commit)),
                Served::Failed(e) => {
                    tracing::debug!(%e, "a device asked for git in a way that cannot be served")
                }
            },
        );
        let (_, ()) = tokio::join!(serving, note);
        if over.is_cancelled() {
            self.tell_ban(&conversation, id, device).await;
        }
    }

    /// Serves somebody who is banned: up to the commit that says so, and nothing after it.
    async fn serve_ban(
        self: Arc<Self>,
        incoming: Incoming,
        conversation: Conversation,
        id: AccountId,
        device: DeviceId,
    ) {
        let ban = conversation.ask(move |r| r.unaware_of(&id, &device)).await;
        let Ok(Some(ban)) = ban else {
            return incoming.decline();
        };
        let store = Arc::new(UpTo {
            store: conversation.store.clone(),
            head: ban,
        });
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let over = CancellationToken::new();
        let sent = async {
            let commit = told.recv().await?;
            // The last of it is on its way: they let go of the channel when they have it.
            let _ = tokio::time::timeout(LAST_WORDS, told.recv()).await;
            over.cancel();
            Some(commit)
        };
        let allowed = || !self.is_blocked(&id) && !conversation.snapshot().admits(&id, &device);
        let turns = self.guests.packs(id);
        let serving = serve(
            incoming.accept(),
            conversation.id,
            store,
            &turns,
            (allowed, &over),
            move |event| {
                if let Served::UpToDate(commit) | Served::Sent(commit) = event {
                    let _ = tell.send(commit);
                }
            },
        );
        // Where the connection broke meanwhile, they may come for it once more.
        if let (Ok(()), Some(commit)) = tokio::join!(serving, sent) {
            self.note_fetched(&conversation, id, device, commit).await;
            // Nothing is left to say to them.
            self.enforce();
        }
    }

    /// A device has our history up to a commit.
    pub(super) async fn note_fetched(
        self: &Arc<Self>,
        conversation: &Conversation,
        id: AccountId,
        device: DeviceId,
        commit: ObjectId,
    ) {
        conversation
            .engines
            .spread(|s, now| s.took(&device, commit, now));
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
            return;
        }
        let merged = conversation.ask(move |r| r.may_have_merged(device, commit));
        if let Ok(Some(newest)) = merged.await
            && id != self.jami_id()
        {
            // Nobody else would hear of it, and the group go on with as many heads as daemons.
            conversation
                .engines
                .spread(|s, now| s.look(device, newest, now));
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

    // --- cards ---

    /// One's own card.
    pub(super) fn card(&self) -> Vec<u8> {
        super::people::card(&self.shared().options.profile)
    }

    pub(super) async fn take_card(self: Arc<Self>, channel: Channel, id: AccountId) {
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

    /// Gives one's card to the connected devices of the members of a conversation, or of one of them,
    /// as far as they did not get it.
    pub(super) fn show_profile_in(
        self: &Arc<Self>,
        conversation: &Conversation,
        only: Option<AccountId>,
    ) {
        let snapshot = conversation.snapshot();
        for (device, id) in self.links.connected() {
            if only.is_none_or(|only| only == id) && snapshot.takes_part(&id) {
                self.spawn(self.clone().show_profile(id, device));
            }
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
}

/// A repository as it was at a commit.
struct UpTo {
    store: Arc<ObjectStore>,
    head: ObjectId,
}

impl Repository for UpTo {
    fn head(&self) -> Option<ObjectId> {
        Some(self.head)
    }

    fn object(&self, id: &ObjectId) -> Option<(ObjectKind, Vec<u8>)> {
        Repository::object(&*self.store, id)
    }

    fn packed(&self, id: &ObjectId) -> Option<Vec<u8>> {
        Repository::packed(&*self.store, id)
    }

    fn contains(&self, id: &ObjectId) -> bool {
        Repository::contains(&*self.store, id)
    }
}
