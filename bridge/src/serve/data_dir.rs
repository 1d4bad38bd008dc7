//! The data directory: whose it is at the moment, and where its bridge can be found.

use super::private::{FileError, make_private, private_options, write_private};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another bridge uses it.
    #[error(
        "{} is in use by another Starling{}. Open the page of that one, stop it with \
         `starling rpc bridge.stop --data-dir {0}`, or start this one with another --data-dir.",
        .path.display(),
        .pid.map(|p| format!(" (process {p})")).unwrap_or_default()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who holds it.
        pid: Option<u32>,
    },
    /// It cannot be made, read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The one bridge of a data directory, for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    // The lock goes with the handle, also when the process is killed.
    lock: File,
}

/// How to find a running bridge: `<data-dir>/bridge.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgeFile {
    /// `http://localhost:7474`, without a code.
    pub url: String,
    /// Its process.
    pub pid: u32,
    /// Where the admin token lies.
    pub token_file: PathBuf,
    /// Of the program.
    pub version: String,
}

const BRIDGE_FILE: &str = "bridge.json";

impl DataDir {
    /// Makes the directory if need be, and takes it for this process alone. From then on whatever
    /// this process makes is for its user only, as is a directory that was used so before.
    pub fn take(path: &Path) -> Result<Self, DataDirError> {
        #[cfg(unix)]
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt as _;
            builder.mode(0o700);
        }
        builder
            .create(path)
            .map_err(|e| FileError::io(path, "made", e))?;
        let lock_path = path.join("lock");
        // One that is ours already, or that nothing lies in yet: not a home directory somebody named.
        let ours = lock_path.exists()
            || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        if ours {
            make_private(path)?;
        }
        let fail = |verb| move |e| FileError::io(&path.join("lock"), verb, e);
        let mut lock = private_options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .map_err(fail("opened"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = lock.read_to_string(&mut text).ok();
                return Err(DataDirError::Locked {
                    path: path.into(),
                    pid: pid.and_then(|_| text.trim().parse().ok()),
                });
            }
            Err(TryLockError::Error(e)) => return Err(fail("locked")(e).into()),
        }
        lock.set_len(0).map_err(fail("written"))?;
        lock.write_all(std::process::id().to_string().as_bytes())
            .map_err(fail("written"))?;
        Ok(Self {
            path: path.into(),
            lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says where this bridge is to be found.
    pub fn announce(&self, url: &str) -> Result<BridgeFile, FileError> {
        let file = BridgeFile {
            url: url.into(),
            pid: std::process::id(),
            token_file: self.path.join("admin.token"),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let path = self.path.join(BRIDGE_FILE);
        let text = serde_json::to_vec_pretty(&file)
            .map_err(|e| FileError::io(&path, "written", e.into()))?;
        write_private(&path, &text)?;
        Ok(file)
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path.join(BRIDGE_FILE));
        // Closing it is not enough: a child process that is just being started has a copy until it is another program.
        let _ = self.lock.unlock();
    }
}

/// Where the bridge of a data directory is; `None` when none runs. An error where that cannot be seen, as in somebody
/// else's directory.
pub fn find_bridge(path: &Path) -> Result<Option<BridgeFile>, FileError> {
    let lock_path = path.join("lock");
    let lock = match File::open(&lock_path) {
        Ok(lock) => lock,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FileError::io(&lock_path, "opened", e)),
    };
    // A killed bridge leaves its file behind, but not its lock.
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        _ => return Ok(None),
    }
    let text = std::fs::read(path.join(BRIDGE_FILE)).ok();
    Ok(text.and_then(|t| serde_json::from_slice(&t).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_bridge_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        assert_eq!(find_bridge(&path).unwrap(), None);
        let first = DataDir::take(&path).expect("to take");
        let told = first.announce("http://localhost:1").expect("to announce");
        assert_eq!(find_bridge(&path).unwrap(), Some(told));
        let e = DataDir::take(&path).expect_err("taken");
        assert!(matches!(e, DataDirError::Locked { pid: Some(p), .. } if p == std::process::id()));
        let text = e.to_string();
        assert!(
            text.contains("--data-dir") && text.contains("bridge.stop"),
            "{text}"
        );
        drop(first);
        assert_eq!(find_bridge(&path).unwrap(), None);
        DataDir::take(&path).expect("to take again");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_reads_a_data_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| {
            let data = std::fs::metadata(path).expect("there");
            data.permissions().mode() & 0o777
        };
        let open = || std::fs::Permissions::from_mode(0o755);
        let dir = tempfile::tempdir().expect("a directory");
        // Empty, with a bridge's files in it, and somebody's own with others in it.
        std::fs::set_permissions(dir.path(), open()).expect("to set");
        drop(DataDir::take(dir.path()).expect("to take"));
        assert_eq!(mode(dir.path()), 0o700);
        std::fs::set_permissions(dir.path(), open()).expect("to set");
        let taken = DataDir::take(dir.path()).expect("to take");
        assert_eq!(mode(dir.path()), 0o700);
        let inner = dir.path().join("accounts");
        std::fs::create_dir(&inner).expect("to make");
        std::fs::write(inner.join("state.sqlite"), b"").expect("to write");
        assert_eq!(mode(&inner), 0o700);
        assert_eq!(mode(&inner.join("state.sqlite")), 0o600);
        drop(taken);
        let home = tempfile::tempdir().expect("a directory");
        std::fs::write(home.path().join("letter"), b"").expect("to write");
        std::fs::set_permissions(home.path(), open()).expect("to set");
        drop(DataDir::take(home.path()).expect("to take"));
        assert_eq!(mode(home.path()), 0o755);
    }

    #[test]
    fn a_killed_bridge_is_not_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = DataDir::take(dir.path()).expect("to take");
        first.announce("http://localhost:1").expect("to announce");
        let left = std::fs::read(dir.path().join(BRIDGE_FILE)).expect("to read");
        drop(first);
        std::fs::write(dir.path().join(BRIDGE_FILE), left).expect("to write");
        assert_eq!(find_bridge(dir.path()).unwrap(), None);
    }
}
