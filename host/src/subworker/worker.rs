//! The threads of a worker: one per slot, a heartbeat thread, a report flusher and a module reloader.
//!
//! The same for a subworker and for the control plane's own slots; only the [`Link`] differs. Invariants: every lease
//! that a slot was granted is reported exactly once, as an outcome, as not started, or as returned; a lease that the
//! control plane has revoked does not start.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use super::link::Link;
use crate::{
    protocol::{Refusal, WorkerRequest},
    runtime::{Catalog, Runtime, WatcherHandle},
    transport::CallError,
};

mod slot;

mod slot_state;

mod sandbox_shortage;

mod frame;

mod flusher;

mod heartbeat;

mod registration;

mod retrying_link;

mod live_catalog;

mod shutdown_flags;

mod loading;

mod reload;

use flusher::{FlushSignal, ReportFlusher};
use heartbeat::Heartbeat;
use live_catalog::LiveCatalog;
pub use loading::{LoadSummary, Loading};
use registration::WorkerRegistration;
use reload::Reloader;
pub use reload::{Reload, Transfer};
use retrying_link::RetryingLink;
use sandbox_shortage::SandboxShortage;
use shutdown_flags::ShutdownFlags;
use slot::SlotRunner;
use slot_state::SlotState;

/// Timeout for requests that are not parked.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for best-effort requests.
const BEST_EFFORT_TIMEOUT: Duration = Duration::from_secs(1);
/// Delay before a failed request is repeated.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Interval at which running attempts are stopped again: one may just be about to start.
const STOP_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum time that dropping [`WorkerThreads`] waits for its slots.
const DROP_TIMEOUT: Duration = Duration::from_millis(200);
/// Stack of a thread that runs no attempts, in bytes.
const STACK_SIZE: usize = 3 << 20;

/// The identity with which a worker registers.
#[derive(Clone, Debug)]
pub struct WorkerIdentity {
    /// Its worker id.
    pub worker_id: String,
    /// The address to display for it.
    pub address: String,
    /// Number of slots.
    pub slots: u32,
}

/// A worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The control plane refused the registration.
    #[error("the control plane refused this worker: {0}")]
    Refused(Refusal),
    /// The reply to the registration is of an unexpected type.
    #[error("the control plane sent an unexpected reply to the registration of this worker")]
    UnexpectedReply,
    /// Another worker has the same id.
    #[error("another worker with the id '{worker_id}' is still connected{}", after_waiting(*waited))]
    IdInUse {
        /// The id.
        worker_id: String,
        /// The time that this worker waited for the other one to leave.
        waited: Duration,
    },
    /// The control plane does not reply.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The system allows no more threads.
    #[error("cannot start a thread: {}", crate::system::explain(.0))]
    Thread(#[from] std::io::Error),
}

/// Formats a time that was waited, or nothing if it is zero.
fn after_waiting(waited: Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(" after {} s", crate::clock::seconds(waited)) }
}

/// The slots of a worker, by number.
type Slots = Arc<[Arc<SlotState>]>;

/// Stops all running attempts, and lets no more start.
fn close_slots(slots: &[Arc<SlotState>]) {
    for slot in slots {
        slot.close();
    }
}

/// The running threads of a worker. Dropped without [`WorkerThreads::drain`], it stops immediately.
pub struct WorkerThreads {
    registration: Arc<WorkerRegistration>,
    catalog: Arc<LiveCatalog>,
    slots: Slots,
    flush: Arc<FlushSignal>,
    shutdown: Arc<ShutdownFlags>,
    /// Disconnected once every slot's thread has ended.
    slots_ended: Receiver<()>,
    /// All threads but those of the slots.
    other_threads: Vec<JoinHandle<()>>,
    watcher_handle: Option<WatcherHandle>,
    loading: Loading,
    /// Whether [`WorkerThreads::drain`] was called.
    is_ending: bool,
}

impl std::fmt::Debug for WorkerThreads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerThreads").field("identity", self.registration.identity()).finish_non_exhaustive()
    }
}

