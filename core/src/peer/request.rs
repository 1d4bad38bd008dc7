//! The connection request, and its answer: one msgpack map sent through the DHT.

use crate::msgpack::{self, MsgpackError, Value};

/// DHT user type of the value that carries a request or an answer
/// (dhtnet `connectionmanager.cpp`, `PeerConnectionRequest`).
pub const USER_TYPE: &str = "peer_request";

/// Largest id that is written: 2^53, what a double holds exactly (dhtnet `connectionmanager.cpp`,
/// `ID_MAX_VAL`).
pub const MAX_ID: u64 = 1 << 53;

/// Longest packed request that is read. A text of 32 IPv6 candidates has some 2.5 kB, and a
/// DHT value ends at 64 kB.
pub const MAX_LEN: usize = 64 * 1024;

/// "Connect to me there", or the answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRequest {
    /// Names the attempt, together with the device. Never reused; the answer repeats it.
    pub id: u64,
    /// Credentials and candidates: see [`crate::peer::ice_text`].
    pub ice_msg: String,
    /// Whether this answers a request of ours.
    pub is_answer: bool,
    /// Why the requester connects, for push notifications. Empty in answers.
    pub conn_type: String,
}

/// Why some bytes are no connection request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not one msgpack object.
    #[error("connection request: {0}")]
    Msgpack(#[from] MsgpackError),
    /// A key is missing, or its value has another type.
    #[error("connection request: `{0}` is missing or has the wrong type")]
    Field(&'static str),
}

impl PeerRequest {
    /// Reads a request. The order of the keys does not matter, and unknown ones are skipped.
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        let value = msgpack::decode(bytes, MAX_LEN)?;
        let text = |key: &'static str| {
            msgpack::get(&value, key)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or(RequestError::Field(key))
        };
        Ok(Self {
            id: msgpack::get(&value, "id")
                .and_then(Value::as_u64)
                .ok_or(RequestError::Field("id"))?,
            ice_msg: text("ice_msg")?,
            is_answer: msgpack::get(&value, "isAnswer")
                .and_then(Value::as_bool)
                .ok_or(RequestError::Field("isAnswer"))?,
            // Daemons of 2021 and before did not write it.
            conn_type: match msgpack::get(&value, "connType") {
                None => String::new(),
                Some(v) => v
                    .as_str()
                    .ok_or(RequestError::Field("connType"))?
                    .to_owned(),
            },
        })
    }

    /// The map of exactly four keys, in the order in which Jami writes them.
    pub fn encode(&self) -> Vec<u8> {
        msgpack::encode(&msgpack::map([
            ("id", Value::from(self.id)),
            ("ice_msg", Value::from(self.ice_msg.as_str())),
            ("isAnswer", Value::from(self.is_answer)),
            ("connType", Value::from(self.conn_type.as_str())),
        ]))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_missing_is_named() {
        let map = msgpack::map([("id", Value::from(1)), ("ice_msg", Value::from(""))]);
        assert_eq!(
            PeerRequest::decode(&msgpack::encode(&map)),
            Err(RequestError::Field("isAnswer"))
        );
        assert_eq!(
            PeerRequest::decode(&[0x80]),
            Err(RequestError::Field("ice_msg")).or(Err(RequestError::Field("id")))
        );
        assert_eq!(
            PeerRequest::decode(b""),
            Err(RequestError::Msgpack(MsgpackError::Incomplete))
        );
    }

    proptest! {
        #[test]
        fn written_is_read(id in 1..=MAX_ID, ice_msg in ".{0,200}", is_answer: bool, conn_type in ".{0,40}") {
            let request = PeerRequest { id, ice_msg, is_answer, conn_type };
            prop_assert_eq!(PeerRequest::decode(&request.encode()), Ok(request));
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PeerRequest::decode(&bytes);
        }
    }
}
