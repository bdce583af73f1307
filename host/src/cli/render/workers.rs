//! How workers and events are shown.

use std::borrow::Cow;

use super::{
    Failure, Outcome, TASK_FAILED,
    json::{self, WorkerJson},
    note, out_document, out_json, out_lines, status_of,
    table::{self, Column, column},
    task_count,
    text::{flat, fold, rounded},
};
use crate::{
    clock::Timestamp,
    escape,
    protocol::{Event, WorkerInfo},
};

/// The note if there are no workers.
const NO_WORKER: &str = "no worker is connected; start one with: fastworker subworker --worker-id sw1 --control-plane-address … --task-modules X.wasm";
/// Indentation of the further lines of an event.
const INDENT: &str = "       ";

const COLUMNS: [Column; 8] = [
    column("WORKER", ""),
    column("STATUS", ""),
    column("SLOTS", "slots "),
    column("BUSY", "busy "),
    column("ATTEMPTS", "attempts "),
    column("TASKS", "tasks "),
    column("LAST SEEN", "last seen "),
    column("ADDRESS", ""),
];

/// Prints a note that no worker is connected.
pub(super) fn note_no_worker() {
    note(NO_WORKER);
}

/// Prints workers in a table.
pub(in crate::cli) fn workers(workers: &[WorkerInfo], json: bool) -> Outcome {
    if json {
        out_json(&workers.iter().map(WorkerJson::from).collect::<Vec<_>>())?;
    } else if !workers.is_empty() {
        let now = Timestamp::now();
        let rows: Vec<_> = workers.iter().map(|worker| row(worker, now)).collect();
        out_lines(table::lines(COLUMNS, &rows));
    }
    if workers.is_empty() {
        note_no_worker();
    }
    Ok(0)
}

fn row(worker: &WorkerInfo, now: Timestamp) -> [String; COLUMNS.len()] {
    let is_default = worker.address == crate::config::BASE_ADDRESS;
    [
        worker.id.clone(),
        status_of(worker).to_owned(),
        worker.slots.to_string(),
        worker.load.to_string(),
        worker.attempts.to_string(),
        task_count(worker).to_string(),
        last_seen(worker, now),
        json::address(worker).filter(|_| !is_default).unwrap_or_default().to_owned(),
    ]
}

/// How long ago a worker was last seen. The control plane's own slots send no heartbeats.
fn last_seen(worker: &WorkerInfo, now: Timestamp) -> String {
    if worker.is_control_plane { String::new() } else { rounded(now.since(worker.last_seen)) + " ago" }
}

/// Prints events, each in one line if it fits.
pub(in crate::cli) fn events(events: Vec<&Event>, json: bool) -> Result<(), Failure> {
    for event in events {
        if json {
            out_document(&serde_json::to_string(event).map_err(|error| Failure::new(TASK_FAILED, error))?);
        } else {
            out_lines(lines(event));
        }
    }
    Ok(())
}

fn lines(event: &Event) -> Vec<String> {
    let at = event.at.civil().strftime("%Y-%m-%d %H:%M:%S%.3f UTC");
    let mut words = vec![format!("{:>5}  {at}  {:<18}", event.number, event.kind.as_str())];
    words.extend(event.name.as_deref().map(escape::line).map(Cow::into_owned));
    words.extend(event.task_id.as_ref().map(|id| escape::line(&id.to_string()).into_owned()));
    let on = if event.task_id.is_some() { "on " } else { "" };
    words.extend(event.worker_id.as_ref().map(|worker| format!("{on}{}", escape::line(worker))));
    if event.attempt > 1 {
        words.push(format!("attempt {}", event.attempt));
    }
    let detail = event.detail.as_deref().and_then(|detail| detail.trim_start().lines().next()).map(flat);
    words.extend(detail.iter().flat_map(|detail| std::iter::once("-").chain(detail.split(' '))).map(str::to_owned));
    fold(words.iter().map(String::as_str), " ", "", INDENT)
}
