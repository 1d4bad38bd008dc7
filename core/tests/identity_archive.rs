//! Archives, receipts, new accounts: what daemons wrote is read, what is written is what
//! they would write, byte for byte where nothing is random.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod native;

use std::io::Write as _;
use std::sync::Arc;

use native::AwsLc;
use proptest::prelude::*;
use starling_core::crypto::{Crypto, PrivateKey};
use starling_core::dht::value::Value as DhtValue;
use starling_core::identity::{
    AccountKeys, Announcement, AnnouncementError, Archive, ArchiveError, Certificate,
    CertificateChain, CertificateKind, ChainError, Credential, EthKey, Identity, IdentityError,
    Receipt, ReceiptError, RevocationList, create_account, issue_with_serial, private_key_from_pem,
    private_key_to_pem, stretch,
};

const T0: u64 = 1_767_225_600;
const DAEMON_NOW: u64 = 1_795_250_000;
const PASSWORD: &str = "correct horse battery staple";

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!("data/identity/", $name))
    };
}

fn key(pem: &[u8]) -> Box<dyn PrivateKey> {
    private_key_from_pem(&AwsLc, pem).unwrap()
}

fn chain() -> CertificateChain {
    CertificateChain::from_pem(data!("certs/device-chain.crt")).unwrap()
}

#[test]
fn archives_of_the_vectors_open_and_hold_the_same_json() {
    let json = data!("archive/archive.json");
    let plain = Archive::read(data!("archive/nopassword.gz"), &Credential::None, &AwsLc).unwrap();
    let locked = Archive::read(
        data!("archive/password.gz"),
        &Credential::password(PASSWORD),
        &AwsLc,
    )
    .unwrap();
    let unicode = Archive::read(
        data!("archive/password-unicode.gz"),
        &Credential::password("mot de passe \u{e9}\u{e8} \u{1f511}"),
        &AwsLc,
    )
    .unwrap();
    // The records of the vectors are in the 2023 form, ours in the newest: compared as read.
    let expected = Archive::from_json(json).unwrap();
    for archive in [&plain, &locked, &unicode] {
        assert_eq!(archive.account_key, expected.account_key);
        assert_eq!(archive.ca_key, expected.ca_key);
        assert_eq!(archive.certificates, expected.certificates);
        assert_eq!(archive.contacts, expected.contacts);
        assert_eq!(archive.conversations, expected.conversations);
        assert_eq!(archive.requests, expected.requests);
        assert_eq!(archive.revocation_list, expected.revocation_list);
    }
    assert_eq!(expected.contacts.len(), 1);
    assert_eq!(expected.conversations.len(), 1);
    assert_eq!(expected.requests.len(), 1);
    assert_eq!(
        expected.revocation_list.as_ref().unwrap().der(),
        data!("certs/account.crl.der")
    );
    let certs: String = plain.certificates.iter().map(Certificate::pem).collect();
    assert_eq!(certs.as_bytes(), data!("certs/account-chain.crt"));
    assert_eq!(plain.details["Account.alias"], "Vector");

    // Every member that is no record is written as it was read.
    let mut ours: serde_json::Value = serde_json::from_slice(&expected.to_json(true)).unwrap();
    let mut theirs: serde_json::Value = serde_json::from_slice(json).unwrap();
    for records in [
        "ringAccountContacts",
        "conversations",
        "conversationsRequests",
    ] {
        ours.as_object_mut().unwrap().remove(records);
        theirs.as_object_mut().unwrap().remove(records);
    }
    assert_eq!(ours, theirs);
}

