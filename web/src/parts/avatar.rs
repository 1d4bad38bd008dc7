//! The face of a person or a group: their picture, or letters on a colour that follows from the id.

use crate::state::State;
use crate::timeline::{hue, initials};
use leptos::prelude::*;
use starling_core::api::ConversationMode;
use starling_core::id::{AccountId, ConversationId};

/// A picture, or letters on a colour. It is decoration: the name always stands beside it.
#[component]
pub(crate) fn Avatar(
    /// Whose colour.
    #[prop(into)]
    id: String,
    /// Whose letters.
    #[prop(into)]
    name: Signal<String>,
    /// A `data:` URL that may be shown.
    #[prop(optional, into)]
    picture: Signal<Option<String>>,
    /// `small` or `large`; neither is the normal size.
    #[prop(optional)]
    size: &'static str,
    /// Groups have corners.
    #[prop(optional, into)]
    group: Signal<bool>,
    /// A dot for someone who is there.
    #[prop(optional, into)]
    online: Signal<bool>,
) -> impl IntoView {
    let hue = hue(&id).to_string();
    view! {
        <span class=format!("avatar {size}") class:group=move || group.get() style:--hue=hue aria-hidden="true">
            {move || match picture.get() {
                Some(url) => view! { <img src=url alt="" /> }.into_any(),
                None => initials(&name.get()).into_any(),
            }}
            {move || online.get().then(|| view! { <span class="presence"></span> })}
        </span>
    }
}

/// The face of a person, as the page knows them.
#[component]
pub(crate) fn PersonFace(
    /// Whose.
    id: AccountId,
    /// As of [`Avatar`].
    #[prop(optional)]
    size: &'static str,
    /// Show whether they can be reached.
    #[prop(optional)]
    presence: bool,
) -> impl IntoView {
    let state = State::get();
    let name = Memo::new(move |_| state.name_of(&id));
    let picture = Memo::new(move |_| state.picture_of(&id));
    let online = Signal::derive(move || presence && state.is_online(&id));
    view! { <Avatar id=id.to_hex() name=name picture=picture size=size online=online /> }
}

/// The face of a conversation: its picture, or that of the other one where there are two.
#[component]
pub(crate) fn ConversationFace(
    /// Which.
    id: ConversationId,
    /// As of [`Avatar`].
    #[prop(optional)]
    size: &'static str,
    /// Show whether the other one can be reached.
    #[prop(optional)]
    presence: bool,
) -> impl IntoView {
    let state = State::get();
    let signal = untrack(|| state.conversation(&id))?;
    let conversation: Signal<starling_core::api::Conversation> = signal.into();
    let name = Memo::new(move |_| conversation.with(|c| state.title_of(c)));
    let picture = Memo::new(move |_| conversation.with(|c| state.picture_of_conversation(c)));
    let peer = Memo::new(move |_| conversation.with(|c| state.peer(c)));
    let group = Memo::new(move |_| conversation.with(|c| c.mode != ConversationMode::OneToOne));
    let online =
        Signal::derive(move || presence && peer.get().is_some_and(|p| state.is_online(&p)));
    let face = untrack(|| peer.get()).map_or_else(|| id.to_hex(), |peer| peer.to_hex());
    Some(view! { <Avatar id=face name=name picture=picture size=size group=group online=online /> })
}
