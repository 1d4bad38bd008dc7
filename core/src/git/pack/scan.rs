//! The first pass over a pack: as it arrives, with a fixed buffer.

use super::{Limits, MOST_ANNOUNCED, PackError};
use crate::git::object::{Kind, ObjectHasher};
use crate::git::pack::delta;
use crate::id::ObjectId;
use flate2::{Crc, Decompress, FlushDecompress, Status};
use sha1::Digest as _;

/// How an entry of a pack says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A whole object, already named.
    Whole(Kind, ObjectId),
    /// A delta against the entry at that offset.
    OffsetDelta(u64),
    /// A delta against that object.
    IdDelta(ObjectId),
}

/// An entry of a pack, after the first pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where the entry begins.
    pub(super) offset: u64,
    /// Where its compressed data begins.
    pub(super) data: u64,
    /// Bytes of the inflated data: the object's, or the delta's.
    pub(super) size: u64,
    /// Of header and compressed data.
    pub(super) crc32: u32,
    pub(super) content: Content,
}

/// Inflated data is looked at in pieces of this size: as large as a pkt-line, our choice.
const BUFFER: usize = 64 << 10;
/// The longest entry header: ten bytes of size, then an id of twenty bytes or ten of offset.
pub(super) const MAX_HEADER: usize = 30;

#[derive(Debug)]
enum State {
    /// `PACK`, version, count.
    Start,
    /// Type, size and base of an entry.
    Header,
    /// Compressed data.
    Data(Box<Open>),
    /// The checksum.
    Trailer,
    Done,
}

/// An entry whose data is still coming.
#[derive(Debug)]
struct Open {
    entry: Entry,
    /// Hash of a whole object.
    hasher: Option<(Kind, ObjectHasher)>,
    /// The first bytes of a delta, which tell the sizes of its base and its result.
    head: Vec<u8>,
    inflated: u64,
    crc: Crc,
}

/// Takes a pack as it arrives and checks what can be checked in passing.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    state: State,
    /// Bytes of the current fixed-size part.
    scratch: Vec<u8>,
    offset: u64,
    left: u32,
    /// How many objects are announced, if that is more than are read.
    over: Option<u32>,
    /// A limit is reached that a part of the pack is within.
    full: bool,
    total: u64,
    checksum: sha1::Sha1,
    inflate: Decompress,
    buffer: Vec<u8>,
    entries: Vec<Entry>,
    trailer: [u8; 20],
    failed: Option<PackError>,
}

/// A pack that passed the first pass. Its deltas wait for [`Scanned::resolve`].
#[derive(Debug)]
pub struct Scanned {
    pub(super) limits: Limits,
    pub(super) entries: Vec<Entry>,
    pub(super) checksum: [u8; 20],
    pub(super) inflated: u64,
    /// Not broken off: every delta must meet its base.
    pub(super) whole: bool,
}

