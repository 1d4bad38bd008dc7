//! What a reader sees: messages, with edits and reactions folded into them.
//!
//! Commits come in from either end of the linear order, newer ones as they
//! arrive and older ones as a reader scrolls; the result is the same.

use super::commit::Commit;
use super::message::{self, Action, Fields, Message};
use super::validate::Accepted;
use crate::api::message as api;
use crate::id::{AccountId, DeviceId, ObjectId};
use std::collections::BTreeMap;

/// One version of something: a commit with its fields as text.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Body {
    /// The commit.
    pub id: ObjectId,
    /// Its account.
    pub author: AccountId,
    /// Its device.
    pub device: DeviceId,
    /// Unix seconds, by its device's clock.
    pub timestamp: i64,
    /// Its parents.
    pub parents: Vec<ObjectId>,
    /// The fields of the message; `fileId` is added for files.
    pub fields: BTreeMap<String, String>,
    /// Its words are longer than what [`Body::shorten`] left of them.
    #[serde(skip)]
    pub cut: bool,
}

/// The fields that something is made of for a reader, the words aside.
const READ: [&str; 15] = [
    "type",
    "mode",
    "edit",
    "react-to",
    "reply-to",
    "displayName",
    "totalSize",
    "sha3sum",
    "tid",
    "fileId",
    "duration",
    "reason",
    "confId",
    "action",
    "uri",
];

/// Longest field that is no text, in bytes, where foreign text is shortened: file names have 255,
/// and no id or sum is as long. Our limit.
pub const MAX_FIELD: usize = 1024;

/// Cuts a text behind its last whole character within `max` bytes; says whether anything went.
fn cut(text: &mut String, max: usize) -> bool {
    if text.len() <= max {
        return false;
    }
    text.truncate(text.floor_char_boundary(max));
    text.shrink_to_fit();
    true
}

impl Body {
    /// The type.
    pub fn kind(&self) -> &str {
        self.fields.get("type").map_or("", String::as_str)
    }

    /// The `body` field.
    pub fn body(&self) -> &str {
        self.fields.get("body").map_or("", String::as_str)
    }

    /// The message that this one changes or reacts to; it is none of its own then.
    pub fn target(&self) -> Option<ObjectId> {
        self.id_field("edit").or_else(|| self.id_field("react-to"))
    }

    fn id_field(&self, key: &str) -> Option<ObjectId> {
        self.fields.get(key)?.parse().ok()
    }

    /// Leaves of it what a reader is shown, the words within `max` bytes: a commit may have 4 MiB, and
    /// any number of fields.
    pub fn shorten(&mut self, max: usize) {
        self.fields.retain(|key, value| match key.as_str() {
            "body" => {
                self.cut = cut(value, max);
                true
            }
            key => {
                cut(value, MAX_FIELD);
                READ.contains(&key)
            }
        });
    }
}

/// `<commit>_<tid>` and the name's extension, as files are known everywhere.
pub fn file_id(commit: &ObjectId, tid: &str, display_name: &str) -> String {
    match display_name.rsplit_once('.') {
        Some((_, extension)) if !extension.is_empty() => format!("{commit}_{tid}.{extension}"),
        _ => format!("{commit}_{tid}"),
    }
}

/// A message as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// The message as it is now: its own commit, with the newest text.
    pub now: Body,
    /// The message shown before it, as far as loaded.
    pub previous: Option<ObjectId>,
    /// Live reactions, oldest first.
    pub reactions: Vec<Body>,
    /// Earlier versions, newest first.
    pub editions: Vec<Body>,
    /// The commit that the words are from now, where it is another one.
    #[serde(skip)]
    pub edited_by: Option<ObjectId>,
}

#[derive(Debug, Clone)]
struct Reaction {
    original: Body,
    /// Oldest first.
    edits: Vec<Body>,
}

#[derive(Debug, Clone)]
struct Shown {
    place: i64,
    original: Body,
    edits: Vec<Body>,
    reactions: Vec<Reaction>,
}

/// What a commit did to what a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A message of its own.
    Shown(ObjectId),
    /// Another message looks different.
    Updated(ObjectId),
    /// Nothing: a merge, or something about a message that is not loaded.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Newer,
    Older,
}

/// Most edits and reactions that wait for messages not loaded. Beyond, those that wait longest go:
/// they come again when their message is loaded with what surrounds it. Our limit.
const MAX_WAITING: usize = 100_000;

/// A loaded part of a conversation.
#[derive(Debug, Clone, Default)]
pub struct History {
    shown: BTreeMap<ObjectId, Shown>,
    places: BTreeMap<i64, ObjectId>,
    /// Which message a reaction belongs to.
    reaction_of: BTreeMap<ObjectId, ObjectId>,
    /// Edits and reactions whose target is not loaded, oldest first.
    waiting: BTreeMap<ObjectId, Vec<Body>>,
    waiting_count: usize,
}

