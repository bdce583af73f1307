//! Client: submits tasks and reads their results.
//!
//! # Connection
//!
//! [`Client::start`] connects to the control plane at the address given by
//! [`ClientBuilder::control_plane_address`], or to one that is announced at the discovery address. A
//! client uses one connection for any number of concurrent calls. If it is lost, the client reconnects
//! and repeats the open requests. A client that found its control plane by discovery also follows its
//! cluster to a new address, but never switches to another cluster.
//!
//! # Retries
//!
//! The client generates each task's id, so that a repeated submission is still one task. A request
//! without a reply is repeated up to [`ClientBuilder::retries`] times. A control plane that is
//! stopping is waited for, as its successor may accept the same request. Each call is bounded by
//! [`ClientBuilder::timeout`]; a task that has not ended by then is still running.
//!
//! # Sessions
//!
//! While few calls wait, each is one request, whose reply is sent when its task has ended: one round
//! trip. While many wait, their tasks share frames ([`batch`]): they are submitted under one session,
//! and one open request collects the results of that session, many at a time.
//!
//! # Submitting
//!
//! | | from name and arguments | from a [`NewTask`] | many |
//! | --- | --- | --- | --- |
//! | returns the result | [`Client::submit_task`] | [`Client::run`] | [`Client::submit_many`] |
//! | returns the id immediately | [`Client::delay`] | [`Client::send`] | [`Client::delay_many`] |

use std::{
    future::Future,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lru::LruCache;
use serde::Serialize;
use tokio::sync::Notify;

use crate::{
    clock::after,
    lock::lock,
    protocol::{Found, Lookup, Reply, Request, Welcome},
    task::{NewTask, TaskId, TaskResult},
    transport::PAYLOAD_MAX,
};

mod batch;
mod builder;
mod call;
mod connection;
mod error;
mod join;
mod listener;
mod queries;
mod result_cache;
mod schedules;
mod single;

use batch::Batch;
pub use builder::ClientBuilder;
pub use call::Call;
use connection::Connection;
pub use error::{ClientError, Endpoint};
pub use listener::{Listener, Unreadable};
use result_cache::CachedTask;
pub use result_cache::RESULT_CACHE_MAX;
pub use schedules::{OnConflict, Schedules};
use single::SinglePermit;

/// A client of one control plane. Cheap to clone: clones share the connection, the session and the
/// cached results.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), fastworker::client::ClientError> {
/// use fastworker::client::Client;
///
/// let client = Client::builder().build();
/// client.start().await?;
/// let result = client.submit_task("add", (5, 3)).await?;
/// println!("{}: {:?}", result.status, result.result);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

struct Inner {
    config: ClientBuilder,
    connection: Mutex<Option<Arc<Connection>>>,
    result_cache: Mutex<LruCache<TaskId, CachedTask>>,
    batch: Batch,
    /// Number of open calls with their own request.
    single: AtomicUsize,
    stopped: AtomicBool,
    stopping: Notify,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Client {
    /// Returns a builder with the default options.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use fastworker::client::Client;
    ///
    /// let client = Client::builder().timeout(Duration::from_secs(5)).retries(1).build();
    /// ```
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Connects to the control plane: at the given address, or where one is announced. A given address
    /// is never replaced by an announced one.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if there is none within the timeout; start one with
    /// `fastworker control-plane`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use fastworker::client::Client;
    ///
    /// let client = Client::builder().control_plane_address("tcp://10.0.0.5:5555".parse()?).build();
    /// client.start().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start(&self) -> Result<(), ClientError> {
        let until = after(self.0.config.timeout);
        let connection = match &self.0.config.control_plane_address {
            Some(base) => self.0.join_given(base, until).await?,
            None => self.0.join_announced(until).await?,
        };
        *lock(&self.0.connection) = Some(Arc::new(connection));
        self.0.stopped.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Closes the connection. All open calls fail with [`ClientError::Stopped`].
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.0.stopping.notify_waiters();
        self.0.batch.stop();
        *lock(&self.0.connection) = None;
    }

    /// Returns the control plane's reply to the handshake. None while the client is stopped, and
    /// while it has just found another control plane.
    pub fn control_plane(&self) -> Option<Welcome> {
        lock(&self.0.connection).as_ref().and_then(|connection| connection.welcome.get().cloned())
    }

    /// Submits a task and returns its result.
    ///
    /// `args` is anything that serializes as a JSON array: a tuple, an array, a `Vec`, or `()`. The
    /// returned [`Call`] has further options and is sent when it is awaited. A failed task is a result
    /// too: see its status. [`Client::run`] does the same for a [`NewTask`].
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] if the task has not ended within the client's timeout. It is still running: get
    /// its result later.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: fastworker::client::Client) -> Result<(), fastworker::client::ClientError> {
    /// use fastworker::task::TaskStatus;
    ///
    /// let result = client.submit_task("add", (5, 3)).max_retries(2).await?;
    /// assert_eq!(result.status, TaskStatus::Success);
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_task(&self, task_name: &str, args: impl Serialize) -> Call<'_, TaskResult> {
        Call::new(self, task_name, args, |client, task| Box::pin(async move { client.run(task).await }))
    }

    /// Submits a task and returns its id as soon as it is accepted.
    ///
    /// Like [`Client::submit_task`], without waiting for the end. [`Client::send`] does the same for a
    /// [`NewTask`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: fastworker::client::Client) -> Result<(), fastworker::client::ClientError> {
    /// use std::time::Duration;
    ///
    /// use fastworker::task::TaskPriority;
    ///
    /// let id = client.delay("add", (5, 3)).priority(TaskPriority::High).countdown(Duration::from_secs(60)).await?;
    /// println!("{id}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn delay(&self, task_name: &str, args: impl Serialize) -> Call<'_, TaskId> {
        Call::new(self, task_name, args, |client, task| Box::pin(async move { client.send(task).await }))
    }

    /// Submits a task and returns its id as soon as it is accepted. When the task has ended, a callback
    /// is sent to `callback_address`, where a [`Listener`] or any other NNG PAIR socket listens.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: fastworker::client::Client) -> Result<(), fastworker::client::ClientError> {
    /// client.delay_with_callback("add", "tcp://127.0.0.1:6000", (5, 3)).callback_data("order 7").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn delay_with_callback(
        &self,
        task_name: &str,
        callback_address: &str,
        args: impl Serialize,
    ) -> Call<'_, TaskId> {
        self.delay(task_name, args).callback(callback_address)
    }

    /// Submits a task and returns its id as soon as it is accepted: [`Client::delay`] for a [`NewTask`].
    ///
    /// # Errors
    /// [`ClientError`] if it was refused, or the control plane did not reply.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: fastworker::client::Client) -> Result<(), fastworker::client::ClientError> {
    /// use fastworker::task::NewTask;
    ///
    /// let id = client.send(NewTask::new("cleanup")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send(&self, task: NewTask) -> Result<TaskId, ClientError> {
        check_size(&task)?;
        let id = task.id.clone();
        self.0.cache_submitted(&id);
        let until = after(self.0.config.timeout);
        let accepted = batch::accepted(&self.0, task, until);
        self.0.unless_stopped(accepted).await?;
        Ok(id)
    }

    /// Submits a task and returns its result: [`Client::submit_task`] for a [`NewTask`].
    ///
    /// # Errors
    /// [`ClientError`] if it was refused, or has not ended within the timeout.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: fastworker::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use fastworker::{json::Json, task::NewTask};
    ///
    /// let task = NewTask { args: Json::of(&(5, 3))?, ..NewTask::new("add") };
    /// let result = client.run(task).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run(&self, task: NewTask) -> Result<TaskResult, ClientError> {
        check_size(&task)?;
        let until = after(self.0.config.timeout);
        self.0.cache_submitted(&task.id);
        let permit = SinglePermit::acquire(&self.0);
        let result = if permit.is_some() {
            self.0.unless_stopped(self.0.run_single(task, until)).await?
        } else {
            self.0.unless_stopped(batch::ended(&self.0, task, until)).await?
        };
        self.0.cache_result(&result);
        Ok(Arc::unwrap_or_clone(result))
    }

    /// Submits many tasks and returns their ids as soon as all are accepted.
    ///
    /// # Errors
    /// The first [`ClientError`], if any; other tasks may have been accepted.
    pub async fn delay_many(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, ClientError> {
        let ids = tasks.iter().map(|task| task.id.clone()).collect();
        let sent = tasks.into_iter().map(|task| self.send(task));
        futures::future::try_join_all(sent).await?;
        Ok(ids)
    }

    /// Submits many tasks and returns their results, in the same order.
    ///
    /// # Errors
    /// [`ClientError`] if no task was submitted, because one is too large or the client is stopped. The
    /// error of a single task is in its place in the list.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: fastworker::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use fastworker::{json::Json, task::NewTask};
    ///
    /// let task = |n: u32| Ok(NewTask { args: Json::of(&(n, 1))?, ..NewTask::new("add") });
    /// let tasks: Result<Vec<NewTask>, serde_json::Error> = (0..1000).map(task).collect();
    /// for result in client.submit_many(tasks?).await? {
    ///     println!("{:?}", result?.result);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn submit_many(
        &self,
        tasks: Vec<NewTask>,
    ) -> Result<Vec<Result<Arc<TaskResult>, ClientError>>, ClientError> {
        let until = after(self.0.config.timeout);
        tasks.iter().try_for_each(check_size)?;
        if self.0.stopped.load(Ordering::SeqCst) {
            return Err(ClientError::Stopped);
        }
        for task in &tasks {
            self.0.cache_submitted(&task.id);
        }
        // Not cut short by `stop`, which fails each waiter: results that have arrived are kept.
        Ok(batch::all_ended(&self.0, tasks, until).await)
    }
}

