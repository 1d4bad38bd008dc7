//! The one order in which every member reads a conversation.
//!
//! libgit2's `TOPOLOGICAL | TIME`: children before parents, and among commits
//! whose children are all out the newer first. Its queue is a binary heap whose
//! ties are decided by where elements happen to stand, so the heap here works
//! step by step as that one does.

use crate::id::ObjectId;
use std::collections::{BTreeMap, BTreeSet};

/// What the order needs to know of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The parents, in the commit's order.
    pub parents: Vec<ObjectId>,
    /// The committer's time, unix seconds.
    pub time: i64,
}

/// A binary heap, newest on top, equal elements left where they are.
#[derive(Debug, Default)]
struct Queue(Vec<(i64, ObjectId)>);

impl Queue {
    fn time(&self, at: usize) -> Option<i64> {
        self.0.get(at).map(|e| e.0)
    }

    fn push(&mut self, time: i64, id: ObjectId) {
        self.0.push((time, id));
        let mut at = self.0.len().saturating_sub(1);
        while at > 0 {
            let parent = at.saturating_sub(1) / 2;
            if self.time(parent) >= Some(time) {
                break;
            }
            self.0.swap(parent, at);
            at = parent;
        }
    }

    fn pop(&mut self) -> Option<ObjectId> {
        if self.0.is_empty() {
            return None;
        }
        // The last one takes the place of the first and sinks.
        let (_, top) = self.0.swap_remove(0);
        let mut at = 0usize;
        while let Some(mut kid) = at.checked_mul(2).and_then(|n| n.checked_add(1)) {
            let Some(mut kid_time) = self.time(kid) else {
                break;
            };
            if let Some(other) = self.time(kid.saturating_add(1))
                && kid_time < other
            {
                kid = kid.saturating_add(1);
                kid_time = other;
            }
            if self.time(at) >= Some(kid_time) {
                break;
            }
            self.0.swap(at, kid);
            at = kid;
        }
        Some(top)
    }
}

/// All commits of `nodes` that can be reached from `head`, newest first. Parents
/// that are not among the nodes are where the walk ends.
pub fn linear(head: ObjectId, nodes: &BTreeMap<ObjectId, Node>) -> Vec<ObjectId> {
    walk(head, |id| nodes.get(id))
}

fn walk<'a>(head: ObjectId, node: impl Fn(&ObjectId) -> Option<&'a Node>) -> Vec<ObjectId> {
    // How many children of each are not out yet.
    let mut children: BTreeMap<ObjectId, usize> = BTreeMap::new();
    let mut todo = vec![head];
    let mut seen: BTreeSet<ObjectId> = todo.iter().copied().collect();
    while let Some(id) = todo.pop() {
        let Some(n) = node(&id) else { continue };
        for parent in &n.parents {
            if node(parent).is_none() {
                continue;
            }
            *children.entry(*parent).or_default() += 1;
            if seen.insert(*parent) {
                todo.push(*parent);
            }
        }
    }
    let mut out = Vec::with_capacity(seen.len());
    let mut queue = Queue::default();
    if let Some(n) = node(&head) {
        queue.push(n.time, head);
    }
    while let Some(id) = queue.pop() {
        out.push(id);
        for parent in node(&id).into_iter().flat_map(|n| &n.parents) {
            let Some(left) = children.get_mut(parent) else {
                continue;
            };
            *left = left.saturating_sub(1);
            if *left == 0 {
                children.remove(parent);
                if let Some(n) = node(parent) {
                    queue.push(n.time, *parent);
                }
            }
        }
    }
    out
}

#[derive(Debug, Clone)]
struct Known {
    node: Node,
    /// 1 + the greatest of the parents': children before parents when walked downwards.
    generation: u32,
    /// Index in the order, oldest first.
    position: usize,
}

/// A commit whose parent is not known: it cannot be put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the parent {parent} of {commit} is not known")]
pub struct UnknownParent {
    /// The commit.
    pub commit: ObjectId,
    /// What is missing.
    pub parent: ObjectId,
}

/// The order of a conversation, kept while it grows: new commits re-order no
/// more than the part of the history they are concurrent with.
#[derive(Debug, Clone, Default)]
pub struct LinearOrder {
    known: BTreeMap<ObjectId, Known>,
    order: Vec<ObjectId>,
}

impl LinearOrder {
    /// No commits.
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole order, oldest first.
    pub fn order(&self) -> &[ObjectId] {
        &self.order
    }

    /// How many commits there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Index of a commit in the order, oldest first.
    pub fn position(&self, id: &ObjectId) -> Option<usize> {
        self.known.get(id).map(|k| k.position)
    }

    /// The commit that is read before this one.
    pub fn linear_parent(&self, id: &ObjectId) -> Option<ObjectId> {
        self.order.get(self.position(id)?.checked_sub(1)?).copied()
    }

