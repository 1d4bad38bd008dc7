//! The repository on disk, with stock git as judge.
#![allow(clippy::unwrap_used, missing_docs)]

use starling_bridge::store::objects::{ObjectStore, QuarantineError, ReadOnly, StoreError};
use starling_core::git::Repository;
use starling_core::git::object::{Kind, Mode, TreeEntry, hash_object, write_tree};
use starling_core::git::pack::{Limits, PackError, PackWriter};
use starling_core::git::reach::missing;
use starling_core::id::ObjectId;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "git {args:?}: {text}");
    text
}

/// Nothing to complain of; unreferenced objects are none.
fn fsck(dir: &Path) {
    let text = git(
        dir,
        &[
            "fsck",
            "--strict",
            "--full",
            "--no-dangling",
            "--no-progress",
        ],
    );
    let text = text.replace("notice: HEAD points to an unborn branch (main)\n", "");
    let text = text.replace("notice: No default references\n", "");
    assert_eq!(text, "");
}

/// The objects of a commit: itself, its tree and its file.
fn commit_objects(parent: Option<ObjectId>, text: &str) -> (ObjectId, Vec<(Kind, Vec<u8>)>) {
    let blob = format!("content {}", text.len()).into_bytes();
    let mut entries = [TreeEntry {
        mode: Mode::File,
        name: b"file",
        id: hash_object(Kind::Blob, &blob),
    }];
    let tree = write_tree(&mut entries);
    let parent = parent.map(|p| format!("parent {p}\n")).unwrap_or_default();
    let commit = format!(
        "tree {}\n{parent}author A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n\n{text}",
        hash_object(Kind::Tree, &tree)
    )
    .into_bytes();
    let id = hash_object(Kind::Commit, &commit);
    (
        id,
        vec![
            (Kind::Blob, blob),
            (Kind::Tree, tree),
            (Kind::Commit, commit),
        ],
    )
}

fn commit(store: &ObjectStore, text: &str) -> ObjectId {
    let head = store.head();
    let (id, objects) = commit_objects(head, text);
    let objects: Vec<_> = objects.iter().map(|(k, b)| (*k, &b[..])).collect();
    store.commit(&objects, head, id).unwrap();
    id
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for f in fs::read_dir(from).unwrap() {
        let f = f.unwrap();
        if f.file_type().unwrap().is_dir() {
            copy(&f.path(), &to.join(f.file_name()));
        } else {
            fs::copy(f.path(), to.join(f.file_name())).unwrap();
        }
    }
}

fn bundle_pack(bytes: &[u8]) -> &[u8] {
    let at = bytes.windows(2).position(|w| w == b"\n\n").unwrap();
    &bytes[at + 2..]
}

const GROUP: &[u8] = include_bytes!("data/git/group.bundle");
const GROUP_MAIN: &str = "4284a44b0a8d531b8cb196f1c4247bb0c2d13eff";

#[test]
fn stock_git_reads_what_is_written_at_once_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let store = ObjectStore::create(&path).unwrap();
    fsck(&path);
    assert_eq!(store.head(), None);
    let mut head = None;
    for i in 0..40 {
        head = Some(commit(&store, &format!("message {i}")));
    }
    fsck(&path);
    assert_eq!(git(&path, &["rev-list", "--count", "main"]), "40\n");
    assert_eq!(git(&path, &["symbolic-ref", "HEAD"]), "refs/heads/main\n");
    let looked = ReadOnly::open(&path).unwrap();
    assert_eq!(looked.head(), head);
    assert_eq!(
        missing(&looked, head.unwrap(), &BTreeSet::new())
            .unwrap()
            .len(),
        40 + 2 * 2
    );
    drop(store);
    fsck(&path);
    let store = ObjectStore::open(&path).unwrap();
    assert_eq!(store.head(), head);
    assert_eq!(store.read(&head.unwrap()).unwrap().0, Kind::Commit);
    assert_eq!(store.read(&ObjectId([1; 20])), None);
    // What is there is not written again.
    let before = fs::metadata(path.join("starling.journal")).unwrap().len();
    let (_, objects) = commit_objects(None, "message 0");
    let objects: Vec<_> = objects.iter().map(|(k, b)| (*k, &b[..])).collect();
    store.write_objects(&objects).unwrap();
    assert_eq!(
        fs::metadata(path.join("starling.journal")).unwrap().len(),
        before
    );
}

