//! What there is to know about a conversation: its people, its kind, what one can do.

use super::closed::{End, Refusal};
use super::questions::Failure;
use super::votes::OpenVotes;
use crate::browser;
use crate::parts::{ConversationFace, Icon, PersonFace, Photo, Qr, icon, turning_icon};
use crate::say::{t, tf, tn};
use crate::state::{Place, Question, State};
use crate::timeline::short_id_within;
use leptos::prelude::*;
use starling_core::api::method::{
    ContactAdd, ConversationMembers, ConversationUpdate, ConversationVerify,
};
use starling_core::api::{
    ApiError, BallotAction, Contact, ContactAddParams, Conversation, ConversationMode,
    ConversationParams, ConversationState, ConversationUpdateParams, ConversationVerdict, Member,
    MemberRole,
};
use starling_core::id::{AccountId, ConversationId};
use wasm_bindgen_futures::spawn_local;

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
    let group = Memo::new(move |_| conversation.with(|c| c.mode != ConversationMode::OneToOne));
    let peer = Memo::new(move |_| conversation.with(|c| state.peer(c)));
    let contact = Memo::new(move |_| {
        peer.get()
            .and_then(|peer| state.contacts.with(|all| all.get(&peer).cloned()))
    });
    let blocked = move || contact.with(|c: &Option<Contact>| c.as_ref().is_some_and(|c| c.blocked));
    let editing = RwSignal::new(false);
    let close = move |_| Place::Conversation(id).go();
    // Without a history there are no votes, and nothing to check.
    let here = Memo::new(move |_| conversation.with(|c| c.state == ConversationState::Ready));
    Some(view! {
        <aside class="pane details-pane" aria-label=t("conversation/details") data-testid="details">
            <super::conversation::Grip side="details" />
            <header class="pane-head">
                <button class="icon-button back" type="button" aria-label=t("common/back") on:click=close>{turning_icon(Icon::Back)}</button>
                <div class="titles"><h2>{t("details/title")}</h2></div>
                <button class="icon-button wide-only" type="button" aria-label=t("common/close") on:click=close>{icon(Icon::Close)}</button>
            </header>
            <div class="pane-body">
                {move || match editing.get() {
                    true => view! { <EditProfile id=id editing=editing /> }.into_any(),
                    false => view! { <Profile id=id editing=editing /> }.into_any(),
                }}
                <Refusal id=id />
                {move || group.get().then(|| view! { <OpenVotes id=id /> })}
                {move || peer.get().map(|peer| view! {
                    <div class="part">
                        <h3>{t("details/address")}</h3>
                        <p class="small quiet">{t("details/address-help")}</p>
                        <super::address::InGroups id=peer.to_hex() />
                        <super::address::Copying text=peer.to_hex() />
                        <details><summary>{t("details/address-qr")}</summary><Qr text=format!("jami:{}", peer.to_hex()) label=t("details/address-qr") /></details>
                    </div>
                })}
                {move || conversation.with(|c| c.address.clone()).map(|address| view! {
                    <div class="part">
                        <h3>{t("details/group-address")}</h3>
                        <p class="small quiet">{t("details/group-address-help")}</p>
                        <p class="address" data-testid="group-address">{address.clone()}</p>
                        <super::address::Copying text=address.clone() />
                        <details><summary>{t("details/address-qr")}</summary><Qr text=address label=t("details/group-address-qr") /></details>
                    </div>
                })}
                <Members id=id />
                <div class="part">
                    {move || here.get().then(|| view! { <Verify id=id /> })}
                    {move || peer.get().map(|peer| match blocked() {
                        true => view! { <button class="button" type="button" on:click=move |_| state.unblock(peer)>{t("details/unblock")}</button> }.into_any(),
                        false => view! { <button class="button danger" type="button" on:click=move |_| state.block(peer)>{icon(Icon::Ban)}{t("details/block")}</button> }.into_any(),
                    })}
                    <End id=id />
                </div>
            </div>
        </aside>
    })
}

