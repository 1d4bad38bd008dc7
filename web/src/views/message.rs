//! Messages: bubbles, their state and their proof; and the quiet lines of what happened.

use crate::browser::{self, clock, full_time};
use crate::happening::{Deed, Happening, Line, lines};
use crate::parts::{Icon, PersonFace, icon, turning_icon};
use crate::rich::{Piece, pieces};
use crate::say::{self, t, tf, tn};
use crate::state::{History, Menu, Pending, PendingState, Place, State, can_delete, can_edit};
use crate::timeline::{hue, only_emoji, short_id_within};
use crate::worker::Verdict;
use leptos::prelude::*;
use starling_core::api::{
    Conversation, ConversationMode, Delivery, ErrorCode, MemberAction, MemberChange, Message,
    MessageType,
};
use starling_core::id::{AccountId, ObjectId};
use std::collections::BTreeMap;
use wasm_bindgen::JsCast;

/// A run of events longer than this is folded.
const FOLD: usize = 3;

/// What a vote is about: a person, or one device of theirs; oneself is `None`.
fn target_in_words(state: State, change: &MemberChange) -> (Option<String>, String) {
    let me = Some(change.id) == state.me();
    let whom = state.name_of(&change.id);
    match change.device {
        Some(_) if me => {
            let own = t("event/device-of-yours");
            (Some(own.clone()), own)
        }
        Some(_) => {
            let device = tf("event/device-of", &[("whom", &whom)]);
            (Some(device.clone()), device)
        }
        None if me => (None, whom),
        None => (Some(whom.clone()), whom),
    }
}

/// What changed of title, description and picture; nothing if that is not known.
fn profile_in_words(message: &Message) -> Vec<String> {
    let Some(change) = &message.profile else {
        return Vec::new();
    };
    let title = change.title.as_deref().map(|title| match title.trim() {
        "" => t("event/title-gone"),
        title => tf("event/title-to", &[("title", title)]),
    });
    let description = change.description.is_some().then(|| t("event/description"));
    let picture = change.avatar.then(|| t("event/picture"));
    [title, description, picture]
        .into_iter()
        .flatten()
        .collect()
}

