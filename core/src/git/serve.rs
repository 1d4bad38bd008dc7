//! The serving end of `git://`: one [`UploadPack`] per channel.
//!
//! Smart protocol version 0, whatever was asked for, as `git-upload-pack` does
//! it: a request, our one branch, wants, haves, and the pack in side-band
//! lines; then the next request. The pack is made while it is polled, so a
//! slow peer holds a few objects in memory, not a pack.
//!
//! Deadlines are the host's: it knows when nothing moved for too long.

use super::Repository;
use super::object::{Kind, object_id};
use super::pack::PackWriter;
use super::pktline::{self, Decoder, Line, MAX_DATA, PktLineError};
use super::reach::{self, Broken};
use crate::id::{ConversationId, ObjectId};
use std::collections::{BTreeSet, VecDeque};

/// What we can do, in the advertisement.
///
/// `multi_ack` makes a client that speaks it (libgit2, git) hear of every
/// commit we share; the reference, which does not offer it, says “common” to
/// the first have unseen.
const CAPABILITIES: &str = "multi_ack side-band-64k no-progress";
/// Side-band data per line: the line's [`MAX_DATA`] less the byte with the band.
const BAND_DATA: usize = MAX_DATA - 1;
/// Haves in one request that we listen to. git gives up after 256 that are
/// not ours; a history of many known ones is passed over by the answers.
const MAX_HAVE_LINES: u32 = 1 << 16;
/// Haves of ours that are remembered: git tells the newest first, and what lies below is found from
/// there. A peer with many channels must not make us remember the whole history for each.
const MAX_COMMON: usize = 1024;
/// Wants in one request: we advertise one branch, twice.
const MAX_WANT_LINES: u32 = 64;
/// Input that may wait while a pack goes out.
const MAX_WAITING: usize = 256 << 10;

/// What the host does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes for the peer, to be written at once and as they are.
    Send(Vec<u8>),
    /// Something worth knowing.
    Event(Event),
    /// The channel is of no more use.
    Close,
}

/// What a server has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer saw our branch and wants nothing: it has that commit.
    UpToDate(ObjectId),
    /// The last byte of a pack for that commit has been handed out.
    Sent(ObjectId),
    /// The peer asked for something it does not get; the channel ends.
    Failed(ServeError),
}

