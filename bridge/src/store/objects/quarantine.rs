//! Where a peer's pack waits to be judged: readable on top of the store, and
//! gone without trace unless it is accepted.

use super::disk::{At as _, PackFile};
use super::{ObjectStore, StoreError, new_handle, open_odb, pack, read_from};
use gix::odb::HandleArc;
use starling_core::git::Repository;
use starling_core::git::object::{Kind, Mode, parse_commit, parse_tree};
use starling_core::git::pack::{EntryReader, Limits, PackError, Resolved, Scanned, Scanner};
use starling_core::id::ObjectId;
use starling_core::swarm::object::Objects;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;

/// A pack up to that size stays in memory while it comes: our choice.
const SMALL_PACK: usize = 512 << 10;
/// A pack of up to that many objects is not kept as a pack. git draws its line at
/// 100 (`fetch.unpackLimit`); ours need one flush together, however many.
const FEW_OBJECTS: usize = 256;
/// What they may take inflated.
const SMALL_INFLATED: u64 = 8 << 20;

/// Why a pack does not come into quarantine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuarantineError {
    /// The pack is bad; the peer is to blame.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The disk is; the peer is not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A pack that is coming.
pub struct Receiving {
    store: Arc<ObjectStore>,
    scanner: Scanner,
    memory: Vec<u8>,
    file: Option<(TempDir, File)>,
    bytes: u64,
}

/// A pack that has come, whole and readable.
pub struct Quarantine {
    store: Arc<ObjectStore>,
    place: Place,
    tip: Option<ObjectId>,
    ids: Vec<ObjectId>,
    bytes: u64,
}

enum Place {
    Memory(BTreeMap<ObjectId, (Kind, Vec<u8>)>),
    Disk {
        dir: TempDir,
        reader: Box<Mutex<Reader>>,
        /// Of a pack that came to its end.
        checksum: Option<[u8; 20]>,
    },
}

/// Reads a pack that has come.
struct Reader {
    pack: PackFile,
    entries: EntryReader,
    /// Where each object's entry begins, in the order of their ids.
    offsets: Vec<u64>,
    /// Largest object.
    max: u64,
    objects: PathBuf,
    /// For deltas. It maps the pack into memory, and so is opened only where there are some.
    deltas: Option<HandleArc>,
}

impl Reader {
    fn read(&mut self, at: usize, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        let offset = *self.offsets.get(at)?;
        if self.deltas.is_none() {
            if let Some(whole) = self.entries.read(&self.pack, offset, self.max) {
                return Some(whole);
            }
            let odb = open_odb(&self.objects)
                .inspect_err(|e| tracing::warn!(%e, "a pack cannot be read"))
                .ok()?;
            self.deltas = Some(new_handle(&odb));
        }
        read_from(self.deltas.as_ref()?, id)
    }
}

const PACK: &str = "pack/incoming.pack";

impl ObjectStore {
    /// Begins to receive a pack, within limits.
    pub fn quarantine(self: &Arc<Self>, limits: Limits) -> Receiving {
        Receiving {
            store: Arc::clone(self),
            scanner: Scanner::new(limits),
            memory: Vec::new(),
            file: None,
            bytes: 0,
        }
    }
}

impl Receiving {
    /// Takes the next bytes of the pack. After an error there is nothing but to drop it, or to
    /// [`rescue`](Self::rescue) what came before.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), QuarantineError> {
        let scanned = self.scanner.push(bytes);
        // Of what is too large the beginning is read, up to somewhere in these.
        self.keep(bytes)?;
        Ok(scanned?)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        match &mut self.file {
            Some((dir, file)) => file.write_all(bytes).at(dir.path())?,
            None => {
                self.memory.extend_from_slice(bytes);
                if self.memory.len() > SMALL_PACK {
                    self.spill()?;
                }
            }
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), StoreError> {
        let parent = self.store.path().join(super::QUARANTINE);
        let dir = TempDir::new_in(&parent).at(&parent)?;
        fs::create_dir(dir.path().join("pack")).at(dir.path())?;
        let path = dir.path().join(PACK);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .at(&path)?;
        file.write_all(&self.memory).at(&path)?;
        self.memory = Vec::new();
        self.file = Some((dir, file));
        Ok(())
    }

    /// The pack has come: applies its deltas and names its objects. Reads much and computes much.
    pub fn finish(mut self) -> Result<Quarantine, QuarantineError> {
        let scanner = std::mem::replace(&mut self.scanner, Scanner::new(Limits::default()));
        let scanned = scanner.finish()?;
        Ok(self.read_in(scanned, false)?.0)
    }

