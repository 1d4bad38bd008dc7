//! Certificates, chains and revocation lists: those of real daemons and of the
//! reference vectors are read, and everything bent is refused by name.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod native;

use native::AwsLc;
use proptest::prelude::*;
use starling_core::crypto::{Crypto, SignatureCheck};
use starling_core::dht::Value;
use starling_core::identity::{
    Certificate, CertificateChain, CertificateError, ChainError, DerError, MAX_ALL_LISTS,
    MAX_LISTS, MAX_REVOCATION_LIST_LEN, RevocationError, RevocationList, Revocations, Revoked,
};

/// 2026-01-01, when the certificates of the vectors begin.
const T0: u64 = 1_767_225_600;
/// A moment inside the validity of the daemons' certificates.
const DAEMON_NOW: u64 = 1_795_250_000;

const DEVICE: &[u8] = include_bytes!("data/identity/certs/device-chain.crt");
const DEVICE2: &[u8] = include_bytes!("data/identity/certs/device2-chain.crt");
const PEER: &[u8] = include_bytes!("data/identity/certs/peer-device-chain.crt");
const CRL: &[u8] = include_bytes!("data/identity/certs/account.crl.der");
const ANN: &[u8] = include_bytes!("data/identity/daemon/ann-chain.pem");
const BEN: &[u8] = include_bytes!("data/identity/daemon/ben-chain.pem");
const CAT: &[u8] = include_bytes!("data/identity/daemon/cat-chain.pem");
const DAN: &[u8] = include_bytes!("data/identity/daemon/dan-chain.pem");

fn chain(pem: &[u8]) -> CertificateChain {
    CertificateChain::from_pem(pem).unwrap()
}

#[test]
fn chains_of_daemons_are_read_checked_and_written_byte_for_byte() {
    for (pem, account, device) in [
        (
            ANN,
            "ffc08929f3cc33c68acb348f6439ac5ffc2592dd",
            "2f063e365e48f1eacc9f020455250f5ce8667ee3f731a1a9af37145612e63387",
        ),
        (
            BEN,
            "1aed48262d092d163666a34adeeab6d319657095",
            "cb934627be6f1358ef493e1db79fcbf98a4de83add1cfe12358a02cd6ef0db8f",
        ),
        (
            CAT,
            "be6035aa67df91b907fc0eed9d53e0e41e21aef3",
            "95c813591d4d68cc20f584b985fb6b0cd88e08f702e0b38184866bec86396651",
        ),
        (
            DAN,
            "ffc08929f3cc33c68acb348f6439ac5ffc2592dd",
            "065b0171c24572ceb1fb142f25deead058d5b0b58e78b43af98a876516c0fac4",
        ),
    ] {
        let chain = chain(pem);
        assert_eq!(chain.account_id().to_hex(), account);
        assert_eq!(chain.device_id().to_hex(), device);
        assert_eq!(chain.verify(&AwsLc, DAEMON_NOW, &[]), Ok(()));
        assert_eq!(chain.to_pem().as_bytes(), pem);
        assert_eq!(chain.device.subject_cn(), Some("Jami device"));
        assert_eq!(chain.device.issuer_uid(), Some(account));
        assert_eq!(
            chain.device.subject_uid(),
            Some(&*chain.short_id().to_hex())
        );
        assert_eq!(chain.device.rsa_bits(), Some(4096));
        assert!(!chain.device.is_ca());
        assert!(chain.account.is_ca());
        assert!(chain.ca[0].is_ca());
    }
}

