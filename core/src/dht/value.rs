//! Values: what the DHT stores. Reading, and writing in the one canonical form.
//!
//! Signatures cover the canonical form, so a value is kept as its fields and
//! packed anew whenever its bytes are needed. Keys that a reader does not know
//! are dropped, as the reference does.

use super::{blob, hash};
use crate::id::InfoHash;
use crate::msgpack;
use std::sync::Arc;

/// Identifies a value below its key. 0 is invalid on the wire.
pub type ValueId = u64;

/// Largest content of an unsigned value, bytes (OpenDHT `MAX_VALUE_SIZE`).
pub const MAX_VALUE_SIZE: usize = 64 * 1024;

/// Largest packed value accepted in one datagram or from fragments, bytes
/// (OpenDHT `MAX_VALUE_SIZE + 32`).
pub const MAX_PACKED_SIZE: usize = MAX_VALUE_SIZE + 32;

/// Why some bytes are no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not msgpack, or too long.
    #[error("value: {0}")]
    Msgpack(#[from] msgpack::MsgpackError),
    /// A member is missing or of the wrong type.
    #[error("value: {0} is missing or of the wrong type")]
    Member(&'static str),
    /// The owner is no public key.
    #[error("value: the owner is no public key")]
    Owner,
}

/// A value of the DHT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The id, 0 while not chosen yet.
    pub id: ValueId,
    /// What it holds.
    pub content: Content,
    /// 0 high (the default), 1 normal: for push notifications only.
    pub priority: u32,
    /// For push notifications, such as `audioCall`; mostly empty.
    pub push_type: String,
}

/// The content: readable, or for one recipient only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Readable by all, signed or not.
    Clear(Clear),
    /// The ciphertext for one recipient, who is not named.
    Encrypted(Vec<u8>),
}

/// A readable content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clear {
    /// Id of the value type (see [`super::types::ValueType`]).
    pub type_id: u16,
    /// The application's bytes.
    pub data: Vec<u8>,
    /// The application's name of what `data` is; mostly empty or a MIME-like text.
    pub user_type: String,
    /// Who signed it.
    pub signed: Option<Signed>,
}

/// What a signature adds to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Counts the versions of the value: the higher wins.
    pub seq: u16,
    /// DER SubjectPublicKeyInfo of the signer.
    pub owner: Arc<[u8]>,
    /// Short key id of the recipient, when the value is meant for one.
    pub recipient: Option<InfoHash>,
    /// The signature over [`Clear::to_sign`].
    pub signature: Vec<u8>,
}

impl Clear {
    /// The packed body: the bytes a signature covers.
    pub fn to_sign(&self) -> Vec<u8> {
        msgpack::encode(&self.body())
    }

    /// The packed `{body, sig}`: the bytes that are encrypted.
    pub fn to_encrypt(&self) -> Vec<u8> {
        msgpack::encode(&self.dat())
    }

    fn body(&self) -> msgpack::Value {
        let mut m = Vec::with_capacity(6);
        if let Some(s) = &self.signed {
            m.push(("seq".into(), s.seq.into()));
            m.push(("owner".into(), msgpack::Value::Binary(s.owner.to_vec())));
            if let Some(to) = &s.recipient {
                m.push(("to".into(), msgpack::Value::Binary(to.0.to_vec())));
            }
        }
        m.push(("type".into(), self.type_id.into()));
        m.push(("data".into(), msgpack::Value::Binary(self.data.clone())));
        if !self.user_type.is_empty() {
            m.push(("utype".into(), self.user_type.as_str().into()));
        }
        msgpack::Value::Map(m)
    }

    fn dat(&self) -> msgpack::Value {
        let mut m = vec![("body".into(), self.body())];
        if let Some(s) = &self.signed {
            m.push(("sig".into(), msgpack::Value::Binary(s.signature.clone())));
        }
        msgpack::Value::Map(m)
    }

