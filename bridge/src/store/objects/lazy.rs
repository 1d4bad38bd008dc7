//! A repository that is opened when it is needed first: most conversations are
//! only listed while a bridge runs.

use super::disk::loose_path;
use super::{BRANCH, Disk, JOURNAL, StoreError, lock, read_branch};
use flate2::read::ZlibDecoder;
use sha1::{Digest as _, Sha1};
use starling_core::git::Repository;
use starling_core::git::object::Kind;
use starling_core::id::ObjectId;
use starling_core::swarm::object::Objects;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// Largest head whose file is looked at before the repository is opened, inflated: a longer one
/// waits until it is read.
const MAX_LOOK: u64 = 1 << 20;

/// The repository of one conversation. All methods block; share it by [`std::sync::Arc`].
pub struct ObjectStore {
    path: PathBuf,
    /// Where the branch is while the repository has not been opened.
    resting: Option<ObjectId>,
    disk: OnceLock<Disk>,
    opening: Mutex<()>,
    reads: AtomicU64,
}

impl ObjectStore {
    fn of(path: &Path, disk: Disk) -> Self {
        Self {
            path: path.to_owned(),
            resting: None,
            disk: OnceLock::from(disk),
            opening: Mutex::default(),
            reads: AtomicU64::new(0),
        }
    }

    /// Makes an empty repository where there is nothing yet.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(path, Disk::create(path)?))
    }

    /// Opens a repository, made by us or by git. Plays the journal, and removes what a crash has left.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(path, Disk::open(path)?))
    }

    /// A repository that was closed in good order with its branch at `head`, to be opened when it
    /// is needed first. `None`: it has to be opened to know how it is.
    pub fn rest(path: &Path, head: ObjectId) -> Option<Self> {
        let closed = match fs::metadata(path.join(JOURNAL)) {
            Ok(journal) => journal.len() == 0,
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        };
        let there = closed
            && path.join("HEAD").exists()
            && path.join(BRANCH).exists()
            && read_branch(path) == Ok(Some(head));
        (there && !newest_is_torn(path, &head)).then(|| Self {
            path: path.to_owned(),
            resting: Some(head),
            disk: OnceLock::new(),
            opening: Mutex::default(),
            reads: AtomicU64::new(0),
        })
    }

    fn disk(&self) -> Result<&Disk, StoreError> {
        if let Some(disk) = self.disk.get() {
            return Ok(disk);
        }
        let _one = lock(&self.opening);
        if let Some(disk) = self.disk.get() {
            return Ok(disk);
        }
        let disk = Disk::open(&self.path)?;
        if disk.head() != self.resting {
            // Another program was here in between.
            return Err(StoreError::HeadMoved {
                expected: self.resting,
                found: disk.head(),
            });
        }
        Ok(self.disk.get_or_init(|| disk))
    }

    /// The repository if it can be opened; why not is logged.
    fn readable(&self) -> Option<&Disk> {
        self.disk()
            .inspect_err(|e| tracing::error!(path = %self.path.display(), %e, "a repository cannot be opened"))
            .ok()
    }

    /// Whether it has been opened.
    pub fn is_open(&self) -> bool {
        self.disk.get().is_some()
    }

    /// Opens it if it rests.
    pub fn wake(&self) -> Result<(), StoreError> {
        self.disk().map(drop)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An object, if it is there.
    pub fn read(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.readable()?.read(id)
    }

    /// How many objects were asked for since it was made or opened.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// The length of an object in bytes, if it is there. Not all of it is read for that.
    pub fn size(&self, id: &ObjectId) -> Option<u64> {
        self.readable()?.size(id)
    }

    /// Whether an object is there.
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.readable().is_some_and(|disk| disk.contains(id))
    }

    /// Writes objects. They last when this returns. Those already there are passed over.
    pub fn write_objects(&self, objects: &[(Kind, &[u8])]) -> Result<Vec<ObjectId>, StoreError> {
        self.disk()?.write(objects, None)
    }

    /// The commit the branch is at.
    pub fn head(&self) -> Option<ObjectId> {
        match self.disk.get() {
            Some(disk) => disk.head(),
            None => self.resting,
        }
    }

    /// Moves the branch, if it is where the caller thinks. It lasts when this returns.
    pub fn set_head(&self, expected: Option<ObjectId>, new: ObjectId) -> Result<(), StoreError> {
        self.disk()?.write(&[], Some((expected, new))).map(|_| ())
    }

    /// Writes objects and moves the branch, both or neither, with one flush of the disk.
    pub fn commit(
        &self,
        objects: &[(Kind, &[u8])],
        expected: Option<ObjectId>,
        new: ObjectId,
    ) -> Result<Vec<ObjectId>, StoreError> {
        self.disk()?.write(objects, Some((expected, new)))
    }

    /// Makes everything last without the journal, packs loose objects if there are many, and empties the journal.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.disk()?.checkpoint()
    }

    /// Puts all loose objects, and small packs with them, into one pack.
    pub fn repack(&self) -> Result<(), StoreError> {
        self.disk()?.repack()
    }

    /// Puts loose objects and small packs together if there are many, while others go on reading
    /// and writing. Says whether there were. Nothing while it rests.
    pub fn tidy(&self) -> Result<bool, StoreError> {
        self.disk.get().map_or(Ok(false), Disk::tidy)
    }

    /// Takes over a pack whose files last already, by renaming them.
    pub(super) fn install(&self, pack: &Path, checksum: &[u8; 20]) -> Result<(), StoreError> {
        self.disk()?.install(pack, checksum)
    }

    /// Makes a pack of these objects, which are read elsewhere. They last when this returns.
    pub(super) fn add_pack(
        &self,
        ids: &BTreeSet<ObjectId>,
        read: impl Fn(&ObjectId) -> Option<(Kind, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        self.disk()?.add_pack(ids, read)
    }
}

/// Whether the newest object has a file of its own that is not what it should be: what a power
/// cut or a bad disk spoils first.
fn newest_is_torn(path: &Path, head: &ObjectId) -> bool {
    let Ok(file) = fs::File::open(loose_path(&path.join("objects"), head)) else {
        // In a pack, which has its own checksums.
        return false;
    };
    let mut bytes = Vec::new();
    match ZlibDecoder::new(file)
        .take(MAX_LOOK)
        .read_to_end(&mut bytes)
    {
        Ok(n) if n as u64 == MAX_LOOK => false,
        Ok(_) => head.0[..] != Sha1::digest(&bytes)[..],
        Err(_) => true,
    }
}

impl Objects for ObjectStore {
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.read(id)
    }
    fn contains(&self, id: &ObjectId) -> bool {
        Self::contains(self, id)
    }
}

impl Repository for ObjectStore {
    fn head(&self) -> Option<ObjectId> {
        Self::head(self)
    }
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.read(id)
    }
    fn packed(&self, id: &ObjectId) -> Option<Vec<u8>> {
        self.readable()?.packed(id)
    }
    fn contains(&self, id: &ObjectId) -> bool {
        Self::contains(self, id)
    }
}
