//! Mobile devices: they sleep, hold no connection that counts, and are woken by the connected
//! devices that are nearest to them. Their leases are kept here, verified.

use super::io::{CertificateSource, Output, Verdict};
use super::lease::{Lease, LeaseFault, unpack_chain};
use super::message::MobileInfo;
use super::{
    CERTIFICATE_TIME, LEGACY_MOBILE_UNTIL, MAX_CERTIFICATE_IDS, MAX_INFOS, MAX_PENDING, Now,
};
use crate::id::{AccountId, ConversationId, DeviceId};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A mobile device that is believed to be one.
#[derive(Debug, Clone)]
struct Mobile {
    /// None: its neighbours are too old to give one.
    lease: Option<Lease>,
    /// Until when, unix seconds.
    expires: u64,
}

/// A lease whose certificate is looked for.
#[derive(Debug, Clone)]
struct Pending {
    lease: Lease,
    /// Who gave it, and may have the certificate.
    from: Option<DeviceId>,
    /// Where it was looked for last.
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Store,
    Neighbour,
    Network,
}

/// What a neighbour was asked for, and what it is to be asked next.
#[derive(Debug, Clone, Default)]
struct Asked {
    ids: BTreeSet<DeviceId>,
    until: Duration,
    next: BTreeSet<DeviceId>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Mobiles {
    known: BTreeMap<DeviceId, Mobile>,
    pending: BTreeMap<DeviceId, Pending>,
    asked: BTreeMap<DeviceId, Asked>,
}

impl Mobiles {
    /// What can be said of a lease without its certificate.
    pub(super) fn precheck(
        lease: &Lease,
        conversation: &ConversationId,
        members: &BTreeSet<AccountId>,
        now: Now,
    ) -> Result<(), LeaseFault> {
        if lease.conversation != *conversation {
            return Err(LeaseFault::OtherConversation);
        }
        if !members.contains(&lease.issuer) {
            return Err(LeaseFault::NoMember);
        }
        lease.check_times(now.unix)
    }

    /// A lease that came through [`Self::precheck`]: has it verified, unless it is not news.
    pub(super) fn offer(
        &mut self,
        lease: Lease,
        from: Option<DeviceId>,
        out: &mut VecDeque<Output>,
    ) {
        let device = lease.device;
        let known = self.known.get(&device).filter(|m| m.lease.is_some());
        let waits = self.pending.get(&device);
        if known.is_some_and(|m| m.expires >= lease.expires)
            || waits.is_some()
            || self.pending.len() >= MAX_PENDING
        {
            return;
        }
        self.pending.insert(
            device,
            Pending {
                lease: lease.clone(),
                from,
                place: Place::Store,
            },
        );
        out.push_back(Output::CheckLease {
            lease: Box::new(lease),
            source: CertificateSource::Store,
        });
    }

    /// A mobile device of a version without leases. True: it is new.
    pub(super) fn believe(&mut self, device: DeviceId, now: Now) -> bool {
        if now.unix >= LEGACY_MOBILE_UNTIL
            || self.known.len() >= MAX_INFOS
            || self.known.contains_key(&device)
        {
            return false;
        }
        self.known.insert(
            device,
            Mobile {
                lease: None,
                expires: LEGACY_MOBILE_UNTIL,
            },
        );
        true
    }

    /// What came of a check. True: there is a new lease.
    pub(super) fn checked(
        &mut self,
        device: DeviceId,
        verdict: Verdict,
        now: Now,
        connected: impl Fn(&DeviceId) -> bool,
        out: &mut VecDeque<Output>,
    ) -> bool {
        let Some(pending) = self.pending.get_mut(&device) else {
            return false;
        };
        match verdict {
            Verdict::Good => {
                let lease = pending.lease.clone();
                self.pending.remove(&device);
                if lease.check_times(now.unix).is_err()
                    || (self.known.len() >= MAX_INFOS && !self.known.contains_key(&device))
                {
                    return false;
                }
                self.known.insert(
                    device,
                    Mobile {
                        expires: lease.expires,
                        lease: Some(lease),
                    },
                );
                true
            }
            Verdict::Bad => {
                self.pending.remove(&device);
                false
            }
            Verdict::NoCertificate => {
                match (pending.place, pending.from) {
                    (Place::Store, Some(from)) if connected(&from) => {
                        pending.place = Place::Neighbour;
                        self.asked.entry(from).or_default().next.insert(device);
                        self.ask(from, now, out);
                    }
                    (Place::Store | Place::Neighbour, _) => self.look_wider(device, out),
                    (Place::Network, _) => {
                        self.pending.remove(&device);
                    }
                }
                false
            }
        }
    }

