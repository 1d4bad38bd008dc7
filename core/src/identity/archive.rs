//! The archive: everything that makes an account, in one file that survives all devices.
//!
//! Without password it is gzip of JSON. With password it is
//! `salt(16) ‖ nonce(12) ‖ AES-256-GCM(zlib of JSON) ‖ tag(16)`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::certificate::{Certificate, CertificateError};
use super::chain::MAX_CHAIN_CERTIFICATES;
use super::eth::EthKey;
use super::keys::KEY_LABEL;
use super::pem;
use super::revocation::{RevocationError, RevocationList};
use crate::account::{Contact, ConvInfo, ConversationRequest};
use crate::crypto::{Crypto, CryptoError, GCM_NONCE, GCM_TAG, PrivateKey};
use crate::id::{AccountId, ConversationId};

/// Largest archive that is read, in bytes, packed as well as unpacked. Our own limit
/// against files made to fill memory: thousands of contacts fit many times.
pub const MAX_ARCHIVE_LEN: usize = 16 * 1024 * 1024;

/// Argon2i: passes, as in the reference.
const ARGON2_PASSES: u32 = 16;
/// Argon2i: memory in KiB, as in the reference.
const ARGON2_MEMORY: u32 = 64 * 1024;
/// Bytes of salt before an encrypted archive.
const SALT_LEN: usize = 16;

/// Most gzip layers around an archive: its own and one that a web server added.
const MAX_LAYERS: usize = 2;

/// Settings that belong to a device or a moment: neither written nor read.
const NOT_IN_ARCHIVES: [&str; 13] = [
    "Account.archivePath",
    "Account.autoAnswer",
    "Account.deviceID",
    "Account.deviceName",
    "Account.dhtProxyListUrl",
    "Account.proxyEnabled",
    "Account.proxyPushToken",
    "Account.proxyServer",
    "Account.ringtonePath",
    "DHT.port",
    "TLS.certificateFile",
    "TLS.certificateListFile",
    "TLS.privateKeyFile",
];

/// The setting that says whether there is a password.
const HAS_PASSWORD: &str = "Account.archiveHasPassword";

/// Why an archive cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Larger than any archive, packed or unpacked.
    #[error("the archive is larger than {MAX_ARCHIVE_LEN} bytes")]
    TooLarge,
    /// It ends too early.
    #[error("the archive is cut off")]
    Truncated,
    /// It is encrypted, or something else altogether.
    #[error("the archive needs a password, or is no archive")]
    NeedsPassword,
    /// It cannot be decrypted: wrong password, or altered.
    #[error("the password is wrong, or the archive is damaged")]
    WrongPassword,
    /// It could be decrypted, and is damaged inside.
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
    /// The account key, which nothing can replace, is missing.
    #[error("the archive has no account key")]
    NoAccountKey,
    /// The certificates in it cannot be read.
    #[error("in the archive: {0}")]
    Certificate(#[from] CertificateError),
    /// The revocation list in it cannot be read.
    #[error("in the archive: {0}")]
    RevocationList(#[from] RevocationError),
    /// A key in it cannot be used, or none can be made.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// A stored key opens only what it was made for: an archive that was encrypted before.
    #[error("an archive without salt cannot be written with a stored key")]
    NoSalt,
}

/// What opens an archive.
#[derive(Clone)]
pub enum Credential {
    /// Nothing: it is not encrypted.
    None,
    /// The password. An empty one is as good as none.
    Password(Zeroizing<String>),
    /// The stretched password, as kept by a device that unlocks by other means (scheme `key`).
    Key(Zeroizing<[u8; 32]>),
}

impl Credential {
    /// A password; none when it is empty.
    pub fn password(text: &str) -> Self {
        if text.is_empty() {
            Self::None
        } else {
            Self::Password(Zeroizing::new(text.to_owned()))
        }
    }

    fn is_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::Password(text) => text.is_empty(),
            Self::Key(_) => false,
        }
    }

    fn key(&self, salt: &[u8; SALT_LEN]) -> Result<Zeroizing<[u8; 32]>, ArchiveError> {
        match self {
            Self::None => stretch(b"", salt),
            Self::Password(text) => stretch(text.as_bytes(), salt),
            Self::Key(key) => Ok(key.clone()),
        }
    }
}

impl core::fmt::Debug for Credential {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::None => "Credential::None",
            Self::Password(_) => "Credential::Password(..)",
            Self::Key(_) => "Credential::Key(..)",
        })
    }
}

