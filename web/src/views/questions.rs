//! One question at a time, over the page.

use super::address::Address as OwnAddress;
use super::group::{Invite, JoinGroup, NewGroup};
use super::list::matching;
use super::votes::VoteQuestion;
use super::{error_detail, error_in_words, in_detail};
use crate::browser;
use crate::parts::{ConversationFace, Icon, Sheet, icon};
use crate::say::{t, tf};
use crate::session;
use crate::state::{Place, Question, State};
use crate::timeline::short_id;
use leptos::prelude::*;
use starling_core::api::method::{
    AccountRemove, ContactAdd, ContactRemove, ConversationLeave, DeviceRevoke, PairingRevoke,
};
use starling_core::api::{
    AccountParams, ApiError, BallotAction, ContactAddParams, ContactParams, ConversationMode,
    ConversationParams, DeviceRevokeParams, ErrorCode, MemberRole, PairingRevokeParams, ReadOnly,
};
use starling_core::id::{AccountId, ConversationId, DeviceId};
use starling_core::swarm::public::Address;
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
                view! { <Sheet title=t("address/title") on_close=close><p class="quiet">{t("address/lead")}</p><div class="stack sheet-address"><OwnAddress /></div></Sheet> }
                    .into_any()
            }
            Question::Palette => view! { <Sheet title=t("palette/title") on_close=close class="palette"><Palette /></Sheet> }.into_any(),
            Question::Shortcuts => view! { <Sheet title=t("keys/title") on_close=close><Shortcuts /></Sheet> }.into_any(),
            Question::JoinGroup(address) => view! { <Sheet title=t("join/title") on_close=close><JoinGroup known=address.unwrap_or_default() /></Sheet> }.into_any(),
            Question::Vote(id, person, device, action) => {
                let name = untrack(|| state.marked_name_of(&person));
                let title = match (action, device) {
                    (BallotAction::Ban, None) => tf("vote/ban-title", &[("name", &name)]),
                    (BallotAction::Ban, Some(_)) => tf("vote/ban-device-title", &[("name", &name)]),
                    (BallotAction::Unban, _) => tf("vote/unban-title", &[("name", &name)]),
                };
                view! { <Sheet title=title on_close=close><VoteQuestion id=id person=person device=device action=action /></Sheet> }.into_any()
            }
            Question::Leave(id) => {
                let title = if is_in(state, &id) { t("leave/title") } else { t("leave/title-forget") };
                view! { <Sheet title=title on_close=close><Leave id=id /></Sheet> }.into_any()
            }
            Question::RemovePerson(person, at) => {
                let name = untrack(|| state.name_of(&person));
                view! { <Sheet title=tf("remove-person/title", &[("name", &name)]) on_close=close><RemovePerson person=person at=at /></Sheet> }.into_any()
            }
            Question::Unpair(grant, name) => {
                let title = match &name {
                    Some(name) => tf("unpair/title", &[("name", name)]),
                    None => t("unpair/title-this"),
                };
                view! { <Sheet title=title on_close=close><Unpair grant=grant current=name.is_none() /></Sheet> }.into_any()
            }
            Question::RemoveDevice(device) => {
                let title = tf("device/title", &[("device", &short_id(&device.to_hex()))]);
                view! { <Sheet title=title on_close=close><RemoveDevice device=device /></Sheet> }.into_any()
            }
            Question::RemoveAccount => view! { <Sheet title=t("remove/title") on_close=close><RemoveAccount /></Sheet> }.into_any(),
        })
    }
}

