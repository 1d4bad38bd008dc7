//! Values of others over a restart: whoever puts a contact request, which lives for a week, need not be there to
//! put it again.
//!
//! What lives for minutes (announcements of devices, connection requests) says that its author is there, and a friend who
//! left while nobody ran would seem to be there until it expires. So such a value is given to others again, who then know
//! as much as if there had been no restart, but our own lookups find it only once somebody says in this run that it is so: its
//! author puts or renews it, or another node answers with it. What lives longer they find at once. The reference saves all
//! values with their days as we do, and gives its own lookups all of them (OpenDHT `Dht::importValues`, `Dht::getLocal`).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use super::Node;
use super::limits::Source;
use crate::dht::state::StoredValue;
use crate::dht::types::{self, ValueType};

impl Node {
    /// What is stored for others, with the day it leaves; own values are not among it, since whoever put them puts
    /// them again. At most `bytes` of it, counted as against [`super::NodeLimits::storage`]: what would leave first
    /// is left out. Nothing while the wall clock is not known ([`Node::set_unix_time`]).
    pub fn export_values(&self, now: Duration, bytes: usize) -> Vec<StoredValue> {
        let Some(today) = self.unix_time(now) else {
            return Vec::new();
        };
        let mut room = bytes;
        self.storage
            .latest()
            .take_while(|(_, stored)| {
                room.checked_sub(stored.size()).is_some_and(|r| {
                    room = r;
                    true
                })
            })
            .filter_map(|(key, stored)| {
                let left = stored.expires.checked_sub(now)?;
                let expires = today.saturating_add(i64::try_from(left.as_secs()).ok()?);
                let lifetime = ValueType::of(stored.value.type_id()).lifetime;
                let lifetime = i64::try_from(lifetime.as_secs()).ok()?;
                Some(StoredValue {
                    key,
                    value: (*stored.value).clone(),
                    // As if it had not been renewed since.
                    created: Some(expires.saturating_sub(lifetime)),
                    expires: Some(expires),
                    source: stored.source.map(address),
                })
            })
            .collect()
    }

    /// Takes what [`Node::export_values`] gave to an earlier run, under the rules for what others put: the limits,
    /// the rules of types, signatures. A value lives until the day that it says, and no longer than if it came now;
    /// one without a day is left out. Our own lookups do not find what is of the moment
    /// ([`ValueType::is_of_the_moment`]) before somebody says it again. Returns how many are kept.
    pub fn import_values(&mut self, now: Duration, values: Vec<StoredValue>) -> usize {
        let Some(today) = self.unix_time(now) else {
            return 0;
        };
        let before = self.storage.usage().0;
        for stored in values {
            let value = stored.value;
            let kind = ValueType::of(value.type_id());
            let left = stored
                .expires
                .and_then(|e| u64::try_from(e.saturating_sub(today)).ok())
                .map_or(Duration::ZERO, Duration::from_secs)
                .min(kind.lifetime);
            if left.is_zero()
                || value.id == 0
                || self.storage.get(&stored.key, value.id).is_some()
                || types::may_store(&*self.crypto, &stored.key, &value, None).is_err()
            {
                continue;
            }
            let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let source = Source::of(stored.source.unwrap_or(nobody));
            let expires = now.saturating_add(left);
            let value = Arc::new(value);
            if kind.is_of_the_moment() {
                self.remember(now, stored.key, value, expires, source);
            } else {
                self.store(now, stored.key, value, expires, Some(source));
            }
        }
        self.settle(now);
        self.storage.usage().0.saturating_sub(before)
    }
}

