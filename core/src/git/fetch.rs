//! The asking end of `git://`: one [`Fetch`] per channel, used for any number of fetches.
//!
//! Each request goes out as one piece of less than 64 KiB, because the
//! reference's server cannot wait for the rest of a line. What it says back is
//! taken loosely: it acknowledges commits it does not have, says NAK after
//! ACK, and ACK once too often. So before the pack, both are passed over, and
//! nothing is concluded from them.

use super::object::object_id;
use super::pktline::{self, Decoder, Line, PktLineError};
use super::reach::MAX_HAVES;
use crate::id::{ConversationId, DeviceId, ObjectId};
use std::collections::VecDeque;

/// Bytes of an advertisement we listen to. The reference shows a branch per
/// device it ever fetched from, in lines of 128 bytes: room for 8000.
const MAX_ADVERTISEMENT: usize = 1 << 20;
/// ACKs and NAKs before a pack: one or two per have.
const MAX_ACKS: usize = 4 * MAX_HAVES;

/// What the host does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes for the peer, to be written at once and as they are.
    Send(Vec<u8>),
    /// The peer's branch is there: answer with [`Fetch::want`] or [`Fetch::up_to_date`].
    Advertised(ObjectId),
    /// The next bytes of the pack.
    Pack(Vec<u8>),
    /// The fetch is over. Comes exactly once per fetch.
    Outcome(Outcome),
}

/// How a fetch ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The pack has come; its bytes are still to be judged.
    Done {
        /// The commit that was wanted.
        head: ObjectId,
        /// Bytes of the pack.
        received: u64,
    },
    /// There was nothing to fetch.
    UpToDate(ObjectId),
    /// No pack. The channel is of no more use.
    Failed(FetchError),
}

/// Why a fetch failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The framing is lost.
    #[error(transparent)]
    PktLine(#[from] PktLineError),
    /// The peer said `ERR`, or spoke on band 3.
    #[error("the peer refuses: {0}")]
    Refused(String),
    /// A line that does not belong there.
    #[error("unexpected line {0:?}")]
    Unexpected(String),
    /// More lines than any server sends.
    #[error("the peer says too much before the pack")]
    TooMuch,
    /// The peer has no `refs/heads/main`.
    #[error("the peer has no branch main")]
    NoBranch,
    /// The peer cannot send a pack in side-band lines.
    #[error("the peer does not offer side-band-64k")]
    NoSideBand,
    /// More pack bytes than allowed.
    #[error("the pack is larger than {0} bytes")]
    TooLarge(u64),
    /// The channel closed.
    #[error("the peer closed the channel")]
    Closed,
    /// The host's deadline passed.
    #[error("the peer was silent for too long")]
    TimedOut,
    /// The host gave up, for instance because the pack is bad.
    #[error("given up")]
    Cancelled,
}

/// A fetch was to be started where none can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// One is under way.
    #[error("a fetch is under way on this channel")]
    Busy,
    /// An earlier one failed.
    #[error("the channel is broken")]
    Broken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    Advertisement {
        head: Option<ObjectId>,
        main: Option<ObjectId>,
        side_band: Option<bool>,
        bytes: usize,
    },
    /// The host has to say what it has.
    Advertised(ObjectId),
    /// Wants and haves are sent: ACKs and NAKs, then the pack.
    Answer {
        head: ObjectId,
        lines: usize,
    },
    Pack {
        head: ObjectId,
        received: u64,
    },
    Broken,
}

/// The asking end of one channel.
#[derive(Debug)]
pub struct Fetch {
    request: Vec<u8>,
    max_pack: u64,
    input: Decoder,
    state: State,
    outputs: VecDeque<Output>,
}

impl Fetch {
    /// A client for one conversation on a channel to that device. No pack may have more than `max_pack` bytes.
    pub fn new(conversation: ConversationId, server: DeviceId, max_pack: u64) -> Self {
        let mut request = Vec::new();
        let text = format!("git-upload-pack /{conversation}\0host={server}\0");
        // 132 bytes by construction.
        let _ = pktline::write(&mut request, text.as_bytes());
        Self {
            request,
            max_pack,
            input: Decoder::new(),
            state: State::Idle,
            outputs: VecDeque::new(),
        }
    }

