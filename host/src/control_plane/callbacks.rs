//! Delivers task-finished callbacks.
//!
//! On a separate thread, because addresses can be dead, slow or unresponsive: the core only [posts](Callbacks::post) a
//! callback, and receives the outcome later. Each address has a
//! [sender](SenderContext::run_sender), which sends its callbacks in order, over one connection at a time.
//!
//! Invariants:
//! - A callback ends exactly once: delivered, or failed after at most [`TRIES_MAX`] attempts or because
//!   the queue is full. It is sent again only if no connection has accepted it.
//! - There are at most [`CONNECTIONS_MAX`] and [`SLOW_CONNECTIONS_MAX`] connections. An address that failed or is slow
//!   uses the latter, so that it does not delay others.

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

/// Maximum number of connections to addresses that have not failed.
pub const CONNECTIONS_MAX: usize = 256;
/// Maximum number of connections to addresses that have failed, or are slow.
pub const SLOW_CONNECTIONS_MAX: usize = 128;
/// Timeout of the first attempt to connect.
pub const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout of later attempts to connect.
pub const RETRY_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay after the first failed attempt, and after later ones.
pub const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// Bounds of the time for which a new connection is observed before it is used, which is as long as it took to
/// connect: a listener that already has a peer closes it within that time.
const OBSERVE_MIN: Duration = Duration::from_millis(20);
const OBSERVE_MAX: Duration = Duration::from_millis(500);
/// Time after which an address that has not accepted a message counts as slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// Timeout of sending one message.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for which an idle connection is kept, in which the last message leaves.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time to accept a message, and maximum size in bytes, of one that leaves within [`IDLE_TIMEOUT`]. After
/// others the connection is kept for [`SEND_TIMEOUT`].
const FAST_SEND: Duration = Duration::from_millis(100);
const SMALL_MESSAGE: usize = 64 * 1024;
/// Time after which a connection is closed if other addresses wait for a permit.
const CONNECTION_TURN: Duration = Duration::from_secs(1);

