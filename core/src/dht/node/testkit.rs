//! A network of nodes in virtual time: seeded latency, loss and reordering, no sockets and no sleep.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::crypto::{CryptoError, PrivateKey, SignatureCheck};
use crate::dht::query::Query;
use crate::dht::types;
use crate::dht::value::{Content, Signed};
use sha2::Digest as _;

/// Signatures for tests: a hash of key and message.
pub(super) struct FakeCrypto;

pub(super) fn fake_signature(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut hash = sha2::Sha256::new();
    hash.update(key);
    hash.update(message);
    hash.finalize().to_vec()
}

impl Crypto for FakeCrypto {
    fn verify(&self, check: &SignatureCheck) -> bool {
        check.signature == fake_signature(&check.key, &check.message)
    }
    fn rsa_encrypt(&self, _: &[u8], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn generate_rsa(&self, _: u32) -> Result<Box<dyn PrivateKey>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn read_private_key(&self, _: &[u8]) -> Result<Box<dyn PrivateKey>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn aes_gcm_seal(&self, _: &[u8], _: &[u8; 12], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn aes_gcm_open(&self, _: &[u8], _: &[u8; 12], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn random(&self, _: &mut [u8]) {}
}

/// A DER public key that parses, different for each `n`: an RSA key nobody has.
pub(super) fn fake_key(n: u8) -> Vec<u8> {
    // SEQUENCE { SEQUENCE { rsaEncryption, NULL }, BIT STRING { SEQUENCE { INTEGER n, INTEGER 3 } } }
    let mut key = vec![0x30, 0x1a, 0x30, 0x0d, 0x06, 0x09];
    key.extend([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0]);
    key.extend([3, 9, 0, 0x30, 6, 2, 1, n, 2, 1, 3]);
    key
}

/// User data signed by the fake key `n`.
pub(super) fn signed_value(id: u64, n: u8, seq: u16, data: &[u8]) -> Value {
    signed_value_of(types::USER_DATA, id, n, seq, data)
}

/// The same of a type.
pub(super) fn signed_value_of(kind: u16, id: u64, n: u8, seq: u16, data: &[u8]) -> Value {
    let mut value = Value::new(kind, data.to_vec()).with_id(id);
    if let Content::Clear(clear) = &mut value.content {
        let owner = fake_key(n);
        clear.signed = Some(Signed {
            seq,
            owner: Arc::from(owner.as_slice()),
            recipient: None,
            signature: Vec::new(),
        });
        let signature = fake_signature(&owner, &clear.to_sign());
        if let Some(signed) = &mut clear.signed {
            signed.signature = signature;
        }
    }
    value
}

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) struct Peer {
    pub(super) node: Node,
    pub(super) addr: SocketAddr,
    pub(super) addr6: Option<SocketAddr>,
    pub(super) up: bool,
    /// Datagrams it sent.
    pub(super) sent: usize,
    pub(super) events: Vec<(Duration, NodeEvent)>,
}

/// The nodes and the network between them.
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) peers: Vec<Peer>,
    pub(super) latency: (Duration, Duration),
    /// Lost datagrams of a thousand.
    pub(super) loss: usize,
    /// The network is in two parts, and this says in which of them a node is.
    pub(super) parted: Option<fn(usize) -> bool>,
    pub(super) datagrams: usize,
    /// Requests sent, by name.
    pub(super) requests: BTreeMap<&'static str, usize>,
    rng: Rng,
    flying: BTreeMap<(Duration, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    count: u64,
}

impl World {
    pub(super) fn new(seed: u8) -> Self {
        Self {
            now: secs(1000),
            peers: Vec::new(),
            latency: (ms(10), ms(60)),
            loss: 0,
            parted: None,
            datagrams: 0,
            requests: BTreeMap::new(),
            rng: Rng::new([seed; 32]),
            flying: BTreeMap::new(),
            count: 0,
        }
    }

    /// Adds a node that knows nobody, and returns its number.
    pub(super) fn add(&mut self, edit: impl Fn(&mut NodeConfig)) -> usize {
        let n = self.peers.len();
        let mut id = [0; 20];
        self.rng.fill(&mut id);
        let mut config = NodeConfig::new(InfoHash(id));
        config.ipv6 = false;
        edit(&mut config);
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        let (high, low) = (
            u8::try_from(n / 250).unwrap(),
            u8::try_from(n % 250).unwrap(),
        );
        let addr = SocketAddr::new([10, 0, high, 1 + low].into(), 4222);
        let ip6 = Ipv6Addr::new(0x2001, 0xdb8, 0, u16::try_from(n).unwrap(), 0, 0, 0, 1);
        let addr6 = config.ipv6.then(|| SocketAddr::new(ip6.into(), 4222));
        let mut node = Node::new(self.now, config, seed, Arc::new(FakeCrypto));
        node.set_unix_time(self.now, 1_800_000_000);
        self.peers.push(Peer {
            node,
            addr,
            addr6,
            up: true,
            sent: 0,
            events: Vec::new(),
        });
        n
    }

    /// A network of so many nodes that all joined through the first.
    pub(super) fn network(seed: u8, size: usize) -> Self {
        let mut world = Self::new(seed);
        for n in 0..size {
            world.add(|_| {});
            if n > 0 {
                world.join(n, 0);
                world.run(ms(200));
            }
        }
        world.run(secs(30));
        world
    }

    pub(super) fn join(&mut self, who: usize, via: usize) {
        let (now, addr) = (self.now, self.peers[via].addr);
        self.peers[who].node.bootstrap(now, addr);
    }

    pub(super) fn get(&mut self, who: usize, key: InfoHash) -> OpId {
        let now = self.now;
        self.peers[who].node.get(now, key, Query::all())
    }

