pub(crate) fn run(data: &[u8]) {
    let _ = starling_core::peer::stun::Message::decode(data);
}