#[test]
fn a_daemons_archive_is_written_as_it_was() {
    let file = data!("daemon/archive-without-password.gz");
    let mut json = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&file[..]), &mut json).unwrap();
    let archive = Archive::read(file, &Credential::None, &AwsLc).unwrap();
    assert_eq!(
        String::from_utf8(archive.to_json(false).to_vec()).unwrap(),
        String::from_utf8(json).unwrap()
    );

    let locked = data!("daemon/archive-with-password.gz");
    let archive = Archive::read(locked, &Credential::password("correct horse"), &AwsLc).unwrap();
    let ann = CertificateChain::from_pem(data!("daemon/ann-chain.pem")).unwrap();
    assert_eq!(
        archive.certificates,
        [ann.account.clone(), ann.ca[0].clone()]
    );
    // The device's certificate hangs on this very key.
    let account = archive.read_account_key(&AwsLc).unwrap();
    assert_eq!(account.public_key(), &*ann.account.spki());
}

/// Rebuilds the daemon's certificates from its keys: not one byte differs.
#[test]
fn certificates_are_issued_as_the_daemon_issues_them() {
    let archive = Archive::read(
        data!("daemon/archive-with-password.gz"),
        &Credential::password("correct horse"),
        &AwsLc,
    )
    .unwrap();
    let ca_key = AwsLc
        .read_private_key(archive.ca_key.as_ref().unwrap())
        .unwrap();
    let account_key = archive.read_account_key(&AwsLc).unwrap();
    for pem in [
        &data!("daemon/ann-chain.pem")[..],
        data!("daemon/dan-chain.pem"),
    ] {
        let chain = CertificateChain::from_pem(pem).unwrap();
        let again =
            |kind, cert: &Certificate, issuer: Option<&Certificate>, key: &dyn PrivateKey| {
                issue_with_serial(
                    kind,
                    &cert.spki(),
                    issuer,
                    key,
                    cert.serial(),
                    cert.not_before(),
                )
                .unwrap()
            };
        let ca = again(CertificateKind::Ca, &chain.ca[0], None, ca_key.as_ref());
        assert_eq!(ca, chain.ca[0]);
        let account = again(
            CertificateKind::Account,
            &chain.account,
            Some(&ca),
            ca_key.as_ref(),
        );
        assert_eq!(account, chain.account);
        let device = again(
            CertificateKind::Device,
            &chain.device,
            Some(&account),
            account_key.as_ref(),
        );
        assert_eq!(device, chain.device);
    }
}

#[test]
fn passwords_are_stretched_as_in_the_vectors() {
    let index: serde_json::Value =
        serde_json::from_slice(data!("archive/archive.index.json")).unwrap();
    let entry = &index["password.gz"];
    let salt = hex::decode(entry["salt"].as_str().unwrap()).unwrap();
    let key = stretch(PASSWORD.as_bytes(), &salt).unwrap();
    assert_eq!(hex::encode(*key), entry["aes_key"].as_str().unwrap());
    // A stored key opens the file without the password.
    let stored = Archive::stored_key(data!("archive/password.gz"), PASSWORD, &AwsLc).unwrap();
    assert_eq!(stored, key);
    assert!(
        Archive::read(
            data!("archive/password.gz"),
            &Credential::Key(stored),
            &AwsLc
        )
        .is_ok()
    );
}

