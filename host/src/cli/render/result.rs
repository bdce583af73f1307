//! How the end of a task is shown: its result, or why it failed.

use serde::Deserialize;

use super::{Failure, NOT_FOUND, Outcome, TASK_FAILED, json::TaskJson, out_document, out_json};
use crate::{
    escape,
    json::Json,
    task::{ErrorKind, Task, TaskResult, TaskStatus},
};

/// Prints the result of a task, with the details in `known` if there are any. The exit code distinguishes
/// success, failure, and a task that no worker has.
pub(in crate::cli) fn task_result(result: &TaskResult, known: Option<&Task>, json: bool) -> Outcome {
    if json {
        // If the status differs, the id has been used again for another task.
        match known.filter(|task| task.status == result.status) {
            Some(task) => out_json(&TaskJson::from(task))?,
            None => out_json(&TaskJson::from(result))?,
        }
        return Ok(if result.error_kind == Some(ErrorKind::NotFound) { NOT_FOUND } else { end_code(result.status) });
    }
    ended("fastworker list", result)
}

/// Prints the result of a call of `name` that ran in this process. `list` is the command that lists the task.
pub(in crate::cli) fn call_result(list: &str, name: &str, result: &TaskResult, json: bool) -> Outcome {
    if json {
        out_json(&TaskJson::of_call(name, result))?;
        return Ok(end_code(result.status));
    }
    ended(list, result)
}

fn ended(list: &str, result: &TaskResult) -> Outcome {
    if result.error_kind == Some(ErrorKind::NotFound) {
        return Err(not_found(list, result));
    }
    if result.status == TaskStatus::Success {
        out_document(result.result.as_ref().map_or("null", |json| json.as_str()));
        return Ok(0);
    }
    Err(failed(list, result))
}

fn not_found(list: &str, result: &TaskResult) -> Failure {
    let error = result.error.as_deref().unwrap_or("no worker has this task");
    let all = format!("{list} shows all tasks; with --wait-for-worker, a task waits for its worker");
    Failure::new(NOT_FOUND, error).hint(all)
}

fn failed(list: &str, result: &TaskResult) -> Failure {
    // The kind `failed` would only repeat the verb.
    let kind = result.error_kind.filter(|kind| *kind != ErrorKind::Failed);
    let kind = kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
    let worker = result.worker_id.as_ref().map(|id| format!(" on {}", escape::line(id))).unwrap_or_default();
    let attempts = if result.attempts > 1 { format!(" after {} attempts", result.attempts) } else { String::new() };
    let error = result.error.as_deref().unwrap_or_default().trim_start_matches(['\n', '\r']);
    let (verb, reason) = match result.status {
        TaskStatus::Cancelled => ("was cancelled".to_owned(), String::new()),
        TaskStatus::Other(status) => (format!("ended as {}", status.as_str()), format!("\n{error}")),
        _ => ("failed".to_owned(), format!("\n{error}")),
    };
    let message = format!("task {} {verb}{kind}{worker}{attempts}{reason}", result.task_id);
    let failure = Failure::new(TASK_FAILED, message);
    match result.error_kind {
        Some(ErrorKind::BadArguments) => failure.hint(argument_hint(list, &result.metadata)),
        _ => failure,
    }
}

/// The part of a result's metadata that describes wrong arguments.
#[derive(Default, Deserialize)]
struct FailureMetadata {
    #[serde(default)]
    failure: ReportedFailure,
}

#[derive(Default, Deserialize)]
struct ReportedFailure {
    #[serde(default)]
    details: Option<Mismatch>,
}

#[derive(Deserialize)]
struct Mismatch {
    path: String,
    expected: String,
    found: String,
}

/// The hint for wrong arguments. A common mistake is a string that the command line parses as JSON.
fn argument_hint(list: &str, metadata: &Json) -> String {
    let mismatch = metadata.read::<FailureMetadata>().unwrap_or_default().failure.details;
    match mismatch.filter(|mismatch| mismatch.expected == "string").as_ref().and_then(quoted_twice) {
        Some(quoted) => format!("quote the value twice to pass a string: {quoted}"),
        None => format!("{list} shows the parameters of each task, and {list} --schema NAME its full schema"),
    }
}

/// Writes the argument as a string, if it is a whole argument and a scalar.
fn quoted_twice(mismatch: &Mismatch) -> Option<String> {
    let (kind, value) = mismatch.found.split_once(' ').unwrap_or((&mismatch.found, &mismatch.found));
    let is_scalar = matches!(kind, "number" | "boolean" | "null") && !value.ends_with('…');
    let (list, name) = mismatch.path.split_once(['[', '.'])?;
    if !is_scalar || name.contains(['.', '[']) {
        return None;
    }
    match list {
        "args" => Some(format!("'\"{value}\"'")),
        "kwargs" => Some(format!("'{name}=\"{value}\"'")),
        _ => None,
    }
}

/// The exit code for a task that has ended: an unknown status is not a success.
fn end_code(status: TaskStatus) -> u8 {
    if status == TaskStatus::Success { 0 } else { TASK_FAILED }
}

/// The exit code for a task with this status.
pub(super) fn exit_code(status: TaskStatus) -> u8 {
    match status {
        TaskStatus::Failure | TaskStatus::Cancelled => TASK_FAILED,
        _ => 0,
    }
}
