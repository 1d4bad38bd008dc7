//! Conversations in which one cannot write, and histories that were refused: why, and what one can do.

use super::questions::is_in;
use crate::browser::{self, full_time};
use crate::parts::{Icon, icon, turning_icon};
use crate::rule;
use crate::say::{t, tf};
use crate::state::{Place, Question, State};
use crate::timeline::short_id;
use leptos::prelude::*;
use starling_core::api::method::ConversationDismissRefusal;
use starling_core::api::{
    Conversation, ConversationMode, ConversationParams, MemberAction, ReadOnly, RefusedHistory,
};
use starling_core::id::{AccountId, ConversationId};
use wasm_bindgen_futures::spawn_local;

/// What a report says, for somebody who looks into it.
fn report(conversation: &Conversation, refused: &RefusedHistory) -> String {
    let mut lines = vec![
        format!("conversation: {}", conversation.id),
        format!("rule: {}", refused.rule),
        format!("detail: {}", refused.detail),
        format!("from device: {}", refused.from),
    ];
    if let Some(account) = refused.account {
        lines.push(format!("author: {account}"));
    }
    if let Some(commit) = refused.commit {
        lines.push(format!("commit: {commit}"));
    }
    lines.push(format!("at: {}", refused.at));
    lines.join("\n")
}

/// Which rule was broken, by whom, and what one can do.
#[component]
pub(crate) fn Refusal(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let signal = untrack(|| state.conversation(&id))?;
    let conversation: Signal<Conversation> = signal.into();
    let copied = RwSignal::new(false);
    Some(move || {
        let refused = conversation.with(|c| c.refused.clone())?;
        let why = conversation.with(|c| c.read_only);
        let nothing_else = matches!(why, Some(ReadOnly::Refused | ReadOnly::Invalid));
        let who = refused.account.map_or_else(
            || {
                tf(
                    "refused/device",
                    &[("device", &short_id(&refused.from.to_hex()))],
                )
            },
            |id| state.marked_name_of(&id),
        );
        let values = [("name", who.as_str())];
        let broke = rule::words(&refused.rule);
        // What came so from one may be whole at another.
        let damaged = broke == "rule/damaged";
        let what = match refused.rule.as_str() {
            "NotForUs" => t("refused/not-meant"),
            _ if damaged => tf("refused/sent", &values),
            _ => tf("refused/what", &values),
        };
        let broke = t(broke);
        let means = t(match why {
            Some(ReadOnly::Refused) => "refused/none-here",
            Some(ReadOnly::Invalid) => "refused/only-read",
            _ if damaged => "refused/sent-goes-on",
            _ => "refused/goes-on",
        });
        let facts = [
            Some(("refused/rule", refused.rule.clone())),
            Some(("refused/from", refused.from.to_hex())),
            refused.account.map(|a| ("refused/author", a.to_hex())),
            refused.commit.map(|c| ("refused/commit", c.to_hex())),
        ];
        let text = conversation.with(|c| report(c, &refused));
        let copy = move |_| {
            let text = text.clone();
            spawn_local(async move {
                if browser::copy(&text).await {
                    copied.set(true);
                    state.said.set(t("address/copied"));
                    browser::sleep_ms(2_000).await;
                    copied.try_set(false);
                }
            });
        };
        let dismiss = move |_| {
            let Some(account) = state.account_id.get_untracked() else {
                return;
            };
            spawn_local(async move {
                let params = ConversationParams {
                    account,
                    conversation: id,
                };
                match state
                    .bridge()
                    .call::<ConversationDismissRefusal>(params)
                    .await
                {
                    Ok(conversation) => state.put(conversation),
                    Err(error) => state.report(&error),
                }
            });
        };
        Some(view! {
            <div class="part refusal" data-testid="refusal">
                <div class="verdict bad">{icon(Icon::ShieldBad)}
                    <div class="stack tight"><p>{what}</p><p class="words">{broke}</p></div></div>
                <p>{means}</p>
                <details>
                    <summary>{t("refused/facts")}</summary>
                    <dl class="facts">
                        {facts.into_iter().flatten().map(|(key, value)| view! { <dt>{t(key)}</dt><dd>{value}</dd> }).collect_view()}
                        <dt>{t("refused/when")}</dt><dd class="plain">{full_time(refused.at)}</dd>
                        <dt>{t("refused/detail")}</dt><dd class="plain" lang="en" dir="ltr">{refused.detail.clone()}</dd>
                    </dl>
                </details>
                <div class="row">
                    <button class="button" type="button" on:click=copy>{icon(Icon::Copy)}{move || t(if copied.get() { "address/copied" } else { "refused/report" })}</button>
                    {match nothing_else {
                        true => ().into_any(),
                        false => view! { <button class="button" type="button" on:click=dismiss>{t("refused/go-on")}</button> }.into_any(),
                    }}
                </div>
            </div>
        })
    })
}

