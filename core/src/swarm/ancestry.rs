//! Walking the graph of commits: what is new, what two heads have in common.

use super::commit::{Commit, skim};
use super::object::{Kind, Objects};
use super::order::{Node, Queue};
use crate::id::ObjectId;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// What a walk remembers of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Parents and time.
    pub node: Node,
    /// The tree after it.
    pub tree: ObjectId,
}

/// Looks up the generation of a commit: see [`super::order::Placed::generation`]. `None`: it is not known; it is
/// counted then.
pub type Generations<'a> = dyn Fn(&ObjectId) -> Option<u32> + 'a;

/// Commits, each with its place in an order.
type Places = Vec<(ObjectId, u32)>;

/// A commit that a walk needs and cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// Not there.
    #[error("commit {0} is missing")]
    Missing(ObjectId),
    /// There, but no commit.
    #[error("object {0} is not a readable commit")]
    NotACommit(ObjectId),
    /// More commits than are walked at once.
    #[error("more than {0} commits")]
    TooMany(usize),
    /// All walks together took more steps than allowed.
    #[error("the history is too tangled to be followed")]
    TooTangled,
}

/// Steps kept, about 200 bytes each; our choice. Merges are near to where their sides parted.
const CACHED_STEPS: usize = 1 << 16;

/// So many common ancestors are compared by pairs, which are quick where the history is long; more, which nobody
/// has by accident, all at once.
const PAIRS: usize = 16;

/// No parent, in a [`Slim`].
const NONE: u32 = u32::MAX;

/// A commit on the way to its place in the order: one may be made to look at millions.
#[derive(Clone, Copy)]
struct Slim {
    time: i64,
    /// By generation; no less than that of what is below it and not looked at.
    place: u32,
    /// The parents that are looked at, too, as numbers.
    parents: [u32; 2],
    /// How many children are not out yet.
    children: u32,
}

/// Commits by number, as they were met. Some 80 bytes each.
#[derive(Default)]
struct Met {
    ids: Vec<ObjectId>,
    slim: Vec<Slim>,
    numbers: BTreeMap<ObjectId, u32>,
    /// The parents of those that have more than two.
    many: BTreeMap<u32, Vec<u32>>,
}

impl Met {
    /// The number of a commit, and whether that is a new one.
    fn number(&mut self, id: ObjectId, max: usize) -> Result<(u32, bool), WalkError> {
        if let Some(number) = self.numbers.get(&id) {
            return Ok((*number, false));
        }
        let number = u32::try_from(self.ids.len()).unwrap_or(NONE);
        if self.ids.len() >= max || number == NONE {
            return Err(WalkError::TooMany(max));
        }
        self.numbers.insert(id, number);
        self.ids.push(id);
        self.slim.push(Slim {
            time: 0,
            place: 0,
            parents: [NONE; 2],
            children: 0,
        });
        Ok((number, true))
    }

    fn at(&mut self, number: u32) -> Option<&mut Slim> {
        self.slim.get_mut(usize::try_from(number).ok()?)
    }

    fn parents(&self, number: u32) -> Vec<u32> {
        if let Some(many) = self.many.get(&number) {
            return many.clone();
        }
        let slim = usize::try_from(number).ok().and_then(|n| self.slim.get(n));
        let both = slim.map_or([NONE; 2], |s| s.parents);
        both.into_iter().filter(|p| *p != NONE).collect()
    }
}

/// Reads commits for walks, and keeps what it has read.
pub struct Walker<'a> {
    objects: &'a dyn Objects,
    steps: BTreeMap<ObjectId, Step>,
    /// Commits of which an order is known, by id, each with its place in it. Where generations are looked up, the place
    /// is the generation and one.
    places: Places,
    /// Where generations of others are looked up.
    generations: Option<&'a Generations<'a>>,
    /// The places of those that had none, as they were counted.
    counted: BTreeMap<ObjectId, u32>,
    /// Steps that searches for common ancestors may still take.
    left: u64,
}

/// Painted from the first side, from the second, below something painted by both.
const LEFT: u8 = 1;
const RIGHT: u8 = 2;
const BOTH: u8 = LEFT | RIGHT;
const STALE: u8 = 4;

/// So many pairs are searched for at once: one bit each.
pub const MANY: usize = u128::BITS as usize;

