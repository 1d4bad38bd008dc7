#![allow(clippy::unwrap_used)]
use super::*;

const ALICE: DeviceId = DeviceId([1; 32]);
const BOB: DeviceId = DeviceId([2; 32]);
const CAROL: DeviceId = DeviceId([3; 32]);
const DAVE: DeviceId = DeviceId([4; 32]);
const OLD: ObjectId = ObjectId([1; 20]);
const NEW: ObjectId = ObjectId([7; 20]);
const NEWER: ObjectId = ObjectId([8; 20]);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn all(spread: &mut Spread, now: Duration) -> Vec<Action> {
    std::iter::from_fn(|| spread.poll(now)).collect()
}

/// The same, without notices.
fn work(spread: &mut Spread, now: Duration) -> Vec<Action> {
    let mut all = all(spread, now);
    all.retain(|a| !matches!(a, Action::Tell(..)));
    all
}

fn well(head: ObjectId, relation: Relation) -> Ended {
    Ended::Well { head, relation }
}

const FAILED: Ended = Ended::Failed { progressed: false };

/// Linked with these, who all have our head.
fn among(own: DeviceId, others: &[DeviceId]) -> Spread {
    let mut s = Spread::new(own, Some(OLD));
    for other in others {
        s.linked(*other, Standing::Member, at(0));
        s.heard(*other, OLD, true, at(0));
    }
    assert_eq!(all(&mut s, at(0)), []);
    assert_eq!(s.poll_timeout(), None);
    s
}

#[test]
fn a_commit_is_told_to_everyone_once() {
    let mut s = among(ALICE, &[BOB, CAROL]);
    s.wrote(NEW, at(1));
    let told = [Action::Tell(BOB, NEW), Action::Tell(CAROL, NEW)];
    assert_eq!(all(&mut s, at(1)), told);
    s.linked(BOB, Standing::Member, at(2));
    s.heard(CAROL, OLD, true, at(9_000));
    assert_eq!(all(&mut s, at(9_000)), []);
    assert_eq!(s.poll_timeout(), None);
}

#[test]
fn what_arrived_is_told_on_but_not_back() {
    let mut s = among(BOB, &[ALICE, CAROL, DAVE]);
    s.heard(ALICE, NEW, false, at(1));
    assert_eq!(
        all(&mut s, at(1)),
        [Action::Fetch(ALICE)],
        "nothing to tell before it is here"
    );
    // Carol was faster.
    s.heard(CAROL, NEW, false, at(2));
    assert_eq!(all(&mut s, at(2)), [], "one of them is enough");
    s.fetched(ALICE, well(NEW, Relation::FastForward), at(3));
    assert_eq!(all(&mut s, at(3)), [Action::Merge(NEW)]);
    s.settled(NEW, Some(NEW), &|_| true, at(3));
    assert_eq!(all(&mut s, at(3)), [Action::Tell(DAVE, NEW)]);
    assert_eq!(s.poll_timeout(), None);
}

#[test]
fn a_newer_notice_replaces_the_one_that_waits() {
    let mut s = among(ALICE, &[BOB]);
    s.wrote(NEW, at(1));
    assert_eq!(all(&mut s, at(1)), [Action::Tell(BOB, NEW)]);
    for n in 0..10 {
        s.wrote(ObjectId([100 + n; 20]), at(2));
        assert_eq!(all(&mut s, at(2)), []);
    }
    assert_eq!(s.poll_timeout(), Some(at(1) + NOTICE_GAP));
    let last = Action::Tell(BOB, ObjectId([109; 20]));
    assert_eq!(all(&mut s, at(1) + NOTICE_GAP), [last]);
}

#[test]
fn news_during_a_fetch_are_fetched_after_it() {
    let mut s = among(ALICE, &[BOB]);
    s.heard(BOB, NEW, false, at(1));
    assert_eq!(all(&mut s, at(1)), [Action::Fetch(BOB)]);
    s.heard(BOB, NEWER, false, at(2));
    s.heard(BOB, NEWER, false, at(3));
    assert_eq!(all(&mut s, at(3)), []);
    s.fetched(BOB, well(NEW, Relation::FastForward), at(4));
    assert_eq!(all(&mut s, at(4)), [Action::Merge(NEW)]);
    s.settled(NEW, Some(NEW), &|h| *h != NEWER, at(4));
    assert_eq!(all(&mut s, at(4)), [Action::Fetch(BOB)]);
    s.fetched(BOB, well(NEWER, Relation::FastForward), at(5));
    assert_eq!(all(&mut s, at(5)), [Action::Merge(NEWER)]);
    s.settled(NEWER, Some(NEWER), &|_| true, at(5));
    assert_eq!(all(&mut s, at(5)), []);
}

