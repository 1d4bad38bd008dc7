//! `starling verify PATH`: is the history of this conversation in order?
//!
//! Offline, from a bare repository, one with a work tree (as the Jami daemon keeps
//! them) or a git bundle. Nothing is written.

use crate::crypto::AwsLc;
use crate::store::objects::{ReadOnly, StoreError};
use starling_core::git::Repository as _;
use starling_core::git::object::hash_object;
use starling_core::git::pack::{Limits, PackError, Scanner};
use starling_core::id::{ConversationId, ObjectId};
use starling_core::swarm::ancestry::{WalkError, Walker};
use starling_core::swarm::misbehaviour::Fault;
use starling_core::swarm::object::{MemoryObjects, Objects};
use starling_core::swarm::validate::Validation;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Most faults that are listed: one is enough to distrust a history, some more show a pattern.
const MAX_FAULTS: usize = 1000;

/// Why nothing can be said about a path.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file cannot be read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Neither a repository nor a bundle.
    #[error("{} is neither a git repository nor a git bundle", .0.display())]
    NeitherRepositoryNorBundle(PathBuf),
    /// The repository cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No branch `main`.
    #[error("there is no branch main")]
    NoHead,
    /// A bundle that builds on something outside.
    #[error("the bundle does not hold the whole history: it needs {0}")]
    Incomplete(String),
    /// A bundle's header cannot be read.
    #[error("the bundle's header is malformed")]
    BadBundle,
    /// A bundle's pack cannot be read.
    #[error("the bundle's pack: {0}")]
    Pack(#[from] PackError),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The conversation: its first commit.
    pub conversation: ConversationId,
    /// The newest commit.
    pub head: ObjectId,
    /// How many commits were looked at.
    pub commits: usize,
    /// Each commit at fault, oldest first within what was looked at; cut at a thousand.
    pub faults: Vec<Fault>,
}

/// Looks through the history at a path.
///
/// # Errors
/// When there is no history to look through.
pub fn verify(path: &Path) -> Result<Report, VerifyError> {
    let io = |source| VerifyError::Io {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        let inside = path.join(".git");
        let git = if inside.is_dir() {
            inside
        } else {
            path.to_owned()
        };
        if !git.join("objects").is_dir() {
            return Err(VerifyError::NeitherRepositoryNorBundle(path.to_owned()));
        }
        let store = ReadOnly::open(&git)?;
        let head = store.head().ok_or(VerifyError::NoHead)?;
        return Ok(look(&Checked(&store), head));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let (head, objects) = read_bundle(&bytes).map_err(|e| match e {
        VerifyError::NeitherRepositoryNorBundle(_) => {
            VerifyError::NeitherRepositoryNorBundle(path.to_owned())
        }
        other => other,
    })?;
    Ok(look(&objects, head))
}

/// A repository on disk may have been damaged or tampered with: an object whose content is not
/// what its id says counts as missing.
struct Checked<'a>(&'a ReadOnly);

impl Objects for Checked<'_> {
    fn object(&self, id: &ObjectId) -> Option<(starling_core::git::object::Kind, Vec<u8>)> {
        Objects::object(self.0, id).filter(|(kind, data)| hash_object(*kind, data) == *id)
    }
}

fn look(objects: &dyn Objects, head: ObjectId) -> Report {
    let mut report = Report {
        conversation: head.into(),
        head,
        commits: 0,
        faults: Vec::new(),
    };
    // The first commit, along first parents; other roots are found and named by the validation.
    let mut walker = Walker::new(objects);
    let mut at = head;
    loop {
        match walker.step(at).map(|s| s.node.parents.first().copied()) {
            Ok(Some(parent)) => at = parent,
            Ok(None) => break,
            Err(WalkError::Missing(id) | WalkError::NotACommit(id)) => {
                at = id;
                break;
            }
            Err(WalkError::TooMany(_) | WalkError::TooTangled) => break,
        }
    }
    report.conversation = at.into();
    match Validation::new(objects, report.conversation, None, head) {
        Ok(mut validation) => {
            report.commits = validation.commits().len();
            report.faults = validation.survey(&AwsLc, MAX_FAULTS);
        }
        Err(fault) => report.faults.push(fault),
    }
    report
}

/// Reads a bundle of version 2 or 3 whole: its `main` (or `HEAD`) and all objects.
fn read_bundle(bytes: &[u8]) -> Result<(ObjectId, MemoryObjects), VerifyError> {
    let nothing = || VerifyError::NeitherRepositoryNorBundle(PathBuf::new());
    let mut rest = bytes
        .strip_prefix(b"# v2 git bundle\n")
        .or_else(|| bytes.strip_prefix(b"# v3 git bundle\n"))
        .ok_or_else(nothing)?;
    let mut head = None;
    loop {
        let end = rest
            .iter()
            .position(|b| *b == b'\n')
            .ok_or(VerifyError::BadBundle)?;
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| VerifyError::BadBundle)?;
        if line.is_empty() {
            break;
        }
        if let Some(needed) = line.strip_prefix('-') {
            let id = needed.split(' ').next().unwrap_or_default();
            return Err(VerifyError::Incomplete(id.to_owned()));
        }
        if let Some(capability) = line.strip_prefix('@') {
            match capability.split_once('=') {
                Some(("object-format", "sha1")) => continue,
                _ => return Err(VerifyError::BadBundle),
            }
        }
        let (id, name) = line.split_once(' ').ok_or(VerifyError::BadBundle)?;
        let id: ObjectId = id.parse().map_err(|_| VerifyError::BadBundle)?;
        match name {
            "refs/heads/main" => head = Some(id),
            "HEAD" => head = head.or(Some(id)),
            _ => {}
        }
    }
    let mut scanner = Scanner::new(Limits::default());
    scanner.push(rest)?;
    let mut objects = MemoryObjects::new();
    scanner.finish()?.resolve_each(rest, |_, object| {
        objects.insert(object.kind, object.bytes);
    })?;
    Ok((head.ok_or(VerifyError::NoHead)?, objects))
}

