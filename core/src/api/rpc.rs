//! The JSON-RPC 2.0 envelope.

use super::error::{ApiError, ErrorCode};
use super::event::SequencedEvent;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The only version of the protocol that is spoken.
pub const VERSION: &str = "2.0";

/// Name of the notification that carries an event.
pub const EVENT: &str = "event";

/// Largest text frame either side sends: 1 MiB. Files and objects travel over HTTP.
pub const MAX_FRAME: usize = 1 << 20;

/// Most calls in one batch. A page that needs more sends two.
pub const MAX_BATCH: usize = 64;

/// What ties an answer to its call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "an id is a number or a string")]
pub enum RequestId {
    /// A whole number, as the page uses.
    Number(i64),
    /// Another number, which the answer carries back all the same: as precise as a double is.
    Other(serde_json::Number),
    /// A string.
    Text(String),
}

/// A call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// `"2.0"`.
    pub jsonrpc: String,
    /// Absent in a notification, which gets no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// For example `message.send`.
    pub method: String,
    /// An object; absent means `{}`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
}

impl Request {
    /// A call that wants an answer.
    pub fn new(id: i64, method: &str, params: Value) -> Self {
        Self {
            jsonrpc: VERSION.into(),
            id: Some(RequestId::Number(id)),
            method: method.into(),
            params,
        }
    }
}

/// An answer: exactly one of `result` and `error` is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// `"2.0"`.
    pub jsonrpc: String,
    /// The call's id; null when the call could not be read.
    pub id: Option<RequestId>,
    /// What the method returned; `Some(Value::Null)` for methods that return nothing.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub result: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorObject>,
}

/// A member that is there counts as there even when it is null.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}

impl Response {
    /// The answer to a call.
    pub fn new(id: Option<RequestId>, outcome: Result<Value, ApiError>) -> Self {
        let (result, error) = match outcome {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error.into())),
        };
        Self {
            jsonrpc: VERSION.into(),
            id,
            result,
            error,
        }
    }

    /// What the method returned, or its error.
    pub fn outcome(self) -> Result<Value, ApiError> {
        match (self.result, self.error) {
            (_, Some(error)) => Err(error.into()),
            (Some(result), None) => Ok(result),
            (None, None) => Err(ApiError::new(
                ErrorCode::InvalidRequest,
                "The answer has neither a result nor an error.",
            )),
        }
    }
}

/// JSON-RPC's form of an [`ApiError`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// JSON-RPC's number; programs should look at `data.code`.
    pub code: i32,
    /// A sentence for people.
    pub message: String,
    /// The stable code.
    #[serde(default)]
    pub data: ErrorData,
}

/// The machine-readable part of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorData {
    /// The stable code.
    pub code: ErrorCode,
}

impl Default for ErrorData {
    fn default() -> Self {
        Self {
            code: ErrorCode::Unknown,
        }
    }
}

impl From<ApiError> for ErrorObject {
    fn from(e: ApiError) -> Self {
        Self {
            code: e.code.number(),
            message: e.message,
            data: ErrorData { code: e.code },
        }
    }
}

impl From<ErrorObject> for ApiError {
    fn from(e: ErrorObject) -> Self {
        Self::new(e.data.code, e.message)
    }
}

/// What the bridge sends unasked: an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// `"2.0"`.
    pub jsonrpc: String,
    /// [`EVENT`].
    pub method: String,
    /// The event with its number.
    pub params: SequencedEvent,
}

impl Notification {
    /// The frame of an event.
    pub fn new(event: SequencedEvent) -> Self {
        Self {
            jsonrpc: VERSION.into(),
            method: EVENT.into(),
            params: event,
        }
    }
}

/// Anything the bridge may send in one frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// Answers: one, or those of a batch.
    Answers(Vec<Response>),
    /// An event.
    Event(Box<SequencedEvent>),
    /// A notification this version does not know; to be ignored.
    Other,
}

impl Incoming {
    /// Reads a text frame of the bridge.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let value: Value = serde_json::from_str(text)?;
        if value.is_array() {
            return Ok(Self::Answers(serde_json::from_value(value)?));
        }
        match value.get("method").and_then(Value::as_str) {
            Some(EVENT) => {
                let n: Notification = serde_json::from_value(value)?;
                Ok(Self::Event(Box::new(n.params)))
            }
            Some(_) => Ok(Self::Other),
            None => Ok(Self::Answers(vec![serde_json::from_value(value)?])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_without_a_value_is_told_from_an_answer_without_a_result() {
        let ok: Response =
            serde_json::from_value(json!({"jsonrpc":"2.0","id":1,"result":null})).unwrap();
        assert_eq!(ok.outcome(), Ok(Value::Null));
        let bad: Response = serde_json::from_value(json!({"jsonrpc":"2.0","id":1})).unwrap();
        assert_eq!(bad.outcome().unwrap_err().code, ErrorCode::InvalidRequest);
    }

    #[test]
    fn an_error_keeps_its_code_and_sentence() {
        let e = ApiError::not_found("No conversation has this id.");
        let text =
            serde_json::to_string(&Response::new(Some(RequestId::Number(7)), Err(e.clone())))
                .unwrap();
        assert_eq!(
            text,
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"No conversation has this id.","data":{"code":"not_found"}}}"#
        );
        let back: Response = serde_json::from_str(&text).unwrap();
        assert_eq!(back.outcome(), Err(e));
    }

    #[test]
    fn an_id_comes_back_as_it_was_written_or_is_none() {
        let long = "300000000333333333333333000";
        for id in ["7", "-1.5", "18446744073709551615", "1e300", long, "\"7\""] {
            let read: RequestId = serde_json::from_str(id).unwrap();
            let again = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<RequestId>(&again).unwrap(), read);
        }
        for no in ["true", "[7]"] {
            assert!(serde_json::from_str::<RequestId>(no).is_err(), "{no}");
        }
    }

    #[test]
    fn frames_of_the_bridge_are_told_apart() {
        let one = Incoming::parse(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).unwrap();
        assert!(matches!(one, Incoming::Answers(a) if a.len() == 1));
        let two = Incoming::parse(
            r#"[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":"a","result":2}]"#,
        )
        .unwrap();
        assert!(matches!(two, Incoming::Answers(a) if a.len() == 2));
        let other = Incoming::parse(r#"{"jsonrpc":"2.0","method":"ping","params":{}}"#).unwrap();
        assert_eq!(other, Incoming::Other);
        assert!(Incoming::parse("{").is_err());
    }
}
