//! Requests about schedules.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    json::Json,
    task::{Policy, ScheduleSpec, TaskId, TaskStatus, Unknown, open_enum},
};

/// Request about schedules. Answered with the schedule, or with an empty list if there is none of that
/// name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleRequest {
    /// Adds a schedule. Adding the same one again changes nothing.
    Add {
        /// The schedule.
        schedule: Box<NewSchedule>,
        /// Whether it may replace another one of its name.
        replace: bool,
    },
    /// Lists all schedules.
    List,
    /// Pauses a schedule until it is resumed.
    Pause(String),
    /// Resumes a schedule.
    Resume(String),
    /// Submits its task now, in addition to its times.
    Trigger {
        /// The schedule's name.
        name: String,
        /// The task's id, made by the client, so that a repeated request submits one task.
        task_id: TaskId,
    },
    /// Removes a schedule. Tasks that it has submitted go on.
    Remove(String),
}

/// A schedule to add.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewSchedule {
    /// Its name.
    pub name: String,
    /// When it is due.
    pub spec: ScheduleSpec,
    /// The task name that it submits.
    pub task_name: String,
    /// A JSON array.
    #[serde(default = "Json::empty_array")]
    pub args: Json,
    /// A JSON object.
    #[serde(default = "Json::empty_object")]
    pub kwargs: Json,
    /// Policy of its tasks.
    #[serde(default)]
    pub policy: Policy,
    /// What to do if no worker has the task.
    #[serde(default)]
    pub unknown: Unknown,
}

impl NewSchedule {
    /// Returns a schedule of a task without arguments, with default options.
    pub fn new(name: impl Into<String>, task_name: impl Into<String>, spec: ScheduleSpec) -> Self {
        Self {
            name: name.into(),
            spec,
            task_name: task_name.into(),
            args: Json::empty_array(),
            kwargs: Json::empty_object(),
            policy: Policy::default(),
            unknown: Unknown::Fail,
        }
    }
}

/// A schedule with its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleInfo {
    /// The schedule.
    pub schedule: Arc<NewSchedule>,
    /// Where it comes from.
    pub source: ScheduleSource,
    /// Its status.
    pub status: ScheduleStatus,
    /// Its next time, if there is one.
    pub next_run: Option<Timestamp>,
    /// When it last submitted a task.
    pub last_run: Option<Timestamp>,
    /// That task.
    pub last_task_id: Option<TaskId>,
    /// Status of that task.
    pub last_status: Option<TaskStatus>,
    /// Number of tasks submitted at its times.
    pub runs: u64,
    /// Number of skipped times: the last task had not ended, the control plane was down, or the task was
    /// refused.
    pub skipped: u64,
    /// Remaining number of times, if it has a count.
    pub remaining: Option<u64>,
}

/// Where a schedule comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleSource {
    /// A request.
    Command,
    /// The task module of this name, which declares it.
    Module(Arc<str>),
}

open_enum! {
    /// Status of a schedule.
    pub enum ScheduleStatus: "schedule status" {
        /// It submits tasks at its times.
        Active = "active",
        /// It submits nothing until it is resumed.
        Paused = "paused",
        /// Its count or its time is over.
        Finished = "finished",
        /// It comes from a module that no worker has at present.
        Absent = "absent",
    }
}
