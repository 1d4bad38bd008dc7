//! Lists of nodes as datagrams carry them: packed ids and addresses.

use crate::id::InfoHash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest list that is written, entries (OpenDHT `SEND_NODES`).
pub const MAX_NODES: usize = 8;

/// A node: its id and where it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeInfo {
    /// The node's id.
    pub id: InfoHash,
    /// Its address and UDP port.
    pub addr: SocketAddr,
}

/// A node list whose length is no multiple of an entry's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node list of {0} bytes does not consist of whole entries")]
pub struct BadNodeList(pub usize);

/// Packs the IPv4 entries of a list (26 bytes each), others are left out.
pub fn pack_v4(nodes: &[NodeInfo]) -> Vec<u8> {
    let mut out = Vec::with_capacity(nodes.len().saturating_mul(26));
    for n in nodes {
        if let SocketAddr::V4(a) = n.addr {
            out.extend_from_slice(&n.id.0);
            out.extend_from_slice(&a.ip().octets());
            out.extend_from_slice(&a.port().to_be_bytes());
        }
    }
    out
}

/// Packs the IPv6 entries of a list (38 bytes each), others are left out.
pub fn pack_v6(nodes: &[NodeInfo]) -> Vec<u8> {
    let mut out = Vec::with_capacity(nodes.len().saturating_mul(38));
    for n in nodes {
        if let SocketAddr::V6(a) = n.addr {
            out.extend_from_slice(&n.id.0);
            out.extend_from_slice(&a.ip().octets());
            out.extend_from_slice(&a.port().to_be_bytes());
        }
    }
    out
}

/// Reads a list of IPv4 entries.
pub fn unpack_v4(bytes: &[u8]) -> Result<Vec<NodeInfo>, BadNodeList> {
    unpack::<4>(bytes, |ip| Ipv4Addr::from(ip).into())
}

/// Reads a list of IPv6 entries.
pub fn unpack_v6(bytes: &[u8]) -> Result<Vec<NodeInfo>, BadNodeList> {
    unpack::<16>(bytes, |ip| Ipv6Addr::from(ip).into())
}

fn unpack<const N: usize>(
    bytes: &[u8],
    ip: impl Fn([u8; N]) -> IpAddr,
) -> Result<Vec<NodeInfo>, BadNodeList> {
    let chunks = bytes.chunks_exact(const { InfoHash::LEN + N + 2 });
    if !chunks.remainder().is_empty() {
        return Err(BadNodeList(bytes.len()));
    }
    let entry = |c: &[u8]| -> Option<NodeInfo> {
        let (id, rest) = c.split_first_chunk::<20>()?;
        let (addr, port) = rest.split_first_chunk::<N>()?;
        Some(NodeInfo {
            id: InfoHash(*id),
            addr: SocketAddr::new(ip(*addr), u16::from_be_bytes(port.try_into().ok()?)),
        })
    };
    Ok(chunks.filter_map(entry).collect())
}

/// Whether nobody can be there: port 0, IPv4 first byte 0 or from 224, IPv6 multicast,
/// unspecified and mapped addresses. Loopback, private and link-local ones are fine.
pub fn is_martian(addr: &SocketAddr) -> bool {
    addr.port() == 0
        || match addr.ip() {
            IpAddr::V4(ip) => {
                let [first, ..] = ip.octets();
                first == 0 || first >= 224
            }
            IpAddr::V6(ip) => {
                ip.is_multicast() || ip.is_unspecified() || ip.to_ipv4_mapped().is_some()
            }
        }
}

/// An IPv4 address written as a mapped IPv6 one becomes IPv4 again; scope and flow are dropped
/// except for link-local addresses, which cannot be reached without their scope.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(a) => match a.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), a.port()),
            None if a.ip().is_unicast_link_local() => addr,
            None => SocketAddr::new((*a.ip()).into(), a.port()),
        },
        SocketAddr::V4(_) => addr,
    }
}
