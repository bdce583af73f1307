//! The vocabulary: what a task is, how it can stand and how it can end.
//!
//! Every other file speaks in these types. They hold no behaviour beyond reading and writing
//! themselves; what happens to a task is decided in `control_plane::state`.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeStruct};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    json::Json,
    protocol::{FRAME_ITEMS_MAX, at_most},
};

mod callback;
mod policy;
mod result;
pub mod schedule;

pub use callback::{CALLBACK_ADDRESS_MAX, CALLBACK_DATA_MAX, CallbackInfo, Dialect};
pub use policy::Policy;
use policy::{Said, seconds};
pub use result::{Delivery, DeliveryState, ModuleVersion, TaskResult};
pub use schedule::ScheduleSpec;

/// Longest task id in bytes.
pub const TASK_ID_MAX: usize = 128;
/// Longest task name in bytes.
pub const TASK_NAME_MAX: usize = 128;
/// How many tasks a module may offer.
pub const MODULE_TASKS_MAX: usize = 10_000;
/// How long an attempt may run when neither the submitter nor the task says.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_mins(5);

/// How urgent a task is. Text in lower case, read in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskPriority {
    /// Before everything else (0).
    Critical,
    /// Before normal and low (1).
    High,
    /// The default (2).
    #[default]
    Normal,
    /// When nothing else waits (3).
    Low,
}

impl TaskPriority {
    /// All four, the most urgent first.
    pub const ALL: [TaskPriority; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// 0 for critical to 3 for low.
    pub const fn level(self) -> usize {
        self as usize
    }
}

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskStatus {
    /// Waits in the queue.
    Pending,
    /// Waits for its moment (eta, countdown).
    Scheduled,
    /// A slot runs it.
    Started,
    /// An attempt failed; waits for the next one.
    Retrying,
    /// Ended with a result.
    Success,
    /// Ended with an error.
    Failure,
    /// Ended because somebody asked for it.
    Cancelled,
}

impl TaskStatus {
    /// All of them.
    pub const ALL: [TaskStatus; 7] =
        [Self::Pending, Self::Scheduled, Self::Started, Self::Retrying, Self::Success, Self::Failure, Self::Cancelled];

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Started => "started",
            Self::Retrying => "retrying",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen to a task that stands so.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Cancelled)
    }
}

/// Why a task failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// The arguments do not fit the task.
    BadArguments,
    /// The task itself said so.
    Failed,
    /// An attempt ran longer than its timeout.
    Timeout,
    /// An attempt wanted more memory than it may have.
    OutOfMemory,
    /// An attempt recursed too deeply.
    StackOverflow,
    /// An attempt returned, printed or logged more than it may.
    OutputLimit,
    /// An attempt ended in a WebAssembly trap: a panic, a bad access, a division by zero.
    Trap,
    /// The workers that ran it were lost, again and again.
    WorkerLost,
    /// No worker has a task of this name.
    NotFound,
}

impl ErrorKind {
    /// All of them.
    pub const ALL: [ErrorKind; 9] = [
        Self::BadArguments,
        Self::Failed,
        Self::Timeout,
        Self::OutOfMemory,
        Self::StackOverflow,
        Self::OutputLimit,
        Self::Trap,
        Self::WorkerLost,
        Self::NotFound,
    ];

    /// The name in lower case with hyphens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadArguments => "bad-arguments",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out-of-memory",
            Self::StackOverflow => "stack-overflow",
            Self::OutputLimit => "output-limit",
            Self::Trap => "trap",
            Self::WorkerLost => "worker-lost",
            Self::NotFound => "not-found",
        }
    }
}

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SerializationFormat {
    /// JSON text, the default; what the Python clients speak.
    #[default]
    Json,
    /// Postcard, a compact binary form. Takes the place of the original's PICKLE.
    Postcard,
}

impl SerializationFormat {
    /// Both.
    pub const ALL: [SerializationFormat; 2] = [Self::Json, Self::Postcard];

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Postcard => "postcard",
        }
    }
}

/// A text that names none of the choices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is no {what}: choose one of {choices}")]
pub struct UnknownName {
    what: &'static str,
    given: String,
    choices: String,
}

impl UnknownName {
    pub(crate) fn new(what: &'static str, given: &str, choices: &[&str]) -> Self {
        Self { what, given: given.chars().take(64).collect(), choices: choices.join(", ") }
    }
}

/// Gives an enum of names its text forms. Text in JSON, a number in postcard.
macro_rules! named {
    ($type:ty, $what:literal) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::task::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let named = Self::ALL.into_iter().find(|choice| choice.as_str().eq_ignore_ascii_case(text));
                named.ok_or_else(|| $crate::task::UnknownName::new($what, text, &Self::ALL.map(Self::as_str)))
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(self.as_str())
                } else {
                    serializer.serialize_u8(*self as u8)
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    let number = <u8 as serde::Deserialize>::deserialize(deserializer)?;
                    Self::ALL
                        .into_iter()
                        .find(|choice| *choice as u8 == number)
                        .ok_or_else(|| serde::de::Error::custom(format_args!("{number} is no {}", $what)))
                }
            }
        }
    };
}

