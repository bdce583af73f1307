//! Every transition of every task: the pure core of the control plane.
//!
//! [`State`] is synchronous and takes [`Now`]: it owns no socket, clock, thread or die, so that a
//! simulation can drive it and one seed gives one history. `R` is the way back to whoever asked,
//! which the core carries and never uses. What is to be said goes to the outbox, in order; the
//! caller takes it from there once it has let go of the lock.
//!
//! Split by what comes in: `clients`, `tasks`, `schedules`, `grants`, `workers`, `catalog`, `calls` for
//! callbacks, `parked` for what waits, `unclaimed` for names that no worker has, and `isolation` for tasks
//! that run alone. `record` is what is kept of a task, `outbox` the way out, and
//! `query` and `stats` are for whoever looks. This file holds what they share.
//!
//! Invariants:
//! - a task that was accepted ends exactly once, and its first recorded end stands;
//! - a task has at most one live lease, and an outcome counts only under a live lease;
//! - no slot waits while a task waits that it could run, unless its worker is reserved for one that runs alone;
//! - everything has a bound: see [`Limits`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use lru::DefaultHasher;
use uuid::Uuid;

use super::{
    events::EventLog,
    metrics::Metrics,
    queue::{Place, Queue},
    results::Results,
    schedules::Schedules,
    sessions::Sessions,
    signatures::Change,
    worker_registry::WorkerRegistry,
};
use crate::{
    clock::{Moment, Now, Timestamp},
    protocol::{LeaseId, Reply, WAIT_MAX, WorkerReply},
    task::TaskId,
};

mod calls;
mod catalog;
mod clients;
mod grants;
mod isolation;
mod outbox;
mod parked;
mod query;
mod record;
mod schedules;
mod stats;
mod tasks;
mod unclaimed;
mod workers;

pub use outbox::{Answer, Callback, CallbackEnd, Effect, Responder};
pub use query::Detail;
use record::{End, Granted, LastFailure, Loss, Phase, SubmitOutcome, TaskRecord, Wait};
pub use record::{LAST_FAILURE_MAX, TASK_SESSIONS_MAX};
pub use stats::{Counts, Stats, TaskView};

/// So much work may be granted at a time to a slot, beyond the first task.
pub const LOOKAHEAD: Duration = Duration::from_millis(2);
/// So many tasks may be granted at a time to a slot.
pub const LOOKAHEAD_MAX: usize = 256;
/// Maximum number of worker crashes while a task ran; the last one ends it as `worker-lost`.
pub const LOSSES_MAX: u32 = 3;
/// Interval at which the wall clock is compared with the next `eta`, as it may jump.
pub const ETA_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// So soon a worker is asked again what it holds, after something was taken back from it.
pub const SECOND_LOOK: Duration = Duration::from_millis(20);
/// How long a lease may be on its way to its slot. Longer than a slot takes to repeat a request that
/// carried outcomes: a lease that was run in that time is not taken for one that never arrived.
pub const DELIVERY_MAX: Duration = Duration::from_millis(2_800);
/// How far apart two beats are at least that together show that a lease never arrived: one alone may
/// have been written before it did.
pub const BEATS_APART: Duration = Duration::from_millis(500);
/// So many tasks may be named by requests that wait; further ones are answered with what there is.
pub const WATCHING_MAX: usize = 1_000_000;
/// A look at a worker that comes so late says that the control plane stood still itself.
pub const STALL: Duration = Duration::from_secs(1);
/// A slot that says nothing so long after its grants must have ended is given up.
pub const LEASE_GRACE: Duration = Duration::from_secs(30);

/// Default time in which a worker is expected back after a start or a loss.
pub const UNKNOWN_GRACE: Duration = Duration::from_secs(30);

/// The bounds of the state.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tasks that may be unfinished at a time.
    pub tasks_max: usize,
    /// Bytes of arguments that unfinished tasks may hold.
    pub bytes_max: usize,
    /// Results that are kept.
    pub results_max: usize,
    /// Bytes that kept results and reports may hold.
    pub result_bytes_max: usize,
    /// How long a result is kept.
    pub result_ttl: Duration,
    /// How long calls of a name that no worker has wait after a start or the loss of a worker.
    pub unknown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tasks_max: 1_000_000,
            bytes_max: 1024 * 1024 * 1024,
            results_max: 10_000,
            result_bytes_max: 1024 * 1024 * 1024,
            result_ttl: Duration::from_hours(1),
            unknown_grace: UNKNOWN_GRACE,
        }
    }
}

