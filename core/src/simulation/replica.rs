//! One device's copy of the conversation: the real operations, validation and merge, over a disk
//! on which the power can go before and after every write.

use super::config::Broken;
use super::people::{Device, SimCrypto};
use super::pool::{Pool, Set, View};
use crate::crypto::Crypto as _;
use crate::id::{AccountId, ConversationId, DeviceId, ObjectId};
use crate::swarm::ballot::Ballot;
use crate::swarm::commit::{Commit, Draft};
use crate::swarm::members::Role;
use crate::swarm::merge::Relation;
use crate::swarm::message::Message;
use crate::swarm::misbehaviour::{Fault, Misbehaviour};
use crate::swarm::object::{Kind, NewObject, Objects as _};
use crate::swarm::order::{LinearOrder, Node};
use crate::swarm::path::{Standing, Target, TreePath};
use crate::swarm::tree::Trees;
use crate::swarm::validate::{BATCH, Validation};
use crate::swarm::write::{self, Merged, Repository, WriteError, Writer, Written};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Asked at every write: whether the power goes now.
pub(crate) type Power<'a> = &'a mut dyn FnMut() -> bool;

/// Why something did not come about.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The operation does not fit.
    Write(WriteError),
    /// The power went. What is on the disk counts.
    Crash,
}

impl From<WriteError> for Trouble {
    fn from(e: WriteError) -> Self {
        Self::Write(e)
    }
}

/// What a fetched head turned out to be.
pub(crate) enum Judged {
    /// In order, and this is how it stands to ours.
    Good(Relation),
    /// Against a rule.
    Bad(Box<Fault>),
}

/// A device's copy.
pub(crate) struct Replica {
    pub(crate) device: &'static Device,
    /// On the disk.
    pub(crate) have: Set,
    /// On the disk.
    pub(crate) head: Option<ObjectId>,
    pub(crate) conversation: Option<ConversationId>,
    /// What is taken as given, and the last of it: a history in which members became admins, for
    /// which there is no commit that everybody accepts.
    pub(crate) given: Arc<BTreeMap<ObjectId, u32>>,
    pub(crate) given_head: Option<ObjectId>,
    /// All valid commits that were seen, merges left aside too.
    pub(crate) known: BTreeMap<ObjectId, Node>,
    pub(crate) order: LinearOrder,
    /// Generations of those that are not in the order.
    pub(crate) levels: RefCell<BTreeMap<ObjectId, u32>>,
    pub(crate) roles: BTreeMap<AccountId, Role>,
    /// Devices that are banned by themselves.
    pub(crate) banned: BTreeSet<DeviceId>,
    /// What is wrong with this program.
    pub(crate) broken: Broken,
}

impl Replica {
    pub(crate) fn new(device: &'static Device) -> Self {
        Self {
            device,
            have: Set::default(),
            head: None,
            conversation: None,
            given: Arc::default(),
            given_head: None,
            known: BTreeMap::new(),
            order: LinearOrder::new(),
            levels: RefCell::default(),
            roles: BTreeMap::new(),
            banned: BTreeSet::new(),
            broken: Broken::Nothing,
        }
    }

    /// Everything is erased.
    pub(crate) fn erase(&mut self) {
        *self = Self {
            conversation: self.conversation,
            given: self.given.clone(),
            given_head: self.given_head,
            broken: self.broken,
            ..Self::new(self.device)
        };
    }

    pub(crate) fn view<'a>(&'a self, pool: &'a Pool) -> View<'a> {
        View {
            pool,
            have: &self.have,
            quarantine: None,
        }
    }

    pub(crate) fn role(&self, account: &AccountId) -> Option<Role> {
        self.roles.get(account).copied()
    }

    pub(crate) fn may_fetch(&self, device: &Device) -> bool {
        let role = self.role(&device.account);
        matches!(role, Some(Role::Admin | Role::Member | Role::Invited))
            && !self.banned.contains(&device.id)
    }

