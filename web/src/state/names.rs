//! What people and conversations are called.

use super::State;
use crate::bridge::Socket;
use crate::picture;
use crate::say::{t, tf, tn};
use crate::timeline::{short_id, short_id_within};
use leptos::prelude::*;
use starling_core::api::{
    Conversation, ConversationMode, ConversationState, Member, MemberRole, PresenceState, Request,
};
use starling_core::id::AccountId;

impl State {
    /// What a person is called here: their own name, the name from the directory, the one they sign with, or the ends of
    /// their address. Where it matters who it is, see [`State::marked_name_of`].
    pub(crate) fn name_of(&self, id: &AccountId) -> String {
        let own = self.account();
        if let Some(account) = own.filter(|a| a.jami_id == *id) {
            return if account.display_name.is_empty() {
                t("person/you")
            } else {
                account.display_name
            };
        }
        self.contacts
            .with(|all| {
                let contact = all.get(id)?;
                let registered = contact.registered_name.clone().unwrap_or_default();
                [contact.display_name.clone(), registered]
                    .into_iter()
                    .find(|n| !n.is_empty())
            })
            .or_else(|| self.name_in_conversations(id, |m| Some(m.display_name.clone())))
            .or_else(|| self.written_name(id))
            .unwrap_or_else(|| short_id(&id.to_hex()))
    }

    /// The same with the ends of the address where the name alone does not tell who it is: one that somebody wrote
    /// beside a signature could be anybody's.
    pub(crate) fn marked_name_of(&self, id: &AccountId) -> String {
        let name = self.name_of(id);
        match self.is_as_written(id, &name) {
            true => {
                let short = short_id_within(&id.to_hex());
                tf("person/as-written", &[("name", &name), ("id", &short)])
            }
            false => name,
        }
    }

    /// Whether this name is only what they sign with.
    pub(crate) fn is_as_written(&self, id: &AccountId, name: &str) -> bool {
        let carded = self.contacts.with(|all| {
            all.get(id).is_some_and(|c| {
                c.display_name == name || c.registered_name.as_deref() == Some(name)
            })
        });
        !carded
            && self.me() != Some(*id)
            && self.written_name(id).as_deref() == Some(name)
            && self
                .name_in_conversations(id, |m| Some(m.display_name.clone()))
                .is_none()
    }

    /// The name that somebody without a card signs with.
    fn written_name(&self, id: &AccountId) -> Option<String> {
        self.name_in_conversations(id, |m| m.written_name.clone())
    }

    /// What there is to know about a name: whose it is, and where it is from if that matters.
    pub(crate) fn name_help(&self, id: &AccountId) -> String {
        let whole = id.to_hex();
        match self.is_as_written(id, &self.name_of(id)) {
            true => tf("person/as-written-help", &[("id", &whole)]),
            false => whole,
        }
    }

    /// The picture of a person, if it is one that may be shown.
    pub(crate) fn picture_of(&self, id: &AccountId) -> Option<String> {
        let shown = |url: Option<String>| url.filter(|url| picture::is_shown(url));
        if let Some(account) = self.account().filter(|a| a.jami_id == *id) {
            return shown(account.avatar);
        }
        let own = self
            .contacts
            .with(|all| all.get(id).and_then(|c| c.avatar.clone()));
        shown(own).or_else(|| {
            let member = |c: &Conversation| {
                c.members
                    .iter()
                    .find(|m| m.id == *id)
                    .and_then(|m| m.avatar.clone())
            };
            self.conversations
                .with(|all| all.values().find_map(|c| shown(c.with(member))))
        })
    }

    /// The picture of a conversation: its own, or that of the other one where there are two.
    pub(crate) fn picture_of_conversation(&self, conversation: &Conversation) -> Option<String> {
        match self.peer(conversation) {
            Some(peer) => self.picture_of(&peer),
            None => conversation
                .avatar
                .clone()
                .filter(|url| picture::is_shown(url)),
        }
    }

    /// What one is in a conversation.
    pub(crate) fn own_role(&self, conversation: &Conversation) -> Option<MemberRole> {
        let me = self.me();
        conversation.own_role.or_else(|| {
            conversation
                .members
                .iter()
                .find(|m| Some(m.id) == me)
                .map(|m| m.role)
        })
    }

    /// Whether the other one of a conversation of two is blocked.
    pub(crate) fn is_blocked(&self, conversation: &Conversation) -> bool {
        let peer = self.peer(conversation);
        peer.is_some_and(|id| {
            self.contacts
                .with(|all| all.get(&id).is_some_and(|c| c.blocked))
        })
    }

