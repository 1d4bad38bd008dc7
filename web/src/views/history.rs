//! The history as a log: rows from the layout, older pages on demand, the newest in sight.

use super::message::{EventsRow, PendingRow, SaidRow};
use crate::browser::{self, day_in_words, local_day};
use crate::parts::{Icon, icon};
use crate::say::{t, tf, tn};
use crate::state::{History, State};
use crate::timeline::{Face, Row, layout};
use leptos::html;
use leptos::prelude::*;
use starling_core::api::MessageType;
use starling_core::id::ConversationId;
use std::str::FromStr;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;

/// Nearer to the end than this many pixels is at the end.
const AT_END: i32 = 80;
/// Nearer to the beginning than this many pixels asks for an older page.
const AT_BEGINNING: i32 = 600;

/// How long the day that is pinned at the top is shown after one has moved, in milliseconds.
const DAY_SHOWN_MS: i32 = 1_200;
/// The pixels above a day; further up than these it is pinned, and covers what is said.
const DAY_MARGIN: f64 = 8.0;

/// Who types here.
pub(crate) fn typing_line(state: State, id: &ConversationId) -> String {
    let people = state
        .typing
        .with(|all| all.get(id).cloned())
        .unwrap_or_default();
    let names: Vec<String> = people.keys().map(|id| state.name_of(id)).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => tf("typing/one", &[("name", one)]),
        [one, two] => tf("typing/two", &[("first", one), ("second", two)]),
        _ => t("typing/many"),
    }
}

/// How much there is below what is in sight, in pixels.
fn rest_below(frame: &web_sys::HtmlDivElement) -> i32 {
    frame.scroll_height() - frame.scroll_top() - frame.client_height()
}

/// The rows of one day.
fn rows_of(rows: &[Row], wanted: i64) -> Vec<Row> {
    let mut inside = false;
    let mut found = Vec::new();
    for row in rows {
        match row {
            Row::Day { day, .. } => inside = *day == wanted,
            row if inside => found.push(row.clone()),
            _ => {}
        }
    }
    found
}

