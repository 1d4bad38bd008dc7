//! What the application asks for: get, put, listen, cancel.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::search::{PutAt, Search};
use super::subscriptions::{Holder, Subscription};
use super::{Family, Node, NodeEvent, OpId};
use crate::dht::query::Query;
use crate::dht::types::{self, ValueType};
use crate::dht::value::Value;
use crate::id::InfoHash;

/// A subscription nobody uses is kept this long, in case somebody listens again (OpenDHT
/// `OpCache::EXPIRATION`).
const KEEP_SUBSCRIPTION: Duration = Duration::from_secs(60);
/// Most different values one get reports. Our bound; the rest is dropped.
const MAX_DELIVERED: usize = 16_384;

/// How far an operation is in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not there yet.
    Open,
    /// All who were asked are slow: not worth waiting for if the other family is done.
    Stuck,
    /// The closest nodes have answered.
    Done,
    /// Nobody is there.
    Failed,
}

/// The state of an operation in both families.
#[derive(Debug, Clone, Copy)]
pub(super) struct Families {
    v4: Progress,
    v6: Progress,
}

impl Families {
    fn set(&mut self, family: Family, progress: Progress) {
        match family {
            Family::V4 => self.v4 = progress,
            Family::V6 => self.v6 = progress,
        }
    }

    fn each(&self) -> [(Family, Progress); 2] {
        [(Family::V4, self.v4), (Family::V6, self.v6)]
    }
}

/// An operation.
#[derive(Debug)]
pub(super) enum Op {
    Get(Get),
    Put(Put),
    /// A listen, and the subscription that serves it.
    Listen(u64),
}

#[derive(Debug)]
pub(super) struct Get {
    pub(super) key: InfoHash,
    pub(super) query: Query,
    families: Families,
    /// Hashes of the packed values that were reported.
    delivered: BTreeSet<InfoHash>,
}

#[derive(Debug)]
pub(super) struct Put {
    pub(super) key: InfoHash,
    pub(super) value: Arc<Value>,
    pub(super) permanent: bool,
    /// Unix seconds.
    pub(super) created: Option<i64>,
    families: Families,
    /// What the application was last told.
    reported: Option<bool>,
    renew_at: Duration,
}

impl Node {
    fn new_op(&mut self) -> OpId {
        let op = OpId(self.next_op);
        self.next_op = self.next_op.wrapping_add(1);
        op
    }

    fn open_families(&self) -> Families {
        let at_start = |family| {
            if self.has_family(family) {
                Progress::Open
            } else {
                Progress::Failed
            }
        };
        Families {
            v4: at_start(Family::V4),
            v6: at_start(Family::V6),
        }
    }

    /// The search of a key in every family there is a socket for.
    fn with_searches(&mut self, now: Duration, key: InfoHash, edit: impl Fn(&mut Search)) {
        for family in Family::ALL {
            if self.has_family(family) {
                let search = self
                    .net_mut(family)
                    .searches
                    .entry(key)
                    .or_insert_with(|| Search::new(key, now));
                search.used = now;
                edit(search);
                self.dirty.insert((family, key));
            }
        }
    }

    fn has_room(&mut self, key: &InfoHash) -> bool {
        for family in Family::ALL {
            if self.net(family).searches.len() >= self.config.limits.searches {
                self.drop_idle_searches(family, |_| true);
            }
        }
        let busy = |family| {
            let searches = &self.net(family).searches;
            searches.len() >= self.config.limits.searches && !searches.contains_key(key)
        };
        *key != InfoHash([0; 20])
            && self.ops.len() < self.config.limits.operations
            && !busy(Family::V4)
            && !busy(Family::V6)
    }

    /// Asks for the values of a key. Events: `Values` (or `Fields`, if the query selects some) as they
    /// come, then `GetDone`. What is stored here is reported first.
    pub fn get(&mut self, now: Duration, key: InfoHash, query: Query) -> OpId {
        let op = self.new_op();
        if !self.has_room(&key) {
            self.events.push_back(NodeEvent::GetDone { op, ok: false });
            return op;
        }
        let own: Vec<_> = self
            .storage
            .found(&key)
            .map(|s| s.value.clone())
            .filter(|v| query.matches(v))
            .collect();
        let get = Get {
            key,
            query,
            families: self.open_families(),
            delivered: BTreeSet::new(),
        };
        self.ops.insert(op, Op::Get(get));
        self.deliver(op, &own);
        self.with_searches(now, key, |s| {
            s.gets.insert(op);
        });
        self.settle(now);
        op
    }

