//! The rail: accounts, settings, help.

use super::first_run::Step;
use crate::parts::{Avatar, Icon, icon};
use crate::picture;
use crate::say::{t, tf};
use crate::state::{Place, Question, State};
use leptos::prelude::*;

#[component]
pub(crate) fn Rail() -> impl IntoView {
    let state = State::get();
    let ids = Memo::new(move |_| {
        state.accounts.with(|all| {
            // In an order that stays, whichever the bridge has them in.
            let mut all: Vec<_> = all.iter().collect();
            all.sort_by_key(|a| (a.display_name.to_lowercase(), a.jami_id));
            all.into_iter()
                .map(|a| (a.id.clone(), a.jami_id))
                .collect::<Vec<_>>()
        })
    });
    view! {
        <nav class="pane rail" aria-label=t("rail/label")>
            <img class="mark" src="/icon.svg" alt="" width="32" height="32" />
            <For each=move || ids.get() key=|(id, _)| id.clone() let((id, jami_id))>
                {
                    let of = id.clone();
                    let name = Memo::new(move |_| {
                        let name = state.accounts.with(|all| all.iter().find(|a| a.id == of).map(|a| a.display_name.clone()));
                        name.filter(|n| !n.is_empty()).unwrap_or_else(|| t("person/you"))
                    });
                    let of = id.clone();
                    let picture = Memo::new(move |_| {
                        let url = state.accounts.with(|all| all.iter().find(|a| a.id == of).and_then(|a| a.avatar.clone()));
                        url.filter(|url| picture::is_shown(url))
                    });
                    let current = id.clone();
                    let of = id.clone();
                    let news = Memo::new(move |_| state.news.with(|all| all.contains(&of)));
                    let label = move || tf(if news.get() { "rail/news" } else { "rail/account" }, &[("name", &name.get())]);
                    view! {
                        <button class="account" type="button"
                            title=move || name.get() aria-label=label
                            aria-current=move || state.account_id.with(|now| now.as_ref() == Some(&current)).to_string()
                            on:click=move |_| {
                                state.switch(id.clone());
                                if state.place.get_untracked() == Place::Settings { Place::List.go(); }
                            }>
                            <Avatar id=jami_id.to_hex() name=name picture=picture />
                            {move || news.get().then(|| view! { <span class="news"></span> })}
                        </button>
                    }
                }
            </For>
            <button class="icon-button" type="button" aria-label=t("rail/add-account") title=t("rail/add-account")
                on:click=move |_| state.first_run.set(Some(Step::Name))>{icon(Icon::AddAccount)}</button>
            <div class="spacer"></div>
            <button class="icon-button wide-only" type="button" aria-label=t("rail/shortcuts") title=t("rail/shortcuts")
                on:click=move |_| state.question.set(Some(Question::Shortcuts))>{icon(Icon::Help)}</button>
            <button class="icon-button" type="button" aria-label=t("rail/settings") title=t("rail/settings")
                aria-pressed=move || (state.place.get() == Place::Settings).to_string()
                on:click=move |_| Place::Settings.go()>{icon(Icon::Settings)}</button>
        </nav>
    }
}
