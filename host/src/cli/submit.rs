//! `fastworker submit`

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    CliError, CommandResult, ConnectionOptions, TaskId, call::TaskCall, parse_bool, parse_duration, parse_from_str,
    parse_json, render, values, waiting,
};
use crate::{
    client::{Client, ClientError},
    clock::after,
    config::Address,
    json::Json,
    protocol::{Found, WAIT_MAX},
    task::{CallbackInfo, NewTask, Task, TaskResult, TaskStatus},
};

/// Timeout for querying what a task waits for, after its submitter has timed out.
const DESCRIBE_TIMEOUT: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct SubmitCommand {
    #[command(flatten)]
    call: TaskCall,
    /// Delay before the first attempt
    #[arg(long, env = "FASTWORKER_COUNTDOWN", value_name = "DURATION", value_parser = parse_duration)]
    countdown: Option<Duration>,
    /// Task id [default: a new one]. Submitting the same id again has no further effect, so it has no variable
    #[arg(long, value_name = "ID", value_parser = values::parse_task_id)]
    task_id: Option<TaskId>,
    /// Address to send a callback to when the task ends; fastworker listen prints it
    #[arg(long, env = "FASTWORKER_CALLBACK", value_name = "ADDRESS", value_parser = parse_from_str::<Address>)]
    callback: Option<Address>,
    /// JSON document to send with the callback
    #[arg(long, env = "FASTWORKER_CALLBACK_DATA", value_name = "JSON", value_parser = parse_json, requires = "callback")]
    callback_data: Option<Json>,
    /// Print the task's id without waiting for the result
    #[arg(long, env = "FASTWORKER_NON_BLOCKING", value_parser = parse_bool, conflicts_with = "follow")]
    non_blocking: bool,
    /// Show the task's progress and log while it runs
    #[arg(long, env = "FASTWORKER_SUBMIT_FOLLOW", value_parser = parse_bool)]
    follow: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
}

const AFTER_HELP: &str = "\
Exit codes: 0 the task has succeeded (with --non-blocking: was submitted), 1 it failed or was cancelled, \
4 it has not ended within --timeout and continues to run, 5 no worker has the task.";

impl SubmitCommand {
    pub(super) fn run(self) -> CommandResult {
        let json = self.connection.json;
        let task = self.task();
        // The task cannot exist before the client has connected.
        let (id, may_exist) = (task.id.clone(), Cell::new(false));
        let result = self.connection.run(async |client| {
            may_exist.set(true);
            let (timeout, has_output) = (self.connection.timeout, Cell::new(false));
            if self.non_blocking {
                waiting::run_with_notes(client, &id, timeout, &has_output, client.send(task)).await?;
                // A task that was refused is an error. A task that ran is not, even if it has already failed: the
                // caller gets its id, and requests the result.
                let was_refused = |result: &TaskResult| result.status == TaskStatus::Failure && result.attempts == 0;
                let details = describe_for_json(client, &id, json).await?;
                return match client.get_result(&id).filter(was_refused) {
                    Some(failed) => render::print_task_result(&failed, details.as_ref(), json),
                    None => render::print_submitted(&id, details.as_ref(), json),
                };
            }
            if self.follow {
                let follow = follow(client, task, timeout, json, &has_output);
                return waiting::run_with_notes(client, &id, timeout, &has_output, follow).await;
            }
            match waiting::run_with_notes(client, &id, timeout, &has_output, client.run(task)).await {
                Ok(result) => {
                    render::print_task_result(&result, describe_for_json(client, &id, json).await?.as_ref(), json)
                }
                Err(timed_out @ ClientError::TimedOut { .. }) => {
                    Err(CliError::from(timed_out).with_detail(pending_reason(client, &id).await))
                }
                Err(error) => Err(error.into()),
            }
        });
        result.map_err(|error| if may_exist.get() { error.for_interrupted_task(&id) } else { error })
    }

    fn task(&self) -> NewTask {
        NewTask {
            id: self.task_id.clone().unwrap_or_default(),
            args: self.call.args(),
            kwargs: self.call.kwargs(),
            policy: self.call.policy(),
            countdown: self.countdown,
            callback: self.callback.as_ref().map(|address| CallbackInfo {
                data: self.callback_data.clone(),
                ..CallbackInfo::new(address.to_string())
            }),
            unknown: self.call.unknown(),
            ..NewTask::new(&self.call.task_name)
        }
    }
}

/// All that is known about a task, if it is needed for JSON output.
pub(super) async fn describe_for_json(client: &Client, id: &TaskId, json: bool) -> Result<Option<Task>, ClientError> {
    if json { client.describe(id).await } else { Ok(None) }
}

/// The reason why a task has not ended within the timeout, if the control plane replies.
async fn pending_reason(client: &Client, id: &TaskId) -> Option<String> {
    let reply = tokio::time::timeout(DESCRIBE_TIMEOUT, client.describe(id)).await.ok()?;
    render::pending_reason(&reply.ok()??)
}

/// Submits a task and shows its reports until it has ended. Submits it again if a restarted control plane
/// does not know it.
async fn follow(
    client: &Client,
    task: NewTask,
    timeout: Duration,
    json: bool,
    has_output: &Cell<bool>,
) -> CommandResult {
    let deadline = after(timeout);
    let id = client.send(task.clone()).await?;
    let mut seen = 0;
    let mut view = render::ProgressView::new();
    let result = loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            break Err(CliError::timed_out(&id, timeout).with_detail(pending_reason(client, &id).await));
        }
        let request =
            tokio::time::timeout(remaining + DESCRIBE_TIMEOUT, client.follow(&id, seen, remaining.min(WAIT_MAX)));
        let reply = match request.await {
            Ok(Ok(reply)) => reply,
            Ok(Err(ClientError::Unreachable { .. })) | Err(_) => continue,
            Ok(Err(error)) => break Err(error.into()),
        };
        seen = reply.last;
        if !reply.reports.is_empty() {
            has_output.set(true);
            view.show(&reply.reports);
        }
        match reply.task {
            Found::Ended(result) => {
                view.finish();
                return render::print_task_result(&result, describe_for_json(client, &id, json).await?.as_ref(), json);
            }
            Found::Live(_) => {}
            Found::Unknown => {
                seen = 0;
                match client.send(task.clone()).await {
                    Ok(_) | Err(ClientError::Unreachable { .. }) => {}
                    Err(error) => break Err(error.into()),
                }
            }
        }
    };
    view.finish();
    result
}
