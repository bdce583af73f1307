//! The client: one method for each thing that can be asked.
//!
//! Submissions that wait go one of two ways. While few are open, each is one question that is
//! answered when its task has ended: one round trip. While many are open, they are gathered: what
//! comes up while a frame is under way goes out together in the next one, and ended tasks come
//! back many at a time ([`gather`]). Either way the client makes the task's id, so asking twice is
//! asking once.

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
    protocol::{
        EventQuery, Events, FRAME_ITEMS_MAX, Follow, Found, Lookup, Reply, Reports, Request, TaskPage, TaskQuery,
        WAIT_MAX, Welcome, WorkerInfo,
    },
    task::{NewTask, Task, TaskId, TaskResult},
    transport::PAYLOAD_MAX,
};

mod builder;
mod call;
mod connection;
mod direct;
mod error;
mod gather;
mod join;
mod listener;
mod schedules;
mod seen;

pub use builder::ClientBuilder;
pub use call::Call;
use connection::Connection;
use direct::{Direct, pause_if_early};
pub use error::{ClientError, Place};
use gather::Gather;
pub use listener::{Listener, Unreadable};
pub use schedules::{OnConflict, Schedules};
pub use seen::SEEN_MAX;
use seen::Seen;

/// So much later than a wait for a task is over the answer may still come.
const LOOKUP_SLACK: Duration = Duration::from_secs(2);

/// Submits tasks and asks about them. Cheap to clone; all clones are one client.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

struct Inner {
    config: ClientBuilder,
    connection: Mutex<Option<Arc<Connection>>>,
    seen: Mutex<LruCache<TaskId, Seen>>,
    gather: Gather,
    /// Waits that go one by one.
    direct: AtomicUsize,
    stopped: AtomicBool,
    stopping: Notify,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Client {
    /// Settles what a client does.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Finds the control plane: at the address that was given, or where it is announced. A given
    /// address is never replaced by what is announced.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if there is none within the timeout; start one with
    /// `fastworker control-plane`.
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

    /// Closes the connection. Every open wait ends with [`ClientError::Stopped`].
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.0.stopping.notify_waiters();
        self.0.gather.stop();
        *lock(&self.0.connection) = None;
    }

    /// Who the control plane said it is. None while the client is stopped, and when another control
    /// plane was found that has not said so yet.
    pub fn control_plane(&self) -> Option<Welcome> {
        lock(&self.0.connection).as_ref().and_then(|connection| connection.welcome.get().cloned())
    }

