//! The timeline that is read from the index is the one that core computes from the whole history,
//! however the history grew and whatever became of the index.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod key_support;

use key_support::keys;
use proptest::prelude::*;
use starling_bridge::conversation::folding::MAX_TEXT;
use starling_bridge::conversation::timeline::{Changes, Opened, Timeline, Written};
use starling_bridge::crypto::AwsLc;
use starling_bridge::store::index::Index;
use starling_bridge::store::objects::ObjectStore;
use starling_core::id::{AccountId, ConversationId, ObjectId};
use starling_core::identity::{Identity, create_account};
use starling_core::swarm::ancestry::Walker;
use starling_core::swarm::commit::{Commit, Draft};
use starling_core::swarm::history::{Entry, History};
use starling_core::swarm::message::{ConversationMode, Message};
use starling_core::swarm::object::Kind;
use starling_core::swarm::order::{Node, linear};
use starling_core::swarm::write::{self, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

static ANN: LazyLock<Identity> =
    LazyLock::new(|| create_account(&AwsLc, 1_700_000_000, keys()).unwrap().1);

/// A repository that grows in any way; what counts is drawn from a seed. Signatures are left out:
/// order and folding do not look at them.
struct Room {
    dir: tempfile::TempDir,
    store: Arc<ObjectStore>,
    id: ConversationId,
    tree: ObjectId,
    commits: Vec<(ObjectId, Commit)>,
    seed: u64,
}

impl Room {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ObjectStore::create(&dir.path().join("repository")).unwrap();
        let writer = Writer::new("Ann", &ANN.chain, &*ANN.device_key);
        let mode = ConversationMode::InvitesOnly;
        let first = write::initial(&writer, mode, None, 1_700_000_000).unwrap();
        let objects: Vec<(Kind, &[u8])> = first
            .objects
            .iter()
            .map(|o| (o.kind, &o.data[..]))
            .collect();
        store.commit(&objects, None, first.commit).unwrap();
        let commit = Commit::parse(&first.objects.last().unwrap().data).unwrap();
        Self {
            dir,
            store: Arc::new(store),
            id: first.commit.into(),
            tree: first.tree,
            commits: vec![(first.commit, commit)],
            seed,
        }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.seed >> 33) as usize % below.max(1)
    }

    fn recent(&mut self) -> ObjectId {
        let back = self.draw(4).min(self.commits.len() - 1);
        self.commits[self.commits.len() - 1 - back].0
    }

    fn add(&mut self, parents: Vec<ObjectId>, time: u64, message: &Message) -> ObjectId {
        let text = message.to_text();
        let draft = Draft {
            tree: self.tree,
            parents,
            name: "Ann",
            device: ANN.device_id(),
            time,
            message: &text,
        };
        let object = draft.signed(&self.commits.len().to_be_bytes());
        self.store
            .write_objects(&[(object.kind, &object.data)])
            .unwrap();
        self.commits
            .push((object.id, Commit::parse(&object.data).unwrap()));
        object.id
    }

    /// One more commit: a text, a change or reaction, or a merge.
    fn grow(&mut self) -> ObjectId {
        let mut parents = vec![self.recent()];
        let time = 1_700_000_000 + self.draw(6) as u64;
        let other = self.recent();
        if self.draw(3) == 0 && other != parents[0] {
            parents.push(other);
            return self.add(parents, time, &Message::merge(other));
        }
        let about = self.draw(self.commits.len());
        let about = self.commits[about].0;
        let n = self.commits.len();
        let message = match self.draw(6) {
            0 => Message::edit(format!("edited {n}"), about),
            1 => Message::reaction("+", about),
            2 => Message::edit("", about),
            _ => Message::text(format!("text {n}"), None),
        };
        self.add(parents, time, &message)
    }

    fn nodes(&self) -> BTreeMap<ObjectId, Node> {
        let node = |c: &Commit| Node {
            parents: c.parents.clone(),
            time: c.time,
        };
        self.commits.iter().map(|(id, c)| (*id, node(c))).collect()
    }

    fn order(&self, head: ObjectId) -> Vec<ObjectId> {
        let mut order = linear(head, &self.nodes());
        // The same without remembering what the commits are.
        let walked = Walker::new(&*self.store).order(head, &|_| false, self.commits.len());
        assert_eq!(walked.unwrap(), order);
        order.reverse();
        order
    }

    /// What core makes of all of it.
    fn whole(&self, head: ObjectId) -> Vec<Entry> {
        let commits: BTreeMap<_, _> = self.commits.iter().cloned().collect();
        let mut history = History::new();
        for id in self.order(head) {
            history.push_newer(id, &commits[&id], ANN.account_id());
        }
        history.entries().collect()
    }

    fn written(&self, ids: &[ObjectId]) -> Vec<Written> {
        let wanted: BTreeSet<&ObjectId> = ids.iter().collect();
        self.commits
            .iter()
            .filter(|(id, _)| wanted.contains(id))
            .map(|(id, c)| Written::new(*id, c, ANN.account_id()))
            .collect()
    }

    fn index(&self, name: &str) -> Index {
        Index::open(&self.dir.path().join(name)).unwrap()
    }

    fn timeline(&self, index: &Index) -> Timeline {
        Timeline::new(index.clone(), self.store.clone(), self.id)
    }
}

