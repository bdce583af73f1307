//! The call of a task: the options that `submit` and `schedule add` share.

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{
    Json, Kwargs, TaskPriority, args_to_json, complete, kwargs_to_json, parse_bool, parse_duration, parse_from_str,
    parse_json_array, parse_kwargs, parse_number, parse_positive_duration, values::parse_task_name,
};
use crate::task::{Policy, Unknown};

#[derive(Args, Debug)]
pub(super) struct TaskCall {
    /// Name of the task
    #[arg(long, env = "FASTWORKER_TASK_NAME", value_name = "NAME", value_parser = parse_task_name,
          add = ArgValueCandidates::new(complete::task_names))]
    pub(super) task_name: String,
    /// Positional arguments. Each is parsed as JSON if it is valid JSON, else passed as a string
    #[arg(long, env = "FASTWORKER_ARGS", value_name = "VALUE", num_args = 0.., allow_negative_numbers = true)]
    args: Vec<String>,
    /// Named arguments: one or more NAME=VALUE, or a JSON object
    #[arg(long, env = "FASTWORKER_KWARGS", value_name = "NAME=VALUE", num_args = 1.., value_parser = parse_kwargs)]
    kwargs: Vec<Kwargs>,
    /// Positional arguments as one JSON array
    #[arg(long, env = "FASTWORKER_ARGS_JSON", value_name = "ARRAY", value_parser = parse_json_array, conflicts_with = "args")]
    args_json: Option<Json>,
    /// Priority: critical, high, normal or low [default: the task's own, else normal]
    #[arg(long, env = "FASTWORKER_PRIORITY", value_name = "PRIORITY", value_parser = parse_from_str::<TaskPriority>,
          add = ArgValueCandidates::new(complete::priorities))]
    priority: Option<TaskPriority>,
    /// Maximum number of retries [default: the task's own, else 0]
    #[arg(long, env = "FASTWORKER_MAX_RETRIES", value_name = "COUNT", value_parser = parse_number::<u32, 0, { u32::MAX as u64 }>)]
    max_retries: Option<u32>,
    /// Delay before the first retry; each further delay is longer [default: the task's own, else 60s]
    #[arg(long, env = "FASTWORKER_RETRY_DELAY", value_name = "DURATION", value_parser = parse_duration)]
    retry_delay: Option<Duration>,
    /// Maximum running time of each attempt [default: the task's own, else 300s]
    #[arg(long, env = "FASTWORKER_TASK_TIMEOUT", value_name = "DURATION", value_parser = parse_positive_duration)]
    task_timeout: Option<Duration>,
    /// If no worker has the task, wait for one instead of failing
    #[arg(long, env = "FASTWORKER_WAIT_FOR_WORKER", value_parser = parse_bool)]
    wait_for_worker: bool,
}

impl TaskCall {
    /// The positional arguments as a JSON array.
    pub(super) fn args(&self) -> Json {
        self.args_json.clone().unwrap_or_else(|| args_to_json(&self.args))
    }

    /// The named arguments as a JSON object.
    pub(super) fn kwargs(&self) -> Json {
        kwargs_to_json(&self.kwargs)
    }

    /// The policy that these options set.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            priority: self.priority,
            timeout: self.task_timeout,
            max_retries: self.max_retries,
            retry_delay: self.retry_delay,
            ..Policy::default()
        }
    }

    /// The behaviour if no worker has the task.
    pub(super) fn unknown(&self) -> Unknown {
        if self.wait_for_worker { Unknown::Wait } else { Unknown::Fail }
    }
}
