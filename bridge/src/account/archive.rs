//! The archive of an account that runs: backups, its password, and what needs the account's key.

use super::registry::{internal, own_archive_error};
use super::{Account, AccountError, keep, now_unix};
use crate::crypto::AwsLc;
use crate::peer::{OpenError, TakeError};
use crate::store::state::State;
use starling_core::api::{ApiError, ErrorCode};
use starling_core::crypto::PrivateKey;
use starling_core::id::DeviceId;
use starling_core::identity::{Archive, Certificate, CertificateChain, Credential, RevocationList};

impl Account {
    /// The archive with what the account knows now. `password`: that of the account; of one that has
    /// none, what the copy that is given away is protected by.
    pub async fn export(&self, password: Option<&str>) -> Result<Vec<u8>, AccountError> {
        let _turn = self.archive_turn.lock().await;
        let given = Credential::password(password.unwrap_or_default());
        let (state, file, mut archive) = self.read_archive(&given).await?;
        self.bring_up_to_date(&mut archive).await?;
        let lists = self.revocation_lists(&archive);
        let list = self.with_account_key(&archive, |account, key| {
            RevocationList::merge(&lists, account, key, &AwsLc, now_unix())
        })?;
        match list {
            Ok(list) => archive.revocation_list = list,
            // Whoever asks for a backup gets one, with what it held.
            Err(why) => tracing::warn!(%why, "a backup holds the revocation list that it had"),
        }
        let bytes = self.write_whole(&state, &file, &archive, &given)?;
        // One that joins several is new here.
        if let Err(why) = self.take_own_list(&archive) {
            tracing::warn!(%why, "the revocation list of a backup is not kept");
        }
        Ok(bytes)
    }

