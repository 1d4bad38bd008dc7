//! The proof of a message: who signed it, who vouches for them, and that this page checked.

use crate::browser::full_time;
use crate::parts::{Icon, icon, turning_icon};
use crate::say::{t, tf, tn};
use crate::state::{Place, Question, State};
use crate::worker::{Proof as Found, Verdict};
use leptos::prelude::*;
use starling_core::api::{BallotAction, Member, MemberRole};
use starling_core::id::{ConversationId, ObjectId};

#[component]
pub(crate) fn Proof(id: ConversationId, message: ObjectId) -> impl IntoView {
    let state = State::get();
    let history = state.history(id);
    let verdict = state
        .checker
        .with_value(|checker| checker.verdict(state, id, message));
    let shown = Memo::new(move |_| history.message(&message).map(|m| m.get()));
    let about = Memo::new(move |_| match shown.get() {
        Some(message) => state.judge(id, &message),
        None => verdict.get(),
    });
    let edited = move || shown.with(|m| m.as_ref().is_some_and(|m| m.edited_by.is_some()));
    let author = move || shown.with(|m| m.as_ref().map(|m| (m.author, m.sent_at)));
    let again = move |_| {
        state
            .checker
            .with_value(|checker| checker.again(state, id, message))
    };
    view! {
        <aside class="pane details-pane" aria-label=t("proof/title")>
            <super::conversation::Grip side="details" />
            <header class="pane-head">
                <button class="icon-button back" type="button" aria-label=t("common/back") on:click=move |_| state.step_out()>{turning_icon(Icon::Back)}</button>
                <div class="titles"><h2>{t("proof/title")}</h2></div>
                <button class="icon-button wide-only" type="button" aria-label=t("common/close") on:click=move |_| Place::Conversation(id).go()>{icon(Icon::Close)}</button>
            </header>
            <div class="pane-body" tabindex="0" data-testid="proof-panel">
                <div class="part">
                    {move || {
                        let (class, mark, text, detail) = match about.get() {
                            Verdict::Pending => ("verdict pending", Icon::ShieldOff, t("proof/pending"), None),
                            Verdict::Valid(_) => ("verdict", Icon::Shield, t("proof/valid-long"), None),
                            Verdict::Invalid { rule, detail } => {
                                let why = t(crate::rule::words(&rule));
                                ("verdict bad", Icon::ShieldBad, tf("proof/invalid-long", &[("why", &why)]), Some(format!("{rule}: {detail}")))
                            }
                            Verdict::Unavailable(why) => ("verdict pending", Icon::ShieldOff, t("proof/unavailable-long"), Some(why)),
                        };
                        view! {
                            <p class=class role="status" data-testid="verdict">{icon(mark)}<span>{text}</span></p>
                            {detail.map(super::in_detail)}
                        }
                    }}
                    {move || (edited() && matches!(about.get(), Verdict::Valid(_))).then(|| view! { <p class="small quiet">{t("proof/edited")}</p> })}
                    {move || matches!(about.get(), Verdict::Unavailable(_)).then(|| view! {
                        <button class="button" type="button" on:click=again>{t("proof/again")}</button>
                    })}
                    {move || shown.get().and_then(|m| m.body).filter(|b| !b.is_empty()).map(|body| {
                        let (who, when) = author().unzip();
                        let own = who.is_some() && who == state.me();
                        view! {
                            <figure class="message quote" class:own=own>
                                <figcaption class="small quiet"><bdi>{who.map(|id| state.marked_name_of(&id))}</bdi>" · "{when.map(full_time)}</figcaption>
                                <blockquote class="bubble" dir="auto">{body}</blockquote>
                            </figure>
                        }
                    })}
                </div>
                {move || match about.get() {
                    Verdict::Valid(found) => Some(view! { <Steps id=id found=*found message=message /> }),
                    _ => None,
                }}
            </div>
        </aside>
    }
}

/// The steps from the words to the account.
#[component]
fn Steps(id: ConversationId, found: Found, message: ObjectId) -> impl IntoView {
    let state = State::get();
    let (person, device) = (found.account, found.device);
    // Only a device of somebody who is still in can be banned.
    let may_ban = Memo::new(move |_| {
        Some(person) != state.me()
            && state.conversation(&id).is_some_and(|c| {
                c.with(|c| {
                    let here = |m: &Member| {
                        m.id == person && matches!(m.role, MemberRole::Admin | MemberRole::Member)
                    };
                    state.is_admin(c) && c.members.iter().any(here)
                })
            })
    });
    let name = untrack(|| state.marked_name_of(&found.account));
    let bits = found.key_bits.map(|b| b.to_string()).unwrap_or_default();
    let standing = t(if found.standing == "admins" {
        "role/admin"
    } else {
        "role/member"
    });
    let until = i64::try_from(found.device_until)
        .unwrap_or(i64::MAX / 1_000)
        .saturating_mul(1_000);
    let above: Vec<String> = found
        .chain
        .iter()
        .filter(|c| !c.is_empty())
        .cloned()
        .collect();
    view! {
        <div class="part">
            <h3>{t("proof/how")}</h3>
            <ol class="chain">
                <li>
                    <div class="fact">{tf("proof/commit", &[("time", &full_time(found.time.saturating_mul(1_000)))])}</div>
                    <div class="id">{message.to_hex()}</div>
                    <div class="small quiet">{match found.parents.as_slice() {
                        [] => t("proof/first-commit"),
                        parents => tn("proof/parents", parents.len(), &[]),
                    }}</div>
                </li>
                <li>
                    <div class="fact">{tf("proof/signature", &[("bits", &bits), ("bytes", &found.signed_bytes.to_string())])}</div>
                    <div class="id">{format!("{}…", found.signature.get(..48).unwrap_or(&found.signature))}</div>
                </li>
                <li>
                    <div class="fact">{t("proof/device")}</div>
                    <div class="id">{found.device.to_hex()}</div>
                    <div class="small quiet">{tf("proof/device-until", &[("time", &full_time(until))])}</div>
                    {move || may_ban.get().then(|| view! {
                        <div><button class="button danger small-button" type="button"
                            on:click=move |_| state.question.set(Some(Question::Vote(id, person, Some(device), BallotAction::Ban)))>{icon(Icon::Ban)}{t("details/ban-device")}</button></div>
                    })}
                </li>
                <li>
                    <div class="fact">{tf("proof/account", &[("name", &name)])}</div>
                    <div class="id">{found.account.to_hex()}</div>
                    <div class="small quiet">{tf("proof/standing", &[("role", &standing)])}</div>
                </li>
                {(!above.is_empty()).then(|| view! {
                    <li>
                        <div class="fact">{t("proof/chain")}</div>
                        <div class="id">{above.join(" → ")}</div>
                    </li>
                })}
            </ol>
            <p class="small quiet">{tn("proof/checked", found.signatures, &[])}</p>
        </div>
    }
}
