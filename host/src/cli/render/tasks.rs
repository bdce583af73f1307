//! How tasks are shown: one task as a list of fields, many in a table.

use std::time::Duration;

use super::{
    hint,
    json::{TaskJson, TaskSummaryJson},
    note, out, out_json, out_lines, out_name,
    result::exit_code,
    table::{self, Column, column},
    text::{call, cut, duration, flat, from_now, moment, rounded, terminal_width},
};
use crate::{
    cli::Outcome,
    clock::Timestamp,
    escape,
    protocol::{TaskPage, TaskQuery, TaskSummary},
    task::{Delivery, DeliveryState, ErrorKind, Progress, Task, TaskId, TaskResult, TaskStatus},
};

/// Indentation of the further lines of a field.
const INDENT: &str = "           ";

/// Prints the id of a submitted task; with `json`, the task as far as it is `known`.
pub(in crate::cli) fn submitted(id: &TaskId, known: Option<&Task>, json: bool) -> Outcome {
    if json {
        match known {
            Some(task) => out_json(&TaskJson::from(task))?,
            None => out_json(&TaskJson::from(&TaskResult::new(id.clone(), TaskStatus::Pending)))?,
        }
    } else {
        out_name(&id.to_string());
        hint(format_args!("fastworker result {id} --wait"));
    }
    Ok(0)
}

/// Prints that a task was cancelled.
pub(in crate::cli) fn cancelled(id: &TaskId, known: Option<&Task>, json: bool) -> Outcome {
    match known {
        Some(task) if json => out_json(&TaskJson::from(task))?,
        None if json => out_json(&TaskJson::from(&TaskResult::new(id.clone(), TaskStatus::Cancelled)))?,
        _ => out(escape::line(&format!("cancelled {id}"))),
    }
    Ok(0)
}

/// Prints the status of a task.
pub(in crate::cli) fn status(task: &Task, json: bool) -> Outcome {
    if json {
        out_json(&TaskJson::from(task))?;
        return Ok(exit_code(task.status));
    }
    let now = Timestamp::now();
    field("task", &task.id);
    field("name", &task.name);
    field("status", task.status);
    field_if("result", task.result.as_ref().map(|result| escape::json(result.as_str())));
    // The kind "failed" adds nothing to the error.
    field_if("kind", task.error_kind.filter(|kind| *kind != ErrorKind::Failed));
    block_if("error", task.error.as_deref());
    field_if("due", task.due_at.map(moment));
    if is_without_worker(task) {
        field("waits for", "a worker that has this task: there is none now");
    }
    field_if("progress", task.progress.as_ref().map(progress));
    let called = call(&task.name, &task.args, &task.kwargs);
    field("call", cut(&called, terminal_width().saturating_sub(INDENT.len() + 1)));
    field("priority", task.priority);
    field_if("attempts", Some(task.attempt).filter(|attempts| *attempts > 0));
    field_if("worker", task.worker_id.as_ref());
    field("created", moment(task.created_at));
    field_if("started", task.started_at.map(moment));
    field_if("completed", task.completed_at.map(moment));
    let ran = task.started_at.map(|started| duration(task.completed_at.unwrap_or(now).since(started)));
    field_if("ran", ran);
    field_if("callback", task.callback.as_deref().map(delivery));
    Ok(exit_code(task.status))
}

/// What an unfinished task waits for, if it is not simply queued or running.
pub(in crate::cli) fn pending_reason(task: &Task) -> Option<String> {
    let due = || task.due_at.map(|at| from_now(at, Timestamp::now())).unwrap_or_default();
    match task.status {
        TaskStatus::Scheduled => Some(format!("it is due {}", due())),
        TaskStatus::Retrying => {
            let error =
                task.error.as_deref().and_then(|error| error.trim_start().lines().next()).map(flat).unwrap_or_default();
            Some(format!("attempt {} failed: {error}; the next attempt is due {}", task.attempt, due()))
        }
        _ if is_without_worker(task) => {
            let name = escape::line(&task.name);
            Some(format!("it is waiting for a worker that has the task '{name}'{}", failure_deadline(task)))
        }
        _ => None,
    }
}

/// The note about what a command waits for; `task` is none if it has not been accepted yet.
pub(in crate::cli) fn wait_notice(id: &TaskId, task: Option<&Task>, left: Duration) -> String {
    let Some(task) = task else {
        return format!("the control plane has not accepted task {id} yet: waiting{}", time_limit(left));
    };
    let state = match task.status {
        TaskStatus::Started => {
            let worker = task.worker_id.as_deref().map(|worker| format!(" on {worker}")).unwrap_or_default();
            let since = task.started_at.map(|at| format!(" since {}", moment(at))).unwrap_or_default();
            format!("is running{worker}{since}")
        }
        TaskStatus::Pending if task.offered => "is queued behind other tasks".to_owned(),
        TaskStatus::Pending => {
            format!("is queued, and no worker has the task '{}' yet{}", task.name, failure_deadline(task))
        }
        status => pending_reason(task).unwrap_or_else(|| format!("is {status}")),
    };
    let state = state.strip_prefix("it ").unwrap_or(&state);
    format!("task {id} {state}: waiting for it to end{}", time_limit(left))
}