impl WorkerThreads {
    /// Registers and starts to work. With `reload`, modules are loaded in the background, and changed files take
    /// effect. Waits at most `register_timeout` for another worker of the same id to leave, and for a control plane
    /// that does not reply.
    ///
    /// # Errors
    /// [`WorkerError`] when the control plane refuses or does not reply.
    pub fn start(
        link: Arc<dyn Link>,
        runtime: Runtime,
        catalog: Catalog,
        identity: WorkerIdentity,
        reload: Option<Reload>,
        register_timeout: Duration,
    ) -> Result<Self, WorkerError> {
        let slots: Slots = (0..identity.slots).map(|_| Arc::default()).collect();
        let (shutdown, flush) = (Arc::new(ShutdownFlags::default()), Arc::new(FlushSignal::default()));
        let catalog = Arc::new(LiveCatalog::new(catalog));
        let worker_id = identity.worker_id.clone();
        let (registration_link, flags) = (Arc::clone(&link), Arc::clone(&shutdown));
        let registration =
            WorkerRegistration::new(identity, registration_link, flags, Arc::clone(&catalog), Arc::clone(&slots));
        let registration = Arc::new(registration);
        registration.register_within(register_timeout)?;
        catalog.log_modules(&worker_id);
        let link = Arc::new(RetryingLink::new(link, worker_id, Arc::clone(&shutdown)));
        let (end_sender, slots_ended) = mpsc::channel();
        // From here on, dropping this on an error ends the threads that run already.
        let mut worker = Self {
            registration,
            catalog,
            slots,
            flush,
            shutdown,
            slots_ended,
            other_threads: Vec::new(),
            watcher_handle: None,
            loading: Loading::default(),
            is_ending: false,
        };
        worker.start_slots(&link, &runtime, &end_sender)?;
        worker.start_others(link, runtime, reload)?;
        Ok(worker)
    }

    fn start_slots(
        &self,
        link: &Arc<RetryingLink>,
        runtime: &Runtime,
        end_sender: &mpsc::Sender<()>,
    ) -> std::io::Result<()> {
        let shortage = Arc::new(SandboxShortage::default());
        for (number, state) in (0..).zip(self.slots.iter()) {
            let runner = SlotRunner {
                number,
                state: Arc::clone(state),
                runtime: runtime.clone(),
                link: Arc::clone(link),
                registration: Arc::clone(&self.registration),
                catalog: Arc::clone(&self.catalog),
                flush: Arc::clone(&self.flush),
                shutdown: Arc::clone(&self.shutdown),
                shortage: Arc::clone(&shortage),
            };
            let end_sender = end_sender.clone();
            let run = move || {
                runner.run();
                drop(end_sender);
            };
            thread::Builder::new().name(format!("fw-slot-{number}")).stack_size(runtime.thread_stack()).spawn(run)?;
        }
        Ok(())
    }

    fn start_others(
        &mut self,
        link: Arc<RetryingLink>,
        runtime: Runtime,
        reload: Option<Reload>,
    ) -> std::io::Result<()> {
        let heartbeat = Heartbeat {
            link: Arc::clone(&link),
            registration: Arc::clone(&self.registration),
            slots: Arc::clone(&self.slots),
            shutdown: Arc::clone(&self.shutdown),
        };
        self.other_threads.push(spawn("fw-heartbeat".into(), move || heartbeat.run())?);
        let flusher = ReportFlusher {
            link,
            registration: Arc::clone(&self.registration),
            slots: Arc::clone(&self.slots),
            signal: Arc::clone(&self.flush),
            shutdown: Arc::clone(&self.shutdown),
            last_sequence: 0,
        };
        self.other_threads.push(spawn("fw-flush".into(), move || flusher.run())?);
        if let Some(reload) = reload {
            let (registration, catalog) = (Arc::clone(&self.registration), Arc::clone(&self.catalog));
            let (reloader, end, loading, follower) =
                Reloader::new(runtime, registration, catalog, Arc::clone(&self.shutdown), reload);
            self.other_threads.push(spawn("fw-reload".into(), move || reloader.run())?);
            if let Some(follower) = follower {
                self.other_threads.push(spawn("fw-modules".into(), move || follower.run())?);
            }
            (self.watcher_handle, self.loading) = (Some(end), loading);
        }
        Ok(())
    }

