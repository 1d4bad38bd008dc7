//! What `starling rpc` and `starling events` talk through: the socket every page uses, with the
//! token instead of a key.

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use starling_bridge::serve::data_dir::find_bridge;
use starling_core::api::rpc::{Incoming, MAX_FRAME};
use starling_core::api::{ErrorCode, EventsSince, RpcRequest, SequencedEvent};
use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// A connection to the running bridge.
pub(super) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next: i64,
    /// Events that came while an answer was awaited.
    events: VecDeque<SequencedEvent>,
}

impl Client {
    /// Finds the bridge of a data directory.
    pub(super) async fn connect(data_dir: &Path) -> anyhow::Result<Self> {
        let Some(bridge) = find_bridge(data_dir)? else {
            anyhow::bail!(
                "No bridge runs for {}. Start it with `starling --data-dir {0}`.",
                data_dir.display()
            );
        };
        let token = std::fs::read_to_string(&bridge.token_file)
            .with_context(|| format!("{} cannot be read", bridge.token_file.display()))?;
        let url = format!("{}/api", bridge.url.replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        request
            .headers_mut()
            .insert("authorization", format!("Bearer {}", token.trim()).parse()?);
        // It is our own bridge: an exported conversation comes in one frame.
        let limits = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let connected = connect_async_with_config(request, Some(limits), false).await;
        let (socket, _) = connected.with_context(|| {
            format!(
                "the bridge at {} (process {}) does not answer",
                bridge.url, bridge.pid
            )
        })?;
        Ok(Self {
            socket,
            next: 0,
            events: VecDeque::new(),
        })
    }

    /// One call.
    pub(super) async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.next += 1;
        let call = RpcRequest::new(self.next, method, params);
        let text = serde_json::to_string(&call)?;
        // The bridge would close the connection rather than read it.
        anyhow::ensure!(
            text.len() <= MAX_FRAME,
            "The call has {} bytes; at most {MAX_FRAME} are sent. ({})",
            text.len(),
            ErrorCode::TooLarge.as_str()
        );
        self.socket.send(Message::text(text)).await?;
        loop {
            match self.receive().await? {
                Incoming::Answers(answers) => {
                    let own = answers
                        .into_iter()
                        .find(|a| a.id == call.id || a.id.is_none());
                    if let Some(answer) = own {
                        return answer
                            .outcome()
                            .map_err(|e| anyhow::anyhow!("{} ({})", e.message, e.code.as_str()));
                    }
                }
                Incoming::Event(event) => self.events.push_back(*event),
                Incoming::Other => {}
            }
        }
    }

    /// The next event.
    async fn event(&mut self) -> anyhow::Result<SequencedEvent> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        loop {
            if let Incoming::Event(event) = self.receive().await? {
                return Ok(*event);
            }
        }
    }

    async fn receive(&mut self) -> anyhow::Result<Incoming> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Incoming::parse(&text).context("the bridge sent something unreadable");
                }
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map(|f| f.reason.to_string()).unwrap_or_default();
                    anyhow::bail!("The bridge closed the connection. {why}");
                }
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(e).context("the connection to the bridge failed"),
                None => anyhow::bail!("The bridge closed the connection."),
            }
        }
    }
}

/// Prints events until one of a type came, or time is over, or for ever.
pub(super) async fn events(
    data_dir: &Path,
    until: Option<&str>,
    timeout: Option<Duration>,
    since: Option<u64>,
) -> anyhow::Result<ExitCode> {
    let mut client = Client::connect(data_dir).await?;
    let print = async {
        let mut seen = 0;
        if let Some(seq) = since {
            let missed = client.call("events.since", json!({"seq": seq})).await?;
            let missed: EventsSince = serde_json::from_value(missed)?;
            anyhow::ensure!(
                !missed.gap,
                "Events after {seq} are no longer all there; the newest is {}.",
                missed.seq
            );
            for event in missed.events {
                if print_event(&event, until)? {
                    return Ok(());
                }
            }
            seen = missed.seq;
        }
        loop {
            let event = client.event().await?;
            if event.seq > seen && print_event(&event, until)? {
                return Ok(());
            }
        }
    };
    let Some(limit) = timeout else {
        print.await?;
        return Ok(ExitCode::SUCCESS);
    };
    match (tokio::time::timeout(limit, print).await, until) {
        (Ok(result), _) => result.map(|()| ExitCode::SUCCESS),
        (Err(_), None) => Ok(ExitCode::SUCCESS),
        (Err(_), Some(until)) => {
            anyhow::bail!("No {until} came within {} seconds.", limit.as_secs_f64())
        }
    }
}

/// Prints an event; says whether it is of the type that is waited for.
fn print_event(event: &SequencedEvent, until: Option<&str>) -> anyhow::Result<bool> {
    let value = serde_json::to_value(event)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()?;
    Ok(until.is_some() && value.get("type").and_then(Value::as_str) == until)
}
