//! Datagrams: requests, replies, errors, notices and value parts.
//!
//! One dialect is written: the current one, which OpenDHT 2.4 understands as
//! well. Both are read, with the leniency the reference shows.

use super::fragments::{INLINE_COUNT, INLINE_SIZE, PART_SIZE};
use super::nodes::{self, NodeInfo};
use super::query::{FieldTable, Query};
use super::value::{MAX_PACKED_SIZE, Value, ValueId};
use super::{blob, hash};
use crate::id::InfoHash;
use crate::msgpack::{self, Value as Mp};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Largest datagram that is read, bytes: what UDP can carry.
pub const MAX_DATAGRAM: usize = 65_535;

/// Longest token that counts (OpenDHT ignores longer ones).
pub const MAX_TOKEN: usize = 64;

/// How we name ourselves in `v`. Never interpreted by anyone.
pub const AGENT: &str = "st";

/// Longest agent tag kept of a received datagram: it is only of use to a person.
const MAX_AGENT: usize = 16;

/// Why a datagram is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Not msgpack.
    #[error("datagram: {0}")]
    Msgpack(#[from] msgpack::MsgpackError),
    /// A required member is missing.
    #[error("datagram: {0} is missing")]
    Missing(&'static str),
    /// A known member has a wrong type or length.
    #[error("datagram: {0} has a wrong type")]
    Type(&'static str),
    /// A request of an unknown name.
    #[error("datagram: unknown request")]
    UnknownRequest,
    /// A node list that is not made of whole entries: the reply counts as none.
    #[error("datagram: {0}")]
    Nodes(#[from] nodes::BadNodeList),
}

/// What every datagram except a part says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The sender's node id; never zero.
    pub sender: InfoHash,
    /// The transaction; for listener pushes of old nodes the listener's socket id.
    pub tid: u32,
    /// The network, 0 is the public one.
    pub network: u32,
    /// The sender only asks and shall not be asked.
    pub client: bool,
    /// The sender's program, at most 16 bytes.
    pub agent: String,
}

impl Head {
    /// The head of a datagram of ours.
    pub fn new(sender: InfoHash, tid: u32, network: u32) -> Self {
        Self {
            sender,
            tid,
            network,
            client: false,
            agent: AGENT.to_owned(),
        }
    }
}

/// A datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Someone asks.
    Request(Head, Request),
    /// An answer; or values pushed to a version-0 listener, with its socket id as transaction.
    Reply(Head, Reply),
    /// A refusal.
    Error(Head, ErrorReply),
    /// Refreshed and expired values, told to a version-0 listener: the transaction is its socket id.
    Notice(Head, Notice),
    /// Parts of values that a datagram of the same source and transaction announces.
    Part(Part),
}

/// Address families wanted in node lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Want {
    /// IPv4 nodes.
    pub v4: bool,
    /// IPv6 nodes.
    pub v6: bool,
}

/// Values in a datagram: whole, or announced by size with the bodies in parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Values {
    /// Values that are there.
    pub values: Vec<Arc<Value>>,
    /// Announced packed sizes by position, of values whose parts are still to come.
    /// Only in decoded datagrams; encoding decides by itself what goes into parts.
    pub announced: BTreeMap<u32, usize>,
}

impl Values {
    /// Whether there is nothing, announced or present.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.announced.is_empty()
    }
}

impl From<Vec<Arc<Value>>> for Values {
    fn from(values: Vec<Arc<Value>>) -> Self {
        Self {
            values,
            announced: BTreeMap::new(),
        }
    }
}