/// The same for many searches.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Colours {
    left: u128,
    right: u128,
    stale: u128,
}

impl Colours {
    fn with(self, other: Self) -> Self {
        Self {
            left: self.left | other.left,
            right: self.right | other.right,
            stale: self.stale | other.stale,
        }
    }

    /// Whether some search goes on from here.
    fn counts(self) -> bool {
        (self.left | self.right) & !self.stale != 0
    }
}

impl<'a> Walker<'a> {
    /// A walker over these objects.
    pub fn new(objects: &'a dyn Objects) -> Self {
        Self {
            objects,
            steps: BTreeMap::new(),
            places: Vec::new(),
            generations: None,
            counted: BTreeMap::new(),
            left: u64::MAX,
        }
    }

    /// Some commits in an order in which none comes before its parents, oldest first; of no other
    /// commit are they ancestors. Searches for common ancestors follow it, and not times, which lie where
    /// clocks are wrong: so they look at what lies between the two commits, and at nothing else. Takes
    /// 24 bytes a commit.
    pub fn place<'i>(&mut self, oldest_first: impl IntoIterator<Item = &'i ObjectId>) {
        // Places begin with one: commits that have none are older than all these.
        self.places = oldest_first.into_iter().copied().zip(1..).collect();
        self.places.sort_unstable();
    }

    /// From now on searches for common ancestors follow the generations of commits, which are looked up or counted:
    /// then they look at no commit twice, and the steps that one takes depend on nothing but the history.
    pub fn follow(&mut self, generations: &'a Generations<'a>) {
        self.generations = Some(generations);
    }

    fn place_of(&mut self, id: &ObjectId) -> Result<u32, WalkError> {
        if let Some(place) = self.known_place(id) {
            return Ok(place);
        }
        // Counted from those below that have one.
        let mut todo = vec![(*id, false)];
        while let Some((id, ready)) = todo.pop() {
            if self.known_place(&id).is_some() {
                continue;
            }
            let parents = self.step(id)?.node.parents.clone();
            if ready {
                let below = parents.iter().filter_map(|p| self.known_place(p)).max();
                let place = below.unwrap_or(0).saturating_add(1);
                self.counted.insert(id, place);
            } else {
                todo.push((id, true));
                todo.extend(parents.into_iter().map(|p| (p, false)));
            }
        }
        Ok(self.known_place(id).unwrap_or(0))
    }

    /// How many commits follow each other on the longest way to one, as far as that is known.
    pub fn depth(&self, id: &ObjectId) -> Option<u32> {
        self.known_place(id)
    }

    /// Without generations, commits that have no place are older than all that have one.
    fn known_place(&self, id: &ObjectId) -> Option<u32> {
        let found = self.places.binary_search_by(|(at, _)| at.cmp(id)).ok();
        if let Some((_, place)) = found.and_then(|n| self.places.get(n)) {
            return Some(*place);
        }
        let Some(generations) = self.generations else {
            return Some(0);
        };
        let counted = self.counted.get(id).copied();
        counted.or_else(|| Some(generations(id)?.saturating_add(1)))
    }

    /// From now on, all searches for common ancestors together may take this many steps:
    /// a history can be drawn so that each of its merges makes a long one necessary.
    pub fn allow(&mut self, steps: u64) {
        self.left = steps;
    }

    /// Remembers a commit that was read elsewhere.
    pub fn remember(&mut self, id: ObjectId, commit: &Commit) {
        let node = Node {
            parents: commit.parents.clone(),
            time: commit.time,
        };
        let tree = commit.tree;
        self.keep(id, Step { node, tree });
    }

    fn keep(&mut self, id: ObjectId, step: Step) {
        if self.steps.len() >= CACHED_STEPS {
            self.steps.clear();
        }
        self.steps.insert(id, step);
    }

    /// Parents, time and tree of a commit.
    pub fn step(&mut self, id: ObjectId) -> Result<&Step, WalkError> {
        if !self.steps.contains_key(&id) {
            let step = self.read(id)?;
            self.keep(id, step);
        }
        self.steps.get(&id).ok_or(WalkError::Missing(id))
    }

    /// What can be reached from `head` and is not `known`, in the order in which members read it
    /// ([`super::order::linear`]), newest first.
    pub fn order(
        &mut self,
        head: ObjectId,
        known: &dyn Fn(&ObjectId) -> bool,
        max: usize,
    ) -> Result<Vec<ObjectId>, WalkError> {
        let known = |id: &ObjectId| known(id).then_some(0);
        Ok(self.walk(head, &known, max)?.0)
    }

    /// The same with what is known by its generation, which searches follow from now on.
    pub fn order_and_follow(
        &mut self,
        head: ObjectId,
        known: &'a Generations<'a>,
        max: usize,
    ) -> Result<Vec<ObjectId>, WalkError> {
        self.follow(known);
        let (order, mut places) = self.walk(head, known, max)?;
        places.sort_unstable();
        self.places = places;
        Ok(order)
    }

    /// The order, and the same commits with their places by generation.
    fn walk(
        &mut self,
        head: ObjectId,
        known: &Generations<'_>,
        max: usize,
    ) -> Result<(Vec<ObjectId>, Places), WalkError> {
        if known(&head).is_some() {
            return Ok(Default::default());
        }
        let mut met = Met::default();
        let mut todo = vec![met.number(head, max)?.0];
        while let Some(number) = todo.pop() {
            let id = usize::try_from(number).ok().and_then(|n| met.ids.get(n));
            let Some(id) = id.copied() else { continue };
            // Each is read once here: there is nothing to keep.
            let commit = self.read(id)?.node;
            let mut parents = Vec::with_capacity(commit.parents.len());
            let mut place = 1;
            for parent in &commit.parents {
                if let Some(generation) = known(parent) {
                    place = place.max(generation.saturating_add(2));
                    continue;
                }
                let (parent, new) = met.number(*parent, max)?;
                if new {
                    todo.push(parent);
                }
                if let Some(slim) = met.at(parent) {
                    slim.children = slim.children.saturating_add(1);
                }
                parents.push(parent);
            }
            if let Some(slim) = met.at(number) {
                slim.time = commit.time;
                slim.place = place;
                for (to, from) in slim.parents.iter_mut().zip(&parents) {
                    *to = *from;
                }
            }
            if parents.len() > 2 {
                met.many.insert(number, parents);
            }
        }
        met.numbers = BTreeMap::new();
        let mut out = Vec::with_capacity(met.ids.len());
        let mut numbers = Vec::with_capacity(met.ids.len());
        let mut queue = Queue::new();
        queue.push(met.at(0).map_or(0, |s| s.time), 0);
        while let Some(number) = queue.pop() {
            let id = usize::try_from(number).ok().and_then(|n| met.ids.get(n));
            out.extend(id.copied());
            numbers.push(number);
            for parent in met.parents(number) {
                let Some(slim) = met.at(parent) else { continue };
                slim.children = slim.children.saturating_sub(1);
                if slim.children == 0 {
                    queue.push(slim.time, parent);
                }
            }
        }
        let mut places = Vec::with_capacity(out.len());
        for (number, id) in numbers.into_iter().zip(&out).rev() {
            let parents = met.parents(number);
            let below = parents.into_iter().filter_map(|p| Some(met.at(p)?.place));
            let place = below.max().map_or(0, |place| place.saturating_add(1));
            let Some(slim) = met.at(number) else { continue };
            slim.place = slim.place.max(place);
            places.push((*id, slim.place));
        }
        Ok((out, places))
    }

    /// Says no more than that it cannot be read; [`Commit::parse`] is stricter.
    fn read(&self, id: ObjectId) -> Result<Step, WalkError> {
        match self.objects.object(&id) {
            Some((Kind::Commit, data)) => {
                let (tree, parents, time) = skim(&data).map_err(|_| WalkError::NotACommit(id))?;
                let node = Node { parents, time };
                Ok(Step { node, tree })
            }
            Some(_) => Err(WalkError::NotACommit(id)),
            None => Err(WalkError::Missing(id)),
        }
    }

    /// What can be reached from `head` and is not `known`, by id.
    pub fn unknown(
        &mut self,
        head: ObjectId,
        known: &dyn Fn(&ObjectId) -> bool,
        max: usize,
    ) -> Result<BTreeMap<ObjectId, Node>, WalkError> {
        let mut out = BTreeMap::new();
        let mut todo = vec![head];
        while let Some(id) = todo.pop() {
            if out.contains_key(&id) || known(&id) {
                continue;
            }
            if out.len() >= max {
                return Err(WalkError::TooMany(max));
            }
            let node = self.step(id)?.node.clone();
            todo.extend(node.parents.iter().copied());
            out.insert(id, node);
        }
        Ok(out)
    }

    /// What can be reached from `head` and not from `have`. Where commit times lie, some
    /// that can be reached from both may be among them: harmless, for they are valid still.
    pub fn new_commits(
        &mut self,
        head: ObjectId,
        have: ObjectId,
        max: usize,
    ) -> Result<BTreeMap<ObjectId, Node>, WalkError> {
        let paint = self.paint(head, have, false, max)?;
        let mut out = BTreeMap::new();
        for (id, flags) in paint {
            if flags & BOTH == LEFT {
                out.insert(id, self.step(id)?.node.clone());
            }
        }
        Ok(out)
    }

    /// The newest common ancestors of two commits, by id.
    pub fn merge_bases(
        &mut self,
        a: ObjectId,
        b: ObjectId,
        max: usize,
    ) -> Result<Vec<ObjectId>, WalkError> {
        let paint = self.paint(a, b, true, max)?;
        let mut bases: BTreeSet<ObjectId> = paint
            .iter()
            .filter(|(_, f)| **f & (BOTH | STALE) == BOTH)
            .map(|(id, _)| *id)
            .collect();
        let misled = |id| self.known_place(id) == Some(0);
        if bases.len() > 1 && self.generations.is_none() && paint.keys().any(misled) {
            // Times may have misled the walk: drop those that lie below another one.
            if bases.len() > PAIRS {
                self.drop_lower(&mut bases, max)?;
                return Ok(bases.into_iter().collect());
            }
            // Between two that lies near, however long the history is.
            for base in bases.clone() {
                for other in bases.clone().range(..base) {
                    if !bases.contains(&base) || !bases.contains(other) {
                        continue;
                    }
                    // Nothing above the one is below it, so the other's colour gets to it, whatever times say.
                    let paint = self.paint(base, *other, true, max)?;
                    let reached = |id: &ObjectId, by| paint.get(id).is_some_and(|f| f & by != 0);
                    if reached(other, LEFT) {
                        bases.remove(other);
                    } else if reached(&base, RIGHT) {
                        bases.remove(&base);
                    }
                }
            }
        }
        Ok(bases.into_iter().collect())
    }

    /// What [`Self::merge_bases`] finds for each of some pairs, [`MANY`] at most, by one walk for all: each commit on the
    /// way is one step, however many look for something there. Searches have to follow generations: times may mislead it.
    pub fn merge_bases_of(
        &mut self,
        pairs: &[(ObjectId, ObjectId)],
        max: usize,
    ) -> Result<Vec<Vec<ObjectId>>, WalkError> {
        let pairs = pairs.get(..MANY).unwrap_or(pairs);
        let mut colours: BTreeMap<ObjectId, Colours> = BTreeMap::new();
        for (n, (a, b)) in pairs.iter().enumerate() {
            colours.entry(*a).or_default().left |= 1 << n;
            colours.entry(*b).or_default().right |= 1 << n;
        }
        let mut queue: BinaryHeap<(u32, ObjectId)> = BinaryHeap::new();
        for id in colours.keys() {
            queue.push((self.place_of(id)?, *id));
        }
        let mut queued: BTreeSet<ObjectId> = colours.keys().copied().collect();
        // How many in the queue keep the walk going.
        let mut interesting = queued.len();
        while interesting > 0 {
            let Some((_, id)) = queue.pop() else { break };
            queued.remove(&id);
            self.left = self.left.checked_sub(1).ok_or(WalkError::TooTangled)?;
            let mut down = colours.get(&id).copied().unwrap_or_default();
            interesting = interesting.saturating_sub(usize::from(down.counts()));
            down.stale |= down.left & down.right;
            for parent in self.step(id)?.node.parents.clone() {
                let old = colours.get(&parent).copied().unwrap_or_default();
                let new = old.with(down);
                if new == old {
                    continue;
                }
                if colours.len() >= max.saturating_mul(2) {
                    return Err(WalkError::TooMany(max));
                }
                colours.insert(parent, new);
                let before = if queued.insert(parent) {
                    queue.push((self.place_of(&parent)?, parent));
                    false
                } else {
                    old.counts()
                };
                interesting = interesting
                    .saturating_add(usize::from(new.counts()))
                    .saturating_sub(usize::from(before));
            }
        }
        let mut bases = vec![Vec::new(); pairs.len()];
        for (id, c) in &colours {
            let common = c.left & c.right & !c.stale;
            for (n, found) in bases.iter_mut().enumerate() {
                if common >> n & 1 == 1 {
                    found.push(*id);
                }
            }
        }
        Ok(bases)
    }

    /// Whether searches follow generations.
    pub fn follows(&self) -> bool {
        self.generations.is_some()
    }

    /// Steps that searches may still take.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Leaves of some commits those that cannot be reached from another one: by one walk down from all of them, to
    /// the first commit.
    fn drop_lower(
        &mut self,
        commits: &mut BTreeSet<ObjectId>,
        max: usize,
    ) -> Result<(), WalkError> {
        let mut todo = Vec::new();
        for id in commits.iter() {
            todo.extend(self.step(*id)?.node.parents.iter().copied());
        }
        let mut seen = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            if seen.len() > max {
                return Err(WalkError::TooMany(max));
            }
            self.left = self.left.checked_sub(1).ok_or(WalkError::TooTangled)?;
            commits.remove(&id);
            todo.extend(self.step(id)?.node.parents.iter().copied());
        }
        Ok(())
    }

    /// Whether `old` can be reached from `new`.
    pub fn is_ancestor(
        &mut self,
        old: ObjectId,
        new: ObjectId,
        max: usize,
    ) -> Result<bool, WalkError> {
        Ok(old == new || self.merge_bases(old, new, max)? == [old])
    }

    /// Paints downwards, by place and time. `stale`: also tell commits below a common one from common ones,
    /// and go on until nothing else is left; otherwise until nothing is painted from the left only.
    fn paint(
        &mut self,
        left: ObjectId,
        right: ObjectId,
        stale: bool,
        max: usize,
    ) -> Result<BTreeMap<ObjectId, u8>, WalkError> {
        let mut flags: BTreeMap<ObjectId, u8> = BTreeMap::new();
        let mut queue: BinaryHeap<(u32, i64, ObjectId)> = BinaryHeap::new();
        let mut queued: BTreeSet<ObjectId> = BTreeSet::new();
        // How many in the queue keep the walk going.
        let mut interesting = 0usize;
        let counts = |f: u8| {
            if stale {
                f & STALE == 0
            } else {
                f & RIGHT == 0
            }
        };
        for (id, flag) in [(left, LEFT), (right, RIGHT)] {
            let time = self.step(id)?.node.time;
            *flags.entry(id).or_default() |= flag;
            if queued.insert(id) {
                queue.push((self.place_of(&id)?, time, id));
            }
        }
        for id in &queued {
            interesting = interesting
                .saturating_add(usize::from(counts(flags.get(id).copied().unwrap_or(0))));
        }
        while interesting > 0 {
            let Some((.., id)) = queue.pop() else { break };
            queued.remove(&id);
            self.left = self.left.checked_sub(1).ok_or(WalkError::TooTangled)?;
            let flag = flags.get(&id).copied().unwrap_or(0);
            if counts(flag) {
                interesting = interesting.saturating_sub(1);
            }
            let hand_down = if stale && flag & BOTH == BOTH {
                BOTH | STALE
            } else {
                flag
            };
            for parent in self.step(id)?.node.parents.clone() {
                let old = flags.get(&parent).copied().unwrap_or(0);
                let new = old | hand_down;
                if new == old {
                    continue;
                }
                if flags.len() >= max.saturating_mul(2) {
                    return Err(WalkError::TooMany(max));
                }
                flags.insert(parent, new);
                if queued.insert(parent) {
                    let time = self.step(parent)?.node.time;
                    queue.push((self.place_of(&parent)?, time, parent));
                    interesting = interesting.saturating_add(usize::from(counts(new)));
                } else if counts(old) && !counts(new) {
                    interesting = interesting.saturating_sub(1);
                }
            }
        }
        Ok(flags)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::id::DeviceId;
    use crate::rng::Rng;
    use crate::swarm::commit::Draft;
    use crate::swarm::object::NewObject;

    #[derive(Default)]
    struct Drawn(BTreeMap<ObjectId, Vec<u8>>, Vec<ObjectId>);

    impl Objects for Drawn {
        fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
            self.0.get(id).map(|data| (Kind::Commit, data.clone()))
        }
    }

    impl Drawn {
        fn commit(&mut self, parents: &[ObjectId], time: u64) -> ObjectId {
            let draft = Draft {
                tree: ObjectId([1; 20]),
                parents: parents.to_vec(),
                name: "x",
                device: DeviceId([1; 32]),
                time,
                message: &self.1.len().to_string(),
            };
            let commit = NewObject::new(Kind::Commit, draft.to_sign());
            self.0.insert(commit.id, commit.data);
            self.1.push(commit.id);
            commit.id
        }

        fn below(&self, of: ObjectId) -> BTreeSet<ObjectId> {
            let mut walker = Walker::new(self);
            let all = walker.unknown(of, &|_| false, usize::MAX).unwrap();
            all.into_keys().collect()
        }

        /// By definition: what both have, and nothing else of both has below it.
        fn bases(&self, a: ObjectId, b: ObjectId) -> Vec<ObjectId> {
            let (a, b) = (self.below(a), self.below(b));
            let both: Vec<_> = a.intersection(&b).copied().collect();
            let over = |id: &ObjectId| {
                let mut others = both.iter().filter(|other| *other != id);
                others.any(|other| self.below(*other).contains(id))
            };
            both.iter().filter(|id| !over(id)).copied().collect()
        }
    }

    #[test]
    fn common_ancestors_are_found_whatever_clocks_say() {
        for seed in 0..60 {
            let mut rng = Rng::new([seed; 32]);
            let mut below = |n: usize| rng.below(n);
            let mut drawn = Drawn::default();
            drawn.commit(&[], 1_000);
            for _ in 0..40 {
                let near = drawn.1.len().min(6);
                let mut parents: Vec<_> = (0..1 + below(2))
                    .map(|_| drawn.1[drawn.1.len() - 1 - below(near)])
                    .collect();
                parents.dedup();
                drawn.commit(&parents, 1 + below(2_000) as u64);
            }
            let mut placed = Walker::new(&drawn);
            placed.place(&drawn.1);
            // Only the newer half has places.
            let mut half = Walker::new(&drawn);
            let old = drawn.below(drawn.1[20]);
            let newer = drawn.1.iter().filter(|id| !old.contains(id));
            let newer: Vec<_> = newer.copied().collect();
            half.place(&newer);
            // Each has a generation, to be counted.
            let mut counted = Walker::new(&drawn);
            counted.follow(&|_| None);
            for _ in 0..20 {
                let [a, b] = [(); 2].map(|()| drawn.1[below(drawn.1.len())]);
                let expected = drawn.bases(a, b);
                for walker in [
                    &mut Walker::new(&drawn),
                    &mut placed,
                    &mut half,
                    &mut counted,
                ] {
                    assert_eq!(walker.merge_bases(a, b, 1_000).unwrap(), expected, "{seed}");
                }
            }
        }
    }

    /// Whoever has the older part, and knows its generations, whoever has all, and whoever begins with nothing
    /// takes as many steps for each merge; and no commit is looked at twice, whatever clocks say.
    #[test]
    fn how_long_a_search_is_depends_on_the_history_alone() {
        let mut longer_by_times = false;
        for seed in 0..40 {
            let mut rng = Rng::new([seed; 32]);
            let mut below = |n: usize| rng.below(n);
            let mut drawn = Drawn::default();
            drawn.commit(&[], 1_000);
            for _ in 0..60 {
                let near = drawn.1.len().min(9);
                let [a, b] = [(); 2].map(|()| drawn.1[drawn.1.len() - 1 - below(near)]);
                let parents: Vec<_> = if a == b { vec![a] } else { vec![a, b] };
                drawn.commit(&parents, 1 + below(2_000) as u64);
            }
            let last = *drawn.1.last().unwrap();
            let mut generations: BTreeMap<ObjectId, u32> = BTreeMap::new();
            for id in &drawn.1 {
                let parents = Walker::new(&drawn).step(*id).unwrap().node.parents.clone();
                let above = parents.iter().map(|p| generations[p] + 1).max();
                generations.insert(*id, above.unwrap_or(0));
            }
            let of = |id: &ObjectId| generations.get(id).copied();
            let old = drawn.below(drawn.1[30]);
            let of_old = |id: &ObjectId| of(id).filter(|_| old.contains(id));
            let mut walkers = [(); 4].map(|()| Walker::new(&drawn));
            walkers[0].order_and_follow(last, &|_| None, 1_000).unwrap();
            walkers[1].order_and_follow(last, &of_old, 1_000).unwrap();
            walkers[2].follow(&of);
            walkers[3].follow(&of_old);
            for _ in 0..20 {
                let [a, b] = [(); 2].map(|()| drawn.1[below(drawn.1.len())]);
                let spent: Vec<u64> = walkers
                    .iter_mut()
                    .map(|walker| {
                        walker.allow(1_000);
                        walker.merge_bases(a, b, 1_000).unwrap();
                        1_000 - walker.left
                    })
                    .collect();
                assert!(spent.iter().all(|n| *n == spent[0]), "{seed}: {spent:?}");
                assert!(spent[0] <= drawn.1.len() as u64, "{seed}: {spent:?}");
                let mut by_times = Walker::new(&drawn);
                by_times.allow(spent[0]);
                let found = by_times.merge_bases(a, b, 1_000);
                longer_by_times |= found == Err(WalkError::TooTangled);
            }
            // Many at once find the same, and look at no commit twice.
            let pairs: Vec<_> = (0..MANY)
                .map(|_| {
                    let [a, b] = [(); 2].map(|()| drawn.1[below(drawn.1.len())]);
                    (a, b)
                })
                .collect();
            for walker in &mut walkers {
                walker.allow(drawn.1.len() as u64);
                let many = walker.merge_bases_of(&pairs, 1_000).unwrap();
                walker.allow(u64::MAX);
                for ((a, b), found) in pairs.iter().zip(many) {
                    assert_eq!(walker.merge_bases(*a, *b, 1_000).unwrap(), found, "{seed}");
                }
            }
        }
        assert!(longer_by_times, "clocks were right");
    }

    /// Two who each merge what many wrote at the same moment: nobody is made to compare each with each.
    #[test]
    fn of_very_many_common_ancestors_the_lower_ones_are_found_in_few_steps() {
        let mut drawn = Drawn::default();
        let root = drawn.commit(&[], 5_000);
        let texts: Vec<_> = (0..1_000)
            .map(|n| {
                // Every third is an answer to one whose clock is ahead.
                let on = match n % 3 {
                    2 => drawn.commit(&[root], 9_000 + n),
                    _ => root,
                };
                drawn.commit(&[on], 1 + n)
            })
            .collect();
        let lower: Vec<_> = (1..drawn.1.len())
            .map(|n| drawn.1[n])
            .filter(|id| !texts.contains(id))
            .collect();
        let mut chain = |all: &mut dyn Iterator<Item = ObjectId>| {
            let first = all.next().unwrap();
            all.fold(first, |at, id| drawn.commit(&[at, id], 10_000))
        };
        let both = || texts.iter().chain(&lower).copied();
        let a = chain(&mut both());
        let b = chain(&mut both().rev());
        let mut walker = Walker::new(&drawn);
        walker.allow(20_000);
        let bases = walker.merge_bases(a, b, 100_000).unwrap();
        let mut expected = texts.clone();
        expected.sort();
        assert_eq!(bases, expected);
    }

    /// What several merged at the same moment has several common ancestors: finding which of them is below
    /// another must not take a walk to the first commit each time.
    #[test]
    fn merges_of_merges_are_followed_in_few_steps_in_a_long_history() {
        let mut drawn = Drawn::default();
        let mut at = drawn.commit(&[], 1);
        for n in 0..5_000 {
            at = drawn.commit(&[at], 2 + n);
        }
        // The clock of one is wrong by an hour.
        let mut ends = [6_000, 2_400].map(|time| drawn.commit(&[at], time));
        for n in 1..200 {
            let [a, b] = ends;
            ends = [
                drawn.commit(&[a, b], 6_000 + n),
                drawn.commit(&[b, a], 2_400 + n),
            ];
        }
        let order = drawn.1.clone();
        let mut walker = Walker::new(&drawn);
        walker.place(&order);
        walker.allow(200 * 10);
        for id in &order {
            let parents = walker.step(*id).unwrap().node.parents.clone();
            if let [a, b] = parents[..] {
                let bases = walker.merge_bases(a, b, 100_000).unwrap();
                assert!(!bases.is_empty());
            }
        }
    }
}
