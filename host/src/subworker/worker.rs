//! The threads of a worker: one per slot, a heartbeat thread and a report flusher.
//!
//! The same for a subworker and for the control plane's own slots; only the [`Link`] differs.
//! Invariant: what a slot was granted is reported, once: as an outcome, as not begun, or as
//! returned. What the control plane has taken back is not begun.

use std::{
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::link::Link;
use crate::{
    clock::pause,
    lock::{self, lock},
    protocol::{Beat, HOLDS_MAX, Order, Registration, WorkerReply, WorkerRequest},
    runtime::{Catalog, Module, Runtime, WatchEnd},
    transport::CallError,
};

mod slot;

mod desk;

mod keeper;

mod frame;

mod loading;

mod reload;

mod room;

use desk::Desk;
use keeper::Keeper;
pub use loading::{Loading, LoadingEnd};
pub use reload::Reload;
use reload::Reloader;

/// An answer that should come at once is given up after so long.
const PROMPT: Duration = Duration::from_secs(5);
/// An answer that is not worth waiting for is given up after so long.
const SOON: Duration = Duration::from_secs(1);
/// The pause before the same is tried again that has just failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause between two tries to register.
const REGISTER_STEP: Duration = Duration::from_millis(200);
/// How often it is worth a warning that a worker cannot register.
const WARN_EVERY: Duration = Duration::from_mins(1);
/// The pause after an order, which takes a moment to carry out: it is not asked for again meanwhile.
const BEAT_STEP: Duration = Duration::from_millis(20);
/// How often what runs is told to stop: it may just be about to begin.
const STOP_STEP: Duration = Duration::from_millis(20);
/// How long whoever drops a crew waits for its slots to end, once they are told to.
const DROP_LIMIT: Duration = Duration::from_millis(200);
/// How many leases a beat tells of: so many fit into a frame. The next one tells of the others.
const BEAT_HOLDS: usize = HOLDS_MAX / 2;
/// Stack of a slot's thread: the guest's stack and what the host needs above it.
const SLOT_STACK: usize = 4 * 1024 * 1024;

/// What a worker says of itself when it registers.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its worker id.
    pub worker_id: String,
    /// The address to show for it.
    pub address: String,
    /// Room for running attempts.
    pub slots: u32,
}

/// A worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The control plane does not want it.
    #[error("the control plane refused this worker: {0}")]
    Refused(String),
    /// Another worker has its id.
    #[error("another worker with the id '{worker_id}' is still connected{}", after(*waited))]
    IdInUse {
        /// The id.
        worker_id: String,
        /// How long we waited for it to go.
        waited: Duration,
    },
    /// The control plane does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The system has no more threads.
    #[error("cannot start a thread: {}", crate::system::explain(.0))]
    Thread(#[from] std::io::Error),
}

/// Says how long something was waited for, if it was.
fn after(waited: Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(" after {} s", crate::clock::seconds(waited)) }
}

/// The running threads of a worker. Dropped without [`WorkerThreads::drain`], it stops at once.
#[derive(Debug)]
pub struct WorkerThreads {
    shared: Arc<Shared>,
    /// Closed once every slot's thread has ended.
    slots: Receiver<()>,
    others: Vec<JoinHandle<()>>,
    reloading: Option<WatchEnd>,
    loading: Loading,
    /// Somebody has seen to its end.
    over: bool,
}

