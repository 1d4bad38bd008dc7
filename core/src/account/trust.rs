//! Trust: contact requests, and who may connect.

use super::contact::Contact;
use super::fields::{self, RecordError};
use crate::id::{AccountId, ConversationId};
use crate::identity::CertificateChain;
use crate::msgpack::{self, MsgpackError, Value};
use std::collections::BTreeMap;

/// The one service whose requests count.
const SERVICE: &str = "cx.ring";

/// The key of [`TrustRequest::newest_counts`].
const NEWEST_COUNTS: &str = "newestCounts";

/// From this many bytes on the profile of a request is left out: the encrypted value has to
/// fit into 64 KiB (`MAX_TRUST_REQUEST` in the reference: 64000).
pub const MAX_TRUST_PAYLOAD: usize = 64_000;

/// Largest request that is read, in bytes: larger ones do not come out of the DHT.
const MAX_TRUST_REQUEST_LEN: usize = 64 * 1024;

/// Why a value is no contact request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustRequestError {
    /// Not readable msgpack, or too much of it.
    #[error(transparent)]
    Msgpack(#[from] MsgpackError),
    /// Of another service than Jami.
    #[error("a request of another service")]
    OtherService,
    /// The conversation is not named by an id.
    #[error("the request names no conversation that can exist")]
    BadConversation,
}

/// A contact request, or its confirmation: content of an encrypted DHT value
/// of type [`crate::dht::types::TRUST_REQUEST`], at the inbox of each device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRequest {
    /// The one-to-one conversation that is offered. Very old peers offer none.
    pub conversation: Option<ConversationId>,
    /// The sender's profile, vCard text; may be empty.
    pub payload: Vec<u8>,
    /// False asks, true accepts.
    pub confirm: bool,
    /// When the invitation was first issued, 0 when the sender does not say.
    pub invited_ms: u64,
    /// The sender's word that it follows [`Offer::wins`] when two people ask each other at once.
    /// Only Starling knows this key; daemons pass over keys they do not know, and always go over
    /// to the conversation that a contact offers.
    pub newest_counts: bool,
}

/// A conversation of two, as one of the two offered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Which.
    pub conversation: ConversationId,
    /// When, by the clock of who offered it; 0 when unknown.
    pub offered_ms: u64,
}

impl Offer {
    /// Whether this one is used rather than another one between the same two: the newest, and of
    /// two in the same millisecond the greater id. Both sides know both offers, each with the time
    /// that its maker wrote into it, and so agree whatever their clocks say.
    pub fn wins(&self, other: &Self) -> bool {
        (self.offered_ms, self.conversation) > (other.offered_ms, other.conversation)
    }

    /// Whether a contact's offer takes the place of the conversation we have with them.
    ///
    /// `follows` is [`TrustRequest::newest_counts`]. `joined_ms` says when they came into ours, by
    /// their clock, if they did. A daemon that is in ours and offers another one afterwards has lost
    /// ours. One that offers another one before has asked at the same time as we, and goes over to
    /// ours as soon as it hears of it.
    pub fn replaces(&self, ours: &Self, follows: bool, joined_ms: Option<u64>) -> bool {
        if self.conversation == ours.conversation {
            return false;
        }
        if follows {
            return self.wins(ours);
        }
        // Writers of 2023 do not say when; their newer one is to be taken.
        self.offered_ms == 0 || joined_ms.is_some_and(|at| self.offered_ms > at)
    }
}

impl TrustRequest {
    /// The invitation to a conversation. A profile that is too large is left out.
    pub fn invitation(conversation: ConversationId, profile: &[u8], invited_ms: u64) -> Self {
        Self {
            conversation: Some(conversation),
            payload: if profile.len() < MAX_TRUST_PAYLOAD {
                profile.to_vec()
            } else {
                Vec::new()
            },
            confirm: false,
            invited_ms,
            newest_counts: true,
        }
    }

    /// The answer that accepts an invitation.
    pub fn confirmation(conversation: Option<ConversationId>) -> Self {
        Self {
            conversation,
            payload: Vec::new(),
            confirm: true,
            invited_ms: 0,
            newest_counts: false,
        }
    }

