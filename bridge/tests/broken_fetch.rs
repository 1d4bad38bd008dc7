//! Fetches that break off: what came is kept, and the next one needs less. And one that no notice
//! asks for.
#![allow(clippy::unwrap_used)]

mod account_support;
mod hostile_support;
#[path = "../../core/tests/swarm/mod.rs"]
mod swarm;

use account_support::{Bridge, PATIENCE, node};
use hostile_support::process::Victim;
use hostile_support::{
    Hostile, Play, fsck, offers, offers_room, pack, play, verify, victim, writer_of,
};
use starling_core::api::{ConversationMode, Event, MemberRole};
use starling_core::git::Repository;
use starling_core::git::object::Kind;
use starling_core::git::pack::PackWriter;
use starling_core::git::pktline;
use starling_core::git::reach::missing;
use starling_core::id::ObjectId;
use starling_core::peer::channel_name::ChannelName;
use starling_core::swarm::commit::Draft;
use starling_core::swarm::message::Message;
use starling_core::swarm::object::{MemoryObjects, Objects as _};
use starling_core::swarm::write;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use swarm::{DAY, Device, Room};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

struct Whole(MemoryObjects);

impl Repository for Whole {
    fn head(&self) -> Option<ObjectId> {
        None
    }
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.0.object(id)
    }
}

/// Texts of a device on top of a room, with a fork and a merge now and then.
fn go_on(room: &mut Room, by: &Device, count: usize) {
    let tree = room.tree();
    let mut write = |parents: Vec<ObjectId>, message: Message| {
        let draft = Draft {
            tree,
            parents,
            name: &by.name,
            device: by.id(),
            time: room.now,
            message: &message.to_text(),
        };
        let commit = draft.sign(&*by.key).unwrap();
        room.now += 1;
        let id = commit.id;
        room.objects.extend([commit]);
        id
    };
    let mut head = room.head;
    for n in 0..count {
        let text = |side: &str| Message::text(format!("{n}{side}"), None);
        head = match n % 20 {
            19 => {
                let sides = [write(vec![head], text("a")), write(vec![head], text("b"))];
                write(sides.to_vec(), Message::merge(sides[1]))
            }
            _ => write(vec![head], text("")),
        };
    }
    room.head = head;
}

/// A pack of these objects, in this order.
fn packed(repo: &Whole, objects: &[ObjectId]) -> Vec<u8> {
    let count = u32::try_from(objects.len()).unwrap();
    let (mut writer, mut pack) = PackWriter::new(count, false);
    for id in objects {
        let (kind, data) = repo.object(id).unwrap();
        pack.extend(writer.object(kind, &data));
    }
    pack.extend(writer.finish().0);
    pack
}

/// Serves a room, and breaks off each pack of more than a few objects at a place that is drawn.
/// Notes how many objects each pack has.
fn breaks_off(room: &Room, seed: u64, packs: Arc<watch::Sender<Vec<usize>>>) -> Play {
    let (head, repo) = (room.head, Arc::new(Whole(room.objects.clone())));
    let seed = Arc::new(Mutex::new(seed));
    play(move |mut lines| {
        let (repo, packs, seed) = (repo.clone(), packs.clone(), seed.clone());
        async move {
            let Some(haves) = lines.haves(head).await? else {
                return Some(lines);
            };
            let haves: BTreeSet<_> = haves.into_iter().filter(|h| repo.0.contains(h)).collect();
            let objects = missing(&*repo, head, &haves).unwrap();
            let pack = packed(&repo, &objects);
            packs.send_modify(|p| p.push(objects.len()));
            if objects.len() <= 30 {
                lines.pack(&pack).await?;
                lines.send(pktline::FLUSH).await?;
                return Some(lines);
            }
            let drawn = {
                let mut seed = seed.lock().unwrap();
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (*seed >> 33) as usize % 50
            };
            // Somewhere between a quarter and three.
            lines.pack(&pack[..pack.len() * (25 + drawn) / 100]).await?;
            lines.channel.shutdown().await.ok()?;
            None
        }
    })
}