struct Shared {
    link: Arc<dyn Link>,
    runtime: Runtime,
    /// What runs now. Changed as a whole, and read for a moment only.
    catalog: RwLock<Catalog>,
    /// The revision of the catalog that the control plane knows.
    told: AtomicU64,
    /// Changes of the catalog that the control plane was asked about.
    changes: AtomicU64,
    identity: Identity,
    /// The key of the registration that holds now.
    key: Mutex<Uuid>,
    desks: Vec<Desk>,
    keeper: Keeper,
    notes: AtomicU64,
    draining: AtomicBool,
    stopping: AtomicBool,
    /// Nobody knows this worker at the moment; a thread registers it anew.
    renewing: AtomicBool,
    /// The control plane does not answer, which was told.
    unheard: AtomicBool,
    room: room::Room,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoAnswer {
    /// This worker stops.
    Stopping,
    /// The request is too large to be sent, which no repetition mends.
    TooLarge,
}

impl WorkerThreads {
    /// Registers and starts to work. With `reload`, modules are loaded meanwhile, and what changes goes live. Waits
    /// at most `patience` for another worker of the same id to leave, and for a control plane that is just away.
    ///
    /// # Errors
    /// [`WorkerError`] when the control plane refuses or does not answer.
    pub fn start(
        link: Arc<dyn Link>,
        runtime: Runtime,
        catalog: Catalog,
        identity: Identity,
        reload: Option<Reload>,
        patience: Duration,
    ) -> Result<Self, WorkerError> {
        let desks = (0..identity.slots).map(|_| Desk::default()).collect();
        let shared = Arc::new(Shared {
            link,
            runtime,
            catalog: RwLock::new(catalog),
            told: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            identity,
            key: Mutex::new(Uuid::now_v7()),
            desks,
            keeper: Keeper::default(),
            notes: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            renewing: AtomicBool::new(false),
            unheard: AtomicBool::new(false),
            room: room::Room::default(),
        });
        let key = *lock(&shared.key);
        shared.register_within(key, patience)?;
        shared.tell_of_modules();
        let (ended, slots) = mpsc::channel();
        // From here on, whatever fails ends the threads that run already.
        let mut worker = Self {
            shared: Arc::clone(&shared),
            slots,
            others: Vec::new(),
            reloading: None,
            loading: Loading::default(),
            over: false,
        };
        for number in 0..shared.identity.slots {
            let (shared, ended) = (Arc::clone(&shared), ended.clone());
            spawn(format!("fw-slot-{number}"), move || {
                shared.run_slot(number);
                drop(ended);
            })?;
        }
        let (beat, keeper) = (Arc::clone(&shared), Arc::clone(&shared));
        worker.others.push(spawn("fw-beat".into(), move || beat.run_beat())?);
        worker.others.push(spawn("fw-keeper".into(), move || keeper.run_keeper())?);
        if let Some(reload) = reload {
            let (reloader, stop, loading) = Reloader::new(shared, reload);
            worker.others.push(spawn("fw-reload".into(), move || reloader.run())?);
            (worker.reloading, worker.loading) = (Some(stop), loading);
        }
        Ok(worker)
    }

    /// Takes no more work, finishes what runs, at most `limit` long, hands the rest back, and ends.
    /// With nothing to finish and nobody to tell, it ends within moments.
    pub fn drain(mut self, limit: Duration) {
        self.take_no_more();
        if self.shared.renewing.load(Ordering::SeqCst) {
            // Whatever this worker ran is void, and there is nobody to tell.
            self.shared.shut_desks();
            return self.stop_others();
        }
        let key = *lock(&self.shared.key);
        let told = self.shared.link.ask(&WorkerRequest::Drain(key), SOON);
        if let Err(error) = &told {
            warn!(worker = self.worker(), %error, "the control plane does not know that this worker drains");
        }
        let has_work = self.shared.desks.iter().any(|desk| desk.papers().held().next().is_some());
        let limit = if told.is_ok() || has_work { limit } else { Duration::ZERO };
        if self.slots.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            // Not only what was there before the wait: a grant may have been on its way.
            let tells = told.is_ok() || self.has_running();
            // A stopped attempt ends within milliseconds, and its slot tells of it.
            let limit = if told.is_ok() { PROMPT } else { SOON };
            self.stop_slots(if tells { limit } else { Duration::ZERO });
        }
        self.stop_others();
        // Nobody is known by the key after this, so a parked beat is answered too.
        let left = told.and_then(|_| self.shared.link.ask(&WorkerRequest::Leave(key), PROMPT));
        match left {
            Ok(_) => self.others.drain(..).for_each(|thread| drop(thread.join())),
            // Then the threads end by themselves, when their own questions time out.
            Err(error) => {
                debug!(worker = self.worker(), %error, "the control plane does not know that this worker left");
            }
        }
    }

    /// A call that leaves the control plane at once, from another thread.
    pub(super) fn leave(&self) -> impl Fn() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || {
            shared.draining.store(true, Ordering::SeqCst);
            if let Some(key) = shared.current_key() {
                drop(shared.link.ask(&WorkerRequest::Leave(key), SOON));
            }
        }
    }

    /// How many tasks its modules have now.
    pub fn tasks(&self) -> usize {
        lock::read(&self.shared.catalog).modules().iter().map(|module| module.info().tasks.len()).sum()
    }

    /// The loading of the modules that were there at the start.
    pub fn loading(&self) -> Loading {
        self.loading.clone()
    }

    fn worker(&self) -> &str {
        &self.shared.identity.worker_id
    }

    fn has_running(&self) -> bool {
        self.shared.desks.iter().any(|desk| desk.papers().running.is_some())
    }

    /// Begins to end: asks for no more work, and for no more changes of modules.
    fn take_no_more(&mut self) {
        self.over = true;
        self.shared.draining.store(true, Ordering::SeqCst);
        if let Some(reloading) = &self.reloading {
            reloading.stop();
        }
    }

    /// Stops what runs, and waits until the slots have ended, at most `limit`.
    fn stop_slots(&self, limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            self.shared.shut_desks();
            let left = until.saturating_duration_since(Instant::now());
            let ended = self.slots.recv_timeout(left.min(STOP_STEP)) != Err(RecvTimeoutError::Timeout);
            if ended || left.is_zero() {
                return;
            }
        }
    }

    /// Lets the threads end that are no slots.
    fn stop_others(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.keeper.call();
    }
}

