//! `starling serve`.

use super::{ServeArgs, Signals};
use starling_bridge::api::{App, Config};
use starling_bridge::serve::data_dir::{BridgeFile, DataDir};
use starling_bridge::serve::guard::PublicUrl;
use starling_bridge::serve::health::find_program;
use starling_bridge::serve::pairing::NewGrant;
use starling_bridge::serve::private::write_private;
use starling_bridge::serve::{Server, ServerConfig};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Instant;

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    super::log();
    let encrypted = args.public_url.iter().any(PublicUrl::is_encrypted);
    anyhow::ensure!(
        args.listen.ip().is_loopback() || encrypted,
        "{} can be reached from other machines, and what pages say to the bridge would cross the \
         network unencrypted. Listen on 127.0.0.1 and use a tunnel, or put a TLS proxy in front \
         and name it with --public-url https://….",
        args.listen
    );
    let bootstrap = args.bootstrap()?;
    if let Some(dist) = &args.dist
        && !dist.join("index.html").is_file()
    {
        tracing::warn!(dist = %dist.display(), "There is no index.html in the page's directory: browsers get nothing.");
    }
    let data_dir = DataDir::take(&args.data_dir.path()?)?;
    let app = App::open(Config {
        data_dir: data_dir.path().into(),
        bootstrap,
        lan_discovery: !args.no_lan,
    })?;
    let server = Server::bind(ServerConfig {
        listen: args.listen,
        public: args.public_url,
        dist: args.dist,
    })
    .await?;
    let url = server.url().to_owned();
    app.pairing.set_url(&url);
    app.start().await?;
    stop_on_signal(app.clone())?;
    let running = tokio::spawn(server.run(app.clone()));
    let told = data_dir.announce(&url)?;
    let code = app.pairing.new_code(NewGrant::owner(), Instant::now());
    print_ready(args.print_json, &told, &code.url)?;
    let mut opened = None;
    if args.open {
        opened = open(data_dir.path(), &code.url);
    }
    let result = running.await;
    app.stop.cancel();
    app.shutdown().await;
    if let Some(file) = opened {
        let _ = std::fs::remove_file(file);
    }
    result?;
    tracing::info!("Stopped in good order.");
    Ok(ExitCode::SUCCESS)
}

/// The one line on standard output.
fn print_ready(json: bool, told: &BridgeFile, url: &str) -> anyhow::Result<()> {
    let line = if json {
        serde_json::json!({
            "url": url,
            "tokenFile": told.token_file,
            "pid": told.pid,
        })
        .to_string()
    } else {
        format!("Starling is ready: {url}")
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// The first signal stops in good order, the second one at once.
fn stop_on_signal(app: Arc<App>) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("Stopping. A second signal stops at once.");
        app.stop.cancel();
        signals.next().await;
        std::process::exit(1);
    });
    Ok(())
}

/// Opens the page. The code goes through a private file, since arguments of a process can be
/// seen by every user of the machine.
fn open(data_dir: &Path, url: &str) -> Option<PathBuf> {
    let file = data_dir.join("open.html");
    let html = format!(
        "<!doctype html><meta charset=utf-8><title>Starling</title>\
         <meta http-equiv=refresh content=\"0; url={url}\"><a href=\"{url}\">Starling</a>\n"
    );
    if let Err(e) = write_private(&file, html.as_bytes()) {
        tracing::warn!(error = %e, "The page cannot be opened; use the URL above.");
        return None;
    }
    let openers: &[&str] = if cfg!(target_os = "macos") {
        &["open"]
    } else {
        &["xdg-open", "gio", "x-www-browser", "sensible-browser"]
    };
    let program = openers.iter().find_map(|o| find_program(o));
    let Some(program) = program else {
        tracing::warn!("No program that opens pages was found; use the URL above.");
        return Some(file);
    };
    let mut command = std::process::Command::new(&program);
    if program.ends_with("gio") {
        command.arg("open");
    }
    let started = command
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(e) = started {
        tracing::warn!(error = %e, "The page cannot be opened; use the URL above.");
    }
    Some(file)
}
