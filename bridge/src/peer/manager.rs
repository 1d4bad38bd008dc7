//! All connections of one account: who is asked, who is answered, and which connection a channel uses.

mod answering;
mod asking;
mod revoking;

use self::revoking::FoundLists;
use super::certificates::CertificateStore;
use super::channel::Channel;
use super::held::Held;
use super::link::{self, Command, LinkHandle, Progress, Setup};
use super::net::Listeners;
use super::revocations::{REVOCATIONS, RevocationStore};
use super::signalling::{Announced, Presence, Signalling, SignallingError, Wanted};
use super::tls::{TlsIdentity, WrongPeer};
use super::treated::Treated;
use crate::addresses::own_addresses;
use futures_util::future::{BoxFuture, Shared};
use starling_core::crypto::{Crypto, PrivateKey};
use starling_core::id::{AccountId, DeviceId, DeviceShortId};
use starling_core::identity::{CertificateChain, ChainError};
use starling_core::peer::channel_name::ChannelName;
use starling_core::peer::ice::{self, Agent, Failure, Role};
use starling_core::peer::ice_text::{Credentials, IceText, IceTextError};
use starling_core::peer::mux::{ChannelId, MuxError};
use starling_core::peer::request::MAX_ID;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a connection that the peer asked for is waited for before we ask ourselves.
const GLARE_WAIT: Duration = Duration::from_secs(3);
/// A controlling agent's wait for a better connection (pjnath, 400 ms).
const NOMINATION_DELAY: Duration = Duration::from_millis(400);
/// How long the revocation lists of somebody who is met for the first time are waited for, once the certificate
/// is there. Who asks looks for both at the same time; who is asked learns from the certificate whose they
/// are, and waits: a device that was taken back is not to learn our addresses from an answer.
const LISTS_WAIT: Duration = Duration::from_secs(1);
/// How long the end waits for goodbyes to be written.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(1);
/// Link events that a slow subscriber may be behind.
const EVENT_QUEUE: usize = 256;
/// Requested channels that wait for the account to look at them.
const INCOMING_QUEUE: usize = 64;

/// Whether a device of an account may connect to us. Called under no lock.
pub type Policy = Arc<dyn Fn(&AccountId, &DeviceId) -> bool + Send + Sync>;

/// What bounds the connections of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attempts of ours at a time.
    pub outgoing: usize,
    /// Answered requests without a connection yet, at a time.
    pub incoming: usize,
    /// Connections to one device, in all stages. Two are normal when both sides ask at once.
    pub per_device: usize,
    /// Connections to all devices of one account together. An account makes as many devices as it
    /// likes, and each connection takes memory.
    pub per_account: usize,
    /// Channels of one connection.
    pub channels: usize,
    /// Certificates of strangers that are looked for at a time.
    pub lookups: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            outgoing: 64,
            incoming: 32,
            per_device: 6,
            per_account: 32,
            channels: 256,
            lookups: 16,
        }
    }
}

/// What a manager begins with.
pub struct PeerConfig {
    /// Our chain, as it is published.
    pub chain: CertificateChain,
    /// Our device's key.
    pub key: Arc<dyn PrivateKey>,
    /// Checks signatures.
    pub crypto: Arc<dyn Crypto>,
    /// Where chains of others and treated requests are kept.
    pub directory: PathBuf,
    /// Whether loopback addresses are offered and connected to. For tests and for networks inside
    /// one machine.
    pub loopback: bool,
    /// Who may connect.
    pub policy: Policy,
    /// The bounds.
    pub limits: Limits,
}