/// Stretches a password: SHA-256 of Argon2i. Takes 64 MiB and about a second.
///
/// # Errors
/// There is not enough memory.
pub fn stretch(password: &[u8], salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, ArchiveError> {
    let params = argon2::Params::new(ARGON2_MEMORY, ARGON2_PASSES, 1, Some(32));
    let params = params.map_err(|_| CryptoError::Failed)?;
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2i, argon2::Version::V0x13, params);
    let mut raw = Zeroizing::new([0; 32]);
    argon2
        .hash_password_into(password, salt, &mut *raw)
        .map_err(|_| CryptoError::Failed)?;
    Ok(Zeroizing::new(Sha256::digest(*raw).into()))
}

/// An account, complete.
#[derive(Clone)]
pub struct Archive {
    /// PKCS#8 of the CA's key; an organisation keeps its own.
    pub ca_key: Option<Zeroizing<Vec<u8>>>,
    /// PKCS#8 of the account's key.
    pub account_key: Zeroizing<Vec<u8>>,
    /// The account's certificate and what stands above it.
    pub certificates: Vec<Certificate>,
    /// The owner of the registered name.
    pub eth_key: Option<EthKey>,
    /// The devices that were taken back.
    pub revocation_list: Option<RevocationList>,
    /// Contacts.
    pub contacts: BTreeMap<AccountId, Contact>,
    /// Conversations.
    pub conversations: BTreeMap<ConversationId, ConvInfo>,
    /// Invitations.
    pub requests: BTreeMap<ConversationId, ConversationRequest>,
    /// Settings, by the reference's names.
    pub details: BTreeMap<String, String>,
    salt: Option<[u8; SALT_LEN]>,
}

impl core::fmt::Debug for Archive {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Archive")
            .field("certificates", &self.certificates)
            .field("contacts", &self.contacts.len())
            .field("conversations", &self.conversations.len())
            .finish_non_exhaustive()
    }
}

impl Archive {
    /// An archive of nothing but keys and certificates.
    pub fn new(
        ca_key: Option<Zeroizing<Vec<u8>>>,
        account_key: Zeroizing<Vec<u8>>,
        certificates: Vec<Certificate>,
        eth_key: Option<EthKey>,
    ) -> Self {
        Self {
            ca_key,
            account_key,
            certificates,
            eth_key,
            revocation_list: None,
            contacts: BTreeMap::new(),
            conversations: BTreeMap::new(),
            requests: BTreeMap::new(),
            details: BTreeMap::new(),
            salt: None,
        }
    }

