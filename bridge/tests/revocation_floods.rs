//! Revocation lists that cost much: forged ones, and those that cannot be published at once.
#![allow(clippy::unwrap_used)]

mod account_support;
mod owner_support;
mod peer_support;

use account_support::{Bridge, PATIENCE, node};
use owner_support::{Owner, bent_by};
use peer_support::watched::Watched;
use peer_support::*;
use starling_bridge::crypto::AwsLc;
use starling_bridge::peer::{Policy, RevocationStore};
use starling_core::crypto::SignatureCheck;
use starling_core::identity::{Archive, ChainError, Credential, RevocationList};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::time::timeout;

/// Whoever puts forged lists where an account has its own has them checked once, and on no thread on which connections
/// wait.
#[tokio::test]
async fn forged_lists_are_checked_aside_and_once() {
    let world = Arc::new(World::default());
    let (mut owner, laptop) = Owner::new();
    let phone = owner.device();
    let list = owner.list(None, &phone);
    let id = laptop.account_id();
    let forged: Vec<_> = (1..=100).map(|n| bent_by(&list, n)).collect();
    world.lists.lock().unwrap().insert(id, forged.clone());
    let checks = Arc::new(Mutex::new(Vec::new()));
    let crypto = {
        let (checks, said) = (
            checks.clone(),
            list.signature_check(&laptop.chain.account).message,
        );
        Watched(move |check: &SignatureCheck| {
            if check.message == said {
                let who = std::thread::current().id();
                checks.lock().unwrap().push((check.signature.clone(), who));
            }
        })
    };
    let all: Policy = Arc::new(|_, _| true);
    let dir = tempfile::tempdir().unwrap();
    let bob = peer_checking(&world, &bob(), all, dir, Arc::new(crypto)).await;
    let laptop = peer(&world, &Person::of(&laptop)).await;
    let phone = peer(&world, &Person::of(&phone)).await;
    for device in [laptop.device, phone.device] {
        bob.manager.certificate_of(device, id).await.unwrap();
    }
    while checks.lock().unwrap().len() < forged.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // All tasks of this test run on this thread.
    let here = std::thread::current().id();
    assert!(checks.lock().unwrap().iter().all(|(_, who)| *who != here));
    // They are looked for again, and the owner's is there as well.
    world.lists.lock().unwrap().get_mut(&id).unwrap().push(list);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let met = bob.manager.certificate(laptop.device, None).await;
    assert_eq!(met.unwrap().account_id(), id);
    let heard = timeout(PATIENCE, async {
        while !bob.manager.is_revoked(&id, &phone.device) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    heard.await.unwrap();
    let account = &owner.archive.certificates[0];
    for forged in &forged {
        let signature = forged.signature_check(account).signature;
        let checks = checks.lock().unwrap();
        assert_eq!(checks.iter().filter(|(s, _)| *s == signature).count(), 1);
    }
}

/// Who connects meanwhile does not wait until a list is judged.
#[test]
fn a_device_is_checked_while_a_list_is_being_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (mut owner, laptop) = Owner::new();
    let phone = owner.device();
    let list = owner.list(None, &phone);
    let account = &owner.archive.certificates[0];
    let (begun, has_begun) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let (goes_on, said) = (Mutex::new(goes_on), list.signature_check(account).message);
    let crypto = Watched(move |check: &SignatureCheck| {
        if check.message == said {
            begun.send(()).unwrap();
            // Until the other end goes.
            let _ = goes_on.lock().unwrap().recv();
        }
    });
    let own = bob().account();
    let store = RevocationStore::open(dir.path(), own, Arc::new(crypto)).unwrap();
    let taking = {
        let (store, account, list) = (store.clone(), account.clone(), list.clone());
        std::thread::spawn(move || store.take(&account, list, &[]))
    };
    has_begun.recv().unwrap();
    let (answer, answered) = mpsc::channel();
    let checking = {
        let (store, chain) = (store.clone(), laptop.chain.clone());
        std::thread::spawn(move || answer.send(store.check(&chain)))
    };
    let checked = answered.recv_timeout(Duration::from_secs(10));
    drop(go_on);
    checking.join().unwrap().unwrap();
    assert_eq!(taking.join().unwrap(), Ok(true));
    assert_eq!(checked, Ok(Ok(())));
    assert_eq!(
        store.check(&phone.chain),
        Err(ChainError::Revoked { at: 0 })
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_not_published_is_published_later() {
    let world = Arc::new(World::default());
    let (mut owner, laptop) = Owner::new();
    let phone = owner.device();
    let list = owner.list(None, &phone);
    let id = laptop.account_id();
    let laptop = peer(&world, &Person::of(&laptop)).await;
    world.lists_refused.store(3, Ordering::SeqCst);
    laptop.manager.take_list(&id, list.clone()).unwrap();
    let published = timeout(PATIENCE, async {
        while !world.lists.lock().unwrap().contains_key(&id) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    published.await.unwrap();
    assert_eq!(world.lists.lock().unwrap()[&id], [list]);
}

/// A device is removed when nobody is there, and Starling begins again before anybody comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_hears_later_of_a_removed_device() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let backup = alice.account().export(None).await.unwrap();
    let mut owner = Owner::of(Archive::read(&backup, &Credential::None, &AwsLc).unwrap());
    let phone = owner.device();
    let met = alice.account().peers().certificates().pin(&phone.chain);
    met.unwrap();
    drop(first);
    let account = alice.account();
    account
        .revoke_device(phone.device_id(), None)
        .await
        .unwrap();
    drop(account);
    alice.stop().await;
    // Another node: what the first one holds is gone as well.
    alice.dht = node(None);
    alice.open().await;
    let late = node(Some(&alice.dht));
    let heard = timeout(PATIENCE, async {
        loop {
            let found = late.get(alice.id().dht_key()).await;
            let mut lists = found.iter().flat_map(RevocationList::from_value);
            if lists.any(|l| l.lists(&phone.chain.device)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    heard.await.unwrap();
}
