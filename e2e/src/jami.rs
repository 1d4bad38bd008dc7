//! A real Jami daemon of today, driven through its Node.js add-on by `jami/daemon.js`.

use crate::net::NODE_PORT;
use crate::stock::{self, Stock};
use crate::{Host, Lab, wait};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// What the daemon's log begins an error and a warning with. It says how grave a line is by its colour alone, so it is
/// not asked to leave them away.
const LOUD: [&str; 2] = ["\u{1b}[22;31m", "\u{1b}[01;33m"];

/// An error or a warning in a daemon's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loud {
    /// The file of the daemon's sources that says it.
    pub source: String,
    /// What it says.
    pub words: String,
    /// Whether it is an error.
    pub error: bool,
}

/// The errors and warnings of a log. A line is `[SECONDS|THREAD|FILE:LINE] WORDS`, both parts in colours.
pub(crate) fn loud(log: &str) -> Vec<Loud> {
    let lines = log.lines().filter_map(|line| {
        let (mark, (head, words)) = LOUD
            .iter()
            .find_map(|mark| Some((mark, line.split_once(mark)?)))?;
        let place = head.split('|').nth(2).unwrap_or_default();
        let source = place.split(':').next().unwrap_or_default();
        Some(Loud {
            source: source.trim().to_owned(),
            words: words.split('\u{1b}').next().unwrap_or_default().to_owned(),
            error: *mark == LOUD[0],
        })
    });
    lines.collect()
}

/// From when on the arrival of events is counted.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What the daemon calls the state of a message that was read.
const DISPLAYED: i32 = 3;

/// A running daemon with at most one account.
pub struct Jami {
    /// The machine.
    pub host: Host,
    child: Child,
    socket: UnixStream,
    inbox: Arc<(Mutex<Inbox>, Condvar)>,
    next: u64,
    account: Option<String>,
    /// The events of the runs before this one.
    before: Vec<Value>,
}

#[derive(Default)]
struct Inbox {
    answers: VecDeque<Value>,
    events: Vec<Value>,
    closed: bool,
}

/// Where the daemon was installed by `e2e/jami/setup`.
fn home() -> PathBuf {
    std::env::var_os("STARLING_JAMI_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
            cache
                .unwrap_or_else(|| home.join(".cache"))
                .join("starling/jami")
        })
}

/// Why no daemon can run here, or `None`.
pub fn missing() -> Option<String> {
    crate::missing().or_else(|| {
        let ready = home().join("version");
        (!ready.is_file())
            .then(|| format!("no Jami daemon in {}: run e2e/jami/setup", home().display()))
    })
}

// The daemon wants a newer C library than this machine may have: it gets the
// /usr and /etc of its own Debian root, in a mount namespace of its own.
const INNER: &str = "mount --bind \"$0/root/usr\" /usr && mount --bind \"$0/root/etc\" /etc && \
                     mount --bind \"$1\" /etc/hosts && shift && exec /usr/bin/node \"$@\"";

