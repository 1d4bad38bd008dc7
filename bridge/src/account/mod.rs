//! Accounts: what one knows ([`book`]), how it keeps in touch ([`links`], [`net`], `swarm`),
//! whom it knows ([`people`]), which groups it is in ([`groups`]) and what it says ([`talk`]).

mod archive;
pub mod book;
mod changes;
mod channels;
mod coming;
mod copy;
mod descent;
mod devices;
mod fetch;
mod frames;
pub mod groups;
mod guests;
mod inbox;
pub mod keep;
pub mod links;
mod met;
pub mod net;
mod offers;
pub mod people;
pub mod registry;
pub mod share;
mod swarm;
pub mod talk;
mod typing;
mod upkeep;

use crate::actor::{Actor, NoAnswer};
use crate::conversation::Conversation;
use crate::conversation::repo::{Me, RepoError};
use crate::crypto::AwsLc;
use crate::dht::{Dht, SecureDht};
use crate::peer::PeerManager;
use crate::store::index::Index;
use crate::store::state::{State, StateError};
use book::{Book, Profile};
use futures_util::FutureExt as _;
use keep::KeepError;
use links::Links;
use serde::{Deserialize, Serialize};
use starling_core::account::TrustStore;
use starling_core::api::{
    self, AccountSettings, AccountState, ApiError, ErrorCode, Event, LinkPhase, LocalAccountId,
    Millis, Presence, PresenceState,
};
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::identity::Identity;
use starling_core::peer::attempts::Attempts;
use starling_core::swarm::public::Doorkeeper;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What peers may cost us. The default is what Starling uses; tests set less, so as to reach it.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// A history that is fetched.
    pub history: starling_core::swarm::validate::Limits,
    /// A pack.
    pub pack: starling_core::git::pack::Limits,
    /// Bytes of packs that are kept of a first copy before all of it is here.
    pub kept: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            history: starling_core::swarm::validate::Limits::default(),
            pack: starling_core::git::pack::Limits::default(),
            kept: copy::MAX_KEPT,
        }
    }
}

/// What an account needs of the bridge.
#[derive(Clone)]
pub struct Context {
    /// Reports an event to every page.
    pub emit: Arc<dyn Fn(Event) + Send + Sync>,
    /// The node.
    pub dht: Dht,
    /// Addresses on the loopback interface are offered to peers as well: for tests on one machine.
    pub loopback: bool,
    /// What peers may cost us.
    pub bounds: Bounds,
}

/// The wall clock, unix milliseconds.
pub fn now() -> Millis {
    crate::api::now_millis()
}

/// The wall clock, unix seconds.
pub fn now_unix() -> u64 {
    u64::try_from(now() / 1000).unwrap_or(0)
}

/// The wall clock as core's records take it.
pub fn now_ms() -> u64 {
    u64::try_from(now()).unwrap_or(0)
}

/// What an account's owner decided, kept in its state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Options {
    /// What others see.
    pub profile: Profile,
    /// What this device is called.
    pub device_name: String,
    /// Switched off.
    pub inactive: bool,
    /// Everything else.
    pub settings: AccountSettings,
}

/// How a person can be reached, as of now.
#[derive(Debug, Clone, Default)]
struct Reach {
    announced: devices::Announced,
    phase: LinkPhase,
    device: Option<DeviceId>,
    why: Option<String>,
    over: Option<api::LinkRoute>,
    link_since: Millis,
    presence: Presence,
}

