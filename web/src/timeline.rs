//! How a history is laid out: days, groups of one author, runs of system events, the line where unread begins.

/// What the layout needs to know of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Face {
    /// Its id.
    pub(crate) id: String,
    /// Who wrote it.
    pub(crate) author: String,
    /// When, as milliseconds since 1970.
    pub(crate) at: i64,
    /// The local day it falls on, as days since 1970.
    pub(crate) day: i64,
    /// An event (someone joined), not something that was said.
    pub(crate) system: bool,
}

/// A row of the history.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Row {
    /// A day begins. The time is that of its first message.
    Day { day: i64, at: i64 },
    /// What follows is unread.
    Unread,
    /// Something that was said. `first` and `last` in a group of the same author.
    Said { id: String, first: bool, last: bool },
    /// Events in a row, oldest first. Never empty.
    Events { ids: Vec<String> },
}

/// Messages of one author belong together until the author pauses this long.
const GROUP_GAP_MS: i64 = 5 * 60 * 1000;

/// Lays out messages, oldest first. `unread_after` is the last message that was read.
pub(crate) fn layout(faces: &[Face], own: &str, unread_after: Option<&str>) -> Vec<Row> {
    let read = unread_after.and_then(|id| faces.iter().position(|face| face.id == id));
    let unread = read.and_then(|read| {
        let later = faces.iter().enumerate().skip(read + 1);
        later
            .into_iter()
            .find(|(_, face)| face.author != own && !face.system)
            .map(|(index, _)| index)
    });
    // Whether a group ends before each message, and after the last.
    let mut breaks = Vec::with_capacity(faces.len() + 1);
    let mut previous: Option<&Face> = None;
    for (index, face) in faces.iter().enumerate() {
        breaks.push(
            Some(index) == unread
                || previous.is_none_or(|p| p.day != face.day || !together(p, face)),
        );
        previous = Some(face);
    }
    breaks.push(true);

    let mut rows: Vec<Row> = Vec::with_capacity(faces.len());
    let mut day = None;
    for (index, (face, pair)) in faces.iter().zip(breaks.windows(2)).enumerate() {
        if day.replace(face.day) != Some(face.day) {
            rows.push(Row::Day {
                day: face.day,
                at: face.at,
            });
        }
        if Some(index) == unread {
            rows.push(Row::Unread);
        }
        match (face.system, rows.last_mut()) {
            (true, Some(Row::Events { ids })) => ids.push(face.id.clone()),
            (true, _) => rows.push(Row::Events {
                ids: vec![face.id.clone()],
            }),
            (false, _) => rows.push(Row::Said {
                id: face.id.clone(),
                first: pair.first() == Some(&true),
                last: pair.last() == Some(&true),
            }),
        }
    }
    rows
}

fn together(a: &Face, b: &Face) -> bool {
    !a.system && !b.system && a.author == b.author && (b.at - a.at).abs() < GROUP_GAP_MS
}

/// A text of nothing but up to three emoji is shown large.
pub(crate) fn only_emoji(text: &str) -> bool {
    let text = text.trim();
    if text.is_empty() || text.len() > 60 {
        return false;
    }
    let mut pictures = 0;
    let mut joined = false;
    for c in text.chars() {
        match c {
            // Joiners, variation selectors, skin tones, tags and the second half of a flag belong to the picture before.
            '\u{200d}' => joined = true,
            '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}' | '\u{20e3}' => {}
            '\u{1f1e6}'..='\u{1f1ff}'
            | '\u{1f300}'..='\u{1faff}'
            | '\u{2600}'..='\u{27bf}'
            | '\u{2b50}'
            | '\u{2b55}'
            | '\u{2934}'
            | '\u{2935}'
            | '\u{231a}'..='\u{23ff}'
            | '\u{2b05}'..='\u{2b07}'
            | '\u{2b1b}'
            | '\u{2b1c}' => {
                if !joined {
                    pictures += 1;
                }
                joined = false;
            }
            c if c.is_whitespace() => {}
            _ => return false,
        }
    }
    (1..=6).contains(&pictures) && text.chars().filter(|c| !c.is_whitespace()).count() <= 18
}

/// A hue in degrees for an id: the same person has the same colour everywhere.
pub(crate) fn hue(id: &str) -> u16 {
    // FNV-1a: short, and spreads ids that differ in one digit.
    let hash = id.bytes().fold(0x811c_9dc5_u32, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    });
    // Steps of 15°, so that two people are either clearly apart or clearly the same.
    u16::try_from((hash >> 7) % 24).unwrap_or_default() * 15
}

