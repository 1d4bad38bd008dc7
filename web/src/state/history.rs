//! The history of one conversation, as far as it was read, and what is on its way into it.

use super::State;
use crate::browser::now_ms;
use leptos::prelude::*;
use starling_core::api::method::{GetConversationHistory, MessageMarkDisplayed, MessageSend};
use starling_core::api::{
    ApiError, ConversationHistoryParams, ConversationState, ErrorCode, Message, MessageParams,
    MessageSendParams,
};
use starling_core::id::{ConversationId, ObjectId};
use wasm_bindgen_futures::spawn_local;

/// How many messages are read at once.
const PAGE: u32 = 50;

/// How many pages are read at most to find a message that is far back.
const PAGES_BACK: usize = 200;

/// What is kept of a message on its way, so that a reload does not lose it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    body: String,
    reply_to: Option<ObjectId>,
    at: i64,
    /// The bridge was asked already: it may have it.
    asked: bool,
}

/// How far a message is that is not in the history yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PendingState {
    /// For the connection to the bridge; it goes by itself.
    Waiting,
    /// The bridge has it and answers soon.
    Sending,
    /// It answered; the event follows.
    Saved(ObjectId),
    /// It did not work.
    Failed(ApiError),
}

/// A message that is not in the history yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pending {
    /// Of this page.
    pub(crate) key: u64,
    /// The words.
    pub(crate) body: String,
    /// The message it answers.
    pub(crate) reply_to: Option<ObjectId>,
    /// When it was written.
    pub(crate) at: i64,
    /// How far it is.
    pub(crate) state: PendingState,
}

/// A message and the signal that tells of its changes.
pub(crate) type Entry = (ObjectId, ArcRwSignal<Message>);

/// A history. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub(crate) struct History {
    /// Whose it is.
    pub(crate) conversation: ConversationId,
    /// What was read, oldest first.
    pub(crate) entries: ArcRwSignal<Vec<Entry>>,
    /// What is on its way, oldest first.
    pub(crate) pending: ArcRwSignal<Vec<Pending>>,
    /// The first page was read.
    pub(crate) begun: ArcRwSignal<bool>,
    /// There are earlier ones.
    pub(crate) more: ArcRwSignal<bool>,
    /// A page is being read.
    pub(crate) reading: ArcRwSignal<bool>,
    /// What was read last when the conversation was opened.
    pub(crate) unread_after: ArcRwSignal<Option<ObjectId>>,
    next_key: ArcStoredValue<u64>,
    /// The last message, and the count of unread ones, that the bridge was told of.
    told: ArcStoredValue<Option<(ObjectId, u32)>>,
}

impl State {
    /// The history of a conversation; it is read when it is asked for first.
    pub(crate) fn history(&self, conversation: ConversationId) -> History {
        if let Some(history) = self
            .histories
            .with_value(|all| all.get(&conversation).cloned())
        {
            return history;
        }
        let history = History {
            conversation,
            entries: ArcRwSignal::new(Vec::new()),
            pending: ArcRwSignal::new(Vec::new()),
            begun: ArcRwSignal::new(false),
            more: ArcRwSignal::new(false),
            reading: ArcRwSignal::new(false),
            unread_after: ArcRwSignal::new(None),
            next_key: ArcStoredValue::new(1),
            told: ArcStoredValue::new(None),
        };
        history.recall();
        self.histories
            .update_value(|all| drop(all.insert(conversation, history.clone())));
        let (state, reader) = (*self, history.clone());
        spawn_local(async move { reader.read_newest(state).await });
        history
    }
}

impl History {
    /// Reads the newest page, and lets go of what does not join it.
    pub(crate) async fn read_newest(&self, state: State) {
        let Some(page) = self.read(state, None).await else {
            return;
        };
        self.more.set(page.1);
        let fresh = page.0;
        self.entries.update(|entries| {
            // Earlier messages stay if the page continues them.
            let first = fresh.first().map(|m| m.id);
            let joint = first.and_then(|id| entries.iter().position(|(e, _)| *e == id));
            let old = std::mem::take(entries);
            if let Some(joint) = joint {
                entries.extend(old.iter().take(joint).cloned());
            }
            for message in fresh {
                let signal = match old.iter().find(|(id, _)| *id == message.id) {
                    Some((_, signal)) => {
                        signal.set(message.clone());
                        signal.clone()
                    }
                    None => ArcRwSignal::new(message.clone()),
                };
                entries.push((message.id, signal));
            }
        });
        self.begun.set(true);
        self.drop_arrived(state);
        self.send_waiting(state);
    }

