//! Every operation on a conversation, as the objects it adds.
//!
//! Nothing is stored here: the caller keeps the objects, then moves its head.

use super::ancestry::{Generations, WalkError, Walker};
use super::commit::{Commit, Draft};
use super::judge::{Judge, Root};
use super::members::{self, Profile};
use super::merge::{self, MergeFault, Relation, Union};
use super::message::{Action, ConversationMode, Message};
use super::misbehaviour::Misbehaviour;
use super::object::{EMPTY_BLOB, Kind, NewObject, Objects};
use super::order::Node;
use super::path::{Direction, Standing, Target, TreePath};
use super::tree::{TreeFault, Trees};
use crate::crypto::{CryptoError, PrivateKey};
use crate::id::{AccountId, ConversationId, DeviceId, ObjectId};
use crate::identity::CertificateChain;
use std::collections::BTreeMap;

/// Who writes.
#[derive(Clone)]
pub struct Writer<'a> {
    /// Display name of the account; decoration.
    pub name: &'a str,
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// The device's certificate alone, PEM.
    pub device_pem: Vec<u8>,
    /// The account's certificate and its issuers, PEM.
    pub account_pem: Vec<u8>,
    /// The device's key.
    pub key: &'a dyn PrivateKey,
}

impl<'a> Writer<'a> {
    /// The device of a chain, with its key.
    pub fn new(name: &'a str, chain: &CertificateChain, key: &'a dyn PrivateKey) -> Self {
        let account_pem = chain
            .iter()
            .skip(1)
            .map(|c| c.pem())
            .collect::<String>()
            .into_bytes();
        Self {
            name,
            account: chain.account_id(),
            device: chain.device_id(),
            device_pem: chain.device.pem().into_bytes(),
            account_pem,
            key,
        }
    }
}

/// What an operation has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The new commit: the new head, and the message's id.
    pub commit: ObjectId,
    /// The tree after it.
    pub tree: ObjectId,
    /// The message.
    pub message: Message,
    /// All new objects, the commit last.
    pub objects: Vec<NewObject>,
}

/// Why an operation is not possible here and now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Signing failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The repository cannot be read.
    #[error("the conversation's repository cannot be read: {0}")]
    Repository(Misbehaviour),
    /// Merging failed.
    #[error(transparent)]
    Merge(#[from] MergeFault),
    /// We are not a member (any more).
    #[error("you are not a member of this conversation")]
    NotAMember,
    /// This device is banned, though the account is not.
    #[error("this device is banned from the conversation; another one of yours may write")]
    DeviceBanned,
    /// We have not been invited.
    #[error("you have not been invited to this conversation")]
    NotInvited,
    /// Only admins may.
    #[error("only admins of the conversation may do this")]
    NotAnAdmin,
    /// The mode does not allow it.
    #[error("this conversation does not take more people")]
    NotInThisMode,
    /// The person is a member already.
    #[error("this person is in the conversation already")]
    AlreadyMember,
    /// The person has an invitation.
    #[error("this person has been invited already")]
    AlreadyInvited,
    /// The person is banned.
    #[error("this person is banned from the conversation; its admins can end that")]
    Banned,
    /// The person is not there, or not banned where a ban should end.
    #[error("this person is not in the conversation")]
    NotThere,
    /// Oneself.
    #[error("this cannot be done to oneself")]
    Oneself,
    /// The vote has been cast.
    #[error("you have voted already")]
    AlreadyVoted,
    /// Not enough votes yet.
    #[error("{votes} of {admins} admins have voted, more than half are needed")]
    NoMajority {
        /// Votes so far.
        votes: usize,
        /// Admins.
        admins: usize,
    },
    /// The message referred to is not there.
    #[error("the message is not in this conversation")]
    NoSuchMessage,
    /// Somebody else's message, or none that can be edited.
    #[error("only your own texts and files can be changed")]
    NotEditable,
    /// Commits are written once.
    #[error("this commit exists already")]
    Exists,
}

impl From<Misbehaviour> for WriteError {
    fn from(why: Misbehaviour) -> Self {
        WriteError::Repository(why)
    }
}
impl From<TreeFault> for WriteError {
    fn from(why: TreeFault) -> Self {
        WriteError::Repository(why.into())
    }
}
impl From<WalkError> for WriteError {
    fn from(why: WalkError) -> Self {
        WriteError::Repository(why.into())
    }
}

