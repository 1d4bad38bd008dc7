//! Every rule refuses what it is there to refuse, by its name.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod swarm;
#[macro_use]
#[path = "swarm/faults.rs"]
mod faults;

use faults::{Cast, LOW, RULES, break_fully, breaks};
use starling_core::swarm::message::Message;
use starling_core::swarm::path::TreePath;
use starling_core::swarm::validate::validate;
use swarm::{AwsLc, DAY};

const TEXT: &str = r#"{"body":"hi","type":"text/plain"}"#;

fn cast() -> Cast {
    Cast::new(&[], DAY)
}

macro_rules! tests {
    ($($name:ident)*) => {
        #[allow(non_snake_case)]
        mod refuses {
            $(#[test]
            fn $name() {
                let mut c = super::cast();
                assert!(c.room.valid().is_ok());
                super::break_fully(stringify!($name), super::breaks::$name, &mut c);
            })*
        }
    };
}

for_each_rule!();

#[test]
fn no_rule_is_named_twice() {
    let names: std::collections::BTreeSet<_> = RULES.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), RULES.len());
}

#[test]
fn what_is_too_much_is_much_more_than_people_write() {
    use starling_core::swarm::validate::Limits;
    let mut c = cast();
    let mut same = c.room.clone();
    c.room.tangle(&c.mallory, 30, 20, true);
    let found = c.room.valid_within(LOW).unwrap_err();
    assert_eq!(found.misbehaviour.name(), "TooTangled");
    c.room.valid().unwrap();
    // What changes nothing is not searched for.
    same.tangle(&c.mallory, 30, 20, false);
    same.valid_within(LOW).unwrap();
    // Far merges are searched for together: for each by itself it took 130 times 1,100 steps.
    let mut far = same;
    far.tangle(&c.mallory, 550, 130, true);
    let few = Limits {
        steps: 10_000,
        steps_per_commit: 0,
        ..Limits::default()
    };
    far.valid_within(few).unwrap();
    let usual = Limits::default();
    assert!(usual.commits >= 1_000_000 && usual.steps >= 1_000_000);
    // As many commits as may be, and one more.
    let all = c.room.valid().unwrap().commits.len();
    let most = |commits| c.room.valid_within(Limits { commits, ..usual });
    assert!(most(all).is_ok());
    let found = most(all - 1).unwrap_err();
    assert_eq!(found.misbehaviour.name(), "TooManyCommits");
}

#[test]
fn a_fault_deep_in_a_side_branch_with_an_old_time_is_found() {
    // The daemon cuts the linear order at the stop commit and does not look at what sorts after it.
    let mut c = cast();
    let base = c.room.clone();
    let have = c.room.say(&c.ann, "newest");
    let mut branch = base.clone();
    branch.now = 1_600_000_000;
    branch.forge(
        &c.mallory,
        TEXT,
        &[(TreePath::Profile, Some(b"old and bad"))],
    );
    let bad = branch.head;
    for (_, kind, data) in branch.objects.iter() {
        c.room.objects.insert(kind, data);
    }
    let tree = c.room.changed(&[(TreePath::Profile, Some(b"old and bad"))]);
    c.room.forge_tree(
        &c.ann,
        &Message::merge(bad).to_text(),
        tree,
        vec![have, bad],
    );
    let fault = validate(
        &AwsLc,
        &c.room.objects,
        c.room.conversation,
        Some(have),
        c.room.head,
    )
    .unwrap_err();
    assert_eq!(
        (fault.commit, fault.misbehaviour.name()),
        (bad, "UnexpectedFile".to_owned())
    );
    assert_eq!(fault.account, Some(c.mallory.account()));
    assert_eq!(fault.device, Some(c.mallory.id()));
}

#[test]
fn certificates_may_be_renewed_in_place() {
    // The same keys in another text: what a renewal looks like to the rules.
    let mut c = cast();
    let (device, account) = (c.mallory.chain.device.pem(), c.mallory.chain.account.pem());
    let device = format!("renewed\n{device}");
    c.room.forge(
        &c.mallory,
        TEXT,
        &[
            (TreePath::device(c.mallory.id()), Some(device.as_bytes())),
            (
                TreePath::member(c.mallory.account()),
                Some(account.as_bytes()),
            ),
        ],
    );
    c.room.valid().unwrap();
    // A vote that was cast already changes nothing and is let pass.
    c.room.forge(
        &c.ann,
        &Message::Vote {
            uri: c.ben.account().to_hex(),
        }
        .to_text(),
        &[],
    );
    c.room.valid().unwrap();
}
