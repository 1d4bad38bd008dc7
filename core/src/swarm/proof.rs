//! Why a message is believed: everything another machine needs to check it again.

use super::members::Role;
use super::misbehaviour::{Fault, Misbehaviour};
use super::object::{Kind, Objects};
use super::path::Standing;
use super::validate::Validation;
use crate::crypto::{SignatureAlgorithm, SignatureCheck};
use crate::id::{AccountId, ConversationId, DeviceId, ObjectId};
use crate::identity::Certificate;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Bytes that are base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl core::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map(Bytes)
            .map_err(serde::de::Error::custom)
    }
}

/// A signature with all it takes to check it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// DER SubjectPublicKeyInfo of the signer.
    pub key: Bytes,
    /// `RSA-SHA256`, `RSA-SHA384`, `RSA-SHA512` (PKCS#1 v1.5) or `ECDSA-P384-SHA384`.
    pub algorithm: String,
    /// What was signed.
    pub message: Bytes,
    /// The signature.
    pub signature: Bytes,
}

const ALGORITHMS: [(SignatureAlgorithm, &str); 4] = [
    (SignatureAlgorithm::RsaPkcs1Sha256, "RSA-SHA256"),
    (SignatureAlgorithm::RsaPkcs1Sha384, "RSA-SHA384"),
    (SignatureAlgorithm::RsaPkcs1Sha512, "RSA-SHA512"),
    (SignatureAlgorithm::EcdsaP384Sha384, "ECDSA-P384-SHA384"),
];

impl Evidence {
    fn new(check: &SignatureCheck) -> Self {
        Self {
            key: Bytes(check.key.to_vec()),
            algorithm: ALGORITHMS
                .iter()
                .find(|(a, _)| *a == check.algorithm)
                .map_or("", |(_, n)| n)
                .to_owned(),
            message: Bytes(check.message.clone()),
            signature: Bytes(check.signature.clone()),
        }
    }

    /// As a question to the machine's crypto; `None` for an unknown algorithm.
    pub fn check(&self) -> Option<SignatureCheck> {
        Some(SignatureCheck {
            key: self.key.0.as_slice().into(),
            algorithm: ALGORITHMS.iter().find(|(_, n)| *n == self.algorithm)?.0,
            message: self.message.0.clone(),
            signature: self.signature.0.clone(),
        })
    }
}

/// A certificate of the chain, in words and in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvenCertificate {
    /// Common name of whom it is about.
    pub subject: Option<String>,
    /// Length of the key in bits, for RSA.
    pub key_bits: Option<u32>,
    /// SHA-1 of the key: the Jami ID of an account, the short id of a device.
    pub key_id: AccountId,
    /// Valid from, unix seconds.
    pub not_before: u64,
    /// Valid until, unix seconds.
    pub not_after: u64,
    /// The certificate.
    pub der: Bytes,
}

impl ProvenCertificate {
    fn new(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject_cn().map(str::to_owned),
            key_bits: certificate.rsa_bits(),
            key_id: certificate.account_id(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            der: Bytes(certificate.der().to_vec()),
        }
    }
}

/// The proof of one message. Its structure is in order; its signatures are still to be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The conversation.
    pub conversation: ConversationId,
    /// The message.
    pub commit: ObjectId,
    /// The device that wrote it.
    pub device: DeviceId,
    /// The device's account.
    pub account: AccountId,
    /// What the account was when it wrote.
    pub role: Role,
    /// When it says it was written, unix seconds.
    pub time: i64,
    /// Device, account, then the account's issuers.
    pub chain: Vec<ProvenCertificate>,
    /// The device's signature over the commit.
    pub signature: Evidence,
    /// The account's signature over the device's certificate.
    pub vouched: Evidence,
}

impl Proof {
    /// Both signatures, to be checked where this is read.
    pub fn checks(&self) -> Vec<SignatureCheck> {
        [&self.vouched, &self.signature]
            .into_iter()
            .filter_map(Evidence::check)
            .collect()
    }
}

/// Judges one commit by all rules and gathers what proves it.
pub fn prove(
    objects: &dyn Objects,
    conversation: ConversationId,
    commit: ObjectId,
) -> Result<Proof, Fault> {
    let mut window = Validation::window(objects, conversation, vec![commit]);
    let batch = window.next_batch(1)?.unwrap_or_default();
    let nothing = Fault::of(commit, Misbehaviour::MissingObject(commit));
    // A fresh validation asks for the device's certificate first, then for the commit.
    let (Some(accepted), [vouched, signature]) = (batch.commits.first(), batch.checks.as_slice())
    else {
        return Err(nothing);
    };
    let author = &accepted.author;
    let mut chain = vec![ProvenCertificate::new(&author.device_certificate)];
    chain.extend(author.account_chain.iter().map(ProvenCertificate::new));
    Ok(Proof {
        conversation,
        commit,
        device: accepted.commit.device,
        account: author.account,
        role: match author.standing {
            Standing::Admin => Role::Admin,
            _ => Role::Member,
        },
        time: accepted.commit.time,
        chain,
        signature: Evidence::new(signature),
        vouched: Evidence::new(vouched),
    })
}

/// Passes reads on and remembers them: what a validation read here is what another
/// machine needs to repeat it.
pub struct Recorder<'a> {
    objects: &'a dyn Objects,
    read: RefCell<BTreeMap<ObjectId, (Kind, Vec<u8>)>>,
}

impl<'a> Recorder<'a> {
    /// Over these objects.
    pub fn new(objects: &'a dyn Objects) -> Self {
        Self {
            objects,
            read: RefCell::default(),
        }
    }

    /// Everything that was read, each once.
    pub fn into_objects(self) -> BTreeMap<ObjectId, (Kind, Vec<u8>)> {
        self.read.into_inner()
    }
}

impl Objects for Recorder<'_> {
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        let object = self.objects.object(id)?;
        self.read
            .borrow_mut()
            .entry(*id)
            .or_insert_with(|| object.clone());
        Some(object)
    }
}
