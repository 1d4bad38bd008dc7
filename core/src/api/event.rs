//! What the bridge reports by itself.

use super::message::{MemberAction, Message, MessageStatus};
use super::types::*;
use crate::id::{AccountId, ConversationId, DeviceId, ObjectId};
use serde::{Deserialize, Serialize};

/// An event with its place in the order of all events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SequencedEvent {
    /// Grows by one per event, the same for every connection.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Event {
    /// An account came, went on or off line, or changed its options.
    #[serde(rename = "account.state")]
    AccountState {
        /// The account as it is now.
        account: LocalAccountId,
        /// Reachable?
        state: AccountState,
        /// The whole account, unless it was removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Box<Account>>,
        /// It is gone for good.
        #[serde(default)]
        removed: bool,
    },
    /// An own profile changed.
    #[serde(rename = "account.profile")]
    AccountProfile {
        /// Whose.
        account: LocalAccountId,
        /// The name.
        display_name: String,
        /// A `data:` URL.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        avatar: Option<String>,
    },
    /// A device of an account was seen for the first time: it announced itself, connected, or
    /// wrote. Each comes once, restarts of the bridge included.
    #[serde(rename = "device.added")]
    DeviceAdded {
        /// One's own account.
        account: LocalAccountId,
        /// Whose device: one's own Jami ID, a contact's, or a fellow member's.
        id: AccountId,
        /// The device.
        device: DeviceId,
        /// How many other devices of theirs were known before; one's own device here counts.
        #[serde(default)]
        others: u32,
    },
    /// A device was revoked.
    #[serde(rename = "device.revoked")]
    DeviceRevoked {
        /// One's own account.
        account: LocalAccountId,
        /// Whose device.
        id: AccountId,
        /// The device.
        device: DeviceId,
    },
    /// Someone asks to talk. (`request.received` comes for groups as well.)
    #[serde(rename = "contact.request")]
    ContactRequest {
        /// Who was asked.
        account: LocalAccountId,
        /// What was asked.
        request: Box<Request>,
    },
    /// A contact came, changed or went.
    #[serde(rename = "contact.updated")]
    ContactUpdated {
        /// Whose.
        account: LocalAccountId,
        /// As it is now.
        contact: Box<Contact>,
        /// It is gone.
        #[serde(default)]
        removed: bool,
    },
    /// Someone can be reached, or no longer.
    #[serde(rename = "presence")]
    Presence {
        /// Whose contact.
        account: LocalAccountId,
        /// Who.
        id: AccountId,
        /// How it is now.
        presence: Presence,
    },
    /// A request came, or is gone (accepted, declined, blocked, on any device).
    #[serde(rename = "request.received")]
    RequestReceived {
        /// Who was asked.
        account: LocalAccountId,
        /// The request.
        request: Box<Request>,
    },
    /// A request is gone: accepted, declined or blocked, here or on another device.
    #[serde(rename = "request.removed")]
    RequestRemoved {
        /// Who was asked.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
    },
    /// A conversation was accepted; its history is being looked for.
    #[serde(rename = "conversation.syncing")]
    ConversationSyncing {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
    },
    /// A conversation can be used.
    #[serde(rename = "conversation.ready")]
    ConversationReady {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
        /// As it is now.
        details: Box<Conversation>,
    },
    /// Title, picture, unread count or preferences changed.
    #[serde(rename = "conversation.updated")]
    ConversationUpdated {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
        /// As it is now.
        details: Box<Conversation>,
    },
    /// A member was added, joined, left, was banned or unbanned.
    #[serde(rename = "conversation.member")]
    ConversationMember {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
        /// The member as they are now.
        member: Box<Member>,
        /// What happened.
        action: MemberAction,
    },
    /// The open votes of a conversation changed: one was cast, or one was decided.
    #[serde(rename = "conversation.votes")]
    ConversationVotes {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
        /// All that are open now.
        ballots: Vec<Ballot>,
    },
    /// A conversation is gone.
    #[serde(rename = "conversation.removed")]
    ConversationRemoved {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
    },
    /// What a device offered broke a rule and was refused; the history is untouched.
    #[serde(rename = "conversation.rejected")]
    ConversationRejected {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
        /// Who offered it.
        from: DeviceId,
        /// The commit at fault, where there is one; of a pack that is bad, what it was to bring.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<ObjectId>,
        /// The rule's name.
        rule: String,
        /// What it means.
        detail: String,
    },
    /// After a merge, messages stand in another order: read the history anew from here on.
    #[serde(rename = "conversation.reordered")]
    ConversationReordered {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
        /// The last message whose place is as before; absent when none is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<ObjectId>,
    },
    /// A message is new: one's own the moment it is on the disk, others' once they are valid.
    #[serde(rename = "message.received")]
    MessageReceived {
        /// Whose.
        account: LocalAccountId,
        /// Where.
        conversation: ConversationId,
        /// The message.
        message: Box<Message>,
    },
    /// A message was edited, deleted or reacted to.
    #[serde(rename = "message.updated")]
    MessageUpdated {
        /// Whose.
        account: LocalAccountId,
        /// Where.
        conversation: ConversationId,
        /// As it is now.
        message: Box<Message>,
    },
    /// One's own message got farther.
    #[serde(rename = "message.status")]
    MessageStatus {
        /// Whose.
        account: LocalAccountId,
        /// Where.
        conversation: ConversationId,
        /// Of the message.
        id: ObjectId,
        /// How far it is now.
        status: MessageStatus,
    },
    /// Someone types, or stopped.
    #[serde(rename = "typing")]
    Typing {
        /// Whose.
        account: LocalAccountId,
        /// Where.
        conversation: ConversationId,
        /// Who.
        id: AccountId,
        /// Typing?
        typing: bool,
    },
    /// How a person is reached changed.
    #[serde(rename = "link.state")]
    LinkState {
        /// Whose.
        account: LocalAccountId,
        /// As it is now.
        link: LinkState,
    },
    /// The bridge has something to say.
    #[serde(rename = "bridge.notice")]
    BridgeNotice {
        /// How loud.
        level: NoticeLevel,
        /// For programs, for example `disk_full`.
        code: String,
        /// For people.
        text: String,
        /// Which account it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<LocalAccountId>,
    },
    /// An event of a newer bridge; to be ignored.
    #[serde(other)]
    Unknown,
}

