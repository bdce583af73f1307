//! The command line: one file for each command.
//!
//! Each option is a flag, else a variable `FASTWORKER_…`, else a default. [`render`] is the only
//! file that prints.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use crate::{
    client::Client,
    config::Address,
    json::Json,
    shutdown::{Signals, StopSignals},
    subworker::{Loading, ModulesConfig},
    system,
    task::{SerializationFormat, TaskId, TaskPriority},
};

mod bench;
mod call;
mod cancel;
mod complete;
mod completions;
mod control_plane;
mod dev;
mod events;
mod failure;
mod list;
mod listen;
mod man;
mod new;
mod render;
mod result;
mod schedule;
mod status;
mod submit;
mod subworker;
mod tasks;
mod usage;
mod values;
mod waiting;
mod workers;

use self::{
    failure::Failure,
    values::{
        Pairs, array, base_address, document, json_array, named, number, object, pairs, span, span_above_zero, switch,
    },
};

/// The task failed.
const TASK_FAILED: u8 = 1;
/// The command was used in a way that cannot work.
const WRONG_USAGE: u8 = 2;
/// Nobody answered where the control plane should be, or it is stopping.
const UNREACHABLE: u8 = 3;
/// The task has not ended, or not within the wait.
const TIMED_OUT: u8 = 4;
/// There is no such task, schedule or file.
const NOT_FOUND: u8 = 5;
/// Stopped by a signal.
const INTERRUPTED: u8 = 130;

/// A task queue without a broker, whose tasks are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "fastworker", version, propagate_version = true, max_term_width = 100, styles = render::STYLES,
          after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Every option can also be set by the variable shown with it. The option wins over the variable, and an empty \
variable counts as unset. Options that exclude each other also do so when set by variables.

Write a SPAN as 250ms, 30s, 5m, 1h 30m or 2d; a bare number is seconds. The longest is ten years.

With --json an error is also printed to the standard output, as an object with error, hint, code and, where there \
is one, task_id.

Exit codes: 0 done, 1 the task failed or was cancelled, 2 wrong usage, 3 control plane unreachable or stopping, \
4 the task has not ended, 5 not found, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a control plane, which hands tasks to workers and keeps their results
    ControlPlane(control_plane::ControlPlane),
    /// Start a subworker, which runs tasks for a control plane
    Subworker(subworker::Subworker),
    /// Submit a task and wait for its result
    Submit(submit::SubmitTask),
    /// Print a task's result
    Result(result::ResultOf),
    /// Show a task's status
    Status(status::Status),
    /// Cancel a task, waiting or running
    Cancel(cancel::Cancel),
    /// List recent tasks
    Tasks(tasks::Tasks),
    /// List the workers
    Workers(workers::Workers),
    /// Show what happened to tasks, workers and modules
    Events(events::ShowEvents),
    /// Manage schedules, which submit tasks at intervals or at set times
    Schedule(schedule::Schedule),
    /// List the tasks that can be submitted, or those in module files
    List(list::List),
    /// Print callbacks as they arrive
    Listen(listen::Listen),
    /// Create a Rust crate with tasks
    New(new::New),
    /// Run one task of a module in this process, without a control plane
    Dev(dev::Dev),
    /// Measure latency and throughput on this machine
    Bench(bench::Bench),
    /// Print a shell's completion script
    Completions(completions::Completions),
    /// Print a manual page, or write them all
    Man(man::Man),
}

/// The files that every command may need to have open: without them tokio panics.
const DESCRIPTORS_MIN: usize = 12;
/// The files that a server opens before the first connection.
const SERVER_DESCRIPTORS_MIN: usize = 40;

/// How a command ends.
type Outcome = Result<u8, Failure>;

