//! Disks.

pub mod state;
