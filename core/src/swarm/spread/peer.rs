//! What is known of one other device: what it has and was told, what is wanted of it, and how it has failed.

use super::patience::Running;
use super::{SLIGHT, Standing, pause};
use crate::id::ObjectId;
use core::time::Duration;
use std::collections::BTreeSet;

/// A wish to fetch from a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    /// What it said it has; nothing: to see what it has.
    pub(super) head: Option<ObjectId>,
    /// Not before.
    pub(super) from: Duration,
    /// First come, first served.
    pub(super) turn: u64,
    /// Whatever it says meanwhile, it is asked: see [`Spread::look`].
    pub(super) insists: bool,
    /// Since when it is wanted.
    pub(super) since: Duration,
}

impl Want {
    /// To see what it has, whatever it says.
    pub(super) fn as_look(self) -> Self {
        Self {
            head: None,
            insists: true,
            ..self
        }
    }
}

/// A notice that was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) head: ObjectId,
    pub(super) at: Duration,
    /// What the device had then.
    pub(super) about: Option<ObjectId>,
}

#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Nothing: there is no link.
    pub(super) standing: Option<Standing>,
    /// What it was told last over this link.
    pub(super) told: Option<Told>,
    /// Since when there is this link, where the device may take an older one for alive.
    pub(super) fresh: Option<Duration>,
    /// How often it was told once more over this link: see [`super::AGAIN`].
    pub(super) repeated: usize,
    /// What it fetched from here last, over this link.
    pub(super) took: Option<ObjectId>,
    /// It fetched from here when its link had just come up, and what it has itself was not seen since.
    pub(super) came: bool,
    /// The head it said it has, or was fetched from it.
    pub(super) has: Option<ObjectId>,
    /// Something was said, and it was not told of that or of anything later.
    pub(super) unsaid: bool,
    pub(super) want: Option<Want>,
    /// What it said it has since all that it had was here, and is not here.
    pub(super) said: BTreeSet<ObjectId>,
    pub(super) running: Option<Running>,
    pub(super) failures: u32,
    /// Fetches that broke off and had brought little, less those that brought more: see [`SLIGHT`].
    pub(super) slight: u32,
    /// How often in a row it was looked in vain: see [`super::LOOKS`].
    pub(super) looks: u32,
    /// How often in a row our head came by looking at it, and nobody said anything: see [`super::ROUNDS`].
    pub(super) rounds: u32,
    /// Histories that broke the rules, and bad packs: those pauses outlast a connection.
    pub(super) refusals: u32,
    /// No fetch before this.
    pub(super) not_before: Duration,
    /// When the last fetch failed.
    pub(super) failed_at: Duration,
    pub(super) relieved_at: Option<Duration>,
    /// When it last kept others waiting for more than [`PATIENCE`].
    pub(super) held_at: Option<Duration>,
    pub(super) refused: BTreeSet<ObjectId>,
}

impl Peer {
    pub(super) fn hears(&self) -> bool {
        self.standing >= Some(Standing::Invited)
    }

    /// Whether it is to be looked at, whatever it says. It says less than it has: something else, which is not here yet;
    /// or it is a daemon that has just come. Those fetch from everyone they come to, and what they tell of then may
    /// be older than what they have: a notice that waited for somebody to be told.
    pub(super) fn is_to_be_seen(&self) -> bool {
        let came = self.came && self.standing == Some(Standing::Member);
        came || !self.said.is_empty()
    }

    /// Until when its fetch keeps others from starting, if it does at all.
    pub(super) fn holds_until(&self) -> Option<Duration> {
        let trusted = self.failures == 0 && self.refusals == 0;
        self.running.filter(|_| trusted).map(|r| r.holds_until())
    }

    /// Whether there is anything to remember when its link is gone.
    pub(super) fn has_record(&self) -> bool {
        let failed = self.failures > 0 || self.refusals > 0;
        failed || !self.refused.is_empty() || self.held_at.is_some()
    }

    /// A fetch broke off, and what came of it is kept.
    pub(super) fn progressed(&mut self, running: &Running, now: Duration) {
        let worth = running.was_worth_it(now);
        self.slight = match worth {
            true => self.slight.saturating_sub(1),
            false => self.slight.saturating_add(1).min(2 * SLIGHT),
        };
        self.failures = match worth || self.slight <= SLIGHT {
            true => 1,
            false => self.failures.saturating_add(1),
        };
    }

    /// Wants to fetch as soon as it may, unless it wants to already. A look that is to be later is this one.
    pub(super) fn want_now(&mut self, head: Option<ObjectId>, turn: u64, now: Duration) {
        let later = |w: &Want| w.insists && w.from > now;
        if self.want.is_none_or(|w| later(&w)) {
            self.want = Some(Want {
                head,
                from: now,
                turn,
                insists: false,
                since: now,
            });
        }
    }

    pub(super) fn pause(&mut self, now: Duration) {
        self.failed_at = now;
        self.not_before = now.saturating_add(pause(self.failures.max(self.refusals)));
    }
}
