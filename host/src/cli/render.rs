//! Everything that the command line prints.
//!
//! Results go to the standard output, everything else to the standard error. Colours are used on a
//! terminal only, and never if `NO_COLOR` is set. A closed pipe ends the program without an error.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    path::Path,
    process,
};

use serde::Serialize;
use uuid::Uuid;

use super::{Failure, NOT_FOUND, Outcome, TASK_FAILED, failure::os_message};
use crate::{
    config::Address,
    escape,
    protocol::{CallbackMessage, WorkerInfo},
    subworker::LoadSummary,
};

mod diagnostics;
mod json;
mod table;
mod text;

mod bench;
mod modules;
mod progress;
mod result;
mod schedules;
mod tasks;
mod workers;

mod log;
mod log_queue;

pub(super) use bench::bench;
pub(super) use diagnostics::{STYLES, failure, note, warning};
pub(super) use log::{LogFormat, LogLevels, flush, parse_log_levels, start_logging};
pub(super) use modules::{Verbosity, loaded, modules};
pub(super) use progress::{ProgressIndicator, ProgressView, follow_ups, report};
pub(super) use result::{call_result, task_result};
pub(super) use schedules::{ScheduleChange, schedule, schedules};
pub(super) use tasks::{cancelled, pending_reason, status, submitted, tasks, time_limit, wait_notice};
pub(super) use workers::{events, workers};

fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints text to the standard output. Control characters in it are escaped.
fn out(line: impl Display) {
    write_out(&escape::lines(&line.to_string()));
}

/// Prints a JSON document to the standard output: unchanged if that is a file or a pipe; on a terminal, invisible
/// characters are written as equivalent JSON escapes.
fn out_document(document: &str) {
    if io::stdout().is_terminal() { write_out(&escape::json(document)) } else { write_out(document) }
}

/// Prints an id or a name: unchanged to a file or a pipe; on a terminal, invisible characters are escaped.
fn out_name(name: &str) {
    if io::stdout().is_terminal() { write_out(&escape::line(name)) } else { write_out(name) }
}

fn write_out(text: &str) {
    if log::print(text) {
        return;
    }
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => {}
        // The reader has closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            let failure = Failure::new(TASK_FAILED, format!("cannot write the output: {}", os_message(&error)));
            diagnostics::failure(&failure.hint("check the destination of the output: the disk may be full"), false);
            process::exit(TASK_FAILED.into());
        }
    }
}

fn out_lines(lines: Vec<String>) {
    lines.into_iter().for_each(out);
}

/// Prints text to the standard error. Control characters in it are escaped.
fn err(line: impl Display) {
    write_err(&escape::lines(&line.to_string()));
}

/// Prints text that is already escaped, and may contain this program's colours.
fn write_err(text: &str) {
    if !log::add(text) {
        // There is nowhere left to report a failure.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

fn out_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(TASK_FAILED, format!("cannot write JSON: {error}")))?;
    out_document(&text);
    Ok(())
}

/// Prints a hint if the standard output is a terminal.
fn hint(next: impl Display) {
    if io::stdout().is_terminal() {
        diagnostics::hint(next);
    }
}

/// Prints a text such as a script, without trailing line breaks.
pub(super) fn text(text: &str) {
    out(text.trim_end_matches('\n'));
}

/// Prints that a server is ready, as one line of JSON. Failing to write it does not stop the server.
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

/// Prints that all modules of a server have been loaded or refused, as one line of JSON.
pub(super) fn all_loaded(worker_id: &str, end: LoadSummary) {
    #[derive(Serialize)]
    struct Loaded<'a> {
        event: &'static str,
        worker_id: &'a str,
        modules: usize,
        broken: usize,
        tasks: usize,
    }
    let LoadSummary { modules, broken, tasks } = end;
    let loaded = Loaded { event: "loaded", worker_id, modules, broken, tasks };
    if let Ok(text) = serde_json::to_string(&loaded) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }
}

/// Prints where a new crate is, and the next steps. `target` is cargo's target folder, relative to the crate.
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
    out(format_args!("created the crate {name} in {}, with the tasks greet and mean. Next steps:\n", folder.display()));
    out(format_args!("    cd {}", folder.display()));
    out("    cargo test");
    out("    cargo build --release --target wasm32-wasip2");
    out(format_args!("    fastworker dev {module} greet Ada"));
    Ok(0)
}

/// Prints the address on which callbacks are received.
pub(super) fn listening(address: &str) {
    err(format_args!("listening on {address}"));
}

/// Prints a received callback, as one line of JSON or as text.
pub(super) fn callback(message: &CallbackMessage, json: bool) -> Result<(), Failure> {
    if json {
        out_document(&serde_json::to_string(message).map_err(|error| Failure::new(TASK_FAILED, error))?);
        return Ok(());
    }
    let CallbackMessage { task_id, status, result, error, callback_data, .. } = message;
    let end = match (result, error) {
        (Some(result), _) => format!(" {}", escape::line(result.as_str())),
        (None, Some(error)) => format!(" {}", escape::indented(error.trim_start_matches(['\n', '\r']), "    ")),
        (None, None) => String::new(),
    };
    let data = callback_data.as_ref().map(|data| format!("  {}", escape::line(data.as_str()))).unwrap_or_default();
    let id = task_id.to_string();
    out(format_args!("{} {status}{end}{data}", escape::line(&id)));
    Ok(())
}

/// Prints a document with line breaks and indentation, and otherwise unchanged.
pub(super) fn document(document: &impl Serialize) -> Outcome {
    let text = serde_json::to_string(document)
        .map_err(|error| Failure::new(TASK_FAILED, format!("cannot write JSON: {error}")))?;
    out_document(&text::pretty_json(&text));
    Ok(0)
}

fn status_of(worker: &WorkerInfo) -> &str {
    worker.status.as_str()
}

/// The number of tasks that a worker has loaded.
pub(super) fn task_count(worker: &WorkerInfo) -> usize {
    worker.modules.iter().map(|module| module.tasks.len()).sum()
}
