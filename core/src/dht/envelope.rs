//! Signing and encrypting values, certificate values, and the keys Jami puts things at.

use super::types::{CERTIFICATE, clear_signature_check, signature_check};
use super::value::{Clear, Content, Signed, Value, ValueError};
use crate::crypto::{Crypto, CryptoError, GCM_NONCE, GCM_TAG, PrivateKey, SignatureAlgorithm};
use crate::id::{AccountId, DeviceId, DeviceShortId, InfoHash};
use crate::msgpack;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Why a value cannot be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Encrypted values cannot be signed or encrypted again.
    #[error("the value is encrypted already")]
    AlreadyEncrypted,
    /// Only signed values are encrypted.
    #[error("the value is not signed")]
    NotSigned,
    /// Only encrypted values are decrypted.
    #[error("the value is not encrypted")]
    NotEncrypted,
    /// The key operation failed, or the value is not for this key.
    #[error("{0}")]
    Crypto(#[from] CryptoError),
    /// What was decrypted is no value.
    #[error("decrypted {0}")]
    Value(#[from] ValueError),
    /// The value names another recipient, or none.
    #[error("the decrypted value is for another recipient")]
    Recipient,
    /// The signature does not verify.
    #[error("the signature is wrong")]
    Signature,
}

/// Signs a value, for one recipient or for all.
pub fn sign(
    key: &dyn PrivateKey,
    value: &Value,
    seq: u16,
    recipient: Option<InfoHash>,
) -> Result<Value, EnvelopeError> {
    let Content::Clear(clear) = &value.content else {
        return Err(EnvelopeError::AlreadyEncrypted);
    };
    let mut clear = clear.clone();
    clear.signed = Some(Signed {
        seq,
        owner: Arc::from(key.public_key()),
        recipient,
        signature: Vec::new(),
    });
    let signature = key.sign(SignatureAlgorithm::RsaPkcs1Sha512, &clear.to_sign())?;
    if let Some(s) = &mut clear.signed {
        s.signature = signature;
    }
    Ok(Value {
        content: Content::Clear(clear),
        ..value.clone()
    })
}

/// Signs a value and encrypts it to the holder of a DER SubjectPublicKeyInfo.
pub fn sign_and_encrypt(
    crypto: &dyn Crypto,
    key: &dyn PrivateKey,
    recipient_spki: &[u8],
    value: &Value,
) -> Result<Value, EnvelopeError> {
    let seq = value.seq();
    let signed = sign(key, value, seq, Some(InfoHash::of(recipient_spki)))?;
    encrypt(crypto, recipient_spki, &signed)
}

/// Encrypts a signed value to the recipient whose short key id it names.
pub fn encrypt(
    crypto: &dyn Crypto,
    recipient_spki: &[u8],
    value: &Value,
) -> Result<Value, EnvelopeError> {
    let Content::Clear(clear) = &value.content else {
        return Err(EnvelopeError::AlreadyEncrypted);
    };
    let signed = clear.signed.as_ref().ok_or(EnvelopeError::NotSigned)?;
    if signed.recipient != Some(InfoHash::of(recipient_spki)) {
        return Err(EnvelopeError::Recipient);
    }
    Ok(Value {
        content: Content::Encrypted(encrypt_bytes(crypto, recipient_spki, &clear.to_encrypt())?),
        ..value.clone()
    })
}

/// Decrypts a value and checks recipient and signature. The result carries the outer id.
/// What exactly failed must not be shown to the network.
pub fn decrypt(
    crypto: &dyn Crypto,
    key: &dyn PrivateKey,
    value: &Value,
) -> Result<Value, EnvelopeError> {
    let Content::Encrypted(cipher) = &value.content else {
        return Err(EnvelopeError::NotEncrypted);
    };
    let plain = decrypt_bytes(crypto, key, cipher)?;
    let clear = Clear::unpack(&plain)?;
    let recipient = clear.signed.as_ref().and_then(|s| s.recipient);
    if recipient != Some(InfoHash::of(key.public_key())) {
        return Err(EnvelopeError::Recipient);
    }
    match clear_signature_check(&clear) {
        Some(check) if crypto.verify(&check) => Ok(Value {
            id: value.id,
            content: Content::Clear(clear),
            priority: 0,
            push_type: String::new(),
        }),
        _ => Err(EnvelopeError::Signature),
    }
}

/// What an application may see of a received value: encrypted ones decrypted (with the key, if
/// there is one), signed ones verified, unsigned clear ones as they are.
pub fn open(
    crypto: &dyn Crypto,
    key: Option<&dyn PrivateKey>,
    value: &Value,
) -> Result<Value, EnvelopeError> {
    if value.is_encrypted() {
        return decrypt(crypto, key.ok_or(CryptoError::Decrypt)?, value);
    }
    match signature_check(value) {
        Some(check) if !crypto.verify(&check) => Err(EnvelopeError::Signature),
        _ => Ok(value.clone()),
    }
}

/// Encrypts bytes to an RSA key as OpenDHT's `PublicKey::encrypt`: one block if they fit,
/// else an AES-256 key in a block, nonce, ciphertext and tag.
pub fn encrypt_bytes(
    crypto: &dyn Crypto,
    recipient_spki: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let k = rsa_len(recipient_spki).ok_or(CryptoError::BadKey)?;
    if plain.len() <= k.saturating_sub(11) {
        return crypto.rsa_encrypt(recipient_spki, plain);
    }
    let mut key = Zeroizing::new([0; 32]);
    let mut nonce = [0; GCM_NONCE];
    crypto.random(&mut *key);
    crypto.random(&mut nonce);
    let mut out = crypto.rsa_encrypt(recipient_spki, &*key)?;
    let sealed = crypto.aes_gcm_seal(&*key, &nonce, plain)?;
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// Decrypts what [`encrypt_bytes`] makes.
pub fn decrypt_bytes(
    crypto: &dyn Crypto,
    key: &dyn PrivateKey,
    cipher: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let k = rsa_len(key.public_key()).ok_or(CryptoError::BadKey)?;
    let block = cipher.get(..k).ok_or(CryptoError::Decrypt)?;
    let rest = cipher.get(k..).ok_or(CryptoError::Decrypt)?;
    if rest.is_empty() {
        return key.rsa_decrypt(block);
    }
    let (nonce, sealed) = rest
        .split_first_chunk::<GCM_NONCE>()
        .ok_or(CryptoError::Decrypt)?;
    if sealed.len() <= GCM_TAG {
        return Err(CryptoError::Decrypt);
    }
    let aes_key = Zeroizing::new(key.rsa_decrypt(block)?);
    // A key of another length is as little ours as a wrong one.
    crypto
        .aes_gcm_open(&aes_key, nonce, sealed)
        .map_err(|_| CryptoError::Decrypt)
}

/// Bytes of the modulus of an RSA key.
pub fn rsa_len(spki_der: &[u8]) -> Option<usize> {
    use spki::der::asn1::UintRef;
    use spki::der::{Decode as _, Reader as _, SliceReader};
    let spki = spki::SubjectPublicKeyInfoRef::from_der(spki_der).ok()?;
    if spki.algorithm.oid != const_oid::db::rfc5912::RSA_ENCRYPTION {
        return None;
    }
    let bits = spki.subject_public_key.as_bytes()?;
    let mut reader = SliceReader::new(bits).ok()?;
    let modulus: usize = reader
        .sequence(|r| {
            let n = UintRef::decode(r)?;
            let _e = UintRef::decode(r)?;
            Ok::<usize, spki::der::Error>(n.as_bytes().len())
        })
        .ok()?;
    Some(modulus)
}

/// The value that announces a certificate chain (PEM, subject first): type 8, id 1.
pub fn certificate_value(chain_pem: &str) -> Value {
    // The payload is itself a msgpack bin of the text.
    let data = msgpack::encode(&msgpack::Value::Binary(chain_pem.as_bytes().to_vec()));
    Value::new(CERTIFICATE, data).with_id(1)
}

/// The certificates of a value of type 8, DER, subject first: PEM wrapped in whatever bytes
/// precede it, or one plain DER.
pub fn certificates(value: &Value) -> Vec<Vec<u8>> {
    let data = value.data();
    let mark = b"-----BEGIN";
    let Some(start) = data.windows(mark.len()).position(|w| w == mark) else {
        return if data.first() == Some(&0x30) {
            vec![data.to_vec()]
        } else {
            Vec::new()
        };
    };
    let text = String::from_utf8_lossy(data.get(start..).unwrap_or_default());
    let mut out = Vec::new();
    for block in text.split_inclusive("-----END CERTIFICATE-----") {
        let Some(begin) = block.find("-----BEGIN CERTIFICATE-----") else {
            break;
        };
        let Some(pem) = block.get(begin..) else { break };
        match pem_rfc7468::decode_vec(pem.as_bytes()) {
            Ok((_, der)) => out.push(der),
            Err(_) => break,
        }
    }
    out
}

/// DER SubjectPublicKeyInfo of the subject of a value of type 8.
pub fn certificate_key(value: &Value) -> Option<Vec<u8>> {
    spki_of_certificate(certificates(value).first()?)
}

/// DER SubjectPublicKeyInfo inside a DER certificate, leniently: only the outline is read.
/// Jami's serial numbers and extensions fail strict parsers.
pub fn spki_of_certificate(der: &[u8]) -> Option<Vec<u8>> {
    use spki::der::{AnyRef, Decode as _, Encode as _, SliceReader, Tag, TagNumber};
    let cert = AnyRef::from_der(der).ok()?;
    let mut r = SliceReader::new(cert.value()).ok()?;
    let tbs = AnyRef::decode(&mut r).ok()?;
    let mut r = SliceReader::new(tbs.value()).ok()?;
    let mut item = AnyRef::decode(&mut r).ok()?;
    // [0] version, absent in version 1.
    if item.header().tag()
        == (Tag::ContextSpecific {
            constructed: true,
            number: TagNumber(0),
        })
    {
        item = AnyRef::decode(&mut r).ok()?;
    }
    // item is the serial; then signature, issuer, validity, subject, key.
    let _ = item;
    for _ in 0..4 {
        AnyRef::decode(&mut r).ok()?;
    }
    let key = AnyRef::decode(&mut r).ok()?.to_der().ok()?;
    spki::SubjectPublicKeyInfoRef::from_der(&key).ok()?;
    Some(key)
}

/// Where Jami puts and looks for things.
pub mod keys {
    use super::{AccountId, DeviceId, DeviceShortId, InfoHash};

    /// The node id of a node with a certificate.
    pub fn node_id(device: &DeviceShortId) -> InfoHash {
        InfoHash::of(format!("node:{device}").as_bytes())
    }

    /// Announcements of an account's devices.
    pub fn announcements(account: &AccountId) -> InfoHash {
        InfoHash(account.0)
    }

    /// A device's certificate, as nodes before 2025 announce it.
    pub fn certificate_short(device: &DeviceShortId) -> InfoHash {
        InfoHash(device.0)
    }

    /// A device's certificate, as nodes since 2023 know it.
    pub fn certificate_long(device: &DeviceId) -> InfoHash {
        InfoHash::of(&device.0)
    }

    /// Connection requests to a device, of daemons before 2026.
    pub fn peer_short(device: &DeviceShortId) -> InfoHash {
        InfoHash::of(format!("peer:{device}").as_bytes())
    }

    /// Connection requests to a device.
    pub fn peer_long(device: &DeviceId) -> InfoHash {
        InfoHash::of(format!("peer:{device}").as_bytes())
    }

    /// Contact requests to a device.
    pub fn inbox(device: &DeviceShortId) -> InfoHash {
        InfoHash::of(format!("inbox:{device}").as_bytes())
    }
}
