//! `fastworker list`

use std::env;

use clap::Args;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use super::{Connection, Failure, NOT_FOUND, Outcome, complete, render};
use crate::{
    signature::Document,
    subworker::ModulesConfig,
    task::{ModuleInfo, TaskInfo},
};

/// Names that are proposed instead of one that nobody has.
const NAMED_MAX: usize = 3;
/// How alike they are, from 0 to 1.
const ALIKE: f64 = 0.7;

#[derive(Args, Debug)]
pub(super) struct List {
    /// Inspect these .wasm files, folders and patterns, without a control plane
    #[arg(long, env = "FASTWORKER_TASK_MODULES", value_name = "PATH", num_args = 1.., value_delimiter = ',',
          add = ArgValueCompleter::new(complete::modules()))]
    task_modules: Vec<String>,
    /// Print the JSON Schemas of the parameters and the result of this task
    #[arg(long, env = "FASTWORKER_SCHEMA", value_name = "NAME", add = ArgValueCandidates::new(complete::task_names))]
    schema: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl List {
    pub(super) fn run(self) -> Outcome {
        let json = self.connection.json;
        let is_by_variable =
            env::var("FASTWORKER_TASK_MODULES").is_ok_and(|files| files == self.task_modules.join(","));
        if !self.task_modules.is_empty() {
            let files = self.task_modules;
            let config = ModulesConfig { sources: files.clone(), concurrency: 1, ..ModulesConfig::default() };
            let (_runtime, catalog) = config.load()?;
            if is_by_variable {
                render::note("these are the files of FASTWORKER_TASK_MODULES; without it, list asks the control plane");
            }
            let modules = catalog.describe();
            let list = format!("fastworker list --task-modules {}", files.join(" "));
            return match &self.schema {
                Some(name) => schema(&list, name, modules.iter()),
                None => render::modules(&modules, json),
            };
        }
        self.connection.run(async |client| {
            let workers = client.list_tasks().await?;
            if workers.is_empty() && (!json || self.schema.is_some()) {
                return Err(Failure::new(NOT_FOUND, "no worker is connected to the control plane")
                    .hint("start one with: fastworker subworker --worker-id sw1 --control-plane-address … --task-modules X.wasm"));
            }
            match &self.schema {
                Some(name) => schema("fastworker list", name, workers.iter().flat_map(|worker| &worker.modules)),
                None => render::workers(&workers, json),
            }
        })
    }
}

/// Shows what is known of the parameters and the result of a task.
fn schema<'a>(list: &str, name: &str, modules: impl Iterator<Item = &'a ModuleInfo>) -> Outcome {
    let tasks: Vec<&TaskInfo> = modules.flat_map(|module| &module.tasks).collect();
    if let Some(task) = tasks.iter().find(|task| task.name == name) {
        return render::document(&Document::of(task));
    }
    let alike = |task: &&TaskInfo| strsim::jaro_winkler(&task.name, name);
    let mut near: Vec<(f64, &str)> = tasks.iter().map(|task| (alike(task), task.name.as_str())).collect();
    near.retain(|(likeness, _)| *likeness > ALIKE);
    near.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.dedup();
    let names: Vec<&str> = near.into_iter().take(NAMED_MAX).map(|(_, name)| name).collect();
    let hint = match names.as_slice() {
        [] => format!("{list} shows the tasks that there are"),
        names => format!("did you mean {}?", names.join(" or ")),
    };
    Err(Failure::new(NOT_FOUND, format!("there is no task '{name}'")).hint(hint))
}
