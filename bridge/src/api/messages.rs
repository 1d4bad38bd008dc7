//! `message.*`

use super::account::account;
use super::{Ctx, Router};
use starling_core::api::method::{
    GetMessageStatus, MessageGet, MessageMarkDisplayed, MessageSearch, MessageSend,
    MessageSetTyping,
};
use starling_core::api::{
    ApiError, Message, MessageFound, MessageParams, MessageSearchParams, MessageSendParams,
    MessageSent, MessageSetTypingParams, MessageStatusResult, page_limit,
};

pub(super) fn register(r: &mut Router) {
    r.on(MessageSend, send);
    r.on(MessageMarkDisplayed, mark_displayed);
    r.on(MessageSetTyping, set_typing);
    r.on(GetMessageStatus, status);
    r.on(MessageGet, get);
    r.on(MessageSearch, search);
}

async fn send(ctx: Ctx, p: MessageSendParams) -> Result<MessageSent, ApiError> {
    let id = account(&ctx, &p.account)?
        .send(p.conversation, p.body, p.reply_to)
        .await?;
    Ok(MessageSent { id })
}

async fn mark_displayed(ctx: Ctx, p: MessageParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?
        .mark_displayed(p.conversation, p.id)
        .await?)
}

async fn set_typing(ctx: Ctx, p: MessageSetTypingParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?.set_typing(p.conversation, p.typing)?)
}

async fn status(ctx: Ctx, p: MessageParams) -> Result<MessageStatusResult, ApiError> {
    let status = account(&ctx, &p.account)?
        .status(p.conversation, p.id)
        .await?;
    Ok(MessageStatusResult { id: p.id, status })
}

async fn get(ctx: Ctx, p: MessageParams) -> Result<Message, ApiError> {
    Ok(account(&ctx, &p.account)?
        .message(p.conversation, p.id)
        .await?)
}

async fn search(ctx: Ctx, p: MessageSearchParams) -> Result<Vec<MessageFound>, ApiError> {
    Ok(account(&ctx, &p.account)?
        .search(p.conversation, &p.query, page_limit(p.limit))
        .await?)
}
