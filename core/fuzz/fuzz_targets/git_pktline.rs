//! Pkt-lines, whole and in pieces.
#![no_main]
use libfuzzer_sys::fuzz_target;
use starling_core::git::pktline::Decoder;

fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::new();
    for chunk in data.chunks(5) {
        decoder.push(chunk);
        while let Ok(Some(_)) = decoder.next_line() {}
    }
});