#[test]
fn archives_are_written_opened_and_change_their_password() {
    let archive = Archive::read(data!("archive/nopassword.gz"), &Credential::None, &AwsLc).unwrap();
    let same = |other: &Archive| assert_eq!(*other.to_json(true), *archive.to_json(true));
    let plain = archive.write(&Credential::None, &AwsLc).unwrap();
    assert_eq!(&plain[..3], [0x1f, 0x8b, 0x08]);
    same(&Archive::read(&plain, &Credential::None, &AwsLc).unwrap());
    // Whoever types a password for an open archive is let in.
    same(&Archive::read(&plain, &Credential::password("x"), &AwsLc).unwrap());

    let secret = Credential::password("secret");
    let locked = archive.write(&secret, &AwsLc).unwrap();
    let opened = Archive::read(&locked, &secret, &AwsLc).unwrap();
    same(&opened);
    // The salt stays from one writing to the next, so that stored keys go on working.
    assert_eq!(opened.write(&secret, &AwsLc).unwrap()[..16], locked[..16]);
    let error = |file: &[u8], credential| Archive::read(file, &credential, &AwsLc).unwrap_err();
    assert_eq!(
        error(&locked, Credential::password("wrong")),
        ArchiveError::WrongPassword
    );
    assert_eq!(
        error(&locked, Credential::None),
        ArchiveError::NeedsPassword
    );
    assert_eq!(
        error(&locked, Credential::password("")),
        ArchiveError::NeedsPassword
    );
    assert_eq!(
        archive
            .write(&Credential::Key([1; 32].into()), &AwsLc)
            .unwrap_err(),
        ArchiveError::NoSalt
    );

    let changed = Archive::change_password(&locked, &secret, "", &AwsLc).unwrap();
    same(&Archive::read(&changed, &Credential::None, &AwsLc).unwrap());

    // A web server may have packed either once more.
    for (file, credential) in [(&plain, Credential::None), (&locked, secret)] {
        let mut again = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        again.write_all(file).unwrap();
        same(&Archive::read(&again.finish().unwrap(), &credential, &AwsLc).unwrap());
    }
}

