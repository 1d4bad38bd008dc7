//! What is shown of a conversation: messages, pages of them, how far each got.

use super::folding;
use super::repo::{Repo, RepoError};
use starling_core::api::{self, Delivery, DeviceStatus, MessageStatus, PersonStatus};
use starling_core::id::{AccountId, DeviceId, ObjectId};
use starling_core::swarm::history::Entry;
use starling_core::swarm::members::Role;
use starling_core::swarm::message::ConversationMode;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most unread messages that are counted; beyond, "99+" is said anyway.
const MAX_UNREAD: usize = 1000;

/// Most messages that are held at a time to report them.
const SOME: usize = 256;

/// The step that all others have reached, who take part: those who were invited to a group and have
/// not come yet are not waited for. In a conversation of two there is nobody else.
fn reached(mode: ConversationMode, others: &[(Role, Delivery)]) -> Delivery {
    let two = mode == ConversationMode::OneToOne;
    let here = others
        .iter()
        .filter(|(role, _)| two || *role != Role::Invited);
    here.map(|(_, step)| *step).min().unwrap_or_default()
}

impl Repo {
    /// How far a message of ours got; nothing for those of others.
    pub fn status(&self, id: &ObjectId) -> MessageStatus {
        if self.timeline.author(id) != Some(self.own()) {
            return MessageStatus::default();
        }
        let has = |commit: &ObjectId| self.has(commit, id);
        let mut people: BTreeMap<AccountId, PersonStatus> = BTreeMap::new();
        let mut steps = Vec::new();
        for member in &self.snapshot.members {
            if member.id == self.own()
                || !matches!(member.role, Role::Admin | Role::Member | Role::Invited)
            {
                continue;
            }
            let mut person = PersonStatus::default();
            let mut devices: BTreeMap<DeviceId, DeviceStatus> = BTreeMap::new();
            for (device, (account, commit)) in &self.told {
                if account == &member.id && has(commit) {
                    devices.insert(
                        *device,
                        DeviceStatus {
                            state: Delivery::Told,
                            at: None,
                        },
                    );
                }
            }
            for (device, f) in &self.progress.fetched {
                if f.account == member.id && has(&f.commit) {
                    devices.insert(
                        *device,
                        DeviceStatus {
                            state: Delivery::Fetched,
                            at: Some(f.at),
                        },
                    );
                }
            }
            if let Some(best) = devices.values().max_by_key(|d| d.state) {
                person.state = best.state;
                person.at = best.at;
            }
            if let Some(r) = self
                .progress
                .read
                .get(&member.id)
                .filter(|r| has(&r.commit))
            {
                person.state = Delivery::Read;
                person.at = Some(r.at);
            } else if self.timeline.wrote_after(&member.id, id) {
                // Who answers has it.
                person.state = person.state.max(Delivery::Fetched);
            }
            person.devices = devices;
            steps.push((member.role, person.state));
            people.insert(member.id, person);
        }
        MessageStatus {
            state: Some(reached(self.snapshot.mode, &steps)),
            people,
        }
    }

    /// A message as the API shows it, with all its words.
    pub fn whole_message(&self, id: &ObjectId) -> Option<api::Message> {
        match self.timeline.whole(id) {
            Some(entry) => Some(self.to_api(&entry)),
            None => self.unaccepted(id),
        }
    }

    /// Some messages, those first that come first in `ids`, and takes them out of it: as many as are
    /// to be held at a time. What is not shown is passed over.
    pub fn some_messages(&self, ids: &mut VecDeque<ObjectId>) -> Vec<api::Message> {
        let (mut out, mut weight) = (Vec::new(), 0usize);
        while weight < folding::PAGE
            && out.len() < SOME
            && let Some(id) = ids.pop_front()
        {
            if let Some(message) = self.message(&id) {
                weight = weight.saturating_add(folding::message_weight(&message));
                out.push(message);
            }
        }
        out
    }

    /// A message as the API shows it.
    pub fn message(&self, id: &ObjectId) -> Option<api::Message> {
        match self.timeline.entry(id) {
            Some(entry) => Some(self.to_api(&entry)),
            None => self.unaccepted(id),
        }
    }

    fn to_api(&self, entry: &Entry) -> api::Message {
        let mut message = entry.to_api();
        message.received_at = self.timeline.came(&message.id).unwrap_or(message.sent_at);
        message.status = self.status(&message.id);
        self.say_what_about(&mut message);
        message
    }