    /// Begins a fetch.
    pub fn start(&mut self) -> Result<(), NotReady> {
        match self.state {
            State::Idle => {
                self.state = State::Advertisement {
                    head: None,
                    main: None,
                    side_band: None,
                    bytes: 0,
                };
                self.outputs.push_back(Output::Send(self.request.clone()));
                Ok(())
            }
            State::Broken => Err(NotReady::Broken),
            _ => Err(NotReady::Busy),
        }
    }

    /// Whether a fetch is under way: silence is then a reason to give up.
    pub fn is_busy(&self) -> bool {
        !matches!(self.state, State::Idle | State::Broken)
    }

    /// After [`Output::Advertised`]: fetch what was advertised. `haves` are commits of
    /// ours, best first ([`super::reach::haves`]); at most [`MAX_HAVES`] are sent.
    pub fn want(&mut self, haves: &[ObjectId]) {
        if let State::Advertised(head) = self.state {
            self.want_older(head, haves);
        }
    }

    /// The same for another commit than the one that was advertised: one below it. The reference's
    /// server gives what it is asked for (`GitServer::Impl::parseOrder`); Starling's and git's refuse.
    pub fn want_older(&mut self, head: ObjectId, haves: &[ObjectId]) {
        if !matches!(self.state, State::Advertised(_)) {
            return;
        }
        // All in one: no answer of the server changes what we say next, and the
        // reference's server looks at all haves together. 14 KiB at most.
        let mut out = Vec::new();
        let mut line = |text: String| {
            let _ = pktline::write(&mut out, text.as_bytes());
        };
        line(format!("want {head} side-band-64k\n"));
        let mut rest = Vec::new();
        for id in haves.iter().take(MAX_HAVES) {
            let _ = pktline::write(&mut rest, format!("have {id}\n").as_bytes());
        }
        let _ = pktline::write(&mut rest, b"done\n");
        out.extend_from_slice(pktline::FLUSH);
        out.extend_from_slice(&rest);
        self.outputs.push_back(Output::Send(out));
        self.state = State::Answer { head, lines: 0 };
        self.advance();
    }

    /// After [`Output::Advertised`]: that commit is here already.
    pub fn up_to_date(&mut self) {
        if let State::Advertised(head) = self.state {
            self.state = State::Idle;
            self.outputs
                .push_back(Output::Send(pktline::FLUSH.to_vec()));
            self.outputs
                .push_back(Output::Outcome(Outcome::UpToDate(head)));
        }
    }

    /// Takes bytes from the peer, in pieces of any size.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        if self.state == State::Broken {
            return;
        }
        self.input.push(bytes);
        if matches!(self.state, State::Idle | State::Advertised(_))
            && self.input.pending() > MAX_ADVERTISEMENT
        {
            return self.fail(FetchError::TooMuch);
        }
        self.advance();
    }

    /// The channel is closed.
    pub fn handle_closed(&mut self) {
        self.fail(FetchError::Closed);
    }

    /// The host's deadline for silence, or for the whole, has passed.
    pub fn handle_timeout(&mut self) {
        self.fail(FetchError::TimedOut);
    }

    /// The host does not want the rest.
    pub fn cancel(&mut self) {
        self.fail(FetchError::Cancelled);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn fail(&mut self, error: FetchError) {
        if self.is_busy() {
            self.outputs
                .push_back(Output::Outcome(Outcome::Failed(error)));
        }
        self.state = State::Broken;
    }

    fn advance(&mut self) {
        // Between fetches and before the host has answered, nothing is read: what
        // comes early waits.
        while !matches!(
            self.state,
            State::Idle | State::Advertised(_) | State::Broken
        ) {
            let line = match self.input.next_line() {
                Ok(None) => return,
                Ok(Some(line)) => line,
                Err(e) => return self.fail(e.into()),
            };
            if let Err(e) = step(&mut self.state, line, self.max_pack, &mut self.outputs) {
                return self.fail(e);
            }
        }
    }
}