    /// Whether anything can be said in a conversation.
    pub(crate) fn may_write(&self, conversation: &Conversation) -> bool {
        conversation.read_only.is_none() && !self.is_blocked(conversation)
    }

    /// Whether one may invite into a conversation.
    pub(crate) fn may_invite(&self, conversation: &Conversation) -> bool {
        let role = self.own_role(conversation);
        conversation.read_only.is_none()
            && match conversation.mode {
                ConversationMode::InvitesOnly | ConversationMode::Public => {
                    matches!(role, Some(MemberRole::Admin | MemberRole::Member))
                }
                ConversationMode::AdminInvitesOnly => role == Some(MemberRole::Admin),
                ConversationMode::OneToOne | ConversationMode::Unknown => false,
            }
    }

    /// Whether one may vote and change the profile of a conversation.
    pub(crate) fn is_admin(&self, conversation: &Conversation) -> bool {
        conversation.mode != ConversationMode::OneToOne
            && conversation.read_only.is_none()
            && self.own_role(conversation) == Some(MemberRole::Admin)
    }

    /// Members of groups need not be contacts.
    fn name_in_conversations(
        &self,
        id: &AccountId,
        name: impl Fn(&Member) -> Option<String>,
    ) -> Option<String> {
        self.conversations.with(|all| {
            let member = |c: &Conversation| c.members.iter().find(|m| m.id == *id).and_then(&name);
            all.values()
                .find_map(|c| c.with(member).filter(|n| !n.is_empty()))
        })
    }

    /// What a conversation is called: its title, or the names of the others in it.
    pub(crate) fn title_of(&self, conversation: &Conversation) -> String {
        if let Some(title) = conversation.title.as_ref().filter(|t| !t.trim().is_empty()) {
            return title.clone();
        }
        // Of one that is only asked to be let in nobody is known yet but whom to ask: it is no conversation with them.
        if conversation.mode == ConversationMode::Public
            && conversation.state == ConversationState::Syncing
        {
            return t("conversation/public-group");
        }
        let others = self.others(conversation);
        match others.as_slice() {
            [] => t("conversation/just-you"),
            [one] => self.name_of(one),
            [first, second] => tf(
                "conversation/two-names",
                &[
                    ("first", &self.name_of(first)),
                    ("second", &self.name_of(second)),
                ],
            ),
            [first, second, rest @ ..] => {
                let more = (conversation.member_count as usize)
                    .saturating_sub(3)
                    .max(rest.len());
                tn(
                    "conversation/more-names",
                    more,
                    &[
                        ("first", &self.name_of(first)),
                        ("second", &self.name_of(second)),
                    ],
                )
            }
        }
    }

    /// Everyone in a conversation but oneself, and but those who went.
    pub(crate) fn others(&self, conversation: &Conversation) -> Vec<AccountId> {
        let me = self.me();
        let here = conversation.members.iter().filter(|m| Some(m.id) != me);
        let here: Vec<_> = here
            .filter(|m| !matches!(m.role, MemberRole::Left | MemberRole::Banned))
            .map(|m| m.id)
            .collect();
        if here.is_empty() && conversation.mode == ConversationMode::OneToOne {
            // The other may have left; the conversation still is the one with them.
            return conversation
                .members
                .iter()
                .filter(|m| Some(m.id) != me)
                .map(|m| m.id)
                .collect();
        }
        here
    }

    /// The other one, where there are two.
    pub(crate) fn peer(&self, conversation: &Conversation) -> Option<AccountId> {
        match conversation.mode {
            ConversationMode::OneToOne => self.others(conversation).into_iter().next(),
            _ => None,
        }
    }

    /// Whether anybody can be reached at all: the page has its bridge, and the account is on a network.
    pub(crate) fn is_connected(&self) -> bool {
        use starling_core::api::AccountState::{Broken, Inactive, Offline, Revoked};
        self.bridge().state().get() == Socket::Open
            && self
                .account()
                .is_none_or(|a| !matches!(a.state, Offline | Inactive | Revoked | Broken))
    }

    /// Whether someone can be reached.
    pub(crate) fn is_online(&self, id: &AccountId) -> bool {
        if !self.is_connected() {
            return false;
        }
        let linked = self.links.with(|all| {
            all.get(id)
                .is_some_and(|l| l.phase == starling_core::api::LinkPhase::Connected)
        });
        linked
            || self.contacts.with(|all| {
                all.get(id)
                    .is_some_and(|c| c.presence.state != PresenceState::Offline)
            })
    }

    /// What a request comes from.
    pub(crate) fn asker(&self, request: &Request) -> String {
        if request.display_name.is_empty() {
            short_id(&request.from.to_hex())
        } else {
            request.display_name.clone()
        }
    }
}
