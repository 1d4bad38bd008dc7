//! Pkt-lines, whole and in pieces.
use starling_core::git::pktline::Decoder;

pub(crate) fn run(data: &[u8]) {
    let mut decoder = Decoder::new();
    for chunk in data.chunks(5) {
        decoder.push(chunk);
        while let Ok(Some(_)) = decoder.next_line() {}
    }
}
