//! A hostile member against a bridge of its own process: liars on the git channel, floods on all
//! channels. The bridge names what it refuses, answers its user meanwhile, stays within its memory,
//! and keeps its history.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod account_support;
mod hostile_support;
#[path = "../../core/tests/swarm/mod.rs"]
mod swarm;

use account_support::{PATIENCE, keys, node};
use hostile_support::packs::{
    BLOB, COMMIT, TREE, chain, counted, delta, entry, fan, header, pack, tree_bomb, zlib,
};
use hostile_support::process::Victim;
use hostile_support::raw::Raw;
use hostile_support::{
    Hostile, Lines, Play, advertisement, fsck, offers, offers_room, play, verify,
};
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::Dht;
use starling_bridge::peer::{OpenError, Signalling as _};
use starling_bridge::store::objects::ObjectStore;
use starling_core::git::object::{Kind, Mode, TreeEntry, hash_object, write_tree};
use starling_core::git::pack::PackWriter;
use starling_core::git::pktline;
use starling_core::id::{ConversationId, DeviceId, ObjectId};
use starling_core::identity::create_account;
use starling_core::msgpack::{self, Value};
use starling_core::notice::Notice;
use starling_core::peer::channel_name::{Arguments, ChannelName};
use starling_core::peer::mux;
use starling_core::peer::request::PeerRequest;
use starling_core::swarm::message::Message;
use starling_core::swarm::object::MemoryObjects;
use std::sync::Arc;
use swarm::{DAY, Device, Room};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, Notify};

/// A commit that nobody has.
const NOWHERE: ObjectId = ObjectId([0xab; 20]);

/// What an attack ends in.
enum End {
    /// A refusal of that name.
    Rule(&'static str),
    /// The victim leaves the channel, and this is said of it.
    Leaves(Arc<Notify>),
}

struct Attack {
    what: &'static str,
    end: End,
    /// What is said to be the newest commit, and what a fetch of it meets.
    head: ObjectId,
    play: Play,
}

fn lies(what: &'static str, rule: &'static str, pack: Vec<u8>) -> Attack {
    Attack {
        what,
        end: End::Rule(rule),
        head: NOWHERE,
        play: offers(NOWHERE, pack),
    }
}

/// A play after which the other side is expected to go.
fn leaves<F: Future<Output = Option<()>> + Send + 'static>(
    what: &'static str,
    does: impl Fn(Arc<Mutex<Lines>>) -> F + Send + Sync + 'static,
) -> Attack {
    let gone = Arc::new(Notify::new());
    Attack {
        what,
        end: End::Leaves(gone.clone()),
        head: NOWHERE,
        play: play(move |lines| {
            let lines = Arc::new(Mutex::new(lines));
            let (done, gone) = (does(lines.clone()), gone.clone());
            async move {
                done.await;
                lines.lock().await.wait_for_end().await;
                gone.notify_one();
                None
            }
        }),
    }
}

