//! Git objects of format SHA-1: kinds, ids, strict trees, commits.

use crate::id::ObjectId;
use core::fmt;
use core::ops::Range;
use sha1_checked::Digest as _;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A commit: one message of a conversation.
    Commit,
    /// A tree: one directory.
    Tree,
    /// A blob: one file.
    Blob,
    /// An annotated tag. Jami makes none; git itself knows them.
    Tag,
}

impl Kind {
    /// Git's name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }

    /// From git's name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"commit" => Some(Self::Commit),
            b"tree" => Some(Self::Tree),
            b"blob" => Some(Self::Blob),
            b"tag" => Some(Self::Tag),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A borrowed object: its kind and its bytes without git's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectRef<'a> {
    /// What it is.
    pub kind: Kind,
    /// The content.
    pub bytes: &'a [u8],
}

impl ObjectRef<'_> {
    /// The id of the object.
    pub fn id(&self) -> ObjectId {
        hash_object(self.kind, self.bytes)
    }
}

/// The id of an object.
///
/// Computed with collision detection: an object built to collide gets another
/// id than the plain SHA-1, so it can never stand in for its twin.
pub fn hash_object(kind: Kind, bytes: &[u8]) -> ObjectId {
    let mut hasher = ObjectHasher::new(kind, bytes.len() as u64);
    hasher.update(bytes);
    hasher.finish().unwrap_or_else(|mitigated| mitigated)
}

/// Computes the id of an object that comes in pieces.
#[derive(Debug, Clone)]
pub struct ObjectHasher(sha1_checked::Sha1);

impl ObjectHasher {
    /// Starts with git's header for an object of `size` bytes.
    pub fn new(kind: Kind, size: u64) -> Self {
        let mut sha = sha1_checked::Sha1::new();
        sha.update(format!("{kind} {size}\0").as_bytes());
        Self(sha)
    }

    /// Takes the next bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The id; `Err` with the mitigated hash if the content was built to collide.
    pub fn finish(self) -> Result<ObjectId, ObjectId> {
        let result = self.0.try_finalize();
        let id = ObjectId((*result.hash()).into());
        if result.has_collision() {
            Err(id)
        } else {
            Ok(id)
        }
    }
}

/// The mode of a tree entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// `40000`: a directory.
    Tree,
    /// `100644`: a file. The only kind of file a conversation may hold.
    File,
    /// `100755`: an executable file.
    Executable,
    /// `120000`: a symbolic link.
    Link,
    /// `160000`: a commit of another repository.
    Submodule,
}

impl Mode {
    /// As written in a tree: octal, no leading zero.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tree => "40000",
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Link => "120000",
            Self::Submodule => "160000",
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"40000" => Some(Self::Tree),
            b"100644" => Some(Self::File),
            b"100755" => Some(Self::Executable),
            b"120000" => Some(Self::Link),
            b"160000" => Some(Self::Submodule),
            _ => None,
        }
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeEntry<'a> {
    /// Directory or file.
    pub mode: Mode,
    /// The name: one path component, not necessarily UTF-8.
    pub name: &'a [u8],
    /// The object.
    pub id: ObjectId,
}

/// Bytes that are no tree git would have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// An entry ends before its id does.
    #[error("a tree entry is cut off")]
    Truncated,
    /// A mode git does not write (leading zero, group write, unknown type).
    #[error("a tree entry has the unknown mode {0:?}")]
    Mode(String),
    /// An empty name, `.`, `..`, `.git` in any case, or one with a slash.
    #[error("a tree entry has the forbidden name {0:?}")]
    Name(String),
    /// Names twice or not in git's order.
    #[error("tree entries are out of order at {0:?}")]
    Order(String),
    /// Longer than [`MAX_NAME`].
    #[error("a tree entry has a name of {0} bytes")]
    LongName(usize),
}

/// The longest name in a tree: what Linux's file systems allow (`NAME_MAX`), so
/// that stock git can check the tree out.
pub const MAX_NAME: usize = 255;

