//! The one who is attacked, as a process of its own: its memory can be measured.

use super::{Hostile, writer_of};
use crate::account_support::{PATIENCE, keys, named, node};
use crate::swarm::Device;
use serde_json::{Value, json};
use starling_bridge::account::registry::Accounts;
use starling_bridge::account::{Bounds, Context};
use starling_bridge::dht::Dht;
use starling_core::id::{AccountId, ConversationId, DeviceId};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// So often the whole is looked at without a reason.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// An ordinary bridge with one account, that has the hostile member as a contact.
pub struct Victim {
    bridge: Child,
    listener: Child,
    dir: tempfile::TempDir,
    pub account: String,
    pub jami_id: AccountId,
    pub device: DeviceId,
    pub writer: Device,
    accounts: PathBuf,
    events: Arc<Mutex<Vec<Value>>>,
    count: watch::Receiver<usize>,
    routed: Routed,
    /// Resident bytes before anything was done to it.
    idle: u64,
}

fn starling() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
    command.env_remove("STARLING_DATA_DIR").stdin(Stdio::null());
    command
}

/// What a listener hears, and how many events that were.
type Heard = (Arc<Mutex<Vec<Value>>>, watch::Receiver<usize>);

/// What the bridge's log says of what its routing tables and the spread of news ask for.
type Routed = Arc<Mutex<Vec<String>>>;

/// Runs the bridge on a directory, and who listens to its events.
fn launch(first: &Dht, dir: &Path, routed: Routed) -> (Child, Child, Heard) {
    let mut bridge = starling()
        // Else it finds the nodes of other tests that run on this machine.
        .args(["--no-lan", "--print-json"])
        .args(["--listen", "127.0.0.1:0", "--bootstrap"])
        .arg(format!("127.0.0.1:{}", first.ports().0))
        .arg("--data-dir")
        .arg(dir)
        .env("STARLING_LOG", "info,starling_bridge::account::swarm=trace")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(bridge.stderr.take().unwrap()).lines();
    std::thread::spawn(move || {
        for line in log.map_while(Result::ok) {
            if line.contains("TRACE") || line.contains("DEBUG") {
                routed.lock().unwrap().push(line);
            } else {
                eprintln!("{line}");
            }
        }
    });
    let mut line = String::new();
    BufReader::new(bridge.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with('{'), "{line}");
    let mut listener = starling()
        .args(["events", "--data-dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let events: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (news, count) = watch::channel(0);
    let lines = BufReader::new(listener.stdout.take().unwrap()).lines();
    let list = events.clone();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            list.lock()
                .unwrap()
                .push(serde_json::from_str(&line).unwrap());
            news.send_modify(|n| *n += 1);
        }
    });
    (bridge, listener, (events, count))
}

