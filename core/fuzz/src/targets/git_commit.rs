//! A commit and the removal of each of its headers.
use starling_core::git::object::parse_commit;

pub(crate) fn run(data: &[u8]) {
    if let Ok(commit) = parse_commit(data) {
        for header in &commit.extra {
            let _ = header.value();
            let _ = commit.without(header);
        }
    }
}