/// How far the commit before may be ahead of our clock and still be followed, seconds: clocks that
/// are wrong by days are common, and what answers is to stand after what it answers in other
/// programs too. One that claims to be written in years would drag every later commit beyond the
/// end of its author's certificate, where nobody takes it. Our limit.
pub const MAX_AHEAD: u64 = 30 * 86_400;

/// The time for a commit written at `now_unix` on one of `parent`'s time: not before it, as far
/// as that is to be believed.
pub fn time_after(now_unix: u64, parent: Option<i64>) -> u64 {
    parent
        .and_then(|time| u64::try_from(time).ok())
        .filter(|time| *time <= now_unix.saturating_add(MAX_AHEAD))
        .map_or(now_unix, |time| time.max(now_unix))
}

pub(super) type Edits = BTreeMap<TreePath, Option<ObjectId>>;

/// The first commit of a new conversation; its id is the conversation's. Two made by one
/// device in one second with the same `invited` are the same: retry with a later time when it exists.
pub fn initial(
    writer: &Writer<'_>,
    mode: ConversationMode,
    invited: Option<AccountId>,
    now_unix: u64,
) -> Result<Written, WriteError> {
    let nothing = super::object::MemoryObjects::new();
    let mut repository = Repository {
        judge: Judge::new(&nothing, ConversationId([0; 20])),
        head: None,
    };
    let mut objects = Vec::new();
    let mut edits = Edits::new();
    let device = blob(&mut objects, &writer.device_pem);
    let account = blob(&mut objects, &writer.account_pem);
    edits.insert(TreePath::device(writer.device), Some(device));
    edits.insert(TreePath::admin(writer.account), Some(account));
    if mode == ConversationMode::OneToOne {
        let other = invited.ok_or(WriteError::NotThere)?;
        blob(&mut objects, b"");
        edits.insert(TreePath::invited(other), Some(EMPTY_BLOB));
    }
    let invited = invited.filter(|_| mode == ConversationMode::OneToOne);
    repository.finish(
        writer,
        Message::initial(mode, invited),
        edits,
        objects,
        Vec::new(),
        now_unix,
    )
}

pub(super) fn blob(objects: &mut Vec<NewObject>, data: &[u8]) -> ObjectId {
    let object = NewObject::new(Kind::Blob, data.to_vec());
    let id = object.id;
    objects.push(object);
    id
}

/// What becomes of two heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// Ours has it all.
    UpToDate,
    /// Take theirs as the head.
    FastForward(ObjectId),
    /// Both hold the same, but for merges that each side made by itself: take theirs as the
    /// head and forget our merges, so that merging ends.
    Adopt(ObjectId),
    /// A new commit that is the head.
    Commit(Box<Written>),
}

/// A conversation at a head, to write on.
pub struct Repository<'a> {
    pub(super) judge: Judge<'a>,
    head: Option<(ObjectId, Commit)>,
}

impl<'a> Repository<'a> {
    /// Opens a conversation at a head.
    pub fn new(
        objects: &'a dyn Objects,
        conversation: ConversationId,
        head: ObjectId,
    ) -> Result<Self, WriteError> {
        let judge = Judge::new(objects, conversation);
        let commit = judge.commit(head)?;
        Ok(Self {
            judge,
            head: Some((head, commit)),
        })
    }

    /// Searches for common ancestors follow these generations. Without, they follow times, and a tangle may make
    /// a merge impossible.
    pub fn follow(mut self, generations: &'a Generations<'a>) -> Self {
        self.judge.walker.follow(generations);
        self
    }

    pub(super) fn tree(&self) -> Result<ObjectId, WriteError> {
        self.head
            .as_ref()
            .map(|(_, c)| c.tree)
            .ok_or(WriteError::NotThere)
    }

    /// How the conversation began.
    pub fn root(&mut self) -> Result<Root, WriteError> {
        Ok((*self.judge.root()?).clone())
    }

    /// Everybody, with roles.
    pub fn members(&mut self) -> Result<Vec<members::Member>, WriteError> {
        let (tree, root) = (self.tree()?, self.judge.root()?);
        Ok(members::members(&mut self.judge.trees, tree, &root)?)
    }

