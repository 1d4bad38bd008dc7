pub(crate) fn run(data: &[u8]) {
    let _ = starling_core::peer::request::PeerRequest::decode(data);
}