#[test]
fn who_must_have_merged_is_asked_whatever_it_says() {
    let mut s = among(ALICE, &[BOB]);
    s.wrote(NEW, at(1));
    assert_eq!(all(&mut s, at(1)), [Action::Tell(BOB, NEW)]);
    // Bob fetched it, and had something besides. He goes on saying what he fetched.
    s.look(BOB, false, at(2));
    s.heard(BOB, NEW, true, at(3));
    s.look(BOB, false, at(4));
    assert_eq!(all(&mut s, at(4)), []);
    let then = at(2) + LOOK_MERGED;
    assert_eq!(s.poll_timeout(), Some(then));
    assert_eq!(all(&mut s, then), [Action::Fetch(BOB)]);
    s.fetched(BOB, well(NEWER, Relation::FastForward), then);
    assert_eq!(all(&mut s, then), [Action::Merge(NEWER)]);
    s.settled(NEWER, Some(NEWER), &|_| true, then);
    assert_eq!((all(&mut s, then), s.poll_timeout()), (vec![], None));
    // A fetch that ends before is not the answer; who is no member is not asked.
    s.heard(BOB, OLD, false, then);
    assert_eq!(all(&mut s, then), [Action::Fetch(BOB)]);
    s.look(BOB, false, then);
    s.fetched(BOB, well(OLD, Relation::UpToDate), then);
    assert_eq!(all(&mut s, then), [Action::Tell(BOB, NEWER)]);
    assert_eq!(s.poll_timeout(), Some(then + LOOK_MERGED));
    s.linked(BOB, Standing::Outside, then);
    s.look(BOB, false, then);
    assert_eq!(s.poll_timeout(), None);
}

#[test]
fn a_link_that_comes_up_is_told_and_looked_at_unless_it_speaks_first() {
    let mut s = Spread::new(ALICE, Some(OLD));
    s.linked(BOB, Standing::Member, at(0));
    s.linked(CAROL, Standing::Member, at(0));
    s.linked(DAVE, Standing::Invited, at(0));
    let told = [BOB, CAROL, DAVE].map(|d| Action::Tell(d, OLD));
    assert_eq!(all(&mut s, at(0)), told);
    s.heard(BOB, OLD, true, at(1));
    assert_eq!(s.poll_timeout(), Some(LOOK_AFTER));
    assert_eq!(all(&mut s, LOOK_AFTER), [Action::Fetch(CAROL)]);
    s.fetched(CAROL, well(OLD, Relation::UpToDate), at(400));
    assert_eq!(all(&mut s, at(400)), []);
    assert_eq!(s.poll_timeout(), None);
    // Down and up again: everything anew.
    s.unlinked(&BOB);
    s.wrote(NEW, at(500));
    s.linked(BOB, Standing::Member, at(600));
    let news = [BOB, CAROL, DAVE].map(|d| Action::Tell(d, NEW));
    assert_eq!(all(&mut s, at(600)), news);
}

#[test]
fn who_is_no_member_neither_hears_nor_is_heard() {
    let mut s = Spread::new(ALICE, Some(OLD));
    s.linked(BOB, Standing::Outside, at(0));
    s.heard(BOB, NEW, false, at(0));
    assert_eq!(all(&mut s, at(1_000)), []);
    // Invited since.
    s.linked(BOB, Standing::Invited, at(1_000));
    assert_eq!(all(&mut s, at(1_000)), [Action::Tell(BOB, OLD)]);
    s.heard(BOB, NEW, false, at(1_001));
    assert_eq!(all(&mut s, at(1_001)), [Action::Fetch(BOB)]);
    // Thrown out while it sends: what it sends comes too late.
    s.linked(BOB, Standing::Outside, at(1_002));
    s.unlinked(&BOB);
    s.fetched(BOB, well(NEW, Relation::FastForward), at(1_003));
    assert_eq!(all(&mut s, at(60_000)), []);
    assert_eq!(s.remembered(), 0);
}

#[test]
fn what_a_device_brought_is_not_merged_after_it_was_thrown_out() {
    let mut s = among(CAROL, &[ALICE, BOB]);
    s.heard(ALICE, NEW, false, at(1));
    assert_eq!(work(&mut s, at(1)), [Action::Fetch(ALICE)]);
    s.fetched(ALICE, well(NEW, Relation::Diverged), at(2));
    s.heard(BOB, NEW, false, at(3));
    assert_eq!(work(&mut s, at(3)), []);
    s.linked(ALICE, Standing::Outside, at(4));
    // Bob has it too: then it came before the ban.
    assert_eq!(work(&mut s, at(4)), [Action::Fetch(BOB)]);
}

#[test]
fn pauses_grow_to_a_limit_and_end_with_a_success() {
    let mut s = among(ALICE, &[BOB]);
    let mut now = at(1);
    let mut last = Duration::ZERO;
    s.heard(BOB, NEW, false, now);
    for _ in 0..20 {
        assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
        s.fetched(BOB, FAILED, now);
        s.heard(BOB, NEW, false, now);
        assert_eq!(work(&mut s, now), []);
        let next = s.poll_timeout().unwrap();
        assert!(next - now >= last && next - now <= LONGEST_PAUSE);
        last = next - now;
        now = next;
    }
    assert_eq!(last, LONGEST_PAUSE);
    assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
    s.fetched(BOB, well(NEW, Relation::FastForward), now);
    assert_eq!(work(&mut s, now), [Action::Merge(NEW)]);
    s.settled(NEW, Some(NEW), &|h| *h == NEW, now);
    s.heard(BOB, NEWER, false, now);
    assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
}