/// A commit as a body; `None` for merges and for what is no message.
pub fn body(id: ObjectId, commit: &Commit, author: AccountId) -> Option<Body> {
    if commit.parents.len() > 1 || message::is_merge(&commit.message) {
        return None;
    }
    let fields: Fields = message::fields(&commit.message).ok()?;
    let mut fields: BTreeMap<String, String> = fields
        .iter()
        .filter_map(|(k, v)| Some((k.clone(), message::field_text(v)?)))
        .collect();
    if let (Some("application/data-transfer+json"), Some(tid)) =
        (fields.get("type").map(String::as_str), fields.get("tid"))
        && !fields.contains_key("edit")
    {
        let name = fields.get("displayName").map_or("", String::as_str);
        let file = if tid.is_empty() {
            String::new()
        } else {
            file_id(&id, tid, name)
        };
        fields.insert("fileId".into(), file);
    }
    Some(Body {
        id,
        author,
        device: commit.device,
        timestamp: commit.time,
        parents: commit.parents.clone(),
        fields,
        cut: false,
    })
}

impl History {
    /// Nothing loaded.
    pub fn new() -> Self {
        Self::default()
    }

    /// All messages of validated commits given oldest first.
    pub fn fold<'a>(commits: impl IntoIterator<Item = &'a Accepted>) -> Self {
        let mut out = Self::new();
        for commit in commits {
            out.push_newer(commit.id, &commit.commit, commit.account());
        }
        out
    }

    /// Takes the next newer commit of the linear order.
    pub fn push_newer(&mut self, id: ObjectId, commit: &Commit, author: AccountId) -> Effect {
        self.push(id, commit, author, End::Newer)
    }

    /// Takes the next older commit of the linear order.
    pub fn push_older(&mut self, id: ObjectId, commit: &Commit, author: AccountId) -> Effect {
        self.push(id, commit, author, End::Older)
    }

    fn push(&mut self, id: ObjectId, commit: &Commit, author: AccountId, end: End) -> Effect {
        match body(id, commit, author) {
            Some(body) => self.put(body, end),
            None => Effect::Nothing,
        }
    }

    /// Takes what the next newer commit of the linear order says.
    pub fn put_newer(&mut self, body: Body) -> Effect {
        self.put(body, End::Newer)
    }

    fn put(&mut self, body: Body, end: End) -> Effect {
        let id = body.id;
        if let Some(target) = body.target() {
            return self.attach(target, body, end);
        }
        let place = match end {
            End::Newer => self
                .places
                .keys()
                .next_back()
                .map_or(0, |p| p.saturating_add(1)),
            End::Older => self.places.keys().next().map_or(0, |p| p.saturating_sub(1)),
        };
        self.places.insert(place, id);
        self.shown.insert(
            id,
            Shown {
                place,
                original: body,
                edits: Vec::new(),
                reactions: Vec::new(),
            },
        );
        self.claim(id);
        Effect::Shown(id)
    }

    /// Gives a message, or a reaction, what waited for it.
    fn claim(&mut self, id: ObjectId) {
        for waiting in self.waiting.remove(&id).unwrap_or_default() {
            self.waiting_count = self.waiting_count.saturating_sub(1);
            self.attach(id, waiting, End::Newer);
        }
    }

    fn attach(&mut self, target: ObjectId, body: Body, end: End) -> Effect {
        fn put<T>(list: &mut Vec<T>, item: T, end: End) {
            match end {
                End::Newer => list.push(item),
                End::Older => list.insert(0, item),
            }
        }
        let (id, author) = (body.id, body.author);
        let is_edit = body.fields.contains_key("edit");
        let holder = self.reaction_of.get(&target).copied();
        if let Some(shown) = self.shown.get_mut(&target) {
            if is_edit {
                // Validation says the same; a window that was not validated is not fooled either.
                if shown.original.author != author {
                    return Effect::Nothing;
                }
                put(&mut shown.edits, body, end);
            } else {
                put(
                    &mut shown.reactions,
                    Reaction {
                        original: body,
                        edits: Vec::new(),
                    },
                    end,
                );
                self.reaction_of.insert(id, target);
                self.claim(id);
            }
            return Effect::Updated(target);
        }
        if let Some(message) = holder {
            let reaction = self
                .shown
                .get_mut(&message)
                .and_then(|s| s.reactions.iter_mut().find(|r| r.original.id == target));
            return match reaction {
                Some(reaction) if is_edit && reaction.original.author == author => {
                    put(&mut reaction.edits, body, end);
                    Effect::Updated(message)
                }
                _ => Effect::Nothing,
            };
        }
        if self.waiting_count >= MAX_WAITING {
            self.waiting.clear();
            self.waiting_count = 0;
        }
        self.waiting_count = self.waiting_count.saturating_add(1);
        put(self.waiting.entry(target).or_default(), body, end);
        Effect::Nothing
    }

    /// How many messages are loaded.
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// The loaded messages, oldest first.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = ObjectId> + '_ {
        self.places.values().copied()
    }

    /// All messages as they are now, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = Entry> + '_ {
        self.places.values().filter_map(|id| self.entry(id))
    }

    /// One message as it is now.
    pub fn entry(&self, id: &ObjectId) -> Option<Entry> {
        let shown = self.shown.get(id)?;
        let mut versions = vec![shown.original.clone()];
        versions.extend(shown.edits.iter().cloned());
        let newest = versions.pop()?;
        let mut now = shown.original.clone();
        if !shown.edits.is_empty() {
            if now.kind() == "application/data-transfer+json" {
                now.fields.insert("tid".into(), String::new());
                now.fields.insert("fileId".into(), String::new());
            } else {
                now.fields.insert("body".into(), newest.body().to_owned());
                now.cut = newest.cut;
            }
        }
        let gone = !shown.edits.is_empty() && newest.body().is_empty();
        let reactions = shown
            .reactions
            .iter()
            .filter(|_| !gone)
            .filter_map(|reaction| {
                let mut now = reaction.original.clone();
                if let Some(edit) = reaction.edits.last() {
                    if edit.body().is_empty() {
                        return None;
                    }
                    now.fields.insert("body".into(), edit.body().to_owned());
                }
                Some(now)
            })
            .collect();
        versions.reverse();
        let edited_by = shown.edits.last().map(|_| newest.id);
        Some(Entry {
            edited_by,
            now,
            previous: self
                .places
                .range(..shown.place)
                .next_back()
                .map(|(_, id)| *id),
            reactions,
            editions: versions,
        })
    }
}