#[test]
fn bad_archives_are_refused_by_name() {
    let read = |file: &[u8]| Archive::read(file, &Credential::None, &AwsLc).unwrap_err();
    assert_eq!(read(b""), ArchiveError::Truncated);
    assert_eq!(read(b"hello"), ArchiveError::Truncated);
    assert_eq!(read(&[7; 100]), ArchiveError::NeedsPassword);
    assert_eq!(
        read(&data!("archive/nopassword.gz")[..5000]),
        ArchiveError::Truncated
    );
    assert_eq!(read(&vec![0; 17 * 1024 * 1024]), ArchiveError::TooLarge);
    // 64 MiB of nothing in 64 KiB.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        bomb.write_all(&[b' '; 1024 * 1024]).unwrap();
    }
    assert_eq!(read(&bomb.finish().unwrap()), ArchiveError::TooLarge);

    let gzip = |json: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(json.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    assert_eq!(read(&gzip("{}")), ArchiveError::NoAccountKey);
    assert_eq!(read(&gzip("{\"a\":}")), ArchiveError::Damaged("JSON"));
    assert_eq!(
        read(&gzip(r#"{"ringAccountKey":"!"}"#)),
        ArchiveError::Damaged("ringAccountKey")
    );
    assert_eq!(
        read(&gzip(r#"{"ringAccountKey":"aGVsbG8="}"#)),
        ArchiveError::Damaged("ringAccountKey")
    );
    let deep = format!("{{\"a\":{}", "[".repeat(100_000) + "}");
    assert_eq!(read(&gzip(&deep)), ArchiveError::Damaged("JSON"));

    // One bit of an encrypted archive, anywhere.
    let mut bent = data!("archive/password.gz").to_vec();
    let at = bent.len() / 2;
    bent[at] ^= 1;
    let error = Archive::read(&bent, &Credential::password(PASSWORD), &AwsLc).unwrap_err();
    assert_eq!(error, ArchiveError::WrongPassword);
}

#[test]
fn the_ethereum_address_of_the_vectors() {
    let eth: serde_json::Value = serde_json::from_slice(data!("eth.json")).unwrap();
    let private = hex::decode(eth["private"].as_str().unwrap()).unwrap();
    let key = EthKey::from_bytes(&private).unwrap();
    assert_eq!(key.address(), eth["address"].as_str().unwrap());
    assert!(EthKey::from_bytes(&[0; 32]).is_err());
    assert!(EthKey::from_bytes(&[0xff; 32]).is_err());
    assert!(EthKey::from_bytes(&[1; 31]).is_err());
    assert_ne!(EthKey::generate(&AwsLc), EthKey::generate(&AwsLc));
}

fn receipt() -> Receipt {
    let text = std::str::from_utf8(data!("receipt/receipt.json")).unwrap();
    Receipt::parse(text, data!("receipt/receipt.sig")).unwrap()
}

#[test]
fn the_receipt_of_the_vectors_is_good_and_written_byte_for_byte() {
    let receipt = receipt();
    assert_eq!(receipt.verify(&AwsLc, &chain()), Ok(()));
    assert_eq!(receipt.announcement().pack(), data!("announce.bin"));
    let again = Receipt::sign(
        key(data!("keys/account.pem")).as_ref(),
        key(data!("keys/device.pem")).public_key(),
        receipt.eth_address(),
    )
    .unwrap();
    assert_eq!(again, receipt);
    assert_eq!(again.text().as_bytes(), data!("receipt/receipt.json"));
    assert_eq!(again.signature(), data!("receipt/receipt.sig"));
}

#[test]
fn an_identity_is_loaded_only_when_everything_fits() {
    let device: Arc<dyn PrivateKey> = key(data!("keys/device.pem")).into();
    let device2: Arc<dyn PrivateKey> = key(data!("keys/device2.pem")).into();
    let chain2 = CertificateChain::from_pem(data!("certs/device2-chain.crt")).unwrap();
    let crl = RevocationList::from_der(data!("certs/account.crl.der")).unwrap();
    let load =
        |key: &Arc<dyn PrivateKey>, chain: &CertificateChain, receipt: Receipt, crls: &[_]| {
            Identity::load(&AwsLc, key.clone(), chain.clone(), receipt, crls, T0).map(|_| ())
        };
    assert_eq!(
        load(&device, &chain(), receipt(), std::slice::from_ref(&crl)),
        Ok(())
    );
    assert_eq!(
        load(&device2, &chain(), receipt(), &[]),
        Err(IdentityError::WrongDeviceKey)
    );
    assert_eq!(
        load(&device2, &chain2, receipt(), &[]),
        Err(IdentityError::Receipt(ReceiptError::WrongDevice))
    );
    assert_eq!(
        load(&device2, &chain2, receipt(), &[crl]),
        Err(IdentityError::Chain(ChainError::Revoked { at: 0 }))
    );
}

#[test]
fn bad_receipts_are_refused_by_name() {
    let good = receipt();
    let bent = good.text().replace("\"dev\"", " \"dev\"");
    let bent = Receipt::parse(&bent, good.signature()).unwrap();
    assert_eq!(
        bent.verify(&AwsLc, &chain()),
        Err(ReceiptError::BadSignature)
    );
    let peer = CertificateChain::from_pem(data!("certs/peer-device-chain.crt")).unwrap();
    assert_eq!(good.verify(&AwsLc, &peer), Err(ReceiptError::BadSignature));
    // Signed by the account, but about something else.
    let account = key(data!("keys/account.pem"));
    let resign = |text: &str| {
        let signature = account
            .sign(
                starling_core::crypto::SignatureAlgorithm::RsaPkcs1Sha512,
                text.as_bytes(),
            )
            .unwrap();
        Receipt::parse(text, &signature).unwrap()
    };
    let other = "0".repeat(40);
    let device = chain().short_id().to_hex();
    assert_eq!(
        resign(&good.text().replace(&device, &other)).verify(&AwsLc, &chain()),
        Err(ReceiptError::WrongDevice)
    );
    let id = chain().account_id().to_hex();
    assert_eq!(
        resign(&good.text().replace(&id, &other)).verify(&AwsLc, &chain()),
        Err(ReceiptError::WrongAccount)
    );
    // The announcement of another device, and one from before keys were announced.
    let announce = |text: &str, value: &DhtValue| {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        let old = BASE64_STANDARD.encode(good.announcement().pack());
        text.replace(&old, &BASE64_STANDARD.encode(value.pack()))
    };
    let device2 = key(data!("keys/device2.pem"));
    let of_other = Announcement::of_key(device2.public_key())
        .sign(account.as_ref())
        .unwrap();
    assert_eq!(
        resign(&announce(good.text(), &of_other)).verify(&AwsLc, &chain()),
        Err(ReceiptError::WrongDevice)
    );
    let without_key = Announcement {
        short_id: chain().short_id(),
        key: None,
    };
    let without_key = without_key.sign(account.as_ref()).unwrap();
    assert_eq!(
        resign(&announce(good.text(), &without_key)).verify(&AwsLc, &chain()),
        Err(ReceiptError::NoKey)
    );
    let by_device = Announcement::of_key(&chain().device.spki())
        .sign(device2.as_ref())
        .unwrap();
    assert_eq!(
        resign(&announce(good.text(), &by_device)).verify(&AwsLc, &chain()),
        Err(ReceiptError::Announcement(AnnouncementError::WrongOwner))
    );
    for (text, error) in [
        ("", ReceiptError::Malformed("the JSON")),
        ("[]", ReceiptError::Malformed("announce")),
        (r#"{"announce":"!"}"#, ReceiptError::Malformed("announce")),
        (
            r#"{"announce":"gA==","id":"x"}"#,
            ReceiptError::Malformed("id"),
        ),
    ] {
        assert_eq!(Receipt::parse(text, &[]).unwrap_err(), error, "{text}");
    }
    assert_eq!(
        Receipt::parse(&" ".repeat(20_000), &[]).unwrap_err(),
        ReceiptError::TooLarge
    );
}

#[test]
fn announcements_say_who_and_are_believed_only_from_the_account() {
    let account = chain().account_id();
    for packed in [&data!("announce.bin")[..], data!("announce-newest.bin")] {
        let value = DhtValue::unpack_bytes(packed).unwrap();
        let announced = Announcement::verify(&AwsLc, &account, &value).unwrap();
        assert_eq!(announced.short_id, chain().short_id());
        assert_eq!(announced.device_id(), Some(chain().device_id()));
        assert_eq!(Announcement::decode(&announced.encode()), Ok(announced));
    }
    let value = DhtValue::unpack_bytes(data!("announce.bin")).unwrap();
    let other = CertificateChain::from_pem(data!("daemon/ann-chain.pem")).unwrap();
    assert_eq!(
        Announcement::verify(&AwsLc, &other.account_id(), &value),
        Err(AnnouncementError::WrongOwner)
    );
    let mut bent = data!("announce.bin").to_vec();
    let last = bent.len() - 1;
    bent[last] ^= 1;
    let bent = DhtValue::unpack_bytes(&bent).unwrap();
    assert_eq!(
        Announcement::verify(&AwsLc, &account, &bent),
        Err(AnnouncementError::BadSignature)
    );
    assert_eq!(
        Announcement::decode(&[0x80]),
        Err(AnnouncementError::NoDevice)
    );
    let two = Announcement {
        short_id: other.short_id(),
        ..Announcement::of_key(&chain().device.spki())
    };
    assert_eq!(
        Announcement::decode(&two.encode()),
        Err(AnnouncementError::Contradiction)
    );
}

/// Small keys where nothing depends on their length: RSA-4096 takes seconds.
fn small_keys() -> AccountKeys {
    AccountKeys {
        ca: AwsLc.generate_rsa(2048).unwrap(),
        account: AwsLc.generate_rsa(2048).unwrap(),
        device: AwsLc.generate_rsa(2048).unwrap(),
    }
}

#[test]
fn alice_makes_an_account_and_comes_back_on_another_machine() {
    let (archive, first) = create_account(&AwsLc, DAEMON_NOW, small_keys()).unwrap();
    assert_eq!(first.chain.verify(&AwsLc, DAEMON_NOW, &[]), Ok(()));
    assert_eq!(first.receipt.account_id(), first.account_id());
    let id = first.account_id().to_hex();
    assert_eq!(first.chain.account.subject_uid(), Some(&*id));

    // What she stores on the first machine loads again.
    let pem = private_key_to_pem(first.device_key.as_ref());
    let loaded = Identity::load(
        &AwsLc,
        key(pem.as_bytes()).into(),
        CertificateChain::from_pem(first.chain.to_pem().as_bytes()).unwrap(),
        Receipt::parse(first.receipt.text(), first.receipt.signature()).unwrap(),
        &[],
        DAEMON_NOW + 1,
    )
    .unwrap();
    assert_eq!(loaded.chain, first.chain);

    let file = archive
        .write(&Credential::password("alice"), &AwsLc)
        .unwrap();
    let mut archive = Archive::read(&file, &Credential::password("alice"), &AwsLc).unwrap();
    let second = archive
        .new_device(&AwsLc, DAEMON_NOW + 9, AwsLc.generate_rsa(2048).unwrap())
        .unwrap();
    assert_eq!(second.account_id(), first.account_id());
    assert_ne!(second.device_id(), first.device_id());
    assert_eq!(second.receipt.eth_address(), first.receipt.eth_address());

    // She takes the first machine back; the second one goes on.
    let account_key = archive.read_account_key(&AwsLc).unwrap();
    let crl = RevocationList::revoke(
        None,
        &first.chain.device,
        &first.chain.account,
        account_key.as_ref(),
        &AwsLc,
        DAEMON_NOW + 10,
    )
    .unwrap();
    let crls = [crl];
    assert_eq!(
        first.chain.verify(&AwsLc, DAEMON_NOW + 11, &crls),
        Err(ChainError::Revoked { at: 0 })
    );
    assert_eq!(second.chain.verify(&AwsLc, DAEMON_NOW + 11, &crls), Ok(()));
    archive.revocation_list = crls.first().cloned();
    let again = Archive::from_json(&archive.to_json(false)).unwrap();
    assert_eq!(again.revocation_list, archive.revocation_list);
}

#[test]
fn certificates_that_ran_out_are_renewed_and_ids_stay() {
    let (mut archive, first) = create_account(&AwsLc, T0, small_keys()).unwrap();
    let later = T0 + 11 * 365 * 86_400;
    assert_eq!(
        first.chain.verify(&AwsLc, later, &[]),
        Err(ChainError::Expired { at: 0 })
    );
    assert!(!archive.renew(&AwsLc, T0 + 1).unwrap());
    let second = archive
        .new_device(&AwsLc, later, AwsLc.generate_rsa(2048).unwrap())
        .unwrap();
    assert_eq!(second.account_id(), first.account_id());
    assert_eq!(second.chain.verify(&AwsLc, later, &[]), Ok(()));
    // Without the CA's key nothing can be renewed.
    archive.ca_key = None;
    let too_late = later + 11 * 365 * 86_400;
    assert!(matches!(
        archive.new_device(&AwsLc, too_late, AwsLc.generate_rsa(2048).unwrap()),
        Err(IdentityError::Chain(ChainError::Expired { .. }))
    ));
}

#[test]
fn an_archive_whose_key_and_certificate_differ_makes_no_device() {
    let (mut archive, _) = create_account(&AwsLc, T0, small_keys()).unwrap();
    archive.account_key = AwsLc.generate_rsa(2048).unwrap().to_pkcs8();
    assert_eq!(
        archive
            .new_device(&AwsLc, T0, AwsLc.generate_rsa(2048).unwrap())
            .unwrap_err(),
        IdentityError::WrongAccountKey
    );
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
        let _ = Archive::read(&bytes, &Credential::None, &AwsLc);
        let _ = Archive::from_json(text.as_bytes());
        let _ = Receipt::parse(&text, &bytes);
        let _ = Announcement::decode(&bytes);
    }
}