/// Reads a tree, strictly: exactly what `git fsck --strict` lets pass.
pub fn parse_tree(bytes: &[u8]) -> Result<Vec<TreeEntry<'_>>, TreeError> {
    let mut rest = bytes;
    let mut entries: Vec<TreeEntry<'_>> = Vec::new();
    while !rest.is_empty() {
        let (mode, after) = split_at_byte(rest, b' ', 6).ok_or_else(|| {
            TreeError::Mode(lossy(rest.get(..7.min(rest.len())).unwrap_or_default()))
        })?;
        let mode = Mode::parse(mode).ok_or_else(|| TreeError::Mode(lossy(mode)))?;
        let (name, after) = split_at_byte(after, 0, after.len()).ok_or(TreeError::Truncated)?;
        let (id, after) = after.split_at_checked(20).ok_or(TreeError::Truncated)?;
        let id = ObjectId::from_slice(id).ok_or(TreeError::Truncated)?;
        check_name(name)?;
        let entry = TreeEntry { mode, name, id };
        if let Some(last) = entries.last()
            && !(tree_order(last, &entry).is_lt() && last.name != name)
        {
            return Err(TreeError::Order(lossy(name)));
        }
        entries.push(entry);
        rest = after;
    }
    // A file `a` and a directory `a` need not be neighbours (`a`, `a.b`, `a/`).
    let mut names: Vec<&[u8]> = entries.iter().map(|e| e.name).collect();
    names.sort_unstable();
    if let Some(twin) = names
        .iter()
        .zip(names.iter().skip(1))
        .find_map(|(a, b)| (a == b).then_some(*a))
    {
        return Err(TreeError::Order(lossy(twin)));
    }
    Ok(entries)
}

/// Writes a tree from entries in any order.
pub fn write_tree(entries: &mut [TreeEntry<'_>]) -> Vec<u8> {
    entries.sort_by(tree_order);
    let mut out = Vec::with_capacity(entries.len().saturating_mul(48));
    for e in entries.iter() {
        out.extend_from_slice(e.mode.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(e.name);
        out.push(0);
        out.extend_from_slice(e.id.as_bytes());
    }
    out
}

/// Git's order: by bytes, directories as if their name ended in a slash.
fn tree_order(a: &TreeEntry<'_>, b: &TreeEntry<'_>) -> core::cmp::Ordering {
    let tail = |e: &TreeEntry<'_>| (e.mode == Mode::Tree).then_some(b'/');
    a.name
        .iter()
        .copied()
        .chain(tail(a))
        .cmp(b.name.iter().copied().chain(tail(b)))
}

fn check_name(name: &[u8]) -> Result<(), TreeError> {
    if name.len() > MAX_NAME {
        return Err(TreeError::LongName(name.len()));
    }
    let forbidden = name.is_empty()
        || name == b"."
        || name == b".."
        || name.eq_ignore_ascii_case(b".git")
        // How Windows' short names and HFS+ spell `.git`; git fsck refuses the former.
        || name.eq_ignore_ascii_case(b"git~1")
        || name.contains(&b'/');
    if forbidden {
        return Err(TreeError::Name(lossy(name)));
    }
    Ok(())
}

/// A header of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header<'a> {
    /// The word before the first space.
    pub name: &'a [u8],
    /// What follows; continuation lines (which begin with a space) are still folded.
    pub folded: &'a [u8],
    /// Where the header lies in the commit, its final line feed included.
    pub range: Range<usize>,
}

impl Header<'_> {
    /// The value with continuation lines joined by line feeds.
    pub fn value(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.folded.len());
        let mut after_newline = false;
        for &b in self.folded {
            if !(after_newline && b == b' ') {
                out.push(b);
            }
            after_newline = b == b'\n';
        }
        out
    }
}

