//! Searching: in one conversation beside it, and in all of them below the list.

use super::error_in_words;
use crate::browser::{self, brief_time, sleep_ms};
use crate::parts::{ConversationFace, Icon, icon, turning_icon};
use crate::say::{t, tf, tn};
use crate::seek::excerpt;
use crate::state::{Place, State};
use leptos::prelude::*;
use starling_core::api::method::MessageSearch;
use starling_core::api::{ApiError, MessageFound, MessageSearchParams};
use starling_core::id::ConversationId;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::spawn_local;

/// Words are looked for when nothing was typed for this long, in milliseconds.
const PAUSE_MS: i32 = 180;
/// Fewer letters than this find too much to be of use.
const FEWEST_LETTERS: usize = 2;
/// How many messages are shown.
const MOST: u32 = 50;

/// What a search came to.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    Nothing,
    Messages(Vec<MessageFound>),
    Failed(ApiError),
}

/// Looks for words while they are typed; the newest question alone is answered.
fn search(state: State, within: Option<ConversationId>, query: Signal<String>) -> RwSignal<Found> {
    let found = RwSignal::new(Found::Nothing);
    let round = StoredValue::new(0_u32);
    Effect::new(move |_| {
        let words = query.get().trim().to_owned();
        let now = round.get_value().wrapping_add(1);
        round.set_value(now);
        if words.chars().count() < FEWEST_LETTERS {
            found.set(Found::Nothing);
            return;
        }
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        spawn_local(async move {
            sleep_ms(PAUSE_MS).await;
            if round.try_get_value() != Some(now) {
                return;
            }
            let params = MessageSearchParams {
                account,
                conversation: within,
                query: words,
                limit: Some(MOST),
            };
            let answer = state.bridge().call::<MessageSearch>(params).await;
            if round.try_get_value() == Some(now) {
                found.try_set(match answer {
                    Ok(all) => Found::Messages(all),
                    Err(error) => Found::Failed(error),
                });
            }
        });
    });
    found
}

/// One message that was found.
#[component]
fn Hit(found: MessageFound, query: String, everywhere: bool) -> impl IntoView {
    let state = State::get();
    let (conversation, id) = (found.conversation, found.message.id);
    let author = untrack(|| match Some(found.message.author) == state.me() {
        true => t("person/you"),
        false => state.name_of(&found.message.author),
    });
    let title = untrack(|| state.conversation(&conversation))
        .map(|c| c.with_untracked(|c| untrack(|| state.title_of(c))))
        .unwrap_or_default();
    let group = untrack(|| state.conversation(&conversation))
        .is_some_and(|c| c.with_untracked(|c| untrack(|| state.peer(c)).is_none()));
    let said = excerpt(found.message.body.as_deref().unwrap_or_default(), &query);
    let body = said
        .into_iter()
        .map(|part| match part.hit {
            true => view! { <mark>{part.text}</mark> }.into_any(),
            false => part.text.into_any(),
        })
        .collect_view();
    let own = author == t("person/you");
    view! {
        <li><button class="entry hit" type="button" data-testid="hit" on:click=move |_| state.show_message(conversation, id)>
            {everywhere.then(|| view! { <ConversationFace id=conversation /> })}
            <span class="first-line">
                <span class="name" dir="auto">{if everywhere { title } else { author.clone() }}</span>
                <span class="when">{brief_time(found.message.sent_at)}</span>
            </span>
            <span class="said" dir="auto">{(everywhere && (group || own)).then(|| tf("find/by", &[("name", &author)]))}{body}</span>
        </button></li>
    }
}

