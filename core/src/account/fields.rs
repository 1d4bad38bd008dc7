//! Fields of records, read without trusting their kind.

use crate::id::AccountId;
use crate::msgpack::{self, MsgpackError, Value};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// Largest file of records that is read, in bytes. Our own limit: thousands of contacts
/// with pictures waiting for an answer stay below it.
pub const MAX_FILE_LEN: usize = 16 * 1024 * 1024;

/// Why bytes are not a set of records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not readable msgpack, or too much of it.
    #[error(transparent)]
    Msgpack(#[from] MsgpackError),
    /// Something else than a map or an array of maps, as it should be.
    #[error("expected {0}")]
    Expected(&'static str),
}

/// A whole number; 0 when it is missing, negative or something else.
pub(super) fn number(record: &Value, key: &str) -> u64 {
    msgpack::get(record, key)
        .and_then(Value::as_u64)
        .unwrap_or(0)
}

/// A time in milliseconds from its two forms. A time that has only seconds is rounded down.
pub(super) fn time(record: &Value, seconds: &str, milliseconds: &str) -> u64 {
    match number(record, milliseconds) {
        0 => number(record, seconds).saturating_mul(1000),
        ms => ms,
    }
}

/// A truth value; false when it is missing.
pub(super) fn flag(record: &Value, key: &str) -> bool {
    msgpack::get(record, key).and_then(Value::as_bool) == Some(true)
}

/// A text; empty when it is missing.
pub(super) fn text(record: &Value, key: &str) -> String {
    msgpack::get(record, key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// An identifier written as text.
pub(super) fn id<T: core::str::FromStr>(record: &Value, key: &str) -> Option<T> {
    msgpack::get(record, key)?.as_str()?.parse().ok()
}

/// A map of texts.
pub(super) fn texts(record: Option<&Value>) -> BTreeMap<String, String> {
    record
        .and_then(Value::as_map)
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.as_str()?.to_owned(), v.as_str()?.to_owned())))
        .collect()
}

/// The text of an optional identifier, empty for none.
pub(super) fn id_text<T: core::fmt::Display>(id: Option<&T>) -> String {
    id.map(T::to_string).unwrap_or_default()
}

/// Writes a map of texts.
pub(super) fn texts_value(texts: &BTreeMap<String, String>) -> Value {
    Value::Map(
        texts
            .iter()
            .map(|(k, v)| (Value::from(k.as_str()), Value::from(v.as_str())))
            .collect(),
    )
}

/// Entries of a map from ids to records. Entries that cannot be understood are left out: a
/// newer writer may know what we do not.
pub(super) fn entries<K: Ord, V>(
    map: &Value,
    key: impl Fn(&Value) -> Option<K>,
    value: impl Fn(&Value) -> Option<V>,
) -> Result<BTreeMap<K, V>, RecordError> {
    Ok(map
        .as_map()
        .ok_or(RecordError::Expected("a map"))?
        .iter()
        .filter_map(|(k, v)| Some((key(k)?, value(v)?)))
        .collect())
}

/// A map key that is a Jami ID of 20 bytes.
pub(super) fn account_key(key: &Value) -> Option<AccountId> {
    AccountId::from_slice(msgpack::bytes(key)?)
}

/// A map key that is an identifier in text.
pub(super) fn text_key<T: core::str::FromStr>(key: &Value) -> Option<T> {
    key.as_str()?.parse().ok()
}

// The same for the JSON of archives.

/// A whole number; 0 when it is missing, negative or something else.
pub(super) fn json_number(record: &Json, key: &str) -> u64 {
    record.get(key).and_then(Json::as_u64).unwrap_or(0)
}

/// A time in milliseconds from its two forms.
pub(super) fn json_time(record: &Json, seconds: &str, milliseconds: &str) -> u64 {
    match json_number(record, milliseconds) {
        0 => json_number(record, seconds).saturating_mul(1000),
        ms => ms,
    }
}

/// An identifier written as text.
pub(super) fn json_id<T: core::str::FromStr>(record: &Json, key: &str) -> Option<T> {
    record.get(key)?.as_str()?.parse().ok()
}

/// Writes a time in its two forms, or nothing when it never was.
pub(super) fn put_json_time(
    record: &mut Map<String, Json>,
    seconds: &str,
    milliseconds: &str,
    ms: u64,
) {
    if ms != 0 {
        record.insert(seconds.to_owned(), Json::from(ms / 1000));
        record.insert(milliseconds.to_owned(), Json::from(ms));
    }
}

/// `Serialize` and `Deserialize` in the form that archives have.
macro_rules! serde_as_json {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                self.to_json().serialize(s)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::from_json(&serde_json::Value::deserialize(d)?).ok_or_else(|| {
                    serde::de::Error::custom(concat!("not a record of kind ", stringify!($name)))
                })
            }
        }
    };
}
pub(super) use serde_as_json;
