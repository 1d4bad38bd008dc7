//! Who is heard at all: request quotas, the blacklist; and the addresses others
//! see us at.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

/// One requester for quotas: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Source {
    pub(super) fn of(addr: SocketAddr) -> Self {
        match addr.ip() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// Most requesters counted in one window. Beyond it new ones are dropped until the next window;
/// the total limit is lower, so only a caller that raised it gets here.
const MAX_SOURCES: usize = 16_384;

/// Requests per second, in total and per [`Source`].
pub(super) struct Quota {
    total: u32,
    per_source: u32,
    window: Duration,
    seen: u32,
    sources: BTreeMap<Source, u32>,
}

impl Quota {
    pub(super) fn new(total: u32, per_source: u32) -> Self {
        Self {
            total,
            per_source,
            window: Duration::ZERO,
            seen: 0,
            sources: BTreeMap::new(),
        }
    }

    /// Counts a request, and says whether it may be handled.
    pub(super) fn admit(&mut self, now: Duration, from: SocketAddr) -> bool {
        if now.saturating_sub(self.window) >= Duration::from_secs(1) || now < self.window {
            self.window = now;
            self.seen = 0;
            self.sources.clear();
        }
        let source = Source::of(from);
        let count = self.sources.get(&source).copied().unwrap_or_default();
        if self.seen >= self.total
            || count >= self.per_source
            || (count == 0 && self.sources.len() >= MAX_SOURCES)
        {
            return false;
        }
        self.seen = self.seen.saturating_add(1);
        self.sources.insert(source, count.saturating_add(1));
        true
    }
}

/// Most blacklisted addresses kept; the oldest leave first.
const MAX_BLACKLIST: usize = 4096;
/// How long an address stays blacklisted. The reference keeps it for the life of the process;
/// ours runs for weeks, and addresses change hands.
const BLACKLIST_TIME: Duration = Duration::from_secs(60 * 60);

/// Addresses whose datagrams are ignored.
#[derive(Default)]
pub(super) struct Blacklist {
    until: BTreeMap<SocketAddr, Duration>,
    order: VecDeque<SocketAddr>,
}

impl Blacklist {
    pub(super) fn add(&mut self, now: Duration, addr: SocketAddr) {
        if self
            .until
            .insert(addr, now.saturating_add(BLACKLIST_TIME))
            .is_none()
        {
            self.order.push_back(addr);
        }
        while self.order.len() > MAX_BLACKLIST {
            if let Some(oldest) = self.order.pop_front() {
                self.until.remove(&oldest);
            }
        }
    }

    pub(super) fn contains(&self, now: Duration, addr: SocketAddr) -> bool {
        self.until.get(&addr).is_some_and(|until| now < *until)
    }

    pub(super) fn sweep(&mut self, now: Duration) {
        self.until.retain(|_, until| now < *until);
        let until = &self.until;
        self.order.retain(|addr| until.contains_key(addr));
    }
}

/// Most different addresses remembered per family (OpenDHT `reported_addr`, 32).
const MAX_REPORTED: usize = 32;

/// Which public address others say we have.
#[derive(Default)]
pub(super) struct Reported {
    v4: BTreeMap<Ipv4Addr, u32>,
    v6: BTreeMap<Ipv6Addr, u32>,
}

impl Reported {
    pub(super) fn count(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => count(&mut self.v4, ip),
            IpAddr::V6(ip) => count(&mut self.v6, ip),
        }
    }

    pub(super) fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
    }

    /// The most reported address of each family.
    pub(super) fn best(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        (best(&self.v4), best(&self.v6))
    }
}

fn count<A: Ord>(counts: &mut BTreeMap<A, u32>, addr: A) {
    if counts.len() < MAX_REPORTED || counts.contains_key(&addr) {
        let n = counts.entry(addr).or_default();
        *n = n.saturating_add(1);
    }
}

fn best<A: Copy>(counts: &BTreeMap<A, u32>) -> Option<A> {
    counts.iter().max_by_key(|(_, n)| **n).map(|(a, _)| *a)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_from_one_address_does_not_silence_others() {
        let mut quota = Quota::new(8192, 1024);
        let flood: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let admitted = (0..3000)
            .filter(|i| {
                let port = u16::try_from(1 + i).unwrap();
                quota.admit(Duration::ZERO, SocketAddr::new(flood.ip(), port))
            })
            .count();
        assert_eq!(admitted, 1024);
        assert!(quota.admit(Duration::ZERO, "192.0.2.2:1".parse().unwrap()));
        // One IPv6 /64 is one requester.
        let admitted = (0..3000u128)
            .filter(|i| {
                let ip = Ipv6Addr::from((0x2001_0db8u128 << 96) | i);
                quota.admit(Duration::ZERO, SocketAddr::new(ip.into(), 1))
            })
            .count();
        assert_eq!(admitted, 1024);
        assert!(quota.admit(Duration::from_secs(1), flood));
    }

    #[test]
    fn the_blacklist_forgets() {
        let mut list = Blacklist::default();
        for port in 1..=5000 {
            list.add(Duration::ZERO, SocketAddr::new([192, 0, 2, 1].into(), port));
        }
        let (old, new) = (
            "192.0.2.1:1".parse().unwrap(),
            "192.0.2.1:5000".parse().unwrap(),
        );
        assert!(!list.contains(Duration::ZERO, old));
        assert!(list.contains(Duration::ZERO, new));
        assert!(!list.contains(BLACKLIST_TIME, new));
        list.sweep(BLACKLIST_TIME);
        assert!(list.order.is_empty());
    }

    #[test]
    fn the_majority_names_our_address() {
        let mut reported = Reported::default();
        for i in 0..100u8 {
            reported.count(Ipv4Addr::new(198, 51, 100, i).into());
        }
        for _ in 0..3 {
            reported.count(Ipv4Addr::new(198, 51, 100, 7).into());
        }
        assert_eq!(reported.v4.len(), MAX_REPORTED);
        assert_eq!(
            reported.best(),
            (Some(Ipv4Addr::new(198, 51, 100, 7)), None)
        );
    }
}
