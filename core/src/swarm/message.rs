//! The text of a commit: one line of JSON, or `Merge commit '…'`.

use crate::id::{AccountId, ConversationId, DeviceId, ObjectId};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How a merge's message begins; anything beginning so is no JSON.
pub const MERGE_PREFIX: &str = "Merge commit";

/// Who may do what in a conversation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum ConversationMode {
    /// Two people (or one, with themselves).
    OneToOne,
    /// Only admins invite.
    AdminInvitesOnly,
    /// Every member invites. What clients create.
    InvitesOnly,
    /// Anybody may ask to come in.
    Public,
    /// A collaborative document beside a conversation.
    Document,
}

impl ConversationMode {
    /// The number in the first commit.
    pub fn number(self) -> u8 {
        match self {
            Self::OneToOne => 0,
            Self::AdminInvitesOnly => 1,
            Self::InvitesOnly => 2,
            Self::Public => 3,
            Self::Document => 4,
        }
    }

    /// The mode with this number.
    pub fn from_number(n: u64) -> Option<Self> {
        [
            Self::OneToOne,
            Self::AdminInvitesOnly,
            Self::InvitesOnly,
            Self::Public,
            Self::Document,
        ]
        .into_iter()
        .find(|m| u64::from(m.number()) == n)
    }
}

/// What a `member` commit does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Invites.
    Add,
    /// Comes in.
    Join,
    /// Leaves.
    Remove,
    /// A ban that has its majority.
    Ban,
    /// The end of a ban.
    Unban,
}

impl Action {
    /// The word in the message.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Add => "add",
            Action::Join => "join",
            Action::Remove => "remove",
            Action::Ban => "ban",
            Action::Unban => "unban",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Action::Add,
            Action::Join,
            Action::Remove,
            Action::Ban,
            Action::Unban,
        ]
        .into_iter()
        .find(|a| a.as_str() == word)
    }
}

/// Why a message cannot be read. A commit with such a message is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// Not a JSON object.
    #[error("the message is not a JSON object")]
    NotJson,
    /// No `type`, or an empty one.
    #[error("the message has no type")]
    NoType,
    /// The mode is none that exists.
    #[error("the conversation's mode {0} is unknown")]
    UnknownMode(String),
    /// A `member` message with an action that is none.
    #[error("the member action {0:?} is unknown")]
    UnknownAction(String),
}

/// The fields of a message as they stand in its JSON: every key, also those nobody knows.
pub type Fields = Map<String, Value>;

/// A message by its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first commit.
    Initial {
        /// The mode.
        mode: ConversationMode,
        /// The other one, in mode 0. Kept as text: validation judges it.
        invited: Option<String>,
        /// The conversation a document belongs to.
        parent: Option<ConversationId>,
        /// What kind of document.
        mime_type: Option<String>,
    },
    /// A text.
    Text {
        /// The text.
        body: String,
        /// The message it answers.
        reply_to: Option<String>,
    },
    /// A reaction.
    Reaction {
        /// Usually an emoji.
        body: String,
        /// What it reacts to.
        react_to: String,
    },
    /// A new text for a message, or none: its deletion.
    Edit {
        /// The new text.
        body: String,
        /// The edited message.
        edit: String,
        /// Whether the type is that of before 2024, `application/edited-message`.
        legacy: bool,
    },
    /// Somebody comes or goes.
    Member {
        /// What happens.
        action: Action,
        /// To whom: an account, or a device in a device's ban. Kept as text: validation judges it.
        uri: String,
    },
    /// An admin's vote; for or against what is in the tree's path only.
    Vote {
        /// About whom.
        uri: String,
    },
    /// A call between two people, over.
    Call {
        /// Who was called.
        to: String,
        /// Milliseconds.
        duration: u64,
        /// Why it was not answered.
        reason: Option<String>,
    },
    /// A group call that starts (no duration) or ends.
    GroupCall {
        /// The host.
        uri: String,
        /// The host's device.
        device: String,
        /// The call.
        conf_id: String,
        /// Milliseconds, at its end.
        duration: Option<u64>,
    },
    /// A file that can be fetched from those who have it.
    File {
        /// Random number of the transfer, decimal.
        tid: String,
        /// The file's name.
        display_name: String,
        /// Bytes.
        total_size: u64,
        /// SHA3-512, hexadecimal.
        sha3sum: String,
        /// The message it answers.
        reply_to: Option<String>,
    },
    /// The end of a file.
    FileDeletion {
        /// The file's message.
        edit: String,
    },
    /// The tree has a new `profile.vcf`.
    UpdateProfile,
    /// Part of a document's content.
    Checkpoint {
        /// Base64 lines.
        body: String,
    },
    /// Two histories become one.
    Merge {
        /// The text, `Merge commit '<head>'`.
        text: String,
    },
    /// Anything else, kept as it is.
    Unknown {
        /// Its type.
        kind: String,
        /// All its fields, the type too.
        fields: Fields,
    },
}