/// Why a channel ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// The framing is lost.
    #[error(transparent)]
    PktLine(#[from] PktLineError),
    /// Something else than `git-upload-pack`, or another repository.
    #[error("no such service or repository: {0:?}")]
    Request(String),
    /// A line that does not belong there.
    #[error("unexpected line {0:?}")]
    Unexpected(String),
    /// A want that was not advertised.
    #[error("{0} was not offered")]
    NotOffered(String),
    /// More lines than we listen to.
    #[error("too many lines in one request")]
    TooMany,
    /// The peer sends on without taking what it asked for.
    #[error("the peer floods the channel")]
    Flood,
    /// Our own repository is damaged.
    #[error(transparent)]
    Broken(#[from] Broken),
}

#[derive(Debug)]
enum State {
    /// Waits for `git-upload-pack …`.
    Idle,
    /// The branch was advertised (or there is none).
    Wants {
        offered: Option<ObjectId>,
        want: Option<ObjectId>,
        multi_ack: bool,
        lines: u32,
    },
    Haves {
        want: ObjectId,
        multi_ack: bool,
        common: BTreeSet<ObjectId>,
        last: Option<ObjectId>,
        lines: u32,
    },
    /// A pack is to be made.
    Pack {
        want: ObjectId,
        common: BTreeSet<ObjectId>,
    },
    Streaming(Box<Streaming>),
    Closed,
}

#[derive(Debug)]
struct Streaming {
    want: ObjectId,
    left: VecDeque<ObjectId>,
    writer: Option<PackWriter>,
    /// Pack bytes not yet in a line.
    bytes: Vec<u8>,
}

/// The serving end of one channel.
#[derive(Debug)]
pub struct UploadPack {
    conversation: ConversationId,
    input: Decoder,
    state: State,
    outputs: VecDeque<Output>,
}

impl UploadPack {
    /// A server for one conversation on one channel.
    pub fn new(conversation: ConversationId) -> Self {
        Self {
            conversation,
            input: Decoder::new(),
            state: State::Idle,
            outputs: VecDeque::new(),
        }
    }

    /// Whether a request is under way: silence is then a reason to give up.
    pub fn is_busy(&self) -> bool {
        !matches!(self.state, State::Idle | State::Closed) || self.input.pending() > 0
    }

    /// Whether a pack is going out: reading from the channel can wait.
    pub fn is_sending(&self) -> bool {
        matches!(self.state, State::Pack { .. } | State::Streaming(_))
    }

    /// Takes bytes from the peer, in pieces of any size.
    pub fn handle_input(&mut self, bytes: &[u8], repo: &(impl Repository + ?Sized)) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.input.push(bytes);
        self.advance(repo);
        if self.is_sending() && self.input.pending() > MAX_WAITING {
            self.fail(ServeError::Flood);
        }
    }

    /// The next thing to do. Reads the repository while a pack is made:
    /// at most as many objects as fill one line, but all commits and trees
    /// that the peer lacks at its beginning.
    pub fn poll_output(&mut self, repo: &(impl Repository + ?Sized)) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            match &mut self.state {
                State::Pack { .. } => {
                    if let Err(e) = self.begin_pack(repo) {
                        self.fail(e.into());
                    }
                }
                State::Streaming(streaming) => match streaming.next(repo) {
                    Ok(Some(line)) => return Some(Output::Send(line)),
                    Ok(None) => {
                        let want = streaming.want;
                        self.outputs
                            .push_back(Output::Send(pktline::FLUSH.to_vec()));
                        self.outputs.push_back(Output::Event(Event::Sent(want)));
                        self.state = State::Idle;
                        self.advance(repo);
                    }
                    Err(e) => self.fail(e.into()),
                },
                _ => return None,
            }
        }
    }

    /// Reads lines until one is missing or a pack is to be sent.
    fn advance(&mut self, repo: &(impl Repository + ?Sized)) {
        while !matches!(
            self.state,
            State::Pack { .. } | State::Streaming(_) | State::Closed
        ) {
            let line = match self.input.next_line() {
                Ok(None) => return,
                Ok(Some(line)) => line,
                Err(e) => return self.fail(e.into()),
            };
            let answer = match line {
                Line::Flush => self.state.flush(),
                Line::Data(data) => self
                    .state
                    .line(pktline::trim(data), &self.conversation, repo),
            };
            match answer {
                Ok(outputs) => self.outputs.extend(outputs),
                Err(e) => return self.fail(e),
            }
        }
    }

    fn begin_pack(&mut self, repo: &(impl Repository + ?Sized)) -> Result<(), Broken> {
        if let State::Pack { want, common } = &self.state {
            let left: VecDeque<_> = reach::missing(repo, *want, common)?.into();
            let count = u32::try_from(left.len()).unwrap_or(u32::MAX);
            let (writer, bytes) = PackWriter::new(count, false);
            self.state = State::Streaming(Box::new(Streaming {
                want: *want,
                left,
                writer: Some(writer),
                bytes,
            }));
        }
        Ok(())
    }

    fn fail(&mut self, error: ServeError) {
        // A line both git and libgit2 show to their user.
        let mut text = Vec::new();
        let in_pack = self.is_sending();
        let message: String = error.to_string().chars().take(200).collect();
        let parts: [&[u8]; 2] = match in_pack {
            // Amid side-band lines, it is band 3.
            true => [b"\x03", message.as_bytes()],
            false => [b"ERR ", message.as_bytes()],
        };
        if pktline::write_parts(&mut text, &parts).is_ok() {
            self.outputs.push_back(Output::Send(text));
        }
        self.outputs.push_back(Output::Event(Event::Failed(error)));
        self.outputs.push_back(Output::Close);
        self.state = State::Closed;
    }
}

impl State {
    /// A flush ends a section. Nothing is answered to a stray one: libgit2 sends one after each pack.
    fn flush(&mut self) -> Result<Vec<Output>, ServeError> {
        match self {
            Self::Wants {
                want: Some(want),
                multi_ack,
                ..
            } => {
                *self = Self::Haves {
                    want: *want,
                    multi_ack: *multi_ack,
                    common: BTreeSet::new(),
                    last: None,
                    lines: 0,
                };
                Ok(Vec::new())
            }
            Self::Wants {
                want: None,
                offered,
                ..
            } => {
                let event = offered.map(|id| Output::Event(Event::UpToDate(id)));
                *self = Self::Idle;
                Ok(event.into_iter().collect())
            }
            Self::Haves {
                multi_ack, common, ..
            } if *multi_ack || common.is_empty() => Ok(vec![Output::Send(b"0008NAK\n".to_vec())]),
            _ => Ok(Vec::new()),
        }
    }

