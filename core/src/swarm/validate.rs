//! Is this history what honest devices would have written?
//!
//! Two phases, so that signatures can be checked wherever that is fastest: first
//! the structure of a batch of commits, which gives the signatures to check, then
//! the verdict over their results. The verdict on a commit depends on the commit,
//! its ancestors and nothing else: not on the day, not on what else is known here.
//! One exception is [`Misbehaviour::TooTangled`], which bounds what all merges of
//! a fetch may take together.

use super::ancestry::{Generations, MANY, WalkError, Walker};
use super::commit::Commit;
use super::judge::{Author, Judge};
use super::message::Message;
use super::misbehaviour::{Fault, Misbehaviour};
use super::object::Objects;
use super::order::linear;
use super::path::{Target, TreePath};
use super::rules::Case;
use crate::crypto::{Crypto, SignatureAlgorithm, SignatureCheck};
use crate::id::{AccountId, ConversationId, DeviceId, ObjectId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of the rules: to be raised when a commit that was accepted before may be refused now,
/// so that histories that were taken in under older rules are looked at again.
pub const RULES: u32 = 2;

/// Most commits validated at once: a chatty group of a decade; about 200 bytes of memory each. Our limit.
pub const MAX_COMMITS: usize = 2_000_000;

/// What a history may ask of us. [`Limits::default`] is what Starling uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most commits validated at once.
    pub commits: usize,
    /// Steps that searching the common ancestors of merges may take, all together.
    pub steps: u64,
    /// And so many more for each new commit, or for each generation up to the head where those are more: what was
    /// validated earlier counts by its longest line.
    pub steps_per_commit: u64,
}

impl Limits {
    /// Steps that one validation may take, however few commits it has: see [`Limits::default`].
    pub const STEPS: u64 = 2_000_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            commits: MAX_COMMITS,
            // An honest merge is a handful of commits from where its sides parted; 100,000 commits
            // that part for years and meet are within it. Our limits.
            steps: Self::STEPS,
            steps_per_commit: 200,
        }
    }
}

/// How many commits [`validate`] takes at a time: enough to keep all cores busy with
/// signatures, few enough to stay within some megabytes.
pub const BATCH: usize = 2_048;

/// Bytes of commits after which a batch is full, however few they are: a commit may have megabytes,
/// and is held four times while it is checked, and a batch or two beside it. Our choice: about a full
/// batch of what people write.
const BATCH_BYTES: usize = 1 << 20;

/// A commit whose structure is in order.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Its id: the message's id.
    pub id: ObjectId,
    /// The commit.
    pub commit: Commit,
    /// Its message, by type.
    pub message: Message,
    /// Who wrote it.
    pub author: Arc<Author>,
}

impl Accepted {
    /// The account that wrote it.
    pub fn account(&self) -> AccountId {
        self.author.account
    }
}

/// What a signature is to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proves {
    /// The device wrote the commit.
    Commit,
    /// The account vouches for the device.
    Device,
}

/// A signature to check, and for what.
#[derive(Debug, Clone)]
pub struct Question {
    /// The commit that stands or falls with it.
    pub commit: ObjectId,
    /// What it proves.
    pub proves: Proves,
    device: DeviceId,
    account: AccountId,
}

impl Question {
    /// What it means that the signature is wrong.
    fn fault(&self) -> Fault {
        Fault {
            commit: self.commit,
            device: Some(self.device),
            account: Some(self.account),
            misbehaviour: Box::new(match self.proves {
                Proves::Commit => Misbehaviour::WrongSignature,
                Proves::Device => Misbehaviour::ForgedDevice,
            }),
        }
    }
}

/// Some commits, parents before children, and the signatures they need.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The commits, oldest first.
    pub commits: Vec<Accepted>,
    /// The signatures, in the commits' order.
    pub checks: Vec<SignatureCheck>,
    /// What each of them is for.
    pub questions: Vec<Question>,
}

