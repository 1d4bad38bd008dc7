//! STUN as ICE over TCP needs it (RFC 5389, attributes of RFC 8445): Binding requests, their
//! answers, and the keep-alive indication, with short-term integrity and fingerprint.
//!
//! Small and our own, because the codecs there are bring a random generator and a second
//! generation of hash crates into the page. They check this one in the tests.

use sha1::{Digest as _, Sha1};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes 4 to 7 of every message.
pub const MAGIC_COOKIE: u32 = 0x2112_a442;
/// Header length.
pub const HEADER_LEN: usize = 20;
/// Longest message that is read: pjnath's are below 200 bytes, and its own buffer has 1500.
pub const MAX_LEN: usize = 1500;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const SOFTWARE: u16 = 0x8022;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;
/// What the checksum is mixed with (RFC 5389 section 15.5).
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// Most unknown attributes that are remembered for a 420 answer.
const MAX_UNKNOWN: usize = 16;

/// Names one request and its answer.
pub type TransactionId = [u8; 12];

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// A good answer.
    Success,
    /// A bad answer.
    Error,
}

/// Who nominates, with the tie-breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleClaim {
    /// The sender believes to be controlled.
    Controlled(u64),
    /// The sender believes to be controlling.
    Controlling(u64),
}

/// A Binding message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Request, answer or indication.
    pub class: Class,
    /// The method; 1 is Binding, the only one used between peers.
    pub method: u16,
    /// Request and answer share it.
    pub transaction: TransactionId,
    /// `receiver's fragment:sender's fragment`.
    pub username: Option<String>,
    /// Priority of a peer reflexive candidate found by this check.
    pub priority: Option<u32>,
    /// The sender's role.
    pub role: Option<RoleClaim>,
    /// The controlling side nominates the connection.
    pub use_candidate: bool,
    /// The sender's address as its peer sees it.
    pub xor_mapped: Option<SocketAddr>,
    /// Error code of a bad answer.
    pub error: Option<u16>,
    /// What program the sender is.
    pub software: Option<String>,
    /// Attributes that must be understood and are not, at most 16.
    pub unknown: Vec<u16>,
    /// Where MESSAGE-INTEGRITY begins, in a message that was read.
    pub(crate) integrity_at: Option<usize>,
    /// Whether a right FINGERPRINT ends the message.
    pub fingerprint: bool,
}

/// Why some bytes are no acceptable STUN message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Header or an attribute is cut off.
    #[error("the STUN message is cut off")]
    Short,
    /// The first bits or the cookie are not STUN's, or the length is not that of the frame.
    #[error("not a STUN message")]
    NotStun,
    /// Longer than 1500 bytes.
    #[error("the STUN message is longer than {MAX_LEN} bytes")]
    TooLong,
    /// An attribute has the wrong length or content.
    #[error("the STUN attribute {0:#06x} is malformed")]
    Attribute(u16),
    /// The checksum is wrong.
    #[error("the fingerprint of the STUN message is wrong")]
    Fingerprint,
}

/// Whether a frame holds STUN; all else belongs to TLS.
pub fn is_stun(payload: &[u8]) -> bool {
    payload.first().is_some_and(|b| b & 0xc0 == 0)
        && payload.get(4..8) == Some(&MAGIC_COOKIE.to_be_bytes())
}

impl Message {
    /// A Binding message without attributes.
    pub fn binding(class: Class, transaction: TransactionId) -> Self {
        Self {
            class,
            method: 1,
            transaction,
            username: None,
            priority: None,
            role: None,
            use_candidate: false,
            xor_mapped: None,
            error: None,
            software: None,
            unknown: Vec::new(),
            integrity_at: None,
            fingerprint: false,
        }
    }

