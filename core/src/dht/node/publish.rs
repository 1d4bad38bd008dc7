//! Keeping a value, and telling those who listen at its key.

use core::time::Duration;
use std::sync::Arc;

use super::Node;
use super::limits::Source;
use super::listeners::{Listener, ListenerId};
use super::requests::Purpose;
use super::storage::Gone;
use super::subscriptions::Holder;
use crate::dht::packet::{Notice, Packet, Reply, Request};
use crate::dht::value::{Value, ValueId};
use crate::id::InfoHash;

/// A push is split when its values exceed this many bytes of content (OpenDHT `MAX_MESSAGE_VALUE_SIZE`).
const PUSH_BYTES: usize = 56 << 10;

/// What a listener is told.
enum News {
    Values(Vec<Arc<Value>>),
    Refreshed(Vec<ValueId>),
    Expired(Vec<ValueId>),
}

impl Node {
    /// Keeps a value that may be kept, and tells everyone. `source` is `None` for an own value.
    pub(super) fn store(
        &mut self,
        now: Duration,
        key: InfoHash,
        value: Arc<Value>,
        expires: Duration,
        source: Option<Source>,
    ) {
        let old = self.storage.get(&key, value.id);
        let same = old.is_some_and(|s| s.value.same_as(&value));
        let own = old.is_some_and(|s| s.source.is_none());
        let news = !same || old.is_some_and(|s| s.remembered);
        let expires = old
            .filter(|_| same)
            .map_or(expires, |s| s.expires.max(expires));
        if same && (source.is_some() || own) {
            self.refresh(now, key, value.id, expires);
            return;
        }
        // An own value that another author edits (with a valid signature) stays ours in the books.
        let source = if own { None } else { source };
        let Some(gone) = self.storage.insert(key, value.clone(), expires, source) else {
            self.refused.values.count_full();
            return;
        };
        if news {
            self.tell_own(now, key, &value);
        }
        if same {
            self.tell_refreshed(now, key, value.id);
        } else {
            self.tell_stored(now, key, &value);
        }
        self.tell_gone(now, gone);
    }

    /// Keeps a value of an earlier run for others. Our own lookups find it once somebody says that it is still so.
    pub(super) fn remember(
        &mut self,
        now: Duration,
        key: InfoHash,
        value: Arc<Value>,
        expires: Duration,
        source: Source,
    ) {
        let inserted = self
            .storage
            .insert(key, value.clone(), expires, Some(source));
        let Some(gone) = inserted else { return };
        self.storage.doubt(&key, value.id);
        self.tell_stored(now, key, &value);
        self.tell_gone(now, gone);
    }

    /// Somebody says that a value which is here is still so, until then.
    pub(super) fn refresh(&mut self, now: Duration, key: InfoHash, id: ValueId, expires: Duration) {
        let remembered = self.storage.get(&key, id).filter(|s| s.remembered);
        let news = remembered.map(|s| s.value.clone());
        self.storage.refresh(&key, id, expires);
        if let Some(value) = news {
            self.tell_own(now, key, &value);
        }
        self.tell_refreshed(now, key, id);
    }

    /// Our subscriptions at a key.
    fn subscriptions_at(&self, key: &InfoHash) -> Vec<u64> {
        self.subscriptions
            .iter()
            .filter(|(_, s)| s.key == *key)
            .map(|(id, _)| *id)
            .collect()
    }

    fn tell_own(&mut self, now: Duration, key: InfoHash, value: &Arc<Value>) {
        for id in self.subscriptions_at(&key) {
            self.subscription_add(now, id, Holder::Own, core::slice::from_ref(value));
        }
    }

    fn tell_stored(&mut self, now: Duration, key: InfoHash, value: &Arc<Value>) {
        for (id, listener) in self.listeners.at(now, &key) {
            if listener.query.matches(value) {
                self.push(now, key, id, &listener, News::Values(vec![value.clone()]));
            }
        }
    }

    pub(super) fn tell_refreshed(&mut self, now: Duration, key: InfoHash, id: ValueId) {
        for (to, listener) in self.listeners.at(now, &key) {
            self.push(now, key, to, &listener, News::Refreshed(vec![id]));
        }
    }

    pub(super) fn tell_gone(&mut self, now: Duration, gone: Vec<Gone>) {
        for (key, value) in gone {
            for id in self.subscriptions_at(&key) {
                let Some(subscription) = self.subscriptions.get_mut(&id) else {
                    continue;
                };
                let lost = subscription.remove(Holder::Own, value.id);
                self.tell_subscribers(id, lost, true);
            }
            for (to, listener) in self.listeners.at(now, &key) {
                self.push(now, key, to, &listener, News::Expired(vec![value.id]));
            }
        }
    }

    /// Tells a new listener everything there is, in pushes of bounded size.
    pub(super) fn push_all(
        &mut self,
        now: Duration,
        key: InfoHash,
        to: ListenerId,
        listener: &Listener,
    ) {
        let mut batch = Vec::new();
        let mut bytes = 0usize;
        let all: Vec<_> = self
            .storage
            .values(&key)
            .map(|s| s.value.clone())
            .filter(|v| listener.query.matches(v))
            .collect();
        for value in all {
            let size = value.accounted_size();
            if bytes.saturating_add(size) > PUSH_BYTES && !batch.is_empty() {
                let full = core::mem::take(&mut batch);
                self.push(now, key, to, listener, News::Values(full));
                bytes = 0;
            }
            bytes = bytes.saturating_add(size);
            batch.push(value);
        }
        if !batch.is_empty() {
            self.push(now, key, to, listener, News::Values(batch));
        }
    }

    fn push(
        &mut self,
        now: Duration,
        key: InfoHash,
        to: ListenerId,
        listener: &Listener,
        news: News,
    ) {
        let token = self.tokens.issue(listener.addr).to_vec();
        if listener.version == 0 {
            let head = self.head(to.sid);
            let packet = match news {
                News::Values(values) => Packet::Reply(
                    head,
                    Reply {
                        seen_as: Some(listener.addr.ip()),
                        token: Some(token),
                        values: values.into(),
                        ..Reply::default()
                    },
                ),
                News::Refreshed(refreshed) => Packet::Notice(
                    head,
                    Notice {
                        token,
                        refreshed,
                        expired: Vec::new(),
                    },
                ),
                News::Expired(expired) => Packet::Notice(
                    head,
                    Notice {
                        token,
                        refreshed: Vec::new(),
                        expired,
                    },
                ),
            };
            self.send(listener.addr, &packet);
            return;
        }
        let (mut values, mut refreshed, mut expired) = Default::default();
        match news {
            News::Values(v) => values = v,
            News::Refreshed(ids) => refreshed = ids,
            News::Expired(ids) => expired = ids,
        }
        let request = Request::Update {
            sid: to.sid,
            key: (!values.is_empty()).then_some(key),
            version: 1,
            token,
            values: values.into(),
            created: None,
            refreshed,
            expired,
        };
        self.request(now, Some(to.node), listener.addr, request, Purpose::Update);
    }
}
