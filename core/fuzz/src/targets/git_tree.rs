//! A tree: what is read, writes back to the same bytes.
use starling_core::git::object::{parse_tree, write_tree};

pub(crate) fn run(data: &[u8]) {
    if let Ok(mut entries) = parse_tree(data) {
        assert_eq!(write_tree(&mut entries), data);
    }
}
