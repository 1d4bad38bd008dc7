//! Commits: reading strictly, building, signing.

use super::object::{Kind, NewObject};
use crate::crypto::{CryptoError, PrivateKey, SignatureAlgorithm};
use crate::git::object::{CommitError, parse_commit};
use crate::id::{DeviceId, ObjectId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest commit read, bytes. The reference has no limit but a fetch's 256 MiB;
/// a message is typed by a person, an avatar is not in it. Our limit.
pub const MAX_COMMIT: usize = 4 << 20;

/// Why bytes are no commit of a swarm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCommit {
    /// Longer than [`MAX_COMMIT`].
    #[error("the commit is longer than {MAX_COMMIT} bytes")]
    TooLong,
    /// Not a commit of git.
    #[error(transparent)]
    Git(#[from] CommitError),
    /// A header is unknown, out of order or unreadable.
    #[error("the commit's headers are not those a swarm writes")]
    Headers,
    /// The e-mail address of the author is not a device id.
    #[error("the author's address is not a device id")]
    NotADevice,
    /// The message is not UTF-8.
    #[error("the commit's message is not text")]
    NotText,
}

/// A commit as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The tree after it.
    pub tree: ObjectId,
    /// None for the first, one for most, two for a merge.
    pub parents: Vec<ObjectId>,
    /// The author's name: decoration, not checked.
    pub name: String,
    /// Who wrote it: the only identification.
    pub device: DeviceId,
    /// Time of the author and committer, unix seconds. The device's word for it.
    pub time: i64,
    /// Whether author and committer lines are the same.
    pub committer_is_author: bool,
    /// The signature, if the header is there and is base64.
    pub signature: Option<Vec<u8>>,
    /// The message.
    pub message: String,
    /// The bytes that were signed: the commit without its signature header.
    pub signed: Vec<u8>,
}

/// Splits `Name <mail> seconds zone`.
fn person(line: &str) -> Option<(&str, &str, i64)> {
    let (rest, zone) = line.rsplit_once(' ')?;
    let (rest, time) = rest.rsplit_once(' ')?;
    let zone_is = |z: &[u8]| matches!(z, [b'+' | b'-', digits @ ..] if digits.len() == 4 && digits.iter().all(u8::is_ascii_digit));
    if !zone_is(zone.as_bytes()) || time.len() > 18 || !time.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (name, mail) = rest.strip_suffix('>')?.split_once('<')?;
    if mail.contains(['<', '>']) {
        return None;
    }
    Some((
        name.strip_suffix(' ').unwrap_or(name),
        mail,
        time.parse().ok()?,
    ))
}

/// The tree, the parents and the time of a commit, in less than reading all of it takes. It may be
/// none that [`Commit::parse`] takes.
pub(super) fn skim(data: &[u8]) -> Result<(ObjectId, Vec<ObjectId>, i64), BadCommit> {
    if data.len() > MAX_COMMIT {
        return Err(BadCommit::TooLong);
    }
    let commit = parse_commit(data)?;
    let committer = core::str::from_utf8(commit.committer).map_err(|_| BadCommit::NotText)?;
    let (_, _, time) = person(committer).ok_or(BadCommit::Headers)?;
    Ok((commit.tree, commit.parents, time))
}

impl Commit {
    /// Reads a commit object: exactly the headers `tree`, `parent`*, `author`,
    /// `committer`, `signature`?, in this order, each on one line.
    pub fn parse(data: &[u8]) -> Result<Self, BadCommit> {
        if data.len() > MAX_COMMIT {
            return Err(BadCommit::TooLong);
        }
        let commit = parse_commit(data)?;
        let text = |bytes| core::str::from_utf8(bytes).map_err(|_| BadCommit::NotText);
        let (author, committer) = (text(commit.author)?, text(commit.committer)?);
        let (name, mail, _) = person(author).ok_or(BadCommit::Headers)?;
        let (_, _, time) = person(committer).ok_or(BadCommit::Headers)?;
        let (signature, signed) = match commit.extra.as_slice() {
            [] => (None, data.to_vec()),
            [header] if header.name == b"signature" && !header.folded.contains(&b'\n') => {
                (STANDARD.decode(header.folded).ok(), commit.without(header))
            }
            _ => return Err(BadCommit::Headers),
        };
        Ok(Commit {
            tree: commit.tree,
            name: name.to_owned(),
            device: mail.parse().map_err(|_| BadCommit::NotADevice)?,
            time,
            committer_is_author: author == committer,
            signature,
            message: text(commit.message)?.to_owned(),
            parents: commit.parents,
            signed,
        })
    }
}

