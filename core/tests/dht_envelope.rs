//! Signed and encrypted values against those of the reference library.
#![allow(clippy::unwrap_used)]

mod native;

use native::AwsLc;
use serde_json::Value as Json;
use starling_core::crypto::{Crypto, CryptoError, PrivateKey};
use starling_core::dht::envelope::{self, EnvelopeError};
use starling_core::dht::types::{self, Refused};
use starling_core::dht::value::{Content, Value};
use starling_core::id::{DeviceId, InfoHash};
use std::sync::Arc;

fn key(name: &str) -> Box<dyn PrivateKey> {
    let pem = match name {
        "alice-device" => include_str!("data/dht/identities/alice-device.pem"),
        "bob" => include_str!("data/dht/identities/bob.pem"),
        "carol4096" => include_str!("data/dht/identities/carol4096.pem"),
        other => panic!("no key of {other}"),
    };
    let (_, der) = pem_rfc7468::decode_vec(pem.as_bytes()).unwrap();
    AwsLc.read_private_key(&der).unwrap()
}

fn vectors(json: &str) -> Vec<Json> {
    serde_json::from_str(json).unwrap()
}

fn values() -> Vec<Json> {
    vectors(include_str!("data/dht/values.json"))
}

fn unhex(v: &Json) -> Vec<u8> {
    hex::decode(v.as_str().unwrap()).unwrap()
}

#[test]
fn values_of_the_reference_open() {
    let (mut signed, mut encrypted) = (0, 0);
    for v in values() {
        let name = v["name"].as_str().unwrap();
        let value = Value::unpack_bytes(&unhex(&v["packed"])).unwrap();
        if value.is_encrypted() {
            encrypted += 1;
            let recipient = v["recipient_name"].as_str().unwrap();
            let open = envelope::open(&AwsLc, Some(&*key(recipient)), &value).unwrap();
            assert_eq!(
                hex::encode(open.data()),
                v["data"].as_str().unwrap(),
                "{name}"
            );
            assert_eq!(open.id, value.id);
            assert_eq!(
                hex::encode(open.clear().unwrap().to_encrypt()),
                v["plain_to_encrypt"].as_str().unwrap()
            );
            let sender = key(v["sender"].as_str().unwrap());
            assert_eq!(&**open.owner().unwrap(), sender.public_key());
            // Nobody else opens it.
            assert_eq!(
                envelope::open(&AwsLc, None, &value),
                Err(EnvelopeError::Crypto(CryptoError::Decrypt))
            );
            assert!(envelope::open(&AwsLc, Some(&*sender), &value).is_err());
        } else if let Some(s) = value.signed() {
            signed += 1;
            assert_eq!(envelope::open(&AwsLc, None, &value), Ok(value.clone()));
            // RSA signatures are deterministic: ours is theirs.
            let signer = ["alice-device", "bob", "carol4096"]
                .map(key)
                .into_iter()
                .find(|k| k.public_key() == &*s.owner)
                .unwrap();
            assert_eq!(
                envelope::sign(&*signer, &value, s.seq, s.recipient).unwrap(),
                value,
                "{name}"
            );
            let mut forged = value.clone();
            if let Content::Clear(c) = &mut forged.content {
                c.data.push(0);
            }
            assert_eq!(
                envelope::open(&AwsLc, None, &forged),
                Err(EnvelopeError::Signature)
            );
        }
    }
    assert!(signed >= 4 && encrypted >= 6);
}

#[test]
fn ciphertexts_of_the_reference_open() {
    let mut n = 0;
    for v in vectors(include_str!("data/dht/crypto.json")) {
        if v["op"] != "PublicKey.encrypt" {
            continue;
        }
        let key = key(v["key"].as_str().unwrap());
        let cipher = unhex(&v["cypher"]);
        let len = usize::try_from(v["plaintext_len"].as_u64().unwrap()).unwrap();
        let plain = envelope::decrypt_bytes(&AwsLc, &*key, &cipher).unwrap();
        assert_eq!(plain, vec![0x41; len], "{}", v["name"]);
        // Ours is as long, and opens.
        let ours = envelope::encrypt_bytes(&AwsLc, key.public_key(), &plain).unwrap();
        assert_eq!(ours.len(), cipher.len());
        assert_eq!(envelope::decrypt_bytes(&AwsLc, &*key, &ours), Ok(plain));
        // Any change or cut is noticed where there is a tag.
        if cipher.len() > key.public_key().len() {
            let mut changed = cipher.clone();
            *changed.last_mut().unwrap() ^= 1;
            assert!(envelope::decrypt_bytes(&AwsLc, &*key, &changed).is_err());
        }
        for cut in [0, 1, cipher.len() - 1] {
            assert!(envelope::decrypt_bytes(&AwsLc, &*key, &cipher[..cut]).is_err());
        }
        n += 1;
    }
    assert_eq!(n, 12);
}

