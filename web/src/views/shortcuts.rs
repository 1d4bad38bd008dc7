//! The keyboard: everything can be reached by it.

use super::list::matching;
use crate::browser;
use crate::state::{Place, Question, State};
use leptos::prelude::*;
use wasm_bindgen::JsCast;

/// Listens to the keys that work everywhere.
pub(super) fn listen(state: State) {
    let handle = window_event_listener(leptos::ev::keydown, move |event| {
        let typing = event
            .target()
            .and_then(|t| t.dyn_into::<web_sys::Element>().ok())
            .is_some_and(|e| matches!(e.tag_name().as_str(), "INPUT" | "TEXTAREA" | "SELECT"));
        let command = event.ctrl_key() || event.meta_key();
        let asked = state.question.with_untracked(Option::is_some);
        match event.key().as_str() {
            "k" | "K" if command && !event.shift_key() => {
                event.prevent_default();
                state.question.set(Some(Question::Palette));
            }
            "f" | "F" if command && event.shift_key() && !asked => {
                event.prevent_default();
                if by_phone() {
                    Place::List.go();
                }
                browser::focus("search");
            }
            "f" | "F" if command && !asked => {
                // Without a conversation the browser's own search is the better one.
                if let Some(id) = state.place.get_untracked().conversation() {
                    event.prevent_default();
                    Place::Find(id).go();
                    browser::focus("find");
                }
            }
            "ArrowUp" | "ArrowDown" if event.alt_key() && !asked => {
                event.prevent_default();
                step(state, event.key() == "ArrowDown");
            }
            // The dialog closes itself.
            "Escape" if !asked => escape(state),
            "?" if !typing && !command && !asked => {
                event.prevent_default();
                state.question.set(Some(Question::Shortcuts));
            }
            _ => {}
        }
    });
    on_cleanup(move || handle.remove());
}

/// To the conversation after or before the one that is open.
fn step(state: State, down: bool) {
    let all = untrack(|| matching(state, &state.search.get_untracked()));
    let now = state
        .place
        .get_untracked()
        .conversation()
        .and_then(|id| all.iter().position(|other| *other == id));
    let next = match (now, down) {
        (None, true) => Some(0),
        (None, false) => all.len().checked_sub(1),
        (Some(at), true) => Some(at + 1),
        (Some(at), false) => at.checked_sub(1),
    };
    if let Some(id) = next.and_then(|at| all.get(at)) {
        Place::Conversation(*id).go();
        browser::focus("composer");
    }
}

/// One pane at a time is shown.
fn by_phone() -> bool {
    window()
        .match_media("(max-width: 719px)")
        .ok()
        .flatten()
        .is_some_and(|m| m.matches())
}

/// One step out: the menu, the edit, the answer, the details, the conversation.
fn escape(state: State) {
    if state.menu.with_untracked(Option::is_some) {
        return super::menu::close(state);
    }
    // Another panel closes itself: that was the step.
    if matches!(document().query_selector(":popover-open"), Ok(Some(_))) {
        return;
    }
    let place = state.place.get_untracked();
    if let Some(id) = place.conversation() {
        let edited = state
            .editing
            .try_update(|all| all.remove(&id))
            .flatten()
            .is_some();
        if edited
            || state
                .replying
                .try_update(|all| all.remove(&id))
                .flatten()
                .is_some()
        {
            return browser::focus("composer");
        }
    }
    if !state.search.with_untracked(String::is_empty) {
        state.search.set(String::new());
        return;
    }
    if place != Place::List {
        state.step_out();
        if place.outer().conversation().is_some() {
            browser::focus("composer");
        }
    }
}
