//! Fetching from devices, and cloning what was accepted: into quarantine first, then,
//! if it is valid, into the history.

use super::book::MAX_STRIKES;
use super::talk::Indexed;
use super::{Account, AccountError, now, now_unix};
use crate::conversation::Conversation;
use crate::conversation::engines::GitOpen;
use crate::conversation::fetching::{self, Fetching, Turn};
use crate::conversation::judging::check_clone;
use crate::conversation::repo::RepoError;
use crate::conversation::wire::{FetchFailed, Fetched, Fetcher, Sink};
use crate::peer::Channel;
use crate::store::objects::{ObjectStore, Quarantine, QuarantineError, Receiving};
use crate::store::state::StateError;
use starling_core::api::RefusedHistory;
use starling_core::git::pack::Limits;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::peer::channel_name::ChannelName;
use starling_core::swarm::merge::Relation;
use starling_core::swarm::misbehaviour::{Fault, Misbehaviour};
use starling_core::swarm::spread::Ended;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// The name under which a person is told that a conversation they accepted is not meant for them,
/// or not any more.
const NOT_FOR_US: &str = "NotForUs";

impl Account {
    // --- fetching ---

    /// Fetches what a device has of a conversation, validates and keeps it. It becomes part of the
    /// history when the conversation's engine says so.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        conversation: &Conversation,
        device: DeviceId,
    ) -> Ended {
        match self.fetch_once(conversation, device).await {
            Ok((head, relation)) => Ended::Well { head, relation },
            Err(FetchTrouble::Refused(head)) => Ended::Refused(head),
            Err(FetchTrouble::Failed(why)) => {
                tracing::debug!(%device, conversation = %conversation.id, %why, "a fetch failed");
                Ended::Failed { progressed: false }
            }
        }
    }

    /// Whose device it is that there is a connection with.
    pub(super) fn linked(&self, device: &DeviceId) -> Option<AccountId> {
        let connected = self.peers.connected();
        connected
            .into_iter()
            .find(|(d, _)| d == device)
            .map(|(_, account)| account)
    }

    async fn fetch_once(
        self: &Arc<Self>,
        conversation: &Conversation,
        device: DeviceId,
    ) -> Result<(ObjectId, Relation), FetchTrouble> {
        let id = self
            .linked(&device)
            .filter(|id| conversation.snapshot().admits(id, &device))
            .ok_or_else(|| FetchTrouble::Failed("there is no connection".into()))?;
        let place = (conversation.id, device);
        let engines = conversation.engines.clone();
        let refused = move |head: &ObjectId| engines.is_refused(head);
        let mut kept = self.shared().fetchers.remove(&place);
        let (fetched, mut sink, open) = loop {
            let again = kept.is_some();
            let mut open = match kept.take() {
                Some(open) => open,
                None => OpenFetch {
                    fetcher: self.git_channel(conversation.id, id, device).await?,
                    _open: conversation.engines.git_open(device),
                },
            };
            let haves = conversation
                .ask(|r| r.timeline().haves())
                .await
                .map_err(|e| FetchTrouble::Failed(e.to_string()))?;
            let mut sink = Arriving::new(conversation.store.clone(), refused.clone(), haves);
            let fetched = open.fetcher.fetch(&mut sink).await;
            // The channel of the last time may have ended meanwhile.
            if !(again && fetched.is_err() && sink.is_empty()) {
                break (fetched, sink, open);
            }
            if let Err(FetchFailed::Refused(head)) = fetched {
                return Err(FetchTrouble::Refused(head));
            }
        };
        if let (Err(FetchFailed::Sink(head, _)), Some(e)) = (&fetched, sink.bad.take()) {
            let _ = self.blame(conversation.id, device, *head, &e).await;
            return Err(FetchTrouble::Failed(e.to_string()));
        }
        let fetched = fetched?;
        if self.linked(&device) == Some(id) {
            self.shared().fetchers.insert(place, open);
        }
        let (quarantine, head) = match fetched {
            Fetched::Nothing(head) => (None, head),
            Fetched::Pack(head) => {
                // A pack that is wrong is the device's fault: another may have the same head whole.
                match sink.finish() {
                    Ok(quarantine) => (Some(quarantine), head),
                    Err(e) => {
                        let _ = self.blame(conversation.id, device, head, &e).await;
                        return Err(FetchTrouble::Failed(e.to_string()));
                    }
                }
            }
        };
        let stop = self.stop.clone();
        let go_on = move || !stop.is_cancelled();
        let received = conversation.judge(quarantine, head, go_on).await;
        tracing::debug!(%device, conversation = %conversation.id, ?fetched, "fetched");
        if received.is_ok()
            && let Err(e) = self.no_longer_refused(conversation, device).await
        {
            tracing::warn!(%e, "a refusal is still shown");
        }
        match received {
            Ok(Relation::UpToDate) => {
                self.note_fetched(conversation, id, device, head).await;
                Ok((head, Relation::UpToDate))
            }
            Ok(relation) => {
                conversation.engines.brought(head, device, id);
                Ok((head, relation))
            }
            Err(RepoError::Rejected(fault)) => {
                self.refuse_or_say(conversation.id, refusal(device, &fault))
                    .await;
                // What lacks an object is the device's fault, not the head's: another may have the
                // same head whole.
                if let Misbehaviour::MissingObject(_) = *fault.misbehaviour {
                    return Err(FetchTrouble::Failed(fault.misbehaviour.to_string()));
                }
                Err(FetchTrouble::Refused(head))
            }
            Err(e) => {
                self.say_if_full(&e);
                Err(FetchTrouble::Failed(e.to_string()))
            }
        }
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
        if self.linked(&device).is_none() {
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

    /// Somebody asks us into a conversation that we accepted and were told is not meant for us: so
    /// it is looked at again.
    pub(super) async fn meant_after_all(
        self: &Arc<Self>,
        id: ConversationId,
    ) -> Result<(), AccountError> {
        let again = self
            .book
            .ask(move |b| -> Result<bool, StateError> {
                let mut local = b.local(&id);
                let not = |r: &RefusedHistory| r.rule == NOT_FOR_US;
                if b.conversation(&id).is_none()
                    || local.cloned
                    || !local.refusal.as_ref().is_some_and(not)
                {
                    return Ok(false);
                }
                (local.refused, local.refusal) = (None, None);
                local.strikes.clear();
                b.set_local(id, local)?;
                Ok(true)
            })
            .await??;
        if again {
            self.shared().clones.remove(&id);
            self.show_syncing(id).await;
            self.start_clone(id);
        }
        Ok(())
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
        let turns = self.shared().clones.entry(id).or_default().clone();
        for (member, device) in sources {
            let struck = self
                .book
                .ask(move |b| b.local(&id).strikes.get(&device).copied().unwrap_or(0))
                .await?;
            if struck >= MAX_STRIKES {
                continue;
            }
            match turns.ask(device, None, Instant::now()) {
                Turn::Go => {}
                Turn::After(at) => {
                    let account = self.clone();
                    let turns = turns.clone();
                    self.spawn(async move {
                        tokio::time::sleep_until(at.into()).await;
                        turns.waited(&device);
                        account.start_clone(id);
                    });
                    continue;
                }
                Turn::Running | Turn::Waiting | Turn::Refused => continue,
            }
            let ended = match self.clone_from(id, member, device, &turns).await {
                Ok(()) => fetching::Ended::Well,
                Err(FetchTrouble::Failed(why)) => {
                    tracing::debug!(conversation = %id, %device, why, "not cloned");
                    fetching::Ended::Failed
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
                    fetching::Ended::Refused(head)
                }
            };
            turns.done(device, ended, Instant::now());
            if ended == fetching::Ended::Well {
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
        turns: &Fetching,
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
        let turns = turns.clone();
        let refused = move |head: &ObjectId| turns.is_refused(head);
        let mut sink = Arriving::new(store.clone(), refused, Vec::new());
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
            let go_on = || !self.stop.is_cancelled();
            check_clone(id, &quarantine, head, &own, &go_on)
        });
        let commits = match checked {
            Ok((_, commits)) => commits,
            Err(e) => {
                drop(quarantine);
                drop(store);
                let _ = std::fs::remove_dir_all(&staging);
                return match &e {
                    RepoError::Rejected(fault) => {
                        self.refuse_or_say(id, refusal(device, fault)).await;
                        Err(FetchTrouble::Refused(head))
                    }
                    // Asked in, and then no more: nobody has another copy that is meant for us.
                    RepoError::Document | RepoError::NotForUs => {
                        let rule = match &e {
                            RepoError::Document => "Document",
                            _ => NOT_FOR_US,
                        };
                        let refused = RefusedHistory {
                            rule: rule.into(),
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
        };
        tokio::task::block_in_place(|| {
            quarantine.accept(&commits).map_err(|e| failed(&e))?;
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

/// A git channel on which was fetched, kept for the next time.
pub(super) struct OpenFetch {
    fetcher: Fetcher<Channel>,
    _open: GitOpen,
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
struct Arriving<R> {
    store: Arc<ObjectStore>,
    /// Whether a head was refused before.
    refused: R,
    receiving: Receiving,
    bad: Option<QuarantineError>,
    bytes: usize,
    haves: Vec<ObjectId>,
}

impl<R: Fn(&ObjectId) -> bool> Arriving<R> {
    fn new(store: Arc<ObjectStore>, refused: R, haves: Vec<ObjectId>) -> Self {
        let receiving = store.quarantine(Limits::default());
        Self {
            store,
            refused,
            receiving,
            bad: None,
            bytes: 0,
            haves,
        }
    }

    /// Whether nothing has arrived yet.
    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn finish(self) -> Result<Quarantine, QuarantineError> {
        match self.bad {
            Some(e) => Err(e),
            None => tokio::task::block_in_place(|| self.receiving.finish()),
        }
    }
}

impl<R: Fn(&ObjectId) -> bool> Sink for Arriving<R> {
    fn has(&self, id: &ObjectId) -> bool {
        self.store.contains(id)
    }

    fn refuses(&self, id: &ObjectId) -> bool {
        (self.refused)(id)
    }

    fn haves(&self) -> Vec<ObjectId> {
        self.haves.clone()
    }

    fn pack(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if let Err(e) = self.receiving.write(bytes) {
            let text = e.to_string();
            self.bad = Some(e);
            return Err(io::Error::other(text));
        }
        Ok(())
    }
}
