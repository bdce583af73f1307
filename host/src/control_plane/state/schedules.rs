//! Schedules: requests of clients, runs that are due, and schedules of modules.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Responder, State, SubmitOutcome, Timer, WorkerKey};
use crate::control_plane::{
    events::NewEvent,
    schedules::{DueAction, DueRun, ScheduleError, Skip, Trigger},
};
use crate::{
    clock::{Moment, Now},
    protocol::{EventKind, NewSchedule, Refusal, Reply, ScheduleInfo, ScheduleRequest},
    task::{ModuleInfo, ModuleStatus, ScheduleSpec, TaskId, TaskInfo, TaskStatus},
};

impl<R: Responder> State<R> {
    /// Carries out a client's request about schedules.
    pub fn schedule(&mut self, now: Now, request: ScheduleRequest, reply_to: R) {
        let result = match request {
            ScheduleRequest::List => Ok(self.schedules.infos(now)),
            ScheduleRequest::Add { schedule, replace } => {
                self.schedules.add(now, *schedule, replace).map(|name| self.schedule_info(now, &name))
            }
            ScheduleRequest::Pause(name) => {
                self.schedules.pause(&name);
                Ok(self.schedule_info(now, &name))
            }
            ScheduleRequest::Resume(name) => {
                self.schedules.resume(now, &name);
                Ok(self.schedule_info(now, &name))
            }
            ScheduleRequest::Remove(name) => {
                let removed = self.schedules.remove(now, &name);
                if matches!(removed, Ok(Some(_))) {
                    self.restore_module_schedules(now);
                }
                removed.map(|removed| removed.into_iter().collect())
            }
            ScheduleRequest::Trigger { name, task_id } => match self.trigger(now, &name, &task_id) {
                Ok(()) => Ok(self.schedule_info(now, &name)),
                Err(refusal) => return self.reply(reply_to, Reply::Refused(refusal)),
            },
        };
        let reply = match result {
            Ok(infos) => Reply::Schedules(infos.into_iter().map(|info| self.with_status(now, info)).collect()),
            Err(error) => Reply::Refused(error.into()),
        };
        self.arm_schedules(now);
        self.reply(reply_to, reply);
    }

    fn schedule_info(&self, now: Now, name: &str) -> Vec<ScheduleInfo> {
        self.schedules.info(now, name).into_iter().collect()
    }

    /// Adds the status of the last task, which the schedule knows only once it has ended.
    fn with_status(&self, now: Now, mut info: ScheduleInfo) -> ScheduleInfo {
        if let (Some(id), None) = (&info.last_task_id, info.last_status) {
            let live = self.tasks.get(id).map(|record| record.status());
            info.last_status = live.or_else(|| Some(self.results.peek(now.mono, id)?.result.status));
        }
        info
    }

    /// Submits a schedule's task now. Does nothing if there is no such schedule.
    fn trigger(&mut self, now: Now, name: &str, id: &TaskId) -> Result<(), Refusal> {
        let is_known = self.tasks.contains_key(id) || self.results.peek(now.mono, id).is_some();
        let Some(DueRun { name, task }) = self.schedules.task(name, id.clone()).filter(|_| !is_known) else {
            return Ok(());
        };
        let end = match self.submit_task(now, task, None, None) {
            SubmitOutcome::Live => None,
            SubmitOutcome::Ended(result) => Some(result.status),
            SubmitOutcome::Refused(refusal) => return Err(refusal),
        };
        self.record_fired(now, &name, id, Trigger::Manual, end);
        Ok(())
    }

    /// Submits the tasks of schedules that are due.
    pub(super) fn run_schedules(&mut self, now: Now) {
        self.next_schedule = Moment::NEVER;
        // While the control plane is stopping, due runs are left to the next one.
        if self.is_draining {
            return;
        }
        self.schedules.observe_clocks(now);
        while let Some(action) = self.schedules.next_due(now) {
            match action {
                DueAction::Run(run) => self.run(now, *run),
                DueAction::Skip(name, reason) => self.record_skipped(now, &name, &skip_message(reason)),
            }
        }
        self.arm_schedules(now);
    }

    fn run(&mut self, now: Now, DueRun { name, task }: DueRun) {
        let id = task.id.clone();
        match self.accept(now, task, None, None) {
            SubmitOutcome::Live => self.record_fired(now, &name, &id, Trigger::Due, None),
            SubmitOutcome::Ended(result) => self.record_fired(now, &name, &id, Trigger::Due, Some(result.status)),
            SubmitOutcome::Refused(refusal) => {
                self.schedules.refused(&name);
                self.record_skipped(now, &name, &refusal.message);
            }
        }
    }

    fn record_fired(&mut self, now: Now, name: &Arc<str>, id: &TaskId, by: Trigger, end: Option<TaskStatus>) {
        self.schedules.submitted(now, name, id, by, end);
        let event = NewEvent { task: Some(id), ..NewEvent::of_schedule(EventKind::ScheduleFired, name) };
        self.record_event(now, event);
    }