impl Victim {
    pub async fn start(first: &Dht, eve: &Hostile) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (account, jami_id, device, writer, accounts) = {
            let context = Context {
                emit: Arc::new(|_| {}),
                dht: node(Some(first)),
                loopback: false,
                bounds: Bounds::default(),
            };
            let all = Accounts::open(dir.path(), context).await.unwrap();
            let new = all.create_with(keys(), named("Vic"), None).await.unwrap();
            let address = eve.account().to_hex();
            new.add_contact(&address, None).await.unwrap();
            let writer = writer_of(new.dir(), "Vic");
            let made = (
                new.id.to_string(),
                new.jami_id(),
                new.device_id(),
                writer,
                new.dir().to_owned(),
            );
            drop(new);
            all.stop().await;
            made
        };
        let routed = Routed::default();
        let (bridge, listener, (events, count)) = launch(first, dir.path(), routed.clone());
        let mut victim = Self {
            bridge,
            listener,
            dir,
            account,
            jami_id,
            device,
            writer,
            accounts,
            events,
            count,
            routed,
            idle: 0,
        };
        victim
            .until("it to be online", |v| {
                (v.rpc("account.list", json!({}))[0]["state"] == "online").then_some(())
            })
            .await;
        eve.connect(victim.device, victim.jami_id).await;
        victim.idle = victim.status("VmRSS");
        victim
    }

    /// Kills the bridge where it stands, as when the power fails.
    pub fn kill(&mut self) {
        for child in [&mut self.bridge, &mut self.listener] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Runs it again after it ended.
    pub fn start_again(&mut self, first: &Dht) {
        let (bridge, listener, (events, count)) =
            tokio::task::block_in_place(|| launch(first, self.dir.path(), self.routed.clone()));
        (self.bridge, self.listener) = (bridge, listener);
        (self.events, self.count) = (events, count);
    }

    /// One call to the API; it must be answered soon, whatever goes on.
    pub fn rpc(&self, method: &str, params: Value) -> Value {
        tokio::task::block_in_place(|| {
            let begun = Instant::now();
            let out = starling()
                .args(["rpc", method, &params.to_string(), "--data-dir"])
                .arg(self.dir.path())
                .output()
                .unwrap();
            assert!(out.status.success(), "{method}: {out:?}");
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(20), "{method} took {took:?}");
            serde_json::from_slice(&out.stdout).unwrap()
        })
    }

    /// The events that fit.
    pub fn events(&self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let all = self.events.lock().unwrap();
        all.iter().filter(|e| fits(e)).cloned().collect()
    }

    /// How often something was asked for by a routing table, by the words its log has for it.
    pub fn routed(&self, what: &str) -> usize {
        let lines = self.routed.lock().unwrap();
        lines.iter().filter(|line| line.contains(what)).count()
    }

    /// The rules for which something was refused in a conversation.
    pub fn refused(&self, conversation: ConversationId) -> Vec<String> {
        let id = conversation.to_hex();
        self.events(|e| e["type"] == "conversation.rejected" && e["conversation"] == *id)
            .iter()
            .map(|e| e["rule"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until something holds, looking again whenever anything was reported.
    pub async fn until<T>(&self, what: &str, mut holds: impl FnMut(&Self) -> Option<T>) -> T {
        let mut news = self.count.clone();
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                news.borrow_and_update();
                if let Some(found) = holds(self) {
                    return found;
                }
                // What happened before the listener was there is no news.
                if let Ok(changed) = tokio::time::timeout(LOOK_AGAIN, news.changed()).await {
                    changed.unwrap();
                }
            }
        });
        match waited.await {
            Ok(found) => found,
            Err(_) => {
                let all = self.events.lock().unwrap();
                let tail = &all[all.len().saturating_sub(10)..];
                panic!("{what}: not after {PATIENCE:?}; last events: {tail:#?}")
            }
        }
    }

    /// Accepts an invitation of the hostile member, and waits for the conversation.
    pub async fn takes(&self, eve: &Hostile, conversation: ConversationId) {
        self.accepts(eve, conversation).await;
        self.is_ready(conversation).await;
    }

    /// Accepts an invitation of the hostile member.
    pub async fn accepts(&self, eve: &Hostile, conversation: ConversationId) {
        let id = conversation.to_hex();
        eve.invite(conversation);
        self.until("an invitation", |v| {
            v.events(|e| e["type"] == "request.received" && e["request"]["conversation"] == *id)
                .pop()
        })
        .await;
        self.rpc(
            "request.accept",
            json!({"account": self.account, "conversation": id}),
        );
    }

    /// Waits for a conversation that was accepted.
    pub async fn is_ready(&self, conversation: ConversationId) {
        self.until("the conversation", |v| {
            (v.conversation(conversation)["state"] == "ready").then_some(())
        })
        .await;
    }

    /// What the bridge says of a conversation that it knows.
    pub fn conversation(&self, conversation: ConversationId) -> Value {
        let id = conversation.to_hex();
        let list = self.rpc("conversation.list", json!({"account": self.account}));
        let mut all = list.as_array().unwrap().iter();
        all.find(|c| c["id"] == *id).unwrap().clone()
    }

    /// The texts of a conversation.
    pub fn texts(&self, conversation: ConversationId) -> Vec<String> {
        let page = self.rpc(
            "conversation.history",
            json!({"account": self.account, "conversation": conversation.to_hex()}),
        );
        let messages = page["messages"].as_array().unwrap();
        messages
            .iter()
            .filter_map(|m| Some(m["body"].as_str()?.to_owned()))
            .collect()
    }

    fn status(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.bridge.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|l| l.starts_with(key)).unwrap();
        let kb = line.split_whitespace().nth(1).unwrap();
        kb.parse::<u64>().unwrap() << 10
    }

    /// Begins to watch for the most memory.
    pub fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.bridge.id());
        std::fs::write(path, "5").unwrap();
    }

    /// Checks the most memory since then, in bytes above what an idle bridge takes.
    pub fn check_peak(&self, what: &str) {
        let above = self.status("VmHWM").saturating_sub(self.idle);
        println!("{what}: {} MB above idle", above >> 20);
        assert!(above < 200 << 20, "{what}: {} MB above idle", above >> 20);
    }

    /// The bridge answers, and has every conversation as it was.
    pub fn check_alive(&self) -> usize {
        let list = self.rpc("conversation.list", json!({"account": self.account}));
        list.as_array().unwrap().len()
    }

    pub fn repository(&self, conversation: ConversationId) -> PathBuf {
        starling_bridge::conversation::path(&self.accounts, &conversation)
    }

    /// Ends the bridge in good order.
    pub fn stop(&mut self) {
        self.rpc("bridge.stop", json!({}));
        assert!(
            tokio::task::block_in_place(|| self.bridge.wait())
                .unwrap()
                .success()
        );
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        for child in [&mut self.bridge, &mut self.listener] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
