//! Both ends of `git://` against stock git, over localhost.
#![allow(clippy::unwrap_used, clippy::zombie_processes, missing_docs)]

use starling_bridge::store::objects::{ObjectStore, Quarantine};
use starling_core::git::fetch::{Fetch, Outcome, Output};
use starling_core::git::object::{Kind, Mode, TreeEntry, hash_object, write_tree};
use starling_core::git::pack::Limits;
use starling_core::git::reach::{haves, missing};
use starling_core::git::serve::{self, Event, UploadPack};
use starling_core::id::{ConversationId, DeviceId, ObjectId};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "git {args:?}: {text}{error}");
    text
}

/// Writes a commit with a file of its own, and sets the branch to it.
fn commit(store: &ObjectStore, time: u64, text: &str) -> ObjectId {
    let head = store.head();
    let blob = format!("content of {text}").into_bytes();
    let mut entries = [TreeEntry {
        mode: Mode::File,
        name: b"file",
        id: hash_object(Kind::Blob, &blob),
    }];
    let tree = write_tree(&mut entries);
    let parent = head.map(|p| format!("parent {p}\n")).unwrap_or_default();
    let commit = format!(
        "tree {}\n{parent}author A <a@b> {time} +0000\ncommitter A <a@b> {time} +0000\n\n{text}",
        hash_object(Kind::Tree, &tree)
    );
    let id = hash_object(Kind::Commit, commit.as_bytes());
    let objects = [
        (Kind::Blob, &blob[..]),
        (Kind::Tree, &tree),
        (Kind::Commit, commit.as_bytes()),
    ];
    store.commit(&objects, head, id).unwrap();
    id
}

/// Serves a store over TCP, reading `piece` bytes at a time; what it tells arrives at the receiver.
fn serve(
    store: Arc<ObjectStore>,
    conversation: ConversationId,
    piece: usize,
) -> (u16, Receiver<Event>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, events) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let mut engine = UploadPack::new(conversation);
            let mut buffer = vec![0; piece];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                engine.handle_input(&buffer[..n], &*store);
                while let Some(output) = engine.poll_output(&*store) {
                    match output {
                        serve::Output::Send(bytes) => {
                            if stream.write_all(&bytes).is_err() {
                                break;
                            }
                        }
                        serve::Output::Event(e) => tell.send(e).unwrap_or(()),
                        serve::Output::Close => {
                            stream.shutdown(std::net::Shutdown::Both).unwrap_or(())
                        }
                    }
                }
            }
        }
    });
    (port, events)
}

#[test]
fn stock_git_clones_and_fetches_from_us() {
    for piece in [1, 4096] {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(ObjectStore::create(&dir.path().join("c")).unwrap());
        let mut head = None;
        for i in 0..100 {
            head = Some(commit(&store, i, &format!("message {i}")));
        }
        let conversation = ConversationId([0xc0; 20]);
        let (port, events) = serve(Arc::clone(&store), conversation, piece);
        let url = format!("git://127.0.0.1:{port}/{conversation}");
        git(dir.path(), &["clone", "-q", &url, "clone"]);
        assert_eq!(events.recv().unwrap(), Event::Sent(head.unwrap()));
        let clone = dir.path().join("clone");
        assert_eq!(git(&clone, &["rev-list", "--count", "HEAD"]), "100\n");

        git(&clone, &["fetch", "-q"]);
        assert_eq!(events.recv().unwrap(), Event::UpToDate(head.unwrap()));

        // Both go on: the clone has commits we never saw, more than git tells of at once.
        git(&clone, &["config", "user.email", "a@b"]);
        git(&clone, &["config", "user.name", "a"]);
        for i in 0..40 {
            git(
                &clone,
                &[
                    "commit",
                    "-q",
                    "--allow-empty",
                    "-m",
                    &format!("theirs {i}"),
                ],
            );
        }
        for i in 0..3 {
            head = Some(commit(&store, 200 + i, &format!("ours {i}")));
        }
        git(&clone, &["fetch", "-q"]);
        assert_eq!(events.recv().unwrap(), Event::Sent(head.unwrap()));
        assert_eq!(
            git(&clone, &["rev-list", "--count", "HEAD..origin/main"]),
            "3\n"
        );
        assert_eq!(git(&clone, &["fsck", "--strict", "--no-progress"]), "");
        // Only what was missing: commits, trees and files of three messages.
        let packs = git(&clone, &["count-objects", "-v"]);
        assert!(packs.contains(&format!("count: {}\n", 40 + 9)), "{packs}");
    }
}

