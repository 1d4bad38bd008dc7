//! Inside the worker: objects from the bridge, rules by core, signatures by the browser.

use super::{Answer, Change, Order, Proof, Subject, Verdict};
use crate::session::KEY_HEADER;
use js_sys::{Array, Object, Promise, Reflect, Uint8Array};
use starling_core::api::objects;
use starling_core::crypto::{SignatureAlgorithm, SignatureCheck};
use starling_core::id::{ConversationId, ObjectId};
use starling_core::swarm::history::{self, History};
use starling_core::swarm::misbehaviour::Misbehaviour;
use starling_core::swarm::object::{Kind, MemoryObjects, Objects as _};
use starling_core::swarm::validate::{Batch, Validation};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    AbortSignal, CryptoKey, DedicatedWorkerGlobalScope, Headers, MessageEvent, RequestInit,
    Response, SubtleCrypto,
};

/// How many commits' objects are fetched at once.
const PAGE: usize = 100;
/// Objects kept of one conversation; beyond it they are fetched again. A commit brings about four.
const KEPT: usize = 20_000;
/// How long one answer of the bridge may take, in milliseconds. All that is checked stands behind it in one row.
const PATIENCE: u32 = 30_000;

#[derive(Default)]
struct Desk {
    orders: VecDeque<Order>,
    busy: bool,
    objects: BTreeMap<ConversationId, MemoryObjects>,
    keys: BTreeMap<Vec<u8>, CryptoKey>,
}

/// Waits for orders, for ever.
pub(crate) fn run(scope: DedicatedWorkerGlobalScope) {
    let desk = Rc::new(RefCell::new(Desk::default()));
    let own = scope.clone();
    let heard = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        let Some(order) = event
            .data()
            .as_string()
            .and_then(|text| serde_json::from_str::<Order>(&text).ok())
        else {
            return;
        };
        desk.borrow_mut().orders.push_back(order);
        if !std::mem::replace(&mut desk.borrow_mut().busy, true) {
            let (scope, desk) = (own.clone(), desk.clone());
            spawn_local(async move { work(&scope, &desk).await });
        }
    });
    let _ = scope.add_event_listener_with_callback("message", heard.as_ref().unchecked_ref());
    heard.forget();
}

async fn work(scope: &DedicatedWorkerGlobalScope, desk: &Rc<RefCell<Desk>>) {
    loop {
        let Some(order) = desk.borrow_mut().orders.pop_front() else {
            break;
        };
        // The newest first: it brings the objects of those before it.
        for commit in order.commits.iter().rev() {
            let verdict = check(scope, desk, &order, *commit).await;
            if let Ok(text) = serde_json::to_string(&Answer {
                commit: *commit,
                verdict,
            }) {
                let _ = scope.post_message(&text.into());
            }
        }
    }
    desk.borrow_mut().busy = false;
}

async fn check(
    scope: &DedicatedWorkerGlobalScope,
    desk: &Rc<RefCell<Desk>>,
    order: &Order,
    commit: ObjectId,
) -> Verdict {
    let mut fetched = Vec::new();
    loop {
        let have = desk
            .borrow()
            .objects
            .get(&order.conversation)
            .is_some_and(|o| o.contains(&commit));
        let judged = if have {
            judge(&desk.borrow(), order.conversation, commit)
        } else {
            Err(Misbehaviour::MissingObject(commit))
        };
        match judged {
            Ok(batch) => return signatures(scope, desk, batch).await,
            // What an edit changes may stand farther back than one fetch reaches.
            Err(Misbehaviour::MissingObject(missing)) if fetched.len() < 2 => {
                let from = if fetched.is_empty() { commit } else { missing };
                if fetched.contains(&from) {
                    return Verdict::Unavailable(format!("object {missing} is missing"));
                }
                fetched.push(from);
                if let Err(why) = fetch(scope, desk, order, from).await {
                    return Verdict::Unavailable(why);
                }
            }
            Err(Misbehaviour::MissingObject(id)) => {
                return Verdict::Unavailable(format!("object {id} is missing"));
            }
            Err(fault) => {
                return Verdict::Invalid {
                    rule: fault.name(),
                    detail: fault.to_string(),
                };
            }
        }
    }
}

