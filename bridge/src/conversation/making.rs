//! The index of a conversation while it is made: beside the validation of a clone, each of whose
//! commits is read once for both, or from a repository.
//!
//! The branch moves first, for good. So what is made counts as not there until the repository is
//! found with that very head ([`super::timeline::Timeline::follow`]).

use super::timeline::{CHUNK, Made};
use crate::store::index::{Index, IndexError, Rows};
use starling_core::id::{ConversationId, ObjectId};
use std::collections::BTreeMap;

/// Generations that are remembered, some 40 bytes each: parents stand close before their children.
const NEAR: usize = 4_096;

/// The index of a conversation in the making.
pub struct Making {
    index: Index,
    conversation: ConversationId,
    rules: u32,
    len: u64,
    waiting: Vec<Made>,
    near: BTreeMap<ObjectId, u32>,
    /// Why it is given up.
    failed: Option<IndexError>,
    complete: bool,
}

impl Making {
    /// Begins anew. `rules`: the version of the rules that what comes was found to follow; 0: none.
    pub fn begin(index: Index, conversation: ConversationId, rules: u32) -> Self {
        let cleared =
            index.change::<_, IndexError>(|tx| Ok(Rows::make(tx, &conversation)?.clear()?));
        Self {
            index,
            conversation,
            rules,
            len: 0,
            waiting: Vec::new(),
            near: BTreeMap::new(),
            failed: cleared.err(),
            complete: false,
        }
    }

    /// Takes the next commit in the order, oldest first. It is written with others: everybody else
    /// waits for as long as that takes.
    pub(super) fn add(&mut self, commit: Made) {
        if self.failed.is_some() {
            return;
        }
        self.waiting.push(commit);
        if self.waiting.len() >= CHUNK {
            self.write();
        }
    }

    fn write(&mut self) {
        let (conversation, mut place) = (self.conversation, self.len);
        let (waiting, near) = (std::mem::take(&mut self.waiting), &mut self.near);
        let written = self.index.change::<_, IndexError>(|tx| {
            let rows = Rows::make(tx, &conversation)?;
            for Made { row, words } in &waiting {
                let mut generation = 0u32;
                for parent in &row.parents {
                    let known = match near.get(parent) {
                        Some(known) => Some(*known),
                        None => rows.placed(parent)?.map(|p| p.generation),
                    };
                    generation = generation.max(known.map_or(0, |g| g.saturating_add(1)));
                }
                if near.len() >= NEAR {
                    near.clear();
                }
                near.insert(row.id, generation);
                rows.put(place, generation, row)?;
                place = place.saturating_add(1);
                if let Some(words) = words {
                    rows.put_text(&row.id, row.time.saturating_mul(1000), words)?;
                }
            }
            Ok(())
        });
        match written {
            Ok(()) => self.len = place,
            Err(e) => self.failed = Some(e),
        }
    }

    /// That was all, and `head` is the newest.
    pub fn complete(mut self, head: &ObjectId) -> Result<(), IndexError> {
        if self.failed.is_none() {
            self.write();
        }
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        self.index.change::<_, IndexError>(|tx| {
            let rows = Rows::make(tx, &self.conversation)?;
            Ok(rows.set_made(head, self.len, self.rules)?)
        })?;
        self.complete = true;
        Ok(())
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.complete
            && let Err(e) = self.index.remove(&self.conversation)
        {
            tracing::warn!(%e, "what was indexed of a refused conversation is still there");
        }
    }
}
