//! Tasks come in, and come to their end.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    Callback, ETA_CHECK_INTERVAL, Effect, End, Granted, LAST_FAILURE_MAX, LOSSES_MAX, LastFailure, Limits, Loss, Phase,
    Responder, State, SubmitOutcome, TASK_SESSIONS_MAX, TaskRecord, Timer, Wait,
};
use crate::control_plane::{
    events::NewEvent,
    metrics,
    queue::{Position, Queue},
    reports::ReportLog,
    results::About,
    retry,
};
use crate::{
    clock::{Moment, Now, Timestamp, micros},
    json::Json,
    protocol::{Ended, EventKind, LeaseId, Order},
    signature::ArgumentError,
    task::{
        CallbackInfo, Delivery, ErrorKind, Failure, FollowUp, ModuleVersion, NewTask, Outcome, TASK_NAME_MAX, TaskId,
        TaskResult, TaskStatus, Unknown, is_task_name,
    },
    transport::PAYLOAD_MAX,
};

/// Room for so many tasks is kept for good.
const TASKS_ROOM: usize = 65_536;

fn too_many_sessions() -> String {
    format!("over {TASK_SESSIONS_MAX} sessions wait for this task, which is the limit: look it up")
}

/// What became of an attempt.
struct Ran {
    outcome: Outcome,
    span: Duration,
    version: Option<ModuleVersion>,
}

/// Puts a task at a place of the queue.
fn push(queue: &mut Queue, record: &mut TaskRecord, id: TaskId, position: Position) {
    record.phase = Phase::Queued(position);
    let place = record.place(position);
    if record.runs_alone() {
        queue.push_isolated(&place, id, record.waiting_since);
    } else {
        queue.push(&place, id, record.waiting_since);
    }
}

impl<R: Responder> State<R> {
    /// Takes a client's task in, unless the control plane is about to stop.
    pub(super) fn offer(
        &mut self,
        now: Now,
        task: NewTask,
        error: Option<ArgumentError>,
        session: Option<Uuid>,
    ) -> SubmitOutcome {
        match self.known_call(now, &task.id) {
            Some((name, args, kwargs)) if (name, args, kwargs) != (&*task.name, &task.args, &task.kwargs) => {
                let why = format!("the task id {} is taken by another call, of {name}: use a new one", task.id);
                return SubmitOutcome::Refused(why);
            }
            None if self.draining => {
                return SubmitOutcome::Refused("the control plane is stopping and takes no more tasks".into());
            }
            Some(_) | None => {}
        }
        self.accept(now, task, error, session)
    }

    /// What was called under an id that is still known, and with which arguments.
    fn known_call(&self, now: Now, id: &TaskId) -> Option<(&str, &Json, &Json)> {
        if let Some(record) = self.tasks.get(id) {
            return Some((&record.name, &record.args, &record.kwargs));
        }
        let About { name, args, kwargs, .. } = &self.results.peek(now.mono, id)?.about;
        Some((name, args, kwargs))
    }

