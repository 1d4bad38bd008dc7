//! A conversation's objects for others to check: the page, and `git bundle`.

use super::{Account, AccountError};
use crate::conversation::repo::{Repo, RepoError};
use starling_core::api::objects::{ObjectKind, write};
use starling_core::api::{ApiError, ErrorCode};
use starling_core::git::object::Kind;
use starling_core::git::pack::PackWriter;
use starling_core::git::reach;
use starling_core::id::{ConversationId, ObjectId};
use starling_core::swarm::proof::Recorder;
use starling_core::swarm::validate::{BATCH, Validation};

/// Largest bundle that is handed out in one piece.
const MAX_BUNDLE: usize = 256 << 20;

/// Bytes of commits in one answer; of one commit that is longer, the answer is that one.
const MAX_OBJECTS: u64 = 8 << 20;

/// The newest of some commits, oldest first, as far as they fit into an answer.
fn within(mut commits: Vec<ObjectId>, size: impl Fn(&ObjectId) -> u64) -> Vec<ObjectId> {
    let mut bytes = 0u64;
    let fit = commits.iter().rev().take_while(|id| {
        let first = bytes == 0;
        bytes = bytes.saturating_add(size(id).max(1));
        first || bytes <= MAX_OBJECTS
    });
    let fit = fit.count();
    commits.split_off(commits.len().saturating_sub(fit))
}

impl Account {
    /// What it takes to validate `limit` commits again, walking back from `from` or the newest; of
    /// fewer where they are long. The page asks again from where one is missing.
    pub async fn objects(
        &self,
        id: ConversationId,
        from: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<u8>, AccountError> {
        let conversation = self.need_conversation(&id)?;
        let commits = conversation
            .ask(move |r: &mut Repo| r.window(from.as_ref(), limit))
            .await?;
        let commits = commits.ok_or_else(|| {
            ApiError::not_found("There is no commit with that id in this conversation.")
        })?;
        let store = conversation.store.clone();
        let commits = within(commits, |id| store.size(id).unwrap_or(0));
        tokio::task::block_in_place(move || {
            let recorder = Recorder::new(&*store);
            {
                let mut validation = Validation::window(&recorder, id, commits);
                // Reading is what counts here; the verdict is the page's.
                while let Some(batch) = validation
                    .next_batch(BATCH)
                    .map_err(|f| RepoError::Rejected(Box::new(f)))?
                {
                    drop(batch);
                }
            }
            let mut out = Vec::new();
            for (id, (kind, data)) in recorder.into_objects() {
                let kind = match kind {
                    Kind::Commit => ObjectKind::Commit,
                    Kind::Tree => ObjectKind::Tree,
                    Kind::Blob => ObjectKind::Blob,
                    _ => continue,
                };
                write(&mut out, kind, &id, &data).ok_or_else(|| {
                    ApiError::new(
                        ErrorCode::TooLarge,
                        format!("The object {id} is too large to be shown."),
                    )
                })?;
            }
            Ok(out)
        })
    }

    /// The whole repository as a `git bundle`.
    pub async fn bundle(&self, id: ConversationId) -> Result<Vec<u8>, AccountError> {
        let conversation = self.need_conversation(&id)?;
        let head = conversation.head();
        tokio::task::block_in_place(move || {
            let store = &*conversation.store;
            let broken = |e: reach::Broken| ApiError::new(ErrorCode::Corrupt, e.to_string());
            let objects = reach::missing(store, head, &Default::default()).map_err(broken)?;
            let mut out =
                format!("# v2 git bundle\n{head} HEAD\n{head} refs/heads/main\n\n").into_bytes();
            let (mut writer, start) =
                PackWriter::new(u32::try_from(objects.len()).unwrap_or(u32::MAX), false);
            out.extend(start);
            for object in objects {
                let (kind, data) = store.read(&object).ok_or_else(|| {
                    ApiError::new(
                        ErrorCode::Corrupt,
                        format!("The object {object} is missing."),
                    )
                })?;
                out.extend(writer.object(kind, &data));
                if out.len() > MAX_BUNDLE {
                    return Err(ApiError::new(
                        ErrorCode::TooLarge,
                        "The conversation is larger than 256 MiB: copy its repository instead.",
                    )
                    .into());
                }
            }
            out.extend(writer.finish().0);
            Ok(out)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_the_oldest_commit_that_fits() {
        let ids: Vec<ObjectId> = (1..=5).map(|n| ObjectId([n; 20])).collect();
        let of = |sizes: [u64; 5]| {
            let out = within(ids.clone(), |id| sizes[usize::from(id.0[0]) - 1]);
            out.iter().map(|id| id.0[0]).collect::<Vec<_>>()
        };
        assert_eq!(of([1000; 5]), [1, 2, 3, 4, 5]);
        assert_eq!(of([4 << 20; 5]), [4, 5]);
        // The one that was asked for always comes.
        assert_eq!(of([1, 1, 1, 1, 100 << 20]), [5]);
        assert_eq!(within(Vec::new(), |_| 1), []);
    }
}