/// A request. Keys are optional where their absence has an answer of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Are you there?
    Ping,
    /// Which nodes are near?
    Find {
        /// The id to search around.
        target: InfoHash,
        /// Wanted families; `None`: that of the datagram.
        want: Option<Want>,
    },
    /// Which values have you?
    Get {
        /// The storage key; without it error 203.
        key: Option<InfoHash>,
        /// Which of them, and which fields.
        query: Query,
        /// Wanted families; `None`: that of the datagram.
        want: Option<Want>,
    },
    /// Store.
    Put {
        /// The storage key; without it error 203.
        key: Option<InfoHash>,
        /// What to store.
        values: Values,
        /// When it was created, Unix seconds, if before now.
        created: Option<i64>,
        /// The write token.
        token: Vec<u8>,
    },
    /// Keep a value longer.
    Refresh {
        /// The storage key.
        key: Option<InfoHash>,
        /// The value.
        vid: ValueId,
        /// The write token.
        token: Vec<u8>,
    },
    /// Tell me about values.
    Listen {
        /// The storage key; without it error 203.
        key: Option<InfoHash>,
        /// Protocol version: 1, or 0 for old listeners.
        version: u32,
        /// The write token.
        token: Vec<u8>,
        /// The socket id chosen by the listener.
        sid: u32,
        /// Which values.
        query: Query,
    },
    /// News for a listener.
    Update {
        /// The listener's socket id.
        sid: u32,
        /// The storage key, only with values.
        key: Option<InfoHash>,
        /// Protocol version, written with values only.
        version: u32,
        /// A fresh token for the listener.
        token: Vec<u8>,
        /// New or changed values.
        values: Values,
        /// When they were created, Unix seconds.
        created: Option<i64>,
        /// Ids of values that live longer.
        refreshed: Vec<ValueId>,
        /// Ids of values that are gone.
        expired: Vec<ValueId>,
    },
}

impl Request {
    /// The name in `q`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Find { .. } => "find",
            Self::Get { .. } => "get",
            Self::Put { .. } => "put",
            Self::Refresh { .. } => "refresh",
            Self::Listen { .. } => "listen",
            Self::Update { .. } => "update",
        }
    }
}

/// A reply. Which members are there depends on the request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// Id of the stored or refreshed value.
    pub vid: Option<ValueId>,
    /// The requester's address as the replier sees it.
    pub seen_as: Option<IpAddr>,
    /// IPv4 and IPv6 nodes near the target, in this order.
    pub nodes: Vec<NodeInfo>,
    /// Write token; as received, see [`Reply::usable_token`].
    pub token: Option<Vec<u8>>,
    /// Values.
    pub values: Values,
    /// Selected fields.
    pub fields: Option<FieldTable>,
}

impl Reply {
    /// The token, unless it is empty or longer than anyone accepts.
    pub fn usable_token(&self) -> Option<&[u8]> {
        usable_token(self.token.as_deref()?)
    }
}

/// The token, unless it is empty or longer than anyone accepts.
pub fn usable_token(token: &[u8]) -> Option<&[u8]> {
    (!token.is_empty() && token.len() <= MAX_TOKEN).then_some(token)
}

/// Codes of [`ErrorReply`].
pub mod code {
    /// No storage key, or value id 0.
    pub const NO_KEY: u16 = 203;
    /// The token is not one of the last two.
    pub const BAD_TOKEN: u16 = 401;
    /// Refresh of a key that is not stored here.
    pub const NOT_FOUND: u16 = 404;
}

/// A refusal. Only the code counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// See [`code`].
    pub code: u16,
    /// For people.
    pub text: String,
}

impl ErrorReply {
    /// A refusal with the reference's words.
    pub fn new(code: u16, text: &str) -> Self {
        Self {
            code,
            text: text.to_owned(),
        }
    }
}

/// Old-style news for a listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notice {
    /// A fresh token.
    pub token: Vec<u8>,
    /// Ids of values that live longer.
    pub refreshed: Vec<ValueId>,
    /// Ids of values that are gone.
    pub expired: Vec<ValueId>,
}

/// Pieces of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The transaction of the announcing datagram.
    pub tid: u32,
    /// The network.
    pub network: u32,
    /// The sender's client flag.
    pub client: bool,
    /// The pieces; writers send one.
    pub pieces: Vec<Piece>,
}