    /// Takes a task in, or attaches to the one that has its id.
    pub(super) fn accept(
        &mut self,
        now: Now,
        task: NewTask,
        error: Option<ArgumentError>,
        session: Option<Uuid>,
    ) -> SubmitOutcome {
        if let Some(record) = self.tasks.get_mut(&task.id) {
            let attached = session.is_none_or(|session| record.attach(session, &self.sessions));
            return if attached { SubmitOutcome::Live } else { SubmitOutcome::Refused(too_many_sessions()) };
        }
        if let Some(kept) = self.results.get(now.mono, &task.id) {
            return SubmitOutcome::Ended(kept.result.clone());
        }
        if let Some(why) = self.refusal(&task) {
            return SubmitOutcome::Refused(why);
        }
        if let Some(ArgumentError::Unreadable(why)) = error {
            // It can never run, whether or not somebody has the task.
            return SubmitOutcome::Ended(self.end_at_once(now, task, ErrorKind::BadArguments, why.into()));
        }
        let offered = self.registry.offered(now.mono, &task.name);
        let unclaimed = offered.is_none() && task.unknown == Unknown::Fail;
        if unclaimed && !self.may_be_claimed(now, &task.name) {
            return SubmitOutcome::Ended(self.not_found(now, task));
        }
        let (name, policy) = match offered {
            Some((name, own)) => (name.clone(), task.policy.or(own)),
            None => (self.shared_name(&task.name), task.policy),
        };
        if let Some(error) = error.filter(|_| !unclaimed) {
            let task = NewTask { policy, ..task };
            return SubmitOutcome::Ended(self.end_at_once(now, task, ErrorKind::BadArguments, error.to_string()));
        }
        let wait = match (task.countdown, task.eta) {
            (Some(countdown), _) if !countdown.is_zero() => Some(Wait::Countdown(now.mono + countdown)),
            (None, Some(eta)) if eta > now.wall => Some(Wait::Eta(eta)),
            _ => None,
        };
        let due_at = match wait {
            Some(Wait::Countdown(at) | Wait::Retry(at)) => at,
            Some(Wait::Eta(eta)) => now.mono + eta.since(now.wall),
            None => now.mono,
        };
        let record = TaskRecord {
            name,
            args: task.args,
            kwargs: task.kwargs,
            priority: policy.priority.unwrap_or_default(),
            policy,
            created_at: now.wall,
            due_at,
            waiting_since: now.mono,
            phase: Phase::Due(wait.unwrap_or(Wait::Countdown(now.mono))),
            attempt: 0,
            losses: 0,
            suspect: false,
            unclaimed,
            session,
            other_sessions: Vec::new(),
            watchers: Vec::new(),
            reports: ReportLog::default(),
            callback: task.callback.map(Arc::new),
            last_failure: None,
        };
        self.bytes += record.bytes();
        self.counts.accepted += 1;
        if unclaimed {
            self.await_claim(record.name.clone(), task.id.clone());
        }
        if let Some(wait) = wait {
            self.event_log
                .push(now.wall, NewEvent::of_task(EventKind::TaskScheduled, &task.id, &record.name, record.priority));
            self.tasks.insert(task.id.clone(), Box::new(record));
            self.await_moment(now, wait, task.id);
        } else {
            self.tasks.insert(task.id.clone(), Box::new(record));
            self.enqueue(now, &task.id);
        }
        SubmitOutcome::Live
    }

    /// Why a task is not taken, if it is not.
    pub(super) fn refusal(&self, task: &NewTask) -> Option<String> {
        let Limits { tasks_max, bytes_max, .. } = self.limits;
        let size = task.size();
        if !is_task_name(&task.name) {
            Some(format!("a task name is text of 1 to {TASK_NAME_MAX} bytes without control characters"))
        } else if size > PAYLOAD_MAX {
            Some(format!("the arguments of {size} bytes are over the limit of {PAYLOAD_MAX} bytes"))
        } else if !task.args.as_str().starts_with('[') || !task.kwargs.as_str().starts_with('{') {
            Some("positional arguments are a JSON array, and named arguments a JSON object".into())
        } else if let Some(why) = task.callback.as_ref().and_then(CallbackInfo::fault) {
            Some(why)
        } else if self.tasks.len() >= tasks_max {
            Some(format!("the queue is full: {tasks_max} tasks are unfinished; try again later"))
        } else if self.bytes + size > bytes_max {
            Some(format!("the queue is full: its arguments hold {bytes_max} bytes; try again later"))
        } else {
            None
        }
    }

    fn not_found(&mut self, now: Now, task: NewTask) -> Arc<TaskResult> {
        let error = self.not_found_message(&task.name);
        self.end_at_once(now, task, ErrorKind::NotFound, error)
    }

    /// Says that no worker has a name, and which names are nearest.
    pub(super) fn not_found_message(&self, name: &str) -> String {
        let mut message = format!("Task {name} not found");
        let nearest = self.registry.nearest(name);
        if !nearest.is_empty() {
            let quoted: Vec<String> = nearest.iter().map(|name| format!("'{name}'")).collect();
            let _ = write!(message, ": did you mean {}?", quoted.join(" or "));
        } else if self.registry.iter().next().is_none() {
            message.push_str(": no worker is connected");
        }
        message
    }

    /// Sets the timer of a task that waits for a moment.
    fn await_moment(&mut self, now: Now, wait: Wait, id: TaskId) {
        match wait {
            Wait::Countdown(at) | Wait::Retry(at) => drop(self.timers.insert((at, Timer::Due(id)))),
            Wait::Eta(eta) => {
                self.etas.insert((eta, id));
                self.arm_etas(now);
            }
        }
    }

    /// Sets the timer for the first `eta`, at most [`ETA_CHECK_INTERVAL`] ahead.
    fn arm_etas(&mut self, now: Now) {
        let Some((eta, _)) = self.etas.first() else { return };
        let at = now.mono + eta.since(now.wall).min(ETA_CHECK_INTERVAL);
        if at < self.eta_check {
            self.timers.remove(&(self.eta_check, Timer::Eta));
            self.eta_check = at;
            self.timers.insert((at, Timer::Eta));
        }
    }

