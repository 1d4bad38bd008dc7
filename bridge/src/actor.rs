//! Actors: a task that owns a state and does one thing at a time to it.
//!
//! What is done is a plain function of the state, never a future: so nothing in
//! an actor waits for the network, and nothing is locked while others do.
//!
//! A job that panics ends nothing but itself: the state, in whose midst it was, is put in order
//! before the next one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::{mpsc, oneshot};

/// How many things may wait for an actor before those who ask wait too.
const QUEUE: usize = 256;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

enum Work<S> {
    Do(Job<S>),
    End(oneshot::Sender<()>),
}

/// The way to an actor. Cheap to clone; the actor ends with the last one.
pub struct Actor<S> {
    jobs: mpsc::Sender<Work<S>>,
}

impl<S> Clone for Actor<S> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
        }
    }
}

/// There is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The actor is gone: its account was removed, or the bridge is stopping.
    #[error("this part of the bridge has been stopped")]
    Stopped,
    /// What was asked for panicked. The actor goes on with what is on the disk.
    #[error("this failed inside the bridge, which is a fault of Starling: its log says where")]
    Failed,
}

impl<S: Send + 'static> Actor<S> {
    /// Starts an actor that owns `state`. `mend` puts the state in order after a job that panicked,
    /// by reading it anew; where it cannot, the actor ends.
    pub fn start(mut state: S, mut mend: impl FnMut(S) -> Option<S> + Send + 'static) -> Self {
        let (jobs, mut inbox) = mpsc::channel::<Work<S>>(QUEUE);
        tokio::spawn(async move {
            while let Some(work) = inbox.recv().await {
                match work {
                    // A job may sign, verify and fsync.
                    Work::Do(job) => {
                        let job = || catch_unwind(AssertUnwindSafe(|| job(&mut state)));
                        if tokio::task::block_in_place(job).is_ok() {
                            continue;
                        }
                        tracing::error!(of = std::any::type_name::<S>(), "a job panicked");
                        let mend = || catch_unwind(AssertUnwindSafe(|| mend(state)));
                        state = match tokio::task::block_in_place(mend) {
                            Ok(Some(state)) => state,
                            Ok(None) | Err(_) => return,
                        };
                    }
                    Work::End(done) => {
                        drop(inbox);
                        tokio::task::block_in_place(|| drop(state));
                        let _ = done.send(());
                        return;
                    }
                }
            }
        });
        Self { jobs }
    }

    /// Does something to the state, in turn, and gives the answer.
    pub async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (answer, wait) = oneshot::channel();
        let job: Job<S> = Box::new(move |state| {
            // Whoever asked may have gone; the work is done all the same.
            let _ = answer.send(job(state));
        });
        let sent = self.jobs.send(Work::Do(job)).await;
        sent.map_err(|_| NoAnswer::Stopped)?;
        wait.await.map_err(|_| match self.jobs.is_closed() {
            true => NoAnswer::Stopped,
            false => NoAnswer::Failed,
        })
    }

    /// Ends the actor after what was asked before. Its state is gone when this returns, and
    /// whoever asks from now on is told so.
    pub async fn end(&self) {
        let (done, wait) = oneshot::channel();
        if self.jobs.send(Work::End(done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn things_are_done_in_turn_and_survive_who_asked() {
        let actor = Actor::start(Vec::new(), Some);
        drop(actor.ask(|v: &mut Vec<u8>| v.push(0)));
        for i in 1..=3 {
            actor.ask(move |v| v.push(i)).await.unwrap();
        }
        assert_eq!(actor.ask(|v| v.clone()).await.unwrap(), [1, 2, 3]);
        actor.end().await;
        assert_eq!(actor.ask(|v| v.len()).await, Err(NoAnswer::Stopped));
        actor.end().await;
    }
    #[tokio::test(flavor = "multi_thread")]
    async fn a_job_that_panics_ends_nothing_but_itself() {
        // What is on the disk, and what is made of it.
        let actor = Actor::start(vec![1, 2], |_| Some(vec![1, 2]));
        let panics = |v: &mut Vec<i32>| {
            v.clear();
            panic!("in the midst of it");
        };
        for _ in 0..2 {
            assert_eq!(actor.ask(panics).await, Err(NoAnswer::Failed));
            assert_eq!(actor.ask(|v| v.clone()).await.unwrap(), [1, 2]);
        }
        // What cannot be put in order is not used.
        let actor = Actor::start(Vec::new(), |_| None);
        assert!(actor.ask(panics).await.is_err());
        assert_eq!(actor.ask(|v| v.len()).await, Err(NoAnswer::Stopped));
    }
}
