//! The other devices of the account.

use super::fields::{self, RecordError};
use crate::id::DeviceId;
use crate::msgpack::{self, Value};
use std::collections::BTreeMap;

/// A device of the own account.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KnownDevice {
    /// The name its owner gave it.
    pub name: String,
    /// When it was in step with us last. The reference writes "never" as a large negative
    /// number; here it is 0.
    pub sync_ms: u64,
}

/// Reads the `knownDevices` file of either generation.
///
/// # Errors
/// The file is no map of records. Records that cannot be understood are left out.
pub fn decode_known_devices(file: &[u8]) -> Result<BTreeMap<DeviceId, KnownDevice>, RecordError> {
    /// Later than this many seconds is no time but a negative number in disguise.
    const WRAPPED: u64 = 1 << 40;
    fields::entries(
        &msgpack::decode(file, fields::MAX_FILE_LEN)?,
        |key| DeviceId::from_slice(msgpack::bytes(key)?),
        |record| match record {
            Value::Array(pair) => {
                let seconds = pair.get(1).and_then(Value::as_u64).unwrap_or(0);
                Some(KnownDevice {
                    name: pair.first()?.as_str()?.to_owned(),
                    sync_ms: if seconds < WRAPPED {
                        seconds.saturating_mul(1000)
                    } else {
                        0
                    },
                })
            }
            Value::Map(_) => Some(KnownDevice {
                name: fields::text(record, "name"),
                sync_ms: fields::number(record, "syncMs"),
            }),
            _ => None,
        },
    )
}

/// Writes the `knownDevices` file in its newest form.
pub fn encode_known_devices(devices: &BTreeMap<DeviceId, KnownDevice>) -> Vec<u8> {
    msgpack::encode(&Value::Map(
        devices
            .iter()
            .map(|(id, d)| {
                let record = msgpack::map([
                    ("name", Value::from(d.name.as_str())),
                    ("syncMs", Value::from(d.sync_ms)),
                ]);
                (Value::Binary(id.0.to_vec()), record)
            })
            .collect(),
    ))
}
