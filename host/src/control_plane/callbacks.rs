//! Callbacks: carries the word that a task has ended to whoever wanted it.
//!
//! Apart from the core, and on one thread of its own, because addresses can be dead, slow or silent:
//! the core only [posts](Callbacks::post), and hears later what became of it. Each address has a
//! [visitor](Shared::visit), which sends what waits for it, in order, over one connection at a time.
//!
//! Invariants:
//! - A callback ends exactly once: delivered, or failed after at most [`TRIES_MAX`] tries or for want
//!   of room. It is sent again only when no connection has taken it.
//! - There are at most [`PLACES`] and [`LATER_PLACES`] connections. Who does not answer at once waits
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

use super::state::{Callback, CallbackEnd};
use crate::{
    clock::seconds,
    lock::lock,
    protocol::{CALLBACK_MESSAGE_MAX as MESSAGE_MAX, write_callback},
    transport::{Disconnected, PairSender, Transport},
};

pub mod queue;

pub use queue::{Bounds, TRIES_MAX};
use queue::{CallbackQueue, Posted, Waiting};

/// So many addresses that answer, or have not been tried, are visited at a time.
pub const PLACES: usize = 256;
/// So many addresses that did not answer, or are slow, are visited at a time.
pub const LATER_PLACES: usize = 128;
/// How long the first try waits for a connection.
pub const FIRST_TRY: Duration = Duration::from_millis(500);
/// How long later tries wait for a connection.
pub const LATER_TRY: Duration = Duration::from_secs(2);
/// How long to wait after the first failed try, and after later ones.
pub const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// A connection is looked at as long as it took to come up, within these bounds, before it is used:
/// a listener that has a peer already drops it so soon.
const SETTLE_MIN: Duration = Duration::from_millis(20);
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// Whoever takes longer for a message is slow.
const PROMPT: Duration = Duration::from_secs(1);
/// A message that has not left after this is stuck.
pub const STUCK: Duration = Duration::from_secs(30);
/// A connection is kept so long after the last message, in which that leaves.
pub const KEEP_OPEN: Duration = Duration::from_secs(1);
/// A message that took longer to be taken, or is larger, may take longer to leave, too: its connection
/// is kept for as long as it may be stuck.
const SWIFT: Duration = Duration::from_millis(100);
const SMALL: usize = 64 * 1024;
/// A connection is given up after so long, if others wait for its place.
const TURN: Duration = Duration::from_secs(1);

/// Sends callbacks. Dropped, it sends no more.
#[derive(Debug)]
pub struct Callbacks {
    shared: Arc<Shared>,
    visitors: Handle,
    over: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Callbacks {
    /// Starts the thread that sends them. `ended` hears what became of each.
    ///
    /// # Errors
    /// When the system has no more threads or files.
    pub fn start(
        transport: Arc<dyn Transport>,
        ended: impl Fn(CallbackEnd) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (visitors, over) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let until = over.clone();
        let run = move || runtime.block_on(until.notified());
        let thread = thread::Builder::new().name("fw-callbacks".into()).spawn(run)?;
        let shared = Arc::new(Shared {
            transport,
            ended: Box::new(ended),
            queue: Mutex::new(CallbackQueue::new(Bounds::default())),
            empty: Condvar::new(),
            places: Semaphore::new(PLACES),
            later_places: Semaphore::new(LATER_PLACES),
            without_place: AtomicUsize::new(0),
        });
        Ok(Self { shared, visitors, over, thread: Mutex::new(Some(thread)) })
    }

    /// Takes a callback to be sent. Never waits.
    pub fn post(&self, callback: Callback) {
        let posted = lock(&self.shared.queue).post(callback);
        match posted {
            Posted::First(address, news) => {
                drop(self.visitors.spawn(Arc::clone(&self.shared).see_to(address, news)));
            }
            Posted::Queued => {}
            Posted::Refused(end) => self.shared.end(end),
        }
    }

    /// Sends what waits, at most `limit` long, and ends the thread.
    pub fn stop(&self, limit: Duration) {
        let Some(thread) = lock(&self.thread).take() else { return };
        let queue = lock(&self.shared.queue);
        let waits = self.shared.empty.wait_timeout_while(queue, limit, |queue| !queue.is_empty());
        let mut queue = waits.unwrap_or_else(PoisonError::into_inner).0;
        queue.stop();
        let left = queue.len();
        drop(queue);
        if left > 0 {
            warn!(callbacks = left, "stopping with callbacks that were not delivered, which are lost");
        }
        self.over.notify_one();
        drop(thread.join());
    }
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        self.over.notify_one();
    }
}

/// What the visitors share.
struct Shared {
    transport: Arc<dyn Transport>,
    ended: Box<dyn Fn(CallbackEnd) + Send + Sync>,
    queue: Mutex<CallbackQueue>,
    /// Told when nothing waits any more.
    empty: Condvar,
    places: Semaphore,
    later_places: Semaphore,
    /// Visitors that wait for one of the first places.
    without_place: AtomicUsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// How a visit ended, if not for want of work.
struct Unreached {
    why: String,
    /// Whether something was delivered before.
    was_reached: bool,
}

impl Shared {
    /// Sees to an address until nothing waits for it.
    async fn see_to(self: Arc<Self>, address: Arc<str>, news: Arc<Notify>) {
        let mut failures = 0;
        loop {
            match self.visit(&address, &news, failures).await {
                Ok(()) => {
                    failures = 0;
                    lock(&self.queue).return_from(&address);
                }
                Err(Unreached { why, was_reached }) => {
                    debug!(address = &*address, why, "a callback address was not reached");
                    failures = if was_reached { 1 } else { failures + 1 };
                    let given_up = lock(&self.queue).give_up(&address, &why);
                    for end in given_up {
                        self.end(end);
                    }
                }
            }
            if self.leave(&address) {
                return;
            }
            if failures > 0 {
                sleep(PAUSES[failures.min(PAUSES.len()) - 1]).await;
            }
        }
    }