/// What an error means here, where that is more than it means everywhere.
pub(crate) type Meaning = (ErrorCode, &'static str);

/// What went wrong, under a form.
#[component]
pub(crate) fn Failure(
    error: RwSignal<Option<ApiError>>,
    #[prop(optional_no_strip)] meaning: Option<Meaning>,
) -> impl IntoView {
    move || {
        error.get().map(|e| {
            let here = meaning.filter(|(code, _)| *code == e.code);
            let detail = error_detail(&e).filter(|_| here.is_none());
            let words = here.map_or_else(|| error_in_words(&e), |(_, key)| t(key));
            view! { <div class="note error" role="alert"><p>{words}</p>{detail.map(in_detail)}</div> }
        })
    }
}

/// The account's password. What went wrong with it stands in the element of the same id with `-failure`.
#[component]
pub(crate) fn Password(
    id: &'static str,
    password: RwSignal<String>,
    error: RwSignal<Option<ApiError>>,
) -> impl IntoView {
    let wrong = move || {
        let is_wrong = |e: &ApiError| e.code == ErrorCode::WrongPassword;
        error.with(|e| e.as_ref().is_some_and(is_wrong)).to_string()
    };
    view! {
        <div class="field grows">
            <label for=id>{t("first/backup-password")}</label>
            <input id=id class="input" type="password" autocomplete="current-password" aria-invalid=wrong aria-describedby=format!("{id}-failure")
                prop:value=password on:input=move |event| password.set(event_target_value(&event)) />
        </div>
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
        // A group's address was pasted where a person's belongs.
        let text = address.get_untracked();
        if text.trim().parse::<Address>().is_ok() {
            return state.question.set(Some(Question::JoinGroup(Some(text))));
        }
        let id = match AccountId::from_address(&text) {
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
                    aria-describedby=move || if wrong.with(Option::is_some) { "add-wrong" } else { "add-hint" } aria-invalid=move || wrong.with(Option::is_some).to_string()
                    prop:value=address on:input=move |event| { address.set(event_target_value(&event)); wrong.set(None); } />
                {move || match wrong.get() {
                    Some(text) => view! { <p id="add-wrong" class="note error" role="alert">{text}</p> }.into_any(),
                    None => view! { <span id="add-hint" class="hint">{t("add/hint")}</span> }.into_any(),
                }}
            </div>
            <div class="field">
                <label for="add-message">{t("add/message")}</label>
                <textarea id="add-message" class="input" rows="2" maxlength="500" dir="auto" placeholder=" " prop:value=message
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

/// A plain question with two answers.
#[component]
pub(crate) fn Confirm(
    /// What happens, in full, a paragraph each.
    text: Vec<String>,
    /// The word on the button that does it.
    go: String,
    /// Does it.
    act: Callback<RwSignal<Option<ApiError>>>,
    /// The word on that button meanwhile, where it may take long.
    #[prop(optional)]
    going: Option<String>,
    /// The account's password, where it is asked for.
    #[prop(optional_no_strip)]
    password: Option<RwSignal<String>>,
    /// See [`Failure`].
    #[prop(optional)]
    meaning: Option<Meaning>,
) -> impl IntoView {
    let state = State::get();
    let error = RwSignal::new(None::<ApiError>);
    let busy = RwSignal::new(false);
    let first = match password {
        Some(_) => "confirm-password",
        None => "confirm-go",
    };
    // What went well closes the question; what did not can be tried again.
    Effect::new(move |_| {
        if error.with(Option::is_some) {
            busy.set(false);
            browser::focus(first);
        }
    });
    let go_on = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        // Enter in the field knows nothing of the button.
        if !busy.get_untracked() {
            busy.set(true);
            error.set(None);
            act.run(error);
        }
    };
    if password.is_some() {
        browser::focus(first);
    }
    view! {
        <form class="stack" on:submit=go_on>
            <div class="stack tight">{text.into_iter().map(|text| view! { <p>{text}</p> }).collect_view()}</div>
            {password.map(|password| view! { <Password id="confirm-password" password=password error=error /> })}
            <div id="confirm-password-failure"><Failure error=error meaning=meaning /></div>
            <div class="row end">
                <button class="button" type="button" on:click=move |_| state.question.set(None)>{t("common/cancel")}</button>
                <button id="confirm-go" class="button danger" type="submit" disabled=move || busy.get() aria-busy=move || busy.get().to_string()>
                    {move || going.clone().filter(|_| busy.get()).unwrap_or_else(|| go.clone())}
                </button>
            </div>
        </form>
    }
}

/// Whether one is still in a conversation that is to be left.
pub(crate) fn is_in(state: State, id: &ConversationId) -> bool {
    untrack(|| state.conversation(id)).is_some_and(|c| {
        c.with_untracked(|c| {
            !matches!(
                c.read_only,
                Some(ReadOnly::Left | ReadOnly::Banned | ReadOnly::Refused)
            )
        })
    })
}

#[component]
fn Leave(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let conversation = untrack(|| state.conversation(&id))?.get_untracked();
    let title = untrack(|| state.title_of(&conversation));
    let values = [("title", title.as_str())];
    let (key, go) = match (is_in(state, &id), conversation.mode) {
        (false, _) => ("leave/text-forget", t("leave/go-forget")),
        (true, ConversationMode::Public) => ("leave/text-public", t("leave/go")),
        (true, _) => ("leave/text", t("leave/go")),
    };
    let mut text = vec![tf(key, &values)];
    // A group that nobody can lead any longer stays as it is for ever.
    let me = untrack(|| state.me());
    let others = conversation
        .members
        .iter()
        .any(|m| m.role == MemberRole::Admin && Some(m.id) != me);
    if is_in(state, &id)
        && untrack(|| state.own_role(&conversation)) == Some(MemberRole::Admin)
        && !others
        && conversation.member_count > 1
    {
        text.push(t("leave/last-admin"));
    }
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
                Err(e) => drop(error.try_set(Some(e))),
            }
        });
    });
    Some(view! { <Confirm text=text go=go act=act /> })
}

