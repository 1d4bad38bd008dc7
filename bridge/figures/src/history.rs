//! Measures long histories: time, memory and room on the disk against the number of commits.
//!
//!     history [COMMITS...]                1000 10000 100000 without
//!     history grow ACCOUNT_DIR ID COMMITS puts that many texts into a conversation of an account that does not run
//!
//! A history is written once and kept in `target/history`: each of its commits takes a signature.
//! Every measurement is a process of its own, so that the largest memory it held is its own.
#![allow(clippy::unwrap_used, missing_docs)]

use starling_bridge::account::keep;
use starling_bridge::conversation::judging::check_clone;
use starling_bridge::conversation::making::Making;
use starling_bridge::conversation::repo::Me;
use starling_bridge::conversation::{self, Conversation};
use starling_bridge::crypto::AwsLc;
use starling_bridge::store::index::Index;
use starling_bridge::store::objects::ObjectStore;
use starling_bridge::store::state::State;
use starling_core::git::object::Kind;
use starling_core::git::pack::{Limits, PackWriter};
use starling_core::git::reach;
use starling_core::id::{ConversationId, ObjectId};
use starling_core::identity::{Identity, create_account};
use starling_core::swarm::commit::{Commit, Draft};
use starling_core::swarm::message::{ConversationMode, Message};
use starling_core::swarm::validate::{self, RULES};
use starling_core::swarm::write::{self, Writer};
use std::fs;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// When the histories begin, unix seconds.
const START: u64 = 1_700_000_000;

/// Messages written on top of each, to see how long that takes.
const MORE: usize = 50;

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// Kibibytes of a line in `/proc/self/status`.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|l| l.strip_prefix(line));
    found
        .and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// What a directory or file takes on the disk, in bytes.
