//! The second pass: deltas applied, every object named.

use super::scan::{Content, Entry, MAX_HEADER, Scanned, kind_of, parse_header, usize_of};
use super::{IndexEntry, Limits, PackError, delta, write_index};
use crate::git::object::{Kind, ObjectHasher, ObjectRef};
use crate::id::ObjectId;
use flate2::{Decompress, FlushDecompress, Status};
use std::ops::Range;
use std::rc::Rc;

/// A pack that can be read again anywhere: a file, or bytes.
pub trait ReadAt {
    /// Reads up to `buf.len()` bytes at `offset`; 0 at the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize>;
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let rest = self.get(usize_of(offset)..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }
}

/// An object of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackObject {
    /// Its id.
    pub id: ObjectId,
    /// What it is.
    pub kind: Kind,
    /// Where its entry begins.
    pub offset: u64,
    /// Of its entry.
    pub crc32: u32,
}

/// A pack whose every object is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// All objects, by id.
    pub objects: Vec<PackObject>,
    /// The pack's checksum, its last 20 bytes.
    pub checksum: [u8; 20],
}

impl Resolved {
    /// The index of the pack, as in a `.idx` file of version 2.
    pub fn index(&self) -> Vec<u8> {
        let mut entries: Vec<_> = self
            .objects
            .iter()
            .map(|o| IndexEntry {
                id: o.id,
                offset: o.offset,
                crc32: o.crc32,
            })
            .collect();
        write_index(&mut entries, &self.checksum)
    }
}

/// Reads whole objects from a pack that passed, one at a time.
#[derive(Debug)]
pub struct EntryReader {
    stream: Decompress,
    buffer: Vec<u8>,
}

impl Default for EntryReader {
    fn default() -> Self {
        // Most entries are shorter.
        Self::sized(2 << 10)
    }
}

impl EntryReader {
    /// One that reads so many bytes of the pack at once.
    fn sized(buffer: usize) -> Self {
        Self {
            stream: Decompress::new(true),
            buffer: vec![0; buffer],
        }
    }

    /// The object whose entry begins at `offset`; `None`: it lies there as a delta, or cannot be
    /// read. `max`: its largest size.
    pub fn read(
        &mut self,
        pack: &(impl ReadAt + ?Sized),
        offset: u64,
        max: u64,
    ) -> Option<(Kind, Vec<u8>)> {
        let n = pack.read_at(offset, &mut self.buffer).ok()?;
        let begin = self.buffer.get(..n)?;
        let (code, size, content) =
            parse_header(begin.get(..n.min(MAX_HEADER))?, offset).ok()??;
        let Content::Whole(..) = content else {
            return None;
        };
        let kind = kind_of(code)?;
        if size > max {
            return None;
        }
        let head = begin.iter().position(|b| b & 0x80 == 0)?.saturating_add(1);
        let data = self.inflate(pack, offset, head..n, size, offset).ok()?;
        Some((kind, data))
    }

    /// What a stream of the pack inflates to: that of the entry at `offset`, which says that it comes
    /// to `size`. Of what is read from `at` on, `there` is in the buffer already.
    fn inflate(
        &mut self,
        pack: &(impl ReadAt + ?Sized),
        mut at: u64,
        mut there: Range<usize>,
        size: u64,
        offset: u64,
    ) -> Result<Vec<u8>, PackError> {
        let bad = || PackError::Deflate(offset);
        // One byte of room more, so that a stream that has grown shows.
        let mut out = vec![0; usize_of(size).saturating_add(1)];
        self.stream.reset(true);
        loop {
            if there.is_empty() {
                at = at.saturating_add(there.end as u64);
                let n = pack
                    .read_at(at, &mut self.buffer)
                    .map_err(|e| PackError::Io(e.to_string()))?;
                if n == 0 {
                    return Err(PackError::Truncated);
                }
                there = 0..n;
            }
            let before = self.stream.total_in();
            let input = self.buffer.get(there.clone()).unwrap_or_default();
            let room = out
                .get_mut(usize_of(self.stream.total_out())..)
                .ok_or_else(bad)?;
            let status = self
                .stream
                .decompress(input, room, FlushDecompress::None)
                .map_err(|_| bad())?;
            if status == Status::StreamEnd {
                if self.stream.total_out() != size {
                    return Err(PackError::Size(offset));
                }
                out.truncate(usize_of(size));
                return Ok(out);
            }
            let read = usize_of(self.stream.total_in().saturating_sub(before));
            if read == 0 {
                return Err(PackError::Size(offset));
            }
            there.start = there.start.saturating_add(read);
        }
    }

