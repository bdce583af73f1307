//! The callback message, sent when a task has ended.
//!
//! Always JSON, so that every listener can read it. It has no reply.

use serde::{Deserialize, Serialize};

use super::python_compat::local;
use crate::{
    clock::Timestamp,
    json::Json,
    task::{CALLBACK_DATA_MAX, CallbackInfo, Dialect, ErrorKind, TaskId, TaskResult, TaskStatus},
    transport::FRAME_MAX,
};

/// Maximum size of a message in bytes.
pub const CALLBACK_MESSAGE_MAX: usize = FRAME_MAX + CALLBACK_DATA_MAX;

/// Message that a task has ended, as a listener receives it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(from = "Read")]
pub struct CallbackMessage {
    /// The task.
    pub task_id: TaskId,
    /// Success, failure or cancelled.
    pub status: TaskStatus,
    /// The return value of the task, if it succeeded.
    pub result: Option<Json>,
    /// Its error, human-readable.
    pub error: Option<String>,
    /// When its last attempt started; none if there was no attempt.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Data of its submitter.
    pub callback_data: Option<Json>,
    /// The kind of its error, machine-readable. None if a client of the Python original submitted it.
    pub error_kind: Option<ErrorKind>,
    /// The worker that ran the last attempt.
    pub worker_id: Option<String>,
    /// Number of attempts.
    pub attempts: u32,
}

/// A message as it is deserialized. JSON does not distinguish a task that returned null from one without a
/// result; the status does.
#[derive(Deserialize)]
struct Read {
    task_id: TaskId,
    status: TaskStatus,
    #[serde(default)]
    result: Option<Json>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    started_at: Option<Timestamp>,
    #[serde(default)]
    completed_at: Option<Timestamp>,
    #[serde(default)]
    callback_data: Option<Json>,
    #[serde(default)]
    error_kind: Option<ErrorKind>,
    #[serde(default)]
    worker_id: Option<String>,
    #[serde(default)]
    attempts: u32,
}

impl From<Read> for CallbackMessage {
    fn from(read: Read) -> Self {
        let returned_null = read.status == TaskStatus::Success && read.result.is_none();
        Self {
            task_id: read.task_id,
            status: read.status,
            result: if returned_null { Some(Json::null()) } else { read.result },
            error: read.error,
            started_at: read.started_at,
            completed_at: read.completed_at,
            callback_data: read.callback_data,
            error_kind: read.error_kind,
            worker_id: read.worker_id,
            attempts: read.attempts,
        }
    }
}

/// The fields of both dialects.
#[derive(Serialize)]
struct Written<'a, T> {
    task_id: &'a TaskId,
    status: TaskStatus,
    result: Option<&'a Json>,
    error: Option<&'a str>,
    started_at: Option<T>,
    completed_at: Option<T>,
    callback_data: Option<&'a Json>,
    #[serde(flatten)]
    more: Option<More<'a>>,
}

/// The fields that the original does not have.
#[derive(Serialize)]
struct More<'a> {
    error_kind: Option<ErrorKind>,
    worker_id: Option<&'a str>,
    attempts: u32,
}

/// Writes the message for a result.
pub fn write(end: &TaskResult, info: &CallbackInfo) -> Vec<u8> {
    match info.dialect {
        Dialect::Own => {
            let more = More { error_kind: end.error_kind, worker_id: end.worker_id.as_deref(), attempts: end.attempts };
            write_with(end, info, |time| time, Some(more))
        }
        Dialect::Original => write_with(end, info, |time| local(time, 'T'), None),
    }
}

fn write_with<T: Serialize>(
    end: &TaskResult,
    info: &CallbackInfo,
    time: impl Fn(Timestamp) -> T,
    more: Option<More<'_>>,
) -> Vec<u8> {
    let written = Written {
        task_id: &end.task_id,
        status: end.status,
        result: end.result.as_ref(),
        error: end.error.as_deref(),
        started_at: end.started_at.map(&time),
        completed_at: end.completed_at.map(&time),
        callback_data: info.data.as_ref(),
        more,
    };
    serde_json::to_vec(&written).expect("its keys are strings")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end() -> TaskResult {
        TaskResult {
            result: Some(Json::parse("[1, {\"a\": 2}]").expect("JSON")),
            started_at: Some(Timestamp::from_micros(1_795_498_650_981_375)),
            completed_at: Some(Timestamp::from_micros(1_795_498_650_981_764)),
            worker_id: Some("sw1".into()),
            attempts: 1,
            ..TaskResult::new("t".parse().expect("an id"), TaskStatus::Success)
        }
    }

    fn info(dialect: Dialect) -> CallbackInfo {
        let data = Json::parse("{\"source\": \"t\"}").expect("JSON");
        CallbackInfo { dialect, ..CallbackInfo::new("tcp://127.0.0.1:6000").with_data(data) }
    }

    #[test]
    fn messages_of_both_dialects_are_read_alike() {
        for dialect in [Dialect::Own, Dialect::Original] {
            let read: CallbackMessage = serde_json::from_slice(&write(&end(), &info(dialect))).expect("a message");
            assert_eq!((&read.result, &read.started_at), (&end().result, &end().started_at));
            assert_eq!(read.callback_data, info(dialect).data);
            assert_eq!(read.attempts, u32::from(dialect == Dialect::Own));
        }
    }

    #[test]
    fn the_original_gets_its_own_fields_in_its_order_and_naive_times() {
        let text = String::from_utf8(write(&end(), &info(Dialect::Original))).expect("text");
        let fields: Vec<&str> = text.split('"').filter(|part| text.contains(&format!("\"{part}\":"))).collect();
        assert_eq!(
            fields,
            ["task_id", "status", "result", "a", "error", "started_at", "completed_at", "callback_data", "source"]
        );
        let message: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let started = message["started_at"].as_str().expect("text");
        assert!(started.len() == 26 && started.as_bytes()[10] == b'T' && started.ends_with(".981375"), "{started}");
    }

    #[test]
    fn a_task_that_returned_null_has_a_result() {
        let end = TaskResult { result: Some(Json::null()), ..end() };
        let read: CallbackMessage = serde_json::from_slice(&write(&end, &info(Dialect::Own))).expect("a message");
        assert_eq!(read.result, Some(Json::null()));
    }
}