#[test]
fn after_a_power_cut_everything_that_was_promised_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let store = ObjectStore::create(&path).unwrap();
    let mut ids = Vec::new();
    for i in 0..200 {
        ids.push(commit(&store, &format!("message {i}")));
        if i == 20 {
            store.checkpoint().unwrap();
        }
        if i % 30 != 0 {
            continue;
        }
        // Nothing that was not flushed has reached the disk: fresh files are empty, the branch is old.
        let after = dir.path().join(format!("after-{i}"));
        copy(&path, &after);
        for dir in fs::read_dir(after.join("objects")).unwrap() {
            let dir = dir.unwrap();
            if dir.file_name().len() == 2 && i > 20 {
                for f in fs::read_dir(dir.path()).unwrap() {
                    let f = f.unwrap().path();
                    let hex = format!(
                        "{}{}",
                        dir.file_name().to_string_lossy(),
                        f.file_name().unwrap().to_string_lossy()
                    );
                    // Up to the checkpoint files last.
                    let old = ids.iter().take(21).any(|id| id.to_hex() == hex);
                    if !old && ids.iter().any(|id| id.to_hex() == hex) {
                        fs::write(&f, b"").unwrap();
                    }
                }
            }
        }
        if i > 20 {
            fs::write(after.join("refs/heads/main"), b"").unwrap();
        }
        // And the record after the last is half written.
        let journal = after.join("starling.journal");
        let mut bytes = fs::read(&journal).unwrap();
        bytes.extend([9, 9, 0, 0, 1, 2, 3]);
        fs::write(&journal, bytes).unwrap();
        let again = ObjectStore::open(&after).unwrap();
        assert_eq!(again.head(), ids.last().copied());
        for id in &ids {
            assert!(again.read(id).is_some());
        }
        drop(again);
        fsck(&after);
    }
}

#[test]
fn two_programs_cannot_open_one_repository() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let store = ObjectStore::create(&path).unwrap();
    assert_eq!(
        ObjectStore::open(&path).err(),
        Some(StoreError::Locked(path.clone()))
    );
    assert_eq!(
        ObjectStore::create(&path).err(),
        Some(StoreError::Exists(path.clone()))
    );
    drop(store);
    ObjectStore::open(&path).unwrap();
    let nowhere = dir.path().join("x");
    assert_eq!(
        ObjectStore::open(&nowhere).err(),
        Some(StoreError::NoRepository(nowhere))
    );
    fs::write(path.join("HEAD"), "ref: refs/heads/../../x\n").unwrap();
    assert!(matches!(
        ObjectStore::open(&path).err(),
        Some(StoreError::Damaged { .. })
    ));
}

#[test]
fn what_a_crash_leaves_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    drop(ObjectStore::create(&path).unwrap());
    let left = [
        "index.lock",
        "HEAD.lock",
        "refs/heads/main.lock",
        "objects/pack/tmp_pack_x.pack",
        "quarantine/abc/pack/incoming.pack",
        "refs/heads/tmp_obj_abc",
        "objects/ab/tmp_obj_x",
    ];
    for f in left {
        fs::create_dir_all(path.join(f).parent().unwrap()).unwrap();
        fs::write(path.join(f), "x").unwrap();
    }
    let _store = ObjectStore::open(&path).unwrap();
    for f in left {
        assert!(!path.join(f).exists(), "{f}");
    }
}

#[test]
fn the_branch_moves_only_from_where_it_is_and_to_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = ObjectStore::create(&dir.path().join("c")).unwrap();
    let first = commit(&store, "one");
    let nowhere = ObjectId([5; 20]);
    assert_eq!(
        store.set_head(Some(first), nowhere),
        Err(StoreError::NoObject(nowhere))
    );
    assert_eq!(
        store.set_head(None, first),
        Err(StoreError::HeadMoved {
            expected: None,
            found: Some(first)
        })
    );
    let (second, objects) = commit_objects(Some(first), "two");
    let objects: Vec<_> = objects.iter().map(|(k, b)| (*k, &b[..])).collect();
    // Refused whole: the objects are not written either.
    assert!(store.commit(&objects, None, second).is_err());
    assert!(!store.contains(&second));
    store.write_objects(&objects).unwrap();
    assert_eq!(store.head(), Some(first));
    store.set_head(Some(first), second).unwrap();
    assert_eq!(store.head(), Some(second));
}