#[test]
fn who_has_never_merged_is_looked_at_ever_less_and_loses_no_news_by_it() {
    let mut s = among(ALICE, &[BOB]);
    let mut now = at(0);
    for n in 0..LOOKS + 12 {
        s.look(BOB, false, now);
        let next = s.poll_timeout().unwrap();
        let wait = match n.checked_sub(LOOKS) {
            None => LOOK_MERGED,
            Some(more) => pause(more + 1),
        };
        assert_eq!(next - now, wait, "{n}");
        now = next;
        assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
        s.fetched(BOB, well(OLD, Relation::UpToDate), now);
        assert_eq!(work(&mut s, now), []);
    }
    // News break off while a look is put off for long: they are asked for soon.
    s.heard(BOB, NEW, false, now);
    assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
    s.look(BOB, false, now);
    s.fetched(BOB, FAILED, now);
    assert_eq!(work(&mut s, now), []);
    assert_eq!(s.poll_timeout(), Some(now + FIRST_PAUSE));
    now += FIRST_PAUSE;
    assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
    // They come, and what is to be looked at is soon again.
    s.look(BOB, false, now);
    s.fetched(BOB, well(NEW, Relation::FastForward), now);
    assert_eq!(work(&mut s, now), [Action::Merge(NEW)]);
    s.settled(NEW, Some(NEW), &|h| *h == NEW, now);
    assert_eq!(work(&mut s, now), []);
    assert_eq!(s.poll_timeout(), Some(now + LOOK_MERGED));
}

/// Bob is asked, sends so much, and the link breaks at once; gives when he is asked again.
fn broken_off(s: &mut Spread, bytes: u64, now: Duration) -> Duration {
    assert_eq!(work(s, now), [Action::Fetch(BOB)]);
    s.gets_on(&BOB, bytes, now);
    s.fetched(BOB, Ended::Failed { progressed: true }, now);
    assert_eq!(work(s, now), []);
    s.poll_timeout().unwrap()
}

#[test]
fn a_good_link_makes_good_for_a_bad_one() {
    let mut s = among(ALICE, &[BOB]);
    s.heard(BOB, NEW, false, at(0));
    let mut now = at(0);
    let mut pieces = |s: &mut Spread, bytes: u64, count: u32| {
        for _ in 0..count {
            let next = broken_off(s, bytes, now);
            assert!(next == now + FIRST_PAUSE || bytes < WORTH);
            now = next;
        }
    };
    pieces(&mut s, 100, 10 * SLIGHT);
    pieces(&mut s, WORTH, 10);
}

#[test]
fn what_progresses_is_tried_again_soon() {
    let mut s = among(ALICE, &[BOB]);
    s.heard(BOB, NEW, false, at(0));
    let mut now = at(0);
    for _ in 0..30 {
        let next = broken_off(&mut s, WORTH, now);
        assert_eq!(next, now + FIRST_PAUSE);
        now = next;
    }
}

#[test]
fn who_drips_is_asked_ever_less() {
    // Little at a time at once, and more that takes so long that it is little.
    for (bytes, takes) in [(400, 0), (WORTH, 29)] {
        let mut s = among(ALICE, &[BOB]);
        s.heard(BOB, NEW, false, at(0));
        let mut now = at(0);
        let mut tries = 0;
        while now < Duration::from_secs(86_400) {
            assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
            now += Duration::from_secs(takes);
            s.gets_on(&BOB, bytes, now);
            s.fetched(BOB, Ended::Failed { progressed: true }, now);
            tries += 1;
            assert_eq!(work(&mut s, now), []);
            let next = s.poll_timeout().unwrap();
            let soon = tries <= SLIGHT;
            assert_eq!(next == now + FIRST_PAUSE, soon, "{tries}");
            now = next;
        }
        assert!(tries < SLIGHT + 10 + 6 * 24, "{tries}");
        // As soon as it all comes, everything is well again.
        assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
        s.fetched(BOB, well(NEW, Relation::FastForward), now);
        assert_eq!(work(&mut s, now), [Action::Merge(NEW)]);
        s.settled(NEW, Some(NEW), &|h| *h == NEW, now);
        s.heard(BOB, NEWER, false, now);
        assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
        s.fetched(BOB, Ended::Failed { progressed: true }, now);
        assert_eq!(work(&mut s, now), []);
        assert_eq!(s.poll_timeout(), Some(now + FIRST_PAUSE));
    }
}

#[test]
fn what_our_own_disk_did_not_take_counts_against_nobody() {
    let mut s = among(ALICE, &[BOB]);
    s.heard(BOB, NEW, false, at(0));
    let mut now = at(0);
    for _ in 0..20 {
        assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
        s.fetched(BOB, Ended::Ours, now);
        assert_eq!(work(&mut s, now), []);
        assert_eq!(s.poll_timeout(), Some(now + OWN_PAUSE));
        now += OWN_PAUSE;
    }
    // What fails there then is the first that does.
    assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
    s.fetched(BOB, FAILED, now);
    assert_eq!(s.poll_timeout(), Some(now + FIRST_PAUSE));
}

