//! Nodes of the reference, Debian's `dhtnode` and the Python wheel `opendht`, and ours, asked alike.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use serde_json::{Value as Json, json};
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::{Dht, DhtConfig, PutOptions, SecureDht, SecureListen, Unopened};
use starling_core::crypto::{Crypto, PrivateKey};
use starling_core::dht::envelope;
use starling_core::dht::node::Refusals;
use starling_core::dht::{Value, types};
use starling_core::id::{DeviceId, DeviceShortId, InfoHash};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Mutex, broadcast};
use tokio::time::timeout;

/// Nothing of what is awaited here takes this long on an idle machine; a busy one gets its time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A free UDP port for a program that wants to be told one.
pub fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A program with lines in and lines out.
pub struct Program {
    _child: Child,
    pub stdin: Mutex<ChildStdin>,
    pub lines: broadcast::Sender<String>,
}

impl Program {
    pub fn start(mut command: Command) -> std::io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let (lines, _) = broadcast::channel(4096);
        let tell = lines.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = out.next_line().await {
                let _ = tell.send(line);
            }
        });
        Ok(Self {
            _child: child,
            stdin: Mutex::new(stdin),
            lines,
        })
    }

    pub async fn say(&self, line: &str) {
        let mut stdin = self.stdin.lock().await;
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        stdin.flush().await.unwrap();
    }
}