fn room(path: &Path) -> u64 {
    let out = Command::new("du").args(["-sk"]).arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let kib = text.split_whitespace().next().unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

fn me(dir: &Path) -> Me {
    Me {
        identity: keep::read_identity(dir, now()).unwrap(),
        name: "Ann".into(),
    }
}

fn say(figure: &str, value: impl std::fmt::Display) {
    println!("{figure}={value}");
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn id_of(dir: &Path) -> ConversationId {
    let text = fs::read_to_string(dir.join("id")).unwrap();
    text.trim().parse().unwrap()
}

fn write_all(store: &ObjectStore, objects: &[starling_core::swarm::object::NewObject]) {
    let objects: Vec<(Kind, &[u8])> = objects.iter().map(|o| (o.kind, &o.data[..])).collect();
    store.write_objects(&objects).unwrap();
}

/// Texts of about fifty letters on top of a commit with its tree, with a fork and a merge every hundred: so many
/// commits, from a time on. Gives the last one.
fn texts(
    store: &ObjectStore,
    identity: &Identity,
    (from, tree): (ObjectId, ObjectId),
    start: u64,
    count: usize,
) -> ObjectId {
    let sign = |parents: Vec<ObjectId>, time: u64, message: &Message| {
        let draft = Draft {
            tree,
            parents,
            name: "Ann",
            device: identity.device_id(),
            time,
            message: &message.to_text(),
        };
        draft.sign(&*identity.device_key).unwrap()
    };
    let text = |n: usize| {
        Message::text(
            format!("message {n:>9} with about fifty letters in it"),
            None,
        )
    };
    let (mut head, mut made, mut waiting) = (from, 0, Vec::new());
    while made < count {
        let time = start + made as u64;
        if made % 100 == 98 && made + 3 <= count {
            let left = sign(vec![head], time, &text(made));
            let right = sign(vec![head], time, &text(made + 1));
            let parents = vec![left.id, right.id];
            let merge = sign(parents, time + 1, &Message::merge(right.id));
            head = merge.id;
            waiting.extend([left, right, merge]);
            made += 3;
        } else {
            let commit = sign(vec![head], time, &text(made));
            head = commit.id;
            waiting.push(commit);
            made += 1;
        }
        if waiting.len() > 2000 || made >= count {
            write_all(store, &waiting);
            waiting.clear();
        }
    }
    store.set_head(Some(from), head).unwrap();
    head
}

/// A history of texts as one pack.
fn make(dir: &Path, count: usize) {
    fs::create_dir_all(dir).unwrap();
    // The keys of real devices: the signature is the most of a commit.
    let keys = AwsLc.generate_account_keys().unwrap();
    let (_, identity) = create_account(&AwsLc, START, keys).unwrap();
    keep::write_identity(dir, &identity).unwrap();
    let writer = Writer::new("Ann", &identity.chain, &*identity.device_key);
    let first = write::initial(&writer, ConversationMode::InvitesOnly, None, START).unwrap();
    let source = dir.join("source");
    let _ = fs::remove_dir_all(&source);
    let store = ObjectStore::create(&source).unwrap();
    write_all(&store, &first.objects);
    store.set_head(None, first.commit).unwrap();
    let head = texts(
        &store,
        &identity,
        (first.commit, first.tree),
        START,
        count - 1,
    );
    // As it comes from a peer.
    let objects = reach::missing(&store, head, &Default::default()).unwrap();
    let mut pack = BufWriter::new(fs::File::create(dir.join("pack")).unwrap());
    let (mut writer, start) = PackWriter::new(u32::try_from(objects.len()).unwrap(), false);
    pack.write_all(&start).unwrap();
    for object in objects {
        let (kind, data) = store.read(&object).unwrap();
        pack.write_all(&writer.object(kind, &data)).unwrap();
    }
    pack.write_all(&writer.finish().0).unwrap();
    pack.flush().unwrap();
    drop(store);
    fs::remove_dir_all(&source).unwrap();
    fs::write(dir.join("head"), head.to_hex()).unwrap();
    fs::write(dir.join("id"), first.commit.to_hex()).unwrap();
}

/// From the bytes of the pack to a valid repository under its name.
fn clone(dir: &Path) {
    let id = id_of(dir);
    let head = fs::read_to_string(dir.join("head")).unwrap();
    let head: ObjectId = head.parse().unwrap();
    let own = me(dir).identity.account_id();
    let target = conversation::path(dir, &id);
    let staging = target.with_extension("clone");
    for path in [&target, &staging] {
        let _ = fs::remove_dir_all(path);
    }
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    forget_index(dir);
    let begun = Instant::now();
    let store = Arc::new(ObjectStore::create(&staging).unwrap());
    let mut receiving = store.quarantine(Limits::default());
    let mut pack = BufReader::new(fs::File::open(dir.join("pack")).unwrap());
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = pack.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        receiving.write(&buffer[..n]).unwrap();
    }
    let quarantine = receiving.finish().unwrap();
    say("receive_ms", millis(begun));
    say("receive_peak_kib", memory("VmHWM:"));
    let since = Instant::now();
    let index = Index::open(&dir.join(conversation::INDEX)).unwrap();
    let mut making = Making::begin(index, id, RULES);
    let limits = validate::Limits::default();
    let go_on = || true;
    let (_, valid) = check_clone(
        limits,
        id,
        &quarantine,
        head,
        &own,
        &go_on,
        Some(&mut making),
    )
    .unwrap();
    say("validate_ms", millis(since));
    quarantine
        .accept_with(&valid.commits, &valid.trees)
        .unwrap();
    store.set_head(None, head).unwrap();
    drop(store);
    conversation::settle(&staging, &target).unwrap();
    making.complete(&head).unwrap();
    say("clone_ms", millis(begun));
    say("clone_peak_kib", memory("VmHWM:"));
}

/// Makes a conversation of an account that is not running this long, and packs it.
fn grow(account: &Path, id: &str, count: usize) {
    let identity = keep::read_identity(account, now()).unwrap();
    let store = ObjectStore::open(&conversation::path(account, &id.parse().unwrap())).unwrap();
    let head = store.head().unwrap();
    let commit = Commit::parse(&store.read(&head).unwrap().1).unwrap();
    // Nothing of it is from the future when it is looked at.
    let start = u64::try_from(commit.time).unwrap() - count as u64;
    texts(&store, &identity, (head, commit.tree), start, count);
    store.repack().unwrap();
}

fn open(dir: &Path) -> Conversation {
    let state = State::open(&dir.join("state.sqlite")).unwrap();
    Conversation::open(dir, id_of(dir), state, me(dir)).unwrap()
}

fn forget_index(dir: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(dir.join(format!("{}{suffix}", conversation::INDEX)));
    }
}

