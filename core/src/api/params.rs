//! Parameters and results of the methods.

use super::message::{Message, MessageStatus};
use super::types::*;
use crate::id::{AccountId, ConversationId, DeviceId, ObjectId};
use serde::{Deserialize, Deserializer, Serialize};

macro_rules! params {
    ($($(#[$doc:meta])* $name:ident { $($(#[$fm:meta])* $field:ident : $ty:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(rename_all = "camelCase")]
        pub struct $name { $($(#[$fm])* pub $field: $ty),* }
    )*};
}

/// A list, also when it was written as one text with `,` or `;` between, as Jami writes
/// its bootstrap list.
fn list<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "this is neither a list of texts nor one text with commas between"
    )]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<OneOrMany>::deserialize(d)?.map(|v| match v {
        OneOrMany::Many(v) => v,
        OneOrMany::One(s) => s
            .split([',', ';'])
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect(),
    }))
}

fn owner() -> Role {
    Role::Owner
}

/// `{}`: the method takes nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Nothing {}

/// The most that one page of a list holds.
pub const MAX_PAGE: u32 = 200;

/// What a page of a list holds when nothing was said.
pub const DEFAULT_PAGE: u32 = 50;

/// The limit to use for a wish.
pub fn page_limit(wish: Option<u32>) -> usize {
    wish.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE) as usize
}

