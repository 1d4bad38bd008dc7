//! Whether this machine carries multicast at all: found out without a line of what is tested.
#![allow(clippy::unwrap_used)]

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The groups of discovery. Its port is left alone: others may run beside.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 0, 1);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff08, 0, 0, 0, 0, 0, 0, 0x101);

/// A datagram to a group comes back on one interface at least. It never leaves the machine for that.
pub(crate) fn works(v6: bool) -> bool {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().any(|i| match i.ip() {
        IpAddr::V4(ip) if !v6 => echo_v4(ip).is_ok(),
        IpAddr::V6(_) if v6 => i.index.is_some_and(|index| echo_v6(index).is_ok()),
        _ => false,
    })
}

fn echo_v4(ip: Ipv4Addr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.join_multicast_v4(&GROUP_V4, &ip)?;
    socket.set_multicast_if_v4(&ip)?;
    echo(&socket, GROUP_V4.into())
}

fn echo_v6(index: u32) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
    socket.join_multicast_v6(&GROUP_V6, index)?;
    socket.set_multicast_if_v6(index)?;
    echo(&socket, GROUP_V6.into())
}

fn echo(socket: &Socket, group: IpAddr) -> io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let port = socket.local_addr()?.as_socket().unwrap().port();
    socket.send_to(b"echo", &SocketAddr::new(group, port).into())?;
    let mut back = Vec::with_capacity(16);
    socket.recv(back.spare_capacity_mut())?;
    Ok(())
}