    /// Reads a message that fills the whole frame. A fingerprint, when there, is checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, StunError> {
        if bytes.len() > MAX_LEN {
            return Err(StunError::TooLong);
        }
        let (head, mut rest) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(StunError::Short)?;
        let [t0, t1, l0, l1, _, _, _, _, transaction @ ..] = *head;
        if !is_stun(bytes) || usize::from(u16::from_be_bytes([l0, l1])) != rest.len() {
            return Err(StunError::NotStun);
        }
        let kind = u16::from_be_bytes([t0, t1]);
        let class = match kind & 0x0110 {
            0x0000 => Class::Request,
            0x0010 => Class::Indication,
            0x0100 => Class::Success,
            _ => Class::Error,
        };
        let method = (kind & 0x000f) | ((kind & 0x00e0) >> 1) | ((kind & 0x3e00) >> 2);
        let mut message = Self {
            method,
            ..Self::binding(class, transaction)
        };
        while !rest.is_empty() {
            let at = bytes.len().saturating_sub(rest.len());
            let (head, body) = rest.split_first_chunk::<4>().ok_or(StunError::Short)?;
            let [a0, a1, l0, l1] = *head;
            let attribute = u16::from_be_bytes([a0, a1]);
            let len = usize::from(u16::from_be_bytes([l0, l1]));
            let value = body.get(..len).ok_or(StunError::Short)?;
            rest = body
                .get(len.next_multiple_of(4)..)
                .ok_or(StunError::Short)?;
            // What follows the integrity is not protected by it and does not count.
            if message.integrity_at.is_some() && attribute != FINGERPRINT {
                continue;
            }
            message.read_attribute(attribute, value, bytes, at)?;
            if attribute == FINGERPRINT {
                // It is the last one (RFC 5389 section 15.5).
                if !rest.is_empty() {
                    return Err(StunError::Attribute(FINGERPRINT));
                }
                message.fingerprint = true;
            }
        }
        Ok(message)
    }

    /// Whether MESSAGE-INTEGRITY is there.
    pub fn has_integrity(&self) -> bool {
        self.integrity_at.is_some()
    }

    /// Whether the integrity of the message that was read from `bytes` is right for a password.
    pub fn check_integrity(&self, bytes: &[u8], password: &[u8]) -> bool {
        let Some(at) = self.integrity_at else {
            return false;
        };
        let Some(mac) = bytes.get(at.saturating_add(4)..at.saturating_add(24)) else {
            return false;
        };
        let Some(signed) = with_length(bytes, at, 24) else {
            return false;
        };
        let want = hmac_sha1(password, &signed);
        // All bytes are compared, so that time says nothing about the first wrong one.
        want.iter().zip(mac).fold(0u8, |d, (a, b)| d | (a ^ b)) == 0
    }

    /// Writes the message, with integrity when a password is given, and with a fingerprint always.
    pub fn encode(&self, password: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let class = match self.class {
            Class::Request => 0x0000,
            Class::Indication => 0x0010,
            Class::Success => 0x0100,
            Class::Error => 0x0110,
        };
        let m = self.method;
        let kind = class | (m & 0x000f) | ((m & 0x0070) << 1) | ((m & 0x0f80) << 2);
        out.extend_from_slice(&(kind & 0x3fff).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        out.extend_from_slice(&self.transaction);
        // The order in which pjnath writes them, as far as it matters to nobody.
        if let Some(priority) = self.priority {
            put(&mut out, PRIORITY, &priority.to_be_bytes());
        }
        if self.use_candidate {
            put(&mut out, USE_CANDIDATE, &[]);
        }
        match self.role {
            Some(RoleClaim::Controlled(tie)) => {
                put(&mut out, ICE_CONTROLLED, &tie.to_be_bytes());
            }
            Some(RoleClaim::Controlling(tie)) => {
                put(&mut out, ICE_CONTROLLING, &tie.to_be_bytes());
            }
            None => {}
        }
        if let Some(code) = self.error {
            let class = u8::try_from(code / 100).unwrap_or(0) & 7;
            let number = u8::try_from(code % 100).unwrap_or(0);
            put(&mut out, ERROR_CODE, &[0, 0, class, number]);
        }
        if !self.unknown.is_empty() {
            let list: Vec<u8> = self.unknown.iter().flat_map(|a| a.to_be_bytes()).collect();
            put(&mut out, UNKNOWN_ATTRIBUTES, &list);
        }
        if let Some(address) = self.xor_mapped {
            put(
                &mut out,
                XOR_MAPPED_ADDRESS,
                &xor_address(address, &self.transaction),
            );
        }
        if let Some(software) = &self.software {
            put(&mut out, SOFTWARE, software.as_bytes());
        }
        if let Some(username) = &self.username {
            put(&mut out, USERNAME, username.as_bytes());
        }
        if let Some(password) = password {
            let at = out.len();
            if let Some(signed) = with_length(&out, at, 24) {
                put(&mut out, MESSAGE_INTEGRITY, &hmac_sha1(password, &signed));
            }
        }
        let at = out.len();
        if let Some(signed) = with_length(&out, at, 8) {
            let sum = crc32(&signed) ^ FINGERPRINT_XOR;
            put(&mut out, FINGERPRINT, &sum.to_be_bytes());
        }
        set_length(&mut out);
        out
    }

    fn read_attribute(
        &mut self,
        attribute: u16,
        value: &[u8],
        bytes: &[u8],
        at: usize,
    ) -> Result<(), StunError> {
        let bad = StunError::Attribute(attribute);
        let u64_of = |v: &[u8]| v.try_into().map(u64::from_be_bytes).map_err(|_| bad);
        match attribute {
            USERNAME => {
                let text = core::str::from_utf8(value).map_err(|_| bad)?;
                self.username = Some(text.to_owned());
            }
            PRIORITY => {
                let value = value.try_into().map_err(|_| bad)?;
                self.priority = Some(u32::from_be_bytes(value));
            }
            USE_CANDIDATE => self.use_candidate = true,
            ICE_CONTROLLED => self.role = Some(RoleClaim::Controlled(u64_of(value)?)),
            ICE_CONTROLLING => self.role = Some(RoleClaim::Controlling(u64_of(value)?)),
            XOR_MAPPED_ADDRESS => {
                self.xor_mapped = Some(read_xor_address(value, &self.transaction).ok_or(bad)?);
            }
            ERROR_CODE => {
                let [_, _, class, number, ..] = *value else {
                    return Err(bad);
                };
                self.error = Some(
                    u16::from(class & 7)
                        .saturating_mul(100)
                        .saturating_add(u16::from(number)),
                );
            }
            SOFTWARE => self.software = Some(String::from_utf8_lossy(value).into_owned()),
            UNKNOWN_ATTRIBUTES => {}
            MESSAGE_INTEGRITY => {
                if value.len() != 20 {
                    return Err(bad);
                }
                self.integrity_at = Some(at);
            }
            FINGERPRINT => {
                let sum = u32::from_be_bytes(value.try_into().map_err(|_| bad)?);
                let signed = with_length(bytes, at, 8).ok_or(StunError::Short)?;
                if crc32(&signed) ^ FINGERPRINT_XOR != sum {
                    return Err(StunError::Fingerprint);
                }
            }
            // The lower half must be understood, the upper half may be skipped.
            0x0000..=0x7fff if self.unknown.len() < MAX_UNKNOWN => self.unknown.push(attribute),
            _ => {}
        }
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, attribute: u16, value: &[u8]) {
    out.extend_from_slice(&attribute.to_be_bytes());
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The first `at` bytes with the header's length set as if an attribute of `extra` bytes ended the message.
fn with_length(bytes: &[u8], at: usize, extra: usize) -> Option<Vec<u8>> {
    let mut signed = bytes.get(..at)?.to_vec();
    let len = at.checked_add(extra)?.checked_sub(HEADER_LEN)?;
    let len = u16::try_from(len).ok()?;
    signed.get_mut(2..4)?.copy_from_slice(&len.to_be_bytes());
    Some(signed)
}

fn set_length(out: &mut [u8]) {
    let len = u16::try_from(out.len().saturating_sub(HEADER_LEN)).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(2..4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

/// What an address is mixed with: the cookie and the transaction id.
fn xor_mask(transaction: &TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    let source = MAGIC_COOKIE.to_be_bytes().into_iter().chain(*transaction);
    for (m, s) in mask.iter_mut().zip(source) {
        *m = s;
    }
    mask
}

fn xor_address(address: SocketAddr, transaction: &TransactionId) -> Vec<u8> {
    let mask = xor_mask(transaction);
    let (family, ip): (u8, Vec<u8>) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut out = vec![0, family];
    let port = address.port() ^ u16::try_from(MAGIC_COOKIE >> 16).unwrap_or(0);
    out.extend_from_slice(&port.to_be_bytes());
    out.extend(ip.iter().zip(mask).map(|(a, b)| a ^ b));
    out
}

fn read_xor_address(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let (head, ip) = value.split_first_chunk::<4>()?;
    let [_, family, p0, p1] = *head;
    let port = u16::from_be_bytes([p0, p1]) ^ u16::try_from(MAGIC_COOKIE >> 16).unwrap_or(0);
    let plain: Vec<u8> = ip
        .iter()
        .zip(xor_mask(transaction))
        .map(|(a, b)| a ^ b)
        .collect();
    let ip = match (family, ip.len()) {
        (1, 4) => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(plain).ok()?)),
        (2, 16) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(plain).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// HMAC (RFC 2104) with SHA-1, the only one that ICE uses.
fn hmac_sha1(key: &[u8], message: &[u8]) -> [u8; 20] {
    let mut block = [0u8; 64];
    let hashed;
    let key = if key.len() > 64 {
        hashed = Sha1::digest(key);
        hashed.as_slice()
    } else {
        key
    };
    for (b, k) in block.iter_mut().zip(key) {
        *b = *k;
    }
    let inner = Sha1::new()
        .chain_update(block.map(|b| b ^ 0x36))
        .chain_update(message)
        .finalize();
    Sha1::new()
        .chain_update(block.map(|b| b ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

/// CRC-32 of ITU V.42, bit by bit: some hundred bytes a message.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn primitives_give_the_published_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        // RFC 2202, cases 1, 2 and 6.
        assert_eq!(
            hex::encode(hmac_sha1(&[0x0b; 20], b"Hi There")),
            "b617318655057264e28bc0b6fb378c8ef146be00"
        );
        assert_eq!(
            hex::encode(hmac_sha1(b"Jefe", b"what do ya want for nothing?")),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
        assert_eq!(
            hex::encode(hmac_sha1(
                &[0xaa; 80],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            )),
            "aa4ae5e15272d00e95705637ce8a3b55ed402112"
        );
    }

    fn message() -> impl Strategy<Value = Message> {
        (
            any::<[u8; 12]>(),
            proptest::option::of("[a-z0-9:]{1,40}"),
            proptest::option::of(any::<u32>()),
            proptest::option::of((any::<bool>(), any::<u64>())),
            any::<bool>(),
            proptest::option::of((any::<bool>(), any::<[u8; 16]>(), any::<u16>())),
            0..4u8,
        )
            .prop_map(
                |(transaction, username, priority, role, use_candidate, mapped, class)| {
                    let class = [
                        Class::Request,
                        Class::Indication,
                        Class::Success,
                        Class::Error,
                    ][usize::from(class)];
                    Message {
                        username,
                        priority,
                        use_candidate,
                        role: role.map(|(controlling, tie)| {
                            if controlling {
                                RoleClaim::Controlling(tie)
                            } else {
                                RoleClaim::Controlled(tie)
                            }
                        }),
                        xor_mapped: mapped.map(|(v4, ip, port)| {
                            let ip = if v4 {
                                IpAddr::from([ip[0], ip[1], ip[2], ip[3]])
                            } else {
                                IpAddr::from(ip)
                            };
                            SocketAddr::new(ip, port)
                        }),
                        error: (class == Class::Error).then_some(487),
                        ..Message::binding(class, transaction)
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn written_is_read_and_protected(message in message(), password in "[a-f0-9]{1,30}", flip in any::<usize>()) {
            let bytes = message.encode(Some(password.as_bytes()));
            let read = Message::decode(&bytes).unwrap();
            prop_assert!(read.check_integrity(&bytes, password.as_bytes()));
            prop_assert!(!read.check_integrity(&bytes, b"another"));
            prop_assert!(read.fingerprint);
            let plain = Message { integrity_at: None, fingerprint: false, ..read };
            prop_assert_eq!(plain, message);
            // A flipped bit is noticed.
            let mut broken = bytes.clone();
            let at = flip % (bytes.len() * 8);
            broken[at / 8] ^= 1 << (at % 8);
            prop_assert!(Message::decode(&broken).map_or(true, |m| !m.fingerprint));
        }

        #[test]
        fn any_bytes_are_answered(mut bytes in proptest::collection::vec(any::<u8>(), 20..200)) {
            let _ = Message::decode(&bytes);
            let len = (bytes.len() - 20) as u16;
            bytes[0] &= 0x3f;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            bytes[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn another_implementation_reads_ours(message in message(), password in "[a-f0-9]{1,30}") {
            use stun_types::message::{Message as Theirs, MessageIntegrityCredentials, ShortTermCredentials};
            let bytes = message.encode(Some(password.as_bytes()));
            let theirs = Theirs::from_bytes(&bytes).unwrap();
            let key = MessageIntegrityCredentials::from(ShortTermCredentials::new(password));
            prop_assert!(theirs.validate_integrity(&key).is_ok());
            let mapped = theirs.attribute::<stun_types::attribute::XorMappedAddress>().ok();
            prop_assert_eq!(mapped.map(|a| a.addr(theirs.transaction_id())), message.xor_mapped);
            let user = theirs.attribute::<stun_types::attribute::Username>().ok();
            prop_assert_eq!(user.map(|u| u.username().to_owned()), message.username);
        }
    }
}