    pub(crate) fn takes_part(&self, account: &AccountId) -> bool {
        matches!(self.role(account), Some(Role::Admin | Role::Member))
    }

    /// Whether a device writes with the others: its person takes part, and it is not banned itself.
    pub(crate) fn admits(&self, device: &Device) -> bool {
        self.takes_part(&device.account) && !self.banned.contains(&device.id)
    }

    /// Whether it is out: its person is banned, or it by itself.
    pub(crate) fn is_banned(&self, device: &Device) -> bool {
        self.role(&device.account) == Some(Role::Banned) || self.banned.contains(&device.id)
    }

    /// Whether a commit is part of the history, not just seen.
    pub(crate) fn holds(&self, id: &ObjectId) -> bool {
        self.order.position(id).is_some()
    }

    /// The generation of a commit that was validated.
    pub(crate) fn generation(&self, id: &ObjectId) -> Option<u32> {
        let placed = self.order.generation(id);
        if let Some(known) = placed.or_else(|| self.given.get(id).copied()) {
            return Some(known);
        }
        if let Some(known) = self.levels.borrow().get(id) {
            return Some(*known);
        }
        let parents = self.known.get(id)?.parents.iter();
        let below = parents.filter_map(|p| self.generation(p)).max();
        let level = below.map_or(0, |below| below + 1);
        self.levels.borrow_mut().insert(*id, level);
        Some(level)
    }

    /// How two heads stand to each other.
    pub(crate) fn relation(
        &self,
        view: &View<'_>,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Relation, WriteError> {
        let generations = |id: &ObjectId| self.generation(id);
        write::relation(view, Some(&generations), ours, theirs)
    }

    /// Begins a conversation.
    pub(crate) fn create(&mut self, pool: &mut Pool, first: Written) {
        self.conversation = Some(first.commit.into());
        for object in first.objects {
            let n = pool.add(object);
            self.have.add(n);
        }
        self.head = Some(first.commit);
        self.restart(pool);
    }

    /// The power is back: whatever is not on the disk is read from it.
    pub(crate) fn restart(&mut self, pool: &Pool) {
        self.known.clear();
        self.order = LinearOrder::new();
        self.roles.clear();
        self.banned.clear();
        let Some(head) = self.head else { return };
        let mut todo = vec![head];
        while let Some(id) = todo.pop() {
            if self.known.contains_key(&id) {
                continue;
            }
            let node = self.node(pool, &id);
            todo.extend(node.parents.iter().copied());
            self.known.insert(id, node);
        }
        self.reorder(head);
        self.refresh(pool);
    }

    fn node(&self, pool: &Pool, id: &ObjectId) -> Node {
        let commit = self.commit(pool, id);
        Node {
            parents: commit.parents,
            time: commit.time,
        }
    }

    /// A commit that is on the disk.
    pub(crate) fn commit(&self, pool: &Pool, id: &ObjectId) -> Commit {
        match self.view(pool).object(id) {
            Some((Kind::Commit, data)) => Commit::parse(&data).expect("it was validated"),
            _ => panic!("{}: commit {id} is gone from the disk", self.device.name),
        }
    }

    fn refresh(&mut self, pool: &Pool) {
        let (Some(head), Some(conversation)) = (self.head, self.conversation) else {
            return;
        };
        let view = self.view(pool);
        let read = Repository::new(&view, conversation, head)
            .and_then(|mut r| Ok((r.members()?, r.banned_devices()?)));
        let (members, banned) = read.expect("a repository that was validated");
        self.banned = banned;
        self.roles = members.into_iter().map(|m| (m.id, m.role)).collect();
    }

