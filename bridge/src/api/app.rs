//! Everything the bridge is made of.

use super::EventLog;
use crate::account::registry::Accounts;
use crate::account::{Bounds, Context};
use crate::crypto::AwsLc;
use crate::dht::{BootstrapAddr, DEFAULT_BOOTSTRAP, Dht, DhtConfig};
use crate::serve::pairing::Pairing;
use crate::serve::private::FileError;
use starling_core::api::{ApiError, ErrorCode, Event, NoticeLevel};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// WebSockets at the same time, of all browsers together.
pub const MAX_SOCKETS: usize = 256;

/// Where a DHT node finds its first neighbours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Bootstrap {
    /// Jami's own.
    #[default]
    Default,
    /// Nowhere: the local network only.
    None,
    /// These `host:port`.
    Nodes(Vec<String>),
}

/// What the command line decided.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything that lasts lies here. Locked by this process.
    pub data_dir: PathBuf,
    /// For accounts that do not say otherwise.
    pub bootstrap: Bootstrap,
    /// Look for nodes in the local network, and be found there.
    pub lan_discovery: bool,
}

/// The bridge.
pub struct App {
    /// What the command line decided.
    pub config: Config,
    /// What happened.
    pub events: EventLog,
    /// Who may call.
    pub pairing: Pairing,
    /// Cancelled once, when the bridge shall stop. Whoever runs for long watches it.
    pub stop: CancellationToken,
    /// When this process began.
    pub started: Instant,
    /// The same on the wall.
    pub started_millis: i64,
    /// A permit for each open WebSocket.
    pub sockets: Arc<Semaphore>,
    /// What runs on the network, once it runs.
    network: OnceLock<Network>,
}

/// How often it is tried to open accounts for which there was no room on the disk.
const ROOM_AGAIN: Duration = Duration::from_secs(5);

/// What runs on the network.
struct Network {
    dht: Dht,
    accounts: Accounts,
}

impl App {
    /// Reads what is kept in the data directory.
    pub fn open(config: Config) -> Result<Arc<Self>, FileError> {
        let events = EventLog::open(&config.data_dir);
        let pairing = Pairing::open(&config.data_dir)?;
        Ok(Arc::new(Self {
            events,
            pairing,
            stop: CancellationToken::new(),
            started: Instant::now(),
            started_millis: now_millis(),
            sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
            network: OnceLock::new(),
            config,
        }))
    }

    /// Starts the DHT node and the accounts. Called once, before the first caller is answered.
    pub async fn start(self: &Arc<Self>) -> anyhow::Result<()> {
        let bootstrap: Vec<String> = match &self.config.bootstrap {
            Bootstrap::Default => vec![DEFAULT_BOOTSTRAP.to_owned()],
            Bootstrap::None => Vec::new(),
            Bootstrap::Nodes(nodes) => nodes.clone(),
        };
        let bootstrap = bootstrap
            .iter()
            .map(|n| n.parse())
            .collect::<Result<Vec<BootstrapAddr>, _>>()?;
        let config = DhtConfig {
            bootstrap,
            state_path: Some(self.config.data_dir.join("dht.state")),
            lan_discovery: self.config.lan_discovery,
            ..DhtConfig::default()
        };
        let dht = Dht::start(config, Arc::new(AwsLc))?;
        let app = Arc::downgrade(self);
        let emit = Arc::new(move |event| {
            if let Some(app) = app.upgrade() {
                app.emit(event);
            }
        });
        let context = Context {
            emit,
            dht: dht.clone(),
            loopback: false,
            bounds: Bounds::default(),
        };
        let accounts = Accounts::open(&self.config.data_dir, context).await?;
        let _ = self.network.set(Network { dht, accounts });
        let (app, stop) = (Arc::downgrade(self), self.stop.clone());
        tokio::spawn(async move {
            while tokio::time::timeout(ROOM_AGAIN, stop.cancelled())
                .await
                .is_err()
            {
                let Some(app) = app.upgrade() else { return };
                if let Ok(accounts) = app.accounts() {
                    accounts.open_waiting().await;
                }
            }
        });
        Ok(())
    }

    /// Brings everything down in good order. Called once, after the last caller has gone.
    pub async fn shutdown(&self) {
        if let Some(network) = self.network.get() {
            network.accounts.stop().await;
            network.dht.shutdown().await;
        }
        self.events.close();
    }

    /// The accounts.
    pub fn accounts(&self) -> Result<&Accounts, ApiError> {
        let network = self.network.get();
        network.map(|n| &n.accounts).ok_or_else(|| {
            ApiError::new(
                ErrorCode::Offline,
                "The bridge is still starting. Try again in a moment.",
            )
        })
    }

    /// The DHT node, once it runs.
    pub fn dht(&self) -> Option<&Dht> {
        self.network.get().map(|n| &n.dht)
    }

    /// Reports an event to every page that may see it; gives its number.
    pub fn emit(&self, event: Event) -> u64 {
        self.events.emit(event)
    }

    /// Tells the owner something.
    pub fn notice(&self, level: NoticeLevel, code: &str, text: impl Into<String>) {
        self.emit(Event::BridgeNotice {
            level,
            code: code.into(),
            text: text.into(),
            account: None,
        });
    }

    /// How many accounts there are.
    pub fn account_count(&self) -> u32 {
        self.network.get().map_or(0, |n| {
            u32::try_from(n.accounts.all().len()).unwrap_or(u32::MAX)
        })
    }

    /// How many sockets are open.
    pub fn socket_count(&self) -> u32 {
        u32::try_from(MAX_SOCKETS - self.sockets.available_permits()).unwrap_or(u32::MAX)
    }
}

/// The wall clock in milliseconds since 1970; 0 for a clock before that.
pub fn now_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_millis()).ok())
        .unwrap_or(0)
}
