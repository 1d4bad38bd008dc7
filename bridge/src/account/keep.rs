//! An account's files: archive, device key, certificates, receipt.
//!
//! `archive.gz` is what makes the account; the rest makes this device of it, and
//! can be made anew from the archive.

use crate::crypto::AwsLc;
use crate::serve::private::FileError;
use crate::store::state::{State, StateError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use starling_core::crypto::Crypto as _;
use starling_core::id::AccountId;
use starling_core::identity::{
    Archive, ArchiveError, CertificateChain, Credential, Identity, IdentityError, Receipt,
    private_key_from_pem, private_key_to_pem,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ARCHIVE: &str = "archive.gz";
const KEY: &str = "device.key";
const CHAIN: &str = "device.crt";
const RECEIPT: &str = "receipt.json";

/// What can be wrong with an account's files. None of them is changed by finding out.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is damaged ({what}); nothing was changed: restore it from a backup, or import the account's archive, archive.gz beside it, to make a new device", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The archive is not what was written.
    #[error("{} is damaged ({what}); nothing was changed, and this device goes on. No backup can be made of the account until a good one is in its place: a copy of that file, or a backup that was exported", .path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Key, certificates and receipt do not make a device.
    #[error("the device's files in {} do not make a device: {why}; nothing was changed: import the account's archive, {}, to make a new one", .path.display(), .path.join(ARCHIVE).display())]
    Identity {
        /// The directory.
        path: PathBuf,
        /// What does not fit.
        why: IdentityError,
    },
}

#[derive(Serialize, Deserialize)]
struct ReceiptFile {
    text: String,
    signature: String,
}

/// Writes a file that only its owner may read: whole or not at all, and for good.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), KeepError> {
    crate::serve::private::write_private(path, bytes).map_err(|e| KeepError::Io {
        path: path.into(),
        source: match e {
            FileError::Io { source, .. } => source,
            other => io::Error::other(other),
        },
    })
}

fn read(path: PathBuf) -> Result<(PathBuf, Vec<u8>), KeepError> {
    match std::fs::read(&path) {
        Ok(bytes) => Ok((path, bytes)),
        Err(source) => Err(KeepError::Io { path, source }),
    }
}

/// Where the archive is.
pub fn archive_path(dir: &Path) -> PathBuf {
    dir.join(ARCHIVE)
}

/// What is remembered of the archive: without its password nobody can tell a protected one from
/// rubbish.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    /// SHA-256 of the file, in hex: of two for the moment in which it is written anew.
    sums: Vec<String>,
    /// It asks for a password.
    protected: bool,
}

impl Written {
    fn of(state: &State) -> Result<Option<Self>, StateError> {
        state.get("own", "archive")
    }

    fn keep(&self, state: &State) -> Result<(), StateError> {
        state.put("own", "archive", self)
    }
}

fn sum(archive: &[u8]) -> String {
    hex::encode(Sha256::digest(archive))
}

/// Whether an archive asks for a password.
pub fn is_protected(archive: &[u8]) -> bool {
    matches!(
        Archive::read(archive, &Credential::None, &AwsLc),
        Err(ArchiveError::NeedsPassword)
    )
}

/// How it stands with the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// It asks for a password, or did before it was damaged.
    pub protected: bool,
    /// What is wrong with it.
    pub damage: Option<String>,
}

fn damaged_archive(dir: &Path, what: String) -> KeepError {
    KeepError::Archive {
        path: dir.join(ARCHIVE),
        what,
    }
}

/// Writes the archive, and remembers what was written.
pub fn write_archive(dir: &Path, state: &State, archive: &[u8]) -> Result<(), super::AccountError> {
    let mut written = Written::of(state)?.unwrap_or_default();
    // Whichever of the two is there after a fall is right.
    let old = written.sums.pop();
    written.protected = is_protected(archive);
    written.sums = old.into_iter().chain([sum(archive)]).collect();
    written.keep(state)?;
    write_private(&dir.join(ARCHIVE), archive)?;
    written.sums = vec![sum(archive)];
    Ok(written.keep(state)?)
}

/// Reads the archive as it is.
pub fn read_archive(dir: &Path) -> Result<Vec<u8>, KeepError> {
    match read(dir.join(ARCHIVE)) {
        Ok((_, bytes)) => Ok(bytes),
        Err(KeepError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(damaged_archive(dir, "it is missing".into()))
        }
        Err(e) => Err(e),
    }
}

/// Whether an archive is one of this account.
fn is_of(archive: &Archive, account: AccountId) -> bool {
    let first = archive.certificates.first();
    first.is_some_and(|c| c.account_id() == account)
}

