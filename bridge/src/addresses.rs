//! The addresses of this machine.

use std::net::IpAddr;

/// This machine's addresses in networks that it is connected with, loopback left out.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let mut own: Vec<IpAddr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .iter()
        // One whose cable was pulled keeps its address.
        .filter(|i| !i.is_loopback() && i.is_oper_up())
        .map(if_addrs::Interface::ip)
        .collect();
    own.sort_unstable();
    own.dedup();
    own
}
