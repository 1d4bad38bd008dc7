//! The index of an account's messages: what search and the conversation list
//! read without walking a repository.
//!
//! Everything in here is derived. When the file is damaged, of another layout or
//! behind a repository, it is thrown away and made again from the repositories.

use rusqlite::{Connection, OptionalExtension as _, params};
use starling_core::id::{AccountId, ConversationId, ObjectId};
use std::path::{Path, PathBuf};

/// Version of the layout; another one means: make it anew.
const LAYOUT: i64 = 1;

/// Reading or writing the index failed.
#[derive(Debug, thiserror::Error)]
#[error("the message index {path}: {source}; it can be deleted, it is made anew at the next start")]
pub struct IndexError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// One message, as far as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The message.
    pub id: ObjectId,
    /// Who wrote it.
    pub author: AccountId,
    /// When, unix milliseconds by the author's clock.
    pub sent_at: i64,
    /// Its words as they are now: after edits, empty when deleted.
    pub text: String,
}

/// The index of one account.
pub struct Index {
    path: PathBuf,
    db: Connection,
}

impl Index {
    /// Opens the index, or makes a new one where there is none that can be used.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        match Self::try_open(path) {
            Ok(Some(db)) => Ok(Self {
                path: path.into(),
                db,
            }),
            unusable => {
                match unusable {
                    Err(e) if path.exists() => {
                        tracing::warn!(path = %path.display(), %e, "The message index is damaged. It is made anew from the conversations; nothing is lost.");
                    }
                    _ => {
                        tracing::info!(path = %path.display(), "The message index is of another version, or damaged. It is made anew.");
                    }
                }
                for suffix in ["", "-wal", "-shm"] {
                    let mut file = path.as_os_str().to_owned();
                    file.push(suffix);
                    // What cannot be removed makes opening fail, with its reason.
                    let _ = std::fs::remove_file(file);
                }
                let failed = |source| IndexError {
                    path: path.into(),
                    source,
                };
                match Self::try_open(path).map_err(failed)? {
                    Some(db) => Ok(Self {
                        path: path.into(),
                        db,
                    }),
                    None => Err(failed(rusqlite::Error::InvalidQuery)),
                }
            }
        }
    }

    fn try_open(path: &Path) -> rusqlite::Result<Option<Connection>> {
        let db = Connection::open(path)?;
        // NORMAL: after a power cut the index may lack its last changes, and is then caught up.
        db.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=2000;",
        )?;
        let health: String = db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
        let layout: i64 = db.query_row("PRAGMA user_version", [], |r| r.get(0))?;
        if health != "ok" || (layout != LAYOUT && layout != 0) {
            return Ok(None);
        }
        // Trigrams find parts of words, and words of languages without spaces.
        db.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS head(conversation BLOB PRIMARY KEY, head BLOB NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS message(
                 key INTEGER PRIMARY KEY, conversation BLOB NOT NULL, id BLOB NOT NULL,
                 author BLOB NOT NULL, sent_at INTEGER NOT NULL, text TEXT NOT NULL,
                 UNIQUE(conversation, id));
             CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, content='message', content_rowid='key', tokenize='trigram');
             CREATE TRIGGER IF NOT EXISTS message_new AFTER INSERT ON message BEGIN
                 INSERT INTO words(rowid, text) VALUES (new.key, new.text); END;
             CREATE TRIGGER IF NOT EXISTS message_gone AFTER DELETE ON message BEGIN
                 INSERT INTO words(words, rowid, text) VALUES ('delete', old.key, old.text); END;
             CREATE TRIGGER IF NOT EXISTS message_changed AFTER UPDATE OF text ON message BEGIN
                 INSERT INTO words(words, rowid, text) VALUES ('delete', old.key, old.text);
                 INSERT INTO words(rowid, text) VALUES (new.key, new.text); END;
             PRAGMA user_version={LAYOUT};"
        ))?;
        Ok(Some(db))
    }

    fn failed(&self, source: rusqlite::Error) -> IndexError {
        IndexError {
            path: self.path.clone(),
            source,
        }
    }

    /// Up to which head a conversation is indexed. Anything but the repository's head
    /// means that the index is behind.
    pub fn head(&self, conversation: &ConversationId) -> Result<Option<ObjectId>, IndexError> {
        let head: Option<Vec<u8>> = self
            .db
            .query_row(
                "SELECT head FROM head WHERE conversation=?1",
                [conversation.as_bytes()],
                |r| r.get(0),
            )
            .optional()
            .map_err(|e| self.failed(e))?;
        Ok(head.and_then(|h| ObjectId::from_slice(&h)))
    }

    /// Adds messages or replaces their words, and notes up to where the conversation is indexed.
    pub fn put(
        &mut self,
        conversation: &ConversationId,
        head: &ObjectId,
        rows: &[Row],
    ) -> Result<(), IndexError> {
        let path = self.path.clone();
        let mut put = || -> rusqlite::Result<()> {
            let tx = self.db.transaction()?;
            {
                let mut insert = tx.prepare_cached(
                    "INSERT INTO message(conversation, id, author, sent_at, text) VALUES(?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT(conversation, id) DO UPDATE SET text=?5",
                )?;
                for row in rows {
                    insert.execute(params![
                        conversation.as_bytes(),
                        row.id.as_bytes(),
                        row.author.as_bytes(),
                        row.sent_at,
                        row.text
                    ])?;
                }
            }
            tx.execute(
                "INSERT INTO head VALUES(?1, ?2) ON CONFLICT DO UPDATE SET head=?2",
                params![conversation.as_bytes(), head.as_bytes()],
            )?;
            tx.commit()
        };
        put().map_err(|source| IndexError { path, source })
    }

    /// Forgets a conversation.
    pub fn remove(&mut self, conversation: &ConversationId) -> Result<(), IndexError> {
        let path = self.path.clone();
        let mut remove = || -> rusqlite::Result<()> {
            let tx = self.db.transaction()?;
            tx.execute(
                "DELETE FROM message WHERE conversation=?1",
                [conversation.as_bytes()],
            )?;
            tx.execute(
                "DELETE FROM head WHERE conversation=?1",
                [conversation.as_bytes()],
            )?;
            tx.commit()
        };
        remove().map_err(|source| IndexError { path, source })
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
        let mut sql = String::from("SELECT conversation, id FROM message WHERE 1");
        let mut values: Vec<rusqlite::types::Value> = Vec::new();
        if let Some(c) = conversation {
            sql.push_str(" AND conversation=?");
            values.push(c.as_bytes().to_vec().into());
        }
        if !long.is_empty() {
            sql.push_str(" AND key IN (SELECT rowid FROM words WHERE words MATCH ?)");
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
        sql.push_str(" ORDER BY sent_at DESC, key DESC LIMIT ?");
        values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
        let read = || -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>)>> {
            let mut query = self.db.prepare_cached(&sql)?;
            let rows = query.query_map(rusqlite::params_from_iter(values), |r| {
                Ok((r.get(0)?, r.get(1)?))
            })?;
            rows.collect()
        };
        let rows = read().map_err(|e| self.failed(e))?;
        Ok(rows
            .iter()
            .filter_map(|(c, id)| Some((ConversationId::from_slice(c)?, ObjectId::from_slice(id)?)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u8, text: &str) -> Row {
        Row {
            id: ObjectId([n; 20]),
            author: AccountId([9; 20]),
            sent_at: i64::from(n),
            text: text.into(),
        }
    }

    const A: ConversationId = ConversationId([1; 20]);
    const B: ConversationId = ConversationId([2; 20]);

    #[test]
    fn words_are_found_where_they_are_and_as_they_are_now() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::open(&dir.path().join("index.sqlite")).unwrap();
        index
            .put(
                &A,
                &ObjectId([2; 20]),
                &[
                    row(1, "Grüße aus Köln"),
                    row(2, "明天见面吗"),
                    row(3, "50% \"quoted\" OR no"),
                ],
            )
            .unwrap();
        index
            .put(&B, &ObjectId([4; 20]), &[row(4, "grüße zurück")])
            .unwrap();
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
        index.put(&A, &ObjectId([5; 20]), &[row(1, "")]).unwrap();
        assert_eq!(index.search(None, "köln", 10).unwrap(), []);
        assert_eq!(index.head(&A).unwrap(), Some(ObjectId([5; 20])));
        index.remove(&B).unwrap();
        assert_eq!(index.search(None, "grüße", 10).unwrap(), []);
        assert_eq!(index.head(&B).unwrap(), None);
    }

    #[test]
    fn a_damaged_index_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.sqlite");
        let mut index = Index::open(&path).unwrap();
        index
            .put(&A, &ObjectId([2; 20]), &[row(1, "hello")])
            .unwrap();
        drop(index);
        std::fs::write(&path, [7; 10_000]).unwrap();
        let index = Index::open(&path).unwrap();
        assert_eq!(index.head(&A).unwrap(), None);
        assert_eq!(index.search(None, "hello", 10).unwrap(), []);
    }
}
