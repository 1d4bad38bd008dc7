//! The history as a log: rows from the layout, older pages on demand, the newest in sight.

use super::message::{EventsRow, PendingRow, SaidRow};
use crate::browser::{self, day_in_words, local_day, now_ms};
use crate::parts::{Icon, icon};
use crate::say::{t, tf, tn};
use crate::state::{History, State};
use crate::timeline::{Face, Row, layout};
use leptos::html;
use leptos::prelude::*;
use starling_core::api::MessageType;
use starling_core::id::ConversationId;
use std::str::FromStr;
use wasm_bindgen_futures::spawn_local;

/// Whoever was heard typing longer ago than this has stopped, or is gone. Milliseconds.
const TYPING_MS: i64 = 12_000;
/// Nearer to the end than this many pixels is at the end.
const AT_END: i32 = 80;
/// Nearer to the beginning than this many pixels asks for an older page.
const AT_BEGINNING: i32 = 600;

/// Who types here.
pub(crate) fn typing_line(state: State, id: &ConversationId) -> String {
    let people = state
        .typing
        .with(|all| all.get(id).cloned())
        .unwrap_or_default();
    let fresh: Vec<String> = people
        .iter()
        .filter(|(_, at)| now_ms() - **at < TYPING_MS)
        .map(|(id, _)| state.name_of(id))
        .collect();
    match fresh.as_slice() {
        [] => String::new(),
        [one] => tf("typing/one", &[("name", one)]),
        [one, two] => tf("typing/two", &[("first", one), ("second", two)]),
        _ => t("typing/many"),
    }
}

#[component]
pub(crate) fn HistoryView(history: History, one_to_one: Signal<bool>) -> impl IntoView {
    let state = State::get();
    let frame = NodeRef::<html::Div>::new();
    let at_end = RwSignal::new(true);
    let below = RwSignal::new(0_usize);

    // Where unread begins is decided when the conversation is opened, and stays.
    if let Some(conversation) = untrack(|| state.conversation(&history.conversation)) {
        let read = conversation.with_untracked(|c| if c.unread > 0 { c.read_up_to } else { None });
        history.unread_after.set(read);
    }

    let rows = {
        let history = history.clone();
        Memo::new(move |_| {
            let me = state.me().map(|id| id.to_hex()).unwrap_or_default();
            let faces: Vec<Face> = history.entries.with(|entries| {
                let faces = entries.iter().map(|(id, signal)| {
                    signal.with_untracked(|m| Face {
                        id: id.to_hex(),
                        author: m.author.to_hex(),
                        at: m.sent_at,
                        day: local_day(m.sent_at),
                        system: !matches!(m.kind, MessageType::Text | MessageType::File),
                    })
                });
                faces.collect()
            });
            let unread = history.unread_after.get().map(|id| id.to_hex());
            layout(&faces, &me, unread.as_deref())
        })
    };

    let to_end = move || {
        request_animation_frame(move || {
            if let Some(frame) = frame.get_untracked() {
                frame.set_scroll_top(frame.scroll_height());
            }
        });
    };

    // Stays at the end when something is added there; says so otherwise.
    let (counted, watched) = (history.clone(), history.clone());
    Effect::new(move |before: Option<(usize, Option<_>, usize)>| {
        let (count, last) = counted
            .entries
            .with(|e| (e.len(), e.last().map(|(id, _)| *id)));
        let pending = counted.pending.with(Vec::len);
        let (old_count, old_last, old_pending) = before.unwrap_or((0, None, 0));
        let own = pending > old_pending;
        if before.is_none() || old_count == 0 || own || at_end.get_untracked() {
            to_end();
        } else if last != old_last && count > old_count {
            below.update(|n| *n += 1);
        }
        (count, last, pending)
    });
    // What is in sight of a page that has the focus was read.
    Effect::new(move |_| {
        watched.entries.track();
        if at_end.get() && document().has_focus().unwrap_or(true) {
            watched.mark_read(state);
            below.set(0);
        }
    });
    let focus_history = history.clone();
    let handle = window_event_listener(leptos::ev::focus, move |_| {
        if at_end.get_untracked() {
            focus_history.mark_read(state);
        }
    });
    on_cleanup(move || handle.remove());

    let scroll_history = history.clone();
    let scrolled = move |_| {
        let Some(frame) = frame.get_untracked() else {
            return;
        };
        let rest = frame.scroll_height() - frame.scroll_top() - frame.client_height();
        at_end.set(rest < AT_END);
        if frame.scroll_top() < AT_BEGINNING
            && scroll_history.more.get_untracked()
            && !scroll_history.reading.get_untracked()
        {
            let history = scroll_history.clone();
            spawn_local(async move {
                let from_end = frame.scroll_height() - frame.scroll_top();
                history.read_earlier(state).await;
                // What one reads stays where it is.
                request_animation_frame(move || {
                    frame.set_scroll_top(frame.scroll_height() - from_end)
                });
            });
        }
    };

    let (begun, reading, more, row_history, pending_history) = (
        history.begun.clone(),
        history.reading.clone(),
        history.more.clone(),
        history.clone(),
        history.clone(),
    );
    let empty = {
        let (begun, entries, pending) = (
            history.begun.clone(),
            history.entries.clone(),
            history.pending.clone(),
        );
        move || begun.get() && entries.with(Vec::is_empty) && pending.with(Vec::is_empty)
    };
    view! {
        <div class="history-frame">
            <div class="history" class:one-to-one=move || one_to_one.get() node_ref=frame tabindex="0" role="log" aria-label=t("conversation/history")
                aria-live="polite" aria-relevant="additions" on:scroll=scrolled data-testid="history">
                <div class="history-inner">
                    {move || match (begun.get(), reading.get(), more.get()) {
                        (false, true, _) => Some(view! { <p class="older">{t("conversation/reading")}</p> }),
                        (true, true, true) => Some(view! { <p class="older">{t("conversation/reading-older")}</p> }),
                        _ => None,
                    }}
                    {move || empty().then(|| view! { <p class="system">{t("conversation/empty")}</p> })}
                    <For each=move || rows.get() key=|row| row.clone() children=move |row| match row {
                        Row::Day { at, .. } => view! { <h3 class="day">{day_in_words(at)}</h3> }.into_any(),
                        Row::Unread => view! { <p class="unread-line">{t("conversation/unread")}</p> }.into_any(),
                        Row::Events { ids } => view! { <EventsRow history=row_history.clone() ids=ids /> }.into_any(),
                        Row::Said { id, first, last } => match FromStr::from_str(&id) {
                            Ok(id) => view! { <SaidRow history=row_history.clone() id=id first=first last=last /> }.into_any(),
                            Err(_) => ().into_any(),
                        },
                    } />
                    {
                        let shown = pending_history.pending.clone();
                        view! {
                            <For each=move || shown.get() key=|p| (p.key, format!("{:?}", p.state)) let(pending)>
                                <PendingRow history=pending_history.clone() pending=pending />
                            </For>
                        }
                    }
                </div>
            </div>
            {move || (!at_end.get()).then(|| view! {
                <button class="button jump" type="button" on:click=move |_| { to_end(); browser::focus("composer"); }>
                    {icon(Icon::Down)}
                    {if below.get() > 0 { tn("conversation/new-below", below.get(), &[]) } else { t("conversation/to-latest") }}
                </button>
            })}
        </div>
    }
}
