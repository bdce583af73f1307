//! What travels between clients, control plane and subworkers, as types.
//!
//! Two conversations: [`Request`] and [`Reply`] between a client and the control plane,
//! [`WorkerRequest`] and [`WorkerReply`] between a subworker and the control plane. [`codec`] turns
//! them into bytes, [`python_compat`] speaks what the Python original speaks. The bytes are described
//! in `docs/protocol.md`. Invariant: each message can arrive twice, and means the same once.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    json::Json,
    task::{ModuleInfo, ModuleVersion, NewTask, Outcome, Report, Task, TaskId, TaskResult},
};

mod bounded;
mod callback;
pub mod codec;
pub mod python_compat;
mod query;
mod schedule;

pub(crate) use bounded::at_most;
pub use callback::{CALLBACK_MESSAGE_MAX, CallbackMessage, write as write_callback};
pub use query::{Event, EventKind, EventQuery, Events, TaskPage, TaskQuery, TaskSummary};
pub use schedule::{NewSchedule, ScheduleInfo, ScheduleRequest, ScheduleSource, ScheduleStatus};

/// The version of both conversations.
pub const VERSION: u32 = 1;
/// The longest that a request may stay parked for its answer.
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// The longest that a subworker's request for work stays parked. Each answer shows the slot that its
/// connection works.
pub const WORK_WAIT: Duration = Duration::from_secs(3);
/// The same where it carries outcomes: the answer confirms them.
pub const CONFIRM_WAIT: Duration = Duration::from_secs(1);
/// The longest that a beat stays parked.
pub const BEAT_WAIT: Duration = Duration::from_secs(1);
/// How many bytes of documents a frame gathers before it goes out.
pub const FRAME_TARGET: usize = 256 * 1024;
/// How many items a frame gathers before it goes out; more of them are not read.
pub const FRAME_ITEMS_MAX: usize = 1_000;
/// How many leases a worker can tell of in one message.
pub const HOLDS_MAX: usize = 1 << 20;
/// How many bytes a worker id has at most.
pub const WORKER_ID_MAX: usize = 128;
/// How many reports a worker can tell in one message.
pub const NOTE_REPORTS_MAX: usize = 100_000;

/// Whether a refusal only means that this control plane is about to stop: the next one takes the same
/// request.
pub fn is_stopping(why: &str) -> bool {
    why.starts_with(STOPPING)
}

/// How a control plane that stops begins its refusals.
const STOPPING: &str = "the control plane is stopping";

/// Whether a worker can have that id. Not with a colon: an announcement ends an id with one.
pub fn is_worker_id(id: &str) -> bool {
    (1..=WORKER_ID_MAX).contains(&id.len()) && !id.contains(|c: char| c == ':' || c.is_control())
}

/// What a client asks. Sent to the management address (base + 4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Who are you? Answered with [`Reply::Welcome`].
    Hello,
    /// Take these tasks. Answered with [`Reply::Submitted`].
    Submit(Submit),
    /// Which tasks of my session have ended? Answered with [`Reply::Collected`].
    Collect(Collect),
    /// How do these tasks stand? Answered with [`Reply::Found`].
    Lookup(Lookup),
    /// Stop these tasks. Answered with [`Reply::Cancelled`].
    Cancel(#[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")] Vec<TaskId>),
    /// Which workers are there, and what have they loaded? Answered with [`Reply::Workers`].
    Workers,
    /// What does this task say about itself? Answered with [`Reply::Reports`].
    Follow(Follow),
    /// Which tasks are there? Answered with [`Reply::Tasks`].
    Tasks(TaskQuery),
    /// What happened? Answered with [`Reply::Events`].
    Events(EventQuery),
    /// Something about periodic tasks. Answered with [`Reply::Schedules`].
    Schedule(ScheduleRequest),
    /// What is known of this task, ended or not? Answered with [`Reply::Described`].
    Describe(TaskId),
}

/// Some tasks, and how their submitter learns of their end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    /// At most [`FRAME_ITEMS_MAX`] tasks.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub tasks: Vec<NewTask>,
    /// How the submitter learns of their end.
    pub notify: Notify,
}

/// How a submitter learns that its task has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notify {
    /// Not at all: it will ask.
    No,
    /// By the answer to this request, which is parked until the task ends or [`WAIT_MAX`] is over.
    Answer,
    /// By [`Collect`] under this session.
    Session(Uuid),
}

