//! What must hold when a story is over, everything is whole again and time has passed.

use super::config::Links;
use super::world::{Life, World};
use crate::id::ObjectId;
use crate::swarm::ballot::Subject;
use crate::swarm::message::{Action, Message};
use crate::swarm::order::linear;
use crate::swarm::spread::{LOOKS, MAX_REMEMBERED};
use std::collections::{BTreeMap, BTreeSet};

/// Notices a commit may cost, a member and link it has: each link carries a head once in each
/// direction at most, and merges are heads too. And a device and binary digit of the group: so links grow.
pub(crate) const NOTICES: usize = 3;

/// Merges of Starlings that a commit may cost which somebody wrote while lacking one that was there: by
/// several at once, or in parted networks. Merges by daemons are no such commits: Starlings follow them.
pub(crate) const MERGES: usize = 3;

/// Merges of each daemon that something written may cost: a daemon makes them in any case, and Starlings must
/// not have it make more and more.
pub(crate) const DAEMON_MERGES: usize = 4;

/// Fetches in a row that bring nothing: until the pauses have grown to their limit, and some that
/// came second because somebody else was faster.
pub(crate) const ATTEMPTS: usize = 24;

/// Looks in a row that bring nothing, at a device that does not show our newest head: until the pauses have grown to
/// their limit.
pub(crate) const IN_VAIN: usize = LOOKS as usize + 11;

/// Objects of a commit, at most: itself, its trees and files.
pub(crate) const OBJECTS: usize = 8;

/// Objects that may be left of the last fetch that broke, while somebody else brought the same.
pub(crate) const PART: usize = 64;

/// Devices that a routing table may know, in any state: 16 in each part of the ids that are neither connected nor
/// being connected to, the own one and one for each binary digit of the group, or for each of the four in which hostile
/// members name devices that do not exist; and its neighbours, which exist.
fn routes(devices: usize) -> usize {
    let parts = (devices.ilog2() as usize).max(4) + 1;
    16 * parts + devices.min(256)
}

/// A check that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    /// Something that must never happen happened on the way.
    Wrong,
    /// Honest members do not end with the same history in the same order.
    SameHistory,
    /// Nor with the same roles.
    SameRoles,
    /// The order kept while it grew is not that of the whole.
    Order,
    /// The history that all agree on breaks a rule.
    Valid,
    /// Something an honest member committed is not there.
    Lost,
    /// Something is there twice.
    Doubled,
    /// Something a banned one wrote after the ban is there.
    Banned,
    /// Something stands on a ban in the history that agrees on it, and is by who was banned.
    AfterBan,
    /// More notices than needed.
    Notices,
    /// More merges than needed.
    Merges,
    /// A device was asked again and again in vain.
    Attempts,
    /// Something grew without limit.
    Memory,
}

