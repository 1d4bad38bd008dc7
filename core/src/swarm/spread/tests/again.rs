//! Telling once more after a link came up.

use super::*;

/// When Bob is told of our head, and of nothing else, until nothing is left to be told.
fn times(s: &mut Spread, from: Duration) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut now = from;
    loop {
        for action in all(s, now) {
            match action {
                Action::Tell(BOB, OLD) => times.push(now - from),
                // What he has is nothing new.
                Action::Fetch(BOB) => s.fetched(BOB, FAILED, now),
                other => panic!("{other:?}"),
            }
        }
        match s.poll_timeout().filter(|next| *next < from + at(120_000)) {
            Some(next) => now = next,
            None => return times,
        }
    }
}

/// Bob comes.
fn link(s: &mut Spread, standing: Standing, now: Duration) {
    s.linked(BOB, standing, now);
    s.anew(&BOB, now);
}

fn linked() -> Spread {
    let mut s = Spread::new(ALICE, Some(OLD));
    link(&mut s, Standing::Member, at(0));
    s
}

#[test]
fn who_does_nothing_about_what_it_was_told_first_is_told_again_three_times() {
    let all = [0, 1_000, 5_000, 20_000].map(at);
    let mut s = linked();
    assert_eq!(times(&mut s, at(0)), all);
    // Over the next link anew.
    s.unlinked(&BOB);
    link(&mut s, Standing::Member, at(500_000));
    assert_eq!(times(&mut s, at(500_000)), all);
}

#[test]
fn who_has_taken_it_or_says_that_it_has_it_is_not_told_again() {
    for says in [false, true] {
        let mut s = linked();
        assert_eq!(all(&mut s, at(0)), [Action::Tell(BOB, OLD)]);
        match says {
            true => s.heard(BOB, OLD, true, at(100)),
            false => s.took(&BOB, OLD, at(100)),
        }
        assert_eq!(times(&mut s, at(100)), []);
        // What it took over the last link says nothing of this one.
        s.unlinked(&BOB);
        link(&mut s, Standing::Member, at(500_000));
        assert_eq!(times(&mut s, at(500_000)).len(), 4, "{says}");
    }
}

#[test]
fn who_took_what_was_before_is_told_again_of_what_is_new() {
    let mut s = linked();
    assert_eq!(all(&mut s, at(0)), [Action::Tell(BOB, OLD)]);
    s.took(&BOB, OLD, at(0));
    s.heard(BOB, OLD, true, at(100));
    s.wrote(NEW, at(200));
    assert_eq!(all(&mut s, at(200)), [Action::Tell(BOB, NEW)]);
    assert_eq!(all(&mut s, at(400)), [Action::Fetch(BOB)]);
    s.fetched(BOB, well(OLD, Relation::UpToDate), at(400));
    assert_eq!(all(&mut s, at(1_200)), [Action::Tell(BOB, NEW)]);
    s.took(&BOB, NEW, at(3_100));
    assert_eq!(s.poll_timeout(), None);
}

#[test]
fn what_is_written_long_after_the_link_came_up_is_told_once() {
    let mut s = linked();
    s.heard(BOB, OLD, true, at(0));
    assert_eq!(all(&mut s, at(0)), []);
    let later = FRESH + at(1);
    s.wrote(NEW, later);
    assert_eq!(all(&mut s, later), [Action::Tell(BOB, NEW)]);
    assert_eq!(s.poll_timeout(), None);
}

#[test]
fn only_members_are_told_again() {
    let mut s = Spread::new(ALICE, Some(OLD));
    link(&mut s, Standing::Invited, at(0));
    assert_eq!(all(&mut s, at(0)), [Action::Tell(BOB, OLD)]);
    assert_eq!(s.poll_timeout(), None);
}