#[test]
fn a_refused_head_is_not_fetched_again_from_anyone_but_another_is() {
    let mut s = among(ALICE, &[BOB, CAROL]);
    s.heard(BOB, NEW, false, at(1));
    s.heard(CAROL, NEW, false, at(1));
    assert_eq!(all(&mut s, at(1)), [Action::Fetch(BOB)]);
    s.fetched(BOB, Ended::Refused(NEW), at(2));
    assert!(s.is_refused(&NEW) && !s.is_refused(&NEWER));
    s.heard(BOB, NEW, false, at(3));
    s.heard(CAROL, NEW, false, at(3));
    assert_eq!(all(&mut s, at(100_000)), []);
    assert_eq!(s.poll_timeout(), None);
    // Not at once, and not by connecting anew either.
    s.fetched(BOB, Ended::Refused(NEW), at(100_000));
    s.heard(BOB, NEWER, false, at(100_000));
    assert_eq!(all(&mut s, at(100_000)), [Action::Fetch(BOB)]);
    s.fetched(BOB, Ended::Refused(NEWER), at(100_000));
    s.unlinked(&BOB);
    s.linked(BOB, Standing::Member, at(100_001));
    s.heard(BOB, ObjectId([9; 20]), false, at(100_001));
    assert!(!all(&mut s, at(100_001)).contains(&Action::Fetch(BOB)));
    assert_eq!(s.poll_timeout(), Some(at(102_000)));
    assert_eq!(all(&mut s, at(102_000)), [Action::Fetch(BOB)]);
}

#[test]
fn a_device_that_keeps_others_waiting_is_passed_by() {
    let mut s = among(ALICE, &[BOB, CAROL]);
    s.heard(BOB, NEW, false, at(0));
    s.heard(CAROL, NEW, false, at(0));
    assert_eq!(work(&mut s, at(0)), [Action::Fetch(BOB)]);
    assert_eq!(s.poll_timeout(), Some(PATIENCE));
    assert_eq!(work(&mut s, PATIENCE), [Action::Fetch(CAROL)]);
    s.fetched(BOB, FAILED, at(30_000));
    s.fetched(CAROL, well(NEW, Relation::FastForward), at(30_000));
    assert_eq!(work(&mut s, at(30_000)), [Action::Merge(NEW)]);
    s.settled(NEW, Some(NEW), &|h| *h == NEW, at(30_000));
    // From now on nobody waits for it.
    s.heard(BOB, NEWER, false, at(40_000));
    s.heard(CAROL, NEWER, false, at(40_000));
    assert_eq!(work(&mut s, at(40_000)), [Action::Fetch(CAROL),]);
    s.fetched(CAROL, FAILED, at(40_100));
    assert_eq!(work(&mut s, at(40_100)), [Action::Fetch(BOB)]);
}

#[test]
fn a_fetch_that_gets_on_is_waited_for() {
    let mut s = among(ALICE, &[BOB, CAROL]);
    s.heard(BOB, NEW, false, at(0));
    s.heard(CAROL, NEW, false, at(0));
    assert_eq!(work(&mut s, at(0)), [Action::Fetch(BOB)]);
    // It shows its head, and begins after a while.
    s.gets_on(&BOB, 0, at(0));
    assert_eq!(s.poll_timeout(), Some(PATIENCE + PREPARES));
    let mut now = at(9_000);
    let mut bytes = 0;
    while now < at(60_000) {
        bytes += 40 << 10;
        s.gets_on(&BOB, bytes, now);
        assert_eq!(work(&mut s, now), []);
        now += at(1_000);
    }
    s.fetched(BOB, well(NEW, Relation::FastForward), now);
    assert_eq!(work(&mut s, now), [Action::Merge(NEW)]);
    s.settled(NEW, Some(NEW), &|h| *h == NEW, now);
    assert_eq!(work(&mut s, now), []);
    assert_eq!(s.poll_timeout(), None, "nothing is loaded twice");
}

#[test]
fn who_trickles_or_sends_without_end_is_waited_for_no_longer() {
    // Bytes a second, and when the others get their turn.
    let trickle = PATIENCE + PREPARES + at(1_000);
    for (rate, until) in [
        (0, PATIENCE + PREPARES),
        (4 << 10, trickle),
        (8 << 20, LONGEST_HOLD),
    ] {
        let mut s = among(ALICE, &[BOB, CAROL]);
        let begin = |s: &mut Spread, n: u8, now| {
            s.heard(BOB, ObjectId([n; 20]), false, now);
            s.heard(CAROL, ObjectId([n; 20]), false, now);
            assert_eq!(work(s, now), [Action::Fetch(BOB)]);
        };
        let wait = |s: &mut Spread, begun: Duration| {
            let mut now = begun;
            loop {
                let passed = (now - begun).as_secs();
                s.gets_on(&BOB, rate * passed, now);
                if let [Action::Fetch(CAROL)] = work(s, now)[..] {
                    return now - begun;
                }
                now += at(1_000);
                assert!(now - begun < at(600_000), "for ever");
            }
        };
        begin(&mut s, 60, at(0));
        assert_eq!(wait(&mut s, at(0)), until, "{rate}");
        s.fetched(CAROL, well(OLD, Relation::UpToDate), until);
        s.fetched(BOB, well(OLD, Relation::UpToDate), until);
        // Both said what was not so; that is over now.
        let mut now = until + at(5_000);
        for device in [CAROL, BOB] {
            s.heard(device, OLD, false, now);
            assert_eq!(work(&mut s, now), [Action::Fetch(device)]);
            s.fetched(device, well(OLD, Relation::UpToDate), now);
        }
        // Not again so soon, neither over a new link...
        s.unlinked(&BOB);
        s.linked(BOB, Standing::Member, now);
        begin(&mut s, 61, now);
        assert_eq!(wait(&mut s, now), PATIENCE, "{rate}");
        let later = now + until;
        for device in [CAROL, BOB] {
            s.fetched(device, FAILED, later);
        }
        // ... nor after it failed.
        now = later + HOLD_GAP;
        assert_eq!(work(&mut s, now).len(), 2);
    }
}