/// Runs the command line. The exit code says how it ended.
pub fn main() -> ExitCode {
    if complete::answer_shell() {
        return ExitCode::SUCCESS;
    }
    crate::memory::spare_address_space();
    let json = usage::wants_json();
    let cli = match usage::read() {
        Ok(cli) => cli,
        Err(usage::Stop::Shown(shown)) => {
            // Whoever does not read it needs no word of that.
            drop(shown.print());
            return ExitCode::from(u8::try_from(shown.exit_code()).unwrap_or(WRONG_USAGE));
        }
        Err(usage::Stop::Wrong(failure)) => {
            render::failure(&failure, json);
            return ExitCode::from(failure.code);
        }
    };
    for note in usage::notes() {
        render::note(&note);
    }
    if let Err(error) = system::check_descriptors(DESCRIPTORS_MIN) {
        let failure = Failure::new(TASK_FAILED, format!("cannot start: {error}"));
        render::failure(&failure, json);
        return ExitCode::from(failure.code);
    }
    let outcome = match cli.command {
        Command::ControlPlane(command) => command.run(),
        Command::Subworker(command) => command.run(),
        Command::Submit(command) => command.run(),
        Command::Result(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Cancel(command) => command.run(),
        Command::Tasks(command) => command.run(),
        Command::Workers(command) => command.run(),
        Command::Events(command) => command.run(),
        Command::Schedule(command) => command.run(),
        Command::List(command) => command.run(),
        Command::Listen(command) => command.run(),
        Command::New(command) => command.run(),
        Command::Dev(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    let code = outcome.unwrap_or_else(|failure| {
        render::failure(&failure, json);
        failure.code
    });
    render::flush();
    ExitCode::from(code)
}

/// The variables that say where the control plane is.
const DISCOVERY_VARIABLE: &str = "FASTWORKER_DISCOVERY_ADDRESS";
const ADDRESS_VARIABLE: &str = "FASTWORKER_CONTROL_PLANE_ADDRESS";

/// Where the control plane is and how to talk to it: the options of every client command.
#[derive(Args, Debug)]
struct Connection {
    /// Find the control plane by its announcements at this address
    #[arg(long, env = DISCOVERY_VARIABLE, default_value = crate::config::DISCOVERY_ADDRESS, value_parser = named::<Address>,
          value_name = "ADDRESS")]
    discovery_address: Address,
    /// Go to the control plane at this base address, and to no other
    #[arg(long, env = ADDRESS_VARIABLE, value_parser = base_address, value_name = "ADDRESS")]
    control_plane_address: Option<Address>,
    /// Wait no longer than this
    #[arg(long, env = "FASTWORKER_TIMEOUT", default_value = "30s", value_parser = span_above_zero, value_name = "SPAN")]
    timeout: Duration,
    /// Write messages as json or postcard
    #[arg(long, env = "FASTWORKER_SERIALIZATION_FORMAT", default_value = "json", value_name = "FORMAT",
          value_parser = named::<SerializationFormat>, add = ArgValueCandidates::new(complete::formats))]
    serialization_format: SerializationFormat,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = switch)]
    json: bool,
}

impl Connection {
    fn client(&self) -> Client {
        let builder = Client::builder()
            .discovery_address(self.discovery_address.clone())
            .serialization_format(self.serialization_format)
            .timeout(self.timeout);
        match &self.control_plane_address {
            Some(address) => builder.control_plane_address(address.clone()).build(),
            None => builder.build(),
        }
    }

    /// Runs `work` with a started client. A signal ends it.
    fn run(&self, work: impl AsyncFnOnce(&Client) -> Outcome) -> Outcome {
        let client = self.client();
        block_on(async {
            let given = self.control_plane_address.as_ref();
            waiting::start(&client, given, &self.discovery_address, self.timeout).await?;
            let outcome = work(&client).await;
            client.stop();
            outcome
        })
    }
}

