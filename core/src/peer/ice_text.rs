//! Credentials and candidates as text: the `ice_msg` of a connection request.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Most candidates of a peer that are used, of all kinds (pjnath `PJ_ICE_ST_MAX_CAND` 32; the
/// list is cut to 31).
pub const MAX_CANDIDATES: usize = 31;
/// Most host candidates of a peer that are used (dhtnet cuts to 8).
pub const MAX_HOST: usize = 8;
/// Most relay candidates of a peer that are used (dhtnet cuts to 4).
pub const MAX_RELAY: usize = 4;
/// Longest text that is read: 64 lines of what pjnath may write (31 + 79 + some 60 characters), doubled.
pub const MAX_LEN: usize = 20_000;
/// Port of an active candidate: "discard", it is never connected to (RFC 6544 section 4.5).
pub const ACTIVE_PORT: u16 = 9;
/// Longest foundation that is read (pjnath).
const MAX_FOUNDATION: usize = 31;
/// Longest credentials that are read; RFC 8445 ends at 256 characters.
const MAX_CREDENTIAL: usize = 256;

/// User fragment and password of one agent.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Names the agent in checks.
    pub ufrag: String,
    /// Key of the checks that the agent receives.
    pub pwd: String,
}

/// Where a candidate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CandidateType {
    /// An address of an interface.
    Host,
    /// An address seen from outside.
    ServerReflexive,
    /// An address on a TURN server.
    Relay,
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TcpType {
    /// The side of this candidate connects.
    Active,
    /// The side of this candidate is connected to.
    Passive,
    /// Both connect at once: understood, never sent, never used.
    SimultaneousOpen,
}

/// One way to reach an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Same for candidates with the same base.
    pub foundation: String,
    /// Order of candidates.
    pub priority: u32,
    /// Address, with port 9 in active candidates.
    pub address: SocketAddr,
    /// Where it comes from.
    pub kind: CandidateType,
    /// Who connects.
    pub tcp_type: TcpType,
}

/// The whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceText {
    /// Credentials of the writer.
    pub credentials: Credentials,
    /// Its candidates, in the order of the text.
    pub candidates: Vec<Candidate>,
}

/// Why a text cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IceTextError {
    /// Longer than any honest one.
    #[error("the list of candidates is longer than {MAX_LEN} bytes")]
    TooLong,
    /// The first two lines are not a fragment and a password.
    #[error("the list of candidates has no credentials")]
    NoCredentials,
    /// No line holds a TCP candidate.
    #[error("the list of candidates has no usable one")]
    NoCandidates,
}

impl Credentials {
    /// Credentials in Jami's form, 8 and 24 hexadecimal digits, from 16 random bytes.
    pub fn from_random(random: [u8; 16]) -> Self {
        let text = hex::encode(random);
        let (ufrag, pwd) = text.split_at(8);
        Self {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        }
    }
}

/// The password stays out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.ufrag)
    }
}

impl Candidate {
    /// A candidate of ours. `local` counts down from 65535 for each candidate of one listening socket.
    pub fn new(kind: CandidateType, tcp_type: TcpType, address: SocketAddr, local: u16) -> Self {
        let (letter, preference) = match kind {
            // Type preferences of RFC 8445; daemons use 126, 100 and 0.
            CandidateType::Host => ('H', 126u32),
            CandidateType::ServerReflexive => ('S', 100),
            CandidateType::Relay => ('R', 0),
        };
        let hash = match address.ip() {
            IpAddr::V4(ip) => u32::from(ip),
            // Any 32 bits that differ for different addresses will do.
            IpAddr::V6(ip) => ip
                .octets()
                .iter()
                .fold(0u32, |h, b| h.wrapping_mul(33).wrapping_add(u32::from(*b))),
        };
        Self {
            foundation: format!("{letter}{hash:x}"),
            priority: priority(preference, local),
            address,
            kind,
            tcp_type,
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let foundation = words.next()?;
        let component: u32 = words.next()?.parse().ok()?;
        let transport = words.next()?;
        let priority = words.next()?.parse().ok()?;
        let ip: IpAddr = words.next()?.parse().ok()?;
        let port = words.next()?.parse().ok()?;
        if words.next()? != "typ" {
            return None;
        }
        let kind = match words.next()? {
            "host" => CandidateType::Host,
            "srflx" => CandidateType::ServerReflexive,
            "relay" => CandidateType::Relay,
            _ => return None,
        };
        if words.next()? != "tcptype" {
            return None;
        }
        let tcp_type = match words.next()? {
            "active" => TcpType::Active,
            "passive" => TcpType::Passive,
            "so" => TcpType::SimultaneousOpen,
            _ => return None,
        };
        if component != 1 || transport != "TCP" || foundation.len() > MAX_FOUNDATION {
            return None;
        }
        Some(Self {
            foundation: foundation.to_owned(),
            priority,
            address: SocketAddr::new(ip, port),
            kind,
            tcp_type,
        })
    }
}

/// `type<<24 + local<<8 + 255` (RFC 8445 section 5.1.2 for component 1).
pub(crate) fn priority(preference: u32, local: u16) -> u32 {
    (preference << 24) | (u32::from(local) << 8) | 255
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            CandidateType::Host => "host",
            CandidateType::ServerReflexive => "srflx",
            CandidateType::Relay => "relay",
        };
        let tcp_type = match self.tcp_type {
            TcpType::Active => "active",
            TcpType::Passive => "passive",
            TcpType::SimultaneousOpen => "so",
        };
        write!(
            f,
            "{} 1 TCP {} {} {} typ {kind} tcptype {tcp_type}",
            self.foundation,
            self.priority,
            self.address.ip(),
            self.address.port(),
        )
    }
}