#[test]
fn a_bad_pack_is_the_fault_of_the_device_which_is_asked_ever_less_also_over_new_links() {
    let mut s = Spread::new(ALICE, None);
    s.linked(BOB, Standing::Member, at(0));
    let (mut now, mut asked) = (at(0), Vec::new());
    while now < at(3_600_000) {
        for action in all(&mut s, now) {
            if action == Action::Fetch(BOB) {
                asked.push(now);
                s.fetched(BOB, Ended::Bad, now);
            }
        }
        s.unlinked(&BOB);
        s.linked(BOB, Standing::Member, now);
        s.heard(BOB, NEW, false, now);
        now += at(500);
    }
    // 1 s, 2 s, 4 s, ... ten minutes.
    assert!((12..18).contains(&asked.len()), "{asked:?}");
    assert_eq!(asked[..3], [at(0), at(1_000), at(3_000)]);
    assert!(!s.is_refused(&NEW));
    // Who comes new is asked at once, and has it whole.
    s.linked(CAROL, Standing::Member, now);
    assert!(all(&mut s, now).contains(&Action::Fetch(CAROL)));
    s.fetched(CAROL, well(NEW, Relation::FastForward), now);
    assert_eq!(all(&mut s, now)[0], Action::Merge(NEW));
}

#[test]
fn a_bad_pack_is_made_good_by_a_good_one_and_not_by_our_own_head() {
    let mut s = among(ALICE, &[BOB]);
    let (mut now, mut asked) = (at(0), Vec::new());
    while now < at(600_000) {
        for action in all(&mut s, now) {
            if action == Action::Fetch(BOB) {
                asked.push(now);
                s.fetched(BOB, Ended::Bad, now);
                assert!(s.sent_bad(&BOB));
            }
        }
        s.unlinked(&BOB);
        s.linked(BOB, Standing::Member, now);
        s.heard(BOB, OLD, false, now);
        if work(&mut s, now) == [Action::Fetch(BOB)] {
            s.fetched(BOB, well(OLD, Relation::UpToDate), now);
        }
        s.heard(BOB, NEW, false, now);
        now += at(500);
    }
    assert!(asked.len() < 12, "{asked:?}");
    now += at(600_000);
    s.heard(BOB, NEW, false, now);
    assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
    s.fetched(BOB, well(NEW, Relation::FastForward), now);
    assert!(!s.sent_bad(&BOB));
}

#[test]
fn who_told_of_its_own_and_then_of_what_it_fetched_is_asked_for_its_own() {
    // As a daemon does, whose head then is a merge of the two.
    let theirs = ObjectId([60; 20]);
    for (then, known) in [(NEW, false), (OLD, true)] {
        let mut s = among(ALICE, &[BOB, CAROL]);
        s.heard(CAROL, NEW, false, at(1_000));
        assert_eq!(work(&mut s, at(1_000)), [Action::Fetch(CAROL)]);
        s.heard(BOB, theirs, false, at(1_010));
        s.heard(BOB, then, known, at(1_020));
        assert_eq!(work(&mut s, at(1_020)), []);
        s.fetched(CAROL, well(NEW, Relation::FastForward), at(1_100));
        let mut did = work(&mut s, at(1_100));
        s.settled(NEW, Some(NEW), &|id| *id == NEW, at(1_100));
        did.extend(work(&mut s, at(2_100)));
        did.retain(|a| matches!(a, Action::Fetch(_)));
        assert_eq!(did, [Action::Fetch(BOB)]);
        s.fetched(BOB, well(NEWER, Relation::Diverged), at(2_200));
        // Now all that it said is here.
        s.settled(NEWER, Some(NEWER), &|_| true, at(2_300));
        s.heard(BOB, NEW, true, at(2_400));
        assert_eq!(work(&mut s, at(60_000)), []);
    }
}

#[test]
fn who_says_it_has_what_it_has_not_is_asked_ever_less() {
    let mut s = among(ALICE, &[BOB]);
    let (mut now, mut asked) = (at(0), 0);
    while now < at(3_600_000) {
        let mut lie = [9; 20];
        lie[..8].copy_from_slice(&u64::try_from(now.as_millis()).unwrap().to_be_bytes());
        s.heard(BOB, ObjectId(lie), false, now);
        for action in all(&mut s, now) {
            if action == Action::Fetch(BOB) {
                asked += 1;
                s.fetched(BOB, well(OLD, Relation::UpToDate), now);
            }
        }
        now += at(100);
    }
    assert!((5..30).contains(&asked), "{asked}");
    assert!(s.remembered() < 5);
}

#[test]
fn connecting_again_and_again_does_not_make_us_ask_more() {
    let mut s = among(ALICE, &[BOB]);
    let (mut now, mut asked) = (at(0), 0);
    while now < at(3_600_000) {
        s.unlinked(&BOB);
        s.linked(BOB, Standing::Member, now);
        s.heard(BOB, NEW, false, now);
        for action in all(&mut s, now) {
            if action == Action::Fetch(BOB) {
                asked += 1;
                s.fetched(BOB, FAILED, now);
            }
        }
        now += at(500);
    }
    assert!((50..200).contains(&asked), "{asked}");
}

