//! Which task to call, and how: what `submit` and `schedule add` have in common.

use std::time::Duration;

use clap::{Args, builder::BoolishValueParser};
use clap_complete::engine::ArgValueCandidates;

use super::{Json, TaskPriority, array, complete, json_array, object, pair, span, span_above_zero};
use crate::task::{Policy, Unknown};

#[derive(Args, Debug)]
pub(super) struct TaskCall {
    /// Task name to execute
    #[arg(long, env = "FASTWORKER_TASK_NAME", value_name = "NAME", add = ArgValueCandidates::new(complete::task_names))]
    pub(super) task_name: String,
    /// Task arguments: each is read as JSON where it is JSON, else as text
    #[arg(long, env = "FASTWORKER_ARGS", value_name = "VALUE", num_args = 0.., allow_negative_numbers = true)]
    args: Vec<String>,
    /// Named arguments
    #[arg(long, env = "FASTWORKER_KWARGS", value_name = "NAME=VALUE", num_args = 1.., value_parser = pair)]
    kwargs: Vec<(String, Json)>,
    /// Task arguments as one JSON array
    #[arg(long, env = "FASTWORKER_ARGS_JSON", value_name = "ARRAY", value_parser = json_array, conflicts_with = "args")]
    args_json: Option<Json>,
    /// critical, high, normal or low [default: the task's own, else normal]
    #[arg(long, env = "FASTWORKER_PRIORITY", add = ArgValueCandidates::new(complete::priorities))]
    priority: Option<TaskPriority>,
    /// How many attempts may follow a failed one [default: the task's own, else 0]
    #[arg(long, env = "FASTWORKER_MAX_RETRIES", value_name = "COUNT")]
    max_retries: Option<u32>,
    /// The wait before the first retry [default: the task's own, else 60s]
    #[arg(long, env = "FASTWORKER_RETRY_DELAY", value_name = "SPAN", value_parser = span)]
    retry_delay: Option<Duration>,
    /// How long each attempt may run [default: the task's own, else 300s]
    #[arg(long, env = "FASTWORKER_TASK_TIMEOUT", value_name = "SPAN", value_parser = span_above_zero)]
    task_timeout: Option<Duration>,
    /// If no worker has the task, wait for one that has
    #[arg(long, env = "FASTWORKER_WAIT_FOR_WORKER", value_parser = BoolishValueParser::new())]
    wait_for_worker: bool,
}

impl TaskCall {
    /// The positional arguments, a JSON array.
    pub(super) fn args(&self) -> Json {
        self.args_json.clone().unwrap_or_else(|| array(&self.args))
    }

    /// The named arguments, a JSON object.
    pub(super) fn kwargs(&self) -> Json {
        object(&self.kwargs)
    }

    /// How the task wants to be treated.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            priority: self.priority,
            timeout: self.task_timeout,
            max_retries: self.max_retries,
            retry_delay: self.retry_delay,
            ..Policy::default()
        }
    }

    /// What to do if no worker has the task.
    pub(super) fn unknown(&self) -> Unknown {
        if self.wait_for_worker { Unknown::Wait } else { Unknown::Fail }
    }
}
