//! What goes wrong on a disk or at a peer: it is named, it stays where it is, and nothing is lost.
#![allow(clippy::unwrap_used)]

mod account_support;
mod skip_support;

use account_support::{Bridge, befriend, keys, messages, named, node};
use starling_bridge::account::keep;
use starling_bridge::account::registry::Accounts;
use starling_bridge::actor::NoAnswer;
use starling_bridge::conversation::Conversation;
use starling_bridge::conversation::repo::Me;
use starling_bridge::crypto::AwsLc;
use starling_bridge::peer::MAX_DEVICES;
use starling_bridge::store::objects::ObjectStore;
use starling_bridge::store::state::State;
use starling_core::api::{self, Event, LocalAccountId};
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::identity::{Archive, ArchiveError, Credential, create_account};
use starling_core::swarm::commit::{Commit, Draft};
use starling_core::swarm::message::{ConversationMode, Message};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn fsck(path: &Path) {
    let out = Command::new("git")
        .args(["fsck", "--strict", "--full"])
        .current_dir(path)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
}

const CHILD: &str = "STARLING_TEST_WRITES_IN";

fn open(dir: &Path, id: ConversationId) -> Conversation {
    let me = Me {
        identity: keep::read_identity(dir, now()).unwrap(),
        name: "Alice".into(),
    };
    let state = State::open(&dir.join("state.sqlite")).unwrap();
    Conversation::open(dir, id, state, me).unwrap()
}

/// Not a test of its own: what the test below runs and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes() {
    let Ok(what) = std::env::var(CHILD) else {
        return;
    };
    let [dir, id, most] = what.split('|').collect::<Vec<_>>()[..] else {
        panic!("what to write: {what}");
    };
    let conversation = open(Path::new(dir), id.parse().unwrap());
    for n in 0..most.parse::<u32>().unwrap() {
        let (commit, _) = conversation
            .ask(move |r| {
                r.write(now(), |repo, writer, now| {
                    repo.message(writer, Message::text(format!("message {n}"), None), now)
                })
            })
            .await
            .unwrap()
            .unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {commit}").unwrap();
        out.flush().unwrap();
    }
}

/// When a child ends that writes.
enum Until {
    /// After so many acknowledgements it is killed.
    Killed(usize),
    /// It writes so many, if nothing kills it.
    Told(u32),
}

/// A conversation that a child writes to and does not live to close.
struct Killed {
    dir: tempfile::TempDir,
    id: ConversationId,
    /// What the child said that it is written.
    acknowledged: Vec<ObjectId>,
    kills: u64,
}