    /// Adds commits, parents first, and makes `head` the newest of all; every commit
    /// must be reachable from it. Says how many of the oldest stayed where they were.
    pub fn update(
        &mut self,
        head: ObjectId,
        new: impl IntoIterator<Item = (ObjectId, Node)>,
    ) -> Result<usize, UnknownParent> {
        for (id, node) in new {
            if self.known.contains_key(&id) {
                continue;
            }
            let mut generation = 0;
            for parent in &node.parents {
                let known = self.known.get(parent).ok_or(UnknownParent {
                    commit: id,
                    parent: *parent,
                })?;
                generation = generation.max(known.generation.saturating_add(1));
            }
            self.known.insert(
                id,
                Known {
                    node,
                    generation,
                    position: usize::MAX,
                },
            );
        }
        let kept = self.stable_below(head);
        let tail: Vec<ObjectId> = {
            let inside = |id: &ObjectId| {
                self.known
                    .get(id)
                    .filter(|k| k.position >= kept)
                    .map(|k| &k.node)
            };
            walk(head, inside)
        };
        self.order.truncate(kept);
        self.order.extend(tail.into_iter().rev());
        for (position, id) in self.order.iter().enumerate().skip(kept) {
            if let Some(known) = self.known.get_mut(id) {
                known.position = position;
            }
        }
        Ok(kept)
    }

    /// Walks down from the head by generations until one commit is left at the frontier
    /// of which everything above is a descendant, in the old order as in the new one:
    /// at and below it the order depends on nothing else. How many commits that are.
    fn stable_below(&self, head: ObjectId) -> usize {
        let generation = |id: &ObjectId| self.known.get(id).map_or(0, |k| k.generation);
        let mut frontier: BTreeSet<(u32, ObjectId)> = BTreeSet::from([(generation(&head), head)]);
        // Commits of the old order that were passed.
        let mut passed = 0usize;
        while let Some((level, id)) = frontier.pop_last() {
            let Some(known) = self.known.get(&id) else {
                break;
            };
            let old = known.position != usize::MAX;
            if old
                && frontier.is_empty()
                && known.position.saturating_add(passed).saturating_add(1) == self.order.len()
            {
                return known.position.saturating_add(1);
            }
            if level == 0 {
                break;
            }
            passed = passed.saturating_add(usize::from(old));
            frontier.extend(known.node.parents.iter().map(|p| (generation(p), *p)));
        }
        0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: usize) -> ObjectId {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        bytes[12..].copy_from_slice(&(n as u64).to_be_bytes());
        ObjectId(bytes)
    }

    /// Random histories: each commit has one or two earlier parents, mostly recent ones; the last joins all heads.
    fn histories() -> impl Strategy<Value = Vec<(ObjectId, Node)>> {
        proptest::collection::vec((0usize..4, 0usize..4, any::<bool>(), 0i64..6), 1..40).prop_map(
            |steps| {
                let mut out = vec![(
                    id(0),
                    Node {
                        parents: vec![],
                        time: 0,
                    },
                )];
                for (n, (a, b, merge, time)) in steps.into_iter().enumerate() {
                    let at = |back: usize| id(n - back.min(n));
                    let mut parents = vec![at(a)];
                    if merge && at(b) != parents[0] {
                        parents.push(at(b));
                    }
                    out.push((id(n + 1), Node { parents, time }));
                }
                let used: BTreeSet<ObjectId> =
                    out.iter().flat_map(|(_, n)| n.parents.clone()).collect();
                let mut heads: Vec<ObjectId> = out
                    .iter()
                    .map(|(i, _)| *i)
                    .filter(|i| !used.contains(i))
                    .collect();
                while heads.len() > 1 {
                    let parents = heads.split_off(heads.len() - 2);
                    let next = id(out.len());
                    out.push((next, Node { parents, time: 7 }));
                    heads.push(next);
                }
                out
            },
        )
    }

    proptest! {
        #[test]
        fn children_come_before_parents_and_nothing_is_lost(history in histories()) {
            let nodes: BTreeMap<_, _> = history.iter().cloned().collect();
            let order = linear(history.last().unwrap().0, &nodes);
            prop_assert_eq!(order.len(), nodes.len());
            let at: BTreeMap<_, _> = order.iter().enumerate().map(|(n, i)| (*i, n)).collect();
            for (i, node) in &nodes {
                for parent in &node.parents {
                    prop_assert!(at[i] < at[parent]);
                }
            }
        }

        #[test]
        fn growing_gives_the_order_of_the_whole(history in histories()) {
            let mut grown = LinearOrder::new();
            let mut nodes = BTreeMap::new();
            let mut pending = Vec::new();
            for (i, node) in history {
                pending.push((i, node.clone()));
                nodes.insert(i, node);
                // Only a commit that has all others below it can be a head.
                let order = linear(i, &nodes);
                if order.len() == nodes.len() {
                    let before = grown.order().to_vec();
                    let kept = grown.update(i, pending.drain(..)).unwrap();
                    prop_assert_eq!(grown.order().get(..kept), before.get(..kept));
                    prop_assert_eq!(grown.order().iter().rev().copied().collect::<Vec<_>>(), order);
                }
            }
            prop_assert_eq!(grown.len(), nodes.len());
        }
    }

    #[test]
    fn appending_moves_nothing_and_a_stranger_is_named() {
        let mut order = LinearOrder::new();
        let node = |parents: &[usize], time| Node {
            parents: parents.iter().map(|p| id(*p)).collect(),
            time,
        };
        order.update(id(0), [(id(0), node(&[], 1))]).unwrap();
        assert_eq!(order.update(id(1), [(id(1), node(&[0], 0))]), Ok(1));
        assert_eq!(order.update(id(2), [(id(2), node(&[1], 0))]), Ok(2));
        assert_eq!(order.linear_parent(&id(2)), Some(id(1)));
        assert_eq!(order.linear_parent(&id(0)), None);
        assert_eq!(
            order.update(id(9), [(id(9), node(&[8], 0))]),
            Err(UnknownParent {
                commit: id(9),
                parent: id(8)
            })
        );
    }
}
