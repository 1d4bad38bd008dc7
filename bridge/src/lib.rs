//! What Starling does: sockets, disks, HTTP. Thin shells around `starling-core`.

pub mod account;
pub mod actor;
pub mod api;
pub mod conversation;
pub mod crypto;
pub mod dht;
pub mod peer;
pub mod serve;
pub mod store;
pub mod verify;
