//! The two kinds of channels that carry one MessagePack object after the other: notices, and the
//! messages of a swarm.

use starling_core::msgpack::Frames;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// How long a device may take to accept one object before its channel counts as dead.
const WRITE: Duration = Duration::from_secs(30);

/// What is read from a channel at once.
const PIECE: usize = 8 << 10;

/// Sends what the queue gives, and hands on what arrives, until either side ends: the other one with
/// its channel, we with the queue. `heard` gets every object, of at most `most` bytes, in order;
/// nothing more is read before it is done with one, so that a peer cannot pile them up.
pub(super) async fn exchange<C, M, F>(
    channel: C,
    most: usize,
    queue: &mut mpsc::Receiver<M>,
    mut encode: impl FnMut(M) -> Vec<u8>,
    mut heard: impl FnMut(&[u8]) -> io::Result<Option<F>>,
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    let (mut read, mut write) = tokio::io::split(channel);
    let mut frames = Frames::new(most);
    let mut piece = vec![0; PIECE];
    loop {
        tokio::select! {
            next = queue.recv() => {
                let Some(next) = next else {
                    return write.shutdown().await;
                };
                let send = async {
                    write.write_all(&encode(next)).await?;
                    write.flush().await
                };
                match tokio::time::timeout(WRITE, send).await {
                    Ok(done) => done?,
                    Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                }
            }
            n = read.read(&mut piece) => {
                let n = n?;
                if n == 0 {
                    return Ok(());
                }
                frames.push(piece.get(..n).unwrap_or_default());
                while let Some(frame) = frames.next_frame().map_err(io::Error::other)? {
                    if let Some(done) = heard(frame)? {
                        done.await;
                    }
                }
            }
        }
    }
}
