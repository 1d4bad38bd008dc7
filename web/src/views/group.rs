//! Making a group, inviting people into one, joining one by its address.

use super::questions::Failure;
use crate::browser;
use crate::parts::{Icon, PersonFace, Photo, icon};
use crate::say::{t, tf};
use crate::state::{Place, Question, State};
use crate::timeline::short_id_within;
use leptos::prelude::*;
use starling_core::api::method::{
    ConversationCreate, ConversationInvite, ConversationJoin, ConversationUpdate,
};
use starling_core::api::{
    ApiError, Contact, ConversationCreateParams, ConversationJoinParams, ConversationMemberParams,
    ConversationMode, ConversationUpdateParams,
};
use starling_core::id::{AccountId, ConversationId};
use starling_core::swarm::public::{Address, BadAddress};
use wasm_bindgen_futures::spawn_local;

/// People to pick: those chosen as chips, a field to look for more, and who fits.
#[component]
fn People(
    /// In the order they were chosen.
    chosen: RwSignal<Vec<AccountId>>,
    /// Who is there already.
    without: Vec<AccountId>,
) -> impl IntoView {
    let state = State::get();
    let query = RwSignal::new(String::new());
    let at = RwSignal::new(None::<usize>);
    let people = Memo::new(move |_| {
        let wanted = query.get().trim().to_lowercase();
        let me = state.me();
        let fits = |c: &&Contact| !c.blocked && !without.contains(&c.id);
        let mut people: Vec<AccountId> = state
            .contacts
            .with(|all| all.values().filter(fits).map(|c| c.id).collect());
        people.retain(|id| {
            wanted.is_empty()
                || state.name_of(id).to_lowercase().contains(&wanted)
                || id.to_hex().contains(&wanted)
        });
        people.sort_by_key(|id| state.name_of(id).to_lowercase());
        // Someone who is no contact can be named by their address.
        if let Ok(id) = AccountId::from_address(&wanted)
            && Some(id) != me
            && !people.contains(&id)
            && !without.contains(&id)
        {
            people.push(id);
        }
        people
    });
    let toggle = move |id: AccountId| {
        chosen.update(|all| match all.iter().position(|c| *c == id) {
            Some(at) => {
                all.remove(at);
            }
            None => all.push(id),
        });
        query.set(String::new());
        at.set(None);
    };
    let key = move |event: web_sys::KeyboardEvent| {
        let count = people.with_untracked(Vec::len);
        let now = at.get_untracked();
        match event.key().as_str() {
            "ArrowDown" => at.set(Some(
                now.map_or(0, |at| at + 1).min(count.saturating_sub(1)),
            )),
            "ArrowUp" => at.set(now.and_then(|at| at.checked_sub(1))),
            "Enter" => {
                let one = now.and_then(|at| people.with_untracked(|all| all.get(at).copied()));
                match one {
                    Some(one) => toggle(one),
                    // An empty field and nobody pointed at: Enter is for the form.
                    None if query.with_untracked(String::is_empty) => return,
                    None => {}
                }
            }
            "Backspace" if query.with_untracked(String::is_empty) => {
                chosen.update(|all| {
                    all.pop();
                });
            }
            _ => return,
        }
        event.prevent_default();
        request_animation_frame(move || {
            let active = document().query_selector(".people [data-active='true']");
            if let Ok(Some(active)) = active {
                let options = web_sys::ScrollIntoViewOptions::new();
                options.set_block(web_sys::ScrollLogicalPosition::Nearest);
                active.scroll_into_view_with_scroll_into_view_options(&options);
            }
        });
    };
    let nobody = move || match query.with(|q| q.trim().is_empty()) {
        true if state.contacts.with(|all| all.values().any(|c| !c.blocked)) => {
            t("group/everybody-here")
        }
        true => t("group/nobody"),
        false => tf("group/nobody-fits", &[("query", query.get().trim())]),
    };
    view! {
        <div class="field">
            <label for="people">{t("group/people")}</label>
            <div class="chips input">
                <For each=move || chosen.get() key=|id| *id let(id)>
                    {
                        let name = Memo::new(move |_| state.name_of(&id));
                        view! {
                            <span class="chip">
                                <PersonFace id=id size="tiny" />
                                <bdi>{move || name.get()}</bdi>
                                <button type="button" aria-label=move || tf("group/take-out", &[("name", &name.get())]) on:click=move |_| toggle(id)>{icon(Icon::Close)}</button>
                            </span>
                        }
                    }
                </For>
                <input id="people" type="text" role="combobox" aria-expanded="true" aria-controls="people-list" autocomplete="off" autocapitalize="off" spellcheck="false"
                    aria-activedescendant=move || at.get().map(|at| format!("person-{at}"))
                    placeholder=move || if chosen.with(Vec::is_empty) { t("group/search-people") } else { String::new() }
                    prop:value=query on:keydown=key on:input=move |event| {
                        let value = event_target_value(&event);
                        at.set((!value.trim().is_empty()).then_some(0));
                        query.set(value);
                    } />
            </div>
        </div>
        <ul class="people" class:none=move || people.with(Vec::is_empty) id="people-list" role="listbox" aria-multiselectable="true" aria-label=t("group/people")>
            {move || people.get().into_iter().enumerate().map(|(index, id)| {
                let name = untrack(|| state.name_of(&id));
                let picked = move || chosen.with(|all| all.contains(&id));
                let known = state.contacts.with_untracked(|all| all.contains_key(&id));
                // Two people of one name are told apart by their addresses.
                let twin = untrack(|| state.contacts.with(|all| all.keys().any(|other| *other != id && state.name_of(other) == name)));
                let under = match (known, twin) {
                    (false, _) => Some(t("group/by-address")),
                    (true, true) => Some(short_id_within(&id.to_hex())),
                    (true, false) => None,
                };
                view! {
                    <li role="option" id=format!("person-{index}") aria-label=name.clone() aria-selected=move || picked().to_string()
                        data-active=move || (at.get() == Some(index)).to_string() on:click=move |_| { toggle(id); browser::focus("people"); }>
                        <PersonFace id=id size="small" presence=true />
                        <span class="name" dir="auto">{name.clone()}</span>
                        {under.map(|words| view! { <span class="small quiet">{words}</span> })}
                        <span class="tick">{move || picked().then(|| icon(Icon::Check))}</span>
                    </li>
                }
            }).collect_view()}
        </ul>
        {move || people.with(Vec::is_empty).then(|| view! { <p class="quiet small">{nobody()}</p> })}
    }
}

