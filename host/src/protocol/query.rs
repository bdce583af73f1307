//! What is asked and told about the whole: tasks by how they stand, and what happened lately.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::at_most;
use crate::{
    clock::Timestamp,
    task::{TaskId, TaskPriority, TaskStatus, named},
};

/// Asks for tasks. What is empty or none does not narrow it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskQuery {
    /// How they may stand.
    #[serde(deserialize_with = "at_most::<{ TaskStatus::ALL.len() }, _, _>")]
    pub statuses: Vec<TaskStatus>,
    /// Their task name.
    pub name: Option<String>,
    /// The worker that runs or ran them.
    pub worker_id: Option<String>,
    /// The moment since which something of them is new: they were submitted, began or ended.
    pub since: Option<Timestamp>,
    /// How many of the matching ones to leave out.
    pub offset: u64,
    /// How many to tell of.
    pub limit: u32,
}

impl TaskQuery {
    /// Whether it asks for a task of this status and name, at this worker, that ended, else began,
    /// else was submitted then.
    pub(crate) fn matches(&self, status: TaskStatus, name: &str, worker: Option<&str>, changed_at: Timestamp) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && self.name.as_deref().is_none_or(|asked| *asked == *name)
            && self.worker_id.as_deref().is_none_or(|asked| worker == Some(asked))
            && self.since.is_none_or(|since| changed_at >= since)
    }
}

/// Some tasks: running ones first, then waiting ones in the order of the queue, then those that
/// wait for their moment, then ended ones, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskSummary>,
    /// How many match, as far as was looked.
    pub total: u64,
    /// Whether all tasks were looked at.
    pub complete: bool,
}

/// One task, in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Its id.
    pub task_id: TaskId,
    /// Its task name.
    pub name: Arc<str>,
    /// How it stands.
    pub status: TaskStatus,
    /// How urgent it is.
    pub priority: TaskPriority,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// The worker that runs it or ran its last attempt.
    pub worker_id: Option<Arc<str>>,
    /// The attempt that runs or ran last, 0 before the first.
    pub attempt: u32,
    /// The first line of why it, or its last attempt, failed.
    pub error: Option<String>,
    /// When its next attempt is due, while it waits for that moment.
    pub due_at: Option<Timestamp>,
}

/// Asks what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventQuery {
    /// The number of the last event that was seen, 0 for none.
    pub after: u64,
    /// How long to wait for the next.
    pub wait_ms: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Events, the oldest first.
    pub events: Vec<Event>,
    /// The number of the last of them: the `after` to ask with next.
    pub last: u64,
    /// How many that were asked for are no longer known.
    pub missed: u64,
    /// When number 1 happened, which tells the events of one control plane from those of the next.
    pub began: Option<Timestamp>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one with each event of a control plane, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// To which task.
    pub task_id: Option<TaskId>,
    /// Its task name, or that of a schedule.
    pub name: Option<Arc<str>>,
    /// Its priority.
    pub priority: Option<TaskPriority>,
    /// At which worker.
    pub worker_id: Option<Arc<str>>,
    /// The attempt, 0 where there is none.
    pub attempt: u32,
    /// More, for people: an error, a module, an address.
    pub detail: Option<Box<str>>,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A task waits in the queue.
    TaskQueued,
    /// A task waits for its moment.
    TaskScheduled,
    /// An attempt began.
    TaskStarted,
    /// An attempt failed, and another will follow.
    TaskRetrying,
    /// A task ended with a result.
    TaskSuccess,
    /// A task ended with an error.
    TaskFailure,
    /// A task was stopped.
    TaskCancelled,
    /// A worker came.
    WorkerJoined,
    /// A worker takes no more work.
    WorkerDraining,
    /// A worker went in good order.
    WorkerLeft,
    /// A worker was lost.
    WorkerLost,
    /// A worker's catalog changed.
    ModulesChanged,
    /// A module of a worker could not be loaded, or was refused.
    ModuleRefused,
    /// A callback was taken by the other side.
    CallbackDelivered,
    /// A callback was given up.
    CallbackFailed,
    /// A schedule submitted a task.
    ScheduleFired,
    /// A schedule was due and left out, as its last task had not ended.
    ScheduleSkipped,
}

impl EventKind {
    /// All of them.
    pub const ALL: [EventKind; 17] = [
        Self::TaskQueued,
        Self::TaskScheduled,
        Self::TaskStarted,
        Self::TaskRetrying,
        Self::TaskSuccess,
        Self::TaskFailure,
        Self::TaskCancelled,
        Self::WorkerJoined,
        Self::WorkerDraining,
        Self::WorkerLeft,
        Self::WorkerLost,
        Self::ModulesChanged,
        Self::ModuleRefused,
        Self::CallbackDelivered,
        Self::CallbackFailed,
        Self::ScheduleFired,
        Self::ScheduleSkipped,
    ];

    /// The name, such as `task.queued`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TaskQueued => "task.queued",
            Self::TaskScheduled => "task.scheduled",
            Self::TaskStarted => "task.started",
            Self::TaskRetrying => "task.retrying",
            Self::TaskSuccess => "task.success",
            Self::TaskFailure => "task.failure",
            Self::TaskCancelled => "task.cancelled",
            Self::WorkerJoined => "worker.joined",
            Self::WorkerDraining => "worker.draining",
            Self::WorkerLeft => "worker.left",
            Self::WorkerLost => "worker.lost",
            Self::ModulesChanged => "modules.changed",
            Self::ModuleRefused => "module.refused",
            Self::CallbackDelivered => "callback.delivered",
            Self::CallbackFailed => "callback.failed",
            Self::ScheduleFired => "schedule.fired",
            Self::ScheduleSkipped => "schedule.skipped",
        }
    }
}

named!(EventKind, "event kind");
