//! Every rule of conversations, broken by a hostile member over a real connection: refused by its
//! name, without a trace, and what honest people say afterwards still comes.
#![allow(clippy::unwrap_used)]

mod account_support;
#[path = "../../core/tests/swarm/faults.rs"]
mod faults;
mod hostile_support;
#[path = "../../core/tests/swarm/mod.rs"]
mod swarm;

use account_support::{Bridge, node};
use faults::{Cast, LOW, RULES, Refused, break_fully, take_refused};
use futures_util::StreamExt as _;
use hostile_support::{Hostile, fsck, offers_room, verify, victim_within, writer_of};
use starling_bridge::account::Bounds;
use starling_core::api::{ConversationState, Event};
use starling_core::id::{ConversationId, ObjectId};
use starling_core::swarm::object::{MemoryObjects, Objects as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use swarm::{DAY, Device};

/// So many conversations are attacked at the same time: each refusal is followed by a pause.
const AT_ONCE: usize = 12;

/// Rules that are broken in so many ways that several conversations share them.
const SHARED: &[(&str, usize)] = &[
    ("UnexpectedFile", 6),
    ("UnknownPath", 2),
    ("MalformedCommit", 2),
    ("MalformedTree", 2),
    ("BadMemberUri", 2),
    ("UnreadableCertificate", 2),
];

/// A part of the ways to break a rule.
#[derive(Clone, Copy)]
struct Share {
    rule: usize,
    part: usize,
    of: usize,
}

/// All there is to do.
fn shares() -> impl Iterator<Item = Share> {
    RULES.iter().enumerate().flat_map(|(rule, (name, _))| {
        let of = SHARED.iter().find(|(n, _)| n == name).map_or(1, |s| s.1);
        (0..of).map(move |part| Share { rule, part, of })
    })
}

/// What was refused in a conversation: commit and rule.
fn rejections(vic: &Bridge, conversation: ConversationId) -> Vec<(Option<ObjectId>, String)> {
    vic.events()
        .into_iter()
        .filter_map(|e| match e {
            Event::ConversationRejected {
                conversation: c,
                commit,
                rule,
                ..
            } if c == conversation => Some((commit, rule)),
            _ => None,
        })
        .collect()
}

/// All that breaks a rule, each once.
fn refused_by(
    name: &str,
    breaks: fn(&mut Cast) -> starling_core::swarm::misbehaviour::Misbehaviour,
    cast: &mut Cast,
) -> Vec<Refused> {
    tokio::task::block_in_place(|| {
        drop(take_refused());
        break_fully(name, breaks, cast);
        let mut seen = BTreeSet::new();
        let mut list = take_refused();
        list.retain(|r| seen.insert((r.room.conversation, r.room.head)));
        list
    })
}

struct Stage<'a> {
    vic: &'a Bridge,
    eve: &'a Hostile,
    /// Conversations that nobody has yet, to be offered whole.
    whole: Mutex<Vec<(&'static str, Refused)>>,
    played: Mutex<Vec<&'static str>>,
}

impl Stage<'_> {
    /// Waits for the next refusal in a conversation and compares it.
    async fn refuses(&self, name: &str, offer: &Refused, before: usize) {
        let id = offer.room.conversation;
        let rejected = self
            .vic
            .until(&format!("{name} to be refused"), |_| {
                let found = rejections(self.vic, id);
                async move { (found.len() > before).then_some(found) }
            })
            .await;
        assert_eq!(rejected.len(), before + 1, "{name}");
        let (commit, rule) = rejected.last().unwrap();
        assert_eq!((commit, rule), (&Some(offer.commit), &offer.rule), "{name}");
    }

    /// One conversation, in which some of the rules are broken, one after the other.
    async fn attack(
        &self,
        number: usize,
        people: &[&Device],
        shares: Vec<Share>,
    ) -> ConversationId {
        let (vic, eve) = (self.vic, self.eve);
        let mut cast = Cast::new(people, DAY + 100_000 * number as u64);
        let id = cast.room.conversation;
        eve.serve(id, offers_room(&cast.room, &MemoryObjects::new()));
        eve.invite(id);
        vic.accepts(id).await;
        vic.ready(id, "the group", |_| true).await;
        let store = vic.account().conversation(&id).unwrap().store.clone();
        let mut honest = 0;
        for Share { rule, part, of } in shares {
            let (name, breaks) = RULES[rule];
            let base = cast.room.clone();
            let offers = refused_by(name, breaks, &mut cast);
            let offers: Vec<_> = offers.into_iter().skip(part).step_by(of).collect();
            if !offers.is_empty() {
                self.played.lock().unwrap().push(name);
            }
            // Where honest people have come to meanwhile.
            let mut room = base.clone();
            for offer in offers {
                if offer.room.conversation != id {
                    self.whole.lock().unwrap().push((name, offer));
                    continue;
                }
                let before = rejections(vic, id).len();
                eve.serve(id, offers_room(&offer.room, &base.objects));
                eve.tell_commit(id, offer.room.head);
                self.refuses(name, &offer, before).await;
                assert_eq!(
                    vic.account().conversation(&id).unwrap().head(),
                    room.head,
                    "{name}"
                );
                let left = offer
                    .room
                    .objects
                    .iter()
                    .filter(|(id, ..)| !base.objects.contains(id) && store.contains(id))
                    .count();
                assert_eq!(left, 0, "{name}: objects in the store");
                // An honest message still comes, from the same device.
                honest += 1;
                room.now += 1000;
                let ben = &cast.ben;
                let said =
                    tokio::task::block_in_place(|| room.say(ben, &format!("honest {honest}")));
                eve.serve(id, offers_room(&room, &base.objects));
                eve.tell_commit(id, said);
                vic.until(&format!("an honest message after {name}"), |a| async move {
                    (a.conversation(&id)?.head() == said).then_some(())
                })
                .await;
            }
            cast.room = room;
        }
        let texts = vic.texts(id).await;
        assert_eq!(texts.len() as u64, honest);
        id
    }

    /// Conversations that are bad from the start, offered to somebody who accepted the invitation.
    async fn offer_whole(&self) -> usize {
        let offers = std::mem::take(&mut *self.whole.lock().unwrap());
        let count = offers.len();
        // Those of one conversation one after the other.
        let mut by_conversation: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for offer in offers {
            let id = offer.1.room.conversation;
            by_conversation.entry(id).or_default().push(offer);
        }
        futures_util::stream::iter(by_conversation.into_values())
            .for_each_concurrent(AT_ONCE, |offers| async move {
                for (name, offer) in offers {
                    self.offer_one(name, &offer).await;
                }
            })
            .await;
        count
    }

    async fn offer_one(&self, name: &str, offer: &Refused) {
        let (vic, eve) = (self.vic, self.eve);
        let id = offer.room.conversation;
        let before = rejections(vic, id).len();
        eve.serve(id, offers_room(&offer.room, &MemoryObjects::new()));
        if vic.account().conversation_view(id).await.is_ok() {
            // Accepted before, and refused: it is tried again some times.
            eve.tell_commit(id, offer.room.head);
        } else {
            eve.invite(id);
            vic.accepts(id).await;
        }
        self.refuses(name, offer, before).await;
        let view = vic.account().conversation_view(id).await.unwrap();
        assert_ne!(view.state, ConversationState::Ready, "{name}");
        assert!(!vic.account().repository_path(&id).exists(), "{name}");
    }
}

