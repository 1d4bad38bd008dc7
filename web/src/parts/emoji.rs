//! A small choice of emoji: what people use most, and whatever their keyboard has besides.

use crate::say::tf;
use leptos::prelude::*;
use wasm_bindgen::JsCast;

/// What stands at hand.
pub(crate) const QUICK: [&str; 6] = ["👍", "❤️", "😂", "😮", "😢", "🙏"];

/// What else there is, most used first.
pub(crate) const MORE: [&str; 56] = [
    "😀", "😄", "😅", "🤣", "😊", "😇", "🙂", "😉", "😍", "🥰", "😘", "😋", "😎", "🤓", "🤔", "🤨",
    "😐", "🙄", "😬", "😴", "🥳", "😭", "😤", "😡", "🤯", "😱", "🤗", "🫣", "🤝", "👋", "👏", "🙌",
    "💪", "✌️", "🤞", "👌", "👎", "🫶", "💔", "🔥", "✨", "🎉", "💯", "✅", "❌", "❓", "⚠️", "💡",
    "☕", "🍵", "🍰", "🌱", "☀️", "🌧️", "🐦", "🚀",
];

/// A grid of emoji. Arrow keys go through it.
#[component]
pub(crate) fn EmojiGrid(
    /// Which ones.
    emoji: &'static [&'static str],
    /// Its name for screen readers.
    label: String,
    /// What was chosen.
    on_choose: Callback<String>,
    /// Which ones the person has chosen already.
    #[prop(optional, into)]
    chosen: Signal<Vec<String>>,
) -> impl IntoView {
    let key = move |event: web_sys::KeyboardEvent| {
        let rtl = document()
            .document_element()
            .and_then(|e| e.get_attribute("dir"))
            .is_some_and(|d| d == "rtl");
        let along = if rtl { -1 } else { 1 };
        let step = match event.key().as_str() {
            "ArrowRight" => along,
            "ArrowLeft" => -along,
            "ArrowDown" => 8,
            "ArrowUp" => -8,
            _ => return,
        };
        let Some(button) = event
            .target()
            .and_then(|t| t.dyn_into::<web_sys::Element>().ok())
        else {
            return;
        };
        let Some(grid) = button.parent_element() else {
            return;
        };
        let all = grid.children();
        let at = (0..all.length())
            .find(|i| all.item(*i).as_ref() == Some(&button))
            .map_or(0, i64::from);
        let next = u32::try_from(at + step).ok().and_then(|i| all.item(i));
        if let Some(next) = next.and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok()) {
            event.prevent_default();
            event.stop_propagation();
            let _ = next.focus();
        }
    };
    view! {
        <div class="emoji-grid" role="group" aria-label=label on:keydown=key>
            {emoji.iter().enumerate().map(|(index, one)| view! {
                <button type="button" tabindex=if index == 0 { "0" } else { "-1" } aria-label=tf("menu/emoji", &[("emoji", one)])
                    aria-pressed=move || chosen.with(|all| all.iter().any(|c| c == one)).to_string()
                    on:click=move |_| on_choose.run((*one).to_owned())>{*one}</button>
            }).collect_view()}
        </div>
    }
}
