//! How a conversation keeps its index up to its repository, and its history under the present rules.

use super::repo::{Repo, RepoError};
use super::timeline::{Changes, Opened, TimelineError, Written};
use crate::crypto::AwsLc;
use starling_core::crypto::Crypto as _;
use starling_core::id::ObjectId;
use starling_core::swarm::misbehaviour::Fault;
use starling_core::swarm::validate::{BATCH, Validation};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pause before it is tried again to bring the index up to the repository, for instance on a full disk.
const MEND_AGAIN: Duration = Duration::from_secs(1);

/// What a conversation says without having been asked.
#[derive(Debug)]
pub enum Said {
    /// Its index was made anew from the repository.
    IndexMade,
    /// Commits that the index had lacked are in it now.
    CaughtUp(Changes),
    /// The index could not follow the repository: the disk is full, for instance. Nothing is lost.
    Behind(TimelineError),
    /// Its history, taken in earlier, does not follow the present rules.
    Invalid(Box<Fault>),
    /// It was looked through, and does.
    Valid,
    /// Something in the bridge failed in the midst of it. It was read anew from the disk.
    Reopened,
    /// The same, and it cannot be read: it cannot be used until the next start.
    Lost(RepoError),
}

/// Who hears it.
pub type Report = Arc<dyn Fn(Said) + Send + Sync>;

impl Repo {
    /// Brings the index up to the repository, where it is not: a full disk, a damaged index. Asked
    /// before anything else is done.
    pub fn mend(&mut self) {
        if !self.timeline.is_behind(&self.head)
            || self.tried.is_some_and(|at| at.elapsed() < MEND_AGAIN)
        {
            return;
        }
        let changes = self.follow();
        if changes != Changes::default() {
            (self.report)(Said::CaughtUp(changes));
        }
    }

    fn follow(&mut self) -> Changes {
        match self.timeline.follow(self.head, false) {
            Ok((opened, changes)) => {
                self.tried = None;
                if opened == Opened::Made {
                    (self.report)(Said::IndexMade);
                }
                self.keep_snapshot(true);
                changes
            }
            Err(e) => {
                tracing::error!(conversation = %self.id, %e, "the index does not follow");
                self.tried = Some(Instant::now());
                (self.report)(Said::Behind(e));
                Changes::default()
            }
        }
    }

    /// Shows commits that are in the repository for good: what fails now must not say that they are not.
    pub(super) fn advance(&mut self, new: Vec<Written>) -> Changes {
        let ids: Vec<ObjectId> = new.iter().map(Written::id).collect();
        match self.timeline.extend(self.head, new) {
            Ok(changes) => changes,
            Err(e) => {
                tracing::warn!(conversation = %self.id, %e, "the index was not extended");
                let mut changes = self.follow();
                if changes.shown.is_empty() && !self.timeline.is_behind(&self.head) {
                    // Made anew: what is new is not told from what is old.
                    changes.shown = ids;
                    changes
                        .shown
                        .retain(|id| self.timeline.author(id).is_some());
                }
                changes
            }
        }
    }

    /// Keeps the snapshot for the next start. It can be made again.
    pub(super) fn keep_snapshot(&self, whole: bool) {
        let text = whole.then(|| serde_json::to_string(&*self.snapshot).unwrap_or_default());
        let head = self.snapshot.head;
        if let Err(e) = self.index.set_snapshot(&self.id, &head, text.as_deref()) {
            tracing::debug!(%e, "the snapshot was not kept");
        }
    }

    /// Looks at some commits that were taken in under older rules, or of which nobody knows whether
    /// they were looked at. Says whether there are more.
    pub fn look_through(&mut self) -> Result<bool, RepoError> {
        if self.at_fault || self.timeline.is_behind(&self.head) {
            return Ok(false);
        }
        let ids = self.timeline.unchecked(BATCH);
        if ids.is_empty() {
            if self.timeline.set_all_checked()? {
                (self.report)(Said::Valid);
            }
            return Ok(false);
        }
        let mut window = Validation::window(&*self.store, self.id, ids.clone());
        let mut look = || -> Result<(), Fault> {
            while let Some(batch) = window.next_batch(BATCH)? {
                batch.verdict(&AwsLc.verify_batch(&batch.checks))?;
            }
            Ok(())
        };
        if let Err(fault) = look() {
            self.at_fault = true;
            (self.report)(Said::Invalid(Box::new(fault)));
            return Ok(false);
        }
        self.timeline.set_checked(Some(&ids))?;
        Ok(true)
    }
}