    /// The role of one account.
    pub fn role(&mut self, account: AccountId) -> Result<Option<members::Role>, WriteError> {
        let (tree, root) = (self.tree()?, self.judge.root()?);
        Ok(members::role(&mut self.judge.trees, tree, &root, account)?)
    }

    /// The commit this was opened at.
    pub fn head(&self) -> Option<ObjectId> {
        self.head.as_ref().map(|(id, _)| *id)
    }

    /// Whether a device of an account may fetch and hear of news: admins, members and the
    /// invited, unless the device is banned.
    pub fn admits(&mut self, account: AccountId, device: DeviceId) -> Result<bool, WriteError> {
        let tree = self.tree()?;
        let there = matches!(
            self.role(account)?,
            Some(members::Role::Admin | members::Role::Member | members::Role::Invited)
        );
        Ok(there
            && !self
                .judge
                .has(tree, TreePath::Banned(Target::Device(device)))?)
    }

    /// The devices that have written here, with their accounts.
    pub fn devices(&mut self) -> Result<BTreeMap<DeviceId, AccountId>, WriteError> {
        let tree = self.tree()?;
        let mut out = BTreeMap::new();
        for (device, _) in members::devices(&mut self.judge.trees, tree)? {
            if let Some(account) = self.judge.account_of(tree, device).ok().flatten() {
                out.insert(device, account);
            }
        }
        Ok(out)
    }

    /// The open votes.
    pub fn votes(&mut self) -> Result<Vec<(Direction, Target, AccountId)>, WriteError> {
        let tree = self.tree()?;
        Ok(members::votes(&mut self.judge.trees, tree)?)
    }

    /// The profile; empty when there is none.
    pub fn profile(&mut self) -> Result<Profile, WriteError> {
        let tree = self.tree()?;
        let Some(id) = self.judge.trees.lookup(tree, &TreePath::Profile)? else {
            return Ok(Profile::default());
        };
        match self.judge.trees.objects().object(&id) {
            Some((Kind::Blob, data)) => Ok(Profile::parse(&data)),
            _ => Err(WriteError::Repository(Misbehaviour::MissingObject(id))),
        }
    }

    /// Builds tree and commit on the head.
    fn finish(
        &mut self,
        writer: &Writer<'_>,
        message: Message,
        edits: Edits,
        mut objects: Vec<NewObject>,
        parents: Vec<ObjectId>,
        now_unix: u64,
    ) -> Result<Written, WriteError> {
        let before = self.head.as_ref().map(|(_, c)| c.tree);
        let (tree, new) = match before {
            Some(before) if edits.is_empty() => (before, Vec::new()),
            _ => self.judge.trees.change(before, &edits)?,
        };
        objects.extend(new);
        let draft = Draft {
            tree,
            parents,
            name: writer.name,
            device: writer.device,
            time: now_unix,
            message: &message.to_text(),
        };
        let commit = draft.sign(writer.key)?;
        let id = commit.id;
        if self.judge.trees.objects().contains(&id) {
            return Err(WriteError::Exists);
        }
        objects.push(commit);
        Ok(Written {
            commit: id,
            tree,
            message,
            objects,
        })
    }

    pub(super) fn on_head(
        &mut self,
        writer: &Writer<'_>,
        message: Message,
        edits: Edits,
        objects: Vec<NewObject>,
        now_unix: u64,
    ) -> Result<Written, WriteError> {
        let parents = self.head.iter().map(|(id, _)| *id).collect();
        self.finish(writer, message, edits, objects, parents, now_unix)
    }

