//! The revocation lists of accounts that were met, in memory and as files.

use sha2::{Digest as _, Sha256};
use starling_core::crypto::Crypto;
use starling_core::id::AccountId;
use starling_core::identity::{
    Certificate, CertificateChain, ChainError, RevocationError, RevocationList, Revocations,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The directory below [`super::PeerConfig::directory`].
pub const REVOCATIONS: &str = "revocations";

/// Bytes of all lists together. One that names a device has some 700, so that is room for thousands of
/// accounts. Our bound: who makes lists of any size can make any number of accounts.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// An account's lists are looked up again when it connects after this time: as long as a published one
/// lives without being renewed (OpenDHT, values of no special type).
const AGAIN: Duration = Duration::from_secs(600);

/// The same if none was found.
const SOON_AGAIN: Duration = Duration::from_secs(60);

/// Most accounts of which is remembered when their lists were looked up.
const MAX_LOOKED_UP: usize = 4096;

/// Most lists that are remembered as forged: they lie where they are looked for, and come again each time. As many as
/// one account's place is searched for, a few times.
const MAX_FORGED: usize = 16_384;

/// Why a list is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// It does not count.
    #[error(transparent)]
    List(#[from] RevocationError),
    /// It counts, until the program ends: it could not be written.
    #[error("a revocation list could not be written: {0}")]
    Io(String),
}

impl From<io::Error> for TakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// What accounts have taken back. Cheap to clone.
#[derive(Clone)]
pub struct RevocationStore(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    crypto: Arc<dyn Crypto>,
    /// Never goes: its lists are ours to publish.
    own: AccountId,
    /// Held while something is taken in, so that of two that change one account's files the later is the last.
    /// Nobody else waits for it.
    taking: Mutex<()>,
    /// Each connection looks here: held for no signature and no file.
    memory: Mutex<Memory>,
}

/// A list that is news, or one that was not and had to be written still.
pub(super) struct Taken {
    /// Whether it is kept.
    pub(super) kept: bool,
    /// The account's lists before.
    pub(super) before: Vec<RevocationList>,
    /// Whether what counts now is written.
    pub(super) written: io::Result<()>,
}

#[derive(Default)]
struct Memory {
    known: BTreeMap<AccountId, Revocations>,
    /// Accounts whose files are not what is known, since writing failed.
    unwritten: BTreeSet<AccountId>,
    /// Until when an account's lists are not looked up again.
    looked_up: BTreeMap<AccountId, Instant>,
    /// Hashes of lists that are not those of the account they were shown for.
    forged: BTreeSet<[u8; 32]>,
}

impl fmt::Debug for RevocationStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RevocationStore")
    }
}