/// Opens the archive of an account: its bytes and what is in it, or why this does not open what was
/// written.
///
/// # Errors
/// It is not what was written.
pub fn open_archive(
    dir: &Path,
    state: &State,
    account: AccountId,
    credential: &Credential,
) -> Result<Result<(Vec<u8>, Archive), ArchiveError>, super::AccountError> {
    let file = read_archive(dir)?;
    let written = Written::of(state)?;
    let other = written.is_some_and(|w| !w.sums.contains(&sum(&file)));
    match Archive::read(&file, credential, &AwsLc) {
        Ok(archive) if is_of(&archive, account) => Ok(Ok((file, archive))),
        Ok(_) => Err(damaged_archive(dir, "it is of another account".into()).into()),
        Err(_) if other => Err(damaged_archive(dir, "it is not what was written".into()).into()),
        Err(e) => Ok(Err(e)),
    }
}

/// Looks at the archive: a backup in its place is good, also if another program put it there.
pub fn look_at_archive(
    dir: &Path,
    state: &State,
    account: AccountId,
) -> Result<Standing, super::AccountError> {
    let written = Written::of(state)?;
    let was_protected = written.as_ref().is_some_and(|w| w.protected);
    let damaged = |what: String| Standing {
        protected: was_protected,
        damage: Some(damaged_archive(dir, what).to_string()),
    };
    let file = match read_archive(dir) {
        Ok(file) => file,
        Err(e @ KeepError::Archive { .. }) => {
            return Ok(Standing {
                protected: was_protected,
                damage: Some(e.to_string()),
            });
        }
        Err(e) => return Err(e.into()),
    };
    let known = written.is_none_or(|w| w.sums.contains(&sum(&file)));
    Ok(match Archive::read(&file, &Credential::None, &AwsLc) {
        Ok(archive) if is_of(&archive, account) => Standing {
            protected: false,
            damage: None,
        },
        Ok(_) => damaged("it is of another account".into()),
        Err(ArchiveError::NeedsPassword) if known => Standing {
            protected: true,
            damage: None,
        },
        Err(ArchiveError::NeedsPassword) => damaged("it is not what was written".into()),
        Err(e) => damaged(e.to_string()),
    })
}

/// Writes the device's files.
pub fn write_identity(dir: &Path, identity: &Identity) -> Result<(), KeepError> {
    use base64::Engine as _;
    write_private(
        &dir.join(KEY),
        private_key_to_pem(&*identity.device_key).as_bytes(),
    )?;
    write_private(&dir.join(CHAIN), identity.chain.to_pem().as_bytes())?;
    let receipt = ReceiptFile {
        text: identity.receipt.text().to_owned(),
        signature: base64::engine::general_purpose::STANDARD.encode(identity.receipt.signature()),
    };
    let json = serde_json::to_vec(&receipt).unwrap_or_default();
    write_private(&dir.join(RECEIPT), &json)
}

/// Whose the files say they are, whatever else is wrong with them.
pub fn read_chain(dir: &Path) -> Option<CertificateChain> {
    let (_, bytes) = read(dir.join(CHAIN)).ok()?;
    CertificateChain::from_pem(&bytes).ok()
}

/// Reads the device's files and checks that they make a device.
pub fn read_identity(dir: &Path, now_unix: u64) -> Result<Identity, KeepError> {
    use base64::Engine as _;
    let damaged = |path: &Path, what: &dyn std::fmt::Display| KeepError::Damaged {
        path: path.into(),
        what: what.to_string(),
    };
    let (path, bytes) = read(dir.join(KEY))?;
    let key = private_key_from_pem(&AwsLc, &bytes).map_err(|e| damaged(&path, &e))?;
    let (path, bytes) = read(dir.join(CHAIN))?;
    let chain = CertificateChain::from_pem(&bytes).map_err(|e| damaged(&path, &e))?;
    let (path, bytes) = read(dir.join(RECEIPT))?;
    let file: ReceiptFile = serde_json::from_slice(&bytes).map_err(|e| damaged(&path, &e))?;
    let signature = base64::engine::general_purpose::STANDARD
        .decode(&file.signature)
        .map_err(|e| damaged(&path, &e))?;
    let receipt = Receipt::parse(&file.text, &signature).map_err(|e| damaged(&path, &e))?;
    Identity::load(&AwsLc, Arc::from(key), chain, receipt, &[], now_unix).map_err(|why| {
        KeepError::Identity {
            path: dir.into(),
            why,
        }
    })
}

/// Bytes fit for names and numbers.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    AwsLc.random(&mut bytes);
    bytes
}
