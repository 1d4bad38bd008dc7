//! Revocation lists: an account takes back the certificate of a device.

use super::certificate::{self, Certificate, MAX_SERIAL_LEN};
use super::der::{self, DerError, Reader, minimal_integer};
use crate::crypto::{Crypto, CryptoError, PrivateKey, SignatureAlgorithm, SignatureCheck};
use crate::dht::types::USER_DATA;
use crate::dht::value::Value;
use crate::msgpack::{self, MsgpackError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Largest list that is read, in bytes of DER: it has to fit into a DHT value of 64 KiB.
pub const MAX_REVOCATION_LIST_LEN: usize = 64 * 1024;

/// Most lists that are kept of one account besides those that take back a device that was met. They come
/// from its devices, each of which adds to the list of the backup that it was made from: so there is
/// one, and a second only where two of them revoke without having heard of each other.
pub const MAX_LISTS: usize = 8;

/// Most lists that are kept of one account in all: as many as devices of one account are looked at.
/// Our bound against an account that makes devices and takes them back, each by a list of its own.
pub const MAX_ALL_LISTS: usize = 64;

/// What a list has around its entries, at most: the account's name, a signature of 8192 bits, one entry more.
const MAX_FRAME_LEN: usize = 4096;

/// Longest data of a DHT value with a list: the list, and the msgpack header before it.
const MAX_VALUE_LEN: usize = MAX_REVOCATION_LIST_LEN + 5;

/// Lists wake up nobody's phone (jami-daemon, `AccountManager::startSync`).
const PRIORITY: u32 = 1;

/// Longest number of a list that counts, in octets without padding (RFC 5280, 5.2.3).
const MAX_NUMBER_LEN: usize = 20;

/// 2.5.29.20, CRL number.
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];

/// Why some bytes are not a revocation list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// Too large to be published.
    #[error("the revocation list is longer than {MAX_REVOCATION_LIST_LEN} bytes")]
    TooLarge,
    /// The structure is not that of a list.
    #[error("not a revocation list: {0}")]
    Structure(#[from] DerError),
    /// The signed and the unsigned name of the signature algorithm differ.
    #[error("the revocation list contradicts itself about its signature algorithm")]
    AlgorithmMismatch,
    /// Signed in a way that is not accepted.
    #[error("the revocation list is signed with an algorithm that is not accepted")]
    UnsupportedSignature,
    /// The value is none that holds a list.
    #[error("not a value with a revocation list: {0}")]
    Msgpack(#[from] MsgpackError),
    /// The value holds something else.
    #[error("not a value with a revocation list")]
    OtherValue,
    /// It names somebody else as its issuer than the account that is asked about.
    #[error("the revocation list is that of another account")]
    WrongIssuer,
    /// The account's key did not sign it.
    #[error("the revocation list's signature is wrong")]
    BadSignature,
    /// It cannot be made: the key cannot sign.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The account has made many lists of which none contains another, and this one takes back no device
    /// that was met.
    #[error("the account has too many different revocation lists")]
    TooMany,
}

/// One certificate that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Serial number of the certificate, without padding.
    pub serial: Vec<u8>,
    /// When, in unix seconds.
    pub date: u64,
}

impl Revoked {
    fn der(&self) -> Vec<u8> {
        let serial = der::element(der::INTEGER, &self.serial);
        der::container(der::SEQUENCE, &[&serial, &der::time(self.date)])
    }
}

/// An X.509 CRL, byte for byte as it came. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList(Arc<Parsed>);

#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    der: Vec<u8>,
    tbs: Vec<u8>,
    issuer: Vec<u8>,
    algorithm: SignatureAlgorithm,
    signature: Vec<u8>,
    this_update: u64,
    next_update: Option<u64>,
    number: Option<Vec<u8>>,
    revoked: Vec<Revoked>,
}

