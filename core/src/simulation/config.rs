//! What a run is made of.

use super::hostile::Hostile;
use super::rng::Rng;
use crate::swarm::message::ConversationMode;
use crate::swarm::spread::Mutation;
use core::time::Duration;

/// A rule of the simulator's own glue that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Broken {
    /// None.
    #[default]
    Nothing,
    /// The head is told before it is on the disk for good: a crash takes it back.
    NoFlush,
    /// What was written before a crash is written again after it, without looking.
    WritesAgain,
    /// What somebody is to the conversation is not looked at again after it changed.
    StaleRoles,
    /// Members are not read again after a merge.
    OldRoles,
    /// New commits are put at the end of the order, wherever they belong.
    OwnOrder,
    /// What breaks a rule is taken all the same.
    TakesAll,
    /// What was kept of a fetch that broke stays when all of it is there.
    KeepsParts,
    /// Merges are merged again, though they hold nothing new.
    MergesMerges,
    /// Routing tables remember whoever is named.
    LearnsAll,
    /// Some of what is valid is refused: the commits of whose id the first four bits are nought.
    RefusesSome,
}

/// Who is connected with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// Everybody with everybody.
    Mesh,
    /// Each with about so many others at random.
    Random(usize),
    /// As the routing tables of a swarm tie them: see [`crate::drt`].
    Drt,
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) seed: u64,
    /// Accounts that may come to take part.
    pub(crate) accounts: usize,
    /// Of how many of them the group is made before it begins.
    pub(crate) founders: usize,
    /// Most devices an account has.
    pub(crate) devices: usize,
    /// How many of the founders are admins.
    pub(crate) admins: usize,
    /// How many accounts are hostile.
    pub(crate) hostile: usize,
    /// In which way, if that is not drawn.
    pub(crate) kind: Option<Hostile>,
    /// The last of the admins is, too.
    pub(crate) traitor: bool,
    /// Of a thousand accounts that are honest, those who use a daemon.
    pub(crate) daemons: u64,
    /// Daemons are linked with no other daemon, as those who are no contacts are.
    pub(crate) apart: bool,
    pub(crate) mode: ConversationMode,
    /// What people do, all together.
    pub(crate) actions: usize,
    /// Between two of them, on average.
    pub(crate) gap: Duration,
    pub(crate) links: Links,
    /// Latency of a link, drawn once for each.
    pub(crate) latency: (u64, u64),
    /// Messages of a thousand with which their link breaks.
    pub(crate) loss: u64,
    /// Writes of a thousand at which the power goes.
    pub(crate) crashes: u64,
    /// The write at which the power goes, whatever else.
    pub(crate) crash_at: Option<u64>,
    /// How often the network parts into two.
    pub(crate) partitions: usize,
    /// Most days a clock is wrong by, in either direction.
    pub(crate) skew: u64,
    /// How long everything may take to come to rest after the last action.
    pub(crate) settle: Duration,
    pub(crate) mutation: Mutation,
    pub(crate) broken: Broken,
    /// Tell what happens.
    pub(crate) loud: bool,
}

impl Config {
    /// The run of a seed, with so many accounts or as many as the seed says.
    pub(crate) fn of(seed: u64, accounts: Option<usize>) -> Self {
        let mut rng = Rng::new(seed ^ 0xc0f1);
        let accounts = accounts.unwrap_or_else(|| 3 + rng.below(6));
        let devices = if rng.permille(300) { 2 } else { 1 };
        let hostile = if rng.permille(500) {
            1 + rng.below(accounts / 4 + 1)
        } else {
            0
        };
        let hostile = hostile.min(accounts - 2);
        let founders = (accounts * 2 / 3).max(2);
        let mut apart = Rng::new(seed ^ 0xad31);
        let admins = if apart.permille(400) {
            (2 + apart.below(3)).min(founders).min(accounts - hostile)
        } else {
            1
        };
        let crowd = accounts * devices > 16;
        Self {
            seed,
            accounts,
            founders,
            devices,
            admins,
            hostile,
            kind: None,
            traitor: admins > 2 && apart.permille(300),
            daemons: match Rng::new(seed ^ 0xdae1).below(10) {
                _ if crowd => 0,
                0..2 => 300,
                2 => 800,
                _ => 0,
            },
            apart: false,
            mode: match apart.below(4) {
                0 => ConversationMode::AdminInvitesOnly,
                1 => ConversationMode::Public,
                _ => ConversationMode::InvitesOnly,
            },
            actions: 12 + rng.below(10) + accounts,
            gap: Duration::from_millis(*rng.pick(&[300, 2_000, 15_000]).unwrap_or(&300)),
            links: match (crowd, rng.below(3)) {
                (true, 0) => Links::Random(2 * (accounts * devices).ilog2() as usize),
                (true, _) | (false, 0) => Links::Drt,
                (false, _) => Links::Mesh,
            },
            latency: *rng.pick(&[(1, 5), (10, 80), (20, 300)]).unwrap_or(&(1, 5)),
            loss: *rng.pick(&[0, 0, 10, 50]).unwrap_or(&0),
            crashes: *rng.pick(&[0, 0, 20, 80]).unwrap_or(&0),
            crash_at: None,
            partitions: rng.below(3),
            skew: *rng.pick(&[0, 1, 9]).unwrap_or(&0),
            settle: Duration::from_secs(1_800),
            mutation: Mutation::Nothing,
            broken: Broken::Nothing,
            loud: false,
        }
    }
}