/// A commit, split into its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRef<'a> {
    bytes: &'a [u8],
    /// The tree.
    pub tree: ObjectId,
    /// The parents, in order; none for the first commit.
    pub parents: Vec<ObjectId>,
    /// `Name <e-mail> seconds zone`, not taken apart.
    pub author: &'a [u8],
    /// `Name <e-mail> seconds zone`, not taken apart.
    pub committer: &'a [u8],
    /// All headers after `committer`, in order, `signature` among them; there may be twins.
    pub extra: Vec<Header<'a>>,
    /// What follows the blank line, verbatim.
    pub message: &'a [u8],
}

/// Bytes that are no commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The headers do not begin `tree`, `parent`*, `author`, `committer`.
    #[error("the commit's headers lack {0} at its place")]
    Missing(&'static str),
    /// An id that is not 40 lower-case hexadecimal digits.
    #[error("the commit has an unreadable id as {0}")]
    Id(&'static str),
    /// A header without a name or without an end.
    #[error("the commit has a malformed header")]
    Header,
    /// No blank line ends the headers.
    #[error("the commit has no message")]
    NoMessage,
    /// More parents than [`MAX_PARENTS`].
    #[error("the commit has more than {MAX_PARENTS} parents")]
    TooManyParents,
    /// A NUL among the headers, which git refuses.
    #[error("the commit has a NUL among its headers")]
    Nul,
}

/// The most parents a commit may have. Jami merges two branches at a time; git
/// itself draws the line at 16 when it makes an octopus (`MAX_PARENTS`).
pub const MAX_PARENTS: usize = 16;

/// Splits a commit into headers and message.
pub fn parse_commit(bytes: &[u8]) -> Result<CommitRef<'_>, CommitError> {
    let mut lines = Headers { bytes, at: 0 };
    let tree = match lines.next()? {
        Some(h) if h.name == b"tree" => object_id(h.folded).ok_or(CommitError::Id("tree"))?,
        _ => return Err(CommitError::Missing("tree")),
    };
    let mut parents = Vec::new();
    let mut header = lines.next()?;
    while let Some(h) = header.as_ref().filter(|h| h.name == b"parent") {
        if parents.len() >= MAX_PARENTS {
            return Err(CommitError::TooManyParents);
        }
        parents.push(object_id(h.folded).ok_or(CommitError::Id("parent"))?);
        header = lines.next()?;
    }
    let author = match header {
        Some(h) if h.name == b"author" && !h.folded.contains(&b'\n') => h.folded,
        _ => return Err(CommitError::Missing("author")),
    };
    let committer = match lines.next()? {
        Some(h) if h.name == b"committer" && !h.folded.contains(&b'\n') => h.folded,
        _ => return Err(CommitError::Missing("committer")),
    };
    let mut extra = Vec::new();
    while let Some(h) = lines.next()? {
        extra.push(h);
    }
    let message = bytes.get(lines.at..).ok_or(CommitError::NoMessage)?;
    Ok(CommitRef {
        bytes,
        tree,
        parents,
        author,
        committer,
        extra,
        message,
    })
}

impl<'a> CommitRef<'a> {
    /// All extra headers of that name.
    pub fn headers<'s>(&'s self, name: &'s [u8]) -> impl Iterator<Item = &'s Header<'a>> {
        self.extra.iter().filter(move |h| h.name == name)
    }

    /// The commit without one of its headers: what a signature in it signs.
    pub fn without(&self, header: &Header<'_>) -> Vec<u8> {
        let mut out = self
            .bytes
            .get(..header.range.start)
            .unwrap_or_default()
            .to_vec();
        out.extend_from_slice(self.bytes.get(header.range.end..).unwrap_or_default());
        out
    }
}

