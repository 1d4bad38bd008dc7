//! One connection to one device: its sockets and engines, owned by one task.

use super::channel::{Channel, ChannelSide, Inbound, LINK_BUDGET, Room};
use super::manager::{Incoming, OpenError};
use super::net::Listeners;
use super::session::{Session, SessionError};
use super::signalling::SignallingError;
use super::sockets::{Net, Socket};
use super::tls::{TlsIdentity, WrongPeer};
use starling_core::id::{AccountId, DeviceId};
use starling_core::identity::CertificateChain;
use starling_core::peer::channel_name::ChannelName;
use starling_core::peer::ice::{Agent, ConnId, Output, Role};
use starling_core::peer::ice_text::IceText;
use starling_core::peer::mux::{self, ChannelId, Event};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The answer to a request is waited for so long (dhtnet `DHT_MSG_TIMEOUT`, 30 s).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The TLS handshake has so long (as in dhtnet).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(40);
/// A peer answers a request for a channel at once; daemons give themselves 3 s, and then close all.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(10);
/// We answer before a daemon's 3 s are over, whatever our user does.
const OFFER_TIMEOUT: Duration = Duration::from_millis(2500);
/// A reader that makes no room for so long loses its channel, so that the others can go on.
/// Meanwhile no request of the peer is answered, and daemons wait no longer than 3 s.
const STALL_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer sends a keep-alive after 25 s at the latest. Who is silent for longer is asked for a sign of life.
const SILENCE: Duration = Duration::from_secs(35);
/// Listeners stay open for so long after the selection: pjnath opens one more connection when it
/// nominates, and takes a refusal for a failure.
const LISTEN_AFTER: Duration = Duration::from_secs(15);
/// Received pieces that wait for the task.
const NET_QUEUE: usize = 32;

/// How many links there were.
static LINKS: AtomicU64 = AtomicU64::new(1);

/// What users of a link ask of it.
#[derive(Debug)]
pub(super) enum Command {
    /// Open a channel, as soon as the connection is there.
    Open(ChannelName, oneshot::Sender<Result<Channel, OpenError>>),
    Write(ChannelId, Vec<u8>),
    End(ChannelId),
    Accept(ChannelId, ChannelName, ChannelSide),
    Decline(ChannelId, ChannelName),
    Beacon,
    /// The network changed; these are our addresses now.
    NetworkChanged(Arc<[IpAddr]>),
    /// The peer's answer.
    Answer(IceText),
    /// The request to the peer was not sent.
    Unsent(SignallingError),
    Close,
    /// The same, for a reason that the owner is told.
    Refuse(OpenError),
}

/// How far a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    Negotiating,
    Connected {
        remote: SocketAddr,
        tls: String,
    },
    Ended(OpenError),
    /// Ended after it was connected.
    Closed(OpenError),
}

/// What a link begins with.
pub(super) struct Setup {
    pub(super) peer: CertificateChain,
    pub(super) agent: Agent,
    pub(super) listeners: Listeners,
    /// There at once when we answer.
    pub(super) remote: Option<IceText>,
    pub(super) identity: TlsIdentity,
    pub(super) incoming: mpsc::Sender<Incoming>,
    pub(super) max_channels: usize,
}

/// How others hold a link.
#[derive(Debug, Clone)]
pub(super) struct LinkHandle {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) progress: watch::Receiver<Progress>,
}

/// Starts the task.
pub(super) fn start(setup: Setup) -> LinkHandle {
    let (commands, command_rx) = mpsc::unbounded_channel();
    let (progress_tx, progress) = watch::channel(Progress::Negotiating);
    let handle = LinkHandle {
        commands: commands.clone(),
        progress,
    };
    let number = LINKS.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(async move {
        let (net_tx, net_rx) = mpsc::channel(NET_QUEUE);
        let mut link = Link {
            device: setup.peer.device_id(),
            account: setup.peer.account_id(),
            number,
            heard: Instant::now(),
            peer: setup.peer,
            agent: setup.agent,
            identity: setup.identity,
            incoming: setup.incoming,
            max_channels: setup.max_channels,
            start: Instant::now(),
            connections: BTreeMap::new(),
            listeners: Vec::new(),
            // The weak end of the link's own commands, for channels.
            commands: commands.downgrade(),
            net_tx,
            session: None,
            selected: None,
            deadline: None,
            received: VecDeque::new(),
            waiting: Vec::new(),
            requested: BTreeMap::new(),
            offered: BTreeMap::new(),
            channels: BTreeMap::new(),
            unread: Arc::new(Semaphore::new(LINK_BUDGET)),
            stalled: None,
            progress: progress_tx,
            connected: false,
        };
        drop(commands);
        for listener in [setup.listeners.v4, setup.listeners.v6]
            .into_iter()
            .flatten()
        {
            link.listen(listener);
        }
        match setup.remote {
            Some(text) => link.agent.set_remote(Duration::ZERO, &text),
            None => link.deadline = Some((Instant::now() + ANSWER_TIMEOUT, OpenError::NoAnswer)),
        }
        let why = link.run(command_rx, net_rx).await;
        link.finish(why);
    });
    handle
}

