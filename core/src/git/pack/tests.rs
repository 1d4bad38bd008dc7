//! Packs that are well, and packs built to hurt.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::git::object::{Kind, ObjectRef, hash_object};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;
use sha1::Digest as _;
use std::io::Write as _;

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut e = ZlibEncoder::new(Vec::new(), Compression::best());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

fn header(code: u8, mut size: u64) -> Vec<u8> {
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

fn entry(code: u8, bytes: &[u8]) -> Vec<u8> {
    [header(code, bytes.len() as u64), zlib(bytes)].concat()
}

fn delta(base: u64, result: u64, ops: &[u8]) -> Vec<u8> {
    [varint(base), varint(result), ops.to_vec()].concat()
}

fn id_delta(base: ObjectId, delta: &[u8]) -> Vec<u8> {
    [header(7, delta.len() as u64), base.0.to_vec(), zlib(delta)].concat()
}

fn offset_delta(back: u64, delta: &[u8]) -> Vec<u8> {
    let mut offset = vec![(back & 0x7f) as u8];
    let mut n = back >> 7;
    while n > 0 {
        n -= 1;
        offset.insert(0, (n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    [header(6, delta.len() as u64), offset, zlib(delta)].concat()
}

fn pack(entries: &[Vec<u8>]) -> Vec<u8> {
    counted(entries.len() as u32, entries)
}

fn counted(count: u32, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"PACK\0\0\0\x02".to_vec();
    out.extend(count.to_be_bytes());
    out.extend(entries.concat());
    let sum: [u8; 20] = sha1::Sha1::digest(&out).into();
    out.extend(sum);
    out
}

fn read_with(bytes: &[u8], limits: Limits, piece: usize) -> Result<Resolved, PackError> {
    let mut scanner = Scanner::new(limits);
    for chunk in bytes.chunks(piece) {
        scanner.push(chunk)?;
    }
    scanner.finish()?.resolve(bytes)
}

fn read(bytes: &[u8]) -> Result<Resolved, PackError> {
    let whole = read_with(bytes, Limits::default(), usize::MAX >> 1);
    let pieces = read_with(bytes, Limits::default(), 1);
    assert_eq!(whole, pieces);
    whole
}

fn blob(bytes: &[u8]) -> ObjectId {
    hash_object(Kind::Blob, bytes)
}

#[test]
fn whole_entries_are_read_one_by_one_and_copied() {
    let noise: Vec<u8> = (0u32..20_000)
        .flat_map(|n| blob(&n.to_be_bytes()).0)
        .collect();
    let base = b"hello, world".repeat(30);
    let contents: Vec<&[u8]> = vec![b"", b"x", &base, &noise[..2000], &noise[..2100], &noise];
    let mut entries: Vec<Vec<u8>> = contents.iter().map(|c| entry(3, c)).collect();
    let appends = [&[0x80 | 0x10 | 0x20, 0x68, 0x01, 1][..], b"!"].concat();
    entries.push(id_delta(blob(&base), &delta(360, 361, &appends)));
    // A size that takes more bytes than it needs.
    entries.push([&[0xb1, 0x80, 0x00][..], &zlib(b"y")].concat());
    let pack = pack(&entries);
    read(&pack).unwrap();
    let (mut reader, mut offset) = (EntryReader::default(), 12);
    let (mut writer, mut copy) = (PackWriter::new(7, false).0, Vec::new());
    let y: &[u8] = b"y";
    for (n, bytes) in entries.iter().enumerate() {
        let content = contents.get(n).copied().or((n == 7).then_some(y));
        let expected = content.map(|c| (Kind::Blob, c.to_vec()));
        assert_eq!(reader.read(&pack[..], offset, 1 << 20), expected);
        if let Some(content) = content.filter(|c| !c.is_empty()) {
            // Too large, torn, cut off; and it can be used again after each.
            assert_eq!(
                reader.read(&pack[..], offset, content.len() as u64 - 1),
                None
            );
            let mut torn = bytes.clone();
            let last = torn.len() - 1;
            torn[last] ^= 1;
            assert_eq!(reader.read(&torn[..], 0, 1 << 20), None);
            assert_eq!(reader.read(&bytes[..last], 0, 1 << 20), None);
        }
        let copied = writer.copy(ObjectId([0; 20]), bytes);
        assert_eq!(copied.is_some(), content.is_some());
        copy.extend(copied);
        offset += bytes.len() as u64;
    }
    assert_eq!(copy[6], entry(3, y), "as it is written everywhere");
    let copied = read(&super::tests::pack(&copy)).unwrap();
    assert_eq!(copied.objects.len(), 7);
    for bad in [&[][..], &[0xff; 40], &[0x30]] {
        let copied = writer.copy(ObjectId([0; 20]), bad);
        assert!(copied.is_none_or(|c| c == bad));
        assert_eq!(reader.read(bad, 0, 100), None);
    }
}

#[test]
fn whole_objects_and_both_kinds_of_deltas_are_read() {
    let base = b"hello, world".repeat(30);
    // Copy all, then append.
    let ops = [&[0x80 | 0x10 | 0x20, 0x68, 0x01, 1][..], b"!"].concat();
    let first = entry(3, &base);
    let better = [&base[..], b"!"].concat();
    let best = [&base[..], b"!!"].concat();
    let second = id_delta(blob(&base), &delta(360, 361, &ops));
    // Against the second: copy 361, append.
    let ops = [&[0x80 | 0x10 | 0x20, 0x69, 0x01, 1][..], b"!"].concat();
    let third = offset_delta(second.len() as u64, &delta(361, 362, &ops));
    let pack = pack(&[first, second, third]);
    let read = read(&pack).unwrap();
    let ids: Vec<_> = read.objects.iter().map(|o| o.id).collect();
    for content in [&base, &better, &best] {
        assert!(ids.contains(&blob(content)));
    }
    let mut scanner = Scanner::new(Limits::default());
    scanner.push(&pack).unwrap();
    let mut seen = Vec::new();
    let see = |id, o: ObjectRef<'_>| seen.push((id, o.id(), o.bytes.len()));
    scanner
        .finish()
        .unwrap()
        .resolve_each(&pack[..], see)
        .unwrap();
    assert_eq!(
        seen.iter().map(|s| s.2).collect::<Vec<_>>(),
        [360, 361, 362]
    );
    assert!(seen.iter().all(|s| s.0 == s.1));
}

#[test]
fn a_forward_reference_by_id_is_found() {
    let ops = [2, b'a', b'b'];
    let pack = pack(&[id_delta(blob(b"xy"), &delta(2, 2, &ops)), entry(3, b"xy")]);
    assert_eq!(read(&pack).unwrap().objects.len(), 2);
}

#[test]
fn damaged_packs_have_named_errors() {
    let good = pack(&[entry(3, b"hello"), entry(1, b"commit")]);
    assert_eq!(read(&good).unwrap().objects.len(), 2);
    assert_eq!(read(&pack(&[])).unwrap().objects, []);
    for end in 0..good.len() {
        assert_eq!(read(&good[..end]), Err(PackError::Truncated), "{end}");
    }
    assert_eq!(read(&[&good[..], b"x"].concat()), Err(PackError::Trailing));
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(read(&bad), Err(PackError::Checksum));
    assert_eq!(read(b"PACX\0\0\0\x02\0\0\0\0"), Err(PackError::NoPack));
    assert_eq!(read(b"PACK\0\0\0\x03\0\0\0\0"), Err(PackError::NoPack));
    assert_eq!(read(&pack(&[header(5, 0)])), Err(PackError::Entry(12)));
    assert_eq!(read(&pack(&[header(0, 0)])), Err(PackError::Entry(12)));
    assert_eq!(read(&pack(&[vec![0xff; 30]])), Err(PackError::Entry(12)));
    assert_eq!(
        read(&pack(&[[header(3, 5), vec![9; 30]].concat()])),
        Err(PackError::Deflate(12))
    );
    // More than announced: the next entry is what follows, and it is the checksum.
    assert!(read(&counted(3, &[entry(3, b"hello")])).is_err());
    assert!(read(&counted(0, &[entry(3, b"hello")])).is_err());
    let twice = pack(&[entry(3, b"a"), entry(3, b"a")]);
    assert_eq!(read(&twice), Err(PackError::Duplicate(blob(b"a"))));
    let twice = pack(&[
        entry(3, b"a"),
        id_delta(blob(b"a"), &delta(1, 1, &[1, b'a'])),
    ]);
    assert_eq!(read(&twice), Err(PackError::Duplicate(blob(b"a"))));
}

#[test]
fn sizes_that_lie_are_seen() {
    for said in [4, 6, 0, 1000] {
        let lie = [header(3, said), zlib(b"hello")].concat();
        assert_eq!(read(&pack(&[lie])), Err(PackError::Size(12)), "{said}");
    }
    // An inflating bomb that says it is small: cut off with the first buffer.
    let bomb = [header(3, 10), zlib(&vec![0; 50 << 20])].concat();
    assert_eq!(
        read_with(&pack(&[bomb]), Limits::default(), 1 << 20),
        Err(PackError::Size(12))
    );
    // One that says how large it is.
    let bomb = [header(3, 50 << 20), zlib(&vec![0; 50 << 20])].concat();
    assert_eq!(
        read(&pack(&[bomb])),
        Err(PackError::ObjectTooLarge(50 << 20))
    );
    // One that says it cannot be.
    assert_eq!(
        read(&pack(&[header(3, u64::MAX >> 5)])),
        Err(PackError::ObjectTooLarge(u64::MAX >> 5))
    );
    // A delta that says its result is large, or larger than it is.
    let base = entry(3, b"ab");
    let with = |d: &[u8]| read(&pack(&[base.clone(), id_delta(blob(b"ab"), d)]));
    assert_eq!(
        with(&delta(2, 1 << 40, &[])),
        Err(PackError::ObjectTooLarge(1 << 40))
    );
    let at = 12 + base.len() as u64;
    for bad in [
        delta(2, 3, &[1, b'x']),
        delta(2, 1, &[2, b'x', b'y']),
        delta(3, 1, &[1, b'x']),
        delta(2, 1, &[0]),
        delta(2, 1, &[5, b'x']),
        delta(2, 1, &[0x80 | 1 | 0x10, 2, 1]),
        delta(2, 1, &[0x80]),
        delta(2, 1, &[0xff, 0xff, 0xff]),
        vec![0x80; 20],
        vec![],
    ] {
        assert_eq!(with(&bad), Err(PackError::Delta(at)), "{bad:?}");
    }
}

#[test]
fn of_a_pack_that_is_too_large_the_beginning_can_be_had() {
    let entries: Vec<_> = (0u8..9).map(|n| entry(3, &[n; 100])).collect();
    let whole = pack(&entries);
    let part = |limits: Limits, bytes: &[u8]| {
        let mut scanner = Scanner::new(limits);
        let failed = scanner.push(bytes).unwrap_err();
        assert_eq!(scanner.push(b"x"), Err(failed.clone()));
        let part = scanner.broken_off().map(|s| s.resolve(bytes).unwrap());
        (failed, part.map_or(0, |p| p.objects.len()))
    };
    let limits = Limits::default();
    let few = Limits {
        objects: 4,
        ..limits
    };
    assert_eq!(part(few, &whole), (PackError::TooManyObjects(9), 4));
    let short = Limits {
        received: 100,
        ..limits
    };
    let (failed, kept) = part(short, &whole);
    assert!(
        failed == PackError::TooLarge(100) && (2..8).contains(&kept),
        "{kept}"
    );
    let small = Limits {
        total: 500,
        ..limits
    };
    assert_eq!(part(small, &whole), (PackError::TotalTooLarge(500), 5));
    // What is bad before that is of no use, and what ends before that was too large all the same.
    let mut bad = whole.clone();
    bad[40] ^= 0x55;
    assert_eq!(part(few, &bad), (PackError::TooManyObjects(9), 0));
    let mut scanner = Scanner::new(few);
    scanner.push(&whole[..60]).unwrap();
    assert_eq!(scanner.finish().unwrap_err(), PackError::TooManyObjects(9));
    let most = counted(MOST_ANNOUNCED + 1, &entries);
    let failed = PackError::TooManyObjects(MOST_ANNOUNCED + 1);
    assert_eq!(part(limits, &most), (failed, 0));
}

#[test]
fn many_objects_and_much_together_are_refused_before_they_cost() {
    assert_eq!(
        read(&counted(u32::MAX, &[])),
        Err(PackError::TooManyObjects(u32::MAX))
    );
    let limits = Limits {
        total: 10,
        ..Limits::default()
    };
    let three = pack(&[entry(3, b"aaaa"), entry(3, b"bbbb"), entry(3, b"cccc")]);
    assert_eq!(
        read_with(&three, limits, 5),
        Err(PackError::TotalTooLarge(10))
    );
    let limits = Limits {
        received: 20,
        ..Limits::default()
    };
    assert_eq!(read_with(&three, limits, 5), Err(PackError::TooLarge(20)));
    // Results of deltas count: two hundred thousand of them, each 16 MiB out of a few bytes.
    let base = vec![0; 16 << 20];
    let (id, mut bomb) = (blob(&base), vec![entry(3, &base)]);
    // Copies of 16 MiB less a byte, and a number to be different.
    for i in 0..200u32 {
        let ops = [&[0xf0u8, 0xff, 0xff, 0xff, 4][..], &i.to_be_bytes()].concat();
        bomb.push(id_delta(id, &delta(16 << 20, (16 << 20) + 3, &ops)));
    }
    let bomb = counted(200_000, &bomb);
    assert_eq!(
        read_with(&bomb, Limits::default(), 1 << 16),
        Err(PackError::TotalTooLarge(1 << 30))
    );
}

/// A chain of deltas, each upon the one before.
fn chain(length: usize, base: &[u8]) -> Vec<u8> {
    let mut entries = vec![entry(3, base)];
    let mut last = entries.first().unwrap().len() as u64;
    let size = base.len() as u64;
    for i in 0..length {
        let ops = [&[8u8][..], &(i as u64).to_be_bytes()].concat();
        let from = if i == 0 { size } else { 8 };
        let e = offset_delta(last, &delta(from, 8, &ops));
        last = e.len() as u64;
        entries.push(e);
    }
    pack(&entries)
}

#[test]
fn long_chains_are_refused_and_short_ones_are_not() {
    assert_eq!(read(&chain(128, b"base")).unwrap().objects.len(), 129);
    assert_eq!(read(&chain(129, b"base")), Err(PackError::TooDeep(128)));
    let long = chain(10_000, b"base");
    assert_eq!(
        read_with(&long, Limits::default(), 4096),
        Err(PackError::TooDeep(128))
    );
}

#[test]
fn bases_kept_for_many_deltas_are_bounded() {
    // Each base has two deltas, so it has to be kept while the first is followed.
    let limits = Limits {
        held: 3000,
        ..Limits::default()
    };
    let mut entries = Vec::new();
    let mut base = vec![7u8; 1000];
    entries.push(entry(3, &base));
    for i in 0..6u8 {
        let copy = [0x80 | 0x30, 0xe8, 0x03];
        let next = [&base[..1000], &[i]].concat();
        let twin = [&base[..1000], &[i + 100]].concat();
        let d = |last| delta(base.len() as u64, 1001, &[&copy[..], &[1, last]].concat());
        // The one that goes on comes last, and is worked on first.
        entries.push(id_delta(blob(&base), &d(i + 100)));
        entries.push(id_delta(blob(&base), &d(i)));
        assert_ne!(twin, next);
        base = next;
    }
    let pack = pack(&entries);
    assert_eq!(read(&pack).unwrap().objects.len(), 13);
    assert_eq!(read_with(&pack, limits, 100), Err(PackError::Held(3000)));
}

#[test]
fn bases_that_are_not_there_or_in_circles_are_refused() {
    let thin = pack(&[id_delta(blob(b"elsewhere"), &delta(9, 1, &[1, b'x']))]);
    assert_eq!(
        read(&thin),
        Err(PackError::MissingBase {
            base: blob(b"elsewhere"),
            count: 1
        })
    );
    // A delta against its own result, and two against each other's.
    let own = pack(&[id_delta(blob(b"x"), &delta(1, 1, &[1, b'x']))]);
    assert_eq!(
        read(&own),
        Err(PackError::MissingBase {
            base: blob(b"x"),
            count: 1
        })
    );
    let two = pack(&[
        id_delta(blob(b"x"), &delta(1, 1, &[1, b'y'])),
        id_delta(blob(b"y"), &delta(1, 1, &[1, b'x'])),
    ]);
    assert!(matches!(
        read(&two),
        Err(PackError::MissingBase { count: 2, .. })
    ));
    let itself = pack(&[offset_delta(0, &delta(1, 1, &[1, b'x']))]);
    assert_eq!(read(&itself), Err(PackError::BaseOffset(12)));
    let before = pack(&[offset_delta(13, &delta(1, 1, &[1, b'x']))]);
    assert_eq!(read(&before), Err(PackError::BaseOffset(12)));
    let middle = pack(&[entry(3, b"a"), offset_delta(3, &delta(1, 1, &[1, b'x']))]);
    assert!(matches!(read(&middle), Err(PackError::BaseOffset(_))));
}

#[test]
fn of_a_pack_that_breaks_off_is_read_what_came() {
    let first = hash_object(Kind::Blob, b"a");
    let late = hash_object(Kind::Blob, b"c");
    // The third one's base comes after it.
    let entries = [
        entry(3, b"a"),
        id_delta(first, &delta(1, 1, &[1, b'b'])),
        id_delta(late, &delta(1, 1, &[1, b'd'])),
        entry(3, b"c"),
    ];
    let whole = pack(&entries);
    let ends: Vec<usize> = (1..=4)
        .map(|n| 12 + entries.iter().take(n).map(Vec::len).sum::<usize>())
        .collect();
    for cut in 0..whole.len() {
        let mut scanner = Scanner::new(Limits::default());
        scanner.push(&whole[..cut]).unwrap();
        let came = scanner.broken_off();
        let expected = match ends.iter().filter(|end| **end <= cut).count() {
            0 => {
                assert!(came.is_none());
                continue;
            }
            1 => 1,
            2 | 3 => 2,
            _ => 4,
        };
        let resolved = came.unwrap().resolve(&whole[..cut]).unwrap();
        assert_eq!(resolved.objects.len(), expected, "at {cut}");
    }
    let mut bad = Scanner::new(Limits::default());
    bad.push(&[&whole[..13], b"nonsense"].concat()).unwrap_err();
    assert!(bad.broken_off().is_none());
}

#[test]
fn an_error_stays() {
    let mut scanner = Scanner::new(Limits::default());
    assert_eq!(
        scanner.push(b"PACX\0\0\0\x02\0\0\0\0"),
        Err(PackError::NoPack)
    );
    assert_eq!(scanner.push(b"x"), Err(PackError::NoPack));
    assert_eq!(scanner.finish().map(|_| ()), Err(PackError::NoPack));
}

#[test]
fn large_offsets_go_into_their_own_table() {
    let mut entries = [
        IndexEntry {
            id: ObjectId([0xff; 20]),
            offset: 1 << 40,
            crc32: 1,
        },
        IndexEntry {
            id: ObjectId([0; 20]),
            offset: 12,
            crc32: 2,
        },
        IndexEntry {
            id: ObjectId([3; 20]),
            offset: 1 << 31,
            crc32: 3,
        },
    ];
    let index = write_index(&mut entries, &[9; 20]);
    assert_eq!(index.len(), 8 + 1024 + 3 * 28 + 2 * 8 + 40);
    let tail = &index[8 + 1024 + 3 * 24..];
    assert_eq!(&tail[..12], [0, 0, 0, 12, 0x80, 0, 0, 0, 0x80, 0, 0, 1]);
    assert_eq!(&tail[12..20], (1u64 << 31).to_be_bytes());
    assert_eq!(&tail[20..28], (1u64 << 40).to_be_bytes());
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        contents in proptest::collection::btree_set(proptest::collection::vec(any::<u8>(), 0..3000), 0..12),
        piece in 1usize..5000,
    ) {
        let (mut writer, mut bytes) = PackWriter::new(contents.len() as u32, true);
        for c in &contents {
            bytes.extend(writer.object(Kind::Blob, c));
        }
        let (sum, mut entries) = writer.finish();
        bytes.extend(sum);
        let read = read_with(&bytes, Limits::default(), piece).unwrap();
        prop_assert_eq!(write_index(&mut entries, &sum), read.index());
        let ids: Vec<_> = read.objects.iter().map(|o| o.id).collect();
        for c in &contents {
            prop_assert!(ids.contains(&blob(c)));
        }
    }

    #[test]
    fn a_flipped_bit_is_never_overlooked(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = pack(&[
            entry(3, &b"hello".repeat(40)),
            id_delta(blob(&b"hello".repeat(40)), &delta(200, 3, &[3, 1, 2, 3])),
            entry(2, b""),
        ]);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read_with(&bytes, Limits::default(), 1000).is_err());
    }

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0u32..4) {
        let mut all = b"PACK\0\0\0\x02".to_vec();
        all.extend(count.to_be_bytes());
        all.extend(bytes);
        let _ = read_with(&all, Limits::default(), 3);
    }
}
