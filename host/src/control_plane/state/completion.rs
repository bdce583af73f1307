//! Ends of attempts and tasks.

use std::{sync::Arc, time::Duration};

use super::{
    Callback, DueAt, Effect, Granted, LAST_FAILURE_MAX, LastFailure, Phase, RequeueCause, Responder, State,
    SubmitOutcome, TaskOutcome, Timer, WorkerKey,
};
use crate::{
    clock::{Now, Timestamp, micros},
    control_plane::{events::NewEvent, metrics, reports::ReportLog, results::TaskMeta, retry},
    json::Json,
    protocol::{Ended, EventKind, LeaseId},
    task::{
        CallbackInfo, Delivery, ErrorKind, Failure, FollowUp, ModuleVersion, NewTask, Outcome, TaskId, TaskResult,
        TaskStatus, Unknown, Usage, metadata,
    },
};

/// Capacity of the task map that is never released.
const TASKS_CAPACITY_MIN: usize = 65_536;

/// An attempt that has ended.
struct EndedAttempt {
    outcome: Outcome,
    ran: Duration,
    usage: Usage,
    version: Option<ModuleVersion>,
    /// Metadata that it adds to that of the task.
    metadata: Json,
}

/// A task that has ended, before it is stored.
pub(super) struct EndedTask {
    pub(super) result: Arc<TaskResult>,
    pub(super) meta: TaskMeta,
    pub(super) reports: ReportLog,
}

impl<R: Responder> State<R> {
    /// Applies the outcomes that a slot reports. Returns those of `granted` that are still live.
    pub(super) fn complete_leases(
        &mut self,
        now: Now,
        worker: WorkerKey,
        granted: Vec<LeaseId>,
        ended: Vec<Ended>,
    ) -> Vec<LeaseId> {
        for Ended { lease, outcome, ran_us, usage, version, reports, metadata } in ended {
            // A late outcome, under a lease that was revoked, does not count.
            if !self.holds(worker, lease) {
                continue;
            }
            if !reports.is_empty() {
                self.report(now, lease, reports);
            }
            match outcome {
                Some(outcome) => {
                    let ran = Duration::from_micros(ran_us);
                    self.complete_attempt(now, worker, lease, EndedAttempt { outcome, ran, usage, version, metadata });
                }
                None => drop(self.requeue(now, lease, RequeueCause::Returned)),
            }
        }
        granted.into_iter().filter(|lease| self.holds(worker, *lease)).collect()
    }

    fn complete_attempt(&mut self, now: Now, worker: WorkerKey, lease: LeaseId, attempt: EndedAttempt) {
        let EndedAttempt { outcome, ran, usage, version, metadata } = attempt;
        let Some(Granted { task: id, .. }) = self.leases.remove(&lease) else { return };
        let Some(record) = self.tasks.get_mut(&id) else { return };
        let ran_us = i64::try_from(micros(ran)).unwrap_or(i64::MAX);
        let started_at = Timestamp::from_micros(now.wall.micros().saturating_sub(ran_us));
        let worker_id = self.registry.get_mut(worker).map(|worker| {
            worker.record_run(&record.name, ran);
            worker.id.clone()
        });
        if !matches!(record.phase, Phase::Leased { started_at: Some(_), .. }) {
            let event = NewEvent::of_task(EventKind::TaskStarted, &id, &record.name, record.priority);
            let event = NewEvent { worker: worker_id.as_ref(), attempt: record.attempt, ..event };
            self.event_log.push(started_at, event);
        }
        let waited = now.mono.since(record.waiting_since).saturating_sub(ran);
        self.metrics.record_attempt(&record.name, record.priority, waited, ran, usage);
        let (started_at, metadata) = (Some(started_at), Some(metadata));
        let usage = Some(usage);
        let end = TaskOutcome { started_at, worker_id, version, usage, metadata, ..TaskOutcome::default() };
        match outcome {
            Outcome::Success { result, follow_ups } => {
                self.finish(now, &id, TaskStatus::Success, TaskOutcome { result: Some(result), ..end });
                for (index, follow_up) in follow_ups.into_iter().enumerate() {
                    self.submit_follow_up(now, &id, index, follow_up);
                }
            }
            Outcome::Failure(failure) => self.retry_or_fail(now, &id, failure, end),
            // Stopped without a command of the control plane, for example because the worker drains.
            Outcome::Stopped => {
                self.leases.insert(lease, Granted { task: id, worker });
                self.requeue(now, lease, RequeueCause::Returned);
            }
        }
    }

    fn retry_or_fail(&mut self, now: Now, id: &TaskId, failure: Failure, end: TaskOutcome) {
        let Some(record) = self.tasks.get_mut(id) else { return };
        let Some(delay) = retry::delay(&record.policy, id, record.attempt, &failure) else {
            return self.finish(now, id, TaskStatus::Failure, TaskOutcome { failure: Some(failure), ..end });
        };
        let at = now.mono + delay;
        record.phase = Phase::Scheduled(DueAt::Retry(at));
        let message = failure.message[..failure.message.floor_char_boundary(LAST_FAILURE_MAX)].into();
        record.last_failure = Some(Box::new(LastFailure { kind: failure.kind, message, next_at: now.wall + delay }));
        let event = NewEvent::of_task(EventKind::TaskRetrying, id, &record.name, record.priority);
        let (worker, detail) = (end.worker_id.as_ref(), Some(failure.message.as_str()));
        let (attempt, usage) = (record.attempt, end.usage);
        self.event_log.push(now.wall, NewEvent { worker, attempt, detail, usage, ..event });
        self.timers.insert((at, Timer::EnqueueDelayed(id.clone())));
    }

