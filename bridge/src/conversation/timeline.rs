//! What a reader sees of a conversation: the order of all commits, and the messages with edits
//! and reactions folded in. It is read from the index, window by window, and kept up as commits
//! come: no more is looked at than what changes.

use super::folding::{self, Extent};
use super::judging::Known;
use super::making::Making;
use crate::store::index::{Change, Index, IndexError, Place, Row, Rows};
use crate::store::objects::ObjectStore;
use rusqlite::Connection;
use starling_core::api;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::swarm::ancestry::Walker;
use starling_core::swarm::commit::Commit;
use starling_core::swarm::history::{self, Entry as Shown};
use starling_core::swarm::judge::Judge;
use starling_core::swarm::object::{Kind, Objects};
use starling_core::swarm::order::{Node, Placed, UnknownParent, reorder};
use starling_core::swarm::validate::RULES;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Commits that are written to the index at a time when it is made: so long do others wait.
pub(super) const CHUNK: usize = 2_048;

/// So many commits that the index lacks are added to it; for more it is made anew.
const MANY: usize = 20_000;

/// Most places that are remembered, some 100 bytes each.
const REMEMBERED: usize = 4_096;

/// Commits told first when fetching; libgit2 sends as many before it waits for an answer.
const DENSE: u64 = 20;

/// A commit, as far as its place in the timeline goes, with the account of the device that wrote it.
#[derive(Debug, Clone)]
pub struct Written(pub(super) Row);

/// A commit on its way into an index that is made anew.
pub(super) struct Made {
    pub(super) row: Row,
    /// What is searched of it, as it was written first.
    pub(super) words: Option<String>,
}

impl Made {
    /// `rules`: the version of the rules it was found to follow; 0: it was not looked at yet.
    pub(super) fn new(rules: u32, id: ObjectId, commit: &Commit, author: AccountId) -> Self {
        let body = history::body(id, commit, author);
        let Written(row) = Written::of(rules, id, commit, author, body.as_ref());
        let words = body.filter(|_| row.shown).and_then(folding::words_of);
        Self { row, words }
    }
}

impl Written {
    /// A commit that was validated, or written here.
    pub fn new(id: ObjectId, commit: &Commit, author: AccountId) -> Self {
        let mut new = Self::under(RULES, id, commit, author);
        new.0.came = crate::api::now_millis();
        new
    }

    /// Which commit.
    pub fn id(&self) -> ObjectId {
        self.0.id
    }

    fn under(rules: u32, id: ObjectId, commit: &Commit, author: AccountId) -> Self {
        let body = history::body(id, commit, author);
        Self::of(rules, id, commit, author, body.as_ref())
    }

    fn of(
        rules: u32,
        id: ObjectId,
        commit: &Commit,
        author: AccountId,
        body: Option<&history::Body>,
    ) -> Self {
        let target = body.and_then(history::Body::target);
        let shown = body.is_some() && target.is_none();
        let counts = shown && body.is_some_and(folding::says_something);
        let change = target.is_some() && body.is_some_and(|b| b.fields.contains_key("edit"));
        Self(Row {
            id,
            parents: commit.parents.clone(),
            time: commit.time,
            author,
            shown,
            target,
            change,
            rules,
            counts,
            came: commit.time.saturating_mul(1000),
        })
    }
}

/// What new commits changed for a reader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New messages, oldest first.
    pub shown: Vec<ObjectId>,
    /// Messages that look different now.
    pub updated: BTreeSet<ObjectId>,
    /// Older messages moved: new ones stand between them. Everything up to here stayed; `None`: nothing did.
    pub reordered: Option<Option<ObjectId>>,
}

impl Changes {
    /// Adds what came right after.
    pub fn append(&mut self, later: Self) {
        self.updated.extend(later.updated);
        // What moved first moved farthest.
        self.reordered = self.reordered.or(later.reordered);
        self.shown.extend(later.shown);
        for id in &self.shown {
            self.updated.remove(id);
        }
    }
}

/// The repository lacks what its own commits name: it is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the repository is damaged: {0}")]
pub struct Damaged(pub String);

/// Why the timeline cannot follow the repository.
#[derive(Debug, thiserror::Error)]
pub enum TimelineError {
    /// The repository is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The index cannot be read or written.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl From<UnknownParent> for TimelineError {
    fn from(why: UnknownParent) -> Self {
        Damaged(why.to_string()).into()
    }
}