    /// Submits a task and gives its id at once: `client.delay("add", (5, 3)).priority(High).await?`
    ///
    /// `args` is whatever serialises as a JSON list: a tuple, an array, a `Vec`, or `()`.
    pub fn delay(&self, task_name: &str, args: impl Serialize) -> Call<'_, TaskId> {
        Call::new(self, task_name, args, |client, task| Box::pin(async move { client.send(task).await }))
    }

    /// Submits a task and gives its id at once; when it has ended, word of it goes to
    /// `callback_address`, where a [`Listener`] listens, or any NNG PAIR socket:
    /// `client.delay_with_callback("add", "tcp://127.0.0.1:6000", (5, 3)).callback_data("mine").await?`
    pub fn delay_with_callback(
        &self,
        task_name: &str,
        callback_address: &str,
        args: impl Serialize,
    ) -> Call<'_, TaskId> {
        self.delay(task_name, args).callback(callback_address)
    }

    /// Submits a task and waits for its result.
    ///
    /// The call fails with [`ClientError::TimedOut`] when the task has not ended within the
    /// client's timeout. A task that failed is a result like any other: look at its status.
    pub fn submit_task(&self, task_name: &str, args: impl Serialize) -> Call<'_, TaskResult> {
        Call::new(self, task_name, args, |client, task| Box::pin(async move { client.run(task).await }))
    }

    /// Submits a task that is put together already, and gives its id.
    ///
    /// # Errors
    /// [`ClientError`] when it was not taken, or nobody answered.
    pub async fn send(&self, task: NewTask) -> Result<TaskId, ClientError> {
        check_size(&task)?;
        let id = task.id.clone();
        self.0.note_submitted(&id);
        let until = after(self.0.config.timeout);
        let taken = gather::accepted(&self.0, task, until);
        self.0.unless_stopped(taken).await?;
        Ok(id)
    }

    /// Submits a task that is put together already, and waits for its result.
    ///
    /// # Errors
    /// [`ClientError`] when it was not taken, or has not ended within the timeout.
    pub async fn run(&self, task: NewTask) -> Result<TaskResult, ClientError> {
        let result = self.run_shared(task).await?;
        Ok(Arc::unwrap_or_clone(result))
    }

    async fn run_shared(&self, task: NewTask) -> Result<Arc<TaskResult>, ClientError> {
        check_size(&task)?;
        let until = after(self.0.config.timeout);
        self.0.note_submitted(&task.id);
        let direct = Direct::enter(&self.0);
        let result = if direct.is_some() {
            self.0.unless_stopped(self.0.run_directly(task, until)).await?
        } else {
            self.0.unless_stopped(gather::ended(&self.0, task, until)).await?
        };
        self.0.remember(&result);
        Ok(result)
    }

    /// Submits many tasks and gives their ids.
    ///
    /// # Errors
    /// The first [`ClientError`], if any; tasks may have been taken all the same.
    pub async fn delay_many(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, ClientError> {
        let ids = tasks.iter().map(|task| task.id.clone()).collect();
        let sent = tasks.into_iter().map(|task| self.send(task));
        futures::future::try_join_all(sent).await?;
        Ok(ids)
    }

    /// Submits many tasks and waits for all their results: one for each, in order.
    ///
    /// # Errors
    /// [`ClientError`] when none was submitted, as one is too large or the client is stopped. What
    /// befalls a single task stands in its place.
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
            self.0.note_submitted(&task.id);
        }
        // Not cut short by a stop, which tells each that waits: what has ended is not lost.
        Ok(gather::all_ended(&self.0, tasks, until).await)
    }

    /// The result of a task, from the control plane. None while it has not ended, and when nobody
    /// knows it any more.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered.
    pub async fn get_task_result(&self, task_id: &TaskId) -> Result<Option<TaskResult>, ClientError> {
        match self.lookup(task_id, Duration::ZERO).await? {
            Found::Ended(result) => Ok(Some(Arc::unwrap_or_clone(result))),
            Found::Live(_) | Found::Unknown => Ok(None),
        }
    }

    /// How a task stands, from the control plane; waits up to `wait` for its end.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered.
    pub async fn lookup(&self, task_id: &TaskId, wait: Duration) -> Result<Found, ClientError> {
        let until = after(wait);
        let latest = after(self.0.config.timeout.max(wait.saturating_add(LOOKUP_SLACK)));
        loop {
            let asked = Instant::now();
            let left = until.saturating_duration_since(asked).min(WAIT_MAX);
            let found = self.0.unless_stopped(self.0.look_up(vec![task_id.clone()], left, latest)).await?.pop();
            match found {
                Some(Found::Live(_)) if !left.is_zero() => self.0.unless_stopped(pause_if_early(asked, left)).await?,
                Some(found) => {
                    if let Found::Ended(result) = &found {
                        self.0.remember(result);
                    }
                    return Ok(found);
                }
                None => return Ok(Found::Unknown),
            }
        }
    }

    /// All that is known of a task, ended or not; none if nobody knows it.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered.
    pub async fn describe(&self, task_id: &TaskId) -> Result<Option<Task>, ClientError> {
        match self.0.unless_stopped(self.0.ask(&Request::Describe(task_id.clone()))).await? {
            Reply::Described(task) => Ok(task.map(|task| *task)),
            _ => Err(self.0.confused()),
        }
    }

    /// Stops a task. False if it had ended, or nobody knows it.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered.
    pub async fn cancel(&self, task_id: &TaskId) -> Result<bool, ClientError> {
        let reply = self.0.unless_stopped(self.0.ask(&Request::Cancel(vec![task_id.clone()]))).await?;
        match reply {
            Reply::Cancelled(stopped) if stopped.len() == 1 => Ok(stopped[0]),
            _ => Err(self.0.confused()),
        }
    }

    /// The workers, and what each has loaded.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered.
    pub async fn list_tasks(&self) -> Result<Vec<WorkerInfo>, ClientError> {
        match self.0.unless_stopped(self.0.ask(&Request::Workers)).await? {
            Reply::Workers(workers) => Ok(workers),
            _ => Err(self.0.confused()),
        }
    }

    /// The tasks that a query asks for, whoever submitted them.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered.
    pub async fn tasks(&self, query: TaskQuery) -> Result<TaskPage, ClientError> {
        match self.0.unless_stopped(self.0.ask(&Request::Tasks(query))).await? {
            Reply::Tasks(page) => Ok(page),
            _ => Err(self.0.confused()),
        }
    }

    /// What happened after event number `after`; waits up to `wait` for more.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered.
    pub async fn events(&self, after: u64, wait: Duration) -> Result<Events, ClientError> {
        let wait = wait.min(WAIT_MAX);
        let query = EventQuery { after, wait_ms: millis(wait) };
        match self.0.unless_stopped(self.0.ask_for(&Request::Events(query), wait)).await? {
            Reply::Events(events) => Ok(events),
            _ => Err(self.0.confused()),
        }
    }

    /// What a task said about itself after report number `after`; waits up to `wait` for more.
    ///
    /// # Errors
    /// [`ClientError`] when nobody answered.
    pub async fn follow(&self, task_id: &TaskId, after: u64, wait: Duration) -> Result<Reports, ClientError> {
        let wait = wait.min(WAIT_MAX);
        let follow = Follow { id: task_id.clone(), after, wait_ms: millis(wait) };
        match self.0.unless_stopped(self.0.ask_for(&Request::Follow(follow), wait)).await? {
            Reply::Reports(reports) => Ok(reports),
            _ => Err(self.0.confused()),
        }
    }
}

