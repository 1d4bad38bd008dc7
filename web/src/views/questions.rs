//! One question at a time, over the page.

use super::address::Address;
use super::error_in_words;
use super::list::matching;
use crate::browser;
use crate::parts::{Avatar, Sheet};
use crate::say::{t, tf};
use crate::state::{Place, Question, State};
use leptos::prelude::*;
use starling_core::api::method::{
    AccountRemove, ContactAdd, ContactBlock, ConversationCreate, ConversationInvite,
    ConversationLeave,
};
use starling_core::api::{
    AccountParams, ApiError, Contact, ContactAddParams, ContactParams, ConversationCreateParams,
    ConversationMemberParams, ConversationMode, ConversationParams,
};
use starling_core::id::{AccountId, ConversationId};
use std::collections::BTreeSet;
use wasm_bindgen_futures::spawn_local;

/// Whatever is asked now.
#[component]
pub(crate) fn Questions() -> impl IntoView {
    let state = State::get();
    let close = Callback::new(move |()| state.question.set(None));
    move || {
        let question = state.question.get()?;
        Some(match question {
            Question::AddPerson => view! { <Sheet title=t("add/title") on_close=close><AddPerson /></Sheet> }.into_any(),
            Question::NewGroup => view! { <Sheet title=t("group/title") on_close=close><NewGroup /></Sheet> }.into_any(),
            Question::Invite(id) => view! { <Sheet title=t("invite/title") on_close=close><Invite id=id /></Sheet> }.into_any(),
            Question::Address => {
                view! { <Sheet title=t("address/title") on_close=close><p class="quiet">{t("address/lead")}</p><div class="stack sheet-address"><Address /></div></Sheet> }
                    .into_any()
            }
            Question::Palette => view! { <Sheet title=t("palette/title") on_close=close class="palette"><Palette /></Sheet> }.into_any(),
            Question::Shortcuts => view! { <Sheet title=t("keys/title") on_close=close><Shortcuts /></Sheet> }.into_any(),
            Question::Leave(id) => view! { <Sheet title=t("leave/title") on_close=close><Leave id=id /></Sheet> }.into_any(),
            Question::Block(id) => view! { <Sheet title=t("block/title") on_close=close><Block id=id /></Sheet> }.into_any(),
            Question::RemoveAccount => view! { <Sheet title=t("remove/title") on_close=close><RemoveAccount /></Sheet> }.into_any(),
        })
    }
}

/// What went wrong, under a form.
#[component]
fn Failure(error: RwSignal<Option<ApiError>>) -> impl IntoView {
    move || {
        error
            .get()
            .map(|e| view! { <p class="note error" role="alert">{error_in_words(&e)}</p> })
    }
}