/// Waits for a line that satisfies.
pub async fn wait<T>(
    lines: &mut broadcast::Receiver<String>,
    what: &str,
    mut is: impl FnMut(&str) -> Option<T>,
) -> T {
    let found = timeout(PATIENCE, async {
        loop {
            let line = lines.recv().await.expect("the program goes on");
            if let Some(found) = is(&line) {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("no {what}"))
}

/// What a node found: the text, and who signed it.
pub type Found = BTreeSet<String>;

pub enum Peer {
    Ours(Ours),
    Debian(Debian),
    Wheel(Wheel),
}

pub struct Ours {
    pub name: String,
    pub secure: SecureDht,
}

pub struct Debian {
    pub name: String,
    pub program: Program,
    pub port: u16,
    pub id: String,
    /// Its prompt is one: one question at a time.
    pub turn: Mutex<()>,
}

pub struct Wheel {
    pub name: String,
    pub program: Program,
    pub port: u16,
    pub id: String,
    pub long_id: String,
    pub next: AtomicU64,
}

fn plain(text: &str) -> Value {
    Value::new(types::USER_DATA, text.into()).with_user_type("text/plain")
}

/// The text of a value as `dhtnode` prints it.
pub fn printed(line: &str) -> Option<String> {
    // Its prompt is printed by another thread, anywhere between the words.
    let (_, rest) = line.trim().split_once("Value[")?;
    let (_, text) = rest.split_once("):\"")?;
    Some(text.strip_suffix("\"]")?.to_owned())
}

impl Debian {
    pub async fn start(name: &str, bootstrap: Option<u16>, identity: bool) -> Option<Self> {
        let port = free_port();
        let mut command = Command::new("dhtnode");
        command.arg("-p").arg(port.to_string());
        if identity {
            command.arg("-i");
        }
        if let Some(b) = bootstrap {
            command.arg("-b").arg(format!("127.0.0.1:{b}"));
        }
        let program = Program::start(command).ok()?;
        let mut lines = program.lines.subscribe();
        let mut id = String::new();
        if identity {
            id = wait(&mut lines, "dhtnode's key", |l| {
                l.strip_prefix("Public key ID ")
                    .map(|i| i.trim().to_owned())
            })
            .await;
        } else {
            wait(&mut lines, "dhtnode", |l| {
                l.contains("running on port").then_some(())
            })
            .await;
        }
        Some(Self {
            name: name.to_owned(),
            program,
            port,
            id,
            turn: Mutex::new(()),
        })
    }

    pub async fn put(&self, command: &str) -> bool {
        let _turn = self.turn.lock().await;
        let mut lines = self.program.lines.subscribe();
        self.program.say(command).await;
        wait(
            &mut lines,
            &format!("answer of {} to {command}", self.name),
            |l| {
                let l = l.trim_start_matches(">> ");
                (l.starts_with("Put") && l.contains(": ")).then(|| l.contains("success"))
            },
        )
        .await
    }

    pub async fn get(&self, key: &InfoHash) -> Found {
        let _turn = self.turn.lock().await;
        let mut lines = self.program.lines.subscribe();
        self.program.say(&format!("g {key}")).await;
        let mut found = Found::new();
        wait(
            &mut lines,
            &format!("answer of {} to get", self.name),
            |l| {
                found.extend(printed(l));
                l.contains("Get: completed")
                    .then_some(())
                    .or_else(|| l.contains("Get: failure").then_some(()))
            },
        )
        .await;
        found
    }
}

impl Wheel {
    pub async fn start(name: &str, bootstrap: Option<u16>) -> Option<Self> {
        let bootstrap = bootstrap.map(|b| format!("127.0.0.1:{b}"));
        Self::start_at(name, bootstrap).await
    }

    /// The same by a node whose address is written as `::1:4222` where it is one of IPv6.
    pub async fn start_at(name: &str, bootstrap: Option<String>) -> Option<Self> {
        let port = free_port();
        let mut command = Command::new("python3");
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/dht_peer.py"))
            .arg(port.to_string());
        if let Some(b) = bootstrap {
            command.arg(b);
        }
        let program = Program::start(command).ok()?;
        let mut lines = program.lines.subscribe();
        let ready: Json = wait(&mut lines, "the wheel", |l| serde_json::from_str(l).ok()).await;
        if !ready["missing"].is_null() {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            program,
            port,
            id: ready["id"].as_str()?.to_owned(),
            long_id: ready["long_id"].as_str()?.to_owned(),
            next: AtomicU64::new(1),
        })
    }

    /// Puts a text as `request` says.
    pub async fn put(&self, mut request: Json, text: &str) -> bool {
        request["data"] = hex::encode(text).into();
        request["user_type"] = "text/plain".into();
        self.ask(request).await["ok"] == true
    }

    pub async fn ask(&self, mut request: Json) -> Json {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        request["n"] = n.into();
        let mut lines = self.program.lines.subscribe();
        self.program.say(&request.to_string()).await;
        wait(
            &mut lines,
            &format!("answer of {} to {request}", self.name),
            |l| {
                let j: Json = serde_json::from_str(l).ok()?;
                (j["n"] == n).then_some(j)
            },
        )
        .await
    }
}

impl Wheel {
    /// How many values of a key it stores itself.
    pub async fn stores(&self, key: &InfoHash) -> u64 {
        let answer = self.ask(json!({"do": "stored", "key": key})).await;
        answer["values"].as_u64().unwrap()
    }

    /// Waits until it stores nothing at a key any more. It does not tell: it has to be asked.
    pub async fn forgets(&self, key: &InfoHash) {
        let gone = timeout(PATIENCE, async {
            while self.stores(key).await > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        gone.await
            .unwrap_or_else(|_| panic!("{} does not forget", self.name));
    }
}

pub fn text_of(j: &Json) -> String {
    let bytes = hex::decode(j["data"].as_str().unwrap()).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn ours_text(v: &Value) -> String {
    String::from_utf8_lossy(v.data()).into_owned()
}

/// A listen of any kind: texts as they come.
pub enum Ear {
    Ours(SecureListen),
    Lines(broadcast::Receiver<String>, Option<u64>),
}

impl Ear {
    /// The next values, and whether they are gone. `None`: something else was said.
    async fn next(&mut self) -> Option<(Vec<String>, bool)> {
        match self {
            Self::Ours(l) => {
                let event = l.next().await.expect("our node runs");
                Some((event.values.iter().map(ours_text).collect(), event.expired))
            }
            Self::Lines(lines, None) => {
                let line = lines.recv().await.expect("dhtnode runs");
                // What it prints of the end of a value is not read.
                Some((vec![printed(&line)?], false))
            }
            Self::Lines(lines, Some(n)) => {
                let line = lines.recv().await.expect("the wheel runs");
                let j: Json = serde_json::from_str(&line).ok()?;
                let gone = j["expired"].as_bool()?;
                (j["listen"] == *n).then(|| (vec![text_of(&j["value"])], gone))
            }
        }
    }

    /// Waits until it is told that a value, and that one alone, is gone.
    pub async fn hears_the_end(&mut self, who: &str, text: &str) {
        let heard = async {
            loop {
                if let Some((texts, true)) = self.next().await {
                    assert_eq!(texts, [text], "{who}");
                    return;
                }
            }
        };
        timeout(PATIENCE, heard)
            .await
            .unwrap_or_else(|_| panic!("{who} does not hear that {text:?} is gone"));
    }

    /// Waits for a value. Until then nothing else may be gone: no value lives for less than the test.
    pub async fn hears(&mut self, who: &str, text: &str) {
        let heard = async {
            loop {
                let Some((texts, gone)) = self.next().await else {
                    continue;
                };
                assert!(!gone, "{who} is told that {texts:?} is gone");
                if texts.iter().any(|t| t == text) {
                    return;
                }
            }
        };
        timeout(PATIENCE, heard)
            .await
            .unwrap_or_else(|_| panic!("{who} does not hear {text:?}"));
    }
}

impl Peer {
    pub fn name(&self) -> &str {
        match self {
            Self::Ours(p) => &p.name,
            Self::Debian(p) => &p.name,
            Self::Wheel(p) => &p.name,
        }
    }

    pub fn port(&self) -> u16 {
        match self {
            Self::Ours(p) => p.secure.dht().ports().0,
            Self::Debian(p) => p.port,
            Self::Wheel(p) => p.port,
        }
    }

    pub async fn put(&self, key: &InfoHash, text: &str) {
        let ok = match self {
            Self::Ours(p) => p
                .secure
                .dht()
                .put(*key, plain(text), PutOptions::default())
                .await
                .is_ok(),
            Self::Debian(p) => p.put(&format!("p {key} {text}")).await,
            Self::Wheel(p) => p.put(json!({"do": "put", "key": key}), text).await,
        };
        assert!(ok, "{} cannot put", self.name());
    }

    pub async fn put_signed(&self, key: &InfoHash, text: &str) {
        let ok = match self {
            Self::Ours(p) => p
                .secure
                .put_signed(*key, plain(text), PutOptions::default())
                .await
                .is_ok(),
            Self::Debian(p) => p.put(&format!("s {key} {text}")).await,
            Self::Wheel(p) => p.put(json!({"do": "put_signed", "key": key}), text).await,
        };
        assert!(ok, "{} cannot put a signed value", self.name());
    }

    pub async fn put_encrypted(&self, key: &InfoHash, to: &Peer, text: &str) {
        let ok = match self {
            Self::Ours(p) => {
                let spki = to.found_by(p.secure.dht()).await;
                p.secure
                    .put_encrypted(*key, &spki, plain(text), PutOptions::default())
                    .await
                    .is_ok()
            }
            Self::Debian(p) => p.put(&format!("e {key} {} {text}", to.short_id())).await,
            Self::Wheel(p) => {
                let r = json!({"do": "put_encrypted", "key": key, "to": to.long_id()});
                p.put(r, text).await
            }
        };
        assert!(ok, "{} cannot encrypt to {}", self.name(), to.name());
    }

    pub fn short_id(&self) -> String {
        match self {
            Self::Ours(p) => p.secure.short_id().to_hex(),
            Self::Debian(p) => p.id.clone(),
            Self::Wheel(p) => p.id.clone(),
        }
    }

    pub fn long_id(&self) -> String {
        match self {
            Self::Ours(p) => p.secure.id().to_hex(),
            Self::Wheel(p) => p.long_id.clone(),
            Self::Debian(_) => panic!("old nodes do not tell it"),
        }
    }

    /// The peer's public key as one of our nodes finds it in the DHT.
    pub async fn found_by(&self, dht: &Dht) -> Vec<u8> {
        let chain = match self {
            Self::Ours(p) => dht.find_certificate(&p.secure.id(), |_| true).await,
            Self::Debian(p) => {
                let id: DeviceShortId = p.id.parse().unwrap();
                dht.find_certificate_short(&id, |_| true).await
            }
            Self::Wheel(p) => {
                let id: DeviceId = p.long_id.parse().unwrap();
                dht.find_certificate(&id, |_| true).await
            }
        };
        let chain =
            chain.unwrap_or_else(|| panic!("the certificate of {} is not found", self.name()));
        envelope::spki_of_certificate(&chain[0]).unwrap()
    }

    pub async fn get(&self, key: &InfoHash) -> Found {
        match self {
            Self::Ours(p) => p.secure.get(*key).await.iter().map(ours_text).collect(),
            Self::Debian(p) => p.get(key).await,
            Self::Wheel(p) => {
                let answer = p.ask(json!({"do": "get", "key": key})).await;
                answer["values"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(text_of)
                    .collect()
            }
        }
    }

    pub async fn listen(&self, key: &InfoHash) -> Ear {
        match self {
            Self::Ours(p) => Ear::Ours(p.secure.listen(*key)),
            Self::Debian(p) => {
                let _turn = p.turn.lock().await;
                let ear = p.program.lines.subscribe();
                let mut lines = p.program.lines.subscribe();
                p.program.say(&format!("l {key}")).await;
                wait(&mut lines, "dhtnode's listen", |l| {
                    l.contains("Listening, token").then_some(())
                })
                .await;
                Ear::Lines(ear, None)
            }
            Self::Wheel(p) => {
                let ear = p.program.lines.subscribe();
                let answer = p.ask(json!({"do": "listen", "key": key})).await;
                Ear::Lines(ear, answer["n"].as_u64())
            }
        }
    }
}

pub fn identity(name: &str) -> (Arc<dyn PrivateKey>, &'static str) {
    let (key, chain) = match name {
        "alice" => (
            include_str!("../../../core/tests/data/dht/identities/alice-device.pem"),
            include_str!("../../../core/tests/data/dht/identities/alice-device.crt"),
        ),
        "bob" => (
            include_str!("../../../core/tests/data/dht/identities/bob.pem"),
            include_str!("../../../core/tests/data/dht/identities/bob.crt"),
        ),
        _ => (
            include_str!("../../../core/tests/data/dht/identities/carol4096.pem"),
            include_str!("../../../core/tests/data/dht/identities/carol4096.crt"),
        ),
    };
    let base64: String = key.lines().filter(|l| !l.starts_with("-----")).collect();
    use base64::Engine as _;
    let der = base64::engine::general_purpose::STANDARD
        .decode(base64)
        .unwrap();
    (Arc::from(AwsLc.read_private_key(&der).unwrap()), chain)
}

pub async fn ours(name: &str, bootstrap: Option<u16>) -> Ours {
    let config = DhtConfig {
        bind_v4: Some(Ipv4Addr::LOCALHOST),
        bind_v6: None,
        ..DhtConfig::default()
    };
    ours_with(name, config, bootstrap.map(|p| format!("127.0.0.1:{p}")))
}

/// One of ours that puts what is to stay again after so short a time.
pub fn ours_that_renews(name: &str, after: Duration, bootstrap: u16) -> Ours {
    let config = DhtConfig {
        bind_v4: Some(Ipv4Addr::LOCALHOST),
        bind_v6: None,
        reannounce: after,
        ..DhtConfig::default()
    };
    ours_with(name, config, Some(format!("127.0.0.1:{bootstrap}")))
}

/// One of ours that has IPv6 and nothing else.
pub fn ours_by_ipv6(name: &str, bootstrap: Option<u16>) -> Ours {
    let config = DhtConfig {
        bind_v4: None,
        bind_v6: Some(Ipv6Addr::LOCALHOST),
        ..DhtConfig::default()
    };
    ours_with(name, config, bootstrap.map(|p| format!("[::1]:{p}")))
}

fn ours_with(name: &str, mut config: DhtConfig, bootstrap: Option<String>) -> Ours {
    config.bootstrap = bootstrap.iter().map(|b| b.parse().unwrap()).collect();
    let dht = Dht::start(config, Arc::new(AwsLc)).unwrap();
    let who = name.split('-').next().unwrap();
    let (key, _) = identity(who);
    Ours {
        name: format!("our {name}"),
        secure: SecureDht::new(dht, Arc::new(AwsLc), key),
    }
}

impl Ours {
    /// Waits until somebody answers.
    pub async fn joins(&self) {
        let joined = timeout(PATIENCE, self.secure.dht().connected()).await;
        assert!(joined.unwrap_or(false), "{} does not join", self.name);
    }

    /// Nothing that anybody sent was thrown away, and nobody answered with an error.
    pub async fn refused_nothing(&self) {
        let refused = self.secure.dht().usage().await.refused;
        assert_eq!(refused, Refusals::default(), "{}: {refused}", self.name);
        let unopened = self.secure.unopened();
        assert_eq!(unopened, Unopened::default(), "{}", self.name);
    }
}

pub fn key(text: &str) -> InfoHash {
    InfoHash::of(text.as_bytes())
}
