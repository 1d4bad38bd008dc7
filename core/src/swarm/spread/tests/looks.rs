//! Looking for merges that nobody tells of.

use super::*;

fn head(n: u8) -> ObjectId {
    ObjectId([n; 20])
}

/// Bob is to be looked at; gives when.
fn due(s: &Spread) -> Duration {
    s.poll_timeout().unwrap()
}

/// Bob has merged once more, without a word of anybody. Gives how long it was waited before he was looked at.
fn round(s: &mut Spread, n: u8, now: &mut Duration) -> Duration {
    s.look(BOB, true, *now);
    let waited = due(s) - *now;
    *now += waited;
    assert_eq!(all(s, *now), [Action::Fetch(BOB)]);
    s.fetched(BOB, well(head(n), Relation::FastForward), *now);
    assert_eq!(all(s, *now), [Action::Merge(head(n))]);
    s.settled(head(n), Some(head(n)), &|h| *h == head(n), *now);
    assert_eq!(all(s, *now), [Action::Tell(CAROL, head(n))]);
    waited
}

#[test]
fn merges_that_say_nothing_are_looked_for_ever_less() {
    let mut s = among(ALICE, &[BOB, CAROL]);
    let mut now = at(0);
    for n in 0..20 {
        let waited = round(&mut s, 100 + n, &mut now);
        let more = u32::from(n).saturating_sub(ROUNDS);
        let least = if more > 0 {
            pause(more)
        } else {
            Duration::ZERO
        };
        assert!(waited >= LOOK_MERGED + least, "{n}: {waited:?}");
        assert!(
            waited <= LOOK_MERGED + least + MERGE_RANK,
            "{n}: {waited:?}"
        );
    }
    // Somebody says something.
    s.said();
    assert!(round(&mut s, 200, &mut now) <= LOOK_MERGED + MERGE_RANK);
}

/// Bob and Carol may have merged; Bob's merge was found.
fn bobs_was_found() -> (Spread, Duration) {
    let mut s = among(ALICE, &[BOB, CAROL, DAVE]);
    s.look(BOB, true, at(0));
    s.look(CAROL, true, at(0));
    let now = due(&s);
    assert_eq!(all(&mut s, now), [Action::Fetch(BOB)]);
    s.fetched(BOB, well(NEW, Relation::FastForward), now);
    assert_eq!(all(&mut s, now), [Action::Merge(NEW)]);
    s.settled(NEW, Some(NEW), &|h| *h == NEW, now);
    (s, now)
}

#[test]
fn what_several_have_merged_is_told_once() {
    let (mut s, now) = bobs_was_found();
    // Carol first: Dave is to make one merge.
    assert_eq!(all(&mut s, now), [Action::Fetch(CAROL)]);
    s.fetched(CAROL, well(NEWER, Relation::Alike), now);
    assert_eq!(all(&mut s, now), [Action::Merge(NEWER)]);
    s.settled(NEWER, Some(NEWER), &|_| true, now);
    let told = [Action::Tell(BOB, NEWER), Action::Tell(DAVE, NEWER)];
    assert_eq!(all(&mut s, now), told);
}

#[test]
fn who_says_nothing_when_looked_at_keeps_nothing_from_the_others_for_long() {
    let (mut s, now) = bobs_was_found();
    assert_eq!(all(&mut s, now), [Action::Fetch(CAROL)]);
    assert_eq!(s.poll_timeout(), Some(now + HUSH));
    assert_eq!(all(&mut s, now + HUSH - at(1)), []);
    // What is written is told at once; what was found, after a while.
    let told = |head| [CAROL, DAVE].map(|d| Action::Tell(d, head));
    assert_eq!(all(&mut s, now + HUSH), told(NEW));
    s.look(DAVE, true, now + HUSH);
    s.wrote(NEWER, now + HUSH);
    let later = now + HUSH + NOTICE_GAP;
    let [carol, dave] = told(NEWER);
    let told: Vec<_> = std::iter::from_fn(|| s.poll(later)).collect();
    assert_eq!(told, [Action::Tell(BOB, NEWER), carol, dave]);
}

#[test]
fn who_shows_our_newest_head_is_looked_at_as_at_first() {
    let mut s = among(ALICE, &[BOB]);
    let mut now = at(0);
    for n in 0..5 * LOOKS {
        // In vain each time: it has just read what we read, and has nothing of its own.
        s.look(BOB, true, now);
        let next = due(&s);
        assert!(next - now <= LOOK_MERGED + MERGE_RANK, "{n}");
        now = next;
        assert_eq!(all(&mut s, now), [Action::Fetch(BOB)]);
        s.fetched(BOB, well(OLD, Relation::UpToDate), now);
        assert_eq!(all(&mut s, now), []);
    }
}

#[test]
fn what_takes_long_to_begin_is_not_slow() {
    // It comes after ten seconds, and in four.
    for (begins, takes, soon) in [(7, 4, true), (7, 6, false), (60, 4, false)] {
        let mut s = among(ALICE, &[BOB]);
        s.heard(BOB, NEW, false, at(0));
        let mut now = at(0);
        for _ in 0..2 * SLIGHT {
            assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
            s.gets_on(&BOB, 0, now);
            now += Duration::from_secs(begins);
            s.gets_on(&BOB, WORTH, now);
            now += Duration::from_secs(takes);
            s.fetched(BOB, Ended::Failed { progressed: true }, now);
            assert_eq!(work(&mut s, now), []);
            now = due(&s);
        }
        let last = s.peers.get(&BOB).unwrap().failures;
        assert_eq!(last == 1, soon, "{begins} s, {takes} s");
    }
}
