//! Conversation records: which conversations an account is in, whichever device joined.

use super::fields::{self, RecordError, serde_as_json};
use crate::id::{AccountId, ConversationId, ObjectId};
use crate::msgpack::{self, Value};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

/// A conversation of exactly two.
pub const MODE_ONE_TO_ONE: u8 = 0;
/// A document that several people write. Its records are not given to other devices.
pub const MODE_DOCUMENT: u8 = 4;

/// What an account remembers of a conversation. Like contacts, never deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvInfo {
    /// The conversation.
    pub id: ConversationId,
    /// When we joined it.
    pub created_ms: u64,
    /// When we left it.
    pub removed_ms: u64,
    /// When its repository was deleted, once others knew that we left.
    pub erased_ms: u64,
    /// Who is in it.
    pub members: BTreeSet<AccountId>,
    /// The last message that this account read.
    pub last_displayed: Option<ObjectId>,
    /// 0 one-to-one, 1 admins invite, 2 members invite, 3 public, 4 document.
    pub mode: u8,
    /// When someone was invited last, explicitly.
    pub invited: BTreeMap<AccountId, u64>,
}

/// What to do after another device told of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InfoMerge {
    /// Nothing: it says nothing new. The record may have been completed.
    Unchanged,
    /// The record was taken over; the repository is to be cloned if we have none.
    Joined,
    /// We left it there, so here too: use it no more.
    Left {
        /// Delete the repository as well.
        erase: bool,
    },
}

impl ConvInfo {
    /// A conversation just begun or joined.
    pub fn new(id: ConversationId, mode: u8, now_ms: u64) -> Self {
        Self {
            id,
            created_ms: now_ms,
            removed_ms: 0,
            erased_ms: 0,
            members: BTreeSet::new(),
            last_displayed: None,
            mode,
            invited: BTreeMap::new(),
        }
    }

    /// Whether we left it and did not come back.
    pub fn is_removed(&self) -> bool {
        self.removed_ms != 0 && self.removed_ms >= self.created_ms
    }

    /// Merges what another device of ours knows into what we know. Any open request for the
    /// conversation is to be dropped by the caller.
    pub fn merge(ours: &mut Option<Self>, theirs: &Self, now_ms: u64) -> InfoMerge {
        let last = |i: &Self| i.created_ms.max(i.removed_ms);
        if ours.as_ref().is_some_and(|o| last(theirs) < last(o)) {
            return InfoMerge::Unchanged;
        }
        if !theirs.is_removed() {
            let Some(mine) = ours else {
                *ours = Some(theirs.clone());
                return InfoMerge::Joined;
            };
            if mine.removed_ms != 0 && mine.removed_ms >= theirs.created_ms {
                return InfoMerge::Unchanged;
            }
            if mine.created_ms >= theirs.created_ms {
                // The same joining. Taking over the rest would let two devices swap their
                // records for ever; what it says of members comes from the repository.
                for (id, at) in &theirs.invited {
                    let known = mine.invited.entry(*id).or_default();
                    *known = (*known).max(*at);
                }
                return InfoMerge::Unchanged;
            }
            *mine = theirs.clone();
            return InfoMerge::Joined;
        }
        let known = ours.is_some();
        let mine = ours.get_or_insert_with(|| theirs.clone());
        let left = !known || !mine.is_removed();
        mine.removed_ms = if mine.is_removed() {
            mine.removed_ms.max(theirs.removed_ms)
        } else {
            // Never earlier than what it undoes, whatever the clocks say.
            now_ms.max(theirs.removed_ms).max(mine.created_ms)
        };
        let erase = theirs.erased_ms != 0;
        let erase_now = erase && (mine.erased_ms == 0 || !known);
        if erase && mine.erased_ms == 0 {
            mine.erased_ms = now_ms.max(mine.removed_ms);
        }
        if left || erase_now {
            InfoMerge::Left { erase }
        } else {
            InfoMerge::Unchanged
        }
    }

    /// Reads a record of the `convInfo` file or of a sync message.
    pub fn from_msgpack(record: &Value) -> Option<Self> {
        let strings = |key: &str| {
            msgpack::get(record, key)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
        };
        Some(Self {
            id: fields::id(record, "id")?,
            created_ms: fields::time(record, "created", "createdMs"),
            removed_ms: fields::time(record, "removed", "removedMs"),
            erased_ms: fields::time(record, "erased", "erasedMs"),
            members: strings("members")
                .filter_map(fields::text_key::<AccountId>)
                .collect(),
            last_displayed: fields::id(record, "lastDisplayed"),
            mode: u8::try_from(fields::number(record, "mode")).ok()?,
            invited: msgpack::get(record, "invited")
                .and_then(Value::as_map)
                .into_iter()
                .flatten()
                .filter_map(|(k, v)| Some((fields::text_key(k)?, v.as_u64()?)))
                .collect(),
        })
    }