#[component]
fn RemovePerson(person: AccountId, at: ConversationId) -> impl IntoView {
    let state = State::get();
    let name = untrack(|| state.name_of(&person));
    let act = Callback::new(move |error: RwSignal<Option<ApiError>>| {
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        let known = state
            .contacts
            .with_untracked(|all| all.contains_key(&person));
        spawn_local(async move {
            // Of somebody who is no contact any more only the conversation is left.
            let done = match known {
                true => {
                    let params = ContactParams {
                        account,
                        id: person,
                    };
                    state.bridge().call::<ContactRemove>(params).await
                }
                false => {
                    let params = ConversationParams {
                        account,
                        conversation: at,
                    };
                    state.bridge().call::<ConversationLeave>(params).await
                }
            };
            match done {
                Ok(()) => {
                    state.question.set(None);
                    if state.place.get_untracked().conversation() == Some(at) {
                        Place::List.go();
                    }
                }
                Err(e) => drop(error.try_set(Some(e))),
            }
        });
    });
    view! { <Confirm text=vec![tf("remove-person/text", &[("name", &name)])] go=t("leave/go-forget") act=act /> }
}

/// Before a browser is shut out, this one or another.
#[component]
fn Unpair(grant: String, current: bool) -> impl IntoView {
    let state = State::get();
    let act = Callback::new(move |error: RwSignal<Option<ApiError>>| {
        let grant = grant.clone();
        spawn_local(async move {
            let done = match current {
                true => session::end().await,
                false => {
                    let params = PairingRevokeParams { grant };
                    state.bridge().call::<PairingRevoke>(params).await
                }
            };
            match done {
                Ok(()) if current => drop(window().location().reload()),
                Ok(()) => {
                    state.question.set(None);
                    state.pairings.update(|n| *n += 1);
                }
                Err(e) => drop(error.try_set(Some(e))),
            }
        });
    });
    let (text, go) = match current {
        true => (t("unpair/text-this"), t("settings/sign-out")),
        false => (t("unpair/text"), t("settings/revoke")),
    };
    view! { <Confirm text=vec![text, t("unpair/back")] go=go act=act /> }
}