/// Picture, title, description, kind.
#[component]
fn Profile(id: ConversationId, editing: RwSignal<bool>) -> impl IntoView {
    let state = State::get();
    let signal = untrack(|| state.conversation(&id))?;
    let conversation: Signal<Conversation> = signal.into();
    let title = Memo::new(move |_| conversation.with(|c| state.title_of(c)));
    let admin = Memo::new(move |_| conversation.with(|c| state.is_admin(c)));
    Some(view! {
        <div class="part face">
            <ConversationFace id=id size="large" />
            <h2 dir="auto">{move || title.get()}</h2>
            {move || conversation.with(|c| c.description.clone()).filter(|d| !d.is_empty()).map(|d| view! { <p class="description" dir="auto">{d}</p> })}
            {move || match conversation.with(|c| state.peer(c)) {
                // Of two people one knows that they are two: how they are connected is what there is to say.
                Some(peer) => super::link::route(state, &peer).map(|words| view! { <p class="small quiet" data-testid="route">{words}</p> }),
                None => Some(view! { <p class="small quiet" data-testid="route">{conversation.with(|c| mode_in_words(c.mode))}</p> }),
            }}
            {move || admin.get().then(|| view! {
                <button class="button small-button" type="button" on:click=move |_| editing.set(true)>{icon(Icon::Edit)}{t("details/edit")}</button>
            })}
        </div>
    })
}

/// The same, to be changed.
#[component]
fn EditProfile(id: ConversationId, editing: RwSignal<bool>) -> impl IntoView {
    let state = State::get();
    let now = untrack(|| state.conversation(&id))?.get_untracked();
    let title = RwSignal::new(now.title.clone().unwrap_or_default());
    let description = RwSignal::new(now.description.clone().unwrap_or_default());
    let picture = RwSignal::new(untrack(|| state.picture_of_conversation(&now)));
    let error = RwSignal::new(None::<ApiError>);
    let busy = RwSignal::new(false);
    let name = Signal::derive(move || match title.get().trim() {
        "" => t("group/title"),
        title => title.to_owned(),
    });
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        // What did not change is not written again.
        let changed = |new: String, old: &Option<String>| {
            (new != old.clone().unwrap_or_default()).then_some(new)
        };
        let params = ConversationUpdateParams {
            account,
            conversation: id,
            title: changed(title.get_untracked().trim().to_owned(), &now.title),
            description: changed(
                description
                    .get_untracked()
                    .trim()
                    .replace(['\n', '\r'], " "),
                &now.description,
            ),
            avatar: changed(picture.get_untracked().unwrap_or_default(), &now.avatar),
        };
        if params.title.is_none() && params.description.is_none() && params.avatar.is_none() {
            return editing.set(false);
        }
        busy.set(true);
        error.set(None);
        spawn_local(async move {
            match state.bridge().call::<ConversationUpdate>(params).await {
                Ok(conversation) => {
                    state.put(conversation);
                    editing.try_set(false);
                }
                Err(e) => drop(error.try_set(Some(e))),
            }
            busy.try_set(false);
        });
    };
    browser::focus("edit-title");
    Some(view! {
        <form class="part" on:submit=submit on:keydown=move |event| if event.key() == "Escape" { event.stop_propagation(); editing.set(false); }>
            <Photo id=id.to_hex() name=name picture=picture group=true />
            <div class="field">
                <label for="edit-title">{t("group/name")}</label>
                <input id="edit-title" class="input" maxlength="100" dir="auto" placeholder=" " autocomplete="off" prop:value=title
                    on:input=move |event| title.set(event_target_value(&event)) />
            </div>
            <div class="field">
                <label for="edit-description">{t("details/description")}</label>
                <textarea id="edit-description" class="input" rows="3" maxlength="500" dir="auto" placeholder=" " prop:value=description
                    on:input=move |event| description.set(event_target_value(&event))></textarea>
            </div>
            <Failure error=error />
            <div class="row end">
                <button class="button" type="button" on:click=move |_| editing.set(false)>{t("common/cancel")}</button>
                <button class="button main" type="submit" disabled=move || busy.get()>{t("settings/save")}</button>
            </div>
        </form>
    })
}

