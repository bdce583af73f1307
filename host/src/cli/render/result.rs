//! Output of an ended task: its result, or its error.

use serde::Deserialize;

use super::{
    CliError, CommandResult, EXIT_FAILURE, EXIT_NOT_FOUND,
    json::TaskJson,
    output::{print_json, print_json_text},
};
use crate::{
    escape,
    json::Json,
    task::{ErrorKind, Task, TaskResult, TaskStatus},
};

/// Prints the result of a task, with the details in `details` if there are any. The exit code distinguishes
/// success, failure, and a task that no worker has.
pub(in crate::cli) fn print_task_result(result: &TaskResult, details: Option<&Task>, json: bool) -> CommandResult {
    if json {
        // If the status differs, the id has been used again for another task.
        match details.filter(|task| task.status == result.status) {
            Some(task) => print_json(&TaskJson::from(task))?,
            None => print_json(&TaskJson::from(result))?,
        }
        return Ok(if result.error_kind == Some(ErrorKind::NotFound) {
            EXIT_NOT_FOUND
        } else {
            end_exit_code(result.status)
        });
    }
    print_end("fastworker list", result)
}

/// Prints the result of a call of `name` that ran in this process. `list` is the command that lists the task.
pub(in crate::cli) fn print_call_result(list: &str, name: &str, result: &TaskResult, json: bool) -> CommandResult {
    if json {
        print_json(&TaskJson::of_call(name, result))?;
        return Ok(end_exit_code(result.status));
    }
    print_end(list, result)
}

fn print_end(list: &str, result: &TaskResult) -> CommandResult {
    if result.error_kind == Some(ErrorKind::NotFound) {
        return Err(not_found_error(list, result));
    }
    if result.status == TaskStatus::Success {
        print_json_text(result.result.as_ref().map_or("null", |json| json.as_str()));
        return Ok(0);
    }
    Err(failure_error(list, result))
}

fn not_found_error(list: &str, result: &TaskResult) -> CliError {
    let error = result.error.as_deref().unwrap_or("no worker has this task");
    let hint = format!("{list} shows all tasks; with --wait-for-worker, a task waits for its worker");
    CliError::new(EXIT_NOT_FOUND, error).hint(hint)
}

fn failure_error(list: &str, result: &TaskResult) -> CliError {
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
    let failed = CliError::new(EXIT_FAILURE, message);
    match result.error_kind {
        Some(ErrorKind::BadArguments) => failed.hint(argument_hint(list, &result.metadata)),
        _ => failed,
    }
}

/// The part of a result's metadata that describes wrong arguments.
#[derive(Default, Deserialize)]
struct FailureMetadata {
    #[serde(default)]
    failure: ArgumentFailure,
}

#[derive(Default, Deserialize)]
struct ArgumentFailure {
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
    match mismatch.filter(|mismatch| mismatch.expected == "string").as_ref().and_then(quote_twice) {
        Some(quoted) => format!("quote the value twice to pass a string: {quoted}"),
        None => format!("{list} shows the parameters of each task, and {list} --schema NAME its full schema"),
    }
}

/// Writes the argument as a string, if it is an entire argument and a scalar.
fn quote_twice(mismatch: &Mismatch) -> Option<String> {
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
fn end_exit_code(status: TaskStatus) -> u8 {
    if status == TaskStatus::Success { 0 } else { EXIT_FAILURE }
}

/// The exit code for a task with this status.
pub(super) fn exit_code(status: TaskStatus) -> u8 {
    match status {
        TaskStatus::Failure | TaskStatus::Cancelled => EXIT_FAILURE,
        _ => 0,
    }
}
