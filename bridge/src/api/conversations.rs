//! `conversation.*`, and the objects behind what a page shows.

use super::account::{account, picture};
use super::{App, Ctx, Router, piece};
use starling_core::api::method::{
    ConversationBan, ConversationCreate, ConversationDismissRefusal, ConversationGet,
    ConversationGetPreferences, ConversationInvite, ConversationJoin, ConversationLeave,
    ConversationList, ConversationMembers, ConversationSetPreferences, ConversationUnban,
    ConversationUpdate, ConversationVerify, ConversationVotes, ExportConversation,
    GetConversationHistory,
};
use starling_core::api::{
    ApiError, Ballot, Conversation, ConversationBanParams, ConversationCreateParams,
    ConversationExport, ConversationHistory, ConversationHistoryParams, ConversationJoinParams,
    ConversationListParams, ConversationMemberParams, ConversationParams, ConversationPreferences,
    ConversationSetPreferencesParams, ConversationUpdateParams, ConversationVerdict, ErrorCode,
    LocalAccountId, Member, page_limit,
};
use starling_core::id::{ConversationId, ObjectId};
use starling_core::swarm::members::Profile;
use std::sync::Arc;

pub(super) fn register(r: &mut Router) {
    r.on(ConversationCreate, create);
    r.on(ConversationList, list);
    r.on(ConversationGet, get);
    r.on(ConversationMembers, members);
    r.on(ConversationInvite, invite);
    r.on(ConversationBan, ban);
    r.on(ConversationUnban, unban);
    r.on(ConversationVotes, votes);
    r.on(ConversationJoin, join);
    r.on(ConversationDismissRefusal, dismiss_refusal);
    r.on(ConversationLeave, leave);
    r.on(ConversationUpdate, update);
    r.on(ConversationGetPreferences, preferences);
    r.on(ConversationSetPreferences, set_preferences);
    r.on(GetConversationHistory, history);
    r.on(ConversationVerify, verify);
    r.on(ExportConversation, export);
}

/// Longest title, in characters: that of a name.
const MAX_TITLE: usize = 200;

/// Longest description, in bytes: longer ones do not travel with an invitation.
const MAX_DESCRIPTION: usize = 4096;

fn fits(title: Option<&String>, description: Option<&String>) -> Result<(), ApiError> {
    let too_large = |what| Err(ApiError::new(ErrorCode::TooLarge, what));
    if title.is_some_and(|t| t.chars().count() > MAX_TITLE) {
        return too_large(format!("A title has at most {MAX_TITLE} characters."));
    }
    if description.is_some_and(|d| d.len() > MAX_DESCRIPTION) {
        return too_large(format!(
            "A description has at most {MAX_DESCRIPTION} bytes."
        ));
    }
    Ok(())
}

async fn create(ctx: Ctx, p: ConversationCreateParams) -> Result<Conversation, ApiError> {
    fits(p.title.as_ref(), None)?;
    Ok(account(&ctx, &p.account)?
        .create_group(p.mode, p.title, p.members)
        .await?)
}

async fn list(ctx: Ctx, p: ConversationListParams) -> Result<Vec<Conversation>, ApiError> {
    let all = account(&ctx, &p.account)?.list().await?;
    piece(all, |c| c.id, p.before, p.limit)
}

async fn get(ctx: Ctx, p: ConversationParams) -> Result<Conversation, ApiError> {
    Ok(account(&ctx, &p.account)?
        .conversation_view(p.conversation)
        .await?)
}

async fn members(ctx: Ctx, p: ConversationParams) -> Result<Vec<Member>, ApiError> {
    Ok(account(&ctx, &p.account)?.members(p.conversation).await?)
}

async fn invite(ctx: Ctx, p: ConversationMemberParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?
        .invite(p.conversation, p.id)
        .await?)
}

async fn ban(ctx: Ctx, p: ConversationBanParams) -> Result<Ballot, ApiError> {
    Ok(account(&ctx, &p.account)?
        .ban(p.conversation, p.id, p.device)
        .await?)
}

async fn unban(ctx: Ctx, p: ConversationBanParams) -> Result<Ballot, ApiError> {
    Ok(account(&ctx, &p.account)?
        .unban(p.conversation, p.id, p.device)
        .await?)
}

