//! The accounts of this bridge: made, imported, opened at the start, removed.

use super::book::Book;
use super::coming::Indexed;
use super::keep::{self, KeepError};
use super::links::Links;
use super::upkeep::{full_text, is_full};
use super::{Account, AccountError, Context, Options, Shared, copy, now_unix};
use crate::actor::Actor;
use crate::conversation::repo::RepoError;
use crate::crypto::AwsLc;
use crate::dht::SecureDht;
use crate::peer::{
    DhtSignalling, Limits, PeerConfig, PeerManager, REVOCATIONS, RevocationStore, TakeError,
};
use crate::store::index::Index;
use crate::store::state::{State, StateError};
use starling_core::account::{Contact, TrustStore};
use starling_core::api::{
    self, AccountState, ApiError, ErrorCode, Event, LocalAccountId, NoticeLevel,
};
use starling_core::crypto::Crypto as _;
use starling_core::id::{AccountId, ConversationId, DeviceId};
use starling_core::identity::{
    AccountKeys, Archive, ArchiveError, Credential, Identity, KEY_BITS, create_account,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockWriteGuard, Weak};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Where an account keeps what it knows of other devices.
const PEERS: &str = "peers";

/// All accounts.
pub struct Accounts {
    dir: PathBuf,
    context: Context,
    open: RwLock<BTreeMap<LocalAccountId, Arc<Account>>>,
    /// Those that cannot be opened, or are not open yet, as far as they can be shown, and why.
    /// Whoever needs both locks takes that of [`Self::open`] first.
    broken: RwLock<BTreeMap<LocalAccountId, (api::Account, ApiError)>>,
    /// One attempt at a time.
    opening: tokio::sync::Mutex<()>,
}

/// Why a backup from elsewhere cannot be read.
fn archive_error(e: &ArchiveError) -> ApiError {
    match e {
        ArchiveError::NeedsPassword => ApiError::new(
            ErrorCode::WrongPassword,
            "This backup is protected by a password. Enter it.",
        ),
        ArchiveError::WrongPassword => ApiError::new(
            ErrorCode::WrongPassword,
            "The password does not open this backup.",
        ),
        ArchiveError::TooLarge => ApiError::new(ErrorCode::TooLarge, e.to_string()),
        other => ApiError::new(
            ErrorCode::Corrupt,
            format!("The backup cannot be read: {other}."),
        ),
    }
}

/// Why the archive of an account that is here cannot be read.
pub(super) fn own_archive_error(e: &ArchiveError) -> ApiError {
    let text = match e {
        ArchiveError::NeedsPassword => "This account is protected by a password. Enter it.",
        ArchiveError::WrongPassword => "This is not the account's password.",
        other => return archive_error(other),
    };
    ApiError::new(ErrorCode::WrongPassword, text)
}

/// What to do about an account that cannot be opened, as far as `e` does not say it.
fn advice(e: &AccountError, dir: &Path) -> String {
    match e {
        // They say what to do themselves, and so does a layout that is too new.
        AccountError::Keep(
            KeepError::Damaged { .. } | KeepError::Identity { .. } | KeepError::Archive { .. },
        )
        | AccountError::State(StateError::Corrupt { .. } | StateError::Newer { .. }) => {
            String::new()
        }
        AccountError::Keep(KeepError::Io { .. })
        | AccountError::State(_)
        | AccountError::Repo(_)
        | AccountError::NoAnswer(_)
        | AccountError::Api(_) => format!(
            " Before you remove it, import its archive, {}, or a backup of it.",
            keep::archive_path(dir).display()
        ),
    }
}

pub(super) fn internal(e: impl std::fmt::Display) -> ApiError {
    ApiError::internal(e.to_string())
}

/// Reads the book anew after something panicked in the midst of it.
fn mend_book(account: Arc<OnceLock<Weak<Account>>>) -> impl FnMut(Book) -> Option<Book> {
    move |book| {
        let new = Book::open(book.state().clone());
        if let Some(account) = account.get().and_then(Weak::upgrade) {
            account.say_failed();
        }
        new.inspect_err(|e| tracing::error!(%e, "an account's records cannot be read anew"))
            .ok()
    }
}

