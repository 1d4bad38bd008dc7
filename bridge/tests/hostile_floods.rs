//! A hostile member against a bridge of its own process: floods on all channels, and what is wrong
//! below them. The bridge answers its user meanwhile, stays within its memory, and keeps its history.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod account_support;
mod hostile_support;
#[path = "../../core/tests/swarm/mod.rs"]
mod swarm;

use account_support::{PATIENCE, keys};
use hostile_support::raw::Raw;
use hostile_support::stage::Stage;
use starling_bridge::crypto::AwsLc;
use starling_bridge::peer::{Channel, OpenError, Signalling as _};
use starling_core::drt::{Found, Lease, Message, MobileInfo};
use starling_core::git::pktline;
use starling_core::id::{ConversationId, DeviceId, ObjectId};
use starling_core::identity::create_account;
use starling_core::msgpack::{self, Value};
use starling_core::notice::Notice;
use starling_core::peer::channel_name::{Arguments, ChannelName};
use starling_core::peer::mux;
use starling_core::peer::request::PeerRequest;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A commit that nobody has.
const NOWHERE: ObjectId = ObjectId([0xab; 20]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_on_all_channels_are_bounded() {
    let mut stage = Stage::new().await;
    let room = stage.room().await;
    let id = room.conversation;
    let (device, account) = (stage.vic.device, stage.vic.jami_id);
    let git = |conversation| ChannelName::Git {
        device,
        conversation,
    };

    // What one is no member of, and what was not offered.
    let strange = stage
        .eve
        .open(device, account, git(ConversationId([9; 20])))
        .await;
    assert_eq!(strange.unwrap_err(), OpenError::Declined);
    let mut channel = stage.eve.open(device, account, git(id)).await.unwrap();
    let mut ask = Vec::new();
    pktline::write(
        &mut ask,
        format!("git-upload-pack /{id}\0host=x\0").as_bytes(),
    )
    .unwrap();
    pktline::write(
        &mut ask,
        format!("want {NOWHERE} side-band-64k\n").as_bytes(),
    )
    .unwrap();
    channel.write_all(&ask).await.unwrap();
    let mut answer = Vec::new();
    channel.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("was not offered"), "{answer}");

    stage.vic.forget_peak();
    // Hundreds of channels of each kind, on which much is sent and nothing is read.
    let kinds = [
        git(id),
        ChannelName::Swarm { conversation: id },
        ChannelName::Message { device },
        ChannelName::MemberProfile {
            conversation: id,
            device: stage.eve.device(),
            arguments: Arguments::default(),
        },
        ChannelName::Unknown("x".repeat(1000)),
        ChannelName::Unknown("git://../../..".into()),
    ];
    let mut open = Vec::new();
    for name in kinds {
        let eve = &stage.eve;
        let many = (0..200).map(|_| eve.open(device, account, name.clone()));
        let all = futures_util::future::join_all(many).await;
        let opened: Vec<_> = all.into_iter().filter_map(Result::ok).collect();
        println!("{name}: {} channels of 200", opened.len());
        assert!(opened.len() <= 64);
        open.extend(opened);
    }
    let junk = Arc::new(vec![0xc0; 1 << 19]);
    let floods = open.into_iter().map(|mut channel| {
        let junk = junk.clone();
        tokio::spawn(async move {
            // Until it is closed, or for some megabytes.
            let small = matches!(
                channel.name(),
                ChannelName::Message { .. } | ChannelName::Swarm { .. }
            );
            for _ in 0..if small { 1 } else { 8 } {
                if channel.write_all(&junk).await.is_err() {
                    return;
                }
            }
        })
    });
    let floods: Vec<_> = floods.collect();
    stage.vic.check_alive();
    for flood in floods {
        tokio::time::timeout(PATIENCE, flood)
            .await
            .unwrap()
            .unwrap();
    }
    stage.vic.check_alive();
    stage
        .vic
        .check_peak("channels of all kinds, full of nothing");

    // Notices of all kinds, true and false, and what is none.
    stage.vic.forget_peak();
    for n in 0u32..1000 {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let (conversation, message) = (ConversationId(bytes), ObjectId(bytes));
        for notice in [
            Notice::Composing {
                conversation: id,
                active: n % 2 == 0,
            },
            Notice::Displayed {
                conversation: id,
                message,
            },
            Notice::InviteAgain { conversation: id },
            Notice::InviteAgain { conversation },
            Notice::NewCommit {
                conversation,
                commit: message,
                device,
            },
            Notice::Other {
                mime: "application/x-unknown".into(),
                content: "x".repeat(1000),
            },
        ] {
            stage.eve.tell(&notice);
        }
        // Not msgpack's shape, then a map without sense.
        stage
            .eve
            .said
            .send(vec![0x93, 0xc0, 0xc0, 0xc0, 0x81, 0xa1, b't', 0x01])
            .unwrap();
    }
    for n in 0u32..300 {
        let mut bytes = [7; 20];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        stage.eve.invite(ConversationId(bytes));
    }
    let mut room = room;
    stage.say(&mut room, "after the notices");
    stage.hears(id, "after the notices").await;
    // The news may overtake the invitations. There are never more than twenty of one person.
    stage
        .vic
        .until("twenty invitations", |v| {
            let requests = v.rpc("request.list", serde_json::json!({"account": v.account}));
            let many = requests.as_array().unwrap().len();
            assert!(many <= 20, "{many} requests of one person are shown");
            (many == 20).then_some(())
        })
        .await;
    stage.vic.check_peak("notices and invitations");

    // Requests for connections, new ones and old ones again.
    stage.vic.forget_peak();
    let chain = stage.eve.manager.certificate(device, None).await.unwrap();
    let ice = "0a0a0a0a\n0123456789abcdef0123456789abcdef\n";
    let families = [starling_bridge::peer::Family::Long];
    for n in 0..60 {
        let request = PeerRequest {
            // Each a few times.
            id: 1 + n / 3,
            ice_msg: format!(
                "{ice}Hc0000001 1 TCP 2130706431 127.0.0.1 {} typ host tcptype passive\n",
                1000 + n
            ),
            is_answer: n % 7 == 0,
            conn_type: String::new(),
        };
        // A node that has enough of them refuses: all the better.
        let _ = stage
            .eve
            .signalling
            .send(&chain.device, &request, &families)
            .await;
    }
    stage.say(&mut room, "after the requests");
    stage.hears(id, "after the requests").await;
    stage.vic.check_alive();
    stage.vic.check_peak("requests for connections");
    assert_eq!(stage.vic.texts(id).len(), 2);
    stage.finish(&[room]);
}