/// Asks for the ends of the tasks submitted under a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collect {
    /// The session, made up by the client.
    pub session: Uuid,
    /// Counts the requests of the session, from 1. The next number says that the last answer came.
    pub sequence: u64,
    /// How long to wait for the first.
    pub wait_ms: u32,
}

/// Asks how some tasks stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lookup {
    /// The tasks, at most [`FRAME_ITEMS_MAX`].
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub ids: Vec<TaskId>,
    /// How long to wait until the first of them has ended.
    pub wait_ms: u32,
}

/// Asks for the reports of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Follow {
    /// The task.
    pub id: TaskId,
    /// The number of the last report that was seen, 0 for none.
    pub after: u64,
    /// How long to wait for the next.
    pub wait_ms: u32,
}

/// What the control plane answers a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Answers [`Request::Hello`].
    Welcome(Welcome),
    /// Answers [`Request::Submit`], one for each task, in order.
    Submitted(Vec<Submitted>),
    /// Answers [`Request::Collect`].
    Collected(Collected),
    /// Answers [`Request::Lookup`], one for each id, in order, as many as fit: at least one.
    Found(Vec<Found>),
    /// Answers [`Request::Cancel`]: whether each was stopped by it, in order.
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
    /// The request was not understood or not allowed; says why.
    Refused(String),
    /// Answers [`Request::Describe`]; none if nobody knows it. Arguments that do not fit into a frame
    /// beside the result are null.
    Described(Option<Box<Task>>),
}

/// Who the control plane is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its worker id.
    pub worker_id: String,
    /// The version of fastworker.
    pub version: String,
    /// The version of this conversation.
    pub protocol: u32,
    /// Its base address, as peers reach it.
    pub base_address: String,
    /// Where subworkers register, as peers reach it.
    pub subworker_address: String,
    /// The largest document in bytes.
    pub payload_max: u64,
    /// Which cluster it is: the same after a restart, and another one's is different. Nil if it does
    /// not say.
    #[serde(default)]
    pub cluster_id: Uuid,
}

impl Welcome {
    /// Whether this is the control plane of that cluster.
    pub fn is_of(&self, cluster: Uuid) -> bool {
        self.cluster_id == cluster && !cluster.is_nil()
    }
}

/// What became of one submitted task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Submitted {
    /// It is taken, or was taken before under the same id; it may have ended since.
    Accepted,
    /// It has ended.
    Ended(Arc<TaskResult>),
    /// It was not taken; says why.
    Refused(String),
}

/// Ended tasks of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    /// Whether the control plane knew the session. If not, what it was told before is lost.
    pub known: bool,
    /// Ended tasks, each told once.
    pub results: Vec<Arc<TaskResult>>,
}

/// How one task stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// Nobody knows it, or its result is no longer kept.
    Unknown,
    /// It has not ended.
    Live(Box<Task>),
    /// It has ended.
    Ended(Arc<TaskResult>),
}

/// What a task said about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reports {
    /// The reports, oldest first.
    pub reports: Vec<Report>,
    /// The number of the last of them: the `after` to ask with next.
    pub last: u64,
    /// How the task stands; ended only when no reports are left to tell.
    pub task: Found,
}

/// A worker as the control plane knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its worker id.
    pub id: String,
    /// The address that is shown for it.
    pub address: String,
    /// How it stands.
    pub status: WorkerStatus,
    /// Whether it is the control plane's own.
    pub is_control_plane: bool,
    /// Room for running attempts.
    pub slots: u32,
    /// Attempts that it runs.
    pub load: u32,
    /// When it registered.
    pub registered_at: Timestamp,
    /// When it was last heard.
    pub last_seen: Timestamp,
    /// Attempts that it has ended.
    pub attempts: u64,
    /// Its catalog.
    pub modules: Vec<ModuleInfo>,
}

/// How a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerStatus {
    /// Takes work.
    Active,
    /// Finishes what it has and takes no more.
    Draining,
    /// Was lost a short while ago.
    Lost,
}

