//! How people are reached, in words.

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

/// Under the title: over what one is connected, or how many members there are.
pub(crate) fn subtitle(state: State, conversation: &Conversation) -> String {
    match state.peer(conversation) {
        Some(peer) => one(state, &peer),
        None => {
            let others = state.others(conversation);
            let online = others.iter().filter(|id| state.is_online(id)).count();
            let members = tn(
                "conversation/members",
                conversation.member_count.max(1) as usize,
                &[],
            );
            if online == 0 {
                members
            } else {
                format!("{members} · {}", tn("conversation/online", online, &[]))
            }
        }
    }
}

fn one(state: State, peer: &AccountId) -> String {
    let link = state.links.with(|all| all.get(peer).cloned());
    let presence = state
        .contacts
        .with(|all| all.get(peer).map(|c| c.presence))
        .unwrap_or_default();
    match link.map(|l| (l.phase, l.over)) {
        Some((LinkPhase::Connected, Some(LinkRoute::Local))) => t("link/local"),
        Some((LinkPhase::Connected, Some(LinkRoute::Relay))) => t("link/relay"),
        Some((LinkPhase::Connected, _)) => t("link/direct"),
        _ => match (presence.state, presence.since) {
            (PresenceState::Offline, Some(since)) if local_day(since) == local_day(now_ms()) => {
                tf("link/offline-since", &[("time", &clock(since))])
            }
            (PresenceState::Offline, Some(since)) => {
                tf("link/offline-since", &[("time", &brief_time(since))])
            }
            (PresenceState::Offline, None) => t("link/offline"),
            _ => t("link/available"),
        },
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
    let (blocked, confirmed) = state.contacts.with(|all| {
        all.get(&peer)
            .map_or((false, true), |c| (c.blocked, c.confirmed))
    });
    if blocked {
        return Some((Tone::Failed, tf("link/blocked", &[("name", &name)])));
    }
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
        LinkPhase::Idle if waiting > 0 && !state.is_online(&peer) => Some((
            Tone::Quiet,
            tn("link/offline-waiting", waiting, &[("name", &name)]),
        )),
        LinkPhase::Idle => None,
    }
}
