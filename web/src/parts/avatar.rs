//! The face of a person or a group: letters on a colour that follows from the id.

use crate::timeline::{hue, initials};
use leptos::prelude::*;

/// Letters on a colour. It is decoration: the name always stands beside it.
#[component]
pub(crate) fn Avatar(
    /// Whose colour.
    #[prop(into)]
    id: String,
    /// Whose letters.
    #[prop(into)]
    name: Signal<String>,
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
            {move || initials(&name.get())}
            {move || online.get().then(|| view! { <span class="presence"></span> })}
        </span>
    }
}
