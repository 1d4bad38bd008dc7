//! `pairing.*`: which browsers may call.

use super::{Ctx, Router};
use crate::serve::pairing::{NewGrant, PairingError};
use starling_core::api::method::{PairingList, PairingRevoke, PairingStart};
use starling_core::api::{
    ApiError, ErrorCode, Grant, Nothing, PairingCode, PairingRevokeParams, PairingStartParams, Role,
};
use std::time::Instant;

pub(super) fn register(r: &mut Router) {
    r.on(PairingStart, start);
    r.on(PairingList, list);
    r.on(PairingRevoke, revoke);
}

impl From<PairingError> for ApiError {
    fn from(e: PairingError) -> Self {
        let code = match e {
            PairingError::Storage(_) => ErrorCode::Storage,
            PairingError::TooManyAttempts | PairingError::TooManyGrants => ErrorCode::TooMany,
            PairingError::UnknownGrant => ErrorCode::NotFound,
            PairingError::BadKey | PairingError::BadRequest => ErrorCode::InvalidParams,
            PairingError::BadCode | PairingError::BadChallenge | PairingError::BadSignature => {
                ErrorCode::NotAuthorised
            }
        };
        Self::new(code, e.to_string())
    }
}

async fn start(ctx: Ctx, p: PairingStartParams) -> Result<PairingCode, ApiError> {
    match p.role {
        Role::Kiosk if p.account.is_none() || p.conversations.is_empty() => {
            return Err(ApiError::invalid(
                "A kiosk needs the account and the conversations it may show.",
            ));
        }
        Role::Viewer if !p.conversations.is_empty() => {
            return Err(ApiError::invalid(
                "A viewer sees a whole account; name conversations for a kiosk.",
            ));
        }
        Role::Owner if p.account.is_some() || !p.conversations.is_empty() => {
            return Err(ApiError::invalid(
                "An owner sees everything; name an account for a viewer or a kiosk.",
            ));
        }
        _ => {}
    }
    if let Some(account) = &p.account {
        super::account::account(&ctx, account)?;
    }
    let new = NewGrant {
        role: p.role,
        account: p.account,
        conversations: p.conversations,
    };
    Ok(ctx.app.pairing.new_code(new, Instant::now()))
}

async fn list(ctx: Ctx, _: Nothing) -> Result<Vec<Grant>, ApiError> {
    Ok(ctx.app.pairing.list(ctx.caller.grant()))
}

async fn revoke(ctx: Ctx, p: PairingRevokeParams) -> Result<(), ApiError> {
    let app = ctx.app.clone();
    tokio::task::spawn_blocking(move || app.pairing.revoke(&p.grant))
        .await
        .map_err(|e| ApiError::internal(format!("Revoking did not end: {e}.")))??;
    Ok(())
}
