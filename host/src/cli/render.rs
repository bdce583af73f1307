//! Everything that is printed.
//!
//! Results go to the standard output, everything about them to the standard error. Colours are
//! used on a terminal only, and never where `NO_COLOR` is set. A closed pipe ends the output, not
//! with an error.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    path::Path,
    process,
};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use uuid::Uuid;

use self::shapes::TaskShape;
use super::{Failure, NOT_FOUND, Outcome, TASK_FAILED, failure::plain};
use crate::{
    bench::{Must, Plan, Row},
    config::Address,
    protocol::{CallbackMessage, WorkerInfo, WorkerStatus},
    subworker::LoadingEnd,
    task::{ErrorKind, FollowUp, LogLevel, Report, Task, TaskResult, TaskStatus},
    visible,
};

mod log;
mod modules;
mod queue;
mod say;
mod schedules;
mod shapes;
mod table;
mod tasks;
mod text;
mod workers;

pub(super) use log::{Levels, LogFormat, flush, levels, log};
pub(super) use modules::{Telling, loaded, modules};
pub(super) use say::{STYLES, failure, note, warning};
pub(super) use schedules::{Done, schedule, schedules};
pub(super) use tasks::{cancelled, limit, standing, status, submitted, tasks, waiting};
pub(super) use workers::{events, workers};

fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints a line to the standard output, or several. Whatever others wrote in it is made visible.
fn out(line: impl Display) {
    write_out(&visible::lines(&line.to_string()));
}

/// Prints a JSON document to the standard output: to a program as it is, on a terminal with escapes
/// for what cannot be seen, which mean the same.
fn out_document(document: &str) {
    if io::stdout().is_terminal() { write_out(&visible::json(document)) } else { write_out(document) }
}

/// Prints an id or a name for programs as it is, and on a terminal so that all of it can be seen.
fn out_name(name: &str) {
    if io::stdout().is_terminal() { write_out(&visible::line(name)) } else { write_out(name) }
}

fn write_out(text: &str) {
    if log::print(text) {
        return;
    }
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => {}
        // Whoever read this has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            let failure = Failure::new(TASK_FAILED, format!("cannot write the output: {}", plain(&error)));
            say::failure(&failure.hint("check where the output goes: the disk may be full"), false);
            process::exit(TASK_FAILED.into());
        }
    }
}

fn out_lines(lines: Vec<String>) {
    lines.into_iter().for_each(out);
}

/// Prints a line to the standard error, or several. Whatever others wrote in it is made visible.
fn err(line: impl Display) {
    write_err(&visible::lines(&line.to_string()));
}

/// Prints what has been made visible already, and may have colours of ours.
fn write_err(text: &str) {
    if !log::add(text) {
        // There is nobody left to tell when this fails.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

fn out_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(TASK_FAILED, format!("cannot write JSON: {error}")))?;
    out_document(&text);
    Ok(())
}

/// Says what could be done next, to a person at a terminal and to nobody else.
fn hint(next: impl Display) {
    if io::stdout().is_terminal() {
        say::hint(next);
    }
}

/// Prints a text that stands for itself, such as a script.
pub(super) fn text(text: &str) {
    out(text.trim_end_matches('\n'));
}

/// Says that a server is ready, in one line of JSON. It serves on if nobody reads that.
pub(super) fn ready(
    worker_id: &str,
    address: &Address,
    gui: Option<&str>,
    health: Option<&str>,
    cluster_id: Option<Uuid>,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Ready<'a> {
        event: &'static str,
        worker_id: &'a str,
        address: &'a Address,
        #[serde(skip_serializing_if = "Option::is_none")]
        gui: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        health: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cluster_id: Option<Uuid>,
        pid: u32,
    }
    let ready = Ready { event: "ready", worker_id, address, gui, health, cluster_id, pid: process::id() };
    let text = serde_json::to_string(&ready).map_err(|error| Failure::new(TASK_FAILED, error))?;
    if !log::print(&text) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }
    Ok(())
}

/// Says that the modules of a server are loaded or refused, in one line of JSON.
pub(super) fn loaded_all(worker_id: &str, end: LoadingEnd) {
    #[derive(Serialize)]
    struct Loaded<'a> {
        event: &'static str,
        worker_id: &'a str,
        modules: usize,
        broken: usize,
        tasks: usize,
    }
    let LoadingEnd { modules, broken, tasks } = end;
    let loaded = Loaded { event: "loaded", worker_id, modules, broken, tasks };
    if let Ok(text) = serde_json::to_string(&loaded) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }
}

/// Says what a new crate is and what comes next.
/// cargo builds it to `target`, a path from its folder.
pub(super) fn created(name: &str, folder: &Path, target: &Path, json: bool) -> Outcome {
    #[derive(Serialize)]
    struct Created<'a> {
        name: &'a str,
        path: &'a Path,
        module: &'a str,
    }
    let module = format!("{}/wasm32-wasip2/release/{}.wasm", target.display(), name.replace('-', "_"));
    if json {
        out_json(&Created { name, path: folder, module: &module })?;
        return Ok(0);
    }
    out(format_args!("made the crate {name} in {}, with the tasks greet and mean. Next:\n", folder.display()));
    out(format_args!("    cd {}", folder.display()));
    out("    cargo test");
    out("    cargo build --release --target wasm32-wasip2");
    out(format_args!("    fastworker dev {module} greet Ada"));
    Ok(0)
}