/// A value as text: numbers as clients show them.
pub fn field_text(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

/// Whether a message is a merge's.
pub fn is_merge(text: &str) -> bool {
    text.starts_with(MERGE_PREFIX)
}

/// The fields of a message that is not a merge's.
pub fn fields(text: &str) -> Result<Fields, BadMessage> {
    serde_json::from_str(text).map_err(|_| BadMessage::NotJson)
}

impl Message {
    /// Reads a commit's message.
    pub fn parse(text: &str) -> Result<Self, BadMessage> {
        if is_merge(text) {
            return Ok(Message::Merge {
                text: text.to_owned(),
            });
        }
        Self::from_fields(fields(text)?)
    }

    /// Reads the fields of a message.
    pub fn from_fields(fields: Fields) -> Result<Self, BadMessage> {
        let kind = match fields.get("type") {
            Some(Value::String(kind)) if !kind.is_empty() => kind.clone(),
            _ => return Err(BadMessage::NoType),
        };
        let text = |key: &str| fields.get(key).and_then(field_text);
        let filled = |key: &str| text(key).filter(|t| !t.is_empty());
        let number = |key: &str| text(key).and_then(|t| t.parse::<u64>().ok());
        let typed = match kind.as_str() {
            "initial" => {
                let mode = text("mode").unwrap_or_default();
                Some(Message::Initial {
                    mode: mode
                        .parse()
                        .ok()
                        .and_then(ConversationMode::from_number)
                        .ok_or_else(|| BadMessage::UnknownMode(mode.chars().take(20).collect()))?,
                    invited: text("invited"),
                    parent: text("parent").and_then(|p| p.parse().ok()),
                    mime_type: text("mimeType"),
                })
            }
            "member" => {
                let action = text("action").unwrap_or_default();
                Some(Message::Member {
                    action: Action::parse(&action).ok_or_else(|| {
                        BadMessage::UnknownAction(action.chars().take(20).collect())
                    })?,
                    uri: text("uri").unwrap_or_default(),
                })
            }
            "vote" => Some(Message::Vote {
                uri: text("uri").unwrap_or_default(),
            }),
            "text/plain" => {
                let body = text("body").unwrap_or_default();
                Some(match (filled("edit"), filled("react-to")) {
                    (Some(edit), _) => Message::Edit {
                        body,
                        edit,
                        legacy: false,
                    },
                    (None, Some(react_to)) => Message::Reaction { body, react_to },
                    (None, None) => Message::Text {
                        body,
                        reply_to: filled("reply-to"),
                    },
                })
            }
            "application/edited-message" => Some(Message::Edit {
                body: text("body").unwrap_or_default(),
                edit: text("edit").unwrap_or_default(),
                legacy: true,
            }),
            "application/call-history+json" => match (text("to"), text("confId")) {
                (Some(to), None) => number("duration").map(|duration| Message::Call {
                    to,
                    duration,
                    reason: text("reason"),
                }),
                (None, Some(conf_id)) => Some(Message::GroupCall {
                    uri: text("uri").unwrap_or_default(),
                    device: text("device").unwrap_or_default(),
                    conf_id,
                    duration: number("duration"),
                }),
                _ => None,
            },
            "application/data-transfer+json" => match (filled("edit"), number("totalSize")) {
                (Some(edit), _) => Some(Message::FileDeletion { edit }),
                (None, Some(total_size)) => Some(Message::File {
                    tid: text("tid").unwrap_or_default(),
                    display_name: text("displayName").unwrap_or_default(),
                    total_size,
                    sha3sum: text("sha3sum").unwrap_or_default(),
                    reply_to: filled("reply-to"),
                }),
                _ => None,
            },
            "application/update-profile" => Some(Message::UpdateProfile),
            "application/checkpoint" => Some(Message::Checkpoint {
                body: text("body").unwrap_or_default(),
            }),
            _ => None,
        };
        Ok(typed.unwrap_or(Message::Unknown { kind, fields }))
    }

    /// The first message of a conversation.
    pub fn initial(mode: ConversationMode, invited: Option<AccountId>) -> Self {
        Message::Initial {
            mode,
            invited: invited.map(|i| i.to_hex()),
            parent: None,
            mime_type: None,
        }
    }

    /// A text, perhaps an answer.
    pub fn text(body: impl Into<String>, reply_to: Option<ObjectId>) -> Self {
        Message::Text {
            body: body.into(),
            reply_to: reply_to.map(|r| r.to_hex()),
        }
    }

    /// A reaction.
    pub fn reaction(body: impl Into<String>, react_to: ObjectId) -> Self {
        Message::Reaction {
            body: body.into(),
            react_to: react_to.to_hex(),
        }
    }

    /// A new text of a message; an empty one deletes it (or a reaction).
    pub fn edit(body: impl Into<String>, edit: ObjectId) -> Self {
        Message::Edit {
            body: body.into(),
            edit: edit.to_hex(),
            legacy: false,
        }
    }

    /// A member event about an account.
    pub fn member(action: Action, account: AccountId) -> Self {
        Message::Member {
            action,
            uri: account.to_hex(),
        }
    }

    /// The ban (or its end) of a device.
    pub fn device_ban(action: Action, device: DeviceId) -> Self {
        Message::Member {
            action,
            uri: device.to_hex(),
        }
    }

    /// The message of a merge with another head.
    pub fn merge(head: ObjectId) -> Self {
        Message::Merge {
            text: format!("{MERGE_PREFIX} '{head}'"),
        }
    }

    /// The type as text. A merge has the type `merge`, as in the reference's API.
    pub fn kind(&self) -> &str {
        match self {
            Message::Initial { .. } => "initial",
            Message::Text { .. } | Message::Reaction { .. } => "text/plain",
            Message::Edit { legacy: false, .. } => "text/plain",
            Message::Edit { legacy: true, .. } => "application/edited-message",
            Message::Member { .. } => "member",
            Message::Vote { .. } => "vote",
            Message::Call { .. } | Message::GroupCall { .. } => "application/call-history+json",
            Message::File { .. } | Message::FileDeletion { .. } => "application/data-transfer+json",
            Message::UpdateProfile => "application/update-profile",
            Message::Checkpoint { .. } => "application/checkpoint",
            Message::Merge { .. } => "merge",
            Message::Unknown { kind, .. } => kind,
        }
    }

    /// The commit's message text: JSON with sorted keys, no spaces, everything
    /// beyond ASCII escaped, as the reference writes it.
    pub fn to_text(&self) -> String {
        let mut out: BTreeMap<&str, Value> = BTreeMap::new();
        let mut put = |key: &'static str, value: &str| {
            out.insert(key, Value::from(value));
        };
        put("type", self.kind());
        match self {
            Message::Merge { text } => return text.clone(),
            Message::Unknown { fields, .. } => {
                return write_sorted(fields.iter().map(|(k, v)| (k.as_str(), v)).collect());
            }
            Message::Initial {
                mode,
                invited,
                parent,
                mime_type,
            } => {
                if let Some(invited) = invited {
                    put("invited", invited);
                }
                if let Some(parent) = parent {
                    put("parent", &parent.to_hex());
                }
                if let Some(mime_type) = mime_type {
                    put("mimeType", mime_type);
                }
                out.insert("mode", Value::from(mode.number()));
            }
            Message::Text { body, reply_to } => {
                put("body", body);
                if let Some(reply_to) = reply_to {
                    put("reply-to", reply_to);
                }
            }
            Message::Reaction { body, react_to } => {
                put("body", body);
                put("react-to", react_to);
            }
            Message::Edit { body, edit, .. } => {
                put("body", body);
                put("edit", edit);
            }
            Message::Member { action, uri } => {
                put("action", action.as_str());
                put("uri", uri);
            }
            Message::Vote { uri } => put("uri", uri),
            Message::Call {
                to,
                duration,
                reason,
            } => {
                put("to", to);
                put("duration", &duration.to_string());
                if let Some(reason) = reason {
                    put("reason", reason);
                }
            }
            Message::GroupCall {
                uri,
                device,
                conf_id,
                duration,
            } => {
                put("uri", uri);
                put("device", device);
                put("confId", conf_id);
                if let Some(duration) = duration {
                    put("duration", &duration.to_string());
                }
            }
            Message::File {
                tid,
                display_name,
                total_size,
                sha3sum,
                reply_to,
            } => {
                put("tid", tid);
                put("displayName", display_name);
                put("totalSize", &total_size.to_string());
                put("sha3sum", sha3sum);
                if let Some(reply_to) = reply_to {
                    put("reply-to", reply_to);
                }
            }
            Message::FileDeletion { edit } => {
                put("edit", edit);
                put("tid", "");
            }
            Message::UpdateProfile => {}
            Message::Checkpoint { body } => put("body", body),
        }
        write_sorted(out.iter().map(|(k, v)| (*k, v)).collect())
    }
}