impl Accounts {
    /// Opens the accounts in a data directory. One that cannot be opened is reported and left as it is.
    pub async fn open(data_dir: &Path, context: Context) -> Result<Self, KeepError> {
        let dir = data_dir.join("accounts");
        let io = |source| KeepError::Io {
            path: dir.clone(),
            source,
        };
        if dir.exists() && !dir.is_dir() {
            let what = "a file is where the directory of the accounts has to be: move it away";
            return Err(io(std::io::Error::other(what)));
        }
        std::fs::create_dir_all(&dir).map_err(io)?;
        let accounts = Self {
            dir: dir.clone(),
            context,
            open: RwLock::default(),
            broken: RwLock::default(),
            opening: tokio::sync::Mutex::default(),
        };
        let mut entries: Vec<_> = std::fs::read_dir(&dir)
            .map_err(io)?
            .filter_map(Result::ok)
            .collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.ends_with(".new") {
                // An account whose making was interrupted: nobody has heard of it.
                let _ = std::fs::remove_dir_all(entry.path());
                continue;
            }
            let Ok(id) = name.parse::<LocalAccountId>() else {
                continue;
            };
            // What is wrong was said.
            let _ = accounts.load(&id).await;
        }
        Ok(accounts)
    }

    /// All accounts that are open.
    pub fn all(&self) -> Vec<Arc<Account>> {
        self.open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// All accounts as the API shows them, those that cannot be opened included.
    pub fn views(&self) -> Vec<api::Account> {
        // Both at once: one that is opened meanwhile is in either, or in both.
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let broken = self.broken.read().unwrap_or_else(PoisonError::into_inner);
        let other = broken.iter().filter(|(id, _)| !open.contains_key(*id));
        let other = other.map(|(_, (view, _))| view.clone());
        open.values().map(|a| a.view()).chain(other).collect()
    }

    /// One account as the API shows it.
    pub fn view(&self, id: &LocalAccountId) -> Result<api::Account, ApiError> {
        let broken = {
            let broken = self.broken.read().unwrap_or_else(PoisonError::into_inner);
            broken.get(id).map(|(view, _)| view.clone())
        };
        match broken {
            Some(view) => Ok(view),
            None => Ok(self.get(id)?.view()),
        }
    }

    /// One account that is open.
    pub fn get(&self, id: &LocalAccountId) -> Result<Arc<Account>, ApiError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(id).cloned().ok_or_else(|| {
            let broken = self.broken.read().unwrap_or_else(PoisonError::into_inner);
            match broken.get(id) {
                Some((_, why)) => why.clone(),
                None => ApiError::not_found(format!("This bridge has no account {id}.")),
            }
        })
    }

    /// An account cannot be opened: said, and shown from now on, with what its files still tell. Where
    /// there is only no room for it, it waits, see [`Self::open_waiting`].
    fn say_broken(&self, id: &LocalAccountId, e: &AccountError) {
        let full = is_full(e);
        let (code, state, why) = if full {
            let why = ApiError::new(ErrorCode::Storage, full_text(e));
            ("disk_full", AccountState::Loading, why)
        } else {
            let text = format!(
                "This account cannot be opened: {e}. Its files were left as they are.{}",
                advice(e, &self.dir.join(id.as_str()))
            );
            let why = ApiError::new(ErrorCode::Corrupt, text);
            ("account_broken", AccountState::Broken, why)
        };
        if self
            .broken()
            .get(id)
            .is_some_and(|(_, w)| w.code == why.code)
        {
            // It was said.
            return;
        }
        tracing::error!(account = %id, %e, "an account cannot be opened");
        (self.context.emit)(Event::BridgeNotice {
            level: NoticeLevel::Error,
            code: code.into(),
            text: if full {
                why.message.clone()
            } else {
                e.to_string()
            },
            account: Some(id.clone()),
        });
        let dir = self.dir.join(id.as_str());
        let chain = keep::read_chain(&dir);
        let kept = State::open(&dir.join("state.sqlite")).ok();
        let options = kept.and_then(|s| s.get::<Options>("own", "options").ok().flatten());
        let options = options.unwrap_or_default();
        let view = api::Account {
            id: id.clone(),
            jami_id: chain
                .as_ref()
                .map_or(AccountId([0; 20]), |c| c.account_id()),
            device_id: chain.as_ref().map_or(DeviceId([0; 32]), |c| c.device_id()),
            device_name: options.device_name,
            display_name: options.profile.display_name,
            avatar: options.profile.avatar,
            registered_name: None,
            active: !options.inactive,
            state,
            has_password: false,
            settings: options.settings,
        };
        self.broken().insert(id.clone(), (view.clone(), why));
        (self.context.emit)(Event::AccountState {
            account: id.clone(),
            state,
            details: Some(Box::new(view)),
            removed: false,
        });
    }

    async fn load(&self, id: &LocalAccountId) -> Result<Arc<Account>, AccountError> {
        let loaded = self.try_load(id).await;
        match &loaded {
            Ok(_) => drop(self.broken().remove(id)),
            Err(e) => self.say_broken(id, e),
        }
        loaded
    }

    /// Tries again to open the accounts for which there was no room on the disk: nothing says when
    /// there is some. To be called now and then.
    pub async fn open_waiting(&self) {
        let _turn = self.opening.lock().await;
        let waiting: Vec<LocalAccountId> = self
            .broken()
            .iter()
            .filter(|(_, (view, _))| view.state == AccountState::Loading)
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            // What is wrong was said.
            if let Ok(account) = self.load(&id).await {
                account.show();
            }
        }
    }

    fn broken(&self) -> RwLockWriteGuard<'_, BTreeMap<LocalAccountId, (api::Account, ApiError)>> {
        self.broken.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an account on this device.
    pub async fn create(
        &self,
        options: Options,
        password: Option<&str>,
    ) -> Result<Arc<Account>, AccountError> {
        let keys = tokio::task::spawn_blocking(|| AwsLc.generate_account_keys())
            .await
            .map_err(internal)?
            .map_err(internal)?;
        self.create_with(keys, options, password).await
    }

    /// Makes an account of given keys.
    pub async fn create_with(
        &self,
        keys: AccountKeys,
        options: Options,
        password: Option<&str>,
    ) -> Result<Arc<Account>, AccountError> {
        let (archive, identity) = create_account(&AwsLc, now_unix(), keys).map_err(internal)?;
        self.settle(archive, identity, options, password).await
    }

    /// Takes an account from a backup: this becomes a further device of it.
    pub async fn import(
        &self,
        archive: &[u8],
        password: Option<&str>,
        mut options: Options,
    ) -> Result<Arc<Account>, AccountError> {
        let credential = Credential::password(password.unwrap_or_default());
        let archive = tokio::task::block_in_place(|| Archive::read(archive, &credential, &AwsLc))
            .map_err(|e| archive_error(&e))?;
        if options.profile.display_name.is_empty() {
            options.profile.display_name = archive
                .details
                .get("Account.displayName")
                .cloned()
                .unwrap_or_default();
        }
        let (archive, identity) = tokio::task::spawn_blocking(move || {
            let mut archive = archive;
            let key = AwsLc.generate_rsa(KEY_BITS)?;
            let identity = archive.new_device(&AwsLc, now_unix(), key)?;
            Ok::<_, starling_core::identity::IdentityError>((archive, identity))
        })
        .await
        .map_err(internal)?
        .map_err(|e| {
            ApiError::new(
                ErrorCode::Corrupt,
                format!("The backup does not make an account: {e}."),
            )
        })?;
        if self
            .all()
            .iter()
            .any(|a| a.jami_id() == identity.account_id())
        {
            return Err(ApiError::new(
                ErrorCode::AlreadyExists,
                "This account is on this bridge already.",
            )
            .into());
        }
        self.settle(archive, identity, options, password).await
    }

    /// Writes a new account to the disk, whole, and opens it. Where that fails there is none: whoever tries
    /// again does not have two.
    async fn settle(
        &self,
        archive: Archive,
        identity: Identity,
        options: Options,
        password: Option<&str>,
    ) -> Result<Arc<Account>, AccountError> {
        let id = LocalAccountId::from_bytes(keep::random());
        let (new, dir) = (
            self.dir.join(format!("{id}.new")),
            self.dir.join(id.as_str()),
        );
        let made = match self.put(&new, &dir, archive, identity, options, password) {
            Ok(()) => self.try_load(&id).await,
            Err(e) => Err(e),
        };
        if made.is_err() {
            // Renamed first, as when it is removed.
            let _ = std::fs::rename(&dir, &new);
            let _ = std::fs::remove_dir_all(&new);
        }
        made
    }

    /// Writes a new account to the disk, first to a place of which nothing is read.
    fn put(
        &self,
        new: &Path,
        dir: &Path,
        archive: Archive,
        identity: Identity,
        options: Options,
        password: Option<&str>,
    ) -> Result<(), AccountError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| KeepError::Io { path, source }
        };
        std::fs::create_dir_all(new).map_err(io(new))?;
        let bytes = tokio::task::block_in_place(|| {
            archive.write(&Credential::password(password.unwrap_or_default()), &AwsLc)
        })
        .map_err(internal)?;
        keep::write_identity(new, &identity)?;
        if let Some(list) = &archive.revocation_list {
            // A daemon's backup may hold one.
            let revocations = RevocationStore::open(
                &new.join(PEERS).join(REVOCATIONS),
                identity.account_id(),
                Arc::new(AwsLc),
            )
            .map_err(io(new))?;
            match revocations.take(&identity.chain.account, list.clone(), &[]) {
                Err(TakeError::Io(why)) => return Err(io(new)(std::io::Error::other(why)).into()),
                Err(why) => tracing::warn!(%why, "the revocation list of a backup does not count"),
                Ok(_) => {}
            }
        }
        {
            let mut book = Book::open(State::open(&new.join("state.sqlite"))?)?;
            keep::write_archive(new, book.state(), &bytes)?;
            book.state().put("own", "options", &options)?;
            for (peer, contact) in archive.contacts {
                book.change_contact(peer, |c: &mut Contact| c.merge(&contact))?;
            }
            for info in archive.conversations.into_values() {
                book.set_conversation(info)?;
            }
            for request in archive.requests.into_values() {
                book.incoming(request, false, super::now_ms())?;
            }
        }
        std::fs::rename(new, dir).map_err(io(dir))?;
        std::fs::File::open(&self.dir)
            .and_then(|d| d.sync_all())
            .map_err(io(&self.dir))?;
        Ok(())
    }

    async fn try_load(&self, id: &LocalAccountId) -> Result<Arc<Account>, AccountError> {
        let dir = self.dir.join(id.as_str());
        let identity = keep::read_identity(&dir, now_unix())?;
        let state = State::open(&dir.join("state.sqlite"))?;
        let options: Options = state.get("own", "options")?.unwrap_or_default();
        let archive = tokio::task::block_in_place(|| {
            keep::look_at_archive(&dir, &state, identity.account_id())
        })?;
        let book = Book::open(state)?;
        let mut trust = TrustStore::default();
        for (peer, contact) in book.contacts() {
            trust.set_contact(peer, contact);
        }
        let (mut cloned, mut wanted) = (Vec::new(), BTreeSet::new());
        let (mut leaving, mut invalid) = (BTreeMap::new(), BTreeSet::new());
        for info in book.records().values() {
            let local = book.local(&info.id);
            if local.invalid.is_some() {
                invalid.insert(info.id);
            }
            match (info.is_removed(), local.left) {
                (false, _) if local.cloned => cloned.push(info.id),
                (false, _) => drop(wanted.insert(info.id)),
                (true, Some(commit)) => {
                    leaving.insert(info.id, commit);
                    cloned.push(info.id);
                }
                (true, None) => remove_repository(&dir, &info.id),
            }
        }
        remove_unfinished(&dir, &wanted);
        let index = Index::open(&dir.join(crate::conversation::INDEX)).map_err(RepoError::from)?;
        let secure = SecureDht::new(
            self.context.dht.clone(),
            Arc::new(AwsLc),
            identity.device_key.clone(),
        );
        // The manager asks who may connect before the account is put together.
        let late: Arc<OnceLock<Weak<Account>>> = Arc::default();
        let policy = {
            let late = late.clone();
            Arc::new(
                move |peer: &starling_core::id::AccountId, device: &starling_core::id::DeviceId| {
                    late.get()
                        .and_then(Weak::upgrade)
                        .is_some_and(|a| a.lets_in(peer, device))
                },
            )
        };
        let config = PeerConfig {
            chain: identity.chain.clone(),
            key: identity.device_key.clone(),
            crypto: Arc::new(AwsLc),
            directory: dir.join(PEERS),
            loopback: self.context.loopback,
            policy,
            limits: Limits::default(),
        };
        let signalling = Arc::new(DhtSignalling::new(
            self.context.dht.clone(),
            Arc::new(AwsLc),
            &identity,
        ));
        let (peers, incoming) =
            PeerManager::start(config, signalling).map_err(|source| KeepError::Io {
                path: dir.join(PEERS),
                source,
            })?;
        let account = Arc::new_cyclic(|this| Account {
            id: id.clone(),
            this: this.clone(),
            dir,
            context: self.context.clone(),
            identity,
            secure,
            book: Actor::start(book, mend_book(late.clone())),
            index,
            peers,
            links: Links::default(),
            guests: super::guests::Guests::default(),
            shared: Mutex::new(Shared {
                options: options.clone(),
                trust,
                leaving,
                invalid,
                has_password: archive.protected,
                ..Shared::default()
            }),
            wake: Notify::new(),
            stop: CancellationToken::new(),
            tasks: Mutex::default(),
            options_turn: tokio::sync::Mutex::default(),
            archive_turn: tokio::sync::Mutex::default(),
            unfounded: Default::default(),
        });
        let _ = late.set(Arc::downgrade(&account));
        if let Some(why) = account.index.made_anew() {
            tracing::warn!(account = %id, why, "the index was made anew");
            account.say_index_made();
        }
        if let Some(damage) = archive.damage {
            tracing::error!(account = %id, damage, "the archive of an account is damaged");
            (self.context.emit)(Event::BridgeNotice {
                level: NoticeLevel::Error,
                code: "archive_damaged".into(),
                text: format!("{damage}."),
                account: Some(id.clone()),
            });
        }
        for conversation in cloned {
            match account
                .open_conversation(conversation, Indexed::Before)
                .await
            {
                Ok(c) if account.conversation(&conversation).is_some() => account.tidy(&c).await,
                Ok(_) => {}
                Err(e) => {
                    tracing::error!(%conversation, %e, "a conversation cannot be opened");
                    (self.context.emit)(Event::BridgeNotice {
                        level: NoticeLevel::Error,
                        code: "conversation_broken".into(),
                        text: format!(
                            "The conversation {conversation} cannot be opened: {e}. It was left as it is."
                        ),
                        account: Some(id.clone()),
                    });
                }
            }
        }
        self.open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone(), account.clone());
        if options.inactive {
            // It can be read, and written to; nobody is let in.
            account.stop.cancel();
            account.peers.shutdown();
        } else {
            account.set_state(AccountState::Connecting);
            account.run(incoming);
        }
        Ok(account)
    }

    /// Removes an account and everything of it.
    pub async fn remove(&self, id: &LocalAccountId) -> Result<(), AccountError> {
        let _turn = self.opening.lock().await;
        let broken = self.broken().remove(id).is_some();
        if !broken {
            let account = self.get(id)?;
            self.open
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(id);
            account.stop().await;
        }
        let dir = self.dir.join(id.as_str());
        let gone = dir.with_extension("new");
        // Renamed first: an interrupted removal is finished at the next start.
        std::fs::rename(&dir, &gone).map_err(|source| KeepError::Io { path: dir, source })?;
        if let Err(e) = std::fs::remove_dir_all(&gone) {
            tracing::warn!(%e, "a removed account is still on the disk; it goes at the next start");
        }
        (self.context.emit)(Event::AccountState {
            account: id.clone(),
            state: AccountState::Inactive,
            details: None,
            removed: true,
        });
        Ok(())
    }

    /// Switches an account on or off.
    pub async fn set_active(
        &self,
        id: &LocalAccountId,
        active: bool,
    ) -> Result<api::Account, AccountError> {
        let _turn = self.opening.lock().await;
        let account = self.get(id)?;
        let mut view = account.change_options(|o| o.inactive = !active).await?;
        if active != account.stop.is_cancelled() {
            return Ok(view);
        }
        // Meanwhile it is there all the same.
        view.state = AccountState::Loading;
        let why = ApiError::new(
            ErrorCode::Offline,
            "This account is being switched on or off. Try again in a moment.",
        );
        {
            let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
            self.broken().insert(id.clone(), (view, why));
            open.remove(id);
        }
        account.stop().await;
        drop(account);
        Ok(self.load(id).await?.view())
    }

    /// Ends all accounts.
    pub async fn stop(&self) {
        let _turn = self.opening.lock().await;
        for account in self.all() {
            account.stop().await;
        }
    }
}

