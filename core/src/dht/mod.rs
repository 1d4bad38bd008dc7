//! OpenDHT: what its datagrams and values look like, and the node that speaks them.
//!
//! - [`value`], [`types`]: values, their packed form, lifetimes and storage rules.
//! - [`envelope`]: signing, encrypting, certificate values, the keys Jami uses.
//! - [`packet`], [`nodes`], [`query`], [`fragments`]: datagrams.
//! - [`discovery`], [`state`]: LAN discovery datagrams and the persisted state.
//! - [`node`]: the node itself as a state machine.

pub mod discovery;
pub mod envelope;
pub mod fragments;
pub mod node;
pub mod nodes;
pub mod packet;
pub mod query;
pub mod state;
pub mod types;
pub mod value;

pub use nodes::NodeInfo;
pub use packet::{Packet, PacketError};
pub use query::Query;
pub use value::{Value, ValueId};

use crate::id::InfoHash;
use crate::msgpack;

/// The bytes of a blob as OpenDHT reads one: bin, str, or an array of small integers.
pub(crate) fn blob(value: &msgpack::Value) -> Option<Vec<u8>> {
    match value {
        msgpack::Value::Array(items) => items
            .iter()
            .map(|i| i.as_u64().and_then(|n| u8::try_from(n).ok()))
            .collect(),
        other => msgpack::bytes(other).map(<[u8]>::to_vec),
    }
}

/// A hash on the wire: bin of exactly 20 bytes, a str is refused.
pub(crate) fn hash(value: &msgpack::Value) -> Option<InfoHash> {
    match value {
        msgpack::Value::Binary(b) => InfoHash::from_slice(b),
        _ => None,
    }
}
