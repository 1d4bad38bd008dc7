use starling_core::drt::Message;

pub(crate) fn run(data: &[u8]) {
    if let Ok(Some((_, message))) = Message::first(data) {
        let bytes = message.encode();
        assert_eq!(Message::first(&bytes), Ok(Some((bytes.len(), message))));
    }
    // What a lease holds.
    let _ = starling_core::drt::unpack_chain(data);
}
