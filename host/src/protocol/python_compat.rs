//! The protocol of the Python original, for its unmodified clients 0.1.1 and 0.3.0.
//!
//! Translates between its messages and ours; its terms appear nowhere else. `{"id", "name", "args", …}` on
//! a priority's address is a submission, whose reply is sent when the task has ended; `{"task_id"}` and
//! `{"action": …}` query and cancel. The original does not reply to a message that it cannot read; we reply
//! with a failure.

use std::{borrow::Cow, time::Duration};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Found, Submitted};
use crate::{
    bounded::at_most,
    clock::{DURATION_MAX, TimeText, Timestamp},
    json::{Json, NotJson},
    task::{
        CallbackInfo, Dialect, NewTask, Policy, TASK_ID_MAX, TaskId, TaskName, TaskPriority, TaskResult, TaskStatus,
    },
};

mod pickle;

pub use pickle::{pickled_error, pickled_failure};

/// Maximum number of tasks in a batch.
const BATCH_MAX: usize = 10_000;

/// A request of the original's client.
#[derive(Debug)]
pub enum Call {
    /// Submit a task, and reply when it has ended.
    Submit(Box<NewTask>),
    /// Submit tasks, and reply immediately. Tasks that cannot run come with the reason.
    Batch(Vec<(NewTask, Option<String>)>),
    /// Query the result of a task.
    Query(String),
    /// Cancel a task.
    Cancel(String),
}

/// A message that cannot be read.
#[derive(Debug)]
pub struct Malformed {
    /// The task id in it, if there is one.
    pub id: Option<String>,
    /// The parse error.
    pub message: String,
}

/// A task as the original writes it. Missing fields have the original's default.
#[derive(Deserialize)]
struct Submission {
    #[serde(default)]
    id: Option<TaskId>,
    name: String,
    #[serde(default)]
    args: Option<Json>,
    #[serde(default)]
    kwargs: Option<Json>,
    #[serde(default)]
    priority: Option<TaskPriority>,
    #[serde(default)]
    callback: Option<CallbackInfo>,
    #[serde(default)]
    max_retries: Option<u32>,
    #[serde(default)]
    retry_delay: Option<f64>,
    #[serde(default)]
    retry_backoff: Option<f64>,
    #[serde(default)]
    retry_backoff_max: Option<f64>,
    #[serde(default)]
    timeout: Option<f64>,
    #[serde(default)]
    eta: Option<TimeText>,
    #[serde(default)]
    created_at: Option<TimeText>,
}

impl Submission {
    /// Translates the call. The original's clients always send its defaults: these must not override the
    /// policy of the task module.
    fn into_task(self, lane: Option<TaskPriority>) -> NewTask {
        let unless = |value: Option<f64>, default: f64| value.filter(|value| (value - default).abs() > f64::EPSILON);
        let span = |seconds: Option<f64>| {
            let span = Duration::try_from_secs_f64(seconds?).ok()?;
            Some(span.min(DURATION_MAX))
        };
        // Without an offset both are local times of the client, which may be in another time zone: their
        // difference is the same everywhere.
        let countdown = self.eta.zip(self.created_at).and_then(|(eta, created_at)| eta.since_shown(created_at));
        NewTask {
            id: self.id.unwrap_or_default(),
            args: self.args.unwrap_or_else(Json::empty_array),
            kwargs: self.kwargs.unwrap_or_else(Json::empty_object),
            policy: Policy {
                priority: Some(lane.or(self.priority).unwrap_or_default()),
                // Zero means the default there.
                timeout: span(self.timeout).filter(|timeout| !timeout.is_zero()),
                max_retries: self.max_retries.filter(|retries| *retries > 0),
                retry_delay: span(unless(self.retry_delay, 60.0)),
                retry_backoff: unless(self.retry_backoff, 2.0),
                retry_backoff_max: span(unless(self.retry_backoff_max, 3600.0)),
            },
            eta: self.eta.filter(|_| countdown.is_none()).map(|eta| eta.within(TimeZone::system())),
            countdown: countdown.map(|countdown| countdown.min(DURATION_MAX)),
            callback: self.callback.map(|callback| CallbackInfo { dialect: Dialect::Original, ..callback }),
            ..NewTask::new(self.name)
        }
    }
}

/// The fields that distinguish the kinds of messages.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    task_id: Option<String>,
    #[serde(default)]
    name: Option<serde::de::IgnoredAny>,
}

impl Kind {
    fn is_batch(&self) -> bool {
        self.action.as_deref() == Some(BATCH)
    }
}

/// The action of a batch.
const BATCH: &str = "batch_submit";

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow, deserialize_with = "at_most::<BATCH_MAX, _, _>")]
    tasks: Vec<&'a RawValue>,
}

