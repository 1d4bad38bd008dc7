//! What happened in a conversation: events in a row that say the same become one line.

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// People were invited.
    Invited,
    /// People came in.
    Joined,
    /// People left.
    Left,
    /// Anything that always has a line of its own.
    Alone,
}

/// An event as far as folding needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Happening {
    /// The message.
    pub(crate) id: String,
    /// Who did it.
    pub(crate) by: String,
    /// What it was.
    pub(crate) deed: Deed,
    /// Whom it was about, where it was about somebody.
    pub(crate) whom: Option<String>,
}

/// One line of what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The last message it stands for: words and time come from it.
    pub(crate) id: String,
    /// Who did it.
    pub(crate) by: String,
    /// What it was.
    pub(crate) deed: Deed,
    /// Whom it was about, each once.
    pub(crate) whom: Vec<String>,
}

/// Lines of events in a row, oldest first.
pub(crate) fn lines(events: &[Happening]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for event in events {
        // Whoever comes in or goes does so by themselves: the line is about all of them.
        let alike = |line: &Line| {
            line.deed == event.deed
                && match event.deed {
                    Deed::Joined | Deed::Left => true,
                    Deed::Invited => line.by == event.by,
                    Deed::Alone => false,
                }
        };
        match lines.last_mut().filter(|line| alike(line)) {
            Some(line) => {
                line.id.clone_from(&event.id);
                line.by.clone_from(&event.by);
                for person in event.whom.iter() {
                    if !line.whom.contains(person) {
                        line.whom.push(person.clone());
                    }
                }
            }
            None => lines.push(Line {
                id: event.id.clone(),
                by: event.by.clone(),
                deed: event.deed,
                whom: event.whom.iter().cloned().collect(),
            }),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, by: &str, deed: Deed, whom: &str) -> Happening {
        Happening {
            id: id.into(),
            by: by.into(),
            deed,
            whom: Some(whom.to_owned()).filter(|w| !w.is_empty()),
        }
    }

    #[test]
    fn invitations_by_one_person_become_one_line() {
        let events = [
            event("1", "ann", Deed::Invited, "ben"),
            event("2", "ann", Deed::Invited, "cat"),
            event("3", "ben", Deed::Invited, "denys"),
            event("4", "ann", Deed::Invited, "eve"),
        ];
        let found = lines(&events);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].whom, ["ben", "cat"]);
        assert_eq!(found[0].id, "2");
        assert_eq!((found[1].by.as_str(), found[2].by.as_str()), ("ben", "ann"));
    }

    #[test]
    fn people_come_and_go_together() {
        let events = [
            event("1", "ben", Deed::Joined, "ben"),
            event("2", "cat", Deed::Joined, "cat"),
            event("3", "ben", Deed::Left, "ben"),
            event("4", "ben", Deed::Joined, "ben"),
        ];
        let found = lines(&events);
        let whom: Vec<_> = found.iter().map(|l| l.whom.join(" ")).collect();
        assert_eq!(whom, ["ben cat", "ben", "ben"]);
    }

    #[test]
    fn nobody_is_named_twice_and_votes_stay_apart() {
        let events = [
            event("1", "ann", Deed::Invited, "ben"),
            event("2", "ann", Deed::Invited, "ben"),
            event("3", "ann", Deed::Alone, ""),
            event("4", "ann", Deed::Alone, ""),
            event("5", "ann", Deed::Alone, "ben"),
            event("6", "ann", Deed::Alone, "ben"),
        ];
        let found = lines(&events);
        assert_eq!(found[0].whom, ["ben"]);
        let ids: Vec<_> = found.iter().map(|l| l.id.as_str()).collect();
        assert_eq!(ids, ["2", "3", "4", "5", "6"]);
    }
}