pub(crate) use named;

named!(TaskPriority, "priority");
named!(TaskStatus, "task status");
named!(ErrorKind, "error kind");
named!(SerializationFormat, "serialization format");

/// The id of a task: text of 1 to 128 bytes. A UUID, as ours are, takes 16 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Id);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Id {
    Uuid(Uuid),
    Text(Arc<str>),
}

/// A text that cannot be a task id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task id is text of 1 to {TASK_ID_MAX} bytes without control characters, not {0:?}")]
pub struct NotATaskId(String);

impl TaskId {
    /// A new id that no other task has; ids made later sort later.
    pub fn new() -> Self {
        Self(Id::Uuid(Uuid::now_v7()))
    }

    /// The id of the follow-up number `index` (from 0) that an attempt of `self` submits: the
    /// same each time, so that a repeated parent does not double it.
    #[must_use]
    pub fn follow_up(&self, index: usize) -> Self {
        let parent = match &self.0 {
            Id::Uuid(uuid) => *uuid,
            Id::Text(text) => Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()),
        };
        Self(Id::Uuid(Uuid::new_v5(&parent, index.to_string().as_bytes())))
    }
}

impl Default for TaskId {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Uuid> for TaskId {
    fn from(uuid: Uuid) -> Self {
        Self(Id::Uuid(uuid))
    }
}

impl FromStr for TaskId {
    type Err = NotATaskId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let canonical = |uuid: &Uuid| uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text;
        if let Some(uuid) = Uuid::try_parse(text).ok().filter(canonical) {
            return Ok(Self(Id::Uuid(uuid)));
        }
        if text.is_empty() || text.len() > TASK_ID_MAX || text.chars().any(char::is_control) {
            return Err(NotATaskId(text.chars().take(64).collect()));
        }
        Ok(Self(Id::Text(text.into())))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Id::Uuid(uuid) => f.pad(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Id::Text(text) => f.pad(text),
        }
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        match &self.0 {
            Id::Uuid(uuid) => serializer.serialize_str(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Id::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(D::Error::custom);
        }
        match Id::deserialize(deserializer)? {
            uuid @ Id::Uuid(_) => Ok(Self(uuid)),
            // The same checks, and the same id for the same text, however it was written.
            Id::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

/// What to do with a task that no worker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// Fail at once and name the nearest.
    #[default]
    Fail,
    /// Wait for a worker that has it.
    Wait,
}

/// A call as it is submitted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct NewTask {
    /// Made by the submitter, so that submitting twice is submitting once.
    pub id: TaskId,
    /// The task name.
    pub name: String,
    /// A JSON array.
    #[serde(default = "Json::empty_array")]
    pub args: Json,
    /// A JSON object.
    #[serde(default = "Json::empty_object")]
    pub kwargs: Json,
    /// How it wants to be treated.
    #[serde(default)]
    pub policy: Policy,
    /// Not to be run before this moment.
    #[serde(default)]
    pub eta: Option<Timestamp>,
    /// Not to be run before this span from now has passed.
    #[serde(default, with = "seconds")]
    pub countdown: Option<Duration>,
    /// Where to send word when it has ended.
    #[serde(default)]
    pub callback: Option<CallbackInfo>,
    /// What to do if no worker has it.
    #[serde(default)]
    pub unknown: Unknown,
}

impl NewTask {
    /// A call of `name` without arguments, under a new id and with every default.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            id: TaskId::new(),
            name: name.into(),
            args: Json::empty_array(),
            kwargs: Json::empty_object(),
            policy: Policy::default(),
            eta: None,
            countdown: None,
            callback: None,
            unknown: Unknown::Fail,
        }
    }

    /// How many bytes of documents come with it.
    pub(crate) fn size(&self) -> usize {
        let callback = self.callback.as_ref().map_or(0, CallbackInfo::size);
        self.args.as_str().len() + self.kwargs.as_str().len() + callback
    }
}

impl Serialize for NewTask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let said = Said::by(&serializer);
        let mut fields = serializer.serialize_struct("NewTask", 9)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("name", &self.name)?;
        said.field(&mut fields, "args", &self.args, self.args.as_str() != "[]")?;
        said.field(&mut fields, "kwargs", &self.kwargs, self.kwargs.as_str() != "{}")?;
        said.field(&mut fields, "policy", &self.policy, self.policy != Policy::default())?;
        said.field(&mut fields, "eta", &self.eta, self.eta.is_some())?;
        said.field(&mut fields, "countdown", &seconds::of(self.countdown), self.countdown.is_some())?;
        said.field(&mut fields, "callback", &self.callback, self.callback.is_some())?;
        said.field(&mut fields, "unknown", &self.unknown, self.unknown != Unknown::Fail)?;
        fields.end()
    }
}

/// A task as the control plane knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The version of the module that ran its last attempt, once it has ended.
    pub module_version: Option<ModuleVersion>,
    /// What became of its callback; none if it has none.
    pub callback: Option<Box<Delivery>>,
}

