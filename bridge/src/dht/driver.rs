//! The task that owns the engine: datagrams, time and wishes in; datagrams, news and files out.

use super::bootstrap::{BootstrapAddr, resolve};
use super::lan::{self, Announced};
use super::sockets::{Sockets, receive};
use super::{Command, DhtConfig, ListenEvent, PutError, Ticket};
use crate::addresses::own_addresses;
use starling_core::crypto::Crypto;
use starling_core::dht::node::{Connectivity, Node, NodeConfig, NodeEvent, NodeStatus, OpId};
use starling_core::dht::packet::MAX_DATAGRAM;
use starling_core::dht::state::NodeState;
use starling_core::dht::{NodeInfo, Value, nodes, types};
use starling_core::id::InfoHash;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// The state that is written, when it is.
type Saving = JoinHandle<io::Result<Vec<u8>>>;

/// First wait between two rounds of bootstrap (OpenDHT: 10 s).
const BOOTSTRAP_FIRST: Duration = Duration::from_secs(10);
/// Longest wait between two rounds. The reference goes up to 24 h; a person who waits for the
/// network to come back should not have to restart the program.
const BOOTSTRAP_MOST: Duration = Duration::from_secs(300);
/// When acquaintances are saved for the first time: a short run shall leave some too. Ours.
const SAVE_FIRST: Duration = Duration::from_secs(30);
/// How often acquaintances are saved. Ours.
const SAVE_EVERY: Duration = Duration::from_secs(300);
/// Most bytes of others' values that are saved, an allowance for each included: some thousand values, which are read
/// back and checked in less than a second. Those that live longest go before. Ours.
const SAVE_VALUES: usize = 4 << 20;
/// How often the machine's addresses and clocks are looked at. Ours.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A wall clock that runs away from the monotonic one by more than this has been set, or the
/// machine has slept. Ours.
const CLOCK_JUMP: Duration = Duration::from_secs(20);
/// How long operations wait at the start for nodes of the local network to answer discovery.
const LAN_ANSWERS: Duration = Duration::from_secs(2);

pub(super) struct Driver {
    node: Node,
    crypto: Arc<dyn Crypto>,
    sockets: Sockets,
    inbox: mpsc::UnboundedReceiver<Command>,
    status: watch::Sender<NodeStatus>,
    /// How often the network changed.
    changes: watch::Sender<u64>,
    /// Nobody is known: discovery goes on asking.
    alone: watch::Sender<bool>,
    found: mpsc::Receiver<NodeInfo>,
    network_id: u32,
    lan: Option<mpsc::Sender<NodeInfo>>,
    names: Vec<BootstrapAddr>,
    resolved: (
        mpsc::Sender<Vec<SocketAddr>>,
        mpsc::Receiver<Vec<SocketAddr>>,
    ),
    resolving: bool,
    next_bootstrap: Duration,
    bootstrap_wait: Duration,
    state_path: Option<PathBuf>,
    saved: Option<Vec<u8>>,
    saving: Option<Saving>,
    /// The good nodes when there were some: whoever is alone just now shall not forget whom it knew.
    acquaintances: Vec<NodeInfo>,
    start: Instant,
    /// Wall clock at `start`, to notice when it jumps.
    wall: SystemTime,
    addresses: Vec<IpAddr>,
    gets: HashMap<OpId, mpsc::Sender<Arc<Value>>>,
    puts: HashMap<OpId, Put>,
    listens: HashMap<OpId, mpsc::Sender<ListenEvent>>,
    tickets: HashMap<Ticket, OpId>,
    /// Operations wait for nodes until this time, even if none is in sight.
    joining_until: Option<Duration>,
}

struct Put {
    ticket: Ticket,
    done: Option<oneshot::Sender<Result<(), PutError>>>,
}

