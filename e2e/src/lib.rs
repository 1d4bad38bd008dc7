//! Starling seen from outside: hosts in network namespaces, real Jami daemons,
//! browsers, and the `starling` binary between them.
//!
//! Everything a test starts belongs to its [`Lab`] and ends with it.

pub mod audit;
pub mod browser;
pub mod client;
pub mod crowd;
pub mod jami;
pub mod net;
pub mod peer;
pub mod starling;
pub mod stock;
pub mod wait;

pub use browser::Browser;
pub use client::Client;
pub use crowd::Crowd;
pub use jami::Jami;
pub use net::{Host, Lab};
pub use peer::Peer;
pub use starling::Starling;

/// Why this machine cannot run the outside tests, or `None` when it can.
/// A test prints the reason and returns: a skip is never silent.
pub fn missing() -> Option<String> {
    if !nix_is_root() {
        return Some("network namespaces need root".into());
    }
    for tool in ["ip", "unshare", "nsenter"] {
        if net::which(tool).is_none() {
            return Some(format!("{tool} is not installed"));
        }
    }
    None
}

/// Whether this process runs as root, asked of the kernel through /proc.
fn nix_is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|s| {
        s.lines()
            .any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0"))
    })
}

/// Returns from the test with a printed reason when this machine lacks something.
/// Where nothing may be skipped (`STARLING_E2E_STRICT=1`) the test fails instead.
#[macro_export]
macro_rules! needs {
    ($missing:expr) => {
        if let Some(why) = $missing {
            assert!(
                std::env::var_os("STARLING_E2E_STRICT").is_none(),
                "cannot run here: {why}"
            );
            eprintln!("skipped {}: {why}", module_path!());
            return;
        }
    };
}
