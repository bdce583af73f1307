//! Every transition of every task: the pure core of the control plane.
//!
//! [`State`] is synchronous and takes [`Now`]: it owns no socket, clock, thread or die, so that a
//! simulation can drive it and one seed gives one history. `R` is the way back to whoever asked,
//! which the core carries and never uses. What is to be said goes to the outbox, in order; the
//! caller takes it from there once it has let go of the lock.
//!
//! Split by what comes in: `clients`, `tasks`, `schedules`, `grants`, `workers`, `catalog`, `calls` for callbacks, and
//! `parked` for what waits; this file holds what they share.
//!
//! Invariants:
//! - a task that was accepted ends exactly once, and its first recorded end stands;
//! - a task has at most one live lease, and an outcome counts only under a live lease;
//! - no slot waits while a task waits that it could run;
//! - everything has a bound: see [`Limits`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
    time::Duration,
};

use lru::DefaultHasher;
use uuid::Uuid;

use super::{
    events::Feed,
    meters::Meters,
    queue::{Place, Position, Queue},
    reports::ReportLog,
    results::Results,
    roster::Roster,
    schedules::Schedules,
    sessions::Sessions,
    signatures::Change,
};
use crate::{
    clock::{Moment, Now, Timestamp, micros},
    json::Json,
    protocol::{Lease, LeaseId, Reply, WAIT_MAX, WorkerReply},
    task::{
        CallbackInfo, ErrorKind, Failure, ModuleVersion, Policy, TIMEOUT_DEFAULT, TaskId, TaskPriority, TaskResult,
        TaskStatus,
    },
};

mod calls;
mod catalog;
mod clients;
mod grants;
mod look;
mod parked;
mod schedules;
mod tasks;
mod workers;

pub use look::Detail;

/// So much work may be granted at a time to a slot, beyond the first task.
pub const LOOKAHEAD: Duration = Duration::from_millis(2);
/// So many tasks may be granted at a time to a slot.
pub const LOOKAHEAD_MAX: usize = 256;
/// A task that was lost so often while it ran ends as `worker-lost`.
pub const LOSSES_MAX: u32 = 3;
/// So soon a worker is asked again what it holds, after something was taken back from it.
pub const SECOND_LOOK: Duration = Duration::from_millis(20);
/// So many tasks may be named by requests that wait; further ones are answered with what there is.
pub const WATCHING_MAX: usize = 1_000_000;
/// So many sessions may hear of the end of one task.
pub const TASK_SESSIONS_MAX: usize = 64;
/// A look at a worker that comes so late says that the control plane stood still itself.
pub const STALL: Duration = Duration::from_secs(1);
/// Bytes that are kept of why an attempt failed, until its task ends.
pub const SETBACK_MAX: usize = 1_024;
/// A slot that says nothing so long after its grants must have ended is given up.
pub const LEASE_GRACE: Duration = Duration::from_secs(30);

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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tasks_max: 1_000_000,
            bytes_max: 1024 * 1024 * 1024,
            results_max: 10_000,
            result_bytes_max: 1024 * 1024 * 1024,
            result_ttl: Duration::from_hours(1),
        }
    }
}

/// A way back to whoever asked.
pub trait Way {
    /// Whether anybody still waits at its end.
    fn is_open(&self) -> bool;
}

/// Something to be said.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a client.
    Client(Reply),
    /// To a subworker.
    Worker(WorkerReply),
}

/// Something to be done outside, once the state is left.
#[derive(Debug)]
pub enum Effect<R> {
    /// Something is to be said to somebody who asked.
    Say {
        /// To whom.
        to: R,
        /// What.
        answer: Answer,
    },
    /// Word is to be sent that a task has ended.
    Call(Callback),
}

impl<R> Effect<R> {
    /// What is to be said, and to whom, if this is something to be said.
    pub fn said(self) -> Option<(R, Answer)> {
        match self {
            Self::Say { to, answer } => Some((to, answer)),
            Self::Call(_) => None,
        }
    }
}