impl Driver {
    pub(super) fn new(
        config: DhtConfig,
        crypto: Arc<dyn Crypto>,
        inbox: mpsc::UnboundedReceiver<Command>,
    ) -> io::Result<Self> {
        let sockets = Sockets::open(config.bind_v4, config.bind_v6, config.port)?;
        let (old, saved) = match &config.state_path {
            Some(path) => read_state(path),
            None => (NodeState::default(), None),
        };
        let mut seed = [0; 32];
        crypto.random(&mut seed);
        let id = config.node_id.or(old.id).unwrap_or_else(|| {
            let mut id = [0; 20];
            crypto.random(&mut id);
            InfoHash(id)
        });
        let mut engine = NodeConfig::new(id);
        engine.network_id = config.network_id;
        engine.is_client = config.client;
        engine.reannounce = config.reannounce;
        engine.ipv4 = sockets.v4.is_some();
        engine.ipv6 = sockets.v6.is_some();
        let mut node = Node::new(Duration::ZERO, engine, seed, crypto.clone());
        let wall = SystemTime::now();
        node.set_unix_time(Duration::ZERO, unix_seconds(wall));
        for known in &old.nodes {
            node.insert_node(Duration::ZERO, known.id, known.addr);
        }
        let kept = node.import_values(Duration::ZERO, old.values);
        if kept > 0 {
            tracing::debug!("the DHT node goes on storing {kept} values for others");
        }
        let joining_until = config.lan_discovery.then_some(LAN_ANSWERS);
        if joining_until.is_some() || !config.bootstrap.is_empty() {
            node.set_joining(Duration::ZERO, true);
        }
        let (found_by_lan, found) = mpsc::channel(64);
        Ok(Self {
            status: watch::channel(*node.status()).0,
            changes: watch::channel(0).0,
            alone: watch::channel(true).0,
            node,
            crypto,
            sockets,
            inbox,
            found,
            network_id: config.network_id,
            lan: config.lan_discovery.then_some(found_by_lan),
            names: config.bootstrap,
            resolved: mpsc::channel(4),
            resolving: false,
            next_bootstrap: Duration::ZERO,
            bootstrap_wait: BOOTSTRAP_FIRST,
            state_path: config.state_path,
            saved,
            saving: None,
            acquaintances: old.nodes,
            start: Instant::now(),
            wall,
            addresses: own_addresses(),
            gets: HashMap::new(),
            puts: HashMap::new(),
            listens: HashMap::new(),
            tickets: HashMap::new(),
            joining_until,
        })
    }

    pub(super) fn id(&self) -> InfoHash {
        self.node.id()
    }

    pub(super) fn ports(&self) -> (u16, u16) {
        self.sockets.ports()
    }