    pub(super) fn put(&mut self, who: usize, key: InfoHash, value: Value, permanent: bool) -> OpId {
        let now = self.now;
        self.peers[who].node.put(now, key, value, permanent, None)
    }

    pub(super) fn listen(&mut self, who: usize, key: InfoHash) -> OpId {
        let now = self.now;
        self.peers[who].node.listen(now, key, Query::all())
    }

    /// Sends what a node wants sent, and keeps what it reports.
    fn drain(&mut self, n: usize) {
        while let Some(transmit) = self.peers[n].node.poll_transmit() {
            self.peers[n].sent += 1;
            let peer = &self.peers[n];
            let from = if transmit.to.is_ipv4() {
                Some(peer.addr)
            } else {
                peer.addr6
            };
            assert!(transmit.payload.len() <= 1472, "{}", transmit.payload.len());
            self.datagrams += 1;
            if let Ok(Packet::Request(_, request)) = Packet::decode(&transmit.payload) {
                *self.requests.entry(request.name()).or_default() += 1;
            }
            let Some(from) = from.filter(|_| peer.up) else {
                continue;
            };
            if self.rng.below(1000) < self.loss {
                continue;
            }
            let at = self.now + self.rng.between(self.latency.0, self.latency.1);
            self.count += 1;
            self.flying
                .insert((at, self.count), (from, transmit.to, transmit.payload));
        }
        while let Some(event) = self.peers[n].node.poll_event() {
            let now = self.now;
            self.peers[n].events.push((now, event));
        }
    }

    /// Lets time pass until something holds; false if it does not within `max`.
    pub(super) fn until(&mut self, max: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + max;
        // Whatever was done to any node since the last time; from then on only those that something
        // happened to are looked at, so that thousands are no burden.
        let mut touched: BTreeSet<usize> = (0..self.peers.len()).collect();
        let mut timers: BTreeSet<(Duration, usize)> = BTreeSet::new();
        let mut timer: Vec<Option<Duration>> = vec![None; self.peers.len()];
        let mut at: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for (n, peer) in self.peers.iter().enumerate().filter(|(_, p)| p.up) {
            at.entry(peer.addr).or_insert(n);
            if let Some(addr) = peer.addr6 {
                at.entry(addr).or_insert(n);
            }
        }
        loop {
            for n in core::mem::take(&mut touched) {
                self.drain(n);
                let peer = &self.peers[n];
                let next = peer.node.poll_timeout().filter(|_| peer.up);
                if let Some(old) = core::mem::replace(&mut timer[n], next) {
                    timers.remove(&(old, n));
                }
                timers.extend(next.map(|next| (next, n)));
            }
            if holds(self) {
                return true;
            }
            let first = timers.first().map(|(at, _)| *at);
            let flight = self.flying.first_key_value().map(|((at, _), _)| *at);
            let next = first.into_iter().chain(flight).min().unwrap_or(end);
            if next > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(next);
            let now = self.now;
            while let Some(entry) = self.flying.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                let (from, to, payload) = entry.remove();
                let sides = |parted: fn(usize) -> bool| {
                    let sides = [from, to].map(|a| at.get(&a).map(|n| parted(*n)));
                    sides[0] == sides[1]
                };
                if let Some(n) = at.get(&to)
                    && self.parted.is_none_or(sides)
                {
                    self.peers[*n].node.handle_datagram(now, from, &payload);
                    touched.insert(*n);
                }
            }
            let due = timers.range(..=(now, usize::MAX));
            let due: BTreeSet<usize> = due
                .map(|(_, n)| *n)
                .chain(touched.iter().copied())
                .collect();
            for n in due {
                let node = &mut self.peers[n].node;
                if node.poll_timeout().is_some_and(|at| at <= now) {
                    node.handle_timeout(now);
                    let next = node.poll_timeout();
                    assert!(
                        next.is_none_or(|at| at > now),
                        "a timer that does not advance"
                    );
                    touched.insert(n);
                }
            }
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        self.until(time, |_| false);
    }

    /// The values that an operation reported.
    pub(super) fn values(&self, who: usize, wanted: OpId) -> Vec<Arc<Value>> {
        let of_op = |(_, e): &(Duration, NodeEvent)| match e {
            NodeEvent::Values { op, values } if *op == wanted => values.clone(),
            NodeEvent::Listen {
                op,
                values,
                expired: false,
            } if *op == wanted => values.clone(),
            _ => Vec::new(),
        };
        self.peers[who].events.iter().flat_map(of_op).collect()
    }

    /// The values that a listen reported as gone.
    pub(super) fn expired(&self, who: usize, wanted: OpId) -> Vec<Arc<Value>> {
        let of_op = |(_, e): &(Duration, NodeEvent)| match e {
            NodeEvent::Listen {
                op,
                values,
                expired: true,
            } if *op == wanted => values.clone(),
            _ => Vec::new(),
        };
        self.peers[who].events.iter().flat_map(of_op).collect()
    }

    /// How a get or put ended, and when.
    pub(super) fn done(&self, who: usize, wanted: OpId) -> Option<(Duration, bool)> {
        self.peers[who]
            .events
            .iter()
            .rev()
            .find_map(|(at, e)| match e {
                NodeEvent::GetDone { op, ok } | NodeEvent::PutDone { op, ok, .. }
                    if *op == wanted =>
                {
                    Some((*at, *ok))
                }
                _ => None,
            })
    }

    /// Runs until a get or put ends. Its outcome and how long it took.
    pub(super) fn wait(&mut self, who: usize, op: OpId) -> (bool, Duration) {
        let start = self.now;
        assert!(
            self.until(secs(60), |w| w.done(who, op).is_some()),
            "the operation does not end"
        );
        let (at, ok) = self.done(who, op).unwrap();
        (ok, at.saturating_sub(start))
    }
}
