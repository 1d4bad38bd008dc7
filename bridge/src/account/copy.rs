//! The first copy of a conversation that was accepted: from whom, when, and what becomes of it.
//!
//! The same engine decides as for every fetch ([`Spread`], for a conversation without a head). What
//! arrives gathers in a repository beside the others, which gets its name when it is valid to its
//! end; of fetches that break off it keeps what is whole and valid, also over a restart.

use super::book::MAX_STRIKES;
use super::coming::Indexed;
use super::descent::Descent;
use super::fetch::{Arriving, Came, FetchTrouble, NOT_FOR_US, NotTaken, bring, falls_short};
use super::{Account, AccountError, now_unix};
use crate::conversation::engines::clock;
use crate::conversation::judging::{check_clone, check_part};
use crate::conversation::making::Making;
use crate::conversation::repo::RepoError;
use crate::conversation::wire::MAX_PACK;
use crate::store::objects::{ObjectStore, Quarantine, StoreError};
use crate::store::state::StateError;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use starling_core::api::RefusedHistory;
use starling_core::git::reach;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::swarm::merge::Relation;
use starling_core::swarm::misbehaviour::Misbehaviour;
use starling_core::swarm::object::Objects;
use starling_core::swarm::spread::{Action, Ended, Spread, Standing};
use starling_core::swarm::validate::RULES;
use starling_core::swarm::write;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes of packs of which something is kept for one copy: eight times what one fetch may bring, and
/// more than as many messages as are validated at once take. Who needs more begins anew.
pub(super) const MAX_KEPT: u64 = 8 * MAX_PACK;

/// Devices that are remembered to have said something meanwhile.
const MAX_NEWS: usize = 64;

/// Of a name of a repository that is not whole yet.
pub(super) const UNFINISHED: &str = "clone";

/// The repository in which a first copy gathers.
fn unfinished(target: &Path) -> PathBuf {
    target.with_extension(UNFINISHED)
}

#[derive(Default)]
struct News {
    /// Devices that have something new.
    from: BTreeSet<DeviceId>,
    /// Whatever was refused counts no more.
    anew: bool,
}

/// A copy that is being looked for.
#[derive(Default)]
pub(super) struct Copying {
    wake: Notify,
    news: Mutex<News>,
}

impl Copying {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something may have changed.
    pub(super) fn look(&self) {
        self.wake.notify_one();
    }
}

/// A fetch under way, and of which device.
type Fetching = BoxFuture<'static, (DeviceId, AccountId, Result<Came, FetchTrouble>)>;

/// The state of one copy.
struct Copy {
    id: ConversationId,
    spread: Arc<Mutex<Spread>>,
    linked: BTreeMap<DeviceId, AccountId>,
    fetching: FuturesUnordered<Fetching>,
    running: BTreeSet<DeviceId>,
    /// Who said that they have it, whoever asked us in.
    told: BTreeSet<DeviceId>,
    /// Where it gathers, once something is fetched.
    store: Option<Arc<ObjectStore>>,
    /// Bytes of packs of which something is in there.
    kept: u64,
    /// As many may be kept.
    most: u64,
    /// What each device is asked for before what it offers.
    descents: BTreeMap<DeviceId, Descent>,
}

impl Copy {
    fn new(id: ConversationId, own: DeviceId, most: u64) -> Self {
        Self {
            id,
            spread: Arc::new(Mutex::new(Spread::new(own, None))),
            linked: BTreeMap::new(),
            fetching: FuturesUnordered::new(),
            running: BTreeSet::new(),
            told: BTreeSet::new(),
            store: None,
            kept: 0,
            most,
            descents: BTreeMap::new(),
        }
    }

    fn spread(&self) -> MutexGuard<'_, Spread> {
        self.spread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls off all fetches: nothing holds the repository any more.
    fn call_off(&mut self) {
        self.fetching.clear();
        self.store = None;
        for device in std::mem::take(&mut self.running) {
            let ended = Ended::Failed { progressed: false };
            self.spread().fetched(device, ended, clock());
        }
    }

