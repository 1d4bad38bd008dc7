//! The first look at every request: which name it used, which page it comes from.
//!
//! Any web page in the world can make a browser knock here, and behind a tunnel or a rebound DNS
//! name everybody is "loopback". So the peer's address counts for nothing; what counts is the
//! `Host` (no rebinding), the `Origin` (no foreign page) and `Sec-Fetch-Site` (the same, told by
//! the browser itself), and then a key or a token.

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use starling_core::api::ErrorCode;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What a request's `Host` says about the place it was sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// As in the `Host` header.
    pub host: String,
    /// What an `Origin` header of our own page says there.
    pub origin: String,
    /// Behind TLS.
    pub secure: bool,
    /// Distinguishes cookies of bridges on one machine: cookies know no ports.
    pub cookie: String,
}

/// A URL that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no public URL: expected http(s)://name[:port] without a path, for example https://chat.example.org"
)]
pub struct BadPublicUrl(String);

/// A name under which the bridge is reached from outside, through a tunnel or a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    host: String,
    secure: bool,
}

impl std::str::FromStr for PublicUrl {
    type Err = BadPublicUrl;
    fn from_str(text: &str) -> Result<Self, BadPublicUrl> {
        let lower = text.trim_end_matches('/').to_ascii_lowercase();
        let (secure, host) = match lower.split_once("://") {
            Some(("https", host)) => (true, host),
            Some(("http", host)) => (false, host),
            _ => return Err(BadPublicUrl(text.into())),
        };
        let good = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
        if host.is_empty() || !host.chars().all(good) {
            return Err(BadPublicUrl(text.into()));
        }
        // A default port is left out of Host and Origin by browsers.
        let default_port = if secure { ":443" } else { ":80" };
        let host = host.strip_suffix(default_port).unwrap_or(host);
        Ok(Self {
            host: host.into(),
            secure,
        })
    }
}

impl PublicUrl {
    /// Whether it is reached by TLS.
    pub fn is_encrypted(&self) -> bool {
        self.secure
    }
}

/// Which names the bridge answers to.
#[derive(Debug, Clone)]
pub struct Rules {
    port: u16,
    literals: Vec<IpAddr>,
    public: Vec<PublicUrl>,
}

impl Rules {
    /// The rules for a bridge that listens at `listen` and is known as `public` besides.
    pub fn new(listen: &[SocketAddr], public: Vec<PublicUrl>) -> Self {
        Self {
            port: listen.first().map_or(0, SocketAddr::port),
            literals: listen
                .iter()
                .map(SocketAddr::ip)
                .filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
                .collect(),
            public,
        }
    }

    /// What a `Host` header means; `None` for a name that is not ours.
    pub fn site(&self, host: &str) -> Option<Site> {
        let host = host.to_ascii_lowercase();
        let site = |secure: bool| {
            let scheme = if secure { "https" } else { "http" };
            let prefix = if secure { "__Host-" } else { "" };
            Site {
                origin: format!("{scheme}://{host}"),
                secure,
                cookie: format!("{prefix}starling-{}", self.port),
                host: host.clone(),
            }
        };
        if let Some(public) = self.public.iter().find(|p| p.host == host) {
            return Some(site(public.secure));
        }
        let (name, port) = split_port(&host)?;
        if port.unwrap_or(80) != self.port {
            return None;
        }
        let local = name == "localhost"
            || name
                .strip_suffix(".localhost")
                .is_some_and(|sub| sub.split('.').all(is_label));
        let literal = || {
            let ip: IpAddr = match name.strip_prefix('[') {
                Some(v6) => IpAddr::V6(v6.strip_suffix(']')?.parse().ok()?),
                None => IpAddr::V4(name.parse().ok()?),
            };
            Some(ip)
        };
        let literal = literal().is_some_and(|ip| {
            ip == IpAddr::from([127, 0, 0, 1])
                || ip == IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)
                || self.literals.contains(&ip)
        });
        (local || literal).then(|| site(false))
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `name:port`, `name`, `[v6]:port`, `[v6]`.
fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    let colon = match host.rfind(']') {
        Some(end) => host[end..].find(':').map(|c| end + c),
        None => host.find(':'),
    };
    match colon {
        None => Some((host, None)),
        Some(c) => {
            let (name, port) = (&host[..c], &host[c + 1..]);
            // No sign, no leading zero, nothing that another parser might read otherwise.
            let canonical = port.parse::<u16>().ok().filter(|p| p.to_string() == port)?;
            Some((name, Some(canonical)))
        }
    }
}

