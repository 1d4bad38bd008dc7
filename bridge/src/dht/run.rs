//! `starling dhtnode`: a node by itself.

use super::bootstrap::BootstrapAddr;
use super::{Dht, DhtConfig};
use crate::crypto::AwsLc;
use anyhow::Context as _;
use starling_core::dht::envelope::keys;
use starling_core::id::{DeviceShortId, InfoHash};
use std::path::PathBuf;
use std::sync::Arc;

/// How `starling dhtnode` runs.
#[derive(Debug, Clone, Default)]
pub struct DhtNodeOptions {
    /// UDP port; 0: any.
    pub port: u16,
    /// Nodes to ask first.
    pub bootstrap: Vec<BootstrapAddr>,
    /// The network; 0 is the public one.
    pub network_id: u32,
    /// Where id, acquaintances and what is stored for others outlast a restart.
    pub state_path: Option<PathBuf>,
    /// The identity (a device's short id) the node's id is derived from; else a random or persisted id.
    pub identity: Option<DeviceShortId>,
    /// The node's id itself.
    pub node_id: Option<InfoHash>,
    /// Find and be found in the local network.
    pub lan_discovery: bool,
}

/// Runs a node until `stop` completes. Prints one line when it is ready.
pub async fn run_dhtnode(
    options: DhtNodeOptions,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let port = options.port;
    let config = DhtConfig {
        port,
        bootstrap: options.bootstrap,
        network_id: options.network_id,
        state_path: options.state_path,
        node_id: options
            .node_id
            .or_else(|| options.identity.as_ref().map(keys::node_id)),
        lan_discovery: options.lan_discovery,
        ..DhtConfig::default()
    };
    let dht = Dht::start(config, Arc::new(AwsLc)).with_context(|| {
        format!("UDP port {port} cannot be used: choose another one with --port")
    })?;
    let (v4, v6) = dht.ports();
    println!(
        "DHT node {} running on UDP port {v4} (IPv4), {v6} (IPv6)",
        dht.id()
    );
    stop.await;
    let usage = dht.usage().await;
    tracing::info!(
        "the DHT node stops with {} values stored; refused since it began: {}",
        usage.values,
        usage.refused
    );
    dht.shutdown().await;
    Ok(())
}
