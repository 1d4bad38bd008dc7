//! The distributed routing table of a swarm: the messages on a `swarm://`
//! channel, and the answers that keep current daemons connected to us.

use crate::id::DeviceId;
use crate::msgpack::{self, MsgpackError, Value};

/// The version we speak (`swarm_protocol.h` of the reference: 3 since 2026-07).
pub const VERSION: u64 = 3;

/// How many nodes a FIND asks for (`swarm_manager.cpp` of the reference).
pub const FIND_NODES: u64 = 2;

/// Longest message that is read, in bytes: certificates of up to 256 KiB in all, and some.
pub const MAX_MESSAGE: usize = 320 * 1024;

/// Most node ids that are taken from one answer.
pub const MAX_NODES: usize = 64;

/// A message between neighbours. Fields that we do not use yet (leases of mobile
/// devices, certificates) are read over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The sender's version.
    pub version: u64,
    /// Whether the sender is a mobile device.
    pub is_mobile: bool,
    /// FIND: "which nodes do you know near this one, at most so many?"
    pub find: Option<(DeviceId, u64)>,
    /// FOUND: nodes near the one asked for.
    pub found: Option<Vec<DeviceId>>,
}

impl Message {
    /// FIND.
    pub fn find(near: DeviceId) -> Self {
        Self {
            version: VERSION,
            find: Some((near, FIND_NODES)),
            ..Self::default()
        }
    }

    /// FOUND.
    pub fn found(nodes: Vec<DeviceId>) -> Self {
        Self {
            version: VERSION,
            found: Some(nodes),
            ..Self::default()
        }
    }

    /// Bytes on the channel.
    pub fn encode(&self) -> Vec<u8> {
        let id = |d: &DeviceId| Value::Binary(d.0.to_vec());
        let request = self.find.map_or(Value::Nil, |(near, num)| {
            msgpack::map([
                ("q", Value::from(1)),
                ("num", Value::from(num)),
                ("nodeId", id(&near)),
            ])
        });
        let response = self.found.as_ref().map_or(Value::Nil, |nodes| {
            msgpack::map([
                ("q", Value::from(2)),
                ("nodes", Value::Array(nodes.iter().map(id).collect())),
                ("mobile_nodes", Value::Array(Vec::new())),
                ("mobile_node_infos", Value::Array(Vec::new())),
            ])
        });
        msgpack::encode(&msgpack::map([
            ("v", Value::from(self.version)),
            ("is_mobile", Value::from(self.is_mobile)),
            ("self_mobile_info", Value::Nil),
            ("request", request),
            ("response", response),
            ("cert_request", Value::Nil),
            ("cert_response", Value::Nil),
        ]))
    }

    /// The first message of a channel's bytes and its length; `None` while it is not complete.
    pub fn first(bytes: &[u8]) -> Result<Option<(usize, Self)>, MsgpackError> {
        let (value, len) = match msgpack::first(bytes, MAX_MESSAGE) {
            Err(MsgpackError::Incomplete) => return Ok(None),
            other => other?,
        };
        let id = |v: &Value| DeviceId::from_slice(msgpack::bytes(v)?);
        let request = msgpack::get(&value, "request");
        let find = request
            .filter(|r| msgpack::get(r, "q").and_then(Value::as_u64) == Some(1))
            .and_then(|r| {
                let num = msgpack::get(r, "num")
                    .and_then(Value::as_u64)
                    .unwrap_or(FIND_NODES);
                Some((id(msgpack::get(r, "nodeId")?)?, num))
            });
        let response = msgpack::get(&value, "response");
        let found = response
            .filter(|r| msgpack::get(r, "q").and_then(Value::as_u64) == Some(2))
            .map(|r| {
                let nodes = msgpack::get(r, "nodes")
                    .and_then(Value::as_array)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                nodes.iter().filter_map(id).take(MAX_NODES).collect()
            });
        Ok(Some((
            len,
            Self {
                version: msgpack::get(&value, "v")
                    .and_then(Value::as_u64)
                    .unwrap_or(0),
                is_mobile: msgpack::get(&value, "is_mobile")
                    .and_then(Value::as_bool)
                    .unwrap_or(false),
                find,
                found,
            },
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_real_daemon_are_read_and_written_alike() {
        let frames: Vec<String> =
            serde_json::from_str(include_str!("../../tests/data/notice/swarm-frames.json"))
                .unwrap();
        let (mut finds, mut founds) = (0, 0);
        for hex in &frames {
            let bytes = hex::decode(hex).unwrap();
            let (len, m) = Message::first(&bytes).unwrap().unwrap();
            assert_eq!(len, bytes.len());
            assert_eq!(m.version, VERSION);
            if m.find.is_some() {
                assert_eq!(m.encode(), bytes);
                finds += 1;
            }
            founds += usize::from(m.found.is_some());
        }
        assert!(finds > 0 && founds > 0, "{finds} {founds}");
    }

    #[test]
    fn an_answer_is_read_back_and_pieces_wait() {
        let m = Message::found(vec![DeviceId([1; 32]), DeviceId([2; 32])]);
        let bytes = m.encode();
        assert_eq!(Message::first(&bytes), Ok(Some((bytes.len(), m))));
        for cut in 0..bytes.len() {
            assert_eq!(Message::first(&bytes[..cut]), Ok(None));
        }
    }
}
