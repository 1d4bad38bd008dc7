//! Writing packs: whole objects, one after the other.

use super::IndexEntry;
use super::scan::{Content, parse_header};
use crate::git::object::{Kind, hash_object};
use crate::id::ObjectId;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use sha1::Digest as _;

/// How hard objects are deflated. The lowest level at which the codes fit the letters: most of a commit
/// is a signature in base64, of which level 1 of zlib-rs, with its fixed codes, saves nothing.
pub const LEVEL: u32 = 2;

/// Writes a pack, object by object. Nothing is kept but the index.
///
/// No deltas: most of a conversation is signatures and small texts, which no
/// delta makes smaller.
#[derive(Debug)]
pub struct PackWriter {
    checksum: sha1::Sha1,
    offset: u64,
    deflate: Compress,
    entries: Vec<IndexEntry>,
    keep_index: bool,
}

impl PackWriter {
    /// Begins a pack of exactly `count` objects; returns its first bytes, too.
    /// With `keep_index`, the index is kept to be written at the end.
    pub fn new(count: u32, keep_index: bool) -> (Self, Vec<u8>) {
        let mut head = b"PACK\0\0\0\x02".to_vec();
        head.extend_from_slice(&count.to_be_bytes());
        let mut checksum = sha1::Sha1::new();
        checksum.update(&head);
        let writer = Self {
            checksum,
            offset: head.len() as u64,
            deflate: Compress::new(Compression::new(LEVEL), true),
            entries: Vec::new(),
            keep_index,
        };
        (writer, head)
    }

    /// The bytes of the next object's entry.
    pub fn object(&mut self, kind: Kind, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity((bytes.len() / 2).saturating_add(64));
        let code = match kind {
            Kind::Commit => 1u8,
            Kind::Tree => 2,
            Kind::Blob => 3,
            Kind::Tag => 4,
        };
        header(code, bytes.len() as u64, &mut out);
        self.deflate.reset();
        deflate(&mut self.deflate, bytes, &mut out);
        self.add(|| hash_object(kind, bytes), &out);
        out
    }

    /// The bytes of the next object's entry, which lies in another pack: nothing is inflated or
    /// deflated. `None`: it lies there as a delta.
    pub fn copy(&mut self, id: ObjectId, entry: &[u8]) -> Option<Vec<u8>> {
        let (code, size, content) = parse_header(entry, 0).ok().flatten()?;
        if !matches!(content, Content::Whole(..)) {
            return None;
        }
        let data = entry.iter().position(|b| b & 0x80 == 0)?.saturating_add(1);
        let mut out = Vec::with_capacity(entry.len());
        header(code, size, &mut out);
        out.extend_from_slice(entry.get(data..)?);
        self.add(|| id, &out);
        Some(out)
    }

    fn add(&mut self, id: impl FnOnce() -> ObjectId, entry: &[u8]) {
        self.checksum.update(entry);
        if self.keep_index {
            let mut crc = Crc::new();
            crc.update(entry);
            self.entries.push(IndexEntry {
                id: id(),
                offset: self.offset,
                crc32: crc.sum(),
            });
        }
        self.offset = self.offset.saturating_add(entry.len() as u64);
    }

    /// The checksum that ends the pack, and the index entries if they were kept.
    pub fn finish(self) -> ([u8; 20], Vec<IndexEntry>) {
        (self.checksum.finalize().into(), self.entries)
    }
}

/// Appends the type and size that an entry begins with.
fn header(code: u8, mut size: u64, out: &mut Vec<u8>) {
    let mut byte = code << 4 | (size & 15) as u8;
    size >>= 4;
    while size > 0 {
        out.push(byte | 0x80);
        byte = (size & 0x7f) as u8;
        size >>= 7;
    }
    out.push(byte);
}

/// Appends `bytes`, deflated as zlib stream.
fn deflate(stream: &mut Compress, bytes: &[u8], out: &mut Vec<u8>) {
    loop {
        let used = super::scan::usize_of(stream.total_in());
        let rest = bytes.get(used..).unwrap_or_default();
        out.reserve((rest.len() / 2).saturating_add(64));
        // Into memory, with input at hand: the only other answers are “go on”.
        if let Ok(Status::StreamEnd) = stream.compress_vec(rest, out, FlushCompress::Finish) {
            return;
        }
    }
}
