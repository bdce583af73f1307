//! `fastworker cancel`

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{
    CliError, CommandResult, ConnectionOptions, EXIT_FAILURE, TaskId, complete, render,
    status::{TASK_ID_VARIABLE, one_task_id, task_not_found},
    submit::describe_for_json,
    values,
};
use crate::protocol::Found;

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, override_usage = "fastworker cancel [OPTIONS] <ID>")]
pub(super) struct CancelCommand {
    /// Task id
    #[arg(value_name = "ID", value_parser = values::parse_task_id, required_unless_present = "task_id", add = ArgValueCandidates::new(complete::unfinished_tasks))]
    id: Option<TaskId>,
    /// Task id, as an option
    #[arg(long, env = TASK_ID_VARIABLE, value_name = "ID", value_parser = values::parse_task_id,
          add = ArgValueCandidates::new(complete::unfinished_tasks))]
    task_id: Option<TaskId>,
    #[command(flatten)]
    connection: ConnectionOptions,
}

const AFTER_HELP: &str = "Exit codes: 0 the task was cancelled, 1 it had already ended, 5 there is no such task.";

impl CancelCommand {
    pub(super) fn run(self) -> CommandResult {
        let id = &one_task_id(self.id, self.task_id)?;
        self.connection.run(async |client| {
            if client.cancel(id).await? {
                let json = self.connection.json;
                let details = describe_for_json(client, id, json).await?;
                return render::print_cancelled(id, details.as_ref(), json);
            }
            match client.lookup(id, Duration::ZERO).await? {
                Found::Ended(result) => Err(CliError::new(
                    EXIT_FAILURE,
                    format!("task {id} has already ended with status {}", result.status),
                )
                .hint(format!("see its result with: fastworker result {id}"))
                .for_task(id)),
                Found::Live(_) | Found::Unknown => Err(task_not_found(id)),
            }
        })
    }
}