/// The kinds of group there are, and what each means.
const MODES: [(ConversationMode, &str, &str, &str); 3] = [
    (
        ConversationMode::InvitesOnly,
        "members",
        "group/members-invite",
        "group/members-invite-help",
    ),
    (
        ConversationMode::AdminInvitesOnly,
        "admins",
        "group/admins-invite",
        "group/admins-invite-help",
    ),
    (
        ConversationMode::Public,
        "public",
        "group/anyone-joins",
        "group/anyone-joins-help",
    ),
];

#[component]
pub(crate) fn NewGroup() -> impl IntoView {
    let state = State::get();
    let title = RwSignal::new(String::new());
    let chosen = RwSignal::new(Vec::new());
    let picture = RwSignal::new(None::<String>);
    let mode = RwSignal::new(ConversationMode::InvitesOnly);
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
            account: account.clone(),
            mode: mode.get_untracked(),
            title: Some(title.get_untracked().trim().to_owned()).filter(|t| !t.is_empty()),
            members: chosen.get_untracked(),
        };
        spawn_local(async move {
            match state.bridge().call::<ConversationCreate>(params).await {
                Ok(conversation) => {
                    let id = conversation.id;
                    state.put(conversation);
                    if let Some(avatar) = picture.get_untracked() {
                        let params = ConversationUpdateParams {
                            account,
                            conversation: id,
                            title: None,
                            description: None,
                            avatar: Some(avatar),
                        };
                        // The group is there; a picture that was refused can be chosen again.
                        match state.bridge().call::<ConversationUpdate>(params).await {
                            Ok(conversation) => state.put(conversation),
                            Err(e) => state.report(&e),
                        }
                    }
                    state.question.set(None);
                    Place::Conversation(id).go();
                    browser::focus("composer");
                }
                Err(e) => error.set(Some(e)),
            }
            busy.try_set(false);
        });
    };
    let name = Signal::derive(move || match title.get().trim() {
        "" => t("group/title"),
        title => title.to_owned(),
    });
    browser::focus("group-title");
    view! {
        <form class="stack" on:submit=submit>
            <div class="with-photo">
                <Photo id="new group" name=name picture=picture group=true />
                <div class="field grows">
                    <label for="group-title">{t("group/name")}</label>
                    <input id="group-title" class="input" maxlength="100" dir="auto" placeholder=" " autocomplete="off" prop:value=title
                        on:input=move |event| title.set(event_target_value(&event)) />
                    <span class="hint">{t("group/name-hint")}</span>
                </div>
            </div>
            <People chosen=chosen without=Vec::new() />
            <fieldset class="picker-set">
                <legend class="label">{t("group/who-comes-in")}</legend>
                <div class="kinds">
                    {MODES.into_iter().map(|(one, value, words, help)| view! {
                        <label class="kind">
                            <input type="radio" name="mode" value=value prop:checked=move || mode.get() == one on:change=move |_| mode.set(one) />
                            <span><span class="words">{t(words)}</span><span class="small quiet">{t(help)}</span></span>
                        </label>
                    }).collect_view()}
                </div>
            </fieldset>
            <Failure error=error />
            <div class="row between">
                <button class="button plain small-button" type="button" on:click=move |_| state.question.set(Some(Question::JoinGroup(None)))>{t("group/join-instead")}</button>
                <button class="button main" type="submit" disabled=move || busy.get()>{t("group/go")}</button>
            </div>
        </form>
    }
}

