//! How news travel: whom to tell of a new head, from whom to fetch and when, and who merges.
//!
//! A [`Spread`] decides for one conversation on one device. It is told what happens (a link, a
//! notice, a commit, the end of a fetch) and the time, and is then asked with [`Spread::poll`] for
//! what to do until there is nothing left; [`Spread::poll_timeout`] says when to ask again. It does
//! no I/O, reads no clock and draws nothing: the same inputs give the same actions.
//!
//! Everything follows the state, no event has to be seen: a linked device that is known to have
//! another head than ours, and was not told of ours, is told; a head that was heard of and is not
//! here is fetched. So
//!
//! * news go to each linked device once, never back to where they came from, and only after they
//!   really arrived here; while a device waits for its next notice, a newer head replaces the older;
//! * who does nothing about what it was told when its link came up is told again, up to three times (`again.rs`);
//! * one fetch a device at a time, and one a conversation as long as it gets on (looks for merges apart): what the first
//!   device sends need not be loaded from the second; news during a fetch are looked at after it;
//! * one owner of backoff a device, asked whatever the reason of a fetch is;
//! * a head that broke a rule is not asked for again, whoever offers it; one that came damaged is
//!   asked for from others first, and from whoever sent it so ever less;
//! * who merges is decided by the devices' ids, so that two that meet do not merge at the same
//!   moment, and then merge each other's merges; whoever is not the first waits anew as long as
//!   others do, and does not give up (`line.rs`).
//!
//! All memory is bounded: a few dozen bytes a linked device, [`MAX_REMEMBERED`] devices that are
//! gone, [`MAX_REFUSED`] and 16 heads a device, [`MAX_ARRIVED`] heads that wait to be merged.
//!
//! ```
//! # use starling_core::swarm::spread::{Action, Ended, Spread, Standing};
//! # use starling_core::swarm::merge::Relation;
//! # use starling_core::id::{DeviceId, ObjectId};
//! # use std::time::Duration;
//! let (alice, bob) = (DeviceId([1; 32]), DeviceId([2; 32]));
//! let (old, new) = (ObjectId([1; 20]), ObjectId([2; 20]));
//! let now = Duration::ZERO;
//! let mut spread = Spread::new(alice, Some(old));
//! spread.linked(bob, Standing::Member, now);
//! assert_eq!(spread.poll(now), Some(Action::Tell(bob, old)));
//! spread.heard(bob, new, false, now);
//! assert_eq!(spread.poll(now), Some(Action::Fetch(bob)));
//! spread.fetched(bob, Ended::Well { head: new, relation: Relation::FastForward }, now);
//! assert_eq!(spread.poll(now), Some(Action::Merge(new)));
//! spread.settled(new, Some(new), &|head| *head == old || *head == new, now);
//! assert_eq!(spread.poll(now), None, "Bob has it already");
//! ```

mod again;
mod line;
mod looks;
mod patience;
mod peer;

pub use again::{AGAIN, COMES, FRESH};
pub use line::*;
pub use looks::*;
pub use patience::{GETS_ON, HOLD_GAP, LONGEST_HOLD, PATIENCE, PREPARES};

use super::merge::Relation;
use crate::id::{DeviceId, ObjectId};
use core::time::Duration;
use patience::Running;
use peer::{Peer, Told, Want};
use std::collections::{BTreeMap, BTreeSet};

/// The first pause after a failed fetch; doubled with each further one.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause: what the reference's users waited for hours, a person waits minutes.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What a fetch that broke off has to have brought to be worth going on at once, bytes: some commits
/// of what people write, each with what belongs to it.
pub const WORTH: u64 = 4 << 10;

/// And so many bytes for each second that it took, but for the first [`PREPARES`] in which nothing came. A poor mobile
/// connection brings thirty times as much.
pub const WORTH_PER_SECOND: u64 = 1 << 10;

/// So many fetches of a device may bring less and are gone on with at once all the same: links that
/// break often. The pauses after more of them grow as if nothing had come. Each that brings what it should
/// gives one back, and one that ends well gives all.
pub const SLIGHT: u32 = 8;