#[test]
fn ids_of_the_vectors() {
    let ids: serde_json::Value =
        serde_json::from_slice(include_bytes!("data/identity/ids.json")).unwrap();
    let id = |name: &str, what: &str| {
        ids.as_array()
            .unwrap()
            .iter()
            .find(|i| i["key"] == name)
            .unwrap()[what]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let c = chain(DEVICE);
    assert_eq!(c.account_id().to_hex(), id("account", "spki_sha1"));
    assert_eq!(c.short_id().to_hex(), id("device", "spki_sha1"));
    assert_eq!(c.device_id().to_hex(), id("device", "spki_sha256"));
    assert_eq!(c.ca[0].device_id().to_hex(), id("ca", "spki_sha256"));
    assert_eq!(
        chain(PEER).account_id().to_hex(),
        id("peer-account", "spki_sha1")
    );
    assert_eq!(c.device.not_before(), T0);
    assert_eq!(c.device.not_after(), T0 + 3650 * 86_400);
}

#[test]
fn a_revocation_list_takes_back_one_device_and_no_other() {
    let crl = RevocationList::from_der(CRL).unwrap();
    assert_eq!(crl.der(), CRL);
    assert_eq!(
        crl.number(),
        Some(&0x1234_5678_90ab_cdef_u64.to_be_bytes()[..])
    );
    assert_eq!(crl.this_update(), T0 + 3600);
    assert_eq!(crl.revoked().len(), 1);
    let crls = [crl];
    assert_eq!(chain(DEVICE).verify(&AwsLc, T0, &crls), Ok(()));
    assert_eq!(
        chain(DEVICE2).verify(&AwsLc, T0, &crls),
        Err(ChainError::Revoked { at: 0 })
    );
    assert_eq!(chain(DEVICE2).verify(&AwsLc, T0, &[]), Ok(()));
    assert_eq!(chain(PEER).verify(&AwsLc, T0, &crls), Ok(()));
    assert!(!crls[0].verify(&AwsLc, &chain(PEER).account));
}

#[test]
fn a_list_that_someone_else_signed_revokes_nothing() {
    let mut forged = CRL.to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let forged = RevocationList::from_der(&forged).unwrap();
    assert!(forged.lists(&chain(DEVICE2).device));
    assert_eq!(chain(DEVICE2).verify(&AwsLc, T0, &[forged]), Ok(()));
}

#[test]
fn a_list_is_published_as_daemons_do() {
    let list = RevocationList::from_der(CRL).unwrap();
    let newest = include_bytes!("data/identity/crl-newest.bin");
    // Writers of 2023 state no priority.
    for bytes in [&include_bytes!("data/identity/crl.bin")[..], newest] {
        let value = Value::unpack_bytes(bytes).unwrap();
        assert_eq!(RevocationList::from_value(&value), Ok(list.clone()));
    }
    let value = list.to_value().with_id(0x0102_0304_0506_0708);
    assert_eq!(value.pack(), newest);
    let of = |data: &[u8]| RevocationList::from_value(&Value::new(0, data.to_vec()));
    let bin32 = |len: usize| [&[0xc6], &u32::try_from(len).unwrap().to_be_bytes()[..]].concat();
    let large = MAX_REVOCATION_LIST_LEN + 1;
    let large = [bin32(large), vec![0x30; large]].concat();
    assert_eq!(of(&large), Err(RevocationError::TooLarge));
    assert_eq!(
        of(&[large, vec![0]].concat()),
        Err(RevocationError::TooLarge)
    );
    assert!(matches!(of(&[0xc5, 9]), Err(RevocationError::Msgpack(_))));
    assert_eq!(of(&[0x80]), Err(RevocationError::OtherValue));
    let announcement = include_bytes!("data/identity/announce-newest.bin");
    let announcement = Value::unpack_bytes(announcement).unwrap();
    assert_eq!(
        RevocationList::from_value(&announcement),
        Err(RevocationError::OtherValue)
    );
}

/// Lists of the account of the vectors.
fn sign(number: u8, serials: &[u8]) -> RevocationList {
    let key = read_key(include_bytes!("data/identity/keys/account.pem"));
    let revoked: Vec<_> = serials
        .iter()
        .map(|s| Revoked {
            serial: vec![*s],
            date: T0,
        })
        .collect();
    let account = chain(DEVICE).account;
    RevocationList::sign(&account, key.as_ref(), T0, &[number], &revoked).unwrap()
}

#[test]
fn no_list_undoes_another() {
    let (account, peer) = (chain(DEVICE).account, chain(PEER).account);
    let mut known = Revocations::default();
    let mut take = |list: &RevocationList| known.take(&AwsLc, &account, list.clone(), []);
    let (older, newer) = (sign(1, &[1]), sign(2, &[1, 2]));
    assert_eq!(take(&older), Ok(true));
    assert_eq!(take(&newer), Ok(true));
    // The older one comes again, as one who was taken back would like.
    assert_eq!(take(&older), Ok(false));
    assert_eq!(take(&sign(3, &[])), Ok(false));
    // Made by a device that has not heard of the others.
    let apart = sign(1, &[3]);
    assert_eq!(take(&apart), Ok(true));
    let mut forged = sign(9, &[9]).der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = RevocationList::from_der(&forged).unwrap();
    assert_eq!(take(&forged), Err(RevocationError::BadSignature));
    assert_eq!(known.lists(), [newer.clone(), apart.clone()]);
    assert_eq!(
        known.take(&AwsLc, &peer, sign(9, &[9]), []),
        Err(RevocationError::WrongIssuer)
    );
    for serial in 4..4 + u8::try_from(MAX_LISTS - 2).unwrap() {
        let list = sign(1, &[serial]);
        assert_eq!(known.take(&AwsLc, &account, list, []), Ok(true));
    }
    let many = known.clone();
    assert_eq!(
        known.take(&AwsLc, &account, sign(1, &[99]), []),
        Err(RevocationError::TooMany)
    );
    assert_eq!(known, many);
    // One that says no more than some of them together takes their place, and one that has them all.
    assert_eq!(
        known.take(&AwsLc, &account, sign(7, &[1, 2, 3]), []),
        Ok(true)
    );
    assert_eq!(known.lists().len(), MAX_LISTS - 1);
    assert_eq!(
        known.take(&AwsLc, &account, sign(8, &[1, 2]), []),
        Ok(false)
    );
    assert_eq!(
        known.take(&AwsLc, &account, sign(9, &[1, 2, 3]), []),
        Ok(false)
    );
    let all: Vec<_> = (1..100).collect();
    assert_eq!(known.take(&AwsLc, &account, sign(1, &all), []), Ok(true));
    assert_eq!(known.lists(), [sign(1, &all)]);
    assert_eq!(Revocations::kept([sign(1, &all)]), known);
}

/// A device of the account of the vectors with another serial number.
fn device(serial: u8) -> Certificate {
    let of = chain(DEVICE).device;
    let at = of.der().windows(8).position(|w| w == [0x33; 8]).unwrap();
    let mut der = of.der().to_vec();
    der[at..at + 8].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, serial]);
    Certificate::from_der(&der).unwrap()
}

