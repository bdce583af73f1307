//! Tasks, workers and events, as tables and lines.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::{Failure, Outcome, TASK_FAILED, note, out, out_json, status_of, task_count};
use crate::{
    clock::Timestamp,
    protocol::{Event, TaskPage, TaskSummary, WorkerInfo},
    task::TaskStatus,
};

/// How much of an error a table shows, in characters.
const ERROR_SHOWN: usize = 60;

/// Shows tasks, one in a line.
pub(in crate::cli) fn tasks(page: &TaskPage, json: bool) -> Outcome {
    if json {
        out_json(page)?;
        return Ok(0);
    }
    if page.tasks.is_empty() {
        note("no task fits");
        return Ok(0);
    }
    let now = Timestamp::now();
    let mut table =
        table(&["TASK", "NAME", "STATUS", "PRIORITY", "ATTEMPT", "AGE", "WAITED", "RAN", "WORKER", "ERROR"]);
    for task in &page.tasks {
        table.add_row([
            task.task_id.to_string(),
            task.name.to_string(),
            task.status.to_string(),
            task.priority.to_string(),
            task.attempt.to_string(),
            short(now.since(task.created_at)),
            short(waited(task, now)),
            ran(task, now).map(short).unwrap_or_default(),
            task.worker_id.as_deref().unwrap_or_default().to_owned(),
            task.error.as_deref().map(cut).unwrap_or_default(),
        ]);
    }
    out(table.trim_fmt());
    if page.total > page.tasks.len() as u64 || !page.complete {
        let least = if page.complete { "" } else { "at least " };
        let shown = page.tasks.len();
        note(&format!("{shown} of {least}{} tasks; --limit shows more, --status and --name fewer", page.total));
    }
    Ok(0)
}

/// How long it waited for its last attempt, or waits for its first.
fn waited(task: &TaskSummary, now: Timestamp) -> Duration {
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

fn cut(error: &str) -> String {
    match error.char_indices().nth(ERROR_SHOWN) {
        Some((at, _)) => format!("{}…", &error[..at]),
        None => error.to_owned(),
    }
}

/// Shows workers, one in a line.
pub(in crate::cli) fn crew(workers: &[WorkerInfo], json: bool) -> Outcome {
    if json {
        out_json(&workers.iter().map(Member::of).collect::<Vec<_>>())?;
        return Ok(0);
    }
    if workers.is_empty() {
        note(
            "no worker is connected; start one with: fastworker subworker --worker-id sw1 --control-plane-address … --task-modules X.wasm",
        );
        return Ok(0);
    }
    out(worker_table(workers).trim_fmt());
    Ok(0)
}

/// The workers, one in a line.
pub(super) fn worker_table(workers: &[WorkerInfo]) -> Table {
    let now = Timestamp::now();
    let mut table = table(&["WORKER", "STATUS", "SLOTS", "BUSY", "RAN", "TASKS", "LAST SEEN", "ADDRESS"]);
    for worker in workers {
        table.add_row([
            worker.id.clone(),
            status_of(worker).to_owned(),
            worker.slots.to_string(),
            worker.load.to_string(),
            worker.attempts.to_string(),
            task_count(worker).to_string(),
            last_seen(worker, now),
            worker.address.clone(),
        ]);
    }
    table
}

/// How long ago a worker was heard of. The control plane sends itself no signs of life.
fn last_seen(worker: &WorkerInfo, now: Timestamp) -> String {
    if worker.is_control_plane { "-".to_owned() } else { short(now.since(worker.last_seen)) + " ago" }
}

/// A worker without its catalog.
#[derive(Serialize)]
struct Member<'a> {
    id: &'a str,
    status: &'static str,
    is_control_plane: bool,
    slots: u32,
    load: u32,
    attempts: u64,
    tasks: usize,
    modules: Vec<&'a str>,
    registered_at: Timestamp,
    last_seen: Timestamp,
    address: &'a str,
}

impl<'a> Member<'a> {
    fn of(worker: &'a WorkerInfo) -> Self {
        Self {
            id: &worker.id,
            status: status_of(worker),
            is_control_plane: worker.is_control_plane,
            slots: worker.slots,
            load: worker.load,
            attempts: worker.attempts,
            tasks: task_count(worker),
            modules: worker.modules.iter().map(|module| module.name.as_str()).collect(),
            registered_at: worker.registered_at,
            last_seen: worker.last_seen,
            address: &worker.address,
        }
    }
}

/// Shows what happened, one event in a line.
pub(in crate::cli) fn events<'a>(events: impl Iterator<Item = &'a Event>, json: bool) -> Result<(), Failure> {
    for event in events {
        if json {
            out(serde_json::to_string(event).map_err(|error| Failure::new(TASK_FAILED, error))?);
        } else {
            out(line(event));
        }
    }
    Ok(())
}

fn line(event: &Event) -> String {
    let mut words = vec![event.at.to_string(), format!("{:>6} {:<18}", event.number, event.kind.as_str())];
    words.extend(event.name.as_deref().map(str::to_owned));
    words.extend(event.task_id.as_ref().map(ToString::to_string));
    let on = if event.task_id.is_some() { "on " } else { "" };
    words.extend(event.worker_id.as_ref().map(|worker| format!("{on}{worker}")));
    if event.attempt > 1 {
        words.push(format!("attempt {}", event.attempt));
    }
    let detail = event.detail.as_deref().and_then(|detail| detail.lines().next());
    words.extend(detail.map(|detail| format!("- {detail}")));
    words.join(" ")
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

/// A span as short as it is still useful: `3 ms`, `4.2 s`, `5 min`, `3 h`, `12 d`.
fn short(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        60..7_200 => format!("{} min", span.as_secs() / 60),
        7_200..172_800 => format!("{} h", span.as_secs() / 3_600),
        _ => format!("{} d", span.as_secs() / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let shown = [3, 4_200, 65_000, 7_200_000, 172_800_000].map(|millis| short(Duration::from_millis(millis)));
        assert_eq!(shown, ["3 ms", "4.2 s", "1 min", "2 h", "2 d"]);
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ö".repeat(70)), format!("{}…", "ö".repeat(ERROR_SHOWN)));
    }
}
