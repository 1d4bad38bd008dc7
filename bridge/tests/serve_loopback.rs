//! The bridge's door on real sockets: who gets in, who does not, and what a page may rely on.
#![allow(clippy::unwrap_used, reason = "a test that fails shall say where")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use starling_bridge::api::{App, Bootstrap, Config};
use starling_bridge::serve::pairing::{NewGrant, signed_text};
use starling_bridge::serve::{Server, ServerConfig};
use starling_core::api::{Event, NoticeLevel};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Nothing here waits for time to pass; this only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bridge {
    dir: tempfile::TempDir,
    app: Arc<App>,
    port: u16,
    running: JoinHandle<()>,
}

impl Bridge {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dist = dir.path().join("dist");
        std::fs::create_dir(&dist).unwrap();
        std::fs::write(dist.join("index.html"), "<!doctype html><p>Starling").unwrap();
        std::fs::write(dist.join("app-0123456789abcdef.js"), "1").unwrap();
        let app = App::open(Config {
            data_dir: dir.path().into(),
            bootstrap: Bootstrap::None,
            lan_discovery: false,
        })
        .unwrap();
        let server = Server::bind(ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            public: vec!["https://chat.example.org".parse().unwrap()],
            dist: Some(dist),
        })
        .await
        .unwrap();
        let port = server.url().rsplit(':').next().unwrap().parse().unwrap();
        app.pairing.set_url(server.url());
        let running = tokio::spawn(server.run(app.clone()));
        Self {
            dir,
            app,
            port,
            running,
        }
    }

    fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    fn origin(&self) -> String {
        format!("http://{}", self.host())
    }

    fn token(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("admin.token")).unwrap()
    }

    /// A request as it is written here, with nothing added but the length and the end.
    async fn send(&self, head: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut text = format!("{head} HTTP/1.1\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let length = body.len();
        text += &format!("Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
        read.await.unwrap().unwrap();
        Answer::parse(&String::from_utf8_lossy(&answer))
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), &[("Host", &self.host())], "")
            .await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        let (host, origin) = (self.host(), self.origin());
        let headers = [
            ("Host", host.as_str()),
            ("Origin", origin.as_str()),
            ("Content-Type", "application/json"),
            ("Sec-Fetch-Site", "same-origin"),
        ];
        self.send(&format!("POST {path}"), &headers, &body.to_string())
            .await
    }

    /// A socket, or the status of the refusal.
    async fn socket(&self, headers: &[(&'static str, &str)]) -> Result<Socket, u16> {
        let url = format!("ws://{}/api", self.host());
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match connect_async(request).await {
            Ok((stream, _)) => Ok(Socket { stream }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(e) => panic!("{e}"),
        }
    }

    async fn admin(&self) -> Socket {
        let bearer = format!("Bearer {}", self.token());
        self.socket(&[("authorization", &bearer)]).await.unwrap()
    }

    /// Pairs a browser with a code and opens its session.
    async fn browser(&self, code: &str, seed: u8) -> Browser {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = URL_SAFE_NO_PAD.encode(key.verifying_key().to_bytes());
        let body = json!({"code": code, "publicKey": public, "name": "Test"});
        let paired = self.post("/pair", body).await;
        assert_eq!(paired.status, 200, "{}", paired.body);
        let grant = paired.json()["grant"].as_str().unwrap().to_owned();
        let opened = self.sign_in(&grant, &key, &self.origin()).await;
        assert_eq!(opened.status, 200, "{}", opened.body);
        let cookie = opened.headers["set-cookie"].split(';').next().unwrap();
        Browser {
            grant,
            cookie: cookie.to_owned(),
            protocols: format!(
                "starling, starling.key.{}",
                opened.json()["key"].as_str().unwrap()
            ),
        }
    }

    async fn sign_in(&self, grant: &str, key: &SigningKey, origin: &str) -> Answer {
        let challenge = self.get("/pair/challenge").await.json()["challenge"]
            .as_str()
            .unwrap()
            .to_owned();
        let signature = key.sign(signed_text(origin, &challenge).as_bytes());
        let body = json!({
            "grant": grant,
            "challenge": challenge,
            "signature": URL_SAFE_NO_PAD.encode(signature.to_bytes()),
        });
        self.post("/pair/session", body).await
    }

    async fn owner(&self) -> Browser {
        let code = self.app.pairing.new_code(NewGrant::owner(), Instant::now());
        self.browser(&code.code, 1).await
    }

    async fn page(&self, browser: &Browser) -> Result<Socket, u16> {
        let origin = self.origin();
        self.socket(&[
            ("origin", &origin),
            ("cookie", &browser.cookie),
            ("sec-websocket-protocol", &browser.protocols),
        ])
        .await
    }
}

struct Browser {
    grant: String,
    cookie: String,
    /// As a page offers them: the session's key among them.
    protocols: String,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers = lines
            .filter_map(|l| l.split_once(": "))
            .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
            .collect();
        Self {
            status: status.parse().unwrap(),
            headers,
            body: body.into(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    async fn send(&mut self, value: Value) {
        let text = Message::text(value.to_string());
        self.stream.send(text).await.unwrap();
    }

    /// The next text, or the code of the close.
    async fn next(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next());
            match next.await.unwrap() {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|f| f.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// One call; events that come in between are dropped.
    async fn call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        let id = method.len();
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        loop {
            let mut answer = self.next().await.unwrap();
            if answer["id"] == json!(id) {
                return match answer["error"]["data"]["code"].as_str() {
                    Some(code) => Err(code.to_owned()),
                    None => Ok(answer["result"].take()),
                };
            }
        }
    }

    async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }
}

fn notice(text: &str) -> Event {
    Event::BridgeNotice {
        level: NoticeLevel::Info,
        code: "test".into(),
        text: text.into(),
        account: None,
    }
}

#[tokio::test]
async fn a_wrong_host_gets_nothing() {
    let b = Bridge::start().await;
    assert_eq!(b.get("/").await.status, 200);
    for host in ["evil.example", "localhost", "localhost:1", "192.168.1.2"] {
        for path in ["/", "/api/openrpc.json", "/pair/challenge"] {
            let a = b.send(&format!("GET {path}"), &[("Host", host)], "").await;
            assert_eq!(a.status, 421, "{host}{path}");
            assert_eq!(a.code(), "not_authorised");
        }
    }
    let none = b.send("GET /", &[], "").await;
    assert_eq!(none.status, 421);
    let public = b.send("GET /", &[("Host", "chat.example.org")], "").await;
    assert_eq!(public.status, 200);
}

#[tokio::test]
async fn a_wrong_origin_gets_nothing() {
    let b = Bridge::start().await;
    let browser = b.owner().await;
    let bearer = format!("Bearer {}", b.token());
    for origin in [
        "http://evil.example",
        "null",
        "http://localhost:1",
        "http://127.0.0.1",
    ] {
        let with_cookie = [("origin", origin), ("cookie", browser.cookie.as_str())];
        assert_eq!(b.socket(&with_cookie).await.err(), Some(403), "{origin}");
        let with_token = [("origin", origin), ("authorization", bearer.as_str())];
        assert_eq!(b.socket(&with_token).await.err(), Some(403), "{origin}");
    }
    // Without an Origin a cookie is worth nothing either.
    let cookie_alone = [("cookie", browser.cookie.as_str())];
    assert_eq!(b.socket(&cookie_alone).await.err(), Some(403));
    assert!(b.page(&browser).await.is_ok());
}

#[tokio::test]
async fn without_a_session_there_is_no_socket() {
    let b = Bridge::start().await;
    let origin = b.origin();
    assert_eq!(b.socket(&[("origin", &origin)]).await.err(), Some(401));
    let name = format!("starling-{}", b.port);
    for cookie in [format!("{name}="), format!("{name}=AAAA"), "x=y".into()] {
        let headers = [("origin", origin.as_str()), ("cookie", cookie.as_str())];
        assert_eq!(b.socket(&headers).await.err(), Some(401), "{cookie}");
    }
    for token in ["Bearer ", "Bearer x", "Basic x", "x"] {
        let headers = [("authorization", token)];
        assert_eq!(b.socket(&headers).await.err(), Some(401), "{token}");
    }
    assert_eq!(b.get("/pair/session").await.status, 401);
    assert_eq!(
        b.get("/objects/a/0000000000000000000000000000000000000000")
            .await
            .status,
        401
    );
    // Without an upgrade it is no socket at all.
    assert!(b.get("/api").await.status >= 400);
}

#[tokio::test]
async fn a_code_works_once_and_a_wrong_signature_never() {
    let b = Bridge::start().await;
    let code = b.app.pairing.new_code(NewGrant::owner(), Instant::now());
    assert!(code.url.ends_with(&format!("/#pair={}", code.code)));
    let first = b.browser(&code.code, 1).await;
    let mallory = SigningKey::from_bytes(&[2; 32]);
    let public = URL_SAFE_NO_PAD.encode(mallory.verifying_key().to_bytes());
    let body = json!({"code": code.code, "publicKey": public, "name": "M"});
    let again = b.post("/pair", body).await;
    assert_eq!(
        (again.status, again.code().as_str()),
        (403, "not_authorised")
    );
    // Another key, and the right key for another bridge.
    let foreign = b.sign_in(&first.grant, &mallory, &b.origin()).await;
    assert_eq!(foreign.status, 403);
    let alice = SigningKey::from_bytes(&[1; 32]);
    let elsewhere = b.sign_in(&first.grant, &alice, "http://localhost:1").await;
    assert_eq!(elsewhere.status, 403);
    assert!(!elsewhere.headers.contains_key("set-cookie"));
    let body = json!({"grant": first.grant, "challenge": "AAAA", "signature": "AAAA"});
    assert_eq!(b.post("/pair/session", body).await.status, 401);
}

#[tokio::test]
async fn a_signature_that_is_none_is_refused_and_uses_up_its_challenge() {
    let b = Bridge::start().await;
    let grant = b.owner().await.grant;
    for none in ["", "AAAA", "not base64url!", &"A".repeat(87)] {
        let challenge = b.get("/pair/challenge").await.json()["challenge"].clone();
        let body = json!({"grant": grant, "challenge": challenge, "signature": none});
        let refused = b.post("/pair/session", body.clone()).await;
        let named = (refused.status, refused.code());
        assert_eq!(named, (400, "invalid_params".into()), "{none}");
        assert!(!refused.headers.contains_key("set-cookie"));
        assert_eq!(b.post("/pair/session", body).await.status, 401);
    }
    // That was a program's slip and no guess: nobody is slowed down.
    let key = SigningKey::from_bytes(&[1; 32]);
    let opened = b.sign_in(&grant, &key, &b.origin()).await;
    assert_eq!(opened.status, 200);
}

#[tokio::test]
async fn there_is_an_end_of_browsers_and_a_place_again_when_one_is_thrown_out() {
    let b = Bridge::start().await;
    let new = || b.app.pairing.new_code(NewGrant::owner(), Instant::now());
    let pair = async |code: &str, seed: u8| {
        let key = SigningKey::from_bytes(&[seed; 32]).verifying_key();
        let public = URL_SAFE_NO_PAD.encode(key.to_bytes());
        let body = json!({"code": code, "publicKey": public, "name": "Test"});
        b.post("/pair", body).await
    };
    for seed in 0..128 {
        assert_eq!(pair(&new().code, seed).await.status, 200, "{seed}");
    }
    let code = new().code;
    let refused = pair(&code, 200).await;
    assert_eq!((refused.status, refused.code()), (429, "too_many".into()));
    assert!(
        refused.body.contains("Revoke one first"),
        "{}",
        refused.body
    );
    let stored = std::fs::read_to_string(b.dir.path().join("grants.json")).unwrap();
    assert_eq!(stored.matches("publicKey").count(), 128);
    let mut admin = b.admin().await;
    let list = admin.call("pairing.list", json!({})).await.unwrap();
    let gone = json!({"grant": list[0]["id"]});
    admin.call("pairing.revoke", gone).await.unwrap();
    // The code was not used up.
    assert_eq!(pair(&code, 200).await.status, 200);
}

#[tokio::test]
async fn bodies_of_pairing_are_small_and_json() {
    let b = Bridge::start().await;
    let large = b.post("/pair", json!({"code": "x".repeat(5000)})).await;
    assert_eq!(large.status, 413);
    assert_eq!(b.post("/pair", json!({"code": 7})).await.status, 400);
    let (host, origin) = (b.host(), b.origin());
    let form = [
        ("Host", host.as_str()),
        ("Origin", origin.as_str()),
        ("Content-Type", "text/plain"),
    ];
    assert_eq!(b.send("POST /pair", &form, "{}").await.status, 415);
}

#[tokio::test]
async fn a_session_cookie_is_for_the_browser_alone_and_ends_with_logout() {
    let b = Bridge::start().await;
    let code = b.app.pairing.new_code(NewGrant::owner(), Instant::now());
    let browser = b.browser(&code.code, 1).await;
    let key = SigningKey::from_bytes(&[1; 32]);
    let cookie = b.sign_in(&browser.grant, &key, &b.origin()).await.headers["set-cookie"].clone();
    assert!(
        cookie.starts_with(&format!("starling-{}=", b.port)),
        "{cookie}"
    );
    for word in [
        "; HttpOnly",
        "; SameSite=Strict",
        "; Path=/",
        "; Max-Age=43200",
    ] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let (host, origin) = (b.host(), b.origin());
    let key = browser.protocols.rsplit('.').next().unwrap();
    let headers = [
        ("Host", host.as_str()),
        ("Origin", origin.as_str()),
        ("Cookie", browser.cookie.as_str()),
        ("X-Starling-Key", key),
    ];
    // Whoever listens at another port of localhost is sent the cookie, and nothing comes of it.
    let stolen = &headers[..3];
    assert_eq!(b.send("GET /pair/session", stolen, "").await.status, 401);
    let objects = "GET /objects/a/0000000000000000000000000000000000000000";
    assert_eq!(b.send(objects, stolen, "").await.status, 401);
    let page = [("origin", origin.as_str()), ("cookie", &browser.cookie)];
    assert_eq!(b.socket(&page).await.err(), Some(401));
    assert_ne!(b.send(objects, &headers, "").await.status, 401);
    let session = b.send("GET /pair/session", &headers, "").await;
    assert_eq!(session.json()["role"], "owner");
    let mut open = b.page(&browser).await.unwrap();
    let out = b.send("POST /pair/logout", &headers, "").await;
    assert_eq!(out.status, 204);
    assert!(out.headers["clear-site-data"].contains("storage"));
    // The other tabs are out as well.
    assert_eq!(open.closed().await, Some(4001));
    assert_eq!(b.send("GET /pair/session", &headers, "").await.status, 401);
    assert_eq!(b.page(&browser).await.err(), Some(401));
}

#[tokio::test]
async fn a_viewer_reads_and_sets_nothing() {
    let b = Bridge::start().await;
    let mut owner = b.page(&b.owner().await).await.unwrap();
    let code = owner
        .call("pairing.start", json!({"role": "viewer"}))
        .await
        .unwrap();
    let viewer = b.browser(code["code"].as_str().unwrap(), 2).await;
    let mut page = b.page(&viewer).await.unwrap();
    let info = page.call("bridge.info", json!({})).await.unwrap();
    assert_eq!(info["role"], "viewer");
    for (method, params) in [
        ("account.create", json!({})),
        ("account.export", json!({"account": "a"})),
        (
            "message.send",
            json!({"account": "a", "conversation": "00".repeat(20), "body": ""}),
        ),
        ("pairing.start", json!({"role": "owner"})),
        ("pairing.list", json!({})),
        ("bridge.stop", json!({})),
        ("bridge.diagnostics", json!({})),
    ] {
        let refused = page.call(method, params).await;
        assert_eq!(refused, Err("not_authorised".into()), "{method}");
    }
    let list = owner.call("pairing.list", json!({})).await.unwrap();
    let roles: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|g| &g["role"])
        .collect();
    assert!(roles.contains(&&json!("viewer")) && roles.contains(&&json!("owner")));
}

#[tokio::test]
async fn a_kiosk_needs_to_be_told_what_it_shows() {
    let b = Bridge::start().await;
    let mut admin = b.admin().await;
    for bad in [
        json!({"role": "kiosk"}),
        json!({"role": "kiosk", "account": "a"}),
        json!({"role": "owner", "account": "a"}),
        json!({"role": "emperor"}),
    ] {
        let refused = admin.call("pairing.start", bad).await;
        assert_eq!(refused, Err("invalid_params".into()));
    }
}

#[tokio::test]
async fn a_revoked_browser_is_thrown_out_at_once() {
    let b = Bridge::start().await;
    let browser = b.owner().await;
    let mut page = b.page(&browser).await.unwrap();
    page.call("bridge.info", json!({})).await.unwrap();
    let mut admin = b.admin().await;
    let gone = json!({"grant": browser.grant});
    admin.call("pairing.revoke", gone.clone()).await.unwrap();
    assert_eq!(page.closed().await, Some(4001));
    assert_eq!(b.page(&browser).await.err(), Some(401));
    let key = SigningKey::from_bytes(&[1; 32]);
    assert_eq!(
        b.sign_in(&browser.grant, &key, &b.origin()).await.status,
        403
    );
    let again = admin.call("pairing.revoke", gone).await;
    assert_eq!(again, Err("not_found".into()));
}

#[tokio::test]
async fn a_batch_is_answered_as_a_whole_and_notifications_are_not() {
    let b = Bridge::start().await;
    let mut s = b.admin().await;
    s.send(json!([
        {"jsonrpc": "2.0", "id": "a", "method": "bridge.info"},
        {"jsonrpc": "2.0", "method": "bridge.info"},
        {"jsonrpc": "2.0", "id": 2, "method": "no.such"},
        {"id": 3},
        {"jsonrpc": "2.0", "id": 4, "method": "bridge.info", "params": [1]},
    ]))
    .await;
    let answers = s.next().await.unwrap();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 4);
    let by_id = |id: Value| answers.iter().find(|a| a["id"] == id).unwrap();
    assert_eq!(by_id(json!("a"))["result"]["name"], "starling");
    assert_eq!(by_id(json!(2))["error"]["code"], -32601);
    assert_eq!(by_id(json!(2))["error"]["data"]["code"], "unsupported");
    assert_eq!(by_id(json!(3))["error"]["data"]["code"], "invalid_request");
    assert_eq!(by_id(json!(4))["error"]["data"]["code"], "invalid_params");
    // What cannot be read is answered without an id, and the socket lives on.
    s.stream.send(Message::text("{")).await.unwrap();
    let bad = s.next().await.unwrap();
    assert_eq!(
        (&bad["id"], &bad["error"]["code"]),
        (&json!(null), &json!(-32700))
    );
    assert!(s.call("bridge.info", json!(null)).await.is_ok());
}

#[tokio::test]
async fn a_frame_above_the_limit_ends_the_socket() {
    let b = Bridge::start().await;
    let mut s = b.admin().await;
    let large = Message::text("x".repeat((1 << 20) + 1));
    let _ = s.stream.send(large).await;
    // The rest of the frame may meet a closed socket before the reason is read.
    assert!(matches!(s.closed().await, Some(1009) | None));
    let mut s = b.admin().await;
    s.stream.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(s.closed().await, Some(1003));
}

#[tokio::test]
async fn what_a_page_missed_comes_back_in_order_and_once() {
    let b = Bridge::start().await;
    let mut first = b.admin().await;
    // Answered: from now on it hears everything.
    first.call("bridge.info", json!({})).await.unwrap();
    let one = b.app.emit(notice("one"));
    let heard = first.next().await.unwrap();
    assert_eq!(heard["method"], "event");
    assert_eq!(heard["params"]["seq"], one);
    assert_eq!(heard["params"]["type"], "bridge.notice");
    drop(first);
    let two = b.app.emit(notice("two"));
    let three = b.app.emit(notice("three"));
    let mut second = b.admin().await;
    let missed = second
        .call("events.since", json!({"seq": one}))
        .await
        .unwrap();
    let numbers: Vec<u64> = missed["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [two, three]);
    assert_eq!(
        (&missed["gap"], &missed["seq"]),
        (&json!(false), &json!(three))
    );
    let four = b.app.emit(notice("four"));
    assert_eq!(second.next().await.unwrap()["params"]["seq"], four);
    let future = second
        .call("events.since", json!({"seq": four + 9}))
        .await
        .unwrap();
    assert_eq!(future["gap"], true);
}

#[tokio::test]
async fn a_slow_page_is_disconnected_and_reads_anew() {
    let b = Bridge::start().await;
    let mut slow = b.admin().await;
    let mut quick = b.admin().await;
    slow.call("bridge.info", json!({})).await.unwrap();
    quick.call("bridge.info", json!({})).await.unwrap();
    let start = b.app.events.last();
    // More than the log and the system's buffers hold together.
    let large = "x".repeat(64 << 10);
    for _ in 0..512 {
        let seq = b.app.emit(notice(&large));
        // The other one is not held up.
        assert_eq!(quick.next().await.unwrap()["params"]["seq"], seq);
    }
    assert_eq!(slow.closed().await, Some(4002));
    let mut back = b.admin().await;
    let missed = back
        .call("events.since", json!({"seq": start}))
        .await
        .unwrap();
    assert_eq!(missed["gap"], true);
    assert_eq!(missed["seq"], b.app.events.last());
}

#[tokio::test]
async fn stopping_answers_first_and_then_says_goodbye() {
    let b = Bridge::start().await;
    let mut other = b.admin().await;
    other.call("bridge.info", json!({})).await.unwrap();
    let mut s = b.admin().await;
    assert_eq!(s.call("bridge.stop", json!({})).await, Ok(Value::Null));
    assert_eq!(s.closed().await, Some(1001));
    assert_eq!(other.closed().await, Some(1001));
    tokio::time::timeout(PATIENCE, b.running)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(("127.0.0.1", b.port)).await.is_err());
}

#[tokio::test]
async fn the_page_and_its_headers() {
    let b = Bridge::start().await;
    let page = b.get("/").await;
    assert_eq!(page.body, "<!doctype html><p>Starling");
    let mut headers = page.headers.clone();
    for varies in ["date", "etag", "content-length", "connection"] {
        assert!(headers.remove(varies).is_some(), "{varies}");
    }
    let text: String = headers.iter().map(|(n, v)| format!("{n}: {v}\n")).collect();
    let expected = format!(
        "cache-control: no-cache\n\
         content-security-policy: default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; \
         style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self'; \
         connect-src 'self' ws://{}; worker-src 'self'; manifest-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'\n\
         content-type: text/html; charset=utf-8\n\
         cross-origin-opener-policy: same-origin\n\
         cross-origin-resource-policy: same-origin\n\
         permissions-policy: camera=(self), microphone=(self), display-capture=(self), \
         geolocation=(self), usb=(), payment=()\n\
         referrer-policy: no-referrer\n\
         vary: Accept-Encoding\n\
         x-content-type-options: nosniff\n\
         x-frame-options: DENY\n",
        b.host()
    );
    assert_eq!(text, expected);

    let host = b.host();
    let known = [
        ("Host", host.as_str()),
        ("If-None-Match", &page.headers["etag"]),
    ];
    assert_eq!(b.send("GET /", &known, "").await.status, 304);
    let hashed = b.get("/app-0123456789abcdef.js").await;
    assert!(hashed.headers["cache-control"].contains("immutable"));
    assert_eq!(
        hashed.headers["content-type"],
        "text/javascript; charset=utf-8"
    );
    // A place within the page is the page; a file that is not there is not.
    assert_eq!(b.get("/c/abc").await.body, page.body);
    assert_eq!(b.get("/nope.js").await.status, 404);
    for door in ["/api/x", "/pair/x", "/objects/x", "/files/a/b/c"] {
        let answer = b.get(door).await;
        assert_eq!(answer.status, 404, "{door}");
        assert!(answer.body.contains("not_found"), "{}", answer.body);
    }
    for path in [
        "/../admin.token",
        "/..%2fadmin.token",
        "//etc/passwd",
        "/dist/../admin.token",
    ] {
        let a = b.get(path).await;
        assert!(!a.body.contains(&b.token()), "{path}");
    }
    let answers = [b.get("/pair/challenge").await, b.get("/pair/session").await];
    assert!(
        answers
            .iter()
            .all(|a| a.headers["cache-control"] == "no-store")
    );
    let origin = b.origin();
    let write = [("Host", host.as_str()), ("Origin", &origin)];
    assert_eq!(b.send("POST /", &write, "").await.status, 405);
    for (head, status) in [("POST /api", 405), ("GET /api", 400)] {
        let answer = b.send(head, &write, "").await;
        assert_eq!(answer.status, status);
        assert!(answer.body.contains("invalid_request"), "{}", answer.body);
    }
}

#[tokio::test]
async fn the_api_describes_itself() {
    let b = Bridge::start().await;
    let doc = b.get("/api/openrpc.json").await.json();
    assert_eq!(doc["info"]["title"], "Starling");
    let methods = doc["methods"].as_array().unwrap();
    assert!(methods.iter().any(|m| m["name"] == "message.send"));
}

#[tokio::test]
async fn junk_on_the_line_does_no_harm() {
    let b = Bridge::start().await;
    for junk in [
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n".to_vec(),
        [
            b"GET /".to_vec(),
            vec![b'a'; 100 << 10],
            b" HTTP/1.1\r\n\r\n".to_vec(),
        ]
        .concat(),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", b.port)).await.unwrap();
        let _ = stream.write_all(&junk).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"));
    }
    assert_eq!(b.get("/").await.status, 200);
}

#[tokio::test]
async fn who_sends_half_a_request_or_reads_no_answer_makes_room_for_others() {
    let b = Bridge::start().await;
    std::fs::write(
        b.dir.path().join("dist/large-0123456789abcdef.js"),
        vec![b' '; 8 << 20],
    )
    .unwrap();
    let (host, origin) = (b.host(), b.origin());
    let head = format!(
        "POST /pair HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nSec-Fetch-Site: same-origin\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    let unread = format!("GET /large-0123456789abcdef.js HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for kind in [&head[..40], &head, &unread] {
        // As many as there may be.
        let mut idle = Vec::new();
        for _ in 0..256 {
            let mut stream = TcpStream::connect(("127.0.0.1", b.port)).await.unwrap();
            stream.write_all(kind.as_bytes()).await.unwrap();
            idle.push(stream);
        }
        let mut answer = std::pin::pin!(b.get("/"));
        tokio::time::pause();
        let (begun, mut passed) = (Instant::now(), Duration::ZERO);
        let status = loop {
            tokio::select! {
                biased;
                answer = answer.as_mut() => break answer.status,
                () = tokio::task::yield_now() => {}
            }
            // Not so fast that the system has no time to pass on what is sent.
            if passed < Duration::from_secs(45) && passed < begun.elapsed() * 100 {
                let step = Duration::from_millis(100);
                tokio::time::advance(step).await;
                passed += step;
            }
            assert!(begun.elapsed() < PATIENCE, "after {passed:?}");
        };
        tokio::time::resume();
        assert_eq!(status, 200);
        println!("after {passed:?}");
        assert!(passed > Duration::from_secs(5), "they were not waited for");
    }
}
