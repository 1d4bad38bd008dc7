//! The real cryptography, which says what it is asked to check.

use super::AwsLc;
use starling_core::crypto::{Crypto, CryptoError, PrivateKey, SignatureCheck};

/// Says before it checks a signature which.
pub(crate) struct Watched<F>(pub(crate) F);

impl<F: Fn(&SignatureCheck) + Send + Sync> Crypto for Watched<F> {
    fn verify(&self, check: &SignatureCheck) -> bool {
        (self.0)(check);
        AwsLc.verify(check)
    }

    fn rsa_encrypt(&self, spki: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        AwsLc.rsa_encrypt(spki, plain)
    }

    fn generate_rsa(&self, bits: u32) -> Result<Box<dyn PrivateKey>, CryptoError> {
        AwsLc.generate_rsa(bits)
    }

    fn read_private_key(&self, der: &[u8]) -> Result<Box<dyn PrivateKey>, CryptoError> {
        AwsLc.read_private_key(der)
    }

    fn aes_gcm_seal(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        AwsLc.aes_gcm_seal(key, nonce, plain)
    }

    fn aes_gcm_open(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        sealed: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        AwsLc.aes_gcm_open(key, nonce, sealed)
    }

    fn random(&self, out: &mut [u8]) {
        AwsLc.random(out);
    }
}