/// Data that its reader has no room for.
struct Stalled {
    channel: ChannelId,
    data: Vec<u8>,
    credit: Arc<Semaphore>,
    until: Instant,
}

type OpenReply = oneshot::Sender<Result<Channel, OpenError>>;

struct Link {
    device: DeviceId,
    account: AccountId,
    /// Newer links have higher ones.
    number: u64,
    peer: CertificateChain,
    agent: Agent,
    identity: TlsIdentity,
    incoming: mpsc::Sender<Incoming>,
    max_channels: usize,
    start: Instant,
    /// When something of the peer's last came, or it was asked for a sign of life.
    heard: Instant,
    connections: BTreeMap<ConnId, Socket>,
    listeners: Vec<AbortHandle>,
    commands: mpsc::WeakUnboundedSender<Command>,
    net_tx: mpsc::Sender<Net>,
    session: Option<Session>,
    selected: Option<(ConnId, SocketAddr)>,
    /// When this stage has to be over, and what it means if it is not.
    deadline: Option<(Instant, OpenError)>,
    received: VecDeque<Vec<u8>>,
    /// Channels to request when the connection is there.
    waiting: Vec<(ChannelName, OpenReply)>,
    requested: BTreeMap<ChannelId, (ChannelName, OpenReply, Instant)>,
    offered: BTreeMap<ChannelId, (ChannelName, Instant)>,
    channels: BTreeMap<ChannelId, ChannelSide>,
    /// Room for what all readers together have not read.
    unread: Arc<Semaphore>,
    stalled: Option<Stalled>,
    progress: watch::Sender<Progress>,
    connected: bool,
}

