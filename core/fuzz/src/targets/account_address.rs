//! What someone types or scans as another's address.

use starling_core::id::AccountId;

pub(crate) fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = AccountId::from_address(text);
    }
}