/// How far an attempt is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Steps in all, 0 if not known.
    pub total: u64,
    /// What is being done.
    pub message: String,
}

/// How much a log line of a task matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For the author, in detail.
    Trace,
    /// For the author.
    Debug,
    /// For the operator.
    Info,
    /// Something is odd.
    Warn,
    /// Something went wrong.
    Error,
}

impl LogLevel {
    /// All of them.
    pub const ALL: [LogLevel; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

named!(LogLevel, "log level");

/// What a running attempt says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// A line for the task's log.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// The line.
        message: String,
    },
    /// How far it is.
    Progress(Progress),
}

/// A call that an attempt wants submitted when it succeeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FollowUp {
    /// The task name.
    pub name: String,
    /// A JSON array.
    pub args: Json,
    /// A JSON object.
    pub kwargs: Json,
    /// How it wants to be treated.
    pub policy: Policy,
    /// How long it waits first.
    #[serde(with = "seconds")]
    pub countdown: Option<Duration>,
}

/// What one attempt ended in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The task returned.
    Success {
        /// What it returned.
        result: Json,
        /// What it wants submitted now; index `n` gets the id [`TaskId::follow_up`]`(n)`.
        #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
        follow_ups: Vec<FollowUp>,
    },
    /// The attempt failed.
    Failure(Failure),
    /// The attempt was stopped because the task was cancelled or its lease taken back.
    Stopped,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
    /// The least wait before another attempt, where the guest asked for one.
    #[serde(with = "seconds")]
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure of `kind` that says why.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

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

/// How a module of a worker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleStatus {
    /// Loaded: its tasks run.
    #[default]
    Loaded,
    /// Its file is gone. The version that was loaded last runs on.
    Missing,
    /// Its file has been gone from a watched folder for too long: it runs what was submitted before,
    /// and takes nothing new.
    Leaving,
    /// Was never loaded: its tasks are not known.
    Broken,
}

/// Why a version of a module was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadFailure {
    /// When it was tried first.
    pub at: Timestamp,
    /// What is wrong with it.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_written_in_lower_case() {
        assert_eq!("CRITICAL".parse(), Ok(TaskPriority::Critical));
        assert_eq!(serde_json::to_string(&TaskPriority::High).expect("text"), "\"high\"");
        assert!(
            "urgent"
                .parse::<TaskPriority>()
                .is_err_and(|error| error.to_string().contains("critical, high, normal, low"))
        );
        for status in TaskStatus::ALL {
            let bytes = postcard::to_stdvec(&status).expect("to postcard");
            assert_eq!(postcard::from_bytes::<TaskStatus>(&bytes), Ok(status));
        }
    }

    #[test]
    fn a_submission_says_what_matters_and_is_read_back_whole_in_both_codecs() {
        let plain = NewTask { id: "T1".parse().expect("an id"), ..NewTask::new("add") };
        assert_eq!(serde_json::to_string(&plain).expect("to JSON"), r#"{"id":"T1","name":"add"}"#);
        let full = NewTask {
            args: Json::parse("[1]").expect("JSON"),
            kwargs: Json::parse(r#"{"x":1}"#).expect("JSON"),
            policy: Policy { timeout: Some(Duration::from_millis(1_500)), max_retries: Some(2), ..Policy::default() },
            eta: Some(Timestamp::from_micros(5)),
            countdown: Some(Duration::from_secs(3)),
            callback: Some(CallbackInfo::new("tcp://127.0.0.1:1")),
            unknown: Unknown::Wait,
            ..plain.clone()
        };
        for task in [plain, full] {
            let text = serde_json::to_string(&task).expect("to JSON");
            assert_eq!(serde_json::from_str::<NewTask>(&text).expect("from JSON"), task);
            let bytes = postcard::to_stdvec(&task).expect("to postcard");
            assert_eq!(postcard::from_bytes(&bytes), Ok(task));
        }
    }

    #[test]
    fn a_task_that_returned_null_returned_null_in_both_codecs() {
        let result = TaskResult {
            result: Some(Json::null()),
            module_version: Some(ModuleVersion(7)),
            attempts: 1,
            ..TaskResult::new(TaskId::new(), TaskStatus::Success)
        };
        let text = serde_json::to_string(&result).expect("to JSON");
        assert_eq!(serde_json::from_str::<TaskResult>(&text).expect("from JSON"), result);
        let bytes = postcard::to_stdvec(&result).expect("to postcard");
        assert_eq!(postcard::from_bytes(&bytes), Ok(result));
    }

    #[test]
    fn a_task_id_is_the_same_id_in_every_form() {
        for text in ["0193b0a0-0000-7000-8000-000000000000", "0193B0A0-0000-7000-8000-000000000000", "T1", "ü"] {
            let id: TaskId = text.parse().expect("an id");
            assert_eq!(id.to_string(), text);
            let bytes = postcard::to_stdvec(&id).expect("to postcard");
            assert_eq!(postcard::from_bytes::<TaskId>(&bytes), Ok(id));
        }
        for wrong in ["", "a\nb", &"x".repeat(129)] {
            assert!(wrong.parse::<TaskId>().is_err());
        }
    }
}