    /// Brings the order up to a head of which all commits are known.
    fn reorder(&mut self, head: ObjectId) {
        let last = self.order.order().last().copied();
        let mut grows = last.is_none() || last == Some(head);
        let mut fresh = BTreeMap::new();
        let mut todo = vec![head];
        while let Some(id) = todo.pop() {
            if self.order.position(&id).is_some() {
                grows |= Some(id) == last;
            } else if let Some(node) = self.known.get(&id)
                && fresh.insert(id, node.clone()).is_none()
            {
                todo.extend(node.parents.iter().copied());
            }
        }
        if !grows {
            // Merges were given up: anew.
            self.order = LinearOrder::new();
            fresh = self.known.clone();
        }
        let mut first = Vec::with_capacity(fresh.len());
        let mut done = BTreeMap::new();
        let mut stack = vec![(head, false)];
        while let Some((id, ready)) = stack.pop() {
            let Some(node) = fresh.get(&id) else { continue };
            if ready {
                if done.insert(id, ()).is_none() {
                    first.push((id, node.clone()));
                }
            } else if !done.contains_key(&id) {
                stack.push((id, true));
                stack.extend(node.parents.iter().map(|p| (*p, false)));
            }
        }
        if self.broken == Broken::OwnOrder && self.order.len() > 2 {
            // As if each were the child of the one that was here last.
            let mut last = self.order.order().last().copied();
            for (id, node) in &mut first {
                node.parents = last.into_iter().collect();
                last = Some(*id);
            }
        }
        self.order
            .update(head, first)
            .expect("all parents are known");
    }

    fn store(
        &mut self,
        pool: &mut Pool,
        power: Power<'_>,
        written: Written,
    ) -> Result<(), Trouble> {
        for object in written.objects {
            if power() {
                return Err(Trouble::Crash);
            }
            let n = pool.add(object);
            self.have.add(n);
        }
        self.move_head(power, written.commit)
    }

    /// The head on the disk is `head` from when this returns well, or crashes after it.
    fn move_head(&mut self, power: Power<'_>, head: ObjectId) -> Result<(), Trouble> {
        if power() {
            return Err(Trouble::Crash);
        }
        self.head = Some(head);
        if power() {
            return Err(Trouble::Crash);
        }
        Ok(())
    }

    /// Never before its parent: what one person writes is read in the order of writing.
    fn time(&self, pool: &Pool, now_unix: u64) -> u64 {
        let parent = self.head.map(|head| self.commit(pool, &head).time);
        write::time_after(now_unix, parent)
    }

    /// Writes a commit by one of the real operations.
    pub(crate) fn write(
        &mut self,
        pool: &mut Pool,
        power: Power<'_>,
        now_unix: u64,
        operation: impl FnOnce(&mut Repository<'_>, &Writer<'_>, u64) -> Result<Written, WriteError>,
    ) -> Result<ObjectId, Trouble> {
        let (Some(head), Some(conversation)) = (self.head, self.conversation) else {
            return Err(WriteError::NotAMember.into());
        };
        let now = self.time(pool, now_unix);
        let written = {
            let view = self.view(pool);
            let mut repository = Repository::new(&view, conversation, head)?;
            operation(&mut repository, &self.device.writer(), now)?
        };
        let plain = matches!(written.message.kind(), "text/plain");
        let id = written.commit;
        self.store(pool, power, written)?;
        let node = self.node(pool, &id);
        self.known.insert(id, node);
        self.reorder(id);
        if !plain {
            self.refresh(pool);
        }
        Ok(id)
    }

