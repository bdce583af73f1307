//! Submissions of tasks.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

use super::{
    CallbackInfo, Policy, TaskId, metadata,
    policy::{SkipDefaults, seconds},
};
use crate::{clock::Timestamp, json::Json};

/// Handling of a task that no worker serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// It fails, and the error names the most similar task.
    #[default]
    Fail,
    /// It waits for a worker that serves it.
    Wait,
}

/// A task to submit.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct NewTask {
    /// Its id, created by the submitter, so that a repeated submission has no effect.
    pub id: TaskId,
    /// The task name.
    pub name: String,
    /// A JSON array.
    #[serde(default = "Json::empty_array")]
    pub args: Json,
    /// A JSON object.
    #[serde(default = "Json::empty_object")]
    pub kwargs: Json,
    /// Its policy.
    #[serde(default)]
    pub policy: Policy,
    /// Earliest start.
    #[serde(default)]
    pub eta: Option<Timestamp>,
    /// Delay before it may start.
    #[serde(default, with = "seconds")]
    pub countdown: Option<Duration>,
    /// The callback to send when it ends.
    #[serde(default)]
    pub callback: Option<CallbackInfo>,
    /// Handling if no worker serves it.
    #[serde(default)]
    pub unknown: Unknown,
    /// A JSON object that is passed on to the attempts and the result of the task, at most
    /// [`METADATA_MAX`](super::METADATA_MAX) bytes.
    #[serde(default = "Json::empty_object")]
    pub metadata: Json,
}

impl NewTask {
    /// Creates a task without arguments, with a new id and the defaults.
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
            metadata: Json::empty_object(),
        }
    }

    /// Size of its documents in bytes.
    pub(crate) fn size(&self) -> usize {
        let callback = self.callback.as_ref().map_or(0, CallbackInfo::size);
        self.args.as_str().len() + self.kwargs.as_str().len() + callback + metadata::size(&self.metadata)
    }
}

impl Serialize for NewTask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let defaults = SkipDefaults::of(&serializer);
        let is_json = serializer.is_human_readable();
        let mut fields = serializer.serialize_struct("NewTask", 10)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("name", &self.name)?;
        defaults.field(&mut fields, "args", &self.args, self.args.as_str() != "[]")?;
        defaults.field(&mut fields, "kwargs", &self.kwargs, self.kwargs.as_str() != "{}")?;
        defaults.field(&mut fields, "policy", &self.policy, self.policy != Policy::default())?;
        defaults.field(&mut fields, "eta", &self.eta, self.eta.is_some())?;
        defaults.field(&mut fields, "countdown", &seconds::of(self.countdown), self.countdown.is_some())?;
        defaults.field(&mut fields, "callback", &self.callback, self.callback.is_some())?;
        defaults.field(&mut fields, "unknown", &self.unknown, self.unknown != Unknown::Fail)?;
        metadata::write(&mut fields, &self.metadata, is_json)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_skips_defaults_in_json_and_round_trips() {
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
            metadata: Json::parse(r#"{"tag":1}"#).expect("JSON"),
            ..plain.clone()
        };
        for task in [plain, full] {
            let text = serde_json::to_string(&task).expect("to JSON");
            assert_eq!(serde_json::from_str::<NewTask>(&text).expect("from JSON"), task);
            let bytes = postcard::to_stdvec(&task).expect("to postcard");
            assert_eq!(postcard::from_bytes(&bytes), Ok(task));
        }
    }
}
