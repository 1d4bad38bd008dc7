//! The rules of each type of commit.

use super::commit::Commit;
use super::judge::{Author, Judge};
use super::message::{Action, ConversationMode, Message};
use super::misbehaviour::Misbehaviour;
use super::object::EMPTY_BLOB;
use super::path::{Direction, Standing, Target, TreePath};
use super::tree::Change;
use crate::id::{AccountId, DeviceId, ObjectId};
use std::collections::BTreeSet;
use std::sync::Arc;

type Result<T> = core::result::Result<T, Misbehaviour>;

/// A commit with one parent, as the rules see it.
pub(super) struct Case<'c> {
    pub(super) commit: &'c Commit,
    /// The parent's tree.
    pub(super) before: ObjectId,
    /// What differs between the parent's tree and its own.
    pub(super) changes: Vec<Change>,
}

impl Case<'_> {
    fn after(&self) -> ObjectId {
        self.commit.tree
    }

    fn change(&self, path: TreePath) -> Option<&Change> {
        self.changes.iter().find(|c| c.path == path)
    }

    /// Refuses every changed path that is not wanted.
    fn only(&self, wanted: impl Fn(&Change) -> bool) -> Result<()> {
        match self.changes.iter().find(|c| !wanted(c)) {
            None => Ok(()),
            Some(change) => Err(Misbehaviour::UnexpectedFile(change.path)),
        }
    }
}

/// `uri` of a member message: exactly a Jami ID, not all zero.
fn member_uri(uri: &str) -> Result<AccountId> {
    uri.parse()
        .ok()
        .filter(|id: &AccountId| id.0 != [0; 20])
        .ok_or(Misbehaviour::BadMemberUri)
}

