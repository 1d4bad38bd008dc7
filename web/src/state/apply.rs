//! What each event changes.

use super::{Notice, State};
use crate::browser::{now_ms, sleep_ms};
use leptos::prelude::*;
use starling_core::api::{Account, Conversation, Event};
use starling_core::id::ConversationId;
use wasm_bindgen_futures::spawn_local;

/// Whoever was heard typing longer ago than this has stopped, or is gone. Milliseconds; Jami tells again every few seconds.
const TYPING_MS: i32 = 12_000;

/// The words for what the bridge wants to say, by its code.
fn notice_in_words(code: &str) -> Option<&'static str> {
    Some(match code {
        "disk_full" => "notice/disk-full",
        "account_broken" => "notice/account-broken",
        "archive_damaged" => "notice/archive-damaged",
        "conversation_broken" => "notice/conversation-broken",
        "conversation_invalid" => "notice/conversation-invalid",
        "index_behind" => "notice/index-behind",
        "index_rebuilt" => "notice/index-rebuilt",
        "internal_fault" => "notice/internal-fault",
        "device_revoked" => "notice/this-device-revoked",
        "group_incomplete" => "notice/group-incomplete",
        _ => return None,
    })
}

impl State {
    /// Takes in what happened.
    pub(crate) fn apply(&self, event: Event) {
        // Only the account that is shown has lists to change.
        let shown = self.account_id.get_untracked();
        let elsewhere = event
            .account()
            .is_some_and(|account| Some(account) != shown.as_ref());
        match event {
            Event::AccountState {
                account,
                state,
                details,
                removed,
            } => {
                use starling_core::api::AccountState::Loading;
                let waited = state != Loading
                    && shown.as_ref() == Some(&account)
                    && self.accounts.with_untracked(|all| {
                        all.iter().any(|a| a.id == account && a.state == Loading)
                    });
                self.accounts.update(|all| {
                    if removed {
                        all.retain(|a| a.id != account);
                    } else if let Some(known) = all.iter_mut().find(|a| a.id == account) {
                        match details {
                            Some(details) => *known = *details,
                            None => known.state = state,
                        }
                    } else if let Some(details) = details {
                        all.push(*details);
                    }
                });
                let gone = shown.as_ref().is_none_or(|id| {
                    !self
                        .accounts
                        .with_untracked(|all| all.iter().any(|a| a.id == *id))
                });
                if waited && !gone {
                    // There was nothing to read of it before.
                    let this = *self;
                    spawn_local(async move { this.read_account().await });
                }
                if gone {
                    self.forget();
                    self.account_id.set(
                        self.accounts
                            .with_untracked(|all| all.first().map(|a| a.id.clone())),
                    );
                    let this = *self;
                    spawn_local(async move { this.read_account().await });
                }
            }
            Event::AccountProfile {
                account,
                display_name,
                avatar,
            } => self.accounts.update(|all| {
                if let Some(known) = all.iter_mut().find(|a| a.id == account) {
                    known.display_name = display_name;
                    known.avatar = avatar;
                }
            }),
            Event::BridgeNotice {
                level, code, text, ..
            } => {
                let (words, detail) = match notice_in_words(&code) {
                    Some(key) => (crate::say::t(key), Some(text)),
                    // Of a newer bridge: its own sentence is all there is.
                    None => (text, None),
                };
                self.notify(Notice {
                    level,
                    text: words,
                    detail,
                });
            }
            _ if elsewhere => {
                let own = |author| {
                    self.accounts.with_untracked(|all| {
                        let of = |a: &Account| Some(&a.id) == event.account();
                        all.iter().any(|a| of(a) && a.jami_id == author)
                    })
                };
                let news = match &event {
                    Event::MessageReceived { message, .. } => !own(message.author),
                    Event::RequestReceived { .. } | Event::ContactRequest { .. } => true,
                    _ => false,
                };
                if let Some(account) = event.account().filter(|_| news) {
                    self.news.update(|all| all.extend([account.clone()]));
                }
            }
            Event::ContactUpdated {
                contact, removed, ..
            } => self.contacts.update(|all| match removed {
                true => drop(all.remove(&contact.id)),
                false => drop(all.insert(contact.id, *contact)),
            }),
            Event::Presence { id, presence, .. } => self.contacts.update(|all| {
                if let Some(contact) = all.get_mut(&id) {
                    contact.presence = presence;
                }
            }),
            Event::ContactRequest { request, .. } | Event::RequestReceived { request, .. } => {
                self.requests
                    .update(|all| drop(all.insert(request.conversation, *request)));
            }
            Event::RequestRemoved { conversation, .. } => {
                self.requests.update(|all| drop(all.remove(&conversation)));
                self.keep_request(&conversation);
            }
            Event::ConversationSyncing { conversation, .. } => {
                if let Some(signal) = untrack(|| self.conversation(&conversation)) {
                    signal.update(|c| c.state = starling_core::api::ConversationState::Syncing);
                }
            }
            Event::ConversationReady {
                conversation,
                details,
                ..
            } => {
                self.requests.update(|all| drop(all.remove(&conversation)));
                self.put(*details);
                // A conversation that was waited for has a history now.
                if let Some(history) = self.opened(&conversation) {
                    let this = *self;
                    spawn_local(async move { history.read_newest(this).await });
                }
            }
            Event::ConversationUpdated { details, .. } => self.put(*details),
            Event::ConversationMember {
                conversation,
                member,
                ..
            } => {
                if let Some(signal) = untrack(|| self.conversation(&conversation)) {
                    signal.update(|c| match c.members.iter_mut().find(|m| m.id == member.id) {
                        Some(known) => *known = *member,
                        None => c.members.push(*member),
                    });
                }
            }
            Event::ConversationVotes {
                conversation,
                ballots,
                ..
            } => self
                .ballots
                .update(|all| drop(all.insert(conversation, ballots))),
            Event::ConversationRemoved { conversation, .. } => {
                self.conversations
                    .update(|all| drop(all.remove(&conversation)));
                self.histories
                    .update_value(|all| drop(all.remove(&conversation)));
                if self.place.get_untracked().conversation() == Some(conversation) {
                    super::Place::List.go();
                }
            }
            Event::ConversationRejected {
                conversation, rule, ..
            } => {
                // An open conversation says so itself, also one that is just being opened: the address is ahead of the
                // state.
                if super::Place::here().conversation() == Some(conversation) {
                    return;
                }
                let title = untrack(|| self.conversation(&conversation))
                    .map(|c| untrack(|| c.with(|c| self.title_of(c))));
                let values = [
                    ("title", title.unwrap_or_default()),
                    ("why", crate::say::t(crate::rule::words(&rule))),
                ];
                let values: Vec<(&str, &str)> =
                    values.iter().map(|(k, v)| (*k, v.as_str())).collect();
                let text = crate::say::tf("notice/rejected", &values);
                self.notify(Notice {
                    level: starling_core::api::NoticeLevel::Warning,
                    text,
                    detail: None,
                });
            }
            Event::ConversationReordered { conversation, .. } => {
                if let Some(history) = self.opened(&conversation) {
                    let this = *self;
                    spawn_local(async move { history.read_newest(this).await });
                }
            }
            Event::MessageReceived {
                conversation,
                message,
                ..
            } => {
                self.typing.update(|all| {
                    if let Some(people) = all.get_mut(&conversation) {
                        people.remove(&message.author);
                    }
                });
                if let Some(signal) = untrack(|| self.conversation(&conversation)) {
                    let me = untrack(|| self.me());
                    signal.update(|c| {
                        // `conversation.updated` brings the bridge's own count; until then this one is right.
                        if Some(message.author) != me
                            && c.last_message
                                .as_ref()
                                .is_none_or(|last| last.id != message.id)
                        {
                            c.unread = c.unread.saturating_add(1);
                        }
                        c.last_message = Some(message.clone());
                    });
                }
                if let Some(history) = self.opened(&conversation) {
                    history.arrived(*self, *message);
                }
            }
            Event::MessageUpdated {
                conversation,
                message,
                ..
            } => {
                if let Some(signal) = self
                    .opened(&conversation)
                    .and_then(|h| untrack(|| h.message(&message.id)))
                {
                    signal.set(*message.clone());
                }
                if let Some(signal) = untrack(|| self.conversation(&conversation))
                    && signal.with_untracked(|c| {
                        c.last_message
                            .as_ref()
                            .is_some_and(|last| last.id == message.id)
                    })
                {
                    signal.update(|c| c.last_message = Some(message));
                }
            }
            Event::MessageStatus {
                conversation,
                id,
                status,
                ..
            } => {
                if let Some(signal) = self
                    .opened(&conversation)
                    .and_then(|h| untrack(|| h.message(&id)))
                {
                    signal.update(|m| m.status = status);
                }
            }
            Event::Typing {
                conversation,
                id,
                typing,
                ..
            } => {
                let at = now_ms();
                self.typing.update(|all| {
                    let people = all.entry(conversation).or_default();
                    match typing {
                        true => drop(people.insert(id, at)),
                        false => drop(people.remove(&id)),
                    }
                });
                // Who stops without a word is not typing for ever.
                let typing = self.typing;
                spawn_local(async move {
                    sleep_ms(TYPING_MS).await;
                    typing.update(|all| {
                        if let Some(people) = all.get_mut(&conversation) {
                            people.retain(|_, heard| *heard != at);
                        }
                    });
                });
            }
            Event::LinkState { link, .. } => {
                self.links.update(|all| drop(all.insert(link.peer, link)))
            }
            Event::DeviceAdded { id, others, .. } if others > 0 => {
                let (level, text) = match Some(id) == untrack(|| self.me()) {
                    true => {
                        self.devices.update(|n| *n += 1);
                        (
                            starling_core::api::NoticeLevel::Warning,
                            crate::say::t("notice/own-device"),
                        )
                    }
                    false => {
                        let name = untrack(|| self.name_of(&id));
                        let text = crate::say::tf("notice/new-device", &[("name", &name)]);
                        (starling_core::api::NoticeLevel::Info, text)
                    }
                };
                self.notify(Notice {
                    level,
                    text,
                    detail: None,
                });
            }
            Event::DeviceRevoked { id, .. } => {
                let text = match Some(id) == untrack(|| self.me()) {
                    true => {
                        self.devices.update(|n| *n += 1);
                        crate::say::t("notice/own-device-revoked")
                    }
                    false => {
                        let name = untrack(|| self.name_of(&id));
                        crate::say::tf("notice/device-revoked", &[("name", &name)])
                    }
                };
                self.notify(Notice {
                    level: starling_core::api::NoticeLevel::Info,
                    text,
                    detail: None,
                });
            }
            // Events of a newer bridge say nothing to this page.
            _ => {}
        }
    }

    fn opened(&self, conversation: &ConversationId) -> Option<super::History> {
        self.histories
            .with_value(|all| all.get(conversation).cloned())
    }

    /// A conversation is new, or changed.
    pub(crate) fn put(&self, conversation: Conversation) {
        match untrack(|| self.conversation(&conversation.id)) {
            Some(signal) => signal.set(conversation),
            None => self
                .conversations
                .update(|all| drop(all.insert(conversation.id, ArcRwSignal::new(conversation)))),
        }
    }
}
