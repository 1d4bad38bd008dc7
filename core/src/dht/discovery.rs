//! LAN discovery: who else speaks DHT in this network.

use super::hash;
use crate::id::InfoHash;
use crate::msgpack::{self, Value as Mp};
use std::net::{Ipv4Addr, Ipv6Addr};

/// UDP port of discovery (OpenDHT `PeerDiscovery`).
pub const PORT: u16 = 8888;
/// IPv4 group (OpenDHT `MULTICAST_ADDRESS_IPV4`).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 0, 1);
/// IPv6 group (OpenDHT `MULTICAST_ADDRESS_IPV6`).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff08, 0, 0, 0, 0, 0, 0, 0x101);

/// Largest datagram that is read, bytes. Ours: several services of a few dozen bytes each.
pub const MAX_DATAGRAM: usize = 4096;

/// A discovery datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// Who is there?
    Query,
    /// What someone offers; only the DHT service is read.
    Publish(Option<DhtService>),
}

/// A node that announces itself. Its address is that of the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DhtService {
    /// The node's id.
    pub id: InfoHash,
    /// Its UDP port in the family of the datagram.
    pub port: u16,
    /// Its network.
    pub network: u32,
}

/// A datagram that is no discovery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// Not msgpack, or too long.
    #[error("discovery: {0}")]
    Msgpack(#[from] msgpack::MsgpackError),
    /// Neither a query nor a list of services.
    #[error("discovery: unknown datagram")]
    Format,
}

impl Discovery {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        msgpack::encode(&match self {
            Self::Query => "q".into(),
            Self::Publish(None) => Mp::Map(Vec::new()),
            Self::Publish(Some(s)) => msgpack::map([(
                "dht",
                Mp::Array(vec![
                    Mp::Binary(s.id.0.to_vec()),
                    s.port.into(),
                    s.network.into(),
                ]),
            )]),
        })
    }

    /// Reads a datagram. Unknown services are skipped, and a DHT service that makes no sense too.
    pub fn decode(bytes: &[u8]) -> Result<Self, DiscoveryError> {
        if bytes.len() > MAX_DATAGRAM {
            return Err(msgpack::MsgpackError::TooLong(MAX_DATAGRAM).into());
        }
        let (m, _) = msgpack::first(bytes, MAX_DATAGRAM + 1)?;
        match &m {
            Mp::String(s) if s.as_str() == Some("q") => Ok(Self::Query),
            Mp::Map(_) => Ok(Self::Publish(msgpack::get(&m, "dht").and_then(service))),
            _ => Err(DiscoveryError::Format),
        }
    }
}

fn service(s: &Mp) -> Option<DhtService> {
    let mut s = s.as_array()?.iter();
    let service = DhtService {
        id: hash(s.next()?)?,
        port: s.next()?.as_u64()?.try_into().ok()?,
        network: s.next()?.as_u64()?.try_into().ok()?,
    };
    (service.port != 0 && service.id.0 != [0; 20]).then_some(service)
}
