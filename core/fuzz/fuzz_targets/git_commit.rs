//! A commit and the removal of each of its headers.
#![no_main]
use libfuzzer_sys::fuzz_target;
use starling_core::git::object::parse_commit;

fuzz_target!(|data: &[u8]| {
    if let Ok(commit) = parse_commit(data) {
        for header in &commit.extra {
            let _ = header.value();
            let _ = commit.without(header);
        }
    }
});
