//! Packs: read from strangers within limits, written for them and for the disk.
//!
//! Reading goes in two steps. A [`Scanner`] takes the pack as it arrives, in
//! pieces of any size, while the host spills the same bytes into a file: it
//! inflates every entry into a small buffer, names the whole objects and adds
//! up what all of them will take, deltas included. What is too much is refused
//! there, before anything was allocated for it. [`Scanned::resolve`] then
//! reads the file to apply the deltas.
//!
//! This is our own code and not gix-pack's because gix-pack's limits end at
//! the allocation of one object: it caps neither the sum, nor the number, nor
//! the length of delta chains, and it wants threads and a temporary file of
//! its own. The index falls out of the same pass, so it is written here too.

mod delta;
mod index;
mod resolve;
mod scan;
mod write;

pub use index::{IndexEntry, write_index};
pub use resolve::{EntryReader, PackObject, ReadAt, Resolved};
pub use scan::{Scanned, Scanner};
pub use write::{LEVEL, PackWriter};

use crate::id::ObjectId;

/// What a pack from a peer may cost us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes received.
    pub received: u64,
    /// Objects. A pack may announce more, up to [`MOST_ANNOUNCED`]: as many of them are read.
    pub objects: u32,
    /// Bytes of one object, inflated.
    pub object: u64,
    /// Bytes of all objects together, inflated and with deltas applied.
    pub total: u64,
    /// Length of a chain of deltas.
    pub depth: u32,
    /// Bytes of bases held at a time while deltas are applied.
    pub held: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // The reference gives up there, too (`MAX_FETCH_SIZE`).
            received: 256 << 20,
            // Half a million: more signed messages than `received` has room for. Each costs some 200
            // bytes of memory until it is judged, whoever made it up.
            objects: 1 << 19,
            // The largest honest object is a profile with a picture: a few MiB.
            object: 32 << 20,
            // Signed commits deflate to about two thirds: four times `received` is ample.
            total: 1 << 30,
            // git and libgit2 chain at most 50 deltas by default.
            depth: 128,
            // One object of the largest size: what is made of it is there beside it, a second time for a
            // moment, and all of it stays below 200 MB, with what was given back and is not taken back yet.
            held: 32 << 20,
        }
    }
}

/// No pack is read that announces more objects: a conversation has two million commits at most
/// ([`crate::swarm::validate::MAX_COMMITS`]), few of which bring files.
pub const MOST_ANNOUNCED: u32 = 4_000_000;

/// Why a pack is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Does not begin with `PACK` and version 2.
    #[error("these bytes are no pack of version 2")]
    NoPack,
    /// More bytes than [`Limits::received`].
    #[error("the pack is larger than {0} bytes")]
    TooLarge(u64),
    /// More objects than [`Limits::objects`], and those that came were of no use alone.
    #[error(
        "the pack announces {0} objects, more than are taken at once; of a Starling, which sends the oldest first, they are taken in parts"
    )]
    TooManyObjects(u32),
    /// One object above [`Limits::object`].
    #[error("the pack holds an object of {0} bytes")]
    ObjectTooLarge(u64),
    /// The objects together are above [`Limits::total`].
    #[error("the objects of the pack take more than {0} bytes")]
    TotalTooLarge(u64),
    /// Type 0 or 5, or an overlong header.
    #[error("the pack has a malformed entry at offset {0}")]
    Entry(u64),
    /// The compressed data is damaged.
    #[error("the entry at offset {0} does not inflate")]
    Deflate(u64),
    /// More or less data than the entry says.
    #[error("the entry at offset {0} lies about its size")]
    Size(u64),
    /// An offset delta whose base is not an entry before it.
    #[error("the delta at offset {0} has no entry as base")]
    BaseOffset(u64),
    /// A delta whose instructions do not fit its base or its result.
    #[error("the delta at offset {0} is malformed")]
    Delta(u64),
    /// Deltas whose base is not in the pack, or that go in circles.
    #[error("{count} deltas never meet a base, one of them {base}")]
    MissingBase {
        /// The base of one of them.
        base: ObjectId,
        /// How many.
        count: usize,
    },
    /// A chain longer than [`Limits::depth`].
    #[error("the pack chains more than {0} deltas")]
    TooDeep(u32),
    /// Delta bases above [`Limits::held`] at one time.
    #[error("the deltas of the pack need more than {0} bytes at a time")]
    Held(u64),
    /// The same object twice.
    #[error("the pack holds object {0} twice")]
    Duplicate(ObjectId),
    /// Content built for a SHA-1 collision.
    #[error("the object at offset {0} is built to collide")]
    Collision(u64),
    /// The checksum at the end is of something else.
    #[error("the checksum of the pack is wrong")]
    Checksum,
    /// Bytes after the checksum.
    #[error("the pack goes on after its end")]
    Trailing,
    /// The end did not come.
    #[error("the pack is cut off")]
    Truncated,
    /// The file with the pack could not be read again.
    #[error("the pack cannot be read back: {0}")]
    Io(String),
}

impl PackError {
    /// The error's name: the variant's, after the word `Pack`. What a person or a program can look up.
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        let variant = text.chars().take_while(char::is_ascii_alphanumeric);
        "Pack".chars().chain(variant).collect()
    }
}

#[cfg(test)]
mod tests;
