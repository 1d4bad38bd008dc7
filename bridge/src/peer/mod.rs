//! Connections to devices: TCP, TLS and channels around the engines of `starling_core::peer`.
//!
//! One [`PeerManager`] per account asks devices for connections and answers theirs; one task per
//! connection (`link`) owns its sockets, ICE agent, TLS session and multiplexer; a [`Channel`] is
//! an ordinary byte stream. How requests travel is behind [`Signalling`].

mod certificates;
mod chains;
mod channel;
mod dht_signalling;
mod held;
mod link;
mod manager;
mod net;
mod revocations;
mod session;
mod signalling;
mod sockets;
mod treated;

pub mod tls;

pub use certificates::CertificateStore;
pub use channel::Channel;
pub use dht_signalling::{DhtSignalling, MAX_DEVICES};
pub use manager::{
    Incoming, Limits, LinkEvent, LinkState, OpenError, PeerConfig, PeerManager, Policy,
};
pub use revocations::{REVOCATIONS, RevocationStore, TakeError};
pub use signalling::{Announced, Family, Presence, Signal, Signalling, SignallingError, Wanted};
