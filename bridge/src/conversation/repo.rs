//! The state of one conversation, owned by its actor: repository, timeline, and
//! how far messages got. Everything here is on the disk before anyone hears of it.

use super::judging::{Parts, Waiting};
use super::keep_up::{Report, Said};
use super::timeline::{self, Changes, Damaged, Opened, Timeline, TimelineError, Written};
use super::unaccepted::Unaccepted;
use crate::actor::NoAnswer;
use crate::peer::MAX_DEVICES;
use crate::store::index::{Index, IndexError};
use crate::store::objects::{ObjectStore, StoreError};
use crate::store::state::{State, StateError};
use serde::{Deserialize, Serialize};
use starling_core::api::{ApiError, ErrorCode, Millis};
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::identity::Identity;
use starling_core::swarm::ancestry::Walker;
use starling_core::swarm::ballot::Ballot;
use starling_core::swarm::commit::Commit;
use starling_core::swarm::members::{Member, Profile, Role};
use starling_core::swarm::merge::{self, Relation};
use starling_core::swarm::message::{Action, ConversationMode, Message};
use starling_core::swarm::misbehaviour::{Fault, Misbehaviour};
use starling_core::swarm::object::{Kind, Objects};
use starling_core::swarm::write::{self, Merged, Repository, WriteError, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// Most messages whose state is reported at once when a device caught up: the rest is read with the page.
const MAX_STATUS_EVENTS: usize = 100;

/// So many commits back a merge is a sign that several write at once, and some may merge unseen.
const LATELY: usize = 32;

/// Steps for comparing two heads that a device told of, which is done at each notice: some reads of the
/// index each, so a few milliseconds in all. What daemons merge unseen lies much nearer.
const NEAR: u64 = 512;

/// Who writes on this side.
#[derive(Clone)]
pub struct Me {
    /// Keys and certificates.
    pub identity: Identity,
    /// The name in commits; decoration.
    pub name: String,
}

/// Who is in a conversation and what it calls itself, at its present head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The newest commit.
    pub head: ObjectId,
    /// What kind.
    pub mode: ConversationMode,
    /// Everybody.
    pub members: Vec<Member>,
    /// Title, description, picture.
    pub profile: Profile,
    /// When it began, unix ms.
    pub created: Millis,
    /// The votes that are open.
    pub ballots: Vec<Ballot>,
    /// Devices that are banned, while their accounts need not be.
    pub banned_devices: BTreeSet<DeviceId>,
    /// Banned people who have not fetched the commit that says so: they may, and nothing more.
    #[serde(skip)]
    pub unaware: BTreeSet<AccountId>,
}

impl Snapshot {
    /// Whether a device of an account may have anything of this conversation. That the device is
    /// the account's was proved before: its certificate is signed with the key whose hash the
    /// account's id is, the same key as in the repository.
    pub fn admits(&self, id: &AccountId, device: &DeviceId) -> bool {
        self.may_fetch(id) && !self.banned_devices.contains(device)
    }

    /// The role of an account, if it has any.
    pub fn role(&self, id: &AccountId) -> Option<Role> {
        self.members.iter().find(|m| m.id == *id).map(|m| m.role)
    }

    /// Whether an account may fetch: members, admins, and those who were asked in.
    pub fn may_fetch(&self, id: &AccountId) -> bool {
        matches!(
            self.role(id),
            Some(Role::Admin | Role::Member | Role::Invited)
        )
    }

    /// Whether an account takes part: its word about typing and reading counts.
    pub fn takes_part(&self, id: &AccountId) -> bool {
        matches!(self.role(id), Some(Role::Admin | Role::Member))
    }
}

/// What a device has fetched from us, or announced to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fetched {
    pub(super) account: AccountId,
    pub(super) commit: ObjectId,
    pub(super) at: Millis,
}

/// What a person has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Read {
    pub(super) commit: ObjectId,
    pub(super) at: Millis,
}

/// How far others are: kept, since no repository knows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Progress {
    pub(super) fetched: BTreeMap<DeviceId, Fetched>,
    pub(super) read: BTreeMap<AccountId, Read>,
    /// The commits by which people and devices were banned while we were there, by their id as
    /// the commit has it.
    pub(super) bans: BTreeMap<String, ObjectId>,
    /// Messages of ours that the others go on without, oldest first.
    pub(super) unaccepted: Vec<Unaccepted>,
    /// What came of fetches that broke off.
    pub(super) parts: Parts,
}

