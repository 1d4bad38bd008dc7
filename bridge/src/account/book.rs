//! What an account remembers of people and conversations: contacts, requests,
//! conversation records, names. Every change is on the disk before it shows.
//!
//! The records and the rules between them are core's (`starling_core::account`);
//! here they are kept.

use crate::store::state::{State, StateError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use starling_core::account::{
    Contact, ConvInfo, ConversationRequest, MAX_FUTURE_MS, MODE_ONE_TO_ONE, Offer,
};
use starling_core::api::RefusedHistory;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use std::collections::{BTreeMap, BTreeSet};

/// How many open requests of one person are kept (`MAX_TRUST_REQUESTS` in the reference bounds
/// all of them by 20, where it gives them away).
pub const MAX_REQUESTS_EACH: usize = 20;

/// How many open requests are kept. (The reference gives at most 20 to its other
/// devices, `MAX_TRUST_REQUESTS` in `contact_list.cpp`, and keeps any number.)
pub const MAX_REQUESTS: usize = 200;

/// How many declined requests are remembered, so that they are not shown again. Who goes on asking
/// for ever can at worst have an old one shown once more.
pub const MAX_DECLINED: usize = 1000;

/// Most that is kept in mind of what came late, per conversation.
pub const MAX_LATE: usize = 100;

/// What this device alone knows of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Local {
    /// What the invitation said, shown until there is a copy.
    pub metadata: BTreeMap<String, String>,
    /// The repository is here and valid.
    pub cloned: bool,
    /// Why there is no copy, in words: what was offered breaks the rules.
    pub refused: Option<String>,
    /// What others let in and we refuse, until the person has seen it.
    pub refusal: Option<RefusedHistory>,
    /// What of that the person has seen: not shown again.
    pub dismissed: Option<RefusedHistory>,
    /// What was found wrong with the history that is here, after it had been taken in.
    pub invalid: Option<RefusedHistory>,
    /// Members of a public conversation who may let us in; empty for others.
    pub knock: Vec<AccountId>,
    /// How often a device offered what breaks the rules.
    pub strikes: BTreeMap<DeviceId, u8>,
    /// How it was offered last.
    pub offered: Option<Offered>,
    /// The conversation with the same person whose place it takes. What we wrote there moves here.
    pub replaces: Option<ConversationId>,
    /// The commit that says that we left: the repository is kept until somebody has it.
    pub left: Option<ObjectId>,
    /// Messages of others that came when what stands after them had been read: unread until the person looks again.
    pub late: Vec<ObjectId>,
    /// Whose messages were read while they were away: they are told when they come.
    pub owed: BTreeSet<AccountId>,
}

/// An offer of a conversation: a contact request, or an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offered {
    /// Whose: ours, or theirs who asked.
    pub by: AccountId,
    /// When it was made, unix ms, by the clock of who made it; 0: not said. Tells an offer that is
    /// made again from one that is sent again.
    pub at_ms: u64,
    /// See [`TrustRequest::newest_counts`](starling_core::account::TrustRequest).
    pub newest_counts: bool,
}

/// So often a device may offer a history that breaks the rules before it is asked no more for that
/// conversation (`MAX_VALIDATION_FAILURES` in the reference). Another one may be honest.
pub const MAX_STRIKES: u8 = 3;

/// An answer to a contact request: a value in the DHT that expires, so it is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owed {
    /// The conversation that was accepted.
    pub conversation: ConversationId,
    /// When it was sent first, unix ms; 0: never.
    pub sent_ms: u64,
}

/// For so long after the first time a confirmation is sent whenever its receiver comes online: as
/// long as a contact request lives in the DHT.
const CONFIRM_MS: u64 = 7 * 24 * 3600 * 1000;

/// A contact request of ours that is not confirmed yet: the same each time it is sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Outgoing {
    /// Words that go with it.
    pub greeting: Option<String>,
    /// When it was first made, unix ms.
    pub invited_ms: u64,
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

/// What became of a request that came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// New, or newer than what was there: show it. Older ones of the same person are gone.
    Show {
        /// The request as it was kept.
        request: ConversationRequest,
        /// Conversations whose request it replaces: of the same person, or the oldest of a
        /// stranger where there are too many.
        replaces: Vec<ConversationId>,
    },
    /// Nothing to do, and why.
    Ignore(&'static str),
    /// A conversation of two with a contact: no need to ask the person.
    Contact,
}

