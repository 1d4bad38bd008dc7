//! A message as a reader sees it, reactions and edits already folded in.

use super::types::Millis;
use crate::id::{AccountId, DeviceId, ObjectId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// What kind of commit stands behind a message: the `type` of its JSON text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageType {
    /// The root commit: the conversation begins.
    Initial,
    /// Words.
    Text,
    /// Someone was added, joined, left, was banned or unbanned.
    Member,
    /// An admin voted.
    Vote,
    /// A file.
    File,
    /// A call that was made.
    Call,
    /// Title, description or picture changed.
    Profile,
    /// Anything else is kept and shown as what it is.
    Other(String),
}

impl MessageType {
    /// The text in the commit.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Initial => "initial",
            Self::Text => "text/plain",
            Self::Member => "member",
            Self::Vote => "vote",
            Self::File => "application/data-transfer+json",
            Self::Call => "application/call-history+json",
            Self::Profile => "application/update-profile",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for MessageType {
    fn from(text: &str) -> Self {
        match text {
            "initial" => Self::Initial,
            "text/plain" => Self::Text,
            "member" => Self::Member,
            "vote" => Self::Vote,
            "application/data-transfer+json" => Self::File,
            "application/call-history+json" => Self::Call,
            "application/update-profile" => Self::Profile,
            other => Self::Other(other.into()),
        }
    }
}

impl Serialize for MessageType {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MessageType {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|text| Self::from(text.as_str()))
    }
}

/// A message as a reader sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The commit's id.
    pub id: ObjectId,
    /// Who wrote it.
    pub author: AccountId,
    /// With which device.
    pub device: DeviceId,
    /// When it was written, by the author's clock (which may lie).
    pub sent_at: Millis,
    /// When this bridge first had it; of what was there before the conversation came here, or its
    /// index was made anew: when it was written.
    pub received_at: Millis,
    /// What kind it is.
    #[serde(rename = "type")]
    pub kind: MessageType,
    /// The message shown right before this one; absent for the first. Gives a live
    /// message its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ObjectId>,
    /// The words, after the latest edit; absent where the type has none. An empty body
    /// with edits is a deleted message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The words are longer than `body`: `message.get` gives them whole.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub cut: bool,
    /// The message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ObjectId>,
    /// Earlier versions, newest first; of many, the newest, and the first.
    #[serde(default)]
    pub edits: Vec<Edit>,
    /// The commit that the words are from now, where an edit changed them: whoever checks the
    /// message has to check that one, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_by: Option<ObjectId>,
    /// Live reactions by emoji.
    #[serde(default)]
    pub reactions: BTreeMap<String, Vec<Reaction>>,
    /// For a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileInfo>,
    /// For a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallInfo>,
    /// For a change of members, or a vote: then the action is what was voted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberChange>,
    /// For a change of title, description or picture: what of them changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileChange>,
    /// How far it got. Kept for one's own messages; empty for those of others.
    #[serde(default)]
    pub status: MessageStatus,
    /// The bridge checked signature, device, account and rules of this commit. (The page
    /// checks again.)
    pub verified: bool,
    /// One's own message that the others go on without: it was written after they had banned
    /// this account and before this bridge knew. Only its author sees it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub unaccepted: bool,
}

/// What a commit changed of how a conversation presents itself. Nothing is set where the commit
/// wrote again what was there already.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProfileChange {
    /// The new title; empty: it was taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The new description; empty: it was taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The picture is another one, or gone.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub avatar: bool,
}

/// An earlier version of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Edit {
    /// The commit that held it.
    pub id: ObjectId,
    /// What it said.
    pub body: String,
    /// When it was written.
    pub sent_at: Millis,
    /// It said more than this.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub cut: bool,
}

/// One person's reaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Reaction {
    /// The commit of the reaction.
    pub id: ObjectId,
    /// Whose it is.
    pub author: AccountId,
    /// When it was made.
    pub sent_at: Millis,
}

