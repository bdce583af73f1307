//! `fastworker status`

use std::env;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{CliError, CommandResult, ConnectionOptions, EXIT_NOT_FOUND, EXIT_USAGE, TaskId, complete, render, values};

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, override_usage = "fastworker status [OPTIONS] <ID>")]
pub(super) struct StatusCommand {
    /// Task id
    #[arg(value_name = "ID", value_parser = values::parse_task_id, required_unless_present = "task_id", add = ArgValueCandidates::new(complete::tasks))]
    id: Option<TaskId>,
    /// Task id, as an option
    #[arg(long, env = TASK_ID_VARIABLE, value_name = "ID", value_parser = values::parse_task_id,
          add = ArgValueCandidates::new(complete::tasks))]
    task_id: Option<TaskId>,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// The variable that sets the task id of `status`, `result` and `cancel`.
pub(super) const TASK_ID_VARIABLE: &str = "FASTWORKER_TASK_ID";

const AFTER_HELP: &str = "\
Exit codes: 0 the task has not ended or has succeeded, 1 it failed or was cancelled, 5 there is no such task.";

impl StatusCommand {
    pub(super) fn run(self) -> CommandResult {
        let id = one_task_id(self.id, self.task_id)?;
        self.connection.run(async |client| match client.describe(&id).await? {
            Some(task) => render::print_status(&task, self.connection.json),
            None => Err(task_not_found(&id)),
        })
    }
}

/// The task id that is given: as an argument, else by the option, else by the variable.
pub(super) fn one_task_id(argument: Option<TaskId>, option: Option<TaskId>) -> Result<TaskId, CliError> {
    // clap cannot decide this, since it treats a variable like an option.
    let by_variable = |id: &TaskId| env::var(TASK_ID_VARIABLE).is_ok_and(|variable| variable == id.to_string());
    match (argument, option) {
        (Some(argument), Some(option)) if argument != option && !by_variable(&option) => {
            Err(CliError::new(EXIT_USAGE, format!("two different task ids are given: {argument} and {option}"))
                .hint("give one, either as ID or with --task-id"))
        }
        (Some(id), _) | (None, Some(id)) => Ok(id),
        (None, None) => Err(CliError::new(EXIT_USAGE, "no task id is given").hint("give one as ID")),
    }
}

/// The error for a task that the control plane does not know.
pub(super) fn task_not_found(id: &TaskId) -> CliError {
    CliError::new(EXIT_NOT_FOUND, format!("there is no task {id}"))
        .hint(
            "fastworker tasks lists the known tasks; results expire after the control plane's --result-cache-ttl, and \
             are lost when it restarts",
        )
        .for_task(id)
}
