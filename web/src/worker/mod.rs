//! Checking what is shown: a worker runs core's validation over the commits on screen, and asks the browser's own
//! cryptography about the signatures.
//!
//! What the worker needs of the bridge: `GET /objects/{account}/{conversation}?from=<commit>&limit=<n>` with the
//! session's cookie and key, answered as [`starling_core::api::objects`] says: for each of the `n` commits that can be reached
//! from `from` (itself included, newest first): the commit, its parents' commits, the trees and the certificates of
//! both, and the profile where one changed; besides, always, the root commit with its trees and certificates. An
//! object may come twice. Every id is computed anew here; nothing the bridge says about an object is believed.

#[cfg(target_arch = "wasm32")]
mod checker;
#[cfg(target_arch = "wasm32")]
mod run;

#[cfg(target_arch = "wasm32")]
pub(crate) use checker::Checker;
#[cfg(target_arch = "wasm32")]
pub(crate) use run::run;

use serde::{Deserialize, Serialize};
use starling_core::api::{LocalAccountId, Message, MessageType};
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};

/// From the page to the worker: check these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Whose objects.
    pub(crate) account: LocalAccountId,
    /// Of which conversation.
    pub(crate) conversation: ConversationId,
    /// Which commits.
    pub(crate) commits: Vec<ObjectId>,
    /// What the bridge wants to see beside the cookie.
    pub(crate) key: Option<String>,
}

/// From the worker to the page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// About which commit.
    pub(crate) commit: ObjectId,
    /// What was found.
    pub(crate) verdict: Verdict,
}

/// What became of a check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// Not checked yet.
    #[default]
    Pending,
    /// Every rule is kept, every signature is right.
    Valid(Box<Proof>),
    /// A rule is broken.
    Invalid {
        /// The rule's name.
        rule: String,
        /// What it means, in English.
        detail: String,
    },
    /// It could not be checked, and why.
    Unavailable(String),
}

/// What stands behind a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Proof {
    /// The account that vouches for the device.
    pub(crate) account: AccountId,
    /// The device that signed.
    pub(crate) device: DeviceId,
    /// `admins`, `members` or `invited`: where the account stood.
    pub(crate) standing: String,
    /// Until when the device's certificate holds, unix seconds.
    pub(crate) device_until: u64,
    /// The account's certificate and those above it: what each is called.
    pub(crate) chain: Vec<String>,
    /// Bytes that were signed.
    pub(crate) signed_bytes: usize,
    /// The signature in hexadecimal.
    pub(crate) signature: String,
    /// Bits of the device's key, if it is RSA.
    pub(crate) key_bits: Option<u32>,
    /// How many signatures were checked for this.
    pub(crate) signatures: usize,
    /// The commits before it.
    pub(crate) parents: Vec<ObjectId>,
    /// The author's clock, unix seconds.
    pub(crate) time: i64,
    /// The words in the commit, where it is a text.
    pub(crate) body: Option<String>,
}

impl Verdict {
    /// The verdict on what is shown: a valid commit proves nothing about a message that says something else.
    pub(crate) fn about(self, message: &Message) -> Self {
        let Self::Valid(proof) = &self else {
            return self;
        };
        // A later commit changed the words; that one is not this proof's matter.
        let same_words = message.kind != MessageType::Text
            || !message.edits.is_empty()
            || match (&message.body, &proof.body) {
                // The bridge shows as much of a very long text as fits.
                (Some(shown), Some(signed)) if message.cut => signed.starts_with(shown.as_str()),
                (shown, signed) => shown == signed,
            };
        if message.author == proof.account && message.device == proof.device && same_words {
            return self;
        }
        Self::Invalid {
            rule: "ShownOtherwise".to_owned(),
            detail: "what is shown is not what was signed".to_owned(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn proof() -> Proof {
        Proof {
            account: AccountId([1; 20]),
            device: DeviceId([9; 32]),
            standing: "members".into(),
            device_until: 0,
            chain: vec![],
            signed_bytes: 1,
            signature: String::new(),
            key_bits: Some(4096),
            signatures: 2,
            parents: vec![],
            time: 0,
            body: Some("hello".into()),
        }
    }

    fn message(body: &str) -> Message {
        let json = format!(
            r#"{{"id":"{}","author":"{}","device":"{}","sentAt":0,"receivedAt":0,"type":"text/plain","body":"{body}","verified":true}}"#,
            "ab".repeat(20),
            "01".repeat(20),
            "09".repeat(32)
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_proof_is_of_the_words_and_the_people_that_are_shown() {
        let valid = Verdict::Valid(Box::new(proof()));
        assert_eq!(valid.clone().about(&message("hello")), valid);
        assert!(matches!(
            valid.clone().about(&message("hullo")),
            Verdict::Invalid { .. }
        ));
        let mut other = message("hello");
        other.author = AccountId([2; 20]);
        assert!(matches!(
            valid.clone().about(&other),
            Verdict::Invalid { .. }
        ));
        let mut edited = message("hello!");
        edited.edits = serde_json::from_str(&format!(
            r#"[{{"id":"{}","body":"hello","sentAt":0}}]"#,
            "cd".repeat(20)
        ))
        .unwrap();
        assert_eq!(valid.clone().about(&edited), valid);
        // As much of a long text as is shown.
        for (shown, good) in [("hel", true), ("hal", false)] {
            let mut cut = message(shown);
            cut.cut = true;
            assert_eq!(valid.clone().about(&cut) == valid, good);
            cut.cut = false;
            assert_ne!(valid.clone().about(&cut), valid);
        }
    }

    #[test]
    fn orders_and_answers_survive_the_way() {
        let answer = Answer {
            commit: ObjectId([1; 20]),
            verdict: Verdict::Valid(Box::new(proof())),
        };
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    }
}
