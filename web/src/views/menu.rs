//! What one can do with a message: one small panel for all of them, at the place where it was asked for.

use super::message::{before_edits, reactions_in_words, state_in_words};
use crate::browser::{self, full_time};
use crate::parts::{EmojiGrid, Icon, MORE, QUICK, icon, turning_icon};
use crate::say::t;
use crate::state::{Menu, Place, State, can_delete, can_edit};
use leptos::html;
use leptos::prelude::*;
use starling_core::api::{Message, MessageType};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::spawn_local;

/// How far the panel stays from the edges of the page, in pixels.
const EDGE: f64 = 8.0;

/// The panel that is open, if one is.
#[component]
pub(crate) fn MessageMenu() -> impl IntoView {
    let state = State::get();
    move || state.menu.get().map(|menu| view! { <Open menu=menu /> })
}

/// Closes the panel; the focus goes back to the message.
pub(crate) fn close(state: State) {
    if let Some(menu) = state.menu.get_untracked() {
        state.menu.set(None);
        browser::focus_on(format!("m-{}", menu.message));
    }
}

#[component]
fn Open(menu: Menu) -> impl IntoView {
    let state = State::get();
    let (conversation, id) = (menu.conversation, menu.message);
    let history = state.history(conversation);
    let message: Signal<Message> = untrack(|| history.message(&id))?.into();
    let panel = NodeRef::<html::Div>::new();
    let place = RwSignal::new(menu.at);
    let all = RwSignal::new(menu.emoji);
    let me = untrack(|| state.me());
    let open = untrack(|| {
        state
            .conversation(&conversation)
            .is_some_and(|c| c.with(|c| state.may_write(c)))
    });
    let (edit, delete) = message.with_untracked(|m| (can_edit(m, me), can_delete(m, me)));
    let chosen = Signal::derive(move || {
        message.with(|m| {
            let mine = m
                .reactions
                .iter()
                .filter(|(_, who)| who.iter().any(|r| Some(r.author) == me));
            mine.map(|(emoji, _)| emoji.clone()).collect::<Vec<_>>()
        })
    });

    // Shown first, then moved to where all of it is on the page.
    Effect::new(move |_| {
        all.track();
        let Some(panel) = panel.get() else { return };
        let _ = panel.show_popover();
        let (width, height) = (
            f64::from(panel.offset_width()),
            f64::from(panel.offset_height()),
        );
        let size = |side: Result<wasm_bindgen::JsValue, _>| {
            side.ok().and_then(|v| v.as_f64()).unwrap_or(1e6)
        };
        let (page_width, page_height) =
            (size(window().inner_width()), size(window().inner_height()));
        let (x, y) = menu.at;
        let fit = |at: f64, length: f64, page: f64| at.min(page - length - EDGE).max(EDGE);
        place.set((fit(x, width, page_width), fit(y, height, page_height)));
        let first = panel.query_selector("button[tabindex='0'], li button");
        if let Some(first) = first
            .ok()
            .flatten()
            .and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok())
        {
            let _ = first.focus();
        }
    });
    // A click elsewhere closes it by itself; the page is told.
    let toggled = move |event: web_sys::Event| {
        let now = js_sys::Reflect::get(&event, &"newState".into());
        if now.ok().and_then(|v| v.as_string()).as_deref() == Some("closed") {
            state
                .menu
                .update(|m| *m = m.filter(|open| open.message != id));
        }
    };
    let react = Callback::new(move |emoji: String| {
        message.with_untracked(|m| state.toggle_reaction(conversation, m, emoji));
        close(state);
    });
    let copy = move |_| {
        let text = message.with_untracked(|m| m.body.clone().unwrap_or_default());
        close(state);
        spawn_local(async move {
            if browser::copy(&text).await {
                state.said.set(t("address/copied"));
            }
        });
    };
    // Up and down go through everything, as in any menu.
    let key = move |event: web_sys::KeyboardEvent| {
        let step: i64 = match event.key().as_str() {
            "ArrowDown" => 1,
            "ArrowUp" => -1,
            _ => return,
        };
        let (Some(panel), Some(now)) = (panel.get_untracked(), document().active_element()) else {
            return;
        };
        let Ok(items) = panel.query_selector_all("button[tabindex='0'], li button") else {
            return;
        };
        let at = (0..items.length())
            .find(|i| items.item(*i).as_ref() == Some(now.unchecked_ref()))
            .map_or(-1, i64::from);
        let count = i64::from(items.length());
        let next = (at + step).rem_euclid(count.max(1));
        let next = u32::try_from(next).ok().and_then(|i| items.item(i));
        if let Some(next) = next.and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok()) {
            event.prevent_default();
            let _ = next.focus();
        }
    };
    let has_words = message.with_untracked(|m| {
        m.kind == MessageType::Text && m.body.as_ref().is_some_and(|b| !b.is_empty())
    });
    Some(view! {
        <div class="menu" popover="auto" role="dialog" aria-label=t("menu/label") node_ref=panel on:toggle=toggled on:keydown=key data-testid="menu"
            style:left=move || format!("{}px", place.get().0) style:top=move || format!("{}px", place.get().1)>
            // What hovering shows elsewhere, for fingers too.
            <div class="about" data-testid="about">
                {move || message.with(|m| {
                    let time = full_time(m.sent_at);
                    view! {
                        <p>{time}</p>
                        {state_in_words(state, m).map(|words| view! { <p>{words}</p> })}
                        {reactions_in_words(state, m).into_iter().map(|(emoji, names)| view! { <p><span class="emoji">{emoji}</span>" "<bdi>{names}</bdi></p> }).collect_view()}
                        {before_edits(m).map(|words| view! { <p class="before" dir="auto">{words}</p> })}
                    }
                })}
            </div>
            {open.then(|| view! {
                <EmojiGrid emoji=&QUICK label=t("menu/react") on_choose=react chosen=chosen />
                {move || match all.get() {
                    true => view! { <EmojiGrid emoji=&MORE label=t("menu/more-emoji") on_choose=react chosen=chosen /> }.into_any(),
                    false => ().into_any(),
                }}
            })}
            <ul>
                {move || (open && !all.get()).then(|| view! {
                    <li><button type="button" on:click=move |_| all.set(true)>{icon(Icon::Smile)}{t("menu/more-emoji")}</button></li>
                })}
                {open.then(|| view! {
                    <li><button type="button" on:click=move |_| { state.menu.set(None); state.begin_reply(conversation, id); }>{turning_icon(Icon::Reply)}{t("message/reply")}</button></li>
                })}
                {has_words.then(|| view! { <li><button type="button" on:click=copy>{icon(Icon::Copy)}{t("menu/copy")}</button></li> })}
                {(open && edit).then(|| view! {
                    <li><button type="button" on:click=move |_| { state.menu.set(None); state.begin_edit(conversation, id); }>{icon(Icon::Edit)}{t("menu/edit")}</button></li>
                })}
                <li><button type="button" on:click=move |_| { state.menu.set(None); Place::Proof(conversation, id).go(); }>{icon(Icon::Shield)}{t("menu/proof")}</button></li>
                {(open && delete).then(|| view! {
                    <li><button class="danger" type="button" on:click=move |_| { close(state); state.delete_message(conversation, id); }>{icon(Icon::Delete)}{t("menu/delete")}</button></li>
                })}
            </ul>
        </div>
    })
}
