//! Contacts: who may reach us, and how two devices agree on it.

use super::fields::{self, RecordError, serde_as_json};
use crate::id::{AccountId, ConversationId};
use crate::msgpack::{self, Value};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// What an account remembers of another one. Nothing is ever deleted, there are only newer
/// states: a device that was away must learn of a removal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contact {
    /// When they were added last.
    pub added_ms: u64,
    /// When they were removed or blocked last.
    pub removed_ms: u64,
    /// Whether they accepted us.
    pub confirmed: bool,
    /// Whether the removal was a block.
    pub banned: bool,
    /// The one-to-one conversation.
    pub conversation: Option<ConversationId>,
}

impl Contact {
    /// Whether they are a contact now.
    pub fn is_active(&self) -> bool {
        self.added_ms > self.removed_ms
    }

    /// Whether they are blocked.
    pub fn is_blocked(&self) -> bool {
        !self.is_active() && self.banned
    }

    /// Adds, accepts or unblocks them. False when nothing changes.
    pub fn add(
        &mut self,
        now_ms: u64,
        conversation: Option<ConversationId>,
        confirmed: bool,
    ) -> bool {
        let conversation = conversation.or(self.conversation);
        if self.is_active()
            && self.confirmed == (self.confirmed || confirmed)
            && self.conversation == conversation
        {
            return false;
        }
        *self = Self {
            // Later than what is undone here, also in the same millisecond or under a
            // clock that was set back.
            added_ms: now_ms.max(self.removed_ms.saturating_add(1)),
            removed_ms: 0,
            confirmed: (self.is_active() && self.confirmed) || confirmed,
            banned: false,
            conversation,
        };
        true
    }

    /// Removes them, or blocks them: then the conversation stays known. False when nothing changes.
    pub fn remove(&mut self, now_ms: u64, block: bool) -> bool {
        if !self.is_active() && self.removed_ms != 0 && self.banned == block {
            return false;
        }
        self.removed_ms = now_ms.max(self.added_ms);
        self.confirmed = false;
        self.banned = block;
        if !block {
            self.conversation = None;
        }
        true
    }

    /// They accepted us. False when that is known, or they are no contact.
    pub fn confirm(&mut self) -> bool {
        let changes = self.is_active() && !self.confirmed;
        self.confirmed |= changes;
        changes
    }

    /// Takes over what another device of ours knows, if it is newer. False when nothing changes.
    pub fn merge(&mut self, theirs: &Self) -> bool {
        let last = |c: &Self| c.added_ms.max(c.removed_ms);
        if last(theirs) > last(self) {
            let changes = self != theirs;
            self.clone_from(theirs);
            return changes;
        }
        if theirs.is_active() && self.added_ms == theirs.added_ms && theirs.confirmed {
            return self.confirm();
        }
        false
    }

    /// Reads a record of the `contacts` file or of a sync message.
    pub fn from_msgpack(record: &Value) -> Option<Self> {
        record.as_map()?;
        Some(Self {
            added_ms: fields::time(record, "added", "addedMs"),
            removed_ms: fields::time(record, "removed", "removedMs"),
            confirmed: fields::flag(record, "confirmed"),
            banned: fields::flag(record, "banned"),
            conversation: fields::id(record, "conversationId"),
        })
    }

    /// Writes a record of the `contacts` file or of a sync message.
    pub fn to_msgpack(&self) -> Value {
        msgpack::map([
            ("added", Value::from(self.added_ms / 1000)),
            ("removed", Value::from(self.removed_ms / 1000)),
            ("confirmed", Value::from(self.confirmed)),
            ("banned", Value::from(self.banned)),
            (
                "conversationId",
                Value::from(fields::id_text(self.conversation.as_ref())),
            ),
            ("addedMs", Value::from(self.added_ms)),
            ("removedMs", Value::from(self.removed_ms)),
        ])
    }

    /// Reads a record of an archive.
    pub fn from_json(record: &Json) -> Option<Self> {
        let object = record.as_object()?;
        let flag = |key: &str| object.get(key).and_then(Json::as_bool) == Some(true);
        Some(Self {
            added_ms: fields::json_time(record, "added", "addedMs"),
            removed_ms: fields::json_time(record, "removed", "removedMs"),
            confirmed: flag("confirmed"),
            banned: flag("banned"),
            conversation: fields::json_id(record, "conversationId"),
        })
    }

    /// Writes a record of an archive.
    pub fn to_json(&self) -> Json {
        let mut out = Map::new();
        fields::put_json_time(&mut out, "added", "addedMs", self.added_ms);
        fields::put_json_time(&mut out, "removed", "removedMs", self.removed_ms);
        if self.confirmed {
            out.insert("confirmed".into(), true.into());
        }
        if self.banned {
            out.insert("banned".into(), true.into());
        }
        let conversation = fields::id_text(self.conversation.as_ref());
        out.insert("conversationId".into(), conversation.into());
        Json::Object(out)
    }
}

serde_as_json!(Contact);

/// Reads the `contacts` file.
///
/// # Errors
/// The file is no map of records. Records that cannot be understood are left out.
pub fn decode_contacts(file: &[u8]) -> Result<BTreeMap<AccountId, Contact>, RecordError> {
    contacts_from_msgpack(&msgpack::decode(file, fields::MAX_FILE_LEN)?)
}

pub(super) fn contacts_from_msgpack(
    map: &Value,
) -> Result<BTreeMap<AccountId, Contact>, RecordError> {
    fields::entries(map, fields::account_key, Contact::from_msgpack)
}

/// Writes the `contacts` file.
pub fn encode_contacts(contacts: &BTreeMap<AccountId, Contact>) -> Vec<u8> {
    msgpack::encode(&contacts_to_msgpack(contacts))
}

pub(super) fn contacts_to_msgpack(contacts: &BTreeMap<AccountId, Contact>) -> Value {
    Value::Map(
        contacts
            .iter()
            .map(|(id, c)| (Value::Binary(id.0.to_vec()), c.to_msgpack()))
            .collect(),
    )
}
