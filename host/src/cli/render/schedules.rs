//! How schedules are shown.

use std::time::Duration;

use comfy_table::{Table, presets};

use super::{Failure, TASK_FAILED, field, field_if, out, out_json};
use crate::{
    cli::Outcome,
    clock::Timestamp,
    protocol::{ScheduleInfo, ScheduleSource},
};

/// Shows all schedules.
pub(in crate::cli) fn schedules(schedules: &[ScheduleInfo], json: bool) -> Outcome {
    if json {
        out_json(&schedules)?;
        return Ok(0);
    }
    if schedules.is_empty() {
        out("no schedules");
        return Ok(0);
    }
    let now = Timestamp::now();
    let mut table = Table::new();
    let header = ["NAME", "STATUS", "TASK", "WHEN", "NEXT RUN", "RUNS", "SKIPPED", "LAST", "FROM"];
    table.load_style(presets::NOTHING).set_header(header);
    for info in schedules {
        let last = match (info.last_run, info.last_status) {
            (Some(at), Some(status)) => format!("{status} {}", ago(now.since(at))),
            (Some(at), None) => ago(now.since(at)),
            (None, _) => "-".to_owned(),
        };
        table.add_row([
            info.schedule.name.clone(),
            info.status.to_string(),
            info.schedule.task_name.clone(),
            info.schedule.spec.to_string(),
            next(info, now).unwrap_or_else(|| "-".to_owned()),
            info.runs.to_string(),
            info.skipped.to_string(),
            last,
            source(info),
        ]);
    }
    out(table.trim_fmt());
    Ok(0)
}

/// Shows one schedule, of which this was asked.
pub(in crate::cli) fn schedule(done: &str, info: &ScheduleInfo, json: bool) -> Outcome {
    if json {
        out_json(info)?;
        return Ok(0);
    }
    let schedule = &info.schedule;
    out(format_args!("{done} {}", schedule.name));
    field("task", format_args!("{} {} {}", schedule.task_name, schedule.args, schedule.kwargs));
    field("when", &schedule.spec);
    field("status", info.status);
    field_if("next run", next(info, Timestamp::now()));
    field("runs", info.runs);
    Ok(0)
}

/// Shows a schedule that is no more.
pub(in crate::cli) fn removed(info: &ScheduleInfo, json: bool) -> Outcome {
    if json {
        let mut shown = serde_json::to_value(info).map_err(|error| Failure::new(TASK_FAILED, error))?;
        (shown["status"], shown["next_run"]) = ("removed".into(), serde_json::Value::Null);
        out_json(&shown)?;
        return Ok(0);
    }
    out(format_args!("removed {}", info.schedule.name));
    Ok(0)
}

/// When it is due next, by its own clock and from now.
fn next(info: &ScheduleInfo, now: Timestamp) -> Option<String> {
    let at = info.next_run?;
    Some(format!("{} (in {})", info.schedule.spec.shown(at), about(at.since(now))))
}

fn source(info: &ScheduleInfo) -> String {
    match &info.source {
        ScheduleSource::Command => "command".to_owned(),
        ScheduleSource::Module(module) => format!("module {module}"),
    }
}

fn ago(span: Duration) -> String {
    format!("{} ago", about(span))
}

/// A span as people say it, in its largest unit.
fn about(span: Duration) -> String {
    match span.as_secs() {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7_200 => format!("{} min", secs / 60),
        secs @ 7_200..172_800 => format!("{} h", secs / 3_600),
        secs => format!("{} days", secs / 86_400),
    }
}