impl Link {
    async fn run(
        &mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut net: mpsc::Receiver<Net>,
    ) -> OpenError {
        loop {
            if let Err(why) = self.pump() {
                return why;
            }
            let wake = self.wake();
            let socket = self.socket().filter(|_| self.wants_send());
            tokio::select! {
                event = net.recv(), if self.stalled.is_none() => {
                    if let Some(event) = event { self.handle_net(event); }
                }
                command = commands.recv() => match command {
                    None | Some(Command::Close) => return OpenError::Closed,
                    Some(Command::Refuse(why)) => return why,
                    Some(Command::NetworkChanged(own)) => {
                        if let Err(why) = self.network_changed(&own) { return why; }
                    }
                    // The peer may have got it all the same, and be here already.
                    Some(Command::Unsent(why)) if self.selected.is_none() => return why.into(),
                    Some(command) => self.handle_command(command),
                },
                // Room in the socket's queue: the pump uses it.
                _ = reserve(socket) => {}
                room = room(self.stalled.as_ref(), &self.unread) => self.unstall(room),
                () = sleep_until(wake) => {
                    if let Err(why) = self.handle_time(net.is_empty()) { return why; }
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Moves everything that can move without waiting.
    fn pump(&mut self) -> Result<(), OpenError> {
        loop {
            self.drain_agent()?;
            self.receive()?;
            if !self.transmit()? {
                // Nothing was sent that made the agent speak.
                return Ok(());
            }
        }
    }

    fn drain_agent(&mut self) -> Result<(), OpenError> {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Connect(id, to) => {
                    let socket = Socket::open(id, to, self.net_tx.clone());
                    self.connections.insert(id, socket);
                }
                Output::Send(id, bytes) => self.write(id, bytes),
                Output::Close(id) => {
                    self.connections.remove(&id);
                }
                Output::Selected {
                    connection,
                    role,
                    remote,
                } => {
                    self.selected = Some((connection, remote));
                    self.deadline = Some((
                        Instant::now() + HANDSHAKE_TIMEOUT,
                        OpenError::Tls("the handshake takes too long".to_owned()),
                    ));
                    self.close_listeners_later();
                    self.session = Some(self.begin_session(role)?);
                }
                Output::Data(bytes) => self.received.push_back(bytes),
                Output::Failed(why) => return Err(OpenError::Ice(why)),
            }
        }
        Ok(())
    }

    fn begin_session(&self, role: Role) -> Result<Session, OpenError> {
        Session::new(role, &self.identity, self.peer.clone()).map_err(tls_error)
    }

    /// What came, through TLS and the multiplexer, to the channels; stops where a reader has no room.
    fn receive(&mut self) -> Result<(), OpenError> {
        loop {
            while self.stalled.is_none() {
                let event = self
                    .session
                    .as_mut()
                    .and_then(|s| s.mux.as_mut()?.poll_event());
                match event {
                    Some(event) => self.handle_event(event)?,
                    None => break,
                }
            }
            if self.stalled.is_some() {
                return Ok(());
            }
            let Some(session) = &mut self.session else {
                return Ok(());
            };
            let Some(bytes) = self.received.pop_front() else {
                return if session.ended {
                    Err(OpenError::Closed)
                } else {
                    Ok(())
                };
            };
            let result = session.receive(&bytes);
            if let Err(why) = result {
                // The peer should hear what was wrong, if it still listens.
                let _ = self.transmit();
                let _ = self.drain_agent();
                return Err(tls_error(why));
            }
            if !self.connected && session.mux.is_some() {
                self.connected = true;
                self.deadline = None;
                let tls = session.version();
                if let Some((_, remote)) = self.selected {
                    self.progress
                        .send_replace(Progress::Connected { remote, tls });
                }
                for (name, reply) in std::mem::take(&mut self.waiting) {
                    self.request(name, reply);
                }
            }
        }
    }

    /// Hands records to the socket while it has room.
    fn transmit(&mut self) -> Result<bool, OpenError> {
        let mut any = false;
        while let Some(socket) = self.socket() {
            if socket.capacity() == 0 {
                break;
            }
            let Some(session) = &mut self.session else {
                break;
            };
            let channels = &self.channels;
            let mut sent = |channel, len| {
                if let Some(side) = channels.get(&channel) {
                    side.write_credit.add_permits(len);
                }
            };
            match session.next_record(&mut sent) {
                Ok(Some(record)) => self.agent.send(&record),
                Ok(None) => break,
                Err(why) => return Err(tls_error(why)),
            }
            any = true;
            self.drain_agent()?;
        }
        Ok(any)
    }

    fn wants_send(&self) -> bool {
        self.session.as_ref().is_some_and(Session::wants_send)
    }

    /// The queue of the selected connection's socket.
    fn socket(&self) -> Option<mpsc::Sender<Vec<u8>>> {
        let (id, _) = self.selected?;
        self.connections.get(&id)?.frames.clone()
    }

    fn wake(&self) -> Option<Instant> {
        let mux = self
            .session
            .as_ref()
            .filter(|_| self.stalled.is_none())
            .and_then(|s| s.mux.as_ref()?.poll_timeout());
        let engines = [self.agent.poll_timeout(), mux];
        engines
            .into_iter()
            .flatten()
            .map(|at| self.start + at)
            .chain(self.connected.then(|| self.heard + SILENCE))
            .chain(self.deadline.as_ref().map(|d| d.0))
            .chain(self.requested.values().map(|r| r.2))
            .chain(self.offered.values().map(|o| o.1))
            .chain(self.stalled.as_ref().map(|s| s.until))
            .min()
    }

    /// `all_read`: nothing of the peer's is there that was not looked at.
    fn handle_time(&mut self, all_read: bool) -> Result<(), OpenError> {
        let (instant, now) = (Instant::now(), self.now());
        self.agent.handle_timeout(now);
        // A sign of life may be among what was not read yet.
        let all_read = all_read && self.stalled.is_none();
        if self.connected && self.heard + SILENCE <= instant {
            self.heard = instant;
            if all_read {
                self.beacon();
            }
        }
        if all_read && let Some(mux) = self.session.as_mut().and_then(|s| s.mux.as_mut()) {
            mux.handle_timeout(now);
        }
        if let Some((at, why)) = &self.deadline
            && *at <= instant
        {
            return Err(why.clone());
        }
        let late: Vec<_> = self
            .requested
            .iter()
            .filter(|(_, r)| r.2 <= instant)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some((_, reply, _)) = self.requested.remove(&id) {
                let _ = reply.send(Err(OpenError::NoReply));
                self.end(id);
            }
        }
        let unanswered: Vec<_> = self
            .offered
            .iter()
            .filter(|(_, o)| o.1 <= instant)
            .map(|(id, _)| *id)
            .collect();
        for id in unanswered {
            if let Some((name, _)) = self.offered.remove(&id) {
                self.decline(id, &name);
            }
        }
        if self.stalled.as_ref().is_some_and(|s| s.until <= instant) {
            self.give_up_a_reader(instant);
        }
        Ok(())
    }

    /// A reader has made no room for too long: its channel is given up.
    fn give_up_a_reader(&mut self, now: Instant) {
        let Some(mut stalled) = self.stalled.take() else {
            return;
        };
        let own = stalled.credit.available_permits() < stalled.data.len();
        let fullest = self
            .channels
            .iter()
            .min_by_key(|(_, side)| side.read_credit.available_permits())
            .map(|(id, _)| *id);
        let lost = match fullest {
            // The data has room in its channel; it is the others' that fill the connection.
            Some(fullest) if !own => fullest,
            _ => stalled.channel,
        };
        self.end(lost);
        if let Some(side) = self.channels.remove(&lost) {
            side.finish(Inbound::Lost(
                io::ErrorKind::TimedOut,
                "the channel was not read for too long",
            ));
        }
        if lost != stalled.channel {
            stalled.until = now + STALL_TIMEOUT;
            self.stalled = Some(stalled);
        }
    }

    fn handle_net(&mut self, event: Net) {
        let now = self.now();
        match event {
            Net::Accepted(stream, local, remote) => {
                // Refused ones are closed by being dropped.
                if let Ok(id) = self.agent.handle_accepted(now, local, remote) {
                    self.attach(id, stream);
                }
            }
            Net::Connected(id, Ok(stream)) => {
                if self.connections.contains_key(&id) {
                    let local = stream.local_addr();
                    self.attach(id, stream);
                    let any = SocketAddr::from(([0, 0, 0, 0], 0));
                    self.agent.handle_connected(now, id, local.unwrap_or(any));
                }
            }
            Net::Connected(id, Err(error)) => {
                tracing::trace!(device = %self.device, %error, "no connection");
                if self.connections.remove(&id).is_some() {
                    self.agent.handle_closed(now, id);
                }
            }
            Net::Bytes(id, bytes) => {
                self.heard = Instant::now();
                if self.connections.contains_key(&id) {
                    self.agent.handle_bytes(now, id, &bytes);
                }
            }
            Net::Closed(id) => {
                if self.connections.remove(&id).is_some() {
                    self.agent.handle_closed(now, id);
                }
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Open(name, reply) if self.connected => self.request(name, reply),
            Command::Open(name, reply) => {
                if self.waiting.len() < self.max_channels {
                    self.waiting.push((name, reply));
                } else {
                    let _ = reply.send(Err(OpenError::TooMany));
                }
            }
            Command::Answer(text) => {
                let now = self.now();
                self.deadline = None;
                self.agent.set_remote(now, &text);
            }
            Command::Write(id, data) => {
                // As much as the credit that the channel used up, so there is room for all of it.
                if let Some(mux) = self.mux()
                    && mux.write(id, &data) != Ok(data.len())
                {
                    tracing::trace!(device = %self.device, "data for a channel that ended");
                }
            }
            Command::End(id) => {
                self.channels.remove(&id);
                if self.stalled.as_ref().is_some_and(|s| s.channel == id) {
                    self.stalled = None;
                }
                self.end(id);
            }
            Command::Accept(id, name, side) => {
                let accepted = self.offered.remove(&id).is_some()
                    && self
                        .mux()
                        .is_some_and(|mux| mux.accept(id, &name.to_string()).is_ok());
                if accepted {
                    self.channels.insert(id, side);
                } else {
                    side.finish(Inbound::Lost(
                        io::ErrorKind::TimedOut,
                        "the channel was gone before it was accepted",
                    ));
                }
            }
            Command::Decline(id, name) => {
                if self.offered.remove(&id).is_some() {
                    self.decline(id, &name);
                }
            }
            Command::Beacon => self.beacon(),
            Command::NetworkChanged(_)
            | Command::Close
            | Command::Refuse(_)
            | Command::Unsent(_) => {}
        }
    }

    fn beacon(&mut self) {
        let now = self.now();
        if let Some(mux) = self.mux() {
            mux.beacon(now);
        }
    }

    /// `own`: our addresses from now on.
    fn network_changed(&mut self, own: &[IpAddr]) -> Result<(), OpenError> {
        let ours = |ip: IpAddr| ip.is_loopback() || own.contains(&ip.to_canonical());
        let selected = self
            .selected
            .and_then(|(id, _)| self.connections.get(&id)?.local);
        match selected {
            // Nothing gets here any more, and the peer cannot be told from elsewhere.
            Some(local) if !ours(local) => return Err(OpenError::Dead),
            Some(_) => self.beacon(),
            None => {}
        }
        Ok(())
    }

    fn mux(&mut self) -> Option<&mut mux::Mux> {
        self.session.as_mut()?.mux.as_mut()
    }

    fn request(&mut self, name: ChannelName, reply: OpenReply) {
        if reply.is_closed() {
            return;
        }
        let open = self.requested.len() + self.channels.len();
        let max = self.max_channels;
        let result = match self.mux() {
            _ if open >= max => Err(OpenError::TooMany),
            None => Err(OpenError::Closed),
            Some(mux) => mux.request(&name.to_string()).map_err(OpenError::Mux),
        };
        match result {
            Ok(id) => {
                let until = Instant::now() + CHANNEL_TIMEOUT;
                self.requested.insert(id, (name, reply, until));
            }
            Err(why) => {
                let _ = reply.send(Err(why));
            }
        }
    }

    fn decline(&mut self, id: ChannelId, name: &ChannelName) {
        if let Some(mux) = self.mux() {
            // It may have ended meanwhile.
            let _ = mux.decline(id, &name.to_string());
        }
    }

    fn end(&mut self, id: ChannelId) {
        if let Some(mux) = self.mux() {
            mux.end(id);
        }
    }

    fn handle_event(&mut self, event: Event) -> Result<(), OpenError> {
        match event {
            Event::Requested(id, name) => self.offer(id, &name),
            Event::Accepted(id) => {
                let Some((name, reply, _)) = self.requested.remove(&id) else {
                    self.end(id);
                    return Ok(());
                };
                let Some(commands) = self.commands.upgrade() else {
                    return Err(OpenError::Closed);
                };
                let (side, channel) =
                    Channel::new(id, name, (self.device, self.account, self.number), commands);
                self.channels.insert(id, side);
                // Nobody waits any more: dropping the channel ends it.
                let _ = reply.send(Ok(channel));
            }
            Event::Declined(id) => {
                if let Some((_, reply, _)) = self.requested.remove(&id) {
                    let _ = reply.send(Err(OpenError::Declined));
                }
            }
            Event::Data(id, data) => {
                let Some(side) = self.channels.get(&id) else {
                    return Ok(());
                };
                let credit = side.read_credit.clone();
                match Room::take(&credit, &self.unread, len32(&data)) {
                    Some(room) => self.deliver(id, data, room),
                    None => {
                        self.stalled = Some(Stalled {
                            channel: id,
                            data,
                            credit,
                            until: Instant::now() + STALL_TIMEOUT,
                        });
                    }
                }
            }
            Event::Ended(id) => {
                self.offered.remove(&id);
                if let Some((_, reply, _)) = self.requested.remove(&id) {
                    let _ = reply.send(Err(OpenError::Declined));
                }
                if let Some(side) = self.channels.remove(&id) {
                    side.finish(Inbound::End);
                }
            }
            Event::Version(version) => {
                tracing::debug!(device = %self.device, version, "multiplexer of the device");
            }
            Event::Dead => return Err(OpenError::Dead),
        }
        Ok(())
    }

    fn offer(&mut self, id: ChannelId, name: &str) {
        let name = ChannelName::from(name);
        let open = self.offered.len() + self.channels.len();
        let Some(commands) = self.commands.upgrade().filter(|_| open < self.max_channels) else {
            return self.decline(id, &name);
        };
        let incoming = Incoming::new(
            id,
            name.clone(),
            (self.device, self.account, self.number),
            commands,
        );
        let until = Instant::now() + OFFER_TIMEOUT;
        self.offered.insert(id, (name.clone(), until));
        if let Err(refused) = self.incoming.try_send(incoming) {
            // Dropping it declines, too, but later.
            self.offered.remove(&id);
            self.decline(id, &name);
            drop(refused);
        }
    }

    fn deliver(&mut self, id: ChannelId, data: Vec<u8>, room: Room) {
        let gone = match self.channels.get(&id) {
            Some(side) => side.inbound.send(Inbound::Data(data, room)).is_err(),
            None => false,
        };
        if gone {
            self.channels.remove(&id);
            self.end(id);
        }
    }

    fn unstall(&mut self, room: Option<Room>) {
        if let (Some(stalled), Some(room)) = (self.stalled.take(), room) {
            self.deliver(stalled.channel, stalled.data, room);
        }
    }

    fn listen(&mut self, listener: TcpListener) {
        let net = self.net_tx.clone();
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, remote)) => {
                        let Ok(local) = stream.local_addr() else {
                            continue;
                        };
                        if net
                            .send(Net::Accepted(stream, local, remote))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    // Out of descriptors, most likely: others have to close theirs first.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        self.listeners.push(task.abort_handle());
    }

    fn close_listeners_later(&mut self) {
        let listeners = std::mem::take(&mut self.listeners);
        tokio::spawn(async move {
            tokio::time::sleep(LISTEN_AFTER).await;
            for listener in listeners {
                listener.abort();
            }
        });
    }

    fn attach(&mut self, id: ConnId, stream: TcpStream) {
        let socket = Socket::attach(id, stream, self.net_tx.clone());
        self.connections.insert(id, socket);
    }

    fn write(&mut self, id: ConnId, bytes: Vec<u8>) {
        let Some(frames) = self.connections.get(&id).and_then(|c| c.frames.as_ref()) else {
            return;
        };
        // Records are only made when there is room; a check that finds none is sent again.
        if frames.try_send(bytes).is_err() {
            tracing::trace!(device = %self.device, "a check was not sent");
        }
    }

    /// The end: goodbye to the peer, and an answer to everyone who waits.
    fn finish(mut self, why: OpenError) {
        if why == OpenError::Dead {
            for socket in self.connections.values() {
                socket.abort();
            }
        } else if let Some(session) = &mut self.session {
            session.close();
            let _ = self.transmit();
        }
        for listener in &self.listeners {
            listener.abort();
        }
        tracing::debug!(device = %self.device, %why, "connection ended");
        let last = if self.connected {
            Progress::Closed(why.clone())
        } else {
            Progress::Ended(why.clone())
        };
        self.progress.send_replace(last);
        for (_, reply) in self.waiting.drain(..) {
            let _ = reply.send(Err(why.clone()));
        }
        for (_, (_, reply, _)) in std::mem::take(&mut self.requested) {
            let _ = reply.send(Err(OpenError::Closed));
        }
        for (_, side) in std::mem::take(&mut self.channels) {
            side.finish(Inbound::Lost(
                io::ErrorKind::ConnectionReset,
                "the connection was lost",
            ));
        }
    }
}

fn tls_error(error: SessionError) -> OpenError {
    if let SessionError::Tls(tls) = &error
        && let Some(wrong) = WrongPeer::of(tls)
    {
        return wrong.into();
    }
    OpenError::Tls(error.to_string())
}

fn len32(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(u32::MAX)
}

/// Room in a socket's queue, or never.
async fn reserve(socket: Option<mpsc::Sender<Vec<u8>>>) {
    match socket {
        Some(socket) => {
            let _ = socket.reserve().await;
        }
        None => std::future::pending().await,
    }
}

/// Room for what has stalled, or never.
async fn room(stalled: Option<&Stalled>, unread: &Arc<Semaphore>) -> Option<Room> {
    match stalled {
        Some(s) => Room::wait(s.credit.clone(), unread.clone(), len32(&s.data)).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
