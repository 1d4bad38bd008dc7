//! The TCP connections of a link: tasks that open them, read from them and write to them.

use socket2::SockRef;
use starling_core::peer::ice::ConnId;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// Frames that wait for a socket. With records of 16 kB: what an urgent packet may have before it.
const SOCKET_QUEUE: usize = 8;
/// How much is read from a socket at once.
const READ_SIZE: usize = 32 * 1024;
/// What was sent and is not acknowledged for so long means that nobody is there any more. The system would try for a
/// quarter of an hour, ever less often: whoever was away for a minute would wait for one more.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// What a socket has to say.
#[derive(Debug)]
pub(super) enum Net {
    Accepted(TcpStream, SocketAddr, SocketAddr),
    Connected(ConnId, io::Result<TcpStream>),
    Bytes(ConnId, Vec<u8>),
    Closed(ConnId),
}

/// Socket tasks of one connection.
pub(super) struct Socket {
    pub(super) frames: Option<mpsc::Sender<Vec<u8>>>,
    /// Our end of it.
    pub(super) local: Option<IpAddr>,
    /// Opens the connection, or reads from it.
    task: AbortHandle,
    abort: CancellationToken,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Socket {
    /// Opens a connection.
    pub(super) fn open(id: ConnId, to: SocketAddr, net: mpsc::Sender<Net>) -> Self {
        let task = tokio::spawn(async move {
            let result = TcpStream::connect(to).await;
            let _ = net.send(Net::Connected(id, result)).await;
        });
        Self {
            frames: None,
            local: None,
            task: task.abort_handle(),
            abort: CancellationToken::new(),
        }
    }

    /// Starts reading and writing.
    pub(super) fn attach(id: ConnId, stream: TcpStream, net: mpsc::Sender<Net>) -> Self {
        // Messages are small, and a daemon's are as well: nothing may wait for more.
        let _ = stream.set_nodelay(true);
        // Elsewhere the link finds out by the silence.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let local = stream.local_addr().ok().map(|local| local.ip());
        let (mut reader, writer) = stream.into_split();
        let (frames, frame_rx) = mpsc::channel::<Vec<u8>>(SOCKET_QUEUE);
        let abort = CancellationToken::new();
        tokio::spawn(write(id, writer, frame_rx, abort.clone(), net.downgrade()));
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; READ_SIZE];
            loop {
                match reader.read(&mut buffer).await {
                    Ok(n) if n > 0 => {
                        let bytes = buffer[..n].to_vec();
                        if net.send(Net::Bytes(id, bytes)).await.is_err() {
                            return;
                        }
                    }
                    _ => {
                        let _ = net.send(Net::Closed(id)).await;
                        return;
                    }
                }
            }
        });
        Self {
            frames: Some(frames),
            local,
            task: task.abort_handle(),
            abort,
        }
    }

    /// Ends it without a goodbye, for which nobody may be there. Where somebody is and was only cut off, they learn
    /// that it is over as soon as one packet gets through, and not when everything before it did.
    pub(super) fn abort(&self) {
        self.abort.cancel();
    }
}

async fn write(
    id: ConnId,
    mut writer: OwnedWriteHalf,
    mut frames: mpsc::Receiver<Vec<u8>>,
    abort: CancellationToken,
    net: mpsc::WeakSender<Net>,
) {
    let written = async {
        while let Some(frame) = frames.recv().await {
            if writer.write_all(&frame).await.is_err() {
                if let Some(net) = net.upgrade() {
                    let _ = net.send(Net::Closed(id)).await;
                }
                return;
            }
        }
        let _ = writer.shutdown().await;
    };
    let aborted = tokio::select! {
        biased;
        () = abort.cancelled() => true,
        () = written => false,
    };
    if aborted {
        let _ = SockRef::from(writer.as_ref()).set_linger(Some(Duration::ZERO));
        writer.forget();
    }
}