/// Why a request goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The `Host` is missing, twice there, or not ours.
    Host,
    /// The `Origin` is another page's, or missing where it is needed.
    Origin,
    /// The browser says that another site is behind it.
    FetchSite,
}

impl Refusal {
    fn sentence(self) -> &'static str {
        match self {
            Self::Host => {
                "This bridge does not answer to this name. Use http://localhost with the bridge's port, or start it with --public-url for the name you use."
            }
            Self::Origin => {
                "This request comes from another page (or does not say from which), and is refused. A program that is no browser brings the token in the data directory's admin.token."
            }
            Self::FetchSite => "This request comes from another site, and is refused.",
        }
    }
}

/// Paths that are more than the static page.
const GUARDED: &[&str] = &["/api", "/pair", "/objects", "/files"];

/// Whether a path is a door, and no place of the page.
pub fn is_guarded(path: &str) -> bool {
    GUARDED.iter().any(|g| {
        path.strip_prefix(g)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Decides on a request by its head alone.
pub fn check(
    rules: &Rules,
    method: &Method,
    path: &str,
    authority: Option<&str>,
    headers: &HeaderMap,
) -> Result<Site, Refusal> {
    let host = single(headers, &header::HOST).ok_or(Refusal::Host)?;
    let site = rules.site(host).ok_or(Refusal::Host)?;
    if authority.is_some_and(|a| !a.eq_ignore_ascii_case(&site.host)) {
        return Err(Refusal::Host);
    }
    let header = |name: &'static str| headers.get(name).map(HeaderValue::as_bytes);
    let reads = *method == Method::GET || *method == Method::HEAD;
    let fetch_site = header("sec-fetch-site");
    if !matches!(fetch_site, None | Some(b"same-origin" | b"none")) {
        // A link on another page may lead to ours; it sees nothing of it.
        let follows_a_link = reads
            && header("sec-fetch-mode") == Some(b"navigate")
            && header("sec-fetch-dest") == Some(b"document")
            && !is_guarded(path);
        if !follows_a_link {
            return Err(Refusal::FetchSite);
        }
    }
    if headers.contains_key(header::ORIGIN) {
        if single(headers, &header::ORIGIN) != Some(site.origin.as_str()) {
            return Err(Refusal::Origin);
        }
    } else {
        let upgrade = headers.contains_key(header::UPGRADE);
        // Only programs come without an Origin, and they bring a token.
        if (!reads || upgrade) && !headers.contains_key(header::AUTHORIZATION) {
            return Err(Refusal::Origin);
        }
    }
    Ok(site)
}

/// A header that is there exactly once and is plain text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    }
}

/// Checks a request, and puts on every answer what browsers need to know.
pub async fn guard(State(rules): State<Arc<Rules>>, mut request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(|a| a.as_str().to_owned());
    let verdict = check(
        &rules,
        request.method(),
        request.uri().path(),
        authority.as_deref(),
        request.headers(),
    );
    let (site, mut response) = match verdict {
        Ok(site) => {
            request.extensions_mut().insert(site.clone());
            let door = is_guarded(request.uri().path());
            let answer = next.run(request).await;
            (Some(site), if door { in_form(answer) } else { answer })
        }
        Err(refusal) => {
            tracing::debug!(?refusal, path = request.uri().path(), "Refused a request.");
            let status = match refusal {
                Refusal::Host => StatusCode::MISDIRECTED_REQUEST,
                Refusal::Origin | Refusal::FetchSite => StatusCode::FORBIDDEN,
            };
            let error = error_response(status, ErrorCode::NotAuthorised, refusal.sentence());
            (None, error)
        }
    };
    set_headers(response.headers_mut(), site.as_ref());
    response
}

/// The form of every error over HTTP.
pub fn error_response(status: StatusCode, code: ErrorCode, message: &str) -> Response {
    let body = serde_json::json!({"error": {"code": code.as_str(), "message": message}});
    (status, axum::Json(body)).into_response()
}

/// What the router itself answers at a door, as an error in the form of all others.
fn in_form(answer: Response) -> Response {
    let status = answer.status();
    let is = |kind: &str| {
        let found = answer.headers().get(header::CONTENT_TYPE);
        found.is_some_and(|v| v.as_bytes().starts_with(kind.as_bytes()))
    };
    if !(status.is_client_error() || status.is_server_error()) || is("application/json") {
        return answer;
    }
    let (code, message) = match status {
        StatusCode::NOT_FOUND => (ErrorCode::NotFound, "There is nothing at this address."),
        StatusCode::METHOD_NOT_ALLOWED => (
            ErrorCode::InvalidRequest,
            "This address takes other methods: see the header Allow.",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::TooLarge, "The request is too large."),
        s if s.is_server_error() => (ErrorCode::Internal, "The bridge could not answer."),
        _ => (
            ErrorCode::InvalidRequest,
            "This is no request that this address takes; /api is a WebSocket.",
        ),
    };
    let mut made = error_response(status, code, message);
    for (name, value) in answer.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            made.headers_mut().append(name, value.clone());
        }
    }
    made
}

