//! Conversations: one actor each, and what travels between members.
//!
//! [`repo`] is the actor's state, [`votes`] its part in bans, `showing` what is asked of it,
//! [`judging`] what is done beside it before something fetched gets there; [`timeline`] what a
//! reader sees, [`folding`] one message of that, and [`keep_up`] how it follows the repository;
//! [`wire`] git over a channel; [`engines`] whom to be connected with, whom to tell and from whom to
//! fetch.

pub mod engines;
pub mod folding;
pub mod judging;
pub mod keep_up;
pub mod making;
mod names;
pub mod repo;
mod showing;
pub mod timeline;
mod unaccepted;
pub mod votes;
pub mod wire;

use crate::actor::{Actor, NoAnswer};
use crate::store::index::Index;
use crate::store::objects::{ObjectStore, StoreError};
use crate::store::state::State;
use engines::Engines;
use keep_up::{Report, Said};
use repo::{Me, Repo, RepoError, Shared, Snapshot};
use starling_core::id::{AccountId, ConversationId, ObjectId};
use starling_core::swarm::message::ConversationMode;
use starling_core::swarm::validate::Limits;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The index of an account's conversations, beside its state.
pub const INDEX: &str = "index.sqlite";

/// How long readers of a repository that is closed may take to finish: a page of history, or a bundle.
const CLOSING: Duration = Duration::from_secs(10);

/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(5);

/// The way to a conversation. Cheap to clone.
#[derive(Clone)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Its objects: reading needs no turn.
    pub store: Arc<ObjectStore>,
    /// Who is connected with whom, and how news travel.
    pub engines: Engines,
    /// Cancelled when it is closed: whoever reads it for long watches this.
    pub ended: CancellationToken,
    /// What a history that is fetched may ask of us.
    pub limits: Limits,
    repo: Actor<Repo>,
    shared: Shared,
}

/// Where an account keeps a conversation's repository.
pub fn path(account_dir: &Path, id: &ConversationId) -> PathBuf {
    account_dir.join("conversations").join(id.to_hex())
}

fn io(path: &Path, e: &std::io::Error) -> RepoError {
    RepoError::Store(StoreError::Io {
        path: path.into(),
        kind: e.kind(),
        text: e.to_string(),
    })
}

/// Gives a finished repository its name, for good: the directory that holds it is flushed.
pub fn settle(from: &Path, to: &Path) -> Result<(), RepoError> {
    std::fs::rename(from, to).map_err(|e| io(to, &e))?;
    if let Some(parent) = to.parent() {
        std::fs::File::open(parent)
            .and_then(|d| d.sync_all())
            .map_err(|e| io(parent, &e))?;
    }
    Ok(())
}

impl Conversation {
    /// Opens a conversation that is on the disk, with the index beside it. Not for an async thread.
    pub fn open(
        account_dir: &Path,
        id: ConversationId,
        state: State,
        me: Me,
    ) -> Result<Self, RepoError> {
        let index = Index::open(&account_dir.join(INDEX))?;
        let report: Report = Arc::new(|said| match said {
            Said::Behind(e) => tracing::error!(%e, "the index is behind"),
            other => tracing::info!(?other, "a conversation was opened"),
        });
        Self::open_with(account_dir, id, state, me, (index, report), false)
    }

    /// Opens a conversation that is on the disk. Where the index is up to it, its repository is
    /// left alone until it is needed. `checked`: everything in it was just validated. Not for an
    /// async thread.
    pub fn open_with(
        account_dir: &Path,
        id: ConversationId,
        state: State,
        me: Me,
        (index, report): (Index, Report),
        checked: bool,
    ) -> Result<Self, RepoError> {
        let path = path(account_dir, &id);
        let indexed = index.head(&id).ok().flatten();
        let store = match indexed.and_then(|head| ObjectStore::rest(&path, head)) {
            Some(resting) => resting,
            None => ObjectStore::open(&path)?,
        };
        let store = Arc::new(store);
        let (account, device) = (me.identity.account_id(), me.identity.device_id());
        let repo = Repo::open(id, store.clone(), state, me, (index, report), checked)?;
        Ok(Self {
            id,
            store,
            engines: Engines::new(id, account, device, repo.head()),
            ended: CancellationToken::new(),
            limits: Limits::default(),
            shared: repo.shared(),
            repo: Actor::start(repo, Repo::reopen),
        })
    }

    /// Makes a conversation, with the index beside it: its first commit, on the disk, under its name.
    pub fn create(
        account_dir: &Path,
        state: State,
        me: Me,
        mode: ConversationMode,
        invited: Option<AccountId>,
        now_unix: u64,
    ) -> Result<Self, RepoError> {
        let (id, _) = Self::found(account_dir, &me, mode, invited, &BTreeSet::new(), now_unix)?;
        Self::open(account_dir, id, state, me)
    }

    /// Makes a conversation: its first commit, on the disk, under its name. It is not open yet. It is none of those that
    /// were `known` before. Says of which second it is, as well.
    pub fn found(
        account_dir: &Path,
        me: &Me,
        mode: ConversationMode,
        invited: Option<AccountId>,
        known: &BTreeSet<ConversationId>,
        now_unix: u64,
    ) -> Result<(ConversationId, u64), RepoError> {
        let parent = account_dir.join("conversations");
        std::fs::create_dir_all(&parent).map_err(|e| io(&parent, &e))?;
        // Two conversations made in one second would be the same one: the later one is a second older.
        for now in now_unix.. {
            let first = Repo::initial(me, mode, invited, now)?;
            let id = ConversationId::from(first.commit);
            let target = path(account_dir, &id);
            if target.exists() || known.contains(&id) {
                continue;
            }
            let staging = parent.join(format!("{id}.new"));
            // Left over from a crash: nobody has heard of it.
            let _ = std::fs::remove_dir_all(&staging);
            {
                let store = ObjectStore::create(&staging)?;
                let objects: Vec<_> = first
                    .objects
                    .iter()
                    .map(|o| (o.kind, o.data.as_slice()))
                    .collect();
                store.commit(&objects, None, first.commit)?;
            }
            settle(&staging, &target)?;
            return Ok((id, now));
        }
        Err(RepoError::NotForUs)
    }

    /// Does something to the conversation, in turn.
    pub async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Repo) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        self.repo
            .ask(|repo| {
                repo.mend();
                job(repo)
            })
            .await
    }

    /// Ends the actor and waits until nobody reads the repository any more, so that it can be
    /// opened again or erased.
    pub async fn close(self) {
        self.ended.cancel();
        self.repo.end().await;
        let store = Arc::downgrade(&self.store);
        tokio::task::block_in_place(|| drop(self));
        let waited = tokio::time::timeout(CLOSING, async {
            while store.strong_count() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        });
        if waited.await.is_err() {
            tracing::warn!("a repository is still being read");
        }
    }

    /// Who is in it and where it stands, as of now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The newest commit.
    pub fn head(&self) -> ObjectId {
        self.snapshot().head
    }
}
