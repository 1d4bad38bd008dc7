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
use starling_core::api::{FileInfo, LocalAccountId, MemberChange, Message, MessageType};
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
    /// What the commit shows by itself, where it shows something.
    pub(crate) signed: Option<Box<Message>>,
    /// What it changes of another one, where it does.
    pub(crate) change: Option<Change>,
    /// Whom or what it is about and what is done there, as it says itself.
    pub(crate) subject: Subject,
}

/// Other words for a message, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// The message.
    pub(crate) of: ObjectId,
    /// Its words from now on; empty: it is deleted.
    pub(crate) body: String,
}

/// Two fields of commits about members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// An account or a device.
    pub(crate) uri: Option<String>,
    /// What is done.
    pub(crate) action: Option<String>,
}

impl Subject {
    fn is_of(&self, change: &MemberChange) -> bool {
        let uri = match change.device {
            Some(device) => device.to_hex(),
            None => change.id.to_hex(),
        };
        let action = serde_json::to_value(change.action).ok();
        let action = action.as_ref().and_then(|a| a.as_str());
        // A vote says whom it is about; that it is for a ban is said by the file it adds.
        self.uri == Some(uri) && self.action.as_deref().is_none_or(|own| Some(own) == action)
    }
}

impl Verdict {
    /// The verdict on what is shown: a valid commit proves nothing about a message that says something else.
    /// `edit`: the verdict on the commit that the words are from, where that is another one.
    pub(crate) fn about(self, message: &Message, edit: Option<&Self>) -> Self {
        let Self::Valid(proof) = &self else {
            return self;
        };
        let otherwise = || Self::Invalid {
            rule: "ShownOtherwise".to_owned(),
            detail: "what is shown is not what was signed".to_owned(),
        };
        let Some(signed) = proof
            .signed
            .as_deref()
            .filter(|s| same_but_words(s, message))
        else {
            return otherwise();
        };
        if message
            .member
            .as_ref()
            .is_some_and(|m| !proof.subject.is_of(m))
        {
            return otherwise();
        }
        if message.edited_by.is_none() {
            return match message.edits.is_empty()
                && same_words(message.body.as_deref(), message.cut, signed.body.as_deref())
                && same_file(message.file.as_ref(), signed.file.as_ref())
            {
                true => self,
                false => otherwise(),
            };
        }
        let first = message
            .edits
            .last()
            .is_some_and(|e| same_words(Some(&e.body), e.cut, signed.body.as_deref()));
        if message.kind == MessageType::Text && !first {
            return otherwise();
        }
        let change = match edit {
            Some(Self::Valid(edit)) if edit.account == message.author => edit.change.as_ref(),
            Some(Self::Valid(_)) => None,
            Some(other) => return other.clone(),
            None => return Self::Pending,
        };
        let right = change
            .filter(|c| c.of == message.id)
            .is_some_and(|c| match &message.file {
                // All that can become of a file is that it goes.
                Some(file) => file.file_id.is_empty(),
                None => {
                    let words = message.body.as_deref().unwrap_or_default();
                    same_words(Some(words), message.cut, Some(&c.body))
                }
            });
        if right { self } else { otherwise() }
    }
}

/// Whether two messages are the same but for what an edit may change.
fn same_but_words(signed: &Message, shown: &Message) -> bool {
    signed.id == shown.id
        && signed.author == shown.author
        && signed.device == shown.device
        && signed.sent_at == shown.sent_at
        && signed.kind == shown.kind
        && signed.reply_to == shown.reply_to
        && signed.call == shown.call
        && signed.file.is_some() == shown.file.is_some()
        && (signed.member.is_none() || shown.member.is_some())
}

/// Whether these words were signed. Of a very long text the bridge shows as much as fits.
fn same_words(shown: Option<&str>, cut: bool, signed: Option<&str>) -> bool {
    match (shown, signed) {
        (Some(shown), Some(signed)) if cut => signed.starts_with(shown),
        _ => shown == signed,
    }
}