impl Batch {
    /// The verdict, given the checks' answers in their order. A missing answer counts as no.
    pub fn verdict(&self, results: &[bool]) -> Result<(), Fault> {
        for (n, question) in self.questions.iter().enumerate() {
            if results.get(n) != Some(&true) {
                return Err(question.fault());
            }
        }
        Ok(())
    }
}

/// The structure of a commit is in order: what it says, whose it is, what it is to be proven by.
type Judged = (Message, Arc<Author>, Vec<(Proves, SignatureCheck)>);

/// A validation under way.
pub struct Validation<'a> {
    judge: Judge<'a>,
    commits: Vec<ObjectId>,
    at: usize,
    /// Whether ancestors may be missing: a window of commits, not a whole history.
    window: bool,
    limits: Limits,
    /// What merges that are judged soon have in common.
    bases: BTreeMap<ObjectId, Vec<ObjectId>>,
}

/// What a search for common ancestors may cost before the next merges are searched for together: they, too, may be far
/// from where their sides parted.
const FAR: u64 = 1_000;

/// The trees of a merge's parents.
fn sides(
    walker: &mut Walker<'_>,
    (first, second): (ObjectId, ObjectId),
) -> Result<(ObjectId, ObjectId), WalkError> {
    Ok((walker.step(first)?.tree, walker.step(second)?.tree))
}

/// What changes nothing drops nothing: its sides need not be compared with what they have in common.
fn changes_nothing(sides: (ObjectId, ObjectId), tree: ObjectId) -> bool {
    sides == (tree, tree)
}

/// The newest common ancestors of a merge's parents. If those are far, also of the next merges that drop something.
fn bases_of(
    walker: &mut Walker<'_>,
    found: &mut BTreeMap<ObjectId, Vec<ObjectId>>,
    (id, pair): (ObjectId, (ObjectId, ObjectId)),
    next: &[ObjectId],
    most: usize,
) -> Result<Vec<ObjectId>, WalkError> {
    if let Some(bases) = found.remove(&id) {
        return Ok(bases);
    }
    let before = walker.left();
    let bases = walker.merge_bases(pair.0, pair.1, most)?;
    let (left, cost) = (walker.left(), before.saturating_sub(walker.left()));
    // A page judges what it shows, each commit for itself, and is to stay small.
    if cfg!(target_family = "wasm") || cost < FAR || !walker.follows() {
        return Ok(bases);
    }
    let (mut ids, mut pairs) = (Vec::new(), Vec::new());
    // No more are read than were just walked.
    let ahead = usize::try_from(cost).unwrap_or(usize::MAX).min(next.len());
    for id in next.iter().take(ahead) {
        let step = walker.step(*id)?;
        let (tree, [first, second]) = (step.tree, step.node.parents.as_slice()) else {
            continue;
        };
        let pair = (*first, *second);
        if !changes_nothing(sides(walker, pair)?, tree) {
            ids.push(*id);
            pairs.push(pair);
        }
        if pairs.len() == MANY {
            break;
        }
    }
    match walker.merge_bases_of(&pairs, most) {
        Ok(all) => found.extend(ids.into_iter().zip(all)),
        // Each has its own turn, and its own fault.
        Err(_) => walker.allow(left),
    }
    Ok(bases)
}

impl<'a> Validation<'a> {
    /// Everything that can be reached from `head` and not from `have`, or all without `have`.
    pub fn new(
        objects: &'a dyn Objects,
        conversation: ConversationId,
        have: Option<ObjectId>,
        head: ObjectId,
    ) -> Result<Self, Fault> {
        let limits = Limits::default();
        let mut judge = Judge::new(objects, conversation);
        let new = match have {
            Some(have) => {
                let new = judge.walker.new_commits(head, have, limits.commits);
                let new = new.map(|new| linear(head, &new));
                if let Ok(new) = &new {
                    judge.walker.place(new.iter().rev());
                }
                new
            }
            None => judge
                .walker
                .order_and_follow(head, &|_| None, limits.commits),
        };
        Self::start(judge, head, new, limits)
    }