    fn leave(&self, address: &str) -> bool {
        let mut queue = lock(&self.queue);
        let left = queue.leave(address);
        if queue.is_empty() {
            self.empty.notify_all();
        }
        left
    }

    fn end(&self, end: CallbackEnd) {
        (self.ended)(end);
    }

    /// Connects, and sends what waits until there is nothing more.
    async fn visit(&self, address: &str, news: &Notify, failures: usize) -> Result<(), Unreached> {
        let mut was_reached = false;
        let mut place = self.place(failures).await;
        lock(&self.queue).set_out(address);
        let begun = Instant::now();
        let line = self.connect(address, failures).await.map_err(|why| Unreached { why, was_reached })?;
        let (line, mut keep) = (&*line, KEEP_OPEN);
        loop {
            let Some(waiting) = self.next(address) else {
                if keep.is_zero() || self.is_crowded() {
                    return Ok(());
                }
                tokio::select! {
                    () = news.notified() => {}
                    () = line.parted() => return Ok(()),
                    // Looks now and then whether others want its place.
                    () = sleep(KEEP_OPEN) => keep = keep.saturating_sub(KEEP_OPEN),
                }
                continue;
            };
            if was_reached && begun.elapsed() > TURN && self.is_crowded() {
                lock(&self.queue).put_back(address, waiting);
                return Ok(());
            }
            let body = write_callback(&waiting.callback.result, &waiting.callback.info);
            if body.len() > MESSAGE_MAX {
                let why = format!("the message of {} bytes is over the limit of {MESSAGE_MAX} bytes", body.len());
                self.sent(address, waiting, Err(why));
                continue;
            }
            let sent_at = Instant::now();
            match self.send(line, &body, &mut place).await {
                Ok(()) => {
                    was_reached = true;
                    keep = if sent_at.elapsed() < SWIFT && body.len() <= SMALL { KEEP_OPEN } else { STUCK };
                    self.sent(address, waiting, Ok(()));
                }
                Err(why) => {
                    lock(&self.queue).put_back(address, waiting);
                    return Err(Unreached { why, was_reached });
                }
            }
        }
    }

    /// Waits for a place: those who failed wait in a line of their own.
    async fn place(&self, failures: usize) -> Place<'_> {
        if failures > 0 {
            return Place { later: true, _permit: self.later_places.acquire().await.ok() };
        }
        self.without_place.fetch_add(1, SeqCst);
        let permit = self.places.acquire().await.ok();
        self.without_place.fetch_sub(1, SeqCst);
        Place { later: false, _permit: permit }
    }

    /// Whether others wait for one of the first places.
    fn is_crowded(&self) -> bool {
        self.without_place.load(SeqCst) > 0
    }

    /// A connection that lasts, or why there is none.
    async fn connect(&self, address: &str, failures: usize) -> Result<Box<dyn PairSender>, String> {
        const DROPPED: &str =
            "it drops the connection: is it no PAIR listener, or has it another peer? it takes one at a time";
        let (begun, limit) = (Instant::now(), if failures == 0 { FIRST_TRY } else { LATER_TRY });
        let line = self.transport.pair_sender(address).map_err(|error| error.to_string())?;
        match timeout(limit, line.connected()).await {
            Ok(Ok(())) => {}
            Ok(Err(Disconnected)) => return Err(DROPPED.into()),
            Err(_) => return Err(format!("no connection within {} s: does anybody listen there?", seconds(limit))),
        }
        let settle = begun.elapsed().clamp(SETTLE_MIN, SETTLE_MAX);
        match timeout(settle, line.parted()).await {
            Ok(()) => Err(DROPPED.into()),
            Err(_) => Ok(line),
        }
    }

    fn next(&self, address: &str) -> Option<Waiting> {
        lock(&self.queue).take(address)
    }

    /// Sends one message. Who takes long for it gives its place to a quick one.
    async fn send<'a>(&'a self, line: &dyn PairSender, body: &[u8], place: &mut Place<'a>) -> Result<(), String> {
        let gone = |Disconnected| "it closed the connection before it had taken the message".to_owned();
        let mut sending = pin!(line.send(body));
        if let Some(sent) = within(PROMPT, sending.as_mut()).await {
            return sent.map_err(gone);
        }
        if !place.later {
            let Ok(permit) = self.later_places.try_acquire() else {
                return Err(format!("it has not taken the message within {} s", seconds(PROMPT)));
            };
            *place = Place { later: true, _permit: Some(permit) };
        }
        match within(STUCK.saturating_sub(PROMPT), sending).await {
            Some(sent) => sent.map_err(gone),
            None => Err(format!("it has not taken the message within {} s", seconds(STUCK))),
        }
    }

    fn sent(&self, address: &str, waiting: Waiting, outcome: Result<(), String>) {
        let end = lock(&self.queue).end(address, waiting, outcome);
        self.end(end);
        if lock(&self.queue).is_empty() {
            self.empty.notify_all();
        }
    }
}

/// The right to have a connection open.
struct Place<'a> {
    later: bool,
    _permit: Option<SemaphorePermit<'a>>,
}

/// What it gives, if it does so in time.
async fn within<T>(limit: Duration, what: impl Future<Output = T>) -> Option<T> {
    timeout(limit, what).await.ok()
}
