//! `fastworker dev`

use std::{sync::Arc, time::Duration};

use clap::Args;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use super::{
    CliError, CommandResult, EXIT_FAILURE, EXIT_NOT_FOUND, EXIT_USAGE, Json, Kwargs, args_to_json, complete,
    config_file::{ConfigFile, ConfigOptions},
    grant_options::GrantOptions,
    interruption_handler, kwargs_to_json, parse_bool, parse_json_array, parse_kwargs, parse_number,
    parse_positive_duration, render,
};
use crate::{
    clock::Timestamp,
    nearest::did_you_mean,
    runtime::{AttemptId, Catalog, Invocation, Reports, SourceError, grants::Need},
    shutdown::Signals,
    signature::Signature,
    subworker::{ModulesConfig, ModulesError},
    task::{self, ErrorKind, Report, TIMEOUT_DEFAULT, TaskId, TaskResult, TaskStatus},
};

#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 the task has succeeded, 1 it failed, 5 the module has no such task.")]
pub(super) struct DevCommand {
    /// Task module
    #[arg(value_name = "MODULE", add = ArgValueCompleter::new(complete::modules()))]
    module: String,
    /// Name of the task
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::tasks_of_module))]
    name: String,
    /// Positional arguments. Each is parsed as JSON if it is valid JSON, else passed as a string
    #[arg(value_name = "VALUE", num_args = 0.., allow_negative_numbers = true)]
    args: Vec<String>,
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
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    grants: GrantOptions,
    /// Print the result as JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = parse_bool)]
    json: bool,
}

impl DevCommand {
    pub(super) fn run(self, file: &ConfigFile) -> CommandResult {
        // Kept until the end: without a call of `serve`, a signal ends the process.
        let _signals = Signals::listen(interruption_handler("interrupted", self.json))
            .map_err(|error| CliError::new(EXIT_FAILURE, format!("cannot listen for signals: {error}")))?;
        let config = ModulesConfig {
            sources: vec![self.module.clone()],
            concurrency: 1,
            grants: Arc::new(self.grants.table(file)?),
            policies: Arc::new(file.policies.clone()),
            ..ModulesConfig::default()
        };
        let (runtime, catalog) = config.load().map_err(load_error)?;
        let module = catalog.find(&self.name).ok_or_else(|| self.task_not_found(&catalog))?;
        let info = module.info().tasks.iter().find(|task| task.name == self.name);
        let own_timeout = info.and_then(|task| task.policy.timeout);
        let priority = info.and_then(|task| task.policy.priority).unwrap_or_default();
        let (args, kwargs) =
            (self.args_json.clone().unwrap_or_else(|| args_to_json(&self.args)), kwargs_to_json(&self.kwargs));
        let (task_id, started_at) = (TaskId::new(), Timestamp::now());
        if let Some(error) = info.and_then(|task| Signature::of(task).check(&args, &kwargs).err()) {
            let result = TaskResult {
                completed_at: Some(started_at),
                error: Some(error.to_string()),
                error_kind: Some(ErrorKind::BadArguments),
                metadata: error.metadata(),
                ..TaskResult::new(task_id, TaskStatus::Failure)
            };
            return self.print(&result);
        }
        let end = runtime.slot(Arc::new(PrintReports)).run(
            module,
            &Invocation {
                id: AttemptId(1),
                task_id: &task_id,
                name: &self.name,
                attempt: self.attempt,
                timeout: self.task_timeout.or(own_timeout).unwrap_or(TIMEOUT_DEFAULT),
                args: &args,
                kwargs: &kwargs,
                metadata: &task::metadata::of_attempt(&Json::empty_object(), priority),
            },
        );
        let mut result = TaskResult {
            started_at: Some(started_at),
            completed_at: Some(Timestamp::now()),
            attempts: self.attempt,
            module_version: Some(module.version()),
            metadata: end.metadata.unwrap_or_else(Json::empty_object),
            ..TaskResult::new(task_id, TaskStatus::Success)
        };
        match end.outcome {
            task::Outcome::Success { result: document, follow_ups } => {
                result.result = Some(document);
                render::print_follow_ups(&follow_ups);
            }
            task::Outcome::Failure(failure) => {
                result.status = TaskStatus::Failure;
                (result.error, result.error_kind) = (Some(failure.message), Some(failure.kind));
            }
            task::Outcome::Stopped => result.status = TaskStatus::Cancelled,
        }
        self.print(&result)
    }

    fn print(&self, result: &TaskResult) -> CommandResult {
        let list = format!("fastworker list --task-modules {}", self.module);
        render::print_call_result(&list, &self.name, result, self.json).map_err(|mut error| {
            // The id is meaningless outside this process: name the task instead.
            error.message = error.message.replacen(&result.task_id.to_string(), &self.name, 1);
            error
        })
    }

    fn task_not_found(&self, catalog: &Catalog) -> CliError {
        let tasks = catalog.modules().iter().flat_map(|module| &module.info().tasks);
        let names: Vec<&str> = tasks.map(|task| task.name.as_str()).collect();
        let list = format!("its tasks are: {}", names.join(", "));
        let hint = match did_you_mean(&self.name, names.iter().copied()) {
            Some(near) => format!("{near} {list}"),
            None => list,
        };
        let mut ungranted = catalog.modules().iter().flat_map(|module| &module.info().ungranted);
        if let Some(task) = ungranted.find(|task| task.name == self.name) {
            let flags: Vec<String> =
                task.missing.iter().filter_map(|need| Some(need.parse::<Need>().ok()?.flag())).collect();
            let message = format!("the task '{}' needs {}, which is not granted", self.name, task.missing.join(", "));
            return CliError::new(EXIT_USAGE, message).hint(format!("grant it with: {}", flags.join(" ")));
        }
        let message = format!("{} has no task '{}'", self.module, self.name);
        // A module of the folder that could not be loaded may contain the task.
        let broken = catalog.describe().into_iter().filter_map(|info| Some((info.path, info.last_error?.message)));
        let message = broken.fold(message, |message, (path, why)| format!("{message}\n{path}: {why}"));
        CliError::new(EXIT_NOT_FOUND, message).hint(hint)
    }
}

fn load_error(error: ModulesError) -> CliError {
    match error {
        ModulesError::Source(SourceError::Missing(_)) => CliError::new(EXIT_NOT_FOUND, error).hint(
            "cargo build --release --target wasm32-wasip2 writes the module to target/wasm32-wasip2/release/*.wasm",
        ),
        other => other.into(),
    }
}

/// Prints the reports of the task as they arrive.
struct PrintReports;

impl Reports for PrintReports {
    fn report(&self, _attempt: AttemptId, report: Report) {
        render::print_report(&report);
    }
}