impl RevocationList {
    /// Reads exactly one list in DER.
    ///
    /// # Errors
    /// The reason why it is none.
    pub fn from_der(der: &[u8]) -> Result<Self, RevocationError> {
        if der.len() > MAX_REVOCATION_LIST_LEN {
            return Err(RevocationError::TooLarge);
        }
        let mut outer = Reader(der);
        let mut list = outer.expect(der::SEQUENCE)?.inside();
        outer.end()?;
        let tbs = list.expect(der::SEQUENCE)?;
        let algorithm = list.expect(der::SEQUENCE)?;
        let signature = certificate::bit_string(list.expect(der::BIT_STRING)?)?;
        list.end()?;

        let mut fields = tbs.inside();
        fields.optional(der::INTEGER)?;
        if fields.expect(der::SEQUENCE)?.value != algorithm.value {
            return Err(RevocationError::AlgorithmMismatch);
        }
        let issuer = fields.expect(der::SEQUENCE)?;
        let this_update = fields.time()?;
        let next_update = match fields.peek() {
            Some(der::UTC_TIME | der::GENERALIZED_TIME) => Some(fields.time()?),
            _ => None,
        };
        let mut revoked = Vec::new();
        if let Some(entries) = fields.optional(der::SEQUENCE)? {
            let mut entries = entries.inside();
            while !entries.is_empty() {
                let mut entry = entries.expect(der::SEQUENCE)?.inside();
                let serial = minimal_integer(entry.expect(der::INTEGER)?.value);
                let date = entry.time()?;
                // A longer one is that of no certificate, and would only take room.
                if serial.len() <= MAX_SERIAL_LEN {
                    let serial = serial.to_vec();
                    revoked.push(Revoked { serial, date });
                }
            }
        }
        let mut number = None;
        if let Some(extensions) = fields.optional(der::CONTEXT_0)? {
            let mut extensions = extensions.inside().expect(der::SEQUENCE)?.inside();
            while !extensions.is_empty() {
                let mut extension = extensions.expect(der::SEQUENCE)?.inside();
                let oid = extension.expect(der::OID)?.value;
                extension.optional(der::BOOLEAN)?;
                let value = extension.expect(der::OCTET_STRING)?;
                if oid == CRL_NUMBER {
                    let digits = value.inside().expect(der::INTEGER)?.value;
                    number = Some(minimal_integer(digits).to_vec());
                }
            }
        }
        fields.end()?;
        Ok(Self(Arc::new(Parsed {
            der: der.to_vec(),
            tbs: tbs.whole.to_vec(),
            issuer: issuer.whole.to_vec(),
            algorithm: certificate::read_algorithm(algorithm)?
                .ok_or(RevocationError::UnsupportedSignature)?,
            signature: signature.to_vec(),
            this_update,
            next_update,
            // Whoever has the key could have every later list of the account grow by the length of this number.
            number: number.filter(|n| n.len() <= MAX_NUMBER_LEN),
            revoked,
        })))
    }

    /// Reads what lies at an account's Jami ID. Who signed it is another question: see
    /// [`Revocations::take`].
    ///
    /// # Errors
    /// The reason why it is no list.
    pub fn from_value(value: &Value) -> Result<Self, RevocationError> {
        // A list is signed itself, the value around it never is; announcements are.
        let clear = value.clear().filter(|c| c.signed.is_none());
        let Some(clear) = clear.filter(|c| c.type_id == USER_DATA && c.user_type.is_empty()) else {
            return Err(RevocationError::OtherValue);
        };
        if clear.data.len() > MAX_VALUE_LEN {
            return Err(RevocationError::TooLarge);
        }
        let data = msgpack::decode(&clear.data, MAX_VALUE_LEN)?;
        Self::from_der(msgpack::bytes(&data).ok_or(RevocationError::OtherValue)?)
    }

    /// The value as it is put at the account's Jami ID, without id.
    pub fn to_value(&self) -> Value {
        let data = msgpack::encode(&msgpack::Value::Binary(self.0.der.clone()));
        Value {
            priority: PRIORITY,
            ..Value::new(USER_DATA, data)
        }
    }

    /// The list as it came.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// When it was made, in unix seconds.
    pub fn this_update(&self) -> u64 {
        self.0.this_update
    }

    /// Until when a newer one is promised, in unix seconds. A list that is older still holds:
    /// nothing can be taken back from it.
    pub fn next_update(&self) -> Option<u64> {
        self.0.next_update
    }

    /// Its number: a big-endian integer without padding, of at most 20 octets. A longer one is none.
    pub fn number(&self) -> Option<&[u8]> {
        self.0.number.as_deref()
    }

    /// What it takes back.
    pub fn revoked(&self) -> &[Revoked] {
        &self.0.revoked
    }

