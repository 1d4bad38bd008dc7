//! The message channels to other devices: how notices leave and arrive.
//!
//! A device has at most a few `msg:` channels with us (each side may open one);
//! whatever arrives on any is read, and notices go out on the newest.

use super::frames::exchange;
use starling_core::id::{AccountId, DeviceId};
use starling_core::notice::{MAX_NOTICE, Notice};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Notices that wait for a slow device; beyond that they are dropped, since the
/// next connection catches up by itself.
const QUEUE: usize = 64;

/// Notices are identified by a number nobody answers, below 2^53 as in the reference.
const MAX_ID: u64 = 1 << 53;

/// One message channel.
struct Line {
    number: u64,
    account: AccountId,
    /// Of the connection that it goes over.
    link: u64,
    out: mpsc::Sender<Notice>,
}

/// The number of the newest line, and the lines of each device.
type Lines = (u64, BTreeMap<DeviceId, Vec<Line>>);

/// All message channels of an account. Cheap to clone.
#[derive(Clone, Default)]
pub struct Links {
    lines: Arc<Mutex<Lines>>,
}

impl Links {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The devices with a message channel, and whose they are.
    pub fn connected(&self) -> Vec<(DeviceId, AccountId)> {
        self.lines()
            .1
            .iter()
            .filter_map(|(d, l)| Some((*d, l.last()?.account)))
            .collect()
    }

    /// Whether there is a channel to the device.
    pub fn has(&self, device: &DeviceId) -> bool {
        self.lines().1.contains_key(device)
    }

    /// The connection over which notices to the device go.
    pub fn link(&self, device: &DeviceId) -> Option<u64> {
        Some(self.lines().1.get(device)?.last()?.link)
    }

    /// Hands a notice to a device; says whether there was a channel to put it on.
    pub fn tell(&self, device: &DeviceId, notice: &Notice) -> bool {
        let lines = self.lines();
        let Some(channels) = lines.1.get(device) else {
            return false;
        };
        channels
            .iter()
            .rev()
            .any(|line| line.out.try_send(notice.clone()).is_ok())
    }

    /// Hands a notice to every connected device of an account; says to how many.
    pub fn tell_account(&self, account: &AccountId, notice: &Notice) -> usize {
        let devices: Vec<DeviceId> = self
            .connected()
            .into_iter()
            .filter(|(_, a)| a == account)
            .map(|(d, _)| d)
            .collect();
        devices.iter().filter(|d| self.tell(d, notice)).count()
    }

    /// Runs one message channel, over the connection `link`, until it ends. `heard` gets every
    /// notice, in order; nothing more is read before it is done with one, so that a peer cannot
    /// pile them up.
    pub async fn run<C, F>(
        &self,
        channel: C,
        device: DeviceId,
        (account, link): (AccountId, u64),
        mut heard: impl FnMut(Notice) -> F + Send,
    ) where
        C: AsyncRead + AsyncWrite + Unpin + Send,
        F: Future<Output = ()> + Send,
    {
        let (out, mut queue) = mpsc::channel(QUEUE);
        let number = {
            let mut lines = self.lines();
            lines.0 += 1;
            let number = lines.0;
            lines.1.entry(device).or_default().push(Line {
                number,
                account,
                link,
                out,
            });
            number
        };
        // Taken out again however this ends, also when the task is dropped.
        let _line = Registered {
            links: self.clone(),
            device,
            number,
        };
        let mut id = random_number() % MAX_ID;
        let encode = |notice: Notice| {
            id = id % MAX_ID + 1;
            notice.to_frame(id)
        };
        let heard = |frame: &[u8]| match Notice::from_frame(frame) {
            Ok(notice) => Ok(Some(heard(notice))),
            Err(e) => {
                tracing::debug!(%e, "a notice that is not understood is passed over");
                Ok(None)
            }
        };
        let end = exchange(channel, MAX_NOTICE, &mut queue, encode, heard).await;
        tracing::debug!(%device, ?end, "a message channel has ended");
    }
}

/// A line in the table for as long as its channel runs.
struct Registered {
    links: Links,
    device: DeviceId,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut lines = self.links.lines();
        if let Some(channels) = lines.1.get_mut(&self.device) {
            channels.retain(|l| l.number != self.number);
            if channels.is_empty() {
                lines.1.remove(&self.device);
            }
        }
    }
}

fn random_number() -> u64 {
    let mut bytes = [0; 8];
    starling_core::crypto::Crypto::random(&crate::crypto::AwsLc, &mut bytes);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_core::id::ConversationId;

    #[tokio::test]
    async fn notices_cross_and_the_table_follows_the_channel() {
        let (here, there) = tokio::io::duplex(64);
        let (alice, bob) = (Links::default(), Links::default());
        let (a, b) = (DeviceId([1; 32]), DeviceId([2; 32]));
        let account = AccountId([9; 20]);
        let (sent, mut got) = mpsc::unbounded_channel();
        let task = {
            let alice = alice.clone();
            tokio::spawn(async move { alice.run(here, b, (account, 1), |_| async {}).await })
        };
        let other = {
            let bob = bob.clone();
            tokio::spawn(async move {
                bob.run(there, a, (account, 1), move |n| {
                    let _ = sent.send(n);
                    async {}
                })
                .await
            })
        };
        let notice = Notice::InviteAgain {
            conversation: ConversationId([3; 20]),
        };
        while !alice.tell(&b, &notice) {
            tokio::task::yield_now().await;
        }
        assert_eq!(got.recv().await, Some(notice));
        assert_eq!(alice.connected(), [(b, account)]);
        assert_eq!((alice.link(&b), alice.link(&a)), (Some(1), None));
        task.abort();
        let _ = task.await;
        other.await.unwrap();
        assert!(!alice.has(&b) && !bob.has(&a));
    }
}