    /// The data of an entry of a pack whose sizes were checked by the first pass.
    fn data(&mut self, pack: &(impl ReadAt + ?Sized), entry: &Entry) -> Result<Vec<u8>, PackError> {
        self.inflate(pack, entry.data, 0..0, entry.size, entry.offset)
    }
}

/// A delta whose base is at hand.
struct Pending {
    entry: usize,
    base: Rc<[u8]>,
    kind: Kind,
    depth: u32,
}

impl Scanned {
    /// How many objects the pack has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all objects, and of the deltas.
    pub fn inflated(&self) -> u64 {
        self.inflated
    }

    /// Most bytes that an object of the pack may have, inflated.
    pub fn largest(&self) -> u64 {
        self.limits.object
    }

    /// Whether the pack came to its end: else it is no file that git would read.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether the pack is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Applies the deltas, reading from the same pack. Of a pack that broke off, the objects whose
    /// bases came.
    pub fn resolve(self, pack: &(impl ReadAt + ?Sized)) -> Result<Resolved, PackError> {
        self.work(pack, false, |_, _| ())
    }

    /// As [`resolve`](Self::resolve), and shows every object on the way, each after its base.
    pub fn resolve_each(
        self,
        pack: &(impl ReadAt + ?Sized),
        seen: impl FnMut(ObjectId, ObjectRef<'_>),
    ) -> Result<Resolved, PackError> {
        self.work(pack, true, seen)
    }

    fn work(
        self,
        pack: &(impl ReadAt + ?Sized),
        show: bool,
        mut seen: impl FnMut(ObjectId, ObjectRef<'_>),
    ) -> Result<Resolved, PackError> {
        let Self {
            limits,
            entries,
            checksum,
            whole,
            ..
        } = self;
        let mut waiting = Waiting::new(&entries);
        let mut objects: Vec<PackObject> = Vec::with_capacity(entries.len());
        let mut add = |e: &Entry, id: ObjectId, kind: Kind| {
            objects.push(PackObject {
                id,
                kind,
                offset: e.offset,
                crc32: e.crc32,
            });
        };
        for e in &entries {
            if let Content::Whole(kind, id) = e.content {
                add(e, id, kind);
            }
        }
        let mut reader = EntryReader::sized(8 << 10);
        let mut stack: Vec<Pending> = Vec::new();
        let mut held = Held {
            now: 0,
            limits: &limits,
        };
        for e in &entries {
            let Content::Whole(kind, id) = e.content else {
                continue;
            };
            let children = waiting.for_base(e.offset, id);
            if children.is_empty() && !show {
                continue;
            }
            let base: Rc<[u8]> = reader.data(pack, e)?.into();
            seen(id, ObjectRef { kind, bytes: &base });
            if children.is_empty() {
                continue;
            }
            held.push(&mut stack, children, &base, kind, 1)?;
            drop(base);
            while let Some(next) = stack.pop() {
                let Some(e) = entries.get(next.entry) else {
                    continue;
                };
                let bytes = delta::apply(&next.base, &reader.data(pack, e)?)
                    .ok_or(PackError::Delta(e.offset))?;
                held.release(next.base);
                let mut hasher = ObjectHasher::new(next.kind, bytes.len() as u64);
                hasher.update(&bytes);
                let id = hasher
                    .finish()
                    .map_err(|_| PackError::Collision(e.offset))?;
                add(e, id, next.kind);
                seen(
                    id,
                    ObjectRef {
                        kind: next.kind,
                        bytes: &bytes,
                    },
                );
                let children = waiting.for_base(e.offset, id);
                if !children.is_empty() {
                    let depth = next.depth.saturating_add(1);
                    if depth > limits.depth {
                        return Err(PackError::TooDeep(limits.depth));
                    }
                    held.push(&mut stack, children, &bytes.into(), next.kind, depth)?;
                }
            }
        }
        if whole && objects.len() < entries.len() {
            let base = waiting.unmet().unwrap_or(ObjectId([0; 20]));
            let count = entries.len().saturating_sub(objects.len());
            return Err(PackError::MissingBase { base, count });
        }
        objects.sort_unstable_by_key(|o| o.id);
        let mut pairs = objects.iter().zip(objects.iter().skip(1));
        if let Some((twin, _)) = pairs.find(|(a, b)| a.id == b.id) {
            return Err(PackError::Duplicate(twin.id));
        }
        Ok(Resolved { objects, checksum })
    }
}

/// The deltas by what they wait for. Two flat lists: a pack may have a million of them.
struct Waiting {
    by_offset: Vec<(u64, u32)>,
    by_id: Vec<(ObjectId, u32)>,
    /// By number of the entry: its base was met.
    met: Vec<bool>,
}

impl Waiting {
    fn new(entries: &[Entry]) -> Self {
        let (mut by_offset, mut by_id) = (Vec::new(), Vec::new());
        // A pack counts its entries with 32 bits.
        for (i, e) in (0u32..).zip(entries) {
            match e.content {
                Content::Whole(..) => {}
                Content::OffsetDelta(base) => by_offset.push((base, i)),
                Content::IdDelta(base) => by_id.push((base, i)),
            }
        }
        by_offset.sort_unstable();
        by_id.sort_unstable();
        Self {
            by_offset,
            by_id,
            met: vec![false; entries.len()],
        }
    }

    /// The deltas upon an entry that were not given out before.
    fn for_base(&mut self, offset: u64, id: ObjectId) -> Vec<usize> {
        let start = self.by_offset.partition_point(|(o, _)| *o < offset);
        let near = self.by_offset.get(start..).unwrap_or_default();
        let upon_offset = near.iter().take_while(|(o, _)| *o == offset);
        let start = self.by_id.partition_point(|(i, _)| *i < id);
        let near = self.by_id.get(start..).unwrap_or_default();
        let upon_id = near.iter().take_while(|(i, _)| *i == id);
        let mut out: Vec<usize> = upon_offset
            .map(|(_, n)| usize_of(u64::from(*n)))
            .chain(upon_id.map(|(_, n)| usize_of(u64::from(*n))))
            .collect();
        out.retain(|n| match self.met.get_mut(*n) {
            Some(met) => !std::mem::replace(met, true),
            None => false,
        });
        out
    }

    /// One of the bases that never came.
    fn unmet(&self) -> Option<ObjectId> {
        let missing = |n: &u32| self.met.get(usize_of(u64::from(*n))) == Some(&false);
        self.by_id
            .iter()
            .find(|(_, n)| missing(n))
            .map(|(id, _)| *id)
    }
}

/// Keeps count of the bases that wait for deltas.
struct Held<'l> {
    now: u64,
    limits: &'l Limits,
}

impl Held<'_> {
    fn push(
        &mut self,
        stack: &mut Vec<Pending>,
        children: Vec<usize>,
        base: &Rc<[u8]>,
        kind: Kind,
        depth: u32,
    ) -> Result<(), PackError> {
        self.now = self.now.saturating_add(base.len() as u64);
        if self.now > self.limits.held {
            return Err(PackError::Held(self.limits.held));
        }
        stack.extend(children.into_iter().map(|entry| Pending {
            entry,
            base: Rc::clone(base),
            kind,
            depth,
        }));
        Ok(())
    }

    fn release(&mut self, base: Rc<[u8]>) {
        // The last delta upon it is done.
        if Rc::strong_count(&base) > 1 {
            return;
        }
        self.now = self.now.saturating_sub(base.len() as u64);
    }
}