/// Runs the command: the verdict goes to `out`, one line a commit at fault, and why there is none to `complaints`. The
/// answer is the exit code: 0 in order, 1 at fault, 2 when nothing can be said.
pub fn run(path: &Path, out: &mut dyn Write, complaints: &mut dyn Write) -> u8 {
    match verify(path) {
        Ok(report) => {
            // Somebody who closes the pipe has seen enough.
            for fault in &report.faults {
                let _ = writeln!(out, "{}: {fault}", fault.misbehaviour.name());
            }
            let _ = if report.faults.is_empty() {
                writeln!(
                    out,
                    "conversation {}: {} commits, all in order",
                    report.conversation, report.commits
                )
            } else {
                writeln!(
                    out,
                    "conversation {}: {} commits, {} at fault",
                    report.conversation,
                    report.commits,
                    report.faults.len()
                )
            };
            u8::from(!report.faults.is_empty())
        }
        Err(error) => {
            let _ = writeln!(complaints, "cannot verify: {error}");
            2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/swarm")
            .join(name)
    }

    fn printed(path: &Path) -> (u8, String) {
        let (mut out, mut complaints) = (Vec::new(), Vec::new());
        let code = run(path, &mut out, &mut complaints);
        assert_eq!(complaints.is_empty(), code != 2);
        out.append(&mut complaints);
        (code, String::from_utf8(out).unwrap_or_default())
    }

    #[test]
    fn a_daemons_bundle_is_in_order() {
        let (code, text) = printed(&bundle("group.bundle"));
        assert_eq!(
            text,
            "conversation a286c2341115885eb75ed00a9c48d2dfd5acff15: 31 commits, all in order\n"
        );
        assert_eq!(code, 0);
    }

    #[test]
    fn a_repository_is_looked_through_bare_or_with_a_work_tree() {
        let bytes = std::fs::read(bundle("group.bundle")).expect("the bundle");
        let (head, objects) = read_bundle(&bytes).expect("a bundle");
        for work_tree in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let git = if work_tree {
                dir.path().join(".git")
            } else {
                dir.path().join("bare")
            };
            let shown = if work_tree { dir.path() } else { &git };
            let store = crate::store::objects::ObjectStore::create(&git).expect("a repository");
            let list: Vec<_> = objects.iter().map(|(_, kind, data)| (kind, data)).collect();
            store.write_objects(&list).expect("written");
            store.set_head(None, head).expect("the branch");
            store.checkpoint().expect("flushed");
            let (code, text) = printed(shown);
            assert!(text.ends_with("31 commits, all in order\n"), "{text}");
            assert_eq!(code, 0);
            // Somebody rewrites the newest text and forgets that it was signed.
            let (_, commit) = Objects::object(&objects, &head).expect("the head");
            let forged = String::from_utf8(commit)
                .expect("text")
                .replace("1795247656", "1795247657");
            let new = store
                .write_objects(&[(starling_core::git::object::Kind::Commit, forged.as_bytes())])
                .expect("written");
            store.set_head(Some(head), new[0]).expect("the branch");
            store.checkpoint().expect("flushed");
            let (code, text) = printed(shown);
            assert!(
                text.starts_with(&format!("WrongSignature: commit {}", new[0])),
                "{text}"
            );
            assert!(text.ends_with("31 commits, 1 at fault\n"), "{text}");
            assert_eq!(code, 1);
        }
    }

    #[test]
    fn what_is_no_history_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(printed(dir.path()).0, 2);
        let file = dir.path().join("x");
        let whole = std::fs::read(bundle("group.bundle")).expect("the bundle");
        for (bytes, says) in [
            (b"hello\n".to_vec(), "neither"),
            (whole[..whole.len() - 7].to_vec(), "cut off"),
            (
                b"# v2 git bundle\n-1234567890123456789012345678901234567890 x\n\n".to_vec(),
                "whole history",
            ),
            (b"# v2 git bundle\nx\n\n".to_vec(), "malformed"),
            (b"# v2 git bundle\n".to_vec(), "malformed"),
        ] {
            std::fs::write(&file, bytes).expect("written");
            let (code, text) = printed(&file);
            assert_eq!(code, 2, "{text}");
            assert!(text.contains(says), "{text}");
        }
        assert_eq!(printed(&dir.path().join("nothing")).0, 2);
    }
}
