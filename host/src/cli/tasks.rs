//! `fastworker tasks`

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{CommandResult, ConnectionOptions, complete, parse_duration, parse_from_str, parse_number, render};
use crate::{clock::Timestamp, protocol::TaskQuery, task::TaskStatus};

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct TasksCommand {
    /// Only tasks with this status: pending, scheduled, started, retrying, success, failure or cancelled. Takes
    /// several values, and can be repeated
    #[arg(long, env = "FASTWORKER_STATUS", value_name = "STATUS", num_args = 1.., value_delimiter = ',',
          value_parser = parse_from_str::<TaskStatus>, add = ArgValueCandidates::new(complete::statuses))]
    status: Vec<TaskStatus>,
    /// Only tasks with this name
    #[arg(long, env = "FASTWORKER_NAME", value_name = "NAME", add = ArgValueCandidates::new(complete::task_names))]
    name: Option<String>,
    /// Only tasks that this worker runs or has run
    #[arg(long, env = "FASTWORKER_WORKER", value_name = "ID", add = ArgValueCandidates::new(complete::workers))]
    worker: Option<String>,
    /// Only tasks that were submitted, started or ended within this time
    #[arg(long, env = "FASTWORKER_SINCE", value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// Maximum number of tasks to list, at most 1000
    #[arg(long, env = "FASTWORKER_LIMIT", value_name = "COUNT", default_value = "25",
          value_parser = parse_number::<u32, 1, 1000>)]
    limit: u32,
    /// Number of tasks to skip
    #[arg(long, env = "FASTWORKER_OFFSET", value_name = "COUNT", default_value = "0",
          value_parser = parse_number::<u64, 0, { u64::MAX }>)]
    offset: u64,
    #[command(flatten)]
    connection: ConnectionOptions,
}

const AFTER_HELP: &str = "\
Started tasks are listed first, then pending tasks in queue order, then scheduled tasks, then ended tasks, newest \
first. An ended task is listed as long as its result is kept.";

impl TasksCommand {
    pub(super) fn run(self) -> CommandResult {
        let now = Timestamp::now();
        let mut statuses = self.status;
        statuses.sort_unstable();
        statuses.dedup();
        let query = TaskQuery {
            statuses,
            name: self.name,
            worker_id: self.worker,
            since: self.since.map(|duration| now - duration),
            offset: self.offset,
            limit: self.limit,
        };
        let json = self.connection.json;
        self.connection.run(async |client| render::print_tasks(&client.tasks(query.clone()).await?, &query, json))
    }
}
