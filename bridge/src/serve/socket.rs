//! One page's WebSocket: calls in, answers and events out.
//!
//! Nothing here can grow without bound. Calls: [`MAX_CALLS`] run at the same time, then the bridge
//! stops reading and TCP holds the page back. Events: a cursor in the log, no queue. A page that
//! does not take what it is sent within [`SEND_TIME`], or whose cursor falls out of the log, is
//! disconnected; it comes back and asks for what it missed.

use super::guard::{Site, error_response};
use super::pairing_http::{PROTOCOL, caller, no_session};
use crate::api::{After, App, Caller, Service};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use serde_json::Value;
use starling_core::api::rpc::{MAX_BATCH, MAX_FRAME, Request, Response as Answer};
use starling_core::api::{ApiError, ErrorCode, RequestId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::CancellationToken;

/// Calls of one page at the same time.
const MAX_CALLS: u32 = 64;
/// Frames with answers that wait for the page.
const MAX_ANSWERS: usize = 64;
/// How long the page may take for one frame: 64 KiB/s for the largest one.
const SEND_TIME: Duration = Duration::from_secs(16);
/// How often a quiet page is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);
/// A page that said nothing for so long (two unanswered pings and then some) is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// How long running calls may take to end once the bridge stops.
const DRAIN: Duration = Duration::from_secs(3);
/// Events taken from the log at once.
const EVENTS_AT_ONCE: usize = 64;
/// The grant was revoked.
const CLOSE_REVOKED: u16 = 4001;
/// The page was too slow.
const CLOSE_SLOW: u16 = 4002;

pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    Extension(site): Extension<Site>,
    headers: HeaderMap,
    ws: WebSocketUpgrade,
) -> Response {
    let Some(caller) = caller(&app, &site, &headers) else {
        return no_session();
    };
    let Ok(permit) = app.sockets.clone().try_acquire_owned() else {
        let sentence = "Too many pages are open; close some.";
        return error_response(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooMany, sentence);
    };
    ws.protocols([PROTOCOL])
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(move |socket| async move {
            let Some((number, revoked)) = app.pairing.socket_opened(&caller) else {
                return;
            };
            serve(
                socket,
                app.clone(),
                caller.clone(),
                revoked,
                app.stop.clone(),
            )
            .await;
            app.pairing.socket_closed(&caller, number);
            drop(permit);
        })
}

/// Why a socket is closed from this side.
enum End {
    /// The page went, or does not answer: nobody is there to be told.
    Gone,
    /// With a code and a reason.
    Close(u16, &'static str),
}

async fn serve<S: Service + Clone>(
    socket: WebSocket,
    service: S,
    caller: Caller,
    revoked: CancellationToken,
    stop: CancellationToken,
) {
    let (mut sink, stream) = socket.split();
    let (answers, waiting) = mpsc::channel(MAX_ANSWERS);
    let calls = Arc::new(Semaphore::new(MAX_CALLS as usize));
    let heard = Arc::new(tokio::sync::Notify::new());
    let reader = read(
        stream,
        service.clone(),
        caller.clone(),
        answers,
        calls.clone(),
        heard.clone(),
    );
    let writer = write(
        &mut sink, &service, &caller, waiting, &calls, &heard, &revoked, &stop,
    );
    let end = tokio::select! {
        end = reader => end,
        end = writer => end,
    };
    if let End::Close(code, reason) = end {
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        let _ = timeout(DRAIN, sink.send(Message::Close(Some(frame)))).await;
    }
}

/// Takes calls, and starts as many as may run.
async fn read<S: Service + Clone>(
    mut stream: SplitStream<WebSocket>,
    service: S,
    caller: Caller,
    answers: mpsc::Sender<String>,
    calls: Arc<Semaphore>,
    heard: Arc<tokio::sync::Notify>,
) -> End {
    loop {
        let message = match stream.next().await {
            None => return End::Gone,
            Some(Ok(message)) => message,
            Some(Err(e)) => {
                // The library tells it only in words of its own; a frame above the limit is the
                // one fault a page should hear about.
                tracing::debug!(error = %e, "A socket failed.");
                return if e.to_string().contains("too l") {
                    End::Close(close_code::SIZE, "A frame may have 1 MiB.")
                } else {
                    End::Gone
                };
            }
        };
        heard.notify_one();
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => {
                return End::Close(close_code::UNSUPPORTED, "Calls are text frames.");
            }
            Message::Close(_) => return End::Gone,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let calls_in_it = match parse(&text) {
            Ok(calls) => calls,
            Err(e) => {
                let answer = frame(&Answer::new(None, Err(e)));
                if answers.send(answer).await.is_err() {
                    return End::Gone;
                }
                continue;
            }
        };
        let count = u32::try_from(calls_in_it.len())
            .unwrap_or(MAX_CALLS)
            .clamp(1, MAX_CALLS);
        let Ok(permit) = calls.clone().acquire_many_owned(count).await else {
            return End::Gone;
        };
        let (service, caller, answers) = (service.clone(), caller.clone(), answers.clone());
        // Not tied to the socket: what was begun is finished, whoever listens.
        tokio::spawn(async move {
            if let Some(frame) = run(&service, &caller, calls_in_it).await {
                let _ = answers.send(frame).await;
            }
            drop(permit);
        });
    }
}

/// What one text frame asks for.
enum Calls {
    One(Result<Request, (Option<RequestId>, ApiError)>),
    Batch(Vec<Result<Request, (Option<RequestId>, ApiError)>>),
}

impl Calls {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Batch(calls) => calls.len(),
        }
    }
}

