//! The bridge's API: one file an area, one dispatcher, one rule for who may call what.
//!
//! **To add a method**: describe it in `starling_core::api::method` (name, access, parameters,
//! result), then write `async fn(ctx: Ctx, params: P) -> Result<R, ApiError>` in the area's file
//! here and name it in that file's `register`. The types of both ends must agree or it does not
//! compile; the OpenRPC document follows by itself.
//!
//! **To report something**: add a variant to `starling_core::api::Event` and call
//! [`App::emit`]. Every connected page that may see it gets it, in the same order.

mod account;
mod app;
mod bridge;
mod caller;
mod contacts;
pub mod conversations;
mod events;
mod messages;
mod pairing;

pub use app::{App, Bootstrap, Config, MAX_SOCKETS, now_millis};
pub use caller::{Caller, CallerId};
pub use events::{After, Entry, EventLog};

use futures_util::future::{BoxFuture, FutureExt as _};
use serde_json::Value;
use starling_core::api::method::{Method, find};
use starling_core::api::{ApiError, ErrorCode, page_limit};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// Grows when a name changes its meaning.
pub const API_VERSION: u32 = 1;

/// What the socket needs of the rest: so that it can be tested without one.
pub trait Service: Send + Sync + 'static {
    /// One call. Always ends with exactly one answer.
    fn call(
        &self,
        who: Caller,
        method: String,
        params: Value,
    ) -> BoxFuture<'static, Result<Value, ApiError>>;

    /// What happened, in order.
    fn events(&self) -> &EventLog;
}

/// What a handler gets besides its parameters.
#[derive(Clone)]
pub struct Ctx {
    /// Everything the bridge is made of.
    pub app: Arc<App>,
    /// Who asks. Access, account and conversation have been checked against it.
    pub caller: Caller,
}

type Handler = Box<dyn Fn(Ctx, Value) -> BoxFuture<'static, Result<Value, ApiError>> + Send + Sync>;

/// Which function answers which method.
#[derive(Default)]
pub struct Router {
    handlers: BTreeMap<&'static str, Handler>,
}

impl Router {
    /// `handler` answers `M` from now on.
    pub fn on<M, F, Fut>(&mut self, _method: M, handler: F)
    where
        M: Method,
        F: Fn(Ctx, M::Params) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<M::Result, ApiError>> + Send + 'static,
    {
        let handler: Handler = Box::new(move |ctx, params| {
            let params = match serde_json::from_value::<M::Params>(params) {
                Ok(params) => params,
                Err(e) => {
                    let sentence = format!("The parameters of {} do not fit: {e}.", M::NAME);
                    return std::future::ready(Err(ApiError::invalid(sentence))).boxed();
                }
            };
            let answer = handler(ctx, params);
            async move {
                let result = answer.await?;
                serde_json::to_value(result)
                    .map_err(|e| ApiError::internal(format!("The answer cannot be written: {e}.")))
            }
            .boxed()
        });
        let before = self.handlers.insert(M::NAME, handler);
        assert!(before.is_none(), "two handlers for {}", M::NAME);
    }
}

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let mut router = Router::default();
    bridge::register(&mut router);
    events::register(&mut router);
    pairing::register(&mut router);
    account::register(&mut router);
    contacts::register(&mut router);
    conversations::register(&mut router);
    messages::register(&mut router);
    router
});

/// Answers one call.
pub async fn call(
    app: Arc<App>,
    caller: Caller,
    method: &str,
    params: Value,
) -> Result<Value, ApiError> {
    let Some(info) = find(method) else {
        return Err(ApiError::unsupported(format!(
            "This bridge has no method {:?}.",
            cut(method)
        )));
    };
    let params = match params {
        Value::Null => Value::Object(serde_json::Map::new()),
        Value::Object(_) => params,
        _ => return Err(ApiError::invalid("Parameters are passed by name.")),
    };
    caller.check(info, &params)?;
    if app.stop.is_cancelled() {
        return Err(ApiError::new(
            ErrorCode::Stopping,
            "The bridge is stopping. Start it again and repeat the call.",
        ));
    }
    let Some(handler) = ROUTER.handlers.get(info.name) else {
        return Err(ApiError::unsupported(format!(
            "This bridge cannot do {} yet.",
            info.name
        )));
    };
    let ctx = Ctx {
        app,
        caller: caller.clone(),
    };
    let mut result = handler(ctx, params).await?;
    caller.filter(info.name, &mut result);
    Ok(result)
}

/// Foreign text in an error: at most 80 characters of it.
fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A handle on the whole bridge, as the socket sees it.
impl Service for Arc<App> {
    fn call(
        &self,
        who: Caller,
        method: String,
        params: Value,
    ) -> BoxFuture<'static, Result<Value, ApiError>> {
        let app = self.clone();
        async move { call(app, who, &method, params).await }.boxed()
    }

    fn events(&self) -> &EventLog {
        &self.events
    }
}

/// A piece of a list: what follows `before`, at most `limit`; all of it where nothing is said.
fn piece<T, K: PartialEq>(
    mut all: Vec<T>,
    key: impl Fn(&T) -> K,
    before: Option<K>,
    limit: Option<u32>,
) -> Result<Vec<T>, ApiError> {
    if let Some(before) = before {
        let at = all.iter().position(|item| key(item) == before);
        let at = at.ok_or_else(|| {
            ApiError::not_found("What the list is to go on behind is not in it any more.")
        })?;
        all.drain(..=at);
    }
    if let Some(limit) = limit {
        all.truncate(page_limit(Some(limit)));
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_piece_by_piece() {
        let all: Vec<u32> = (0..500).collect();
        let of = |before, limit| piece(all.clone(), |n| *n, before, limit);
        assert_eq!(of(None, None).unwrap(), all);
        assert_eq!(of(None, Some(2)).unwrap(), [0, 1]);
        assert_eq!(of(Some(1), Some(2)).unwrap(), [2, 3]);
        assert_eq!(of(Some(498), Some(2)).unwrap(), [499]);
        assert_eq!(of(Some(499), None).unwrap(), [0; 0]);
        assert_eq!(of(None, Some(0)).unwrap().len(), 1);
        assert_eq!(of(None, Some(9999)).unwrap().len(), 200);
        assert_eq!(
            of(Some(500), None).unwrap_err().code,
            starling_core::api::ErrorCode::NotFound
        );
    }
}