#[component]
fn AddPerson() -> impl IntoView {
    let state = State::get();
    let address = RwSignal::new(String::new());
    let message = RwSignal::new(String::new());
    let error = RwSignal::new(None::<ApiError>);
    let busy = RwSignal::new(false);
    let wrong = RwSignal::new(None::<String>);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        error.set(None);
        wrong.set(None);
        let Some(account) = state.account_untracked() else {
            return;
        };
        let id = match AccountId::from_address(&address.get_untracked()) {
            Ok(id) if id == account.jami_id => return wrong.set(Some(t("add/own-address"))),
            Ok(id) => id,
            Err(_) => return wrong.set(Some(t("add/bad-address"))),
        };
        let known = state.contacts.with_untracked(|all| {
            all.get(&id)
                .filter(|c| !c.blocked)
                .and_then(|c| c.conversation)
        });
        if let Some(conversation) = known {
            state.question.set(None);
            return Place::Conversation(conversation).go();
        }
        busy.set(true);
        let message = Some(message.get_untracked().trim().to_owned()).filter(|m| !m.is_empty());
        spawn_local(async move {
            match state
                .bridge()
                .call::<ContactAdd>(ContactAddParams {
                    account: account.id,
                    id: id.to_hex(),
                    message,
                })
                .await
            {
                Ok(contact) => {
                    let conversation = contact.conversation;
                    state
                        .contacts
                        .update(|all| drop(all.insert(contact.id, contact)));
                    state.question.set(None);
                    if let Some(conversation) = conversation {
                        state.fetch_conversation(conversation).await;
                        Place::Conversation(conversation).go();
                        browser::focus("composer");
                    }
                }
                Err(e) => error.set(Some(e)),
            }
            busy.try_set(false);
        });
    };
    browser::focus("add-address");
    view! {
        <form class="stack" on:submit=submit>
            <div class="field">
                <label for="add-address">{t("add/address")}</label>
                <input id="add-address" class="input mono" dir="ltr" autocomplete="off" autocapitalize="off" spellcheck="false" required
                    aria-describedby="add-hint" aria-invalid=move || wrong.with(Option::is_some).to_string()
                    prop:value=address on:input=move |event| { address.set(event_target_value(&event)); wrong.set(None); } />
                <span id="add-hint" class="hint">{t("add/hint")}</span>
            </div>
            {move || wrong.get().map(|text| view! { <p class="note error" role="alert">{text}</p> })}
            <div class="field">
                <label for="add-message">{t("add/message")}</label>
                <textarea id="add-message" class="input" rows="2" maxlength="500" dir="auto" prop:value=message
                    on:input=move |event| message.set(event_target_value(&event))></textarea>
                <span class="hint">{t("add/message-hint")}</span>
            </div>
            <Failure error=error />
            <div class="row end">
                <button class="button" type="button" on:click=move |_| state.question.set(Some(Question::Address))>{t("list/show-address")}</button>
                <button class="button main" type="submit" disabled=move || busy.get() || address.with(|a| a.trim().is_empty())>
                    {move || if busy.get() { t("add/adding") } else { t("add/go") }}
                </button>
            </div>
        </form>
    }
}

/// People to pick from.
#[component]
fn Picker(chosen: RwSignal<BTreeSet<AccountId>>, without: Vec<AccountId>) -> impl IntoView {
    let state = State::get();
    let people = Memo::new(move |_| {
        let fits = |c: &&Contact| !c.blocked && !without.contains(&c.id);
        let mut people: Vec<AccountId> = state
            .contacts
            .with(|all| all.values().filter(fits).map(|c| c.id).collect());
        people.sort_by_key(|id| state.name_of(id).to_lowercase());
        people
    });
    view! {
        <fieldset class="picker-set">
            <legend class="label">{t("group/people")}</legend>
            {move || people.with(Vec::is_empty).then(|| view! { <p class="quiet small">{t("group/nobody")}</p> })}
            <div class="picker">
                <For each=move || people.get() key=|id| *id let(id)>
                    {
                        let name = Memo::new(move |_| state.name_of(&id));
                        view! {
                            <label>
                                <input type="checkbox" prop:checked=move || chosen.with(|c| c.contains(&id)) on:change=move |event| {
                                    let on = event_target_checked(&event);
                                    chosen.update(|c| { if on { c.insert(id); } else { c.remove(&id); } });
                                } />
                                <Avatar id=id.to_hex() name=name size="small" />
                                <span class="name" dir="auto">{move || name.get()}</span>
                            </label>
                        }
                    }
                </For>
            </div>
        </fieldset>
    }
}

#[component]
fn NewGroup() -> impl IntoView {
    let state = State::get();
    let title = RwSignal::new(String::new());
    let chosen = RwSignal::new(BTreeSet::new());
    let error = RwSignal::new(None::<ApiError>);
    let busy = RwSignal::new(false);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        busy.set(true);
        error.set(None);
        let params = ConversationCreateParams {
            account,
            mode: ConversationMode::InvitesOnly,
            title: Some(title.get_untracked().trim().to_owned()).filter(|t| !t.is_empty()),
            members: chosen.get_untracked().into_iter().collect(),
        };
        spawn_local(async move {
            match state.bridge().call::<ConversationCreate>(params).await {
                Ok(conversation) => {
                    let id = conversation.id;
                    state.put(conversation);
                    state.question.set(None);
                    Place::Conversation(id).go();
                    browser::focus("composer");
                }
                Err(e) => error.set(Some(e)),
            }
            busy.try_set(false);
        });
    };
    browser::focus("group-title");
    view! {
        <form class="stack" on:submit=submit>
            <div class="field">
                <label for="group-title">{t("group/name")}</label>
                <input id="group-title" class="input" maxlength="100" dir="auto" autocomplete="off" prop:value=title
                    on:input=move |event| title.set(event_target_value(&event)) />
                <span class="hint">{t("group/name-hint")}</span>
            </div>
            <Picker chosen=chosen without=Vec::new() />
            <Failure error=error />
            <div class="row end"><button class="button main" type="submit" disabled=move || busy.get()>{t("group/go")}</button></div>
        </form>
    }
}