/// Runs async work on this thread, until it is done or a signal asks to stop.
fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    let cannot = |error| Failure::new(TASK_FAILED, format!("cannot start: {}", system::explain(&error)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    runtime.block_on(async {
        let mut stops = StopSignals::listen().map_err(cannot)?;
        tokio::select! {
            outcome = work => outcome,
            () = stops.next() => Err(Failure::interrupted()),
        }
    })
}

/// Tells a person, and a program that reads JSON, that a signal ends the process at once. Gives the exit code.
fn leave(words: &'static str, json: bool) -> impl Fn() -> u8 + Send + 'static {
    move || {
        render::failure(&Failure::new(INTERRUPTED, words), json);
        render::flush();
        INTERRUPTED
    }
}

/// The modules of a worker.
#[derive(Args, Debug)]
#[allow(clippy::struct_field_names, reason = "the fields are named like the options")]
struct Modules {
    /// Load these task modules: .wasm files, folders or patterns. Takes several, and can be repeated
    #[arg(long, env = "FASTWORKER_TASK_MODULES", value_name = "PATH", num_args = 1.., value_delimiter = ',',
          add = ArgValueCompleter::new(complete::modules()))]
    task_modules: Vec<String>,
    /// Run this many tasks at a time [default: the number of cores]
    #[arg(long, env = "FASTWORKER_CONCURRENCY", value_name = "SLOTS", value_parser = number::<u16, 1, 1024>)]
    concurrency: Option<u16>,
    /// Keep compiled modules here [default: fastworker/compiled in your cache folder]
    #[arg(long, env = "FASTWORKER_CACHE_DIR", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    cache_dir: Option<std::path::PathBuf>,
    /// Let compiling a module take this much memory, in MiB
    #[arg(long, env = "FASTWORKER_COMPILE_MEMORY", default_value = "2048", value_name = "MIB",
          value_parser = number::<u64, 64, { 1 << 20 }>)]
    compile_memory: u64,
    /// Let compiling a module take this much processor time
    #[arg(long, env = "FASTWORKER_COMPILE_TIMEOUT", default_value = "2m", value_name = "SPAN", value_parser = span_above_zero)]
    compile_timeout: Duration,
    /// Drop a module once its file has been gone for this long
    #[arg(long, env = "FASTWORKER_MODULE_GRACE", default_value = "5s", value_parser = span, value_name = "SPAN")]
    module_grace: Duration,
    /// Reload a module even if its new version does not take the arguments of waiting tasks
    #[arg(long, env = "FASTWORKER_FORCE_RELOAD", value_parser = switch)]
    force_reload: bool,
    /// Do not reload modules when their files change
    #[arg(long, env = "FASTWORKER_NO_RELOAD", value_parser = switch)]
    no_reload: bool,
}

impl Modules {
    fn config(&self) -> ModulesConfig {
        let usual = ModulesConfig::default();
        ModulesConfig {
            sources: self.task_modules.clone(),
            concurrency: self.concurrency.map_or(usual.concurrency, usize::from),
            cache_dir: self.cache_dir.clone().or_else(|| usual.cache_dir.clone()),
            reload: !self.no_reload,
            module_grace: self.module_grace,
            force_reload: self.force_reload,
            compile_memory_max: self.compile_memory << 20,
            compile_timeout: self.compile_timeout,
            ..usual
        }
    }
}

/// How a server runs.
#[derive(Args, Debug)]
struct Serving {
    /// Log from this level on: trace, debug, info, warn or error. Parts can have levels of their
    /// own, as in info,task=debug
    #[arg(long, env = "FASTWORKER_LOG_LEVEL", default_value = "info", value_name = "LEVEL", value_parser = render::levels)]
    log_level: render::Levels,
    /// Write log lines as text, or as json with one object a line
    #[arg(
        long,
        env = "FASTWORKER_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    log_format: render::LogFormat,
    /// Give running tasks this long to end after the first SIGTERM or Ctrl-C
    #[arg(long, env = "FASTWORKER_SHUTDOWN_TIMEOUT", default_value = "30s", value_parser = span, value_name = "SPAN")]
    shutdown_timeout: Duration,
    /// Print a line of JSON when ready, and another when all modules are loaded
    #[arg(long, env = "FASTWORKER_JSON", value_parser = switch)]
    json: bool,
}

impl Serving {
    /// Starts logging, raises the limit on open files, starts what `start` starts, and stops it
    /// with `stop` after the first signal. A later signal ends the process at once. What `start`
    /// starts must serve signals before it says that it is ready: whoever hears that may send one.
    fn run<S>(
        &self,
        start: impl FnOnce(&Signals) -> Result<S, Failure>,
        stop_now: impl FnOnce(&S) -> Box<dyn Fn() + Send>,
        stop: impl FnOnce(S, Duration),
    ) -> Outcome {
        crate::memory::give_large_blocks_back();
        render::log(&self.log_level, self.log_format);
        let _flush = FlushOnPanic;
        crate::memory::give_free_memory_back();
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "cannot raise the limit on open files");
        }
        system::check_descriptors(SERVER_DESCRIPTORS_MIN)
            .map_err(|error| Failure::new(TASK_FAILED, format!("cannot start: {error}")))?;
        let mut signals = Signals::listen(leave("interrupted before it was ready", self.json)).map_err(|error| {
            Failure::new(TASK_FAILED, format!("cannot listen for signals: {}", system::explain(&error)))
        })?;
        let started = start(&signals)?;
        signals.first();
        tracing::info!(timeout_s = crate::clock::seconds(self.shutdown_timeout), "draining; signal again to stop now");
        let (stop_now, message) =
            (stop_now(&started), leave("stopped by a second signal, without waiting for running tasks", false));
        signals.exit_on_next(move || {
            let code = message();
            stop_now();
            code
        });
        stop(started, self.shutdown_timeout);
        Ok(0)
    }
}

