//! `fastworker list`

use std::env;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::{Connection, Failure, NOT_FOUND, Outcome, complete, render};
use crate::subworker::ModulesConfig;

#[derive(Args, Debug)]
pub(super) struct List {
    /// Inspect these .wasm files, folders and patterns, without a control plane
    #[arg(long, env = "FASTWORKER_TASK_MODULES", value_name = "PATH", num_args = 1.., value_delimiter = ',',
          add = ArgValueCompleter::new(complete::modules()))]
    task_modules: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

impl List {
    pub(super) fn run(self) -> Outcome {
        let json = self.connection.json;
        let is_by_variable =
            env::var("FASTWORKER_TASK_MODULES").is_ok_and(|files| files == self.task_modules.join(","));
        if !self.task_modules.is_empty() {
            let config = ModulesConfig { sources: self.task_modules, concurrency: 1, ..ModulesConfig::default() };
            let (_runtime, catalog) = config.load()?;
            if is_by_variable {
                render::note("these are the files of FASTWORKER_TASK_MODULES; without it, list asks the control plane");
            }
            return render::modules(&catalog.describe(), json);
        }
        self.connection.run(async |client| {
            let workers = client.list_tasks().await?;
            if workers.is_empty() && !json {
                return Err(Failure::new(NOT_FOUND, "no worker is connected to the control plane")
                    .hint("start one with: fastworker subworker --worker-id sw1 --control-plane-address … --task-modules X.wasm"));
            }
            render::workers(&workers, json)
        })
    }
}
