//! Which objects a peer lacks; which commits to tell a peer of.

use super::Repository;
use super::object::{Kind, Mode, parse_commit, parse_tree};
use crate::id::ObjectId;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// A walk that met an object that is not there or is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the repository lacks a readable {kind} {id}")]
pub struct Broken {
    /// What was looked for.
    pub kind: Kind,
    /// Its id.
    pub id: ObjectId,
}

/// A commit on the way: newest first, as far as clocks can be trusted.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Next {
    time: i64,
    id: ObjectId,
}

/// What is known of a commit.
struct Commit {
    tree: ObjectId,
    parents: Vec<ObjectId>,
    time: i64,
    /// The peer has it.
    common: bool,
    queued: bool,
}

#[derive(Default)]
struct Walk {
    known: BTreeMap<ObjectId, Commit>,
    queue: BinaryHeap<Next>,
    /// Commits in the queue that the peer lacks: without any, the walk is over.
    open: usize,
}

impl Walk {
    fn add(
        &mut self,
        repo: &(impl Repository + ?Sized),
        id: ObjectId,
        common: bool,
    ) -> Result<(), Broken> {
        match self.known.get_mut(&id) {
            None => {
                let step = read_commit(repo, id)?;
                self.queue.push(Next {
                    time: step.time,
                    id,
                });
                self.open = self.open.saturating_add(usize::from(!common));
                let Step {
                    tree,
                    parents,
                    time,
                } = step;
                let commit = Commit {
                    tree,
                    parents,
                    time,
                    common,
                    queued: true,
                };
                self.known.insert(id, commit);
            }
            Some(commit) if common && !commit.common => {
                commit.common = true;
                if commit.queued {
                    self.open = self.open.saturating_sub(1);
                } else {
                    // It has passed as missing: its parents have to hear of it.
                    commit.queued = true;
                    self.queue.push(Next {
                        time: commit.time,
                        id,
                    });
                }
            }
            Some(_) => {}
        }
        Ok(())
    }
}

struct Step {
    tree: ObjectId,
    parents: Vec<ObjectId>,
    time: i64,
}

/// The objects reachable from `want` and not from `have`, each once, in an order of which any
/// beginning is of use: each commit after its parents, and after the trees and files that are new
/// with it. Whoever has the beginning of such a list, and what is reachable from `have`, has all of
/// every commit in it.
///
/// Wrong clocks can make the answer larger than needed, never smaller. Every
/// object is looked at once at most, so no shape of trees makes it long.
pub fn missing(
    repo: &(impl Repository + ?Sized),
    want: ObjectId,
    have: &BTreeSet<ObjectId>,
) -> Result<Vec<ObjectId>, Broken> {
    let mut walk = Walk::default();
    for id in have {
        walk.add(repo, *id, true)?;
    }
    walk.add(repo, want, false)?;
    let mut commits = Vec::new();
    while walk.open > 0
        && let Some(Next { id, .. }) = walk.queue.pop()
    {
        let Some(commit) = walk.known.get_mut(&id) else {
            continue;
        };
        commit.queued = false;
        let (common, parents) = (commit.common, commit.parents.clone());
        if !common {
            walk.open = walk.open.saturating_sub(1);
            commits.push(id);
        }
        for parent in parents {
            walk.add(repo, parent, common)?;
        }
    }
    let known = walk.known;
    // Some were met from the peer's side only later, where clocks were wrong.
    commits.retain(|id| known.get(id).is_some_and(|c| !c.common));

    // What hangs on the commits just below is there already.
    let mut seen = BTreeSet::new();
    let mut below = Vec::new();
    for id in &commits {
        for parent in known.get(id).iter().flat_map(|c| &c.parents) {
            if let Some(commit) = known.get(parent).filter(|c| c.common) {
                below.push(commit.tree);
            }
        }
    }
    let mut ignored = Vec::new();
    for tree in below {
        walk_tree(repo, tree, &mut seen, &mut ignored)?;
    }
    drop(ignored);

    let mut out = Vec::with_capacity(commits.len());
    drop(commits);
    // Each commit twice on the way: to look at its parents, and when those are out.
    let mut out_already = BTreeSet::new();
    let mut todo = vec![(want, false)];
    while let Some((id, parents_are_out)) = todo.pop() {
        let Some(commit) = known.get(&id).filter(|c| !c.common) else {
            continue;
        };
        if parents_are_out {
            walk_tree(repo, commit.tree, &mut seen, &mut out)?;
            out.push(id);
        } else if out_already.insert(id) {
            todo.push((id, true));
            // The first parent's side first.
            todo.extend(commit.parents.iter().rev().map(|p| (*p, false)));
        }
    }
    Ok(out)
}