/// Removes a repository that nobody needs any more.
fn remove_repository(account_dir: &Path, id: &ConversationId) {
    let path = crate::conversation::path(account_dir, id);
    match std::fs::remove_dir_all(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%e, path = %path.display(), "a removed conversation is still on the disk");
        }
        _ => {}
    }
}

/// Removes repositories whose making was interrupted: nobody has heard of them. What there is of a
/// first copy stays while one is wanted.
fn remove_unfinished(account_dir: &Path, wanted: &BTreeSet<ConversationId>) {
    let Ok(entries) = std::fs::read_dir(account_dir.join("conversations")) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let id = path.file_stem().and_then(|s| s.to_str()?.parse().ok());
        let goes = match path.extension().and_then(|e| e.to_str()) {
            Some("new") => true,
            Some(copy::UNFINISHED) => !id.is_some_and(|id| wanted.contains(&id)),
            _ => false,
        };
        if goes {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

impl Account {
    /// Whether a person is blocked: nothing goes to them, and nothing comes from them.
    pub(super) fn is_blocked(&self, peer: &starling_core::id::AccountId) -> bool {
        self.shared().trust.status(&peer.0) == starling_core::account::TrustStatus::Banned
    }

    /// Ends the connections of those who may not connect any more, and looks again at the requests
    /// of those who may now.
    pub(super) fn enforce(&self) {
        self.peers.policy_changed();
        for (device, id) in self.peers.connected() {
            if !self.lets_in(&id, &device) {
                self.peers.close_device(&device);
            }
        }
    }

    /// Whether a person is a contact, or oneself on another device.
    pub(super) fn knows(&self, peer: &starling_core::id::AccountId) -> bool {
        *peer == self.jami_id()
            || self.shared().trust.status(&peer.0) == starling_core::account::TrustStatus::Allowed
    }

    /// Whether a device of an account may connect: contacts, one's own other devices, and fellow
    /// members. Those who are no more than that get nothing but the channels and notices of the
    /// conversations that both are in.
    pub(super) fn lets_in(
        &self,
        peer: &starling_core::id::AccountId,
        device: &starling_core::id::DeviceId,
    ) -> bool {
        if self.is_blocked(peer) || self.peers.is_revoked(peer, device) {
            return false;
        }
        self.knows(peer)
            || self.knocks_at(peer)
            || self.conversations().iter().any(|c| {
                let snapshot = c.snapshot();
                // Who was banned may come once more, to hear of it.
                snapshot.admits(peer, device) || snapshot.unaware.contains(peer)
            })
    }
}