/// What changes often and is asked for by many: under a lock that is never held over anything slow.
#[derive(Default)]
struct Shared {
    state: AccountState,
    /// Since when it is online.
    online_since: Option<Millis>,
    options: Options,
    trust: TrustStore,
    reach: BTreeMap<AccountId, Reach>,
    conversations: BTreeMap<ConversationId, Conversation>,
    has_password: bool,
    /// When to try to reach a device.
    attempts: Attempts,
    /// Whose announcements are watched, and what ends that.
    watching: BTreeMap<AccountId, CancellationToken>,
    /// Channels on which was fetched.
    fetchers: BTreeMap<(ConversationId, DeviceId), fetch::OpenFetch>,
    /// What devices whose packs broke off are asked for, before what they offer.
    descents: BTreeMap<(ConversationId, DeviceId), descent::Descent>,
    /// First copies that are looked for.
    copying: BTreeMap<ConversationId, Arc<copy::Copying>>,
    /// Conversations that were left, and are served until somebody has heard of it: with the commit
    /// that says so.
    leaving: BTreeMap<ConversationId, ObjectId>,
    /// Conversations whose history breaks the rules, as was found after it had been taken in.
    invalid: BTreeSet<ConversationId>,
    /// Devices that got our contact request, or our answer to theirs, since their owner came online.
    asked: BTreeSet<(DeviceId, bool)>,
    /// Who types.
    typing: typing::Typing,
    /// Devices that got our profile since the start.
    shown: BTreeSet<DeviceId>,
    /// Devices of which the book was asked since the start, or a while ago; see [`met`].
    met: BTreeSet<DeviceId>,
    /// What the owner was told of the disk, and when.
    said: BTreeMap<&'static str, std::time::Instant>,
    /// Public conversations that we wait to be let into.
    knocking: BTreeMap<ConversationId, groups::Knocking>,
    /// Whom we let into public conversations.
    doors: BTreeMap<ConversationId, Doorkeeper>,
}

/// One account at work.
pub struct Account {
    /// The bridge's name for it.
    pub id: LocalAccountId,
    dir: PathBuf,
    this: std::sync::Weak<Account>,
    context: Context,
    identity: Identity,
    secure: SecureDht,
    book: Actor<Book>,
    index: Index,
    peers: PeerManager,
    links: Links,
    guests: guests::Guests,
    shared: Mutex<Shared>,
    /// Something may be done now that could not be done before.
    wake: Notify,
    stop: CancellationToken,
    /// What runs until then.
    tasks: Mutex<JoinSet<()>>,
    /// Who changes the options, one after the other.
    options_turn: tokio::sync::Mutex<()>,
    /// Who reads the archive and writes it again, one after the other.
    archive_turn: tokio::sync::Mutex<()>,
    /// The first second, Unix, of which no conversation was made in this run.
    unfounded: std::sync::atomic::AtomicU64,
}

/// How long the tasks of an account may take to end: each is between two waits, or in the middle
/// of validating a fetch.
const STOPPING: std::time::Duration = std::time::Duration::from_secs(30);

/// Why an account could not do something.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Its files.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// Its state.
    #[error(transparent)]
    State(#[from] StateError),
    /// A conversation.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// It is gone, or failed.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// Said to whoever asked.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl From<AccountError> for ApiError {
    fn from(e: AccountError) -> Self {
        if upkeep::is_full(&e) {
            return Self::new(
                ErrorCode::Storage,
                "The disk is full; this was not saved. Make room and try again.",
            );
        }
        match e {
            AccountError::Api(e) => e,
            AccountError::Repo(e) => e.into(),
            AccountError::Keep(KeepError::Io { .. }) | AccountError::State(_) => {
                Self::new(ErrorCode::Storage, e.to_string())
            }
            AccountError::Keep(_) => Self::new(ErrorCode::Corrupt, e.to_string()),
            AccountError::NoAnswer(NoAnswer::Stopped) => {
                Self::new(ErrorCode::Stopping, "The account is being stopped.")
            }
            AccountError::NoAnswer(NoAnswer::Failed) => Self::internal(
                "This failed inside Starling; what was saved is safe. Its log says where: please report it.",
            ),
        }
    }
}

/// The pause before a task that panicked is begun again.
const BEGIN_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs a task, and again where it panics, until it ends.
async fn lasting<F: Future<Output = ()>>(mut task: impl FnMut() -> F, failed: impl Fn()) {
    while AssertUnwindSafe(task()).catch_unwind().await.is_err() {
        failed();
        tokio::time::sleep(BEGIN_AGAIN).await;
    }
}

impl Account {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn emit(&self, event: Event) {
        (self.context.emit)(event);
    }

    /// The address others know it by.
    pub fn jami_id(&self) -> AccountId {
        self.identity.account_id()
    }

    /// This device.
    pub fn device_id(&self) -> DeviceId {
        self.identity.device_id()
    }

