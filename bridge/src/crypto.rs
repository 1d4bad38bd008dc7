//! Crypto by aws-lc-rs.
