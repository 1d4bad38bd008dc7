//! Which of the chains that lie where a device publishes its own is taken for the device's.
//!
//! Anybody can put values there. Without the device's key they can
//! - certify its key, which is public, with an account of their own: such a chain holds. Nothing but a connection to the
//!   device tells which account it takes part in, so one that is wanted comes before all others, and of those the first;
//! - take the real account's certificate, which is public as well, and any signature: only checking it tells. That is one
//!   check for each such chain, since the device's signature is looked at first; what names another key, or contradicts
//!   itself, costs none, nor does what was seen already;
//! - show the real device's and account's certificates with something forged above them, or an account of theirs with a
//!   long chain above it: a few checks more for each.

use super::manager::unix_now;
use super::signalling::Wanted;
use sha2::{Digest as _, Sha256};
use starling_core::crypto::Crypto;
use starling_core::dht::{Value, envelope};
use starling_core::id::DeviceId;
use starling_core::identity::{Certificate, CertificateChain};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most different chains that one search verifies at one place: as many values as a node holds at a key. Whoever wants
/// to hide the genuine one behind more has filled the place, and keeps it out of there as well.
const MAX_CHAINS: usize = 4096;

/// A search for the chain of one device.
pub(super) struct Search {
    device: DeviceId,
    wanted: Wanted,
    crypto: Arc<dyn Crypto>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// Hashes of chains that were verified.
    seen: BTreeSet<[u8; 32]>,
    /// The first that holds, of nobody who is wanted.
    holds: Option<CertificateChain>,
    /// The first that does not.
    broken: Option<CertificateChain>,
}

/// How many chains of one place are verified yet: those of accounts that nobody wants take no room from the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    wanted: usize,
    others: usize,
}

impl Default for Left {
    fn default() -> Self {
        Self {
            wanted: MAX_CHAINS,
            others: MAX_CHAINS,
        }
    }
}

impl Search {
    pub(super) fn new(device: DeviceId, wanted: Wanted, crypto: Arc<dyn Crypto>) -> Self {
        Self {
            device,
            wanted,
            crypto,
            found: Mutex::default(),
        }
    }

    /// Looks at values. The first chain that holds and is wanted ends the search. Takes its time.
    pub(super) fn look(&self, values: &[Arc<Value>], left: &mut Left) -> Option<CertificateChain> {
        let chains = values.iter().filter_map(|v| chain(v));
        let mut chains = chains.filter(|c| c.device_id() == self.device);
        chains.find_map(|chain| self.judge(chain, left))
    }

    fn judge(&self, chain: CertificateChain, left: &mut Left) -> Option<CertificateChain> {
        let wanted = (self.wanted)(&chain.account_id());
        let mut found = self.found();
        if !wanted && found.holds.is_some() {
            return None;
        }
        let now = unix_now();
        if chain.check_structure(now).is_ok() {
            let left = match wanted {
                true => &mut left.wanted,
                false => &mut left.others,
            };
            if *left == 0 || !found.seen.insert(hash(&chain)) {
                return None;
            }
            *left -= 1;
            let crypto = self.crypto.as_ref();
            if is_signed(&chain, crypto) && chain.verify(crypto, now, &[]).is_ok() {
                if wanted {
                    return Some(chain);
                }
                found.holds = Some(chain);
                return None;
            }
        }
        found.broken.get_or_insert(chain);
        None
    }

