//! What a task module offers, and how it stands.

use serde::{Deserialize, Serialize};

use super::{Policy, ScheduleSpec, open_enum};
use crate::{
    bounded::{FRAME_ITEMS_MAX, at_most},
    clock::Timestamp,
    json::Json,
    protocol::RefusalCode,
};

/// How many tasks a module may offer.
pub const MODULE_TASKS_MAX: usize = 10_000;

/// A task that a module offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// The task name.
    pub name: String,
    /// What it does, for people.
    pub documentation: String,
    /// Parameters and result, a JSON object as in `wit/v1/task.wit`.
    pub schema: Json,
    /// Its own defaults.
    pub policy: Policy,
    /// When it is submitted by itself.
    pub schedule: Option<ScheduleSpec>,
    /// Keys of its policy that this version does not know, and values it could not read.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub warnings: Vec<String>,
}

/// A task module that a worker has loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// The file name without `.wasm`.
    pub name: String,
    /// The file.
    pub path: String,
    /// BLAKE3 of the file, in hexadecimal; empty if it was never loaded.
    pub hash: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// When this version was loaded.
    pub loaded_at: Timestamp,
    /// How its instances are made: "pooling", or "on-demand" where it does not fit into the pool.
    pub engine: String,
    /// The interfaces that the module imports.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub imports: Vec<String>,
    /// The tasks it offers.
    #[serde(deserialize_with = "at_most::<MODULE_TASKS_MAX, _, _>")]
    pub tasks: Vec<TaskInfo>,
    /// How it stands.
    pub status: ModuleStatus,
    /// Why the newest content of its file is not what runs; none if it is.
    pub last_error: Option<LoadFailure>,
}

impl ModuleInfo {
    /// Its version, as results name it; empty if it was never loaded.
    pub fn version(&self) -> &str {
        self.hash.get(..16).unwrap_or_default()
    }
}

open_enum! {
    /// How a module of a worker stands.
    #[derive(Default)]
    pub enum ModuleStatus: "module status" {
        /// Loaded: its tasks run.
        #[default]
        Loaded = "loaded",
        /// Its file is gone. The version that was loaded last runs on.
        Missing = "missing",
        /// Its file has been gone from a watched folder for too long: it runs what was submitted before,
        /// and takes nothing new.
        Leaving = "leaving",
        /// Was never loaded: its tasks are not known.
        Broken = "broken",
        /// Is being compiled or registers its tasks: they are not known yet.
        Loading = "loading",
    }
}

/// Why a version of a module was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadFailure {
    /// When it was tried first.
    pub at: Timestamp,
    /// What is wrong with it.
    pub message: String,
    /// Why the control plane refused it; none if the worker did.
    #[serde(default)]
    pub code: Option<RefusalCode>,
}
