//! Actors: a task that owns a state and does one thing at a time to it.
//!
//! What is done is a plain function of the state, never a future: so nothing in
//! an actor waits for the network, and nothing is locked while others do.

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

/// The actor is gone: its account was removed, or the bridge is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this part of the bridge has been stopped")]
pub struct Stopped;

impl<S: Send + 'static> Actor<S> {
    /// Starts an actor that owns `state`.
    pub fn start(mut state: S) -> Self {
        let (jobs, mut inbox) = mpsc::channel::<Work<S>>(QUEUE);
        tokio::spawn(async move {
            while let Some(work) = inbox.recv().await {
                match work {
                    // A job may sign, verify and fsync.
                    Work::Do(job) => tokio::task::block_in_place(|| job(&mut state)),
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
    ) -> Result<T, Stopped> {
        let (answer, wait) = oneshot::channel();
        let job: Job<S> = Box::new(move |state| {
            // Whoever asked may have gone; the work is done all the same.
            let _ = answer.send(job(state));
        });
        self.jobs.send(Work::Do(job)).await.map_err(|_| Stopped)?;
        wait.await.map_err(|_| Stopped)
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
        let actor = Actor::start(Vec::new());
        drop(actor.ask(|v: &mut Vec<u8>| v.push(0)));
        for i in 1..=3 {
            actor.ask(move |v| v.push(i)).await.unwrap();
        }
        assert_eq!(actor.ask(|v| v.clone()).await.unwrap(), [1, 2, 3]);
        actor.end().await;
        assert_eq!(actor.ask(|v| v.len()).await, Err(Stopped));
        actor.end().await;
    }
}