/// Whoever has the account's key makes lists in its name, before its owner does.
#[test]
fn a_list_that_takes_back_somebody_who_was_met_is_kept_out_by_no_others() {
    let account = chain(DEVICE).account;
    let max = u8::try_from(MAX_LISTS).unwrap();
    let stolen = device(100);
    let mut known = Revocations::default();
    let mut take = |list: &RevocationList, met: &[Certificate]| {
        let taken = known.take(&AwsLc, &account, list.clone(), met);
        (taken, known.lists().to_vec())
    };
    for serial in 1..=max {
        assert_eq!(take(&sign(1, &[serial]), &[]).0, Ok(true));
    }
    let owners = sign(2, &[100]);
    assert_eq!(take(&owners, &[]).0, Err(RevocationError::TooMany));
    // It takes the place of the oldest.
    let met = [device(127), stolen];
    let (taken, lists) = take(&owners, &met);
    assert_eq!((taken, lists.len()), (Ok(true), MAX_LISTS));
    assert_eq!(lists[0], sign(1, &[2]));
    assert_eq!(lists.last(), Some(&owners));
    // Nothing that comes later puts it out: neither others of nobody, nor of devices made for it.
    for serial in 101..125 {
        let (taken, lists) = take(&sign(3, &[serial]), &met);
        assert_eq!(taken, Err(RevocationError::TooMany));
        assert!(lists.contains(&owners));
    }
    let mut met = met.to_vec();
    for serial in 9..=99 {
        met.push(device(serial));
        let (_, lists) = take(&sign(3, &[serial]), &met);
        assert!(lists.contains(&owners) && lists.len() <= MAX_ALL_LISTS);
    }
    let (taken, lists) = take(&sign(3, &[125]), &met);
    assert_eq!(taken, Err(RevocationError::TooMany));
    assert_eq!(lists.len(), MAX_ALL_LISTS);
    // One for all has room always.
    let all: Vec<_> = (1..=127).collect();
    assert_eq!(take(&sign(4, &all), &met), (Ok(true), vec![sign(4, &all)]));
}

