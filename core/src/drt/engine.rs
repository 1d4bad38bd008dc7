//! The engine: one device's place in one conversation.

use super::io::{DrtConfig, Input, Now, Output, Verdict};
use super::lease::Lease;
use super::message::{Found, Message, MobileInfo};
use super::mobiles::Mobiles;
use super::table::{NodeState, Part, Table, distance};
use super::watch::{Aim, Watch};
use super::{
    BUCKET, LEGACY_MOBILE_UNTIL, MAX_CERTIFICATE_IDS, MAX_INFOS, MAX_NODES, VERSION, WAKERS,
};
use crate::id::{AccountId, DeviceId};
use crate::rng::Rng;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Up to so many members everybody is connected with everybody: a message then arrives at once.
pub const SMALL: usize = 8;

/// Up to so many devices in a small group, since one person may have many.
const SMALL_DEVICES: usize = 16;

/// Attempts at a time. The reference makes two for each part: half of them turn out not to be
/// needed, since others connect to us meanwhile.
const PARALLEL: usize = 4;

/// Neighbours at most; further channels are closed. A daemon takes any number.
const MAX_NEIGHBOURS: usize = 256;

/// Nodes taken from one answer to a question for [`super::FIND_NODES`].
const TAKEN: usize = 8;

/// Questions to one neighbour that may be without an answer.
const MAX_ASKED: u32 = 8;

/// Devices remembered that turned out to be no member's.
const MAX_REFUSED: usize = 256;

/// The first pause between questions for more nodes; doubled each time.
const EXPLORE: Duration = Duration::from_secs(2);

/// The longest (`FIND_PERIOD` in the reference, which does not use it).
const EXPLORE_LONGEST: Duration = Duration::from_secs(600);

/// How long a connection made only to meet others is kept without another reason.
const PROBE: Duration = Duration::from_secs(60);

/// The pause before a neighbour that went is looked for again: at least, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// A channel that ends sooner was not wanted on the other side: it counts as a failed attempt, and
/// the pause grows each time. So who is no member any more and does not know it asks ever less.
const LASTS: Duration = Duration::from_secs(5);

/// The longest such pause.
const AGAIN_LONGEST: Duration = Duration::from_secs(600);

/// One device's place in one conversation.
#[derive(Debug, Clone)]
pub struct Drt {
    config: DrtConfig,
    now: Now,
    rng: Rng,
    table: Table,
    members: Arc<BTreeSet<AccountId>>,
    invited: BTreeSet<AccountId>,
    banned: BTreeSet<DeviceId>,
    linked: BTreeMap<DeviceId, AccountId>,
    refused: VecDeque<DeviceId>,
    /// Questions without an answer, for each neighbour.
    asked: BTreeMap<DeviceId, u32>,
    watch: Watch,
    watched: BTreeSet<AccountId>,
    mobiles: Mobiles,
    explore_at: Duration,
    explore_pause: Duration,
    online: bool,
    outputs: VecDeque<Output>,
}

impl Drt {
    /// An engine that knows nobody yet.
    pub fn new(config: DrtConfig) -> Self {
        Self {
            now: Now::default(),
            rng: Rng::new(config.seed),
            table: Table::new(config.device),
            members: Arc::default(),
            invited: BTreeSet::new(),
            banned: BTreeSet::new(),
            linked: BTreeMap::new(),
            refused: VecDeque::new(),
            asked: BTreeMap::new(),
            watch: Watch::new(),
            watched: BTreeSet::new(),
            mobiles: Mobiles::default(),
            explore_at: Duration::ZERO,
            explore_pause: EXPLORE,
            online: false,
            outputs: VecDeque::new(),
            config,
        }
    }

