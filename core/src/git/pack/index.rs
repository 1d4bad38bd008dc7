//! The index of a pack: version 2, as every git reads it.

use crate::id::ObjectId;
use sha1::Digest as _;

/// Where an object lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The object.
    pub id: ObjectId,
    /// Where its entry begins.
    pub offset: u64,
    /// CRC-32 of the entry, header and compressed data.
    pub crc32: u32,
}

/// The index of a pack with that checksum. Sorts the entries; they must have no twins.
pub fn write_index(entries: &mut [IndexEntry], pack_checksum: &[u8; 20]) -> Vec<u8> {
    entries.sort_unstable_by_key(|e| e.id);
    let mut out = Vec::with_capacity(entries.len().saturating_mul(28).saturating_add(1100));
    out.extend_from_slice(b"\xfftOc\0\0\0\x02");
    let mut upto = entries.iter().peekable();
    let mut count = 0u32;
    for first in 0..=u8::MAX {
        while upto.next_if(|e| e.id.0.first() <= Some(&first)).is_some() {
            count = count.saturating_add(1);
        }
        out.extend_from_slice(&count.to_be_bytes());
    }
    for e in entries.iter() {
        out.extend_from_slice(e.id.as_bytes());
    }
    for e in entries.iter() {
        out.extend_from_slice(&e.crc32.to_be_bytes());
    }
    // Offsets of 2 GiB and more stand in a table of their own.
    let mut large = Vec::new();
    for e in entries.iter() {
        let word = match u32::try_from(e.offset) {
            Ok(small) if small < 1 << 31 => small,
            _ => {
                large.push(e.offset);
                (1u32 << 31) | u32::try_from(large.len().saturating_sub(1)).unwrap_or(0)
            }
        };
        out.extend_from_slice(&word.to_be_bytes());
    }
    for offset in large {
        out.extend_from_slice(&offset.to_be_bytes());
    }
    out.extend_from_slice(pack_checksum);
    let checksum: [u8; 20] = sha1::Sha1::digest(&out).into();
    out.extend_from_slice(&checksum);
    out
}
