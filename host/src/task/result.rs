//! Results of tasks, and the delivery of their callbacks.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeStruct};

use super::{ErrorKind, TaskId, TaskStatus, Usage, metadata, open_enum, policy::SkipDefaults};
use crate::{clock::Timestamp, json::Json};

/// The result of a task.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "TaskResultRead")]
pub struct TaskResult {
    /// The id of the task.
    pub task_id: TaskId,
    /// Success, failure or cancelled.
    pub status: TaskStatus,
    /// The return value, if it succeeded.
    pub result: Option<Json>,
    /// The error message, human-readable.
    pub error: Option<String>,
    /// Start of its last attempt; none without an attempt.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// The kind of the error, machine-readable.
    pub error_kind: Option<ErrorKind>,
    /// The worker that ran the last attempt.
    pub worker_id: Option<String>,
    /// Number of attempts.
    pub attempts: u32,
    /// The version of the module that ran the last attempt.
    pub module_version: Option<ModuleVersion>,
    /// What the last attempt used; none if none ended.
    pub usage: Option<Box<Usage>>,
    /// The delivery of its callback; none if it has no callback.
    pub callback: Option<Box<Delivery>>,
    /// The task's metadata, merged with that of its last attempt: a JSON object.
    pub metadata: Json,
}

impl TaskResult {
    /// Creates a result without a value, an error and attempts.
    pub fn new(task_id: TaskId, status: TaskStatus) -> Self {
        Self {
            task_id,
            status,
            result: None,
            error: None,
            started_at: None,
            completed_at: None,
            error_kind: None,
            worker_id: None,
            attempts: 0,
            module_version: None,
            usage: None,
            callback: None,
            metadata: Json::empty_object(),
        }
    }

    /// Approximate size in a frame, in bytes, beyond a fixed part.
    pub(crate) fn size(&self) -> usize {
        self.result.as_ref().map_or(0, |json| json.as_str().len())
            + self.error.as_ref().map_or(0, String::len)
            + metadata::size(&self.metadata)
    }
}

impl Serialize for TaskResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let defaults = SkipDefaults::of(&serializer);
        let is_json = serializer.is_human_readable();
        let mut fields = serializer.serialize_struct("TaskResult", 13)?;
        fields.serialize_field("task_id", &self.task_id)?;
        fields.serialize_field("status", &self.status)?;
        fields.serialize_field("result", &self.result)?;
        fields.serialize_field("error", &self.error)?;
        fields.serialize_field("started_at", &self.started_at)?;
        fields.serialize_field("completed_at", &self.completed_at)?;
        fields.serialize_field("error_kind", &self.error_kind)?;
        fields.serialize_field("worker_id", &self.worker_id)?;
        fields.serialize_field("attempts", &self.attempts)?;
        defaults.field(&mut fields, "module_version", &self.module_version, self.module_version.is_some())?;
        defaults.field(&mut fields, "usage", &self.usage, self.usage.is_some())?;
        defaults.field(&mut fields, "callback", &self.callback, self.callback.is_some())?;
        metadata::write(&mut fields, &self.metadata, is_json)?;
        fields.end()
    }
}

/// A result as it is deserialized. JSON does not distinguish the return value null from none; the status does.
#[derive(Deserialize)]
struct TaskResultRead {
    task_id: TaskId,
    status: TaskStatus,
    result: Option<Json>,
    error: Option<String>,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    #[serde(default)]
    error_kind: Option<ErrorKind>,
    #[serde(default)]
    worker_id: Option<String>,
    #[serde(default)]
    attempts: u32,
    #[serde(default)]
    module_version: Option<ModuleVersion>,
    #[serde(default)]
    usage: Option<Box<Usage>>,
    #[serde(default)]
    callback: Option<Box<Delivery>>,
    #[serde(default = "Json::empty_object")]
    metadata: Json,
}

impl From<TaskResultRead> for TaskResult {
    fn from(read: TaskResultRead) -> Self {
        let returned_null = read.status == TaskStatus::Success && read.result.is_none();
        Self {
            task_id: read.task_id,
            status: read.status,
            result: if returned_null { Some(Json::null()) } else { read.result },
            error: read.error,
            started_at: read.started_at,
            completed_at: read.completed_at,
            error_kind: read.error_kind,
            worker_id: read.worker_id,
            attempts: read.attempts,
            module_version: read.module_version,
            usage: read.usage,
            callback: read.callback,
            metadata: read.metadata,
        }
    }
}

/// A version of a task module: the first 8 bytes of the BLAKE3 hash of its file. Written as 16
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleVersion(pub u64);

impl ModuleVersion {
    /// The version of a file with this hexadecimal hash; none if it is not a hash.
    pub fn of_hash(hash: &str) -> Option<Self> {
        u64::from_str_radix(hash.get(..16)?, 16).ok().map(Self)
    }
}

impl fmt::Display for ModuleVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ModuleVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ModuleVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for ModuleVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        let version = Some(&text).filter(|text| text.len() == 16).and_then(|text| Self::of_hash(text));
        version.ok_or_else(|| {
            D::Error::custom(format_args!("'{text:.32}' is not a module version: write 16 hexadecimal digits"))
        })
    }
}

/// The delivery of a callback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The address.
    pub address: String,
    /// Its state.
    pub state: DeliveryState,
    /// Number of attempts.
    pub attempts: u32,
    /// The reason of a failure.
    pub reason: Option<String>,
}

impl Delivery {
    /// Creates the delivery of a callback that was not sent yet.
    pub(crate) fn pending(address: &str) -> Self {
        Self { address: address.to_owned(), state: DeliveryState::Pending, attempts: 0, reason: None }
    }
}

open_enum! {
    /// The state of a callback.
    pub enum DeliveryState: "delivery state" {
        /// To be sent.
        Pending = "pending",
        /// Accepted by the socket of the listener.
        Delivered = "delivered",
        /// Given up.
        Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_return_value_is_kept_in_both_codecs() {
        let result = TaskResult {
            result: Some(Json::null()),
            module_version: Some(ModuleVersion(7)),
            usage: Some(Box::new([1, 2, 3, 4, 5, 6].into())),
            attempts: 1,
            ..TaskResult::new(TaskId::new(), TaskStatus::Success)
        };
        let text = serde_json::to_string(&result).expect("to JSON");
        assert_eq!(serde_json::from_str::<TaskResult>(&text).expect("from JSON"), result);
        let bytes = postcard::to_stdvec(&result).expect("to postcard");
        assert_eq!(postcard::from_bytes(&bytes), Ok(result));
    }
}
