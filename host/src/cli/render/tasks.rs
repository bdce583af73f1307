//! How tasks are shown: one of them in lines, many in a table.

use std::time::Duration;

use super::{
    code, hint, note, out, out_json, out_lines, out_name,
    shapes::{TaskLine, TaskShape},
    table::{self, Column, column},
    text::{about, call, cut, flat, from_now, moment, span, terminal_width},
};
use crate::{
    cli::Outcome,
    clock::Timestamp,
    protocol::{TaskPage, TaskQuery, TaskSummary},
    task::{Delivery, DeliveryState, ErrorKind, Progress, Task, TaskId, TaskResult, TaskStatus},
    visible,
};

/// Before the second line of a field.
const BELOW: &str = "           ";

/// Shows the id of a submitted task, or the task as it is `known`.
pub(in crate::cli) fn submitted(id: &TaskId, known: Option<&Task>, json: bool) -> Outcome {
    if json {
        match known {
            Some(task) => out_json(&TaskShape::from(task))?,
            None => out_json(&TaskShape::from(&TaskResult::new(id.clone(), TaskStatus::Pending)))?,
        }
    } else {
        out_name(&id.to_string());
        hint(format_args!("fastworker result {id} --wait"));
    }
    Ok(0)
}

/// Says that a task was stopped.
pub(in crate::cli) fn cancelled(id: &TaskId, known: Option<&Task>, json: bool) -> Outcome {
    match known {
        Some(task) if json => out_json(&TaskShape::from(task))?,
        None if json => out_json(&TaskShape::from(&TaskResult::new(id.clone(), TaskStatus::Cancelled)))?,
        _ => out(visible::line(&format!("cancelled {id}"))),
    }
    Ok(0)
}

/// Shows how a task stands or ended.
pub(in crate::cli) fn status(task: &Task, json: bool) -> Outcome {
    if json {
        out_json(&TaskShape::from(task))?;
        return Ok(code(task.status));
    }
    let now = Timestamp::now();
    field("task", &task.id);
    field("name", &task.name);
    field("status", task.status);
    field_if("result", task.result.as_ref().map(|result| visible::json(result.as_str())));
    // "failed" says no more than that there is an error.
    field_if("kind", task.error_kind.filter(|kind| *kind != ErrorKind::Failed));
    block_if("error", task.error.as_deref());
    field_if("due", task.due_at.map(moment));
    if is_without_worker(task) {
        field("waits for", "a worker that has this task: there is none now");
    }
    field_if("progress", task.progress.as_ref().map(progress));
    let called = call(&task.name, &task.args, &task.kwargs);
    field("call", cut(&called, terminal_width().saturating_sub(BELOW.len() + 1)));
    field("priority", task.priority);
    field_if("attempts", Some(task.attempt).filter(|attempts| *attempts > 0));
    field_if("worker", task.worker_id.as_ref());
    field("created", moment(task.created_at));
    field_if("started", task.started_at.map(moment));
    field_if("completed", task.completed_at.map(moment));
    let ran = task.started_at.map(|started| span(task.completed_at.unwrap_or(now).since(started)));
    field_if("ran", ran);
    field_if("callback", task.callback.as_deref().map(delivery));
    Ok(code(task.status))
}

/// What an unfinished task waits for, if more can be said than that it waits.
pub(in crate::cli) fn standing(task: &Task) -> Option<String> {
    let due = || task.due_at.map(|at| from_now(at, Timestamp::now())).unwrap_or_default();
    match task.status {
        TaskStatus::Scheduled => Some(format!("it is due {}", due())),
        TaskStatus::Retrying => {
            let error =
                task.error.as_deref().and_then(|error| error.trim_start().lines().next()).map(flat).unwrap_or_default();
            Some(format!("attempt {} failed: {error}; the next is due {}", task.attempt, due()))
        }
        _ if is_without_worker(task) => {
            let name = visible::line(&task.name);
            Some(format!("it waits for a worker that has the task '{name}'{}", unless_one_comes(task)))
        }
        _ => None,
    }
}

/// What a command waits for: a task that is known or not yet accepted.
pub(in crate::cli) fn waiting(id: &TaskId, task: Option<&Task>, left: Duration) -> String {
    let Some(task) = task else {
        return format!("the control plane has not accepted task {id} yet: waiting for that{}", limit(left));
    };
    let state = match task.status {
        TaskStatus::Started => {
            let worker = task.worker_id.as_deref().map(|worker| format!(" on {worker}")).unwrap_or_default();
            let since = task.started_at.map(|at| format!(" since {}", moment(at))).unwrap_or_default();
            format!("runs{worker}{since}")
        }
        TaskStatus::Pending if task.offered => "is queued behind others".to_owned(),
        TaskStatus::Pending => {
            format!("is queued, and no worker has the task '{}' yet{}", task.name, unless_one_comes(task))
        }
        status => standing(task).unwrap_or_else(|| format!("is {status}")),
    };
    let state = state.strip_prefix("it ").unwrap_or(&state);
    format!("task {id} {state}: waiting for its end{}", limit(left))
}

