//! The record of an unfinished task.
//!
//! Invariant: data of a single phase is in [`Phase`], so that no task is leased and scheduled at the same time.

use std::{sync::Arc, time::Duration};

use super::{LOSSES_MAX, ParkedId, SessionId, WorkerKey};
use crate::{
    clock::{Moment, Timestamp, micros},
    control_plane::{
        queue::{Position, QueueKey},
        reports::ReportLog,
        sessions::Sessions,
    },
    json::Json,
    protocol::{Lease, LeaseId, Refusal},
    task::{
        CallbackInfo, ErrorKind, Failure, ModuleVersion, Policy, TIMEOUT_DEFAULT, TaskId, TaskPriority, TaskResult,
        TaskStatus, Usage, metadata,
    },
};

/// Maximum number of sessions that get the result of one task.
pub const TASK_SESSIONS_MAX: usize = 64;
/// Maximum length of the error of the last failed attempt, in bytes.
pub const LAST_FAILURE_MAX: usize = 1_024;

/// The phase of an unfinished task, with the data of that phase.
#[derive(Debug)]
pub(super) enum Phase {
    /// In the queue, at this position.
    Queued(Position),
    /// Scheduled.
    Scheduled(DueAt),
    /// Granted to a slot.
    Leased { lease: LeaseId, started_at: Option<Timestamp>, position: Position },
}

/// The time that a scheduled task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DueAt {
    /// The end of its countdown.
    Countdown(Moment),
    /// Its next attempt.
    Retry(Moment),
    /// This time of the wall clock.
    Eta(Timestamp),
}

/// An unfinished task.
#[derive(Debug)]
pub(super) struct TaskRecord {
    pub(super) name: Arc<str>,
    pub(super) args: Json,
    pub(super) kwargs: Json,
    pub(super) policy: Policy,
    pub(super) priority: TaskPriority,
    pub(super) created_at: Timestamp,
    /// When it was first due.
    pub(super) due_at: Moment,
    pub(super) waiting_since: Moment,
    pub(super) phase: Phase,
    /// Number of attempts that were started and not lost.
    pub(super) attempt: u32,
    /// Number of worker crashes while it ran.
    pub(super) losses: u32,
    /// Whether it was leased to a worker that crashed. It is granted alone from then on, so that a task that crashes
    /// workers is told apart from those alongside it.
    pub(super) quarantined: bool,
    /// Accepted while no worker served its name, because one may still connect.
    pub(super) unserved: bool,
    /// The session that gets its result.
    pub(super) session: Option<SessionId>,
    /// Other sessions that submitted it again.
    pub(super) other_sessions: Vec<SessionId>,
    /// Parked requests that wait for its end or its reports.
    pub(super) watchers: Vec<ParkedId>,
    pub(super) reports: ReportLog,
    /// The callback to send when it ends.
    pub(super) callback: Option<Arc<CallbackInfo>>,
    /// The last failed attempt.
    pub(super) last_failure: Option<Box<LastFailure>>,
    /// A JSON object that its leases and its result carry.
    pub(super) metadata: Json,
}

/// A failed attempt that is retried.
#[derive(Debug)]
pub(super) struct LastFailure {
    pub(super) kind: ErrorKind,
    /// The error, cut to [`LAST_FAILURE_MAX`] bytes.
    pub(super) message: Box<str>,
    /// When the next attempt is due.
    pub(super) next_at: Timestamp,
}

impl TaskRecord {
    pub(super) fn bytes(&self) -> usize {
        let callback = self.callback.as_ref().map_or(0, |callback| callback.size());
        self.args.as_str().len() + self.kwargs.as_str().len() + callback + metadata::size(&self.metadata)
    }

    /// Adds a session that gets its result. Returns false if there are too many.
    pub(super) fn attach<R>(&mut self, session: SessionId, open: &Sessions<R>) -> bool {
        let first = *self.session.get_or_insert(session);
        if first == session || self.other_sessions.contains(&session) {
            return true;
        }
        // Closed sessions are removed when the vector is full, so that they cannot accumulate.
        if self.other_sessions.len() == self.other_sessions.capacity() {
            self.other_sessions.retain(|other| open.is_open(*other));
        }
        let has_capacity = self.other_sessions.len() < TASK_SESSIONS_MAX;
        if has_capacity {
            self.other_sessions.push(session);
        }
        has_capacity
    }