type ParkId = u64;

/// A client's request that waits.
#[derive(Debug)]
struct Parked<R> {
    reply_to: R,
    condition: WaitCondition,
    until: Moment,
}

#[derive(Debug)]
enum WaitCondition {
    /// Has this task ended? Answered like the submission it came with.
    Submitted(TaskId),
    /// Has one of these tasks ended?
    Lookup(Vec<TaskId>),
    /// Has this task said something, or ended?
    Follow { id: TaskId, after: u64 },
    /// Has something happened?
    Events { after: u64 },
}

impl WaitCondition {
    fn tasks(&self) -> &[TaskId] {
        match self {
            WaitCondition::Submitted(id) | WaitCondition::Follow { id, .. } => std::slice::from_ref(id),
            WaitCondition::Lookup(ids) => ids,
            WaitCondition::Events { .. } => &[],
        }
    }
}

/// What happens by itself when its moment comes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A scheduled task or a retry is due.
    Due(TaskId),
    /// A parked request is answered with what there is.
    Parked(ParkId),
    /// A slot's parked request is answered with nothing, or its leases are given up.
    Slot(Uuid, u32),
    /// A parked beat is answered with nothing.
    Beat(Uuid),
    /// A worker may have been silent for too long.
    Silence(Uuid),
    /// A session's parked question is answered with what there is.
    Collect(Uuid),
    /// Sessions may have been left alone.
    Sessions,
    /// A result may be too old.
    Expiry,
    /// A schedule may be due.
    Schedules,
    /// The first `eta` may be reached.
    Eta,
    /// Calls of names that no worker has may have waited long enough.
    Unclaimed,
}

/// The core.
#[derive(Debug)]
pub struct State<R> {
    limits: Limits,
    /// Boxed, so that the map is small to move when it grows.
    tasks: HashMap<TaskId, Box<TaskRecord>, DefaultHasher>,
    bytes: usize,
    queue: Queue,
    leases: BTreeMap<LeaseId, Granted>,
    /// Workers that run one task alone, or finish what they have in order to do so.
    reservations: BTreeMap<Uuid, TaskId>,
    /// The attempts that each crash of a worker counted against, by the key of its registration.
    crashes: VecDeque<(Uuid, Vec<TaskId>)>,
    /// Tasks that wait until the wall clock shows their `eta`.
    etas: BTreeSet<(Timestamp, TaskId)>,
    /// When the timer for the first of them is set.
    eta_check: Moment,
    /// Calls of names that no worker has, by name: they fail if that lasts beyond `absent_until`.
    unclaimed: BTreeMap<Arc<str>, BTreeSet<TaskId>>,
    /// When the timer for them is set.
    unclaimed_check: Moment,
    /// Until when workers may take to connect, after the start and after each loss.
    absent_until: Now,
    registry: WorkerRegistry<R>,
    results: Results,
    /// When the timer for the oldest result is set.
    expiry: Option<Moment>,
    sessions: Sessions<R>,
    /// Whether the timer for the longest unused session is set.
    watches_sessions: bool,
    schedules: Schedules,
    /// When the timer for the next schedule is set.
    next_schedule: Moment,
    parked: BTreeMap<ParkId, Parked<R>>,
    /// How many tasks they name.
    watching: usize,
    timers: BTreeSet<(Moment, Timer)>,
    outbox: Vec<Effect<R>>,
    event_log: EventLog,
    /// Parked requests that wait for an event, and the last event that such were told of.
    event_waiters: Vec<ParkId>,
    last_notified_event: u64,
    counts: Counts,
    metrics: Metrics,
    position: u64,
    last_lease: u64,
    /// When the first worker registered: where the numbers of leases begin.
    born: Timestamp,
    last_park: ParkId,
    draining: bool,
    stopped: bool,
    /// The worker id of the control plane itself.
    own_id: String,
}

