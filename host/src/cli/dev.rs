//! `fastworker dev`

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Command};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use super::{
    CliError, CommandResult, EXIT_USAGE, Json, Kwargs, ModuleOptions, args_to_json,
    build::{self, Destination, MissingTools, Source},
    complete,
    config_file::ConfigFile,
    control_plane::ControlPlaneCommand,
    kwargs_to_json, parse_bool, parse_json_array, parse_kwargs, parse_number, parse_positive_duration, render, usage,
};

mod once;
mod serve;
mod watch;

use once::Attempt;

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct DevCommand {
    /// Task module, source file or project folder
    #[arg(value_name = "PATH", required_unless_present = "serve", add = ArgValueCompleter::new(complete::modules_and_sources()))]
    path: Option<String>,
    /// Name of the task; with --serve, another source
    #[arg(value_name = "NAME", required_unless_present = "serve", add = ArgValueCandidates::new(complete::tasks_of_module))]
    name: Option<String>,
    /// Positional arguments. Each is parsed as JSON if it is valid JSON, else passed as a string
    #[arg(value_name = "VALUE", num_args = 0.., allow_negative_numbers = true)]
    args: Vec<String>,
    /// Serve the modules of all PATHs [default: .] with a control plane and its web interface, and build them again when
    /// their sources change
    #[arg(long, env = "FASTWORKER_SERVE", value_parser = parse_bool)]
    serve: bool,
    /// Named arguments: one or more NAME=VALUE, or a JSON object
    #[arg(long, env = "FASTWORKER_DEV_KWARGS", value_name = "NAME=VALUE", num_args = 1.., value_parser = parse_kwargs)]
    kwargs: Vec<Kwargs>,
    /// Positional arguments as one JSON array
    #[arg(long, env = "FASTWORKER_DEV_ARGS_JSON", value_name = "ARRAY", value_parser = parse_json_array, conflicts_with = "args")]
    args_json: Option<Json>,
    /// Attempt number that the task sees, counted from 1
    #[arg(long, env = "FASTWORKER_ATTEMPT", default_value = "1", value_name = "NUMBER",
          value_parser = parse_number::<u32, 1, { u32::MAX as u64 }>)]
    attempt: u32,
    /// Maximum running time [default: the task's own, else 300s]
    #[arg(long, env = "FASTWORKER_TASK_TIMEOUT", value_name = "DURATION", value_parser = parse_positive_duration)]
    task_timeout: Option<Duration>,
    #[command(flatten, next_help_heading = "Options of the control plane of --serve")]
    control_plane: ControlPlaneCommand,
}

const AFTER_HELP: &str = "\
Sources are built as fastworker build does, and PATH may also be a folder or a pattern of .wasm files. Options about \
compiling modules apply without --serve, too.

Exit codes: 0 the task has succeeded, 1 it failed, or the source could not be built, 5 the module has no such task, 6 a \
tool that the build needs is missing.";

impl DevCommand {
    pub(super) fn run(self, file: &ConfigFile) -> CommandResult {
        if self.serve {
            return self.serve(file);
        }
        if let Some(option) = Self::option_of_serve() {
            return Err(CliError::new(EXIT_USAGE, format!("--{option} is an option of --serve"))
                .hint("add --serve, or omit it"));
        }
        let (Some(path), Some(name)) = (&self.path, &self.name) else {
            return Err(CliError::new(EXIT_USAGE, "PATH and NAME are missing")
                .hint("fastworker dev PATH NAME, or fastworker dev --serve PATH"));
        };
        let json = self.control_plane.prints_json();
        // Kept until the end: without a call of `serve`, a signal ends the process.
        let _signals = build::listen_for_signals(json)?;
        let attempt = Attempt {
            module: built_module(path)?,
            name: name.clone(),
            args: self.args_json.clone().unwrap_or_else(|| args_to_json(&self.args)),
            kwargs: kwargs_to_json(&self.kwargs),
            number: self.attempt,
            timeout: self.task_timeout,
            modules: self.control_plane.modules_config(file)?,
            json,
        };
        attempt.run()
    }

    fn serve(self, file: &ConfigFile) -> CommandResult {
        for option in ["kwargs", "args-json", "attempt", "task-timeout", "no-reload"] {
            if usage::is_typed(option) {
                let message = format!("--{option} cannot be used with --serve");
                return Err(CliError::new(EXIT_USAGE, message).hint("omit one of them"));
            }
        }
        let paths = self.path.into_iter().chain(self.name).chain(self.args);
        let mut paths: Vec<PathBuf> = paths.map(PathBuf::from).collect();
        if paths.is_empty() {
            paths.push(".".into());
        }
        serve::serve(&paths, self.control_plane, file)
    }

    /// An option on the command line that has an effect with --serve only.
    fn option_of_serve() -> Option<String> {
        let longs = |command: Command| -> Vec<String> {
            command.get_arguments().filter_map(|option| option.get_long().map(str::to_owned)).collect()
        };
        let of_modules = longs(ModuleOptions::augment_args(Command::new("")));
        let of_serving = ["task-modules", "concurrency", "module-grace", "force-reload", "no-reload"];
        let is_of_loading = |option: &String| of_modules.contains(option) && !of_serving.contains(&option.as_str());
        let is_of_serve = |option: &String| option != "json" && !is_of_loading(option);
        let options = longs(ControlPlaneCommand::augment_args(Command::new("")));
        options.into_iter().filter(is_of_serve).find(|option| usage::is_typed(option))
    }
}

/// The module of `path`: built from it, if it is a source.
fn built_module(path: &str) -> Result<String, CliError> {
    if !Source::is_source(Path::new(path)) {
        return Ok(path.to_owned());
    }
    let source = Source::find(Path::new(path), None)?;
    Ok(build::build(&source, Destination::Source, MissingTools::Report, &render::BuildProgress::new())?.path)
}
