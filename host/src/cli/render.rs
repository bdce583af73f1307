//! The output of the command line.
//!
//! Stdout gets results, lists, received callbacks and confirmations; with `--json` also errors, and the state of a
//! server. Stderr gets errors, hints, notes, warnings, progress, reports of tasks, and the log of a server. Text of
//! tasks and clients is escaped: JSON documents and ids only on a terminal, all else always. Colours are used on a
//! terminal only, and never if `NO_COLOR` is set.

use super::{CliError, CommandResult, EXIT_FAILURE, EXIT_NOT_FOUND};

// Formatting and writing.
mod diagnostics;
mod json;
mod output;
mod pretty_json;
mod table;
mod text;
mod time;

// Output by subject; events are in `workers`.
mod bench;
mod build;
mod callbacks;
mod compile;
mod config;
mod grants;
mod inspect;
mod modules;
mod new;
mod progress;
mod result;
mod schedules;
mod server;
mod tasks;
mod workers;

mod log;
mod log_queue;

pub(super) use bench::print_measurements;
pub(super) use build::{BuildProgress, print_built};
pub(super) use callbacks::{print_callback, print_listening};
pub(super) use compile::print_cached;
pub(super) use config::print_configuration;
pub(super) use diagnostics::{STYLES, print_error, print_note, print_warning};
pub(super) use inspect::print_inspection;
pub(super) use log::{LogFormat, LogLevels, flush_log, parse_log_levels, start_logging};
pub(super) use modules::{Verbosity, print_loaded_modules, print_modules};
pub(super) use new::print_created;
pub(super) use output::{print_pretty_json, print_text};
pub(super) use progress::{ProgressIndicator, ProgressView, print_follow_ups, print_report};
pub(super) use result::{print_call_result, print_task_result};
pub(super) use schedules::{ScheduleChange, print_schedule, print_schedules};
pub(super) use server::{print_all_loaded, print_ready};
pub(super) use tasks::{
    format_time_limit, format_wait_note, pending_reason, print_cancelled, print_status, print_submitted, print_tasks,
};
pub(super) use workers::{print_events, print_workers, task_count};
