//! Git over a channel: core's engines, driven by the channel's bytes and a clock.

use starling_core::git::Repository;
use starling_core::git::fetch::{Fetch, FetchError, NotReady, Outcome, Output as FetchOutput};
use starling_core::git::serve::{Event, Output as ServeOutput, UploadPack};
use starling_core::id::{ConversationId, DeviceId, ObjectId};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Silence in the middle of a request after which a peer is given up. The
/// reference waits a day, and its users' conversations froze for hours.
pub const SILENCE: Duration = Duration::from_secs(30);

/// The longest a whole fetch may take: 256 MiB at 70 kB/s.
pub const WHOLE_FETCH: Duration = Duration::from_secs(3600);

/// Slower than that on the whole, in bytes a second, is no fetch but a way to keep us waiting: less
/// than any modem ever brought.
const SLOWEST: u64 = 256;

/// How long a fetch may take, however little it has brought: finding the objects of a large
/// conversation keeps a server busy for a while.
const AT_FIRST: Duration = Duration::from_secs(120);

/// Bytes of pack that are received at most; the reference's limit (`MAX_FETCH_SIZE`).
pub const MAX_PACK: u64 = 256 << 20;

/// More than a pkt-line has.
const SPARE: u64 = 1 << 20;

/// What is read from a channel at once.
const PIECE: usize = 16 << 10;

/// Serves fetches on one channel until the peer closes it, or breaks the protocol; or until `over`: what
/// is being answered then is answered to its end.
/// `event` hears what the peer has fetched; `allowed` is asked before every answer, since who
/// may fetch changes while a channel is open. A pack is made only while holding one of `turns`:
/// each takes memory and time, and a peer can open many channels.
///
/// # Errors
/// The channel broke: whether what was sent last has come is not known.
pub async fn serve<C, R>(
    mut channel: C,
    conversation: ConversationId,
    repo: Arc<R>,
    turns: &Semaphore,
    (allowed, over): (impl Fn() -> bool, &CancellationToken),
    mut event: impl FnMut(Event),
) -> io::Result<()>
where
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
            tokio::select! {
                // What is asked for already is refused by `allowed`.
                n = read => n,
                () = over.cancelled() => break,
            }
        };
        let n = n?;
        if n == 0 || !allowed() {
            break;
        }
        engine.handle_input(piece.get(..n).unwrap_or_default(), &*repo);
        let _turn = if engine.is_sending() {
            // Never closed; and who waits, waits for what the same peer asked for.
            turns.acquire().await.ok()
        } else {
            None
        };
        loop {
            match tokio::task::block_in_place(|| engine.poll_output(&*repo)) {
                Some(ServeOutput::Send(bytes)) => {
                    match timeout(SILENCE, channel.write_all(&bytes)).await {
                        Ok(sent) => sent?,
                        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                    }
                }
                Some(ServeOutput::Event(e)) => event(e),
                Some(ServeOutput::Close) => return channel.shutdown().await,
                None => break,
            }
        }
        channel.flush().await?;
    }
    channel.shutdown().await
}

