//! Hostile members who are asked for the first copy of a conversation, over real connections.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod account_support;
mod hostile_support;
#[path = "../../core/tests/swarm/mod.rs"]
mod swarm;

use account_support::{Bridge, node};
use hostile_support::process::Victim;
use hostile_support::{
    Hostile, Play, fsck, offers, offers_room, only_the_newest, play, verify, victim, victim_within,
    writer_of,
};
use starling_bridge::account::Bounds;
use starling_core::api::{ConversationState, Event};
use starling_core::git::pack::{Limits, PackWriter};
use starling_core::id::ConversationId;
use starling_core::swarm::message::ConversationMode;
use starling_core::swarm::object::{Kind, MemoryObjects};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use swarm::{DAY, Device, Room};

/// Bytes that are no pack.
fn garbled(room: &Room) -> Vec<u8> {
    let mut bytes = only_the_newest(room);
    bytes[12..].reverse();
    bytes
}

/// Counts how often something is asked for.
fn counted(what: Play) -> (Play, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let play = play(move |lines| {
        count.fetch_add(1, Ordering::Relaxed);
        what(lines)
    });
    (play, asked)
}

/// A device that has served badly, even often, may have mended itself, and is all that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_copy_keeps_out_no_good_one_with_the_same_newest_commit() {
    let first = node(None);
    let eve = Hostile::start(&first).await;
    let mut vic = Victim::start(&first, &eve).await;
    let (ann, her) = (Device::load("ann"), eve.writer());
    // More often than who breaks a rule is asked; and what is missing, and what is no pack.
    let cases = [(garbled as fn(&Room) -> _, 4), (only_the_newest, 1)];
    for (n, (bad, times)) in cases.into_iter().enumerate() {
        let at = DAY + 1000 * n as u64;
        let people = [&ann, &vic.writer, &her];
        let room = tokio::task::block_in_place(|| Room::group_at(&people, at));
        let id = room.conversation;
        let (bad, asked) = counted(offers(room.head, bad(&room)));
        eve.serve(id, bad);
        vic.forget_peak();
        vic.accepts(&eve, id).await;
        vic.until("refusals", |v| (v.refused(id).len() >= times).then_some(()))
            .await;
        // The person is told, and that others are asked.
        let shown = vic
            .until("what was refused", |v| {
                let shown = v.conversation(id);
                (shown["state"] == "refused").then_some(shown)
            })
            .await;
        assert_eq!(shown["readOnly"], "refused", "{shown}");
        assert_eq!(shown["refused"]["from"], eve.device().to_hex(), "{shown}");
        assert_eq!(shown["refused"]["rule"], vic.refused(id)[0], "{shown}");
        eve.serve(id, offers_room(&room, &MemoryObjects::new()));
        vic.is_ready(id).await;
        // Once a second, then ever less.
        let asked = asked.load(Ordering::Relaxed);
        assert!((times..times + 3).contains(&asked), "{n}: {asked}");
        let shown = vic.conversation(id);
        assert!(
            shown["refused"].is_null(),
            "nothing is left to explain: {shown}"
        );
        vic.check_peak("copies that are bad");
        verify(&vic.repository(id));
        fsck(&vic.repository(id));
    }
    vic.stop();
}

/// Whoever says that they have the conversation is asked for it, whoever asked us in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asked_somebody_in_keeps_them_from_no_copy_that_another_has() {
    let first = node(None);
    let (eve, ben) = (Hostile::start(&first).await, Hostile::start(&first).await);
    let vic = victim(&first, &eve).await;
    let address = ben.account().to_hex();
    vic.account().add_contact(&address, None).await.unwrap();
    ben.connect(vic.account().device_id(), vic.id()).await;
    let own = writer_of(vic.account().dir(), "Vic");
    let (ann, her, his) = (Device::load("ann"), eve.writer(), ben.writer());
    let room = tokio::task::block_in_place(|| Room::group(&[&ann, &own, &her, &his]));
    let (id, head) = (room.conversation, room.head);
    let (bad, asked) = counted(offers(head, only_the_newest(&room)));
    eve.serve(id, bad);
    let (good, gave) = counted(offers_room(&room, &MemoryObjects::new()));
    ben.serve(id, good);
    eve.invite(id);
    vic.accepts(id).await;
    vic.until("a refusal", |a| async move {
        let refused = a.conversation_view(id).await.unwrap().state == ConversationState::Refused;
        refused.then_some(())
    })
    .await;
    assert_eq!(
        gave.load(Ordering::Relaxed),
        0,
        "who said nothing is not asked"
    );
    ben.tell_commit(id, head);
    vic.ready(id, "the group", |_| true).await;
    // Eve is not asked first any more.
    let asked = asked.load(Ordering::Relaxed);
    assert!((1..4).contains(&asked), "{asked}");
    assert_eq!(gave.load(Ordering::Relaxed), 1);
    let blamed = vic.events().into_iter().filter_map(|e| match e {
        Event::ConversationRejected { from, .. } => Some(from),
        _ => None,
    });
    assert!(blamed.into_iter().all(|from| from == eve.device()));
    verify(&vic.account().repository_path(&id));
    fsck(&vic.account().repository_path(&id));
}