/// Why there is no channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// That is ourselves.
    #[error("a device does not connect to itself")]
    OwnDevice,
    /// Nobody published the device's certificate.
    #[error("the device's certificate cannot be found")]
    NoCertificate,
    /// The device's chain does not hold.
    #[error("the device's certificate is not valid: {0}")]
    Chain(#[from] ChainError),
    /// The device belongs to somebody else.
    #[error("the device belongs to another account")]
    WrongAccount,
    /// The request could not be sent.
    #[error("the request could not be sent: {0}")]
    Signalling(#[from] SignallingError),
    /// We do not let the device's owner in.
    #[error("the device's owner is not let in")]
    NotLetIn,
    /// The device did not answer the request: it is off, or does not let us in.
    #[error("the device does not answer")]
    NoAnswer,
    /// The device's list of addresses cannot be used.
    #[error("{0}")]
    IceText(#[from] IceTextError),
    /// No network path.
    #[error("{0}")]
    Ice(#[from] Failure),
    /// Somebody else is there.
    #[error("{0}")]
    WrongPeer(#[from] WrongPeer),
    /// The device speaks another TLS, or does not let us in.
    #[error("no secure connection: {0}")]
    Tls(String),
    /// The device does not want this channel.
    #[error("the device declined the channel")]
    Declined,
    /// The device said nothing about the channel.
    #[error("the device did not answer the request for a channel")]
    NoReply,
    /// The multiplexer refused.
    #[error("{0}")]
    Mux(#[from] MuxError),
    /// The connection ended.
    #[error("the connection was closed")]
    Closed,
    /// The device gave no sign of life.
    #[error("the device gave no sign of life")]
    Dead,
    /// A bound of ours.
    #[error("too many connections or channels")]
    TooMany,
    /// A system error, in words.
    #[error("{0}")]
    Io(String),
}

impl OpenError {
    /// Whether the device's owner has taken it back.
    pub fn is_revoked(&self) -> bool {
        let (Self::Chain(why) | Self::WrongPeer(WrongPeer::Chain(why))) = self else {
            return false;
        };
        matches!(why, ChainError::Revoked { .. })
    }

    /// Whether the connection ended, rather than the channel's request.
    fn is_of_link(&self) -> bool {
        matches!(
            self,
            Self::Closed
                | Self::Dead
                | Self::Ice(_)
                | Self::Tls(_)
                | Self::WrongPeer(_)
                | Self::NoAnswer
        )
    }
}

/// How far a connection to a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// The device's certificate is looked for.
    LookingUp,
    /// Request and answer travel, addresses are tried.
    Negotiating,
    /// Channels can be opened.
    Connected {
        /// The other end.
        over: SocketAddr,
        /// Version of TLS.
        tls: String,
    },
    /// There is no connection.
    Failed {
        /// Why.
        why: OpenError,
    },
    /// There is no connection any more.
    Closed {
        /// Why.
        why: OpenError,
    },
}

/// Something changed about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEvent {
    /// To whom.
    pub device: DeviceId,
    /// Whose device, when it is known.
    pub account: Option<AccountId>,
    /// What.
    pub state: LinkState,
}

/// A device asks for a channel. Dropping it declines.
#[derive(Debug)]
pub struct Incoming {
    /// Which device.
    pub device: DeviceId,
    /// Whose, by its verified chain.
    pub account: AccountId,
    /// For what.
    pub name: ChannelName,
    id: ChannelId,
    link: u64,
    commands: Option<mpsc::UnboundedSender<Command>>,
}

impl Incoming {
    pub(super) fn new(
        id: ChannelId,
        name: ChannelName,
        (device, account, link): (DeviceId, AccountId, u64),
        commands: mpsc::UnboundedSender<Command>,
    ) -> Self {
        Self {
            device,
            account,
            name,
            id,
            link,
            commands: Some(commands),
        }
    }

    /// Opens the channel. If the device gave up meanwhile, reading says so.
    pub fn accept(mut self) -> Channel {
        let peer = (self.device, self.account, self.link);
        // Taken here and in `drop` only.
        let commands = self
            .commands
            .take()
            .unwrap_or_else(|| mpsc::unbounded_channel().0);
        let (side, channel) = Channel::new(self.id, self.name.clone(), peer, commands.clone());
        let _ = commands.send(Command::Accept(self.id, self.name.clone(), side));
        channel
    }

    /// Refuses the channel.
    pub fn decline(self) {}
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(commands) = self.commands.take() {
            let _ = commands.send(Command::Decline(self.id, self.name.clone()));
        }
    }
}

/// The connections of one account. Cheap to clone; ends with [`Self::shutdown`] or with its last clone.
#[derive(Clone)]
pub struct PeerManager {
    inner: Arc<Inner>,
    /// Ends the tasks with the last clone.
    _guard: Arc<tokio_util::sync::DropGuard>,
}

type Attempt = Shared<BoxFuture<'static, Result<LinkHandle, OpenError>>>;

struct Inner {
    config: PeerConfig,
    own: DeviceId,
    identity: TlsIdentity,
    signalling: Arc<dyn Signalling>,
    store: CertificateStore,
    revocations: RevocationStore,
    /// Accounts whose lists are being looked for.
    looking_for_lists: Mutex<BTreeMap<AccountId, FoundLists>>,
    /// Our own account took something back.
    took_back: Notify,
    /// Lists are taken in turn: a flood of forged ones takes one processor.
    taking_lists: Arc<Semaphore>,
    treated: Mutex<Treated>,
    table: Mutex<Table>,
    /// Counts changes of the table, so that waiting opens look again.
    changed: watch::Sender<u64>,
    events: broadcast::Sender<LinkEvent>,
    incoming: mpsc::Sender<Incoming>,
    lookups: Semaphore,
    held: Held,
    ended: CancellationToken,
}

#[derive(Default)]
struct Table {
    links: BTreeMap<DeviceId, Vec<Entry>>,
    attempts: BTreeMap<DeviceId, Attempt>,
}

#[derive(Clone)]
struct Entry {
    /// Of the request.
    id: u64,
    outgoing: bool,
    account: AccountId,
    started: Instant,
    link: LinkHandle,
}

impl Entry {
    fn connected(&self) -> bool {
        matches!(*self.link.progress.borrow(), Progress::Connected { .. })
    }

    fn negotiating(&self) -> bool {
        matches!(*self.link.progress.borrow(), Progress::Negotiating)
    }
}

impl PeerManager {
    /// Starts listening for requests. The receiver gets every channel that a device asks for;
    /// daemons close a connection whose requests stay unanswered for three seconds.
    ///
    /// # Errors
    /// The directory cannot be used, or the key is none for TLS.
    pub fn start(
        config: PeerConfig,
        signalling: Arc<dyn Signalling>,
    ) -> io::Result<(Self, mpsc::Receiver<Incoming>)> {
        let store = CertificateStore::open(&config.directory.join("certificates"))?;
        let treated = Treated::open(&config.directory.join("treatedRequests"))?;
        let revocations = RevocationStore::open(
            &config.directory.join(REVOCATIONS),
            config.chain.account_id(),
            config.crypto.clone(),
        )?;
        let identity = TlsIdentity::new(&config.chain, config.key.as_ref(), config.crypto.clone())
            .map_err(io::Error::other)?
            .knowing(revocations.clone());
        let (incoming, incoming_rx) = mpsc::channel(INCOMING_QUEUE);
        let ended = CancellationToken::new();
        let inner = Arc::new(Inner {
            own: config.chain.device_id(),
            identity,
            store,
            revocations,
            looking_for_lists: Mutex::default(),
            took_back: Notify::new(),
            taking_lists: Arc::new(Semaphore::new(1)),
            treated: Mutex::new(treated),
            table: Mutex::default(),
            changed: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENT_QUEUE),
            incoming,
            lookups: Semaphore::new(config.limits.lookups),
            held: Held::default(),
            ended: ended.clone(),
            signalling,
            config,
        });
        tokio::spawn(inner.clone().listen());
        tokio::spawn(inner.clone().keep_publishing());
        let guard = Arc::new(ended.drop_guard());
        Ok((
            Self {
                inner,
                _guard: guard,
            },
            incoming_rx,
        ))
    }

    /// A channel to a device: over a connection that is there, over one that is being made, or
    /// over a new one. `account` is whose device it must be.
    ///
    /// # Errors
    /// One named reason, after all ways were tried.
    pub async fn open(
        &self,
        device: &DeviceId,
        account: Option<AccountId>,
        name: ChannelName,
    ) -> Result<Channel, OpenError> {
        self.inner.open(*device, account, name).await
    }

    /// What happens to connections from now on.
    pub fn events(&self) -> broadcast::Receiver<LinkEvent> {
        self.inner.events.subscribe()
    }

    /// The connections that are up, as it was said of each when it came up: for who begins to
    /// follow [`Self::events`], or has missed some.
    pub fn links(&self) -> Vec<LinkEvent> {
        let table = self.inner.table();
        let up = |e: &Entry| match &*e.link.progress.borrow() {
            Progress::Connected { remote, tls } => Some((e.account, *remote, tls.clone())),
            _ => None,
        };
        let links = table.links.iter();
        links
            .filter_map(|(device, links)| {
                let (account, over, tls) = links.iter().find_map(up)?;
                Some(LinkEvent {
                    device: *device,
                    account: Some(account),
                    state: LinkState::Connected { over, tls },
                })
            })
            .collect()
    }

    /// The devices that channels can be opened to at once.
    pub fn connected(&self) -> Vec<(DeviceId, AccountId)> {
        let table = self.inner.table();
        table
            .links
            .iter()
            .filter_map(|(device, links)| {
                Some((*device, links.iter().find(|l| l.connected())?.account))
            })
            .collect()
    }

    /// The devices that an account announces, ours left out.
    pub async fn devices_of(&self, account: AccountId) -> Vec<Announced> {
        let mut devices = self.inner.signalling.devices_of(account).await;
        devices.retain(|d| d.device != self.inner.own);
        devices.sort();
        devices.dedup();
        devices
    }

    /// The verified chain of a device, from the store or from the network.
    ///
    /// # Errors
    /// It is not there, or not valid.
    pub async fn certificate(
        &self,
        device: DeviceId,
        short_id: Option<DeviceShortId>,
    ) -> Result<CertificateChain, OpenError> {
        let chain = self.inner.certificate(device, short_id, None).await?;
        self.inner.pin(&chain);
        Ok(chain)
    }

    /// The verified chain of a device of an account, as [`Self::certificate`].
    ///
    /// # Errors
    /// It is not there, not valid, or [`OpenError::WrongAccount`].
    pub async fn certificate_of(
        &self,
        device: DeviceId,
        account: AccountId,
    ) -> Result<CertificateChain, OpenError> {
        let chain = self.inner.certificate(device, None, Some(account)).await?;
        self.inner.pin(&chain);
        Ok(chain)
    }

    /// Chains that were met.
    pub fn certificates(&self) -> &CertificateStore {
        &self.inner.store
    }

    /// Makes our device findable: certificate and announcement. And says which of our devices were
    /// revoked, as far as we know.
    ///
    /// # Errors
    /// The network does not take them.
    pub async fn publish(&self) -> Result<(), SignallingError> {
        self.inner.signalling.publish().await?;
        self.inner.publish_lists().await
    }

    /// The devices that an account announces, now and from now on, ours included if it is ours.
    pub fn watch_devices(&self, account: AccountId) -> mpsc::Receiver<Presence> {
        self.inner.signalling.watch_devices(account)
    }

    /// Who may connect has changed: requests that were not let in are looked at again.
    pub fn policy_changed(&self) {
        self.inner.held.look_again();
    }

    /// The network changed: every peer has to give a sign of life, or its connections end. Those
    /// that lead from an address that is no longer ours do at once.
    pub fn network_changed(&self) {
        let own: Arc<[IpAddr]> = own_addresses().into();
        self.inner
            .tell(|_, _| true, || Command::NetworkChanged(own.clone()));
    }

    /// Ends all connections of an account, that was banned for example.
    pub fn close_account(&self, account: &AccountId) {
        self.inner
            .tell(|_, entry| entry.account == *account, || Command::Close);
    }

    /// Ends all connections of a device.
    pub fn close_device(&self, device: &DeviceId) {
        self.inner.tell(|d, _| d == device, || Command::Close);
    }

    /// Ends everything.
    pub fn shutdown(&self) {
        self.inner.ended.cancel();
        self.inner.tell(|_, _| true, || Command::Close);
    }

    /// Waits until the peers were told of the end, for a second at most.
    pub async fn closed(&self) {
        let mut changed = self.inner.changed.subscribe();
        // Each link needs no more than a turn; one that hangs must not hold up the program.
        let _ = tokio::time::timeout(SHUTDOWN_WAIT, async {
            while !self.inner.table().links.is_empty() && changed.changed().await.is_ok() {}
        })
        .await;
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Each change of the table is whole before anything else is called.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, which: impl Fn(&DeviceId, &Entry) -> bool, command: impl Fn() -> Command) {
        for (device, entries) in &self.table().links {
            for entry in entries.iter().filter(|e| which(device, e)) {
                let _ = entry.link.commands.send(command());
            }
        }
    }

    fn emit(&self, device: DeviceId, account: Option<AccountId>, state: LinkState) {
        // Nobody has to listen.
        let _ = self.events.send(LinkEvent {
            device,
            account,
            state,
        });
    }

    /// The chain of a device that was met before, if it is valid still.
    fn known(
        &self,
        device: &DeviceId,
        expected: Option<AccountId>,
    ) -> Result<Option<CertificateChain>, ChainError> {
        let of_expected = |c: &CertificateChain| expected.is_none_or(|e| e == c.account_id());
        let Some(chain) = self.store.get(device).filter(of_expected) else {
            return Ok(None);
        };
        self.revocations.check(&chain)?;
        Ok(chain.check_structure(unix_now()).is_ok().then_some(chain))
    }

    /// The chain of a device, verified. `expected`: whose it is to be, before anything else counts that
    /// its chain's account says.
    async fn certificate(
        self: &Arc<Self>,
        device: DeviceId,
        short_id: Option<DeviceShortId>,
        expected: Option<AccountId>,
    ) -> Result<CertificateChain, OpenError> {
        let known = self.known(&device, expected);
        if let Ok(Some(chain)) = known {
            // Its owner may have said something since.
            self.look_up_lists(&chain);
            return Ok(chain);
        }
        // Beside the search for the certificate.
        let early = expected.and_then(|account| self.find_lists(account));
        let found = self
            .signalling
            .find_certificate(device, short_id, self.wanted(device, expected))
            .await
            .filter(|chain| chain.device_id() == device);
        let chain = match (found, known) {
            (Some(chain), _) => chain,
            // It has no other certificate than the one that was taken back.
            (None, Err(revoked)) => return Err(revoked.into()),
            (None, Ok(_)) => return Err(OpenError::NoCertificate),
        };
        if expected.is_some_and(|e| e != chain.account_id()) {
            return Err(OpenError::WrongAccount);
        }
        let chain = self.verified(chain).await?;
        if let Some(found) = early.or_else(|| self.find_lists(chain.account_id())) {
            let lists = self.take_found(&chain, found);
            // No longer: the connection that is made meanwhile is closed if there was something.
            let _ = tokio::time::timeout(LISTS_WAIT, lists).await;
        }
        self.revocations.check(&chain)?;
        Ok(chain)
    }

    /// A chain that holds. Signatures are checked where that keeps nobody waiting.
    async fn verified(&self, chain: CertificateChain) -> Result<CertificateChain, OpenError> {
        let crypto = self.config.crypto.clone();
        let verify = move || {
            chain
                .verify(crypto.as_ref(), unix_now(), &[])
                .map(|()| chain)
        };
        let verified = tokio::task::spawn_blocking(verify).await;
        Ok(verified.map_err(|_| OpenError::Closed)??)
    }

    /// Whose a device may be. Where nobody is expected, those come first who may connect with it.
    fn wanted(&self, device: DeviceId, expected: Option<AccountId>) -> Wanted {
        let policy = self.config.policy.clone();
        Box::new(move |account| match expected {
            Some(expected) => *account == expected,
            None => policy(account, &device),
        })
    }

    fn pin(&self, chain: &CertificateChain) {
        if let Err(error) = self.store.pin(chain) {
            tracing::warn!(%error, "a certificate is not written");
        }
    }

    fn prepare(
        &self,
        peer: &CertificateChain,
        role: Role,
        remote: Option<IceText>,
    ) -> Result<(Setup, String), OpenError> {
        let public = self.signalling.public_addresses();
        let listeners = Listeners::open(self.config.loopback, &public)
            .map_err(|e| OpenError::Io(format!("no address to listen on: {e}")))?;
        let (mut random, mut entropy) = ([0; 16], [0; 32]);
        self.config.crypto.random(&mut random);
        self.config.crypto.random(&mut entropy);
        let credentials = Credentials::from_random(random);
        let text = IceText {
            credentials: credentials.clone(),
            candidates: listeners.candidates.clone(),
        };
        let agent = Agent::new(ice::Config {
            role,
            credentials,
            entropy,
            ipv4: listeners.v4.is_some(),
            ipv6: listeners.v6.is_some(),
            loopback: self.config.loopback,
            nomination_delay: NOMINATION_DELAY,
            limits: ice::Limits::default(),
        });
        let setup = Setup {
            peer: peer.clone(),
            agent,
            listeners,
            remote,
            identity: self.identity.clone(),
            incoming: self.incoming.clone(),
            max_channels: self.config.limits.channels,
        };
        Ok((setup, text.to_string()))
    }

    /// Starts a link, unless there are too many to this device, and watches it.
    fn add(
        self: &Arc<Self>,
        id: u64,
        outgoing: bool,
        chain: &CertificateChain,
        setup: Setup,
    ) -> Result<LinkHandle, OpenError> {
        let (device, account) = (chain.device_id(), chain.account_id());
        let link = {
            let mut table = self.table();
            let all = table.links.values().flatten();
            let theirs = all.filter(|e| e.account == account).count();
            let entries = table.links.entry(device).or_default();
            let limits = &self.config.limits;
            if entries.len() >= limits.per_device
                || theirs >= limits.per_account
                || self.ended.is_cancelled()
            {
                return Err(OpenError::TooMany);
            }
            let link = link::start(setup);
            entries.push(Entry {
                id,
                outgoing,
                account,
                started: Instant::now(),
                link: link.clone(),
            });
            link
        };
        self.emit(device, Some(account), LinkState::Negotiating);
        self.note_change();
        let (inner, mut progress) = (self.clone(), link.progress.clone());
        tokio::spawn(async move {
            while progress.changed().await.is_ok() {
                let now = progress.borrow_and_update().clone();
                let over = matches!(now, Progress::Ended(_) | Progress::Closed(_));
                if over {
                    inner.remove(&device, id, outgoing);
                }
                let state = match now {
                    Progress::Negotiating => continue,
                    Progress::Connected { remote, tls } => {
                        inner.test_older(&device, id, outgoing);
                        LinkState::Connected { over: remote, tls }
                    }
                    Progress::Ended(why) => LinkState::Failed { why },
                    Progress::Closed(why) => LinkState::Closed { why },
                };
                inner.emit(device, Some(account), state);
                inner.note_change();
                if over {
                    return;
                }
            }
        });
        Ok(link)
    }

    /// A device that comes anew may have lost its older connections without a word.
    fn test_older(&self, device: &DeviceId, id: u64, outgoing: bool) {
        let is_new = |e: &Entry| e.id == id && e.outgoing == outgoing;
        self.tell(
            |d, entry| d == device && !is_new(entry) && entry.connected(),
            || Command::Beacon,
        );
    }

    fn remove(&self, device: &DeviceId, id: u64, outgoing: bool) {
        let mut table = self.table();
        if let Some(entries) = table.links.get_mut(device) {
            entries.retain(|e| e.id != id || e.outgoing != outgoing);
            if entries.is_empty() {
                table.links.remove(device);
            }
        }
    }

    fn note_change(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn random_id(&self) -> u64 {
        let mut bytes = [0; 8];
        self.config.crypto.random(&mut bytes);
        u64::from_be_bytes(bytes) % MAX_ID + 1
    }
}

pub(super) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}
