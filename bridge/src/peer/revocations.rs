//! The revocation lists of accounts that were met, in memory and as files.

use sha2::{Digest as _, Sha256};
use starling_core::crypto::Crypto;
use starling_core::id::AccountId;
use starling_core::identity::{
    Certificate, CertificateChain, ChainError, RevocationError, RevocationList, Revocations,
};
use std::collections::BTreeMap;
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

/// What accounts have taken back. Cheap to clone.
#[derive(Clone)]
pub struct RevocationStore(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    crypto: Arc<dyn Crypto>,
    /// Never goes: its lists are ours to publish.
    own: AccountId,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    known: BTreeMap<AccountId, Revocations>,
    /// Until when an account's lists are not looked up again.
    looked_up: BTreeMap<AccountId, Instant>,
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
            memory: Mutex::new(Memory {
                known: known.collect(),
                looked_up: BTreeMap::new(),
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

    /// Takes in a list that somebody says is an account's. Says whether it is kept, as
    /// [`Revocations::take`] does. `met`: chains of the account's devices that were met.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn take(
        &self,
        account: &Certificate,
        list: RevocationList,
        met: &[CertificateChain],
    ) -> Result<bool, RevocationError> {
        let id = account.account_id();
        let mut memory = self.memory();
        let known = memory.known.entry(id).or_default();
        let before = known.clone();
        let met = met.iter().map(|chain| &chain.device);
        let taken = known.take(self.0.crypto.as_ref(), account, list, met);
        if matches!(taken, Ok(true)) {
            let gone = memory.make_room(&self.0.own);
            let now = memory.known.get(&id).cloned().unwrap_or_default();
            // Under the lock: of two that change one account's files, the later is to be the last.
            let written = self.write(&id, &before, &now).and_then(|()| {
                gone.iter()
                    .try_for_each(|(of, lists)| self.delete(of, lists.lists()))
            });
            if let Err(error) = written {
                tracing::warn!(%error, "a revocation list is not written");
            }
        } else {
            if known.lists().is_empty() {
                memory.known.remove(&id);
            }
            if taken == Err(RevocationError::TooMany) {
                // It counts as soon as a device that it takes back is met: nobody is let in unasked then.
                memory.looked_up.remove(&id);
            }
        }
        taken
    }

    /// Whether an account's lists are to be looked up: not in the last minutes. From now on they were.
    pub(super) fn look_up(&self, account: &AccountId) -> bool {
        let looked_up = &mut self.memory().looked_up;
        let now = Instant::now();
        if looked_up.get(account).is_some_and(|until| *until > now) {
            return false;
        }
        if looked_up.len() >= MAX_LOOKED_UP {
            looked_up.clear();
        }
        looked_up.insert(*account, now + AGAIN);
        true
    }

    /// It came to nothing: they are to be looked up as if they never were.
    pub(super) fn not_looked_up(&self, account: &AccountId) {
        self.memory().looked_up.remove(account);
    }

    /// Nothing was found, which may be because the DHT was not reached: sooner again.
    pub(super) fn found_none(&self, account: &AccountId) {
        let mut memory = self.memory();
        if let Some(until) = memory.looked_up.get_mut(account) {
            *until = Instant::now() + SOON_AGAIN;
        }
    }

    fn write(&self, id: &AccountId, before: &Revocations, now: &Revocations) -> io::Result<()> {
        let directory = &self.0.directory;
        for new in now.lists().iter().filter(|l| !before.lists().contains(l)) {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            io::Write::write_all(&mut file, new.der())?;
            file.persist(directory.join(file_name(id, new)))?;
        }
        let mut old = before.lists().to_vec();
        old.retain(|l| !now.lists().contains(l));
        self.delete(id, &old)
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
