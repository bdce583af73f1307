//! What a client has seen of its tasks. Asks nobody.

use std::sync::Arc;

use super::{Client, Inner};
use crate::{
    lock::lock,
    task::{TaskId, TaskResult, TaskStatus},
};

/// How many ended and unended tasks a client remembers.
pub const SEEN_MAX: usize = 10_000;

/// What this client knows of a task.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Submitted,
    Ended(Arc<TaskResult>),
}

impl Client {
    /// The result of a task, if this client has seen it. Asks nobody.
    pub fn get_result(&self, task_id: &TaskId) -> Option<TaskResult> {
        match lock(&self.0.seen).get(task_id)? {
            Seen::Ended(result) => Some((**result).clone()),
            Seen::Submitted => None,
        }
    }

    /// How a task stands, as far as this client has seen. Asks nobody.
    pub fn get_status(&self, task_id: &TaskId) -> Option<TaskStatus> {
        match lock(&self.0.seen).get(task_id)? {
            Seen::Ended(result) => Some(result.status),
            Seen::Submitted => Some(TaskStatus::Pending),
        }
    }
}

impl Inner {
    pub(super) fn note_submitted(&self, id: &TaskId) {
        lock(&self.seen).put(id.clone(), Seen::Submitted);
    }

    pub(super) fn remember(&self, result: &Arc<TaskResult>) {
        lock(&self.seen).put(result.task_id.clone(), Seen::Ended(Arc::clone(result)));
    }

    /// Forgets a task that was not taken, or that nobody knows any more.
    pub(super) fn forget(&self, id: &TaskId) {
        let mut seen = lock(&self.seen);
        if matches!(seen.peek(id), Some(Seen::Submitted)) {
            seen.pop(id);
        }
    }
}