    /// The account's key, ready to sign.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn read_account_key(
        &self,
        crypto: &dyn Crypto,
    ) -> Result<Box<dyn PrivateKey>, CryptoError> {
        crypto.read_private_key(&self.account_key)
    }

    /// Reads a file. An archive that is not encrypted opens with any password: whoever has a
    /// backup without password should not be held up by a field they filled in.
    ///
    /// # Errors
    /// The reason why it cannot be opened.
    pub fn read(
        file: &[u8],
        credential: &Credential,
        crypto: &dyn Crypto,
    ) -> Result<Self, ArchiveError> {
        if file.len() > MAX_ARCHIVE_LEN {
            return Err(ArchiveError::TooLarge);
        }
        let mut unpacked;
        let mut bytes = file;
        for _ in 0..MAX_LAYERS {
            if !is_gzip(bytes) {
                break;
            }
            match unpack(flate2::read::GzDecoder::new(bytes)) {
                Ok(inner) => {
                    unpacked = inner;
                    bytes = &unpacked;
                }
                // A salt may look like the beginning of gzip, once in 16 million.
                Err(_) if !credential.is_none() => break,
                Err(error) => return Err(error),
            }
        }
        if bytes.first() == Some(&b'{') && bytes.last().is_some_and(|b| b"}\n".contains(b)) {
            return Self::from_json(bytes);
        }
        if bytes.len() < SALT_LEN + GCM_NONCE + GCM_TAG {
            return Err(ArchiveError::Truncated);
        }
        if credential.is_none() {
            return Err(ArchiveError::NeedsPassword);
        }
        let (salt, rest) = bytes
            .split_first_chunk::<SALT_LEN>()
            .ok_or(ArchiveError::Truncated)?;
        let (nonce, cipher) = rest
            .split_first_chunk::<GCM_NONCE>()
            .ok_or(ArchiveError::Truncated)?;
        let key = credential.key(salt)?;
        let packed = crypto
            .aes_gcm_open(&*key, nonce, cipher)
            .map_err(|_| ArchiveError::WrongPassword)?;
        let packed = Zeroizing::new(packed);
        let mut archive = Self::from_json(&unpack(flate2::read::ZlibDecoder::new(&**packed))?)?;
        archive.salt = Some(*salt);
        Ok(archive)
    }

    /// Writes a file. An archive that was encrypted keeps its salt, so that a stored key goes
    /// on opening it.
    ///
    /// # Errors
    /// [`ArchiveError::NoSalt`]; lack of memory.
    pub fn write(
        &self,
        credential: &Credential,
        crypto: &dyn Crypto,
    ) -> Result<Vec<u8>, ArchiveError> {
        let json = self.to_json(!credential.is_none());
        if credential.is_none() {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            return match gzip.write_all(&json).and_then(|()| gzip.finish()) {
                Ok(file) => Ok(file),
                Err(_) => Err(CryptoError::Failed.into()),
            };
        }
        let salt = match (self.salt, credential) {
            (Some(salt), _) => salt,
            (None, Credential::Key(_)) => return Err(ArchiveError::NoSalt),
            (None, _) => {
                let mut salt = [0; SALT_LEN];
                crypto.random(&mut salt);
                salt
            }
        };
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        let packed = match zlib.write_all(&json).and_then(|()| zlib.finish()) {
            Ok(packed) => Zeroizing::new(packed),
            Err(_) => return Err(CryptoError::Failed.into()),
        };
        let mut nonce = [0; GCM_NONCE];
        crypto.random(&mut nonce);
        let cipher = crypto.aes_gcm_seal(&*credential.key(&salt)?, &nonce, &packed)?;
        Ok([&salt[..], &nonce, &cipher].concat())
    }

    /// Writes a file anew under another password: with a new salt, so that keys stored for the
    /// old password are worth nothing. An empty one takes the encryption away.
    ///
    /// # Errors
    /// The old credential does not open it.
    pub fn change_password(
        file: &[u8],
        old: &Credential,
        new: &str,
        crypto: &dyn Crypto,
    ) -> Result<Vec<u8>, ArchiveError> {
        let mut archive = Self::read(file, old, crypto)?;
        archive.salt = None;
        archive.write(&Credential::password(new), crypto)
    }

    /// The stretched password of an encrypted file, to be kept in a safe place and used as
    /// [`Credential::Key`].
    ///
    /// # Errors
    /// The password does not open it.
    pub fn stored_key(
        file: &[u8],
        password: &str,
        crypto: &dyn Crypto,
    ) -> Result<Zeroizing<[u8; 32]>, ArchiveError> {
        let archive = Self::read(file, &Credential::password(password), crypto)?;
        let salt = archive.salt.ok_or(ArchiveError::NoSalt)?;
        Credential::password(password).key(&salt)
    }

    /// Reads the JSON inside.
    ///
    /// # Errors
    /// What is missing or damaged. Records that cannot be understood are left out.
    pub fn from_json(text: &[u8]) -> Result<Self, ArchiveError> {
        if text.len() > MAX_ARCHIVE_LEN {
            return Err(ArchiveError::TooLarge);
        }
        let json: Json = serde_json::from_slice(text).map_err(|_| ArchiveError::Damaged("JSON"))?;
        let Json::Object(members) = json else {
            return Err(ArchiveError::Damaged("JSON"));
        };
        let blob = |name: &'static str| match members.get(name).and_then(Json::as_str) {
            None | Some("") => Ok(None),
            Some(text) => match BASE64_STANDARD.decode(text) {
                Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
                Err(_) => Err(ArchiveError::Damaged(name)),
            },
        };
        let key = |name: &'static str| match blob(name)? {
            None => Ok(None),
            Some(text) => match pem::blocks(&text, KEY_LABEL).next().flatten() {
                Some(der) => Ok(Some(der)),
                None => Err(ArchiveError::Damaged(name)),
            },
        };
        let mut out = Self::new(
            key("ringCaKey")?,
            key("ringAccountKey")?.ok_or(ArchiveError::NoAccountKey)?,
            match blob("ringAccountCert")? {
                Some(text) => Certificate::list_from_pem(&text, MAX_CHAIN_CERTIFICATES)?,
                None => Vec::new(),
            },
            blob("ethKey")?
                .map(|bytes| EthKey::from_bytes(&bytes))
                .transpose()?,
        );
        out.revocation_list = blob("ringAccountCRL")?
            .map(|der| RevocationList::from_der(&der))
            .transpose()?;
        for (name, value) in &members {
            match (name.as_str(), value) {
                ("ringAccountContacts", Json::Object(records)) => {
                    out.contacts = read_records(records, Contact::from_json);
                }
                ("conversations", Json::Object(records)) => {
                    out.conversations = read_records(records, ConvInfo::from_json);
                }
                ("conversationsRequests", Json::Object(records)) => {
                    out.requests = read_records(records, ConversationRequest::from_json);
                }
                (
                    "ringCaKey" | "ringAccountKey" | "ringAccountCert" | "ringAccountCRL"
                    | "ethKey",
                    _,
                ) => {}
                (name, Json::String(text)) if !NOT_IN_ARCHIVES.contains(&name) => {
                    out.details.insert(name.to_owned(), text.clone());
                }
                _ => {}
            }
        }
        out.conversations.retain(|id, info| *id == info.id);
        out.requests
            .retain(|id, request| *id == request.conversation);
        Ok(out)
    }

    /// Writes the JSON inside: compact, keys in order.
    pub fn to_json(&self, has_password: bool) -> Zeroizing<Vec<u8>> {
        let mut members: BTreeMap<&str, Json> = self
            .details
            .iter()
            .filter(|(name, _)| !NOT_IN_ARCHIVES.contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), Json::from(value.as_str())))
            .collect();
        members.insert(HAS_PASSWORD, has_password.to_string().into());
        let base64 = |bytes: &[u8]| Json::from(BASE64_STANDARD.encode(bytes));
        let key = |der: &[u8]| base64(pem::write(KEY_LABEL, der).as_bytes());
        if let Some(ca_key) = &self.ca_key {
            members.insert("ringCaKey", key(ca_key));
        }
        members.insert("ringAccountKey", key(&self.account_key));
        let chain: String = self.certificates.iter().map(Certificate::pem).collect();
        members.insert("ringAccountCert", base64(chain.as_bytes()));
        if let Some(eth) = &self.eth_key {
            members.insert("ethKey", base64(eth.as_bytes()));
        }
        if let Some(crl) = &self.revocation_list {
            members.insert("ringAccountCRL", base64(crl.der()));
        }
        if !self.contacts.is_empty() {
            let records = write_records(&self.contacts, Contact::to_json);
            members.insert("ringAccountContacts", records);
        }
        if !self.conversations.is_empty() {
            let records = write_records(&self.conversations, ConvInfo::to_json);
            members.insert("conversations", records);
        }
        if !self.requests.is_empty() {
            let records = write_records(&self.requests, ConversationRequest::to_json);
            members.insert("conversationsRequests", records);
        }
        // Room enough that keys are not left behind by growing.
        let records = self.contacts.len().saturating_add(self.conversations.len());
        let room = records.saturating_mul(512).saturating_add(64 * 1024);
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        // Texts under text keys: this cannot fail.
        let _ = serde_json::to_writer(&mut *out, &members);
        out
    }
}