impl IceText {
    /// Reads a text. Lines that are no TCP candidate of component 1 are skipped, and the list is
    /// cut as daemons cut it.
    pub fn parse(text: &str) -> Result<Self, IceTextError> {
        if text.len() > MAX_LEN {
            return Err(IceTextError::TooLong);
        }
        let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
        let mut credential = || {
            lines
                .next()
                .filter(|l| l.len() <= MAX_CREDENTIAL && !l.contains(char::is_whitespace))
                .map(str::to_owned)
                .ok_or(IceTextError::NoCredentials)
        };
        let credentials = Credentials {
            ufrag: credential()?,
            pwd: credential()?,
        };
        let (mut hosts, mut relays) = (0usize, 0usize);
        let candidates: Vec<_> = lines
            .filter_map(Candidate::parse)
            .filter(|c| match c.kind {
                // Active candidates are never connected to and take no place among the eight.
                CandidateType::Host if c.tcp_type == TcpType::Active => true,
                CandidateType::Host => {
                    hosts = hosts.saturating_add(1);
                    hosts <= MAX_HOST
                }
                CandidateType::Relay => {
                    relays = relays.saturating_add(1);
                    relays <= MAX_RELAY
                }
                CandidateType::ServerReflexive => true,
            })
            .take(MAX_CANDIDATES)
            .collect();
        if candidates.is_empty() {
            return Err(IceTextError::NoCandidates);
        }
        Ok(Self {
            credentials,
            candidates,
        })
    }
}

impl fmt::Display for IceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.credentials.ufrag)?;
        writeln!(f, "{}", self.credentials.pwd)?;
        for candidate in &self.candidates {
            writeln!(f, "{candidate}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "3f1c09aa\n5b0e1d2c7f3a4e5d6c7b8a90\n\
        Hc000020a 1 TCP 2130706431 192.0.2.10 36959 typ host tcptype passive\n\
        Hc000020a 1 TCP 2130706175 192.0.2.10 9 typ host tcptype active\n\
        H7d3f21c0 1 TCP 2130706431 2001:db8::10 57021 typ host tcptype passive\n\
        Sc000020a 1 TCP 1694498303 198.51.100.7 9 typ srflx tcptype active\n\
        Rcb007105 1 TCP 16777215 203.0.113.5 51812 typ relay tcptype passive\n";

    #[test]
    fn a_text_is_written_as_it_was_read() {
        let text = IceText::parse(TEXT).unwrap();
        assert_eq!(text.candidates.len(), 5);
        assert_eq!(text.to_string(), TEXT);
    }

    #[test]
    fn our_candidates_look_like_a_daemons() {
        let passive = Candidate::new(
            CandidateType::Host,
            TcpType::Passive,
            "192.0.2.10:36959".parse().unwrap(),
            65535,
        );
        let active = Candidate::new(
            CandidateType::Host,
            TcpType::Active,
            "192.0.2.10:9".parse().unwrap(),
            65534,
        );
        assert!(TEXT.contains(&passive.to_string()));
        assert!(TEXT.contains(&active.to_string()));
    }

    #[test]
    fn other_lines_are_skipped_and_lists_are_cut() {
        let text = "u\np\n\
            H1 1 UDP 1 192.0.2.1 5 typ host\n\
            H1 2 TCP 1 192.0.2.1 5 typ host tcptype passive\n\
            H1 1 TCP 1 name.local 5 typ host tcptype passive\n\
            H1 1 TCP 1 fe80::1%eth0 5 typ host tcptype passive\n\
            H1 1 TCP 1 192.0.2.1 70000 typ host tcptype passive\n\
            P1 1 TCP 1 192.0.2.1 5 typ prflx tcptype passive\n\
            \n\
            H1 1 TCP 1 192.0.2.1 5 typ host tcptype passive\n";
        assert_eq!(IceText::parse(text).unwrap().candidates.len(), 1);
        let many: String = (0..1000)
            .map(|i| {
                format!(
                    "H{i} 1 TCP 1 192.0.2.1 {} typ host tcptype passive\n",
                    i + 1
                )
            })
            .take(300)
            .collect();
        let text = IceText::parse(&format!("u\np\n{many}")).unwrap();
        assert!(text.candidates.len() <= MAX_CANDIDATES);
    }

    #[test]
    fn unusable_texts_are_named() {
        assert_eq!(IceText::parse(""), Err(IceTextError::NoCredentials));
        assert_eq!(IceText::parse("u\n"), Err(IceTextError::NoCredentials));
        assert_eq!(IceText::parse("u\np\n"), Err(IceTextError::NoCandidates));
        assert_eq!(
            IceText::parse(&"x\n".repeat(MAX_LEN)),
            Err(IceTextError::TooLong)
        );
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,20}\n\\PC{0,20}\n([A-Z0-9]{1,9} 1 TCP [0-9]{1,11} [0-9.:a-f]{1,20} [0-9]{1,6} typ (host|srflx|relay) tcptype (active|passive|so)\n){0,40}") {
            if let Ok(read) = IceText::parse(&text) {
                prop_assert!(read.candidates.len() <= MAX_CANDIDATES);
                prop_assert_eq!(IceText::parse(&read.to_string()), Ok(read));
            }
        }
    }
}
