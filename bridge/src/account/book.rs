//! What an account remembers of people and conversations: contacts, requests,
//! conversation records, names. Every change is on the disk before it shows.

use crate::store::state::{State, StateError};
use serde::{Deserialize, Serialize};
use starling_core::api::{ConversationMode, Millis, Request};
use starling_core::id::{AccountId, ConversationId, ObjectId};
use std::collections::BTreeMap;

/// How many requests from strangers are kept; the reference has the same limit
/// (`MAX_TRUST_REQUESTS`, 20, in `contact_list.cpp`) towards other devices only.
pub const MAX_REQUESTS: usize = 200;

/// A person this account knows, or knew.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContactRecord {
    /// When they were added, unix ms; 0 for never.
    pub added: Millis,
    /// When they were removed; active means added later than removed.
    pub removed: Millis,
    /// They accepted, or their request was accepted.
    pub confirmed: bool,
    /// Blocked: only while not active.
    pub banned: bool,
    /// The one-to-one conversation.
    pub conversation: Option<ConversationId>,
    /// Words that go with a request that is not confirmed yet.
    pub greeting: Option<String>,
    /// When the request was first made, unix ms: it stays the same when it is sent again.
    pub invited: Millis,
}

impl ContactRecord {
    /// A contact now.
    pub fn is_active(&self) -> bool {
        self.added > self.removed
    }

    /// Blocked now.
    pub fn is_blocked(&self) -> bool {
        !self.is_active() && self.banned
    }
}

/// A conversation this account is in, joins, or left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConversationRecord {
    /// What kind.
    pub mode: ConversationMode,
    /// When it was made or accepted, unix ms.
    pub created: Millis,
    /// When it was left; 0 for not.
    #[serde(default)]
    pub removed: Millis,
    /// Who may have a copy to clone: the inviter first.
    #[serde(default)]
    pub sources: Vec<AccountId>,
    /// What the invitation said, shown until there is a copy.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The repository is here and valid.
    #[serde(default)]
    pub cloned: bool,
    /// The last message read here.
    #[serde(default)]
    pub read_up_to: Option<ObjectId>,
    /// Why no copy is fetched any more, in words: every source offers what breaks the rules.
    #[serde(default)]
    pub refused: Option<String>,
}

impl ConversationRecord {
    /// In the list now.
    pub fn is_active(&self) -> bool {
        self.removed < self.created || self.removed == 0
    }
}

/// What a person says of themselves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    /// Their name.
    pub display_name: String,
    /// A `data:` URL.
    pub avatar: Option<String>,
}

/// A declined request, so that it does not come again by itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Declined {
    at: Millis,
}

/// The book of one account. Owned by its actor.
pub struct Book {
    state: State,
    contacts: BTreeMap<AccountId, ContactRecord>,
    conversations: BTreeMap<ConversationId, ConversationRecord>,
    requests: BTreeMap<ConversationId, Request>,
    declined: BTreeMap<ConversationId, Declined>,
    profiles: BTreeMap<AccountId, Profile>,
}

/// What became of a request that came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// New, or newer than what was there: show it.
    Show(Box<Request>),
    /// Known, declined, from someone blocked, or one too many.
    Ignore(&'static str),
    /// From a contact: no need to ask.
    Accept,
}

fn load<K: std::str::FromStr + Ord, V: serde::de::DeserializeOwned>(
    state: &State,
    area: &str,
) -> Result<BTreeMap<K, V>, StateError> {
    // Keys are written by us; one that is none is passed over rather than losing all.
    Ok(state
        .list::<V>(area)?
        .into_iter()
        .filter_map(|(k, v)| Some((k.parse().ok()?, v)))
        .collect())
}

impl Book {
    /// Reads the book from an account's state.
    pub fn open(state: State) -> Result<Self, StateError> {
        Ok(Self {
            contacts: load(&state, "contact")?,
            conversations: load(&state, "conversation")?,
            requests: load(&state, "request")?,
            declined: load(&state, "declined")?,
            profiles: load(&state, "profile")?,
            state,
        })
    }

