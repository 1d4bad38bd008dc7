//! Hundreds and thousands of nodes of ours in virtual time, all from one seed: datagrams get lost,
//! nodes come and go, the network parts and is whole again, and some flood. What was put must be
//! found all the same, by every get and every listen, and nobody may have to do or keep much for it.
#![allow(clippy::unwrap_used)]

use super::testkit::*;
use super::*;

/// What each keeps for others, in bytes: little, so that a flood fills it.
const STORAGE: usize = 128 << 10;

/// What is broken on purpose, to see that it would be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// Who put something to stay does not put it again.
    PutsOnce,
    /// Nodes keep four times what they are allowed to.
    KeepsMore,
    /// One of them asks for something twice a second when all is quiet.
    NeverQuiet,
    /// Who gets something does so six times.
    AsksAgain,
}

/// Something that was put to stay, and who listens for it.
struct Kept {
    key: InfoHash,
    id: u64,
    listener: usize,
    listen: OpId,
}

struct Crowd {
    w: World,
    rng: Rng,
    seed: u8,
    /// Those of the first nodes that stay to the end: they put and listen.
    stay: usize,
    kept: Vec<Kept>,
    /// How often a listener was told that a value is gone which was not, at most.
    gone: usize,
    broken: Broken,
}

/// What was seen.
#[derive(Debug)]
struct Figures {
    nodes: usize,
    /// Datagrams of each in ten quiet minutes: mean and most.
    quiet: (f64, usize),
    /// Requests of a get, and its time: mean and longest.
    requests: f64,
    took: (Duration, Duration),
    /// Most bytes that a node kept for others.
    bytes: usize,
    /// Times that a listener was told of a value that it is gone, after the churn, the partition
    /// and the flood: at most.
    gone: [usize; 3],
}

impl Crowd {
    /// They join one after the other within a minute, each through one that is there.
    fn new(seed: u8, size: usize, broken: Broken) -> Self {
        let mut crowd = Self {
            w: World::new(seed),
            rng: Rng::new([!seed; 32]),
            seed,
            stay: size / 5,
            kept: Vec::new(),
            gone: 0,
            broken,
        };
        crowd.w.latency = (ms(10), ms(150));
        for n in 0..size {
            crowd.come();
            if n % (size / 60).max(1) == 0 {
                crowd.w.run(secs(1));
            }
        }
        crowd.w.run(secs(60));
        for (n, peer) in crowd.w.peers.iter().enumerate() {
            let connectivity = peer.node.status().v4.connectivity;
            assert_eq!(connectivity, Connectivity::Connected, "{n}");
        }
        crowd
    }

    /// A new node, by way of two that are there.
    fn come(&mut self) -> usize {
        let more = if self.broken == Broken::KeepsMore {
            4
        } else {
            1
        };
        let n = self.w.add(|c| c.limits.storage = more * STORAGE);
        for _ in 0..2 {
            let via = self.any(|_| true);
            if via != n {
                self.w.join(n, via);
            }
        }
        n
    }

    /// Some node that is up and fits.
    fn any(&mut self, fits: impl Fn(usize) -> bool) -> usize {
        loop {
            let n = self.rng.below(self.w.peers.len());
            if self.w.peers[n].up && fits(n) {
                return n;
            }
        }
    }

    /// One puts something to stay, another one listens for it.
    fn put(&mut self, writes: impl Fn(usize) -> bool, listens: impl Fn(usize) -> bool) {
        let stay = self.stay;
        let writer = self.any(|n| n < stay && writes(n));
        let listener = self.any(|n| n < stay && n != writer && listens(n));
        let id = self.kept.len() as u64 + 1;
        let key = InfoHash::of(&[self.seed, id as u8]);
        let listen = self.w.listen(listener, key);
        let value = Value::new(0, format!("value {id}").into_bytes()).with_id(id);
        let stays = self.broken != Broken::PutsOnce;
        self.w.put(writer, key, value, stays);
        self.kept.push(Kept {
            key,
            id,
            listener,
            listen,
        });
    }