/// The pause after a fetch that our own disk did not take: as soon as there is room, the person is
/// to have what was sent, and a look at a full disk costs little.
pub const OWN_PAUSE: Duration = Duration::from_secs(10);

/// After connecting anew, the pause is cut to this from the last failure on...
pub const RELIEVED_PAUSE: Duration = Duration::from_secs(4);

/// ... and no more failures than this count: the pause after one more is about a minute...
pub const RELIEVED_FAILURES: u32 = 6;

/// ... but not more often than this: connecting again and again must not be a way to have us ask
/// again and again.
pub const RELIEF_GAP: Duration = Duration::from_secs(60);

/// How long after a link came up a member is asked what it has, unless it says so itself before:
/// other Starlings do at once, daemons expect to be asked. Longer than a notice takes across the world.
pub const LOOK_AFTER: Duration = Duration::from_millis(300);

/// Between two notices to one device. Whoever writes faster is heard of at this pace; the first
/// notice after a pause goes at once.
pub const NOTICE_GAP: Duration = Duration::from_millis(50);

/// Most fetches at once, however slow they are.
pub const MAX_RUNNING: usize = 8;

/// Heads remembered as refused, per device.
pub const MAX_REFUSED: usize = 64;

/// Devices without a link whose failures and refusals are remembered.
pub const MAX_REMEMBERED: usize = 256;

/// Heads that arrived and wait to be merged; of more, the oldest is dropped, to be fetched again
/// when it is heard of again.
pub const MAX_ARRIVED: usize = 64;

/// Heads that one device said it has, and that are not here.
const MAX_SAID: usize = 16;

/// What a linked device is to the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing, or banned: neither told nor listened to.
    Outside,
    /// Asked in: is told, and may tell us that it came in.
    Invited,
    /// Member or admin, or asked in and shown to have come in: is also asked what it has.
    Member,
}

/// How a fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Well: the device's head is `head`, its objects are here and valid, and this is how it
    /// stands to ours.
    Well {
        /// What the device has.
        head: ObjectId,
        /// `UpToDate` when it brought nothing.
        relation: Relation,
    },
    /// Not now; later perhaps. `progressed`: a part of it arrived and is kept, so that it is worth
    /// going on soon, unless what arrives is ever again less than [`WORTH`].
    Failed {
        /// Whether the next attempt has less to do.
        progressed: bool,
    },
    /// With a pack that is bad, or lacks an object. That is the device's fault, not the head's,
    /// which another may have whole. Its pauses grow as with a bad history, and connecting anew does
    /// not shorten them.
    Bad,
    /// What came could not be kept, since our own disk is full or fails. That is nobody's fault
    /// there: it is tried again after [`OWN_PAUSE`], however often.
    Ours,
    /// With a history that breaks the rules, up to this head. Never asked for again, from nobody:
    /// so only what the commits themselves prove belongs here.
    Refused(ObjectId),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the device a notice of this head.
    Tell(DeviceId, ObjectId),
    /// Fetch what the device has, then report with [`Spread::fetched`], in any case.
    Fetch(DeviceId),
    /// Make this head, whose objects are here and valid, part of the history: fast-forward or
    /// merge. Then report with [`Spread::settled`], in any case.
    Merge(ObjectId),
}

/// A head whose objects are here.
#[derive(Debug, Clone, Copy)]
struct Arrived {
    from: DeviceId,
    /// Since when the device had something that is to be merged.
    since: Duration,
    /// When to take it in.
    at: Duration,
    /// A commit would come of it: that of somebody else is waited for.
    waits: bool,
    /// It was found by looking.
    looked: bool,
    turn: u64,
}

/// The pause after that many failures.
pub fn pause(failures: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(LONGEST_PAUSE)
}