fn one_row(history: &History, row: Row) -> AnyView {
    match row {
        Row::Day { .. } => ().into_any(),
        Row::Unread => view! { <p class="unread-line">{t("conversation/unread")}</p> }.into_any(),
        Row::Events { ids } => view! { <EventsRow history=history.clone() ids=ids /> }.into_any(),
        Row::Said { id, first, last } => match FromStr::from_str(&id) {
            Ok(id) => {
                view! { <SaidRow history=history.clone() id=id first=first last=last /> }.into_any()
            }
            Err(_) => ().into_any(),
        },
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

    let days = Memo::new(move |_| {
        rows.with(|rows| {
            let days = rows.iter().filter_map(|row| match row {
                Row::Day { day, at } => Some((*day, *at)),
                _ => None,
            });
            // Clocks that lie can put a day between two halves of another; one element a day is enough.
            let mut seen = std::collections::BTreeSet::new();
            days.filter(|(day, _)| seen.insert(*day))
                .collect::<Vec<_>>()
        })
    });

    let to_end = move || {
        request_animation_frame(move || {
            if let Some(frame) = frame.get_untracked() {
                frame.set_scroll_top(frame.scroll_height());
            }
        });
    };
    // A keyboard that comes up, or words that take more lines, do not push the end out of sight.
    let keep = Closure::<dyn FnMut()>::new(move || {
        request_animation_frame(move || {
            if at_end.try_get_untracked() == Some(true)
                && let Some(frame) = frame.try_get_untracked().flatten()
            {
                frame.set_scroll_top(frame.scroll_height());
            }
        });
    });
    let observer = web_sys::ResizeObserver::new(keep.as_ref().unchecked_ref()).ok();
    let observer = StoredValue::new_local((observer, keep));
    Effect::new(move |_| {
        if let Some(frame) = frame.get() {
            observer.with_value(|(observer, _)| {
                if let Some(observer) = observer {
                    observer.observe(&frame);
                }
            });
        }
    });
    on_cleanup(move || {
        observer.try_with_value(|(observer, _)| {
            if let Some(observer) = observer {
                observer.disconnect();
            }
        });
    });
    // A conversation opens where unread begins, if that is further up than one screen.
    let to_unread = move || {
        request_animation_frame(move || {
            let Some(frame) = frame.get_untracked() else {
                return;
            };
            frame.set_scroll_top(frame.scroll_height());
            if let Ok(Some(line)) = frame.query_selector(".unread-line") {
                let (top, frame_top) = (
                    line.get_bounding_client_rect().top(),
                    frame.get_bounding_client_rect().top(),
                );
                if top < frame_top {
                    frame.set_scroll_top(frame.scroll_top() - (frame_top - top) as i32 - 64);
                }
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
        if old_count == 0 {
            if !matches!(state.place.get_untracked(), crate::state::Place::At(..)) {
                to_unread();
            }
        } else if own || at_end.get_untracked() {
            to_end();
        } else if last != old_last && count > old_count {
            below.update(|n| *n += 1);
        }
        (count, last, pending)
    });
    // What is in sight of a page that has the focus was read; so was what the bridge counts anew later, as after a vote
    // that changes what is shown.
    let unread = untrack(|| state.conversation(&history.conversation));
    let unread = Memo::new(move |_| unread.as_ref().map_or(0, |c| c.with(|c| c.unread)));
    Effect::new(move |_| {
        watched.entries.track();
        unread.track();
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

    // The address may name a message: it is brought into sight, from however far back.
    let reach_history = history.clone();
    Effect::new(move |_| {
        use crate::state::Place::{At, Proof};
        let (at, id, proof) = match state.place.get() {
            At(at, id) => (at, id, false),
            // Which message a proof is of is seen.
            Proof(at, id) => (at, id, true),
            _ => return,
        };
        let history = reach_history.clone();
        if at != history.conversation {
            return;
        }
        spawn_local(async move {
            if history.reach(state, id).await {
                // The pane beside it makes the lines shorter: the end is not held on to meanwhile.
                at_end.try_set(false);
                request_animation_frame(move || {
                    request_animation_frame(move || match proof {
                        true => {
                            super::message::into_sight(&id);
                            if let Some(frame) = frame.try_get_untracked().flatten() {
                                at_end.try_set(rest_below(&frame) < AT_END);
                            }
                        }
                        false => super::message::jump_to(&id),
                    });
                });
            }
        });
    });
    // Up and down go from message to message.
    let walk = move |event: web_sys::KeyboardEvent| {
        let down = match event.key().as_str() {
            "ArrowDown" => true,
            "ArrowUp" => false,
            _ => return,
        };
        let target = event
            .target()
            .and_then(|t| t.dyn_into::<web_sys::Element>().ok());
        let (Some(frame), Some(target)) = (frame.get_untracked(), target) else {
            return;
        };
        if event.alt_key() || event.ctrl_key() || event.meta_key() || event.shift_key() {
            return;
        }
        let Ok(all) = frame.query_selector_all("article.message") else {
            return;
        };
        let count = all.length();
        let now = target.closest("article.message").ok().flatten();
        let at = now.and_then(|now| {
            (0..count).find(|i| all.item(*i).as_ref() == Some(now.unchecked_ref()))
        });
        let next = match (at, down) {
            (None, false) => count.checked_sub(1),
            (None, true) => return,
            (Some(at), true) if at + 1 >= count => {
                event.prevent_default();
                return browser::focus("composer");
            }
            (Some(at), true) => Some(at + 1),
            (Some(at), false) => at.checked_sub(1),
        };
        let next = next.and_then(|at| all.item(at));
        if let Some(next) = next.and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok()) {
            event.prevent_default();
            let _ = next.focus();
        }
    };

    // Which day one is in is said while one goes through them; who reads is not in need of it.
    let moves = RwSignal::new(false);
    let last_move = StoredValue::new(0_u32);
    let moved = move |frame: &web_sys::HtmlDivElement| {
        let now = last_move.get_value().wrapping_add(1);
        last_move.set_value(now);
        moves.set(true);
        spawn_local(async move {
            browser::sleep_ms(DAY_SHOWN_MS).await;
            if last_move.try_get_value() == Some(now) {
                moves.try_set(false);
            }
        });
        let top = frame.get_bounding_client_rect().top();
        let Ok(days) = frame.query_selector_all(".day-group") else {
            return;
        };
        for index in 0..days.length() {
            let Some(day) = days
                .item(index)
                .and_then(|d| d.dyn_into::<web_sys::Element>().ok())
            else {
                continue;
            };
            let stuck = day.get_bounding_client_rect().top() + DAY_MARGIN < top;
            let _ = day.class_list().toggle_with_force("stuck", stuck);
        }
    };
    let scroll_history = history.clone();
    let scrolled = move |_| {
        let Some(frame) = frame.get_untracked() else {
            return;
        };
        moved(&frame);
        at_end.set(rest_below(&frame) < AT_END);
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
            <div class="history" class:one-to-one=move || one_to_one.get() class:moves=move || moves.get() node_ref=frame tabindex="0" role="log" aria-label=t("conversation/history")
                aria-live="polite" aria-relevant="additions" on:scroll=scrolled on:keydown=walk data-testid="history">
                <div class="history-inner">
                    {move || match (begun.get(), reading.get(), more.get()) {
                        (false, true, _) => Some(view! { <p class="older">{t("conversation/reading")}</p> }),
                        (true, true, true) => Some(view! { <p class="older">{t("conversation/reading-older")}</p> }),
                        _ => None,
                    }}
                    {move || empty().then(|| view! { <p class="system">{t("conversation/empty")}</p> })}
                    // A day and its messages are one element, so that its separator goes when the next one comes.
                    <For each=move || days.get() key=|(day, _)| *day children=move |(day, at)| {
                        let own = Memo::new(move |_| rows.with(|rows| rows_of(rows, day)));
                        let history = row_history.clone();
                        view! {
                            <section class="day-group">
                                <h3 class="day">{day_in_words(at)}</h3>
                                <For each=move || own.get() key=|row| row.clone() children=move |row| one_row(&history, row) />
                            </section>
                        }
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
