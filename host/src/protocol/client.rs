//! Messages between a client and the control plane.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{EventQuery, Events, FRAME_ITEMS_MAX, Refusal, ScheduleInfo, ScheduleRequest, TaskPage, TaskQuery};
use crate::{
    bounded::at_most,
    clock::Timestamp,
    task::{ModuleInfo, NewTask, Report, Task, TaskId, TaskResult, open_enum},
};

/// Request of a client, sent to the management address (base + 4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Handshake and probe. Its reply is [`Reply::Welcome`].
    Hello,
    /// Submits tasks. Its reply is [`Reply::Submitted`].
    Submit(Submit),
    /// Collects the results of a session. Its reply is [`Reply::Collected`].
    Collect(Collect),
    /// Looks up tasks. Its reply is [`Reply::Found`].
    Lookup(Lookup),
    /// Cancels tasks. Its reply is [`Reply::Cancelled`].
    Cancel(#[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")] Vec<TaskId>),
    /// Lists workers and their modules. Its reply is [`Reply::Workers`].
    Workers,
    /// Reads the reports of a task. Its reply is [`Reply::Reports`].
    Follow(Follow),
    /// Lists tasks. Its reply is [`Reply::Tasks`].
    Tasks(TaskQuery),
    /// Reads events. Its reply is [`Reply::Events`].
    Events(EventQuery),
    /// Lists or changes schedules. Its reply is [`Reply::Schedules`].
    Schedule(ScheduleRequest),
    /// Reads the details of a task. Its reply is [`Reply::Described`].
    Describe(TaskId),
}

/// A submission of tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    /// At most [`FRAME_ITEMS_MAX`] tasks.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub tasks: Vec<NewTask>,
    /// Notification of the submitter when they have ended.
    pub notify: Notify,
}

/// Notification of a submitter when its tasks have ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notify {
    /// None: it looks them up.
    No,
    /// The reply to this request, which stays open until the task ends, for at most [`WAIT_MAX`](super::WAIT_MAX).
    Answer,
    /// The reply to [`Collect`] under this session.
    Session(Uuid),
}

/// Collects the results of the tasks submitted under a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collect {
    /// The session, chosen by the client.
    pub session: Uuid,
    /// Number of the request in its session, from 1. The next number confirms the last reply.
    pub sequence: u64,
    /// Maximum wait for the first result, in milliseconds.
    pub wait_ms: u32,
}

/// Looks up tasks by their ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lookup {
    /// The tasks, at most [`FRAME_ITEMS_MAX`].
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub ids: Vec<TaskId>,
    /// Maximum wait for the end of the first of them, in milliseconds.
    pub wait_ms: u32,
}

/// Reads the reports of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Follow {
    /// The task.
    pub id: TaskId,
    /// Number of the last report that was read, 0 for none.
    pub after: u64,
    /// Maximum wait for the next report, in milliseconds.
    pub wait_ms: u32,
}

/// Reply of the control plane to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Reply to [`Request::Hello`].
    Welcome(Welcome),
    /// Reply to [`Request::Submit`], one for each task, in their order.
    Submitted(Vec<Submitted>),
    /// Reply to [`Request::Collect`].
    Collected(Collected),
    /// Reply to [`Request::Lookup`], one for each id, in order, as many as fit: at least one.
    Found(Vec<Found>),
    /// Reply to [`Request::Cancel`]: whether each task was cancelled by it, in order.
    Cancelled(Vec<bool>),
    /// Reply to [`Request::Workers`].
    Workers(Vec<WorkerInfo>),
    /// Reply to [`Request::Follow`].
    Reports(Reports),
    /// Reply to [`Request::Tasks`].
    Tasks(TaskPage),
    /// Reply to [`Request::Events`].
    Events(Events),
    /// Reply to [`Request::Schedule`].
    Schedules(Vec<ScheduleInfo>),
    /// The request was not understood or not allowed.
    Refused(Refusal),
    /// Reply to [`Request::Describe`]; none if the task is not known. Arguments that do not fit into a frame
    /// in addition to the result are null.
    Described(Option<Box<Task>>),
}

/// The control plane's reply to the handshake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its worker id.
    pub worker_id: String,
    /// The version of fastworker.
    pub version: String,
    /// The version of the protocol.
    pub protocol: u32,
    /// Its base address, as peers reach it.
    pub base_address: String,
    /// The address for subworkers, as peers reach it.
    pub subworker_address: String,
    /// Maximum size of a document in bytes.
    pub payload_max: u64,
    /// Id of the cluster, which a restart does not change. Nil if it is not known.
    #[serde(default)]
    pub cluster_id: Uuid,
}

impl Welcome {
    /// Whether this is the control plane of `cluster`.
    pub fn is_of(&self, cluster: Uuid) -> bool {
        self.cluster_id == cluster && !cluster.is_nil()
    }
}

/// Outcome of submitting one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Submitted {
    /// It is accepted, now or before under the same id; it may have ended since.
    Accepted,
    /// It has ended.
    Ended(Arc<TaskResult>),
    /// It is not accepted.
    Refused(Refusal),
}

/// Ended tasks of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    /// Whether the control plane knew the session. If not, earlier results of it are lost.
    pub known: bool,
    /// Results, each sent once.
    pub results: Vec<Arc<TaskResult>>,
}

/// Result of looking up one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// It is not known, or its result is no longer kept.
    Unknown,
    /// It has not ended.
    Live(Box<Task>),
    /// It has ended.
    Ended(Arc<TaskResult>),
}

/// Reports of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reports {
    /// The reports, oldest first.
    pub reports: Vec<Report>,
    /// The number of the last of them: the `after` of the next request.
    pub last: u64,
    /// The task; ended only when no reports are left.
    pub task: Found,
}

/// A worker of the control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its worker id.
    pub id: String,
    /// The address that is displayed for it.
    pub address: String,
    /// Its status.
    pub status: WorkerStatus,
    /// Whether it is the control plane's own.
    pub is_control_plane: bool,
    /// Maximum number of concurrent attempts.
    pub slots: u32,
    /// Number of attempts that it runs.
    pub load: u32,
    /// When it registered.
    pub registered_at: Timestamp,
    /// When its last message arrived.
    pub last_seen: Timestamp,
    /// Number of attempts that it has ended.
    pub attempts: u64,
    /// Its catalog.
    pub modules: Vec<ModuleInfo>,
}

open_enum! {
    /// Status of a worker.
    pub enum WorkerStatus: "worker status" {
        /// It accepts work.
        Active = "active",
        /// It finishes its tasks and accepts no more.
        Draining = "draining",
        /// It was lost a short while ago.
        Lost = "lost",
    }
}
