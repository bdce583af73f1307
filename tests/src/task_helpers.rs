//! Waiting for the statuses and results of tasks.

use std::time::Duration;

use fastworker::{
    client::Client,
    protocol::Found,
    task::{Task, TaskId, TaskResult, TaskStatus},
};

use crate::wait::{TIMEOUT, eventually_async};

/// Waits until a task has this status, and returns it.
///
/// # Panics
/// When it takes too long.
pub async fn wait_for_status(client: &Client, id: &TaskId, status: TaskStatus) -> Task {
    let has_status = || async {
        match client.lookup(id, Duration::ZERO).await.expect("reply expected") {
            Found::Live(task) if task.status == status => Some(*task),
            Found::Ended(result) => panic!("it should be {status} and has ended: {result:?}"),
            Found::Live(_) | Found::Unknown => None,
        }
    };
    eventually_async(status.as_str(), TIMEOUT, has_status).await
}

/// Waits for the result of a task.
///
/// # Panics
/// When it takes too long.
pub async fn wait_for_result(client: &Client, id: &TaskId) -> TaskResult {
    wait_for_result_within(client, id, TIMEOUT).await
}

/// Waits for the result of a task, at most `limit`.
///
/// # Panics
/// When it does not arrive within the timeout.
pub async fn wait_for_result_within(client: &Client, id: &TaskId, limit: Duration) -> TaskResult {
    match client.lookup(id, limit).await.expect("reply expected") {
        Found::Ended(result) => (*result).clone(),
        other => panic!("task {id} has not ended within {limit:?}: {other:?}"),
    }
}

/// The result of a successful task, as a string.
///
/// # Panics
/// When it did not succeed.
#[track_caller]
pub fn expect_success(result: &TaskResult) -> &str {
    assert_eq!(result.status, TaskStatus::Success, "{result:?}");
    result.result.as_ref().expect("a success has a result").as_str()
}