    /// Reports values to a get, each once.
    pub(super) fn deliver(&mut self, op: OpId, values: &[Arc<Value>]) {
        let Some(Op::Get(get)) = self.ops.get_mut(&op) else {
            return;
        };
        let mut news = Vec::new();
        for value in values {
            if value.id == 0 || !get.query.matches(value) || get.delivered.len() >= MAX_DELIVERED {
                continue;
            }
            if get.delivered.insert(InfoHash::of(&value.pack())) {
                news.push(value.clone());
            }
        }
        if news.is_empty() {
            return;
        }
        if get.query.select.is_empty() {
            self.events
                .push_back(NodeEvent::Values { op, values: news });
        } else {
            let fields = super::FieldTable::of(&get.query.select, news.iter().map(Arc::as_ref));
            self.events.push_back(NodeEvent::Fields { op, fields });
        }
    }

    /// Stores a value at the nodes closest to a key, and here. An id of 0 is replaced by a random one.
    ///
    /// Event: `PutDone`. A `permanent` value is renewed until it is cancelled, here without an end,
    /// elsewhere again and again. `created_unix` makes an older value expire earlier; it does not
    /// apply to permanent ones. A put replaces an earlier one of the same key and id, which then ends
    /// with `ok` false. An unsigned value never replaces a signed one: such a put fails at once.
    pub fn put(
        &mut self,
        now: Duration,
        key: InfoHash,
        mut value: Value,
        permanent: bool,
        created_unix: Option<i64>,
    ) -> OpId {
        let op = self.new_op();
        while value.id == 0 {
            value.id = self.rng.u64();
        }
        let value = Arc::new(value);
        let lifetime = ValueType::of(value.type_id()).lifetime;
        let age = match (created_unix, self.unix_time(now)) {
            (Some(created), Some(today)) if !permanent => {
                Duration::from_secs(u64::try_from(today.saturating_sub(created)).unwrap_or(0))
            }
            _ => Duration::ZERO,
        };
        // Nodes of the reference end with a memory fault when an ownerless value is put at the
        // place of a signed one: never send such a put.
        let replaces_signed = value.signed().is_none()
            && self
                .storage
                .get(&key, value.id)
                .is_some_and(|s| s.value.signed().is_some());
        if !self.has_room(&key) || replaces_signed || age >= lifetime {
            self.put_done(op, false, 0, true);
            return op;
        }
        let earlier = self.ops.iter().find_map(|(other, o)| match o {
            Op::Put(p) if p.key == key && p.value.id == value.id => Some(*other),
            _ => None,
        });
        if let Some(earlier) = earlier {
            self.end_put(now, earlier);
            self.put_done(earlier, false, 0, true);
        }

        let expires = if permanent {
            Duration::MAX
        } else {
            now.saturating_add(lifetime.saturating_sub(age))
        };
        self.store(now, key, value.clone(), expires, None);
        let renew_at = now.saturating_add(self.reannounce_after(value.type_id()));
        if permanent {
            self.renewals.insert((renew_at, op));
        }
        let put = Put {
            key,
            value,
            permanent,
            created: created_unix.filter(|c| self.unix_time(now).is_none_or(|today| *c < today)),
            families: self.open_families(),
            reported: None,
            renew_at,
        };
        self.ops.insert(op, Op::Put(put));
        self.with_searches(now, key, |s| {
            s.puts.insert(op);
        });
        self.settle(now);
        op
    }

    fn put_done(&mut self, op: OpId, ok: bool, nodes: usize, last: bool) {
        self.events.push_back(NodeEvent::PutDone {
            op,
            ok,
            nodes,
            last,
        });
    }

