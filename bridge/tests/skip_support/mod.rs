//! Tests that cannot run on a machine.

use std::io::Write as _;

/// Says aloud why a test is skipped, past the test runner's capture. Where nothing may be skipped
/// (`STARLING_E2E_STRICT=1`) the test fails instead.
pub(crate) fn skip(why: &str) {
    assert!(
        std::env::var_os("STARLING_E2E_STRICT").is_none_or(|v| v.is_empty()),
        "cannot run here: {why}"
    );
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
