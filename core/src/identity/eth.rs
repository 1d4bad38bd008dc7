//! The key that owns a registered name: secp256k1, as Ethereum has it.

use k256::elliptic_curve::sec1::ToSec1Point as _;
use sha3::{Digest as _, Keccak256};
use zeroize::Zeroizing;

use crate::crypto::{Crypto, CryptoError};

/// A secp256k1 private key.
#[derive(Clone, PartialEq, Eq)]
pub struct EthKey(Zeroizing<[u8; 32]>);

impl core::fmt::Debug for EthKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("EthKey(..)")
    }
}

impl EthKey {
    /// From its 32 bytes.
    ///
    /// # Errors
    /// [`CryptoError::BadKey`] for zero and what is not below the order of the curve.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        k256::SecretKey::from_slice(bytes).map_err(|_| CryptoError::BadKey)?;
        let bytes = bytes.try_into().map_err(|_| CryptoError::BadKey)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// A new one.
    pub fn generate(crypto: &dyn Crypto) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            crypto.random(&mut *bytes);
            // All but one of 2^128 draws are keys.
            if let Ok(key) = Self::from_bytes(&*bytes) {
                return key;
            }
        }
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The address: the last 20 bytes of Keccak-256 over the public point, as 40 digits.
    pub fn address(&self) -> String {
        let Ok(key) = k256::SecretKey::from_slice(&*self.0) else {
            return String::new();
        };
        let point = key.public_key().to_sec1_point(false);
        // Without the leading byte that says "not compressed".
        let hash = Keccak256::digest(point.as_bytes().get(1..).unwrap_or_default());
        hex::encode(hash.get(12..).unwrap_or_default())
    }
}
