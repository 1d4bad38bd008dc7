//! The messages on a `swarm://` channel: msgpack maps, one after another.
//!
//! Versions 1 to 3 are one format with more and more fields. What is absent, of another type
//! or beyond a bound is read as if it were not there; unknown fields are read over.

use super::lease::Lease;
use super::{
    FIND_NODES, MAX_CERTIFICATE, MAX_CERTIFICATE_IDS, MAX_CERTIFICATES, MAX_INFOS, MAX_MESSAGE,
    MAX_NODES, VERSION,
};
use crate::id::DeviceId;
use crate::msgpack::{self, MsgpackError, Value};

/// FIND, as it is numbered (`Query` in `swarm_protocol.h` of the reference).
const FIND: u64 = 1;

/// FOUND.
const FOUND: u64 = 2;

/// A mobile device, and the lease that says that it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MobileInfo {
    /// The device.
    pub id: DeviceId,
    /// Its own word for it; missing in versions 1 and 2.
    pub lease: Option<Lease>,
}

/// The answer to FIND.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Nodes near the one asked for, to which the answerer is connected.
    pub nodes: Vec<DeviceId>,
    /// Mobile devices there, asleep as a rule.
    pub mobile: Vec<DeviceId>,
    /// The same with their leases.
    pub infos: Vec<MobileInfo>,
}

/// A message between neighbours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The sender's version.
    pub version: u64,
    /// Whether the sender is a mobile device.
    pub is_mobile: bool,
    /// The sender's own lease.
    pub self_mobile: Option<MobileInfo>,
    /// FIND: "which nodes do you know near this one, at most so many?"
    pub find: Option<(DeviceId, u64)>,
    /// FOUND: nodes near the one asked for.
    pub found: Option<Found>,
    /// "I need the certificates of these devices, whose leases you gave me."
    pub certificates_wanted: Option<Vec<DeviceId>>,
    /// Chains in DER, leaf first, one after another without anything between.
    pub certificates: Option<Vec<Vec<u8>>>,
}

impl Message {
    /// A message that says nothing yet.
    pub fn new() -> Self {
        Self {
            version: VERSION,
            ..Self::default()
        }
    }

    /// FIND.
    pub fn find(near: DeviceId) -> Self {
        Self {
            find: Some((near, FIND_NODES)),
            ..Self::new()
        }
    }

    /// FOUND.
    pub fn found(found: Found) -> Self {
        Self {
            found: Some(found),
            ..Self::new()
        }
    }

    /// Bytes on the channel.
    pub fn encode(&self) -> Vec<u8> {
        let request = self.find.map_or(Value::Nil, |(near, num)| {
            msgpack::map([
                ("q", Value::from(FIND)),
                ("num", Value::from(num)),
                ("nodeId", id_value(&near)),
            ])
        });
        let response = self.found.as_ref().map_or(Value::Nil, |found| {
            msgpack::map([
                ("q", Value::from(FOUND)),
                ("nodes", ids_value(&found.nodes)),
                ("mobile_nodes", ids_value(&found.mobile)),
                (
                    "mobile_node_infos",
                    Value::Array(found.infos.iter().map(info_value).collect()),
                ),
            ])
        });
        let wanted = self.certificates_wanted.as_ref();
        let given = self.certificates.as_ref();
        msgpack::encode(&msgpack::map([
            ("v", Value::from(self.version)),
            ("is_mobile", Value::from(self.is_mobile)),
            (
                "self_mobile_info",
                self.self_mobile.as_ref().map_or(Value::Nil, info_value),
            ),
            ("request", request),
            ("response", response),
            (
                "cert_request",
                wanted.map_or(Value::Nil, |ids| msgpack::map([("ids", ids_value(ids))])),
            ),
            (
                "cert_response",
                given.map_or(Value::Nil, |list| {
                    let list = list.iter().cloned().map(Value::Binary).collect();
                    msgpack::map([("certificates", Value::Array(list))])
                }),
            ),
        ]))
    }

    /// The first message of a channel's bytes and its length; `None` while it is not complete.
    ///
    /// # Errors
    /// What comes is no msgpack, or too long: the channel is of no use any more.
    pub fn first(bytes: &[u8]) -> Result<Option<(usize, Self)>, MsgpackError> {
        let (value, len) = match msgpack::first(bytes, MAX_MESSAGE) {
            Err(MsgpackError::Incomplete) => return Ok(None),
            other => other?,
        };
        Ok(Some((len, Self::read(&value))))
    }

