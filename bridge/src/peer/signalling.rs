//! What a connection needs of the DHT, as a trait: tests have one inside the process.

use futures_util::future::BoxFuture;
use starling_core::id::{AccountId, DeviceId, DeviceShortId};
use starling_core::identity::{Certificate, CertificateChain, RevocationList};
use starling_core::peer::request::PeerRequest;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Which of the two addressing schemes a request travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// By the short device id: daemons of 2023.
    Short,
    /// By the long device id: daemons since 2026.
    Long,
}

/// A request or an answer whose signature was good.
#[derive(Debug, Clone)]
pub struct Signal {
    /// What it says.
    pub request: PeerRequest,
    /// DER SubjectPublicKeyInfo of the device that signed it.
    pub from: Arc<[u8]>,
    /// Where it came.
    pub family: Family,
}

/// A device as its account announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announced {
    /// The device.
    pub device: DeviceId,
    /// Its older name.
    pub short_id: DeviceShortId,
}

/// A device appeared in the network or went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// Which.
    pub device: Announced,
    /// Whether it announces itself. A device that is turned off is noticed some ten minutes late.
    pub online: bool,
}

/// Why something could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SignallingError(pub String);

/// Whether a device may be an account's.
pub type Wanted = Box<dyn Fn(&AccountId) -> bool + Send + Sync>;

/// How connection requests travel, and how devices and their certificates are found.
pub trait Signalling: Send + Sync + 'static {
    /// Sends a request or an answer, encrypted to a device and signed by ours, in each of the families.
    fn send<'a>(
        &'a self,
        to: &'a Certificate,
        request: &'a PeerRequest,
        families: &'a [Family],
    ) -> BoxFuture<'a, Result<(), SignallingError>>;

    /// Everything that is sent to our device, verified, with repetitions. Ends with the account.
    fn listen(&self) -> mpsc::Receiver<Signal>;

    /// The chain of a device. `short_id` helps to find devices of 2023, `wanted` says of an account whether it may be
    /// its: anybody can put a chain where a device has its own, and certify its key. If there is none of that kind that
    /// holds, another one that does; if there is none either, one that does not, for whoever asks to say what is wrong.
    fn find_certificate(
        &self,
        device: DeviceId,
        short_id: Option<DeviceShortId>,
        wanted: Wanted,
    ) -> BoxFuture<'_, Option<CertificateChain>>;

    /// The devices that an account announces.
    fn devices_of(&self, account: AccountId) -> BoxFuture<'_, Vec<Announced>>;

    /// The devices that an account announces, now and from now on. Ends when the receiver is dropped.
    fn watch_devices(&self, account: AccountId) -> mpsc::Receiver<Presence>;

    /// Our addresses as the network sees them.
    fn public_addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    /// The revocation lists that lie where an account would publish its own, unverified: anybody can put
    /// one there.
    fn revocation_lists(&self, account: AccountId) -> BoxFuture<'_, Vec<RevocationList>>;

    /// Publishes a list of our own account, for as long as the account runs.
    fn publish_list<'a>(
        &'a self,
        list: &'a RevocationList,
    ) -> BoxFuture<'a, Result<(), SignallingError>>;

    /// Makes our own device findable: its certificate under both keys, and its announcement.
    fn publish(&self) -> BoxFuture<'_, Result<(), SignallingError>>;
}
