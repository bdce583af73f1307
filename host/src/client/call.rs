//! Builder of one submission.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use serde::Serialize;

use super::{Client, ClientError};
use crate::{
    json::Json,
    task::{CallbackInfo, NewTask, TaskId, TaskPriority, Unknown},
};

/// A submission with its options. It is sent when it is awaited.
///
/// # Examples
///
/// ```no_run
/// # async fn example(client: fastworker::client::Client) -> Result<(), fastworker::client::ClientError> {
/// use std::{collections::BTreeMap, time::Duration};
///
/// let call = client.submit_task("resize", ("photo.jpg",)).kwargs(BTreeMap::from([("width", 800)]));
/// let result = call.task_timeout(Duration::from_secs(20)).max_retries(3).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is sent before it is awaited"]
pub struct Call<'a, T> {
    client: &'a Client,
    task: Result<NewTask, ClientError>,
    send: fn(&'a Client, NewTask) -> Sending<'a, T>,
}

type Sending<'a, T> = Pin<Box<dyn Future<Output = Result<T, ClientError>> + Send + 'a>>;

impl<T> std::fmt::Debug for Call<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Call").field(&self.task).finish()
    }
}

impl<'a, T> Call<'a, T> {
    pub(super) fn new(
        client: &'a Client,
        task_name: &str,
        args: impl Serialize,
        send: fn(&'a Client, NewTask) -> Sending<'a, T>,
    ) -> Self {
        let args = list_of(&args);
        let task = args.map(|args| NewTask { args, ..NewTask::new(task_name) });
        Self { client, task, send }
    }

    fn with(mut self, change: impl FnOnce(&mut NewTask)) -> Self {
        if let Ok(task) = &mut self.task {
            change(task);
        }
        self
    }

    /// Named arguments: anything that serializes as a JSON object.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        match Json::of(&kwargs) {
            Ok(json) if json.as_str().starts_with('{') => self.with(|task| task.kwargs = json),
            Ok(json) => {
                self.task =
                    Err(ClientError::BadArguments(format!("named arguments must be a JSON object, not {json}")));
                self
            }
            Err(error) => {
                self.task = Err(ClientError::BadArguments(error.to_string()));
                self
            }
        }
    }

    /// Priority of the task.
    pub fn priority(self, priority: TaskPriority) -> Self {
        self.with(|task| task.policy.priority = Some(priority))
    }

    /// Timeout of each attempt.
    pub fn task_timeout(self, timeout: Duration) -> Self {
        self.with(|task| task.policy.timeout = Some(timeout))
    }

    /// Maximum number of retries.
    pub fn max_retries(self, retries: u32) -> Self {
        self.with(|task| task.policy.max_retries = Some(retries))
    }

    /// Delay before the first retry.
    pub fn retry_delay(self, delay: Duration) -> Self {
        self.with(|task| task.policy.retry_delay = Some(delay))
    }

    /// Delay before the task may run.
    pub fn countdown(self, span: Duration) -> Self {
        self.with(|task| task.countdown = Some(span))
    }

    /// Id of the task, instead of a new one. Submitting an id again submits nothing new.
    pub fn task_id(self, id: TaskId) -> Self {
        self.with(|task| task.id = id)
    }

    /// Sends a callback to this address when the task has ended. A [`Listener`](super::Listener) or any other
    /// NNG PAIR socket listens there.
    pub fn callback(self, address: impl Into<String>) -> Self {
        self.with(|task| task.callback = Some(CallbackInfo::new(address)))
    }

    /// Data of the callback: anything that serializes. Requires [`callback`](Call::callback) or
    /// [`Client::delay_with_callback`] first.
    pub fn callback_data(mut self, data: impl Serialize) -> Self {
        let data = Json::of(&data).map_err(|error| ClientError::BadArguments(error.to_string()));
        if let Ok(task) = &mut self.task {
            match (&mut task.callback, data) {
                (Some(callback), Ok(data)) => callback.data = Some(data),
                (_, Err(error)) => self.task = Err(error),
                (None, _) => {
                    let message = "callback data without a callback to send it with: name its address first";
                    self.task = Err(ClientError::BadArguments(message.into()));
                }
            }
        }
        self
    }

    /// Waits for a worker that has the task, instead of failing if there is none.
    pub fn wait_for_worker(self) -> Self {
        self.with(|task| task.unknown = Unknown::Wait)
    }
}

impl<'a, T: Send + 'a> IntoFuture for Call<'a, T> {
    type Output = Result<T, ClientError>;
    type IntoFuture = Sending<'a, T>;

    fn into_future(self) -> Self::IntoFuture {
        match self.task {
            Ok(task) => (self.send)(self.client, task),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

/// Serializes `args` as a JSON array.
fn list_of(args: &impl Serialize) -> Result<Json, ClientError> {
    match Json::of(args) {
        Ok(json) if json.as_str().starts_with('[') => Ok(json),
        // The empty tuple.
        Ok(json) if json.as_str() == "null" => Ok(Json::empty_array()),
        Ok(json) => Err(ClientError::BadArguments(format!("positional arguments must be a JSON array, not {json}"))),
        Err(error) => Err(ClientError::BadArguments(error.to_string())),
    }
}
