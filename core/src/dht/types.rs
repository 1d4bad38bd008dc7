//! Value types: how long a value lives and what a storing node checks.

use super::envelope;
use super::value::{Clear, MAX_VALUE_SIZE, Value};
use crate::crypto::{Crypto, SignatureAlgorithm, SignatureCheck};
use crate::id::{DeviceId, InfoHash};
use crate::msgpack;
use core::time::Duration;
use std::net::IpAddr;

/// User data: free bytes.
pub const USER_DATA: u16 = 0;
/// A message for a service: array of a str and a bin.
pub const DHT_MESSAGE: u16 = 1;
/// Where a service is: a C `sockaddr`, of which the storing node replaces the address.
pub const SERVICE_ANNOUNCEMENT: u16 = 2;
/// An instant message.
pub const IM_MESSAGE: u16 = 3;
/// A contact request.
pub const TRUST_REQUEST: u16 = 4;
/// A connection request (historic name).
pub const ICE_CANDIDATES: u16 = 5;
/// A certificate chain.
pub const CERTIFICATE: u16 = 8;
/// A user profile (registered by Jami).
pub const USER_PROFILE: u16 = 9;

/// What a storing node checks of an unsigned value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreRule {
    /// Only the size.
    Size,
    /// The size, and a service name in the message.
    Message,
    /// The port; the sender's address is filled in.
    Service,
    /// The key must be one of the certificate's.
    Certificate,
}

/// A value type as storing nodes know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueType {
    /// The id in values.
    pub id: u16,
    /// How long a value lives after creation or refresh.
    pub lifetime: Duration,
    /// What is checked of an unsigned value.
    pub rule: StoreRule,
    /// Whether signed values of the type are verified when stored, and can be edited by their signer.
    pub secured: bool,
}

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(60))
}

const WEEK: Duration = minutes(7 * 24 * 60);

impl ValueType {
    /// The type of an id. Unknown ids behave as unsecured user data.
    pub const fn of(id: u16) -> Self {
        let (lifetime, rule, secured) = match id {
            USER_DATA => (minutes(10), StoreRule::Size, true),
            DHT_MESSAGE => (minutes(5), StoreRule::Message, true),
            SERVICE_ANNOUNCEMENT => (minutes(15), StoreRule::Service, false),
            IM_MESSAGE => (minutes(5), StoreRule::Size, true),
            TRUST_REQUEST => (WEEK, StoreRule::Size, true),
            ICE_CANDIDATES => (minutes(1), StoreRule::Size, true),
            CERTIFICATE => (WEEK, StoreRule::Certificate, false),
            USER_PROFILE => (WEEK, StoreRule::Size, true),
            _ => (minutes(10), StoreRule::Size, false),
        };
        Self {
            id,
            lifetime,
            rule,
            secured,
        }
    }
}

/// Why a storing node drops a value (it acknowledges it all the same).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More than 64 KiB.
    #[error("the value is too large")]
    TooLarge,
    /// The signature is wrong or by a kind of key that is not supported.
    #[error("the signature is wrong")]
    Signature,
    /// The content is not what the type asks for.
    #[error("the content does not fit the type")]
    Content,
    /// A certificate at a key that is not its own.
    #[error("the certificate belongs to another key")]
    WrongKey,
    /// The value may not be changed, or not by this signer, or not to this version.
    #[error("the value may not be changed so")]
    Edit,
}

