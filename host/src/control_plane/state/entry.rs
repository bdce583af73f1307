//! An unfinished task, and how it stands: what the state keeps of it until its end.
//!
//! Apart from `tasks`, which moves it, because every other part reads it. Invariant: what only one
//! standing has is in [`Standing`], so that no task has a lease and a place in the schedule.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::ParkId;
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
pub const SETBACK_MAX: usize = 1_024;

/// How an unfinished task stands, with what only that standing has.
#[derive(Debug)]
pub(super) enum Standing {
    /// In the queue, at this place.
    Queued(Position),
    /// In the schedule; `retry` tells a retry from a countdown.
    Due { at: Moment, retry: bool },
    /// Granted to a slot.
    Leased { lease: LeaseId, started_at: Option<Timestamp>, position: Position },
}

/// An unfinished task.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Arc<str>,
    pub(super) args: Json,
    pub(super) kwargs: Json,
    pub(super) policy: Policy,
    pub(super) priority: TaskPriority,
    pub(super) created_at: Timestamp,
    /// When it was first due.
    pub(super) due_at: Moment,
    pub(super) waiting_since: Moment,
    pub(super) standing: Standing,
    /// Attempts that were begun and not lost.
    pub(super) attempt: u32,
    pub(super) losses: u32,
    /// Was granted to a worker that was lost: granted alone from now on, so that a task that
    /// kills its worker is told apart from those around it.
    pub(super) suspect: bool,
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
    pub(super) setback: Option<Box<Setback>>,
}

/// How an attempt failed that is not the last one.
#[derive(Debug)]
pub(super) struct Setback {
    pub(super) kind: ErrorKind,
    /// Why, at most [`SETBACK_MAX`] bytes of it.
    pub(super) message: Box<str>,
    /// When the next attempt is due.
    pub(super) next_at: Timestamp,
}

impl Entry {
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
        match self.standing {
            Standing::Due { retry: true, .. } => self.setback.as_ref().map(|setback| setback.next_at),
            Standing::Due { retry: false, .. } => Some(self.created_at + self.due_at.since(self.waiting_since)),
            Standing::Queued(_) | Standing::Leased { .. } => None,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.policy.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }

    pub(super) fn status(&self) -> TaskStatus {
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
pub(super) struct Granted {
    pub(super) task: TaskId,
    pub(super) worker: Uuid,
}

/// What became of an offered task.
pub(super) enum Taken {
    Live,
    Ended(Arc<TaskResult>),
    Refused(String),
}

/// Whether a lease that is taken back was lost with its worker.
#[derive(Clone, Copy)]
pub(super) enum Loss<'a> {
    No,
    /// With the worker of this id.
    Of(&'a Arc<str>),
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
