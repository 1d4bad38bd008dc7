//! What the page knows: stores that events change piece by piece.

mod act;
mod apply;
mod history;
mod names;
mod place;

pub(crate) use act::{can_delete, can_edit};
pub(crate) use history::{History, Pending, PendingState};
pub(crate) use place::Place;

use crate::bridge::{Bridge, Listener};
use crate::views::Step;
use crate::worker::Checker;
use crate::{browser, keys};
use leptos::prelude::*;
use starling_core::api::method::{
    AccountList, ContactList, ConversationGet, ConversationList, LinkList, RequestList,
};
use starling_core::api::{
    Account, AccountParams, ApiError, Ballot, BallotAction, Contact, ContactListParams,
    Conversation, ConversationListParams, ConversationParams, Event, LinkState, LocalAccountId,
    NoticeLevel, Request,
};
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use wasm_bindgen_futures::spawn_local;

/// Something the bridge wants the person to know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notice {
    /// How loud.
    pub(crate) level: NoticeLevel,
    /// In words.
    pub(crate) text: String,
    /// In detail, as the bridge says it in English.
    pub(crate) detail: Option<String>,
}

/// The menu of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Menu {
    /// Where it is.
    pub(crate) conversation: ConversationId,
    /// Which message.
    pub(crate) message: ObjectId,
    /// Where on the screen it was asked for, in pixels.
    pub(crate) at: (f64, f64),
    /// Every emoji is shown at once.
    pub(crate) emoji: bool,
}

/// A question over the page.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Question {
    /// Whom to add, by address.
    AddPerson,
    /// A group of whom.
    NewGroup,
    /// Whom to invite into a conversation.
    Invite(ConversationId),
    /// One's own address.
    Address,
    /// Where to go.
    Palette,
    /// Which keys there are.
    Shortcuts,
    /// Whether to leave a conversation.
    Leave(ConversationId),
    /// The address of a group to join; it may be known already.
    JoinGroup(Option<String>),
    /// Whether to vote for a ban, or for the end of one; with a device, about that one alone.
    Vote(ConversationId, AccountId, Option<DeviceId>, BallotAction),
    /// Whether to remove an account from this device.
    RemoveAccount,
    /// Whether to remove a person, and the conversation with them.
    RemovePerson(AccountId, ConversationId),
    /// Whether a browser is to be let in no longer: its grant, and its name unless it is this one.
    Unpair(String, Option<String>),
    /// Whether a device of the account is to be let in no longer.
    RemoveDevice(DeviceId),
}