/// The word that a task has ended, for whoever wanted to be called back. There is one for each end.
#[derive(Clone, Debug)]
pub struct Callback {
    /// How it ended.
    pub result: Arc<TaskResult>,
    /// Where to send it, and what goes along.
    pub info: Arc<CallbackInfo>,
}

/// What became of a callback.
#[derive(Clone, Debug)]
pub struct CallbackEnd {
    /// The end that it told of.
    pub result: Arc<TaskResult>,
    /// Whether it was delivered, or why not.
    pub outcome: Result<(), String>,
    /// How often it was tried.
    pub attempts: u32,
}

/// How an unfinished task stands, with what only that standing has.
#[derive(Debug)]
enum Standing {
    /// In the queue, at this place.
    Queued(Position),
    /// In the schedule; `retry` tells a retry from a countdown.
    Due { at: Moment, retry: bool },
    /// Granted to a slot.
    Leased { lease: LeaseId, started_at: Option<Timestamp>, position: Position },
}

/// An unfinished task.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    args: Json,
    kwargs: Json,
    policy: Policy,
    priority: TaskPriority,
    created_at: Timestamp,
    /// When it was first due.
    due_at: Moment,
    waiting_since: Moment,
    standing: Standing,
    /// Attempts that were begun and not lost.
    attempt: u32,
    losses: u32,
    /// Was granted to a worker that was lost: granted alone from now on, so that a task that
    /// kills its worker is told apart from those around it.
    suspect: bool,
    /// The session that hears of its end.
    session: Option<Uuid>,
    /// Those under which it was submitted again.
    other_sessions: Vec<Uuid>,
    /// Parked requests that wait for its end or its reports.
    watchers: Vec<ParkId>,
    reports: ReportLog,
    /// Who is called back at its end.
    callback: Option<Arc<CallbackInfo>>,
    /// How its last attempt failed, if one did.
    setback: Option<Box<Setback>>,
}

/// How an attempt failed that is not the last one.
#[derive(Debug)]
struct Setback {
    kind: ErrorKind,
    /// Why, at most [`SETBACK_MAX`] bytes of it.
    message: Box<str>,
    /// When the next attempt is due.
    next_at: Timestamp,
}

impl Entry {
    fn bytes(&self) -> usize {
        let callback = self.callback.as_ref().map_or(0, |callback| callback.size());
        self.args.as_str().len() + self.kwargs.as_str().len() + callback
    }

    /// Lets one more session hear of its end, if there is room.
    fn attach<R>(&mut self, session: Uuid, open: &Sessions<R>) -> bool {
        let first = *self.session.get_or_insert(session);
        if first == session || self.other_sessions.contains(&session) {
            return true;
        }
        // Those that were forgotten make room, so that they cannot pile up.
        if self.other_sessions.len() == self.other_sessions.capacity() {
            self.other_sessions.retain(|other| open.is_open(*other));
        }
        let has_room = self.other_sessions.len() < TASK_SESSIONS_MAX;
        if has_room {
            self.other_sessions.push(session);
        }
        has_room
    }

    fn place(&self, position: Position) -> Place {
        Place { priority: self.priority, name: self.name.clone(), position }
    }

    /// The right to run its next attempt.
    fn lease(&self, lease: LeaseId, id: &TaskId) -> Lease {
        Lease {
            id: lease,
            task_id: id.clone(),
            name: self.name.clone(),
            attempt: self.attempt,
            timeout_us: micros(self.timeout()),
            args: self.args.clone(),
            kwargs: self.kwargs.clone(),
        }
    }

    /// When its next attempt is due, while it waits for that moment.
    fn due_on(&self) -> Option<Timestamp> {
        match self.standing {
            Standing::Due { retry: true, .. } => self.setback.as_ref().map(|setback| setback.next_at),
            Standing::Due { retry: false, .. } => Some(self.created_at + self.due_at.since(self.waiting_since)),
            Standing::Queued(_) | Standing::Leased { .. } => None,
        }
    }

    fn timeout(&self) -> Duration {
        self.policy.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }

