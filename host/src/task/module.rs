//! Task modules: their tasks and their status.

use serde::{Deserialize, Serialize};

use super::{Policy, RefusalCode, ScheduleSpec, TaskLimits, open_enum};
use crate::{
    bounded::{FRAME_ITEMS_MAX, at_most},
    clock::Timestamp,
    json::Json,
};

/// Maximum tasks of a module.
pub const MODULE_TASKS_MAX: usize = 10_000;

/// The beginning of the path of a module that a worker has taken from its control plane; the path there follows.
pub const TAKEN_PREFIX: &str = "control-plane:/";

/// A task of a module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// The task name.
    pub name: String,
    /// The full name of the same task, if this is the short name of a plain component's function.
    pub full_name: Option<String>,
    /// Its documentation, human-readable.
    pub documentation: String,
    /// Parameters and result, a JSON object as in `wit/v1/task.wit`.
    pub schema: Json,
    /// Its default policy.
    pub policy: Policy,
    /// The limits of its attempts, as far as they are not those of its worker.
    pub limits: TaskLimits,
    /// Its schedule, if it is submitted automatically.
    pub schedule: Option<ScheduleSpec>,
    /// The names of the grants that it needs, such as `http:api.example.com`.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub needs: Vec<String>,
    /// Unknown keys and unreadable values of its policy.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub warnings: Vec<String>,
}

/// A function that cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCallable {
    /// Its full name: `ns:pkg/ops@1.0.0#open`.
    pub name: String,
    /// The reason: "its result has a resource".
    pub reason: String,
}

/// A task that a worker has loaded but does not serve, as it lacks grants that the task needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UngrantedTask {
    /// The task name.
    pub name: String,
    /// The names of the grants that the worker lacks.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub missing: Vec<String>,
}

/// A task module that a worker has loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// The file name without `.wasm`.
    pub name: String,
    /// The path of the file, or [`TAKEN_PREFIX`] and the path on the control plane.
    pub path: String,
    /// BLAKE3 of the file, in hexadecimal; empty if it was never loaded.
    pub hash: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// When this version was loaded.
    pub loaded_at: Timestamp,
    /// The allocation of its instances: "pooling", or "on-demand" if it does not fit into the pool.
    pub engine: String,
    /// The interfaces that the module imports.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub imports: Vec<String>,
    /// Its tasks.
    #[serde(deserialize_with = "at_most::<MODULE_TASKS_MAX, _, _>")]
    pub tasks: Vec<TaskInfo>,
    /// Functions of a plain component that are not among its tasks.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub not_callable: Vec<NotCallable>,
    /// Its tasks that the worker does not serve.
    #[serde(deserialize_with = "at_most::<MODULE_TASKS_MAX, _, _>")]
    pub ungranted: Vec<UngrantedTask>,
    /// The names of what the worker grants to the module, such as `env:NAME` and `http:api.example.com`.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub grants: Vec<String>,
    /// Its status.
    pub status: ModuleStatus,
    /// The error of the newest version of its file; none if it runs.
    pub last_error: Option<LoadFailure>,
}

impl ModuleInfo {
    /// Whether the worker has taken it from its control plane.
    pub fn is_taken(&self) -> bool {
        self.path.starts_with(TAKEN_PREFIX)
    }

    /// Its version as in results; empty if it was never loaded.
    pub fn version(&self) -> &str {
        self.hash.get(..16).unwrap_or_default()
    }
}

open_enum! {
    /// The status of a module on a worker.
    #[derive(Default)]
    pub enum ModuleStatus: "module status" {
        /// Loaded: its tasks run.
        #[default]
        Loaded = "loaded",
        /// Its file was removed. The last version still runs.
        Missing = "missing",
        /// Its file has been missing from a watched directory for too long: tasks submitted before still run, new ones
        /// are refused.
        Leaving = "leaving",
        /// It was never loaded: its tasks are not known.
        Broken = "broken",
        /// It is being compiled or registers its tasks, which are not known yet.
        Loading = "loading",
    }
}

/// Refusal of a version of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadFailure {
    /// Time of the first attempt to load it.
    pub at: Timestamp,
    /// The reason.
    pub message: String,
    /// The code of the control plane's refusal; none if the worker refused it.
    #[serde(default)]
    pub code: Option<RefusalCode>,
}
