//! Votes of the admins: how they stand, and the question before one's own.

use super::questions::Confirm;
use crate::parts::{Icon, icon};
use crate::say::{self, t, tf, tn};
use crate::state::{Question, State};
use leptos::prelude::*;
use starling_core::api::{ApiError, Ballot, BallotAction, Conversation, MemberRole};
use starling_core::id::{AccountId, ConversationId, DeviceId};
use wasm_bindgen_futures::spawn_local;

/// How many admins a conversation has.
fn admins(conversation: &Conversation) -> usize {
    conversation
        .members
        .iter()
        .filter(|m| m.role == MemberRole::Admin)
        .count()
}

/// The admins who voted, as a list in a sentence.
fn voters(state: State, ballot: &Ballot) -> String {
    let me = state.me();
    let names: Vec<String> = ballot
        .voters
        .iter()
        .map(|id| match Some(*id) == me {
            true => t("person/you"),
            false => state.name_of(id),
        })
        .collect();
    say::list(&names)
}

/// How a vote stands: “1 of 2 admins voted to ban Denys”.
fn standing(state: State, ballot: &Ballot) -> String {
    let whom = match (Some(ballot.target) == state.me(), ballot.device) {
        (true, None) => t("event/you"),
        (true, Some(_)) => t("event/device-of-yours"),
        (false, None) => state.name_of(&ballot.target),
        (false, Some(_)) => tf(
            "event/device-of",
            &[("whom", &state.name_of(&ballot.target))],
        ),
    };
    let all = ballot.admins.to_string();
    let key = match ballot.action {
        BallotAction::Ban => "vote/to-ban",
        BallotAction::Unban => "vote/to-unban",
    };
    tn(key, ballot.voters.len(), &[("all", &all), ("whom", &whom)])
}

/// The votes that are not decided.
#[component]
pub(crate) fn OpenVotes(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let conversation = untrack(|| state.conversation(&id))?;
    let open = Memo::new(move |_| {
        state.ballots.with(|all| {
            let open = all.get(&id).cloned().unwrap_or_default();
            open.into_iter().filter(|b| !b.decided).collect::<Vec<_>>()
        })
    });
    let admin = Memo::new(move |_| conversation.with(|c| state.is_admin(c)));
    Some(move || {
        (!open.with(Vec::is_empty)).then(|| {
            let rows = open.get().into_iter().map(|ballot| {
                let me = state.me();
                let mine = me.is_some_and(|me| ballot.voters.contains(&me));
                let about_me = Some(ballot.target) == me;
                let missing = (ballot.needed as usize).saturating_sub(ballot.voters.len());
                let (target, device, action) = (ballot.target, ballot.device, ballot.action);
                let word = match action {
                    BallotAction::Ban => t("vote/join-ban"),
                    BallotAction::Unban => t("vote/join-unban"),
                };
                view! {
                    <li class="ballot" data-testid="ballot">
                        {icon(Icon::Vote)}
                        <div>
                            <p class="words">{standing(state, &ballot)}</p>
                            <p class="small quiet">{tf("vote/so-far", &[("names", &voters(state, &ballot))])} " " {tn("vote/missing", missing, &[])}</p>
                            {(admin.get() && !mine && !about_me).then(|| view! {
                                <button class="button" type="button" on:click=move |_| state.question.set(Some(Question::Vote(id, target, device, action)))>{word}</button>
                            })}
                        </div>
                    </li>
                }
            });
            view! {
                <div class="part">
                    <h3>{t("vote/title")}</h3>
                    <ul class="stack tight">{rows.collect_view()}</ul>
                </div>
            }
        })
    })
}

