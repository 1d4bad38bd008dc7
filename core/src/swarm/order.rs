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
#[derive(Debug)]
pub(super) struct Queue<T>(Vec<(i64, T)>);

impl<T: Copy> Queue<T> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    fn time(&self, at: usize) -> Option<i64> {
        self.0.get(at).map(|e| e.0)
    }

    pub(super) fn push(&mut self, time: i64, id: T) {
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

    pub(super) fn pop(&mut self) -> Option<T> {
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
            let count = children.entry(*parent).or_default();
            *count = count.saturating_add(1);
            if seen.insert(*parent) {
                todo.push(*parent);
            }
        }
    }
    let mut out = Vec::with_capacity(seen.len());
    let mut queue = Queue::new();
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

/// A commit that has its place in an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Parents and time.
    pub node: Node,
    /// 1 + the greatest of the parents', 0 without parents: children before parents when walked
    /// downwards.
    pub generation: u32,
    /// Index in the order, oldest first.
    pub place: u64,
}

/// How an order continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// So many of the oldest stay where they are.
    pub kept: u64,
    /// What follows them, oldest first, each with its generation. What stood after the kept ones
    /// and is not among these is no part of the order any more.
    pub commits: Vec<(ObjectId, u32)>,
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

/// Works out how an order with the newest commit `before` continues when `head` becomes the newest
/// of all. `new` holds the commits below `head` that have no place yet; `placed` looks up those
/// that have. No more is looked up than what can move, and one commit below it.
///
/// Walks down from both heads by generations until one commit with a place is left at the
/// frontier: everything above it is a descendant of it, in the old order as in the new one, so at
/// and below it the order depends on nothing else.
pub fn reorder<E: From<UnknownParent>>(
    before: Option<ObjectId>,
    head: ObjectId,
    new: &BTreeMap<ObjectId, Node>,
    placed: &mut dyn FnMut(&ObjectId) -> Result<Option<Placed>, E>,
) -> Result<Tail, E> {
    let mut fresh: BTreeMap<ObjectId, u32> = BTreeMap::new();
    let mut old: BTreeMap<ObjectId, Placed> = BTreeMap::new();
    // Generations of the new ones, parents first.
    let mut stack = vec![(head, head, false)];
    while let Some((id, child, ready)) = stack.pop() {
        if fresh.contains_key(&id) || old.contains_key(&id) {
            continue;
        }
        let Some(node) = new.get(&id) else {
            let found = placed(&id)?.ok_or(UnknownParent {
                commit: child,
                parent: id,
            })?;
            old.insert(id, found);
            continue;
        };
        if ready {
            let above = |p: &ObjectId| {
                let generation = fresh.get(p).copied();
                generation.or_else(|| old.get(p).map(|o| o.generation))
            };
            let generation = node.parents.iter().filter_map(above).max();
            fresh.insert(id, generation.map_or(0, |g| g.saturating_add(1)));
        } else {
            stack.push((id, child, true));
            stack.extend(node.parents.iter().map(|p| (*p, id, false)));
        }
    }
    let mut level = |id: &ObjectId, old: &mut BTreeMap<ObjectId, Placed>, child: ObjectId| {
        if let Some(generation) = fresh.get(id) {
            return Ok(*generation);
        }
        if let Some(known) = old.get(id) {
            return Ok(known.generation);
        }
        let found = placed(id)?.ok_or(UnknownParent {
            commit: child,
            parent: *id,
        })?;
        let generation = found.generation;
        old.insert(*id, found);
        Ok::<u32, E>(generation)
    };
    let mut frontier: BTreeSet<(u32, ObjectId)> = BTreeSet::new();
    for id in before.iter().chain([&head]) {
        frontier.insert((level(id, &mut old, *id)?, *id));
    }
    let mut kept = 0u64;
    while let Some((_, id)) = frontier.pop_last() {
        let parents = match (
            new.get(&id).filter(|_| fresh.contains_key(&id)),
            old.get(&id),
        ) {
            (Some(node), _) => node.parents.clone(),
            (None, Some(known)) if frontier.is_empty() => {
                kept = known.place.saturating_add(1);
                break;
            }
            (None, Some(known)) => known.node.parents.clone(),
            (None, None) => break,
        };
        for parent in parents {
            frontier.insert((level(&parent, &mut old, id)?, parent));
        }
    }
    let inside = |id: &ObjectId| match old.get(id) {
        Some(known) => Some(&known.node).filter(|_| known.place >= kept),
        None => new.get(id).filter(|_| fresh.contains_key(id)),
    };
    let generation = |id: &ObjectId| {
        let known = old.get(id).map(|o| o.generation);
        known.or_else(|| fresh.get(id).copied()).unwrap_or(0)
    };
    let mut commits: Vec<_> = walk(head, inside)
        .into_iter()
        .map(|id| (id, generation(&id)))
        .collect();
    commits.reverse();
    Ok(Tail { kept, commits })
}