    /// A get by one of these finds what was put `which`; gives its time.
    fn found(&mut self, which: usize, by: impl Fn(usize) -> bool) -> Duration {
        let (key, id) = (self.kept[which].key, self.kept[which].id);
        let who = self.any(by);
        if self.broken == Broken::AsksAgain {
            for _ in 0..5 {
                let get = self.w.get(who, key);
                self.w.wait(who, get);
            }
        }
        let get = self.w.get(who, key);
        let (ok, took) = self.w.wait(who, get);
        let values = self.w.values(who, get);
        assert!(
            ok && values.iter().any(|v| v.id == id),
            "seed {}: {who} does not find value {id}: {ok}, {} values",
            self.seed,
            values.len()
        );
        took
    }

    /// Every get and every listen has all that was put.
    fn all_is_found(&mut self) {
        for which in 0..self.kept.len() {
            self.found(which, |_| true);
            let (there, gone) = self.told(&self.kept[which]);
            let (listener, id) = (self.kept[which].listener, self.kept[which].id);
            assert!(there, "seed {}: {listener} lacks value {id}", self.seed);
            self.gone = self.gone.max(gone);
        }
    }

    /// What a listener was told of a value in the end, and how often it was said to be gone.
    fn told(&self, kept: &Kept) -> (bool, usize) {
        let (mut there, mut gone) = (false, 0);
        for (_, event) in &self.w.peers[kept.listener].events {
            let NodeEvent::Listen {
                op,
                values,
                expired,
            } = event
            else {
                continue;
            };
            if *op == kept.listen && values.iter().any(|v| v.id == kept.id) {
                there = !expired;
                gone += usize::from(*expired);
            }
        }
        (there, gone)
    }

    /// For so many minutes one in twenty vanishes each minute, and as many come.
    fn churn(&mut self, minutes: usize) {
        for _ in 0..minutes {
            let some = self.w.peers.iter().filter(|p| p.up).count() / 20;
            for _ in 0..some {
                let stay = self.stay;
                let goes = self.any(|n| n >= stay);
                self.w.peers[goes].up = false;
            }
            for _ in 0..some {
                self.come();
            }
            self.w.run(secs(60));
        }
    }

    /// So many put large values everywhere, and small ones where others put theirs.
    fn flood(&mut self, nodes: usize) {
        let all: Vec<usize> = (0..nodes).map(|_| self.come()).collect();
        self.w.run(secs(10));
        for id in 0..40u64 {
            for who in &all {
                let mut key = [self.seed; 20];
                self.rng.fill(&mut key[1..]);
                let large = Value::new(0, vec![7; 40_000]).with_id(id);
                self.w.put(*who, InfoHash(key), large, false);
                let key = self.kept[self.rng.below(self.kept.len())].key;
                let small = Value::new(0, vec![7; 10]).with_id(1_000_000 + id);
                self.w.put(*who, key, small, false);
            }
            self.w.run(secs(1));
        }
        self.w.run(secs(60));
    }

    fn most_bytes(&self) -> usize {
        let all = self.w.peers.iter().filter(|p| p.up);
        all.map(|p| p.node.usage().bytes).max().unwrap()
    }
}

