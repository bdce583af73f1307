//! Cache of the results that a client has received. Reading it sends no request.

use std::sync::Arc;

use super::{Client, Inner};
use crate::{
    lock::lock,
    task::{TaskId, TaskResult, TaskStatus},
};

/// Maximum number of tasks in the cache, whether they have ended or not.
pub const RESULT_CACHE_MAX: usize = 10_000;

/// A task in the cache.
#[derive(Clone, Debug)]
pub(super) enum CachedTask {
    Submitted,
    Ended(Arc<TaskResult>),
}

impl Client {
    /// Returns the result of a task from the cache: none if this client has not received it.
    ///
    /// [`Client::get_task_result`] requests it from the control plane.
    pub fn get_result(&self, task_id: &TaskId) -> Option<TaskResult> {
        match lock(&self.0.result_cache).get(task_id)? {
            CachedTask::Ended(result) => Some((**result).clone()),
            CachedTask::Submitted => None,
        }
    }

    /// Returns the status of a task from the cache: pending if this client has submitted it and not received
    /// its result.
    pub fn get_status(&self, task_id: &TaskId) -> Option<TaskStatus> {
        match lock(&self.0.result_cache).get(task_id)? {
            CachedTask::Ended(result) => Some(result.status),
            CachedTask::Submitted => Some(TaskStatus::Pending),
        }
    }
}

impl Inner {
    pub(super) fn cache_submitted(&self, id: &TaskId) {
        lock(&self.result_cache).put(id.clone(), CachedTask::Submitted);
    }

    pub(super) fn cache_result(&self, result: &Arc<TaskResult>) {
        lock(&self.result_cache).put(result.task_id.clone(), CachedTask::Ended(Arc::clone(result)));
    }

    /// Removes a task that was refused, or that the control plane no longer knows.
    pub(super) fn uncache(&self, id: &TaskId) {
        let mut result_cache = lock(&self.result_cache);
        if matches!(result_cache.peek(id), Some(CachedTask::Submitted)) {
            result_cache.pop(id);
        }
    }
}