fn write_sorted(fields: BTreeMap<&str, &Value>) -> String {
    // serde_json writes compact text; maps inside are sorted as it keeps them so.
    ascii(&serde_json::to_string(&fields).unwrap_or_default())
}

/// Replaces everything beyond ASCII by `\uXXXX`. In JSON such characters stand in strings only.
fn ascii(json: &str) -> String {
    use core::fmt::Write as _;
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_written_as_jsoncpp_does() {
        let m = Message::text("a \"quote\" \\ / \n\t\u{8}\u{c}\u{1} é 你 👋 \u{7f}", None);
        assert_eq!(
            m.to_text(),
            r#"{"body":"a \"quote\" \\ / \n\t\b\f\u0001 \u00e9 \u4f60 \ud83d\udc4b "#.to_owned()
                + "\u{7f}\",\"type\":\"text/plain\"}"
        );
        assert_eq!(Message::parse(&m.to_text()), Ok(m));
    }

    #[test]
    fn numbers_of_unknown_messages_are_kept_as_precise_as_a_double() {
        let text = r#"{"on":-13333333330040033366,"type":"something"}"#;
        let read = Message::parse(text).expect("a message");
        assert_eq!(Message::parse(&read.to_text()), Ok(read));
    }

    #[test]
    fn bad_messages_are_named() {
        assert_eq!(Message::parse("hello"), Err(BadMessage::NotJson));
        assert_eq!(Message::parse("[]"), Err(BadMessage::NotJson));
        assert_eq!(Message::parse("{}"), Err(BadMessage::NoType));
        assert_eq!(Message::parse(r#"{"type":""}"#), Err(BadMessage::NoType));
        assert_eq!(Message::parse(r#"{"type":7}"#), Err(BadMessage::NoType));
        assert_eq!(
            Message::parse(r#"{"type":"initial","mode":9}"#),
            Err(BadMessage::UnknownMode("9".into()))
        );
        assert_eq!(
            Message::parse(r#"{"type":"member","action":"promote","uri":""}"#),
            Err(BadMessage::UnknownAction("promote".into()))
        );
        assert!(Message::parse(&"[".repeat(100_000)).is_err());
        assert!(matches!(
            Message::parse(r#"{"type":"initial","mode":"2"}"#),
            Ok(Message::Initial {
                mode: ConversationMode::InvitesOnly,
                ..
            })
        ));
    }

    #[test]
    fn unknown_types_are_kept_whole() {
        let text = r#"{"a":[1,{"b":2,"c":3}],"type":"application/x-poll","\u00e9":null}"#;
        let m = Message::parse(text).unwrap();
        assert_eq!(m.kind(), "application/x-poll");
        assert_eq!(m.to_text(), text);
    }

    proptest! {
        #[test]
        fn texts_survive(body in "\\PC*", reply in proptest::option::of(any::<[u8; 20]>())) {
            let m = Message::text(body, reply.map(ObjectId));
            prop_assert!(m.to_text().is_ascii());
            prop_assert_eq!(Message::parse(&m.to_text()), Ok(m));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,80}") {
            let _ = Message::parse(&text);
        }
    }
}
