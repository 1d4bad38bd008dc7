//! Small errands in the browser: storage, the clipboard, times in words, files.

use crate::picture;
use leptos::prelude::*;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{HtmlElement, Storage};

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    js_sys::Date::now() as i64
}

/// The local day of a time, as days since 1970.
pub(crate) fn local_day(at_ms: i64) -> i64 {
    let date = js_sys::Date::new(&JsValue::from_f64(at_ms as f64));
    let offset_minutes = date.get_timezone_offset() as i64;
    (at_ms - offset_minutes * 60_000).div_euclid(86_400_000)
}

fn storage() -> Option<Storage> {
    window().local_storage().ok().flatten()
}

/// What was kept under a name. Storage may be forbidden: then nothing was.
pub(crate) fn recall(key: &str) -> Option<String> {
    storage()?
        .get_item(&format!("starling.{key}"))
        .ok()
        .flatten()
}

/// Keeps a text under a name; an empty text forgets it.
pub(crate) fn keep(key: &str, value: &str) {
    let Some(storage) = storage() else { return };
    let key = format!("starling.{key}");
    let _ = if value.is_empty() {
        storage.remove_item(&key)
    } else {
        storage.set_item(&key, value)
    };
}

/// Gives the page the theme and the contrast that were chosen.
pub(crate) fn apply_appearance() {
    let Some(root) = document().document_element() else {
        return;
    };
    for (key, attribute) in [("theme", "data-theme"), ("contrast", "data-contrast")] {
        let _ = match recall(key) {
            Some(value) => root.set_attribute(attribute, &value),
            None => root.remove_attribute(attribute),
        };
    }
}

/// Puts a text on the clipboard; true if that worked.
pub(crate) async fn copy(text: &str) -> bool {
    JsFuture::from(window().navigator().clipboard().write_text(text))
        .await
        .is_ok()
}

/// True if this browser can hand a text to other programs.
pub(crate) fn can_share() -> bool {
    js_sys::Reflect::has(&window().navigator(), &"share".into()).unwrap_or(false)
}

/// Hands a text to another program the person picks.
pub(crate) async fn share(text: &str) {
    let data = web_sys::ShareData::new();
    data.set_text(text);
    let _ = JsFuture::from(window().navigator().share_with_data(&data)).await;
}

/// Waits.
pub(crate) async fn sleep_ms(ms: i32) {
    let promise = js_sys::Promise::new(&mut |resolve, _| {
        let _ = window().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, ms);
    });
    let _ = JsFuture::from(promise).await;
}

/// Moves the focus to the element with this id, once it is there.
pub(crate) fn focus(id: &'static str) {
    focus_on(id.to_owned());
}

/// The same, for an id that is made.
pub(crate) fn focus_on(id: String) {
    request_animation_frame(move || {
        if let Some(element) = document()
            .get_element_by_id(&id)
            .and_then(|e| e.dyn_into::<HtmlElement>().ok())
        {
            let _ = element.focus();
        }
    });
}

