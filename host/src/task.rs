//! The shared types: tasks, their statuses and results, modules and schedules.
//!
//! They have no behaviour beyond parsing and formatting; `control_plane::state` decides the transitions of a task.

use std::time::Duration;

use serde::Deserialize;

use crate::{clock::Timestamp, json::Json};

mod attempt;
mod callback;
mod checked_name;
mod id;
mod limits;
pub(crate) mod metadata;
mod module;
mod names;

mod new;
pub(crate) mod open;
mod policy;
mod refusal_code;
mod result;
pub mod schedule;
pub(crate) mod usage;

pub use attempt::{Failure, FollowUp, Outcome, Progress, Report};
pub use callback::{CALLBACK_ADDRESS_MAX, CALLBACK_DATA_MAX, CallbackInfo, Dialect};
pub use checked_name::{
    InvalidScheduleName, InvalidTaskName, InvalidWorkerId, TASK_NAME_MAX, TaskName, WORKER_ID_MAX, WorkerId,
};
pub use id::{NotATaskId, TASK_ID_MAX, TaskId};
pub(crate) use limits::duration;
pub use limits::{AttemptLimits, LimitKind, LimitUnit, RESULT_MAX, TaskLimits};
pub use metadata::METADATA_MAX;
pub(crate) use metadata::serialize_with_metadata;
pub use module::{
    LoadFailure, MODULE_TASKS_MAX, ModuleInfo, ModuleStatus, NotCallable, TAKEN_PREFIX, TaskInfo, UngrantedTask,
};
pub(crate) use names::named;
pub use names::{ErrorKind, LogLevel, SerializationFormat, TaskPriority, TaskStatus, UnknownName};
pub use new::{NewTask, Unknown};
pub(crate) use open::open_enum;
pub use open::{OPEN_NAME_MAX, OpenName};
pub use policy::Policy;
pub use refusal_code::RefusalCode;
pub use result::{Delivery, DeliveryState, ModuleVersion, TaskResult};
pub use schedule::ScheduleSpec;
pub use usage::Usage;

/// Timeout of an attempt if neither the submitter nor the task sets one.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_mins(5);

/// A task with its state.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Task {
    /// Unique task id.
    pub id: TaskId,
    /// The task name.
    pub name: String,
    /// Positional arguments, a JSON array.
    pub args: Json,
    /// Named arguments, a JSON object.
    pub kwargs: Json,
    /// Its priority.
    pub priority: TaskPriority,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// Start of its last attempt.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Its status.
    pub status: TaskStatus,
    /// Its return value.
    pub result: Option<Json>,
    /// Its error. While it is unfinished, the beginning of the error of its last attempt.
    pub error: Option<String>,
    /// Number of its last attempt, 0 before the first.
    pub attempt: u32,
    /// The last progress that an attempt reported.
    pub progress: Option<Progress>,
    /// The kind of `error`, machine-readable.
    pub error_kind: Option<ErrorKind>,
    /// The worker that runs it, or ran its last attempt.
    pub worker_id: Option<String>,
    /// When its next attempt is due, if it is scheduled.
    pub due_at: Option<Timestamp>,
    /// Whether a connected worker has a task of this name.
    #[serde(default)]
    pub offered: bool,
    /// When it fails as not found unless a worker with this task connects before; none once one has.
    #[serde(default)]
    pub unknown_until: Option<Timestamp>,
    /// The version of the module that ran its last attempt; none before its end.
    pub module_version: Option<ModuleVersion>,
    /// What its last attempt used; none before its end.
    #[serde(default)]
    pub usage: Option<Box<Usage>>,
    /// The delivery of its callback; none if it has no callback.
    pub callback: Option<Box<Delivery>>,
    /// A JSON object, at most [`METADATA_MAX`] bytes, that fastworker passes on.
    #[serde(default = "Json::empty_object")]
    pub metadata: Json,
}

impl Task {
    /// Whether it has ended, even with a status that this version does not know.
    pub fn has_ended(&self) -> bool {
        self.status.is_final() || self.completed_at.is_some()
    }
}

serialize_with_metadata!(Task {
    id,
    name,
    args,
    kwargs,
    priority,
    created_at,
    started_at,
    completed_at,
    status,
    result,
    error,
    attempt,
    progress,
    error_kind,
    worker_id,
    due_at,
    offered,
    unknown_until,
    module_version,
    usage,
    callback,
});
