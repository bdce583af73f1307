//! `fastworker submit`

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    Connection, Failure, Outcome, TaskId, call::TaskCall, document, named, render, span, switch, values, waiting,
};
use crate::{
    client::{Client, ClientError},
    clock::after,
    config::Address,
    json::Json,
    protocol::{Found, WAIT_MAX},
    task::{CallbackInfo, NewTask, Task, TaskResult, TaskStatus},
};

/// How long to ask what a task waits for, after its submitter has waited long enough.
const STANDING_MAX: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct SubmitTask {
    #[command(flatten)]
    call: TaskCall,
    /// Delay the first attempt by this much
    #[arg(long, env = "FASTWORKER_COUNTDOWN", value_name = "SPAN", value_parser = span)]
    countdown: Option<Duration>,
    /// Use this task id instead of a new one. Submitting the same id twice is submitting once, so no variable sets it
    #[arg(long, value_name = "ID", value_parser = values::task_id)]
    task_id: Option<TaskId>,
    /// Send a message to this address when the task ends. fastworker listen prints it
    #[arg(long, env = "FASTWORKER_CALLBACK", value_name = "ADDRESS", value_parser = named::<Address>)]
    callback: Option<Address>,
    /// Send this JSON document along with the callback
    #[arg(long, env = "FASTWORKER_CALLBACK_DATA", value_name = "JSON", value_parser = document, requires = "callback")]
    callback_data: Option<Json>,
    /// Print the task's id and do not wait
    #[arg(long, env = "FASTWORKER_NON_BLOCKING", value_parser = switch, conflicts_with = "follow")]
    non_blocking: bool,
    /// Show the task's progress and log while it runs
    #[arg(long, env = "FASTWORKER_SUBMIT_FOLLOW", value_parser = switch)]
    follow: bool,
    #[command(flatten)]
    connection: Connection,
}

const AFTER_HELP: &str = "\
Exit codes: 0 the task has succeeded, or with --non-blocking was submitted; 1 it failed or was cancelled; \
4 it has not ended within --timeout, and goes on; 5 no worker has it.";

impl SubmitTask {
    pub(super) fn run(self) -> Outcome {
        let json = self.connection.json;
        let task = self.task();
        // Before the control plane has answered, there is no task.
        let (id, is_there) = (task.id.clone(), Cell::new(false));
        let outcome = self.connection.run(async |client| {
            is_there.set(true);
            let (timeout, shown) = (self.connection.timeout, Cell::new(false));
            if self.non_blocking {
                waiting::until_ended(client, &id, timeout, &shown, client.send(task)).await?;
                // One that was refused, as nobody has it, say, is an error. One that ran is not, however
                // quick it was: a script gets its id, and asks how it ended.
                let refused = |result: &TaskResult| result.status == TaskStatus::Failure && result.attempts == 0;
                let known = known(client, &id, json).await?;
                return match client.get_result(&id).filter(refused) {
                    Some(failed) => render::result_of(&failed, known.as_ref(), json),
                    None => render::submitted(&id, known.as_ref(), json),
                };
            }
            if self.follow {
                let follow = follow(client, task, timeout, json, &shown);
                return waiting::until_ended(client, &id, timeout, &shown, follow).await;
            }
            match waiting::until_ended(client, &id, timeout, &shown, client.run(task)).await {
                Ok(result) => render::result_of(&result, known(client, &id, json).await?.as_ref(), json),
                Err(late @ ClientError::TimedOut { .. }) => Err(Failure::from(late).with(standing(client, &id).await)),
                Err(error) => Err(error.into()),
            }
        });
        outcome.map_err(|failure| if is_there.get() { failure.leaves(&id) } else { failure })
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

/// All that is known of a task, if it is to be shown.
pub(super) async fn known(client: &Client, id: &TaskId, json: bool) -> Result<Option<Task>, ClientError> {
    if json { client.describe(id).await } else { Ok(None) }
}

/// What a task that has not ended in time waits for, if anybody can say.
async fn standing(client: &Client, id: &TaskId) -> Option<String> {
    let asked = tokio::time::timeout(STANDING_MAX, client.describe(id)).await.ok()?;
    render::standing(&asked.ok()??)
}

/// Submits a task and shows what it says until it has ended. One that a restarted control plane does not
/// know is submitted again.
async fn follow(client: &Client, task: NewTask, timeout: Duration, json: bool, shown: &Cell<bool>) -> Outcome {
    let until = after(timeout);
    let id = client.send(task.clone()).await?;
    let mut seen = 0;
    let mut watch = render::Watch::new();
    let outcome = loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Err(Failure::not_ended(&id, timeout).with(standing(client, &id).await));
        }
        let asked = tokio::time::timeout(left + STANDING_MAX, client.follow(&id, seen, left.min(WAIT_MAX)));
        let told = match asked.await {
            Ok(Ok(told)) => told,
            Ok(Err(ClientError::Unreachable { .. })) | Err(_) => continue,
            Ok(Err(error)) => break Err(error.into()),
        };
        seen = told.last;
        if !told.reports.is_empty() {
            shown.set(true);
            watch.show(&told.reports);
        }
        match told.task {
            Found::Ended(result) => {
                watch.finish();
                return render::result_of(&result, known(client, &id, json).await?.as_ref(), json);
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
    watch.finish();
    outcome
}
