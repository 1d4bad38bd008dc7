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
            pause(more).min(LONGEST_LOOK)
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
    s.said(now);
    assert!(round(&mut s, 200, &mut now) <= LOOK_MERGED + MERGE_RANK);
}

/// Who goes on telling of merges that say nothing is looked at ever less, and nobody else is for that.
#[test]
fn whose_merges_say_nothing_keeps_nobody_else_from_being_looked_at() {
    let mut s = among(ALICE, &[BOB, CAROL]);
    let mut now = at(0);
    for n in 0..20 {
        round(&mut s, 100 + n, &mut now);
    }
    s.look(CAROL, true, now);
    assert!(due(&s) - now <= LOOK_MERGED + MERGE_RANK);
}

/// Others find something all the time, so that looking is put off; not for ever.
#[test]
fn what_others_find_puts_off_looking_for_so_long_and_no_longer() {
    let mut s = among(ALICE, &[BOB, CAROL]);
    s.look(BOB, false, at(0));
    let (mut now, mut n) = (at(0), 0);
    while due(&s) > now {
        now += Duration::from_millis(900);
        n += 1;
        assert!(now < LONGEST_LOOK + 2 * MERGE_RANK, "never looked at");
        if s.poll(now) == Some(Action::Fetch(BOB)) {
            break;
        }
        // Carol tells of a merge before each look.
        let next = head(100 + n);
        s.heard(CAROL, next, false, now);
        assert_eq!(work(&mut s, now), [Action::Fetch(CAROL)]);
        s.fetched(CAROL, well(next, Relation::FastForward), now);
        assert_eq!(work(&mut s, now), [Action::Merge(next)]);
        s.settled(next, Some(next), &|h| *h == next, now);
        let _ = all(&mut s, now);
    }
    assert!(now + LOOK_MERGED >= LONGEST_LOOK, "not put off: {now:?}");
}

#[test]
fn when_somebody_says_something_it_is_looked_soon() {
    let mut s = among(ALICE, &[BOB, CAROL]);
    let mut now = at(0);
    for n in 0..20 {
        round(&mut s, 100 + n, &mut now);
    }
    s.look(BOB, false, now);
    assert!(due(&s) >= now + LONGEST_LOOK);
    now += LOOK_MERGED;
    let mut written = s;
    written.said(now);
    assert!(due(&written) <= now + LOOK_MERGED + MERGE_RANK);
    // But who was looked at in vain is not asked more for it.
    let mut s = among(ALICE, &[BOB]);
    for _ in 0..LOOKS + 6 {
        s.look(BOB, false, now);
        now = due(&s);
        assert_eq!(all(&mut s, now), [Action::Fetch(BOB)]);
        s.fetched(BOB, well(OLD, Relation::UpToDate), now);
    }
    s.look(BOB, false, now);
    let then = due(&s);
    assert!(then >= now + pause(6));
    s.said(now);
    assert_eq!(due(&s), then);
}

/// Each has a merge of its own. Of what is told, one may bring what the other does.
#[test]
fn looks_go_on_beside_each_other_and_beside_nothing_else() {
    let mut s = among(ALICE, &[BOB, CAROL, DAVE]);
    s.look(BOB, true, at(0));
    s.look(CAROL, true, at(0));
    let now = due(&s);
    assert_eq!(all(&mut s, now), [Action::Fetch(BOB), Action::Fetch(CAROL)]);
    s.heard(DAVE, NEW, false, now);
    assert_eq!(all(&mut s, now), []);
    assert_eq!(due(&s), now + PATIENCE);
    for device in [BOB, CAROL] {
        s.fetched(device, well(OLD, Relation::UpToDate), now);
    }
    assert_eq!(all(&mut s, now), [Action::Fetch(DAVE)]);
    s.look(BOB, true, now);
    assert_eq!(due(&s), now + PATIENCE);
    assert_eq!(all(&mut s, now + PATIENCE - at(1)), []);
    assert_eq!(all(&mut s, now + PATIENCE), [Action::Fetch(BOB)]);
}

/// Bob and Carol may have merged; Bob's merge was found.
fn bobs_was_found() -> (Spread, Duration) {
    let mut s = among(ALICE, &[BOB, CAROL, DAVE]);
    s.look(BOB, true, at(0));
    s.look(CAROL, true, at(0));
    let now = due(&s);
    assert_eq!(all(&mut s, now), [Action::Fetch(BOB), Action::Fetch(CAROL)]);
    s.fetched(BOB, well(NEW, Relation::FastForward), now);
    assert_eq!(all(&mut s, now), [Action::Merge(NEW)]);
    s.settled(NEW, Some(NEW), &|h| *h == NEW, now);
    assert_eq!(all(&mut s, now), []);
    (s, now)
}

#[test]
fn what_several_have_merged_is_told_once() {
    let (mut s, now) = bobs_was_found();
    // Dave is to make one merge.
    s.fetched(CAROL, well(NEWER, Relation::Alike), now);
    assert_eq!(all(&mut s, now), [Action::Merge(NEWER)]);
    s.settled(NEWER, Some(NEWER), &|_| true, now);
    let told = [Action::Tell(BOB, NEWER), Action::Tell(DAVE, NEWER)];
    assert_eq!(all(&mut s, now), told);
}

