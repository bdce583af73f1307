//! Every transition of every task: the pure core of the control plane.
//!
//! [`State`] is synchronous and takes [`Now`]: it owns no sockets, clocks, threads or randomness, so that a
//! simulation can drive it and one seed gives one history. `R` is the recipient of a reply; the state carries it and
//! never uses it.
//!
//! [`State::apply`] is the only entry point: it runs a transition, dispatches the tasks that became runnable, and
//! returns the [`Effect`]s, which the caller carries out after unlocking.
//!
//! One file for each subject: `clients` (requests of clients), `tasks` (submission), `queueing`, `completion` (ends),
//! `requeue`, `schedules`, `grants`, `isolation` (tasks that run alone), `workers` (registration and loss), `work`
//! (slots), `heartbeats`, `catalog`, `modules` (which subworkers take), `callbacks`, `parked` (long polls), `events`, `unserved` (names that no
//! worker serves), `timers`. `record` is an unfinished task, `outbox` the effects, `limits` the bounds; `query` and
//! `stats` only read.
//!
//! Invariants:
//! - a task that was accepted ends exactly once, and its first recorded end is final;
//! - a task has at most one live lease, and an outcome counts only under a live lease;
//! - no slot waits while a task waits that it could run, unless its worker is reserved for one that runs alone;
//! - everything has a bound: see [`Limits`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    mem,
    sync::Arc,
};

use super::{
    events::EventLog,
    metrics::Metrics,
    queue::{Queue, QueueKey},
    results::Results,
    schedules::Schedules,
    sessions::{SessionId, Sessions},
    signatures::TaskChange,
    worker_registry::{WorkerKey, WorkerRegistry},
};
use crate::{
    clock::{Moment, Now, Timestamp},
    protocol::{LeaseId, Refusal, RefusalCode, Reply, WorkerReply},
    task::TaskId,
};
use lru::DefaultHasher;

mod callbacks;
mod catalog;
mod clients;
mod completion;
mod events;
mod grants;
mod heartbeats;
mod isolation;
mod limits;
mod modules;
mod outbox;
mod parked;
mod query;
mod queueing;
mod record;
mod requeue;
mod schedules;
mod stats;
mod tasks;
mod timers;
mod unserved;
mod work;
mod workers;

use limits::park_limit;
pub use limits::{
    BEAT_INTERVAL_MIN, DELIVERY_MAX, ETA_CHECK_INTERVAL, LEASE_GRACE, LOSSES_MAX, Limits, PREFETCH_TIME_MAX,
    RECHECK_DELAY, STALL_MIN, UNKNOWN_GRACE, WAITED_TASKS_MAX,
};
use modules::OfferedModules;
pub use outbox::{AnyReply, Callback, CallbackOutcome, Effect, Responder};
use parked::{Parked, ParkedId, WaitCondition};
pub use query::TaskDetail;
use record::{DueAt, Granted, LastFailure, Phase, RequeueCause, SubmitOutcome, TaskOutcome, TaskRecord};
pub use record::{LAST_FAILURE_MAX, TASK_SESSIONS_MAX};
pub use stats::{Counts, Stats, TaskView};
use timers::Timer;

/// The state of the control plane.
#[derive(Debug)]
pub struct State<R> {
    limits: Limits,
    /// The unfinished tasks. Boxed, so that the map is small to move when it grows.
    tasks: HashMap<TaskId, Box<TaskRecord>, DefaultHasher>,
    /// Size of their arguments.
    bytes: usize,
    queue: Queue,
    leases: BTreeMap<LeaseId, Granted>,
    /// Workers that run one task alone, or finish what they have in order to do so.
    reservations: BTreeMap<WorkerKey, TaskId>,
    /// The tasks that each worker crash counted against, by the key of the registration.
    crashes: VecDeque<(WorkerKey, Vec<TaskId>)>,
    /// Tasks that wait until the wall clock reaches their `eta`.
    etas: BTreeSet<(Timestamp, TaskId)>,
    /// Time of the timer for the first of them.
    eta_check: Moment,
    /// Tasks whose name no worker serves, by name. They fail after `workers_expected_until`.
    unserved: BTreeMap<Arc<str>, BTreeSet<TaskId>>,
    /// Time of the timer for them.
    unserved_check: Moment,
    /// Until when workers are expected to connect, after the start and after each loss.
    workers_expected_until: Now,
    registry: WorkerRegistry<R>,
    /// The modules that subworkers can take.
    offered: OfferedModules,
    results: Results,
    /// Time of the timer for the oldest result, if it is set.
    result_expiry_timer: Option<Moment>,
    sessions: Sessions<R>,
    /// Whether the timer for the least recently used session is set.
    has_session_timer: bool,
    schedules: Schedules,
    /// Time of the timer for the next schedule.
    next_schedule: Moment,
    parked: BTreeMap<ParkedId, Parked<R>>,
    /// Number of tasks that parked requests wait for.
    waited_tasks: usize,
    timers: BTreeSet<(Moment, Timer)>,
    outbox: Vec<Effect<R>>,
    event_log: EventLog,
    /// Parked requests that wait for an event, and the last event that was sent to such requests.
    event_waiters: Vec<ParkedId>,
    last_notified_event: u64,
    counts: Counts,
    metrics: Metrics,
    last_position: u64,
    last_lease: u64,
    /// When the first worker registered: lease ids grow from here, so that those of an earlier control plane differ.
    lease_epoch: Timestamp,
    last_parked_id: ParkedId,
    is_draining: bool,
    is_closed: bool,
    /// The worker id of the control plane itself.
    control_plane_id: String,
}