/// What is to become a commit.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// The tree after it.
    pub tree: ObjectId,
    /// The parents.
    pub parents: Vec<ObjectId>,
    /// Display name of the author; cleaned by [`author_name`].
    pub name: &'a str,
    /// The writing device.
    pub device: DeviceId,
    /// Unix seconds.
    pub time: u64,
    /// The message text.
    pub message: &'a str,
}

impl Draft<'_> {
    /// The bytes to sign: the commit without a signature header.
    pub fn to_sign(&self) -> Vec<u8> {
        self.bytes(None)
    }

    fn bytes(&self, signature: Option<&[u8]>) -> Vec<u8> {
        use core::fmt::Write as _;
        let mut out = format!("tree {}\n", self.tree);
        for parent in &self.parents {
            let _ = writeln!(out, "parent {parent}");
        }
        let name = author_name(self.name, &self.device);
        for role in ["author", "committer"] {
            let _ = writeln!(out, "{role} {name} <{}> {} +0000", self.device, self.time);
        }
        if let Some(signature) = signature {
            let _ = writeln!(out, "signature {}", STANDARD.encode(signature));
        }
        out.push('\n');
        out.push_str(self.message);
        out.into_bytes()
    }

    /// The commit with a signature made elsewhere.
    pub fn signed(&self, signature: &[u8]) -> NewObject {
        NewObject::new(Kind::Commit, self.bytes(Some(signature)))
    }

    /// Signs with the device's key: RSA PKCS#1 v1.5 over SHA-512.
    pub fn sign(&self, key: &dyn PrivateKey) -> Result<NewObject, CryptoError> {
        let signature = key.sign(SignatureAlgorithm::RsaPkcs1Sha512, &self.to_sign())?;
        Ok(self.signed(&signature))
    }
}

/// A name as it may stand in a commit: without `<`, `>` and line ends, and without
/// what git trims at both ends; the device id when nothing is left.
pub fn author_name(name: &str, device: &DeviceId) -> String {
    let crud =
        |c: char| c <= ' ' || matches!(c, '.' | ',' | ':' | ';' | '<' | '>' | '"' | '\\' | '\'');
    let name: String = name
        .chars()
        .filter(|c| !matches!(c, '<' | '>' | '\n' | '\r' | '\0'))
        .collect();
    let name = name.trim_matches(crud);
    if name.is_empty() {
        device.to_hex()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn draft(message: &str) -> Draft<'_> {
        Draft {
            tree: ObjectId([1; 20]),
            parents: vec![ObjectId([2; 20])],
            name: "Alice",
            device: DeviceId([3; 32]),
            time: 1_700_000_000,
            message,
        }
    }

    #[test]
    fn names_are_cleaned_as_git_does() {
        let device = DeviceId([3; 32]);
        assert_eq!(author_name("  A <b> l. ", &device), "A b l");
        assert_eq!(author_name("a\nb", &device), "ab");
        assert_eq!(author_name("<>., ", &device), device.to_hex());
    }

    #[test]
    fn foreign_headers_are_refused() {
        let good = String::from_utf8(draft("x").signed(b"sig").data).unwrap();
        assert!(Commit::parse(good.as_bytes()).is_ok());
        for (from, to) in [
            ("committer", "encoding UTF-8\ncommitter"),
            ("author Alice", "author"),
            ("tree 01", "tree 0"),
            ("\nsignature", "\nsignature c2ln\nsignature"),
            ("signature", "gpgsig"),
            (" +0000\ncommitter", " +00000\ncommitter"),
            ("1700000000", "-5"),
            ("1700000000", "17000000000000000000000"),
        ] {
            let bad = good.replacen(from, to, if from.starts_with('1') { 2 } else { 1 });
            assert_ne!(bad, good);
            let read = Commit::parse(bad.as_bytes());
            if from == "author Alice" {
                assert!(read.is_ok(), "an empty name is no fault");
            } else {
                assert!(
                    matches!(read, Err(BadCommit::Headers | BadCommit::Git(_))),
                    "{from} -> {to}: {read:?}"
                );
            }
        }
        let mail = good.replace(&"03".repeat(32), "someone@example.org");
        assert_eq!(Commit::parse(mail.as_bytes()), Err(BadCommit::NotADevice));
        assert_eq!(
            Commit::parse(&vec![b'a'; MAX_COMMIT + 1]),
            Err(BadCommit::TooLong)
        );
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(message in "\\PC{0,40}(\n\n)?\\PC{0,40}", sig in proptest::collection::vec(any::<u8>(), 0..64)) {
            let d = draft(&message);
            let read = Commit::parse(&d.signed(&sig).data).unwrap();
            prop_assert_eq!(&read.message, &message);
            prop_assert_eq!(read.signed, d.to_sign());
            prop_assert_eq!(read.signature, Some(sig));
            prop_assert_eq!(read.time, 1_700_000_000);
            prop_assert!(read.committer_is_author);
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Commit::parse(&bytes);
        }
    }
}
