//! What this node listens to: which values are known, and who holds them.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Family, OpId};
use crate::dht::query::Query;
use crate::dht::types::ValueType;
use crate::dht::value::{Value, ValueId};
use crate::id::InfoHash;

/// Most values remembered of one subscription (OpenDHT `ValueCache::MAX_VALUES`).
const MAX_VALUES: usize = 4096;
/// Most bytes remembered of one subscription. Our bound: few values are large.
const MAX_BYTES: usize = 16 << 20;
/// Most different contents under one id. Several, because whoever is near a key may put something
/// else under an id it saw; it shall not hide the true value.
const MAX_VARIANTS: usize = 8;
/// How much longer than its lifetime a value stays without a word from its holder. Authors renew 10 s
/// before the end, and the news of it may need several attempts; holders tell when it expires.
const SLACK: Duration = Duration::from_secs(60);

/// Who says that a value exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// Our own storage.
    Own,
    /// A node we listen at.
    Node(Family, InfoHash),
}

#[derive(Debug, Clone)]
struct Known {
    value: Arc<Value>,
    size: usize,
    holders: BTreeMap<Holder, Duration>,
}

impl Known {
    fn expires(&self) -> Duration {
        self.holders.values().max().copied().unwrap_or_default()
    }
}

/// One key and query somebody listens to.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) key: InfoHash,
    pub(super) query: Query,
    pub(super) ops: BTreeSet<OpId>,
    /// Since when nobody listens any more.
    pub(super) idle: Option<Duration>,
    values: BTreeMap<ValueId, Vec<Known>>,
    count: usize,
    bytes: usize,
    /// Not later than the first expiry.
    next: Duration,
}

impl Subscription {
    pub(super) fn new(key: InfoHash, query: Query) -> Self {
        Self {
            key,
            query,
            ops: BTreeSet::new(),
            idle: None,
            values: BTreeMap::new(),
            count: 0,
            bytes: 0,
            next: Duration::MAX,
        }
    }

    /// Everything that is known now.
    pub(super) fn current(&self) -> Vec<Arc<Value>> {
        self.values
            .values()
            .flatten()
            .map(|k| k.value.clone())
            .collect()
    }

    /// Whether this exact value is already known.
    pub(super) fn knows(&self, value: &Value) -> bool {
        self.values
            .get(&value.id)
            .is_some_and(|all| all.iter().any(|k| k.value.same_as(value)))
    }

    /// Somebody holds a value. True if it is news: not known before, or a newer version.
    /// Signatures have been checked by then.
    pub(super) fn add(&mut self, now: Duration, holder: Holder, value: &Arc<Value>) -> bool {
        if value.id == 0 || !self.query.matches(value) {
            return false;
        }
        let expires = expiry(now, holder, value);
        let all = self.values.entry(value.id).or_default();
        if let Some(known) = all.iter_mut().find(|k| k.value.same_as(value)) {
            if known.holders.len() < MAX_VARIANTS * 4 || known.holders.contains_key(&holder) {
                known.holders.insert(holder, expires);
                self.next = self.next.min(expires);
            }
            return false;
        }
        let earlier = value
            .owner()
            .and_then(|owner| all.iter().position(|k| k.value.owner() == Some(owner)));
        if let Some(at) = earlier {
            if all.get(at).is_some_and(|k| k.value.seq() >= value.seq()) {
                return false;
            }
            // The newer version takes the place; whoever holds the older one says no news.
            let old = all.remove(at);
            self.count = self.count.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(old.size);
        }
        if all.len() >= MAX_VARIANTS {
            return false;
        }
        let size = value.accounted_size();
        all.push(Known {
            value: value.clone(),
            size,
            holders: BTreeMap::from([(holder, expires)]),
        });
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(size);
        self.next = self.next.min(expires);
        while self.count > MAX_VALUES || self.bytes > MAX_BYTES {
            let first = self
                .values
                .iter()
                .flat_map(|(id, all)| all.iter().map(move |k| (k.expires(), *id)))
                .min();
            let Some((at, id)) = first else { break };
            self.drop_where(id, |k| k.expires() == at);
        }
        true
    }

    fn drop_where(&mut self, id: ValueId, gone: impl Fn(&Known) -> bool) -> Vec<Arc<Value>> {
        let mut out = Vec::new();
        let Some(all) = self.values.get_mut(&id) else {
            return out;
        };
        all.retain(|k| {
            let keep = !gone(k);
            if !keep {
                self.count = self.count.saturating_sub(1);
                self.bytes = self.bytes.saturating_sub(k.size);
                out.push(k.value.clone());
            }
            keep
        });
        if all.is_empty() {
            self.values.remove(&id);
        }
        out
    }

    /// A holder says that a value lives on.
    pub(super) fn refresh(&mut self, now: Duration, holder: Holder, id: ValueId) {
        for known in self.values.get_mut(&id).into_iter().flatten() {
            if let Some(until) = known.holders.get_mut(&holder) {
                *until = expiry(now, holder, &known.value);
            }
        }
    }

