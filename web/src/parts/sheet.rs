//! A question over the page: the browser's own dialog, so that focus, Esc and the tab order are right.

use super::{Icon, icon};
use crate::say::t;
use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::JsCast;

/// A dialog that is open for as long as it exists.
#[component]
pub(crate) fn Sheet(
    /// Its title, also its name for screen readers.
    title: String,
    /// Called when the person closes it.
    on_close: Callback<()>,
    /// An extra class.
    #[prop(optional)]
    class: &'static str,
    children: Children,
) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    Effect::new(move |_| {
        if let Some(dialog) = dialog.get()
            && !dialog.open()
        {
            let _ = dialog.show_modal();
        }
    });
    // Closed by the browser, so that the focus goes back to where it was.
    let close = move || match dialog.get_untracked() {
        Some(dialog) => dialog.close(),
        None => on_close.run(()),
    };
    // Also where the page takes it away.
    on_cleanup(move || {
        if let Some(dialog) = dialog.get_untracked() {
            dialog.close();
        }
    });
    // The browser says so a frame later: by then something else may have been asked in its place, in
    // another dialog or in this one.
    let closed = move |event: web_sys::Event| {
        let over = event
            .target()
            .and_then(|target| target.dyn_into::<web_sys::HtmlDialogElement>().ok())
            .is_some_and(|dialog| dialog.is_connected() && !dialog.open());
        if over {
            on_close.run(());
        }
    };
    // A click on the dialog itself, not on what is in it, is a click on the backdrop.
    let outside = move |event: web_sys::MouseEvent| {
        if event.target() == event.current_target() {
            close();
        }
    };
    view! {
        <dialog node_ref=dialog class=class aria-label=title.clone() on:close=closed on:click=outside>
            <div class="sheet-head">
                <h2>{title.clone()}</h2>
                <button class="icon-button" type="button" aria-label=t("common/close") on:click=move |_| close()>
                    {icon(Icon::Close)}
                </button>
            </div>
            <div class="sheet">{children()}</div>
        </dialog>
    }
}
