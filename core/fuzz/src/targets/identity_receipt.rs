use starling_core::identity::{Announcement, Receipt};

pub(crate) fn run(data: &[u8]) {
    let _ = Announcement::decode(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Receipt::parse(text, data);
    }
}
