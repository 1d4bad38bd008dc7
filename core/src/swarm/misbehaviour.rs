//! Everything a commit can be refused for, each with its name.

use super::commit::BadCommit;
use super::message::BadMessage;
use super::path::TreePath;
use super::tree::TreeFault;
use crate::id::{AccountId, DeviceId, ObjectId};

/// The rule that was broken. One variant a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaviour {
    // What a commit is.
    /// An object the history needs was not sent.
    #[error("the object {0} was not sent")]
    MissingObject(ObjectId),
    /// More commits at once than are looked at.
    #[error("there are more than {0} new commits")]
    TooManyCommits(usize),
    /// Merges of branches so long and so many that nobody can follow them.
    #[error("its history is too tangled to be followed")]
    TooTangled,
    /// Not a commit of a conversation.
    #[error("it is not a readable commit: {0}")]
    MalformedCommit(BadCommit),
    /// An object that should be a commit is something else.
    #[error("the object is not a commit")]
    NotACommit,
    /// Author and committer differ.
    #[error("author and committer are not the same")]
    CommitterDiffers,
    /// The message cannot be read or has no type.
    #[error("{0}")]
    MalformedMessage(BadMessage),
    /// A first commit with a mode that nobody here knows.
    #[error("it is of a kind ({0}) that this program does not know")]
    UnknownMode(String),
    /// A first commit that is not this conversation's.
    #[error("it begins another conversation")]
    ForeignRoot,
    /// An initial message on a commit that has a parent.
    #[error("a conversation begins only once")]
    SecondInitial,
    /// The first commit's message is of another type.
    #[error("the first commit does not begin a conversation")]
    RootIsNotInitial,
    /// More than two parents.
    #[error("it has {0} parents, two are allowed")]
    TooManyParents(usize),

    // Who wrote it.
    /// No signature, or one that is not base64.
    #[error("it carries no signature")]
    MissingSignature,
    /// The signature is not the device's.
    #[error("its signature is wrong")]
    WrongSignature,
    /// The author's device has no certificate in the conversation.
    #[error("its device has no certificate in the conversation")]
    DeviceNotAuthorised,
    /// The device's certificate names no account.
    #[error("the certificate of its device names no account")]
    DeviceWithoutAccount,
    /// The device's account is neither member nor admin.
    #[error("its author is not a member")]
    NotAMember,
    /// Its device was banned before; the rest of the account was not.
    #[error("its device is banned")]
    BannedDevice,
    /// A certificate was no longer valid when the commit was made.
    #[error("the certificate {0} had expired")]
    CertificateExpired(TreePath),
    /// The device's certificate was not signed by its account.
    #[error("the certificate of its device was not signed by the account it names")]
    ForgedDevice,

    // What is in the tree.
    /// A tree git would not have written, or a part of one is missing.
    #[error("{0}")]
    MalformedTree(TreeFault),
    /// A file where no file of a conversation is.
    #[error("it writes {0:?}, which has no place in a conversation")]
    UnknownPath(String),
    /// Something else than a plain file.
    #[error("it writes {0:?}, which is not a plain file")]
    NotAPlainFile(String),
    /// A file this type of commit may not touch.
    #[error("it changes {0}, which it may not")]
    UnexpectedFile(TreePath),
    /// A certificate that cannot be read.
    #[error("the certificate {0} cannot be read")]
    UnreadableCertificate(TreePath),
    /// A certificate with another key than its name says.
    #[error("the certificate {0} belongs to another key")]
    CertificateMismatch(TreePath),
    /// A device's certificate that names another account.
    #[error("the certificate {0} is of another account's device")]
    DeviceOfOtherAccount(TreePath),

    // The first commit.
    /// The creator's account or device certificate is missing.
    #[error("the first commit lacks {0}")]
    InitialIncomplete(TreePath),
    /// A one-to-one conversation that names nobody.
    #[error("a one-to-one conversation must name the other one")]
    InitialWithoutInvited,

    // Votes.
    /// By somebody who is no admin.
    #[error("only admins vote")]
    VoteByNonAdmin,
    /// The vote file has another admin's name.
    #[error("it votes in the name of another admin")]
    VoteInOtherName,
    /// Files change, but no vote is among them.
    #[error("it is a vote without a vote")]
    VoteWithoutFile,
    /// The vote file was there before, or is taken away.
    #[error("it takes back or repeats a vote")]
    VoteNotNew,
    /// The vote file has content.
    #[error("its vote file is not empty")]
    VoteFileNotEmpty,
    /// Against or for oneself.
    #[error("nobody votes about themselves")]
    VoteAboutSelf,
    /// About somebody who is not there.
    #[error("it votes about somebody who is not in the conversation")]
    VoteAboutStranger,
    /// The message names somebody else than the file.
    #[error("its message and its vote file name different people")]
    VoteMessageDiffers,

    // Members.
    /// Not a Jami ID.
    #[error("it names no valid Jami ID")]
    BadMemberUri,
    /// A third person for a one-to-one conversation.
    #[error("nobody else can be invited to a one-to-one conversation")]
    ThirdInOneToOne,
    /// Inviting oneself.
    #[error("nobody invites themselves")]
    AddSelf,
    /// The invitation's file is missing.
    #[error("it invites without an invitation file")]
    AddWithoutFile,
    /// The invitation's file has content.
    #[error("its invitation file is not empty")]
    InvitedFileNotEmpty,
    /// A banned member.
    #[error("it invites somebody who is banned")]
    AddBanned,
    /// Somebody who is no admin, where only admins invite.
    #[error("only admins invite here")]
    InviteByNonAdmin,
    /// Not invited before.
    #[error("it joins without an invitation")]
    JoinWithoutInvite,
    /// The invitation's file stays.
    #[error("it joins and leaves its invitation behind")]
    JoinKeepsInvite,
    /// A member already.
    #[error("it joins a second time")]
    JoinTwice,
    /// No member's certificate comes with it.
    #[error("it joins without the account's certificate")]
    JoinWithoutCertificate,
    /// For another account.
    #[error("it joins in the name of somebody else")]
    JoinForOther,
    /// Somebody else leaves.
    #[error("it removes somebody else")]
    RemoveOther,
    /// Leaving adds or changes a file.
    #[error("it leaves and writes {0}")]
    RemoveWrites(TreePath),
    /// Leaving takes the account's certificate away.
    #[error("it says that its author leaves, and they stay")]
    RemoveWithoutEffect,
    /// A device of somebody else is removed.
    #[error("it removes the device {0}, which is somebody else's")]
    ForeignDevice(DeviceId),
    /// By somebody who is no admin.
    #[error("only admins ban and unban")]
    BanByNonAdmin,
    /// Not enough votes.
    #[error("{votes} of {admins} admins voted for it, more than half are needed")]
    BanWithoutMajority {
        /// Votes that count.
        votes: usize,
        /// Admins there are.
        admins: usize,
    },
    /// Nothing moves into or out of `banned/`.
    #[error("it bans or unbans nobody")]
    BanWithoutEffect,
    /// A file changes its content on the way.
    #[error("it changes {0} instead of moving it")]
    BanChangesContent(TreePath),
    /// The profile, by somebody who is no admin.
    #[error("only admins change the profile")]
    ProfileByNonAdmin,

    // Messages.
    /// Of something that is not there.
    #[error("it edits a message that does not exist")]
    EditOfUnknown,
    /// Of somebody else's message.
    #[error("it edits somebody else's message")]
    EditOfForeign,
    /// Of something that is neither text nor file.
    #[error("it edits something that is no message")]
    EditOfNonMessage,
    /// A message in a document's repository.
    #[error("documents hold no messages")]
    MessageInDocument,
    /// A piece of a document in a conversation.
    #[error("only documents have checkpoints")]
    CheckpointOutsideDocument,
    /// An attachment whose name is not its content's.
    #[error("the attachment {0} does not have its content's name")]
    AttachmentMisnamed(ObjectId),

    // Merges.
    /// The message is not a merge's.
    #[error("it merges and says something else")]
    MergeWithMessage,
    /// A path is neither as on the one side nor as on the other.
    #[error("it merges and changes {0}")]
    MergeWithContent(TreePath),
    /// A change of one side is dropped.
    #[error("it merges and undoes the change of {0}")]
    MergeUndoes(TreePath),
}