/// What is wrong in the end; nothing: all is well.
pub(crate) fn check(world: &World) -> Vec<(Check, String)> {
    let mut faults: Vec<(Check, String)> = world
        .wrong
        .iter()
        .take(3)
        .map(|text| (Check::Wrong, text.clone()))
        .collect();
    let mut fault = |check, text: String| faults.push((check, text));
    // The one that made the group stays to the end: what it holds is what is compared with.
    let first = &world.devs[0].replica;
    let name = |n: usize| world.name(n);
    let members: Vec<usize> = (0..world.devs.len())
        .filter(|n| {
            let dev = &world.devs[*n];
            dev.honest() && first.admits(dev.replica.device)
        })
        .filter(|n| matches!(world.devs[*n].life, Life::In | Life::Invited))
        .collect();
    // Whoever has a Starling needs nobody to write once more.
    for text in world.night.iter().take(3) {
        fault(Check::SameHistory, text.clone());
    }
    for n in &members {
        let replica = &world.devs[*n].replica;
        if replica.order.order() != first.order.order() {
            fault(
                Check::SameHistory,
                format!(
                    "{} has {} commits up to {:?}, {} has {} up to {:?}",
                    name(*n),
                    replica.order.len(),
                    replica.head,
                    name(0),
                    first.order.len(),
                    first.head
                ),
            );
        } else if replica.roles != first.roles || replica.banned != first.banned {
            fault(Check::SameRoles, format!("{} and {}", name(*n), name(0)));
        }
        let mut whole = replica
            .head
            .map_or(Vec::new(), |h| linear(h, &replica.known));
        whole.reverse();
        if whole != replica.order.order() {
            fault(Check::Order, name(*n).to_owned());
        }
    }
    if let Err(why) = first.verify(&world.pool) {
        fault(Check::Valid, why.to_string());
    }

    // Lost and doubled.
    let exits = exits(world);
    let there: BTreeSet<ObjectId> = first.order.order().iter().copied().collect();
    let mut texts: BTreeMap<String, usize> = BTreeMap::new();
    for id in first.order.order() {
        if let Some(body) = world.body(0, id) {
            *texts.entry(body).or_default() += 1;
        }
    }
    for entry in &world.ledger {
        if !there.contains(&entry.commit) && !excused(world, &exits, &there, entry.commit) {
            fault(
                Check::Lost,
                format!("{} of {}: {:?}", entry.commit, name(entry.dev), entry.body),
            );
        }
        if let Some(body) = &entry.body
            && texts.get(body).is_some_and(|n| *n > 1)
        {
            fault(Check::Doubled, body.clone());
        }
    }
    for (by, commit) in &world.late {
        // Who was let in again may bring what they wrote meanwhile.
        if !first.is_banned(world.devs[*by].replica.device) {
            continue;
        }
        let mut members = members.iter();
        if let Some(n) = members.find(|n| world.devs[**n].replica.known.contains_key(commit)) {
            fault(Check::Banned, format!("{commit} is with {}", name(*n)));
        }
    }

    for (commit, ban) in after_bans(world) {
        fault(Check::AfterBan, format!("{commit} stands on {ban}"));
    }

    // Effort. Nobody has more links than a routing table makes, or a small group has members.
    let counts = &world.counts;
    let devices = world.devs.len();
    let each = (6 * devices.ilog2() as usize + 10).min(devices);
    let links = world.most_links().min(devices * each);
    let commits = world.ledger.len() + world.hostile_commits + counts.daemons_merged + 1;
    let of_devices = NOTICES * commits * devices * (devices.ilog2() as usize).max(2);
    let allowed = (NOTICES * commits * links / 2).min(of_devices) + 2 * counts.connected;
    if counts.notices > allowed {
        fault(
            Check::Notices,
            format!(
                "{} for {commits} commits on {devices} devices",
                counts.notices
            ),
        );
    }
    // Who has nobody before them in line merges at once: with links of routing tables one device of all, with others one
    // of each neighbourhood. And where those who are first are hostile the next ones merge, all at the same time.
    let first = match world.config.links {
        Links::Random(each) => devices / (each + 1),
        Links::Mesh | Links::Drt => world.config.hostile / 10,
    };
    let allowed = (MERGES + first) * counts.at_once;
    if counts.merges > allowed {
        let at_once = counts.at_once;
        let text = format!("{} for {at_once} commits at once", counts.merges);
        fault(Check::Merges, text);
    }
    if counts.daemons_merged > world.merges_of_daemons() {
        let text = format!("{} by daemons for {commits} commits", counts.daemons_merged);
        fault(Check::Merges, text);
    }
    let hours = usize::try_from(world.now.as_secs() / 600).unwrap_or(usize::MAX);
    for ((by, of), (_, most)) in &counts.in_vain {
        let pair = (*by.min(of), *by.max(of));
        let connects = counts.connects.get(&pair).copied().unwrap_or(0);
        // Who lies and tells the truth by turns has a clean sheet with each thing that was written and is true.
        let truths = world.ledger.len();
        if *most > ATTEMPTS + hours + 2 * connects + truths {
            fault(
                Check::Attempts,
                format!(
                    "{} asked {} {most} times, connected {connects} times",
                    name(*by),
                    name(*of)
                ),
            );
        }
    }
    // Where there are daemons it is looked, too, whether somebody has merged in silence.
    for ((by, of), (_, most)) in &counts.looked {
        if *most > IN_VAIN + hours {
            let (by, of) = (name(*by), name(*of));
            let text = format!("{by} looked {most} times in a row at {of}");
            fault(Check::Attempts, text);
        }
    }
    if counts.remembered > 4 * devices + MAX_REMEMBERED {
        fault(
            Check::Memory,
            format!("{} entries in an engine", counts.remembered),
        );
    }
    if counts.known > routes(devices) {
        fault(
            Check::Memory,
            format!("{} devices in a routing table", counts.known),
        );
    }
    // In the end all is whole: what is kept of fetches that broke is of histories that nobody has whole.
    let allowed = OBJECTS * world.hostile_commits + PART;
    for n in &members {
        let staged = world.devs[*n].staged.len();
        if staged > allowed {
            let text = format!("{} keeps {staged} objects of broken fetches", name(*n));
            fault(Check::Memory, text);
        }
    }
    faults
}

