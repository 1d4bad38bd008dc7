//! Choosing a picture: it is cut and made small here, before anybody else sees it.

use super::{Avatar, Icon, icon};
use crate::browser;
use crate::say::t;
use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::spawn_local;

/// The picture as it is, a button that chooses another one, and one that takes it away.
#[component]
pub(crate) fn Photo(
    /// Whose colour stands in.
    #[prop(into)]
    id: String,
    /// Whose letters stand in.
    #[prop(into)]
    name: Signal<String>,
    /// A `data:` URL; nothing where there is no picture.
    picture: RwSignal<Option<String>>,
    /// Groups have corners.
    #[prop(optional)]
    group: bool,
) -> impl IntoView {
    let input = NodeRef::<html::Input>::new();
    let wrong = RwSignal::new(false);
    let picked = move |event: web_sys::Event| {
        let Some(field) = event
            .target()
            .and_then(|t| t.dyn_into::<web_sys::HtmlInputElement>().ok())
        else {
            return;
        };
        let file = field.files().and_then(|files| files.get(0));
        // So that the same file can be chosen again.
        field.set_value("");
        let Some(file) = file else { return };
        spawn_local(async move {
            let found = browser::small_picture(&file).await;
            wrong.try_set(found.is_none());
            if found.is_some() {
                picture.try_set(found);
            }
        });
    };
    let choose = move |_| {
        if let Some(input) = input.get_untracked() {
            input.click();
        }
    };
    view! {
        <div class="photo">
            <button class="photo-button" type="button" aria-label=t("photo/choose") title=t("photo/choose") on:click=choose>
                <Avatar id=id name=name picture=picture size="large" group=group />
                <span class="photo-mark">{icon(Icon::Camera)}</span>
            </button>
            <input node_ref=input class="hidden-text" type="file" tabindex="-1" aria-hidden="true"
                accept="image/png,image/jpeg,image/webp,image/gif" on:change=picked data-testid="photo-file" />
            {move || picture.with(Option::is_some).then(|| view! {
                <button class="button plain small-button" type="button" on:click=move |_| picture.set(None)>{t("photo/remove")}</button>
            })}
            {move || wrong.get().then(|| view! { <p class="note error" role="alert">{t("photo/wrong")}</p> })}
        </div>
    }
}
