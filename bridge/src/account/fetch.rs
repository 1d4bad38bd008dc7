//! Fetching from devices: into quarantine first, then, if it is valid, into the history. Of a pack
//! that breaks off, what is whole is kept.

use super::descent::Descent;
use super::{Account, now};
use crate::conversation::Conversation;
use crate::conversation::engines::GitOpen;
use crate::conversation::judging::Kept;
use crate::conversation::repo::RepoError;
use crate::conversation::wire::{FetchFailed, Fetched, Fetcher, Sink};
use crate::peer::Channel;
use crate::store::objects::{ObjectStore, Quarantine, QuarantineError, Receiving};
use starling_core::api::RefusedHistory;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::peer::channel_name::ChannelName;
use starling_core::swarm::merge::Relation;
use starling_core::swarm::misbehaviour::{Fault, Misbehaviour};
use starling_core::swarm::spread::Ended;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Devices, each in one conversation, whose packs broke off, that are remembered.
const MAX_DESCENTS: usize = 64;

impl Account {
    // --- fetching ---

    /// Fetches what a device has of a conversation, validates and keeps it. It becomes part of the
    /// history when the conversation's engine says so.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        conversation: &Conversation,
        device: DeviceId,
    ) -> Ended {
        match self.fetch_once(conversation, device).await {
            Ok((head, relation)) => Ended::Well { head, relation },
            Err(trouble) => {
                tracing::debug!(%device, conversation = %conversation.id, %trouble, "a fetch failed");
                trouble.ended()
            }
        }
    }

    /// Whose device it is that there is a connection with.
    pub(super) fn linked(&self, device: &DeviceId) -> Option<AccountId> {
        let connected = self.peers.connected();
        connected
            .into_iter()
            .find(|(d, _)| d == device)
            .map(|(_, account)| account)
    }

    async fn fetch_once(
        self: &Arc<Self>,
        conversation: &Conversation,
        device: DeviceId,
    ) -> Result<(ObjectId, Relation), FetchTrouble> {
        let id = self
            .linked(&device)
            .filter(|id| conversation.snapshot().admits(id, &device))
            .ok_or_else(|| FetchTrouble::failed("there is no connection"))?;
        let place = (conversation.id, device);
        let engines = conversation.engines.clone();
        let refused = move |head: &ObjectId| engines.is_refused(head);
        let step = self.shared().descents.get(&place).and_then(Descent::step);
        let mut kept = self.shared().fetchers.remove(&place);
        let (came, open) = loop {
            let again = kept.is_some();
            let mut open = match kept.take() {
                Some(open) => open,
                None => OpenFetch {
                    fetcher: self.git_channel(conversation.id, id, device).await?,
                    _open: conversation.engines.git_open(device),
                },
            };
            let haves = conversation
                .ask(move |r| r.haves(&device))
                .await
                .map_err(|e| self.ours(&e))?;
            let engines = conversation.engines.clone();
            let gets_on = move |bytes| engines.spread(|s, now| s.gets_on(&device, bytes, now));
            let store = conversation.store.clone();
            let receiving = store.quarantine(self.context.bounds.pack);
            let sink = Arriving::new(store, receiving, refused.clone(), gets_on, haves);
            let came = bring(&mut open.fetcher, sink.instead(step)).await;
            // The channel of the last time may have ended meanwhile.
            if !(again && matches!(came, Came::Nothing(_))) {
                break (came, open);
            }
        };
        let stop = self.stop.clone();
        let go_on = move || !stop.is_cancelled();
        let (quarantine, head) = match came {
            Came::Whole(head, Some(quarantine)) if step == Some(head) => {
                self.shared().fetchers.insert(place, open);
                let kept = conversation.keep_up_to(quarantine, head, go_on).await;
                let progressed = self.kept_part(conversation, place, kept).await;
                self.descent(place, |d| d.stepped(progressed));
                let why = "a step on the way".into();
                return Err(FetchTrouble::Failed { why, progressed });
            }
            Came::Whole(head, quarantine) => {
                self.shared().descents.remove(&place);
                (quarantine, head)
            }
            Came::Part(part) => {
                let kept = conversation.keep_part(part.quarantine, part.commits, go_on);
                let progressed = self.kept_part(conversation, place, kept.await).await;
                let id = conversation.id;
                return Err(self.broke_off(id, device, part.broken, progressed).await);
            }
            Came::Bad(head, e) => {
                if step == Some(head) {
                    self.descent(place, |d| d.stepped(false));
                }
                let why = e.into();
                return Err(self.verdict(conversation.id, device, head, why).await);
            }
            Came::Refused(head) => return Err(FetchTrouble::Refused(head)),
            Came::Nothing(why) => return Err(FetchTrouble::failed(why)),
        };
        if self.linked(&device) == Some(id) {
            self.shared().fetchers.insert(place, open);
        }
        let received = conversation.judge(quarantine, head, go_on).await;
        tracing::debug!(%device, conversation = %conversation.id, %head, "fetched");
        if received.is_ok()
            && let Err(e) = self.no_longer_refused(conversation, Some(device)).await
        {
            tracing::warn!(%e, "a refusal is still shown");
        }
        match received {
            Ok(Relation::UpToDate) => {
                self.note_fetched(conversation, id, device, head).await;
                Ok((head, Relation::UpToDate))
            }
            Ok(relation) => {
                conversation.engines.brought(head, device, id);
                Ok((head, relation))
            }
            Err(e) => {
                let before = conversation.engines.spread(|s, _| s.sent_bad(&device));
                if let Some(trouble) = falls_short(&e, before) {
                    return Err(trouble);
                }
                let why = e.into();
                Err(self.verdict(conversation.id, device, head, why).await)
            }
        }
    }

    /// Why what a device sent for this head is not taken, and whose fault that is: said here, for
    /// first copies and later fetches alike.
    ///
    /// What the commits themselves prove is refused from everybody. A pack that is bad or lacks an
    /// object is the device's doing, and another may have the same head whole. And what our own disk
    /// does is nobody's.
    pub(super) async fn verdict(
        self: &Arc<Self>,
        id: ConversationId,
        device: DeviceId,
        head: ObjectId,
        why: NotTaken,
    ) -> FetchTrouble {
        let told = |rule: String, detail: String, commit: ObjectId| RefusedHistory {
            rule,
            detail,
            from: device,
            account: None,
            commit: Some(commit),
            at: now(),
        };
        let (refused, trouble) = match why {
            NotTaken::Judged(RepoError::Rejected(fault)) => {
                let trouble = match *fault.misbehaviour {
                    Misbehaviour::MissingObject(_) => {
                        FetchTrouble::Bad(fault.misbehaviour.to_string())
                    }
                    _ => FetchTrouble::Refused(head),
                };
                (refusal(device, &fault), trouble)
            }
            // A document, or asked in and then no more: nobody has another copy for us.
            NotTaken::Judged(e @ (RepoError::Document | RepoError::NotForUs)) => {
                let rule = match e {
                    RepoError::Document => "Document",
                    _ => NOT_FOR_US,
                };
                let refused = told(rule.into(), e.to_string(), id.into());
                (refused, FetchTrouble::Refused(head))
            }
            NotTaken::TooLarge { most } => {
                let detail = format!(
                    "The conversation has more than {} MiB, and cannot be had. Its members can begin a new one.",
                    most >> 20
                );
                let refused = told("ConversationTooLarge".into(), detail, head);
                (refused, FetchTrouble::Refused(head))
            }
            NotTaken::Pack(QuarantineError::Pack(e)) => {
                let refused = told(e.name(), e.to_string(), head);
                (refused, FetchTrouble::Bad(e.to_string()))
            }
            NotTaken::Pack(QuarantineError::Store(e)) => return self.ours(&e),
            NotTaken::Judged(e) => return self.ours(&e),
        };
        self.refuse_or_say(id, refused).await;
        trouble
    }

    /// Our own disk, or conversation, does not take what came.
    pub(super) fn ours(&self, e: &(dyn std::error::Error + 'static)) -> FetchTrouble {
        self.say_if_full(e);
        FetchTrouble::Ours(e.to_string())
    }

    /// A pack broke off, and what was to be kept of it is. Where nothing could be, and the pack itself
    /// is at fault, there is a verdict on it.
    pub(super) async fn broke_off(
        self: &Arc<Self>,
        id: ConversationId,
        device: DeviceId,
        BrokenOff { why, bad }: BrokenOff,
        progressed: bool,
    ) -> FetchTrouble {
        match bad.filter(|_| !progressed) {
            Some((head, bad)) => self.verdict(id, device, head, bad.into()).await,
            None => FetchTrouble::Failed { why, progressed },
        }
    }

    /// What was kept of a pack that broke off becomes part of the history if it simply follows.
    /// Says whether there is less to do the next time.
    async fn kept_part(
        self: &Arc<Self>,
        conversation: &Conversation,
        place: (ConversationId, DeviceId),
        kept: Result<Kept, RepoError>,
    ) -> bool {
        match kept {
            Ok(Kept::UpTo(newest, Relation::FastForward)) => {
                self.follow(conversation, newest).await
            }
            Ok(Kept::UpTo(_, Relation::Diverged | Relation::Alike)) => true,
            Ok(Kept::UpTo(_, Relation::UpToDate)) => false,
            Ok(Kept::Nothing { below }) => self.descent(place, |d| d.dig(below)),
            Err(e) => {
                // What it sent was going to be refused, or the disk is full.
                tracing::debug!(conversation = %conversation.id, %e, "nothing is kept of a broken pack");
                self.say_if_full(&e);
                false
            }
        }
    }

    /// Looks at, or changes, what a device is asked for in steps.
    fn descent<T>(
        &self,
        place: (ConversationId, DeviceId),
        change: impl FnOnce(&mut Descent) -> T,
    ) -> T {
        let mut shared = self.shared();
        let descents = &mut shared.descents;
        if descents.len() >= MAX_DESCENTS && !descents.contains_key(&place) {
            descents.pop_first();
        }
        change(descents.entry(place).or_default())
    }

    /// Keeps a refusal for the person; that it cannot be kept takes nothing from it.
    pub(super) async fn refuse_or_say(
        self: &Arc<Self>,
        id: ConversationId,
        refused: RefusedHistory,
    ) {
        if let Err(e) = self.refuse(id, refused).await {
            tracing::warn!(%e, "what was refused could not be kept");
        }
    }

    pub(super) async fn git_channel(
        &self,
        conversation: ConversationId,
        id: AccountId,
        device: DeviceId,
    ) -> Result<Fetcher<Channel>, FetchTrouble> {
        // Connecting has its own pauses, and one owner: reconciling.
        if self.linked(&device).is_none() {
            return Err(FetchTrouble::failed("there is no connection"));
        }
        let channel = self
            .peers
            .open(
                &device,
                Some(id),
                ChannelName::Git {
                    device,
                    conversation,
                },
            )
            .await
            .map_err(FetchTrouble::failed)?;
        Ok(Fetcher::new(channel, conversation, device))
    }

    /// Whether a conversation was left, and is kept only until somebody has heard of it.
    pub(super) fn is_leaving(&self, id: &ConversationId) -> bool {
        self.shared().leaving.contains_key(id)
    }

    /// Erases a conversation that was left, once somebody else has the commit that says so.
    pub(super) async fn tidy(self: &Arc<Self>, conversation: &Conversation) {
        let left = self.shared().leaving.get(&conversation.id).copied();
        let Some(left) = left else { return };
        let known = conversation
            .ask(move |r| r.is_known_elsewhere(&left))
            .await
            .unwrap_or(false);
        if known {
            let (account, id) = (self.clone(), conversation.id);
            // Not here: whoever notes this may be reading the repository.
            self.spawn(async move {
                if let Err(e) = account.erase(id).await {
                    tracing::warn!(%e, conversation = %id, "a conversation that was left is still here");
                }
            });
        }
    }
}