/// All of it, read page by page.
fn paged(timeline: &Timeline, limit: usize) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let before = all.first().map(|e| e.now.id);
        let (page, more) = timeline.page(before.as_ref(), limit).unwrap();
        assert!(page.len() == limit || !more);
        all.splice(0..0, page);
        if !more {
            return all;
        }
    }
}

fn check(room: &Room, timeline: &Timeline, head: ObjectId) {
    let order = room.order(head);
    assert_eq!(timeline.len(), order.len());
    assert_eq!(timeline.window(None, usize::MAX).unwrap(), order);
    let whole = room.whole(head);
    assert_eq!(paged(timeline, 3), whole);
    assert_eq!(timeline.page(None, 1000).unwrap(), (whole.clone(), false));
    // What the list shows of it.
    let mut last = whole.last().map(Entry::to_api);
    if let Some(last) = &mut last {
        last.reactions.clear();
        let first = last.edits.pop();
        last.edits = first.into_iter().collect();
        let shorten = |text: &mut String, cut: &mut bool| {
            *cut = text.len() > 4096;
            text.truncate(text.floor_char_boundary(4096));
        };
        for edit in &mut last.edits {
            shorten(&mut edit.body, &mut edit.cut);
        }
        if let Some(text) = &mut last.body {
            shorten(text, &mut last.cut);
        }
    }
    // When it came is told by the clock of this machine.
    let mut found = timeline.last();
    if let (Some(found), Some(last)) = (&mut found, &last) {
        found.received_at = last.received_at;
    }
    assert_eq!(found, last);
    for entry in &whole {
        assert_eq!(timeline.entry(&entry.now.id).as_ref(), Some(entry));
    }
    let stranger = AccountId([7; 20]);
    for (n, id) in order.iter().enumerate() {
        let newer: BTreeSet<&ObjectId> = order[n + 1..].iter().collect();
        let shown = whole.iter().filter(|e| newer.contains(&e.now.id));
        // The commit that begins the conversation says nothing.
        let unread = shown.clone().filter(|e| e.now.kind() == "text/plain");
        assert_eq!(timeline.unread(Some(id), &stranger, 1000), unread.count());
        assert_eq!(timeline.unread(Some(id), &ANN.account_id(), 1000), 0);
        let own = timeline.between(Some(id), &head, &ANN.account_id(), 1000);
        assert_eq!(own.len(), shown.count());
        assert!(timeline.contains(id) && timeline.nearest(id) == Some(*id));
        assert_eq!(timeline.is_after(&head, Some(id)), *id != head);
        let window = timeline.window(Some(id), 2).unwrap();
        assert_eq!(window, &order[(n + 1).saturating_sub(2)..=n]);
    }
    let haves = timeline.haves();
    assert_eq!(haves.first(), order.last());
    assert_eq!(haves.last(), order.first());
    let distinct: BTreeSet<_> = haves.iter().collect();
    assert_eq!(distinct.len(), haves.len());
}