/// Reads a batch. An error in one task does not affect the others.
fn batch_of(bytes: &[u8]) -> Result<Vec<(NewTask, Option<String>)>, serde_json::Error> {
    let (readable, oddities) = finite(bytes);
    let batch: Batch<'_> = serde_json::from_slice(&readable)?;
    let start = readable.as_ptr().addr();
    let read = |task: &RawValue| {
        let from = task.get().as_ptr().addr() - start;
        let holds_oddity = oddities.iter().any(|at| (from..from + task.get().len()).contains(at));
        let why = match serde_json::from_str::<Submission>(task.get()) {
            Ok(task) if !holds_oddity => return (task.into_task(None), None),
            Ok(_) => NotJson::NotANumber.to_string(),
            Err(error) => format!("cannot read the task: {error}"),
        };
        (unreadable(task.get()), Some(why))
    };
    Ok(batch.tasks.into_iter().map(read).collect())
}

/// Returns a task that cannot run: with its id and name, without its arguments.
fn unreadable(task: &str) -> NewTask {
    /// Task name of a task without one.
    const NAMELESS: &str = "(unreadable)";
    #[derive(Deserialize)]
    struct Called<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        name: Option<&'a RawValue>,
    }
    let called = serde_json::from_str(task).unwrap_or(Called { id: None, name: None });
    let id = called.id.and_then(|id| serde_json::from_str(id.get()).ok());
    let name = called.name.and_then(|name| serde_json::from_str::<String>(name.get()).ok());
    let name = name.filter(|name| TaskName::check(name).is_ok()).unwrap_or_else(|| NAMELESS.to_owned());
    NewTask { id: id.unwrap_or_default(), ..NewTask::new(name) }
}

/// Replaces each NaN and Infinity that Python wrote with a number. Also returns where they were.
fn finite(bytes: &[u8]) -> (Cow<'_, [u8]>, Vec<usize>) {
    const ODDITIES: [(&[u8], &[u8]); 2] = [(b"NaN", b"0.0"), (b"Infinity", b"0.000000")];
    let (mut readable, mut found) = (Cow::Borrowed(bytes), Vec::new());
    let (mut at, mut is_text) = (0, false);
    while let Some(byte) = bytes.get(at) {
        let oddity = ODDITIES.iter().find(|(oddity, _)| !is_text && bytes[at..].starts_with(oddity));
        match (byte, oddity) {
            (_, Some((oddity, number))) => {
                found.push(at);
                readable.to_mut()[at..at + oddity.len()].copy_from_slice(number);
                at += oddity.len();
                continue;
            }
            // An escaped quote does not end the text.
            (b'\\', _) if is_text => at += 1,
            (b'"', _) => is_text = !is_text,
            _ => {}
        }
        at += 1;
    }
    (readable, found)
}

/// Reads a message that arrived on a priority's address, or on the management address.
///
/// # Errors
/// [`Malformed`]: reply with [`failure`] on a priority's address and with [`error`] on the management
/// address.
pub fn read(bytes: &[u8], lane: Option<TaskPriority>) -> Result<Call, Malformed> {
    let malformed = |error: &serde_json::Error| malformed(bytes, error);
    let kind: Kind = match serde_json::from_slice(bytes) {
        Ok(kind) => kind,
        Err(error) => match serde_json::from_slice(&finite(bytes).0) {
            Ok(kind @ Kind { action: Some(_), .. }) if kind.is_batch() => kind,
            _ => return Err(malformed(&error)),
        },
    };
    if kind.task_id.as_ref().is_some_and(|id| id.len() > TASK_ID_MAX) {
        return Err(Malformed { id: None, message: format!("a task id is text of 1 to {TASK_ID_MAX} bytes") });
    }
    match (kind.action.as_deref(), kind.task_id) {
        (Some(BATCH), _) => Ok(Call::Batch(batch_of(bytes).map_err(|error| malformed(&error))?)),
        (Some("cancel"), Some(id)) => Ok(Call::Cancel(id)),
        (None | Some("query"), Some(id)) => Ok(Call::Query(id)),
        (None, None) if kind.name.is_some() => {
            let task: Submission = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
            Ok(Call::Submit(Box::new(task.into_task(lane))))
        }
        (None | Some("query" | "cancel"), None) if lane.is_none() => {
            Err(Malformed { id: None, message: "Missing task_id".into() })
        }
        (None | Some("query" | "cancel"), None) => Err(Malformed { id: id_in(bytes), message: "Missing name".into() }),
        (Some(other), _) => {
            let message = format!("unknown action '{other:.64}': use batch_submit, query or cancel");
            Err(Malformed { id: None, message })
        }
    }
}

