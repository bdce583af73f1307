//! How schedules are shown.

use super::{
    json::ScheduleJson,
    note, out, out_json, out_lines,
    table::{self, Column, column},
    tasks::{field, field_if},
    text::{call, cut, from_now, rounded, terminal_width, with_distance},
};
use crate::{
    cli::Outcome,
    clock::Timestamp,
    escape,
    protocol::{ScheduleInfo, ScheduleSource},
    task::schedule::When,
};

const COLUMNS: [Column; 10] = [
    column("NAME", ""),
    column("STATUS", ""),
    column("TASK", "task "),
    column("NEXT", "next "),
    column("LAST", "last "),
    column("RUNS", "runs "),
    column("SKIPPED", "skipped ").unless("0"),
    column("WHEN", ""),
    column("NEXT RUN", "next on "),
    column("FROM", "from "),
];

/// What a command has change to a schedule.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum ScheduleChange {
    Added,
    Replaced,
    Unchanged,
    Paused,
    Resumed,
    Removed,
}

impl ScheduleChange {
    fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Removed => "removed",
        }
    }
}

/// Prints all schedules.
pub(in crate::cli) fn schedules(schedules: &[ScheduleInfo], json: bool) -> Outcome {
    if json {
        out_json(&schedules.iter().map(ScheduleJson::of).collect::<Vec<_>>())?;
    } else if !schedules.is_empty() {
        let now = Timestamp::now();
        let rows: Vec<_> = schedules.iter().map(|info| row(info, now)).collect();
        out_lines(table::lines(COLUMNS, &rows));
    }
    if schedules.is_empty() {
        note("no schedules");
    }
    Ok(0)
}

fn row(info: &ScheduleInfo, now: Timestamp) -> [String; COLUMNS.len()] {
    let last = match (info.last_run, info.last_status) {
        (Some(at), Some(status)) => format!("{status} {} ago", rounded(now.since(at))),
        (Some(at), None) => format!("{} ago", rounded(now.since(at))),
        (None, _) => String::new(),
    };
    [
        info.schedule.name.clone(),
        info.status.to_string(),
        info.schedule.task_name.clone(),
        info.next_run.map(|at| from_now(at, now)).unwrap_or_default(),
        last,
        info.runs.to_string(),
        info.skipped.to_string(),
        info.schedule.spec.to_string(),
        next_local_time(info).unwrap_or_default(),
        match &info.source {
            ScheduleSource::Command => String::new(),
            ScheduleSource::Module(module) => format!("module {module}"),
        },
    ]
}

/// The next run in the time zone of the schedule, if it has a cron pattern.
fn next_local_time(info: &ScheduleInfo) -> Option<String> {
    let spec = &info.schedule.spec;
    info.next_run.filter(|_| matches!(spec.when, When::Cron { .. })).map(|at| spec.shown(at))
}

/// Prints one schedule after a change.
pub(in crate::cli) fn schedule(change: ScheduleChange, info: &ScheduleInfo, json: bool) -> Outcome {
    let is_removed = change == ScheduleChange::Removed;
    if json {
        out_json(&if is_removed { ScheduleJson::removed(info) } else { ScheduleJson::of(info) })?;
        return Ok(0);
    }
    let schedule = &info.schedule;
    out(format_args!("{} {}", change.as_str(), escape::line(&schedule.name)));
    if is_removed {
        return Ok(0);
    }
    let called = call(&schedule.task_name, &schedule.args, &schedule.kwargs);
    field("task", cut(&called, terminal_width().saturating_sub(12)));
    field("when", &schedule.spec);
    field("status", info.status);
    field_if("next run", info.next_run.map(|at| with_distance(schedule.spec.shown(at), at)));
    field("runs", info.runs);
    Ok(0)
}
