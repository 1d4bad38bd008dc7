//! The list: search, requests, conversations.

use crate::browser::{self, brief_time};
use crate::parts::{Avatar, ConversationFace, Icon, icon};
use crate::picture;
use crate::say::{t, tf, tn};
use crate::state::{Place, Question, State};
use crate::timeline::short_id_within;
use crate::views::message::summary;
use leptos::prelude::*;
use starling_core::api::method::RequestAccept;
use starling_core::api::{
    Conversation, ConversationMode, ConversationState, Request, RequestParams,
};
use starling_core::id::ConversationId;
use wasm_bindgen_futures::spawn_local;

/// Everything that a search may look at, in small letters.
fn searchable(state: State, conversation: &Conversation) -> String {
    let mut text = state.title_of(conversation);
    for member in &conversation.members {
        text.push('\n');
        text.push_str(&state.name_of(&member.id));
        text.push('\n');
        text.push_str(&member.id.to_hex());
    }
    text.to_lowercase()
}

/// The conversations that match, the one that moved last first.
pub(crate) fn matching(state: State, query: &str) -> Vec<ConversationId> {
    let query = query.trim().to_lowercase();
    let mut found: Vec<(i64, ConversationId)> = state.conversations.with(|all| {
        let matches = all.iter().filter_map(|(id, signal)| {
            signal.with(|c| {
                let at = c
                    .last_message
                    .as_ref()
                    .map_or(c.created, |m| m.received_at.max(m.sent_at));
                (query.is_empty() || searchable(state, c).contains(&query)).then_some((at, *id))
            })
        });
        matches.collect()
    });
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, id)| id).collect()
}

#[component]
pub(crate) fn ListPane() -> impl IntoView {
    let state = State::get();
    let query = state.search;
    let found = Memo::new(move |_| query.with(|q| matching(state, q)));
    let requests = Memo::new(move |_| {
        state
            .requests
            .with(|all| all.keys().copied().collect::<Vec<_>>())
    });
    let any = move || state.conversations.with(|all| !all.is_empty());
    // What is open is in sight, however it was opened.
    Effect::new(move |_| {
        if state.place.get().conversation().is_some() {
            browser::into_sight(".list-pane .entry[aria-current=true]");
        }
    });
    view! {
        <section class="pane list-pane" aria-label=t("list/label")>
            <header class="pane-head">
                <div class="titles"><h1>{t("list/title")}</h1>
                    // Where there are several, it is said whose these are.
                    {move || (state.accounts.with(Vec::len) > 1).then(|| view! { <div class="subtitle"><bdi>{state.account().map(|a| a.display_name)}</bdi></div> })}
                </div>
                <button class="icon-button" type="button" aria-label=t("list/new-group") title=t("list/new-group")
                    on:click=move |_| state.question.set(Some(Question::NewGroup))>{icon(Icon::AddGroup)}</button>
                <button class="icon-button" type="button" aria-label=t("list/add-person") title=t("list/add-person")
                    on:click=move |_| state.question.set(Some(Question::AddPerson))>{icon(Icon::AddPerson)}</button>
            </header>
            {move || any().then(|| view! {
                <div class="tools">
                    <div class="search" role="search" aria-label=t("list/search-label")>
                        {icon(Icon::Search)}
                        <input id="search" class="input" type="search" aria-label=t("list/search") placeholder=t("list/search") aria-keyshortcuts="Control+Shift+F"
                            prop:value=query on:input=move |event| query.set(event_target_value(&event))
                            on:keydown=move |event| if event.key() == "Enter" && let Some(first) = found.get_untracked().first() {
                                Place::Conversation(*first).go();
                            } />
                    </div>
                </div>
            })}
            <div class="pane-body">
                {move || (!requests.with(Vec::is_empty)).then(|| view! {
                    <section aria-labelledby="requests-title">
                        <div class="section-title"><h2 id="requests-title">{t("request/title")}</h2>
                            <span class="badge">{requests.with(Vec::len)}</span></div>
                        <For each=move || requests.get() key=|id| *id let(id)><RequestCard id=id /></For>
                    </section>
                })}
                {move || query.with(String::is_empty).then(|| view! { <BackupCard /> })}
                // Whoever is asked has something to do already.
                {move || (!any() && requests.with(Vec::is_empty)).then(|| view! { <NoConversations /> })}
                <ul class="entries" aria-label=t("list/title")>
                    <For each=move || found.get() key=|id| *id let(id)><li><Entry id=id /></li></For>
                </ul>
                {move || any().then(|| view! { <super::find::FoundEverywhere nobody=Signal::derive(move || found.with(Vec::is_empty)) /> })}
            </div>
            <super::conversation::Grip side="list" />
        </section>
    }
}

