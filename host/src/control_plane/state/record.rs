//! An unfinished task, and how it stands: what the state keeps of it until its end.
//!
//! Apart from `tasks`, which moves it, because every other part reads it. Invariant: what only one
//! standing has is in [`Phase`], so that no task has a lease and a place in the schedule.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{LOSSES_MAX, ParkId};
use crate::{
    clock::{Moment, Timestamp, micros},
    control_plane::{
        queue::{Place, Position},
        reports::ReportLog,
        sessions::Sessions,
    },
    json::Json,
    protocol::{Lease, LeaseId},
    task::{
        CallbackInfo, ErrorKind, Failure, ModuleVersion, Policy, TIMEOUT_DEFAULT, TaskId, TaskPriority, TaskResult,
        TaskStatus,
    },
};

/// So many sessions may hear of the end of one task.
pub const TASK_SESSIONS_MAX: usize = 64;
/// Bytes that are kept of why an attempt failed, until its task ends.
pub const LAST_FAILURE_MAX: usize = 1_024;

/// How an unfinished task stands, with what only that standing has.
#[derive(Debug)]
pub(super) enum Phase {
    /// In the queue, at this place.
    Queued(Position),
    /// Waits for a moment.
    Due(Wait),
    /// Granted to a slot.
    Leased { lease: LeaseId, started_at: Option<Timestamp>, position: Position },
}

/// What a scheduled task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The end of its countdown.
    Countdown(Moment),
    /// Its next attempt.
    Retry(Moment),
    /// That the wall clock shows this.
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
    /// Attempts that were begun and not lost.
    pub(super) attempt: u32,
    /// Crashes of workers while it ran.
    pub(super) losses: u32,
    /// Was granted to a worker that crashed: granted alone from now on, so that a task that
    /// kills its worker is told apart from those around it.
    pub(super) suspect: bool,
    /// Accepted while no worker had its name, because one may still come.
    pub(super) unclaimed: bool,
    /// The session that hears of its end.
    pub(super) session: Option<Uuid>,
    /// Those under which it was submitted again.
    pub(super) other_sessions: Vec<Uuid>,
    /// Parked requests that wait for its end or its reports.
    pub(super) watchers: Vec<ParkId>,
    pub(super) reports: ReportLog,
    /// Who is called back at its end.
    pub(super) callback: Option<Arc<CallbackInfo>>,
    /// How its last attempt failed, if one did.
    pub(super) last_failure: Option<Box<LastFailure>>,
}

/// How an attempt failed that is not the last one.
#[derive(Debug)]
pub(super) struct LastFailure {
    pub(super) kind: ErrorKind,
    /// Why, at most [`LAST_FAILURE_MAX`] bytes of it.
    pub(super) message: Box<str>,
    /// When the next attempt is due.
    pub(super) next_at: Timestamp,
}

impl TaskRecord {
    pub(super) fn bytes(&self) -> usize {
        let callback = self.callback.as_ref().map_or(0, |callback| callback.size());
        self.args.as_str().len() + self.kwargs.as_str().len() + callback
    }

    /// Lets one more session hear of its end, if there is room.
    pub(super) fn attach<R>(&mut self, session: Uuid, open: &Sessions<R>) -> bool {
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

    /// Whether its next attempt runs alone on its worker, as one more crash ends it.
    pub(super) fn runs_alone(&self) -> bool {
        self.losses + 1 >= LOSSES_MAX
    }

    pub(super) fn place(&self, position: Position) -> Place {
        Place { priority: self.priority, name: self.name.clone(), position }
    }

    /// The right to run its next attempt.
    pub(super) fn lease(&self, lease: LeaseId, id: &TaskId) -> Lease {
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
    pub(super) fn due_on(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Due(Wait::Retry(_)) => self.last_failure.as_ref().map(|last_failure| last_failure.next_at),
            Phase::Due(Wait::Countdown(_)) => Some(self.created_at + self.due_at.since(self.waiting_since)),
            Phase::Due(Wait::Eta(eta)) => Some(eta),
            Phase::Queued(_) | Phase::Leased { .. } => None,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.policy.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }

    pub(super) fn status(&self) -> TaskStatus {
        match &self.phase {
            Phase::Leased { started_at: Some(_), .. } => TaskStatus::Started,
            Phase::Due(Wait::Retry(_)) => TaskStatus::Retrying,
            Phase::Due(Wait::Countdown(_) | Wait::Eta(_)) => TaskStatus::Scheduled,
            Phase::Queued(_) | Phase::Leased { started_at: None, .. } => TaskStatus::Pending,
        }
    }
}

/// Where a live lease is.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) task: TaskId,
    pub(super) worker: Uuid,
}

/// What became of an offered task.
pub(super) enum SubmitOutcome {
    Live,
    Ended(Arc<TaskResult>),
    Refused(String),
}

/// Why a lease is taken back from the worker of this id.
#[derive(Clone, Copy)]
pub(super) enum Loss<'a> {
    /// It was returned, or never arrived.
    No,
    /// The worker left.
    Left(&'a Arc<str>),
    /// The worker, or its slot, fell silent: it may run on, and nothing says that it was the task.
    Silent(&'a Arc<str>),
    /// The connection of the worker was closed, as it is when its process dies.
    Crashed(&'a Arc<str>),
}

impl Loss<'_> {
    /// What `status` shows of an attempt that had begun, after this many crashes.
    pub(super) fn message(self, losses: u32) -> Option<String> {
        match self {
            Self::No => None,
            Self::Left(worker) => Some(format!(
                "worker '{worker}' stopped while it ran; it runs again, and this does not count against it"
            )),
            Self::Silent(worker) => Some(format!(
                "worker '{worker}' fell silent while it ran; it runs again, and this does not count against it"
            )),
            Self::Crashed(worker) => {
                let next = if losses + 1 >= LOSSES_MAX { ", alone on its worker" } else { "" };
                Some(format!(
                    "worker '{worker}' was lost while it ran, {losses} of the {LOSSES_MAX} times that end it; it runs \
                     again{next}"
                ))
            }
        }
    }
}

/// What the end of a task is made of.
#[derive(Default)]
pub(super) struct End {
    pub(super) result: Option<Json>,
    pub(super) failure: Option<Failure>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) worker_id: Option<Arc<str>>,
    pub(super) version: Option<ModuleVersion>,
}