/// What the page may do, and what others may do with it.
fn set_headers(headers: &mut HeaderMap, site: Option<&Site>) {
    // 'self' covers the WebSocket only in newer browsers.
    let socket = site.map_or_else(String::new, |s| {
        let scheme = if s.secure { "wss" } else { "ws" };
        format!(" {scheme}://{}", s.host)
    });
    let csp = format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
         img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self'; \
         connect-src 'self'{socket}; worker-src 'self'; manifest-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_SECURITY_POLICY, &csp);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "no-referrer");
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("permissions-policy"),
        "camera=(self), microphone=(self), display-capture=(self), geolocation=(self), usb=(), payment=()",
    );
    // Where nobody said otherwise, nothing is kept.
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules::new(
            &["127.0.0.1:7474".parse().expect("an address")],
            vec!["https://chat.example.org".parse().expect("a URL")],
        )
    }

    #[test]
    fn only_our_names_are_answered() {
        let r = rules();
        for good in [
            "localhost:7474",
            "LOCALHOST:7474",
            "starling.localhost:7474",
            "127.0.0.1:7474",
            "[::1]:7474",
            "chat.example.org",
        ] {
            assert!(r.site(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "localhost:7475",
            "localhost:07474",
            "localhost:+7474",
            "localhost:7474:7474",
            "localhost.:7474",
            "localhost.com:7474",
            ".localhost:7474",
            "evil.com:7474",
            "evil.com#.localhost:7474",
            "a@localhost:7474",
            "127.0.0.2:7474",
            "2130706433:7474",
            "127.1:7474",
            "0.0.0.0:7474",
            "[::]:7474",
            "[::1:7474",
            "192.168.1.5:7474",
            "chat.example.org:7474",
            "chat.example.org.evil.com",
        ] {
            assert_eq!(r.site(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_site_knows_its_origin_and_its_cookie() {
        let r = rules();
        let plain = r.site("localhost:7474").expect("ours");
        assert_eq!(plain.origin, "http://localhost:7474");
        assert_eq!(plain.cookie, "starling-7474");
        let tls = r.site("chat.example.org").expect("ours");
        assert_eq!(tls.origin, "https://chat.example.org");
        assert_eq!(tls.cookie, "__Host-starling-7474");
    }

    #[test]
    fn an_address_that_was_asked_for_is_a_name_too() {
        let r = Rules::new(&["10.0.0.1:80".parse().expect("an address")], vec![]);
        assert!(r.site("10.0.0.1").is_some() && r.site("10.0.0.1:80").is_some());
        assert!(r.site("10.0.0.2").is_none());
        let any = Rules::new(&["0.0.0.0:7474".parse().expect("an address")], vec![]);
        assert!(any.site("0.0.0.0:7474").is_none() && any.site("localhost:7474").is_some());
    }

    #[test]
    fn public_urls_are_origins() {
        for bad in [
            "",
            "example.org",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://a b",
        ] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad}");
        }
        let with_port: PublicUrl = "https://A.example:443/".parse().expect("a URL");
        assert_eq!(with_port.host, "a.example");
        let other: PublicUrl = "http://localhost:9000".parse().expect("a URL");
        assert_eq!(other.host, "localhost:9000");
    }

    fn verdict(method: Method, path: &str, pairs: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        check(&rules(), &method, path, None, &headers).map(|_| ())
    }

    /// Who may come through the door, as a table.
    #[test]
    fn truth_table() {
        const H: (&str, &str) = ("host", "localhost:7474");
        const OWN: (&str, &str) = ("origin", "http://localhost:7474");
        const WS: (&str, &str) = ("upgrade", "websocket");
        let get = |path, pairs: &[_]| verdict(Method::GET, path, pairs);
        let post = |path, pairs: &[_]| verdict(Method::POST, path, pairs);
        assert_eq!(get("/", &[H]), Ok(()));
        assert_eq!(get("/", &[]), Err(Refusal::Host));
        assert_eq!(get("/", &[H, H]), Err(Refusal::Host));
        // The socket.
        assert_eq!(get("/api", &[H, WS, OWN]), Ok(()));
        assert_eq!(get("/api", &[H, WS]), Err(Refusal::Origin));
        assert_eq!(get("/api", &[H, WS, ("authorization", "Bearer x")]), Ok(()));
        for origin in [
            "http://evil.example",
            "http://localhost:7475",
            "https://localhost:7474",
            "http://127.0.0.1:7474",
            "null",
            "",
        ] {
            let r = get("/api", &[H, WS, ("origin", origin)]);
            assert_eq!(r, Err(Refusal::Origin), "{origin}");
            // Not even with a token.
            let r = get(
                "/api",
                &[H, WS, ("origin", origin), ("authorization", "Bearer x")],
            );
            assert_eq!(r, Err(Refusal::Origin), "{origin}");
        }
        assert_eq!(get("/api", &[H, WS, OWN, OWN]), Err(Refusal::Origin));
        // What changes state.
        assert_eq!(post("/pair", &[H, OWN]), Ok(()));
        assert_eq!(post("/pair", &[H]), Err(Refusal::Origin));
        // What the browser says about where it comes from.
        for site in ["cross-site", "same-site", "what-comes-next"] {
            let s = ("sec-fetch-site", site);
            let nav = ("sec-fetch-mode", "navigate");
            let doc = ("sec-fetch-dest", "document");
            assert_eq!(get("/", &[H, s]), Err(Refusal::FetchSite));
            assert_eq!(get("/", &[H, s, nav, doc]), Ok(()));
            assert_eq!(
                get("/", &[H, s, nav, ("sec-fetch-dest", "iframe")]),
                Err(Refusal::FetchSite)
            );
            assert_eq!(
                get("/pair/challenge", &[H, s, nav, doc]),
                Err(Refusal::FetchSite)
            );
            assert_eq!(
                get("/objects/a/b", &[H, s, nav, doc]),
                Err(Refusal::FetchSite)
            );
            assert_eq!(post("/", &[H, OWN, s, nav, doc]), Err(Refusal::FetchSite));
        }
        assert_eq!(
            get("/pair/challenge", &[H, ("sec-fetch-site", "same-origin")]),
            Ok(())
        );
        assert_eq!(get("/", &[H, ("sec-fetch-site", "none")]), Ok(()));
        // Absolute form with another name.
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("localhost:7474"));
        let r = check(&rules(), &Method::GET, "/", Some("evil.com"), &headers);
        assert_eq!(r, Err(Refusal::Host));
    }
}