#[test]
fn a_branch_in_packed_refs_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let store = ObjectStore::create(&path).unwrap();
    let head = commit(&store, "one");
    drop(store);
    git(&path, &["pack-refs", "--all"]);
    assert!(!path.join("refs/heads/main").exists());
    git(&path, &["gc", "--quiet"]);
    let store = ObjectStore::open(&path).unwrap();
    assert_eq!(store.head(), Some(head));
    commit(&store, "two");
    fsck(&path);
    assert_eq!(git(&path, &["rev-list", "--count", "main"]), "2\n");
}

fn receive(
    store: &Arc<ObjectStore>,
    pack: &[u8],
    piece: usize,
) -> Result<starling_bridge::store::objects::Quarantine, QuarantineError> {
    let mut receiving = store.quarantine(Limits::default());
    for chunk in pack.chunks(piece) {
        receiving.write(chunk)?;
    }
    receiving.finish()
}

#[test]
fn a_conversation_passes_through_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let store = Arc::new(ObjectStore::create(&path).unwrap());
    let head: ObjectId = GROUP_MAIN.parse().unwrap();
    let mut quarantine = receive(&store, bundle_pack(GROUP), 1000).unwrap();
    assert!(quarantine.read(&head).is_some());
    quarantine.set_tip(head);
    let all = missing(&quarantine, head, &BTreeSet::new()).unwrap();
    assert!(store.read(&head).is_none());
    // Dropped: without trace.
    drop(quarantine);
    assert!(all.iter().all(|id| !store.contains(id)));
    assert_eq!(fs::read_dir(path.join("quarantine")).unwrap().count(), 0);

    let quarantine = receive(&store, bundle_pack(GROUP), 1).unwrap();
    quarantine.accept(&all).unwrap();
    store.set_head(None, head).unwrap();
    assert_eq!(missing(&*store, head, &BTreeSet::new()).unwrap(), all);
    fsck(&path);
}

#[test]
fn what_lies_whole_in_a_pack_is_sent_as_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let store = ObjectStore::create(&dir.path().join("c")).unwrap();
    for n in 0..80 {
        commit(&store, &format!("packed {n}"));
    }
    store.repack().unwrap();
    let packed: Vec<ObjectId> = missing(&store, store.head().unwrap(), &BTreeSet::new()).unwrap();
    let loose = commit(&store, "loose");
    assert_eq!(Repository::packed(&store, &loose), None);
    assert_eq!(Repository::packed(&store, &ObjectId([9; 20])), None);
    let (mut writer, mut pack) = PackWriter::new(u32::try_from(packed.len()).unwrap(), true);
    for id in &packed {
        let entry = Repository::packed(&store, id).unwrap();
        let copied = writer.copy(*id, &entry).unwrap();
        assert_eq!(copied, entry);
        pack.extend(copied);
    }
    let (sum, entries) = writer.finish();
    pack.extend(sum);
    assert!(entries.iter().map(|e| &e.id).eq(&packed));
    // Other bytes than one's own deflating gives are well, too; deltas are not whole.
    let work = work_tree(dir.path());
    grow(&work, 40);
    git(&work, &["repack", "-q", "-a", "-d", "-f"]);
    let theirs = ObjectStore::open(&work.join(".git")).unwrap();
    let all = missing(&theirs, theirs.head().unwrap(), &BTreeSet::new()).unwrap();
    let (mut writer, mut second) = PackWriter::new(u32::try_from(all.len()).unwrap(), false);
    let mut whole = 0;
    for id in &all {
        let entry = Repository::packed(&theirs, id).unwrap();
        let copied = writer.copy(*id, &entry).inspect(|_| whole += 1);
        second.extend(copied.unwrap_or_else(|| {
            let (kind, data) = theirs.read(id).unwrap();
            writer.object(kind, &data)
        }));
    }
    second.extend(writer.finish().0);
    assert!(
        (40..all.len() - 20).contains(&whole),
        "{whole} of {}",
        all.len()
    );
    for (pack, ids) in [(pack, packed), (second, all)] {
        let target = tempfile::tempdir().unwrap();
        let path = target.path().join("c");
        let target = Arc::new(ObjectStore::create(&path).unwrap());
        receive(&target, &pack, 4000).unwrap().accept(&ids).unwrap();
        assert!(ids.iter().all(|id| target.contains(id)));
        fsck(&path);
    }
}

