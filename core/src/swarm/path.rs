//! The paths a swarm's tree may have, by meaning.

use crate::id::{AccountId, DeviceId, ObjectId};
use core::fmt;

/// What a vote or a ban is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Target {
    /// An account, kept under `admins`, `members` or `invited`.
    Account(Standing, AccountId),
    /// A device, kept under `devices`.
    Device(DeviceId),
}

/// The directory that says what an account is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Standing {
    /// `admins/`
    Admin,
    /// `members/`
    Member,
    /// `invited/`
    Invited,
}

impl Standing {
    /// The directory's name.
    pub fn directory(self) -> &'static str {
        match self {
            Standing::Admin => "admins",
            Standing::Member => "members",
            Standing::Invited => "invited",
        }
    }
}

/// For or against.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Direction {
    /// Away with them.
    Ban,
    /// Let them back.
    Unban,
}

impl Direction {
    /// The directory's name.
    pub fn directory(self) -> &'static str {
        match self {
            Direction::Ban => "ban",
            Direction::Unban => "unban",
        }
    }
}

/// A path in a swarm's tree. There are no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TreePath {
    /// `admins/<account>.crt`, `members/<account>.crt`, `invited/<account>`, `devices/<device>.crt`
    Live(Target),
    /// The same below `banned/`.
    Banned(Target),
    /// `votes/<direction>/<kind>/<target>/<voter>`
    Vote(Direction, Target, AccountId),
    /// `profile.vcf`
    Profile,
    /// `attachments/<blob>`, in documents only.
    Attachment(ObjectId),
}

impl TreePath {
    /// `admins/<account>.crt`
    pub fn admin(account: AccountId) -> Self {
        TreePath::Live(Target::Account(Standing::Admin, account))
    }
    /// `members/<account>.crt`
    pub fn member(account: AccountId) -> Self {
        TreePath::Live(Target::Account(Standing::Member, account))
    }
    /// `invited/<account>`
    pub fn invited(account: AccountId) -> Self {
        TreePath::Live(Target::Account(Standing::Invited, account))
    }
    /// `devices/<device>.crt`
    pub fn device(device: DeviceId) -> Self {
        TreePath::Live(Target::Device(device))
    }

    /// Reads a path given as its parts.
    pub fn from_parts(parts: &[&str]) -> Option<Self> {
        match parts {
            ["profile.vcf"] => Some(TreePath::Profile),
            ["attachments", name] => name.parse().ok().map(TreePath::Attachment),
            ["banned", kind, name] => Target::from_file(kind, name).map(TreePath::Banned),
            ["votes", direction, kind, target, voter] => {
                let direction = match *direction {
                    "ban" => Direction::Ban,
                    "unban" => Direction::Unban,
                    _ => return None,
                };
                Some(TreePath::Vote(
                    direction,
                    Target::from_id(kind, target)?,
                    voter.parse().ok()?,
                ))
            }
            [kind, name] => Target::from_file(kind, name).map(TreePath::Live),
            _ => None,
        }
    }

    /// The path as its parts.
    pub fn parts(&self) -> Vec<String> {
        match self {
            TreePath::Profile => vec!["profile.vcf".into()],
            TreePath::Attachment(id) => vec!["attachments".into(), id.to_hex()],
            TreePath::Live(target) => vec![target.directory().into(), target.file()],
            TreePath::Banned(target) => {
                vec!["banned".into(), target.directory().into(), target.file()]
            }
            TreePath::Vote(direction, target, voter) => vec![
                "votes".into(),
                direction.directory().into(),
                target.directory().into(),
                target.id(),
                voter.to_hex(),
            ],
        }
    }

    /// The directories that lead to places a swarm knows, from the root. Nothing else is entered.
    pub fn is_directory(parts: &[&str]) -> bool {
        const KINDS: [&str; 4] = ["admins", "members", "invited", "devices"];
        match parts {
            [] | ["banned"] | ["votes"] | ["attachments"] => true,
            [kind] | ["banned", kind] => KINDS.contains(kind),
            ["votes", direction] => matches!(*direction, "ban" | "unban"),
            ["votes", "ban" | "unban", kind] => KINDS.contains(kind),
            ["votes", "ban" | "unban", kind, target] => Target::from_id(kind, target).is_some(),
            _ => false,
        }
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts().join("/"))
    }
}

impl Target {
    /// The directory it is kept in.
    pub fn directory(&self) -> &'static str {
        match self {
            Target::Account(standing, _) => standing.directory(),
            Target::Device(_) => "devices",
        }
    }

    /// The id as text.
    pub fn id(&self) -> String {
        match self {
            Target::Account(_, account) => account.to_hex(),
            Target::Device(device) => device.to_hex(),
        }
    }

    fn file(&self) -> String {
        match self {
            Target::Account(Standing::Invited, account) => account.to_hex(),
            _ => format!("{}.crt", self.id()),
        }
    }

    fn from_id(kind: &str, id: &str) -> Option<Self> {
        Some(match kind {
            "admins" => Target::Account(Standing::Admin, id.parse().ok()?),
            "members" => Target::Account(Standing::Member, id.parse().ok()?),
            "invited" => Target::Account(Standing::Invited, id.parse().ok()?),
            "devices" => Target::Device(id.parse().ok()?),
            _ => return None,
        })
    }

    fn from_file(kind: &str, file: &str) -> Option<Self> {
        match kind {
            "invited" => Self::from_id(kind, file),
            _ => Self::from_id(kind, file.strip_suffix(".crt")?),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(path: &str) -> Option<TreePath> {
        TreePath::from_parts(&path.split('/').collect::<Vec<_>>())
    }

    #[test]
    fn only_the_layout_is_known() {
        let (a, d) = ("a".repeat(40), "d".repeat(64));
        for good in [
            "profile.vcf".to_owned(),
            format!("admins/{a}.crt"),
            format!("members/{a}.crt"),
            format!("invited/{a}"),
            format!("devices/{d}.crt"),
            format!("banned/members/{a}.crt"),
            format!("banned/invited/{a}"),
            format!("banned/devices/{d}.crt"),
            format!("votes/ban/members/{a}/{a}"),
            format!("votes/unban/devices/{d}/{a}"),
            format!("attachments/{a}"),
        ] {
            let path = parse(&good).unwrap_or_else(|| panic!("{good}"));
            assert_eq!(path.to_string(), good);
            let parts: Vec<_> = good.split('/').collect();
            for n in 0..parts.len() {
                assert!(TreePath::is_directory(&parts[..n]), "{good} {n}");
            }
        }
        for bad in [
            "readme".to_owned(),
            format!("admins/{}.crt", "A".repeat(40)),
            format!("admins/{a}"),
            format!("invited/{a}.crt"),
            format!("devices/{a}.crt"),
            format!("members/{d}.crt"),
            format!("votes/ban/members/{a}"),
            format!("votes/maybe/members/{a}/{a}"),
            format!("banned/banned/members/{a}.crt"),
            "profile.vcf/x".to_owned(),
            format!("CRLs/{a}"),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_answered(parts in proptest::collection::vec("[a-z0-9.]{0,70}", 0..6)) {
            let parts: Vec<_> = parts.iter().map(String::as_str).collect();
            if let Some(path) = TreePath::from_parts(&parts) {
                prop_assert_eq!(path.parts(), parts);
            }
        }
    }
}
