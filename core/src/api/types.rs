//! What the bridge knows, as the page sees it.

use super::message::Message;
use crate::id::{AccountId, ConversationId, DeviceId, ObjectId};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// Milliseconds since 1970-01-01 00:00 UTC.
pub type Millis = i64;

/// The bridge's own name for one of its accounts (never sent to peers): 1 to 40 characters
/// of `a-z 0-9 -`, so that it can name a directory. New ones are 16 hexadecimal digits, as
/// Jami's are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalAccountId(String);

/// A text that is no [`LocalAccountId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected the bridge's id of an account (1 to 40 of a-z, 0-9, -)")]
pub struct BadLocalAccountId;

impl LocalAccountId {
    /// From 8 random bytes.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(hex::encode(bytes))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LocalAccountId {
    type Err = BadLocalAccountId;
    fn from_str(s: &str) -> Result<Self, BadLocalAccountId> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if s.is_empty() || s.len() > 40 || !s.bytes().all(good) {
            return Err(BadLocalAccountId);
        }
        Ok(Self(s.into()))
    }
}

impl fmt::Display for LocalAccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for LocalAccountId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LocalAccountId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Whether an account is reachable.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum AccountState {
    /// Switched off by its owner.
    #[default]
    Inactive,
    /// Being created or read from disk, or waiting until there is room on the disk to open it: then
    /// every other method says so.
    Loading,
    /// Looking for the network.
    Connecting,
    /// Announced: others can find it.
    Online,
    /// No network; it comes back by itself.
    Offline,
    /// The device was revoked.
    Revoked,
    /// Its files are damaged; see the notice. What of it cannot be read is empty, or zeros. Every
    /// other method says what to do; `account.remove` takes it away.
    Broken,
}

/// One of the bridge's accounts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// The bridge's id of it: what other methods take as `account`.
    pub id: LocalAccountId,
    /// The address others know it by.
    pub jami_id: AccountId,
    /// This device.
    pub device_id: DeviceId,
    /// What the device is called.
    #[serde(default)]
    pub device_name: String,
    /// The person's name; may be empty.
    #[serde(default)]
    pub display_name: String,
    /// A `data:` URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// A name at the name server, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_name: Option<String>,
    /// Whether its owner wants it on.
    pub active: bool,
    /// Whether it is reachable.
    pub state: AccountState,
    /// The archive is protected by a password.
    #[serde(default)]
    pub has_password: bool,
    /// Options.
    #[serde(default)]
    pub settings: AccountSettings,
}

/// Options of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct AccountSettings {
    /// `host:port` of DHT nodes to start from; empty for the bridge's.
    pub bootstrap: Vec<String>,
    /// The name directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_server: Option<String>,
    /// A DHT proxy, instead of a node of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dht_proxy: Option<String>,
    /// A relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
    /// Tell others what was read; and learn what they read.
    pub read_receipts: bool,
    /// Tell others while one types; and learn when they do.
    pub typing: bool,
    /// Strangers may send requests.
    pub allow_strangers: bool,
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            name_server: None,
            dht_proxy: None,
            turn: None,
            read_receipts: true,
            typing: true,
            allow_strangers: true,
        }
    }
}

/// Whether someone can be reached.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum PresenceState {
    /// No device is known to be there.
    #[default]
    Offline,
    /// A device announces itself.
    Available,
    /// A device is connected to this bridge.
    Connected,
}

/// Whether someone can be reached, and since when it is so.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Can they be reached?
    pub state: PresenceState,
    /// Since when, as far as this bridge saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Millis>,
}

/// Someone an account knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// Their address.
    pub id: AccountId,
    /// What they call themselves; empty while unknown.
    #[serde(default)]
    pub display_name: String,
    /// Their name at the name server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_name: Option<String>,
    /// A `data:` URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// When they were added.
    pub added: Millis,
    /// They have accepted (or their request was).
    pub confirmed: bool,
    /// Blocked by the account's owner.
    #[serde(default)]
    pub blocked: bool,
    /// The one-to-one conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// Can they be reached?
    #[serde(default)]
    pub presence: Presence,
}

/// Someone asks to talk, or to come into a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The conversation one is asked into.
    pub conversation: ConversationId,
    /// Who asks.
    pub from: AccountId,
    /// What they call themselves.
    #[serde(default)]
    pub display_name: String,
    /// A `data:` URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// What kind of conversation.
    pub mode: ConversationMode,
    /// The group's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The group's description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words that came along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it came.
    pub received_at: Millis,
}