/// Milliseconds of a commit's time.
fn millis(seconds: i64) -> i64 {
    seconds.saturating_mul(1000)
}

impl Entry {
    /// The message's id.
    pub fn id(&self) -> ObjectId {
        self.now.id
    }

    /// Whether it was deleted by its author.
    pub fn is_deleted(&self) -> bool {
        !self.editions.is_empty()
            && match self.now.kind() {
                "application/data-transfer+json" => {
                    self.now.fields.get("tid").is_none_or(String::is_empty)
                }
                _ => self.now.body().is_empty(),
            }
    }

    /// The message as the API shows it. What the repository does not know (when it was received,
    /// how far it got, whether a file is here) is left at its beginning.
    pub fn to_api(&self) -> api::Message {
        let field = |key: &str| self.now.fields.get(key).cloned();
        let kind = api::MessageType::from(self.now.kind());
        let sent_at = millis(self.now.timestamp);
        let mut reactions: BTreeMap<String, Vec<api::Reaction>> = BTreeMap::new();
        for reaction in &self.reactions {
            reactions
                .entry(reaction.body().to_owned())
                .or_default()
                .push(api::Reaction {
                    id: reaction.id,
                    author: reaction.author,
                    sent_at: millis(reaction.timestamp),
                });
        }
        let member = match kind {
            api::MessageType::Member => {
                field("action")
                    .and_then(|a| Action::parse(&a))
                    .map(|action| match action {
                        Action::Add => api::MemberAction::Add,
                        Action::Join => api::MemberAction::Join,
                        Action::Remove => api::MemberAction::Remove,
                        Action::Ban => api::MemberAction::Ban,
                        Action::Unban => api::MemberAction::Unban,
                    })
            }
            _ => None,
        };
        api::Message {
            id: self.now.id,
            author: self.now.author,
            device: self.now.device,
            sent_at,
            received_at: sent_at,
            previous: self.previous,
            body: field("body"),
            reply_to: self.now.id_field("reply-to"),
            edited_by: self.edited_by,
            edits: self
                .editions
                .iter()
                .map(|e| api::Edit {
                    id: e.id,
                    body: e
                        .fields
                        .get("body")
                        .or_else(|| e.fields.get("displayName"))
                        .cloned()
                        .unwrap_or_default(),
                    sent_at: millis(e.timestamp),
                    cut: e.cut,
                })
                .collect(),
            cut: self.now.cut,
            reactions,
            file: (kind == api::MessageType::File).then(|| api::FileInfo {
                file_id: field("fileId").unwrap_or_default(),
                name: field("displayName").unwrap_or_default(),
                size: field("totalSize")
                    .and_then(|s| s.parse().ok())
                    .unwrap_or_default(),
                sha3sum: field("sha3sum").unwrap_or_default(),
                available: false,
            }),
            call: (kind == api::MessageType::Call).then(|| api::CallInfo {
                duration_ms: field("duration").and_then(|d| d.parse().ok()),
                reason: field("reason"),
                conference: field("confId"),
            }),
            member: member.and_then(|action| {
                Some(api::MemberChange {
                    id: field("uri")?.parse().ok()?,
                    device: None,
                    action,
                })
            }),
            profile: None,
            kind,
            status: api::MessageStatus::default(),
            verified: true,
            unaccepted: false,
        }
    }
}

/// Whether a message stands for itself in the history (and counts as unread, say).
pub fn is_shown(message: &Message) -> bool {
    !matches!(
        message,
        Message::Merge { .. }
            | Message::Edit { .. }
            | Message::Reaction { .. }
            | Message::FileDeletion { .. }
    )
}