/// What a subworker asks. Sent to the subworker management port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerRequest {
    /// I am here. Answered with [`WorkerReply::Registered`].
    Register(Registration),
    /// This is what I ran, give me more. Answered with [`WorkerReply::Leases`] as soon as there is
    /// something to run, which also says that the outcomes came.
    Work(Work),
    /// I am alive. Answered with [`WorkerReply::Orders`].
    Beat(Beat),
    /// This is what there is to say between two requests for work. Answered with
    /// [`WorkerReply::Noted`].
    Note(Note),
    /// I take no more work. Answered with [`WorkerReply::Noted`].
    Drain(Uuid),
    /// I am going; whatever I hold is yours again. Answered with [`WorkerReply::Noted`].
    Leave(Uuid),
    /// My modules are about to change to these. Answered with [`WorkerReply::Noted`], or with
    /// [`WorkerReply::Declined`] when tasks wait that could not run any more.
    Catalog(CatalogChange),
}

/// A subworker introduces itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// Made at each start and after each loss: what was granted to an older one is void.
    pub worker: Uuid,
    /// The key of this process' registration before this one: it did not crash meanwhile.
    pub previous: Option<Uuid>,
    /// Its worker id, for people.
    pub worker_id: String,
    /// The address to show for it.
    pub address: String,
    /// Room for running attempts.
    pub slots: u32,
    /// Its catalog.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub modules: Vec<ModuleInfo>,
}

/// The modules of a worker change. It asks before it acts: once this is noted, it is granted tasks
/// of the new catalog only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogChange {
    /// The worker.
    pub worker: Uuid,
    /// Counts these messages, from 1. The same number again gets the same answer.
    pub sequence: u64,
    /// Its catalog from now on, the whole of it.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub modules: Vec<ModuleInfo>,
    /// Whether it changes although tasks wait that could not run any more.
    pub force: bool,
}

/// A slot tells what it ran and asks for more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The worker.
    pub worker: Uuid,
    /// The slot.
    pub slot: u32,
    /// Counts the requests of the slot, from 1. The same number again gets the same answer.
    pub sequence: u64,
    /// What became of leases.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub ended: Vec<Ended>,
    /// How many leases it takes: none when it drains, or has more to tell than fits here. Asking
    /// for some says that everything that was granted before is accounted for.
    pub capacity: u32,
}

/// What became of a lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The lease.
    pub lease: LeaseId,
    /// What the attempt ended in; none if it was not begun.
    pub outcome: Option<Outcome>,
    /// How long the attempt ran.
    pub ran_us: u64,
    /// The version of the module that ran it.
    pub version: Option<ModuleVersion>,
    /// What it said that was not told yet, oldest first.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub reports: Vec<Report>,
}

/// Numbers the leases of one control plane, in the order they were granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

/// The right to run one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// The task.
    pub task_id: TaskId,
    /// The task name.
    pub name: Arc<str>,
    /// Starts at 1.
    pub attempt: u32,
    /// How long the attempt may run.
    pub timeout_us: u64,
    /// A JSON array.
    pub args: Json,
    /// A JSON object.
    pub kwargs: Json,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// The worker.
    pub worker: Uuid,
    /// The leases it holds.
    #[serde(deserialize_with = "at_most::<HOLDS_MAX, _, _>")]
    pub holds: Vec<LeaseId>,
}

/// What a worker says between two requests for work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The worker.
    pub worker: Uuid,
    /// Counts these messages, from 1.
    pub sequence: u64,
    /// What running attempts say about themselves, oldest first.
    #[serde(deserialize_with = "at_most::<NOTE_REPORTS_MAX, _, _>")]
    pub reports: Vec<(LeaseId, Report)>,
    /// Leases that were not begun and would wait too long here.
    #[serde(deserialize_with = "at_most::<HOLDS_MAX, _, _>")]
    pub returned: Vec<LeaseId>,
}

/// What the control plane answers a subworker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerReply {
    /// Answers [`WorkerRequest::Register`].
    Registered,
    /// Answers [`WorkerRequest::Work`].
    Leases(Vec<Lease>),
    /// Answers [`WorkerRequest::Beat`].
    Orders(Vec<Order>),
    /// Taken note of.
    Noted,
    /// We do not know you, or gave you up: register anew under a new key. What you hold is void.
    Unknown,
    /// The request was not understood or not allowed; says why.
    Refused(String),
    /// Answers [`WorkerRequest::Catalog`]: the old catalog stays; says why.
    Declined(String),
    /// Answers [`WorkerRequest::Register`]: another worker of that worker id is connected; says so. Ask
    /// again: it may be about to leave, or be lost.
    IdInUse(String),
}

/// What a subworker is to do at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// End this attempt, or do not begin it.
    Stop(LeaseId),
}
