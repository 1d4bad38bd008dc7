//! `message.*`

use super::account::account;
use super::{Ctx, Router};
use starling_core::api::method::{
    GetMessageStatus, MessageDelete, MessageEdit, MessageGet, MessageMarkDisplayed, MessageReact,
    MessageResend, MessageSearch, MessageSend, MessageSetTyping, MessageUnreact,
};
use starling_core::api::{
    ApiError, Message, MessageEditParams, MessageFound, MessageParams, MessageReactParams,
    MessageSearchParams, MessageSendParams, MessageSent, MessageSetTypingParams,
    MessageStatusResult, page_limit,
};

pub(super) fn register(r: &mut Router) {
    r.on(MessageSend, send);
    r.on(MessageResend, resend);
    r.on(MessageEdit, edit);
    r.on(MessageDelete, delete);
    r.on(MessageReact, react);
    r.on(MessageUnreact, unreact);
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

async fn resend(ctx: Ctx, p: MessageParams) -> Result<MessageSent, ApiError> {
    let id = account(&ctx, &p.account)?
        .resend(p.conversation, p.id)
        .await?;
    Ok(MessageSent { id })
}

async fn edit(ctx: Ctx, p: MessageEditParams) -> Result<MessageSent, ApiError> {
    let id = account(&ctx, &p.account)?
        .edit(p.conversation, p.id, p.body)
        .await?;
    Ok(MessageSent { id })
}

async fn delete(ctx: Ctx, p: MessageParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?
        .delete(p.conversation, p.id)
        .await?)
}

async fn react(ctx: Ctx, p: MessageReactParams) -> Result<MessageSent, ApiError> {
    let id = account(&ctx, &p.account)?
        .react(p.conversation, p.id, p.emoji)
        .await?;
    Ok(MessageSent { id })
}

async fn unreact(ctx: Ctx, p: MessageReactParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?
        .unreact(p.conversation, p.id, &p.emoji)
        .await?)
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
        .whole_message(p.conversation, p.id)
        .await?)
}

async fn search(ctx: Ctx, p: MessageSearchParams) -> Result<Vec<MessageFound>, ApiError> {
    Ok(account(&ctx, &p.account)?
        .search(p.conversation, &p.query, page_limit(p.limit))
        .await?)
}
