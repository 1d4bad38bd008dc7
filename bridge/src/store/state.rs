//! An account's own state: contacts, conversations, requests, what was read and
//! fetched. Small records in one SQLite file, each write on disk before it returns.
//!
//! This is not derived from anything and is never thrown away. What is derived
//! from the repositories lives in the index, which may be.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Version of the layout, in SQLite's `user_version`.
const LAYOUT: i64 = 1;

/// Whether SQLite failed because there is no room on the disk. It does not always say so: where the
/// file that it shares with other users of the database cannot grow, it calls that an I/O error.
pub(super) fn no_room(e: &rusqlite::Error) -> bool {
    e.sqlite_error().is_some_and(|e| {
        e.code == rusqlite::ErrorCode::DiskFull
            || e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    })
}

/// What can be wrong with the state file.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file is damaged. It is left as it is.
    #[error(
        "{path} is damaged ({detail}); it was left untouched: restore it from a backup, or move it away to start with the account's archive alone"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// The file was written by a newer Starling.
    #[error(
        "{path} was written by a newer Starling (layout {found}, this one knows {known}); use that one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
        /// The newest layout known here.
        known: i64,
    },
    /// Reading or writing failed, for instance because the disk is full. Nothing was changed.
    #[error("{path}: {source}; nothing was changed")]
    Io {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A record is not what it should be.
    #[error("{path}: the record {area}/{key} cannot be read: {detail}")]
    Record {
        /// The file.
        path: PathBuf,
        /// The area.
        area: String,
        /// The key.
        key: String,
        /// What does not fit.
        detail: String,
    },
}

impl StateError {
    /// There is no room on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if no_room(source))
    }
}

/// The state of one account. Cheap to clone.
#[derive(Clone)]
pub struct State {
    path: Arc<PathBuf>,
    db: Arc<Mutex<Connection>>,
}

impl State {
    /// Opens or makes the file, and checks it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let io = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                StateError::Corrupt {
                    path: path.to_owned(),
                    detail: source.to_string(),
                }
            }
            _ => StateError::Io {
                path: path.to_owned(),
                source,
            },
        };
        let db = Connection::open(path).map_err(io)?;
        // FULL: a write is on the disk when it returns.
        db.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=2000;",
        )
        .map_err(io)?;
        let health: String = db
            .query_row("PRAGMA quick_check(1)", [], |r| r.get(0))
            .map_err(io)?;
        if health != "ok" {
            return Err(StateError::Corrupt {
                path: path.to_owned(),
                detail: health,
            });
        }
        let found: i64 = db
            .query_row("PRAGMA user_version", [], |r| r.get(0))
            .map_err(io)?;
        if found > LAYOUT {
            return Err(StateError::Newer {
                path: path.to_owned(),
                found,
                known: LAYOUT,
            });
        }
        db.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS record(area TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(area, key)) WITHOUT ROWID;
             PRAGMA user_version={LAYOUT};"
        ))
        .map_err(io)?;
        Ok(Self {
            path: Arc::new(path.to_owned()),
            db: Arc::new(Mutex::new(db)),
        })
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic while holding the lock leaves SQLite consistent: its transaction rolls back.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn io(&self, source: rusqlite::Error) -> StateError {
        StateError::Io {
            path: self.path.to_path_buf(),
            source,
        }
    }

    fn record(&self, area: &str, key: &str, detail: impl ToString) -> StateError {
        StateError::Record {
            path: self.path.to_path_buf(),
            area: area.into(),
            key: key.into(),
            detail: detail.to_string(),
        }
    }

    /// One record.
    pub fn get<T: DeserializeOwned>(&self, area: &str, key: &str) -> Result<Option<T>, StateError> {
        let text: Option<String> = self
            .db()
            .query_row(
                "SELECT value FROM record WHERE area=?1 AND key=?2",
                params![area, key],
                |r| r.get(0),
            )
            .optional()
            .map_err(|e| self.io(e))?;
        text.map(|t| serde_json::from_str(&t).map_err(|e| self.record(area, key, e)))
            .transpose()
    }

    /// All records of an area, by key.
    pub fn list<T: DeserializeOwned>(&self, area: &str) -> Result<Vec<(String, T)>, StateError> {
        let db = self.db();
        let mut query = db
            .prepare_cached("SELECT key, value FROM record WHERE area=?1 ORDER BY key")
            .map_err(|e| self.io(e))?;
        let rows = query
            .query_map([area], |r| {
                Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?))
            })
            .map_err(|e| self.io(e))?;
        rows.map(|row| {
            let (key, text) = row.map_err(|e| self.io(e))?;
            let value = serde_json::from_str(&text).map_err(|e| self.record(area, &key, e))?;
            Ok((key, value))
        })
        .collect()
    }

    /// Writes a record; it is on the disk when this returns.
    pub fn put<T: Serialize>(&self, area: &str, key: &str, value: &T) -> Result<(), StateError> {
        let text = serde_json::to_string(value).map_err(|e| self.record(area, key, e))?;
        self.db()
            .prepare_cached("INSERT INTO record(area, key, value) VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET value=?3")
            .and_then(|mut q| q.execute(params![area, key, text]))
            .map_err(|e| self.io(e))?;
        Ok(())
    }

    /// Removes a record.
    pub fn remove(&self, area: &str, key: &str) -> Result<(), StateError> {
        self.db()
            .execute(
                "DELETE FROM record WHERE area=?1 AND key=?2",
                params![area, key],
            )
            .map_err(|e| self.io(e))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        let state = State::open(&path).unwrap();
        state.put("contacts", "bob", &("hello", 7)).unwrap();
        state.put("contacts", "bob", &("hello again", 8)).unwrap();
        state.put("contacts", "carol", &("x", 1)).unwrap();
        state.remove("contacts", "carol").unwrap();
        drop(state);
        let state = State::open(&path).unwrap();
        assert_eq!(
            state.list::<(String, u8)>("contacts").unwrap(),
            [("bob".to_owned(), ("hello again".to_owned(), 8))]
        );
        assert_eq!(state.get::<(String, u8)>("contacts", "dave").unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        std::fs::write(&path, [0x5a; 8192]).unwrap();
        let error = State::open(&path).err().unwrap();
        assert!(matches!(error, StateError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("state.sqlite"));
        assert_eq!(std::fs::read(&path).unwrap(), [0x5a; 8192]);
    }

    #[test]
    fn a_newer_layout_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        drop(State::open(&path).unwrap());
        Connection::open(&path)
            .unwrap()
            .execute_batch("PRAGMA user_version=99")
            .unwrap();
        assert!(matches!(
            State::open(&path),
            Err(StateError::Newer { found: 99, .. })
        ));
    }

    #[test]
    fn a_record_that_does_not_fit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        state.put("a", "k", &"text").unwrap();
        let error = state.get::<u8>("a", "k").unwrap_err();
        assert!(error.to_string().contains("a/k"), "{error}");
    }
}
