use starling_core::account;

pub(crate) fn run(data: &[u8]) {
    let _ = account::decode_conversations(data);
    let _ = account::decode_requests(data);
    let _ = account::decode_known_devices(data);
    let _ = account::decode_pending(data);
    if let Ok(contacts) = account::decode_contacts(data) {
        let file = account::encode_contacts(&contacts);
        assert!(account::decode_contacts(&file).is_ok());
    }
}
