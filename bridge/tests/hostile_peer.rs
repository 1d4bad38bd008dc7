//! A hostile member against a bridge of its own process: liars on the git channel. The bridge names
//! what it refuses, answers its user meanwhile, stays within its memory, and keeps its history.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod account_support;
mod hostile_support;
#[path = "../../core/tests/swarm/mod.rs"]
mod swarm;

use account_support::PATIENCE;
use hostile_support::packs::{
    BLOB, COMMIT, TREE, back, chain, counted, delta, entry, fan, header, holding, pack, tree_bomb,
    votes_bomb, wide_bomb, zlib,
};
use hostile_support::stage::Stage;
use hostile_support::{Lines, Play, advertisement, fsck, offers, offers_room, play, verify};
use starling_bridge::store::objects::ObjectStore;
use starling_core::git::object::{Kind, Mode, TreeEntry, hash_object, write_tree};
use starling_core::git::pack::PackWriter;
use starling_core::git::pktline;
use starling_core::id::{DeviceId, ObjectId};
use starling_core::swarm::message::{ConversationMode, Message};
use starling_core::swarm::object::MemoryObjects;
use std::sync::Arc;
use std::time::{Duration, Instant};
use swarm::{DAY, Room};
use tokio::io::AsyncWriteExt as _;
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
        lies(
            "a delta upon what was before the pack",
            "PackBaseOffset",
            pack(&[one.clone(), back(&[0xff, 0x7f])]),
        ),
        lies(
            "a delta upon itself by its place",
            "PackBaseOffset",
            pack(&[one.clone(), back(&[0])]),
        ),
        lies(
            "a delta upon the middle of an entry",
            "PackBaseOffset",
            pack(&[one.clone(), back(&[3])]),
        ),
        lies(
            "objects of 31 MB that are needed all at once",
            "PackHeld",
            holding(6),
        ),
        lies("a chain of 10^4 deltas", "PackTooDeep", chain(10_000)),
        lies("10^5 deltas upon one object", "MissingObject", fan(100_000)),
        lies(
            "10^6 deltas",
            "PackTooManyObjects",
            // All of them are there, so it takes whoever reads on past the count.
            counted(
                1_000_001,
                &[one.clone(), delta(id, 3, b"two").repeat(1_000_000)],
            ),
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
        // Whoever never is silent for long is given up for being slow.
        leaves("a byte of the pack each ten seconds", |l| {
            drips(l, Duration::from_secs(10))
        }),
        leaves("a byte of the pack a minute", |l| {
            drips(l, Duration::from_secs(60))
        }),
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

/// Trees that are much more than their objects: what each is refused for, the top and the objects.
fn bombs() -> Vec<(&'static str, &'static str, Bomb)> {
    vec![
        ("a tree of 10^10 files", "UnknownPath", tree_bomb()),
        (
            "6 x 10^8 votes, each in its place",
            "MalformedTree",
            votes_bomb(10_000),
        ),
        (
            "10^6 entries in each of five directories",
            "MalformedTree",
            wide_bomb(),
        ),
    ]
}

/// A tree, and its objects.
type Bomb = (ObjectId, Vec<(Kind, Vec<u8>)>);

/// Puts a bomb into a room. Gives the room's tree with it.
fn explode(room: &mut Room, (top, objects): Bomb) -> ObjectId {
    for (kind, data) in objects {
        room.objects.insert(kind, &data);
    }
    room.grafted(Mode::Tree, "votes", top)
}

/// The same in the first commit of a conversation, of which somebody wants a copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_copy_that_is_a_bomb_costs_little() {
    let stage = Stage::new().await;
    let eve = stage.eve.writer();
    for (n, (what, rule, objects)) in bombs().into_iter().enumerate() {
        let (known, room) = tokio::task::block_in_place(|| {
            let at = DAY + 1000 * n as u64;
            let mut room = Room::create_at(&eve, ConversationMode::InvitesOnly, None, at);
            let tree = explode(&mut room, objects);
            let text = Message::initial(ConversationMode::InvitesOnly, None).to_text();
            room.forge_tree(&eve, &text, tree, vec![]);
            room.conversation = room.head.into();
            (MemoryObjects::new(), room)
        });
        let id = room.conversation;
        stage.eve.serve(id, offers_room(&room, &known));
        stage.vic.forget_peak();
        stage.vic.accepts(&stage.eve, id).await;
        let refused = stage
            .vic
            .until(what, |v| Some(v.refused(id)).filter(|r| !r.is_empty()))
            .await;
        assert_eq!(refused[0], rule, "{what}");
        stage.vic.check_peak(what);
        stage
            .vic
            .until("that it is shown", |v| {
                (v.conversation(id)["state"] == "refused").then_some(())
            })
            .await;
        assert!(!stage.vic.repository(id).exists(), "{what}");
    }
    stage.finish(&[]);
}

/// Shows a branch, and sends a pack byte by byte until the other side has had enough.
async fn drips(lines: Arc<Mutex<Lines>>, pause: Duration) -> Option<()> {
    let mut lines = lines.lock().await;
    lines.advertise(NOWHERE).await?;
    let pack = counted(1000, &[entry(BLOB, b"one")]);
    for byte in pack.iter().cycle() {
        lines.pack(&[*byte]).await?;
        tokio::select! {
            () = lines.wait_for_end() => return Some(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
    None
}

/// It takes two minutes, in which nothing is to be done: beside the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_at_a_time_keeps_nobody_waiting() {
    let mut stage = Stage::new().await;
    let mut rooms = Vec::new();
    let mut slow = Vec::new();
    stage.vic.forget_peak();
    for attack in slow_servers() {
        let room = stage.room().await;
        stage.eve.serve(room.conversation, attack.play);
        stage.eve.tell_commit(room.conversation, attack.head);
        slow.push((attack.what, attack.end));
        rooms.push(room);
    }
    // What others say meanwhile comes as ever.
    let mut quick = stage.room().await;
    stage.say(&mut quick, "meanwhile");
    stage.hears(quick.conversation, "meanwhile").await;
    let begun = Instant::now();
    for (what, end) in slow {
        let End::Leaves(gone) = end else { continue };
        let waited = tokio::time::timeout(2 * PATIENCE, gone.notified()).await;
        assert!(waited.is_ok(), "{what}");
        println!("{what}: given up after {:?} at most", begun.elapsed());
    }
    stage.vic.check_peak("a byte at a time");
    for room in &mut rooms {
        stage.say(room, "honest");
    }
    for room in &rooms {
        stage.hears(room.conversation, "honest").await;
        assert!(stage.vic.refused(room.conversation).is_empty());
    }
    rooms.push(quick);
    stage.finish(&rooms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liars_on_the_git_channel_are_named_and_cost_little() {
    let mut stage = Stage::new().await;
    let mut rooms = Vec::new();
    let mut attacks = Vec::new();
    for (what, rule, objects) in bombs() {
        let mut room = stage.room().await;
        let (known, base) = (room.objects.clone(), room.head);
        let tree = tokio::task::block_in_place(|| explode(&mut room, objects));
        let text = r#"{"body":"hi","type":"text/plain"}"#;
        let eve = stage.eve.writer();
        let head = tokio::task::block_in_place(|| room.forge_tree(&eve, text, tree, vec![base]));
        let attack = Attack {
            what,
            end: End::Rule(rule),
            head,
            play: offers_room(&room, &known),
        };
        (room.objects, room.head) = (known, base);
        attacks.push((room, attack));
    }
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
    attacks.push(roots);
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