    /// Reads the data of a value.
    ///
    /// # Errors
    /// The reason why it is no request to us.
    pub fn decode(data: &[u8]) -> Result<Self, TrustRequestError> {
        let map = msgpack::decode(data, MAX_TRUST_REQUEST_LEN)?;
        if msgpack::get(&map, "service").and_then(Value::as_str) != Some(SERVICE) {
            return Err(TrustRequestError::OtherService);
        }
        let conversation = fields::text(&map, "conversationId");
        Ok(Self {
            conversation: if conversation.is_empty() {
                None
            } else {
                let id = conversation.parse();
                Some(id.map_err(|_| TrustRequestError::BadConversation)?)
            },
            payload: msgpack::get(&map, "payload")
                .and_then(msgpack::bytes)
                .unwrap_or_default()
                .to_vec(),
            confirm: fields::flag(&map, "confirm"),
            invited_ms: fields::number(&map, "invitedMs"),
            newest_counts: fields::flag(&map, NEWEST_COUNTS),
        })
    }

    /// Writes the data of a value.
    pub fn encode(&self) -> Vec<u8> {
        let mut map = msgpack::map([
            ("service", Value::from(SERVICE)),
            (
                "conversationId",
                Value::from(fields::id_text(self.conversation.as_ref())),
            ),
            ("payload", Value::Binary(self.payload.clone())),
            ("confirm", Value::from(self.confirm)),
            ("invitedMs", Value::from(self.invited_ms)),
        ]);
        if let Value::Map(entries) = &mut map
            && self.newest_counts
        {
            entries.push((Value::from(NEWEST_COUNTS), Value::from(true)));
        }
        msgpack::encode(&map)
    }
}

/// A contact request that waits for an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PendingTrustRequest {
    /// SubjectPublicKeyInfo of the device that sent it; empty when it was learned from another
    /// device of ours.
    pub device: Vec<u8>,
    /// The conversation offered.
    pub conversation: Option<ConversationId>,
    /// When it came.
    pub received_ms: u64,
    /// The sender's profile, vCard text.
    pub payload: Vec<u8>,
    /// When the invitation was issued, 0 when unknown.
    pub invited_ms: u64,
}

impl PendingTrustRequest {
    /// When it was made, as far as known: what decides which of two is newer.
    fn made_ms(&self) -> u64 {
        if self.invited_ms == 0 {
            self.received_ms
        } else {
            self.invited_ms
        }
    }

    /// Whether this replaces another request of the same person.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.made_ms() > other.made_ms()
    }

    pub(super) fn from_msgpack(record: &Value) -> Option<Self> {
        record.as_map()?;
        let blob = |key: &str| {
            msgpack::get(record, key)
                .and_then(msgpack::bytes)
                .unwrap_or_default()
                .to_vec()
        };
        Some(Self {
            device: blob("device"),
            conversation: fields::id(record, "conversationId"),
            received_ms: fields::time(record, "received", "receivedMs"),
            payload: blob("payload"),
            invited_ms: fields::number(record, "invitedMs"),
        })
    }

    /// `profile` says whether the payload goes along.
    pub(super) fn to_msgpack(&self, profile: bool) -> Value {
        let device = if self.device.is_empty() {
            Value::Nil
        } else {
            Value::Binary(self.device.clone())
        };
        let payload = if profile {
            self.payload.clone()
        } else {
            Vec::new()
        };
        msgpack::map([
            ("device", device),
            (
                "conversationId",
                Value::from(fields::id_text(self.conversation.as_ref())),
            ),
            ("received", Value::from(self.received_ms / 1000)),
            ("payload", Value::Binary(payload)),
            ("receivedMs", Value::from(self.received_ms)),
            ("invitedMs", Value::from(self.invited_ms)),
        ])
    }
}

/// Reads the `incomingTrustRequests` file.
///
/// # Errors
/// The file is no map of records. Records that cannot be understood are left out.
pub fn decode_pending(
    file: &[u8],
) -> Result<BTreeMap<AccountId, PendingTrustRequest>, RecordError> {
    fields::entries(
        &msgpack::decode(file, fields::MAX_FILE_LEN)?,
        fields::account_key,
        PendingTrustRequest::from_msgpack,
    )
}

