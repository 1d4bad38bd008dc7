//! Where words are written. Drafts survive everything, a reload too.

use crate::browser;
use crate::parts::{EmojiGrid, Icon, MORE, QUICK, icon, turning_icon};
use crate::say::{t, tf};
use crate::state::{History, State};
use leptos::html;
use leptos::prelude::*;
use starling_core::api::method::{MessageEdit, MessageSetTyping};
use starling_core::api::{ConversationState, MessageEditParams, MessageSetTypingParams};
use starling_core::id::ObjectId;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::spawn_local;

/// Members are told again that someone types after this many milliseconds of typing.
const TYPING_AGAIN_MS: i64 = 5_000;

#[component]
pub(crate) fn Composer(history: History, name: Memo<String>) -> impl IntoView {
    let state = State::get();
    let conversation = history.conversation;
    let field = NodeRef::<html::Textarea>::new();
    let text = RwSignal::new(
        state
            .drafts
            .with_untracked(|all| all.get(&conversation).cloned().unwrap_or_default()),
    );
    let told = StoredValue::new(0_i64);
    let editing = Memo::new(move |_| state.editing.with(|all| all.get(&conversation).copied()));
    let busy = RwSignal::new(false);
    let emoji = RwSignal::new(false);
    // The words of a message come in when it is edited, and the draft comes back after.
    let edited_history = history.clone();
    Effect::new(move |before: Option<Option<ObjectId>>| {
        let now = editing.get();
        let words = match (before.flatten(), now) {
            (before, Some(id)) if before != Some(id) => edited_history
                .message(&id)
                .and_then(|m| m.with_untracked(|m| m.body.clone())),
            (Some(_), None) => Some(
                state
                    .drafts
                    .with_untracked(|all| all.get(&conversation).cloned().unwrap_or_default()),
            ),
            _ => None,
        };
        if let Some(words) = words {
            text.set(words.clone());
            request_animation_frame(move || {
                if let Some(field) = field.get_untracked() {
                    let end = words.encode_utf16().count() as u32;
                    let _ = field.set_selection_range(end, end);
                }
            });
        }
        now
    });
    // Words that did not go come back to be made shorter.
    Effect::new(move |_| {
        let draft = state.drafts.with(|all| all.get(&conversation).cloned());
        if let Some(draft) = draft
            && editing.get_untracked().is_none()
            && text.with_untracked(|text| *text != draft)
        {
            text.set(draft);
        }
    });
    let blank = move || text.with(|text| text.trim().is_empty());

    let tell_typing = move |typing: bool| {
        let Some(account) = state.account_untracked().filter(|a| a.settings.typing) else {
            return;
        };
        told.set_value(if typing { browser::now_ms() } else { 0 });
        let params = MessageSetTypingParams {
            account: account.id,
            conversation,
            typing,
        };
        spawn_local(async move {
            let _ = state.bridge().call::<MessageSetTyping>(params).await;
        });
    };
    let changed = move |value: String| {
        let empty = value.trim().is_empty();
        text.set(value.clone());
        // What is edited is no draft, and nobody waits for it.
        if editing.get_untracked().is_some() {
            return;
        }
        state.keep_draft(conversation, &value);
        match (empty, told.get_value()) {
            (true, 0) => {}
            (true, _) => tell_typing(false),
            (false, at) if browser::now_ms() - at > TYPING_AGAIN_MS => tell_typing(true),
            (false, _) => {}
        }
    };
    let save_history = history.clone();
    let save = move |id: ObjectId, body: String| {
        let done = move || {
            state.editing.update(|all| {
                all.remove(&conversation);
            })
        };
        let same = save_history
            .message(&id)
            .is_some_and(|m| m.with_untracked(|m| m.body.as_ref() == Some(&body)));
        let Some(account) = state.account_id.get_untracked().filter(|_| !same) else {
            return done();
        };
        busy.set(true);
        spawn_local(async move {
            let params = MessageEditParams {
                account,
                conversation,
                id,
                body,
            };
            match state.bridge().call::<MessageEdit>(params).await {
                Ok(_) => done(),
                Err(error) => state.report(&error),
            }
            busy.try_set(false);
        });
    };
    let send = {
        let history = history.clone();
        move || {
            let body = text.get_untracked();
            if body.trim().is_empty() || busy.get_untracked() {
                return;
            }
            if let Some(id) = editing.get_untracked() {
                save(id, body.trim_end().to_owned());
                return;
            }
            let reply_to = state
                .replying
                .try_update(|all| all.remove(&conversation))
                .flatten();
            history.send(state, body.trim_end().to_owned(), reply_to);
            state.keep_draft(conversation, "");
            text.set(String::new());
            told.set_value(0);
        }
    };
    let by_key = {
        let (send, history) = (send.clone(), history.clone());
        move |event: web_sys::KeyboardEvent| {
            // Enter also ends the choice of a character in many input methods; that one is not ours.
            let command = event.ctrl_key() || event.meta_key();
            let sends = if browser::enter_breaks() {
                command
            } else {
                !event.shift_key()
            };
            match event.key().as_str() {
                "Enter" if sends && !event.is_composing() => {
                    event.prevent_default();
                    send();
                }
                // In an empty field there is nowhere to go up to but the last thing one said.
                "ArrowUp" if text.with_untracked(String::is_empty) && !event.alt_key() => {
                    if let Some(id) = history.last_own(state) {
                        event.prevent_default();
                        state.begin_edit(conversation, id);
                    }
                }
                _ => {}
            }
        }
    };
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        send();
        browser::focus("composer");
    };
    let answered = {
        let history = history.clone();
        move || {
            let edited = editing.get();
            let id = edited.or(state.replying.with(|all| all.get(&conversation).copied()))?;
            let message = history.message(&id)?;
            let (author, text) = message.with(|m| {
                (
                    m.author,
                    m.body.clone().unwrap_or_default().replace('\n', " "),
                )
            });
            let what = match edited {
                Some(_) => t("composer/editing"),
                None => tf("composer/replying", &[("name", &state.name_of(&author))]),
            };
            let cancel = move |_| {
                state.editing.update(|all| {
                    all.remove(&conversation);
                });
                state.replying.update(|all| {
                    all.remove(&conversation);
                });
                browser::focus("composer");
            };
            Some(view! {
                <div class="replying">
                    {if edited.is_some() { icon(Icon::Edit).into_any() } else { turning_icon(Icon::Reply).into_any() }}
                    <div class="what"><div class="small">{what}</div><div class="said"><bdi>{text}</bdi></div></div>
                    <button class="icon-button" type="button" aria-label=t("common/cancel") title=t("common/cancel") on:click=cancel>{icon(Icon::Close)}</button>
                </div>
            })
        }
    };
    let closed = move || {
        state
            .conversation(&conversation)
            .is_some_and(|c| c.with(|c| c.state != ConversationState::Ready))
    };
    let insert = Callback::new(move |one: String| {
        let Some(field) = field.get_untracked() else {
            return;
        };
        let _ = field.focus();
        let end = field.selection_end().ok().flatten();
        let start = field.selection_start().ok().flatten();
        let units: Vec<u16> = field.value().encode_utf16().collect();
        let (start, end) = (
            start.map_or(units.len(), |at| at as usize).min(units.len()),
            end.map_or(units.len(), |at| at as usize).min(units.len()),
        );
        let before = String::from_utf16_lossy(units.get(..start).unwrap_or_default());
        let after = String::from_utf16_lossy(units.get(end.max(start)..).unwrap_or_default());
        changed(format!("{before}{one}{after}"));
        let at = (start + one.encode_utf16().count()) as u32;
        request_animation_frame(move || drop(field.set_selection_range(at, at)));
        emoji.set(false);
    });
    let toggled = move |event: web_sys::Event| {
        let now = js_sys::Reflect::get(&event, &"newState".into());
        if now.ok().and_then(|v| v.as_string()).as_deref() == Some("closed") {
            emoji.set(false);
        }
    };
    // A pointer means a keyboard: one can type at once. On a phone the keyboard would cover what one came to read.
    if window()
        .match_media("(pointer: fine)")
        .ok()
        .flatten()
        .is_some_and(|m| m.matches())
    {
        browser::focus("composer");
    }
    view! {
        <form class="composer" on:submit=submit>
            {answered}
            <div class="box">
                <button class="icon-button" type="button" aria-label=t("composer/emoji") title=t("composer/emoji") disabled=closed
                    aria-expanded=move || emoji.get().to_string() on:click=move |_| emoji.set(true)>{icon(Icon::Smile)}</button>
                <textarea id="composer" rows="1" node_ref=field dir="auto" enterkeyhint="send" disabled=closed
                    aria-label=move || tf("composer/label", &[("name", &name.get())])
                    placeholder=t("composer/placeholder")
                    prop:value=text on:input=move |event| changed(event_target_value(&event)) on:keydown=by_key data-testid="composer"></textarea>
                <button class="icon-button send" type="submit" aria-label=move || t(if editing.get().is_some() { "composer/save" } else { "composer/send" })
                    title=move || t(if editing.get().is_some() { "composer/save" } else { "composer/send" })
                    disabled=move || blank() || busy.get() data-testid="send">
                    {move || if editing.get().is_some() { icon(Icon::Check).into_any() } else { turning_icon(Icon::Send).into_any() }}
                </button>
            </div>
            {move || emoji.get().then(|| {
                let panel = NodeRef::<html::Div>::new();
                Effect::new(move |_| {
                    if let Some(panel) = panel.get() {
                        let _ = panel.show_popover();
                        if let Ok(Some(first)) = panel.query_selector("button") && let Some(first) = first.dyn_ref::<web_sys::HtmlElement>() {
                            let _ = first.focus();
                        }
                    }
                });
                view! {
                    <div class="menu from-composer" popover="auto" role="dialog" aria-label=t("composer/emoji") node_ref=panel on:toggle=toggled>
                        <EmojiGrid emoji=&QUICK label=t("composer/emoji") on_choose=insert />
                        <EmojiGrid emoji=&MORE label=t("menu/more-emoji") on_choose=insert />
                    </div>
                }
            })}
        </form>
    }
}
