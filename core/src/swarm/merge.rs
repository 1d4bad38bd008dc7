//! Two histories become one, path by path.
//!
//! Per path the side that changed it wins; a deletion wins over a change; of two
//! changes the whole file of the side with the greater head wins; a ban wins over
//! what its target did meanwhile. Each path is then as on one of the sides, which is
//! what the reference accepts, and the result does not depend on who merges.

use super::ancestry::{WalkError, Walker};
use super::object::NewObject;
use super::order::Node;
use super::path::{Standing, Target, TreePath};
use super::tree::{TreeFault, Trees};
use super::validate::{Limits, MAX_COMMITS};
use crate::id::{AccountId, ObjectId};
use std::collections::BTreeMap;

/// How deep common pasts of common pasts are followed where histories crossed; the reference stops at 2.
const MAX_CROSSINGS: usize = 8;

/// Why two heads cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeFault {
    /// A commit cannot be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeFault),
    /// They have no common past.
    #[error("the histories have nothing in common")]
    Unrelated,
}

/// How two heads stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Theirs is part of ours.
    UpToDate,
    /// Ours is part of theirs.
    FastForward,
    /// Both have something the other has not.
    Diverged,
    /// The same, but that of one of them is merges only, and no new commit comes of it: see [`Union`].
    Alike,
}

/// What becomes of two heads that both have something the other has not.
///
/// Everyone who meets two heads merges them, each with a commit of their own. Were those merged
/// again, it would never end: a side that has nothing but merges follows the other, and of two
/// such sides that with the smaller id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Union {
    /// Theirs holds all of ours, but for merges: it is the head from now on.
    Theirs,
    /// Ours holds all of theirs, but for merges.
    Ours,
    /// A merge with this tree and these new objects; and what only we have.
    Commit(ObjectId, Vec<NewObject>, BTreeMap<ObjectId, Node>),
}