    fn look_wider(&mut self, device: DeviceId, out: &mut VecDeque<Output>) {
        if let Some(pending) = self.pending.get_mut(&device) {
            pending.place = Place::Network;
            out.push_back(Output::CheckLease {
                lease: Box::new(pending.lease.clone()),
                source: CertificateSource::Network,
            });
        }
    }

    /// One question to a neighbour at a time.
    fn ask(&mut self, from: DeviceId, now: Now, out: &mut VecDeque<Output>) {
        let Some(asked) = self.asked.get_mut(&from).filter(|a| a.ids.is_empty()) else {
            return;
        };
        while asked.ids.len() < MAX_CERTIFICATE_IDS
            && let Some(id) = asked.next.pop_first()
        {
            asked.ids.insert(id);
        }
        if asked.ids.is_empty() {
            self.asked.remove(&from);
            return;
        }
        asked.until = now.clock.saturating_add(CERTIFICATE_TIME);
        let ids = asked.ids.iter().copied().collect();
        out.push_back(Output::Send {
            to: from,
            message: Box::new(super::Message {
                certificates_wanted: Some(ids),
                ..super::Message::new()
            }),
        });
    }

    /// Certificates came from a neighbour: only those that were asked for count.
    pub(super) fn given(
        &mut self,
        from: DeviceId,
        certificates: &[Vec<u8>],
        now: Now,
        out: &mut VecDeque<Output>,
    ) {
        let Some(asked) = self.asked.get_mut(&from) else {
            return;
        };
        let mut ids = core::mem::take(&mut asked.ids);
        for packed in certificates {
            let Ok(chain) = unpack_chain(packed) else {
                continue;
            };
            let device = chain.device_id();
            if ids.remove(&device)
                && let Some(pending) = self.pending.get(&device)
            {
                out.push_back(Output::CheckLease {
                    lease: Box::new(pending.lease.clone()),
                    source: CertificateSource::Given(Box::new(chain)),
                });
            }
        }
        for device in ids {
            self.look_wider(device, out);
        }
        self.ask(from, now, out);
    }

    /// A neighbour is gone: what it was asked for is looked for elsewhere.
    pub(super) fn gone(&mut self, from: &DeviceId, out: &mut VecDeque<Output>) {
        if let Some(asked) = self.asked.remove(from) {
            for device in asked.ids.into_iter().chain(asked.next) {
                self.look_wider(device, out);
            }
        }
    }

    /// What is over by now. Gives the devices that are mobile no more.
    pub(super) fn expire(&mut self, now: Now, out: &mut VecDeque<Output>) -> Vec<DeviceId> {
        let silent: Vec<DeviceId> = self
            .asked
            .iter()
            .filter(|(_, a)| !a.ids.is_empty() && a.until <= now.clock)
            .map(|(from, _)| *from)
            .collect();
        for from in silent {
            self.given(from, &[], now, out);
        }
        self.pending.retain(|_, p| p.lease.expires > now.unix);
        self.forget(|_, m| m.expires <= now.unix)
    }

    /// Who is no member any more has no device to be woken.
    pub(super) fn keep_members(&mut self, members: &BTreeSet<AccountId>) -> Vec<DeviceId> {
        self.pending
            .retain(|_, p| members.contains(&p.lease.issuer));
        self.forget(|_, m| {
            m.lease
                .as_ref()
                .is_some_and(|l| !members.contains(&l.issuer))
        })
    }

    fn forget(&mut self, which: impl Fn(&DeviceId, &Mobile) -> bool) -> Vec<DeviceId> {
        let over: Vec<DeviceId> = self
            .known
            .iter()
            .filter(|(id, m)| which(id, m))
            .map(|(id, _)| *id)
            .collect();
        for id in &over {
            self.known.remove(id);
        }
        over
    }

    /// When [`Self::expire`] has something to do, on the clock of `now`.
    pub(super) fn timeout(&self, now: Now) -> Option<Duration> {
        let asked = self
            .asked
            .values()
            .filter(|a| !a.ids.is_empty())
            .map(|a| a.until);
        let leases = self.known.values().map(|m| {
            let left = m.expires.saturating_sub(now.unix).max(1);
            now.clock.saturating_add(Duration::from_secs(left))
        });
        asked.chain(leases).min()
    }

    pub(super) fn contains(&self, id: &DeviceId) -> bool {
        self.known.contains_key(id)
    }

    /// Whether a neighbour may ask us for a certificate: only for what we said ourselves.
    pub(super) fn may_give(&self, id: &DeviceId) -> bool {
        self.known.get(id).is_some_and(|m| m.lease.is_some())
    }

    /// All that are known, with their leases.
    pub(super) fn infos(&self) -> impl Iterator<Item = MobileInfo> {
        self.known.iter().map(|(id, m)| MobileInfo {
            id: *id,
            lease: m.lease.clone(),
        })
    }
}