    /// The pack has broken off: what can be read of it, and its commits in the order they came.
    /// Nothing if there is none, or if what came is bad.
    pub fn rescue(mut self) -> Option<(Quarantine, Vec<ObjectId>)> {
        let scanner = std::mem::replace(&mut self.scanner, Scanner::new(Limits::default()));
        let came = scanner.broken_off()?;
        let read = self.read_in(came, true);
        let (quarantine, mut commits) = read
            .inspect_err(|e| tracing::debug!(%e, "nothing is left of a broken pack"))
            .ok()?;
        commits.sort_unstable();
        let commits: Vec<ObjectId> = commits.into_iter().map(|(_, id)| id).collect();
        (!commits.is_empty()).then_some((quarantine, commits))
    }

    /// Applies the deltas. Gives the commits by offset, too, if they are wanted.
    fn read_in(
        mut self,
        scanned: Scanned,
        commits: bool,
    ) -> Result<(Quarantine, Vec<(u64, ObjectId)>), QuarantineError> {
        let few = scanned.len() <= FEW_OBJECTS && scanned.inflated() <= SMALL_INFLATED;
        if self.file.is_none() && few {
            return self.in_memory(scanned);
        }
        if self.file.is_none() {
            self.spill()?;
        }
        let Some((dir, file)) = self.file else {
            return Err(PackError::Truncated.into());
        };
        let file = PackFile(file);
        let (max, whole) = (scanned.largest(), scanned.is_whole());
        let resolved = scanned.resolve(&file)?;
        pack::write_idx(&dir.path().join(PACK), &resolved.index())?;
        let commits = match commits {
            true => commits_of(&resolved),
            false => Vec::new(),
        };
        let ids = resolved.objects.iter().map(|o| o.id).collect();
        let reader = Reader {
            pack: file,
            entries: EntryReader::default(),
            offsets: resolved.objects.iter().map(|o| o.offset).collect(),
            max,
            objects: dir.path().to_owned(),
            deltas: None,
        };
        let place = Place::Disk {
            dir,
            reader: Box::new(Mutex::new(reader)),
            checksum: whole.then_some(resolved.checksum),
        };
        let quarantine = Quarantine {
            store: self.store,
            place,
            tip: None,
            ids,
            bytes: self.bytes,
        };
        Ok((quarantine, commits))
    }

    fn in_memory(
        self,
        scanned: Scanned,
    ) -> Result<(Quarantine, Vec<(u64, ObjectId)>), QuarantineError> {
        let mut objects = BTreeMap::new();
        let resolved = scanned.resolve_each(&self.memory[..], |id, o| {
            objects.insert(id, (o.kind, o.bytes.to_vec()));
        })?;
        let ids = objects.keys().copied().collect();
        let quarantine = Quarantine {
            store: self.store,
            place: Place::Memory(objects),
            tip: None,
            ids,
            bytes: self.bytes,
        };
        Ok((quarantine, commits_of(&resolved)))
    }
}

fn commits_of(resolved: &Resolved) -> Vec<(u64, ObjectId)> {
    let commits = resolved.objects.iter().filter(|o| o.kind == Kind::Commit);
    commits.map(|o| (o.offset, o.id)).collect()
}

impl Quarantine {
    /// The objects that came.
    pub fn ids(&self) -> &[ObjectId] {
        &self.ids
    }

    /// Bytes that came.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The store below.
    pub fn store(&self) -> &Arc<ObjectStore> {
        &self.store
    }

    /// What [`Repository::head`] says of the quarantine, for walks.
    pub fn set_tip(&mut self, tip: ObjectId) {
        self.tip = Some(tip);
    }

    /// A commit below those that came, which is neither here nor `known`: below the last of
    /// `commits`, given in the order they came, that names one.
    pub fn below(
        &self,
        commits: &[ObjectId],
        known: &dyn Fn(&ObjectId) -> bool,
    ) -> Option<ObjectId> {
        let missing = |id: &ObjectId| {
            let (_, data) = self.read(id).filter(|(kind, _)| *kind == Kind::Commit)?;
            let mut parents = parse_commit(&data).ok()?.parents.into_iter();
            parents.find(|p| !known(p) && self.ids.binary_search(p).is_err())
        };
        commits.iter().rev().find_map(missing)
    }

    /// The last of `commits`, given in the order they came, that is here with everything it needs:
    /// its tree and files, and its parents likewise, if they are not `known` already. Nothing in a
    /// pack that puts children before their parents.
    pub fn newest_whole(
        &self,
        commits: &[ObjectId],
        known: &dyn Fn(&ObjectId) -> bool,
    ) -> Option<ObjectId> {
        let (mut whole, mut trees, mut newest) = (BTreeSet::new(), BTreeSet::new(), None);
        for id in commits {
            let Some((Kind::Commit, data)) = self.read(id) else {
                continue;
            };
            let Ok(commit) = parse_commit(&data) else {
                continue;
            };
            let mut parents = commit.parents.iter();
            if parents.all(|p| whole.contains(p) || known(p))
                && self.has_all_below(commit.tree, &mut trees)
            {
                whole.insert(*id);
                newest = Some(*id);
            }
        }
        newest
    }

