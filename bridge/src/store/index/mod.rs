//! The index of an account's conversations: the order of their commits, who wrote
//! them, what belongs to which message, and the words. What a reader sees is found
//! in it without walking a repository.
//!
//! Everything in here is derived. When the file is damaged or of another layout it
//! is thrown away and made again from the repositories; where it is behind one it is
//! caught up.

mod rows;

pub use rows::{Attached, Place, Row, Rows};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use starling_core::id::{ConversationId, ObjectId};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Version of the layout; another one means: make it anew.
const LAYOUT: i64 = 5;

/// How many prepared statements are kept: more than there are different ones.
const STATEMENTS: usize = 64;

/// Reading or writing the index failed.
#[derive(Debug, thiserror::Error)]
#[error("the message index {path}: {source}; it can be deleted, it is made anew at the next start")]
pub struct IndexError {
    path: PathBuf,
    source: rusqlite::Error,
}

impl IndexError {
    fn code(&self) -> Option<rusqlite::ErrorCode> {
        self.source.sqlite_error_code()
    }

    /// There is no room on the disk.
    pub fn is_full(&self) -> bool {
        super::state::no_room(&self.source)
    }

    /// The file is damaged: [`Index::reset`] helps.
    pub fn is_corrupt(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        matches!(self.code(), Some(DatabaseCorrupt | NotADatabase))
            // Columns that do not hold what is written into them.
            || (self.code().is_none() && !matches!(self.source, rusqlite::Error::QueryReturnedNoRows))
    }
}

/// What the list of conversations needs of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Up to which commit it is indexed.
    pub head: ObjectId,
    /// Who is in it and what it calls itself, as it was written by [`Index::set_snapshot`];
    /// `None` when that was for another head.
    pub snapshot: Option<String>,
}

/// The index of one account. Cheap to clone.
#[derive(Clone)]
pub struct Index(Arc<Inner>);

struct Inner {
    path: PathBuf,
    db: Mutex<Connection>,
    /// Why it was made anew when it was opened, if there had been one.
    made_anew: Option<String>,
    /// How often it was made anew since.
    epoch: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let db = self.db.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Then the next start need not look for damage.
        let closed = db.execute_batch("UPDATE health SET open=0; PRAGMA wal_checkpoint(TRUNCATE);");
        if let Err(e) = closed {
            tracing::debug!(%e, "the index was not closed cleanly");
        }
    }
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        // What cannot be removed makes opening fail, with its reason.
        let _ = std::fs::remove_file(file);
    }
}

/// Opens the file; or says why it has to be made anew.
fn try_open(path: &Path) -> rusqlite::Result<Result<Connection, String>> {
    let db = Connection::open(path)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // NORMAL: after a power cut the index may lack its last changes, and is then caught up.
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=10000;",
    )?;
    let layout: i64 = db.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    if layout != LAYOUT && layout != 0 {
        return Ok(Err("it was written by another version".into()));
    }
    if layout == LAYOUT {
        let open: i64 = db.query_row("SELECT open FROM health", [], |r| r.get(0))?;
        if open != 0 {
            // Reads the whole file, and so not every time.
            let health: String = db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
            if health != "ok" {
                return Ok(Err(health));
            }
        }
    }
    // Trigrams find parts of words, and words of languages without spaces.
    db.execute_batch(&format!(
        "BEGIN;
         CREATE TABLE IF NOT EXISTS health(one INTEGER PRIMARY KEY CHECK(one=1), open INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS conversation(
             key INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, head BLOB,
             length INTEGER NOT NULL DEFAULT 0, rules INTEGER NOT NULL DEFAULT 0, last TEXT, snapshot TEXT, snapshot_at BLOB, made BLOB);
         CREATE TABLE IF NOT EXISTS message(
             key INTEGER PRIMARY KEY, c INTEGER NOT NULL, id BLOB NOT NULL,
             sent_at INTEGER NOT NULL, text TEXT NOT NULL, UNIQUE(c, id));
         CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, content='message', content_rowid='key', tokenize='trigram');
         CREATE TRIGGER IF NOT EXISTS message_new AFTER INSERT ON message BEGIN
             INSERT INTO words(rowid, text) VALUES (new.key, new.text); END;
         CREATE TRIGGER IF NOT EXISTS message_gone AFTER DELETE ON message BEGIN
             INSERT INTO words(words, rowid, text) VALUES ('delete', old.key, old.text); END;
         CREATE TRIGGER IF NOT EXISTS message_changed AFTER UPDATE OF text ON message WHEN old.text <> new.text BEGIN
             INSERT INTO words(words, rowid, text) VALUES ('delete', old.key, old.text);
             INSERT INTO words(rowid, text) VALUES (new.key, new.text); END;
         {}
         INSERT INTO health VALUES(1, 1) ON CONFLICT DO UPDATE SET open=1;
         PRAGMA user_version={LAYOUT};
         COMMIT;",
        rows::TABLES
    ))?;
    Ok(Ok(db))
}

