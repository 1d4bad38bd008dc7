//! How long one fetch keeps others from starting: as long as it gets on, so that the same need not be
//! loaded twice, and never so long that who sends slowly, or what nobody needs, keeps the rest away.

use super::{WORTH, WORTH_PER_SECOND};
use crate::id::ObjectId;
use core::time::Duration;

/// How long any fetch may keep others from starting: an ordinary one takes some round trips, and a
/// device that says nothing must not keep us from what others have.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A device that has shown a head, and was asked for it, is given so much more to begin: it has to
/// find the objects of a large conversation first.
pub const PREPARES: Duration = Duration::from_secs(8);

/// So many bytes from a device keep others from starting for a second more: somebody on a poor mobile
/// connection sends as fast. Who is slower is not waited for, since a second device may be faster.
pub const GETS_ON: u64 = 32 << 10;

/// The longest of all this, whatever a fetch brings: with 20 Mbit/s all that one may bring.
pub const LONGEST_HOLD: Duration = Duration::from_secs(120);

/// A device is given more than [`PATIENCE`] no more often than this: otherwise it could keep others
/// from their turn for most of the time.
pub const HOLD_GAP: Duration = Duration::from_secs(600);

/// A fetch that was begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub(super) since: Duration,
    /// What the device said it has; nothing: to see what it has.
    pub(super) head: Option<ObjectId>,
    /// It is to see whether the device has merged.
    pub(super) looks: bool,
    /// The device was thrown out meanwhile: what it sends does not count.
    pub(super) void: bool,
    /// It may keep others waiting for more than [`PATIENCE`].
    patient: bool,
    /// What has come of it; nothing: not even a head.
    bytes: Option<u64>,
    /// When the first of that came.
    came: Option<Duration>,
}

impl Running {
    /// Begins now. `held`: when the device last kept others waiting for long.
    pub(super) fn new(
        head: Option<ObjectId>,
        looks: bool,
        held: Option<Duration>,
        now: Duration,
    ) -> Self {
        Self {
            since: now,
            head,
            looks,
            void: false,
            patient: held.is_none_or(|at| at.saturating_add(HOLD_GAP) <= now),
            bytes: None,
            came: None,
        }
    }

    /// So much has come of it.
    pub(super) fn gets_on(&mut self, bytes: u64, now: Duration) {
        self.bytes = self.bytes.max(Some(bytes));
        if bytes > 0 {
            self.came = self.came.or(Some(now));
        }
    }

    /// Whether what has come of it is much, also for the time that it took. A channel that opens slowly
    /// and a device that looks for what to send are not held against it, up to [`PREPARES`].
    pub(super) fn was_worth_it(&self, now: Duration) -> bool {
        let waited = self.came.unwrap_or(now).saturating_sub(self.since);
        let took = now.saturating_sub(self.since);
        let took = took.saturating_sub(waited.min(PREPARES)).as_secs();
        self.bytes.unwrap_or(0) >= WORTH.max(took.saturating_mul(WORTH_PER_SECOND))
    }

    /// Until when others do not start.
    pub(super) fn holds_until(&self) -> Duration {
        let hold = match self.bytes.filter(|_| self.patient) {
            None => PATIENCE,
            Some(bytes) => PATIENCE
                .saturating_add(PREPARES)
                .saturating_add(Duration::from_secs(bytes / GETS_ON))
                .min(LONGEST_HOLD),
        };
        self.since.saturating_add(hold)
    }

    /// Whether it has kept others waiting for more than [`PATIENCE`].
    pub(super) fn held(&self, now: Duration) -> bool {
        let begun = self.patient && self.bytes.is_some();
        begun && self.since.saturating_add(PATIENCE) < now
    }
}