impl Misbehaviour {
    /// The rule's name: the variant's.
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        text.chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect()
    }
}

impl From<BadMessage> for Misbehaviour {
    fn from(bad: BadMessage) -> Self {
        match bad {
            BadMessage::UnknownMode(mode) => Misbehaviour::UnknownMode(mode),
            other => Misbehaviour::MalformedMessage(other),
        }
    }
}

impl From<TreeFault> for Misbehaviour {
    fn from(fault: TreeFault) -> Self {
        match fault {
            TreeFault::Missing(id) => Misbehaviour::MissingObject(id),
            TreeFault::UnknownPath(path) => Misbehaviour::UnknownPath(path),
            TreeFault::NotAFile(path) => Misbehaviour::NotAPlainFile(path),
            other => Misbehaviour::MalformedTree(other),
        }
    }
}

/// A refused commit: which, whose, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The commit.
    pub commit: ObjectId,
    /// Its author's device, when it could be read.
    pub device: Option<DeviceId>,
    /// That device's account, when its certificate is there.
    pub account: Option<AccountId>,
    /// The rule.
    pub misbehaviour: Box<Misbehaviour>,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "commit {}", self.commit)?;
        if let Some(account) = &self.account {
            write!(f, " by {account}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " (device {device})")?;
        }
        write!(f, ": {}", self.misbehaviour)
    }
}

impl core::error::Error for Fault {}

impl Fault {
    /// A fault of a commit nothing else is known of.
    pub fn of(commit: ObjectId, misbehaviour: Misbehaviour) -> Self {
        Self {
            commit,
            device: None,
            account: None,
            misbehaviour: Box::new(misbehaviour),
        }
    }
}

impl serde::Serialize for Fault {
    /// `{commit, device?, account?, rule, text}`
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("commit", &self.commit)?;
        if let Some(device) = &self.device {
            map.serialize_entry("device", device)?;
        }
        if let Some(account) = &self.account {
            map.serialize_entry("account", account)?;
        }
        map.serialize_entry("rule", &self.misbehaviour.name())?;
        map.serialize_entry("text", &self.misbehaviour.to_string())?;
        map.end()
    }
}