/// Arrow keys go from the field through what was found.
fn walk(event: &web_sys::KeyboardEvent) {
    let down = match event.key().as_str() {
        "ArrowDown" => true,
        "ArrowUp" => false,
        _ => return,
    };
    let pane = event
        .current_target()
        .and_then(|t| t.dyn_into::<web_sys::Element>().ok());
    let Some(all) = pane.and_then(|p| p.query_selector_all("input[type=search], .entry").ok())
    else {
        return;
    };
    let now = document().active_element();
    let at = (0..all.length()).find(|i| {
        now.as_ref()
            .is_some_and(|now| all.item(*i).as_ref() == Some(now.unchecked_ref()))
    });
    let next = at.and_then(|at| {
        if down {
            at.checked_add(1)
        } else {
            at.checked_sub(1)
        }
    });
    let next = next.and_then(|at| all.item(at));
    if let Some(next) = next.and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok()) {
        event.prevent_default();
        let _ = next.focus();
    }
}

/// Searching in one conversation.
#[component]
pub(crate) fn Find(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let query = RwSignal::new(String::new());
    let found = search(state, Some(id), query.into());
    browser::focus("find");
    view! {
        <aside class="pane details-pane" aria-label=t("find/title") on:keydown=move |event| walk(&event)>
            <super::conversation::Grip side="details" />
            <header class="pane-head">
                <button class="icon-button back" type="button" aria-label=t("common/back") on:click=move |_| Place::Conversation(id).go()>{turning_icon(Icon::Back)}</button>
                <div class="titles"><h2>{t("find/title")}</h2></div>
                <button class="icon-button wide-only" type="button" aria-label=t("common/close") on:click=move |_| Place::Conversation(id).go()>{icon(Icon::Close)}</button>
            </header>
            <div class="tools-row">
                <div class="search" role="search" aria-label=t("find/title")>
                    {icon(Icon::Search)}
                    <input id="find" class="input" type="search" aria-label=t("find/label") placeholder=t("find/label") autocomplete="off"
                        prop:value=query on:input=move |event| query.set(event_target_value(&event)) />
                </div>
            </div>
            <div class="pane-body">
                <p class="hint" role="status">{move || match found.get() {
                    Found::Nothing => t("find/hint"),
                    Found::Messages(all) if all.is_empty() => tf("list/nothing-found", &[("query", query.get().trim())]),
                    Found::Messages(all) => tn("find/count", all.len(), &[]),
                    Found::Failed(error) => error_in_words(&error),
                }}</p>
                <ul class="entries" aria-label=t("find/title")>
                    {move || match found.get() {
                        Found::Messages(all) => all.into_iter().map(|one| view! { <Hit found=one query=query.get_untracked() everywhere=false /> }).collect_view().into_any(),
                        _ => ().into_any(),
                    }}
                </ul>
            </div>
        </aside>
    }
}

/// What was said with the words of the list's search box; and that nothing was found, where that is so.
#[component]
pub(crate) fn FoundEverywhere(
    /// No conversation is called so.
    nobody: Signal<bool>,
) -> impl IntoView {
    let state = State::get();
    let found = search(state, None, state.search.into());
    move || {
        match found.get() {
        Found::Failed(error) => {
            Some(view! { <p class="empty" role="alert">{error_in_words(&error)}</p> }.into_any())
        }
        Found::Messages(all) if all.is_empty() => nobody.get().then(|| {
            let query = state.search.get();
            view! { <p class="empty" role="status">{tf("list/nothing-found", &[("query", query.trim())])}</p> }.into_any()
        }),
        Found::Nothing => {
            let query = state.search.get();
            // Too short to look for in messages, so that is all there is to say.
            let short = (1..FEWEST_LETTERS).contains(&query.trim().chars().count());
            (short && nobody.get()).then(|| view! { <p class="empty" role="status">{tf("list/nobody-found", &[("query", query.trim())])}</p> }.into_any())
        }
        Found::Messages(all) => {
            let query = state.search.get_untracked();
            Some(view! {
                <section aria-labelledby="found-title">
                    <div class="section-title"><h2 id="found-title">{t("find/messages")}</h2></div>
                    <ul class="entries" aria-labelledby="found-title">
                        {all.into_iter().map(|one| view! { <Hit found=one query=query.clone() everywhere=true /> }).collect_view()}
                    </ul>
                </section>
            }.into_any())
        }
    }
    }
}
