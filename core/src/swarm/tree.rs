//! Trees by path: looking up, comparing, changing.

use super::object::{Kind, NewObject, Objects};
use super::path::TreePath;
use crate::git::object::{Mode, TreeEntry, TreeError, parse_tree, write_tree};
use crate::id::ObjectId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most paths in which two trees may differ. A group of 10,000 devices stays
/// below it; a tree bomb does not. Our limit.
pub const MAX_CHANGES: usize = 100_000;

/// Most entries of one directory, as many as paths may differ: with directories in directories each
/// of which is as large as an object may be, a single commit would take hundreds of megabytes.
/// Our limit.
pub const MAX_ENTRIES: usize = MAX_CHANGES;

/// Longest directory read, bytes: so many certificates of devices have less than 100 bytes each.
const MAX_DIRECTORY: usize = 10 << 20;

/// How many directory entries are kept parsed, about 100 bytes each; our choice.
const CACHED_ENTRIES: usize = 400_000;

/// Why a tree cannot be what a swarm's tree is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeFault {
    /// An object is not there.
    #[error("object {0} is missing")]
    Missing(ObjectId),
    /// An object is of another kind than where it is named says.
    #[error("object {0} is not of the kind it is named as")]
    WrongKind(ObjectId),
    /// Not a tree git would write.
    #[error("tree {0} is malformed: {1}")]
    Malformed(ObjectId, TreeError),
    /// A path that no swarm has.
    #[error("{0:?} has no place in a conversation")]
    UnknownPath(String),
    /// An executable, a symbolic link or a sub-module.
    #[error("{0:?} is not a plain file")]
    NotAFile(String),
    /// A directory without entries, which git never writes.
    #[error("{0:?} is an empty directory")]
    EmptyDirectory(String),
    /// More than [`MAX_ENTRIES`].
    #[error("the directory {0} has more entries than any of a conversation")]
    DirectoryTooLarge(ObjectId),
    /// More than [`MAX_CHANGES`].
    #[error("more than {MAX_CHANGES} paths differ")]
    TooManyChanges,
}

/// One directory, by plain order of names.
#[derive(Debug)]
struct Dir(Vec<(Box<str>, Mode, ObjectId)>);

impl Dir {
    fn get(&self, name: &str) -> Option<(Mode, ObjectId)> {
        let at = self.0.binary_search_by(|(n, _, _)| (**n).cmp(name)).ok()?;
        self.0.get(at).map(|(_, mode, id)| (*mode, *id))
    }
}

/// A path that differs between two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The path.
    pub path: TreePath,
    /// The blob before, if there was one.
    pub old: Option<ObjectId>,
    /// The blob after, if there is one.
    pub new: Option<ObjectId>,
}

/// A file below a directory, by the parts of its path, and its new blob or none.
type Edit<'e> = (&'e [String], Option<ObjectId>);

/// Reads trees and keeps what it has parsed: most commits share theirs.
pub struct Trees<'a> {
    objects: &'a dyn Objects,
    dirs: BTreeMap<ObjectId, Arc<Dir>>,
    cached: usize,
}

impl<'a> Trees<'a> {
    /// A reader of these objects.
    pub fn new(objects: &'a dyn Objects) -> Self {
        Self {
            objects,
            dirs: BTreeMap::new(),
            cached: 0,
        }
    }

