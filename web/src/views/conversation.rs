//! A conversation: its header, how its people are reached, the history, the composer.

use super::closed::{Blocked, Closed};
use super::composer::Composer;
use super::history::HistoryView;
use super::link;
use crate::parts::{ConversationFace, Icon, icon, turning_icon};
use crate::say::t;
use crate::state::{Place, State};
use crate::{browser, views::history::typing_line};
use leptos::prelude::*;
use starling_core::api::{AccountState, Conversation, ConversationMode, ConversationState};
use starling_core::id::ConversationId;
use wasm_bindgen::JsCast;

#[component]
pub(crate) fn ConversationPane(id: ConversationId) -> impl IntoView {
    let state = State::get();
    // A conversation may be opened by its address before the list has it.
    let known = Memo::new(move |_| state.conversations.with(|all| all.contains_key(&id)));
    move || {
        match known.get() {
        true => view! { <Known id=id /> }.into_any(),
        false => view! {
            <main class="pane conversation-pane"><div class="empty fills">
                <h2>{t("conversation/unknown")}</h2>
                <button class="button" type="button" on:click=move |_| Place::List.go()>{t("common/back")}</button>
            </div></main>
        }
        .into_any(),
    }
    }
}

#[component]
fn Known(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let signal = untrack(|| state.conversation(&id))?;
    let history = state.history(id);
    let conversation: Signal<Conversation> = signal.into();
    let title = Memo::new(move |_| conversation.with(|c| state.title_of(c)));
    let group = Signal::derive(move || conversation.with(|c| c.mode != ConversationMode::OneToOne));
    let closed = Memo::new(move |_| conversation.with(|c| c.read_only));
    let blocked = Memo::new(move |_| {
        let peer = conversation.with(|c| state.is_blocked(c).then(|| state.peer(c)));
        peer.flatten()
    });
    let refused =
        Memo::new(move |_| conversation.with(|c| c.refused.is_some() && c.read_only.is_none()));
    let link_history = history.clone();
    let line = Memo::new(move |_| {
        conversation
            .with(|c| link::line(state, c, &link_history).map(|(tone, text)| (tone.class(), text)))
    });
    let off = Memo::new(move |_| {
        state
            .account()
            .is_some_and(|a| a.state == AccountState::Inactive)
    });
    // What the line says of the other one is said once.
    let subtitle = Memo::new(move |_| match line.with(Option::is_some) && !group.get() {
        true => String::new(),
        false => conversation.with(|c| link::subtitle(state, c)),
    });
    // Votes wait for answers here, wherever the details are.
    let votes = Memo::new(move |_| {
        conversation.with(|c| c.state == ConversationState::Ready) && group.get()
    });
    Effect::new(move |_| {
        if votes.get() {
            state.read_ballots(id);
        }
    });
    let details = move || matches!(state.place.get(), Place::Details(_));
    let finding = move || matches!(state.place.get(), Place::Find(_));
    let find = move |_| match finding() {
        true => Place::Conversation(id).go(),
        false => Place::Find(id).go(),
    };
    let toggle = move |_| match details() {
        true => Place::Conversation(id).go(),
        false => Place::Details(id).go(),
    };
    Some(view! {
        <main class="pane conversation-pane" aria-label=move || title.get()>
            <header class="pane-head">
                <button class="icon-button back" type="button" aria-label=t("common/back-to-list") on:click=move |_| Place::List.go()>
                    {turning_icon(Icon::Back)}
                </button>
                <div class="who">
                    <ConversationFace id=id />
                    <div class="titles">
                        <h2 dir="auto"><button type="button" title=t("conversation/details") on:click=toggle>{move || title.get()}</button></h2>
                        {move || Some(subtitle.get()).filter(|s| !s.is_empty()).map(|text| view! { <div class="subtitle" data-testid="link">{text}</div> })}
                    </div>
                </div>
                <button class="icon-button" type="button" aria-label=t("find/title") title=t("find/title")
                    aria-expanded=move || finding().to_string() on:click=find>{icon(Icon::Search)}</button>
                <button class="icon-button wide-only" type="button" aria-label=t("conversation/details") title=t("conversation/details")
                    aria-expanded=move || details().to_string() on:click=toggle>{icon(Icon::Details)}</button>
            </header>
            <div role="status">
                {move || line.get().map(|(class, text)| view! {
                    <div class=class class:with-button=off data-testid="link-line"><p>{text}</p>
                        {off.get().then(|| view! { <button class="button small-button" type="button" on:click=move |_| state.switch_on()>{t("link/switch-on")}</button> })}
                    </div>
                })}
            </div>
            {move || refused.get().then(|| view! {
                <div class="link-line failed with-button" role="note">
                    <p>{t("refused/line")}</p>
                    <button class="button small-button" type="button" on:click=move |_| Place::Details(id).go()>{t("closed/why")}</button>
                </div>
            })}
            <super::votes::AskedToVote id=id />
            <HistoryView history=history.clone() one_to_one=Signal::derive(move || !group.get()) />
            <p class="typing" aria-live="polite">{move || typing_line(state, &id)}</p>
            {move || match (closed.get(), blocked.get()) {
                (Some(why), _) => view! { <Closed id=id why=why /> }.into_any(),
                (None, Some(peer)) => view! { <Blocked peer=peer /> }.into_any(),
                (None, None) => view! { <Composer history=history.clone() name=title /> }.into_any(),
            }}
        </main>
    })
}

