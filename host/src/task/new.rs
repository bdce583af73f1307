//! A call as it is submitted, before anything is known of how it will go.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

use super::{
    CallbackInfo, Policy, TaskId, metadata,
    policy::{Said, seconds},
};
use crate::{clock::Timestamp, json::Json};

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
    /// A JSON object that travels with the task to its attempts and its result, at most
    /// [`METADATA_MAX`](super::METADATA_MAX) bytes.
    #[serde(default = "Json::empty_object")]
    pub metadata: Json,
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
            metadata: Json::empty_object(),
        }
    }

    /// How many bytes of documents come with it.
    pub(crate) fn size(&self) -> usize {
        let callback = self.callback.as_ref().map_or(0, CallbackInfo::size);
        self.args.as_str().len() + self.kwargs.as_str().len() + callback + metadata::size(&self.metadata)
    }
}

impl Serialize for NewTask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let said = Said::by(&serializer);
        let is_json = serializer.is_human_readable();
        let mut fields = serializer.serialize_struct("NewTask", 10)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("name", &self.name)?;
        said.field(&mut fields, "args", &self.args, self.args.as_str() != "[]")?;
        said.field(&mut fields, "kwargs", &self.kwargs, self.kwargs.as_str() != "{}")?;
        said.field(&mut fields, "policy", &self.policy, self.policy != Policy::default())?;
        said.field(&mut fields, "eta", &self.eta, self.eta.is_some())?;
        said.field(&mut fields, "countdown", &seconds::of(self.countdown), self.countdown.is_some())?;
        said.field(&mut fields, "callback", &self.callback, self.callback.is_some())?;
        said.field(&mut fields, "unknown", &self.unknown, self.unknown != Unknown::Fail)?;
        metadata::write(&mut fields, &self.metadata, is_json)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
