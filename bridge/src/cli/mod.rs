//! The command line.

mod client;
mod doctor;
mod serve;

use clap::{Args, Parser, Subcommand};
use serde_json::Value;
use starling_bridge::api::Bootstrap;
use starling_bridge::dht::{BootstrapAddr, DEFAULT_PORT, DhtNodeOptions, run_dhtnode};
use starling_bridge::serve::guard::PublicUrl;
use std::io::{IsTerminal as _, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Talk to everyone who uses Jami, from your browser.
#[derive(Debug, Parser)]
#[command(name = "starling", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Where everything that lasts lies.
#[derive(Debug, Args, Clone)]
struct DataDirArg {
    /// Where accounts and conversations are kept
    #[arg(long, value_name = "DIR", env = "STARLING_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

impl DataDirArg {
    fn path(&self) -> anyhow::Result<PathBuf> {
        use etcetera::AppStrategy as _;
        if let Some(dir) = &self.data_dir {
            return Ok(std::path::absolute(dir)?);
        }
        let args = etcetera::AppStrategyArgs {
            top_level_domain: "net".into(),
            author: "starling".into(),
            app_name: "starling".into(),
        };
        let strategy = etcetera::choose_app_strategy(args)
            .map_err(|e| anyhow::anyhow!("There is no home directory ({e}). Use --data-dir."))?;
        Ok(strategy.data_dir())
    }
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    data_dir: DataDirArg,
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7474")]
    listen: SocketAddr,
    /// A DHT node to start from (repeatable); `none` for the local network only
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Vec<String>,
    /// Neither look for nodes in the local network nor be found there
    #[arg(long)]
    no_lan: bool,
    /// Another name for this bridge, behind a tunnel or a proxy (repeatable)
    #[arg(long, value_name = "URL")]
    public_url: Vec<PublicUrl>,
    /// Print one JSON line with url, token file and pid instead of a sentence
    #[arg(long)]
    print_json: bool,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
    /// Take the page from this directory
    #[arg(long, value_name = "DIR", env = "STARLING_DIST")]
    dist: Option<PathBuf>,
}

impl ServeArgs {
    fn bootstrap(&self) -> anyhow::Result<Bootstrap> {
        match self.bootstrap.as_slice() {
            [] => Ok(Bootstrap::Default),
            [one] if one == "none" => Ok(Bootstrap::None),
            nodes => {
                for node in nodes {
                    anyhow::ensure!(
                        node != "none",
                        "--bootstrap: `none` stands alone, and here are other nodes as well."
                    );
                    node.parse::<BootstrapAddr>()
                        .map_err(|e| anyhow::anyhow!("--bootstrap: {e}, or `none` alone."))?;
                }
                Ok(Bootstrap::Nodes(nodes.to_vec()))
            }
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the bridge and print the URL to open (this happens without a command, too)
    Serve(ServeArgs),
    /// Call a method of the running bridge and print its result
    Rpc {
        #[command(flatten)]
        data_dir: DataDirArg,
        /// For example account.list
        method: String,
        /// Its parameters; `-` reads them from standard input, where nobody looks over the shoulder
        params: Option<String>,
    },
    /// Print events of the running bridge, one JSON object a line
    Events {
        #[command(flatten)]
        data_dir: DataDirArg,
        /// End once an event of this type came
        #[arg(long, value_name = "TYPE")]
        until: Option<String>,
        /// End after so long; with --until that is a failure
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<f64>,
        /// Begin after the event with this number
        #[arg(long, value_name = "SEQ")]
        since: Option<u64>,
    },
    /// Print a URL that lets one more browser in
    Pair {
        #[command(flatten)]
        data_dir: DataDirArg,
    },
    /// Check a conversation's repository offline: exit 0 in order, 1 at fault, 2 unreadable
    Verify {
        /// A bare repository or a git bundle
        path: PathBuf,
    },
    /// Run a plain DHT node: a bootstrap for a local network or a laboratory
    Dhtnode {
        /// UDP port; 0 takes any free one
        #[arg(short, long, default_value_t = DEFAULT_PORT)]
        port: u16,
        /// A node to start from (repeatable)
        #[arg(short, long, value_name = "HOST:PORT")]
        bootstrap: Vec<BootstrapAddr>,
        /// The network's number; 0 is the public one
        #[arg(short, long, default_value_t = 0)]
        network: u32,
        /// Keep id, acquaintances and what is stored for others here
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
        /// Find and be found in the local network
        #[arg(long)]
        lan: bool,
    },
    /// Say what works on this machine
    Doctor {
        #[command(flatten)]
        data_dir: DataDirArg,
        /// Where the bridge would listen
        #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7474")]
        listen: SocketAddr,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs a command; an error is one sentence on standard error.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("starling: no threads can be started: {e}.");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli));
    // A task that hangs shall not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result.unwrap_or_else(|e| {
        eprintln!("starling: {}", sentence(&e));
        ExitCode::FAILURE
    })
}

/// An error and its causes, each said once: many name their cause themselves.
fn sentence(error: &anyhow::Error) -> String {
    let mut all = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !all.contains(&cause) {
            if !all.is_empty() {
                all.push_str(": ");
            }
            all.push_str(&cause);
        }
    }
    all
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => serve::run(cli.serve).await,
        Some(Command::Serve(args)) => serve::run(args).await,
        Some(Command::Rpc {
            data_dir,
            method,
            params,
        }) => {
            let params = parse_params(params.as_deref())?;
            let result = client::Client::connect(&data_dir.path()?)
                .await?
                .call(&method, params)
                .await?;
            println!("{result}");
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Events {
            data_dir,
            until,
            timeout,
            since,
        }) => {
            let timeout = timeout
                .map(Duration::try_from_secs_f64)
                .transpose()
                .map_err(|e| anyhow::anyhow!("--timeout: {e}."))?;
            client::events(&data_dir.path()?, until.as_deref(), timeout, since).await
        }
        Some(Command::Pair { data_dir }) => {
            let mut client = client::Client::connect(&data_dir.path()?).await?;
            let params = serde_json::json!({"role": "owner"});
            let code = client.call("pairing.start", params).await?;
            println!(
                "{}",
                code.get("url").and_then(Value::as_str).unwrap_or_default()
            );
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Verify { path }) => {
            let code = tokio::task::spawn_blocking(move || {
                starling_bridge::verify::run(
                    &path,
                    &mut std::io::stdout().lock(),
                    &mut std::io::stderr().lock(),
                )
            });
            Ok(ExitCode::from(code.await?))
        }
        Some(Command::Dhtnode {
            port,
            bootstrap,
            network,
            state,
            lan,
        }) => {
            log();
            let options = DhtNodeOptions {
                port,
                bootstrap,
                network_id: network,
                state_path: state,
                lan_discovery: lan,
                ..DhtNodeOptions::default()
            };
            let mut signals = Signals::new()?;
            run_dhtnode(options, async move { signals.next().await }).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Doctor {
            data_dir,
            listen,
            json,
        }) => doctor::run(&data_dir.path()?, listen, json).await,
    }
}

/// Words for people on standard error; standard output belongs to what was asked for.
fn log() {
    let filter = EnvFilter::try_from_env("STARLING_LOG")
        .unwrap_or_else(|_| EnvFilter::new("warn,starling_bridge=info,starling=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// The requests of the system, or of someone at the keyboard, to stop.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    #[cfg(not(unix))]
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn parse_params(text: Option<&str>) -> anyhow::Result<Value> {
    let text = match text {
        None => return Ok(Value::Null),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        Some(text) => text.into(),
    };
    serde_json::from_str(&text).map_err(|e| anyhow::anyhow!("The parameters are no JSON: {e}."))
}