/// A device that nobody has; another one each time.
fn nobody(count: &mut u64) -> DeviceId {
    *count += 1;
    let mut id = [0; 32];
    // Spread over all of the ids, so that there is room for them in a table.
    id[..8].copy_from_slice(&count.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id[24..].copy_from_slice(&count.to_be_bytes());
    DeviceId(id)
}

/// What a neighbour said.
#[derive(Debug, Default)]
struct Heard {
    /// How often it asked for devices.
    finds: usize,
    /// How often it answered.
    founds: usize,
    /// How many devices it named.
    named: usize,
    /// How many certificates it asked for.
    wanted: usize,
}

/// Says all of that, once the other side has asked its first question or has none, and listens
/// until the channel ends. Gives how much of it could be said.
async fn talk(channel: Channel, messages: &[Message], heard: &mut Heard) -> usize {
    let (mut read, mut write) = tokio::io::split(channel);
    let (asks, asked) = tokio::sync::oneshot::channel();
    let listens = tokio::spawn(async move {
        let mut asks = Some(asks);
        let (mut buffer, mut piece) = (Vec::new(), vec![0; 32 << 10]);
        let mut heard = Heard::default();
        while let Ok(n @ 1..) = read.read(&mut piece).await {
            buffer.extend_from_slice(&piece[..n]);
            while let Some((len, message)) = Message::first(&buffer).unwrap() {
                buffer.drain(..len);
                if message.find.is_some() {
                    heard.finds += 1;
                    asks.take().map(|asks| asks.send(()));
                }
                if let Some(found) = message.found {
                    heard.founds += 1;
                    heard.named += found.nodes.len() + found.mobile.len() + found.infos.len();
                }
                heard.wanted += message.certificates_wanted.map_or(0, |ids| ids.len());
            }
        }
        heard
    });
    let _ = tokio::time::timeout(Duration::from_secs(1), asked).await;
    let mut sent = 0;
    for message in messages {
        // Who asks faster than answers are taken may be left.
        if write.write_all(&message.encode()).await.is_err() {
            break;
        }
        sent += 1;
    }
    // It is through with them when it has read the end.
    let _ = write.shutdown().await;
    let more = tokio::time::timeout(PATIENCE, listens).await;
    let more = more.unwrap().unwrap();
    heard.finds += more.finds;
    heard.founds += more.founds;
    heard.named += more.named;
    heard.wanted += more.wanted;
    sent
}

/// Everything that neighbours say to each other, in due form and without measure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_that_talks_without_end_makes_nobody_run() {
    let mut stage = Stage::new().await;
    let mut room = stage.room().await;
    let id = room.conversation;
    let (device, account) = (stage.vic.device, stage.vic.jami_id);
    let name = ChannelName::Swarm { conversation: id };
    let mut count = 0;
    // Answers that name 10^5 devices; as many as one may have.
    let answers: Vec<Message> = (0..12)
        .map(|_| {
            Message::found(Found {
                nodes: (0..9_000).map(|_| nobody(&mut count)).collect(),
                ..Found::default()
            })
        })
        .collect();
    let now = hostile_support::now();
    let lease = |device| MobileInfo {
        id: device,
        lease: Some(Lease {
            conversation: id,
            issuer: stage.eve.account(),
            device,
            issued: now - 10,
            expires: now + 1000,
            signature: vec![7; 256],
        }),
    };
    let leases: Vec<Message> = (0..20)
        .map(|_| {
            let infos: Vec<_> = (0..128).map(|_| lease(nobody(&mut count))).collect();
            Message::found(Found {
                mobile: infos.iter().map(|i| i.id).collect(),
                infos,
                ..Found::default()
            })
        })
        .collect();
    let questions: Vec<Message> = (0..20_000)
        .map(|_| Message::find(nobody(&mut count)))
        .collect();
    let wanted: Vec<Message> = (0..1_000)
        .map(|_| Message {
            certificates_wanted: Some((0..300).map(|_| nobody(&mut count)).collect()),
            ..Message::new()
        })
        .collect();
    let given: Vec<Message> = (0..100)
        .map(|_| Message {
            certificates: Some(vec![vec![0x30; 60_000]; 4]),
            ..Message::new()
        })
        .collect();
    let mobile: Vec<Message> = (0..1_000)
        .map(|_| Message {
            is_mobile: true,
            self_mobile: Some(lease(nobody(&mut count))),
            ..Message::new()
        })
        .collect();
    stage.vic.forget_peak();
    let (connects, checks) = (stage.vic.routed("Connect("), stage.vic.routed("CheckLease"));
    // Answers are heard from who was asked, once: each is on a channel of its own.
    let each = |all: Vec<Message>| all.into_iter().map(|m| vec![m]).collect::<Vec<_>>();
    for (what, turns) in [
        ("answers that name 10^5 devices", each(answers)),
        ("leases of nobody", each(leases)),
        ("questions", vec![questions]),
        ("wishes for certificates", vec![wanted]),
        ("certificates of nothing", vec![given]),
        ("a mobile device that is another each time", vec![mobile]),
    ] {
        let all: usize = turns.iter().map(Vec::len).sum();
        let channels = turns.len();
        let mut heard = Heard::default();
        let mut sent = 0;
        for messages in turns {
            let channel = stage.eve.open(device, account, name.clone()).await.unwrap();
            sent += talk(channel, &messages, &mut heard).await;
        }
        println!("{what}: {sent} of {all} sent, {heard:?}");
        assert!(heard.finds <= 8 * channels, "{what}: {heard:?}");
        assert!(heard.founds <= sent, "{what}: {heard:?}");
        // Whoever is named was made up: nothing of it is given on.
        assert!(heard.named <= 2 * heard.founds, "{what}: {heard:?}");
        assert!(heard.wanted <= 16 * channels, "{what}: {heard:?}");
        stage.vic.check_alive();
        stage.vic.check_peak(what);
    }
    // Longer than any message: the channel is of no use any more.
    let channel = stage.eve.open(device, account, name).await.unwrap();
    let (mut read, mut write) = tokio::io::split(channel);
    let long = Message::found(Found {
        nodes: (0..20_000).map(|_| nobody(&mut count)).collect(),
        ..Found::default()
    });
    let _ = write.write_all(&long.encode()).await;
    let ends = async { while matches!(read.read(&mut [0; 4096]).await, Ok(1..)) {} };
    tokio::time::timeout(PATIENCE, ends).await.unwrap();

    stage.say(&mut room, "honest");
    stage.hears(id, "honest").await;
    // Attempts at devices that were named, and looks for certificates: few of 10^5 and of 3,500.
    let connects = stage.vic.routed("Connect(") - connects;
    let checks = stage.vic.routed("CheckLease") - checks;
    println!("{connects} attempts to connect, {checks} leases looked into");
    assert!(
        stage.vic.routed("Send") > 0,
        "the log tells of what is asked for"
    );
    assert!(connects <= 500, "{connects} attempts to connect");
    assert!(checks <= 1_500, "{checks} leases looked into");
    stage.vic.check_peak("all of it");
    stage.finish(&[room]);
}

