//! Fetching in steps from a device whose packs break off.
//!
//! Daemons send the newest commit first and all files last, so of a pack that breaks off nothing can
//! be kept. But it told of commits far below, whose packs are smaller, and what comes of those makes
//! the others smaller.

use starling_core::id::ObjectId;

/// Commits below one another that one device is asked for: a history that needs more breaks off too
/// soon and too often.
const MAX_STEPS: usize = 16;

/// What one device is asked for, before what it offers.
#[derive(Debug, Default)]
pub(super) struct Descent {
    /// One below the other: the last comes first.
    steps: Vec<ObjectId>,
    /// A step was of no use: there are no more.
    misled: bool,
}

impl Descent {
    /// A pack broke off, or was too large, and nothing of it can be kept; it told of a commit `below`.
    /// Says whether there is one to ask for next.
    pub(super) fn dig(&mut self, below: Option<ObjectId>) -> bool {
        let Some(below) = below.filter(|_| !self.misled) else {
            return false;
        };
        let further = self.steps.len() < MAX_STEPS && !self.steps.contains(&below);
        if further {
            self.steps.push(below);
        }
        further
    }

    /// What is asked for next, if that is not what is offered.
    pub(super) fn step(&self) -> Option<ObjectId> {
        self.steps.last().copied()
    }

    /// All up to that step is here, or it was of no use.
    pub(super) fn stepped(&mut self, well: bool) {
        match well {
            true => drop(self.steps.pop()),
            false => {
                self.steps.clear();
                self.misled = true;
            }
        }
    }

    /// What there was is asked for no more.
    pub(super) fn begin_anew(&mut self) {
        self.steps.clear();
    }
}