/// What was refused in a conversation.
fn refused(vic: &Bridge, id: ConversationId) -> Vec<String> {
    let rule = |e| match e {
        Event::ConversationRejected {
            conversation, rule, ..
        } if conversation == id => Some(rule),
        _ => None,
    };
    vic.events().into_iter().filter_map(rule).collect()
}

/// A pack of all of a room, and after it an object that does not get smaller.
fn and_much_more(objects: &MemoryObjects, bytes: usize) -> Vec<u8> {
    let mut noise = Vec::with_capacity(bytes);
    let mut state = 1u64;
    while noise.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        noise.extend_from_slice(&state.to_be_bytes()[..4]);
    }
    let (mut writer, mut out) = PackWriter::new(objects.iter().count() as u32 + 1, false);
    for (_, kind, data) in objects.iter() {
        out.extend(writer.object(kind, data));
    }
    out.extend(writer.object(Kind::Blob, &noise));
    out.extend(writer.finish().0);
    out
}

/// The limits are set low here: what they are otherwise, no test sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_named_and_leaves_nothing() {
    const RECEIVED: u64 = 100_000;
    let first = node(None);
    let eve = Hostile::start(&first).await;
    let bounds = Bounds {
        pack: Limits {
            received: RECEIVED,
            ..Limits::default()
        },
        // The room alone is more than that.
        kept: 5_000,
        ..Bounds::default()
    };
    let mut vic = victim_within(&first, &eve, bounds).await;
    let own = writer_of(vic.account().dir(), "Vic");
    let (ann, her) = (Device::load("ann"), eve.writer());
    let people = [&ann, &own, &her];
    let rooms =
        tokio::task::block_in_place(|| [0, 1, 2].map(|n| Room::group_at(&people, DAY + 1000 * n)));
    let none = MemoryObjects::new();
    let much = 2 * RECEIVED as usize;
    let shown = [
        // Nothing of it came whole; and all that is needed did, but is more than is kept of a part.
        (&rooms[0], and_much_more(&none, much), "PackTooLarge"),
        (
            &rooms[1],
            and_much_more(&rooms[1].objects, much),
            "ConversationTooLarge",
        ),
    ];
    for (room, bytes, rule) in shown {
        let id = room.conversation;
        eve.serve(id, offers(room.head, bytes));
        eve.invite(id);
        vic.accepts(id).await;
        let told = vic
            .until(rule, |_| {
                let told = refused(&vic, id);
                async move { (!told.is_empty()).then_some(told) }
            })
            .await;
        assert_eq!(told[0], rule);
        vic.until("it to be shown", |a| async move {
            let view = a.conversation_view(id).await.ok()?;
            (view.state == ConversationState::Refused).then_some(())
        })
        .await;
        assert!(!vic.account().repository_path(&id).exists(), "{rule}");
    }
    // A document is no conversation, whoever has one.
    let document = tokio::task::block_in_place(|| {
        Room::create_at(&her, ConversationMode::Document, None, DAY + 9000)
    });
    let id = document.conversation;
    eve.serve(id, offers_room(&document, &none));
    eve.invite(id);
    vic.accepts(id).await;
    vic.until("a refusal", |_| {
        let told = refused(&vic, id);
        async move { (told == ["Document"]).then_some(()) }
    })
    .await;
    // And in a conversation that is here.
    let mut room = rooms[2].clone();
    let id = room.conversation;
    eve.serve(id, offers_room(&room, &none));
    eve.invite(id);
    vic.accepts(id).await;
    vic.ready(id, "the group", |_| true).await;
    let before = room.objects.clone();
    let said = tokio::task::block_in_place(|| room.say(&ann, "with much beside it"));
    eve.serve(id, offers(said, and_much_more(&none, much)));
    eve.tell_commit(id, said);
    vic.until("a refusal", |_| {
        let told = refused(&vic, id);
        async move { (told == ["PackTooLarge"]).then_some(()) }
    })
    .await;
    assert_eq!(
        vic.account().conversation(&id).unwrap().head(),
        rooms[2].head
    );
    eve.serve(id, offers_room(&room, &before));
    eve.tell_commit(id, said);
    vic.until("what was said", |a| async move {
        (a.conversation(&id)?.head() == said).then_some(())
    })
    .await;
    let path = vic.account().repository_path(&id);
    vic.stop().await;
    verify(&path);
    fsck(&path);
}