/// The bytes of a file that a person picked, as base64.
pub(crate) async fn file_as_base64(file: &web_sys::File) -> Option<String> {
    use base64::Engine as _;
    let buffer = JsFuture::from(file.array_buffer()).await.ok()?;
    let bytes = js_sys::Uint8Array::new(&buffer).to_vec();
    Some(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// A picture file as a small square JPEG inside a `data:` URL; nothing if it is no picture.
pub(crate) async fn small_picture(file: &web_sys::File) -> Option<String> {
    if file.size() > picture::LARGEST_FILE {
        return None;
    }
    let bitmap = JsFuture::from(window().create_image_bitmap_with_blob(file).ok()?)
        .await
        .ok()?;
    let bitmap: web_sys::ImageBitmap = bitmap.dyn_into().ok()?;
    let (x, y, square) = picture::middle(bitmap.width(), bitmap.height());
    let side = picture::side(square);
    let canvas: web_sys::HtmlCanvasElement =
        document().create_element("canvas").ok()?.dyn_into().ok()?;
    canvas.set_width(side);
    canvas.set_height(side);
    let context: web_sys::CanvasRenderingContext2d =
        canvas.get_context("2d").ok()??.dyn_into().ok()?;
    // JPEG knows no transparency: what was clear becomes white, not black.
    context.set_fill_style_str("#fff");
    let (square, side) = (f64::from(square), f64::from(side));
    context.fill_rect(0.0, 0.0, side, side);
    context.set_image_smoothing_enabled(true);
    context
        .draw_image_with_image_bitmap_and_sw_and_sh_and_dx_and_dy_and_dw_and_dh(
            &bitmap,
            f64::from(x),
            f64::from(y),
            square,
            square,
            0.0,
            0.0,
            side,
            side,
        )
        .ok()?;
    bitmap.close();
    picture::QUALITIES.into_iter().find_map(|quality| {
        canvas
            .to_data_url_with_type_and_encoder_options("image/jpeg", &quality.into())
            .ok()
            .filter(|url| url.len() <= picture::LONGEST && picture::is_shown(url))
    })
}

/// Offers bytes as a download under a name.
pub(crate) fn download(name: &str, bytes: &[u8]) {
    let parts = js_sys::Array::of1(&js_sys::Uint8Array::from(bytes));
    let Ok(blob) = web_sys::Blob::new_with_u8_array_sequence(&parts) else {
        return;
    };
    let Ok(url) = web_sys::Url::create_object_url_with_blob(&blob) else {
        return;
    };
    if let Ok(link) = document().create_element("a") {
        let _ = link.set_attribute("href", &url);
        let _ = link.set_attribute("download", name);
        if let Some(link) = link.dyn_ref::<HtmlElement>() {
            link.click();
        }
    }
    let _ = web_sys::Url::revoke_object_url(&url);
}

/// The page's language in the way of the person's country, where the browser says which.
fn date_language() -> String {
    let language = crate::say::language();
    let mut wanted = window()
        .navigator()
        .languages()
        .iter()
        .filter_map(|v| v.as_string())
        .collect::<Vec<_>>()
        .into_iter();
    wanted
        .find(|tag| tag.split('-').next() == Some(language.as_str()))
        .unwrap_or(language)
}

/// Formats a time with the browser's own knowledge of languages.
fn format_date(at_ms: i64, options: &[(&str, &str)]) -> String {
    let settings = js_sys::Object::new();
    for (key, value) in options {
        let _ = js_sys::Reflect::set(&settings, &(*key).into(), &(*value).into());
    }
    js_sys::Date::new(&JsValue::from_f64(at_ms as f64))
        .to_locale_string(&date_language(), &settings)
        .into()
}

/// Hours and minutes.
pub(crate) fn clock(at_ms: i64) -> String {
    format_date(at_ms, &[("hour", "numeric"), ("minute", "2-digit")])
}

/// Everything about a time, for hovering and proofs.
pub(crate) fn full_time(at_ms: i64) -> String {
    format_date(at_ms, &[("dateStyle", "full"), ("timeStyle", "medium")])
}

/// A day as people say it: today, yesterday, Tuesday, 3 May, 3 May 2024.
pub(crate) fn day_in_words(at_ms: i64) -> String {
    let today = local_day(now_ms());
    match today - local_day(at_ms) {
        0 => crate::say::t("time/today"),
        1 => crate::say::t("time/yesterday"),
        2..=6 => format_date(at_ms, &[("weekday", "long")]),
        -1..=320 => format_date(
            at_ms,
            &[("weekday", "long"), ("day", "numeric"), ("month", "long")],
        ),
        _ => format_date(
            at_ms,
            &[("day", "numeric"), ("month", "long"), ("year", "numeric")],
        ),
    }
}

/// A day within a sentence: today, yesterday, on Tuesday, 3 May.
pub(crate) fn on_day(at_ms: i64) -> String {
    let day = [("weekday", "long"), ("day", "numeric"), ("month", "long")];
    match local_day(now_ms()) - local_day(at_ms) {
        0 => crate::say::t("time/just-today"),
        1 => crate::say::t("time/just-yesterday"),
        -1..=320 => crate::say::tf("time/on", &[("day", &format_date(at_ms, &day))]),
        _ => {
            let day = [("day", "numeric"), ("month", "long"), ("year", "numeric")];
            crate::say::tf("time/on", &[("day", &format_date(at_ms, &day))])
        }
    }
}

/// A time in the least space: the clock today, the weekday this week, the date before.
pub(crate) fn brief_time(at_ms: i64) -> String {
    match local_day(now_ms()) - local_day(at_ms) {
        ..=0 => clock(at_ms),
        1 => crate::say::t("time/yesterday"),
        2..=6 => format_date(at_ms, &[("weekday", "short")]),
        7..=320 => format_date(at_ms, &[("day", "numeric"), ("month", "short")]),
        _ => format_date(
            at_ms,
            &[
                ("day", "numeric"),
                ("month", "numeric"),
                ("year", "2-digit"),
            ],
        ),
    }
}

/// True where fingers point: there is no hovering, and a keyboard would cover the page.
pub(crate) fn by_touch() -> bool {
    window()
        .match_media("(pointer: coarse)")
        .ok()
        .flatten()
        .is_some_and(|m| m.matches())
}

/// True on machines whose keyboards have ⌘ where others have Ctrl.
pub(crate) fn on_mac() -> bool {
    let agent = window().navigator().user_agent().unwrap_or_default();
    ["Macintosh", "iPhone", "iPad"]
        .iter()
        .any(|mark| agent.contains(mark))
}

/// A day as it stands in names of files: 2026-11-28.
pub(crate) fn file_day(at_ms: i64) -> String {
    let date = js_sys::Date::new(&JsValue::from_f64(at_ms as f64));
    format!(
        "{:04}-{:02}-{:02}",
        date.get_full_year(),
        date.get_month() + 1,
        date.get_date()
    )
}

/// Brings an element into sight, no further than it needs.
pub(crate) fn into_sight(selector: &'static str) {
    request_animation_frame(move || {
        if let Ok(Some(element)) = document().query_selector(selector) {
            let nearest = web_sys::ScrollIntoViewOptions::new();
            nearest.set_block(web_sys::ScrollLogicalPosition::Nearest);
            element.scroll_into_view_with_scroll_into_view_options(&nearest);
        }
    });
}

/// True while the person has selected words on the page.
pub(crate) fn has_selection() -> bool {
    window()
        .get_selection()
        .ok()
        .flatten()
        .is_some_and(|s| !s.is_collapsed())
}

/// True if the person wants Enter to break the line, and Ctrl+Enter to send.
pub(crate) fn enter_breaks() -> bool {
    recall("enter").as_deref() == Some("breaks")
}
