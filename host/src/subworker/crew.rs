//! The crew of a worker: one thread a slot, one for the beat, one that keeps an eye on the slots.
//!
//! The same for a subworker and for the control plane's own slots; only the [`Link`] differs.
//! Invariant: what a slot was granted is reported, once: as an outcome, as not begun, or as
//! returned. What the control plane has taken back is not begun.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::{link::Link, log::Speaker};
use crate::{
    clock,
    control_plane::state::LOOKAHEAD_MAX,
    lock::lock,
    protocol::{
        Beat, Ended, FRAME_TARGET, Lease, LeaseId, Note, Order, Registration, Work, WorkerReply, WorkerRequest,
    },
    runtime::{AttemptId, Catalog, Invocation, Module, Reports, Runtime, Slot, Stopper, WatchEnd},
    task::{ErrorKind, Failure, FollowUp, ModuleVersion, Outcome, Report},
    transport::{CallError, PAYLOAD_MAX},
};

mod reload;

pub use reload::Reload;
use reload::Reloader;

/// An answer that should come at once is given up after so long.
const PROMPT: Duration = Duration::from_secs(5);
/// An answer that is not worth waiting for is given up after so long.
const SOON: Duration = Duration::from_secs(1);
/// How long the keeper lets a slot work before it helps.
const KEEPER_STEP: Duration = Duration::from_millis(10);
/// The pause after an order, which takes a moment to carry out: it is not asked for again meanwhile.
const BEAT_STEP: Duration = Duration::from_millis(20);
/// The pause before a lease is handed back whose task is not in the catalog, as its change may just
/// be under way.
const ODD_LEASE_STEP: Duration = Duration::from_millis(20);
/// Untold reports that a slot holds; the oldest go first.
const REPORTS_MAX: usize = 1_000;
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
pub enum CrewError {
    /// The control plane does not want it.
    #[error("the control plane refused this worker: {0}")]
    Refused(String),
    /// The control plane does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The system has no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The running threads of a worker.
#[derive(Debug)]
pub struct Crew {
    shared: Arc<Shared>,
    /// Closed once every slot's thread has ended.
    slots: Receiver<()>,
    others: Vec<JoinHandle<()>>,
    reloading: Option<WatchEnd>,
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
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What a slot has on its desk.
#[derive(Default)]
struct Desk {
    papers: Mutex<Papers>,
    /// Tells the slot that its reports have arrived.
    told: Condvar,
    stopper: OnceLock<Stopper>,
}

#[derive(Default)]
struct Papers {
    waiting: VecDeque<Lease>,
    running: Option<(LeaseId, Instant)>,
    reports: VecDeque<Report>,
    /// Who says them, where that is logged.
    speaker: Option<Speaker>,
    /// Some reports are on their way.
    telling: bool,
}

impl Desk {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        lock(&self.papers)
    }

    /// Takes the next lease from it.
    fn begin(&self) -> Option<Lease> {
        let mut papers = self.papers();
        let lease = papers.waiting.pop_front()?;
        papers.running = Some((lease.id, Instant::now()));
        papers.reports.clear();
        Some(lease)
    }

    /// Takes what the attempt said that was not told yet, once what is being told has arrived: a
    /// report counts only while its lease is live.
    fn finish(&self) -> Vec<Report> {
        let mut papers = self.papers();
        papers.running = None;
        while papers.telling {
            let (woken, waited) = self.told.wait_timeout(papers, PROMPT).unwrap_or_else(PoisonError::into_inner);
            papers = woken;
            papers.telling &= !waited.timed_out();
        }
        mem::take(&mut papers.reports).into()
    }

    /// Stops everything on it.
    fn clear(&self) {
        let held = held(&self.papers());
        for lease in held {
            self.stop(lease);
        }
    }

