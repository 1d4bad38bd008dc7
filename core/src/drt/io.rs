//! What goes into the engine and what comes out of it.

use super::lease::Lease;
use super::message::{Message, MobileInfo};
use crate::id::{AccountId, ConversationId, DeviceId};
use crate::identity::CertificateChain;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The time, for the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Since any fixed moment; never goes back.
    pub clock: Duration,
    /// The wall clock, unix seconds: leases carry it.
    pub unix: u64,
}

/// Whose engine it is.
#[derive(Debug, Clone, Copy)]
pub struct DrtConfig {
    /// This device.
    pub device: DeviceId,
    /// Its account.
    pub account: AccountId,
    /// The conversation.
    pub conversation: ConversationId,
    /// Randomness: the same seed and inputs give the same outputs.
    pub seed: [u8; 32],
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Input {
    /// Who is in the conversation now: first of all, and whenever that changes.
    Members {
        /// Members and admins; ourselves too.
        accounts: Arc<BTreeSet<AccountId>>,
        /// Those who were asked in: they are let in, since they may have joined without our knowing
        /// it yet, and are not looked for.
        invited: BTreeSet<AccountId>,
        /// Devices that were shut out although their account was not.
        banned: BTreeSet<DeviceId>,
    },
    /// A device of somebody watched announced itself, or its announcement ended.
    Presence {
        /// Whose.
        account: AccountId,
        /// Which.
        device: DeviceId,
        /// Whether it is there.
        online: bool,
    },
    /// There is a connection to a device, for whatever reason: a channel costs nothing.
    Linked {
        /// Which.
        device: DeviceId,
        /// Whose, verified.
        account: AccountId,
    },
    /// That connection ended.
    Unlinked {
        /// Which.
        device: DeviceId,
    },
    /// A swarm channel is open, whoever opened it. One for each device: if there are several, the
    /// first one counts.
    Connected {
        /// With whom.
        device: DeviceId,
        /// Whose, verified.
        account: AccountId,
    },
    /// The last swarm channel with a device ended.
    Disconnected {
        /// With whom.
        device: DeviceId,
    },
    /// A device that was to be connected to ([`Output::Connect`]) could not be.
    Failed {
        /// Which.
        device: DeviceId,
        /// No attempt before then: whoever connects owns the pauses.
        not_before: Duration,
    },
    /// A device that was to be connected to belongs to nobody in the conversation, or does not exist.
    Refused {
        /// Which.
        device: DeviceId,
    },
    /// A message on a swarm channel.
    Message {
        /// Of whom.
        from: DeviceId,
        /// What.
        message: Box<Message>,
    },
    /// There is news to tell: a few members without a connection are looked for.
    Reach,
    /// The answer to [`Output::CheckLease`].
    LeaseChecked {
        /// The lease's device.
        device: DeviceId,
        /// What came of it.
        verdict: Verdict,
    },
    /// The answer to [`Output::GiveCertificates`]: packed chains.
    Certificates {
        /// For whom.
        to: DeviceId,
        /// Those that there are.
        certificates: Vec<Vec<u8>>,
    },
    /// Mobile devices as they were known before: [`Drt::mobile_infos`](super::Drt::mobile_infos), kept over a restart.
    Restored(Vec<MobileInfo>),
    /// The time of [`Drt::poll_timeout`](super::Drt::poll_timeout) has come.
    Timeout,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a swarm channel, and a connection for it if there is none. Answered by
    /// [`Input::Connected`], [`Input::Failed`] or [`Input::Refused`].
    Connect(DeviceId),
    /// Close the swarm channels with a device.
    Close(DeviceId),
    /// Send a message to a connected device.
    Send {
        /// To whom.
        to: DeviceId,
        /// What.
        message: Box<Message>,
    },
    /// Watch the announcements of exactly these accounts from now on.
    Watch(BTreeSet<AccountId>),
    /// Verify a lease with the certificate of its device: [`Lease::checks`] lists the signatures.
    CheckLease {
        /// The lease.
        lease: Box<Lease>,
        /// Where to take the certificate from.
        source: CertificateSource,
    },
    /// A neighbour asks for the certificates of these devices: those that are at hand.
    GiveCertificates {
        /// Who.
        to: DeviceId,
        /// Whose.
        devices: Vec<DeviceId>,
    },
    /// There is a neighbour now, or none any more.
    Online(bool),
    /// The known mobile devices changed: keep [`Drt::mobile_infos`](super::Drt::mobile_infos).
    MobilesChanged,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// What this device has met before.
    Store,
    /// A neighbour gave it, unverified.
    Given(Box<CertificateChain>),
    /// To be looked for on the DHT.
    Network,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Certificate and lease hold.
    Good,
    /// They do not.
    Bad,
    /// There is no certificate there.
    NoCertificate,
}