    /// What a device is asked for next, if that is not what it offers.
    fn step(&self, device: &DeviceId) -> Option<ObjectId> {
        self.descents.get(device)?.step()
    }

    fn descent(&mut self, device: DeviceId) -> &mut Descent {
        self.descents.entry(device).or_default()
    }

    /// Whether something of a part may be kept.
    fn has_room_for(&self, part: &Quarantine) -> bool {
        self.kept.saturating_add(part.bytes()) <= self.most
    }

    /// Forgets what was fetched.
    fn begin_anew(&mut self, staging: &Path) {
        self.call_off();
        self.kept = 0;
        self.descents.values_mut().for_each(Descent::begin_anew);
        let _ = std::fs::remove_dir_all(staging);
    }
}

impl Account {
    /// Wants a copy of a conversation that was accepted.
    pub(super) fn start_clone(self: &Arc<Self>, id: ConversationId) {
        let copying = {
            let mut shared = self.shared();
            if shared.conversations.contains_key(&id) {
                return;
            }
            if let Some(copying) = shared.copying.get(&id) {
                return copying.look();
            }
            let copying = Arc::new(Copying::default());
            shared.copying.insert(id, copying.clone());
            copying
        };
        let account = self.clone();
        self.spawn(async move {
            if let Err(e) = account.copy(id, &copying).await {
                tracing::warn!(conversation = %id, %e, "no copy");
            }
            account.shared().copying.remove(&id);
        });
    }

