//! The DHT node at work: sockets, the clock, bootstrap names, the LAN, the state on disk.
//!
//! One task owns the engine of `starling_core::dht::node`; everyone else holds a [`Dht`].

mod bootstrap;
mod driver;
mod lan;
mod run;
mod secure;
mod sockets;

pub use bootstrap::{BadBootstrap, BootstrapAddr, DEFAULT_BOOTSTRAP, DEFAULT_PORT};
pub use run::{DhtNodeOptions, run_dhtnode};
pub use secure::{SecureDht, SecureListen, SendError, Unopened};
pub use starling_core::dht::node::{Connectivity, FamilyStatus, NodeStatus};

use starling_core::crypto::Crypto;
use starling_core::dht::node::{NodeUsage, REANNOUNCE};
use starling_core::dht::{NodeInfo, Query, Value, ValueId};
use starling_core::id::InfoHash;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Events of one listen that may wait for their reader. A reader that is slower loses the newest:
/// a bound is needed, and the network repeats what matters.
const LISTEN_QUEUE: usize = 4096;

/// Batches of values of one get that may wait for their reader.
const GET_QUEUE: usize = 4096;

/// Where and how a node runs.
#[derive(Debug, Clone)]
pub struct DhtConfig {
    /// Local IPv4 address; `None`: no IPv4.
    pub bind_v4: Option<Ipv4Addr>,
    /// Local IPv6 address; `None`: no IPv6.
    pub bind_v6: Option<Ipv6Addr>,
    /// UDP port of both families; 0: any.
    pub port: u16,
    /// Nodes to ask first.
    pub bootstrap: Vec<BootstrapAddr>,
    /// The network; 0 is the public one, which Jami uses.
    pub network_id: u32,
    /// Where the node's id, its acquaintances and what it stores for others outlast a restart.
    pub state_path: Option<PathBuf>,
    /// The node's id; `None`: that of the state file, else a random one.
    pub node_id: Option<InfoHash>,
    /// Only ask, never be asked.
    pub client: bool,
    /// Find nodes of the local network, and be found by them.
    pub lan_discovery: bool,
    /// What is put to stay is put again at least this often ([`NodeConfig::reannounce`]).
    ///
    /// [`NodeConfig::reannounce`]: starling_core::dht::node::NodeConfig::reannounce
    pub reannounce: Duration,
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self {
            bind_v4: Some(Ipv4Addr::UNSPECIFIED),
            bind_v6: Some(Ipv6Addr::UNSPECIFIED),
            port: 0,
            bootstrap: Vec::new(),
            network_id: 0,
            state_path: None,
            node_id: None,
            client: false,
            lan_discovery: false,
            reannounce: REANNOUNCE,
        }
    }
}

/// How a value is put.
#[derive(Debug, Clone, Copy, Default)]
pub struct PutOptions {
    /// Renewed for as long as the [`PutHandle`] lives.
    pub permanent: bool,
    /// When it was created, Unix seconds, if before now; not for permanent values.
    pub created: Option<i64>,
}

impl PutOptions {
    /// Renewed for as long as the handle lives.
    pub fn permanent() -> Self {
        Self {
            permanent: true,
            created: None,
        }
    }
}

/// Why a put failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// No node took the value. A permanent one is not given up because of this: it has no error.
    #[error("no node of the DHT took the value")]
    Nobody,
    /// The node has been shut down.
    #[error("the DHT node is not running")]
    Stopped,
}

/// What a listen has to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenEvent {
    /// The values. Signatures of clear ones have been checked; encrypted ones are still closed.
    pub values: Vec<Value>,
    /// They are gone: nobody holds them any more.
    pub expired: bool,
}

/// A node of the DHT. Clones are handles of the same node; it stops when the last is dropped.
#[derive(Clone)]
pub struct Dht {
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<NodeStatus>,
    changes: watch::Receiver<u64>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Dht {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dht({})", self.shared.id)
    }
}

