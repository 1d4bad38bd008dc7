//! Crypto by aws-lc-rs: the native answer to `starling_core::crypto`.
//!
//! The same library serves TLS, so that a key has one implementation in the whole
//! program.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::rsa::{
    KeySize, Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, KeyPair as _, ParsedPublicKey, RsaKeyPair, VerificationAlgorithm,
};
use starling_core::crypto::{
    Crypto, CryptoError, GCM_NONCE, GCM_TAG, PrivateKey, SignatureAlgorithm, SignatureCheck,
};
use starling_core::identity::{AccountKeys, KEY_BITS};
use zeroize::Zeroizing;

/// Below this many checks per thread, starting the thread costs more than it saves:
/// one RSA-4096 verification takes about as long as starting two threads.
const CHECKS_PER_THREAD: usize = 4;

/// The operations of aws-lc-rs. Holds nothing: copy it freely.
#[derive(Debug, Clone, Copy, Default)]
pub struct AwsLc;

impl AwsLc {
    /// `count` new RSA key pairs of `bits` bits, made on as many threads: an account
    /// needs three of 4096 bits, the better part of a second each.
    pub fn generate_rsa_keys(
        &self,
        bits: u32,
        count: usize,
    ) -> Result<Vec<Box<dyn PrivateKey>>, CryptoError> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..count)
                .map(|_| scope.spawn(move || self.generate_rsa(bits)))
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().map_err(|_| CryptoError::Failed)?)
                .collect()
        })
    }

    /// The three keys of a new account, made side by side.
    pub fn generate_account_keys(&self) -> Result<AccountKeys, CryptoError> {
        let mut keys = self.generate_rsa_keys(KEY_BITS, 3)?.into_iter();
        match (keys.next(), keys.next(), keys.next()) {
            (Some(ca), Some(account), Some(device)) => Ok(AccountKeys {
                ca,
                account,
                device,
            }),
            _ => Err(CryptoError::Failed),
        }
    }

    /// A new key pair on P-384: temporary identities while a device is linked.
    pub fn generate_p384(&self) -> Result<Box<dyn PrivateKey>, CryptoError> {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_ASN1_SIGNING)
            .map_err(|_| CryptoError::Failed)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| CryptoError::Failed)?;
        Ok(Box::new(P384Key::new(
            pair,
            Zeroizing::new(pkcs8.as_ref().to_vec()),
        )?))
    }
}

fn verification(algorithm: SignatureAlgorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        SignatureAlgorithm::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        SignatureAlgorithm::RsaPkcs1Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        SignatureAlgorithm::RsaPkcs1Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        SignatureAlgorithm::EcdsaP384Sha384 => &signature::ECDSA_P384_SHA384_ASN1,
    }
}

/// Checks in a row, reading each key once: commits of one author come in runs.
fn verify_in_a_row(checks: &[SignatureCheck], answers: &mut [bool]) {
    let mut keys: HashMap<(&[u8], SignatureAlgorithm), Option<ParsedPublicKey>> = HashMap::new();
    for (check, answer) in checks.iter().zip(answers) {
        let key = keys
            .entry((&check.key, check.algorithm))
            .or_insert_with(|| {
                ParsedPublicKey::new(verification(check.algorithm), &check.key).ok()
            });
        *answer = key
            .as_ref()
            .is_some_and(|k| k.verify_sig(&check.message, &check.signature).is_ok());
    }
}

impl Crypto for AwsLc {
    fn verify(&self, check: &SignatureCheck) -> bool {
        let mut answer = [false];
        verify_in_a_row(std::slice::from_ref(check), &mut answer);
        answer[0]
    }

    fn verify_batch(&self, checks: &[SignatureCheck]) -> Vec<bool> {
        let mut answers = vec![false; checks.len()];
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = cores.min(checks.len() / CHECKS_PER_THREAD).max(1);
        if threads == 1 {
            verify_in_a_row(checks, &mut answers);
            return answers;
        }
        let share = checks.len().div_ceil(threads);
        std::thread::scope(|scope| {
            for (checks, answers) in checks.chunks(share).zip(answers.chunks_mut(share)) {
                scope.spawn(move || verify_in_a_row(checks, answers));
            }
        });
        answers
    }

    fn rsa_encrypt(&self, spki_der: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let key = PublicEncryptingKey::from_der(spki_der).map_err(|_| CryptoError::BadKey)?;
        let key = Pkcs1PublicEncryptingKey::new(key).map_err(|_| CryptoError::BadKey)?;
        if plain.len() > key.max_plaintext_size() {
            return Err(CryptoError::Failed);
        }
        let mut out = vec![0; key.ciphertext_size()];
        let len = key
            .encrypt(plain, &mut out)
            .map_err(|_| CryptoError::Failed)?
            .len();
        out.truncate(len);
        Ok(out)
    }