/// The book of one account. Owned by its actor.
pub struct Book {
    state: State,
    contacts: BTreeMap<AccountId, Contact>,
    conversations: BTreeMap<ConversationId, ConvInfo>,
    local: BTreeMap<ConversationId, Local>,
    requests: BTreeMap<ConversationId, ConversationRequest>,
    profiles: BTreeMap<AccountId, Profile>,
    owed: BTreeMap<AccountId, Owed>,
}

fn load<K: std::str::FromStr + Ord, V: DeserializeOwned>(
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
            local: load(&state, "local")?,
            requests: load(&state, "request")?,
            profiles: load(&state, "profile")?,
            owed: load(&state, "confirmation")?,
            state,
        })
    }

    /// The account's small records.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Everyone, blocked and removed ones included.
    pub fn contacts(&self) -> &BTreeMap<AccountId, Contact> {
        &self.contacts
    }

    /// One person; nothing known of them is an empty record.
    pub fn contact(&self, id: &AccountId) -> Contact {
        self.contacts.get(id).cloned().unwrap_or_default()
    }

    /// Changes a contact by one of core's rules; says whether anything changed.
    pub fn change_contact(
        &mut self,
        id: AccountId,
        change: impl FnOnce(&mut Contact) -> bool,
    ) -> Result<bool, StateError> {
        let mut contact = self.contact(&id);
        if !change(&mut contact) {
            return Ok(false);
        }
        self.state.put("contact", &id.to_hex(), &contact)?;
        self.contacts.insert(id, contact);
        Ok(true)
    }

    /// A person has accepted us; says whether that is news.
    pub fn confirm(&mut self, id: AccountId) -> Result<bool, StateError> {
        if !self.change_contact(id, Contact::confirm)? {
            return Ok(false);
        }
        self.set_outgoing(&id, None)?;
        Ok(true)
    }

    /// The conversation with a person that is used now, as it was offered.
    pub fn offer(&self, id: &AccountId) -> Option<Offer> {
        let conversation = self.contact(id).conversation?;
        self.conversation(&conversation)?;
        Some(Offer {
            conversation,
            offered_ms: self.local(&conversation).offered.map_or(0, |o| o.at_ms),
        })
    }

    /// Notes that a conversation is offered.
    pub fn set_offered(
        &mut self,
        conversation: ConversationId,
        offered: Offered,
    ) -> Result<(), StateError> {
        let mut local = self.local(&conversation);
        local.offered = Some(offered);
        self.set_local(conversation, local)
    }

    /// The time of a new offer of ours to a person: now, and later than whatever was offered between
    /// us before, also by a clock that runs ahead of ours.
    pub fn next_offer_ms(&self, id: &AccountId, now_ms: u64) -> u64 {
        let between = self
            .conversations
            .values()
            .filter(|c| c.mode == MODE_ONE_TO_ONE && c.members.contains(id));
        between
            .filter_map(|c| self.local(&c.id).offered)
            .fold(now_ms, |next, o| next.max(o.at_ms.saturating_add(1)))
    }

    /// Our request to a person, if it is not confirmed.
    pub fn outgoing(&self, id: &AccountId) -> Result<Option<Outgoing>, StateError> {
        self.state.get("outgoing", &id.to_hex())
    }

    /// Keeps our request to a person, or forgets it.
    pub fn set_outgoing(
        &mut self,
        id: &AccountId,
        outgoing: Option<&Outgoing>,
    ) -> Result<(), StateError> {
        match outgoing {
            Some(o) => self.state.put("outgoing", &id.to_hex(), o),
            None => self.state.remove("outgoing", &id.to_hex()),
        }
    }

    /// The confirmations that are to be sent (again) when their receivers come online.
    pub fn owed(&self) -> &BTreeMap<AccountId, Owed> {
        &self.owed
    }

    /// Owes a person a confirmation.
    pub fn owe(&mut self, id: AccountId, conversation: ConversationId) -> Result<(), StateError> {
        self.set_owed(
            id,
            Owed {
                conversation,
                sent_ms: 0,
            },
        )
    }

    fn set_owed(&mut self, id: AccountId, owed: Owed) -> Result<(), StateError> {
        self.state.put("confirmation", &id.to_hex(), &owed)?;
        self.owed.insert(id, owed);
        Ok(())
    }

    /// A confirmation was sent. After a while it is sent no more.
    pub fn confirmation_sent(&mut self, id: AccountId, now_ms: u64) -> Result<(), StateError> {
        match self.owed.get(&id).copied() {
            Some(o) if o.sent_ms == 0 => self.set_owed(
                id,
                Owed {
                    sent_ms: now_ms,
                    ..o
                },
            ),
            Some(o) if now_ms.saturating_sub(o.sent_ms) > CONFIRM_MS => self.owe_nothing(&id),
            _ => Ok(()),
        }
    }

    /// A person gets no confirmation any more.
    pub fn owe_nothing(&mut self, id: &AccountId) -> Result<(), StateError> {
        if self.owed.remove(id).is_some() {
            self.state.remove("confirmation", &id.to_hex())?;
        }
        Ok(())
    }

    /// The conversations in the list now.
    pub fn conversations(&self) -> impl Iterator<Item = &ConvInfo> {
        self.conversations.values().filter(|c| !c.is_removed())
    }

    /// All records, also of conversations that were left.
    pub fn records(&self) -> &BTreeMap<ConversationId, ConvInfo> {
        &self.conversations
    }

    /// One conversation in the list now.
    pub fn conversation(&self, id: &ConversationId) -> Option<&ConvInfo> {
        self.conversations.get(id).filter(|c| !c.is_removed())
    }

    /// Writes a conversation's record.
    pub fn set_conversation(&mut self, info: ConvInfo) -> Result<(), StateError> {
        self.state.put("conversation", &info.id.to_hex(), &info)?;
        self.conversations.insert(info.id, info);
        Ok(())
    }

    /// Changes a conversation's record, if there is one.
    pub fn change_conversation(
        &mut self,
        id: &ConversationId,
        change: impl FnOnce(&mut ConvInfo),
    ) -> Result<(), StateError> {
        let Some(mut info) = self.conversations.get(id).cloned() else {
            return Ok(());
        };
        change(&mut info);
        self.set_conversation(info)
    }

    /// The conversations that gave way to another one that is here, and to which.
    pub fn moves(&self) -> Vec<(ConversationId, ConversationId)> {
        self.local
            .iter()
            .filter(|(id, l)| l.cloned && self.conversation(id).is_some())
            .filter_map(|(id, l)| Some((l.replaces?, *id)))
            .collect()
    }

    /// What this device alone knows of a conversation.
    pub fn local(&self, id: &ConversationId) -> Local {
        self.local.get(id).cloned().unwrap_or_default()
    }

    /// Where somebody is still to be told up to where we have read; from now on they count as told.
    pub fn take_owed(
        &mut self,
        id: &AccountId,
    ) -> Result<Vec<(ConversationId, ObjectId)>, StateError> {
        let owed = self.local.iter().filter(|(_, l)| l.owed.contains(id));
        let owed: Vec<_> = owed.map(|(c, l)| (*c, l.clone())).collect();
        let mut read = Vec::new();
        for (conversation, mut local) in owed {
            local.owed.remove(id);
            self.set_local(conversation, local)?;
            let info = self.conversation(&conversation);
            read.extend(info.and_then(|c| Some((conversation, c.last_displayed?))));
        }
        Ok(read)
    }

    /// Writes what this device alone knows of a conversation.
    pub fn set_local(&mut self, id: ConversationId, local: Local) -> Result<(), StateError> {
        self.state.put("local", &id.to_hex(), &local)?;
        self.local.insert(id, local);
        Ok(())
    }

    /// Requests that wait for an answer.
    pub fn requests(&self) -> impl Iterator<Item = &ConversationRequest> {
        self.requests.values().filter(|r| r.is_open())
    }

    /// Whether a request is known, answered or not.
    pub fn knows_request(&self, id: &ConversationId) -> bool {
        self.requests.contains_key(id)
    }

    /// One request that waits for an answer.
    pub fn request(&self, id: &ConversationId) -> Option<&ConversationRequest> {
        self.requests.get(id).filter(|r| r.is_open())
    }

    /// Takes in a request, `received_ms` as who asks says it; says what to do with it.
    pub fn incoming(
        &mut self,
        mut request: ConversationRequest,
        newest_counts: bool,
        now_ms: u64,
    ) -> Result<Incoming, StateError> {
        let from = self.contact(&request.from);
        if from.is_blocked() {
            return Ok(Incoming::Ignore("they are blocked"));
        }
        if self.conversation(&request.conversation).is_some() {
            return Ok(Incoming::Ignore("the conversation is here already"));
        }
        let one_to_one = request.mode() == MODE_ONE_TO_ONE;
        // Whoever was asked and asks meanwhile has accepted.
        if one_to_one && from.is_active() {
            return Ok(Incoming::Contact);
        }
        // By the clock of who asks: compared with nothing but what the same person said before.
        let offered = Offered {
            by: request.from,
            at_ms: request.received_ms,
            newest_counts,
        };
        request.received_ms = match offered.at_ms {
            0 => now_ms,
            // A clock that runs ahead must not make a request newer than every later answer.
            at => at.min(now_ms.saturating_add(MAX_FUTURE_MS)),
        };
        request.declined_ms = 0;
        let before = self.local(&request.conversation).offered;
        let again = before.is_some_and(|b| b.by == offered.by && offered.at_ms <= b.at_ms);
        match self.requests.get(&request.conversation) {
            Some(r) if r.is_open() => {
                if r.from == request.from && !again {
                    // Declining it answers this as well.
                    self.set_offered(request.conversation, offered)?;
                }
                return Ok(Incoming::Ignore("it is known"));
            }
            Some(_) if again => return Ok(Incoming::Ignore("it was declined")),
            // Somebody else asks: there is only our own clock to go by.
            Some(r) if r.from != request.from && request.received_ms <= r.declined_ms => {
                return Ok(Incoming::Ignore("it was declined"));
            }
            None if again => return Ok(Incoming::Ignore("it was answered")),
            _ => {}
        }
        let same = self.requests().filter(|r| r.from == request.from).count();
        if same >= MAX_REQUESTS_EACH {
            return Ok(Incoming::Ignore(
                "too many requests of that person are waiting",
            ));
        }
        let mut replaces = Vec::new();
        if one_to_one {
            let same_person =
                |r: &&ConversationRequest| r.from == request.from && r.mode() == MODE_ONE_TO_ONE;
            replaces = self
                .requests()
                .filter(same_person)
                .map(|r| r.conversation)
                .collect();
            for id in &replaces {
                self.decline(id, now_ms)?;
            }
        }
        if self.requests().count() >= MAX_REQUESTS {
            // Who wants to shut others out needs no more than many accounts.
            let strangers = self
                .requests()
                .filter(|r| !self.contact(&r.from).is_active());
            let oldest = strangers.min_by_key(|r| r.received_ms);
            let Some(oldest) = oldest.map(|r| r.conversation) else {
                return Ok(Incoming::Ignore("too many requests are waiting"));
            };
            self.forget_request(&oldest)?;
            replaces.push(oldest);
        }
        self.set_offered(request.conversation, offered)?;
        self.keep_request(request.clone())?;
        Ok(Incoming::Show { request, replaces })
    }

    fn keep_request(&mut self, request: ConversationRequest) -> Result<(), StateError> {
        self.state
            .put("request", &request.conversation.to_hex(), &request)?;
        self.requests.insert(request.conversation, request);
        let declined = || self.requests.values().filter(|r| !r.is_open());
        if declined().count() > MAX_DECLINED {
            let oldest = declined().min_by_key(|r| r.declined_ms);
            if let Some(id) = oldest.map(|r| r.conversation) {
                self.forget_request(&id)?;
            }
        }
        Ok(())
    }

    /// Forgets a request as if it had never come, with what its sender said of themselves, unless
    /// they are known for something else.
    fn forget_request(&mut self, id: &ConversationId) -> Result<(), StateError> {
        let request = self.take_request(id)?;
        if !self.conversations.contains_key(id) && self.local.remove(id).is_some() {
            self.state.remove("local", &id.to_hex())?;
        }
        let Some(from) = request.map(|r| r.from) else {
            return Ok(());
        };
        let known = self.contacts.contains_key(&from)
            || self.requests.values().any(|r| r.from == from)
            || self
                .conversations
                .values()
                .any(|c| c.members.contains(&from));
        if !known && self.profiles.remove(&from).is_some() {
            self.state.remove("profile", &from.to_hex())?;
        }
        Ok(())
    }

    /// Takes a request out: it was accepted.
    pub fn take_request(
        &mut self,
        id: &ConversationId,
    ) -> Result<Option<ConversationRequest>, StateError> {
        self.state.remove("request", &id.to_hex())?;
        Ok(self.requests.remove(id))
    }

    /// Declines a request, and remembers that; gives it if it was open.
    pub fn decline(
        &mut self,
        id: &ConversationId,
        now_ms: u64,
    ) -> Result<Option<ConversationRequest>, StateError> {
        let Some(request) = self.request(id).cloned() else {
            return Ok(None);
        };
        self.keep_request(ConversationRequest {
            declined_ms: now_ms.max(request.received_ms),
            ..request.clone()
        })?;
        Ok(Some(request))
    }

    /// What is known of a person.
    pub fn profile(&self, id: &AccountId) -> Profile {
        self.profiles.get(id).cloned().unwrap_or_default()
    }

    /// What is known of all people.
    pub fn profiles(&self) -> &BTreeMap<AccountId, Profile> {
        &self.profiles
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(dir: &tempfile::TempDir) -> Book {
        Book::open(State::open(&dir.path().join("state.sqlite")).unwrap()).unwrap()
    }

    const BOB: AccountId = AccountId([2; 20]);

    fn request(n: u8, at: u64) -> ConversationRequest {
        ConversationRequest {
            conversation: ConversationId([n; 20]),
            from: BOB,
            metadata: BTreeMap::from([("title".into(), "Bob".into())]),
            received_ms: at,
            declined_ms: 0,
        }
    }

    fn shown(i: Incoming) -> ConversationRequest {
        match i {
            Incoming::Show { request, .. } => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_declined_request_comes_again_only_when_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        shown(book.incoming(request(1, 100), false, 100).unwrap());
        assert_eq!(
            book.incoming(request(1, 100), false, 101).unwrap(),
            Incoming::Ignore("it is known")
        );
        book.decline(&ConversationId([1; 20]), 200).unwrap();
        assert_eq!(book.requests().count(), 0);
        assert_eq!(
            book.incoming(request(1, 100), false, 300).unwrap(),
            Incoming::Ignore("it was declined")
        );
        shown(book.incoming(request(1, 201), false, 300).unwrap());
        drop(book);
        let book = self::book(&dir);
        assert_eq!(
            book.requests().cloned().collect::<Vec<_>>(),
            [request(1, 201)]
        );
    }

    #[test]
    fn asking_again_counts_whatever_the_clocks_say() {
        // Their clock is an hour behind ours, or a day ahead.
        for (at, now) in [(100, 3_600_100), (90_000_000, 1000)] {
            let dir = tempfile::tempdir().unwrap();
            let mut book = book(&dir);
            shown(book.incoming(request(1, at), false, now).unwrap());
            // Asked once more before it is answered.
            book.incoming(request(1, at + 1), false, now + 1).unwrap();
            book.decline(&ConversationId([1; 20]), now + 2).unwrap();
            for sent_again in [at, at + 1] {
                assert_eq!(
                    book.incoming(request(1, sent_again), false, now + 50)
                        .unwrap(),
                    Incoming::Ignore("it was declined")
                );
            }
            shown(book.incoming(request(1, at + 2), false, now + 3).unwrap());
            book.take_request(&ConversationId([1; 20])).unwrap();
            assert_eq!(
                book.incoming(request(1, at + 2), false, now + 50).unwrap(),
                Incoming::Ignore("it was answered")
            );
        }
    }

    #[test]
    fn an_offer_of_ours_is_later_than_any_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        assert_eq!(book.next_offer_ms(&BOB, 1000), 1000);
        let id = ConversationId([1; 20]);
        let mut info = ConvInfo::new(id, MODE_ONE_TO_ONE, 1000);
        info.members.insert(BOB);
        book.set_conversation(info).unwrap();
        let offered = Offered {
            by: BOB,
            at_ms: 2000,
            newest_counts: false,
        };
        book.set_offered(id, offered).unwrap();
        assert_eq!(book.next_offer_ms(&BOB, 1000), 2001);
    }

    #[test]
    fn declined_requests_are_not_kept_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        let many = MAX_DECLINED as u64 + 20;
        for n in 0..many {
            let mut bytes = [0; 20];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            let id = ConversationId(bytes);
            let of = ConversationRequest {
                conversation: id,
                ..request(0, 100 + n)
            };
            shown(book.incoming(of, false, 100 + n).unwrap());
            book.decline(&id, 200 + n).unwrap();
        }
        assert_eq!(book.requests.len(), MAX_DECLINED);
        assert_eq!(book.local.len(), MAX_DECLINED);
        // The newest are the ones that are remembered.
        assert_eq!(
            book.requests.values().map(|r| r.declined_ms).min(),
            Some(220)
        );
        drop(book);
        assert_eq!(self::book(&dir).requests.len(), MAX_DECLINED);
    }

    #[test]
    fn a_clock_that_runs_ahead_gains_five_minutes_at_most() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            shown(
                book(&dir)
                    .incoming(request(1, u64::MAX), false, 1000)
                    .unwrap()
            )
            .received_ms,
            301_000
        );
    }

    #[test]
    fn a_newer_request_of_a_person_replaces_the_older() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        book.incoming(request(1, 1), false, 1).unwrap();
        let Incoming::Show { replaces, .. } = book.incoming(request(2, 2), false, 2).unwrap()
        else {
            panic!()
        };
        assert_eq!(replaces, [ConversationId([1; 20])]);
        assert_eq!(
            book.requests().map(|r| r.conversation).collect::<Vec<_>>(),
            [ConversationId([2; 20])]
        );
    }

    #[test]
    fn blocked_people_ask_in_vain_and_contacts_need_not_ask() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        // Whether or not it is known that they have accepted: they ask, so they have.
        for confirmed in [false, true] {
            book.change_contact(BOB, |c| c.add(1, None, confirmed))
                .unwrap();
            assert_eq!(
                book.incoming(request(1, 1), false, 1).unwrap(),
                Incoming::Contact
            );
        }
        book.change_contact(BOB, |c| c.remove(2, true)).unwrap();
        assert_eq!(
            book.incoming(request(1, 1), false, 1).unwrap(),
            Incoming::Ignore("they are blocked")
        );
    }

    #[test]
    fn strangers_cannot_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        let id = |n: usize| {
            let mut id = [0; 20];
            id[..8].copy_from_slice(&n.to_be_bytes());
            id
        };
        let friend = AccountId([9; 20]);
        book.change_contact(friend, |c| c.add(1, None, true))
            .unwrap();
        for n in 0..MAX_REQUESTS + 20 {
            let at = n as u64 + 1;
            let mut r = request(0, at);
            (r.conversation, r.from) = (ConversationId(id(n)), AccountId(id(n)));
            if n == 0 {
                // To a group: no stranger's, and the oldest of all.
                r.from = friend;
                r.metadata.insert("mode".into(), "2".into());
            }
            let from = r.from;
            // The last one gets through as well, in place of the oldest.
            let Incoming::Show { replaces, .. } = book.incoming(r, false, at).unwrap() else {
                panic!("{n} was not shown")
            };
            book.set_profile(
                from,
                Profile {
                    display_name: "x".into(),
                    avatar: None,
                },
            )
            .unwrap();
            let gone = n.checked_sub(MAX_REQUESTS - 1).filter(|gone| *gone > 0);
            let gone: Vec<_> = gone.map(|n| ConversationId(id(n))).into_iter().collect();
            assert_eq!(replaces, gone, "{n}");
        }
        drop(book);
        let book = self::book(&dir);
        assert_eq!(book.requests().count(), MAX_REQUESTS);
        assert_eq!(book.profiles().len(), MAX_REQUESTS);
        assert_eq!(book.local.len(), MAX_REQUESTS);
        assert!(book.request(&ConversationId(id(0))).is_some());
        // Who was forgotten may ask again.
        let mut book = book;
        let mut r = request(0, 5000);
        (r.conversation, r.from) = (ConversationId(id(1)), AccountId(id(1)));
        shown(book.incoming(r, false, 5000).unwrap());
    }
}
