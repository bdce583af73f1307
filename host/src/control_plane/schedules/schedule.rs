//! One schedule: its next due time, and the task that it submits.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{CORRECTION_MAX, SCHEDULE_GRACE, Skip};
use crate::{
    clock::{Moment, Now, Timestamp},
    protocol::{NewSchedule, ScheduleInfo, ScheduleSource, ScheduleStatus},
    task::{
        NewTask, TaskId, TaskStatus,
        schedule::{Overlap, Recurrence},
    },
};

/// A schedule.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) definition: Arc<NewSchedule>,
    pub(super) source: ScheduleSource,
    pub(super) recurrence: Recurrence,
    pub(super) next: Next,
    /// The wall-clock time of `next`, as computed when `next` was set.
    pub(super) next_wall: Timestamp,
    /// The start of the intervals.
    pub(super) anchor: Moment,
    pub(super) paused: bool,
    pub(super) availability: Availability,
    /// The last cron time that was submitted or skipped.
    pub(super) last_considered: Option<Timestamp>,
    /// A run that waits for the end of the last task.
    pub(super) queued_run: Option<Timestamp>,
    /// Number of its tasks that have not ended.
    pub(super) live: usize,
    pub(super) runs: u64,
    pub(super) skipped: u64,
    pub(super) last: Option<Last>,
}

/// When a schedule is due next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Never,
    /// At this time of the monotonic clock.
    At(Moment),
    /// At this time of the wall clock.
    On(Timestamp),
}

/// Whether a worker has the module of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    Available,
    /// Its last worker was removed; the schedule is removed at this time.
    Leaving(Moment),
    Unavailable,
}

/// The last task of a schedule.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) at: Timestamp,
    pub(super) task: TaskId,
    /// Its final status, once it has ended.
    pub(super) end: Option<TaskStatus>,
}

/// Action at a time of a schedule.
pub(super) enum Decision {
    Run,
    Wait,
    Skip(Skip),
}

impl Schedule {
    /// Returns when it is due next.
    pub(super) fn next_after(&self, now: Now) -> Next {
        if self.paused || self.availability == Availability::Unavailable || self.is_used_up() {
            return Next::Never;
        }
        let is_over = |at: Timestamp| self.definition.spec.until.is_some_and(|until| at > until);
        match &self.recurrence {
            Recurrence::Every(interval) => {
                let passed = now.mono.since(self.anchor).as_micros() / interval.as_micros();
                let ahead = u64::try_from((passed + 1) * interval.as_micros()).unwrap_or(u64::MAX);
                let at = self.anchor + Duration::from_micros(ahead);
                if is_over(now.wall + at.since(now.mono)) { Next::Never } else { Next::At(at) }
            }
            Recurrence::Cron(pattern) => {
                let next = pattern.after(self.last_considered.map_or(now.wall, |last| last.max(now.wall)));
                next.filter(|at| !is_over(*at)).map_or(Next::Never, Next::On)
            }
        }
    }

    /// Returns the scheduled time that is due now. None if it is too long ago.
    pub(super) fn occurrence(&self, now: Now) -> Option<Timestamp> {
        match (self.next, &self.recurrence) {
            (Next::At(at), _) => Some(before(now.wall, now.mono.since(at))),
            (Next::On(at), _) if now.wall.since(at) <= SCHEDULE_GRACE => Some(at),
            (Next::On(_), Recurrence::Cron(pattern)) => {
                pattern.after(before(now.wall, SCHEDULE_GRACE)).filter(|at| *at <= now.wall)
            }
            (Next::On(_), Recurrence::Every(_)) | (Next::Never, _) => None,
        }
    }

    /// Returns the action for a time that is due.
    pub(super) fn decide(&self) -> Decision {
        match self.definition.spec.overlap {
            _ if self.live == 0 => Decision::Run,
            Overlap::Skip => Decision::Skip(Skip::Busy),
            Overlap::Queue if self.queued_run.is_none() => Decision::Wait,
            Overlap::Queue => Decision::Skip(Skip::Full),
        }
    }

    /// Whether it has run as often as it may.
    pub(super) fn is_used_up(&self) -> bool {
        self.definition.spec.count.is_some_and(|count| self.runs >= count)
    }

    /// Returns the task id of a run: always the same for the same time.
    pub(super) fn id(&self, name: &str, at: Timestamp) -> TaskId {
        let schedule = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        // The number of runs keeps two apart when the clock was set back.
        Uuid::new_v5(&schedule, format!("{} {}", at.micros(), self.runs).as_bytes()).into()
    }

    pub(super) fn task(&self, id: TaskId) -> NewTask {
        let NewSchedule { task_name, args, kwargs, policy, unknown, .. } = &*self.definition;
        NewTask {
            id,
            args: args.clone(),
            kwargs: kwargs.clone(),
            policy: policy.clone(),
            unknown: *unknown,
            ..NewTask::new(task_name)
        }
    }

    /// Returns when it is due, which is `at` by the current clocks: the same time on each call, unless the wall clock
    /// was set.
    pub(super) fn next_wall(&self, at: Timestamp) -> Timestamp {
        let off = at.since(self.next_wall).max(self.next_wall.since(at));
        if off < CORRECTION_MAX { self.next_wall } else { at }
    }

    pub(super) fn info(&self, now: Now) -> ScheduleInfo {
        let status = match (self.availability, self.paused, self.next) {
            (Availability::Unavailable, ..) => ScheduleStatus::Absent,
            (_, true, _) => ScheduleStatus::Paused,
            (_, false, Next::Never) => ScheduleStatus::Finished,
            (_, false, _) => ScheduleStatus::Active,
        };
        ScheduleInfo {
            schedule: self.definition.clone(),
            source: self.source.clone(),
            status,
            next_run: match self.next {
                Next::Never => None,
                Next::At(at) => Some(self.next_wall(now.wall + at.since(now.mono))),
                Next::On(at) => Some(at),
            },
            last_run: self.last.as_ref().map(|last| last.at),
            last_task_id: self.last.as_ref().map(|last| last.task.clone()),
            last_status: self.last.as_ref().and_then(|last| last.end),
            runs: self.runs,
            skipped: self.skipped,
            remaining: self.definition.spec.count.map(|count| count.saturating_sub(self.runs)),
        }
    }
}

pub(super) fn before(at: Timestamp, duration: Duration) -> Timestamp {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(at.micros().saturating_sub(micros))
}

/// Bytes that count against [`SCHEDULE_BYTES_MAX`].
pub(super) fn size(new: &NewSchedule) -> usize {
    new.args.as_str().len() + new.kwargs.as_str().len()
}