struct Shared {
    id: InfoHash,
    ports: (u16, u16),
    crypto: Arc<dyn Crypto>,
}

/// What handles ask of the task.
enum Command {
    Get {
        key: InfoHash,
        query: Query,
        values: mpsc::Sender<Arc<Value>>,
    },
    Put {
        ticket: Ticket,
        key: InfoHash,
        value: Value,
        options: PutOptions,
        done: oneshot::Sender<Result<(), PutError>>,
    },
    Listen {
        ticket: Ticket,
        key: InfoHash,
        query: Query,
        events: mpsc::Sender<ListenEvent>,
    },
    Cancel(Ticket),
    Insert(Vec<NodeInfo>),
    Bootstrap(Vec<BootstrapAddr>),
    NetworkChanged,
    Usage(oneshot::Sender<NodeUsage>),
    Nodes(oneshot::Sender<Vec<NodeInfo>>),
    Shutdown(oneshot::Sender<()>),
}

/// Names an operation between a handle and the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Ticket(u64);

impl Ticket {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Cancels an operation when dropped.
#[derive(Debug)]
struct CancelOnDrop {
    ticket: Ticket,
    commands: mpsc::UnboundedSender<Command>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Cancel(self.ticket));
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

/// A value that was put. Dropping the handle of a permanent one ends its renewal.
#[derive(Debug)]
pub struct PutHandle {
    id: ValueId,
    waiting: Option<oneshot::Receiver<Result<(), PutError>>>,
    result: Result<(), PutError>,
    _cancel: Option<CancelOnDrop>,
}

impl PutHandle {
    /// The value's id.
    pub fn id(&self) -> ValueId {
        self.id
    }

    /// Waits until the nodes closest to the key hold a permanent value for the first time, however
    /// long it takes. Others do so when they are put.
    pub async fn stored(&mut self) -> Result<(), PutError> {
        let Some(wait) = self.waiting.as_mut() else {
            return self.result;
        };
        self.result = wait.await.unwrap_or(Err(PutError::Stopped));
        self.waiting = None;
        self.result
    }
}

/// A listen. Dropping it ends it.
#[derive(Debug)]
pub struct Listen {
    events: mpsc::Receiver<ListenEvent>,
    _cancel: CancelOnDrop,
}

impl Listen {
    /// The next event; `None` once the node has stopped.
    pub async fn next(&mut self) -> Option<ListenEvent> {
        self.events.recv().await
    }
}

impl Dht {
    /// Opens the sockets and starts the node's task. To be called inside a tokio runtime.
    pub fn start(config: DhtConfig, crypto: Arc<dyn Crypto>) -> io::Result<Self> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let driver = driver::Driver::new(config, crypto.clone(), inbox)?;
        let dht = Self {
            commands,
            status: driver.status(),
            changes: driver.changes(),
            shared: Arc::new(Shared {
                id: driver.id(),
                ports: driver.ports(),
                crypto,
            }),
        };
        tokio::spawn(driver.run());
        Ok(dht)
    }

    /// The node's id.
    pub fn id(&self) -> InfoHash {
        self.shared.id
    }

    /// The local UDP ports (IPv4, IPv6), 0 where a family is missing.
    pub fn ports(&self) -> (u16, u16) {
        self.shared.ports
    }

    /// The values at a key. Ends when the nodes closest to it have answered. Values with a wrong
    /// signature are left out; encrypted ones are still closed.
    pub async fn get(&self, key: InfoHash) -> Vec<Value> {
        self.get_query(key, Query::all()).await
    }

    /// The values at a key that meet a query.
    pub async fn get_query(&self, key: InfoHash, query: Query) -> Vec<Value> {
        let mut stream = self.get_stream(key, query);
        let mut out = Vec::new();
        while let Some(value) = stream.recv().await {
            out.push(Arc::unwrap_or_clone(value));
        }
        out
    }