/// Bytes of memory of this process.
#[cfg(target_os = "linux")]
fn resident(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with(key)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_broken_over_a_connection_is_refused_by_its_name() {
    let first = node(None);
    let eve = Hostile::start(&first).await;
    let bounds = Bounds {
        history: LOW,
        ..Bounds::default()
    };
    let mut vic = victim_within(&first, &eve, bounds).await;
    let people = [writer_of(vic.account().dir(), "Vic"), eve.writer()];
    let people: Vec<&Device> = people.iter().collect();
    let stage = Stage {
        vic: &vic,
        eve: &eve,
        whole: Mutex::default(),
        played: Mutex::default(),
    };
    #[cfg(target_os = "linux")]
    let idle = resident("VmRSS");
    let attacks =
        (0..AT_ONCE).map(|n| stage.attack(n, &people, shares().skip(n).step_by(AT_ONCE).collect()));
    let attacked = futures_util::future::join_all(attacks).await;
    let whole = stage.offer_whole().await;
    assert!(whole >= 10, "{whole} bad conversations were offered whole");

    // Both sides and all histories together, above what they take at rest.
    #[cfg(target_os = "linux")]
    {
        let above = resident("VmHWM").saturating_sub(idle);
        println!("all rules: {} MB above idle", above >> 20);
        assert!(above < 200 << 20, "{} MB above idle", above >> 20);
    }

    let played = stage.played.into_inner().unwrap();
    for (name, _) in RULES {
        assert!(played.contains(name), "{name}");
    }
    let from_others = vic
        .events()
        .into_iter()
        .find(|e| matches!(e, Event::ConversationRejected { from, .. } if *from != eve.device()));
    assert_eq!(from_others, None);
    let paths: Vec<_> = attacked
        .iter()
        .map(|id| vic.account().repository_path(id))
        .collect();
    vic.stop().await;
    for path in paths {
        verify(&path);
        fsck(&path);
        assert_eq!(
            std::fs::read_dir(path.join("quarantine")).unwrap().count(),
            0
        );
    }
}
