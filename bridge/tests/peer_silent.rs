//! Peers that fall silent, with real sockets and real TLS: between the two stands a wire that lets
//! through what it is told to. And the same two over IPv6 alone.
#![allow(clippy::unwrap_used)]

mod peer_support;
mod skip_support;

use peer_support::*;
use skip_support::skip;
use starling_bridge::peer::{LinkState, OpenError};
use starling_core::id::ConversationId;
use starling_core::peer::channel_name::ChannelName;
use starling_core::peer::framing::{Deframer, frame};
use starling_core::peer::ice_text::TcpType;
use starling_core::peer::mux::{MAX_NAME, MuxError};
use starling_core::peer::stun::is_stun;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Longer than anything is waited for. It passes in no time where all wait.
const ALL_TIME: Duration = Duration::from_secs(600);

/// Who speaks. The one who was asked connects, and is the client of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Asked,
    Asker,
}

/// The wire between the two. Checks of ICE go through; of the records of TLS as many as is said.
struct Wire {
    /// After how many records of whom nothing goes through any more, of nobody.
    cut: watch::Sender<Option<(From, usize)>>,
    /// Whether it came to that.
    is_cut: watch::Sender<bool>,
}

impl Wire {
    /// Between whoever connects in this world from now on.
    async fn in_the_middle(world: &World, cut: Option<(From, usize)>) -> Arc<Self> {
        let wire = Arc::new(Self {
            cut: watch::Sender::new(cut),
            is_cut: watch::Sender::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let behind = Arc::new(Mutex::new(None::<SocketAddr>));
        let target = behind.clone();
        *world.reroute.lock().unwrap() = Some(Box::new(move |text, is_answer| {
            // There is one way: to the asker, by the wire.
            let passive = text.candidates.iter_mut();
            let passive = passive.filter(|c| c.tcp_type == TcpType::Passive);
            if !is_answer {
                for candidate in passive.filter(|c| c.address.is_ipv4()) {
                    let real = SocketAddr::from(([127, 0, 0, 1], candidate.address.port()));
                    *target.lock().unwrap() = Some(real);
                    candidate.address = own;
                }
            }
            text.candidates
                .retain(|c| c.tcp_type != TcpType::Passive || c.address == own);
        }));
        let serving = wire.clone();
        tokio::spawn(async move {
            loop {
                let (asked, _) = listener.accept().await.unwrap();
                let to = behind.lock().unwrap().unwrap();
                let asker = TcpStream::connect(to).await.unwrap();
                let ((asked_in, asked_out), (asker_in, asker_out)) =
                    (asked.into_split(), asker.into_split());
                tokio::spawn(serving.clone().carry(From::Asked, asked_in, asker_out));
                tokio::spawn(serving.clone().carry(From::Asker, asker_in, asked_out));
            }
        });
        wire
    }

    async fn carry(self: Arc<Self>, who: From, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (mut frames, mut records) = (Deframer::default(), 0);
        let mut buffer = vec![0; 64 * 1024];
        let mut open = true;
        while open {
            let read = from.read(&mut buffer).await.unwrap_or(0);
            open = read > 0;
            frames.push(&buffer[..read]);
            while let Some(payload) = frames.next_frame() {
                if !is_stun(&payload) {
                    let enough = |cut: Option<(From, usize)>| cut == Some((who, records));
                    if enough(*self.cut.borrow()) {
                        self.is_cut.send_replace(true);
                    }
                    records += 1;
                    self.mended().await;
                }
                if to.write_all(&frame(&payload)).await.is_err() {
                    return;
                }
            }
        }
        // Nobody hears of an end either.
        self.mended().await;
    }

    async fn mended(&self) {
        let mut is_cut = self.is_cut.subscribe();
        let _ = is_cut.wait_for(|cut| !cut).await;
    }

    async fn cut(&self) {
        let mut is_cut = self.is_cut.subscribe();
        is_cut.wait_for(|cut| *cut).await.unwrap();
    }
}

fn swarm(n: u8) -> ChannelName {
    ChannelName::Swarm {
        conversation: ConversationId([n; 20]),
    }
}

/// At each step of the handshake, from a connection on which nothing follows to one that lacks the
/// last word.
#[tokio::test]
async fn who_stops_in_the_middle_of_the_handshake_is_given_up_in_time() {
    for step in [
        (From::Asked, 0),
        (From::Asker, 0),
        (From::Asker, 1),
        (From::Asker, 2),
        (From::Asked, 1),
    ] {
        let world = Arc::new(World::default());
        let (alice, bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
        let wire = Wire::in_the_middle(&world, Some(step)).await;
        let mut at_bob = bob.manager.events();
        let opening = {
            let (manager, device) = (alice.manager.clone(), bob.device);
            tokio::spawn(async move { manager.open(&device, None, swarm(1)).await })
        };
        wire.cut().await;
        // What has a time is all that is left.
        tokio::time::pause();
        let before = Instant::now();
        let why = timeout(ALL_TIME, opening).await.unwrap();
        let why = why.unwrap().unwrap_err();
        let named = OpenError::Tls("the handshake takes too long".into());
        // Who has said its last word, and heard the other's, does not know that it did not come.
        assert_eq!(why, named, "{step:?}");
        let took = before.elapsed();
        assert!(took <= Duration::from_secs(41), "{step:?}: {took:?}");
        // What passed before was the machine's time.
        assert!(took >= Duration::from_secs(20), "{step:?}: {took:?}");
        if step != (From::Asked, 1) {
            let failed = loop {
                let event = timeout(ALL_TIME, at_bob.recv()).await.unwrap();
                if let LinkState::Failed { why } = event.unwrap().state {
                    break why;
                }
            };
            assert_eq!(failed, named, "{step:?}");
            assert!(before.elapsed() <= Duration::from_secs(41), "{step:?}");
        }
        assert!(alice.manager.connected().is_empty());
        tokio::time::resume();

        // That way is free again.
        *world.reroute.lock().unwrap() = None;
        let mut bob = bob;
        let (opened, _there) =
            tokio::join!(alice.manager.open(&bob.device, None, swarm(2)), async {
                bob.incoming.recv().await.unwrap().accept()
            });
        drop(opened.unwrap());
    }
}

/// A connection that stands, over which a request for a channel is not answered.
#[tokio::test]
async fn a_channel_that_nobody_answers_for_is_given_up_and_the_connection_stays() {
    let world = Arc::new(World::default());
    let (alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    let wire = Wire::in_the_middle(&world, None).await;
    let (first, first_there) =
        tokio::join!(alice.manager.open(&bob.device, None, swarm(1)), async {
            bob.incoming.recv().await.unwrap().accept()
        });
    let (mut first, mut first_there) = (first.unwrap(), first_there);
    first.write_all(b"before").await.unwrap();
    first_there.read_exact(&mut [0; 6]).await.unwrap();

    wire.is_cut.send_replace(true);
    tokio::time::pause();
    let before = Instant::now();
    let unheard = alice.manager.open(&bob.device, None, swarm(2));
    let unheard = timeout(ALL_TIME, unheard).await.unwrap();
    assert_eq!(unheard.unwrap_err(), OpenError::NoReply);
    assert_eq!(before.elapsed().as_secs(), 10);
    tokio::time::resume();
    assert_eq!(alice.manager.connected(), [(bob.device, bob.account)]);

    // What was on the way comes late: Bob is asked, and takes it, and it ends.
    wire.is_cut.send_replace(false);
    let late = bob.incoming.recv().await.unwrap();
    assert_eq!(late.name, swarm(2));
    let mut late = late.accept();
    assert!(matches!(
        late.read_to_end(&mut Vec::new()).await,
        Ok(0) | Err(_)
    ));
    // And the connection is good for others.
    let sent = world.sent.lock().unwrap().len();
    let (again, again_there) =
        tokio::join!(alice.manager.open(&bob.device, None, swarm(3)), async {
            bob.incoming.recv().await.unwrap().accept()
        });
    let (mut again, mut again_there) = (again.unwrap(), again_there);
    again.write_all(b"after").await.unwrap();
    again_there.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(world.sent.lock().unwrap().len(), sent);
}

#[tokio::test]
async fn a_name_that_no_peer_takes_is_refused_and_the_connection_stays() {
    let world = Arc::new(World::default());
    let (alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
    let open = async |bob: &mut Peer, name: ChannelName| {
        let (opened, there) = tokio::join!(alice.manager.open(&bob.device, None, name), async {
            bob.incoming.recv().await.unwrap().accept()
        });
        (opened.unwrap(), there)
    };
    let _first = open(&mut bob, swarm(1)).await;
    let long = ChannelName::from("x".repeat(MAX_NAME + 1).as_str());
    let refused = alice.manager.open(&bob.device, None, long).await;
    assert_eq!(refused.unwrap_err(), OpenError::Mux(MuxError::NameTooLong));
    let longest = ChannelName::from("x".repeat(MAX_NAME).as_str());
    let (_, there) = open(&mut bob, longest.clone()).await;
    assert_eq!(*there.name(), longest);
}

/// Both have nothing but `[::1]`, whoever connects.
#[tokio::test]
async fn two_meet_over_ipv6_alone() {
    if let Err(error) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await {
        return skip(&format!("no IPv6 on this machine: {error}"));
    }
    // Both listen; one of them alone; the other alone.
    for listening in [[true, true], [true, false], [false, true]] {
        let world = Arc::new(World::default());
        let (alice, mut bob) = (peer(&world, &alice()).await, peer(&world, &bob()).await);
        *world.reroute.lock().unwrap() = Some(Box::new(move |text, is_answer| {
            let listens = listening[usize::from(is_answer)];
            text.candidates.retain(|c| {
                c.address.ip() == Ipv6Addr::LOCALHOST && (listens || c.tcp_type == TcpType::Active)
            });
            assert!(!text.candidates.is_empty());
        }));
        let (mut at_alice, mut at_bob) = (alice.manager.events(), bob.manager.events());
        let (here, there) = tokio::join!(
            alice.manager.open(&bob.device, Some(bob.account), swarm(1)),
            async { bob.incoming.recv().await.unwrap().accept() },
        );
        let (mut here, mut there) = (here.unwrap(), there);
        here.write_all(b"by six").await.unwrap();
        there.read_exact(&mut [0; 6]).await.unwrap();
        there.write_all(b"and back").await.unwrap();
        here.read_exact(&mut [0; 8]).await.unwrap();
        for events in [&mut at_alice, &mut at_bob] {
            let over = loop {
                if let LinkState::Connected { over, .. } = events.recv().await.unwrap().state {
                    break over;
                }
            };
            assert_eq!(over.ip(), Ipv6Addr::LOCALHOST, "{listening:?}");
        }
    }
}
