//! Messages: bubbles, their state and their proof; and the quiet lines of what happened.

use crate::browser::{clock, full_time};
use crate::parts::{Avatar, Icon, icon, turning_icon};
use crate::rich::{Piece, pieces};
use crate::say::{t, tf, tn};
use crate::state::{History, Pending, PendingState, Place, State};
use crate::timeline::{hue, only_emoji};
use crate::worker::Verdict;
use leptos::prelude::*;
use starling_core::api::{
    Conversation, ConversationMode, Delivery, MemberAction, Message, MessageType,
};
use starling_core::id::ObjectId;

/// A run of events longer than this is folded.
const FOLD: usize = 3;

/// What happened, as a sentence.
pub(crate) fn event_in_words(state: State, message: &Message) -> String {
    let name = state.name_of(&message.author);
    let own = Some(message.author) == state.me();
    let say = |mine: &str, theirs: &str, values: &[(&str, &str)]| {
        if own {
            tf(mine, values)
        } else {
            tf(theirs, values)
        }
    };
    match &message.kind {
        MessageType::Initial => say("event/you-began", "event/began", &[("name", &name)]),
        MessageType::Member => {
            let Some(change) = &message.member else {
                return tf("event/changed", &[("name", &name)]);
            };
            let whom_is_me = Some(change.id) == state.me();
            let whom = state.name_of(&change.id);
            let values = [("name", name.as_str()), ("whom", whom.as_str())];
            match change.action {
                MemberAction::Add if whom_is_me => tf("event/added-you", &values),
                MemberAction::Add => say("event/you-added", "event/added", &values),
                MemberAction::Join if whom_is_me => t("event/you-joined"),
                MemberAction::Join => tf("event/joined", &values),
                MemberAction::Remove if whom_is_me => t("event/you-left"),
                MemberAction::Remove => tf("event/left", &values),
                MemberAction::Ban => tf("event/banned", &values),
                MemberAction::Unban => tf("event/unbanned", &values),
            }
        }
        MessageType::Vote => say("event/you-voted", "event/voted", &[("name", &name)]),
        MessageType::Profile => say("event/you-profile", "event/profile", &[("name", &name)]),
        MessageType::Call => match message.call.as_ref().and_then(|c| c.duration_ms) {
            Some(ms) if ms > 0 => tn(
                "event/call",
                usize::try_from(ms.div_ceil(60_000)).unwrap_or(1),
                &[("name", &name)],
            ),
            _ => say(
                "event/you-missed-call",
                "event/missed-call",
                &[("name", &name)],
            ),
        },
        MessageType::Text | MessageType::File => message.body.clone().unwrap_or_default(),
        MessageType::Other(kind) => tf("event/other", &[("name", &name), ("kind", kind)]),
    }
}

/// A message in one line, for the list.
pub(crate) fn summary(state: State, conversation: &Conversation, message: &Message) -> String {
    let text = match &message.kind {
        MessageType::Text if is_deleted(message) => t("message/deleted"),
        MessageType::Text => message.body.clone().unwrap_or_default().replace('\n', " "),
        MessageType::File => message
            .file
            .as_ref()
            .map(|f| f.name.clone())
            .unwrap_or_else(|| t("message/file")),
        _ => return event_in_words(state, message),
    };
    if Some(message.author) == state.me() {
        return tf("list/you-said", &[("text", &text)]);
    }
    match conversation.mode {
        ConversationMode::OneToOne => text,
        _ => tf(
            "list/they-said",
            &[("name", &state.name_of(&message.author)), ("text", &text)],
        ),
    }
}

fn is_deleted(message: &Message) -> bool {
    !message.edits.is_empty() && message.body.as_ref().is_none_or(String::is_empty)
}

/// Events in a row.
#[component]
pub(crate) fn EventsRow(history: History, ids: Vec<String>) -> impl IntoView {
    let state = State::get();
    let open = RwSignal::new(ids.len() <= FOLD);
    let count = ids.len();
    let messages: Vec<_> = ids
        .iter()
        .filter_map(|id| id.parse().ok())
        .filter_map(|id| untrack(|| history.message(&id)))
        .collect();
    move || {
        match open.get() {
        true => messages
            .iter()
            .map(|m| {
                let (words, time) = (m.clone(), full_time(m.with_untracked(|m| m.sent_at)));
                view! { <p class="system" title=time data-testid="event">{move || words.with(|m| event_in_words(state, m))}</p> }
            })
            .collect_view()
            .into_any(),
        false => view! {
            <p class="system"><button class="button plain" type="button" on:click=move |_| open.set(true)>{tn("event/folded", count, &[])}</button></p>
        }
        .into_any(),
    }
    }
}

