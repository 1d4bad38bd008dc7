use starling_core::account::SyncMessage;

pub(crate) fn run(data: &[u8]) {
    if let Ok((message, _)) = SyncMessage::first(data) {
        let _ = SyncMessage::decode(&message.encode());
    }
}