    /// Ends an attempt, or sees to it that it does not begin.
    fn stop(&self, lease: LeaseId) {
        let mut papers = self.papers();
        papers.waiting.retain(|waiting| waiting.id != lease);
        let runs = papers.running.is_some_and(|(running, _)| running == lease);
        drop(papers);
        if runs && let Some(stopper) = self.stopper.get() {
            stopper.stop(AttemptId(lease.0));
        }
    }
}

/// Lets the keeper sleep while no slot needs it.
#[derive(Default)]
struct Keeper {
    awake: AtomicBool,
    asleep: Mutex<()>,
    called: Condvar,
}

impl Keeper {
    fn call(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            let _asleep = lock(&self.asleep);
            self.called.notify_all();
        }
    }
}

impl Crew {
    /// Registers and starts to work. With `reload`, what changes in the modules goes live.
    ///
    /// # Errors
    /// [`CrewError`] when the control plane refuses or does not answer.
    pub fn start(
        link: Arc<dyn Link>,
        runtime: Runtime,
        catalog: Catalog,
        identity: Identity,
        reload: Option<Reload>,
    ) -> Result<Self, CrewError> {
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
        });
        let key = *lock(&shared.key);
        shared.register(key, PROMPT)?;
        let (ended, slots) = mpsc::channel();
        for number in 0..shared.identity.slots {
            let (shared, ended) = (Arc::clone(&shared), ended.clone());
            spawn(format!("fw-slot-{number}"), move || {
                shared.run_slot(number);
                drop(ended);
            })?;
        }
        let (beat, keeper) = (Arc::clone(&shared), Arc::clone(&shared));
        let mut others = vec![
            spawn("fw-beat".into(), move || beat.run_beat())?,
            spawn("fw-keeper".into(), move || keeper.run_keeper())?,
        ];
        let mut reloading = None;
        if let Some(reload) = reload {
            let (reloader, stop) = Reloader::new(Arc::clone(&shared), reload);
            others.push(spawn("fw-reload".into(), move || reloader.run())?);
            reloading = Some(stop);
        }
        Ok(Self { shared, slots, others, reloading })
    }

    /// Takes no more work, finishes what runs, at most `limit` long, hands the rest back, and ends.
    /// With nothing to finish and nobody to tell, it ends within moments.
    pub fn drain(mut self, limit: Duration) {
        self.shared.draining.store(true, Ordering::SeqCst);
        if let Some(reloading) = &self.reloading {
            reloading.stop();
        }
        if self.shared.renewing.load(Ordering::SeqCst) {
            // Whatever this worker ran is void, and there is nobody to tell.
            return self.give_up();
        }
        let key = *lock(&self.shared.key);
        let told = self.shared.link.ask(&WorkerRequest::Drain(key), SOON);
        if let Err(error) = &told {
            warn!(%error, "the control plane does not know that this worker drains");
        }
        let has_work = self.shared.desks.iter().any(|desk| !held(&desk.papers()).is_empty());
        let limit = if told.is_ok() || has_work { limit } else { Duration::ZERO };
        if self.slots.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) && has_work {
            self.stop_attempts();
            // A stopped attempt ends within milliseconds, and its slot tells of it.
            let _ = self.slots.recv_timeout(if told.is_ok() { PROMPT } else { SOON });
        }
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.keeper.call();
        // Nobody is known by the key after this, so a parked beat is answered too.
        let left = told.and_then(|_| self.shared.link.ask(&WorkerRequest::Leave(key), PROMPT));
        match left {
            Ok(_) => self.others.drain(..).for_each(|thread| drop(thread.join())),
            // Then the threads end by themselves, when their own questions time out.
            Err(error) => debug!(%error, "the control plane does not know that this worker left"),
        }
    }

    /// Ends without a control plane. The threads end by themselves, when their own questions time
    /// out.
    fn give_up(&self) {
        self.stop_attempts();
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.keeper.call();
    }

    /// Stops what runs.
    fn stop_attempts(&self) {
        for desk in &self.shared.desks {
            let running = desk.papers().running;
            if let Some((lease, _)) = running {
                info!(lease = lease.0, "stopped at the end of the shutdown timeout; another worker will run it");
                desk.stop(lease);
            }
        }
    }
}