#[test]
fn lists_become_one_that_loses_nothing() {
    let key = read_key(include_bytes!("data/identity/keys/account.pem"));
    let account = chain(DEVICE).account;
    let merge = |lists: &[RevocationList]| {
        RevocationList::merge(lists, &account, key.as_ref(), &AwsLc, T0 + 5).unwrap()
    };
    assert_eq!(merge(&[]), None);
    // One has all that the others have: it stays as it is.
    let (one, both) = (sign(1, &[1]), sign(2, &[1, 2]));
    assert_eq!(merge(&[one.clone(), both.clone()]), Some(both.clone()));
    // None has.
    let apart = sign(0x7f, &[3, 2]);
    let merged = merge(&[one, apart.clone(), both.clone()]).unwrap();
    assert!(merged.verify(&AwsLc, &account));
    assert!(merged.contains(&apart) && merged.contains(&both));
    assert!(!apart.contains(&merged));
    assert_eq!(merged.revoked().len(), 3);
    assert_eq!(merged.number(), Some(&[0, 0x80][..]));
    assert_eq!(merged.this_update(), T0 + 5);
    // And to revoke adds to all of them.
    let lists = [&apart, &both];
    let last = device(4);
    let revoked =
        RevocationList::revoke(lists, &last, &account, key.as_ref(), &AwsLc, T0 + 6).unwrap();
    assert!(revoked.lists(&last) && revoked.contains(&merged));
    assert_eq!(revoked.revoked().len(), 4);
}

#[test]
fn full_lists_do_not_hinder_the_next_one() {
    let key = read_key(include_bytes!("data/identity/keys/account.pem"));
    let account = chain(DEVICE).account;
    let list = |first: u32, many: u32| {
        let revoked: Vec<_> = (first..first + many)
            .map(|n| Revoked {
                serial: [&[1], &n.to_be_bytes()[..]].concat(),
                date: T0,
            })
            .collect();
        RevocationList::sign(&account, key.as_ref(), T0, &[1], &revoked)
    };
    assert_eq!(list(0, 3000), Err(RevocationError::TooLarge));
    // As somebody with the account's key may make them.
    let mut lists: Vec<_> = (0..8).map(|n| list(n * 2600, 2600).unwrap()).collect();
    let (one, two) = (sign(1, &[1]), sign(1, &[2]));
    lists.extend([one.clone(), two.clone()]);
    let merged = RevocationList::merge(&lists, &account, key.as_ref(), &AwsLc, T0);
    let merged = merged.unwrap().unwrap();
    assert!(merged.contains(&one) && merged.contains(&two));
    let last = device(3);
    let revoked = RevocationList::revoke(&lists, &last, &account, key.as_ref(), &AwsLc, T0);
    let revoked = revoked.unwrap();
    assert!(revoked.lists(&last) && revoked.contains(&one) && revoked.contains(&two));
    assert!(revoked.der().len() <= MAX_REVOCATION_LIST_LEN);
    // One entry that fills a list is that of no certificate: it takes nobody's room.
    let full = Revoked {
        serial: vec![1; 60_000],
        date: T0,
    };
    let full = RevocationList::sign(&account, key.as_ref(), T0, &[1], &[full]).unwrap();
    assert!(full.der().len() > 60_000 && full.revoked().is_empty());
    let owners = sign(2, &[1, 2]);
    let lists = [&full, &owners];
    let revoked = RevocationList::revoke(lists, &last, &account, key.as_ref(), &AwsLc, T0);
    let revoked = revoked.unwrap();
    assert!(revoked.lists(&last) && revoked.contains(&owners));
    // As many as have room leave none, but for the one that is taken back now.
    for many in 2300..2460 {
        let full = list(0, many).unwrap();
        let revoked = RevocationList::revoke([&full], &last, &account, key.as_ref(), &AwsLc, T0);
        assert!(revoked.unwrap().lists(&last), "{many}");
    }
}

