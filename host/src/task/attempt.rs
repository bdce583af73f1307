//! What one attempt says while it runs, and what it ends in.
//!
//! Apart from results because an attempt need not be the last: what becomes of its task is the state's
//! to decide.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct as _};

use super::{ErrorKind, LogLevel, Policy, metadata, policy::seconds};
use crate::{
    bounded::{FRAME_ITEMS_MAX, at_most},
    json::Json,
};

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
#[derive(Clone, Debug, PartialEq, Deserialize)]
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

/// What one attempt ended in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The task returned.
    Success {
        /// What it returned.
        result: Json,
        /// What it wants submitted now; index `n` gets the id [`TaskId::follow_up`](super::TaskId::follow_up)`(n)`.
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
