//! One message as a reader sees it, put together from its commits.
//!
//! A commit may have 4 MiB, and compressed a thousandth of that: whoever writes can make a message of
//! gigabytes, all of it valid. So what is read and kept of one is bounded, the newest first. What
//! people write stays whole: texts of 64 kB, changed twenty times.

use super::timeline::read;
use crate::store::index::{Attached, Place, Rows};
use crate::store::objects::ObjectStore;
use starling_core::api;
use starling_core::id::ObjectId;
use starling_core::swarm::commit::Commit;
use starling_core::swarm::history::{self, Body, Entry, History};
use std::collections::BTreeMap;

/// Longest text that is shown in a page, and searched, in bytes. All of it is read by `message.get`.
pub const MAX_TEXT: usize = 128 << 10;

/// Longest text of the newest message that the list shows, in bytes: a line of it is seen.
const LISTED_TEXT: usize = 4 << 10;

/// Longest word of a reaction, in bytes: an emoji of families and flags has 40.
const MAX_EMOJI: usize = 256;

/// Largest commit that is read as a reaction, in bytes. One of a key of 4096 bits has 1,200.
const REACTION_COMMIT: u64 = 64 << 10;

/// Bytes of commits that are read for the earlier versions of a message, and again for its reactions.
const READ: u64 = 16 << 20;

/// What the earlier versions of a message may weigh; see [`text_weight`].
const VERSIONS: usize = 2 << 20;

/// What a piece of history may weigh: with more, it ends early. It is held several times on its way
/// to the page. Reading counts a 64th.
pub const PAGE: usize = 2 << 20;
const READING: u64 = 64;

/// How much is read of a message.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Longest text, in bytes.
    text: usize,
    /// Most changes, at least one.
    changes: usize,
    /// Most reactions.
    reactions: usize,
}

impl Extent {
    /// What a page shows.
    pub const SHOWN: Self = Self {
        text: MAX_TEXT,
        changes: 100,
        reactions: 2_000,
    };
    /// The same, with all its words.
    pub const WHOLE: Self = Self {
        text: usize::MAX,
        ..Self::SHOWN
    };
    /// What the list shows of the newest message.
    const LISTED: Self = Self {
        text: LISTED_TEXT,
        changes: 1,
        reactions: 0,
    };
    /// The words as they are now.
    const WORDS: Self = Self {
        text: MAX_TEXT,
        changes: 1,
        reactions: 0,
    };
}

/// Bytes of a text in JSON, about.
fn text_weight(text: &str) -> usize {
    text.bytes()
        .map(|b| match b {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}

fn weight(body: &Body) -> usize {
    let fields = body.fields.values();
    256 + fields.map(|v| text_weight(v)).sum::<usize>()
}

/// What a message weighs that is shown.
pub fn message_weight(message: &api::Message) -> usize {
    let edits = message.edits.iter().map(|e| 128 + text_weight(&e.body));
    let reactions = message.reactions.iter();
    512 + message.body.as_deref().map_or(0, text_weight)
        + edits.sum::<usize>()
        + reactions
            .map(|(emoji, who)| text_weight(emoji) + 128 * who.len())
            .sum::<usize>()
}

/// Whether somebody wants to read it, or hear of it: not who joined, or what was voted.
pub(super) fn says_something(body: &Body) -> bool {
    use api::MessageType::{Call, File, Text};
    matches!(api::MessageType::from(body.kind()), Text | File | Call)
}

/// What is searched of a message; nothing of those without words.
pub(super) fn words(body: &Body) -> Option<&String> {
    let key = match api::MessageType::from(body.kind()) {
        api::MessageType::Text => "body",
        api::MessageType::File => "displayName",
        _ => return None,
    };
    body.fields.get(key)
}

/// A commit as far as a reader sees it.
fn shortened(place: &Place, commit: &Commit, text: usize) -> Option<Body> {
    let mut body = history::body(place.id, commit, place.author)?;
    body.shorten(text);
    Some(body)
}

/// Collects the commits of one message.
struct Reader<'a> {
    rows: &'a Rows<'a>,
    store: &'a ObjectStore,
    /// By their places.
    bodies: BTreeMap<u64, Body>,
    /// Bytes that were read.
    read: u64,
}

impl Reader<'_> {
    fn size(&self, id: &ObjectId) -> u64 {
        // What cannot be read says so then.
        self.store.size(id).unwrap_or(0)
    }

    /// Reads one commit; gives what keeping it weighs.
    fn take(&mut self, place: &Place, text: usize) -> usize {
        self.read = self.read.saturating_add(self.size(&place.id));
        match read(self.store, &place.id) {
            Ok(commit) => match shortened(place, &commit, text) {
                Some(body) => {
                    let weight = weight(&body);
                    self.bodies.insert(place.place, body);
                    weight
                }
                None => 0,
            },
            Err(e) => {
                tracing::error!(%e, "a message cannot be shown");
                0
            }
        }
    }

    /// The changes of a message or reaction, newest first.
    fn changes(&self, of: &Place, max: usize) -> rusqlite::Result<Vec<Place>> {
        // Nobody else's are valid.
        self.rows.attached(&of.id, Attached::Change(of.author), max)
    }

    fn take_changes(&mut self, of: &Place, extent: &Extent) -> rusqlite::Result<()> {
        let (mut read, mut weight) = (0u64, 0usize);
        for (n, change) in self.changes(of, extent.changes)?.iter().enumerate() {
            // The newest is what is shown.
            read = read.saturating_add(self.size(&change.id));
            if n > 0 && (read > READ || weight > VERSIONS) {
                break;
            }
            if n == 0 {
                self.take(change, extent.text);
            } else {
                let kept = self.take(change, extent.text.min(MAX_TEXT));
                weight = weight.saturating_add(kept);
            }
        }
        Ok(())
    }

    fn take_reactions(&mut self, to: &Place, max: usize) -> rusqlite::Result<()> {
        let mut read = 0u64;
        for reaction in self.rows.attached(&to.id, Attached::Reaction, max)? {
            let newest = self.changes(&reaction, 1)?;
            for commit in std::iter::once(&reaction).chain(&newest) {
                let size = self.size(&commit.id);
                if size > REACTION_COMMIT {
                    continue;
                }
                read = read.saturating_add(size);
                if read > READ {
                    return Ok(());
                }
                self.take(commit, MAX_EMOJI);
            }
        }
        Ok(())
    }
}

