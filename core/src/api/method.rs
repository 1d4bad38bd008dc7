//! Every call, with its parameters, its result and who may make it.

use super::message::Message;
use super::params::*;
use super::types::*;
use serde::{Serialize, de::DeserializeOwned};

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Owners alone.
    Owner,
    /// Owners and viewers: it reads across conversations.
    Read,
    /// Everybody, a kiosk within its account and conversations: it reads.
    ScopedRead,
    /// Owners, and a kiosk within its account and conversations: it writes.
    ScopedWrite,
    /// Everybody: it tells nothing about accounts.
    Anyone,
}

impl Access {
    /// Whether a role may call at all. Account and conversation are checked besides.
    pub fn allows(self, role: Role) -> bool {
        match role {
            Role::Owner => true,
            Role::Viewer => matches!(self, Self::Read | Self::ScopedRead | Self::Anyone),
            Role::Kiosk => matches!(self, Self::ScopedRead | Self::ScopedWrite | Self::Anyone),
        }
    }
}

/// One method: a type for each, so that both ends agree at compile time.
pub trait Method {
    /// On the wire.
    const NAME: &'static str;
    /// Who may call it.
    const ACCESS: Access;
    /// What it takes.
    type Params: Serialize + DeserializeOwned + Send + 'static;
    /// What it gives.
    type Result: Serialize + DeserializeOwned + Send + 'static;
}

/// A method without its types.
#[derive(Debug, Clone, Copy)]
pub struct MethodInfo {
    /// On the wire.
    pub name: &'static str,
    /// Who may call it.
    pub access: Access,
    /// What it does.
    pub summary: &'static str,
    /// The schemas of parameters and result.
    #[cfg(feature = "schema")]
    pub schema: fn(&mut schemars::SchemaGenerator) -> (schemars::Schema, schemars::Schema),
}

/// The method of a name.
pub fn find(name: &str) -> Option<&'static MethodInfo> {
    METHODS.iter().find(|m| m.name == name)
}

macro_rules! methods {
    ($($type:ident $name:literal $access:ident ($params:ty) -> $result:ty, $summary:literal;)*) => {
        $(
            #[doc = $summary]
            #[derive(Debug, Clone, Copy)]
            pub struct $type;
            impl Method for $type {
                const NAME: &'static str = $name;
                const ACCESS: Access = Access::$access;
                type Params = $params;
                type Result = $result;
            }
        )*
        /// All of them.
        pub const METHODS: &[MethodInfo] = &[$(MethodInfo {
            name: $name,
            access: Access::$access,
            summary: $summary,
            #[cfg(feature = "schema")]
            schema: |g| (g.subschema_for::<$params>(), g.subschema_for::<$result>()),
        }),*];
    };
}