/// What a fetch led to.
#[derive(Debug)]
pub enum Taken {
    /// Nothing was new.
    Nothing,
    /// New history: tell others of the head.
    New {
        /// What changed for a reader.
        changes: Changes,
        /// Members, roles or profile changed.
        snapshot_changed: bool,
    },
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// The operation does not fit the conversation.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The other side broke a rule. The history is untouched.
    #[error("{} broke a rule in commit {}: {}", .0.device.map_or("a device".into(), |d| d.to_hex()), .0.commit, .0.misbehaviour)]
    Rejected(Box<Fault>),
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk refused.
    #[error(transparent)]
    State(#[from] StateError),
    /// The index cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The repository is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The conversation, or its account, was closed meanwhile; or the bridge failed.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// This account is in no way part of what was cloned.
    #[error("this account is neither a member nor invited in what was offered")]
    NotForUs,
    /// A collaborative document: not a conversation, though it lies in a repository like one.
    #[error(
        "what was offered is a document that belongs to another conversation, and no conversation"
    )]
    Document,
}

impl From<TimelineError> for RepoError {
    fn from(e: TimelineError) -> Self {
        match e {
            TimelineError::Damaged(e) => Self::Damaged(e),
            TimelineError::Index(e) => Self::Index(e),
        }
    }
}

impl RepoError {
    /// The repository on this disk is damaged.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged(_) | Self::Write(WriteError::Repository(_))
        )
    }
}

/// What is wrong with a repository on this disk, and what to do.
pub fn damaged_in_words(e: &RepoError) -> String {
    let what = match e {
        // It is our own: nobody was to send it.
        RepoError::Write(WriteError::Repository(Misbehaviour::MissingObject(id))) => {
            format!("the object {id} is missing")
        }
        RepoError::Write(WriteError::Repository(why)) => why.to_string(),
        RepoError::Damaged(Damaged(what)) => what.clone(),
        other => other.to_string(),
    };
    format!(
        "The files of this conversation on this device are damaged ({what}). They were left as they are: put them back from a copy of the data directory."
    )
}

impl From<RepoError> for ApiError {
    fn from(e: RepoError) -> Self {
        let code = match &e {
            RepoError::Write(
                WriteError::NotAMember | WriteError::NotInvited | WriteError::DeviceBanned,
            ) => ErrorCode::NotAMember,
            RepoError::Write(WriteError::NotAnAdmin) => ErrorCode::NotAuthorised,
            RepoError::Write(
                WriteError::AlreadyMember
                | WriteError::AlreadyInvited
                | WriteError::AlreadyVoted
                | WriteError::Exists,
            ) => ErrorCode::AlreadyExists,
            RepoError::Write(WriteError::NoSuchMessage | WriteError::NotThere) => {
                ErrorCode::NotFound
            }
            RepoError::Damaged(_) | RepoError::Write(WriteError::Repository(_)) => {
                return Self::new(ErrorCode::Corrupt, damaged_in_words(&e));
            }
            RepoError::Write(WriteError::Crypto(_) | WriteError::Merge(_)) => ErrorCode::Internal,
            RepoError::Write(_) => ErrorCode::Conflict,
            RepoError::Rejected(_) | RepoError::NotForUs | RepoError::Document => {
                ErrorCode::Rejected
            }
            RepoError::Store(_) | RepoError::State(_) | RepoError::Index(_) => ErrorCode::Storage,
            RepoError::NoAnswer(NoAnswer::Stopped) => ErrorCode::Stopping,
            RepoError::NoAnswer(NoAnswer::Failed) => ErrorCode::Internal,
        };
        let mut text = e.to_string();
        if let Some(first) = text.get(..1) {
            text.replace_range(..1, &first.to_uppercase());
        }
        Self::new(code, text + ".")
    }
}

/// The snapshot as others may read it at any time.
pub type Shared = Arc<RwLock<Arc<Snapshot>>>;

/// One conversation.
pub struct Repo {
    pub(super) id: ConversationId,
    me: Me,
    pub(super) store: Arc<ObjectStore>,
    pub(super) head: ObjectId,
    pub(super) timeline: Timeline,
    pub(super) index: Index,
    pub(super) report: Report,
    /// When it was last tried to bring the index up to the repository, in vain.
    pub(super) tried: Option<Instant>,
    /// The history was found at fault: it is not looked through again.
    pub(super) at_fault: bool,
    pub(super) snapshot: Arc<Snapshot>,
    /// The same, for those who cannot wait for their turn.
    shared: Shared,
    pub(super) state: State,
    pub(super) progress: Progress,
    /// What devices were last known to have, since the start.
    heads: BTreeMap<DeviceId, ObjectId>,
    /// What devices were told since the start: not worth a place on the disk.
    pub(super) told: BTreeMap<DeviceId, (AccountId, ObjectId)>,
    /// Heads that are here and valid, and no part of the history yet.
    pub(super) waiting: BTreeMap<ObjectId, Waiting>,
    /// Merges that brought nothing and were left aside.
    pub(super) left: BTreeSet<ObjectId>,
}

