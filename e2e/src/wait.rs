//! Waiting for something with an end: the answer, or a panic that says what was awaited.

use std::time::{Duration, Instant};

/// How long anything in the lab may take before it counts as failed. Generous:
/// the machine may be building something else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer. For state that announces no change (a file, a
/// port, a daemon's getter); where there is an event, wait for that.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