/// How far one's own message got: an icon and its words.
fn delivery_in_words(state: State, message: &Message) -> (Icon, &'static str, String) {
    let reached = message.status.state.unwrap_or_default();
    let mut people = message.status.people.iter();
    let words = match (people.next(), people.next()) {
        // With one other, their devices can be told apart.
        (Some((id, person)), None) => {
            let name = state.name_of(id);
            let devices = person
                .devices
                .values()
                .filter(|d| d.state >= Delivery::Fetched)
                .count();
            match person.state {
                Delivery::Saved => t("message/saved"),
                Delivery::Told => tf("message/told-one", &[("name", &name)]),
                Delivery::Fetched if person.devices.len() > 1 => {
                    let all = person.devices.len().to_string();
                    tn(
                        "message/on-devices",
                        devices,
                        &[("name", &name), ("all", &all)],
                    )
                }
                Delivery::Fetched => tf("message/fetched-one", &[("name", &name)]),
                Delivery::Read => tf("message/read-one", &[("name", &name)]),
            }
        }
        (Some(_), Some(_)) => {
            let all = message.status.people.len().to_string();
            let count = |at| {
                message
                    .status
                    .people
                    .values()
                    .filter(|p| p.state >= at)
                    .count()
            };
            match (
                count(Delivery::Read),
                count(Delivery::Fetched),
                count(Delivery::Told),
            ) {
                (read, ..) if read > 0 => tn("message/read-many", read, &[("all", &all)]),
                (_, fetched, _) if fetched > 0 => {
                    tn("message/fetched-many", fetched, &[("all", &all)])
                }
                (_, _, told) if told > 0 => t("message/told"),
                _ => t("message/saved"),
            }
        }
        (None, _) => match reached {
            Delivery::Saved => t("message/saved"),
            Delivery::Told => t("message/told"),
            Delivery::Fetched => t("message/fetched"),
            Delivery::Read => t("message/read"),
        },
    };
    let (mark, class) = match reached {
        Delivery::Saved => (Icon::Saved, "state saved"),
        Delivery::Told => (Icon::Told, "state told"),
        Delivery::Fetched => (Icon::Delivered, "state fetched"),
        Delivery::Read => (Icon::Read, "state read"),
    };
    (mark, class, words)
}

/// The pieces of a text.
fn body(text: &str) -> AnyView {
    pieces(text)
        .into_iter()
        .map(|piece| match piece {
            Piece::Words(words) => words.into_any(),
            Piece::Link(link) => view! { <a href=link.clone() target="_blank" rel="noopener noreferrer nofollow">{link.clone()}</a> }.into_any(),
            Piece::Code(code) => view! { <code>{code}</code> }.into_any(),
            Piece::Block(code) => view! { <pre>{code}</pre> }.into_any(),
        })
        .collect_view()
        .into_any()
}

