//! A page's connection to a bridge: calls and events over one WebSocket each, without a process for each call.

use crate::{Starling, wait};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

/// Texts that were shown and steps of messages on their way, and when.
type Shown = Arc<(Mutex<Vec<(String, Instant)>>, Condvar)>;

/// A connection to a bridge with one account.
pub struct Client {
    calls: WebSocket<TcpStream>,
    next: u64,
    account: String,
    shown: Shown,
}

fn connect(starling: &Starling) -> WebSocket<TcpStream> {
    let token = std::fs::read_to_string(starling.data_dir().join("admin.token"))
        .expect("the bridge has written its token");
    let stream = starling.host.connect(7474).expect("the bridge listens");
    stream.set_nonblocking(false).expect("a socket that waits");
    stream.set_nodelay(true).expect("a socket without delay");
    let mut request = "ws://localhost:7474/api"
        .into_client_request()
        .expect("a URL");
    let bearer = format!("Bearer {}", token.trim());
    request.headers_mut().insert(
        "authorization",
        bearer.parse().expect("a token is a header's value"),
    );
    let (socket, _) = tungstenite::client(request, stream).expect("the bridge lets us in");
    socket
}

fn step(state: &str, message: &str) -> String {
    format!("{message} is {state}")
}

impl Client {
    /// Connects to a bridge that has an account.
    pub fn new(starling: &Starling) -> Self {
        let shown = Shown::default();
        let (mut events, listener) = (connect(starling), shown.clone());
        std::thread::spawn(move || {
            while let Ok(message) = events.read() {
                let now = Instant::now();
                let Message::Text(text) = message else {
                    continue;
                };
                let Ok(frame) = serde_json::from_str::<Value>(&text) else {
                    continue;
                };
                let event = &frame["params"];
                let what = match event["type"].as_str() {
                    Some("message.received") => event["message"]["body"].as_str().map(String::from),
                    Some("message.status") => {
                        let state = event["status"]["state"].as_str().unwrap_or_default();
                        Some(step(state, event["id"].as_str().unwrap_or_default()))
                    }
                    _ => None,
                };
                if let Some(what) = what {
                    let mut all = listener.0.lock().expect("not poisoned");
                    all.push((what, now));
                    listener.1.notify_all();
                }
            }
        });
        Self {
            calls: connect(starling),
            next: 0,
            account: starling.account(),
            shown,
        }
    }

    /// Connects anew for calls: a bridge gives up who was silent for long.
    pub fn connect_anew(&mut self, starling: &Starling) {
        self.calls = connect(starling);
    }

    /// One call.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let call = json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params});
        self.calls
            .send(Message::text(call.to_string()))
            .expect("the bridge listens");
        loop {
            let Message::Text(text) = self.calls.read().expect("the bridge answers") else {
                continue;
            };
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            if frame["id"] == self.next {
                assert!(frame.get("error").is_none(), "{method}: {frame}");
                return frame["result"].clone();
            }
        }
    }

    /// Sends a text. When this returns it is on the disk. Gives its id.
    pub fn send(&mut self, conversation: &str, body: &str) -> String {
        let account = self.account.clone();
        let sent = self.call(
            "message.send",
            json!({"account": account, "conversation": conversation, "body": body}),
        );
        sent["id"].as_str().expect("a message id").to_owned()
    }

    /// Waits until every other member of the conversation has fetched a message; says when that was.
    pub fn fetched(&self, message: &str) -> Instant {
        self.shown(&step("fetched", message))
    }

    /// Waits until a text was shown; says when that was.
    pub fn shown(&self, body: &str) -> Instant {
        self.try_shown(body, wait::PATIENCE)
            .unwrap_or_else(|| panic!("{body:?} was not shown"))
    }

    /// When a text was shown, if that happens in time.
    pub fn try_shown(&self, body: &str, patience: Duration) -> Option<Instant> {
        let end = Instant::now() + patience;
        let mut all = self.shown.0.lock().expect("not poisoned");
        loop {
            if let Some((_, when)) = all.iter().find(|(b, _)| b == body) {
                return Some(*when);
            }
            let left = end.checked_duration_since(Instant::now())?;
            all = self
                .shown
                .1
                .wait_timeout(all, left)
                .expect("not poisoned")
                .0;
        }
    }
}
