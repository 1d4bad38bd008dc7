//! What there is to know about a conversation: its people, its kind, what one can do.

use crate::parts::{Avatar, Icon, icon};
use crate::say::{t, tn};
use crate::state::{Place, Question, State};
use crate::timeline::short_id;
use leptos::prelude::*;
use starling_core::api::method::{ContactUnblock, ConversationMembers};
use starling_core::api::{
    Contact, ContactParams, Conversation, ConversationMode, ConversationParams, Member, MemberRole,
};
use starling_core::id::ConversationId;
use wasm_bindgen_futures::spawn_local;

fn role_in_words(role: MemberRole) -> String {
    t(match role {
        MemberRole::Admin => "role/admin",
        MemberRole::Member => "role/member",
        MemberRole::Invited => "role/invited",
        MemberRole::Banned => "role/banned",
        MemberRole::Left => "role/left",
    })
}

fn mode_in_words(mode: ConversationMode) -> String {
    t(match mode {
        ConversationMode::OneToOne => "mode/one-to-one",
        ConversationMode::AdminInvitesOnly => "mode/admins-invite",
        ConversationMode::InvitesOnly => "mode/members-invite",
        ConversationMode::Public => "mode/public",
        ConversationMode::Unknown => "mode/unknown",
    })
}

#[component]
pub(crate) fn Details(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let signal = untrack(|| state.conversation(&id))?;
    let conversation: Signal<Conversation> = signal.into();
    // The list carries the first members only.
    let all = RwSignal::new(None::<Vec<Member>>);
    Effect::new(move |_| {
        let (count, known) = conversation.with(|c| (c.member_count as usize, c.members.len()));
        let Some(account) = state.account_id.get_untracked().filter(|_| count > known) else {
            return;
        };
        spawn_local(async move {
            if let Ok(members) = state
                .bridge()
                .call::<ConversationMembers>(ConversationParams {
                    account,
                    conversation: id,
                })
                .await
            {
                all.try_set(Some(members));
            }
        });
    });
    let members = Memo::new(move |_| {
        let mut members = all
            .get()
            .unwrap_or_else(|| conversation.with(|c| c.members.clone()));
        members.sort_by_key(|m| (m.role, state.name_of(&m.id).to_lowercase()));
        members
    });
    let title = Memo::new(move |_| conversation.with(|c| state.title_of(c)));
    let group = Signal::derive(move || conversation.with(|c| c.mode != ConversationMode::OneToOne));
    let peer = Memo::new(move |_| conversation.with(|c| state.peer(c)));
    let contact = Memo::new(move |_| {
        peer.get()
            .and_then(|peer| state.contacts.with(|all| all.get(&peer).cloned()))
    });
    let blocked = move || contact.with(|c: &Option<Contact>| c.as_ref().is_some_and(|c| c.blocked));
    let unblock = move |_| {
        let (Some(account), Some(peer)) = (state.account_id.get_untracked(), peer.get_untracked())
        else {
            return;
        };
        spawn_local(async move {
            if let Err(error) = state
                .bridge()
                .call::<ContactUnblock>(ContactParams { account, id: peer })
                .await
            {
                state.report(&error);
            }
        });
    };
    let face = untrack(|| peer.get()).map_or_else(|| id.to_hex(), |peer| peer.to_hex());
    Some(view! {
        <aside class="pane details-pane" aria-label=t("conversation/details")>
            <super::conversation::Grip side="details" />
            <header class="pane-head">
                <div class="titles"><h2>{t("details/title")}</h2></div>
                <button class="icon-button" type="button" aria-label=t("common/close") on:click=move |_| Place::Conversation(id).go()>{icon(Icon::Close)}</button>
            </header>
            <div class="pane-body">
                <div class="part face">
                    <Avatar id=face name=title group=group size="large" />
                    <h2 dir="auto">{move || title.get()}</h2>
                    {move || conversation.with(|c| c.description.clone()).map(|d| view! { <p dir="auto">{d}</p> })}
                    <p class="small quiet">{move || conversation.with(|c| mode_in_words(c.mode))}</p>
                </div>
                {move || peer.get().map(|peer| view! {
                    <div class="part">
                        <h3>{t("details/address")}</h3>
                        <p class="address">{peer.to_hex()}</p>
                        <super::address::Copying text=peer.to_hex() />
                    </div>
                })}
                <div class="part">
                    <h3>{move || tn("conversation/members", members.with(Vec::len), &[])}</h3>
                    <ul class="stack tight">
                        <For each=move || members.get() key=|m| (m.id, format!("{:?}", m.role)) let(member)>
                            {
                                let (person, id) = (member.id, member.id.to_hex());
                                let name = Memo::new(move |_| state.name_of(&person));
                                let online = Signal::derive(move || state.is_online(&person));
                                view! {
                                    <li class="member" data-testid="member">
                                        <Avatar id=id.clone() name=name online=online />
                                        <div>
                                            <div class="name" dir="auto">{move || name.get()}</div>
                                            <div class="role">{role_in_words(member.role)} " · " <code>{short_id(&id)}</code></div>
                                        </div>
                                    </li>
                                }
                            }
                        </For>
                    </ul>
                    {move || group.get().then(|| view! {
                        <button class="button" type="button" on:click=move |_| state.question.set(Some(Question::Invite(id)))>{icon(Icon::AddPerson)} {t("details/invite")}</button>
                    })}
                </div>
                <div class="part">
                    {move || match (group.get(), peer.get(), blocked()) {
                        (true, ..) => view! { <button class="button danger" type="button" on:click=move |_| state.question.set(Some(Question::Leave(id)))>{t("details/leave")}</button> }.into_any(),
                        (false, Some(_), true) => view! { <button class="button" type="button" on:click=unblock>{t("details/unblock")}</button> }.into_any(),
                        (false, Some(peer), false) => view! { <button class="button danger" type="button" on:click=move |_| state.question.set(Some(Question::Block(peer)))>{t("details/block")}</button> }.into_any(),
                        _ => ().into_any(),
                    }}
                </div>
            </div>
        </aside>
    })
}