    fn status(&self) -> TaskStatus {
        match &self.standing {
            Standing::Leased { started_at: Some(_), .. } => TaskStatus::Started,
            Standing::Due { retry: true, .. } => TaskStatus::Retrying,
            Standing::Due { retry: false, .. } => TaskStatus::Scheduled,
            Standing::Queued(_) | Standing::Leased { started_at: None, .. } => TaskStatus::Pending,
        }
    }
}

/// Where a live lease is.
#[derive(Clone, Debug)]
struct Granted {
    task: TaskId,
    worker: Uuid,
}

type ParkId = u64;

/// A client's request that waits.
#[derive(Debug)]
struct Parked<R> {
    way: R,
    question: Question,
    until: Moment,
}

#[derive(Debug)]
enum Question {
    /// Has this task ended? Answered like the submission it came with.
    Submitted(TaskId),
    /// Has one of these tasks ended?
    Lookup(Vec<TaskId>),
    /// Has this task said something, or ended?
    Follow { id: TaskId, after: u64 },
    /// Has something happened?
    Events { after: u64 },
}

impl Question {
    fn tasks(&self) -> &[TaskId] {
        match self {
            Question::Submitted(id) | Question::Follow { id, .. } => std::slice::from_ref(id),
            Question::Lookup(ids) => ids,
            Question::Events { .. } => &[],
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
}

/// What the state counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks accepted.
    pub accepted: u64,
    /// Tasks ended, in order of [`TaskStatus`]: success, failure, cancelled.
    pub ended: [u64; 3],
    /// Leases granted.
    pub granted: u64,
}

/// How much there is of everything, for whoever looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Tasks that have not ended.
    pub unfinished: usize,
    /// Bytes of arguments that they hold.
    pub bytes: usize,
    /// Those of them that wait in the queue.
    pub queued: usize,
    /// Leases that are live.
    pub leases: usize,
    /// Requests of clients that wait, besides those of sessions.
    pub parked: usize,
    /// Sessions whose client waits.
    pub collecting: usize,
    /// Sessions that are open.
    pub sessions: usize,
    /// Things that will happen by themselves.
    pub timers: usize,
}

/// How one unfinished task stands, for whoever looks.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Its task name.
    pub name: &'a str,
    /// How it stands.
    pub status: TaskStatus,
    /// Its lane.
    pub priority: TaskPriority,
    /// Its place in the lane; none while it is scheduled.
    pub position: Option<Position>,
    /// Since when it waits, if it waits.
    pub waiting_since: Moment,
    /// Attempts that were begun and not lost.
    pub attempt: u32,
    /// Attempts that were lost with their worker.
    pub losses: u32,
    /// Its live lease, and the key of the worker that has it.
    pub lease: Option<(LeaseId, Uuid)>,
}

/// What became of an offered task.
enum Taken {
    Live,
    Ended(Arc<TaskResult>),
    Refused(String),
}

/// The core.
#[derive(Debug)]
pub struct State<R> {
    limits: Limits,
    /// Boxed, so that the map is small to move when it grows.
    tasks: HashMap<TaskId, Box<Entry>, DefaultHasher>,
    bytes: usize,
    queue: Queue,
    leases: BTreeMap<LeaseId, Granted>,
    roster: Roster<R>,
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
    feed: Feed,
    /// Parked requests that wait for an event, and the last event that such were told of.
    onlookers: Vec<ParkId>,
    told: u64,
    counts: Counts,
    meters: Meters,
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

impl<R: Way> State<R> {
    /// A core that knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            results: Results::new(limits.results_max, limits.result_bytes_max, limits.result_ttl),
            limits,
            tasks: HashMap::default(),
            bytes: 0,
            queue: Queue::default(),
            leases: BTreeMap::new(),
            roster: Roster::default(),
            expiry: None,
            sessions: Sessions::default(),
            watches_sessions: false,
            schedules: Schedules::default(),
            next_schedule: Moment::NEVER,
            parked: BTreeMap::new(),
            watching: 0,
            timers: BTreeSet::new(),
            outbox: Vec::new(),
            feed: Feed::default(),
            onlookers: Vec::new(),
            told: 0,
            counts: Counts::default(),
            meters: Meters::default(),
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

