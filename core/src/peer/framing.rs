//! RFC 4571 framing: a 2-byte length before every piece on the TCP connection, for ever.

/// Longest payload of a frame.
pub const MAX_PAYLOAD: usize = u16::MAX as usize;

/// Puts the length before a payload. A payload that is too long for one frame is cut into several.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len().saturating_add(2));
    for piece in payload.chunks(MAX_PAYLOAD) {
        // A chunk has at most 65535 bytes.
        let len = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(piece);
    }
    out
}

/// Takes frames out of a byte stream, however it was cut on the way.
///
/// Holds at most one unfinished frame, so never more than 65537 bytes beside what was just pushed.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: Vec<u8>,
    at: usize,
}

impl Deframer {
    /// Adds what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at.min(self.buffer.len()));
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole payload. Empty frames are skipped.
    pub fn next_frame(&mut self) -> Option<Vec<u8>> {
        loop {
            let rest = self.buffer.get(self.at..)?;
            let (head, body) = rest.split_first_chunk::<2>()?;
            let len = usize::from(u16::from_be_bytes(*head));
            let payload = body.get(..len)?;
            let payload = payload.to_vec();
            self.at = self.at.saturating_add(2).saturating_add(len);
            if !payload.is_empty() {
                return Some(payload);
            }
        }
    }

    /// How many bytes of an unfinished frame are held.
    pub fn pending(&self) -> usize {
        self.buffer.len().saturating_sub(self.at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_payloads_become_several_frames() {
        let mut d = Deframer::default();
        d.push(&frame(&vec![7; 100_000]));
        assert_eq!(d.next_frame().map(|f| f.len()), Some(65_535));
        assert_eq!(d.next_frame().map(|f| f.len()), Some(34_465));
        assert_eq!(d.next_frame(), None);
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
            cuts in proptest::collection::vec(1usize..50, 1..200),
        ) {
            let stream: Vec<u8> = payloads.iter().flat_map(|p| frame(p)).collect();
            let mut d = Deframer::default();
            let mut got = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                d.push(now);
                while let Some(f) = d.next_frame() { got.push(f); }
                rest = later;
            }
            prop_assert_eq!(got, payloads);
            prop_assert_eq!(d.pending(), 0);
        }
    }
}
