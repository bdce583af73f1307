//! `fastworker status`

use std::time::Duration;

use clap::Args;

use super::{Connection, Failure, NOT_FOUND, Outcome, TaskId, render};
use crate::protocol::Found;

#[derive(Args, Debug)]
pub(super) struct Status {
    /// The task's id
    #[arg(long, env = "FASTWORKER_TASK_ID", value_name = "ID")]
    task_id: TaskId,
    #[command(flatten)]
    connection: Connection,
}

impl Status {
    pub(super) fn run(self) -> Outcome {
        self.connection.run(async |client| match client.lookup(&self.task_id, Duration::ZERO).await? {
            Found::Ended(result) => render::status_of_ended(&result, self.connection.json),
            Found::Live(task) => render::status_of_live(&task, self.connection.json),
            Found::Unknown => Err(unknown(&self.task_id)),
        })
    }
}

/// A task that nobody knows.
pub(super) fn unknown(id: &TaskId) -> Failure {
    Failure::new(NOT_FOUND, format!("no task {id} is known"))
        .hint("results are kept for a while only: see --result-cache-size and --result-cache-ttl of the control plane")
}
