//! Timers of the control-plane state.

use super::{ParkedId, Responder, SessionId, State, WorkerKey};
use crate::{
    clock::{Moment, Now},
    task::TaskId,
};

/// Action to run at a set time. Timers that are due at the same time run in the order of the variants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Queue a task whose countdown or retry delay is over.
    EnqueueDelayed(TaskId),
    /// Reply to a long poll that timed out.
    LongPollTimeout(ParkedId),
    /// Reply to a slot's parked request with no leases, or revoke the leases of a slot that does not report. A slot has
    /// a parked request or leases, never both, so one timer at
    /// [`until`](super::super::worker_registry::SlotRecord::until) is enough.
    SlotTimeout { worker: WorkerKey, slot: u32 },
    /// Reply to a parked heartbeat with no commands.
    HeartbeatTimeout(WorkerKey),
    /// Reply to a parked request for the list of modules.
    ModuleListTimeout(WorkerKey),
    /// Remove a worker that has sent nothing for too long.
    WorkerTimeout(WorkerKey),
    /// Reply to a session's parked request with no results.
    SessionPollTimeout(SessionId),
    /// Expire idle sessions.
    SessionExpiry,
    /// Expire old results.
    ResultExpiry,
    /// Run schedules that are due.
    ScheduleDue,
    /// Queue tasks whose `eta` is reached.
    EtaReached,
    /// Fail tasks whose name no worker has served within the grace period.
    Unserved,
}

impl<R: Responder> State<R> {
    /// Returns when [`State::tick`] has something to do next.
    pub fn next_wake(&self) -> Moment {
        self.timers.first().map_or(Moment::NEVER, |(at, _)| *at)
    }

    /// Runs all timers that are due.
    pub fn tick(&mut self, now: Now) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now.mono
            && let Some((at, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::EnqueueDelayed(id) => self.enqueue_delayed(now, &id),
                Timer::LongPollTimeout(parked_id) => self.unpark(now, parked_id),
                Timer::SlotTimeout { worker, slot } => self.slot_timed_out(now, at, worker, slot),
                Timer::HeartbeatTimeout(worker) => self.reply_to_heartbeat(worker, Vec::new()),
                Timer::ModuleListTimeout(worker) => self.reply_with_modules(worker),
                Timer::WorkerTimeout(worker) => self.check_worker_timeout(now, at, worker),
                Timer::SessionPollTimeout(session) => self.reply_to_session(session),
                Timer::SessionExpiry => self.expire_sessions(now),
                Timer::ResultExpiry => self.expire_results(now),
                Timer::ScheduleDue => self.run_schedules(now),
                Timer::EtaReached => self.enqueue_due_etas(now),
                Timer::Unserved => self.fail_unserved(now),
            }
        }
    }

    fn expire_results(&mut self, now: Now) {
        self.results.expire(now.mono);
        self.result_expiry_timer = None;
        self.arm_result_expiry();
    }
}
