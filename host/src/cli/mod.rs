//! The command line: one file per command.
//!
//! Each option is set by its flag, else by its environment variable `FASTWORKER_…`, else, for servers, by the
//! configuration file, else by its default. Only [`render`] prints, apart from clap, which prints help, the version and completions.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    json::Json,
    system,
    task::{TaskId, TaskPriority},
};

// Parsing of options, and reporting of errors.
mod command_tree;
mod error;
mod usage;
mod values;

// Options that several commands share.
mod call;
mod config_file;
mod connection;
mod grant_options;
mod module_options;
mod server;

// One file per command.
mod bench;
mod build;
mod cancel;
mod compile;
mod completions;
mod config;
mod control_plane;
mod dev;
mod events;
mod inspect;
mod limit_options;
mod list;
mod listen;
mod man;
mod new;
mod result;
mod schedule;
mod status;
mod submit;
mod subworker;
mod tasks;
mod workers;

// Output, and completion in the shell.
mod complete;
mod render;
mod waiting;

use self::{
    connection::{ADDRESS_VARIABLE, ConnectionOptions, DISCOVERY_VARIABLE, block_on},
    error::CliError,
    module_options::ModuleOptions,
    server::{ServerOptions, interruption_handler, print_when_loaded},
    values::{
        Kwargs, args_to_json, kwargs_to_json, parse_base_address, parse_bool, parse_duration, parse_from_str,
        parse_json, parse_json_array, parse_kwargs, parse_number, parse_positive_duration,
    },
};

/// Exit code: the task failed or was cancelled, or any other error.
const EXIT_FAILURE: u8 = 1;
/// Exit code: invalid options or arguments.
const EXIT_USAGE: u8 = 2;
/// Exit code: the control plane does not reply, or is stopping.
const EXIT_UNREACHABLE: u8 = 3;
/// Exit code: the task has not finished (yet, or within the timeout).
const EXIT_NOT_FINISHED: u8 = 4;
/// Exit code: no such task, task name, schedule or file.
const EXIT_NOT_FOUND: u8 = 5;
/// Exit code: a tool that a build needs is missing.
const EXIT_MISSING_TOOL: u8 = 6;
/// Exit code: interrupted by a signal.
const EXIT_INTERRUPTED: u8 = 130;

/// A task queue that needs no external broker, whose tasks are WebAssembly components
#[derive(Debug, Parser)]
#[command(name = "fastworker", version, propagate_version = true, max_term_width = 100, styles = render::STYLES,
          after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Every option can also be set through the environment variable shown with it. The option takes precedence over the \
variable, and an empty variable counts as unset. Mutually exclusive options also exclude each other when set through \
variables.

A DURATION is written as 250ms, 30s, 5m, 1h 30m or 2d; a bare number is in seconds. The maximum is ten years.

With --json, an error is also printed to stdout, as an object with error, hint, code and, if the error \
is about a task, task_id.

Exit codes: 0 done, 1 the task failed or was cancelled, or any other error, 2 invalid usage, 3 control plane \
unreachable or stopping, 4 the task has not finished (yet, or within the timeout), 5 not found, 6 a tool that a build \
needs is missing, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a control plane, which queues tasks, assigns them to workers and keeps their results
    ControlPlane(control_plane::ControlPlaneCommand),
    /// Start a subworker, which runs tasks for a control plane
    Subworker(subworker::SubworkerCommand),
    /// Submit a task and wait for its result
    Submit(submit::SubmitCommand),
    /// Print a task's result
    Result(result::ResultCommand),
    /// Show a task's status
    Status(status::StatusCommand),
    /// Cancel a queued or running task
    Cancel(cancel::CancelCommand),
    /// List recent tasks
    Tasks(tasks::TasksCommand),
    /// List the workers
    Workers(workers::WorkersCommand),
    /// Show the events of tasks, workers and modules
    Events(events::EventsCommand),
    /// Manage schedules, which submit tasks at intervals or at set times
    Schedule(schedule::ScheduleCommand),
    /// List the tasks that can be submitted, or those in module files
    List(list::ListCommand),
    /// Show what a module file exports and imports, what that is granted, and what it costs
    Inspect(inspect::InspectCommand),
    /// Print callbacks as they arrive
    Listen(listen::ListenCommand),
    /// Build a task module from sources in Rust, Python, JavaScript, TypeScript, Go, C, C++ or Zig
    Build(build::BuildCommand),
    /// Create a project with tasks, in Rust, Python, JavaScript, TypeScript, Go, C, C++ or Zig
    New(new::NewCommand),
    /// Check the configuration file, or print an example
    Config(config::ConfigCommand),
    /// Run one task of a module or of sources in this process; or serve sources, and build them again when they change
    Dev(dev::DevCommand),
    /// Compile task modules ahead, so that servers on this machine load them immediately
    Compile(compile::CompileCommand),
    /// Measure latency and throughput on this machine
    Bench(bench::BenchCommand),
    /// Print a shell's completion script
    Completions(completions::CompletionsCommand),
    /// Print a manual page, or write all of them to a folder
    Man(man::ManCommand),
}

