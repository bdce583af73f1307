//! `fastworker result`

use std::{cell::Cell, time::Duration};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{
    Connection, Failure, Outcome, TIMED_OUT, TaskId, complete, render,
    status::{TASK_ID, one, unknown},
    submit::known,
    switch, values, waiting,
};
use crate::{client::Client, protocol::Found};

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, override_usage = "fastworker result [OPTIONS] <ID>")]
pub(super) struct ResultOf {
    /// The task's id
    #[arg(value_name = "ID", value_parser = values::task_id, required_unless_present = "task_id", add = ArgValueCandidates::new(complete::tasks))]
    id: Option<TaskId>,
    /// The task's id, as an option
    #[arg(long, env = TASK_ID, value_name = "ID", value_parser = values::task_id,
          add = ArgValueCandidates::new(complete::tasks))]
    task_id: Option<TaskId>,
    /// Wait for the task to end, at most --timeout
    #[arg(long, env = "FASTWORKER_WAIT", value_parser = switch)]
    wait: bool,
    #[command(flatten)]
    connection: Connection,
}

const AFTER_HELP: &str = "\
Exit codes: 0 it has succeeded, 1 it failed or was cancelled, 4 it has not ended (yet, or within --timeout), \
5 no such task is known.";

impl ResultOf {
    pub(super) fn run(self) -> Outcome {
        let (id, json) = (&one(self.id, self.task_id)?, self.connection.json);
        let wait = if self.wait { self.connection.timeout } else { Duration::ZERO };
        let look = async |client: &Client| {
            let lookup = client.lookup(id, wait);
            if !self.wait {
                return lookup.await;
            }
            waiting::until_ended(client, id, wait, &Cell::new(false), lookup).await
        };
        let outcome = self.connection.run(async |client| match look(client).await? {
            Found::Ended(result) => {
                let known = known(client, id, json).await?;
                render::result_of(&result, known.as_ref(), json)
            }
            Found::Unknown => Err(unknown(id)),
            Found::Live(task) if json => render::status(&task, json).map(|_| TIMED_OUT),
            Found::Live(task) if self.wait => Err(Failure::not_ended(id, wait).with(render::standing(&task))),
            Found::Live(task) => {
                let words = format!("task {id} has not ended: it is {}", task.status);
                let words = render::standing(&task).map_or(words.clone(), |standing| format!("{words}; {standing}"));
                Err(Failure::new(TIMED_OUT, words)
                    .hint(format!("wait for it with: fastworker result {id} --wait"))
                    .about(id))
            }
        });
        outcome.map_err(|failure| failure.leaves(id))
    }
}
