//! A full disk is said, and costs nothing that was there: when a message is written, when one is
//! fetched, and when the index is to follow. Needs a small file system of its own, and so root.
#![allow(clippy::unwrap_used)]

mod account_support;
mod skip_support;

use account_support::{Bridge, befriend, keys, messages, named, node};
use skip_support::skip;
use starling_bridge::account::registry::Accounts;
use starling_bridge::account::{Bounds, Context};
use starling_core::api::{AccountState, ApiError, ConversationMode, ErrorCode, Event, MemberRole};
use starling_core::id::AccountId;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A file system in memory; gone when this is dropped.
struct Small {
    at: PathBuf,
}

impl Small {
    /// `None`, and a line that says why, where none can be made.
    fn mount(at: &Path, kib: usize) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let made = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={kib}k,mode=0700"),
                "tmpfs",
            ])
            .arg(at)
            .output();
        match made {
            Ok(out) if out.status.success() => Some(Self { at: at.into() }),
            other => {
                skip(&format!("no file system can be mounted: {other:?}"));
                None
            }
        }
    }

    /// The same, of an ordinary size, on top of a directory, and with all that lies there.
    fn under(dir: &Path) -> Option<Self> {
        let aside = tempfile::tempdir().unwrap();
        copy(&dir.join("."), aside.path());
        let disk = Self::mount(dir, 16 << 10)?;
        copy(&aside.path().join("."), dir);
        Some(disk)
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = File::create(self.at.join("filler")).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn relieve(&self) {
        fs::remove_file(self.at.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(done.success());
}

async fn says_it_is_full(bridge: &Bridge) {
    bridge
        .heard("that the disk is full", |e| match e {
            Event::BridgeNotice { code, text, .. } if code == "disk_full" => {
                assert!(text.contains("full"), "{text}");
                Some(())
            }
            _ => None,
        })
        .await;
}

async fn in_order(bridge: &Bridge, id: starling_core::id::ConversationId) {
    assert!(bridge.account().verify(id).await.unwrap().valid);
}

fn fsck(path: &Path) {
    let out = Command::new("git")
        .args(["fsck", "--strict", "--full"])
        .current_dir(path)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writing_and_fetching_on_a_full_disk_lose_nothing() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    alice
        .account()
        .send(id, "before".into(), None)
        .await
        .unwrap();
    bob.has_texts(id, &["before"]).await;
    // From now on, all that Alice has is on a small disk.
    let dir = alice.account().dir().to_owned();
    alice.stop().await;
    let Some(disk) = Small::under(&dir) else {
        return;
    };
    alice.open().await;
    alice.linked(bob.id()).await;
    disk.fill();
    let head = alice.account().conversation(&id).unwrap().head();
    let refused = alice.account().send(id, "no room".into(), None).await;
    let refused = ApiError::from(refused.unwrap_err());
    assert_eq!(refused.code, ErrorCode::Storage, "{refused:?}");
    assert!(refused.message.contains("Make room"), "{refused:?}");
    says_it_is_full(&alice).await;
    assert_eq!(alice.account().conversation(&id).unwrap().head(), head);
    assert_eq!(alice.texts(id).await, ["before"]);
    // What Bob writes meanwhile cannot be taken in, and comes when there is room.
    bob.account()
        .send(id, "meanwhile".into(), None)
        .await
        .unwrap();
    in_order(&alice, id).await;
    assert_eq!(alice.account().conversation(&id).unwrap().head(), head);
    disk.relieve();
    alice.has_texts(id, &["before", "meanwhile"]).await;
    alice
        .account()
        .send(id, "after".into(), None)
        .await
        .unwrap();
    bob.has_texts(id, &["before", "meanwhile", "after"]).await;
    in_order(&alice, id).await;
    let path = alice.account().repository_path(&id);
    alice.stop().await;
    fsck(&path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_without_room_at_the_start_waits_for_it_and_misses_nothing() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let id = befriend(&alice, &bob).await;
    let before = alice.account().send(id, "before".into(), None).await;
    before.unwrap();
    bob.has_texts(id, &["before"]).await;
    let (dir, own) = (alice.account().dir().to_owned(), alice.account().view());
    alice.stop().await;
    let Some(disk) = Small::under(&dir) else {
        return;
    };
    disk.fill();
    let meanwhile = bob.account().send(id, "meanwhile".into(), None).await;
    meanwhile.unwrap();
    alice.open().await;
    let waits = |alice: &Bridge| {
        // It is shown, and whatever is wanted of it, the answer says what to do; nobody is told to
        // take it away.
        let [shown] = &alice.accounts().views()[..] else {
            panic!("one account");
        };
        assert_eq!((&shown.id, shown.jami_id), (&own.id, own.jami_id));
        assert_eq!(shown.state, AccountState::Loading);
        let why = alice.accounts().get(&own.id).err().unwrap();
        assert_eq!(why.code, ErrorCode::Storage);
        assert!(why.message.contains("make room"), "{why:?}");
        let said = |e: &Event| matches!(e, Event::BridgeNotice { code, .. } if code == "disk_full");
        assert_eq!(alice.events().into_iter().filter(said).count(), 1);
    };
    waits(&alice);
    alice.accounts().open_waiting().await;
    waits(&alice);
    disk.relieve();
    alice.accounts().open_waiting().await;
    alice
        .heard("that it is open", |e| match e {
            Event::AccountState { account, state, .. } if *account == own.id => {
                (*state != AccountState::Loading).then_some(())
            }
            _ => None,
        })
        .await;
    alice.has_texts(id, &["before", "meanwhile"]).await;
    let after = alice.account().send(id, "after".into(), None).await;
    after.unwrap();
    bob.has_texts(id, &["before", "meanwhile", "after"]).await;
    in_order(&alice, id).await;
    let path = alice.account().repository_path(&id);
    alice.stop().await;
    fsck(&path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_only_the_index_has_no_room_for_is_kept_and_shown_later() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let mode = starling_core::api::ConversationMode::InvitesOnly;
    let id = alice
        .account()
        .create_group(mode, None, vec![])
        .await
        .unwrap()
        .id;
    alice
        .account()
        .send(id, "before".into(), None)
        .await
        .unwrap();
    let dir = alice.account().dir().to_owned();
    alice.stop().await;
    let small = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(small.path(), 1 << 10) else {
        return;
    };
    let (index, there) = (dir.join("index.sqlite"), small.path().join("index.sqlite"));
    fs::copy(&index, &there).unwrap();
    fs::remove_file(&index).unwrap();
    std::os::unix::fs::symlink(&there, &index).unwrap();
    alice.open().await;
    assert_eq!(alice.texts(id).await, ["before"]);
    disk.fill();
    // As many as it takes until the index has no room; none is refused.
    let mut sent = vec!["before".to_owned()];
    for n in 0..200 {
        let text = format!("message {n} {}", "x".repeat(1000));
        alice.account().send(id, text.clone(), None).await.unwrap();
        sent.push(text);
        if alice.texts(id).await != sent {
            break;
        }
    }
    says_it_is_full(&alice).await;
    assert_ne!(alice.texts(id).await, sent, "the index had room for all");
    in_order(&alice, id).await;
    disk.relieve();
    alice
        .has_texts(id, &sent.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    assert_eq!(alice.texts(id).await, sent);
    // Who looked on was told of each, once.
    let told: Vec<_> = alice
        .events()
        .into_iter()
        .filter_map(|e| match e {
            Event::MessageReceived { message, .. } => Some(message.id),
            _ => None,
        })
        .collect();
    let here: Vec<_> = messages(&alice.account(), id).await;
    for message in here.iter().filter(|m| m.body.is_some()) {
        let times = told.iter().filter(|t| **t == message.id).count();
        assert_eq!(times, 1, "{message:?}");
    }
    alice.stop().await;
    // And after a start it is as it was.
    alice.open().await;
    assert_eq!(alice.texts(id).await, sent);
    alice.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_was_made_is_given_back_though_nobody_could_be_invited() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let dir = alice.account().dir().to_owned();
    alice.stop().await;
    let Some(disk) = Small::under(&dir) else {
        return;
    };
    let disk = Arc::new(disk);
    let fills = disk.clone();
    alice
        .open_and(move |event| {
            // The first commit is written, and then there is no room.
            if matches!(event, Event::ConversationReady { .. }) {
                fills.fill();
            }
        })
        .await;
    let account = alice.account();
    let (mode, title) = (ConversationMode::InvitesOnly, Some("Tea".to_owned()));
    let friends: Vec<AccountId> = (1..=9).map(|n| AccountId([n; 20])).collect();
    let group = account
        .create_group(mode, title, friends.clone())
        .await
        .unwrap();
    assert_eq!((group.title, group.member_count), (None, 1));
    let said = alice.events().into_iter().find_map(|e| match e {
        Event::BridgeNotice { code, text, .. } if code == "group_incomplete" => Some(text),
        _ => None,
    });
    let said = said.unwrap();
    assert!(
        said.contains("no title") && said.contains(&friends[0].to_hex()),
        "{said}"
    );
    assert!(said.contains("and 5 more"), "{said}");
    disk.relieve();
    account.invite(group.id, friends[0]).await.unwrap();
    let view = account.conversation_view(group.id).await.unwrap();
    let invited = view.members.iter().find(|m| m.id == friends[0]);
    assert_eq!(invited.unwrap().role, MemberRole::Invited);
    drop(account);
    alice.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_for_which_there_is_no_room_is_not_there_afterwards() {
    let first = node(None);
    let (mut refused, mut made, backup) = (0, 0, tempfile::tempdir().unwrap());
    let backup = backup.path().join("backup.gz");
    // Room for some of its files, for all but the last ones, and for all.
    for kib in [4, 16, 40, 80, 120, 160, 200, 260, 340, 500, 2_000] {
        let small = tempfile::tempdir().unwrap();
        let Some(_disk) = Small::mount(small.path(), kib) else {
            return;
        };
        let context = Context {
            emit: Arc::new(|_| {}),
            dht: node(Some(&first)),
            loopback: false,
            bounds: Bounds::default(),
        };
        let accounts = Accounts::open(small.path(), context).await.unwrap();
        let files = || -> Vec<_> {
            let all = fs::read_dir(small.path()).unwrap();
            all.map(|e| e.unwrap().file_name()).collect()
        };
        let before = files();
        // A new one, or one from a backup as soon as there is one.
        let new = match fs::read(&backup) {
            Ok(bytes) => accounts.import(&bytes, None, named("Alice")).await,
            Err(_) => accounts.create_with(keys(), named("Alice"), None).await,
        };
        match new {
            Ok(account) => {
                made += 1;
                assert_eq!(accounts.views().len(), 1, "{kib} kB");
                let bytes = account.export(None).await;
                if let (Ok(bytes), false) = (bytes, backup.exists()) {
                    fs::write(&backup, bytes).unwrap();
                }
            }
            Err(e) => {
                refused += 1;
                let why = ApiError::from(e);
                assert_eq!(why.code, ErrorCode::Storage, "{kib} kB: {why:?}");
                assert!(why.message.contains("full"), "{kib} kB: {why:?}");
                assert_eq!(accounts.views().len(), 0, "{kib} kB");
                assert_eq!(files(), before, "{kib} kB");
            }
        }
        accounts.stop().await;
    }
    assert!(refused > 3 && made > 1, "{refused} refused, {made} made");
}
