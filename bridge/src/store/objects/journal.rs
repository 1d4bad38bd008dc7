//! The journal: what was written since all files were last made to last.
//!
//! A commit is three small files and a branch, which would take seven flushes
//! of the disk. Here it takes one: a record with the objects and the branch is
//! appended and flushed; the files are written after that, unflushed, so that
//! git sees them at once. After a power cut the journal is played again.
//!
//! A record: length and CRC-32 of the rest (u32 each, little endian); the number
//! of objects (u32) and of each its kind (one byte, as in packs), its length
//! (u32) and its bytes; then one byte that says whether the new head (20 bytes) follows.

use super::StoreError;
use super::disk::At as _;
use flate2::Crc;
use starling_core::git::object::Kind;
use starling_core::id::ObjectId;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// The open journal of one store.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    len: u64,
}

/// What one record holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) objects: Vec<(Kind, Vec<u8>)>,
    pub(super) head: Option<ObjectId>,
}

impl Journal {
    /// Opens the journal, and reads what it holds. A record that was being written
    /// when the power went is none.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Record>), StoreError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .at(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at(path)?;
        let mut records = Vec::new();
        let mut rest = &bytes[..];
        while let Some((record, after)) = read_record(rest) {
            records.push(record);
            rest = after;
        }
        let len = (bytes.len() - rest.len()) as u64;
        if !rest.is_empty() {
            tracing::warn!(path = %path.display(), bytes = rest.len(), "the journal's last record is cut off");
        }
        Ok((
            Self {
                path: path.to_owned(),
                file,
                len,
            },
            records,
        ))
    }

    /// Bytes in the journal.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Appends a record; it lasts when this returns. If it cannot be written, the journal is as before.
    pub(super) fn append(
        &mut self,
        objects: &[(Kind, &[u8])],
        head: Option<ObjectId>,
    ) -> Result<(), StoreError> {
        let record = write_record(objects, head);
        let write = |file: &mut File, len| {
            file.seek(SeekFrom::Start(len))?;
            file.write_all(&record)?;
            file.sync_data()
        };
        if let Err(e) = write(&mut self.file, self.len) {
            // A full disk, most likely: nothing half may be in the way of the next record.
            let _ = self.file.set_len(self.len);
            return Err(e).at(&self.path);
        }
        self.len += record.len() as u64;
        Ok(())
    }

    /// Takes back all records after the first `len` bytes.
    pub(super) fn cut(&mut self, len: u64) -> Result<(), StoreError> {
        self.file
            .set_len(len)
            .and_then(|()| self.file.sync_data())
            .at(&self.path)?;
        self.len = len;
        Ok(())
    }

    /// Forgets all: everything in it lasts elsewhere.
    pub(super) fn clear(&mut self) -> Result<(), StoreError> {
        self.cut(0)
    }
}

fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    }
}

fn write_record(objects: &[(Kind, &[u8])], head: Option<ObjectId>) -> Vec<u8> {
    let mut body = (objects.len() as u32).to_le_bytes().to_vec();
    for (kind, bytes) in objects {
        body.push(code(*kind));
        body.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        body.extend_from_slice(bytes);
    }
    body.push(u8::from(head.is_some()));
    if let Some(id) = head {
        body.extend_from_slice(id.as_bytes());
    }
    let mut crc = Crc::new();
    crc.update(&body);
    let mut out = (body.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&body);
    out
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(n)?;
    *rest = tail;
    Some(head)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))
}

/// The first record, and what follows it.
fn read_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let mut rest = bytes;
    let len = take_u32(&mut rest)? as usize;
    let sum = take_u32(&mut rest)?;
    let mut body = take(&mut rest, len)?;
    let mut crc = Crc::new();
    crc.update(body);
    // Zeros, as some file systems leave them, have a fitting sum but no body.
    if crc.sum() != sum || body.is_empty() {
        return None;
    }
    let mut record = Record::default();
    for _ in 0..take_u32(&mut body)? {
        let kind = match take(&mut body, 1)? {
            [1] => Kind::Commit,
            [2] => Kind::Tree,
            [3] => Kind::Blob,
            [4] => Kind::Tag,
            _ => return None,
        };
        let len = take_u32(&mut body)? as usize;
        record.objects.push((kind, take(&mut body, len)?.to_vec()));
    }
    if take(&mut body, 1)? == [1] {
        record.head = ObjectId::from_slice(take(&mut body, 20)?);
    }
    Some((record, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_journal_cut_anywhere_gives_whole_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, records) = Journal::open(&path).unwrap();
        assert_eq!(records, []);
        let head = ObjectId([7; 20]);
        journal
            .append(&[(Kind::Blob, b"one"), (Kind::Tree, b"")], None)
            .unwrap();
        let first = journal.len();
        journal
            .append(&[(Kind::Commit, b"two")], Some(head))
            .unwrap();
        let all = fs::read(&path).unwrap();
        for end in 0..=all.len() {
            fs::write(&path, &all[..end]).unwrap();
            let (journal, records) = Journal::open(&path).unwrap();
            let expected = match end as u64 {
                n if n < first => 0,
                n if n < all.len() as u64 => 1,
                _ => 2,
            };
            assert_eq!(records.len(), expected, "{end}");
            if expected == 2 {
                assert_eq!(records[1].head, Some(head));
                assert_eq!(records[1].objects, [(Kind::Commit, b"two".to_vec())]);
            }
            assert_eq!(journal.len(), [0, first, all.len() as u64][expected]);
        }
        // A flipped bit ends it, too; and zeros are no records.
        let mut bad = all.clone();
        bad[first as usize + 10] ^= 1;
        bad.extend([0; 64]);
        fs::write(&path, &bad).unwrap();
        let (mut journal, records) = Journal::open(&path).unwrap();
        assert_eq!(records.len(), 1);
        // What comes next overwrites the damage.
        journal.append(&[], Some(head)).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1.len(), 2);
        journal.clear().unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, []);
    }
}