/// An address that counts as the source; what [`Source`] does not keep of it is zero.
fn address(source: Source) -> SocketAddr {
    let ip = match source {
        Source::V4(octets) => IpAddr::V4(Ipv4Addr::from(octets)),
        Source::V6([a, b, c, d, e, f, g, h]) => IpAddr::V6(Ipv6Addr::from([
            a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0,
        ])),
    };
    SocketAddr::new(ip, 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testkit::*;
    use super::super::*;
    use crate::dht::query::Query;
    use crate::dht::state::{NodeState, StoredValue};
    use crate::dht::types;
    use crate::dht::value::Content;

    const KEY: InfoHash = InfoHash([0x5a; 20]);
    const TODAY: i64 = 1_800_000_000;
    const ALL: usize = usize::MAX;

    fn node(unix: Option<i64>, edit: impl Fn(&mut NodeConfig)) -> Node {
        let mut config = NodeConfig::new(InfoHash([1; 20]));
        edit(&mut config);
        let mut node = Node::new(secs(0), config, [3; 32], Arc::new(FakeCrypto));
        if let Some(unix) = unix {
            node.set_unix_time(secs(0), unix);
        }
        node
    }

    /// A contact request of somebody, and shorter ones of somebody else.
    fn full() -> Node {
        let mut node = node(Some(TODAY), |_| {});
        let from = |n| Some(limits::Source::V4([192, 0, 2, n]));
        let request = signed_value_of(types::TRUST_REQUEST, 1, 7, 1, b"friends?");
        let week = types::ValueType::of(types::TRUST_REQUEST).lifetime;
        node.store(secs(0), KEY, Arc::new(request), week, from(1));
        for id in 2..5 {
            let value = Value::new(types::USER_DATA, vec![0; 300]).with_id(id);
            node.store(secs(0), KEY, Arc::new(value), secs(100 * id), from(2));
        }
        node.put(
            secs(0),
            KEY,
            Value::new(0, b"own".to_vec()).with_id(9),
            true,
            None,
        );
        node
    }

    fn ids(node: &Node) -> Vec<u64> {
        node.storage.values(&KEY).map(|s| s.value.id).collect()
    }

    #[test]
    fn what_others_put_outlasts_a_restart_and_its_day_does_not_move() {
        let old = full();
        let state = NodeState {
            values: old.export_values(secs(150), ALL),
            ..NodeState::default()
        };
        let values = NodeState::decode(&state.encode()).unwrap().values;
        // Ten seconds pass while nobody runs.
        let mut new = node(Some(TODAY + 160), |_| {});
        assert_eq!(new.import_values(secs(0), values.clone()), 4);
        assert_eq!(ids(&new), [1, 2, 3, 4]);
        assert_eq!(new.usage().bytes, old.usage().bytes);
        let left = |id| new.storage.get(&KEY, id).unwrap().expires;
        assert_eq!(
            [left(2), left(3), left(4)],
            [secs(40), secs(140), secs(240)]
        );
        // Who takes it in twice has it once.
        assert_eq!(new.import_values(secs(0), values.clone()), 0);
        new.handle_timeout(secs(41));
        assert_eq!(ids(&new), [1, 3, 4]);

        // Ten minutes: of what others put there is the contact request left.
        let mut late = node(Some(TODAY + 750), |_| {});
        assert_eq!(late.import_values(secs(0), values), 1);
        assert_eq!(ids(&late), [1]);
    }

    /// A node that was restarted: it has a contact request and a device's announcement from before.
    fn restarted() -> (Node, Value) {
        let mut old = node(Some(TODAY), |_| {});
        let announced = signed_value(2, 8, 1, b"here I am");
        let request = signed_value_of(types::TRUST_REQUEST, 1, 7, 1, b"friends?");
        for value in [request, announced.clone()] {
            let source = Some(limits::Source::V4([192, 0, 2, 1]));
            old.store(secs(0), KEY, Arc::new(value), secs(600), source);
        }
        let mut new = node(Some(TODAY), |_| {});
        assert_eq!(
            new.import_values(secs(0), old.export_values(secs(0), ALL)),
            2
        );
        (new, announced)
    }

    /// The ids that a get finds here.
    fn found(node: &mut Node) -> Vec<u64> {
        let op = node.get(secs(1), KEY, Query::all());
        heard(node, op)
    }

    /// The ids that an operation was told of since the last time.
    fn heard(node: &mut Node, wanted: OpId) -> Vec<u64> {
        let mut out = Vec::new();
        while let Some(event) = node.poll_event() {
            match event {
                NodeEvent::Values { op, values }
                | NodeEvent::Listen {
                    op,
                    values,
                    expired: false,
                } if op == wanted => {
                    out.extend(values.iter().map(|v| v.id));
                }
                _ => {}
            }
        }
        out
    }

    #[test]
    fn who_was_there_before_a_restart_is_not_thought_to_be_there_now() {
        let (mut node, _) = restarted();
        let ear = node.listen(secs(1), KEY, Query::all());
        assert_eq!(heard(&mut node, ear), [1]);
        assert_eq!(found(&mut node), [1]);
        // And if nobody says anything that is all: neither is it said to be gone.
        node.handle_timeout(secs(601));
        assert_eq!(node.usage().values, 0);
        let mut gone = Vec::new();
        while let Some(event) = node.poll_event() {
            if let NodeEvent::Listen {
                values,
                expired: true,
                ..
            } = event
            {
                gone.extend(values.iter().map(|v| v.id));
            }
        }
        assert_eq!(gone, [1]);
    }

    #[test]
    fn others_are_given_what_they_were_given_before_a_restart() {
        let mut world = World::new(1);
        for _ in 0..2 {
            world.add(|_| {});
        }
        let values = restarted().0.export_values(secs(0), ALL);
        let now = world.now;
        assert_eq!(world.peers[0].node.import_values(now, values), 2);
        world.join(1, 0);
        world.run(secs(5));
        let (get, ear) = (world.get(1, KEY), world.listen(1, KEY));
        assert!(world.wait(1, get).0);
        world.run(secs(5));
        for op in [get, ear] {
            let ids: Vec<u64> = world.values(1, op).iter().map(|v| v.id).collect();
            assert_eq!(ids, [1, 2]);
        }
        // An answer of another node counts, even if that has it from a restart as well.
        let values = restarted().0.export_values(secs(0), ALL);
        let now = world.now;
        assert_eq!(world.peers[1].node.import_values(now, values), 2);
        let get = world.get(0, KEY);
        assert!(world.wait(0, get).0);
        let ids: Vec<u64> = world.values(0, get).iter().map(|v| v.id).collect();
        assert_eq!(ids, [1, 2]);
    }

    #[test]
    fn what_somebody_says_again_is_found_again() {
        let from = || Some(limits::Source::V4([192, 0, 2, 9]));
        type Say = fn(&mut Node, Value, Option<limits::Source>);
        let ways: [(&str, Say); 4] = [
            ("put", |n, v, from| {
                n.store(secs(1), KEY, Arc::new(v), secs(700), from);
            }),
            ("edited", |n, mut v, from| {
                if let Content::Clear(clear) = &mut v.content {
                    clear.data = b"still here".to_vec();
                }
                n.store(secs(1), KEY, Arc::new(v), secs(700), from);
            }),
            ("renewed", |n, v, _| {
                n.refresh(secs(1), KEY, v.id, secs(700))
            }),
            ("put by us", |n, v, _| {
                n.put(secs(1), KEY, v, false, None);
            }),
        ];
        for (way, say) in ways {
            let (mut node, announced) = restarted();
            let ear = node.listen(secs(1), KEY, Query::all());
            assert_eq!(heard(&mut node, ear), [1], "{way}");
            say(&mut node, announced.clone(), from());
            assert_eq!(heard(&mut node, ear), [2], "{way}");
            assert_eq!(found(&mut node), [1, 2], "{way}");
            // It is news once.
            node.refresh(secs(2), KEY, announced.id, secs(800));
            assert_eq!(heard(&mut node, ear), [0u64; 0], "{way}");
        }
    }

    #[test]
    fn what_is_taken_back_is_judged_like_what_others_put() {
        let good = full().export_values(secs(0), ALL);
        let take = |edit: &dyn Fn(&mut StoredValue)| {
            let mut values = good.clone();
            values.iter_mut().for_each(edit);
            let mut node = node(Some(TODAY), |_| {});
            (node.import_values(secs(0), values), ids(&node), node)
        };
        assert_eq!(take(&|_| {}).0, 4);
        // A bit of the disk fell over.
        let bent = take(&|s| {
            if let Content::Clear(clear) = &mut s.value.content {
                clear.data[0] ^= 1;
            }
        });
        assert_eq!((bent.0, bent.1), (3, vec![2, 3, 4]));
        assert_eq!(take(&|s| s.expires = None).0, 0);
        assert_eq!(take(&|s| s.expires = Some(TODAY)).0, 0);
        assert_eq!(take(&|s| s.expires = Some(i64::MIN)).0, 0);
        assert_eq!(take(&|s| s.value.id = 0).0, 0);
        // Nothing lives longer than if it came now.
        let (count, _, node) = take(&|s| s.expires = Some(i64::MAX));
        let longest = node.storage.get(&KEY, 2).unwrap().expires;
        assert_eq!((count, longest), (4, secs(600)));
        // Whose it was nobody knows.
        assert_eq!(take(&|s| s.source = None).0, 4);
    }

    #[test]
    fn limits_hold_over_a_restart() {
        let old = full();
        let one = old.storage.get(&KEY, 1).unwrap().size();
        let some = old.storage.get(&KEY, 4).unwrap().size();
        let saved = |bytes| -> Vec<u64> {
            let values = old.export_values(secs(0), bytes);
            values.iter().map(|s| s.value.id).collect()
        };
        // What lives longest goes before; an own value is not among them.
        assert_eq!(saved(ALL), [1, 4, 3, 2]);
        assert_eq!(saved(one + some), [1, 4]);
        assert_eq!(saved(one - 1), [0u64; 0]);

        let values = old.export_values(secs(0), ALL);
        let mut small = node(Some(TODAY), |c| c.limits.storage = one + some);
        small.import_values(secs(0), values.clone());
        assert!(small.usage().bytes <= one + some);
        assert!(ids(&small).contains(&1));
        let mut narrow = node(Some(TODAY), |c| c.limits.values_per_key = 2);
        assert_eq!(narrow.import_values(secs(0), values.clone()), 2);
        // Without a clock no day is known.
        let mut timeless = node(None, |_| {});
        assert_eq!(timeless.import_values(secs(0), values), 0);
        assert_eq!(timeless.export_values(secs(0), ALL), []);
    }
}