/// A shared file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct FileInfo {
    /// `<commit>_<tid>[.<extension>]`.
    pub file_id: String,
    /// The name the sender gave it. Foreign text: never a path.
    pub name: String,
    /// Announced size in bytes.
    pub size: u64,
    /// SHA3-512 in hexadecimal.
    pub sha3sum: String,
    /// Whether the bytes are here and agree with the sum.
    pub available: bool,
}

/// A call in the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CallInfo {
    /// How long it lasted; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Why it was not answered: `busy`, `declined`, `no_device`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For a group call: the conference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conference: Option<String>,
}

/// What happened to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum MemberAction {
    /// Invited.
    Add,
    /// Came in.
    Join,
    /// Left.
    Remove,
    /// Banned by vote.
    Ban,
    /// Unbanned by vote.
    Unban,
}

/// A change of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MemberChange {
    /// Who it is about. With a device: whose it is.
    pub id: AccountId,
    /// The one device it is about; absent where it is about the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// What happened.
    pub action: MemberAction,
}

/// How far one's own message got. Each step includes those before it.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Delivery {
    /// Committed and on this disk: nothing that happens on the network can take it back.
    #[default]
    Saved,
    /// A device was told that there is something new.
    Told,
    /// A device has fetched it.
    Fetched,
    /// The person has read it (if they say so).
    Read,
}

/// How far a message got, in all and for each person.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MessageStatus {
    /// The step every other member has reached; absent for messages of others. Those who are invited
    /// to a group and have not come yet do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Delivery>,
    /// Each other member, and who is invited.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub people: BTreeMap<AccountId, PersonStatus>,
}

/// How far a message got with one person.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PersonStatus {
    /// The farthest step of any of their devices.
    pub state: Delivery,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
    /// Their devices, as far as known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<DeviceId, DeviceStatus>,
}

/// How far a message got with one device.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// The step reached.
    pub state: Delivery,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_type_is_kept_word_for_word() {
        let t: MessageType = serde_json::from_str("\"application/x-dance\"").unwrap();
        assert_eq!(t, MessageType::Other("application/x-dance".into()));
        assert_eq!(
            serde_json::to_string(&t).unwrap(),
            "\"application/x-dance\""
        );
    }

    #[test]
    fn delivery_only_grows() {
        assert!(Delivery::Saved < Delivery::Told);
        assert!(Delivery::Told < Delivery::Fetched);
        assert!(Delivery::Fetched < Delivery::Read);
    }

    /// The shape of a message on the wire, for readers in other languages.
    #[test]
    fn golden_message() {
        let mut status = MessageStatus {
            state: Some(Delivery::Fetched),
            ..MessageStatus::default()
        };
        status.people.insert(
            AccountId([2; 20]),
            PersonStatus {
                state: Delivery::Fetched,
                at: Some(3),
                devices: BTreeMap::from([(
                    DeviceId([3; 32]),
                    DeviceStatus {
                        state: Delivery::Fetched,
                        at: Some(3),
                    },
                )]),
            },
        );
        let m = Message {
            id: ObjectId([0xab; 20]),
            author: AccountId([1; 20]),
            device: DeviceId([9; 32]),
            sent_at: 1_700_000_000_000,
            received_at: 1_700_000_000_500,
            kind: MessageType::Text,
            previous: None,
            body: Some("Hello".into()),
            reply_to: None,
            cut: false,
            edits: vec![],
            edited_by: None,
            reactions: BTreeMap::new(),
            file: None,
            call: None,
            member: None,
            profile: None,
            status,
            verified: true,
            unaccepted: false,
        };
        let json = serde_json::to_string(&m).unwrap();
        let expected = format!(
            r#"{{"id":"{}","author":"{}","device":"{}","sentAt":1700000000000,"receivedAt":1700000000500,"type":"text/plain","body":"Hello","edits":[],"reactions":{{}},"status":{{"state":"fetched","people":{{"{}":{{"state":"fetched","at":3,"devices":{{"{}":{{"state":"fetched","at":3}}}}}}}}}},"verified":true}}"#,
            "ab".repeat(20),
            "01".repeat(20),
            "09".repeat(32),
            "02".repeat(20),
            "03".repeat(32),
        );
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), m);
    }
}