impl Killed {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (_, identity) = create_account(&AwsLc, now(), keys()).unwrap();
        keep::write_identity(dir.path(), &identity).unwrap();
        let me = Me {
            identity,
            name: "Alice".into(),
        };
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        let mode = ConversationMode::InvitesOnly;
        let new = Conversation::create(dir.path(), state, me, mode, None, now()).unwrap();
        let id = new.id;
        new.close().await;
        Self {
            dir,
            id,
            acknowledged: Vec::new(),
            kills: 0,
        }
    }

    /// Runs the child, and looks at what is there. Says whether the child ended by itself.
    async fn run(&mut self, under: &[&str], until: Until) -> bool {
        let program = std::env::current_exe().unwrap();
        let mut words = under.iter().map(OsStr::new).chain([program.as_os_str()]);
        let (lines, most) = match until {
            Until::Killed(lines) => (lines, u32::MAX),
            Until::Told(most) => (usize::MAX, most),
        };
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .args(["--exact", "child_that_writes", "--nocapture"])
            .env(
                CHILD,
                format!("{}|{}|{most}", self.dir.path().display(), self.id),
            )
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let ack = |l: String| l.rsplit_once("ack ")?.1.parse::<ObjectId>().ok();
        let acks = out.by_ref().map_while(Result::ok).filter_map(ack);
        self.acknowledged.extend(acks.take(lines));
        if matches!(until, Until::Killed(_)) {
            child.kill().unwrap();
        }
        let ended = child.wait().unwrap().success();
        // What was said before the kill, and not read yet.
        let rest = out.map_while(Result::ok).filter_map(ack);
        self.acknowledged.extend(rest);
        self.kills += 1;
        self.check().await;
        ended
    }

    async fn check(&self) {
        let conversation = open(self.dir.path(), self.id);
        let here = self.acknowledged.clone();
        let missing = conversation.ask(move |r| {
            let gone = |c: &ObjectId| r.message(c).is_none();
            here.into_iter().filter(gone).collect::<Vec<_>>()
        });
        assert_eq!(missing.await.unwrap(), []);
        let verdict = conversation.verify().await.unwrap();
        assert!(verdict.valid, "{verdict:?}");
        // At most the one write that was not acknowledged is there beside them, each time.
        assert!(verdict.commits <= 1 + self.acknowledged.len() as u64 + self.kills);
        conversation.close().await;
        fsck(&starling_bridge::conversation::path(
            self.dir.path(),
            &self.id,
        ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill_at_any_point() {
    let mut killed = Killed::new().await;
    // Some lines, then the kill falls wherever the next write happens to be.
    for lines in [1, 7, 40, 3, 23] {
        killed.run(&[], Until::Killed(lines)).await;
    }
    assert!(killed.acknowledged.len() >= 74);
}

/// The same at each call that changes a file, one after the other, as the call begins. Calls are counted for each thread
/// and each kind by itself, and one thread writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill_at_each_write() {
    // The names that not every machine has are marked.
    const CALLS: [&str; 11] = [
        "write",
        "pwrite64",
        "fsync",
        "fdatasync",
        "ftruncate",
        "?rename",
        "?renameat",
        "?renameat2",
        "?unlink",
        "?unlinkat",
        "?linkat",
    ];
    let works = Command::new("strace")
        .args(["-qq", "-e", "trace=none", "true"])
        .status();
    if !works.is_ok_and(|status| status.success()) {
        return skip_support::skip("strace is not installed, or may not trace");
    }
    let mut killed = Killed::new().await;
    let mut kills = Vec::new();
    for call in CALLS {
        for n in 1..100 {
            let (trace, inject) = (
                format!("trace={call}"),
                format!("inject={call}:signal=KILL:when={n}"),
            );
            let under = [
                "strace",
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                &trace,
                "-e",
                &inject,
            ];
            // Nothing of the kind is left: all that would come later is as what was before.
            if killed.run(&under, Until::Told(1)).await {
                break;
            }
            kills.push(call);
        }
    }
    let at = |call: &str| kills.iter().filter(|c| **c == call).count();
    assert!(at("pwrite64") + at("write") >= 10, "{kills:?}");
    assert!(at("fsync") + at("fdatasync") >= 2, "{kills:?}");
}

async fn reopen(bridge: &mut Bridge, spoil: impl FnOnce(&Path)) {
    let dir = bridge.account().dir().to_owned();
    bridge.stop().await;
    spoil(&dir);
    bridge.open().await;
}

fn broken(bridge: &Bridge, code: &str) -> Option<(Option<LocalAccountId>, String)> {
    bridge.events().into_iter().find_map(|e| match e {
        Event::BridgeNotice {
            code: c,
            text,
            account,
            ..
        } if c == code => Some((account, text)),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_account_is_named_and_the_others_go_on() {
    let first = node(None);
    let mut bridge = Bridge::of(&first, "Alice").await;
    let damaged = bridge.account();
    let other = bridge
        .accounts()
        .create_with(keys(), named("Other"), None)
        .await
        .unwrap();
    let (dir, id, other_id) = (
        damaged.dir().to_owned(),
        damaged.id.clone(),
        other.id.clone(),
    );
    let whole = damaged.view();
    drop((damaged, other));
    bridge.stop().await;
    for (file, content) in [
        ("state.sqlite", vec![7; 9000]),
        ("device.key", b"no key".to_vec()),
        ("device.crt", b"-----BEGIN CERTIFICATE-----\n".to_vec()),
        ("receipt.json", b"{".to_vec()),
    ] {
        let path = dir.join(file);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, &content).unwrap();
        bridge.open().await;
        let open: Vec<_> = bridge
            .accounts()
            .all()
            .iter()
            .map(|a| a.id.clone())
            .collect();
        assert_eq!(open, std::slice::from_ref(&other_id), "{file}");
        let (whose, text) = broken(&bridge, "account_broken").unwrap();
        assert_eq!(whose.as_ref(), Some(&id));
        assert!(text.contains("damaged"), "{text}");
        // It is listed as what it is, and says what to do.
        let list = bridge.accounts().views();
        assert_eq!(list.len(), 2);
        let view = bridge.accounts().view(&id).unwrap();
        assert_eq!(view.state, api::AccountState::Broken);
        assert_eq!(view.jami_id == whole.jami_id, file != "device.crt");
        assert_eq!(view.display_name == "Alice", file != "state.sqlite");
        let told = bridge.events().into_iter().rev().find_map(|e| match e {
            Event::AccountState { account, state, .. } if account == id => Some(state),
            _ => None,
        });
        assert_eq!(told, Some(api::AccountState::Broken));
        let Err(e) = bridge.accounts().get(&id) else {
            panic!("open")
        };
        assert_eq!(e.code, api::ErrorCode::Corrupt);
        // One piece of advice, and none against it.
        assert!(e.message.contains("backup"), "{}", e.message);
        assert!(!e.message.contains("remove"), "{}", e.message);
        assert_eq!(
            std::fs::read(&path).unwrap(),
            content,
            "{file} is left as it is"
        );
        bridge.stop().await;
        std::fs::write(&path, good).unwrap();
    }
    bridge.open().await;
    assert_eq!(bridge.accounts().all().len(), 2);
    assert_eq!(bridge.accounts().views().len(), 2);
    bridge.stop().await;
    // Who has a backup takes it away.
    std::fs::write(dir.join("receipt.json"), "{").unwrap();
    bridge.open().await;
    bridge.accounts().remove(&id).await.unwrap();
    assert!(!dir.exists());
    let list = bridge.accounts().views();
    let left: Vec<_> = list.iter().map(|a| &a.id).collect();
    assert_eq!(left, [&other_id]);
    assert!(bridge.accounts().remove(&id).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_index_is_made_anew_and_a_damaged_archive_is_named() {
    let first = node(None);
    let mut bridge = Bridge::of(&first, "Alice").await;
    let id = bridge
        .account()
        .create_group(
            starling_core::api::ConversationMode::InvitesOnly,
            None,
            vec![],
        )
        .await
        .unwrap()
        .id;
    bridge
        .account()
        .send(id, "needle".into(), None)
        .await
        .unwrap();
    reopen(&mut bridge, |dir| {
        std::fs::write(dir.join("index.sqlite"), [3; 5000]).unwrap();
        std::fs::write(dir.join("archive.gz"), b"nothing").unwrap();
    })
    .await;
    let found = bridge.account().search(None, "needle", 5).await.unwrap();
    assert_eq!(found.len(), 1);
    let e = bridge.account().export(None).await.unwrap_err();
    assert_eq!(
        starling_core::api::ApiError::from(e).code,
        starling_core::api::ErrorCode::Corrupt
    );
    let bad = bridge
        .accounts()
        .import(b"no backup", None, named(""))
        .await;
    let Err(e) = bad else { panic!("imported") };
    assert_eq!(
        starling_core::api::ApiError::from(e).code,
        starling_core::api::ErrorCode::Corrupt
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_repository_is_named_and_the_others_go_on() {
    let first = node(None);
    let mut bridge = Bridge::of(&first, "Alice").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mode = starling_core::api::ConversationMode::InvitesOnly;
        let group = bridge
            .account()
            .create_group(mode, None, vec![])
            .await
            .unwrap();
        ids.push(group.id);
    }
    let path = bridge.account().repository_path(&ids[0]);
    let head = bridge.account().conversation(&ids[0]).unwrap().head();
    reopen(&mut bridge, |_| {
        let hex = head.to_hex();
        let object = path.join("objects").join(&hex[..2]).join(&hex[2..]);
        let mut permissions = std::fs::metadata(&object).unwrap().permissions();
        #[allow(clippy::permissions_set_readonly_false)]
        permissions.set_readonly(false);
        std::fs::set_permissions(&object, permissions).unwrap();
        std::fs::write(object, b"torn").unwrap();
    })
    .await;
    let (_, text) = broken(&bridge, "conversation_broken").unwrap();
    assert!(text.contains(&ids[0].to_hex()), "{text}");
    assert!(path.exists());
    let account = bridge.account();
    account
        .send(ids[1], "still here".into(), None)
        .await
        .unwrap();
    assert!(account.send(ids[0], "x".into(), None).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_history_is_refused_and_leaves_no_trace() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let mut bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    alice
        .account()
        .send(id, "before".into(), None)
        .await
        .unwrap();
    bob.has_texts(id, &["before"]).await;
    let same = alice.account().conversation(&id).unwrap().head();
    bob.until("the same head", |b| async move {
        (b.conversation(&id)?.head() == same).then_some(())
    })
    .await;
    // Bob's program writes a commit in the name of Alice's device, with a key that is not hers.
    let device = alice.account().device_id();
    let path = bob.account().repository_path(&id);
    bob.stop().await;
    let forged = {
        let store = ObjectStore::open(&path).unwrap();
        let head = store.head().unwrap();
        let (_, data) = store.read(&head).unwrap();
        let text = Message::text("I owe Bob a house", None).to_text();
        let draft = Draft {
            tree: Commit::parse(&data).unwrap().tree,
            parents: vec![head],
            name: "Alice",
            device,
            time: now(),
            message: &text,
        };
        let commit = draft.sign(&*keys().device).unwrap();
        store
            .commit(&[(commit.kind, &commit.data[..])], Some(head), commit.id)
            .unwrap();
        commit.id
    };
    bob.open().await;
    let (from, commit, rule) = alice
        .heard("the refusal", |e| match e {
            Event::ConversationRejected {
                from, commit, rule, ..
            } => Some((*from, *commit, rule.clone())),
            _ => None,
        })
        .await;
    assert_eq!(from, bob.account().device_id());
    assert_eq!(commit, Some(forged));
    assert!(!rule.is_empty());
    let history = messages(&alice.account(), id).await;
    assert!(history.iter().all(|m| m.id != forged));
    assert_eq!(alice.account().conversation(&id).unwrap().head(), same);
    let path = alice.account().repository_path(&id);
    let store = alice.account().conversation(&id).unwrap().store.clone();
    assert!(!store.contains(&forged), "not even in the store");
    drop(store);
    // Alice can go on writing; her history stays valid.
    alice
        .account()
        .send(id, "after".into(), None)
        .await
        .unwrap();
    assert!(alice.account().verify(id).await.unwrap().valid);
    alice.stop().await;
    fsck(&path);
    let offered = |e: &&Event| matches!(e, Event::ConversationRejected { commit, .. } if *commit != Some(forged));
    assert_eq!(alice.events().iter().find(offered), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_without_accounts_is_no_error() {
    let bridge = Bridge::start(&node(None)).await;
    let accounts: &Accounts = bridge.accounts();
    assert!(accounts.all().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_a_conversation_is_said_and_the_conversation_goes_on() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let account = alice.account();
    let group = account.create_group(api::ConversationMode::InvitesOnly, None, Vec::new());
    let id = group.await.unwrap().id;
    account.send(id, "before".into(), None).await.unwrap();
    let conversation = account.conversation(&id).unwrap();
    let failed = conversation.ask::<()>(|_| panic!("a fault")).await;
    assert_eq!(failed, Err(NoAnswer::Failed));
    alice
        .heard("of the fault", |e| match e {
            Event::BridgeNotice { code, .. } if code == "internal_fault" => Some(()),
            _ => None,
        })
        .await;
    account.send(id, "after".into(), None).await.unwrap();
    let (page, _) = account.history(id, None, 10).await.unwrap();
    let texts: Vec<_> = page.iter().filter_map(|m| m.body.as_deref()).collect();
    assert_eq!(texts, ["before", "after"]);
    // Whoever reads without waiting for a turn sees the same.
    assert_eq!(
        conversation.snapshot().head,
        conversation.ask(|r| r.head()).await.unwrap()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_person_with_many_devices_the_last_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (_, identity) = create_account(&AwsLc, now(), keys()).unwrap();
    let state = State::open(&dir.path().join("state.sqlite")).unwrap();
    let me = Me {
        identity,
        name: "Alice".into(),
    };
    let mode = ConversationMode::InvitesOnly;
    let c = Conversation::create(dir.path(), state.clone(), me, mode, None, now()).unwrap();
    let (head, eve, bob) = (c.head(), AccountId([2; 20]), AccountId([3; 20]));
    c.ask(move |r| {
        r.fetched(DeviceId([200; 32]), bob, head, 0).unwrap();
        for n in 0..=99 {
            r.fetched(DeviceId([n; 32]), eve, head, i64::from(n))
                .unwrap();
            r.told(DeviceId([n; 32]), eve, head);
        }
    })
    .await
    .unwrap();
    let kept: serde_json::Value = state.get("progress", &c.id.to_hex()).unwrap().unwrap();
    let kept: Vec<&String> = kept["fetched"].as_object().unwrap().keys().collect();
    assert_eq!(kept.len(), MAX_DEVICES + 1);
    assert!(kept.contains(&&DeviceId([99; 32]).to_hex()));
    assert!(kept.contains(&&DeviceId([200; 32]).to_hex()));
    assert!(!kept.contains(&&DeviceId([35; 32]).to_hex()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_export_does_not_undo_a_change_of_the_password() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let account = alice.account();
    let mut old: Option<String> = None;
    for n in 0..3 {
        let new = format!("word {n}");
        let export = {
            let (account, old) = (account.clone(), old.clone());
            tokio::spawn(async move { account.export(old.as_deref()).await })
        };
        let change = {
            let (account, old, new) = (account.clone(), old.clone(), new.clone());
            tokio::spawn(async move { account.change_password(old.as_deref(), Some(&new)).await })
        };
        // If it comes second it has the wrong password.
        let _ = export.await.unwrap();
        change.await.unwrap().unwrap();
        account.export(Some(&new)).await.unwrap();
        old = Some(new);
    }
}

fn archive_notices(bridge: &Bridge) -> Vec<String> {
    let told = |e| match e {
        Event::BridgeNotice { code, text, .. } if code == "archive_damaged" => Some(text),
        _ => None,
    };
    bridge.events().into_iter().filter_map(told).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_archive_is_named_at_the_start_and_the_account_goes_on() {
    let first = node(None);
    let mut bridge = Bridge::start(&first).await;
    for password in [None, Some("secret")] {
        let made = bridge
            .accounts()
            .create_with(keys(), named("Alice"), password)
            .await
            .unwrap();
        let (id, path) = (made.id.clone(), made.dir().join("archive.gz"));
        let backup = made.export(password).await.unwrap();
        drop(made);
        let good = std::fs::read(&path).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let damages = [
            Some(Vec::new()),
            Some(good[..1000].to_vec()),
            Some(flipped),
            Some(vec![7; 3000]),
            None,
        ];
        for damage in damages {
            let told = archive_notices(&bridge).len();
            reopen(&mut bridge, |_| match &damage {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            })
            .await;
            let notices = archive_notices(&bridge);
            assert_eq!(
                notices.len(),
                told + 1,
                "{:?}",
                damage.as_ref().map(Vec::len)
            );
            let text = notices.last().unwrap();
            assert!(
                text.contains("archive.gz") && text.contains("backup that was exported"),
                "{text}"
            );
            let account = bridge.accounts().get(&id).unwrap();
            assert_eq!(account.view().has_password, password.is_some());
            let e = api::ApiError::from(account.export(password).await.unwrap_err());
            assert_eq!(e.code, api::ErrorCode::Corrupt, "{e:?}");
            let e = account.change_password(password, Some("new")).await;
            let e = api::ApiError::from(e.unwrap_err());
            assert_eq!(e.code, api::ErrorCode::Corrupt, "{e:?}");
            let left = std::fs::read(&path).ok();
            assert_eq!(left, damage, "it is left as it is");
            std::fs::write(&path, &good).unwrap();
        }
        // Whole again: nothing is said of it.
        let told = archive_notices(&bridge).len();
        reopen(&mut bridge, |_| ()).await;
        assert_eq!(archive_notices(&bridge).len(), told);
        // A backup from elsewhere does as well.
        std::fs::write(&path, &backup).unwrap();
        let account = bridge.accounts().get(&id).unwrap();
        account.export(password).await.unwrap();
        drop(account);
        bridge.accounts().remove(&id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_given_for_a_copy_does_not_lock_the_account() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let account = alice.account();
    let copy = account.export(Some("a slip")).await.unwrap();
    let none = Credential::None;
    assert_eq!(
        Archive::read(&copy, &none, &AwsLc).unwrap_err(),
        ArchiveError::NeedsPassword
    );
    Archive::read(&copy, &Credential::password("a slip"), &AwsLc).unwrap();
    let here = keep::read_archive(account.dir()).unwrap();
    Archive::read(&here, &none, &AwsLc).unwrap();
    drop(account);
    reopen(&mut alice, |_| ()).await;
    let account = alice.account();
    assert!(!account.view().has_password);
    account.export(None).await.unwrap();
    // A password of the account's own is said at once.
    account.change_password(None, Some("own")).await.unwrap();
    let told = alice.events().into_iter().rev().find_map(|e| match e {
        Event::AccountState { details, .. } => details.map(|d| d.has_password),
        _ => None,
    });
    assert_eq!(told, Some(true));
    for given in [None, Some("wrong")] {
        let e = api::ApiError::from(account.export(given).await.unwrap_err());
        assert_eq!(e.code, api::ErrorCode::WrongPassword);
        assert!(!e.message.contains("backup"), "{}", e.message);
    }
    account.export(Some("own")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_lacks_its_objects_is_not_an_empty_conversation() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let mode = api::ConversationMode::InvitesOnly;
    let account = alice.account();
    let group = account.create_group(mode, None, vec![]).await.unwrap();
    let id = group.id;
    account.send(id, "lost".into(), None).await.unwrap();
    let objects = account.repository_path(&id).join("objects");
    drop(account);
    reopen(&mut alice, |_| {
        for entry in std::fs::read_dir(&objects).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap();
                std::fs::create_dir(&path).unwrap();
            }
        }
    })
    .await;
    let account = alice.account();
    let history = account.history(id, None, 10).await.map(|_| ());
    let sent = account.send(id, "more".into(), None).await.map(|_| ());
    for outcome in [history, sent] {
        let e = api::ApiError::from(outcome.unwrap_err());
        assert_eq!(e.code, api::ErrorCode::Corrupt, "{e:?}");
        assert!(
            e.message.contains("damaged") && e.message.contains("missing"),
            "{}",
            e.message
        );
    }
    let (_, text) = broken(&alice, "conversation_broken").unwrap();
    assert!(text.contains(&id.to_hex()), "{text}");
}