#[test]
fn stock_git_is_told_why_it_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(ObjectStore::create(&dir.path().join("c")).unwrap());
    let conversation = ConversationId([0xc0; 20]);
    let (port, events) = serve(store, conversation, 1000);
    let url = format!("git://127.0.0.1:{port}/{}", "0".repeat(40));
    let out = Command::new("git")
        .args(["ls-remote", &url])
        .output()
        .unwrap();
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("no such service or repository"));
    assert!(matches!(events.recv().unwrap(), Event::Failed(_)));
    // An empty repository is no error.
    let url = format!("git://127.0.0.1:{port}/{conversation}");
    assert_eq!(git(dir.path(), &["ls-remote", &url]), "");
}

/// One fetch from `git upload-pack`, as a daemon would run it: it never saw the request line.
fn fetch_from_git(
    fetch: &mut Fetch,
    store: &Arc<ObjectStore>,
    repo: &Path,
    piece: usize,
) -> Outcome {
    let mut child = Command::new("git")
        .args(["upload-pack", "--strict"])
        .arg(repo)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut from = child.stdout.take().unwrap();
    fetch.start().unwrap();
    let request = fetch.poll_output();
    assert!(matches!(request, Some(Output::Send(r)) if r.starts_with(b"0084git-upload-pack /")));
    let mut receiving = Some(store.quarantine(Limits::default()));
    let mut buffer = vec![0; piece];
    loop {
        while let Some(output) = fetch.poll_output() {
            match output {
                // The last flush meets nobody: git has gone.
                Output::Send(bytes) => to.write_all(&bytes).unwrap_or(()),
                Output::Advertised(id) if store.contains(&id) => fetch.up_to_date(),
                Output::Advertised(_) => fetch.want(&haves(&**store).unwrap()),
                Output::Pack(bytes) => receiving.as_mut().unwrap().write(&bytes).unwrap(),
                Output::Outcome(outcome) => {
                    if let Outcome::Done { head, .. } = outcome {
                        let quarantine = receiving.take().unwrap().finish().unwrap();
                        let all = missing(&quarantine, head, &BTreeSet::new()).unwrap();
                        quarantine.accept(&all).unwrap();
                        store.set_head(store.head(), head).unwrap();
                    }
                    drop(to);
                    child.wait().unwrap();
                    return outcome;
                }
            }
        }
        match from.read(&mut buffer).unwrap() {
            0 => fetch.handle_closed(),
            n => fetch.handle_input(&buffer[..n]),
        }
    }
}

#[test]
fn we_fetch_from_stock_git() {
    for piece in [1, 1000, 70_000] {
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        git(&theirs, &["init", "-q", "-b", "main"]);
        git(&theirs, &["config", "user.email", "a@b"]);
        git(&theirs, &["config", "user.name", "a"]);
        let write = |count: usize| {
            for i in 0..count {
                std::fs::write(theirs.join("f"), format!("{i}\n").repeat(500)).unwrap();
                git(&theirs, &["add", "f"]);
                git(
                    &theirs,
                    &["commit", "-q", "-m", &format!("m{i}"), "--allow-empty"],
                );
            }
            git(&theirs, &["rev-parse", "HEAD"])
                .trim()
                .parse::<ObjectId>()
                .unwrap()
        };
        let ours = dir.path().join("ours");
        let store = Arc::new(ObjectStore::create(&ours).unwrap());
        let mut fetch = Fetch::new(ConversationId([1; 20]), DeviceId([2; 32]), 1 << 20);
        let head = write(30);
        assert!(
            matches!(fetch_from_git(&mut fetch, &store, &theirs.join(".git"), piece), Outcome::Done { head: h, .. } if h == head)
        );
        assert_eq!(
            fetch_from_git(&mut fetch, &store, &theirs.join(".git"), piece),
            Outcome::UpToDate(head)
        );
        let head = write(3);
        assert!(
            matches!(fetch_from_git(&mut fetch, &store, &theirs.join(".git"), piece), Outcome::Done { head: h, received } if h == head && received < 3000)
        );
        assert_eq!(git(&ours, &["rev-list", "--count", "main"]), "33\n");
        assert_eq!(git(&ours, &["fsck", "--strict", "--no-progress"]), "");
    }
}