/// Everything but the signatures.
fn judge(
    desk: &Desk,
    conversation: ConversationId,
    commit: ObjectId,
) -> Result<Batch, Misbehaviour> {
    let empty = MemoryObjects::new();
    let objects = desk.objects.get(&conversation).unwrap_or(&empty);
    let mut validation = Validation::window(objects, conversation, vec![commit]);
    let batch = validation
        .next_batch(1)
        .map_err(|fault| *fault.misbehaviour)?;
    batch.ok_or(Misbehaviour::MissingObject(commit))
}

async fn signatures(
    scope: &DedicatedWorkerGlobalScope,
    desk: &Rc<RefCell<Desk>>,
    batch: Batch,
) -> Verdict {
    let Ok(subtle) = scope.crypto().map(|c| c.subtle()) else {
        return Verdict::Unavailable("no WebCrypto".to_owned());
    };
    let mut answers = Vec::with_capacity(batch.checks.len());
    for check in &batch.checks {
        match verify(&subtle, desk, check).await {
            Ok(answer) => answers.push(answer),
            Err(why) => return Verdict::Unavailable(why),
        }
    }
    if let Err(fault) = batch.verdict(&answers) {
        return Verdict::Invalid {
            rule: fault.misbehaviour.name(),
            detail: fault.misbehaviour.to_string(),
        };
    }
    let Some(accepted) = batch.commits.into_iter().next() else {
        return Verdict::Unavailable("nothing was judged".to_owned());
    };
    let (commit, author) = (&accepted.commit, &accepted.author);
    // What a reader would be shown of it, by the same code as in the bridge.
    let said = history::body(accepted.id, commit, author.account);
    let signed = History::fold([&accepted])
        .entries()
        .next()
        .map(|entry| Box::new(entry.to_api()));
    let change = said
        .as_ref()
        .filter(|said| said.fields.contains_key("edit"))
        .and_then(|said| {
            Some(Change {
                of: said.target()?,
                body: said.body().to_owned(),
            })
        });
    let field = |key: &str| said.as_ref().and_then(|said| said.fields.get(key).cloned());
    Verdict::Valid(Box::new(Proof {
        account: author.account,
        device: commit.device,
        standing: author.standing.directory().to_owned(),
        device_until: author.device_certificate.not_after(),
        chain: author
            .account_chain
            .iter()
            .map(|c| c.subject_cn().unwrap_or_default().to_owned())
            .collect(),
        signed_bytes: commit.signed.len(),
        signature: commit
            .signature
            .as_deref()
            .map(hex::encode)
            .unwrap_or_default(),
        key_bits: author.device_certificate.rsa_bits(),
        signatures: answers.len(),
        parents: commit.parents.clone(),
        time: commit.time,
        signed,
        change,
        subject: Subject {
            uri: field("uri"),
            action: field("action"),
        },
    }))
}

fn object(entries: &[(&str, &str)]) -> Object {
    let object = Object::new();
    for (key, value) in entries {
        let _ = Reflect::set(&object, &(*key).into(), &(*value).into());
    }
    object
}

