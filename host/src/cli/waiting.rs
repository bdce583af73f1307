//! Notes on what a command waits for, printed to stderr after one second.

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

/// Delay before the first note.
const NOTE_DELAY: Duration = Duration::from_secs(1);
/// Maximum interval between two checks of what a command waits for.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// Timeout for querying the status of a task.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// The state that a command waits for to change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum WaitReason {
    /// The control plane does not reply.
    NoReply,
    /// The control plane replies, but does not know the task yet.
    NotAccepted,
    /// The status of the task, whether a worker has tasks of its name, and the worker that runs it.
    Task { status: TaskStatus, offered: bool, worker_id: Option<String> },
}

/// Starts a client. Prints a note if no control plane replies within a second.
pub(super) async fn start_client_with_notes(
    client: &Client,
    address: Option<&Address>,
    discovery: &Address,
    timeout: Duration,
) -> Result<(), ClientError> {
    let mut start = pin!(client.start());
    if let Ok(started) = tokio::time::timeout(NOTE_DELAY, &mut start).await {
        return started;
    }
    if timeout > NOTE_DELAY {
        let limit = render::format_time_limit(timeout);
        match address {
            Some(base) => render::print_note(&format!("no control plane replies at {base} yet: waiting for it{limit}")),
            None => {
                render::print_note(&format!(
                    "no control plane is announced at {discovery} yet: waiting for one{limit}"
                ));
            }
        }
    }
    start.await
}

/// Runs `work`, which waits for a task. Prints what it waits for, and again whenever that changes. If `has_output`
/// is set, because output of the task has been printed, it only reports that the control plane does not reply.
pub(super) async fn run_with_notes<T>(
    client: &Client,
    id: &TaskId,
    timeout: Duration,
    has_output: &Cell<bool>,
    work: impl Future<Output = T>,
) -> T {
    let (mut work, started) = (pin!(work), Instant::now());
    let (mut last_reason, mut interval) = (None, NOTE_DELAY);
    loop {
        if let Ok(done) = tokio::time::timeout(interval, &mut work).await {
            return done;
        }
        let current = tokio::select! {
            biased;
            done = &mut work => return done,
            current = wait_reason(client, id) => current,
        };
        if let Some((reason, task)) = current
            && last_reason.as_ref() != Some(&reason)
        {
            let remaining = timeout.saturating_sub(started.elapsed());
            if reason == WaitReason::NoReply {
                let limit = render::format_time_limit(remaining);
                render::print_note(&format!("the control plane is not responding; waiting{limit}"));
            } else if !has_output.get() {
                let missing = match &task {
                    Some(task) if task.status == TaskStatus::Pending && !task.offered => {
                        missing_grants(client, &task.name).await
                    }
                    _ => Vec::new(),
                };
                render::print_note(&render::format_wait_note(id, task.as_ref(), &missing, remaining));
            }
            last_reason = Some(reason);
        }
        interval = (interval * 2).min(CHECK_INTERVAL_MAX);
    }
}

/// What a worker lacks that has the task but does not serve it; empty if there is no such worker.
async fn missing_grants(client: &Client, task: &str) -> Vec<String> {
    let Ok(Ok(workers)) = tokio::time::timeout(STATUS_TIMEOUT, client.list_tasks()).await else { return Vec::new() };
    let ungranted = workers.into_iter().flat_map(|worker| worker.modules).flat_map(|module| module.ungranted);
    ungranted.into_iter().find(|it| it.name == task).map(|it| it.missing).unwrap_or_default()
}

/// The reason why a task has not ended. None if it has ended, or its state cannot be queried.
async fn wait_reason(client: &Client, id: &TaskId) -> Option<(WaitReason, Option<Task>)> {
    match tokio::time::timeout(STATUS_TIMEOUT, client.describe(id)).await {
        Ok(Ok(None)) => Some((WaitReason::NotAccepted, None)),
        Ok(Ok(Some(task))) if task.has_ended() => None,
        Ok(Ok(Some(task))) => {
            let (status, offered, worker_id) = (task.status, task.offered, task.worker_id.clone());
            Some((WaitReason::Task { status, offered, worker_id }, Some(task)))
        }
        Ok(Err(ClientError::Unreachable { .. })) | Err(_) => Some((WaitReason::NoReply, None)),
        Ok(Err(_)) => None,
    }
}
