//! `bridge.*`: the program itself.

use super::{API_VERSION, Ctx, Router, now_millis};
use crate::dht::FamilyStatus;
use crate::serve::health;
use starling_core::api::method::{BridgeDiagnostics, BridgeStop, GetBridgeInfo};
use starling_core::api::{ApiError, BridgeInfo, DhtState, Diagnostics, Nothing};
use std::collections::BTreeMap;

pub(super) fn register(r: &mut Router) {
    r.on(GetBridgeInfo, info);
    r.on(BridgeStop, stop);
    r.on(BridgeDiagnostics, diagnostics);
}

async fn info(ctx: Ctx, _: Nothing) -> Result<BridgeInfo, ApiError> {
    Ok(BridgeInfo {
        name: "starling".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        api_version: API_VERSION,
        seq: ctx.app.events.last(),
        now: now_millis(),
        started: ctx.app.started_millis,
        role: ctx.caller.role,
        grant: ctx.caller.grant().map(str::to_owned),
        accounts: ctx.app.account_count(),
    })
}

async fn stop(ctx: Ctx, _: Nothing) -> Result<(), ApiError> {
    tracing::info!("Stopping, because a caller asked for it.");
    ctx.app.stop.cancel();
    Ok(())
}

async fn diagnostics(ctx: Ctx, _: Nothing) -> Result<Diagnostics, ApiError> {
    let data_dir = ctx.app.config.data_dir.clone();
    let checks = tokio::task::spawn_blocking(move || health::checks(&data_dir))
        .await
        .map_err(|e| ApiError::internal(format!("The checks did not end: {e}.")))?;
    let (dht, dht_refused) = dht_state(&ctx).await;
    Ok(Diagnostics {
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_ms: u64::try_from(ctx.app.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        sockets: ctx.app.socket_count(),
        events_kept: u32::try_from(ctx.app.events.kept()).unwrap_or(u32::MAX),
        dht,
        dht_refused,
        checks,
    })
}

/// The node by family, and what it refused by kind.
async fn dht_state(ctx: &Ctx) -> (BTreeMap<String, DhtState>, BTreeMap<String, u64>) {
    let Some(dht) = ctx.app.dht() else {
        return Default::default();
    };
    let status = *dht.status().borrow();
    let usage = dht.usage().await;
    let family = |f: &FamilyStatus| DhtState {
        state: format!("{:?}", f.connectivity).to_lowercase(),
        good_nodes: u32::try_from(f.nodes.good).unwrap_or(u32::MAX),
        known_nodes: u32::try_from(f.nodes.good + f.nodes.dubious).unwrap_or(u32::MAX),
        stored_values: u32::try_from(usage.values).unwrap_or(u32::MAX),
    };
    let families = BTreeMap::from([
        ("ipv4".into(), family(&status.v4)),
        ("ipv6".into(), family(&status.v6)),
    ]);
    let refused = usage.refused.kinds().map(|(k, n)| (k.into(), n));
    (families, refused.collect())
}
