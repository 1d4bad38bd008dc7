//! The native crypto: what it signs it accepts, what is bent it refuses.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use starling_bridge::crypto::AwsLc;
use starling_core::crypto::{Crypto, CryptoError, PrivateKey, SignatureAlgorithm, SignatureCheck};
use starling_core::identity::create_account;

use base64::prelude::*;

fn key(pem: &str) -> Box<dyn PrivateKey> {
    let text: String = pem.lines().filter(|l| !l.starts_with('-')).collect();
    AwsLc
        .read_private_key(&BASE64_STANDARD.decode(text).unwrap())
        .unwrap()
}

fn device() -> Box<dyn PrivateKey> {
    key(include_str!("data/crypto/device.pem"))
}

fn check(key: &dyn PrivateKey, algorithm: SignatureAlgorithm, message: &[u8]) -> SignatureCheck {
    SignatureCheck {
        key: key.public_key().into(),
        algorithm,
        message: message.to_vec(),
        signature: key.sign(algorithm, message).unwrap(),
    }
}

#[test]
fn rsa_signatures_of_every_hash_are_checked_and_bent_ones_refused() {
    let key = device();
    for algorithm in [
        SignatureAlgorithm::RsaPkcs1Sha256,
        SignatureAlgorithm::RsaPkcs1Sha384,
        SignatureAlgorithm::RsaPkcs1Sha512,
    ] {
        let good = check(key.as_ref(), algorithm, b"hello");
        assert!(AwsLc.verify(&good));
        let mut bent = good.clone();
        bent.message.push(0);
        assert!(!AwsLc.verify(&bent));
        let mut bent = good.clone();
        bent.signature[7] ^= 1;
        assert!(!AwsLc.verify(&bent));
        let mut short = good.clone();
        short.signature.pop();
        assert!(!AwsLc.verify(&short));
        let mut no_key = good;
        no_key.key = Arc::from(&b"no key"[..]);
        assert!(!AwsLc.verify(&no_key));
    }
}

#[test]
fn a_batch_is_answered_in_order() {
    let keys = [device(), key(include_str!("data/crypto/account.pem"))];
    let mut checks = Vec::new();
    for i in 0..23u8 {
        let mut c = check(
            keys[usize::from(i % 2)].as_ref(),
            SignatureAlgorithm::RsaPkcs1Sha512,
            &[i],
        );
        if i % 3 == 0 {
            c.message.push(1);
        }
        checks.push(c);
    }
    let expected: Vec<bool> = (0..23).map(|i| i % 3 != 0).collect();
    assert_eq!(AwsLc.verify_batch(&checks), expected);
    assert!(AwsLc.verify_batch(&[]).is_empty());
}

#[test]
fn what_is_encrypted_to_a_key_only_that_key_reads() {
    let alice = device();
    let bob = key(include_str!("data/crypto/account.pem"));
    let secret = [7u8; 32];
    let cipher = AwsLc.rsa_encrypt(bob.public_key(), &secret).unwrap();
    assert_eq!(cipher.len(), 512);
    assert_eq!(bob.rsa_decrypt(&cipher).unwrap(), secret);
    assert_ne!(
        alice.rsa_decrypt(&cipher).ok().as_deref(),
        Some(&secret[..])
    );
    assert!(bob.rsa_decrypt(&cipher[1..]).is_err());
    assert!(bob.rsa_decrypt(b"").is_err());
    // The room in an RSA-4096 block is 512 - 11 bytes.
    assert!(AwsLc.rsa_encrypt(bob.public_key(), &[1; 501]).is_ok());
    assert_eq!(
        AwsLc.rsa_encrypt(bob.public_key(), &[1; 502]),
        Err(CryptoError::Failed)
    );
    assert_eq!(
        AwsLc.rsa_encrypt(b"no key", &secret),
        Err(CryptoError::BadKey)
    );
}

#[test]
fn new_keys_are_written_and_read_back() {
    let made = AwsLc.generate_rsa_keys(2048, 2).unwrap();
    assert_ne!(made[0].public_key(), made[1].public_key());
    for key in made {
        let again = AwsLc.read_private_key(&key.to_pkcs8()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(*again.to_pkcs8(), *key.to_pkcs8());
    }
    assert!(AwsLc.generate_rsa(1024).is_err());
    assert_eq!(
        AwsLc.read_private_key(b"nothing").err(),
        Some(CryptoError::BadKey)
    );
}

#[test]
fn p384_signs_and_is_checked() {
    let made = AwsLc.generate_p384().unwrap();
    let key = AwsLc.read_private_key(&made.to_pkcs8()).unwrap();
    assert_eq!(key.public_key(), made.public_key());
    let good = check(key.as_ref(), SignatureAlgorithm::EcdsaP384Sha384, b"hello");
    assert!(AwsLc.verify(&good));
    let mut bent = good;
    bent.message.push(0);
    assert!(!AwsLc.verify(&bent));
    assert!(key.sign(SignatureAlgorithm::RsaPkcs1Sha512, b"x").is_err());
    assert!(key.rsa_decrypt(b"x").is_err());
}

#[test]
fn randomness_is_not_constant() {
    let (mut a, mut b) = ([0; 32], [0; 32]);
    AwsLc.random(&mut a);
    AwsLc.random(&mut b);
    assert_ne!(a, b);
}

#[test]
fn an_account_is_made_with_keys_of_full_length() {
    let keys = AwsLc.generate_account_keys().unwrap();
    let now = 1_800_000_000;
    let (archive, identity) = create_account(&AwsLc, now, keys).unwrap();
    assert_eq!(identity.chain.verify(&AwsLc, now, &[]), Ok(()));
    assert!(identity.chain.iter().all(|c| c.rsa_bits() == Some(4096)));
    assert_eq!(archive.certificates[0], identity.chain.account);
}

#[test]
#[ignore = "a measurement: cargo test --release -p starling --test crypto -- --ignored --nocapture"]
fn how_fast() {
    let key = device();
    let checks: Vec<_> = (0..4000u32)
        .map(|i| SignatureCheck {
            key: key.public_key().into(),
            algorithm: SignatureAlgorithm::RsaPkcs1Sha512,
            message: i.to_be_bytes().to_vec(),
            signature: vec![1; 512],
        })
        .collect();
    let began = std::time::Instant::now();
    for c in &checks {
        AwsLc.verify(c);
    }
    println!("one by one: {:?} each", began.elapsed() / 4000);
    let began = std::time::Instant::now();
    AwsLc.verify_batch(&checks);
    println!("in a batch: {:?} each", began.elapsed() / 4000);
    let began = std::time::Instant::now();
    for _ in 0..100 {
        key.sign(SignatureAlgorithm::RsaPkcs1Sha512, b"x").unwrap();
    }
    println!("signing: {:?} each", began.elapsed() / 100);
    let began = std::time::Instant::now();
    for _ in 0..5 {
        AwsLc.generate_account_keys().unwrap();
    }
    println!("keys of an account: {:?}", began.elapsed() / 5);
}
