//! Which connection a channel to a device goes over, and the one attempt to make another.

use super::super::channel::Channel;
use super::super::link::{Command, LinkHandle, Progress};
use super::super::signalling::Family;
use super::{Attempt, Entry, GLARE_WAIT, Inner, LinkState, OpenError};
use futures_util::FutureExt as _;
use starling_core::id::{AccountId, DeviceId};
use starling_core::peer::channel_name::ChannelName;
use starling_core::peer::ice::Role;
use starling_core::peer::request::PeerRequest;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Inner {
    pub(super) async fn open(
        self: &Arc<Self>,
        device: DeviceId,
        account: Option<AccountId>,
        name: ChannelName,
    ) -> Result<Channel, OpenError> {
        if device == self.own {
            return Err(OpenError::OwnDevice);
        }
        let mut retried = false;
        loop {
            if self.ended.is_cancelled() {
                return Err(OpenError::Closed);
            }
            let mut changed = self.changed.subscribe();
            let Some(entry) = self.pick(&device) else {
                // The attempt's own link is found by the next turn.
                let link = self.attempt(device, account).await?;
                if let Progress::Ended(why) | Progress::Closed(why) = &*link.progress.borrow() {
                    return Err(why.clone());
                }
                continue;
            };
            if account.is_some_and(|a| a != entry.account) {
                return Err(OpenError::WrongAccount);
            }
            if !entry.outgoing && !entry.connected() {
                // The peer's own attempt is likely to be faster than one of ours.
                let until = entry.started + GLARE_WAIT;
                tokio::select! {
                    _ = changed.changed() => {}
                    () = tokio::time::sleep_until(until) => {}
                }
                continue;
            }
            let was_connected = entry.connected();
            let (reply, mut answer) = oneshot::channel();
            if entry
                .link
                .commands
                .send(Command::Open(name.clone(), reply))
                .is_err()
            {
                self.remove(&device, entry.id, entry.outgoing);
                continue;
            }
            let result = loop {
                tokio::select! {
                    result = &mut answer => break Some(result.unwrap_or(Err(OpenError::Closed))),
                    _ = changed.changed() => {
                        // Another connection may be ready before the one we wait for.
                        let better = !entry.connected()
                            && self.pick(&device).is_some_and(|e| e.connected());
                        if better { break None; }
                    }
                }
            };
            match result {
                None => continue,
                Some(Ok(channel)) => return Ok(channel),
                Some(Err(why)) => {
                    let other = self.pick(&device).is_some_and(|e| e.connected());
                    if retried || !why.is_of_link() || !(was_connected || other) {
                        return Err(why);
                    }
                    retried = true;
                    self.remove(&device, entry.id, entry.outgoing);
                }
            }
        }
    }

    /// The newest connection that is ready, else an attempt of ours, else a fresh one of the peer's.
    fn pick(&self, device: &DeviceId) -> Option<Entry> {
        let table = self.table();
        let entries = table.links.get(device)?;
        let newest = |which: &dyn Fn(&&Entry) -> bool| entries.iter().rev().find(which).cloned();
        newest(&|e| e.connected() && !e.link.commands.is_closed())
            .or_else(|| newest(&|e| e.outgoing && e.negotiating()))
            .or_else(|| newest(&|e| e.negotiating() && e.started.elapsed() < GLARE_WAIT))
    }

    /// The one attempt of ours to reach a device, up to its link.
    fn attempt(self: &Arc<Self>, device: DeviceId, account: Option<AccountId>) -> Attempt {
        let mut table = self.table();
        if let Some(attempt) = table.attempts.get(&device) {
            return attempt.clone();
        }
        if table.attempts.len() >= self.config.limits.outgoing {
            return std::future::ready(Err(OpenError::TooMany)).boxed().shared();
        }
        let inner = self.clone();
        // A task of its own: it goes on when the caller that began it gives up.
        let task = tokio::spawn(async move {
            inner.emit(device, account, LinkState::LookingUp);
            let result = inner.ask(device, account).await;
            inner.table().attempts.remove(&device);
            if let Err(why) = &result {
                inner.emit(device, account, LinkState::Failed { why: why.clone() });
            }
            result
        });
        let attempt = async move { task.await.unwrap_or(Err(OpenError::Closed)) }
            .boxed()
            .shared();
        table.attempts.insert(device, attempt.clone());
        attempt
    }

    async fn ask(
        self: &Arc<Self>,
        device: DeviceId,
        account: Option<AccountId>,
    ) -> Result<LinkHandle, OpenError> {
        let chain = self.certificate(device, None, account).await?;
        self.pin(&chain);
        let id = self.random_id();
        let (setup, ice_msg) = self.prepare(&chain, Role::Controlled, None)?;
        let link = self.add(id, true, &chain, setup)?;
        self.refuse_if_revoked(&chain);
        let request = PeerRequest {
            id,
            ice_msg,
            is_answer: false,
            conn_type: String::new(),
        };
        let (inner, commands) = (self.clone(), link.commands.clone());
        // The answer may be there before the last node has confirmed the request.
        tokio::spawn(async move {
            let both = [Family::Long, Family::Short];
            if let Err(why) = inner.signalling.send(&chain.device, &request, &both).await {
                let _ = commands.send(Command::Unsent(why));
            }
        });
        Ok(link)
    }
}
