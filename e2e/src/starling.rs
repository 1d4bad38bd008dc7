//! The `starling` binary on a machine of the lab, driven as its users do: by its command line.

use crate::stock::{self, Stock};
use crate::{Host, wait};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A running bridge.
pub struct Starling {
    /// The machine.
    pub host: Host,
    child: Option<Child>,
    listener: Option<Child>,
    bootstrap: String,
    url: String,
    events: Arc<(Mutex<Vec<Value>>, Condvar)>,
    account: Option<String>,
}

/// The binary under test: beside the test's own.
pub fn binary() -> PathBuf {
    std::env::var_os("STARLING_BIN")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let mut dir = std::env::current_exe().expect("a test has a path");
            dir.pop();
            if dir.ends_with("deps") {
                dir.pop();
            }
            let path = dir.join("starling");
            assert!(
                path.is_file(),
                "{} is not built: cargo build -p starling",
                path.display()
            );
            path
        })
}

/// The tool that writes histories into copies of conversations, built beside the binary.
fn planter() -> PathBuf {
    let dir = binary().parent().map(PathBuf::from).unwrap_or_default();
    dir.join("examples/planted")
}

/// Why that tool cannot run here, or `None`.
pub fn planter_missing() -> Option<String> {
    let tool = planter();
    (!tool.is_file()).then(|| {
        format!(
            "{} is not built: cargo build -p starling --example planted",
            tool.display()
        )
    })
}