/// A git channel on which was fetched, kept for the next time.
pub(super) struct OpenFetch {
    fetcher: Fetcher<Channel>,
    _open: GitOpen,
}

/// A fault as it is kept and shown.
pub(super) fn refusal(from: DeviceId, fault: &Fault) -> RefusedHistory {
    RefusedHistory {
        rule: fault.misbehaviour.name(),
        detail: fault.misbehaviour.to_string(),
        from,
        account: fault.account,
        commit: Some(fault.commit),
        at: now(),
    }
}

/// The name under which a person is told that a conversation they accepted is not meant for them,
/// or not any more.
pub(super) const NOT_FOR_US: &str = "NotForUs";

/// Why something that came is not taken.
pub(super) enum NotTaken {
    /// As it came.
    Pack(QuarantineError),
    /// When it was judged.
    Judged(RepoError),
    /// More than what is kept of a conversation before all of it is here.
    TooLarge {
        /// That many bytes.
        most: u64,
    },
}

impl From<QuarantineError> for NotTaken {
    fn from(e: QuarantineError) -> Self {
        Self::Pack(e)
    }
}

impl From<RepoError> for NotTaken {
    fn from(e: RepoError) -> Self {
        Self::Judged(e)
    }
}

/// Why a fetch did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchTrouble {
    /// Not now.
    #[error("{why}")]
    Failed {
        /// For the log.
        why: String,
        /// The next one has less to do.
        progressed: bool,
    },
    /// Our own disk did not take it, or the conversation is being closed: why, for the log.
    #[error("it could not be kept: {0}")]
    Ours(String),
    /// What the device sent is damaged: how, for the log. Another may have it whole.
    #[error("what came is damaged: {0}")]
    Bad(String),
    /// It breaks the rules.
    #[error("the commit {0} is refused")]
    Refused(ObjectId),
}

