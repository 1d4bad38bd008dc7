//! The socket to the bridge: typed calls, events in order, reconnection that loses nothing.

use crate::browser::sleep_ms;
use futures_channel::oneshot;
use leptos::prelude::*;
use serde_json::Value;
use starling_core::api::method::{GetBridgeInfo, GetEventsSince};
use starling_core::api::rpc::MAX_FRAME;
use starling_core::api::{
    ApiError, ErrorCode, Event, EventsSinceParams, Method, Nothing, Notification, RequestId,
    RpcRequest, RpcResponse, SequencedEvent,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{MessageEvent, WebSocket};

/// First wait before connecting again, in milliseconds; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: i32 = 400;
/// Longest wait, in milliseconds: who starts the bridge again sees the page come back within seconds.
const LONGEST_WAIT: i32 = 8_000;
/// A call without an answer after this many milliseconds has failed. Making the keys of an account takes longest.
const PATIENCE: i32 = 60_000;

/// How the page stands with its bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    /// The first connection is being made.
    Starting,
    /// Calls go through.
    Open,
    /// Lost; it is tried again by itself.
    Lost,
    /// The bridge does not know this browser.
    Unpaired,
}

/// What the rest of the page does with the connection.
pub(crate) trait Listener {
    /// Opens a session. False if the bridge does not know this browser.
    fn authenticate(&self) -> Pin<Box<dyn Future<Output = Result<bool, ApiError>>>>;
    /// Reads everything anew.
    fn reload(&self) -> Pin<Box<dyn Future<Output = ()>>>;
    /// Something happened. In order, each once.
    fn event(&self, event: Event);
    /// The connection stands again, and nothing was missed.
    fn connected(&self);
}

/// The connection. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub(crate) struct Bridge(Rc<Inner>);

/// Who waits for an answer.
type Waiting = oneshot::Sender<Result<Value, ApiError>>;

/// What the browser calls when something happened.
type Callback = Closure<dyn FnMut(JsValue)>;

struct Inner {
    state: RwSignal<Socket>,
    socket: RefCell<Option<WebSocket>>,
    waiting: RefCell<BTreeMap<i64, Waiting>>,
    next_id: Cell<i64>,
    /// The last event that was seen; nothing before the first connection.
    seen: Cell<Option<u64>>,
    /// Events that come while missed ones are being fetched.
    held: RefCell<Option<Vec<SequencedEvent>>>,
    wait: Cell<i32>,
    listener: RefCell<Option<Rc<dyn Listener>>>,
    /// The browser's callbacks of the present socket.
    callbacks: RefCell<Vec<Callback>>,
}

/// An error of the page's own making, for a call that never got an answer.
fn lost() -> ApiError {
    ApiError::new(ErrorCode::Offline, "")
}

impl Bridge {
    /// A bridge that does not connect yet.
    pub(crate) fn new() -> Self {
        Self(Rc::new(Inner {
            state: RwSignal::new(Socket::Starting),
            socket: RefCell::default(),
            waiting: RefCell::default(),
            next_id: Cell::new(1),
            seen: Cell::new(None),
            held: RefCell::default(),
            wait: Cell::new(FIRST_WAIT),
            listener: RefCell::default(),
            callbacks: RefCell::default(),
        }))
    }

    /// How the connection stands.
    pub(crate) fn state(&self) -> RwSignal<Socket> {
        self.0.state
    }

    /// Connects, and stays connected from now on.
    pub(crate) fn start(&self, listener: Rc<dyn Listener>) {
        *self.0.listener.borrow_mut() = Some(listener);
        self.connect();
    }

    /// Tries again at once, as after pairing.
    pub(crate) fn connect(&self) {
        let this = self.clone();
        spawn_local(async move {
            let Some(listener) = this.0.listener.borrow().clone() else {
                return;
            };
            match listener.authenticate().await {
                Ok(true) => this.open(),
                Ok(false) => this.0.state.set(Socket::Unpaired),
                Err(_) => this.closed(),
            }
        });
    }

    fn open(&self) {
        let location = window().location();
        let scheme = if location.protocol().is_ok_and(|p| p == "https:") {
            "wss"
        } else {
            "ws"
        };
        let address = format!("{scheme}://{}/api", location.host().unwrap_or_default());
        let protocols = js_sys::Array::of1(&"starling".into());
        if let Some(key) = crate::session::key() {
            protocols.push(&format!("starling.key.{key}").into());
        }
        let Ok(socket) = WebSocket::new_with_str_sequence(&address, &protocols) else {
            self.closed();
            return;
        };
        let this = self.clone();
        let on_open = Closure::<dyn FnMut(JsValue)>::new(move |_| {
            let this = this.clone();
            spawn_local(async move { this.opened().await });
        });
        let this = self.clone();
        let on_message = Closure::<dyn FnMut(JsValue)>::new(move |event: JsValue| {
            if let Some(text) = event.unchecked_into::<MessageEvent>().data().as_string() {
                this.received(&text);
            }
        });
        let this = self.clone();
        let own = socket.clone();
        let on_close = Closure::<dyn FnMut(JsValue)>::new(move |_| {
            // An old socket that ends late says nothing about the present one.
            if this.0.socket.borrow().as_ref() == Some(&own) {
                this.closed();
            }
        });
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        *self.0.socket.borrow_mut() = Some(socket);
        *self.0.callbacks.borrow_mut() = vec![on_open, on_message, on_close];
    }