/// What a page must hear: applied to what it shows, the events give what is there now.
fn check_changes(old: &[Entry], now: &[Entry], changes: &Changes) {
    let ids = |entries: &[Entry]| entries.iter().map(|e| e.now.id).collect::<Vec<_>>();
    let (before, after) = (ids(old), ids(now));
    let new: Vec<_> = after
        .iter()
        .filter(|id| !before.contains(id))
        .copied()
        .collect();
    assert_eq!(changes.shown, new);
    let stayed = before
        .iter()
        .zip(&after)
        .take_while(|(a, b)| a == b)
        .count();
    let reordered = (stayed < before.len()).then(|| stayed.checked_sub(1).map(|last| after[last]));
    assert_eq!(changes.reordered, reordered);
    if changes.reordered.is_none() {
        for (a, b) in old.iter().zip(now) {
            assert!(
                a == b || changes.updated.contains(&b.now.id),
                "{b:?} changed unsaid"
            );
        }
    }
    for id in &changes.updated {
        assert!(before.contains(id) && after.contains(id));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn the_index_says_what_core_says_however_the_history_grew(seed in any::<u64>()) {
        let mut room = Room::new(seed);
        let index = room.index("grown.sqlite");
        let mut timeline = room.timeline(&index);
        let root = room.commits[0].0;
        prop_assert_eq!(timeline.follow(root, true).unwrap().0, Opened::Made);
        for step in 0..6 {
            let old = room.whole(timeline.window(None, 1).unwrap()[0]);
            let mut head = root;
            for _ in 0..=room.draw(7) {
                head = room.grow();
            }
            // Mostly what has all below it, as when merging; sometimes another side's head.
            if room.draw(4) > 0 {
                let used: BTreeSet<ObjectId> =
                    room.commits.iter().flat_map(|(_, c)| c.parents.clone()).collect();
                let open: Vec<_> = room.commits.iter().map(|c| c.0).filter(|id| !used.contains(id)).collect();
                for other in open.into_iter().filter(|o| *o != head).collect::<Vec<_>>() {
                    head = room.add(vec![head, other], 1_700_000_007, &Message::merge(other));
                }
            }
            let changes = match room.draw(4) {
                // The process ended between the repository and the index.
                0 => {
                    timeline = room.timeline(&index);
                    let (opened, changes) = timeline.follow(head, false).unwrap();
                    (opened == Opened::CaughtUp).then_some(changes)
                }
                // Some of it was heard of before.
                1 => {
                    let ids: Vec<_> = room.commits.iter().map(|c| c.0).collect();
                    timeline.remember(room.written(&ids[ids.len() / 2..]));
                    prop_assert!(timeline.contains(&head));
                    Some(timeline.extend(head, room.written(&ids)).unwrap())
                }
                _ => Some(timeline.extend(head, room.written(&room.order(head))).unwrap()),
            };
            check(&room, &timeline, head);
            if let Some(changes) = changes {
                check_changes(&old, &room.whole(head), &changes);
            }
            // Made at once from the repository, it is the same.
            let at_once = room.index(&format!("{step}.sqlite"));
            let mut made = room.timeline(&at_once);
            prop_assert_eq!(made.follow(head, true).unwrap().0, Opened::Made);
            check(&room, &made, head);
            // And what is searched as well.
            for n in 0..room.commits.len() {
                let query = format!("text {n}");
                prop_assert_eq!(index.search(None, &query, 99).unwrap().len(), at_once.search(None, &query, 99).unwrap().len());
                let query = format!("edited {n}");
                prop_assert_eq!(index.search(None, &query, 99).unwrap().len(), at_once.search(None, &query, 99).unwrap().len());
            }
        }
    }
}

#[test]
fn an_index_of_a_history_that_is_gone_is_made_anew() {
    let mut room = Room::new(3);
    let root = room.commits[0].0;
    let one = room.add(vec![root], 1_700_000_001, &Message::text("one", None));
    let two = room.add(vec![one], 1_700_000_002, &Message::text("two", None));
    let index = room.index("index.sqlite");
    let mut timeline = room.timeline(&index);
    timeline.follow(two, true).unwrap();
    assert!(timeline.contains(&two));
    // The repository was brought back from a backup, which lacks the newest.
    let mut timeline = room.timeline(&index);
    assert_eq!(timeline.follow(one, false).unwrap().0, Opened::Made);
    assert!(!timeline.contains(&two));
    check(&room, &timeline, one);
    assert_eq!(index.search(None, "two", 9).unwrap(), []);
}

#[test]
fn who_uses_an_index_that_was_made_anew_notices() {
    let mut room = Room::new(4);
    let root = room.commits[0].0;
    let one = room.add(vec![root], 1_700_000_001, &Message::text("one", None));
    let index = room.index("index.sqlite");
    let mut timeline = room.timeline(&index);
    timeline.follow(one, true).unwrap();
    assert!(!timeline.is_behind(&one));
    index.reset(index.epoch()).unwrap();
    assert!(timeline.is_behind(&one));
    assert!(timeline.extend(one, Vec::new()).is_err());
    assert_eq!(timeline.follow(one, false).unwrap().0, Opened::Made);
    check(&room, &timeline, one);
}

#[test]
fn a_page_found_torn_is_mended() {
    let mut room = Room::new(5);
    let mut head = room.commits[0].0;
    for n in 0..300 {
        head = room.add(
            vec![head],
            1_700_000_001 + n,
            &Message::text(format!("text {n}"), None),
        );
    }
    let path = room.dir.path().join("index.sqlite");
    {
        let index = room.index("index.sqlite");
        let mut timeline = room.timeline(&index);
        timeline.follow(head, true).unwrap();
    }
    // Closed in good order, and spoiled afterwards: nobody looks for it at the start.
    let mut bytes = std::fs::read(&path).unwrap();
    // All but the schema.
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let index = room.index("index.sqlite");
    let mut timeline = room.timeline(&index);
    timeline.follow(head, false).unwrap();
    let mut mended = false;
    for _ in 0..2 {
        for limit in [10, 1000] {
            timeline.page(None, limit);
        }
        timeline.unread(None, &ANN.account_id(), 1000);
        timeline.window(None, 1000);
        if timeline.is_behind(&head) {
            timeline.follow(head, false).unwrap();
            mended = true;
        }
    }
    assert!(mended || index.made_anew().is_some());
    check(&room, &timeline, head);
}

#[test]
fn what_people_write_stays_whole() {
    let mut room = Room::new(6);
    let long = |n: usize| format!("{n}{}", "é".repeat(32_000));
    let mut head = room.commits[0].0;
    let text = room.add(vec![head], 1_700_000_001, &Message::text(long(0), None));
    head = text;
    for n in 1..=20 {
        let edit = Message::edit(long(n), text);
        head = room.add(vec![head], 1_700_000_001, &edit);
        let reaction = Message::reaction("👩‍👩‍👧‍👦", text);
        head = room.add(vec![head], 1_700_000_001, &reaction);
    }
    let index = room.index("index.sqlite");
    let mut timeline = room.timeline(&index);
    timeline.follow(head, true).unwrap();
    check(&room, &timeline, head);
    assert_eq!(index.search(None, &long(20)[..40], 9).unwrap().len(), 1);
}

#[test]
fn what_is_shown_of_huge_texts_is_bounded_and_the_newest() {
    const HUGE: usize = (4 << 20) - 4096;
    let mut room = Room::new(7);
    let root = room.commits[0].0;
    let text = room.add(
        vec![root],
        1_700_000_001,
        &Message::text("a".repeat(HUGE), None),
    );
    let mut head = text;
    for n in 0..40 {
        let edit = Message::edit(format!("{n} {}", "é".repeat(HUGE / 6 - 10)), text);
        head = room.add(vec![head], 1_700_000_002, &edit);
        let reaction = Message::reaction("b".repeat(HUGE), text);
        head = room.add(vec![head], 1_700_000_002, &reaction);
    }
    head = room.add(vec![head], 1_700_000_002, &Message::reaction("+", text));
    let mut texts = vec![text];
    for n in 0..40 {
        let long = format!("{n} {}", "c".repeat(HUGE));
        head = room.add(vec![head], 1_700_000_003, &Message::text(long, None));
        texts.push(head);
    }
    let index = room.index("index.sqlite");
    let mut timeline = room.timeline(&index);
    timeline.follow(head, true).unwrap();

    let shown = timeline.entry(&text).unwrap().to_api();
    let body = shown.body.clone().unwrap();
    assert!(body.starts_with("39 éé") && shown.cut);
    assert!(body.len() <= MAX_TEXT && body.len() > MAX_TEXT - 2);
    assert!(
        (2..10).contains(&shown.edits.len()),
        "{}",
        shown.edits.len()
    );
    assert!(shown.edits[0].body.starts_with("38 ") && shown.edits[0].cut);
    assert_eq!(shown.edits.last().unwrap().id, text);
    assert_eq!(shown.reactions.keys().collect::<Vec<_>>(), ["+"]);
    let whole = timeline.whole(&text).unwrap().to_api();
    assert!(!whole.cut && whole.body.unwrap().len() == 3 + 2 * (HUGE / 6 - 10));

    // Pages end early, and all of it is read.
    let (page, more) = timeline.page(None, 1000).unwrap();
    assert!(more && page.len() > 5 && page.len() < 30, "{}", page.len());
    let mut all = page;
    loop {
        let before = all[0].now.id;
        let (page, more) = timeline.page(Some(&before), 1000).unwrap();
        all.splice(0..0, page);
        if !more {
            break;
        }
    }
    let ids: Vec<_> = all.iter().map(|e| e.now.id).collect();
    assert_eq!(ids[1..], texts);
    assert_eq!(index.search(None, "39 ééé", 9).unwrap().len(), 1);
    assert!(timeline.last().unwrap().body.unwrap().len() <= 4096);
}
