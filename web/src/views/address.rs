//! One's own address: as text, as QR code, to copy and to share.

use crate::browser;
use crate::parts::{Icon, Qr, icon};
use crate::say::t;
use crate::state::State;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

/// The address of the account that is shown.
#[component]
pub(crate) fn Address() -> impl IntoView {
    let state = State::get();
    let account = state.account_untracked()?;
    let id = account.jami_id.to_hex();
    // What scanners of other Jami programs expect.
    let scanned = format!("jami:{id}");
    Some(view! {
        <Qr text=scanned label=t("address/qr") />
        <div class="stack tight">
            <InGroups id=id.clone() testid="address" />
            <Copying text=id />
        </div>
    })
}

/// An address in groups of four, as people read it out; copied, it is one word.
#[component]
pub(crate) fn InGroups(
    /// 40 digits.
    id: String,
    /// A name for tests.
    #[prop(optional)]
    testid: &'static str,
) -> impl IntoView {
    let groups: Vec<String> = id
        .as_bytes()
        .chunks(4)
        .map(|four| String::from_utf8_lossy(four).into_owned())
        .collect();
    view! {
        <p class="address in-groups" data-testid=testid>
            {groups.into_iter().map(|four| view! { <span>{four}</span> }).collect_view()}
        </p>
    }
}

/// Buttons that copy and share a text.
#[component]
pub(crate) fn Copying(
    /// What is copied.
    text: String,
    /// Small, and nothing but copying.
    #[prop(optional)]
    plain: bool,
) -> impl IntoView {
    let state = State::get();
    let copied = RwSignal::new(false);
    let to_copy = text.clone();
    let copy = move |_| {
        let text = to_copy.clone();
        spawn_local(async move {
            if browser::copy(&text).await {
                copied.set(true);
                state.said.set(t("address/copied"));
                browser::sleep_ms(2_000).await;
                copied.try_set(false);
            }
        });
    };
    view! {
        <div class="row">
            <button class="button" class:small-button=plain type="button" on:click=copy>
                {icon(Icon::Copy)}
                {move || if copied.get() { t("address/copied") } else { t("address/copy") }}
            </button>
            {(!plain && browser::can_share()).then(|| view! {
                <button class="button" type="button" on:click=move |_| {
                    let text = text.clone();
                    spawn_local(async move { browser::share(&text).await });
                }>{icon(Icon::Share)} {t("address/share")}</button>
            })}
        </div>
    }
}