impl Drop for WorkerThreads {
    /// Stops what runs, leaves, and waits little more than a second, however things stand.
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.take_no_more();
        self.shared.shut_desks();
        self.stop_others();
        if let Some(key) = self.shared.current_key()
            && let Err(error) = self.shared.link.ask(&WorkerRequest::Leave(key), SOON)
        {
            debug!(worker = self.worker(), %error, "the control plane does not know that this worker left");
        }
        // The threads that are no slots end by themselves.
        self.stop_slots(DROP_LIMIT);
    }
}

impl Shared {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Stops what runs, and lets nothing more begin.
    fn shut_desks(&self) {
        self.desks.iter().for_each(Desk::shut);
    }

    /// Logs what this worker runs from now on.
    fn tell_of_modules(&self) {
        let worker = &self.identity.worker_id;
        for module in lock::read(&self.catalog).modules() {
            let (info, version) = (module.info(), module.version());
            info!(worker, module = info.name, path = %crate::visible::line(&info.path), %version, tasks = info.tasks.len(), "module loaded");
        }
    }

    /// The catalog as it is now.
    fn catalog(&self) -> Catalog {
        lock::read(&self.catalog).clone()
    }

    fn set_catalog(&self, catalog: Catalog) {
        *lock::write(&self.catalog) = catalog;
    }

    /// The module that has a task of that name now.
    fn find(&self, name: &str) -> Option<Module> {
        lock::read(&self.catalog).find(name).cloned()
    }

    /// Registers for the first time. Another worker of the same id may be draining, or hang until it is
    /// lost, and the control plane may be away for a moment.
    fn register_within(&self, key: Uuid, patience: Duration) -> Result<(), WorkerError> {
        let worker = &self.identity.worker_id;
        let (begun, mut is_announced) = (Instant::now(), false);
        loop {
            let failure = match self.register(key, None, PROMPT) {
                Ok(()) if is_announced => {
                    info!(worker, "the other worker is gone: registered");
                    return Ok(());
                }
                Err(failure @ (WorkerError::IdInUse { .. } | WorkerError::Call(_))) => failure,
                other => return other,
            };
            let waited = begun.elapsed();
            if waited >= patience {
                return Err(match failure {
                    WorkerError::IdInUse { worker_id, .. } => {
                        WorkerError::IdInUse { worker_id, waited: patience.max(Duration::from_secs(waited.as_secs())) }
                    }
                    other => other,
                });
            }
            if !is_announced && waited >= SOON && matches!(failure, WorkerError::IdInUse { .. }) {
                is_announced = true;
                let timeout_s = crate::clock::seconds(patience);
                warn!(worker, timeout_s, "another worker with this id is still connected: waiting until it is gone");
            }
            pause(REGISTER_STEP.min(patience.saturating_sub(waited)));
        }
    }

    fn register(&self, key: Uuid, previous: Option<Uuid>, limit: Duration) -> Result<(), WorkerError> {
        let Identity { worker_id, address, slots } = self.identity.clone();
        let catalog = self.catalog();
        let registration =
            Registration { worker: key, previous, worker_id, address, slots, modules: catalog.describe() };
        match self.link.ask(&WorkerRequest::Register(registration), limit)? {
            WorkerReply::Registered => {
                self.told.store(catalog.revision(), Ordering::SeqCst);
                Ok(())
            }
            WorkerReply::Refused(why) => Err(WorkerError::Refused(why)),
            WorkerReply::IdInUse(_) => {
                let worker_id = self.identity.worker_id.clone();
                Err(WorkerError::IdInUse { worker_id, waited: Duration::ZERO })
            }
            other => {
                debug!(?other, "the control plane answered a registration with something else");
                Err(WorkerError::Refused("it answered a registration with something else".into()))
            }
        }
    }

    /// The key of the registration, unless this worker has none just now.
    fn current_key(&self) -> Option<Uuid> {
        loop {
            if self.renewing.load(Ordering::SeqCst) {
                return None;
            }
            // It is held for as long as it takes to register.
            match lock::try_lock(&self.key) {
                Some(key) => return Some(*key),
                None => thread::yield_now(),
            }
        }
    }