    /// A holder has a value no more. Returns what nobody holds now.
    pub(super) fn remove(&mut self, holder: Holder, id: ValueId) -> Vec<Arc<Value>> {
        for known in self.values.get_mut(&id).into_iter().flatten() {
            known.holders.remove(&holder);
        }
        self.drop_where(id, |k| k.holders.is_empty())
    }

    /// When [`Self::expire`] may have something to do.
    pub(super) fn next_expiry(&self) -> Duration {
        self.next
    }

    /// Forgets what holders were silent about for too long.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Arc<Value>> {
        let mut gone = Vec::new();
        let ids: Vec<_> = self.values.keys().copied().collect();
        self.next = Duration::MAX;
        for id in ids {
            for known in self.values.get_mut(&id).into_iter().flatten() {
                known.holders.retain(|_, until| *until > now);
                let first = known.holders.values().min().copied();
                self.next = self.next.min(first.unwrap_or(Duration::MAX));
            }
            gone.extend(self.drop_where(id, |k| k.holders.is_empty()));
        }
        gone
    }
}

fn expiry(now: Duration, holder: Holder, value: &Value) -> Duration {
    match holder {
        // Our storage always tells.
        Holder::Own => Duration::MAX,
        Holder::Node(..) => now
            .saturating_add(ValueType::of(value.type_id()).lifetime)
            .saturating_add(SLACK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::value::{Content, Signed};

    const KEY: InfoHash = InfoHash([1; 20]);
    const T0: Duration = Duration::from_secs(1);

    fn node(n: u8) -> Holder {
        Holder::Node(Family::V4, InfoHash([n; 20]))
    }

    fn plain(id: u64, data: &[u8]) -> Arc<Value> {
        Arc::new(Value::new(0, data.to_vec()).with_id(id))
    }

    fn signed(id: u64, seq: u16) -> Arc<Value> {
        let mut value = Value::new(0, seq.to_be_bytes().to_vec()).with_id(id);
        if let Content::Clear(c) = &mut value.content {
            c.signed = Some(Signed {
                seq,
                owner: Arc::from(*b"alice"),
                recipient: None,
                signature: seq.to_le_bytes().to_vec(),
            });
        }
        Arc::new(value)
    }

    #[test]
    fn a_value_is_news_once_and_gone_when_the_last_holder_says_so() {
        let mut sub = Subscription::new(KEY, Query::all());
        assert!(sub.add(T0, node(1), &plain(1, b"x")));
        assert!(!sub.add(T0, node(2), &plain(1, b"x")));
        assert!(sub.remove(node(1), 1).is_empty());
        assert_eq!(sub.remove(node(2), 1), [plain(1, b"x")]);
        assert!(sub.add(T0, node(2), &plain(1, b"x")));
    }

    #[test]
    fn another_content_under_the_same_id_hides_nothing() {
        let mut sub = Subscription::new(KEY, Query::all());
        assert!(sub.add(T0, node(1), &plain(1, b"forged")));
        assert!(sub.add(T0, node(2), &plain(1, b"true")));
        let more = (0..100u8).filter(|n| sub.add(T0, node(1), &plain(1, &[*n])));
        assert_eq!(more.count(), MAX_VARIANTS - 2);
    }

    #[test]
    fn a_newer_version_is_news_and_an_older_one_is_not() {
        let mut sub = Subscription::new(KEY, Query::all());
        assert!(sub.add(T0, node(1), &signed(1, 5)));
        assert!(!sub.add(T0, node(2), &signed(1, 4)));
        assert!(sub.add(T0, node(2), &signed(1, 6)));
        // The holder of the old version loses it: no news.
        assert!(sub.remove(node(1), 1).is_empty());
        assert_eq!(sub.current(), [signed(1, 6)]);
    }

    #[test]
    fn silence_expires_and_a_refresh_extends() {
        let mut sub = Subscription::new(KEY, Query::all());
        sub.add(T0, node(1), &plain(1, b"x"));
        sub.add(T0, Holder::Own, &plain(2, b"y"));
        let half = T0 + Duration::from_secs(300);
        sub.refresh(half, node(1), 1);
        let end = T0 + Duration::from_secs(660);
        assert_eq!(sub.next_expiry(), end);
        assert!(sub.expire(end).is_empty());
        assert_eq!(sub.next_expiry(), half + Duration::from_secs(660));
        assert_eq!(sub.expire(sub.next_expiry()), [plain(1, b"x")]);
        assert_eq!(sub.next_expiry(), Duration::MAX);
    }

    #[test]
    fn a_flood_of_values_is_bounded() {
        let mut sub = Subscription::new(KEY, Query::all());
        for id in 1..6000 {
            sub.add(T0 + Duration::from_millis(id), node(1), &plain(id, &[0; 8]));
        }
        assert_eq!((sub.count, sub.bytes), (MAX_VALUES, MAX_VALUES * 8));
        assert!(!sub.knows(&plain(1, &[0; 8])));
        assert!(sub.knows(&plain(5999, &[0; 8])));
    }
}
