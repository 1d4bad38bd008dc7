//! Packs that are built to hurt, entry by entry.

use flate2::Compression;
use flate2::write::ZlibEncoder;
use sha1::Digest as _;
use starling_core::git::object::{Kind, Mode, TreeEntry, hash_object, write_tree};
use starling_core::id::ObjectId;
use std::io::Write as _;

pub fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut e = ZlibEncoder::new(Vec::new(), Compression::fast());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

pub const COMMIT: u8 = 1;
pub const TREE: u8 = 2;
pub const BLOB: u8 = 3;

/// Type and size of an entry.
pub fn header(code: u8, mut size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut byte = code << 4 | (size & 15) as u8;
    size >>= 4;
    while size > 0 {
        out.push(byte | 0x80);
        byte = (size & 0x7f) as u8;
        size >>= 7;
    }
    out.push(byte);
    out
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

pub fn entry(code: u8, bytes: &[u8]) -> Vec<u8> {
    [header(code, bytes.len() as u64), zlib(bytes)].concat()
}

/// A delta upon an object by its id, which makes `result` out of nothing of it.
pub fn delta(base: ObjectId, base_len: u64, result: &[u8]) -> Vec<u8> {
    let mut ops = [varint(base_len), varint(result.len() as u64)].concat();
    for piece in result.chunks(127) {
        ops.push(piece.len() as u8);
        ops.extend_from_slice(piece);
    }
    [header(7, ops.len() as u64), base.0.to_vec(), zlib(&ops)].concat()
}

/// A pack that announces so many entries.
pub fn counted(count: u32, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"PACK\0\0\0\x02".to_vec();
    out.extend(count.to_be_bytes());
    out.extend(entries.concat());
    let sum: [u8; 20] = sha1::Sha1::digest(&out).into();
    out.extend(sum);
    out
}

pub fn pack(entries: &[Vec<u8>]) -> Vec<u8> {
    counted(entries.len() as u32, entries)
}

/// So many deltas, each upon the one before it.
pub fn chain(length: u32) -> Vec<u8> {
    let mut base = b"the first".to_vec();
    let mut entries = vec![entry(BLOB, &base)];
    for n in 0..length {
        let next = format!("number {n}").into_bytes();
        entries.push(delta(
            hash_object(Kind::Blob, &base),
            base.len() as u64,
            &next,
        ));
        base = next;
    }
    pack(&entries)
}

/// So many deltas, all upon the same object.
pub fn fan(count: u32) -> Vec<u8> {
    let base = b"the first";
    let id = hash_object(Kind::Blob, base);
    let mut entries = vec![entry(BLOB, base)];
    entries.extend((0..count).map(|n| delta(id, base.len() as u64, &n.to_be_bytes())));
    pack(&entries)
}

/// A delta upon the entry so many bytes before it.
pub fn back(distance: &[u8]) -> Vec<u8> {
    let ops = [varint(3), varint(1), vec![1, b'x']].concat();
    [header(6, ops.len() as u64), distance.to_vec(), zlib(&ops)].concat()
}

/// Deltas that keep many large objects in memory at a time: each is the base of two more.
pub fn holding(levels: u8) -> Vec<u8> {
    const SIZE: u64 = 31 << 20;
    // All of the base but its end, in two pieces, and then something of its own.
    let ops = |own: u8| {
        let copy = |from: u32, len: u32| {
            let (from, len) = (from.to_le_bytes(), len.to_le_bytes());
            [&[0xff][..], &from, &len[..3]].concat()
        };
        let half = 15 << 20;
        let rest = SIZE as u32 - half - 1;
        [
            varint(SIZE),
            varint(SIZE),
            copy(0, half),
            copy(half, rest),
            vec![1, own],
        ]
        .concat()
    };
    let mut base = vec![0; SIZE as usize];
    let mut entries = vec![entry(BLOB, &base)];
    for level in 1..=levels {
        let id = hash_object(Kind::Blob, &base);
        for own in [100 + level, level] {
            let ops = ops(own);
            entries.push([header(7, ops.len() as u64), id.0.to_vec(), zlib(&ops)].concat());
        }
        *base.last_mut().unwrap() = level;
    }
    pack(&entries)
}

/// A tree of entries that are all the same object.
fn alike(mode: Mode, id: ObjectId, names: impl Iterator<Item = String>) -> Vec<u8> {
    let names: Vec<String> = names.collect();
    let mut entries: Vec<_> = names
        .iter()
        .map(|name| TreeEntry {
            mode,
            name: name.as_bytes(),
            id,
        })
        .collect();
    write_tree(&mut entries)
}

/// Some objects that are as many votes by as many admins about as many people, each of which has its
/// place in a conversation: what is to be its directory `votes`, and the objects.
pub fn votes_bomb(many: usize) -> (ObjectId, Vec<(Kind, Vec<u8>)>) {
    let ids = || (1..=many).map(|n| format!("{n:040x}"));
    let named = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        names.into_iter()
    };
    let blob = hash_object(Kind::Blob, b"");
    let mut objects = vec![(Kind::Blob, Vec::new())];
    let mut tree = |bytes: Vec<u8>| {
        let id = hash_object(Kind::Tree, &bytes);
        objects.push((Kind::Tree, bytes));
        id
    };
    let voters = tree(alike(Mode::File, blob, ids()));
    let about = tree(alike(Mode::Tree, voters, ids()));
    let people = tree(alike(
        Mode::Tree,
        about,
        named(&["admins", "invited", "members"]),
    ));
    let votes = tree(alike(Mode::Tree, people, named(&["ban", "unban"])));
    (votes, objects)
}