#[component]
pub(crate) fn JoinGroup(known: String) -> impl IntoView {
    let state = State::get();
    let address = RwSignal::new(known);
    let wrong = RwSignal::new(None::<BadAddress>);
    let error = RwSignal::new(None::<ApiError>);
    let busy = RwSignal::new(false);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        error.set(None);
        let address = match address.get_untracked().parse::<Address>() {
            Ok(address) => address.to_string(),
            Err(bad) => return wrong.set(Some(bad)),
        };
        busy.set(true);
        let params = ConversationJoinParams { account, address };
        spawn_local(async move {
            match state.bridge().call::<ConversationJoin>(params).await {
                Ok(conversation) => {
                    let id = conversation.id;
                    state.put(conversation);
                    state.question.set(None);
                    Place::Conversation(id).go();
                }
                Err(e) => error.set(Some(e)),
            }
            busy.try_set(false);
        });
    };
    browser::focus("join-address");
    view! {
        <form class="stack" on:submit=submit>
            <p class="quiet">{t("join/lead")}</p>
            <div class="field">
                <label for="join-address">{t("join/address")}</label>
                <textarea id="join-address" class="input mono grows-down" dir="ltr" rows="3"
                    aria-describedby=move || if wrong.with(Option::is_some) { "join-wrong" } else { "join-hint" } aria-invalid=move || wrong.with(Option::is_some).to_string() autocomplete="off" autocapitalize="off" spellcheck="false" required prop:value=address
                    on:input=move |event| { address.set(event_target_value(&event)); error.set(None); wrong.set(None); }></textarea>
                {move || {
                    let key = match wrong.get() {
                        Some(BadAddress::NobodyToAsk) => "join/nobody-to-ask",
                        Some(BadAddress::NotAnAddress | BadAddress::TooManyToAsk) => "join/bad-address",
                        None => return view! { <span id="join-hint" class="hint">{t("join/hint")}</span> }.into_any(),
                    };
                    view! { <p id="join-wrong" class="note error" role="alert">{t(key)}</p> }.into_any()
                }}
            </div>
            <Failure error=error />
            <div class="row end"><button class="button main" type="submit" disabled=move || busy.get() || address.with(|a| a.trim().is_empty())>
                {move || if busy.get() { t("join/joining") } else { t("join/go") }}</button></div>
        </form>
    }
}

#[component]
pub(crate) fn Invite(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let chosen = RwSignal::new(Vec::<AccountId>::new());
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
                    Ok(()) => chosen.update(|all| all.retain(|c| *c != person)),
                    Err(e) => error.set(Some(e)),
                }
            }
            busy.try_set(false);
            if error.with_untracked(Option::is_none) {
                state.question.set(None);
            }
        });
    };
    browser::focus("people");
    view! {
        <form class="stack" on:submit=submit>
            <p class="quiet">{t("invite/lead")}</p>
            <People chosen=chosen without=there />
            <Failure error=error />
            <div class="row end"><button class="button main" type="submit" disabled=move || busy.get() || chosen.with(Vec::is_empty)>{t("invite/go")}</button></div>
        </form>
    }
}