type Failed = Change<TimelineError>;

impl From<UnknownParent> for Failed {
    fn from(why: UnknownParent) -> Self {
        Self::Other(why.into())
    }
}

impl From<Damaged> for Failed {
    fn from(why: Damaged) -> Self {
        Self::Other(why.into())
    }
}

/// What was remembered of the index; nothing that could not be read again.
#[derive(Default)]
struct Memory {
    places: BTreeMap<ObjectId, Option<u64>>,
    newest_of: BTreeMap<AccountId, Option<u64>>,
}

/// The timeline of one conversation.
pub struct Timeline {
    index: Index,
    store: Arc<ObjectStore>,
    conversation: ConversationId,
    /// Since when the index has it.
    epoch: u64,
    head: ObjectId,
    len: u64,
    memory: Mutex<Memory>,
    /// The index could not be read.
    trouble: Mutex<Option<IndexError>>,
    /// A message could not be shown, since the repository lacks it.
    damage: Mutex<Option<Damaged>>,
}

/// How the timeline was brought up to the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It was up to it.
    Current,
    /// Commits were missing at its end.
    CaughtUp,
    /// It was made from the repository.
    Made,
}

/// Finds out who wrote commits that were validated.
pub(super) struct Authors<'a> {
    objects: &'a dyn Objects,
    conversation: ConversationId,
    judge: Judge<'a>,
    known: BTreeMap<(ObjectId, DeviceId), AccountId>,
}

impl<'a> Authors<'a> {
    pub(super) fn new(objects: &'a dyn Objects, conversation: ConversationId) -> Self {
        Self {
            objects,
            conversation,
            judge: Judge::new(objects, conversation),
            known: BTreeMap::new(),
        }
    }

    fn of(&mut self, commit: &Commit) -> Option<AccountId> {
        let key = (commit.tree, commit.device);
        if let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        if self.known.len() >= CHUNK {
            // What was read of the trees goes with them.
            self.known.clear();
            self.judge = Judge::new(self.objects, self.conversation);
        }
        let judge = &mut self.judge;
        let here = judge.account_of(commit.tree, commit.device).ok().flatten();
        let author = here.or_else(|| {
            // Who leaves takes their certificates along: they are in the parent's tree.
            let parent = judge.commit(*commit.parents.first()?).ok()?;
            judge.account_of(parent.tree, commit.device).ok()?
        })?;
        self.known.insert(key, author);
        Some(author)
    }

    fn read(&mut self, id: ObjectId) -> Result<(Commit, AccountId), Damaged> {
        let commit = read(self.objects, &id)?;
        let author = self
            .of(&commit)
            .ok_or_else(|| Damaged(format!("nobody is known who wrote {id}")))?;
        Ok((commit, author))
    }

    pub(super) fn written(&mut self, rules: u32, id: ObjectId) -> Result<Written, Damaged> {
        let (commit, author) = self.read(id)?;
        Ok(Written::under(rules, id, &commit, author))
    }

    fn made(&mut self, rules: u32, id: ObjectId) -> Result<Made, Damaged> {
        let (commit, author) = self.read(id)?;
        Ok(Made::new(rules, id, &commit, author))
    }
}

/// Reads a commit that has to be there.
pub(super) fn read(objects: &dyn Objects, id: &ObjectId) -> Result<Commit, Damaged> {
    let Some((Kind::Commit, data)) = objects.object(id) else {
        return Err(Damaged(format!("the commit {id} is missing")));
    };
    Commit::parse(&data).map_err(|e| Damaged(format!("the commit {id} cannot be read: {e}")))
}

fn node(row: &Row) -> Node {
    Node {
        parents: row.parents.clone(),
        time: row.time,
    }
}

/// Writes the words of a message as it was written first. Says whether something changes it that
/// stands before it, since it is newer only by its clock.
fn put_words(rows: &Rows<'_>, row: &Row, place: u64, commit: &Commit) -> rusqlite::Result<bool> {
    let place = Place {
        place,
        id: row.id,
        author: row.author,
    };
    let Some(text) = folding::first_words(&place, commit).filter(|_| row.shown) else {
        return Ok(false);
    };
    rows.put_text(&row.id, row.time.saturating_mul(1000), &text)?;
    rows.has_attached(&row.id)
}