fn parse(text: &str) -> Result<Calls, ApiError> {
    let bad = |why: String| ApiError::new(ErrorCode::InvalidRequest, why);
    let value: Value = serde_json::from_str(text)
        .map_err(|e| ApiError::new(ErrorCode::NotJson, format!("This is no JSON: {e}.")))?;
    let Value::Array(items) = value else {
        return Ok(Calls::One(request(value)));
    };
    if items.is_empty() {
        return Err(bad("An empty batch asks for nothing.".into()));
    }
    if items.len() > MAX_BATCH {
        let why = format!("A batch may have {MAX_BATCH} calls.");
        return Err(ApiError::new(ErrorCode::TooLarge, why));
    }
    Ok(Calls::Batch(items.into_iter().map(request).collect()))
}

fn request(value: Value) -> Result<Request, (Option<RequestId>, ApiError)> {
    let id = value
        .get("id")
        .and_then(|id| serde_json::from_value(id.clone()).ok());
    let fail = |why: String| ApiError::new(ErrorCode::InvalidRequest, why);
    match serde_json::from_value::<Request>(value) {
        Ok(r) if r.jsonrpc != "2.0" => Err((id, fail("\"jsonrpc\" has to be \"2.0\".".into()))),
        Ok(r) => Ok(r),
        Err(e) => Err((id, fail(format!("This is no JSON-RPC call: {e}.")))),
    }
}

async fn run<S: Service>(service: &S, caller: &Caller, calls: Calls) -> Option<String> {
    match calls {
        Calls::One(call) => answer(service, caller, call).await.map(|a| frame(&a)),
        Calls::Batch(calls) => {
            let all = calls.into_iter().map(|c| answer(service, caller, c));
            let answers: Vec<Answer> = join_all(all).await.into_iter().flatten().collect();
            (!answers.is_empty()).then(|| frame(&answers))
        }
    }
}

/// Exactly one answer a call, none for a notification.
async fn answer<S: Service>(
    service: &S,
    caller: &Caller,
    call: Result<Request, (Option<RequestId>, ApiError)>,
) -> Option<Answer> {
    match call {
        Err((id, e)) => Some(Answer::new(id, Err(e))),
        Ok(call) => {
            let method = call.method.clone();
            let work = service.call(caller.clone(), call.method, call.params);
            // In a task of its own, so that a fault in one method ends that call and no more.
            let outcome = tokio::spawn(work).await.unwrap_or_else(|e| {
                tracing::error!(%method, error = %e, "A method failed.");
                Err(ApiError::internal(format!(
                    "{method} failed inside the bridge; see its log."
                )))
            });
            call.id.map(|id| Answer::new(Some(id), outcome))
        }
    }
}

fn frame<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|e| {
        let error = ApiError::internal(format!("The answer cannot be written: {e}."));
        serde_json::to_string(&Answer::new(None, Err(error))).unwrap_or_default()
    })
}