impl RevocationStore {
    /// Opens a directory, which is made if it is missing, and reads what is in it. Files that hold no
    /// list are left alone.
    ///
    /// # Errors
    /// The directory cannot be made or listed.
    pub fn open(directory: &Path, own: AccountId, crypto: Arc<dyn Crypto>) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let (mut found, mut bytes) = (BTreeMap::<AccountId, Vec<_>>::new(), 0_usize);
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let Some(account) = account_of(&path) else {
                continue;
            };
            let list = std::fs::read(&path)
                .ok()
                .and_then(|der| RevocationList::from_der(&der).ok());
            let Some(list) = list else {
                tracing::warn!(path = %path.display(), "not a revocation list");
                continue;
            };
            let more = bytes.saturating_add(list.der().len());
            if account != own && more > MAX_BYTES {
                tracing::warn!(path = %path.display(), "too many revocation lists; this one is deleted");
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::warn!(%error, "it stays");
                }
                continue;
            }
            if account != own {
                bytes = more;
            }
            found.entry(account).or_default().push(list);
        }
        let known = found.into_iter().map(|(a, l)| (a, Revocations::kept(l)));
        Ok(Self(Arc::new(Inner {
            directory: directory.to_owned(),
            crypto,
            own,
            taking: Mutex::default(),
            memory: Mutex::new(Memory {
                known: known.collect(),
                ..Memory::default()
            }),
        })))
    }

    /// The lists of an account.
    pub fn lists(&self, account: &AccountId) -> Vec<RevocationList> {
        let memory = self.memory();
        let known = memory.known.get(account);
        known.map_or_else(Vec::new, |k| k.lists().to_vec())
    }

    /// Whether nothing in a chain is revoked, as far as is known.
    ///
    /// # Errors
    /// [`ChainError::Revoked`].
    pub fn check(&self, chain: &CertificateChain) -> Result<(), ChainError> {
        let lists = self.lists(&chain.account_id());
        chain.check_revoked(self.0.crypto.as_ref(), &lists)
    }

    /// Takes in a list that somebody says is an account's, and writes it. Our own is flushed to the disk, those of
    /// others can be found again. Says whether it is kept, as [`Revocations::take`] does. `met`: chains of the account's
    /// devices that were met. Checks a signature and writes files: nothing for a thread on which others wait.
    ///
    /// # Errors
    /// Why it does not count, or not for long.
    pub fn take(
        &self,
        account: &Certificate,
        list: RevocationList,
        met: &[CertificateChain],
    ) -> Result<bool, TakeError> {
        match self.take_in(account, list, || met.to_vec())? {
            Some(taken) => {
                taken.written?;
                Ok(taken.kept)
            }
            None => Ok(false),
        }
    }

    /// As [`Self::take`]: `met` is asked for only if the list is the account's own. `None`: it is known.
    pub(super) fn take_in(
        &self,
        account: &Certificate,
        list: RevocationList,
        met: impl FnOnce() -> Vec<CertificateChain>,
    ) -> Result<Option<Taken>, RevocationError> {
        let id = account.account_id();
        let is_known = {
            let memory = self.memory();
            let known = memory.known.get(&id);
            known.is_some_and(|k| k.lists().contains(&list)) && !memory.unwritten.contains(&id)
        };
        if is_known {
            return Ok(None);
        }
        self.check_issuer(account, &list)?;

        let met = met();
        let _taking = self.0.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, unwritten) = {
            let memory = self.memory();
            let before = memory.known.get(&id).cloned().unwrap_or_default();
            (before, memory.unwritten.contains(&id))
        };
        let mut now = before.clone();
        let kept = now.insert(list, met.iter().map(|chain| &chain.device));
        if kept == Err(RevocationError::TooMany) {
            // It counts as soon as a device that it takes back is met: nobody is let in unasked then.
            self.memory().looked_up.remove(&id);
        }
        let kept = kept?;
        if !kept && !unwritten {
            return Ok(None);
        }
        let (mut new, mut old) = (now.lists().to_vec(), before.lists().to_vec());
        if !unwritten {
            new.retain(|list| !before.lists().contains(list));
        }
        old.retain(|list| !now.lists().contains(list));
        // On the disk before anybody can read it here, and publish it.
        let written = self.write(&id, &new);
        let gone = {
            let mut memory = self.memory();
            if !now.lists().is_empty() {
                memory.known.insert(id, now);
            }
            memory.unwritten.insert(id);
            memory.make_room(&self.0.own)
        };
        let written = written.and_then(|()| self.delete(&id, &old));
        if written.is_ok() {
            self.memory().unwritten.remove(&id);
        }
        for (of, lists) in &gone {
            if let Err(error) = self.delete(of, lists.lists()) {
                tracing::warn!(%error, account = %of, "a revocation list stays on the disk");
            }
        }
        Ok(Some(Taken {
            kept,
            before: before.lists().to_vec(),
            written,
        }))
    }

    /// Whether a list is an account's own. One that is not is looked at once.
    fn check_issuer(
        &self,
        account: &Certificate,
        list: &RevocationList,
    ) -> Result<(), RevocationError> {
        if !list.is_about(account) {
            return Err(RevocationError::WrongIssuer);
        }
        let mut sum = Sha256::new();
        // The whole certificate: others have the same key, and another name.
        sum.update(Sha256::digest(account.der()));
        sum.update(list.der());
        let sum = sum.finalize().into();
        if self.memory().forged.contains(&sum) {
            return Err(RevocationError::BadSignature);
        }
        let checked = list.check_issuer(self.0.crypto.as_ref(), account);
        if checked.is_err() {
            let mut memory = self.memory();
            if memory.forged.len() >= MAX_FORGED {
                memory.forged.clear();
            }
            memory.forged.insert(sum);
        }
        checked
    }

    /// Whether an account's lists are to be looked up: not in the last minutes.
    pub(super) fn is_due(&self, account: &AccountId) -> bool {
        let memory = self.memory();
        let until = memory.looked_up.get(account);
        until.is_none_or(|until| *until <= Instant::now())
    }

    /// An account's lists were looked up, and taken in. Where none was `found`, which may be because the DHT was not
    /// reached, or none counts, sooner again.
    pub(super) fn looked_up(&self, account: &AccountId, found: bool) {
        let mut memory = self.memory();
        let again = if found && memory.known.contains_key(account) {
            AGAIN
        } else {
            SOON_AGAIN
        };
        if memory.looked_up.len() >= MAX_LOOKED_UP {
            memory.looked_up.clear();
        }
        memory.looked_up.insert(*account, Instant::now() + again);
    }

    fn write(&self, id: &AccountId, new: &[RevocationList]) -> io::Result<()> {
        let directory = &self.0.directory;
        for list in new {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            io::Write::write_all(&mut file, list.der())?;
            if *id == self.0.own {
                file.as_file().sync_all()?;
            }
            file.persist(directory.join(file_name(id, list)))?;
        }
        if *id == self.0.own {
            std::fs::File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    fn delete(&self, id: &AccountId, gone: &[RevocationList]) -> io::Result<()> {
        for list in gone {
            match std::fs::remove_file(self.0.directory.join(file_name(id, list))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic elsewhere leaves a whole map: each change is one insert.
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Forgets the lists of whoever has the longest, until the others have room. Gives them.
    fn make_room(&mut self, own: &AccountId) -> Vec<(AccountId, Revocations)> {
        let mut gone = Vec::new();
        let len = |known: &Revocations| known.lists().iter().map(|l| l.der().len()).sum::<usize>();
        loop {
            let mut others: Vec<_> = self.known.iter().filter(|(id, _)| *id != own).collect();
            let all: usize = others.iter().map(|(_, known)| len(known)).sum();
            if all <= MAX_BYTES {
                return gone;
            }
            others.sort_by_key(|(_, known)| len(known));
            let Some(longest) = others.last().map(|(id, _)| **id) else {
                return gone;
            };
            tracing::warn!(account = %longest, "too many revocation lists; those of one account are forgotten");
            self.looked_up.remove(&longest);
            gone.extend(self.known.remove_entry(&longest));
        }
    }
}

/// An account and what the list says, so that several of one account have a name each.
fn file_name(account: &AccountId, list: &RevocationList) -> String {
    let sum = hex::encode(Sha256::digest(list.der()));
    format!("{account}-{sum}.crl")
}

fn account_of(path: &Path) -> Option<AccountId> {
    let name = path.file_name()?.to_str()?.strip_suffix(".crl")?;
    name.split_once('-')?.0.parse().ok()
}
