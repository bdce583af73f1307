//! `fastworker cancel`

use std::time::Duration;

use clap::Args;

use super::{Connection, Failure, Outcome, TASK_FAILED, TaskId, render, status::unknown};
use crate::protocol::Found;

#[derive(Args, Debug)]
pub(super) struct Cancel {
    /// The task's id
    #[arg(long, env = "FASTWORKER_TASK_ID", value_name = "ID")]
    task_id: TaskId,
    #[command(flatten)]
    connection: Connection,
}

impl Cancel {
    pub(super) fn run(self) -> Outcome {
        let id = &self.task_id;
        self.connection.run(async |client| {
            if client.cancel(id).await? {
                return render::cancelled(id, self.connection.json);
            }
            match client.lookup(id, Duration::ZERO).await? {
                Found::Ended(result) => Err(Failure::new(
                    TASK_FAILED,
                    format!("task {id} had ended already, with status {}", result.status),
                )),
                Found::Live(_) | Found::Unknown => Err(unknown(id)),
            }
        })
    }
}