methods! {
    GetBridgeInfo "bridge.info" Anyone (Nothing) -> BridgeInfo, "What this bridge is, and what the caller may do.";
    BridgeStop "bridge.stop" Owner (Nothing) -> (), "Stops the bridge in good order.";
    BridgeDiagnostics "bridge.diagnostics" Owner (Nothing) -> Diagnostics, "What works and what does not. Holds no message and no key.";
    GetEventsSince "events.since" Anyone (EventsSinceParams) -> EventsSince, "What a page missed while its socket was down.";
    PairingStart "pairing.start" Owner (PairingStartParams) -> PairingCode, "Makes a code that lets one other browser in.";
    PairingList "pairing.list" Owner (Nothing) -> Vec<Grant>, "The browsers that were let in.";
    PairingRevoke "pairing.revoke" Owner (PairingRevokeParams) -> (), "Throws a browser out and closes its sockets.";

    AccountCreate "account.create" Owner (AccountCreateParams) -> Account, "Makes an account on this device.";
    AccountList "account.list" Read (Nothing) -> Vec<Account>, "The accounts of this bridge.";
    AccountGet "account.get" ScopedRead (AccountParams) -> Account, "One account.";
    AccountUpdate "account.update" Owner (AccountUpdateParams) -> Account, "Changes an account's options.";
    AccountRemove "account.remove" Owner (AccountParams) -> (), "Removes an account and everything of it from this bridge.";
    ExportAccount "account.export" Owner (AccountExportParams) -> AccountExport, "A backup of an account.";
    AccountImport "account.import" Owner (AccountImportParams) -> Account, "Takes an account from a backup.";
    AccountChangePassword "account.changePassword" Owner (AccountChangePasswordParams) -> (), "Sets, changes or removes the archive's password.";
    AccountSetProfile "account.setProfile" Owner (AccountSetProfileParams) -> Account, "Changes what others see of the person.";
    AccountSetActive "account.setActive" Owner (AccountSetActiveParams) -> Account, "Switches an account on or off.";

    DeviceList "device.list" Owner (AccountParams) -> Vec<Device>, "The devices of an account, as far as they were met: this one first.";
    DeviceRevoke "device.revoke" Owner (DeviceRevokeParams) -> (), "Takes back another device of an account, for ever: nobody lets it in any more.";

    ContactAdd "contact.add" Owner (ContactAddParams) -> Contact, "Adds a person and sends them a request.";
    ContactList "contact.list" Read (ContactListParams) -> Vec<Contact>, "The people an account knows, blocked ones included.";
    ContactGet "contact.get" Read (ContactParams) -> Contact, "One person.";
    ContactRemove "contact.remove" Owner (ContactParams) -> (), "Removes a person and the conversation with them.";
    ContactBlock "contact.block" Owner (ContactParams) -> (), "Blocks a person; the conversation stays readable.";
    ContactUnblock "contact.unblock" Owner (ContactParams) -> (), "Unblocks a person; who was a contact before the block is one again, if the conversation is still here. Nobody is asked.";

    RequestList "request.list" Read (ConversationListParams) -> Vec<Request>, "Who asks to talk.";
    RequestAccept "request.accept" Owner (RequestParams) -> Conversation, "Accepts; the conversation is looked for at once.";
    RequestDecline "request.decline" Owner (RequestParams) -> (), "Declines; nothing is sent to the one who asked.";
    RequestBlock "request.block" Owner (RequestParams) -> (), "Declines and blocks the one who asked.";

    ConversationCreate "conversation.create" Owner (ConversationCreateParams) -> Conversation, "Makes a conversation.";
    ConversationList "conversation.list" ScopedRead (ConversationListParams) -> Vec<Conversation>, "The conversations of an account, newest message first.";
    ConversationGet "conversation.get" ScopedRead (ConversationParams) -> Conversation, "One conversation.";
    ConversationMembers "conversation.members" ScopedRead (ConversationParams) -> Vec<Member>, "All members of a conversation.";
    ConversationInvite "conversation.invite" Owner (ConversationMemberParams) -> (), "Invites a person.";
    ConversationBan "conversation.ban" Owner (ConversationBanParams) -> Ballot, "Votes for a ban; carries it out when more than half of the admins have voted for it.";
    ConversationUnban "conversation.unban" Owner (ConversationBanParams) -> Ballot, "Votes for the end of a ban; carries it out when more than half of the admins have voted for it.";
    ConversationVotes "conversation.votes" ScopedRead (ConversationParams) -> Vec<Ballot>, "The votes that are not decided.";
    ConversationJoin "conversation.join" Owner (ConversationJoinParams) -> Conversation, "Asks to come into a public conversation.";
    ConversationDismissRefusal "conversation.dismissRefusal" Owner (ConversationParams) -> Conversation, "The person has seen that a history was refused.";
    ConversationLeave "conversation.leave" Owner (ConversationParams) -> (), "Leaves a conversation; of the one with a contact, the contact is removed.";
    ConversationUpdate "conversation.update" Owner (ConversationUpdateParams) -> Conversation, "Changes title, description or picture.";
    ConversationGetPreferences "conversation.preferences" ScopedRead (ConversationParams) -> ConversationPreferences, "What the owner chose for a conversation.";
    ConversationSetPreferences "conversation.setPreferences" Owner (ConversationSetPreferencesParams) -> ConversationPreferences, "Changes what the owner chose for a conversation.";
    GetConversationHistory "conversation.history" ScopedRead (ConversationHistoryParams) -> ConversationHistory, "A piece of history, oldest first: the newest, or what is right before `before`.";
    ConversationVerify "conversation.verify" Read (ConversationParams) -> ConversationVerdict, "Checks every commit again.";
    ExportConversation "conversation.export" Owner (ConversationParams) -> ConversationExport, "The repository as a git bundle.";

    MessageSend "message.send" ScopedWrite (MessageSendParams) -> MessageSent, "Commits a message; answers once it is on the disk.";
    MessageResend "message.resend" ScopedWrite (MessageParams) -> MessageSent, "Sends again what the others go on without, once; it takes the place of what was kept.";
    MessageEdit "message.edit" ScopedWrite (MessageEditParams) -> MessageSent, "Other words for a message of one's own.";
    MessageDelete "message.delete" ScopedWrite (MessageParams) -> (), "Takes the words of a message of one's own away, or its file.";
    MessageReact "message.react" ScopedWrite (MessageReactParams) -> MessageSent, "Reacts to a message.";
    MessageUnreact "message.unreact" ScopedWrite (MessageReactParams) -> (), "Takes a reaction of one's own back.";
    MessageMarkDisplayed "message.markDisplayed" ScopedWrite (MessageParams) -> (), "Everything up to this message was read.";
    MessageSetTyping "message.setTyping" ScopedWrite (MessageSetTypingParams) -> (), "Tells members that someone types.";
    GetMessageStatus "message.status" ScopedRead (MessageParams) -> MessageStatusResult, "How far a message got.";
    MessageGet "message.get" ScopedRead (MessageParams) -> Message, "One message, its words whole.";
    MessageSearch "message.search" Read (MessageSearchParams) -> Vec<MessageFound>, "Messages with these words, newest first.";

    LinkList "link.list" Read (AccountParams) -> Vec<LinkState>, "How the people an account talks to are reached.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_say_their_area() {
        let names: BTreeSet<_> = METHODS.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), METHODS.len());
        assert!(names.iter().all(|n| n.split('.').count() == 2));
    }

    #[test]
    fn a_viewer_changes_nothing_and_a_kiosk_sets_nothing() {
        for m in METHODS {
            let verb = m.name.split('.').nth(1).unwrap();
            let reads = [
                "info", "since", "list", "get", "members", "history", "status", "search", "votes",
            ]
            .contains(&verb)
                || ["conversation.preferences", "conversation.verify"].contains(&m.name);
            if m.access.allows(Role::Viewer) {
                assert!(reads, "{} is open to viewers", m.name);
            }
            if m.access.allows(Role::Kiosk) {
                assert!(
                    !["account.", "pairing.", "contact.", "request."]
                        .iter()
                        .any(|area| m.name.starts_with(area))
                        || m.name == "account.get",
                    "{} is open to kiosks",
                    m.name
                );
            }
            assert!(m.access.allows(Role::Owner));
        }
    }
}