/// Vic is told of a room, and asked in first if it is `new`, and has all of it in the end.
async fn comes_to(vic: &Bridge, eve: &Hostile, room: &Room, new: bool) {
    let (id, head) = (room.conversation, room.head);
    if new {
        eve.invite(id);
        vic.accepts(id).await;
    } else {
        eve.tell_commit(id, head);
    }
    vic.until("all of it", |a| async move {
        (a.conversation(&id)?.head() == head).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_of_a_broken_fetch_is_kept_and_the_next_needs_less() {
    let first = node(None);
    let eve = Hostile::start(&first).await;
    let vic = victim(&first, &eve).await;
    let (ann, ben) = (Device::load("ann"), Device::load("ben"));
    let (own, writer) = (writer_of(vic.account().dir(), "Vic"), eve.writer());
    for seed in 1..=2 {
        let mut room = tokio::task::block_in_place(|| {
            let at = DAY + 100_000 * seed;
            let mut room = Room::group_at(&[&ann, &ben, &own, &writer], at);
            go_on(&mut room, &ben, 150);
            room
        });
        let id = room.conversation;
        // First a copy, then what was said since.
        for round in 0..2 {
            if round == 1 {
                tokio::task::block_in_place(|| go_on(&mut room, &ben, 150));
            }
            let packs = Arc::new(watch::Sender::new(Vec::new()));
            eve.serve(id, breaks_off(&room, seed * 2 + round, packs.clone()));
            comes_to(&vic, &eve, &room, round == 0).await;
            let packs = packs.borrow().clone();
            println!("{seed} {round}: {packs:?}");
            assert!(packs.len() > 2, "{packs:?}");
            assert!(packs.windows(2).all(|p| p[1] < p[0]), "{packs:?}");
        }
        assert!(vic.account().verify(id).await.unwrap().valid);
        let path = vic.account().repository_path(&id);
        verify(&path);
        fsck(&path);
        assert!(!path.with_extension("clone").exists());
        // A part that breaks the rules is not kept, and what comes after is heard all the same.
        let base = room.clone();
        tokio::task::block_in_place(|| {
            let draft = Draft {
                tree: room.tree(),
                parents: vec![room.head],
                name: "Ben",
                device: ben.id(),
                time: room.now,
                message: &Message::text("not signed by Ben", None).to_text(),
            };
            let forged = draft.sign(&*ann.key).unwrap();
            room.head = forged.id;
            room.objects.extend([forged]);
        });
        let forged = room.head;
        tokio::task::block_in_place(|| go_on(&mut room, &ben, 100));
        let packs = Arc::new(watch::Sender::new(Vec::new()));
        eve.serve(id, breaks_off(&room, seed, packs.clone()));
        eve.tell_commit(id, room.head);
        let mut seen = packs.subscribe();
        let two = tokio::time::timeout(PATIENCE, seen.wait_for(|p| p.len() > 1));
        let same = two.await.unwrap().unwrap().clone();
        assert_eq!(same[0], same[1], "nothing of it was kept");
        let store = vic.account().conversation(&id).unwrap().store.clone();
        assert!(!store.contains(&forged));
        drop(store);
        let mut room = base;
        let known = room.objects.clone();
        let said = tokio::task::block_in_place(|| room.say(&ben, "honest"));
        eve.serve(id, offers_room(&room, &known));
        eve.tell_commit(id, said);
        vic.until("what comes after", |a| async move {
            (a.conversation(&id)?.head() == said).then_some(())
        })
        .await;
    }
}

/// Serves a room as a daemon does, any commit that is asked for, the newest first and all trees and
/// files last; and breaks off after so many bytes. Notes what was asked for.
fn newest_first(room: &Room, bytes: usize, asked: Arc<watch::Sender<Vec<ObjectId>>>) -> Play {
    let (head, repo) = (room.head, Arc::new(Whole(room.objects.clone())));
    play(move |mut lines| {
        let (repo, asked) = (repo.clone(), asked.clone());
        async move {
            let Some((want, haves)) = lines.asked(head).await? else {
                return Some(lines);
            };
            asked.send_modify(|a| a.push(want));
            let haves: BTreeSet<_> = haves.into_iter().filter(|h| repo.0.contains(h)).collect();
            let objects = missing(&*repo, want, &haves).unwrap();
            let is_commit = |id: &ObjectId| repo.object(id).unwrap().0 == Kind::Commit;
            let (mut commits, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_commit);
            commits.reverse();
            commits.extend(others);
            let pack = packed(&repo, &commits);
            if pack.len() <= bytes {
                lines.pack(&pack).await?;
                lines.send(pktline::FLUSH).await?;
                return Some(lines);
            }
            lines.pack(&pack[..bytes]).await?;
            lines.channel.shutdown().await.ok()?;
            None
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_daemon_that_breaks_off_a_copy_and_what_came_since_are_had_in_steps() {
    let first = node(None);
    let eve = Hostile::start(&first).await;
    let vic = victim(&first, &eve).await;
    let (ann, ben) = (Device::load("ann"), Device::load("ben"));
    let (own, writer) = (writer_of(vic.account().dir(), "Vic"), eve.writer());
    let mut room =
        tokio::task::block_in_place(|| Room::group_at(&[&ann, &ben, &own, &writer], DAY));
    let id = room.conversation;
    for round in 0..2 {
        tokio::task::block_in_place(|| go_on(&mut room, &ben, 300));
        let asked = Arc::new(watch::Sender::new(Vec::new()));
        eve.serve(id, newest_first(&room, 100_000, asked.clone()));
        comes_to(&vic, &eve, &room, round == 0).await;
        assert!(vic.account().verify(id).await.unwrap().valid);
        let path = vic.account().repository_path(&id);
        verify(&path);
        fsck(&path);
        let asked = asked.borrow().clone();
        let distinct: BTreeSet<_> = asked.iter().collect();
        println!("{} fetches of {} commits", asked.len(), distinct.len());
        assert_eq!(
            (asked.first(), asked.last()),
            (Some(&room.head), Some(&room.head))
        );
        // Down, and up again.
        assert!(distinct.len() > 2, "{asked:?}");
        assert!(asked.len() <= 2 * distinct.len(), "{asked:?}");
    }
}

/// What a server does with the pack that it is asked for.
#[derive(Clone, Copy, Debug)]
enum Gives {
    /// Half of it, and is gone.
    Half,
    /// Half of it, and then nothing more: the test kills the other side.
    Stays,
    /// A pack of nothing.
    Empty,
    /// All but one commit that others follow.
    Gap,
    All,
}

/// Serves a room in the ways that are told, one after the other, the last for ever. Notes how many
/// objects each pack has once the half of it, or all, is sent.
fn gives(room: &Room, ways: &'static [Gives], packs: Arc<watch::Sender<Vec<usize>>>) -> Play {
    let (head, repo) = (room.head, Arc::new(Whole(room.objects.clone())));
    play(move |mut lines| {
        let (repo, packs) = (repo.clone(), packs.clone());
        async move {
            let Some(haves) = lines.haves(head).await? else {
                return Some(lines);
            };
            let haves: BTreeSet<_> = haves.into_iter().filter(|h| repo.0.contains(h)).collect();
            let mut objects = missing(&*repo, head, &haves).unwrap();
            let nth = packs.borrow().len().min(ways.len() - 1);
            let way = ways[nth];
            match way {
                Gives::Empty => objects.clear(),
                Gives::Gap => {
                    let commit =
                        |id: &&ObjectId| matches!(repo.0.object(id), Some((Kind::Commit, _)));
                    let behind = *objects.iter().filter(commit).nth(1).unwrap();
                    objects.retain(|id| *id != behind);
                }
                Gives::All | Gives::Half | Gives::Stays => {}
            }
            let pack = packed(&repo, &objects);
            let sent = match way {
                Gives::Half | Gives::Stays => pack.len() / 2,
                Gives::All | Gives::Empty | Gives::Gap => pack.len(),
            };
            lines.pack(&pack[..sent]).await?;
            packs.send_modify(|p| p.push(objects.len()));
            match way {
                Gives::All | Gives::Empty | Gives::Gap => lines.send(pktline::FLUSH).await?,
                Gives::Stays => lines.wait_for_end().await,
                Gives::Half => lines.channel.shutdown().await.ok()?,
            }
            (!matches!(way, Gives::Half | Gives::Stays)).then_some(lines)
        }
    })
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_copy_goes_on_where_it_was_when_the_bridge_is_killed() {
    let first = node(None);
    let eve = Hostile::start(&first).await;
    let mut vic = Victim::start(&first, &eve).await;
    let (ann, ben, writer) = (Device::load("ann"), Device::load("ben"), eve.writer());
    let room = |at: u64, vic: &Victim| {
        tokio::task::block_in_place(|| {
            let mut room = Room::group_at(&[&ann, &ben, &vic.writer, &writer], at);
            go_on(&mut room, &ben, 150);
            room
        })
    };
    // Killed while the second half of it comes.
    let one = room(DAY, &vic);
    let id = one.conversation;
    let packs = Arc::new(watch::Sender::new(Vec::new()));
    let ways = &[Gives::Half, Gives::Stays, Gives::All];
    eve.serve(id, gives(&one, ways, packs.clone()));
    vic.accepts(&eve, id).await;
    let mut seen = packs.subscribe();
    let half = tokio::time::timeout(PATIENCE, seen.wait_for(|p| p.len() == 2));
    half.await.unwrap().unwrap();
    let (place, beside) = (
        vic.repository(id),
        vic.repository(id).with_extension("clone"),
    );
    assert!(beside.exists() && !place.exists());
    vic.kill();
    vic.start_again(&first);
    vic.is_ready(id).await;
    let sent = packs.borrow().clone();
    println!("{sent:?}");
    assert_eq!(sent.len(), 3);
    assert!(
        sent[1] < sent[0] * 3 / 4,
        "what came before is kept: {sent:?}"
    );
    assert_eq!(sent[2], sent[1], "and still after the kill: {sent:?}");
    eve.connect(vic.device, vic.jami_id).await;
    // Killed when it has just got its name, and before anything else of it was noted.
    let two = room(DAY + 100_000, &vic);
    let again = two.conversation;
    let packs = Arc::new(watch::Sender::new(Vec::new()));
    eve.serve(again, gives(&two, &[Gives::All], packs.clone()));
    vic.accepts(&eve, again).await;
    let named = vic.repository(again);
    let appears = async {
        while !named.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, appears).await.unwrap();
    vic.kill();
    vic.start_again(&first);
    vic.is_ready(again).await;
    assert_eq!(packs.borrow().len(), 1, "it is not fetched again");
    vic.stop();
    for id in [id, again] {
        verify(&vic.repository(id));
        fsck(&vic.repository(id));
        let left: Vec<_> = std::fs::read_dir(vic.repository(id).parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert!(left.iter().all(|n| n.len() == 40), "{left:?}");
    }
}

/// Takes an object out of a repository that nobody has open.
fn take_out(repository: &std::path::Path, object: &str) {
    let git = |args: &[&str], input: std::process::Stdio| {
        let mut git = std::process::Command::new("git");
        git.arg("--git-dir").arg(repository).args(args).stdin(input);
        let out = git.output().unwrap();
        assert!(out.status.success(), "{args:?}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    let id = git(&["rev-parse", object], std::process::Stdio::null());
    let packs = repository.join("objects/pack");
    let aside = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&packs).unwrap() {
        let path = entry.unwrap().path();
        let to = aside.path().join(path.file_name().unwrap());
        std::fs::copy(&path, &to).unwrap();
        std::fs::remove_file(&path).unwrap();
        if to.extension().is_some_and(|e| e == "pack") {
            let pack = std::fs::File::open(&to).unwrap();
            git(&["unpack-objects", "-q"], pack.into());
        }
    }
    // Which would put it back.
    std::fs::remove_file(repository.join("starling.journal")).unwrap();
    let (dir, name) = id.trim().split_at(2);
    std::fs::remove_file(repository.join("objects").join(dir).join(name)).unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_copy_whose_kept_part_is_damaged_begins_anew() {
    let first = node(None);
    let eve = Hostile::start(&first).await;
    let mut vic = Victim::start(&first, &eve).await;
    let (ann, ben, writer) = (Device::load("ann"), Device::load("ben"), eve.writer());
    // A commit is found missing before anything is asked for, a tree when all is judged.
    for (n, object, tries) in [(0, "main~3", 3), (1, "main^{tree}", 4)] {
        let room = tokio::task::block_in_place(|| {
            let at = DAY + n * 100_000;
            let mut room = Room::group_at(&[&ann, &ben, &vic.writer, &writer], at);
            go_on(&mut room, &ben, 60);
            room
        });
        let id = room.conversation;
        let packs = Arc::new(watch::Sender::new(Vec::new()));
        let ways = &[Gives::Half, Gives::Stays, Gives::All];
        eve.serve(id, gives(&room, ways, packs.clone()));
        vic.accepts(&eve, id).await;
        let mut seen = packs.subscribe();
        let half = tokio::time::timeout(PATIENCE, seen.wait_for(|p| p.len() == 2));
        half.await.unwrap().unwrap();
        let place = vic.repository(id);
        vic.kill();
        tokio::task::block_in_place(|| take_out(&place.with_extension("clone"), object));
        vic.start_again(&first);
        vic.is_ready(id).await;
        let sent = packs.borrow().clone();
        println!("{object}: {sent:?}");
        assert_eq!(sent.len(), tries, "{sent:?}");
        assert_eq!(
            sent.last(),
            sent.first(),
            "nothing is built on it: {sent:?}"
        );
        vic.kill();
        verify(&place);
        fsck(&place);
        vic.start_again(&first);
        eve.connect(vic.device, vic.jami_id).await;
    }
    vic.stop();
}

/// A daemon whose copy is replaced while it serves it sends a pack that lacks something, or everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_that_lacks_objects_is_asked_for_again_before_anybody_is_told() {
    let first = node(None);
    let eve = Hostile::start(&first).await;
    let vic = victim(&first, &eve).await;
    let (ann, ben) = (Device::load("ann"), Device::load("ben"));
    let (own, writer) = (writer_of(vic.account().dir(), "Vic"), eve.writer());
    let mut room = tokio::task::block_in_place(|| {
        let mut room = Room::group_at(&[&ann, &ben, &own, &writer], DAY);
        go_on(&mut room, &ben, 10);
        room
    });
    let id = room.conversation;
    let told = || {
        let all = vic.events().into_iter();
        all.filter(|e| matches!(e, Event::ConversationRejected { .. }))
            .count()
    };
    let rounds: [(&'static [Gives], usize); 3] = [
        (&[Gives::Empty, Gives::All], 0),
        (&[Gives::Gap, Gives::All], 0),
        (&[Gives::Empty, Gives::Gap, Gives::All], 1),
    ];
    for (round, (ways, says)) in rounds.into_iter().enumerate() {
        let packs = Arc::new(watch::Sender::new(Vec::new()));
        eve.serve(id, gives(&room, ways, packs.clone()));
        comes_to(&vic, &eve, &room, round == 0).await;
        assert_eq!(packs.borrow().len(), ways.len());
        assert_eq!(told(), says, "{ways:?}");
        tokio::task::block_in_place(|| go_on(&mut room, &ben, 10));
    }
}

/// A daemon that comes into many groups at once loses notices of its own.
#[tokio::test(flavor = "multi_thread")]
async fn who_came_in_and_was_not_heard_is_asked() {
    let first = node(None);
    let eve = Hostile::start(&first).await;
    let vic = victim(&first, &eve).await;
    let account = vic.account();
    let made = account
        .create_group(ConversationMode::InvitesOnly, None, vec![eve.account()])
        .await
        .unwrap();
    let id = made.id;
    let conversation = account.conversation(&id).unwrap();
    let joined = tokio::task::block_in_place(|| {
        let head = conversation.head();
        let mut copy = write::Repository::new(&*conversation.store, id, head).unwrap();
        let eve = eve.writer();
        copy.join(&eve.writer(), hostile_support::now()).unwrap()
    });
    let mut new = MemoryObjects::new();
    new.extend(joined.objects);
    eve.serve(id, offers(joined.commit, pack(&new, &MemoryObjects::new())));
    let other = eve.account();
    let role = |who| {
        vic.ready(id, "who is asked in to have come in", move |c| {
            let member = c.members.iter().find(|m| m.id == other);
            member.is_some_and(|m| m.role == who)
        })
    };
    role(MemberRole::Invited).await;
    // Whoever has a swarm channel has the conversation.
    let swarm = ChannelName::Swarm { conversation: id };
    let channel = eve.open(account.device_id(), vic.id(), swarm).await;
    role(MemberRole::Member).await;
    assert_eq!(conversation.head(), joined.commit);
    drop(channel.unwrap());
}