impl Jami {
    /// Starts a daemon on a machine; its data stays in the machine's directory.
    pub fn start(host: &Host, bootstrap: &Host) -> Self {
        let home = home();
        let dir = &host.dir;
        for sub in ["data", "config", "cache", "run"] {
            std::fs::create_dir_all(dir.join(sub)).expect("a directory");
        }
        let socket_path = dir.join("jami.sock");
        let _ = std::fs::remove_file(&socket_path);
        let hosts = dir.join("hosts");
        std::fs::write(
            &hosts,
            format!(
                "127.0.0.1 localhost\n{} bootstrap.sfl.io bootstrap.jami.net\n",
                bootstrap.addr
            ),
        )
        .expect("written");
        let etc_hosts = home.join("root/etc/hosts");
        if !etc_hosts.exists() {
            std::fs::write(etc_hosts, "").expect("written");
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join("jami.log"))
            .expect("a log");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/jami/daemon.js");
        let child = host
            .command("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "/bin/sh",
                "-c",
                INNER,
            ])
            .arg(&home)
            .arg(&hosts)
            .arg(script)
            .arg(home.join("jamid.node"))
            .arg(&socket_path)
            .arg(dir.join("jami-events.jsonl"))
            .env("XDG_DATA_HOME", dir.join("data"))
            .env("XDG_CONFIG_HOME", dir.join("config"))
            .env("XDG_CACHE_HOME", dir.join("cache"))
            .env("XDG_RUNTIME_DIR", dir.join("run"))
            .envs([
                ("JAMI_DISABLE_SHM", "1"),
                ("JAMI_LOG_DHTNET", "1"),
                ("JAMI_LOG_DHT", "0"),
                ("JAMI_LOG_SIP", "0"),
                ("JAMI_LOG_TLS", "0"),
            ])
            .current_dir("/")
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(Stdio::from(log))
            .spawn()
            .expect("the daemon starts");
        let socket = wait::until("the daemon's socket", || {
            UnixStream::connect(&socket_path).ok()
        });
        let inbox = Arc::new((Mutex::new(Inbox::default()), Condvar::new()));
        let (reader, shared) = (socket.try_clone().expect("a second handle"), inbox.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                let Ok(Ok(mut m)) = line.map(|l| serde_json::from_str::<Value>(&l)) else {
                    break;
                };
                m["arrived"] = json!(START.elapsed().as_secs_f64());
                let mut inbox = shared.0.lock().expect("not poisoned");
                if m.get("signal").is_some() {
                    inbox.events.push(m)
                } else {
                    inbox.answers.push_back(m)
                }
                shared.1.notify_all();
            }
            shared.0.lock().expect("not poisoned").closed = true;
            shared.1.notify_all();
        });
        let mut jami = Self {
            host: host.clone(),
            child,
            socket,
            inbox,
            next: 0,
            account: None,
            before: Vec::new(),
        };
        jami.account = jami
            .call("getAccountList", json!([]))
            .as_array()
            .and_then(|l| l.first()?.as_str().map(String::from));
        jami
    }

    /// Calls a function of the add-on.
    pub fn call(&mut self, function: &str, args: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let line = json!({"id": id, "call": function, "args": args}).to_string() + "\n";
        self.socket
            .write_all(line.as_bytes())
            .expect("the daemon listens");
        let end = Instant::now() + wait::PATIENCE;
        let mut inbox = self.inbox.0.lock().expect("not poisoned");
        loop {
            if let Some(i) = inbox.answers.iter().position(|a| a["id"] == id) {
                let answer = inbox.answers.remove(i).expect("just found");
                assert!(
                    answer.get("error").is_none(),
                    "{}: {function}: {answer}",
                    self.host.name
                );
                return answer["ok"].clone();
            }
            assert!(
                !inbox.closed,
                "{}: the daemon is gone, see its jami.log",
                self.host.name
            );
            assert!(
                Instant::now() < end,
                "{}: no answer to {function}",
                self.host.name
            );
            inbox = self
                .inbox
                .1
                .wait_timeout(inbox, Duration::from_millis(500))
                .expect("not poisoned")
                .0;
        }
    }

    /// How many events there were so far: a mark to wait from.
    pub fn mark(&self) -> usize {
        self.inbox.0.lock().expect("not poisoned").events.len()
    }

    /// Waits for an event after `since` for which `pick` has an answer.
    pub fn wait<T>(
        &self,
        what: &str,
        since: usize,
        mut pick: impl FnMut(&str, &Value) -> Option<T>,
    ) -> T {
        self.wait_event(what, since, |e| {
            pick(e["signal"].as_str().unwrap_or_default(), &e["args"])
        })
    }

    fn wait_event<T>(&self, what: &str, since: usize, pick: impl FnMut(&Value) -> Option<T>) -> T {
        self.try_event(since, wait::PATIENCE, pick)
            .unwrap_or_else(|| panic!("{}: waited {:?} for {what}", self.host.name, wait::PATIENCE))
    }

    fn try_event<T>(
        &self,
        since: usize,
        patience: Duration,
        mut pick: impl FnMut(&Value) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + patience;
        let mut seen = since;
        let mut inbox = self.inbox.0.lock().expect("not poisoned");
        loop {
            while let Some(e) = inbox.events.get(seen) {
                if let Some(t) = pick(e) {
                    return Some(t);
                }
                seen += 1;
            }
            assert!(
                !inbox.closed,
                "{}: the daemon is gone, see its jami.log",
                self.host.name
            );
            if Instant::now() >= end {
                return None;
            }
            inbox = self
                .inbox
                .1
                .wait_timeout(inbox, Duration::from_millis(500))
                .expect("not poisoned")
                .0;
        }
    }

    /// Every event so far of that name, those before a restart as well.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let inbox = self.inbox.0.lock().expect("not poisoned");
        let all = self.before.iter().chain(&inbox.events);
        all.filter(|e| e["signal"] == name)
            .map(|e| e["args"].clone())
            .collect()
    }

    /// The daemon's own id of its account.
    pub fn account(&self) -> String {
        self.account.clone().expect("an account was made")
    }

    /// Makes an account on the lab's DHT and waits until others can find it. Gives its Jami ID.
    pub fn create_account(&mut self, name: &str, boot: &Host) -> String {
        self.add_account(name, boot, "", "")
    }

    /// Starts a daemon with an account that was made before, where a test is not about making one; waits until others
    /// can find it.
    pub fn with_account(host: &Host, boot: &Host, name: &str) -> Self {
        let stock = Stock::of("jami", host, name);
        let (data, config) = (host.dir.join("data"), host.dir.join("config"));
        let places = [("data", data.as_path()), ("config", config.as_path())];
        let known = stock.bring(&places);
        let mut jami = Self::start(host, boot);
        if !known {
            let backup = stock::backup(host);
            jami.import_account(name, boot, &backup, "");
            jami.end();
            stock.keep(&places);
            jami.start_again(boot);
        }
        jami.wait_registered();
        jami
    }

    /// Takes over an account from an archive that was exported elsewhere, protected by `password` unless that is empty;
    /// waits until others can find this device. Gives its Jami ID.
    pub fn import_account(
        &mut self,
        name: &str,
        boot: &Host,
        archive: &Path,
        password: &str,
    ) -> String {
        self.add_account(name, boot, &archive.display().to_string(), password)
    }

    fn add_account(&mut self, name: &str, boot: &Host, archive: &str, password: &str) -> String {
        let template = self.call("getAccountTemplate", json!(["RING"]));
        let mut details: Map<String, Value> = template.as_object().cloned().unwrap_or_default();
        let ours = json!({
            "Account.type": "RING", "Account.alias": name, "Account.displayName": name, "Account.deviceName": name,
            "Account.hostname": boot.as_node(), "RingNS.uri": "http://127.0.0.1:8090",
            "Account.upnpEnabled": "false", "Account.proxyEnabled": "false", "Account.proxyListEnabled": "false",
            "Account.dhtProxyListUrl": "", "Account.bootstrapListUrl": "", "Account.peerDiscovery": "false",
            "Account.accountDiscovery": "false", "Account.accountPublish": "false", "TURN.enable": "false",
            "STUN.enable": "false", "Account.archivePassword": password, "Account.archivePIN": "", "Account.archivePath": archive,
        });
        for (k, v) in ours.as_object().expect("an object") {
            // Details that this daemon does not know are refused.
            if details.contains_key(k) || k.starts_with("Account.archive") || k == "Account.type" {
                details.insert(k.clone(), v.clone());
            }
        }
        let account = self
            .call("addAccount", json!([details]))
            .as_str()
            .expect("an account id")
            .to_owned();
        self.account = Some(account);
        self.wait_registered();
        self.id()
    }

    /// Waits until the account is registered and its device announced on the DHT.
    pub fn wait_registered(&mut self) {
        let account = self.account();
        wait::until("the daemon's registration", || {
            let v = self.call("getVolatileAccountDetails", json!([account]));
            let status = v["Account.registrationStatus"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            assert!(!status.starts_with("ERROR"), "the account is {status}");
            (status == "REGISTERED" && v["Account.deviceAnnounced"] == "true").then_some(())
        });
    }

    /// The account's Jami ID.
    pub fn id(&mut self) -> String {
        let d = self.call("getAccountDetails", json!([self.account()]));
        d["Account.username"]
            .as_str()
            .unwrap_or_default()
            .replace("jami:", "")
            .replace("ring:", "")
    }

    /// Sends a contact request; gives the conversation.
    pub fn add_contact(&mut self, id: &str) -> String {
        let a = self.account();
        self.call("addContact", json!([a, id]));
        self.call("sendTrustRequest", json!([a, id, []]));
        wait::until("the conversation with the contact", || {
            let d = self.call("getContactDetails", json!([a, id]));
            d["conversationId"]
                .as_str()
                .filter(|c| !c.is_empty())
                .map(String::from)
        })
    }

    /// Waits for an invitation; gives its conversation.
    pub fn wait_request(&mut self) -> String {
        let a = self.account();
        wait::until("a conversation request", || {
            self.call("getConversationRequests", json!([a]))
                .as_array()?
                .first()?["id"]
                .as_str()
                .map(String::from)
        })
    }

    /// Waits for the invitation to one conversation.
    pub fn wait_request_for(&mut self, conversation: &str) {
        let a = self.account();
        wait::until("the invitation", || {
            let open = self.call("getConversationRequests", json!([a]));
            open.as_array()?
                .iter()
                .any(|r| r["id"] == conversation)
                .then_some(())
        });
    }

    /// Makes a group.
    pub fn start_conversation(&mut self) -> String {
        let a = self.account();
        self.call("startConversation", json!([a]))
            .as_str()
            .expect("an id")
            .to_owned()
    }

    /// Invites a person to a group.
    pub fn add_member(&mut self, conversation: &str, id: &str) {
        let a = self.account();
        self.call("addConversationMember", json!([a, conversation, id]));
    }

    /// Accepts an invitation and waits until the conversation is there.
    pub fn accept(&mut self, conversation: &str) {
        let ready = self.accept_within(conversation, wait::PATIENCE);
        assert!(
            ready,
            "{}: waited {:?} for the conversation to be ready",
            self.host.name,
            wait::PATIENCE
        );
    }

    /// Accepts an invitation; whether the conversation was there in time.
    pub fn accept_within(&mut self, conversation: &str, patience: Duration) -> bool {
        let since = self.mark();
        self.call(
            "acceptConversationRequest",
            json!([self.account(), conversation]),
        );
        let ready = |e: &Value| {
            (e["signal"] == "conversationReady" && e["args"]["conversation_id"] == conversation)
                .then_some(())
        };
        self.try_event(since, patience, ready).is_some()
    }

    /// Accepts many invitations at once and waits until all their conversations are there.
    pub fn accept_all(&mut self, conversations: &[String]) {
        let since = self.mark();
        let account = self.account();
        for conversation in conversations {
            self.wait_request_for(conversation);
            self.call("acceptConversationRequest", json!([account, conversation]));
        }
        for conversation in conversations {
            self.wait("the conversation to be ready", since, |signal, a| {
                (signal == "conversationReady" && a["conversation_id"] == conversation.as_str())
                    .then_some(())
            });
        }
    }

    /// Declines an invitation.
    pub fn decline(&mut self, conversation: &str) {
        self.call(
            "declineConversationRequest",
            json!([self.account(), conversation]),
        );
    }

    /// Sends a text and waits until the daemon committed it. Gives the commit id.
    pub fn send(&mut self, conversation: &str, body: &str) -> String {
        let since = self.mark();
        self.call(
            "sendMessage",
            json!([self.account(), conversation, body, "", 0]),
        );
        self.wait_text_since(conversation, body, since)
    }

    /// Waits for a text; gives the commit id.
    pub fn wait_text(&self, conversation: &str, body: &str) -> String {
        self.wait_text_since(conversation, body, 0)
    }

    fn wait_text_since(&self, conversation: &str, body: &str, since: usize) -> String {
        self.wait(&format!("the text {body:?}"), since, |s, a| {
            (s == "swarmMessageReceived"
                && a["conversation_id"] == conversation
                && a["message"]["body"]["body"] == body)
                .then(|| a["message"]["id"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// Waits for a text after `since`; says when it came.
    pub fn shown(&self, conversation: &str, body: &str, since: usize) -> Instant {
        self.try_shown(conversation, body, since, wait::PATIENCE)
            .unwrap_or_else(|| panic!("{}: {body:?} was not shown", self.host.name))
    }

    /// The same, if it comes in time.
    pub fn try_shown(
        &self,
        conversation: &str,
        body: &str,
        since: usize,
        patience: Duration,
    ) -> Option<Instant> {
        let seconds = self.try_event(since, patience, |e| {
            let a = &e["args"];
            (e["signal"] == "swarmMessageReceived"
                && a["conversation_id"] == conversation
                && a["message"]["body"]["body"] == body)
                .then(|| e["arrived"].as_f64().unwrap_or_default())
        })?;
        Some(*START + Duration::from_secs_f64(seconds))
    }

    /// The process, for those who want to know what it uses.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a member joined or was added; the daemon's event codes are 0 add, 1 join, 2 leave, 3 ban, 4 unban.
    pub fn wait_member(&self, conversation: &str, member: &str, event: i64) {
        self.wait("a member event", 0, |s, a| {
            (s == "conversationMemberEvent"
                && a["conversation_id"] == conversation
                && a["member_uri"] == member
                && a["event"] == event)
                .then_some(())
        });
    }

    /// Says that everything up to a message was read.
    pub fn mark_displayed(&mut self, conversation: &str, message: &str) {
        self.call(
            "setMessageDisplayed",
            json!([
                self.account(),
                format!("swarm:{conversation}"),
                message,
                DISPLAYED
            ]),
        );
    }

    /// Waits until the client is told that somebody has read a message.
    pub fn wait_displayed(&self, message: &str, by: &str) {
        self.wait("a read mark", 0, |s, a| {
            (s == "accountMessageStatusChanged"
                && a["message_id"] == message
                && a["peer"] == by
                && a["state"] == DISPLAYED)
                .then_some(())
        });
    }

    /// Says that somebody types here, or stopped.
    pub fn set_composing(&mut self, conversation: &str, composing: bool) {
        self.call(
            "setIsComposing",
            json!([self.account(), format!("swarm:{conversation}"), composing]),
        );
    }

    /// Waits until the client is told that somebody types, or stopped.
    pub fn wait_composing(&self, conversation: &str, from: &str, composing: bool) {
        self.wait("somebody typing", 0, |s, a| {
            (s == "composingStatusChanged"
                && a["conversation_id"] == conversation
                && a["from"] == from
                && a["status"] == i32::from(composing))
            .then_some(())
        });
    }

    /// Where the daemon keeps a conversation's repository.
    pub fn repository(&self, conversation: &str) -> PathBuf {
        self.host
            .dir
            .join("data/jami")
            .join(self.account())
            .join("conversations")
            .join(conversation)
    }

    /// Conversation errors the daemon signalled (code, words), those before a restart as well.
    pub fn conversation_errors(&self) -> Vec<Value> {
        self.events("onConversationError")
    }

    /// What the daemon has logged so far, in all its runs.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.host.dir.join("jami.log")).expect("the daemon writes a log");
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The errors and warnings among them.
    pub fn loud(&self) -> Vec<Loud> {
        loud(&self.log())
    }

    /// Ends the daemon in order; its data stays.
    pub fn stop(&mut self) {
        self.end();
    }

    /// Starts the daemon again with its data.
    pub fn start_again(&mut self, bootstrap: &Host) {
        // What it signals until it has ended counts.
        self.end();
        self.wait_closed();
        let mut before = std::mem::take(&mut self.before);
        before.append(&mut self.inbox.0.lock().expect("not poisoned").events);
        *self = Self::start(&self.host.clone(), bootstrap);
        self.before = before;
    }

    /// Waits until everything that an ended daemon said was read.
    fn wait_closed(&self) {
        let inbox = self.inbox.0.lock().expect("not poisoned");
        let (inbox, _) = self
            .inbox
            .1
            .wait_timeout_while(inbox, wait::PATIENCE, |i| !i.closed)
            .expect("not poisoned");
        assert!(inbox.closed, "{}: the socket stays open", self.host.name);
    }

    fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // The child is `ip`, which became `unshare`, `sh` and then node: one process, which ends on SIGTERM.
        let _ = std::process::Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Jami {
    fn drop(&mut self) {
        self.end();
    }
}

/// A DHT node that all others start from.
pub fn boot(lab: &mut Lab) -> Host {
    boot_named(lab, "boot")
}

/// Another one: it knows nothing of what the first one was told.
pub fn boot_named(lab: &mut Lab, name: &str) -> Host {
    let host = lab.host(name);
    let log = std::fs::File::create(host.dir.join("dhtnode.log")).expect("a log");
    let child = host
        .command(crate::starling::binary())
        .args(["dhtnode", "--port", NODE_PORT])
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("the DHT node starts");
    lab.keep(child);
    host
}