    /// Queues the tasks whose `eta` the wall clock shows by now.
    pub(super) fn enqueue_due_etas(&mut self, now: Now) {
        self.eta_check = Moment::NEVER;
        while let Some((eta, _)) = self.etas.first()
            && *eta <= now.wall
            && let Some((_, id)) = self.etas.pop_first()
        {
            if let Some(record) = self.tasks.get_mut(&id) {
                record.due_at = now.mono;
            }
            self.enqueue(now, &id);
        }
        self.arm_etas(now);
    }

    /// Records the failure of a task that never came to wait.
    fn end_at_once(&mut self, now: Now, task: NewTask, kind: ErrorKind, why: String) -> Arc<TaskResult> {
        self.counts.accepted += 1;
        let result = TaskResult {
            error: Some(why),
            completed_at: Some(now.wall),
            error_kind: Some(kind),
            ..TaskResult::new(task.id, TaskStatus::Failure)
        };
        let callback = task.callback.map(Arc::new);
        let about = About {
            name: task.name.into(),
            priority: task.policy.priority.unwrap_or_default(),
            created_at: now.wall,
            args: task.args,
            kwargs: task.kwargs,
            policy: task.policy,
        };
        self.keep(now, result, None, (about, ReportLog::default()), callback)
    }

    /// Puts a task at the end of its line.
    pub(super) fn enqueue(&mut self, now: Now, id: &TaskId) {
        self.position += 1;
        let position = Position(self.position);
        if let Some(record) = self.tasks.get_mut(id) {
            record.waiting_since = now.mono;
            let event = NewEvent::of_task(EventKind::TaskQueued, id, &record.name, record.priority);
            self.event_log.push(now.wall, NewEvent { attempt: record.attempt, ..event });
            push(&mut self.queue, record, id.clone(), position);
        }
    }

    pub(super) fn due(&mut self, now: Now, id: &TaskId) {
        let phase = self.tasks.get(id).map(|record| &record.phase);
        let wait = phase.and_then(|phase| match phase {
            Phase::Due(wait) => Some(*wait),
            Phase::Queued(_) | Phase::Leased { .. } => None,
        });
        if matches!(wait, Some(Wait::Countdown(at) | Wait::Retry(at)) if at <= now.mono) {
            self.enqueue(now, id);
        }
    }

    /// Closes the books on what a slot was granted.
    pub(super) fn settle(&mut self, now: Now, worker: Uuid, granted: Vec<LeaseId>, ended: Vec<Ended>) -> Vec<LeaseId> {
        for Ended { lease, outcome, ran_us, version, reports } in ended {
            // A late outcome, under a lease that was taken back, counts for nothing.
            if !self.holds(worker, lease) {
                continue;
            }
            if !reports.is_empty() {
                self.report(now, lease, reports);
            }
            match outcome {
                Some(outcome) => {
                    let span = Duration::from_micros(ran_us);
                    self.outcome(now, worker, lease, Ran { outcome, span, version });
                }
                None => drop(self.put_back(now, lease, Loss::No)),
            }
        }
        granted.into_iter().filter(|lease| self.holds(worker, *lease)).collect()
    }