fn life(seed: u8, size: usize, broken: Broken) -> Figures {
    let mut c = Crowd::new(seed, size, broken);
    c.w.loss = 20;
    for _ in 0..15 {
        c.put(|_| true, |_| true);
    }
    c.w.run(secs(30));
    c.all_is_found();
    // What a get takes.
    let asked = |c: &Crowd| c.w.requests.get("get").copied().unwrap_or(0);
    let before = asked(&c);
    let times: Vec<Duration> = (0..15).map(|n| c.found(n, |_| true)).collect();
    let requests = (asked(&c) - before) as f64 / 15.0;

    c.churn(8);
    c.all_is_found();
    let churned = c.gone;

    // Two halves, in which life goes on.
    let half = |n: usize| n.is_multiple_of(2);
    c.w.parted = Some(half);
    for n in 0..10 {
        let side = n % 2 == 0;
        // Every other one is listened for on the other side.
        let listens = (n / 2) % 2 == 0;
        c.put(|n| half(n) == side, |n| half(n) == (side == listens));
    }
    c.w.run(secs(180));
    for n in 0..10 {
        let side = n % 2 == 0;
        c.found(15 + n, |n| half(n) == side);
    }
    c.w.parted = None;
    c.churn(12);
    c.all_is_found();
    let parted = c.gone;

    c.flood(size / 40);
    let bytes = c.most_bytes();
    assert!(bytes <= STORAGE, "{bytes} bytes");
    assert!(bytes > STORAGE / 2, "no flood: {bytes} bytes");
    c.all_is_found();

    c.w.run(secs(600));
    let before: Vec<usize> = c.w.peers.iter().map(|p| p.sent).collect();
    if broken == Broken::NeverQuiet {
        for n in 0..1_200u16 {
            let mut key = [0; 20];
            key[..2].copy_from_slice(&n.to_be_bytes());
            c.w.get(0, InfoHash(key));
            c.w.run(ms(500));
        }
    } else {
        c.w.run(secs(600));
    }
    let up = c.w.peers.iter().zip(before).filter(|(p, _)| p.up);
    let sent: Vec<usize> = up.map(|(p, before)| p.sent - before).collect();
    Figures {
        nodes: size,
        quiet: (
            sent.iter().sum::<usize>() as f64 / sent.len() as f64,
            sent.iter().copied().max().unwrap(),
        ),
        requests,
        took: (
            times.iter().sum::<Duration>() / 15,
            times.iter().copied().max().unwrap(),
        ),
        bytes,
        gone: [churned, parted, c.gone],
    }
}

fn lives(seed: u8, size: usize, broken: Broken) {
    let f = life(seed, size, broken);
    println!(
        "{} nodes: {:.0} datagrams of each in ten quiet minutes, {} at most; a get: {:.1} requests, \
         {} ms, {} at most; {} kB kept at most; said to be gone {:?} times",
        f.nodes,
        f.quiet.0,
        f.quiet.1,
        f.requests,
        f.took.0.as_millis(),
        f.took.1.as_millis(),
        f.bytes >> 10,
        f.gone,
    );
    // What a node does grows with the logarithm at most, and nobody's part is much larger.
    let log = f64::from(u32::try_from(size).unwrap().ilog2());
    assert!(f.requests <= 6.0 * log, "requests of a get: {f:?}");
    assert!(f.quiet.0 <= 40.0 * log, "not quiet: {f:?}");
    assert!(f.quiet.1 as f64 <= 400.0 * log, "one is not quiet: {f:?}");
}

#[test]
fn whatever_happens_all_is_found() {
    lives(1, 120, Broken::Nothing);
}

#[test]
#[should_panic(expected = "seed 1: ")]
fn it_is_noticed_when_nothing_is_put_again() {
    lives(1, 120, Broken::PutsOnce);
}

#[test]
#[should_panic(expected = " bytes")]
fn it_is_noticed_when_nodes_keep_more_than_they_may() {
    lives(1, 120, Broken::KeepsMore);
}

#[test]
#[should_panic(expected = "not quiet")]
fn it_is_noticed_when_somebody_is_never_quiet() {
    lives(1, 40, Broken::NeverQuiet);
}

#[test]
#[should_panic(expected = "requests of a get")]
fn it_is_noticed_when_a_get_asks_too_many() {
    lives(1, 120, Broken::AsksAgain);
}

/// As many nodes as `SIM_NODES` says.
#[test]
#[ignore = "a measurement: `just simulate-scale`"]
fn in_thousands_too() {
    let sizes = std::env::var("SIM_NODES").unwrap_or_else(|_| "100 1000 4000".into());
    for size in sizes.split(' ').filter_map(|n| n.parse().ok()) {
        let began = std::time::Instant::now();
        lives(7, size, Broken::Nothing);
        println!("  ({:.1} s of this machine)", began.elapsed().as_secs_f64());
    }
}
