//! What Starling does: sockets, disks, HTTP. Thin shells around `starling-core`.

pub mod account;
pub mod actor;
mod addresses;
pub mod api;
pub mod conversation;
pub mod crypto;
pub mod dht;
pub mod peer;
pub mod serve;
pub mod store;
pub mod verify;

/// What is freed goes back to the machine, soon and whichever thread freed it (`.cargo/config.toml` says how soon).
/// The C library's allocator keeps it for each thread, and messages of some megabytes, which any member can write, are
/// worked on by all threads in turn: reading fifty of them left a third more behind. Others give it back only when the
/// same thread works again.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