    /// Judges a head whose objects are in quarantine.
    pub(crate) fn judge(&self, pool: &Pool, quarantine: &Set, head: ObjectId) -> Judged {
        let Some(conversation) = self.conversation else {
            return Judged::Good(Relation::UpToDate);
        };
        if self.holds(&head) {
            return Judged::Good(Relation::UpToDate);
        }
        let view = View {
            quarantine: Some(quarantine),
            ..self.view(pool)
        };
        let judged: Result<(), Fault> = (|| {
            let known = |id: &ObjectId| self.generation(id);
            let mut validation = Validation::with_known(&view, conversation, &known, head)?;
            while let Some(batch) = validation.next_batch(BATCH)? {
                batch.verdict(&SimCrypto.verify_batch(&batch.checks))?;
                let refused = |id: &ObjectId| self.broken == Broken::RefusesSome && id.0[0] < 16;
                if let Some(some) = batch.commits.iter().find(|c| refused(&c.id)) {
                    let why = Misbehaviour::JoinTwice;
                    return Err(Fault::of(some.id, why));
                }
            }
            Ok(())
        })();
        match (judged, self.head) {
            (Err(fault), _)
                if self.broken != Broken::TakesAll
                    || matches!(*fault.misbehaviour, Misbehaviour::MissingObject(_)) =>
            {
                Judged::Bad(fault_box(fault))
            }
            (_, None) => Judged::Good(Relation::FastForward),
            (_, Some(ours)) => Judged::Good(
                self.relation(&view, ours, head)
                    .expect("both were validated"),
            ),
        }
    }

    /// What was fetched and is good goes to the disk.
    pub(crate) fn accept(&mut self, power: Power<'_>, objects: &[u32]) -> Result<(), Trouble> {
        for n in objects {
            if power() {
                return Err(Trouble::Crash);
            }
            self.have.add(*n);
        }
        if power() {
            return Err(Trouble::Crash);
        }
        Ok(())
    }

    /// Takes in a head whose objects are on the disk. Gives the merge if one was made, and whether more
    /// than merges came.
    pub(crate) fn enter(
        &mut self,
        pool: &mut Pool,
        power: Power<'_>,
        now_unix: u64,
        theirs: ObjectId,
    ) -> Result<(Option<ObjectId>, bool), Trouble> {
        let nothing = Ok((None, false));
        let Some(conversation) = self.conversation else {
            return nothing;
        };
        if self.holds(&theirs) {
            return nothing;
        }
        let now = self.time(pool, now_unix);
        let merged = match self.head {
            None => Merged::FastForward(theirs),
            Some(ours) => {
                let view = self.view(pool);
                let generations = |id: &ObjectId| self.generation(id);
                let repository = Repository::new(&view, conversation, ours)?;
                let mut repository = repository.follow(&generations);
                match repository.merge(&self.device.writer(), theirs, &|_| true, now) {
                    // We left: our last word stands.
                    Err(WriteError::NotAMember) if self.role(&self.device.account).is_none() => {
                        return nothing;
                    }
                    // Thrown out: follow, without a word of ours.
                    Err(WriteError::NotAMember) => Merged::FastForward(theirs),
                    other => other?,
                }
            }
        };
        let merged = match (merged, self.head) {
            (Merged::Adopt(_), Some(ours)) if self.may_merge_again(pool, theirs) => {
                Merged::Commit(Box::new(self.merge_again(pool, ours, theirs, theirs, now)?))
            }
            (Merged::UpToDate, Some(ours)) if self.may_merge_again(pool, ours) => {
                Merged::Commit(Box::new(self.merge_again(pool, ours, theirs, ours, now)?))
            }
            (merged, _) => merged,
        };
        let mut made = None;
        let head = match merged {
            Merged::UpToDate => None,
            Merged::FastForward(head) | Merged::Adopt(head) => {
                self.move_head(power, head)?;
                Some(head)
            }
            Merged::Commit(written) => {
                let head = written.commit;
                self.store(pool, power, *written)?;
                made = Some(head);
                Some(head)
            }
        };
        let (mut plain, mut said) = (true, false);
        let mut todo = vec![theirs];
        todo.extend(made);
        while let Some(id) = todo.pop() {
            if self.known.contains_key(&id) {
                continue;
            }
            let commit = self.commit(pool, &id);
            said |= commit.parents.len() < 2;
            plain &= commit.parents.len() == 1
                && matches!(Message::parse(&commit.message), Ok(m) if m.kind() == "text/plain");
            todo.extend(commit.parents.iter().copied());
            let node = Node {
                parents: commit.parents,
                time: commit.time,
            };
            self.known.insert(id, node);
        }
        if let Some(head) = head {
            self.reorder(head);
            if !plain && self.broken != Broken::OldRoles {
                self.refresh(pool);
            }
        }
        Ok((made, said))
    }