    /// Reads the `{body, sig}` of a value, as found in `dat` or in a decrypted plaintext.
    pub fn from_msgpack(dat: &msgpack::Value) -> Result<Self, ValueError> {
        let body = msgpack::get(dat, "body").ok_or(ValueError::Member("body"))?;
        let data = msgpack::get(body, "data")
            .and_then(blob)
            .ok_or(ValueError::Member("data"))?;
        let type_id = uint16(body, "type").ok_or(ValueError::Member("type"))?;
        let user_type = match msgpack::get(body, "utype") {
            None => String::new(),
            Some(t) => text(t).ok_or(ValueError::Member("utype"))?,
        };
        let signed = match msgpack::get(body, "owner") {
            None => None,
            Some(owner) => Some(Signed {
                seq: uint16(body, "seq").ok_or(ValueError::Member("seq"))?,
                owner: public_key(&blob(owner).ok_or(ValueError::Member("owner"))?)?,
                recipient: match msgpack::get(body, "to") {
                    None => None,
                    Some(to) => Some(hash(to).ok_or(ValueError::Member("to"))?),
                },
                signature: msgpack::get(dat, "sig")
                    .and_then(blob)
                    .ok_or(ValueError::Member("sig"))?,
            }),
        };
        Ok(Self {
            type_id,
            data,
            user_type,
            signed,
        })
    }

    /// Reads a decrypted plaintext.
    pub fn unpack(plain: &[u8]) -> Result<Self, ValueError> {
        let (v, _) = msgpack::first(plain, MAX_PACKED_SIZE)?;
        Self::from_msgpack(&v)
    }
}

impl Value {
    /// An unsigned value of a type, without id.
    pub fn new(type_id: u16, data: Vec<u8>) -> Self {
        Self {
            id: 0,
            content: Content::Clear(Clear {
                type_id,
                data,
                user_type: String::new(),
                signed: None,
            }),
            priority: 0,
            push_type: String::new(),
        }
    }

    /// The same with another id.
    #[must_use]
    pub fn with_id(mut self, id: ValueId) -> Self {
        self.id = id;
        self
    }

    /// The same with a user type; no effect on encrypted values.
    #[must_use]
    pub fn with_user_type(mut self, user_type: &str) -> Self {
        if let Content::Clear(c) = &mut self.content {
            c.user_type = user_type.to_owned();
        }
        self
    }

    /// The readable content, if there is one.
    pub fn clear(&self) -> Option<&Clear> {
        match &self.content {
            Content::Clear(c) => Some(c),
            Content::Encrypted(_) => None,
        }
    }

    /// The signature, of a clear and signed value.
    pub fn signed(&self) -> Option<&Signed> {
        self.clear().and_then(|c| c.signed.as_ref())
    }

