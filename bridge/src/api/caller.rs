//! Who calls, and what they may see.

use serde_json::Value;
use starling_core::api::method::{Access, MethodInfo};
use starling_core::api::{ApiError, Event, LocalAccountId, Role};
use starling_core::id::ConversationId;
use std::collections::BTreeSet;

/// How a caller showed who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerId {
    /// With the token in the data directory.
    AdminToken,
    /// With the key of a paired browser: the grant's id.
    Grant(String),
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// How it showed who it is.
    pub id: CallerId,
    /// What it may do.
    pub role: Role,
    /// The one account it may see; `None` for all.
    pub account: Option<LocalAccountId>,
    /// What a kiosk may see of it.
    pub conversations: BTreeSet<ConversationId>,
}

impl Caller {
    /// Whoever holds the token in the data directory.
    pub fn admin() -> Self {
        Self {
            id: CallerId::AdminToken,
            role: Role::Owner,
            account: None,
            conversations: BTreeSet::new(),
        }
    }

    /// The grant's id.
    pub fn grant(&self) -> Option<&str> {
        match &self.id {
            CallerId::AdminToken => None,
            CallerId::Grant(id) => Some(id),
        }
    }

    /// Whether an account, or a conversation of it, is within reach.
    pub fn reaches(&self, account: &str, conversation: Option<&str>) -> bool {
        if self.account.as_ref().is_some_and(|a| a.as_str() != account) {
            return false;
        }
        match (self.role, conversation) {
            (Role::Kiosk, Some(c)) => c
                .parse::<ConversationId>()
                .is_ok_and(|c| self.conversations.contains(&c)),
            _ => true,
        }
    }

    /// Whether the call is within role, account and conversations.
    pub(super) fn check(&self, method: &MethodInfo, params: &Value) -> Result<(), ApiError> {
        let refuse = |why: &str| {
            Err(ApiError::not_authorised(format!(
                "This browser may not call {}: {why}.",
                method.name
            )))
        };
        if !method.access.allows(self.role) {
            return refuse(match self.role {
                Role::Viewer => "it was paired to look, not to change",
                Role::Kiosk => "it was paired as a kiosk",
                Role::Owner => "nobody may",
            });
        }
        let text = |name: &str| params.get(name).and_then(Value::as_str);
        match text("account") {
            Some(account) if !self.reaches(account, text("conversation")) => {
                refuse("it was paired for something else")
            }
            // Whoever is bound to an account has to name it, so that nothing slips through.
            None if self.account.is_some()
                && method.access != Access::Anyone
                && method.name != "account.list" =>
            {
                refuse("it has to name its account")
            }
            _ => Ok(()),
        }
    }

    /// Takes out of a list what is beyond reach.
    pub(super) fn filter(&self, method: &str, result: &mut Value) {
        let (Some(account), Some(items)) = (&self.account, result.as_array_mut()) else {
            return;
        };
        let id = |item: &Value| item.get("id").and_then(Value::as_str).map(str::to_owned);
        match method {
            "account.list" => items.retain(|i| id(i).as_deref() == Some(account.as_str())),
            "conversation.list" => {
                items.retain(|i| id(i).is_some_and(|c| self.reaches(account.as_str(), Some(&c))));
            }
            _ => {}
        }
    }

    /// Whether the caller may hear of an event.
    pub fn sees(&self, event: &Event) -> bool {
        let account_fits = match (&self.account, event.account()) {
            (None, _) => true,
            (Some(own), Some(of)) => own == of,
            (Some(_), None) => false,
        };
        account_fits
            && match (self.role, event.conversation()) {
                (Role::Kiosk, Some(c)) => self.conversations.contains(c),
                (Role::Kiosk, None) => matches!(event, Event::AccountState { .. }),
                _ => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use starling_core::api::method::find;

    fn kiosk() -> Caller {
        Caller {
            id: CallerId::Grant("k".into()),
            role: Role::Kiosk,
            account: Some("alice".parse().expect("an id")),
            conversations: BTreeSet::from([ConversationId([1; 20])]),
        }
    }

    fn may(who: &Caller, method: &str, params: Value) -> bool {
        who.check(find(method).expect("a method"), &params).is_ok()
    }

    #[test]
    fn a_kiosk_stays_within_its_account_and_conversations() {
        let k = kiosk();
        let (own, other) = ("01".repeat(20), "02".repeat(20));
        let history = |a: &str, c: &str| json!({"account": a, "conversation": c});
        assert!(may(&k, "conversation.history", history("alice", &own)));
        assert!(!may(&k, "conversation.history", history("alice", &other)));
        assert!(!may(&k, "conversation.history", history("bob", &own)));
        assert!(!may(
            &k,
            "conversation.history",
            json!({"conversation": own})
        ));
        assert!(!may(&k, "conversation.history", history("alice", "01")));
        assert!(may(&k, "message.send", history("alice", &own)));
        assert!(!may(&k, "message.send", history("alice", &other)));
        for no in [
            "account.list",
            "account.export",
            "contact.list",
            "pairing.list",
            "bridge.stop",
        ] {
            assert!(!may(&k, no, json!({"account": "alice"})), "{no}");
        }
        assert!(may(&k, "bridge.info", json!({})));
    }

    #[test]
    fn a_kiosk_sees_only_its_conversations_in_the_list() {
        let mut list = json!([{"id": "01".repeat(20)}, {"id": "02".repeat(20)}]);
        kiosk().filter("conversation.list", &mut list);
        assert_eq!(list, json!([{"id": "01".repeat(20)}]));
    }

    #[test]
    fn a_kiosk_hears_only_of_its_conversations() {
        let typing = |a: &str, c: u8| Event::Typing {
            account: a.parse().expect("an id"),
            conversation: ConversationId([c; 20]),
            id: starling_core::id::AccountId([9; 20]),
            typing: true,
        };
        let k = kiosk();
        assert!(k.sees(&typing("alice", 1)));
        assert!(!k.sees(&typing("alice", 2)));
        assert!(!k.sees(&typing("bob", 1)));
        assert!(Caller::admin().sees(&typing("bob", 1)));
    }

    #[test]
    fn a_viewer_of_one_account_sees_no_other() {
        let v = Caller {
            role: Role::Viewer,
            conversations: BTreeSet::new(),
            ..kiosk()
        };
        assert!(may(&v, "contact.list", json!({"account": "alice"})));
        assert!(!may(&v, "contact.list", json!({"account": "bob"})));
        assert!(!may(&v, "message.send", json!({"account": "alice"})));
        let mut list = json!([{"id": "alice"}, {"id": "bob"}]);
        v.filter("account.list", &mut list);
        assert_eq!(list, json!([{"id": "alice"}]));
    }
}
