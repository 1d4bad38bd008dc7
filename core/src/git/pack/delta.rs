//! Deltas: copy from the base, insert new bytes.

/// The two sizes at the head of a delta take at most that many bytes.
pub(super) const MAX_HEAD: usize = 20;

/// The sizes of base and result, and how many bytes said so.
pub(super) fn sizes(delta: &[u8]) -> Option<(u64, u64, usize)> {
    let (base, n) = size(delta)?;
    let (result, m) = size(delta.get(n..)?)?;
    Some((base, result, n.checked_add(m)?))
}

fn size(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    // Nine groups of seven bits are 63: more than any limit.
    for (i, &b) in bytes.iter().enumerate().take(9) {
        value |= u64::from(b & 0x7f) << i.checked_mul(7)?;
        if b & 0x80 == 0 {
            return Some((value, i.checked_add(1)?));
        }
    }
    None
}

/// Applies a delta. `None` if it does not fit its base, or does not make what it says.
///
/// The caller has checked that the result's size is within bounds.
pub(super) fn apply(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let (base_size, result_size, head) = sizes(delta)?;
    if base_size != base.len() as u64 {
        return None;
    }
    let result_size = usize::try_from(result_size).ok()?;
    let mut out = Vec::with_capacity(result_size);
    let mut rest = delta.get(head..)?;
    while let Some((&op, after)) = rest.split_first() {
        let piece;
        if op & 0x80 != 0 {
            let mut bytes = after.iter();
            let mut field = |bits: core::ops::Range<u32>| -> Option<usize> {
                let mut value = 0usize;
                for (i, bit) in bits.enumerate() {
                    if op >> bit & 1 == 1 {
                        value |= usize::from(*bytes.next()?) << i.checked_mul(8)?;
                    }
                }
                Some(value)
            };
            let from = field(0..4)?;
            let len = match field(4..7)? {
                0 => 0x10000,
                n => n,
            };
            rest = bytes.as_slice();
            piece = base.get(from..from.checked_add(len)?)?;
        } else if op != 0 {
            (piece, rest) = after.split_at_checked(usize::from(op))?;
        } else {
            return None;
        }
        if out.len().checked_add(piece.len())? > result_size {
            return None;
        }
        out.extend_from_slice(piece);
    }
    (out.len() == result_size).then_some(out)
}
