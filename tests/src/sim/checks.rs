//! The checks: invariants that must hold after every step, compared with the checks' own records.
//!
//! This file follows tasks from acceptance to their end; [`super::grants`] checks leases, [`super::reported`] the results
//! sent to clients. The checks never rely on what the state itself remembers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fastworker::{
    clock::Now,
    control_plane::{
        state::{Effect, LOSSES_MAX, Limits, State, Stats},
        worker_registry::WorkerKey,
    },
    protocol::{LeaseId, Request, WorkerRequest},
    task::{ErrorKind, NewTask, Outcome, Policy, TaskId, TaskResult, TaskStatus},
};
use uuid::Uuid;

use super::{
    grants::Grants,
    names,
    network::{SimRequest, Ticket},
    reported::ReportedEnds,
    shown::Shown,
};

/// The cause of a step.
#[derive(Debug)]
pub(crate) enum Cause<'a> {
    Request(&'a SimRequest),
    Tick,
    Gone,
    Shutdown,
    Called,
}

impl Cause<'_> {
    /// Number of times that the step submits a task. A task that ends immediately and whose result is evicted ends again if the same frame
    /// submits it again.
    fn offers(&self, id: &TaskId) -> usize {
        match self {
            Cause::Request(SimRequest::Client(Request::Submit(submit))) => {
                submit.tasks.iter().filter(|task| task.id == *id).count()
            }
            _ => 1,
        }
    }
}

/// Declares counters that can be added up, and listed where they are 0.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Number of events of each kind: a run without an event proves nothing about it.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Coverage {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Coverage {
            /// Adds the coverage of another run.
            #[must_use]
            pub fn and(self, other: &Coverage) -> Coverage {
                Coverage { $($name: self.$name + other.$name,)* }
            }

            /// The names of the events that never happened.
            pub fn missing(&self) -> Vec<&'static str> {
                let counters = [$((stringify!($name), self.$name),)*];
                counters.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
            }
        }
    };
}

counters! {
    /// Steps.
    steps,
    /// Tasks that succeeded.
    successes,
    /// Tasks that failed.
    failures,
    /// Tasks that were cancelled.
    cancelled,
    /// Tasks that ended because their workers were lost.
    workers_lost,
    /// Tasks that no worker had.
    not_found,
    /// Ends after more than one attempt.
    retried,
    /// Submissions of a known task.
    duplicates,
    /// Grants of more than one lease.
    lookaheads,
    /// Grants that ignored the priority because a task starved.
    guards,
    /// Outcomes under leases that were no longer live.
    fenced,
    /// Leases that a worker lost.
    losses,
    /// Results sent to sessions.
    collected,
    /// Repeated replies.
    repeated,
    /// Sessions that were evicted before their client returned.
    lost_sessions,
    /// Callbacks that were due.
    callbacks,
    /// Changes of modules that were noted.
    changes,
    /// Changes of modules that were declined.
    declined,
    /// Leases that never arrived and were revoked.
    undelivered,
}

/// An accepted task that has not ended, as the checks know it.
#[derive(Debug)]
pub(crate) struct Record {
    /// Maximum retries.
    pub(crate) max_retries: u32,
    /// Its newest lease.
    pub(crate) newest: Option<LeaseId>,
    losses: u32,
    /// Whether it has a callback.
    calls: bool,
}

/// A task that the step may create.
#[derive(Debug)]
struct Newcomer {
    id: TaskId,
    max_retries: u32,
    session: Option<Uuid>,
    was_known: bool,
    calls: bool,
}

/// The records of all checks.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) seen: Coverage,
    limits: Limits,
    live: BTreeMap<TaskId, Record>,
    grants: Grants,
    reported: ReportedEnds,
    shown: Shown,
    newcomers: Vec<Newcomer>,
    /// Leases of the worker that sends a heartbeat, and how often each task was lost.
    held: Vec<(TaskId, LeaseId, u32)>,
    now: Now,
}

/// Fails with a message unless `holds`.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