/// Whether two files are the same; whether it is here, the commit does not know.
fn same_file(one: Option<&FileInfo>, other: Option<&FileInfo>) -> bool {
    let said = |f: &FileInfo| (f.file_id.clone(), f.name.clone(), f.size, f.sha3sum.clone());
    one.map(said) == other.map(said)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use starling_core::api::MemberAction;

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
            signed: Some(Box::new(message("hello"))),
            change: None,
            subject: Subject::default(),
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

    fn is_refused(verdict: Verdict) {
        assert!(
            matches!(&verdict, Verdict::Invalid { rule, .. } if rule == "ShownOtherwise"),
            "{verdict:?}"
        );
    }

    #[test]
    fn a_proof_is_of_the_words_and_the_people_that_are_shown() {
        let valid = Verdict::Valid(Box::new(proof()));
        assert_eq!(valid.clone().about(&message("hello"), None), valid);
        is_refused(valid.clone().about(&message("hullo"), None));
        let mut other = message("hello");
        other.author = AccountId([2; 20]);
        is_refused(valid.clone().about(&other, None));
        let mut answer = message("hello");
        answer.reply_to = Some(ObjectId([7; 20]));
        is_refused(valid.clone().about(&answer, None));
        // As much of a long text as is shown.
        for (shown, good) in [("hel", true), ("hal", false)] {
            let mut cut = message(shown);
            cut.cut = true;
            assert_eq!(valid.clone().about(&cut, None) == valid, good);
            cut.cut = false;
            is_refused(valid.clone().about(&cut, None));
        }
        let mut nothing = proof();
        nothing.signed = None;
        is_refused(Verdict::Valid(Box::new(nothing)).about(&message("hello"), None));
    }

    /// A message whose words were changed, and the proof of the commit that did it.
    fn edited(body: &str) -> (Message, Proof) {
        let mut shown = message(body);
        let edit = ObjectId([0xcd; 20]);
        shown.edited_by = Some(edit);
        shown.edits = serde_json::from_str(&format!(
            r#"[{{"id":"{}","body":"hello","sentAt":0}}]"#,
            "ab".repeat(20)
        ))
        .unwrap();
        let mut by = proof();
        by.signed = None;
        by.change = Some(Change {
            of: shown.id,
            body: "hello!".into(),
        });
        (shown, by)
    }

    #[test]
    fn changed_words_are_as_good_as_the_commit_that_changed_them() {
        let valid = Verdict::Valid(Box::new(proof()));
        let (shown, by) = edited("hello!");
        let edit = Verdict::Valid(Box::new(by.clone()));
        assert_eq!(valid.clone().about(&shown, Some(&edit)), valid);
        // Nobody looked at it yet, or it is none.
        assert_eq!(valid.clone().about(&shown, None), Verdict::Pending);
        assert_eq!(
            valid.clone().about(&shown, Some(&Verdict::Pending)),
            Verdict::Pending
        );
        let broken = Verdict::Invalid {
            rule: "EditOfForeign".into(),
            detail: String::new(),
        };
        assert_eq!(valid.clone().about(&shown, Some(&broken)), broken);
        // Words that were invented, an edit of something else, or by somebody else.
        is_refused(valid.clone().about(&edited("I owe you").0, Some(&edit)));
        let mut foreign = by.clone();
        foreign.change = Some(Change {
            of: ObjectId([1; 20]),
            body: "hello!".into(),
        });
        is_refused(
            valid
                .clone()
                .about(&shown, Some(&Verdict::Valid(Box::new(foreign)))),
        );
        let mut theirs = by;
        theirs.account = AccountId([2; 20]);
        is_refused(
            valid
                .clone()
                .about(&shown, Some(&Verdict::Valid(Box::new(theirs)))),
        );
        // Edits that nothing stands behind, and first words that were others.
        let (mut unnamed, _) = edited("hello!");
        unnamed.edited_by = None;
        is_refused(valid.clone().about(&unnamed, Some(&edit)));
        let (mut before, _) = edited("hello!");
        before.edits.iter_mut().for_each(|e| e.body = "hell".into());
        is_refused(valid.clone().about(&before, Some(&edit)));
    }

    #[test]
    fn a_vote_is_about_whom_it_says() {
        let vote = |id: u8| {
            let mut shown = message("");
            shown.body = None;
            shown.kind = MessageType::Vote;
            shown.member = Some(MemberChange {
                id: AccountId([id; 20]),
                device: None,
                action: MemberAction::Ban,
            });
            shown
        };
        let mut signed = vote(5);
        signed.member = None;
        let mut by = proof();
        by.signed = Some(Box::new(signed));
        by.subject.uri = Some("05".repeat(20));
        let valid = Verdict::Valid(Box::new(by.clone()));
        assert_eq!(valid.clone().about(&vote(5), None), valid);
        is_refused(valid.about(&vote(6), None));
        by.subject.action = Some("unban".into());
        is_refused(Verdict::Valid(Box::new(by)).about(&vote(5), None));
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
