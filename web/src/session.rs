//! What page and bridge say to each other over HTTP before there is a socket. The bridge's side says it in full.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use starling_core::api::{ApiError, ErrorCode};

/// The header in which the session's key is shown.
pub(crate) const KEY_HEADER: &str = "X-Starling-Key";

/// What this browser's key signs to open a session.
pub(crate) fn challenge_text(origin: &str, challenge: &str) -> String {
    format!("starling-session-v1\n{origin}\n{challenge}")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pair<'a> {
    code: &'a str,
    public_key: String,
    name: &'a str,
}

#[derive(Deserialize)]
struct Paired {
    grant: String,
}

#[derive(Deserialize)]
struct Challenge {
    challenge: String,
}

#[derive(Serialize)]
struct Open<'a> {
    grant: &'a str,
    challenge: &'a str,
    signature: String,
}

#[derive(Deserialize)]
struct Opened {
    key: String,
}

#[derive(Deserialize)]
struct Refused {
    error: Refusal,
}

#[derive(Deserialize)]
struct Refusal {
    code: ErrorCode,
    message: String,
}

/// The error in an answer that is none of success.
fn refusal(status: u16, body: &str) -> ApiError {
    match serde_json::from_str::<Refused>(body) {
        Ok(refused) => ApiError::new(refused.error.code, refused.error.message),
        Err(_) => ApiError::new(
            if status == 429 {
                ErrorCode::TooMany
            } else {
                ErrorCode::Unknown
            },
            "",
        ),
    }
}

#[cfg(target_arch = "wasm32")]
mod wire {
    use super::*;
    use leptos::prelude::window;
    use serde::de::DeserializeOwned;
    use std::cell::RefCell;
    use wasm_bindgen::JsCast;
    use wasm_bindgen_futures::JsFuture;
    use web_sys::{Headers, Request, RequestInit, Response};

    thread_local! {
        /// What the bridge wants to see beside the cookie. In memory only: a page that is loaded
        /// anew signs in anew.
        static KEY: RefCell<Option<String>> = const { RefCell::new(None) };
    }

    /// The session's key, where one was opened.
    pub(crate) fn key() -> Option<String> {
        KEY.with_borrow(Clone::clone)
    }

    async fn send(
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<(u16, String), ApiError> {
        let gone = |_| ApiError::new(ErrorCode::Offline, "");
        let settings = RequestInit::new();
        settings.set_method(method);
        let headers = Headers::new().map_err(gone)?;
        if let Some(key) = key() {
            headers.set(KEY_HEADER, &key).map_err(gone)?;
        }
        if let Some(body) = body {
            headers
                .set("Content-Type", "application/json")
                .map_err(gone)?;
            settings.set_body(&body.into());
        }
        settings.set_headers(&headers);
        let request = Request::new_with_str_and_init(path, &settings).map_err(gone)?;
        let response: Response = JsFuture::from(window().fetch_with_request(&request))
            .await
            .map_err(gone)?
            .dyn_into()
            .map_err(gone)?;
        let text = JsFuture::from(response.text().map_err(gone)?)
            .await
            .map_err(gone)?;
        Ok((response.status(), text.as_string().unwrap_or_default()))
    }

    async fn ask<T: DeserializeOwned>(
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<T, ApiError> {
        let (status, text) = send(method, path, body).await?;
        if !(200..300).contains(&status) {
            return Err(refusal(status, &text));
        }
        serde_json::from_str(&text).map_err(|e| ApiError::internal(e.to_string()))
    }

    fn json(value: &impl Serialize) -> Option<String> {
        serde_json::to_string(value).ok()
    }

    /// Whether the session that this page opened still counts.
    pub(crate) async fn stands() -> Result<bool, ApiError> {
        Ok(key().is_some() && send("GET", "/pair/session", None).await?.0 == 200)
    }

    /// Trades a code for a grant to this key.
    pub(crate) async fn pair(code: &str, key: &[u8], name: &str) -> Result<String, ApiError> {
        let body = Pair {
            code,
            public_key: URL_SAFE_NO_PAD.encode(key),
            name,
        };
        Ok(ask::<Paired>("POST", "/pair", json(&body)).await?.grant)
    }

    /// Something to sign.
    pub(crate) async fn challenge() -> Result<String, ApiError> {
        Ok(ask::<Challenge>("GET", "/pair/challenge", None)
            .await?
            .challenge)
    }

    /// Opens a session.
    pub(crate) async fn open(
        grant: &str,
        challenge: &str,
        signature: &[u8],
    ) -> Result<(), ApiError> {
        let body = Open {
            grant,
            challenge,
            signature: URL_SAFE_NO_PAD.encode(signature),
        };
        let opened = ask::<Opened>("POST", "/pair/session", json(&body)).await?;
        KEY.set(Some(opened.key));
        Ok(())
    }

    /// Ends the session; the browser forgets what the page kept.
    pub(crate) async fn end() -> Result<(), ApiError> {
        send("POST", "/pair/logout", Some("{}".to_owned()))
            .await
            .map(drop)
    }
}

#[cfg(target_arch = "wasm32")]
pub(crate) use wire::{challenge, end, key, open, pair, stands};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_text_names_protocol_place_and_challenge() {
        assert_eq!(
            challenge_text("http://localhost:7474", "abc"),
            "starling-session-v1\nhttp://localhost:7474\nabc"
        );
    }

    #[test]
    fn a_refusal_is_read_and_nonsense_is_one_too() {
        let error = refusal(
            403,
            r#"{"error":{"code":"not_authorised","message":"No."}}"#,
        );
        assert_eq!(
            (error.code, error.message.as_str()),
            (ErrorCode::NotAuthorised, "No.")
        );
        assert_eq!(refusal(429, "<html>").code, ErrorCode::TooMany);
        assert_eq!(refusal(500, "").code, ErrorCode::Unknown);
    }

    #[test]
    fn requests_have_the_names_the_bridge_reads() {
        let pair = Pair {
            code: "c",
            public_key: "k".into(),
            name: "n",
        };
        assert_eq!(
            serde_json::to_string(&pair).unwrap(),
            r#"{"code":"c","publicKey":"k","name":"n"}"#
        );
    }
}
