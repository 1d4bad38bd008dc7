//! Write tokens: proof that whoever asks to store or listen receives at the
//! address it sends from.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use sha2::{Digest as _, Sha256};

use crate::rng::Rng;

/// Bounds of the time between two secrets (OpenDHT `rotateSecrets`: 15 to 45 min).
const ROTATION: (Duration, Duration) = (Duration::from_secs(15 * 60), Duration::from_secs(45 * 60));

/// A token as issued. 32 bytes, as the reference issues them.
pub(super) type Token = [u8; 32];

/// The current and the previous secret, both valid.
pub(super) struct Tokens {
    current: [u8; 32],
    previous: [u8; 32],
    rotate_at: Duration,
}

impl Tokens {
    pub(super) fn new(now: Duration, rng: &mut Rng) -> Self {
        let mut tokens = Self {
            current: [0; 32],
            previous: [0; 32],
            rotate_at: now,
        };
        rng.fill(&mut tokens.current);
        rng.fill(&mut tokens.previous);
        tokens.rotate_at = now.saturating_add(rng.between(ROTATION.0, ROTATION.1));
        tokens
    }

    pub(super) fn rotate_at(&self) -> Duration {
        self.rotate_at
    }

    pub(super) fn rotate(&mut self, now: Duration, rng: &mut Rng) {
        self.previous = self.current;
        rng.fill(&mut self.current);
        self.rotate_at = now.saturating_add(rng.between(ROTATION.0, ROTATION.1));
    }

    /// The token for a requester: bound to its address and port, not to a key.
    pub(super) fn issue(&self, to: SocketAddr) -> Token {
        make(&self.current, to)
    }

    /// Whether a token was issued to this address under one of the two secrets.
    pub(super) fn accepts(&self, from: SocketAddr, token: &[u8]) -> bool {
        same(&make(&self.current, from), token) | same(&make(&self.previous, from), token)
    }
}

fn make(secret: &[u8; 32], to: SocketAddr) -> Token {
    let mut hash = Sha256::new();
    hash.update(secret);
    match to.ip() {
        IpAddr::V4(ip) => hash.update(ip.octets()),
        IpAddr::V6(ip) => hash.update(ip.octets()),
    }
    hash.update(to.port().to_be_bytes());
    hash.finalize().into()
}

/// Compares without telling by time where the difference is.
fn same(ours: &Token, theirs: &[u8]) -> bool {
    ours.len() == theirs.len() && ours.iter().zip(theirs).fold(0u8, |d, (a, b)| d | (a ^ b)) == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_through_one_rotation_and_only_for_its_address() {
        let mut rng = Rng::new([3; 32]);
        let mut tokens = Tokens::new(Duration::ZERO, &mut rng);
        let alice: SocketAddr = "192.0.2.1:4222".parse().unwrap();
        let token = tokens.issue(alice);
        assert!(tokens.accepts(alice, &token));
        assert!(!tokens.accepts("192.0.2.1:4223".parse().unwrap(), &token));
        assert!(!tokens.accepts("192.0.2.2:4222".parse().unwrap(), &token));
        assert!(!tokens.accepts(alice, &token[..31]));
        assert!(!tokens.accepts(alice, &[]));
        tokens.rotate(tokens.rotate_at(), &mut rng);
        assert!(tokens.accepts(alice, &token));
        tokens.rotate(tokens.rotate_at(), &mut rng);
        assert!(!tokens.accepts(alice, &token));
    }
}
