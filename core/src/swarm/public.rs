//! Public conversations (mode 3): how somebody comes in whom nobody invited.
//!
//! Daemons know the mode and have no way in: to them a join is valid only after an `invited/`
//! file. So nothing about the history is new. Who wants to come in knows an [`Address`] (the
//! conversation and some members to ask), and *knocks*: an encrypted, signed value in the DHT
//! inbox of a member's device ([`Knock`]), where contact requests lie too. A member's device
//! whose [`answer`] is to let them in commits a plain `add`, as for anybody it invites; from then
//! on they are invited like anybody else: they may connect, clone, and write their join. To
//! daemons in the group this is an invitation that was accepted.
//!
//! A knock names no mode and is answered by what the *member's own* history says: nothing of a
//! conversation that is not public is obtainable by knocking, and silence tells nobody whether
//! the conversation exists. Whoever is banned in any form is not let in. Letting in writes two
//! commits for everybody, so each member's device lets in only so many ([`Doorkeeper`]).
//!
//! Current daemons pass a knock over: its value names a service that is not theirs.

use super::members::Role;
use super::message::ConversationMode;
use crate::id::{AccountId, ConversationId};
use crate::msgpack::{self, Value};
use core::fmt;
use core::str::FromStr;
use std::collections::BTreeMap;

/// Most members that an address names; our choice.
pub const MAX_ASKED: usize = 8;

/// Longest address that is read, bytes: scheme, conversation and [`MAX_ASKED`] members.
const MAX_ADDRESS: usize = 512;

/// How an address begins: the scheme under which Jami's clients name conversations.
const SCHEME: &str = "swarm:";

/// Before the members to ask.
const ASK: &str = "?ask=";

/// Where a public conversation is found: `swarm:<conversation>?ask=<member>[,<member>…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Its id.
    pub conversation: ConversationId,
    /// Members who may be asked, best first: one to [`MAX_ASKED`].
    pub ask: Vec<AccountId>,
}

/// A text that is no address of a public conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// Something else.
    #[error("this is no address of a public conversation (swarm:…?ask=…)")]
    NotAnAddress,
    /// Only the conversation, without anybody who could let one in.
    #[error("the address names nobody who could let you in; ask for a whole one (swarm:…?ask=…)")]
    NobodyToAsk,
    /// More than [`MAX_ASKED`].
    #[error("the address names more than {MAX_ASKED} people")]
    TooManyToAsk,
}

impl FromStr for Address {
    type Err = BadAddress;

    /// Reads an address, with white space around it and in any case.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let text = text.trim();
        if text.len() > MAX_ADDRESS {
            return Err(BadAddress::NotAnAddress);
        }
        let text = text.to_ascii_lowercase();
        let rest = text.strip_prefix(SCHEME).ok_or(BadAddress::NotAnAddress)?;
        let rest = rest.trim_start_matches('/');
        let (conversation, members) = rest.split_once(ASK).unwrap_or((rest, ""));
        let conversation = conversation
            .trim_end_matches('/')
            .parse()
            .map_err(|_| BadAddress::NotAnAddress)?;
        let mut ask: Vec<AccountId> = Vec::new();
        for member in members.split(',').filter(|m| !m.is_empty()) {
            let member = member.parse().map_err(|_| BadAddress::NotAnAddress)?;
            if ask.contains(&member) {
                continue;
            }
            if ask.len() >= MAX_ASKED {
                return Err(BadAddress::TooManyToAsk);
            }
            ask.push(member);
        }
        if ask.is_empty() {
            return Err(BadAddress::NobodyToAsk);
        }
        Ok(Self { conversation, ask })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<String> = self.ask.iter().map(AccountId::to_hex).collect();
        write!(f, "{SCHEME}{}{ASK}{}", self.conversation, members.join(","))
    }
}

/// The service a knock is for, where a contact request says `cx.ring`: daemons take only that.
const SERVICE: &str = "starling.knock";

/// Largest knock that is read, bytes; ours has about 100.
const MAX_KNOCK: usize = 1024;

/// "Let me in": content of an encrypted DHT value of type
/// [`crate::dht::types::TRUST_REQUEST`] at the inbox of a member's device. Who knocks is who
/// signed the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knock {
    /// The public conversation.
    pub conversation: ConversationId,
    /// When, by the clock of who knocks, unix ms: of two, the one that was answered counts no more.
    pub at_ms: u64,
}

