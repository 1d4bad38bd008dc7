//! The requests and answers that come from other devices.

use super::super::link::Command;
use super::super::signalling::Signal;
use super::{Inner, OpenError};
use starling_core::id::{DeviceId, DeviceShortId};
use starling_core::peer::ice::Role;
use starling_core::peer::ice_text::IceText;
use starling_core::peer::request::PeerRequest;
use std::sync::{Arc, PoisonError};

impl Inner {
    pub(super) async fn listen(self: Arc<Self>) {
        let mut signals = self.signalling.listen();
        loop {
            let signal = tokio::select! {
                () = self.ended.cancelled() => {
                    self.tell(|_, _| true, || Command::Close);
                    return;
                }
                signal = signals.recv() => signal,
            };
            let Some(signal) = signal else { return };
            let device = DeviceId::of_key(&signal.from);
            if device == self.own {
                continue;
            }
            if signal.request.is_answer {
                self.handle_answer(&signal, device);
                continue;
            }
            if !self.first_time(&signal, &device) {
                continue;
            }
            let inner = self.clone();
            tokio::spawn(async move {
                if let Err(why) = inner.reply(&signal, device).await {
                    if why.is_revoked() {
                        tracing::info!(%device, %why, "a device that its owner took back asks for a connection");
                    } else {
                        tracing::debug!(%device, %why, "a connection request is not answered");
                    }
                }
            });
        }
    }

    fn handle_answer(&self, signal: &Signal, device: DeviceId) {
        let link = self
            .table()
            .links
            .get(&device)
            .and_then(|links| {
                links
                    .iter()
                    .find(|e| e.outgoing && e.id == signal.request.id)
            })
            .map(|e| e.link.clone());
        let Some(link) = link else {
            return;
        };
        if !self.first_time(signal, &device) {
            return;
        }
        match IceText::parse(&signal.request.ice_msg) {
            Ok(text) => {
                let _ = link.commands.send(Command::Answer(text));
            }
            Err(why) => tracing::debug!(%device, %why, "an answer without a use"),
        }
    }

    /// Answers a request, or stays silent: no refusal exists.
    async fn reply(self: &Arc<Self>, signal: &Signal, device: DeviceId) -> Result<(), OpenError> {
        let text = IceText::parse(&signal.request.ice_msg)?;
        let pending = self
            .table()
            .links
            .values()
            .flatten()
            .filter(|e| !e.outgoing && e.negotiating())
            .count();
        if pending >= self.config.limits.incoming {
            return Err(OpenError::TooMany);
        }
        let chain = match self.known(&device, None) {
            Ok(Some(chain)) => {
                self.look_up_lists(&chain);
                chain
            }
            Ok(None) | Err(_) => {
                // Strangers who flood us with requests keep out other strangers, nobody else.
                let _lookup = self.lookups.try_acquire().map_err(|_| OpenError::TooMany)?;
                let short = DeviceShortId::of_key(&signal.from);
                self.certificate(device, Some(short), None).await?
            }
        };
        let account = chain.account_id();
        let may = || (self.config.policy)(&account, &device);
        let let_in = tokio::select! {
            () = self.ended.cancelled() => return Err(OpenError::Closed),
            let_in = self.held.let_in(device, signal.request.id, may) => let_in,
        };
        if !let_in {
            return Err(OpenError::NotLetIn);
        }
        self.pin(&chain);
        let (setup, ice_msg) = self.prepare(&chain, Role::Controlling, Some(text))?;
        self.add(signal.request.id, false, &chain, setup)?;
        self.refuse_if_revoked(&chain);
        let answer = PeerRequest {
            id: signal.request.id,
            ice_msg,
            is_answer: true,
            conn_type: String::new(),
        };
        // The connection is tried at the same time; the peer needs the answer to agree.
        let family = [signal.family];
        self.signalling
            .send(&chain.device, &answer, &family)
            .await?;
        Ok(())
    }

    fn first_time(&self, signal: &Signal, device: &DeviceId) -> bool {
        let kind = if signal.request.is_answer { 'a' } else { 'r' };
        let key = format!("{:x} {kind} {device}", signal.request.id);
        let mut treated = self.treated.lock().unwrap_or_else(PoisonError::into_inner);
        treated.first_time(&key)
    }
}
