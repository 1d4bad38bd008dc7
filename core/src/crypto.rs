//! Crypto as a capability: what core asks of whoever runs it.
//!
//! Natively aws-lc-rs answers, in the page WebCrypto. Neither RSA nor AES is ever computed in
//! this crate; hashes and Argon2 are.

/// How a signature was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384: Jami's certificates.
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512: commits, DHT values, receipts, revocation lists.
    RsaPkcs1Sha512,
    /// ECDSA on P-384 with SHA-384: temporary identities while linking devices.
    EcdsaP384Sha384,
}

/// One signature to check. Owned, so that a batch can travel to a worker or a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureCheck {
    /// DER SubjectPublicKeyInfo of the signer.
    pub key: std::sync::Arc<[u8]>,
    /// The algorithm.
    pub algorithm: SignatureAlgorithm,
    /// The bytes that were signed.
    pub message: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// What failed in a crypto operation. Deliberately says little: details help an attacker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// A key could not be read, or is of a kind that is not supported.
    #[error("the key cannot be used")]
    BadKey,
    /// Decryption or authentication failed.
    #[error("decryption failed")]
    Decrypt,
    /// The operation could not be carried out.
    #[error("the operation failed")]
    Failed,
}

/// Nonce of AES-GCM, in bytes.
pub const GCM_NONCE: usize = 12;

/// What AES-GCM puts behind the ciphertext, in bytes.
pub const GCM_TAG: usize = 16;

/// What the machine this runs on does with keys.
pub trait Crypto: Send + Sync {
    /// Checks one signature.
    fn verify(&self, check: &SignatureCheck) -> bool;

    /// Checks many, on as many cores as there are. The answers are in the order of the questions.
    fn verify_batch(&self, checks: &[SignatureCheck]) -> Vec<bool> {
        checks.iter().map(|c| self.verify(c)).collect()
    }

    /// RSAES-PKCS1-v1_5 to the holder of `spki_der`.
    fn rsa_encrypt(&self, spki_der: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError>;

    /// A new RSA key pair of `bits` (2048, 3072 or 4096).
    fn generate_rsa(&self, bits: u32) -> Result<Box<dyn PrivateKey>, CryptoError>;

    /// Reads a PKCS#8 private key in DER.
    fn read_private_key(&self, pkcs8_der: &[u8]) -> Result<Box<dyn PrivateKey>, CryptoError>;

    /// AES-GCM with a key of 16, 24 or 32 bytes: ciphertext, then the tag. A nonce serves once for each key.
    fn aes_gcm_seal(
        &self,
        key: &[u8],
        nonce: &[u8; GCM_NONCE],
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError>;

    /// The plaintext of what [`Self::aes_gcm_seal`] made.
    fn aes_gcm_open(
        &self,
        key: &[u8],
        nonce: &[u8; GCM_NONCE],
        sealed: &[u8],
    ) -> Result<Vec<u8>, CryptoError>;

    /// Fills a buffer with random bytes fit for keys.
    fn random(&self, out: &mut [u8]);
}

/// A private key, wherever it is held.
pub trait PrivateKey: Send + Sync {
    /// DER SubjectPublicKeyInfo of the public half.
    fn public_key(&self) -> &[u8];
    /// Signs.
    fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, CryptoError>;
    /// RSAES-PKCS1-v1_5 decryption.
    fn rsa_decrypt(&self, cipher: &[u8]) -> Result<Vec<u8>, CryptoError>;
    /// The key as unencrypted PKCS#8 DER, for archives.
    fn to_pkcs8(&self) -> zeroize::Zeroizing<Vec<u8>>;
}
