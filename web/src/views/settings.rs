//! Settings: how the page looks, who one is, which browsers may come in.

use super::address::Address;
use super::questions::{Failure, Password};
use crate::browser::{self, brief_time};
use crate::devices::Listed;
use crate::parts::{Icon, PersonFace, Photo, turning_icon};
use crate::say::{self, t, tf};
use crate::state::{Place, Question, State};
use crate::text::LANGUAGES;
use crate::timeline::short_id_within;
use leptos::prelude::*;
use starling_core::api::method::{AccountSetProfile, DeviceList, PairingList, PairingStart};
use starling_core::api::{
    AccountParams, AccountSetProfileParams, ApiError, Device, Grant, Nothing, PairingCode,
    PairingStartParams, Role,
};
use wasm_bindgen_futures::spawn_local;

#[component]
pub(crate) fn Settings() -> impl IntoView {
    view! {
        <main class="pane conversation-pane" aria-label=t("rail/settings")>
            <header class="pane-head">
                <button class="icon-button back" type="button" aria-label=t("common/back-to-list") on:click=move |_| Place::List.go()>{turning_icon(Icon::Back)}</button>
                <div class="titles"><h1>{t("rail/settings")}</h1></div>
            </header>
            <div class="pane-body">
                <div class="page-pane">
                    <Profile />
                    <Looks />
                    <Writing />
                    <Browsers />
                    <Blocked />
                    <Devices />
                    <Account />
                </div>
            </div>
        </main>
    }
}

/// One of several in a list: what it is called, what there is to say of it, its id if it is to be copied, and what
/// can be asked about it with the word for that.
fn entry(
    state: State,
    kind: &'static str,
    name: String,
    facts: String,
    id: Option<String>,
    ask: Option<(&'static str, Question)>,
) -> impl IntoView {
    let small = id.is_some();
    view! {
        <div role="group" aria-label=name.clone() data-testid=kind>
            <span class="what"><bdi>{name.clone()}</bdi><br /><span class="small quiet">{facts}</span></span>
            {id.map(|id| view! { <super::address::Copying text=id plain=true /> })}
            {ask.map(|(word, question)| view! {
                <button class="button danger" class:small-button=small type="button" on:click=move |_| state.question.set(Some(question.clone()))>{t(word)}</button>
            })}
        </div>
    }
}

/// One choice among few.
#[component]
fn Choice(
    name: &'static str,
    options: Vec<(&'static str, String)>,
    chosen: Signal<String>,
    on_choose: Callback<String>,
    label: String,
) -> impl IntoView {
    view! {
        <div class="choice" role="radiogroup" aria-label=label>
            {options.into_iter().map(|(value, text)| view! {
                <label>
                    <input type="radio" name=name value=value prop:checked=move || chosen.get() == value on:change=move |_| on_choose.run(value.to_owned()) />
                    <span>{text}</span>
                </label>
            }).collect_view()}
        </div>
    }
}

#[component]
fn Looks() -> impl IntoView {
    let state = State::get();
    let theme = RwSignal::new(browser::recall("theme").unwrap_or_else(|| "system".to_owned()));
    let contrast =
        RwSignal::new(browser::recall("contrast").unwrap_or_else(|| "system".to_owned()));
    let kept = move |signal: RwSignal<String>, key: &'static str| {
        Callback::new(move |value: String| {
            browser::keep(key, if value == "system" { "" } else { &value });
            browser::apply_appearance();
            signal.set(value);
        })
    };
    let speak = move |event: web_sys::Event| {
        let tag = event_target_value(&event);
        browser::keep("language", &tag);
        spawn_local(async move {
            say::speak(&tag).await;
            state.language.update(|n| *n += 1);
        });
    };
    let now = say::language();
    view! {
        <section>
            <h2>{t("settings/looks")}</h2>
            <div class="rows">
                <div><span class="what">{t("settings/theme")}</span>
                    <Choice name="theme" label=t("settings/theme") chosen=theme.into() on_choose=kept(theme, "theme")
                        options=vec![("system", t("settings/as-system")), ("light", t("settings/light")), ("dark", t("settings/dark"))] /></div>
                <div><span class="what">{t("settings/contrast")}</span>
                    <Choice name="contrast" label=t("settings/contrast") chosen=contrast.into() on_choose=kept(contrast, "contrast")
                        options=vec![("system", t("settings/as-system")), ("more", t("settings/more-contrast"))] /></div>
                <div><label class="what" for="language">{t("settings/language")}</label>
                    <select id="language" class="input short" on:change=speak>
                        {LANGUAGES.into_iter().map(|(tag, name)| view! { <option value=tag lang=tag selected=tag == now>{name}</option> }).collect_view()}
                    </select></div>
            </div>
        </section>
    }
}

#[component]
fn Writing() -> impl IntoView {
    let now = if browser::enter_breaks() {
        "breaks"
    } else {
        "sends"
    };
    let enter = RwSignal::new(now.to_owned());
    let choose = Callback::new(move |value: String| {
        browser::keep("enter", if value == "sends" { "" } else { &value });
        enter.set(value);
    });
    view! {
        <section>
            <h2>{t("settings/writing")}</h2>
            <div class="rows">
                <div><span class="what">{t("settings/enter")}</span>
                    <Choice name="enter" label=t("settings/enter") chosen=enter.into() on_choose=choose
                        options=vec![("sends", t("settings/enter-sends")), ("breaks", t("settings/enter-breaks"))] /></div>
            </div>
        </section>
    }
}

#[component]
fn Profile() -> impl IntoView {
    let state = State::get();
    let name = RwSignal::new(
        state
            .account_untracked()
            .map(|a| a.display_name)
            .unwrap_or_default(),
    );
    let picture = RwSignal::new(untrack(|| state.me().and_then(|me| state.picture_of(&me))));
    let saved = RwSignal::new(false);
    // Another picture is something to save, too.
    Effect::new(move |before: Option<Option<String>>| {
        let now = picture.get();
        if before.is_some_and(|before| before != now) {
            saved.set(false);
        }
        now
    });
    let error = RwSignal::new(None::<ApiError>);
    let same = move || {
        state.account().is_none_or(|a| {
            a.display_name == name.get().trim()
                && a.avatar.unwrap_or_default() == picture.get().unwrap_or_default()
        })
    };
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let Some(account) = state.account_untracked() else {
            return;
        };
        let avatar = picture.get_untracked();
        let params = AccountSetProfileParams {
            account: account.id,
            display_name: Some(name.get_untracked().trim().to_owned()),
            // An empty one takes it away.
            avatar: (avatar != account.avatar).then(|| avatar.unwrap_or_default()),
        };
        spawn_local(async move {
            match state.bridge().call::<AccountSetProfile>(params).await {
                Ok(account) => {
                    state.accounts.update(|all| {
                        if let Some(known) = all.iter_mut().find(|a| a.id == account.id) {
                            *known = account;
                        }
                    });
                    error.try_set(None);
                    saved.try_set(true);
                }
                Err(e) => drop(error.try_set(Some(e))),
            }
        });
    };
    let face = untrack(|| state.me())
        .map(|me| me.to_hex())
        .unwrap_or_default();
    view! {
        <section>
            <h2>{t("settings/you")}</h2>
            <form class="with-photo" on:submit=submit>
                <Photo id=face name=name picture=picture />
                <div class="field grows">
                    <label for="own-name">{t("first/name")}</label>
                    <input id="own-name" class="input" dir="auto" maxlength="80" placeholder=" " prop:value=name
                        on:input=move |event| { name.set(event_target_value(&event)); saved.set(false); } />
                </div>
                <button class="button at-end" type="submit" disabled=move || name.with(|n| n.trim().is_empty()) || same()>
                    {move || if saved.get() { t("settings/saved") } else { t("settings/save") }}
                </button>
            </form>
            <Failure error=error />
            <h3>{t("address/title")}</h3>
            <div class="address-card"><Address /></div>
        </section>
    }
}

