//! The names of channels: who wants what over one of them.
//!
//! Names are opaque to the multiplexer. What is not in the catalogue is kept as it came, so that
//! it can be declined by name.

use crate::id::{AccountId, ConversationId, DeviceId};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// What a channel is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelName {
    /// `sip`: calls, and with daemons of 2023 also texts and notices.
    Sip,
    /// `git://<device>/<conversation>`: opened by the side that fetches; `device` serves.
    Git {
        /// The serving device, that is the acceptor.
        device: DeviceId,
        /// What to fetch.
        conversation: ConversationId,
    },
    /// `sync://<device>`: own devices among themselves; `device` accepts.
    Sync {
        /// The acceptor.
        device: DeviceId,
    },
    /// `data-transfer://profile.vcf[?…]`: own card to an own device.
    OwnProfile {
        /// What follows the `?`.
        arguments: Arguments,
    },
    /// `data-transfer://<conversation>/<device>/profile.vcf[?…]`: own card to a member.
    MemberProfile {
        /// In which conversation the members met.
        conversation: ConversationId,
        /// The initiator, whose card it is.
        device: DeviceId,
        /// What follows the `?`.
        arguments: Arguments,
    },
    /// `data-transfer://<conversation>/<device>/<file id>[?…]`: opened by the side that wants a file.
    File {
        /// Where the file was sent.
        conversation: ConversationId,
        /// The initiator.
        device: DeviceId,
        /// `<commit>_<tid>[.ext]`.
        file: String,
        /// What follows the `?`: `start` and `end`.
        arguments: Arguments,
    },
    /// `data-transfer://<conversation>/profile/<account>.vcf`: opened by the side that wants a card.
    ProfileOf {
        /// The conversation of the card's owner.
        conversation: ConversationId,
        /// Whose card.
        account: AccountId,
    },
    /// `swarm://<conversation>`: routing messages between chosen neighbours.
    Swarm {
        /// The swarm.
        conversation: ConversationId,
    },
    /// `msg:<device>`: messages and notices; `device` accepts.
    Message {
        /// The acceptor.
        device: DeviceId,
    },
    /// `auth:<6 digits>`: a new device is linked.
    Auth {
        /// The number of the operation.
        code: String,
    },
    /// `svcdisc://query`: which services a device shares.
    ServiceQuery,
    /// `svc://<uuid>`: one connection into a shared service.
    Service {
        /// The service.
        service: String,
    },
    /// `ydoc://<device>/<document>`: updates of a shared document.
    Document {
        /// The device that is named, as in the other forms.
        device: DeviceId,
        /// The document.
        document: String,
    },
    /// Anything else, as it came.
    Unknown(String),
}

/// The part of a name after `?`, in order and uninterpreted.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arguments(String);

impl Arguments {
    /// Arguments from pairs. Neither may contain `&` or `=`.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pairs: Vec<_> = pairs.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        Self(pairs.join("&"))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(k, _)| *k == key)
            .map(|(_, v)| v)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ChannelName {
    /// The text before the first `:`, by which a daemon chooses a handler.
    pub fn scheme(&self) -> String {
        let text = self.to_string();
        match text.split_once(':') {
            Some((scheme, _)) => scheme.to_owned(),
            None => text,
        }
    }

    fn parse_known(text: &str) -> Option<Self> {
        if text == "sip" {
            return Some(Self::Sip);
        }
        if text == "svcdisc://query" {
            return Some(Self::ServiceQuery);
        }
        let (scheme, rest) = text.split_once(':')?;
        let path = rest.strip_prefix("//");
        match scheme {
            "git" => {
                let (device, conversation) = path?.split_once('/')?;
                Some(Self::Git {
                    device: device.parse().ok()?,
                    conversation: conversation.parse().ok()?,
                })
            }
            "sync" => Some(Self::Sync {
                device: path?.parse().ok()?,
            }),
            "swarm" => Some(Self::Swarm {
                conversation: path?.parse().ok()?,
            }),
            "msg" => Some(Self::Message {
                device: rest.parse().ok()?,
            }),
            "auth" => {
                (rest.len() == 6 && rest.bytes().all(|b| b.is_ascii_digit())).then(|| Self::Auth {
                    code: rest.to_owned(),
                })
            }
            "svc" => {
                let service = path?;
                (!service.is_empty()).then(|| Self::Service {
                    service: service.to_owned(),
                })
            }
            "ydoc" => {
                let (device, document) = path?.split_once('/')?;
                Some(Self::Document {
                    device: device.parse().ok()?,
                    document: document.to_owned(),
                })
            }
            "data-transfer" => Self::parse_transfer(path?),
            _ => None,
        }
    }

    fn parse_transfer(path: &str) -> Option<Self> {
        let (path, arguments) = match path.split_once('?') {
            // An empty list would not be written back.
            Some((_, "")) => return None,
            Some((path, arguments)) => (path, Arguments(arguments.to_owned())),
            None => (path, Arguments::default()),
        };
        if path == "profile.vcf" {
            return Some(Self::OwnProfile { arguments });
        }
        let (conversation, rest) = path.split_once('/')?;
        let conversation = conversation.parse().ok()?;
        let (middle, last) = rest.split_once('/')?;
        if last.is_empty() || last.contains('/') {
            return None;
        }
        if middle == "profile" {
            let account = last.strip_suffix(".vcf")?.parse().ok()?;
            return arguments.is_empty().then_some(Self::ProfileOf {
                conversation,
                account,
            });
        }
        let device = middle.parse().ok()?;
        Some(if last == "profile.vcf" {
            Self::MemberProfile {
                conversation,
                device,
                arguments,
            }
        } else {
            Self::File {
                conversation,
                device,
                file: last.to_owned(),
                arguments,
            }
        })
    }
}

/// Never fails: what is not known is kept.
impl FromStr for ChannelName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from(text))
    }
}