    fn read(value: &Value) -> Self {
        let query = |key: &str, q: u64| {
            msgpack::get(value, key)
                .filter(|r| msgpack::get(r, "q").and_then(Value::as_u64) == Some(q))
        };
        let find = query("request", FIND).and_then(|r| {
            let num = msgpack::get(r, "num").and_then(Value::as_u64);
            let near = read_id(msgpack::get(r, "nodeId")?)?;
            Some((near, num.unwrap_or(FIND_NODES)))
        });
        let found = query("response", FOUND).map(|r| Found {
            nodes: read_ids(r, "nodes", MAX_NODES),
            mobile: read_ids(r, "mobile_nodes", MAX_INFOS),
            infos: list(r, "mobile_node_infos", MAX_INFOS)
                .filter_map(read_info)
                .collect(),
        });
        let part = |key: &str| msgpack::get(value, key).filter(|v| v.is_map());
        Self {
            version: msgpack::get(value, "v")
                .and_then(Value::as_u64)
                .unwrap_or(0),
            is_mobile: msgpack::get(value, "is_mobile")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            self_mobile: msgpack::get(value, "self_mobile_info").and_then(read_info),
            find,
            found,
            certificates_wanted: part("cert_request")
                .map(|r| read_ids(r, "ids", MAX_CERTIFICATE_IDS)),
            certificates: part("cert_response").map(read_certificates),
        }
    }
}

fn id_value(id: &DeviceId) -> Value {
    Value::Binary(id.0.to_vec())
}

fn ids_value(ids: &[DeviceId]) -> Value {
    Value::Array(ids.iter().map(id_value).collect())
}

fn info_value(info: &MobileInfo) -> Value {
    msgpack::map([
        ("id", id_value(&info.id)),
        (
            "lease",
            info.lease.as_ref().map_or(Value::Nil, Lease::to_msgpack),
        ),
    ])
}

fn read_id(value: &Value) -> Option<DeviceId> {
    DeviceId::from_slice(msgpack::bytes(value)?)
}

/// The first elements of an array in a map.
fn list<'a>(map: &'a Value, key: &str, max: usize) -> impl Iterator<Item = &'a Value> {
    msgpack::get(map, key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .take(max)
}

fn read_ids(map: &Value, key: &str, max: usize) -> Vec<DeviceId> {
    list(map, key, max).filter_map(read_id).collect()
}

/// A lease that cannot be read is no missing lease: the whole is passed over.
fn read_info(value: &Value) -> Option<MobileInfo> {
    let id = read_id(msgpack::get(value, "id")?)?;
    let lease = match msgpack::get(value, "lease") {
        None | Some(Value::Nil) => None,
        Some(lease) => Some(Lease::from_msgpack(lease)?),
    };
    Some(MobileInfo { id, lease })
}