    /// Its connections to other devices.
    pub fn peers(&self) -> &PeerManager {
        &self.peers
    }

    /// Where its files are.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    fn me(&self) -> Me {
        Me {
            identity: self.identity.clone(),
            name: self.shared().options.profile.display_name.clone(),
        }
    }

    /// As the API shows it.
    pub fn view(&self) -> api::Account {
        let (own, this) = (self.jami_id(), self.device_id());
        let revoked = self.peers.is_revoked(&own, &this);
        let shared = self.shared();
        api::Account {
            id: self.id.clone(),
            jami_id: self.jami_id(),
            device_id: self.device_id(),
            device_name: shared.options.device_name.clone(),
            display_name: shared.options.profile.display_name.clone(),
            avatar: shared.options.profile.avatar.clone(),
            registered_name: None,
            active: !shared.options.inactive,
            state: match shared.state {
                AccountState::Connecting | AccountState::Online | AccountState::Offline
                    if revoked =>
                {
                    AccountState::Revoked
                }
                state => state,
            },
            has_password: shared.has_password,
            settings: shared.options.settings.clone(),
        }
    }

    fn set_state(&self, state: AccountState) {
        {
            let mut shared = self.shared();
            if shared.state == state {
                return;
            }
            shared.state = state;
            shared.online_since = (state == AccountState::Online).then(now);
        }
        self.show();
    }

    /// Reports how it stands with the account.
    fn show(&self) -> api::Account {
        let view = self.view();
        self.emit(Event::AccountState {
            account: self.id.clone(),
            state: view.state,
            details: Some(Box::new(view.clone())),
            removed: false,
        });
        view
    }

    /// Changes what the owner decides. It is on the disk when this returns.
    pub async fn change_options(
        &self,
        change: impl FnOnce(&mut Options),
    ) -> Result<api::Account, AccountError> {
        let _turn = self.options_turn.lock().await;
        let mut options = self.shared().options.clone();
        change(&mut options);
        let kept = options.clone();
        self.book
            .ask(move |b| b.state().put("own", "options", &kept))
            .await??;
        let profile_changed = {
            let mut shared = self.shared();
            let changed = shared.options.profile != options.profile;
            shared.options = options.clone();
            if changed {
                shared.shown.clear();
            }
            changed
        };
        if profile_changed {
            let name = options.profile.display_name.clone();
            for conversation in self.conversations() {
                let name = name.clone();
                conversation.ask(move |r| r.set_name(name)).await?;
            }
            if let Some(account) = self.own_handle() {
                for (device, id) in self.links.connected() {
                    let account = account.clone();
                    self.spawn(account.show_profile(id, device));
                }
            }
            self.emit(Event::AccountProfile {
                account: self.id.clone(),
                display_name: options.profile.display_name,
                avatar: options.profile.avatar,
            });
        }
        let view = self.show();
        self.wake.notify_one();
        Ok(view)
    }

    /// The conversations that are here, those being left included.
    pub fn conversations(&self) -> Vec<Conversation> {
        self.shared().conversations.values().cloned().collect()
    }

    /// One conversation that is here, also if it is being left.
    pub fn conversation(&self, id: &ConversationId) -> Option<Conversation> {
        self.shared().conversations.get(id).cloned()
    }

    /// One conversation that is here, or the error that says it is not.
    pub fn need_conversation(&self, id: &ConversationId) -> Result<Conversation, ApiError> {
        let left = self.shared().leaving.contains_key(id);
        self.conversation(id).filter(|_| !left).ok_or_else(|| {
            ApiError::not_found(format!(
                "This account has no conversation {id} that can be read now."
            ))
        })
    }

    fn own_handle(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    fn presence(&self, id: &AccountId) -> Presence {
        self.shared()
            .reach
            .get(id)
            .map(|r| r.presence)
            .unwrap_or_default()
    }

    /// One's own presence: there as long as the account is online.
    fn own_presence(&self) -> Presence {
        let shared = self.shared();
        match shared.state {
            AccountState::Online => Presence {
                state: PresenceState::Connected,
                since: shared.online_since,
            },
            _ => Presence::default(),
        }
    }

    /// Works out whether a person can be reached, and says so if that is news.
    fn refresh_presence(&self, id: AccountId) {
        let connected = self.links.connected().iter().any(|(_, a)| *a == id);
        let presence = {
            let mut shared = self.shared();
            let reach = shared.reach.entry(id).or_default();
            let state = match (connected, reach.announced.is_empty()) {
                (true, _) => PresenceState::Connected,
                (false, false) => PresenceState::Available,
                (false, true) => PresenceState::Offline,
            };
            if reach.presence.state == state && reach.presence.since.is_some() {
                return;
            }
            reach.presence = Presence {
                state,
                since: Some(now()),
            };
            reach.presence
        };
        self.emit(Event::Presence {
            account: self.id.clone(),
            id,
            presence,
        });
    }

    fn link_view(peer: AccountId, reach: &Reach) -> api::LinkState {
        api::LinkState {
            peer,
            device: reach.device,
            phase: reach.phase,
            over: reach.over,
            why: reach.why.clone(),
            since: reach.link_since,
        }
    }

    fn set_link(
        &self,
        peer: AccountId,
        device: Option<DeviceId>,
        phase: LinkPhase,
        over: Option<api::LinkRoute>,
        why: Option<String>,
    ) {
        let link = {
            let mut shared = self.shared();
            let reach = shared.reach.entry(peer).or_default();
            if (reach.phase, reach.device, &reach.why) == (phase, device, &why) {
                return;
            }
            (
                reach.phase,
                reach.device,
                reach.over,
                reach.why,
                reach.link_since,
            ) = (phase, device, over, why, now());
            Self::link_view(peer, reach)
        };
        self.emit(Event::LinkState {
            account: self.id.clone(),
            link,
        });
    }

    /// How the people this account talks to are reached.
    pub fn link_states(&self) -> Vec<api::LinkState> {
        self.shared()
            .reach
            .iter()
            .map(|(id, r)| Self::link_view(*id, r))
            .collect()
    }

    /// Runs a task that ends with the account. One that panics is said.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if self.stop.is_cancelled() {
            return;
        }
        let (stop, this) = (self.stop.clone(), self.this.clone());
        let task = async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            if let (Err(_), Some(account)) = (ended, this.upgrade()) {
                account.say_failed();
            }
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended need no place any more.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Runs a task that has to run for as long as the account: where it panics, it is begun again.
    fn spawn_lasting<F: Future<Output = ()> + Send + 'static>(
        &self,
        task: impl FnMut() -> F + Send + 'static,
    ) {
        self.spawn(lasting(task, self.failed()));
    }

    /// Says that a task panicked.
    fn failed(&self) -> impl Fn() + Send + 'static {
        let this = self.this.clone();
        move || {
            if let Some(account) = this.upgrade() {
                account.say_failed();
            }
        }
    }

    /// Runs a task that ends with a conversation, or with the account.
    fn spawn_for(
        &self,
        conversation: &Conversation,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let ended = conversation.ended.clone();
        self.spawn(async move {
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Ends everything this account does. When this returns, what was begun is written, and its
    /// files are closed: they can be opened again, or removed.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.peers.shutdown();
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOPPING, ended).await.is_err() {
            tracing::warn!(account = %self.id, "a task of the account does not end");
            tasks.shutdown().await;
        }
        let open = std::mem::take(&mut self.shared().conversations);
        for conversation in open.into_values() {
            conversation.close().await;
        }
        self.book.end().await;
        self.set_state(AccountState::Inactive);
    }

    /// The crypto of this machine.
    fn crypto() -> AwsLc {
        AwsLc
    }

    fn state_of(book: &Book) -> State {
        book.state().clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_begun_again() {
        let (begun, failed) = (Cell::new(0), Cell::new(0));
        let task = || {
            begun.set(begun.get() + 1);
            let first = begun.get() < 3;
            async move { assert!(!first, "in the midst of it") }
        };
        let at = tokio::time::Instant::now();
        lasting(task, || failed.set(failed.get() + 1)).await;
        assert_eq!((begun.get(), failed.get()), (3, 2));
        assert_eq!(at.elapsed(), 2 * BEGIN_AGAIN);
    }
}