    /// Whether it names this certificate's subject as its issuer.
    pub fn is_about(&self, issuer: &Certificate) -> bool {
        self.0.issuer == issuer.subject_der()
    }

    /// Whether it lists this certificate, by its exact serial number.
    pub fn lists(&self, certificate: &Certificate) -> bool {
        let serial = minimal_integer(certificate.serial());
        self.0.revoked.iter().any(|r| r.serial == serial)
    }

    /// Whether it takes back everything that another takes back.
    pub fn contains(&self, other: &Self) -> bool {
        let serials: BTreeSet<_> = self.serials().collect();
        other.serials().all(|s| serials.contains(s))
    }

    fn serials(&self) -> impl Iterator<Item = &[u8]> {
        self.0.revoked.iter().map(|r| r.serial.as_slice())
    }

    /// What has to be checked to know that `issuer`'s key signed this.
    pub fn signature_check(&self, issuer: &Certificate) -> SignatureCheck {
        SignatureCheck {
            key: issuer.spki(),
            algorithm: self.0.algorithm,
            message: self.0.tbs.clone(),
            signature: self.0.signature.clone(),
        }
    }

    /// Whether `issuer` made this list.
    pub fn verify(&self, crypto: &dyn Crypto, issuer: &Certificate) -> bool {
        self.check_issuer(crypto, issuer).is_ok()
    }

    /// The same, with the reason if not.
    ///
    /// # Errors
    /// [`RevocationError::WrongIssuer`], [`RevocationError::BadSignature`].
    pub fn check_issuer(
        &self,
        crypto: &dyn Crypto,
        issuer: &Certificate,
    ) -> Result<(), RevocationError> {
        if !self.is_about(issuer) {
            return Err(RevocationError::WrongIssuer);
        }
        match crypto.verify(&self.signature_check(issuer)) {
            true => Ok(()),
            false => Err(RevocationError::BadSignature),
        }
    }

    /// A list that takes back `certificate`, first of all, as well as everything that `previous` lists took back, as far
    /// as that can be published: the shortest first, so that one that somebody filled keeps no other out.
    ///
    /// The number is one more than the largest of theirs, or random at first.
    ///
    /// # Errors
    /// The key cannot sign; [`RevocationError::TooLarge`].
    pub fn revoke<'a>(
        previous: impl IntoIterator<Item = &'a Self>,
        certificate: &Certificate,
        account: &Certificate,
        account_key: &dyn PrivateKey,
        crypto: &dyn Crypto,
        now_unix: u64,
    ) -> Result<Self, RevocationError> {
        let previous: Vec<_> = previous.into_iter().collect();
        let serial = minimal_integer(certificate.serial());
        let mut known = previous.iter().flat_map(|l| l.revoked());
        let known = known.find(|r| r.serial == serial).cloned();
        let new = known.unwrap_or_else(|| Revoked {
            serial: serial.to_vec(),
            date: now_unix,
        });
        let (revoked, number) = union(Some(new), previous, crypto);
        Self::sign(account, account_key, now_unix, &number, &revoked)
    }

    /// One list that takes back everything that all these do: one of them, if it does, or a new one, as far
    /// as that can be published, the shortest first. `None` without lists.
    ///
    /// # Errors
    /// The key cannot sign; [`RevocationError::TooLarge`].
    pub fn merge(
        lists: &[Self],
        account: &Certificate,
        account_key: &dyn PrivateKey,
        crypto: &dyn Crypto,
        now_unix: u64,
    ) -> Result<Option<Self>, RevocationError> {
        let whole = |list: &&Self| lists.iter().all(|other| list.contains(other));
        if lists.is_empty() {
            return Ok(None);
        }
        if let Some(list) = lists.iter().find(whole) {
            return Ok(Some(list.clone()));
        }
        let (revoked, number) = union(None, lists, crypto);
        Self::sign(account, account_key, now_unix, &number, &revoked).map(Some)
    }

    /// A list with exactly this content.
    ///
    /// # Errors
    /// The key cannot sign; [`RevocationError::TooLarge`].
    pub fn sign(
        account: &Certificate,
        account_key: &dyn PrivateKey,
        this_update: u64,
        number: &[u8],
        revoked: &[Revoked],
    ) -> Result<Self, RevocationError> {
        let algorithm = der::container(
            der::SEQUENCE,
            &[&der::element(der::OID, certificate::RSA_SHA512), &[5, 0]],
        );
        let entries: Vec<u8> = revoked.iter().flat_map(Revoked::der).collect();
        let entries = if entries.is_empty() {
            Vec::new()
        } else {
            der::element(der::SEQUENCE, &entries)
        };
        let number = der::container(
            der::SEQUENCE,
            &[
                &der::element(der::OID, CRL_NUMBER),
                &der::element(der::OCTET_STRING, &der::element(der::INTEGER, number)),
            ],
        );
        let extensions = der::element(der::CONTEXT_0, &der::element(der::SEQUENCE, &number));
        let tbs = der::container(
            der::SEQUENCE,
            &[
                // Version 2.
                &der::element(der::INTEGER, &[1]),
                &algorithm,
                account.subject_der(),
                &der::time(this_update),
                &der::time(account.not_after()),
                &entries,
                &extensions,
            ],
        );
        let mut signature = vec![0];
        signature.extend(account_key.sign(SignatureAlgorithm::RsaPkcs1Sha512, &tbs)?);
        let der = der::container(
            der::SEQUENCE,
            &[&tbs, &algorithm, &der::element(der::BIT_STRING, &signature)],
        );
        Self::from_der(&der)
    }
}

