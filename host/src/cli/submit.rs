//! `fastworker submit`

use std::time::{Duration, Instant};

use clap::{Args, builder::BoolishValueParser};
use clap_complete::engine::ArgValueCandidates;

use super::{
    Connection, Failure, Json, NOT_FOUND, Outcome, TaskId, TaskPriority, array, complete, document, json_array, object,
    pair, render, span,
};
use crate::{
    client::Client,
    config::Address,
    protocol::{Found, WAIT_MAX},
    task::{CallbackInfo, NewTask, Policy, TaskStatus, Unknown},
};

#[derive(Args, Debug)]
pub(super) struct SubmitTask {
    /// Task name to execute
    #[arg(long, env = "FASTWORKER_TASK_NAME", value_name = "NAME", add = ArgValueCandidates::new(complete::task_names))]
    task_name: String,
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
    #[arg(long, env = "FASTWORKER_TASK_TIMEOUT", value_name = "SPAN", value_parser = span)]
    task_timeout: Option<Duration>,
    /// Wait so long before the first attempt
    #[arg(long, env = "FASTWORKER_COUNTDOWN", value_name = "SPAN", value_parser = span)]
    countdown: Option<Duration>,
    /// The task's id, instead of a new one: submitting an id twice is submitting once. It has no
    /// variable, under which every submission would be the first one again
    #[arg(long, value_name = "ID")]
    task_id: Option<TaskId>,
    /// Send word of the task's end to this address: fastworker listen shows it
    #[arg(long, env = "FASTWORKER_CALLBACK", value_name = "ADDRESS")]
    callback: Option<Address>,
    /// A JSON document to send along with the callback
    #[arg(long, env = "FASTWORKER_CALLBACK_DATA", value_name = "JSON", value_parser = document, requires = "callback")]
    callback_data: Option<Json>,
    /// If no worker has the task, wait for one that has
    #[arg(long, env = "FASTWORKER_WAIT_FOR_WORKER", value_parser = BoolishValueParser::new())]
    wait_for_worker: bool,
    /// Return immediately with the task id
    #[arg(long, env = "FASTWORKER_NON_BLOCKING", value_parser = BoolishValueParser::new(), conflicts_with = "follow")]
    non_blocking: bool,
    /// Show the task's progress and log while it runs
    #[arg(long, env = "FASTWORKER_FOLLOW", value_parser = BoolishValueParser::new())]
    follow: bool,
    #[command(flatten)]
    connection: Connection,
}

impl SubmitTask {
    pub(super) fn run(self) -> Outcome {
        let json = self.connection.json;
        let task = self.task();
        self.connection.run(async |client| {
            if self.non_blocking {
                let id = client.send(task).await?;
                // One that nobody has, say, has ended already, and will not be missed by a script.
                return match client.get_result(&id).filter(|result| result.status == TaskStatus::Failure) {
                    Some(failed) => render::result(&failed, json),
                    None => render::submitted(&id, json),
                };
            }
            if self.follow {
                return follow(client, task, self.connection.timeout, json).await;
            }
            let result = client.run(task).await?;
            render::result(&result, json)
        })
    }

    fn task(&self) -> NewTask {
        NewTask {
            id: self.task_id.clone().unwrap_or_default(),
            args: self.args_json.clone().unwrap_or_else(|| array(&self.args)),
            kwargs: object(&self.kwargs),
            policy: Policy {
                priority: self.priority,
                timeout: self.task_timeout,
                max_retries: self.max_retries,
                retry_delay: self.retry_delay,
                ..Policy::default()
            },
            countdown: self.countdown,
            callback: self.callback.as_ref().map(|address| CallbackInfo {
                data: self.callback_data.clone(),
                ..CallbackInfo::new(address.to_string())
            }),
            unknown: if self.wait_for_worker { Unknown::Wait } else { Unknown::Fail },
            ..NewTask::new(&self.task_name)
        }
    }
}

/// Submits a task and shows what it says until it has ended.
async fn follow(client: &Client, task: NewTask, timeout: Duration, json: bool) -> Outcome {
    let id = client.send(task).await?;
    let (started, mut after) = (Instant::now(), 0);
    let mut watch = render::Watch::new();
    loop {
        let Some(left) = timeout.checked_sub(started.elapsed()) else {
            watch.finish();
            return Err(Failure::not_ended(&id, timeout));
        };
        let told = client.follow(&id, after, left.min(WAIT_MAX)).await?;
        after = told.last;
        watch.show(&told.reports);
        match told.task {
            Found::Ended(result) => {
                watch.finish();
                return render::result(&result, json);
            }
            Found::Live(_) => {}
            Found::Unknown => {
                return Err(Failure::new(NOT_FOUND, format!("the control plane no longer knows task {id}"))
                    .hint("it may have started anew since; submit the task again"));
            }
        }
    }
}
