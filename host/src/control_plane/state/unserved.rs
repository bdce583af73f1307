//! Tasks whose name no worker serves, while workers may still connect.
//!
//! After a start, and after each loss of a worker, clients often reconnect before workers. So an unknown name is an
//! error only once [`Limits::unknown_grace`](super::Limits::unknown_grace) has passed without a worker that serves it,
//! and no worker loads modules that may have it. Invariant: a task in `unserved` is unfinished, and no worker has
//! served its name since it was accepted.

use std::{sync::Arc, time::Duration};

use super::{Phase, Responder, State, TaskOutcome, Timer};
use crate::{
    clock::{Moment, Now, Timestamp},
    task::{ErrorKind, Failure, TaskId, TaskStatus},
};

/// Maximum number of tasks that fail in one step, as the state is locked during it.
const TASKS_PER_STEP_MAX: usize = 1_000;
/// Maximum number of names whose tasks fail in one step.
const NAMES_PER_STEP_MAX: usize = 20;
/// Delay between two steps.
const STEP_DELAY: Duration = Duration::from_millis(1);
/// Delay before the next check whether modules are still being loaded.
const LOADING_CHECK_DELAY: Duration = Duration::from_millis(250);
/// Maximum number of tasks that move to the priority of a module that was loaded after their submission.
const MOVED_MAX: usize = 10_000;

impl<R: Responder> State<R> {
    /// Expects workers to connect within the grace period, from now on.
    pub(super) fn expect_workers(&mut self, now: Now) {
        let grace = self.limits.unknown_grace;
        self.workers_expected_until = Now { mono: now.mono + grace, wall: now.wall + grace };
    }

    /// Whether a worker may still connect that serves a name which no worker serves.
    pub(super) fn is_worker_expected(&self, now: Now, name: &str) -> bool {
        let is_expected = now.mono < self.workers_expected_until.mono || self.registry.is_loading();
        is_expected && !self.registry.is_leaving(name)
    }

    /// Returns a name that no worker serves, shared with other tasks of it.
    pub(super) fn shared_name(&self, name: &str) -> Arc<str> {
        self.unserved.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone())
    }

    /// Adds a task that waits until a worker serves its name, at most as long as workers are expected.
    pub(super) fn add_unserved(&mut self, name: Arc<str>, id: TaskId) {
        self.unserved.entry(name).or_default().insert(id);
        if self.unserved_check == Moment::NEVER {
            // While modules are loaded, this may be in the past.
            self.arm_unserved(self.workers_expected_until.mono);
        }
    }

    fn arm_unserved(&mut self, at: Moment) {
        self.unserved_check = at;
        self.timers.insert((at, Timer::Unserved));
    }

    /// Marks a name as served: its tasks wait without a limit from now on, at the priority of the module.
    pub(super) fn serve(&mut self, now: Now, name: &Arc<str>) {
        let Some(ids) = self.unserved.remove(name) else { return };
        let Some(priority) = self.registry.served_or_recent(now.mono, name).and_then(|(_, policy)| policy.priority)
        else {
            return;
        };
        for id in ids.iter().take(MOVED_MAX) {
            let Some(record) = self.tasks.get_mut(id).filter(|record| record.policy.priority.is_none()) else {
                continue;
            };
            let Phase::Queued(position) = record.phase else {
                record.priority = priority;
                continue;
            };
            let Some(id) = self.queue.remove(&record.queue_key(position)) else { continue };
            record.priority = priority;
            self.queue.push(&record.queue_key(position), id, record.waiting_since);
        }
    }

    /// Removes a task that has ended.
    pub(super) fn remove_unserved(&mut self, name: &Arc<str>, id: &TaskId) {
        let Some(ids) = self.unserved.get_mut(name) else { return };
        ids.remove(id);
        if ids.is_empty() {
            self.unserved.remove(name);
        }
    }

    /// Returns until when a task waits for a worker that serves its name, if it fails then.
    pub(super) fn unserved_until(&self, name: &str, id: &TaskId) -> Option<Timestamp> {
        self.unserved.get(name)?.contains(id).then_some(self.workers_expected_until.wall)
    }

    /// Fails the tasks whose names no worker serves, once workers are no longer expected.
    pub(super) fn fail_unserved(&mut self, now: Now) {
        self.unserved_check = Moment::NEVER;
        if now.mono < self.workers_expected_until.mono {
            return self.arm_unserved(self.workers_expected_until.mono);
        }
        if self.registry.is_loading() {
            return self.arm_unserved(now.mono + LOADING_CHECK_DELAY);
        }
        let mut remaining = TASKS_PER_STEP_MAX;
        for _ in 0..NAMES_PER_STEP_MAX {
            let Some((name, ids)) = self.unserved.first_key_value() else { return };
            let ids: Vec<TaskId> = ids.iter().take(remaining).cloned().collect();
            remaining -= ids.len();
            let message = self.not_found_message(name);
            for id in ids {
                self.stop_waiting(&id);
                let failure = Some(Failure::new(ErrorKind::NotFound, message.clone()));
                self.finish(now, &id, TaskStatus::Failure, TaskOutcome { failure, ..TaskOutcome::default() });
            }
            if remaining == 0 {
                break;
            }
        }
        if !self.unserved.is_empty() {
            self.arm_unserved(now.mono + STEP_DELAY);
        }
    }
}
