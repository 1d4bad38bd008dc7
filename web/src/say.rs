//! Saying things in the person's language.

use crate::browser;
use crate::text::{Catalogue, ENGLISH, LANGUAGES, Words, choose, fill, isolate};
use leptos::prelude::*;
use std::cell::RefCell;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

struct Voice {
    tag: String,
    own: Catalogue,
    english: Catalogue,
    plural: js_sys::Intl::PluralRules,
    right_to_left: bool,
}

thread_local! {
    static VOICE: RefCell<Option<Voice>> = const { RefCell::new(None) };
}

/// The tag of the language in use.
pub(crate) fn language() -> String {
    VOICE.with_borrow(|voice| {
        voice
            .as_ref()
            .map_or_else(|| "en".to_owned(), |v| v.tag.clone())
    })
}

/// Takes the language that was chosen, or the browser's. Fetches its words unless they are English.
pub(crate) async fn start() {
    let chosen = browser::recall("language");
    let wanted: Vec<String> = match chosen {
        Some(tag) => vec![tag],
        None => window()
            .navigator()
            .languages()
            .iter()
            .filter_map(|v| v.as_string())
            .collect(),
    };
    speak(choose(wanted.iter().map(String::as_str))).await;
}

/// Changes the language of everything that is said from now on.
pub(crate) async fn speak(tag: &str) {
    let english = Catalogue::parse(ENGLISH).unwrap_or_default();
    let own = match tag {
        "en" => None,
        _ => fetch(tag).await,
    };
    let tag = if own.is_some() { tag } else { "en" };
    let plural =
        js_sys::Intl::PluralRules::new(&js_sys::Array::of1(&tag.into()), &js_sys::Object::new());
    let own = own.unwrap_or_default();
    let right_to_left = matches!(own.get("meta/dir"), Some(Words::Plain(dir)) if dir == "rtl");
    if let Some(root) = document().document_element() {
        let _ = root.set_attribute("lang", tag);
        let _ = root.set_attribute("dir", if right_to_left { "rtl" } else { "ltr" });
    }
    VOICE.set(Some(Voice {
        tag: tag.to_owned(),
        own,
        english,
        plural,
        right_to_left,
    }));
}

async fn fetch(tag: &str) -> Option<Catalogue> {
    // Only tags from our own list become a path.
    let (tag, _) = LANGUAGES.iter().find(|(ours, _)| *ours == tag)?;
    let response = JsFuture::from(window().fetch_with_str(&format!("/locales/{tag}.json")))
        .await
        .ok()?;
    let response: web_sys::Response = response.dyn_into().ok()?;
    if !response.ok() {
        return None;
    }
    let text = JsFuture::from(response.text().ok()?)
        .await
        .ok()?
        .as_string()?;
    Catalogue::parse(&text).ok()
}

fn with_words(key: &str, number: Option<i64>, values: &[(&str, &str)]) -> String {
    VOICE.with_borrow(|voice| {
        let Some(voice) = voice else {
            return String::new();
        };
        let Some(words) = voice.own.get(key).or_else(|| voice.english.get(key)) else {
            return key.to_owned();
        };
        let category = match number {
            Some(n) => voice
                .plural
                .select(n as f64)
                .as_string()
                .unwrap_or_default(),
            None => "other".to_owned(),
        };
        let values: Vec<_> = values
            .iter()
            .map(|(key, value)| (*key, isolate(value, voice.right_to_left)))
            .collect();
        let values: Vec<_> = values.iter().map(|(key, value)| (*key, &**value)).collect();
        fill(words.for_category(&category), &values)
    })
}

/// Whether one reads from right to left.
fn right_to_left() -> bool {
    VOICE.with_borrow(|voice| voice.as_ref().is_some_and(|v| v.right_to_left))
}

/// The words for a key.
pub(crate) fn t(key: &str) -> String {
    with_words(key, None, &[])
}

/// The words for a key, with values in their places.
pub(crate) fn tf(key: &str, values: &[(&str, &str)]) -> String {
    with_words(key, None, values)
}

/// The words for a key and a number, which stands at `{n}`.
pub(crate) fn tn(key: &str, number: usize, values: &[(&str, &str)]) -> String {
    let text = js_sys::Number::from(number as f64).to_locale_string(&language());
    let text = text.as_string().unwrap_or_else(|| number.to_string());
    let mut all = vec![("n", text.as_str())];
    all.extend_from_slice(values);
    with_words(key, i64::try_from(number).ok(), &all)
}

/// Names as a list in a sentence: “Ann, Ben and Cat”.
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        _ => {
            let all: js_sys::Array = names
                .iter()
                .map(|name| JsValue::from_str(&isolate(name, right_to_left())))
                .collect();
            let format = js_sys::Intl::ListFormat::new(
                &js_sys::Array::of1(&language().as_str().into()),
                &js_sys::Object::new(),
            );
            format.format(&all).into()
        }
    }
}