    /// The objects underneath.
    pub fn objects(&self) -> &'a dyn Objects {
        self.objects
    }

    fn dir(&mut self, id: ObjectId) -> Result<Arc<Dir>, TreeFault> {
        if let Some(dir) = self.dirs.get(&id) {
            return Ok(dir.clone());
        }
        let data = match self.objects.object(&id) {
            Some((Kind::Tree, data)) => data,
            Some(_) => return Err(TreeFault::WrongKind(id)),
            None => return Err(TreeFault::Missing(id)),
        };
        if data.len() > MAX_DIRECTORY {
            return Err(TreeFault::DirectoryTooLarge(id));
        }
        let parsed = parse_tree(&data).map_err(|e| TreeFault::Malformed(id, e))?;
        if parsed.len() > MAX_ENTRIES {
            return Err(TreeFault::DirectoryTooLarge(id));
        }
        let mut entries: Vec<(Box<str>, Mode, ObjectId)> = parsed
            .into_iter()
            .map(|e| match core::str::from_utf8(e.name) {
                Ok(name) => Ok((Box::from(name), e.mode, e.id)),
                Err(_) => Err(TreeFault::UnknownPath(
                    String::from_utf8_lossy(e.name).into_owned(),
                )),
            })
            .collect::<Result<_, _>>()?;
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if self.cached.saturating_add(entries.len()) > CACHED_ENTRIES {
            self.dirs.clear();
            self.cached = 0;
        }
        self.cached = self.cached.saturating_add(entries.len()).saturating_add(1);
        let dir = Arc::new(Dir(entries));
        self.dirs.insert(id, dir.clone());
        Ok(dir)
    }

    /// The blob at a path.
    pub fn lookup(
        &mut self,
        tree: ObjectId,
        path: &TreePath,
    ) -> Result<Option<ObjectId>, TreeFault> {
        let parts = path.parts();
        let Some((file, directories)) = parts.split_last() else {
            return Ok(None);
        };
        let mut at = tree;
        for name in directories {
            match self.dir(at)?.get(name) {
                Some((Mode::Tree, id)) => at = id,
                _ => return Ok(None),
            }
        }
        Ok(match self.dir(at)?.get(file) {
            Some((Mode::File, id)) => Some(id),
            _ => None,
        })
    }

    /// The files of a directory, given by its parts: names and blobs, by name.
    pub fn list(
        &mut self,
        tree: ObjectId,
        directory: &[&str],
    ) -> Result<Vec<(Box<str>, ObjectId)>, TreeFault> {
        let mut at = tree;
        for name in directory {
            match self.dir(at)?.get(name) {
                Some((Mode::Tree, id)) => at = id,
                _ => return Ok(Vec::new()),
            }
        }
        let dir = self.dir(at)?;
        Ok(dir
            .0
            .iter()
            .filter(|(_, mode, _)| *mode == Mode::File)
            .map(|(n, _, id)| (n.clone(), *id))
            .collect())
    }

    /// The directories in a directory, by name.
    pub fn directories(
        &mut self,
        tree: ObjectId,
        directory: &[&str],
    ) -> Result<Vec<Box<str>>, TreeFault> {
        let mut at = tree;
        for name in directory {
            match self.dir(at)?.get(name) {
                Some((Mode::Tree, id)) => at = id,
                _ => return Ok(Vec::new()),
            }
        }
        let dir = self.dir(at)?;
        Ok(dir
            .0
            .iter()
            .filter(|(_, mode, _)| *mode == Mode::Tree)
            .map(|(n, _, _)| n.clone())
            .collect())
    }

    /// Every path in which two trees differ, by path; `None` is a tree without entries.
    /// What is in neither layout nor form of a swarm is a fault.
    pub fn diff(
        &mut self,
        old: Option<ObjectId>,
        new: Option<ObjectId>,
    ) -> Result<Vec<Change>, TreeFault> {
        let mut out = Vec::new();
        self.diff_into(&mut Vec::new(), old, new, &mut out)?;
        out.sort_unstable();
        Ok(out)
    }

    fn diff_into(
        &mut self,
        above: &mut Vec<Box<str>>,
        old: Option<ObjectId>,
        new: Option<ObjectId>,
        out: &mut Vec<Change>,
    ) -> Result<(), TreeFault> {
        if old == new {
            return Ok(());
        }
        let nothing = Arc::new(Dir(Vec::new()));
        let old = old.map_or_else(|| Ok(nothing.clone()), |id| self.dir(id))?;
        let new_dir = new.map_or_else(|| Ok(nothing.clone()), |id| self.dir(id))?;
        if new.is_some() && new_dir.0.is_empty() && !above.is_empty() {
            return Err(TreeFault::EmptyDirectory(above.join("/")));
        }
        let (mut a, mut b) = (old.0.iter().peekable(), new_dir.0.iter().peekable());
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => core::cmp::Ordering::Less,
                (None, Some(_)) => core::cmp::Ordering::Greater,
                (Some(x), Some(y)) => x.0.cmp(&y.0),
            };
            let was = if order.is_le() { a.next() } else { None };
            let is = if order.is_ge() { b.next() } else { None };
            if let (Some(x), Some(y)) = (was, is)
                && x.1 == y.1
                && x.2 == y.2
            {
                continue;
            }
            let Some(name) = was.or(is).map(|e| e.0.clone()) else {
                return Ok(());
            };
            above.push(name);
            let of = |e: Option<&(Box<str>, Mode, ObjectId)>, mode| {
                e.filter(|e| e.1 == mode).map(|e| e.2)
            };
            let parts: Vec<&str> = above.iter().map(|p| &**p).collect();
            let shown = || parts.join("/");
            for entry in [was, is].into_iter().flatten() {
                match entry.1 {
                    Mode::Tree if TreePath::is_directory(&parts) => {}
                    Mode::Tree => return Err(TreeFault::UnknownPath(shown())),
                    Mode::File => {}
                    _ => return Err(TreeFault::NotAFile(shown())),
                }
            }
            let (old_file, new_file) = (of(was, Mode::File), of(is, Mode::File));
            if old_file != new_file {
                if out.len() >= MAX_CHANGES {
                    return Err(TreeFault::TooManyChanges);
                }
                let path =
                    TreePath::from_parts(&parts).ok_or_else(|| TreeFault::UnknownPath(shown()))?;
                out.push(Change {
                    path,
                    old: old_file,
                    new: new_file,
                });
            }
            let (old_dir, new_dir) = (of(was, Mode::Tree), of(is, Mode::Tree));
            self.diff_into(above, old_dir, new_dir, out)?;
            above.pop();
        }
    }

    /// The tree with some paths changed (`None`: removed), and the tree objects that are new.
    pub fn change(
        &mut self,
        tree: Option<ObjectId>,
        edits: &BTreeMap<TreePath, Option<ObjectId>>,
    ) -> Result<(ObjectId, Vec<NewObject>), TreeFault> {
        let edits: Vec<(Vec<String>, Option<ObjectId>)> =
            edits.iter().map(|(p, id)| (p.parts(), *id)).collect();
        let edits: Vec<Edit<'_>> = edits.iter().map(|(p, id)| (p.as_slice(), *id)).collect();
        let mut new = Vec::new();
        let id = match self.change_dir(tree, &edits, &mut new)? {
            Some(id) => id,
            None => {
                let empty = NewObject::new(Kind::Tree, Vec::new());
                let id = empty.id;
                new.push(empty);
                id
            }
        };
        Ok((id, new))
    }

    fn change_dir(
        &mut self,
        tree: Option<ObjectId>,
        edits: &[Edit<'_>],
        new: &mut Vec<NewObject>,
    ) -> Result<Option<ObjectId>, TreeFault> {
        let mut entries: BTreeMap<Box<str>, (Mode, ObjectId)> = match tree {
            Some(id) => self
                .dir(id)?
                .0
                .iter()
                .map(|(n, m, i)| (n.clone(), (*m, *i)))
                .collect(),
            None => BTreeMap::new(),
        };
        let mut below: BTreeMap<&str, Vec<Edit<'_>>> = BTreeMap::new();
        for (parts, blob) in edits {
            match parts {
                [] => {}
                [file] => {
                    match blob {
                        Some(id) => entries.insert(file.as_str().into(), (Mode::File, *id)),
                        None => entries.remove(file.as_str()),
                    };
                }
                [directory, rest @ ..] => below.entry(directory).or_default().push((rest, *blob)),
            }
        }
        for (name, edits) in below {
            let old = entries.get(name).filter(|e| e.0 == Mode::Tree).map(|e| e.1);
            match self.change_dir(old, &edits, new)? {
                Some(id) => entries.insert(name.into(), (Mode::Tree, id)),
                None => entries.remove(name),
            };
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let mut list: Vec<TreeEntry<'_>> = entries
            .iter()
            .map(|(name, (mode, id))| TreeEntry {
                mode: *mode,
                name: name.as_bytes(),
                id: *id,
            })
            .collect();
        let object = NewObject::new(Kind::Tree, write_tree(&mut list));
        let id = object.id;
        if tree != Some(id) {
            new.push(object);
        }
        Ok(Some(id))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::object::{EMPTY_BLOB, MemoryObjects};
    use super::*;
    use crate::id::{AccountId, DeviceId};
    use proptest::prelude::*;

    fn paths() -> Vec<TreePath> {
        let a = |n| AccountId([n; 20]);
        let device = |n| super::super::path::Target::Device(DeviceId([n; 32]));
        let mut out = vec![TreePath::Profile, TreePath::Attachment(ObjectId([9; 20]))];
        for n in 1..4 {
            out.extend([
                TreePath::admin(a(n)),
                TreePath::member(a(n)),
                TreePath::invited(a(n)),
                TreePath::device(DeviceId([n; 32])),
                TreePath::Banned(device(n)),
                TreePath::Vote(super::super::path::Direction::Ban, device(n), a(n)),
            ]);
        }
        out
    }

    fn build(
        objects: &mut MemoryObjects,
        files: &BTreeMap<TreePath, Option<ObjectId>>,
    ) -> ObjectId {
        let (id, new) = Trees::new(objects).change(None, files).unwrap();
        objects.extend(new);
        id
    }

    proptest! {
        #[test]
        fn a_difference_applied_gives_the_other_tree(
            old in proptest::collection::btree_map(proptest::sample::select(paths()), 1u8..4, 0..12),
            new in proptest::collection::btree_map(proptest::sample::select(paths()), 1u8..4, 0..12),
        ) {
            let files = |m: BTreeMap<TreePath, u8>| m.into_iter().map(|(p, n)| (p, Some(ObjectId([n; 20])))).collect();
            let mut objects = MemoryObjects::new();
            let (old, new) = (build(&mut objects, &files(old)), build(&mut objects, &files(new)));
            let changes = Trees::new(&objects).diff(Some(old), Some(new)).unwrap();
            for change in &changes {
                prop_assert_eq!(Trees::new(&objects).lookup(old, &change.path), Ok(change.old));
                prop_assert_eq!(Trees::new(&objects).lookup(new, &change.path), Ok(change.new));
            }
            let edits = changes.iter().map(|c| (c.path, c.new)).collect();
            prop_assert_eq!(Trees::new(&objects).change(Some(old), &edits).unwrap().0, new);
        }
    }

    /// A directory with so many entries of one kind, all of them the same object.
    fn many(
        objects: &mut MemoryObjects,
        mode: Mode,
        id: ObjectId,
        names: impl Iterator<Item = String>,
    ) -> ObjectId {
        let names: Vec<String> = names.collect();
        let mut entries: Vec<TreeEntry<'_>> = names
            .iter()
            .map(|name| TreeEntry {
                mode,
                name: name.as_bytes(),
                id,
            })
            .collect();
        objects.insert(Kind::Tree, &write_tree(&mut entries))
    }

    #[test]
    fn more_paths_than_a_conversation_has_are_refused() {
        let mut objects = MemoryObjects::new();
        let ids = |count: usize| (1..=count).map(|n| format!("{n:040x}"));
        let blob = objects.insert(Kind::Blob, b"");
        // Some objects that are a hundred million files, each with its place in a conversation.
        let voters = many(&mut objects, Mode::File, blob, ids(10_000));
        let mut top = many(&mut objects, Mode::Tree, voters, ids(10_000));
        for name in ["members", "ban", "votes"] {
            top = many(&mut objects, Mode::Tree, top, [name.into()].into_iter());
        }
        let mut trees = Trees::new(&objects);
        let refused = Err(TreeFault::TooManyChanges);
        assert_eq!(trees.diff(None, Some(top)), refused);
        assert_eq!(trees.diff(Some(top), None), refused);
        assert!(trees.cached < 30_000, "{} entries are kept", trees.cached);
        // As many as may be, and one more.
        let most = many(&mut objects, Mode::File, blob, ids(MAX_CHANGES));
        let invited = many(
            &mut objects,
            Mode::Tree,
            most,
            ["invited".into()].into_iter(),
        );
        let all = Trees::new(&objects).diff(None, Some(invited)).unwrap();
        assert_eq!(all.len(), MAX_CHANGES);
        let more = many(&mut objects, Mode::File, blob, ids(MAX_ENTRIES + 1));
        let invited = many(
            &mut objects,
            Mode::Tree,
            more,
            ["invited".into()].into_iter(),
        );
        assert_eq!(
            Trees::new(&objects).diff(None, Some(invited)),
            Err(TreeFault::DirectoryTooLarge(more))
        );
        // Few entries with names without end, and bytes that are not even looked at.
        let long = many(
            &mut objects,
            Mode::File,
            blob,
            ["x".repeat(MAX_DIRECTORY)].into_iter(),
        );
        let junk = objects.insert(Kind::Tree, &vec![b'x'; MAX_DIRECTORY + 1]);
        for id in [long, junk] {
            assert_eq!(
                Trees::new(&objects).diff(None, Some(id)),
                Err(TreeFault::DirectoryTooLarge(id))
            );
        }
    }

    #[test]
    fn what_has_no_place_is_named() {
        let mut objects = MemoryObjects::new();
        let tree = |objects: &mut MemoryObjects, mode, name: &str, id| {
            objects.insert(
                Kind::Tree,
                &write_tree(&mut [TreeEntry {
                    mode,
                    name: name.as_bytes(),
                    id,
                }]),
            )
        };
        let mut check = |mode, name: &str, id| {
            let top = tree(&mut objects, mode, name, id);
            let below = tree(&mut objects, Mode::Tree, "members", top);
            let mut trees = Trees::new(&objects);
            (trees.diff(None, Some(top)), trees.diff(None, Some(below)))
        };
        let unknown = |p: &str| Err(TreeFault::UnknownPath(p.into()));
        assert_eq!(
            check(Mode::File, "readme", EMPTY_BLOB),
            (unknown("readme"), unknown("members/readme"))
        );
        assert_eq!(
            check(Mode::Link, "profile.vcf", EMPTY_BLOB).0,
            Err(TreeFault::NotAFile("profile.vcf".into()))
        );
        assert_eq!(
            check(Mode::Executable, "x", EMPTY_BLOB).1,
            Err(TreeFault::NotAFile("members/x".into()))
        );
        assert_eq!(
            check(Mode::Submodule, "x", EMPTY_BLOB).1,
            Err(TreeFault::NotAFile("members/x".into()))
        );
        assert_eq!(check(Mode::Tree, "x", EMPTY_BLOB).0, unknown("x"));
        assert_eq!(
            check(Mode::Tree, "invited", EMPTY_BLOB).0,
            Err(TreeFault::Missing(EMPTY_BLOB))
        );
        let blob = objects.insert(Kind::Blob, b"x");
        let empty = objects.insert(Kind::Tree, b"");
        let wrong = tree(&mut objects, Mode::Tree, "invited", blob);
        let hollow = tree(&mut objects, Mode::Tree, "invited", empty);
        let mut trees = Trees::new(&objects);
        assert_eq!(
            trees.diff(None, Some(wrong)),
            Err(TreeFault::WrongKind(blob))
        );
        assert_eq!(
            trees.diff(None, Some(hollow)),
            Err(TreeFault::EmptyDirectory("invited".into()))
        );
    }
}
