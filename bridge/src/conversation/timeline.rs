//! What a reader sees of a conversation, kept up as commits come: the order of
//! all commits, and the messages with edits and reactions folded in.

use starling_core::id::{AccountId, ConversationId, ObjectId};
use starling_core::swarm::commit::Commit;
use starling_core::swarm::history::{Effect, Entry, History};
use starling_core::swarm::judge::Judge;
use starling_core::swarm::message::Message;
use starling_core::swarm::object::{Kind, Objects};
use starling_core::swarm::order::{LinearOrder, Node, UnknownParent};
use std::collections::{BTreeMap, BTreeSet};

/// A commit with the account of the device that wrote it.
#[derive(Debug, Clone)]
pub struct Written {
    /// Its id.
    pub id: ObjectId,
    /// The commit.
    pub commit: Commit,
    /// Who wrote it.
    pub author: AccountId,
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

/// The timeline of one conversation.
#[derive(Default)]
pub struct Timeline {
    /// All valid commits that were seen: those of the history, and merges that were not taken or
    /// were given up, since somebody may build on them.
    commits: BTreeMap<ObjectId, Written>,
    order: LinearOrder,
    history: History,
}

/// The repository lacks what its own commits name: it is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the repository is damaged: {0}")]
pub struct Damaged(pub String);

impl From<UnknownParent> for Damaged {
    fn from(why: UnknownParent) -> Self {
        Self(why.to_string())
    }
}

/// The author's account of a commit that was validated.
fn author(judge: &mut Judge<'_>, commit: &Commit) -> Option<AccountId> {
    if let Ok(Some(account)) = judge.account_of(commit.tree, commit.device) {
        return Some(account);
    }
    // Who leaves takes their certificates along: they are in the parent's tree.
    let parent = judge.commit(*commit.parents.first()?).ok()?;
    judge.account_of(parent.tree, commit.device).ok()?
}

impl Timeline {
    /// Reads a whole conversation that was validated.
    pub fn load(
        objects: &dyn Objects,
        conversation: ConversationId,
        head: ObjectId,
    ) -> Result<Self, Damaged> {
        let mut judge = Judge::new(objects, conversation);
        let mut commits = BTreeMap::new();
        let mut todo = vec![head];
        while let Some(id) = todo.pop() {
            if commits.contains_key(&id) {
                continue;
            }
            let Some((Kind::Commit, data)) = objects.object(&id) else {
                return Err(Damaged(format!("the commit {id} is missing")));
            };
            let commit = Commit::parse(&data)
                .map_err(|e| Damaged(format!("the commit {id} cannot be read: {e}")))?;
            todo.extend(commit.parents.iter().copied());
            let author = author(&mut judge, &commit)
                .ok_or_else(|| Damaged(format!("nobody is known who wrote {id}")))?;
            commits.insert(id, Written { id, commit, author });
        }
        let mut timeline = Self::default();
        timeline.extend(head, commits.into_values().collect())?;
        Ok(timeline)
    }

    /// Remembers commits that were validated, without making them part of the history.
    pub fn remember(&mut self, new: Vec<Written>) {
        for w in new {
            self.commits.entry(w.id).or_insert(w);
        }
    }

    /// The commits that `head` brings into the order, and whether what is there stays part of it.
    fn fresh(&self, head: ObjectId) -> (BTreeMap<ObjectId, &Written>, bool) {
        let last = self.order.order().last();
        let mut grows = last.is_none() || last == Some(&head);
        let mut fresh = BTreeMap::new();
        let mut todo = vec![head];
        while let Some(id) = todo.pop() {
            if self.order.position(&id).is_some() {
                grows |= Some(&id) == last;
            } else if let Some(w) = self.commits.get(&id)
                && fresh.insert(id, w).is_none()
            {
                todo.extend(w.commit.parents.iter().copied());
            }
        }
        (fresh, grows)
    }