impl Knock {
    /// Reads the data of a value; `None` when it is no knock.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let map = msgpack::decode(data, MAX_KNOCK).ok()?;
        let text = |key: &str| msgpack::get(&map, key).and_then(Value::as_str);
        if text("service") != Some(SERVICE) {
            return None;
        }
        Some(Self {
            conversation: text("conversationId")?.parse().ok()?,
            at_ms: msgpack::get(&map, "at").and_then(Value::as_u64)?,
        })
    }

    /// Writes the data of a value.
    pub fn encode(&self) -> Vec<u8> {
        msgpack::encode(&msgpack::map([
            ("service", Value::from(SERVICE)),
            ("conversationId", Value::from(self.conversation.to_hex())),
            ("at", Value::from(self.at_ms)),
        ]))
    }
}

/// What a member's device does about a knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Writes an `add` and connects.
    LetIn,
    /// Connects: they are invited, or members, already.
    Connect,
    /// Nothing: no word to anybody.
    Silence,
}

/// Decides about a knock. `role` is what who knocks is in the conversation, `own` what we are.
pub fn answer(mode: ConversationMode, own: Option<Role>, role: Option<Role>) -> Answer {
    if mode != ConversationMode::Public || !matches!(own, Some(Role::Admin | Role::Member)) {
        return Answer::Silence;
    }
    match role {
        Some(Role::Banned) => Answer::Silence,
        Some(Role::Admin | Role::Member | Role::Invited) => Answer::Connect,
        Some(Role::Left) | None => Answer::LetIn,
    }
}

/// Strangers that one device lets into one conversation at once; our choice.
pub const BURST: u32 = 20;

/// After that one more in this time, ms: 120 an hour.
pub const ONE_MORE_MS: u64 = 30_000;

/// The same person again (they left meanwhile) after this time, ms.
pub const AGAIN_MS: u64 = 600_000;

/// People whose last time is remembered. All of them came in within [`AGAIN_MS`], so that honest
/// clocks never have more.
const MAX_REMEMBERED: usize = 1000;

/// Counts whom a device lets into one conversation, so that a crowd cannot fill its history.
#[derive(Debug, Clone)]
pub struct Doorkeeper {
    left: u32,
    counted_ms: u64,
    last: BTreeMap<AccountId, u64>,
}

impl Default for Doorkeeper {
    fn default() -> Self {
        Self {
            left: BURST,
            counted_ms: 0,
            last: BTreeMap::new(),
        }
    }
}

