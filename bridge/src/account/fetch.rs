//! Fetching from devices, and cloning what was accepted: into quarantine first, then,
//! if it is valid, into the history.

use super::book::MAX_STRIKES;
use super::talk::Indexed;
use super::{Account, AccountError, now, now_unix};
use crate::conversation::Conversation;
use crate::conversation::fetching::{Ended, Fetching, Next, Turn};
use crate::conversation::repo::{RepoError, Taken};
use crate::conversation::wire::{FetchFailed, Fetched, Fetcher, Sink};
use crate::peer::Channel;
use crate::store::objects::{ObjectStore, Quarantine, QuarantineError, Receiving};
use crate::store::state::StateError;
use futures_util::future::BoxFuture;
use starling_core::api::RefusedHistory;
use starling_core::git::pack::Limits;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::peer::channel_name::ChannelName;
use starling_core::swarm::misbehaviour::Fault;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Account {
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
                let next = conversation.fetching.done(device, ended, Instant::now());
                if next != Next::Now {
                    if next == Next::Later && account.is_linked(&device) {
                        account.fetch(&conversation, id, device, None);
                    }
                    return;
                }
            }
        });
    }

    /// Whether there is a connection to a device.
    pub(super) fn is_linked(&self, device: &DeviceId) -> bool {
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
        let haves = conversation
            .ask(|r| r.timeline().haves())
            .await
            .map_err(|e| FetchTrouble::Failed(e.to_string()))?;
        let mut sink = Arriving::new(
            conversation.store.clone(),
            conversation.fetching.clone(),
            haves,
        );
        let fetched = fetcher.fetch(&mut sink).await;
        if let (Err(FetchFailed::Sink(head, _)), Some(e)) = (&fetched, sink.bad.take()) {
            return Err(self.blame(conversation.id, device, *head, &e).await);
        }
        let fetched = fetched?;
        *open = Some(fetcher);
        let (taken, head) = match fetched {
            Fetched::Nothing(head) => (
                conversation.ask(move |r| r.adopt(head, now_unix())).await,
                head,
            ),
            Fetched::Pack(head) => {
                let quarantine = match sink.finish() {
                    Ok(quarantine) => quarantine,
                    Err(e) => return Err(self.blame(conversation.id, device, head, &e).await),
                };
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
    pub(super) fn merge_later(
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
                self.refuse_or_say(conversation.id, refusal(device, &fault))
                    .await;
                return Err(FetchTrouble::Refused(head));
            }
            Err(e) => {
                self.say_if_full(&e);
                return Err(FetchTrouble::Failed(e.to_string()));
            }
        }
        if let Err(e) = self.no_longer_refused(conversation, device).await {
            tracing::warn!(%e, "a refusal is still shown");
        }
        Ok(())
    }

    /// Keeps a refusal for the person; that it cannot be kept takes nothing from it.
    async fn refuse_or_say(self: &Arc<Self>, id: ConversationId, refused: RefusedHistory) {
        if let Err(e) = self.refuse(id, refused).await {
            tracing::warn!(%e, "what was refused could not be kept");
        }
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
    async fn blame(
        self: &Arc<Self>,
        conversation: ConversationId,
        device: DeviceId,
        head: ObjectId,
        e: &QuarantineError,
    ) -> FetchTrouble {
        match e {
            QuarantineError::Store(e) => {
                self.say_if_full(e);
                FetchTrouble::Failed(e.to_string())
            }
            QuarantineError::Pack(e) => {
                let refused = RefusedHistory {
                    rule: e.name(),
                    detail: e.to_string(),
                    from: device,
                    account: None,
                    commit: None,
                    at: now(),
                };
                self.refuse_or_say(conversation, refused).await;
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
        let failed = |e: &(dyn std::error::Error + 'static)| {
            self.say_if_full(e);
            FetchTrouble::Failed(e.to_string())
        };
        let target = crate::conversation::path(&self.dir, &id);
        if target.exists() {
            // Cloned and valid, but the end of it was interrupted.
            return self
                .cloned(id, member, device, Indexed::NotYet)
                .await
                .map_err(|e| failed(&e));
        }
        let mut fetcher = self.git_channel(id, member, device).await?;
        let staging = target.with_extension("clone");
        std::fs::create_dir_all(target.parent().unwrap_or(&self.dir)).map_err(|e| failed(&e))?;
        // Left over from a crash.
        let _ = std::fs::remove_dir_all(&staging);
        let store = Arc::new(ObjectStore::create(&staging).map_err(|e| failed(&e))?);
        let mut sink = Arriving::new(store.clone(), fetching.clone(), Vec::new());
        let fetched = fetcher.fetch(&mut sink).await;
        if let (Err(FetchFailed::Sink(head, _)), Some(e)) = (&fetched, sink.bad.take()) {
            return Err(self.blame(id, device, *head, &e).await);
        }
        let Fetched::Pack(head) = fetched? else {
            return Err(FetchTrouble::Failed("nothing was offered".into()));
        };
        let quarantine = match sink.finish() {
            Ok(quarantine) => quarantine,
            Err(e) => return Err(self.blame(id, device, head, &e).await),
        };
        let own = self.jami_id();
        let checked = tokio::task::block_in_place(|| {
            crate::conversation::repo::Repo::check_clone(id, &quarantine, head, &own)
        });
        if let Err(e) = checked {
            drop(quarantine);
            drop(store);
            let _ = std::fs::remove_dir_all(&staging);
            return match &e {
                RepoError::Rejected(fault) => {
                    self.refuse_or_say(id, refusal(device, fault)).await;
                    Err(FetchTrouble::Refused(head))
                }
                RepoError::Document => {
                    let refused = RefusedHistory {
                        rule: "Document".into(),
                        detail: e.to_string(),
                        from: device,
                        account: None,
                        commit: Some(id.into()),
                        at: now(),
                    };
                    self.refuse_or_say(id, refused).await;
                    Err(FetchTrouble::Refused(head))
                }
                _ => Err(failed(&e)),
            };
        }
        tokio::task::block_in_place(|| {
            quarantine.accept().map_err(|e| failed(&e))?;
            store.set_head(None, head).map_err(|e| failed(&e))?;
            drop(store);
            crate::conversation::settle(&staging, &target).map_err(|e| failed(&e))
        })?;
        self.cloned(id, member, device, Indexed::NotYetButChecked)
            .await
            .map_err(|e| failed(&e))
    }

    /// A copy is here and valid: comes in if need be, and is shown.
    async fn cloned(
        self: &Arc<Self>,
        id: ConversationId,
        member: AccountId,
        device: DeviceId,
        indexed: Indexed,
    ) -> Result<(), AccountError> {
        let conversation = self.open_conversation(id, indexed).await?;
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
                local.refusal = None;
                local.knock.clear();
                local.strikes.clear();
                b.set_local(id, local)?;
                // What the invitation said of it counts no more.
                b.change_conversation(&id, |c| {
                    c.mode = snapshot.mode.number();
                    c.members = snapshot.members.iter().map(|m| m.id).collect();
                })
            })
            .await??;
        self.confirm_members(&conversation).await?;
        self.show_ready(&conversation).await;
        self.tell_all(&conversation, None).await;
        self.catch_up(member, device);
        Ok(())
    }
}

/// A fault as it is kept and shown.
fn refusal(from: DeviceId, fault: &Fault) -> RefusedHistory {
    RefusedHistory {
        rule: fault.misbehaviour.name(),
        detail: fault.misbehaviour.to_string(),
        from,
        account: fault.account,
        commit: Some(fault.commit),
        at: now(),
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
    haves: Vec<ObjectId>,
}

impl Arriving {
    fn new(store: Arc<ObjectStore>, fetching: Fetching, haves: Vec<ObjectId>) -> Self {
        let receiving = store.quarantine(Limits::default());
        Self {
            store,
            fetching,
            receiving,
            bad: None,
            haves,
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
        self.haves.clone()
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
