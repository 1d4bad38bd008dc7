//! Core's two engines of a conversation, and the swarm channels: with which devices to be
//! connected ([`Drt`]), and how news travel over what is connected ([`Spread`]).
//!
//! Whatever happens is told to them from anywhere, under a lock that is never held over anything
//! slow; one task of the account does what they ask for, see `account::swarm`.

use starling_core::crypto::Crypto as _;
use starling_core::drt::{Drt, DrtConfig, Input, Message, Now, Output};
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::swarm::spread::{Action, MAX_ARRIVED, Spread, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Messages that wait for a slow neighbour; with more its channel is closed.
const QUEUE: usize = 32;

/// Swarm channels with one device: each side may open one, and again after an error.
const MAX_CHANNELS: usize = 4;

/// What the engines want done next.
#[derive(Debug)]
pub enum Step {
    /// The routing table.
    Drt(Output),
    /// The spread of news.
    Spread(Action),
}

/// A swarm channel, for as long as this lives.
pub struct Line {
    engines: Engines,
    device: DeviceId,
    /// Tells it from others with the same device.
    number: u64,
    /// What to send. Ends when the channel is to be closed.
    pub out: mpsc::Receiver<Message>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.engines.line_ended(self.device, self.number);
    }
}

struct State {
    drt: Drt,
    spread: Spread,
    lines: BTreeMap<DeviceId, Vec<(u64, mpsc::Sender<Message>)>>,
    number: u64,
    /// What the spread takes for linked.
    linked: BTreeMap<DeviceId, (Standing, u64)>,
    /// Open git channels, of either side.
    git: BTreeMap<DeviceId, usize>,
    /// What ends those that we serve.
    served: BTreeMap<DeviceId, CancellationToken>,
    /// Who brought heads that are not part of the history yet.
    brought: BTreeMap<ObjectId, (DeviceId, AccountId)>,
}

struct Inner {
    state: Mutex<State>,
    wake: Notify,
}

/// The engines of one conversation. Cheap to clone.
#[derive(Clone)]
pub struct Engines(Arc<Inner>);

/// The clock of all engines: since the first time it is read.
pub fn clock() -> Duration {
    start().elapsed()
}

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn now() -> Now {
    Now {
        clock: clock(),
        unix: crate::account::now_unix(),
    }
}

