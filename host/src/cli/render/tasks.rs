//! Output of tasks: one task as a list of fields, many in a table.

use std::time::Duration;

use super::{
    diagnostics::{print_hint, print_note},
    json::{TaskJson, TaskSummaryJson},
    output::{print_escaped, print_json, print_lines, print_name},
    result::exit_code,
    table::{self, Column, column},
    text::{format_call, single_line, terminal_width, truncate},
    time::{coarse_duration, format_duration, format_timestamp, relative_time},
};
use crate::{
    cli::CommandResult,
    clock::Timestamp,
    escape,
    protocol::{TaskPage, TaskQuery, TaskSummary},
    task::{Delivery, DeliveryState, ErrorKind, Progress, Task, TaskId, TaskResult, TaskStatus},
};

/// Indentation of the further lines of a field.
const INDENT: &str = "           ";

/// Prints the id of a submitted task; with `json`, also the details that are `details`.
pub(in crate::cli) fn print_submitted(id: &TaskId, details: Option<&Task>, json: bool) -> CommandResult {
    if json {
        match details {
            Some(task) => print_json(&TaskJson::from(task))?,
            None => print_json(&TaskJson::from(&TaskResult::new(id.clone(), TaskStatus::Pending)))?,
        }
    } else {
        print_name(&id.to_string());
        print_hint(format_args!("fastworker result {id} --wait"));
    }
    Ok(0)
}

/// Prints that a task was cancelled.
pub(in crate::cli) fn print_cancelled(id: &TaskId, details: Option<&Task>, json: bool) -> CommandResult {
    match details {
        Some(task) if json => print_json(&TaskJson::from(task))?,
        None if json => print_json(&TaskJson::from(&TaskResult::new(id.clone(), TaskStatus::Cancelled)))?,
        _ => print_escaped(escape::line(&format!("cancelled {id}"))),
    }
    Ok(0)
}

/// Prints the status of a task.
pub(in crate::cli) fn print_status(task: &Task, json: bool) -> CommandResult {
    if json {
        print_json(&TaskJson::from(task))?;
        return Ok(exit_code(task.status));
    }
    let now = Timestamp::now();
    print_field("task", &task.id);
    print_field("name", &task.name);
    print_field("status", task.status);
    print_field_if("result", task.result.as_ref().map(|result| escape::json(result.as_str())));
    // The kind "failed" adds nothing to the error.
    print_field_if("kind", task.error_kind.filter(|kind| *kind != ErrorKind::Failed));
    print_block_if("error", task.error.as_deref());
    print_field_if("due", task.due_at.map(format_timestamp));
    if is_without_worker(task) {
        print_field("waits for", "a worker that has this task: there is none now");
    }
    print_field_if("progress", task.progress.as_ref().map(format_progress));
    let call = format_call(&task.name, &task.args, &task.kwargs);
    print_field("call", truncate(&call, terminal_width().saturating_sub(INDENT.len() + 1)));
    print_field("priority", task.priority);
    print_field_if("attempts", Some(task.attempt).filter(|attempts| *attempts > 0));
    print_field_if("worker", task.worker_id.as_ref());
    print_field("created", format_timestamp(task.created_at));
    print_field_if("started", task.started_at.map(format_timestamp));
    print_field_if("completed", task.completed_at.map(format_timestamp));
    let ran = task.started_at.map(|started| format_duration(task.completed_at.unwrap_or(now).since(started)));
    print_field_if("ran", ran);
    print_field_if("callback", task.callback.as_deref().map(format_delivery));
    Ok(exit_code(task.status))
}

/// The reason why an unfinished task waits, unless it is simply queued or running.
pub(in crate::cli) fn pending_reason(task: &Task) -> Option<String> {
    let due = || task.due_at.map(|at| relative_time(at, Timestamp::now())).unwrap_or_default();
    match task.status {
        TaskStatus::Scheduled => Some(format!("it is due {}", due())),
        TaskStatus::Retrying => {
            let error = task
                .error
                .as_deref()
                .and_then(|error| error.trim_start().lines().next())
                .map(single_line)
                .unwrap_or_default();
            Some(format!("attempt {} failed: {error}; the next attempt is due {}", task.attempt, due()))
        }
        _ if is_without_worker(task) => {
            let name = escape::line(&task.name);
            Some(format!("it is waiting for a worker that has the task '{name}'{}", format_failure_deadline(task)))
        }
        _ => None,
    }
}

/// The note about what a command waits for; `task` is none if it has not been accepted yet. `missing` are the grants that
/// a worker with the task lacks.
pub(in crate::cli) fn format_wait_note(
    id: &TaskId,
    task: Option<&Task>,
    missing: &[String],
    remaining: Duration,
) -> String {
    let Some(task) = task else {
        return format!("the control plane has not accepted task {id} yet: waiting{}", format_time_limit(remaining));
    };
    let state = match task.status {
        TaskStatus::Started => {
            let worker = task.worker_id.as_deref().map(|worker| format!(" on {worker}")).unwrap_or_default();
            let since = task.started_at.map(|at| format!(" since {}", format_timestamp(at))).unwrap_or_default();
            format!("is running{worker}{since}")
        }
        TaskStatus::Pending if task.offered => "is queued behind other tasks".to_owned(),
        TaskStatus::Pending if !missing.is_empty() => format!(
            "is queued, and no worker grants what the task '{}' needs ({}){}",
            task.name,
            missing.join(", "),
            format_failure_deadline(task)
        ),
        TaskStatus::Pending => {
            format!("is queued, and no worker has the task '{}' yet{}", task.name, format_failure_deadline(task))
        }
        status => pending_reason(task).unwrap_or_else(|| format!("is {status}")),
    };
    let state = state.strip_prefix("it ").unwrap_or(&state);
    format!("task {id} {state}: waiting for it to end{}", format_time_limit(remaining))
}