/// A message as it is now, and what it weighs. `previous`: the one shown before it.
pub fn message(
    rows: &Rows<'_>,
    store: &ObjectStore,
    place: &Place,
    previous: Option<ObjectId>,
    extent: &Extent,
) -> rusqlite::Result<Option<(Entry, usize)>> {
    let mut reader = Reader {
        rows,
        store,
        bodies: BTreeMap::new(),
        read: 0,
    };
    reader.take_changes(place, extent)?;
    let text = match reader.bodies.is_empty() {
        true => extent.text,
        // An earlier version by now.
        false => extent.text.min(MAX_TEXT),
    };
    reader.take(place, text);
    if extent.reactions > 0 {
        reader.take_reactions(place, extent.reactions)?;
    }
    let read = usize::try_from(reader.read / READING).unwrap_or(usize::MAX);
    let weight = reader.bodies.values().map(weight).sum::<usize>() + read;
    let mut history = History::new();
    for body in reader.bodies.into_values() {
        history.put_newer(body);
    }
    Ok(history.entry(&place.id).map(|mut entry| {
        entry.previous = previous;
        (entry, weight)
    }))
}

/// The words of a message as they are now, and when it was sent, unix seconds.
pub(super) fn words_now(
    rows: &Rows<'_>,
    store: &ObjectStore,
    place: &Place,
) -> rusqlite::Result<Option<(i64, String)>> {
    let found = message(rows, store, place, None, &Extent::WORDS)?;
    Ok(found.and_then(|(entry, _)| Some((entry.now.timestamp, words(&entry.now)?.clone()))))
}

/// What is searched of a message that is read by nobody else.
pub(super) fn words_of(mut body: Body) -> Option<String> {
    body.shorten(MAX_TEXT);
    words(&body).cloned()
}

/// The words of a message as it was written first.
pub(super) fn first_words(place: &Place, commit: &Commit) -> Option<String> {
    words(&shortened(place, commit, MAX_TEXT)?).cloned()
}

/// The newest message, as it is kept for the list: what only this device knows is added when it is shown.
pub(super) fn last(rows: &Rows<'_>, store: &ObjectStore) -> rusqlite::Result<Option<String>> {
    let newest = rows.messages_before(u64::MAX >> 1, 2)?;
    let Some(place) = newest.first() else {
        return Ok(None);
    };
    let found = message(
        rows,
        store,
        place,
        newest.get(1).map(|p| p.id),
        &Extent::LISTED,
    )?;
    let came = rows.came(&place.id)?;
    Ok(found.and_then(|(entry, _)| {
        let mut message = entry.to_api();
        message.received_at = came.unwrap_or(message.sent_at);
        serde_json::to_string(&message).ok()
    }))
}
