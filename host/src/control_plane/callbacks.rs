//! Callbacks: carries the word that a task has ended to whoever wanted it.
//!
//! Apart from the core, and on one thread of its own, because addresses can be dead, slow or silent:
//! the core only [posts](Callbacks::post), and hears later what became of it. Each address has a
//! [visitor](Shared::visit), which sends what waits for it, in order, over one connection at a time.
//!
//! Invariants:
//! - A callback ends exactly once: delivered, or failed after at most [`TRIES_MAX`] tries or for want
//!   of room. It is sent again only when no connection has taken it.
//! - There are at most [`CONNECTIONS_MAX`] and [`SLOW_CONNECTIONS_MAX`] connections. Who does not answer at once waits
//!   in a line of its own from then on, so that it holds nobody up.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{self, Handle},
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::state::{Callback, CallbackOutcome};
use crate::{
    clock::seconds,
    lock::lock,
    protocol::{CALLBACK_MESSAGE_MAX as MESSAGE_MAX, write_callback},
    transport::{Disconnected, PairSender, Transport},
};

pub mod queue;

pub use queue::{CallbackLimits, TRIES_MAX};
use queue::{CallbackQueue, PendingCallback, Posted};

/// So many addresses that answer, or have not been tried, are visited at a time.
pub const CONNECTIONS_MAX: usize = 256;
/// So many addresses that did not answer, or are slow, are visited at a time.
pub const SLOW_CONNECTIONS_MAX: usize = 128;
/// How long the first try waits for a connection.
pub const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long later tries wait for a connection.
pub const RETRY_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait after the first failed try, and after later ones.
pub const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// A connection is looked at as long as it took to come up, within these bounds, before it is used:
/// a listener that has a peer already drops it so soon.
const OBSERVE_MIN: Duration = Duration::from_millis(20);
const OBSERVE_MAX: Duration = Duration::from_millis(500);
/// Whoever takes longer for a message is slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// A message that has not left after this is stuck.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is kept so long after the last message, in which that leaves.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// A message that took longer to be taken, or is larger, may take longer to leave, too: its connection
/// is kept for as long as it may be stuck.
const FAST_SEND: Duration = Duration::from_millis(100);
const SMALL_MESSAGE: usize = 64 * 1024;
/// A connection is given up after so long, if others wait for its place.
const CONNECTION_TURN: Duration = Duration::from_secs(1);