/// Whoever has the account's key may sign one with any number.
#[test]
fn a_long_number_does_not_hinder_the_next_list() {
    let key = read_key(include_bytes!("data/identity/keys/account.pem"));
    let account = chain(DEVICE).account;
    let revoke = |number: &[u8]| {
        let revoked = [Revoked {
            serial: vec![1],
            date: T0,
        }];
        let list = RevocationList::sign(&account, key.as_ref(), T0, number, &revoked).unwrap();
        let next = RevocationList::revoke(
            [&sign(5, &[5]), &list],
            &device(3),
            &account,
            key.as_ref(),
            &AwsLc,
            T0,
        );
        let next = next.unwrap();
        assert!(next.lists(&device(3)) && next.contains(&list));
        (list.number().is_some(), next.number().unwrap().to_vec())
    };
    assert_eq!(revoke(&vec![1; 60_000]), (false, vec![6]));
    assert_eq!(revoke(&[1; 21]), (false, vec![6]));
    let mut more = [1; 20];
    more[19] = 2;
    assert_eq!(revoke(&[1; 20]), (true, more.to_vec()));
    // The last one there is: it starts over.
    let mut last = [0xff; 20];
    last[0] = 0x7f;
    assert_eq!(revoke(&last).1.len(), 8);
}

#[test]
fn a_certificate_whose_serial_number_fills_a_list_is_none() {
    let with = |serial: &[u8]| {
        let element = |tag: u8, inside: &[u8]| {
            [&[tag, u8::try_from(inside.len()).unwrap()][..], inside].concat()
        };
        let tbs = element(0x30, &element(2, serial));
        let (algorithm, signature) = (element(0x30, &[]), element(3, &[0]));
        let der = element(0x30, &[tbs, algorithm, signature].concat());
        Certificate::from_der(&der).unwrap_err()
    };
    assert_eq!(with(&[1; 21]), CertificateError::LongSerial);
    // Padding does not count: that one only ends too early.
    let padded = [&[0][..], &[1; 20]].concat();
    for serial in [&[1; 20][..], &padded] {
        assert!(matches!(with(serial), CertificateError::Structure(_)));
    }
}

#[test]
fn a_list_is_made_and_grows() {
    let key = AwsLc.generate_rsa(2048).unwrap();
    // The list is checked against whoever holds the key of the certificate it is made for.
    let c = chain(DEVICE2);
    let first =
        RevocationList::revoke(None, &c.device, &c.account, key.as_ref(), &AwsLc, T0).unwrap();
    assert_eq!(RevocationList::from_der(first.der()).unwrap(), first);
    assert!(first.is_about(&c.account) && first.lists(&c.device));
    let check = SignatureCheck {
        key: key.public_key().into(),
        ..first.signature_check(&c.account)
    };
    assert!(AwsLc.verify(&check));
    let other = chain(DEVICE).device;
    let second = RevocationList::revoke(
        Some(&first),
        &other,
        &c.account,
        key.as_ref(),
        &AwsLc,
        T0 + 1,
    )
    .unwrap();
    assert!(second.lists(&c.device) && second.lists(&other));
    assert!(second.number() > first.number());
    // Again: nothing is listed twice, and the date is the first one.
    let third = RevocationList::revoke(
        Some(&second),
        &other,
        &c.account,
        key.as_ref(),
        &AwsLc,
        T0 + 2,
    )
    .unwrap();
    let sorted = |list: &RevocationList| {
        let mut revoked = list.revoked().to_vec();
        revoked.sort_by(|a, b| a.serial.cmp(&b.serial));
        revoked
    };
    assert_eq!(sorted(&third), sorted(&second));
}