/// Who may bring in whom. The number in a repository's root commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ConversationMode {
    /// 0: two people.
    OneToOne,
    /// 1: only admins invite.
    AdminInvitesOnly,
    /// 2: every member invites.
    InvitesOnly,
    /// 3: anyone may join.
    Public,
    /// A mode of a newer peer.
    #[serde(other)]
    Unknown,
}

impl ConversationMode {
    /// From the number in the root commit.
    pub fn from_number(mode: i64) -> Self {
        match mode {
            0 => Self::OneToOne,
            1 => Self::AdminInvitesOnly,
            2 => Self::InvitesOnly,
            3 => Self::Public,
            _ => Self::Unknown,
        }
    }
}

/// How far a conversation is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ConversationState {
    /// Here, whole.
    #[default]
    Ready,
    /// Accepted, but nobody with a copy was reached yet.
    Syncing,
    /// Left; kept until someone else knows.
    Leaving,
    /// Accepted, but what was offered breaks the rules of conversations. Others who may have an
    /// honest copy are still asked.
    Refused,
}

/// A conversation in the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// The id of its root commit.
    pub id: ConversationId,
    /// What kind.
    pub mode: ConversationMode,
    /// How far it is.
    #[serde(default)]
    pub state: ConversationState,
    /// The title its admins gave it; absent where the members' names serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A `data:` URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// When the root commit was made.
    pub created: Millis,
    /// The first members, oneself included, admins first: at most 32.
    #[serde(default)]
    pub members: Vec<Member>,
    /// How many members there are in all, admins among them. Who was only invited is not in it yet.
    #[serde(default)]
    pub member_count: u32,
    /// What is shown last: of a long text its beginning, of changes the first words, no reactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<Box<Message>>,
    /// Texts, files and calls of others since the last message read, and those that came later than that and stand
    /// before it.
    #[serde(default)]
    pub unread: u32,
    /// The last message before what is unread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_up_to: Option<ObjectId>,
    /// What the owner chose for this conversation.
    #[serde(default)]
    pub preferences: ConversationPreferences,
    /// What one is in it oneself; absent until it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_role: Option<MemberRole>,
    /// Nothing can be written here (any more), and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<ReadOnly>,
    /// What others in this conversation let in and this bridge refuses; where `read_only` says
    /// that the history here is invalid, what is wrong with that. There until the person
    /// dismisses it (`conversation.dismissRefusal`) or that history is taken after all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedHistory>,
    /// Of a public conversation: what others give to `conversation.join`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// Why nothing can be written in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ReadOnly {
    /// The admins banned this account, or this device of it.
    Banned,
    /// This account has left, here or on another device.
    Left,
    /// There is no copy: everything that was offered breaks the rules, or came damaged. Whoever may
    /// have it whole is still asked.
    Refused,
    /// The history that is here breaks the rules, as was found after it had been taken in, for
    /// instance under rules of before. `refused` says what is wrong with it.
    Invalid,
    /// A reason of a newer bridge.
    #[serde(other)]
    Unknown,
}

/// A history that was offered and refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RefusedHistory {
    /// The rule's name, for example `InviteByNonAdmin`.
    pub rule: String,
    /// What it means, in English.
    pub detail: String,
    /// The device that offered it: it has taken it in.
    pub from: DeviceId,
    /// Whose commit is at fault, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// The commit at fault, where there is one; of a pack that is bad, what it was to bring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<ObjectId>,
    /// When it was refused first.
    pub at: Millis,
}

/// What admins vote for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum BallotAction {
    /// Away with them.
    Ban,
    /// Let them back.
    Unban,
}

/// A vote of the admins, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Ballot {
    /// Whom it is about. With a device: whose it is.
    pub target: AccountId,
    /// The one device it is about; absent where it is about the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// What is voted for.
    pub action: BallotAction,
    /// The admins who have voted for it. (Nobody can vote against it.)
    pub voters: Vec<AccountId>,
    /// How many admins there are.
    pub admins: u32,
    /// How many votes decide: more than half of the admins.
    pub needed: u32,
    /// It has been carried out.
    pub decided: bool,
}

/// What an owner chose for a conversation. Never seen by others.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ConversationPreferences {
    /// `#rrggbb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// No notifications.
    pub ignore_notifications: bool,
    /// An emoji.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
}

/// What someone is in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum MemberRole {
    /// May vote and change the profile.
    Admin,
    /// May write.
    Member,
    /// Asked, not in yet.
    Invited,
    /// Thrown out.
    Banned,
    /// Went.
    Left,
}

