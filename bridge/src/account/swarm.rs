//! Does what the engines of each conversation ask for: opens and closes swarm channels, watches
//! members, tells and fetches.

use super::frames::exchange;
use super::net::statuses;
use super::{Account, AccountError, now_unix};
use crate::actor::NoAnswer;
use crate::conversation::Conversation;
use crate::conversation::engines::{Line, Step, clock};
use crate::conversation::repo::{Repo, RepoError, Snapshot, Taken};
use crate::peer::{Channel, OpenError};
use starling_core::crypto::Crypto as _;
use starling_core::drt::{
    CertificateSource, Found, Input, Lease, MAX_MESSAGE, Message, Output, SMALL, Verdict,
    pack_chain,
};
use starling_core::id::{AccountId, DeviceId, ObjectId};
use starling_core::identity::CertificateChain;
use starling_core::notice::Notice;
use starling_core::peer::attempts::Attempt;
use starling_core::peer::channel_name::ChannelName;
use starling_core::swarm::members::Role;
use starling_core::swarm::message::ConversationMode;
use starling_core::swarm::spread::{Action, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The pause after a device did not want a swarm channel: it does not know yet that we are a
/// member, and connects to us when it does, or it is of 2023 and will not ever.
const DECLINED: Duration = Duration::from_secs(300);

/// The pause after another attempt to reach the device was on its way and failed.
const ELSEWHERE: Duration = Duration::from_secs(5);

/// How long a device that is connected and not needed may say what it came for: a notice takes a
/// round trip after the connection is up.
const TO_SAY: Duration = Duration::from_secs(3);

/// Why there is no swarm channel.
enum Missed {
    /// The device is nobody's whom we know here.
    Refused,
    /// Not before then.
    Until(Duration),
}

impl Account {
    /// Follows a conversation's engines until it ends.
    pub(super) fn start_engines(self: &Arc<Self>, conversation: &Conversation) {
        let (account, c) = (self.clone(), conversation.clone());
        let task = move || account.clone().follow_engines(c.clone());
        self.spawn_for(conversation, super::lasting(task, self.failed()));
    }

    async fn follow_engines(self: Arc<Self>, c: Conversation) {
        let mut last: Option<(Arc<Snapshot>, bool)> = None;
        if self.is_leaving(&c.id) {
            c.engines.spread(|s, _| s.only_tell());
        }
        for (device, account) in self.peers.connected() {
            c.engines.drt(Input::Linked { device, account });
        }
        self.restore_mobiles(&c).await;
        // The power went when we had left, and before that was noted: nobody would hear of it.
        if !self.is_leaving(&c.id)
            && matches!(c.ask(|r| r.own_leave()).await, Ok(Some(_)))
            && let Err(e) = self.leave(c.id).await
        {
            tracing::warn!(conversation = %c.id, %e, "what was left is not taken out of the list");
        }
        loop {
            let (snapshot, leaving) = (c.snapshot(), self.is_leaving(&c.id));
            let seen = last
                .as_ref()
                .is_some_and(|(s, l)| Arc::ptr_eq(s, &snapshot) && *l == leaving);
            if !seen {
                let before = last.as_ref().filter(|(_, l)| *l == leaving);
                self.follow_members(&c, before.map(|(s, _)| &**s), &snapshot);
                last = Some((snapshot.clone(), leaving));
            }
            c.engines.follow_links(self.standings(&c, &snapshot));
            while let Some(step) = c.engines.next() {
                match step {
                    Step::Drt(output) => self.route(&c, output),
                    Step::Spread(action) => self.spread(&c, action),
                }
            }
            c.engines.wait().await;
        }
    }

    /// The routing table learns who is a member.
    fn follow_members(&self, c: &Conversation, before: Option<&Snapshot>, now: &Snapshot) {
        let members = |s: &Snapshot, invited: bool| -> BTreeSet<AccountId> {
            let all = s.members.iter().filter(|m| s.may_fetch(&m.id));
            all.filter(|m| (m.role == Role::Invited) == invited)
                .map(|m| m.id)
                .collect()
        };
        let (mut accounts, mut invited) = (members(now, false), members(now, true));
        let same = before.is_some_and(|b| {
            members(b, false) == accounts
                && members(b, true) == invited
                && b.banned_devices == now.banned_devices
        });
        if same {
            return;
        }
        if !accounts.contains(&self.jami_id()) && !self.is_leaving(&c.id) {
            // We are none: nobody is to be connected with for this.
            accounts.clear();
            invited.clear();
        }
        accounts.retain(|id| !self.is_blocked(id));
        invited.retain(|id| !self.is_blocked(id));
        let banned = now.banned_devices.clone();
        c.engines.drt(Input::Members {
            accounts: Arc::new(accounts),
            invited,
            banned,
        });
        self.peers.policy_changed();
    }

    /// What the devices that can be told are to a conversation, and over which connection they are told.
    fn standings(&self, c: &Conversation, s: &Snapshot) -> BTreeMap<DeviceId, (Standing, u64)> {
        let own = self.jami_id();
        let small = s.mode == ConversationMode::OneToOne || s.members.len() <= SMALL;
        let (near, git) = (c.engines.neighbours(), c.engines.with_git());
        let mut out = BTreeMap::new();
        for (device, id) in self.links.connected() {
            if !s.admits(&id, &device) || self.is_blocked(&id) {
                continue;
            }
            // Who has a swarm channel has the conversation: whoever we know as asked in has come in, and
            // may have said so in vain. A daemon that comes into several groups at once loses notices.
            let standing = if s.takes_part(&id) || near.contains(&device) {
                Standing::Member
            } else {
                Standing::Invited
            };
            // The others hear of it from their neighbours.
            let told = small
                || id == own
                || standing == Standing::Invited
                || near.contains(&device)
                || git.contains(&device);
            if told && let Some(link) = self.links.link(&device) {
                out.insert(device, (standing, link));
            }
        }
        out
    }

    /// Links came or went: every conversation looks whether that matters to it.
    pub(super) fn look_at_links(&self) {
        for conversation in self.conversations() {
            conversation.engines.look();
        }
    }

    /// A device of a person announced itself, or is gone.
    pub(super) fn seen(&self, account: AccountId, device: DeviceId, online: bool) {
        if online {
            self.shared().attempts.seen(&device);
        }
        for conversation in self.conversations() {
            if conversation.engines.watched().contains(&account) {
                conversation.engines.drt(Input::Presence {
                    account,
                    device,
                    online,
                });
            }
        }
    }

    // --- the routing table ---

    fn route(self: &Arc<Self>, c: &Conversation, output: Output) {
        tracing::trace!(conversation = %c.id, ?output, "routing");
        match output {
            Output::Connect(device) => self.reach(c, device),
            Output::Close(device) => {
                c.engines.close_lines(&device);
                let account = self.clone();
                self.spawn(async move { account.drop_idle(device).await });
            }
            Output::Send { to, message } => c.engines.send(&to, *message),
            Output::Watch(accounts) => {
                for account in accounts {
                    let there: Vec<DeviceId> = self
                        .shared()
                        .reach
                        .get(&account)
                        .map(|r| r.announced.devices().copied().collect())
                        .unwrap_or_default();
                    for device in there {
                        c.engines.drt(Input::Presence {
                            account,
                            device,
                            online: true,
                        });
                    }
                }
                // Watches those who are not watched yet.
                self.wake.notify_one();
            }
            Output::CheckLease { lease, source } => {
                let (account, engines) = (self.clone(), c.engines.clone());
                self.spawn_for(c, async move {
                    let device = lease.device;
                    let verdict = account.check_lease(&lease, source).await;
                    engines.drt(Input::LeaseChecked { device, verdict });
                });
            }
            Output::GiveCertificates { to, devices } => {
                let store = self.peers.certificates();
                let certificates = devices
                    .iter()
                    .filter_map(|d| Some(pack_chain(&store.get(d)?)))
                    .collect();
                c.engines.drt(Input::Certificates { to, certificates });
            }
            Output::Online(online) => {
                tracing::debug!(conversation = %c.id, online, "neighbours");
            }
            Output::MobilesChanged => {
                let (account, c) = (self.clone(), c.clone());
                self.spawn_for(&c.clone(), async move {
                    if let Err(e) = account.keep_mobiles(&c).await {
                        tracing::warn!(%e, "mobile devices could not be kept");
                    }
                });
            }
        }
    }

    /// Opens a swarm channel to a device, in the background.
    fn reach(self: &Arc<Self>, c: &Conversation, device: DeviceId) {
        let (account, c) = (self.clone(), c.clone());
        self.spawn_for(&c.clone(), async move {
            let input = match account.open_swarm(&c, device).await {
                Ok(channel) => return account.neighbour(channel, &c).await,
                Err(Missed::Refused) => Input::Refused { device },
                Err(Missed::Until(not_before)) => Input::Failed { device, not_before },
            };
            c.engines.drt(input);
        });
    }

    async fn open_swarm(&self, c: &Conversation, device: DeviceId) -> Result<Channel, Missed> {
        let mut ours = false;
        if self.linked(&device).is_none() {
            match self.shared().attempts.ask(device, clock()) {
                Attempt::Go => ours = true,
                Attempt::Running => {}
                Attempt::After(at) => return Err(Missed::Until(at)),
            }
        }
        let failed = |why: &dyn std::fmt::Display| {
            tracing::debug!(%device, %why, "a neighbour was not reached");
            Missed::Until(if ours {
                self.shared().attempts.failed(device, clock())
            } else {
                clock() + ELSEWHERE
            })
        };
        let account = match self.linked(&device) {
            Some(account) => account,
            // A neighbour may name any device: whose it is says its certificate.
            None => match self.peers.certificate(device, None).await {
                Ok(chain) => chain.account_id(),
                Err(e) => return Err(failed(&e)),
            },
        };
        if self.is_blocked(&account) || !c.snapshot().admits(&account, &device) {
            self.shared().attempts.reached(&device);
            return Err(Missed::Refused);
        }
        let name = ChannelName::Swarm { conversation: c.id };
        match self.peers.open(&device, Some(account), name).await {
            Ok(channel) => {
                self.shared().attempts.reached(&device);
                Ok(channel)
            }
            Err(OpenError::Declined | OpenError::NoReply) => {
                self.shared().attempts.reached(&device);
                Err(Missed::Until(clock() + DECLINED))
            }
            Err(e) => Err(failed(&e)),
        }
    }

    /// Runs one swarm channel of ours until it ends.
    async fn neighbour(&self, channel: Channel, c: &Conversation) {
        if let Some(line) = c.engines.line(channel.device(), channel.account()) {
            run_line(channel, c, line).await;
        }
    }

    /// Ends the connection with a device that nobody needs any more.
    async fn drop_idle(&self, device: DeviceId) {
        // It may have come to say something, such as that we are let back in.
        tokio::time::sleep(TO_SAY).await;
        let account = self
            .peers
            .connected()
            .into_iter()
            .find(|(d, _)| *d == device);
        let Some((_, account)) = account else { return };
        let near = self.conversations().iter().any(|c| {
            c.engines.neighbours().contains(&device)
                || c.engines.with_git().contains(&device)
                || c.engines.spread(|s, _| s.expects(&device))
        });
        // Who was just banned is to hear of it.
        let hears = self
            .conversations()
            .iter()
            .any(|c| c.snapshot().unaware.contains(&account));
        if !near && !hears && matches!(self.wants_link(&account).await, Ok(false)) {
            tracing::debug!(%device, "a connection is not needed any more");
            self.peers.close_device(&device);
        }
    }

    async fn check_lease(&self, lease: &Lease, source: CertificateSource) -> Verdict {
        let chain: Option<CertificateChain> = match source {
            CertificateSource::Store => self.peers.certificates().get(&lease.device),
            CertificateSource::Given(chain) => Some(*chain),
            CertificateSource::Network => self.peers.certificate(lease.device, None).await.ok(),
        };
        let Some(chain) = chain else {
            return Verdict::NoCertificate;
        };
        let good = lease.checks(&chain, now_unix()).is_ok_and(|checks| {
            tokio::task::block_in_place(|| Self::crypto().verify_batch(&checks))
                .into_iter()
                .all(|good| good)
        });
        if good { Verdict::Good } else { Verdict::Bad }
    }

    async fn keep_mobiles(&self, c: &Conversation) -> Result<(), AccountError> {
        let message = Message::found(Found {
            infos: c.engines.mobiles(),
            ..Found::default()
        });
        let (id, kept) = (c.id, hex::encode(message.encode()));
        self.book
            .ask(move |b| b.state().put("mobiles", &id.to_hex(), &kept))
            .await??;
        Ok(())
    }

    async fn restore_mobiles(&self, c: &Conversation) {
        let id = c.id;
        let kept = self
            .book
            .ask(move |b| b.state().get::<String>("mobiles", &id.to_hex()))
            .await;
        let infos = kept
            .ok()
            .and_then(Result::ok)
            .flatten()
            .and_then(|text| hex::decode(text).ok())
            .and_then(|bytes| Message::first(&bytes).ok().flatten())
            .and_then(|(_, message)| message.found)
            .map(|found| found.infos)
            .unwrap_or_default();
        if !infos.is_empty() {
            c.engines.drt(Input::Restored(infos));
        }
    }

    // --- the spread of news ---

    /// A commit was written here: neighbours are told, a few members without a connection are
    /// looked for, and sleeping devices that are ours to wake are woken.
    pub(super) async fn tell_all(self: &Arc<Self>, c: &Conversation, _except: Option<DeviceId>) {
        let head = c.head();
        let leaving = self.is_leaving(&c.id);
        c.engines.spread(|s, now| {
            s.wrote(head, now);
            if leaving {
                s.only_tell();
            }
        });
        c.engines.drt(Input::Reach);
        for device in c.engines.to_wake() {
            self.reach(c, device);
        }
        self.wake.notify_one();
    }

    fn spread(self: &Arc<Self>, c: &Conversation, action: Action) {
        tracing::trace!(conversation = %c.id, ?action, "spreading");
        match action {
            Action::Tell(device, head) => self.tell(c, device, head),
            Action::Fetch(device) => {
                let (account, c) = (self.clone(), c.clone());
                self.spawn_for(&c.clone(), async move {
                    let ended = account.fetch(&c, device).await;
                    c.engines.spread(|s, now| s.fetched(device, ended, now));
                });
            }
            Action::Merge(head) => {
                let (account, c) = (self.clone(), c.clone());
                self.spawn_for(&c.clone(), async move {
                    account.take_in(&c, head).await;
                });
            }
        }
    }

    fn tell(self: &Arc<Self>, c: &Conversation, device: DeviceId, commit: ObjectId) {
        let id = self
            .links
            .connected()
            .into_iter()
            .find(|(d, _)| *d == device);
        let Some((_, id)) = id else { return };
        tracing::debug!(%device, %commit, "telling");
        let notice = Notice::NewCommit {
            conversation: c.id,
            commit,
            device: self.device_id(),
        };
        if !self.links.tell(&device, &notice) {
            return;
        }
        // The repository may be busy with what was fetched: others are not to wait for that.
        let (account, c) = (self.clone(), c.clone());
        self.spawn_for(&c.clone(), async move {
            let told = move |r: &mut Repo| {
                let ids = r.told(device, id, commit);
                statuses(r, ids)
            };
            if let Ok(list) = c.ask(told).await {
                account.emit_statuses(c.id, list);
            }
        });
    }

    /// Makes a head whose objects are here part of the history: a long one in steps, so that
    /// whoever writes or reads meanwhile has their turn.
    async fn take_in(self: &Arc<Self>, c: &Conversation, theirs: ObjectId) {
        let mut new = false;
        match self.enter(c, theirs, &mut new).await {
            Ok(()) => {}
            Err(RepoError::Rejected(fault)) => {
                tracing::error!(conversation = %c.id, %fault.commit, "valid before, and not now");
            }
            Err(RepoError::NoAnswer(NoAnswer::Stopped)) => return,
            Err(e) => tracing::warn!(conversation = %c.id, %e, "not merged"),
        }
        if let Some((device, id)) = c.engines.who_brought(&theirs) {
            self.note_fetched(c, id, device, theirs).await;
        }
        let engines = c.engines.clone();
        let settled = c.ask(move |r| {
            let known = |id: &ObjectId| r.is_settled(id);
            engines.spread(|s, now| s.settled(theirs, Some(r.head()), &known, now));
        });
        if settled.await.is_err() {
            return;
        }
        if new {
            // It really arrived: whoever is not connected may lack it too.
            c.engines.drt(Input::Reach);
            if let Err(e) = self.no_longer_refused(c, None).await {
                tracing::warn!(%e, "a refusal is still shown");
            }
        }
    }

    /// Makes what came of a fetch that broke off part of the history. Says whether it is.
    pub(super) async fn follow(self: &Arc<Self>, c: &Conversation, newest: ObjectId) -> bool {
        let mut new = false;
        if let Err(e) = self.enter(c, newest, &mut new).await {
            tracing::warn!(conversation = %c.id, %e, "what was kept of a broken pack is not taken in");
        }
        if new {
            let head = c.head();
            c.engines.spread(|s, _| s.followed(head));
        }
        new
    }

    /// `new` says whether anything came.
    async fn enter(
        self: &Arc<Self>,
        c: &Conversation,
        theirs: ObjectId,
        new: &mut bool,
    ) -> Result<(), RepoError> {
        if !c.ask(move |r| r.is_judged(&theirs)).await? {
            // What was known of it got lost: the index was made anew.
            let stop = self.stop.clone();
            c.judge(None, theirs, move || !stop.is_cancelled()).await?;
        }
        for step in c.ask(move |r| r.steps_to(&theirs)).await? {
            let taken = c.ask(move |r| r.adopt_step(step, now_unix())).await??;
            let Some(taken) = taken else { break };
            *new |= self.show_taken(c, taken).await;
        }
        let taken = c.ask(move |r| r.adopt(theirs, now_unix())).await??;
        *new |= self.show_taken(c, taken).await;
        Ok(())
    }

    /// Says whether there was anything to show.
    async fn show_taken(self: &Arc<Self>, c: &Conversation, taken: Taken) -> bool {
        match taken {
            Taken::New {
                changes,
                snapshot_changed,
            } => {
                if snapshot_changed || !changes.shown.is_empty() || !changes.updated.is_empty() {
                    c.engines.spread(|s, now| s.said(now));
                }
                self.show_changes(c, changes, snapshot_changed).await;
                true
            }
            Taken::Nothing => false,
        }
    }
}

/// Runs one swarm channel until it ends.
pub(super) async fn run_line(channel: Channel, c: &Conversation, mut line: Line) {
    let device = channel.device();
    let engines = &c.engines;
    let heard = |frame: &[u8]| {
        let Some((_, message)) = Message::first(frame).map_err(io::Error::other)? else {
            return Ok(None);
        };
        engines.drt(Input::Message {
            from: device,
            message: Box::new(message),
        });
        // The task that answers comes first.
        Ok(Some(tokio::task::yield_now()))
    };
    let ended = exchange(channel, MAX_MESSAGE, &mut line.out, |m| m.encode(), heard).await;
    if let Err(e) = ended {
        tracing::debug!(%device, %e, "a swarm channel has ended");
    }
}
