//! `account.*`

use super::{Ctx, Router};
use crate::account::book::Profile;
use crate::account::{Account, Options};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use starling_core::api::method::{
    AccountChangePassword, AccountCreate, AccountGet, AccountImport, AccountList, AccountRemove,
    AccountSetActive, AccountSetProfile, AccountUpdate, DeviceList, DeviceRevoke, ExportAccount,
};
use starling_core::api::{
    self, AccountChangePasswordParams, AccountCreateParams, AccountExport, AccountExportParams,
    AccountImportParams, AccountParams, AccountSetActiveParams, AccountSetProfileParams,
    AccountSettings, AccountUpdateParams, ApiError, DeviceRevokeParams, ErrorCode, LocalAccountId,
    Nothing,
};
use std::sync::Arc;

/// Longest name of a person or a device, in characters.
const MAX_NAME: usize = 200;

/// Largest picture of a person or a conversation, as a `data:` URL: a call with it fits a frame.
const MAX_AVATAR: usize = 768 << 10;
const _: () = assert!(MAX_AVATAR + (32 << 10) <= starling_core::api::rpc::MAX_FRAME);

/// What files of the two kinds begin with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";

/// Checks the `data:` URL of a picture; gives the base64 in it.
pub(super) fn picture(url: &str) -> Result<&str, ApiError> {
    if url.len() > MAX_AVATAR {
        return Err(ApiError::new(
            ErrorCode::TooLarge,
            "The picture is larger than 768 KiB. Choose a smaller one.",
        ));
    }
    let wrong = || ApiError::invalid("The picture is no PNG and no JPEG in a data: URL.");
    let kinds = [
        ("data:image/png;base64,", PNG),
        ("data:image/jpeg;base64,", JPEG),
    ];
    let found = kinds
        .into_iter()
        .find_map(|(head, magic)| Some((url.strip_prefix(head)?, magic)));
    let (data, magic) = found.ok_or_else(wrong)?;
    let bytes = STANDARD.decode(data).map_err(|_| wrong())?;
    if bytes.starts_with(magic) {
        Ok(data)
    } else {
        Err(wrong())
    }
}

pub(super) fn register(r: &mut Router) {
    r.on(AccountCreate, create);
    r.on(AccountList, list);
    r.on(AccountGet, get);
    r.on(AccountUpdate, update);
    r.on(AccountRemove, remove);
    r.on(ExportAccount, export);
    r.on(AccountImport, import);
    r.on(AccountChangePassword, change_password);
    r.on(AccountSetProfile, set_profile);
    r.on(AccountSetActive, set_active);
    r.on(DeviceList, devices);
    r.on(DeviceRevoke, revoke_device);
}

/// The account that a call is about.
pub(super) fn account(ctx: &Ctx, id: &LocalAccountId) -> Result<Arc<Account>, ApiError> {
    ctx.app.accounts()?.get(id)
}

fn name(text: Option<String>) -> Result<Option<String>, ApiError> {
    match text {
        Some(t) if t.chars().count() > MAX_NAME => Err(ApiError::invalid(format!(
            "A name has at most {MAX_NAME} characters."
        ))),
        Some(t) if t.chars().any(char::is_control) => Err(ApiError::invalid(
            "A name has no line breaks or control characters.",
        )),
        other => Ok(other.map(|t| t.trim().to_owned())),
    }
}

fn options(
    display_name: Option<String>,
    bootstrap: Option<Vec<String>>,
) -> Result<Options, ApiError> {
    Ok(Options {
        profile: Profile {
            display_name: name(display_name)?.unwrap_or_default(),
            avatar: None,
        },
        device_name: device_name(),
        settings: AccountSettings {
            bootstrap: bootstrap.unwrap_or_default(),
            ..AccountSettings::default()
        },
        ..Options::default()
    })
}

/// What this device is called until its owner says otherwise: the machine's name.
fn device_name() -> String {
    std::fs::read_to_string("/etc/hostname")
        .map_or_else(|_| "Starling".into(), |n| n.trim().to_owned())
}

/// Nodes that an account brings along are asked as well.
fn use_bootstrap(ctx: &Ctx, nodes: &[String]) -> Result<(), ApiError> {
    let nodes = nodes
        .iter()
        .map(|n| n.parse())
        .collect::<Result<Vec<_>, crate::dht::BadBootstrap>>();
    let nodes = nodes.map_err(|e| ApiError::invalid(e.to_string()))?;
    if let Some(dht) = ctx.app.dht().filter(|_| !nodes.is_empty()) {
        dht.bootstrap(nodes);
    }
    Ok(())
}