/// Whether an account is banned in a tree.
pub fn is_banned(
    trees: &mut Trees<'_>,
    tree: ObjectId,
    account: AccountId,
) -> Result<bool, TreeFault> {
    for standing in [Standing::Member, Standing::Admin, Standing::Invited] {
        if trees
            .lookup(tree, &TreePath::Banned(Target::Account(standing, account)))?
            .is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Steps that one search for common ancestors may take: what validation allows for one merge, with nothing beside it. No
/// more are needed than there are commits where the walker follows generations, so nothing that a fetch may bring is
/// too much; and whoever validates takes as many.
pub const STEPS: u64 = Limits::STEPS;

/// Compares two heads; never says [`Relation::Alike`], for which trees are to be read.
pub fn relation(
    walker: &mut Walker<'_>,
    ours: ObjectId,
    theirs: ObjectId,
) -> Result<Relation, MergeFault> {
    relation_within(walker, STEPS, ours, theirs)
}

/// The same with so many steps: for those who ask often, and can do without an answer where heads are far apart.
pub fn relation_within(
    walker: &mut Walker<'_>,
    steps: u64,
    ours: ObjectId,
    theirs: ObjectId,
) -> Result<Relation, MergeFault> {
    if ours == theirs {
        return Ok(Relation::UpToDate);
    }
    walker.allow(steps);
    let bases = walker.merge_bases(ours, theirs, MAX_COMMITS)?;
    Ok(if bases.contains(&theirs) {
        Relation::UpToDate
    } else if bases.contains(&ours) {
        Relation::FastForward
    } else if bases.is_empty() {
        return Err(MergeFault::Unrelated);
    } else {
        Relation::Diverged
    })
}

/// Says what becomes of two heads of which neither contains the other.
pub fn unite(
    walker: &mut Walker<'_>,
    trees: &mut Trees<'_>,
    ours: ObjectId,
    theirs: ObjectId,
) -> Result<Union, MergeFault> {
    let (tree, objects) = merge_trees(walker, trees, ours, theirs)?;
    let (our_tree, their_tree) = (walker.step(ours)?.tree, walker.step(theirs)?.tree);
    let mut own = |head, have| {
        walker.allow(STEPS);
        walker.new_commits(head, have, MAX_COMMITS)
    };
    let (own, other) = (own(ours, theirs)?, own(theirs, ours)?);
    let only_merges = |all: &BTreeMap<_, Node>| all.values().all(|node| node.parents.len() > 1);
    let (we, they) = (only_merges(&own), only_merges(&other));
    Ok(if we && tree == their_tree && (!they || theirs > ours) {
        Union::Theirs
    } else if they && tree == our_tree {
        Union::Ours
    } else {
        Union::Commit(tree, objects, own)
    })
}

/// What we wrote, of our `own` commits, that a daemon does not show if it is at a head of the time `stop` and fetches our
/// merge of both; and the time of the oldest of ours.
///
/// It lists what is new to it by time, newest first ([`super::order::linear`]), and stops where it meets its own head.
/// Who writes without a network is older than what the others wrote meanwhile: then all that they wrote comes after the
/// stop, and the daemon takes it into its repository and says nothing of it. A commit that stands between the merge
/// and their head, and is older than all of ours, has their head listed last. (Those who are at ours would not be shown
/// theirs then, so this is for what nobody else has.)
pub fn hidden_before(own: &BTreeMap<ObjectId, Node>, stop: i64) -> Option<(Vec<ObjectId>, i64)> {
    let oldest = own.values().map(|node| node.time).min();
    let said = own.iter().filter(|(_, node)| node.parents.len() < 2);
    let said: Vec<ObjectId> = said.map(|(id, _)| *id).collect();
    oldest
        .filter(|time| *time <= stop && !said.is_empty())
        .map(|time| (said, time))
}

/// The merged tree of two heads, and the objects that are new.
pub fn merge_trees(
    walker: &mut Walker<'_>,
    trees: &mut Trees<'_>,
    ours: ObjectId,
    theirs: ObjectId,
) -> Result<(ObjectId, Vec<NewObject>), MergeFault> {
    let (ours_tree, theirs_tree) = (walker.step(ours)?.tree, walker.step(theirs)?.tree);
    let differing = trees.diff(Some(ours_tree), Some(theirs_tree))?;
    let mut edits: BTreeMap<TreePath, Option<ObjectId>> = BTreeMap::new();
    let mut merged: BTreeMap<TreePath, Option<ObjectId>> = BTreeMap::new();
    walker.allow(STEPS);
    let bases = walker.merge_bases(ours, theirs, MAX_COMMITS)?;
    // For all crossings together.
    walker.allow(STEPS);
    if bases.is_empty() {
        return Err(MergeFault::Unrelated);
    }
    for change in &differing {
        let value = choose(
            walker,
            trees,
            (ours, change.old),
            (theirs, change.new),
            &bases,
            change.path,
            0,
        )?;
        merged.insert(change.path, value);
        if value != change.old {
            edits.insert(change.path, value);
        }
    }
    // A ban wins over a join, a renewed certificate or anything else that kept its target in.
    for change in &differing {
        let TreePath::Live(Target::Account(_, account)) = change.path else {
            continue;
        };
        if change.old.is_some() && change.new.is_some() {
            continue;
        }
        let mut banned = false;
        for standing in [Standing::Member, Standing::Admin, Standing::Invited] {
            let path = TreePath::Banned(Target::Account(standing, account));
            banned = banned
                || match merged.get(&path) {
                    Some(value) => value.is_some(),
                    // Alike on both sides.
                    None => trees.lookup(ours_tree, &path)?.is_some(),
                };
        }
        if banned {
            if change.old.is_some() {
                edits.insert(change.path, None);
            } else {
                edits.remove(&change.path);
            }
        }
    }
    Ok(trees.change(Some(ours_tree), &edits)?)
}

/// The value of a path on which two heads differ.
fn choose(
    walker: &mut Walker<'_>,
    trees: &mut Trees<'_>,
    (a, a_value): (ObjectId, Option<ObjectId>),
    (b, b_value): (ObjectId, Option<ObjectId>),
    bases: &[ObjectId],
    path: TreePath,
    depth: usize,
) -> Result<Option<ObjectId>, MergeFault> {
    if a_value == b_value {
        return Ok(a_value);
    }
    // What the common past says; where there are several, they are merged first.
    let mut past: Option<(ObjectId, Option<ObjectId>)> = None;
    for base in bases {
        let tree = walker.step(*base)?.tree;
        let value = trees.lookup(tree, &path)?;
        let below = match past {
            Some((other, known)) if known != value => below(walker, other, *base, depth)?,
            _ => None,
        };
        past = Some(match past {
            None => (*base, value),
            Some((_, known)) if known == value => (*base, value),
            Some(other) => {
                let value = match below {
                    Some(below) => choose(
                        walker,
                        trees,
                        other,
                        (*base, value),
                        &below,
                        path,
                        depth.saturating_add(1),
                    )?,
                    None if other.1.is_none() => None,
                    None => value,
                };
                (*base, value)
            }
        });
    }
    let before = past.and_then(|(_, value)| value);
    Ok(if past.is_some() && a_value == before {
        b_value
    } else if past.is_some() && b_value == before {
        a_value
    } else if a_value.is_none() || b_value.is_none() {
        None
    } else if a > b {
        a_value
    } else {
        b_value
    })
}

/// What two common pasts have in common, unless that is too deep down or takes too long: then it is done without.
/// Where they disagree on a path nobody asks for one of its values, so the merge is as good.
fn below(
    walker: &mut Walker<'_>,
    a: ObjectId,
    b: ObjectId,
    depth: usize,
) -> Result<Option<Vec<ObjectId>>, WalkError> {
    if depth >= MAX_CROSSINGS {
        return Ok(None);
    }
    match walker.merge_bases(a, b, MAX_COMMITS) {
        Ok(below) => Ok(Some(below)),
        Err(WalkError::TooTangled) => Ok(None),
        Err(other) => Err(other),
    }
}