/// Asks an admin who has not voted yet, where the conversation is read.
#[component]
pub(crate) fn AskedToVote(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let conversation = untrack(|| state.conversation(&id))?;
    let admin = Memo::new(move |_| conversation.with(|c| state.is_admin(c)));
    let asked = Memo::new(move |_| {
        let me = state.me()?;
        let waits = |b: &&Ballot| !b.decided && b.target != me && !b.voters.contains(&me);
        state
            .ballots
            .with(|all| all.get(&id)?.iter().find(waits).cloned())
            .filter(|_| admin.get())
    });
    Some(move || {
        asked.get().map(|ballot| {
            let question = Question::Vote(id, ballot.target, ballot.device, ballot.action);
            view! {
                <div class="link-line with-button asks" role="note" data-testid="asked-to-vote">
                    <p>{standing(state, &ballot)}</p>
                    <button class="button small-button" type="button" on:click=move |_| state.question.set(Some(question.clone()))>{t("vote/open")}</button>
                </div>
            }
        })
    })
}

/// What a vote does, in full, before it is cast.
#[component]
pub(crate) fn VoteQuestion(
    id: ConversationId,
    person: AccountId,
    device: Option<DeviceId>,
    action: BallotAction,
) -> impl IntoView {
    let state = State::get();
    let conversation = untrack(|| state.conversation(&id))?;
    // Whom it is about must be beyond doubt.
    let name = untrack(|| state.marked_name_of(&person));
    let open = state.ballots.with_untracked(|all| {
        let this = |b: &&Ballot| {
            b.target == person && b.device == device && b.action == action && !b.decided
        };
        all.get(&id)?.iter().find(this).cloned()
    });
    let (admins, role) = conversation.with_untracked(|c| {
        let role = c.members.iter().find(|m| m.id == person).map(|m| m.role);
        (admins(c).max(1), role)
    });
    let (needed, admins) = match &open {
        Some(ballot) => (ballot.needed as usize, ballot.admins as usize),
        None => (admins / 2 + 1, admins),
    };
    let voted = open.as_ref().map_or(0, |b| b.voters.len());
    // One's own vote may be the one that was missing.
    let decides = voted + 1 >= needed;
    let values = [("name", name.as_str())];
    let mut text = Vec::new();
    match (action, role) {
        (BallotAction::Ban, _) if device.is_some() => {
            text.push(tf("vote/ban-device-does", &values));
        }
        (BallotAction::Ban, Some(MemberRole::Invited)) => {
            text.push(tf("vote/ban-invited", &values));
        }
        (BallotAction::Ban, _) => {
            text.push(tf("vote/ban-does", &values));
            text.push(tf("vote/ban-keeps", &values));
        }
        (BallotAction::Unban, _) => text.push(tf("vote/unban-does", &values)),
    }
    if let Some(ballot) = open.as_ref().filter(|_| decides && voted > 0) {
        let names = untrack(|| voters(state, ballot));
        text.push(tn("vote/decides", voted, &[("names", &names)]));
    } else if needed > 1 {
        let (needed, all) = (needed.to_string(), admins.to_string());
        text.push(tf("vote/needs", &[("needed", &needed), ("all", &all)]));
    } else {
        text.push(t("vote/at-once"));
    }
    let go = match (action, !decides) {
        (BallotAction::Ban, _) if device.is_some() => t("vote/go-ban-device"),
        (BallotAction::Ban, true) => tf("vote/go-ban", &values),
        (BallotAction::Ban, false) => tf("vote/go-ban-now", &values),
        (BallotAction::Unban, true) => tf("vote/go-unban", &values),
        (BallotAction::Unban, false) => tf("vote/go-unban-now", &values),
    };
    let act = Callback::new(move |error: RwSignal<Option<ApiError>>| {
        spawn_local(async move {
            match state.vote(id, person, device, action).await {
                Ok(ballot) => {
                    state.question.set(None);
                    state.said.set(untrack(|| standing(state, &ballot)));
                }
                Err(e) => drop(error.try_set(Some(e))),
            }
        });
    });
    Some(view! { <Confirm text=text go=go act=act /> })
}
