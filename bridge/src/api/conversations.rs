//! `conversation.*`, and the objects behind what a page shows.

use super::{App, Router};
use starling_core::api::{ApiError, LocalAccountId};
use starling_core::id::{ConversationId, ObjectId};
use std::sync::Arc;

pub(super) fn register(_r: &mut Router) {}

/// What a page needs to validate `limit` commits, walking back from `from` (absent: the newest),
/// in the form of `starling_core::api::objects`.
pub async fn objects(
    _app: Arc<App>,
    _account: LocalAccountId,
    _conversation: ConversationId,
    _from: Option<ObjectId>,
    _limit: usize,
) -> Result<Vec<u8>, ApiError> {
    Err(ApiError::unsupported("This bridge has no objects yet."))
}
