//! What peers tell each other outside a conversation's git: new commits,
//! invitations, typing, read marks.
//!
//! A notice is a MIME type and a text. On a `msg:` channel it is a msgpack map
//! `{id, t, c, req}`, one after another, without acknowledgement.

use crate::id::{ConversationId, DeviceId, ObjectId};
use crate::msgpack::{self, MsgpackError, Value};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// Longest notice that is read, in bytes. An invitation may carry a picture of
/// just under 64,000 bytes (`MAX_SIZE` of metadata values in the reference).
pub const MAX_NOTICE: usize = 256 * 1024;

/// One thing told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// There is a new commit; fetch it from `device`.
    NewCommit {
        /// The conversation.
        conversation: ConversationId,
        /// Its new head at the teller.
        commit: ObjectId,
        /// The device that has it.
        device: DeviceId,
    },
    /// An invitation to a group.
    Invite {
        /// The conversation.
        conversation: ConversationId,
        /// Title, description, avatar, mode and more, as texts.
        metadata: BTreeMap<String, String>,
        /// When the invitation was issued, unix milliseconds; 0 when the inviter does not say.
        received_ms: u64,
    },
    /// "I was told of this conversation and have no invitation: send it again."
    InviteAgain {
        /// The conversation.
        conversation: ConversationId,
    },
    /// The other person writes, or stopped.
    Composing {
        /// The conversation.
        conversation: ConversationId,
        /// Whether they write now. Expires after 12 s.
        active: bool,
    },
    /// Everything up to this message was read.
    Displayed {
        /// The conversation.
        conversation: ConversationId,
        /// The last message read.
        message: ObjectId,
    },
    /// Anything else: kept, never fatal.
    Other {
        /// MIME type.
        mime: String,
        /// Text.
        content: String,
    },
}

const NEW_COMMIT: &str = "application/im-gitmessage-id";
const INVITE: &str = "application/invite+json";
const INVITE_AGAIN: &str = "application/invite";
const COMPOSING: &str = "application/im-iscomposing+xml";
const DISPLAYED: &str = "message/imdn+xml";