/// Everything the page knows. Copied freely: it holds handles.
#[derive(Clone, Copy)]
pub(crate) struct State {
    /// The socket.
    pub(crate) bridge: StoredValue<Bridge, LocalStorage>,
    /// The worker that checks signatures and rules.
    pub(crate) checker: StoredValue<Checker, LocalStorage>,
    /// True once the lists below were read.
    pub(crate) loaded: RwSignal<bool>,
    /// The bridge's accounts.
    pub(crate) accounts: RwSignal<Vec<Account>>,
    /// Those that are not shown and in which something waits to be read or answered.
    pub(crate) news: RwSignal<BTreeSet<LocalAccountId>>,
    /// The one that is shown.
    pub(crate) account_id: RwSignal<Option<LocalAccountId>>,
    /// Its conversations.
    pub(crate) conversations: RwSignal<BTreeMap<ConversationId, ArcRwSignal<Conversation>>>,
    /// The people it knows.
    pub(crate) contacts: RwSignal<BTreeMap<AccountId, Contact>>,
    /// Who asks to talk to it.
    pub(crate) requests: RwSignal<BTreeMap<ConversationId, Request>>,
    /// How people are reached.
    pub(crate) links: RwSignal<BTreeMap<AccountId, LinkState>>,
    /// Who types where, and when that was heard last.
    pub(crate) typing: RwSignal<BTreeMap<ConversationId, BTreeMap<AccountId, i64>>>,
    /// Histories that were opened.
    pub(crate) histories: StoredValue<BTreeMap<ConversationId, History>>,
    /// Where the person is.
    pub(crate) place: RwSignal<Place>,
    /// Where they were before.
    pub(crate) came_from: StoredValue<Place>,
    /// What is asked over the page.
    pub(crate) question: RwSignal<Option<Question>>,
    /// Grows when the list of paired browsers changes.
    pub(crate) pairings: RwSignal<u32>,
    /// Grows when a device of the account came, or was removed.
    pub(crate) devices: RwSignal<u32>,
    /// The message that is answered, by conversation.
    pub(crate) replying: RwSignal<BTreeMap<ConversationId, ObjectId>>,
    /// The own message whose words are in the composer, by conversation.
    pub(crate) editing: RwSignal<BTreeMap<ConversationId, ObjectId>>,
    /// Messages that are deleted in a moment, unless that is taken back.
    pub(crate) deleting: RwSignal<BTreeMap<ObjectId, (LocalAccountId, ConversationId)>>,
    /// Requests that are turned down in a moment, unless that is taken back; with true their senders are blocked.
    pub(crate) refusing: RwSignal<BTreeMap<ConversationId, (LocalAccountId, bool)>>,
    /// The menu that is open.
    pub(crate) menu: RwSignal<Option<Menu>>,
    /// Votes that are not decided, by conversation.
    pub(crate) ballots: RwSignal<BTreeMap<ConversationId, Vec<Ballot>>>,
    /// Grows when a backup was saved or put off.
    pub(crate) backup_asked: RwSignal<u32>,
    /// What the bridge wants to say.
    pub(crate) notices: RwSignal<Vec<Notice>>,
    /// What was just done, for screen readers.
    pub(crate) said: RwSignal<String>,
    /// Every view is made anew when this changes: the language did.
    pub(crate) language: RwSignal<u32>,
    /// Where in the first run the person is, if they are.
    pub(crate) first_run: RwSignal<Option<Step>>,
    /// What the list is searched for.
    pub(crate) search: RwSignal<String>,
    /// What was written and not sent, by conversation.
    pub(crate) drafts: RwSignal<BTreeMap<ConversationId, String>>,
    /// Widths of the panes that can be dragged, in pixels.
    pub(crate) list_width: RwSignal<Option<f64>>,
    /// See [`State::list_width`].
    pub(crate) details_width: RwSignal<Option<f64>>,
}