/// Minimum number of file descriptors of every command: tokio panics without them.
const DESCRIPTORS_MIN: usize = 12;

/// The exit code of a command, or its error.
type CommandResult = Result<u8, CliError>;

/// Runs the command line and returns its exit code.
pub fn main() -> ExitCode {
    if complete::complete_for_shell() {
        return ExitCode::SUCCESS;
    }
    crate::memory::limit_malloc_arenas();
    let json = usage::wants_json();
    let (cli, file) = match usage::parse() {
        Ok(parsed) => parsed,
        Err(usage::ParseError::Display(message)) => {
            // A closed pipe is not an error.
            drop(message.print());
            return ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(EXIT_USAGE));
        }
        Err(usage::ParseError::Invalid(error)) => {
            render::print_error(&error, json);
            return ExitCode::from(error.code);
        }
    };
    for note in usage::ignored_variables() {
        render::print_note(&note);
    }
    if let Err(error) = system::check_free_fds(DESCRIPTORS_MIN) {
        let error = CliError::new(EXIT_FAILURE, format!("cannot start: {error}"));
        render::print_error(&error, json);
        return ExitCode::from(error.code);
    }
    let result = match cli.command {
        Command::ControlPlane(command) => command.run(&file),
        Command::Subworker(command) => command.run(&file),
        Command::Submit(command) => command.run(),
        Command::Result(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Cancel(command) => command.run(),
        Command::Tasks(command) => command.run(),
        Command::Workers(command) => command.run(),
        Command::Events(command) => command.run(),
        Command::Schedule(command) => command.run(),
        Command::List(command) => command.run(),
        Command::Inspect(command) => command.run(&file),
        Command::Listen(command) => command.run(),
        Command::Build(command) => command.run(),
        Command::New(command) => command.run(),
        Command::Config(command) => command.run(&file),
        Command::Dev(command) => command.run(&file),
        Command::Compile(command) => command.run(),
        Command::Bench(command) => command.run(&file),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    let code = result.unwrap_or_else(|error| {
        render::print_error(&error, json);
        error.code
    });
    render::flush_log();
    ExitCode::from(code)
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
                // With a variable, every submission would have the same id; --no-gui has FASTWORKER_GUI_ENABLED.
                let exempt = [("submit", "task-id"), ("control-plane", "no-gui"), ("dev", "no-gui")];
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
    fn the_operating_manual_lists_all_commands_options_and_defaults() {
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
                let is_complete = |row: &str| words.iter().all(|word| row.contains(word.as_str()));
                assert!(rows.any(is_complete), "docs/operating.md: no row of --{long} of {name} with {words:?}");
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
        fn collect(command: &clap::Command, known: &mut Vec<(String, String)>) {
            let options = command.get_arguments().filter_map(|option| Some((option.get_env()?, option.get_id())));
            known.extend(options.map(|(variable, id)| (variable.to_string_lossy().into(), id.to_string())));
            command.get_subcommands().for_each(|below| collect(below, known));
        }
        let mut known = Vec::new();
        collect(&Cli::command(), &mut known);
        for (variable, option) in &known {
            let other = known.iter().find(|(name, other)| name == variable && other != option);
            assert!(other.is_none(), "{variable} sets both {option} and {other:?}");
        }
    }

    #[test]
    fn negative_numbers_are_arguments_and_options_remain_options() {
        let cli = Cli::try_parse_from(["fastworker", "submit", "--task-name", "add", "--args", "-5", "3", "--json"]);
        let Ok(Cli { command: Command::Submit(submit) }) = cli else { panic!("{cli:?}") };
        assert!(format!("{submit:?}").contains(r#"args: ["-5", "3"]"#), "{submit:?}");
    }
}