    /// What our own commit brings along: the device's certificate with its first commit,
    /// renewed certificates where the old ones have run out.
    pub(super) fn own_certificates(
        &mut self,
        writer: &Writer<'_>,
        now_unix: u64,
        edits: &mut Edits,
        objects: &mut Vec<NewObject>,
        account_too: bool,
    ) -> Result<(), WriteError> {
        let tree = self.tree()?;
        let path = TreePath::device(writer.device);
        let expired = |judge: &mut Judge<'_>, blob, path| {
            judge
                .certificate(blob, path)
                .is_ok_and(|c| c.not_after() < now_unix)
        };
        match self.judge.trees.lookup(tree, &path)? {
            Some(blob) if !expired(&mut self.judge, blob, path) => {}
            _ => {
                edits.insert(path, Some(blob(objects, &writer.device_pem)));
            }
        }
        if account_too {
            for path in [
                TreePath::admin(writer.account),
                TreePath::member(writer.account),
            ] {
                if let Some(old) = self.judge.trees.lookup(tree, &path)?
                    && expired(&mut self.judge, old, path)
                {
                    edits.insert(path, Some(blob(objects, &writer.account_pem)));
                }
            }
        }
        Ok(())
    }

    /// Our standing, which must be member or admin.
    fn standing(&mut self, writer: &Writer<'_>) -> Result<Standing, WriteError> {
        let tree = self.tree()?;
        let banned = TreePath::Banned(Target::Device(writer.device));
        if self.judge.has(tree, banned)? {
            return Err(WriteError::DeviceBanned);
        }
        for (standing, path) in [
            (Standing::Admin, TreePath::admin(writer.account)),
            (Standing::Member, TreePath::member(writer.account)),
        ] {
            if self.judge.has(tree, path)? {
                return Ok(standing);
            }
        }
        Err(WriteError::NotAMember)
    }

    pub(super) fn admin(&mut self, writer: &Writer<'_>) -> Result<(), WriteError> {
        match self.standing(writer)? {
            Standing::Admin => Ok(()),
            _ => Err(WriteError::NotAnAdmin),
        }
    }

    /// Any message that changes no file: texts, answers, reactions, edits, files, calls, unknown types.
    pub fn message(
        &mut self,
        writer: &Writer<'_>,
        message: Message,
        now_unix: u64,
    ) -> Result<Written, WriteError> {
        self.standing(writer)?;
        match &message {
            Message::Text {
                reply_to: Some(to), ..
            }
            | Message::File {
                reply_to: Some(to), ..
            } => {
                self.target(to)?;
            }
            Message::Reaction { react_to, .. } => {
                self.target(react_to)?;
            }
            Message::Edit { edit, .. } | Message::FileDeletion { edit } => {
                let target = self.target(edit)?;
                let whose = self.judge.account_of(target.tree, target.device)?;
                let editable = matches!(
                    Message::parse(&target.message),
                    Ok(Message::Text { .. } | Message::Reaction { .. } | Message::File { .. })
                );
                if whose != Some(writer.account) || !editable {
                    return Err(WriteError::NotEditable);
                }
            }
            Message::Initial { .. }
            | Message::Merge { .. }
            | Message::Member { .. }
            | Message::Vote { .. }
            | Message::UpdateProfile
            | Message::Checkpoint { .. } => return Err(WriteError::NotInThisMode),
            _ => {}
        }
        let (mut edits, mut objects) = (Edits::new(), Vec::new());
        self.own_certificates(writer, now_unix, &mut edits, &mut objects, true)?;
        self.on_head(writer, message, edits, objects, now_unix)
    }

    fn target(&self, id: &str) -> Result<Commit, WriteError> {
        let id: ObjectId = id.parse().map_err(|_| WriteError::NoSuchMessage)?;
        self.judge.commit(id).map_err(|_| WriteError::NoSuchMessage)
    }

    /// Invites an account.
    pub fn add(
        &mut self,
        writer: &Writer<'_>,
        who: AccountId,
        now_unix: u64,
    ) -> Result<Written, WriteError> {
        let standing = self.standing(writer)?;
        let root = self.root()?;
        match root.mode {
            ConversationMode::OneToOne if ![root.creator, root.invited].contains(&Some(who)) => {
                return Err(WriteError::NotInThisMode);
            }
            ConversationMode::AdminInvitesOnly if standing != Standing::Admin => {
                return Err(WriteError::NotAnAdmin);
            }
            _ => {}
        }
        if who == writer.account {
            return Err(WriteError::Oneself);
        }
        match self.role(who)? {
            Some(members::Role::Admin | members::Role::Member) => {
                return Err(WriteError::AlreadyMember);
            }
            Some(members::Role::Invited) => return Err(WriteError::AlreadyInvited),
            Some(members::Role::Banned) => return Err(WriteError::Banned),
            Some(members::Role::Left) | None => {}
        }
        let (mut edits, mut objects) = (Edits::new(), Vec::new());
        self.own_certificates(writer, now_unix, &mut edits, &mut objects, false)?;
        edits.insert(TreePath::invited(who), Some(blob(&mut objects, b"")));
        self.on_head(
            writer,
            Message::member(Action::Add, who),
            edits,
            objects,
            now_unix,
        )
    }

    /// Comes in after an invitation.
    pub fn join(&mut self, writer: &Writer<'_>, now_unix: u64) -> Result<Written, WriteError> {
        let tree = self.tree()?;
        let (invited, member) = (
            TreePath::invited(writer.account),
            TreePath::member(writer.account),
        );
        match self.standing(writer) {
            Ok(_) => return Err(WriteError::AlreadyMember),
            Err(WriteError::NotAMember) => {}
            Err(why) => return Err(why),
        }
        if !self.judge.has(tree, invited)? {
            return Err(WriteError::NotInvited);
        }
        let mut objects = Vec::new();
        let mut edits = Edits::from([(invited, None)]);
        edits.insert(member, Some(blob(&mut objects, &writer.account_pem)));
        edits.insert(
            TreePath::device(writer.device),
            Some(blob(&mut objects, &writer.device_pem)),
        );
        self.on_head(
            writer,
            Message::member(Action::Join, writer.account),
            edits,
            objects,
            now_unix,
        )
    }

    /// Leaves: the account's certificate and those of all its devices go.
    pub fn leave(&mut self, writer: &Writer<'_>, now_unix: u64) -> Result<Written, WriteError> {
        let tree = self.tree()?;
        let standing = self.standing(writer)?;
        if !self.judge.has(tree, TreePath::device(writer.device))? {
            // A device that never wrote here cannot be told from a stranger; it writes first.
            return Err(WriteError::NotAMember);
        }
        let mut edits = Edits::from([(
            TreePath::Live(Target::Account(standing, writer.account)),
            None,
        )]);
        // Two who invited us at once may have left one of the files behind.
        let invited = TreePath::invited(writer.account);
        if self.judge.has(tree, invited)? {
            edits.insert(invited, None);
        }
        for (device, account) in self.devices()? {
            if account == writer.account {
                edits.insert(TreePath::device(device), None);
            }
        }
        self.on_head(
            writer,
            Message::member(Action::Remove, writer.account),
            edits,
            Vec::new(),
            now_unix,
        )
    }

    /// Sets what `change` sets of the profile.
    pub fn update_profile(
        &mut self,
        writer: &Writer<'_>,
        change: Profile,
        now_unix: u64,
    ) -> Result<Written, WriteError> {
        self.admin(writer)?;
        let mut profile = self.profile()?;
        profile.update(change);
        let (mut edits, mut objects) = (Edits::new(), Vec::new());
        self.own_certificates(writer, now_unix, &mut edits, &mut objects, false)?;
        edits.insert(
            TreePath::Profile,
            Some(blob(&mut objects, profile.to_vcard().as_bytes())),
        );
        self.on_head(writer, Message::UpdateProfile, edits, objects, now_unix)
    }

    /// Takes in another head, which has been validated. Of what only we have `unknown` says whether nobody else is
    /// known to have it: then it is shown by daemons that are at the other head, though it be older than that (see
    /// [`merge::hidden_before`]), by one more commit on top of theirs.
    pub fn merge(
        &mut self,
        writer: &Writer<'_>,
        theirs: ObjectId,
        unknown: &dyn Fn(&[ObjectId]) -> bool,
        now_unix: u64,
    ) -> Result<Merged, WriteError> {
        let Some(ours) = self.head.as_ref().map(|(id, _)| *id) else {
            return Err(WriteError::NotThere);
        };
        match merge::relation(&mut self.judge.walker, ours, theirs)? {
            Relation::UpToDate => return Ok(Merged::UpToDate),
            Relation::FastForward => return Ok(Merged::FastForward(theirs)),
            Relation::Diverged | Relation::Alike => {}
        }
        let Judge { walker, trees, .. } = &mut self.judge;
        let (tree, objects, own) = match merge::unite(walker, trees, ours, theirs)? {
            Union::Theirs => return Ok(Merged::Adopt(theirs)),
            Union::Ours => return Ok(Merged::UpToDate),
            Union::Commit(tree, objects, own) => (tree, objects, own),
        };
        let mut all = objects;
        let below = self.stand_below(writer, &own, theirs, unknown)?;
        let second = below.as_ref().map_or(theirs, |b| b.id);
        all.extend(below);
        let message = Message::merge(second);
        let draft = Draft {
            tree,
            parents: vec![ours, second],
            name: writer.name,
            device: writer.device,
            time: now_unix,
            message: &message.to_text(),
        };
        // The merged tree must still have us, or nobody would take the commit.
        let reader = super::object::Overlay(NewObjects(&all), self.judge.trees.objects());
        let mut judge = Judge::new(&reader, self.judge.conversation);
        judge
            .author(tree, writer.device)
            .map_err(|_| WriteError::NotAMember)?;
        if judge.has(tree, TreePath::Banned(Target::Device(writer.device)))? {
            return Err(WriteError::NotAMember);
        }
        let commit = draft.sign(writer.key)?;
        let id = commit.id;
        all.push(commit);
        Ok(Merged::Commit(Box::new(Written {
            commit: id,
            tree,
            message,
            objects: all,
        })))
    }

    /// A merge of their head with its own past, older than what of ours would be hidden by it.
    fn stand_below(
        &mut self,
        writer: &Writer<'_>,
        own: &BTreeMap<ObjectId, Node>,
        theirs: ObjectId,
        unknown: &dyn Fn(&[ObjectId]) -> bool,
    ) -> Result<Option<NewObject>, WriteError> {
        let step = self.judge.walker.step(theirs).map_err(MergeFault::from)?;
        let (tree, past) = (step.tree, step.node.parents.first().copied());
        let Some((hidden, oldest)) = merge::hidden_before(own, step.node.time) else {
            return Ok(None);
        };
        let (Some(past), Some(time)) =
            (past, oldest.checked_sub(1).and_then(|t| t.try_into().ok()))
        else {
            return Ok(None);
        };
        // Who is no member there cannot write there, nor whose certificates are renewed on our side only.
        let author = self.judge.author(tree, writer.device);
        if !author.is_ok_and(|a| a.in_force_at(writer.device, oldest).is_ok())
            || self
                .judge
                .has(tree, TreePath::Banned(Target::Device(writer.device)))?
            || !unknown(&hidden)
        {
            return Ok(None);
        }
        let draft = Draft {
            tree,
            parents: vec![theirs, past],
            name: writer.name,
            device: writer.device,
            time,
            message: &Message::merge(past).to_text(),
        };
        Ok(Some(draft.sign(writer.key)?))
    }
}

