//! A page that the bridge does not know: what to do about it.

use crate::browser;
use crate::keys;
use crate::say::t;
use crate::state::State;
use leptos::prelude::*;
use starling_core::api::ErrorCode;
use wasm_bindgen_futures::spawn_local;

#[component]
pub(crate) fn Unpaired() -> impl IntoView {
    let state = State::get();
    let code = RwSignal::new(String::new());
    let busy = RwSignal::new(false);
    let failed = RwSignal::new(None::<String>);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        busy.set(true);
        failed.set(None);
        spawn_local(async move {
            match keys::pair(&code.get_untracked()).await {
                Ok(()) => state.bridge().connect(),
                Err(error) => failed.set(Some(match error.code {
                    ErrorCode::NotAuthorised => t("pairing/wrong-code"),
                    // Of the page's own: the bridge says no such thing about a code.
                    ErrorCode::Unsupported => t("pairing/browser-lacks"),
                    _ => super::error_in_words(&error),
                })),
            }
            busy.try_set(false);
        });
    };
    browser::focus("pairing-code");
    view! {
        <main class="alone">
            <div class="card">
                <img class="mark" src="/icon.svg" alt="" width="48" height="48" />
                <div class="stack tight">
                    <h1>{t("pairing/title")}</h1>
                    <p class="lead">{t("pairing/lead")}</p>
                </div>
                <form on:submit=submit>
                    <div class="field">
                        <label for="pairing-code">{t("pairing/code")}</label>
                        <input id="pairing-code" class="input code-input" autocomplete="one-time-code" autocapitalize="off" spellcheck="false" dir="ltr"
                            required prop:value=code on:input=move |event| code.set(event_target_value(&event)) />
                        <span class="hint">{t("pairing/code-hint")}</span>
                    </div>
                    {move || failed.get().map(|text| view! { <p class="note error" role="alert">{text}</p> })}
                    <button class="button main wide" type="submit" disabled=move || busy.get() || code.with(|c| c.trim().is_empty())>{t("pairing/go")}</button>
                </form>
            </div>
        </main>
    }
}