    /// A piece of history. `None`: the message to start before is not shown here.
    pub fn page(
        &mut self,
        before: Option<&ObjectId>,
        limit: usize,
    ) -> Option<(Vec<api::Message>, bool)> {
        let mut page = self.page_of(before, limit);
        if self.timeline.is_behind(&self.head) {
            // Found out by reading.
            self.mend();
            page = self.page_of(before, limit);
        }
        page
    }

    /// What was found missing of the repository since this was asked last.
    pub fn take_damage(&self) -> Option<RepoError> {
        self.timeline.take_damage().map(RepoError::from)
    }

    fn page_of(
        &self,
        before: Option<&ObjectId>,
        limit: usize,
    ) -> Option<(Vec<api::Message>, bool)> {
        // What stands before a message that is in no history ends with the one it stands after.
        let place = before.and_then(|b| self.place_of(b));
        let (entries, more) = self.timeline.page(place.as_ref().or(before), limit)?;
        let mut page: Vec<api::Message> = entries.iter().map(|e| self.to_api(e)).collect();
        page.extend(place.and_then(|p| self.message(&p)));
        let mut page = self.with_unaccepted(page);
        if let Some(end) = before.and_then(|b| page.iter().position(|m| m.id == *b)) {
            page.truncate(end);
        }
        Some((page, more))
    }

    /// The newest message. Nothing is read of the repository.
    pub fn last_message(&self) -> Option<api::Message> {
        let last = self.timeline.last().map(|mut message| {
            message.status = self.status(&message.id);
            self.say_what_about(&mut message);
            message
        });
        self.last_or_kept(last)
    }

    /// How many messages of others came since one, texts, files and calls, or came `late`; and the last one before all of
    /// them, for a line that says from where on there is something new.
    pub fn unread(
        &self,
        read_up_to: Option<ObjectId>,
        late: &[ObjectId],
    ) -> (u32, Option<ObjectId>) {
        // What one wrote oneself, one has read up to.
        let since = self
            .timeline
            .unread(read_up_to.as_ref(), &self.own(), MAX_UNREAD);
        let late = self.late(late, read_up_to.as_ref());
        let line = match late.iter().min_by_key(|id| self.timeline.place(id)) {
            Some(first) => {
                let page = self.timeline.page(Some(first), 1);
                page.and_then(|(page, _)| page.first().map(|m| m.id()))
            }
            None => read_up_to,
        };
        let count = since.saturating_add(late.len());
        (u32::try_from(count).unwrap_or(u32::MAX), line)
    }

    /// Of these, what others wrote that says something and stands no later than what was read last: it came after that
    /// was read.
    pub fn late(&self, new: &[ObjectId], read_up_to: Option<&ObjectId>) -> Vec<ObjectId> {
        let (timeline, own) = (&self.timeline, self.own());
        let Some(last) = read_up_to.and_then(|id| timeline.place(id)) else {
            return Vec::new();
        };
        let late = |id: &&ObjectId| timeline.look(|rows| rows.is_of_others(&own, id, last));
        new.iter().filter(late).copied().collect()
    }

    /// Who wrote what was read by going on from one message to another, and what came late.
    pub fn authors_read(
        &self,
        before: Option<&ObjectId>,
        to: &ObjectId,
        late: &[ObjectId],
    ) -> BTreeSet<AccountId> {
        let place = |id| {
            self.timeline
                .place(id)
                .map_or(0, |place| place.saturating_add(1))
        };
        let end = place(to);
        let start = before
            .map_or(0, place)
            .max(end.saturating_sub(MAX_UNREAD as u64));
        let read = self.timeline.look(|rows| rows.authors(start..end));
        let late = late.iter().filter_map(|id| self.timeline.author(id));
        read.into_iter().chain(late).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_come_yet_is_not_waited_for() {
        use Delivery::{Fetched, Read, Saved};
        let group = |others: &[_]| reached(ConversationMode::InvitesOnly, others);
        let invited = (Role::Invited, Saved);
        assert_eq!(
            group(&[(Role::Member, Fetched), (Role::Admin, Read)]),
            Fetched
        );
        assert_eq!(group(&[(Role::Member, Fetched), invited]), Fetched);
        assert_eq!(
            group(&[(Role::Member, Saved), (Role::Invited, Read)]),
            Saved
        );
        assert_eq!(group(&[(Role::Invited, Fetched)]), Saved);
        assert_eq!(group(&[]), Saved);
        let two = |others: &[_]| reached(ConversationMode::OneToOne, others);
        assert_eq!(two(&[(Role::Invited, Fetched)]), Fetched);
        assert_eq!(two(&[invited]), Saved);
    }
}
