//! Tasks that are submitted by themselves.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{Responder, State, SubmitOutcome, Timer};
use crate::control_plane::{
    events::NewEvent,
    schedules::{By, Fire, NotKept, Skip, Turn},
};
use crate::{
    clock::{Moment, Now},
    protocol::{EventKind, NewSchedule, Reply, ScheduleInfo, ScheduleRequest},
    task::{ModuleInfo, ModuleStatus, ScheduleSpec, TaskId, TaskInfo, TaskStatus},
};

impl<R: Responder> State<R> {
    /// Does what a client asks about schedules.
    pub fn schedule(&mut self, now: Now, request: ScheduleRequest, reply_to: R) {
        let answer = match request {
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
                    self.offer_again(now);
                }
                removed.map(|removed| removed.into_iter().collect())
            }
            ScheduleRequest::Trigger { name, task_id } => match self.trigger(now, &name, &task_id) {
                Ok(()) => Ok(self.schedule_info(now, &name)),
                Err(why) => return self.reply(reply_to, Reply::Refused(why)),
            },
        };
        let reply = match answer {
            Ok(infos) => Reply::Schedules(infos.into_iter().map(|info| self.with_status(now, info)).collect()),
            Err(why) => Reply::Refused(why.to_string()),
        };
        self.arm_schedules(now);
        self.reply(reply_to, reply);
        self.dispatch(now);
    }

    fn schedule_info(&self, now: Now, name: &str) -> Vec<ScheduleInfo> {
        self.schedules.info(now, name).into_iter().collect()
    }

    /// The book knows how a last task ended, not how it stands.
    fn with_status(&self, now: Now, mut info: ScheduleInfo) -> ScheduleInfo {
        if let (Some(id), None) = (&info.last_task_id, info.last_status) {
            let live = self.tasks.get(id).map(|record| record.status());
            info.last_status = live.or_else(|| Some(self.results.peek(now.mono, id)?.result.status));
        }
        info
    }

    /// Submits a schedule's task now. Nothing happens if there is no such schedule.
    fn trigger(&mut self, now: Now, name: &str, id: &TaskId) -> Result<(), String> {
        let is_known = self.tasks.contains_key(id) || self.results.peek(now.mono, id).is_some();
        let Some(Fire { name, task }) = self.schedules.task(name, id.clone()).filter(|_| !is_known) else {
            return Ok(());
        };
        let end = match self.offer(now, task, None, None) {
            SubmitOutcome::Live => None,
            SubmitOutcome::Ended(result) => Some(result.status),
            SubmitOutcome::Refused(why) => return Err(why),
        };
        self.note_fired(now, &name, id, By::Hand, end);
        Ok(())
    }

    /// Submits what is due.
    pub(super) fn run_schedules(&mut self, now: Now) {
        self.next_schedule = Moment::NEVER;
        // What is due while the control plane stops is left to the next one.
        if self.draining {
            return;
        }
        self.schedules.look(now);
        while let Some(turn) = self.schedules.turn(now) {
            match turn {
                Turn::Fire(fire) => self.fire(now, *fire),
                Turn::Skip(name, why) => self.note_skipped(now, &name, &reason(why)),
            }
        }
        self.arm_schedules(now);
    }

    fn fire(&mut self, now: Now, Fire { name, task }: Fire) {
        let id = task.id.clone();
        match self.accept(now, task, None, None) {
            SubmitOutcome::Live => self.note_fired(now, &name, &id, By::Time, None),
            SubmitOutcome::Ended(result) => self.note_fired(now, &name, &id, By::Time, Some(result.status)),
            SubmitOutcome::Refused(why) => {
                self.schedules.refused(&name);
                self.note_skipped(now, &name, &why);
            }
        }
    }

    fn note_fired(&mut self, now: Now, name: &Arc<str>, id: &TaskId, by: By, end: Option<TaskStatus>) {
        self.schedules.submitted(now, name, id, by, end);
        let told = NewEvent { task: Some(id), ..NewEvent::of_schedule(EventKind::ScheduleFired, name) };
        self.note_event(now, told);
    }

    fn note_skipped(&mut self, now: Now, name: &Arc<str>, why: &str) {
        self.note_event(now, NewEvent { detail: Some(why), ..NewEvent::of_schedule(EventKind::ScheduleSkipped, name) });
    }

    /// A task has ended: perhaps the next one of its schedule waits for that.
    pub(super) fn go_on_with_schedule(&mut self, now: Now, id: &TaskId, status: TaskStatus) {
        if let Some(fire) = self.schedules.ended(id, status).filter(|_| !self.draining) {
            self.fire(now, fire);
        }
    }

    /// Takes up what a worker's modules say now of schedules, where that is not what they said
    /// `before`. What was not changed here is left as it is, as other workers may have newer modules.
    pub(super) fn offer_schedules(&mut self, now: Now, key: Uuid, before: &Whens, modules: &[ModuleInfo]) {
        let mut changed = false;
        for (module, task) in takers(modules) {
            if before.get(&*task.name) == Some(&task.schedule) {
                continue;
            }
            let Some(spec) = &task.schedule else {
                // One that comes may have an older module than those who are here.
                let is_newest = before.contains_key(&*task.name) || !self.is_scheduled_elsewhere(key, &task.name);
                changed |= is_newest && self.schedules.revoke(&task.name);
                continue;
            };
            changed = true;
            let schedule = NewSchedule::new(&task.name, &task.name, spec.clone());
            match self.schedules.offer(now, schedule, module) {
                // Somebody's own schedule of that name goes first.
                Ok(()) | Err(NotKept::Taken(_)) => {}
                Err(why) => self.note_skipped(now, &task.name.as_str().into(), &why.to_string()),
            }
        }
        if changed {
            self.arm_schedules(now);
        }
    }

    /// Takes up the schedules of modules that had to stand back, as there is room now.
    fn offer_again(&mut self, now: Now) {
        let of_modules = self.registry.iter().flat_map(|(_, worker)| takers(worker.modules()));
        let waiting: Vec<(String, NewSchedule)> = of_modules
            .filter(|(_, task)| !self.schedules.has(&task.name))
            .filter_map(|(module, task)| {
                let spec = task.schedule.clone()?;
                Some((module.to_owned(), NewSchedule::new(&task.name, &task.name, spec)))
            })
            .collect();
        for (module, schedule) in waiting {
            // Whatever is in its way now was told when it came.
            let _ = self.schedules.offer(now, schedule, &module);
        }
    }

    /// Those of a worker's schedules that no other worker has.
    pub(super) fn lone_schedules(&self, key: Uuid, of: &Whens) -> Vec<Arc<str>> {
        let named = of.iter().filter(|(_, spec)| spec.is_some()).map(|(name, _)| name);
        named.filter(|name| !self.is_scheduled_elsewhere(key, name)).cloned().collect()
    }

    /// Whether another worker has a schedule for a task of this name.
    fn is_scheduled_elsewhere(&self, key: Uuid, name: &str) -> bool {
        let others = self.registry.iter().filter(|(other, worker)| *other != key && worker.can_run(name));
        others
            .flat_map(|(_, worker)| takers(worker.modules()))
            .any(|(_, task)| task.schedule.is_some() && task.name == name)
    }

    /// Nobody offers these names any more, but may do so again within `grace`.
    pub(super) fn withdraw_schedules(&mut self, now: Now, names: &[Arc<str>], grace: Duration) {
        if self.schedules.is_empty() || names.is_empty() {
            return;
        }
        for name in names {
            self.schedules.withdraw(now, name, grace);
        }
        self.arm_schedules(now);
    }

    /// Sets the timer for what is due next.
    fn arm_schedules(&mut self, now: Now) {
        let wake = self.schedules.wake(now);
        if wake == self.next_schedule {
            return;
        }
        self.timers.remove(&(self.next_schedule, Timer::Schedules));
        self.next_schedule = wake;
        if wake != Moment::NEVER && !self.draining {
            self.timers.insert((wake, Timer::Schedules));
        }
    }
}

/// When each task of a worker's modules is to be submitted, by its name.
pub(super) type Whens = BTreeMap<Arc<str>, Option<ScheduleSpec>>;

pub(super) fn whens(modules: &[ModuleInfo]) -> Whens {
    takers(modules).map(|(_, task)| (task.name.as_str().into(), task.schedule.clone())).collect()
}

/// The tasks that may be submitted anew, each with the name of its module.
fn takers(modules: &[ModuleInfo]) -> impl Iterator<Item = (&str, &TaskInfo)> {
    let here = modules.iter().filter(|module| module.status != ModuleStatus::Leaving);
    here.flat_map(|module| module.tasks.iter().map(|task| (&*module.name, task)))
}

fn reason(why: Skip) -> String {
    match why {
        Skip::Busy => "its last task has not ended".into(),
        Skip::Full => "its last task has not ended, and the next one waits for that".into(),
        Skip::Missed(at) => format!("nobody was awake at {at}"),
    }
}