    /// A device tells of a conversation of which there is no copy yet.
    pub(super) fn has_news(&self, id: &ConversationId, device: DeviceId) {
        if let Some(copying) = self.shared().copying.get(id) {
            let mut news = copying.news();
            if news.from.len() < MAX_NEWS {
                news.from.insert(device);
            }
            copying.look();
        }
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
            if let Some(copying) = self.shared().copying.get(&id) {
                copying.news().anew = true;
            }
            self.show_syncing(id).await;
            self.start_clone(id);
        }
        Ok(())
    }

    /// Looks for a copy until there is one, or none is wanted any more.
    async fn copy(
        self: &Arc<Self>,
        id: ConversationId,
        copying: &Copying,
    ) -> Result<(), AccountError> {
        let most = self.context.bounds.kept;
        let mut copy = Copy::new(id, self.device_id(), most);
        let target = crate::conversation::path(&self.dir, &id);
        loop {
            let news = std::mem::take(&mut *copying.news());
            if news.anew {
                copy.begin_anew(&unfinished(&target));
                copy = Copy::new(id, self.device_id(), most);
            }
            if !self.follow_sources(&mut copy, news).await? {
                copy.begin_anew(&unfinished(&target));
                return Ok(());
            }
            loop {
                let action = copy.spread().poll(clock());
                match action {
                    Some(Action::Fetch(device)) => self.begin_fetch(&mut copy, device, &target),
                    // Nothing to tell of, and nothing to merge with.
                    Some(Action::Tell(..) | Action::Merge(_)) => {}
                    None => break,
                }
            }
            let until = copy.spread().poll_timeout();
            let pause = until.map(|at| at.saturating_sub(clock()).max(Duration::from_millis(2)));
            tokio::select! {
                Some((device, member, came)) = copy.fetching.next() => {
                    copy.running.remove(&device);
                    let ended = match came {
                        Ok(came) => self.take_copy(&mut copy, device, came, &target).await?,
                        Err(trouble) => Ok(trouble),
                    };
                    let trouble = match ended {
                        Err(indexed) => return self.cloned(id, member, device, indexed).await,
                        Ok(trouble) => trouble,
                    };
                    tracing::debug!(conversation = %id, %device, %trouble, "not cloned");
                    match trouble {
                        FetchTrouble::Failed { .. } | FetchTrouble::Ours(_) => {}
                        FetchTrouble::Bad(_) => self.strike(id, device, 0).await?,
                        FetchTrouble::Refused(_) => self.strike(id, device, 1).await?,
                    }
                    copy.spread().fetched(device, trouble.ended(), clock());
                }
                () = copying.wake.notified() => {}
                () = async {
                    match pause {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// Tells the engine who can be asked. Says whether a copy is still wanted.
    async fn follow_sources(&self, copy: &mut Copy, news: News) -> Result<bool, AccountError> {
        let id = copy.id;
        let found = self
            .book
            .ask(move |b| (b.conversation(&id).cloned(), b.local(&id).strikes))
            .await?;
        let (Some(info), strikes) = found else {
            return Ok(false);
        };
        if self.conversation(&id).is_some() {
            return Ok(false);
        }
        // Connections are made by reconciling, which knows when it is too soon for one.
        let own = self.jami_id();
        let mut sources: BTreeMap<DeviceId, AccountId> =
            self.peers.connected().into_iter().collect();
        copy.told.retain(|device| sources.contains_key(device));
        copy.told.extend(news.from.iter().copied());
        while copy.told.len() > MAX_NEWS {
            copy.told.pop_first();
        }
        sources.retain(|device, account| {
            let struck = strikes.get(device).copied().unwrap_or(0);
            let has_it = info.members.contains(account) || copy.told.contains(device);
            (*account == own || has_it) && struck < MAX_STRIKES
        });
        let mut spread = copy.spread.lock().unwrap_or_else(PoisonError::into_inner);
        for device in copy.linked.keys().filter(|d| !sources.contains_key(d)) {
            spread.unlinked(device);
        }
        for device in sources.keys().filter(|d| !copy.linked.contains_key(d)) {
            spread.linked(*device, Standing::Member, clock());
        }
        for device in news.from {
            spread.look(device, false, clock());
        }
        drop(spread);
        copy.linked = sources;
        Ok(true)
    }

    fn begin_fetch(self: &Arc<Self>, copy: &mut Copy, device: DeviceId, target: &Path) {
        let Some(member) = copy.linked.get(&device).copied() else {
            let ended = Ended::Failed { progressed: false };
            return copy.spread().fetched(device, ended, clock());
        };
        // Cloned and valid, perhaps, but the end of it was interrupted.
        let store = match &copy.store {
            _ if target.exists() => None,
            Some(store) => Some(Ok(store.clone())),
            None => Some(tokio::task::block_in_place(|| gathering(target))),
        };
        if let Some(Ok(store)) = &store {
            copy.store = Some(store.clone());
        }
        let (account, id, spread) = (self.clone(), copy.id, copy.spread.clone());
        let older = copy.step(&device);
        let engine = spread.clone();
        let gets_on = move |bytes| {
            let mut spread = engine.lock().unwrap_or_else(PoisonError::into_inner);
            spread.gets_on(&device, bytes, clock());
        };
        copy.running.insert(device);
        copy.fetching.push(Box::pin(async move {
            let came = async {
                let Some(store) = store else {
                    return Ok(Came::Whole(id.into(), None));
                };
                let store = store.map_err(|e| account.ours(&e))?;
                let mut fetcher = account.git_channel(id, member, device).await?;
                let refused = move |head: &ObjectId| {
                    let spread = spread.lock().unwrap_or_else(PoisonError::into_inner);
                    spread.is_refused(head)
                };
                let haves = tokio::task::block_in_place(|| reach::haves(&*store));
                let haves = haves.map_err(FetchTrouble::failed)?;
                let receiving = store.quarantine(account.context.bounds.pack);
                let sink = Arriving::new(store, receiving, refused, gets_on, haves).instead(older);
                Ok(bring(&mut fetcher, sink).await)
            };
            let came: Result<Came, FetchTrouble> = came.await;
            (device, member, came)
        }));
    }

    /// What becomes of what was fetched. `Err`: it is whole, and has its name.
    async fn take_copy(
        self: &Arc<Self>,
        copy: &mut Copy,
        device: DeviceId,
        came: Came,
        target: &Path,
    ) -> Result<Result<FetchTrouble, Indexed>, AccountError> {
        let id = copy.id;
        let staging = unfinished(target);
        let (head, quarantine) = match came {
            Came::Whole(_, None) if target.exists() => return Ok(Err(Indexed::NotYet)),
            Came::Whole(head, Some(quarantine)) if copy.step(&device) == Some(head) => {
                let progressed =
                    copy.has_room_for(&quarantine) && self.keep_part(copy, quarantine, head);
                copy.descent(device).stepped(progressed);
                let why = "a step on the way".into();
                return Ok(Ok(FetchTrouble::Failed { why, progressed }));
            }
            Came::Whole(head, quarantine) => (head, quarantine),
            Came::Part(part) if !copy.has_room_for(&part.quarantine) => {
                let bad = part.broken.bad;
                drop(part.quarantine);
                // Not while others send: they may be about to end it.
                if copy.running.is_empty() {
                    copy.begin_anew(&staging);
                }
                let Some((head, _)) = bad else {
                    return Ok(Ok(FetchTrouble::failed("too much of it was broken off")));
                };
                let why = NotTaken::TooLarge { most: copy.most };
                return Ok(Ok(self.verdict(id, device, head, why).await));
            }
            Came::Part(part) => {
                let known = |id: &ObjectId| part.quarantine.store().contains(id);
                let (newest, below) = tokio::task::block_in_place(|| {
                    let newest = part.quarantine.newest_whole(&part.commits, &known);
                    let below = part.quarantine.below(&part.commits, &known);
                    (newest, below.filter(|_| newest.is_none()))
                });
                let progressed = match newest {
                    Some(newest) => self.keep_part(copy, part.quarantine, newest),
                    None => copy.descent(device).dig(below),
                };
                return Ok(Ok(self
                    .broke_off(id, device, part.broken, progressed)
                    .await));
            }
            Came::Bad(head, e) => {
                if copy.step(&device) == Some(head) {
                    copy.descent(device).stepped(false);
                }
                return Ok(Ok(self.verdict(id, device, head, e.into()).await));
            }
            Came::Refused(head) => return Ok(Ok(FetchTrouble::Refused(head))),
            Came::Nothing(why) => return Ok(Ok(FetchTrouble::failed(why))),
        };
        let Some(store) = copy.store.clone() else {
            return Ok(Ok(FetchTrouble::failed("there is no place for it")));
        };
        let limits = self.context.bounds.history;
        let (own, go_on) = (self.jami_id(), || !self.stop.is_cancelled());
        let checked = tokio::task::block_in_place(|| {
            let mut making = Making::begin(self.index.clone(), id, RULES);
            let objects: &dyn Objects = match &quarantine {
                Some(quarantine) => quarantine,
                None => &*store,
            };
            let made = Some(&mut making);
            let (_, valid) = check_clone(limits, id, objects, head, &own, &go_on, made)?;
            Ok((valid, making))
        });
        let why = match checked {
            Ok((valid, making)) => {
                // Nobody else is asked any more; what they sent goes with the way to the store.
                copy.call_off();
                let settled = tokio::task::block_in_place(|| {
                    if let Some(quarantine) = quarantine {
                        quarantine.accept_with(&valid.commits, &valid.trees)?;
                    }
                    store.set_head(store.head(), head)?;
                    drop(store);
                    crate::conversation::settle(&staging, target)?;
                    // The index follows, now or when the conversation is opened.
                    if let Err(e) = making.complete(&head) {
                        tracing::warn!(conversation = %id, %e, "the index is made later");
                    }
                    Ok::<_, RepoError>(())
                });
                return Ok(match settled {
                    Ok(()) => Err(Indexed::NotYetButChecked),
                    Err(e) => Ok(self.ours(&e)),
                });
            }
            Err(e) => e,
        };
        drop(quarantine);
        if let RepoError::Rejected(fault) = &why
            && let Misbehaviour::MissingObject(_) = *fault.misbehaviour
            && store.head().is_some_and(|ours| {
                tokio::task::block_in_place(|| {
                    check_part(limits, id, &*store, &|_| false, ours, &go_on)
                })
                .is_err()
            })
        {
            // Not sent, because we said that we had it.
            drop(store);
            copy.begin_anew(&staging);
            return Ok(Ok(FetchTrouble::failed("what was kept is damaged")));
        }
        if let Some(trouble) = falls_short(&why, copy.spread().sent_bad(&device)) {
            return Ok(Ok(trouble));
        }
        Ok(Ok(self.verdict(id, device, head, why.into()).await))
    }

    /// Keeps what is valid up to a commit that is whole. Says whether there is any.
    fn keep_part(&self, copy: &mut Copy, quarantine: Quarantine, newest: ObjectId) -> bool {
        let bytes = quarantine.bytes();
        let store = quarantine.store().clone();
        let keep = || -> Result<bool, RepoError> {
            let known = |id: &ObjectId| store.contains(id);
            let go_on = || !self.stop.is_cancelled();
            let limits = self.context.bounds.history;
            let valid = check_part(limits, copy.id, &quarantine, &known, newest, &go_on)?;
            quarantine.accept_with(&valid.commits, &valid.trees)?;
            let ahead = match store.head() {
                None => true,
                // What is too tangled to tell is gone on with from where it is.
                Some(head) => write::relation(&*store, None, head, newest)
                    .is_ok_and(|relation| relation == Relation::FastForward),
            };
            if ahead {
                store.set_head(store.head(), newest)?;
            }
            Ok(!valid.commits.is_empty())
        };
        let kept = tokio::task::block_in_place(keep);
        if let Ok(true) = kept {
            copy.kept = copy.kept.saturating_add(bytes);
        }
        kept.unwrap_or_else(|e| {
            tracing::debug!(conversation = %copy.id, %e, "nothing is kept of a broken pack");
            self.say_if_full(&e);
            false
        })
    }

    /// A device offered what breaks the rules (which counts as one), or what is damaged (which counts
    /// for nothing here: the engine asks it ever less).
    async fn strike(
        self: &Arc<Self>,
        id: ConversationId,
        device: DeviceId,
        counts: u8,
    ) -> Result<(), AccountError> {
        self.book
            .ask(move |b| -> Result<(), StateError> {
                let mut local = b.local(&id);
                if counts > 0 {
                    let strikes = local.strikes.entry(device).or_default();
                    *strikes = strikes.saturating_add(counts);
                }
                local.refused = Some("what was offered cannot be taken in".into());
                b.set_local(id, local)
            })
            .await??;
        self.show_syncing(id).await;
        Ok(())
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

/// The repository in which a copy gathers: a new one, or what an earlier attempt left.
fn gathering(target: &Path) -> Result<Arc<ObjectStore>, StoreError> {
    let staging = unfinished(target);
    match ObjectStore::open(&staging) {
        Ok(store) if reach::haves(&store).is_ok() => return Ok(Arc::new(store)),
        Err(StoreError::Locked(path)) => return Err(StoreError::Locked(path)),
        // Not there, or of no use.
        Ok(_) | Err(_) => drop(std::fs::remove_dir_all(&staging)),
    }
    let parent = staging.parent().unwrap_or(&staging);
    std::fs::create_dir_all(parent).map_err(|e| StoreError::Io {
        path: parent.into(),
        kind: e.kind(),
        text: e.to_string(),
    })?;
    ObjectStore::create(&staging).map(Arc::new)
}
