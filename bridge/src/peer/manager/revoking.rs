//! Devices that their owner took back: how that becomes known, and what happens then.

use super::super::link::Command;
use super::super::signalling::SignallingError;
use super::{Entry, Inner, LinkState, OpenError, PeerManager};
use starling_core::id::{AccountId, DeviceId};
use starling_core::identity::{CertificateChain, RevocationError, RevocationList};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Lists that are looked for, unverified.
pub(super) type FoundLists = JoinHandle<Vec<RevocationList>>;

impl PeerManager {
    /// Takes in a list that was found where an account publishes its own. Devices that it takes back
    /// are not let in from now on, and their connections end. Lists of accounts of which no device was
    /// met yet are passed over: they are looked up when that happens.
    ///
    /// # Errors
    /// It is not the account's own; nothing has changed then.
    pub fn take_list(
        &self,
        account: &AccountId,
        list: RevocationList,
    ) -> Result<(), RevocationError> {
        match self.inner.chain_of(account) {
            Some(chain) => self.inner.take_list(&chain, list),
            None => Ok(()),
        }
    }

    /// Whether an account is known to have taken back a device of its own that was met, or this one. What others
    /// say of a device says nothing: anybody can issue a certificate for its key, and revoke that.
    pub fn is_revoked(&self, account: &AccountId, device: &DeviceId) -> bool {
        let inner = &self.inner;
        let chain = match *device == inner.own {
            true => Some(inner.config.chain.clone()),
            false => inner.store.get(device),
        };
        chain.is_some_and(|c| c.account_id() == *account && inner.revocations.check(&c).is_err())
    }

    /// What our own account has taken back.
    pub fn own_lists(&self) -> Vec<RevocationList> {
        let own = self.inner.config.chain.account_id();
        self.inner.revocations.lists(&own)
    }
}

impl Inner {
    /// A chain that leads to an account.
    fn chain_of(&self, account: &AccountId) -> Option<CertificateChain> {
        let own = &self.config.chain;
        match *account == own.account_id() {
            true => Some(own.clone()),
            false => self.store.of_account(account).into_iter().next(),
        }
    }

    /// Begins to look for the lists of an account, if that was not done lately.
    pub(super) fn find_lists(self: &Arc<Self>, account: AccountId) -> Option<FoundLists> {
        if !self.revocations.look_up(&account) {
            return None;
        }
        let inner = self.clone();
        Some(tokio::spawn(async move {
            let lists = tokio::select! {
                () = inner.ended.cancelled() => return Vec::new(),
                lists = inner.signalling.revocation_lists(account) => lists,
            };
            if lists.is_empty() {
                inner.revocations.found_none(&account);
            }
            lists
        }))
    }

    /// Takes in what was found of the account that a chain leads to. It goes on when nobody waits for it.
    pub(super) fn take_found(
        self: &Arc<Self>,
        chain: &CertificateChain,
        found: FoundLists,
    ) -> JoinHandle<()> {
        let (inner, chain) = (self.clone(), chain.clone());
        tokio::spawn(async move {
            for list in found.await.unwrap_or_default() {
                if let Err(why) = inner.take_list(&chain, list) {
                    let account = chain.account_id();
                    tracing::debug!(%account, %why, "a revocation list that does not count");
                }
            }
        })
    }

    /// Looks for the lists of an account, if that was not done lately, and takes them in.
    pub(super) fn look_up_lists(self: &Arc<Self>, chain: &CertificateChain) {
        if let Some(found) = self.find_lists(chain.account_id()) {
            drop(self.take_found(chain, found));
        }
    }

    fn take_list(
        self: &Arc<Self>,
        chain: &CertificateChain,
        list: RevocationList,
    ) -> Result<(), RevocationError> {
        let account = chain.account_id();
        let own = account == self.config.chain.account_id();
        let mut devices = self.store.of_account(&account);
        if own {
            devices.push(self.config.chain.clone());
        }
        let before = self.revocations.lists(&account);
        let mut met = devices.clone();
        // Perhaps it is being met just now.
        met.push(chain.clone());
        if !self.revocations.take(&chain.account, list, &met)? {
            return Ok(());
        }
        // Those that were taken back before are gone.
        let crypto = self.config.crypto.as_ref();
        devices.retain(|chain| chain.check_revoked(crypto, &before).is_ok());
        for chain in devices {
            self.refuse_if_revoked(&chain);
        }
        if own {
            let inner = self.clone();
            tokio::spawn(async move {
                if let Err(error) = inner.publish_lists().await {
                    tracing::warn!(%error, "a revocation list is not published");
                }
            });
        }
        Ok(())
    }

    /// If a device was taken back its connections end. To be asked also once a connection has begun: what
    /// became known between its check and its place in the table would find none to end.
    pub(super) fn refuse_if_revoked(&self, chain: &CertificateChain) {
        let Err(why) = self.revocations.check(chain) else {
            return;
        };
        let (device, account) = (chain.device_id(), chain.account_id());
        tracing::info!(%device, %account, %why, "a device is not let in any more: its owner took it back");
        let why = OpenError::from(why);
        let of_account = |d: &DeviceId, e: &Entry| *d == device && e.account == account;
        self.tell(of_account, || Command::Refuse(why.clone()));
        self.emit(device, Some(account), LinkState::Failed { why });
    }

    /// Publishes what our account has taken back, as daemons do: whichever device knows of it.
    pub(super) async fn publish_lists(&self) -> Result<(), SignallingError> {
        let own = self.config.chain.account_id();
        for list in self.revocations.lists(&own) {
            self.signalling.publish_list(&list).await?;
        }
        Ok(())
    }
}