#[test]
fn the_list_of_the_vectors_is_written_byte_for_byte() {
    let key = read_key(include_bytes!("data/identity/keys/account.pem"));
    let crl = RevocationList::from_der(CRL).unwrap();
    let again = RevocationList::sign(
        &chain(DEVICE).account,
        key.as_ref(),
        crl.this_update(),
        crl.number().unwrap(),
        crl.revoked(),
    )
    .unwrap();
    assert_eq!(again.der(), CRL);
}

fn read_key(pem: &[u8]) -> Box<dyn starling_core::crypto::PrivateKey> {
    starling_core::identity::private_key_from_pem(&AwsLc, pem).unwrap()
}

#[test]
fn a_chain_out_of_order_or_mixed_is_refused() {
    let c = chain(DEVICE);
    let p = chain(PEER);
    let verify =
        |certs: Vec<Certificate>, now| CertificateChain::new(certs)?.verify(&AwsLc, now, &[]);
    let (device, account, ca) = (c.device.clone(), c.account.clone(), c.ca[0].clone());
    assert_eq!(verify(vec![device.clone()], T0), Err(ChainError::NoIssuer));
    assert_eq!(
        verify(vec![device.clone(), ca.clone(), account.clone()], T0),
        Err(ChainError::WrongIssuer { at: 0 })
    );
    assert_eq!(
        verify(vec![device.clone(), p.account.clone()], T0),
        Err(ChainError::WrongIssuer { at: 0 })
    );
    assert_eq!(
        verify(vec![device.clone(), account.clone(), p.ca[0].clone()], T0),
        Err(ChainError::WrongIssuer { at: 1 })
    );
    // Two are enough: the account is the anchor then.
    assert_eq!(verify(vec![device.clone(), account.clone()], T0), Ok(()));
    assert_eq!(
        verify(vec![device.clone(), account.clone(), ca.clone()], T0 - 1),
        Err(ChainError::NotYetValid { at: 0 })
    );
    assert_eq!(
        verify(vec![device.clone(), account, ca], T0 + 3650 * 86_400 + 1),
        Err(ChainError::Expired { at: 0 })
    );
    assert_eq!(
        verify(vec![device; 9], T0),
        Err(ChainError::Certificate(CertificateError::TooMany(8)))
    );
}

#[test]
fn every_bent_signature_and_name_is_refused() {
    let c = chain(DEVICE);
    // Inside the serial number: a valid certificate that nobody signed.
    let mut der = c.device.der().to_vec();
    let at = der.windows(8).position(|w| w == [0x33; 8]).unwrap();
    der[at] = 0x34;
    let mut bent = c.clone();
    bent.device = Certificate::from_der(&der).unwrap();
    assert_eq!(
        bent.verify(&AwsLc, T0, &[]),
        Err(ChainError::BadSignature { at: 0 })
    );
    let mut der = c.account.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    let mut bent = c.clone();
    bent.account = Certificate::from_der(&der).unwrap();
    assert_eq!(
        bent.verify(&AwsLc, T0, &[]),
        Err(ChainError::BadSignature { at: 1 })
    );
    // A device may not sign devices.
    let mut der = c.account.der().to_vec();
    let ca = [0x30, 0x03, 0x01, 0x01, 0xff];
    let at = der.windows(5).position(|w| w == ca).unwrap();
    der[at + 4] = 0;
    let mut bent = c;
    bent.account = Certificate::from_der(&der).unwrap();
    assert_eq!(
        bent.verify(&AwsLc, T0, &[]),
        Err(ChainError::NotCa { at: 1 })
    );
}

/// 1.2.840.113549.1.1: RSA, and its ways to sign by the byte that follows.
const PKCS1: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];