/// The outcome of a transition of the state.
#[derive(Debug)]
pub struct Applied<T, R> {
    /// The return value of the transition.
    pub output: T,
    /// The effects, in order.
    pub effects: Vec<Effect<R>>,
    /// When [`State::tick`] has something to do next.
    pub next_wake: Moment,
}

impl<R: Responder> State<R> {
    /// Creates an empty state.
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
            unserved: BTreeMap::new(),
            unserved_check: Moment::NEVER,
            workers_expected_until: Now::default(),
            registry: WorkerRegistry::default(),
            offered: OfferedModules::default(),
            result_expiry_timer: None,
            sessions: Sessions::default(),
            has_session_timer: false,
            schedules: Schedules::default(),
            next_schedule: Moment::NEVER,
            parked: BTreeMap::new(),
            waited_tasks: 0,
            timers: BTreeSet::new(),
            outbox: Vec::new(),
            event_log: EventLog::default(),
            event_waiters: Vec::new(),
            last_notified_event: 0,
            counts: Counts::default(),
            metrics: Metrics::default(),
            last_position: 0,
            last_lease: 0,
            lease_epoch: Timestamp::default(),
            last_parked_id: 0,
            is_draining: false,
            is_closed: false,
            control_plane_id: String::new(),
        }
    }

    /// Runs one transition, and completes it: dispatches tasks that became runnable to slots that wait, replies
    /// to requests that wait for events, and returns the effects.
    ///
    /// Every change of the state uses this. For one that only reads, it costs a few comparisons.
    pub fn apply<T>(&mut self, now: Now, transition: impl FnOnce(&mut Self) -> T) -> Applied<T, R> {
        let output = transition(self);
        // First, as it may free a worker that was reserved.
        self.dispatch_isolated(now);
        let (has_new_work, has_new_slots) = (self.queue.take_new_work(), self.registry.take_new_slots());
        if has_new_work || has_new_slots {
            self.dispatch(now);
        }
        self.notify_event_waiters(now);
        Applied { output, effects: mem::take(&mut self.outbox), next_wake: self.next_wake() }
    }

    /// Sets the worker id of the control plane itself: no other worker can use it.
    pub fn set_control_plane_id(&mut self, id: &str) {
        id.clone_into(&mut self.control_plane_id);
    }

    /// Returns which tasks were added and removed with workers since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<TaskChange> {
        self.registry.take_changes()
    }

    /// Starts to expect the workers that were connected before a restart.
    pub fn start(&mut self, now: Now) {
        self.expect_workers(now);
    }

    /// The waiting tasks.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The workers.
    pub fn registry(&self) -> &WorkerRegistry<R> {
        &self.registry
    }

    /// The schedules.
    pub fn schedules(&self) -> &Schedules {
        &self.schedules
    }

    /// The sessions.
    pub fn sessions(&self) -> &Sessions<R> {
        &self.sessions
    }

    /// The recent events.
    pub fn event_log(&self) -> &EventLog {
        &self.event_log
    }

    /// The result cache.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// Accepts no more tasks. Those that were accepted still run.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Whether it accepts no more tasks.
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Whether no task runs, and none waits that could run now. Scheduled tasks do not count.
    pub fn is_quiet(&self) -> bool {
        let is_runnable = |(key, _): (QueueKey, &TaskId)| self.registry.has(&key.name);
        self.queue.ready() == 0 && self.leases.is_empty() && !self.queue.isolated().any(is_runnable)
    }

    /// Replies to every open request, as the control plane is stopping.
    pub fn close_all(&mut self) {
        const MESSAGE: &str = "the control plane is stopping and has not finished this";
        let stopping = || Reply::Refused(Refusal::new(RefusalCode::Stopping, MESSAGE));
        self.is_closed = true;
        self.waited_tasks = 0;
        for (_, parked) in mem::take(&mut self.parked) {
            self.reply(parked.reply_to, stopping());
        }
        for reply_to in self.sessions.take_parked() {
            self.reply(reply_to, stopping());
        }
        let slots: Vec<(WorkerKey, u32)> = self
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
        let queries: Vec<R> =
            self.registry.iter_mut().filter_map(|(_, worker)| Some(worker.module_query.take()?.0)).collect();
        for reply_to in beats.into_iter().chain(queries) {
            self.reply_to_worker(reply_to, WorkerReply::Unknown);
        }
    }
}

#[cfg(test)]
mod tests;