params! {
    /// What a page missed.
    EventsSinceParams {
        /// The last number it saw.
        seq: u64,
    }
    /// Events in order.
    EventsSince {
        /// Some were forgotten (too long ago, or the bridge was restarted): read everything
        /// anew and go on after `seq`. The list is empty then.
        gap: bool,
        /// The newest number.
        seq: u64,
        /// Everything after the number that was asked for, oldest first.
        events: Vec<super::event::SequencedEvent>,
    }
    /// A code for another browser.
    PairingStartParams {
        /// What it will be allowed: everything, if not said.
        #[serde(default = "owner")]
        role: Role,
        /// The one account it may see; required for a kiosk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<LocalAccountId>,
        /// The conversations a kiosk may see; required for a kiosk.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        conversations: Vec<ConversationId>,
    }
    /// A browser to throw out.
    PairingRevokeParams {
        /// From `pairing.list`.
        grant: String,
    }

    /// A new account.
    AccountCreateParams {
        /// The person's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display_name: Option<String>,
        /// Protects the archive.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<String>,
        /// `host:port` of DHT nodes; a list or one text.
        #[serde(default, deserialize_with = "list", skip_serializing_if = "Option::is_none")]
        bootstrap: Option<Vec<String>>,
        /// The name directory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name_server: Option<String>,
        /// A DHT proxy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dht_proxy: Option<String>,
        /// A relay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turn: Option<String>,
    }
    /// Names an account.
    AccountParams {
        /// The bridge's id of it.
        account: LocalAccountId,
    }
    /// A piece of the list of the people that an account knows; all of it where nothing is said.
    ContactListParams {
        /// The bridge's id of it.
        account: LocalAccountId,
        /// What follows this one in the list.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<AccountId>,
        /// At most so many, and 200 at most; absent: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    }
    /// A piece of the list of an account's conversations, or of its requests; all of it where nothing is said.
    ConversationListParams {
        /// The bridge's id of it.
        account: LocalAccountId,
        /// What follows this one in the list: those with older messages.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<ConversationId>,
        /// At most so many, and 200 at most; absent: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    }
    /// Options to change; what is absent stays.
    AccountUpdateParams {
        /// The bridge's id of it.
        account: LocalAccountId,
        /// What the device is called.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_name: Option<String>,
        /// `host:port` of DHT nodes; a list or one text.
        #[serde(default, deserialize_with = "list", skip_serializing_if = "Option::is_none")]
        bootstrap: Option<Vec<String>>,
        /// The name directory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name_server: Option<String>,
        /// A DHT proxy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dht_proxy: Option<String>,
        /// A relay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turn: Option<String>,
        /// Read receipts, both ways.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_receipts: Option<bool>,
        /// Typing notices, both ways.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        typing: Option<bool>,
        /// Strangers may send requests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allow_strangers: Option<bool>,
    }
    /// An account's archive.
    AccountExportParams {
        /// The bridge's id of it.
        account: LocalAccountId,
        /// The archive's password; where it has none, what this backup alone is protected by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<String>,
    }
    /// A backup.
    AccountExport {
        /// The archive's bytes in base64.
        archive: String,
    }
    /// An account from a backup.
    AccountImportParams {
        /// The archive's bytes in base64.
        archive: String,
        /// The archive's password, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<String>,
        /// A name for the person, instead of the backup's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display_name: Option<String>,
        /// `host:port` of DHT nodes; a list or one text.
        #[serde(default, deserialize_with = "list", skip_serializing_if = "Option::is_none")]
        bootstrap: Option<Vec<String>>,
    }
    /// A device that is taken back.
    DeviceRevokeParams {
        /// The bridge's id of the account.
        account: LocalAccountId,
        /// Another device of it.
        device: DeviceId,
        /// The archive's password, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<String>,
    }
    /// Another password for the archive; empty or absent means none.
    AccountChangePasswordParams {
        /// The bridge's id of it.
        account: LocalAccountId,
        /// The present one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        old: Option<String>,
        /// The next one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        new: Option<String>,
    }
    /// What others see; what is absent stays.
    AccountSetProfileParams {
        /// The bridge's id of it.
        account: LocalAccountId,
        /// The person's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display_name: Option<String>,
        /// A `data:` URL of PNG or JPEG; empty removes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        avatar: Option<String>,
    }
    /// On or off.
    AccountSetActiveParams {
        /// The bridge's id of it.
        account: LocalAccountId,
        /// On?
        active: bool,
    }

    /// Someone new.
    ContactAddParams {
        /// Whose contact.
        account: LocalAccountId,
        /// Their address: 40 hexadecimal digits, `jami:` before it or not.
        id: String,
        /// Words to go with the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    }
    /// Names a contact.
    ContactParams {
        /// Whose contact.
        account: LocalAccountId,
        /// Their Jami ID.
        id: AccountId,
    }
    /// Names a request, by the conversation it is for.
    RequestParams {
        /// Who was asked.
        account: LocalAccountId,
        /// From `request.list`.
        conversation: ConversationId,
    }

    /// A new conversation.
    ConversationCreateParams {
        /// Whose.
        account: LocalAccountId,
        /// What kind.
        mode: ConversationMode,
        /// The group's title, at most 200 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// Who is invited at once; of `oneToOne` the other one, who becomes a contact.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        members: Vec<AccountId>,
    }
    /// Names a conversation.
    ConversationParams {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
    }
    /// Names a member of a conversation.
    ConversationMemberParams {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
        /// Their Jami ID.
        id: AccountId,
    }
    /// Who is to be banned, or let back.
    ConversationBanParams {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
        /// Their Jami ID.
        id: AccountId,
        /// Only this device of theirs; absent means the person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<DeviceId>,
    }
    /// A public conversation to come into.
    ConversationJoinParams {
        /// Who comes in.
        account: LocalAccountId,
        /// The conversation's `address`, as a member gave it.
        address: String,
    }
    /// A new profile of a conversation; what is absent stays, what is empty goes.
    ConversationUpdateParams {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
        /// The title.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// The description.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        /// A `data:` URL of PNG or JPEG; empty removes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        avatar: Option<String>,
    }
    /// Preferences to change; what is absent stays.
    ConversationSetPreferencesParams {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
        /// `#rrggbb`; empty removes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        color: Option<String>,
        /// No notifications.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ignore_notifications: Option<bool>,
        /// An emoji; empty removes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        symbol: Option<String>,
    }
    /// A piece of history.
    ConversationHistoryParams {
        /// Whose.
        account: LocalAccountId,
        /// Which.
        conversation: ConversationId,
        /// Messages shown before this one; absent means the newest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<ObjectId>,
        /// At most so many: 50 if absent, 200 at most, and fewer where they are long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    }
    /// A piece of history.
    ConversationHistory {
        /// In the order they are shown, oldest first.
        messages: Vec<Message>,
        /// There are earlier ones.
        more: bool,
    }
    /// The verdict on a repository.
    ConversationVerdict {
        /// How many commits were looked at.
        commits: u64,
        /// Everything is as the rules want it.
        valid: bool,
        /// What is not.
        faults: Vec<CommitFault>,
    }
    /// One commit at fault.
    CommitFault {
        /// Which commit.
        commit: ObjectId,
        /// The rule's name.
        rule: String,
        /// What it means.
        detail: String,
        /// Whose device signed it, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<DeviceId>,
    }
    /// A `git bundle`.
    ConversationExport {
        /// A suggested file name.
        name: String,
        /// The bytes in base64.
        bundle: String,
    }

    /// Words to send.
    MessageSendParams {
        /// Whose.
        account: LocalAccountId,
        /// Where.
        conversation: ConversationId,
        /// The words.
        body: String,
        /// The message it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<ObjectId>,
    }
    /// It is committed and on the disk.
    MessageSent {
        /// Of the message.
        id: ObjectId,
    }
    /// Names a message.
    MessageParams {
        /// Whose.
        account: LocalAccountId,
        /// Where.
        conversation: ConversationId,
        /// Which.
        id: ObjectId,
    }
    /// How far a message got.
    MessageStatusResult {
        /// Of the message.
        id: ObjectId,
        /// How far.
        status: MessageStatus,
    }
    /// Other words for a message of one's own.
    MessageEditParams {
        /// Whose.
        account: LocalAccountId,
        /// Where.
        conversation: ConversationId,
        /// The message, which is one's own text.
        id: ObjectId,
        /// The words from now on.
        body: String,
    }
    /// A reaction to a message.
    MessageReactParams {
        /// Whose.
        account: LocalAccountId,
        /// Where.
        conversation: ConversationId,
        /// The message.
        id: ObjectId,
        /// The emoji: at most 64 bytes.
        emoji: String,
    }
    /// Someone types, or stopped.
    MessageSetTypingParams {
        /// Whose.
        account: LocalAccountId,
        /// Where.
        conversation: ConversationId,
        /// Typing?
        typing: bool,
    }
    /// Words to look for.
    MessageSearchParams {
        /// Whose.
        account: LocalAccountId,
        /// Only here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<ConversationId>,
        /// The words.
        query: String,
        /// At most so many: 50 if absent, 200 at most, and fewer where they are long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    }
    /// A message that was found.
    MessageFound {
        /// Where.
        conversation: ConversationId,
        /// The message.
        message: Message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bootstrap_is_a_list_or_one_text() {
        let read = |v| {
            serde_json::from_value::<AccountCreateParams>(json!({ "bootstrap": v }))
                .map(|p| p.bootstrap)
        };
        let two = Some(vec!["a:1".to_string(), "b:2".to_string()]);
        assert_eq!(read(json!(["a:1", "b:2"])).unwrap(), two);
        assert_eq!(read(json!("a:1;b:2")).unwrap(), two);
        assert_eq!(read(json!("a:1, b:2,")).unwrap(), two);
        assert_eq!(read(json!(null)).unwrap(), None);
        assert!(read(json!(7)).is_err());
    }

    #[test]
    fn a_page_is_bounded_whatever_was_asked() {
        assert_eq!(page_limit(None), 50);
        assert_eq!(page_limit(Some(0)), 1);
        assert_eq!(page_limit(Some(u32::MAX)), 200);
    }
}
