//! A pack from a stranger, within small limits.
use starling_core::git::pack::{Limits, Scanner};

pub(crate) fn run(data: &[u8]) {
    let limits = Limits {
        objects: 1000,
        object: 1 << 20,
        total: 4 << 20,
        held: 2 << 20,
        ..Limits::default()
    };
    let mut scanner = Scanner::new(limits);
    for chunk in data.chunks(97) {
        if scanner.push(chunk).is_err() {
            return;
        }
    }
    if let Ok(scanned) = scanner.finish() {
        let _ = scanned.resolve(data);
    }
}