/// What an account has taken back, as far as is known: its lists, of which none undoes another. There is
/// no way back for a device, so a list counts for ever, and an older one that is shown again takes
/// nothing away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations(Vec<RevocationList>);

impl Revocations {
    /// Lists that were taken once, and kept. None is trusted for that: whoever verifies a chain with
    /// them checks their signatures.
    pub fn kept(lists: impl IntoIterator<Item = RevocationList>) -> Self {
        Self(lists.into_iter().take(MAX_ALL_LISTS).collect())
    }

    /// The lists.
    pub fn lists(&self) -> &[RevocationList] {
        &self.0
    }

    /// Takes a list in, whoever brought it. Those that it contains go. Says whether it is kept: if it takes back
    /// anything that no other did, or takes the place of several.
    ///
    /// `met`: certificates of the account's devices that were met. A list that takes back one of them
    /// that no other does is taken in and stays, however many others somebody with the account's key
    /// made to keep it out.
    ///
    /// # Errors
    /// It is not `account`'s own, or one too many; nothing has changed then.
    pub fn take<'a>(
        &mut self,
        crypto: &dyn Crypto,
        account: &Certificate,
        list: RevocationList,
        met: impl IntoIterator<Item = &'a Certificate>,
    ) -> Result<bool, RevocationError> {
        if self.0.contains(&list) {
            return Ok(false);
        }
        list.check_issuer(crypto, account)?;
        self.insert(list, met)
    }

    /// As [`Self::take`], of a list that is the account's own as [`RevocationList::check_issuer`] said.
    ///
    /// # Errors
    /// [`RevocationError::TooMany`]; nothing has changed then.
    pub fn insert<'a>(
        &mut self,
        list: RevocationList,
        met: impl IntoIterator<Item = &'a Certificate>,
    ) -> Result<bool, RevocationError> {
        let serials: BTreeSet<_> = self.0.iter().flat_map(RevocationList::serials).collect();
        let mut kept = self.0.clone();
        kept.retain(|known| !list.contains(known));
        let replaced = self.0.len().saturating_sub(kept.len());
        if list.serials().all(|s| serials.contains(s)) && replaced < 2 {
            return Ok(false);
        }
        if kept.len() >= MAX_LISTS {
            let met = met.into_iter().map(|c| minimal_integer(c.serial()));
            Self::make_room(&mut kept, &list, met.collect())?;
        }
        kept.push(list);
        self.0 = kept;
        Ok(true)
    }

    /// Takes away the oldest list that takes back none of the devices that were met, and not by another list
    /// already. Where all do, there is room for more.
    fn make_room(
        kept: &mut Vec<RevocationList>,
        new: &RevocationList,
        met: BTreeSet<&[u8]>,
    ) -> Result<(), RevocationError> {
        let mut taken_back: BTreeSet<&[u8]> = BTreeSet::new();
        // Each is needed for at least one device: so these are no more than there are devices.
        let mut needed = |list: &RevocationList| {
            let found: Vec<_> = met
                .iter()
                .filter(|s| list.serials().any(|l| l == **s))
                .collect();
            let before = taken_back.len();
            taken_back.extend(found);
            taken_back.len() > before
        };
        let free = kept.iter().map(&mut needed).collect::<Vec<_>>();
        let free = free.iter().position(|needed| !needed);
        if !needed(new) || (free.is_none() && kept.len() >= MAX_ALL_LISTS) {
            return Err(RevocationError::TooMany);
        }
        if let Some(free) = free {
            kept.remove(free);
        }
        Ok(())
    }
}

