//! Judging what was fetched, beside the conversation's actor: whoever writes or reads meanwhile
//! does not wait for it.
//!
//! The verdict on a commit depends on the commit and its ancestors, not on where our head is. So a
//! [`Judging`] takes along what it needs (the objects, and which commits are known to be valid) and
//! is run anywhere; its result, a [`Judged`], is then handed to the actor, which has little left to
//! do. A long history enters in steps of [`STEP`] commits, each a turn of its own.

use super::Conversation;
use super::making::Making;
use super::repo::{Repo, RepoError, Snapshot, Taken, snapshot};
use super::timeline::{Authors, CHUNK, Made, Written};
use super::wire::MAX_PACK;
use crate::actor::NoAnswer;
use crate::crypto::AwsLc;
use crate::store::index::{Index, IndexError, Rows};
use crate::store::objects::{ObjectStore, Quarantine};
use serde::{Deserialize, Serialize};
use starling_core::api::{CommitFault, ConversationVerdict};
use starling_core::crypto::Crypto as _;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::swarm::merge::Relation;
use starling_core::swarm::message::ConversationMode;
use starling_core::swarm::misbehaviour::Fault;
use starling_core::swarm::object::Objects;
use starling_core::swarm::spread::MAX_ARRIVED;
use starling_core::swarm::validate::{Accepted, Batch, Limits, RULES, Validation};
use starling_core::swarm::write;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

/// Commits that enter the history in one turn of the actor, about: some tenths of a second.
const STEP: usize = 1024;

/// As many judged commits are kept in memory until they enter; more wait in the index.
const SHORT: usize = 256;

/// Bytes of packs that broke off of which something is kept that is no part of the history yet: as
/// much as a whole fetch may bring.
const MAX_PARTS: u64 = MAX_PACK;

/// As many commits of broken packs are offered to who is asked next.
const MAX_PART_HEADS: usize = 8;

/// What is kept of packs that broke off, and is no part of the history.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Parts {
    heads: Vec<ObjectId>,
    bytes: u64,
}

/// Commits that are judged at a time: enough to keep all cores busy with their signatures for some
/// hundredths of a second.
const AT_ONCE: usize = 512;

/// Why judging ended without a verdict.
enum Ended {
    /// A rule is broken.
    Fault(Box<Fault>),
    /// It was called off.
    CalledOff,
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

impl From<Ended> for RepoError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Fault(fault) => Self::Rejected(fault),
            Ended::CalledOff => Self::NoAnswer(NoAnswer::Stopped),
        }
    }
}

/// Commits that were found valid.
pub struct Valid {
    /// Which, oldest first.
    pub commits: Vec<ObjectId>,
    /// Their trees.
    pub trees: BTreeSet<ObjectId>,
}

/// Validates, oldest first. `go_on` is asked before every batch. Of many commits some are read, while the signatures of
/// those before are checked on all cores, while `each` takes those before in.
fn validate(
    validation: Result<Validation<'_>, Fault>,
    go_on: &dyn Fn() -> bool,
    mut each: impl FnMut(Accepted) + Send,
) -> Result<Valid, Ended> {
    let mut validation = validation?;
    let mut trees = BTreeSet::new();
    let mut take = |commits: Vec<Accepted>| {
        for commit in commits {
            trees.insert(commit.commit.tree);
            each(commit);
        }
    };
    if validation.commits().len() <= AT_ONCE {
        while go_on() {
            let Some(batch) = validation.next_batch(AT_ONCE)? else {
                let commits = validation.into_commits();
                return Ok(Valid { commits, trees });
            };
            batch.verdict(&AwsLc.verify_batch(&batch.checks))?;
            take(batch.commits);
        }
        return Err(Ended::CalledOff);
    }
    thread::scope(|scope| {
        // No queues: a batch may be megabytes.
        let (check, checking) = mpsc::sync_channel::<Batch>(0);
        let (pass, passing) = mpsc::sync_channel(0);
        let checker = scope.spawn(move || {
            for batch in checking {
                batch.verdict(&AwsLc.verify_batch(&batch.checks))?;
                if pass.send(batch.commits).is_err() {
                    break;
                }
            }
            Ok::<_, Fault>(())
        });
        let taker = scope.spawn(move || passing.into_iter().for_each(&mut take));
        let judged = loop {
            if !go_on() {
                break Err(Ended::CalledOff);
            }
            match validation.next_batch(AT_ONCE) {
                Ok(None) => break Ok(()),
                // It is not taken any more where one before it is at fault.
                Ok(Some(batch)) => match check.send(batch) {
                    Ok(()) => {}
                    Err(_) => break Ok(()),
                },
                Err(fault) => break Err(fault.into()),
            }
        };
        drop(check);
        let (checked, taken) = (checker.join(), taker.join());
        // What was handed on stands before what was read last.
        checked.unwrap_or_else(|panic| resume_unwind(panic))?;
        taken.unwrap_or_else(|panic| resume_unwind(panic));
        judged
    })?;
    Ok(Valid {
        commits: validation.into_commits(),
        trees,
    })
}

