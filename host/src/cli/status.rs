//! `fastworker status`

use std::env;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{Connection, Failure, NOT_FOUND, Outcome, TaskId, WRONG_USAGE, complete, render, values};

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, override_usage = "fastworker status [OPTIONS] <ID>")]
pub(super) struct Status {
    /// The task's id
    #[arg(value_name = "ID", value_parser = values::task_id, required_unless_present = "task_id", add = ArgValueCandidates::new(complete::tasks))]
    id: Option<TaskId>,
    /// The task's id, as an option
    #[arg(long, env = TASK_ID, value_name = "ID", value_parser = values::task_id,
          add = ArgValueCandidates::new(complete::tasks))]
    task_id: Option<TaskId>,
    #[command(flatten)]
    connection: Connection,
}

/// Names the task where nothing else does.
pub(super) const TASK_ID: &str = "FASTWORKER_TASK_ID";

const AFTER_HELP: &str = "\
Exit codes: 0 it has not ended, or has succeeded; 1 it failed or was cancelled; 5 no such task is known.";

impl Status {
    pub(super) fn run(self) -> Outcome {
        let id = one(self.id, self.task_id)?;
        self.connection.run(async |client| match client.describe(&id).await? {
            Some(task) => render::status(&task, self.connection.json),
            None => Err(unknown(&id)),
        })
    }
}

/// The one task that is named: behind the command, else by the option, else by the variable.
pub(super) fn one(behind: Option<TaskId>, option: Option<TaskId>) -> Result<TaskId, Failure> {
    // Not settled by clap, which takes a variable for an option.
    let by_variable = |id: &TaskId| env::var(TASK_ID).is_ok_and(|variable| variable == id.to_string());
    match (behind, option) {
        (Some(behind), Some(option)) if behind != option && !by_variable(&option) => {
            Err(Failure::new(WRONG_USAGE, format!("two task ids are given: {behind} and {option}"))
                .hint("give one, either as ID or with --task-id"))
        }
        (Some(id), _) | (None, Some(id)) => Ok(id),
        (None, None) => Err(Failure::new(WRONG_USAGE, "no task id is given").hint("give one as ID")),
    }
}

/// A task that nobody knows.
pub(super) fn unknown(id: &TaskId) -> Failure {
    Failure::new(NOT_FOUND, format!("there is no task {id}"))
        .hint(
            "fastworker tasks lists the tasks that are known; results expire after the control plane's \
             --result-cache-ttl, and are lost when it restarts",
        )
        .about(id)
}