impl Timeline {
    /// The timeline of a conversation; nothing is known of it before [`Self::follow`].
    pub fn new(index: Index, store: Arc<ObjectStore>, conversation: ConversationId) -> Self {
        Self {
            epoch: index.epoch(),
            index,
            store,
            conversation,
            head: conversation.into(),
            len: 0,
            memory: Mutex::default(),
            trouble: Mutex::default(),
            damage: Mutex::default(),
        }
    }

    /// What is known of the conversation, to look at without its actor.
    pub(super) fn known(&self) -> Known {
        Known::new(self.index.clone(), self.conversation)
    }

    /// Brings the timeline up to the repository's head, whatever became of the index: adds what is
    /// missing at its end, or makes it anew. `checked`: everything in the repository was just
    /// validated.
    pub fn follow(
        &mut self,
        head: ObjectId,
        checked: bool,
    ) -> Result<(Opened, Changes), TimelineError> {
        let epoch = self.index.epoch();
        let tried = self.try_follow(head, checked);
        match tried {
            Err(TimelineError::Index(e)) if e.is_corrupt() => {
                tracing::warn!(%e, "the index is damaged");
                self.index.reset(epoch)?;
                self.try_follow(head, checked)
            }
            other => other,
        }
    }

    fn try_follow(
        &mut self,
        head: ObjectId,
        checked: bool,
    ) -> Result<(Opened, Changes), TimelineError> {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.memory() = Memory::default();
        self.epoch = self.index.epoch();
        self.len = 0;
        let (found, made) = self
            .index
            .read(|db| match Rows::of(db, &self.conversation)? {
                Some(rows) => Ok((rows.head()?, rows.made()?)),
                None => Ok((None, None)),
            })?;
        if let Some((made, len)) = made
            && made == head
        {
            // Beside its validation.
            self.finish(head, len)?;
            return Ok((Opened::CaughtUp, Changes::default()));
        }
        if let Some((indexed, len)) = found {
            (self.head, self.len) = (indexed, len);
            if indexed == head {
                return Ok((Opened::Current, Changes::default()));
            }
            if let Some(missing) = self.missing(head)? {
                let changes = self.extend(head, missing)?;
                return Ok((Opened::CaughtUp, changes));
            }
        }
        self.make(head, checked)?;
        Ok((Opened::Made, Changes::default()))
    }

    /// What the index lacks below a head, if that is little and follows what it has.
    fn missing(&self, head: ObjectId) -> Result<Option<Vec<Written>>, TimelineError> {
        let store = self.store.clone();
        let mut authors = Authors::new(&*store, self.conversation);
        let (mut todo, mut seen, mut out) = (vec![head], BTreeSet::new(), Vec::new());
        let mut follows = false;
        while let Some(id) = todo.pop() {
            follows |= id == self.head;
            let (placed, aside) = self.rows(|rows| Ok((rows.place(&id)?, rows.aside(&id)?)))?;
            if placed.is_some() || !seen.insert(id) {
                continue;
            }
            if let Some(aside) = aside {
                todo.extend(aside.parents);
                continue;
            }
            if out.len() >= MANY {
                return Ok(None);
            }
            let written = authors.written(0, id)?;
            todo.extend(written.0.parents.iter().copied());
            out.push(written);
        }
        Ok(Some(out).filter(|_| follows))
    }

    /// Makes the index of this conversation from the repository.
    fn make(&mut self, head: ObjectId, checked: bool) -> Result<(), TimelineError> {
        let store = self.store.clone();
        let order = Walker::new(&*store).order(head, &|_| false, usize::MAX);
        let order = order.map_err(|e| Damaged(e.to_string()))?;
        let rules = if checked { RULES } else { 0 };
        let mut authors = Authors::new(&*store, self.conversation);
        let mut making = Making::begin(self.index.clone(), self.conversation, rules);
        for id in order.iter().rev() {
            making.add(authors.made(rules, *id)?);
        }
        making.complete(&head)?;
        self.finish(head, order.len() as u64)
    }