fn read_records<K: Ord + core::str::FromStr, V>(
    records: &serde_json::Map<String, Json>,
    read: impl Fn(&Json) -> Option<V>,
) -> BTreeMap<K, V> {
    records
        .iter()
        .filter_map(|(k, v)| Some((k.parse().ok()?, read(v)?)))
        .collect()
}

fn write_records<K: core::fmt::Display, V>(
    records: &BTreeMap<K, V>,
    write: impl Fn(&V) -> Json,
) -> Json {
    Json::Object(
        records
            .iter()
            .map(|(k, v)| (k.to_string(), write(v)))
            .collect(),
    )
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b, 0x08])
}

/// Unpacks at most [`MAX_ARCHIVE_LEN`] bytes, whatever the packed ones would become.
fn unpack(from: impl std::io::Read) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
    let mut out = Zeroizing::new(Vec::new());
    let limit = u64::try_from(MAX_ARCHIVE_LEN).unwrap_or(u64::MAX);
    match from.take(limit.saturating_add(1)).read_to_end(&mut out) {
        Ok(_) if out.len() > MAX_ARCHIVE_LEN => Err(ArchiveError::TooLarge),
        Ok(_) => Ok(out),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err(ArchiveError::Truncated),
        Err(_) => Err(ArchiveError::Damaged("compression")),
    }
}