/// A piece of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Position of the value in the announcing list.
    pub index: u32,
    /// Where in the packed value the bytes belong.
    pub offset: usize,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Packet {
    /// Reads a datagram. Bytes after the first object are ignored.
    pub fn decode(datagram: &[u8]) -> Result<Self, PacketError> {
        let (m, _) = msgpack::first(datagram, MAX_DATAGRAM + 1)?;
        let Mp::Map(_) = m else {
            return Err(PacketError::Type("datagram"));
        };
        let tid = tid(&m)?;
        let network = opt(&m, "n", uint32)?.unwrap_or(0);
        let client = opt(&m, "s", Mp::as_bool)?.unwrap_or(false);
        let agent = msgpack::get(&m, "v")
            .and_then(msgpack::bytes)
            .map(|b| String::from_utf8_lossy(b.get(..MAX_AGENT).unwrap_or(b)).into_owned())
            .unwrap_or_default();
        let head = |body: &Mp| -> Result<Head, PacketError> {
            let sender = opt(body, "id", hash)?.ok_or(PacketError::Missing("id"))?;
            if sender.0 == [0; 20] {
                return Err(PacketError::Missing("id"));
            }
            Ok(Head {
                sender,
                tid,
                network,
                client,
                agent,
            })
        };
        if let Some(e) = msgpack::get(&m, "e") {
            let r = msgpack::get(&m, "r").ok_or(PacketError::Missing("r"))?;
            let mut e = e.as_array().ok_or(PacketError::Type("e"))?.iter();
            let code = e
                .next()
                .and_then(Mp::as_u64)
                .and_then(|c| u16::try_from(c).ok())
                .ok_or(PacketError::Type("e"))?;
            let text = e
                .next()
                .and_then(msgpack::bytes)
                .map(|t| String::from_utf8_lossy(t.get(..200).unwrap_or(t)).into_owned())
                .unwrap_or_default();
            return Ok(Self::Error(head(r)?, ErrorReply { code, text }));
        }
        if let Some(r) = msgpack::get(&m, "r") {
            return Ok(Self::Reply(head(r)?, read_reply(r)?));
        }
        if let Some(p) = msgpack::get(&m, "p") {
            return Ok(Self::Part(Part {
                tid,
                network,
                client,
                pieces: read_pieces(p)?,
            }));
        }
        if let Some(u) = msgpack::get(&m, "u") {
            let notice = Notice {
                token: opt(u, "token", blob)?.unwrap_or_default(),
                refreshed: opt(u, "re", ids)?.unwrap_or_default(),
                expired: opt(u, "exp", ids)?.unwrap_or_default(),
            };
            return Ok(Self::Notice(head(u)?, notice));
        }
        if msgpack::get(&m, "y").is_some_and(|y| y.as_str() != Some("q")) {
            return Err(PacketError::Type("y"));
        }
        let a = msgpack::get(&m, "a").ok_or(PacketError::Missing("a"))?;
        let name = msgpack::get(&m, "q")
            .and_then(Mp::as_str)
            .ok_or(PacketError::Missing("q"))?;
        let request = read_request(name, a)?;
        Ok(Self::Request(head(a)?, request))
    }

    /// The datagrams to send, in order: one, and the parts of values that do not fit into it.
    pub fn encode(&self) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        let (first, head) = match self {
            Self::Request(head, request) => (write_request(head, request, &mut parts), head),
            Self::Reply(head, reply) => {
                let mut m = vec![("r", write_reply(head, reply, &mut parts))];
                m.push(("t", head.tid.into()));
                m.push(("y", "r".into()));
                tail(&mut m, head);
                (m, head)
            }
            Self::Error(head, e) => {
                let r = msgpack::map([("id", bin(&head.sender.0))]);
                let e = Mp::Array(vec![e.code.into(), e.text.as_str().into()]);
                let mut m = vec![
                    ("e", e),
                    ("r", r),
                    ("t", head.tid.into()),
                    ("y", "e".into()),
                ];
                tail(&mut m, head);
                (m, head)
            }
            Self::Notice(head, n) => {
                let mut u = vec![("id", bin(&head.sender.0)), ("token", bin(&n.token))];
                id_lists(&mut u, &n.refreshed, &n.expired);
                let mut m = vec![("u", map(u)), ("y", "r".into())];
                tail(&mut m, head);
                m.push(("t", head.tid.into()));
                (m, head)
            }
            Self::Part(p) => {
                return vec![write_part(p)];
            }
        };
        let mut out = vec![msgpack::encode(&map(first))];
        for (index, packed) in (0u32..).zip(&parts) {
            for (i, data) in packed.chunks(PART_SIZE).enumerate() {
                out.push(write_part(&Part {
                    tid: head.tid,
                    network: head.network,
                    client: head.client,
                    pieces: vec![Piece {
                        index,
                        offset: i.saturating_mul(PART_SIZE),
                        data: data.to_vec(),
                    }],
                }));
            }
        }
        out
    }

    /// The head, of all but parts.
    pub fn head(&self) -> Option<&Head> {
        match self {
            Self::Request(h, _) | Self::Reply(h, _) | Self::Error(h, _) | Self::Notice(h, _) => {
                Some(h)
            }
            Self::Part(_) => None,
        }
    }

    /// The transaction id.
    pub fn tid(&self) -> u32 {
        match self {
            Self::Part(p) => p.tid,
            other => other.head().map_or(0, |h| h.tid),
        }
    }

    /// The network id.
    pub fn network(&self) -> u32 {
        match self {
            Self::Part(p) => p.network,
            other => other.head().map_or(0, |h| h.network),
        }
    }

    /// The values of a datagram that can carry some.
    pub fn values(&self) -> Option<&Values> {
        match self {
            Self::Request(_, Request::Put { values, .. } | Request::Update { values, .. }) => {
                Some(values)
            }
            Self::Reply(_, r) => Some(&r.values),
            _ => None,
        }
    }

    /// The values of a datagram that can carry some, to complete them.
    pub fn values_mut(&mut self) -> Option<&mut Values> {
        match self {
            Self::Request(_, Request::Put { values, .. } | Request::Update { values, .. }) => {
                Some(values)
            }
            Self::Reply(_, r) => Some(&mut r.values),
            _ => None,
        }
    }
}