    /// Everyone, blocked and removed ones included.
    pub fn contacts(&self) -> &BTreeMap<AccountId, ContactRecord> {
        &self.contacts
    }

    /// One person.
    pub fn contact(&self, id: &AccountId) -> Option<&ContactRecord> {
        self.contacts.get(id)
    }

    /// Writes a contact.
    pub fn set_contact(&mut self, id: AccountId, record: ContactRecord) -> Result<(), StateError> {
        self.state.put("contact", &id.to_hex(), &record)?;
        self.contacts.insert(id, record);
        Ok(())
    }

    /// All conversations, left ones included.
    pub fn conversations(&self) -> &BTreeMap<ConversationId, ConversationRecord> {
        &self.conversations
    }

    /// One conversation that is in the list now.
    pub fn conversation(&self, id: &ConversationId) -> Option<&ConversationRecord> {
        self.conversations.get(id).filter(|c| c.is_active())
    }

    /// Writes a conversation.
    pub fn set_conversation(
        &mut self,
        id: ConversationId,
        record: ConversationRecord,
    ) -> Result<(), StateError> {
        self.state.put("conversation", &id.to_hex(), &record)?;
        self.conversations.insert(id, record);
        Ok(())
    }

    /// Changes a conversation's record, if there is one.
    pub fn change_conversation(
        &mut self,
        id: &ConversationId,
        change: impl FnOnce(&mut ConversationRecord),
    ) -> Result<(), StateError> {
        let Some(mut record) = self.conversations.get(id).cloned() else {
            return Ok(());
        };
        change(&mut record);
        self.set_conversation(*id, record)
    }