    /// Everything that can be reached from `head` before something `known`, which was validated earlier: whatever has a
    /// generation. So searches take as many steps as for somebody who validates all at once.
    pub fn with_known(
        objects: &'a dyn Objects,
        conversation: ConversationId,
        known: &'a Generations<'a>,
        head: ObjectId,
    ) -> Result<Self, Fault> {
        Self::within(Limits::default(), objects, conversation, known, head)
    }

    /// The same within other limits.
    pub fn within(
        limits: Limits,
        objects: &'a dyn Objects,
        conversation: ConversationId,
        known: &'a Generations<'a>,
        head: ObjectId,
    ) -> Result<Self, Fault> {
        let mut judge = Judge::new(objects, conversation);
        let new = judge.walker.order_and_follow(head, known, limits.commits);
        Self::start(judge, head, new, limits)
    }

    /// The same with something known by its id alone: a piece of a history that is judged again when all of it is there.
    /// Searches may take more steps than they do then.
    pub fn piece(
        limits: Limits,
        objects: &'a dyn Objects,
        conversation: ConversationId,
        known: &dyn Fn(&ObjectId) -> bool,
        head: ObjectId,
    ) -> Result<Self, Fault> {
        let mut judge = Judge::new(objects, conversation);
        let new = judge.walker.order(head, known, limits.commits);
        if let Ok(new) = &new {
            judge.walker.place(new.iter().rev());
        }
        Self::start(judge, head, new, limits)
    }

    /// Some commits for themselves, each against its parents: what a page shows. Objects further
    /// back may be missing; then it is not checked that merges drop nothing.
    pub fn window(
        objects: &'a dyn Objects,
        conversation: ConversationId,
        commits: Vec<ObjectId>,
    ) -> Self {
        Self {
            judge: Judge::new(objects, conversation),
            commits,
            at: 0,
            window: true,
            limits: Limits::default(),
            bases: BTreeMap::new(),
        }
    }

    fn start(
        mut judge: Judge<'a>,
        head: ObjectId,
        new: Result<Vec<ObjectId>, WalkError>,
        limits: Limits,
    ) -> Result<Self, Fault> {
        let mut commits = new.map_err(|error| {
            let commit = match error {
                WalkError::Missing(id) | WalkError::NotACommit(id) => id,
                WalkError::TooMany(_) | WalkError::TooTangled => head,
            };
            // The walk says only that it cannot be read; say why.
            let misbehaviour = match (&error, judge.commit(commit)) {
                (WalkError::NotACommit(_), Err(why)) => why,
                _ => error.into(),
            };
            Fault::of(commit, misbehaviour)
        })?;
        commits.reverse();
        // As many as for whoever validates all of it: what is new may be few merges of a long history.
        let below = judge.walker.depth(&head).unwrap_or(0) as usize;
        let all = commits.len().max(below) as u64;
        let steps = limits.steps_per_commit.saturating_mul(all);
        judge.walker.allow(steps.saturating_add(limits.steps));
        Ok(Self {
            judge,
            commits,
            at: 0,
            window: false,
            limits,
            bases: BTreeMap::new(),
        })
    }

    /// Devices of managed accounts, whose certificates name no account, by what is known of them elsewhere.
    pub fn pin(&mut self, pinned: BTreeMap<DeviceId, AccountId>) {
        self.judge.pinned = pinned;
    }

    /// The commits to validate, oldest first.
    pub fn commits(&self) -> &[ObjectId] {
        &self.commits
    }

    /// The same, when it is over.
    pub fn into_commits(self) -> Vec<ObjectId> {
        self.commits
    }