/// The people, by what they are.
#[component]
fn Members(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let signal = untrack(|| state.conversation(&id))?;
    let conversation: Signal<Conversation> = signal.into();
    // The list carries the first members only.
    let all = RwSignal::new(None::<Vec<Member>>);
    Effect::new(move |_| {
        // Anything that changes the members brings the conversation anew.
        conversation.track();
        let Some(account) = state.account_id.get_untracked() else {
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
                && all.try_with_untracked(|a| a.as_ref() != Some(&members)) == Some(true)
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
    let of = move |role: MemberRole| {
        members.with(|all| {
            all.iter()
                .filter(|m| m.role == role)
                .map(|m| m.id)
                .collect::<Vec<_>>()
        })
    };
    let two = Memo::new(move |_| conversation.with(|c| c.mode == ConversationMode::OneToOne));
    let invites = Memo::new(move |_| conversation.with(|c| state.may_invite(c)));
    let shown = StoredValue::new([
        (MemberRole::Admin, "role/admins"),
        (MemberRole::Member, "role/members"),
        (MemberRole::Invited, "role/invited-people"),
    ]);
    let here = move || {
        members.with(|all| {
            all.iter()
                .filter(|m| matches!(m.role, MemberRole::Admin | MemberRole::Member))
                .count()
        })
    };
    let list = move |role: MemberRole| {
        let people = Memo::new(move |_| of(role));
        view! {
            <ul class="people-list">
                <For each=move || people.get() key=|id| *id let(person)><Person conversation=id person=person role=role two=two.get_untracked() /></For>
            </ul>
        }
    };
    let gone = move || {
        members.with(|all| {
            all.iter()
                .filter(|m| matches!(m.role, MemberRole::Banned | MemberRole::Left))
                .count()
        })
    };
    let counts = Memo::new(move |_| shown.get_value().map(|(role, _)| of(role).len()));
    let banned = Memo::new(move |_| of(MemberRole::Banned).len());
    let left = Memo::new(move |_| of(MemberRole::Left).len());
    let invite = move || {
        invites.get().then(|| view! {
            <button class="button" type="button" on:click=move |_| state.question.set(Some(Question::Invite(id)))>{icon(Icon::AddPerson)} {t("details/invite")}</button>
        })
    };
    Some(view! {
        <div class="part members">
            <div class="row between"><h3>{move || if two.get() { t("details/people") } else { tn("conversation/members", here(), &[]) }}</h3></div>
            {invite}
            {move || shown.get_value().into_iter().zip(counts.get()).filter(|(_, count)| *count > 0).map(|((role, words), _)| view! {
                <section>
                    {(!two.get()).then(|| view! { <h4>{t(words)}</h4> })}
                    {list(role)}
                </section>
            }).collect_view()}
            {move || (gone() > 0).then(|| view! {
                <details class="gone-people">
                    <summary>{tn("role/gone", gone(), &[])}</summary>
                    {(banned.get() > 0).then(|| view! { <section><h4>{t("role/banned-people")}</h4>{list(MemberRole::Banned)}</section> })}
                    {(left.get() > 0).then(|| view! { <section><h4>{t("role/left-people")}</h4>{list(MemberRole::Left)}</section> })}
                </details>
            })}
        </div>
    })
}

/// One person, and what one can do about them.
#[component]
fn Person(
    conversation: ConversationId,
    person: AccountId,
    role: MemberRole,
    two: bool,
) -> impl IntoView {
    let state = State::get();
    let signal = untrack(|| state.conversation(&conversation))?;
    let about: Signal<Conversation> = signal.into();
    let open = RwSignal::new(false);
    let name = Memo::new(move |_| state.name_of(&person));
    // The ends of the address, where the name does not tell who it is.
    let doubtful = Memo::new(move |_| {
        let name = name.get();
        let others = about.with(|c| c.members.iter().map(|m| m.id).collect::<Vec<_>>());
        state.is_as_written(&person, &name)
            || others
                .iter()
                .any(|id| *id != person && state.name_of(id) == name)
    });
    let me = Memo::new(move |_| state.me() == Some(person));
    let admin = Memo::new(move |_| about.with(|c| state.is_admin(c)));
    let voted = Memo::new(move |_| {
        let me = state.me();
        state.ballots.with(|all| {
            all.get(&conversation).is_some_and(|open| {
                open.iter().any(|b| {
                    b.target == person
                        && b.device.is_none()
                        && !b.decided
                        && me.is_some_and(|me| b.voters.contains(&me))
                })
            })
        })
    });
    let contact = Memo::new(move |_| state.contacts.with(|all| all.get(&person).cloned()));
    let busy = RwSignal::new(false);
    let add = move |_| {
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        busy.set(true);
        spawn_local(async move {
            let params = ContactAddParams {
                account,
                id: person.to_hex(),
                message: None,
            };
            match state.bridge().call::<ContactAdd>(params).await {
                Ok(contact) => {
                    let at = contact.conversation;
                    state
                        .contacts
                        .update(|all| drop(all.insert(contact.id, contact)));
                    if let Some(at) = at {
                        state.fetch_conversation(at).await;
                        Place::Conversation(at).go();
                    }
                }
                Err(error) => state.report(&error),
            }
            busy.try_set(false);
        });
    };
    // The last thing they signed that was read here: its proof shows device and certificates.
    let signed = move || {
        let history = state.history(conversation);
        history.entries.with(|entries| {
            entries
                .iter()
                .rev()
                .find(|(_, m)| m.with_untracked(|m| m.author == person))
                .map(|(id, _)| *id)
        })
    };
    let away = matches!(role, MemberRole::Banned | MemberRole::Left);
    let under = move || {
        let mut words = vec![];
        if me.get() {
            words.push(t("person/you"));
        } else if two && role == MemberRole::Invited {
            words.push(t("role/invited"));
        }
        if !me.get() && !away && state.is_online(&person) {
            words.push(t("link/available"));
        }
        if doubtful.get() {
            words.push(short_id_within(&person.to_hex()));
        }
        words.join(" · ")
    };
    let does = move || {
        view! {
            <div class="does">
                // Between two, that of the other one stands above.
                {(!two || me.get()).then(|| view! { <super::address::InGroups id=person.to_hex() /> })}
                <div class="row">
                    {(!two || me.get()).then(|| view! { <super::address::Copying text=person.to_hex() plain=true /> })}
                    {move || (!me.get() && !two).then(|| match contact.get().filter(|c| !c.blocked).map(|c| c.conversation) {
                        Some(Some(at)) => view! { <button class="button small-button" type="button" on:click=move |_| Place::Conversation(at).go()>{icon(Icon::Chat)}{t("details/write")}</button> }.into_any(),
                        Some(None) => ().into_any(),
                        None => view! { <button class="button small-button" type="button" disabled=move || busy.get() on:click=add>{icon(Icon::AddPerson)}{t("details/add-contact")}</button> }.into_any(),
                    })}
                    {move || signed().map(|id| view! {
                        <button class="button small-button" type="button" on:click=move |_| Place::Proof(conversation, id).go()>{icon(Icon::Key)}{t("details/proof")}</button>
                    })}
                    {move || (admin.get() && !me.get() && !voted.get()).then(|| match role {
                        MemberRole::Banned => view! {
                            <button class="button small-button" type="button" on:click=move |_| state.question.set(Some(Question::Vote(conversation, person, None, BallotAction::Unban)))>{icon(Icon::Undo)}{t("details/unban")}</button>
                        }.into_any(),
                        MemberRole::Left => ().into_any(),
                        _ => view! {
                            <button class="button small-button danger" type="button" on:click=move |_| state.question.set(Some(Question::Vote(conversation, person, None, BallotAction::Ban)))>{icon(Icon::Ban)}{t("details/ban")}</button>
                        }.into_any(),
                    })}
                </div>
                {move || voted.get().then(|| view! { <p class="small quiet">{t("vote/you-did")}</p> })}
            </div>
        }
    };
    Some(view! {
        <li class="person" class:away=away data-testid="member">
            <button class="member" type="button" aria-expanded=move || open.get().to_string() on:click=move |_| open.update(|o| *o = !*o)>
                <PersonFace id=person presence=!away />
                <span class="who">
                    <span class="name" dir="auto" title=move || state.name_help(&person)>{move || name.get()}</span>
                    {move || Some(under()).filter(|words| !words.is_empty()).map(|words| view! { <span class="role">{words}</span> })}
                </span>
                {icon(Icon::Down)}
            </button>
            {move || open.get().then(does)}
        </li>
    })
}

/// The whole history, checked again by the bridge.
#[component]
fn Verify(id: ConversationId) -> impl IntoView {
    let state = State::get();
    let busy = RwSignal::new(false);
    let verdict = RwSignal::new(None::<ConversationVerdict>);
    let check = move |_| {
        let Some(account) = state.account_id.get_untracked() else {
            return;
        };
        busy.set(true);
        spawn_local(async move {
            let params = ConversationParams {
                account,
                conversation: id,
            };
            match state.bridge().call::<ConversationVerify>(params).await {
                Ok(found) => drop(verdict.try_set(Some(found))),
                Err(error) => state.report(&error),
            }
            busy.try_set(false);
        });
    };
    view! {
        <button class="button" type="button" disabled=move || busy.get() on:click=check>{icon(Icon::Shield)}{t("details/verify")}</button>
        <div role="status">
            {move || verdict.get().map(|found| {
                let count = usize::try_from(found.commits).unwrap_or(usize::MAX);
                match found.faults.first() {
                    None => view! { <p class="note good">{tn("details/verified", count, &[])}</p> }.into_any(),
                    Some(fault) => view! { <p class="note error">{tf("details/faulty", &[("rule", &t(crate::rule::words(&fault.rule)))])}</p> }.into_any(),
                }
            })}
        </div>
    }
}
