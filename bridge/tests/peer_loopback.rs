//! Two managers in one process, with real sockets and real TLS between them.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod peer_support;

use peer_support::*;
use starling_bridge::peer::{Channel, LinkState, OpenError};
use starling_core::id::ConversationId;
use starling_core::peer::channel_name::ChannelName;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn git(peer: &Peer) -> ChannelName {
    ChannelName::Git {
        device: peer.device,
        conversation: ConversationId([7; 20]),
    }
}

/// Alice opens, Bob accepts.
async fn open(alice: &Peer, bob: &mut Peer, name: ChannelName) -> (Channel, Channel) {
    let (there, here) = tokio::join!(
        async {
            let incoming = bob.incoming.recv().await.unwrap();
            assert_eq!(incoming.name, name);
            assert_eq!(
                (incoming.device, incoming.account),
                (alice.device, alice.account)
            );
            incoming.accept()
        },
        alice
            .manager
            .open(&bob.device, Some(bob.account), name.clone()),
    );
    (here.unwrap(), there)
}

async fn exchange(a: &mut Channel, b: &mut Channel) {
    a.write_all(b"from a").await.unwrap();
    b.write_all(b"from b").await.unwrap();
    let mut buffer = [0; 6];
    b.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"from a");
    a.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"from b");
}

#[tokio::test]
async fn a_channel_opens_and_ends_with_its_data_read() {
    let world = Arc::new(World::default());
    let (alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    let mut events = alice.manager.events();
    let name = git(&bob);
    let (mut a, mut b) = open(&alice, &mut bob, name).await;
    exchange(&mut a, &mut b).await;
    b.write_all(b"last words").await.unwrap();
    drop(b);
    let mut rest = Vec::new();
    a.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"last words");
    assert!(a.write_all(b"too late").await.is_err());

    let mut states = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!(event.device, bob.device);
        states.push(event.state);
    }
    assert_eq!(states[..2], [LinkState::LookingUp, LinkState::Negotiating]);
    let LinkState::Connected { tls, .. } = &states[2] else {
        panic!("{states:?}")
    };
    assert_eq!(tls, "TLSv1_3");
    // A second channel needs no second connection.
    let requests = world.sent.lock().unwrap().len();
    let name = git(&bob);
    let (mut a, mut b) = open(&alice, &mut bob, name).await;
    exchange(&mut a, &mut b).await;
    assert_eq!(world.sent.lock().unwrap().len(), requests);
    assert_eq!(alice.manager.connected(), [(bob.device, bob.account)]);
    assert_eq!(bob.manager.connected(), [(alice.device, alice.account)]);
}