/// The commits by which an account or a device was banned or left, in the history of the first.
fn exits(world: &World) -> BTreeMap<Subject, Vec<ObjectId>> {
    let first = &world.devs[0].replica;
    let mut out: BTreeMap<Subject, Vec<ObjectId>> = BTreeMap::new();
    for id in first.order.order() {
        let commit = first.commit(&world.pool, id);
        if let Ok(Message::Member {
            action: Action::Ban | Action::Remove,
            uri,
        }) = Message::parse(&commit.message)
        {
            let device = uri.parse().map(Subject::Device);
            let account = || uri.parse().map(Subject::Account);
            if let Ok(subject) = device.or_else(|_| account()) {
                out.entry(subject).or_default().push(*id);
            }
        }
    }
    out
}

/// Commits in the history of the first by accounts and devices that were banned in it, which have
/// the ban below them and not its end: with the ban.
fn after_bans(world: &World) -> Vec<(ObjectId, ObjectId)> {
    let first = &world.devs[0].replica;
    let order = first.order.order();
    let above = |of: ObjectId| -> BTreeSet<ObjectId> {
        let mut out = BTreeSet::from([of]);
        for id in order {
            let parents = first.known.get(id).map(|n| &n.parents);
            if parents.is_some_and(|p| p.iter().any(|p| out.contains(p))) {
                out.insert(*id);
            }
        }
        out.remove(&of);
        out
    };
    let said = |id: &ObjectId| Message::parse(&first.commit(&world.pool, id).message);
    let of = |id: &ObjectId, wanted: Action| match said(id) {
        Ok(Message::Member { action, uri }) if action == wanted => Some(uri),
        _ => None,
    };
    let mut out = Vec::new();
    for ban in order {
        let Some(uri) = of(ban, Action::Ban) else {
            continue;
        };
        let is_banned = |id: &ObjectId| {
            let device = first.commit(&world.pool, id).device;
            let dev = world.devs.iter().find(|d| d.replica.device.id == device);
            uri.parse() == Ok(device) || dev.is_some_and(|d| uri.parse() == Ok(d.id()))
        };
        let after = above(*ban);
        let ends = after
            .iter()
            .filter(|id| of(id, Action::Unban).as_ref() == Some(&uri));
        let back: BTreeSet<ObjectId> = ends.flat_map(|end| above(*end)).collect();
        let wrong = after.difference(&back).filter(|id| is_banned(id));
        out.extend(wrong.map(|id| (*id, *ban)));
    }
    out
}

/// Whether one gets from a commit to another one by these parents.
fn reaches(parents: impl Fn(&ObjectId) -> Vec<ObjectId>, from: ObjectId, to: ObjectId) -> bool {
    let mut seen = BTreeSet::new();
    let mut todo = vec![from];
    while let Some(id) = todo.pop() {
        if id == to {
            return true;
        }
        if seen.insert(id) {
            todo.extend(parents(&id));
        }
    }
    false
}

/// A commit need not be there if its account was banned or left at the same time: when the one was
/// written, the other was no part of what its writer knew, either way. Nor if it was built on such
/// a commit: nobody may take the one without the other.
fn excused(
    world: &World,
    exits: &BTreeMap<Subject, Vec<ObjectId>>,
    there: &BTreeSet<ObjectId>,
    commit: ObjectId,
) -> bool {
    // Its writer may know it no more: who was let in again follows the others, and has no other history after a crash.
    let first = &world.devs[0].replica;
    let written = |id: &ObjectId| world.pool.commit(id).map_or(Vec::new(), |c| c.parents);
    let known = |id: &ObjectId| {
        first
            .known
            .get(id)
            .map_or(Vec::new(), |n| n.parents.clone())
    };
    let mut seen = BTreeSet::new();
    let mut todo = vec![commit];
    while let Some(id) = todo.pop() {
        if there.contains(&id) || !seen.insert(id) {
            continue;
        }
        let Some(commit) = world.pool.commit(&id) else {
            continue;
        };
        todo.extend(commit.parents);
        let device = commit.device;
        let author = world.devs.iter().find(|d| d.replica.device.id == device);
        let own = [device.into()]
            .into_iter()
            .chain(author.map(|d| d.id().into()));
        if own
            .filter_map(|subject: Subject| exits.get(&subject))
            .flatten()
            .any(|exit| !reaches(written, id, *exit) && !reaches(known, *exit, id))
        {
            return true;
        }
    }
    false
}
