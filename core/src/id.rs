//! Identifiers: fixed-size hashes with their text form, never bare strings.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha1::Digest as _;

/// A text that is no identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits for {kind}, got {got:?}")]
pub struct BadId {
    /// What kind of identifier was expected.
    pub kind: &'static str,
    /// How many hexadecimal digits it has.
    pub expected: usize,
    /// What came instead, cut to 80 characters.
    pub got: String,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $len:expr, $kind:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;
            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; $len] { &self.0 }
            /// From exactly the right number of bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> { bytes.try_into().ok().map(Self) }
            /// Lower-case hexadecimal text.
            pub fn to_hex(&self) -> String { hex::encode(self.0) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.to_hex()) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.to_hex())
            }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(s: &str) -> Result<Self, BadId> {
                let bad = || BadId { kind: $kind, expected: $len * 2, got: s.chars().take(80).collect() };
                if s.len() != $len * 2 || s.bytes().any(|b| b.is_ascii_uppercase()) { return Err(bad()); }
                let mut out = [0; $len];
                hex::decode_to_slice(s, &mut out).map_err(|_| bad())?;
                Ok(Self(out))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> { s.serialize_str(&self.to_hex()) }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type!(
    /// A key or a node id in the DHT: 160 bits, XOR metric.
    InfoHash, 20, "a DHT key"
);
id_type!(
    /// The Jami ID of an account: SHA-1 of the account key's DER SubjectPublicKeyInfo.
    AccountId, 20, "a Jami ID"
);
id_type!(
    /// The short id of a device: SHA-1 of its key's DER SubjectPublicKeyInfo.
    DeviceShortId, 20, "a short device id"
);
id_type!(
    /// The long id of a device (`PkId`, "device id"): SHA-256 of its key's DER SubjectPublicKeyInfo.
    DeviceId, 32, "a device id"
);
id_type!(
    /// A conversation: the id of the one root commit of its repository.
    ConversationId, 20, "a conversation id"
);
id_type!(
    /// A git object of format SHA-1. A commit's id is the message's id.
    ObjectId, 20, "a git object id"
);

impl InfoHash {
    /// SHA-1 of some bytes, as OpenDHT's `InfoHash::get`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha1::Sha1::digest(bytes).into())
    }

    /// The XOR distance to another key.
    pub fn xor(&self, other: &Self) -> [u8; 20] {
        let mut out = [0; 20];
        for (o, (a, b)) in out.iter_mut().zip(self.0.iter().zip(other.0.iter())) {
            *o = a ^ b;
        }
        out
    }
}

impl AccountId {
    /// The id of an account key, from its DER SubjectPublicKeyInfo.
    pub fn of_key(spki_der: &[u8]) -> Self {
        Self(sha1::Sha1::digest(spki_der).into())
    }

    /// The DHT key under which the account's devices announce themselves: the id itself.
    pub fn dht_key(&self) -> InfoHash {
        InfoHash(self.0)
    }

    /// Reads an address as people write it: `jami:`, `ring:` and slashes are dropped.
    pub fn from_address(text: &str) -> Result<Self, BadId> {
        let t = text.trim();
        let t = t
            .strip_prefix("jami:")
            .or_else(|| t.strip_prefix("ring:"))
            .unwrap_or(t);
        t.trim_start_matches('/').to_ascii_lowercase().parse()
    }
}

impl DeviceShortId {
    /// The short id of a device key, from its DER SubjectPublicKeyInfo.
    pub fn of_key(spki_der: &[u8]) -> Self {
        Self(sha1::Sha1::digest(spki_der).into())
    }
}

impl DeviceId {
    /// The long id of a device key, from its DER SubjectPublicKeyInfo.
    pub fn of_key(spki_der: &[u8]) -> Self {
        Self(sha2::Sha256::digest(spki_der).into())
    }
}

impl From<ConversationId> for ObjectId {
    fn from(c: ConversationId) -> Self {
        Self(c.0)
    }
}

impl From<ObjectId> for ConversationId {
    fn from(o: ObjectId) -> Self {
        Self(o.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_refuses_other_lengths_and_cases() {
        let id = InfoHash::of(b"bob");
        assert_eq!(id.to_hex().parse::<InfoHash>(), Ok(id));
        assert!(id.to_hex().to_uppercase().parse::<InfoHash>().is_err());
        assert!("00".parse::<InfoHash>().is_err());
        assert!("é".repeat(20).parse::<InfoHash>().is_err());
    }

    #[test]
    fn an_address_may_carry_a_scheme() {
        let id = AccountId([7; 20]);
        for text in [
            format!("jami:{id}"),
            format!("ring://{id}"),
            format!("  {} ", id.to_hex().to_uppercase()),
        ] {
            assert_eq!(AccountId::from_address(&text), Ok(id));
        }
    }
}