#[component]
fn Invite(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let chosen = RwSignal::new(BTreeSet::new());
    let error = RwSignal::new(None::<ApiError>);
    let busy = RwSignal::new(false);
    let there = untrack(|| state.conversation(&id))
        .map(|c| c.with_untracked(|c| untrack(|| state.others(c))))
        .unwrap_or_default();
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        busy.set(true);
        error.set(None);
        spawn_local(async move {
            for person in chosen.get_untracked() {
                let params = ConversationMemberParams {
                    account: account.clone(),
                    conversation: id,
                    id: person,
                };
                match state.bridge().call::<ConversationInvite>(params).await {
                    Ok(()) => chosen.update(|c| {
                        c.remove(&person);
                    }),
                    Err(e) => error.set(Some(e)),
                }
            }
            busy.try_set(false);
            if error.with_untracked(Option::is_none) {
                state.question.set(None);
            }
        });
    };
    view! {
        <form class="stack" on:submit=submit>
            <Picker chosen=chosen without=there />
            <Failure error=error />
            <div class="row end"><button class="button main" type="submit" disabled=move || busy.get() || chosen.with(BTreeSet::is_empty)>{t("invite/go")}</button></div>
        </form>
    }
}

/// A plain question with two answers.
#[component]
fn Confirm(
    /// What happens, in full.
    text: String,
    /// The word on the button that does it.
    go: String,
    /// Does it.
    act: Callback<RwSignal<Option<ApiError>>>,
) -> impl IntoView {
    let state = State::get();
    let error = RwSignal::new(None::<ApiError>);
    view! {
        <p>{text}</p>
        <Failure error=error />
        <div class="row end">
            <button class="button" type="button" on:click=move |_| state.question.set(None)>{t("common/cancel")}</button>
            <button class="button danger" type="button" on:click=move |_| act.run(error)>{go}</button>
        </div>
    }
}

#[component]
fn Leave(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let title = untrack(|| state.conversation(&id))
        .map(|c| c.with_untracked(|c| untrack(|| state.title_of(c))))
        .unwrap_or_default();
    let act = Callback::new(move |error: RwSignal<Option<ApiError>>| {
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        spawn_local(async move {
            match state
                .bridge()
                .call::<ConversationLeave>(ConversationParams {
                    account,
                    conversation: id,
                })
                .await
            {
                Ok(()) => {
                    state.question.set(None);
                    Place::List.go();
                }
                Err(e) => error.set(Some(e)),
            }
        });
    });
    view! { <Confirm text=tf("leave/text", &[("title", &title)]) go=t("details/leave") act=act /> }
}

#[component]
fn Block(id: AccountId) -> impl IntoView {
    let state = State::get();
    let name = untrack(|| state.name_of(&id));
    let act = Callback::new(move |error: RwSignal<Option<ApiError>>| {
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        spawn_local(async move {
            match state
                .bridge()
                .call::<ContactBlock>(ContactParams { account, id })
                .await
            {
                Ok(()) => state.question.set(None),
                Err(e) => error.set(Some(e)),
            }
        });
    });
    view! { <Confirm text=tf("block/text", &[("name", &name)]) go=t("details/block") act=act /> }
}

#[component]
fn RemoveAccount() -> impl IntoView {
    let state = State::get();
    let name = state
        .account_untracked()
        .map(|a| a.display_name)
        .unwrap_or_default();
    let act = Callback::new(move |error: RwSignal<Option<ApiError>>| {
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        spawn_local(async move {
            match state
                .bridge()
                .call::<AccountRemove>(AccountParams { account })
                .await
            {
                Ok(()) => {
                    state.question.set(None);
                    Place::List.go();
                    state.read_all().await;
                }
                Err(e) => error.set(Some(e)),
            }
        });
    });
    view! { <Confirm text=tf("remove/text", &[("name", &name)]) go=t("remove/go") act=act /> }
}