    /// All commits up to a head are in the index; what is looked up in the repository is not yet.
    fn finish(&mut self, head: ObjectId, len: u64) -> Result<(), TimelineError> {
        let mut after = None;
        loop {
            let changed = self.rows(|rows| rows.changed(after.as_ref(), CHUNK))?;
            let Some(last) = changed.last().copied() else {
                break;
            };
            after = Some(last);
            self.index.change::<_, TimelineError>(|tx| {
                self.reword(&self.mine(tx)?, changed.into_iter().collect())?;
                Ok(())
            })?;
        }
        self.index.change::<_, TimelineError>(|tx| {
            let rows = self.mine(tx)?;
            let last = folding::last(&rows, &self.store)?;
            rows.finish(&head, len, last.as_deref())?;
            Ok(())
        })?;
        (self.head, self.len) = (head, len);
        Ok(())
    }

    /// Writes the words of messages that were changed. Which messages that were.
    fn reword(
        &self,
        rows: &Rows<'_>,
        targets: BTreeSet<ObjectId>,
    ) -> rusqlite::Result<BTreeSet<ObjectId>> {
        let mut messages = BTreeSet::new();
        for target in targets {
            let mut found = rows.message(&target)?;
            if found.is_none()
                && let Some(above) = rows.target(&target)?
            {
                // A change of a reaction.
                found = rows.message(&above)?;
            }
            let Some(place) = found.filter(|p| messages.insert(p.id)) else {
                continue;
            };
            if let Some((time, text)) = folding::words_now(rows, &self.store, &place)? {
                rows.put_text(&place.id, time.saturating_mul(1000), &text)?;
            }
        }
        Ok(messages)
    }

    /// Remembers commits that were validated, without making them part of the history.
    pub fn remember(&mut self, new: Vec<Written>) {
        let put = self.index.change::<_, TimelineError>(|tx| {
            let rows = self.mine(tx)?;
            for Written(row) in &new {
                if rows.place(&row.id)?.is_none() {
                    rows.put_aside(row)?;
                }
            }
            Ok(())
        });
        // They are asked for and looked at again when they are needed.
        if let Err(e) = put {
            tracing::warn!(%e, "commits could not be remembered");
        }
        *self.memory() = Memory::default();
    }