fn walk_tree(
    repo: &(impl Repository + ?Sized),
    root: ObjectId,
    seen: &mut BTreeSet<ObjectId>,
    out: &mut Vec<ObjectId>,
) -> Result<(), Broken> {
    let mut stack = vec![root];
    if !seen.insert(root) {
        return Ok(());
    }
    while let Some(id) = stack.pop() {
        out.push(id);
        let broken = || Broken {
            kind: Kind::Tree,
            id,
        };
        let (kind, bytes) = repo.object(&id).ok_or_else(broken)?;
        if kind != Kind::Tree {
            return Err(broken());
        }
        for entry in parse_tree(&bytes).map_err(|_| broken())? {
            match entry.mode {
                Mode::Submodule => {}
                _ if !seen.insert(entry.id) => {}
                Mode::Tree => stack.push(entry.id),
                _ => out.push(entry.id),
            }
        }
    }
    Ok(())
}

fn read_commit(repo: &(impl Repository + ?Sized), id: ObjectId) -> Result<Step, Broken> {
    let broken = || Broken {
        kind: Kind::Commit,
        id,
    };
    let (kind, bytes) = repo.object(&id).ok_or_else(broken)?;
    if kind != Kind::Commit {
        return Err(broken());
    }
    let commit = parse_commit(&bytes).map_err(|_| broken())?;
    Ok(Step {
        tree: commit.tree,
        time: commit_time(commit.committer),
        parents: commit.parents,
    })
}

/// The seconds in `Name <e-mail> seconds zone`; 0 if unreadable.
fn commit_time(committer: &[u8]) -> i64 {
    let mut words = committer.rsplit(|&b| b == b' ');
    let _zone = words.next();
    words
        .next()
        .and_then(|w| core::str::from_utf8(w).ok())
        .and_then(|w| w.parse().ok())
        .unwrap_or(0)
}

/// The most haves the reference's client sends (`libgit2`: 256), and we.
pub const MAX_HAVES: usize = 256;

/// Commits to tell a peer of: the newest twenty, then with growing gaps, and
/// always the first commit.
///
/// libgit2 tells the newest 256 only. With gaps, a peer that lacks more than
/// that of ours still finds something common close by, and does not send the
/// whole conversation again.
pub fn haves(repo: &(impl Repository + ?Sized)) -> Result<Vec<ObjectId>, Broken> {
    /// As many as libgit2 sends before it waits for an answer.
    const DENSE: usize = 20;
    let Some(head) = repo.head() else {
        return Ok(Vec::new());
    };
    let mut out = Vec::new();
    let mut queue = BinaryHeap::new();
    let mut seen = BTreeSet::from([head]);
    let step = read_commit(repo, head)?;
    queue.push((step.time, head, step.parents));
    let mut gap = 0usize;
    let mut skip = 0usize;
    while let Some((_, id, parents)) = queue.pop() {
        let first = parents.is_empty();
        if out.len() < DENSE || skip == 0 || first {
            out.push(id);
            if out.len() > DENSE {
                // A quarter more each time: 200 steps span more than any history.
                gap = gap.saturating_add(gap / 4).saturating_add(1);
                skip = gap;
            }
        } else {
            skip = skip.saturating_sub(1);
        }
        if out.len() >= MAX_HAVES {
            break;
        }
        for parent in parents {
            if seen.insert(parent) {
                let step = read_commit(repo, parent)?;
                queue.push((step.time, parent, step.parents));
            }
        }
    }
    Ok(out)
}