/// Sends callbacks. Dropped, it sends no more.
#[derive(Debug)]
pub struct Callbacks {
    context: Arc<SenderContext>,
    runtime: Handle,
    stop: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Callbacks {
    /// Starts the thread that sends them. `ended` hears what became of each.
    ///
    /// # Errors
    /// When the system has no more threads or files.
    pub fn start(
        transport: Arc<dyn Transport>,
        ended: impl Fn(CallbackOutcome) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let until = stop.clone();
        let run = move || runtime.block_on(until.notified());
        let thread = thread::Builder::new().name("fw-callbacks".into()).spawn(run)?;
        let context = Arc::new(SenderContext {
            transport,
            ended: Box::new(ended),
            queue: Mutex::new(CallbackQueue::new(CallbackLimits::default())),
            empty: Condvar::new(),
            permits: Semaphore::new(CONNECTIONS_MAX),
            slow_permits: Semaphore::new(SLOW_CONNECTIONS_MAX),
            waiting_for_permit: AtomicUsize::new(0),
        });
        Ok(Self { context, runtime: handle, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Takes a callback to be sent. Never waits.
    pub fn post(&self, callback: Callback) {
        let posted = lock(&self.context.queue).post(callback);
        match posted {
            Posted::First(address, wake) => {
                drop(self.runtime.spawn(Arc::clone(&self.context).run_sender(address, wake)));
            }
            Posted::Queued => {}
            Posted::Refused(end) => self.context.end(end),
        }
    }

    /// Sends what waits, at most `limit` long, and ends the thread.
    pub fn stop(&self, limit: Duration) {
        let Some(thread) = lock(&self.thread).take() else { return };
        let queue = lock(&self.context.queue);
        let waits = self.context.empty.wait_timeout_while(queue, limit, |queue| !queue.is_empty());
        let mut queue = waits.unwrap_or_else(PoisonError::into_inner).0;
        queue.stop();
        let left = queue.len();
        drop(queue);
        if left > 0 {
            warn!(callbacks = left, "stopping with callbacks that were not delivered, which are lost");
        }
        self.stop.notify_one();
        drop(thread.join());
    }
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

/// What the visitors share.
struct SenderContext {
    transport: Arc<dyn Transport>,
    ended: Box<dyn Fn(CallbackOutcome) + Send + Sync>,
    queue: Mutex<CallbackQueue>,
    /// Told when nothing waits any more.
    empty: Condvar,
    permits: Semaphore,
    slow_permits: Semaphore,
    /// Visitors that wait for one of the first places.
    waiting_for_permit: AtomicUsize,
}

impl std::fmt::Debug for SenderContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SenderContext").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// How a visit ended, if not for want of work.
struct Interrupted {
    reason: String,
    /// Whether something was delivered before.
    has_delivered: bool,
}

impl SenderContext {
    /// Sees to an address until nothing waits for it.
    async fn run_sender(self: Arc<Self>, address: Arc<str>, wake: Arc<Notify>) {
        let mut failures = 0;
        loop {
            match self.send_pending(&address, &wake, failures).await {
                Ok(()) => {
                    failures = 0;
                    lock(&self.queue).finish_sending(&address);
                }
                Err(Interrupted { reason, has_delivered }) => {
                    debug!(address = &*address, reason, "a callback address was not reached");
                    failures = if has_delivered { 1 } else { failures + 1 };
                    let failed = lock(&self.queue).fail_overdue(&address, &reason);
                    for end in failed {
                        self.end(end);
                    }
                }
            }
            if self.remove_if_empty(&address) {
                return;
            }
            if failures > 0 {
                sleep(RETRY_DELAYS[failures.min(RETRY_DELAYS.len()) - 1]).await;
            }
        }
    }

    fn remove_if_empty(&self, address: &str) -> bool {
        let mut queue = lock(&self.queue);
        let left = queue.remove_if_empty(address);
        if queue.is_empty() {
            self.empty.notify_all();
        }
        left
    }

    fn end(&self, end: CallbackOutcome) {
        (self.ended)(end);
    }

    /// Connects, and sends what waits until there is nothing more.
    async fn send_pending(&self, address: &str, wake: &Notify, failures: usize) -> Result<(), Interrupted> {
        let mut has_delivered = false;
        let mut permit = self.acquire_permit(failures).await;
        lock(&self.queue).begin_sending(address);
        let begun = Instant::now();
        let connection =
            self.connect(address, failures).await.map_err(|reason| Interrupted { reason, has_delivered })?;
        let (connection, mut idle_left) = (&*connection, IDLE_TIMEOUT);
        loop {
            let Some(callback) = self.next(address) else {
                if idle_left.is_zero() || self.is_crowded() {
                    return Ok(());
                }
                tokio::select! {
                    () = wake.notified() => {}
                    () = connection.parted() => return Ok(()),
                    // Looks now and then whether others want its place.
                    () = sleep(IDLE_TIMEOUT) => idle_left = idle_left.saturating_sub(IDLE_TIMEOUT),
                }
                continue;
            };
            if has_delivered && begun.elapsed() > CONNECTION_TURN && self.is_crowded() {
                lock(&self.queue).put_back(address, callback);
                return Ok(());
            }
            let body = write_callback(&callback.callback.result, &callback.callback.info);
            if body.len() > MESSAGE_MAX {
                let reason = format!("the message of {} bytes is over the limit of {MESSAGE_MAX} bytes", body.len());
                self.sent(address, callback, Err(reason));
                continue;
            }
            let sent_at = Instant::now();
            match self.send(connection, &body, &mut permit).await {
                Ok(()) => {
                    has_delivered = true;
                    idle_left = if sent_at.elapsed() < FAST_SEND && body.len() <= SMALL_MESSAGE {
                        IDLE_TIMEOUT
                    } else {
                        SEND_TIMEOUT
                    };
                    self.sent(address, callback, Ok(()));
                }
                Err(reason) => {
                    lock(&self.queue).put_back(address, callback);
                    return Err(Interrupted { reason, has_delivered });
                }
            }
        }
    }

    /// Waits for a place: those who failed wait in a line of their own.
    async fn acquire_permit(&self, failures: usize) -> Permit<'_> {
        if failures > 0 {
            return Permit { is_slow: true, _permit: self.slow_permits.acquire().await.ok() };
        }
        self.waiting_for_permit.fetch_add(1, SeqCst);
        let permit = self.permits.acquire().await.ok();
        self.waiting_for_permit.fetch_sub(1, SeqCst);
        Permit { is_slow: false, _permit: permit }
    }

    /// Whether others wait for one of the first places.
    fn is_crowded(&self) -> bool {
        self.waiting_for_permit.load(SeqCst) > 0
    }

    /// A connection that lasts, or why there is none.
    async fn connect(&self, address: &str, failures: usize) -> Result<Box<dyn PairSender>, String> {
        const DROPPED: &str =
            "it drops the connection: is it no PAIR listener, or has it another peer? it takes one at a time";
        let (begun, limit) =
            (Instant::now(), if failures == 0 { FIRST_CONNECT_TIMEOUT } else { RETRY_CONNECT_TIMEOUT });
        let connection = self.transport.pair_sender(address).map_err(|error| error.to_string())?;
        match timeout(limit, connection.connected()).await {
            Ok(Ok(())) => {}
            Ok(Err(Disconnected)) => return Err(DROPPED.into()),
            Err(_) => return Err(format!("no connection within {} s: does anybody listen there?", seconds(limit))),
        }
        let observe = begun.elapsed().clamp(OBSERVE_MIN, OBSERVE_MAX);
        match timeout(observe, connection.parted()).await {
            Ok(()) => Err(DROPPED.into()),
            Err(_) => Ok(connection),
        }
    }

    fn next(&self, address: &str) -> Option<PendingCallback> {
        lock(&self.queue).take(address)
    }

    /// Sends one message. Who takes long for it gives its place to a quick one.
    async fn send<'a>(
        &'a self,
        connection: &dyn PairSender,
        body: &[u8],
        permit: &mut Permit<'a>,
    ) -> Result<(), String> {
        let gone = |Disconnected| "it closed the connection before it had taken the message".to_owned();
        let mut sending = pin!(connection.send(body));
        if let Some(sent) = within(SLOW_AFTER, sending.as_mut()).await {
            return sent.map_err(gone);
        }
        if !permit.is_slow {
            let Ok(slow) = self.slow_permits.try_acquire() else {
                return Err(format!("it has not taken the message within {} s", seconds(SLOW_AFTER)));
            };
            *permit = Permit { is_slow: true, _permit: Some(slow) };
        }
        match within(SEND_TIMEOUT.saturating_sub(SLOW_AFTER), sending).await {
            Some(sent) => sent.map_err(gone),
            None => Err(format!("it has not taken the message within {} s", seconds(SEND_TIMEOUT))),
        }
    }

    fn sent(&self, address: &str, callback: PendingCallback, outcome: Result<(), String>) {
        let end = lock(&self.queue).end(address, callback, outcome);
        self.end(end);
        if lock(&self.queue).is_empty() {
            self.empty.notify_all();
        }
    }
}

/// The right to have a connection open.
struct Permit<'a> {
    is_slow: bool,
    _permit: Option<SemaphorePermit<'a>>,
}

/// What it gives, if it does so in time.
async fn within<T>(limit: Duration, what: impl Future<Output = T>) -> Option<T> {
    timeout(limit, what).await.ok()
}