fn malformed(bytes: &[u8], error: &serde_json::Error) -> Malformed {
    let not_a_number = std::str::from_utf8(bytes).map(Json::parse);
    let message = match not_a_number {
        Ok(Err(error @ NotJson::NotANumber)) => error.to_string(),
        _ => format!("cannot read the message: {error}"),
    };
    Malformed { id: id_in(bytes), message }
}

/// Returns the task id in a message that is not JSON, such as one with a NaN in it.
fn id_in(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let (_, after) = text.split_once("\"id\"")?;
    let (_, value) = after.split_once('"')?;
    let (id, _) = value.split_once('"')?;
    (id.len() <= TASK_ID_MAX).then(|| id.to_owned())
}

/// A result in the original's format: seven fields, and naive local time with a space.
#[derive(Serialize)]
struct OriginalResult<'a> {
    task_id: &'a str,
    status: &'a str,
    result: Option<&'a Json>,
    error: Option<&'a str>,
    started_at: Option<String>,
    completed_at: Option<String>,
    callback: Option<&'a CallbackInfo>,
}

impl<'a> OriginalResult<'a> {
    fn new(task_id: &'a str, ended: &'a TaskResult, callback: Option<&'a CallbackInfo>) -> Self {
        Self {
            task_id,
            status: status(&ended.status),
            result: ended.result.as_ref(),
            error: ended.error.as_deref(),
            started_at: ended.started_at.map(|time| local(time, ' ')),
            completed_at: ended.completed_at.map(|time| local(time, ' ')),
            callback,
        }
    }
}

/// Returns the original's name of a status.
fn status(status: &TaskStatus) -> &str {
    match status {
        TaskStatus::Started => "running",
        other => other.as_str(),
    }
}

/// Local time without an offset, as the original writes it: with a space before the hour in replies,
/// and with a `T` in callbacks.
pub(super) fn local(time: Timestamp, separator: char) -> String {
    let instant = jiff::Timestamp::from_microsecond(time.micros()).unwrap_or_default();
    let zoned = instant.to_zoned_datetime(TimeZone::system());
    zoned.strftime(&format!("%Y-%m-%d{separator}%H:%M:%S.%6f")).to_string()
}

/// Returns the reply to a submission whose task has ended.
pub fn ended(ended: &TaskResult, callback: Option<&CallbackInfo>) -> Vec<u8> {
    let id = ended.task_id.to_string();
    write(&OriginalResult::new(&id, ended, callback))
}

/// Returns the reply to a submission that was refused or could not be read.
pub fn failure(id: &str, why: &str) -> Vec<u8> {
    write(&OriginalResult {
        task_id: id,
        status: "failure",
        result: None,
        error: Some(why),
        started_at: None,
        completed_at: Some(local(Timestamp::now(), ' ')),
        callback: None,
    })
}

/// Returns the reply to a batch.
pub fn batch(ids: &[TaskId], submitted: &[Submitted]) -> Vec<u8> {
    #[derive(Serialize)]
    struct BatchReply<'a> {
        batch_accepted: bool,
        task_ids: Vec<&'a TaskId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    }
    let refused = |submitted: &Submitted| matches!(submitted, Submitted::Refused(_));
    let accepted = ids.iter().zip(submitted).filter(|(_, submitted)| !refused(submitted)).map(|(id, _)| id);
    let error = submitted.iter().find_map(|submitted| match submitted {
        Submitted::Refused(refusal) => Some(refusal.message.as_str()),
        Submitted::Accepted | Submitted::Ended(_) => None,
    });
    write(&BatchReply { batch_accepted: error.is_none(), task_ids: accepted.collect(), error })
}

/// Returns the reply to a query. Like the original's, it only has ended tasks.
pub fn query(id: &str, found: &Found) -> Vec<u8> {
    #[derive(Serialize)]
    struct QueryReply<'a> {
        found: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<OriginalResult<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    }
    write(&match found {
        Found::Ended(ended) => {
            QueryReply { found: true, result: Some(OriginalResult::new(id, ended, None)), error: None }
        }
        Found::Live(_) | Found::Unknown => {
            QueryReply { found: false, result: None, error: Some(format!("Task {id} not found in cache or expired")) }
        }
    })
}

/// Returns the reply to a cancel.
pub fn cancel(id: &str, cancelled: bool) -> Vec<u8> {
    #[derive(Serialize)]
    struct CancelReply<'a> {
        cancelled: bool,
        task_id: &'a str,
    }
    write(&CancelReply { cancelled, task_id: id })
}

/// Returns the reply to any other request that failed.
pub fn error(why: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct ErrorReply<'a> {
        error: &'a str,
    }
    write(&ErrorReply { error: why })
}

