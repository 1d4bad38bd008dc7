//! Hostile members who are asked for the first copy of a conversation, over real connections.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod account_support;
mod hostile_support;
#[path = "../../core/tests/swarm/mod.rs"]
mod swarm;

use account_support::node;
use hostile_support::process::Victim;
use hostile_support::{
    Hostile, Play, fsck, offers, offers_room, only_the_newest, play, verify, victim, writer_of,
};
use starling_core::api::{ConversationState, Event};
use starling_core::swarm::object::MemoryObjects;
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