/// The last byte of each signature algorithm's name: the signed one, and the one beside the signature.
fn algorithms(der: &[u8], named: u8) -> [usize; 2] {
    let name = [&PKCS1[..], &[named]].concat();
    let found: Vec<_> = der
        .windows(9)
        .enumerate()
        .filter(|(_, w)| *w == name)
        .map(|(at, _)| at + 8)
        .collect();
    found.try_into().unwrap()
}

#[test]
fn two_names_for_one_signature_are_a_contradiction() {
    let c = chain(DEVICE);
    // Of a certificate: sha384WithRSAEncryption, 12.
    for at in algorithms(c.device.der(), 12) {
        let mut der = c.device.der().to_vec();
        der[at] = 11;
        assert_eq!(
            Certificate::from_der(&der),
            Err(CertificateError::AlgorithmMismatch)
        );
        let text = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n{}",
            base64(&der),
            c.account.pem()
        );
        assert_eq!(
            CertificateChain::from_pem(text.as_bytes()),
            Err(CertificateError::AlgorithmMismatch.into())
        );
    }
    // Of a list: sha512WithRSAEncryption, 13.
    for at in algorithms(CRL, 13) {
        let mut der = CRL.to_vec();
        der[at] = 11;
        assert_eq!(
            RevocationList::from_der(&der),
            Err(RevocationError::AlgorithmMismatch)
        );
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    BASE64_STANDARD.encode(bytes)
}

#[test]
fn old_ways_to_sign_are_refused() {
    let c = chain(DEVICE);
    // MD2, MD5, SHA-1, PSS and SHA-224.
    for weak in [2, 4, 5, 10, 14] {
        let bend = |of: &Certificate| {
            let mut der = of.der().to_vec();
            for at in algorithms(of.der(), 12) {
                der[at] = weak;
            }
            Certificate::from_der(&der).unwrap()
        };
        let (device, account) = (bend(&c.device), bend(&c.account));
        assert_eq!(
            device.signature_check(&c.account),
            Err(CertificateError::UnsupportedSignature)
        );
        for bent in [
            CertificateChain {
                device,
                ..c.clone()
            },
            CertificateChain {
                account,
                ..c.clone()
            },
        ] {
            let refused = Err(CertificateError::UnsupportedSignature.into());
            assert_eq!(bent.verify(&AwsLc, T0, &[]), refused);
        }
        let mut der = CRL.to_vec();
        for at in algorithms(CRL, 13) {
            der[at] = weak;
        }
        assert_eq!(
            RevocationList::from_der(&der),
            Err(RevocationError::UnsupportedSignature)
        );
    }
    // Who signed the topmost one is of no interest.
    let mut der = c.ca[0].der().to_vec();
    for at in algorithms(c.ca[0].der(), 12) {
        der[at] = 5;
    }
    let mut top = c;
    top.ca = vec![Certificate::from_der(&der).unwrap()];
    assert_eq!(top.verify(&AwsLc, T0, &[]), Ok(()));
}

/// A certificate whose modulus has only so many bits: what is above them is padding then.
fn shortened(of: &Certificate, bits: u32) -> Certificate {
    let mut der = of.der().to_vec();
    let key = [&PKCS1[..], &[1, 5, 0]].concat();
    let key = der.windows(key.len()).position(|w| w == key).unwrap();
    // INTEGER with a length of two bytes, and the zero before a positive number.
    let at = key
        + der[key..]
            .windows(2)
            .position(|w| w == [0x02, 0x82])
            .unwrap();
    let len = usize::from(u16::from_be_bytes([der[at + 2], der[at + 3]]));
    let modulus = &mut der[at + 4..at + 4 + len];
    assert_eq!((modulus[0], modulus[1] >> 7), (0, 1));
    let bits = usize::try_from(bits).unwrap();
    let top = len - bits.div_ceil(8);
    modulus[..top].fill(0);
    let digit = 1 << ((bits + 7) % 8);
    modulus[top] = digit | (modulus[top] & (digit - 1));
    Certificate::from_der(&der).unwrap()
}

