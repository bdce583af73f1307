//! `fastworker result`

use std::{cell::Cell, time::Duration};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{
    CliError, CommandResult, ConnectionOptions, EXIT_NOT_FINISHED, TaskId, complete, parse_bool, render,
    status::{TASK_ID_VARIABLE, one_task_id, task_not_found},
    submit::describe_for_json,
    values, waiting,
};
use crate::{client::Client, protocol::Found};

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, override_usage = "fastworker result [OPTIONS] <ID>")]
pub(super) struct ResultCommand {
    /// Task id
    #[arg(value_name = "ID", value_parser = values::parse_task_id, required_unless_present = "task_id", add = ArgValueCandidates::new(complete::tasks))]
    id: Option<TaskId>,
    /// Task id, as an option
    #[arg(long, env = TASK_ID_VARIABLE, value_name = "ID", value_parser = values::parse_task_id,
          add = ArgValueCandidates::new(complete::tasks))]
    task_id: Option<TaskId>,
    /// Wait up to --timeout for the task to end
    #[arg(long, env = "FASTWORKER_WAIT", value_parser = parse_bool)]
    wait: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
}

const AFTER_HELP: &str = "\
Exit codes: 0 the task has succeeded, 1 it failed or was cancelled, 4 it has not ended (or, with --wait, not within \
--timeout), 5 there is no such task.";

impl ResultCommand {
    pub(super) fn run(self) -> CommandResult {
        let (id, json) = (&one_task_id(self.id, self.task_id)?, self.connection.json);
        let wait = if self.wait { self.connection.timeout } else { Duration::ZERO };
        let lookup = async |client: &Client| {
            let found = client.lookup(id, wait);
            if !self.wait {
                return found.await;
            }
            waiting::run_with_notes(client, id, wait, &Cell::new(false), found).await
        };
        let result = self.connection.run(async |client| match lookup(client).await? {
            Found::Ended(result) => {
                let details = describe_for_json(client, id, json).await?;
                render::print_task_result(&result, details.as_ref(), json)
            }
            Found::Unknown => Err(task_not_found(id)),
            Found::Live(task) if json => render::print_status(&task, json).map(|_| EXIT_NOT_FINISHED),
            Found::Live(task) if self.wait => {
                Err(CliError::timed_out(id, wait).with_detail(render::pending_reason(&task)))
            }
            Found::Live(task) => {
                let reason = render::pending_reason(&task).map(|reason| format!("; {reason}")).unwrap_or_default();
                let message = format!("task {id} has not ended: it is {}{reason}", task.status);
                Err(CliError::new(EXIT_NOT_FINISHED, message)
                    .hint(format!("wait for it with: fastworker result {id} --wait"))
                    .for_task(id))
            }
        });
        result.map_err(|error| error.for_interrupted_task(id))
    }
}
