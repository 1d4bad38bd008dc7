//! The repository of one conversation on disk: bare, as stock git reads it.
//!
//! Reading is gix-odb's. Writing is ours, because there is no way to make
//! gix's loose objects, packs or references last at the price of one flush:
//! new objects and the branch go through a [journal](journal), whole packs
//! from peers and from [`ObjectStore::repack`] are flushed as files.
//!
//! What a peer sends waits in a [`Quarantine`] until it is judged.

mod disk;
mod journal;
mod lazy;
mod pack;
mod quarantine;

pub use lazy::ObjectStore;
pub use quarantine::{Quarantine, QuarantineError, Receiving};

use disk::{At as _, loose_objects, loose_path, replace, sync_dir, sync_file, write_loose};
use gix::odb::HandleArc;
use gix::odb::pack::Find as _;
use gix::prelude::{FindExt as _, Header as _};
use journal::Journal;
use starling_core::git::Repository;
use starling_core::git::object::{Kind, hash_object};
use starling_core::id::ObjectId;
use starling_core::swarm::object::Objects;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Why the disk could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused: no room, no right, no file.
    #[error("{}: {text}", .path.display())]
    Io {
        /// Of the file or directory.
        path: PathBuf,
        /// What sort of refusal.
        kind: io::ErrorKind,
        /// In the system's words.
        text: String,
    },
    /// Another program has the repository open.
    #[error("{} is in use by another Starling", .0.display())]
    Locked(PathBuf),
    /// There is no repository, or nothing that could be one.
    #[error("{} is no repository", .0.display())]
    NoRepository(PathBuf),
    /// There is already something.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The branch is not where it was expected.
    #[error("the branch is at {found:?}, not at {expected:?}")]
    HeadMoved {
        /// Where the caller thought it was.
        expected: Option<ObjectId>,
        /// Where it is.
        found: Option<ObjectId>,
    },
    /// The branch was to be set to something that is not there.
    #[error("there is no object {0}")]
    NoObject(ObjectId),
    /// A file does not hold what it should.
    #[error("{} is damaged: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Loose objects, or bytes in the journal, after which all is packed: as many
/// as make a pack worth its two files, and few enough to replay in a blink.
const MANY_LOOSE: usize = 1024;
const MUCH_JOURNAL: u64 = 4 << 20;
/// A checkpoint flushes as many loose objects one by one; more are packed instead.
const FEW_LOOSE: usize = 64;

/// So many small packs are put together: each makes every look-up longer.
const MANY_PACKS: usize = 4;

/// Our lock: released by the system when the process ends, however it ends.
const LOCK: &str = "starling.lock";
const JOURNAL: &str = "starling.journal";
const QUARANTINE: &str = "quarantine";
const BRANCH: &str = "refs/heads/main";

/// A repository to look into without a lock, while another program may have it open.
pub struct ReadOnly {
    handle: Mutex<HandleArc>,
    head: Option<ObjectId>,
}

impl ReadOnly {
    /// Opens a repository for reading. The branch is read once, now.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.join("HEAD").exists() {
            return Err(StoreError::NoRepository(path.to_owned()));
        }
        Ok(Self {
            head: read_branch(path)?,
            handle: Mutex::new(new_handle(&open_odb(&path.join("objects"))?)),
        })
    }
}

impl Repository for ReadOnly {
    fn head(&self) -> Option<ObjectId> {
        self.head
    }
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        let handle = lock(&self.handle);
        // Again, in case the other program was just moving it from a file of its own into a pack.
        read_from(&handle, id).or_else(|| read_from(&handle, id))
    }
}

impl Objects for ReadOnly {
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        Repository::object(self, id)
    }
}

/// The open repository of one conversation.
struct Disk {
    path: PathBuf,
    objects: PathBuf,
    /// Opened anew when packs have come or gone: gix's store has room for few new ones.
    odb: RwLock<Arc<gix::odb::Store>>,
    /// Handles at rest. They hold caches and cannot be shared, but lent.
    handles: Mutex<Vec<(Arc<gix::odb::Store>, HandleArc)>>,
    head: RwLock<Option<ObjectId>>,
    writer: Mutex<Writer>,
    /// Held by the one who puts packs together.
    packing: Mutex<()>,
    /// Counts the beginnings and ends of removing what is packed: odd while files go,
    /// which is always under the lock of the writer.
    moves: AtomicU64,
    lock: File,
}