/// The edge of a pane, to drag or to move with the arrow keys. Its place is remembered.
#[component]
pub(crate) fn Grip(side: &'static str) -> impl IntoView {
    let state = State::get();
    let (width, starts) = match side {
        "list" => (state.list_width, false),
        _ => (state.details_width, true),
    };
    const NARROW: f64 = 240.0;
    const WIDE: f64 = 560.0;
    let set = move |to: f64| {
        let to = to.clamp(NARROW, WIDE).round();
        width.set(Some(to));
        browser::keep(&format!("width-{side}"), &to.to_string());
    };
    // Towards which side the pane grows, in a language of either direction.
    let sign = move || {
        let rtl = document()
            .document_element()
            .and_then(|e| e.get_attribute("dir"))
            .is_some_and(|d| d == "rtl");
        if rtl == starts { 1.0 } else { -1.0 }
    };
    let dragging = StoredValue::new(None::<(f64, f64)>);
    let down = move |event: web_sys::PointerEvent| {
        let Some(element) = event
            .target()
            .and_then(|t| t.dyn_into::<web_sys::Element>().ok())
        else {
            return;
        };
        let _ = element.set_pointer_capture(event.pointer_id());
        let now = element
            .parent_element()
            .map_or(320.0, |pane| pane.get_bounding_client_rect().width());
        dragging.set_value(Some((f64::from(event.client_x()), now)));
    };
    let drag = move |event: web_sys::PointerEvent| {
        if let Some((from, before)) = dragging.get_value() {
            set(before + sign() * (f64::from(event.client_x()) - from));
        }
    };
    let key = move |event: web_sys::KeyboardEvent| {
        let step = match event.key().as_str() {
            "ArrowRight" => 16.0 * sign(),
            "ArrowLeft" => -16.0 * sign(),
            _ => return,
        };
        event.prevent_default();
        set(width.get_untracked().unwrap_or(320.0) + step);
    };
    view! {
        <div class="grip" class:start=starts role="separator" tabindex="0" aria-orientation="vertical" aria-label=t("common/resize")
            aria-valuemin="240" aria-valuemax="560" aria-valuenow=move || width.get().unwrap_or(320.0).to_string()
            on:pointerdown=down on:pointermove=drag on:pointerup=move |_| dragging.set_value(None) on:keydown=key></div>
    }
}