    /// A member is an admin from now on: a commit that only those take who take it as given.
    pub(crate) fn promote(&mut self, pool: &mut Pool, who: &Device, now: u64) {
        let head = self.head.expect("there is a group");
        let path = |standing| TreePath::Live(Target::Account(standing, who.account));
        let chain = NewObject::new(Kind::Blob, who.writer().account_pem);
        let edits = BTreeMap::from([
            (path(Standing::Member), None),
            (path(Standing::Admin), Some(chain.id)),
        ]);
        let parent = self.commit(pool, &head).tree;
        let (tree, new) = Trees::new(&self.view(pool))
            .change(Some(parent), &edits)
            .expect("its own tree");
        let draft = Draft {
            tree,
            parents: vec![head],
            name: &self.device.name,
            device: self.device.id,
            time: now,
            message: r#"{"type":"application/x-promotion"}"#,
        };
        let commit = draft.sign(self.device.key()).expect("these keys sign");
        self.head = Some(commit.id);
        for object in new.into_iter().chain([chain, commit]) {
            let n = pool.add(object);
            self.have.add(n);
        }
        self.restart(pool);
    }

    /// Votes that admins have begun, as they are here.
    pub(crate) fn ballots(&self, pool: &Pool) -> Vec<Ballot> {
        let (Some(head), Some(conversation)) = (self.head, self.conversation) else {
            return Vec::new();
        };
        let view = self.view(pool);
        Repository::new(&view, conversation, head)
            .and_then(|mut r| r.ballots())
            .expect("a repository that was validated")
    }

    /// Whether what differs by merges alone is merged all the same, and by somebody who is in the tree
    /// of a head.
    fn may_merge_again(&self, pool: &Pool, like: ObjectId) -> bool {
        if self.broken != Broken::MergesMerges {
            return false;
        }
        let view = self.view(pool);
        let (tree, mut trees) = (self.commit(pool, &like).tree, Trees::new(&view));
        let account = self.device.account;
        let mut has = |path| matches!(trees.lookup(tree, &path), Ok(Some(_)));
        let live = |standing| TreePath::Live(Target::Account(standing, account));
        has(TreePath::device(self.device.id))
            && !has(TreePath::Banned(Target::Device(self.device.id)))
            && (has(live(Standing::Member)) || has(live(Standing::Admin)))
    }

    /// A merge with the tree of the head that it is `like`.
    fn merge_again(
        &self,
        pool: &Pool,
        ours: ObjectId,
        theirs: ObjectId,
        like: ObjectId,
        now: u64,
    ) -> Result<Written, WriteError> {
        let tree = self.commit(pool, &like).tree;
        let message = Message::merge(theirs);
        let draft = Draft {
            tree,
            parents: vec![ours, theirs],
            name: &self.device.name,
            device: self.device.id,
            time: now,
            message: &message.to_text(),
        };
        let commit = draft.sign(self.device.key())?;
        Ok(Written {
            commit: commit.id,
            tree,
            message,
            objects: vec![commit],
        })
    }

    /// Everything is checked again, from the first commit or from what is given on.
    pub(crate) fn verify(&self, pool: &Pool) -> Result<(), Box<Fault>> {
        let (Some(head), Some(conversation)) = (self.head, self.conversation) else {
            return Ok(());
        };
        let view = self.view(pool);
        crate::swarm::validate::validate(&SimCrypto, &view, conversation, self.given_head, head)
            .map(drop)
            .map_err(fault_box)
    }
}

fn fault_box(fault: Fault) -> Box<Fault> {
    Box::new(fault)
}