/// Something that was said.
#[component]
pub(crate) fn SaidRow(history: History, id: ObjectId, first: bool, last: bool) -> impl IntoView {
    let state = State::get();
    let message: Signal<Message> = untrack(|| history.message(&id))?.into();
    let conversation = history.conversation;
    let (author, sent_at) = message.with_untracked(|m| (m.author, m.sent_at));
    let own = untrack(|| state.me()) == Some(author);
    let group = untrack(|| state.conversation(&conversation))
        .is_some_and(|c| c.with_untracked(|c| c.mode != ConversationMode::OneToOne));
    let name = Memo::new(move |_| state.name_of(&author));
    let verdict = state
        .checker
        .with_value(|checker| checker.verdict(state, conversation, id));

    let quoted_history = history.clone();
    let quoted = move || {
        let id = message.with(|m| m.reply_to)?;
        let text = quoted_history
            .message(&id)
            .map(|m| m.with(|m| m.body.clone().unwrap_or_default()));
        let text = text
            .unwrap_or_else(|| t("message/quoted-elsewhere"))
            .replace('\n', " ");
        Some(
            view! { <button class="quoted" type="button" on:click=move |_| jump_to(&id)>{text}</button> },
        )
    };
    let content = move || {
        message.with(|m| {
            if is_deleted(m) {
                return t("message/deleted").into_any();
            }
            match (&m.kind, &m.file) {
                (MessageType::File, Some(file)) => {
                    tf("message/file-named", &[("name", &file.name)]).into_any()
                }
                (MessageType::File, None) => t("message/file").into_any(),
                _ => body(m.body.as_deref().unwrap_or_default()),
            }
        })
    };
    let large = Memo::new(move |_| {
        message.with(|m| {
            m.kind == MessageType::Text
                && m.reply_to.is_none()
                && only_emoji(m.body.as_deref().unwrap_or_default())
        })
    });
    let gone = Memo::new(move |_| message.with(is_deleted));
    let edited = move || {
        message
            .with(|m| !m.edits.is_empty() && !is_deleted(m))
            .then(|| t("message/edited"))
    };
    let delivery = move || {
        own.then(|| {
            let (mark, class, words) = message.with(|m| delivery_in_words(state, m));
            view! { <span class=class title=words.clone() data-testid="state">{icon(mark)}<span class="hidden-text">{words.clone()}</span></span> }
        })
    };
    let proof = move || {
        let (class, mark, words) = match message.with(|m| verdict.get().about(m)) {
            Verdict::Pending => ("proof pending", Icon::ShieldOff, t("proof/pending")),
            Verdict::Valid(_) => ("proof verified", Icon::Shield, t("proof/valid")),
            Verdict::Invalid { .. } => ("proof bad", Icon::ShieldBad, t("proof/invalid")),
            Verdict::Unavailable(_) => ("proof pending", Icon::ShieldOff, t("proof/unavailable")),
        };
        view! {
            <button class=class type="button" aria-label=tf("proof/open", &[("verdict", &words)]) title=words.clone() data-testid="proof"
                on:click=move |_| Place::Proof(conversation, id).go()>{icon(mark)}</button>
        }
    };
    let answer = move || {
        view! {
            <button class="proof reply" type="button" aria-label=t("message/reply") title=t("message/reply") data-testid="reply" on:click=move |_| {
                state.replying.update(|all| { all.insert(conversation, id); });
                crate::browser::focus("composer");
            }>{turning_icon(Icon::Reply)}</button>
        }
    };
    let reactions = move || {
        message.with(|m| {
            let shown: Vec<_> = m
                .reactions
                .iter()
                .filter(|(_, who)| !who.is_empty())
                .map(|(emoji, who)| {
                    let names: Vec<String> = who.iter().map(|r| state.name_of(&r.author)).collect();
                    let count = (who.len() > 1).then(|| format!(" {}", who.len()));
                    view! { <span title=names.join(", ")>{emoji.clone()}{count}</span> }
                })
                .collect();
            (!shown.is_empty()).then(|| view! { <div class="reactions">{shown}</div> })
        })
    };
    let label = move || {
        tf(
            "message/by-at",
            &[("name", &name.get()), ("time", &clock(sent_at))],
        )
    };
    let author_hue = hue(&author.to_hex()).to_string();
    Some(view! {
        <article class="message" class:own=own class:first=first class:last=last id=format!("m-{id}") aria-label=label data-testid="message">
            {(group && !own && last).then(|| view! { <Avatar id=author.to_hex() name=name size="small" /> })}
            <div class="column">
                {(group && !own && first).then(|| view! { <span class="author" style:--hue=author_hue><bdi>{move || name.get()}</bdi></span> })}
                <div class="line">
                    <div class="bubble" class:only-emoji=move || large.get() class:gone=move || gone.get() dir="auto" data-testid="bubble">{quoted}{content}</div>
                    <div class="meta">
                        {edited}
                        <time class="time" title=full_time(sent_at)>{clock(sent_at)}</time>
                        {delivery}
                        {proof}
                        {answer()}
                    </div>
                </div>
                {reactions}
            </div>
        </article>
    })
}

/// Brings a message into sight and shows which one it is.
pub(crate) fn jump_to(id: &ObjectId) {
    let Some(element) = document().get_element_by_id(&format!("m-{id}")) else {
        return;
    };
    element.scroll_into_view();
    let classes = element.class_list();
    let _ = classes.add_1("flash");
    wasm_bindgen_futures::spawn_local(async move {
        crate::browser::sleep_ms(1_300).await;
        let _ = classes.remove_1("flash");
    });
}

/// Something that is on its way into the history.
#[component]
pub(crate) fn PendingRow(history: History, pending: Pending) -> impl IntoView {
    let state = State::get();
    let key = pending.key;
    let (mark, class, words) = match &pending.state {
        PendingState::Waiting => (Icon::Clock, "state", t("message/waiting")),
        PendingState::Sending | PendingState::Saved(_) => {
            (Icon::Clock, "state", t("message/sending"))
        }
        PendingState::Failed(error) => (
            Icon::Failed,
            "state failed",
            tf("message/failed", &[("why", &super::error_in_words(error))]),
        ),
    };
    let failed = matches!(pending.state, PendingState::Failed(_));
    let (again, drop_it) = (history.clone(), history);
    view! {
        <article class="message own first last" data-testid="pending">
            <div class="column">
                <div class="line">
                    <div class="bubble" dir="auto">{body(&pending.body)}</div>
                    <div class="meta"><span class=class title=words.clone()>{icon(mark)}<span class="hidden-text">{words.clone()}</span></span></div>
                </div>
                {failed.then(|| view! {
                    <p class="small note error" role="alert">{words.clone()}</p>
                    <div class="row end">
                        <button class="button plain" type="button" on:click=move |_| again.retry(state, key)>{t("message/retry")}</button>
                        <button class="button plain danger" type="button" on:click=move |_| drop_it.discard(key)>{t("message/discard")}</button>
                    </div>
                })}
            </div>
        </article>
    }
}