impl Checks {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            seen: Coverage::default(),
            limits,
            live: BTreeMap::new(),
            grants: Grants::default(),
            reported: ReportedEnds::default(),
            shown: Shown::default(),
            newcomers: Vec::new(),
            held: Vec::new(),
            now: Now::default(),
        }
    }

    /// Records the state before a step.
    pub(crate) fn before(&mut self, state: &State<Ticket>, now: Now, request: Option<&SimRequest>) {
        self.now = now;
        self.newcomers.clear();
        self.held.clear();
        match request {
            Some(SimRequest::Worker(WorkerRequest::Beat(beat))) => {
                for id in self.live.keys() {
                    let Some(view) = state.task_view(id) else { continue };
                    let Some((lease, _)) = view.lease.filter(|(_, worker)| *worker == WorkerKey(beat.worker)) else {
                        continue;
                    };
                    self.held.push((id.clone(), lease, view.losses));
                }
            }
            Some(SimRequest::Hold(task)) => self.expect(state, task, None),
            Some(SimRequest::Client(Request::Submit(submit))) => {
                let session = match submit.notify {
                    fastworker::protocol::Notify::Session(session) => Some(session),
                    _ => None,
                };
                submit.tasks.iter().for_each(|task| self.expect(state, task, session));
            }
            Some(SimRequest::Client(Request::Collect(collect))) => self.reported.requested(collect),
            Some(SimRequest::Worker(WorkerRequest::Work(work))) => {
                for ended in &work.ended {
                    match self.grants.task_of(ended.lease) {
                        Some(task)
                            if state
                                .task_view(task)
                                .and_then(|view| view.lease)
                                .is_some_and(|(lease, _)| lease == ended.lease) =>
                        {
                            if let Some(Outcome::Success { follow_ups, .. }) = &ended.outcome {
                                let parent = task.clone();
                                for (index, follow_up) in follow_ups.iter().enumerate() {
                                    let id = parent.follow_up(index);
                                    self.record_new(state, id, (&follow_up.policy, &follow_up.name), None, false);
                                }
                            }
                        }
                        _ => self.seen.fenced += 1,
                    }
                }
            }
            _ => {}
        }
    }

    fn expect(&mut self, state: &State<Ticket>, task: &NewTask, session: Option<Uuid>) {
        self.record_new(state, task.id.clone(), (&task.policy, &task.name), session, task.callback.is_some());
    }

    fn record_new(
        &mut self,
        state: &State<Ticket>,
        id: TaskId,
        (policy, name): (&Policy, &str),
        session: Option<Uuid>,
        calls: bool,
    ) {
        let max_retries = policy.max_retries.unwrap_or_else(|| names::max_retries(name));
        let was_known = state.results().peek(self.now.mono, &id).is_some();
        self.newcomers.push(Newcomer { id, max_retries, session, was_known, calls });
    }

    /// Checks the state after a step.
    pub(crate) fn after(
        &mut self,
        state: &State<Ticket>,
        now: Now,
        cause: &Cause<'_>,
        effects: &[Effect<Ticket>],
    ) -> Result<(), String> {
        self.seen.steps += 1;
        self.undelivered(state)?;
        self.shown.after(state, now, self.seen.steps)?;
        self.adopt(state, now)?;
        self.grants.after(state, now, effects, &mut self.live, &mut self.seen)?;
        self.ends(state, now, cause, effects)?;
        self.reported.after(state, effects, &mut self.seen)?;
        Grants::no_slot_waits(state)?;
        self.stats(state)?;
        if matches!(cause, Cause::Tick) {
            ensure(state.next_wake() > now.mono, || format!("the next wake is in the past at {:?}", now.mono))?;
        }
        Ok(())
    }

    /// Checks that leases missing from a heartbeat were never received, and do not count as lost.
    fn undelivered(&mut self, state: &State<Ticket>) -> Result<(), String> {
        for (id, lease, losses) in std::mem::take(&mut self.held) {
            let Some(view) = state.task_view(&id) else { return Err(format!("a beat ended {id}")) };
            if view.lease.map(|(lease, _)| lease) != Some(lease) {
                self.seen.undelivered += 1;
                ensure(view.losses == losses, || format!("{id} never arrived, which counted as a loss"))?;
            }
        }
        Ok(())
    }

    /// Records the tasks that the step created.
    fn adopt(&mut self, state: &State<Ticket>, now: Now) -> Result<(), String> {
        for Newcomer { id, max_retries, session, was_known, calls } in std::mem::take(&mut self.newcomers) {
            let lives = state.task_view(&id).is_some();
            if self.live.contains_key(&id) {
                self.seen.duplicates += 1;
            } else if lives {
                ensure(!was_known || self.evicts_results(state), || {
                    format!("{id} runs again although its end was known")
                })?;
                self.live.insert(id.clone(), Record { max_retries, newest: None, losses: 0, calls });
            } else if !was_known && state.results().peek(now.mono, &id).is_some() {
                // No worker has it, so it ended immediately.
                self.live.insert(id.clone(), Record { max_retries, newest: None, losses: 0, calls });
            }
            if !lives && self.evicts_results(state) {
                // It may have ended immediately, with its result already evicted.
                self.reported.ended(id.clone(), None);
            }
            if let Some(session) = session.filter(|_| lives) {
                self.reported.expect_end(session, id);
            }
        }
        Ok(())
    }

    /// Checks the tasks that the step ended.
    fn ends(
        &mut self,
        state: &State<Ticket>,
        now: Now,
        cause: &Cause<'_>,
        effects: &[Effect<Ticket>],
    ) -> Result<(), String> {
        let mut over = Vec::new();
        let mut called: Vec<&TaskId> = Vec::new();
        for effect in effects {
            let Effect::Callback(callback) = effect else { continue };
            called.push(&callback.result.task_id);
            self.seen.callbacks += 1;
        }
        for (id, record) in &mut self.live {
            match state.task_view(id) {
                Some(view) => {
                    ensure(view.attempt <= record.max_retries + 1, || format!("{id} is at attempt {}", view.attempt))?;
                    ensure(view.losses < LOSSES_MAX, || format!("{id} was lost {} times and lives", view.losses))?;
                    self.seen.losses += u64::from(view.losses.saturating_sub(record.losses));
                    record.losses = view.losses;
                }
                None => over.push(id.clone()),
            }
        }
        for id in over {
            let Some(record) = self.live.remove(&id) else { continue };
            let calls = called.iter().filter(|called| **called == &id).count();
            let right = if record.calls { 1..=cause.offers(&id).max(1) } else { 0..=0 };
            ensure(right.contains(&calls), || format!("{id} ended with {calls} callbacks"))?;
            called.retain(|called| *called != &id);
            let end = state.results().peek(now.mono, &id).map(|kept| kept.result.clone());
            self.shown.end(&id, end.as_deref(), cause.offers(&id))?;
            match &end {
                Some(end) => self.check_end(&record, end, cause)?,
                None => ensure(self.evicts_results(state), || format!("{id} was removed without an end"))?,
            }
            self.reported.ended(id, end);
        }
        // The result of a task that ended immediately may be evicted in the same step.
        ensure(called.is_empty() || self.evicts_results(state), || {
            format!("callbacks of {called:?}, which have not ended")
        })?;
        let counts = state.counts();
        let ended: u64 = counts.ended.iter().sum();
        ensure(counts.accepted == ended + state.unfinished() as u64, || {
            format!("{counts:?} with {} unfinished", state.unfinished())
        })?;
        ensure(state.unfinished() == self.live.len(), || {
            format!("{} tasks are unfinished where {} should be", state.unfinished(), self.live.len())
        })
    }

    /// Whether a result may be evicted in the same step.
    fn evicts_results(&self, state: &State<Ticket>) -> bool {
        state.results().len() >= self.limits.results_max
    }

    fn check_end(&mut self, record: &Record, end: &Arc<TaskResult>, cause: &Cause<'_>) -> Result<(), String> {
        let id = &end.task_id;
        let wrong = |why: &str| Err(format!("{id} ended {why}: {end:?}, {record:?}"));
        // Attempts ended by crashes count as well.
        let lost = if end.error_kind == Some(ErrorKind::WorkerLost) { LOSSES_MAX } else { 0 };
        if end.attempts > record.max_retries + 1 + lost {
            return wrong("after too many attempts");
        }
        self.seen.retried += u64::from(end.attempts > 1);
        let signed = end.result.as_ref().map(ToString::to_string).or_else(|| end.error.clone()).unwrap_or_default();
        let signed = signed.trim_start_matches("lease ").parse().ok().map(LeaseId);
        match (end.status, end.error_kind) {
            (TaskStatus::Success, None) => {
                self.seen.successes += 1;
                if signed != record.newest {
                    return wrong("by a lease that is not its newest");
                }
            }
            (TaskStatus::Cancelled, None) => {
                self.seen.cancelled += 1;
                let requested =
                    matches!(cause, Cause::Request(SimRequest::Client(Request::Cancel(ids))) if ids.contains(id));
                if !requested {
                    return wrong("as cancelled without a request");
                }
            }
            (TaskStatus::Failure, Some(ErrorKind::WorkerLost)) => {
                self.seen.workers_lost += 1;
                if record.losses != LOSSES_MAX - 1 {
                    return wrong("as lost too early");
                }
            }
            (TaskStatus::Failure, Some(ErrorKind::NotFound)) if end.attempts == 0 => self.seen.not_found += 1,
            // A follow-up beyond the limit of tasks.
            (TaskStatus::Failure, Some(ErrorKind::Failed)) if end.attempts == 0 && record.newest.is_none() => {}
            (TaskStatus::Failure, Some(kind)) => {
                self.seen.failures += 1;
                if signed != record.newest {
                    return wrong("by a lease that is not its newest");
                }
                if kind != ErrorKind::BadArguments && end.attempts <= record.max_retries {
                    return wrong("with attempts left");
                }
            }
            _ => return wrong("with an impossible status"),
        }
        Ok(())
    }

    /// Checks the limits, and that counters agree.
    fn stats(&self, state: &State<Ticket>) -> Result<(), String> {
        let (totals, limits) = (state.stats(), self.limits);
        let queued = state.queue().iter().count();
        let leased = self.live.keys().filter(|id| state.task_view(id).is_some_and(|view| view.lease.is_some())).count();
        let placed =
            self.live.keys().filter(|id| state.task_view(id).is_some_and(|view| view.position.is_some())).count();
        let slots: usize = state.registry().iter().map(|(_, worker)| worker.slots.len()).sum();
        let workers = state.registry().iter().count();
        let due = totals.unfinished.saturating_sub(placed);
        let timers = due + totals.parked + 2 * totals.sessions + slots + 3 * workers + 3;
        ensure(
            totals.unfinished <= limits.tasks_max
                && totals.bytes <= limits.bytes_max
                && state.results().len() <= limits.results_max
                && totals.queued == queued
                && totals.leases == leased
                && placed == queued + leased
                && totals.timers <= timers,
            || {
                format!(
                    "{totals:?}, with {queued} queued, {leased} leased, {placed} placed and capacity for {timers} timers"
                )
            },
        )
    }

    /// Checks that every reply target held by the state is parked.
    pub(crate) fn parked(state: &State<Ticket>, tickets: usize) -> Result<(), String> {
        let slots = |worker: &fastworker::control_plane::worker_registry::WorkerRecord<Ticket>| {
            worker.slots.values().filter(|slot| slot.parked.is_some()).count()
                + usize::from(worker.beat.is_some())
                + usize::from(worker.module_query.is_some())
        };
        let workers: usize = state.registry().iter().map(|(_, worker)| slots(worker)).sum();
        let totals = state.stats();
        let held = totals.parked + totals.collecting + workers;
        ensure(held == tickets, || format!("{tickets} reply targets are held and {held} are parked"))
    }

    /// Checks after calm weather that every task has ended and was reported.
    pub(crate) fn finished<'a>(
        &self,
        state: &State<Ticket>,
        received: impl Fn(Uuid) -> Option<&'a BTreeSet<TaskId>>,
    ) -> Result<(), String> {
        for id in self.live.keys() {
            let name = state.task_view(id).map_or("", |view| view.name);
            ensure(!names::is_offered(name), || format!("{id} ({name}) never ended: {:?}", state.task_view(id)))?;
        }
        self.reported.finished(&self.live, received)
    }

    /// Checks that nothing is left after all actors have left.
    pub(crate) fn empty(state: &State<Ticket>) -> Result<(), String> {
        let totals = state.stats();
        ensure(
            totals == Stats::default() && state.results().is_empty() && state.registry().iter().next().is_none(),
            || {
                let workers = state.registry().iter().count();
                format!("left over: {totals:?}, {} results, {workers} workers", state.results().len())
            },
        )
    }
}
