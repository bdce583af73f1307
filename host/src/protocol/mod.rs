//! Messages between clients, control plane and subworkers.
//!
//! [`Request`] and [`Reply`] travel between a client and the control plane, [`WorkerRequest`] and
//! [`WorkerReply`] between a subworker and the control plane. [`codec`] encodes them; [`python_compat`] is
//! the protocol of the Python original. `docs/protocol.md` describes the bytes. Invariant: each message is
//! idempotent, as it may arrive twice.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    json::Json,
    task::{
        ModuleInfo, ModuleVersion, NewTask, Outcome, Report, Task, TaskId, TaskPriority, TaskResult, open_enum,
        serialize_with_metadata,
    },
};

mod bounded;
mod callback;
pub mod codec;
pub mod python_compat;
mod query;
mod refusal;
mod schedule;

pub(crate) use bounded::at_most;
pub use callback::{CALLBACK_MESSAGE_MAX, CallbackMessage, write as write_callback};
pub use query::{Event, EventKind, EventQuery, Events, TaskPage, TaskQuery, TaskSummary};
pub use refusal::{Refusal, RefusalCode};
pub use schedule::{NewSchedule, ScheduleInfo, ScheduleRequest, ScheduleSource, ScheduleStatus};

/// Version of the protocol.
pub const VERSION: u32 = 1;
/// Maximum time that a request stays open.
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// Maximum time that a subworker's request for work stays open. Each answer shows the slot that its
/// connection works.
pub const WORK_WAIT: Duration = Duration::from_secs(3);
/// Maximum time that a request for work with outcomes stays open: the answer confirms them.
pub const CONFIRM_WAIT: Duration = Duration::from_secs(1);
/// Maximum time that a heartbeat stays open.
pub const BEAT_WAIT: Duration = Duration::from_secs(1);
/// Size in bytes of the documents in a frame after which no more are added.
pub const FRAME_TARGET: usize = 256 * 1024;
/// Maximum number of items in a frame; a longer list is not read.
pub const FRAME_ITEMS_MAX: usize = 1_000;
/// Maximum number of leases in a message of a worker.
pub const HOLDS_MAX: usize = 1 << 20;
/// Maximum length of a worker id in bytes.
pub const WORKER_ID_MAX: usize = 128;
/// Maximum number of reports in a message of a worker.
pub const NOTE_REPORTS_MAX: usize = 100_000;

/// Whether a text is a valid worker id. A colon is not: it ends the id in an announcement.
pub fn is_worker_id(id: &str) -> bool {
    (1..=WORKER_ID_MAX).contains(&id.len()) && !id.contains(|c: char| c == ':' || c.is_control())
}

/// Request of a client, sent to the management address (base + 4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Handshake and probe. Answered with [`Reply::Welcome`].
    Hello,
    /// Submits tasks. Answered with [`Reply::Submitted`].
    Submit(Submit),
    /// Collects the results of a session. Answered with [`Reply::Collected`].
    Collect(Collect),
    /// Looks up tasks. Answered with [`Reply::Found`].
    Lookup(Lookup),
    /// Cancels tasks. Answered with [`Reply::Cancelled`].
    Cancel(#[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")] Vec<TaskId>),
    /// Lists workers and their modules. Answered with [`Reply::Workers`].
    Workers,
    /// Reads the reports of a task. Answered with [`Reply::Reports`].
    Follow(Follow),
    /// Lists tasks. Answered with [`Reply::Tasks`].
    Tasks(TaskQuery),
    /// Reads events. Answered with [`Reply::Events`].
    Events(EventQuery),
    /// Lists or changes schedules. Answered with [`Reply::Schedules`].
    Schedule(ScheduleRequest),
    /// Reads everything that is known of a task. Answered with [`Reply::Described`].
    Describe(TaskId),
}

/// A submission of tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    /// At most [`FRAME_ITEMS_MAX`] tasks.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub tasks: Vec<NewTask>,
    /// How the submitter learns that they have ended.
    pub notify: Notify,
}

/// How a submitter learns that its tasks have ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notify {
    /// It looks them up.
    No,
    /// By the answer to this request, which stays open until the task ends, for at most [`WAIT_MAX`].
    Answer,
    /// By [`Collect`] under this session.
    Session(Uuid),
}

