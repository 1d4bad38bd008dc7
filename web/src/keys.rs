//! Who this browser is to the bridge: an Ed25519 key that scripts cannot read, kept in IndexedDB.
//!
//! The bridge prints an address with a code in its fragment, once. The page takes the code out of the address bar at
//! once, makes its key, and shows the bridge its public half. From then on each session is opened by a signature.

use crate::session::{self, challenge_text};
use js_sys::{Array, Promise, Reflect, Uint8Array};
use leptos::prelude::window;
use starling_core::api::{ApiError, ErrorCode};
use std::cell::RefCell;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbRequest, IdbTransactionMode, SubtleCrypto};

const DATABASE: &str = "starling";
const STORE: &str = "keys";

thread_local! {
    /// A code from the address bar that was not used yet.
    static CODE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What went wrong in the browser itself.
fn browser_error(what: &str) -> impl FnOnce(JsValue) -> ApiError {
    move |e| {
        let why = e
            .dyn_into::<js_sys::Error>()
            .map(|e| String::from(e.message()))
            .unwrap_or_default();
        ApiError::new(ErrorCode::Unsupported, format!("{what}: {why}"))
    }
}

/// Takes a code out of the address bar before anything else happens: it must not stay in the history.
pub(crate) fn take_code_from_address() {
    let hash = window().location().hash().unwrap_or_default();
    if let Some(code) = hash.strip_prefix("#pair=") {
        CODE.set(Some(code.to_owned()));
        if let Ok(history) = window().history() {
            let _ = history.replace_state_with_url(&JsValue::NULL, "", Some("/"));
        }
    }
}

/// Opens a session. False if this browser must be paired first.
pub(crate) async fn open_session() -> Result<bool, ApiError> {
    if let Some(code) = CODE.take() {
        match pair(&code).await {
            Ok(()) => return Ok(true),
            // The code may have been used by this very browser: its key still counts.
            Err(error) if error.code == ErrorCode::Offline => {
                CODE.set(Some(code));
                return Err(error);
            }
            Err(_) => {}
        }
    }
    if session::stands().await? {
        return Ok(true);
    }
    let Some((key, grant)) = stored().await? else {
        return Ok(false);
    };
    sign_in(&key, &grant).await
}

/// Shows the bridge a code and this browser's new key.
pub(crate) async fn pair(code: &str) -> Result<(), ApiError> {
    // A whole address may have been pasted.
    let code = code.rsplit("#pair=").next().unwrap_or(code).trim();
    let pair = key_pair().await?;
    let public = Reflect::get(&pair, &"publicKey".into()).map_err(browser_error("key"))?;
    let raw = promise(
        subtle()?
            .export_key("raw", public.unchecked_ref())
            .map_err(browser_error("key"))?,
    )
    .await?;
    let raw = Uint8Array::new(&raw).to_vec();
    let grant = session::pair(code, &raw, &name_of_browser()).await?;
    let private = Reflect::get(&pair, &"privateKey".into()).map_err(browser_error("key"))?;
    store("grant", &JsValue::from_str(&grant)).await?;
    match sign_in(&private, &grant).await? {
        true => Ok(()),
        false => Err(ApiError::new(ErrorCode::NotAuthorised, "")),
    }
}

async fn sign_in(key: &JsValue, grant: &str) -> Result<bool, ApiError> {
    let challenge = session::challenge().await?;
    let origin = window()
        .location()
        .origin()
        .map_err(browser_error("origin"))?;
    let text = challenge_text(&origin, &challenge);
    let signature = subtle()?
        .sign_with_str_and_u8_array("Ed25519", key.unchecked_ref(), text.as_bytes())
        .map_err(browser_error("key"))?;
    let signature = Uint8Array::new(&promise(signature).await?).to_vec();
    match session::open(grant, &challenge, &signature).await {
        Ok(()) => Ok(true),
        Err(error) if error.code == ErrorCode::NotAuthorised => Ok(false),
        Err(error) => Err(error),
    }
}

/// The key pair of this browser; the same one for every try, so that a lost answer costs nothing.
async fn key_pair() -> Result<JsValue, ApiError> {
    let kept = load("pair").await?;
    if !kept.is_undefined() {
        return Ok(kept);
    }
    let usages = Array::of2(&"sign".into(), &"verify".into());
    let pair = subtle()?
        .generate_key_with_str("Ed25519", false, &usages)
        .map_err(browser_error("key"))?;
    let pair = promise(pair).await?;
    store("pair", &pair).await?;
    Ok(pair)
}

async fn stored() -> Result<Option<(JsValue, String)>, ApiError> {
    let (pair, grant) = (load("pair").await?, load("grant").await?);
    let (false, Some(grant)) = (pair.is_undefined(), grant.as_string()) else {
        return Ok(None);
    };
    let private = Reflect::get(&pair, &"privateKey".into()).map_err(browser_error("key"))?;
    Ok(Some((private, grant)))
}

/// What the list of paired browsers calls this one.
fn name_of_browser() -> String {
    let agent = window().navigator().user_agent().unwrap_or_default();
    let find = |names: &[(&str, &'static str)]| {
        names
            .iter()
            .find(|(mark, _)| agent.contains(mark))
            .map(|(_, name)| *name)
    };
    let browser = find(&[
        ("Firefox/", "Firefox"),
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = find(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser}, {system}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "Browser".to_owned(),
    }
}

fn subtle() -> Result<SubtleCrypto, ApiError> {
    window()
        .crypto()
        .map(|c| c.subtle())
        .map_err(browser_error("WebCrypto"))
}

async fn promise(promise: Promise) -> Result<JsValue, ApiError> {
    JsFuture::from(promise)
        .await
        .map_err(browser_error("WebCrypto"))
}

/// Waits for a request to the browser's database.
async fn request(request: &IdbRequest) -> Result<JsValue, ApiError> {
    let promise = Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
    });
    JsFuture::from(promise).await.map_err(|_| {
        ApiError::new(
            ErrorCode::Unsupported,
            "The browser refuses to keep this page's key.",
        )
    })?;
    request.result().map_err(browser_error("IndexedDB"))
}

async fn database() -> Result<IdbDatabase, ApiError> {
    let factory =
        window().indexed_db().ok().flatten().ok_or_else(|| {
            ApiError::new(ErrorCode::Unsupported, "This browser has no IndexedDB.")
        })?;
    let opening = factory
        .open_with_u32(DATABASE, 1)
        .map_err(browser_error("IndexedDB"))?;
    let source = opening.clone();
    let upgrade = Closure::once(move || {
        if let Ok(database) = source.result().and_then(|d| d.dyn_into::<IdbDatabase>()) {
            let _ = database.create_object_store(STORE);
        }
    });
    opening.set_onupgradeneeded(Some(upgrade.as_ref().unchecked_ref()));
    request(&opening)
        .await?
        .dyn_into()
        .map_err(browser_error("IndexedDB"))
}

async fn load(name: &str) -> Result<JsValue, ApiError> {
    let database = database().await?;
    let transaction = database
        .transaction_with_str(STORE)
        .map_err(browser_error("IndexedDB"))?;
    let store = transaction
        .object_store(STORE)
        .map_err(browser_error("IndexedDB"))?;
    request(
        &store
            .get(&name.into())
            .map_err(browser_error("IndexedDB"))?,
    )
    .await
}

async fn store(name: &str, value: &JsValue) -> Result<(), ApiError> {
    let database = database().await?;
    let transaction = database
        .transaction_with_str_and_mode(STORE, IdbTransactionMode::Readwrite)
        .map_err(browser_error("IndexedDB"))?;
    let store = transaction
        .object_store(STORE)
        .map_err(browser_error("IndexedDB"))?;
    request(
        &store
            .put_with_key(value, &name.into())
            .map_err(browser_error("IndexedDB"))?,
    )
    .await?;
    Ok(())
}