impl Shared {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// The catalog as it is now.
    fn catalog(&self) -> Catalog {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_catalog(&self, catalog: Catalog) {
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = catalog;
    }

    /// The module that has a task of that name now.
    fn find(&self, name: &str) -> Option<Module> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner).find(name).cloned()
    }

    fn register(&self, key: Uuid, limit: Duration) -> Result<(), CrewError> {
        let Identity { worker_id, address, slots } = self.identity.clone();
        let catalog = self.catalog();
        let registration = Registration { worker: key, worker_id, address, slots, modules: catalog.describe() };
        match self.link.ask(&WorkerRequest::Register(registration), limit)? {
            WorkerReply::Registered => {
                self.told.store(catalog.revision(), Ordering::SeqCst);
                Ok(())
            }
            WorkerReply::Refused(why) => Err(CrewError::Refused(why)),
            other => Err(CrewError::Refused(format!("an answer that makes no sense: {other:?}"))),
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
        warn!("the control plane does not know this worker any more: registering anew");
        self.desks.iter().for_each(Desk::clear);
        let new = Uuid::now_v7();
        self.renewing.store(true, Ordering::SeqCst);
        while !self.is_draining() {
            match self.register(new, SOON) {
                Ok(()) => {
                    self.renewing.store(false, Ordering::SeqCst);
                    *key = new;
                    info!("registered anew");
                    return Some(new);
                }
                Err(error) => {
                    warn!(%error, "cannot register: trying again");
                    self.link.look_around();
                    thread::park_timeout(Duration::from_millis(200));
                }
            }
        }
        None
    }

    /// Asks until there is an answer. None when this worker stops.
    fn ask(&self, request: &WorkerRequest, limit: Duration) -> Option<WorkerReply> {
        self.insist(|| self.link.ask(request, limit))
    }

    /// The same, in whichever way.
    fn insist(&self, mut ask: impl FnMut() -> Result<WorkerReply, CallError>) -> Option<WorkerReply> {
        loop {
            match ask() {
                Ok(WorkerReply::Refused(why)) => {
                    error!(why, "the control plane refused a request: trying again");
                    if self.is_draining() {
                        return None;
                    }
                    thread::park_timeout(SOON);
                }
                Ok(reply) => return Some(reply),
                Err(_) if self.is_stopping() => return None,
                Err(CallError::TimedOut { .. }) => self.link.look_around(),
                Err(error) => {
                    error!(%error, "cannot ask the control plane: trying again");
                    thread::park_timeout(SOON);
                    self.link.look_around();
                }
            }
        }
    }

    // A slot.

    fn run_slot(self: &Arc<Self>, number: u32) {
        let desk = &self.desks[number as usize];
        let reports = DeskReports { shared: Arc::downgrade(self), number: number as usize };
        let mut slot = self.runtime.slot(Arc::new(reports));
        let _ = desk.stopper.set(slot.stopper());
        let mut line = self.link.line();
        let (mut key, mut sequence, mut ended) = (*lock(&self.key), 0, VecDeque::new());
        loop {
            let frame = take_frame(&mut ended);
            // What does not fit goes with the next request; until then nothing more is wanted.
            let done = ended.is_empty() && !self.is_draining();
            let capacity = if done { u32::try_from(LOOKAHEAD_MAX).unwrap_or(u32::MAX) } else { 0 };
            if capacity == 0 && frame.is_empty() {
                return;
            }
            sequence += 1;
            let work = Work { worker: key, slot: number, sequence, ended: frame, capacity };
            let work = WorkerRequest::Work(work);
            // The outcomes are told before the room of the last attempt is cleared.
            match self.insist(|| line.ask(&work, &mut || slot.clear())) {
                Some(WorkerReply::Leases(leases)) => ended.extend(self.run_leases(desk, &mut slot, leases)),
                Some(WorkerReply::Unknown) => match self.renew(key) {
                    Some(new) => {
                        (key, sequence) = (new, 0);
                        ended.clear();
                    }
                    None => return,
                },
                Some(other) => error!(?other, "the control plane answered a request for work with something else"),
                None => return,
            }
        }
    }

    fn run_leases(&self, desk: &Desk, slot: &mut Slot, leases: Vec<Lease>) -> Vec<Ended> {
        let mut ended = Vec::with_capacity(leases.len());
        let mut bytes = 0;
        if leases.len() > 1 {
            self.keeper.call();
        }
        desk.papers().waiting = leases.into();
        while let Some(lease) = desk.begin() {
            let started = Instant::now();
            let Some((outcome, version)) = self.attempt(desk, slot, &lease) else {
                desk.finish();
                ended.push(not_begun(lease.id));
                continue;
            };
            let ran_us = clock::micros(started.elapsed());
            let one = fit(Ended {
                lease: lease.id,
                outcome: Some(outcome),
                ran_us,
                version: Some(version),
                reports: desk.finish(),
            });
            bytes += size(&one);
            ended.push(one);
            if bytes > FRAME_TARGET || self.is_draining() {
                let waiting = mem::take(&mut desk.papers().waiting);
                ended.extend(waiting.into_iter().map(|lease| not_begun(lease.id)));
            }
        }
        ended
    }

    /// None if it cannot begin, as nothing here has that name.
    fn attempt(&self, desk: &Desk, slot: &mut Slot, lease: &Lease) -> Option<(Outcome, ModuleVersion)> {
        let Some(module) = self.find(&lease.name) else {
            warn!(
                lease = lease.id.0,
                name = &*lease.name,
                "a task was granted that is not in the catalog: handed back"
            );
            thread::park_timeout(ODD_LEASE_STEP);
            return None;
        };
        let speaker = Speaker::of(lease, &self.identity.worker_id, &module);
        if speaker.is_some() {
            desk.papers().speaker.clone_from(&speaker);
        }
        let started = Instant::now();
        let outcome = slot.run(
            &module,
            &Invocation {
                id: AttemptId(lease.id.0),
                task_id: &lease.task_id,
                name: &lease.name,
                attempt: lease.attempt,
                timeout: Duration::from_micros(lease.timeout_us),
                args: &lease.args,
                kwargs: &lease.kwargs,
            },
        );
        if let Some(speaker) = speaker {
            speaker.ended(&outcome, started.elapsed());
        }
        Some((outcome, module.version()))
    }

    // The beat.

    fn run_beat(&self) {
        let mut key = *lock(&self.key);
        while !self.is_stopping() {
            let holds = self.desks.iter().flat_map(|desk| held(&desk.papers())).collect();
            match self.ask(&WorkerRequest::Beat(Beat { worker: key, holds }), self.link.beat_limit()) {
                Some(WorkerReply::Orders(orders)) => {
                    for Order::Stop(lease) in &orders {
                        self.desks.iter().for_each(|desk| desk.stop(*lease));
                    }
                    if !orders.is_empty() {
                        thread::park_timeout(BEAT_STEP);
                    }
                }
                Some(WorkerReply::Unknown) if self.is_stopping() => return,
                Some(WorkerReply::Unknown) => match self.renew(key) {
                    Some(new) => key = new,
                    None => return,
                },
                Some(other) => error!(?other, "the control plane answered a beat with something else"),
                None => return,
            }
        }
    }

    // The keeper.

    /// Tells what running tasks say, and returns what waits behind one that takes its time.
    fn run_keeper(&self) {
        while !self.is_stopping() {
            let asleep = lock(&self.keeper.asleep);
            if !self.keeper.awake.load(Ordering::SeqCst) {
                drop(self.keeper.called.wait(asleep).unwrap_or_else(PoisonError::into_inner));
                continue;
            }
            drop(asleep);
            thread::park_timeout(KEEPER_STEP);
            if !self.look_after_slots() {
                self.keeper.awake.store(false, Ordering::SeqCst);
                // A slot may have called between the look and the store.
                if self.desks.iter().any(|desk| needs_keeper(&desk.papers())) {
                    self.keeper.call();
                }
            }
        }
    }

    /// Returns whether a slot still needs looking after.
    fn look_after_slots(&self) -> bool {
        let (mut reports, mut returned, mut needed) = (Vec::new(), Vec::new(), false);
        for desk in &self.desks {
            let mut papers = desk.papers();
            needed |= needs_keeper(&papers);
            let Some((lease, since)) = papers.running else { continue };
            if since.elapsed() >= KEEPER_STEP {
                returned.extend(papers.waiting.drain(..).map(|lease| lease.id));
                papers.telling = !papers.reports.is_empty();
                reports.extend(papers.reports.drain(..).map(|report| (lease, report)));
            }
        }
        if reports.is_empty() && returned.is_empty() {
            return needed;
        }
        let sequence = self.notes.fetch_add(1, Ordering::SeqCst) + 1;
        let note = Note { worker: *lock(&self.key), sequence, reports, returned };
        let told = self.ask(&WorkerRequest::Note(note), PROMPT).is_some();
        for desk in &self.desks {
            desk.papers().telling = false;
            desk.told.notify_all();
        }
        told && needed
    }
}

