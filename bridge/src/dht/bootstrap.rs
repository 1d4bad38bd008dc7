//! Names of nodes to ask first, and their addresses.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// UDP port of a node that is named without one (OpenDHT's default).
pub const DEFAULT_PORT: u16 = 4222;

/// The node everyone of Jami's network asks first.
pub const DEFAULT_BOOTSTRAP: &str = "bootstrap.jami.net:4222";

/// Addresses taken from one name: what one name server says shall not fill the table.
const MAX_ADDRESSES: usize = 16;

/// A host and a port, as written: `host`, `host:port`, `1.2.3.4:port`, `[2001:db8::1]:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapAddr {
    /// Name or address, without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

/// A text that names no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host, host:port or [IPv6 address]:port")]
pub struct BadBootstrap(pub String);

impl FromStr for BootstrapAddr {
    type Err = BadBootstrap;

    fn from_str(text: &str) -> Result<Self, BadBootstrap> {
        let bad = || BadBootstrap(text.chars().take(80).collect());
        let text = text.trim();
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            let port = match rest.strip_prefix(':') {
                Some(p) => Some(p),
                None if rest.is_empty() => None,
                None => return Err(bad()),
            };
            (host, port)
        } else {
            match text.split_once(':') {
                // More than one colon without brackets: an IPv6 address.
                Some((_, rest)) if rest.contains(':') => (text, None),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port {
            Some(p) => p.parse().ok().filter(|p| *p != 0).ok_or_else(bad)?,
            None => DEFAULT_PORT,
        };
        let v6 = host.contains(':');
        if host.is_empty()
            || host.contains(char::is_whitespace)
            || (v6 && host.parse::<Ipv6Addr>().is_err())
        {
            return Err(bad());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for BootstrapAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The present addresses of some names. Names that do not resolve are told of and left out.
pub(super) async fn resolve(names: Vec<BootstrapAddr>) -> Vec<SocketAddr> {
    let mut out: Vec<SocketAddr> = Vec::new();
    for name in names {
        match tokio::net::lookup_host((name.host.as_str(), name.port)).await {
            Ok(found) => out.extend(found.take(MAX_ADDRESSES)),
            Err(e) => tracing::info!("bootstrap node {name} not found: {e}"),
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_port() {
        for (text, host, port) in [
            ("bootstrap.jami.net", "bootstrap.jami.net", 4222),
            ("bootstrap.jami.net:80", "bootstrap.jami.net", 80),
            ("192.0.2.1:4333", "192.0.2.1", 4333),
            ("[2001:db8::1]:4333", "2001:db8::1", 4333),
            ("[2001:db8::1]", "2001:db8::1", 4222),
            ("2001:db8::1", "2001:db8::1", 4222),
        ] {
            let addr: BootstrapAddr = text.parse().unwrap();
            assert_eq!((addr.host.as_str(), addr.port), (host, port), "{text}");
            assert_eq!(addr.to_string().parse(), Ok(addr));
        }
        for text in [
            "", ":4222", "a:", "a:0", "a:99999", "[::1", "[::1]x", "a b", "::bad::",
        ] {
            assert_eq!(
                text.parse::<BootstrapAddr>(),
                Err(BadBootstrap(text.into())),
                "{text}"
            );
        }
    }
}
