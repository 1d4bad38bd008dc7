//! `GET /objects/{account}/{conversation}?from=…&limit=…`: git objects for the page, which
//! validates again what it shows.

use super::guard::{Site, error_response};
use super::pairing_http::{caller, no_session};
use crate::api::{App, conversations};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, routing};
use serde::Deserialize;
use starling_core::api::{ApiError, ErrorCode, LocalAccountId};
use starling_core::id::{ConversationId, ObjectId};
use std::sync::Arc;

/// Commits in one answer, at most.
const MAX_COMMITS: usize = 500;
/// Commits in one answer, when nothing was said: what a screen shows, and some more.
const COMMITS: usize = 100;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/objects/{account}/{conversation}", routing::get(objects))
}

#[derive(Deserialize)]
struct Wish {
    from: Option<ObjectId>,
    limit: Option<usize>,
}

async fn objects(
    State(app): State<Arc<App>>,
    Extension(site): Extension<Site>,
    headers: HeaderMap,
    path: Result<Path<(LocalAccountId, ConversationId)>, PathRejection>,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Response {
    let Some(caller) = caller(&app, &site, &headers) else {
        return no_session();
    };
    let (Ok(Path((account, conversation))), Ok(Query(wish))) = (path, wish) else {
        return refuse(&ApiError::invalid(
            "Expected /objects/{account}/{conversation}?from={commit}&limit={number}.",
        ));
    };
    if !caller.reaches(account.as_str(), Some(&conversation.to_hex())) {
        return refuse(&ApiError::not_authorised(
            "This browser was paired for something else.",
        ));
    }
    let limit = wish.limit.unwrap_or(COMMITS).clamp(1, MAX_COMMITS);
    match conversations::objects(app, account, conversation, wish.from, limit).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Err(e) => refuse(&e),
    }
}

fn refuse(e: &ApiError) -> Response {
    let status = match e.code {
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::InvalidParams => StatusCode::BAD_REQUEST,
        ErrorCode::NotAuthorised | ErrorCode::NotAMember => StatusCode::FORBIDDEN,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    error_response(status, e.code, &e.message)
}
