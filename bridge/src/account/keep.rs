//! An account's files: archive, device key, certificates, receipt.
//!
//! `archive.gz` is what makes the account; the rest makes this device of it, and
//! can be made anew from the archive.

use crate::crypto::AwsLc;
use crate::serve::private::FileError;
use serde::{Deserialize, Serialize};
use starling_core::crypto::Crypto as _;
use starling_core::identity::{
    Archive, ArchiveError, CertificateChain, Identity, IdentityError, Receipt,
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

/// Writes the archive.
pub fn write_archive(dir: &Path, archive: &[u8]) -> Result<(), KeepError> {
    write_private(&dir.join(ARCHIVE), archive)
}

/// Reads the archive as it is.
pub fn read_archive(dir: &Path) -> Result<Vec<u8>, KeepError> {
    Ok(read(dir.join(ARCHIVE))?.1)
}

/// Whether the archive asks for a password.
pub fn has_password(dir: &Path) -> Result<bool, KeepError> {
    let bytes = read_archive(dir)?;
    Ok(matches!(
        Archive::read(&bytes, &starling_core::identity::Credential::None),
        Err(ArchiveError::NeedsPassword)
    ))
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
