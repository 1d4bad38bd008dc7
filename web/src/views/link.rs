//! How people are reached, in words.

use crate::bridge::Socket;
use crate::browser::{brief_time, clock, local_day, now_ms};
use crate::say::{t, tf, tn};
use crate::state::{History, State};
use leptos::prelude::*;
use starling_core::api::{
    Conversation, ConversationMode, ConversationState, Delivery, LinkPhase, LinkRoute,
    PresenceState,
};
use starling_core::id::AccountId;

/// How loud the line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Quiet,
    Trying,
    Failed,
}

impl Tone {
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Quiet => "link-line",
            Self::Trying => "link-line trying",
            Self::Failed => "link-line failed",
        }
    }
}

/// Under the title: whether the other one is there, or how many members are. Where nobody can be reached at all, that is
/// no news about them.
pub(crate) fn subtitle(state: State, conversation: &Conversation) -> String {
    match state.peer(conversation) {
        Some(_) if !state.is_connected() || state.is_blocked(conversation) => String::new(),
        Some(peer) => presence(state, &peer),
        // Who the members are is not known before the history is here.
        None if conversation.state != ConversationState::Ready => String::new(),
        None => {
            let others = state.others(conversation);
            let online = others.iter().filter(|id| state.is_online(id)).count();
            let members = tn(
                "conversation/members",
                conversation.member_count.max(1) as usize,
                &[],
            );
            // Whoever is out hears nothing of the others any more.
            if online == 0 || conversation.read_only.is_some() {
                members
            } else {
                format!("{members} · {}", tn("conversation/online", online, &[]))
            }
        }
    }
}

/// Over what one is connected with somebody, if one is.
pub(crate) fn route(state: State, peer: &AccountId) -> Option<String> {
    if !state.is_connected() {
        return None;
    }
    let link = state.links.with(|all| all.get(peer).cloned())?;
    match (link.phase, link.over) {
        (LinkPhase::Connected, Some(LinkRoute::Local)) => Some(t("link/local")),
        (LinkPhase::Connected, Some(LinkRoute::Relay)) => Some(t("link/relay")),
        (LinkPhase::Connected, _) => Some(t("link/direct")),
        _ => None,
    }
}

/// Since when somebody is away, in words; nothing if that is not known.
fn away_since(state: State, peer: &AccountId) -> Option<String> {
    let presence = state
        .contacts
        .with(|all| all.get(peer).map(|c| c.presence))
        .unwrap_or_default();
    let since = presence
        .since
        .filter(|_| presence.state == PresenceState::Offline)?;
    Some(match local_day(since) == local_day(now_ms()) {
        true => clock(since),
        false => brief_time(since),
    })
}

fn presence(state: State, peer: &AccountId) -> String {
    match (state.is_online(peer), away_since(state, peer)) {
        (true, _) => t("link/available"),
        (false, Some(time)) => tf("link/offline-since", &[("time", &time)]),
        (false, None) => t("link/offline"),
    }
}

/// How many of one's own messages the other has not got.
fn undelivered(history: &History, me: Option<AccountId>) -> usize {
    history.entries.with(|entries| {
        let last = entries.iter().rev().take(50);
        last.filter(|(_, signal)| {
            signal.with(|m| {
                Some(m.author) == me
                    && m.body.is_some()
                    && m.status.state.is_some_and(|s| s < Delivery::Fetched)
            })
        })
        .count()
    })
}

/// The line under the header, when it matters.
pub(crate) fn line(
    state: State,
    conversation: &Conversation,
    history: &History,
) -> Option<(Tone, String)> {
    // The page says so itself, over everything.
    if state.bridge().state().get() != Socket::Open {
        return None;
    }
    if conversation.state == ConversationState::Syncing
        && conversation.mode == ConversationMode::Public
    {
        return Some((Tone::Trying, t("link/knocking")));
    }
    if conversation.state == ConversationState::Syncing {
        return Some((Tone::Trying, t("link/syncing")));
    }
    if let Some(account) = state.account() {
        use starling_core::api::AccountState::*;
        match account.state {
            Inactive => return Some((Tone::Failed, t("link/account-off"))),
            Offline => return Some((Tone::Failed, t("link/no-network"))),
            Revoked => return Some((Tone::Failed, t("link/revoked"))),
            Broken => return Some((Tone::Failed, t("link/broken"))),
            Loading => return Some((Tone::Trying, t("link/loading"))),
            Connecting | Online => {}
        }
    }
    if conversation.mode != ConversationMode::OneToOne {
        return None;
    }
    let peer = state.peer(conversation)?;
    let name = state.name_of(&peer);
    // That is said where one would write.
    if state.is_blocked(conversation) {
        return None;
    }
    let confirmed = state
        .contacts
        .with(|all| all.get(&peer).is_none_or(|c| c.confirmed));
    let waiting = undelivered(history, state.me());
    let link = state.links.with(|all| all.get(&peer).cloned());
    let phase = link.as_ref().map(|l| l.phase).unwrap_or_default();
    let text = |key| tf(key, &[("name", &name)]);
    match phase {
        LinkPhase::Connected => None,
        LinkPhase::LookingUp => Some((Tone::Trying, text("link/looking-up"))),
        LinkPhase::Negotiating => Some((Tone::Trying, text("link/negotiating"))),
        LinkPhase::Failed if waiting > 0 => Some((
            Tone::Failed,
            tn("link/failed-waiting", waiting, &[("name", &name)]),
        )),
        LinkPhase::Failed => Some((Tone::Failed, text("link/failed"))),
        LinkPhase::Idle if !confirmed => Some((Tone::Quiet, text("link/not-confirmed"))),
        LinkPhase::Idle if waiting > 0 && !state.is_online(&peer) => {
            let words = match away_since(state, &peer) {
                Some(time) => {
                    let values = [("name", name.as_str()), ("time", time.as_str())];
                    tn("link/offline-since-waiting", waiting, &values)
                }
                None => tn("link/offline-waiting", waiting, &[("name", &name)]),
            };
            Some((Tone::Quiet, words))
        }
        LinkPhase::Idle => None,
    }
}
