//! Due schedules: tasks to submit now, and times to skip.

use std::sync::Arc;

use super::{
    CLOCK_SET_BACK_MAX, CORRECTION_MAX, Schedules,
    schedule::{Decision, Last, Next},
};
use crate::{
    clock::{Now, Timestamp},
    task::{NewTask, TaskId, TaskStatus, schedule::Recurrence},
};

/// Action for a schedule that is due.
#[derive(Debug, PartialEq)]
pub enum DueAction {
    /// Submit a task, and call [`Schedules::submitted`] or [`Schedules::refused`].
    Run(Box<DueRun>),
    /// A time was skipped.
    Skip(Arc<str>, Skip),
}

/// A task that a schedule submits now.
#[derive(Debug, PartialEq)]
pub struct DueRun {
    /// The schedule.
    pub name: Arc<str>,
    /// The task.
    pub task: NewTask,
}

/// Reason for skipping a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The last task has not ended.
    Busy,
    /// Another run waits for the end of the last task already.
    Full,
    /// The control plane was not running or suspended, since this time.
    Missed(Timestamp),
}

/// Reason for submitting the task of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// It was due.
    Due,
    /// A client requested it.
    Manual,
}

impl Schedules {
    /// Adjusts to both clocks. Call it before [`Schedules::next_due`].
    pub fn observe_clocks(&mut self, now: Now) {
        while let Some((_, name)) = self.leaving.first().filter(|(at, _)| *at <= now.mono).cloned() {
            self.retire(now, &name);
        }
        if self.wall.since(now.wall) >= CORRECTION_MAX {
            // Times that were handled are not repeated, unless the clock was set to another day.
            let was_another_day = |last: &Timestamp| *last > now.wall + CLOCK_SET_BACK_MAX;
            for schedule in self.all.values_mut() {
                schedule.last_considered = schedule.last_considered.filter(|last| !was_another_day(last));
            }
            let cron_names: Vec<Arc<str>> = self.times.iter().map(|(_, name)| name.clone()).collect();
            for name in &cron_names {
                self.reschedule(now, name);
            }
        }
        self.wall = now.wall;
    }

    /// Returns what is due next. Call it until it returns none.
    pub fn next_due(&mut self, now: Now) -> Option<DueAction> {
        loop {
            let by_interval = self.moments.first().filter(|(at, _)| *at <= now.mono).map(|(_, name)| name);
            let by_wall = || self.times.first().filter(|(at, _)| *at <= now.wall).map(|(_, name)| name);
            let name = by_interval.or_else(by_wall)?.clone();
            let schedule = self.all.get_mut(&name)?;
            let (next, occurrence) = (schedule.next, schedule.occurrence(now));
            if let Recurrence::Cron(_) = schedule.recurrence {
                schedule.last_considered = Some(now.wall);
            }
            self.reschedule(now, &name);
            let schedule = self.all.get_mut(&name)?;
            match (occurrence, next) {
                (Some(at), _) if schedule.definition.spec.until.is_some_and(|until| at > until) => {}
                (Some(at), _) => match schedule.decide() {
                    Decision::Run => {
                        let id = schedule.id(&name, at);
                        return Some(DueAction::Run(Box::new(DueRun { task: schedule.task(id), name })));
                    }
                    Decision::Wait => schedule.queued_run = Some(at),
                    Decision::Skip(reason) => {
                        schedule.skipped += 1;
                        return Some(DueAction::Skip(name, reason));
                    }
                },
                (None, Next::On(at)) => {
                    schedule.skipped += 1;
                    return Some(DueAction::Skip(name, Skip::Missed(at)));
                }
                (None, Next::At(_) | Next::Never) => {}
            }
        }
    }

    /// Records that the task of a schedule was submitted. `end` is its final status, if it has ended already.
    pub fn submitted(&mut self, now: Now, name: &Arc<str>, task: &TaskId, trigger: Trigger, end: Option<TaskStatus>) {
        let Some(schedule) = self.all.get_mut(name) else { return };
        schedule.runs += u64::from(trigger == Trigger::Due);
        schedule.last = Some(Last { at: now.wall, task: task.clone(), end });
        if end.is_none() && self.live.insert(task.clone(), name.clone()).is_none() {
            schedule.live += 1;
        }
        if trigger == Trigger::Due && schedule.definition.spec.count.is_some() {
            self.reschedule(now, name);
        }
    }

    /// Records that the task of a schedule was refused.
    pub fn refused(&mut self, name: &str) {
        if let Some(schedule) = self.all.get_mut(name) {
            schedule.skipped += 1;
        }
    }

    /// Records that a task has ended. Returns the next run of its schedule, if one waits for that.
    pub fn ended(&mut self, task: &TaskId, end: TaskStatus) -> Option<DueRun> {
        let name = self.live.remove(task)?;
        let schedule = self.all.get_mut(&name)?;
        schedule.live -= 1;
        if let Some(last) = schedule.last.as_mut().filter(|last| last.task == *task) {
            last.end = Some(end);
        }
        if schedule.live > 0 {
            return None;
        }
        let at = schedule.queued_run.take().filter(|_| !schedule.is_used_up())?;
        Some(DueRun { task: schedule.task(schedule.id(&name, at)), name })
    }

    /// Computes when a schedule is due next.
    pub(super) fn reschedule(&mut self, now: Now, name: &Arc<str>) {
        let Some(schedule) = self.all.get_mut(name) else { return };
        let (before, next) = (schedule.next, schedule.next_after(now));
        schedule.next = next;
        if before == next {
            return;
        }
        if let Next::At(at) = next {
            schedule.next_wall = now.wall + at.since(now.mono);
        }
        self.unset(name, before);
        match next {
            Next::At(at) => drop(self.moments.insert((at, name.clone()))),
            Next::On(at) => drop(self.times.insert((at, name.clone()))),
            Next::Never => {}
        }
    }

    /// Removes a schedule from the index of due times.
    pub(super) fn unset(&mut self, name: &Arc<str>, next: Next) {
        match next {
            Next::At(at) => drop(self.moments.remove(&(at, name.clone()))),
            Next::On(at) => drop(self.times.remove(&(at, name.clone()))),
            Next::Never => {}
        }
    }
}
