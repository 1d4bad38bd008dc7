//! Git objects on their way to the page, which validates them again.
//!
//! `GET /objects/{account}/{conversation}?from=<commit>&limit=<n>` answers
//! `application/octet-stream`: every object the validation of `n` commits, walking
//! back from `from`, needs (commits, trees, certificates), each once. A record is
//! kind (1 byte), id (20 bytes), length (4 bytes, big-endian), content. The reader
//! computes the id of each content itself.

use crate::id::ObjectId;

/// Content of one object: 8 MiB, well above any certificate, tree or message; a
/// profile with a large picture is the biggest honest object.
pub const MAX_OBJECT: usize = 8 << 20;

/// Of a git object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// `commit`
    Commit,
    /// `tree`
    Tree,
    /// `blob`
    Blob,
}

impl ObjectKind {
    /// git's number for it (packs use the same).
    pub fn number(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Tree => 2,
            Self::Blob => 3,
        }
    }

    /// From git's number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Commit),
            2 => Some(Self::Tree),
            3 => Some(Self::Blob),
            _ => None,
        }
    }
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRecord {
    /// What it is.
    pub kind: ObjectKind,
    /// What the bridge says its id is.
    pub id: ObjectId,
    /// Without git's header.
    pub content: Vec<u8>,
}

/// Bytes that are no list of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ObjectsError {
    /// They end within a record.
    #[error("the list of objects ends in the middle of one")]
    Truncated,
    /// A kind that is none.
    #[error("an object has the unknown kind {0}")]
    UnknownKind(u8),
    /// A length beyond [`MAX_OBJECT`].
    #[error("an object is announced with {0} bytes")]
    TooLarge(u32),
}

/// Appends a record. `None` if the content is longer than [`MAX_OBJECT`].
pub fn write(out: &mut Vec<u8>, kind: ObjectKind, id: &ObjectId, content: &[u8]) -> Option<()> {
    if content.len() > MAX_OBJECT {
        return None;
    }
    let length = u32::try_from(content.len()).ok()?;
    out.push(kind.number());
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(content);
    Some(())
}

/// Reads all records.
pub fn read(mut bytes: &[u8]) -> Result<Vec<ObjectRecord>, ObjectsError> {
    let mut records = Vec::new();
    while let Some((&kind, rest)) = bytes.split_first() {
        let kind = ObjectKind::from_number(kind).ok_or(ObjectsError::UnknownKind(kind))?;
        let (id, rest) = rest
            .split_first_chunk::<20>()
            .ok_or(ObjectsError::Truncated)?;
        let (length, rest) = rest
            .split_first_chunk::<4>()
            .ok_or(ObjectsError::Truncated)?;
        let announced = u32::from_be_bytes(*length);
        let length = announced as usize;
        if length > MAX_OBJECT {
            return Err(ObjectsError::TooLarge(announced));
        }
        let (content, rest) = rest
            .split_at_checked(length)
            .ok_or(ObjectsError::Truncated)?;
        records.push(ObjectRecord {
            kind,
            id: ObjectId(*id),
            content: content.to_vec(),
        });
        bytes = rest;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_come_back_and_a_cut_is_noticed() {
        let mut bytes = Vec::new();
        write(&mut bytes, ObjectKind::Commit, &ObjectId([1; 20]), b"tree").unwrap();
        write(&mut bytes, ObjectKind::Blob, &ObjectId([2; 20]), b"").unwrap();
        let records = read(&bytes).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].content, b"tree");
        for cut in 1..25 {
            assert_eq!(read(&bytes[..cut]), Err(ObjectsError::Truncated), "{cut}");
        }
        assert_eq!(read(&[9]), Err(ObjectsError::UnknownKind(9)));
        let mut huge = vec![3; 21];
        huge.extend_from_slice(&[0xff; 4]);
        assert_eq!(read(&huge), Err(ObjectsError::TooLarge(u32::MAX)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