    /// Writes a record of the `convInfo` file or of a sync message.
    pub fn to_msgpack(&self) -> Value {
        msgpack::map([
            ("id", Value::from(self.id.to_hex())),
            ("created", Value::from(self.created_ms / 1000)),
            ("removed", Value::from(self.removed_ms / 1000)),
            ("erased", Value::from(self.erased_ms / 1000)),
            (
                "members",
                Value::Array(
                    self.members
                        .iter()
                        .map(|m| Value::from(m.to_hex()))
                        .collect(),
                ),
            ),
            (
                "lastDisplayed",
                Value::from(fields::id_text(self.last_displayed.as_ref())),
            ),
            ("mode", Value::from(self.mode)),
            ("createdMs", Value::from(self.created_ms)),
            ("removedMs", Value::from(self.removed_ms)),
            ("erasedMs", Value::from(self.erased_ms)),
            (
                "invited",
                Value::Map(
                    self.invited
                        .iter()
                        .map(|(id, at)| (Value::from(id.to_hex()), Value::from(*at)))
                        .collect(),
                ),
            ),
        ])
    }

    /// Reads a record of an archive.
    pub fn from_json(record: &Json) -> Option<Self> {
        Some(Self {
            id: fields::json_id(record, "id")?,
            created_ms: fields::json_time(record, "created", "createdMs"),
            removed_ms: fields::json_time(record, "removed", "removedMs"),
            erased_ms: fields::json_time(record, "erased", "erasedMs"),
            members: record
                .get("members")
                .and_then(Json::as_array)
                .into_iter()
                .flatten()
                .filter_map(|m| fields::json_id(m, "uri"))
                .collect(),
            last_displayed: fields::json_id(record, "lastDisplayed"),
            mode: u8::try_from(fields::json_number(record, "mode")).ok()?,
            invited: record
                .get("invited")
                .and_then(Json::as_object)
                .into_iter()
                .flatten()
                .filter_map(|(k, v)| Some((k.parse().ok()?, v.as_u64()?)))
                .collect(),
        })
    }

    /// Writes a record of an archive.
    pub fn to_json(&self) -> Json {
        let mut out = Map::new();
        fields::put_json_time(&mut out, "created", "createdMs", self.created_ms);
        fields::put_json_time(&mut out, "removed", "removedMs", self.removed_ms);
        fields::put_json_time(&mut out, "erased", "erasedMs", self.erased_ms);
        out.insert("id".into(), self.id.to_hex().into());
        let last = fields::id_text(self.last_displayed.as_ref());
        out.insert("lastDisplayed".into(), last.into());
        let members = self.members.iter().map(|m| {
            let mut member = Map::new();
            member.insert("uri".into(), m.to_hex().into());
            Json::Object(member)
        });
        out.insert("members".into(), Json::Array(members.collect()));
        out.insert("mode".into(), self.mode.into());
        if !self.invited.is_empty() {
            let invited = self.invited.iter();
            let invited = invited.map(|(id, at)| (id.to_hex(), Json::from(*at)));
            out.insert("invited".into(), Json::Object(invited.collect()));
        }
        Json::Object(out)
    }
}

serde_as_json!(ConvInfo);

/// Reads the `convInfo` file.
///
/// # Errors
/// The file is no map of records. Records that cannot be understood are left out.
pub fn decode_conversations(
    file: &[u8],
) -> Result<BTreeMap<ConversationId, ConvInfo>, RecordError> {
    conversations_from_msgpack(&msgpack::decode(file, fields::MAX_FILE_LEN)?)
}

pub(super) fn conversations_from_msgpack(
    map: &Value,
) -> Result<BTreeMap<ConversationId, ConvInfo>, RecordError> {
    // What the record says it is counts less than where it stands.
    let mut out = fields::entries(
        map,
        fields::text_key::<ConversationId>,
        ConvInfo::from_msgpack,
    )?;
    out.retain(|id, info| *id == info.id);
    Ok(out)
}

/// Writes the `convInfo` file.
pub fn encode_conversations(infos: &BTreeMap<ConversationId, ConvInfo>) -> Vec<u8> {
    msgpack::encode(&conversations_to_msgpack(infos))
}

pub(super) fn conversations_to_msgpack(infos: &BTreeMap<ConversationId, ConvInfo>) -> Value {
    Value::Map(
        infos
            .iter()
            .map(|(id, i)| (Value::from(id.to_hex()), i.to_msgpack()))
            .collect(),
    )
}