/// A request for a channel, as it is sent.
fn request(name: &str, number: u16) -> Vec<u8> {
    let fields = Value::Array(vec![name.into(), number.into(), 0.into()]);
    mux::packet(mux::CONTROL, &msgpack::encode(&fields))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_below_the_channels_ends_the_connection() {
    let mut stage = Stage::new().await;
    let mut room = stage.room().await;
    let device = stage.vic.device;
    let mut version = mux::packet(
        mux::PROTOCOL,
        &msgpack::encode(&msgpack::map([("v", 1.into())])),
    );

    // All channels there are, with long names, and data on those that were never opened.
    stage.vic.forget_peak();
    let eve = &stage.eve;
    let mut raw = Raw::connect(eve, device, &eve.identity).await;
    raw.out.send(version.clone()).await.unwrap();
    let long = "x".repeat(1000);
    for first in (1..u16::MAX).step_by(256) {
        let mut bytes = Vec::new();
        for number in first..first.saturating_add(256) {
            bytes.extend(request(
                if number % 7 == 0 { &long } else { "msg:" },
                number,
            ));
            bytes.extend(mux::packet(number, b"too early"));
        }
        if raw.out.send(bytes).await.is_err() {
            // Who asks faster than answers are taken is left.
            println!("the flood ended at channel {first}");
            break;
        }
        while raw.come.try_recv().is_ok() {}
    }
    stage.vic.check_alive();
    drop(raw);
    stage.vic.check_peak("65,534 channels");

    // What no connection survives.
    version.extend(mux::packet(
        mux::PROTOCOL,
        &msgpack::encode(&msgpack::map([("v", 99.into())])),
    ));
    let name = msgpack::encode(&Value::Array(vec![
        "x".repeat(1 << 20).into(),
        1.into(),
        0.into(),
    ]));
    let mut megabyte = vec![0x92, 0x00, 0xc6];
    megabyte.extend((name.len() as u32).to_be_bytes());
    megabyte.extend(name);
    let beacon = msgpack::encode(&msgpack::map([("p", true.into())]));
    let mut deep = vec![0x91; 10_000];
    deep.push(0xc0);
    for (what, bytes) in [
        (
            "beacons without end",
            mux::packet(mux::PROTOCOL, &beacon).repeat(200_000),
        ),
        ("a name of a megabyte", megabyte),
        ("no msgpack", vec![0xc1]),
        ("ten thousand levels", deep),
        (
            "a map without an end",
            [&[0xdf, 0xff, 0xff, 0xff, 0xff][..], &[0xc0; 8192]].concat(),
        ),
    ] {
        let mut raw = Raw::connect(eve, device, &eve.identity).await;
        raw.out.send(version.clone()).await.unwrap();
        raw.out.send(bytes).await.unwrap();
        raw.wait_for_end().await;
        stage.vic.check_alive();
        println!("{what}: the connection ended");
    }

    // Another account's identity in TLS: valid, and not the one that asked.
    let (_, other) = create_account(&AwsLc, hostile_support::now(), keys()).unwrap();
    let mut raw = Raw::connect(eve, device, &other).await;
    raw.wait_for_end().await;

    stage.vic.check_alive();
    stage.say(&mut room, "honest");
    stage.hears(room.conversation, "honest").await;
    stage.finish(&[room]);
}