/// Collects the results of the tasks submitted under a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collect {
    /// The session, chosen by the client.
    pub session: Uuid,
    /// Number of the request in its session, from 1. The next number confirms the last answer.
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
    /// Answers [`Request::Hello`].
    Welcome(Welcome),
    /// Answers [`Request::Submit`], one for each task, in their order.
    Submitted(Vec<Submitted>),
    /// Answers [`Request::Collect`].
    Collected(Collected),
    /// Answers [`Request::Lookup`], one for each id, in order, as many as fit: at least one.
    Found(Vec<Found>),
    /// Answers [`Request::Cancel`]: whether each task was cancelled by it, in order.
    Cancelled(Vec<bool>),
    /// Answers [`Request::Workers`].
    Workers(Vec<WorkerInfo>),
    /// Answers [`Request::Follow`].
    Reports(Reports),
    /// Answers [`Request::Tasks`].
    Tasks(TaskPage),
    /// Answers [`Request::Events`].
    Events(Events),
    /// Answers [`Request::Schedule`].
    Schedules(Vec<ScheduleInfo>),
    /// The request was not understood or not allowed.
    Refused(Refusal),
    /// Answers [`Request::Describe`]; none if the task is not known. Arguments that do not fit into a frame
    /// beside the result are null.
    Described(Option<Box<Task>>),
}

/// The control plane's answer to the handshake.
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
    /// The number of the last of them: the `after` to ask with next.
    pub last: u64,
    /// The task; ended only when no reports are left.
    pub task: Found,
}

/// A worker as the control plane knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its worker id.
    pub id: String,
    /// The address that is shown for it.
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
        /// It takes work.
        Active = "active",
        /// It finishes its tasks and takes no more.
        Draining = "draining",
        /// It was lost a short while ago.
        Lost = "lost",
    }
}

/// Request of a subworker, sent to the subworker port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerRequest {
    /// Registers a worker. Answered with [`WorkerReply::Registered`].
    Register(Registration),
    /// Reports outcomes of a slot and requests leases. Answered with [`WorkerReply::Leases`] as soon as there
    /// is a task to run; the answer also confirms the outcomes.
    Work(Work),
    /// Heartbeat. Answered with [`WorkerReply::Orders`].
    Beat(Beat),
    /// Sends progress reports and returns leases between two requests for work. Answered with
    /// [`WorkerReply::Noted`].
    Note(Note),
    /// Announces that the worker takes no more work. Answered with [`WorkerReply::Noted`].
    Drain(Uuid),
    /// Announces that the worker leaves and returns its leases. Answered with [`WorkerReply::Noted`].
    Leave(Uuid),
    /// Asks to change the worker's modules. Answered with [`WorkerReply::Noted`], or with
    /// [`WorkerReply::Declined`] if unfinished tasks could not run any more.
    Catalog(CatalogChange),
}

/// Registration of a subworker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// Key of the registration, new at each start and after each loss: leases of an older key are void.
    pub worker: Uuid,
    /// The key that the same process had before, which shows that it did not crash.
    pub previous: Option<Uuid>,
    /// Its worker id, for people.
    pub worker_id: String,
    /// The address to show for it.
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
    /// Number of the message, from 1. The same number gets the same answer.
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
    /// Number of the slot's request, from 1. The same number gets the same answer.
    pub sequence: u64,
    /// Leases that have ended.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub ended: Vec<Ended>,
    /// Maximum number of leases to grant: 0 when it drains, or has more outcomes than fit here. Asking
    /// for more accounts for all leases granted before.
    pub capacity: u32,
}

/// The end of a lease.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Ended {
    /// The lease.
    pub lease: LeaseId,
    /// Outcome of the attempt; none if it was not begun.
    pub outcome: Option<Outcome>,
    /// How long the attempt ran, in microseconds.
    pub ran_us: u64,
    /// The version of the module that ran it.
    pub version: Option<ModuleVersion>,
    /// Its reports that were not sent yet, oldest first.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub reports: Vec<Report>,
    /// What the attempt adds to the metadata of the result, if it ends the task: a JSON object.
    #[serde(default = "Json::empty_object")]
    pub metadata: Json,
}

serialize_with_metadata!(Ended { lease, outcome, ran_us, version, reports });

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
    /// Leases that were not begun and would wait too long at this worker.
    #[serde(deserialize_with = "at_most::<HOLDS_MAX, _, _>")]
    pub returned: Vec<LeaseId>,
}

/// Reply of the control plane to a subworker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerReply {
    /// Answers [`WorkerRequest::Register`].
    Registered,
    /// Answers [`WorkerRequest::Work`].
    Leases(Vec<Lease>),
    /// Answers [`WorkerRequest::Beat`].
    Orders(Vec<Order>),
    /// Confirms the request.
    Noted,
    /// The worker is not known, or was given up: register again under a new key. Its leases are void.
    Unknown,
    /// The request was not understood or not allowed.
    Refused(Refusal),
    /// Answers [`WorkerRequest::Catalog`]: the old catalog stays.
    Declined(Refusal),
    /// Answers [`WorkerRequest::Register`]: another worker of that worker id is connected. Ask again: it
    /// may be about to leave, or be lost.
    IdInUse(Refusal),
}

/// Order to a subworker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Stop this attempt, or do not begin it.
    Stop(LeaseId),
}