/// A member of a map: `None` if absent, an error if of the wrong type.
fn opt<T>(
    m: &Mp,
    key: &'static str,
    read: impl Fn(&Mp) -> Option<T>,
) -> Result<Option<T>, PacketError> {
    msgpack::get(m, key)
        .map(|v| read(v).ok_or(PacketError::Type(key)))
        .transpose()
}

fn uint32(v: &Mp) -> Option<u32> {
    v.as_u64().and_then(|n| u32::try_from(n).ok())
}

fn ids(v: &Mp) -> Option<Vec<ValueId>> {
    v.as_array()?.iter().map(Mp::as_u64).collect()
}

fn tid(m: &Mp) -> Result<u32, PacketError> {
    let t = msgpack::get(m, "t").ok_or(PacketError::Missing("t"))?;
    // Very old nodes wrote four bytes.
    uint32(t)
        .or_else(|| {
            let b = msgpack::bytes(t)?;
            Some(u32::from_be_bytes(b.try_into().ok()?))
        })
        .ok_or(PacketError::Type("t"))
}

fn want(v: &Mp) -> Option<Want> {
    let mut want = Want::default();
    for family in v.as_array()? {
        // AF_INET everywhere; AF_INET6 of Linux, Apple and Windows.
        match family.as_i64()? {
            2 => want.v4 = true,
            10 | 30 | 23 => want.v6 = true,
            _ => {}
        }
    }
    Some(want)
}

fn read_values(m: &Mp) -> Result<Values, PacketError> {
    let Some(list) = msgpack::get(m, "values") else {
        return Ok(Values::default());
    };
    let list = list.as_array().ok_or(PacketError::Type("values"))?;
    let mut out = Values::default();
    for (index, v) in (0u32..).zip(list) {
        if let Some(size) = v.as_u64() {
            if let Some(size) = usize::try_from(size).ok().filter(|s| *s <= MAX_PACKED_SIZE) {
                out.announced.insert(index, size);
            }
        } else if let Ok(value) = Value::unpack(v) {
            out.values.push(Arc::new(value));
        }
    }
    Ok(out)
}