/// Before a device of one's own is shut out, for ever.
#[component]
fn RemoveDevice(device: DeviceId) -> impl IntoView {
    let state = State::get();
    let account = state.account_untracked()?;
    let password = account.has_password.then(RwSignal::<String>::default);
    let meaning = match account.device_id == device {
        true => (ErrorCode::Conflict, "device/in-use"),
        false => (ErrorCode::NotFound, "device/no-certificate"),
    };
    let act = Callback::new(move |error: RwSignal<Option<ApiError>>| {
        let params = DeviceRevokeParams {
            account: account.id.clone(),
            device,
            password: password.map(|p| p.get_untracked()),
        };
        spawn_local(async move {
            match state.bridge().call::<DeviceRevoke>(params).await {
                Ok(()) => {
                    state.question.set(None);
                    state.devices.update(|n| *n += 1);
                    // The button that was pressed is gone with it.
                    browser::focus("devices");
                }
                Err(e) => drop(error.try_set(Some(e))),
            }
        });
    });
    let text = vec![t("device/does"), t("device/stolen")];
    Some(view! {
        <Confirm text=text go=t("remove/go") going=t("device/removing") act=act password=password meaning=meaning />
    })
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
    view! { <Confirm text=vec![tf("remove/text", &[("name", &name)])] go=t("remove/go") act=act /> }
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
            (Goal::Question(Question::JoinGroup(None)), t("join/title")),
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
        // What is chosen is seen, however long the list is.
        let chosen = document().get_element_by_id(&format!("goal-{}", at.get_untracked()));
        if let Some(chosen) = chosen {
            let nearest = web_sys::ScrollIntoViewOptions::new();
            nearest.set_block(web_sys::ScrollLogicalPosition::Nearest);
            chosen.scroll_into_view_with_scroll_into_view_options(&nearest);
        }
    };
    browser::focus("palette");
    let nothing = move || goals.with(Vec::is_empty);
    // Where one can go to, and under it what one can do.
    let group = move |actions: bool| {
        let of = move |goal: &Goal| actions != matches!(goal, Goal::Conversation(_));
        let shown = move || {
            let all = goals.get().into_iter().enumerate();
            let shown = all.filter(|(_, (goal, _))| of(goal));
            shown.map(|(index, (goal, name))| {
                let face = match &goal {
                    Goal::Conversation(id) => view! { <ConversationFace id=*id size="small" /> }.into_any(),
                    goal => {
                        let mark = match goal {
                            Goal::Question(Question::AddPerson) => Icon::AddPerson,
                            Goal::Question(Question::NewGroup | Question::JoinGroup(_)) => Icon::AddGroup,
                            Goal::Question(Question::Address) => Icon::Share,
                            Goal::Place(Place::Settings) => Icon::Settings,
                            _ => Icon::Help,
                        };
                        view! { <span class="mark">{icon(mark)}</span> }.into_any()
                    }
                };
                view! {
                    <li class="entry" role="option" id=format!("goal-{index}") aria-selected=move || (at.get() == index).to_string()
                        on:click=move |_| go(goal.clone())>
                        {face}
                        <span class="name" dir="auto">{name}</span>
                    </li>
                }
            })
            .collect_view()
        };
        let title = t(if actions {
            "palette/actions"
        } else {
            "list/title"
        });
        move || {
            goals
                .with(|all| all.iter().any(|(goal, _)| of(goal)))
                .then(|| view! { <ul role="group" aria-label=title.clone()><li class="group-title" aria-hidden="true">{title.clone()}</li>{shown}</ul> })
        }
    };
    view! {
        <input id="palette" class="input" type="text" role="combobox" aria-expanded=move || (!nothing()).to_string() aria-controls="palette-list" aria-label=t("palette/title")
            aria-activedescendant=move || (!nothing()).then(|| format!("goal-{}", at.get())) autocomplete="off" placeholder=t("palette/placeholder")
            prop:value=query on:keydown=key on:input=move |event| { query.set(event_target_value(&event)); at.set(0); } />
        {move || match nothing() {
            true => view! { <p class="quiet" role="status">{tf("list/nothing-found", &[("query", query.get().trim())])}</p> }.into_any(),
            false => view! {
                <div class="entries" id="palette-list" role="listbox" aria-label=t("palette/title")>{group(false)}{group(true)}</div>
            }.into_any(),
        }}
    }
}

/// What stands on a key: a word of the language, or the sign itself.
pub(crate) fn key_name(key: &str) -> String {
    match key {
        "keys/ctrl" if browser::on_mac() => "⌘".to_owned(),
        key if key.starts_with("keys/") => t(key),
        key => key.to_owned(),
    }
}

/// What keys do, and which they are.
type Shortcut = (&'static str, &'static [&'static str]);

#[component]
fn Shortcuts() -> impl IntoView {
    let (send, line): (&'static [&'static str], &'static [&'static str]) =
        match browser::enter_breaks() {
            true => (&["keys/ctrl", "keys/enter"], &["keys/enter"]),
            false => (&["keys/enter"], &["keys/shift", "keys/enter"]),
        };
    let parts: [(&str, Vec<Shortcut>); 3] = [
        (
            "keys/everywhere",
            vec![
                ("keys/anywhere", &["keys/ctrl", "K"]),
                ("keys/next", &["keys/alt", "↓"]),
                ("keys/previous", &["keys/alt", "↑"]),
                ("keys/search-all", &["keys/ctrl", "keys/shift", "F"]),
                ("keys/out", &["keys/esc"]),
                ("keys/this", &["?"]),
            ],
        ),
        (
            "keys/writing",
            vec![
                ("keys/send", send),
                ("keys/break", line),
                ("keys/edit-last", &["↑"]),
                ("keys/search-here", &["keys/ctrl", "F"]),
            ],
        ),
        (
            "keys/messages",
            vec![
                ("keys/walk", &["↑", "↓"]),
                ("keys/menu", &["keys/enter"]),
                ("keys/reply", &["R"]),
                ("keys/react", &["+"]),
                ("keys/edit", &["E"]),
                ("keys/delete", &["keys/del"]),
            ],
        ),
    ];
    view! {
        {parts.into_iter().map(|(title, rows)| view! {
            <section class="stack tight">
                <h3>{t(title)}</h3>
                <dl class="shortcuts">
                    {rows.into_iter().map(|(what, keys)| view! {
                        <dt>{t(what)}</dt>
                        <dd class="row">{keys.iter().map(|k| view! { <kbd>{key_name(k)}</kbd> }).collect_view()}</dd>
                    }).collect_view()}
                </dl>
            </section>
        }).collect_view()}
    }
}
