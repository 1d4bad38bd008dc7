//! The listener: accepts, limits, and stops in good order.

use super::assets::{self, Assets};
use super::guard::{PublicUrl, Rules, guard};
use super::{objects, pairing_http, socket};
use crate::api::{App, MAX_SOCKETS};
use axum::http::{StatusCode, header};
use axum::{Router, middleware, routing};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tower_http::timeout::TimeoutLayer;

/// Connections at the same time: a browser opens six and a socket a tab.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a request may take until it is answered, with the body that is sent for it.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How long a client may read nothing of what is sent to it.
const UNREAD_TIME: Duration = Duration::from_secs(30);
/// Largest head of a request.
const MAX_HEAD: usize = 32 << 10;
/// How long connections may take to end once the bridge stops: a little longer than sockets
/// take to say goodbye.
const STOP_TIME: Duration = Duration::from_secs(5);

/// What the command line decided about listening.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where; port 0 takes any.
    pub listen: SocketAddr,
    /// Under which names besides.
    pub public: Vec<PublicUrl>,
    /// Where the page lies, if not in the binary.
    pub dist: Option<PathBuf>,
}

/// Why the bridge cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Someone else does.
    #[error(
        "{0} is taken by another program. If that is a Starling, open its page or stop it with \
         `starling rpc bridge.stop`; otherwise choose another port with --listen (port 0 takes any free one)."
    )]
    Taken(SocketAddr),
    /// Ports below 1024.
    #[error("{0} may not be used by this user. Choose a port above 1023 with --listen.")]
    Forbidden(SocketAddr),
    /// Anything else.
    #[error("{0} cannot be listened at: {1}. Choose another address with --listen.")]
    Other(SocketAddr, io::Error),
}

fn bind_error(addr: SocketAddr, e: io::Error) -> BindError {
    match e.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken(addr),
        io::ErrorKind::PermissionDenied => BindError::Forbidden(addr),
        _ => BindError::Other(addr, e),
    }
}

/// A bridge that listens but does not answer yet.
pub struct Server {
    listeners: Vec<TcpListener>,
    rules: Rules,
    assets: Assets,
    url: String,
}

impl Server {
    /// Takes the port.
    pub async fn bind(config: ServerConfig) -> Result<Self, BindError> {
        let listeners = bind_all(config.listen).await?;
        let bound: Vec<SocketAddr> = listeners
            .iter()
            .filter_map(|l| l.local_addr().ok())
            .collect();
        let addr = bound.first().copied().unwrap_or(config.listen);
        let url = if addr.ip().is_loopback() || addr.ip().is_unspecified() {
            format!("http://localhost:{}", addr.port())
        } else {
            format!("http://{addr}")
        };
        Ok(Self {
            listeners,
            rules: Rules::new(&bound, config.public),
            assets: Assets::find(config.dist),
            url,
        })
    }

    /// Where pages find it, without a code.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers until the bridge stops.
    pub async fn run(self, app: Arc<App>) {
        let router = router(app.clone(), self.rules, self.assets);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(accept(
                listener,
                router.clone(),
                app.clone(),
                permits.clone(),
            ));
        }
        while accepting.join_next().await.is_some() {}
        // Everyone has been told; wait until they are gone.
        let gone = async {
            let _ = permits.acquire_many(MAX_CONNECTIONS as u32).await;
            let _ = app.sockets.acquire_many(MAX_SOCKETS as u32).await;
        };
        if tokio::time::timeout(STOP_TIME, gone).await.is_err() {
            tracing::warn!("Some connections did not end in time.");
        }
    }
}

/// On IPv4 loopback the same port is taken on IPv6 loopback too, since browsers try that first
/// for `localhost`: whoever sat there could pass for the bridge.
async fn bind_all(listen: SocketAddr) -> Result<Vec<TcpListener>, BindError> {
    let both = listen.ip() == std::net::Ipv4Addr::LOCALHOST;
    // With port 0 the port that is free on one may be taken on the other: try some.
    let attempts = if listen.port() == 0 { 16 } else { 1 };
    let mut last = None;
    for _ in 0..attempts {
        let first = TcpListener::bind(listen)
            .await
            .map_err(|e| bind_error(listen, e))?;
        let port = first
            .local_addr()
            .map_err(|e| bind_error(listen, e))?
            .port();
        if !both {
            return Ok(vec![first]);
        }
        let second = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        match TcpListener::bind(second).await {
            Ok(second) => return Ok(vec![first, second]),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => last = Some(bind_error(second, e)),
            // No IPv6 on this machine: then nobody else can be there either.
            Err(_) => return Ok(vec![first]),
        }
    }
    Err(last.unwrap_or(BindError::Taken(listen)))
}

static OPENRPC: LazyLock<String> =
    LazyLock::new(|| starling_core::api::schema::openrpc(env!("CARGO_PKG_VERSION")).to_string());

fn router(app: Arc<App>, rules: Rules, assets: Assets) -> Router {
    let openrpc = routing::get(|| async {
        (
            [(header::CONTENT_TYPE, "application/json")],
            OPENRPC.as_str(),
        )
    });
    Router::new()
        .route("/api", routing::get(socket::upgrade))
        .route("/api/openrpc.json", openrpc)
        .merge(pairing_http::routes())
        .merge(objects::routes())
        .with_state(app)
        .fallback_service(routing::any(assets::serve).with_state(Arc::new(assets)))
        .layer(middleware::from_fn_with_state(Arc::new(rules), guard))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIME,
        ))
}

async fn accept(listener: TcpListener, router: Router, app: Arc<App>, permits: Arc<Semaphore>) {
    loop {
        // Taken before accepting: beyond the limit the system's queue holds newcomers back.
        let permit = tokio::select! {
            () = app.stop.cancelled() => return,
            permit = permits.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            () = app.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, router.clone(), app.clone(), permit));
            }
            Err(e) => {
                // Out of file descriptors, most likely: give others time to close some.
                tracing::warn!(error = %e, "A connection could not be accepted.");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    app: Arc<App>,
    permit: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(UNREAD_TIME));
    let stream = Box::pin(stream);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = app.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = result {
        tracing::debug!(error = %e, "A connection failed.");
    }
    drop(permit);
}
