//! Who is in a conversation, and what it calls itself.

use super::judge::Root;
use super::message::ConversationMode;
use super::path::{Direction, Standing, Target, TreePath};
use super::tree::{TreeFault, Trees};
use crate::id::{AccountId, DeviceId, ObjectId};
use std::collections::BTreeSet;

/// What an account is in a conversation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May ban and change the profile.
    Admin,
    /// May write and invite.
    Member,
    /// May come in.
    Invited,
    /// Was shut out.
    Banned,
    /// Was there once; known in one-to-one conversations only.
    Left,
}

/// Somebody in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// The account.
    pub id: AccountId,
    /// What it is.
    pub role: Role,
}

/// Everybody, as the reference lists them: admins, members, invited, banned, and in a
/// one-to-one conversation those of the first commit who are none of these.
pub fn members(
    trees: &mut Trees<'_>,
    tree: ObjectId,
    root: &Root,
) -> Result<Vec<Member>, TreeFault> {
    let mut out = Vec::new();
    let mut seen = BTreeSet::new();
    for (directory, role) in [
        (&["admins"][..], Role::Admin),
        (&["members"], Role::Member),
        (&["invited"], Role::Invited),
        (&["banned", "members"], Role::Banned),
        (&["banned", "invited"], Role::Banned),
        // The reference does not list banned admins; they are banned all the same.
        (&["banned", "admins"], Role::Banned),
    ] {
        for (name, _) in trees.list(tree, directory)? {
            let id = name.strip_suffix(".crt").unwrap_or(&name);
            if let Ok(id) = id.parse()
                && seen.insert(id)
            {
                out.push(Member { id, role });
            }
        }
    }
    if root.mode == ConversationMode::OneToOne {
        for id in [root.creator, root.invited].into_iter().flatten() {
            if seen.insert(id) {
                out.push(Member {
                    id,
                    role: Role::Left,
                });
            }
        }
    }
    Ok(out)
}

/// The role of one account, if it has any.
pub fn role(
    trees: &mut Trees<'_>,
    tree: ObjectId,
    root: &Root,
    account: AccountId,
) -> Result<Option<Role>, TreeFault> {
    let banned = |standing| TreePath::Banned(Target::Account(standing, account));
    for (path, role) in [
        (TreePath::admin(account), Role::Admin),
        (TreePath::member(account), Role::Member),
        (TreePath::invited(account), Role::Invited),
        (banned(Standing::Member), Role::Banned),
        (banned(Standing::Invited), Role::Banned),
        (banned(Standing::Admin), Role::Banned),
    ] {
        if trees.lookup(tree, &path)?.is_some() {
            return Ok(Some(role));
        }
    }
    let initial = root.mode == ConversationMode::OneToOne
        && [root.creator, root.invited].contains(&Some(account));
    Ok(initial.then_some(Role::Left))
}

/// The devices that have a certificate in a tree.
pub fn devices(
    trees: &mut Trees<'_>,
    tree: ObjectId,
) -> Result<Vec<(DeviceId, ObjectId)>, TreeFault> {
    Ok(trees
        .list(tree, &["devices"])?
        .into_iter()
        .filter_map(|(name, blob)| Some((name.strip_suffix(".crt")?.parse().ok()?, blob)))
        .collect())
}

/// The votes that are open in a tree: direction, target, voter.
pub fn votes(
    trees: &mut Trees<'_>,
    tree: ObjectId,
) -> Result<Vec<(Direction, Target, AccountId)>, TreeFault> {
    let mut out = Vec::new();
    for direction in trees.directories(tree, &["votes"])? {
        for kind in trees.directories(tree, &["votes", &direction])? {
            for target in trees.directories(tree, &["votes", &direction, &kind])? {
                for (voter, _) in trees.list(tree, &["votes", &direction, &kind, &target])? {
                    let parts = ["votes", &*direction, &*kind, &*target, &*voter];
                    if let Some(TreePath::Vote(direction, target, voter)) =
                        TreePath::from_parts(&parts)
                    {
                        out.push((direction, target, voter));
                    }
                }
            }
        }
    }
    Ok(out)
}

/// Largest profile read, bytes: an avatar fills the most of it. The reference has no limit; ours.
pub const MAX_PROFILE: usize = 8 << 20;

/// What a conversation says of itself: `profile.vcf`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    /// Title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Picture in base64, whatever format the writer chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// Account of the default host of calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdv_account: Option<String>,
    /// Device of the default host of calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdv_device: Option<String>,
}

impl Profile {
    /// Reads a vCard leniently, line by line up to the first `:`. What is unknown is skipped;
    /// what is longer than [`MAX_PROFILE`] is read up to there.
    pub fn parse(data: &[u8]) -> Self {
        let text = String::from_utf8_lossy(data.get(..MAX_PROFILE).unwrap_or(data));
        let mut out = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let field = match key {
                "FN" => &mut out.title,
                "DESCRIPTION" => &mut out.description,
                key if key.starts_with("PHOTO") => &mut out.avatar,
                key if key.starts_with("RDV_ACCOUNT") => &mut out.rdv_account,
                key if key.starts_with("RDV_DEVICE") => &mut out.rdv_device,
                _ => continue,
            };
            *field = Some(value.to_owned());
        }
        // The name of the property is written even without a picture.
        out.avatar = out.avatar.filter(|a| !a.is_empty());
        out
    }

    /// The vCard as the reference writes it: LF, two empty lines, none at the end.
    /// Line ends inside a value become spaces: the format has no way to keep them.
    pub fn to_vcard(&self) -> String {
        let clean = |v: &str| v.replace(['\r', '\n'], " ");
        let mut out = String::from("BEGIN:VCARD\nVERSION:2.1\n");
        let mut line = |key: &str, value: &Option<String>| {
            if let Some(value) = value {
                out.push_str(key);
                out.push(':');
                out.push_str(&clean(value));
                out.push('\n');
            }
        };
        line("FN", &self.title);
        line("DESCRIPTION", &self.description);
        out.push_str("PHOTO;ENCODING=BASE64");
        if let Some(avatar) = &self.avatar {
            out.push(':');
            out.push_str(&clean(avatar));
        }
        out.push('\n');
        if let Some(account) = &self.rdv_account {
            out.push_str("RDV_ACCOUNT:");
            out.push_str(&clean(account));
            out.push('\n');
        }
        out.push('\n');
        if let Some(device) = &self.rdv_device {
            out.push_str("RDV_DEVICE:");
            out.push_str(&clean(device));
            out.push('\n');
        }
        out.push_str("\nEND:VCARD");
        out
    }

    /// Takes over what another one sets.
    pub fn update(&mut self, change: Profile) {
        for (mine, theirs) in [
            (&mut self.title, change.title),
            (&mut self.description, change.description),
            (&mut self.avatar, change.avatar),
            (&mut self.rdv_account, change.rdv_account),
            (&mut self.rdv_device, change.rdv_device),
        ] {
            if theirs.is_some() {
                *mine = theirs;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_profile_survives(title in proptest::option::of("[^\r\n]{0,20}"), avatar in proptest::option::of("[A-Za-z0-9+/=]{1,40}")) {
            let profile = Profile { title, avatar, ..Profile::default() };
            prop_assert_eq!(Profile::parse(profile.to_vcard().as_bytes()), profile);
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Profile::parse(&bytes);
        }
    }
}
