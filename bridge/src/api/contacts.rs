//! `contact.*`, `request.*`, `link.*`

use super::account::account;
use super::{Ctx, Router};
use starling_core::api::method::{
    ContactAdd, ContactBlock, ContactGet, ContactList, ContactRemove, ContactUnblock, LinkList,
    RequestAccept, RequestBlock, RequestDecline, RequestList,
};
use starling_core::api::{
    AccountParams, ApiError, Contact, ContactAddParams, ContactParams, Conversation, LinkState,
    Request, RequestParams,
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

async fn list(ctx: Ctx, p: AccountParams) -> Result<Vec<Contact>, ApiError> {
    Ok(account(&ctx, &p.account)?.contacts().await?)
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

async fn requests(ctx: Ctx, p: AccountParams) -> Result<Vec<Request>, ApiError> {
    Ok(account(&ctx, &p.account)?.requests().await?)
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