    /// The key to go on with, after the control plane said that it does not know `old`. Registers
    /// anew unless another thread has done so. None when this worker stops.
    fn renew(&self, old: Uuid) -> Option<Uuid> {
        let mut key = lock(&self.key);
        if *key != old {
            return Some(*key);
        }
        if self.is_draining() {
            // Whatever is still held is void, and no more is wanted.
            return None;
        }
        let worker = &self.identity.worker_id;
        warn!(worker, "the control plane does not know this worker any more: registering anew");
        self.desks.iter().for_each(Desk::clear);
        let new = Uuid::now_v7();
        self.renewing.store(true, Ordering::SeqCst);
        let mut warned: Option<Instant> = None;
        while !self.is_draining() {
            match self.register(new, Some(old), SOON) {
                Ok(()) => {
                    self.renewing.store(false, Ordering::SeqCst);
                    *key = new;
                    info!(worker, "registered anew");
                    return Some(new);
                }
                Err(error) => {
                    if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                        warned = Some(Instant::now());
                        warn!(worker, %error, "cannot register: trying on");
                    } else {
                        debug!(worker, %error, "cannot register: trying on");
                    }
                    self.link.look_around();
                    pause(REGISTER_STEP);
                }
            }
        }
        None
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// [`NoAnswer`] when there will be none.
    fn ask(&self, request: &WorkerRequest, limit: Duration) -> Result<WorkerReply, NoAnswer> {
        self.insist(|| self.link.ask(request, limit))
    }

    /// The same, in whichever way.
    fn insist(&self, mut ask: impl FnMut() -> Result<WorkerReply, CallError>) -> Result<WorkerReply, NoAnswer> {
        let worker = &self.identity.worker_id;
        loop {
            match ask() {
                Ok(WorkerReply::Refused(why)) => {
                    error!(worker, why, "the control plane refused a request: trying again");
                    if self.is_draining() {
                        return Err(NoAnswer::Stopping);
                    }
                    pause(PAUSE);
                }
                Ok(reply) => {
                    if self.unheard.load(Ordering::Relaxed) && self.unheard.swap(false, Ordering::SeqCst) {
                        info!(worker, "the control plane answers again");
                    }
                    return Ok(reply);
                }
                Err(_) if self.is_stopping() => return Err(NoAnswer::Stopping),
                Err(error @ CallError::TooLarge { .. }) => {
                    error!(worker, %error, "a request cannot be sent, which is a bug in fastworker");
                    return Err(NoAnswer::TooLarge);
                }
                Err(error @ CallError::TimedOut { .. }) => {
                    if !self.unheard.swap(true, Ordering::SeqCst) {
                        warn!(worker, %error, "the control plane does not answer: trying on");
                    }
                    self.link.look_around();
                }
                Err(error) => {
                    error!(worker, %error, "cannot ask the control plane: trying again");
                    pause(PAUSE);
                    self.link.look_around();
                }
            }
        }
    }

    /// Tells of an answer that does not fit its question, and lets a moment pass before the next.
    fn tell_unexpected(&self, question: &str, answer: &WorkerReply) {
        let worker = &self.identity.worker_id;
        error!(worker, ?answer, "the control plane answered {question} with something else: trying again");
        pause(PAUSE);
    }

    fn run_beat(&self) {
        let (mut key, mut line) = (*lock(&self.key), self.link.line());
        while !self.is_stopping() {
            let mut holds = Vec::new();
            for desk in &self.desks {
                let room = BEAT_HOLDS - holds.len();
                holds.extend(desk.papers().held().take(room));
            }
            let (beat, limit) = (WorkerRequest::Beat(Beat { worker: key, holds }), self.link.beat_limit());
            match self.insist(|| line.ask(&beat, limit, &mut || {})) {
                Ok(WorkerReply::Orders(orders)) => {
                    for Order::Stop(lease) in &orders {
                        self.desks.iter().for_each(|desk| desk.stop(*lease));
                    }
                    if !orders.is_empty() {
                        pause(BEAT_STEP);
                    }
                }
                Ok(WorkerReply::Unknown) if self.is_stopping() => return,
                Ok(WorkerReply::Unknown) => match self.renew(key) {
                    Some(new) => key = new,
                    None => return,
                },
                Ok(other) => self.tell_unexpected("a beat", &other),
                Err(NoAnswer::Stopping) => return,
                Err(NoAnswer::TooLarge) => pause(PAUSE),
            }
        }
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name).stack_size(SLOT_STACK).spawn(run)
}
