//! Queries for tasks and events.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    bounded::at_most,
    clock::Timestamp,
    task::{TaskId, TaskPriority, TaskStatus, Usage, open_enum, usage},
};

/// Filter for tasks. Empty and absent fields do not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskQuery {
    /// Statuses to include.
    #[serde(deserialize_with = "at_most::<{ TaskStatus::ALL.len() }, _, _>")]
    pub statuses: Vec<TaskStatus>,
    /// Task name.
    pub name: Option<String>,
    /// The worker that runs or ran them.
    pub worker_id: Option<String>,
    /// Only tasks that were submitted, started or ended at this time or later.
    pub since: Option<Timestamp>,
    /// Number of matching tasks to skip.
    pub offset: u64,
    /// Maximum number of tasks in the page.
    pub limit: u32,
}

impl TaskQuery {
    /// Whether a task matches. `changed_at` is when it ended, else started, else was submitted.
    pub(crate) fn matches(&self, status: TaskStatus, name: &str, worker: Option<&str>, changed_at: Timestamp) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && self.name.as_deref().is_none_or(|required| *required == *name)
            && self.worker_id.as_deref().is_none_or(|required| worker == Some(required))
            && self.since.is_none_or(|since| changed_at >= since)
    }
}

/// A page of tasks: started ones first, then pending ones in the order of the queue, then scheduled ones,
/// then ended ones, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskSummary>,
    /// Number of matches among the tasks that were read.
    pub total: u64,
    /// Whether all tasks were read.
    pub complete: bool,
}

/// Summary of one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Its id.
    pub task_id: TaskId,
    /// Its task name.
    pub name: Arc<str>,
    /// Its status.
    pub status: TaskStatus,
    /// Its priority.
    pub priority: TaskPriority,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When its last attempt started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// The worker that runs it or ran its last attempt.
    pub worker_id: Option<Arc<str>>,
    /// The attempt that runs or ran last, 0 before the first.
    pub attempt: u32,
    /// First line of its error, or of that of its last attempt.
    pub error: Option<String>,
    /// When its next attempt is due, while it waits for that time.
    pub due_at: Option<Timestamp>,
}

/// Query for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventQuery {
    /// Number of the last event that was read, 0 for none.
    pub after: u64,
    /// Maximum wait for the next event, in milliseconds.
    pub wait_ms: u32,
}

/// Events and the position after them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Events, the oldest first.
    pub events: Vec<Event>,
    /// The number of the last of them: the `after` of the next query.
    pub last: u64,
    /// Number of requested events that are no longer kept.
    pub missed: u64,
    /// Time of event 1. It differs between control planes.
    pub began: Option<Timestamp>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Number of the event at its control plane, from 1.
    pub number: u64,
    /// Its time.
    pub at: Timestamp,
    /// Its kind.
    pub kind: EventKind,
    /// The task.
    pub task_id: Option<TaskId>,
    /// The task name, or the name of the schedule.
    pub name: Option<Arc<str>>,
    /// The task's priority.
    pub priority: Option<TaskPriority>,
    /// The worker.
    pub worker_id: Option<Arc<str>>,
    /// The attempt, 0 if there is none.
    pub attempt: u32,
    /// Human-readable details: an error, a module, an address.
    pub detail: Option<Box<str>>,
    /// What the attempt that ended used.
    #[serde(default, with = "usage::by_name")]
    pub usage: Option<Usage>,
}

open_enum! {
    /// Kind of an event.
    pub enum EventKind: "event kind" {
        /// A task waits in the queue.
        TaskQueued = "task.queued",
        /// A task waits for its start time.
        TaskScheduled = "task.scheduled",
        /// An attempt started.
        TaskStarted = "task.started",
        /// An attempt failed and is retried.
        TaskRetrying = "task.retrying",
        /// A task ended with a result.
        TaskSuccess = "task.success",
        /// A task ended with an error.
        TaskFailure = "task.failure",
        /// A task was cancelled.
        TaskCancelled = "task.cancelled",
        /// A worker registered.
        WorkerJoined = "worker.joined",
        /// A worker accepts no more work.
        WorkerDraining = "worker.draining",
        /// A worker left in an orderly way.
        WorkerLeft = "worker.left",
        /// A worker was lost.
        WorkerLost = "worker.lost",
        /// A worker's catalog changed.
        ModulesChanged = "modules.changed",
        /// A module of a worker could not be loaded, or was refused.
        ModuleRefused = "module.refused",
        /// A callback was delivered.
        CallbackDelivered = "callback.delivered",
        /// A callback was given up.
        CallbackFailed = "callback.failed",
        /// A schedule submitted a task.
        ScheduleFired = "schedule.fired",
        /// A schedule was due and submitted nothing, as its last task had not ended.
        ScheduleSkipped = "schedule.skipped",
    }
}