/// Someone in a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Their address.
    pub id: AccountId,
    /// What they are.
    pub role: MemberRole,
    /// What they call themselves; empty while unknown.
    #[serde(default)]
    pub display_name: String,
    /// While that is unknown: the name beside the last thing they signed here. They chose it, and
    /// nobody checked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_name: Option<String>,
    /// A `data:` URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// The last message they say they have read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_up_to: Option<ObjectId>,
    /// Can they be reached?
    #[serde(default)]
    pub presence: Presence,
}

/// How far the way to a person's device is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum LinkPhase {
    /// Nothing is being tried: no device announces itself.
    #[default]
    Idle,
    /// Looking for their devices.
    LookingUp,
    /// A device was found; finding a way to it.
    Negotiating,
    /// There is a way.
    Connected,
    /// It did not work; tried again after a while.
    Failed,
}

/// Over what a device is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum LinkRoute {
    /// The same machine or local network.
    Local,
    /// Directly across the internet.
    Direct,
    /// Through a relay.
    Relay,
}

/// How a person is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LinkState {
    /// Whom one wants to reach.
    pub peer: AccountId,
    /// With which of their devices; absent while none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// How far it is.
    pub phase: LinkPhase,
    /// Over what, once connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<LinkRoute>,
    /// Why it failed, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when it is so.
    pub since: Millis,
}

/// One device of an account of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Which.
    pub device: DeviceId,
    /// It is the one that answers.
    #[serde(default)]
    pub current: bool,
    /// It was taken back: nobody lets it in any more.
    #[serde(default)]
    pub revoked: bool,
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Everything.
    Owner,
    /// Reads and writes in named conversations of one account; no settings.
    Kiosk,
    /// Reads, changes nothing.
    Viewer,
}

/// A browser that was let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Names it in `pairing.revoke`.
    pub id: String,
    /// What its person called it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The one account it sees; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<LocalAccountId>,
    /// The conversations a kiosk sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conversations: Vec<ConversationId>,
    /// When it was paired.
    pub created: Millis,
    /// When it last opened a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Millis>,
    /// Its open sockets.
    #[serde(default)]
    pub connected: u32,
    /// It is the one that asks.
    #[serde(default)]
    pub current: bool,
}

/// A new code for another browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PairingCode {
    /// The code alone. One use.
    pub code: String,
    /// A URL with the code in its fragment, which browsers never send.
    pub url: String,
    /// When it stops working.
    pub expires: Millis,
}

/// What the bridge is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BridgeInfo {
    /// `starling`.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// Of this API; grows when a name changes its meaning.
    pub api_version: u32,
    /// The number of the newest event: start `events.since` here.
    pub seq: u64,
    /// The bridge's clock.
    pub now: Millis,
    /// When it started.
    pub started: Millis,
    /// What the caller may do.
    pub role: Role,
    /// The caller's grant; absent for the admin token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// How many accounts there are.
    pub accounts: u32,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum CheckStatus {
    /// Works.
    Ok,
    /// Works, with a drawback.
    Warning,
    /// Does not work.
    Failed,
    /// Was not tried; the detail says why.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at, for example `disk space`.
    pub name: String,
    /// How it is.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// The state of one address family of the DHT node.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DhtState {
    /// `disconnected`, `connecting` or `connected`.
    pub state: String,
    /// Nodes that answer.
    pub good_nodes: u32,
    /// Nodes that might.
    pub known_nodes: u32,
    /// Values kept for others.
    pub stored_values: u32,
}

/// What a person needs to see when something does not work. Holds no message, no key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Diagnostics {
    /// Of the program.
    pub version: String,
    /// Since the start.
    pub uptime_ms: u64,
    /// Open pages.
    pub sockets: u32,
    /// Events in memory.
    pub events_kept: u32,
    /// The DHT node by account and family (`ipv4`, `ipv6`).
    #[serde(default)]
    pub dht: BTreeMap<String, DhtState>,
    /// What the DHT node did not take of what others sent, and others not of what it sent, since it began: how many of
    /// each kind, in English words. Kinds of which there was none are left out.
    #[serde(default)]
    pub dht_refused: BTreeMap<String, u64>,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// How loud a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum NoticeLevel {
    /// Good to know.
    Info,
    /// Something is not as it should be.
    Warning,
    /// Something does not work.
    Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_account_id_can_name_a_directory() {
        assert!("0123456789abcdef".parse::<LocalAccountId>().is_ok());
        for bad in ["", ".", "..", "a/b", "A", "é", "a\0b", &"a".repeat(41)] {
            assert_eq!(bad.parse::<LocalAccountId>(), Err(BadLocalAccountId));
        }
    }

    #[test]
    fn settings_that_are_not_named_keep_their_default() {
        let s: AccountSettings = serde_json::from_str(r#"{"typing":false}"#).unwrap();
        assert!(!s.typing && s.read_receipts);
    }
}