/// Packs that are refused while they come or when they have.
fn liars() -> Vec<Attack> {
    let one = entry(BLOB, b"one");
    let id = hash_object(Kind::Blob, b"one");
    let whole = pack(&[one.clone(), entry(BLOB, b"two")]);
    let mut wrong = whole.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let mut longer = whole.clone();
    longer.push(0);
    let zeros = vec![0; 31 << 20];
    let large = entry(BLOB, &zeros);
    vec![
        lies(
            "no pack at all",
            "PackNoPack",
            b"not a pack, whatever you say".to_vec(),
        ),
        lies(
            "2^32 - 1 objects",
            "PackTooManyObjects",
            counted(u32::MAX, &[]),
        ),
        lies("objects that do not come", "PackTruncated", {
            let mut cut = counted(1000, std::slice::from_ref(&one));
            cut.truncate(cut.len() - 20);
            cut
        }),
        lies(
            "an object smaller than it says",
            "PackSize",
            pack(&[[header(BLOB, 1000), zlib(b"one")].concat()]),
        ),
        lies(
            "an object larger than it says",
            "PackSize",
            pack(&[[header(BLOB, 3), zlib(&zeros)].concat()]),
        ),
        lies(
            "an object of 1 TiB",
            "PackObjectTooLarge",
            pack(&[[header(BLOB, 1 << 40), zlib(&zeros)].concat()]),
        ),
        lies(
            "a message of 100 MB",
            "PackObjectTooLarge",
            pack(&[[header(COMMIT, 100 << 20), zlib(&zeros)].concat()]),
        ),
        lies(
            "zeros for eight times 31 MB",
            "PackDuplicate",
            pack(&vec![large; 8]),
        ),
        lies(
            "no zlib",
            "PackDeflate",
            pack(&[[header(TREE, 9), b"\xff\xffnonsense".to_vec()].concat()]),
        ),
        lies(
            "an entry of no type",
            "PackEntry",
            pack(&[[header(5, 3), zlib(b"one")].concat()]),
        ),
        lies(
            "deltas that chase each other",
            "PackMissingBase",
            pack(&[
                delta(ObjectId([1; 20]), 3, b"two"),
                delta(hash_object(Kind::Blob, b"two"), 3, b"three"),
            ]),
        ),
        lies(
            "a thin pack",
            "PackMissingBase",
            pack(&[delta(id, 3, b"two")]),
        ),
        lies(
            "a delta upon itself",
            "PackMissingBase",
            pack(&[delta(id, 3, b"one")]),
        ),
        lies(
            "a delta that does not fit",
            "PackDelta",
            pack(&[one.clone(), delta(id, 99, b"two")]),
        ),
        lies("a chain of 10^4 deltas", "PackTooDeep", chain(10_000)),
        lies("10^5 deltas upon one object", "MissingObject", fan(100_000)),
        lies(
            "10^6 deltas",
            "PackTooManyObjects",
            counted(1_000_001, &[one.clone(), delta(id, 3, b"two")]),
        ),
        lies(
            "an object twice",
            "PackDuplicate",
            pack(&[one.clone(), one.clone()]),
        ),
        lies(
            "an object twice, once as a delta",
            "PackDuplicate",
            pack(&[one.clone(), entry(BLOB, b"two"), delta(id, 3, b"two")]),
        ),
        lies("a wrong checksum", "PackChecksum", wrong),
        lies("bytes after the end", "PackTrailing", longer),
        lies("an empty pack", "MissingObject", pack(&[])),
        lies("something else", "MissingObject", whole),
    ]
}

/// Servers that break the protocol, or keep silent.
fn bad_servers() -> Vec<Attack> {
    let half = || {
        let mut bytes = counted(2, &[entry(BLOB, b"one")]);
        bytes.truncate(bytes.len() - 20);
        bytes
    };
    vec![
        leaves("nonsense for a branch", |l| async move {
            l.lock().await.send(b"zzzz what?").await
        }),
        leaves("a line of ff bytes", |l| async move {
            l.lock().await.send(b"ffff\xff\xff").await
        }),
        leaves("a refusal", |l| async move {
            let mut line = Vec::new();
            pktline::write(&mut line, &[b"ERR ", &[b'x'; 60_000][..]].concat()).unwrap();
            l.lock().await.send(&line).await
        }),
        leaves("branches without end", |l| async move {
            let mut line = Vec::new();
            let text = format!(
                "{NOWHERE} refs/heads/../../{}\0side-band-64k\n",
                "x".repeat(1000)
            );
            pktline::write(&mut line, text.as_bytes()).unwrap();
            let mut lines = l.lock().await;
            for _ in 0..4000 {
                lines.send(&line).await?;
            }
            Some(())
        }),
        leaves("acknowledgements without end", |l| async move {
            let mut lines = l.lock().await;
            lines.advertise(NOWHERE).await?;
            for _ in 0..200_000 {
                lines.send(b"0008NAK\n").await?;
            }
            Some(())
        }),
        leaves("the pack on band 3", |l| async move {
            let mut lines = l.lock().await;
            lines.advertise(NOWHERE).await?;
            lines.send(b"000b\x03PACK").await
        }),
        leaves("an end in the middle of the pack", move |l| async move {
            let mut lines = l.lock().await;
            lines.advertise(NOWHERE).await?;
            lines.pack(&half()).await?;
            lines.channel.shutdown().await.ok()
        }),
    ]
}

/// Servers that say nothing, or next to nothing.
fn slow_servers() -> Vec<Attack> {
    vec![
        leaves("silence", |_| async { Some(()) }),
        leaves("silence after the branch", |l| async move {
            l.lock().await.send(&advertisement(NOWHERE)).await
        }),
        leaves("silence in the pack", |l| async move {
            let mut lines = l.lock().await;
            lines.advertise(NOWHERE).await?;
            lines.pack(b"PA").await
        }),
        leaves("a flush and no more", |l| async move {
            l.lock().await.send(pktline::FLUSH).await
        }),
    ]
}

