//! Pairing over HTTP; the wire is described in [`super::pairing`].

use super::guard::{Site, error_response};
use super::pairing::{Opened, PairingError, SESSION_LIFE, SessionInfo};
use crate::api::{App, Caller};
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use starling_core::api::{ApiError, ErrorCode};
use std::sync::Arc;
use std::time::Instant;

/// Larger than any honest body here by a factor of ten.
const MAX_BODY: usize = 4096;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/pair", post(pair))
        .route("/pair/challenge", get(challenge))
        .route("/pair/session", get(session).post(open_session))
        .route("/pair/logout", post(logout))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PairBody {
    code: String,
    public_key: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct SessionBody {
    grant: String,
    challenge: String,
    signature: String,
}

/// The header in which a page shows its session's key.
const KEY: &str = "x-starling-key";
/// Before the key, where it is shown as a subprotocol: a socket's headers are not the page's to set.
const KEY_PROTOCOL: &str = "starling.key.";
/// The subprotocol that is spoken.
pub(super) const PROTOCOL: &str = "starling";

/// Who sent a request: by token, or by cookie and key.
pub(super) fn caller(app: &App, site: &Site, headers: &HeaderMap) -> Option<Caller> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok()?.strip_prefix("Bearer ")?;
        return app.pairing.is_admin(token.trim()).then(Caller::admin);
    }
    app.pairing
        .caller(&cookie(site, headers)?, &key(headers)?, Instant::now())
}

/// The session's key.
fn key(headers: &HeaderMap) -> Option<String> {
    if let Some(key) = headers.get(KEY) {
        return Some(key.to_str().ok()?.to_owned());
    }
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .find_map(|p| p.trim().strip_prefix(KEY_PROTOCOL))
        .map(str::to_owned)
}

/// The session's cookie. Of two with the same name none counts.
fn cookie(site: &Site, headers: &HeaderMap) -> Option<String> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == site.cookie)
        .map(|(_, value)| value.to_owned());
    match (found.next(), found.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

fn refuse(e: PairingError) -> Response {
    let status = match e {
        PairingError::BadKey | PairingError::BadRequest => StatusCode::BAD_REQUEST,
        PairingError::BadChallenge => StatusCode::UNAUTHORIZED,
        PairingError::BadCode | PairingError::BadSignature | PairingError::UnknownGrant => {
            StatusCode::FORBIDDEN
        }
        PairingError::TooManyAttempts | PairingError::TooManyGrants => {
            StatusCode::TOO_MANY_REQUESTS
        }
        PairingError::Storage(_) => StatusCode::INSUFFICIENT_STORAGE,
    };
    let e = ApiError::from(e);
    error_response(status, e.code, &e.message)
}

/// The JSON of a request. Other content types are refused: a foreign form can send those.
async fn body<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Response> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let json = kind
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .is_some_and(|v| v.trim().eq_ignore_ascii_case("application/json"));
    if !json {
        return Err(error_response(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ErrorCode::InvalidRequest,
            "The body has to be application/json.",
        ));
    }
    let bytes = to_bytes(request.into_body(), MAX_BODY).await.map_err(|_| {
        error_response(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::TooLarge,
            "The body is too large.",
        )
    })?;
    serde_json::from_slice(&bytes).map_err(|e| {
        error_response(
            StatusCode::BAD_REQUEST,
            ErrorCode::InvalidParams,
            &format!("The body does not fit: {e}."),
        )
    })
}

/// Runs what may wait for the disk.
async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, PairingError> + Send + 'static,
) -> Result<T, Response> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result.map_err(refuse),
        Err(e) => Err(error_response(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Internal,
            &format!("Pairing did not end: {e}."),
        )),
    }
}

async fn pair(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let answer = async {
        let b: PairBody = body(request).await?;
        let (grant, role) = blocking(move || {
            app.pairing
                .pair(&b.code, &b.public_key, &b.name, Instant::now())
        })
        .await?;
        Ok(Json(serde_json::json!({"grant": grant, "role": role})).into_response())
    };
    answer.await.unwrap_or_else(|refusal: Response| refusal)
}

async fn challenge(State(app): State<Arc<App>>) -> Response {
    let challenge = app.pairing.challenge(Instant::now());
    Json(serde_json::json!({"challenge": challenge})).into_response()
}

async fn open_session(
    State(app): State<Arc<App>>,
    Extension(site): Extension<Site>,
    request: Request<Body>,
) -> Response {
    let answer = async {
        let b: SessionBody = body(request).await?;
        let origin = site.origin.clone();
        let Opened { cookie, key, info } = blocking(move || {
            let now = Instant::now();
            app.pairing
                .open_session(&b.grant, &b.challenge, &b.signature, &origin, now)
        })
        .await?;
        #[derive(Serialize)]
        struct Answer {
            #[serde(flatten)]
            info: SessionInfo,
            key: String,
        }
        let mut response = Json(Answer { info, key }).into_response();
        set_cookie(&mut response, &site, &cookie, SESSION_LIFE.as_secs());
        Ok(response)
    };
    answer.await.unwrap_or_else(|refusal: Response| refusal)
}

async fn session(
    State(app): State<Arc<App>>,
    Extension(site): Extension<Site>,
    headers: HeaderMap,
) -> Response {
    let info = cookie(&site, &headers)
        .zip(key(&headers))
        .and_then(|(cookie, key)| app.pairing.session(&cookie, &key, Instant::now()));
    match info {
        Some(info) => Json(info).into_response(),
        None => no_session(),
    }
}

/// The answer to whoever did not show who they are.
pub(super) fn no_session() -> Response {
    error_response(
        StatusCode::UNAUTHORIZED,
        ErrorCode::NotAuthorised,
        "There is no session. Pair this browser, or sign in with its key.",
    )
}

async fn logout(
    State(app): State<Arc<App>>,
    Extension(site): Extension<Site>,
    headers: HeaderMap,
) -> Response {
    if let Some(cookie) = cookie(&site, &headers) {
        app.pairing.log_out(&cookie);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, &site, "", 0);
    response.headers_mut().insert(
        "clear-site-data",
        HeaderValue::from_static("\"cache\", \"storage\""),
    );
    response
}

fn set_cookie(response: &mut Response, site: &Site, value: &str, max_age: u64) {
    let secure = if site.secure { "; Secure" } else { "" };
    let text = format!(
        "{}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}",
        site.cookie
    );
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}
