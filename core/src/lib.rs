//! What Starling decides: pure logic for native and WASM.
//!
//! No room in here opens a socket or a file, reads a clock, starts a thread or
//! draws a random number: what it needs comes in as an argument, what it wants
//! done goes out as a value.
//! Nothing that a peer sends can make it index beyond an end, or count beyond what a number holds.
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

pub mod account;
pub mod api;
pub mod crypto;
pub mod dht;
pub mod drt;
pub mod git;
pub mod id;
pub mod identity;
pub mod msgpack;
pub mod notice;
pub mod peer;
mod rng;
#[cfg(test)]
mod simulation;
pub mod swarm;
