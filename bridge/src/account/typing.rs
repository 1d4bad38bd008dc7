//! Who types, as it is told to pages: peers may say so as often as they like.

use starling_core::id::{AccountId, ConversationId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// At most one thing is told of a person and conversation in this time.
const PAUSE: Duration = Duration::from_secs(1);

/// That somebody types still is told again after this time: pages take who is silent for longer than
/// twelve seconds to have stopped.
const STILL: Duration = Duration::from_secs(5);

/// More entries than this are looked through for those that say nothing any more.
const MANY: usize = 256;

type Key = (ConversationId, AccountId);

/// What was told of one person in one conversation.
#[derive(Debug, Clone, Copy)]
struct Told {
    typing: bool,
    at: Instant,
    /// What they said last.
    latest: bool,
    /// It is to be told later.
    waits: bool,
}

/// What to do about what somebody said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing: it is known, or will be told with what waits.
    Nothing,
    /// Tell it.
    Tell,
    /// Ask [`Typing::due`] then what to tell.
    Later(Instant),
}

/// Who types.
#[derive(Debug, Default)]
pub(super) struct Typing(BTreeMap<Key, Told>);

impl Typing {
    /// Somebody said whether they type.
    pub(super) fn heard(&mut self, key: Key, typing: bool, now: Instant) -> Then {
        if self.0.len() > MANY {
            self.0
                .retain(|_, t| t.waits || t.typing || now < t.at + PAUSE);
        }
        let Some(told) = self.0.get_mut(&key) else {
            if !typing {
                return Then::Nothing;
            }
            let told = Told {
                typing,
                at: now,
                latest: typing,
                waits: false,
            };
            self.0.insert(key, told);
            return Then::Tell;
        };
        told.latest = typing;
        let again = typing && now >= told.at + STILL;
        if told.waits || (told.typing == typing && !again) {
            return Then::Nothing;
        }
        let due = told.at + PAUSE;
        if now < due {
            told.waits = true;
            return Then::Later(due);
        }
        (told.typing, told.at) = (typing, now);
        Then::Tell
    }

    /// The pause is over: what is to be told now, if it is news.
    pub(super) fn due(&mut self, key: Key, now: Instant) -> Option<bool> {
        let told = self.0.get_mut(&key)?;
        told.waits = false;
        if told.latest == told.typing {
            return None;
        }
        (told.typing, told.at) = (told.latest, now);
        Some(told.typing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (ConversationId([1; 20]), AccountId([2; 20]));
    const OTHER: Key = (ConversationId([1; 20]), AccountId([3; 20]));

    #[test]
    fn what_is_told_is_news_and_not_often_and_the_last_is_never_lost() {
        let mut typing = Typing::default();
        let start = Instant::now();
        let mut told = Vec::new();
        let mut due: Option<Instant> = None;
        // A thousand changes in ten seconds, the last of which says that they stopped.
        for n in 0..1000u32 {
            let now = start + Duration::from_millis(10) * n;
            if due.is_some_and(|at| at <= now) {
                due = None;
                told.extend(typing.due(KEY, now).map(|t| (now, t)));
            }
            match typing.heard(KEY, n % 2 == 0, now) {
                Then::Tell => told.push((now, n % 2 == 0)),
                Then::Later(at) => {
                    assert!(due.is_none() && at > now);
                    due = Some(at);
                }
                Then::Nothing => {}
            }
        }
        if let Some(at) = due {
            told.extend(typing.due(KEY, at).map(|t| (at, t)));
        }
        assert!((2..=11).contains(&told.len()), "{told:?}");
        assert_eq!(told[0], (start, true));
        assert_eq!(told.last().map(|(_, typing)| *typing), Some(false));
        for pair in told.windows(2) {
            assert!(pair[1].0 >= pair[0].0 + PAUSE && pair[1].1 != pair[0].1);
        }
    }

    #[test]
    fn who_goes_on_typing_is_told_again_in_time() {
        let mut typing = Typing::default();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(typing.heard(KEY, true, start), Then::Tell);
        assert_eq!(typing.heard(OTHER, false, start), Then::Nothing);
        assert_eq!(typing.heard(OTHER, true, start), Then::Tell);
        let told: Vec<u64> = (1..=20)
            .filter(|s| typing.heard(KEY, true, at(*s)) == Then::Tell)
            .collect();
        assert_eq!(told, [5, 10, 15, 20]);
        assert_eq!(typing.heard(KEY, false, at(22)), Then::Tell);
        assert_eq!(typing.heard(KEY, false, at(40)), Then::Nothing);
    }

    #[test]
    fn those_who_stopped_are_forgotten() {
        let mut typing = Typing::default();
        let start = Instant::now();
        for n in 0..10_000u32 {
            let mut key = KEY;
            key.0.0[..4].copy_from_slice(&n.to_be_bytes());
            let now = start + Duration::from_secs(2) * n;
            assert_eq!(typing.heard(key, true, now), Then::Tell);
            assert_eq!(typing.heard(key, false, now + PAUSE), Then::Tell);
        }
        assert!(typing.0.len() <= MANY + 1);
    }
}