/// Asks the browser about one signature. An error says that it could not be asked.
async fn verify(
    subtle: &SubtleCrypto,
    desk: &Rc<RefCell<Desk>>,
    check: &SignatureCheck,
) -> Result<bool, String> {
    let (import, verify) = match check.algorithm {
        SignatureAlgorithm::RsaPkcs1Sha256 => (
            object(&[("name", "RSASSA-PKCS1-v1_5"), ("hash", "SHA-256")]),
            object(&[("name", "RSASSA-PKCS1-v1_5")]),
        ),
        SignatureAlgorithm::RsaPkcs1Sha384 => (
            object(&[("name", "RSASSA-PKCS1-v1_5"), ("hash", "SHA-384")]),
            object(&[("name", "RSASSA-PKCS1-v1_5")]),
        ),
        SignatureAlgorithm::RsaPkcs1Sha512 => (
            object(&[("name", "RSASSA-PKCS1-v1_5"), ("hash", "SHA-512")]),
            object(&[("name", "RSASSA-PKCS1-v1_5")]),
        ),
        SignatureAlgorithm::EcdsaP384Sha384 => (
            object(&[("name", "ECDSA"), ("namedCurve", "P-384")]),
            object(&[("name", "ECDSA"), ("hash", "SHA-384")]),
        ),
    };
    let mut name = format!("{:?}", check.algorithm).into_bytes();
    name.extend_from_slice(&check.key);
    let known = desk.borrow().keys.get(&name).cloned();
    let key = match known {
        Some(key) => key,
        None => {
            let usages = Array::of1(&"verify".into());
            let promise = subtle.import_key_with_object(
                "spki",
                &Uint8Array::from(&*check.key),
                &import,
                false,
                &usages,
            );
            // A key that cannot be imported cannot have signed.
            let Ok(key) = settle(promise).await else {
                return Ok(false);
            };
            let key: CryptoKey = key.unchecked_into();
            desk.borrow_mut().keys.insert(name, key.clone());
            key
        }
    };
    let promise = subtle.verify_with_object_and_u8_array_and_u8_array(
        &verify,
        &key,
        &check.signature,
        &check.message,
    );
    settle(promise).await.map(|answer| answer.is_truthy())
}

async fn settle(promise: Result<Promise, JsValue>) -> Result<JsValue, String> {
    let words = |e: JsValue| {
        e.dyn_into::<js_sys::Error>()
            .map(|e| String::from(e.message()))
            .unwrap_or_else(|_| "the browser refused".to_owned())
    };
    match promise {
        Ok(promise) => JsFuture::from(promise).await.map_err(words),
        Err(error) => Err(words(error)),
    }
}

/// Brings the objects of some commits, from one of them backwards.
async fn fetch(
    scope: &DedicatedWorkerGlobalScope,
    desk: &Rc<RefCell<Desk>>,
    order: &Order,
    from: ObjectId,
) -> Result<(), String> {
    let path = format!(
        "/objects/{}/{}?from={from}&limit={PAGE}",
        order.account, order.conversation
    );
    let words = |_| "the browser refused";
    let settings = RequestInit::new();
    let headers = Headers::new().map_err(words)?;
    if let Some(key) = &order.key {
        headers.set(KEY_HEADER, key).map_err(words)?;
    }
    settings.set_headers(&headers);
    // Ends the answer's body as well, if that is what does not come.
    settings.set_signal(Some(&AbortSignal::timeout_with_u32(PATIENCE)));
    let response: Response = JsFuture::from(scope.fetch_with_str_and_init(&path, &settings))
        .await
        .map_err(|_| "the bridge cannot be reached")?
        .unchecked_into();
    if !response.ok() {
        return Err(format!("the bridge answered {}", response.status()));
    }
    let bytes = settle(response.array_buffer()).await?;
    let records = objects::read(&Uint8Array::new(&bytes).to_vec()).map_err(|e| e.to_string())?;
    let mut desk = desk.borrow_mut();
    let store = desk.objects.entry(order.conversation).or_default();
    if store.len() > KEPT {
        *store = MemoryObjects::new();
    }
    for record in records {
        let kind = match record.kind {
            objects::ObjectKind::Commit => Kind::Commit,
            objects::ObjectKind::Tree => Kind::Tree,
            objects::ObjectKind::Blob => Kind::Blob,
        };
        // Kept under the id of its content, whatever the bridge calls it.
        store.insert(kind, &record.content);
    }
    Ok(())
}