impl From<&str> for ChannelName {
    fn from(text: &str) -> Self {
        Self::parse_known(text).unwrap_or_else(|| Self::Unknown(text.to_owned()))
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sip => f.write_str("sip"),
            Self::Git {
                device,
                conversation,
            } => write!(f, "git://{device}/{conversation}"),
            Self::Sync { device } => write!(f, "sync://{device}"),
            Self::OwnProfile { arguments } => write!(f, "data-transfer://profile.vcf{arguments}"),
            Self::MemberProfile {
                conversation,
                device,
                arguments,
            } => write!(
                f,
                "data-transfer://{conversation}/{device}/profile.vcf{arguments}"
            ),
            Self::File {
                conversation,
                device,
                file,
                arguments,
            } => write!(
                f,
                "data-transfer://{conversation}/{device}/{file}{arguments}"
            ),
            Self::ProfileOf {
                conversation,
                account,
            } => write!(f, "data-transfer://{conversation}/profile/{account}.vcf"),
            Self::Swarm { conversation } => write!(f, "swarm://{conversation}"),
            Self::Message { device } => write!(f, "msg:{device}"),
            Self::Auth { code } => write!(f, "auth:{code}"),
            Self::ServiceQuery => f.write_str("svcdisc://query"),
            Self::Service { service } => write!(f, "svc://{service}"),
            Self::Document { device, document } => write!(f, "ydoc://{device}/{document}"),
            Self::Unknown(text) => f.write_str(text),
        }
    }
}

/// With the `?` when there are any.
impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        write!(f, "?{}", self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_catalogue_is_read_and_written() {
        let (d, c, a) = ("ab".repeat(32), "cd".repeat(20), "ef".repeat(20));
        let catalogue = [
            "sip".to_owned(),
            format!("git://{d}/{c}"),
            format!("sync://{d}"),
            "data-transfer://profile.vcf".to_owned(),
            "data-transfer://profile.vcf?sha3=00&modified=5".to_owned(),
            format!("data-transfer://{c}/{d}/profile.vcf"),
            format!("data-transfer://{c}/{d}/profile.vcf?sha3=00"),
            format!("data-transfer://{c}/{d}/{a}_123.png?start=0&end=0"),
            format!("data-transfer://{c}/profile/{a}.vcf"),
            format!("swarm://{c}"),
            format!("msg:{d}"),
            "auth:123456".to_owned(),
            "svcdisc://query".to_owned(),
            "svc://7f000001-aaaa".to_owned(),
            format!("ydoc://{d}/doc"),
        ];
        for text in catalogue {
            let name = ChannelName::from(text.as_str());
            assert!(!matches!(name, ChannelName::Unknown(_)), "{text}");
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_name_of_the_catalogue_is_kept_as_it_came() {
        let (d, c) = ("ab".repeat(32), "cd".repeat(20));
        for text in [
            String::new(),
            "Sip".to_owned(),
            "vcard://x".to_owned(),
            "git://../etc/passwd".to_owned(),
            format!("git://{d}/{c}/x"),
            format!("git://{d}/{}", c.to_uppercase()),
            format!("git:{d}/{c}"),
            format!("msg://{d}"),
            format!("data-transfer://{c}/{d}/../x"),
            format!("data-transfer://{c}/{d}/"),
            "auth:12345a".to_owned(),
            "x".repeat(100_000),
        ] {
            let name = ChannelName::from(text.as_str());
            assert_eq!(name, ChannelName::Unknown(text.clone()));
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn arguments_are_found_by_key() {
        let arguments = Arguments::new([("start", "5"), ("end", "10")]);
        assert_eq!(arguments.get("end"), Some("10"));
        assert_eq!(arguments.get("en"), None);
        assert_eq!(arguments.to_string(), "?start=5&end=10");
    }

    proptest! {
        #[test]
        fn every_text_survives(text in "(git|sync|msg|swarm|svc|ydoc|data-transfer|auth|sip)?:?/?/?[a-f0-9/?=&.]{0,200}|\\PC{0,60}") {
            prop_assert_eq!(ChannelName::from(text.as_str()).to_string(), text);
        }
    }
}