/// A rule that is broken on purpose, to see that the simulation would notice.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mutation {
    /// None.
    #[default]
    Nothing,
    /// What arrived is not told on.
    KeepsToItself,
    /// News that come during a fetch are forgotten.
    ForgetsNews,
    /// Every notice is answered with one.
    AnswersNotices,
    /// Who failed is asked again at once.
    NoPause,
    /// Every head that was ever heard of is kept.
    KeepsAll,
    /// Nobody waits for the merge of another.
    AllMerge,
    /// Who waits for others to merge waits once, however busy they are.
    WaitsOnce,
    /// Nobody is asked for a merge that it did not tell of.
    NeverLooks,
    /// Who was looked at in vain is looked at as often as anyone.
    LooksInVain,
    /// What is found by looking is told at once, and looked for again at once, for ever.
    AlwaysLooks,
    /// What says nothing is told at once, unless it was found by looking.
    TellsAll,
    /// Whatever a fetch that broke has brought, it is gone on with at once.
    AnyProgress,
}

/// The spread of one conversation's news, as one device sees it.
#[derive(Debug)]
pub struct Spread {
    own: DeviceId,
    head: Option<ObjectId>,
    /// The head is a merge that was made here.
    merged: bool,
    /// Nothing is taken in any more, as after leaving.
    only_tells: bool,
    peers: BTreeMap<DeviceId, Peer>,
    /// Who may have to be told.
    to_tell: BTreeSet<DeviceId>,
    arrived: BTreeMap<ObjectId, Arrived>,
    /// Heads that were taken in without changing ours: nothing new, until ours is another one.
    aside: BTreeSet<ObjectId>,
    /// The head that is being taken in, and at whom it was found by looking.
    entering: Option<(ObjectId, Option<DeviceId>)>,
    /// Since when our head is one that says nothing and was not told: see [`HUSH`].
    hushed: Option<Duration>,
    /// How often such a head was told since somebody said something.
    idle: u32,
    /// What is being taken in was more than merges.
    says: bool,
    turn: u64,
    #[cfg(test)]
    pub(crate) mutation: Mutation,
    #[cfg(test)]
    kept: BTreeSet<ObjectId>,
}

impl Spread {
    /// For a conversation at a head, on the device `own`; without a head, for one that is still to
    /// be copied from somebody.
    pub fn new(own: DeviceId, head: Option<ObjectId>) -> Self {
        Self {
            own,
            head,
            merged: false,
            only_tells: false,
            peers: BTreeMap::new(),
            to_tell: BTreeSet::new(),
            arrived: BTreeMap::new(),
            aside: BTreeSet::new(),
            entering: None,
            hushed: None,
            idle: 0,
            says: false,
            turn: 0,
            #[cfg(test)]
            mutation: Mutation::Nothing,
            #[cfg(test)]
            kept: BTreeSet::new(),
        }
    }

    /// From now on nothing is fetched or merged, others are told only: we left, and they are to know.
    pub fn only_tell(&mut self) {
        self.only_tells = true;
        self.arrived.clear();
        for peer in self.peers.values_mut() {
            peer.want = None;
        }
    }

    /// There is a link with a device, or what it is to the conversation may have changed: to be
    /// called for every link at the start, for each new one, and for all after members changed.
    pub fn linked(&mut self, device: DeviceId, standing: Standing, now: Duration) {
        if device == self.own {
            return;
        }
        let turn = self.next_turn();
        let (look, cloning) = (!self.only_tells, self.head.is_none());
        let peer = self.peers.entry(device).or_default();
        let before = peer.standing.replace(standing);
        if before.is_none() {
            (peer.fresh, peer.repeated, peer.took, peer.came) = (None, 0, None, false);
            peer.unsaid = true;
            // Connecting anew: what failed over the old link may work now. Not so a bad history.
            let relief = peer
                .relieved_at
                .is_none_or(|at| at.saturating_add(RELIEF_GAP) <= now);
            if peer.failures > 0 && peer.refusals == 0 && relief {
                peer.relieved_at = Some(now);
                peer.failures = peer.failures.min(RELIEVED_FAILURES);
                let cut = peer.failed_at.saturating_add(RELIEVED_PAUSE);
                peer.not_before = peer.not_before.min(cut);
            }
        }
        if standing == Standing::Outside {
            peer.want = None;
            peer.said.clear();
            peer.told = None;
            peer.has = None;
            if let Some(running) = &mut peer.running {
                running.void = true;
            }
            self.drop_arrived_from(device, now);
        } else if before != Some(standing) {
            if standing == Standing::Member && look && peer.has.is_none() && peer.want.is_none() {
                let wait = if cloning { Duration::ZERO } else { LOOK_AFTER };
                peer.want = Some(Want {
                    head: None,
                    from: now.saturating_add(wait),
                    turn,
                    insists: false,
                    since: now,
                });
            }
            self.to_tell.insert(device);
        }
    }