impl<R: Responder> State<R> {
    /// A core that knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            results: Results::new(limits.results_max, limits.result_bytes_max, limits.result_ttl),
            limits,
            tasks: HashMap::default(),
            bytes: 0,
            queue: Queue::default(),
            leases: BTreeMap::new(),
            reservations: BTreeMap::new(),
            crashes: VecDeque::new(),
            etas: BTreeSet::new(),
            eta_check: Moment::NEVER,
            unclaimed: BTreeMap::new(),
            unclaimed_check: Moment::NEVER,
            absent_until: Now::default(),
            registry: WorkerRegistry::default(),
            expiry: None,
            sessions: Sessions::default(),
            watches_sessions: false,
            schedules: Schedules::default(),
            next_schedule: Moment::NEVER,
            parked: BTreeMap::new(),
            watching: 0,
            timers: BTreeSet::new(),
            outbox: Vec::new(),
            event_log: EventLog::default(),
            event_waiters: Vec::new(),
            last_notified_event: 0,
            counts: Counts::default(),
            metrics: Metrics::default(),
            position: 0,
            last_lease: 0,
            born: Timestamp::default(),
            last_park: 0,
            draining: false,
            stopped: false,
            own_id: String::new(),
        }
    }

    /// Takes the worker id of the control plane itself: no other worker gets it.
    pub fn set_own_id(&mut self, id: &str) {
        id.clone_into(&mut self.own_id);
    }

    /// Takes which tasks came and went with workers, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.registry.take_changes()
    }

    /// Begins to expect the workers that were there before a restart.
    pub fn start(&mut self, now: Now) {
        self.expect_workers(now);
    }

    /// When [`State::tick`] has something to do next.
    pub fn next_wake(&self) -> Moment {
        self.timers.first().map_or(Moment::NEVER, |(at, _)| *at)
    }

    /// The waiting tasks.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The workers.
    pub fn registry(&self) -> &WorkerRegistry<R> {
        &self.registry
    }

    /// What submits tasks by itself.
    pub fn schedules(&self) -> &Schedules {
        &self.schedules
    }

    /// The sessions.
    pub fn sessions(&self) -> &Sessions<R> {
        &self.sessions
    }

    /// What happened lately.
    pub fn event_log(&self) -> &EventLog {
        &self.event_log
    }

    /// The ended tasks that are still known.
    pub fn results(&self) -> &Results {
        &self.results
    }

    // Time.

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now.mono
            && let Some((at, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::Due(id) => self.due(now, &id),
                Timer::Parked(park) => self.unpark(now, park),
                Timer::Slot(worker, slot) => self.slot_over(now, at, worker, slot),
                Timer::Beat(worker) => self.answer_beat(worker, Vec::new()),
                Timer::Silence(worker) => self.check_silence(now, at, worker),
                Timer::Collect(session) => self.answer_session(session),
                Timer::Sessions => self.check_sessions(now),
                Timer::Schedules => self.run_schedules(now),
                Timer::Eta => self.enqueue_due_etas(now),
                Timer::Unclaimed => self.fail_unclaimed(now),
                Timer::Expiry => {
                    self.results.expire(now.mono);
                    self.expiry = None;
                    self.await_expiry();
                }
            }
        }
        self.dispatch(now);
    }

    /// Takes no more tasks. What was accepted is still run.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether it takes no more tasks.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether nothing waits to be run now and nothing runs. Scheduled tasks do not count.
    pub fn is_quiet(&self) -> bool {
        let is_runnable = |(place, _): (Place, &TaskId)| self.registry.has(&place.name);
        self.queue.ready() == 0 && self.leases.is_empty() && !self.queue.isolated().any(is_runnable)
    }

    /// Tells everybody who waits that the control plane stops.
    pub fn farewell(&mut self) {
        const STOPPING: &str = "the control plane is stopping and has not finished this";
        self.stopped = true;
        self.watching = 0;
        for (_, parked) in mem::take(&mut self.parked) {
            self.reply(parked.reply_to, Reply::Refused(STOPPING.into()));
        }
        for reply_to in self.sessions.take_parked() {
            self.reply(reply_to, Reply::Refused(STOPPING.into()));
        }
        let slots: Vec<(Uuid, u32)> = self
            .registry
            .iter()
            .flat_map(|(key, worker)| worker.slots.keys().map(move |number| (key, *number)))
            .collect();
        for (key, number) in slots {
            if let Some(reply_to) = self.registry.change_slot(key, number, |slot| slot.parked.take()).flatten() {
                self.reply_to_worker(reply_to, WorkerReply::Unknown);
            }
        }
        let beats: Vec<R> = self.registry.iter_mut().filter_map(|(_, worker)| Some(worker.beat.take()?.0)).collect();
        for reply_to in beats {
            self.reply_to_worker(reply_to, WorkerReply::Unknown);
        }
    }
}

/// How long a request may be parked.
fn wait(wait_ms: u32) -> Duration {
    Duration::from_millis(wait_ms.into()).min(WAIT_MAX)
}

#[cfg(test)]
mod tests;