struct Stage {
    /// Where the others found each other.
    _first: Dht,
    eve: Hostile,
    vic: Victim,
    ann: Device,
    ben: Device,
    rooms: u64,
}

impl Stage {
    async fn new() -> Self {
        let first = node(None);
        let eve = Hostile::start(&first).await;
        let vic = Victim::start(&first, &eve).await;
        Self {
            _first: first,
            eve,
            vic,
            ann: Device::load("ann"),
            ben: Device::load("ben"),
            rooms: 0,
        }
    }

    /// A group of Ann, Ben, Vic and Eve, that Vic has.
    async fn room(&mut self) -> Room {
        let eve = self.eve.writer();
        let people = [&self.ann, &self.ben, &self.vic.writer, &eve];
        self.rooms += 1;
        let room = tokio::task::block_in_place(|| Room::group_at(&people, DAY + 1000 * self.rooms));
        let id = room.conversation;
        self.eve
            .serve(id, offers_room(&room, &MemoryObjects::new()));
        self.vic.takes(&self.eve, id).await;
        room
    }

    /// An honest message in a room comes through.
    fn say(&self, room: &mut Room, text: &str) {
        let known = room.objects.clone();
        let said = tokio::task::block_in_place(|| room.say(&self.ben, text));
        self.eve.serve(room.conversation, offers_room(room, &known));
        self.eve.tell_commit(room.conversation, said);
    }

    async fn hears(&self, conversation: ConversationId, text: &str) {
        let id = conversation.to_hex();
        self.vic
            .until(text, |v| {
                v.events(|e| {
                    e["type"] == "message.received"
                        && e["message"]["body"] == text
                        && e["conversation"] == *id
                })
                .pop()
            })
            .await;
    }