/// What a slot is about to run or runs.
fn held(papers: &Papers) -> Vec<LeaseId> {
    papers.waiting.iter().map(|lease| lease.id).chain(papers.running.map(|(lease, _)| lease)).collect()
}

fn needs_keeper(papers: &Papers) -> bool {
    papers.running.is_some() && (!papers.waiting.is_empty() || !papers.reports.is_empty())
}

fn not_begun(lease: LeaseId) -> Ended {
    Ended { lease, outcome: None, ran_us: 0, version: None, reports: Vec::new() }
}

/// What every item of a frame takes beyond its documents, at most.
const ITEM_BYTES: usize = 512;

/// About how many bytes it takes in a frame.
fn size(ended: &Ended) -> usize {
    let report = |report: &Report| match report {
        Report::Log { message, .. } => message.len(),
        Report::Progress(progress) => progress.message.len(),
    };
    let outcome = match &ended.outcome {
        Some(Outcome::Success { result, follow_ups }) => {
            let follow_up =
                |task: &FollowUp| task.name.len() + task.args.as_str().len() + task.kwargs.as_str().len() + ITEM_BYTES;
            result.as_str().len() + follow_ups.iter().map(follow_up).sum::<usize>()
        }
        Some(Outcome::Failure(failure)) => failure.message.len(),
        Some(Outcome::Stopped) | None => 0,
    };
    outcome + ended.reports.iter().map(|one| report(one) + ITEM_BYTES).sum::<usize>() + ITEM_BYTES
}