/// Directories in one another, each as large as an object may be: the way into the next comes first.
/// What is to be the top.
pub fn wide_bomb() -> (ObjectId, Vec<(Kind, Vec<u8>)>) {
    let mut objects = vec![(Kind::Blob, b"wide".to_vec())];
    let blob = hash_object(Kind::Blob, b"wide");
    let mut id = blob;
    for (level, name) in [
        &*"1".repeat(40),
        &*"1".repeat(40),
        "invited",
        "ban",
        "votes",
    ]
    .into_iter()
    .enumerate()
    {
        let mode = if level == 0 { Mode::File } else { Mode::Tree };
        let mut entries: Vec<(Mode, String, ObjectId)> = vec![(mode, name.to_owned(), id)];
        // Names that come after it, as short as can be.
        entries.extend((0..980_000).map(|n| (Mode::File, format!("w{n:05x}"), blob)));
        let mut entries: Vec<_> = entries
            .iter()
            .map(|(mode, name, id)| TreeEntry {
                mode: *mode,
                name: name.as_bytes(),
                id: *id,
            })
            .collect();
        let tree = write_tree(&mut entries);
        assert!(tree.len() > 31 << 20 && tree.len() <= 32 << 20);
        id = hash_object(Kind::Tree, &tree);
        objects.push((Kind::Tree, tree));
    }
    (id, objects)
}

/// Ten objects that are ten to the tenth files: the tree, and the objects.
pub fn tree_bomb() -> (ObjectId, Vec<(Kind, Vec<u8>)>) {
    let mut objects = vec![(Kind::Blob, b"boom".to_vec())];
    let mut id = hash_object(Kind::Blob, b"boom");
    let names: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
    for level in 0..10 {
        let mode = if level == 0 { Mode::File } else { Mode::Tree };
        let mut entries: Vec<_> = names
            .iter()
            .map(|name| TreeEntry {
                mode,
                name: name.as_bytes(),
                id,
            })
            .collect();
        let tree = write_tree(&mut entries);
        id = hash_object(Kind::Tree, &tree);
        objects.push((Kind::Tree, tree));
    }
    (id, objects)
}