    /// The socket stands: catch up, then let the page see it.
    async fn opened(&self) {
        *self.0.held.borrow_mut() = Some(Vec::new());
        let caught_up = match self.0.seen.get() {
            Some(seq) => self.catch_up(seq).await,
            None => self.begin().await,
        };
        if caught_up.is_err() {
            // The socket has gone again, or the bridge refuses: closing it leads to another try.
            if let Some(socket) = self.0.socket.borrow().as_ref() {
                let _ = socket.close();
            }
            return;
        }
        for event in self.0.held.take().unwrap_or_default() {
            self.happened(event);
        }
        self.0.wait.set(FIRST_WAIT);
        self.0.state.set(Socket::Open);
        if let Some(listener) = self.0.listener.borrow().clone() {
            listener.connected();
        }
    }

    async fn begin(&self) -> Result<(), ApiError> {
        let info = self.call::<GetBridgeInfo>(Nothing {}).await?;
        self.0.seen.set(Some(info.seq));
        self.reload().await;
        Ok(())
    }

    async fn catch_up(&self, seq: u64) -> Result<(), ApiError> {
        let missed = self
            .call::<GetEventsSince>(EventsSinceParams { seq })
            .await?;
        if missed.gap {
            self.0.seen.set(Some(missed.seq));
            self.reload().await;
        }
        for event in missed.events {
            self.happened(event);
        }
        Ok(())
    }

    async fn reload(&self) {
        let listener = self.0.listener.borrow().clone();
        if let Some(listener) = listener {
            listener.reload().await;
        }
    }

    fn received(&self, text: &str) {
        let Ok(value) = serde_json::from_str::<Value>(text) else {
            return;
        };
        // A batch of calls may be answered by a batch.
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            if value.get("method").is_some() {
                if let Ok(notification) = serde_json::from_value::<Notification>(value) {
                    self.notified(notification.params);
                }
            } else if let Ok(answer) = serde_json::from_value::<RpcResponse>(value)
                && let Some(RequestId::Number(id)) = answer.id
                && let Some(sender) = self.0.waiting.borrow_mut().remove(&id)
            {
                let _ = sender.send(answer.outcome());
            }
        }
    }

    fn notified(&self, event: SequencedEvent) {
        if let Some(held) = self.0.held.borrow_mut().as_mut() {
            held.push(event);
            return;
        }
        self.happened(event);
    }

    fn happened(&self, event: SequencedEvent) {
        if self.0.seen.get().is_some_and(|seen| event.seq <= seen) {
            return;
        }
        self.0.seen.set(Some(event.seq));
        if let Some(listener) = self.0.listener.borrow().clone() {
            listener.event(event.event);
        }
    }

    /// The connection is gone: every call fails, and another try follows.
    fn closed(&self) {
        *self.0.socket.borrow_mut() = None;
        *self.0.held.borrow_mut() = None;
        for (_, sender) in std::mem::take(&mut *self.0.waiting.borrow_mut()) {
            let _ = sender.send(Err(lost()));
        }
        self.0.state.set(Socket::Lost);
        let wait = self.0.wait.get();
        self.0.wait.set((wait * 2).min(LONGEST_WAIT));
        let this = self.clone();
        spawn_local(async move {
            sleep_ms(wait).await;
            this.connect();
        });
    }

    /// Calls a method.
    pub(crate) async fn call<M: Method>(&self, params: M::Params) -> Result<M::Result, ApiError> {
        let params = serde_json::to_value(params).map_err(unsendable)?;
        let value = self.ask(M::NAME, params).await?;
        serde_json::from_value(value).map_err(|e| misread(M::NAME, &e))
    }

    /// All of a call that is the same for each method, so that the page has it once.
    fn ask(
        &self,
        method: &'static str,
        params: Value,
    ) -> Pin<Box<dyn Future<Output = Result<Value, ApiError>>>> {
        let this = self.clone();
        Box::pin(async move { this.send(method, params).await })
    }

    async fn send(&self, method: &'static str, params: Value) -> Result<Value, ApiError> {
        let id = self.0.next_id.get();
        self.0.next_id.set(id + 1);
        let text =
            serde_json::to_string(&RpcRequest::new(id, method, params)).map_err(|_| lost())?;
        // The bridge would close the socket, and every other call on it fail.
        if text.len() > MAX_FRAME {
            return Err(ApiError::new(ErrorCode::TooLarge, ""));
        }
        let (sender, receiver) = oneshot::channel();
        {
            let socket = self.0.socket.borrow();
            let socket = socket
                .as_ref()
                .filter(|s| s.ready_state() == WebSocket::OPEN)
                .ok_or_else(lost)?;
            socket.send_with_str(&text).map_err(|_| lost())?;
        }
        self.0.waiting.borrow_mut().insert(id, sender);
        let this = self.clone();
        spawn_local(async move {
            sleep_ms(PATIENCE).await;
            if let Some(sender) = this.0.waiting.borrow_mut().remove(&id) {
                let _ = sender.send(Err(ApiError::new(ErrorCode::Timeout, "")));
            }
        });
        receiver.await.unwrap_or_else(|_| Err(lost()))
    }
}

fn unsendable(e: serde_json::Error) -> ApiError {
    ApiError::invalid(e.to_string())
}

fn misread(method: &str, e: &serde_json::Error) -> ApiError {
    ApiError::internal(format!(
        "{method} answered what this page does not understand: {e}"
    ))
}
