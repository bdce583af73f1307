//! Queries and commands about tasks, workers and events.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Client, ClientError, millis, single::pause_if_early};
use crate::{
    clock::after,
    protocol::{EventQuery, Events, Follow, Found, Reply, Reports, Request, TaskPage, TaskQuery, WAIT_MAX, WorkerInfo},
    task::{Task, TaskId, TaskResult},
};

/// Extra time for the reply to a lookup that timed out.
const LOOKUP_SLACK: Duration = Duration::from_secs(2);

impl Client {
    /// Returns the result of a task. None if it has not ended, or is no longer known.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: fastworker::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let id = client.delay("add", (5, 3)).await?;
    /// if let Some(result) = client.get_task_result(&id).await? {
    ///     println!("{}", result.status);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_task_result(&self, task_id: &TaskId) -> Result<Option<TaskResult>, ClientError> {
        match self.lookup(task_id, Duration::ZERO).await? {
            Found::Ended(result) => Ok(Some(Arc::unwrap_or_clone(result))),
            Found::Live(_) | Found::Unknown => Ok(None),
        }
    }

    /// Returns the state of a task, after waiting up to `wait` for its end.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: fastworker::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use fastworker::protocol::Found;
    ///
    /// let id = client.delay("add", (5, 3)).await?;
    /// if let Found::Ended(result) = client.lookup(&id, Duration::from_secs(60)).await? {
    ///     println!("{:?}", result.result);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn lookup(&self, task_id: &TaskId, wait: Duration) -> Result<Found, ClientError> {
        let until = after(wait);
        let latest = after(self.0.config.timeout.max(wait.saturating_add(LOOKUP_SLACK)));
        loop {
            let sent_at = Instant::now();
            let left = until.saturating_duration_since(sent_at).min(WAIT_MAX);
            let found = self.0.unless_stopped(self.0.look_up(vec![task_id.clone()], left, latest)).await?.pop();
            match found {
                Some(Found::Live(_)) if !left.is_zero() => {
                    self.0.unless_stopped(pause_if_early(sent_at, left)).await?;
                }
                Some(found) => {
                    if let Found::Ended(result) = &found {
                        self.0.cache_result(result);
                    }
                    return Ok(found);
                }
                None => return Ok(Found::Unknown),
            }
        }
    }

    /// Returns everything that is known of a task. None if it is not known.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply.
    pub async fn describe(&self, task_id: &TaskId) -> Result<Option<Task>, ClientError> {
        match self.0.unless_stopped(self.0.send_request(&Request::Describe(task_id.clone()))).await? {
            Reply::Described(task) => Ok(task.map(|task| *task)),
            _ => Err(self.0.unexpected_reply()),
        }
    }

    /// Cancels a task. False if it has already ended, or is not known.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: fastworker::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let id = client.delay("slow", (60,)).await?;
    /// assert!(client.cancel(&id).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn cancel(&self, task_id: &TaskId) -> Result<bool, ClientError> {
        let reply = self.0.unless_stopped(self.0.send_request(&Request::Cancel(vec![task_id.clone()]))).await?;
        match reply {
            Reply::Cancelled(stopped) if stopped.len() == 1 => Ok(stopped[0]),
            _ => Err(self.0.unexpected_reply()),
        }
    }

    /// Returns the workers, with the task modules that each has loaded.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: fastworker::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// for worker in client.list_tasks().await? {
    ///     println!("{}: {} modules", worker.id, worker.modules.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_tasks(&self) -> Result<Vec<WorkerInfo>, ClientError> {
        match self.0.unless_stopped(self.0.send_request(&Request::Workers)).await? {
            Reply::Workers(workers) => Ok(workers),
            _ => Err(self.0.unexpected_reply()),
        }
    }

    /// Returns the tasks that match a query, of all submitters.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply.
    pub async fn tasks(&self, query: TaskQuery) -> Result<TaskPage, ClientError> {
        match self.0.unless_stopped(self.0.send_request(&Request::Tasks(query))).await? {
            Reply::Tasks(page) => Ok(page),
            _ => Err(self.0.unexpected_reply()),
        }
    }

    /// Returns the events after number `after`, after waiting up to `wait` for the first.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply.
    pub async fn events(&self, after: u64, wait: Duration) -> Result<Events, ClientError> {
        let wait = wait.min(WAIT_MAX);
        let query = EventQuery { after, wait_ms: millis(wait) };
        match self.0.unless_stopped(self.0.long_poll(&Request::Events(query), wait)).await? {
            Reply::Events(events) => Ok(events),
            _ => Err(self.0.unexpected_reply()),
        }
    }

    /// Returns the log lines and progress of a task after report number `after`, after waiting up to
    /// `wait` for the first.
    ///
    /// # Errors
    /// [`ClientError`] if the control plane did not reply.
    pub async fn follow(&self, task_id: &TaskId, after: u64, wait: Duration) -> Result<Reports, ClientError> {
        let wait = wait.min(WAIT_MAX);
        let follow = Follow { id: task_id.clone(), after, wait_ms: millis(wait) };
        match self.0.unless_stopped(self.0.long_poll(&Request::Follow(follow), wait)).await? {
            Reply::Reports(reports) => Ok(reports),
            _ => Err(self.0.unexpected_reply()),
        }
    }
}
