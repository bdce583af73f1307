//! What a command says while it waits: after a second, on the standard error, in a line of its own.

use std::{
    cell::Cell,
    pin::pin,
    time::{Duration, Instant},
};

use super::{TaskId, render};
use crate::{
    client::{Client, ClientError},
    config::Address,
    task::{Task, TaskStatus},
};

/// A command that has waited for this long says what for.
const SAY_AFTER: Duration = Duration::from_secs(1);
/// The longest between two looks at what it waits for now.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(30);
/// How long the control plane may take to say how a task stands.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// What a command waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    /// The control plane does not answer.
    Silence,
    /// The control plane answers, and does not know the task.
    Unaccepted,
    /// The task has this status; whether a worker has tasks of its name, and which one runs it.
    Task { status: TaskStatus, offered: bool, worker_id: Option<String> },
}

/// Starts a client, and says after a second that no control plane answers yet.
pub(super) async fn start(
    client: &Client,
    given: Option<&Address>,
    discovery: &Address,
    timeout: Duration,
) -> Result<(), ClientError> {
    let mut start = pin!(client.start());
    if let Ok(started) = tokio::time::timeout(SAY_AFTER, &mut start).await {
        return started;
    }
    if timeout > SAY_AFTER {
        let limit = render::limit(timeout);
        match given {
            Some(base) => render::note(&format!("no control plane answers at {base} yet: waiting for it{limit}")),
            None => render::note(&format!("no control plane is announced at {discovery} yet: waiting for one{limit}")),
        }
    }
    start.await
}

/// Waits for a task with `work`, and says what it waits for, and again when that changes. Once `shown`,
/// only a control plane that does not answer is worth a word.
pub(super) async fn until_ended<T>(
    client: &Client,
    id: &TaskId,
    timeout: Duration,
    shown: &Cell<bool>,
    work: impl Future<Output = T>,
) -> T {
    let (mut work, begun) = (pin!(work), Instant::now());
    let (mut said, mut pause) = (None, SAY_AFTER);
    loop {
        if let Ok(done) = tokio::time::timeout(pause, &mut work).await {
            return done;
        }
        let looked = tokio::select! {
            biased;
            done = &mut work => return done,
            looked = look(client, id) => looked,
        };
        if let Some((reason, task)) = looked
            && said.as_ref() != Some(&reason)
        {
            let left = timeout.saturating_sub(begun.elapsed());
            if reason == Reason::Silence {
                let limit = render::limit(left);
                render::note(&format!("the control plane does not answer: waiting for it{limit}"));
            } else if !shown.get() {
                render::note(&render::waiting(id, task.as_ref(), left));
            }
            said = Some(reason);
        }
        pause = (pause * 2).min(LOOK_EVERY_MAX);
    }
}

/// What a task waits for. None if it has ended, or nothing is known.
async fn look(client: &Client, id: &TaskId) -> Option<(Reason, Option<Task>)> {
    match tokio::time::timeout(ANSWER_MAX, client.describe(id)).await {
        Ok(Ok(None)) => Some((Reason::Unaccepted, None)),
        Ok(Ok(Some(task))) if task.has_ended() => None,
        Ok(Ok(Some(task))) => {
            let (status, offered, worker_id) = (task.status, task.offered, task.worker_id.clone());
            Some((Reason::Task { status, offered, worker_id }, Some(task)))
        }
        Ok(Err(ClientError::Unreachable { .. })) | Err(_) => Some((Reason::Silence, None)),
        Ok(Err(_)) => None,
    }
}
