//! `starling doctor`.

use super::client::Client;
use serde_json::Value;
use starling_bridge::serve::data_dir::find_bridge;
use starling_bridge::serve::health::{advise, check, checks};
use starling_bridge::serve::{Server, ServerConfig};
use starling_core::api::{Check, CheckStatus, Diagnostics};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

pub(super) async fn run(
    data_dir: &Path,
    listen: SocketAddr,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let dir = data_dir.to_owned();
    let mut all = tokio::task::spawn_blocking(move || checks(&dir)).await?;
    all.extend(bridge(data_dir, listen).await);
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        for c in &all {
            println!("{:<8} {}: {}", mark(c.status), c.name, c.detail);
            if let Some(advice) = &c.advice {
                println!("{:<8} {advice}", "");
            }
        }
    }
    let failed = all.iter().any(|c| c.status == CheckStatus::Failed);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn mark(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Ok => "ok",
        CheckStatus::Warning => "warning",
        CheckStatus::Failed => "FAILED",
        CheckStatus::Skipped => "skipped",
    }
}

/// The running bridge, or whether one could run.
async fn bridge(data_dir: &Path, listen: SocketAddr) -> Vec<Check> {
    let running = match find_bridge(data_dir) {
        Ok(running) => running,
        Err(e) => return vec![check("bridge", CheckStatus::Failed, e.to_string())],
    };
    let Some(running) = running else {
        let config = ServerConfig {
            listen,
            public: Vec::new(),
            dist: None,
        };
        let port = match Server::bind(config).await {
            Ok(_) => check("port", CheckStatus::Ok, format!("{listen} is free")),
            Err(e) => check("port", CheckStatus::Failed, e.to_string()),
        };
        let none = "none runs for this data directory";
        return vec![port, check("bridge", CheckStatus::Skipped, none)];
    };
    let detail = format!(
        "{} runs at {} (process {})",
        running.version, running.url, running.pid
    );
    match diagnostics(data_dir).await {
        Ok(found) => {
            let mut all = vec![check("bridge", CheckStatus::Ok, detail)];
            all.extend(found.dht.iter().map(|(family, dht)| {
                let detail = format!(
                    "{}; {} nodes answer, {} are known",
                    dht.state, dht.good_nodes, dht.known_nodes
                );
                let status = if dht.state == "connected" {
                    CheckStatus::Ok
                } else {
                    CheckStatus::Warning
                };
                check(&format!("DHT {family}"), status, detail)
            }));
            if !found.dht.is_empty() {
                let kinds = found.dht_refused.iter();
                let kinds: Vec<_> = kinds.map(|(kind, n)| format!("{n} {kind}")).collect();
                // Anybody can send nonsense: it says nothing of this machine.
                all.push(check(
                    "DHT refused",
                    CheckStatus::Ok,
                    if kinds.is_empty() {
                        "nothing".to_owned()
                    } else {
                        kinds.join(", ")
                    },
                ));
            }
            all
        }
        Err(e) => vec![advise(
            check(
                "bridge",
                CheckStatus::Failed,
                format!("{detail}, but: {e:#}"),
            ),
            "Stop that process and start it again.",
        )],
    }
}

async fn diagnostics(data_dir: &Path) -> anyhow::Result<Diagnostics> {
    let mut client = Client::connect(data_dir).await?;
    let found = client.call("bridge.diagnostics", Value::Null).await?;
    Ok(serde_json::from_value(found)?)
}
