//! What an agent begins with, and what it says.

use super::connection::ConnId;
use crate::peer::ice_text::{self, Credentials};
use core::time::Duration;
use std::net::SocketAddr;

/// Who nominates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The requester. Will be TLS server.
    Controlled,
    /// The answerer. Will be TLS client.
    Controlling,
}

/// What bounds an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most connections that are accepted. A daemon opens at most one for each pair: 4 on a
    /// usual machine, and rarely more than 32.
    pub accepted: usize,
    /// Most connections that are opened (pjnath's candidates, 31).
    pub outgoing: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            accepted: 64,
            outgoing: ice_text::MAX_CANDIDATES,
        }
    }
}

/// What an agent begins with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Role by the order of request and answer.
    pub role: Role,
    /// Own fragment and password, as in the text that was sent.
    pub credentials: Credentials,
    /// Random; decides role conflicts, and transaction ids come from it.
    pub entropy: [u8; 32],
    /// Whether IPv4 addresses can be connected to.
    pub ipv4: bool,
    /// Whether IPv6 addresses can be connected to.
    pub ipv6: bool,
    /// Whether loopback candidates of the peer are connected to. Off, a peer cannot make us knock at
    /// our own machine.
    pub loopback: bool,
    /// How long a controlling agent looks for a better connection after the first valid one
    /// (pjnath: 400 ms). A direct connection that both sides have checked is taken at once: the
    /// peer has our answer before our nomination, being on the same byte stream.
    pub nomination_delay: Duration,
    /// The bounds.
    pub limits: Limits,
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a connection, from any local address, and report by
    /// [`Agent::handle_connected`] or [`Agent::handle_closed`].
    Connect(ConnId, SocketAddr),
    /// Write these bytes, with one system call if possible.
    Send(ConnId, Vec<u8>),
    /// Close the connection, or stop opening it. No report is needed.
    Close(ConnId),
    /// This connection carries the stream from now on.
    Selected {
        /// Which.
        connection: ConnId,
        /// The final role.
        role: Role,
        /// Its other end.
        remote: SocketAddr,
    },
    /// Bytes of the stream.
    Data(Vec<u8>),
    /// There is no connection, or no more. Nothing follows.
    Failed(Failure),
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No address of the peer answered, nor did it come to us.
    #[error("no address of the device could be reached, and it reached none of ours")]
    NoPath,
    /// Connections there were, but the peer chose none.
    #[error("the device did not choose a connection")]
    NotNominated,
    /// The selected connection ended.
    #[error("the connection ended")]
    Lost,
}

/// A connection that is not accepted: close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many connections")]
pub struct Refused;
