#![no_main]
use libfuzzer_sys::fuzz_target;
use starling_core::account::SyncMessage;

fuzz_target!(|data: &[u8]| {
    if let Ok((message, _)) = SyncMessage::first(data) {
        let _ = SyncMessage::decode(&message.encode());
    }
});