    /// Whether what came from a device was bad, or against the rules, since it last sent something good.
    pub fn sent_bad(&self, device: &DeviceId) -> bool {
        self.peers.get(device).is_some_and(|p| p.refusals > 0)
    }

    /// The link with a device is gone. A fetch that runs is still to be reported.
    pub fn unlinked(&mut self, device: &DeviceId) {
        if let Some(peer) = self.peers.get_mut(device) {
            peer.standing = None;
            peer.told = None;
            peer.has = None;
            peer.want = None;
            peer.said.clear();
        }
        self.to_tell.remove(device);
        self.forget();
    }

    /// A device says that it has `head`; `known`: that is our head or an ancestor of it. A merge
    /// that was seen and left aside is not: ours may have changed since, and is then the one to go.
    pub fn heard(&mut self, device: DeviceId, head: ObjectId, known: bool, now: Duration) {
        let refused = self.is_refused(&head);
        let turn = self.next_turn();
        let entering = self.entering.is_some_and(|(entering, _)| entering == head);
        let waits = self.arrived.contains_key(&head) || entering;
        let here = known || waits || self.aside.contains(&head);
        let Some(peer) = self.peers.get_mut(&device).filter(|p| p.hears()) else {
            return;
        };
        if refused {
            return;
        }
        peer.has = Some(head);
        peer.unsaid &= self.head != Some(head);
        #[cfg(test)]
        match self.mutation {
            Mutation::AnswersNotices => {
                peer.told = None;
                peer.has = None;
            }
            Mutation::ForgetsNews if peer.running.is_some() => return,
            Mutation::KeepsAll => drop(self.kept.insert(head)),
            _ => {}
        }
        if here || self.only_tells {
            if let Some(want) = peer
                .want
                .filter(|_| peer.is_to_be_seen() && !self.only_tells)
            {
                // What it said before is not here: a daemon that fetches tells of what it fetched, and not
                // of its merge of that with its own.
                peer.want = Some(want.as_look());
            } else {
                // It is not ahead of us: whatever was to be looked for is answered.
                peer.want = peer.want.filter(|w| w.insists);
            }
            // It may lack ours.
            self.to_tell.insert(device);
        } else {
            if peer.said.len() >= MAX_SAID {
                peer.said.pop_first();
            }
            peer.said.insert(head);
            // A newer notice replaces the older one, and does not lose its turn.
            let turn = peer.want.map_or(turn, |w| w.turn);
            peer.want = Some(Want {
                head: Some(head),
                from: now,
                turn,
                insists: false,
                since: now,
            });
        }
    }

    /// A commit was written here.
    pub fn wrote(&mut self, head: ObjectId, now: Duration) {
        self.followed(head);
        self.said(now);
    }

    /// The head moved, by what came: what that says is another matter, see [`Self::said`].
    pub fn followed(&mut self, head: ObjectId) {
        self.move_to(Some(head), false);
    }

    /// A fetch gets on: the device has shown a head that is not here, and sent so many bytes of what
    /// belongs to it until now. To be said when it begins to send, and again and again while it does.
    pub fn gets_on(&mut self, device: &DeviceId, bytes: u64, now: Duration) {
        let running = self.peers.get_mut(device).and_then(|p| p.running.as_mut());
        if let Some(running) = running {
            running.gets_on(bytes, now);
        }
    }