/// Decides about a value under a new (key, id). What is returned is to be stored:
/// service announcements come back with the sender's address filled in.
pub fn may_store(
    crypto: &dyn Crypto,
    key: &InfoHash,
    value: &Value,
    from: Option<IpAddr>,
) -> Result<Option<Value>, Refused> {
    let kind = ValueType::of(value.type_id());
    if kind.secured && value.signed().is_some() {
        return verify(crypto, value).map(|()| None);
    }
    if value.accounted_size() > MAX_VALUE_SIZE {
        return Err(Refused::TooLarge);
    }
    match kind.rule {
        StoreRule::Size => Ok(None),
        StoreRule::Message => {
            // Only a message that can be read and names no service is refused.
            let Ok(m) = msgpack::decode(value.data(), MAX_VALUE_SIZE) else {
                return Ok(None);
            };
            match m
                .as_array()
                .and_then(|a| a.first())
                .and_then(|s| s.as_str())
            {
                Some("") => Err(Refused::Content),
                _ => Ok(None),
            }
        }
        StoreRule::Service => service(value, from),
        StoreRule::Certificate => {
            let spki = envelope::certificate_key(value).ok_or(Refused::Content)?;
            let long = DeviceId::of_key(&spki);
            if *key == InfoHash::of(&spki) || *key == InfoHash::of(&long.0) {
                Ok(None)
            } else {
                Err(Refused::WrongKey)
            }
        }
    }
}

/// Decides about a value with the id of one that is stored and differs. Equal values are
/// a refresh and need no decision ([`Value::same_as`]).
pub fn may_edit(crypto: &dyn Crypto, old: &Value, new: &Value) -> Result<(), Refused> {
    let kind = ValueType::of(old.type_id());
    if matches!(kind.rule, StoreRule::Certificate) {
        let keys = (
            envelope::certificate_key(old),
            envelope::certificate_key(new),
        );
        return match keys {
            (Some(a), Some(b)) if new.type_id() == CERTIFICATE && a == b => {
                if new.accounted_size() > MAX_VALUE_SIZE {
                    return Err(Refused::TooLarge);
                }
                Ok(())
            }
            _ => Err(Refused::Edit),
        };
    }
    // An ownerless edit of a signed value ends the reference; here it is refused.
    let (Some(was), Some(is)) = (old.signed(), new.signed()) else {
        return Err(Refused::Edit);
    };
    if !kind.secured || was.owner != is.owner || is.seq < was.seq {
        return Err(Refused::Edit);
    }
    if is.seq == was.seq && old.clear().map(Clear::to_sign) != new.clear().map(Clear::to_sign) {
        return Err(Refused::Edit);
    }
    verify(crypto, new)
}

/// Checks the signature of a clear value; an unsigned one passes.
pub fn verify(crypto: &dyn Crypto, value: &Value) -> Result<(), Refused> {
    match signature_check(value) {
        Some(check) if !crypto.verify(&check) => Err(Refused::Signature),
        _ => Ok(()),
    }
}

/// The check of a clear value's signature, if it has one.
pub fn signature_check(value: &Value) -> Option<SignatureCheck> {
    clear_signature_check(value.clear()?)
}

/// The check of a content's signature, if it has one.
pub fn clear_signature_check(clear: &Clear) -> Option<SignatureCheck> {
    let signed = clear.signed.as_ref()?;
    Some(SignatureCheck {
        key: signed.owner.clone(),
        algorithm: SignatureAlgorithm::RsaPkcs1Sha512,
        message: clear.to_sign(),
        signature: signed.signature.clone(),
    })
}

/// Reads the C `sockaddr` of a service announcement in Linux's layout and writes it anew with
/// the sender's address.
fn service(value: &Value, from: Option<IpAddr>) -> Result<Option<Value>, Refused> {
    let decoded = msgpack::decode(value.data(), 64).map_err(|_| Refused::Content)?;
    let port = match &decoded {
        msgpack::Value::Binary(b) => b
            .get(2..4)
            .and_then(|p| <[u8; 2]>::try_from(p).ok())
            .map(u16::from_be_bytes),
        _ => None,
    };
    let port = port.filter(|p| *p != 0).ok_or(Refused::Content)?;
    let Some(ip) = from else { return Ok(None) };
    let mut out = value.clone();
    if let super::value::Content::Clear(c) = &mut out.content {
        let addr = std::net::SocketAddr::new(ip, port);
        c.data = msgpack::encode(&msgpack::Value::Binary(super::state::sockaddr(&addr)));
    }
    Ok(Some(out))
}
