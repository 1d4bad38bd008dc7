//! The bridge's crypto for tests of core: the same source, so that what is tested
//! here is what runs there.
#![allow(dead_code, unreachable_pub, missing_docs)]

#[path = "../../../bridge/src/crypto.rs"]
mod crypto;
pub use crypto::AwsLc;