/// `new`, if any, and what all these lists take back, as far as it has room in one, the shortest first. And the number of
/// one more, random if none has a number or the next is too long for one.
fn union<'a>(
    new: Option<Revoked>,
    lists: impl IntoIterator<Item = &'a RevocationList>,
    crypto: &dyn Crypto,
) -> (Vec<Revoked>, Vec<u8>) {
    let mut revoked: Vec<_> = new.into_iter().collect();
    let mut serials: BTreeSet<_> = revoked.iter().map(|r| r.serial.clone()).collect();
    let mut room = MAX_REVOCATION_LIST_LEN.saturating_sub(MAX_FRAME_LEN);
    room = room.saturating_sub(revoked.iter().map(|r| r.der().len()).sum());
    let mut number: Option<&[u8]> = None;
    let mut lists: Vec<_> = lists.into_iter().collect();
    // As they came where they are equally long.
    lists.sort_by_key(|l| l.revoked().len());
    for list in lists {
        let mut all = serials.clone();
        let mut more = list.revoked().to_vec();
        more.retain(|r| all.insert(r.serial.clone()));
        let len = more.iter().map(|r| r.der().len()).sum();
        if let Some(rest) = room.checked_sub(len) {
            revoked.extend(more);
            (serials, room) = (all, rest);
        }
        if list.number().map(size) > number.map(size) {
            number = list.number();
        }
    }
    let next = number
        .map(incremented)
        .filter(|n| n.len() <= MAX_NUMBER_LEN);
    (
        revoked,
        next.unwrap_or_else(|| random_positive(crypto).to_vec()),
    )
}

/// How a big-endian integer without padding compares with others.
fn size(number: &[u8]) -> (bool, usize, &[u8]) {
    let positive = number.first().is_some_and(|b| *b < 0x80);
    let digits = match number {
        [0, digits @ ..] => digits,
        digits => digits,
    };
    (positive, digits.len(), digits)
}

/// Eight random bytes that are a positive DER integer of eight bytes, never padded: 62 bits
/// are random. For serial and list numbers, which Jami draws of 63 bits.
pub(crate) fn random_positive(crypto: &dyn Crypto) -> [u8; 8] {
    let mut bytes = [0; 8];
    crypto.random(&mut bytes);
    let number = u64::from_be_bytes(bytes);
    ((number & 0x3fff_ffff_ffff_ffff) | 0x4000_0000_0000_0000).to_be_bytes()
}

/// One more than a big-endian integer; a negative one starts over at 1.
fn incremented(number: &[u8]) -> Vec<u8> {
    if number.first().is_none_or(|b| *b >= 0x80) {
        return vec![1];
    }
    let mut out = number.to_vec();
    let mut carry = true;
    for digit in out.iter_mut().rev() {
        if carry {
            let (sum, overflow) = digit.overflowing_add(1);
            *digit = sum;
            carry = overflow;
        }
    }
    if out.first().is_some_and(|b| *b >= 0x80) {
        out.insert(0, 0);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{incremented, size};

    #[test]
    fn numbers_grow_without_turning_negative() {
        assert_eq!(incremented(&[1]), [2]);
        assert_eq!(incremented(&[0x7f]), [0, 0x80]);
        assert_eq!(incremented(&[0, 0xff]), [1, 0]);
        assert_eq!(incremented(&[0x7f, 0xff]), [0, 0x80, 0]);
        assert_eq!(incremented(&[0xff]), [1]);
        assert_eq!(incremented(&[]), [1]);
    }

    #[test]
    fn numbers_are_compared_by_what_they_count() {
        let order: [&[u8]; 6] = [&[0xff], &[1], &[0x7f], &[0, 0x80], &[0, 0xff], &[1, 0]];
        assert!(order.is_sorted_by_key(|n| size(n)));
    }
}
