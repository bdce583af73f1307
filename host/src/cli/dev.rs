//! `fastworker dev`

use std::{sync::Arc, time::Duration};

use clap::{Args, builder::BoolishValueParser};
use clap_complete::engine::ArgValueCompleter;

use super::{Failure, Json, NOT_FOUND, Outcome, array, complete, json_array, object, pair, render, span_above_zero};
use crate::{
    clock::Timestamp,
    runtime::{AttemptId, Invocation, Module, Reports},
    signature::Signature,
    subworker::{ModulesConfig, ModulesError},
    task::{self, ErrorKind, Report, TIMEOUT_DEFAULT, TaskId, TaskResult, TaskStatus},
};

#[derive(Args, Debug)]
pub(super) struct Dev {
    /// The task module
    #[arg(value_name = "MODULE", add = ArgValueCompleter::new(complete::modules()))]
    module: String,
    /// The task name to execute
    #[arg(value_name = "NAME")]
    name: String,
    /// Task arguments: each is read as JSON where it is JSON, else as text
    #[arg(value_name = "VALUE", num_args = 0.., allow_negative_numbers = true)]
    args: Vec<String>,
    /// Named arguments
    #[arg(long, env = "FASTWORKER_KWARGS", value_name = "NAME=VALUE", num_args = 1.., value_parser = pair)]
    kwargs: Vec<(String, Json)>,
    /// Task arguments as one JSON array
    #[arg(long, env = "FASTWORKER_ARGS_JSON", value_name = "ARRAY", value_parser = json_array, conflicts_with = "args")]
    args_json: Option<Json>,
    /// The number of the attempt to be
    #[arg(long, env = "FASTWORKER_ATTEMPT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    attempt: u32,
    /// How long it may run [default: the task's own, else 300s]
    #[arg(long, env = "FASTWORKER_TASK_TIMEOUT", value_name = "SPAN", value_parser = span_above_zero)]
    task_timeout: Option<Duration>,
    /// Print the result as JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

impl Dev {
    pub(super) fn run(self) -> Outcome {
        let config = ModulesConfig { sources: vec![self.module.clone()], concurrency: 1, ..ModulesConfig::default() };
        let (runtime, catalog) = config.load().map_err(cannot_load)?;
        let module = catalog.find(&self.name).ok_or_else(|| self.no_such_task(catalog.modules()))?;
        let info = module.info().tasks.iter().find(|task| task.name == self.name);
        let own = info.and_then(|task| task.policy.timeout);
        let (args, kwargs) = (self.args_json.clone().unwrap_or_else(|| array(&self.args)), object(&self.kwargs));
        let (task_id, started_at) = (TaskId::new(), Timestamp::now());
        if let Some(misfit) = info.and_then(|task| Signature::of(task).check(&args, &kwargs).err()) {
            return render::result_by(
                &format!("fastworker list --task-modules {}", self.module),
                &TaskResult {
                    completed_at: Some(started_at),
                    error: Some(misfit.to_string()),
                    error_kind: Some(ErrorKind::BadArguments),
                    ..TaskResult::new(task_id, TaskStatus::Failure)
                },
                self.json,
            );
        }
        let outcome = runtime.slot(Arc::new(Shown)).run(
            module,
            &Invocation {
                id: AttemptId(1),
                task_id: &task_id,
                name: &self.name,
                attempt: self.attempt,
                timeout: self.task_timeout.or(own).unwrap_or(TIMEOUT_DEFAULT),
                args: &args,
                kwargs: &kwargs,
            },
        );
        let mut result = TaskResult {
            started_at: Some(started_at),
            completed_at: Some(Timestamp::now()),
            attempts: self.attempt,
            module_version: Some(module.version()),
            ..TaskResult::new(task_id, TaskStatus::Success)
        };
        match outcome {
            task::Outcome::Success { result: document, follow_ups } => {
                result.result = Some(document);
                render::follow_ups(&follow_ups);
            }
            task::Outcome::Failure(failure) => {
                result.status = TaskStatus::Failure;
                (result.error, result.error_kind) = (Some(failure.message), Some(failure.kind));
            }
            task::Outcome::Stopped => result.status = TaskStatus::Cancelled,
        }
        render::result(&result, self.json)
    }

    fn no_such_task(&self, modules: &[Module]) -> Failure {
        let names: Vec<&str> =
            modules.iter().flat_map(|module| &module.info().tasks).map(|task| task.name.as_str()).collect();
        Failure::new(NOT_FOUND, format!("{} has no task '{}'", self.module, self.name))
            .hint(format!("its tasks are: {}", names.join(", ")))
    }
}

fn cannot_load(error: ModulesError) -> Failure {
    match error {
        ModulesError::Source(_) => Failure::new(NOT_FOUND, error)
            .hint("MODULE is the .wasm file that cargo build --release --target wasm32-wasip2 leaves in target/wasm32-wasip2/release"),
        other => other.into(),
    }
}

/// Shows what the task says as it says it.
struct Shown;

impl Reports for Shown {
    fn report(&self, _attempt: AttemptId, report: Report) {
        render::report(&report);
    }
}