#[test]
fn alice_writes_to_bob_and_only_he_reads() {
    let (alice, bob, carol) = (key("alice-device"), key("bob"), key("carol4096"));
    let hello = Value::new(types::USER_DATA, b"hello bob".to_vec())
        .with_user_type("text/plain")
        .with_id(7);
    let sent = envelope::sign_and_encrypt(&AwsLc, &*alice, bob.public_key(), &hello).unwrap();
    assert_eq!(sent.id, 7);
    let got =
        envelope::decrypt(&AwsLc, &*bob, &Value::unpack_bytes(&sent.pack()).unwrap()).unwrap();
    assert_eq!(
        (got.data(), got.user_type()),
        (&b"hello bob"[..], "text/plain")
    );
    assert_eq!(got.owner_id(), Some(InfoHash::of(alice.public_key())));
    assert!(envelope::decrypt(&AwsLc, &*carol, &sent).is_err());

    // Carol passes on to Bob what Alice wrote to Carol: not for him, he sees.
    let to_carol =
        envelope::sign(&*alice, &hello, 0, Some(InfoHash::of(carol.public_key()))).unwrap();
    let cipher = envelope::encrypt_bytes(
        &AwsLc,
        bob.public_key(),
        &to_carol.clear().unwrap().to_encrypt(),
    )
    .unwrap();
    let replayed = Value {
        content: Content::Encrypted(cipher),
        ..hello.clone()
    };
    assert_eq!(
        envelope::decrypt(&AwsLc, &*bob, &replayed),
        Err(EnvelopeError::Recipient)
    );
    // And so does one that is signed for nobody.
    let to_all = envelope::sign(&*alice, &hello, 0, None).unwrap();
    let cipher = envelope::encrypt_bytes(
        &AwsLc,
        bob.public_key(),
        &to_all.clear().unwrap().to_encrypt(),
    )
    .unwrap();
    assert_eq!(
        envelope::decrypt(
            &AwsLc,
            &*bob,
            &Value {
                content: Content::Encrypted(cipher),
                ..hello.clone()
            }
        ),
        Err(EnvelopeError::Recipient)
    );
    assert_eq!(
        envelope::encrypt(&AwsLc, bob.public_key(), &hello),
        Err(EnvelopeError::NotSigned)
    );
    assert_eq!(
        envelope::sign(&*alice, &sent, 0, None),
        Err(EnvelopeError::AlreadyEncrypted)
    );
    assert_eq!(
        envelope::decrypt(&AwsLc, &*bob, &hello),
        Err(EnvelopeError::NotEncrypted)
    );
}