/// A list that is still empty says what to do.
#[component]
fn NoConversations() -> impl IntoView {
    let state = State::get();
    view! {
        <div class="empty">
            <h2>{t("list/empty-title")}</h2>
            <p>{t("list/empty")}</p>
            <div class="stack tight">
                <button class="button main" type="button" on:click=move |_| state.question.set(Some(Question::AddPerson))>{t("list/add-person")}</button>
                <button class="button plain" type="button" on:click=move |_| state.question.set(Some(Question::Address))>{t("list/show-address")}</button>
            </div>
        </div>
    }
}

/// The keys that go anywhere, as they stand on this keyboard.
fn pick_keys() -> String {
    format!("{} K", super::questions::key_name("keys/ctrl"))
}

/// Beside the list, while nothing is open.
#[component]
pub(crate) fn NothingOpen() -> impl IntoView {
    let state = State::get();
    let any = move || state.conversations.with(|all| !all.is_empty());
    view! {
        <main class="pane conversation-pane">
            <div class="empty fills">
                <h2>{move || if any() { t("list/pick-title") } else { tf("list/welcome", &[("name", &state.account().map(|a| a.display_name).unwrap_or_default())]) }}</h2>
                <p>{move || if any() { tf("list/pick", &[("keys", &pick_keys())]) } else { t("list/welcome-help") }}</p>
                // A list that is empty has this button itself.
                {move || (any() || state.requests.with(|all| !all.is_empty())).then(|| view! {
                    <button class="button" type="button" on:click=move |_| state.question.set(Some(Question::Address))>{t("list/show-address")}</button>
                })}
            </div>
        </main>
    }
}

/// One conversation in the list.
#[component]
pub(crate) fn Entry(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let signal = untrack(|| state.conversation(&id))?;
    let title = {
        let signal = signal.clone();
        Memo::new(move |_| signal.with(|c| state.title_of(c)))
    };
    let unread = {
        let signal = signal.clone();
        Memo::new(move |_| signal.with(|c| c.unread))
    };
    let closed = {
        let signal = signal.clone();
        Memo::new(move |_| signal.with(|c| c.read_only.is_some()))
    };
    let when = {
        let signal = signal.clone();
        move || {
            signal
                .with(|c| c.last_message.as_ref().map(|m| brief_time(m.sent_at)))
                .unwrap_or_default()
        }
    };
    let last = move || {
        let draft = state.drafts.with(|all| all.get(&id).cloned());
        let current = state.place.get().conversation() == Some(id);
        let draft = draft.filter(|_| !current);
        let drafted = draft.is_some();
        let (who, text) = match draft {
            Some(draft) => (Some(t("list/draft")), draft),
            None => signal.with(|c| match (&c.last_message, c.state) {
                (_, ConversationState::Syncing) if c.mode == ConversationMode::Public => {
                    (None, t("list/knocking"))
                }
                (_, ConversationState::Syncing) => (None, t("list/syncing")),
                (_, ConversationState::Refused) => (None, t("list/refused")),
                (Some(message), _) => summary(state, c, message),
                (None, _) => (None, t("list/no-message")),
            }),
        };
        // Apart, so that words that run the other way lose their end, and not their beginning.
        view! {
            {who.map(|who| view! { <span class="by" class:draft=drafted>{who}" "</span> })}
            <span class="what" dir="auto">{text}</span>
        }
    };
    let current = move || state.place.get().conversation() == Some(id);
    Some(view! {
        <button class="entry" type="button" class:unread=move || { unread.get() > 0 } data-testid="conversation"
            aria-current=move || current().to_string() on:click=move |_| Place::Conversation(id).go()>
            <ConversationFace id=id presence=true />
            <span class="first-line">
                <span class="name" dir="auto">{move || title.get()}</span>
                <span class="when">{when}</span>
            </span>
            <span class="second-line">
                {move || closed.get().then(|| view! { <span class="lock" title=t("list/read-only")>{icon(Icon::Lock)}<span class="hidden-text">{t("list/read-only")}</span></span> })}
                <span class="last">{last}</span>
                {move || (unread.get() > 0).then(|| view! {
                    <span class="badge" aria-hidden="true">{unread.get()}</span>
                    <span class="hidden-text">{tn("list/unread", unread.get() as usize, &[])}</span>
                })}
            </span>
        </button>
    })
}