    /// `seen`: trees that are known to be here with all below.
    fn has_all_below(&self, tree: ObjectId, seen: &mut BTreeSet<ObjectId>) -> bool {
        let mut todo = vec![tree];
        let mut new = BTreeSet::new();
        while let Some(id) = todo.pop() {
            // What the store has, it has with all below.
            if seen.contains(&id) || self.store.contains(&id) || !new.insert(id) {
                continue;
            }
            let Some((Kind::Tree, data)) = self.read(&id) else {
                return false;
            };
            for entry in parse_tree(&data).unwrap_or_default() {
                match entry.mode {
                    Mode::Tree => todo.push(entry.id),
                    _ if !Objects::contains(self, &entry.id) => return false,
                    _ => {}
                }
            }
        }
        seen.append(&mut new);
        true
    }

    /// An object, from the pack or from the store below.
    pub fn read(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        let own = match &self.place {
            Place::Memory(objects) => objects.get(id).cloned(),
            Place::Disk { reader, .. } => self.ids.binary_search(id).ok().and_then(|at| {
                let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                reader.read(at, id)
            }),
        };
        own.or_else(|| self.store.read(id))
    }

    /// Takes into the store what these commits reach, and nothing else that came with it: their
    /// trees and files, as far as the store lacks them. The commits are those of the pack that were
    /// found valid, all of them: their parents are not followed. What is taken lasts when this returns; the branch is where it was.
    pub fn accept(self, commits: &[ObjectId]) -> Result<(), StoreError> {
        let tree = |id: &ObjectId| match self.read(id) {
            Some((Kind::Commit, data)) => parse_commit(&data).ok().map(|c| c.tree),
            _ => None,
        };
        let trees = commits.iter().filter_map(tree).collect();
        self.accept_with(commits, &trees)
    }

    /// The same, where the trees of these commits are known.
    pub fn accept_with(
        mut self,
        commits: &[ObjectId],
        trees: &BTreeSet<ObjectId>,
    ) -> Result<(), StoreError> {
        let reached = self.reached(commits, trees);
        let count = reached.iter().filter(|r| **r).count();
        let ids = std::mem::take(&mut self.ids);
        let keep = || {
            ids.iter()
                .zip(&reached)
                .filter(|(_, r)| **r)
                .map(|(i, _)| i)
        };
        match &self.place {
            Place::Disk {
                dir,
                checksum: Some(checksum),
                ..
            } if count == ids.len() => {
                let path = dir.path().join(PACK);
                super::sync_file(&path)?;
                self.store.install(&path, checksum)
            }
            Place::Disk { reader, .. } => {
                let read = |id: &ObjectId| {
                    let at = ids.binary_search(id).ok()?;
                    let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                    reader.read(at, id)
                };
                self.store.add_pack(&keep().copied().collect(), read)
            }
            Place::Memory(objects) => {
                let objects: Vec<_> = keep()
                    .filter_map(|id| objects.get(id))
                    .map(|(kind, bytes)| (*kind, &bytes[..]))
                    .collect();
                self.store.write_objects(&objects).map(drop)
            }
        }
    }

    /// Which of [`Self::ids`] these commits and their trees reach. A tree that the store has, it has
    /// with all below.
    fn reached(&self, commits: &[ObjectId], trees: &BTreeSet<ObjectId>) -> Vec<bool> {
        let mut reached = vec![false; self.ids.len()];
        let mut reach = |id: &ObjectId| {
            let place = self.ids.binary_search(id).ok();
            let new = place.and_then(|at| reached.get_mut(at));
            new.is_some_and(|r| !std::mem::replace(r, true))
        };
        for commit in commits {
            reach(commit);
        }
        let mut todo: Vec<ObjectId> = trees.iter().filter(|t| reach(t)).copied().collect();
        while let Some(tree) = todo.pop() {
            let Some((Kind::Tree, data)) = self.read(&tree) else {
                continue;
            };
            for entry in parse_tree(&data).unwrap_or_default() {
                if reach(&entry.id) && entry.mode == Mode::Tree {
                    todo.push(entry.id);
                }
            }
        }
        reached
    }
}

impl Objects for Quarantine {
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.read(id)
    }
    fn contains(&self, id: &ObjectId) -> bool {
        self.ids.binary_search(id).is_ok() || self.store.contains(id)
    }
}

impl Repository for Quarantine {
    fn head(&self) -> Option<ObjectId> {
        self.tip.or_else(|| self.store.head())
    }
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.read(id)
    }
    fn contains(&self, id: &ObjectId) -> bool {
        Objects::contains(self, id)
    }
}

impl std::fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quarantine")
            .field("objects", &self.ids.len())
            .finish_non_exhaustive()
    }
}