#[test]
fn short_keys_are_refused_wherever_they_stand() {
    let c = chain(ANN);
    let with = |at: usize, bits: u32| {
        let mut all: Vec<_> = c.iter().cloned().collect();
        all[at] = shortened(&all[at], bits);
        assert_eq!(all[at].rsa_bits(), Some(bits));
        CertificateChain::new(all).unwrap()
    };
    for at in 0..3 {
        for bits in [1, 512, 1024, 2047] {
            let weak = Err(ChainError::WeakKey { at, bits });
            assert_eq!(with(at, bits).verify(&AwsLc, DAEMON_NOW, &[]), weak);
        }
        for bits in [2048, 4095] {
            assert_eq!(with(at, bits).check_structure(DAEMON_NOW), Ok(()));
        }
    }
}

#[test]
fn serial_numbers_may_be_negative_or_padded() {
    let c = chain(DEVICE);
    let der = c.device.der();
    let at = der.windows(8).position(|w| w == [0x33; 8]).unwrap();
    for serial in [[0xff; 8], [0; 8], [0x80, 0, 0, 0, 0, 0, 0, 0]] {
        let mut der = der.to_vec();
        der[at..at + 8].copy_from_slice(&serial);
        assert_eq!(Certificate::from_der(&der).unwrap().serial(), serial);
    }
}

#[test]
fn text_around_certificates_is_skipped_and_broken_text_named() {
    let mut published = vec![0xc5, 0x16, 0x20];
    published.extend_from_slice(DEVICE);
    published.extend_from_slice(b"\ntrailing");
    assert_eq!(chain(&published), chain(DEVICE));
    let windows = String::from_utf8(DEVICE.to_vec())
        .unwrap()
        .replace('\n', "\r\n");
    assert_eq!(chain(windows.as_bytes()).to_pem().as_bytes(), DEVICE);

    let error = |text: &[u8]| CertificateChain::from_pem(text).unwrap_err();
    let named = |e| ChainError::Certificate(e);
    assert_eq!(error(b""), named(CertificateError::NoCertificate));
    assert_eq!(error(b"hello"), named(CertificateError::NoCertificate));
    assert_eq!(
        error(&DEVICE[..DEVICE.len() - 30]),
        named(CertificateError::BadPem)
    );
    assert_eq!(
        error(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
        named(CertificateError::BadPem)
    );
    assert_eq!(
        error(b"-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"),
        named(CertificateError::Structure(DerError::Trailing(1)))
    );
    assert_eq!(
        error(&vec![b' '; 65 * 1024]),
        named(CertificateError::TooLarge(64 * 1024))
    );
    assert_eq!(
        Certificate::from_der(&vec![0; 65 * 1024]),
        Err(CertificateError::TooLarge(64 * 1024))
    );
    assert_eq!(
        RevocationList::from_der(&vec![0; 65 * 1024]),
        Err(RevocationError::TooLarge)
    );
    assert_eq!(
        RevocationList::from_der(&CRL[..100]),
        Err(RevocationError::Structure(DerError::Truncated))
    );
}

#[test]
fn cut_certificates_are_errors() {
    let c = chain(DEVICE2);
    for der in [c.device.der(), c.account.der(), CRL] {
        for len in 0..der.len() {
            assert!(Certificate::from_der(&der[..len]).is_err());
            assert!(RevocationList::from_der(&der[..len]).is_err());
        }
    }
}

proptest! {
    #[test]
    fn bent_bytes_never_panic_and_never_verify(at in 0usize..1300, to in any::<u8>()) {
        let c = chain(DEVICE2);
        let mut der = c.device.der().to_vec();
        let at = at % der.len();
        prop_assume!(der[at] != to);
        der[at] = to;
        if let Ok(device) = Certificate::from_der(&der) {
            let bent = CertificateChain { device, ..c };
            prop_assert!(bent.verify(&AwsLc, T0, &[]).is_err());
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Certificate::from_der(&bytes);
        let _ = RevocationList::from_der(&bytes);
        let _ = CertificateChain::from_pem(&bytes);
    }
}