/// Prints a line of JSON once the modules of a server are loaded. It serves on if nobody can wait for that.
fn tell_when_loaded(worker_id: &str, loading: Loading) {
    let worker_id = worker_id.to_owned();
    let wait = move || {
        if let Some(end) = loading.wait(crate::clock::DURATION_MAX) {
            render::loaded_all(&worker_id, end);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("fw-loaded".into()).spawn(wait) {
        tracing::warn!(%error, "no thread to tell when all modules are loaded");
    }
}

/// Has the last lines of the log written when a panic unwinds through a server.
struct FlushOnPanic;

impl Drop for FlushOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            render::flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_a_variable() {
        fn check(command: &clap::Command) {
            for option in command
                .get_arguments()
                .filter(|option| option.get_long().is_some_and(|long| !["help", "version"].contains(&long)))
            {
                let variable = option.get_env().and_then(|name| name.to_str()).unwrap_or_default();
                // Its variable would repeat one submission for ever; and --no-gui has FASTWORKER_GUI_ENABLED.
                let exempt = [("submit", "task-id"), ("control-plane", "no-gui")];
                let is_exempt = exempt.contains(&(command.get_name(), option.get_long().unwrap_or_default()));
                assert!(is_exempt || variable.starts_with("FASTWORKER_"), "{} {option:?}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        command.get_subcommands().filter(|command| command.get_name() != "help").for_each(check);
    }

    #[test]
    fn the_operating_manual_has_every_command_and_every_option_with_its_variable_and_default() {
        const MANUAL: &str = include_str!("../../../docs/operating.md");
        fn check(command: &clap::Command, above: &str) {
            let name = format!("{above}{}", command.get_name());
            assert!(MANUAL.contains(&format!("`fastworker {name}")), "docs/operating.md: no `fastworker {name}`");
            for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
                let Some(long) = option.get_long().filter(|long| !["help", "version"].contains(long)) else { continue };
                let variable = option.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
                let defaults = option.get_default_values().iter().filter(|_| option.get_action().takes_values());
                let words: Vec<String> = defaults.map(|value| value.to_string_lossy().into()).chain(variable).collect();
                let mut rows = MANUAL.lines().filter(|line| line.starts_with(&format!("| `--{long}")));
                let is_told = |row: &str| words.iter().all(|word| row.contains(word.as_str()));
                assert!(rows.any(is_told), "docs/operating.md: no row of --{long} of {name} with {words:?}");
            }
            let below = command.get_subcommands().filter(|command| command.get_name() != "help");
            below.for_each(|command| check(command, &format!("{name} ")));
        }
        let mut command = Cli::command();
        command.build();
        command.get_subcommands().filter(|command| command.get_name() != "help").for_each(|it| check(it, ""));
    }

    #[test]
    fn a_variable_belongs_to_options_of_one_name() {
        fn gather(command: &clap::Command, known: &mut Vec<(String, String)>) {
            let options = command.get_arguments().filter_map(|option| Some((option.get_env()?, option.get_id())));
            known.extend(options.map(|(variable, id)| (variable.to_string_lossy().into(), id.to_string())));
            command.get_subcommands().for_each(|below| gather(below, known));
        }
        let mut known = Vec::new();
        gather(&Cli::command(), &mut known);
        for (variable, option) in &known {
            let other = known.iter().find(|(name, other)| name == variable && other != option);
            assert!(other.is_none(), "{variable} sets both {option} and {other:?}");
        }
    }

    #[test]
    fn negative_numbers_are_arguments_and_options_still_are_options() {
        let cli = Cli::try_parse_from(["fastworker", "submit", "--task-name", "add", "--args", "-5", "3", "--json"]);
        let Ok(Cli { command: Command::Submit(submit) }) = cli else { panic!("{cli:?}") };
        assert!(format!("{submit:?}").contains(r#"args: ["-5", "3"]"#), "{submit:?}");
    }
}
