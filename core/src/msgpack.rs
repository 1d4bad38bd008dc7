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
    Measure::default()
        .go_on(bytes)?
        .ok_or(MsgpackError::Incomplete)
}

/// How far an object has been read over.
#[derive(Debug, Clone)]
struct Measure {
    at: usize,
    /// How many objects are still to be read at each level.
    levels: Vec<u64>,
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            at: 0,
            levels: vec![1],
        }
    }
}

impl Measure {
    /// Goes on with the same bytes and those that came since. The object's length, once it is all there.
    fn go_on(&mut self, bytes: &[u8]) -> Result<Option<usize>, MsgpackError> {
        while let Some(last) = self.levels.last_mut() {
            if *last == 0 {
                self.levels.pop();
                continue;
            }
            let Some((after, children)) = step(bytes, self.at)? else {
                return Ok(None);
            };
            *last = last.saturating_sub(1);
            self.at = after;
            if children > 0 {
                if self.levels.len() > usize::from(MAX_DEPTH) {
                    return Err(MsgpackError::TooDeep(MAX_DEPTH));
                }
                self.levels.push(children);
            }
        }
        Ok(Some(self.at))
    }
}

/// Where the head of an object at `at`, with its bytes, ends, and how many objects it holds.
/// `None`: it is not all there.
fn step(bytes: &[u8], at: usize) -> Result<Option<(usize, u64)>, MsgpackError> {
    let Some(&marker) = bytes.get(at) else {
        return Ok(None);
    };
    let at = at.saturating_add(1);
    let be = |n: usize| -> Option<u64> {
        let field = bytes.get(at..at.saturating_add(n))?;
        Some(field.iter().fold(0u64, |a, b| (a << 8) | u64::from(*b)))
    };
    macro_rules! be {
        ($n:expr) => {
            match be($n) {
                Some(v) => v,
                None => return Ok(None),
            }
        };
    }
    let (skip, children): (u64, u64) = match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0),
        0x80..=0x8f => (0, u64::from(marker & 0x0f).saturating_mul(2)),
        0x90..=0x9f => (0, u64::from(marker & 0x0f)),
        0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
        0xc1 => return Err(MsgpackError::Malformed),
        0xc4 | 0xd9 => (be!(1).saturating_add(1), 0),
        0xc5 | 0xda => (be!(2).saturating_add(2), 0),
        0xc6 | 0xdb => (be!(4).saturating_add(4), 0),
        0xc7 => (be!(1).saturating_add(2), 0),
        0xc8 => (be!(2).saturating_add(3), 0),
        0xc9 => (be!(4).saturating_add(5), 0),
        0xcc | 0xd0 => (1, 0),
        0xcd | 0xd1 => (2, 0),
        0xca | 0xce | 0xd2 => (4, 0),
        0xcb | 0xcf | 0xd3 => (8, 0),
        0xd4 => (2, 0),
        0xd5 => (3, 0),
        0xd6 => (5, 0),
        0xd7 => (9, 0),
        0xd8 => (17, 0),
        0xdc => (2, be!(2)),
        0xdd => (4, be!(4)),
        0xde => (2, be!(2).saturating_mul(2)),
        0xdf => (4, be!(4).saturating_mul(2)),
    };
    let skip = usize::try_from(skip).map_err(|_| MsgpackError::Malformed)?;
    let after = at.checked_add(skip).ok_or(MsgpackError::Malformed)?;
    Ok((after <= bytes.len()).then_some((after, children)))
}

/// Cuts a stream into its objects. The work grows with the length of the stream alone, into
/// however many pieces it is chopped.
#[derive(Debug, Clone)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Where the object that is being measured begins.
    start: usize,
    measure: Measure,
    max: usize,
}

impl Frames {
    /// For objects of less than `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            measure: Measure::default(),
            max,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start.min(self.buffer.len()));
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The bytes of the next object that is whole. After an error the stream is lost.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, MsgpackError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let seen = rest.get(..self.max.min(rest.len())).unwrap_or(rest);
        match self.measure.go_on(seen)? {
            Some(len) => {
                self.start = self.start.saturating_add(len);
                self.measure = Measure::default();
                Ok(rest.get(..len))
            }
            None if rest.len() >= self.max => Err(MsgpackError::TooLong(self.max)),
            None => Ok(None),
        }
    }
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

    #[test]
    fn an_object_that_comes_byte_by_byte_is_read_over_once() {
        // 200,000 small objects in one: read from the start at each byte, they would take minutes.
        let mut bytes = vec![0xdd, 0, 3, 0x0d, 0x40];
        bytes.resize(200_005, 0xc0);
        let mut frames = Frames::new(1 << 18);
        for byte in &bytes[..200_004] {
            frames.push(&[*byte]);
            assert_eq!(frames.next_frame(), Ok(None));
        }
        frames.push(&[0xc0, 0x07]);
        assert_eq!(frames.next_frame().unwrap().unwrap(), bytes);
        assert_eq!(frames.next_frame(), Ok(Some(&[7][..])));
        assert_eq!(frames.next_frame(), Ok(None));
        // What is too long is refused once the limit is there, not collected.
        let mut frames = Frames::new(100);
        frames.push(&[0xdb, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(frames.next_frame(), Ok(None));
        frames.push(&[0; 100]);
        assert_eq!(frames.next_frame(), Err(MsgpackError::TooLong(100)));
    }

    proptest! {
        #[test]
        fn frames_are_the_same_at_any_cut(texts in proptest::collection::vec(".{0,20}", 0..5), cut in 1usize..9) {
            let objects: Vec<Vec<u8>> = texts
                .iter()
                .map(|t| encode(&map([("t", Value::from(t.as_str())), ("n", Value::from(t.len()))])))
                .collect();
            let (mut frames, mut got) = (Frames::new(1 << 10), Vec::new());
            for piece in objects.concat().chunks(cut) {
                frames.push(piece);
                while let Some(frame) = frames.next_frame().unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert_eq!(got, objects);
        }

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