fn read_reply(r: &Mp) -> Result<Reply, PacketError> {
    let mut list = match opt(r, "n4", blob)? {
        Some(b) => nodes::unpack_v4(&b)?,
        None => Vec::new(),
    };
    if let Some(b) = opt(r, "n6", blob)? {
        list.extend(nodes::unpack_v6(&b)?);
    }
    let seen_as = opt(r, "sa", |v| match v {
        Mp::Binary(b) => Some(address(b)),
        _ => None,
    })?
    .flatten();
    let fields = match msgpack::get(r, "fileds") {
        None => None,
        Some(f) => Some(FieldTable::from_msgpack(f).map_err(|_| PacketError::Type("fileds"))?),
    };
    Ok(Reply {
        vid: opt(r, "vid", Mp::as_u64)?,
        seen_as,
        nodes: list,
        token: opt(r, "token", blob)?,
        values: read_values(r)?,
        fields,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6: [u8; 16] = bytes.try_into().ok()?;
    Some(IpAddr::from(Ipv6Addr::from(v6)).to_canonical())
}

fn read_pieces(p: &Mp) -> Result<Vec<Piece>, PacketError> {
    p.as_map()
        .ok_or(PacketError::Type("p"))?
        .iter()
        .map(|(index, piece)| {
            Ok(Piece {
                index: uint32(index).ok_or(PacketError::Type("p"))?,
                offset: opt(piece, "o", Mp::as_u64)?
                    .and_then(|o| usize::try_from(o).ok())
                    .ok_or(PacketError::Missing("o"))?,
                data: opt(piece, "d", blob)?.ok_or(PacketError::Missing("d"))?,
            })
        })
        .collect()
}

fn read_request(name: &str, a: &Mp) -> Result<Request, PacketError> {
    let key = opt(a, "h", hash)?.filter(|k| k.0 != [0; 20]);
    let token = || Ok::<_, PacketError>(opt(a, "token", blob)?.unwrap_or_default());
    let query = || match msgpack::get(a, "q") {
        None => Ok(Query::all()),
        Some(q) => Query::from_msgpack(q).map_err(|_| PacketError::Type("q")),
    };
    Ok(match name {
        "ping" => Request::Ping,
        "find" => Request::Find {
            target: opt(a, "target", hash)?.ok_or(PacketError::Missing("target"))?,
            want: opt(a, "w", want)?,
        },
        "get" => Request::Get {
            key,
            query: query()?,
            want: opt(a, "w", want)?,
        },
        "put" => Request::Put {
            key,
            values: read_values(a)?,
            created: opt(a, "c", Mp::as_i64)?,
            token: token()?,
        },
        "refresh" => Request::Refresh {
            key,
            vid: opt(a, "vid", Mp::as_u64)?.ok_or(PacketError::Missing("vid"))?,
            token: token()?,
        },
        "listen" => Request::Listen {
            key,
            version: opt(a, "ve", uint32)?.unwrap_or(0),
            token: token()?,
            sid: opt(a, "sid", uint32)?.ok_or(PacketError::Missing("sid"))?,
            query: query()?,
        },
        "update" => Request::Update {
            sid: opt(a, "sid", uint32)?.ok_or(PacketError::Missing("sid"))?,
            key,
            version: opt(a, "ve", uint32)?.unwrap_or(0),
            token: token()?,
            values: read_values(a)?,
            created: opt(a, "c", Mp::as_i64)?,
            refreshed: opt(a, "re", ids)?.unwrap_or_default(),
            expired: opt(a, "exp", ids)?.unwrap_or_default(),
        },
        _ => return Err(PacketError::UnknownRequest),
    })
}

fn bin(bytes: &[u8]) -> Mp {
    Mp::Binary(bytes.to_vec())
}

fn map(entries: Vec<(&'static str, Mp)>) -> Mp {
    Mp::Map(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
}

fn tail(m: &mut Vec<(&'static str, Mp)>, head: &Head) {
    m.push(("v", head.agent.as_str().into()));
    if head.network != 0 {
        m.push(("n", head.network.into()));
    }
    if head.client {
        m.push(("s", true.into()));
    }
}

fn id_lists(m: &mut Vec<(&'static str, Mp)>, refreshed: &[ValueId], expired: &[ValueId]) {
    for (key, ids) in [("re", refreshed), ("exp", expired)] {
        if !ids.is_empty() {
            m.push((key, Mp::Array(ids.iter().map(|i| (*i).into()).collect())));
        }
    }
}

/// The `values` member. Values go into parts together or not at all.
fn write_values(values: &Values, parts: &mut Vec<Vec<u8>>) -> Mp {
    let packed: Vec<Vec<u8>> = values.values.iter().map(|v| v.pack()).collect();
    let size: usize = packed.iter().map(Vec::len).sum();
    if packed.len() < INLINE_COUNT && size < INLINE_SIZE {
        return Mp::Array(values.values.iter().map(|v| v.to_msgpack()).collect());
    }
    let sizes = packed.iter().map(|p| p.len().into()).collect();
    *parts = packed;
    Mp::Array(sizes)
}

fn write_reply(head: &Head, reply: &Reply, parts: &mut Vec<Vec<u8>>) -> Mp {
    let mut r = vec![("id", bin(&head.sender.0))];
    if let Some(vid) = reply.vid {
        r.push(("vid", vid.into()));
    }
    match reply.seen_as {
        Some(IpAddr::V4(ip)) => r.push(("sa", bin(&ip.octets()))),
        Some(IpAddr::V6(ip)) => r.push(("sa", bin(&ip.octets()))),
        None => {}
    }
    for (key, list) in [
        ("n4", nodes::pack_v4(&reply.nodes)),
        ("n6", nodes::pack_v6(&reply.nodes)),
    ] {
        if !list.is_empty() {
            r.push((key, Mp::Binary(list)));
        }
    }
    if let Some(token) = &reply.token {
        r.push(("token", bin(token)));
    }
    if !reply.values.values.is_empty() {
        r.push(("values", write_values(&reply.values, parts)));
    }
    if let Some(fields) = &reply.fields {
        r.push(("fileds", fields.to_msgpack()));
    }
    map(r)
}

fn write_part(p: &Part) -> Vec<u8> {
    let mut m = Vec::with_capacity(5);
    if p.network != 0 {
        m.push(("n", p.network.into()));
    }
    if p.client {
        m.push(("s", true.into()));
    }
    m.push(("y", "p".into()));
    m.push(("t", p.tid.into()));
    let pieces = p
        .pieces
        .iter()
        .map(|piece| {
            let body = msgpack::map([("o", piece.offset.into()), ("d", bin(&piece.data))]);
            (piece.index.into(), body)
        })
        .collect();
    m.push(("p", Mp::Map(pieces)));
    msgpack::encode(&map(m))
}

fn write_want(a: &mut Vec<(&'static str, Mp)>, want: Option<Want>) {
    if let Some(w) = want {
        let mut families: Vec<Mp> = Vec::new();
        if w.v4 {
            families.push(2.into());
        }
        if w.v6 {
            families.push(10.into());
        }
        a.push(("w", Mp::Array(families)));
    }
}

fn write_request(
    head: &Head,
    request: &Request,
    parts: &mut Vec<Vec<u8>>,
) -> Vec<(&'static str, Mp)> {
    let mut a = vec![("id", bin(&head.sender.0))];
    let mut notice = false;
    let key = |a: &mut Vec<(&'static str, Mp)>, key: &Option<InfoHash>| {
        if let Some(k) = key {
            a.push(("h", bin(&k.0)));
        }
    };
    let query = |a: &mut Vec<(&'static str, Mp)>, q: &Query| {
        if !q.is_all() {
            a.push(("q", q.to_msgpack()));
        }
    };
    match request {
        Request::Ping => {}
        Request::Find { target, want } => {
            a.push(("target", bin(&target.0)));
            write_want(&mut a, *want);
        }
        Request::Get {
            key: k,
            query: q,
            want,
        } => {
            key(&mut a, k);
            query(&mut a, q);
            write_want(&mut a, *want);
        }
        Request::Put {
            key: k,
            values,
            created,
            token,
        } => {
            key(&mut a, k);
            a.push(("values", write_values(values, parts)));
            if let Some(c) = created {
                a.push(("c", (*c).into()));
            }
            a.push(("token", bin(token)));
        }
        Request::Refresh { key: k, vid, token } => {
            key(&mut a, k);
            a.push(("vid", (*vid).into()));
            a.push(("token", bin(token)));
        }
        Request::Listen {
            key: k,
            version,
            token,
            sid,
            query: q,
        } => {
            if *version != 0 {
                a.push(("ve", (*version).into()));
            }
            key(&mut a, k);
            a.push(("token", bin(token)));
            a.push(("sid", (*sid).into()));
            query(&mut a, q);
        }
        Request::Update {
            sid,
            key: k,
            version,
            token,
            values,
            created,
            refreshed,
            expired,
        } => {
            notice = values.values.is_empty();
            if !notice && *version != 0 {
                a.push(("ve", (*version).into()));
            }
            if !notice {
                key(&mut a, k);
            }
            a.push(("sid", (*sid).into()));
            if !notice {
                a.push(("values", write_values(values, parts)));
            }
            if let Some(c) = created {
                a.push(("c", (*c).into()));
            }
            a.push(("token", bin(token)));
            id_lists(&mut a, refreshed, expired);
        }
    }
    let mut m = vec![("a", map(a))];
    if notice {
        // The reference writes these in another order, for no reader's sake.
        m.push(("y", "q".into()));
        tail(&mut m, head);
        m.push(("q", request.name().into()));
        m.push(("t", head.tid.into()));
    } else {
        m.push(("q", request.name().into()));
        m.push(("t", head.tid.into()));
        m.push(("y", "q".into()));
        tail(&mut m, head);
    }
    m
}