/// Where a palette leads.
#[derive(Debug, Clone, PartialEq)]
enum Goal {
    Conversation(ConversationId),
    Place(Place),
    Question(Question),
}

#[component]
fn Palette() -> impl IntoView {
    let state = State::get();
    let query = RwSignal::new(String::new());
    let at = RwSignal::new(0_usize);
    let goals = Memo::new(move |_| {
        let wanted = query.get().trim().to_lowercase();
        let found = matching(state, &wanted)
            .into_iter()
            .take(20)
            .filter_map(|id| {
                let title = state.conversation(&id)?.with(|c| state.title_of(c));
                Some((Goal::Conversation(id), title))
            });
        let actions = [
            (Goal::Question(Question::AddPerson), t("list/add-person")),
            (Goal::Question(Question::NewGroup), t("list/new-group")),
            (Goal::Question(Question::Address), t("list/show-address")),
            (Goal::Place(Place::Settings), t("rail/settings")),
            (Goal::Question(Question::Shortcuts), t("rail/shortcuts")),
        ];
        let actions = actions
            .into_iter()
            .filter(|(_, name)| name.to_lowercase().contains(&wanted));
        found.chain(actions).collect::<Vec<_>>()
    });
    let go = move |goal: Goal| {
        state.question.set(None);
        match goal {
            Goal::Conversation(id) => {
                Place::Conversation(id).go();
                browser::focus("composer");
            }
            Goal::Place(place) => place.go(),
            Goal::Question(question) => state.question.set(Some(question)),
        }
    };
    let key = move |event: web_sys::KeyboardEvent| {
        let count = goals.with_untracked(Vec::len);
        match event.key().as_str() {
            "ArrowDown" => at.update(|at| *at = (*at + 1).min(count.saturating_sub(1))),
            "ArrowUp" => at.update(|at| *at = at.saturating_sub(1)),
            "Enter" => {
                let goal = goals.with_untracked(|all| all.get(at.get_untracked()).cloned());
                if let Some((goal, _)) = goal {
                    go(goal);
                }
            }
            _ => return,
        }
        event.prevent_default();
    };
    browser::focus("palette");
    view! {
        <input id="palette" class="input" type="text" role="combobox" aria-expanded="true" aria-controls="palette-list" aria-label=t("palette/title")
            aria-activedescendant=move || format!("goal-{}", at.get()) autocomplete="off" placeholder=t("palette/placeholder")
            prop:value=query on:keydown=key on:input=move |event| { query.set(event_target_value(&event)); at.set(0); } />
        <ul class="entries" id="palette-list" role="listbox" aria-label=t("palette/title")>
            {move || goals.get().into_iter().enumerate().map(|(index, (goal, name))| {
                let (face, group) = match &goal {
                    Goal::Conversation(id) => {
                        let peer = state.conversation(id).and_then(|c| c.with_untracked(|c| untrack(|| state.peer(c))));
                        (Some(peer.map_or_else(|| id.to_hex(), |p| p.to_hex())), peer.is_none())
                    }
                    _ => (None, false),
                };
                let letters = name.clone();
                view! {
                    <li class="entry" role="option" id=format!("goal-{index}") aria-selected=move || (at.get() == index).to_string()
                        on:click=move |_| go(goal.clone())>
                        {face.map(|id| view! { <Avatar id=id name=letters.clone() size="small" group=group /> })}
                        <span class="name" dir="auto">{name}</span>
                    </li>
                }
            }).collect_view()}
        </ul>
    }
}

#[component]
fn Shortcuts() -> impl IntoView {
    let rows = [
        ("keys/anywhere", vec!["Ctrl", "K"]),
        ("keys/next", vec!["Alt", "↓"]),
        ("keys/previous", vec!["Alt", "↑"]),
        ("keys/send", vec!["Enter"]),
        ("keys/break", vec!["Shift", "Enter"]),
        ("keys/out", vec!["Esc"]),
        ("keys/this", vec!["?"]),
    ];
    view! {
        <dl class="shortcuts">
            {rows.into_iter().map(|(what, keys)| view! {
                <dt>{t(what)}</dt>
                <dd class="row">{keys.into_iter().map(|k| view! { <kbd>{k}</kbd> }).collect_view()}</dd>
            }).collect_view()}
        </dl>
    }
}