/// Shows how a task ended, of which more may be `known`. The exit code tells success from failure,
/// and a task that failed from one that nobody has.
pub(super) fn result_of(result: &TaskResult, known: Option<&Task>, json: bool) -> Outcome {
    if json {
        // Its id may have been taken anew since.
        match known.filter(|task| task.status == result.status) {
            Some(task) => out_json(&TaskShape::from(task))?,
            None => out_json(&TaskShape::from(result))?,
        }
        return Ok(if result.error_kind == Some(ErrorKind::NotFound) { NOT_FOUND } else { code(result.status) });
    }
    ended("fastworker list", result)
}

/// The same of a call of `name` that ran here, where `list` is the command that lists that task.
pub(super) fn result_by(list: &str, name: &str, result: &TaskResult, json: bool) -> Outcome {
    if json {
        out_json(&TaskShape::of_call(name, result))?;
        return Ok(code(result.status));
    }
    ended(list, result)
}

fn ended(list: &str, result: &TaskResult) -> Outcome {
    if result.error_kind == Some(ErrorKind::NotFound) {
        let error = result.error.as_deref().unwrap_or("no worker has this task");
        let all = format!("{list} shows every task; with --wait-for-worker a task waits for its worker");
        return Err(match error.split_once(": did you mean ") {
            Some((what, near)) => Failure::new(NOT_FOUND, what).hint(format!("did you mean {near} {all}")),
            None => Failure::new(NOT_FOUND, error).hint(all),
        });
    }
    match result.status {
        TaskStatus::Success => {
            out_document(result.result.as_ref().map_or("null", |json| json.as_str()));
            Ok(0)
        }
        status => {
            // It would say once more what the verb says.
            let kind = result.error_kind.filter(|kind| *kind != ErrorKind::Failed);
            let kind = kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
            let worker = result.worker_id.as_ref().map(|id| format!(" on {}", visible::line(id))).unwrap_or_default();
            let attempts =
                if result.attempts > 1 { format!(" after {} attempts", result.attempts) } else { String::new() };
            let verb = if status == TaskStatus::Cancelled { "was cancelled" } else { "failed" };
            let error = result.error.as_deref().unwrap_or_default().trim_start_matches(['\n', '\r']);
            let why = if status == TaskStatus::Cancelled { String::new() } else { format!("\n{error}") };
            let failure =
                Failure::new(TASK_FAILED, format!("task {} {verb}{kind}{worker}{attempts}{why}", result.task_id));
            Err(match result.error_kind {
                Some(ErrorKind::BadArguments) => failure.hint(hint_of_misfit(list, error)),
                _ => failure,
            })
        }
    }
}

/// What to do about wrong arguments. A value that reads as JSON is not taken as text on a command line.
fn hint_of_misfit(list: &str, error: &str) -> String {
    let split = error.split_once(": expected string, found ");
    let is_argument = |path: &str| matches!(path.split_once(['[', '.']), Some(("args" | "kwargs", rest)) if !rest.contains(['.', '[']));
    let quoted = split.filter(|(path, _)| is_argument(path)).and_then(|(path, found)| {
        let (kind, value) = found.split_once(' ').unwrap_or((found, found));
        let is_scalar = matches!(kind, "number" | "boolean" | "null") && !value.ends_with('…');
        is_scalar.then(|| match path.strip_prefix("kwargs.") {
            Some(name) => format!("'{name}=\"{value}\"'"),
            None => format!("'\"{value}\"'"),
        })
    });
    match quoted {
        Some(quoted) => format!("quote it twice to pass text: {quoted}"),
        None => format!("{list} shows what each task takes, and {list} --schema NAME all of it"),
    }
}

fn code(status: TaskStatus) -> u8 {
    match status {
        TaskStatus::Failure | TaskStatus::Cancelled => TASK_FAILED,
        _ => 0,
    }
}

/// Says where callbacks are listened for.
pub(super) fn listening(address: &str) {
    err(format_args!("listening at {address}"));
}

/// Shows a callback that came in: in a line of JSON, or for people.
pub(super) fn callback(message: &CallbackMessage, json: bool) -> Result<(), Failure> {
    if json {
        out_document(&serde_json::to_string(message).map_err(|error| Failure::new(TASK_FAILED, error))?);
        return Ok(());
    }
    let CallbackMessage { task_id, status, result, error, callback_data, .. } = message;
    let end = match (result, error) {
        (Some(result), _) => format!(" {}", visible::line(result.as_str())),
        (None, Some(error)) => format!(" {}", visible::indented(error.trim_start_matches(['\n', '\r']), "    ")),
        (None, None) => String::new(),
    };
    let data = callback_data.as_ref().map(|data| format!("  {}", visible::line(data.as_str()))).unwrap_or_default();
    let id = task_id.to_string();
    out(format_args!("{} {status}{end}{data}", visible::line(&id)));
    Ok(())
}