    fn record_skipped(&mut self, now: Now, name: &Arc<str>, reason: &str) {
        self.record_event(
            now,
            NewEvent { detail: Some(reason), ..NewEvent::of_schedule(EventKind::ScheduleSkipped, name) },
        );
    }

    /// Submits the next run of a schedule that waits for the end of this task.
    pub(super) fn run_queued_schedule(&mut self, now: Now, id: &TaskId, status: TaskStatus) {
        if let Some(run) = self.schedules.ended(id, status).filter(|_| !self.is_draining) {
            self.run(now, run);
        }
    }

    /// Updates the schedules that a worker's modules define, where they differ from `before`. Others stay as they are,
    /// as other workers may have newer modules.
    pub(super) fn update_module_schedules(
        &mut self,
        now: Now,
        key: WorkerKey,
        before: &ScheduleSpecs,
        modules: &[ModuleInfo],
    ) {
        let mut changed = false;
        for (module, task) in active_tasks(modules) {
            if before.get(&*task.name) == Some(&task.schedule) {
                continue;
            }
            let Some(spec) = &task.schedule else {
                // A new worker may have an older module than the others.
                let is_newest = before.contains_key(&*task.name) || !self.is_scheduled_elsewhere(key, &task.name);
                changed |= is_newest && self.schedules.remove_from_module(&task.name);
                continue;
            };
            changed = true;
            let schedule = NewSchedule::new(&task.name, &task.name, spec.clone());
            match self.schedules.set_from_module(now, schedule, module) {
                // A client's schedule of this name takes precedence.
                Ok(()) | Err(ScheduleError::Exists(_)) => {}
                Err(reason) => self.record_skipped(now, &task.name.as_str().into(), &reason.to_string()),
            }
        }
        if changed {
            self.arm_schedules(now);
        }
    }

    /// Adds schedules of modules that were over the limit, or that a client's schedule had replaced.
    fn restore_module_schedules(&mut self, now: Now) {
        let of_modules = self.registry.iter().flat_map(|(_, worker)| active_tasks(worker.modules()));
        let missing: Vec<(String, NewSchedule)> = of_modules
            .filter(|(_, task)| !self.schedules.has(&task.name))
            .filter_map(|(module, task)| {
                let spec = task.schedule.clone()?;
                Some((module.to_owned(), NewSchedule::new(&task.name, &task.name, spec)))
            })
            .collect();
        for (module, schedule) in missing {
            // A refusal was reported when the module was loaded.
            let _ = self.schedules.set_from_module(now, schedule, &module);
        }
    }

    /// Returns those of a worker's schedules that no other worker has.
    pub(super) fn exclusive_schedules(&self, key: WorkerKey, of: &ScheduleSpecs) -> Vec<Arc<str>> {
        let scheduled = of.iter().filter(|(_, spec)| spec.is_some()).map(|(name, _)| name);
        scheduled.filter(|name| !self.is_scheduled_elsewhere(key, name)).cloned().collect()
    }

    /// Whether another worker has a schedule for a task of this name.
    fn is_scheduled_elsewhere(&self, key: WorkerKey, name: &str) -> bool {
        let others = self.registry.iter().filter(|(other, worker)| *other != key && worker.can_run(name));
        others
            .flat_map(|(_, worker)| active_tasks(worker.modules()))
            .any(|(_, task)| task.schedule.is_some() && task.name == name)
    }

    /// Suspends the schedules of names that no worker serves any more. They may return within `grace`.
    pub(super) fn suspend_schedules(&mut self, now: Now, names: &[Arc<str>], grace: Duration) {
        if self.schedules.is_empty() || names.is_empty() {
            return;
        }
        for name in names {
            self.schedules.module_removed(now, name, grace);
        }
        self.arm_schedules(now);
    }

    /// Sets the timer for the schedule that is due next.
    fn arm_schedules(&mut self, now: Now) {
        let wake = self.schedules.wake(now);
        if wake == self.next_schedule {
            return;
        }
        self.timers.remove(&(self.next_schedule, Timer::ScheduleDue));
        self.next_schedule = wake;
        if wake != Moment::NEVER && !self.is_draining {
            self.timers.insert((wake, Timer::ScheduleDue));
        }
    }
}

/// The schedules that a worker's modules define, by task name.
pub(super) type ScheduleSpecs = BTreeMap<Arc<str>, Option<ScheduleSpec>>;

pub(super) fn schedule_specs(modules: &[ModuleInfo]) -> ScheduleSpecs {
    active_tasks(modules).map(|(_, task)| (task.name.as_str().into(), task.schedule.clone())).collect()
}

/// Iterates over the tasks that accept new submissions, each with the name of its module.
fn active_tasks(modules: &[ModuleInfo]) -> impl Iterator<Item = (&str, &TaskInfo)> {
    let here = modules.iter().filter(|module| module.status != ModuleStatus::Leaving);
    here.flat_map(|module| module.tasks.iter().map(|task| (&*module.name, task)))
}

fn skip_message(reason: Skip) -> String {
    match reason {
        Skip::Busy => "its last task has not ended".into(),
        Skip::Full => "its last task has not ended, and the next one waits for that".into(),
        Skip::Missed(at) => format!("the control plane was not running at {at}"),
    }
}
