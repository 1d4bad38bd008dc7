//! The devices of oneself and of others: which were seen before, and which their owners took back.

use super::{Account, AccountError};
use crate::store::state::StateError;
use starling_core::api::{Device, Event, NoticeLevel};
use starling_core::id::{AccountId, DeviceId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most devices that are remembered of one account; of more nothing is said. Nobody has as many:
/// our limit against somebody who makes them up.
const MAX_DEVICES: usize = 64;

/// Most devices that are passed over without asking the book.
const MAX_MET: usize = 4096;

impl Account {
    /// A device announced itself, connected or wrote, and that it is this account's was proved:
    /// says so if it was never seen before.
    pub(super) async fn meet_device(self: &Arc<Self>, id: AccountId, device: DeviceId) {
        if device == self.device_id() {
            return;
        }
        let own = id == self.jami_id();
        let concerns = own
            || self.knows(&id)
            || self
                .conversations()
                .iter()
                .any(|c| c.snapshot().role(&id).is_some());
        if !concerns {
            return;
        }
        {
            let met = &mut self.shared().met;
            if met.len() >= MAX_MET {
                met.clear();
            }
            if !met.insert(device) {
                return;
            }
        }
        let others = self
            .book
            .ask(move |b| -> Result<Option<usize>, StateError> {
                let key = id.to_hex();
                let mut known: BTreeSet<DeviceId> =
                    b.state().get("device", &key)?.unwrap_or_default();
                let before = known.len();
                if before >= MAX_DEVICES || !known.insert(device) {
                    return Ok(None);
                }
                b.state().put("device", &key, &known)?;
                Ok(Some(before))
            })
            .await;
        match others {
            Ok(Ok(Some(others))) => self.emit(Event::DeviceAdded {
                account: self.id.clone(),
                id,
                device,
                others: u32::try_from(others.saturating_add(usize::from(own))).unwrap_or(u32::MAX),
            }),
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(e)) => tracing::warn!(%device, %e, "a device is not remembered"),
        }
    }

    /// A device's owner has taken it back, and its connections end: nothing goes there, and nothing comes
    /// from there. What it wrote before stays, and what it writes counts for others as far as
    /// the conversation's own history lets it: all have to judge that alike.
    pub(super) fn device_revoked(self: &Arc<Self>, id: AccountId, device: DeviceId) {
        if device == self.device_id() {
            self.say_revoked();
            return;
        }
        {
            let mut shared = self.shared();
            if let Some(reach) = shared.reach.get_mut(&id) {
                reach.announced.remove_device(&device);
            }
        }
        self.seen(id, device, false);
        self.refresh_presence(id);
        self.wake.notify_one();
        let account = self.clone();
        self.spawn(async move { account.tell_revoked(id, device).await });
    }

    /// Tells of a device that was taken back, once.
    async fn tell_revoked(&self, id: AccountId, device: DeviceId) {
        let news = self
            .book
            .ask(move |b| -> Result<bool, StateError> {
                let key = id.to_hex();
                let met: BTreeSet<DeviceId> = b.state().get("device", &key)?.unwrap_or_default();
                let mut known: BTreeSet<DeviceId> =
                    b.state().get("revoked", &key)?.unwrap_or_default();
                // Of those whom nobody was told of before, nothing is to be said now.
                if !met.contains(&device) || !known.insert(device) {
                    return Ok(false);
                }
                b.state().put("revoked", &key, &known)?;
                Ok(true)
            })
            .await;
        match news {
            Ok(Ok(true)) => self.emit(Event::DeviceRevoked {
                account: self.id.clone(),
                id,
                device,
            }),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(e)) => tracing::warn!(%device, %e, "a revoked device is not remembered"),
        }
    }

    /// Tells of devices whose revocation became known right before the end of a run, or amid so much that
    /// the news of it was passed over.
    pub(super) async fn tell_all_revoked(self: Arc<Self>) {
        let met = self
            .book
            .ask(|b| b.state().list::<BTreeSet<DeviceId>>("device"))
            .await;
        let met = match met {
            Ok(Ok(met)) => met,
            Ok(Err(e)) => return tracing::warn!(%e, "which devices were met cannot be read"),
            Err(_) => return,
        };
        for (id, devices) in met {
            let Ok(id) = id.parse::<AccountId>() else {
                continue;
            };
            for device in devices {
                if self.peers.is_revoked(&id, &device) {
                    self.tell_revoked(id, device).await;
                }
            }
        }
    }

    /// The devices of this account that were met, and this one, which is the first.
    pub async fn own_devices(&self) -> Result<Vec<Device>, AccountError> {
        let (own, this) = (self.jami_id(), self.device_id());
        let (met, told) = self
            .book
            .ask(move |b| -> Result<_, StateError> {
                let list = |area| b.state().get::<BTreeSet<DeviceId>>(area, &own.to_hex());
                let (met, told) = (list("device")?, list("revoked")?);
                Ok((met.unwrap_or_default(), told.unwrap_or_default()))
            })
            .await??;
        let others = met.into_iter().filter(|device| *device != this);
        let view = |device: DeviceId| Device {
            device,
            current: device == this,
            revoked: told.contains(&device) || self.peers.is_revoked(&own, &device),
        };
        Ok([this].into_iter().chain(others).map(view).collect())
    }

    /// Says so if this very device was taken back. The account can still be read here.
    pub(super) fn say_if_revoked(&self) {
        if self.peers.is_revoked(&self.jami_id(), &self.device_id()) {
            self.say_revoked();
        }
    }

    fn say_revoked(&self) {
        tracing::warn!(account = %self.id, "this device was revoked by its account's owner");
        self.show();
        let text = "Another device of this account revoked this one: others do not let it in any more. What is here can still be read. If it is yours and in your hands, import a backup of the account to make it a new device.";
        self.notice(NoticeLevel::Error, "device_revoked", text.into());
    }
}
