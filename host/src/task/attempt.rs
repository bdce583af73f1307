//! Reports and outcomes of attempts.
//!
//! Separate from results, because the state may retry a task after a failed attempt.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct as _};

use super::{ErrorKind, LogLevel, Policy, metadata, policy::seconds};
use crate::{
    bounded::{FRAME_ITEMS_MAX, at_most},
    json::Json,
};

/// The progress of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Total steps, 0 if unknown.
    pub total: u64,
    /// The current step, human-readable.
    pub message: String,
}

/// A report of a running attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// A log line.
    Log {
        /// Its level.
        level: LogLevel,
        /// Its text.
        message: String,
    },
    /// Its progress.
    Progress(Progress),
}

/// A task that is submitted when the attempt succeeds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FollowUp {
    /// The task name.
    pub name: String,
    /// A JSON array.
    pub args: Json,
    /// A JSON object.
    pub kwargs: Json,
    /// Its policy.
    pub policy: Policy,
    /// Delay before it runs.
    #[serde(with = "seconds")]
    pub countdown: Option<Duration>,
    /// A JSON object; the id of the task that submits it is added as `parent`.
    #[serde(default = "Json::empty_object")]
    pub metadata: Json,
}

impl Serialize for FollowUp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_json = serializer.is_human_readable();
        let mut fields = serializer.serialize_struct("FollowUp", 6)?;
        fields.serialize_field("name", &self.name)?;
        fields.serialize_field("args", &self.args)?;
        fields.serialize_field("kwargs", &self.kwargs)?;
        fields.serialize_field("policy", &self.policy)?;
        fields.serialize_field("countdown", &seconds::of(self.countdown))?;
        metadata::write(&mut fields, &self.metadata, is_json)?;
        fields.end()
    }
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The task returned.
    Success {
        /// Its return value.
        result: Json,
        /// Tasks to submit; index `n` gets the id [`TaskId::follow_up`](super::TaskId::follow_up)`(n)`.
        #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
        follow_ups: Vec<FollowUp>,
    },
    /// The attempt failed.
    Failure(Failure),
    /// The attempt was stopped, because the task was cancelled or the lease revoked.
    Stopped,
}

/// Failure of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind, machine-readable.
    pub kind: ErrorKind,
    /// The message, human-readable.
    pub message: String,
    /// Minimum delay before a retry, if the guest set one.
    #[serde(with = "seconds")]
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// Creates a failure with a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}
