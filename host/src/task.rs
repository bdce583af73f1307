//! The vocabulary: what a task is, how it can stand and how it can end.
//!
//! Every other file speaks in these types. They hold no behaviour beyond reading and writing
//! themselves; what happens to a task is decided in `control_plane::state`.

use std::time::Duration;

use serde::Deserialize;

use crate::{clock::Timestamp, json::Json};

mod attempt;
mod callback;
mod id;
pub(crate) mod metadata;
mod module;
mod names;
mod new;
pub(crate) mod open;
mod policy;
mod result;
pub mod schedule;

pub use attempt::{Failure, FollowUp, Outcome, Progress, Report};
pub use callback::{CALLBACK_ADDRESS_MAX, CALLBACK_DATA_MAX, CallbackInfo, Dialect};
pub use id::{NotATaskId, TASK_ID_MAX, TaskId};
pub use metadata::METADATA_MAX;
pub(crate) use metadata::serialize_with_metadata;
pub use module::{LoadFailure, MODULE_TASKS_MAX, ModuleInfo, ModuleStatus, TaskInfo};
pub(crate) use names::named;
pub use names::{ErrorKind, LogLevel, SerializationFormat, TaskPriority, TaskStatus, UnknownName};
pub use new::{NewTask, Unknown};
pub(crate) use open::open_enum;
pub use open::{OPEN_NAME_MAX, OpenName};
pub use policy::Policy;
pub use result::{Delivery, DeliveryState, ModuleVersion, TaskResult};
pub use schedule::ScheduleSpec;

/// Longest task name in bytes.
pub const TASK_NAME_MAX: usize = 128;
/// How long an attempt may run when neither the submitter nor the task says.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_mins(5);

/// Whether `name` can be the name of a task, or that of a schedule.
pub(crate) fn is_task_name(name: &str) -> bool {
    (1..=TASK_NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// A task as the control plane knows it.
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
    /// How urgent it is.
    pub priority: TaskPriority,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// How it stands.
    pub status: TaskStatus,
    /// What it returned.
    pub result: Option<Json>,
    /// Why it failed; before its end, the beginning of why its last attempt did.
    pub error: Option<String>,
    /// The attempt that runs or ran last, 0 before the first.
    pub attempt: u32,
    /// The last progress an attempt told of.
    pub progress: Option<Progress>,
    /// The same as `error`, for programs.
    pub error_kind: Option<ErrorKind>,
    /// The worker that runs it, or that ran its last attempt once it has ended.
    pub worker_id: Option<String>,
    /// When its next attempt is due, while it waits for that moment.
    pub due_at: Option<Timestamp>,
    /// Whether a worker has a task of its name.
    #[serde(default)]
    pub offered: bool,
    /// When it fails as not found unless a worker with its name connects before; none once one has.
    #[serde(default)]
    pub unknown_until: Option<Timestamp>,
    /// The version of the module that ran its last attempt, once it has ended.
    pub module_version: Option<ModuleVersion>,
    /// What became of its callback; none if it has none.
    pub callback: Option<Box<Delivery>>,
    /// A JSON object, at most [`METADATA_MAX`] bytes, that fastworker carries along.
    #[serde(default = "Json::empty_object")]
    pub metadata: Json,
}

impl Task {
    /// Whether it has ended, also with a status that this version does not know.
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
    callback,
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_name_is_a_short_text_without_control_characters() {
        assert!(is_task_name("resize") && is_task_name(&"x".repeat(TASK_NAME_MAX)));
        assert!(!is_task_name("") && !is_task_name("a\nb") && !is_task_name(&"x".repeat(TASK_NAME_MAX + 1)));
    }
}
