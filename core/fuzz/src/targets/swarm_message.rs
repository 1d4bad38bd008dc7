pub(crate) fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(message) = starling_core::swarm::message::Message::parse(text) {
            // What was read can be written and is then read the same way.
            let again = starling_core::swarm::message::Message::parse(&message.to_text());
            assert_eq!(again.as_ref(), Ok(&message));
        }
    }
}