    /// Adds commits that were validated and makes `head` the newest.
    pub fn extend(&mut self, head: ObjectId, new: Vec<Written>) -> Result<Changes, TimelineError> {
        let mut new: BTreeMap<ObjectId, Row> = new.into_iter().map(|w| (w.0.id, w.0)).collect();
        let (before, len) = ((self.len > 0).then_some(self.head), self.len);
        let (changes, len) = self.index.change::<_, TimelineError>(|tx| {
            let rows = self.mine(tx)?;
            // What is new to the order below the head: given, or standing aside.
            let mut nodes: BTreeMap<ObjectId, Node> = BTreeMap::new();
            let mut todo = vec![head];
            while let Some(id) = todo.pop() {
                if nodes.contains_key(&id) || rows.place(&id)?.is_some() {
                    continue;
                }
                let row = match new.entry(id) {
                    Entry::Occupied(given) => given.into_mut(),
                    Entry::Vacant(free) => match rows.aside(&id)? {
                        Some(aside) => free.insert(aside),
                        None => continue,
                    },
                };
                todo.extend(row.parents.iter().copied());
                nodes.insert(id, node(row));
            }
            let mut placed =
                |id: &ObjectId| -> Result<Option<Placed>, Failed> { Ok(rows.placed(id)?) };
            let tail = reorder(before, head, &nodes, &mut placed)?;
            let old: Vec<Row> = if tail.kept < len {
                rows.from(tail.kept)?
            } else {
                Vec::new()
            };
            let seen: Vec<ObjectId> = old.iter().filter(|r| r.shown).map(|r| r.id).collect();
            let (was, mut is) = (attachments(&old), Attachments::new());
            let mut moved: BTreeMap<ObjectId, Row> = old.into_iter().map(|r| (r.id, r)).collect();
            if tail.kept < len {
                rows.cut(tail.kept)?;
            }
            let (mut now, mut fresh, mut unchecked) = (Vec::new(), Vec::new(), false);
            let mut touched = BTreeSet::new();
            for (place, (id, generation)) in (tail.kept..).zip(&tail.commits) {
                let row = match moved.remove(id) {
                    Some(row) => row,
                    None => {
                        let row = new.remove(id).ok_or_else(|| {
                            Damaged(format!("nothing is known of the commit {id}"))
                        })?;
                        rows.take_aside(id)?;
                        unchecked |= row.rules != RULES;
                        if row.shown {
                            // Read again: thousands of new ones are not all kept until here.
                            let commit = read(&*self.store, id)?;
                            if put_words(&rows, &row, place, &commit)? {
                                touched.insert(*id);
                            }
                            fresh.push(*id);
                        }
                        row
                    }
                };
                if row.shown {
                    now.push(*id);
                }
                if let Some(target) = row.target {
                    is.entry(target).or_default().push(*id);
                }
                rows.put(place, *generation, &row)?;
            }
            // Merges that were given up, and what is not below the head.
            for row in moved.into_values() {
                rows.remove_text(&row.id)?;
                rows.put_aside(&row)?;
            }
            for row in new.values() {
                if rows.place(&row.id)?.is_none() {
                    rows.put_aside(row)?;
                }
            }
            // What changes them may have been here, and stand behind them now.
            touched.extend(fresh.iter().filter(|id| is.contains_key(id)));
            let both = was.keys().chain(is.keys());
            touched.extend(both.filter(|t| was.get(t) != is.get(t)).copied());
            let updated = self.reword(&rows, touched)?;
            if unchecked {
                rows.set_rules(0)?;
            }
            let len = tail.kept.saturating_add(tail.commits.len() as u64);
            let last = folding::last(&rows, &self.store)?;
            rows.finish(&head, len, last.as_deref())?;
            let before_them = rows.messages_before(tail.kept, 1)?.first().map(|p| p.id);
            Ok((differences(&seen, &now, updated, before_them), len))
        })?;
        (self.head, self.len) = (head, len);
        *self.memory() = Memory::default();
        Ok(changes)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By id, never by a key of before: the index may have been made anew.
    fn mine<'a>(&self, db: &'a Connection) -> rusqlite::Result<Rows<'a>> {
        Rows::of(db, &self.conversation)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    fn rows<T>(
        &self,
        read: impl FnOnce(&Rows<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        self.index.read(|db| read(&self.mine(db)?))
    }

    /// Reads from the index; what cannot be read is as if it were not there, until [`Self::follow`].
    pub(super) fn look<T: Default>(
        &self,
        read: impl FnOnce(&Rows<'_>) -> rusqlite::Result<T>,
    ) -> T {
        self.rows(read).unwrap_or_else(|e| {
            tracing::warn!(%e, "the index cannot be read");
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
            T::default()
        })
    }

    /// Whether the timeline is not what the repository says: [`Self::follow`] helps.
    pub fn is_behind(&self, head: &ObjectId) -> bool {
        self.head != *head || self.len == 0 || self.is_troubled()
    }

    fn is_troubled(&self) -> bool {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        self.epoch != self.index.epoch() || trouble.is_some()
    }

    pub(super) fn place(&self, id: &ObjectId) -> Option<u64> {
        if let Some(known) = self.memory().places.get(id) {
            return *known;
        }
        let place = self.look(|rows| rows.place(id));
        let mut memory = self.memory();
        if memory.places.len() >= REMEMBERED {
            memory.places.clear();
        }
        memory.places.insert(*id, place);
        place
    }

    /// One message.
    pub fn entry(&self, id: &ObjectId) -> Option<Shown> {
        self.read_entry(id, &Extent::SHOWN)
    }

    /// One message with all its words.
    pub fn whole(&self, id: &ObjectId) -> Option<Shown> {
        self.read_entry(id, &Extent::WHOLE)
    }

    fn read_entry(&self, id: &ObjectId, extent: &Extent) -> Option<Shown> {
        self.look(|rows| {
            let Some(place) = rows.message(id)? else {
                return Ok(None);
            };
            let before = rows.messages_before(place.place, 1)?;
            let previous = before.first().map(|p| p.id);
            self.fold(rows, &place, previous, extent)
        })
        .map(|(entry, _)| entry)
    }

    /// A message of the history, and what it weighs. One that the repository lacks is noted.
    fn fold(
        &self,
        rows: &Rows<'_>,
        place: &Place,
        previous: Option<ObjectId>,
        extent: &Extent,
    ) -> rusqlite::Result<Option<(Shown, usize)>> {
        let found = folding::message(rows, &self.store, place, previous, extent)?;
        if found.is_none()
            && let Err(e) = read(&*self.store, &place.id)
        {
            *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
        }
        Ok(found)
    }

    /// What was found missing of the repository by reading messages since this was asked last.
    pub fn take_damage(&self) -> Option<Damaged> {
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        damage.take()
    }

    /// When a commit was first here, unix ms.
    pub fn came(&self, id: &ObjectId) -> Option<i64> {
        self.look(|rows| rows.came(id))
    }

    /// Who wrote a message; `None` for what is no message of its own.
    pub fn author(&self, id: &ObjectId) -> Option<AccountId> {
        self.look(|rows| rows.message(id)).map(|p| p.author)
    }

    /// Messages before one (or the newest), oldest first, and whether there are earlier ones. At most
    /// `limit`, and fewer where they are long.
    pub fn page(&self, before: Option<&ObjectId>, limit: usize) -> Option<(Vec<Shown>, bool)> {
        let before = match before {
            Some(id) => self.look(|rows| rows.message(id))?.place,
            None => self.len,
        };
        // The one before the page says what precedes its first message.
        let places = self.look(|rows| rows.messages_before(before, limit.saturating_add(1)));
        let (mut page, mut weight, mut read) = (Vec::new(), 0usize, 0);
        for (n, place) in places.iter().take(limit).enumerate() {
            if weight > folding::PAGE {
                break;
            }
            read = n.saturating_add(1);
            let previous = places.get(read).map(|p| p.id);
            let found = self.look(|rows| self.fold(rows, place, previous, &Extent::SHOWN));
            if let Some((entry, weighs)) = found {
                weight = weight.saturating_add(weighs);
                page.push(entry);
            }
        }
        page.reverse();
        Some((page, read < places.len()))
    }

    /// The last `limit` commits up to one (or the newest), oldest first.
    pub fn window(&self, from: Option<&ObjectId>, limit: usize) -> Option<Vec<ObjectId>> {
        let end = match from {
            Some(from) => self.place(from)?.saturating_add(1),
            None => self.len,
        };
        let start = end.saturating_sub(limit as u64);
        Some(self.look(|rows| rows.commits(start..end)))
    }

    /// The newest message, as it was when the newest commit came; nothing is read of the repository.
    pub fn last(&self) -> Option<api::Message> {
        let text = self.look(|rows| rows.last())?;
        serde_json::from_str(&text).ok()
    }

    /// Messages of others after one (or all) that say something, for the count of unread ones: at
    /// most `max`.
    pub fn unread(&self, after: Option<&ObjectId>, own: &AccountId, max: usize) -> usize {
        // By place: what was read last may be a commit that is not shown.
        let read = after.and_then(|a| self.place(a));
        let first = read.map_or(0, |p| p.saturating_add(1));
        self.look(|rows| rows.count_of_others(own, first, max))
    }

    /// Whether one message stands after another (or there is no other).
    pub fn is_after(&self, id: &ObjectId, other: Option<&ObjectId>) -> bool {
        let Some(place) = self.place(id) else {
            return false;
        };
        other.and_then(|o| self.place(o)).is_none_or(|o| place > o)
    }

    /// The newest message of somebody.
    pub fn newest_by(&self, who: &AccountId) -> Option<ObjectId> {
        let found = self.look(|rows| rows.messages_of(who, 0..self.len, 1));
        found.first().map(|p| p.id)
    }

    /// Whether somebody wrote something after a message.
    pub fn wrote_after(&self, who: &AccountId, id: &ObjectId) -> bool {
        let known = self.memory().newest_of.get(who).copied();
        let newest = known.unwrap_or_else(|| {
            let found = self.look(|rows| rows.messages_of(who, 0..self.len, 1));
            let newest = found.first().map(|p| p.place);
            self.memory().newest_of.insert(*who, newest);
            newest
        });
        newest.is_some_and(|n| self.place(id).is_some_and(|p| p < n))
    }

    /// Own messages after `after`, up to and with `to`: those whose state changes when someone has `to`.
    pub fn between(
        &self,
        after: Option<&ObjectId>,
        to: &ObjectId,
        own: &AccountId,
        max: usize,
    ) -> Vec<ObjectId> {
        let Some(end) = self.place(to).map(|p| p.saturating_add(1)) else {
            return Vec::new();
        };
        let after = after.and_then(|a| self.place(a));
        let start = after.map_or(0, |p| p.saturating_add(1));
        let found = self.look(|rows| rows.messages_of(own, start..end, max));
        found.iter().rev().map(|p| p.id).collect()
    }

    /// The newest commit of the history that is part of what somebody has who has this one.
    pub fn nearest(&self, id: &ObjectId) -> Option<ObjectId> {
        let (mut todo, mut seen, mut best) = (vec![*id], BTreeSet::new(), None);
        while let Some(id) = todo.pop() {
            if let Some(place) = self.place(&id) {
                best = best.max(Some((place, id)));
            } else if seen.insert(id)
                && let Some(aside) = self.look(|rows| rows.aside(&id))
            {
                todo.extend(aside.parents);
            }
        }
        best.map(|(_, id)| id)
    }

    /// Whether a commit is known here: part of the conversation, or a merge that was not needed.
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.place(id).is_some() || self.look(|rows| rows.aside(id)).is_some()
    }

    /// A commit of the conversation.
    pub fn commit(&self, id: &ObjectId) -> Option<Commit> {
        self.contains(id)
            .then(|| read(&*self.store, id).ok())
            .flatten()
    }

    /// The time of a commit, unix seconds.
    pub fn time(&self, id: &ObjectId) -> Option<i64> {
        Some(self.look(|rows| rows.placed(id))?.node.time)
    }

    /// How many commits the history has.
    pub fn len(&self) -> usize {
        usize::try_from(self.len).unwrap_or(usize::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Commits to tell a peer of when fetching: the newest twenty, then with growing gaps, and
    /// always the first commit.
    pub fn haves(&self) -> Vec<ObjectId> {
        let (mut out, mut gap) = (Vec::new(), 0u64);
        let mut at = self.len;
        while let Some(place) = at.checked_sub(1) {
            out.extend(self.look(|rows| rows.at_place(place)));
            if self.len.saturating_sub(place) > DENSE {
                // A quarter more each time: few steps span any history.
                gap = gap.saturating_add(gap / 4).saturating_add(1);
            }
            at = place.saturating_sub(gap);
            if at == 0 && place > 0 {
                at = 1;
            }
        }
        out
    }

    /// Some of the oldest commits that were not found to follow the present rules, oldest first;
    /// nothing when all were.
    pub fn unchecked(&self, limit: usize) -> Vec<ObjectId> {
        self.look(|rows| {
            if rows.rules()? == Some(RULES) {
                return Ok(Vec::new());
            }
            let found = rows.unchecked(RULES, 0, limit)?;
            Ok(found.iter().map(|p| p.id).collect())
        })
    }

    /// These commits follow the present rules, or all do.
    pub fn set_checked(&mut self, commits: Option<&[ObjectId]>) -> Result<(), TimelineError> {
        self.index.change(|tx| {
            let rows = self.mine(tx)?;
            match commits {
                Some(commits) => {
                    for id in commits {
                        rows.checked(id, RULES)?;
                    }
                }
                None => rows.set_rules(RULES)?,
            }
            Ok(())
        })
    }

    /// All commits follow the present rules. Says whether that is news.
    pub fn set_all_checked(&mut self) -> Result<bool, TimelineError> {
        let known = self.rows(|rows| rows.rules())? == Some(RULES);
        if !known {
            self.set_checked(None)?;
        }
        Ok(!known)
    }
}

/// What changes messages, or reacts to them, in order.
type Attachments = BTreeMap<ObjectId, Vec<ObjectId>>;

fn attachments(rows: &[Row]) -> Attachments {
    let mut out = Attachments::new();
    for row in rows {
        if let Some(target) = row.target {
            out.entry(target).or_default().push(row.id);
        }
    }
    out
}

/// What a reader sees change where the messages `old` were and `now` are, behind `anchor`.
fn differences(
    old: &[ObjectId],
    now: &[ObjectId],
    mut updated: BTreeSet<ObjectId>,
    anchor: Option<ObjectId>,
) -> Changes {
    let known: BTreeSet<&ObjectId> = old.iter().collect();
    let shown: Vec<ObjectId> = now
        .iter()
        .filter(|id| !known.contains(id))
        .copied()
        .collect();
    for id in &shown {
        updated.remove(id);
    }
    let stayed = old.iter().zip(now).take_while(|(a, b)| a == b).count();
    // Where only merges came or went, a reader sees no difference.
    let reordered = (stayed < old.len()).then(|| match stayed.checked_sub(1) {
        Some(last) => now.get(last).copied(),
        None => anchor,
    });
    Changes {
        shown,
        updated,
        reordered,
    }
}