    /// A fetch has ended.
    pub fn fetched(&mut self, device: DeviceId, how: Ended, now: Duration) {
        let turn = self.next_turn();
        let (ours, soonest) = (self.head, self.soonest_look());
        let mut arrived = None;
        let Some(peer) = self.peers.get_mut(&device) else {
            return;
        };
        let Some(running) = peer.running.take() else {
            return;
        };
        if running.held(now) {
            peer.held_at = Some(now);
        }
        if running.void {
            return self.forget();
        }
        match how {
            Ended::Well { head, relation } => {
                if peer.hears() {
                    peer.has = Some(head);
                }
                peer.came = false;
                // All that it has is here, but for what it said since.
                let since = peer.want.and_then(|w| w.head).filter(|h| *h != head);
                peer.said.retain(|h| Some(*h) == since);
                peer.unsaid &= ours != Some(head);
                let new = relation != Relation::UpToDate && !self.aside.contains(&head);
                if new {
                    peer.looks = 0;
                } else if running.looks {
                    peer.looks = peer.looks.saturating_add(1);
                }
                if !new && running.head.is_some_and(|said| said != head) {
                    // It said it had something, and had nothing. That may happen; not for ever.
                    peer.failures = peer.failures.saturating_add(1);
                    peer.pause(now);
                } else if new || !running.looks {
                    // Who was looked at in vain may have failed in what it said.
                    peer.failures = 0;
                    peer.slight = 0;
                    // Bad packs are made good by a good one: it costs nothing to show us our own head.
                    if new {
                        peer.refusals = 0;
                    }
                    if peer.refusals == 0 {
                        peer.not_before = now;
                    }
                }
                let answered = |w: &Want| w.head.is_none_or(|h| h == head);
                // What is to be looked at later is not what was fetched now.
                let later = |w: &Want| w.insists && w.from > now;
                peer.want = peer.want.filter(|w| !answered(w) || later(w));
                let look_wait = peer.look_wait(soonest);
                if let Some(look) = peer.want.as_mut().filter(|w| new && w.insists) {
                    look.from = look.from.min(now.saturating_add(look_wait));
                }
                if new && ours != Some(head) && !self.only_tells {
                    arrived = Some((head, relation));
                }
                // Who is ahead of us need not hear of what we had.
                if matches!(relation, Relation::UpToDate | Relation::Diverged) {
                    self.to_tell.insert(device);
                }
            }
            Ended::Failed { .. } | Ended::Bad | Ended::Ours => {
                match how {
                    Ended::Failed { progressed: true } => peer.progressed(&running, now),
                    Ended::Bad => peer.refusals = peer.refusals.saturating_add(1),
                    Ended::Ours => {}
                    _ => peer.failures = peer.failures.saturating_add(1),
                }
                match how {
                    Ended::Ours => peer.not_before = now.saturating_add(OWN_PAUSE),
                    _ => peer.pause(now),
                }
                // Perhaps it gets to us where we do not get to it.
                self.to_tell.insert(device);
                if peer.hears() && !self.only_tells {
                    // What failed now may work after the pause.
                    peer.want_now(running.head, turn, now);
                }
            }
            Ended::Refused(head) => {
                if peer.refused.len() >= MAX_REFUSED {
                    peer.refused.pop_first();
                }
                peer.refused.insert(head);
                peer.failures = 0;
                peer.refusals = peer.refusals.saturating_add(1);
                peer.pause(now);
                self.drop_wants(head);
                self.arrived.remove(&head);
            }
        }
        #[cfg(test)]
        if self.mutation == Mutation::NoPause
            && let Some(peer) = self.peers.get_mut(&device)
        {
            (peer.not_before, peer.failures) = (now, 0);
        }
        #[cfg(test)]
        if self.mutation == Mutation::LooksInVain
            && let Some(peer) = self.peers.get_mut(&device)
        {
            peer.looks = 0;
        }
        #[cfg(test)]
        if self.mutation == Mutation::AnyProgress
            && let Some(peer) = self.peers.get_mut(&device)
        {
            peer.slight = 0;
        }
        if let Some((head, relation)) = arrived {
            let waits = relation == Relation::Diverged;
            let at = match relation {
                Relation::Diverged => now.saturating_add(self.defers(device)),
                // No commit comes of it: nobody has to be waited for.
                Relation::UpToDate | Relation::FastForward | Relation::Alike => now,
            };
            self.drop_wants(head);
            // What the device had before is below what it has now: one merge for both.
            let before = self.arrived.values().filter(|a| a.from == device);
            let (since, at) = before.fold((now, at), |(since, at), before| {
                (since.min(before.since), at.min(before.at))
            });
            self.arrived.retain(|h, a| a.from != device || *h == head);
            let entry = self.arrived.entry(head).or_insert(Arrived {
                from: device,
                since,
                at,
                waits,
                looked: running.looks,
                turn,
            });
            entry.waits &= waits;
            entry.looked &= running.looks;
            entry.at = entry.at.min(at);
            if self.arrived.len() > MAX_ARRIVED {
                let oldest = self.arrived.iter().min_by_key(|(_, a)| a.turn);
                if let Some(oldest) = oldest.map(|(head, _)| *head) {
                    self.arrived.remove(&oldest);
                }
            }
        }
        self.forget();
    }

