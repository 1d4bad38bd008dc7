//! Requests: conversations that someone invites us to.

use super::conversation::MODE_ONE_TO_ONE;
use super::fields::{self, RecordError, serde_as_json};
use crate::id::{AccountId, ConversationId};
use crate::msgpack::{self, Value};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// How far in the future a time of another device may lie, in milliseconds, before the own
/// clock is believed instead: five minutes, as in the reference.
pub const MAX_FUTURE_MS: u64 = 5 * 60 * 1000;

/// An invitation, open or declined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRequest {
    /// Who invites.
    pub from: AccountId,
    /// To which conversation.
    pub conversation: ConversationId,
    /// `title`, `avatar`, `description`, `mode` and more, as texts.
    pub metadata: BTreeMap<String, String>,
    /// When it came.
    pub received_ms: u64,
    /// When it was declined.
    pub declined_ms: u64,
}

/// What to do with a request that another device told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestMerge {
    /// Nothing.
    Unchanged,
    /// A new open request; for a one-to-one conversation others of the same person are declined.
    Added,
    /// The request is declined, or remembered as such.
    Declined,
    /// The conversation is known: the request is to be forgotten.
    Obsolete,
}

impl ConversationRequest {
    /// Whether it waits for an answer.
    pub fn is_open(&self) -> bool {
        self.declined_ms == 0
    }

    /// The mode that the inviter states; one-to-one when they state none.
    pub fn mode(&self) -> u8 {
        self.metadata
            .get("mode")
            .and_then(|m| m.parse().ok())
            .unwrap_or(MODE_ONE_TO_ONE)
    }

    /// Merges a request that another device of ours tells of.
    ///
    /// `own` is this account. `conversation_known` says that the conversation is active here, or
    /// is a one-to-one conversation that ever was.
    pub fn merge(
        ours: &mut Option<Self>,
        theirs: &Self,
        own: &AccountId,
        conversation_known: bool,
        now_ms: u64,
    ) -> RequestMerge {
        if theirs.from == *own {
            return RequestMerge::Unchanged;
        }
        if conversation_known {
            return match ours.take() {
                Some(_) => RequestMerge::Obsolete,
                None => RequestMerge::Unchanged,
            };
        }
        let believable = |ms: u64| {
            if ms > now_ms.saturating_add(MAX_FUTURE_MS) {
                now_ms
            } else {
                ms
            }
        };
        let mut theirs = theirs.clone();
        theirs.received_ms = believable(theirs.received_ms);
        theirs.declined_ms = believable(theirs.declined_ms);
        let take = match ours.as_ref() {
            None => true,
            Some(mine) => match (mine.is_open(), theirs.is_open()) {
                (true, true) => false,
                (true, false) => theirs.declined_ms >= mine.received_ms,
                (false, true) => theirs.received_ms > mine.declined_ms,
                (false, false) => theirs.declined_ms > mine.declined_ms,
            },
        };
        if !take {
            return RequestMerge::Unchanged;
        }
        let open = theirs.is_open();
        *ours = Some(theirs);
        if open {
            RequestMerge::Added
        } else {
            RequestMerge::Declined
        }
    }

    /// Reads a record of the `convRequests` file or of a sync message.
    pub fn from_msgpack(record: &Value) -> Option<Self> {
        Some(Self {
            from: fields::id(record, "from")?,
            conversation: fields::id(record, "conversationId")?,
            metadata: fields::texts(msgpack::get(record, "metadatas")),
            received_ms: fields::time(record, "received", "receivedMs"),
            declined_ms: fields::time(record, "declined", "declinedMs"),
        })
    }

    /// Writes a record of the `convRequests` file or of a sync message.
    pub fn to_msgpack(&self) -> Value {
        msgpack::map([
            ("from", Value::from(self.from.to_hex())),
            ("conversationId", Value::from(self.conversation.to_hex())),
            ("metadatas", fields::texts_value(&self.metadata)),
            ("received", Value::from(self.received_ms / 1000)),
            ("declined", Value::from(self.declined_ms / 1000)),
            ("receivedMs", Value::from(self.received_ms)),
            ("declinedMs", Value::from(self.declined_ms)),
        ])
    }

    /// Reads a record of an archive.
    pub fn from_json(record: &Json) -> Option<Self> {
        Some(Self {
            from: fields::json_id(record, "from")?,
            conversation: fields::json_id(record, "conversationId")?,
            metadata: record
                .get("metadatas")
                .and_then(Json::as_object)
                .into_iter()
                .flatten()
                .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
                .collect(),
            received_ms: fields::json_time(record, "received", "receivedMs"),
            declined_ms: fields::json_time(record, "declined", "declinedMs"),
        })
    }

    /// Writes a record of an archive.
    pub fn to_json(&self) -> Json {
        let mut out = Map::new();
        out.insert("conversationId".into(), self.conversation.to_hex().into());
        out.insert("from".into(), self.from.to_hex().into());
        let metadata = self.metadata.iter();
        let metadata = metadata.map(|(k, v)| (k.clone(), Json::from(v.as_str())));
        out.insert("metadatas".into(), Json::Object(metadata.collect()));
        fields::put_json_time(&mut out, "received", "receivedMs", self.received_ms);
        fields::put_json_time(&mut out, "declined", "declinedMs", self.declined_ms);
        Json::Object(out)
    }
}

serde_as_json!(ConversationRequest);

/// Reads the `convRequests` file.
///
/// # Errors
/// The file is no map of records. Records that cannot be understood are left out.
pub fn decode_requests(
    file: &[u8],
) -> Result<BTreeMap<ConversationId, ConversationRequest>, RecordError> {
    requests_from_msgpack(&msgpack::decode(file, fields::MAX_FILE_LEN)?)
}

pub(super) fn requests_from_msgpack(
    map: &Value,
) -> Result<BTreeMap<ConversationId, ConversationRequest>, RecordError> {
    let mut out = fields::entries(
        map,
        fields::text_key::<ConversationId>,
        ConversationRequest::from_msgpack,
    )?;
    out.retain(|id, request| *id == request.conversation);
    Ok(out)
}

/// Writes the `convRequests` file.
pub fn encode_requests(requests: &BTreeMap<ConversationId, ConversationRequest>) -> Vec<u8> {
    msgpack::encode(&requests_to_msgpack(requests))
}

pub(super) fn requests_to_msgpack(
    requests: &BTreeMap<ConversationId, ConversationRequest>,
) -> Value {
    Value::Map(
        requests
            .iter()
            .map(|(id, r)| (Value::from(id.to_hex()), r.to_msgpack()))
            .collect(),
    )
}