async fn votes(ctx: Ctx, p: ConversationParams) -> Result<Vec<Ballot>, ApiError> {
    Ok(account(&ctx, &p.account)?.votes(p.conversation)?)
}

async fn join(ctx: Ctx, p: ConversationJoinParams) -> Result<Conversation, ApiError> {
    Ok(account(&ctx, &p.account)?.join_public(&p.address).await?)
}

async fn dismiss_refusal(ctx: Ctx, p: ConversationParams) -> Result<Conversation, ApiError> {
    Ok(account(&ctx, &p.account)?
        .dismiss_refusal(p.conversation)
        .await?)
}

async fn leave(ctx: Ctx, p: ConversationParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?.leave(p.conversation).await?)
}

async fn update(ctx: Ctx, p: ConversationUpdateParams) -> Result<Conversation, ApiError> {
    let account = account(&ctx, &p.account)?;
    fits(p.title.as_ref(), p.description.as_ref())?;
    // Cards hold bare base64.
    let avatar = match p.avatar.as_deref() {
        None | Some("") => p.avatar,
        Some(url) => Some(picture(url)?.to_owned()),
    };
    let change = Profile {
        title: p.title,
        description: p.description,
        avatar,
        ..Profile::default()
    };
    if [&change.title, &change.description]
        .into_iter()
        .flatten()
        .any(|v| v.contains(['\n', '\r']))
    {
        return Err(ApiError::invalid("Title and description have one line."));
    }
    account.update_conversation(p.conversation, change).await?;
    Ok(account.conversation_view(p.conversation).await?)
}

async fn preferences(ctx: Ctx, p: ConversationParams) -> Result<ConversationPreferences, ApiError> {
    Ok(account(&ctx, &p.account)?
        .preferences(p.conversation)
        .await?)
}

async fn set_preferences(
    ctx: Ctx,
    p: ConversationSetPreferencesParams,
) -> Result<ConversationPreferences, ApiError> {
    let account = account(&ctx, &p.account)?;
    let mut now = account.preferences(p.conversation).await?;
    if let Some(color) = p.color {
        let good = color.is_empty()
            || (color.len() == 7
                && color.starts_with('#')
                && color.chars().skip(1).all(|c| c.is_ascii_hexdigit()));
        if !good {
            return Err(ApiError::invalid("A colour is written as #rrggbb."));
        }
        now.color = Some(color).filter(|c| !c.is_empty());
    }
    if let Some(ignore) = p.ignore_notifications {
        now.ignore_notifications = ignore;
    }
    if let Some(symbol) = p.symbol {
        now.symbol = Some(symbol).filter(|s| !s.is_empty());
    }
    account.set_preferences(p.conversation, now.clone()).await?;
    Ok(now)
}

async fn history(ctx: Ctx, p: ConversationHistoryParams) -> Result<ConversationHistory, ApiError> {
    let (messages, more) = account(&ctx, &p.account)?
        .history(p.conversation, p.before, page_limit(p.limit))
        .await?;
    Ok(ConversationHistory { messages, more })
}

async fn verify(ctx: Ctx, p: ConversationParams) -> Result<ConversationVerdict, ApiError> {
    Ok(account(&ctx, &p.account)?.verify(p.conversation).await?)
}

async fn export(ctx: Ctx, p: ConversationParams) -> Result<ConversationExport, ApiError> {
    use base64::Engine as _;
    let bundle = account(&ctx, &p.account)?.bundle(p.conversation).await?;
    Ok(ConversationExport {
        name: format!("{}.bundle", p.conversation),
        bundle: base64::engine::general_purpose::STANDARD.encode(bundle),
    })
}

/// What a page needs to validate `limit` commits, walking back from `from` (absent: the newest),
/// in the form of `starling_core::api::objects`.
pub async fn objects(
    app: Arc<App>,
    account: LocalAccountId,
    conversation: ConversationId,
    from: Option<ObjectId>,
    limit: usize,
) -> Result<Vec<u8>, ApiError> {
    Ok(app
        .accounts()?
        .get(&account)?
        .objects(conversation, from, limit)
        .await?)
}