/// Someone asks to talk.
#[component]
fn RequestCard(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let request: Request = untrack(|| state.requests.with(|all| all.get(&id).cloned()))?;
    let name = state.asker(&request);
    let busy = RwSignal::new(false);
    let params = move || {
        state
            .account_id
            .get_untracked()
            .map(|account| RequestParams {
                account,
                conversation: id,
            })
    };
    let accept = move |_| {
        let Some(params) = params() else { return };
        busy.set(true);
        spawn_local(async move {
            match state.bridge().call::<RequestAccept>(params).await {
                Ok(conversation) => {
                    state.requests.update(|all| drop(all.remove(&id)));
                    let id = conversation.id;
                    state.put(conversation);
                    Place::Conversation(id).go();
                    browser::focus("composer");
                }
                Err(error) => state.report(&error),
            }
            busy.try_set(false);
        });
    };
    let refuse = move |block: bool| {
        state.refuse_request(id, block);
        browser::focus_on(format!("keep-{id}"));
    };
    let refusing = Memo::new(move |_| {
        state
            .refusing
            .with(|all| all.get(&id).map(|(_, block)| *block))
    });
    let is_group = request.mode != ConversationMode::OneToOne;
    let what = match (&request.title, is_group) {
        (Some(title), true) if !title.is_empty() => tf("request/into-group", &[("title", title)]),
        (_, true) => t("request/into-a-group"),
        (_, false) => t("request/wants-to-talk"),
    };
    let label = tf("request/from", &[("name", &name)]);
    let shown = name.clone();
    let asker = name.clone();
    // Anybody can give themselves any name.
    let address = short_id_within(&request.from.to_hex());
    let named = !request.display_name.is_empty();
    let picture = request.avatar.clone().filter(|url| picture::is_shown(url));
    Some(view! {
        <article class="request" aria-label=label data-testid="request">
            <div class="who">
                <Avatar id=request.from.to_hex() name=name.clone() picture=picture />
                <div>
                    <div class="name" dir="auto">{shown}</div>
                    <div class="small quiet">{what}</div>
                    {named.then(|| view! { <div class="small quiet">{address}</div> })}
                </div>
            </div>
            {request.message.clone().filter(|m| !m.is_empty()).map(|m| view! { <p class="said" dir="auto">{m}</p> })}
            {move || match refusing.get() {
                Some(block) => {
                    let key = if block { "request/blocking" } else { "request/declining" };
                    view! {
                        <div class="row" role="status">
                            <p class="small grows">{tf(key, &[("name", &asker)])}</p>
                            <button class="button" type="button" id=format!("keep-{id}") on:click=move |_| state.keep_request(&id)>{icon(Icon::Undo)}{t("common/undo")}</button>
                        </div>
                    }.into_any()
                }
                None => view! {
                    <div class="row">
                        <button class="button main" type="button" disabled=move || busy.get() on:click=accept>{t("request/accept")}</button>
                        <button class="button" type="button" disabled=move || busy.get() on:click=move |_| refuse(false)>{t("request/decline")}</button>
                        <button class="button plain danger" type="button" disabled=move || busy.get() on:click=move |_| refuse(true)>{t("request/block")}</button>
                    </div>
                }.into_any(),
            }}
        </article>
    })
}

/// Once there is someone to lose, a backup is proposed.
#[component]
fn BackupCard() -> impl IntoView {
    let state = State::get();
    let wanted = Memo::new(move |_| state.wants_backup());
    let busy = RwSignal::new(false);
    move || {
        let account = wanted.get()?;
        let protected = state.account().is_some_and(|a| a.has_password);
        let (kept, put_off) = (account.clone(), account);
        let save = move |_| {
            // A password is asked for in the settings.
            if protected {
                state.backup_later(&kept);
                return Place::Settings.go();
            }
            busy.set(true);
            let account = kept.clone();
            spawn_local(async move {
                if let Err(error) = state.save_backup(account, None).await {
                    state.report(&error);
                }
                busy.try_set(false);
            });
        };
        Some(view! {
            <section class="request" aria-labelledby="backup-title" data-testid="backup-card">
                <h2 id="backup-title">{t("backup/title")}</h2>
                <p class="small quiet">{t("backup/why")}</p>
                <div class="row">
                    <button class="button main" type="button" disabled=move || busy.get() on:click=save>{t("settings/backup")}</button>
                    <button class="button plain" type="button" on:click=move |_| state.backup_later(&put_off)>{t("backup/later")}</button>
                </div>
            </section>
        })
    }
}
