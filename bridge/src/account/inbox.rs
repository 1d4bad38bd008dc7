//! What others put into this device's inbox in the DHT: contact requests, confirmations, knocks.

use super::Account;
use starling_core::account::TrustRequest;
use starling_core::dht::envelope::keys;
use starling_core::dht::types;
use starling_core::id::DeviceId;
use starling_core::swarm::public::Knock;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that are looked into at the same time.
const MAX_ASKING: usize = 8;

/// Requests that wait to be tried again; more are an attack.
const MAX_WAITING: usize = 64;

/// The pauses after which a request that could not be taken is tried again: the certificate of who
/// asks was not found, or the disk is full. The DHT does not bring the same value twice.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(300),
];

/// Takes requests, a few at a time.
#[derive(Clone)]
struct Intake {
    slots: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Intake {
    fn new() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(MAX_ASKING)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }

    /// Waits for a place: a flood of requests waits in line. `None`: the end.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().acquire_owned().await.ok()
    }

    /// Does what a request asks for until it is done or was tried often enough. While it waits,
    /// others have its place.
    async fn work<E, F>(&self, slot: OwnedSemaphorePermit, mut once: impl FnMut() -> F)
    where
        E: Display,
        F: Future<Output = Result<(), E>>,
    {
        let Err(mut why) = once().await else { return };
        drop(slot);
        let Ok(_waits) = self.waiting.clone().try_acquire_owned() else {
            tracing::debug!(%why, "a request could not be taken, and too many wait already");
            return;
        };
        for pause in AGAIN {
            tracing::debug!(%why, ?pause, "a request could not be taken; trying again");
            tokio::time::sleep(pause).await;
            let Some(_slot) = self.slot().await else {
                return;
            };
            match once().await {
                Ok(()) => return,
                Err(e) => why = e,
            }
        }
        tracing::warn!(%why, "a request could not be taken");
    }
}

impl Account {
    /// Reads what others put into this device's inbox.
    pub(super) async fn read_inbox(self: Arc<Self>) {
        let intake = Intake::new();
        let mut inbox = self.secure.listen(keys::inbox(&self.identity.short_id()));
        while let Some(event) = inbox.next().await {
            if event.expired {
                continue;
            }
            for value in event.values {
                // Only what was encrypted to us and signed by someone.
                let Some(owner) = value.owner().cloned() else {
                    continue;
                };
                if value.type_id() != types::TRUST_REQUEST {
                    continue;
                }
                let knock = Knock::decode(value.data());
                let request = TrustRequest::decode(value.data());
                if let (None, Err(e)) = (&knock, &request) {
                    tracing::debug!(%e, "what lies in the inbox is no request");
                    continue;
                }
                let request = request.ok();
                // Each looks for a certificate.
                let Some(slot) = intake.slot().await else {
                    return;
                };
                let (account, intake) = (self.clone(), intake.clone());
                let device = DeviceId::of_key(&owner);
                self.spawn(async move {
                    let take = || {
                        let (account, request) = (account.clone(), request.clone());
                        async move {
                            match (knock, request) {
                                (Some(knock), _) => account.knocked(device, knock).await,
                                (None, Some(request)) => account.asked_by(device, request).await,
                                (None, None) => Ok(()),
                            }
                        }
                    };
                    intake.work(slot, take).await;
                });
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::time::Instant;

    /// Takes something that fails so often at first. How often it was tried, and how long it took.
    async fn tried(intake: &Intake, fails: usize) -> (usize, Duration) {
        let (begun, tries) = (Instant::now(), Cell::new(0));
        let slot = intake.slot().await.unwrap();
        let once = || {
            tries.set(tries.get() + 1);
            let fails = tries.get() <= fails;
            async move { if fails { Err("no certificate") } else { Ok(()) } }
        };
        intake.work(slot, once).await;
        (tries.get(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_cannot_be_taken_at_once_is_taken_later() {
        let intake = Intake::new();
        for (fails, tries, after) in [(0, 1, 0), (1, 2, 5), (2, 3, 35), (3, 4, 335), (99, 4, 335)] {
            let (tried, took) = tried(&intake, fails).await;
            assert_eq!((tried, took.as_secs()), (tries, after), "{fails}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_are_few_and_take_no_place() {
        let intake = Intake::new();
        let bad = (0..MAX_WAITING + 20).map(|_| tried(&intake, 99));
        let bad = futures_util::future::join_all(bad);
        let good = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tried(&intake, 0).await
        };
        let (bad, good) = tokio::join!(bad, good);
        assert_eq!(good, (1, Duration::ZERO));
        let again = bad.iter().filter(|(tries, _)| *tries > 1).count();
        assert_eq!(again, MAX_WAITING);
        // And then there is room again.
        assert_eq!(tried(&intake, 1).await.0, 2);
    }
}