fn write(reply: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(reply).expect("replies have no maps with odd keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURED: &str = r#"{"id": "8f6b8253-4446-40d6-b65a-6b320883fdcf", "name": "add", "args": [5, 3], "kwargs": {}, "priority": "normal", "created_at": "2026-11-24 05:37:30.601531", "started_at": null, "completed_at": null, "status": "pending", "result": null, "error": null, "callback": null, "retry_count": 0, "max_retries": 0, "retry_delay": 60.0, "retry_backoff": 2.0, "retry_backoff_max": 3600.0, "timeout": null, "eta": null, "assigned_worker": null}"#;

    #[test]
    fn the_defaults_of_a_captured_submission_do_not_override_the_module() {
        let Ok(Call::Submit(task)) = read(CAPTURED.as_bytes(), Some(TaskPriority::High)) else {
            panic!("a submission")
        };
        assert_eq!((task.name.as_str(), task.args.as_str()), ("add", "[5, 3]"));
        assert_eq!(task.policy, Policy { priority: Some(TaskPriority::High), ..Policy::default() });
    }

    #[test]
    fn queries_and_cancels_are_distinguished() {
        assert!(matches!(read(br#"{"task_id": "x"}"#, None), Ok(Call::Query(id)) if id == "x"));
        assert!(matches!(read(br#"{"action": "cancel", "task_id": "x"}"#, None), Ok(Call::Cancel(id)) if id == "x"));
        assert!(matches!(read(b"{}", None), Err(Malformed { message, .. }) if message == "Missing task_id"));
    }

    #[test]
    fn a_countdown_is_the_same_in_every_time_zone() {
        // Both are local times of an unknown zone; only the difference counts.
        for (eta, created_at, countdown) in [
            ("2026-11-24 05:38:30.601531", "2026-11-24 05:37:30.601531", 60.0),
            ("2031-01-01T00:00:05", "2031-01-01 00:00:00", 5.0),
            ("2020-01-01 00:00:00", "2026-11-24 05:37:30", 0.0),
        ] {
            let message = format!(r#"{{"name": "add", "eta": "{eta}", "created_at": "{created_at}"}}"#);
            let Ok(Call::Submit(task)) = read(message.as_bytes(), Some(TaskPriority::High)) else {
                panic!("a submission")
            };
            assert_eq!((task.eta, task.countdown), (None, Some(Duration::from_secs_f64(countdown))), "{eta}");
        }
        let message = br#"{"name": "add", "eta": "2026-11-24 05:37:30+01:00", "created_at": "2026-11-24 05:37:30"}"#;
        let Ok(Call::Submit(task)) = read(message, Some(TaskPriority::High)) else { panic!("a submission") };
        assert_eq!(task.countdown, None);
        assert_eq!(task.eta, Some("2026-11-24T04:37:30Z".parse().expect("a point in time")));
    }

    #[test]
    fn each_task_of_a_batch_is_read_separately() {
        let message = br#"{"action": "batch_submit", "tasks": [
            {"id": "a", "name": "add", "args": [1, "NaN \" Infinity"]},
            {"id": "b", "name": "add", "args": [NaN, 1]},
            {"id": "c", "name": "add", "kwargs": {"x": [-Infinity]}},
            {"id": "d", "name": "add", "timeout": Infinity, "args": [2, 2]},
            {"id": "e", "name": 5},
            {"id": "f", "name": "add", "args": [3, 3]}
        ]}"#;
        let Ok(Call::Batch(tasks)) = read(message, Some(TaskPriority::Normal)) else { panic!("a batch") };
        let read_tasks: Vec<(String, &str, bool)> =
            tasks.iter().map(|(task, why)| (task.id.to_string(), task.args.as_str(), why.is_none())).collect();
        let expected = [
            ("a", r#"[1, "NaN \" Infinity"]"#, true),
            ("b", "[]", false),
            ("c", "[]", false),
            ("d", "[]", false),
            ("e", "[]", false),
            ("f", "[3, 3]", true),
        ];
        assert_eq!(read_tasks, expected.map(|(id, args, is_sound)| (id.to_owned(), args, is_sound)));
        let why = |index: usize| tasks[index].1.clone().unwrap_or_default();
        assert!(why(1).contains("NaN") && why(4).contains("invalid type"), "{} {}", why(1), why(4));
        assert!(read(br#"{"action": "batch_submit", "tasks": [NaN"#, None).is_err());
    }

    #[test]
    fn a_message_with_nan_is_refused_by_name_and_under_its_id() {
        let message = CAPTURED.replace("[5, 3]", "[NaN]");
        let Err(Malformed { id, message: why }) = read(message.as_bytes(), Some(TaskPriority::Low)) else {
            panic!("a refusal")
        };
        assert_eq!(id.as_deref(), Some("8f6b8253-4446-40d6-b65a-6b320883fdcf"));
        assert!(why.contains("NaN"), "{why}");
    }
}