/// What nobody asked for: files, and a tree that no repository may have.
fn junk(large: bool) -> Vec<(Kind, Vec<u8>)> {
    let mut out: Vec<(Kind, Vec<u8>)> = (0u32..if large { 600 } else { 20 })
        .map(|n| {
            (
                Kind::Blob,
                hash_object(Kind::Blob, &n.to_be_bytes()).0.repeat(100),
            )
        })
        .collect();
    let file = hash_object(Kind::Blob, &out[0].1);
    let entry = TreeEntry {
        mode: Mode::File,
        name: b".git",
        id: file,
    };
    out.push((Kind::Tree, write_tree(&mut [entry])));
    out
}

#[test]
fn of_a_pack_only_what_its_commits_reach_is_kept() {
    let source = tempfile::tempdir().unwrap();
    let source = Arc::new(ObjectStore::create(&source.path().join("c")).unwrap());
    let head: ObjectId = GROUP_MAIN.parse().unwrap();
    let whole = receive(&source, bundle_pack(GROUP), 1000).unwrap();
    let all = missing(&whole, head, &BTreeSet::new()).unwrap();
    let commits: Vec<ObjectId> = all
        .iter()
        .filter(|id| whole.read(id).unwrap().0 == Kind::Commit)
        .copied()
        .collect();
    // Both in memory and on the disk.
    for large in [false, true] {
        let junk = junk(large);
        let count = u32::try_from(all.len() + junk.len()).unwrap();
        let (mut writer, mut pack) = PackWriter::new(count, false);
        for (kind, data) in &junk {
            pack.extend(writer.object(*kind, data));
        }
        for id in &all {
            let (kind, data) = whole.read(id).unwrap();
            pack.extend(writer.object(kind, &data));
        }
        pack.extend(writer.finish().0);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let store = Arc::new(ObjectStore::create(&path).unwrap());
        receive(&store, &pack, 5000)
            .unwrap()
            .accept(&commits)
            .unwrap();
        store.set_head(None, head).unwrap();
        assert_eq!(missing(&*store, head, &BTreeSet::new()).unwrap(), all);
        for (kind, data) in &junk {
            assert!(!store.contains(&hash_object(*kind, data)));
        }
        // What is there already may come again, and of nothing nothing is kept.
        receive(&store, &pack, 5000)
            .unwrap()
            .accept(&commits[..1])
            .unwrap();
        receive(&store, &pack, 5000).unwrap().accept(&[]).unwrap();
        store.repack().unwrap();
        drop(store);
        fsck(&path);
        let objects = git(&path, &["cat-file", "--batch-all-objects", "--batch-check"]);
        assert_eq!(objects.lines().count(), all.len());
    }
}

/// A pack of many objects, too large for memory.
fn large_pack(count: u32) -> (Vec<u8>, Vec<ObjectId>) {
    let (mut writer, mut pack) = PackWriter::new(count, true);
    for i in 0..count {
        let mut noise = u64::from(i) + 1;
        let bytes: Vec<u8> = (0..1000)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            })
            .collect();
        pack.extend(writer.object(Kind::Blob, &bytes));
    }
    let (sum, entries) = writer.finish();
    pack.extend(sum);
    (pack, entries.iter().map(|e| e.id).collect())
}

#[test]
fn a_large_pack_waits_on_disk_and_moves_in_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let store = Arc::new(ObjectStore::create(&path).unwrap());
    let known = commit(&store, "one");
    let (pack, ids) = large_pack(1000);
    let quarantine = receive(&store, &pack, 60_000).unwrap();
    assert_eq!(fs::read_dir(path.join("quarantine")).unwrap().count(), 1);
    assert!(ids.iter().all(|id| {
        quarantine
            .read(id)
            .is_some_and(|(k, b)| hash_object(k, &b) == *id)
    }));
    assert!(quarantine.read(&known).is_some());
    assert!(!store.contains(&ids[0]));
    drop(quarantine);
    assert_eq!(fs::read_dir(path.join("quarantine")).unwrap().count(), 0);

    receive(&store, &pack, 60_000)
        .unwrap()
        .accept(&ids)
        .unwrap();
    assert_eq!(fs::read_dir(path.join("quarantine")).unwrap().count(), 0);
    assert!(ids.iter().all(|id| store.contains(id)));
    fsck(&path);
    assert!(git(&path, &["count-objects", "-v"]).contains("in-pack: 1000"));
    // The same again is nothing new.
    receive(&store, &pack, 60_000)
        .unwrap()
        .accept(&ids)
        .unwrap();
    fsck(&path);
}