    /// Whether its next attempt must run alone on its worker, as one more crash ends the task.
    pub(super) fn runs_alone(&self) -> bool {
        self.losses + 1 >= LOSSES_MAX
    }

    pub(super) fn queue_key(&self, position: Position) -> QueueKey {
        QueueKey { priority: self.priority, name: self.name.clone(), position }
    }

    /// Returns the lease of its current attempt.
    pub(super) fn lease(&self, lease: LeaseId, id: &TaskId) -> Lease {
        Lease {
            id: lease,
            task_id: id.clone(),
            name: self.name.clone(),
            attempt: self.attempt,
            timeout_us: micros(self.timeout()),
            args: self.args.clone(),
            kwargs: self.kwargs.clone(),
            priority: self.priority,
            metadata: self.metadata.clone(),
        }
    }

    /// Returns when its next attempt is due, while it is scheduled.
    pub(super) fn due_on(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Scheduled(DueAt::Retry(_)) => self.last_failure.as_ref().map(|last_failure| last_failure.next_at),
            Phase::Scheduled(DueAt::Countdown(_)) => Some(self.created_at + self.due_at.since(self.waiting_since)),
            Phase::Scheduled(DueAt::Eta(eta)) => Some(eta),
            Phase::Queued(_) | Phase::Leased { .. } => None,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.policy.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }

    pub(super) fn status(&self) -> TaskStatus {
        match &self.phase {
            Phase::Leased { started_at: Some(_), .. } => TaskStatus::Started,
            Phase::Scheduled(DueAt::Retry(_)) => TaskStatus::Retrying,
            Phase::Scheduled(DueAt::Countdown(_) | DueAt::Eta(_)) => TaskStatus::Scheduled,
            Phase::Queued(_) | Phase::Leased { started_at: None, .. } => TaskStatus::Pending,
        }
    }
}

/// A live lease: its task and worker.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) task: TaskId,
    pub(super) worker: WorkerKey,
}

/// The outcome of a submission.
pub(super) enum SubmitOutcome {
    Live,
    Ended(Arc<TaskResult>),
    Refused(Refusal),
}

/// Reason for revoking a lease. With the id of its worker.
#[derive(Clone, Copy)]
pub(super) enum RequeueCause<'a> {
    /// It was returned, or never arrived.
    Returned,
    /// The worker left by itself.
    WorkerLeft(&'a Arc<str>),
    /// The worker, or its slot, timed out: it may still run, and the task need not be the cause.
    WorkerTimedOut(&'a Arc<str>),
    /// The connection of the worker was closed, as it is when its process dies.
    WorkerCrashed(&'a Arc<str>),
}

impl RequeueCause<'_> {
    /// Returns the error that `status` displays for an attempt that had started, after this many crashes.
    pub(super) fn message(self, losses: u32) -> Option<String> {
        match self {
            Self::Returned => None,
            Self::WorkerLeft(worker) => Some(format!(
                "worker '{worker}' stopped while it ran; it runs again, and this does not count against it"
            )),
            Self::WorkerTimedOut(worker) => Some(format!(
                "worker '{worker}' stopped responding while it ran; it runs again, and this does not count against it"
            )),
            Self::WorkerCrashed(worker) => {
                let next = if losses + 1 >= LOSSES_MAX { ", alone on its worker" } else { "" };
                Some(format!(
                    "worker '{worker}' was lost while it ran, {losses} of the {LOSSES_MAX} times that end it; it runs \
                     again{next}"
                ))
            }
        }
    }
}

/// The end of a task.
#[derive(Default)]
pub(super) struct TaskOutcome {
    pub(super) result: Option<Json>,
    pub(super) failure: Option<Failure>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) worker_id: Option<Arc<str>>,
    pub(super) version: Option<ModuleVersion>,
    pub(super) usage: Option<Usage>,
    /// Metadata that the last attempt adds to that of the task.
    pub(super) metadata: Option<Json>,
}