    /// Adds commits that were validated and makes `head` the newest.
    pub fn extend(&mut self, head: ObjectId, new: Vec<Written>) -> Result<Changes, Damaged> {
        self.remember(new);
        let before = self.order.len();
        let (fresh, grows) = self.fresh(head);
        let touched: BTreeSet<ObjectId> =
            fresh.values().filter_map(|w| target(&w.commit)).collect();
        let kept = if grows {
            let nodes = parents_first(&fresh);
            self.order.update(head, nodes)?
        } else {
            // Merges of ours were given up for another side's: order anew what is left.
            let old = std::mem::take(&mut self.order);
            let (all, _) = self.fresh(head);
            let nodes = parents_first(&all);
            self.order.update(head, nodes)?;
            let both = old.order().iter().zip(self.order.order());
            both.take_while(|(a, b)| a == b).count()
        };
        let mut changes = Changes::default();
        if kept < before {
            // New commits stand between old ones: fold anew what comes after.
            let old: Vec<ObjectId> = self.history.ids().collect();
            self.history = History::new();
            for id in self.order.order() {
                if let Some(w) = self.commits.get(id) {
                    self.history.push_newer(*id, &w.commit, w.author);
                }
            }
            let now: Vec<ObjectId> = self.history.ids().collect();
            let stayed = old.iter().zip(&now).take_while(|(a, b)| a == b).count();
            let known: BTreeSet<&ObjectId> = old.iter().collect();
            changes.shown = now
                .iter()
                .filter(|id| !known.contains(id))
                .copied()
                .collect();
            let seen = |id: &ObjectId| known.contains(id) && self.history.entry(id).is_some();
            changes.updated = touched.into_iter().filter(seen).collect();
            // Where only merges came or went, a reader sees no difference.
            if stayed < old.len() {
                changes.reordered = Some(
                    stayed
                        .checked_sub(1)
                        .and_then(|last| now.get(last))
                        .copied(),
                );
            }
            return Ok(changes);
        }
        for id in self.order.order().get(kept..).unwrap_or_default() {
            let Some(w) = self.commits.get(id) else {
                continue;
            };
            match self.history.push_newer(*id, &w.commit, w.author) {
                Effect::Shown(id) => changes.shown.push(id),
                Effect::Updated(id) => drop(changes.updated.insert(id)),
                Effect::Nothing => {}
            }
        }
        for id in &changes.shown {
            changes.updated.remove(id);
        }
        Ok(changes)
    }

    /// One message.
    pub fn entry(&self, id: &ObjectId) -> Option<Entry> {
        self.history.entry(id)
    }

    /// Messages before one (or the newest), oldest first, and whether there are earlier ones.
    pub fn page(&self, before: Option<&ObjectId>, limit: usize) -> Option<(Vec<Entry>, bool)> {
        let mut ids = self.history.ids().rev();
        if let Some(before) = before {
            self.history.entry(before)?;
            ids.find(|id| id == before);
        }
        let mut page: Vec<Entry> = ids
            .by_ref()
            .take(limit)
            .filter_map(|id| self.history.entry(&id))
            .collect();
        page.reverse();
        Some((page, ids.next().is_some()))
    }

    /// The last `limit` commits up to one (or the newest), oldest first.
    pub fn window(&self, from: Option<&ObjectId>, limit: usize) -> Option<Vec<ObjectId>> {
        let end = match from {
            Some(from) => self.order.position(from)?.saturating_add(1),
            None => self.order.len(),
        };
        self.order
            .order()
            .get(end.saturating_sub(limit)..end)
            .map(<[ObjectId]>::to_vec)
    }

    /// The newest message.
    pub fn last(&self) -> Option<Entry> {
        let id = self.history.ids().next_back()?;
        self.history.entry(&id)
    }