#[test]
fn bad_packs_never_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let store = Arc::new(ObjectStore::create(&path).unwrap());
    let (pack, _) = large_pack(1000);
    assert_eq!(
        receive(&store, &pack[..pack.len() - 1], 60_000).err(),
        Some(QuarantineError::Pack(PackError::Truncated))
    );
    let mut bad = pack.clone();
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(
        receive(&store, &bad, 60_000).err(),
        Some(QuarantineError::Pack(PackError::Checksum))
    );
    let limits = Limits {
        received: 600_000,
        ..Limits::default()
    };
    let mut receiving = store.quarantine(limits);
    let error = pack.chunks(9000).find_map(|c| receiving.write(c).err());
    assert_eq!(
        error,
        Some(QuarantineError::Pack(PackError::TooLarge(600_000)))
    );
    drop(receiving);
    assert_eq!(fs::read_dir(path.join("quarantine")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(path.join("objects/pack")).unwrap().count(), 0);
}

#[test]
fn what_is_there_is_found_at_every_moment_of_packing() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let store = ObjectStore::create(&dir.path().join("c")).unwrap();
    let done = AtomicBool::new(false);
    let known = std::sync::Mutex::new(vec![commit(&store, "first")]);
    std::thread::scope(|s| {
        // More than there are cores, so that some are stopped between seeing a file and opening it.
        for _ in 0..8 {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let ids: Vec<_> = known
                        .lock()
                        .unwrap()
                        .iter()
                        .rev()
                        .take(60)
                        .copied()
                        .collect();
                    for id in ids {
                        assert!(store.contains(&id), "{id} is not there");
                        let length = store.size(&id);
                        let read = store.read(&id).map(|(_, bytes)| bytes.len() as u64);
                        assert!(
                            read.is_some() && read == length,
                            "{id}: {read:?} of {length:?}"
                        );
                    }
                }
            });
        }
        for round in 0..40 {
            for i in 0..20 {
                let id = commit(&store, &format!("message {round} {i}"));
                known.lock().unwrap().push(id);
            }
            store.repack().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn many_objects_become_packs_while_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let store = Arc::new(ObjectStore::create(&path).unwrap());
    let first = commit(&store, "first");
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut reads = 0u32;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(store.read(&first).is_some());
                let head = store.head().unwrap();
                assert!(store.read(&head).is_some());
                reads += 1;
            }
            reads
        })
    };
    let mut ids = vec![first];
    for i in 0..1300 {
        ids.push(commit(&store, &format!("message {i}")));
    }
    store.repack().unwrap();
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
    assert!(ids.iter().all(|id| store.read(id).is_some()));
    let counts = git(&path, &["count-objects", "-v"]);
    assert!(
        counts.contains("count: 0\n") && counts.contains("packs: 1\n"),
        "{counts}"
    );
    assert_eq!(
        fs::metadata(path.join("starling.journal")).unwrap().len(),
        0
    );
    fsck(&path);
    assert_eq!(git(&path, &["rev-list", "--count", "main"]), "1301\n");
}

/// What a directory takes on the disk, in bytes: blocks, not lengths.
fn room(path: &Path) -> u64 {
    let out = Command::new("du").arg("-sk").arg(path).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let kib: u64 = text.split_whitespace().next().unwrap().parse().unwrap();
    kib * 1024
}

#[test]
fn what_lies_about_is_packed_while_others_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let store = Arc::new(ObjectStore::create(&path).unwrap());
    assert!(!store.tidy().unwrap(), "nothing is worth it");
    let write = |from: u32, to: u32| {
        for i in from..to {
            commit(&store, &format!("message {i}"));
        }
    };
    write(0, 300);
    std::thread::scope(|s| {
        let writer = s.spawn(|| write(300, 1400));
        let mut packed = 0;
        while !writer.is_finished() {
            packed += u32::from(store.tidy().unwrap());
        }
        writer.join().unwrap();
        assert!(packed > 0);
    });
    while store.tidy().unwrap() {}
    let loose = fs::read_dir(path.join("objects"))
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().len() == 2)
        .count();
    assert!(loose < 64, "{loose} directories of loose objects");
    // Each message is three objects here, none of which compresses well.
    assert!(room(&path) / 1400 < 1024, "{} bytes", room(&path));
    drop(store);
    fsck(&path);
    assert_eq!(git(&path, &["rev-list", "--count", "main"]), "1400\n");
    let store = ObjectStore::open(&path).unwrap();
    assert!(store.read(&store.head().unwrap()).is_some());
}