/// Makes the index.
async fn index(dir: PathBuf) {
    forget_index(&dir);
    let begun = Instant::now();
    let conversation = open(&dir);
    say("index_ms", millis(begun));
    say("index_peak_kib", memory("VmHWM:"));
    conversation.close().await;
}

/// What a reader waits for after a start, and what that holds in memory.
async fn look(dir: PathBuf) {
    say("before_kib", memory("VmRSS:"));
    let begun = Instant::now();
    let conversation = open(&dir);
    say("open_ms", millis(begun));
    let since = Instant::now();
    let row = conversation.ask(|r| (r.last_message(), r.unread(None, &[])));
    let row = row.await.unwrap();
    say("list_ms", millis(since));
    assert!(row.0.is_some() && !conversation.store.is_open());
    let since = Instant::now();
    let page = conversation.ask(|r| r.page(None, 50)).await.unwrap();
    say("last_page_ms", millis(since));
    say("open_and_last_page_ms", millis(begun));
    say("after_page_kib", memory("VmRSS:"));
    let since = Instant::now();
    let mut before = page.unwrap().0[0].id;
    for _ in 0..10 {
        let page = conversation.ask(move |r| r.page(Some(&before), 50));
        before = page.await.unwrap().unwrap().0[0].id;
    }
    say("earlier_page_ms", millis(since) / 10.0);
    let since = Instant::now();
    let haves = conversation.ask(|r| r.timeline().haves().len());
    assert!(haves.await.unwrap() > 20);
    say("haves_ms", millis(since));
    let since = Instant::now();
    for n in 0..MORE {
        let text = Message::text(format!("one more, number {n}"), None);
        conversation
            .ask(move |r| r.write(now(), |repo, writer, now| repo.message(writer, text, now)))
            .await
            .unwrap()
            .unwrap();
    }
    say("write_ms", millis(since) / MORE as f64);
    say("look_peak_kib", memory("VmHWM:"));
    conversation.store.repack().unwrap();
    let path = conversation::path(&dir, &id_of(&dir));
    conversation.close().await;
    say("repository_bytes", room(&path));
    say("index_bytes", room(&dir.join(conversation::INDEX)));
}

fn part(what: &str, dir: &Path) -> Vec<(String, f64)> {
    let program = std::env::current_exe().unwrap();
    let out = Command::new(program).arg(what).arg(dir).output().unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{what}: {error}");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let figure = |l: &str| {
        let (key, value) = l.split_once('=')?;
        Some((key.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(figure).collect()
}

fn run(job: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::spawn(job).await.unwrap() });
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["clone", dir] => return clone(Path::new(dir)),
        ["index", dir] => return run(index(dir.into())),
        ["look", dir] => return run(look(dir.into())),
        ["grow", account, id, count] => {
            return grow(Path::new(account), id, count.parse().unwrap());
        }
        _ => {}
    }
    let sizes: Vec<usize> = match args.len() {
        0 => vec![1_000, 10_000, 100_000],
        _ => args.iter().map(|a| a.parse().unwrap()).collect(),
    };
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let mut table: Vec<(usize, Vec<(String, f64)>)> = Vec::new();
    for size in sizes {
        let dir = Path::new(&target).join("history").join(size.to_string());
        if !dir.join("id").exists() {
            let begun = Instant::now();
            make(&dir, size);
            eprintln!("{size} commits written in {:.0} ms", millis(begun));
        }
        let mut figures = Vec::new();
        for what in ["clone", "index", "look"] {
            figures.extend(part(what, &dir));
        }
        let commits = (size + MORE) as f64;
        for what in ["repository_bytes", "index_bytes"] {
            let bytes = figures.iter().find(|f| f.0 == what).map_or(0.0, |f| f.1);
            figures.push((format!("{what}_per_commit"), bytes / commits));
        }
        table.push((size, figures));
    }
    print!("{:32}", "commits");
    table.iter().for_each(|(size, _)| print!("{size:>12}"));
    println!();
    for row in 0..table.first().map_or(0, |t| t.1.len()) {
        print!("{:32}", table[0].1[row].0);
        table.iter().for_each(|t| print!("{:>12.1}", t.1[row].1));
        println!();
    }
}
