//! The lifecycle of both servers: how they start, report readiness and stop.

use std::{thread, time::Duration};

use clap::Args;

use super::{
    CliError, CommandResult, EXIT_FAILURE, EXIT_INTERRUPTED, render,
    values::{parse_bool, parse_duration},
};
use crate::{shutdown::Signals, subworker::Loading, system};

/// Minimum number of file descriptors of a server: it opens this many before the first connection.
const DESCRIPTORS_MIN: usize = 40;

/// The options for the log of a server, its shutdown and its readiness.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerOptions {
    /// Minimum log level: trace, debug, info, warn or error. Individual targets can have their own level, as
    /// in info,task=debug
    #[arg(long, env = "FASTWORKER_LOG_LEVEL", default_value = "info", value_name = "LEVEL",
          value_parser = render::parse_log_levels)]
    log_level: render::LogLevels,
    /// Log format: text, or json with one object per line
    #[arg(
        long,
        env = "FASTWORKER_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    log_format: render::LogFormat,
    /// Maximum time for running tasks to finish after the first SIGTERM or Ctrl-C
    #[arg(long, env = "FASTWORKER_SHUTDOWN_TIMEOUT", default_value = "30s", value_parser = parse_duration,
          value_name = "DURATION")]
    shutdown_timeout: Duration,
    /// Print one line of JSON when ready, and another when all modules are loaded
    #[arg(long, env = "FASTWORKER_JSON", value_parser = parse_bool)]
    pub(super) json: bool,
}

impl ServerOptions {
    /// Sets up logging and limits, calls `start`, and calls `stop` after the first signal. A later signal ends the
    /// process immediately, after calling what `on_second_signal` returned. `start` must call [`Signals::mark_ready`]
    /// before it reports readiness, since a signal may follow immediately.
    pub(super) fn run<S>(
        &self,
        start: impl FnOnce(&Signals) -> Result<S, CliError>,
        on_second_signal: impl FnOnce(&S) -> Box<dyn Fn() + Send>,
        stop: impl FnOnce(S, Duration),
    ) -> CommandResult {
        crate::memory::configure_malloc_thresholds();
        render::start_logging(&self.log_level, self.log_format);
        let _flush = FlushOnPanic;
        crate::memory::start_malloc_trim_thread();
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "cannot raise the limit on open files");
        }
        system::check_free_fds(DESCRIPTORS_MIN)
            .map_err(|error| CliError::new(EXIT_FAILURE, format!("cannot start: {error}")))?;
        let exit_before_ready = interruption_handler("interrupted before it was ready", self.json);
        let mut signals = Signals::listen(exit_before_ready).map_err(|error| {
            CliError::new(EXIT_FAILURE, format!("cannot listen for signals: {}", system::explain(&error)))
        })?;
        let started = start(&signals)?;
        signals.wait();
        tracing::info!(
            timeout_s = crate::clock::seconds(self.shutdown_timeout),
            "draining; signal again to stop immediately"
        );
        let abort = on_second_signal(&started);
        let report_abort = interruption_handler("stopped by a second signal, without waiting for running tasks", false);
        signals.exit_on_next(move || {
            let code = report_abort();
            abort();
            code
        });
        stop(started, self.shutdown_timeout);
        Ok(0)
    }
}

/// Returns a signal handler that prints `message` as an error, and returns the exit code.
pub(super) fn interruption_handler(message: &'static str, json: bool) -> impl Fn() -> u8 + Send + 'static {
    move || {
        render::print_error(&CliError::new(EXIT_INTERRUPTED, message), json);
        render::flush_log();
        EXIT_INTERRUPTED
    }
}

/// Prints a line of JSON once all modules of a server are loaded. A failure to start waiting is only logged.
pub(super) fn print_when_loaded(worker_id: &str, loading: Loading) {
    let worker_id = worker_id.to_owned();
    let wait = move || {
        if let Some(end) = loading.wait(crate::clock::DURATION_MAX) {
            render::print_all_loaded(&worker_id, end);
        }
    };
    if let Err(error) = thread::Builder::new().name("fw-loaded".into()).spawn(wait) {
        tracing::warn!(%error, "cannot start the thread that reports when all modules are loaded");
    }
}

/// Flushes the log when a panic unwinds through a server.
struct FlushOnPanic;

impl Drop for FlushOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            render::flush_log();
        }
    }
}
