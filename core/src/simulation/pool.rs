//! Objects of all members: each is kept once, and every member knows which ones it has.

use crate::git::object::{Mode, parse_commit, parse_tree};
use crate::id::ObjectId;
use crate::swarm::commit::Commit;
use crate::swarm::object::{Kind, NewObject, Objects};
use std::collections::HashMap;
use std::sync::Arc;

/// A set of objects, by their numbers in the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Set(Vec<u64>);

impl Set {
    pub(crate) fn has(&self, n: u32) -> bool {
        let word = self.0.get((n / 64) as usize).copied().unwrap_or(0);
        word & (1 << (n % 64)) != 0
    }

    pub(crate) fn add(&mut self, n: u32) {
        let at = (n / 64) as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (n % 64);
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Those that another set has not.
    pub(crate) fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        let words = self.0.iter().enumerate().map(|(at, word)| {
            let theirs = other.0.get(at).copied().unwrap_or(0);
            (at as u32 * 64, word & !theirs)
        });
        words.filter(|(_, word)| *word != 0).flat_map(|(at, word)| {
            (0..64)
                .filter(move |n| word & (1 << n) != 0)
                .map(move |n| at + n)
        })
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }
}

impl FromIterator<u32> for Set {
    fn from_iter<I: IntoIterator<Item = u32>>(all: I) -> Self {
        let mut set = Self::default();
        all.into_iter().for_each(|n| set.add(n));
        set
    }
}

struct Object {
    id: ObjectId,
    kind: Kind,
    data: Arc<[u8]>,
    /// What it names.
    below: Vec<ObjectId>,
}

/// All objects there are.
#[derive(Default)]
pub(crate) struct Pool {
    // Looked up only, never walked: its order does not matter.
    numbers: HashMap<ObjectId, u32>,
    objects: Vec<Object>,
}

impl Pool {
    /// A commit that somebody wrote.
    pub(crate) fn commit(&self, id: &ObjectId) -> Option<Commit> {
        let object = self.objects.get(*self.numbers.get(id)? as usize)?;
        (object.kind == Kind::Commit).then(|| Commit::parse(&object.data).ok())?
    }

    pub(crate) fn add(&mut self, object: NewObject) -> u32 {
        if let Some(n) = self.numbers.get(&object.id) {
            return *n;
        }
        let n = u32::try_from(self.objects.len()).expect("fewer objects");
        self.numbers.insert(object.id, n);
        let below = match object.kind {
            Kind::Commit => parse_commit(&object.data)
                .map(|c| [vec![c.tree], c.parents].concat())
                .unwrap_or_default(),
            Kind::Tree => parse_tree(&object.data)
                .map(|entries| {
                    let files = entries.iter().filter(|e| e.mode != Mode::Submodule);
                    files.map(|e| e.id).collect()
                })
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        self.objects.push(Object {
            id: object.id,
            kind: object.kind,
            data: object.data.into(),
            below,
        });
        n
    }

    pub(crate) fn number(&self, id: &ObjectId) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    pub(crate) fn size(&self, n: u32) -> usize {
        self.objects.get(n as usize).map_or(0, |o| o.data.len())
    }

    /// What one who has `theirs` can send of `head` to one who has `ours` and lacks the rest: each
    /// object after those it names. The second: something was not there.
    pub(crate) fn missing(&self, head: &ObjectId, theirs: &Set, ours: &Set) -> (Vec<u32>, bool) {
        let mut out = Vec::new();
        let mut seen = Set::default();
        let mut lacking = false;
        let mut stack = vec![(*head, false)];
        while let Some((id, ready)) = stack.pop() {
            let Some(n) = self.number(&id) else {
                lacking = true;
                continue;
            };
            if ready {
                out.push(n);
                continue;
            }
            if ours.has(n) || seen.has(n) {
                continue;
            }
            if !theirs.has(n) {
                lacking = true;
                continue;
            }
            seen.add(n);
            stack.push((id, true));
            if let Some(object) = self.objects.get(n as usize) {
                stack.extend(object.below.iter().map(|id| (*id, false)));
            }
        }
        (out, lacking)
    }

    pub(crate) fn get(&self, id: &ObjectId) -> Option<(Kind, Arc<[u8]>)> {
        let object = self.objects.get(self.number(id)? as usize)?;
        debug_assert_eq!(object.id, *id);
        Some((object.kind, object.data.clone()))
    }
}

/// What one member can read.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) have: &'a Set,
    /// Not yet accepted.
    pub(crate) quarantine: Option<&'a Set>,
}

impl Objects for View<'_> {
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        if !self.contains(id) {
            return None;
        }
        self.pool.get(id).map(|(kind, data)| (kind, data.to_vec()))
    }

    fn contains(&self, id: &ObjectId) -> bool {
        self.pool
            .number(id)
            .is_some_and(|n| self.have.has(n) || self.quarantine.is_some_and(|q| q.has(n)))
    }
}