fn step(
    state: &mut State,
    line: Line<'_>,
    max_pack: u64,
    outputs: &mut VecDeque<Output>,
) -> Result<(), FetchError> {
    if let Line::Data(data) = line
        && let Some(text) = data.strip_prefix(b"ERR ")
        && !matches!(state, State::Pack { .. })
    {
        return Err(FetchError::Refused(show(text)));
    }
    match (&mut *state, line) {
        (
            State::Advertisement {
                head,
                main,
                side_band,
                ..
            },
            Line::Flush,
        ) => {
            let Some(side_band) = *side_band else {
                // A flush of before: the advertisement is still to come.
                return Ok(());
            };
            let head = main.or(*head).ok_or(FetchError::NoBranch)?;
            if !side_band {
                return Err(FetchError::NoSideBand);
            }
            *state = State::Advertised(head);
            outputs.push_back(Output::Advertised(head));
            Ok(())
        }
        (
            State::Advertisement {
                head,
                main,
                side_band,
                bytes,
            },
            Line::Data(data),
        ) => {
            *bytes = bytes.saturating_add(data.len());
            if *bytes > MAX_ADVERTISEMENT {
                return Err(FetchError::TooMuch);
            }
            let data = pktline::trim(data);
            // Left over from the fetch before; the banner of version 1.
            if side_band.is_none() && (is_ack(data) || data.starts_with(b"version ")) {
                return Ok(());
            }
            let (reference, capabilities) = match data.iter().position(|&b| b == 0) {
                Some(at) => data.split_at_checked(at).unwrap_or((data, &[])),
                None => (data, &[][..]),
            };
            side_band.get_or_insert_with(|| {
                capabilities
                    .split(|&b| b == b' ' || b == 0)
                    .any(|c| c == b"side-band-64k")
            });
            let unexpected = || FetchError::Unexpected(show(data));
            let (id, name) = reference.split_at_checked(41).ok_or_else(unexpected)?;
            let id = id
                .strip_suffix(b" ")
                .and_then(object_id)
                .ok_or_else(unexpected)?;
            match name {
                b"HEAD" => *head = Some(id),
                b"refs/heads/main" => *main = Some(id),
                _ => {}
            }
            Ok(())
        }
        (State::Answer { head, lines }, Line::Data(data)) => {
            if let Some(pack) = data.strip_prefix(&[1]) {
                let head = *head;
                *state = State::Pack { head, received: 0 };
                return take_pack(state, pack, max_pack, outputs);
            }
            *lines = lines.saturating_add(1);
            if *lines > MAX_ACKS {
                return Err(FetchError::TooMuch);
            }
            match data {
                [2, ..] => Ok(()),
                [3, text @ ..] => Err(FetchError::Refused(show(text))),
                _ if is_ack(pktline::trim(data)) => Ok(()),
                _ => Err(FetchError::Unexpected(show(data))),
            }
        }
        // An end without a pack.
        (State::Answer { .. }, Line::Flush) => Err(FetchError::Unexpected("0000".into())),
        (State::Pack { .. }, Line::Data([1, pack @ ..])) => {
            take_pack(state, pack, max_pack, outputs)
        }
        (State::Pack { .. }, Line::Data([2, ..] | [])) => Ok(()),
        (State::Pack { .. }, Line::Data([3, text @ ..])) => Err(FetchError::Refused(show(text))),
        (State::Pack { .. }, Line::Data(other)) => Err(FetchError::Unexpected(show(other))),
        (State::Pack { head, received }, Line::Flush) => {
            let outcome = Outcome::Done {
                head: *head,
                received: *received,
            };
            *state = State::Idle;
            // As libgit2 does when it lets go.
            outputs.push_back(Output::Send(pktline::FLUSH.to_vec()));
            outputs.push_back(Output::Outcome(outcome));
            Ok(())
        }
        (State::Idle | State::Advertised(_) | State::Broken, _) => Ok(()),
    }
}

fn take_pack(
    state: &mut State,
    pack: &[u8],
    max_pack: u64,
    outputs: &mut VecDeque<Output>,
) -> Result<(), FetchError> {
    if let State::Pack { received, .. } = state {
        *received = received.saturating_add(pack.len() as u64);
        if *received > max_pack {
            return Err(FetchError::TooLarge(max_pack));
        }
        if !pack.is_empty() {
            outputs.push_back(Output::Pack(pack.to_vec()));
        }
    }
    Ok(())
}

fn is_ack(line: &[u8]) -> bool {
    line == b"NAK" || line.starts_with(b"ACK ")
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| !c.is_control())
        .take(120)
        .collect()
}
