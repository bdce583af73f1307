//! Output of schedules.

use super::{
    diagnostics::print_note,
    json::ScheduleJson,
    output::{print_escaped, print_json, print_lines},
    table::{self, Column, column},
    tasks::{print_field, print_field_if},
    text::{format_call, terminal_width, truncate},
    time::{coarse_duration, relative_time, with_relative_time},
};
use crate::{
    cli::CommandResult,
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

/// The change of a schedule by a command.
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
pub(in crate::cli) fn print_schedules(schedules: &[ScheduleInfo], json: bool) -> CommandResult {
    if json {
        print_json(&schedules.iter().map(ScheduleJson::of).collect::<Vec<_>>())?;
    } else if !schedules.is_empty() {
        let now = Timestamp::now();
        let rows: Vec<_> = schedules.iter().map(|info| row(info, now)).collect();
        print_lines(table::lines(COLUMNS, &rows));
    }
    if schedules.is_empty() {
        print_note("no schedules");
    }
    Ok(0)
}

fn row(info: &ScheduleInfo, now: Timestamp) -> [String; COLUMNS.len()] {
    let last = match (info.last_run, info.last_status) {
        (Some(at), Some(status)) => format!("{status} {} ago", coarse_duration(now.since(at))),
        (Some(at), None) => format!("{} ago", coarse_duration(now.since(at))),
        (None, _) => String::new(),
    };
    [
        info.schedule.name.clone(),
        info.status.to_string(),
        info.schedule.task_name.clone(),
        info.next_run.map(|at| relative_time(at, now)).unwrap_or_default(),
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
    info.next_run.filter(|_| matches!(spec.when, When::Cron { .. })).map(|at| spec.local_time(at))
}

/// Prints one schedule after a change.
pub(in crate::cli) fn print_schedule(change: ScheduleChange, info: &ScheduleInfo, json: bool) -> CommandResult {
    let is_removed = change == ScheduleChange::Removed;
    if json {
        print_json(&if is_removed { ScheduleJson::removed(info) } else { ScheduleJson::of(info) })?;
        return Ok(0);
    }
    let schedule = &info.schedule;
    print_escaped(format_args!("{} {}", change.as_str(), escape::line(&schedule.name)));
    if is_removed {
        return Ok(0);
    }
    let call = format_call(&schedule.task_name, &schedule.args, &schedule.kwargs);
    print_field("task", truncate(&call, terminal_width().saturating_sub(12)));
    print_field("when", &schedule.spec);
    print_field("status", info.status);
    print_field_if("next run", info.next_run.map(|at| with_relative_time(schedule.spec.local_time(at), at)));
    print_field("runs", info.runs);
    Ok(0)
}