/// A pack that lacks an object is asked for once more before anybody is told: a daemon sends one,
/// down to an empty one, when its copy is replaced while it serves it. `before`: that device has sent
/// something bad already.
pub(super) fn falls_short(why: &RepoError, before: bool) -> Option<FetchTrouble> {
    let RepoError::Rejected(fault) = why else {
        return None;
    };
    let short = matches!(*fault.misbehaviour, Misbehaviour::MissingObject(_));
    (short && !before).then(|| FetchTrouble::Bad(fault.misbehaviour.to_string()))
}

impl FetchTrouble {
    pub(super) fn failed(why: impl std::fmt::Display) -> Self {
        Self::Failed {
            why: why.to_string(),
            progressed: false,
        }
    }

    /// For the engine.
    pub(super) fn ended(&self) -> Ended {
        match *self {
            Self::Failed { progressed, .. } => Ended::Failed { progressed },
            Self::Ours(_) => Ended::Ours,
            Self::Bad(_) => Ended::Bad,
            Self::Refused(head) => Ended::Refused(head),
        }
    }
}

/// How a pack broke off.
pub(super) struct BrokenOff {
    /// Why it is no more.
    why: String,
    /// What is wrong with the pack for that head, if nothing of it can be kept.
    pub(super) bad: Option<(ObjectId, QuarantineError)>,
}