impl Judge<'_> {
    /// The first commit: its tree against nothing.
    pub(super) fn judge_root(&mut self, commit: &Commit, message: &Message) -> Result<Arc<Author>> {
        let Message::Initial { mode, invited, .. } = message else {
            return Err(Misbehaviour::RootIsNotInitial);
        };
        let changes = self.trees.diff(None, Some(commit.tree))?;
        let case = Case {
            commit,
            before: commit.tree,
            changes,
        };
        let device = TreePath::device(commit.device);
        if case.change(device).is_none() {
            return Err(Misbehaviour::InitialIncomplete(device));
        }
        let account = self
            .account_of(commit.tree, commit.device)?
            .ok_or(Misbehaviour::DeviceWithoutAccount)?;
        let admin = TreePath::admin(account);
        if case.change(admin).is_none() {
            return Err(Misbehaviour::InitialIncomplete(admin));
        }
        let mut wanted = vec![device, admin];
        if *mode == ConversationMode::OneToOne {
            let other = invited
                .as_deref()
                .ok_or(Misbehaviour::InitialWithoutInvited)?;
            let path = TreePath::invited(member_uri(other)?);
            if case.change(path).is_some_and(|c| c.new != Some(EMPTY_BLOB)) {
                return Err(Misbehaviour::InvitedFileNotEmpty);
            }
            wanted.push(path);
        }
        case.only(|c| wanted.contains(&c.path))?;
        self.author(commit.tree, commit.device)
    }

    /// A commit with one parent. Says whose it is, judged by the tree where the author must stand.
    pub(super) fn judge_single(
        &mut self,
        case: &Case<'_>,
        message: &Message,
    ) -> Result<Arc<Author>> {
        let device = case.commit.device;
        if self.has(case.before, TreePath::Banned(Target::Device(device)))? {
            return Err(Misbehaviour::BannedDevice);
        }
        match message {
            Message::Member {
                action: Action::Join,
                uri,
            } => self.join(case, member_uri(uri)?),
            Message::Member {
                action: Action::Remove,
                uri,
            } => {
                let uri = member_uri(uri)?;
                let author = self.author(case.before, device)?;
                self.remove(case, &author, uri)?;
                Ok(author)
            }
            _ => {
                let author = self.author(case.after(), device)?;
                match message {
                    Message::Initial { .. } => Err(Misbehaviour::SecondInitial),
                    Message::Merge { .. } => Err(Misbehaviour::MalformedMessage(
                        super::message::BadMessage::NotJson,
                    )),
                    Message::Member {
                        action: Action::Add,
                        uri,
                    } => self.add(case, &author, member_uri(uri)?),
                    Message::Member {
                        action: Action::Ban,
                        uri,
                    } => self.resolve(case, &author, Direction::Ban, uri),
                    Message::Member {
                        action: Action::Unban,
                        uri,
                    } => self.resolve(case, &author, Direction::Unban, uri),
                    Message::Member { .. } => Ok(()),
                    Message::Vote { uri } => self.vote(case, &author, uri),
                    Message::UpdateProfile => self.profile(case, &author),
                    Message::Checkpoint { .. } => self.checkpoint(case, &author),
                    Message::Edit { edit, .. } | Message::FileDeletion { edit } => {
                        self.edit(case, &author, edit)?;
                        self.ordinary(case, &author)
                    }
                    Message::Unknown { fields, .. } => {
                        let edit = fields.get("edit").and_then(super::message::field_text);
                        if let Some(edit) = edit.filter(|e| !e.is_empty()) {
                            self.edit(case, &author, &edit)?;
                        }
                        self.ordinary(case, &author)
                    }
                    Message::Text { .. }
                    | Message::Reaction { .. }
                    | Message::Call { .. }
                    | Message::GroupCall { .. }
                    | Message::File { .. } => self.ordinary(case, &author),
                }?;
                Ok(author)
            }
        }
    }

    /// Whether a change brings or renews the author's own device certificate, and rightly.
    fn own_device(&mut self, case: &Case<'_>, author: &Author, change: &Change) -> Result<bool> {
        let device = case.commit.device;
        if change.path != TreePath::device(device) {
            return Ok(false);
        }
        let Some(blob) = change.new else {
            return Ok(false);
        };
        let certificate = self.certificate(blob, change.path)?;
        if self.names_account(&certificate, device) != Some(author.account) {
            return Err(Misbehaviour::DeviceOfOtherAccount(change.path));
        }
        Ok(true)
    }

    /// Refuses all changes but the author's own device and what `wanted` names.
    fn only_own_device_and(
        &mut self,
        case: &Case<'_>,
        author: &Author,
        wanted: impl Fn(&Change) -> bool,
    ) -> Result<()> {
        for change in &case.changes {
            if !wanted(change) && !self.own_device(case, author, change)? {
                return Err(Misbehaviour::UnexpectedFile(change.path));
            }
        }
        Ok(())
    }

    fn is_admin(&mut self, tree: ObjectId, account: AccountId) -> Result<bool> {
        self.has(tree, TreePath::admin(account))
    }

    /// Messages, files, calls and what nobody knows: nothing changes but own certificates.
    fn ordinary(&mut self, case: &Case<'_>, author: &Author) -> Result<()> {
        if self.root()?.mode == ConversationMode::Document {
            return Err(Misbehaviour::MessageInDocument);
        }
        for change in &case.changes {
            let own = [
                TreePath::admin(author.account),
                TreePath::member(author.account),
            ]
            .contains(&change.path);
            match (own, change.old, change.new) {
                // The renewed certificate has the same key: its name says so.
                (true, Some(_), Some(blob)) => {
                    self.certificate(blob, change.path)?;
                }
                _ if self.own_device(case, author, change)? => {}
                _ => return Err(Misbehaviour::UnexpectedFile(change.path)),
            }
        }
        Ok(())
    }

    fn edit(&mut self, case: &Case<'_>, author: &Author, target: &str) -> Result<()> {
        let target: ObjectId = target.parse().map_err(|_| Misbehaviour::EditOfUnknown)?;
        let commit = self
            .commit(target)
            .map_err(|_| Misbehaviour::EditOfUnknown)?;
        let whose = if commit.device == case.commit.device {
            Some(author.account)
        } else {
            self.account_of(commit.tree, commit.device)?
        };
        if whose != Some(author.account) {
            return Err(Misbehaviour::EditOfForeign);
        }
        match Message::parse(&commit.message) {
            Ok(
                Message::Text { .. }
                | Message::Reaction { .. }
                | Message::Edit { legacy: false, .. },
            ) => Ok(()),
            Ok(Message::File { tid, .. }) if !tid.is_empty() => Ok(()),
            Ok(Message::Unknown { kind, .. }) if kind == "application/collab-doc+json" => Ok(()),
            _ => Err(Misbehaviour::EditOfNonMessage),
        }
    }

    fn add(&mut self, case: &Case<'_>, author: &Author, uri: AccountId) -> Result<()> {
        let root = self.root()?;
        if root.mode == ConversationMode::OneToOne
            && ![root.creator, root.invited].contains(&Some(uri))
        {
            return Err(Misbehaviour::ThirdInOneToOne);
        }
        if author.account == uri {
            return Err(Misbehaviour::AddSelf);
        }
        if root.mode == ConversationMode::AdminInvitesOnly
            && !self.is_admin(case.before, author.account)?
        {
            return Err(Misbehaviour::InviteByNonAdmin);
        }
        let path = TreePath::invited(uri);
        self.only_own_device_and(case, author, |c| c.path == path)?;
        match case.change(path).and_then(|c| c.new) {
            None => return Err(Misbehaviour::AddWithoutFile),
            Some(EMPTY_BLOB) => {}
            Some(_) => return Err(Misbehaviour::InvitedFileNotEmpty),
        }
        // The reference looks at banned members only, though none of its writers invites a banned
        // admin or somebody whose invitation was banned.
        if super::merge::is_banned(&mut self.trees, case.before, uri)? {
            return Err(Misbehaviour::AddBanned);
        }
        Ok(())
    }

    fn join(&mut self, case: &Case<'_>, uri: AccountId) -> Result<Arc<Author>> {
        let device = case.commit.device;
        let (invited, member) = (TreePath::invited(uri), TreePath::member(uri));
        let wanted = [invited, member, TreePath::device(device)];
        case.only(|c| wanted.contains(&c.path))?;
        if self.has(case.before, member)? || self.has(case.before, TreePath::admin(uri))? {
            return Err(Misbehaviour::JoinTwice);
        }
        if !self.has(case.before, invited)? {
            return Err(Misbehaviour::JoinWithoutInvite);
        }
        if self.has(case.after(), invited)? {
            return Err(Misbehaviour::JoinKeepsInvite);
        }
        if !self.has(case.after(), member)? {
            return Err(Misbehaviour::JoinWithoutCertificate);
        }
        let account = self.account_of(case.after(), device)?;
        if account.is_some_and(|a| a != uri) {
            return Err(Misbehaviour::JoinForOther);
        }
        self.author(case.after(), device)
    }

    fn remove(&mut self, case: &Case<'_>, author: &Author, uri: AccountId) -> Result<()> {
        if author.account != uri {
            return Err(Misbehaviour::RemoveOther);
        }
        for change in &case.changes {
            match (change.path, change.new) {
                // The 2023 daemon may put its own device back, or renew it, while leaving.
                (TreePath::Live(Target::Device(x)), Some(_)) if x == case.commit.device => {
                    self.own_device(case, author, change)?;
                }
                (TreePath::Live(Target::Account(_, x)), None) if x == uri => {}
                (TreePath::Live(Target::Device(x)), None) => {
                    if self.account_of(case.before, x)? != Some(uri) {
                        return Err(Misbehaviour::ForeignDevice(x));
                    }
                }
                (TreePath::Live(Target::Account(_, x)), Some(_)) if x == uri => {
                    return Err(Misbehaviour::RemoveWrites(change.path));
                }
                _ => return Err(Misbehaviour::UnexpectedFile(change.path)),
            }
        }
        for path in [TreePath::admin(uri), TreePath::member(uri)] {
            if self.has(case.after(), path)? {
                return Err(Misbehaviour::RemoveWithoutEffect);
            }
        }
        Ok(())
    }

    fn vote(&mut self, case: &Case<'_>, author: &Author, uri: &str) -> Result<()> {
        if case.changes.is_empty() {
            // A vote that is there already: the reference lets it pass, it does nothing.
            return Ok(());
        }
        self.only_own_device_and(case, author, |c| matches!(c.path, TreePath::Vote(..)))?;
        let mut votes = case.changes.iter().filter_map(|c| match c.path {
            TreePath::Vote(direction, target, voter) => Some((c, direction, target, voter)),
            _ => None,
        });
        let (change, direction, target, voter) =
            votes.next().ok_or(Misbehaviour::VoteWithoutFile)?;
        if let Some((second, ..)) = votes.next() {
            return Err(Misbehaviour::UnexpectedFile(second.path));
        }
        if !self.is_admin(case.before, author.account)? {
            return Err(Misbehaviour::VoteByNonAdmin);
        }
        if voter != author.account {
            return Err(Misbehaviour::VoteInOtherName);
        }
        match (change.old, change.new) {
            (None, Some(EMPTY_BLOB)) => {}
            (None, Some(_)) => return Err(Misbehaviour::VoteFileNotEmpty),
            _ => return Err(Misbehaviour::VoteNotNew),
        }
        if target.id() != uri {
            return Err(Misbehaviour::VoteMessageDiffers);
        }
        match target {
            Target::Device(device) => {
                if device == case.commit.device {
                    return Err(Misbehaviour::VoteAboutSelf);
                }
                // The reference asks this of unban too, which therefore never passes there.
                if direction == Direction::Ban
                    && !self.has(case.before, TreePath::device(device))?
                {
                    return Err(Misbehaviour::VoteAboutStranger);
                }
            }
            Target::Account(_, account) => {
                if account == author.account {
                    return Err(Misbehaviour::VoteAboutSelf);
                }
                let mut there = direction == Direction::Unban;
                for standing in [Standing::Member, Standing::Admin, Standing::Invited] {
                    there = there
                        || self.has(
                            case.before,
                            TreePath::Live(Target::Account(standing, account)),
                        )?;
                }
                if !there {
                    return Err(Misbehaviour::VoteAboutStranger);
                }
            }
        }
        Ok(())
    }

    /// A vote with its majority: files move into `banned/` or back, the votes go.
    fn resolve(
        &mut self,
        case: &Case<'_>,
        author: &Author,
        direction: Direction,
        uri: &str,
    ) -> Result<()> {
        let device: Option<DeviceId> = uri.parse().ok();
        let account = match device {
            Some(_) => None,
            None => Some(member_uri(uri)?),
        };
        let is_target = |t: &Target| match *t {
            Target::Device(d) => Some(d) == device,
            Target::Account(_, a) => Some(a) == account,
        };
        if !self.is_admin(case.before, author.account)? {
            return Err(Misbehaviour::BanByNonAdmin);
        }
        let mut voters = BTreeSet::new();
        let mut moved = false;
        for change in &case.changes {
            match change.path {
                TreePath::Vote(d, target, voter)
                    if d == direction && is_target(&target) && change.new.is_none() =>
                {
                    voters.insert(voter);
                }
                TreePath::Banned(target) if is_target(&target) => {
                    // What comes into `banned/` was there before, and what leaves it goes back.
                    let live = case.change(TreePath::Live(target));
                    let (from, to) = match direction {
                        Direction::Ban => (live.and_then(|c| c.old), change.new),
                        Direction::Unban => (change.old, live.and_then(|c| c.new)),
                    };
                    let gone = match direction {
                        Direction::Ban => live.is_some_and(|c| c.new.is_none()),
                        Direction::Unban => change.new.is_none(),
                    };
                    if from.is_none() || from != to || !gone {
                        return Err(Misbehaviour::BanChangesContent(change.path));
                    }
                    moved = true;
                }
                TreePath::Live(target) if is_target(&target) => {
                    let fits = match direction {
                        Direction::Ban => change.new.is_none(),
                        // Back to where they were banned from: not higher up.
                        Direction::Unban => {
                            let banned = case.change(TreePath::Banned(target));
                            change.old.is_none() && banned.is_some_and(|c| c.new.is_none())
                        }
                    };
                    if !fits {
                        return Err(Misbehaviour::BanChangesContent(change.path));
                    }
                }
                TreePath::Live(Target::Device(x))
                    if account.is_some() && x != case.commit.device =>
                {
                    let (tree, fits) = match direction {
                        Direction::Ban => (case.before, change.new.is_none()),
                        Direction::Unban => (case.after(), change.old.is_none()),
                    };
                    if !fits {
                        return Err(Misbehaviour::UnexpectedFile(change.path));
                    }
                    if self.account_of(tree, x)? != account {
                        return Err(Misbehaviour::ForeignDevice(x));
                    }
                }
                _ if self.own_device(case, author, change)? => {}
                _ => return Err(Misbehaviour::UnexpectedFile(change.path)),
            }
        }
        let admins = self.admins(case.before)?;
        let votes = voters.intersection(&admins).count();
        if votes.saturating_mul(2) <= admins.len() {
            return Err(Misbehaviour::BanWithoutMajority {
                votes,
                admins: admins.len(),
            });
        }
        if moved {
            Ok(())
        } else {
            Err(Misbehaviour::BanWithoutEffect)
        }
    }

    fn profile(&mut self, case: &Case<'_>, author: &Author) -> Result<()> {
        self.only_own_device_and(case, author, |c| c.path == TreePath::Profile)?;
        if self.is_admin(case.after(), author.account)? {
            Ok(())
        } else {
            Err(Misbehaviour::ProfileByNonAdmin)
        }
    }

    fn checkpoint(&mut self, case: &Case<'_>, author: &Author) -> Result<()> {
        if self.root()?.mode != ConversationMode::Document {
            return Err(Misbehaviour::CheckpointOutsideDocument);
        }
        for change in &case.changes {
            match (change.path, change.new) {
                (TreePath::Attachment(name), Some(blob)) if name == blob => {}
                (TreePath::Attachment(name), _) => {
                    return Err(Misbehaviour::AttachmentMisnamed(name));
                }
                _ if self.own_device(case, author, change)? => {}
                _ => return Err(Misbehaviour::UnexpectedFile(change.path)),
            }
        }
        Ok(())
    }

    /// Two parents become one: each path as on one of the sides, and no side's change dropped.
    pub(super) fn judge_merge(
        &mut self,
        commit: &Commit,
        trees: (ObjectId, ObjectId),
        bases: &[ObjectId],
    ) -> Result<Arc<Author>> {
        let author = self.author(commit.tree, commit.device)?;
        if self.has(commit.tree, TreePath::Banned(Target::Device(commit.device)))? {
            return Err(Misbehaviour::BannedDevice);
        }
        if !super::message::is_merge(&commit.message) {
            return Err(Misbehaviour::MergeWithMessage);
        }
        let (first, second) = trees;
        if first == second && commit.tree == first {
            return Ok(author);
        }
        let from_first = self.trees.diff(Some(first), Some(commit.tree))?;
        let from_second: BTreeSet<TreePath> = self
            .trees
            .diff(Some(second), Some(commit.tree))?
            .iter()
            .map(|c| c.path)
            .collect();
        if let Some(both) = from_first.iter().find(|c| from_second.contains(&c.path)) {
            return Err(Misbehaviour::MergeWithContent(both.path));
        }
        // Where the sides differ, a side that is as the common past was gives way.
        for change in self.trees.diff(Some(first), Some(second))? {
            let (left, right) = (change.old, change.new);
            // With several common pasts (histories that crossed), only what all of them say counts.
            let (mut left_old, mut right_old) = (!bases.is_empty(), !bases.is_empty());
            let (mut left_ever, mut right_ever) = (false, false);
            for base in bases {
                let before = self.trees.lookup(*base, &change.path)?;
                left_old = left_old && before == left;
                right_old = right_old && before == right;
                left_ever = left_ever || before == left;
                right_ever = right_ever || before == right;
            }
            let wanted = if left_old && !right_ever {
                right
            } else if right_old && !left_ever {
                left
            } else {
                continue;
            };
            let got = self.trees.lookup(commit.tree, &change.path)?;
            if got != wanted && !self.ban_takes(commit.tree, change.path, got)? {
                return Err(Misbehaviour::MergeUndoes(change.path));
            }
        }
        Ok(author)
    }

    /// Whether a path is gone from a tree because its account is banned there: a ban outlives
    /// whatever happened at the same time.
    fn ban_takes(&mut self, tree: ObjectId, path: TreePath, got: Option<ObjectId>) -> Result<bool> {
        let TreePath::Live(Target::Account(_, account)) = path else {
            return Ok(false);
        };
        Ok(got.is_none() && super::merge::is_banned(&mut self.trees, tree, account)?)
    }
}
