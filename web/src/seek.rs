//! What was found by searching: the part of a text around the words, and the words in it.

/// How many characters stand before the first match in an excerpt.
const BEFORE: usize = 32;
/// How long an excerpt is, in characters.
const LENGTH: usize = 180;

/// A piece of an excerpt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The words.
    pub(crate) text: String,
    /// They are what was looked for.
    pub(crate) hit: bool,
}

/// Where the words of a query stand in a text, as ranges of characters, in order and apart.
fn hits(text: &[char], query: &str) -> Vec<(usize, usize)> {
    let lower = |c: char| c.to_lowercase().next().unwrap_or(c);
    let text: Vec<char> = text.iter().map(|c| lower(*c)).collect();
    let mut found = Vec::new();
    for word in query.split_whitespace() {
        let word: Vec<char> = word.chars().map(lower).collect();
        let starts = text.windows(word.len()).enumerate();
        found.extend(
            starts
                .filter(|(_, window)| *window == word.as_slice())
                .map(|(at, _)| (at, at + word.len())),
        );
    }
    found.sort_unstable();
    let mut apart: Vec<(usize, usize)> = Vec::with_capacity(found.len());
    for (from, to) in found {
        match apart.last_mut().filter(|(_, end)| from <= *end) {
            Some((_, end)) => *end = to.max(*end),
            None => apart.push((from, to)),
        }
    }
    apart
}

/// The part of a text around the first match.
pub(crate) fn excerpt(text: &str, query: &str) -> Vec<Part> {
    let text: Vec<char> = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .collect();
    let hits = hits(&text, query);
    let first = hits.first().map_or(0, |(from, _)| *from);
    let from = if first > BEFORE + 8 {
        first - BEFORE
    } else {
        0
    };
    let to = text.len().min(from + LENGTH);
    let mut parts: Vec<Part> = Vec::new();
    let mut push = |chars: &[char], hit: bool| {
        if !chars.is_empty() {
            parts.push(Part {
                text: chars.iter().collect(),
                hit,
            });
        }
    };
    if from > 0 {
        push(&['…'], false);
    }
    let mut at = from;
    for (start, end) in hits {
        let (start, end) = (start.clamp(at, to), end.clamp(at, to));
        push(text.get(at..start).unwrap_or_default(), false);
        push(text.get(start..end).unwrap_or_default(), true);
        at = end;
    }
    push(text.get(at..to).unwrap_or_default(), false);
    if to < text.len() {
        push(&['…'], false);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, query: &str) -> String {
        excerpt(text, query)
            .into_iter()
            .map(|p| {
                if p.hit {
                    format!("[{}]", p.text)
                } else {
                    p.text
                }
            })
            .collect()
    }

    #[test]
    fn words_are_found_whatever_their_case() {
        assert_eq!(
            shown("Bring the Tea\nplease", "tea bring"),
            "[Bring] the [Tea] please"
        );
        assert_eq!(shown("Çay", "çay"), "[Çay]");
        assert_eq!(shown("nothing", "tea"), "nothing");
        assert_eq!(shown("teatea", "tea"), "[teatea]");
        assert_eq!(shown("a", ""), "a");
        assert_eq!(shown("", "a"), "");
    }

    #[test]
    fn a_long_text_is_cut_around_the_first_match() {
        let text = format!("{} needle {}", "x".repeat(300), "y".repeat(300));
        let found = shown(&text, "needle");
        assert!(found.starts_with('…') && found.ends_with('…'), "{found}");
        assert!(found.contains("[needle]"));
        assert!(found.chars().count() <= LENGTH + 4);
    }
}
