//! Disks.

pub mod index;
pub mod objects;
pub mod state;