    /// Who asks.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.requests.values()
    }

    /// One request.
    pub fn request(&self, id: &ConversationId) -> Option<&Request> {
        self.requests.get(id)
    }

    /// Takes in a request; says what to do with it.
    pub fn incoming(&mut self, request: Request, now: Millis) -> Result<Incoming, StateError> {
        let from = self.contacts.get(&request.from);
        if from.is_some_and(ContactRecord::is_blocked) {
            return Ok(Incoming::Ignore("they are blocked"));
        }
        if self.conversation(&request.conversation).is_some() {
            return Ok(Incoming::Ignore("the conversation is here already"));
        }
        // A clock that runs ahead must not make a request newer than every later answer.
        let sent = request.received_at.min(now + 5 * 60 * 1000);
        if self
            .declined
            .get(&request.conversation)
            .is_some_and(|d| sent <= d.at)
        {
            return Ok(Incoming::Ignore("it was declined"));
        }
        if request.mode == ConversationMode::OneToOne {
            if from.is_some_and(|c| c.is_active() && c.confirmed) {
                return Ok(Incoming::Accept);
            }
            // A newer request of the same person replaces the older one.
            let older: Vec<ConversationId> = self
                .requests
                .values()
                .filter(|r| {
                    r.from == request.from
                        && r.mode == ConversationMode::OneToOne
                        && r.conversation != request.conversation
                })
                .map(|r| r.conversation)
                .collect();
            for id in older {
                self.forget_request(&id)?;
            }
        }
        if self
            .requests
            .get(&request.conversation)
            .is_some_and(|r| r.received_at >= sent)
        {
            return Ok(Incoming::Ignore("it is known"));
        }
        if self.requests.len() >= MAX_REQUESTS && !self.requests.contains_key(&request.conversation)
        {
            return Ok(Incoming::Ignore("too many requests are waiting"));
        }
        let request = Request {
            received_at: sent,
            ..request
        };
        self.state
            .put("request", &request.conversation.to_hex(), &request)?;
        self.requests.insert(request.conversation, request.clone());
        Ok(Incoming::Show(Box::new(request)))
    }

    /// Takes a request out: it was accepted, or its sender blocked.
    pub fn forget_request(&mut self, id: &ConversationId) -> Result<Option<Request>, StateError> {
        self.state.remove("request", &id.to_hex())?;
        Ok(self.requests.remove(id))
    }

    /// Takes a request out and remembers that it was declined.
    pub fn decline(
        &mut self,
        id: &ConversationId,
        now: Millis,
    ) -> Result<Option<Request>, StateError> {
        let declined = Declined { at: now };
        self.state.put("declined", &id.to_hex(), &declined)?;
        self.declined.insert(*id, declined);
        self.forget_request(id)
    }

    /// What is known of a person.
    pub fn profile(&self, id: &AccountId) -> Profile {
        self.profiles.get(id).cloned().unwrap_or_default()
    }

    /// Notes what a person says of themselves; says whether that is news.
    pub fn set_profile(&mut self, id: AccountId, profile: Profile) -> Result<bool, StateError> {
        if self.profiles.get(&id) == Some(&profile) {
            return Ok(false);
        }
        self.state.put("profile", &id.to_hex(), &profile)?;
        self.profiles.insert(id, profile);
        Ok(true)
    }

    /// The account's small records.
    pub fn state(&self) -> &State {
        &self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(dir: &tempfile::TempDir) -> Book {
        Book::open(State::open(&dir.path().join("state.sqlite")).unwrap()).unwrap()
    }

    const BOB: AccountId = AccountId([2; 20]);

    fn request(n: u8, at: Millis) -> Request {
        Request {
            conversation: ConversationId([n; 20]),
            from: BOB,
            display_name: "Bob".into(),
            avatar: None,
            mode: ConversationMode::OneToOne,
            title: None,
            description: None,
            message: None,
            received_at: at,
        }
    }

    #[test]
    fn a_declined_request_comes_again_only_when_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        assert!(matches!(
            book.incoming(request(1, 100), 100).unwrap(),
            Incoming::Show(_)
        ));
        assert_eq!(
            book.incoming(request(1, 100), 101).unwrap(),
            Incoming::Ignore("it is known")
        );
        book.decline(&ConversationId([1; 20]), 200).unwrap();
        assert_eq!(book.requests().count(), 0);
        assert_eq!(
            book.incoming(request(1, 100), 300).unwrap(),
            Incoming::Ignore("it was declined")
        );
        assert!(matches!(
            book.incoming(request(1, 201), 300).unwrap(),
            Incoming::Show(_)
        ));
        drop(book);
        let book = self::book(&dir);
        assert_eq!(book.requests().count(), 1);
    }

    #[test]
    fn a_clock_that_runs_ahead_gains_five_minutes_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        let Incoming::Show(r) = book.incoming(request(1, i64::MAX), 1000).unwrap() else {
            panic!()
        };
        assert_eq!(r.received_at, 301_000);
    }

    #[test]
    fn a_newer_request_of_a_person_replaces_the_older() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        book.incoming(request(1, 1), 1).unwrap();
        book.incoming(request(2, 2), 2).unwrap();
        assert_eq!(
            book.requests().map(|r| r.conversation).collect::<Vec<_>>(),
            [ConversationId([2; 20])]
        );
    }

    #[test]
    fn blocked_people_ask_in_vain_and_contacts_need_not_ask() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        let mut contact = ContactRecord {
            added: 1,
            removed: 2,
            banned: true,
            ..ContactRecord::default()
        };
        book.set_contact(BOB, contact.clone()).unwrap();
        assert_eq!(
            book.incoming(request(1, 1), 1).unwrap(),
            Incoming::Ignore("they are blocked")
        );
        contact.added = 3;
        contact.confirmed = true;
        book.set_contact(BOB, contact).unwrap();
        assert_eq!(book.incoming(request(1, 1), 1).unwrap(), Incoming::Accept);
    }

    #[test]
    fn strangers_cannot_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        for n in 0..MAX_REQUESTS + 20 {
            let mut r = request(0, 1);
            r.conversation.0[..8].copy_from_slice(&n.to_be_bytes());
            r.from.0[..8].copy_from_slice(&n.to_be_bytes());
            book.incoming(r, 1).unwrap();
        }
        assert_eq!(book.requests().count(), MAX_REQUESTS);
    }
}