/// Up to the first one that breaks a bound, as the reference reads them.
fn read_certificates(map: &Value) -> Vec<Vec<u8>> {
    let mut total = 0usize;
    list(map, "certificates", MAX_CERTIFICATE_IDS)
        .map_while(|v| {
            let bytes = msgpack::bytes(v)?;
            total = total.saturating_add(bytes.len());
            let fits =
                !bytes.is_empty() && bytes.len() <= MAX_CERTIFICATE && total <= MAX_CERTIFICATES;
            fits.then(|| bytes.to_vec())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AccountId, ConversationId};
    use proptest::prelude::*;

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
            assert_eq!(m.encode(), bytes);
            finds += usize::from(m.find.is_some());
            founds += usize::from(m.found.is_some());
        }
        assert!(finds > 0 && founds > 0, "{finds} {founds}");
    }

    /// Version 1 had fewer fields, version 2 put certificates where version 3 has leases.
    #[test]
    fn older_versions_are_read() {
        let id = DeviceId([9; 32]);
        let v1 = msgpack::encode(&msgpack::map([
            ("v", Value::from(1)),
            ("is_mobile", Value::from(true)),
            (
                "response",
                msgpack::map([
                    ("q", Value::from(2)),
                    ("nodes", ids_value(&[id])),
                    ("mobile_nodes", ids_value(&[id])),
                ]),
            ),
        ]));
        let (_, m) = Message::first(&v1).unwrap().unwrap();
        assert!(m.is_mobile && m.version == 1 && m.find.is_none());
        let found = m.found.unwrap();
        assert_eq!((found.nodes, found.mobile), (vec![id], vec![id]));
        let v2 = msgpack::encode(&msgpack::map([
            ("v", Value::from(2)),
            (
                "response",
                msgpack::map([
                    ("q", Value::from(2)),
                    (
                        "mobile_node_infos",
                        Value::Array(vec![msgpack::map([
                            ("id", id_value(&id)),
                            ("certificate", Value::Binary(vec![1; 900])),
                        ])]),
                    ),
                ]),
            ),
        ]));
        let (_, m) = Message::first(&v2).unwrap().unwrap();
        assert_eq!(m.found.unwrap().infos, [MobileInfo { id, lease: None }]);
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let many: Vec<DeviceId> = (0..=255).map(|n| DeviceId([n; 32])).collect();
        let mut m = Message::found(Found {
            nodes: many.clone(),
            mobile: many.clone(),
            infos: many
                .iter()
                .map(|id| MobileInfo {
                    id: *id,
                    lease: None,
                })
                .collect(),
        });
        m.certificates_wanted = Some(many);
        m.certificates = Some(vec![
            vec![1; MAX_CERTIFICATE],
            vec![2; MAX_CERTIFICATE + 1],
            vec![3],
        ]);
        let bytes = m.encode();
        let (_, m) = Message::first(&bytes).unwrap().unwrap();
        let found = m.found.unwrap();
        assert_eq!(
            (found.nodes.len(), found.mobile.len(), found.infos.len()),
            (MAX_NODES, MAX_INFOS, MAX_INFOS)
        );
        assert_eq!(m.certificates_wanted.unwrap().len(), MAX_CERTIFICATE_IDS);
        assert_eq!(m.certificates.unwrap(), [vec![1; MAX_CERTIFICATE]]);
        let long = msgpack::encode(&Value::Binary(vec![0; MAX_MESSAGE]));
        assert_eq!(
            Message::first(&long),
            Err(MsgpackError::TooLong(MAX_MESSAGE))
        );
    }

    fn device() -> impl Strategy<Value = DeviceId> {
        any::<[u8; 32]>().prop_map(DeviceId)
    }

    fn info() -> impl Strategy<Value = MobileInfo> {
        let lease = (
            any::<[u8; 20]>(),
            any::<[u8; 20]>(),
            any::<u32>(),
            any::<u32>(),
            1usize..600,
        );
        (device(), proptest::option::of(lease)).prop_map(|(id, lease)| MobileInfo {
            id,
            lease: lease.map(|(c, a, issued, expires, len)| Lease {
                conversation: ConversationId(c),
                issuer: AccountId(a),
                device: id,
                issued: u64::from(issued),
                expires: u64::from(expires),
                signature: vec![7; len],
            }),
        })
    }

    proptest! {
        #[test]
        fn a_message_survives_and_pieces_wait(
            version in 1u64..5,
            is_mobile: bool,
            self_mobile in proptest::option::of(info()),
            find in proptest::option::of((device(), 0u64..100)),
            found in proptest::option::of((
                proptest::collection::vec(device(), 0..5),
                proptest::collection::vec(device(), 0..5),
                proptest::collection::vec(info(), 0..3),
            )),
            wanted in proptest::option::of(proptest::collection::vec(device(), 0..5)),
            given in proptest::option::of(proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 1..50), 0..4)),
            cut in any::<prop::sample::Index>(),
        ) {
            let message = Message {
                version,
                is_mobile,
                self_mobile,
                find,
                found: found.map(|(nodes, mobile, infos)| Found { nodes, mobile, infos }),
                certificates_wanted: wanted,
                certificates: given,
            };
            let bytes = message.encode();
            prop_assert_eq!(Message::first(&bytes[..cut.index(bytes.len())]), Ok(None));
            prop_assert_eq!(Message::first(&bytes), Ok(Some((bytes.len(), message))));
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::first(&bytes);
        }
    }
}
