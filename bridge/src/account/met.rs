//! The devices of oneself and of others: which were seen before.

use super::Account;
use crate::store::state::StateError;
use starling_core::api::Event;
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
}
