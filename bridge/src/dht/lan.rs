//! LAN discovery: telling other nodes of this network that we are here, and hearing of them.

use super::sockets::receive;
use socket2::{Domain, Protocol, Socket, Type};
use starling_core::dht::NodeInfo;
use starling_core::dht::discovery::{
    DhtService, Discovery, GROUP_V4, GROUP_V6, MAX_DATAGRAM, PORT,
};
use starling_core::id::InfoHash;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

/// First wait before asking again while nobody is known (OpenDHT since 3.2.0).
const REPEAT_FIRST: Duration = Duration::from_secs(10);
/// Longest wait before asking again (OpenDHT since 3.2.0).
const REPEAT_MOST: Duration = Duration::from_secs(60);

/// What is announced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Announced {
    pub(super) id: InfoHash,
    pub(super) network: u32,
    /// UDP ports of the node, 0 where a family is missing.
    pub(super) ports: (u16, u16),
}

/// Runs discovery until the receiver of found nodes is gone. `alone` says whether the node knows
/// nobody: while it does not, discovery repeats its question. A machine where discovery cannot
/// run is told of once and left alone.
pub(super) async fn run(
    announced: Announced,
    mut alone: watch::Receiver<bool>,
    found: mpsc::Sender<NodeInfo>,
) {
    let v4 = join_v4()
        .inspect_err(|e| tracing::info!("no LAN discovery on IPv4: {e}"))
        .ok();
    let v6 = join_v6()
        .inspect_err(|e| tracing::info!("no LAN discovery on IPv6: {e}"))
        .ok();
    if v4.is_none() && v6.is_none() {
        return;
    }
    let (mut buffer4, mut buffer6) = ([0; MAX_DATAGRAM], [0; MAX_DATAGRAM]);
    let mut wait = REPEAT_FIRST;
    ask_and_tell(&announced, v4.as_ref(), v6.as_ref()).await;
    loop {
        let repeat = tokio::time::sleep(wait);
        let (bytes, from, socket, port) = tokio::select! {
            (n, from) = receive(v4.as_ref(), &mut buffer4) => (&buffer4[..n], from, &v4, announced.ports.0),
            (n, from) = receive(v6.as_ref(), &mut buffer6) => (&buffer6[..n], from, &v6, announced.ports.1),
            () = repeat => {
                if *alone.borrow_and_update() {
                    ask_and_tell(&announced, v4.as_ref(), v6.as_ref()).await;
                    wait = (wait * 2).min(REPEAT_MOST);
                }
                continue;
            }
            changed = alone.changed() => {
                if changed.is_err() {
                    return;
                }
                if *alone.borrow_and_update() {
                    wait = REPEAT_FIRST;
                    ask_and_tell(&announced, v4.as_ref(), v6.as_ref()).await;
                }
                continue;
            }
            () = found.closed() => return,
        };
        match Discovery::decode(bytes) {
            Ok(Discovery::Query) => {
                if let (Some(socket), Some(service)) = (socket, service(&announced, port)) {
                    let _ = socket.send_to(&service, from).await;
                }
            }
            Ok(Discovery::Publish(Some(s)))
                if s.id != announced.id && s.network == announced.network =>
            {
                let addr = SocketAddr::new(from.ip(), s.port);
                // A full queue means that enough nodes are known.
                let _ = found.try_send(NodeInfo { id: s.id, addr });
            }
            Ok(Discovery::Publish(_)) => {}
            Err(e) => tracing::debug!("{e}"),
        }
    }
}

fn service(announced: &Announced, port: u16) -> Option<Vec<u8>> {
    (port != 0).then(|| {
        Discovery::Publish(Some(DhtService {
            id: announced.id,
            port,
            network: announced.network,
        }))
        .encode()
    })
}

/// Asks who is there and says that we are, in every network of this machine.
async fn ask_and_tell(announced: &Announced, v4: Option<&UdpSocket>, v6: Option<&UdpSocket>) {
    let query = Discovery::Query.encode();
    if let Some(socket) = v4 {
        let group = SocketAddr::new(GROUP_V4.into(), PORT);
        for ip in addresses_v4() {
            if socket2::SockRef::from(socket)
                .set_multicast_if_v4(&ip)
                .is_err()
            {
                continue;
            }
            let _ = socket.send_to(&query, group).await;
            if let Some(publish) = service(announced, announced.ports.0) {
                let _ = socket.send_to(&publish, group).await;
            }
        }
    }
    if let Some(socket) = v6 {
        let group = SocketAddr::new(GROUP_V6.into(), PORT);
        for index in interfaces_v6() {
            if socket2::SockRef::from(socket)
                .set_multicast_if_v6(index)
                .is_err()
            {
                continue;
            }
            let _ = socket.send_to(&query, group).await;
            if let Some(publish) = service(announced, announced.ports.1) {
                let _ = socket.send_to(&publish, group).await;
            }
        }
    }
}

fn addresses_v4() -> Vec<Ipv4Addr> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    all.iter()
        .filter_map(|i| match i.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
        .collect()
}

fn interfaces_v6() -> Vec<u32> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let mut out: Vec<u32> = all
        .iter()
        .filter(|i| i.ip().is_ipv6())
        .filter_map(|i| i.index)
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}

fn shared(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // Several nodes of one machine listen at this port.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn join_v4() -> io::Result<UdpSocket> {
    let socket = shared(Domain::IPV4)?;
    socket.bind(&SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT).into())?;
    let mut joined = false;
    for ip in addresses_v4() {
        joined |= socket.join_multicast_v4(&GROUP_V4, &ip).is_ok();
    }
    if !joined {
        socket.join_multicast_v4(&GROUP_V4, &Ipv4Addr::UNSPECIFIED)?;
    }
    UdpSocket::from_std(socket.into())
}

fn join_v6() -> io::Result<UdpSocket> {
    let socket = shared(Domain::IPV6)?;
    socket.set_only_v6(true)?;
    socket.bind(&SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT).into())?;
    let mut joined = false;
    for index in interfaces_v6() {
        joined |= socket.join_multicast_v6(&GROUP_V6, index).is_ok();
    }
    if !joined {
        socket.join_multicast_v6(&GROUP_V6, 0)?;
    }
    UdpSocket::from_std(socket.into())
}