impl Scanner {
    /// A scanner for one pack.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Start,
            scratch: Vec::with_capacity(MAX_HEADER),
            offset: 0,
            left: 0,
            over: None,
            full: false,
            total: 0,
            checksum: sha1::Sha1::new(),
            inflate: Decompress::new(true),
            buffer: vec![0; BUFFER],
            entries: Vec::new(),
            trailer: [0; 20],
            failed: None,
        }
    }

    /// Bytes seen so far.
    pub fn received(&self) -> u64 {
        self.offset
    }

    /// How many objects the pack announces that have not passed yet.
    pub fn objects_left(&self) -> u32 {
        self.left
    }

    /// Takes the next bytes. The first error stays.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        if let Some(e) = &self.failed {
            return Err(e.clone());
        }
        let taken = self.take(bytes);
        taken.map_err(|e| {
            let e = self.named(e);
            self.failed = Some(e.clone());
            e
        })
    }

    /// Whatever came of a pack that announces too much: that is what is wrong with it.
    fn named(&self, e: PackError) -> PackError {
        self.over.map_or(e, PackError::TooManyObjects)
    }

    /// The pack has ended: was it whole?
    pub fn finish(self) -> Result<Scanned, PackError> {
        if let Some(e) = self.failed {
            return Err(e);
        }
        match self.state {
            State::Done => Ok(Scanned {
                limits: self.limits,
                entries: self.entries,
                checksum: self.trailer,
                inflated: self.total,
                whole: true,
            }),
            _ => Err(self.named(PackError::Truncated)),
        }
    }

    /// The pack has broken off, or is too large: the entries that came whole. Nothing if what came
    /// is bad.
    pub fn broken_off(self) -> Option<Scanned> {
        let bad = self.failed.is_some() && !self.full;
        if bad || self.entries.is_empty() {
            return None;
        }
        Some(Scanned {
            limits: self.limits,
            entries: self.entries,
            checksum: [0; 20],
            inflated: self.total,
            whole: false,
        })
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), PackError> {
        while let Some((&first, after_first)) = bytes.split_first() {
            match &mut self.state {
                State::Start => {
                    self.scratch.push(first);
                    self.count(&[first])?;
                    self.checksum.update([first]);
                    bytes = after_first;
                    if self.scratch.len() == 12 {
                        self.start()?;
                    }
                }
                State::Header => {
                    self.scratch.push(first);
                    self.count(&[first])?;
                    self.checksum.update([first]);
                    bytes = after_first;
                    self.header()?;
                }
                State::Data(_) => {
                    let used = self.data(bytes)?;
                    let (now, later) = bytes.split_at_checked(used).unwrap_or((bytes, &[]));
                    self.count(now)?;
                    self.checksum.update(now);
                    bytes = later;
                }
                State::Trailer => {
                    self.scratch.push(first);
                    self.count(&[first])?;
                    bytes = after_first;
                    if self.scratch.len() == 20 {
                        let sum: [u8; 20] = self.checksum.clone().finalize().into();
                        if self.scratch != sum {
                            return Err(PackError::Checksum);
                        }
                        self.trailer = sum;
                        self.state = State::Done;
                    }
                }
                State::Done => return Err(PackError::Trailing),
            }
        }
        Ok(())
    }

    fn count(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        if self.offset > self.limits.received {
            self.full = true;
            return Err(PackError::TooLarge(self.limits.received));
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), PackError> {
        let count = self
            .scratch
            .strip_prefix(b"PACK\0\0\0\x02")
            .and_then(|c| <[u8; 4]>::try_from(c).ok())
            .map(u32::from_be_bytes)
            .ok_or(PackError::NoPack)?;
        if count > MOST_ANNOUNCED {
            return Err(PackError::TooManyObjects(count));
        }
        self.over = (count > self.limits.objects).then_some(count);
        self.left = count;
        self.next_entry();
        Ok(())
    }

    fn next_entry(&mut self) {
        self.scratch.clear();
        self.state = if self.left == 0 {
            State::Trailer
        } else {
            State::Header
        };
    }

    fn header(&mut self) -> Result<(), PackError> {
        let start = self.offset.saturating_sub(self.scratch.len() as u64);
        let Some((code, size, base)) = parse_header(&self.scratch, start)? else {
            return match self.scratch.len() {
                MAX_HEADER.. => Err(PackError::Entry(start)),
                _ => Ok(()),
            };
        };
        if size > self.limits.object {
            return Err(PackError::ObjectTooLarge(size));
        }
        self.total = self.total.saturating_add(size);
        self.check_total()?;
        let kind = kind_of(code);
        let mut crc = Crc::new();
        crc.update(&self.scratch);
        self.inflate.reset(true);
        self.state = State::Data(Box::new(Open {
            entry: Entry {
                offset: start,
                data: self.offset,
                size,
                crc32: 0,
                content: base,
            },
            hasher: kind.map(|k| (k, ObjectHasher::new(k, size))),
            head: Vec::new(),
            inflated: 0,
            crc,
        }));
        Ok(())
    }

    fn check_total(&mut self) -> Result<(), PackError> {
        if self.total > self.limits.total {
            self.full = true;
            return Err(PackError::TotalTooLarge(self.limits.total));
        }
        Ok(())
    }

    /// Inflates from `bytes`; says how many belong to the entry.
    fn data(&mut self, bytes: &[u8]) -> Result<usize, PackError> {
        let State::Data(open) = &mut self.state else {
            return Ok(0);
        };
        let offset = open.entry.offset;
        let mut used = 0;
        loop {
            let input = bytes.get(used..).unwrap_or_default();
            let (read_before, written_before) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(input, &mut self.buffer, FlushDecompress::None)
                .map_err(|_| PackError::Deflate(offset))?;
            let read = usize_of(self.inflate.total_in().saturating_sub(read_before));
            let written = usize_of(self.inflate.total_out().saturating_sub(written_before));
            open.crc.update(input.get(..read).unwrap_or_default());
            used = used.saturating_add(read);
            let out = self.buffer.get(..written).unwrap_or_default();
            open.inflated = open.inflated.saturating_add(out.len() as u64);
            if open.inflated > open.entry.size {
                return Err(PackError::Size(offset));
            }
            match &mut open.hasher {
                Some((_, hasher)) => hasher.update(out),
                None => {
                    let missing = delta::MAX_HEAD.saturating_sub(open.head.len());
                    open.head
                        .extend_from_slice(out.get(..missing.min(out.len())).unwrap_or_default());
                }
            }
            match status {
                Status::StreamEnd => {
                    self.close()?;
                    return Ok(used);
                }
                // There is always room: it stands still for want of input, or for good.
                _ if read == 0 && written == 0 && input.is_empty() => return Ok(used),
                _ if read == 0 && written == 0 => return Err(PackError::Deflate(offset)),
                _ => {}
            }
        }
    }

    /// An entry has come whole.
    fn close(&mut self) -> Result<(), PackError> {
        let State::Data(open) = core::mem::replace(&mut self.state, State::Header) else {
            return Ok(());
        };
        let mut entry = open.entry;
        if open.inflated != entry.size {
            return Err(PackError::Size(entry.offset));
        }
        entry.crc32 = open.crc.sum();
        match open.hasher {
            Some((kind, hasher)) => {
                let id = hasher
                    .finish()
                    .map_err(|_| PackError::Collision(entry.offset))?;
                entry.content = Content::Whole(kind, id);
            }
            None => {
                let (_, result, _) =
                    delta::sizes(&open.head).ok_or(PackError::Delta(entry.offset))?;
                if result > self.limits.object {
                    return Err(PackError::ObjectTooLarge(result));
                }
                self.total = self.total.saturating_add(result);
                self.check_total()?;
                if let Content::OffsetDelta(base) = entry.content
                    && self
                        .entries
                        .binary_search_by_key(&base, |e| e.offset)
                        .is_err()
                {
                    return Err(PackError::BaseOffset(entry.offset));
                }
            }
        }
        self.entries.push(entry);
        self.left = self.left.saturating_sub(1);
        self.next_entry();
        if let Some(count) = self.over
            && self.entries.len() >= usize_of(u64::from(self.limits.objects))
        {
            self.full = true;
            return Err(PackError::TooManyObjects(count));
        }
        Ok(())
    }
}