    /// The values at a key as they are found. The channel closes when the search ends; dropping
    /// the receiver ends the search.
    pub fn get_stream(&self, key: InfoHash, query: Query) -> mpsc::Receiver<Arc<Value>> {
        let (values, receiver) = mpsc::channel(GET_QUEUE);
        let _ = self.commands.send(Command::Get { key, query, values });
        receiver
    }

    /// Puts a value at a key; an id of 0 is replaced by a random one. Returns once the nodes closest
    /// to the key hold it, or nobody could be reached. A permanent put succeeds at once, and goes on
    /// until its handle is dropped ([`PutHandle::stored`] waits for the nodes).
    pub async fn put(
        &self,
        key: InfoHash,
        mut value: Value,
        options: PutOptions,
    ) -> Result<PutHandle, PutError> {
        while value.id == 0 {
            let mut id = [0; 8];
            self.shared.crypto.random(&mut id);
            value.id = u64::from_be_bytes(id);
        }
        let id = value.id;
        let ticket = Ticket::new();
        let (done, answer) = oneshot::channel();
        self.commands
            .send(Command::Put {
                ticket,
                key,
                value,
                options,
                done,
            })
            .map_err(|_| PutError::Stopped)?;
        let cancel = CancelOnDrop {
            ticket,
            commands: self.commands.clone(),
        };
        if options.permanent {
            return Ok(PutHandle {
                id,
                waiting: Some(answer),
                result: Ok(()),
                _cancel: Some(cancel),
            });
        }
        answer.await.map_err(|_| PutError::Stopped)??;
        Ok(PutHandle {
            id,
            waiting: None,
            result: Ok(()),
            _cancel: None,
        })
    }

    /// Listens at a key: what is there, what comes, what goes.
    pub fn listen(&self, key: InfoHash) -> Listen {
        self.listen_query(key, Query::all())
    }

    /// Listens at a key for values that meet a query.
    pub fn listen_query(&self, key: InfoHash, query: Query) -> Listen {
        let ticket = Ticket::new();
        let (sender, events) = mpsc::channel(LISTEN_QUEUE);
        let _ = self.commands.send(Command::Listen {
            ticket,
            key,
            query,
            events: sender,
        });
        Listen {
            events,
            _cancel: CancelOnDrop {
                ticket,
                commands: self.commands.clone(),
            },
        }
    }

    /// The state of the connection, whenever it changes.
    pub fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// How often this machine's network changed: other addresses, a cable pulled or put back, a machine that slept.
    pub fn network_changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Waits until some node answers. False if the node stops before.
    pub async fn connected(&self) -> bool {
        let mut status = self.status.clone();
        status
            .wait_for(|s| s.connectivity() == Connectivity::Connected)
            .await
            .is_ok()
    }

    /// The machine's addresses or routes changed. The driver looks itself every few seconds; whoever
    /// knows earlier says so.
    pub fn network_changed(&self) {
        let _ = self.commands.send(Command::NetworkChanged);
    }

    /// Further nodes to ask when nobody is known.
    pub fn bootstrap(&self, addrs: Vec<BootstrapAddr>) {
        let _ = self.commands.send(Command::Bootstrap(addrs));
    }

    /// Nodes known from elsewhere.
    pub fn insert(&self, nodes: Vec<NodeInfo>) {
        let _ = self.commands.send(Command::Insert(nodes));
    }

    /// The good nodes.
    pub async fn nodes(&self) -> Vec<NodeInfo> {
        let (answer, nodes) = oneshot::channel();
        let _ = self.commands.send(Command::Nodes(answer));
        nodes.await.unwrap_or_default()
    }

    /// How busy the node is.
    pub async fn usage(&self) -> NodeUsage {
        let (answer, usage) = oneshot::channel();
        let _ = self.commands.send(Command::Usage(answer));
        usage.await.unwrap_or_default()
    }

    /// Stops the node after saving its state.
    pub async fn shutdown(&self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Shutdown(done)).is_ok() {
            let _ = wait.await;
        }
    }
}