struct Headers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Headers<'a> {
    /// The next header; `None` once the blank line is passed.
    fn next(&mut self) -> Result<Option<Header<'a>>, CommitError> {
        let start = self.at;
        let rest = self.bytes.get(start..).ok_or(CommitError::NoMessage)?;
        if rest.first() == Some(&b'\n') {
            self.at = start.saturating_add(1);
            return Ok(None);
        }
        // A header ends at the first line feed not followed by a space.
        let mut end = 0;
        loop {
            let line = rest
                .get(end..)
                .and_then(|r| r.iter().position(|&b| b == b'\n'))
                .ok_or(CommitError::NoMessage)?;
            end = end.saturating_add(line).saturating_add(1);
            if rest.get(end) != Some(&b' ') {
                break;
            }
        }
        let text = rest
            .get(..end.saturating_sub(1))
            .ok_or(CommitError::Header)?;
        if text.contains(&0) {
            return Err(CommitError::Nul);
        }
        let (name, folded) = split_at_byte(text, b' ', text.len()).ok_or(CommitError::Header)?;
        if name.is_empty() || name.contains(&b'\n') {
            return Err(CommitError::Header);
        }
        self.at = start.saturating_add(end);
        Ok(Some(Header {
            name,
            folded,
            range: start..self.at,
        }))
    }
}

