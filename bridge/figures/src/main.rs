//! Figures of the library that no other process can take: what one core does in a second, what a commit costs on the
//! disk, and a DHT node that tells how long it took. `just bench` runs this and sets it beside others.
//!
//!     figures accounts N          seconds for N accounts
//!     figures signatures SECONDS  RSA-4096 signatures checked by one core
//!     figures history DIR N       writes N messages into a conversation in DIR, packs and validates it
//!     figures dht HOST:PORT       "put KEY TEXT" or "get KEY" a line in, "took MICROSECONDS FOUND" a line out
//!
//! All but the last print one JSON object. Times on one core are times of the processor, which other programs on
//! the machine do not change much.
#![allow(
    clippy::unwrap_used,
    reason = "a measurement that fails shall say where"
)]

use serde_json::json;
use starling_bridge::account::keep;
use starling_bridge::conversation::Conversation;
use starling_bridge::conversation::repo::Me;
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::{Dht, DhtConfig, PutOptions};
use starling_bridge::store::objects::ReadOnly;
use starling_bridge::store::state::State;
use starling_core::crypto::{Crypto as _, SignatureAlgorithm, SignatureCheck};
use starling_core::dht::{Value, types};
use starling_core::git::Repository as _;
use starling_core::id::InfoHash;
use starling_core::identity::create_account;
use starling_core::swarm::message::{ConversationMode, Message};
use starling_core::swarm::object::{MemoryObjects, Objects as _};
use starling_core::swarm::validate::validate;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Length of the text in a measured message: a sentence or two. The commit is 1.2 kB then, most of it signature.
const TEXT: &str = "This is a message as people write them, neither long nor short, number";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match args.as_slice() {
        ["accounts", n] => accounts(n.parse().unwrap()),
        ["signatures", seconds] => signatures(Duration::from_secs_f64(seconds.parse().unwrap())),
        ["history", dir, n] => runtime.block_on(history(Path::new(dir), n.parse().unwrap())),
        ["dht", first] => runtime.block_on(dht(first)),
        _ => eprintln!("figures: accounts N | signatures SECONDS | history DIR N | dht HOST:PORT"),
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Seconds that this thread has been on a processor.
fn on_core() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos: f64 = text.split(' ').next().unwrap().parse().unwrap();
    nanos / 1e9
}

/// Keys are made on three threads at once, so what counts is the clock on the wall.
fn accounts(n: u32) {
    let start = Instant::now();
    for _ in 0..n {
        let keys = AwsLc.generate_account_keys().unwrap();
        create_account(&AwsLc, now(), keys).unwrap();
    }
    println!("{}", json!({"seconds": start.elapsed().as_secs_f64()}));
}

fn signatures(long: Duration) {
    let key = AwsLc.generate_rsa(4096).unwrap();
    let checks: Vec<SignatureCheck> = (0..64u8)
        .map(|n| {
            // As long as a commit.
            let message = vec![n; 700];
            SignatureCheck {
                key: key.public_key().into(),
                algorithm: SignatureAlgorithm::RsaPkcs1Sha512,
                signature: key
                    .sign(SignatureAlgorithm::RsaPkcs1Sha512, &message)
                    .unwrap(),
                message,
            }
        })
        .collect();
    assert_eq!(
        std::thread::available_parallelism().unwrap().get(),
        1,
        "to be run on one core: taskset -c 0"
    );
    let (end, start) = (Instant::now() + long, on_core());
    let mut count = 0;
    while Instant::now() < end {
        assert!(AwsLc.verify_batch(&checks).iter().all(|good| *good));
        count += checks.len();
    }
    let per_second = count as f64 / (on_core() - start);
    println!("{}", json!({"perSecond": per_second}));
}

async fn history(dir: &Path, n: u32) {
    let keys = AwsLc.generate_account_keys().unwrap();
    let (_, identity) = create_account(&AwsLc, now(), keys).unwrap();
    keep::write_identity(dir, &identity).unwrap();
    let me = Me {
        identity,
        name: "Alice".into(),
    };
    let state = State::open(&dir.join("state.sqlite")).unwrap();
    let mode = ConversationMode::InvitesOnly;
    let conversation = Conversation::create(dir, state, me, mode, None, now()).unwrap();
    let path = conversation.store.path().to_owned();
    let begin = usage(&path);
    let mut each = Vec::new();
    let start = Instant::now();
    for i in 0..n {
        let one = Instant::now();
        conversation
            .ask(move |r| {
                r.write(now(), |repo, writer, now| {
                    let text = format!("{TEXT} {i}");
                    repo.message(writer, Message::text(text, None), now)
                })
            })
            .await
            .unwrap()
            .unwrap();
        each.push(one.elapsed().as_secs_f64());
    }
    let written = start.elapsed().as_secs_f64();
    each.sort_by(f64::total_cmp);
    conversation.store.repack().unwrap();
    let id = conversation.id;
    conversation.close().await;
    let packed = usage(&path);

    // In memory, on one core: rules and signatures alone.
    let store = ReadOnly::open(&path).unwrap();
    let head = store.head().unwrap();
    let all = starling_core::git::reach::missing(&store, head, &BTreeSet::new()).unwrap();
    let mut objects = MemoryObjects::new();
    for object in all {
        let (kind, data) = starling_core::swarm::object::Objects::object(&store, &object).unwrap();
        objects.insert(kind, &data);
    }
    assert!(objects.contains(&head));
    let one_core = std::thread::available_parallelism().unwrap().get() == 1;
    // On this very thread: a pool's threads have clocks of their own.
    let validated = std::thread::spawn(move || {
        let start = on_core();
        let verdict = validate(&AwsLc, &objects, id, None, head).unwrap();
        (verdict.commits.len(), on_core() - start)
    });
    let (commits, seconds) = validated.join().unwrap();
    println!(
        "{}",
        json!({
            "writtenPerSecond": f64::from(n) / written,
            "p50": percentile(&each, 50), "p95": percentile(&each, 95),
            "commits": commits,
            "validatedPerSecond": one_core.then(|| commits as f64 / seconds),
            "bytesPerMessage": (packed - begin) as f64 / f64::from(n),
            "repository": path,
        })
    );
}

fn percentile(sorted: &[f64], p: usize) -> f64 {
    sorted
        .get((sorted.len() * p / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

/// Bytes of disk that a directory takes, in whole blocks.
fn usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            sum += usage(&entry.path());
        }
    }
    sum
}

async fn dht(first: &str) {
    let config = DhtConfig {
        bind_v4: Some(Ipv4Addr::LOCALHOST),
        bind_v6: None,
        bootstrap: vec![first.parse().unwrap()],
        ..DhtConfig::default()
    };
    let node = Dht::start(config, Arc::new(AwsLc)).unwrap();
    assert!(node.connected().await);
    println!("ready");
    // The node runs on other threads than this one.
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let start = Instant::now();
        let found = match words.as_slice() {
            ["put", key, text] => {
                let value = Value::new(types::USER_DATA, text.as_bytes().to_vec());
                let put = node.put(key.parse().unwrap(), value, PutOptions::default());
                usize::from(put.await.is_ok())
            }
            ["get", key] => {
                let key: InfoHash = key.parse().unwrap();
                node.get(key).await.len()
            }
            _ => panic!("{line}"),
        };
        println!("took {} {found}", start.elapsed().as_micros());
    }
}
