//! The page's side of the worker: what is on screen is asked about once, in batches.

use super::{Answer, Order, Verdict};
use crate::state::State;
use leptos::prelude::*;
use starling_core::api::Message;
use starling_core::id::{ConversationId, ObjectId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::{MessageEvent, Worker, WorkerOptions, WorkerType};

/// Asks the worker, and keeps what it said. Cheap to clone; all clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Checker(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    worker: Option<Worker>,
    known: BTreeMap<ObjectId, ArcRwSignal<Verdict>>,
    asked: BTreeMap<ConversationId, Vec<ObjectId>>,
}

/// The names of the program's two files, as index.html has them.
fn program() -> Option<(String, String, String)> {
    let attribute = |selector: &str, name: &str| {
        document()
            .query_selector(selector)
            .ok()
            .flatten()?
            .get_attribute(name)
    };
    let absolute = |path: String| {
        web_sys::Url::new_with_base(&path, &document().base_uri().ok()??)
            .ok()
            .map(|url| url.href())
    };
    Some((
        absolute(attribute("script[type=module][src*=boot]", "src")?)?,
        absolute(attribute("link[rel=modulepreload]", "href")?)?,
        absolute(attribute("link[rel=preload][as=fetch]", "href")?)?,
    ))
}

impl State {
    /// What the page found about a message as it is shown, now or later.
    pub(crate) fn judge(&self, conversation: ConversationId, message: &Message) -> Verdict {
        let of = |commit| {
            let checker = |checker: &Checker| checker.verdict(*self, conversation, commit);
            self.checker.with_value(checker).get()
        };
        let edit = message.edited_by.map(of);
        of(message.id).about(message, edit.as_ref())
    }
}

impl Checker {
    /// Starts no worker yet: most of a page's start needs none.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The verdict on a commit, now or later.
    pub(crate) fn verdict(
        &self,
        state: State,
        conversation: ConversationId,
        commit: ObjectId,
    ) -> ArcRwSignal<Verdict> {
        let mut inner = self.0.borrow_mut();
        if let Some(known) = inner.known.get(&commit) {
            return known.clone();
        }
        let signal = ArcRwSignal::new(Verdict::Pending);
        inner.known.insert(commit, signal.clone());
        let first = inner.asked.is_empty();
        inner.asked.entry(conversation).or_default().push(commit);
        if first {
            // One frame later everything that came on screen is asked about together.
            let this = self.clone();
            request_animation_frame(move || this.ask(state));
        }
        signal
    }

    /// Checks a commit again.
    pub(crate) fn again(&self, state: State, conversation: ConversationId, commit: ObjectId) {
        let known = self.0.borrow_mut().known.remove(&commit);
        let fresh = self.verdict(state, conversation, commit);
        if let Some(known) = known {
            known.set(Verdict::Pending);
            self.0.borrow_mut().known.insert(commit, known);
            drop(fresh);
        }
    }

    fn ask(&self, state: State) {
        let asked = std::mem::take(&mut self.0.borrow_mut().asked);
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        for (conversation, commits) in asked {
            let order = Order {
                account: account.clone(),
                conversation,
                commits,
                key: crate::session::key(),
            };
            let Ok(text) = serde_json::to_string(&order) else {
                continue;
            };
            match self.worker() {
                Some(worker) => drop(worker.post_message(&text.into())),
                None => {
                    for commit in order.commits {
                        self.answered(Answer {
                            commit,
                            verdict: Verdict::Unavailable("no worker".to_owned()),
                        });
                    }
                }
            }
        }
    }

    fn worker(&self) -> Option<Worker> {
        if let Some(worker) = &self.0.borrow().worker {
            return Some(worker.clone());
        }
        let (boot, js, wasm) = program()?;
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let worker = Worker::new_with_options(&boot, &options).ok()?;
        let this = self.clone();
        let heard = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            if let Some(answer) = event
                .data()
                .as_string()
                .and_then(|text| serde_json::from_str::<Answer>(&text).ok())
            {
                this.answered(answer);
            }
        });
        worker.set_onmessage(Some(heard.as_ref().unchecked_ref()));
        // The worker lives as long as the page.
        heard.forget();
        let names = js_sys::Object::new();
        let _ = js_sys::Reflect::set(&names, &"js".into(), &js.into());
        let _ = js_sys::Reflect::set(&names, &"wasm".into(), &wasm.into());
        worker.post_message(&names).ok()?;
        self.0.borrow_mut().worker = Some(worker.clone());
        Some(worker)
    }

    fn answered(&self, answer: Answer) {
        let signal = self.0.borrow().known.get(&answer.commit).cloned();
        if let Some(signal) = signal {
            signal.set(answer.verdict);
        }
    }
}
