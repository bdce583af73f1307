//! What is asked and told about schedules.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    json::Json,
    task::{Policy, ScheduleSpec, TaskId, TaskStatus, Unknown, open_enum},
};

/// Asks for something about schedules. Answered with the schedule it is about, or with nothing if
/// there is none of that name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleRequest {
    /// Keep this schedule. One of the same name and content is left as it is.
    Add {
        /// The schedule.
        schedule: Box<NewSchedule>,
        /// Whether it may take the place of another one of its name.
        replace: bool,
    },
    /// Which schedules are there? Answered with all of them.
    List,
    /// Submit nothing by this schedule until it is resumed.
    Pause(String),
    /// Go on with this schedule.
    Resume(String),
    /// Submit its task now, beside its times.
    Trigger {
        /// The schedule's name.
        name: String,
        /// The task's id, made by the client, so that asking twice is asking once.
        task_id: TaskId,
    },
    /// Forget this schedule. What it submitted goes on.
    Remove(String),
}

/// A schedule as it is added.
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
    /// How each task wants to be treated.
    #[serde(default)]
    pub policy: Policy,
    /// What to do if no worker has it.
    #[serde(default)]
    pub unknown: Unknown,
}

impl NewSchedule {
    /// A schedule that submits a task without arguments and with every default.
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

/// A schedule as the control plane knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleInfo {
    /// What was added.
    pub schedule: Arc<NewSchedule>,
    /// Who added it.
    pub source: ScheduleSource,
    /// How it stands.
    pub status: ScheduleStatus,
    /// When it is due next, if it is.
    pub next_run: Option<Timestamp>,
    /// When it last submitted a task.
    pub last_run: Option<Timestamp>,
    /// That task.
    pub last_task_id: Option<TaskId>,
    /// How that task stands or ended.
    pub last_status: Option<TaskStatus>,
    /// Tasks that it submitted at its times.
    pub runs: u64,
    /// Times that were left out, since the last task had not ended, nobody was awake or the task
    /// was refused.
    pub skipped: u64,
    /// Times that are left of its count.
    pub remaining: Option<u64>,
}

/// Who added a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleSource {
    /// Somebody, by a request.
    Command,
    /// The module of this name, in which the task says so itself.
    Module(Arc<str>),
}

open_enum! {
    /// How a schedule stands.
    pub enum ScheduleStatus: "schedule status" {
        /// Submits tasks when it is due.
        Active = "active",
        /// Submits nothing until it is resumed.
        Paused = "paused",
        /// Its count or its time is over.
        Finished = "finished",
        /// Comes from a module that no worker has now.
        Absent = "absent",
    }
}
