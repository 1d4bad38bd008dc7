//! The commits of one conversation, as rows.

use rusqlite::{Connection, OptionalExtension as _, params};
use starling_core::id::{AccountId, ConversationId, ObjectId};
use starling_core::swarm::order::{Node, Placed};

/// The tables of commits. The queries below name the index to be used and the order of joining:
/// left alone, SQLite walks the whole order rather than sort three rows. A commit of the history has its place in the order; one that was seen
/// and is no part of it stands aside, since somebody may build on it.
pub(super) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS person(key INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS commits(
        c INTEGER NOT NULL, place INTEGER NOT NULL, id BLOB NOT NULL, person INTEGER NOT NULL,
        time INTEGER NOT NULL, generation INTEGER NOT NULL, parents BLOB NOT NULL,
        shown INTEGER NOT NULL, target BLOB, change INTEGER NOT NULL, rules INTEGER NOT NULL,
        counts INTEGER NOT NULL, came INTEGER NOT NULL,
        PRIMARY KEY(c, place)) WITHOUT ROWID;
    CREATE UNIQUE INDEX IF NOT EXISTS commits_id ON commits(c, id);
    CREATE INDEX IF NOT EXISTS commits_shown ON commits(c, place, person) WHERE shown=1;
    CREATE INDEX IF NOT EXISTS commits_person ON commits(c, person, place) WHERE shown=1;
    CREATE INDEX IF NOT EXISTS commits_target ON commits(c, target, change, place) WHERE target IS NOT NULL;
    CREATE TABLE IF NOT EXISTS aside(
        c INTEGER NOT NULL, id BLOB NOT NULL, person INTEGER NOT NULL, time INTEGER NOT NULL,
        parents BLOB NOT NULL, shown INTEGER NOT NULL, target BLOB, change INTEGER NOT NULL, rules INTEGER NOT NULL,
        counts INTEGER NOT NULL, came INTEGER NOT NULL,
        PRIMARY KEY(c, id)) WITHOUT ROWID;";

/// A commit as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: ObjectId,
    /// Its parents, in its order.
    pub parents: Vec<ObjectId>,
    /// Its time, unix seconds.
    pub time: i64,
    /// Who wrote it.
    pub author: AccountId,
    /// It is a message of its own.
    pub shown: bool,
    /// The message that it changes or reacts to.
    pub target: Option<ObjectId>,
    /// It changes that one, rather than react to it.
    pub change: bool,
    /// The version of the rules it was found to follow; 0: it was not looked at yet.
    pub rules: u32,
    /// It says something: a text, a file or a call. Others are not counted as unread.
    pub counts: bool,
    /// When it was first here, unix ms; of what was there when the index was made, when it was
    /// written.
    pub came: i64,
}

/// What belongs to a message, or to a reaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// Changes of its author.
    Change(AccountId),
    /// Reactions to it.
    Reaction,
}

/// Where a message stands, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index in the order, oldest first.
    pub place: u64,
    /// The commit.
    pub id: ObjectId,
    /// Who wrote it.
    pub author: AccountId,
}

/// The rows of one conversation.
pub struct Rows<'a> {
    db: &'a Connection,
    key: i64,
}

type Result<T> = rusqlite::Result<T>;

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn bad(column: usize) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, "an id".into(), rusqlite::types::Type::Blob)
}

fn id(row: &rusqlite::Row<'_>, column: usize) -> Result<ObjectId> {
    let bytes = row.get_ref(column)?.as_blob().map_err(|_| bad(column))?;
    ObjectId::from_slice(bytes).ok_or_else(|| bad(column))
}

fn account(row: &rusqlite::Row<'_>, column: usize) -> Result<AccountId> {
    let bytes = row.get_ref(column)?.as_blob().map_err(|_| bad(column))?;
    AccountId::from_slice(bytes).ok_or_else(|| bad(column))
}

fn place(row: &rusqlite::Row<'_>, column: usize) -> Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| bad(column))
}

fn ids(row: &rusqlite::Row<'_>, column: usize) -> Result<Vec<ObjectId>> {
    let bytes = row.get_ref(column)?.as_blob().map_err(|_| bad(column))?;
    bytes
        .chunks(20)
        .map(|b| ObjectId::from_slice(b).ok_or_else(|| bad(column)))
        .collect()
}

fn joined(ids: &[ObjectId]) -> Vec<u8> {
    ids.iter().flat_map(|p| p.0).collect()
}