/// Sees to it that an outcome fits into a frame: without its last reports, or else as a failure.
fn fit(mut ended: Ended) -> Ended {
    if size(&ended) > PAYLOAD_MAX {
        ended.reports.clear();
    }
    if size(&ended) > PAYLOAD_MAX {
        let message = format!("the result and the follow-up tasks are over the limit of {PAYLOAD_MAX} bytes together");
        ended.outcome = Some(Outcome::Failure(Failure::new(ErrorKind::OutputLimit, message)));
    }
    ended
}

/// Takes from the front what goes into one frame: at least one, if there is one.
fn take_frame(ended: &mut VecDeque<Ended>) -> Vec<Ended> {
    let mut bytes = 0;
    let fits = ended.iter().take_while(|one| {
        bytes += size(one);
        bytes <= FRAME_TARGET
    });
    let count = fits.count().max(1).min(ended.len());
    ended.drain(..count).collect()
}

/// Puts what a guest says on its slot's desk.
struct DeskReports {
    shared: Weak<Shared>,
    number: usize,
}

impl Reports for DeskReports {
    fn report(&self, attempt: AttemptId, report: Report) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut papers = shared.desks[self.number].papers();
        if papers.running.is_none_or(|(lease, _)| lease.0 != attempt.0) {
            return;
        }
        let told = papers.speaker.clone().map(|speaker| (speaker, report.clone()));
        if papers.reports.len() >= REPORTS_MAX {
            papers.reports.pop_front();
        }
        papers.reports.push_back(report);
        drop(papers);
        if let Some((speaker, report)) = told {
            speaker.says(&report);
        }
        shared.keeper.call();
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name).stack_size(SLOT_STACK).spawn(run)
}
