//! Pkt-lines: four hexadecimal digits of length (counting themselves), then the data.

/// The longest line, its four digits included (`LARGE_PACKET_MAX` of git).
pub const MAX_LINE: usize = 65520;
/// The most data in a line.
pub const MAX_DATA: usize = MAX_LINE - 4;
/// The flush line.
pub const FLUSH: &[u8] = b"0000";

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// `0000`: end of a section.
    Flush,
    /// A line with data, possibly none.
    Data(&'a [u8]),
}

/// What cannot be a pkt-line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PktLineError {
    /// The length is not four hexadecimal digits.
    #[error("a pkt-line has the unreadable length {0:?}")]
    Length(String),
    /// The length is 1 to 3 (which protocol version 2 uses, and nobody here speaks) or above [`MAX_LINE`].
    #[error("a pkt-line has the impossible length {0}")]
    Range(usize),
    /// Data too long for one line was to be written.
    #[error("{0} bytes do not fit into a pkt-line")]
    TooLong(usize),
}

/// Appends a line with data.
pub fn write(out: &mut Vec<u8>, data: &[u8]) -> Result<(), PktLineError> {
    write_parts(out, &[data])
}

/// Appends a line of several parts.
pub fn write_parts(out: &mut Vec<u8>, parts: &[&[u8]]) -> Result<(), PktLineError> {
    let len = parts.iter().map(|p| p.len()).sum::<usize>();
    if len > MAX_DATA {
        return Err(PktLineError::TooLong(len));
    }
    out.extend_from_slice(format!("{:04x}", len.saturating_add(4)).as_bytes());
    for p in parts {
        out.extend_from_slice(p);
    }
    Ok(())
}

/// Cuts a byte stream into lines, however it is chopped. Holds at most one
/// unfinished line beside what one [`push`](Self::push) brings.
#[derive(Debug, Default, Clone)]
pub struct Decoder {
    buffer: Vec<u8>,
    at: usize,
}

impl Decoder {
    /// An empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at.min(self.buffer.len()));
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes wait, in full lines or not.
    pub fn pending(&self) -> usize {
        self.buffer.len().saturating_sub(self.at)
    }

    /// The next full line, if there is one. After an error the stream is lost:
    /// the error comes again.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, PktLineError> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let Some((digits, body)) = rest.split_at_checked(4) else {
            return Ok(None);
        };
        let mut len = 0usize;
        for &d in digits {
            let digit = char::from(d)
                .to_digit(16)
                .ok_or_else(|| PktLineError::Length(digits.escape_ascii().to_string()))?;
            // Four digits: at most 0xffff.
            len = len << 4 | digit as usize;
        }
        let data_len = match len {
            0 => {
                self.at = self.at.saturating_add(4);
                return Ok(Some(Line::Flush));
            }
            1..=3 => return Err(PktLineError::Range(len)),
            _ if len > MAX_LINE => return Err(PktLineError::Range(len)),
            _ => len.saturating_sub(4),
        };
        let Some(data) = body.get(..data_len) else {
            return Ok(None);
        };
        self.at = self.at.saturating_add(len);
        Ok(Some(Line::Data(data)))
    }
}

/// A line without its final line feed.
pub fn trim(data: &[u8]) -> &[u8] {
    data.strip_suffix(b"\n").unwrap_or(data)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Option<Vec<u8>>>, PktLineError> {
        let mut d = Decoder::new();
        let mut out = Vec::new();
        for chunk in bytes.chunks(piece) {
            d.push(chunk);
            while let Some(line) = d.next_line()? {
                out.push(match line {
                    Line::Flush => None,
                    Line::Data(d) => Some(d.to_vec()),
                });
            }
        }
        Ok(out)
    }

    #[test]
    fn impossible_lengths_have_names() {
        assert_eq!(decode(b"0001", 4), Err(PktLineError::Range(1)));
        assert_eq!(decode(b"0003", 4), Err(PktLineError::Range(3)));
        assert_eq!(decode(b"fff1", 4), Err(PktLineError::Range(0xfff1)));
        assert_eq!(decode(b"00 4", 4), Err(PktLineError::Length("00 4".into())));
        assert_eq!(decode(b"0004", 1), Ok(vec![Some(vec![])]));
        let mut out = Vec::new();
        assert_eq!(
            write(&mut out, &vec![0; MAX_DATA + 1]),
            Err(PktLineError::TooLong(MAX_DATA + 1))
        );
        assert_eq!(write(&mut out, &vec![0; MAX_DATA]), Ok(()));
        assert_eq!(out.get(..4), Some(&b"fff0"[..]));
    }

    proptest! {
        #[test]
        fn lines_survive_any_chopping(
            lines in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)), 0..20),
            piece in 1usize..700,
        ) {
            let mut bytes = Vec::new();
            for l in &lines {
                match l {
                    None => bytes.extend_from_slice(FLUSH),
                    Some(d) => write(&mut bytes, d).unwrap(),
                }
            }
            prop_assert_eq!(decode(&bytes, piece).unwrap(), lines);
        }

        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..20) {
            let _ = decode(&bytes, piece);
        }
    }
}
