//! One TCP connection as the agent sees it.

use crate::peer::framing::Deframer;
use crate::peer::stun::TransactionId;
use core::time::Duration;
use std::net::SocketAddr;

/// Names a connection between agent and driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Where the connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// We connect to a passive candidate of the peer.
    Outgoing {
        /// A relay may refuse until the peer's permission is in place.
        relay: bool,
    },
    /// The peer connected to us.
    Accepted,
}

/// How far the TCP connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tcp {
    /// To be opened at this time.
    Planned(Duration),
    /// Being opened, until this time.
    Connecting(Duration),
    Open,
    /// Gone for good.
    Closed,
}

/// How far our own check on it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Not sent. On accepted connections it waits for the peer's.
    None,
    /// The peer checked before its credentials were known: to be sent when they are.
    Triggered,
    Sent(Flight),
    Succeeded,
    Failed,
}

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) transaction: TransactionId,
    /// With USE-CANDIDATE.
    pub(super) nominates: bool,
    /// Sent in the controlling role.
    pub(super) controlling: bool,
    pub(super) again_at: Duration,
    pub(super) ends_at: Duration,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) origin: Origin,
    pub(super) tcp: Tcp,
    pub(super) local: Option<SocketAddr>,
    pub(super) remote: SocketAddr,
    pub(super) deframer: Deframer,
    /// Order among pairs.
    pub(super) priority: u64,
    pub(super) check: Check,
    /// A nomination of ours on the way.
    pub(super) nomination: Option<Flight>,
    /// Our nomination of it failed: not to be tried again.
    pub(super) refused: bool,
    /// The peer proved to know our password here.
    pub(super) checked_by_peer: bool,
    /// The peer nominated it.
    pub(super) nominated_by_peer: bool,
    /// Connection attempts so far.
    pub(super) attempts: u32,
    /// Wrong messages so far.
    pub(super) strikes: u32,
    pub(super) opened_at: Duration,
}

impl Connection {
    pub(super) fn new(origin: Origin, tcp: Tcp, remote: SocketAddr) -> Self {
        Self {
            origin,
            tcp,
            local: None,
            remote,
            deframer: Deframer::default(),
            priority: 0,
            check: Check::None,
            nomination: None,
            refused: false,
            checked_by_peer: false,
            nominated_by_peer: false,
            attempts: 0,
            strikes: 0,
            opened_at: Duration::ZERO,
        }
    }

    /// Whether the peer proved on it, one way or the other, to be the peer.
    pub(super) fn authenticated(&self) -> bool {
        self.checked_by_peer || self.check == Check::Succeeded
    }

    /// Whether something of ours is still going on here that may make it valid.
    pub(super) fn working(&self) -> bool {
        match self.tcp {
            Tcp::Planned(_) | Tcp::Connecting(_) => true,
            Tcp::Open => {
                matches!(self.check, Check::Sent(_) | Check::Triggered) || self.nomination.is_some()
            }
            Tcp::Closed => false,
        }
    }

    pub(super) fn valid(&self) -> bool {
        self.tcp == Tcp::Open && self.check == Check::Succeeded
    }
}
