//! What a node keeps over a restart: its id, the nodes it knows, the values it stores.
//! Written as the reference writes it, so that its tools can read it.

use super::hash;
use super::nodes::{NodeInfo, is_martian};
use super::value::Value;
use crate::id::InfoHash;
use crate::msgpack::{self, Value as Mp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Largest state file that is read, bytes. Ours: the store itself is bounded by 64 MiB.
pub const MAX_STATE: usize = 96 << 20;

/// Linux's number for IPv4 in a `sockaddr`.
const AF_INET: u16 = 2;
/// Linux's number for IPv6 in a `sockaddr`.
const AF_INET6: u16 = 10;

/// A stored value with its dates.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredValue {
    /// The key it lies at.
    pub key: InfoHash,
    /// The value.
    pub value: Value,
    /// Created at, Unix seconds, if the file says so in wall-clock time.
    pub created: Option<i64>,
    /// Expires at, Unix seconds, if the file says so.
    pub expires: Option<i64>,
    /// Who stored it.
    pub source: Option<SocketAddr>,
}

/// The content of a state file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeState {
    /// The node's id.
    pub id: Option<InfoHash>,
    /// Good nodes, the nearest first.
    pub nodes: Vec<NodeInfo>,
    /// Stored values.
    pub values: Vec<StoredValue>,
}

/// A file that is no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not msgpack, or too long.
    #[error("node state: {0}")]
    Msgpack(#[from] msgpack::MsgpackError),
    /// Not a map with the members of a state.
    #[error("node state: not a state file of version 1")]
    Format,
}

impl NodeState {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let nodes = self
            .nodes
            .iter()
            .map(|n| {
                msgpack::map([
                    ("id", Mp::Binary(n.id.0.to_vec())),
                    ("addr", Mp::Binary(sockaddr(&n.addr))),
                ])
            })
            .collect();
        // Entries of one key lie together.
        let mut keys: Vec<InfoHash> = self.values.iter().map(|v| v.key).collect();
        keys.sort();
        keys.dedup();
        let values = keys
            .iter()
            .map(|key| {
                let entries = self
                    .values
                    .iter()
                    .filter(|v| v.key == *key)
                    .map(|v| {
                        Mp::Array(vec![
                            timestamp(v.created.unwrap_or(0)),
                            v.value.to_msgpack(),
                            Mp::Binary(v.source.as_ref().map(sockaddr).unwrap_or_default()),
                            timestamp(v.expires.unwrap_or(0)),
                        ])
                    })
                    .collect();
                let entries = msgpack::encode(&Mp::Array(entries));
                Mp::Array(vec![Mp::Binary(key.0.to_vec()), Mp::Binary(entries)])
            })
            .collect();
        msgpack::encode(&msgpack::map([
            ("v", 1.into()),
            (
                "id",
                Mp::Binary(self.id.map(|i| i.0.to_vec()).unwrap_or_default()),
            ),
            ("nodes", Mp::Array(nodes)),
            ("values", Mp::Array(values)),
        ]))
    }

    /// Reads a file, of the reference or ours. Entries that make no sense are skipped.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let m = msgpack::decode(bytes, MAX_STATE)?;
        if msgpack::get(&m, "v").and_then(Mp::as_u64) != Some(1) {
            return Err(StateError::Format);
        }
        let list = |key| {
            msgpack::get(&m, key)
                .and_then(Mp::as_array)
                .map_or(&[] as &[Mp], Vec::as_slice)
        };
        let nodes = list("nodes").iter().filter_map(read_node).collect();
        let mut values = Vec::new();
        for entry in list("values") {
            let Some([key, blob, ..]) = entry.as_array().map(Vec::as_slice) else {
                continue;
            };
            let (Some(key), Some(blob)) = (hash(key), msgpack::bytes(blob)) else {
                continue;
            };
            let Ok(entries) = msgpack::decode(blob, MAX_STATE) else {
                continue;
            };
            for e in entries.as_array().into_iter().flatten() {
                values.extend(read_value(key, e));
            }
        }
        Ok(Self {
            id: msgpack::get(&m, "id")
                .and_then(hash)
                .filter(|i| i.0 != [0; 20]),
            nodes,
            values,
        })
    }
}

fn read_node(n: &Mp) -> Option<NodeInfo> {
    let addr = read_sockaddr(msgpack::bytes(msgpack::get(n, "addr")?)?)?;
    let id = hash(msgpack::get(n, "id")?)?;
    (!is_martian(&addr) && id.0 != [0; 20]).then_some(NodeInfo { id, addr })
}

fn read_value(key: InfoHash, entry: &Mp) -> Option<StoredValue> {
    let mut e = entry.as_array()?.iter();
    let created = e.next()?;
    let value = Value::unpack(e.next()?).ok()?;
    let source = e.next().and_then(msgpack::bytes).and_then(read_sockaddr);
    let expires = e.next().and_then(read_timestamp);
    Some(StoredValue {
        key,
        value,
        // Old files hold a steady clock's nanoseconds, which mean nothing after a restart.
        created: read_timestamp(created),
        expires,
        source,
    })
}

/// A C `sockaddr` in Linux's layout on little-endian machines.
pub fn sockaddr(addr: &SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(28);
    match addr {
        SocketAddr::V4(a) => {
            out.extend_from_slice(&AF_INET.to_le_bytes());
            out.extend_from_slice(&a.port().to_be_bytes());
            out.extend_from_slice(&a.ip().octets());
            out.extend_from_slice(&[0; 8]);
        }
        SocketAddr::V6(a) => {
            out.extend_from_slice(&AF_INET6.to_le_bytes());
            out.extend_from_slice(&a.port().to_be_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&a.ip().octets());
            out.extend_from_slice(&[0; 4]);
        }
    }
    out
}

/// Reads a C `sockaddr` in Linux's layout.
pub fn read_sockaddr(bytes: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let ip: IpAddr = match u16::from_le_bytes(*family) {
        AF_INET => Ipv4Addr::from(*rest.first_chunk::<4>()?).into(),
        AF_INET6 => Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// msgpack's timestamp of whole seconds, in its shortest form.
fn timestamp(seconds: i64) -> Mp {
    let bytes = match u32::try_from(seconds) {
        Ok(s) => s.to_be_bytes().to_vec(),
        Err(_) => {
            let mut b = vec![0; 4];
            b.extend_from_slice(&seconds.to_be_bytes());
            b
        }
    };
    Mp::Ext(-1, bytes)
}

fn read_timestamp(v: &Mp) -> Option<i64> {
    let Mp::Ext(-1, b) = v else { return None };
    match b.len() {
        4 => Some(u32::from_be_bytes(b.as_slice().try_into().ok()?).into()),
        8 => {
            // 30 bits of nanoseconds, 34 bits of seconds.
            let both = u64::from_be_bytes(b.as_slice().try_into().ok()?);
            i64::try_from(both & 0x3_ffff_ffff).ok()
        }
        12 => Some(i64::from_be_bytes(b.get(4..)?.try_into().ok()?)),
        _ => None,
    }
}