/// How long a wait is at most.
pub(in crate::cli) fn limit(left: Duration) -> String {
    format!(", at most {}", span(left))
}

/// When a task fails whose name no worker has, if none comes that has it.
fn unless_one_comes(task: &Task) -> String {
    let Some(until) = task.unknown_until else { return String::new() };
    format!(
        "; it fails {} unless one comes, and `fastworker list` shows what there is",
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

/// What became of a callback: `delivered to tcp://127.0.0.1:6000 after 1 attempt`.
fn delivery(delivery: &Delivery) -> String {
    let Delivery { address, state, attempts, reason } = delivery;
    let tries = match attempts {
        1 => "1 attempt".to_owned(),
        many => format!("{many} attempts"),
    };
    let reason = reason.as_deref().unwrap_or("for no known reason");
    match state {
        DeliveryState::Pending => format!("pending, to {address}"),
        DeliveryState::Delivered => format!("delivered to {address} after {tries}"),
        DeliveryState::Failed => format!("failed after {tries} to reach {address}: {reason}"),
        DeliveryState::Other(state) => format!("{}, to {address}", state.as_str()),
    }
}

pub(super) fn field(name: &str, value: impl std::fmt::Display) {
    out(visible::line(&format!("{name:<10} {value}")));
}

/// A field of several lines.
fn block_if(name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out(format_args!("{name:<10} {}", visible::indented(value.trim_start_matches(['\n', '\r']), BELOW)));
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
/// What waited shorter did not wait.
const WAITED_MIN: Duration = Duration::from_secs(1);

/// Shows tasks, one in a line if that is wide enough.
pub(in crate::cli) fn tasks(page: &TaskPage, query: &TaskQuery, json: bool) -> Outcome {
    if json {
        out_json(&page.tasks.iter().map(TaskLine::from).collect::<Vec<_>>())?;
    } else if !page.tasks.is_empty() {
        let now = Timestamp::now();
        out_lines(table::lines(COLUMNS, &page.tasks.iter().map(|task| row(task, now)).collect::<Vec<_>>()));
    }
    let shown = page.tasks.len() as u64;
    let least = if page.complete { "" } else { "at least " };
    let is_narrowed = TaskQuery { offset: 0, limit: 0, ..query.clone() } != TaskQuery::default();
    if shown == 0 {
        note(match (page.total, is_narrowed, page.complete) {
            (1.., ..) => "there are no more tasks",
            (0, true, true) => "no task matches",
            (0, true, false) => "no task matches among those that were looked at",
            (0, false, _) => "no tasks",
        });
    } else if page.total > shown || !page.complete {
        let (from, to) = (query.offset + 1, query.offset + shown);
        let next = match page.complete {
            _ if page.total > to => format!("; --offset {to} shows the next"),
            true => String::new(),
            false => "; --status looks at fewer, and finds more".to_owned(),
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
        about(now.since(task.created_at)),
        ran(task, now).map(span).unwrap_or_default(),
        task.worker_id.as_deref().unwrap_or_default().to_owned(),
        task.due_at.map(|at| from_now(at, now)).unwrap_or_default(),
        Some(waited(task, now)).filter(|waited| *waited >= WAITED_MIN).map(about).unwrap_or_default(),
        task.priority.to_string(),
        Some(task.attempt).filter(|attempts| *attempts > 0).map(|attempts| attempts.to_string()).unwrap_or_default(),
        task.error.as_deref().map(flat).unwrap_or_default(),
    ]
}

/// How long it waited for its last attempt, or waits for its first.
fn waited(task: &TaskSummary, now: Timestamp) -> Duration {
    if task.due_at.is_some() {
        return Duration::ZERO;
    }
    task.started_at.or(task.completed_at).unwrap_or(now).since(task.created_at)
}

/// How long its last attempt ran, or runs.
fn ran(task: &TaskSummary, now: Timestamp) -> Option<Duration> {
    let until = match task.status {
        TaskStatus::Started => now,
        _ => task.completed_at?,
    };
    task.started_at.map(|started| until.since(started))
}