    /// [`Action::Merge`] of `theirs` was carried out, or could not be: our head is `ours` now.
    /// `known` says what needs no fetch any more: the history, and merges that were left aside.
    pub fn settled(
        &mut self,
        theirs: ObjectId,
        ours: Option<ObjectId>,
        known: &dyn Fn(&ObjectId) -> bool,
        now: Duration,
    ) {
        let looked = self.entering.take().and_then(|(_, looked)| looked);
        let says = core::mem::take(&mut self.says);
        let waiting = self.arrived.len();
        self.arrived.retain(|head, _| !known(head));
        let merged_by_others = self.arrived.len() < waiting;
        for (device, peer) in &mut self.peers {
            peer.said.retain(|head| !known(head));
            let answered = |w: &Want| w.head.is_some_and(|head| known(&head));
            if let Some(want) = peer.want.filter(answered) {
                peer.want = peer.is_to_be_seen().then(|| want.as_look());
            }
            if peer.has == Some(theirs) && peer.hears() {
                // It may lack what we have besides. Where two hold the same but for merges, one
                // gives way: if that is not us it is they, who had another head when they were told.
                if ours == self.head && peer.told.is_some_and(|t| t.about != Some(theirs)) {
                    peer.told = None;
                }
                self.to_tell.insert(*device);
            }
        }
        if ours == self.head && ours != Some(theirs) {
            if self.aside.len() >= MAX_ARRIVED {
                self.aside.pop_first();
            }
            self.aside.insert(theirs);
        }
        if ours != self.head {
            #[cfg(test)]
            if self.mutation == Mutation::KeepsToItself {
                self.head = ours;
                return;
            }
            let merged = ours != Some(theirs);
            let hushed = self.hushed;
            self.move_to(ours, merged);
            for peer in self.peers.values_mut() {
                peer.unsaid &= peer.has != ours;
            }
            #[cfg(test)]
            let says = says || self.mutation == Mutation::TellsAll;
            if looked.is_some() || !says {
                self.hush_from(hushed, now);
            }
            match looked {
                Some(device) => self.found_at(device),
                None => self.look_later(now),
            }
            if merged {
                self.pause_merges(now);
            } else if merged_by_others {
                self.wait_anew(now);
            }
        }
    }

    /// Whether a head was refused, whoever offered it.
    pub fn is_refused(&self, head: &ObjectId) -> bool {
        self.peers.values().any(|p| p.refused.contains(head))
    }

    /// Whether something is being fetched from the device, or is to be.
    pub fn expects(&self, device: &DeviceId) -> bool {
        let peer = self.peers.get(device);
        peer.is_some_and(|p| p.running.is_some() || p.want.is_some())
    }

