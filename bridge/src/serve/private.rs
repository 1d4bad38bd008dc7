//! Small files that are nobody else's business: mode 0600, whole or not at all, on the disk
//! before anyone relies on them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{path} cannot be {verb}: {source}. {}", advice(source))]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what this program writes.
    #[error(
        "{path} is damaged ({why}). Nothing was changed. Restore it from a backup, or move it \
         away and start again: {lost}"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What one loses without it.
        lost: &'static str,
    },
    /// A newer program wrote it.
    #[error("{path} was written by a newer Starling. Use that one, or another --data-dir.")]
    Newer {
        /// Which file.
        path: PathBuf,
    },
}

fn advice(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "The disk is full: make room and try again."
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "Check who owns the directory, or choose another with --data-dir."
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "A file is where a directory should be: move it away, or choose another with --data-dir."
        }
        _ => "Check the disk, or choose another directory with --data-dir.",
    }
}

impl FileError {
    /// The system refused.
    pub fn io(path: &Path, verb: &'static str, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            verb,
            source,
        }
    }
}

/// Replaces a file: the old or the new content is there at any moment, and the new one is on the
/// disk when this returns.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let fail = |e| FileError::io(path, "written", e);
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = parent.join(name);
    let write = || -> io::Result<()> {
        let mut file = private_options()
            .create(true)
            .write(true)
            .truncate(true)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        // The name is only safe once its directory is.
        File::open(parent)?.sync_all()
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        fail(e)
    })
}

/// Options that give a new file to its owner alone.
pub fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

/// Takes a file from everyone but its owner.
pub fn make_private(path: &Path) -> Result<(), FileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path)
            .map_err(|e| FileError::io(path, "read", e))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "Others could read this; closing it.");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o700))
                .map_err(|e| FileError::io(path, "made private", e))?;
        }
    }
    Ok(())
}

/// Random bytes from the system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // aws-lc's generator fails only when the system has no entropy source at all; nothing that
    // follows could be trusted then.
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_and_replaced_as_a_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        write_private(&path, b"one").expect("to write");
        write_private(&path, b"two").expect("to write");
        assert_eq!(std::fs::read(&path).expect("to read"), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).expect("to list").count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path)
                .expect("it is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_with_advice() {
        let e = write_private(Path::new("/nowhere/at/all"), b"").expect_err("no directory");
        let text = e.to_string();
        assert!(
            text.contains("/nowhere/at/all") && text.contains("--data-dir"),
            "{text}"
        );
    }
}