fn stands(row: &rusqlite::Row<'_>) -> Result<Place> {
    Ok(Place {
        place: place(row, 0)?,
        id: id(row, 1)?,
        author: account(row, 2)?,
    })
}

/// Columns of a whole row, from either table.
fn whole(row: &rusqlite::Row<'_>) -> Result<Row> {
    Ok(Row {
        id: id(row, 0)?,
        parents: ids(row, 1)?,
        time: row.get(2)?,
        author: account(row, 3)?,
        shown: row.get(4)?,
        target: row
            .get::<_, Option<Vec<u8>>>(5)?
            .and_then(|t| ObjectId::from_slice(&t)),
        change: row.get(6)?,
        rules: row.get(7)?,
        counts: row.get(8)?,
        came: row.get(9)?,
    })
}

impl<'a> Rows<'a> {
    /// The rows of a conversation that has some.
    pub fn of(db: &'a Connection, conversation: &ConversationId) -> Result<Option<Self>> {
        let key = db
            .prepare_cached("SELECT key FROM conversation WHERE id=?1")?
            .query_row([conversation.as_bytes()], |r| r.get(0))
            .optional()?;
        Ok(key.map(|key| Self { db, key }))
    }

    /// The rows of a conversation, which may have none yet.
    pub fn make(db: &'a Connection, conversation: &ConversationId) -> Result<Self> {
        db.prepare_cached("INSERT INTO conversation(id) VALUES(?1) ON CONFLICT DO NOTHING")?
            .execute([conversation.as_bytes()])?;
        Self::of(db, conversation)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    /// The key.
    pub fn key(&self) -> i64 {
        self.key
    }

    /// The newest commit and how many there are; `None` while they are being written.
    pub fn head(&self) -> Result<Option<(ObjectId, u64)>> {
        self.db
            .prepare_cached(
                "SELECT head, length FROM conversation WHERE key=?1 AND head IS NOT NULL",
            )?
            .query_row([self.key], |r| Ok((id(r, 0)?, place(r, 1)?)))
            .optional()
    }

    /// Everything up to `head` is written. `last`: the newest message, for the list.
    pub fn finish(&self, head: &ObjectId, length: u64, last: Option<&str>) -> Result<()> {
        self.db
            .prepare_cached(
                "UPDATE conversation SET head=?2, length=?3, last=?4, made=NULL WHERE key=?1",
            )?
            .execute(params![self.key, head.as_bytes(), signed(length), last])
            .map(drop)
    }

    /// All commits up to `head` are here, so many, and follow that version of the rules; the words of
    /// changed messages, and the newest one, are to be looked up where they are read.
    pub fn set_made(&self, head: &ObjectId, length: u64, rules: u32) -> Result<()> {
        self.db
            .prepare_cached("UPDATE conversation SET made=?2, length=?3, rules=?4 WHERE key=?1")?
            .execute(params![self.key, head.as_bytes(), signed(length), rules])
            .map(drop)
    }

    /// What [`Self::set_made`] said, if nothing was finished since.
    pub fn made(&self) -> Result<Option<(ObjectId, u64)>> {
        self.db
            .prepare_cached(
                "SELECT made, length FROM conversation WHERE key=?1 AND head IS NULL AND made IS NOT NULL",
            )?
            .query_row([self.key], |r| Ok((id(r, 0)?, place(r, 1)?)))
            .optional()
    }

    /// Messages and reactions that are changed by others, in the order of their ids.
    pub fn changed(&self, after: Option<&ObjectId>, limit: usize) -> Result<Vec<ObjectId>> {
        self.db
            .prepare_cached(
                "SELECT DISTINCT target FROM commits INDEXED BY commits_target
                 WHERE c=?1 AND target>?2 AND change=1 ORDER BY target LIMIT ?3",
            )?
            .query_map(
                params![
                    self.key,
                    after.map_or(&[][..], |a| a.as_bytes()),
                    signed(limit as u64)
                ],
                |r| id(r, 0),
            )?
            .collect()
    }

    /// The version of the rules that all commits are known to follow.
    pub fn rules(&self) -> Result<Option<u32>> {
        self.db
            .prepare_cached("SELECT rules FROM conversation WHERE key=?1")?
            .query_row([self.key], |r| r.get(0))
            .optional()
    }

    /// All commits follow this version of the rules; 0: that is to be looked at.
    pub fn set_rules(&self, rules: u32) -> Result<()> {
        self.db
            .prepare_cached("UPDATE conversation SET rules=?2 WHERE key=?1")?
            .execute(params![self.key, rules])
            .map(drop)
    }

    /// The newest message, as it was kept for the list.
    pub fn last(&self) -> Result<Option<String>> {
        self.db
            .prepare_cached("SELECT last FROM conversation WHERE key=?1")?
            .query_row([self.key], |r| r.get(0))
            .optional()
            .map(Option::flatten)
    }

    /// Forgets everything.
    pub fn clear(&self) -> Result<()> {
        self.db.execute(
            "UPDATE conversation SET head=NULL, length=0, rules=0, last=NULL, snapshot=NULL, snapshot_at=NULL, made=NULL WHERE key=?1",
            [self.key],
        )?;
        for table in ["commits", "aside", "message"] {
            self.db
                .execute(&format!("DELETE FROM {table} WHERE c=?1"), [self.key])?;
        }
        Ok(())
    }

    fn person(&self, who: &AccountId) -> Result<i64> {
        let find = || {
            self.db
                .prepare_cached("SELECT key FROM person WHERE id=?1")?
                .query_row([who.as_bytes()], |r| r.get(0))
                .optional()
        };
        if let Some(key) = find()? {
            return Ok(key);
        }
        self.db
            .prepare_cached("INSERT INTO person(id) VALUES(?1)")?
            .execute([who.as_bytes()])?;
        Ok(self.db.last_insert_rowid())
    }

    /// The place of a commit in the history.
    pub fn place(&self, commit: &ObjectId) -> Result<Option<u64>> {
        self.db
            .prepare_cached("SELECT place FROM commits WHERE c=?1 AND id=?2")?
            .query_row(params![self.key, commit.as_bytes()], |r| place(r, 0))
            .optional()
    }

    /// The commit at a place.
    pub fn at_place(&self, at: u64) -> Result<Option<ObjectId>> {
        self.db
            .prepare_cached("SELECT id FROM commits WHERE c=?1 AND place=?2")?
            .query_row(params![self.key, signed(at)], |r| id(r, 0))
            .optional()
    }

    /// A commit of the history, as its order needs to know it.
    pub fn placed(&self, commit: &ObjectId) -> Result<Option<Placed>> {
        self.db
            .prepare_cached(
                "SELECT place, generation, parents, time FROM commits WHERE c=?1 AND id=?2",
            )?
            .query_row(params![self.key, commit.as_bytes()], |r| {
                Ok(Placed {
                    place: place(r, 0)?,
                    generation: r.get(1)?,
                    node: Node {
                        parents: ids(r, 2)?,
                        time: r.get(3)?,
                    },
                })
            })
            .optional()
    }

    /// The generation of a commit of the history.
    pub fn generation(&self, commit: &ObjectId) -> Result<Option<u32>> {
        self.db
            .prepare_cached("SELECT generation FROM commits WHERE c=?1 AND id=?2")?
            .query_row(params![self.key, commit.as_bytes()], |r| r.get(0))
            .optional()
    }

    /// The history from a place on, oldest first.
    pub fn from(&self, first: u64) -> Result<Vec<Row>> {
        self.db
            .prepare_cached(
                "SELECT commits.id, parents, time, person.id, shown, target, change, rules, counts, came
                 FROM commits CROSS JOIN person ON person.key=person
                 WHERE c=?1 AND place>=?2 ORDER BY place",
            )?
            .query_map(params![self.key, signed(first)], whole)?
            .collect()
    }

    /// Takes the history from a place on out of the order.
    pub fn cut(&self, first: u64) -> Result<()> {
        self.db
            .prepare_cached("DELETE FROM commits WHERE c=?1 AND place>=?2")?
            .execute(params![self.key, signed(first)])
            .map(drop)
    }

    /// Puts a commit at a place, which is free.
    pub fn put(&self, at: u64, generation: u32, row: &Row) -> Result<()> {
        let person = self.person(&row.author)?;
        self.db
            .prepare_cached(
                "INSERT INTO commits VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                self.key,
                signed(at),
                row.id.as_bytes(),
                person,
                row.time,
                generation,
                joined(&row.parents),
                row.shown,
                row.target.as_ref().map(|t| t.0),
                row.change,
                row.rules,
                row.counts,
                row.came
            ])
            .map(drop)
    }