#[test]
fn storing_nodes_refuse_what_the_reference_refuses() {
    let (alice, bob) = (key("alice-device"), key("bob"));
    let at = InfoHash([1; 20]);
    let store = |v: &Value| types::may_store(&AwsLc, &at, v, None).map(|_| ());
    let edit = |a: &Value, b: &Value| types::may_edit(&AwsLc, a, b);
    let plain = |data: &[u8]| Value::new(0, data.to_vec()).with_id(9);
    let signed = |by: &dyn PrivateKey, data: &[u8], seq| {
        envelope::sign(by, &plain(data), seq, None).unwrap()
    };

    assert_eq!(store(&plain(&[0; 65_536])), Ok(()));
    assert_eq!(store(&plain(&[0; 65_537])), Err(Refused::TooLarge));
    let v1 = signed(&*alice, b"one", 1);
    assert_eq!(store(&v1), Ok(()));
    let mut forged = v1.clone();
    if let Content::Clear(c) = &mut forged.content {
        c.data = b"two".to_vec();
    }
    assert_eq!(store(&forged), Err(Refused::Signature));
    // Types nobody registered are stored unseen.
    if let Content::Clear(c) = &mut forged.content {
        c.type_id = 1234;
    }
    assert_eq!(store(&forged), Ok(()));

    assert_eq!(edit(&v1, &signed(&*alice, b"two", 2)), Ok(()));
    assert_eq!(edit(&v1, &signed(&*alice, b"two", 1)), Err(Refused::Edit));
    assert_eq!(edit(&v1, &signed(&*alice, b"one", 1)), Ok(()));
    assert_eq!(edit(&v1, &signed(&*alice, b"two", 0)), Err(Refused::Edit));
    assert_eq!(edit(&v1, &signed(&*bob, b"two", 2)), Err(Refused::Edit));
    // Without an owner nothing is edited: neither clear nor encrypted.
    assert_eq!(edit(&v1, &plain(b"two")), Err(Refused::Edit));
    let cipher = Value {
        content: Content::Encrypted(vec![1; 300]),
        ..v1.clone()
    };
    assert_eq!(edit(&v1, &cipher), Err(Refused::Edit));
    assert_eq!(edit(&plain(b"one"), &plain(b"two")), Err(Refused::Edit));
    assert_eq!(edit(&plain(b"one"), &v1), Err(Refused::Edit));

    // A message must name its service.
    let message = |service: &str| {
        let m = starling_core::msgpack::Value::Array(vec![
            service.into(),
            starling_core::msgpack::Value::Binary(vec![1]),
        ]);
        Value::new(types::DHT_MESSAGE, starling_core::msgpack::encode(&m))
    };
    assert_eq!(store(&message("svc")), Ok(()));
    assert_eq!(store(&message("")), Err(Refused::Content));
}

#[test]
fn certificates_are_stored_where_they_belong() {
    let value = envelope::certificate_value(include_str!("data/dht/identities/alice-device.crt"));
    let alice = key("alice-device");
    let short = InfoHash::of(alice.public_key());
    let long = InfoHash::of(&DeviceId::of_key(alice.public_key()).0);
    let store = |at: &InfoHash, v: &Value| types::may_store(&AwsLc, at, v, None).map(|_| ());
    assert_eq!(store(&short, &value), Ok(()));
    assert_eq!(store(&long, &value), Ok(()));
    assert_eq!(store(&InfoHash([1; 20]), &value), Err(Refused::WrongKey));
    let junk = Value::new(types::CERTIFICATE, b"junk".to_vec());
    assert_eq!(store(&short, &junk), Err(Refused::Content));
    let bobs = envelope::certificate_value(include_str!("data/dht/identities/bob.crt"));
    assert_eq!(types::may_edit(&AwsLc, &value, &value), Ok(()));
    assert_eq!(types::may_edit(&AwsLc, &value, &bobs), Err(Refused::Edit));
    assert_eq!(types::may_edit(&AwsLc, &value, &junk), Err(Refused::Edit));
    let _: Arc<[u8]> = envelope::certificate_key(&bobs).unwrap().into();
}

#[test]
fn service_announcements_get_the_address_of_their_sender() {
    for v in vectors(include_str!("data/dht/types.json")) {
        if v["type"].as_u64() != Some(2) {
            continue;
        }
        let value = Value::new(types::SERVICE_ANNOUNCEMENT, unhex(&v["data"]));
        let stored = types::may_store(
            &AwsLc,
            &InfoHash([1; 20]),
            &value,
            Some("192.0.2.99".parse().unwrap()),
        )
        .unwrap()
        .unwrap();
        // Header, family, port 4222 and the sender's address.
        assert_eq!(
            stored.data()[..10],
            [0xc4, 16, 2, 0, 0x10, 0x7e, 192, 0, 2, 99]
        );
    }
    let none = Value::new(types::SERVICE_ANNOUNCEMENT, vec![0xc4, 4, 2, 0, 0, 0]);
    assert_eq!(
        types::may_store(&AwsLc, &InfoHash([1; 20]), &none, None),
        Err(Refused::Content)
    );
}