/// What happened, as a sentence. It depends on the kind of conversation what people call it: into one for two somebody
/// accepts to come, and into a public group they are let in.
pub(crate) fn event_in_words(state: State, mode: ConversationMode, message: &Message) -> String {
    let two = mode == ConversationMode::OneToOne;
    let public = mode == ConversationMode::Public;
    let name = state.name_of(&message.author);
    let own = Some(message.author) == state.me();
    let say = |mine: &str, theirs: &str, values: &[(&str, &str)]| {
        if own {
            tf(mine, values)
        } else {
            tf(theirs, values)
        }
    };
    match (&message.kind, &message.member) {
        (MessageType::Initial, _) => say("event/you-began", "event/began", &[("name", &name)]),
        (MessageType::Member, None) => tf("event/changed", &[("name", &name)]),
        (MessageType::Member, Some(change)) => {
            let (other, whom) = target_in_words(state, change);
            let values = [("name", name.as_str()), ("whom", whom.as_str())];
            match (change.action, other.is_none()) {
                (MemberAction::Add, true) if public => tf("event/let-you-in", &values),
                (MemberAction::Add, false) if public => {
                    say("event/you-let-in", "event/let-in", &values)
                }
                (MemberAction::Join, true) if two => t("event/you-accepted"),
                (MemberAction::Join, false) if two => tf("event/accepted", &values),
                (MemberAction::Add, true) => tf("event/added-you", &values),
                (MemberAction::Add, false) => say("event/you-added", "event/added", &values),
                (MemberAction::Join, true) => t("event/you-joined"),
                (MemberAction::Join, false) => tn("event/joined", 1, &values),
                (MemberAction::Remove, true) => t("event/you-left"),
                (MemberAction::Remove, false) => tn("event/left", 1, &values),
                (MemberAction::Ban, true) => t("event/you-were-banned"),
                (MemberAction::Ban, false) => tf("event/banned", &values),
                (MemberAction::Unban, true) => t("event/you-were-unbanned"),
                (MemberAction::Unban, false) => tf("event/unbanned", &values),
            }
        }
        (MessageType::Vote, Some(change)) => {
            let (other, whom) = target_in_words(state, change);
            let values = [("name", name.as_str()), ("whom", whom.as_str())];
            match (change.action, other.is_none()) {
                (MemberAction::Unban, true) => tf("event/voted-unban-you", &values),
                (MemberAction::Unban, false) => {
                    say("event/you-voted-unban", "event/voted-unban", &values)
                }
                (_, true) => tf("event/voted-ban-you", &values),
                (_, false) => say("event/you-voted-ban", "event/voted-ban", &values),
            }
        }
        (MessageType::Vote, None) => say("event/you-voted", "event/voted", &[("name", &name)]),
        (MessageType::Profile, _) => {
            let what = profile_in_words(message);
            match what.is_empty() {
                true => tf("event/profile-same", &[("name", &name)]),
                false => say(
                    "event/you-profile",
                    "event/profile",
                    &[("name", &name), ("what", &say::list(&what))],
                ),
            }
        }
        (MessageType::Call, _) => match message.call.as_ref().and_then(|c| c.duration_ms) {
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
        (MessageType::Text | MessageType::File, _) => message.body.clone().unwrap_or_default(),
        (MessageType::Other(kind), _) => tf("event/other", &[("name", &name), ("kind", kind)]),
    }
}

/// An event as far as folding needs to know it.
fn happening(message: &Message) -> Happening {
    let change = message.member.as_ref().filter(|c| c.device.is_none());
    let deed = match (&message.kind, change.map(|c| c.action)) {
        (MessageType::Member, Some(MemberAction::Add)) => Deed::Invited,
        (MessageType::Member, Some(MemberAction::Join)) => Deed::Joined,
        (MessageType::Member, Some(MemberAction::Remove)) => Deed::Left,
        _ => Deed::Alone,
    };
    Happening {
        id: message.id.to_hex(),
        by: message.author.to_hex(),
        deed,
        whom: change.map(|c| c.id.to_hex()),
    }
}

/// A line of what happened: several events that say the same have one sentence.
fn line_in_words(state: State, mode: ConversationMode, line: &Line, message: &Message) -> String {
    let people: Vec<AccountId> = line.whom.iter().filter_map(|id| id.parse().ok()).collect();
    if people.len() < 2 {
        return event_in_words(state, mode, message);
    }
    let me = state.me();
    // Oneself last: no sentence begins with a small letter.
    let (mine, others): (Vec<_>, Vec<_>) = people.iter().partition(|id| Some(**id) == me);
    let names = others.iter().chain(&mine).map(|id| match Some(*id) == me {
        true => t("event/you"),
        false => state.name_of(id),
    });
    let whom = say::list(&names.collect::<Vec<_>>());
    let name = state.name_of(&message.author);
    let values = [("name", name.as_str()), ("whom", whom.as_str())];
    match line.deed {
        Deed::Invited => {
            let key = match (mode == ConversationMode::Public, Some(message.author) == me) {
                (true, true) => "event/you-let-in",
                (true, false) => "event/let-in",
                (false, true) => "event/you-added",
                (false, false) => "event/added",
            };
            tf(key, &values)
        }
        Deed::Joined => tn("event/joined", people.len(), &values),
        Deed::Left => tn("event/left", people.len(), &values),
        Deed::Alone => event_in_words(state, mode, message),
    }
}

/// A message in one line, for the list: who says it, if that is said, and what.
pub(crate) fn summary(
    state: State,
    conversation: &Conversation,
    message: &Message,
) -> (Option<String>, String) {
    let text = match &message.kind {
        MessageType::Text if is_deleted(message) => t("message/deleted"),
        MessageType::Text => message.body.clone().unwrap_or_default().replace('\n', " "),
        MessageType::File => message
            .file
            .as_ref()
            .map(|f| f.name.clone())
            .unwrap_or_else(|| t("message/file")),
        _ => return (None, event_in_words(state, conversation.mode, message)),
    };
    let who = match conversation.mode {
        _ if Some(message.author) == state.me() => Some(t("list/you-said")),
        ConversationMode::OneToOne => None,
        _ => Some(tf(
            "list/they-said",
            &[("name", &state.name_of(&message.author))],
        )),
    };
    (who, text)
}

/// The words of a message were taken away by its author.
pub(crate) fn is_deleted(message: &Message) -> bool {
    !message.edits.is_empty() && message.body.as_ref().is_none_or(String::is_empty)
}

/// Events in a row: what says the same is one line, and of many lines the last is shown.
#[component]
pub(crate) fn EventsRow(history: History, ids: Vec<String>) -> impl IntoView {
    let state = State::get();
    let messages: BTreeMap<String, ArcRwSignal<Message>> = ids
        .iter()
        .filter_map(|id| Some((id.clone(), untrack(|| history.message(&id.parse().ok()?))?)))
        .collect();
    let happened: Vec<Happening> = ids
        .iter()
        .filter_map(|id| messages.get(id))
        .map(|m| m.with_untracked(happening))
        .collect();
    let mode = untrack(|| state.conversation(&history.conversation))
        .map_or(ConversationMode::Unknown, |c| c.with_untracked(|c| c.mode));
    let all: Vec<Line> = lines(&happened)
        .into_iter()
        .filter(|line| {
            messages
                .get(&line.id)
                .is_none_or(|m| !m.with_untracked(|m| decides_alone(&history, m)))
        })
        .collect();
    let open = RwSignal::new(all.len() <= FOLD);
    let last = all.len().saturating_sub(1);
    // Who was shut out is never among what is folded away.
    let grave = |line: &Line| {
        let action = messages
            .get(&line.id)
            .and_then(|m| m.with_untracked(|m| m.member.as_ref().map(|c| c.action)));
        matches!(action, Some(MemberAction::Ban | MemberAction::Unban))
    };
    let stays: Vec<bool> = all
        .iter()
        .enumerate()
        .map(|(index, line)| index == last || grave(line))
        .collect();
    let folded = stays.iter().filter(|stays| !**stays).count();
    move || {
        let unfolded = open.get() || folded == 0;
        let rows = all
            .iter()
            .zip(&stays)
            .filter(|(_, stays)| unfolded || **stays)
            .filter_map(|(line, _)| {
                let message = messages.get(&line.id)?.clone();
                let time = full_time(message.with_untracked(|m| m.sent_at));
                let line = line.clone();
                Some(view! { <p class="system" title=time data-testid="event"><bdi>{move || message.with(|m| line_in_words(state, mode, &line, m))}</bdi></p> })
            });
        let rows = rows.collect_view();
        view! {
            {(!unfolded).then(|| view! {
                <p class="system"><button class="button plain" type="button" on:click=move |_| open.set(true)>{icon(Icon::Down)}{tn("event/folded", folded, &[])}</button></p>
            })}
            {rows}
        }
    }
}

/// A vote that nobody else had a part in, and that was carried out at once: the ban that follows says it all.
fn decides_alone(history: &History, vote: &Message) -> bool {
    let (MessageType::Vote, Some(change)) = (&vote.kind, &vote.member) else {
        return false;
    };
    let about = |m: &Message| {
        let same = |c: &MemberChange| c.id == change.id && c.device == change.device;
        m.member.as_ref().filter(|c| same(c)).map(|c| c.action)
    };
    history.entries.with_untracked(|entries| {
        let Some(at) = entries.iter().position(|(id, _)| *id == vote.id) else {
            return false;
        };
        let (before, after) = entries.split_at(at);
        let done = after.get(1).is_some_and(|(_, m)| {
            m.with_untracked(|m| {
                m.kind == MessageType::Member
                    && m.author == vote.author
                    && about(m) == Some(change.action)
            })
        });
        // Votes of others since the last time it was decided.
        let alone = before
            .iter()
            .rev()
            .map(|(_, m)| m.with_untracked(|m| (m.kind.clone(), m.author, about(m))))
            .find(|(_, _, about)| about.is_some())
            .is_none_or(|(kind, author, _)| kind != MessageType::Vote || author == vote.author);
        done && alone
    })
}

/// How far a message of one's own got, in words; nothing about the messages of others.
pub(crate) fn state_in_words(state: State, message: &Message) -> Option<String> {
    (Some(message.author) == state.me()).then(|| match message.unaccepted {
        true => t("message/unaccepted"),
        false => delivery_in_words(state, message).2,
    })
}

/// Who reacted with what: “❤️ Bob and you”.
pub(crate) fn reactions_in_words(state: State, message: &Message) -> Vec<(String, String)> {
    let me = state.me();
    message
        .reactions
        .iter()
        .filter(|(_, who)| !who.is_empty())
        .map(|(emoji, who)| {
            // Oneself last: no list begins with a small letter.
            let (mine, others): (Vec<_>, Vec<_>) = who.iter().partition(|r| Some(r.author) == me);
            let mut names: Vec<String> = others.iter().map(|r| state.name_of(&r.author)).collect();
            if !mine.is_empty() {
                names.push(t(if names.is_empty() {
                    "person/you"
                } else {
                    "event/you"
                }));
            }
            (emoji.clone(), say::list(&names))
        })
        .collect()
}

/// The first words of a message that was edited: those are what the proof is of.
pub(crate) fn before_edits(message: &Message) -> Option<String> {
    let before = message.edits.last().filter(|_| !is_deleted(message))?;
    Some(tf(
        "message/edited-before",
        &[("text", &before.body), ("time", &clock(before.sent_at))],
    ))
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
        Delivery::Saved => (Icon::Clock, "state saved"),
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
            Piece::Block(code) => view! { <pre tabindex="0">{code}</pre> }.into_any(),
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
    let known = untrack(|| state.conversation(&conversation));
    let group = known
        .as_ref()
        .is_some_and(|c| c.with_untracked(|c| c.mode != ConversationMode::OneToOne));
    let open = Memo::new(move |_| {
        known
            .as_ref()
            .is_some_and(|c| c.with(|c| state.may_write(c)))
    });
    let name = Memo::new(move |_| state.name_of(&author));
    // Of all names the one over what they say is the one that must not deceive.
    let mark = move || {
        let written = state.is_as_written(&author, &name.get());
        written.then(|| view! { <span class="whose">" "{short_id_within(&author.to_hex())}</span> })
    };
    let proved = Memo::new(move |_| state.place.get() == Place::Proof(conversation, id));
    let whole: RwSignal<Option<(Option<ObjectId>, String)>> = RwSignal::new(None);
    // Of all that is shown, the rest of a long text as well.
    let verdict = Memo::new(move |_| {
        let mut shown = message.get();
        let by = shown.edited_by;
        if let Some((_, words)) = whole.get().filter(|(of, _)| shown.cut && *of == by) {
            shown.body = Some(words);
            shown.cut = false;
        }
        state.judge(conversation, &shown)
    });
    let leaving = Memo::new(move |_| state.deleting.with(|all| all.contains_key(&id)));

    let quoted_history = history.clone();
    let quoted = move || {
        let id = message.with(|m| m.reply_to)?;
        let known = quoted_history.message(&id);
        let who = known.as_ref().map(|m| state.name_of(&m.with(|m| m.author)));
        let text = known.map(|m| {
            m.with(|m| match is_deleted(m) {
                true => t("message/deleted"),
                false => m.body.clone().unwrap_or_default(),
            })
        });
        let text = text
            .unwrap_or_else(|| t("message/quoted-elsewhere"))
            .replace('\n', " ");
        Some(view! {
            <button class="quoted" type="button" title=t("message/show-quoted") on:click=move |_| state.show_message(conversation, id)>
                {who.map(|who| view! { <span class="quoted-who"><bdi>{who}</bdi></span> })}
                <span class="quoted-words" dir="auto">{text}</span>
            </button>
        })
    };
    // A very long text comes in part; the rest is read when somebody wants it, and forgotten when the words change.
    let whole_now = move || {
        let by = message.with(|m| m.edited_by);
        whole
            .get()
            .filter(|(of, _)| *of == by)
            .map(|(_, words)| words)
    };
    // Only what it says: words that stay are not put there again, and not read out again, when their state changes.
    let says = Memo::new(move |_| {
        message.with(|m| {
            let words = match whole_now().filter(|_| m.cut) {
                Some(words) => Some(words),
                None => m.body.clone(),
            };
            (is_deleted(m), m.kind.clone(), m.file.clone(), words)
        })
    });
    let content = move || {
        says.with(|(deleted, kind, file, words)| match (kind, file) {
            _ if *deleted => t("message/deleted").into_any(),
            (MessageType::File, Some(file)) => {
                tf("message/file-named", &[("name", &file.name)]).into_any()
            }
            (MessageType::File, None) => t("message/file").into_any(),
            _ => body(words.as_deref().unwrap_or_default()),
        })
    };
    let read_whole = move |_| {
        wasm_bindgen_futures::spawn_local(async move {
            let by = message.with_untracked(|m| m.edited_by);
            if let Some(words) = state.whole_words(conversation, id).await {
                whole.try_set(Some((by, words)));
            }
        });
    };
    let rest = move || {
        (message.with(|m| m.cut) && whole_now().is_none()).then(|| view! {
            <button class="button plain small-button" type="button" data-testid="show-all" on:click=read_whole>{t("message/show-all")}</button>
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
        message.with(|m| {
            let title = before_edits(m)?;
            Some(view! { <span class="edited" title=title>{t("message/edited")}</span> })
        })
    };
    let delivery = move || {
        own.then(|| {
            let (mark, class, words) = match message.with(|m| m.unaccepted) {
                true => (Icon::Failed, "state failed", t("message/unaccepted")),
                false => message.with(|m| delivery_in_words(state, m)),
            };
            view! { <span class=class title=words.clone() data-testid="state">{icon(mark)}<span class="hidden-text">{words.clone()}</span></span> }
        })
    };
    let proof = move || {
        let (class, mark, words) = match verdict.get() {
            Verdict::Pending => ("proof pending", Icon::ShieldOff, t("proof/pending")),
            Verdict::Valid(_) => ("proof verified", Icon::Shield, t("proof/valid")),
            Verdict::Invalid { .. } => ("proof bad", Icon::ShieldBad, t("proof/invalid")),
            Verdict::Unavailable(_) => ("proof pending", Icon::ShieldOff, t("proof/unavailable")),
        };
        view! {
            <button class=class type="button" tabindex="-1" aria-label=tf("proof/open", &[("verdict", &words)]) title=words.clone() data-testid="proof"
                on:click=move |_| Place::Proof(conversation, id).go()>{icon(mark)}</button>
        }
    };
    let show_menu = move |at: (f64, f64), emoji: bool| {
        state.menu.set(Some(Menu {
            conversation,
            message: id,
            at,
            emoji,
        }));
    };
    let under = move |event: &web_sys::MouseEvent| {
        let button = event
            .current_target()
            .and_then(|t| t.dyn_into::<web_sys::Element>().ok());
        button.map_or((0.0, 0.0), |b| {
            let place = b.get_bounding_client_rect();
            (place.left(), place.bottom() + 4.0)
        })
    };
    let tools = move || {
        let (writable, gone) = (open.get(), gone.get());
        view! {
            {(!last).then(|| view! { <time class="time" title=full_time(sent_at)>{clock(sent_at)}</time> })}
            {(writable && !gone).then(|| view! {
                <button class="tool" type="button" tabindex="-1" aria-label=t("menu/react") title=t("menu/react") data-testid="react"
                    on:click=move |event| show_menu(under(&event), false)>{icon(Icon::Smile)}</button>
                <button class="tool" type="button" tabindex="-1" aria-label=t("message/reply") title=t("message/reply") data-testid="reply"
                    on:click=move |_| state.begin_reply(conversation, id)>{turning_icon(Icon::Reply)}</button>
            })}
            <button class="tool" type="button" tabindex="-1" aria-label=t("menu/more") title=t("menu/more") data-testid="more"
                on:click=move |event| show_menu(under(&event), false)>{icon(Icon::More)}</button>
        }
    };
    // The other button of the mouse, or a long touch. Selected words and links keep what the browser offers for them.
    let asked = move |event: web_sys::MouseEvent| {
        let on_link = event
            .target()
            .and_then(|t| t.dyn_into::<web_sys::Element>().ok())
            .is_some_and(|e| e.closest("a").ok().flatten().is_some());
        if !on_link && !browser::has_selection() {
            event.prevent_default();
            // Under the pointer: letting go of the button must not count as a click elsewhere.
            show_menu(
                (
                    f64::from(event.client_x()) - 2.0,
                    f64::from(event.client_y()) - 2.0,
                ),
                false,
            );
        }
    };
    let touched = move |event: web_sys::MouseEvent| {
        let on_control = event
            .target()
            .and_then(|t| t.dyn_into::<web_sys::Element>().ok())
            .is_some_and(|e| e.closest("a, button").ok().flatten().is_some());
        if browser::by_touch() && !on_control && !browser::has_selection() {
            show_menu(
                (f64::from(event.client_x()), f64::from(event.client_y())),
                false,
            );
        }
    };
    // With a message in focus, one letter does what its panel offers.
    let by_key = move |event: web_sys::KeyboardEvent| {
        let itself = event.target() == event.current_target();
        if !itself || event.ctrl_key() || event.meta_key() || event.alt_key() {
            return;
        }
        let (writable, me) = (open.get_untracked(), untrack(|| state.me()));
        let (edit, delete) = message.with_untracked(|m| (can_edit(m, me), can_delete(m, me)));
        let corner = event
            .current_target()
            .and_then(|t| t.dyn_into::<web_sys::Element>().ok())
            .and_then(|e| e.query_selector(".bubble").ok().flatten())
            .map_or((0.0, 0.0), |e| {
                let place = e.get_bounding_client_rect();
                (place.left(), place.bottom() + 4.0)
            });
        match event.key().as_str() {
            "Enter" | " " | "ContextMenu" => show_menu(corner, false),
            "+" if writable => show_menu(corner, true),
            "r" | "R" if writable => state.begin_reply(conversation, id),
            "e" | "E" if writable && edit => state.begin_edit(conversation, id),
            "Delete" if writable && delete => state.delete_message(conversation, id),
            _ => return,
        }
        event.prevent_default();
    };
    let reactions = move || {
        let me = state.me();
        message.with(|m| {
            let shown: Vec<_> = reactions_in_words(state, m)
                .into_iter()
                .map(|(emoji, names)| {
                    let who = m.reactions.get(&emoji).map_or(&[][..], Vec::as_slice);
                    let mine = who.iter().any(|r| Some(r.author) == me);
                    let count = (who.len() > 1).then(|| view! { <span class="count">{who.len()}</span> });
                    let label = tf("message/reacted", &[("emoji", &emoji), ("names", &names)]);
                    let again = emoji.clone();
                    view! {
                        <button type="button" title=names aria-label=label aria-pressed=mine.to_string() disabled=!open.get() data-testid="reaction"
                            on:click=move |_| message.with_untracked(|m| state.toggle_reaction(conversation, m, again.clone()))>
                            {emoji.clone()}{count}
                        </button>
                    }
                })
                .collect();
            (!shown.is_empty()).then(|| view! { <div class="reactions">{shown}</div> })
        })
    };
    // What a ban had cut off can be sent again once one is back.
    let sending = RwSignal::new(false);
    let resend = move |_| {
        sending.set(true);
        wasm_bindgen_futures::spawn_local(async move {
            state.resend(conversation, id).await;
            sending.try_set(false);
        });
    };
    let again = move || {
        // Why it has another mark is said without pointing at it: a phone has no pointer.
        (own && message.with(|m| m.unaccepted)).then(|| view! {
            <div class="row end again"><span class="small quiet">{t("message/unaccepted")}</span>
                {open.get().then(|| view! { <button class="button small-button" type="button" disabled=move || sending.get() data-testid="resend" on:click=resend>{turning_icon(Icon::Send)}{t("message/resend")}</button> })}</div>
        })
    };
    let label = move || {
        tf(
            "message/by-at",
            &[("name", &name.get()), ("time", &clock(sent_at))],
        )
    };
    // Room at the end of the last line, as wide as what stands there.
    let room = move || {
        let edited = message.with(|m| !m.edits.is_empty() && !is_deleted(m));
        let edited = edited.then(|| t("message/edited"));
        let time = last.then(|| clock(sent_at));
        [edited, time]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let author_hue = hue(&author.to_hex()).to_string();
    Some(view! {
        <article class="message" class:own=own class:first=first class:last=last class:proved=move || proved.get() id=format!("m-{id}") tabindex="-1" aria-label=label data-testid="message"
            on:keydown=by_key>
            {(group && !own && last).then(|| view! { <PersonFace id=author size="small" /> })}
            <div class="column">
                {(group && !own && first).then(|| view! { <span class="author" style:--hue=author_hue title=move || state.name_help(&author)><bdi>{move || name.get()}</bdi>{mark}</span> })}
                {move || match leaving.get() {
                    true => view! {
                        <div class="line"><div class="bubble gone leaving" role="status">
                            <span>{t("message/deleting")}</span>
                            <button class="button plain small-button" type="button" on:click=move |_| state.keep_message(&id)>{icon(Icon::Undo)}{t("common/undo")}</button>
                        </div></div>
                    }.into_any(),
                    false => view! {
                        <div class="line">
                            <div class="bubble" class:only-emoji=move || large.get() class:gone=move || gone.get() dir="auto" on:contextmenu=asked on:click=touched>
                                <div class="words" data-testid="bubble" data-room=room>{quoted.clone()}{content}{rest}</div>
                                <div class="meta">
                                    {edited}
                                    <time class="time" title=full_time(sent_at)>{clock(sent_at)}</time>
                                    {delivery}
                                </div>
                            </div>
                            <div class="handles">{tools}{proof}</div>
                        </div>
                    }.into_any(),
                }}
                {reactions}
                {again}
            </div>
        </article>
    })
}

/// Brings a message into sight, no further than it needs.
pub(crate) fn into_sight(id: &ObjectId) {
    scroll_to(id, web_sys::ScrollLogicalPosition::Nearest);
}

fn scroll_to(id: &ObjectId, where_to: web_sys::ScrollLogicalPosition) -> Option<web_sys::Element> {
    let element = document().get_element_by_id(&format!("m-{id}"))?;
    let options = web_sys::ScrollIntoViewOptions::new();
    options.set_block(where_to);
    element.scroll_into_view_with_scroll_into_view_options(&options);
    Some(element)
}

/// Brings a message into sight and shows which one it is.
pub(crate) fn jump_to(id: &ObjectId) {
    let Some(element) = scroll_to(id, web_sys::ScrollLogicalPosition::Center) else {
        return;
    };
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
    // As it is it never goes.
    let futile = matches!(&pending.state, PendingState::Failed(e) if e.code == ErrorCode::TooLarge);
    let (again, drop_it) = (history.clone(), history);
    let words_again = pending.body.clone();
    let retry = move |_| match futile {
        true => {
            again.discard(key);
            // What was begun meanwhile stays, too.
            let begun = state
                .drafts
                .with_untracked(|all| all.get(&again.conversation).cloned());
            let words = [Some(words_again.clone()), begun];
            let words = words.into_iter().flatten().collect::<Vec<_>>();
            state.keep_draft(again.conversation, &words.join("\n"));
            browser::focus("composer");
        }
        false => again.retry(state, key),
    };
    view! {
        <article class="message own first last" data-testid="pending">
            <div class="column">
                <div class="line">
                    <div class="bubble" dir="auto">
                        <div class="words" data-room="00">{body(&pending.body)}</div>
                        <div class="meta"><span class=class title=words.clone()>{icon(mark)}<span class="hidden-text">{words.clone()}</span></span></div>
                    </div>
                </div>
                {failed.then(|| view! {
                    <p class="small note error" role="alert">{words.clone()}</p>
                    <div class="row end">
                        <button class="button plain" type="button" on:click=retry>{t(if futile { "menu/edit" } else { "message/retry" })}</button>
                        <button class="button plain danger" type="button" on:click=move |_| drop_it.discard(key)>{t("message/discard")}</button>
                    </div>
                })}
            </div>
        </article>
    }
}