/// Sends answers, events and pings, one at a time.
#[expect(
    clippy::too_many_arguments,
    reason = "one function, one loop, one caller"
)]
async fn write<S: Service>(
    sink: &mut SplitSink<WebSocket, Message>,
    service: &S,
    caller: &Caller,
    mut answers: mpsc::Receiver<String>,
    calls: &Semaphore,
    heard: &tokio::sync::Notify,
    revoked: &CancellationToken,
    stop: &CancellationToken,
) -> End {
    let mut newest = service.events().subscribe();
    let mut cursor = *newest.borrow_and_update();
    let mut last_heard = Instant::now();
    let mut ping = interval_at(Instant::now() + PING, PING);
    loop {
        tokio::select! {
            biased;
            () = revoked.cancelled() => {
                return End::Close(CLOSE_REVOKED, "This browser signed out, or its access was revoked.");
            }
            () = heard.notified() => last_heard = Instant::now(),
            () = stop.cancelled() => return drain(sink, answers, calls).await,
            Some(answer) = answers.recv() => {
                if let Some(end) = send(sink, Message::text(answer)).await {
                    return end;
                }
            }
            _ = ping.tick() => {
                if last_heard.elapsed() > SILENCE {
                    return End::Gone;
                }
                if let Some(end) = send(sink, Message::Ping(Vec::new().into())).await {
                    return end;
                }
            }
            changed = newest.changed() => {
                if changed.is_err() {
                    return End::Gone;
                }
                // Answers and revocation come in between only after a portion; that is enough,
                // as each portion is bounded.
                match service.events().after(cursor, EVENTS_AT_ONCE) {
                    After::Gap => return End::Close(CLOSE_SLOW, "Too slow; reconnect and catch up."),
                    After::Entries(entries) => {
                        let full = entries.len() == EVENTS_AT_ONCE;
                        for entry in entries {
                            cursor = entry.event.seq;
                            if caller.sees(&entry.event.event)
                                && let Some(end) = send(sink, Message::text(entry.frame.clone())).await
                            {
                                return end;
                            }
                        }
                        if full {
                            newest.mark_changed();
                        }
                    }
                }
            }
        }
    }
}

/// Lets running calls end and sends their answers, then says goodbye.
async fn drain(
    sink: &mut SplitSink<WebSocket, Message>,
    mut answers: mpsc::Receiver<String>,
    calls: &Semaphore,
) -> End {
    let rest = async {
        loop {
            tokio::select! {
                biased;
                Some(answer) = answers.recv() => {
                    if send(sink, Message::text(answer)).await.is_some() {
                        return;
                    }
                }
                _all_ended = calls.acquire_many(MAX_CALLS) => {
                    while let Ok(answer) = answers.try_recv() {
                        if send(sink, Message::text(answer)).await.is_some() {
                            return;
                        }
                    }
                    return;
                }
            }
        }
    };
    let _ = timeout(DRAIN, rest).await;
    End::Close(close_code::AWAY, "The bridge stops.")
}

/// `Some` when the socket is of no use any more.
async fn send(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> Option<End> {
    match timeout(SEND_TIME, sink.send(message)).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some(End::Gone),
        Err(_) => Some(End::Close(CLOSE_SLOW, "Too slow; reconnect and catch up.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> ErrorCode {
        match parse(text) {
            Err(e) => e.code,
            Ok(Calls::One(Err((_, e)))) => e.code,
            Ok(_) => panic!("{text} was taken"),
        }
    }

    #[test]
    fn what_is_no_call_is_named() {
        for bad in ["", "{", "nonsense"] {
            assert_eq!(error(bad), ErrorCode::NotJson, "{bad}");
        }
        assert_eq!(ErrorCode::NotJson.number(), -32700);
        for bad in [
            "[]",
            "7",
            "{}",
            r#"{"jsonrpc":"1.0","id":1,"method":"a.b"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"a.b"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        ] {
            assert_eq!(error(bad), ErrorCode::InvalidRequest, "{bad}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(error(&deep), ErrorCode::NotJson);
        let many = format!("[{}]", vec!["{}"; MAX_BATCH + 1].join(","));
        assert_eq!(error(&many), ErrorCode::TooLarge);
    }

    #[test]
    fn an_answer_carries_back_whatever_number_the_call_had() {
        for id in ["1.5", "-7", "9223372036854775808", "\"a\""] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"a.b"}}"#);
            let Ok(Calls::One(Ok(call))) = parse(&text) else {
                panic!("no call: {text}");
            };
            assert_eq!(serde_json::to_string(&call.id).expect("an id"), id);
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id}}}"#);
            let Ok(Calls::One(Err((back, _)))) = parse(&text) else {
                panic!("a call: {text}");
            };
            assert_eq!(serde_json::to_string(&back).expect("an id"), id);
        }
        let Ok(Calls::One(Err((_, e)))) = parse(r#"{"jsonrpc":"2.0","id":[],"method":"a.b"}"#)
        else {
            panic!("a call");
        };
        assert!(e.message.contains("a number or a string"), "{}", e.message);
        assert!(!e.message.contains("enum"), "{}", e.message);
    }

    #[test]
    fn a_bad_call_in_a_batch_spoils_only_itself() {
        let text = r#"[{"jsonrpc":"2.0","id":1,"method":"a.b"},{"id":2}]"#;
        let Ok(Calls::Batch(calls)) = parse(text) else {
            panic!("no batch");
        };
        assert!(calls[0].is_ok());
        let (id, _) = calls[1].clone().expect_err("no call");
        assert_eq!(id, Some(RequestId::Number(2)));
    }
}
