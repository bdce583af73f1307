//! `fastworker list`

use std::sync::Arc;

use clap::Args;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use super::{
    CliError, CommandResult, ConnectionOptions, EXIT_NOT_FOUND, EXIT_USAGE, complete, config_file::ConfigOptions,
    grant_options::GrantOptions, parse_bool, render, usage, values::parse_task_name,
};
use crate::{
    runtime::grants::GrantKind,
    signature::Document,
    subworker::ModulesConfig,
    task::{ModuleInfo, TaskInfo},
};

#[derive(Args, Debug)]
pub(super) struct ListCommand {
    /// Inspect these .wasm files, folders or glob patterns instead of querying the control plane
    #[arg(long, env = "FASTWORKER_LIST_TASK_MODULES", value_name = "PATH", num_args = 1.., value_delimiter = ',',
          add = ArgValueCompleter::new(complete::modules()))]
    task_modules: Vec<String>,
    /// Print the JSON Schemas of this task's parameters and result
    #[arg(long, env = "FASTWORKER_SCHEMA", value_name = "NAME", value_parser = parse_task_name,
          add = ArgValueCandidates::new(complete::task_names))]
    schema: Option<String>,
    /// Also show the path, imports and load time of each module
    #[arg(long, env = "FASTWORKER_VERBOSE", value_parser = parse_bool)]
    verbose: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten, next_help_heading = "What a worker would grant to --task-modules")]
    config: ConfigOptions,
    #[command(flatten)]
    grants: GrantOptions,
}

impl ListCommand {
    pub(super) fn run(self) -> CommandResult {
        let json = self.connection.json;
        let verbosity = if self.verbose { render::Verbosity::Full } else { render::Verbosity::Short };
        if !self.task_modules.is_empty() {
            return self.list_files(verbosity);
        }
        if let Some(option) = GrantKind::ALL.map(GrantKind::option).into_iter().find(|option| usage::is_typed(option)) {
            let message = format!("--{option} grants something to the modules of --task-modules, which is missing");
            return Err(CliError::new(EXIT_USAGE, message).hint("without it, the grants of the workers are shown"));
        }
        self.connection.run(async |client| {
            let workers = client.list_tasks().await?;
            if workers.is_empty() && self.schema.is_some() {
                return Err(CliError::new(EXIT_NOT_FOUND, "no worker is connected to the control plane")
                    .hint("start one with: fastworker subworker --worker-id sw1 --control-plane-address … --task-modules X.wasm"));
            }
            match &self.schema {
                Some(name) => print_schema("fastworker list", name, workers.iter().flat_map(|worker| &worker.modules)),
                None => render::print_loaded_modules(&workers, verbosity, json),
            }
        })
    }
}

impl ListCommand {
    /// Lists modules as a worker with these grants and this configuration file would load them.
    fn list_files(self, verbosity: render::Verbosity) -> CommandResult {
        let file = usage::config_file()?;
        let list = format!("fastworker list --task-modules {}", self.task_modules.join(" "));
        let config = ModulesConfig {
            sources: self.task_modules,
            concurrency: 1,
            grants: Arc::new(self.grants.table(&file)?),
            policies: Arc::new(file.policies),
            ..ModulesConfig::default()
        };
        let (_runtime, catalog) = config.load()?;
        let modules = catalog.describe();
        match &self.schema {
            Some(name) => print_schema(&list, name, modules.iter()),
            None => render::print_modules(&modules, verbosity, self.connection.json),
        }
    }
}

/// Prints the schemas of the parameters and the result of a task.
fn print_schema<'a>(list: &str, name: &str, modules: impl Iterator<Item = &'a ModuleInfo>) -> CommandResult {
    let tasks: Vec<&TaskInfo> = modules.flat_map(|module| &module.tasks).collect();
    if let Some(task) = tasks.iter().find(|task| task.name == name) {
        return render::print_pretty_json(&Document::of(task));
    }
    let known = tasks.iter().map(|task| task.name.as_str());
    Err(CliError::not_found("task", name, known, format!("{list} shows every task")))
}