/// The suffix of a note that states how long the command waits.
pub(in crate::cli) fn format_time_limit(remaining: Duration) -> String {
    format!(", at most {}", format_duration(remaining))
}

/// The suffix that states when a task without a worker fails.
fn format_failure_deadline(task: &Task) -> String {
    let Some(until) = task.unknown_until else { return String::new() };
    format!(
        "; it fails {} unless one connects; `fastworker list` shows the available tasks",
        relative_time(until, Timestamp::now())
    )
}

fn is_without_worker(task: &Task) -> bool {
    !task.offered && !task.status.is_final() && task.status != TaskStatus::Started
}

fn format_progress(progress: &Progress) -> String {
    let message = single_line(&progress.message);
    match progress.total {
        0 => format!("{} {message}", progress.done),
        total => format!("{}/{total} {message}", progress.done),
    }
}

/// Formats the delivery of a callback: `delivered to tcp://127.0.0.1:6000 after 1 attempt`.
fn format_delivery(delivery: &Delivery) -> String {
    let Delivery { address, state, attempts, reason } = delivery;
    let attempts = match attempts {
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    };
    let reason = reason.as_deref().unwrap_or("unknown reason");
    match state {
        DeliveryState::Pending => format!("pending, to {address}"),
        DeliveryState::Delivered => format!("delivered to {address} after {attempts}"),
        DeliveryState::Failed => format!("delivery to {address} failed after {attempts}: {reason}"),
        DeliveryState::Other(state) => format!("{}, to {address}", state.as_str()),
    }
}

pub(super) fn print_field(name: &str, value: impl std::fmt::Display) {
    print_escaped(escape::line(&format!("{name:<10} {value}")));
}

/// Prints a field of several lines.
fn print_block_if(name: &str, value: Option<&str>) {
    if let Some(value) = value {
        print_escaped(format_args!("{name:<10} {}", escape::indented(value.trim_start_matches(['\n', '\r']), INDENT)));
    }
}

pub(super) fn print_field_if(name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        print_field(name, value);
    }
}

const COLUMNS: [Column; 11] = [
    column("TASK", ""),
    column("NAME", "name "),
    column("STATUS", ""),
    column("AGE", "age "),
    column("RAN", "ran "),
    column("WORKER", "on "),
    column("DUE", "due "),
    column("WAITED", "waited "),
    column("PRIORITY", "priority ").unless("normal"),
    column("ATTEMPTS", "attempt ").unless("1"),
    column("ERROR", ""),
];
/// Minimum waiting time to show.
const WAITED_MIN: Duration = Duration::from_secs(1);

/// Prints a page of tasks in a table.
pub(in crate::cli) fn print_tasks(page: &TaskPage, query: &TaskQuery, json: bool) -> CommandResult {
    if json {
        print_json(&page.tasks.iter().map(TaskSummaryJson::from).collect::<Vec<_>>())?;
    } else if !page.tasks.is_empty() {
        let now = Timestamp::now();
        print_lines(table::lines(COLUMNS, &page.tasks.iter().map(|task| row(task, now)).collect::<Vec<_>>()));
    }
    let shown = page.tasks.len() as u64;
    let at_least = if page.complete { "" } else { "at least " };
    let is_filtered = TaskQuery { offset: 0, limit: 0, ..query.clone() } != TaskQuery::default();
    if shown == 0 {
        print_note(match (page.total, is_filtered, page.complete) {
            (1.., ..) => "there are no more tasks",
            (0, true, true) => "no task matches",
            (0, true, false) => "no task matches among those that were examined",
            (0, false, _) => "no tasks",
        });
    } else if page.total > shown || !page.complete {
        let (from, to) = (query.offset + 1, query.offset + shown);
        let next = match page.complete {
            _ if page.total > to => format!("; --offset {to} shows the next"),
            true => String::new(),
            false => "; narrow the search with --status".to_owned(),
        };
        print_note(&format!("tasks {from} to {to} of {at_least}{}{next}", page.total));
    }
    Ok(0)
}

fn row(task: &TaskSummary, now: Timestamp) -> [String; COLUMNS.len()] {
    [
        task.task_id.to_string(),
        task.name.to_string(),
        task.status.to_string(),
        coarse_duration(now.since(task.created_at)),
        ran(task, now).map(format_duration).unwrap_or_default(),
        task.worker_id.as_deref().unwrap_or_default().to_owned(),
        task.due_at.map(|at| relative_time(at, now)).unwrap_or_default(),
        Some(waited(task, now)).filter(|waited| *waited >= WAITED_MIN).map(coarse_duration).unwrap_or_default(),
        task.priority.to_string(),
        Some(task.attempt).filter(|attempts| *attempts > 0).map(|attempts| attempts.to_string()).unwrap_or_default(),
        task.error.as_deref().map(single_line).unwrap_or_default(),
    ]
}

/// The time that a task waited before its last attempt, or has waited for its first.
fn waited(task: &TaskSummary, now: Timestamp) -> Duration {
    if task.due_at.is_some() {
        return Duration::ZERO;
    }
    task.started_at.or(task.completed_at).unwrap_or(now).since(task.created_at)
}

/// The time that the last attempt ran, or has been running.
fn ran(task: &TaskSummary, now: Timestamp) -> Option<Duration> {
    let until = match task.status {
        TaskStatus::Started => now,
        _ => task.completed_at?,
    };
    task.started_at.map(|started| until.since(started))
}