struct Writer {
    journal: Journal,
    /// Objects that only the journal makes last.
    fresh: Vec<ObjectId>,
    /// Whether only the journal makes the branch last.
    head_moved: bool,
    /// Loose objects in all, about.
    loose: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// Makes an empty repository where there is nothing yet.
    fn create(path: &Path) -> Result<Self, StoreError> {
        if path.join("HEAD").exists() {
            return Err(StoreError::Exists(path.to_owned()));
        }
        for dir in ["objects/pack", "objects/info", "refs/heads", QUARANTINE] {
            let dir = path.join(dir);
            fs::create_dir_all(&dir).at(&dir)?;
        }
        // Nothing of a conversation is ever to be collected by a stock git that
        // looks in: we pack ourselves, and fresh objects may be unreferenced for a moment.
        let config = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n[gc]\n\tauto = 0\n\tpruneExpire = never\n";
        replace(&path.join("config"), config.as_bytes(), true)?;
        sync_dir(&path.join("objects"))?;
        sync_dir(&path.join("refs"))?;
        // Last, because it is what makes it a repository.
        replace(
            &path.join("HEAD"),
            format!("ref: {BRANCH}\n").as_bytes(),
            true,
        )?;
        if let Some(parent) = path.parent() {
            sync_dir(parent)?;
        }
        Self::open(path)
    }

