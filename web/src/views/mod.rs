//! The pages: what a person sees, from the first run to settings.

mod address;
mod closed;
mod composer;
mod conversation;
mod details;
mod find;
mod first_run;
mod group;
mod history;
mod link;
mod list;
mod menu;
mod message;
mod proof;
mod questions;
mod rail;
mod settings;
mod shortcuts;
mod unpaired;
mod votes;

pub(crate) use first_run::Step;
pub(crate) use message::is_deleted;

use crate::bridge::Socket;
use crate::parts::{Icon, icon};
use crate::say::t;
use crate::state::{Place, State};
use leptos::prelude::*;
use starling_core::api::{ApiError, ErrorCode, NoticeLevel};

/// An error as something a person understands and can act on.
pub(crate) fn error_in_words(error: &ApiError) -> String {
    let key = match error.code {
        ErrorCode::NotFound => "error/not-found",
        ErrorCode::AlreadyExists => "error/already-exists",
        ErrorCode::NotAMember => "error/not-a-member",
        ErrorCode::NotAuthorised => "error/not-authorised",
        ErrorCode::WrongPassword => "error/wrong-password",
        ErrorCode::Offline => "error/offline",
        ErrorCode::TooLarge => "error/too-large",
        ErrorCode::TooMany => "error/too-many",
        ErrorCode::Timeout => "error/timeout",
        ErrorCode::Corrupt => "error/corrupt",
        ErrorCode::Storage => "error/storage",
        ErrorCode::Rejected => "error/rejected",
        ErrorCode::Unsupported => "error/unsupported",
        ErrorCode::Stopping => "error/stopping",
        ErrorCode::Conflict => "error/conflict",
        ErrorCode::InvalidParams | ErrorCode::InvalidRequest => "error/invalid",
        ErrorCode::Internal => "error/internal",
        ErrorCode::NameTaken => "error/name-taken",
        _ => "error/other",
    };
    t(key)
}

/// What the bridge itself says about an error, in English, where the general words leave open what it is.
pub(crate) fn error_detail(error: &ApiError) -> Option<String> {
    let open = matches!(
        error.code,
        ErrorCode::Conflict
            | ErrorCode::InvalidParams
            | ErrorCode::InvalidRequest
            | ErrorCode::Internal
            | ErrorCode::Storage
            | ErrorCode::Corrupt
            | ErrorCode::Unknown
    );
    (open && !error.message.is_empty()).then(|| error.message.clone())
}

/// Words of a program, folded: for who looks into it.
pub(crate) fn in_detail(detail: String) -> impl IntoView {
    view! {
        <details class="in-detail">
            <summary>{t("refused/detail")}</summary>
            <p class="small" lang="en" dir="ltr">{detail}</p>
        </details>
    }
}

/// What fills the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unpaired,
    Starting,
    FirstRun,
    Main,
}

/// The whole page.
#[component]
pub(crate) fn App() -> impl IntoView {
    let state = State::get();
    shortcuts::listen(state);
    let socket = state.bridge().state();
    let first_run = first_run::needed(state);
    let phase = Memo::new(move |_| match (socket.get(), state.loaded.get()) {
        (Socket::Unpaired, _) => Phase::Unpaired,
        (_, false) => Phase::Starting,
        _ if first_run.get() => Phase::FirstRun,
        _ => Phase::Main,
    });
    // The window says how much is unread, where one sees it from elsewhere.
    Effect::new(move |_| {
        let unread: u32 = state
            .conversations
            .with(|all| all.values().map(|c| c.with(|c| c.unread)).sum());
        let title = match unread {
            0 => "Starling".to_owned(),
            n => format!("({n}) Starling"),
        };
        document().set_title(&title);
    });
    // Every text is said anew when the language changes.
    move || {
        state.language.track();
        match phase.get() {
            Phase::Unpaired => view! { <unpaired::Unpaired /> }.into_any(),
            Phase::Starting => view! { <Starting /> }.into_any(),
            Phase::FirstRun => view! { <first_run::FirstRun /> }.into_any(),
            Phase::Main => view! { <Main /> }.into_any(),
        }
    }
}