    /// Messages of others after one (or all), for the count of unread ones: at most `max`.
    pub fn unread(&self, after: Option<&ObjectId>, own: &AccountId, max: usize) -> usize {
        // By place: what was read last may be a commit that is not shown.
        let read = after.and_then(|a| self.order.position(a));
        let newer = self
            .history
            .ids()
            .rev()
            .take_while(|id| self.order.position(id) > read);
        let others = newer.filter(|id| self.commits.get(id).is_some_and(|w| w.author != *own));
        others.take(max).count()
    }

    /// Whether one message stands after another (or there is no other).
    pub fn is_after(&self, id: &ObjectId, other: Option<&ObjectId>) -> bool {
        let Some(place) = self.order.position(id) else {
            return false;
        };
        other
            .and_then(|o| self.order.position(o))
            .is_none_or(|o| place > o)
    }

    /// Own messages after `after`, up to and with `to`: those whose state changes when someone has `to`.
    pub fn between(
        &self,
        after: Option<&ObjectId>,
        to: &ObjectId,
        own: &AccountId,
        max: usize,
    ) -> Vec<ObjectId> {
        let Some(end) = self.order.position(to) else {
            return Vec::new();
        };
        let start = after
            .and_then(|a| self.order.position(a))
            .map_or(0, |p| p.saturating_add(1));
        let range = self.order.order().get(start..=end).unwrap_or_default();
        let own_shown = range
            .iter()
            .rev()
            .filter(|id| self.history.entry(id).is_some_and(|e| e.now.author == *own));
        let mut out: Vec<ObjectId> = own_shown.take(max).copied().collect();
        out.reverse();
        out
    }

    /// The newest commit of the history that is part of what somebody has who has this one.
    pub fn nearest(&self, id: &ObjectId) -> Option<ObjectId> {
        let (mut todo, mut seen, mut best) = (vec![*id], BTreeSet::new(), None);
        while let Some(id) = todo.pop() {
            if let Some(place) = self.order.position(&id) {
                best = best.max(Some((place, id)));
            } else if let Some(w) = self.commits.get(&id)
                && seen.insert(id)
            {
                todo.extend(w.commit.parents.iter().copied());
            }
        }
        best.map(|(_, id)| id)
    }

    /// Whether a commit is known here: part of the conversation, or a merge that was not needed.
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.commits.contains_key(id)
    }

    /// A commit of the conversation.
    pub fn commit(&self, id: &ObjectId) -> Option<&Commit> {
        Some(&self.commits.get(id)?.commit)
    }

    /// The time of a commit, unix seconds.
    pub fn time(&self, id: &ObjectId) -> Option<i64> {
        Some(self.commits.get(id)?.commit.time)
    }

    /// How many commits the history has.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All messages, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = Entry> + '_ {
        self.history.entries()
    }
}

/// The message that a commit changes: by an edit, a reaction, a deletion.
fn target(commit: &Commit) -> Option<ObjectId> {
    match Message::parse(&commit.message).ok()? {
        Message::Edit { edit, .. } | Message::FileDeletion { edit } => edit.parse().ok(),
        Message::Reaction { react_to, .. } => react_to.parse().ok(),
        _ => None,
    }
}

/// The new commits with parents before children.
fn parents_first(new: &BTreeMap<ObjectId, &Written>) -> Vec<(ObjectId, Node)> {
    let mut out = Vec::with_capacity(new.len());
    let mut done: BTreeSet<ObjectId> = BTreeSet::new();
    for start in new.keys() {
        let mut stack = vec![(*start, false)];
        while let Some((id, ready)) = stack.pop() {
            let Some(w) = new.get(&id) else { continue };
            if done.contains(&id) {
                continue;
            }
            if ready {
                done.insert(id);
                out.push((
                    id,
                    Node {
                        parents: w.commit.parents.clone(),
                        time: w.commit.time,
                    },
                ));
            } else {
                stack.push((id, true));
                stack.extend(w.commit.parents.iter().map(|p| (*p, false)));
            }
        }
    }
    out
}