/// Writes the `incomingTrustRequests` file.
pub fn encode_pending(pending: &BTreeMap<AccountId, PendingTrustRequest>) -> Vec<u8> {
    msgpack::encode(&Value::Map(
        pending
            .iter()
            .map(|(id, r)| (Value::Binary(id.0.to_vec()), r.to_msgpack(true)))
            .collect(),
    ))
}

/// What a contact request that arrived amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// From someone blocked, or from ourselves: nothing happens.
    Dropped,
    /// A confirmation from someone who is no contact: remembered silently, no one is asked.
    Unasked,
    /// From a contact: they know us, mark them confirmed.
    FromContact {
        /// Whether that is news.
        newly_confirmed: bool,
        /// They asked: answer with a confirmation for the conversation they offer.
        answer: bool,
        /// They accepted: the stored request is no longer to be sent again.
        accepted: bool,
        /// They offer another conversation than the one we know. We invited each other, or
        /// they lost theirs: it is to be cloned.
        other_conversation: Option<ConversationId>,
    },
    /// From a stranger: it waits for an answer.
    Pending,
    /// From a stranger, and not newer than the one that waits already.
    Repeated,
}

/// Decides about a contact request whose sender was verified to be a device of `from`.
pub fn receive_trust_request(
    own: &AccountId,
    from: &AccountId,
    request: &TrustRequest,
    contact: Option<&Contact>,
    waiting: Option<&PendingTrustRequest>,
    now_ms: u64,
) -> Received {
    if from == own || contact.is_some_and(Contact::is_blocked) {
        return Received::Dropped;
    }
    if let Some(contact) = contact.filter(|c| c.is_active()) {
        return Received::FromContact {
            newly_confirmed: !contact.confirmed,
            answer: !request.confirm,
            accepted: request.confirm,
            other_conversation: request
                .conversation
                .filter(|c| contact.conversation != Some(*c)),
        };
    }
    if request.confirm {
        return Received::Unasked;
    }
    let new = PendingTrustRequest {
        received_ms: now_ms,
        invited_ms: request.invited_ms,
        ..PendingTrustRequest::default()
    };
    if waiting.is_some_and(|w| !new.is_newer_than(w)) {
        Received::Repeated
    } else {
        Received::Pending
    }
}

/// What we think of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum TrustStatus {
    /// Nothing.
    #[default]
    Undefined,
    /// May connect.
    Allowed,
    /// May not, whoever vouches for it.
    Banned,
}

/// Whether a peer may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Allowed,
    /// A key of its chain is banned.
    Banned,
    /// No key of its chain is known, and strangers are not let in.
    Stranger,
}

/// What we think of keys: devices, accounts, certificate authorities, each by its key's short id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustStore {
    statuses: BTreeMap<[u8; 20], TrustStatus>,
}

impl TrustStore {
    /// Says what to think of a key.
    pub fn set(&mut self, key: [u8; 20], status: TrustStatus) {
        if status == TrustStatus::Undefined {
            self.statuses.remove(&key);
        } else {
            self.statuses.insert(key, status);
        }
    }

    /// Follows a contact record: contacts are allowed, blocked ones banned, others nothing.
    pub fn set_contact(&mut self, id: &AccountId, contact: &Contact) {
        let status = if contact.is_active() {
            TrustStatus::Allowed
        } else if contact.banned {
            TrustStatus::Banned
        } else {
            TrustStatus::Undefined
        };
        self.set(id.0, status);
    }

    /// What to think of a key.
    pub fn status(&self, key: &[u8; 20]) -> TrustStatus {
        self.statuses.get(key).copied().unwrap_or_default()
    }

    /// Whether the device of this chain may connect. The chain must have been verified:
    /// otherwise it names anyone it likes.
    pub fn permission(&self, chain: &CertificateChain, allow_public: bool) -> Permission {
        let mut allowed = allow_public;
        for certificate in chain.iter() {
            match self.status(&certificate.account_id().0) {
                TrustStatus::Banned => return Permission::Banned,
                TrustStatus::Allowed => allowed = true,
                TrustStatus::Undefined => {}
            }
        }
        if allowed {
            Permission::Allowed
        } else {
            Permission::Stranger
        }
    }
}