/// Forgets what is known of the oldest devices of an account that has too many: it may make any
/// number of them.
fn forget_oldest<T>(
    known: &mut BTreeMap<DeviceId, T>,
    is_theirs: impl Fn(&T) -> bool,
    age: impl Fn(&T) -> Millis,
) {
    let theirs = known.values().filter(|t| is_theirs(t)).count();
    let excess = theirs.saturating_sub(MAX_DEVICES);
    if excess == 0 {
        return;
    }
    let theirs = known.iter().filter(|(_, t)| is_theirs(t));
    let mut theirs: Vec<(Millis, DeviceId)> = theirs.map(|(d, t)| (age(t), *d)).collect();
    theirs.sort();
    for (_, device) in theirs.iter().take(excess) {
        known.remove(device);
    }
}

pub(super) fn snapshot(
    objects: &dyn Objects,
    id: ConversationId,
    head: ObjectId,
) -> Result<Snapshot, RepoError> {
    let mut repository = Repository::new(objects, id, head)?;
    let created = match objects.object(&id.into()) {
        Some((Kind::Commit, data)) => {
            Commit::parse(&data).map_or(0, |c| c.time.saturating_mul(1000))
        }
        _ => 0,
    };
    Ok(Snapshot {
        head,
        mode: repository.root()?.mode,
        members: repository.members()?,
        profile: repository.profile()?,
        created,
        ballots: repository.ballots()?,
        banned_devices: repository.banned_devices()?,
        unaware: BTreeSet::new(),
    })
}

fn writer(me: &Me) -> Writer<'_> {
    Writer::new(&me.name, &me.identity.chain, &*me.identity.device_key)
}

impl Repo {
    /// Opens a conversation that is on the disk. Where the index is up to it, nothing is read of
    /// the repository. `checked`: everything in it was just validated.
    pub fn open(
        id: ConversationId,
        store: Arc<ObjectStore>,
        state: State,
        me: Me,
        (index, report): (Index, Report),
        checked: bool,
    ) -> Result<Self, RepoError> {
        let head = store
            .head()
            .ok_or_else(|| Damaged("it has no head".into()))?;
        if store.is_open() {
            // Not so if nobody has touched it since it was closed in good order.
            timeline::read(&*store, &head)?;
        }
        let mut timeline = Timeline::new(index.clone(), store.clone(), id);
        let mut tried = None;
        match timeline.follow(head, checked) {
            Ok((Opened::Made, _)) if !checked => report(Said::IndexMade),
            Ok(_) => {}
            Err(TimelineError::Damaged(e)) => return Err(e.into()),
            Err(e) => {
                report(Said::Behind(e));
                tried = Some(Instant::now());
            }
        }
        let kept = index.summary(&id).ok().flatten().and_then(|s| s.snapshot);
        let kept: Option<Snapshot> = kept.and_then(|text| serde_json::from_str(&text).ok());
        let snapshot = Arc::new(match kept.filter(|_| !timeline.is_behind(&head)) {
            // Of an earlier head, perhaps, which nothing set apart but the head.
            Some(snapshot) => Snapshot { head, ..snapshot },
            None => snapshot(&*store, id, head)?,
        });
        let progress = state.get("progress", &id.to_hex())?.unwrap_or_default();
        let shared = Arc::new(RwLock::new(snapshot.clone()));
        let mut repo = Self {
            id,
            me,
            store,
            head,
            timeline,
            index,
            report,
            tried,
            at_fault: false,
            snapshot,
            shared,
            state,
            progress,
            heads: BTreeMap::new(),
            told: BTreeMap::new(),
            waiting: BTreeMap::new(),
            left: BTreeSet::new(),
        };
        let mut known = (*repo.snapshot).clone();
        known.unaware = repo.unaware(&known);
        repo.publish(known);
        repo.keep_snapshot(true);
        Ok(repo)
    }