    /// Judges the structure of the next `max` commits, or fewer if they are large. `None` when all
    /// are done.
    pub fn next_batch(&mut self, max: usize) -> Result<Option<Batch>, Fault> {
        let mut batch = Batch::default();
        let mut bytes = 0usize;
        while batch.commits.len() < max.max(1) && bytes < BATCH_BYTES {
            let Some(id) = self.commits.get(self.at).copied() else {
                break;
            };
            self.at = self.at.saturating_add(1);
            self.judge_commit(id, &mut batch)?;
            let signed = batch.checks.last().map_or(0, |c| c.message.len());
            bytes = bytes.saturating_add(signed);
        }
        Ok(if batch.commits.is_empty() {
            None
        } else {
            Some(batch)
        })
    }

    /// Both phases for everything that is left.
    pub fn run(mut self, crypto: &dyn Crypto) -> Result<Verdict, Fault> {
        while let Some(batch) = self.next_batch(BATCH)? {
            batch.verdict(&crypto.verify_batch(&batch.checks))?;
        }
        Ok(Verdict {
            commits: self.commits,
        })
    }

    /// Judges everything that is left and gathers what is at fault instead of stopping at the
    /// first, up to `max` faults: for looking into a history, not for taking it in.
    pub fn survey(&mut self, crypto: &dyn Crypto, max: usize) -> Vec<Fault> {
        let mut faults = Vec::new();
        while self.at < self.commits.len() && faults.len() < max {
            let (mut batch, mut bytes) = (Batch::default(), 0usize);
            while batch.commits.len() < BATCH && bytes < BATCH_BYTES {
                let Some(id) = self.commits.get(self.at).copied() else {
                    break;
                };
                self.at = self.at.saturating_add(1);
                match self.judge_commit(id, &mut batch) {
                    Ok(()) => {
                        let signed = batch.checks.last().map_or(0, |c| c.message.len());
                        bytes = bytes.saturating_add(signed);
                    }
                    Err(fault) => faults.push(fault),
                }
            }
            let results = crypto.verify_batch(&batch.checks);
            let wrong = batch
                .questions
                .iter()
                .enumerate()
                .filter(|(n, _)| results.get(*n) != Some(&true));
            faults.extend(wrong.map(|(_, question)| question.fault()));
        }
        faults.truncate(max);
        faults
    }

    fn judge_commit(&mut self, id: ObjectId, batch: &mut Batch) -> Result<(), Fault> {
        let commit = self.judge.commit(id).map_err(|why| Fault::of(id, why))?;
        // Its children are next.
        self.judge.walker.remember(id, &commit);
        match self.judge_parsed(id, &commit) {
            Ok((message, author, checks)) => {
                for (proves, check) in checks {
                    batch.checks.push(check);
                    batch.questions.push(Question {
                        commit: id,
                        proves,
                        device: commit.device,
                        account: author.account,
                    });
                }
                batch.commits.push(Accepted {
                    id,
                    commit,
                    message,
                    author,
                });
                Ok(())
            }
            Err(misbehaviour) => {
                let mut account = self
                    .judge
                    .account_of(commit.tree, commit.device)
                    .ok()
                    .flatten();
                if account.is_none()
                    && let Some(parent) = commit.parents.first()
                    && let Ok(tree) = self.judge.walker.step(*parent).map(|s| s.tree)
                {
                    account = self.judge.account_of(tree, commit.device).ok().flatten();
                }
                Err(Fault {
                    commit: id,
                    device: Some(commit.device),
                    account,
                    misbehaviour: Box::new(misbehaviour),
                })
            }
        }
    }

