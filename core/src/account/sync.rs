//! What the devices of one account tell each other on a `sync://` channel.

use super::contact::{Contact, contacts_from_msgpack, contacts_to_msgpack};
use super::conversation::{
    ConvInfo, MODE_DOCUMENT, conversations_from_msgpack, conversations_to_msgpack,
};
use super::fields::{self, RecordError};
use super::request::{ConversationRequest, requests_from_msgpack, requests_to_msgpack};
use super::trust::PendingTrustRequest;
use crate::id::{AccountId, ConversationId, DeviceId, DeviceShortId, ObjectId};
use crate::msgpack::{self, MsgpackError, Value};
use std::collections::BTreeMap;

/// Longest sync message that is read, in bytes. Our own limit: a message of the reference
/// holds all records of one kind, of which thousands fit.
pub const MAX_SYNC_LEN: usize = 8 * 1024 * 1024;

/// Most contact requests in one message, as in the reference (`MAX_TRUST_REQUESTS`: 20).
pub const MAX_SYNC_TRUST_REQUESTS: usize = 20;

/// One message: an array of six maps, of which usually one is filled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncMessage {
    /// Devices, contacts, contact requests.
    pub devices: DeviceSync,
    /// Conversations.
    pub conversations: BTreeMap<ConversationId, ConvInfo>,
    /// Invitations.
    pub requests: BTreeMap<ConversationId, ConversationRequest>,
    /// Preferences of each conversation, with `lastModified` in unix seconds among them.
    pub preferences: BTreeMap<ConversationId, BTreeMap<String, String>>,
    /// What the members of each conversation fetched and read.
    pub statuses: BTreeMap<ConversationId, BTreeMap<AccountId, MemberStatus>>,
}

/// The first part of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceSync {
    /// When it was made: **nanoseconds** since 1970. 0 in messages about something else.
    pub date_ns: u64,
    /// The devices and their names; the short id where an old writer gives it.
    pub devices: BTreeMap<DeviceId, (String, Option<DeviceShortId>)>,
    /// Contacts.
    pub contacts: BTreeMap<AccountId, Contact>,
    /// Contact requests that wait, without their profiles.
    pub trust_requests: BTreeMap<AccountId, PendingTrustRequest>,
}

/// How far a member got in a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemberStatus {
    /// The last commit that a device of theirs has.
    pub fetched: Option<ObjectId>,
    /// Since when, unix seconds; 0 when unknown.
    pub fetched_at: u64,
    /// The last message they read.
    pub read: Option<ObjectId>,
    /// Since when, unix seconds; 0 when unknown.
    pub read_at: u64,
}

impl MemberStatus {
    /// Takes over what another device of ours knows: each pair when the commit differs and is
    /// not older. False when nothing changes.
    pub fn merge(&mut self, theirs: &Self) -> bool {
        let mut changed = false;
        if theirs.fetched.is_some()
            && theirs.fetched != self.fetched
            && theirs.fetched_at >= self.fetched_at
        {
            self.fetched = theirs.fetched;
            self.fetched_at = theirs.fetched_at;
            changed = true;
        }
        if theirs.read.is_some() && theirs.read != self.read && theirs.read_at >= self.read_at {
            self.read = theirs.read;
            self.read_at = theirs.read_at;
            changed = true;
        }
        changed
    }

    fn from_msgpack(record: &Value) -> Option<Self> {
        record.as_map()?;
        // Written as decimal text.
        let seconds = |key: &str| fields::text(record, key).parse().unwrap_or(0);
        Some(Self {
            fetched: fields::id(record, "fetched"),
            fetched_at: seconds("fetched_ts"),
            read: fields::id(record, "read"),
            read_at: seconds("read_ts"),
        })
    }

    fn to_msgpack(&self) -> Value {
        let mut out = BTreeMap::new();
        out.insert("fetched".to_owned(), fields::id_text(self.fetched.as_ref()));
        out.insert("read".to_owned(), fields::id_text(self.read.as_ref()));
        if self.fetched_at != 0 {
            out.insert("fetched_ts".to_owned(), self.fetched_at.to_string());
        }
        if self.read_at != 0 {
            out.insert("read_ts".to_owned(), self.read_at.to_string());
        }
        fields::texts_value(&out)
    }
}

impl SyncMessage {
    /// The first message of a stream and its length in bytes.
    ///
    /// # Errors
    /// `Msgpack(Incomplete)` asks for more bytes; anything else ends the channel.
    pub fn first(stream: &[u8]) -> Result<(Self, usize), RecordError> {
        let (value, len) = msgpack::first(stream, MAX_SYNC_LEN)?;
        Ok((Self::from_msgpack(&value)?, len))
    }