/// Reads 40 lower-case hexadecimal digits.
pub fn object_id(text: &[u8]) -> Option<ObjectId> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// Splits before and after the first `byte`, which must lie within the first `within` + 1 bytes.
fn split_at_byte(bytes: &[u8], byte: u8, within: usize) -> Option<(&[u8], &[u8])> {
    let at = bytes
        .iter()
        .take(within.saturating_add(1))
        .position(|&b| b == byte)?;
    Some((bytes.get(..at)?, bytes.get(at.checked_add(1)?..)?))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(80).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The published collision of SHA-1 (shattered.io): after these 320 bytes of each, whatever comes
    /// next, the hashes are the same. An object begins with git's header, so that this very pair is
    /// no pair of objects; one of objects takes as much work again, and looks the same to the hasher.
    #[test]
    fn what_is_built_to_collide_is_found_out() {
        let pair: [&[u8]; 2] = [
            include_bytes!("../../tests/data/git/shattered-1.bin"),
            include_bytes!("../../tests/data/git/shattered-2.bin"),
        ];
        assert_ne!(pair[0], pair[1]);
        let plain = pair.map(<sha1::Sha1 as sha1::Digest>::digest);
        assert_eq!(plain[0], plain[1]);
        let found = pair.map(|bytes| {
            let mut hasher = ObjectHasher(sha1_checked::Sha1::new());
            // In any pieces.
            for piece in bytes.chunks(100) {
                hasher.update(piece);
            }
            hasher.finish().unwrap_err()
        });
        // Each has an id of its own, and not that of the other.
        assert_ne!(found[0], found[1]);
        assert!(found.iter().all(|id| id.0[..] != plain[0][..]));
        // As objects they are two harmless ones.
        let [a, b] = pair.map(|bytes| {
            let mut hasher = ObjectHasher::new(Kind::Blob, bytes.len() as u64);
            hasher.update(bytes);
            hasher.finish().unwrap()
        });
        assert_ne!(a, b);
    }

    #[test]
    fn ids_are_gits() {
        assert_eq!(
            hash_object(Kind::Blob, b"hello\n").to_hex(),
            "ce013625030ba8dba906f756967f9e9ca394464a"
        );
        assert_eq!(
            hash_object(Kind::Tree, b"").to_hex(),
            "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
        );
    }

    fn tree(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (mode, name) in entries {
            out.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            out.extend_from_slice(&[1; 20]);
        }
        out
    }

    #[test]
    fn trees_are_read_strictly() {
        let ok = tree(&[("100644", "a.b"), ("40000", "a"), ("100644", "a0")]);
        let names: Vec<_> = parse_tree(&ok).unwrap().iter().map(|e| e.name).collect();
        assert_eq!(names, [&b"a.b"[..], b"a", b"a0"]);
        assert_eq!(parse_tree(&[]), Ok(vec![]));
        for bad in ["..", ".", "", "a/b", ".GIT", "git~1"] {
            let bytes = tree(&[("100644", bad)]);
            assert_eq!(parse_tree(&bytes), Err(TreeError::Name(bad.into())));
        }
        for bad in ["040000", "100664", "1", "999999999"] {
            let bytes = tree(&[(bad, "a")]);
            assert!(
                matches!(parse_tree(&bytes), Err(TreeError::Mode(_))),
                "{bad}"
            );
        }
        for bad in [
            [("100644", "b"), ("100644", "a"), ("100644", "c")],
            [("100644", "a"), ("100644", "a"), ("100644", "b")],
            [("100644", "a"), ("100644", "a.b"), ("40000", "a")],
        ] {
            assert!(matches!(parse_tree(&tree(&bad)), Err(TreeError::Order(_))));
        }
        let cut = tree(&[("100644", "a")]);
        assert_eq!(parse_tree(&cut[..20]), Err(TreeError::Truncated));
        assert_eq!(
            parse_tree(&tree(&[("100644", &"x".repeat(256))])),
            Err(TreeError::LongName(256))
        );
    }

    const COMMIT: &[u8] = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\
        parent ce013625030ba8dba906f756967f9e9ca394464a\n\
        author A <a> 1 +0000\ncommitter A <a> 1 +0000\n\
        signature AAAA\n BBBB\n \n\n{\"body\":\"hi\"}";

    #[test]
    fn a_commit_falls_into_parts() {
        let c = parse_commit(COMMIT).unwrap();
        assert_eq!(c.parents.len(), 1);
        assert_eq!(c.author, b"A <a> 1 +0000");
        assert_eq!(c.message, b"{\"body\":\"hi\"}");
        let signature = c.headers(b"signature").next().unwrap();
        assert_eq!(signature.value(), b"AAAA\nBBBB\n");
        let signed = c.without(signature);
        assert!(signed.ends_with(b"committer A <a> 1 +0000\n\n{\"body\":\"hi\"}"));
        assert_eq!(parse_commit(&signed).unwrap().extra, vec![]);
    }

    #[test]
    fn odd_commits_have_named_errors() {
        let text = String::from_utf8(COMMIT.to_vec()).unwrap();
        let read = |t: &str| parse_commit(t.as_bytes()).map(|_| ());
        assert_eq!(read(""), Err(CommitError::NoMessage));
        assert_eq!(read("\n"), Err(CommitError::Missing("tree")));
        assert_eq!(
            read(&text.replace("tree 4", "tree G")),
            Err(CommitError::Id("tree"))
        );
        assert_eq!(
            read(&text.replace("parent ce", "parent CE")),
            Err(CommitError::Id("parent"))
        );
        assert_eq!(
            read(&text.replace("author A", "auteur A")),
            Err(CommitError::Missing("author"))
        );
        assert_eq!(
            read(&text.replace("signature AAAA", "signature")),
            Err(CommitError::Header)
        );
        assert_eq!(read(&text.replace("AAAA", "A\0AA")), Err(CommitError::Nul));
        assert_eq!(
            read(text.split_once("\n\n").unwrap().0),
            Err(CommitError::NoMessage)
        );
        let parents = "parent ce013625030ba8dba906f756967f9e9ca394464a\n";
        assert_eq!(
            read(&text.replace(parents, &parents.repeat(17))),
            Err(CommitError::TooManyParents)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_tree(&bytes);
            let _ = parse_commit(&bytes);
        }

        #[test]
        fn a_written_tree_reads_back(names in proptest::collection::btree_map("[a-z.]{1,6}", any::<bool>(), 0..20)) {
            let mut entries: Vec<_> = names.iter()
                .filter(|(n, _)| check_name(n.as_bytes()).is_ok())
                .map(|(n, dir)| TreeEntry {
                    mode: if *dir { Mode::Tree } else { Mode::File },
                    name: n.as_bytes(),
                    id: ObjectId([3; 20]),
                }).collect();
            let bytes = write_tree(&mut entries);
            prop_assert_eq!(parse_tree(&bytes).unwrap(), entries);
        }
    }
}
