//! Batched submissions: many waiting tasks share few frames.
//!
//! Two background tasks run while there is work for them. The send loop submits the tasks that were
//! added while its last frame was in flight. The collect loop keeps one request open, whose reply has
//! the tasks that have ended. Neither delays a first task. Invariants: each waiter is completed
//! exactly once; a session has at most one loop of each kind, and a loop only touches its own session.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use tokio::{sync::oneshot, time::timeout_at};
use uuid::Uuid;

use super::{ClientError, Inner};
use crate::{
    lock::lock,
    task::{NewTask, TaskId, TaskResult},
};

mod background;
mod state;
#[cfg(test)]
mod tests;

use background::start_send_loop;
use state::BatchState;

/// Sends a waiter its outcome.
type Completion<T> = oneshot::Sender<Result<T, ClientError>>;

/// The batched submissions of a client.
#[derive(Default)]
pub(super) struct Batch(Mutex<BatchState>);

impl Batch {
    fn state(&self) -> MutexGuard<'_, BatchState> {
        lock(&self.0)
    }

    /// Returns the state, unless another session has started since.
    fn state_of(&self, session: Uuid) -> Option<MutexGuard<'_, BatchState>> {
        Some(self.state()).filter(|state| state.session == session)
    }

    /// Starts a new session. All waiters get [`ClientError::Stopped`].
    pub(super) fn stop(&self) {
        let state = mem::take(&mut *self.state());
        drop(state);
    }
}

/// Submits a task and waits until it is accepted.
pub(super) async fn accepted(inner: &Arc<Inner>, task: NewTask, until: Instant) -> Result<(), ClientError> {
    let id = task.id.clone();
    let receiver = inner.batch.state().add_accept_waiter(task);
    start_send_loop(inner);
    receive(inner, receiver, id, until).await
}

/// Submits a task and waits until it has ended.
pub(super) async fn ended(inner: &Arc<Inner>, task: NewTask, until: Instant) -> Result<Arc<TaskResult>, ClientError> {
    let id = task.id.clone();
    let receiver = inner.batch.state().add_end_waiter(task);
    start_send_loop(inner);
    receive(inner, receiver, id, until).await
}

/// Submits many tasks and waits until all have ended.
pub(super) async fn all_ended(
    inner: &Arc<Inner>,
    tasks: Vec<NewTask>,
    until: Instant,
) -> Vec<Result<Arc<TaskResult>, ClientError>> {
    let mut waiters = Vec::with_capacity(tasks.len());
    {
        let mut state = inner.batch.state();
        waiters.extend(tasks.into_iter().map(|task| (task.id.clone(), state.add_end_waiter(task))));
    }
    start_send_loop(inner);
    let mut results = Vec::with_capacity(waiters.len());
    for (id, receiver) in waiters {
        results.push(receive(inner, receiver, id, until).await);
    }
    results
}

async fn receive<T>(
    inner: &Inner,
    receiver: oneshot::Receiver<Result<T, ClientError>>,
    task_id: TaskId,
    until: Instant,
) -> Result<T, ClientError> {
    match timeout_at(until.into(), receiver).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(ClientError::Stopped),
        Err(_) => {
            let (accepted, stopping) = {
                let mut state = inner.batch.state();
                (state.drop_closed_waiters(&task_id), state.stopping.clone())
            };
            Err(stopping.filter(|_| !accepted).unwrap_or_else(|| inner.timed_out(task_id, accepted)))
        }
    }
}