    /// Ends the bridge, and looks at the repositories it leaves.
    fn finish(mut self, rooms: &[Room]) {
        self.vic.stop();
        for room in rooms {
            let path = self.vic.repository(room.conversation);
            verify(&path);
            fsck(&path);
            let left = std::fs::read_dir(path.join("quarantine")).unwrap().count();
            assert_eq!(left, 0);
            let head = std::fs::read_to_string(path.join("refs/heads/main")).unwrap();
            assert_eq!(head.trim(), room.head.to_hex());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liars_on_the_git_channel_are_named_and_cost_little() {
    let mut stage = Stage::new().await;
    let mut rooms = Vec::new();
    // The silent ones first: they are given up while the others have their turn.
    let mut slow = Vec::new();
    for attack in slow_servers() {
        let room = stage.room().await;
        stage.eve.serve(room.conversation, attack.play);
        stage.eve.tell_commit(room.conversation, attack.head);
        slow.push((attack.what, attack.end));
        rooms.push(room);
    }

    let bomb = {
        let mut room = stage.room().await;
        let (tree, objects) = tree_bomb();
        let known = room.objects.clone();
        for (kind, data) in objects {
            room.objects.insert(kind, &data);
        }
        let base = room.head;
        let text = r#"{"body":"hi","type":"text/plain"}"#;
        let eve = stage.eve.writer();
        let head = tokio::task::block_in_place(|| room.forge_tree(&eve, text, tree, vec![base]));
        let attack = Attack {
            what: "a tree of 10^10 files",
            end: End::Rule("UnknownPath"),
            head,
            play: offers_room(&room, &known),
        };
        room.head = base;
        (room, attack)
    };
    let roots = {
        let room = stage.room().await;
        let eve = stage.eve.writer();
        let other = tokio::task::block_in_place(|| Room::group_at(&[&eve, &stage.ben], DAY + 7));
        let attack = Attack {
            what: "another conversation under this one's name",
            end: End::Rule("ForeignRoot"),
            head: other.head,
            play: offers_room(&other, &MemoryObjects::new()),
        };
        (room, attack)
    };
    let mut attacks = vec![bomb, roots];
    for attack in liars().into_iter().chain(bad_servers()) {
        attacks.push((stage.room().await, attack));
    }
    for (room, attack) in attacks {
        let id = room.conversation;
        stage.vic.forget_peak();
        stage.eve.serve(id, attack.play);
        stage.eve.tell_commit(id, attack.head);
        // It answers while it is at it.
        assert!(stage.vic.check_alive() >= rooms.len());
        match attack.end {
            End::Rule(rule) => {
                let refused = stage
                    .vic
                    .until(attack.what, |v| {
                        Some(v.refused(id)).filter(|r| !r.is_empty())
                    })
                    .await;
                assert_eq!(refused, [rule], "{}", attack.what);
            }
            End::Leaves(gone) => {
                let waited = tokio::time::timeout(PATIENCE, gone.notified()).await;
                assert!(waited.is_ok(), "{}", attack.what);
                assert!(stage.vic.refused(id).is_empty(), "{}", attack.what);
            }
        }
        stage.vic.check_peak(attack.what);
        // What is tried again from now on meets an honest server.
        stage.eve.serve(id, offers_room(&room, &room.objects));
        rooms.push(room);
    }
    for (what, end) in slow {
        let End::Leaves(gone) = end else { continue };
        let waited = tokio::time::timeout(PATIENCE, gone.notified()).await;
        assert!(waited.is_ok(), "{what}");
    }
    // Each device is heard again, and every history is as it was, and goes on.
    for room in &mut rooms {
        stage.say(room, "honest");
    }
    for room in &rooms {
        stage.hears(room.conversation, "honest").await;
        assert_eq!(stage.vic.texts(room.conversation), ["honest"]);
    }
    stage.finish(&rooms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_that_is_rewritten_takes_nothing_away() {
    let mut stage = Stage::new().await;
    let mut first = stage.room().await;
    let base = first.clone();
    let id = first.conversation;
    stage.say(&mut first, "said");
    stage.hears(id, "said").await;
    // Now as if that had never been; and as if nothing had been said at all.
    let mut second = base.clone();
    second.now += 100;
    stage.say(&mut second, "said instead");
    stage.hears(id, "said instead").await;
    let id_text = id.to_hex();
    stage.eve.serve(id, offers_room(&base, &base.objects));
    stage.eve.tell_commit(id, base.head);
    let mut third = second.clone();
    stage.say(&mut third, "and later");
    stage.hears(id, "and later").await;
    let mut texts = stage.vic.texts(id);
    texts.sort();
    assert_eq!(texts, ["and later", "said", "said instead"]);
    assert_eq!(
        stage.vic.events(|e| e["type"] == "conversation.rejected"
            || (e["type"] == "conversation.removed" && e["conversation"] == *id_text)),
        Vec::<serde_json::Value>::new()
    );
    stage.vic.stop();
    verify(&stage.vic.repository(id));
    fsck(&stage.vic.repository(id));
}

/// Files that no commit names, and a tree that no repository may have. Adds them; gives their ids.
fn smuggle(room: &mut Room, count: u32) -> Vec<ObjectId> {
    let mut ids: Vec<ObjectId> = (0..count)
        .map(|n| hash_object(Kind::Blob, &n.to_be_bytes()).0.repeat(50))
        .map(|data| room.objects.insert(Kind::Blob, &data))
        .collect();
    let entry = TreeEntry {
        mode: Mode::File,
        name: b".git",
        id: ids[0],
    };
    ids.push(room.objects.insert(Kind::Tree, &write_tree(&mut [entry])));
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_beside_a_valid_commit_stays_outside() {
    let mut stage = Stage::new().await;
    let mut rooms = Vec::new();
    // Little junk and much, beside a message and in a first copy.
    for count in [10, 2000] {
        let mut room = stage.room().await;
        let clean = room.objects.clone();
        let junk = smuggle(&mut room, count);
        let said = tokio::task::block_in_place(|| room.say(&stage.ben, "honest"));
        let id = room.conversation;
        stage.eve.serve(id, offers_room(&room, &clean));
        stage.eve.tell_commit(id, said);
        stage.hears(id, "honest").await;
        rooms.push((room, junk));

        stage.rooms += 1;
        let (at, eve) = (DAY + 1000 * stage.rooms, stage.eve.writer());
        let people = [&stage.ann, &stage.ben, &stage.vic.writer, &eve];
        let mut room = tokio::task::block_in_place(|| Room::group_at(&people, at));
        let junk = smuggle(&mut room, count);
        let id = room.conversation;
        stage
            .eve
            .serve(id, offers_room(&room, &MemoryObjects::new()));
        stage.vic.takes(&stage.eve, id).await;
        rooms.push((room, junk));
    }
    stage.vic.stop();
    for (room, junk) in rooms {
        let path = stage.vic.repository(room.conversation);
        verify(&path);
        fsck(&path);
        let store = ObjectStore::open(&path).unwrap();
        assert!(store.contains(&room.head));
        assert!(junk.iter().all(|id| !store.contains(id)));
    }
}

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

/// A history whose merges make long searches for common ancestors necessary, each for itself.
fn tangle(room: &mut Room, by: &Device, long: usize, merges: usize) {
    let tree = room.tree();
    let text = r#"{"body":"","type":"text/plain"}"#;
    let base = room.head;
    let mut ends = [base; 2];
    for end in &mut ends {
        for _ in 0..long {
            *end = room.forge_tree(by, text, tree, vec![*end]);
        }
    }
    let [a, b] = ends;
    let merge = Message::merge(b).to_text();
    let mut head = room.forge_tree(by, &merge, tree, vec![a, b]);
    for _ in 0..merges {
        let again = room.forge_tree(by, &merge, tree, vec![a, b]);
        head = room.forge_tree(
            by,
            &Message::merge(again).to_text(),
            tree,
            vec![head, again],
        );
    }
}

/// So many commits in a row, unsigned: the head, and the pack.
fn unsigned(base: ObjectId, tree: ObjectId, device: DeviceId, count: u32) -> (ObjectId, Vec<u8>) {
    let mut head = base;
    let (mut writer, mut out) = PackWriter::new(count, false);
    for n in 0..count {
        let who = format!("E <{device}> {} +0000", DAY + u64::from(n));
        let text = format!("tree {tree}\nparent {head}\nauthor {who}\ncommitter {who}\n\n{{}}");
        head = hash_object(Kind::Commit, text.as_bytes());
        out.extend(writer.object(Kind::Commit, text.as_bytes()));
    }
    out.extend(writer.finish().0);
    (head, out)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: the largest of everything that a pack may hold"]
async fn the_largest_lies_cost_no_more() {
    let mut stage = Stage::new().await;
    let eve = stage.eve.writer();
    let mut attacks = Vec::new();

    let mut room = stage.room().await;
    let (base, known) = (room.head, room.objects.clone());
    tokio::task::block_in_place(|| tangle(&mut room, &eve, 2000, 800));
    let attack = Attack {
        what: "a tangled history",
        end: End::Rule("TooTangled"),
        head: room.head,
        play: offers_room(&room, &known),
    };
    room.head = base;
    attacks.push((room, attack));

    let room = stage.room().await;
    let (head, pack_of_many) =
        tokio::task::block_in_place(|| unsigned(room.head, room.tree(), eve.id(), 520_000));
    let attack = Attack {
        what: "520,000 unsigned commits",
        end: End::Rule("MissingSignature"),
        head,
        play: offers(head, pack_of_many),
    };
    attacks.push((room, attack));

    let room = stage.room().await;
    attacks.push((
        room,
        lies(
            "520,000 deltas upon one object",
            "MissingObject",
            fan(520_000),
        ),
    ));
    let room = stage.room().await;
    let zeros = (0u8..40).map(|n| {
        let mut bytes = vec![0; 31 << 20];
        bytes[0] = n;
        entry(BLOB, &bytes)
    });
    let zeros = pack(&zeros.collect::<Vec<_>>());
    attacks.push((
        room,
        lies("more than a gigabyte of zeros", "PackTotalTooLarge", zeros),
    ));

    let mut rooms = Vec::new();
    for (room, attack) in attacks {
        let id = room.conversation;
        stage.vic.forget_peak();
        stage.eve.serve(id, attack.play);
        stage.eve.tell_commit(id, attack.head);
        let refused = stage
            .vic
            .until(attack.what, |v| {
                // About the conversation itself nothing can be said until it is judged.
                v.rpc("account.list", serde_json::json!({}));
                Some(v.refused(id)).filter(|r| !r.is_empty())
            })
            .await;
        if let End::Rule(rule) = attack.end {
            assert_eq!(refused, [rule], "{}", attack.what);
        }
        stage.vic.check_peak(attack.what);
        rooms.push(room);
    }
    for room in &mut rooms {
        stage.say(room, "honest");
    }
    for room in &rooms {
        stage.hears(room.conversation, "honest").await;
    }
    stage.finish(&rooms);
}