/// The beginning of a pack.
pub(super) struct Part {
    pub(super) broken: BrokenOff,
    /// What can be read of it.
    pub(super) quarantine: Quarantine,
    /// Its commits in the order they came.
    pub(super) commits: Vec<ObjectId>,
}

/// What came of a fetch.
pub(super) enum Came {
    /// All up to this head: in a pack, or it is here already.
    Whole(ObjectId, Option<Quarantine>),
    /// It broke off, or was too large to be taken at once.
    Part(Part),
    /// A pack for this head that is no good, or that the disk does not take.
    Bad(ObjectId, QuarantineError),
    /// A head that was refused before.
    Refused(ObjectId),
    /// Nothing, and why.
    Nothing(String),
}

/// Fetches once, and reads the pack.
pub(super) async fn bring<R: Fn(&ObjectId) -> bool, G: Fn(u64)>(
    fetcher: &mut Fetcher<Channel>,
    mut sink: Arriving<R, G>,
) -> Came {
    let fetched = fetcher.fetch(&mut sink).await;
    // All of it counts while it is judged.
    sink.all_came();
    let Arriving { receiving, bad, .. } = sink;
    let broken = match fetched {
        Ok(Fetched::Nothing(head)) => return Came::Whole(head, None),
        Ok(Fetched::Pack(head)) => {
            return match tokio::task::block_in_place(|| receiving.finish()) {
                Ok(quarantine) => Came::Whole(head, Some(quarantine)),
                Err(e) => Came::Bad(head, e),
            };
        }
        Err(FetchFailed::Refused(head)) => return Came::Refused(head),
        Err(FetchFailed::Sink(head, e)) => match bad {
            Some(bad) => BrokenOff {
                why: e.to_string(),
                bad: Some((head, bad)),
            },
            None => return Came::Nothing(e.to_string()),
        },
        Err(e @ (FetchFailed::Peer(_) | FetchFailed::Channel(_) | FetchFailed::Unusable)) => {
            BrokenOff {
                why: e.to_string(),
                bad: None,
            }
        }
    };
    match (tokio::task::block_in_place(|| receiving.rescue()), broken) {
        (Some((quarantine, commits)), broken) => Came::Part(Part {
            broken,
            quarantine,
            commits,
        }),
        (None, BrokenOff { bad, why }) => match bad {
            Some((head, bad)) => Came::Bad(head, bad),
            None => Came::Nothing(why),
        },
    }
}