    /// Whether the fetch from a device that runs is to see whether it has merged.
    #[cfg(test)]
    pub(crate) fn looks_at(&self, device: &DeviceId) -> bool {
        let peer = self.peers.get(device);
        peer.and_then(|p| p.running).is_some_and(|r| r.looks)
    }

    /// The next thing to do now. To be asked after each input, and when [`Self::poll_timeout`]
    /// says, until there is nothing.
    pub fn poll(&mut self, now: Duration) -> Option<Action> {
        if let Some(head) = self.due_merge(now) {
            // What can be fetched may be the merge of somebody else.
            if self.news_first(&head, now)
                && let Some(fetch) = self.begin_fetch(now)
            {
                return Some(fetch);
            }
            let arrived = self.arrived.remove(&head);
            let looked = arrived.filter(|a| a.looked).map(|a| a.from);
            self.entering = Some((head, looked));
            return Some(Action::Merge(head));
        }
        let notice = self.due_notice(now).or_else(|| self.due_repeat(now));
        if let Some((device, head)) = notice {
            return Some(Action::Tell(device, head));
        }
        self.begin_fetch(now)
    }

    fn begin_fetch(&mut self, now: Duration) -> Option<Action> {
        let device = self.due_fetch(now)?;
        let peer = self.peers.get_mut(&device)?;
        let want = peer.want.take()?;
        peer.running = Some(Running::new(want.head, want.insists, peer.held_at, now));
        Some(Action::Fetch(device))
    }

