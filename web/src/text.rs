//! The words of the page: catalogues from `static/english.json` and `static/locales/`, never from the code.
//!
//! A catalogue is JSON: areas, in them keys, and for each key a text or the plural forms of one (`zero`, `one`, `two`,
//! `few`, `many`, `other`). `{name}` in a text is a place for a value.

use std::collections::BTreeMap;

/// The languages there are: their tag and their own name.
pub(crate) const LANGUAGES: [(&str, &str); 3] =
    [("en", "English"), ("ar", "العربية"), ("fr", "Français")];

/// Every page carries English, so that there is always something to say; no browser fetches it besides.
pub(crate) const ENGLISH: &str = include_str!("../../static/english.json");

/// A text, or the forms it takes with a number.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub(crate) enum Words {
    /// The same for every number.
    Plain(String),
    /// By plural category.
    Plural(BTreeMap<String, String>),
}

/// All words of one language.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Catalogue(BTreeMap<String, BTreeMap<String, Words>>);

impl Catalogue {
    /// Reads a locale file.
    pub(crate) fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The words for `area/key`.
    pub(crate) fn get(&self, key: &str) -> Option<&Words> {
        let (area, key) = key.split_once('/')?;
        self.0.get(area)?.get(key)
    }

    /// Every key there is.
    #[cfg(test)]
    fn keys(&self) -> impl Iterator<Item = (String, &Words)> {
        self.0.iter().flat_map(|(area, keys)| {
            keys.iter()
                .map(move |(key, words)| (format!("{area}/{key}"), words))
        })
    }
}

impl Words {
    /// The text for a plural category.
    pub(crate) fn for_category(&self, category: &str) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Plural(forms) => forms
                .get(category)
                .or_else(|| forms.get("other"))
                .map_or("", |s| s),
        }
    }
}

/// Puts values into their places. Places without a value stay as they are, values are never read for places.
pub(crate) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let value = after.split_once('}').and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(key, _)| *key == name)?;
            Some((*value, after))
        });
        match value {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A value as it stands in a sentence of the page's direction: one that reads the other way is held together, and what
/// stands beside it keeps its place.
pub(crate) fn isolate(value: &str, right_to_left: bool) -> std::borrow::Cow<'_, str> {
    let other = |c: char| c.is_alphabetic() && is_right_to_left(c) != right_to_left;
    match value.chars().any(other) {
        true => format!("\u{2068}{value}\u{2069}").into(),
        false => value.into(),
    }
}

/// Letters of the scripts that are written from right to left: their blocks in Unicode.
fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

/// The best of our languages for what a browser asks for, in its order of preference.
pub(crate) fn choose<'a>(wanted: impl IntoIterator<Item = &'a str>) -> &'static str {
    for tag in wanted {
        let primary = tag.split('-').next().unwrap_or_default();
        if let Some((ours, _)) = LANGUAGES
            .iter()
            .find(|(ours, _)| ours.eq_ignore_ascii_case(primary))
        {
            return ours;
        }
    }
    "en"
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn locale(tag: &str) -> Catalogue {
        if tag == "en" {
            return Catalogue::parse(ENGLISH).unwrap();
        }
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../static/locales/{tag}.json"));
        Catalogue::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn places(words: &Words) -> BTreeSet<String> {
        let texts: Vec<&String> = match words {
            Words::Plain(text) => vec![text],
            Words::Plural(forms) => forms.values().collect(),
        };
        let mut found = BTreeSet::new();
        for text in texts {
            for part in text.split('{').skip(1) {
                found.insert(part.split('}').next().unwrap().to_owned());
            }
        }
        found
    }

    /// Every string literal of the page's sources that has the form of a key.
    fn used() -> BTreeSet<String> {
        fn is_key(literal: &str) -> bool {
            let word = |s: &str| {
                !s.is_empty()
                    && s.bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            };
            literal
                .split_once('/')
                .is_some_and(|(area, key)| word(area) && word(key))
        }
        let areas: BTreeSet<String> = locale("en").0.keys().cloned().collect();
        let mut found = BTreeSet::new();
        let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                    continue;
                }
                let source = std::fs::read_to_string(&path).unwrap();
                for literal in source.split('"').filter(|l| is_key(l)) {
                    let (area, _) = literal.split_once('/').unwrap();
                    // A literal of another kind, as `text/plain`, names no area.
                    if areas.contains(area)
                        || !["text", "application", "image", "member"].contains(&area)
                    {
                        found.insert(literal.to_owned());
                    }
                }
            }
        }
        found
    }

    #[test]
    fn english_has_every_word_the_page_uses_and_no_other() {
        let english: BTreeSet<String> = locale("en").keys().map(|(key, _)| key).collect();
        let used = used();
        let missing: Vec<_> = used.difference(&english).collect();
        assert!(missing.is_empty(), "not in english.json: {missing:?}");
        let unused: Vec<_> = english
            .difference(&used)
            .filter(|key| !key.starts_with("meta/"))
            .collect();
        assert!(
            unused.is_empty(),
            "in english.json and used nowhere: {unused:?}"
        );
    }

    #[test]
    fn other_languages_have_no_unknown_words_and_the_same_places() {
        let english = locale("en");
        for (tag, _) in LANGUAGES {
            let other = locale(tag);
            for (key, words) in other.keys() {
                let ours = english
                    .get(&key)
                    .unwrap_or_else(|| panic!("{tag}.json: {key} is not in english.json"));
                // A form for exactly one or two may say it without the number.
                assert!(
                    places(words).is_subset(&places(ours)),
                    "{tag}.json: places of {key}"
                );
                if let (Words::Plural(_), Words::Plain(_)) = (ours, words) {
                    assert!(
                        places(words).contains("n"),
                        "{tag}.json: {key} forgets the number"
                    );
                }
            }
        }
    }

    #[test]
    fn the_other_languages_are_complete() {
        let english = locale("en");
        for (tag, _) in LANGUAGES {
            let other = locale(tag);
            let missing: Vec<_> = english
                .keys()
                .map(|(key, _)| key)
                .filter(|key| other.get(key).is_none())
                .collect();
            assert!(missing.is_empty(), "{tag}.json lacks {missing:?}");
        }
    }

    #[test]
    fn values_are_never_read_for_places() {
        assert_eq!(
            fill("{a} and {b}", &[("a", "{b}"), ("b", "x")]),
            "{b} and x"
        );
        assert_eq!(fill("{unknown} {", &[("a", "1")]), "{unknown} {");
    }

    #[test]
    fn a_value_that_reads_the_other_way_is_held_together() {
        assert_eq!(isolate("Bob-", false), "Bob-");
        assert_eq!(isolate("Денис", false), "Денис");
        assert_eq!(isolate("ليلى", true), "ليلى");
        assert_eq!(isolate("12:30", true), "12:30");
        assert_eq!(isolate("Really?", true), "\u{2068}Really?\u{2069}");
        assert_eq!(isolate("ليلى", false), "\u{2068}ليلى\u{2069}");
    }

    #[test]
    fn a_language_is_chosen_by_preference() {
        assert_eq!(choose(["de-AT", "fr-CA", "en"]), "fr");
        assert_eq!(choose(["zz"]), "en");
        assert_eq!(choose(["AR"]), "ar");
    }
}