    /// Opens a repository, made by us or by git. Plays the journal, and removes what a crash has left.
    fn open(path: &Path) -> Result<Self, StoreError> {
        let head_file = path.join("HEAD");
        match fs::read_to_string(&head_file) {
            Ok(text) if text.trim_end() == format!("ref: {BRANCH}") => {}
            Ok(text) => {
                let what = format!("it says {:?}", text.chars().take(80).collect::<String>());
                return Err(StoreError::Damaged {
                    path: head_file,
                    what,
                });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoRepository(path.to_owned()));
            }
            Err(e) => return Err(e).at(&head_file),
        }
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).at(&lock_path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Locked(path.to_owned())),
            Err(fs::TryLockError::Error(e)) => return Err(e).at(&lock_path),
        }
        clean(path)?;

        let objects = path.join("objects");
        let (journal, records) = Journal::open(&path.join(JOURNAL))?;
        let mut head = read_branch(path)?;
        let mut fresh = Vec::new();
        let mut head_moved = false;
        for record in records {
            for (kind, bytes) in record.objects {
                let id = hash_object(kind, &bytes);
                // Whatever lies there may be torn.
                write_loose(&objects, &id, kind, &bytes)?;
                fresh.push(id);
            }
            if record.head.is_some() {
                head = record.head;
                head_moved = true;
            }
        }
        let loose = loose_objects(&objects, true)?.len();
        let store = Self {
            path: path.to_owned(),
            odb: RwLock::new(open_odb(&objects)?),
            objects,
            handles: Mutex::default(),
            head: RwLock::new(head),
            writer: Mutex::new(Writer {
                journal,
                fresh,
                head_moved,
                loose,
            }),
            packing: Mutex::default(),
            moves: AtomicU64::new(0),
            lock,
        };
        store.checkpoint()?;
        Ok(store)
    }

    /// An object, if it is there.
    fn read(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.look(|handle| read_from(handle, id))
    }

    /// The entry of the pack in which an object lies, if it does and can be inflated.
    fn packed(&self, id: &ObjectId) -> Option<Vec<u8>> {
        self.look(|handle| {
            let mut inflated = Vec::new();
            let place = handle.location_by_oid(&oid(id), &mut inflated).ok()??;
            handle.entry_by_location(&place).map(|entry| entry.data)
        })
    }

    /// The length of an object, if it is there. Not all of it is read for that.
    fn size(&self, id: &ObjectId) -> Option<u64> {
        self.look(|handle| handle.try_header(&oid(id)).ok()?)
            .map(|header| header.size())
    }

    /// Whether an object is there.
    fn contains(&self, id: &ObjectId) -> bool {
        self.look(|handle| handle.exists_without_refresh(&oid(id)).then_some(()))
            .is_some()
    }

    /// Looks something up, and again if files went meanwhile: what was seen loose
    /// and is gone when it is opened has become part of a pack.
    fn look<T>(&self, find: impl Fn(&HandleArc) -> Option<T>) -> Option<T> {
        loop {
            let moves = self.moves.load(Ordering::Acquire);
            let (odb, handle) = self.handle();
            let found = find(&handle);
            let stale = !Arc::ptr_eq(&odb, &self.odb());
            self.give_back(odb, handle);
            let moving = moves % 2 == 1;
            if found.is_some() || !(stale || moving || moves != self.moves.load(Ordering::Acquire))
            {
                return found;
            }
            if moving {
                // Until they are gone. Who holds this lock itself sees none go.
                drop(lock(&self.writer));
            }
        }
    }

    /// The commit the branch is at.
    fn head(&self) -> Option<ObjectId> {
        *self.head.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(
        &self,
        objects: &[(Kind, &[u8])],
        head: Option<(Option<ObjectId>, ObjectId)>,
    ) -> Result<Vec<ObjectId>, StoreError> {
        let ids: Vec<_> = objects
            .iter()
            .map(|(kind, bytes)| hash_object(*kind, bytes))
            .collect();
        let mut writer = lock(&self.writer);
        let mut seen = BTreeSet::new();
        let (new_ids, new): (Vec<_>, Vec<_>) = ids
            .iter()
            .zip(objects)
            .filter(|(id, _)| seen.insert(**id) && !self.contains(id))
            .map(|(id, object)| (*id, *object))
            .unzip();
        if let Some((expected, commit)) = head {
            let found = self.head();
            if found != expected {
                return Err(StoreError::HeadMoved { expected, found });
            }
            if !seen.contains(&commit) && !self.contains(&commit) {
                return Err(StoreError::NoObject(commit));
            }
        }
        if new.is_empty() && head.is_none() {
            return Ok(ids);
        }
        let before = writer.journal.len();
        writer.journal.append(&new, head.map(|(_, new)| new))?;
        if let Err(e) = self.write_files(&new_ids, &new, head.map(|(_, new)| new)) {
            // Not half: neither in files, which nothing makes last, nor at the next start.
            for id in &new_ids {
                let _ = fs::remove_file(loose_path(&self.objects, id));
            }
            writer.journal.cut(before)?;
            return Err(e);
        }
        writer.loose += new_ids.len();
        writer.fresh.extend(new_ids);
        if let Some((_, new)) = head {
            *self.head.write().unwrap_or_else(PoisonError::into_inner) = Some(new);
            writer.head_moved = true;
        }
        if writer.loose >= MANY_LOOSE || writer.journal.len() >= MUCH_JOURNAL {
            // What was asked is done; this can be done later, too.
            if let Err(e) = self.checkpoint_locked(&mut writer) {
                tracing::warn!(path = %self.path.display(), %e, "checkpoint");
            }
        }
        Ok(ids)
    }

    fn write_files(
        &self,
        ids: &[ObjectId],
        objects: &[(Kind, &[u8])],
        head: Option<ObjectId>,
    ) -> Result<(), StoreError> {
        for (id, (kind, bytes)) in ids.iter().zip(objects) {
            write_loose(&self.objects, id, *kind, bytes)?;
        }
        if let Some(head) = head {
            let text = format!("{head}\n");
            replace(&self.path.join(BRANCH), text.as_bytes(), false)?;
        }
        Ok(())
    }

    /// Makes everything last without the journal, packs loose objects if there are many, and empties the journal.
    fn checkpoint(&self) -> Result<(), StoreError> {
        self.checkpoint_locked(&mut lock(&self.writer))
    }

    fn checkpoint_locked(&self, writer: &mut Writer) -> Result<(), StoreError> {
        if writer.loose >= MANY_LOOSE || writer.fresh.len() > FEW_LOOSE {
            // Those alone, so that nobody waits for long; `tidy` puts packs together.
            self.pack_locked(writer, &[])?;
        }
        if writer.journal.len() == 0 {
            return Ok(());
        }
        let mut dirs = BTreeSet::from([self.objects.clone()]);
        for id in &writer.fresh {
            let path = loose_path(&self.objects, id);
            sync_file(&path)?;
            dirs.extend(path.parent().map(Path::to_owned));
        }
        for dir in &dirs {
            sync_dir(dir)?;
        }
        if let (true, Some(head)) = (writer.head_moved, self.head()) {
            replace(
                &self.path.join(BRANCH),
                format!("{head}\n").as_bytes(),
                true,
            )?;
        }
        writer.journal.clear()?;
        writer.fresh.clear();
        writer.head_moved = false;
        Ok(())
    }

    /// Puts all loose objects, and small packs with them, into one pack.
    fn repack(&self) -> Result<(), StoreError> {
        let _one = lock(&self.packing);
        let mut writer = lock(&self.writer);
        self.pack_locked(&mut writer, &pack::small(&self.objects)?)?;
        self.checkpoint_locked(&mut writer)
    }

    /// Does the same while others go on writing, if it is worth it. Says whether it was.
    fn tidy(&self) -> Result<bool, StoreError> {
        let _one = lock(&self.packing);
        let (loose, packs) = (
            loose_objects(&self.objects, false)?,
            pack::small(&self.objects)?,
        );
        if loose.len() < FEW_LOOSE && packs.len() < MANY_PACKS {
            return Ok(false);
        }
        // Objects never change: what is there now can be packed while more comes.
        let kept = self.write_pack(&loose, &packs)?;
        let mut writer = lock(&self.writer);
        self.forget_packed(&mut writer, &loose, &packs, &kept)?;
        self.checkpoint_locked(&mut writer)?;
        Ok(true)
    }

    /// Puts all loose objects, and these packs with them, into one pack.
    fn pack_locked(&self, writer: &mut Writer, packs: &[PathBuf]) -> Result<(), StoreError> {
        let loose = loose_objects(&self.objects, false)?;
        if loose.is_empty() && packs.len() < 2 {
            return Ok(());
        }
        let kept = self.write_pack(&loose, packs)?;
        self.forget_packed(writer, &loose, packs, &kept)
    }

    fn write_pack(&self, loose: &[ObjectId], packs: &[PathBuf]) -> Result<PathBuf, StoreError> {
        let mut ids: BTreeSet<_> = loose.iter().copied().collect();
        for p in packs {
            ids.extend(pack::ids(p)?);
        }
        pack::write(&self.objects, &ids, |id| self.read(id))
    }

    /// Removes what is in the pack `kept` as well.
    fn forget_packed(
        &self,
        writer: &mut Writer,
        loose: &[ObjectId],
        packs: &[PathBuf],
        kept: &Path,
    ) -> Result<(), StoreError> {
        self.moves.fetch_add(1, Ordering::AcqRel);
        let removed = self.remove_packed(loose, packs, kept);
        self.moves.fetch_add(1, Ordering::AcqRel);
        removed?;
        let gone: BTreeSet<&ObjectId> = loose.iter().collect();
        writer.fresh.retain(|id| !gone.contains(id));
        writer.loose = writer.loose.saturating_sub(loose.len());
        Ok(())
    }

    fn remove_packed(
        &self,
        loose: &[ObjectId],
        packs: &[PathBuf],
        kept: &Path,
    ) -> Result<(), StoreError> {
        // New readers see the new pack before the old files go.
        self.reopen()?;
        for id in loose {
            let path = loose_path(&self.objects, id);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at(&path),
                _ => {}
            }
            // 256 empty directories take a megabyte. One that is not empty stays.
            if let Some(dir) = path.parent() {
                let _ = fs::remove_dir(dir);
            }
        }
        for p in packs.iter().filter(|p| **p != kept) {
            pack::remove(p)?;
        }
        self.reopen()
    }

    /// Takes over a pack whose files last already, by renaming them.
    fn install(&self, pack: &Path, checksum: &[u8; 20]) -> Result<(), StoreError> {
        let _writer = lock(&self.writer);
        pack::install(&self.objects, pack, checksum)?;
        self.reopen()
    }

    /// Makes a pack of objects that are read elsewhere.
    fn add_pack(
        &self,
        ids: &BTreeSet<ObjectId>,
        read: impl Fn(&ObjectId) -> Option<(Kind, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        // Not amid putting packs together, which removes what it has read.
        let _one = lock(&self.packing);
        pack::write(&self.objects, ids, read)?;
        self.reopen()
    }

    fn odb(&self) -> Arc<gix::odb::Store> {
        Arc::clone(&self.odb.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let new = open_odb(&self.objects)?;
        *self.odb.write().unwrap_or_else(PoisonError::into_inner) = new;
        lock(&self.handles).clear();
        Ok(())
    }

    fn handle(&self) -> (Arc<gix::odb::Store>, HandleArc) {
        if let Some(ready) = lock(&self.handles).pop() {
            return ready;
        }
        let odb = self.odb();
        let handle = new_handle(&odb);
        (odb, handle)
    }

    fn give_back(&self, odb: Arc<gix::odb::Store>, handle: HandleArc) {
        if Arc::ptr_eq(&odb, &self.odb()) {
            lock(&self.handles).push((odb, handle));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The next start has less to play; nothing is lost if it fails.
        // Nor is there anything left to put in order of a conversation that was deleted.
        if self.path.exists()
            && let Err(e) = self.checkpoint()
        {
            tracing::warn!(path = %self.path.display(), %e, "checkpoint at the end");
        }
        // Closing it is not enough: a child process that is just being started has a copy until it is another program.
        let _ = self.lock.unlock();
    }
}

fn oid(id: &ObjectId) -> gix::ObjectId {
    gix::ObjectId::from(id.0)
}

fn open_odb(objects: &Path) -> Result<Arc<gix::odb::Store>, StoreError> {
    let slots = gix::odb::store::init::Options {
        slots: gix::odb::store::init::Slots::AsNeededByDiskState {
            multiplier: 1.5,
            minimum: 32,
        },
        use_multi_pack_index: false,
        ..Default::default()
    };
    gix::odb::Store::at_opts(
        objects.to_owned(),
        gix::hash::Kind::Sha1,
        &mut None.into_iter(),
        slots,
    )
    .map(Arc::new)
    .at(objects)
}

fn new_handle(odb: &Arc<gix::odb::Store>) -> HandleArc {
    let mut handle = odb.to_cache_arc();
    // What is told of the place of an entry stays true as long as the handle lives.
    handle.prevent_pack_unload();
    handle
}

fn read_from(handle: &HandleArc, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
    let mut buffer = Vec::new();
    let kind = match handle.find(&oid(id), &mut buffer).ok()?.kind {
        gix::objs::Kind::Commit => Kind::Commit,
        gix::objs::Kind::Tree => Kind::Tree,
        gix::objs::Kind::Blob => Kind::Blob,
        gix::objs::Kind::Tag => Kind::Tag,
    };
    Some((kind, buffer))
}

/// The branch as git sees it: its own file, or else a line in `packed-refs`.
fn read_branch(path: &Path) -> Result<Option<ObjectId>, StoreError> {
    let file = path.join(BRANCH);
    let damaged = |path: &Path| StoreError::Damaged {
        path: path.to_owned(),
        what: "no object id".into(),
    };
    match fs::read_to_string(&file) {
        // Empty, if the power went before its content was on disk; the journal knows better.
        Ok(text) if text.is_empty() => return Ok(None),
        Ok(text) => {
            return text
                .trim_end()
                .parse()
                .map(Some)
                .map_err(|_| damaged(&file));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).at(&file),
    }
    let packed = path.join("packed-refs");
    match fs::read_to_string(&packed) {
        Ok(text) => text
            .lines()
            .find_map(|l| l.strip_suffix(BRANCH)?.strip_suffix(' '))
            .map(|id| id.parse().map_err(|_| damaged(&packed)))
            .transpose(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).at(&packed),
    }
}

/// Removes what a crash can leave: quarantines, half-written packs, git's own lock files.
fn clean(path: &Path) -> Result<(), StoreError> {
    let quarantine = path.join(QUARANTINE);
    match fs::remove_dir_all(&quarantine) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at(&quarantine),
        _ => {}
    }
    for dir in [QUARANTINE, "objects/pack", "refs/heads"] {
        let dir = path.join(dir);
        fs::create_dir_all(&dir).at(&dir)?;
    }
    for file in [
        "HEAD.lock",
        "config.lock",
        "index.lock",
        "packed-refs.lock",
        "refs/heads/main.lock",
    ] {
        match fs::remove_file(path.join(file)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at(&path.join(file)),
            _ => {}
        }
    }
    for dir in ["objects/pack", "refs/heads", ""] {
        let dir = path.join(dir);
        for file in fs::read_dir(&dir).at(&dir)? {
            let file = file.at(&dir)?;
            if file.file_name().to_string_lossy().starts_with("tmp_") {
                fs::remove_file(file.path()).at(&file.path())?;
            }
        }
    }
    Ok(())
}