    /// When there may be something to do without any input. A time that has passed: now.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let merges = self.merges().map(|(_, at, ..)| at);
        let merges = merges.filter(|_| self.entering.is_none());
        // The hush ends with the time, whoever is looked at.
        let hush = self.hush(Duration::ZERO).unwrap_or_default();
        let notices = self.to_tell.iter().filter_map(|device| {
            let peer = self.peers.get(device)?;
            self.lacks_notice(peer)?;
            let gap = peer.told.map(|t| t.at.saturating_add(NOTICE_GAP));
            let hush = if peer.unsaid { Duration::ZERO } else { hush };
            Some(gap.unwrap_or_default().max(hush))
        });
        let repeats = self.repeats().map(|(_, at)| at);
        let next = merges.chain(notices).chain(repeats).min();
        // A head that is being taken in may be what is wanted.
        if self.entering.is_some() {
            return next;
        }
        self.fetches().map(|(at, ..)| at).chain(next).min()
    }

    /// How many entries are kept, of all kinds: for those who want to see that it is bounded.
    pub fn remembered(&self) -> usize {
        let refused: usize = self.peers.values().map(|p| p.refused.len()).sum();
        self.peers
            .len()
            .saturating_add(refused)
            .saturating_add(self.arrived.len())
            .saturating_add(self.aside.len())
            .saturating_add(self.to_tell.len())
            .saturating_add(self.kept())
    }

    #[cfg(not(test))]
    fn kept(&self) -> usize {
        0
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        self.kept.len()
    }

    fn next_turn(&mut self) -> u64 {
        self.turn = self.turn.saturating_add(1);
        self.turn
    }

    /// Nobody has to be asked for this head any more.
    fn drop_wants(&mut self, head: ObjectId) {
        for peer in self.peers.values_mut() {
            peer.said.remove(&head);
            if let Some(want) = peer.want.filter(|w| w.head == Some(head)) {
                peer.want = peer.is_to_be_seen().then(|| want.as_look());
            }
        }
    }

    /// What a device that was thrown out brought is not merged, unless others have it too.
    fn drop_arrived_from(&mut self, device: DeviceId, now: Duration) {
        let dropped: BTreeSet<ObjectId> = self
            .arrived
            .iter()
            .filter(|(_, a)| a.from == device)
            .map(|(head, _)| *head)
            .collect();
        self.arrived.retain(|_, a| a.from != device);
        let turn = self.turn;
        for peer in self.peers.values_mut().filter(|p| p.hears()) {
            if let Some(head) = peer.has.filter(|head| dropped.contains(head)) {
                peer.want_now(Some(head), turn, now);
            }
        }
    }

    fn move_to(&mut self, head: Option<ObjectId>, merged: bool) {
        self.hushed = None;
        self.head = head;
        self.merged = merged;
        self.aside.clear();
        let hearing = self.peers.iter().filter(|(_, p)| p.hears());
        self.to_tell.extend(hearing.map(|(device, _)| *device));
    }

    /// The head a device is to be told of.
    fn lacks_notice(&self, peer: &Peer) -> Option<ObjectId> {
        let head = self.head?;
        let told = peer.told.is_some_and(|t| t.head == head);
        (peer.hears() && !told && peer.has != Some(head)).then_some(head)
    }

    fn due_notice(&mut self, now: Duration) -> Option<(DeviceId, ObjectId)> {
        let hush = self.hush(now).is_some();
        if !hush && self.hushed.take().is_some() {
            self.idle = self.idle.saturating_add(1);
        }
        let mut done = Vec::new();
        let mut found = None;
        for device in &self.to_tell {
            let Some(peer) = self.peers.get(device) else {
                done.push(*device);
                continue;
            };
            let Some(head) = self.lacks_notice(peer) else {
                done.push(*device);
                continue;
            };
            if hush && !peer.unsaid {
                continue;
            }
            if peer
                .told
                .is_none_or(|t| t.at.saturating_add(NOTICE_GAP) <= now)
            {
                done.push(*device);
                found = Some((*device, head));
                break;
            }
        }
        for device in done {
            self.to_tell.remove(&device);
        }
        let (device, head) = found?;
        let peer = self.peers.get_mut(&device)?;
        peer.unsaid = false;
        peer.told = Some(Told {
            head,
            at: now,
            about: peer.has,
        });
        Some((device, head))
    }

    /// Until when what is being fetched keeps others from starting, so that the same is not loaded twice. Looks
    /// go on beside each other: each daemon has a merge of its own, and until all of them are here whatever
    /// is told makes them merge anew. On slow links, one after the other takes longer than that.
    fn held_until(&self, look: bool) -> Duration {
        let beside = |p: &&Peer| look && p.running.is_some_and(|r| r.looks);
        let held = self.peers.values().filter(|p| !beside(p));
        held.filter_map(Peer::holds_until).max().unwrap_or_default()
    }

    /// What may be fetched next, once what runs allows it: when, and who comes first of those that may at the same time.
    fn fetches(&self) -> impl Iterator<Item = (Duration, (u32, u64, DeviceId))> + '_ {
        let running = self.peers.values().filter(|p| p.running.is_some());
        let full = running.count() >= MAX_RUNNING;
        let (look, other) = (self.held_until(true), self.held_until(false));
        let others = self.peers.iter().filter(|(_, p)| p.running.is_none());
        others
            .filter(move |_| !full)
            .filter_map(move |(device, p)| {
                let want = p.want?;
                let held = if want.insists { look } else { other };
                let at = want.from.max(p.not_before).max(held);
                let failed = p.failures.saturating_add(p.refusals);
                Some((at, (failed, want.turn, *device)))
            })
    }

    fn due_fetch(&self, now: Duration) -> Option<DeviceId> {
        // A head that is being taken in may be what is wanted.
        if self.entering.is_some() || self.only_tells {
            return None;
        }
        let due = self.fetches().filter(|(at, ..)| *at <= now);
        due.map(|(_, order)| order)
            .min()
            .map(|(_, _, device)| device)
    }

    /// Drops what is remembered of devices that are gone: first of those with nothing against
    /// them, then of those whose pause ends first.
    fn forget(&mut self) {
        let gone = |p: &Peer| p.standing.is_none() && p.running.is_none();
        self.peers.retain(|_, p| !gone(p) || p.has_record());
        while self.peers.values().filter(|p| gone(p)).count() > MAX_REMEMBERED {
            let first = self
                .peers
                .iter()
                .filter(|(_, p)| gone(p))
                .min_by_key(|(_, p)| p.not_before)
                .map(|(device, _)| *device);
            let Some(first) = first else { return };
            self.peers.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests;