async fn create(ctx: Ctx, p: AccountCreateParams) -> Result<api::Account, ApiError> {
    use_bootstrap(&ctx, p.bootstrap.as_deref().unwrap_or_default())?;
    let mut options = options(p.display_name, p.bootstrap)?;
    options.settings.name_server = p.name_server;
    options.settings.dht_proxy = p.dht_proxy;
    options.settings.turn = p.turn;
    let account = ctx
        .app
        .accounts()?
        .create(options, p.password.as_deref())
        .await?;
    Ok(account.view())
}

async fn list(ctx: Ctx, _: Nothing) -> Result<Vec<api::Account>, ApiError> {
    Ok(ctx.app.accounts()?.views())
}

async fn get(ctx: Ctx, p: AccountParams) -> Result<api::Account, ApiError> {
    ctx.app.accounts()?.view(&p.account)
}

async fn update(ctx: Ctx, p: AccountUpdateParams) -> Result<api::Account, ApiError> {
    use_bootstrap(&ctx, p.bootstrap.as_deref().unwrap_or_default())?;
    let device_name = name(p.device_name)?;
    let account = account(&ctx, &p.account)?;
    let view = account.change_options(|o| {
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        set(&mut o.device_name, device_name);
        let s = &mut o.settings;
        set(&mut s.bootstrap, p.bootstrap);
        set(&mut s.name_server, p.name_server.map(Some));
        set(&mut s.dht_proxy, p.dht_proxy.map(Some));
        set(&mut s.turn, p.turn.map(Some));
        set(&mut s.read_receipts, p.read_receipts);
        set(&mut s.typing, p.typing);
        set(&mut s.allow_strangers, p.allow_strangers);
    });
    Ok(view.await?)
}

async fn remove(ctx: Ctx, p: AccountParams) -> Result<(), ApiError> {
    Ok(ctx.app.accounts()?.remove(&p.account).await?)
}

async fn export(ctx: Ctx, p: AccountExportParams) -> Result<AccountExport, ApiError> {
    let bytes = account(&ctx, &p.account)?
        .export(p.password.as_deref())
        .await?;
    Ok(AccountExport {
        archive: STANDARD.encode(bytes),
    })
}

async fn import(ctx: Ctx, p: AccountImportParams) -> Result<api::Account, ApiError> {
    use_bootstrap(&ctx, p.bootstrap.as_deref().unwrap_or_default())?;
    let archive = STANDARD
        .decode(p.archive.trim())
        .map_err(|_| ApiError::invalid("The backup is not base64."))?;
    let options = options(p.display_name, p.bootstrap)?;
    let account = ctx
        .app
        .accounts()?
        .import(&archive, p.password.as_deref(), options)
        .await?;
    Ok(account.view())
}

async fn change_password(ctx: Ctx, p: AccountChangePasswordParams) -> Result<(), ApiError> {
    Ok(account(&ctx, &p.account)?
        .change_password(p.old.as_deref(), p.new.as_deref())
        .await?)
}

async fn devices(ctx: Ctx, p: AccountParams) -> Result<Vec<api::Device>, ApiError> {
    Ok(account(&ctx, &p.account)?.own_devices().await?)
}

async fn revoke_device(ctx: Ctx, p: DeviceRevokeParams) -> Result<(), ApiError> {
    let account = account(&ctx, &p.account)?;
    Ok(account
        .revoke_device(p.device, p.password.as_deref())
        .await?)
}

async fn set_profile(ctx: Ctx, p: AccountSetProfileParams) -> Result<api::Account, ApiError> {
    let display_name = name(p.display_name)?;
    if let Some(avatar) = p.avatar.as_ref().filter(|a| !a.is_empty()) {
        picture(avatar)?;
    }
    let account = account(&ctx, &p.account)?;
    let view = account.change_options(|o| {
        if let Some(n) = display_name {
            o.profile.display_name = n;
        }
        if let Some(a) = p.avatar {
            o.profile.avatar = Some(a).filter(|a| !a.is_empty());
        }
    });
    Ok(view.await?)
}

async fn set_active(ctx: Ctx, p: AccountSetActiveParams) -> Result<api::Account, ApiError> {
    Ok(ctx.app.accounts()?.set_active(&p.account, p.active).await?)
}
