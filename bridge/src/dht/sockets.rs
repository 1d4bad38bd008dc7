//! The node's UDP sockets: one for each address family.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

/// Bytes of receive buffer asked of the kernel: a reply with many values comes as a burst of
/// parts without pacing, and parts that do not fit are lost.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The sockets that could be opened, at least one.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) v4: Option<UdpSocket>,
    pub(super) v6: Option<UdpSocket>,
}

impl Sockets {
    /// Opens both families. With port 0 IPv6 tries the port that IPv4 got. An address of
    /// `None` leaves its family out. A family that the machine lacks is left out too;
    /// a taken port is an error.
    pub(super) fn open(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>, port: u16) -> io::Result<Self> {
        let first = match v4 {
            Some(ip) => usable(bind(SocketAddr::new(ip.into(), port)))?,
            None => None,
        };
        let port6 = match (&first, port) {
            (Some(s), 0) => s.local_addr()?.port(),
            _ => port,
        };
        let second = match v6 {
            Some(ip) => {
                let mut got = bind(SocketAddr::new(ip.into(), port6));
                if port == 0 && port6 != 0 && got.is_err() {
                    got = bind(SocketAddr::new(ip.into(), 0));
                }
                usable(got)?
            }
            None => None,
        };
        if first.is_none() && second.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                "neither IPv4 nor IPv6 can be used",
            ));
        }
        Ok(Self {
            v4: first,
            v6: second,
        })
    }

    /// The local ports, 0 where a family is missing.
    pub(super) fn ports(&self) -> (u16, u16) {
        let port = |s: &Option<UdpSocket>| {
            s.as_ref()
                .and_then(|s| s.local_addr().ok())
                .map_or(0, |a| a.port())
        };
        (port(&self.v4), port(&self.v6))
    }

    /// The socket for an address.
    pub(super) fn of(&self, addr: &SocketAddr) -> Option<&UdpSocket> {
        if addr.is_ipv4() {
            self.v4.as_ref()
        } else {
            self.v6.as_ref()
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The kernel gives what it allows; less is no error.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

/// A family that this machine does not have is no error.
fn usable(socket: io::Result<UdpSocket>) -> io::Result<Option<UdpSocket>> {
    match socket {
        Ok(s) => Ok(Some(s)),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err(e),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        Err(e) => {
            tracing::info!("an address family is left out of the DHT: {e}");
            Ok(None)
        }
    }
}

/// Receives one datagram, or waits for ever if there is no socket. Errors of single datagrams
/// (an ICMP message for one we sent) are passed over.
pub(super) async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> (usize, SocketAddr) {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    loop {
        match socket.recv_from(buffer).await {
            Ok(got) => return got,
            Err(e) => {
                tracing::debug!("receiving for the DHT: {e}");
                // Never a tight loop, whatever the kernel says.
                tokio::task::yield_now().await;
            }
        }
    }
}