/// Before anything is known: nothing for two seconds, then words.
#[component]
fn Starting() -> impl IntoView {
    let socket = State::get().bridge().state();
    let late = RwSignal::new(false);
    // Starling's mark comes from the bridge as well: without it there may be none to show.
    let has_mark = RwSignal::new(true);
    wasm_bindgen_futures::spawn_local(async move {
        crate::browser::sleep_ms(1_500).await;
        late.try_set(true);
    });
    view! {
        <main class="alone">
            <div class="card" role="status">
                {move || late.get().then(|| match socket.get() {
                    Socket::Lost => view! {
                        {move || has_mark.get().then(|| view! {
                            <img class="mark" src="/icon.svg" alt="" width="48" height="48" on:error=move |_| has_mark.set(false) />
                        })}
                        <h1>{t("start/not-running")}</h1>
                        <p class="lead">{t("start/not-running-help")}</p>
                        <p class="address">"starling"</p>
                    }.into_any(),
                    _ => view! { <p class="lead">{t("start/connecting")}</p> }.into_any(),
                })}
            </div>
        </main>
    }
}

/// Rail, list, conversation, details.
#[component]
fn Main() -> impl IntoView {
    let state = State::get();
    let place = state.place;
    let open = Memo::new(move |_| place.get().conversation());
    let settings = Memo::new(move |_| place.get() == Place::Settings);
    let details = Memo::new(move |_| {
        matches!(
            place.get(),
            Place::Details(_) | Place::Find(_) | Place::Proof(..)
        )
    });
    let pane = move || {
        if place.get() == Place::List {
            "list"
        } else {
            "conversation"
        }
    };
    view! {
        {move || open.get().is_some().then(|| view! { <a class="skip" href="#composer" on:click=move |event| {
            event.prevent_default();
            crate::browser::focus("composer");
        }>{t("common/skip")}</a> })}
        <div class="frame">
        <SocketLine />
        <div class="app" class:with-details=move || details.get() data-pane=pane
            style:--list=move || state.list_width.get().map(|w| format!("{w}px"))
            style:--details=move || state.details_width.get().map(|w| format!("{w}px"))>
            <rail::Rail />
            <list::ListPane />
            {move || match (settings.get(), open.get()) {
                (true, _) => view! { <settings::Settings /> }.into_any(),
                (false, Some(id)) => view! { <conversation::ConversationPane id=id /> }.into_any(),
                (false, None) => view! { <list::NothingOpen /> }.into_any(),
            }}
            {move || match place.get() {
                Place::Details(id) => view! { <details::Details id=id /> }.into_any(),
                Place::Find(id) => view! { <find::Find id=id /> }.into_any(),
                Place::Proof(id, message) => view! { <proof::Proof id=id message=message /> }.into_any(),
                _ => ().into_any(),
            }}
        </div>
        </div>
        <Notices />
        <questions::Questions />
        <menu::MessageMenu />
        <div class="hidden-text" role="status" aria-live="polite">{move || state.said.get()}</div>
    }
}

/// After this many milliseconds without the bridge it is no hiccup: the page says what to do.
const LONG_LOST_MS: i32 = 10_000;

/// One line over everything when the page has lost its bridge, and what to do if that lasts.
#[component]
fn SocketLine() -> impl IntoView {
    let socket = State::get().bridge().state();
    let lost = Memo::new(move |_| socket.get() == Socket::Lost);
    let long = RwSignal::new(false);
    let round = StoredValue::new(0_u32);
    Effect::new(move |_| {
        let now = round.get_value().wrapping_add(1);
        round.set_value(now);
        long.set(false);
        if lost.get() {
            wasm_bindgen_futures::spawn_local(async move {
                crate::browser::sleep_ms(LONG_LOST_MS).await;
                if round.try_get_value() == Some(now) {
                    long.try_set(true);
                }
            });
        }
    });
    view! {
        <div role="status">
            {move || lost.get().then(|| view! {
                <p class="link-line failed socket-line"><span>{t("start/lost")} {move || long.get().then(|| format!(" {}", t("start/not-running-help")))}</span></p>
            })}
        </div>
    }
}

/// What the bridge wants to say, until it is put away.
#[component]
fn Notices() -> impl IntoView {
    let state = State::get();
    let notices = state.notices;
    view! {
        <div class="notices" aria-live="polite">
            {move || notices.get().into_iter().map(|notice| {
                let class = match notice.level {
                    NoticeLevel::Info => "note",
                    NoticeLevel::Warning => "note warn",
                    NoticeLevel::Error => "note error",
                };
                let (text, detail) = (notice.text.clone(), notice.detail.clone());
                view! {
                    <div class=class>
                        <div class="words"><p>{notice.text.clone()}</p>{notice.detail.map(in_detail)}</div>
                        <button class="icon-button" type="button" aria-label=t("common/close")
                            on:click=move |_| notices.update(|all| all.retain(|n| n.text != text || n.detail != detail))>
                            {icon(Icon::Close)}
                        </button>
                    </div>
                }
            }).collect_view()}
        </div>
    }
}
