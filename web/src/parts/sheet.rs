//! A question over the page: the browser's own dialog, so that focus, Esc and the tab order are right.

use super::{Icon, icon};
use crate::say::t;
use leptos::html;
use leptos::prelude::*;

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
    // A click on the dialog itself, not on what is in it, is a click on the backdrop.
    let outside = move |event: web_sys::MouseEvent| {
        if event.target() == event.current_target() {
            close();
        }
    };
    view! {
        <dialog node_ref=dialog class=class aria-label=title.clone() on:close=move |_| on_close.run(()) on:click=outside>
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