/// Where a fetch meets this side's repository.
pub trait Sink {
    /// The commit's objects are here already.
    fn has(&self, id: &ObjectId) -> bool;
    /// The commit is known to break the rules: it is not fetched.
    fn refuses(&self, id: &ObjectId) -> bool;
    /// What is asked for where that commit is offered: it, or one below it.
    fn wants(&self, offered: ObjectId) -> ObjectId {
        offered
    }
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
    /// The sink does not take the pack for that commit: it is bad, or our own disk refuses.
    #[error("the pack for {0} was not taken: {1}")]
    Sink(ObjectId, io::Error),
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
            // A little more, so that whoever reads the pack says that it is too much.
            engine: Fetch::new(conversation, server, MAX_PACK + SPARE),
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
        let begun = Instant::now();
        let mut received = 0u64;
        let mut wanted = ObjectId([0; 20]);
        loop {
            let mut broken = None;
            while let Some(output) = self.engine.poll_output() {
                match output {
                    // What cannot be said may be no more than that everything has come.
                    FetchOutput::Send(_) if broken.is_some() => {}
                    FetchOutput::Send(bytes) => {
                        let send = async {
                            self.channel.write_all(&bytes).await?;
                            self.channel.flush().await
                        };
                        match timeout(SILENCE, send).await {
                            Ok(sent) => broken = sent.err(),
                            Err(_) => self.engine.handle_timeout(),
                        }
                    }
                    FetchOutput::Advertised(head) if sink.refuses(&head) => {
                        self.engine.cancel();
                        return Err(FetchFailed::Refused(head));
                    }
                    FetchOutput::Advertised(head) if sink.has(&head) => self.engine.up_to_date(),
                    FetchOutput::Advertised(head) => {
                        wanted = sink.wants(head);
                        self.engine.want_older(wanted, &sink.haves());
                    }
                    FetchOutput::Pack(bytes) => {
                        if let Err(e) = sink.pack(&bytes) {
                            self.engine.cancel();
                            return Err(FetchFailed::Sink(wanted, e));
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
            if let Some(e) = broken {
                return Err(FetchFailed::Channel(e));
            }
            let slow = begun + AT_FIRST + Duration::from_secs(received / SLOWEST);
            let until = slow.min(Instant::now() + SILENCE);
            match timeout_at(until, self.channel.read(&mut piece)).await {
                Err(_) => self.engine.handle_timeout(),
                Ok(Err(e)) => return Err(FetchFailed::Channel(e)),
                Ok(Ok(0)) => self.engine.handle_closed(),
                Ok(Ok(n)) => {
                    received = received.saturating_add(n as u64);
                    self.engine.handle_input(piece.get(..n).unwrap_or_default());
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use starling_core::git::pktline;
    use tokio::io::{DuplexStream, duplex};

    struct Nothing;

    impl Sink for Nothing {
        fn has(&self, _: &ObjectId) -> bool {
            false
        }
        fn refuses(&self, _: &ObjectId) -> bool {
            false
        }
        fn haves(&self) -> Vec<ObjectId> {
            Vec::new()
        }
        fn pack(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    const HEAD: ObjectId = ObjectId([7; 20]);

    /// How a fetch ends, and after how long, when the server sends that first and then goes on so.
    async fn meets<F: Future<Output = ()> + Send + 'static>(
        first: Vec<u8>,
        then: impl FnOnce(DuplexStream) -> F,
    ) -> (FetchFailed, Duration) {
        let (here, mut there) = duplex(1 << 20);
        let mut fetcher = Fetcher::new(here, ConversationId([1; 20]), DeviceId([2; 32]));
        there.write_all(&first).await.unwrap();
        tokio::spawn(then(there));
        let begun = Instant::now();
        let failed = fetcher.fetch(&mut Nothing).await.unwrap_err();
        (failed, begun.elapsed())
    }

    fn branch() -> Vec<u8> {
        let mut out = Vec::new();
        let line = format!("{HEAD} refs/heads/main\0side-band-64k\n");
        pktline::write(&mut out, line.as_bytes()).unwrap();
        out.extend_from_slice(pktline::FLUSH);
        out
    }

    /// Reads until these bytes have come.
    async fn reads(channel: &mut DuplexStream, until: &[u8]) {
        let mut read = Vec::new();
        while !read.windows(until.len()).any(|w| w == until) {
            read.push(channel.read_u8().await.unwrap());
        }
    }

    #[tokio::test]
    async fn what_came_whole_counts_though_the_server_hung_up() {
        let (here, mut there) = duplex(1 << 20);
        let mut fetcher = Fetcher::new(here, ConversationId([1; 20]), DeviceId([2; 32]));
        let serves = async move {
            reads(&mut there, b"git-upload-pack").await;
            there.write_all(&branch()).await.unwrap();
            reads(&mut there, b"done\n").await;
            there.write_all(b"0008NAK\n0009\x01PACK0000").await.unwrap();
        };
        let mut nothing = Nothing;
        let (_, fetched) = tokio::join!(serves, fetcher.fetch(&mut nothing));
        assert_eq!(fetched.unwrap(), Fetched::Pack(HEAD));
        // Of more use it is not.
        assert!(fetcher.fetch(&mut Nothing).await.is_err());
    }

    async fn drips(mut channel: DuplexStream, every: Duration) {
        let mut line = Vec::new();
        pktline::write(&mut line, &[1; 60_000]).unwrap();
        for byte in line {
            tokio::time::sleep(every).await;
            if channel.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silent_and_slow_servers_are_given_up() {
        let silent = |channel| async move {
            std::future::pending::<()>().await;
            drop::<DuplexStream>(channel);
        };
        let timed_out = |e: &FetchFailed| matches!(e, FetchFailed::Peer(FetchError::TimedOut));
        // Says nothing; shows its branch and says nothing; begins a pack and says nothing.
        let mut begun = branch();
        begun.extend_from_slice(b"0008NAK\n000b\x01PACK");
        for first in [Vec::new(), branch(), begun] {
            let (why, after) = meets(first, silent).await;
            assert!(timed_out(&why), "{why}");
            assert_eq!(after, SILENCE);
        }
        // A byte a minute is silence; a byte every ten seconds is too slow.
        let minute = Duration::from_secs(60);
        let (why, after) = meets(branch(), move |c| drips(c, minute)).await;
        assert!(timed_out(&why) && after == SILENCE, "{why} {after:?}");
        let (why, after) = meets(branch(), |c| drips(c, Duration::from_secs(10))).await;
        assert!(timed_out(&why), "{why}");
        assert!(after < AT_FIRST + SILENCE, "{after:?}");
        // Flushes only, for as long as it likes.
        let (why, after) = meets(Vec::new(), |mut channel| async move {
            loop {
                tokio::time::sleep(Duration::from_secs(20)).await;
                if channel.write_all(pktline::FLUSH).await.is_err() {
                    return;
                }
            }
        })
        .await;
        assert!(timed_out(&why), "{why}");
        assert!(after < AT_FIRST + SILENCE, "{after:?}");
        // Goes away in the middle.
        let mut half = branch();
        half.extend_from_slice(b"0008NAK\n000b\x01PACK");
        let (why, _) = meets(half, |channel| async move { drop(channel) }).await;
        assert!(
            matches!(why, FetchFailed::Peer(FetchError::Closed)),
            "{why}"
        );
    }
}