    /// What was found instead, when nothing was that is wanted.
    pub(super) fn next_best(&self) -> Option<CertificateChain> {
        let mut found = self.found();
        found.holds.take().or_else(|| found.broken.take())
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        // Each change is one insert.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the account signed the device: what most forged chains lack, and one check instead of all.
fn is_signed(chain: &CertificateChain, crypto: &dyn Crypto) -> bool {
    let check = chain.device.signature_check(&chain.account);
    check.is_ok_and(|check| crypto.verify(&check))
}

fn hash(chain: &CertificateChain) -> [u8; 32] {
    let mut sum = Sha256::new();
    for certificate in chain.iter() {
        // Where one ends its own outline says.
        sum.update(certificate.der());
    }
    sum.finalize().into()
}

/// The chain in a value.
fn chain(value: &Value) -> Option<CertificateChain> {
    let ders = envelope::certificates(value);
    let certificates = ders.iter().map(|d| Certificate::from_der(d));
    CertificateChain::new(certificates.collect::<Result<_, _>>().ok()?).ok()
}

#[cfg(test)]
use crate::crypto::AwsLc;
#[cfg(test)]
#[path = "../../tests/peer_support/watched.rs"]
mod watched;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::watched::Watched;
    use super::*;
    use starling_core::crypto::SignatureCheck;
    use starling_core::id::AccountId;
    use starling_core::identity::{
        AccountKeys, CertificateKind, Identity, create_account, issue, private_key_from_pem,
    };
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn account(n: usize) -> Identity {
        const END: &str = "-----END PRIVATE KEY-----\n";
        let made = include_str!("../../tests/data/keys.pem").split_inclusive(END);
        let mut keys = made.skip(3 * n);
        let mut key = || private_key_from_pem(&AwsLc, keys.next().unwrap().as_bytes()).unwrap();
        let keys = AccountKeys {
            ca: key(),
            account: key(),
            device: key(),
        };
        create_account(&AwsLc, unix_now(), keys).unwrap().1
    }

    /// The chain with another signature of the device, one for each `n`.
    fn forged(chain: &CertificateChain, n: u16) -> CertificateChain {
        let mut der = chain.device.der().to_vec();
        let end = der.len() - 2;
        let [a, b] = (n + 1).to_be_bytes();
        der[end] ^= a;
        der[end + 1] ^= b;
        CertificateChain {
            device: Certificate::from_der(&der).unwrap(),
            ..chain.clone()
        }
    }

    /// A chain of `who` for the device of `whose`.
    fn claimed(who: &Identity, whose: &Identity) -> CertificateChain {
        // The account's key is not at hand: the device's stands in for it.
        let subject = whose.chain.device.spki();
        let key = who.device_key.as_ref();
        let account = issue(
            &AwsLc,
            CertificateKind::Account,
            key.public_key(),
            Some(&who.chain.account),
            key,
            unix_now(),
        );
        let account = account.unwrap();
        let kind = CertificateKind::Device;
        let device = issue(&AwsLc, kind, &subject, Some(&account), key, unix_now());
        CertificateChain {
            device: device.unwrap(),
            account,
            ca: Vec::new(),
        }
    }

    struct Looking {
        search: Search,
        checks: Arc<AtomicUsize>,
        left: Left,
    }

    impl Looking {
        fn new(
            whose: &Identity,
            wanted: impl Fn(&AccountId) -> bool + Send + Sync + 'static,
        ) -> Self {
            let checks = Arc::<AtomicUsize>::default();
            let counts = checks.clone();
            let crypto = Watched(move |_: &SignatureCheck| {
                counts.fetch_add(1, Ordering::Relaxed);
            });
            Self {
                search: Search::new(whose.device_id(), Box::new(wanted), Arc::new(crypto)),
                checks,
                left: Left::default(),
            }
        }

        /// How many signatures were checked since.
        fn checked(&self) -> usize {
            self.checks.swap(0, Ordering::Relaxed)
        }

        fn at(&mut self, chain: &CertificateChain) -> Option<CertificateChain> {
            let value = Arc::new(envelope::certificate_value(&chain.to_pem()));
            self.search.look(&[value], &mut self.left)
        }
    }

    #[test]
    fn the_first_that_is_wanted_is_before_the_first_that_holds_and_that_before_any_other() {
        let (bob, mallory) = (account(0), account(1));
        let (theirs, other) = (claimed(&mallory, &bob), claimed(&account(2), &bob));
        let broken = forged(&bob.chain, 1);
        for (wanted, best) in [(true, &bob.chain), (false, &theirs)] {
            let own = bob.account_id();
            let mut looking = Looking::new(&bob, move |a| wanted && *a == own);
            assert_eq!(looking.search.next_best(), None);
            for chain in [&broken, &theirs, &other, &forged(&bob.chain, 2)] {
                assert_eq!(looking.at(chain), None);
            }
            let found = looking.at(&bob.chain);
            assert_eq!(
                found.or_else(|| looking.search.next_best()).as_ref(),
                Some(best)
            );
        }
        let mut looking = Looking::new(&bob, |_| false);
        for chain in [&broken, &forged(&bob.chain, 2)] {
            assert_eq!(looking.at(chain), None);
        }
        assert_eq!(looking.search.next_best(), Some(broken));
    }

    #[test]
    fn what_is_forged_costs_little() {
        let (bob, mallory) = (account(0), account(1));
        let (own, theirs) = (bob.account_id(), claimed(&mallory, &bob));
        let mut looking = Looking::new(&bob, move |a| *a == own);
        // Another key, and another name: nothing.
        let foreign = CertificateChain {
            account: mallory.chain.account.clone(),
            ..bob.chain.clone()
        };
        for chain in [&mallory.chain, &foreign] {
            assert_eq!(looking.at(chain), None);
        }
        assert_eq!(looking.checked(), 0);
        // A wrong signature: one check, and once.
        for _ in 0..3 {
            assert_eq!(looking.at(&forged(&bob.chain, 1)), None);
        }
        assert_eq!(looking.checked(), 1);
        // Those of somebody else are of use once.
        assert_eq!(looking.at(&theirs), None);
        assert!(looking.checked() > 0);
        for _ in 0..3 {
            assert_eq!(looking.at(&claimed(&account(2), &bob)), None);
        }
        assert_eq!(looking.checked(), 0);
        assert_eq!(looking.at(&bob.chain), Some(bob.chain.clone()));
    }

    #[test]
    fn a_flood_has_an_end_and_hides_nothing_that_is_wanted() {
        let (bob, mallory) = (account(0), account(1));
        let (own, theirs) = (bob.account_id(), claimed(&mallory, &bob));
        let mut looking = Looking::new(&bob, move |a| *a == own);
        let flood = u16::try_from(MAX_CHAINS).unwrap();
        // Of somebody else.
        for n in 0..flood + 10 {
            assert_eq!(looking.at(&forged(&theirs, n)), None);
        }
        assert_eq!(looking.checked(), MAX_CHAINS);
        // Of the account itself.
        for n in 0..flood - 1 {
            assert_eq!(looking.at(&forged(&bob.chain, n)), None);
        }
        assert_eq!(looking.checked(), MAX_CHAINS - 1);
        let left = looking.left;
        assert_eq!(looking.at(&bob.chain), Some(bob.chain.clone()));
        assert!(looking.checked() > 0);
        // One more, and there is no room at this place.
        looking.left = left;
        for n in [flood, flood + 1] {
            assert_eq!(looking.at(&forged(&bob.chain, n)), None);
        }
        assert_eq!(looking.checked(), 1);
    }
}