/// Why a notice was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// The frame is no msgpack object, or too long.
    #[error("a notice on the message channel is {0}")]
    Frame(#[from] MsgpackError),
    /// The frame lacks a type or a text.
    #[error("a notice without {0}")]
    Lacks(&'static str),
    /// The text does not fit the type.
    #[error("a notice of type {0} with a text that does not fit it")]
    Text(&'static str),
}

/// The text between two marks, as the reference reads its XML.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
}

/// How many bytes a frame takes, and what it says.
pub type FirstFrame = (usize, Result<Notice, NoticeError>);

impl Notice {
    /// Reads a notice from its type and text. Parameters behind the type are ignored.
    pub fn from_parts(mime: &str, content: &str) -> Result<Self, NoticeError> {
        let kind = mime.split(';').next().unwrap_or(mime).trim();
        match kind {
            NEW_COMMIT => {
                let json: Map<String, Json> =
                    serde_json::from_str(content).map_err(|_| NoticeError::Text(NEW_COMMIT))?;
                let field = |k: &str| json.get(k).and_then(Json::as_str).unwrap_or_default();
                let (Ok(conversation), Ok(commit), Ok(device)) = (
                    field("id").parse(),
                    field("commit").parse(),
                    field("deviceId").parse(),
                ) else {
                    return Err(NoticeError::Text(NEW_COMMIT));
                };
                Ok(Self::NewCommit {
                    conversation,
                    commit,
                    device,
                })
            }
            INVITE => {
                let json: Map<String, Json> =
                    serde_json::from_str(content).map_err(|_| NoticeError::Text(INVITE))?;
                let conversation = json
                    .get("conversationId")
                    .and_then(Json::as_str)
                    .unwrap_or_default()
                    .parse()
                    .map_err(|_| NoticeError::Text(INVITE))?;
                let metadata = json
                    .get("metadatas")
                    .and_then(Json::as_object)
                    .map(|m| {
                        m.iter()
                            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
                            .collect()
                    })
                    .unwrap_or_default();
                let ms = json.get("receivedMs").and_then(Json::as_u64);
                let s = json.get("received").and_then(Json::as_u64).unwrap_or(0);
                Ok(Self::Invite {
                    conversation,
                    metadata,
                    received_ms: ms.unwrap_or(s.saturating_mul(1000)),
                })
            }
            INVITE_AGAIN => {
                let conversation = content
                    .trim()
                    .parse()
                    .map_err(|_| NoticeError::Text(INVITE_AGAIN))?;
                Ok(Self::InviteAgain { conversation })
            }
            COMPOSING => {
                let state =
                    between(content, "<state>", "</state>").ok_or(NoticeError::Text(COMPOSING))?;
                let conversation = between(content, "<conversation>", "</conversation>")
                    .and_then(|c| c.parse().ok())
                    .ok_or(NoticeError::Text(COMPOSING))?;
                Ok(Self::Composing {
                    conversation,
                    active: state == "active",
                })
            }
            DISPLAYED if content.contains("<displayed/>") => {
                let id =
                    between(content, "<message-id>", "</message-id>").and_then(|c| c.parse().ok());
                let conversation = between(content, "<conversation>", "</conversation>")
                    .and_then(|c| c.parse().ok());
                match (id, conversation) {
                    (Some(message), Some(conversation)) => Ok(Self::Displayed {
                        conversation,
                        message,
                    }),
                    _ => Err(NoticeError::Text(DISPLAYED)),
                }
            }
            _ => Ok(Self::Other {
                mime: mime.to_owned(),
                content: content.to_owned(),
            }),
        }
    }

    /// Type and text, with the exact element shapes that the reference looks for.
    pub fn to_parts(&self) -> (String, String) {
        match self {
            Self::NewCommit {
                conversation,
                commit,
                device,
            } => (
                NEW_COMMIT.into(),
                format!(
                    "{{\"commit\":\"{commit}\",\"deviceId\":\"{device}\",\"id\":\"{conversation}\"}}"
                ),
            ),
            Self::Invite {
                conversation,
                metadata,
                received_ms,
            } => {
                let json = serde_json::json!({
                    "conversationId": conversation.to_hex(),
                    "metadatas": metadata,
                    "received": received_ms / 1000,
                    "receivedMs": received_ms,
                });
                (INVITE.into(), json.to_string())
            }
            Self::InviteAgain { conversation } => (INVITE_AGAIN.into(), conversation.to_hex()),
            Self::Composing {
                conversation,
                active,
            } => (
                COMPOSING.into(),
                format!(
                    "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n<isComposing><state>{}</state><conversation>{conversation}</conversation></isComposing>",
                    if *active { "active" } else { "idle" }
                ),
            ),
            Self::Displayed {
                conversation,
                message,
            } => (
                DISPLAYED.into(),
                format!(
                    "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n<imdn><message-id>{message}</message-id>\n<conversation>{conversation}</conversation><display-notification><status><displayed/></status></display-notification>\n</imdn>"
                ),
            ),
            Self::Other { mime, content } => (mime.clone(), content.clone()),
        }
    }

    /// The frame on a `msg:` channel. `id` is any number; nobody answers it.
    pub fn to_frame(&self, id: u64) -> Vec<u8> {
        let (mime, content) = self.to_parts();
        msgpack::encode(&msgpack::map([
            ("id", Value::from(id)),
            ("t", Value::from(mime)),
            ("c", Value::from(content)),
            ("req", Value::Nil),
        ]))
    }

    /// Reads one whole frame, as [`msgpack::Frames`] cuts them.
    pub fn from_frame(frame: &[u8]) -> Result<Self, NoticeError> {
        match Self::first_frame(frame)? {
            Some((_, notice)) => notice,
            None => Err(MsgpackError::Incomplete.into()),
        }
    }

    /// The first frame of a `msg:` channel's bytes and its length; `None` while it is not complete.
    /// A notice that is not understood is an error beside its length, so that the stream goes on.
    pub fn first_frame(bytes: &[u8]) -> Result<Option<FirstFrame>, NoticeError> {
        let (value, len) = match msgpack::first(bytes, MAX_NOTICE) {
            Err(MsgpackError::Incomplete) => return Ok(None),
            other => other?,
        };
        let text = |key| msgpack::get(&value, key).and_then(Value::as_str);
        let notice = match (text("t"), text("c")) {
            (Some(t), Some(c)) => Self::from_parts(t, c),
            (None, _) => Err(NoticeError::Lacks("a type")),
            (_, None) => Err(NoticeError::Lacks("a text")),
        };
        Ok(Some((len, notice)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn golden() -> Vec<(String, String, Vec<u8>)> {
        let file: Json =
            serde_json::from_str(include_str!("../tests/data/notice/messages.json")).unwrap();
        let text = |m: &Json, k: &str| m[k].as_str().unwrap().to_owned();
        file["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| {
                (
                    text(m, "type"),
                    text(m, "body"),
                    hex::decode(text(m, "hex")).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn frames_of_the_reference_are_read_and_written_alike() {
        let mut kinds = 0;
        for (i, (mime, body, frame)) in golden().into_iter().enumerate() {
            let (len, notice) = Notice::first_frame(&frame).unwrap().unwrap();
            assert_eq!(len, frame.len());
            let notice = notice.unwrap();
            assert_eq!(notice.to_parts(), (mime, body));
            assert_eq!(notice.to_frame(42 + i as u64), frame);
            kinds += usize::from(!matches!(notice, Notice::Other { .. }));
        }
        assert_eq!(kinds, 5);
    }

    #[test]
    fn a_frame_in_pieces_waits_for_its_end() {
        let (_, _, frame) = golden().remove(0);
        for cut in 0..frame.len() {
            assert_eq!(Notice::first_frame(&frame[..cut]), Ok(None));
        }
    }

    #[test]
    fn bad_notices_are_named_and_leave_the_stream_intact() {
        assert_eq!(
            Notice::from_parts(NEW_COMMIT, "{\"id\":\"x\"}"),
            Err(NoticeError::Text(NEW_COMMIT))
        );
        assert_eq!(
            Notice::from_parts(COMPOSING, "<state>active</state>"),
            Err(NoticeError::Text(COMPOSING))
        );
        assert_eq!(
            Notice::from_parts(INVITE_AGAIN, "../../x"),
            Err(NoticeError::Text(INVITE_AGAIN))
        );
        let no_type = msgpack::encode(&msgpack::map([("c", Value::from("x"))]));
        assert_eq!(
            Notice::first_frame(&no_type),
            Ok(Some((no_type.len(), Err(NoticeError::Lacks("a type")))))
        );
        // Too deep, outside and inside.
        let deep = NoticeError::Frame(MsgpackError::TooDeep(msgpack::MAX_DEPTH));
        assert_eq!(Notice::first_frame(&[0x91; 100]), Err(deep));
        let nested = format!("{{\"id\":{}", "[".repeat(100_000));
        assert_eq!(
            Notice::from_parts(NEW_COMMIT, &nested),
            Err(NoticeError::Text(NEW_COMMIT))
        );
        // A str of 4 GiB is refused once the limit is there, not collected.
        let mut endless = vec![0xdb, 0xff, 0xff, 0xff, 0xff];
        endless.resize(MAX_NOTICE, b'x');
        assert_eq!(
            Notice::first_frame(&endless),
            Err(NoticeError::Frame(MsgpackError::TooLong(MAX_NOTICE)))
        );
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(conv: [u8; 20], commit: [u8; 20], dev: [u8; 32], active: bool, ms in 0u64..1 << 50, title in ".{0,30}") {
            let (conversation, commit, device) = (ConversationId(conv), ObjectId(commit), DeviceId(dev));
            for n in [
                Notice::NewCommit { conversation, commit, device },
                Notice::Invite { conversation, metadata: BTreeMap::from([("title".into(), title)]), received_ms: ms },
                Notice::InviteAgain { conversation },
                Notice::Composing { conversation, active },
                Notice::Displayed { conversation, message: commit },
            ] {
                let frame = n.to_frame(7);
                prop_assert_eq!(Notice::first_frame(&frame), Ok(Some((frame.len(), Ok(n)))));
            }
        }
    }
}