#[component]
fn Browsers() -> impl IntoView {
    let state = State::get();
    let grants = RwSignal::new(None::<Vec<Grant>>);
    let code = RwSignal::new(None::<PairingCode>);
    let error = RwSignal::new(None::<ApiError>);
    let read = move || {
        spawn_local(async move {
            match state.bridge().call::<PairingList>(Nothing {}).await {
                Ok(list) => drop(grants.try_set(Some(list))),
                Err(e) => drop(error.try_set(Some(e))),
            }
        });
    };
    // Read again when one of them was shut out.
    Effect::new(move |_| {
        state.pairings.track();
        read();
    });
    let start = move |_| {
        let params = PairingStartParams {
            role: Role::Owner,
            account: None,
            conversations: Vec::new(),
        };
        spawn_local(async move {
            match state.bridge().call::<PairingStart>(params).await {
                Ok(new) => {
                    code.try_set(Some(new));
                    browser::into_sight("#new-code");
                }
                Err(e) => drop(error.try_set(Some(e))),
            }
        });
    };
    view! {
        <section>
            <h2>{t("settings/browsers")}</h2>
            <p class="quiet">{t("settings/browsers-help")}</p>
            <div class="rows">
                {move || grants.get().unwrap_or_default().into_iter().map(|grant| {
                    let question = Question::Unpair(grant.id.clone(), (!grant.current).then(|| grant.name.clone()));
                    let current = grant.current;
                    let seen = match (current, grant.last_seen) {
                        (true, _) => t("settings/this-browser"),
                        (false, Some(at)) => tf("settings/last-seen", &[("time", &brief_time(at))]),
                        (false, None) => t("settings/never-seen"),
                    };
                    let word = if current { "settings/sign-out-ask" } else { "settings/revoke-ask" };
                    entry(state, "browser", grant.name, seen, None, Some((word, question)))
                }).collect_view()}
                <div><span class="what">{t("settings/pair-another")}</span>
                    <button class="button" type="button" on:click=start>{t("settings/make-code")}</button></div>
            </div>
            {move || code.get().map(|code| view! {
                <div class="note good stack tight" id="new-code">
                    <p>{tf("settings/code-until", &[("time", &browser::clock(code.expires))])}</p>
                    <p class="address">{code.url.clone()}</p>
                    <super::address::Copying text=code.url.clone() />
                    <p>{t("settings/code-typed")}</p>
                    <p class="address" data-testid="code">{code.code.clone()}</p>
                </div>
            })}
            <Failure error=error />
        </section>
    }
}

