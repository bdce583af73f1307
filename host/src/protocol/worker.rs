//! Messages between a subworker and the control plane.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Chunk, ChunkQuery, FRAME_ITEMS_MAX, HOLDS_MAX, ModuleList, ModulesQuery, NOTE_REPORTS_MAX, Refusal};
use crate::{
    bounded::at_most,
    json::Json,
    task::{ModuleInfo, ModuleVersion, Outcome, Report, TaskId, TaskPriority, Usage, serialize_with_metadata},
};

/// Request of a subworker, sent to the subworker port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerRequest {
    /// Registers a worker. Its reply is [`WorkerReply::Registered`].
    Register(Registration),
    /// Reports outcomes of a slot and requests leases. Its reply is [`WorkerReply::Leases`] as soon as there
    /// is a task to run; the reply also confirms the outcomes.
    Work(Work),
    /// Heartbeat. Its reply is [`WorkerReply::Orders`].
    Beat(Beat),
    /// Sends progress reports and returns leases between two requests for work. Its reply is
    /// [`WorkerReply::Noted`].
    Note(Note),
    /// Announces that the worker accepts no more work. Its reply is [`WorkerReply::Noted`].
    Drain(Uuid),
    /// Announces that the worker leaves and returns its leases. Its reply is [`WorkerReply::Noted`].
    Leave(Uuid),
    /// Requests a change of the worker's modules. Its reply is [`WorkerReply::Noted`], or
    /// [`WorkerReply::Declined`] if unfinished tasks could not run any more.
    Catalog(CatalogChange),
    /// Requests the list of the control plane's modules. Its reply is [`WorkerReply::Modules`] as soon as the list
    /// differs from the known one.
    Modules(ModulesQuery),
    /// Requests a part of a module. Its reply is [`WorkerReply::Chunk`].
    Chunk(ChunkQuery),
}

/// Registration of a subworker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// Key of the registration, new at each start and after each loss: leases of an older key are void.
    pub worker: Uuid,
    /// The key that the same process had before, which proves that it did not crash.
    pub previous: Option<Uuid>,
    /// Its worker id, human-readable.
    pub worker_id: String,
    /// The address to display for it.
    pub address: String,
    /// Maximum number of concurrent attempts.
    pub slots: u32,
    /// Its catalog.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub modules: Vec<ModuleInfo>,
}

/// A change of a worker's modules, sent before it takes effect: once it is noted, the worker is granted
/// tasks of the new catalog only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogChange {
    /// The worker.
    pub worker: Uuid,
    /// Number of the message, from 1. The same number gets the same reply.
    pub sequence: u64,
    /// The whole new catalog.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub modules: Vec<ModuleInfo>,
    /// Whether to change even if unfinished tasks could not run any more.
    pub force: bool,
}

/// Outcomes of a slot and its request for leases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The worker.
    pub worker: Uuid,
    /// The slot.
    pub slot: u32,
    /// Number of the slot's request, from 1. The same number gets the same reply.
    pub sequence: u64,
    /// Leases that have ended.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub ended: Vec<Ended>,
    /// Maximum number of leases to grant: 0 when it drains, or has more outcomes than fit here. Requesting
    /// more accounts for all leases granted before.
    pub capacity: u32,
}

/// The end of a lease.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Ended {
    /// The lease.
    pub lease: LeaseId,
    /// Outcome of the attempt; none if it was not started.
    pub outcome: Option<Outcome>,
    /// Run time of the attempt, in microseconds.
    pub ran_us: u64,
    /// What the attempt used.
    #[serde(default)]
    pub usage: Usage,
    /// The version of the module that ran it.
    pub version: Option<ModuleVersion>,
    /// Its reports that were not sent yet, oldest first.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub reports: Vec<Report>,
    /// Metadata that the attempt adds to the result, if it ends the task: a JSON object.
    #[serde(default = "Json::empty_object")]
    pub metadata: Json,
}

serialize_with_metadata!(Ended { lease, outcome, ran_us, usage, version, reports });

/// Number of a lease. Later leases have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

/// The right to run one attempt.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// The task.
    pub task_id: TaskId,
    /// The task name.
    pub name: Arc<str>,
    /// Starts at 1.
    pub attempt: u32,
    /// Timeout of the attempt, in microseconds.
    pub timeout_us: u64,
    /// A JSON array.
    pub args: Json,
    /// A JSON object.
    pub kwargs: Json,
    /// The task's priority.
    pub priority: TaskPriority,
    /// The task's metadata, a JSON object.
    #[serde(default = "Json::empty_object")]
    pub metadata: Json,
}

serialize_with_metadata!(Lease { id, task_id, name, attempt, timeout_us, args, kwargs, priority });

/// Heartbeat of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// The worker.
    pub worker: Uuid,
    /// The leases it holds.
    #[serde(deserialize_with = "at_most::<HOLDS_MAX, _, _>")]
    pub holds: Vec<LeaseId>,
}

/// Progress reports and returned leases between two requests for work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The worker.
    pub worker: Uuid,
    /// Number of the message, from 1.
    pub sequence: u64,
    /// Reports of running attempts, oldest first.
    #[serde(deserialize_with = "at_most::<NOTE_REPORTS_MAX, _, _>")]
    pub reports: Vec<(LeaseId, Report)>,
    /// Leases that were not started and would wait too long at this worker.
    #[serde(deserialize_with = "at_most::<HOLDS_MAX, _, _>")]
    pub returned: Vec<LeaseId>,
}

/// Reply of the control plane to a subworker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerReply {
    /// Reply to [`WorkerRequest::Register`].
    Registered,
    /// Reply to [`WorkerRequest::Work`].
    Leases(Vec<Lease>),
    /// Reply to [`WorkerRequest::Beat`].
    Orders(Vec<Order>),
    /// Confirms the request.
    Noted,
    /// The worker is not known, or was given up: register again under a new key. Its leases are void.
    Unknown,
    /// The request was not understood or not allowed.
    Refused(Refusal),
    /// Reply to [`WorkerRequest::Catalog`]: the old catalog stays.
    Declined(Refusal),
    /// Reply to [`WorkerRequest::Register`]: another worker of that worker id is connected. Repeat the request: it
    /// may be about to leave, or be lost.
    IdInUse(Refusal),
    /// Reply to [`WorkerRequest::Modules`].
    Modules(ModuleList),
    /// Reply to [`WorkerRequest::Chunk`].
    Chunk(Chunk),
}

/// Command to a subworker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Stop this attempt, or do not start it.
    Stop(LeaseId),
}