impl Engines {
    pub(super) fn new(
        conversation: ConversationId,
        account: AccountId,
        device: DeviceId,
        head: ObjectId,
    ) -> Self {
        let mut seed = [0; 32];
        crate::crypto::AwsLc.random(&mut seed);
        let config = DrtConfig {
            device,
            account,
            conversation,
            seed,
        };
        let state = State {
            drt: Drt::new(config),
            spread: Spread::new(device, Some(head)),
            lines: BTreeMap::new(),
            number: 0,
            linked: BTreeMap::new(),
            git: BTreeMap::new(),
            served: BTreeMap::new(),
            brought: BTreeMap::new(),
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            wake: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the routing table.
    pub fn drt(&self, input: Input) {
        self.state().drt.handle(now(), input);
        self.look();
    }

    /// Tells or asks the spread.
    pub fn spread<T>(&self, tell: impl FnOnce(&mut Spread, Duration) -> T) -> T {
        let told = tell(&mut self.state().spread, clock());
        self.look();
        told
    }

    /// Something may have changed that the engines follow.
    pub fn look(&self) {
        self.0.wake.notify_one();
    }

    /// The next thing to do.
    pub fn next(&self) -> Option<Step> {
        let mut state = self.state();
        if let Some(output) = state.drt.poll_output() {
            return Some(Step::Drt(output));
        }
        state.spread.poll(clock()).map(Step::Spread)
    }

    /// Waits until there may be something to do.
    pub async fn wait(&self) {
        let until = {
            let state = self.state();
            let drt = state.drt.poll_timeout();
            drt.into_iter().chain(state.spread.poll_timeout()).min()
        };
        let sleep = async {
            match until {
                // Never more often than the clock can tell apart.
                Some(at) => {
                    let at = at.max(clock() + Duration::from_millis(2));
                    tokio::time::sleep_until((start() + at).into()).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.0.wake.notified() => {}
            () = sleep => {}
        }
        let mut state = self.state();
        let now = now();
        if state.drt.poll_timeout().is_some_and(|at| at <= now.clock) {
            state.drt.handle(now, Input::Timeout);
        }
    }

    /// Brings the spread's links up to date: `linked` are the devices that can be told, and over which connection.
    pub fn follow_links(&self, linked: BTreeMap<DeviceId, (Standing, u64)>) {
        let mut guard = self.state();
        let state = &mut *guard;
        if linked == state.linked {
            return;
        }
        let at = clock();
        for (device, (_, link)) in &state.linked {
            // What was told over another connection may not have got there.
            if linked.get(device).is_none_or(|(_, now)| now != link) {
                state.spread.unlinked(device);
            }
        }
        for (device, standing) in &linked {
            if state.linked.get(device) != Some(standing) {
                state.spread.linked(*device, standing.0, at);
                if state.linked.get(device).map(|(_, link)| link) != Some(&standing.1) {
                    state.spread.anew(device, at);
                }
            }
        }
        state.linked = linked;
    }

    /// Whether a head was refused, whoever offered it.
    pub fn is_refused(&self, head: &ObjectId) -> bool {
        self.state().spread.is_refused(head)
    }

    /// A device brought a head.
    pub fn brought(&self, head: ObjectId, device: DeviceId, account: AccountId) {
        let mut state = self.state();
        if state.brought.len() >= MAX_ARRIVED {
            state.brought.pop_first();
        }
        state.brought.insert(head, (device, account));
    }

    /// Who brought a head that is being taken in.
    pub fn who_brought(&self, head: &ObjectId) -> Option<(DeviceId, AccountId)> {
        self.state().brought.remove(head)
    }

    /// Devices that have a git channel with us.
    pub fn with_git(&self) -> BTreeSet<DeviceId> {
        self.state().git.keys().copied().collect()
    }

    /// A git channel is open for as long as this lives.
    pub fn git_open(&self, device: DeviceId) -> GitOpen {
        *self.state().git.entry(device).or_default() += 1;
        self.look();
        GitOpen {
            engines: self.clone(),
            device,
        }
    }

    /// What ends the git channels on which a device is served.
    pub fn git_over(&self, device: DeviceId) -> CancellationToken {
        self.state().served.entry(device).or_default().clone()
    }

    /// Ends the git channels on which a device is served: those that rest at once, the others when
    /// they have answered. What it opens from now on is another one. Says whether there may be any.
    pub fn end_git(&self, device: &DeviceId) -> bool {
        let mut state = self.state();
        let over = state.served.remove(device);
        let open = state.git.contains_key(device);
        over.inspect(CancellationToken::cancel).is_some() && open
    }

    /// The devices with a swarm channel.
    pub fn neighbours(&self) -> BTreeSet<DeviceId> {
        self.state().lines.keys().copied().collect()
    }

    /// Whose announcements the routing table follows.
    pub fn watched(&self) -> BTreeSet<AccountId> {
        self.state().drt.watched().clone()
    }

    /// Mobile devices as they are kept over a restart.
    pub fn mobiles(&self) -> Vec<starling_core::drt::MobileInfo> {
        self.state().drt.mobile_infos()
    }

    /// Sleeping devices that are ours to wake.
    pub fn to_wake(&self) -> Vec<DeviceId> {
        self.state().drt.to_wake()
    }

    /// A swarm channel is opened. Nothing: there are too many with this device.
    pub fn line(&self, device: DeviceId, account: AccountId) -> Option<Line> {
        let mut guard = self.state();
        let state = &mut *guard;
        let lines = state.lines.entry(device).or_default();
        if lines.len() >= MAX_CHANNELS {
            return None;
        }
        let (send, out) = mpsc::channel(QUEUE);
        state.number += 1;
        let number = state.number;
        lines.push((number, send));
        if lines.len() == 1 {
            state
                .drt
                .handle(now(), Input::Connected { device, account });
        }
        drop(guard);
        self.look();
        Some(Line {
            engines: self.clone(),
            device,
            number,
            out,
        })
    }

    /// A swarm channel ended.
    fn line_ended(&self, device: DeviceId, number: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(lines) = state.lines.get_mut(&device) {
            lines.retain(|(n, _)| *n != number);
            if lines.is_empty() {
                state.lines.remove(&device);
                state.drt.handle(now(), Input::Disconnected { device });
            }
        }
        drop(guard);
        self.look();
    }

    /// Closes all swarm channels with a device.
    pub fn close_lines(&self, device: &DeviceId) {
        // Their tasks end with the queues.
        if let Some(lines) = self.state().lines.get_mut(device) {
            for (_, out) in lines.iter_mut() {
                *out = mpsc::channel(1).0;
            }
        }
    }

    /// Sends a message to a neighbour; one that does not read is given up.
    pub fn send(&self, device: &DeviceId, message: Message) {
        let sent = self
            .state()
            .lines
            .get(device)
            .and_then(|lines| lines.last())
            .is_some_and(|(_, out)| out.try_send(message).is_ok());
        if !sent {
            self.close_lines(device);
        }
    }
}

/// An open git channel.
pub struct GitOpen {
    engines: Engines,
    device: DeviceId,
}

impl Drop for GitOpen {
    fn drop(&mut self) {
        let mut state = self.engines.state();
        if let Some(count) = state.git.get_mut(&self.device) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.git.remove(&self.device);
                state.served.remove(&self.device);
            }
        }
        drop(state);
        self.engines.look();
    }
}
