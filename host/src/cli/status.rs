//! `fastworker status`

use std::{env, time::Duration};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{Connection, Failure, NOT_FOUND, Outcome, TaskId, WRONG_USAGE, complete, render};
use crate::protocol::Found;

#[derive(Args, Debug)]
pub(super) struct Status {
    /// The task's id
    #[arg(value_name = "ID", required_unless_present = "task_id", add = ArgValueCandidates::new(complete::tasks))]
    id: Option<TaskId>,
    /// The same, as an option
    #[arg(long, env = TASK_ID, value_name = "ID", add = ArgValueCandidates::new(complete::tasks))]
    task_id: Option<TaskId>,
    #[command(flatten)]
    connection: Connection,
}

/// Names the task where nothing else does.
pub(super) const TASK_ID: &str = "FASTWORKER_TASK_ID";

impl Status {
    pub(super) fn run(self) -> Outcome {
        let id = one(self.id, self.task_id)?;
        self.connection.run(async |client| match client.lookup(&id, Duration::ZERO).await? {
            Found::Ended(result) => render::status_of_ended(&result, self.connection.json),
            Found::Live(task) => render::status_of_live(&task, self.connection.json),
            Found::Unknown => Err(unknown(&id)),
        })
    }
}

/// The one task that is named: behind the command, else by the option, else by the variable.
pub(super) fn one(behind: Option<TaskId>, option: Option<TaskId>) -> Result<TaskId, Failure> {
    // Not settled by clap, which takes a variable for an option.
    let by_variable = |id: &TaskId| env::var(TASK_ID).is_ok_and(|variable| variable == id.to_string());
    match (behind, option) {
        (Some(behind), Some(option)) if behind != option && !by_variable(&option) => {
            Err(Failure::new(WRONG_USAGE, format!("two tasks are named: {behind} and {option}")))
        }
        (Some(id), _) | (None, Some(id)) => Ok(id),
        (None, None) => Err(Failure::new(WRONG_USAGE, "no task is named")),
    }
}

/// A task that nobody knows.
pub(super) fn unknown(id: &TaskId) -> Failure {
    Failure::new(NOT_FOUND, format!("no task {id} is known"))
        .hint("results are kept for a while only: see --result-cache-size and --result-cache-ttl of the control plane; fastworker tasks shows those that are known")
}