/// Runs that tool on the data of bridges that are down: `bridge/examples/planted.rs` says how. Gives
/// what it says.
pub fn plant(arguments: &[&str], bridges: &[&Starling], after: &[String]) -> String {
    let out = std::process::Command::new(planter())
        .args(arguments)
        .args(bridges.iter().map(|b| b.data_dir()))
        .args(after)
        .output()
        .expect("the tool runs");
    assert!(
        out.status.success(),
        "planted {arguments:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

impl Starling {
    /// A bridge on each of these machines; `boot` runs the lab's first node.
    pub fn each<const N: usize>(hosts: &[Host; N], boot: &Host) -> [Self; N] {
        hosts.each_ref().map(|host| Self::start(host, boot))
    }

    /// Starts a bridge and waits until it serves.
    pub fn start(host: &Host, boot: &Host) -> Self {
        let mut s = Self {
            host: host.clone(),
            child: None,
            listener: None,
            bootstrap: boot.as_node(),
            url: String::new(),
            events: Arc::default(),
            account: None,
        };
        s.up();
        s
    }

    /// Where the bridge keeps what lasts.
    pub fn data_dir(&self) -> PathBuf {
        self.host.dir.join("starling")
    }

    /// Starts the bridge again with the same data.
    pub fn up(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.host.dir.join("starling.log"))
            .expect("a log");
        let mut child = self
            .host
            .command(binary())
            .args([
                "serve",
                "--listen",
                "127.0.0.1:7474",
                "--print-json",
                "--bootstrap",
                &self.bootstrap,
                "--data-dir",
            ])
            .arg(self.data_dir())
            .env(
                "STARLING_LOG",
                std::env::var("STARLING_E2E_LOG")
                    .unwrap_or_else(|_| "starling_bridge=debug,info".into()),
            )
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("starling starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("starling prints a line");
        let hello: Value = serde_json::from_str(&line).unwrap_or_else(|e| {
            panic!(
                "{}: {line:?} is no JSON: {e}; see starling.log",
                self.host.name
            )
        });
        self.url = hello["url"].as_str().unwrap_or_default().to_owned();
        std::thread::spawn(move || for _ in stdout.lines() {});
        self.child = Some(child);
        let mut listener = self
            .host
            .command(binary())
            .args(["events", "--data-dir"])
            .arg(self.data_dir())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("starling events starts");
        let lines = BufReader::new(listener.stdout.take().expect("piped")).lines();
        let shared = self.events.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(e) = serde_json::from_str(&line) {
                    shared.0.lock().expect("not poisoned").push(e);
                    shared.1.notify_all();
                }
            }
        });
        self.listener = Some(listener);
        if self.account.is_some() {
            self.wait_online();
        }
    }

    /// The URL with a one-time pairing code that the bridge printed at its last start.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process, for those who want to know what it uses.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the bridge runs").id()
    }

    /// Whether there is a connection with a device of somebody.
    pub fn is_connected(&self, person: &str) -> bool {
        let links = self.rpc("link.list", json!({"account": self.account()}));
        let mut links = links.as_array().expect("links").iter();
        links.any(|l| l["peer"] == person && l["phase"] == "connected")
    }

    /// One API call.
    pub fn rpc(&self, method: &str, params: Value) -> Value {
        match self.try_rpc(method, params.clone()) {
            Ok(v) => v,
            Err(e) => panic!("{}: {method} {params}: {e}", self.host.name),
        }
    }

    /// One API call that may fail; the error as the command line prints it.
    pub fn try_rpc(&self, method: &str, params: Value) -> Result<Value, String> {
        let out = self
            .host
            .command(binary())
            .args(["rpc", "--data-dir"])
            .arg(self.data_dir())
            .args([method, &params.to_string()])
            .output()
            .expect("starling rpc runs");
        if out.status.success() {
            Ok(serde_json::from_slice(&out.stdout).unwrap_or(Value::Null))
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }

    /// Waits for an event, or one that already came.
    pub fn wait<T>(&self, what: &str, pick: impl FnMut(&str, &Value) -> Option<T>) -> T {
        self.wait_within(0, wait::PATIENCE, what, pick)
    }

    /// What the bridge has logged so far.
    pub fn log(&self) -> String {
        let log =
            std::fs::read(self.host.dir.join("starling.log")).expect("the bridge writes a log");
        String::from_utf8_lossy(&log).into_owned()
    }

    /// How many events there were so far: a mark to wait from.
    pub fn mark(&self) -> usize {
        self.events.0.lock().expect("not poisoned").len()
    }

    fn wait_within<T>(
        &self,
        since: usize,
        patience: Duration,
        what: &str,
        mut pick: impl FnMut(&str, &Value) -> Option<T>,
    ) -> T {
        let end = Instant::now() + patience;
        let mut seen = since;
        let mut events = self.events.0.lock().expect("not poisoned");
        loop {
            while let Some(e) = events.get(seen) {
                if let Some(t) = pick(e["type"].as_str().unwrap_or_default(), e) {
                    return t;
                }
                seen += 1;
            }
            assert!(
                Instant::now() < end,
                "{}: waited {patience:?} for {what}",
                self.host.name
            );
            events = self
                .events
                .1
                .wait_timeout(events, Duration::from_millis(500))
                .expect("not poisoned")
                .0;
        }
    }

    /// Makes an account and waits until others can find it. Gives its Jami ID.
    pub fn create_account(&mut self, name: &str) -> String {
        self.add_account("account.create", json!({"displayName": name}))
    }

    /// Has an account that was made before, where a test is not about making one; waits until others can find it.
    /// Gives its Jami ID. The bridge is started anew.
    pub fn have_account(&mut self, name: &str) -> String {
        let stock = Stock::of("starling", &self.host, name);
        let accounts = self.data_dir().join("accounts");
        let place = [("accounts", accounts.as_path())];
        if !self.is_down_for(|| stock.bring(&place)) {
            let backup = std::fs::read(stock::backup(&self.host)).expect("a backup");
            let backup = json!({"displayName": name, "archive": STANDARD.encode(backup)});
            self.add_account("account.import", backup);
            self.is_down_for(|| stock.keep(&place));
        }
        self.adopt_account()
    }

    /// Does something while the bridge is down.
    fn is_down_for<T>(&mut self, what: impl FnOnce() -> T) -> T {
        self.down();
        let done = what();
        self.up();
        done
    }

    fn add_account(&mut self, method: &str, params: Value) -> String {
        let a = self.rpc(method, params);
        self.account = Some(
            a["account"]
                .as_str()
                .or(a["id"].as_str())
                .expect("an account id")
                .to_owned(),
        );
        self.wait_online();
        self.id()
    }

    /// Takes over the account that was made in the browser.
    pub fn adopt_account(&mut self) -> String {
        let account = wait::until("an account", || {
            self.rpc("account.list", json!({})).as_array()?.first()?["id"]
                .as_str()
                .map(String::from)
        });
        self.account = Some(account);
        self.wait_online();
        self.id()
    }

    /// The bridge's id of the account.
    pub fn account(&self) -> String {
        self.account.clone().expect("an account was made")
    }

    fn details(&self) -> Value {
        self.rpc("account.get", json!({"account": self.account()}))
    }

    /// Waits until the account's device is announced.
    pub fn wait_online(&self) {
        wait::until("the account to be online", || {
            (self.details()["state"] == "online").then_some(())
        });
    }

    /// The account's Jami ID.
    pub fn id(&self) -> String {
        self.details()["jamiId"]
            .as_str()
            .expect("a Jami ID")
            .to_owned()
    }

    /// Sends a contact request; gives the conversation.
    pub fn add_contact(&self, id: &str) -> String {
        let c = self.rpc("contact.add", json!({"account": self.account(), "id": id}));
        c["conversation"]
            .as_str()
            .expect("a conversation")
            .to_owned()
    }

    /// Asks somebody else with a Starling, who accepts; gives the conversation.
    pub fn befriend(&self, asked: &Self) -> String {
        let (two, id) = (self.add_contact(&asked.id()), asked.id());
        asked.wait_request_for(&two);
        asked.accept(&two);
        self.wait_role(&two, &id, "member");
        two
    }

    /// Waits for an invitation; gives its conversation.
    pub fn wait_request(&self) -> String {
        let account = self.account();
        wait::until("a request", || {
            self.rpc("request.list", json!({"account": account}))
                .as_array()?
                .first()?["conversation"]
                .as_str()
                .map(String::from)
        })
    }

    /// Waits for the invitation to one conversation.
    pub fn wait_request_for(&self, conversation: &str) {
        let account = self.account();
        wait::until("the invitation", || {
            let open = self.rpc("request.list", json!({"account": account}));
            open.as_array()?
                .iter()
                .any(|r| r["conversation"] == conversation)
                .then_some(())
        });
    }

    /// Waits until a text is in the history, however it came.
    pub fn wait_text_or_history(&self, conversation: &str, body: &str) {
        wait::until(&format!("the text {body:?}"), || {
            self.texts(conversation)
                .iter()
                .any(|t| t == body)
                .then_some(())
        });
    }

    /// What was refused so far.
    pub fn rejections(&self) -> Vec<Value> {
        let events = self.events.0.lock().expect("not poisoned");
        events
            .iter()
            .filter(|e| e["type"] == "conversation.rejected")
            .cloned()
            .collect()
    }

    /// Where the bridge keeps a conversation's repository.
    pub fn repository(&self, conversation: &str) -> PathBuf {
        self.data_dir()
            .join("accounts")
            .join(self.account())
            .join("conversations")
            .join(conversation)
    }

    /// Accepts an invitation and waits until the conversation is there, as if it had never been before.
    pub fn accept(&self, conversation: &str) {
        let since = self.mark();
        self.rpc(
            "request.accept",
            json!({"account": self.account(), "conversation": conversation}),
        );
        self.wait_ready_since(since, conversation, wait::PATIENCE);
    }

    /// Waits for the invitation to one conversation, and declines it.
    pub fn decline(&self, conversation: &str) {
        self.wait_request_for(conversation);
        self.rpc(
            "request.decline",
            json!({"account": self.account(), "conversation": conversation}),
        );
    }

    /// Waits until a conversation is cloned and valid.
    pub fn wait_ready(&self, conversation: &str) {
        self.wait_ready_within(conversation, wait::PATIENCE);
    }

    /// The same, for one that takes its time.
    pub fn wait_ready_within(&self, conversation: &str, patience: Duration) {
        self.wait_ready_since(0, conversation, patience);
    }

    fn wait_ready_since(&self, since: usize, conversation: &str, patience: Duration) {
        self.wait_within(since, patience, "the conversation to be ready", |t, e| {
            (t == "conversation.ready" && e["conversation"] == conversation).then_some(())
        });
    }

    /// Sends a text. Gives its id.
    pub fn send(&self, conversation: &str, body: &str) -> String {
        let m = self.rpc(
            "message.send",
            json!({"account": self.account(), "conversation": conversation, "body": body}),
        );
        m["id"].as_str().expect("a message id").to_owned()
    }

    /// Waits for a text; gives its id.
    pub fn wait_text(&self, conversation: &str, body: &str) -> String {
        self.wait(&format!("the text {body:?}"), |t, e| {
            (t == "message.received"
                && e["conversation"] == conversation
                && e["message"]["body"] == body)
                .then(|| e["message"]["id"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// Waits until a person has a role in a conversation.
    pub fn wait_role(&self, conversation: &str, id: &str, role: &str) {
        let account = self.account();
        wait::until(&format!("{id} to be {role}"), || {
            let members = self.rpc(
                "conversation.members",
                json!({"account": account, "conversation": conversation}),
            );
            members
                .as_array()?
                .iter()
                .any(|m| m["id"] == id && m["role"] == role)
                .then_some(())
        });
    }

    /// All texts of a conversation, oldest first.
    pub fn texts(&self, conversation: &str) -> Vec<String> {
        let h = self.rpc(
            "conversation.history",
            json!({"account": self.account(), "conversation": conversation, "limit": 200}),
        );
        let list = h
            .as_array()
            .cloned()
            .or_else(|| h["messages"].as_array().cloned())
            .unwrap_or_default();
        let out: Vec<String> = list
            .iter()
            .filter(|m| m["type"] == "text/plain")
            .filter_map(|m| m["body"].as_str().map(String::from))
            .collect();
        out
    }

    /// Asks the bridge to end, and waits until it did.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = std::process::Command::new("kill")
                .arg(child.id().to_string())
                .status();
            let end = Instant::now() + Duration::from_secs(15);
            while !matches!(child.try_wait(), Ok(Some(_))) {
                assert!(
                    Instant::now() < end,
                    "{}: starling does not end on SIGTERM",
                    self.host.name
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.drop_listener();
    }

    /// Ends the bridge as a power cut does.
    pub fn kill(&mut self) {
        // First, or it complains.
        self.drop_listener();
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn drop_listener(&mut self) {
        if let Some(mut l) = self.listener.take() {
            let _ = l.kill();
            let _ = l.wait();
        }
    }
}

impl Drop for Starling {
    fn drop(&mut self) {
        self.kill();
    }
}
