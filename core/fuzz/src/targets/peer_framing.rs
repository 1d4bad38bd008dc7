//! Pieces of a stream, however it is cut, give the same frames.

use starling_core::peer::framing::Deframer;

pub(crate) fn run(data: &[u8]) {
    let frames = |cut: usize| {
        let mut deframer = Deframer::default();
        let mut frames = Vec::new();
        for piece in data.chunks(cut) {
            deframer.push(piece);
            frames.extend(std::iter::from_fn(|| deframer.next_frame()));
        }
        frames
    };
    assert_eq!(frames(7), frames(usize::MAX));
}
