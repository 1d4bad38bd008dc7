//! Peers: from a connection request to named byte channels, as decisions without sockets.
//!
//! One connection to one device is made in layers, each a room file here:
//! [`request`] is what travels through the DHT, [`ice_text`] what it carries,
//! [`ice`] finds a TCP connection with [`stun`] messages in [`framing`] frames,
//! and [`mux`] cuts the TLS stream on it into channels with a [`channel_name`] each.
//! TLS itself belongs to the bridge.

pub mod attempts;
pub mod channel_name;
pub mod framing;
pub mod ice;
pub mod ice_text;
pub mod mux;
pub mod request;
pub mod stun;
