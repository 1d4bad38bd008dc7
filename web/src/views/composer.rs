//! Where words are written. Drafts survive everything, a reload too.

use crate::browser;
use crate::parts::{Icon, icon, turning_icon};
use crate::say::{t, tf};
use crate::state::{History, State};
use leptos::html;
use leptos::prelude::*;
use starling_core::api::method::MessageSetTyping;
use starling_core::api::{ConversationState, MessageSetTypingParams};
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
        state.keep_draft(conversation, &value);
        text.set(value);
        match (empty, told.get_value()) {
            (true, 0) => {}
            (true, _) => tell_typing(false),
            (false, at) if browser::now_ms() - at > TYPING_AGAIN_MS => tell_typing(true),
            (false, _) => {}
        }
    };
    let send = {
        let history = history.clone();
        move || {
            let body = text.get_untracked();
            if body.trim().is_empty() {
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
        let send = send.clone();
        move |event: web_sys::KeyboardEvent| {
            // Enter also ends the choice of a character in many input methods; that one is not ours.
            if event.key() == "Enter" && !event.shift_key() && !event.is_composing() {
                event.prevent_default();
                send();
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
            let id = state.replying.with(|all| all.get(&conversation).copied())?;
            let text = history
                .message(&id)
                .map(|m| m.with(|m| m.body.clone().unwrap_or_default()))
                .unwrap_or_default();
            Some(view! {
                <div class="replying"><span><bdi>{text}</bdi></span>
                    <button class="icon-button" type="button" aria-label=t("common/cancel")
                        on:click=move |_| state.replying.update(|all| { all.remove(&conversation); })>{icon(Icon::Close)}</button>
                </div>
            })
        }
    };
    let closed = move || {
        state
            .conversation(&conversation)
            .is_some_and(|c| c.with(|c| c.state == ConversationState::Leaving))
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
                <textarea id="composer" rows="1" node_ref=field dir="auto" enterkeyhint="send" disabled=closed
                    aria-label=move || tf("composer/label", &[("name", &name.get())])
                    placeholder=move || tf("composer/label", &[("name", &name.get())])
                    prop:value=text on:input=move |event| changed(event_target_value(&event)) on:keydown=by_key data-testid="composer"></textarea>
                <button class="icon-button send" type="submit" aria-label=t("composer/send") title=t("composer/send") disabled=blank data-testid="send">
                    {turning_icon(Icon::Send)}
                </button>
            </div>
        </form>
    }
}
