//! Calls of names that no worker has, while workers may still connect.
//!
//! After a start, and after each loss of a worker, clients are often back before workers. So an
//! unknown name is an error only once [`Limits::unknown_grace`](super::Limits::unknown_grace) has
//! passed without a worker that has it, and no worker is loading modules, which may have it. Invariant: what is in `unclaimed` is unfinished, and no
//! worker has had its name since it was accepted.

use std::{sync::Arc, time::Duration};

use super::{End, Phase, Responder, State, Timer};
use crate::{
    clock::{Moment, Now, Timestamp},
    task::{ErrorKind, Failure, TaskId, TaskStatus},
};

/// Maximum number of calls that fail in one step, as the state is locked meanwhile.
const FAILED_AT_ONCE_MAX: usize = 1_000;
/// Maximum number of names whose calls fail in one step.
const NAMES_AT_ONCE_MAX: usize = 20;
/// Pause before it is checked again whether modules are still being loaded.
const LOADING_PAUSE: Duration = Duration::from_millis(250);
/// Pause between two such steps.
const PAUSE: Duration = Duration::from_millis(1);
/// Maximum number of calls that move to the priority of a module that came after them.
const MOVED_MAX: usize = 10_000;

impl<R: Responder> State<R> {
    /// Expects workers to connect within the grace, from now on.
    pub(super) fn expect_workers(&mut self, now: Now) {
        let grace = self.limits.unknown_grace;
        self.absent_until = Now { mono: now.mono + grace, wall: now.wall + grace };
    }

    /// Whether a worker may still come that has a name which no worker has.
    pub(super) fn may_be_claimed(&self, now: Now, name: &str) -> bool {
        let is_expected = now.mono < self.absent_until.mono || self.registry.is_loading();
        is_expected && !self.registry.is_leaving(name)
    }

    /// A name that no worker has, shared with the other calls of it.
    pub(super) fn shared_name(&self, name: &str) -> Arc<str> {
        self.unclaimed.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone())
    }

    /// Lets a call wait until a worker has its name, at most as long as workers are expected.
    pub(super) fn await_claim(&mut self, name: Arc<str>, id: TaskId) {
        self.unclaimed.entry(name).or_default().insert(id);
        if self.unclaimed_check == Moment::NEVER {
            // While modules are loaded, this may be in the past.
            self.arm_unclaimed(self.absent_until.mono);
        }
    }

    fn arm_unclaimed(&mut self, at: Moment) {
        self.unclaimed_check = at;
        self.timers.insert((at, Timer::Unclaimed));
    }

    /// A worker has a name: its calls wait without a limit from now on, at the priority that the
    /// module gives them.
    pub(super) fn claim(&mut self, now: Now, name: &Arc<str>) {
        let Some(ids) = self.unclaimed.remove(name) else { return };
        let Some(priority) = self.registry.known(now.mono, name).and_then(|(_, policy)| policy.priority) else {
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
            let Some(id) = self.queue.remove(&record.place(position)) else { continue };
            record.priority = priority;
            self.queue.push(&record.place(position), id, record.waiting_since);
        }
    }

    /// Forgets that a call waits for its name, as it has ended.
    pub(super) fn forget_unclaimed(&mut self, name: &Arc<str>, id: &TaskId) {
        let Some(ids) = self.unclaimed.get_mut(name) else { return };
        ids.remove(id);
        if ids.is_empty() {
            self.unclaimed.remove(name);
        }
    }

    /// Until when a call waits for a worker that has its name, if it is to fail then.
    pub(super) fn claimable_until(&self, name: &str, id: &TaskId) -> Option<Timestamp> {
        self.unclaimed.get(name)?.contains(id).then_some(self.absent_until.wall)
    }

    /// Fails the calls whose names no worker has had, once workers are not expected any more.
    pub(super) fn fail_unclaimed(&mut self, now: Now) {
        self.unclaimed_check = Moment::NEVER;
        if now.mono < self.absent_until.mono {
            return self.arm_unclaimed(self.absent_until.mono);
        }
        if self.registry.is_loading() {
            return self.arm_unclaimed(now.mono + LOADING_PAUSE);
        }
        let mut left = FAILED_AT_ONCE_MAX;
        for _ in 0..NAMES_AT_ONCE_MAX {
            let Some((name, ids)) = self.unclaimed.first_key_value() else { return };
            let ids: Vec<TaskId> = ids.iter().take(left).cloned().collect();
            left -= ids.len();
            let message = self.not_found_message(name);
            for id in ids {
                self.stop_waiting(&id);
                let failure = Some(Failure::new(ErrorKind::NotFound, message.clone()));
                self.finish(now, &id, TaskStatus::Failure, End { failure, ..End::default() });
            }
            if left == 0 {
                break;
            }
        }
        if !self.unclaimed.is_empty() {
            self.arm_unclaimed(now.mono + PAUSE);
        }
    }
}