/// The suffix of a note that says how long the command waits.
pub(in crate::cli) fn time_limit(left: Duration) -> String {
    format!(", at most {}", duration(left))
}

/// The suffix that says when a task without a worker fails.
fn failure_deadline(task: &Task) -> String {
    let Some(until) = task.unknown_until else { return String::new() };
    format!(
        "; it fails {} unless one connects; `fastworker list` shows the available tasks",
        from_now(until, Timestamp::now())
    )
}

fn is_without_worker(task: &Task) -> bool {
    !task.offered && !task.status.is_final() && task.status != TaskStatus::Started
}

fn progress(progress: &Progress) -> String {
    let message = flat(&progress.message);
    match progress.total {
        0 => format!("{} {message}", progress.done),
        total => format!("{}/{total} {message}", progress.done),
    }
}

/// Formats the delivery of a callback: `delivered to tcp://127.0.0.1:6000 after 1 attempt`.
fn delivery(delivery: &Delivery) -> String {
    let Delivery { address, state, attempts, reason } = delivery;
    let tries = match attempts {
        1 => "1 attempt".to_owned(),
        many => format!("{many} attempts"),
    };
    let reason = reason.as_deref().unwrap_or("unknown reason");
    match state {
        DeliveryState::Pending => format!("pending, to {address}"),
        DeliveryState::Delivered => format!("delivered to {address} after {tries}"),
        DeliveryState::Failed => format!("delivery to {address} failed after {tries}: {reason}"),
        DeliveryState::Other(state) => format!("{}, to {address}", state.as_str()),
    }
}

pub(super) fn field(name: &str, value: impl std::fmt::Display) {
    out(escape::line(&format!("{name:<10} {value}")));
}

/// Prints a field of several lines.
fn block_if(name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out(format_args!("{name:<10} {}", escape::indented(value.trim_start_matches(['\n', '\r']), INDENT)));
    }
}

pub(super) fn field_if(name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        field(name, value);
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
pub(in crate::cli) fn tasks(page: &TaskPage, query: &TaskQuery, json: bool) -> Outcome {
    if json {
        out_json(&page.tasks.iter().map(TaskSummaryJson::from).collect::<Vec<_>>())?;
    } else if !page.tasks.is_empty() {
        let now = Timestamp::now();
        out_lines(table::lines(COLUMNS, &page.tasks.iter().map(|task| row(task, now)).collect::<Vec<_>>()));
    }
    let shown = page.tasks.len() as u64;
    let least = if page.complete { "" } else { "at least " };
    let is_filtered = TaskQuery { offset: 0, limit: 0, ..query.clone() } != TaskQuery::default();
    if shown == 0 {
        note(match (page.total, is_filtered, page.complete) {
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
        note(&format!("tasks {from} to {to} of {least}{}{next}", page.total));
    }
    Ok(0)
}

fn row(task: &TaskSummary, now: Timestamp) -> [String; COLUMNS.len()] {
    [
        task.task_id.to_string(),
        task.name.to_string(),
        task.status.to_string(),
        rounded(now.since(task.created_at)),
        ran(task, now).map(duration).unwrap_or_default(),
        task.worker_id.as_deref().unwrap_or_default().to_owned(),
        task.due_at.map(|at| from_now(at, now)).unwrap_or_default(),
        Some(waited(task, now)).filter(|waited| *waited >= WAITED_MIN).map(rounded).unwrap_or_default(),
        task.priority.to_string(),
        Some(task.attempt).filter(|attempts| *attempts > 0).map(|attempts| attempts.to_string()).unwrap_or_default(),
        task.error.as_deref().map(flat).unwrap_or_default(),
    ]
}

/// How long a task waited before its last attempt, or has waited for its first.
fn waited(task: &TaskSummary, now: Timestamp) -> Duration {
    if task.due_at.is_some() {
        return Duration::ZERO;
    }
    task.started_at.or(task.completed_at).unwrap_or(now).since(task.created_at)
}

/// How long the last attempt ran, or has been running.
fn ran(task: &TaskSummary, now: Timestamp) -> Option<Duration> {
    let until = match task.status {
        TaskStatus::Started => now,
        _ => task.completed_at?,
    };
    task.started_at.map(|started| until.since(started))
}