/// What an entry of that type holds whole.
pub(super) fn kind_of(code: u8) -> Option<Kind> {
    match code {
        1 => Some(Kind::Commit),
        2 => Some(Kind::Tree),
        3 => Some(Kind::Blob),
        4 => Some(Kind::Tag),
        _ => None,
    }
}

/// Type, size and base of an entry that begins at `start`; `None` if bytes are missing.
pub(super) fn parse_header(
    bytes: &[u8],
    start: u64,
) -> Result<Option<(u8, u64, Content)>, PackError> {
    let bad = || PackError::Entry(start);
    let mut rest = bytes.iter().copied();
    let Some(first) = rest.next() else {
        return Ok(None);
    };
    let code = first >> 4 & 7;
    let mut size = u64::from(first & 15);
    let mut shift = 4u32;
    let mut more = first & 0x80 != 0;
    while more {
        let Some(b) = rest.next() else {
            return Ok(None);
        };
        let part = u64::from(b & 0x7f);
        // 4 + 8 * 7 = 60 bits: more than any limit, and no shift that loses bits.
        if shift > 53 {
            return Err(bad());
        }
        size |= part << shift;
        shift = shift.saturating_add(7);
        more = b & 0x80 != 0;
    }
    let content = match code {
        // The id follows from the data.
        1..=4 => Content::Whole(Kind::Blob, ObjectId([0; 20])),
        6 => {
            let Some(mut b) = rest.next() else {
                return Ok(None);
            };
            let mut back = u64::from(b & 0x7f);
            while b & 0x80 != 0 {
                b = match rest.next() {
                    Some(b) => b,
                    None => return Ok(None),
                };
                back = back
                    .checked_add(1)
                    .and_then(|v| v.checked_mul(128))
                    .ok_or_else(bad)?
                    | u64::from(b & 0x7f);
            }
            match start.checked_sub(back) {
                Some(base) if back > 0 => Content::OffsetDelta(base),
                _ => return Err(PackError::BaseOffset(start)),
            }
        }
        7 => {
            let id: Vec<u8> = rest.by_ref().take(20).collect();
            match ObjectId::from_slice(&id) {
                Some(id) => Content::IdDelta(id),
                None => return Ok(None),
            }
        }
        _ => return Err(bad()),
    };
    Ok(Some((code, size, content)))
}

pub(super) fn usize_of(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