    fn outcome(&mut self, now: Now, worker: Uuid, lease: LeaseId, ran: Ran) {
        let Ran { outcome, span, version } = ran;
        let Some(Granted { task: id, .. }) = self.leases.remove(&lease) else { return };
        let Some(record) = self.tasks.get_mut(&id) else { return };
        let ran_us = i64::try_from(micros(span)).unwrap_or(i64::MAX);
        let began = Timestamp::from_micros(now.wall.micros().saturating_sub(ran_us));
        let was_announced = matches!(record.phase, Phase::Leased { started_at: Some(_), .. });
        let worker_id = self.registry.get_mut(worker).map(|worker| {
            worker.ran(&record.name, span);
            worker.id.clone()
        });
        let event = NewEvent::of_task(EventKind::TaskStarted, &id, &record.name, record.priority);
        let event = NewEvent { worker: worker_id.as_ref(), attempt: record.attempt, ..event };
        if !was_announced {
            self.event_log.push(began, event);
        }
        let waited = now.mono.since(record.waiting_since).saturating_sub(span);
        self.metrics.attempt(&record.name, record.priority, waited, span);
        let end = End { started_at: Some(began), worker_id: worker_id.clone(), version, ..End::default() };
        match outcome {
            Outcome::Success { result, follow_ups } => {
                self.finish(now, &id, TaskStatus::Success, End { result: Some(result), ..end });
                for (index, follow_up) in follow_ups.into_iter().enumerate() {
                    self.follow_up(now, id.follow_up(index), follow_up);
                }
            }
            Outcome::Failure(failure) => match retry::delay(&record.policy, &id, record.attempt, &failure) {
                Some(wait) => {
                    let at = now.mono + wait;
                    record.phase = Phase::Due(Wait::Retry(at));
                    let detail = Some(failure.message.as_str());
                    let message = failure.message[..failure.message.floor_char_boundary(LAST_FAILURE_MAX)].into();
                    record.last_failure =
                        Some(Box::new(LastFailure { kind: failure.kind, message, next_at: now.wall + wait }));
                    self.event_log.push(now.wall, NewEvent { kind: EventKind::TaskRetrying, detail, ..event });
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

    pub(super) fn follow_up(&mut self, now: Now, id: TaskId, follow_up: FollowUp) {
        let FollowUp { name, args, kwargs, policy, countdown } = follow_up;
        // Its parent was submitted before, so it counts as submitted before.
        let unknown = if self.registry.is_leaving(&name) { Unknown::Wait } else { Unknown::Fail };
        let task = NewTask { id, args, kwargs, policy, countdown, unknown, ..NewTask::new(name) };
        if let SubmitOutcome::Refused(why) = self.accept(now, task.clone(), None, None) {
            // Its parent has ended well, so nobody can be told but who asks for this very task.
            self.end_at_once(now, task, ErrorKind::Failed, why);
        }
    }

    /// Takes a lease back, and its task to the place that it had in the queue. Returns the task if
    /// this counts as a crash of its worker.
    pub(super) fn put_back(&mut self, now: Now, lease: LeaseId, loss: Loss<'_>) -> Option<TaskId> {
        let Granted { task: id, .. } = self.leases.remove(&lease)?;
        let record = self.tasks.get_mut(&id)?;
        let Phase::Leased { started_at, position, .. } = record.phase else { return None };
        record.attempt -= 1;
        let mut counts = false;
        if let Loss::Crashed(worker) = loss {
            record.suspect = true;
            counts = started_at.is_some();
            record.losses += u32::from(counts);
            if record.losses >= LOSSES_MAX {
                let message = format!(
                    "{LOSSES_MAX} workers were lost while they ran it; the last, '{worker}', ran nothing else: \
                     it is not run again"
                );
                record.attempt += record.losses;
                let failure = Some(Failure::new(ErrorKind::WorkerLost, message));
                let end = End { failure, started_at, worker_id: Some(worker.clone()), ..End::default() };
                self.finish(now, &id, TaskStatus::Failure, end);
                return None;
            }
        }
        if started_at.is_some()
            && let Some(message) = loss.message(record.losses)
        {
            let message = message.into();
            record.last_failure =
                Some(Box::new(LastFailure { kind: ErrorKind::WorkerLost, message, next_at: now.wall }));
        }
        push(&mut self.queue, record, id.clone(), position);
        counts.then_some(id)
    }

    /// Takes back what the crash of a worker counted against tasks, as its process is still there.
    pub(super) fn forgive_crash(&mut self, worker: Uuid) {
        let Some(index) = self.crashes.iter().position(|(key, _)| *key == worker) else { return };
        let Some((_, tasks)) = self.crashes.remove(index) else { return };
        for id in tasks {
            let Some(record) = self.tasks.get_mut(&id) else { continue };
            let ran_alone = record.runs_alone();
            record.losses = record.losses.saturating_sub(1);
            if let Phase::Queued(position) = record.phase
                && ran_alone
                && let Some(id) = self.queue.remove(&record.place(position))
            {
                push(&mut self.queue, record, id, position);
            }
        }
    }

    /// Stops a task. Notes in `orders` which worker is to end its attempt.
    pub(super) fn cancel_one(&mut self, now: Now, id: &TaskId, orders: &mut BTreeMap<Uuid, Vec<Order>>) -> bool {
        let Some(record) = self.tasks.get(id) else { return false };
        let mut end = End::default();
        if let Phase::Leased { lease, started_at, .. } = record.phase {
            end.started_at = started_at;
            if let Some(granted) = self.leases.remove(&lease) {
                let worker = self.registry.get(granted.worker).filter(|_| started_at.is_some());
                end.worker_id = worker.map(|worker| worker.id.clone());
                orders.entry(granted.worker).or_default().push(Order::Stop(lease));
            }
        }
        self.stop_waiting(id);
        self.finish(now, id, TaskStatus::Cancelled, end);
        true
    }

    /// Takes a task out of the queue, or out of the schedule.
    pub(super) fn stop_waiting(&mut self, id: &TaskId) {
        let Some(record) = self.tasks.get(id) else { return };
        match record.phase {
            Phase::Queued(position) => drop(self.queue.remove(&record.place(position))),
            Phase::Due(Wait::Countdown(at) | Wait::Retry(at)) => {
                self.timers.remove(&(at, Timer::Due(id.clone())));
            }
            Phase::Due(Wait::Eta(eta)) => drop(self.etas.remove(&(eta, id.clone()))),
            Phase::Leased { .. } => {}
        }
    }

    /// Makes the map of tasks small again once nearly all of very many are gone. Seldom, as it moves
    /// those that are left.
    fn give_room_back(&mut self) {
        let (capacity, len) = (self.tasks.capacity(), self.tasks.len());
        if capacity > TASKS_ROOM && len < capacity / 64 {
            self.tasks.shrink_to(TASKS_ROOM / 2);
        }
    }

    /// Ends a task, once, and tells everybody who waits for it.
    pub(super) fn finish(&mut self, now: Now, id: &TaskId, status: TaskStatus, end: End) {
        let Some(record) = self.tasks.remove(id) else { return };
        self.bytes -= record.bytes();
        if record.unclaimed {
            self.forget_unclaimed(&record.name, id);
        }
        self.give_room_back();
        let (error, error_kind) = match (end.failure, status) {
            (Some(failure), _) => (Some(failure.message), Some(failure.kind)),
            (None, TaskStatus::Cancelled) => (Some("Task cancelled".to_owned()), None),
            (None, _) => (None, None),
        };
        let result = TaskResult {
            result: end.result,
            error,
            started_at: end.started_at,
            completed_at: Some(now.wall),
            error_kind,
            worker_id: end.worker_id.as_deref().map(str::to_owned),
            attempts: record.attempt,
            module_version: end.version,
            ..TaskResult::new(id.clone(), status)
        };
        self.metrics.took(record.priority, now.mono.since(record.due_at));
        let about = About {
            name: record.name,
            priority: record.priority,
            created_at: record.created_at,
            args: record.args,
            kwargs: record.kwargs,
            policy: record.policy,
        };
        let result = self.keep(now, result, end.worker_id.as_ref(), (about, record.reports), record.callback);
        for session in record.session.into_iter().chain(record.other_sessions) {
            if self.sessions.tell(session, result.clone()) {
                self.answer_session(session);
            }
        }
        self.shed_sessions();
        for park in record.watchers {
            self.unpark(now, park);
        }
        if self.schedules.has_live() {
            self.go_on_with_schedule(now, id, status);
        }
    }

    /// Records an end, and sends word of it to whoever wanted to be called back.
    fn keep(
        &mut self,
        now: Now,
        mut result: TaskResult,
        worker: Option<&Arc<str>>,
        (about, reports): (About, ReportLog),
        callback: Option<Arc<CallbackInfo>>,
    ) -> Arc<TaskResult> {
        result.callback = callback.as_deref().map(|info| Box::new(Delivery::pending(&info.address)));
        let result = Arc::new(result);
        let kind = match result.status {
            TaskStatus::Success => EventKind::TaskSuccess,
            TaskStatus::Cancelled => EventKind::TaskCancelled,
            _ => EventKind::TaskFailure,
        };
        self.counts.ended[metrics::place(result.status)] += 1;
        match result.error_kind {
            Some(ErrorKind::NotFound) => self.metrics.refused(result.status),
            _ => self.metrics.ended(&about.name, result.status),
        }
        let event = NewEvent::of_task(kind, &result.task_id, &about.name, about.priority);
        let detail = result.error.as_deref();
        self.note_event(now, NewEvent { worker, attempt: result.attempts, detail, ..event });
        self.results.store(now.mono, result.clone(), about, reports);
        self.await_expiry();
        if let Some(info) = callback {
            self.outbox.push(Effect::Call(Callback { result: result.clone(), info }));
        }
        result
    }

    /// Sets the timer for the oldest result, unless one is set.
    pub(super) fn await_expiry(&mut self) {
        if self.expiry.is_none()
            && let Some(at) = self.results.next_expiry()
        {
            self.expiry = Some(at);
            self.timers.insert((at, Timer::Expiry));
        }
    }
}
