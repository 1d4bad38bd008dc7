//! Git over a channel: core's engines, driven by the channel's bytes and a clock.

use starling_core::git::Repository;
use starling_core::git::fetch::{Fetch, FetchError, NotReady, Outcome, Output as FetchOutput};
use starling_core::git::serve::{Event, Output as ServeOutput, UploadPack};
use starling_core::id::{ConversationId, DeviceId, ObjectId};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// Silence in the middle of a request after which a peer is given up. The
/// reference waits a day, and its users' conversations froze for hours.
pub const SILENCE: Duration = Duration::from_secs(30);

/// The longest a whole fetch may take: 256 MiB at 70 kB/s.
pub const WHOLE_FETCH: Duration = Duration::from_secs(3600);

/// Bytes of pack that are received at most; the reference's limit (`MAX_FETCH_SIZE`).
pub const MAX_PACK: u64 = 256 << 20;

/// What is read from a channel at once.
const PIECE: usize = 16 << 10;

/// Serves fetches on one channel until the peer closes it, or breaks the protocol.
/// `event` hears what the peer has fetched; `allowed` is asked before every answer, since who
/// may fetch changes while a channel is open.
pub async fn serve<C, R>(
    mut channel: C,
    conversation: ConversationId,
    repo: Arc<R>,
    allowed: impl Fn() -> bool,
    mut event: impl FnMut(Event),
) where
    C: AsyncRead + AsyncWrite + Unpin,
    R: Repository,
{
    let mut engine = UploadPack::new(conversation);
    let mut piece = vec![0; PIECE];
    loop {
        // Between requests a channel may rest for days.
        let read = channel.read(&mut piece);
        let n = if engine.is_busy() {
            timeout(SILENCE, read).await.unwrap_or(Ok(0))
        } else {
            read.await
        };
        let Ok(n @ 1..) = n else { break };
        if !allowed() {
            break;
        }
        engine.handle_input(piece.get(..n).unwrap_or_default(), &*repo);
        loop {
            match tokio::task::block_in_place(|| engine.poll_output(&*repo)) {
                Some(ServeOutput::Send(bytes)) => {
                    match timeout(SILENCE, channel.write_all(&bytes)).await {
                        Ok(Ok(())) => {}
                        _ => return,
                    }
                }
                Some(ServeOutput::Event(e)) => event(e),
                Some(ServeOutput::Close) => {
                    let _ = channel.shutdown().await;
                    return;
                }
                None => break,
            }
        }
        if channel.flush().await.is_err() {
            return;
        }
    }
    let _ = channel.shutdown().await;
}

/// Where a fetch meets this side's repository.
pub trait Sink {
    /// The commit's objects are here already.
    fn has(&self, id: &ObjectId) -> bool;
    /// The commit is known to break the rules: it is not fetched.
    fn refuses(&self, id: &ObjectId) -> bool;
    /// Commits of ours to tell the peer of, best first.
    fn haves(&self) -> Vec<ObjectId>;
    /// The next bytes of the pack, into quarantine.
    fn pack(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchFailed {
    /// What the peer said, or did not say.
    #[error(transparent)]
    Peer(#[from] FetchError),
    /// The channel broke.
    #[error("the channel broke: {0}")]
    Channel(io::Error),
    /// Our own disk refused.
    #[error("the pack could not be written: {0}")]
    Disk(io::Error),
    /// The peer offers what was refused before.
    #[error("the commit {0} was refused before")]
    Refused(ObjectId),
    /// The channel cannot be used again.
    #[error("the channel is of no more use")]
    Unusable,
}

/// What a fetch brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// A pack for that commit is in the sink.
    Pack(ObjectId),
    /// No object of that commit was missing.
    Nothing(ObjectId),
}

/// The asking end of one channel, for any number of fetches.
pub struct Fetcher<C> {
    channel: C,
    engine: Fetch,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Fetcher<C> {
    /// On a fresh channel to that device.
    pub fn new(channel: C, conversation: ConversationId, server: DeviceId) -> Self {
        Self {
            channel,
            engine: Fetch::new(conversation, server, MAX_PACK),
        }
    }

    /// One fetch. After an error the channel is of no more use.
    pub async fn fetch(&mut self, sink: &mut impl Sink) -> Result<Fetched, FetchFailed> {
        match timeout(WHOLE_FETCH, self.run(sink)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.engine.handle_timeout();
                Err(FetchError::TimedOut.into())
            }
        }
    }

    async fn run(&mut self, sink: &mut impl Sink) -> Result<Fetched, FetchFailed> {
        self.engine.start().map_err(|e: NotReady| {
            tracing::debug!(?e, "a fetch on a channel that is not ready");
            FetchFailed::Unusable
        })?;
        let mut piece = vec![0; PIECE];
        loop {
            while let Some(output) = self.engine.poll_output() {
                match output {
                    FetchOutput::Send(bytes) => {
                        let send = async {
                            self.channel.write_all(&bytes).await?;
                            self.channel.flush().await
                        };
                        match timeout(SILENCE, send).await {
                            Ok(sent) => sent.map_err(FetchFailed::Channel)?,
                            Err(_) => self.engine.handle_timeout(),
                        }
                    }
                    FetchOutput::Advertised(head) if sink.refuses(&head) => {
                        self.engine.cancel();
                        return Err(FetchFailed::Refused(head));
                    }
                    FetchOutput::Advertised(head) if sink.has(&head) => self.engine.up_to_date(),
                    FetchOutput::Advertised(_) => self.engine.want(&sink.haves()),
                    FetchOutput::Pack(bytes) => {
                        if let Err(e) = sink.pack(&bytes) {
                            self.engine.cancel();
                            return Err(FetchFailed::Disk(e));
                        }
                    }
                    FetchOutput::Outcome(Outcome::Done { head, .. }) => {
                        return Ok(Fetched::Pack(head));
                    }
                    FetchOutput::Outcome(Outcome::UpToDate(head)) => {
                        return Ok(Fetched::Nothing(head));
                    }
                    FetchOutput::Outcome(Outcome::Failed(e)) => return Err(e.into()),
                }
            }
            match timeout(SILENCE, self.channel.read(&mut piece)).await {
                Err(_) => self.engine.handle_timeout(),
                Ok(Err(e)) => return Err(FetchFailed::Channel(e)),
                Ok(Ok(0)) => self.engine.handle_closed(),
                Ok(Ok(n)) => self.engine.handle_input(piece.get(..n).unwrap_or_default()),
            }
        }
    }
}
