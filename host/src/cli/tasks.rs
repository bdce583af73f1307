//! `fastworker tasks`

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{Connection, Outcome, complete, render, span};
use crate::{clock::Timestamp, protocol::TaskQuery, task::TaskStatus};

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Tasks {
    /// Only tasks that stand so: pending, scheduled, started, retrying, success, failure, cancelled;
    /// several, and repeated
    #[arg(long, env = "FASTWORKER_STATUS", value_name = "STATUS", num_args = 1.., value_delimiter = ',',
          add = ArgValueCandidates::new(complete::statuses))]
    status: Vec<TaskStatus>,
    /// Only tasks of this task name
    #[arg(long, env = "FASTWORKER_NAME", value_name = "NAME", add = ArgValueCandidates::new(complete::task_names))]
    name: Option<String>,
    /// Only tasks that this worker runs or ran
    #[arg(long, env = "FASTWORKER_WORKER", value_name = "ID", add = ArgValueCandidates::new(complete::workers))]
    worker: Option<String>,
    /// Only tasks that were submitted, began or ended within so long
    #[arg(long, env = "FASTWORKER_SINCE", value_name = "SPAN", value_parser = span)]
    since: Option<Duration>,
    /// How many to show, at most 1000
    #[arg(long, env = "FASTWORKER_LIMIT", value_name = "COUNT", default_value_t = 25,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    connection: Connection,
}

const AFTER_HELP: &str = "\
Running tasks come first, then waiting ones in the order of the queue, then scheduled ones, then ended \
ones, the newest first. Ended ones are shown as long as their result is kept.";

impl Tasks {
    pub(super) fn run(self) -> Outcome {
        let now = Timestamp::now();
        let mut statuses = self.status;
        statuses.sort_unstable();
        statuses.dedup();
        let query = TaskQuery {
            statuses,
            name: self.name,
            worker_id: self.worker,
            since: self.since.map(|span| now - span),
            offset: 0,
            limit: self.limit,
        };
        let json = self.connection.json;
        self.connection.run(async |client| render::tasks(&client.tasks(query).await?, json))
    }
}