impl Doorkeeper {
    /// Whether one more may be let in now; if so, they are counted. `now_ms` is any clock that
    /// does not run backwards.
    pub fn admit(&mut self, who: AccountId, now_ms: u64) -> bool {
        let passed = now_ms.saturating_sub(self.counted_ms);
        let more = passed / ONE_MORE_MS;
        self.left = self
            .left
            .saturating_add(u32::try_from(more).unwrap_or(u32::MAX))
            .min(BURST);
        self.counted_ms = if self.left == BURST {
            now_ms
        } else {
            self.counted_ms
                .saturating_add(more.saturating_mul(ONE_MORE_MS))
        };
        self.last
            .retain(|_, at| now_ms.saturating_sub(*at) < AGAIN_MS);
        if self.left == 0 || self.last.contains_key(&who) || self.last.len() >= MAX_REMEMBERED {
            return false;
        }
        self.left = self.left.saturating_sub(1);
        self.last.insert(who, now_ms);
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        let address = Address {
            conversation: ConversationId([1; 20]),
            ask: vec![AccountId([2; 20]), AccountId([3; 20])],
        };
        let text = address.to_string();
        assert_eq!(
            text,
            format!(
                "swarm:{}?ask={},{}",
                "01".repeat(20),
                "02".repeat(20),
                "03".repeat(20)
            )
        );
        for text in [
            text.clone(),
            format!(" {text}\n"),
            text.to_uppercase(),
            text.replace("swarm:", "swarm://"),
            format!("{text},{}", "02".repeat(20)),
        ] {
            assert_eq!(text.parse(), Ok(address.clone()), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_what_it_lacks() {
        let conversation = "01".repeat(20);
        let many: Vec<String> = (0..9u8).map(|n| hex::encode([n; 20])).collect();
        for (text, why) in [
            (String::new(), BadAddress::NotAnAddress),
            (conversation.clone(), BadAddress::NotAnAddress),
            ("swarm:12".into(), BadAddress::NotAnAddress),
            (format!("swarm:{conversation}"), BadAddress::NobodyToAsk),
            (
                format!("swarm:{conversation}?ask="),
                BadAddress::NobodyToAsk,
            ),
            (
                format!("swarm:{conversation}?ask=x"),
                BadAddress::NotAnAddress,
            ),
            (
                format!("swarm:{conversation}?ask={}", many.join(",")),
                BadAddress::TooManyToAsk,
            ),
            (
                "swarm:".to_owned() + &"0".repeat(1000),
                BadAddress::NotAnAddress,
            ),
        ] {
            assert_eq!(text.parse::<Address>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_knock_is_no_contact_request_and_the_other_way_round() {
        use crate::account::{TrustRequest, TrustRequestError};
        let knock = Knock {
            conversation: ConversationId([7; 20]),
            at_ms: 1_800_000_000_123,
        };
        assert_eq!(Knock::decode(&knock.encode()), Some(knock));
        assert_eq!(
            TrustRequest::decode(&knock.encode()),
            Err(TrustRequestError::OtherService)
        );
        let request = TrustRequest::invitation(knock.conversation, b"", 1);
        assert_eq!(Knock::decode(&request.encode()), None);
    }

    #[test]
    fn only_public_conversations_open_and_never_to_the_banned() {
        use ConversationMode::*;
        let own = Some(Role::Member);
        for mode in [OneToOne, AdminInvitesOnly, InvitesOnly, Document] {
            for role in [None, Some(Role::Invited), Some(Role::Left), own] {
                assert_eq!(answer(mode, own, role), Answer::Silence, "{mode:?}");
            }
        }
        for (role, then) in [
            (None, Answer::LetIn),
            (Some(Role::Left), Answer::LetIn),
            (Some(Role::Invited), Answer::Connect),
            (Some(Role::Member), Answer::Connect),
            (Some(Role::Admin), Answer::Connect),
            (Some(Role::Banned), Answer::Silence),
        ] {
            assert_eq!(answer(Public, own, role), then, "{role:?}");
        }
        for own in [
            None,
            Some(Role::Invited),
            Some(Role::Banned),
            Some(Role::Left),
        ] {
            assert_eq!(answer(Public, own, None), Answer::Silence, "{own:?}");
        }
    }

    #[test]
    fn a_crowd_waits_at_the_door() {
        let who = |n: u32| {
            let mut id = [0; 20];
            id[..4].copy_from_slice(&n.to_be_bytes());
            AccountId(id)
        };
        let mut door = Doorkeeper::default();
        let start = 1_800_000_000_000;
        let at_once = (0..1000).filter(|n| door.admit(who(*n), start)).count();
        assert_eq!(at_once, BURST as usize);
        assert!(!door.admit(who(5000), start + ONE_MORE_MS - 1));
        assert!(door.admit(who(5000), start + ONE_MORE_MS));
        assert!(!door.admit(who(5001), start + ONE_MORE_MS));
        // Who was let in and left again is not let in at once.
        let mut door = Doorkeeper::default();
        assert!(door.admit(who(1), start) && !door.admit(who(1), start + AGAIN_MS - 1));
        assert!(door.admit(who(1), start + AGAIN_MS));
        // A day of knocking by ever new people.
        let mut door = Doorkeeper::default();
        let day = 86_400_000;
        let let_in = (0..day / 1000)
            .filter(|s| door.admit(who(u32::try_from(*s).unwrap()), start + s * 1000))
            .count() as u64;
        assert!(let_in <= u64::from(BURST) + day / ONE_MORE_MS, "{let_in}");
        assert!(door.last.len() <= MAX_REMEMBERED);
    }

    proptest! {
        #[test]
        fn any_text_and_any_bytes_are_answered(text in "\\PC{0,80}", bytes: Vec<u8>) {
            let _ = text.parse::<Address>();
            let _ = Knock::decode(&bytes);
        }
    }
}
