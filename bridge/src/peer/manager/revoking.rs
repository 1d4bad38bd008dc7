//! Devices that their owner took back: how that becomes known, and what happens then.

use super::super::link::Command;
use super::super::revocations::TakeError;
use super::super::signalling::SignallingError;
use super::{Entry, Inner, LinkState, OpenError, PeerManager};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use starling_core::id::{AccountId, DeviceId};
use starling_core::identity::{CertificateChain, RevocationError, RevocationList};
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::{JoinError, JoinHandle};

/// After this our account's lists are published again, if that failed.
const PUBLISH_AGAIN: Duration = Duration::from_secs(30);

/// Lists that are taken in before those of another account have their turn.
const LISTS_AT_ONCE: usize = 16;

/// Lists that are looked for, unverified. For all who ask at the same time.
pub(super) type FoundLists = Shared<BoxFuture<'static, Arc<Vec<RevocationList>>>>;

impl PeerManager {
    /// Takes in a list that was found where an account publishes its own. Devices that it takes back
    /// are not let in from now on, and their connections end. Lists of accounts of which no device was
    /// met yet are passed over: they are looked up when that happens.
    ///
    /// Checks a signature and writes files: nothing for a thread on which others wait.
    ///
    /// # Errors
    /// It is not the account's own, and nothing has changed; or it is, and could not be written.
    pub fn take_list(&self, account: &AccountId, list: RevocationList) -> Result<(), TakeError> {
        self.inner.take_if_met(account, list)
    }

    /// The same, for whoever runs among others.
    ///
    /// # Errors
    /// As [`Self::take_list`].
    pub async fn take_list_aside(
        &self,
        account: AccountId,
        list: RevocationList,
    ) -> Result<(), TakeError> {
        let inner = self.inner.clone();
        let take = move || inner.take_if_met(&account, list);
        let taken = self.inner.take_in_turn(take).await;
        taken.unwrap_or_else(|e| Err(TakeError::Io(e.to_string())))
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

    /// Begins to look for the lists of an account, if that was not done lately; who asks meanwhile is given the same.
    /// It counts as done with [`Self::take_found`]: lists that nobody can judge are looked for again.
    pub(super) fn find_lists(self: &Arc<Self>, account: AccountId) -> Option<FoundLists> {
        if !self.revocations.is_due(&account) {
            return None;
        }
        let mut running = self.looking_for_lists();
        if let Some(found) = running.get(&account) {
            return Some(found.clone());
        }
        let inner = self.clone();
        let search = tokio::spawn(async move {
            let _over = Over(&inner, account);
            let lists = tokio::select! {
                () = inner.ended.cancelled() => Vec::new(),
                lists = inner.signalling.revocation_lists(account) => lists,
            };
            Arc::new(lists)
        });
        let found = search.map(Result::unwrap_or_default).boxed().shared();
        running.insert(account, found.clone());
        Some(found)
    }

    fn looking_for_lists(&self) -> MutexGuard<'_, BTreeMap<AccountId, FoundLists>> {
        // Each change is one insert or remove.
        let looking = self.looking_for_lists.lock();
        looking.unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks signatures and writes files, where nobody waits for the thread. One at a time.
    ///
    /// # Errors
    /// Starling is ending, and nothing was done.
    async fn take_in_turn<T: Send + 'static>(
        &self,
        take: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = self.taking_lists.clone().acquire_owned().await;
        let taking = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            take()
        });
        taking.await.map_err(|e| match e.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(e) => e,
        })
    }

    /// Takes in what was found of the account that a chain, which was verified, leads to. It goes on when nobody waits
    /// for it.
    pub(super) fn take_found(
        self: &Arc<Self>,
        chain: &CertificateChain,
        found: FoundLists,
    ) -> JoinHandle<()> {
        let (inner, chain) = (self.clone(), chain.clone());
        tokio::spawn(async move {
            let account = chain.account_id();
            let lists = found.await;
            let mut all = true;
            for from in (0..lists.len()).step_by(LISTS_AT_ONCE) {
                let (this, chain, lists) = (inner.clone(), chain.clone(), lists.clone());
                let take = move || {
                    let some = lists.iter().skip(from).take(LISTS_AT_ONCE);
                    // All of them, whatever becomes of the first.
                    some.filter(|list| !this.take_one(&chain, list)).count() == 0
                };
                all &= inner.take_in_turn(take).await.unwrap_or_default();
            }
            if all {
                inner.revocations.looked_up(&account, !lists.is_empty());
            }
        })
    }

    /// Whether a list need not be looked for again: it was judged, whatever became of it.
    fn take_one(self: &Arc<Self>, chain: &CertificateChain, list: &RevocationList) -> bool {
        let Err(why) = self.take_list(chain, list.clone()) else {
            return true;
        };
        tracing::debug!(account = %chain.account_id(), %why, "a revocation list is not kept");
        !matches!(why, TakeError::List(RevocationError::TooMany))
    }

    /// Looks for the lists of an account, if that was not done lately, and takes them in.
    pub(super) fn look_up_lists(self: &Arc<Self>, chain: &CertificateChain) {
        if let Some(found) = self.find_lists(chain.account_id()) {
            drop(self.take_found(chain, found));
        }
    }

    /// Takes in a list of an account of which some device was met.
    fn take_if_met(
        self: &Arc<Self>,
        account: &AccountId,
        list: RevocationList,
    ) -> Result<(), TakeError> {
        match self.chain_of(account) {
            Some(chain) => self.take_list(&chain, list),
            None => Ok(()),
        }
    }

    fn take_list(
        self: &Arc<Self>,
        chain: &CertificateChain,
        list: RevocationList,
    ) -> Result<(), TakeError> {
        let account = chain.account_id();
        let own = account == self.config.chain.account_id();
        let met = || {
            let mut met = self.store.of_account(&account);
            met.extend(own.then(|| self.config.chain.clone()));
            met
        };
        // Perhaps it is being met just now.
        let and_this = || [met(), vec![chain.clone()]].concat();
        let Some(taken) = self.revocations.take_in(&chain.account, list, and_this)? else {
            return Ok(());
        };
        let mut devices = met();
        // What could not be written counts all the same.
        // Those that were taken back before are gone.
        let crypto = self.config.crypto.as_ref();
        devices.retain(|chain| chain.check_revoked(crypto, &taken.before).is_ok());
        for chain in devices {
            self.refuse_if_revoked(&chain);
        }
        if own {
            self.took_back.notify_one();
        }
        Ok(taken.written?)
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

    /// Publishes what our account takes back from now on, again and again until that is done. What it took back before
    /// is published when we announce ourselves.
    pub(super) async fn keep_publishing(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.ended.cancelled() => return,
                () = self.took_back.notified() => {}
            }
            while let Err(error) = self.publish_lists().await {
                tracing::warn!(%error, "a revocation list is not published; trying again");
                tokio::select! {
                    () = self.ended.cancelled() => return,
                    () = tokio::time::sleep(PUBLISH_AGAIN) => {}
                }
            }
        }
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

/// A search for the lists of an account: over when this goes, however it ends.
struct Over<'a>(&'a Arc<Inner>, AccountId);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.looking_for_lists().remove(&self.1);
    }
}
