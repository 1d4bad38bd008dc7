//! Sockets of one attempt: listeners, and which addresses to offer.

use socket2::{Domain, Protocol, Socket, Type};
use starling_core::peer::ice_text::{ACTIVE_PORT, Candidate, CandidateType, TcpType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use tokio::net::TcpListener;

/// Most addresses that are offered. A daemon keeps eight host candidates, that is four addresses with
/// an active and a passive one each; what comes after is for others.
const MAX_ADDRESSES: usize = 8;

/// Listeners of an attempt, and the candidates that lead to them.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) v4: Option<TcpListener>,
    pub(super) v6: Option<TcpListener>,
    pub(super) candidates: Vec<Candidate>,
}

impl Listeners {
    /// Listens on a port of the system's choice in each family there is.
    pub(super) fn open(loopback: bool, public: &[IpAddr]) -> io::Result<Self> {
        let v4 = listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
        let v6 = listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)).ok();
        let v4 = match (v4, &v6) {
            (Ok(v4), _) => Some(v4),
            (Err(_), Some(_)) => None,
            (Err(e), None) => return Err(e),
        };
        let port = |l: &Option<TcpListener>| l.as_ref().and_then(|l| l.local_addr().ok());
        let (port4, port6) = (port(&v4), port(&v6));
        let mut candidates = Vec::new();
        let mut local = 65_535;
        for ip in host_addresses(loopback)? {
            let listener = if ip.is_ipv4() { port4 } else { port6 };
            let Some(listener) = listener else { continue };
            for (tcp_type, port) in [
                (TcpType::Passive, listener.port()),
                (TcpType::Active, ACTIVE_PORT),
            ] {
                let address = SocketAddr::new(ip, port);
                candidates.push(Candidate::new(
                    CandidateType::Host,
                    tcp_type,
                    address,
                    local,
                ));
                local -= 1;
            }
        }
        // Tells a peer with a relay for which address to open it.
        for ip in public.iter().take(2) {
            let address = SocketAddr::new(*ip, ACTIVE_PORT);
            let kind = CandidateType::ServerReflexive;
            candidates.push(Candidate::new(kind, TcpType::Active, address, 65_535));
        }
        Ok(Self { v4, v6, candidates })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // As many as an agent accepts.
    socket.listen(64)?;
    TcpListener::from_std(socket.into())
}

/// Addresses that others may reach, the ones that routing prefers first. Loopback only if it is
/// asked for or all there is.
fn host_addresses(loopback: bool) -> io::Result<Vec<IpAddr>> {
    let mut all: Vec<IpAddr> = if_addrs::get_if_addrs()?
        .into_iter()
        .map(|interface| interface.ip())
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_unspecified(),
            // Without a zone in the text nobody can reach a link-local address.
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
        })
        .collect();
    if !loopback && all.iter().any(|ip| !ip.is_loopback()) {
        all.retain(|ip| !ip.is_loopback());
    }
    let preferred = [
        route_source("192.0.2.1:9", "0.0.0.0:0"),
        route_source("[2001:db8::1]:9", "[::]:0"),
    ];
    all.sort_by_key(|ip| (!preferred.contains(&Some(*ip)), ip.is_loopback()));
    all.dedup();
    all.truncate(MAX_ADDRESSES);
    Ok(all)
}

/// The address that packets to the outside would come from. Nothing is sent.
fn route_source(towards: &str, any: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(towards).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
