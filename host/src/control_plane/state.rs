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
    iter, mem,
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{
    queue::{Place, Position, Queue},
    reports::ReportLog,
    results::Results,
    retry,
    roster::{RECONNECT_GRACE, Roster, SILENCE_MAX, SLOTS_MAX, Worker},
    sessions::{self, Sessions, Shed, Turn},
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
    /// The session that hears of its end.
    session: Option<Uuid>,
    /// Those under which it was submitted again.
    other_sessions: Vec<Uuid>,
    /// Parked requests that wait for its end or its reports.
    watchers: Vec<ParkId>,
    reports: ReportLog,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.args.as_str().len() + self.kwargs.as_str().len()
    }

    /// Lets one more session hear of its end.
    fn attach<R>(&mut self, session: Uuid, open: &Sessions<R>) {
        let first = *self.session.get_or_insert(session);
        if first == session || self.other_sessions.contains(&session) {
            return;
        }
        // Those that were forgotten make room, so that they cannot pile up.
        if self.other_sessions.len() == self.other_sessions.capacity() {
            self.other_sessions.retain(|other| open.is_open(*other));
        }
        self.other_sessions.push(session);
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
    /// A session's parked question is answered with what there is.
    Collect(Uuid),
    /// Sessions may have been left alone.
    Sessions,
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
    /// Whether the timer for the longest unused session is set.
    watches_sessions: bool,
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
            results: Results::new(limits.results_max, limits.result_bytes_max, limits.result_ttl),
            limits,
            tasks: HashMap::new(),
            bytes: 0,
            queue: Queue::default(),
            leases: HashMap::new(),
            roster: Roster::default(),
            expiry: None,
            sessions: Sessions::default(),
            watches_sessions: false,
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

    /// The sessions.
    pub fn sessions(&self) -> &Sessions<R> {
        &self.sessions
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
        let taken: Vec<Taken> = submit.tasks.into_iter().map(|task| self.offer(now, task, session)).collect();
        if let ([Taken::Live], Notify::Answer) = (&taken[..], &submit.notify) {
            self.park(now, Question::Submitted(ids[0].clone()), WAIT_MAX, from);
        } else {
            let answer = self.submitted(taken, session);
            self.say(from, answer);
        }
        self.dispatch(now);
    }

    /// What became of each task of a frame.
    fn submitted(&mut self, taken: Vec<Taken>, session: Option<Uuid>) -> Reply {
        let (mut bytes, mut told) = (0, false);
        let mut answers = Vec::with_capacity(taken.len());
        for taken in taken {
            answers.push(match taken {
                Taken::Ended(result) => {
                    bytes += result.size();
                    // What is too much for one frame is told by the session, or looked up.
                    if mem::replace(&mut told, true) && bytes > FRAME_TARGET {
                        if let Some(session) = session
                            && self.sessions.tell(session, result)
                        {
                            self.answer_session(session);
                        }
                        Submitted::Accepted
                    } else {
                        Submitted::Ended(result)
                    }
                }
                Taken::Live => Submitted::Accepted,
                Taken::Refused(why) => Submitted::Refused(why),
            });
        }
        self.shed_sessions();
        Reply::Submitted(answers)
    }

    /// Takes one task of the Python original in, whose submitter waits for its end however long
    /// that takes.
    pub fn submit_and_hold(&mut self, now: Now, task: NewTask, from: R) {
        let id = task.id.clone();
        let answer = match self.offer(now, task, None) {
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
        let Collect { session, sequence, wait_ms } = *collect;
        let known = self.touch_session(now, session);
        let displaced = match self.sessions.ask(session, sequence) {
            Turn::New { displaced } => {
                let until = now.mono + wait(wait_ms);
                let at_once = if known && wait_ms > 0 { self.sessions.park(session, from, until) } else { Some(from) };
                match at_once {
                    Some(way) => {
                        let answer = self.sessions.answer(session, known);
                        self.say(way, Reply::Collected(answer));
                    }
                    None => drop(self.timers.insert((until, Timer::Collect(session)))),
                }
                displaced
            }
            Turn::Again { parked, answer } => {
                self.say(from, Reply::Collected(answer));
                parked
            }
            Turn::Old => return self.say(from, Reply::Collected(sessions::nothing())),
        };
        if let Some((way, until)) = displaced {
            self.timers.remove(&(until, Timer::Collect(session)));
            self.say(way, Reply::Collected(sessions::nothing()));
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
        let mut orders = BTreeMap::new();
        let stopped = ids.iter().map(|id| self.cancel_one(now, id, &mut orders)).collect();
        for (worker, orders) in orders {
            self.answer_beat(worker, orders);
        }
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
        if registration.slots == 0 || registration.slots > SLOTS_MAX {
            let why = format!("a worker has 1 to {SLOTS_MAX} slots, not {}", registration.slots);
            return self.tell(from, WorkerReply::Refused(why));
        }
        if self.draining {
            return self.tell(from, WorkerReply::Refused("the control plane is stopping".into()));
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
        for name in self.roster.add(now, registration, peer) {
            self.queue.offer(name);
        }
        if peer.is_some() {
            self.watch(key, now.mono + SILENCE_MAX);
        }
        self.tell(from, WorkerReply::Registered);
        self.dispatch(now);
    }

    /// Takes what a slot ran, and gives it more or lets it wait.
    pub fn work(&mut self, now: Now, work: Work, from: R) {
        let Work { worker: key, slot: number, sequence, ended, capacity } = work;
        let Some(worker) = self.roster.get_mut(key) else { return self.tell(from, WorkerReply::Unknown) };
        worker.last_seen = now;
        let draining = worker.draining;
        let opened = self.roster.change_slot(key, number, |slot| {
            let is_new = sequence > slot.sequence;
            is_new.then(|| {
                slot.sequence = sequence;
                slot.answer.clear();
                let until = mem::replace(&mut slot.until, Moment::NEVER);
                (mem::take(&mut slot.granted), until, slot.parked.take())
            })
        });
        let (granted, until, displaced) = match opened {
            Some(Some(opened)) => opened,
            Some(None) => return self.answer_again(key, number, sequence, from),
            None => return self.tell(from, WorkerReply::Refused(format!("there is no slot {number} in this worker"))),
        };
        self.timers.remove(&(until, Timer::Slot(key, number)));
        if let Some(displaced) = displaced {
            self.tell(displaced, WorkerReply::Leases(Vec::new()));
        }
        let at_once = capacity == 0 || draining;
        self.settle(now, key, granted, ended);

        let leases = self.grant(now, key, number, capacity as usize);
        if !leases.is_empty() || at_once {
            self.tell(from, WorkerReply::Leases(leases));
        } else {
            let until = now.mono + WAIT_MAX;
            self.roster.change_slot(key, number, |slot| {
                (slot.parked, slot.capacity, slot.until) = (Some(from), capacity, until);
            });
            self.timers.insert((until, Timer::Slot(key, number)));
        }
        // What was put back or followed up may suit a slot that waits.
        self.dispatch(now);
    }

    /// Takes a sign of life, and parks it until there is an order.
    pub fn beat(&mut self, now: Now, beat: &Beat, peer: Option<Peer>, from: R) {
        let key = beat.worker;
        let Some(worker) = self.roster.get_mut(key) else { return self.tell(from, WorkerReply::Unknown) };
        worker.last_seen = now;
        worker.peer = peer;
        worker.disconnected = None;
        self.answer_beat(key, Vec::new());
        let is_dead = |lease: &&LeaseId| !self.leases.contains_key(lease);
        let orders: Vec<Order> = beat.holds.iter().filter(is_dead).copied().map(Order::Stop).collect();
        if !orders.is_empty() {
            return self.tell(from, WorkerReply::Orders(orders));
        }
        self.note_begun(now, key, &beat.holds);
        // The control plane's own worker needs no sign of life, so its beat waits for an order.
        let until = if peer.is_some() { now.mono + BEAT_WAIT } else { Moment::NEVER };
        if let Some(worker) = self.roster.get_mut(key) {
            worker.beat = Some((from, until));
        }
        if peer.is_some() {
            self.timers.insert((until, Timer::Beat(key)));
        }
    }

    /// A slot runs its leases in order: the first that it still holds has begun.
    fn note_begun(&mut self, now: Now, key: Uuid, holds: &[LeaseId]) {
        let Some(worker) = self.roster.get(key) else { return };
        let holds: BTreeSet<LeaseId> = holds.iter().copied().collect();
        for slot in worker.slots.values().filter(|slot| slot.granted.len() > 1) {
            let Some(lease) = slot.granted.iter().find(|lease| holds.contains(lease)) else { continue };
            let Some(entry) = self.leases.get(lease).and_then(|granted| self.tasks.get_mut(&granted.task)) else {
                continue;
            };
            if let Standing::Leased { started_at, .. } = &mut entry.standing {
                started_at.get_or_insert(now.wall);
            }
        }
    }

    /// Takes what a worker says between two requests for work.
    pub fn note(&mut self, now: Now, note: Note, from: R) {
        let Some(worker) = self.roster.get_mut(note.worker) else { return self.tell(from, WorkerReply::Unknown) };
        if worker.noted < note.sequence {
            worker.noted = note.sequence;
            let mut reports = note.reports.into_iter().peekable();
            while let Some((lease, first)) = reports.next() {
                let more = iter::from_fn(|| reports.next_if(|(next, _)| *next == lease));
                let said: Vec<Report> = iter::once(first).chain(more.map(|(_, report)| report)).collect();
                if self.holds(note.worker, lease) {
                    self.report(now, lease, said);
                }
            }
            for lease in note.returned.into_iter().filter(|lease| self.holds(note.worker, *lease)).collect::<Vec<_>>() {
                self.put_back(now, lease, Loss::No);
            }
        }
        self.tell(from, WorkerReply::Noted);
        self.dispatch(now);
    }

    /// Adds to what a task said, as long as the lease is live.
    fn report(&mut self, now: Now, lease: LeaseId, reports: Vec<Report>) {
        let Some(id) = self.leases.get(&lease).map(|granted| granted.task.clone()) else { return };
        if let Some(entry) = self.tasks.get_mut(&id) {
            for report in reports {
                entry.reports.push(report);
            }
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
        let numbers: Vec<u32> = draining.slots.keys().copied().collect();
        for number in numbers {
            self.unpark_slot(worker, number);
        }
        self.tell(from, WorkerReply::Noted);
    }

    /// Answers a slot's parked request with nothing.
    fn unpark_slot(&mut self, key: Uuid, number: u32) {
        let parked = self.roster.change_slot(key, number, |slot| {
            slot.parked.take().map(|way| (way, mem::replace(&mut slot.until, Moment::NEVER)))
        });
        if let Some((way, until)) = parked.flatten() {
            self.timers.remove(&(until, Timer::Slot(key, number)));
            self.tell(way, WorkerReply::Leases(Vec::new()));
        }
    }

    /// Lets a worker go. What it holds goes back to the queue, and is not counted as a loss.
    pub fn leave(&mut self, now: Now, worker: Uuid, from: R) {
        if let Some((gone, names)) = self.roster.remove(now, worker) {
            self.dismiss(now, worker, gone, &names, Loss::No);
        }
        self.tell(from, WorkerReply::Noted);
        self.dispatch(now);
    }

    /// Notes that a connection is gone. A worker on it is lost unless it comes back soon.
    pub fn peer_gone(&mut self, now: Now, peer: Peer) {
        let on_it = self.roster.iter_mut().filter(|(_, worker)| worker.peer == Some(peer));
        let gone: Vec<Uuid> = on_it
            .map(|(key, worker)| {
                worker.disconnected = Some(now.mono);
                key
            })
            .collect();
        for key in gone {
            self.watch(key, now.mono + RECONNECT_GRACE);
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
                Timer::Beat(worker) => self.answer_beat(worker, Vec::new()),
                Timer::Silence(worker) => self.check_silence(now, worker),
                Timer::Collect(session) => self.answer_session(session),
                Timer::Sessions => self.check_sessions(now),
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
                let beat = worker.beat.take().map(|(way, _)| way);
                worker.slots.values_mut().filter_map(|slot| slot.parked.take()).chain(beat)
            })
            .collect();
        for way in parked {
            self.tell(way, WorkerReply::Unknown);
        }
    }

    // Tasks come in.

    /// Takes a client's task in, unless the control plane is about to stop.
    fn offer(&mut self, now: Now, task: NewTask, session: Option<Uuid>) -> Taken {
        let knows = |id| self.tasks.contains_key(id) || self.results.peek(now.mono, id).is_some();
        if self.draining && !knows(&task.id) {
            return Taken::Refused("the control plane is stopping and takes no more tasks".into());
        }
        self.accept(now, task, session)
    }

    /// Takes a task in, or attaches to the one that has its id.
    fn accept(&mut self, now: Now, task: NewTask, session: Option<Uuid>) -> Taken {
        if let Some(entry) = self.tasks.get_mut(&task.id) {
            if let Some(session) = session {
                entry.attach(session, &self.sessions);
            }
            return Taken::Live;
        }
        if let Some(kept) = self.results.get(now.mono, &task.id) {
            return Taken::Ended(kept.result.clone());
        }
        if let Some(why) = self.refusal(&task) {
            return Taken::Refused(why);
        }
        let offered = self.roster.offered(now.mono, &task.name);
        if offered.is_none() && task.unknown == Unknown::Fail {
            return Taken::Ended(self.not_found(now, task));
        }
        let (name, policy) = match offered {
            Some((name, own)) => (name.clone(), task.policy.or(own)),
            None => (task.name.as_str().into(), task.policy),
        };
        let wait = match (task.countdown, task.eta) {
            (Some(countdown), _) => countdown,
            (None, Some(eta)) => eta.since(now.wall),
            (None, None) => Duration::ZERO,
        };
        let at = now.mono + wait;
        let entry = Entry {
            name,
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
            other_sessions: Vec::new(),
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
        if task.name.is_empty() || task.name.len() > TASK_NAME_MAX || task.name.chars().any(char::is_control) {
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

    /// Gives waiting tasks to waiting slots, the freest worker first. Each entrance to the state
    /// ends with it, so that its books are complete before the first task goes out.
    fn dispatch(&mut self, now: Now) {
        while self.queue.ready() > 0
            && let Some((worker, slot)) = self.idle_slot()
        {
            let capacity = self.roster.change_slot(worker, slot, |slot| slot.capacity);
            let leases = self.grant(now, worker, slot, capacity.unwrap_or(1) as usize);
            let parked = self.roster.change_slot(worker, slot, |slot| slot.parked.take());
            let Some(way) = parked.flatten() else { return };
            self.tell(way, WorkerReply::Leases(leases));
        }
    }

    /// The slot that should have the next task: of those that wait and can run one, one of the
    /// worker that is least loaded.
    fn idle_slot(&self) -> Option<(Uuid, u32)> {
        let (key, worker) = self.roster.idle().find(|(_, worker)| self.queue.has(worker.names()))?;
        Some((key, worker.idle_slot()?))
    }

    /// Leases to a slot the next task that it can run, and as many short ones behind it as fit
    /// into the lookahead.
    fn grant(&mut self, now: Now, key: Uuid, slot: u32, capacity: usize) -> Vec<Lease> {
        let Some(worker) = self.roster.get(key).filter(|worker| !worker.draining && capacity > 0) else {
            return Vec::new();
        };
        // Nobody takes more than its share: the others would wait for work that is here.
        let share = self.queue.ready().div_ceil(self.roster.slots().max(1));
        let most = capacity.min(share).clamp(1, LOOKAHEAD_MAX);
        let Some((place, first)) = self.queue.next(now.mono, worker.names()) else { return Vec::new() };
        let mut ahead = worker.mean_run(&place.name);
        let mut alone = self.tasks.get(&first).is_some_and(|entry| entry.suspect);
        let mut bytes = self.tasks.get(&first).map_or(0, Entry::bytes);
        let mut chosen = vec![(place.clone(), first)];
        self.queue.remove(&place);
        while chosen.len() < most
            && !alone
            && let Some(spent) = ahead
            && let Some((next, id)) = self.queue.head(place.priority, worker.names())
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

    fn lease(&mut self, now: Now, key: Uuid, number: u32, chosen: Vec<(Place, TaskId)>) -> Vec<Lease> {
        let mut leases = Vec::with_capacity(chosen.len());
        let mut longest = Duration::ZERO;
        for (place, id) in chosen {
            let Some(entry) = self.tasks.get_mut(&id) else { continue };
            // It may have been submitted before anybody knew the name.
            if let Some((_, own)) = self.roster.offered(now.mono, &place.name).filter(|_| entry.attempt == 0) {
                entry.policy = entry.policy.or(own);
            }
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
        let parked_until = self.roster.change_slot(key, number, |slot| {
            slot.granted = leases.iter().map(|lease| lease.id).collect();
            slot.answer.clone_from(&leases);
            mem::replace(&mut slot.until, until)
        });
        if let Some(parked_until) = parked_until {
            self.timers.remove(&(parked_until, Timer::Slot(key, number)));
            self.timers.insert((until, Timer::Slot(key, number)));
        }
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
        let ran_us = i64::try_from(micros(ran)).unwrap_or(i64::MAX);
        let started_at = Some(Timestamp::from_micros(now.wall.micros().saturating_sub(ran_us)));
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
            self.counts.accepted += 1;
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
    fn put_back(&mut self, now: Now, lease: LeaseId, loss: Loss<'_>) {
        let Some(Granted { task: id, .. }) = self.leases.remove(&lease) else { return };
        let Some(entry) = self.tasks.get_mut(&id) else { return };
        let Standing::Leased { started_at, position, .. } = entry.standing else { return };
        entry.attempt -= 1;
        if matches!(loss, Loss::Of(_)) {
            entry.suspect = true;
            entry.losses += u32::from(started_at.is_some());
        }
        if let Loss::Of(worker) = loss
            && entry.losses >= LOSSES_MAX
        {
            let message = format!("the workers that ran it were lost, {LOSSES_MAX} times");
            let worker_id = Some(worker.to_owned());
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

    /// Stops a task. Notes in `orders` which worker is to end its attempt.
    fn cancel_one(&mut self, now: Now, id: &TaskId, orders: &mut BTreeMap<Uuid, Vec<Order>>) -> bool {
        let Some(entry) = self.tasks.get(id) else { return false };
        let mut end = End::default();
        match entry.standing {
            Standing::Queued(position) => drop(self.queue.remove(&entry.place(position))),
            Standing::Due { at, .. } => drop(self.timers.remove(&(at, Timer::Due(id.clone())))),
            Standing::Leased { lease, started_at, .. } => {
                end.started_at = started_at;
                if let Some(granted) = self.leases.remove(&lease) {
                    let worker = self.roster.get(granted.worker).filter(|_| started_at.is_some());
                    end.worker_id = worker.map(|worker| worker.id.to_string());
                    orders.entry(granted.worker).or_default().push(Order::Stop(lease));
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
        for session in entry.session.into_iter().chain(entry.other_sessions) {
            if self.sessions.tell(session, result.clone()) {
                self.answer_session(session);
            }
        }
        self.shed_sessions();
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

    /// Looks again at `at` whether a worker was silent for too long.
    fn watch(&mut self, key: Uuid, at: Moment) {
        let Some(worker) = self.roster.get_mut(key) else { return };
        let before = mem::replace(&mut worker.watched, at);
        self.timers.remove(&(before, Timer::Silence(key)));
        self.timers.insert((at, Timer::Silence(key)));
    }

    fn check_silence(&mut self, now: Now, key: Uuid) {
        let Some(worker) = self.roster.get(key) else { return };
        let silent = worker.last_seen.mono + SILENCE_MAX;
        let lost_at = worker.disconnected.map_or(silent, |at| silent.min(at + RECONNECT_GRACE));
        if lost_at <= now.mono { self.lose(now, key) } else { self.watch(key, lost_at) }
    }

    fn lose(&mut self, now: Now, key: Uuid) {
        let Some((worker, names)) = self.roster.remove(now, key) else { return };
        self.roster.note_lost(now, &worker);
        let id = worker.id.clone();
        self.dismiss(now, key, worker, &names, Loss::Of(&id));
    }

    /// Closes the books on a worker that is not in the roster any more. `names` are those that
    /// nobody offers now.
    fn dismiss(&mut self, now: Now, key: Uuid, worker: Worker<R>, names: &[Arc<str>], loss: Loss<'_>) {
        for name in names {
            self.queue.withdraw(name);
        }
        self.timers.remove(&(worker.watched, Timer::Silence(key)));
        for (number, slot) in worker.slots {
            self.timers.remove(&(slot.until, Timer::Slot(key, number)));
            if let Some(way) = slot.parked {
                self.tell(way, WorkerReply::Unknown);
            }
            for lease in slot.granted {
                self.put_back(now, lease, loss);
            }
        }
        if let Some((way, until)) = worker.beat {
            self.timers.remove(&(until, Timer::Beat(key)));
            self.tell(way, WorkerReply::Unknown);
        }
    }

    /// A slot waited long enough, or did not come back from its grants.
    fn slot_over(&mut self, now: Now, at: Moment, key: Uuid, number: u32) {
        let over = self.roster.change_slot(key, number, |slot| {
            let over = slot.until == at;
            over.then(|| {
                slot.until = Moment::NEVER;
                (slot.parked.take(), mem::take(&mut slot.granted))
            })
        });
        let Some((parked, granted)) = over.flatten() else { return };
        if let Some(way) = parked {
            return self.tell(way, WorkerReply::Leases(Vec::new()));
        }
        let Some(id) = self.roster.get(key).map(|worker| worker.id.clone()) else { return };
        let orders = granted.iter().filter(|lease| self.leases.contains_key(lease)).copied().map(Order::Stop).collect();
        for lease in granted {
            self.put_back(now, lease, Loss::Of(&id));
        }
        self.answer_beat(key, orders);
    }

    /// Answers a parked beat. The next one makes up for it if none is parked, since it tells what
    /// the worker holds.
    fn answer_beat(&mut self, key: Uuid, orders: Vec<Order>) {
        let Some((way, until)) = self.roster.get_mut(key).and_then(|worker| worker.beat.take()) else { return };
        self.timers.remove(&(until, Timer::Beat(key)));
        self.tell(way, WorkerReply::Orders(orders));
    }

    /// Gives a slot the answer again that it did not get.
    fn answer_again(&mut self, key: Uuid, number: u32, sequence: u64, from: R) {
        let again = self.roster.change_slot(key, number, |slot| {
            if sequence < slot.sequence {
                (Vec::new(), Some(from))
            } else if slot.parked.is_some() {
                (Vec::new(), slot.parked.replace(from))
            } else {
                (slot.answer.clone(), Some(from))
            }
        });
        let Some((mut answer, Some(way))) = again else { return };
        // A lease that is no longer live must not be begun.
        answer.retain(|lease| self.leases.contains_key(&lease.id));
        self.tell(way, WorkerReply::Leases(answer));
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
                    if let Some(shut) = self.parked.remove(&watcher) {
                        self.timers.remove(&(shut.until, Timer::Parked(watcher)));
                    }
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
        self.shed_sessions();
        if !mem::replace(&mut self.watches_sessions, true)
            && let Some(at) = self.sessions.next_expiry()
        {
            self.timers.insert((at, Timer::Sessions));
        }
        known
    }

    /// Forgets sessions that were left alone.
    fn check_sessions(&mut self, now: Now) {
        while let Some(shed) = self.sessions.expire(now.mono) {
            self.say_forgotten(shed);
        }
        let next = self.sessions.next_expiry();
        self.watches_sessions = next.is_some();
        self.timers.extend(next.map(|at| (at, Timer::Sessions)));
    }

    /// Forgets sessions that are too many or hold too much.
    fn shed_sessions(&mut self) {
        while let Some(shed) = self.sessions.shed() {
            self.say_forgotten(shed);
        }
    }

    fn say_forgotten(&mut self, shed: Option<Shed<R>>) {
        if let Some(Shed { session, way, until }) = shed {
            self.timers.remove(&(until, Timer::Collect(session)));
            self.say(way, Reply::Collected(Collected { known: false, results: Vec::new() }));
        }
    }

    fn answer_session(&mut self, session: Uuid) {
        if let Some((way, until)) = self.sessions.unpark(session) {
            self.timers.remove(&(until, Timer::Collect(session)));
            let answer = self.sessions.answer(session, true);
            self.say(way, Reply::Collected(answer));
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
enum Loss<'a> {
    No,
    /// With the worker of this id.
    Of(&'a str),
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

#[cfg(test)]
mod tests;
