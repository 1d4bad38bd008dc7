//! A tree: what is read, writes back to the same bytes.
#![no_main]
use libfuzzer_sys::fuzz_target;
use starling_core::git::object::{parse_tree, write_tree};

fuzz_target!(|data: &[u8]| {
    if let Ok(mut entries) = parse_tree(data) {
        assert_eq!(write_tree(&mut entries), data);
    }
});