/// Opens the index, or makes a new one where there is none that can be used. Says why it did.
fn open(path: &Path) -> rusqlite::Result<(Connection, Option<String>)> {
    let why = match try_open(path) {
        Ok(Ok(db)) => return Ok((db, None)),
        Ok(Err(why)) => why,
        // Not the file's fault.
        Err(e) if super::state::no_room(&e) => return Err(e),
        Err(e) => e.to_string(),
    };
    tracing::warn!(path = %path.display(), why, "The message index is damaged, or of another version. It is made anew from the conversations; nothing is lost.");
    remove(path);
    match try_open(path)? {
        Ok(db) => Ok((db, Some(why))),
        Err(_) => Err(rusqlite::Error::InvalidQuery),
    }
}

impl Index {
    /// Opens the index, or makes a new one where there is none that can be used.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let existed = path.exists();
        let (db, why) = open(path).map_err(|source| IndexError {
            path: path.into(),
            source,
        })?;
        Ok(Self(Arc::new(Inner {
            path: path.into(),
            db: Mutex::new(db),
            made_anew: why.filter(|_| existed),
            epoch: AtomicU64::new(0),
        })))
    }

    /// Why it was made anew when it was opened, if there had been one.
    pub fn made_anew(&self) -> Option<&str> {
        self.0.made_anew.as_deref()
    }

    /// Changes when everything that was in the index is gone.
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Throws everything away, since the file is damaged; unless somebody did since `epoch`.
    pub fn reset(&self, epoch: u64) -> Result<(), IndexError> {
        let mut db = self.db();
        if self.epoch() != epoch {
            return Ok(());
        }
        let mut anew = || -> rusqlite::Result<Connection> {
            *db = Connection::open_in_memory()?;
            remove(&self.0.path);
            Ok(open(&self.0.path)?.0)
        };
        let new = anew().map_err(|e| self.failed(e))?;
        *db = new;
        self.0.epoch.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic while holding the lock leaves SQLite consistent: its transaction rolls back.
        self.0.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: rusqlite::Error) -> IndexError {
        IndexError {
            path: self.0.path.clone(),
            source,
        }
    }

    /// Reads.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        read(&self.db()).map_err(|e| self.failed(e))
    }

    /// Changes several things, all or none.
    pub(crate) fn change<T, E: From<IndexError>>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, Change<E>>,
    ) -> Result<T, E> {
        let mut db = self.db();
        let failed = |e| E::from(self.failed(e));
        let tx = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        match change(&tx) {
            Ok(done) => tx.commit().map(|()| done).map_err(failed),
            Err(Change::Db(e)) => Err(failed(e)),
            Err(Change::Other(e)) => Err(e),
        }
    }

    /// What the list needs of a conversation. `None`: it is not indexed, or not to its end.
    pub fn summary(&self, conversation: &ConversationId) -> Result<Option<Summary>, IndexError> {
        self.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT head, CASE WHEN snapshot_at=head THEN snapshot END FROM conversation
                 WHERE id=?1 AND head IS NOT NULL",
            )?;
            let found: Option<(Vec<u8>, Option<String>)> = query
                .query_row([conversation.as_bytes()], |r| Ok((r.get(0)?, r.get(1)?)))
                .optional()?;
            Ok(found.and_then(|(head, snapshot)| {
                Some(Summary {
                    head: ObjectId::from_slice(&head)?,
                    snapshot,
                })
            }))
        })
    }

    /// Up to which head a conversation is indexed. Anything but the repository's head
    /// means that the index is behind.
    pub fn head(&self, conversation: &ConversationId) -> Result<Option<ObjectId>, IndexError> {
        Ok(self.summary(conversation)?.map(|s| s.head))
    }

    /// Keeps who is in a conversation and what it calls itself at a head; `None`: as before.
    pub fn set_snapshot(
        &self,
        conversation: &ConversationId,
        head: &ObjectId,
        snapshot: Option<&str>,
    ) -> Result<(), IndexError> {
        self.read(|db| {
            db.prepare_cached(
                "UPDATE conversation SET snapshot=coalesce(?3, snapshot), snapshot_at=?2 WHERE id=?1",
            )?
            .execute(params![conversation.as_bytes(), head.as_bytes(), snapshot])
            .map(drop)
        })
    }

    /// Forgets a conversation.
    pub fn remove(&self, conversation: &ConversationId) -> Result<(), IndexError> {
        self.change(|tx| {
            if let Some(rows) = Rows::of(tx, conversation)? {
                rows.clear()?;
                tx.execute("DELETE FROM conversation WHERE key=?1", [rows.key()])?;
            }
            Ok(())
        })
    }

    /// Forgets the words of a conversation: it is searched no more.
    pub fn hide(&self, conversation: &ConversationId) -> Result<(), IndexError> {
        self.change(|tx| {
            if let Some(rows) = Rows::of(tx, conversation)? {
                tx.execute("DELETE FROM message WHERE c=?1", [rows.key()])?;
            }
            Ok(())
        })
    }

    /// Messages that contain all the words, newest first. Words of fewer than three
    /// characters, which trigrams cannot find, are looked for by reading.
    pub fn search(
        &self,
        conversation: Option<&ConversationId>,
        query: &str,
        limit: usize,
    ) -> Result<Vec<(ConversationId, ObjectId)>, IndexError> {
        let words: Vec<&str> = query.split_whitespace().collect();
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let (long, short): (Vec<&str>, Vec<&str>) =
            words.iter().partition(|w| w.chars().count() >= 3);
        let mut sql = String::from(
            "SELECT conversation.id, message.id FROM message JOIN conversation ON conversation.key=c WHERE conversation.head IS NOT NULL",
        );
        let mut values: Vec<rusqlite::types::Value> = Vec::new();
        if let Some(c) = conversation {
            sql.push_str(" AND conversation.id=?");
            values.push(c.as_bytes().to_vec().into());
        }
        if !long.is_empty() {
            sql.push_str(" AND message.key IN (SELECT rowid FROM words WHERE words MATCH ?)");
            let quoted: Vec<String> = long
                .iter()
                .map(|w| format!("\"{}\"", w.replace('"', "\"\"")))
                .collect();
            values.push(quoted.join(" AND ").into());
        }
        for word in short {
            sql.push_str(" AND instr(lower(text), lower(?)) > 0");
            values.push(word.to_owned().into());
        }
        sql.push_str(" ORDER BY sent_at DESC, message.key DESC LIMIT ?");
        values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
        let rows = self.read(|db| {
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query_map(rusqlite::params_from_iter(values), |r| {
                Ok((r.get::<_, Vec<u8>>(0)?, r.get::<_, Vec<u8>>(1)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(rows
            .iter()
            .filter_map(|(c, id)| Some((ConversationId::from_slice(c)?, ObjectId::from_slice(id)?)))
            .collect())
    }
}

/// Why a change was not made.
pub(crate) enum Change<E> {
    /// The database's fault.
    Db(rusqlite::Error),
    /// Another reason.
    Other(E),
}

impl<E> From<rusqlite::Error> for Change<E> {
    fn from(e: rusqlite::Error) -> Self {
        Self::Db(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConversationId = ConversationId([1; 20]);
    const B: ConversationId = ConversationId([2; 20]);

    fn put(index: &Index, conversation: &ConversationId, head: u8, texts: &[(u8, &str)]) {
        index
            .change::<_, IndexError>(|tx| {
                let rows = Rows::make(tx, conversation)?;
                for (n, text) in texts {
                    rows.put_text(&ObjectId([*n; 20]), i64::from(*n), text)?;
                }
                rows.finish(&ObjectId([head; 20]), 0, None)?;
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn words_are_found_where_they_are_and_as_they_are_now() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
        let first = [
            (1, "Grüße aus Köln"),
            (2, "明天见面吗"),
            (3, "50% \"quoted\" OR no"),
        ];
        put(&index, &A, 2, &first);
        put(&index, &B, 4, &[(4, "grüße zurück")]);
        let ids = |c, q| {
            index
                .search(c, q, 10)
                .unwrap()
                .into_iter()
                .map(|(_, id)| id.0[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(None, "grüße"), [4, 1]);
        assert_eq!(ids(Some(&A), "köln grüße"), [1]);
        assert_eq!(ids(None, "面"), [2]);
        assert_eq!(ids(None, "\"quoted\" OR"), [3]);
        assert_eq!(ids(None, "  "), [0; 0]);
        put(&index, &A, 5, &[(1, "")]);
        assert_eq!(index.search(None, "köln", 10).unwrap(), []);
        assert_eq!(index.head(&A).unwrap(), Some(ObjectId([5; 20])));
        index.remove(&B).unwrap();
        assert_eq!(index.search(None, "grüße", 10).unwrap(), []);
        assert_eq!(index.head(&B).unwrap(), None);
        index.hide(&A).unwrap();
        assert_eq!(index.search(None, "quoted", 10).unwrap(), []);
        assert_eq!(index.head(&A).unwrap(), Some(ObjectId([5; 20])));
    }

    #[test]
    fn a_damaged_index_is_made_anew_and_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.sqlite");
        let index = Index::open(&path).unwrap();
        assert_eq!(index.made_anew(), None);
        put(&index, &A, 2, &[(1, "hello")]);
        drop(index);
        assert_eq!(Index::open(&path).unwrap().made_anew(), None);
        std::fs::write(&path, [7; 10_000]).unwrap();
        let index = Index::open(&path).unwrap();
        assert!(index.made_anew().is_some());
        assert_eq!(index.head(&A).unwrap(), None);
        assert_eq!(index.search(None, "hello", 10).unwrap(), []);
    }

    #[test]
    fn an_index_found_damaged_in_use_is_thrown_away_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.sqlite");
        let index = Index::open(&path).unwrap();
        put(&index, &A, 2, &[(1, "hello")]);
        let epoch = index.epoch();
        index.reset(epoch).unwrap();
        assert_ne!(index.epoch(), epoch);
        assert_eq!(index.head(&A).unwrap(), None);
        put(&index, &A, 3, &[(1, "hello")]);
        // Who noticed at the same time comes too late.
        index.reset(epoch).unwrap();
        assert_eq!(index.head(&A).unwrap(), Some(ObjectId([3; 20])));
    }

    #[test]
    fn a_snapshot_is_worth_something_at_its_head_only() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
        let of = |index: &Index| index.summary(&A).unwrap().unwrap().snapshot;
        put(&index, &A, 2, &[]);
        assert_eq!(of(&index), None);
        let head = ObjectId([2; 20]);
        index.set_snapshot(&A, &head, Some("text")).unwrap();
        assert_eq!(of(&index).as_deref(), Some("text"));
        put(&index, &A, 3, &[]);
        assert_eq!(of(&index), None);
        let head = ObjectId([3; 20]);
        index.set_snapshot(&A, &head, None).unwrap();
        assert_eq!(of(&index).as_deref(), Some("text"));
    }
}