#[test]
fn a_commit_can_be_written_while_a_pack_goes_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(ObjectStore::create(&dir.path().join("c")).unwrap());
    let mut head = None;
    for i in 0..50 {
        head = Some(commit(&store, i, &"x".repeat(20_000 + i as usize)));
    }
    let conversation = ConversationId([0xc0; 20]);
    let mut engine = UploadPack::new(conversation);
    let request = format!("git-upload-pack /{conversation}\0host=x\0");
    let input = format!(
        "{:04x}{request}0031want {}00000009done\n",
        request.len() + 4,
        head.unwrap()
    );
    engine.handle_input(input.as_bytes(), &*store);
    let sent = Mutex::new(0);
    let mut events = Vec::new();
    while let Some(output) = engine.poll_output(&*store) {
        match output {
            serve::Output::Send(_) => {
                let mut sent = sent.lock().unwrap();
                *sent += 1;
                // Amid the pack: a new head, and everything packed anew.
                if *sent == 3 {
                    commit(&store, 100, "meanwhile");
                    store.repack().unwrap();
                }
            }
            serve::Output::Event(e) => events.push(e),
            serve::Output::Close => panic!("closed"),
        }
    }
    assert_eq!(events, [Event::Sent(head.unwrap())]);
}

/// Fetches once. `Err`: what came, where it was more than is taken at once.
fn fetch_some(
    from: &ObjectStore,
    to: &Arc<ObjectStore>,
    limits: Limits,
) -> Result<ObjectId, Box<(Quarantine, Vec<ObjectId>)>> {
    let conversation = ConversationId([0xc0; 20]);
    let mut server = UploadPack::new(conversation);
    let mut client = Fetch::new(conversation, DeviceId([2; 32]), 1 << 30);
    let mut receiving = to.quarantine(limits);
    client.start().unwrap();
    loop {
        while let Some(output) = client.poll_output() {
            match output {
                Output::Send(bytes) => server.handle_input(&bytes, from),
                Output::Advertised(_) => client.want(&haves(&**to).unwrap()),
                Output::Pack(bytes) => {
                    if receiving.write(&bytes).is_err() {
                        return Err(Box::new(receiving.rescue().unwrap()));
                    }
                }
                Output::Outcome(Outcome::Done { head, .. }) => {
                    let quarantine = receiving.finish().unwrap();
                    let all = missing(&quarantine, head, &BTreeSet::new()).unwrap();
                    quarantine.accept(&all).unwrap();
                    return Ok(head);
                }
                Output::Outcome(other) => panic!("{other:?}"),
            }
        }
        match server.poll_output(from) {
            Some(serve::Output::Send(bytes)) => client.handle_input(&bytes),
            Some(serve::Output::Event(_)) => {}
            Some(serve::Output::Close) | None => client.handle_closed(),
        }
    }
}

#[test]
fn a_history_larger_than_what_is_taken_at_once_comes_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let source = ObjectStore::create(&dir.path().join("source")).unwrap();
    for n in 0..500 {
        commit(&source, n, &format!("message {n}"));
    }
    let head = source.head().unwrap();
    let limits = [
        // Three objects a commit.
        Limits {
            objects: 400,
            ..Limits::default()
        },
        Limits {
            received: 25_000,
            ..Limits::default()
        },
    ];
    for (n, limits) in limits.into_iter().enumerate() {
        let path = dir.path().join(format!("target{n}"));
        let target = Arc::new(ObjectStore::create(&path).unwrap());
        let mut parts = 0;
        let got = loop {
            let part = match fetch_some(&source, &target, limits) {
                Ok(head) => break head,
                Err(part) => part,
            };
            let (quarantine, commits) = *part;
            let known = |id: &ObjectId| target.contains(id);
            let newest = quarantine.newest_whole(&commits, &known).unwrap();
            quarantine.accept(&commits).unwrap();
            target.set_head(target.head(), newest).unwrap();
            parts += 1;
        };
        assert!((3..10).contains(&parts), "{parts} parts");
        assert_eq!(got, head);
        target.set_head(target.head(), head).unwrap();
        let count = git(&path, &["rev-list", "--count", "main"]);
        assert_eq!(count, "500\n");
    }
}