    /// Takes back another device of this account: nobody lets it in from now on, as soon as they hear of
    /// it. That is tried until somebody can be reached, and not waited for. There is no way back: it has to come
    /// anew, with another key. `password`: that of the account, if it has one.
    pub async fn revoke_device(
        &self,
        device: DeviceId,
        password: Option<&str>,
    ) -> Result<(), AccountError> {
        if device == self.device_id() {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                "This is the device that you are using. Take it back from another one, or remove the account here.",
            )
            .into());
        }
        let _turn = self.archive_turn.lock().await;
        let given = Credential::password(password.unwrap_or_default());
        let (state, file, mut archive) = self.read_archive(&given).await?;
        let chain = self.own_device(device).await?;
        self.bring_up_to_date(&mut archive).await?;
        let lists = self.revocation_lists(&archive);
        let list = self.with_account_key(&archive, |account, key| {
            if lists.iter().any(|l| l.lists(&chain.device)) {
                return RevocationList::merge(&lists, account, key, &AwsLc, now_unix());
            }
            let now = now_unix();
            RevocationList::revoke(&lists, &chain.device, account, key, &AwsLc, now).map(Some)
        })?;
        archive.revocation_list = list.map_err(internal)?;
        // It counts from here on, and is published: as soon as somebody can be reached, also by a later start.
        let kept = self.take_own_list(&archive);
        if let Err(TakeError::List(why)) = kept {
            return Err(internal(why).into());
        }
        let written = self.write_whole(&state, &file, &archive, &given);
        let written = written.map_err(|e| ApiError::from(e).message);
        let why = match (kept, written) {
            (Ok(()), Ok(_)) => return Ok(()),
            (Err(why), _) => why.to_string(),
            (_, Err(why)) => why,
        };
        let why = why.trim_end_matches('.');
        Err(ApiError::internal(format!(
            "Device {device} is removed, and others are told as soon as they can be reached while Starling runs, but that could not be kept here: {why}. Make room on the disk, and remove the device once more."
        ))
        .into())
    }

    /// The chain of another device of this account, also of one that was taken back already.
    async fn own_device(&self, device: DeviceId) -> Result<CertificateChain, ApiError> {
        let own = self.jami_id();
        let is_own = |c: &CertificateChain| c.account_id() == own;
        if let Some(chain) = self.peers.certificates().get(&device).filter(is_own) {
            return Ok(chain);
        }
        match self.peers.certificate_of(device, own).await {
            Ok(chain) => Ok(chain),
            Err(OpenError::NoCertificate) => Err(ApiError::not_found(
                "No such device is known, and its certificate cannot be found now.",
            )),
            Err(OpenError::WrongAccount) => {
                Err(ApiError::not_found("This is no device of this account."))
            }
            Err(other) => Err(ApiError::new(ErrorCode::Conflict, format!("{other}."))),
        }
    }

    /// What this account took back, as far as is known here or in its archive.
    fn revocation_lists(&self, archive: &Archive) -> Vec<RevocationList> {
        let mut lists = self.peers.own_lists();
        lists.extend(archive.revocation_list.clone());
        // Whoever can write into the data directory has nothing signed anew by that.
        lists.retain(|l| l.verify(&AwsLc, &self.identity.chain.account));
        lists
    }

    fn take_own_list(&self, archive: &Archive) -> Result<(), TakeError> {
        match archive.revocation_list.clone() {
            Some(list) => {
                tokio::task::block_in_place(|| self.peers.take_list(&self.jami_id(), list))
            }
            None => Ok(()),
        }
    }

    /// Does something with the account's certificate and key. Signing takes milliseconds.
    fn with_account_key<T>(
        &self,
        archive: &Archive,
        work: impl FnOnce(&Certificate, &dyn PrivateKey) -> T,
    ) -> Result<T, ApiError> {
        let key = archive.read_account_key(&AwsLc).map_err(internal)?;
        let account = &self.identity.chain.account;
        Ok(tokio::task::block_in_place(|| work(account, key.as_ref())))
    }

    /// Puts into the archive what has changed since it was written.
    async fn bring_up_to_date(&self, archive: &mut Archive) -> Result<(), AccountError> {
        let (contacts, conversations, requests) = self
            .book
            .ask(|b| {
                (
                    b.contacts().clone(),
                    b.records().clone(),
                    b.requests().map(|r| (r.conversation, r.clone())).collect(),
                )
            })
            .await?;
        (archive.contacts, archive.conversations, archive.requests) =
            (contacts, conversations, requests);
        archive.details.insert(
            "Account.displayName".into(),
            self.shared().options.profile.display_name.clone(),
        );
        Ok(())
    }

    /// Writes the archive in place of `file`, and gives the copy that `given` protects.
    fn write_whole(
        &self,
        state: &State,
        file: &[u8],
        archive: &Archive,
        given: &Credential,
    ) -> Result<Vec<u8>, AccountError> {
        let write = |credential: &Credential| {
            tokio::task::block_in_place(|| archive.write(credential, &AwsLc)).map_err(internal)
        };
        // Here it stays as protected as it was: a slip in a field must not lock the only key.
        let bytes = write(given)?;
        if keep::is_protected(file) {
            keep::write_archive(&self.dir, state, &bytes)?;
        } else {
            keep::write_archive(&self.dir, state, &write(&Credential::None)?)?;
        }
        Ok(bytes)
    }

    /// The archive as it lies on the disk, and what is in it; with the state that tells whether it
    /// is whole.
    async fn read_archive(
        &self,
        credential: &Credential,
    ) -> Result<(State, Vec<u8>, Archive), AccountError> {
        let state = self.book.ask(|b| Self::state_of(b)).await?;
        let opened = tokio::task::block_in_place(|| {
            keep::open_archive(&self.dir, &state, self.jami_id(), credential)
        })?;
        let (file, archive) = opened.map_err(|e| own_archive_error(&e))?;
        Ok((state, file, archive))
    }

    /// Another password for the archive.
    pub async fn change_password(
        &self,
        old: Option<&str>,
        new: Option<&str>,
    ) -> Result<(), AccountError> {
        let _turn = self.archive_turn.lock().await;
        let old = Credential::password(old.unwrap_or_default());
        let (state, file, _) = self.read_archive(&old).await?;
        let new = new.unwrap_or_default();
        let bytes =
            tokio::task::block_in_place(|| Archive::change_password(&file, &old, new, &AwsLc))
                .map_err(|e| own_archive_error(&e))?;
        keep::write_archive(&self.dir, &state, &bytes)?;
        self.shared().has_password = !new.is_empty();
        self.show();
        Ok(())
    }
}