/// Who was blocked, and the way back for them.
#[component]
fn Blocked() -> impl IntoView {
    let state = State::get();
    let people = Memo::new(move |_| {
        state.contacts.with(|all| {
            let blocked = all.values().filter(|c| c.blocked);
            blocked.map(|c| c.id).collect::<Vec<_>>()
        })
    });
    move || {
        (!people.with(Vec::is_empty)).then(|| {
            let rows = people.get().into_iter().map(|id| {
                let name = state.name_of(&id);
                let short = short_id_within(&id.to_hex());
                view! {
                    <div data-testid="blocked">
                        <PersonFace id=id />
                        <span class="what"><bdi>{name}</bdi><br /><span class="small quiet">{short}</span></span>
                        <button class="button" type="button" on:click=move |_| state.unblock(id)>{t("details/unblock")}</button>
                    </div>
                }
            });
            view! {
                <section>
                    <h2>{t("settings/blocked")}</h2>
                    <p class="quiet">{t("settings/blocked-help")}</p>
                    <div class="rows">{rows.collect_view()}</div>
                </section>
            }
        })
    }
}

/// The devices of the account, and how one is shut out.
#[component]
fn Devices() -> impl IntoView {
    let state = State::get();
    let listed = RwSignal::new(Listed::default());
    let error = RwSignal::new(None::<ApiError>);
    let show_error = move || {
        let now = listed.try_with_untracked(|l| l.error.clone());
        error.try_set(now.flatten());
    };
    // Read again when one came or was removed; this one too, which is seen by the account's state.
    Effect::new(move |_| {
        state.devices.track();
        let Some(account) = state.account().map(|a| a.id) else {
            return;
        };
        listed.maybe_update(|l| l.ask(&account));
        show_error();
        let turn = listed.with_untracked(|l| l.turn);
        spawn_local(async move {
            let asked = AccountParams { account };
            let answer = state.bridge().call::<DeviceList>(asked).await;
            listed.try_maybe_update(|l| (l.answer(turn, answer), ()));
            show_error();
        });
    });
    let rows = move || {
        let all = listed.with(|l| l.devices.clone()).into_iter();
        all.map(
            |Device {
                 device,
                 current,
                 revoked,
             }| {
                let id = device.to_hex();
                let own = state.account_untracked().map(|a| a.device_name);
                let short = short_id_within(&id);
                let name = match own.filter(|name| current && !name.is_empty()) {
                    Some(own) => format!("{own} · {short}"),
                    None => short,
                };
                let facts = match (current, revoked) {
                    (true, true) => format!("{} · {}", t("device/this"), t("device/removed")),
                    (true, false) => t("device/this"),
                    (false, true) => t("device/removed"),
                    (false, false) => String::new(),
                };
                let ask = (!current && !revoked)
                    .then_some(("settings/revoke-ask", Question::RemoveDevice(device)));
                entry(state, "device", name, facts, Some(id), ask)
            },
        )
        .collect_view()
    };
    let gone = move || listed.with(|l| l.devices.iter().any(|d| d.current && d.revoked));
    let words = move || {
        t(match listed.with(|l| l.devices.len()) {
            _ if gone() => "notice/this-device-revoked",
            ..=1 => "device/alone",
            _ => "device/help",
        })
    };
    view! {
        <section>
            <h2 id="devices" tabindex="-1">{t("device/devices")}</h2>
            <p class=move || if gone() { "note error" } else { "quiet" }>{words}</p>
            <div class="rows">{rows}</div>
            <Failure error=error />
        </section>
    }
}

#[component]
fn Account() -> impl IntoView {
    let state = State::get();
    let password = RwSignal::new(String::new());
    let error = RwSignal::new(None::<ApiError>);
    let protected = move || state.account().is_some_and(|a| a.has_password);
    let export = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let Some(account) = state.account_untracked() else {
            return;
        };
        error.set(None);
        let password = Some(password.get_untracked()).filter(|p| !p.is_empty());
        spawn_local(async move {
            if let Err(e) = state.save_backup(account.id, password).await {
                error.try_set(Some(e));
            }
        });
    };
    view! {
        <section>
            <h2>{t("settings/account")}</h2>
            <p class="quiet">{t("settings/backup-help")}</p>
            <form class="row" on:submit=export>
                {move || protected().then(|| view! { <Password id="export-password" password=password error=error /> })}
                <button class="button at-end" type="submit">{t("settings/backup")}</button>
            </form>
            <div id="export-password-failure"><Failure error=error /></div>
            <div class="row"><button class="button danger" type="button" on:click=move |_| state.question.set(Some(Question::RemoveAccount))>{t("settings/remove")}</button></div>
        </section>
    }
}