impl Event {
    /// The account it is about.
    pub fn account(&self) -> Option<&LocalAccountId> {
        match self {
            Self::AccountState { account, .. }
            | Self::AccountProfile { account, .. }
            | Self::DeviceAdded { account, .. }
            | Self::DeviceRevoked { account, .. }
            | Self::ContactRequest { account, .. }
            | Self::ContactUpdated { account, .. }
            | Self::Presence { account, .. }
            | Self::RequestReceived { account, .. }
            | Self::RequestRemoved { account, .. }
            | Self::ConversationSyncing { account, .. }
            | Self::ConversationReady { account, .. }
            | Self::ConversationUpdated { account, .. }
            | Self::ConversationMember { account, .. }
            | Self::ConversationVotes { account, .. }
            | Self::ConversationRemoved { account, .. }
            | Self::ConversationRejected { account, .. }
            | Self::ConversationReordered { account, .. }
            | Self::MessageReceived { account, .. }
            | Self::MessageUpdated { account, .. }
            | Self::MessageStatus { account, .. }
            | Self::Typing { account, .. }
            | Self::LinkState { account, .. } => Some(account),
            Self::BridgeNotice { account, .. } => account.as_ref(),
            Self::Unknown => None,
        }
    }

    /// The conversation it is about.
    pub fn conversation(&self) -> Option<&ConversationId> {
        match self {
            Self::ConversationSyncing { conversation, .. }
            | Self::ConversationReady { conversation, .. }
            | Self::ConversationUpdated { conversation, .. }
            | Self::ConversationMember { conversation, .. }
            | Self::ConversationVotes { conversation, .. }
            | Self::ConversationRemoved { conversation, .. }
            | Self::ConversationRejected { conversation, .. }
            | Self::ConversationReordered { conversation, .. }
            | Self::MessageReceived { conversation, .. }
            | Self::MessageUpdated { conversation, .. }
            | Self::MessageStatus { conversation, .. }
            | Self::Typing { conversation, .. }
            | Self::RequestRemoved { conversation, .. } => Some(conversation),
            Self::ContactRequest { request, .. } | Self::RequestReceived { request, .. } => {
                Some(&request.conversation)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_type_and_fields_lie_side_by_side() {
        let e = SequencedEvent {
            seq: 7,
            event: Event::Typing {
                account: "ab".parse().unwrap(),
                conversation: ConversationId([1; 20]),
                id: AccountId([2; 20]),
                typing: true,
            },
        };
        let text = serde_json::to_string(&e).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"seq":7,"type":"typing","account":"ab","conversation":"{}","id":"{}","typing":true}}"#,
                "01".repeat(20),
                "02".repeat(20)
            )
        );
        assert_eq!(serde_json::from_str::<SequencedEvent>(&text).unwrap(), e);
    }

    #[test]
    fn an_event_of_a_newer_bridge_does_no_harm() {
        let e: SequencedEvent =
            serde_json::from_str(r#"{"seq":9,"type":"tea.ready","cups":2}"#).unwrap();
        assert_eq!((e.seq, e.event), (9, Event::Unknown));
    }
}