/// The button that asks whether to end it with a conversation: to leave it, or to delete what is here of it.
#[component]
pub(crate) fn End(id: ConversationId, #[prop(optional)] small: bool) -> impl IntoView {
    let state = State::get();
    move || {
        let conversation = state.conversation(&id)?;
        let peer = conversation.with(|c| state.peer(c));
        // Followed: one may be banned, or leave elsewhere, while this is shown.
        conversation.track();
        let (words, mark, question) = match peer {
            Some(peer) => (
                "details/remove-person",
                icon(Icon::Delete).into_any(),
                Question::RemovePerson(peer, id),
            ),
            None if is_in(state, &id) => (
                "details/leave",
                turning_icon(Icon::Leave).into_any(),
                Question::Leave(id),
            ),
            None => (
                "closed/remove",
                icon(Icon::Delete).into_any(),
                Question::Leave(id),
            ),
        };
        Some(view! {
            <button class="button danger" class:small-button=small type="button" on:click=move |_| state.question.set(Some(question.clone()))>{mark}{t(words)}</button>
        })
    }
}

/// In the place of the composer, where the other one is blocked: that, and the way back.
#[component]
pub(crate) fn Blocked(peer: AccountId) -> impl IntoView {
    let state = State::get();
    view! {
        <div class="closed" role="note" data-testid="closed">
            {icon(Icon::Ban)}
            <p>{move || tf("closed/blocked", &[("name", &state.name_of(&peer))])}</p>
            <button class="button small-button" type="button" on:click=move |_| state.unblock(peer)>{t("details/unblock")}</button>
        </div>
    }
}

/// One sentence in the place of the composer.
#[component]
pub(crate) fn Closed(id: ConversationId, why: ReadOnly) -> impl IntoView {
    let state = State::get();
    let signal = untrack(|| state.conversation(&id))?;
    let conversation: Signal<Conversation> = signal.into();
    let history = state.history(id);
    // When it happened, if that is among what was read.
    let when = move || {
        let me = state.me();
        let action = match why {
            ReadOnly::Banned => MemberAction::Ban,
            ReadOnly::Left => MemberAction::Remove,
            ReadOnly::Refused | ReadOnly::Invalid | ReadOnly::Unknown => return None,
        };
        history.entries.with(|entries| {
            entries.iter().rev().find_map(|(_, signal)| {
                signal.with_untracked(|m| {
                    let change = m.member.as_ref()?;
                    (change.action == action && Some(change.id) == me)
                        .then(|| browser::on_day(m.sent_at))
                })
            })
        })
    };
    let words = move || {
        let two = conversation.with(|c| c.mode == ConversationMode::OneToOne);
        let when = when();
        match (why, when, two) {
            (ReadOnly::Banned, Some(when), _) => tf("closed/banned-when", &[("when", &when)]),
            (ReadOnly::Banned, None, _) => t("closed/banned"),
            (ReadOnly::Left, Some(when), false) => tf("closed/left-when", &[("when", &when)]),
            (ReadOnly::Left, _, _) => t("closed/left"),
            (ReadOnly::Refused, ..) => t("closed/refused"),
            (ReadOnly::Invalid, ..) => t("closed/invalid"),
            (ReadOnly::Unknown, ..) => t("closed/unknown"),
        }
    };
    let mark = match why {
        ReadOnly::Banned => Icon::Ban,
        ReadOnly::Left => Icon::Leave,
        ReadOnly::Refused | ReadOnly::Invalid => Icon::ShieldBad,
        ReadOnly::Unknown => Icon::Lock,
    };
    Some(view! {
        <div class="closed" role="note" data-testid="closed">
            {icon(mark)}
            <p>{words}</p>
            <div class="row">
                {matches!(why, ReadOnly::Refused | ReadOnly::Invalid).then(|| view! {
                    <button class="button small-button" type="button" on:click=move |_| Place::Details(id).go()>{t("closed/why")}</button>
                })}
                <End id=id small=true />
            </div>
        </div>
    })
}