    pub(super) fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.subscribe()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) async fn run(mut self) {
        let mut buffer4 = vec![0; MAX_DATAGRAM + 1];
        let mut buffer6 = vec![0; MAX_DATAGRAM + 1];
        if let Some(found) = self.lan.take() {
            let announced = Announced {
                id: self.node.id(),
                network: self.network_id,
                ports: self.sockets.ports(),
            };
            tokio::spawn(lan::run(announced, self.alone.subscribe(), found));
        }
        let mut save = tokio::time::interval_at(self.start + SAVE_FIRST, SAVE_EVERY);
        let mut look = tokio::time::interval_at(self.start + LOOK_EVERY, LOOK_EVERY);
        let mut asked_to_stop = None;
        loop {
            self.drain().await;
            let until = self.start + self.next_timeout();
            tokio::select! {
                command = self.inbox.recv() => match command {
                    Some(Command::Shutdown(done)) => {
                        asked_to_stop = Some(done);
                        break;
                    }
                    Some(command) => self.take(command),
                    None => break,
                },
                (n, from) = receive(self.sockets.v4.as_ref(), &mut buffer4) => {
                    let now = self.now();
                    self.node.handle_datagram(now, from, buffer4.get(..n).unwrap_or_default());
                }
                (n, from) = receive(self.sockets.v6.as_ref(), &mut buffer6) => {
                    let now = self.now();
                    let from = nodes::canonical(from);
                    self.node.handle_datagram(now, from, buffer6.get(..n).unwrap_or_default());
                }
                () = sleep_until(until) => self.on_time(),
                Some(node) = self.found.recv() => {
                    let now = self.now();
                    self.node.insert_node(now, node.id, node.addr);
                }
                Some(addrs) = self.resolved.1.recv() => self.on_resolved(addrs),
                _ = save.tick() => self.save(),
                saved = ended(&mut self.saving) => self.on_saved(saved),
                _ = look.tick() => self.look(),
            }
        }
        // What is being written may be older.
        self.finish_saving().await;
        self.save();
        self.finish_saving().await;
        if let Some(done) = asked_to_stop {
            let _ = done.send(());
        }
    }

    /// When the engine or the bootstrap wants attention.
    fn next_timeout(&self) -> Duration {
        let bootstrap = self.wants_bootstrap().then_some(self.next_bootstrap);
        [self.node.poll_timeout(), bootstrap, self.joining_until]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(LOOK_EVERY)
    }

    fn on_time(&mut self) {
        let now = self.now();
        self.node.handle_timeout(now);
        if self.joining_until.is_some_and(|at| now >= at) {
            self.joining_until = None;
            if self.names.is_empty() {
                self.node.set_joining(now, false);
            }
        }
        if self.wants_bootstrap() && now >= self.next_bootstrap {
            self.resolving = true;
            self.next_bootstrap = now + self.bootstrap_wait;
            self.bootstrap_wait = (self.bootstrap_wait * 2).min(BOOTSTRAP_MOST);
            // Anew each time: names may have moved, and another network has other name servers.
            let (names, answer) = (self.names.clone(), self.resolved.0.clone());
            tokio::spawn(async move {
                let _ = answer.send(resolve(names).await).await;
            });
        }
    }

    fn wants_bootstrap(&self) -> bool {
        !self.names.is_empty()
            && !self.resolving
            && self.node.status().connectivity() != Connectivity::Connected
    }

    fn on_resolved(&mut self, addrs: Vec<SocketAddr>) {
        self.resolving = false;
        let now = self.now();
        for addr in addrs {
            self.node.bootstrap(now, addr);
        }
        if self.joining_until.is_none() {
            self.node.set_joining(now, false);
        }
    }

    fn take(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Get { key, query, values } => {
                if !values.is_closed() {
                    let op = self.node.get(now, key, query);
                    self.gets.insert(op, values);
                }
            }
            Command::Put {
                ticket,
                key,
                value,
                options,
                done,
            } => {
                let op = self
                    .node
                    .put(now, key, value, options.permanent, options.created);
                self.tickets.insert(ticket, op);
                let done = Some(done);
                self.puts.insert(op, Put { ticket, done });
            }
            Command::Listen {
                ticket,
                key,
                query,
                events,
            } => {
                let op = self.node.listen(now, key, query);
                self.tickets.insert(ticket, op);
                self.listens.insert(op, events);
            }
            Command::Cancel(ticket) => {
                if let Some(op) = self.tickets.remove(&ticket) {
                    self.node.cancel(now, op);
                    self.listens.remove(&op);
                    self.puts.remove(&op);
                }
            }
            Command::Insert(nodes) => {
                for node in nodes {
                    self.node.insert_node(now, node.id, node.addr);
                }
            }
            Command::Bootstrap(names) => {
                for name in names {
                    if !self.names.contains(&name) {
                        self.names.push(name);
                    }
                }
                self.bootstrap_now(now);
            }
            Command::NetworkChanged => self.network_changed(),
            Command::Usage(answer) => {
                let _ = answer.send(self.node.usage());
            }
            Command::Nodes(answer) => {
                let _ = answer.send(self.node.export_nodes(now));
            }
            Command::Shutdown(_) => {}
        }
    }

    /// Sends and tells whatever the engine has.
    async fn drain(&mut self) {
        loop {
            while let Some(event) = self.node.poll_event() {
                self.tell(event);
            }
            let mut sent = false;
            while let Some(transmit) = self.node.poll_transmit() {
                sent = true;
                let Some(socket) = self.sockets.of(&transmit.to) else {
                    continue;
                };
                if let Err(e) = socket.send_to(&transmit.payload, transmit.to).await {
                    tracing::debug!("sending to {}: {e}", transmit.to);
                    if is_unreachable(&e) {
                        let now = self.now();
                        self.node.handle_unreachable(now, transmit.to);
                    }
                }
            }
            if !sent {
                return;
            }
        }
    }

    fn tell(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Values { op, values } => {
                let Some(get) = self.gets.get(&op) else {
                    return;
                };
                for value in values {
                    if types::verify(&*self.crypto, &value).is_err() {
                        continue;
                    }
                    match get.try_send(value) {
                        Ok(()) => {}
                        Err(mpsc::error::TrySendError::Full(_)) => {
                            tracing::warn!("a get found more values than its reader takes");
                        }
                        Err(mpsc::error::TrySendError::Closed(_)) => {
                            self.gets.remove(&op);
                            let now = self.now();
                            self.node.cancel(now, op);
                            return;
                        }
                    }
                }
            }
            NodeEvent::Fields { .. } => {}
            NodeEvent::GetDone { op, .. } => {
                self.gets.remove(&op);
            }
            NodeEvent::PutDone { op, ok, last, .. } => {
                // A permanent put that reached nobody goes on: there is nothing to tell yet.
                if (ok || last)
                    && let Some(put) = self.puts.get_mut(&op)
                    && let Some(done) = put.done.take()
                {
                    let _ = done.send(if ok { Ok(()) } else { Err(PutError::Nobody) });
                }
                if last && let Some(put) = self.puts.remove(&op) {
                    self.tickets.remove(&put.ticket);
                }
            }
            NodeEvent::Listen {
                op,
                values,
                expired,
            } => {
                if let Some(listen) = self.listens.get(&op) {
                    let values = values.iter().map(|v| (**v).clone()).collect();
                    if let Err(mpsc::error::TrySendError::Full(_)) =
                        listen.try_send(ListenEvent { values, expired })
                    {
                        tracing::warn!("a listen has more news than its reader takes");
                    }
                }
            }
            NodeEvent::Status(status) => {
                let connectivity = status.connectivity();
                self.status.send_replace(status);
                let alone = connectivity == Connectivity::Disconnected;
                self.alone
                    .send_if_modified(|a| std::mem::replace(a, alone) != alone);
                if connectivity == Connectivity::Connected {
                    self.bootstrap_wait = BOOTSTRAP_FIRST;
                    self.next_bootstrap = self.now() + BOOTSTRAP_FIRST;
                }
            }
        }
    }

    fn bootstrap_now(&mut self, now: Duration) {
        self.bootstrap_wait = BOOTSTRAP_FIRST;
        self.next_bootstrap = now;
        if self.wants_bootstrap() {
            self.node.set_joining(now, true);
        }
    }

    fn network_changed(&mut self) {
        let now = self.now();
        tracing::info!("the network changed: the DHT node looks around anew");
        self.node.network_changed(now);
        self.bootstrap_now(now);
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Looks for changes of the machine's addresses, and for clocks that jumped.
    fn look(&mut self) {
        let now = self.now();
        let wall = SystemTime::now();
        let expected = self.wall + now;
        let jump = wall
            .duration_since(expected)
            .or_else(|_| expected.duration_since(wall))
            .unwrap_or_default();
        let addresses = own_addresses();
        let moved = addresses != self.addresses;
        if jump > CLOCK_JUMP {
            self.wall = wall.checked_sub(now).unwrap_or(wall);
            self.node.set_unix_time(now, unix_seconds(wall));
        }
        self.addresses = addresses;
        if moved || jump > CLOCK_JUMP {
            self.network_changed();
        }
        // The counts of the status change without an event.
        let status = *self.node.status();
        self.status.send_if_modified(|s| {
            let changed = *s != status;
            *s = status;
            changed
        });
    }

    /// Begins to write what has changed, beside everything else; [`Self::on_saved`] hears of the end.
    fn save(&mut self) {
        let Some(path) = self.state_path.clone() else {
            return;
        };
        if self.saving.is_some() {
            return;
        }
        let now = self.now();
        let nodes = self.node.export_nodes(now);
        if !nodes.is_empty() {
            self.acquaintances = nodes;
        }
        let state = NodeState {
            id: Some(self.node.id()),
            nodes: self.acquaintances.clone(),
            values: self.node.export_values(now, SAVE_VALUES),
        };
        let bytes = state.encode();
        if self.saved.as_ref() == Some(&bytes) {
            return;
        }
        self.saving = Some(tokio::task::spawn_blocking(move || {
            write_state(&path, &bytes).map(|()| bytes)
        }));
    }

    async fn finish_saving(&mut self) {
        if self.saving.is_some() {
            let saved = ended(&mut self.saving).await;
            self.on_saved(saved);
        }
    }

    fn on_saved(&mut self, saved: io::Result<Vec<u8>>) {
        self.saving = None;
        match saved {
            Ok(bytes) => self.saved = Some(bytes),
            Err(e) => tracing::warn!("the DHT node's state cannot be saved: {e}"),
        }
    }
}