/// Objects just made, to read before they are stored.
struct NewObjects<'a>(&'a [NewObject]);

impl Objects for NewObjects<'_> {
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.0
            .iter()
            .find(|o| o.id == *id)
            .map(|o| (o.kind, o.data.clone()))
    }
}

/// How two heads stand to each other, and whether a merge would be a commit. Without generations the search
/// follows times.
pub fn relation<'a>(
    objects: &'a dyn Objects,
    generations: Option<&'a Generations<'a>>,
    ours: ObjectId,
    theirs: ObjectId,
) -> Result<Relation, WriteError> {
    let mut walker = Walker::new(objects);
    if let Some(generations) = generations {
        walker.follow(generations);
    }
    let relation = merge::relation(&mut walker, ours, theirs)?;
    if relation != Relation::Diverged {
        return Ok(relation);
    }
    // What cannot be merged is found out when it is to be.
    let union = merge::unite(&mut walker, &mut Trees::new(objects), ours, theirs);
    Ok(match union {
        Ok(Union::Theirs | Union::Ours) => Relation::Alike,
        Ok(Union::Commit(..)) | Err(_) => Relation::Diverged,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_follows_a_clock_that_is_days_ahead_but_not_years() {
        let (now, day) = (1_800_000_000, 86_400);
        assert_eq!(time_after(now, None), now);
        assert_eq!(time_after(now, Some(1_700_000_000)), now);
        assert_eq!(time_after(now, Some(-5)), now);
        assert_eq!(
            time_after(now, Some(1_800_000_000 + 5 * day)),
            now + 5 * 86_400
        );
        assert_eq!(time_after(now, Some(1_800_000_000 + 400 * day)), now);
        assert_eq!(time_after(u64::MAX, Some(i64::MAX)), u64::MAX);
    }
}
