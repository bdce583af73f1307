//! Every transition of every task: the pure core of the control plane.
//!
//! [`State`] is synchronous and takes [`Now`]: it owns no socket, clock, thread or die, so that a
//! simulation can drive it and one seed gives one history. `R` is the way back to whoever asked,
//! which the core carries and never uses. What is to be said goes to the outbox, in order; the
//! caller takes it from there once it has let go of the lock.
//!
//! Invariants:
//! - a task that was accepted ends exactly once, and its first recorded end stands;
//! - a task has at most one live lease, and an outcome counts only under a live lease;
//! - no slot waits while a task waits that it could run;
//! - everything has a bound: see [`Limits`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    mem,
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{
    queue::{Place, Position, Queue},
    reports::ReportLog,
    results::Results,
    retry,
    roster::{RECONNECT_GRACE, Roster, SILENCE_MAX},
    sessions::Sessions,
};
use crate::{
    clock::{Moment, Now, Timestamp, micros},
    json::Json,
    protocol::{
        BEAT_WAIT, Beat, Collect, Collected, Ended, FRAME_TARGET, Follow, Found, Lease, LeaseId, Lookup, Note, Notify,
        Order, Registration, Reply, Reports, Submit, Submitted, WAIT_MAX, Work, WorkerReply,
    },
    task::{
        ErrorKind, Failure, FollowUp, NewTask, Outcome, Policy, Report, TASK_NAME_MAX, TIMEOUT_DEFAULT, Task, TaskId,
        TaskPriority, TaskResult, TaskStatus, Unknown,
    },
    transport::Peer,
};

/// So much work may be granted at a time to a slot, beyond the first task.
pub const LOOKAHEAD: Duration = Duration::from_millis(2);
/// So many tasks may be granted at a time to a slot.
pub const LOOKAHEAD_MAX: usize = 256;
/// A task that was lost so often while it ran ends as `worker-lost`.
pub const LOSSES_MAX: u32 = 3;
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
    /// How long a result is kept.
    pub result_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tasks_max: 1_000_000,
            bytes_max: 1024 * 1024 * 1024,
            results_max: 10_000,
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

/// Something to be said, and to whom.
#[derive(Debug)]
pub struct Effect<R> {
    /// To whom.
    pub to: R,
    /// What.
    pub answer: Answer,
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
    waiting_since: Moment,
    standing: Standing,
    /// Attempts that were begun and not lost.
    attempt: u32,
    losses: u32,
    /// Was granted to a worker that was lost: granted alone from now on, so that a task that
    /// kills its worker is told apart from those around it.
    suspect: bool,
    session: Option<Uuid>,
    /// Parked requests that wait for its end or its reports.
    watchers: Vec<ParkId>,
    reports: ReportLog,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.args.as_str().len() + self.kwargs.as_str().len()
    }

    fn place(&self, position: Position) -> Place {
        Place { priority: self.priority, name: self.name.clone(), position }
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
}

impl Question {
    fn tasks(&self) -> &[TaskId] {
        match self {
            Question::Submitted(id) | Question::Follow { id, .. } => std::slice::from_ref(id),
            Question::Lookup(ids) => ids,
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
    /// A session may have been left.
    Session(Uuid),
    /// A result may be too old.
    Expiry,
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
    tasks: HashMap<TaskId, Entry>,
    bytes: usize,
    queue: Queue,
    leases: HashMap<LeaseId, Granted>,
    roster: Roster<R>,
    results: Results,
    /// When the timer for the oldest result is set.
    expiry: Option<Moment>,
    sessions: Sessions<R>,
    parked: BTreeMap<ParkId, Parked<R>>,
    timers: BTreeSet<(Moment, Timer)>,
    outbox: Vec<Effect<R>>,
    counts: Counts,
    position: u64,
    last_lease: u64,
    last_park: ParkId,
    draining: bool,
}

impl<R: Way> State<R> {
    /// A core that knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            results: Results::new(limits.results_max, limits.result_ttl),
            limits,
            tasks: HashMap::new(),
            bytes: 0,
            queue: Queue::default(),
            leases: HashMap::new(),
            roster: Roster::default(),
            expiry: None,
            sessions: Sessions::default(),
            parked: BTreeMap::new(),
            timers: BTreeSet::new(),
            outbox: Vec::new(),
            counts: Counts::default(),
            position: 0,
            last_lease: 0,
            last_park: 0,
            draining: false,
        }
    }

    /// Takes what is to be said, in order.
    pub fn take_outbox(&mut self) -> Vec<Effect<R>> {
        mem::take(&mut self.outbox)
    }