    /// A commit that stands aside.
    pub fn aside(&self, commit: &ObjectId) -> Result<Option<Row>> {
        self.db
            .prepare_cached(
                "SELECT aside.id, parents, time, person.id, shown, target, change, rules, counts, came
                 FROM aside CROSS JOIN person ON person.key=person WHERE c=?1 AND aside.id=?2",
            )?
            .query_row(params![self.key, commit.as_bytes()], whole)
            .optional()
    }

    /// Puts a commit aside.
    pub fn put_aside(&self, row: &Row) -> Result<()> {
        let person = self.person(&row.author)?;
        self.db
            .prepare_cached(
                "INSERT INTO aside VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                self.key,
                row.id.as_bytes(),
                person,
                row.time,
                joined(&row.parents),
                row.shown,
                row.target.as_ref().map(|t| t.0),
                row.change,
                row.rules,
                row.counts,
                row.came
            ])
            .map(drop)
    }

    /// A commit stands aside no more.
    pub fn take_aside(&self, commit: &ObjectId) -> Result<()> {
        self.db
            .prepare_cached("DELETE FROM aside WHERE c=?1 AND id=?2")?
            .execute(params![self.key, commit.as_bytes()])
            .map(drop)
    }

    /// Writes the words of a message.
    pub fn put_text(&self, message: &ObjectId, sent_at: i64, text: &str) -> Result<()> {
        self.db
            .prepare_cached(
                "INSERT INTO message(c, id, sent_at, text) VALUES(?1, ?2, ?3, ?4)
                 ON CONFLICT(c, id) DO UPDATE SET text=?4",
            )?
            .execute(params![self.key, message.as_bytes(), sent_at, text])
            .map(drop)
    }

    /// Takes away the words of a message.
    pub fn remove_text(&self, message: &ObjectId) -> Result<()> {
        self.db
            .prepare_cached("DELETE FROM message WHERE c=?1 AND id=?2")?
            .execute(params![self.key, message.as_bytes()])
            .map(drop)
    }

    /// A message of the history by its commit; `None` for what is none.
    pub fn message(&self, commit: &ObjectId) -> Result<Option<Place>> {
        self.db
            .prepare_cached(
                "SELECT place, commits.id, person.id FROM commits INDEXED BY commits_id CROSS JOIN person ON person.key=person
                 WHERE c=?1 AND commits.id=?2 AND shown=1",
            )?
            .query_row(params![self.key, commit.as_bytes()], stands)
            .optional()
    }

    /// What a commit changes or reacts to.
    pub fn target(&self, commit: &ObjectId) -> Result<Option<ObjectId>> {
        self.db
            .prepare_cached(
                "SELECT target FROM commits INDEXED BY commits_id WHERE c=?1 AND id=?2 AND target IS NOT NULL",
            )?
            .query_row(params![self.key, commit.as_bytes()], |r| id(r, 0))
            .optional()
    }

    /// The newest messages before a place, newest first.
    pub fn messages_before(&self, before: u64, limit: usize) -> Result<Vec<Place>> {
        self.db
            .prepare_cached(
                "SELECT place, commits.id, person.id FROM commits INDEXED BY commits_shown CROSS JOIN person ON person.key=person
                 WHERE c=?1 AND shown=1 AND place<?2 ORDER BY place DESC LIMIT ?3",
            )?
            .query_map(
                params![self.key, signed(before), signed(limit as u64)],
                stands,
            )?
            .collect()
    }

    /// Whether anything changes a commit or reacts to it.
    pub fn has_attached(&self, to: &ObjectId) -> Result<bool> {
        self.db
            .prepare_cached(
                "SELECT 1 FROM commits INDEXED BY commits_target WHERE c=?1 AND target=?2",
            )?
            .exists(params![self.key, to.as_bytes()])
    }

    /// The newest changes of a commit, or reactions to it, newest first.
    pub fn attached(&self, to: &ObjectId, what: Attached, limit: usize) -> Result<Vec<Place>> {
        let (change, by) = match what {
            Attached::Change(by) => (true, Some(by.0)),
            Attached::Reaction => (false, None),
        };
        self.db
            .prepare_cached(
                "SELECT place, commits.id, person.id FROM commits INDEXED BY commits_target CROSS JOIN person ON person.key=person
                 WHERE c=?1 AND target=?2 AND change=?3 AND coalesce(person.id=?4, 1) ORDER BY place DESC LIMIT ?5",
            )?
            .query_map(
                params![
                    self.key,
                    to.as_bytes(),
                    change,
                    by,
                    signed(limit as u64)
                ],
                stands,
            )?
            .collect()
    }

    /// The newest messages of one person in a range of places, newest first.
    pub fn messages_of(
        &self,
        who: &AccountId,
        range: std::ops::Range<u64>,
        limit: usize,
    ) -> Result<Vec<Place>> {
        self.db
            .prepare_cached(
                "SELECT place, commits.id, person.id FROM commits INDEXED BY commits_person CROSS JOIN person ON person.key=person
                 WHERE c=?1 AND person=(SELECT key FROM person WHERE id=?2) AND shown=1
                 AND place>=?3 AND place<?4 ORDER BY place DESC LIMIT ?5",
            )?
            .query_map(
                params![
                    self.key,
                    who.as_bytes(),
                    signed(range.start),
                    signed(range.end),
                    signed(limit as u64)
                ],
                stands,
            )?
            .collect()
    }

    /// When a commit of the history was first here, unix ms.
    pub fn came(&self, commit: &ObjectId) -> Result<Option<i64>> {
        self.db
            .prepare_cached("SELECT came FROM commits INDEXED BY commits_id WHERE c=?1 AND id=?2")?
            .query_row(params![self.key, commit.as_bytes()], |r| r.get(0))
            .optional()
    }

    /// How many messages of others that say something there are from a place on, at most `max`.
    pub fn count_of_others(&self, own: &AccountId, first: u64, max: usize) -> Result<usize> {
        let count: i64 = self
            .db
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM commits INDEXED BY commits_shown WHERE c=?1 AND shown=1 AND counts=1 AND place>=?2
                 AND person IS NOT (SELECT key FROM person WHERE id=?3) LIMIT ?4)",
            )?
            .query_row(
                params![self.key, signed(first), own.as_bytes(), signed(max as u64)],
                |r| r.get(0),
            )?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Whether a commit is a message of somebody else that says something, and stands no later than a place.
    pub fn is_of_others(&self, own: &AccountId, commit: &ObjectId, last: u64) -> Result<bool> {
        self.db
            .prepare_cached(
                "SELECT 1 FROM commits INDEXED BY commits_id WHERE c=?1 AND id=?2 AND shown=1 AND counts=1 AND place<=?3
                 AND person IS NOT (SELECT key FROM person WHERE id=?4)",
            )?
            .exists(params![
                self.key,
                commit.as_bytes(),
                signed(last),
                own.as_bytes()
            ])
    }

    /// Who wrote the messages that say something in a range of places.
    pub fn authors(&self, range: std::ops::Range<u64>) -> Result<Vec<AccountId>> {
        self.db
            .prepare_cached(
                "SELECT DISTINCT person.id FROM commits INDEXED BY commits_shown CROSS JOIN person ON person.key=person
                 WHERE c=?1 AND shown=1 AND counts=1 AND place>=?2 AND place<?3",
            )?
            .query_map(
                params![self.key, signed(range.start), signed(range.end)],
                |r| account(r, 0),
            )?
            .collect()
    }

    /// The commits in a range of places, oldest first.
    pub fn commits(&self, range: std::ops::Range<u64>) -> Result<Vec<ObjectId>> {
        self.db
            .prepare_cached(
                "SELECT id FROM commits WHERE c=?1 AND place>=?2 AND place<?3 ORDER BY place",
            )?
            .query_map(
                params![self.key, signed(range.start), signed(range.end)],
                |r| id(r, 0),
            )?
            .collect()
    }

    /// The oldest commits that were not found to follow this version of the rules, in order.
    pub fn unchecked(&self, rules: u32, first: u64, limit: usize) -> Result<Vec<Place>> {
        self.db
            .prepare_cached(
                "SELECT place, commits.id, person.id FROM commits CROSS JOIN person ON person.key=person
                 WHERE c=?1 AND place>=?2 AND rules<>?3 ORDER BY place LIMIT ?4",
            )?
            .query_map(
                params![self.key, signed(first), rules, signed(limit as u64)],
                stands,
            )?
            .collect()
    }

    /// A commit was found to follow a version of the rules.
    pub fn checked(&self, commit: &ObjectId, rules: u32) -> Result<()> {
        self.db
            .prepare_cached("UPDATE commits SET rules=?3 WHERE c=?1 AND id=?2")?
            .execute(params![self.key, commit.as_bytes(), rules])
            .map(drop)
    }
}
