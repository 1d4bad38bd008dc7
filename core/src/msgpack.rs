//! Reading msgpack from strangers: bounded in depth, count and bytes.
//!
//! Writing goes through `rmpv`, which chooses the shortest form, as every Jami
//! implementation does.

pub use rmpv::{Value, ValueRef};

/// Why some bytes are not an acceptable msgpack object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MsgpackError {
    /// More bytes are needed: only meaningful on a stream.
    #[error("the object is not complete")]
    Incomplete,
    /// Not msgpack.
    #[error("not msgpack")]
    Malformed,
    /// Nested deeper than allowed.
    #[error("nested deeper than {0} levels")]
    TooDeep(u16),
    /// Larger than allowed.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// Something follows the object where nothing may.
    #[error("{0} bytes follow the object")]
    TrailingBytes(usize),
}

/// Deepest nesting that any structure of Jami needs, with room to spare.
pub const MAX_DEPTH: u16 = 16;

/// The length of the first object in `bytes`, without building it: nothing is
/// allocated, whatever lengths the bytes claim.
pub fn object_len(bytes: &[u8]) -> Result<usize, MsgpackError> {
    let mut at = 0usize;
    // How many objects are still to be read at each level.
    let mut levels: Vec<u64> = vec![1];
    while let Some(last) = levels.last_mut() {
        if *last == 0 {
            levels.pop();
            continue;
        }
        *last -= 1;
        let marker = *bytes.get(at).ok_or(MsgpackError::Incomplete)?;
        at += 1;
        let be = |at: usize, n: usize| -> Result<u64, MsgpackError> {
            let field = bytes
                .get(at..at.saturating_add(n))
                .ok_or(MsgpackError::Incomplete)?;
            Ok(field.iter().fold(0u64, |a, b| (a << 8) | u64::from(*b)))
        };
        let (skip, children): (u64, u64) = match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0),
            0x80..=0x8f => (0, 2 * u64::from(marker & 0x0f)),
            0x90..=0x9f => (0, u64::from(marker & 0x0f)),
            0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
            0xc1 => return Err(MsgpackError::Malformed),
            0xc4 | 0xd9 => (1 + be(at, 1)?, 0),
            0xc5 | 0xda => (2 + be(at, 2)?, 0),
            0xc6 | 0xdb => (4 + be(at, 4)?, 0),
            0xc7 => (2 + be(at, 1)?, 0),
            0xc8 => (3 + be(at, 2)?, 0),
            0xc9 => (5 + be(at, 4)?, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xd4 => (2, 0),
            0xd5 => (3, 0),
            0xd6 => (5, 0),
            0xd7 => (9, 0),
            0xd8 => (17, 0),
            0xdc => (2, be(at, 2)?),
            0xdd => (4, be(at, 4)?),
            0xde => (2, 2 * be(at, 2)?),
            0xdf => (4, 2 * be(at, 4)?),
        };
        let skip = usize::try_from(skip).map_err(|_| MsgpackError::Malformed)?;
        at = at.checked_add(skip).ok_or(MsgpackError::Malformed)?;
        if at > bytes.len() {
            return Err(MsgpackError::Incomplete);
        }
        if children > 0 {
            if levels.len() > usize::from(MAX_DEPTH) {
                return Err(MsgpackError::TooDeep(MAX_DEPTH));
            }
            levels.push(children);
        }
    }
    Ok(at)
}

/// The first object of a stream and its length in bytes. `Incomplete` asks for
/// more bytes, and becomes `TooLong` once `max` bytes are there without an end.
pub fn first(bytes: &[u8], max: usize) -> Result<(Value, usize), MsgpackError> {
    let len = match object_len(bytes.get(..max.min(bytes.len())).unwrap_or(bytes)) {
        Err(MsgpackError::Incomplete) if bytes.len() >= max => {
            return Err(MsgpackError::TooLong(max));
        }
        other => other?,
    };
    let mut object = bytes.get(..len).ok_or(MsgpackError::Incomplete)?;
    let value = rmpv::decode::read_value_with_max_depth(&mut object, usize::from(MAX_DEPTH) + 2)
        .map_err(|_| MsgpackError::Malformed)?;
    Ok((value, len))
}

/// Exactly one object, of at most `max` bytes.
pub fn decode(bytes: &[u8], max: usize) -> Result<Value, MsgpackError> {
    if bytes.len() > max {
        return Err(MsgpackError::TooLong(max));
    }
    let (value, len) = first(bytes, max.saturating_add(1))?;
    if len == bytes.len() {
        Ok(value)
    } else {
        Err(MsgpackError::TrailingBytes(bytes.len().saturating_sub(len)))
    }
}

/// The shortest encoding.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing into a Vec cannot fail.
    let _ = rmpv::encode::write_value(&mut out, value);
    out
}

/// The value of a string key in a map.
pub fn get<'a>(map: &'a Value, key: &str) -> Option<&'a Value> {
    map.as_map()?
        .iter()
        .find(|(k, _)| k.as_str() == Some(key))
        .map(|(_, v)| v)
}

/// Bytes of a `bin`, or of a `str` where writers mix the two.
pub fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Binary(b) => Some(b),
        Value::String(s) => Some(s.as_bytes()),
        _ => None,
    }
}

/// A map with string keys, in the given order.
pub fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(
        entries
            .into_iter()
            .map(|(k, v)| (Value::from(k), v))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn claims_of_size_cost_nothing() {
        // An array and a map of 2^32 - 1 elements, a bin of 4 GiB.
        for head in [
            [0xdd, 255, 255, 255, 255],
            [0xdf, 255, 255, 255, 255],
            [0xc6, 255, 255, 255, 255],
        ] {
            assert_eq!(first(&head, 1 << 20).unwrap_err(), MsgpackError::Incomplete);
            assert_eq!(
                decode(&head, 1 << 20).unwrap_err(),
                MsgpackError::Incomplete
            );
        }
    }

    #[test]
    fn depth_is_bounded() {
        let mut deep = vec![0x91; 100_000];
        deep.push(0xc0);
        assert_eq!(
            decode(&deep, 1 << 20).unwrap_err(),
            MsgpackError::TooDeep(MAX_DEPTH)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((value, len)) = first(&bytes, 1 << 16) {
                prop_assert!(len <= bytes.len());
                // What was read can be written, and is then read the same way.
                let again = encode(&value);
                prop_assert_eq!(object_len(&again).unwrap(), again.len());
            }
        }

        #[test]
        fn a_stream_is_read_at_any_cut(text in ".{0,40}", blob in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..400) {
            let value = map([("t", Value::from(text.as_str())), ("b", Value::Binary(blob))]);
            let mut stream = encode(&value);
            let len = stream.len();
            stream.extend(encode(&Value::from(7)));
            let cut = cut.min(stream.len());
            match first(&stream[..cut], 1 << 16) {
                Ok((v, n)) => { prop_assert_eq!(n, len); prop_assert_eq!(v, value); }
                Err(e) => { prop_assert_eq!(e, MsgpackError::Incomplete); prop_assert!(cut < len); }
            }
        }
    }
}