#[test]
fn who_says_nothing_when_looked_at_keeps_nothing_from_the_others_for_long() {
    let (mut s, now) = bobs_was_found();
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

/// Bob tells of a head, which is taken in; `says`: it is more than merges. Carol has something else then, which is to
/// be fetched and does not come.
fn bob_tells(s: &mut Spread, n: u8, says: bool, now: Duration) -> Vec<Action> {
    s.heard(BOB, head(n), false, now);
    assert_eq!(work(s, now), [Action::Fetch(BOB)]);
    s.fetched(BOB, well(head(n), Relation::FastForward), now);
    assert_eq!(work(s, now), [Action::Merge(head(n))]);
    if says {
        s.said(now);
    }
    s.settled(head(n), Some(head(n)), &|h| *h == head(n), now);
    s.heard(CAROL, head(n + 100), false, now);
    let all = all(s, now);
    let told = |a: &&Action| matches!(a, Action::Tell(..));
    let (told, rest): (Vec<_>, Vec<_>) = all.iter().partition(told);
    assert!(
        rest.is_empty() || rest == [Action::Fetch(CAROL)],
        "{rest:?}"
    );
    told
}

#[test]
fn a_head_that_says_nothing_is_told_when_no_other_is_to_come_or_ever_later() {
    let mut s = among(ALICE, &[BOB, CAROL, DAVE]);
    let mut now = at(0);
    // Somebody wrote it: those who lack it hear of it, whatever else is to come.
    let told = |n| [CAROL, DAVE].map(|d| Action::Tell(d, head(n)));
    assert_eq!(bob_tells(&mut s, 11, true, now), told(11));
    let begin = |s: &mut Spread, n, now: Duration| {
        s.fetched(CAROL, well(head(n), Relation::UpToDate), now);
        let _ = all(s, now);
    };
    for n in 12..18 {
        begin(&mut s, n - 1, now);
        now += Duration::from_secs(60);
        assert_eq!(bob_tells(&mut s, n, false, now), []);
        let hush = HUSH * (1 << u32::from(n - 12).min(HUSHES));
        assert_eq!(s.poll_timeout(), Some(now + hush), "{n}");
        assert_eq!(all(&mut s, now + hush - at(1)), []);
        now += hush;
        assert_eq!(all(&mut s, now), told(n), "{n}");
    }
    // What is written is heard of at once, and what comes after it as at first.
    begin(&mut s, 17, now);
    now += Duration::from_secs(60);
    assert_eq!(bob_tells(&mut s, 18, true, now), told(18));
    begin(&mut s, 18, now);
    now += Duration::from_secs(60);
    assert_eq!(bob_tells(&mut s, 19, false, now), []);
    assert_eq!(all(&mut s, now + HUSH), told(19));
}

#[test]
fn who_was_not_told_of_what_was_written_hears_of_the_merge_that_holds_it() {
    let mut s = among(ALICE, &[BOB, CAROL]);
    s.wrote(head(11), at(0));
    let told = |d, n| Action::Tell(d, head(n));
    assert_eq!(all(&mut s, at(0)), [told(BOB, 11), told(CAROL, 11)]);
    // The next one is not told before the gap is over, and then it is a merge of Bob's that is.
    s.wrote(head(12), at(1));
    assert_eq!(all(&mut s, at(1)), []);
    assert_eq!(bob_tells(&mut s, 13, false, at(2)), []);
    assert_eq!(all(&mut s, NOTICE_GAP), [told(CAROL, 13)]);
    // So with somebody who comes.
    s.fetched(CAROL, well(head(13), Relation::UpToDate), NOTICE_GAP);
    let now = at(60_000);
    assert_eq!(bob_tells(&mut s, 14, false, now), []);
    s.linked(DAVE, Standing::Member, now);
    assert_eq!(all(&mut s, now), [told(DAVE, 14)]);
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

/// A daemon that comes fetches at once, and its notice may be one that waited since before it wrote.
#[test]
fn who_comes_and_fetches_here_is_looked_at_once_whatever_it_says() {
    for fetches_first in [true, false] {
        let mut s = among(ALICE, &[CAROL]);
        s.linked(BOB, Standing::Member, at(0));
        s.anew(&BOB, at(0));
        assert_eq!(all(&mut s, at(0)), [Action::Tell(BOB, OLD)]);
        if fetches_first {
            s.took(&BOB, OLD, at(1));
        }
        // He and Carol say the same, and it comes from her.
        s.heard(CAROL, NEW, false, at(2));
        assert_eq!(all(&mut s, at(2)), [Action::Fetch(CAROL)]);
        s.heard(BOB, NEW, false, at(2));
        s.fetched(CAROL, well(NEW, Relation::FastForward), at(3));
        assert_eq!(all(&mut s, at(3)), [Action::Merge(NEW)]);
        s.settled(NEW, Some(NEW), &|h| *h != NEWER, at(3));
        if !fetches_first {
            assert_eq!((all(&mut s, at(4)), s.poll_timeout()), (vec![], None));
            s.took(&BOB, OLD, at(4));
        }
        let now = due(&s).max(at(4));
        assert_eq!(all(&mut s, now), [Action::Fetch(BOB)]);
        s.fetched(BOB, well(NEWER, Relation::FastForward), now);
        assert_eq!(all(&mut s, now), [Action::Merge(NEWER)]);
        s.settled(NEWER, Some(NEWER), &|_| true, now);
        // Who fetches later has something to fetch.
        let now = now.max(at(0) + COMES + at(1));
        s.took(&BOB, NEWER, now);
        let told = [Action::Tell(CAROL, NEWER)];
        assert_eq!((all(&mut s, now), s.poll_timeout()), (told.to_vec(), None));
    }
}