    /// When [`State::tick`] has something to do next.
    pub fn next_wake(&self) -> Moment {
        self.timers.first().map_or(Moment::NEVER, |(at, _)| *at)
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
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

    /// The ended tasks that are still known.
    pub fn results(&self) -> &Results {
        &self.results
    }

    // Clients.

    /// Takes tasks in.
    pub fn submit(&mut self, now: Now, submit: Submit, from: R) {
        let session = match &submit.notify {
            Notify::Session(session) => Some(*session),
            Notify::No | Notify::Answer => None,
        };
        if let Some(session) = session {
            self.touch_session(now, session);
        }
        let ids: Vec<TaskId> = submit.tasks.iter().map(|task| task.id.clone()).collect();
        let taken: Vec<Taken> = submit.tasks.into_iter().map(|task| self.accept(now, task, session)).collect();
        if let ([Taken::Live], Notify::Answer) = (&taken[..], &submit.notify) {
            self.park(now, Question::Submitted(ids[0].clone()), WAIT_MAX, from);
        } else {
            let mut bytes = 0;
            let answers = taken.into_iter().map(|taken| match taken {
                Taken::Ended(result) => {
                    bytes += result.size();
                    // What is too much for one frame is there to be looked up.
                    if bytes > FRAME_TARGET { Submitted::Accepted } else { Submitted::Ended(result) }
                }
                Taken::Live => Submitted::Accepted,
                Taken::Refused(why) => Submitted::Refused(why),
            });
            let answers = answers.collect();
            self.say(from, Reply::Submitted(answers));
        }
        self.dispatch(now);
    }

    /// Takes one task of the Python original in, whose submitter waits for its end however long
    /// that takes.
    pub fn submit_and_hold(&mut self, now: Now, task: NewTask, from: R) {
        let id = task.id.clone();
        let answer = match self.accept(now, task, None) {
            Taken::Live => {
                self.park(now, Question::Submitted(id), Duration::MAX, from);
                return self.dispatch(now);
            }
            Taken::Ended(result) => Submitted::Ended(result),
            Taken::Refused(why) => Submitted::Refused(why),
        };
        self.say(from, Reply::Submitted(vec![answer]));
    }

    /// Tells a client which tasks of its session have ended.
    pub fn collect(&mut self, now: Now, collect: &Collect, from: R) {
        let known = self.touch_session(now, collect.session);
        let until = now.mono + wait(collect.wait_ms);
        let session = self.sessions.get_mut(collect.session);
        session.acknowledge(collect.sequence);
        let displaced = session.parked.replace((from, until));
        if let Some((older, _)) = displaced {
            self.say(older, Reply::Collected(Collected { known: true, results: Vec::new() }));
        }
        if !known || collect.wait_ms == 0 || self.sessions.get_mut(collect.session).has_news() {
            self.answer_session(collect.session, known);
        } else {
            self.timers.insert((until, Timer::Session(collect.session)));
        }
    }

    /// Tells a client how tasks stand, once one of them has ended or the wait is over.
    pub fn lookup(&mut self, now: Now, lookup: Lookup, from: R) {
        let none_ended = lookup.ids.iter().all(|id| self.tasks.contains_key(id));
        if none_ended && lookup.wait_ms > 0 && !lookup.ids.is_empty() {
            self.park(now, Question::Lookup(lookup.ids), wait(lookup.wait_ms), from);
        } else {
            let found = self.found(now, &lookup.ids);
            self.say(from, Reply::Found(found));
        }
    }

    /// Tells a client what a task says about itself, once there is something to tell.
    pub fn follow(&mut self, now: Now, follow: Follow, from: R) {
        let nothing_new = self.tasks.get(&follow.id).is_some_and(|entry| entry.reports.last() <= follow.after);
        let question = Question::Follow { id: follow.id, after: follow.after };
        if nothing_new && follow.wait_ms > 0 {
            self.park(now, question, wait(follow.wait_ms), from);
        } else {
            let answer = self.answer_to(now, &question);
            self.say(from, answer);
        }
    }

    /// Stops tasks. Tells of each whether it was stopped by this: not if it had ended.
    pub fn cancel(&mut self, now: Now, ids: &[TaskId], from: R) {
        let stopped = ids.iter().map(|id| self.cancel_one(now, id)).collect();
        self.say(from, Reply::Cancelled(stopped));
        self.dispatch(now);
    }

    /// Tells a client which workers there are.
    pub fn workers(&mut self, now: Now, from: R) {
        let infos = self.roster.infos(now.mono);
        self.say(from, Reply::Workers(infos));
    }

    // Workers.

    /// Takes a worker in. `peer` is none for the control plane's own.
    pub fn register(&mut self, now: Now, registration: Registration, peer: Option<Peer>, from: R) {
        let key = registration.worker;
        if self.roster.get(key).is_some() {
            return self.tell(from, WorkerReply::Registered);
        }
        let namesake = self.roster.iter().find(|(_, worker)| *worker.id == *registration.worker_id);
        match namesake.map(|(key, worker)| (key, worker.disconnected.is_none())) {
            Some((_, true)) => {
                let id = &registration.worker_id;
                let why =
                    format!("a worker with the id '{id}' is connected already: give this one another --worker-id");
                return self.tell(from, WorkerReply::Refused(why));
            }
            Some((older, false)) => self.lose(now, older),
            None => {}
        }
        self.roster.add(now, registration, peer);
        if peer.is_some() {
            self.timers.insert((now.mono + SILENCE_MAX, Timer::Silence(key)));
        }
        self.tell(from, WorkerReply::Registered);
    }

    /// Takes what a slot ran, and gives it more or lets it wait.
    pub fn work(&mut self, now: Now, work: Work, from: R) {
        let Some(worker) = self.roster.get_mut(work.worker) else { return self.tell(from, WorkerReply::Unknown) };
        worker.last_seen = now;
        let slot = worker.slots.entry(work.slot).or_default();
        if work.sequence <= slot.sequence {
            return self.answer_again(&work, from);
        }
        slot.sequence = work.sequence;
        slot.answer.clear();
        let granted = mem::take(&mut slot.granted);
        let until = mem::replace(&mut slot.until, Moment::NEVER);
        if let Some(displaced) = slot.parked.take() {
            self.tell(displaced, WorkerReply::Leases(Vec::new()));
        }
        self.timers.remove(&(until, Timer::Slot(work.worker, work.slot)));
        self.settle(now, work.worker, granted, work.ended);

        let (worker, slot) = (work.worker, work.slot);
        let leases = self.grant(now, worker, slot, work.capacity as usize);
        if !leases.is_empty() || work.capacity == 0 {
            self.tell(from, WorkerReply::Leases(leases));
        } else {
            let until = now.mono + WAIT_MAX;
            if let Some(slot) = self.roster.get_mut(worker).and_then(|worker| worker.slots.get_mut(&slot)) {
                (slot.parked, slot.until) = (Some(from), until);
            }
            self.timers.insert((until, Timer::Slot(worker, slot)));
        }
        // What was put back or followed up may suit a slot that waits.
        self.dispatch(now);
    }

    /// Takes a sign of life, and parks it until there is an order.
    pub fn beat(&mut self, now: Now, beat: &Beat, peer: Option<Peer>, from: R) {
        let Some(worker) = self.roster.get_mut(beat.worker) else { return self.tell(from, WorkerReply::Unknown) };
        worker.last_seen = now;
        worker.peer = peer;
        worker.disconnected = None;
        let displaced = worker.beat.replace(from);
        let dead = beat.holds.iter().filter(|lease| !self.leases.contains_key(lease));
        for lease in dead {
            let order = Order::Stop(*lease);
            if !worker.orders.contains(&order) {
                worker.orders.push(order);
            }
        }
        let has_orders = !worker.orders.is_empty();
        if let Some(displaced) = displaced {
            self.tell(displaced, WorkerReply::Orders(Vec::new()));
        }
        if has_orders {
            self.answer_beat(beat.worker);
        } else if peer.is_some() {
            // The control plane's own worker needs no sign of life, so its beat waits for an order.
            self.timers.insert((now.mono + BEAT_WAIT, Timer::Beat(beat.worker)));
        }
    }

    /// Takes what a worker says between two requests for work.
    pub fn note(&mut self, now: Now, note: Note, from: R) {
        let Some(worker) = self.roster.get_mut(note.worker) else { return self.tell(from, WorkerReply::Unknown) };
        if worker.noted < note.sequence {
            worker.noted = note.sequence;
            for (lease, report) in note.reports {
                self.report(now, lease, [report]);
            }
            for lease in note.returned.into_iter().filter(|lease| self.holds(note.worker, *lease)).collect::<Vec<_>>() {
                self.put_back(now, lease, Loss::No);
            }
        }
        self.tell(from, WorkerReply::Noted);
        self.dispatch(now);
    }

    /// Adds to what a task said, as long as the lease is live.
    fn report(&mut self, now: Now, lease: LeaseId, reports: impl IntoIterator<Item = Report>) {
        let Some(id) = self.leases.get(&lease).map(|granted| granted.task.clone()) else { return };
        if let Some(entry) = self.tasks.get_mut(&id) {
            reports.into_iter().for_each(|report| entry.reports.push(report));
            self.wake_followers(now, &id);
        }
    }

    fn holds(&self, worker: Uuid, lease: LeaseId) -> bool {
        self.leases.get(&lease).is_some_and(|granted| granted.worker == worker)
    }

    /// Grants nothing more to a worker that wants to finish.
    pub fn drain_worker(&mut self, worker: Uuid, from: R) {
        let Some(draining) = self.roster.get_mut(worker) else { return self.tell(from, WorkerReply::Unknown) };
        draining.draining = true;
        let parked: Vec<R> = draining.slots.values_mut().filter_map(|slot| slot.parked.take()).collect();
        for way in parked {
            self.tell(way, WorkerReply::Leases(Vec::new()));
        }
        self.tell(from, WorkerReply::Noted);
    }

    /// Lets a worker go. What it holds goes back to the queue, and is not counted as a loss.
    pub fn leave(&mut self, now: Now, worker: Uuid, from: R) {
        if let Some(gone) = self.roster.remove(now, worker) {
            for lease in gone.slots.into_values().flat_map(|slot| slot.granted) {
                self.put_back(now, lease, Loss::No);
            }
        }
        self.tell(from, WorkerReply::Noted);
        self.dispatch(now);
    }

    /// Notes that a connection is gone. A worker on it is lost unless it comes back soon.
    pub fn peer_gone(&mut self, now: Now, peer: Peer) {
        for (key, worker) in self.roster.iter_mut().filter(|(_, worker)| worker.peer == Some(peer)) {
            worker.disconnected = Some(now.mono);
            self.timers.insert((now.mono + RECONNECT_GRACE, Timer::Silence(key)));
        }
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
                Timer::Beat(worker) => self.answer_beat(worker),
                Timer::Silence(worker) => self.check_silence(now, worker),
                Timer::Session(session) => self.check_session(now, session),
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

    /// Whether nothing waits to be run now and nothing runs. Scheduled tasks do not count.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.leases.is_empty()
    }

    /// Tells everybody who waits that the control plane stops.
    pub fn farewell(&mut self) {
        const STOPPING: &str = "the control plane is stopping and has not finished this";
        for (_, parked) in mem::take(&mut self.parked) {
            self.say(parked.way, Reply::Refused(STOPPING.into()));
        }
        for way in self.sessions.take_parked() {
            self.say(way, Reply::Refused(STOPPING.into()));
        }
        let parked: Vec<R> = self
            .roster
            .iter_mut()
            .flat_map(|(_, worker)| {
                worker.slots.values_mut().filter_map(|slot| slot.parked.take()).chain(worker.beat.take())
            })
            .collect();
        for way in parked {
            self.tell(way, WorkerReply::Unknown);
        }
    }

    // Tasks come in.

    fn accept(&mut self, now: Now, task: NewTask, session: Option<Uuid>) -> Taken {
        if let Some(entry) = self.tasks.get_mut(&task.id) {
            entry.session = session.or(entry.session);
            return Taken::Live;
        }
        if let Some(kept) = self.results.get(now.mono, &task.id) {
            return Taken::Ended(kept.result.clone());
        }
        if let Some(why) = self.refusal(&task) {
            return Taken::Refused(why);
        }
        let offered = self.roster.offered(&task.name);
        if offered.is_none() && task.unknown == Unknown::Fail && !self.roster.may_return(now.mono, &task.name) {
            return Taken::Ended(self.not_found(now, task));
        }
        let policy = self.roster.policy(&task.name).map_or_else(|| task.policy.clone(), |own| task.policy.or(own));
        let wait = match (task.countdown, task.eta) {
            (Some(countdown), _) => countdown,
            (None, Some(eta)) => eta.since(now.wall),
            (None, None) => Duration::ZERO,
        };
        let at = now.mono + wait;
        let entry = Entry {
            name: offered.unwrap_or_else(|| task.name.as_str().into()),
            args: task.args,
            kwargs: task.kwargs,
            priority: policy.priority.unwrap_or_default(),
            policy,
            created_at: now.wall,
            waiting_since: now.mono,
            standing: Standing::Due { at, retry: false },
            attempt: 0,
            losses: 0,
            suspect: false,
            session,
            watchers: Vec::new(),
            reports: ReportLog::default(),
        };
        self.bytes += entry.bytes();
        self.counts.accepted += 1;
        self.tasks.insert(task.id.clone(), entry);
        if wait.is_zero() {
            self.enqueue(now, &task.id);
        } else {
            self.timers.insert((at, Timer::Due(task.id)));
        }
        Taken::Live
    }

    /// Why a task is not taken, if it is not.
    fn refusal(&self, task: &NewTask) -> Option<String> {
        let Limits { tasks_max, bytes_max, .. } = self.limits;
        let size = task.args.as_str().len() + task.kwargs.as_str().len();
        if self.draining {
            Some("the control plane is stopping and takes no more tasks".into())
        } else if task.name.is_empty() || task.name.len() > TASK_NAME_MAX || task.name.chars().any(char::is_control) {
            Some(format!("a task name is text of 1 to {TASK_NAME_MAX} bytes without control characters"))
        } else if self.tasks.len() >= tasks_max {
            Some(format!("the queue is full: {tasks_max} tasks are unfinished; try again later"))
        } else if self.bytes + size > bytes_max {
            Some(format!("the queue is full: its arguments hold {bytes_max} bytes; try again later"))
        } else {
            None
        }
    }

    fn not_found(&mut self, now: Now, task: NewTask) -> Arc<TaskResult> {
        let mut error = format!("Task {} not found", task.name);
        let nearest = self.roster.nearest(&task.name);
        if !nearest.is_empty() {
            let quoted: Vec<String> = nearest.iter().map(|name| format!("'{name}'")).collect();
            let _ = write!(error, ": did you mean {}?", quoted.join(" or "));
        } else if self.roster.iter().next().is_none() {
            error.push_str(": no worker is connected");
        }
        self.counts.accepted += 1;
        self.keep(
            now,
            TaskResult {
                task_id: task.id,
                status: TaskStatus::Failure,
                result: None,
                error: Some(error),
                started_at: None,
                completed_at: Some(now.wall),
                error_kind: Some(ErrorKind::NotFound),
                worker_id: None,
                attempts: 0,
            },
            ReportLog::default(),
        )
    }

    /// Puts a task at the end of its line.
    fn enqueue(&mut self, now: Now, id: &TaskId) {
        self.position += 1;
        let position = Position(self.position);
        if let Some(entry) = self.tasks.get_mut(id) {
            entry.standing = Standing::Queued(position);
            entry.waiting_since = now.mono;
            self.queue.push(&entry.place(position), id.clone(), now.mono);
        }
    }

    fn due(&mut self, now: Now, id: &TaskId) {
        let is_due = |entry: &Entry| matches!(entry.standing, Standing::Due { at, .. } if at <= now.mono);
        if self.tasks.get(id).is_some_and(is_due) {
            self.enqueue(now, id);
        }
    }

    // Tasks go out.

    /// Gives waiting tasks to waiting slots, the freest worker first.
    fn dispatch(&mut self, now: Now) {
        while !self.queue.is_empty()
            && let Some((worker, slot)) = self.idle_slot()
        {
            let leases = self.grant(now, worker, slot, LOOKAHEAD_MAX);
            let Some(slot) = self.roster.get_mut(worker).and_then(|worker| worker.slots.get_mut(&slot)) else { return };
            if let Some(way) = slot.parked.take() {
                self.tell(way, WorkerReply::Leases(leases));
            }
        }
    }

    /// The slot that should have the next task: of those that wait and can run one, one of the
    /// worker that is least loaded.
    fn idle_slot(&self) -> Option<(Uuid, u32)> {
        let can_help = |worker: &super::roster::Worker<R>| {
            TaskPriority::ALL
                .into_iter()
                .any(|priority| self.queue.head(priority, |name| worker.can_run(name)).is_some())
        };
        let idle = self.roster.iter().filter(|(_, worker)| !worker.draining).filter_map(|(key, worker)| {
            let slot = worker.idle_slot()?;
            let load = worker.load() * 1_000 / (worker.size().max(1) as usize);
            can_help(worker).then_some((load, key, slot))
        });
        idle.min_by_key(|(load, ..)| *load).map(|(_, key, slot)| (key, slot))
    }

    /// Leases to a slot the next task that it can run, and as many short ones behind it as fit
    /// into the lookahead.
    fn grant(&mut self, now: Now, key: Uuid, slot: u32, capacity: usize) -> Vec<Lease> {
        let Some(worker) = self.roster.get(key).filter(|worker| !worker.draining && capacity > 0) else {
            return Vec::new();
        };
        let Some((place, first)) = self.queue.next(now.mono, |name| worker.can_run(name)) else { return Vec::new() };
        // Nobody takes more than its share: the others would wait for work that is here.
        let share = self.queue.len().div_ceil(self.roster.slots().max(1));
        let most = capacity.min(share).clamp(1, LOOKAHEAD_MAX);
        let mut ahead = worker.mean_run(&place.name);
        let mut alone = self.tasks.get(&first).is_some_and(|entry| entry.suspect);
        let mut bytes = self.tasks.get(&first).map_or(0, Entry::bytes);
        let mut chosen = vec![(place.clone(), first)];
        self.queue.remove(&place);
        while chosen.len() < most
            && !alone
            && let Some(spent) = ahead
            && let Some((next, id)) = self.queue.head(place.priority, |name| worker.can_run(name))
        {
            ahead = worker.mean_run(&next.name).map(|mean| spent + mean).filter(|sum| *sum <= LOOKAHEAD);
            alone = self.tasks.get(&id).is_some_and(|entry| entry.suspect);
            bytes += self.tasks.get(&id).map_or(0, Entry::bytes);
            if ahead.is_none() || alone || bytes > FRAME_TARGET {
                break;
            }
            self.queue.remove(&next);
            chosen.push((next, id));
        }
        self.lease(now, key, slot, chosen)
    }

    fn lease(&mut self, now: Now, key: Uuid, slot: u32, chosen: Vec<(Place, TaskId)>) -> Vec<Lease> {
        let mut leases = Vec::with_capacity(chosen.len());
        let mut longest = Duration::ZERO;
        for (place, id) in chosen {
            let Some(entry) = self.tasks.get_mut(&id) else { continue };
            self.last_lease += 1;
            let lease = LeaseId(self.last_lease);
            entry.attempt += 1;
            // Only the first begins now.
            let started_at = leases.is_empty().then_some(now.wall);
            entry.standing = Standing::Leased { lease, started_at, position: place.position };
            longest = longest.saturating_add(entry.timeout());
            leases.push(Lease {
                id: lease,
                task_id: id.clone(),
                name: entry.name.clone(),
                attempt: entry.attempt,
                timeout_us: micros(entry.timeout()),
                args: entry.args.clone(),
                kwargs: entry.kwargs.clone(),
            });
            self.leases.insert(lease, Granted { task: id, worker: key });
        }
        self.counts.granted += leases.len() as u64;
        let until = now.mono + longest + LEASE_GRACE;
        if let Some(slot_record) = self.roster.get_mut(key).and_then(|worker| worker.slots.get_mut(&slot)) {
            slot_record.granted = leases.iter().map(|lease| lease.id).collect();
            slot_record.answer.clone_from(&leases);
            let parked_until = mem::replace(&mut slot_record.until, until);
            self.timers.remove(&(parked_until, Timer::Slot(key, slot)));
        }
        self.timers.insert((until, Timer::Slot(key, slot)));
        leases
    }

    // Outcomes come in.

    /// Closes the books on what a slot was granted.
    fn settle(&mut self, now: Now, worker: Uuid, granted: Vec<LeaseId>, ended: Vec<Ended>) {
        for Ended { lease, outcome, ran_us, reports } in ended {
            // A late outcome, under a lease that was taken back, counts for nothing.
            if !self.holds(worker, lease) {
                continue;
            }
            if !reports.is_empty() {
                self.report(now, lease, reports);
            }
            match outcome {
                Some(outcome) => self.outcome(now, worker, lease, outcome, Duration::from_micros(ran_us)),
                None => self.put_back(now, lease, Loss::No),
            }
        }
        // A slot that asks for more has nothing left: what it did not mention, it never got.
        for lease in granted {
            self.put_back(now, lease, Loss::No);
        }
    }

    fn outcome(&mut self, now: Now, worker: Uuid, lease: LeaseId, outcome: Outcome, ran: Duration) {
        let Some(Granted { task: id, .. }) = self.leases.remove(&lease) else { return };
        let Some(entry) = self.tasks.get_mut(&id) else { return };
        let started_at = Some(Timestamp::from_micros(now.wall.micros() - i64::try_from(micros(ran)).unwrap_or(0)));
        let worker_id = self.roster.get_mut(worker).map(|worker| {
            worker.ran(&entry.name, ran);
            worker.id.clone()
        });
        let end = End { started_at, worker_id: worker_id.as_deref().map(str::to_owned), ..End::default() };
        match outcome {
            Outcome::Success { result, follow_ups } => {
                self.finish(now, &id, TaskStatus::Success, End { result: Some(result), ..end });
                for (index, follow_up) in follow_ups.into_iter().enumerate() {
                    self.follow_up(now, id.follow_up(index), follow_up);
                }
            }
            Outcome::Failure(failure) => match retry::delay(&entry.policy, &id, entry.attempt, &failure) {
                Some(wait) => {
                    let at = now.mono + wait;
                    entry.standing = Standing::Due { at, retry: true };
                    self.timers.insert((at, Timer::Due(id)));
                }
                None => self.finish(now, &id, TaskStatus::Failure, End { failure: Some(failure), ..end }),
            },
            // Stopped by an order that we did not give, such as the worker's own drain.
            Outcome::Stopped => {
                self.leases.insert(lease, Granted { task: id, worker });
                self.put_back(now, lease, Loss::No);
            }
        }
    }

    fn follow_up(&mut self, now: Now, id: TaskId, follow_up: FollowUp) {
        let FollowUp { name, args, kwargs, policy, countdown } = follow_up;
        let task = NewTask { id, args, kwargs, policy, countdown, ..NewTask::new(name) };
        let id = task.id.clone();
        if let Taken::Refused(why) = self.accept(now, task, None) {
            // Its parent has ended well, so nobody can be told but who asks for this very task.
            self.keep(
                now,
                TaskResult {
                    task_id: id,
                    status: TaskStatus::Failure,
                    result: None,
                    error: Some(why),
                    started_at: None,
                    completed_at: Some(now.wall),
                    error_kind: Some(ErrorKind::Failed),
                    worker_id: None,
                    attempts: 0,
                },
                ReportLog::default(),
            );
        }
    }

    /// Takes a lease back, and its task to the place that it had in the queue.
    fn put_back(&mut self, now: Now, lease: LeaseId, loss: Loss) {
        let Some(Granted { task: id, worker }) = self.leases.remove(&lease) else { return };
        let Some(entry) = self.tasks.get_mut(&id) else { return };
        let Standing::Leased { started_at, position, .. } = entry.standing else { return };
        entry.attempt -= 1;
        if let Loss::Yes = loss {
            entry.suspect = true;
            entry.losses += u32::from(started_at.is_some());
        }
        if entry.losses >= LOSSES_MAX {
            let message = format!("the workers that ran it were lost, {LOSSES_MAX} times");
            let worker_id = self.roster.get(worker).map(|worker| worker.id.to_string());
            let failure = Some(Failure::new(ErrorKind::WorkerLost, message));
            return self.finish(
                now,
                &id,
                TaskStatus::Failure,
                End { failure, started_at, worker_id, ..End::default() },
            );
        }
        entry.standing = Standing::Queued(position);
        self.queue.push(&entry.place(position), id, entry.waiting_since);
    }

    fn cancel_one(&mut self, now: Now, id: &TaskId) -> bool {
        let Some(entry) = self.tasks.get(id) else { return false };
        let mut end = End::default();
        match entry.standing {
            Standing::Queued(position) => drop(self.queue.remove(&entry.place(position))),
            Standing::Due { at, .. } => drop(self.timers.remove(&(at, Timer::Due(id.clone())))),
            Standing::Leased { lease, started_at, .. } => {
                end.started_at = started_at;
                if let Some(granted) = self.leases.remove(&lease)
                    && let Some(worker) = self.roster.get_mut(granted.worker)
                {
                    end.worker_id = started_at.map(|_| worker.id.to_string());
                    worker.orders.push(Order::Stop(lease));
                    self.answer_beat(granted.worker);
                }
            }
        }
        self.finish(now, id, TaskStatus::Cancelled, end);
        true
    }

    /// Ends a task, once, and tells everybody who waits for it.
    fn finish(&mut self, now: Now, id: &TaskId, status: TaskStatus, end: End) {
        let Some(entry) = self.tasks.remove(id) else { return };
        self.bytes -= entry.bytes();
        let (error, error_kind) = match (end.failure, status) {
            (Some(failure), _) => (Some(failure.message), Some(failure.kind)),
            (None, TaskStatus::Cancelled) => (Some("Task cancelled".to_owned()), None),
            (None, _) => (None, None),
        };
        let result = TaskResult {
            task_id: id.clone(),
            status,
            result: end.result,
            error,
            started_at: end.started_at,
            completed_at: Some(now.wall),
            error_kind,
            worker_id: end.worker_id,
            attempts: entry.attempt,
        };
        let result = self.keep(now, result, entry.reports);
        if let Some(session) = entry.session
            && self.sessions.tell(session, result)
        {
            self.answer_session(session, true);
        }
        for park in entry.watchers {
            self.unpark(now, park);
        }
    }

    fn keep(&mut self, now: Now, result: TaskResult, reports: ReportLog) -> Arc<TaskResult> {
        let result = Arc::new(result);
        match result.status {
            TaskStatus::Success => self.counts.ended[0] += 1,
            TaskStatus::Cancelled => self.counts.ended[2] += 1,
            _ => self.counts.ended[1] += 1,
        }
        self.results.store(now.mono, result.clone(), reports);
        self.await_expiry();
        result
    }

    /// Sets the timer for the oldest result, unless one is set.
    fn await_expiry(&mut self) {
        if self.expiry.is_none()
            && let Some(at) = self.results.next_expiry()
        {
            self.expiry = Some(at);
            self.timers.insert((at, Timer::Expiry));
        }
    }

    // Workers go away.

    fn check_silence(&mut self, now: Now, key: Uuid) {
        let Some(worker) = self.roster.get(key) else { return };
        let silent = now.mono.since(worker.last_seen.mono) >= SILENCE_MAX;
        let gone = worker.disconnected.is_some_and(|at| now.mono.since(at) >= RECONNECT_GRACE);
        if silent || gone {
            self.lose(now, key);
        } else if worker.disconnected.is_none() {
            self.timers.insert((worker.last_seen.mono + SILENCE_MAX, Timer::Silence(key)));
        }
    }

    fn lose(&mut self, now: Now, key: Uuid) {
        let Some(worker) = self.roster.remove(now, key) else { return };
        for (number, slot) in worker.slots {
            self.timers.remove(&(slot.until, Timer::Slot(key, number)));
            if let Some(way) = slot.parked {
                self.tell(way, WorkerReply::Unknown);
            }
            for lease in slot.granted {
                self.put_back(now, lease, Loss::Yes);
            }
        }
        if let Some(way) = worker.beat {
            self.tell(way, WorkerReply::Unknown);
        }
        self.dispatch(now);
    }

    /// A slot waited long enough, or did not come back from its grants.
    fn slot_over(&mut self, now: Now, at: Moment, key: Uuid, number: u32) {
        let Some(slot) = self.roster.get_mut(key).and_then(|worker| worker.slots.get_mut(&number)) else { return };
        if slot.until != at {
            return;
        }
        slot.until = Moment::NEVER;
        if let Some(way) = slot.parked.take() {
            return self.tell(way, WorkerReply::Leases(Vec::new()));
        }
        for lease in mem::take(&mut slot.granted) {
            self.put_back(now, lease, Loss::Yes);
        }
    }

    fn answer_beat(&mut self, key: Uuid) {
        if let Some(worker) = self.roster.get_mut(key)
            && let Some(way) = worker.beat.take()
        {
            let orders = mem::take(&mut worker.orders);
            self.tell(way, WorkerReply::Orders(orders));
        }
    }

    /// Gives a slot the answer again that it did not get.
    fn answer_again(&mut self, work: &Work, from: R) {
        let Some(slot) = self.roster.get_mut(work.worker).and_then(|worker| worker.slots.get_mut(&work.slot)) else {
            return;
        };
        if work.sequence < slot.sequence {
            return self.tell(from, WorkerReply::Leases(Vec::new()));
        }
        if let Some(parked) = &mut slot.parked {
            let displaced = mem::replace(parked, from);
            return self.tell(displaced, WorkerReply::Leases(Vec::new()));
        }
        // A lease that is no longer live must not be begun.
        let answer = slot.answer.iter().filter(|lease| self.leases.contains_key(&lease.id)).cloned().collect();
        self.tell(from, WorkerReply::Leases(answer));
    }

    // Requests that wait.

    fn park(&mut self, now: Now, question: Question, limit: Duration, way: R) {
        self.last_park += 1;
        let park = self.last_park;
        for id in question.tasks() {
            let Some(entry) = self.tasks.get_mut(id) else { continue };
            // Who gave up is forgotten when the room is used up, so that it cannot pile up.
            if entry.watchers.len() == entry.watchers.capacity() {
                let (open, shut): (Vec<_>, Vec<_>) = mem::take(&mut entry.watchers)
                    .into_iter()
                    .partition(|watcher| self.parked.get(watcher).is_some_and(|parked| parked.way.is_open()));
                entry.watchers = open;
                for watcher in shut {
                    self.parked.remove(&watcher);
                }
            }
            entry.watchers.push(park);
        }
        let until = now.mono + limit;
        if until != Moment::NEVER {
            self.timers.insert((until, Timer::Parked(park)));
        }
        self.parked.insert(park, Parked { way, question, until });
    }

    fn unpark(&mut self, now: Now, park: ParkId) {
        let Some(Parked { way, question, until }) = self.parked.remove(&park) else { return };
        self.timers.remove(&(until, Timer::Parked(park)));
        let answer = self.answer_to(now, &question);
        self.say(way, answer);
    }

    fn wake_followers(&mut self, now: Now, id: &TaskId) {
        let Some(entry) = self.tasks.get_mut(id) else { return };
        let is_follower = |park: &ParkId| {
            self.parked.get(park).is_some_and(|parked| matches!(parked.question, Question::Follow { .. }))
        };
        let (followers, others) = mem::take(&mut entry.watchers).into_iter().partition::<Vec<_>, _>(is_follower);
        entry.watchers = others;
        for park in followers {
            self.unpark(now, park);
        }
    }

    fn answer_to(&mut self, now: Now, question: &Question) -> Reply {
        match question {
            Question::Submitted(id) => Reply::Submitted(vec![match self.results.get(now.mono, id) {
                Some(kept) => Submitted::Ended(kept.result.clone()),
                None => Submitted::Accepted,
            }]),
            Question::Lookup(ids) => Reply::Found(self.found(now, ids)),
            Question::Follow { id, after } => Reply::Reports(self.reports(now, id, *after)),
        }
    }

    fn found(&mut self, now: Now, ids: &[TaskId]) -> Vec<Found> {
        let mut found = Vec::with_capacity(ids.len());
        let mut bytes = 0;
        for id in ids {
            let one = self.find(now, id);
            bytes += match &one {
                Found::Ended(ended) => ended.size(),
                Found::Live(task) => task.args.as_str().len() + task.kwargs.as_str().len(),
                Found::Unknown => 0,
            };
            if bytes > FRAME_TARGET && !found.is_empty() {
                break;
            }
            found.push(one);
        }
        found
    }

    fn find(&mut self, now: Now, id: &TaskId) -> Found {
        if let Some(entry) = self.tasks.get(id) {
            return Found::Live(Box::new(view(id, entry)));
        }
        self.results.get(now.mono, id).map_or(Found::Unknown, |kept| Found::Ended(kept.result.clone()))
    }

    fn reports(&mut self, now: Now, id: &TaskId, after: u64) -> Reports {
        let task = self.find(now, id);
        let log = match &task {
            Found::Live(_) => self.tasks.get(id).map(|entry| &entry.reports),
            Found::Ended(_) => self.results.get(now.mono, id).map(|kept| &kept.reports),
            Found::Unknown => None,
        };
        let reports = log.map(|log| log.after(after).cloned().collect()).unwrap_or_default();
        Reports { reports, last: log.map_or(after, ReportLog::last), task }
    }

    // Sessions.

    /// Notes that a session is in use. Returns whether it was known.
    fn touch_session(&mut self, now: Now, session: Uuid) -> bool {
        let known = self.sessions.touch(now.mono, session);
        if !known {
            self.timers.insert((now.mono + super::sessions::SESSION_IDLE_MAX, Timer::Session(session)));
        }
        known
    }

    fn check_session(&mut self, now: Now, session: Uuid) {
        match self.sessions.check(now.mono, session) {
            super::sessions::Check::Again(at) => drop(self.timers.insert((at, Timer::Session(session)))),
            super::sessions::Check::WaitOver => self.answer_session(session, true),
            super::sessions::Check::Gone => {}
        }
    }

    fn answer_session(&mut self, session: Uuid, known: bool) {
        if let Some((way, until, results)) = self.sessions.answer(session) {
            self.timers.remove(&(until, Timer::Session(session)));
            self.say(way, Reply::Collected(Collected { known, results }));
        }
    }

    // What is said.

    fn say(&mut self, to: R, reply: Reply) {
        self.outbox.push(Effect { to, answer: Answer::Client(reply) });
    }

    fn tell(&mut self, to: R, reply: WorkerReply) {
        self.outbox.push(Effect { to, answer: Answer::Worker(reply) });
    }
}

/// Whether a lease that is taken back was lost with its worker.
#[derive(Clone, Copy)]
enum Loss {
    No,
    Yes,
}

/// What the end of a task is made of.
#[derive(Default)]
struct End {
    result: Option<Json>,
    failure: Option<Failure>,
    started_at: Option<Timestamp>,
    worker_id: Option<String>,
}

/// How long a request may be parked.
fn wait(wait_ms: u32) -> Duration {
    Duration::from_millis(wait_ms.into()).min(WAIT_MAX)
}

fn view(id: &TaskId, entry: &Entry) -> Task {
    let started_at = match entry.standing {
        Standing::Leased { started_at, .. } => started_at,
        Standing::Queued(_) | Standing::Due { .. } => None,
    };
    Task {
        id: id.clone(),
        name: entry.name.to_string(),
        args: entry.args.clone(),
        kwargs: entry.kwargs.clone(),
        priority: entry.priority,
        created_at: entry.created_at,
        started_at,
        completed_at: None,
        status: entry.status(),
        result: None,
        error: None,
        attempt: entry.attempt,
        progress: entry.reports.progress().cloned(),
    }
}