/// What the index says of a commit that was found valid.
enum Row {
    /// It is part of the history; its generation.
    Placed(u32),
    /// It stands aside; its parents.
    Aside(Vec<ObjectId>),
}

/// Which commits were found valid before, part of the history or not: read from the index.
pub struct Known {
    index: Index,
    conversation: ConversationId,
    /// Generations of those that stand aside, as they were counted.
    counted: Mutex<BTreeMap<ObjectId, u32>>,
}

impl Known {
    pub(super) fn new(index: Index, conversation: ConversationId) -> Self {
        Self {
            index,
            conversation,
            counted: Mutex::default(),
        }
    }

    /// Whether a commit is. What cannot be read is not: it is judged again.
    fn contains(&self, id: &ObjectId) -> bool {
        self.generation(id).is_some()
    }

    /// The generation of a commit, if it is. That of what stands aside is counted from what is below it.
    pub(super) fn generation(&self, id: &ObjectId) -> Option<u32> {
        let found = self.count(id);
        found.unwrap_or_else(|e| {
            tracing::warn!(%e, "the index cannot be read");
            None
        })
    }

    fn count(&self, id: &ObjectId) -> Result<Option<u32>, IndexError> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut todo = vec![(*id, None::<Vec<ObjectId>>)];
        while let Some((id, below)) = todo.pop() {
            if counted.contains_key(&id) {
                continue;
            }
            if let Some(below) = below {
                let most = below.iter().filter_map(|p| counted.get(p)).max();
                let generation = most.map_or(0, |most| most.saturating_add(1));
                counted.insert(id, generation);
                continue;
            }
            // One at a time: others use the index, too.
            match self.row(&id)? {
                Some(Row::Placed(generation)) => {
                    // Placed ones are many, and quickly looked up.
                    if todo.is_empty() {
                        return Ok(Some(generation));
                    }
                    counted.insert(id, generation);
                }
                Some(Row::Aside(parents)) => {
                    todo.push((id, Some(parents.clone())));
                    todo.extend(parents.into_iter().map(|p| (p, None)));
                }
                None => return Ok(None),
            }
        }
        Ok(counted.get(id).copied())
    }

    fn row(&self, id: &ObjectId) -> Result<Option<Row>, IndexError> {
        self.index.read(|db| {
            let Some(rows) = Rows::of(db, &self.conversation)? else {
                return Ok(None);
            };
            if let Some(generation) = rows.generation(id)? {
                return Ok(Some(Row::Placed(generation)));
            }
            Ok(rows.aside(id)?.map(|aside| Row::Aside(aside.parents)))
        })
    }

    /// Adds commits that were found valid and are in the store, as no part of the history yet.
    fn add(&self, new: &[Written]) -> Result<(), IndexError> {
        self.index.change::<_, IndexError>(|tx| {
            if let Some(rows) = Rows::of(tx, &self.conversation)? {
                for Written(row) in new {
                    if rows.place(&row.id)?.is_none() {
                        rows.put_aside(row)?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// All that judging a head takes.
pub struct Judging {
    id: ConversationId,
    store: Arc<ObjectStore>,
    known: Known,
    ours: ObjectId,
    /// What a history may ask of us.
    pub limits: Limits,
}

/// A head that is here and valid.
pub struct Judged {
    head: ObjectId,
    /// Our head, as it was.
    ours: ObjectId,
    /// How the two stand to each other.
    relation: Relation,
    waiting: Waiting,
}

/// What is remembered of a head until it enters the history.
pub(super) struct Waiting {
    /// What it brings, if that is little; else it is in the index.
    new: Vec<Written>,
    /// Commits below it, oldest first, each of which has all before it as ancestors.
    steps: Vec<ObjectId>,
}

/// What is kept of a pack that broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All up to this commit, and how that stands to our head: where it is ahead, our head may go
    /// there at once.
    UpTo(ObjectId, Relation),
    /// Nothing.
    Nothing {
        /// A commit far below of which it told: the pack of that one is smaller.
        below: Option<ObjectId>,
    },
}

/// Finds the commits at which a history can be taken in by pieces.
struct Steps {
    /// Commits that none of those seen builds on.
    loose: BTreeSet<ObjectId>,
    since: usize,
    found: Vec<ObjectId>,
}

impl Steps {
    fn new() -> Self {
        Self {
            loose: BTreeSet::new(),
            since: 0,
            found: Vec::new(),
        }
    }

    /// The next commit, parents before children.
    fn see(&mut self, id: ObjectId, parents: &[ObjectId]) {
        for parent in parents {
            self.loose.remove(parent);
        }
        self.loose.insert(id);
        self.since += 1;
        if self.since >= STEP && self.loose.len() == 1 {
            self.since = 0;
            self.found.push(id);
        }
    }
}

impl Judging {
    /// Validates a head and keeps what it brings, without making it part of the history. Without
    /// a quarantine its objects are all here although it is no part of the history: they were
    /// accepted, and then the disk was full or the power went; nothing of it counts as checked.
    /// Takes as long as the history is. `go_on` is asked now and then.
    pub fn judge(
        self,
        quarantine: Option<Quarantine>,
        head: ObjectId,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Judged, RepoError> {
        let objects: &dyn Objects = match &quarantine {
            Some(quarantine) => quarantine,
            None => &*self.store,
        };
        let known = |id: &ObjectId| self.known.generation(id);
        let (mut new, mut steps) = (Vec::new(), Steps::new());
        let take = |c: Accepted| {
            steps.see(c.id, &c.commit.parents);
            if new.len() <= SHORT {
                new.push(Written::new(c.id, &c.commit, c.account()));
            }
        };
        let validation = Validation::within(self.limits, objects, self.id, &known, head);
        let Valid { commits, trees } = validate(validation, go_on, take)?;
        if let Some(quarantine) = quarantine {
            quarantine.accept_with(&commits, &trees)?;
        }
        if commits.len() > SHORT {
            new = Vec::new();
            self.put_aside(&commits, go_on)?;
        }
        Ok(Judged {
            head,
            ours: self.ours,
            relation: write::relation(&*self.store, Some(&known), self.ours, head)?,
            waiting: Waiting {
                new,
                steps: steps.found,
            },
        })
    }

    /// Notes many commits in the index, in pieces: others use it, too.
    fn put_aside(&self, commits: &[ObjectId], go_on: &dyn Fn() -> bool) -> Result<(), RepoError> {
        let mut authors = Authors::new(&*self.store, self.id);
        for piece in commits.chunks(CHUNK) {
            if !go_on() {
                return Err(NoAnswer::Stopped.into());
            }
            let written = |id: &ObjectId| authors.written(RULES, *id);
            let rows: Result<Vec<Written>, _> = piece.iter().map(written).collect();
            self.known.add(&rows?)?;
        }
        Ok(())
    }
}

/// Checks a clone: every commit, and that it is meant for us. Gives who is in it, and its commits.
/// What is valid goes into its index at once.
pub fn check_clone(
    limits: Limits,
    id: ConversationId,
    objects: &dyn Objects,
    head: ObjectId,
    own: &AccountId,
    go_on: &dyn Fn() -> bool,
    mut making: Option<&mut Making>,
) -> Result<(Snapshot, Valid), RepoError> {
    let validation = Validation::within(limits, objects, id, &|_| None, head);
    let valid = validate(validation, go_on, |c| {
        if let Some(making) = &mut making {
            making.add(Made::new(RULES, c.id, &c.commit, c.account()));
        }
    })?;
    let snapshot = snapshot(objects, id, head)?;
    if snapshot.mode == ConversationMode::Document {
        return Err(RepoError::Document);
    }
    if !snapshot.may_fetch(own) {
        return Err(RepoError::NotForUs);
    }
    Ok((snapshot, valid))
}

/// Checks a part of a clone: every commit up to one that is not `known`. Gives those.
pub fn check_part(
    limits: Limits,
    id: ConversationId,
    objects: &dyn Objects,
    known: &dyn Fn(&ObjectId) -> bool,
    newest: ObjectId,
    go_on: &dyn Fn() -> bool,
) -> Result<Valid, RepoError> {
    let validation = Validation::piece(limits, objects, id, known, newest);
    Ok(validate(validation, go_on, drop)?)
}

impl Conversation {
    /// Judges a head that was fetched, while the conversation goes on, and notes it to be taken in
    /// by [`Repo::adopt`]. Says how it stands to our head. See [`Judging::judge`].
    pub async fn judge(
        &self,
        quarantine: Option<Quarantine>,
        head: ObjectId,
        go_on: impl Fn() -> bool + Send,
    ) -> Result<Relation, RepoError> {
        let Some(mut judging) = self.ask(move |r| r.judging(&head)).await? else {
            return Ok(Relation::UpToDate);
        };
        judging.limits = self.limits;
        let judged = {
            let go_on = || !self.ended.is_cancelled() && go_on();
            let judge = AssertUnwindSafe(|| judging.judge(quarantine, head, &go_on));
            // As in the actor: a fault of ours ends nothing but this.
            tokio::task::block_in_place(|| catch_unwind(judge))
                .unwrap_or(Err(NoAnswer::Failed.into()))?
        };
        self.ask(move |r| r.judged(judged)).await?
    }

    /// Keeps what is whole of a pack that broke off: valid commits, so that whoever is asked next
    /// need not send them again. `commits` as they came.
    ///
    /// Nothing but commits that could come in any other way is kept, and what is not part of the
    /// history takes [`MAX_PARTS`] at most: a peer that breaks off again and again fills no disk.
    pub async fn keep_part(
        &self,
        quarantine: Quarantine,
        commits: Vec<ObjectId>,
        go_on: impl Fn() -> bool + Send,
    ) -> Result<Kept, RepoError> {
        let known = self.ask(|r| r.timeline().known()).await?;
        let found = tokio::task::block_in_place(|| {
            let known = |id: &ObjectId| known.contains(id);
            match quarantine.newest_whole(&commits, &known) {
                Some(newest) => Ok(newest),
                None => Err(quarantine.below(&commits, &known)),
            }
        });
        match found {
            Ok(newest) => self.keep_up_to(quarantine, newest, go_on).await,
            Err(below) => Ok(Kept::Nothing { below }),
        }
    }

    /// The same with a commit of which it is known that it is whole, with all below it.
    pub async fn keep_up_to(
        &self,
        quarantine: Quarantine,
        newest: ObjectId,
        go_on: impl Fn() -> bool + Send,
    ) -> Result<Kept, RepoError> {
        let bytes = quarantine.bytes();
        if !self.ask(move |r| r.has_room_for_part(bytes)).await? {
            tracing::debug!(conversation = %self.id, "too much is kept of broken packs already");
            return Ok(Kept::Nothing { below: None });
        }
        let relation = self.judge(Some(quarantine), newest, go_on).await?;
        if matches!(relation, Relation::Diverged | Relation::Alike) {
            self.ask(move |r| r.note_part(newest, bytes)).await??;
        }
        Ok(Kept::UpTo(newest, relation))
    }

    /// Checks every commit again, while the conversation goes on.
    pub async fn verify(&self) -> Result<ConversationVerdict, RepoError> {
        let (store, id, head) = (self.store.clone(), self.id, self.head());
        let go_on = || !self.ended.is_cancelled();
        let limits = self.limits;
        let check = || {
            let validation = Validation::within(limits, &*store, id, &|_| None, head);
            validate(validation, &go_on, drop)
        };
        let all = tokio::task::block_in_place(check);
        let faults = match all {
            Ok(_) => Vec::new(),
            Err(Ended::Fault(f)) => vec![CommitFault {
                commit: f.commit,
                rule: f.misbehaviour.name(),
                detail: f.misbehaviour.to_string(),
                device: f.device,
            }],
            Err(Ended::CalledOff) => return Err(NoAnswer::Stopped.into()),
        };
        Ok(ConversationVerdict {
            // All there are, not those before the fault.
            commits: self.ask(|r| r.timeline().len() as u64).await?,
            valid: faults.is_empty(),
            faults,
        })
    }
}

impl Repo {
    /// What judging a head takes. Nothing: it is part of the history, or brought nothing to it.
    pub fn judging(&self, head: &ObjectId) -> Option<Judging> {
        (!self.is_settled(head)).then(|| Judging {
            id: self.id,
            store: self.store.clone(),
            known: self.timeline.known(),
            ours: self.head,
            limits: Limits::default(),
        })
    }

    /// Notes a head that was judged. Says how it stands to ours, which may have moved meanwhile.
    pub fn judged(&mut self, judged: Judged) -> Result<Relation, RepoError> {
        let Judged {
            head,
            ours,
            relation,
            waiting,
        } = judged;
        if self.is_settled(&head) {
            return Ok(Relation::UpToDate);
        }
        let relation = if self.head == ours {
            relation
        } else if waiting.steps.is_empty() {
            self.relation(self.head, head)?
        } else {
            // Most likely; it is looked at anew when the head is taken in.
            Relation::Diverged
        };
        if self.waiting.len() >= MAX_ARRIVED
            && let Some((_, dropped)) = self.waiting.pop_first()
        {
            self.timeline.remember(dropped.new);
        }
        self.waiting.insert(head, waiting);
        Ok(relation)
    }

    /// Commits to tell a device of when fetching, best first. What somebody's device is known to have comes before what
    /// only lies near that: so no more is sent than what is missing, however long the two were apart.
    pub fn haves(&self, device: &DeviceId) -> Vec<ObjectId> {
        let parts = self.progress.parts.heads.iter().copied();
        let mut haves: Vec<ObjectId> = parts.filter(|id| self.store.contains(id)).collect();
        let common = self.progress.fetched.get(device).map(|f| f.commit);
        haves.extend(common);
        let sampled = self.timeline.haves().into_iter();
        haves.extend(sampled.filter(|id| Some(*id) != common));
        haves
    }

    fn has_room_for_part(&self, bytes: u64) -> bool {
        self.progress.parts.bytes.saturating_add(bytes) <= MAX_PARTS
    }

    /// Remembers a commit that is here and valid, for as long as it is no part of the history.
    fn note_part(&mut self, newest: ObjectId, bytes: u64) -> Result<(), RepoError> {
        if let Some(waiting) = self.waiting.remove(&newest) {
            self.timeline.remember(waiting.new);
        }
        let parts = &mut self.progress.parts;
        if parts.heads.len() >= MAX_PART_HEADS {
            parts.heads.remove(0);
        }
        parts.heads.push(newest);
        parts.bytes = parts.bytes.saturating_add(bytes);
        self.keep_progress()
    }

    /// The head has moved: what was kept may be part of the history now.
    pub(super) fn forget_parts(&mut self) {
        let mut parts = std::mem::take(&mut self.progress.parts);
        let before = parts.heads.len();
        parts.heads.retain(|id| !self.holds(id));
        let fewer = parts.heads.len() < before;
        if parts.heads.is_empty() {
            parts.bytes = 0;
        }
        self.progress.parts = parts;
        if fewer && let Err(e) = self.keep_progress() {
            tracing::warn!(conversation = %self.id, %e, "what is kept of broken packs is not noted");
        }
    }

    /// Whether a head can be taken in: it was judged.
    pub fn is_judged(&self, head: &ObjectId) -> bool {
        self.waiting.contains_key(head) || self.timeline.contains(head)
    }

    /// Commits at which to pause when a head is taken in, oldest first: see [`Self::adopt_step`].
    pub fn steps_to(&mut self, head: &ObjectId) -> Vec<ObjectId> {
        let waiting = self.waiting.get_mut(head);
        waiting
            .map(|w| std::mem::take(&mut w.steps))
            .unwrap_or_default()
    }

    /// Makes a commit below a judged head the newest, if ours is an ancestor of it. `None`: it is
    /// not, since something was written here meanwhile, and there is only one way to the head.
    pub fn adopt_step(
        &mut self,
        step: ObjectId,
        now_unix: u64,
    ) -> Result<Option<Taken>, RepoError> {
        if self.holds(&step) {
            return Ok(Some(Taken::Nothing));
        }
        match self.relation(self.head, step)? {
            Relation::FastForward => self.enter(Vec::new(), step, now_unix).map(Some),
            Relation::UpToDate | Relation::Diverged | Relation::Alike => Ok(None),
        }
    }

    /// Makes a head that was judged part of the history.
    pub fn adopt(&mut self, theirs: ObjectId, now_unix: u64) -> Result<Taken, RepoError> {
        let waiting = self.waiting.remove(&theirs);
        // A merge that was left aside is looked at again: our head is another one by now.
        if self.holds(&theirs) {
            return Ok(Taken::Nothing);
        }
        let new = match waiting {
            Some(waiting) => waiting.new,
            None if self.timeline.contains(&theirs) => Vec::new(),
            None => {
                // The index was made anew in this moment.
                let known = self.timeline.known();
                let known = |id: &ObjectId| known.generation(id);
                let mut new = Vec::new();
                let take = |c: Accepted| new.push(Written::new(c.id, &c.commit, c.account()));
                let limits = Limits::default();
                let validation = Validation::within(limits, &*self.store, self.id, &known, theirs);
                validate(validation, &|| true, take)?;
                new
            }
        };
        self.enter(new, theirs, now_unix)
    }

    /// Whether a commit is our head or an ancestor of it.
    pub fn holds(&self, commit: &ObjectId) -> bool {
        self.timeline.is_after(commit, None)
    }

    /// Whether nothing is to be done about a head: it is in the history, or brought nothing to it.
    pub fn is_settled(&self, head: &ObjectId) -> bool {
        self.holds(head) || self.left.contains(head)
    }

    /// A merge brings nothing.
    pub(super) fn leave_aside(&mut self, head: ObjectId) {
        if self.left.len() >= MAX_ARRIVED {
            self.left.pop_first();
        }
        self.left.insert(head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> ObjectId {
        let mut id = [0; 20];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        ObjectId(id)
    }

    #[test]
    fn a_history_is_taken_in_where_all_of_it_meets() {
        let mut steps = Steps::new();
        for n in 1..=STEP * 2 + 10 {
            // A side branch stands open over the place of the first step.
            match n {
                _ if n == STEP - 1 => steps.see(id(n), &[id(n - 2)]),
                _ if n == STEP + 3 => steps.see(id(n), &[id(n - 1), id(STEP - 1)]),
                _ if n == STEP => steps.see(id(n), &[id(n - 2)]),
                _ => steps.see(id(n), &[id(n - 1)]),
            }
        }
        assert_eq!(steps.found, [id(STEP + 3), id(STEP * 2 + 3)]);
    }
}
