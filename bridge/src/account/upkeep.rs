//! What an account does for its conversations when nobody asks: it looks through histories that
//! were taken in under older rules, packs what lies about, and says what is wrong with the disk.

use super::{Account, AccountError, KeepError};
use crate::conversation::keep_up::{Report, Said};
use crate::conversation::repo::{RepoError, damaged_in_words};
use crate::conversation::timeline::TimelineError;
use crate::store::index::IndexError;
use crate::store::objects::{QuarantineError, StoreError};
use crate::store::state::StateError;
use starling_core::api::{Event, NoticeLevel};
use starling_core::id::ConversationId;
use starling_core::swarm::misbehaviour::Fault;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pause after the start before anything is looked after: opening and connecting go first.
const FIRST: Duration = Duration::from_secs(20);

/// How often it is looked whether there is something to pack.
const AGAIN: Duration = Duration::from_secs(600);

/// The same is not said again for so long: a full disk fails many things at once.
const SILENCE: Duration = Duration::from_secs(60);

/// Whether something failed because the disk is full.
pub(super) fn is_full(e: &(dyn Error + 'static)) -> bool {
    let store = |e: &StoreError| match e {
        StoreError::Io { kind, .. } => full(*kind),
        _ => false,
    };
    let repo = |e: &RepoError| match e {
        RepoError::Store(e) => store(e),
        RepoError::State(e) => e.is_full(),
        RepoError::Index(e) => e.is_full(),
        _ => false,
    };
    let keep = |e: &KeepError| match e {
        KeepError::Io { source, .. } => full(source.kind()),
        _ => false,
    };
    if let Some(e) = e.downcast_ref::<AccountError>() {
        return match e {
            AccountError::Repo(e) => repo(e),
            AccountError::State(e) => e.is_full(),
            AccountError::Keep(e) => keep(e),
            AccountError::NoAnswer(_) | AccountError::Api(_) => false,
        };
    }
    if let Some(QuarantineError::Store(e)) = e.downcast_ref() {
        return store(e);
    }
    e.downcast_ref().is_some_and(repo)
        || e.downcast_ref().is_some_and(store)
        || e.downcast_ref().is_some_and(StateError::is_full)
        || e.downcast_ref().is_some_and(keep)
        || e.downcast_ref().is_some_and(IndexError::is_full)
        || e.downcast_ref::<io::Error>()
            .is_some_and(|e| full(e.kind()))
}

fn full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// What a person is told when the disk is full.
pub(super) fn full_text(e: &dyn std::fmt::Display) -> String {
    format!(
        "The disk is full ({e}). What is in the conversations is safe; make room, and Starling goes on where it stopped."
    )
}

impl Account {
    /// Tells the owner something, unless it was told a moment ago.
    pub(super) fn notice(&self, level: NoticeLevel, code: &'static str, text: String) {
        {
            let mut shared = self.shared();
            let now = Instant::now();
            if shared.said.get(code).is_some_and(|at| now - *at < SILENCE) {
                return;
            }
            shared.said.insert(code, now);
        }
        self.emit(Event::BridgeNotice {
            level,
            code: code.into(),
            text,
            account: Some(self.id.clone()),
        });
    }

    /// Says so if something failed because the disk is full.
    pub(super) fn say_if_full(&self, e: &(dyn Error + 'static)) {
        if is_full(e) {
            self.say_full(e);
        }
    }

    /// Says so if something failed because a repository is damaged.
    pub(super) fn say_if_damaged(&self, id: &ConversationId, e: &RepoError) {
        if e.is_damage() {
            tracing::error!(conversation = %id, %e, "a conversation is damaged");
            let text = format!("{} It is the conversation {id}.", damaged_in_words(e));
            self.notice(NoticeLevel::Error, "conversation_broken", text);
        }
    }

    fn say_full(&self, e: &dyn std::fmt::Display) {
        self.notice(NoticeLevel::Error, "disk_full", full_text(e));
    }

    /// Says that the index was made anew.
    pub(super) fn say_index_made(&self) {
        let text = "The index of messages was missing, old or damaged. It was made again from the conversations; nothing is lost.";
        self.notice(NoticeLevel::Warning, "index_rebuilt", text.into());
    }

    /// Says that something panicked. What that was says the log.
    pub(super) fn say_failed(&self) {
        tracing::error!(account = %self.id, "a task panicked");
        let text = "Something failed inside Starling and was begun again; what was saved is safe. Its log says what it was: please report it.";
        self.notice(NoticeLevel::Error, "internal_fault", text.into());
    }

    /// What a conversation says unasked. `new`: it has had no index yet.
    pub(super) fn report_of(&self, id: ConversationId, new: bool) -> Report {
        let account = self.this.clone();
        Arc::new(move |said| {
            let Some(account) = account.upgrade() else {
                return;
            };
            match said {
                Said::IndexMade if new => {}
                Said::IndexMade => account.say_index_made(),
                Said::CaughtUp(changes) => {
                    let Some(conversation) = account.conversation(&id) else {
                        return;
                    };
                    account.clone().spawn(async move {
                        account.show_changes(&conversation, changes, true).await;
                    });
                }
                Said::Behind(TimelineError::Index(e)) if e.is_full() => account.say_full(&e),
                Said::Behind(e) => {
                    let text = format!(
                        "Messages of the conversation {id} cannot be shown at the moment: {e}. They are safe."
                    );
                    account.notice(NoticeLevel::Error, "index_behind", text);
                }
                Said::Invalid(fault) => {
                    account.emit(Event::BridgeNotice {
                        level: NoticeLevel::Warning,
                        code: "conversation_invalid".into(),
                        text: format!(
                            "The history of the conversation {id}, which was taken in earlier, does not follow the rules: the commit {}: {}. It was left as it is, and can only be read.",
                            fault.commit, fault.misbehaviour
                        ),
                        account: Some(account.id.clone()),
                    });
                    account.clone().spawn(account.note_found(id, Some(fault)));
                }
                Said::Valid => account.clone().spawn(account.note_found(id, None)),
                Said::Reopened => account.say_failed(),
                Said::Lost(e) => {
                    let text = format!(
                        "Something failed inside Starling, and the conversation {id} cannot be used until it is started again: {e}. It was left as it is."
                    );
                    account.notice(NoticeLevel::Error, "conversation_broken", text);
                }
            }
        })
    }

    async fn note_found(self: Arc<Self>, id: ConversationId, fault: Option<Box<Fault>>) {
        if let Err(e) = self.found(id, fault).await {
            tracing::warn!(conversation = %id, %e, "what was found of a history could not be kept");
        }
    }

    /// Looks after the conversations, one after the other, in small steps.
    pub(super) async fn look_after(self: Arc<Self>) {
        tokio::time::sleep(FIRST).await;
        loop {
            for conversation in self.conversations() {
                let looked = loop {
                    match conversation.ask(|r| r.look_through()).await {
                        Ok(Ok(true)) => tokio::task::yield_now().await,
                        Ok(Ok(false)) | Err(_) => break Ok(()),
                        Ok(Err(e)) => break Err(e),
                    }
                };
                if let Err(e) = looked {
                    self.say_if_full(&e);
                    tracing::warn!(conversation = %conversation.id, %e, "not looked through");
                }
                let store = conversation.store.clone();
                if let Err(e) = tokio::task::block_in_place(|| store.tidy()) {
                    self.say_if_full(&e);
                    tracing::warn!(conversation = %conversation.id, %e, "not packed");
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_full_disk_is_known_wherever_it_shows() {
        let store = |kind| StoreError::Io {
            path: PathBuf::from("x"),
            kind,
            text: String::new(),
        };
        let full = io::ErrorKind::StorageFull;
        assert!(is_full(&store(full)));
        assert!(is_full(&RepoError::Store(store(full))));
        assert!(is_full(&AccountError::Repo(RepoError::Store(store(full)))));
        assert!(is_full(&QuarantineError::Store(store(full))));
        assert!(is_full(&io::Error::from(full)));
        assert!(!is_full(&store(io::ErrorKind::NotFound)));
        assert!(!is_full(&RepoError::NotForUs));
    }
}