    /// Exactly one message.
    ///
    /// # Errors
    /// The reason why it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match Self::first(bytes)? {
            (message, len) if len == bytes.len() => Ok(message),
            (_, len) => Err(MsgpackError::TrailingBytes(bytes.len().saturating_sub(len)).into()),
        }
    }

    fn from_msgpack(value: &Value) -> Result<Self, RecordError> {
        let parts = value
            .as_array()
            .filter(|a| !a.is_empty())
            .ok_or(RecordError::Expected("an array of maps"))?;
        let empty = Value::Map(Vec::new());
        let part = |n: usize| parts.get(n).unwrap_or(&empty);
        let mut conversations = conversations_from_msgpack(part(1))?;
        conversations.retain(|_, info| info.mode != MODE_DOCUMENT);
        Ok(Self {
            devices: DeviceSync::from_msgpack(part(0))?,
            conversations,
            requests: requests_from_msgpack(part(2))?,
            preferences: fields::entries(part(3), fields::text_key::<ConversationId>, |p| {
                Some(fields::texts(Some(p)))
            })?,
            statuses: fields::entries(part(5), fields::text_key::<ConversationId>, |members| {
                fields::entries(
                    members,
                    fields::text_key::<AccountId>,
                    MemberStatus::from_msgpack,
                )
                .ok()
            })?,
        })
    }

    /// Writes one message, in the newest form, which older readers understand.
    pub fn encode(&self) -> Vec<u8> {
        let conversations = self
            .conversations
            .iter()
            .filter(|(_, i)| i.mode != MODE_DOCUMENT)
            .map(|(id, i)| (*id, i.clone()))
            .collect();
        let preferences = self
            .preferences
            .iter()
            .map(|(id, p)| (Value::from(id.to_hex()), fields::texts_value(p)));
        let statuses = self.statuses.iter().map(|(id, members)| {
            let members = members
                .iter()
                .map(|(m, s)| (Value::from(m.to_hex()), s.to_msgpack()));
            (Value::from(id.to_hex()), Value::Map(members.collect()))
        });
        msgpack::encode(&Value::Array(vec![
            self.devices.to_msgpack(),
            conversations_to_msgpack(&conversations),
            requests_to_msgpack(&self.requests),
            Value::Map(preferences.collect()),
            Value::Map(Vec::new()),
            Value::Map(statuses.collect()),
        ]))
    }
}

impl DeviceSync {
    fn from_msgpack(map: &Value) -> Result<Self, RecordError> {
        let empty = Value::Map(Vec::new());
        let part = |key: &str| msgpack::get(map, key).unwrap_or(&empty);
        if map.as_map().is_none() {
            return Err(RecordError::Expected("a map"));
        }
        let mut trust_requests = fields::entries(
            part("trust_requests"),
            fields::account_key,
            PendingTrustRequest::from_msgpack,
        )?;
        while trust_requests.len() > MAX_SYNC_TRUST_REQUESTS {
            trust_requests.pop_last();
        }
        Ok(Self {
            date_ns: fields::number(map, "date"),
            devices: fields::entries(
                part("devices"),
                |key| DeviceId::from_slice(msgpack::bytes(key)?),
                |device| {
                    let short = msgpack::get(device, "sha1").and_then(msgpack::bytes);
                    let short = short.and_then(DeviceShortId::from_slice);
                    Some((fields::text(device, "name"), short))
                },
            )?,
            contacts: contacts_from_msgpack(part("peers"))?,
            trust_requests,
        })
    }

    fn to_msgpack(&self) -> Value {
        let devices = self.devices.iter().map(|(id, (name, short))| {
            let mut record = vec![(Value::from("name"), Value::from(name.as_str()))];
            if let Some(short) = short {
                record.push((Value::from("sha1"), Value::Binary(short.0.to_vec())));
            }
            (Value::Binary(id.0.to_vec()), Value::Map(record))
        });
        let requests = self
            .trust_requests
            .iter()
            .take(MAX_SYNC_TRUST_REQUESTS)
            .map(|(id, r)| (Value::Binary(id.0.to_vec()), r.to_msgpack(false)));
        msgpack::map([
            ("date", Value::from(self.date_ns)),
            ("device_name", Value::from("")),
            ("devices", Value::Map(devices.collect())),
            ("peers", contacts_to_msgpack(&self.contacts)),
            ("trust_requests", Value::Map(requests.collect())),
        ])
    }
}
