//! A channel as an ordinary byte stream.

use super::link::Command;
use bytes::Bytes;
use starling_core::id::{AccountId, DeviceId};
use starling_core::peer::channel_name::ChannelName;
use starling_core::peer::mux::{self, ChannelId};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::PollSemaphore;

/// Bytes that may wait for the reader of one channel. The protocol has no flow control: a reader
/// that leaves more than this unread stops the whole connection for a while, and then loses its channel.
pub(super) const READ_BUDGET: usize = 3 * 1024 * 1024;
/// Bytes that may wait for the readers of all channels of a connection together: a peer may open
/// many. When that is used up, the channel with most of it is the one that is lost.
pub(super) const LINK_BUDGET: usize = 4 * 1024 * 1024;
/// Most bytes that one write hands over.
const MAX_WRITE: usize = 64 * 1024;

/// Room that received bytes take until they are read: in their channel and in their connection.
#[derive(Debug)]
pub(super) struct Room {
    channel: OwnedSemaphorePermit,
    link: OwnedSemaphorePermit,
}

impl Room {
    /// Room for so many bytes, if there is some now.
    pub(super) fn take(channel: &Arc<Semaphore>, link: &Arc<Semaphore>, len: u32) -> Option<Self> {
        Some(Self {
            channel: channel.clone().try_acquire_many_owned(len).ok()?,
            link: link.clone().try_acquire_many_owned(len).ok()?,
        })
    }

    /// Waits for it. `None`: the channel is gone.
    pub(super) async fn wait(
        channel: Arc<Semaphore>,
        link: Arc<Semaphore>,
        len: u32,
    ) -> Option<Self> {
        Some(Self {
            channel: channel.acquire_many_owned(len).await.ok()?,
            link: link.acquire_many_owned(len).await.ok()?,
        })
    }

    fn free(&mut self, len: usize) {
        drop((self.channel.split(len), self.link.split(len)));
    }
}

/// What a channel's reader gets.
#[derive(Debug)]
pub(super) enum Inbound {
    Data(Vec<u8>, Room),
    /// The peer ended the channel.
    End,
    /// The connection is gone, or the channel was given up.
    Lost(io::ErrorKind, &'static str),
}

/// The link's half of a channel.
#[derive(Debug)]
pub(super) struct ChannelSide {
    pub(super) inbound: mpsc::UnboundedSender<Inbound>,
    pub(super) read_credit: Arc<Semaphore>,
    pub(super) write_credit: Arc<Semaphore>,
}

impl ChannelSide {
    /// Tells the user that it is over.
    pub(super) fn finish(self, last: Inbound) {
        let _ = self.inbound.send(last);
        self.write_credit.close();
    }
}

/// An open channel. Reading ends with the channel, and is an error when the connection was lost.
/// Dropping or shutting it down ends it on both sides, after what was written: there is no
/// half-close.
#[derive(Debug)]
pub struct Channel {
    id: ChannelId,
    name: ChannelName,
    device: DeviceId,
    account: AccountId,
    link: u64,
    commands: mpsc::UnboundedSender<Command>,
    inbound: mpsc::UnboundedReceiver<Inbound>,
    current: Option<(Bytes, Room)>,
    write_credit: PollSemaphore,
    ended: Option<Result<(), (io::ErrorKind, &'static str)>>,
    shut: bool,
}

impl Channel {
    pub(super) fn new(
        id: ChannelId,
        name: ChannelName,
        (device, account, link): (DeviceId, AccountId, u64),
        commands: mpsc::UnboundedSender<Command>,
    ) -> (ChannelSide, Self) {
        let (inbound_tx, inbound) = mpsc::unbounded_channel();
        let write_credit = Arc::new(Semaphore::new(mux::WRITE_BUDGET));
        let side = ChannelSide {
            inbound: inbound_tx,
            read_credit: Arc::new(Semaphore::new(READ_BUDGET)),
            write_credit: write_credit.clone(),
        };
        let channel = Self {
            id,
            name,
            device,
            account,
            link,
            commands,
            inbound,
            current: None,
            write_credit: PollSemaphore::new(write_credit),
            ended: None,
            shut: false,
        };
        (side, channel)
    }

    /// What it is for.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// Who is at the other end.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Whose device that is, by its verified chain.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Tells its connection from others with the same device: newer ones have higher numbers.
    pub fn link(&self) -> u64 {
        self.link
    }

    fn end(&mut self) {
        if !self.shut {
            self.shut = true;
            let _ = self.commands.send(Command::End(self.id));
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.end();
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some((bytes, room)) = &mut self.current {
                let n = bytes.len().min(buf.remaining());
                buf.put_slice(&bytes.split_to(n));
                // What was read makes room at once.
                room.free(n);
                if bytes.is_empty() {
                    self.current = None;
                }
                return Poll::Ready(Ok(()));
            }
            match self.ended {
                Some(Ok(())) => return Poll::Ready(Ok(())),
                Some(Err((kind, why))) => return Poll::Ready(Err(io::Error::new(kind, why))),
                None => {}
            }
            match ready!(self.inbound.poll_recv(cx)) {
                Some(Inbound::Data(data, room)) => {
                    self.current = Some((Bytes::from(data), room));
                }
                Some(Inbound::End) => self.ended = Some(Ok(())),
                Some(Inbound::Lost(kind, why)) => self.ended = Some(Err((kind, why))),
                // After our own end nothing more is to come.
                None if self.shut => self.ended = Some(Ok(())),
                None => {
                    self.ended = Some(Err((
                        io::ErrorKind::ConnectionReset,
                        "the connection is gone",
                    )));
                }
            }
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the channel has ended");
        if self.shut {
            return Poll::Ready(Err(gone()));
        }
        // One byte is enough to go on; more is taken as far as there is room.
        let Some(permit) = ready!(self.write_credit.poll_acquire(cx)) else {
            return Poll::Ready(Err(gone()));
        };
        let mut taken = 1;
        permit.forget();
        let semaphore = self.write_credit.clone_inner();
        let more = (buf.len().min(MAX_WRITE) - 1).min(semaphore.available_permits());
        if more > 0
            && let Ok(permits) = semaphore.try_acquire_many(u32::try_from(more).unwrap_or(0))
        {
            taken += permits.num_permits();
            permits.forget();
        }
        let data = buf[..taken].to_vec();
        match self.commands.send(Command::Write(self.id, data)) {
            Ok(()) => Poll::Ready(Ok(taken)),
            Err(_) => Poll::Ready(Err(gone())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was taken is on its way without being asked.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}
