//! The first minute: a name, an address, someone to talk to. The keys are made while the name is typed.

use super::address::Address;
use super::error_in_words;
use super::questions::Failure;
use crate::browser;
use crate::say::t;
use crate::state::{Question, State};
use leptos::html;
use leptos::prelude::*;
use starling_core::api::method::{AccountCreate, AccountImport, AccountRemove, AccountSetProfile};
use starling_core::api::{
    Account, AccountCreateParams, AccountImportParams, AccountParams, AccountSetProfileParams,
    ApiError, LocalAccountId,
};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::spawn_local;

/// Where in the first run someone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Name,
    Backup,
    Address,
}

/// How far the account is that is made while one types.
#[derive(Debug, Clone, PartialEq)]
enum Making {
    NotYet,
    Running,
    Made(LocalAccountId),
    Failed(ApiError),
}

/// True while there is no account, or the one there is has no name yet and the person was not asked.
pub(crate) fn needed(state: State) -> Memo<bool> {
    Memo::new(move |_| {
        state.first_run.get().is_some()
            || state.accounts.with(Vec::is_empty)
            || unnamed(state).is_some()
    })
}

/// Kept from the first letter of a name until it is saved: an account without a name is then one that was left half
/// way, by a reload say, and not one that wants none.
const BEGUN: &str = "first-run-begun";

/// An account that was made while someone typed, here or in another browser, and has no name yet.
fn unnamed(state: State) -> Option<LocalAccountId> {
    let here = browser::recall(BEGUN).is_some();
    let unused = || {
        state.conversations.with(|all| all.is_empty()) && state.contacts.with(|all| all.is_empty())
    };
    let only = state.accounts.with(Vec::len) == 1 && unused();
    let nameless = |all: &Vec<Account>| {
        all.iter()
            .find(|a| a.display_name.is_empty())
            .map(|a| a.id.clone())
    };
    if here || only {
        state.accounts.with(nameless)
    } else {
        None
    }
}

/// Shows an account that was just made or restored.
fn remember(account: Account, state: State) {
    let id = account.id.clone();
    state
        .accounts
        .update(|all| match all.iter_mut().find(|a| a.id == account.id) {
            Some(known) => *known = account,
            None => all.push(account),
        });
    // Its lists may have been read before they were whole.
    match state.account_id.get_untracked() == Some(id.clone()) {
        true => state.read_lists(),
        false => state.switch(id),
    }
}

/// Whether this is not the first account: then one can go back to what one has.
fn is_further(state: State) -> bool {
    state
        .accounts
        .with(|all| all.iter().any(|a| !a.display_name.is_empty()))
}

#[component]
pub(crate) fn FirstRun() -> impl IntoView {
    let state = State::get();
    let step = Memo::new(move |_| state.first_run.get().unwrap_or(Step::Name));
    let making = RwSignal::new(match untrack(|| unnamed(state)) {
        Some(id) => Making::Made(id),
        None => Making::NotYet,
    });
    view! {
        <main class="alone">
            <div class="card">
                <img class="mark" src="/icon.svg" alt="" width="48" height="48" />
                {move || match step.get() {
                    Step::Name => view! { <Name making=making /> }.into_any(),
                    Step::Backup => view! { <Backup making=making /> }.into_any(),
                    Step::Address => view! { <YourAddress /> }.into_any(),
                }}
            </div>
        </main>
        <super::questions::Questions />
    }
}

#[component]
fn Name(making: RwSignal<Making>) -> impl IntoView {
    let state = State::get();
    let name = RwSignal::new(String::new());
    let wanted = RwSignal::new(false);
    let begin = move || {
        if !matches!(making.get_untracked(), Making::NotYet | Making::Failed(_)) {
            return;
        }
        making.set(Making::Running);
        // The account may be announced before it is answered; the person stays here all the same.
        state.first_run.set(Some(Step::Name));
        browser::keep(BEGUN, "yes");
        spawn_local(async move {
            let none = AccountCreateParams {
                display_name: None,
                password: None,
                bootstrap: None,
                name_server: None,
                dht_proxy: None,
                turn: None,
            };
            match state.bridge().call::<AccountCreate>(none).await {
                Ok(account) if state.first_run.get_untracked().is_none() => {
                    // A backup was restored meanwhile: this one is not wanted.
                    let params = AccountParams {
                        account: account.id,
                    };
                    let _ = state.bridge().call::<AccountRemove>(params).await;
                    browser::keep(BEGUN, "");
                }
                Ok(account) => making.set(Making::Made(account.id)),
                Err(error) => {
                    wanted.try_set(false);
                    making.set(Making::Failed(error));
                }
            }
        });
    };
    // Once both the keys and the name are there.
    Effect::new(move |_| {
        let (true, Making::Made(account)) = (wanted.get(), making.get()) else {
            return;
        };
        let name = name.get_untracked().trim().to_owned();
        spawn_local(async move {
            let params = AccountSetProfileParams {
                account,
                display_name: Some(name),
                avatar: None,
            };
            match state.bridge().call::<AccountSetProfile>(params).await {
                Ok(account) => {
                    state.first_run.set(Some(Step::Address));
                    browser::keep(BEGUN, "");
                    remember(account, state);
                }
                Err(error) => {
                    wanted.try_set(false);
                    making.set(Making::Failed(error));
                }
            }
        });
    });
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        if !name.get_untracked().trim().is_empty() {
            wanted.set(true);
            begin();
        }
    };
    // What was begun while one typed is not wanted then.
    let cancel = move |_| {
        browser::keep(BEGUN, "");
        state.first_run.set(None);
        if let Making::Made(account) = making.get_untracked() {
            spawn_local(async move {
                let params = AccountParams { account };
                if let Err(error) = state.bridge().call::<AccountRemove>(params).await {
                    state.report(&error);
                }
            });
        }
    };
    browser::focus("first-name");
    view! {
        <div class="stack tight">
            <h1>{move || t(if is_further(state) { "rail/add-account" } else { "first/title" })}</h1>
            <p class="lead">{t("first/lead")}</p>
        </div>
        <form on:submit=submit>
            <div class="field">
                <label for="first-name">{t("first/name")}</label>
                <input id="first-name" class="input big" autocomplete="name" maxlength="80" required dir="auto"
                    placeholder=t("first/name-example") prop:value=name
                    on:input=move |event| {
                        name.set(event_target_value(&event));
                        begin();
                    } />
                <span class="hint">{t("first/name-hint")}</span>
            </div>
            <button class="button main wide" type="submit" disabled=move || name.with(|n| n.trim().is_empty()) || wanted.get()>
                {t("first/go")}
            </button>
            <p class="making" role="status">{move || match (wanted.get(), making.get()) {
                (true, _) => t("first/making"),
                (_, Making::Failed(_)) | (_, Making::NotYet) => String::new(),
                (_, Making::Running) => t("first/making-while"),
                (_, Making::Made(_)) => t("first/made"),
            }}</p>
            {move || match making.get() {
                Making::Failed(error) => Some(view! { <p class="note error" role="alert">{error_in_words(&error)}</p> }),
                _ => None,
            }}
        </form>
        <div class="others">
            <button class="button plain" type="button" on:click=move |_| state.first_run.set(Some(Step::Backup))>{t("first/have-backup")}</button>
            {move || is_further(state).then(|| view! {
                <button class="button plain" type="button" on:click=cancel>{t("common/cancel")}</button>
            })}
        </div>
    }
}

