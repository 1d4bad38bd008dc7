//! How people and the conversation itself are called, as its commits say.

use super::repo::Repo;
use super::timeline;
use starling_core::api;
use starling_core::id::{AccountId, ObjectId};
use starling_core::swarm::members::Profile;
use starling_core::swarm::write::Repository;

impl Repo {
    /// The name beside the newest message of somebody. Whoever writes chooses it freely, so it
    /// proves nothing; `None` where they gave none, which is written as the device's id.
    pub fn written_name(&self, who: &AccountId) -> Option<String> {
        let newest = self.timeline.newest_by(who)?;
        let commit = timeline::read(&*self.store, &newest).ok()?;
        Some(commit.name).filter(|name| !name.is_empty() && *name != commit.device.to_hex())
    }

    /// What a commit changed of title, description and picture. `None` if that cannot be read.
    pub(super) fn profile_change(&self, id: ObjectId) -> Option<api::ProfileChange> {
        let commit = timeline::read(&*self.store, &id).ok()?;
        let at = |id: ObjectId| -> Option<Profile> {
            Repository::new(&*self.store, self.id, id)
                .and_then(|mut r| r.profile())
                .ok()
        };
        let (before, after) = (at(*commit.parents.first()?)?, at(id)?);
        Some(change(before, after))
    }
}

fn change(before: Profile, after: Profile) -> api::ProfileChange {
    let new = |before: Option<String>, after: Option<String>| {
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        (before != after).then_some(after)
    };
    api::ProfileChange {
        title: new(before.title, after.title),
        description: new(before.description, after.description),
        avatar: new(before.avatar, after.avatar).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_changed_and_nothing_is_the_same_as_empty() {
        let profile = |title: &str, avatar: Option<&str>| Profile {
            title: Some(title.into()),
            avatar: avatar.map(Into::into),
            ..Profile::default()
        };
        let none = change(profile("a", Some("")), profile("a", None));
        assert_eq!(none, api::ProfileChange::default());
        let title = change(Profile::default(), profile("a", None));
        assert_eq!(title.title.as_deref(), Some("a"));
        assert!(!title.avatar && title.description.is_none());
        let gone = change(profile("a", Some("picture")), profile("", None));
        assert_eq!((gone.title.as_deref(), gone.avatar), (Some(""), true));
    }
}
