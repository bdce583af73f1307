//! What both servers share: their options, and how they start, report readiness and stop.

use std::{path::PathBuf, thread, time::Duration};

use clap::{Args, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::{
    Failure, INTERRUPTED, Outcome, TASK_FAILED, complete, render,
    values::{duration, duration_above_zero, number, switch},
};
use crate::{
    shutdown::Signals,
    subworker::{Loading, ModulesConfig},
    system,
};

/// Minimum number of file descriptors of a server: it opens this many before the first connection.
const DESCRIPTORS_MIN: usize = 40;

/// The task modules of a worker, and how they are compiled and reloaded.
#[derive(Args, Debug)]
#[allow(clippy::struct_field_names, reason = "the fields are named like the options")]
pub(super) struct ModuleOptions {
    /// Load these task modules: .wasm files, folders or glob patterns. Takes several values, and can be repeated
    #[arg(long, env = "FASTWORKER_TASK_MODULES", value_name = "PATH", num_args = 1.., value_delimiter = ',',
          add = ArgValueCompleter::new(complete::modules()))]
    task_modules: Vec<String>,
    /// Run at most this many tasks concurrently [default: the number of cores]
    #[arg(long, env = "FASTWORKER_CONCURRENCY", value_name = "SLOTS", value_parser = number::<u16, 1, 1024>)]
    concurrency: Option<u16>,
    /// Folder for compiled modules [default: fastworker/compiled in your cache folder]
    #[arg(long, env = "FASTWORKER_CACHE_DIR", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    cache_dir: Option<PathBuf>,
    /// Maximum memory for compiling one module, in MiB
    #[arg(long, env = "FASTWORKER_COMPILE_MEMORY", default_value = "2048", value_name = "MIB",
          value_parser = number::<u64, 64, { 1 << 20 }>)]
    compile_memory: u64,
    /// Maximum CPU time for compiling one module
    #[arg(long, env = "FASTWORKER_COMPILE_TIMEOUT", default_value = "2m", value_name = "DURATION",
          value_parser = duration_above_zero)]
    compile_timeout: Duration,
    /// Unload a module after its file has been missing for this long
    #[arg(long, env = "FASTWORKER_MODULE_GRACE", default_value = "5s", value_parser = duration, value_name = "DURATION")]
    module_grace: Duration,
    /// Reload a module even if its new version does not accept the arguments of waiting tasks
    #[arg(long, env = "FASTWORKER_FORCE_RELOAD", value_parser = switch)]
    force_reload: bool,
    /// Do not reload modules when their files change
    #[arg(long, env = "FASTWORKER_NO_RELOAD", value_parser = switch)]
    no_reload: bool,
}

impl ModuleOptions {
    /// The configuration of a worker with these options.
    pub(super) fn config(&self) -> ModulesConfig {
        let defaults = ModulesConfig::default();
        ModulesConfig {
            sources: self.task_modules.clone(),
            concurrency: self.concurrency.map_or(defaults.concurrency, usize::from),
            cache_dir: self.cache_dir.clone().or_else(|| defaults.cache_dir.clone()),
            reload: !self.no_reload,
            module_grace: self.module_grace,
            force_reload: self.force_reload,
            compile_memory_max: self.compile_memory << 20,
            compile_timeout: self.compile_timeout,
            ..defaults
        }
    }
}

/// How a server logs, stops and reports that it is ready.
#[derive(Args, Debug)]
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
    #[arg(long, env = "FASTWORKER_SHUTDOWN_TIMEOUT", default_value = "30s", value_parser = duration,
          value_name = "DURATION")]
    shutdown_timeout: Duration,
    /// Print one line of JSON when ready, and another when all modules are loaded
    #[arg(long, env = "FASTWORKER_JSON", value_parser = switch)]
    pub(super) json: bool,
}

impl ServerOptions {
    /// Sets up logging and limits, calls `start`, and calls `stop` after the first signal. A later signal
    /// ends the process at once. `start` must call [`Signals::mark_ready`] before it reports readiness, since a
    /// signal may follow immediately.
    pub(super) fn run<S>(
        &self,
        start: impl FnOnce(&Signals) -> Result<S, Failure>,
        stop_now: impl FnOnce(&S) -> Box<dyn Fn() + Send>,
        stop: impl FnOnce(S, Duration),
    ) -> Outcome {
        crate::memory::configure_malloc_thresholds();
        render::start_logging(&self.log_level, self.log_format);
        let _flush = FlushOnPanic;
        crate::memory::start_malloc_trim_thread();
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "cannot raise the limit on open files");
        }
        system::check_free_fds(DESCRIPTORS_MIN)
            .map_err(|error| Failure::new(TASK_FAILED, format!("cannot start: {error}")))?;
        let on_early_signal = report_interrupted("interrupted before it was ready", self.json);
        let mut signals = Signals::listen(on_early_signal).map_err(|error| {
            Failure::new(TASK_FAILED, format!("cannot listen for signals: {}", system::explain(&error)))
        })?;
        let started = start(&signals)?;
        signals.wait();
        tracing::info!(timeout_s = crate::clock::seconds(self.shutdown_timeout), "draining; signal again to stop now");
        let stop_now = stop_now(&started);
        let report = report_interrupted("stopped by a second signal, without waiting for running tasks", false);
        signals.exit_on_next(move || {
            let code = report();
            stop_now();
            code
        });
        stop(started, self.shutdown_timeout);
        Ok(0)
    }
}

/// Returns a signal handler that prints why the process ends, and returns the exit code.
pub(super) fn report_interrupted(message: &'static str, json: bool) -> impl Fn() -> u8 + Send + 'static {
    move || {
        render::failure(&Failure::new(INTERRUPTED, message), json);
        render::flush();
        INTERRUPTED
    }
}

/// Prints a line of JSON once all modules of a server are loaded. A failure to wait for that is only logged.
pub(super) fn print_when_loaded(worker_id: &str, loading: Loading) {
    let worker_id = worker_id.to_owned();
    let wait = move || {
        if let Some(end) = loading.wait(crate::clock::DURATION_MAX) {
            render::all_loaded(&worker_id, end);
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
            render::flush();
        }
    }
}