/// Delivers callbacks, until it is dropped.
#[derive(Debug)]
pub struct Callbacks {
    context: Arc<SenderContext>,
    runtime: Handle,
    stop: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Callbacks {
    /// Starts the thread that delivers them. Calls `ended` with the outcome of each.
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

    /// Queues a callback. Never blocks.
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

    /// Delivers the queued callbacks, for at most `limit`, and ends the thread.
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

/// State shared by the sender tasks.
struct SenderContext {
    transport: Arc<dyn Transport>,
    ended: Box<dyn Fn(CallbackOutcome) + Send + Sync>,
    queue: Mutex<CallbackQueue>,
    /// Notified when the queue is empty.
    empty: Condvar,
    permits: Semaphore,
    slow_permits: Semaphore,
    /// Number of senders that wait for a permit for an address that has not failed.
    waiting_for_permit: AtomicUsize,
}

impl std::fmt::Debug for SenderContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SenderContext").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// Error of a sender that stopped before the queue was empty.
struct Interrupted {
    reason: String,
    /// Whether it has delivered a callback before.
    has_delivered: bool,
}

impl SenderContext {
    /// Delivers the callbacks of an address until its queue is empty.
    async fn run_sender(self: Arc<Self>, address: Arc<str>, wake: Arc<Notify>) {
        let mut failures = 0;
        loop {
            match self.send_pending(&address, &wake, failures).await {
                Ok(()) => {
                    failures = 0;
                    lock(&self.queue).finish_sending(&address);
                }
                Err(Interrupted { reason, has_delivered }) => {
                    debug!(address = &*address, reason, "callback not delivered");
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

    /// Connects, and sends the callbacks of an address until there are no more.
    async fn send_pending(&self, address: &str, wake: &Notify, failures: usize) -> Result<(), Interrupted> {
        let mut has_delivered = false;
        let mut permit = self.acquire_permit(failures).await;
        lock(&self.queue).start_sending(address);
        let started_at = Instant::now();
        let connection =
            self.connect(address, failures).await.map_err(|reason| Interrupted { reason, has_delivered })?;
        let (connection, mut idle_left) = (&*connection, IDLE_TIMEOUT);
        loop {
            let Some(callback) = self.take(address) else {
                if idle_left.is_zero() || self.is_crowded() {
                    return Ok(());
                }
                tokio::select! {
                    () = wake.notified() => {}
                    () = connection.disconnected() => return Ok(()),
                    // Check regularly whether other addresses wait for a permit.
                    () = sleep(IDLE_TIMEOUT) => idle_left = idle_left.saturating_sub(IDLE_TIMEOUT),
                }
                continue;
            };
            if has_delivered && started_at.elapsed() > CONNECTION_TURN && self.is_crowded() {
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

    /// Waits for the permit to connect. Addresses that failed have separate permits.
    async fn acquire_permit(&self, failures: usize) -> Permit<'_> {
        if failures > 0 {
            return Permit { is_slow: true, _permit: self.slow_permits.acquire().await.ok() };
        }
        self.waiting_for_permit.fetch_add(1, SeqCst);
        let permit = self.permits.acquire().await.ok();
        self.waiting_for_permit.fetch_sub(1, SeqCst);
        Permit { is_slow: false, _permit: permit }
    }

    /// Whether addresses that have not failed wait for a permit.
    fn is_crowded(&self) -> bool {
        self.waiting_for_permit.load(SeqCst) > 0
    }

    /// Returns a connection that the peer does not close immediately, or why there is none.
    async fn connect(&self, address: &str, failures: usize) -> Result<Box<dyn PairSender>, String> {
        const DROPPED: &str =
            "it closed the connection: it is not a PAIR listener, or it has another peer (it accepts one at a time)";
        let (started_at, limit) =
            (Instant::now(), if failures == 0 { FIRST_CONNECT_TIMEOUT } else { RETRY_CONNECT_TIMEOUT });
        let connection = self.transport.pair_sender(address).map_err(|error| error.to_string())?;
        match timeout(limit, connection.connected()).await {
            Ok(Ok(())) => {}
            Ok(Err(Disconnected)) => return Err(DROPPED.into()),
            Err(_) => return Err(format!("no connection within {} s: is a listener running there?", seconds(limit))),
        }
        let observe = started_at.elapsed().clamp(OBSERVE_MIN, OBSERVE_MAX);
        match timeout(observe, connection.disconnected()).await {
            Ok(()) => Err(DROPPED.into()),
            Err(_) => Ok(connection),
        }
    }

    fn take(&self, address: &str) -> Option<PendingCallback> {
        lock(&self.queue).take(address)
    }

    /// Sends one message. If the address is slow, exchanges its permit.
    async fn send<'a>(
        &'a self,
        connection: &dyn PairSender,
        body: &[u8],
        permit: &mut Permit<'a>,
    ) -> Result<(), String> {
        let closed = |Disconnected| "it closed the connection before it had accepted the message".to_owned();
        let mut sending = pin!(connection.send(body));
        if let Some(sent) = within(SLOW_AFTER, sending.as_mut()).await {
            return sent.map_err(closed);
        }
        if !permit.is_slow {
            let Ok(slow) = self.slow_permits.try_acquire() else {
                return Err(format!("it has not accepted the message within {} s", seconds(SLOW_AFTER)));
            };
            *permit = Permit { is_slow: true, _permit: Some(slow) };
        }
        match within(SEND_TIMEOUT.saturating_sub(SLOW_AFTER), sending).await {
            Some(sent) => sent.map_err(closed),
            None => Err(format!("it has not accepted the message within {} s", seconds(SEND_TIMEOUT))),
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

/// The permit to have a connection open.
struct Permit<'a> {
    is_slow: bool,
    _permit: Option<SemaphorePermit<'a>>,
}

/// Returns the output of a future, if it completes within the limit.
async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    timeout(limit, future).await.ok()
}