    fn submit_follow_up(&mut self, now: Now, parent: &TaskId, index: usize, follow_up: FollowUp) {
        let FollowUp { name, args, kwargs, policy, countdown, metadata } = follow_up;
        let (id, metadata) = (parent.follow_up(index), metadata::of_child(parent, &metadata));
        // Its parent was submitted before the name started to leave, so it counts as submitted before, too.
        let unknown = if self.registry.is_leaving(&name) { Unknown::Wait } else { Unknown::Fail };
        let task = NewTask { id, args, kwargs, policy, countdown, unknown, metadata, ..NewTask::new(name) };
        if let SubmitOutcome::Refused(refusal) = self.accept(now, task.clone(), None, None) {
            // Its parent has succeeded, so the refusal can only be found under the id of the follow-up.
            self.end_immediately(now, task, ErrorKind::Failed, refusal.message);
        }
    }

    /// Shrinks the map of tasks once nearly all of very many have ended. Rarely, as it moves the others.
    fn shrink_tasks(&mut self) {
        let (capacity, len) = (self.tasks.capacity(), self.tasks.len());
        if capacity > TASKS_CAPACITY_MIN && len < capacity / 64 {
            self.tasks.shrink_to(TASKS_CAPACITY_MIN / 2);
        }
    }

    /// Ends a task, once, and replies to all requests and sessions that wait for it.
    pub(super) fn finish(&mut self, now: Now, id: &TaskId, status: TaskStatus, end: TaskOutcome) {
        let Some(record) = self.tasks.remove(id) else { return };
        self.bytes -= record.bytes();
        if record.unserved {
            self.remove_unserved(&record.name, id);
        }
        self.shrink_tasks();
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
            usage: end.usage.map(Box::new),
            metadata: end.metadata.map_or(record.metadata.clone(), |added| metadata::merge(&record.metadata, &added)),
            callback: pending_delivery(record.callback.as_deref()),
            ..TaskResult::new(id.clone(), status)
        };
        self.metrics.record_total(record.priority, now.mono.since(record.due_at));
        let meta = TaskMeta {
            name: record.name,
            priority: record.priority,
            created_at: record.created_at,
            args: record.args,
            kwargs: record.kwargs,
            policy: record.policy,
        };
        let result = Arc::new(result);
        let ended = EndedTask { result: result.clone(), meta, reports: record.reports };
        for parked_id in record.watchers {
            self.unpark_ended(now, parked_id, &ended);
        }
        self.record_end(now, ended, end.worker_id.as_ref(), record.callback);
        for session in record.session.into_iter().chain(record.other_sessions) {
            if self.sessions.add_result(session, result.clone()) {
                self.reply_to_session(session);
            }
        }
        self.evict_sessions();
        if self.schedules.has_live() {
            self.run_queued_schedule(now, id, status);
        }
    }

    /// Records the failure of a task that never waited. Returns its result.
    pub(super) fn end_immediately(
        &mut self,
        now: Now,
        task: NewTask,
        kind: ErrorKind,
        error: String,
    ) -> Arc<TaskResult> {
        self.counts.accepted += 1;
        let callback = task.callback.map(Arc::new);
        let result = Arc::new(TaskResult {
            error: Some(error),
            completed_at: Some(now.wall),
            error_kind: Some(kind),
            metadata: task.metadata,
            callback: pending_delivery(callback.as_deref()),
            ..TaskResult::new(task.id, TaskStatus::Failure)
        });
        let meta = TaskMeta {
            name: task.name.into(),
            priority: task.policy.priority.unwrap_or_default(),
            created_at: now.wall,
            args: task.args,
            kwargs: task.kwargs,
            policy: task.policy,
        };
        let ended = EndedTask { result: result.clone(), meta, reports: ReportLog::default() };
        self.record_end(now, ended, None, callback);
        result
    }

    /// Counts and stores the end of a task, and sends its callback.
    fn record_end(
        &mut self,
        now: Now,
        ended: EndedTask,
        worker: Option<&Arc<str>>,
        callback: Option<Arc<CallbackInfo>>,
    ) {
        let EndedTask { result, meta, reports } = ended;
        let kind = match result.status {
            TaskStatus::Success => EventKind::TaskSuccess,
            TaskStatus::Cancelled => EventKind::TaskCancelled,
            _ => EventKind::TaskFailure,
        };
        self.counts.ended[metrics::status_index(result.status)] += 1;
        match result.error_kind {
            Some(ErrorKind::NotFound) => self.metrics.record_unknown(result.status),
            _ => self.metrics.record_end(&meta.name, result.status),
        }
        let event = NewEvent::of_task(kind, &result.task_id, &meta.name, meta.priority);
        let detail = result.error.as_deref();
        let (attempt, usage) = (result.attempts, result.usage.as_deref().copied());
        self.record_event(now, NewEvent { worker, attempt, detail, usage, ..event });
        self.results.store(now.mono, result.clone(), meta, reports);
        self.arm_result_expiry();
        if let Some(info) = callback {
            self.outbox.push(Effect::Callback(Callback { result, info }));
        }
    }

    /// Sets the timer for the oldest result, unless it is set.
    pub(super) fn arm_result_expiry(&mut self) {
        if self.result_expiry_timer.is_none()
            && let Some(at) = self.results.next_expiry()
        {
            self.result_expiry_timer = Some(at);
            self.timers.insert((at, Timer::ResultExpiry));
        }
    }
}

fn pending_delivery(callback: Option<&CallbackInfo>) -> Option<Box<Delivery>> {
    callback.map(|info| Box::new(Delivery::pending(&info.address)))
}