    fn generate_rsa(&self, bits: u32) -> Result<Box<dyn PrivateKey>, CryptoError> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            _ => return Err(CryptoError::BadKey),
        };
        let pair = RsaKeyPair::generate(size).map_err(|_| CryptoError::Failed)?;
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| CryptoError::Failed)?;
        Ok(Box::new(RsaKey::new(
            pair,
            Zeroizing::new(der.as_ref().to_vec()),
        )?))
    }

    fn read_private_key(&self, pkcs8_der: &[u8]) -> Result<Box<dyn PrivateKey>, CryptoError> {
        let pkcs8 = Zeroizing::new(pkcs8_der.to_vec());
        if let Ok(pair) = RsaKeyPair::from_pkcs8(pkcs8_der) {
            return Ok(Box::new(RsaKey::new(pair, pkcs8)?));
        }
        let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8_der)
            .map_err(|_| CryptoError::BadKey)?;
        Ok(Box::new(P384Key::new(pair, pkcs8)?))
    }

    fn aes_gcm_seal(
        &self,
        key: &[u8],
        nonce: &[u8; GCM_NONCE],
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let key = gcm(key).ok_or(CryptoError::BadKey)?;
        let mut out = Vec::with_capacity(plain.len() + GCM_TAG);
        out.extend_from_slice(plain);
        key.seal_in_place_append_tag(Nonce::from(nonce), Aad::empty(), &mut out)
            .map_err(|_| CryptoError::Failed)?;
        Ok(out)
    }

    fn aes_gcm_open(
        &self,
        key: &[u8],
        nonce: &[u8; GCM_NONCE],
        sealed: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let key = gcm(key).ok_or(CryptoError::BadKey)?;
        let mut out = sealed.to_vec();
        let len = key
            .open_in_place(Nonce::from(nonce), Aad::empty(), &mut out)
            .map_err(|_| CryptoError::Decrypt)?
            .len();
        out.truncate(len);
        Ok(out)
    }

    fn random(&self, out: &mut [u8]) {
        // The one failure is a system without a source of randomness, where nothing
        // this program does would be safe.
        if SystemRandom::new().fill(out).is_err() {
            panic!("the operating system gives no random numbers");
        }
    }
}

/// An AES key by its length.
fn gcm(key: &[u8]) -> Option<LessSafeKey> {
    let algorithm = match key.len() {
        16 => &aead::AES_128_GCM,
        24 => &aead::AES_192_GCM,
        32 => &aead::AES_256_GCM,
        _ => return None,
    };
    UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new)
}

/// An RSA private key in memory.
struct RsaKey {
    pair: RsaKeyPair,
    /// The same key in the form that decrypts; read when first needed.
    decrypting: OnceLock<Option<Pkcs1PrivateDecryptingKey>>,
    pkcs8: Zeroizing<Vec<u8>>,
    spki: Arc<[u8]>,
}

impl RsaKey {
    fn new(pair: RsaKeyPair, pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, CryptoError> {
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key())
            .map_err(|_| CryptoError::BadKey)?;
        Ok(Self {
            spki: spki.as_ref().into(),
            pair,
            decrypting: OnceLock::new(),
            pkcs8,
        })
    }
}

impl PrivateKey for RsaKey {
    fn public_key(&self) -> &[u8] {
        &self.spki
    }

    fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let padding: &'static dyn signature::RsaEncoding = match algorithm {
            SignatureAlgorithm::RsaPkcs1Sha256 => &signature::RSA_PKCS1_SHA256,
            SignatureAlgorithm::RsaPkcs1Sha384 => &signature::RSA_PKCS1_SHA384,
            SignatureAlgorithm::RsaPkcs1Sha512 => &signature::RSA_PKCS1_SHA512,
            SignatureAlgorithm::EcdsaP384Sha384 => return Err(CryptoError::BadKey),
        };
        let mut out = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(padding, &SystemRandom::new(), message, &mut out)
            .map_err(|_| CryptoError::Failed)?;
        Ok(out)
    }

    fn rsa_decrypt(&self, cipher: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let key = self
            .decrypting
            .get_or_init(|| {
                let key = PrivateDecryptingKey::from_pkcs8(&self.pkcs8).ok()?;
                Pkcs1PrivateDecryptingKey::new(key).ok()
            })
            .as_ref()
            .ok_or(CryptoError::BadKey)?;
        let mut out = vec![0; key.min_output_size()];
        let len = key
            .decrypt(cipher, &mut out)
            .map_err(|_| CryptoError::Decrypt)?
            .len();
        out.truncate(len);
        Ok(out)
    }

    fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.pkcs8.clone()
    }
}

/// A P-384 private key in memory.
struct P384Key {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    spki: Arc<[u8]>,
}

impl P384Key {
    fn new(pair: EcdsaKeyPair, pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, CryptoError> {
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key())
            .map_err(|_| CryptoError::BadKey)?;
        Ok(Self {
            spki: spki.as_ref().into(),
            pair,
            pkcs8,
        })
    }
}

impl PrivateKey for P384Key {
    fn public_key(&self) -> &[u8] {
        &self.spki
    }

    fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        if algorithm != SignatureAlgorithm::EcdsaP384Sha384 {
            return Err(CryptoError::BadKey);
        }
        let signature = self
            .pair
            .sign(&SystemRandom::new(), message)
            .map_err(|_| CryptoError::Failed)?;
        Ok(signature.as_ref().to_vec())
    }

    fn rsa_decrypt(&self, _cipher: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::BadKey)
    }

    fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.pkcs8.clone()
    }
}