#[component]
fn Backup(making: RwSignal<Making>) -> impl IntoView {
    let state = State::get();
    let password = RwSignal::new(String::new());
    let file = StoredValue::new_local(None::<web_sys::File>);
    let input = NodeRef::<html::Input>::new();
    let chosen = RwSignal::new(String::new());
    let busy = RwSignal::new(false);
    let error = RwSignal::new(None::<ApiError>);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let Some(file) = file.get_value() else { return };
        busy.set(true);
        error.set(None);
        spawn_local(async move {
            let archive = browser::file_as_base64(&file).await.unwrap_or_default();
            let password = Some(password.get_untracked()).filter(|p| !p.is_empty());
            let params = AccountImportParams {
                archive,
                password,
                display_name: None,
                bootstrap: None,
            };
            match state.bridge().call::<AccountImport>(params).await {
                Ok(account) => {
                    // The one that was begun while a name was typed is not wanted.
                    if let Making::Made(unwanted) = making.get_untracked() {
                        let _ = state
                            .bridge()
                            .call::<AccountRemove>(AccountParams { account: unwanted })
                            .await;
                        browser::keep(BEGUN, "");
                    }
                    state.first_run.set(None);
                    remember(account, state);
                }
                Err(e) => error.set(Some(e)),
            }
            busy.try_set(false);
        });
    };
    let pick = move |event: web_sys::Event| {
        let input = event
            .target()
            .and_then(|t| t.dyn_into::<web_sys::HtmlInputElement>().ok());
        let picked = input.and_then(|i| i.files()).and_then(|files| files.get(0));
        chosen.set(picked.as_ref().map(web_sys::File::name).unwrap_or_default());
        file.set_value(picked);
        error.set(None);
    };
    view! {
        <div class="stack tight">
            <h1>{t("first/backup-title")}</h1>
            <p class="lead">{t("first/backup-lead")}</p>
        </div>
        <form on:submit=submit>
            <div class="field">
                <span class="label">{t("first/backup-file")}</span>
                <div class="row">
                    <button class="button" type="button" on:click=move |_| if let Some(input) = input.get_untracked() { input.click(); }>{t("first/backup-choose")}</button>
                    <span class="small file-name" role="status"><bdi>{move || chosen.get()}</bdi></span>
                </div>
                <input node_ref=input class="hidden-text" type="file" tabindex="-1" aria-hidden="true" data-testid="backup-file" accept=".gz,.jac,.zip,application/gzip,application/octet-stream" on:change=pick />
            </div>
            <div class="field">
                <label for="backup-password">{t("first/backup-password")}</label>
                <input id="backup-password" class="input" type="password" autocomplete="current-password" prop:value=password
                    on:input=move |event| password.set(event_target_value(&event)) />
                <span class="hint">{t("first/backup-password-hint")}</span>
            </div>
            <Failure error=error />
            <button class="button main wide" type="submit" disabled=move || busy.get() || chosen.with(String::is_empty)>
                {move || if busy.get() { t("first/backup-reading") } else { t("first/backup-go") }}
            </button>
        </form>
        <div class="others">
            <button class="button plain" type="button" on:click=move |_| state.first_run.set(Some(Step::Name))>{t("common/back")}</button>
        </div>
    }
}

#[component]
fn YourAddress() -> impl IntoView {
    let state = State::get();
    browser::focus("address-title");
    view! {
        <div class="stack tight">
            <h1 id="address-title" tabindex="-1">{t("first/address-title")}</h1>
            <p class="lead">{t("first/address-lead")}</p>
        </div>
        <Address />
        <div class="stack tight">
            <button class="button main wide" type="button" on:click=move |_| {
                state.first_run.set(None);
                state.question.set(Some(Question::AddPerson));
            }>{t("first/add-someone")}</button>
            <button class="button plain wide" type="button" on:click=move |_| state.first_run.set(None)>{t("first/later")}</button>
        </div>
    }
}