    /// Something happened. Drain [`Self::poll_output`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = now;
        match input {
            Input::Members {
                accounts,
                invited,
                banned,
            } => {
                (self.members, self.invited, self.banned) = (accounts, invited, banned);
                self.members_changed();
            }
            Input::Presence {
                account,
                device,
                online,
            } => self.presence(account, device, online),
            Input::Linked { device, account } => {
                self.linked.insert(device, account);
                if self.is_wanted(&device, &account) {
                    self.table.learn(device, Some(account), true);
                    if let Some(node) = self.table.nodes.get_mut(&device) {
                        node.not_before = now.clock;
                    }
                }
            }
            Input::Unlinked { device } => {
                self.linked.remove(&device);
            }
            Input::Connected { device, account } => self.connected(device, account),
            Input::Disconnected { device } => self.disconnected(device),
            Input::Failed { device, not_before } => self.failed(&device, not_before),
            Input::Refused { device } => self.refused(device),
            Input::Message { from, message } => self.message(from, *message),
            Input::Reach => self.reach(),
            Input::LeaseChecked { device, verdict } => self.lease_checked(device, verdict),
            Input::Certificates { to, certificates } => {
                if !certificates.is_empty() {
                    self.send(
                        to,
                        Message {
                            certificates: Some(certificates),
                            ..Message::new()
                        },
                    );
                }
            }
            Input::Restored(infos) => {
                for lease in infos
                    .into_iter()
                    .take(MAX_INFOS)
                    .filter_map(|i| i.lease.filter(|l| l.device == i.id))
                {
                    self.offer(lease, None);
                }
            }
            Input::Timeout => {}
        }
        self.settle();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        let later = |at: &Duration| *at > self.now.clock;
        let probes = self.table.nodes.values().filter_map(|n| match n.state {
            NodeState::Connected { probe_until } => probe_until,
            _ => None,
        });
        let parts = self.table.census(self.now);
        let parts = parts
            .iter()
            .enumerate()
            .filter(|(at, part)| self.missing(*at, part) > 0)
            .filter_map(|(_, part)| part.next);
        let explore = self.online.then_some(self.explore_at);
        probes
            .chain(parts)
            .chain(explore)
            .chain(self.watch.timeout())
            .chain(self.mobiles.timeout(self.now))
            .filter(later)
            .min()
    }

    // --- what others may know ---

    /// The devices with a swarm channel.
    pub fn neighbours(&self) -> Vec<DeviceId> {
        self.table.connected().map(|(id, _)| *id).collect()
    }

    /// Every device in the table and how it stands with it.
    pub fn nodes(&self) -> impl Iterator<Item = (&DeviceId, NodeState)> {
        self.table.nodes.iter().map(|(id, n)| (id, n.state))
    }

    /// Its table remembers whoever is named: see [`Table::learns_all`].
    #[cfg(test)]
    pub(crate) fn learn_all(&mut self) {
        self.table.learns_all = true;
    }

    /// Devices that a channel is to be opened to.
    pub fn connecting(&self) -> Vec<DeviceId> {
        self.table
            .nodes
            .iter()
            .filter(|(_, n)| n.connecting())
            .map(|(id, _)| *id)
            .collect()
    }

    /// Whether there is a neighbour.
    pub fn is_online(&self) -> bool {
        self.online
    }

    /// Whose announcements are to be watched.
    pub fn watched(&self) -> &BTreeSet<AccountId> {
        &self.watched
    }

    /// The mobile devices that are known, with their leases.
    pub fn mobile_infos(&self) -> Vec<MobileInfo> {
        self.mobiles.infos().collect()
    }

    /// The sleeping devices that are ours to wake when there is news: no more than one connected
    /// device is nearer to them.
    pub fn to_wake(&self) -> Vec<DeviceId> {
        let asleep = self.mobiles.infos().map(|i| i.id).filter(|id| {
            !matches!(
                self.table.state(id),
                Some(NodeState::Connected { .. } | NodeState::Connecting { .. })
            )
        });
        asleep
            .filter(|id| {
                let own = distance(&self.config.device, id);
                let nearer = self
                    .table
                    .connected()
                    .filter(|(n, _)| distance(n, id) < own)
                    .count();
                nearer < WAKERS
            })
            .collect()
    }

    // --- what happens ---

    fn admits(&self, account: &AccountId) -> bool {
        self.members.contains(account) || self.invited.contains(account)
    }

    /// Whether a device may be a neighbour.
    fn may_be_here(&self, device: &DeviceId, account: &AccountId) -> bool {
        *device != self.config.device && self.admits(account) && !self.banned.contains(device)
    }

    /// Whether a device is worth being looked for.
    fn is_wanted(&self, device: &DeviceId, account: &AccountId) -> bool {
        self.members.contains(account) && self.may_be_here(device, account)
    }

    fn small(&self) -> bool {
        self.members.len() <= SMALL && self.table.nodes.len() <= SMALL_DEVICES
    }

    fn members_changed(&mut self) {
        self.refused.clear();
        let out: Vec<(DeviceId, bool)> = self
            .table
            .nodes
            .iter()
            .filter(|(id, n)| {
                self.banned.contains(id) || n.account.is_some_and(|a| !self.members.contains(&a))
            })
            .map(|(id, n)| (*id, n.connected()))
            .collect();
        for (id, connected) in out {
            if connected {
                self.outputs.push_back(Output::Close(id));
            }
            self.forget(&id);
        }
        if !self.mobiles.keep_members(&self.members).is_empty() {
            self.outputs.push_back(Output::MobilesChanged);
        }
        let linked: Vec<(DeviceId, AccountId)> =
            self.linked.iter().map(|(d, a)| (*d, *a)).collect();
        for (device, account) in linked {
            if self.is_wanted(&device, &account) {
                self.table.learn(device, Some(account), true);
            }
        }
    }

    fn forget(&mut self, id: &DeviceId) {
        self.table.nodes.remove(id);
        self.asked.remove(id);
        self.mobiles.gone(id, &mut self.outputs);
    }

    fn presence(&mut self, account: AccountId, device: DeviceId, online: bool) {
        if !self.is_wanted(&device, &account) {
            return;
        }
        self.watch.presence(&account, device, online);
        if !online {
            if self.table.state(&device) == Some(NodeState::Known) {
                self.table.nodes.remove(&device);
            }
            return;
        }
        self.refused.retain(|id| *id != device);
        self.table.learn(device, Some(account), true);
        let probe = self.online && !self.small();
        let known = self.table.state(&device) == Some(NodeState::Known);
        if let Some(node) = self.table.nodes.get_mut(&device) {
            // Just come: no reason to wait out an old pause.
            node.failures = 0;
            node.not_before = self.now.clock;
            if probe && known && !node.mobile && self.watch.take_probe(&account) {
                node.state = NodeState::Connecting { probe: true };
                self.outputs.push_back(Output::Connect(device));
            }
        }
    }

    fn connected(&mut self, device: DeviceId, account: AccountId) {
        let before = self.table.state(&device);
        if matches!(before, Some(NodeState::Connected { .. })) {
            return;
        }
        let many = self.table.connected().count() >= MAX_NEIGHBOURS;
        if many || !self.may_be_here(&device, &account) {
            self.outputs.push_back(Output::Close(device));
            if self.table.state(&device).is_some() {
                self.forget(&device);
            }
            return;
        }
        self.table.connect(device, account, self.now.clock);
        if before == Some(NodeState::Connecting { probe: true })
            && !self.small()
            && let Some(node) = self.table.nodes.get_mut(&device)
        {
            let until = self.now.clock.saturating_add(PROBE);
            node.state = NodeState::Connected {
                probe_until: Some(until),
            };
        }
        if self.mobiles.contains(&device)
            && let Some(node) = self.table.nodes.get_mut(&device)
        {
            node.mobile = true;
        }
        self.find(device, self.config.device);
    }

    fn find(&mut self, to: DeviceId, near: DeviceId) {
        let asked = self.asked.entry(to).or_default();
        if *asked >= MAX_ASKED {
            return;
        }
        *asked = asked.saturating_add(1);
        self.send(to, Message::find(near));
    }

    fn send(&mut self, to: DeviceId, message: Message) {
        self.outputs.push_back(Output::Send {
            to,
            message: Box::new(message),
        });
    }

    fn disconnected(&mut self, device: DeviceId) {
        self.asked.remove(&device);
        self.mobiles.gone(&device, &mut self.outputs);
        let again = self.rng.between(AGAIN.0, AGAIN.1);
        let Some(node) = self.table.nodes.get_mut(&device).filter(|n| n.connected()) else {
            return;
        };
        if node.mobile || node.account.is_some_and(|a| !self.members.contains(&a)) {
            self.table.nodes.remove(&device);
        } else {
            node.state = NodeState::Known;
            node.failures = if self.now.clock.saturating_sub(node.since) < LASTS {
                node.failures.saturating_add(1)
            } else {
                0
            };
            let pause = again.saturating_mul(1 << node.failures.min(10));
            node.not_before = self.now.clock.saturating_add(pause.min(AGAIN_LONGEST));
        }
        self.explore_soon();
    }

    fn explore_soon(&mut self) {
        self.explore_pause = EXPLORE;
        self.explore_at = self.now.clock.saturating_add(EXPLORE);
    }

    fn failed(&mut self, device: &DeviceId, not_before: Duration) {
        let account = self.table.nodes.get(device).and_then(|n| n.account);
        let present = account.is_some_and(|a| self.watch.is_present(&a, device));
        if self.table.state(device).is_none() {
            return;
        }
        self.table.fail(device, not_before, present);
        if let Some(account) = account.filter(|_| !self.online) {
            self.watch.failed(&account, device);
        }
    }

    fn refused(&mut self, device: DeviceId) {
        if self.table.state(&device).is_some() {
            self.forget(&device);
            if self.refused.len() >= MAX_REFUSED {
                self.refused.pop_front();
            }
            self.refused.push_back(device);
        }
    }

    fn reach(&mut self) {
        if !self.online || self.small() {
            return;
        }
        let met: BTreeSet<AccountId> = self
            .table
            .connected()
            .filter_map(|(_, n)| n.account)
            .chain([self.config.account])
            .collect();
        if self.watch.may_reach(self.now.clock) {
            let apart: Vec<AccountId> = self.members.difference(&met).copied().collect();
            self.watch.reach(self.now.clock, apart, &mut self.rng);
        }
        // Those who were watched already will not announce themselves again.
        for account in self.watch.accounts() {
            for device in self.watch.devices(&account) {
                let known = self.table.state(&device) == Some(NodeState::Known);
                if known
                    && !met.contains(&account)
                    && self.watch.take_probe(&account)
                    && let Some(node) = self.table.nodes.get_mut(&device)
                {
                    node.state = NodeState::Connecting { probe: true };
                    self.outputs.push_back(Output::Connect(device));
                }
            }
        }
    }

    // --- messages ---

    fn message(&mut self, from: DeviceId, message: Message) {
        let Some(node) = self.table.nodes.get(&from).filter(|n| n.connected()) else {
            return;
        };
        let account = node.account;
        self.hear_of_mobility(from, account, &message);
        // As the reference: the first of these that is there counts.
        if let Some(ids) = message.certificates_wanted {
            let devices: Vec<DeviceId> = ids
                .into_iter()
                .take(MAX_CERTIFICATE_IDS)
                .filter(|id| self.mobiles.may_give(id))
                .collect();
            if !devices.is_empty() {
                self.outputs
                    .push_back(Output::GiveCertificates { to: from, devices });
            }
        } else if let Some(certificates) = message.certificates {
            self.mobiles
                .given(from, &certificates, self.now, &mut self.outputs);
        } else if let Some((near, count)) = message.find {
            let found = self.answer(&from, &near, count, message.version);
            self.send(from, Message::found(found));
        } else if let Some(found) = message.found {
            self.found(from, found, message.version);
        }
    }

    fn hear_of_mobility(&mut self, from: DeviceId, account: Option<AccountId>, message: &Message) {
        let mut believed = message.version < VERSION && self.now.unix < LEGACY_MOBILE_UNTIL;
        let mut legacy = believed;
        if let Some(info) = message.self_mobile.as_ref().filter(|i| i.id == from) {
            let lease = info
                .lease
                .as_ref()
                .filter(|l| l.device == from && Some(l.issuer) == account);
            let fits = lease.filter(|l| {
                Mobiles::precheck(l, &self.config.conversation, &self.members, self.now).is_ok()
            });
            believed = fits.is_some();
            legacy = false;
            if let Some(lease) = fits.cloned() {
                self.offer(lease, Some(from));
            }
        }
        if message.is_mobile && believed {
            if let Some(node) = self.table.nodes.get_mut(&from) {
                node.mobile = true;
            }
            if legacy && self.mobiles.believe(from, self.now) {
                self.outputs.push_back(Output::MobilesChanged);
            }
        }
    }

    fn offer(&mut self, lease: Lease, from: Option<DeviceId>) {
        let fits = Mobiles::precheck(&lease, &self.config.conversation, &self.members, self.now);
        if fits.is_ok() && lease.device != self.config.device {
            self.mobiles.offer(lease, from, &mut self.outputs);
        }
    }

    fn answer(&self, from: &DeviceId, near: &DeviceId, count: u64, version: u64) -> Found {
        let count = usize::try_from(count).unwrap_or(MAX_NODES).min(MAX_NODES);
        let part = self.table.part(near);
        let mut infos: Vec<MobileInfo> = self
            .mobiles
            .infos()
            .filter(|i| self.table.part(&i.id) == part && i.id != *from)
            .take(MAX_INFOS)
            .collect();
        let mobile = infos.iter().map(|i| i.id).collect();
        if version >= VERSION {
            infos.retain(|i| i.lease.is_some());
        }
        Found {
            nodes: self.table.closest(near, from, count),
            mobile,
            infos,
        }
    }

    fn found(&mut self, from: DeviceId, found: Found, version: u64) {
        let Some(asked) = self.asked.get_mut(&from).filter(|n| **n > 0) else {
            return;
        };
        *asked = asked.saturating_sub(1);
        for id in found.nodes.into_iter().take(TAKEN) {
            if !self.banned.contains(&id)
                && !self.refused.contains(&id)
                && !self.mobiles.contains(&id)
            {
                self.table.learn(id, None, false);
            }
        }
        for info in found.infos.into_iter().take(MAX_INFOS) {
            if let Some(lease) = info.lease.filter(|l| l.device == info.id) {
                self.offer(lease, Some(from));
            }
        }
        if version < VERSION {
            let mut new = false;
            for id in found.mobile.into_iter().take(MAX_INFOS) {
                let free = self.table.state(&id).is_none_or(|s| s == NodeState::Known);
                if id != self.config.device && free && self.mobiles.believe(id, self.now) {
                    self.table.nodes.remove(&id);
                    new = true;
                }
            }
            if new {
                self.outputs.push_back(Output::MobilesChanged);
            }
        }
    }

    fn lease_checked(&mut self, device: DeviceId, verdict: Verdict) {
        let table = &self.table;
        let connected =
            |id: &DeviceId| matches!(table.state(id), Some(NodeState::Connected { .. }));
        let new = self
            .mobiles
            .checked(device, verdict, self.now, connected, &mut self.outputs);
        if new {
            match self.table.nodes.get_mut(&device) {
                Some(node) if node.connected() => node.mobile = true,
                _ => {
                    self.table.nodes.remove(&device);
                }
            }
            self.outputs.push_back(Output::MobilesChanged);
        }
    }

    // --- keeping the table in shape ---

    /// How many attempts a part lacks.
    fn missing(&self, at: usize, part: &Part) -> usize {
        if at == self.table.own_part() || self.small() {
            // All of it is wanted, a few at a time.
            return PARALLEL.saturating_sub(part.connecting);
        }
        // One at a time: the other side of the ids looks for us as well.
        if part.connecting > 0 {
            return 0;
        }
        BUCKET.saturating_sub(part.neighbours).min(1)
    }

    /// After each input: whatever should be and is not is asked for.
    fn settle(&mut self) {
        let over = self.mobiles.expire(self.now, &mut self.outputs);
        for id in &over {
            if let Some(node) = self.table.nodes.get_mut(id) {
                node.mobile = false;
            }
        }
        if !over.is_empty() {
            self.outputs.push_back(Output::MobilesChanged);
        }
        self.table.divide();
        self.end_probes();
        let online = self.table.connected().any(|(_, n)| !n.mobile);
        if online != self.online {
            self.online = online;
            self.outputs.push_back(Output::Online(online));
            self.explore_soon();
        }
        self.fill();
        self.explore();
        self.watch_members();
    }

    fn end_probes(&mut self) {
        let over: Vec<DeviceId> = self
            .table
            .nodes
            .iter()
            .filter(|(_, n)| {
                matches!(n.state, NodeState::Connected { probe_until: Some(at) } if at <= self.now.clock)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            let part = self.table.part(&id);
            let wanted = part == self.table.own_part()
                || self.small()
                || self.table.neighbours_in(part) < BUCKET;
            let again = self.now.clock.saturating_add(PROBE);
            if let Some(node) = self.table.nodes.get_mut(&id) {
                if wanted {
                    node.state = NodeState::Connected { probe_until: None };
                } else {
                    node.state = NodeState::Known;
                    node.not_before = again;
                    self.asked.remove(&id);
                    self.mobiles.gone(&id, &mut self.outputs);
                    self.outputs.push_back(Output::Close(id));
                }
            }
        }
    }

    fn fill(&mut self) {
        let connecting = self.table.nodes.values().filter(|n| n.connecting()).count();
        let mut room = PARALLEL.saturating_sub(connecting);
        if room == 0 {
            return;
        }
        // The nearest first: they know whom we do not.
        for (part, there) in self.table.census(self.now).iter().enumerate().rev() {
            let count = self.missing(part, there).min(room);
            if count == 0 || !there.ready {
                continue;
            }
            let linked = &self.linked;
            let chosen = self.table.choose(
                part,
                count,
                self.now,
                |id| linked.contains_key(id),
                &mut self.rng,
            );
            for id in chosen {
                if let Some(node) = self.table.nodes.get_mut(&id) {
                    node.state = NodeState::Connecting { probe: false };
                    room = room.saturating_sub(1);
                    self.outputs.push_back(Output::Connect(id));
                }
            }
        }
    }

    /// Asks a neighbour for nodes where there are too few, less and less often.
    fn explore(&mut self) {
        if !self.online || self.now.clock < self.explore_at {
            return;
        }
        self.explore_at = self.now.clock.saturating_add(self.explore_pause);
        self.explore_pause = self.explore_pause.saturating_mul(2).min(EXPLORE_LONGEST);
        let own = self.table.own_part();
        let parts = self.table.census(self.now);
        let thin: Vec<usize> = parts
            .iter()
            .enumerate()
            .filter(|(at, part)| *at < own && part.neighbours < BUCKET)
            .map(|(at, _)| at)
            .collect();
        let part = thin.get(self.rng.below(thin.len())).copied().unwrap_or(own);
        let near = if part == own {
            self.config.device
        } else {
            self.table.random_id(part, &mut self.rng)
        };
        let neighbours = self.neighbours();
        if let Some(to) = neighbours.get(self.rng.below(neighbours.len())) {
            self.find(*to, near);
        }
    }

    fn watch_members(&mut self) {
        let aim = if self.small() {
            Aim::Everybody
        } else if self.online {
            Aim::Others
        } else {
            Aim::Neighbours
        };
        // "twice K", with attempts for want of an answer from the network.
        let active = self.table.nodes.values().filter(|n| n.connecting()).count();
        let enough = active >= self.watched.len().saturating_mul(2);
        self.watch.update(
            self.now.clock,
            &self.members,
            &self.config.account,
            aim,
            enough,
            &mut self.rng,
        );
        if !self.watch.is_of(&self.watched) {
            self.watched = self.watch.accounts();
            self.outputs.push_back(Output::Watch(self.watched.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