impl Inner {
    fn new(config: ClientBuilder) -> Self {
        Self {
            config,
            connection: Mutex::new(None),
            seen: Mutex::new(LruCache::new(NonZeroUsize::new(SEEN_MAX).unwrap_or(NonZeroUsize::MIN))),
            gather: Gather::default(),
            direct: AtomicUsize::new(0),
            stopped: AtomicBool::new(true),
            stopping: Notify::new(),
        }
    }

    /// The outcome of `work`, or that the client was stopped meanwhile.
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

    /// Asks how tasks stand, and gives up asking at `latest`.
    async fn look_up(&self, ids: Vec<TaskId>, wait: Duration, latest: Instant) -> Result<Vec<Found>, ClientError> {
        let lookup = Lookup { ids, wait_ms: millis(wait) };
        match self.ask_until(&Request::Lookup(lookup), wait, latest).await? {
            Reply::Found(found) => Ok(found),
            _ => Err(self.confused()),
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
mod tests {
    use super::{direct::DIRECT_MAX, *};
    use crate::config::{Address, MANAGEMENT_OFFSET};

    fn nobody(timeout: Duration) -> Client {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
        let base: Address = format!("tcp://127.0.0.1:{}", port - MANAGEMENT_OFFSET).parse().expect("an address");
        let client = Client::builder().control_plane_address(base.clone()).timeout(timeout).retries(100).build();
        let caller = connection::dial(&base, client.0.config.serialization_format).expect("an address");
        let connection = Connection::new(caller, base, None, Arc::default());
        *lock(&client.0.connection) = Some(Arc::new(connection));
        client.0.stopped.store(false, Ordering::SeqCst);
        client
    }

    #[tokio::test]
    async fn who_asks_nobody_hears_within_the_timeout_that_nobody_is_there() {
        let timeout = Duration::from_millis(200);
        let client = nobody(timeout);
        let begun = Instant::now();
        let task = |_| client.run(NewTask::new("add"));
        let runs = futures::future::join_all((0..DIRECT_MAX + 2).map(task));
        let (runs, sent, listed) = tokio::join!(runs, client.send(NewTask::new("add")), client.list_tasks());
        let errors = runs.into_iter().map(Result::err).chain([sent.err(), listed.err()]);
        for error in errors {
            assert!(matches!(error, Some(ClientError::Unreachable { .. })), "{error:?}");
        }
        assert!(begun.elapsed() < timeout + Duration::from_secs(20), "it took {:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn waits_without_an_end_end_when_the_client_stops() {
        let client = nobody(Duration::MAX);
        let id = TaskId::new();
        let twice = NewTask::new("add");
        let stop = async {
            tokio::task::yield_now().await;
            client.stop();
        };
        let (run, many, found, reports, ()) = tokio::join!(
            client.run(NewTask::new("add")),
            client.submit_many(vec![twice.clone(), twice]),
            client.lookup(&id, Duration::MAX),
            client.follow(&id, 0, Duration::MAX),
            stop
        );
        let many = many.expect("one result for each").into_iter().map(Result::err);
        for error in many.chain([run.err(), found.err(), reports.err()]) {
            assert!(matches!(error, Some(ClientError::Stopped)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn many_tasks_of_which_one_is_too_large_are_one_error() {
        let args = crate::json::Json::of(&["x".repeat(PAYLOAD_MAX)]).expect("JSON");
        let tasks = vec![NewTask::new("add"), NewTask { args, ..NewTask::new("add") }];
        let many = nobody(Duration::from_secs(1)).submit_many(tasks).await;
        assert!(matches!(many, Err(ClientError::TooLarge { .. })));
    }
}
