//! Requests of devices that are not let in yet. A member of a group asks for a connection as soon
//! as it hears of us, which may be before we have the history that names it. No refusal exists, so
//! it would wait for its whole patience, and not ask again for long; and a daemon lets nobody in who
//! is no contact, so that no request of ours makes up for it.

use starling_core::id::DeviceId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long a request is kept. The asking side gives up after thirty seconds (`DHT_MSG_TIMEOUT` in
/// dhtnet's `connectionmanager.cpp`); the answer needs the rest.
const KEPT: Duration = Duration::from_secs(25);

/// Requests kept at a time, one a device. Our bound: strangers ask as well.
const MOST: usize = 32;

/// The requests that wait, and what wakes them.
pub(super) struct Held {
    /// By device, the id of its newest request.
    waiting: Mutex<BTreeMap<DeviceId, u64>>,
    changed: watch::Sender<u64>,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

/// Takes a request out again, however its wait ends.
struct Place<'a> {
    held: &'a Held,
    device: DeviceId,
    id: u64,
}

impl Place<'_> {
    fn is_newest(&self) -> bool {
        self.held.waiting().get(&self.device) == Some(&self.id)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_newest() {
            self.held.waiting().remove(&self.device);
        }
    }
}

impl Held {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<DeviceId, u64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who may connect has changed: all that wait ask again.
    pub(super) fn look_again(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Whether a device is let in, now or soon. A newer request of the same device takes the place
    /// of an older one.
    pub(super) async fn let_in(&self, device: DeviceId, id: u64, may: impl Fn() -> bool) -> bool {
        let mut changed = self.changed.subscribe();
        if may() {
            return true;
        }
        let place = {
            let mut waiting = self.waiting();
            if waiting.len() >= MOST && !waiting.contains_key(&device) {
                return false;
            }
            waiting.insert(device, id);
            Place {
                held: self,
                device,
                id,
            }
        };
        let wait = async {
            while changed.changed().await.is_ok() && place.is_newest() {
                if may() {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(KEPT, wait).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    const BOB: DeviceId = DeviceId([2; 32]);

    #[tokio::test(start_paused = true)]
    async fn who_is_let_in_soon_is_answered_and_who_is_not_is_forgotten() {
        let (held, open) = (Held::default(), AtomicBool::new(false));
        let may = || open.load(Ordering::SeqCst);
        let opens = async {
            held.look_again();
            tokio::task::yield_now().await;
            open.store(true, Ordering::SeqCst);
            held.look_again();
        };
        let (in_, ()) = tokio::join!(held.let_in(BOB, 1, may), opens);
        assert!(in_ && held.waiting().is_empty());
        open.store(false, Ordering::SeqCst);
        assert!(!held.let_in(BOB, 2, may).await);
        assert!(held.waiting().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_has_one_place_and_all_have_a_bound() {
        let held = Held::default();
        let open = AtomicBool::new(false);
        let may = || open.load(Ordering::SeqCst);
        let second = async {
            tokio::task::yield_now().await;
            let newer = held.let_in(BOB, 2, may);
            let opens = async {
                tokio::task::yield_now().await;
                open.store(true, Ordering::SeqCst);
                held.look_again();
            };
            tokio::join!(newer, opens).0
        };
        assert_eq!(
            tokio::join!(held.let_in(BOB, 1, may), second),
            (false, true)
        );
        for n in 0..MOST {
            let device = DeviceId([u8::try_from(n).unwrap() + 10; 32]);
            held.waiting().insert(device, 1);
        }
        assert!(!held.let_in(BOB, 3, || false).await);
        assert_eq!(held.waiting().len(), MOST);
    }
}