/// Shows a document, spread over lines, which changes nothing else of it.
pub(super) fn document(document: &impl Serialize) -> Outcome {
    let written = serde_json::to_string(document);
    let text = written.map_err(|error| Failure::new(TASK_FAILED, format!("cannot write JSON: {error}")))?;
    out_document(&text::spread(&text));
    Ok(0)
}

fn status_of(worker: &WorkerInfo) -> &'static str {
    match worker.status {
        WorkerStatus::Active => "active",
        WorkerStatus::Draining => "draining",
        WorkerStatus::Lost => "lost",
    }
}

/// How many tasks a worker has loaded.
pub(super) fn task_count(worker: &WorkerInfo) -> usize {
    worker.modules.iter().map(|module| module.tasks.len()).sum()
}

/// Shows a line that a task logged, or how far it is.
pub(super) fn report(report: &Report) {
    match report {
        Report::Log { level, message } => log_line(*level, message),
        Report::Progress(progress) if progress.total > 0 => {
            err(format_args!("{}/{} {}", progress.done, progress.total, text::flat(&progress.message)));
        }
        Report::Progress(progress) => err(format_args!("{} {}", progress.done, text::flat(&progress.message))),
    }
}

fn log_line(level: LogLevel, message: &str) {
    err(format_args!("{level:<5} {}", visible::indented(message, "      ")));
}

/// Says what a task would have submitted.
pub(super) fn follow_ups(follow_ups: &[FollowUp]) {
    for task in follow_ups {
        err(format_args!("follow-up {}", text::call(&task.name, &task.args, &task.kwargs)));
    }
}

/// Shows what a running task says: a bar on a terminal, lines elsewhere.
pub(super) struct Watch(Option<ProgressBar>);

impl Watch {
    /// Shows nothing yet.
    pub(super) fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        // Nothing is known yet, so there is nothing to draw.
        let bar = ProgressBar::new_spinner();
        style(&bar, "{wide_msg}");
        Self(Some(bar))
    }

    /// Shows what was reported.
    pub(super) fn show(&mut self, reports: &[Report]) {
        let Some(bar) = &self.0 else { return reports.iter().for_each(report) };
        for told in reports {
            match told {
                Report::Log { level, message } => bar.suspend(|| log_line(*level, message)),
                Report::Progress(progress) => {
                    style(bar, if progress.total > 0 { "{bar:30} {pos}/{len} {wide_msg}" } else { "{pos} {wide_msg}" });
                    bar.set_length(progress.total);
                    bar.set_position(progress.done);
                    bar.set_message(text::flat(&progress.message));
                }
            }
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// How far a long command is: a bar on a terminal, nothing elsewhere.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Shows nothing yet.
    pub(super) fn new() -> Self {
        let bar = if io::stderr().is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
        style(&bar, "{bar:30} {pos}/{len} {wide_msg}");
        Self(bar)
    }

    /// Shows what is done now.
    pub(super) fn show(&self, what: &str, done: usize, all: usize) {
        self.0.set_length(all as u64);
        self.0.set_position(done as u64);
        self.0.set_message(what.to_owned());
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Shows what was measured.
pub(super) fn bench(rows: &[Row], plan: &Plan, json: bool) -> Outcome {
    if json {
        #[derive(Serialize)]
        struct Measured<'a> {
            version: &'static str,
            cores: usize,
            format: crate::task::SerializationFormat,
            slots: usize,
            rounds: usize,
            rows: &'a [Row],
        }
        out_json(&Measured {
            version: env!("CARGO_PKG_VERSION"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            format: plan.format,
            slots: plan.slots,
            rounds: plan.rounds,
            rows,
        })?;
        return Ok(0);
    }
    let mut table = Table::new();
    // Of a cluster elsewhere there is nothing to compare with.
    let is_compared = rows.iter().any(|row| row.must.is_some() || row.ratio.is_some());
    let header = ["CASE", "MEASURED", "RATIO", "MUST", ""];
    table.load_style(presets::NOTHING).set_header(&header[..if is_compared { 5 } else { 2 }]);
    for row in rows {
        let digits = usize::from(row.value < 100.0);
        let ratio = row.ratio.zip(row.against.as_ref()).map(|(ratio, against)| format!("{ratio:.2} x {against}"));
        let must = row.must.map(|must| match must {
            Must::AtMost(bound) => format!("<= {bound}"),
            Must::AtLeast(bound) => format!(">= {bound}"),
        });
        let holds = row.holds().map(|holds| if holds { "ok" } else { "short" });
        let cells = [
            row.case.clone(),
            format!("{:.digits$} {}", row.value, row.unit.replace("us", "µs")),
            ratio.unwrap_or_default(),
            must.unwrap_or_default(),
            holds.unwrap_or_default().to_owned(),
        ];
        table.add_row(cells.into_iter().take(if is_compared { 5 } else { 2 }));
    }
    out(table.trim_fmt());
    Ok(0)
}
