//! `contact.*`, `request.*`, `link.*`

use super::account::account;
use super::{Ctx, Router, piece};
use starling_core::api::method::{
    ContactAdd, ContactBlock, ContactGet, ContactList, ContactRemove, ContactUnblock, LinkList,
    RequestAccept, RequestBlock, RequestDecline, RequestList,
};
use starling_core::api::{
    AccountParams, ApiError, Contact, ContactAddParams, ContactListParams, ContactParams,
    Conversation, ConversationListParams, LinkState, Request, RequestParams,
};

pub(super) fn register(r: &mut Router) {
    r.on(ContactAdd, add);
    r.on(ContactList, list);
    r.on(ContactGet, get);
    r.on(ContactRemove, remove);
    r.on(ContactBlock, block);
    r.on(ContactUnblock, unblock);
    r.on(RequestList, requests);
    r.on(RequestAccept, accept);
    r.on(RequestDecline, decline);
    r.on(RequestBlock, block_request);
    r.on(LinkList, links);
}

async fn add(ctx: Ctx, p: ContactAddParams) -> Result<Contact, ApiError> {
    Ok(account(&ctx, &p.account)?
        .add_contact(&p.id, p.message)
        .await?)
}

async fn list(ctx: Ctx, p: ContactListParams) -> Result<Vec<Contact>, ApiError> {
    let all = account(&ctx, &p.account)?.contacts().await?;
    piece(all, |c| c.id, p.before, p.limit)
}

async fn get(ctx: Ctx, p: ContactParams) -> Result<Contact, ApiError> {
    Ok(account(&ctx, &p.account)?.contact(p.id).await?)
}

async fn remove(ctx: Ctx, p: ContactParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?
        .remove_contact(p.id, false)
        .await?)
}

async fn block(ctx: Ctx, p: ContactParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?
        .remove_contact(p.id, true)
        .await?)
}

async fn unblock(ctx: Ctx, p: ContactParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?.unblock(p.id).await?)
}

async fn requests(ctx: Ctx, p: ConversationListParams) -> Result<Vec<Request>, ApiError> {
    let all = account(&ctx, &p.account)?.requests().await?;
    piece(all, |r| r.conversation, p.before, p.limit)
}

async fn accept(ctx: Ctx, p: RequestParams) -> Result<Conversation, ApiError> {
    Ok(account(&ctx, &p.account)?
        .accept_request(p.conversation)
        .await?)
}

async fn decline(ctx: Ctx, p: RequestParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?
        .decline_request(p.conversation, false)
        .await?)
}

async fn block_request(ctx: Ctx, p: RequestParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?
        .decline_request(p.conversation, true)
        .await?)
}

async fn links(ctx: Ctx, p: AccountParams) -> Result<Vec<LinkState>, ApiError> {
    Ok(account(&ctx, &p.account)?.link_states())
}
