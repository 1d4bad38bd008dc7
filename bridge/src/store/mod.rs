//! Disks.

pub mod index;
pub mod state;