/// Up to two letters that stand for a name.
pub(crate) fn initials(name: &str) -> String {
    // “E2” says less of “Élèves 2016” than “É” does.
    let begins = |word: &str| word.chars().find(|c| c.is_alphanumeric());
    let letters = name
        .split_whitespace()
        .filter_map(begins)
        .filter(|c| c.is_alphabetic());
    let mut words = letters.collect::<Vec<_>>().into_iter();
    if words.len() == 0 {
        words = name
            .split_whitespace()
            .filter_map(begins)
            .collect::<Vec<_>>()
            .into_iter();
    }
    let first = words.next();
    let last = words.next_back();
    match first {
        Some(c) => [Some(c), last]
            .into_iter()
            .flatten()
            .flat_map(char::to_uppercase)
            .collect(),
        None => name
            .chars()
            .find(|c| !c.is_whitespace())
            .map(String::from)
            .unwrap_or_default(),
    }
}

/// An id as people can compare it: its beginning and end.
pub(crate) fn short_id(id: &str) -> String {
    match (id.get(..6), id.get(id.len().saturating_sub(4)..)) {
        (Some(head), Some(tail)) if id.len() > 12 => format!("{head}…{tail}"),
        _ => id.to_owned(),
    }
}

/// The ends of an id within other words: they keep their order in languages of either direction.
pub(crate) fn short_id_within(id: &str) -> String {
    format!("\u{2066}{}\u{2069}", short_id(id))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn said(id: &str, author: &str, minutes: i64) -> Face {
        let at = minutes * 60_000;
        Face {
            id: id.into(),
            author: author.into(),
            at,
            day: at / 86_400_000,
            system: false,
        }
    }

    fn event(id: &str, minutes: i64) -> Face {
        Face {
            system: true,
            ..said(id, "bob", minutes)
        }
    }

    fn row(id: &str, first: bool, last: bool) -> Row {
        Row::Said {
            id: id.into(),
            first,
            last,
        }
    }

    #[test]
    fn an_author_keeps_a_group_until_another_speaks_or_time_passes() {
        let faces = [
            said("1", "alice", 0),
            said("2", "alice", 1),
            said("3", "bob", 1),
            said("4", "bob", 20),
        ];
        let rows = layout(&faces, "alice", None);
        let expected = [
            Row::Day { day: 0, at: 0 },
            row("1", true, false),
            row("2", false, true),
            row("3", true, true),
            row("4", true, true),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn midnight_breaks_a_group_on_both_sides() {
        let faces = [said("1", "bob", 1439), said("2", "bob", 1440)];
        let rows = layout(&faces, "alice", None);
        assert_eq!(rows[1], row("1", true, true));
        assert_eq!(
            rows[2],
            Row::Day {
                day: 1,
                at: 86_400_000
            }
        );
        assert_eq!(rows[3], row("2", true, true));
    }

    #[test]
    fn unread_begins_at_the_first_message_of_another() {
        let faces = [
            said("1", "bob", 0),
            said("2", "alice", 0),
            said("3", "bob", 1),
            said("4", "bob", 1),
        ];
        let rows = layout(&faces, "alice", Some("1"));
        let at = rows.iter().position(|row| *row == Row::Unread).unwrap();
        assert_eq!(rows[at + 1], row("3", true, false));
        assert_eq!(rows.iter().filter(|row| **row == Row::Unread).count(), 1);
        assert!(!layout(&faces, "alice", Some("4")).contains(&Row::Unread));
    }

    #[test]
    fn unread_inside_a_group_ends_what_was_read() {
        let faces = [said("1", "bob", 0), said("2", "bob", 0)];
        let rows = layout(&faces, "alice", Some("1"));
        assert_eq!(
            rows[1..],
            [row("1", true, true), Row::Unread, row("2", true, true)]
        );
    }

    #[test]
    fn events_in_a_row_fold() {
        let faces = [
            event("1", 0),
            event("2", 0),
            said("3", "bob", 0),
            event("4", 1),
        ];
        let rows = layout(&faces, "alice", None);
        assert_eq!(
            rows[1],
            Row::Events {
                ids: vec!["1".into(), "2".into()]
            }
        );
        assert_eq!(rows[2], row("3", true, true));
        assert_eq!(
            rows[3],
            Row::Events {
                ids: vec!["4".into()]
            }
        );
    }

    #[test]
    fn emoji_are_told_from_words() {
        for text in ["👍", "👩‍👩‍👧 🎉", "❤️", "🇫🇷"] {
            assert!(only_emoji(text), "{text}");
        }
        for text in ["", "ok", "1", "👍 ok", "سلام", "🎉🎉🎉🎉🎉🎉🎉🎉"] {
            assert!(!only_emoji(text), "{text}");
        }
    }

    #[test]
    fn names_have_initials_in_every_script() {
        assert_eq!(initials("Alice Liddell"), "AL");
        assert_eq!(initials("  alice  "), "A");
        assert_eq!(initials("王小明"), "王");
        assert_eq!(initials("ليلى حداد"), "لح");
        assert_eq!(initials("🦊"), "🦊");
        assert_eq!(initials("Élèves du cours de 7 h 2017"), "ÉH");
        assert_eq!(initials("Chorale 2016"), "C");
        assert_eq!(initials("2016"), "2");
        assert_eq!(initials(""), "");
    }
}