#[test]
fn after_a_break_the_pause_is_short() {
    let mut s = among(ALICE, &[BOB]);
    let mut now = at(0);
    s.heard(BOB, NEW, false, now);
    for _ in 0..12 {
        assert_eq!(work(&mut s, now), [Action::Fetch(BOB)]);
        s.fetched(BOB, FAILED, now);
        assert_eq!(work(&mut s, now), []);
        now = s.poll_timeout().unwrap();
    }
    now -= at(500_000);
    s.unlinked(&BOB);
    s.linked(BOB, Standing::Member, now);
    s.heard(BOB, NEW, false, now);
    assert!(work(&mut s, now).contains(&Action::Fetch(BOB)));
}

#[test]
fn one_of_those_who_meet_merges() {
    let diverged = |s: &mut Spread, from| {
        s.heard(from, NEW, false, at(0));
        assert_eq!(all(s, at(0)), [Action::Fetch(from)]);
        s.fetched(from, well(NEW, Relation::Diverged), at(0));
    };
    let mut a = among(ALICE, &[BOB, CAROL]);
    diverged(&mut a, BOB);
    assert_eq!(work(&mut a, at(0)), [Action::Merge(NEW)]);
    a.settled(NEW, Some(NEWER), &|h| *h != OLD, at(0));
    // After a merge of its own, it waits too.
    let third = ObjectId([30; 20]);
    assert!(all(&mut a, at(0)).contains(&Action::Tell(CAROL, NEWER)));
    a.heard(CAROL, third, false, at(0));
    assert_eq!(all(&mut a, at(0)), [Action::Fetch(CAROL)]);
    a.fetched(CAROL, well(third, Relation::Diverged), at(0));
    assert_eq!(work(&mut a, MERGE_SOON - at(1)), []);
    assert_eq!(a.poll_timeout(), Some(MERGE_SOON));
    assert_eq!(all(&mut a, MERGE_SOON), [Action::Merge(third)]);

    let mut b = among(BOB, &[ALICE, CAROL]);
    diverged(&mut b, ALICE);
    assert_eq!(all(&mut b, at(0)), [Action::Tell(ALICE, OLD)]);
    assert_eq!(b.poll_timeout(), Some(MERGE_LATE));
    let mut c = among(CAROL, &[ALICE, BOB]);
    diverged(&mut c, BOB);
    assert_eq!(all(&mut c, at(0)), [Action::Tell(BOB, OLD)]);
    assert_eq!(c.poll_timeout(), Some(MERGE_LATE + MERGE_STEP));
    // Alice's merge comes first.
    c.heard(ALICE, NEWER, false, at(1_000));
    assert_eq!(all(&mut c, at(1_000)), [Action::Fetch(ALICE)]);
    c.fetched(ALICE, well(NEWER, Relation::FastForward), at(1_100));
    assert_eq!(all(&mut c, at(1_100)), [Action::Merge(NEWER)]);
    c.settled(NEWER, Some(NEWER), &|_| true, at(1_100));
    assert_eq!(all(&mut c, at(1_100)), [Action::Tell(BOB, NEWER)]);
    assert_eq!(c.poll_timeout(), None);
}

#[test]
fn a_merge_left_aside_is_answered_with_ours_once_and_looked_at_again_when_ours_changed() {
    let mut s = among(ALICE, &[BOB]);
    s.wrote(NEWER, at(0));
    assert_eq!(all(&mut s, at(0)), [Action::Tell(BOB, NEWER)]);
    let aside = |s: &mut Spread, now| {
        s.heard(BOB, NEW, false, now);
        assert_eq!(all(s, now), [Action::Fetch(BOB)]);
        s.fetched(BOB, well(NEW, Relation::Diverged), now);
        assert_eq!(work(s, now), [Action::Merge(NEW)]);
    };
    aside(&mut s, at(1_000));
    s.settled(NEW, Some(NEWER), &|_| true, at(1_000));
    // Bob was told when he had something else: now it is for him to take ours.
    assert_eq!(all(&mut s, at(1_000)), [Action::Tell(BOB, NEWER)]);
    s.heard(BOB, NEW, false, at(2_000));
    assert_eq!(all(&mut s, at(2_000)), []);
    // Whatever he says meanwhile, it is nothing new.
    s.heard(BOB, ObjectId([40; 20]), false, at(3_000));
    assert_eq!(all(&mut s, at(3_000)), [Action::Fetch(BOB)]);
    s.fetched(BOB, well(NEW, Relation::Diverged), at(3_000));
    s.heard(BOB, ObjectId([41; 20]), false, at(3_000));
    assert_eq!(all(&mut s, at(3_000)), []);
    s.wrote(ObjectId([50; 20]), at(9_000));
    assert_eq!(work(&mut s, at(9_000)), [Action::Fetch(BOB)]);
    s.fetched(BOB, well(NEW, Relation::Diverged), at(9_000));
    assert_eq!(work(&mut s, at(9_000)), [Action::Merge(NEW)]);
}

