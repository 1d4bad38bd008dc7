//! Randomness of the engines: SHA-256 in counter mode over the caller's seed.
//!
//! The seed must come from a cryptographic source: transaction ids, socket ids
//! and the token secret are drawn from here, and all three keep off-path
//! attackers out.

use core::time::Duration;
use sha2::{Digest as _, Sha256};

/// A deterministic generator of bytes nobody can predict without the seed.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            counter: 0,
            block: [0; 32],
            used: 32,
        }
    }

    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.used >= self.block.len() {
                let mut hash = Sha256::new();
                hash.update(self.seed);
                hash.update(self.counter.to_be_bytes());
                self.block = hash.finalize().into();
                self.counter = self.counter.wrapping_add(1);
                self.used = 0;
            }
            *byte = self.block.get(self.used).copied().unwrap_or_default();
            self.used = self.used.saturating_add(1);
        }
    }

    pub(crate) fn u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    pub(crate) fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    /// Below `bound`, or 0 when that is 0. The bias is below `bound` / 2³².
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u32::try_from(bound).unwrap_or(u32::MAX);
        let drawn = self.u32().checked_rem(bound).unwrap_or_default();
        usize::try_from(drawn).unwrap_or_default()
    }

    /// Between two durations, in steps of a millisecond.
    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = u64::try_from(high.saturating_sub(low).as_millis()).unwrap_or(u64::MAX);
        let extra = self
            .u64()
            .checked_rem(span.saturating_add(1))
            .unwrap_or_default();
        low.saturating_add(Duration::from_millis(extra))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_and_bounds_hold() {
        let (mut a, mut b, mut c) = (Rng::new([1; 32]), Rng::new([1; 32]), Rng::new([2; 32]));
        let (x, y, z) = (a.u64(), b.u64(), c.u64());
        assert_eq!(x, y);
        assert_ne!(x, z);
        assert_eq!(a.below(0), 0);
        let (low, high) = (Duration::from_secs(5), Duration::from_secs(25));
        for _ in 0..1000 {
            assert!(a.below(7) < 7);
            assert!((low..=high).contains(&a.between(low, high)));
        }
    }
}