/// How often it is said that a fetch gets on.
const SAY_AGAIN: Duration = Duration::from_millis(250);

/// Where a fetch meets our repository.
pub(super) struct Arriving<R, G> {
    store: Arc<ObjectStore>,
    /// Whether a head was refused before.
    refused: R,
    /// Hears that it gets on: how many bytes there are of it.
    gets_on: G,
    /// When it was told that last.
    said: Option<Instant>,
    bytes: u64,
    receiving: Receiving,
    bad: Option<QuarantineError>,
    haves: Vec<ObjectId>,
    /// What is asked for instead of what is offered.
    older: Option<ObjectId>,
}

impl<R: Fn(&ObjectId) -> bool, G: Fn(u64)> Arriving<R, G> {
    pub(super) fn new(
        store: Arc<ObjectStore>,
        receiving: Receiving,
        refused: R,
        gets_on: G,
        haves: Vec<ObjectId>,
    ) -> Self {
        Self {
            store,
            refused,
            gets_on,
            said: None,
            bytes: 0,
            receiving,
            bad: None,
            haves,
            older: None,
        }
    }

    /// The same, asking for a commit below the one that is offered.
    pub(super) fn instead(mut self, older: Option<ObjectId>) -> Self {
        self.older = older;
        self
    }

    fn all_came(&self) {
        if self.bytes > 0 {
            (self.gets_on)(self.bytes);
        }
    }
}

impl<R: Fn(&ObjectId) -> bool, G: Fn(u64)> Sink for Arriving<R, G> {
    fn has(&self, id: &ObjectId) -> bool {
        self.store.contains(id)
    }

    fn refuses(&self, id: &ObjectId) -> bool {
        (self.refused)(id)
    }

    fn wants(&self, offered: ObjectId) -> ObjectId {
        self.older.unwrap_or(offered)
    }

    fn haves(&self) -> Vec<ObjectId> {
        // It is asked for what it has shown.
        (self.gets_on)(0);
        self.haves.clone()
    }

    fn pack(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.said.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
            self.said = Some(Instant::now());
            (self.gets_on)(self.bytes);
        }
        self.receiving.write(bytes).map_err(|e| {
            let text = e.to_string();
            self.bad = Some(e);
            io::Error::other(text)
        })
    }
}
