//! What the state does at a later time.

use uuid::Uuid;

use super::{ParkId, Responder, State};
use crate::{
    clock::{Moment, Now},
    task::TaskId,
};

/// What to do when a moment comes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Queue a scheduled task, or a retry.
    Due(TaskId),
    /// Answer a parked request with the current state.
    Parked(ParkId),
    /// Answer a slot's parked request with no leases, or take back the leases of a slot that does not report.
    Slot(Uuid, u32),
    /// Answer a parked heartbeat with no orders.
    Beat(Uuid),
    /// Check whether a worker was silent for too long.
    Silence(Uuid),
    /// Answer a session's parked request with the current results.
    Collect(Uuid),
    /// Forget sessions that are not used.
    Sessions,
    /// Forget results that are too old.
    Expiry,
    /// Run schedules that are due.
    Schedules,
    /// Queue tasks whose `eta` is reached.
    Eta,
    /// Fail calls of names that no worker has had in time.
    Unclaimed,
}

impl<R: Responder> State<R> {
    /// Returns when [`State::tick`] has something to do next.
    pub fn next_wake(&self) -> Moment {
        self.timers.first().map_or(Moment::NEVER, |(at, _)| *at)
    }

    /// Runs everything that is due.
    pub fn tick(&mut self, now: Now) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now.mono
            && let Some((at, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::Due(id) => self.due(now, &id),
                Timer::Parked(park) => self.unpark(now, park),
                Timer::Slot(worker, slot) => self.slot_timed_out(now, at, worker, slot),
                Timer::Beat(worker) => self.answer_beat(worker, Vec::new()),
                Timer::Silence(worker) => self.check_silence(now, at, worker),
                Timer::Collect(session) => self.answer_session(session),
                Timer::Sessions => self.check_sessions(now),
                Timer::Schedules => self.run_schedules(now),
                Timer::Eta => self.enqueue_due_etas(now),
                Timer::Unclaimed => self.fail_unclaimed(now),
                Timer::Expiry => {
                    self.results.expire(now.mono);
                    self.expiry = None;
                    self.arm_expiry();
                }
            }
        }
    }
}
