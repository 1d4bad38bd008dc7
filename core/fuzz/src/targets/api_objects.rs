//! The list of git objects that the page gets for its own validation.

use starling_core::api::objects::{read, write};

pub(crate) fn run(data: &[u8]) {
    if let Ok(records) = read(data) {
        let mut again = Vec::new();
        for r in &records {
            write(&mut again, r.kind, &r.id, &r.content).expect("what was read fits");
        }
        assert_eq!(again, data);
    }
}