    /// Reports what is and comes to be at a key. Events: `Listen`.
    pub fn listen(&mut self, now: Duration, key: InfoHash, query: Query) -> OpId {
        let op = self.new_op();
        if !self.has_room(&key) {
            return op;
        }
        // Whole values are listened to, whatever is selected.
        let query = Query {
            select: Vec::new(),
            wheres: query.wheres,
        };
        let known = self
            .subscriptions
            .iter()
            .find(|(_, s)| s.key == key && s.query == query)
            .map(|(id, _)| *id);
        let id = known.unwrap_or(op.0);
        if known.is_none() {
            let mut new = Subscription::new(key, query);
            for stored in self.storage.found(&key) {
                new.add(now, Holder::Own, &stored.value);
            }
            self.subscriptions.insert(id, new);
            self.with_searches(now, key, |s| {
                s.subscriptions.insert(id);
            });
        }
        self.ops.insert(op, Op::Listen(id));
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.ops.insert(op);
            subscription.idle = None;
            let values = subscription.current();
            if !values.is_empty() {
                self.events.push_back(NodeEvent::Listen {
                    op,
                    values,
                    expired: false,
                });
            }
        }
        self.settle(now);
        op
    }

    /// Ends an operation without a further event. What a permanent put has stored elsewhere expires
    /// by itself, and here as if it had been put now.
    pub fn cancel(&mut self, now: Duration, op: OpId) {
        match self.ops.get(&op) {
            Some(Op::Get(_)) => self.end_get(op),
            Some(Op::Put(_)) => self.end_put(now, op),
            Some(Op::Listen(id)) => {
                let id = *id;
                self.ops.remove(&op);
                if let Some(subscription) = self.subscriptions.get_mut(&id) {
                    subscription.ops.remove(&op);
                    if subscription.ops.is_empty() {
                        subscription.idle = Some(now);
                    }
                }
            }
            None => {}
        }
        self.settle(now);
    }

    fn end_get(&mut self, op: OpId) {
        let Some(Op::Get(get)) = self.ops.remove(&op) else {
            return;
        };
        for family in Family::ALL {
            if let Some(search) = self.net_mut(family).searches.get_mut(&get.key) {
                search.gets.remove(&op);
                for node in &mut search.nodes {
                    node.answered.remove(&op);
                }
            }
        }
    }

    fn end_put(&mut self, now: Duration, op: OpId) {
        let Some(Op::Put(put)) = self.ops.remove(&op) else {
            return;
        };
        self.renewals.remove(&(put.renew_at, op));
        for family in Family::ALL {
            if let Some(search) = self.net_mut(family).searches.get_mut(&put.key) {
                search.puts.remove(&op);
                for node in &mut search.nodes {
                    node.puts.remove(&op);
                }
            }
        }
        if put.permanent {
            let lifetime = ValueType::of(put.value.type_id()).lifetime;
            self.storage
                .refresh(&put.key, put.value.id, now.saturating_add(lifetime));
        }
    }

    /// A search has got somewhere with an operation.
    pub(super) fn progress(&mut self, now: Duration, family: Family, op: OpId, is: Progress) {
        match self.ops.get_mut(&op) {
            Some(Op::Get(get)) => {
                get.families.set(family, is);
                let (key, families) = (get.key, get.families);
                if let Some(ok) = self.verdict(&key, families) {
                    self.end_get(op);
                    self.events.push_back(NodeEvent::GetDone { op, ok });
                }
            }
            Some(Op::Put(put)) => {
                put.families.set(family, is);
                let (key, families) = (put.key, put.families);
                let (permanent, reported) = (put.permanent, put.reported);
                let Some(ok) = self.verdict(&key, families) else {
                    return;
                };
                if permanent && reported == Some(ok) {
                    return;
                }
                let nodes = self.stored_at(&key, op);
                if let Some(Op::Put(put)) = self.ops.get_mut(&op) {
                    put.reported = Some(ok);
                }
                if !permanent {
                    self.end_put(now, op);
                }
                self.put_done(op, ok, nodes, !permanent);
            }
            _ => {}
        }
    }

    /// Whether an operation is through, and how. A family that is done does not wait for another one
    /// in which nobody answers.
    fn verdict(&self, key: &InfoHash, families: Families) -> Option<bool> {
        let each = families.each();
        let done = each.iter().any(|(_, p)| *p == Progress::Done);
        let waiting = each.iter().any(|(family, p)| match p {
            Progress::Done | Progress::Failed => false,
            Progress::Stuck => !done,
            Progress::Open => {
                let search = self.net(*family).searches.get(key);
                !done || search.is_some_and(Search::has_live_nodes)
            }
        });
        (!waiting).then_some(done)
    }

    /// How many nodes hold what was put.
    fn stored_at(&self, key: &InfoHash, op: OpId) -> usize {
        let holds =
            |n: &&super::search::SearchNode| matches!(n.puts.get(&op), Some(PutAt::Stored(_)));
        let count = |family: &Family| {
            let search = self.net(*family).searches.get(key);
            search.map_or(0, |s| s.nodes.iter().filter(holds).count())
        };
        Family::ALL.iter().map(count).sum()
    }

    /// Tells listeners of others that our permanent values live on.
    pub(super) fn renew(&mut self, now: Duration) {
        while let Some((at, op)) = self.renewals.first().copied() {
            if at > now {
                break;
            }
            self.renewals.remove(&(at, op));
            let Some(Op::Put(put)) = self.ops.get(&op) else {
                continue;
            };
            let (key, id, kind) = (put.key, put.value.id, put.value.type_id());
            let next = now.saturating_add(self.reannounce_after(kind));
            if let Some(Op::Put(put)) = self.ops.get_mut(&op) {
                put.renew_at = next;
            }
            self.renewals.insert((next, op));
            self.tell_refreshed(now, key, id);
        }
    }

    pub(super) fn next_subscription_timeout(&self) -> Option<Duration> {
        self.subscriptions
            .values()
            .map(|s| {
                let lapse = s
                    .idle
                    .map_or(Duration::MAX, |t| t.saturating_add(KEEP_SUBSCRIPTION));
                s.next_expiry().min(lapse)
            })
            .min()
            .filter(|at| *at != Duration::MAX)
    }

    /// Reports what became of too old, and forgets subscriptions that nobody uses.
    pub(super) fn expire_subscriptions(&mut self, now: Duration) {
        let ids: Vec<u64> = self.subscriptions.keys().copied().collect();
        for id in ids {
            let Some(subscription) = self.subscriptions.get_mut(&id) else {
                continue;
            };
            let lapsed = subscription
                .idle
                .is_some_and(|t| now >= t.saturating_add(KEEP_SUBSCRIPTION));
            if lapsed {
                let key = subscription.key;
                self.subscriptions.remove(&id);
                self.sockets.retain(|_, s| s.subscription != id);
                for family in Family::ALL {
                    if let Some(search) = self.net_mut(family).searches.get_mut(&key) {
                        search.subscriptions.remove(&id);
                        for node in &mut search.nodes {
                            node.listens.remove(&id);
                        }
                    }
                }
            } else if subscription.next_expiry() <= now {
                let gone = subscription.expire(now);
                self.tell_subscribers(id, gone, true);
            }
        }
    }

    /// A holder has values: reports those that are news.
    pub(super) fn subscription_add(
        &mut self,
        now: Duration,
        id: u64,
        holder: Holder,
        values: &[Arc<Value>],
    ) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        let mut news = Vec::new();
        for value in values {
            // A forged version must not take the place of a true one.
            let genuine = holder == Holder::Own
                || value.signed().is_none()
                || subscription.knows(value)
                || types::verify(&*self.crypto, value).is_ok();
            if genuine && subscription.add(now, holder, value) {
                news.push(value.clone());
            }
        }
        self.tell_subscribers(id, news, false);
    }

    pub(super) fn tell_subscribers(&mut self, id: u64, values: Vec<Arc<Value>>, expired: bool) {
        if values.is_empty() {
            return;
        }
        let Some(subscription) = self.subscriptions.get(&id) else {
            return;
        };
        for op in &subscription.ops {
            self.events.push_back(NodeEvent::Listen {
                op: *op,
                values: values.clone(),
                expired,
            });
        }
    }
}