    /// The same conversation read anew from the disk, since something panicked in the midst of it.
    pub fn reopen(self) -> Option<Self> {
        let Self {
            id,
            store,
            state,
            me,
            ..
        } = self;
        let report = self.report.clone();
        match Self::open(id, store, state, me, (self.index, self.report), false) {
            Ok(mut new) => {
                new.shared = self.shared;
                new.publish((*new.snapshot).clone());
                report(Said::Reopened);
                Some(new)
            }
            Err(e) => {
                tracing::error!(conversation = %id, %e, "a conversation cannot be read anew");
                report(Said::Lost(e));
                None
            }
        }
    }

    /// Makes a new conversation on the disk: the first commit, which names it.
    pub fn initial(
        me: &Me,
        mode: ConversationMode,
        invited: Option<AccountId>,
        now_unix: u64,
    ) -> Result<write::Written, RepoError> {
        Ok(write::initial(&writer(me), mode, invited, now_unix)?)
    }

    /// Who is in it, now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.clone()
    }

    /// The snapshot for those who cannot wait for their turn.
    pub fn shared(&self) -> Shared {
        self.shared.clone()
    }

    /// The newest commit.
    pub fn head(&self) -> ObjectId {
        self.head
    }

    /// What readers see.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// A new name for commits to come.
    pub fn set_name(&mut self, name: String) {
        self.me.name = name;
    }

    pub(super) fn keep_progress(&self) -> Result<(), RepoError> {
        let id = self.id.to_hex();
        Ok(self.state.put("progress", &id, &self.progress)?)
    }

    pub(super) fn own(&self) -> AccountId {
        self.me.identity.account_id()
    }

    /// The newest commit, if it is one by which this device left.
    pub fn own_leave(&self) -> Option<ObjectId> {
        if self.snapshot.takes_part(&self.own()) {
            // Said without opening the repository.
            return None;
        }
        let commit = self.timeline.commit(&self.head)?;
        let leave = matches!(
            Message::parse(&commit.message),
            Ok(Message::Member { action: Action::Remove, uri }) if uri.parse() == Ok(self.own())
        );
        (leave && commit.device == self.me.identity.device_id()).then_some(self.head)
    }

    /// Writes a commit by one of core's operations. When this returns it is on the disk.
    pub fn write(
        &mut self,
        now_unix: u64,
        operation: impl FnOnce(
            &mut Repository<'_>,
            &Writer<'_>,
            u64,
        ) -> Result<write::Written, WriteError>,
    ) -> Result<(ObjectId, Changes), RepoError> {
        // Never before its parent: the order of what one person writes is the order of writing.
        let now = write::time_after(now_unix, self.timeline.time(&self.head));
        let written = {
            let mut repository = Repository::new(&*self.store, self.id, self.head)?;
            operation(&mut repository, &writer(&self.me), now)?
        };
        let changes = self.store_written(written)?;
        Ok((self.head, changes))
    }

    fn store_written(&mut self, written: write::Written) -> Result<Changes, RepoError> {
        let commit = written.objects.iter().find(|o| o.id == written.commit);
        let commit = commit
            .and_then(|o| Commit::parse(&o.data).ok())
            .ok_or_else(|| Damaged("an operation without its commit".into()))?;
        let members = !matches!(written.message.kind(), "text/plain");
        let objects: Vec<(Kind, &[u8])> = written
            .objects
            .iter()
            .map(|o| (o.kind, o.data.as_slice()))
            .collect();
        self.store
            .commit(&objects, Some(self.head), written.commit)?;
        self.head = written.commit;
        let new = Written::new(written.commit, &commit, self.own());
        let changes = self.advance(vec![new]);
        if members {
            self.note_bans(&changes);
        }
        self.refresh_or_say(members);
        Ok(changes)
    }

    /// [`Self::refresh`] after a commit that is on the disk already: what fails now must not say
    /// that it is not.
    pub(super) fn refresh_or_say(&mut self, members_too: bool) -> bool {
        self.refresh(members_too).unwrap_or_else(|e| {
            tracing::error!(conversation = %self.id, %e, "members and profile cannot be read");
            let _ = self.refresh(false);
            true
        })
    }

    /// Brings the snapshot up to the head; says whether more than the head changed.
    fn refresh(&mut self, members_too: bool) -> Result<bool, RepoError> {
        let new = if members_too {
            let mut new = snapshot(&*self.store, self.id, self.head)?;
            new.unaware = self.unaware(&new);
            new
        } else {
            Snapshot {
                head: self.head,
                ..(*self.snapshot).clone()
            }
        };
        let changed = Snapshot {
            head: new.head,
            ..(*self.snapshot).clone()
        } != new;
        self.publish(new);
        self.keep_snapshot(changed);
        Ok(changed)
    }

    fn publish(&mut self, snapshot: Snapshot) {
        self.snapshot = Arc::new(snapshot);
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = self.snapshot.clone();
    }

    /// Makes valid commits that are in the store part of the history.
    pub(super) fn enter(
        &mut self,
        new: Vec<Written>,
        theirs: ObjectId,
        now_unix: u64,
    ) -> Result<Taken, RepoError> {
        let now = write::time_after(now_unix, self.timeline.time(&self.head));
        let merged = {
            let known = self.timeline.known();
            let generations = |id: &ObjectId| known.generation(id);
            let repository = Repository::new(&*self.store, self.id, self.head)?;
            let mut repository = repository.follow(&generations);
            let unknown = |ours: &[ObjectId]| self.is_here_alone(ours);
            match repository.merge(&writer(&self.me), theirs, &unknown, now) {
                // We left: others take in our last word, and we take in no more of theirs.
                Err(WriteError::NotAMember)
                    if matches!(self.snapshot.role(&self.own()), None | Some(Role::Left)) =>
                {
                    return Ok(Taken::Nothing);
                }
                // We have been thrown out, or left on another device: follow, without a word of ours.
                Err(WriteError::NotAMember) => {
                    drop(repository);
                    self.keep_what_is_lost(theirs)?;
                    Merged::FastForward(theirs)
                }
                other => other?,
            }
        };
        let mut all = new;
        let head = match merged {
            Merged::UpToDate => {
                // Nothing but merges of what is here.
                self.timeline.remember(all);
                self.leave_aside(theirs);
                return Ok(Taken::Nothing);
            }
            Merged::FastForward(theirs) | Merged::Adopt(theirs) => {
                self.store.set_head(Some(self.head), theirs)?;
                theirs
            }
            Merged::Commit(written) => {
                let objects: Vec<(Kind, &[u8])> = written
                    .objects
                    .iter()
                    .map(|o| (o.kind, o.data.as_slice()))
                    .collect();
                self.store
                    .commit(&objects, Some(self.head), written.commit)?;
                let made = written.objects.iter().filter(|o| o.kind == Kind::Commit);
                let made = made.filter_map(|o| Some((o.id, Commit::parse(&o.data).ok()?)));
                all.extend(made.map(|(id, c)| Written::new(id, &c, self.own())));
                written.commit
            }
        };
        self.head = head;
        let changes = self.advance(all);
        self.note_bans(&changes);
        self.forget_parts();
        self.place_what_was_lost(theirs);
        let snapshot_changed = self.refresh_or_say(true);
        Ok(Taken::New {
            changes,
            snapshot_changed,
        })
    }

    /// A device has a commit of ours. Gives the messages of ours whose state that changes.
    pub fn fetched(
        &mut self,
        device: DeviceId,
        account: AccountId,
        commit: ObjectId,
        now: Millis,
    ) -> Result<Vec<ObjectId>, RepoError> {
        let Some(commit) = self.timeline.nearest(&commit) else {
            return Ok(Vec::new());
        };
        let before = self.progress.fetched.get(&device).map(|f| f.commit);
        if account == self.own() || !self.timeline.is_after(&commit, before.as_ref()) {
            return Ok(Vec::new());
        }
        self.progress.fetched.insert(
            device,
            Fetched {
                account,
                commit,
                at: now,
            },
        );
        let fetched = &mut self.progress.fetched;
        forget_oldest(fetched, |f| f.account == account, |f| f.at);
        self.keep_progress()?;
        if self.snapshot.unaware.contains(&account) {
            self.refresh_or_say(true);
        }
        Ok(self
            .timeline
            .between(before.as_ref(), &commit, &self.own(), MAX_STATUS_EVENTS))
    }

    /// How two heads stand to each other.
    pub(super) fn relation(
        &self,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Relation, WriteError> {
        let known = self.timeline.known();
        let generations = |id: &ObjectId| known.generation(id);
        write::relation(&*self.store, Some(&generations), ours, theirs)
    }

    /// A device has a commit: it said so, fetched it from us, or we fetched it there. Says something if it
    /// may have more by now: where several wrote at once, a daemon merges what it fetches with what
    /// it had, and tells nobody of that merge before it writes something. What it says is whether the commit is
    /// our head.
    pub fn may_have_merged(&mut self, device: DeviceId, commit: ObjectId) -> Option<bool> {
        let before = self.heads.get(&device).copied();
        let relation = before.map(|before| {
            let known = self.timeline.known();
            let generations = |id: &ObjectId| known.generation(id);
            let mut walker = Walker::new(&*self.store);
            walker.follow(&generations);
            merge::relation_within(&mut walker, NEAR, before, commit)
        });
        let may = match relation {
            // It says nothing new.
            Some(Ok(Relation::UpToDate)) => return None,
            Some(Ok(Relation::FastForward)) | None => self.merged_lately(),
            // What is far apart, or cannot be compared, is looked at.
            Some(Ok(Relation::Diverged | Relation::Alike) | Err(_)) => true,
        };
        self.heads.insert(device, commit);
        may.then_some(commit == self.head)
    }

    /// Whether several wrote at once a short while ago.
    fn merged_lately(&self) -> bool {
        let mut at = Some(self.head);
        for _ in 0..LATELY {
            let Some(commit) = at.and_then(|id| self.timeline.commit(&id)) else {
                return false;
            };
            match commit.parents.as_slice() {
                [_, _, ..] => return true,
                parents => at = parents.first().copied(),
            }
        }
        false
    }

    /// A person has read up to a message. Gives the messages of ours whose state that changes.
    pub fn displayed(
        &mut self,
        account: AccountId,
        commit: ObjectId,
        now: Millis,
    ) -> Result<Vec<ObjectId>, RepoError> {
        let before = self.progress.read.get(&account).map(|r| r.commit);
        if !self.timeline.is_after(&commit, before.as_ref()) {
            return Ok(Vec::new());
        }
        self.progress.read.insert(account, Read { commit, at: now });
        self.keep_progress()?;
        Ok(self
            .timeline
            .between(before.as_ref(), &commit, &self.own(), MAX_STATUS_EVENTS))
    }

    /// A device was told of the head. Gives the message of ours whose state that changes.
    pub fn told(
        &mut self,
        device: DeviceId,
        account: AccountId,
        commit: ObjectId,
    ) -> Vec<ObjectId> {
        let before = self.told.insert(device, (account, commit)).map(|t| t.1);
        // By what they were told of: nothing else is kept.
        let age = |t: &(_, ObjectId)| self.timeline.time(&t.1).unwrap_or(Millis::MIN);
        forget_oldest(&mut self.told, |t| t.0 == account, age);
        let fetched = self.progress.fetched.get(&device).map(|f| f.commit);
        // What it has is not new to it either.
        let before = match (before, fetched) {
            (Some(t), Some(f)) if self.timeline.is_after(&f, Some(&t)) => Some(f),
            (Some(t), _) => Some(t),
            (None, f) => f,
        };
        self.timeline
            .between(before.as_ref(), &commit, &self.own(), MAX_STATUS_EVENTS)
    }

    /// Whether a device of somebody else is known to have a commit.
    pub fn is_known_elsewhere(&self, commit: &ObjectId) -> bool {
        let mut fetched = self.progress.fetched.values();
        fetched.any(|f| self.has(&f.commit, commit))
    }

    /// Whether who has the first has the second as well, by their places: true of what was written here, which stands after
    /// all that was here before; what came from the side may stand before what does not hold it.
    pub(super) fn has(&self, have: &ObjectId, commit: &ObjectId) -> bool {
        have == commit || self.timeline.is_after(have, Some(commit))
    }

    /// Whether all of these were written here, and no other device is known to have any of them.
    fn is_here_alone(&self, commits: &[ObjectId]) -> bool {
        let own = |id: &ObjectId| {
            self.timeline
                .commit(id)
                .is_some_and(|c| c.device == self.me.identity.device_id())
        };
        // Who has a later one has the first.
        let Some(first) = commits.iter().min_by_key(|id| self.timeline.place(id)) else {
            return false;
        };
        !self.is_known_elsewhere(first)
            && !self.heads.values().any(|head| self.has(head, first))
            && commits.iter().all(own)
    }

    /// Up to where a person says they have read.
    pub fn read_up_to(&self, account: &AccountId) -> Option<ObjectId> {
        self.progress.read.get(account).map(|r| r.commit)
    }

    /// Whether a device is known to have the head.
    pub fn is_current(&self, device: &DeviceId) -> bool {
        self.progress
            .fetched
            .get(device)
            .is_some_and(|f| f.commit == self.head)
    }
}
