//! Chains of devices that were met, in memory and as files.

use starling_core::id::{AccountId, DeviceId, DeviceShortId};
use starling_core::identity::CertificateChain;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Most chains that are kept in memory; all of them have a file.
const MAX_IN_MEMORY: usize = 4096;

/// Verified chains by device. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CertificateStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    chains: BTreeMap<DeviceId, CertificateChain>,
    short: BTreeMap<DeviceShortId, DeviceId>,
    accounts: BTreeSet<(AccountId, DeviceId)>,
}

impl CertificateStore {
    /// Opens a directory, which is made if it is missing, and reads what is in it. Files that
    /// cannot be read as a chain are left alone.
    ///
    /// # Errors
    /// The directory cannot be made or listed.
    pub fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut memory = Memory::default();
        for entry in std::fs::read_dir(directory)?.take(MAX_IN_MEMORY) {
            let path = entry?.path();
            let name = path.file_stem().and_then(|n| n.to_str());
            let Some(device) = name.and_then(|n| n.parse::<DeviceId>().ok()) else {
                continue;
            };
            let chain = std::fs::read(&path)
                .ok()
                .and_then(|text| CertificateChain::from_pem(&text).ok());
            match chain {
                Some(chain) if chain.device_id() == device => memory.insert(chain),
                _ => {
                    tracing::warn!(path = %path.display(), "not a certificate chain of this device")
                }
            }
        }
        Ok(Self(Arc::new(Inner {
            directory: directory.to_owned(),
            memory: Mutex::new(memory),
        })))
    }

    /// The chain of a device.
    pub fn get(&self, device: &DeviceId) -> Option<CertificateChain> {
        self.memory().chains.get(device).cloned()
    }

    /// The chain of a device by its short id.
    pub fn get_short(&self, device: &DeviceShortId) -> Option<CertificateChain> {
        let memory = self.memory();
        memory.chains.get(memory.short.get(device)?).cloned()
    }

    /// The chains of an account's devices.
    pub fn of_account(&self, account: &AccountId) -> Vec<CertificateChain> {
        let memory = self.memory();
        let devices = memory.accounts.range((*account, DeviceId([0; 32]))..);
        devices
            .take_while(|(a, _)| a == account)
            .filter_map(|(_, device)| memory.chains.get(device).cloned())
            .collect()
    }

    /// Keeps a chain that was verified.
    ///
    /// # Errors
    /// The file cannot be written; it is kept in memory all the same.
    pub fn pin(&self, chain: &CertificateChain) -> io::Result<()> {
        let device = chain.device_id();
        if self.get(&device).as_ref() == Some(chain) {
            return Ok(());
        }
        self.memory().insert(chain.clone());
        let mut file = tempfile::NamedTempFile::new_in(&self.0.directory)?;
        io::Write::write_all(&mut file, chain.to_pem().as_bytes())?;
        file.persist(self.0.directory.join(format!("{device}.crt")))?;
        Ok(())
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        // A panic elsewhere leaves a whole map: each change is one insert.
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn insert(&mut self, chain: CertificateChain) {
        // The same key may be certified by another account now.
        if let Some(old) = self.chains.get(&chain.device_id()).cloned() {
            self.forget(&old);
        }
        let full = self.chains.len() >= MAX_IN_MEMORY;
        if full
            && !self.chains.contains_key(&chain.device_id())
            && let Some((_, old)) = self.chains.pop_first()
        {
            self.forget(&old);
        }
        self.short.insert(chain.short_id(), chain.device_id());
        self.accounts
            .insert((chain.account_id(), chain.device_id()));
        self.chains.insert(chain.device_id(), chain);
    }

    fn forget(&mut self, chain: &CertificateChain) {
        self.short.remove(&chain.short_id());
        self.accounts
            .remove(&(chain.account_id(), chain.device_id()));
    }
}