#[derive(Debug, Clone)]
struct Known {
    node: Node,
    generation: u32,
    position: usize,
}

/// The order of a conversation in memory, kept while it grows: new commits re-order no
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

    /// The generation of a commit of the order: see [`Placed::generation`].
    pub fn generation(&self, id: &ObjectId) -> Option<u32> {
        self.known.get(id).map(|k| k.generation)
    }

    /// The commit that is read before this one.
    pub fn linear_parent(&self, id: &ObjectId) -> Option<ObjectId> {
        self.order.get(self.position(id)?.checked_sub(1)?).copied()
    }

    /// Adds commits and makes `head` the newest of all: what cannot be reached from it is no part
    /// of the order any more. Says how many of the oldest stayed where they were.
    pub fn update(
        &mut self,
        head: ObjectId,
        new: impl IntoIterator<Item = (ObjectId, Node)>,
    ) -> Result<usize, UnknownParent> {
        let mut new: BTreeMap<ObjectId, Node> = new
            .into_iter()
            .filter(|(id, _)| !self.known.contains_key(id))
            .collect();
        let mut placed = |id: &ObjectId| {
            Ok::<_, UnknownParent>(self.known.get(id).map(|k| Placed {
                node: k.node.clone(),
                generation: k.generation,
                place: k.position as u64,
            }))
        };
        let tail = reorder(self.order.last().copied(), head, &new, &mut placed)?;
        let kept = usize::try_from(tail.kept).unwrap_or(usize::MAX);
        let mut gone: BTreeMap<ObjectId, Known> = BTreeMap::new();
        for id in self.order.drain(kept.min(self.order.len())..) {
            if let Some(known) = self.known.remove(&id) {
                gone.insert(id, known);
            }
        }
        for (id, generation) in tail.commits {
            let node = gone.remove(&id).map(|k| k.node).or_else(|| new.remove(&id));
            let Some(node) = node else { continue };
            let known = Known {
                node,
                generation,
                position: self.order.len(),
            };
            self.known.insert(id, known);
            self.order.push(id);
        }
        Ok(kept)
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

        #[test]
        fn moving_to_any_head_gives_the_order_of_what_is_below_it(
            history in histories(),
            heads in proptest::collection::vec(any::<proptest::sample::Index>(), 1..12),
        ) {
            let nodes: BTreeMap<_, _> = history.iter().cloned().collect();
            let mut moved = LinearOrder::new();
            for head in heads {
                let head = history[head.index(history.len())].0;
                let before = moved.order().to_vec();
                let kept = moved.update(head, history.iter().cloned()).unwrap();
                prop_assert_eq!(moved.order().get(..kept), before.get(..kept));
                let mut wanted = linear(head, &nodes);
                wanted.reverse();
                prop_assert_eq!(moved.order(), &wanted[..]);
            }
        }
    }

    #[test]
    fn a_side_branch_moves_no_more_than_what_it_is_concurrent_with() {
        let node = |parents: &[usize], time| Node {
            parents: parents.iter().map(|p| id(*p)).collect(),
            time,
        };
        let mut history = vec![(id(0), node(&[], 0))];
        history.extend((1..1000).map(|n| (id(n), node(&[n - 1], n as i64))));
        let mut order = LinearOrder::new();
        order.update(id(999), history.clone()).unwrap();
        let mut looked_up = 0;
        let new = BTreeMap::from([
            (id(2000), node(&[989], 5)),
            (id(2001), node(&[999, 2000], 1001)),
        ]);
        let tail = reorder::<UnknownParent>(Some(id(999)), id(2001), &new, &mut |i| {
            looked_up += 1;
            Ok(order.position(i).map(|at| Placed {
                node: history[at].1.clone(),
                generation: at as u32,
                place: at as u64,
            }))
        })
        .unwrap();
        assert_eq!(tail.kept, 990);
        assert_eq!(tail.commits.len(), 12);
        assert_eq!(looked_up, 11);
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
