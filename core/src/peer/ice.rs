//! ICE for one byte stream over TCP: which of many connections between two devices carries it.
//!
//! Sans-IO, and only what Jami's agents need (pjnath's subset): one stream, one component, TCP
//! candidates, no trickle, no restart. The driver opens, accepts and closes connections as it is
//! told by [`Agent::poll_output`], and reports what happened to them. After [`Output::Selected`]
//! the agent stays: it frames what is sent, takes frames apart, answers late checks and keeps the
//! connection alive.
//!
//! The requester of a connection is controlled and the answerer controlling, the reverse of the
//! usual habit; the final role decides who is TLS client.

mod agent;
mod config;
mod connection;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use agent::Agent;
pub use config::{Config, Failure, Limits, Output, Refused, Role};
pub use connection::ConnId;
