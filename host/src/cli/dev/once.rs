//! Runs one attempt of a task in this process.

use std::{sync::Arc, time::Duration};

use crate::{
    cli::{CliError, CommandResult, EXIT_FAILURE, EXIT_NOT_FOUND, EXIT_USAGE, Json, render},
    clock::Timestamp,
    nearest::did_you_mean,
    runtime::{AttemptId, Catalog, Invocation, Reports, SourceError, grants::Need},
    signature::Signature,
    subworker::{ModulesConfig, ModulesError},
    system,
    task::{self, ErrorKind, Report, TIMEOUT_DEFAULT, TaskId, TaskResult, TaskStatus},
};

/// One attempt of a task.
pub(super) struct Attempt {
    /// The module, folder or pattern that has the task.
    pub(super) module: String,
    pub(super) name: String,
    pub(super) args: Json,
    pub(super) kwargs: Json,
    pub(super) number: u32,
    pub(super) timeout: Option<Duration>,
    /// How modules are loaded.
    pub(super) modules: ModulesConfig,
    pub(super) json: bool,
}

impl Attempt {
    /// Loads the module, runs the task, and prints its result.
    pub(super) fn run(self) -> CommandResult {
        let config = ModulesConfig { sources: vec![self.module.clone()], concurrency: 1, ..self.modules.clone() };
        let (runtime, catalog) = config.load().map_err(load_error)?;
        let module = catalog.find(&self.name).ok_or_else(|| self.task_not_found(&catalog))?;
        let info = module.info().tasks.iter().find(|task| task.name == self.name);
        let own_timeout = info.and_then(|task| task.policy.timeout);
        let priority = info.and_then(|task| task.policy.priority).unwrap_or_default();
        let (task_id, started_at) = (TaskId::new(), Timestamp::now());
        if let Some(error) = info.and_then(|task| Signature::of(task).check(&self.args, &self.kwargs).err()) {
            let result = TaskResult {
                completed_at: Some(started_at),
                error: Some(error.to_string()),
                error_kind: Some(ErrorKind::BadArguments),
                metadata: error.metadata(),
                ..TaskResult::new(task_id, TaskStatus::Failure)
            };
            return self.print(&result);
        }
        let metadata = task::metadata::of_attempt(&Json::empty_object(), priority);
        let invocation = Invocation {
            id: AttemptId(1),
            task_id: &task_id,
            name: &self.name,
            attempt: self.number,
            timeout: self.timeout.or(own_timeout).unwrap_or(TIMEOUT_DEFAULT),
            args: &self.args,
            kwargs: &self.kwargs,
            metadata: &metadata,
        };
        let mut slot = runtime.slot(Arc::new(PrintReports));
        let end = runtime.with_stack(move || slot.run(module, &invocation));
        let end = end.map_err(|error| {
            CliError::new(EXIT_FAILURE, format!("cannot start a thread: {}", system::explain(&error)))
        })?;
        let mut result = TaskResult {
            started_at: Some(started_at),
            completed_at: Some(Timestamp::now()),
            attempts: self.number,
            module_version: Some(module.version()),
            usage: Some(Box::new(end.usage)),
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
            let flags = task.missing.iter().filter_map(|need| Some(need.parse::<Need>().ok()?.flag()));
            let message = format!("the task '{}' needs {}, which is not granted", self.name, task.missing.join(", "));
            return CliError::new(EXIT_USAGE, message)
                .hint(format!("grant it with: {}", flags.collect::<Vec<_>>().join(" ")));
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
        ModulesError::Source(SourceError::Missing(_)) => CliError::new(EXIT_NOT_FOUND, error)
            .hint("give a source, or the module that fastworker build writes next to it"),
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