#[test]
fn who_left_only_tells() {
    let mut s = among(ALICE, &[BOB]);
    s.wrote(NEW, at(0));
    s.only_tell();
    assert_eq!(all(&mut s, at(0)), [Action::Tell(BOB, NEW)]);
    // It does not know yet, and was told: who left too would answer an answer for ever.
    s.heard(BOB, NEWER, false, at(1_000));
    assert_eq!(all(&mut s, at(1_000)), []);
    // Over a new link, again.
    s.unlinked(&BOB);
    s.linked(BOB, Standing::Member, at(2_000));
    s.heard(BOB, NEWER, false, at(2_001));
    assert_eq!(all(&mut s, at(2_001)), [Action::Tell(BOB, NEW)]);
    assert_eq!(s.poll_timeout(), None);
    s.heard(BOB, NEW, true, at(9_000));
    assert_eq!(all(&mut s, at(9_000)), []);
}

#[test]
fn a_conversation_that_is_not_here_is_copied_from_the_first_who_can() {
    let mut s = Spread::new(ALICE, None);
    s.linked(BOB, Standing::Member, at(0));
    s.linked(CAROL, Standing::Member, at(0));
    assert_eq!(all(&mut s, at(0)), [Action::Fetch(BOB)]);
    s.fetched(BOB, FAILED, at(100));
    assert_eq!(all(&mut s, at(100)), [Action::Fetch(CAROL)]);
    s.fetched(CAROL, well(NEW, Relation::FastForward), at(200));
    assert_eq!(all(&mut s, at(200)), [Action::Merge(NEW)]);
    s.settled(NEW, Some(NEW), &|h| *h == NEW, at(200));
    assert_eq!(all(&mut s, at(200)), [Action::Tell(BOB, NEW)]);
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut s = Spread::new(ALICE, Some(OLD));
    let mut now = at(0);
    for n in 0..3_000u32 {
        let mut id = [9; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let device = DeviceId(id);
        s.linked(device, Standing::Member, now);
        for k in 0..100u8 {
            let mut head = [k; 20];
            head[..4].copy_from_slice(&n.to_be_bytes());
            s.heard(device, ObjectId(head), false, now);
        }
        for action in all(&mut s, now) {
            if let Action::Fetch(d) = action {
                let how = match n % 3 {
                    0 => FAILED,
                    1 => Ended::Refused(ObjectId([u8::try_from(n % 251).unwrap(); 20])),
                    _ => well(
                        ObjectId([u8::try_from(n % 250).unwrap(); 20]),
                        Relation::Diverged,
                    ),
                };
                s.fetched(d, how, now);
            }
        }
        s.unlinked(&device);
        now += at(3_000);
    }
    assert!(
        s.remembered() <= MAX_REMEMBERED * 2 + MAX_ARRIVED * 2,
        "{}",
        s.remembered()
    );
}

#[test]
fn of_what_one_device_had_only_the_newest_is_merged_and_what_waited_in_one_go() {
    let mut s = among(ALICE, &[BOB, CAROL]);
    let bring = |s: &mut Spread, from, n, now| {
        s.heard(from, ObjectId([n; 20]), false, now);
        assert_eq!(work(s, now), [Action::Fetch(from)]);
        s.fetched(from, well(ObjectId([n; 20]), Relation::Diverged), now);
    };
    bring(&mut s, BOB, 60, at(0));
    assert_eq!(work(&mut s, at(0)), [Action::Merge(ObjectId([60; 20]))]);
    s.settled(ObjectId([60; 20]), Some(NEW), &|_| false, at(0));
    bring(&mut s, BOB, 61, at(10));
    bring(&mut s, BOB, 62, at(20));
    bring(&mut s, CAROL, 63, at(30));
    assert_eq!(work(&mut s, at(600)), [Action::Merge(ObjectId([62; 20]))]);
    s.settled(ObjectId([62; 20]), Some(NEWER), &|_| false, at(600));
    assert_eq!(work(&mut s, at(600)), [Action::Merge(ObjectId([63; 20]))]);
    s.settled(ObjectId([63; 20]), Some(OLD), &|_| false, at(600));
    // What comes after it waits again.
    bring(&mut s, CAROL, 64, at(610));
    assert_eq!(work(&mut s, at(609) + MERGE_SOON), []);
    let merge = [Action::Merge(ObjectId([64; 20]))];
    assert_eq!(work(&mut s, at(610) + MERGE_SOON), merge);
}

/// A head that neither contains ours nor is contained in it.
fn bring(s: &mut Spread, from: DeviceId, n: u8, now: Duration) {
    s.heard(from, ObjectId([n; 20]), false, now);
    assert_eq!(work(s, now), [Action::Fetch(from)]);
    s.fetched(from, well(ObjectId([n; 20]), Relation::Diverged), now);
    assert_eq!(work(s, now), []);
}

/// A merge of somebody else that follows ours, and these are part of it.
fn follow(s: &mut Spread, from: DeviceId, merge: u8, parts: &[u8], now: Duration) {
    let head = ObjectId([merge; 20]);
    s.heard(from, head, false, now);
    assert_eq!(work(s, now), [Action::Fetch(from)]);
    s.fetched(from, well(head, Relation::FastForward), now);
    assert_eq!(work(s, now), [Action::Merge(head)]);
    let known = |id: &ObjectId| *id == head || parts.iter().any(|n| *id == ObjectId([*n; 20]));
    s.settled(head, Some(head), &known, now);
    assert_eq!(work(s, now), []);
}

#[test]
fn who_is_not_first_waits_anew_when_others_merge_but_not_for_ever() {
    let mut s = among(BOB, &[ALICE, CAROL, DAVE]);
    bring(&mut s, CAROL, 60, at(0));
    bring(&mut s, DAVE, 61, at(10));
    assert_eq!(s.poll_timeout(), Some(MERGE_LATE));
    follow(&mut s, ALICE, 62, &[60], at(900));
    assert_eq!(s.poll_timeout(), Some(at(900) + MERGE_LATE));
    assert_eq!(
        work(&mut s, at(900) + MERGE_LATE),
        [Action::Merge(ObjectId([61; 20]))]
    );

    // Alice merges on and on, and never what Dave has.
    let mut s = among(BOB, &[ALICE, CAROL, DAVE]);
    bring(&mut s, DAVE, 61, at(0));
    let (mut now, mut n) = (at(500), 80);
    while work(&mut s, now).is_empty() {
        bring(&mut s, CAROL, n, now);
        follow(&mut s, ALICE, n + 1, &[n], now);
        (now, n) = (now + at(900), n + 2);
    }
    assert!(
        now >= MERGE_PATIENCE && now <= MERGE_PATIENCE + at(3_000),
        "{now:?}"
    );
    // Texts that follow are no merges: who waits for somebody who is gone does not wait longer.
    let mut s = among(BOB, &[ALICE, CAROL, DAVE]);
    bring(&mut s, DAVE, 61, at(0));
    follow(&mut s, CAROL, 70, &[], at(800));
    assert_eq!(s.poll_timeout(), Some(MERGE_LATE));
}

#[test]
fn what_can_be_fetched_is_fetched_before_a_merge_and_not_waited_for_too_long() {
    for ends in [true, false] {
        let mut s = among(BOB, &[ALICE, CAROL, DAVE]);
        bring(&mut s, CAROL, 60, at(0));
        s.heard(ALICE, NEWER, false, MERGE_LATE);
        assert_eq!(work(&mut s, MERGE_LATE), [Action::Fetch(ALICE)]);
        let until = MERGE_LATE + PATIENCE;
        assert_eq!(s.poll_timeout(), Some(until));
        if ends {
            s.fetched(ALICE, well(NEWER, Relation::FastForward), at(2_000));
            assert_eq!(work(&mut s, at(2_000)), [Action::Merge(NEWER)]);
            s.settled(NEWER, Some(NEWER), &|_| true, at(2_000));
            assert_eq!((work(&mut s, until), s.poll_timeout()), (vec![], None));
        } else {
            assert_eq!(work(&mut s, until - at(1)), []);
            assert_eq!(work(&mut s, until), [Action::Merge(ObjectId([60; 20]))]);
        }
    }
    // Somebody has something new all the time.
    let mut s = among(BOB, &[ALICE, CAROL]);
    bring(&mut s, CAROL, 60, at(0));
    let mut now = MERGE_LATE;
    let merged = loop {
        s.heard(ALICE, ObjectId([100; 20]), false, now);
        match work(&mut s, now).as_slice() {
            [Action::Fetch(_)] => now += at(100),
            merged => break merged.to_vec(),
        }
        s.fetched(ALICE, well(OLD, Relation::UpToDate), now);
        s.heard(ALICE, OLD, true, now);
        now = s.poll_timeout().unwrap().max(now);
    };
    assert_eq!(merged, [Action::Merge(ObjectId([60; 20]))]);
    assert!(now <= MERGE_PATIENCE + PATIENCE, "{now:?}");
}

#[test]
fn of_a_thousand_who_wait_few_are_the_first() {
    let mut waits = Vec::new();
    for n in 0..1_000u32 {
        let mut own = [0xf0; 32];
        own[28..].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
        let others: Vec<DeviceId> = (1..=30).map(|k| DeviceId([k; 32])).collect();
        let mut s = among(DeviceId(own), &others);
        bring(&mut s, DeviceId([30; 32]), 200, at(0));
        waits.push(s.poll_timeout().unwrap());
    }
    waits.sort();
    let within = |time| waits.iter().filter(|w| **w < time).count();
    assert!(
        within(MERGE_LAST + MERGE_RANK) <= 4,
        "{}",
        within(MERGE_LAST + MERGE_RANK)
    );
    let soon = MERGE_LAST + MERGE_RANK * 4;
    assert!((1..=20).contains(&within(soon)), "{}", within(soon));
    assert!(waits.last() <= Some(&(MERGE_LAST + MERGE_RANK * 10)));
}

#[test]
fn what_makes_no_commit_waits_for_nobody() {
    for (relation, at_once) in [(Relation::Alike, true), (Relation::Diverged, false)] {
        let mut s = Spread::new(DAVE, Some(OLD));
        for device in [ALICE, BOB, CAROL] {
            s.linked(device, Standing::Member, at(0));
        }
        all(&mut s, at(0));
        s.heard(CAROL, NEW, false, at(10));
        assert!(all(&mut s, at(10)).contains(&Action::Fetch(CAROL)));
        let head = NEW;
        s.fetched(CAROL, Ended::Well { head, relation }, at(20));
        let merges = all(&mut s, at(20)).contains(&Action::Merge(NEW));
        assert_eq!(merges, at_once, "{relation:?}");
    }
}

mod again;
mod looks;