#[test]
fn a_repository_that_rests_is_opened_when_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let (first, head) = {
        let store = ObjectStore::create(&path).unwrap();
        (commit(&store, "first"), commit(&store, "second"))
    };
    assert!(
        ObjectStore::rest(&path, first).is_none(),
        "the branch is elsewhere"
    );
    let store = ObjectStore::rest(&path, head).unwrap();
    assert_eq!(store.head(), Some(head));
    assert!(!store.is_open());
    // Nobody has it open yet.
    drop(ObjectStore::open(&path).unwrap());
    assert!(store.read(&first).is_some() && store.is_open());
    assert!(matches!(
        ObjectStore::open(&path),
        Err(StoreError::Locked(_))
    ));
    commit(&store, "third");
    // Not closed in good order: the journal has something.
    let head = store.head().unwrap();
    assert!(ObjectStore::rest(&path, head).is_none());
    drop(store);
    // Another program was here in between.
    let store = ObjectStore::rest(&path, head).unwrap();
    commit(&ObjectStore::open(&path).unwrap(), "fourth");
    assert!(matches!(store.wake(), Err(StoreError::HeadMoved { .. })));
}

#[test]
fn more_packs_than_were_expected_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let store = Arc::new(ObjectStore::create(&path).unwrap());
    let mut all = Vec::new();
    for i in 0..80 {
        let (mut writer, mut pack) = PackWriter::new(300, true);
        for j in 0..300 {
            pack.extend(writer.object(Kind::Blob, format!("{i} {j}").as_bytes()));
        }
        let (sum, entries) = writer.finish();
        pack.extend(sum);
        let ids: Vec<ObjectId> = entries.iter().map(|e| e.id).collect();
        receive(&store, &pack, 1 << 16)
            .unwrap()
            .accept(&ids)
            .unwrap();
        all.extend(ids);
    }
    assert!(all.iter().all(|id| store.contains(id)));
    store.repack().unwrap();
    assert!(all.iter().all(|id| store.read(id).is_some()));
    assert!(git(&path, &["count-objects", "-v"]).contains("packs: 1\n"));
    fsck(&path);
}

/// Which of a pack's commits are whole when it breaks off there.
fn whole_of(store: &Arc<ObjectStore>, pack: &[u8]) -> Option<ObjectId> {
    let mut receiving = store.quarantine(Limits::default());
    receiving.write(pack).unwrap();
    let (quarantine, commits) = receiving.rescue()?;
    quarantine.newest_whole(&commits, &|id| store.contains(id))
}

/// Commits of a text that grows, a line each: git packs it as deltas.
fn grow(work: &Path, commits: usize) {
    let mut text = String::new();
    for n in 0..commits {
        text.push_str(&format!(
            "{n}: {}\n",
            hash_object(Kind::Blob, text.as_bytes())
        ));
        fs::write(work.join("f"), &text).unwrap();
        git(work, &["add", "f"]);
        git(work, &["commit", "-q", "-m", "m"]);
    }
}

/// An empty repository of git's own, in which commits can be made.
fn work_tree(dir: &Path) -> PathBuf {
    let work = dir.join("w");
    fs::create_dir(&work).unwrap();
    git(&work, &["init", "-q", "-b", "main"]);
    git(&work, &["config", "user.email", "a@b"]);
    git(&work, &["config", "user.name", "a"]);
    work
}

