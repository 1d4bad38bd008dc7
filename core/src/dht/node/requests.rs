//! Requests under way: their ids, repeats and failures.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::{Family, OpId};
use crate::id::InfoHash;
use crate::rng::Rng;

/// First wait for a reply (OpenDHT `Node::MAX_RESPONSE_TIME`). Each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Random addition to each wait, so that nodes do not repeat in step.
const JITTER: Duration = Duration::from_millis(250);
/// How often a request is sent (OpenDHT `Request::MAX_ATTEMPT_COUNT`).
const ATTEMPTS: u8 = 3;

/// What a request is for, and so what to do with its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Find out who is at an address.
    Bootstrap,
    /// Find out whether a node is there.
    Ping,
    /// Find out whether a node has moved to the address it sent from.
    Verify,
    /// Find out whether the sender of a get receives there: then answer it.
    Probe,
    /// Nodes near an id, and for a search also a token.
    Find {
        /// The search that wants it.
        key: Option<InfoHash>,
    },
    /// Values.
    Get {
        /// The search.
        key: InfoHash,
        /// The operations that get the answer.
        ops: Vec<OpId>,
    },
    /// Storing a value.
    Put {
        /// The search.
        key: InfoHash,
        /// The operation.
        op: OpId,
    },
    /// Being told about values.
    Listen {
        /// The search.
        key: InfoHash,
        /// The subscription.
        subscription: u64,
    },
    /// Telling a listener.
    Update,
}

/// A request without an answer so far.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) family: Family,
    /// Whose reply is awaited; `None` where only the address is known.
    pub(super) node: Option<InfoHash>,
    pub(super) addr: SocketAddr,
    pub(super) purpose: Purpose,
    payload: Vec<Vec<u8>>,
    attempt: u8,
    wait: Duration,
    due: Duration,
}

/// What is to be done about a request that has waited long enough.
#[derive(Debug)]
pub(super) enum Overdue {
    /// Send these again. It is `slow` when this is the second time.
    Again {
        tid: u32,
        to: SocketAddr,
        payload: Vec<Vec<u8>>,
        slow: bool,
    },
    /// Give it up.
    Failed(Pending),
}

/// All requests under way, by transaction id. Ids are random, so that nobody can answer who did not
/// see the question, and unique among requests and sockets.
#[derive(Default)]
pub(super) struct Requests {
    pending: BTreeMap<u32, Pending>,
    due: BTreeSet<(Duration, u32)>,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn get(&self, tid: u32) -> Option<&Pending> {
        self.pending.get(&tid)
    }

    /// A transaction id that is free.
    pub(super) fn fresh_tid(&self, rng: &mut Rng, taken: impl Fn(u32) -> bool) -> u32 {
        loop {
            let tid = rng.u32();
            if tid != 0 && !self.pending.contains_key(&tid) && !taken(tid) {
                return tid;
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a record of what was sent")]
    pub(super) fn start(
        &mut self,
        now: Duration,
        rng: &mut Rng,
        tid: u32,
        family: Family,
        node: Option<InfoHash>,
        addr: SocketAddr,
        purpose: Purpose,
        payload: Vec<Vec<u8>>,
    ) {
        let wait = rng.between(FIRST_WAIT, FIRST_WAIT.saturating_add(JITTER));
        let due = now.saturating_add(wait);
        self.due.insert((due, tid));
        self.pending.insert(
            tid,
            Pending {
                family,
                node,
                addr,
                purpose,
                payload,
                attempt: 1,
                wait,
                due,
            },
        );
    }

    pub(super) fn finish(&mut self, tid: u32) -> Option<Pending> {
        let pending = self.pending.remove(&tid)?;
        self.due.remove(&(pending.due, tid));
        Some(pending)
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next request whose time has come.
    pub(super) fn overdue(&mut self, now: Duration, rng: &mut Rng) -> Option<Overdue> {
        let (due, tid) = *self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(due, tid));
        let pending = self.pending.get_mut(&tid)?;
        if pending.attempt >= ATTEMPTS {
            return self.pending.remove(&tid).map(Overdue::Failed);
        }
        pending.attempt = pending.attempt.saturating_add(1);
        let jitter = rng.between(Duration::ZERO, JITTER);
        pending.wait = pending.wait.saturating_mul(2).saturating_add(jitter);
        // From now: after a suspended machine wakes, a request gets its full time.
        pending.due = now.saturating_add(pending.wait);
        self.due.insert((pending.due, tid));
        Some(Overdue::Again {
            tid,
            to: pending.addr,
            payload: pending.payload.clone(),
            slow: pending.attempt == 2,
        })
    }

    /// The requests for which something holds.
    pub(super) fn matching(&self, is: impl Fn(&Pending) -> bool) -> Vec<u32> {
        self.pending
            .iter()
            .filter(|(_, p)| is(p))
            .map(|(tid, _)| *tid)
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_sent_three_times_and_then_fails() {
        let mut rng = Rng::new([5; 32]);
        let mut requests = Requests::default();
        let addr = "192.0.2.1:4222".parse().unwrap();
        let payload = vec![vec![1], vec![2]];
        let start = Duration::from_secs(100);
        requests.start(
            start,
            &mut rng,
            7,
            Family::V4,
            None,
            addr,
            Purpose::Bootstrap,
            payload.clone(),
        );
        let ms = Duration::from_millis;
        let mut bounds = [(1000, 1250, true), (3000, 4000, false)].into_iter();
        loop {
            let at = requests.next_due().unwrap();
            assert!(requests.overdue(at - ms(1), &mut rng).is_none());
            match (requests.overdue(at, &mut rng).unwrap(), bounds.next()) {
                (
                    Overdue::Again {
                        payload: p, slow, ..
                    },
                    Some((low, high, second)),
                ) => {
                    assert_eq!((p, slow), (payload.clone(), second));
                    assert!((start + ms(low)..=start + ms(high)).contains(&at));
                }
                (Overdue::Failed(p), None) => {
                    assert_eq!(p.addr, addr);
                    assert!((start + ms(7000)..=start + ms(9750)).contains(&at));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((requests.len(), requests.next_due()), (0, None));
    }
}