    fn judge_parsed(&mut self, id: ObjectId, commit: &Commit) -> Result<Judged, Misbehaviour> {
        let (judge, most) = (&mut self.judge, self.limits.commits);
        if !commit.committer_is_author {
            return Err(Misbehaviour::CommitterDiffers);
        }
        let signature = commit
            .signature
            .clone()
            .ok_or(Misbehaviour::MissingSignature)?;
        // Where the author must stand, and the time that counts for expiry.
        let (message, author, time) = match commit.parents.as_slice() {
            [] => {
                if id != ObjectId::from(judge.conversation) {
                    return Err(Misbehaviour::ForeignRoot);
                }
                let message = Message::parse(&commit.message).map_err(Misbehaviour::from)?;
                let author = judge.judge_root(commit, &message)?;
                (message, author, commit.time)
            }
            [parent] => {
                let message = Message::parse(&commit.message).map_err(Misbehaviour::from)?;
                let parent = judge.walker.step(*parent)?;
                let (before, parent_time) = (parent.tree, parent.node.time);
                let changes = judge.trees.diff(Some(before), Some(commit.tree))?;
                let leaves = matches!(
                    message,
                    Message::Member {
                        action: super::message::Action::Remove,
                        ..
                    }
                );
                let case = Case {
                    commit,
                    before,
                    changes,
                };
                let author = judge.judge_single(&case, &message)?;
                for change in &case.changes {
                    judge.content(change.path, change.new)?;
                }
                (
                    message,
                    author,
                    // The reference looks at the parent's time, which others may have put far ahead:
                    // who could write then or now may leave.
                    if leaves {
                        parent_time.min(commit.time)
                    } else {
                        commit.time
                    },
                )
            }
            [first, second] => {
                let (first, second) = (*first, *second);
                let trees = sides(&mut judge.walker, (first, second))?;
                let bases = match changes_nothing(trees, commit.tree) {
                    true => Ok(Vec::new()),
                    false => {
                        let next = self.commits.get(self.at..).unwrap_or_default();
                        let this = (id, (first, second));
                        bases_of(&mut judge.walker, &mut self.bases, this, next, most)
                    }
                };
                let bases = match bases {
                    Ok(bases) => bases,
                    Err(WalkError::Missing(_)) if self.window => Vec::new(),
                    Err(error) => return Err(error.into()),
                };
                let mut base_trees = Vec::new();
                for base in bases {
                    base_trees.push(judge.walker.step(base)?.tree);
                }
                let author = judge.judge_merge(commit, trees, &base_trees)?;
                (
                    Message::Merge {
                        text: commit.message.clone(),
                    },
                    author,
                    commit.time,
                )
            }
            more => return Err(Misbehaviour::TooManyParents(more.len())),
        };
        let account_certificate = author.in_force_at(commit.device, time)?;
        let mut checks = Vec::with_capacity(2);
        if judge.vouched.insert((author.device_blob, author.account)) {
            let check = author
                .device_certificate
                .signature_check(account_certificate)
                .map_err(|_| Misbehaviour::ForgedDevice)?;
            checks.push((Proves::Device, check));
        }
        checks.push((
            Proves::Commit,
            SignatureCheck {
                key: author.device_certificate.spki(),
                algorithm: SignatureAlgorithm::RsaPkcs1Sha512,
                message: commit.signed.clone(),
                signature,
            },
        ));
        Ok((message, author, checks))
    }
}

impl Judge<'_> {
    /// What every new file must be: there, and a certificate of the right key where it is one.
    fn content(&mut self, path: TreePath, blob: Option<ObjectId>) -> Result<(), Misbehaviour> {
        let Some(blob) = blob else { return Ok(()) };
        match path {
            TreePath::Live(Target::Account(super::path::Standing::Invited, _))
            | TreePath::Banned(Target::Account(super::path::Standing::Invited, _))
            | TreePath::Vote(..)
            | TreePath::Profile
            | TreePath::Attachment(_) => {
                if self.trees.objects().contains(&blob) {
                    Ok(())
                } else {
                    Err(Misbehaviour::MissingObject(blob))
                }
            }
            TreePath::Live(_) | TreePath::Banned(_) => self.certificate(blob, path).map(drop),
        }
    }
}

/// What a history was found to be: in order, with these new commits, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The new commits, oldest first.
    pub commits: Vec<ObjectId>,
}

/// Both phases in one: all that `head` brings beyond `have`.
pub fn validate(
    crypto: &dyn Crypto,
    objects: &dyn Objects,
    conversation: ConversationId,
    have: Option<ObjectId>,
    head: ObjectId,
) -> Result<Verdict, Fault> {
    Validation::new(objects, conversation, have, head)?.run(crypto)
}