impl State {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            bridge: StoredValue::new_local(Bridge::new()),
            checker: StoredValue::new_local(Checker::new()),
            loaded: RwSignal::new(false),
            accounts: RwSignal::new(Vec::new()),
            news: RwSignal::default(),
            account_id: RwSignal::new(browser::recall("account").and_then(|id| id.parse().ok())),
            conversations: RwSignal::default(),
            contacts: RwSignal::default(),
            requests: RwSignal::default(),
            links: RwSignal::default(),
            typing: RwSignal::default(),
            histories: StoredValue::new(BTreeMap::new()),
            place: RwSignal::new(Place::here()),
            question: RwSignal::new(None),
            replying: RwSignal::default(),
            editing: RwSignal::default(),
            deleting: RwSignal::default(),
            refusing: RwSignal::default(),
            came_from: StoredValue::new(Place::List),
            pairings: RwSignal::new(0),
            devices: RwSignal::new(0),
            menu: RwSignal::new(None),
            ballots: RwSignal::default(),
            backup_asked: RwSignal::new(0),
            notices: RwSignal::default(),
            said: RwSignal::default(),
            language: RwSignal::new(0),
            first_run: RwSignal::new(None),
            search: RwSignal::default(),
            drafts: RwSignal::new(
                browser::recall("drafts")
                    .and_then(|json| serde_json::from_str(&json).ok())
                    .unwrap_or_default(),
            ),
            list_width: RwSignal::new(browser::recall("width-list").and_then(|w| w.parse().ok())),
            details_width: RwSignal::new(
                browser::recall("width-details").and_then(|w| w.parse().ok()),
            ),
        }
    }

    /// The page's one state.
    pub(crate) fn get() -> Self {
        expect_context::<Self>()
    }

    /// The bridge.
    pub(crate) fn bridge(&self) -> Bridge {
        self.bridge.get_value()
    }

    /// The account that is shown, as it is now.
    pub(crate) fn account(&self) -> Option<Account> {
        let id = self.account_id.get()?;
        self.accounts
            .with(|all| all.iter().find(|a| a.id == id).cloned())
    }

    /// The same, without being told of changes.
    pub(crate) fn account_untracked(&self) -> Option<Account> {
        untrack(|| self.account())
    }

    /// The address of the account that is shown.
    pub(crate) fn me(&self) -> Option<AccountId> {
        self.account().map(|a| a.jami_id)
    }

    /// A conversation, if it is known.
    pub(crate) fn conversation(&self, id: &ConversationId) -> Option<ArcRwSignal<Conversation>> {
        self.conversations.with(|all| all.get(id).cloned())
    }

    /// Looks whether something waits in the accounts that are not shown.
    async fn read_news(&self) {
        let mut news = BTreeSet::new();
        let shown = self.account_id.get_untracked();
        let others = self.accounts.get_untracked().into_iter();
        for account in others.filter(|a| Some(&a.id) != shown.as_ref()) {
            let params = || ConversationListParams {
                account: account.id.clone(),
                before: None,
                limit: None,
            };
            let bridge = self.bridge();
            let (said, asked) = futures_util::join!(
                bridge.call::<ConversationList>(params()),
                bridge.call::<RequestList>(params())
            );
            if said.is_ok_and(|all| all.iter().any(|c| c.unread > 0))
                || asked.is_ok_and(|all| !all.is_empty())
            {
                news.insert(account.id);
            }
        }
        // The person may have gone on to another account meanwhile.
        if let Some(shown) = self.account_id.get_untracked() {
            news.remove(&shown);
        }
        self.news.set(news);
    }

    /// Shows another account.
    pub(crate) fn switch(&self, id: LocalAccountId) {
        if self
            .account_id
            .with_untracked(|now| now.as_ref() == Some(&id))
        {
            return;
        }
        browser::keep("account", id.as_str());
        self.do_all_now();
        self.news.update(|all| all.retain(|other| *other != id));
        self.account_id.set(Some(id));
        self.forget();
        Place::List.go();
        let this = *self;
        spawn_local(async move { this.read_account().await });
    }

    fn forget(&self) {
        self.conversations.update(BTreeMap::clear);
        self.contacts.update(BTreeMap::clear);
        self.requests.update(BTreeMap::clear);
        self.links.update(BTreeMap::clear);
        self.typing.update(BTreeMap::clear);
        self.ballots.update(BTreeMap::clear);
        self.editing.update(BTreeMap::clear);
        self.replying.update(BTreeMap::clear);
        self.histories.update_value(BTreeMap::clear);
    }

    /// Reads the accounts, then everything of the one that is shown.
    pub(crate) async fn read_all(&self) {
        match self
            .bridge()
            .call::<AccountList>(starling_core::api::Nothing {})
            .await
        {
            Ok(accounts) => {
                let keep = self
                    .account_id
                    .get_untracked()
                    .filter(|id| accounts.iter().any(|a| a.id == *id));
                let first = accounts.first().map(|a| a.id.clone());
                self.accounts.set(accounts);
                self.account_id.set(keep.or(first));
            }
            Err(error) => self.report(&error),
        }
        self.read_account().await;
        self.loaded.set(true);
        self.read_news().await;
    }

    /// Reads the lists of the account that is shown.
    async fn read_account(&self) {
        let Some(account) = self.account_id.get_untracked() else {
            return;
        };
        let bridge = self.bridge();
        let params = || AccountParams {
            account: account.clone(),
        };
        let all = || ConversationListParams {
            account: account.clone(),
            before: None,
            limit: None,
        };
        let people = ContactListParams {
            account: account.clone(),
            before: None,
            limit: None,
        };
        let lists = futures_util::join!(
            bridge.call::<ConversationList>(all()),
            bridge.call::<ContactList>(people),
            bridge.call::<RequestList>(all()),
            bridge.call::<LinkList>(params()),
        );
        // The person may have gone on to another account meanwhile.
        if self.account_id.get_untracked().as_ref() != Some(&account) {
            return;
        }
        let (conversations, contacts, requests, links) = lists;
        match conversations {
            Ok(list) => {
                let old = self.conversations.get_untracked();
                let all = list.into_iter().map(|c| match old.get(&c.id) {
                    Some(signal) => {
                        signal.set(c.clone());
                        (c.id, signal.clone())
                    }
                    None => (c.id, ArcRwSignal::new(c)),
                });
                let all = all.collect();
                self.conversations.set(all);
            }
            Err(error) => self.report(&error),
        }
        match contacts {
            Ok(list) => self
                .contacts
                .set(list.into_iter().map(|c| (c.id, c)).collect()),
            Err(error) => self.report(&error),
        }
        match requests {
            Ok(list) => self
                .requests
                .set(list.into_iter().map(|r| (r.conversation, r)).collect()),
            Err(error) => self.report(&error),
        }
        // A bridge that cannot say how people are reached is no reason to complain.
        if let Ok(list) = links {
            self.links
                .set(list.into_iter().map(|l| (l.peer, l)).collect());
        }
        // Histories that are open may have moved on.
        for (_, history) in self.histories.get_value() {
            history.read_newest(*self).await;
        }
    }

    /// Reads the lists of the account that is shown, in its own time.
    pub(crate) fn read_lists(&self) {
        let this = *self;
        spawn_local(async move { this.read_account().await });
    }

    /// Reads one conversation that the list does not have yet.
    pub(crate) async fn fetch_conversation(&self, conversation: ConversationId) {
        if untrack(|| self.conversation(&conversation)).is_some() {
            return;
        }
        let Some(account) = self.account_id.get_untracked() else {
            return;
        };
        if let Ok(found) = self
            .bridge()
            .call::<ConversationGet>(ConversationParams {
                account,
                conversation,
            })
            .await
        {
            self.put(found);
        }
    }

    /// Keeps what was written and not sent, through a reload too.
    pub(crate) fn keep_draft(&self, conversation: ConversationId, text: &str) {
        self.drafts.update(|all| match text.trim().is_empty() {
            true => drop(all.remove(&conversation)),
            false => drop(all.insert(conversation, text.to_owned())),
        });
        let json = self.drafts.with_untracked(|all| {
            if all.is_empty() {
                None
            } else {
                serde_json::to_string(all).ok()
            }
        });
        browser::keep("drafts", &json.unwrap_or_default());
    }

    /// Says that something went wrong.
    pub(crate) fn report(&self, error: &ApiError) {
        self.notify(Notice {
            level: NoticeLevel::Error,
            text: crate::views::error_in_words(error),
            detail: crate::views::error_detail(error),
        });
    }
}

/// The state as the bridge's listener.
pub(crate) struct Ears(pub(crate) State);

impl Listener for Ears {
    fn authenticate(&self) -> Pin<Box<dyn Future<Output = Result<bool, ApiError>>>> {
        Box::pin(keys::open_session())
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        let state = self.0;
        Box::pin(async move { state.read_all().await })
    }

    fn event(&self, event: Event) {
        self.0.apply(event);
    }

    fn connected(&self) {
        for (_, history) in self.0.histories.get_value() {
            history.send_waiting(self.0);
        }
    }
}

/// Starts everything: the state, its context, its connection.
pub(crate) fn start() -> State {
    let state = State::new();
    provide_context(state);
    place::follow(state);
    // Nothing that was decided waits for a page that is gone.
    window_event_listener_untyped("pagehide", move |_| state.do_all_now());
    state.bridge().start(Rc::new(Ears(state)));
    state
}
