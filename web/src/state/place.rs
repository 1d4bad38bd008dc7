//! Where the person is, as the fragment of the address: back and forward work, and a reload stays there.

use super::State;
use leptos::prelude::*;
use starling_core::id::{ConversationId, ObjectId};
use wasm_bindgen::prelude::*;

/// A place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The list, nothing open.
    List,
    /// A conversation.
    Conversation(ConversationId),
    /// A conversation with its details beside it.
    Details(ConversationId),
    /// A conversation, and in it a message.
    At(ConversationId, ObjectId),
    /// A conversation with a search in it beside it.
    Find(ConversationId),
    /// A conversation with the proof of a message beside it.
    Proof(ConversationId, ObjectId),
    /// Settings.
    Settings,
}

impl Place {
    /// From a fragment.
    pub(crate) fn parse(fragment: &str) -> Self {
        let parts: Vec<&str> = fragment
            .trim_start_matches('#')
            .split('/')
            .filter(|p| !p.is_empty())
            .collect();
        match parts.as_slice() {
            ["settings"] => Self::Settings,
            ["c", id, rest @ ..] => match (id.parse(), rest) {
                (Ok(id), ["details"]) => Self::Details(id),
                (Ok(id), ["find"]) => Self::Find(id),
                (Ok(id), ["at", message]) => message
                    .parse()
                    .map_or(Self::Conversation(id), |m| Self::At(id, m)),
                (Ok(id), ["proof", message]) => message
                    .parse()
                    .map_or(Self::Conversation(id), |m| Self::Proof(id, m)),
                (Ok(id), _) => Self::Conversation(id),
                (Err(_), _) => Self::List,
            },
            _ => Self::List,
        }
    }

    /// As a fragment.
    pub(crate) fn fragment(&self) -> String {
        match self {
            Self::List => "#/".to_owned(),
            Self::Conversation(id) => format!("#/c/{id}"),
            Self::Details(id) => format!("#/c/{id}/details"),
            Self::Find(id) => format!("#/c/{id}/find"),
            Self::At(id, message) => format!("#/c/{id}/at/{message}"),
            Self::Proof(id, message) => format!("#/c/{id}/proof/{message}"),
            Self::Settings => "#/settings".to_owned(),
        }
    }

    /// The conversation that is open.
    pub(crate) fn conversation(&self) -> Option<ConversationId> {
        match self {
            Self::Conversation(id)
            | Self::At(id, _)
            | Self::Details(id)
            | Self::Find(id)
            | Self::Proof(id, _) => Some(*id),
            Self::List | Self::Settings => None,
        }
    }

    /// One step out.
    pub(crate) fn outer(&self) -> Self {
        match self {
            Self::Details(id) | Self::Find(id) | Self::Proof(id, _) => Self::Conversation(*id),
            _ => Self::List,
        }
    }

    /// Where the address says one is.
    pub(crate) fn here() -> Self {
        Self::parse(&window().location().hash().unwrap_or_default())
    }

    /// Goes there; the way back leads here.
    pub(crate) fn go(&self) {
        let _ = window().location().set_hash(&self.fragment());
    }
}

impl State {
    /// Leaves what is beside a conversation. What was opened from its details leads back to them.
    pub(crate) fn step_out(&self) {
        let (now, before) = (self.place.get_untracked(), self.came_from.get_value());
        match (now, before) {
            (Place::Proof(id, _), Place::Details(other)) if id == other => before.go(),
            _ => now.outer().go(),
        }
    }
}

/// Lets the state follow the address.
pub(crate) fn follow(state: State) {
    let callback = Closure::<dyn FnMut()>::new(move || {
        state.came_from.set_value(state.place.get_untracked());
        state.place.set(Place::here());
    });
    let _ =
        window().add_event_listener_with_callback("hashchange", callback.as_ref().unchecked_ref());
    // The page has one state for as long as it lives.
    callback.forget();
}