impl Inner {
    fn new(config: ClientBuilder) -> Self {
        Self {
            config,
            connection: Mutex::new(None),
            result_cache: Mutex::new(LruCache::new(NonZeroUsize::new(RESULT_CACHE_MAX).unwrap_or(NonZeroUsize::MIN))),
            batch: Batch::default(),
            single: AtomicUsize::new(0),
            stopped: AtomicBool::new(true),
            stopping: Notify::new(),
        }
    }

    /// Runs `work` until the client is stopped.
    async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let stopping = self.stopping.notified();
        tokio::pin!(stopping);
        stopping.as_mut().enable();
        if self.stopped.load(Ordering::SeqCst) {
            return Err(ClientError::Stopped);
        }
        tokio::select! {
            biased;
            done = work => done,
            () = stopping => Err(ClientError::Stopped),
        }
    }

    /// Looks tasks up, no longer than until `latest`.
    async fn look_up(&self, ids: Vec<TaskId>, wait: Duration, latest: Instant) -> Result<Vec<Found>, ClientError> {
        let lookup = Lookup { ids, wait_ms: millis(wait) };
        match self.request_until(&Request::Lookup(lookup), wait, latest).await? {
            Reply::Found(found) => Ok(found),
            _ => Err(self.unexpected_reply()),
        }
    }
}

fn check_size(task: &NewTask) -> Result<(), ClientError> {
    let size = task.size();
    if size > PAYLOAD_MAX { Err(ClientError::TooLarge { size }) } else { Ok(()) }
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod full;
#[cfg(test)]
mod tests;