    /// Accepts no more tasks, waits at most `limit` for running attempts, returns the other leases, and ends. Returns
    /// immediately when nothing runs and the control plane does not reply.
    pub fn drain(mut self, limit: Duration) {
        self.stop_requesting();
        if self.registration.is_lost() {
            // The control plane has requeued everything that this worker held.
            close_slots(&self.slots);
            return self.stop_others();
        }
        let (key, link) = (self.registration.key(), self.registration.link());
        let reply = link.request(&WorkerRequest::Drain(key), BEST_EFFORT_TIMEOUT);
        if let Err(error) = &reply {
            warn!(worker = self.worker_id(), %error, "cannot notify the control plane that this worker is draining");
        }
        let has_work = self.slots.iter().any(|slot| slot.lock().held().next().is_some());
        let limit = if reply.is_ok() || has_work { limit } else { Duration::ZERO };
        if self.slots_ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            // A slot may have started an attempt since: a grant may have been in flight.
            let has_outcomes = reply.is_ok() || self.has_running();
            // A stopped attempt ends within milliseconds, and its slot reports it.
            let limit = if reply.is_ok() { REPLY_TIMEOUT } else { BEST_EFFORT_TIMEOUT };
            self.stop_slots(if has_outcomes { limit } else { Duration::ZERO });
        }
        self.stop_others();
        // The key is invalid after this, so a parked heartbeat gets its reply too.
        match reply.and_then(|_| self.registration.link().request(&WorkerRequest::Leave(key), REPLY_TIMEOUT)) {
            Ok(_) => self.other_threads.drain(..).for_each(|thread| drop(thread.join())),
            // The threads end by themselves when their requests time out.
            Err(error) => {
                debug!(worker = self.worker_id(), %error, "cannot notify the control plane that this worker has left");
            }
        }
    }

    /// Returns a function that leaves the control plane immediately, for another thread to call.
    pub(super) fn leave(&self) -> impl Fn() + Send + 'static {
        let (registration, shutdown) = (Arc::clone(&self.registration), Arc::clone(&self.shutdown));
        move || {
            shutdown.drain();
            registration.leave();
        }
    }

    /// Number of tasks in the modules that are loaded now.
    pub fn tasks(&self) -> usize {
        self.catalog.task_count()
    }

    /// Progress of loading the modules that existed at the start.
    pub fn loading(&self) -> Loading {
        self.loading.clone()
    }

    fn worker_id(&self) -> &str {
        &self.registration.identity().worker_id
    }

    fn has_running(&self) -> bool {
        self.slots.iter().any(|slot| slot.lock().running.is_some())
    }

    /// Stops requesting work, and stops reloading modules.
    fn stop_requesting(&mut self) {
        self.is_ending = true;
        self.shutdown.drain();
        if let Some(watcher_handle) = &self.watcher_handle {
            watcher_handle.stop();
        }
    }

    /// Stops running attempts, and waits at most `limit` until the slots have ended.
    fn stop_slots(&self, limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            close_slots(&self.slots);
            let remaining = until.saturating_duration_since(Instant::now());
            let has_ended =
                self.slots_ended.recv_timeout(remaining.min(STOP_RETRY_INTERVAL)) != Err(RecvTimeoutError::Timeout);
            if has_ended || remaining.is_zero() {
                return;
            }
        }
    }

    /// Ends the threads other than those of the slots.
    fn stop_others(&self) {
        self.shutdown.stop();
        self.flush.wake();
    }
}

impl Drop for WorkerThreads {
    /// Stops running attempts, leaves the control plane, and waits little more than a second at most.
    fn drop(&mut self) {
        if self.is_ending {
            return;
        }
        self.stop_requesting();
        close_slots(&self.slots);
        self.stop_others();
        self.registration.leave();
        // The other threads end by themselves.
        self.stop_slots(DROP_TIMEOUT);
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name).stack_size(STACK_SIZE).spawn(run)
}