    fn line(
        &mut self,
        line: &[u8],
        conversation: &ConversationId,
        repo: &(impl Repository + ?Sized),
    ) -> Result<Vec<Output>, ServeError> {
        let unexpected = || ServeError::Unexpected(show(line));
        match self {
            Self::Idle => {
                check_request(line, conversation)?;
                let offered = repo.head();
                *self = Self::Wants {
                    offered,
                    want: None,
                    multi_ack: false,
                    lines: 0,
                };
                Ok(vec![Output::Send(advertisement(offered))])
            }
            Self::Wants {
                offered,
                want,
                multi_ack,
                lines,
            } => {
                *lines = lines.saturating_add(1);
                if *lines > MAX_WANT_LINES {
                    return Err(ServeError::TooMany);
                }
                let rest = line.strip_prefix(b"want ").ok_or_else(unexpected)?;
                let (id, capabilities) = rest.split_at_checked(40).ok_or_else(unexpected)?;
                let id = object_id(id).ok_or_else(unexpected)?;
                // Only what was offered is given out: nobody probes for other objects.
                if Some(id) != *offered {
                    return Err(ServeError::NotOffered(id.to_hex()));
                }
                *want = Some(id);
                *multi_ack |= capabilities
                    .split(|&b| b == b' ')
                    .any(|c| c == b"multi_ack");
                Ok(Vec::new())
            }
            Self::Haves {
                want,
                multi_ack,
                common,
                last,
                lines,
            } => {
                if line == b"done" {
                    let mut out = Vec::new();
                    // With multi_ack, and with nothing in common, there is a last word;
                    // otherwise the one ACK has already been said.
                    match last {
                        Some(id) if *multi_ack => out.push(ack(*id, "")),
                        Some(_) => {}
                        None => out.push(Output::Send(b"0008NAK\n".to_vec())),
                    }
                    *self = Self::Pack {
                        want: *want,
                        common: core::mem::take(common),
                    };
                    return Ok(out);
                }
                *lines = lines.saturating_add(1);
                if *lines > MAX_HAVE_LINES {
                    return Err(ServeError::TooMany);
                }
                let id = line
                    .strip_prefix(b"have ")
                    .and_then(object_id)
                    .ok_or_else(unexpected)?;
                // Only a commit tells what else a peer has.
                let ours = repo.contains(&id)
                    && repo
                        .object(&id)
                        .is_some_and(|(kind, _)| kind == Kind::Commit);
                if !ours {
                    return Ok(Vec::new());
                }
                let first = last.is_none();
                *last = Some(id);
                if common.len() < MAX_COMMON {
                    common.insert(id);
                }
                Ok(match (*multi_ack, first) {
                    (true, _) => vec![ack(id, " continue")],
                    (false, true) => vec![ack(id, "")],
                    (false, false) => Vec::new(),
                })
            }
            Self::Pack { .. } | Self::Streaming(_) | Self::Closed => Ok(Vec::new()),
        }
    }
}

impl Streaming {
    /// The next side-band line.
    fn next(&mut self, repo: &(impl Repository + ?Sized)) -> Result<Option<Vec<u8>>, Broken> {
        while self.bytes.len() < BAND_DATA
            && let Some(writer) = &mut self.writer
        {
            match self.left.pop_front() {
                Some(id) => {
                    let packed = repo.packed(&id);
                    let entry = match packed.and_then(|entry| writer.copy(id, &entry)) {
                        Some(entry) => entry,
                        None => {
                            let (kind, bytes) = repo.object(&id).ok_or(Broken {
                                kind: Kind::Blob,
                                id,
                            })?;
                            writer.object(kind, &bytes)
                        }
                    };
                    self.bytes.extend(entry);
                }
                None => {
                    if let Some((checksum, _)) = self.writer.take().map(PackWriter::finish) {
                        self.bytes.extend(checksum);
                    }
                }
            }
        }
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let rest = self.bytes.split_off(BAND_DATA.min(self.bytes.len()));
        let data = core::mem::replace(&mut self.bytes, rest);
        let mut line = Vec::with_capacity(data.len().saturating_add(5));
        // Never longer than a line by construction.
        let _ = pktline::write_parts(&mut line, &[b"\x01", &data]);
        Ok(Some(line))
    }
}

/// Checks `git-upload-pack /<conversation>\0host=…\0…`.
fn check_request(line: &[u8], conversation: &ConversationId) -> Result<(), ServeError> {
    let command = line.split(|&b| b == 0).next().unwrap_or_default();
    let path = command.strip_prefix(b"git-upload-pack ").map(|p| {
        let p = p.strip_prefix(b"/").unwrap_or(p);
        p.strip_suffix(b"/").unwrap_or(p)
    });
    match path {
        Some(path) if path == conversation.to_hex().as_bytes() => Ok(()),
        _ => Err(ServeError::Request(show(command))),
    }
}

/// HEAD and the one branch. Remote-tracking branches, which the reference
/// shows, too, tell strangers with whom we talk.
fn advertisement(head: Option<ObjectId>) -> Vec<u8> {
    let mut out = Vec::new();
    let lines = match head {
        Some(id) => vec![
            format!("{id} HEAD\0{CAPABILITIES}\n"),
            format!("{id} refs/heads/main\n"),
        ],
        None => vec![format!(
            "{} capabilities^{{}}\0{CAPABILITIES}\n",
            ObjectId([0; 20])
        )],
    };
    for line in lines {
        // Short lines by construction.
        let _ = pktline::write(&mut out, line.as_bytes());
    }
    out.extend_from_slice(pktline::FLUSH);
    out
}

fn ack(id: ObjectId, status: &str) -> Output {
    let mut out = Vec::new();
    let _ = pktline::write(&mut out, format!("ACK {id}{status}\n").as_bytes());
    Output::Send(out)
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().chars().take(120).collect()
}