/// What a task that writes the state came to; never, if there is none.
async fn ended(saving: &mut Option<Saving>) -> io::Result<Vec<u8>> {
    match saving {
        Some(saving) => saving.await.map_err(io::Error::other)?,
        None => std::future::pending().await,
    }
}

/// Errors after which waiting for an answer is in vain (OpenDHT's list).
fn is_unreachable(e: &io::Error) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, BrokenPipe, HostUnreachable, NetworkDown, NetworkUnreachable,
        PermissionDenied, Unsupported,
    };
    matches!(
        e.kind(),
        AddrNotAvailable
            | BrokenPipe
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | Unsupported
    )
}

fn unix_seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_secs()).ok())
        .unwrap_or(0)
}

/// The state of an earlier run. One that cannot be read is told of and starts anew: all in it can
/// be had again.
fn read_state(path: &Path) -> (NodeState, Option<Vec<u8>>) {
    let bytes = match std::fs::read(path) {
        Ok(b) => b,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Default::default(),
        Err(e) => {
            tracing::warn!("{}: {e}", path.display());
            return Default::default();
        }
    };
    match NodeState::decode(&bytes) {
        Ok(state) => (state, Some(bytes)),
        Err(e) => {
            tracing::warn!("{}: {e}", path.display());
            Default::default()
        }
    }
}

/// Written beside and moved over: a crash leaves the old state or the new one.
fn write_state(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
