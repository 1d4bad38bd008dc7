//! Errors of the API: a stable code for programs, a sentence for people.

use serde::{Deserialize, Serialize};

/// What went wrong, as a stable string in `error.data.code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The text is no JSON.
    NotJson,
    /// It is JSON, and no JSON-RPC 2.0 request.
    InvalidRequest,
    /// The parameters do not fit the method.
    InvalidParams,
    /// There is no such method, or this bridge cannot do it (yet).
    Unsupported,
    /// Nothing has this id.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// The account is not (or no longer) a member of the conversation.
    NotAMember,
    /// The caller's grant does not cover this.
    NotAuthorised,
    /// The archive's password is missing or wrong.
    WrongPassword,
    /// The name belongs to someone else.
    NameTaken,
    /// The network cannot be reached now; the same call may work later.
    Offline,
    /// A size limit was exceeded.
    TooLarge,
    /// Too many requests or attempts; try again later.
    TooMany,
    /// The action does not fit the state the thing is in.
    Conflict,
    /// Something took longer than it may.
    Timeout,
    /// The input (an archive, a repository) is damaged.
    Corrupt,
    /// The disk refused: full, read-only, or failing.
    Storage,
    /// The other side broke a rule; the history is untouched.
    Rejected,
    /// The bridge is shutting down.
    Stopping,
    /// A fault of the bridge itself.
    Internal,
    /// A code of a newer bridge.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// The JSON-RPC 2.0 number that goes with it (section 5.1 of that specification;
    /// numbers from -32000 to -32099 are left to servers).
    pub fn number(self) -> i32 {
        match self {
            Self::NotJson => -32700,
            Self::InvalidRequest => -32600,
            Self::Unsupported => -32601,
            Self::InvalidParams => -32602,
            Self::Internal => -32603,
            Self::NotAuthorised => -32001,
            Self::Stopping => -32002,
            _ => -32000,
        }
    }

    /// The stable string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidParams => "invalid_params",
            Self::Unsupported => "unsupported",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::NotAMember => "not_a_member",
            Self::NotAuthorised => "not_authorised",
            Self::WrongPassword => "wrong_password",
            Self::NameTaken => "name_taken",
            Self::Offline => "offline",
            Self::TooLarge => "too_large",
            Self::TooMany => "too_many",
            Self::Conflict => "conflict",
            Self::Timeout => "timeout",
            Self::Corrupt => "corrupt",
            Self::Storage => "storage",
            Self::Rejected => "rejected",
            Self::Stopping => "stopping",
            Self::Internal => "internal",
            Self::Unknown => "unknown",
        }
    }
}

/// The answer of a method that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what is wrong and what to do about it.
    pub message: String,
}

impl ApiError {
    /// An error with a sentence a person can act on.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The parameters do not fit.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidParams, message)
    }

    /// Nothing has this id.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// The caller's grant does not cover this.
    pub fn not_authorised(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotAuthorised, message)
    }

    /// This bridge cannot do it.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unsupported, message)
    }

    /// A fault of the bridge itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_code_is_what_serde_writes() {
        for code in [
            ErrorCode::InvalidParams,
            ErrorCode::NotAMember,
            ErrorCode::NotAuthorised,
            ErrorCode::WrongPassword,
            ErrorCode::NameTaken,
            ErrorCode::TooLarge,
            ErrorCode::Unsupported,
            ErrorCode::AlreadyExists,
        ] {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{}\"", code.as_str()));
        }
    }

    #[test]
    fn a_code_of_a_newer_bridge_is_kept_as_unknown() {
        let code: ErrorCode = serde_json::from_str("\"quantum_flux\"").unwrap();
        assert_eq!(code, ErrorCode::Unknown);
    }
}
