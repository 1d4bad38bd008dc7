//! Our nodes together with the reference's: Debian's `dhtnode` (OpenDHT 2.4) and the Python wheel
//! `opendht` (4.x), all on loopback. What is not installed is skipped, with the reason printed.
#![allow(clippy::unwrap_used)]

mod skip_support;

use serde_json::{Value as Json, json};
use skip_support::skip;
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::{Dht, DhtConfig, PutOptions, SecureDht};
use starling_core::crypto::{Crypto, PrivateKey};
use starling_core::dht::envelope;
use starling_core::dht::node::Refusals;
use starling_core::dht::{Value, types};
use starling_core::id::{DeviceId, DeviceShortId, InfoHash};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Mutex, broadcast};
use tokio::time::timeout;

/// Nothing of what is awaited here takes this long on an idle machine; a busy one gets its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A free UDP port for a program that wants to be told one.
fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A program with lines in and lines out.
struct Program {
    _child: Child,
    stdin: Mutex<ChildStdin>,
    lines: broadcast::Sender<String>,
}

impl Program {
    fn start(mut command: Command) -> std::io::Result<Self> {
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

    async fn say(&self, line: &str) {
        let mut stdin = self.stdin.lock().await;
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        stdin.flush().await.unwrap();
    }
}

/// Waits for a line that satisfies.
async fn wait<T>(
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
type Found = BTreeSet<String>;

enum Peer {
    Ours(Ours),
    Debian(Debian),
    Wheel(Wheel),
}

struct Ours {
    name: String,
    secure: SecureDht,
}

struct Debian {
    name: String,
    program: Program,
    port: u16,
    id: String,
    /// Its prompt is one: one question at a time.
    turn: Mutex<()>,
}

struct Wheel {
    name: String,
    program: Program,
    port: u16,
    id: String,
    long_id: String,
    next: AtomicU64,
}

/// The text of a value as `dhtnode` prints it.
fn printed(line: &str) -> Option<String> {
    // Its prompt is printed by another thread, anywhere between the words.
    let (_, rest) = line.trim().split_once("Value[")?;
    let (_, text) = rest.split_once("):\"")?;
    Some(text.strip_suffix("\"]")?.to_owned())
}

impl Debian {
    async fn start(name: &str, bootstrap: Option<u16>, identity: bool) -> Option<Self> {
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

    async fn put(&self, command: &str) -> bool {
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

    async fn get(&self, key: &InfoHash) -> Found {
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
    async fn start(name: &str, bootstrap: Option<u16>) -> Option<Self> {
        let port = free_port();
        let mut command = Command::new("python3");
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/dht_peer.py"))
            .arg(port.to_string());
        if let Some(b) = bootstrap {
            command.arg(format!("127.0.0.1:{b}"));
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

    async fn ask(&self, mut request: Json) -> Json {
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

fn text_of(j: &Json) -> String {
    let bytes = hex::decode(j["data"].as_str().unwrap()).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ours_text(v: &Value) -> String {
    String::from_utf8_lossy(v.data()).into_owned()
}

/// A listen of any kind: texts as they come.
enum Ear {
    Ours(starling_bridge::dht::SecureListen),
    Lines(broadcast::Receiver<String>, Option<u64>),
}

impl Ear {
    async fn hears(&mut self, who: &str, text: &str) {
        let heard = async {
            loop {
                match self {
                    Self::Ours(l) => {
                        let event = l.next().await.expect("our node runs");
                        if !event.expired && event.values.iter().any(|v| ours_text(v) == text) {
                            return;
                        }
                    }
                    Self::Lines(lines, None) => {
                        let line = lines.recv().await.expect("dhtnode runs");
                        if printed(&line).as_deref() == Some(text) {
                            return;
                        }
                    }
                    Self::Lines(lines, Some(n)) => {
                        let line = lines.recv().await.expect("the wheel runs");
                        let Ok(j) = serde_json::from_str::<Json>(&line) else {
                            continue;
                        };
                        if j["listen"] == *n
                            && j["expired"] == false
                            && text_of(&j["value"]) == text
                        {
                            return;
                        }
                    }
                }
            }
        };
        timeout(PATIENCE, heard)
            .await
            .unwrap_or_else(|_| panic!("{who} does not hear {text:?}"));
    }
}

impl Peer {
    fn name(&self) -> &str {
        match self {
            Self::Ours(p) => &p.name,
            Self::Debian(p) => &p.name,
            Self::Wheel(p) => &p.name,
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Ours(p) => p.secure.dht().ports().0,
            Self::Debian(p) => p.port,
            Self::Wheel(p) => p.port,
        }
    }

    async fn put(&self, key: &InfoHash, text: &str) {
        let ok = match self {
            Self::Ours(p) => {
                let value = Value::new(types::USER_DATA, text.into()).with_user_type("text/plain");
                p.secure
                    .dht()
                    .put(*key, value, PutOptions::default())
                    .await
                    .is_ok()
            }
            Self::Debian(p) => p.put(&format!("p {key} {text}")).await,
            Self::Wheel(p) => {
                let data = hex::encode(text);
                let r = json!({"do": "put", "key": key, "data": data, "user_type": "text/plain"});
                p.ask(r).await["ok"] == true
            }
        };
        assert!(ok, "{} cannot put", self.name());
    }

    async fn put_signed(&self, key: &InfoHash, text: &str) {
        let ok = match self {
            Self::Ours(p) => {
                let value = Value::new(types::USER_DATA, text.into()).with_user_type("text/plain");
                p.secure
                    .put_signed(*key, value, PutOptions::default())
                    .await
                    .is_ok()
            }
            Self::Debian(p) => p.put(&format!("s {key} {text}")).await,
            Self::Wheel(p) => {
                let data = hex::encode(text);
                let r = json!({"do": "put_signed", "key": key, "data": data, "user_type": "text/plain"});
                p.ask(r).await["ok"] == true
            }
        };
        assert!(ok, "{} cannot put a signed value", self.name());
    }

    async fn put_encrypted(&self, key: &InfoHash, to: &Peer, text: &str) {
        let ok = match self {
            Self::Ours(p) => {
                let spki = to.found_by(p.secure.dht()).await;
                let value = Value::new(types::USER_DATA, text.into()).with_user_type("text/plain");
                p.secure
                    .put_encrypted(*key, &spki, value, PutOptions::default())
                    .await
                    .is_ok()
            }
            Self::Debian(p) => p.put(&format!("e {key} {} {text}", to.short_id())).await,
            Self::Wheel(p) => {
                let data = hex::encode(text);
                let r = json!({"do": "put_encrypted", "key": key, "data": data,
                    "to": to.long_id(), "user_type": "text/plain"});
                p.ask(r).await["ok"] == true
            }
        };
        assert!(ok, "{} cannot encrypt to {}", self.name(), to.name());
    }

    fn short_id(&self) -> String {
        match self {
            Self::Ours(p) => p.secure.short_id().to_hex(),
            Self::Debian(p) => p.id.clone(),
            Self::Wheel(p) => p.id.clone(),
        }
    }

    fn long_id(&self) -> String {
        match self {
            Self::Ours(p) => p.secure.id().to_hex(),
            Self::Wheel(p) => p.long_id.clone(),
            Self::Debian(_) => panic!("old nodes do not tell it"),
        }
    }

    /// The peer's public key as one of our nodes finds it in the DHT.
    async fn found_by(&self, dht: &Dht) -> Vec<u8> {
        let chain = match self {
            Self::Ours(p) => dht.find_certificate(&p.secure.id()).await,
            Self::Debian(p) => {
                let id: DeviceShortId = p.id.parse().unwrap();
                dht.find_certificate_short(&id).await
            }
            Self::Wheel(p) => {
                let id: DeviceId = p.long_id.parse().unwrap();
                dht.find_certificate(&id).await
            }
        };
        let chain =
            chain.unwrap_or_else(|| panic!("the certificate of {} is not found", self.name()));
        envelope::spki_of_certificate(&chain[0]).unwrap()
    }

    async fn get(&self, key: &InfoHash) -> Found {
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

    async fn listen(&self, key: &InfoHash) -> Ear {
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

fn identity(name: &str) -> (Arc<dyn PrivateKey>, &'static str) {
    let (key, chain) = match name {
        "alice" => (
            include_str!("../../core/tests/data/dht/identities/alice-device.pem"),
            include_str!("../../core/tests/data/dht/identities/alice-device.crt"),
        ),
        "bob" => (
            include_str!("../../core/tests/data/dht/identities/bob.pem"),
            include_str!("../../core/tests/data/dht/identities/bob.crt"),
        ),
        _ => (
            include_str!("../../core/tests/data/dht/identities/carol4096.pem"),
            include_str!("../../core/tests/data/dht/identities/carol4096.crt"),
        ),
    };
    let base64: String = key.lines().filter(|l| !l.starts_with("-----")).collect();
    use base64::Engine as _;
    let der = base64::engine::general_purpose::STANDARD
        .decode(base64)
        .unwrap();
    (Arc::from(AwsLc.read_private_key(&der).unwrap()), chain)
}

async fn ours(name: &str, bootstrap: Option<u16>) -> Ours {
    let config = DhtConfig {
        bind_v4: Some(Ipv4Addr::LOCALHOST),
        bind_v6: None,
        bootstrap: bootstrap
            .map(|p| format!("127.0.0.1:{p}").parse().unwrap())
            .into_iter()
            .collect(),
        ..DhtConfig::default()
    };
    let dht = Dht::start(config, Arc::new(AwsLc)).unwrap();
    let who = name.split('-').next().unwrap();
    let (key, _) = identity(who);
    Ours {
        name: format!("our {name}"),
        secure: SecureDht::new(dht, Arc::new(AwsLc), key),
    }
}

fn key(text: &str) -> InfoHash {
    InfoHash::of(text.as_bytes())
}

/// Everything crosses between two nodes.
async fn two_nodes(a: &Peer, b: &Peer) {
    for (from, to) in [(a, b), (b, a)] {
        let label = format!("{} to {}", from.name(), to.name()).replace(' ', "-");
        let k = key(&label);
        let mut ear = to.listen(&k).await;
        from.put(&k, &format!("plain-{label}")).await;
        ear.hears(to.name(), &format!("plain-{label}")).await;
        let found = to.get(&k).await;
        assert!(
            found.contains(&format!("plain-{label}")),
            "{} finds {found:?}",
            to.name()
        );

        // Too large for one datagram: it goes in parts.
        let large = format!("large-{label}-{}", "x".repeat(3000));
        from.put(&k, &large).await;
        ear.hears(to.name(), &large).await;
        let found = to.get(&k).await;
        assert!(found.contains(&large), "{} finds no large value", to.name());

        from.put_signed(&k, &format!("signed-{label}")).await;
        ear.hears(to.name(), &format!("signed-{label}")).await;
        let found = to.get(&k).await;
        assert!(
            found.contains(&format!("signed-{label}")),
            "{} finds {found:?}",
            to.name()
        );

        from.put_encrypted(&k, to, &format!("secret-{label}")).await;
        ear.hears(to.name(), &format!("secret-{label}")).await;
        let found = to.get(&k).await;
        assert!(
            found.contains(&format!("secret-{label}")),
            "{} finds {found:?}",
            to.name()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_ours() {
    let alice = ours("alice", None).await;
    let port = alice.secure.dht().ports().0;
    let bob = ours("bob", Some(port)).await;
    assert!(
        timeout(PATIENCE, bob.secure.dht().connected())
            .await
            .unwrap()
    );
    assert!(
        timeout(PATIENCE, alice.secure.dht().connected())
            .await
            .unwrap()
    );
    let _a = alice
        .secure
        .announce_certificate(identity("alice").1)
        .await
        .unwrap();
    let _b = bob
        .secure
        .announce_certificate(identity("bob").1)
        .await
        .unwrap();
    two_nodes(&Peer::Ours(alice), &Peer::Ours(bob)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_and_debians() {
    let Some(debian) = Debian::start("dhtnode", None, true).await else {
        return skip("dhtnode is not installed");
    };
    let alice = ours("alice", Some(debian.port)).await;
    assert!(
        timeout(PATIENCE, alice.secure.dht().connected())
            .await
            .unwrap()
    );
    let _a = alice
        .secure
        .announce_certificate(identity("alice").1)
        .await
        .unwrap();
    two_nodes(&Peer::Ours(alice), &Peer::Debian(debian)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_and_the_current_one() {
    let alice = ours("alice", None).await;
    let port = alice.secure.dht().ports().0;
    let Some(wheel) = Wheel::start("wheel", Some(port)).await else {
        return skip("the Python package opendht is not installed");
    };
    assert!(
        timeout(PATIENCE, alice.secure.dht().connected())
            .await
            .unwrap()
    );
    let _a = alice
        .secure
        .announce_certificate(identity("alice").1)
        .await
        .unwrap();
    two_nodes(&Peer::Ours(alice), &Peer::Wheel(wheel)).await;
}

/// Sixteen nodes, a third of each kind: whatever anyone puts, everyone finds; whoever listens, hears.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_mixed() {
    let mut peers = vec![Peer::Ours(ours("alice", None).await)];
    let port = peers[0].port();
    let mut handles = Vec::new();
    for i in 0..5 {
        let who = ["bob", "carol", "alice", "bob", "carol"][i];
        peers.push(Peer::Ours(ours(&format!("{who}-{i}"), Some(port)).await));
        // 4096-bit keys take their time: two of the old nodes get one, and sign.
        match Debian::start(&format!("dhtnode {i}"), Some(port), i < 2).await {
            Some(d) => peers.push(Peer::Debian(d)),
            None => return skip("dhtnode is not installed"),
        }
        match Wheel::start(&format!("wheel {i}"), Some(port)).await {
            Some(w) => peers.push(Peer::Wheel(w)),
            None => return skip("the Python package opendht is not installed"),
        }
    }
    assert_eq!(peers.len(), 16);
    for p in &peers {
        if let Peer::Ours(o) = p {
            assert!(timeout(PATIENCE, o.secure.dht().connected()).await.unwrap());
        }
    }
    for (i, who) in [(0, "alice"), (1, "bob")] {
        let Peer::Ours(o) = &peers[i] else { continue };
        handles.push(
            o.secure
                .announce_certificate(identity(who).1)
                .await
                .unwrap(),
        );
    }

    // The others do not say when they have joined; they have once they find something.
    let joined = key("joined");
    peers[0].put(&joined, "joined").await;
    for p in &peers {
        let found = timeout(PATIENCE, async {
            while !p.get(&joined).await.contains("joined") {
                tokio::task::yield_now().await;
            }
        });
        found
            .await
            .unwrap_or_else(|_| panic!("{} does not join", p.name()));
    }

    // One key where everyone listens.
    let everywhere = key("everywhere");
    let mut ears = Vec::new();
    for p in &peers {
        ears.push(p.listen(&everywhere).await);
    }
    let mut refused = Vec::new();
    for (i, from) in peers.iter().enumerate() {
        let k = key(&format!("of {i}"));
        let text = format!("word-of-{}", from.name().replace(' ', "-"));
        from.put(&k, &text).await;
        for to in &peers {
            if !to.get(&k).await.contains(&text) {
                refused.push(format!("{} does not find {text}", to.name()));
            }
        }
        from.put(&everywhere, &text).await;
        for (to, ear) in peers.iter().zip(&mut ears) {
            ear.hears(to.name(), &text).await;
        }
    }
    assert_eq!(refused, Vec::<String>::new());
    // Signed and encrypted, between one of each kind.
    two_nodes(&peers[0], &peers[2]).await;
    two_nodes(&peers[1], &peers[3]).await;
    // Nothing that anybody sent us was thrown away, and nobody answered us with an error.
    for p in &peers {
        if let Peer::Ours(o) = p {
            let refused = o.secure.dht().usage().await.refused;
            assert_eq!(refused, Refusals::default(), "{}", o.name);
            assert_eq!(o.secure.unopened(), 0, "{}", o.name);
        }
    }
}

/// Nodes that know nobody find each other in the local network.
#[tokio::test(flavor = "multi_thread")]
async fn the_local_network_is_common() {
    // A network of this test alone: others may run beside it.
    let network_id = 70_000 + u32::from(std::process::id() as u16);
    let config = DhtConfig {
        network_id,
        lan_discovery: true,
        ..DhtConfig::default()
    };
    let dht = Dht::start(config, Arc::new(AwsLc)).unwrap();
    let mut command = Command::new("dhtnode");
    command.args([
        "-D",
        "-p",
        &free_port().to_string(),
        "-n",
        &network_id.to_string(),
    ]);
    let Ok(program) = Program::start(command) else {
        return skip("dhtnode is not installed");
    };
    if timeout(Duration::from_secs(30), dht.connected())
        .await
        .is_err()
    {
        // `nodes_of_a_local_network_find_each_other` tells whether that can be.
        return skip("no multicast on this machine");
    }
    let k = key("lan");
    let value = Value::new(types::USER_DATA, b"lan".to_vec()).with_user_type("text/plain");
    dht.put(k, value, PutOptions::default()).await.unwrap();
    let mut lines = program.lines.subscribe();
    program.say(&format!("g {k}")).await;
    let text = wait(&mut lines, "value over the local network", printed).await;
    assert_eq!(text, "lan");
}

/// A permanent value outlives its type's lifetime at an old node, because it is renewed there.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes over three minutes, the shortest lifetime of a value being one: just test-long"]
async fn permanent_values_are_renewed() {
    let Some(debian) = Debian::start("dhtnode", None, false).await else {
        return skip("dhtnode is not installed");
    };
    let alice = ours("alice", Some(debian.port)).await;
    assert!(
        timeout(PATIENCE, alice.secure.dht().connected())
            .await
            .unwrap()
    );
    let k = key("permanent");
    let value = Value::new(types::ICE_CANDIDATES, b"stays".to_vec()).with_user_type("text/plain");
    let mut handle = alice
        .secure
        .dht()
        .put(k, value, PutOptions::permanent())
        .await
        .unwrap();
    handle.stored().await.unwrap();
    let debian = Peer::Debian(debian);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(45)).await;
        assert!(debian.get(&k).await.contains("stays"));
    }
    drop(handle);
    alice.secure.dht().shutdown().await;
    tokio::time::sleep(Duration::from_secs(65)).await;
    assert!(debian.get(&k).await.is_empty());
}