    /// Whether only a recipient can read it.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.content, Content::Encrypted(_))
    }

    /// The type as the network sees it: encrypted values are type 0.
    pub fn type_id(&self) -> u16 {
        self.clear().map_or(0, |c| c.type_id)
    }

    /// The application's bytes; empty for encrypted values.
    pub fn data(&self) -> &[u8] {
        self.clear().map_or(&[], |c| &c.data)
    }

    /// The user type; empty for encrypted values.
    pub fn user_type(&self) -> &str {
        self.clear().map_or("", |c| &c.user_type)
    }

    /// The version, 0 unless signed.
    pub fn seq(&self) -> u16 {
        self.signed().map_or(0, |s| s.seq)
    }

    /// DER SubjectPublicKeyInfo of the signer.
    pub fn owner(&self) -> Option<&Arc<[u8]>> {
        self.signed().map(|s| &s.owner)
    }

    /// Short key id of the signer.
    pub fn owner_id(&self) -> Option<InfoHash> {
        self.owner().map(|o| InfoHash::of(o))
    }

    /// Bytes that count against limits and quotas (OpenDHT `Value::size`).
    pub fn accounted_size(&self) -> usize {
        self.push_type.len().saturating_add(match &self.content {
            Content::Encrypted(c) => c.len(),
            Content::Clear(c) => c
                .data
                .len()
                .saturating_add(c.user_type.len())
                .saturating_add(c.signed.as_ref().map_or(0, |s| s.signature.len())),
        })
    }

    /// OpenDHT's equality: same id, and same ciphertext or same owner, type, data,
    /// user type and signature. Priority and push type do not count.
    pub fn same_as(&self, other: &Self) -> bool {
        self.id == other.id
            && match (&self.content, &other.content) {
                (Content::Encrypted(a), Content::Encrypted(b)) => a == b,
                (Content::Clear(a), Content::Clear(b)) => {
                    a.type_id == b.type_id
                        && a.data == b.data
                        && a.user_type == b.user_type
                        && match (&a.signed, &b.signed) {
                            (None, None) => true,
                            (Some(x), Some(y)) => x.owner == y.owner && x.signature == y.signature,
                            _ => false,
                        }
                }
                _ => false,
            }
    }

    /// The canonical msgpack object.
    pub fn to_msgpack(&self) -> msgpack::Value {
        let dat = match &self.content {
            Content::Clear(c) => c.dat(),
            Content::Encrypted(c) => msgpack::Value::Binary(c.clone()),
        };
        let mut m = vec![("id".into(), self.id.into()), ("dat".into(), dat)];
        if self.priority != 0 {
            m.push(("p".into(), self.priority.into()));
        }
        if !self.push_type.is_empty() {
            m.push(("pt".into(), self.push_type.as_str().into()));
        }
        msgpack::Value::Map(m)
    }

    /// The canonical bytes.
    pub fn pack(&self) -> Vec<u8> {
        msgpack::encode(&self.to_msgpack())
    }

    /// Length of [`Value::pack`].
    pub fn packed_size(&self) -> usize {
        self.pack().len()
    }

    /// Reads a value out of a decoded object. Unknown keys are dropped.
    pub fn unpack(value: &msgpack::Value) -> Result<Self, ValueError> {
        let id = msgpack::get(value, "id")
            .and_then(msgpack::Value::as_u64)
            .ok_or(ValueError::Member("id"))?;
        let content = match msgpack::get(value, "dat").ok_or(ValueError::Member("dat"))? {
            dat @ msgpack::Value::Map(_) => Content::Clear(Clear::from_msgpack(dat)?),
            other => Content::Encrypted(blob(other).ok_or(ValueError::Member("dat"))?),
        };
        let priority = match msgpack::get(value, "p") {
            None => 0,
            Some(p) => p
                .as_u64()
                .and_then(|p| u32::try_from(p).ok())
                .ok_or(ValueError::Member("p"))?,
        };
        let push_type = match msgpack::get(value, "pt") {
            None => String::new(),
            Some(t) => text(t).ok_or(ValueError::Member("pt"))?,
        };
        Ok(Self {
            id,
            content,
            priority,
            push_type,
        })
    }

    /// Reads a packed value of at most [`MAX_PACKED_SIZE`] bytes. What follows it is ignored.
    pub fn unpack_bytes(bytes: &[u8]) -> Result<Self, ValueError> {
        let (v, _) = msgpack::first(bytes, MAX_PACKED_SIZE)?;
        Self::unpack(&v)
    }
}

fn uint16(map: &msgpack::Value, key: &str) -> Option<u16> {
    msgpack::get(map, key)?
        .as_u64()
        .and_then(|n| u16::try_from(n).ok())
}

/// A text must be UTF-8 here: we could not write anything else as a str again.
fn text(value: &msgpack::Value) -> Option<String> {
    std::str::from_utf8(msgpack::bytes(value)?)
        .ok()
        .map(str::to_owned)
}

/// The DER of a public key given in DER or PEM.
fn public_key(bytes: &[u8]) -> Result<Arc<[u8]>, ValueError> {
    use spki::der::{Decode as _, Encode as _};
    let pem_der;
    let der = if bytes.starts_with(b"-----BEGIN") {
        // OpenDHT exports keys with a closing NUL in some versions.
        let end = bytes
            .iter()
            .rposition(|b| *b != 0)
            .map_or(0, |i| i.saturating_add(1));
        let (label, d) = pem_rfc7468::decode_vec(bytes.get(..end).unwrap_or_default())
            .map_err(|_| ValueError::Owner)?;
        if label != "PUBLIC KEY" {
            return Err(ValueError::Owner);
        }
        pem_der = d;
        pem_der.as_slice()
    } else {
        bytes
    };
    let key = spki::SubjectPublicKeyInfoRef::from_der(der).map_err(|_| ValueError::Owner)?;
    key.to_der().map(Arc::from).map_err(|_| ValueError::Owner)
}