    /// Takes what is to be said, in order.
    pub fn take_outbox(&mut self) -> Vec<Effect<R>> {
        mem::take(&mut self.outbox)
    }

    /// Takes which tasks came and went with workers, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.roster.take_changes()
    }

    /// When [`State::tick`] has something to do next.
    pub fn next_wake(&self) -> Moment {
        self.timers.first().map_or(Moment::NEVER, |(at, _)| *at)
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What was measured of tasks so far.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// How many tasks are unfinished.
    pub fn unfinished(&self) -> usize {
        self.tasks.len()
    }

    /// How much there is of everything.
    pub fn books(&self) -> Books {
        Books {
            unfinished: self.tasks.len(),
            bytes: self.bytes,
            queued: self.queue.len(),
            leases: self.leases.len(),
            parked: self.parked.len(),
            collecting: self.sessions.parked(),
            sessions: self.sessions.len(),
            timers: self.timers.len(),
        }
    }

    /// How a task stands that has not ended.
    pub fn look(&self, id: &TaskId) -> Option<Look<'_>> {
        let entry = self.tasks.get(id)?;
        let (position, lease) = match entry.standing {
            Standing::Queued(position) => (Some(position), None),
            Standing::Due { .. } => (None, None),
            Standing::Leased { lease, position, .. } => (Some(position), Some(lease)),
        };
        Some(Look {
            name: &entry.name,
            status: entry.status(),
            priority: entry.priority,
            position,
            waiting_since: entry.waiting_since,
            attempt: entry.attempt,
            losses: entry.losses,
            lease: lease.and_then(|lease| Some((lease, self.leases.get(&lease)?.worker))),
        })
    }

    /// The waiting tasks.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The workers.
    pub fn roster(&self) -> &Roster<R> {
        &self.roster
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
    pub fn feed(&self) -> &Feed {
        &self.feed
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
        self.queue.ready() == 0 && self.leases.is_empty()
    }

    /// Tells everybody who waits that the control plane stops.
    pub fn farewell(&mut self) {
        const STOPPING: &str = "the control plane is stopping and has not finished this";
        self.stopped = true;
        self.watching = 0;
        for (_, parked) in mem::take(&mut self.parked) {
            self.say(parked.way, Reply::Refused(STOPPING.into()));
        }
        for way in self.sessions.take_parked() {
            self.say(way, Reply::Refused(STOPPING.into()));
        }
        let slots: Vec<(Uuid, u32)> = self
            .roster
            .iter()
            .flat_map(|(key, worker)| worker.slots.keys().map(move |number| (key, *number)))
            .collect();
        for (key, number) in slots {
            if let Some(way) = self.roster.change_slot(key, number, |slot| slot.parked.take()).flatten() {
                self.tell(way, WorkerReply::Unknown);
            }
        }
        let beats: Vec<R> = self.roster.iter_mut().filter_map(|(_, worker)| Some(worker.beat.take()?.0)).collect();
        for way in beats {
            self.tell(way, WorkerReply::Unknown);
        }
    }

    // What is said.

    fn say(&mut self, to: R, reply: Reply) {
        self.outbox.push(Effect::Say { to, answer: Answer::Client(reply) });
    }

    fn tell(&mut self, to: R, reply: WorkerReply) {
        self.outbox.push(Effect::Say { to, answer: Answer::Worker(reply) });
    }
}

/// Whether a lease that is taken back was lost with its worker.
#[derive(Clone, Copy)]
enum Loss<'a> {
    No,
    /// With the worker of this id.
    Of(&'a Arc<str>),
}

/// What the end of a task is made of.
#[derive(Default)]
struct End {
    result: Option<Json>,
    failure: Option<Failure>,
    started_at: Option<Timestamp>,
    worker_id: Option<Arc<str>>,
    version: Option<ModuleVersion>,
}

/// How long a request may be parked.
fn wait(wait_ms: u32) -> Duration {
    Duration::from_millis(wait_ms.into()).min(WAIT_MAX)
}

#[cfg(test)]
mod tests;