    /// Reads back until a message is there. False if it is not found.
    pub(crate) async fn reach(&self, state: State, id: ObjectId) -> bool {
        let there = || {
            self.entries
                .with_untracked(|entries| entries.iter().any(|(e, _)| *e == id))
        };
        if !self.begun.get_untracked() {
            self.read_newest(state).await;
        }
        for _ in 0..PAGES_BACK {
            if there() || !self.more.get_untracked() {
                break;
            }
            while self.reading.get_untracked() {
                crate::browser::sleep_ms(20).await;
            }
            let before = self.entries.with_untracked(Vec::len);
            self.read_earlier(state).await;
            if self.entries.with_untracked(Vec::len) == before && !there() {
                break;
            }
        }
        there()
    }

    /// The last text of one's own that can be edited.
    pub(crate) fn last_own(&self, state: State) -> Option<ObjectId> {
        let me = untrack(|| state.me());
        self.entries.with_untracked(|entries| {
            entries
                .iter()
                .rev()
                .find(|(_, signal)| signal.with_untracked(|m| super::can_edit(m, me)))
                .map(|(id, _)| *id)
        })
    }

    /// Keeps what is on its way where a reload finds it.
    fn keep(&self) {
        let kept: Vec<Kept> = self.pending.with_untracked(|all| {
            let going = all
                .iter()
                .filter(|p| !matches!(p.state, PendingState::Saved(_)));
            going
                .map(|p| Kept {
                    body: p.body.clone(),
                    reply_to: p.reply_to,
                    at: p.at,
                    asked: p.state != PendingState::Waiting,
                })
                .collect()
        });
        let json = match kept.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&kept).unwrap_or_default(),
        };
        crate::browser::keep(&format!("outbox-{}", self.conversation), &json);
    }

    /// Takes up what was on its way before the page was loaded.
    fn recall(&self) {
        let kept: Vec<Kept> = crate::browser::recall(&format!("outbox-{}", self.conversation))
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default();
        for kept in kept {
            let key = self.next_key.get_value();
            self.next_key.set_value(key + 1);
            // The bridge may have it: then it is in the history, and this one goes by itself.
            let state = match kept.asked {
                true => PendingState::Failed(ApiError::new(ErrorCode::Offline, "")),
                false => PendingState::Waiting,
            };
            self.pending.update(|all| {
                all.push(Pending {
                    key,
                    body: kept.body,
                    reply_to: kept.reply_to,
                    at: kept.at,
                    state,
                })
            });
        }
    }

    /// Reads the page before the earliest that is there.
    pub(crate) async fn read_earlier(&self, state: State) {
        if !self.more.get_untracked() || self.reading.get_untracked() {
            return;
        }
        let before = self
            .entries
            .with_untracked(|entries| entries.first().map(|(id, _)| *id));
        let Some((earlier, more)) = self.read(state, before).await else {
            return;
        };
        self.more.set(more && !earlier.is_empty());
        self.entries.update(|entries| {
            let fresh = earlier
                .into_iter()
                .filter(|m| !entries.iter().any(|(id, _)| *id == m.id));
            let fresh: Vec<Entry> = fresh.map(|m| (m.id, ArcRwSignal::new(m))).collect();
            entries.splice(0..0, fresh);
        });
    }

    async fn read(&self, state: State, before: Option<ObjectId>) -> Option<(Vec<Message>, bool)> {
        let account = state.account_id.get_untracked()?;
        // Accepted, but nobody with the history was reached yet, or all that was offered was refused: there is nothing
        // to read, and an event tells when.
        let conversation = untrack(|| state.conversation(&self.conversation));
        if conversation.is_some_and(|c| {
            c.with_untracked(|c| {
                matches!(
                    c.state,
                    ConversationState::Syncing | ConversationState::Refused
                )
            })
        }) {
            return None;
        }
        self.reading.set(true);
        let params = ConversationHistoryParams {
            account,
            conversation: self.conversation,
            before,
            limit: Some(PAGE),
        };
        let page = state.bridge().call::<GetConversationHistory>(params).await;
        self.reading.set(false);
        match page {
            Ok(page) => Some((page.messages, page.more)),
            Err(error) if error.code == ErrorCode::Offline => None,
            Err(error) => {
                state.report(&error);
                None
            }
        }
    }

    /// A new message takes its place.
    pub(crate) fn arrived(&self, state: State, message: Message) {
        if !self.begun.get_untracked() {
            return;
        }
        let known = self.entries.with_untracked(|entries| {
            entries
                .iter()
                .find(|(id, _)| *id == message.id)
                .map(|(_, s)| s.clone())
        });
        match known {
            Some(signal) => signal.set(message),
            None => self.entries.update(|entries| {
                let after = message
                    .previous
                    .and_then(|previous| entries.iter().position(|(id, _)| *id == previous));
                let at = after.map_or(entries.len(), |index| index + 1);
                entries.insert(at, (message.id, ArcRwSignal::new(message)));
            }),
        }
        self.drop_arrived(state);
    }

    /// A message, if it was read.
    pub(crate) fn message(&self, id: &ObjectId) -> Option<ArcRwSignal<Message>> {
        self.entries.with(|entries| {
            entries
                .iter()
                .find(|(e, _)| e == id)
                .map(|(_, s)| s.clone())
        })
    }

    /// What is on its way and has arrived is on its way no longer.
    fn drop_arrived(&self, state: State) {
        if self.pending.with_untracked(Vec::is_empty) {
            return;
        }
        let me = untrack(|| state.me());
        let own: Vec<(ObjectId, Option<String>, i64)> = self.entries.with_untracked(|entries| {
            let recent = entries
                .iter()
                .rev()
                .take(PAGE as usize)
                .map(|(id, signal)| {
                    signal.with_untracked(|m| (*id, m.author, m.body.clone(), m.received_at))
                });
            recent
                .filter(|(_, author, ..)| Some(*author) == me)
                .map(|(id, _, body, at)| (id, body, at))
                .collect()
        });
        self.pending.update(|all| {
            all.retain(|pending| match &pending.state {
                PendingState::Saved(id) => !own.iter().any(|(other, ..)| other == id),
                // The answer was lost with the connection, the message was not.
                PendingState::Failed(error) if error.code == ErrorCode::Offline => {
                    !own.iter().any(|(_, body, at)| {
                        body.as_deref() == Some(&pending.body) && *at >= pending.at - 1_000
                    })
                }
                _ => true,
            });
        });
        self.keep();
    }

    /// Sends words.
    pub(crate) fn send(&self, state: State, body: String, reply_to: Option<ObjectId>) {
        let key = self.next_key.get_value();
        self.next_key.set_value(key + 1);
        let pending = Pending {
            key,
            body,
            reply_to,
            at: now_ms(),
            state: PendingState::Waiting,
        };
        self.pending.update(|all| all.push(pending));
        self.keep();
        self.send_waiting(state);
    }

    /// Sends again what did not go.
    pub(crate) fn retry(&self, state: State, key: u64) {
        self.mark(key, PendingState::Waiting);
        self.send_waiting(state);
    }

    /// Gives up what did not go.
    pub(crate) fn discard(&self, key: u64) {
        self.pending.update(|all| all.retain(|p| p.key != key));
        self.keep();
    }

    fn mark(&self, key: u64, to: PendingState) {
        self.pending.update(|all| {
            if let Some(pending) = all.iter_mut().find(|p| p.key == key) {
                pending.state = to;
            }
        });
        self.keep();
    }

    /// Sends what waits, one after the other, so that it stays in order.
    pub(crate) fn send_waiting(&self, state: State) {
        let busy = self
            .pending
            .with_untracked(|all| all.iter().any(|p| p.state == PendingState::Sending));
        let open = state.bridge().state().get_untracked() == crate::bridge::Socket::Open;
        let next = self.pending.with_untracked(|all| {
            all.iter()
                .find(|p| p.state == PendingState::Waiting)
                .cloned()
        });
        let (false, true, Some(next), Some(account)) =
            (busy, open, next, state.account_id.get_untracked())
        else {
            return;
        };
        self.mark(next.key, PendingState::Sending);
        let this = self.clone();
        spawn_local(async move {
            let params = MessageSendParams {
                account,
                conversation: this.conversation,
                body: next.body,
                reply_to: next.reply_to,
            };
            match state.bridge().call::<MessageSend>(params).await {
                Ok(sent) => this.mark(next.key, PendingState::Saved(sent.id)),
                Err(error) => this.mark(next.key, PendingState::Failed(error)),
            }
            this.drop_arrived(state);
            this.send_waiting(state);
        });
    }

    /// Tells the bridge that everything was read.
    pub(crate) fn mark_read(&self, state: State) {
        // What the others do not have is no place up to which one has read.
        let last = self.entries.with_untracked(|entries| {
            let mut accepted = entries
                .iter()
                .rev()
                .filter(|(_, m)| !m.with_untracked(|m| m.unaccepted));
            accepted.next().map(|(id, _)| *id)
        });
        let Some(last) = last else { return };
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        let Some(conversation) = untrack(|| state.conversation(&self.conversation)) else {
            return;
        };
        let (unread, read) = conversation.with_untracked(|c| (c.unread, c.read_up_to));
        if unread == 0 && read == Some(last) {
            return;
        }
        conversation.update(|c| {
            c.unread = 0;
            c.read_up_to = Some(last);
        });
        // A bridge that counts the same again was told already.
        if self.told.get_value() == Some((last, unread)) {
            return;
        }
        self.told.set_value(Some((last, unread)));
        let params = MessageParams {
            account,
            conversation: self.conversation,
            id: last,
        };
        spawn_local(async move {
            let _ = state.bridge().call::<MessageMarkDisplayed>(params).await;
        });
    }
}
