//! The distributed routing table of a swarm: to which devices of a conversation to stay
//! connected, so that every device is reached over a few others and nobody holds more than a
//! handful of connections, however large the group.
//!
//! [`Drt`] is the engine, one for each conversation: what happens goes in as an [`Input`], what
//! is to be done comes out as an [`Output`]. [`Message`] is what neighbours say to each other on
//! a `swarm://` channel. Nothing else travels over the graph: what matters is who is connected,
//! since new commits are told to neighbours.
//!
//! Nodes are devices; the distance between two is the XOR of their ids. A node knows its own half
//! of the ids best, of that the own half again, and so on: in each half that is not its own it
//! holds [`BUCKET`] connections, and to the nodes of the last, smallest part it is connected with
//! all. That makes about `2 · log2(n)` connections of one's own choice.

mod engine;
mod io;
mod lease;
mod message;
mod mobiles;
mod table;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod watch;

pub use engine::{Drt, SMALL};
pub use io::{CertificateSource, DrtConfig, Input, Now, Output, Verdict};
pub use lease::{Lease, LeaseFault, pack_chain, unpack_chain};
pub use message::{Found, Message, MobileInfo};
pub use table::NodeState;

use core::time::Duration;

/// The version we speak (`swarm_protocol.h` of the reference: 3 since 2026-07).
pub const VERSION: u64 = 3;

/// How many nodes a FIND asks for (`swarm_manager.cpp` of the reference).
pub const FIND_NODES: u64 = 2;

/// Connections wanted in each part of the ids that is not one's own (`BUCKET_MAX_SIZE`).
pub const BUCKET: usize = 2;

/// Longest message that is read, in bytes: certificates of up to 256 KiB in all, and some.
pub const MAX_MESSAGE: usize = 320 * 1024;

/// Most node ids that are taken from one answer, or given in one.
pub const MAX_NODES: usize = 64;

/// Most mobile devices in one message (`MAX_MOBILE_NODE_INFOS`), and most whose leases are kept.
pub const MAX_INFOS: usize = 128;

/// Most certificates that are asked for at once (`MAX_CERT_REQUEST_IDS`).
pub const MAX_CERTIFICATE_IDS: usize = 16;

/// Longest packed chain, bytes (`MAX_MOBILE_CERTIFICATE_SIZE`).
pub const MAX_CERTIFICATE: usize = 64 * 1024;

/// Longest packed chains of one message in all, bytes (`MAX_MOBILE_CERTIFICATES_SIZE`).
pub const MAX_CERTIFICATES: usize = 256 * 1024;

/// Leases that wait for a certificate (`MAX_PENDING_MOBILE_LEASES`).
pub const MAX_PENDING: usize = 64;

/// How long a neighbour may take to give certificates (`CERT_REQUEST_TIMEOUT`).
pub const CERTIFICATE_TIME: Duration = Duration::from_secs(10);

/// Longest lease (`MAX_MOBILE_LEASE_DURATION`).
pub const MAX_LEASE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How far the clock of a lease's writer may be ahead, seconds (`MAX_CLOCK_SKEW`).
pub const CLOCK_SKEW: u64 = 5 * 60;

/// Until then mobile devices of versions 1 and 2 are believed without a lease, unix seconds:
/// 2026-10-01 (`LEGACY_MOBILE_NODE_SUNSET`).
pub const LEGACY_MOBILE_UNTIL: u64 = 1_790_812_800;

/// So many connected devices nearest to a mobile device wake it (`MOBILE_WAKE_REDUNDANCY`).
pub const WAKERS: usize = 2;