#[test]
fn of_a_pack_that_breaks_off_our_order_keeps_much_and_that_of_git_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let work = work_tree(dir.path());
    for i in 0..60 {
        if i % 10 == 0 {
            fs::write(work.join(format!("f{i}")), format!("{i}")).unwrap();
            git(&work, &["add", "."]);
        }
        git(&work, &["commit", "-q", "--allow-empty", "-m", "m"]);
    }
    let head: ObjectId = git(&work, &["rev-parse", "main"]).trim().parse().unwrap();
    let source = ObjectStore::open(&work.join(".git")).unwrap();
    // As git and libgit2 write it, and so every daemon: the newest commit first, trees and files last.
    let theirs = dir.path().join("theirs");
    let list = dir.path().join("list");
    fs::write(&list, "main\n").unwrap();
    let out = Command::new("git")
        .arg("-C")
        .arg(&work)
        .args([
            "pack-objects",
            "-q",
            "--revs",
            "--stdout",
            "--no-reuse-delta",
        ])
        .stdin(fs::File::open(&list).unwrap())
        .output()
        .unwrap();
    assert!(out.status.success());
    let store = Arc::new(ObjectStore::create(&theirs).unwrap());
    for part in 1..20 {
        let cut = out.stdout.len() * part / 20;
        assert_eq!(whole_of(&store, &out.stdout[..cut]), None);
    }
    // As we serve it.
    let objects = missing(&source, head, &BTreeSet::new()).unwrap();
    let (mut writer, mut pack) = PackWriter::new(u32::try_from(objects.len()).unwrap(), false);
    for id in &objects {
        let (kind, data) = source.read(id).unwrap();
        pack.extend(writer.object(kind, &data));
    }
    pack.extend(writer.finish().0);
    let (mut last, mut seen) = (None, BTreeSet::new());
    for part in 2..=20 {
        last = whole_of(&store, &pack[..pack.len() * part / 20]);
        assert!(seen.insert(last.unwrap()), "more with every piece");
    }
    assert_eq!(last, Some(head));
}

#[test]
fn of_a_large_pack_that_breaks_off_git_reads_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mut parent, mut entries) = (None, Vec::new());
    let (mut writer, mut pack) = PackWriter::new(2002, false);
    for n in 0u32..2000 {
        let noise = |i: u32| hash_object(Kind::Blob, &(n * 40 + i).to_be_bytes()).to_hex();
        let (id, objects) = commit_objects(parent, &(0..40).map(noise).collect::<String>());
        // All have the same tree and file.
        for (kind, data) in objects.iter().skip(if n == 0 { 0 } else { 2 }) {
            pack.extend(writer.object(*kind, data));
        }
        entries.push((pack.len(), id));
        parent = Some(id);
    }
    let path = dir.path().join("c");
    let store = Arc::new(ObjectStore::create(&path).unwrap());
    // Right behind a commit, of which all before it is part; and amid something.
    pack.extend(writer.finish().0);
    for cut in [entries[1000].0, entries[1500].0 + 20] {
        assert!(cut > 600_000, "{cut}");
        let mut receiving = store.quarantine(Limits::default());
        receiving.write(&pack[..cut]).unwrap();
        let (quarantine, commits) = receiving.rescue().unwrap();
        let known = |id: &ObjectId| store.contains(id);
        let newest = quarantine.newest_whole(&commits, &known).unwrap();
        quarantine.accept(&commits).unwrap();
        store.set_head(store.head(), newest).unwrap();
    }
    assert_eq!(store.head(), Some(entries[1500].1));
    drop(store);
    fsck(&path);
    assert_eq!(git(&path, &["rev-list", "--count", "main"]), "1501\n");
}

#[test]
fn long_chains_of_deltas_by_id_are_read_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let work = work_tree(dir.path());
    grow(&work, 120);
    let objects = git(&work, &["rev-list", "--objects", "main"]);
    let list = work.join("list");
    fs::write(&list, &objects).unwrap();
    // Deltas by id and not by offset, in chains as long as can be.
    let out = Command::new("git")
        .arg("-C")
        .arg(&work)
        .args([
            "pack-objects",
            "--depth=100",
            "--window=50",
            "--no-delta-base-offset",
            "-q",
            "--stdout",
            "--no-reuse-delta",
        ])
        .stdin(fs::File::open(&list).unwrap())
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let path = dir.path().join("c");
    let store = Arc::new(ObjectStore::create(&path).unwrap());
    let head = git(&work, &["rev-parse", "main"]).trim().parse().unwrap();
    let quarantine = receive(&store, &out.stdout, 10_000).unwrap();
    let all = missing(&quarantine, head, &BTreeSet::new()).unwrap();
    assert_eq!(all.len(), 360);
    quarantine.accept(&all).unwrap();
    store.set_head(None, head).unwrap();
    for id in missing(&*store, head, &BTreeSet::new()).unwrap() {
        let (kind, bytes) = store.read(&id).unwrap();
        assert_eq!(hash_object(kind, &bytes), id);
    }
    fsck(&path);
}