#[tokio::test]
async fn opens_at_the_same_time_share_one_attempt() {
    let world = Arc::new(World::default());
    let (alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    let names: Vec<_> = (0..10)
        .map(|i| ChannelName::Swarm {
            conversation: ConversationId([i; 20]),
        })
        .collect();
    let opens = names
        .iter()
        .map(|n| alice.manager.open(&bob.device, None, n.clone()));
    let accepts = async {
        let mut channels = Vec::new();
        for _ in 0..10 {
            channels.push(bob.incoming.recv().await.unwrap().accept());
        }
        channels
    };
    let (opened, accepted) = tokio::join!(futures_util::future::join_all(opens), accepts);
    let mut opened: Vec<Channel> = opened.into_iter().map(Result::unwrap).collect();
    for mut b in accepted {
        let at = opened.iter().position(|a| a.name() == b.name()).unwrap();
        exchange(&mut opened[at], &mut b).await;
    }
    let sent = world.sent.lock().unwrap();
    assert_eq!(sent.iter().filter(|r| !r.is_answer).count(), 1);
    assert_eq!(sent.iter().filter(|r| r.is_answer).count(), 1);
}

#[tokio::test]
async fn both_asking_at_once_works_for_both() {
    for _ in 0..5 {
        let world = Arc::new(World::default());
        let (mut alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
        let (to_bob, to_alice) = (git(&bob), git(&alice));
        let (a, b, at_alice, at_bob) = tokio::join!(
            alice.manager.open(&bob.device, None, to_bob),
            bob.manager.open(&alice.device, None, to_alice),
            async { alice.incoming.recv().await.unwrap().accept() },
            async { bob.incoming.recv().await.unwrap().accept() },
        );
        let (mut a, mut b, mut at_alice, mut at_bob) = (a.unwrap(), b.unwrap(), at_alice, at_bob);
        exchange(&mut a, &mut at_bob).await;
        exchange(&mut b, &mut at_alice).await;
    }
}

#[tokio::test]
async fn bulk_goes_through_whole_and_does_not_starve_others() {
    let world = Arc::new(World::default());
    let (alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    let name = git(&bob);
    let (mut bulk_a, mut bulk_b) = open(&alice, &mut bob, name.clone()).await;
    let (mut small_a, mut small_b) = open(&alice, &mut bob, name).await;
    let data: Vec<u8> = (0..8_000_000u32).map(|i| (i % 251) as u8).collect();
    let expected = data.clone();
    let sender = tokio::spawn(async move {
        bulk_a.write_all(&data).await.unwrap();
        bulk_a.shutdown().await.unwrap();
    });
    let mut got = vec![0; 100_000];
    bulk_b.read_exact(&mut got).await.unwrap();
    let receiver = tokio::spawn(async move {
        bulk_b.read_to_end(&mut got).await.unwrap();
        got
    });
    exchange(&mut small_a, &mut small_b).await;
    sender.await.unwrap();
    assert!(receiver.await.unwrap() == expected);
}

#[tokio::test]
async fn a_reader_that_sleeps_loses_its_channel_and_nothing_else() {
    let world = Arc::new(World::default());
    let (alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    let name = git(&bob);
    let (mut bulk_a, mut bulk_b) = open(&alice, &mut bob, name.clone()).await;
    let (mut small_a, mut small_b) = open(&alice, &mut bob, name).await;
    // Bob ends the channel, and Alice's writes fail some time.
    let sender = tokio::spawn(async move { while bulk_a.write_all(&[7; 50_000]).await.is_ok() {} });
    sender.await.unwrap();
    exchange(&mut small_a, &mut small_b).await;
    let error = bulk_b.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn declines_are_told_apart_from_losses() {
    let world = Arc::new(World::default());
    let (alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    let (result, ()) = tokio::join!(
        alice.manager.open(&bob.device, None, ChannelName::Sip),
        async { bob.incoming.recv().await.unwrap().decline() },
    );
    assert_eq!(result.unwrap_err(), OpenError::Declined);
    let name = git(&bob);
    let (mut a, b) = open(&alice, &mut bob, name).await;
    // Bob bans Alice while she waits for data.
    bob.manager.close_account(&alice.account);
    let error = a.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    drop(b);
    // She may come again, for all that this layer knows.
    let name = git(&bob);
    let (mut a, mut b) = open(&alice, &mut bob, name).await;
    exchange(&mut a, &mut b).await;
}

#[tokio::test]
async fn who_is_not_let_in_hears_nothing() {
    let world = Arc::new(World::default());
    let alice_ = alice();
    let carol = carol();
    let only = alice_.account();
    let bob = peer_with(&world, &bob(), Arc::new(move |account, _| *account == only)).await;
    let carol = peer(&world, &carol).await;
    let mut events = carol.manager.events();
    let manager = carol.manager.clone();
    let device = bob.device;
    let open = tokio::spawn(async move { manager.open(&device, None, ChannelName::Sip).await });
    while events.recv().await.unwrap().state != LinkState::Negotiating {}
    // The request is there, and no answer to it follows.
    tokio::time::timeout(std::time::Duration::from_millis(300), events.recv())
        .await
        .unwrap_err();
    assert!(world.sent.lock().unwrap().iter().all(|r| !r.is_answer));
    assert!(bob.manager.connected().is_empty());
    carol.manager.shutdown();
    carol.manager.closed().await;
    assert!(open.await.unwrap().is_err());
}

#[tokio::test]
async fn who_asks_before_being_let_in_is_answered_then() {
    let world = Arc::new(World::default());
    let open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let may = open.clone();
    let policy: starling_bridge::peer::Policy =
        Arc::new(move |_, _| may.load(std::sync::atomic::Ordering::SeqCst));
    let mut bob = peer_with(&world, &bob(), policy).await;
    let alice = peer(&world, &alice()).await;
    let mut events = alice.manager.events();
    let name = git(&bob);
    let opening = {
        let (manager, device, name) = (alice.manager.clone(), bob.device, name.clone());
        tokio::spawn(async move { manager.open(&device, None, name).await })
    };
    while events.recv().await.unwrap().state != LinkState::Negotiating {}
    tokio::time::timeout(std::time::Duration::from_millis(300), events.recv())
        .await
        .unwrap_err();
    open.store(true, std::sync::atomic::Ordering::SeqCst);
    bob.manager.policy_changed();
    let mut theirs = bob.incoming.recv().await.unwrap().accept();
    let mut ours = opening.await.unwrap().unwrap();
    exchange(&mut ours, &mut theirs).await;
}

#[tokio::test]
async fn errors_have_names() {
    let world = Arc::new(World::default());
    let (alice, bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    let nobody = starling_core::id::DeviceId([9; 32]);
    let open = async |device, account| {
        let result = alice.manager.open(&device, account, ChannelName::Sip).await;
        result.unwrap_err()
    };
    assert_eq!(open(alice.device, None).await, OpenError::OwnDevice);
    assert_eq!(open(nobody, None).await, OpenError::NoCertificate);
    assert_eq!(
        open(bob.device, Some(alice.account)).await,
        OpenError::WrongAccount
    );
}

#[tokio::test(start_paused = true)]
async fn silence_ends_after_thirty_seconds() {
    let world = Arc::new(World::default());
    let (alice, bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    world.deaf.store(true, Ordering::SeqCst);
    let before = tokio::time::Instant::now();
    let result = alice
        .manager
        .open(&bob.device, None, ChannelName::Sip)
        .await;
    assert_eq!(result.unwrap_err(), OpenError::NoAnswer);
    assert_eq!(before.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn what_nobody_answers_for_is_declined_before_the_asker_gives_up() {
    let world = Arc::new(World::default());
    let (alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    let name = git(&bob);
    let (mut a, mut b) = open(&alice, &mut bob, name).await;
    let (manager, device) = (alice.manager.clone(), bob.device);
    let opening = tokio::spawn(async move { manager.open(&device, None, ChannelName::Sip).await });
    let asked = bob.incoming.recv().await.unwrap();
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(3)).await;
    tokio::time::resume();
    assert_eq!(opening.await.unwrap().unwrap_err(), OpenError::Declined);
    exchange(&mut a, &mut b).await;
    drop(asked);
}

#[tokio::test]
async fn a_beacon_is_answered_and_connections_outlive_a_network_change() {
    let world = Arc::new(World::default());
    let (alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    let name = git(&bob);
    let (mut a, mut b) = open(&alice, &mut bob, name).await;
    alice.manager.network_changed();
    bob.manager.network_changed();
    exchange(&mut a, &mut b).await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(4)).await;
    tokio::time::resume();
    exchange(&mut a, &mut b).await;
}

#[tokio::test]
async fn what_was_learned_survives_a_restart() {
    let world = Arc::new(World::default());
    let (alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    let name = git(&bob);
    let _channels = open(&alice, &mut bob, name).await;
    let path = alice.directory.path().join("certificates");
    let store = starling_bridge::peer::CertificateStore::open(&path).unwrap();
    assert_eq!(store.get(&bob.device).unwrap().account_id(), bob.account);
    let treated = std::fs::read_to_string(bob.directory.path().join("treatedRequests")).unwrap();
    assert_eq!(treated.lines().count(), 1);
}
